//! One measurement of one product: started afresh, loaded, read, ended.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::certificates::Certificates;
use crate::client::leaf_name;
use crate::offer::{Group, Library, Listener, Offer};
use crate::pause::pause;
use crate::process::{Answer, Load};
use crate::procfs;
use crate::product::{Feature, Product, Template};
use crate::system_calls::Strace;
use crate::workload::{Action, Metric, Scale, Workload};

/// Where measurements take place.
pub(crate) struct Stage<'a> {
    pub(crate) certificates: &'a mut Certificates,
    pub(crate) scale: Scale,
    /// The first alone, or both where a workload says so.
    pub(crate) product_cpus: [usize; 2],
    pub(crate) load_cpu: usize,
    /// What the client speaks TLS with.
    pub(crate) library: Library,
}

/// What a measurement found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Finding {
    pub(crate) values: Vec<(Metric, f64)>,
    /// What the load needed for it, where that can matter.
    pub(crate) effort: Option<Effort>,
    pub(crate) remark: String,
}

/// How much both sides had to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Effort {
    /// CPU time of client and backend for one unit of the work, in seconds.
    pub(crate) load: f64,
    /// The share of the wall time that client and backend were busy on their CPU.
    pub(crate) load_busy: f64,
    /// The same of the product; above 1 if it has more than one CPU.
    pub(crate) product_busy: f64,
}

/// So long a load goes on before it is measured, in milliseconds: the product has done everything often enough then.
const WARM_UP: u64 = 100;

/// Connections of the same purpose where they stay.
const WARM_CONNECTIONS: usize = 8;

/// Established connections during a flood, how often each sends, in microseconds, and how many bytes.
const ESTABLISHED: usize = 32;
const PACE: u64 = 10_000;
const MESSAGE: u64 = 64;

/// Handshakes at a time in a flood.
const FLOOD: usize = 64;

/// Pause between two messages of the one connection that watches a reload, in microseconds: short against the stall that is looked
/// for, long enough to leave the loop idle.
const PULSE: u64 = 200;

/// Time over which a product's memory must stand still before it is read.
const STILL: Duration = Duration::from_millis(500);

/// A reload is adopted within this time, and memory is given back within it.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// Length of the observation before a reload, and after its adoption.
const OBSERVATION: Duration = Duration::from_secs(2);

struct Bench {
    product: Product,
    backend: Load,
}

impl Stage<'_> {
    /// Measures one product once. `Ok(None)`: it cannot do that. `Err`: why the measurement is void.
    pub(crate) fn measure(
        &mut self,
        workload: &Workload,
        template: &Template,
        program: &Path,
    ) -> Result<Option<Finding>, String> {
        let hosts = if let Action::Hosts { count } = workload.action { count } else { 1 };
        if self.certificates.hosts().len() != hosts {
            self.certificates.fill_hosts(hosts).map_err(|error| format!("making certificates: {error}"))?;
        }
        let mut backend = Load::start(&["backend".to_owned(), template.proxy.to_owned()], self.load_cpu)?;
        let port = u16::try_from(backend.answer()?.number("port")?).map_err(|error| error.to_string())?;
        let cpus = if workload.two_cpus { &self.product_cpus[..] } else { &self.product_cpus[..1] };
        let product = Product::start(template, program, self.certificates, port, workload, cpus, self.load_cpu)?;
        let mut bench = Bench { product, backend };
        let library = if template.lacks(Feature::Tls) { Library::None } else { self.library };
        let offer = Offer { library, ..workload.offer };
        if offer.group == Group::X25519MlKem768 && !self.is_accepted(&bench, offer)? {
            return Ok(None);
        }
        let finding = match workload.action {
            Action::Handshakes { at_a_time } => self.handshakes(&mut bench, offer, at_a_time),
            Action::Hosts { .. } => self.hosts(&mut bench, offer),
            Action::Transfer { up, connections } => self.transfer(&mut bench, offer, up, connections),
            Action::SystemCalls { up, connections } => self.system_calls(&mut bench, offer, up, connections),
            Action::Echo { length, connections, at_a_time } => {
                self.echo(&mut bench, offer, length, connections, at_a_time)
            }
            Action::Idle { connections } => self.idle(&mut bench, offer, connections),
            Action::Flood => self.flood(&mut bench, offer),
            Action::Reload { connections } => self.reload(&mut bench, offer, connections),
        };
        // What the client could not understand, the backend may have seen: both reasons are worth knowing.
        let finding = match (finding, bench.backend.ask("tally")) {
            (Ok(finding), Ok(_)) => finding,
            (Ok(_), Err(seen)) => return Err(seen),
            (Err(reason), Err(seen)) if seen != reason => return Err(format!("{reason}; {seen}")),
            (Err(reason), _) => return Err(reason),
        };
        match bench.product.tree.ended() {
            Some(status) => Err(format!("the product ended ({status})")),
            None => Ok(Some(finding)),
        }
    }

    fn client(&self, bench: &Bench, offer: Offer) -> Result<Load, String> {
        Load::start(&self.arguments(bench, offer), self.load_cpu)
    }

    fn arguments(&self, bench: &Bench, offer: Offer) -> Vec<String> {
        let port = match offer.listener {
            Listener::Mtls => bench.product.mtls_port,
            Listener::Tls => bench.product.tls_port,
            Listener::Rsa => bench.product.rsa_port,
            Listener::Sni => bench.product.sni_port,
        };
        let directory = self.certificates.directory().display();
        let hosts = self.certificates.hosts().len();
        let mut words = vec!["client".to_owned(), format!("port={port}"), format!("certificates={directory}")];
        words.push(format!("hosts={hosts}"));
        words.extend(offer.to_string().split(' ').map(str::to_owned));
        words
    }

    /// Whether the product takes what is offered. A listener that has nothing in common with it says so with an alert (RFC 8446, 6.2).
    fn is_accepted(&self, bench: &Bench, offer: Offer) -> Result<bool, String> {
        match self.client(bench, offer)?.ask("probe") {
            Ok(_) => Ok(true),
            Err(reason) if reason.contains("HandshakeFailure") => Ok(false),
            Err(reason) => Err(reason),
        }
    }

    fn handshakes(&self, bench: &mut Bench, offer: Offer, at_a_time: usize) -> Result<Finding, String> {
        let mut client = self.client(bench, offer)?;
        bench.compare(&[&client.ask(&format!("handshakes {WARM_UP} {at_a_time}"))?])?;
        let (busy, answer) = bench.busy(&mut client, &format!("handshakes {} {at_a_time}", self.scale.time))?;
        let tally = bench.compare(&[&answer])?;
        let header = tally.number("header_bytes")? / tally.number("connections")?.max(1);
        let rude = match (answer.number("bare")?, answer.number("resets")?) {
            (0, 0) => String::new(),
            (bare, resets) => format!(", ended without close_notify {bare}, with RST {resets}"),
        };
        let count = answer.number("count")?;
        busy.finding(count, 1.0, latencies(&answer)?, format!("{count} times, PROXY header {header} bytes{rude}"))
    }

    fn hosts(&self, bench: &mut Bench, offer: Offer) -> Result<Finding, String> {
        bench.settle()?;
        let cpu = procfs::cpu(bench.product.tree.id()).map_err(|error| format!("/proc: {error}"))?;
        let memory = bench.settled_memory()?;
        let mut finding = self.handshakes(bench, offer, crate::workload::HANDSHAKES)?;
        finding.values.extend([(Metric::StartCpu, cpu.as_secs_f64()), (Metric::StartMemory, memory as f64)]);
        Ok(finding)
    }

    fn transfer(&self, bench: &mut Bench, offer: Offer, up: bool, connections: usize) -> Result<Finding, String> {
        let direction = if up { "up" } else { "down" };
        let mut client = self.client(bench, offer)?;
        client.ask(&format!("connect {connections}"))?;
        let warm = client.ask(&format!("{direction} {WARM_UP}"))?.number("bytes")?;
        let (busy, answer) = bench.busy(&mut client, &format!("{direction} {}", self.scale.time))?;
        let bytes = answer.number("bytes")?;
        let tally = bench.compare(&[&answer])?;
        if tally.number("relayed_bytes")? != warm + bytes {
            return Err(format!("{} bytes instead of {}", tally.number("relayed_bytes")?, warm + bytes));
        }
        busy.finding(bytes, f64::from(1 << 30), Vec::new(), format!("{} MiB", bytes >> 20))
    }

    fn system_calls(&self, bench: &mut Bench, offer: Offer, up: bool, connections: usize) -> Result<Finding, String> {
        let direction = if up { "up" } else { "down" };
        let mut client = self.client(bench, offer)?;
        client.ask(&format!("connect {connections}"))?;
        client.ask(&format!("{direction} {WARM_UP}"))?;
        bench.settle()?;
        let processes = procfs::tree(bench.product.tree.id()).map_err(|error| format!("/proc: {error}"))?;
        let strace = Strace::attach(&processes, self.certificates.directory())?;
        let answer = client.ask(&format!("{direction} {}", self.scale.time))?;
        let counts = strace.finish()?;
        bench.compare(&[&answer])?;
        let units = answer.number("bytes")? as f64 / f64::from(16 << 10);
        let values = vec![(Metric::SystemCalls, counts.total() as f64 / units)];
        Ok(Finding { values, effort: None, remark: counts.describe(units) })
    }

    fn echo(
        &self,
        bench: &mut Bench,
        offer: Offer,
        length: u64,
        connections: usize,
        at_a_time: usize,
    ) -> Result<Finding, String> {
        let mut client = self.client(bench, offer)?;
        client.ask(&format!("open {connections}"))?;
        client.ask(&format!("echo {WARM_UP} {length} {at_a_time}"))?;
        let (busy, answer) = bench.busy(&mut client, &format!("echo {} {length} {at_a_time}", self.scale.time))?;
        bench.compare(&[&answer])?;
        let count = answer.number("count")?;
        busy.finding(count, 1.0, latencies(&answer)?, format!("{count} times"))
    }

    fn idle(&self, bench: &mut Bench, offer: Offer, connections: usize) -> Result<Finding, String> {
        let mut client = self.client(bench, offer)?;
        client.ask(&format!("open {WARM_CONNECTIONS}"))?;
        let before = bench.settled_memory()?;
        let answer = client.ask(&format!("open {connections}"))?;
        let after = bench.settled_memory()?;
        bench.compare(&[&answer])?;
        if client.ask("check")?.number("alive")? != (connections + WARM_CONNECTIONS) as u64 {
            return Err("not every connection answers".to_owned());
        }
        let each = (after as f64 - before as f64) / connections as f64;
        Ok(Finding { values: vec![(Metric::Memory, each)], ..Finding::default() })
    }

    fn flood(&self, bench: &mut Bench, offer: Offer) -> Result<Finding, String> {
        let mut client = self.client(bench, offer)?;
        client.ask(&format!("open {ESTABLISHED}"))?;
        client.ask(&format!("pace {WARM_UP} {MESSAGE} {PACE}"))?;
        // It gives way to the client that measures, or that would wait for it instead of the product.
        let mut flood = Load::start_behind(&self.arguments(bench, offer), self.load_cpu)?;
        flood.tell(&format!("handshakes line {FLOOD}"))?;
        pause(Duration::from_millis(2 * WARM_UP));
        let start = bench.times(&[&client, &flood])?;
        let answer = client.ask(&format!("pace {} {MESSAGE} {PACE}", self.scale.time))?;
        let busy = Busy::between(&start, &bench.times(&[&client, &flood])?);
        let flooded = flood.ask("stop")?;
        bench.compare(&[&answer, &flooded])?;
        let remark = format!("{} handshakes meanwhile", flooded.number("count")?);
        busy.finding(answer.number("count")?, 1.0, latencies(&answer)?, remark)
    }

    fn reload(&mut self, bench: &mut Bench, offer: Offer, connections: usize) -> Result<Finding, String> {
        let mut client = self.client(bench, offer)?;
        client.ask(&format!("open {connections}"))?;
        let mut pulse = self.client(bench, offer)?;
        pulse.ask("open 1")?;
        let old = client.ask("probe")?.text("leaf")?.to_owned();
        let before = bench.settled_memory()?;
        let worst = |answer: &Answer| answer.number("worst").map(Duration::from_nanos);
        let quiet = worst(&pulse.ask(&format!("pace {} 1 {PULSE}", OBSERVATION.as_millis()))?)?;

        let new = leaf_name(&self.certificates.renew().map_err(|error| format!("making new certificates: {error}"))?);
        pulse.tell(&format!("pace line 1 {PULSE}"))?;
        let start = Instant::now();
        bench.product.tree.signal(Signal::SIGHUP)?;
        loop {
            let seen = client.ask("probe")?.text("leaf")?.to_owned();
            if seen == new {
                break;
            }
            if seen != old {
                return Err("a connection saw a certificate that is neither the old nor the new one".to_owned());
            }
            if start.elapsed() > RELOAD_LIMIT {
                return Err(format!("the new certificate is not in use {RELOAD_LIMIT:?} after SIGHUP"));
            }
            pause(Duration::from_millis(10));
        }
        let adopted_after = start.elapsed();
        pause(OBSERVATION);
        let stall = worst(&pulse.ask("stop")?)?;

        let deadline = Instant::now() + RELOAD_LIMIT;
        let change = loop {
            let change = bench.settled_memory()? as f64 / before as f64 - 1.0;
            if change <= 0.02 || Instant::now() > deadline {
                break change;
            }
        };
        let alive = client.ask("check")?.number("alive")? + pulse.ask("check")?.number("alive")?;
        let lost = (connections as u64 + 1).saturating_sub(alive);
        Ok(Finding {
            values: vec![
                (Metric::ConnectionsLost, lost as f64),
                (Metric::Stall, stall.as_secs_f64()),
                (Metric::MemoryChange, change),
            ],
            effort: None,
            remark: format!("worst round trip without a reload {quiet:.1?}, adopted after {adopted_after:.0?}"),
        })
    }
}

/// The percentiles of an answer, in seconds.
fn latencies(answer: &Answer) -> Result<Vec<(Metric, f64)>, String> {
    [(Metric::P50, "p50"), (Metric::P99, "p99"), (Metric::P999, "p999")]
        .into_iter()
        .map(|(metric, key)| Ok((metric, answer.number(key)? as f64 / 1e9)))
        .collect()
}

/// CPU time so far of the product and of the load.
struct Times {
    product: Duration,
    load: Duration,
    at: Instant,
}

/// CPU time that was used meanwhile.
struct Busy {
    product: Duration,
    load: Duration,
    wall: Duration,
}

impl Busy {
    fn between(start: &Times, end: &Times) -> Self {
        Self { product: end.product - start.product, load: end.load - start.load, wall: end.at - start.at }
    }

    /// For `count` pieces of work of which `size` are one unit.
    fn finding(
        &self,
        count: u64,
        size: f64,
        mut values: Vec<(Metric, f64)>,
        remark: String,
    ) -> Result<Finding, String> {
        if count == 0 {
            return Err("nothing was done in time".to_owned());
        }
        let each = |cpu: Duration| cpu.as_secs_f64() / (count as f64 / size);
        let share = |cpu: Duration| cpu.as_secs_f64() / self.wall.as_secs_f64();
        values.push((Metric::Cpu, each(self.product)));
        let effort = Effort { load: each(self.load), load_busy: share(self.load), product_busy: share(self.product) };
        Ok(Finding { values, effort: Some(effort), remark })
    }
}

impl Bench {
    fn times(&self, clients: &[&Load]) -> Result<Times, String> {
        let cpu = |id: u32| procfs::cpu(id).map_err(|error| format!("/proc: {error}"));
        let mut load = cpu(self.backend.id())?;
        for client in clients {
            load += cpu(client.id())?;
        }
        Ok(Times { product: cpu(self.product.tree.id())?, load, at: Instant::now() })
    }

    /// Lets the client do all of a command and reads what that cost.
    fn busy(&self, client: &mut Load, command: &str) -> Result<(Busy, Answer), String> {
        self.settle()?;
        let start = self.times(&[client])?;
        let answer = client.ask(command)?;
        let mut end = self.times(&[client])?;
        self.settle()?;
        end.product = self.times(&[])?.product;
        Ok((Busy::between(&start, &end), answer))
    }

    /// Waits until the product does nothing any more (or 2 s: it may have timers).
    fn settle(&self) -> Result<(), String> {
        let cpu = || procfs::cpu(self.product.tree.id()).map_err(|error| format!("/proc: {error}"));
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut last = cpu()?;
        loop {
            pause(Duration::from_millis(100));
            let now = cpu()?;
            if now == last || Instant::now() > deadline {
                return Ok(());
            }
            last = now;
        }
    }

    /// The product's memory once it stands still (or after 5 s).
    fn settled_memory(&self) -> Result<u64, String> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut last = procfs::pss(self.product.tree.id())?;
        loop {
            pause(STILL);
            let now = procfs::pss(self.product.tree.id())?;
            if now.abs_diff(last) <= 16 * 1024 || Instant::now() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }

    /// The backend must have seen the very connections that the clients made; each answer has the sums of one client so far.
    fn compare(&mut self, clients: &[&Answer]) -> Result<Answer, String> {
        let mut connections = 0;
        let mut digest = 0_u64;
        for answer in clients {
            connections += answer.number("connections")?;
            digest = digest.wrapping_add(answer.number("digest")?);
        }
        let tally = self.backend.ask("tally")?;
        if tally.number("connections")? != connections {
            return Err(format!(
                "the backend saw {} connections, the clients made {connections}",
                tally.number("connections")?
            ));
        }
        if tally.number("digest")? != digest {
            return Err("the PROXY headers did not name the clients".to_owned());
        }
        Ok(tally)
    }
}
