//! One measurement of one product: started afresh, loaded, read, ended.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::certificates::Certificates;
use crate::client::hold::leaf_name;
use crate::pause::pause;
use crate::process::{Answer, Load};
use crate::procfs;
use crate::product::{Product, Template};

/// What is measured; some give more than one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    FullHandshake,
    ResumedHandshake,
    ToBackend,
    ToClient,
    IdleTls,
    IdleMtls,
    Reload,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::FullHandshake,
        Self::ResumedHandshake,
        Self::ToBackend,
        Self::ToClient,
        Self::IdleTls,
        Self::IdleMtls,
        Self::Reload,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FullHandshake => "full",
            Self::ResumedHandshake => "resumed",
            Self::ToBackend => "to-backend",
            Self::ToClient => "to-client",
            Self::IdleTls => "idle-tls",
            Self::IdleMtls => "idle-mtls",
            Self::Reload => "reload",
        }
    }

    /// Peers start new processes at a reload; the promise is Bowline's alone.
    pub(crate) fn is_for(self, product: &str) -> bool {
        self != Self::Reload || product == "bowline"
    }
}

/// How much work one measurement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) handshakes: u64,
    /// Handshakes at the same time.
    pub(crate) in_flight: u64,
    /// Bytes of one bulk relay, over all its connections.
    pub(crate) bulk_bytes: u64,
    pub(crate) bulk_connections: u64,
    pub(crate) idle_connections: u64,
    /// Connections that a reload has to keep.
    pub(crate) held_connections: u64,
}

impl Size {
    pub(crate) const FULL: Self = Self {
        handshakes: 3_000,
        in_flight: 16,
        bulk_bytes: 1 << 30,
        bulk_connections: 4,
        idle_connections: 2_000,
        held_connections: 9_000,
    };

    pub(crate) const QUICK: Self = Self {
        handshakes: 400,
        in_flight: 16,
        bulk_bytes: 1 << 28,
        bulk_connections: 4,
        idle_connections: 400,
        held_connections: 1_000,
    };
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handshakes, in_flight, bulk_bytes, bulk_connections, idle_connections, held_connections } = self;
        let mebibytes = bulk_bytes >> 20;
        write!(
            out,
            "{handshakes} handshakes ({in_flight} at a time), {mebibytes} MiB over {bulk_connections} connections, "
        )?;
        write!(out, "{idle_connections} idle connections, {held_connections} connections through a reload")
    }
}

/// Where measurements take place.
pub(crate) struct Stage<'a> {
    pub(crate) certificates: &'a mut Certificates,
    pub(crate) size: &'a Size,
    pub(crate) product_cpu: usize,
    pub(crate) load_cpu: usize,
}

/// What a measurement found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// CPU time of the product and of the load for one unit of work, and the share of the wall time that each was busy.
    Cpu {
        product: Duration,
        load: Duration,
        busy: [f64; 2],
        remark: String,
    },
    /// Bytes for one idle connection.
    Memory {
        bytes: f64,
    },
    Reload {
        lost: u64,
        stall: Duration,
        quiet: Duration,
        adopted_after: Duration,
        memory_percent: f64,
    },
}

/// Connections whose only purpose is that the product has done everything once.
const WARM_UP: u64 = 8;

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
    /// Measures one product once. `Err`: why the measurement is void.
    pub(crate) fn measure(&mut self, kind: Kind, template: &Template, program: &Path) -> Result<Finding, String> {
        let mut backend = Load::start(&["backend".to_owned(), template.proxy.to_owned()], self.load_cpu)?;
        let port = u16::try_from(backend.answer()?.number("port")?).map_err(|error| error.to_string())?;
        let product =
            Product::start(template, program, self.certificates, port, 1, &[self.product_cpu], self.load_cpu)?;
        let mut bench = Bench { product, backend };
        let finding = match kind {
            Kind::FullHandshake => self.handshakes(&mut bench, "fresh"),
            Kind::ResumedHandshake => self.handshakes(&mut bench, "resumed"),
            Kind::ToBackend => self.bulk(&mut bench, "up"),
            Kind::ToClient => self.bulk(&mut bench, "down"),
            Kind::IdleTls => self.idle(&mut bench, false),
            Kind::IdleMtls => self.idle(&mut bench, true),
            Kind::Reload => self.reload(&mut bench),
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
            None => Ok(finding),
        }
    }

    fn client(&self, mode: &str, arguments: &[(&str, String)]) -> Result<Load, String> {
        let mut words = vec!["client".to_owned(), mode.to_owned()];
        words.extend(arguments.iter().map(|(key, value)| format!("{key}={value}")));
        words.push(format!("certificates={}", self.certificates.directory().display()));
        Load::start(&words, self.load_cpu)
    }

    fn handshakes(&self, bench: &mut Bench, sessions: &str) -> Result<Finding, String> {
        let count = self.size.handshakes;
        let arguments = [
            ("port", bench.product.mtls_port.to_string()),
            ("count", count.to_string()),
            ("in_flight", self.size.in_flight.to_string()),
            ("sessions", sessions.to_owned()),
        ];
        let mut client = self.client("handshakes", &arguments)?;
        let warm = client.ask(&format!("warm {WARM_UP}"))?;
        bench.compare(&[&warm])?;
        let (busy, answer) = bench.busy(&mut client, "go")?;
        let tally = bench.compare(&[&warm, &answer])?;
        if answer.number("connections")? != count {
            return Err(format!("{} handshakes instead of {count}", answer.number("connections")?));
        }
        let header = tally.number("header_bytes")? / tally.number("connections")?.max(1);
        let rude = match (answer.number("bare")?, answer.number("resets")?) {
            (0, 0) => String::new(),
            (bare, resets) => format!(", closed without close_notify {bare}, with RST {resets}"),
        };
        Ok(busy.for_each(count as f64, format!("PROXY header {header} bytes{rude}")))
    }

    fn bulk(&self, bench: &mut Bench, direction: &str) -> Result<Finding, String> {
        let connections = self.size.bulk_connections;
        let arguments = [
            ("port", bench.product.mtls_port.to_string()),
            ("direction", direction.to_owned()),
            ("bytes", (self.size.bulk_bytes / connections).to_string()),
            ("connections", connections.to_string()),
        ];
        let mut client = self.client("bulk", &arguments)?;
        client.ask("open")?;
        let (busy, answer) = bench.busy(&mut client, "go")?;
        let tally = bench.compare(&[&answer])?;
        if tally.number("relayed_bytes")? != self.size.bulk_bytes {
            return Err(format!("{} bytes instead of {}", tally.number("relayed_bytes")?, self.size.bulk_bytes));
        }
        Ok(busy.for_each(self.size.bulk_bytes as f64 / f64::from(1 << 30), String::new()))
    }

    fn idle(&self, bench: &mut Bench, client_certificate: bool) -> Result<Finding, String> {
        let port = if client_certificate { bench.product.mtls_port } else { bench.product.tls_port };
        let mut client =
            self.client("hold", &[("port", port.to_string()), ("client_certificate", client_certificate.to_string())])?;
        client.ask(&format!("open {WARM_UP}"))?;
        let before = bench.settled_memory()?;
        let answer = client.ask(&format!("open {}", self.size.idle_connections))?;
        let after = bench.settled_memory()?;
        bench.compare(&[&answer])?;
        if client.ask("check")?.number("alive")? != self.size.idle_connections + WARM_UP {
            return Err("not every connection answers".to_owned());
        }
        Ok(Finding::Memory { bytes: (after as f64 - before as f64) / self.size.idle_connections as f64 })
    }

    fn reload(&mut self, bench: &mut Bench) -> Result<Finding, String> {
        let port = bench.product.mtls_port.to_string();
        let mut client = self.client("hold", &[("port", port), ("client_certificate", "true".to_owned())])?;
        client.ask(&format!("open {}", self.size.held_connections))?;
        client.ask("pulse")?;
        let old = client.ask("probe")?.text("leaf")?.to_owned();
        let before = bench.settled_memory()?;
        client.ask("lap")?;
        pause(OBSERVATION);
        let quiet = Duration::from_micros(client.ask("lap")?.number("worst_us")?);

        let new = leaf_name(&self.certificates.renew().map_err(|error| format!("making new certificates: {error}"))?);
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
        let lap = client.ask("lap")?;
        let stall = Duration::from_micros(lap.number("worst_us")?);

        let deadline = Instant::now() + RELOAD_LIMIT;
        let memory_percent = loop {
            let percent = (bench.settled_memory()? as f64 / before as f64 - 1.0) * 100.0;
            if percent <= 2.0 || Instant::now() > deadline {
                break percent;
            }
        };
        let alive = client.ask("check")?.number("alive")? + lap.number("alive")?;
        Ok(Finding::Reload {
            lost: (self.size.held_connections + 1).saturating_sub(alive),
            stall,
            quiet,
            adopted_after,
            memory_percent,
        })
    }
}

/// CPU time that was used while the load did one command.
struct Busy {
    product: Duration,
    load: Duration,
    wall: Duration,
}

impl Busy {
    fn for_each(&self, units: f64, remark: String) -> Finding {
        let share = |cpu: Duration| cpu.as_secs_f64() / self.wall.as_secs_f64();
        Finding::Cpu {
            product: self.product.div_f64(units),
            load: self.load.div_f64(units),
            busy: [share(self.product), share(self.load)],
            remark,
        }
    }
}

impl Bench {
    /// Lets the client work and reads what that cost.
    fn busy(&mut self, client: &mut Load, command: &str) -> Result<(Busy, Answer), String> {
        let cpu = |id: u32| procfs::cpu(id).map_err(|error| format!("/proc: {error}"));
        self.settle()?;
        let [product, front, back] = [cpu(self.product.tree.id())?, cpu(client.id())?, cpu(self.backend.id())?];
        let start = Instant::now();
        let answer = client.ask(command)?;
        let wall = start.elapsed();
        let load = (cpu(client.id())? - front) + (cpu(self.backend.id())? - back);
        self.settle()?;
        Ok((Busy { product: cpu(self.product.tree.id())? - product, load, wall }, answer))
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

    /// The backend must have seen the very connections that the client made.
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
