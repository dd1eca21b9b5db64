//! The table of everything that is measured: what is done, which rows come out of it, and what Bowline must reach there.

use crate::offer::{Group, Listener, Named, Offer, Sessions, Suite, Version};
use crate::product::{Feature, Template};
use crate::report::{Bar, FLOOR, FLOOR_AEAD, OWN};

/// What is done to a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Connections that are opened, used for one byte there and back, and closed; so many at a time.
    Handshakes { at_a_time: usize },
    /// The same with the certificates of so many hosts, each of which is asked for in turn; and what the start cost.
    Hosts { count: usize },
    /// Bytes in one direction over so many connections.
    Transfer { up: bool, connections: usize },
    /// The same with somebody who counts the product's system calls.
    SystemCalls { up: bool, connections: usize },
    /// Echoes of so many bytes over so many connections, so many at a time.
    Echo { length: u64, connections: usize, at_a_time: usize },
    /// Connections that are open and idle.
    Idle { connections: usize },
    /// Established connections beside a flood of handshakes.
    Flood,
    /// New certificates while connections are open.
    Reload { connections: usize },
}

/// What is read of a measurement. Times are in seconds, memory is in bytes, whatever the row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// CPU time of the product for one unit of the work.
    Cpu,
    P50,
    P99,
    P999,
    /// Memory of one connection.
    Memory,
    /// System calls of the product for one unit of the work.
    SystemCalls,
    StartCpu,
    StartMemory,
    ConnectionsLost,
    /// The longest that anybody waited.
    Stall,
    /// Relative change of memory.
    MemoryChange,
}

/// How a row shows its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unit {
    /// As it stands in the title.
    pub(crate) name: &'static str,
    /// How many of it are one of the metric's.
    pub(crate) factor: f64,
}

impl Unit {
    pub(crate) const MICROSECONDS: Self = Self { name: "µs", factor: 1e6 };
    pub(crate) const MILLISECONDS: Self = Self { name: "ms", factor: 1e3 };
    pub(crate) const KIBIBYTES: Self = Self { name: "KiB", factor: 1.0 / 1024.0 };
    pub(crate) const MEBIBYTES: Self = Self { name: "MiB", factor: 1.0 / 1024.0 / 1024.0 };
    pub(crate) const PERCENT: Self = Self { name: "%", factor: 100.0 };
    pub(crate) const COUNT: Self = Self { name: "", factor: 1.0 };
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    what: String,
    pub(crate) metric: Metric,
    pub(crate) unit: Unit,
    pub(crate) bars: Vec<Bar>,
}

impl Row {
    fn new(what: impl Into<String>, metric: Metric, unit: Unit) -> Self {
        Self { what: what.into(), metric, unit, bars: Vec::new() }
    }

    fn bars(mut self, bars: impl IntoIterator<Item = Bar>) -> Self {
        self.bars.extend(bars);
        self
    }

    /// What is shown, with its unit.
    pub(crate) fn title(&self) -> String {
        match self.unit.name {
            "" => self.what.clone(),
            unit => format!("{}, {unit}", self.what),
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    /// On the command line.
    pub(crate) name: String,
    pub(crate) group: &'static str,
    pub(crate) action: Action,
    pub(crate) offer: Offer,
    /// Worker threads or processes of the product.
    pub(crate) loops: usize,
    /// Whether the product has two CPUs instead of one, and the number of its loops is what differs.
    pub(crate) two_cpus: bool,
    /// The one product that it is measured of, if it is one.
    pub(crate) only: Option<&'static str>,
    pub(crate) rows: Vec<Row>,
}

impl Workload {
    fn new(name: impl Into<String>, group: &'static str, action: Action, offer: Offer, rows: Vec<Row>) -> Self {
        Self { name: name.into(), group, action, offer, loops: 1, two_cpus: false, only: None, rows }
    }

    fn only(self, product: &'static str) -> Self {
        Self { only: Some(product), ..self }
    }

    fn loops(self, loops: usize) -> Self {
        Self { two_cpus: true, loops, ..self }
    }

    /// Whether this product can do it, and it says something about it.
    pub(crate) fn is_for(&self, template: &Template) -> bool {
        let hosts = matches!(self.action, Action::Hosts { .. });
        let lacks = hosts && template.lacks(Feature::Sni) || self.two_cpus && template.lacks(Feature::Loops);
        let relays = match self.action {
            Action::Transfer { .. } => true,
            Action::SystemCalls { .. } | Action::Echo { .. } => template.name != FLOOR_AEAD,
            _ => false,
        };
        match self.only {
            Some(product) => template.name == product,
            None => !lacks && (relays || !template.lacks(Feature::Tls)),
        }
    }

    /// Whether a word of the command line chooses it: its name, the start of it up to a hyphen, or its group.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        self.group == word || self.name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    /// How long a load goes on, in milliseconds.
    pub(crate) time: u64,
    /// No measurement has more connections than these.
    pub(crate) connections: usize,
    pub(crate) hosts: usize,
}

impl Scale {
    pub(crate) const FULL: Self = Self { time: 1_500, connections: 9_000, hosts: 10_000 };

    pub(crate) const QUICK: Self = Self { time: 200, connections: 1_000, hosts: 500 };
}

/// Handshakes at a time.
pub(crate) const HANDSHAKES: usize = 16;

/// Echoes at a time where the number of connections is what differs.
const OUTSTANDING: usize = 64;

/// Everything, in the order of the table.
pub(crate) fn all(scale: &Scale) -> Vec<Workload> {
    [handshakes(), bulk(), round_trips(scale), idle(scale), latency(), scaling(scale)].concat()
}

fn handshakes() -> Vec<Workload> {
    use Listener::{Mtls, Rsa, Tls};
    let best = |share| vec![Bar::OfBestPeer(share)];
    let of = |names: &[&'static str], share| names.iter().map(|&name| Bar::Of(name, share)).collect::<Vec<_>>();
    let resumed = |listener| Offer { sessions: Sessions::Resumed, ..Offer::to(listener) };
    [
        (
            "full-mtls",
            "CPU per full mTLS handshake",
            Offer::to(Mtls),
            [of(&["envoy"], 0.65), of(&["hitch", "haproxy", "nginx"], 0.35)].concat(),
        ),
        (
            "full-tls",
            "CPU per full TLS handshake, ECDSA",
            Offer::to(Tls),
            [best(0.75), of(&["hitch", "haproxy"], 0.45)].concat(),
        ),
        ("full-rsa", "CPU per full TLS handshake, RSA", Offer::to(Rsa), best(0.8)),
        (
            "full-tls12",
            "CPU per full TLS 1.2 handshake, ECDSA, secp256r1",
            Offer { version: Version::Tls12, group: Group::Secp256r1, ..Offer::to(Tls) },
            Vec::new(),
        ),
        (
            "full-mlkem",
            "CPU per full TLS handshake, X25519MLKEM768",
            Offer { group: Group::X25519MlKem768, ..Offer::to(Tls) },
            Vec::new(),
        ),
        (
            "resumed-mtls",
            "CPU per resumed mTLS handshake",
            resumed(Mtls),
            [best(0.7), of(&["hitch", "haproxy"], 0.45)].concat(),
        ),
        (
            "resumed-tls",
            "CPU per resumed TLS handshake",
            resumed(Tls),
            [best(0.8), of(&["hitch", "haproxy"], 0.45)].concat(),
        ),
    ]
    .into_iter()
    .map(|(name, title, offer, bars)| handshake(name, title, offer, bars))
    .chain([handshake("connection", "CPU per connection without TLS", Offer::to(Tls), Vec::new()).only(FLOOR)])
    .collect()
}

fn handshake(name: &str, title: &str, offer: Offer, bars: Vec<Bar>) -> Workload {
    let row = Row::new(title, Metric::Cpu, Unit::MICROSECONDS).bars(bars);
    Workload::new(name, "handshakes", Action::Handshakes { at_a_time: HANDSHAKES }, offer, vec![row])
}

fn bulk() -> Vec<Workload> {
    let mut workloads = Vec::new();
    for (up, name) in [(true, "to-backend"), (false, "to-client")] {
        for &suite in Suite::ALL {
            for connections in [1, 8] {
                let direction = name.replace('-', " the ");
                let title = format!("CPU per GiB {direction}, {}, {}", suite.title(), plural(connections));
                workloads.push(Workload::new(
                    format!("{name}-{}-{connections}", suite.name()),
                    "bulk",
                    Action::Transfer { up, connections },
                    Offer { suite, ..Offer::to(Listener::Mtls) },
                    vec![
                        Row::new(title, Metric::Cpu, Unit::MILLISECONDS)
                            .bars([Bar::OfBestPeer(1.0), Bar::Of(FLOOR_AEAD, 1.12)]),
                    ],
                ));
            }
        }
    }
    for (up, name) in [(true, "to-backend"), (false, "to-client")] {
        let title = format!("system calls per 16 KiB {}, {}", name.replace('-', " the "), plural(8));
        workloads.push(Workload::new(
            format!("system-calls-{name}"),
            "bulk",
            Action::SystemCalls { up, connections: 8 },
            Offer::to(Listener::Mtls),
            vec![Row::new(title, Metric::SystemCalls, Unit::COUNT).bars([Bar::AtMost(2.2)])],
        ));
    }
    workloads
}

fn round_trips(scale: &Scale) -> Vec<Workload> {
    let mut workloads = Vec::new();
    for (length, name, size) in [(64, "64b", "64 B"), (16 * 1024, "16k", "16 KiB")] {
        for nominal in [1, 64, 1_000] {
            let connections = scale.connections.min(nominal);
            let over = plural(connections);
            let bar = (length == 64 && nominal > 1).then_some(Bar::OfBestPeer(0.72));
            workloads.push(Workload::new(
                format!("round-trip-{name}-{nominal}"),
                "round-trips",
                Action::Echo { length, connections, at_a_time: connections },
                Offer::to(Listener::Mtls),
                vec![
                    Row::new(format!("CPU per round trip of {size}, {over}"), Metric::Cpu, Unit::MICROSECONDS)
                        .bars(bar),
                    Row::new(format!("round trip of {size}, {over}: p50"), Metric::P50, Unit::MICROSECONDS),
                    Row::new(format!("round trip of {size}, {over}: p99"), Metric::P99, Unit::MICROSECONDS),
                    Row::new(format!("round trip of {size}, {over}: p99.9"), Metric::P999, Unit::MICROSECONDS),
                ],
            ));
        }
    }
    workloads
}

fn idle(scale: &Scale) -> Vec<Workload> {
    let mut workloads = Vec::new();
    for (listener, name) in [(Listener::Tls, "TLS"), (Listener::Mtls, "mTLS")] {
        for nominal in [2_000, 9_000] {
            let connections = scale.connections.min(nominal);
            let title = format!("memory per idle {name} connection, of {connections}");
            workloads.push(Workload::new(
                format!("idle-{}-{nominal}", listener.name()),
                "idle",
                Action::Idle { connections },
                Offer::to(listener),
                vec![Row::new(title, Metric::Memory, Unit::KIBIBYTES).bars([Bar::OfBestPeer(0.25), Bar::AtMost(5.0)])],
            ));
        }
    }
    workloads
}

fn latency() -> Vec<Workload> {
    let first = "connect to first byte back, full mTLS handshake";
    let flood = "round trip of 64 B during a flood of handshakes";
    vec![
        Workload::new(
            "first-byte",
            "latency",
            Action::Handshakes { at_a_time: 1 },
            Offer::to(Listener::Mtls),
            vec![
                Row::new(format!("{first}: p50"), Metric::P50, Unit::MICROSECONDS).bars([Bar::OfBestPeer(0.6)]),
                Row::new(format!("{first}: p99"), Metric::P99, Unit::MICROSECONDS),
            ],
        ),
        Workload::new(
            "flood",
            "latency",
            Action::Flood,
            Offer::to(Listener::Mtls),
            vec![
                Row::new(format!("{flood}: p50"), Metric::P50, Unit::MILLISECONDS),
                Row::new(format!("{flood}: p99"), Metric::P99, Unit::MILLISECONDS).bars([Bar::OfBestPeer(0.33)]),
            ],
        ),
    ]
}

/// What grows: certificates, connections, loops.
fn scaling(scale: &Scale) -> Vec<Workload> {
    let hosts = scale.hosts;
    let held = scale.connections;
    let mut workloads = vec![
        Workload::new(
            "certificates",
            "certificates",
            Action::Hosts { count: hosts },
            Offer::to(Listener::Sni),
            vec![
                Row::new(format!("start with {hosts} certificates: CPU"), Metric::StartCpu, Unit::MILLISECONDS),
                Row::new(format!("start with {hosts} certificates: memory"), Metric::StartMemory, Unit::MEBIBYTES),
                Row::new(
                    format!("CPU per full TLS handshake, one of {hosts} certificates"),
                    Metric::Cpu,
                    Unit::MICROSECONDS,
                ),
            ],
        ),
        Workload::new(
            "reload",
            "reload",
            Action::Reload { connections: held },
            Offer::to(Listener::Mtls),
            vec![
                Row::new("reload: connections lost", Metric::ConnectionsLost, Unit::COUNT).bars([Bar::AtMost(0.0)]),
                Row::new("reload: worst round trip", Metric::Stall, Unit::MILLISECONDS).bars([Bar::AtMost(20.0)]),
                Row::new("reload: memory afterwards", Metric::MemoryChange, Unit::PERCENT).bars([Bar::AtMost(2.0)]),
            ],
        )
        .only(OWN),
    ];
    let mtls = Offer::to(Listener::Mtls);
    for loops in [1, 2, 4] {
        let of_one = |name| (loops == 4).then_some(Bar::OfWorkload(name, 1.05));
        let on = if loops == 1 { "1 loop on 2 CPUs".to_owned() } else { format!("{loops} loops on 2 CPUs") };
        let title = format!("CPU per full mTLS handshake, {on}");
        workloads.push(
            Workload::new(
                format!("growth-full-{loops}"),
                "growth",
                Action::Handshakes { at_a_time: HANDSHAKES },
                mtls,
                vec![Row::new(title, Metric::Cpu, Unit::MICROSECONDS).bars(of_one("growth-full-1"))],
            )
            .loops(loops),
        );
        let title = format!("CPU per round trip of 64 B, {on}");
        workloads.push(
            Workload::new(
                format!("growth-round-trip-{loops}"),
                "growth",
                Action::Echo { length: 64, connections: OUTSTANDING, at_a_time: OUTSTANDING },
                mtls,
                vec![Row::new(title, Metric::Cpu, Unit::MICROSECONDS).bars(of_one("growth-round-trip-1"))],
            )
            .loops(loops),
        );
    }
    for nominal in [100, 1_000, 9_000] {
        let connections = scale.connections.min(nominal);
        let title = format!("CPU per round trip of 64 B, {OUTSTANDING} at a time over {connections} connections");
        let bar = (nominal == 9_000).then_some(Bar::OfWorkload("growth-connections-100", 1.1));
        workloads.push(Workload::new(
            format!("growth-connections-{nominal}"),
            "growth",
            Action::Echo { length: 64, connections, at_a_time: OUTSTANDING },
            mtls,
            vec![Row::new(title, Metric::Cpu, Unit::MICROSECONDS).bars(bar)],
        ));
    }
    workloads
}

fn plural(connections: usize) -> String {
    if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn chosen(word: &str) -> Vec<String> {
        all(&Scale::FULL)
            .into_iter()
            .filter(|workload| workload.is_called(word))
            .map(|workload| workload.name)
            .collect()
    }

    #[test]
    fn names_are_unique_and_bars_compare_with_something() {
        let workloads = all(&Scale::FULL);
        let mut names: Vec<&str> = workloads.iter().map(|workload| workload.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), workloads.len());
        for bar in workloads.iter().flat_map(|workload| &workload.rows).flat_map(|row| &row.bars) {
            if let Bar::OfWorkload(name, _) = bar {
                assert!(names.contains(name), "{name}");
            }
        }
    }

    #[test]
    fn words_of_the_command_line() {
        assert_eq!(chosen("full-mtls"), ["full-mtls"]);
        assert_eq!(chosen("resumed"), ["resumed-mtls", "resumed-tls"]);
        assert_eq!(chosen("idle-tls"), ["idle-tls-2000", "idle-tls-9000"]);
        assert_eq!(chosen("to-client-aes128"), ["to-client-aes128-1", "to-client-aes128-8"]);
        assert_eq!((chosen("bulk").len(), chosen("to-backend").len(), chosen("round-trips").len()), (14, 6, 6));
        assert_eq!(chosen("reload"), ["reload"]);
        assert!(chosen("ful").is_empty() && chosen("").is_empty());
    }

    /// The names of what a shipped product is measured in.
    fn measured(peer: &str) -> Vec<String> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let template = Template::read(&peers.join(format!("{peer}.in"))).unwrap();
        all(&Scale::FULL).into_iter().filter(|workload| workload.is_for(&template)).map(|one| one.name).collect()
    }

    #[test]
    fn each_floor_is_measured_where_it_is_one() {
        let transfers = [chosen("to-backend"), chosen("to-client")].concat();
        assert_eq!(measured("floor-aead"), transfers);
        let floor = measured("floor");
        assert!(transfers.iter().all(|name| floor.contains(name)) && floor[0] == "connection");
        assert!(floor.contains(&"round-trip-64b-1".to_owned()) && !floor.contains(&"full-mtls".to_owned()));
    }

    #[test]
    fn growth_over_loops_is_for_all_who_take_a_number_of_them() {
        let loops = ["growth-full", "growth-round-trip"].map(chosen).concat();
        assert_eq!(loops.len(), 6);
        for (peer, takes) in [
            ("bowline.cfg", true),
            ("envoy.yaml", true),
            ("haproxy.cfg", true),
            ("hitch.conf", true),
            ("nginx.conf", true),
            ("stunnel.conf", false),
            ("floor", false),
        ] {
            let measured = measured(peer);
            assert!(loops.iter().all(|name| measured.contains(name) == takes), "{peer}");
            assert!(measured.contains(&"growth-connections-100".to_owned()), "{peer}");
        }
    }

    #[test]
    fn no_workload_has_more_connections_than_are_carried() {
        let scale = Scale { connections: 300, ..Scale::FULL };
        for workload in all(&scale) {
            let (Action::Idle { connections } | Action::Reload { connections }) = workload.action else { continue };
            assert_eq!(connections, 300, "{}", workload.name);
        }
    }
}
