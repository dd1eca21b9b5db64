//! `bowline-load core`: Bowline's core in memory, one connection at a time, for instruments that count instead of measuring
//! time: what a handshake and a record cost in instructions, allocations and system calls (`bench/core/run`).
//!
//! Whoever counts switches on in [`counted`]: the client, which is rustls, does not count.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bowline::material::{Entry, FileBytes, Files, Material};
use bowline::proto::connection::{Connection, Drive, Now, Scratch};
use bowline::proto::proxy_out::{Endpoint, Endpoints};
use bowline::proto::route::Route;
use bowline::proto::wire::{Ready, Side, Target, Wire};
use bowline::snapshot::{self, Shared};
use bowline::stats::Stats;
use bowline::tls::identity::Verdict;
use bowline::tls::tickets::TicketKeys;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};

use crate::certificates::{Certificates, SERVER_NAME, file};
use crate::procfs::own_cpu;

/// Plaintext of a unit of the bulk relays.
const BULK: usize = 16 << 10;
/// What the kernel gives in one read of a bulk relay.
const AT_A_TIME: usize = 4 * BULK;
/// A question, and its answer.
const MESSAGE: usize = 64;

/// What is counted, per unit.
const SCENARIOS: [(&str, &str); 8] = [
    ("full", "full handshake, TLS 1.3, PROXY header, one byte there and back, close"),
    ("full-mtls", "the same with a client certificate and a CRL"),
    ("resumed", "the same as 'full' with a ticket"),
    ("resumed-mtls", "the same as 'full-mtls' with a ticket"),
    ("full-tls12", "the same as 'full' in TLS 1.2"),
    ("to-backend", "16 KiB from the client, read 64 KiB at a time"),
    ("to-client", "16 KiB from the backend, read 64 KiB at a time"),
    ("message", "64 bytes from the client, and 64 bytes back"),
];

/// Runs one scenario, or lists them.
pub(crate) fn run(words: impl Iterator<Item = String>) -> Result<(), String> {
    let words: Vec<String> = words.collect();
    if words.is_empty() {
        SCENARIOS.iter().for_each(|(name, what)| println!("{name}\t{what}"));
        return Ok(());
    }
    let usage = "usage: bowline-load core [SCENARIO UNITS]; without arguments it lists the scenarios";
    let [name, units] = words.as_slice() else { return Err(usage.to_owned()) };
    let units: usize = units.parse().map_err(|_| format!("'{units}' is no number; {usage}"))?;
    if SCENARIOS.iter().all(|(known, _)| known != name) {
        return Err(format!("there is no scenario '{name}'; {usage}"));
    }
    let world = World::new(name).map_err(|error| error.to_string())?;
    let calls = match name.as_str() {
        "to-backend" | "to-client" | "message" => relay(&world, name, units)?,
        _ => handshakes(&world, units)?,
    };
    println!("calls={calls} allocations={}", ALLOCATIONS.with(Cell::get));
    Ok(())
}

/// CPU time of the core alone, without any socket, for one connection of a scenario of handshakes.
pub(crate) fn cost(name: &str) -> Result<Duration, String> {
    const UNITS: u32 = 2_000;
    let world = World::new(name).map_err(|error| error.to_string())?;
    handshakes(&world, 100)?;
    let before = CPU.with(Cell::get);
    handshakes(&world, UNITS as usize)?;
    Ok((CPU.with(Cell::get) - before) / UNITS)
}

/// One after the other on the same loop. Answers their reads and writes.
fn handshakes(world: &World, units: usize) -> Result<usize, String> {
    let first = Ok((Scratch::default(), 0));
    let (_, calls) = (0..units).fold(first, |before, _| {
        let (scratch, calls) = before?;
        let (scratch, more) = handshake(world, scratch)?;
        Ok::<_, String>((scratch, calls + more))
    })?;
    Ok(calls)
}

/// Both sides' configurations.
struct World {
    route: Arc<Route>,
    client: Arc<ClientConfig>,
}

impl World {
    fn new(name: &str) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let certificates = Certificates::create(directory.path())?;
        let (tls12, mtls) = (name.ends_with("tls12"), name.ends_with("mtls"));
        let version = if tls12 { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
        Ok(Self {
            route: route(&certificates, mtls)?,
            client: Arc::new(client(&certificates, mtls, version, name.starts_with("resumed"))?),
        })
    }
}

/// What the worker would build for this configuration.
fn route(certificates: &Certificates, mtls: bool) -> Result<Arc<Route>, Box<dyn Error>> {
    let path = |name| certificates.path(name).display().to_string();
    let verify = match mtls {
        true => format!("ca-file {} crl-file {} verify required", path(file::CA), path(file::CRL)),
        false => String::new(),
    };
    let text = format!(
        "defaults\n  mode tcp\n  timeout client 1m\n  timeout server 1m\n  timeout connect 5s\n\
         frontend f\n  bind 127.0.0.1:443 ssl crt {} {verify}\n  default_backend b\n\
         backend b\n  server s 127.0.0.1:80 send-proxy-v2\n",
        path(file::SERVER)
    );
    let read = |name| -> io::Result<_> {
        let path = certificates.path(name);
        let bytes = std::fs::read(&path)?;
        Ok((path, Entry::File(FileBytes { bytes, mode: 0o600 })))
    };
    let files = [file::SERVER, file::CA, file::CRL].into_iter().map(read).collect::<io::Result<BTreeMap<_, _>>>()?;
    let material = Material {
        generation: 1,
        read_at: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        sources: vec![("core.cfg".to_owned(), text.into_bytes())],
        files: Files { entries: files },
        maxconn: 1000,
        ..Material::default()
    };
    let tickets = Arc::new(TicketKeys::new(Instant::now()));
    let shared = Shared { stats: Stats::new(1), tickets, started: Instant::now() };
    let built = snapshot::build(&material, &shared, None).map_err(|diagnostics| format!("{diagnostics:?}"))?;
    let key =
        bowline::conf::model::BindAddress::Inet { address: "127.0.0.1:443".parse()?, v6only: None, interface: None };
    let bind = built.snapshot.bind(&key).ok_or("the configuration listens elsewhere")?;
    Ok(Arc::clone(&bind.route))
}

/// A client that offers one suite and one group, so that what is counted does not depend on what is new in a library.
fn client(
    certificates: &Certificates,
    mtls: bool,
    version: &'static SupportedProtocolVersion,
    resumes: bool,
) -> Result<ClientConfig, Box<dyn Error>> {
    let suite: SupportedCipherSuite = match version.version {
        rustls::ProtocolVersion::TLSv1_2 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        _ => cipher_suite::TLS13_AES_128_GCM_SHA256,
    };
    let provider =
        CryptoProvider { cipher_suites: vec![suite], kx_groups: vec![kx_group::X25519], ..default_provider() };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.path(file::CA))?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots);
    let mut config = match mtls {
        true => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(certificates.path(file::CLIENT))?],
            PrivateKeyDer::from_pem_file(certificates.path(file::CLIENT_KEY))?,
        )?,
        false => builder.with_no_client_auth(),
    };
    if !resumes {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(config)
}

/// Both sockets, in memory. The kernel takes everything, and gives at most so much at a time.
#[derive(Default)]
struct Memory {
    from_client: Vec<u8>,
    to_client: Vec<u8>,
    from_backend: Vec<u8>,
    to_backend: Vec<u8>,
    /// Reads and writes, each of which would be a system call.
    calls: usize,
}

impl Wire for Memory {
    fn read(&mut self, side: Side, space: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        let source = match side {
            Side::Client => &mut self.from_client,
            Side::Backend => &mut self.from_backend,
        };
        if source.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = space.len().min(source.len());
        space[..count].copy_from_slice(&source[..count]);
        source.drain(..count);
        Ok(count)
    }

    fn write(&mut self, side: Side, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        match side {
            Side::Client => self.to_client.extend_from_slice(bytes),
            Side::Backend => self.to_backend.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn shutdown_write(&mut self, _: Side) {}

    fn abort(&mut self, _: Side) {}

    fn dial(&mut self, _: &Target, _: &Verdict) -> io::Result<()> {
        Ok(())
    }

    fn connected(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn endpoints(&self) -> Endpoints {
        let endpoint = |address: [u8; 4]| Endpoint::Inet((address, 443).into());
        Endpoints { source: endpoint([192, 0, 2, 1]), destination: endpoint([192, 0, 2, 2]) }
    }
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static CPU: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The same with the time that it takes. An instrument that counts looks at [`counted`] alone: the clock is no part of it.
fn timed<T>(what: impl FnOnce() -> T) -> T {
    let start = own_cpu();
    let outcome = counted(what);
    CPU.with(|total| total.set(total.get() + own_cpu().saturating_sub(start)));
    outcome
}

/// All that counts: what the event loop would call.
#[inline(never)]
fn counted<T>(what: impl FnOnce() -> T) -> T {
    let mut outcome = None;
    let allocated = allocation_counter::measure(|| outcome = Some(what()));
    ALLOCATIONS.with(|total| total.set(total.get() + allocated.count_total));
    outcome.expect("what is measured is run")
}

struct Pair {
    client: ClientConnection,
    connection: Connection,
    memory: Memory,
    scratch: Scratch,
    now: Now,
}

impl Pair {
    fn new(world: &World, scratch: Scratch) -> Result<Self, String> {
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| error.to_string())?;
        let client = ClientConnection::new(world.client.clone(), name).map_err(|error| error.to_string())?;
        let now = Now::new(Instant::now(), SystemTime::now());
        // Room for everything, so that this end of the wire costs the same each time.
        let room = || Vec::with_capacity(1 << 20);
        let memory =
            Memory { from_client: room(), to_client: room(), from_backend: room(), to_backend: room(), calls: 0 };
        let connection = timed(|| Connection::new(Arc::clone(&world.route), now, 1));
        Ok(Self { client, connection, memory, scratch, now })
    }

    fn drive(&mut self, ready: Ready) -> Drive {
        let Self { connection, memory, scratch, now, .. } = self;
        connection.ready.insert(ready);
        timed(|| connection.drive(*now, scratch, memory))
    }

    /// Carries what the client has to say, and what it is told.
    fn talk(&mut self) -> Result<Drive, String> {
        loop {
            while self.client.wants_write() {
                self.client.write_tls(&mut self.memory.from_client).map_err(|error| error.to_string())?;
            }
            let sent = !self.memory.from_client.is_empty();
            let ready = Ready::CLIENT_READ | Ready::CLIENT_WRITE | Ready::BACKEND_WRITE;
            let drive = self.drive(ready);
            let told = std::mem::take(&mut self.memory.to_client);
            let mut rest = told.as_slice();
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).map_err(|error| error.to_string())?;
                self.client.process_new_packets().map_err(|error| error.to_string())?;
            }
            if !sent && told.is_empty() {
                return Ok(drive);
            }
        }
    }

    /// Lets `length` bytes go from the backend to the client, and looks at them there.
    fn answer(&mut self, length: usize) -> Result<(), String> {
        self.memory.from_backend.resize(length, b'a');
        self.drive(Ready::BACKEND_READ);
        let told = std::mem::take(&mut self.memory.to_client);
        let (mut rest, mut got, mut buffer) = (told.as_slice(), 0, [0; 4096]);
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).map_err(|error| error.to_string())?;
            self.client.process_new_packets().map_err(|error| error.to_string())?;
            while let Ok(count @ 1..) = self.client.reader().read(&mut buffer) {
                got += count;
            }
        }
        self.memory.to_client = told;
        self.memory.to_client.clear();
        if got == length { Ok(()) } else { Err(format!("{got} bytes instead of {length}")) }
    }

    /// Lets `length` bytes go from the client to the backend.
    fn ask(&mut self, length: usize) -> Result<(), String> {
        self.memory.to_backend.clear();
        self.client.writer().write_all(&vec![b'q'; length]).map_err(|error| error.to_string())?;
        while self.client.wants_write() {
            self.client.write_tls(&mut self.memory.from_client).map_err(|error| error.to_string())?;
        }
        self.drive(Ready::CLIENT_READ);
        let got = self.memory.to_backend.len();
        if got == length { Ok(()) } else { Err(format!("{got} bytes instead of {length}")) }
    }
}

/// One connection from its first byte to its last. Answers the loop's buffers, and the reads and writes of the connection.
fn handshake(world: &World, scratch: Scratch) -> Result<(Scratch, usize), String> {
    let mut pair = Pair::new(world, scratch)?;
    pair.talk()?;
    if pair.client.is_handshaking() || pair.memory.to_backend.len() != 28 {
        return Err("no handshake".to_owned());
    }
    pair.ask(1)?;
    pair.answer(1)?;
    pair.client.send_close_notify();
    pair.talk()?;
    let calls = pair.memory.calls;
    let Pair { connection, scratch, .. } = pair;
    timed(|| drop(connection));
    Ok((scratch, calls))
}

/// Units on one connection. Answers the reads and writes of the units.
fn relay(world: &World, name: &str, units: usize) -> Result<usize, String> {
    let mut pair = Pair::new(world, Scratch::default())?;
    pair.talk()?;
    let before = pair.memory.calls;
    pair.client.set_buffer_limit(None);
    match name {
        "to-backend" => (0..units * BULK / AT_A_TIME).try_for_each(|_| pair.ask(AT_A_TIME))?,
        "to-client" => (0..units * BULK / AT_A_TIME).try_for_each(|_| pair.answer(AT_A_TIME))?,
        _ => (0..units).try_for_each(|_| pair.ask(MESSAGE).and_then(|()| pair.answer(MESSAGE)))?,
    }
    Ok(pair.memory.calls - before)
}
