//! Whole connections, TLS included, through pipes in memory under a virtual clock: chunks, stalls, resets and time are drawn
//! from a seed. What must hold in every run: no byte is added, lost or moved, an end is only passed on where there was one,
//! what a connection owns is bounded, and it ends.

mod sockets;

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use self::sockets::{Random, Sim, Socket, draw_capacity};
use super::close::{CloseReason, ConnectionFailure};
use super::connection::{Connection, Drive, Now, Scratch};
use super::proxy_in::{self, Parse};
use super::pump::READ_BYTES_MAX;
use super::route::{Independent, Route, Timeouts};
use super::wire::{Ready, Target};
use crate::conf::model::{ProxyOut, ProxyVersion, SslTlv, Tlv, Verify};
use crate::tls::policy::{self, TlsPolicy};
use crate::tls::test_pki::{self, Ca};
use crate::tls::tickets::TicketKeys;

/// How a peer means to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// close_notify (the client) and FIN once all is sent.
    Clean,
    /// close_notify alone from the client; as `Clean` from the backend.
    Notify,
    /// An end as it should be, then RST.
    CleanReset,
    /// FIN without close_notify.
    Cut,
    /// RST.
    Reset,
    /// Neither a byte nor an end any more.
    Silent,
}

impl End {
    fn draw(random: &mut Random) -> Self {
        match random.below(10) {
            0 => Self::Cut,
            1 => Self::Reset,
            2 => Self::Silent,
            3 => Self::Notify,
            4 => Self::CleanReset,
            _ => Self::Clean,
        }
    }
}

struct World {
    sim: Sim,
    now: Now,
    connection: Connection,
    scratch: Scratch,
    driven: Drive,
    /// So much time has passed at once that anyone is slow.
    jumped: bool,
    /// `None`: without TLS.
    tls: Option<ClientConnection>,
    client_end: End,
    client_left: Vec<u8>,
    client_done: bool,
    client_got: Vec<u8>,
    client_saw_notify: bool,
    client_saw_fin: bool,
    backend_end: End,
    backend_left: Vec<u8>,
    backend_done: bool,
    backend_got: Vec<u8>,
    backend_saw_fin: bool,
}

/// Which listener.
#[derive(Clone, Copy, Debug)]
struct Listener {
    tls: bool,
    accept_proxy: bool,
}

struct Fixture {
    policy: Arc<TlsPolicy>,
    client: Arc<ClientConfig>,
}

fn fixture() -> Fixture {
    let ca = Ca::root("Simulation CA");
    let server = ca.server(&["a.example"], test_pki::ec_key());
    let client = ca.client("alice", |_| ());
    let files = test_pki::files([("/s/server.pem", server.combined()), ("/s/ca.pem", ca.pem.clone())]);
    let mut bind = test_pki::bind(&["/s/server.pem"]);
    bind.verify = Verify::Required;
    bind.ca_file = Some(test_pki::at("/s/ca.pem".into()));
    let tickets = Arc::new(TicketKeys::new(Instant::now()));
    let (policy, diagnostics) = policy::build(
        &bind,
        &mut test_pki::store(&files),
        &tickets,
        test_pki::limits(Duration::from_secs(300)),
        "simulation",
        UnixTime::now(),
    );
    let policy = policy.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let mut roots = RootCertStore::empty();
    roots.add(ca.der.clone()).unwrap();
    let key = PrivateKeyDer::try_from(client.key.serialize_der()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![client.der.clone()], key)
        .unwrap();
    Fixture { policy: Arc::new(policy), client: Arc::new(client) }
}

fn route(fixture: &Fixture, listener: Listener) -> Route {
    Route {
        tls: listener.tls.then(|| Arc::clone(&fixture.policy)),
        accept_proxy: listener.accept_proxy,
        accept_tls_eof: false,
        timeouts: Timeouts {
            handshake: Duration::from_secs(10),
            client: Some(Duration::from_secs(60)),
            client_fin: Some(Duration::from_secs(30)),
            connect: Some(Duration::from_secs(5)),
            server: Some(Duration::from_secs(60)),
            server_fin: None,
            tunnel: None,
        },
        target: Some(Target::Inet("192.0.2.3:80".parse().unwrap())),
        port_offset: None,
        retries: RETRIES,
        abort_on_close: false,
        independent: Independent::default(),
        proxy: Some(ProxyOut {
            version: ProxyVersion::V2,
            tlvs: vec![Tlv::Crc32c, Tlv::CertFingerprint, Tlv::Ssl(vec![SslTlv::Version, SslTlv::Cn])],
        }),
    }
}

const RETRIES: u32 = 2;

/// `PROXY` command over TCP4, version 2, from 198.51.100.7:1000 to 198.51.100.8:443.
const PROXY_HEADER: [u8; 28] = *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc6\x33\x64\x08\x03\xe8\x01\xbb";

impl World {
    fn new(fixture: &Fixture, seed: u64) -> Self {
        let mut random = Random(seed);
        let now = Now { instant: Instant::now(), unix: UnixTime::now() };
        let (client_end, backend_end) = (End::draw(&mut random), End::draw(&mut random));
        let sizes = [0, 1, 100, 20_000, 300_000];
        let client_size = sizes[random.below(sizes.len())];
        let client_left = random.bytes(client_size);
        let backend_size = sizes[random.below(sizes.len())];
        let backend_left = random.bytes(backend_size);
        let capacity = draw_capacity(&mut random);
        let refuse_dial = random.one_in(20);
        let refuse_connects = if random.one_in(10) { 1 + random.below(RETRIES as usize + 1) } else { 0 };
        let listener = Listener { tls: !random.one_in(4), accept_proxy: random.one_in(4) };
        let mut client = ClientConfig::clone(&fixture.client);
        client.max_fragment_size = random.one_in(4).then(|| 32 + random.below(500));
        let mut socket = Socket::new(capacity);
        if listener.accept_proxy {
            socket.incoming.extend(PROXY_HEADER);
        }
        let tls = ClientConnection::new(Arc::new(client), ServerName::try_from("a.example").unwrap()).unwrap();
        Self {
            sim: Sim { random, client: socket, backend: None, dialled: 0, refuse_dial, refuse_connects },
            now,
            connection: Connection::new(Arc::new(route(fixture, listener)), now, u128::from(seed)),
            scratch: Scratch::default(),
            driven: Drive::Again,
            jumped: false,
            tls: listener.tls.then_some(tls),
            client_end,
            client_left,
            client_done: false,
            client_got: Vec::new(),
            client_saw_notify: false,
            client_saw_fin: false,
            backend_end,
            backend_left,
            backend_done: false,
            backend_got: Vec::new(),
            backend_saw_fin: false,
        }
    }

    /// One thing happens.
    fn step(&mut self) {
        match self.sim.random.below(6) {
            0 => self.client_sends(),
            1 => self.client_takes(),
            2 => self.backend_sends(),
            3 => self.backend_takes(),
            4 if self.sim.random.one_in(20) => self.time_passes(),
            _ => {}
        }
        self.drive();
    }

    fn drive(&mut self) {
        if self.driven == Drive::Closed {
            return;
        }
        if self.driven == Drive::Again || self.connection.is_runnable() {
            self.driven = self.connection.drive(self.now, &mut self.scratch, &mut self.sim);
        }
        if std::mem::take(&mut self.sim.client.more) {
            self.connection.ready.insert(Ready::CLIENT_READ);
        }
        if self.sim.backend.as_mut().is_some_and(|backend| std::mem::take(&mut backend.more)) {
            self.connection.ready.insert(Ready::BACKEND_READ);
        }
        let owned = self.connection.owned_bytes();
        assert!(owned <= 2 * (READ_BYTES_MAX + 100 * 1024), "owns {owned} bytes");
    }

    fn time_passes(&mut self) {
        // Mostly a little, sometimes a jump.
        let jump = self.sim.random.one_in(50);
        self.jumped |= jump;
        let millis = if jump { 100_000 } else { self.sim.random.below(500) as u64 };
        self.now.instant += Duration::from_millis(millis);
        if self.connection.deadline().is_some_and(|deadline| deadline <= self.now.instant)
            && self.driven != Drive::Closed
        {
            self.connection.handle_deadline(self.now, &mut self.scratch, &mut self.sim);
            self.driven = self.connection.drive(self.now, &mut self.scratch, &mut self.sim);
        }
    }

    fn client_sends(&mut self) {
        if self.driven == Drive::Closed || self.sim.client.reset {
            return;
        }
        if self.sim.client.fin {
            if self.client_end == End::CleanReset && self.sim.random.one_in(3) {
                self.client_resets();
            }
            return;
        }
        let ready = self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        let mut bytes = Vec::new();
        if ready && !self.client_done {
            let count = (1 + self.sim.random.below(30_000)).min(self.client_left.len());
            let chunk: Vec<u8> = self.client_left.drain(..count).collect();
            self.client_done = self.client_left.is_empty();
            match &mut self.tls {
                Some(tls) => {
                    tls.writer().write_all(&chunk).unwrap();
                    if self.client_done && matches!(self.client_end, End::Clean | End::Notify | End::CleanReset) {
                        tls.send_close_notify();
                    }
                }
                None => bytes = chunk,
            }
        }
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.wants_write()) {
            tls.write_tls(&mut bytes).unwrap();
        }
        // A pipe that takes all: what limits is whether it is read.
        self.sim.client.incoming.extend(bytes);
        self.connection.ready.insert(Ready::CLIENT_READ);
        if self.client_done {
            match self.client_end {
                End::Clean | End::Cut | End::CleanReset => {
                    self.sim.client.fin = true;
                    self.connection.ready.insert(Ready::CLIENT_READ | Ready::CLIENT_END);
                }
                End::Reset => self.client_resets(),
                End::Silent | End::Notify => {}
            }
        }
    }

    fn client_resets(&mut self) {
        self.sim.client.reset = true;
        let all = Ready::CLIENT_READ | Ready::CLIENT_WRITE | Ready::CLIENT_END | Ready::CLIENT_BROKEN;
        self.connection.ready.insert(all);
    }

    fn client_takes(&mut self) {
        let count = (1 + self.sim.random.below(50_000)).min(self.sim.client.outgoing.len());
        let bytes: Vec<u8> = self.sim.client.outgoing.drain(..count).collect();
        if count > 0 && std::mem::take(&mut self.sim.client.wants_room) {
            self.connection.ready.insert(Ready::CLIENT_WRITE);
        }
        self.client_saw_fin |= self.sim.client.shut && self.sim.client.outgoing.is_empty();
        let Some(tls) = &mut self.tls else {
            self.client_got.extend(bytes);
            return;
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if tls.read_tls(&mut rest).unwrap() == 0 {
                break;
            }
            let Ok(state) = tls.process_new_packets() else { return };
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut plain).unwrap();
            self.client_got.extend(plain);
            self.client_saw_notify |= state.peer_has_closed();
        }
    }

    fn backend_sends(&mut self) {
        let Some(backend) = self.sim.backend.as_mut().filter(|backend| !backend.aborted) else { return };
        if backend.reset || self.driven == Drive::Closed {
            return;
        }
        let reset = Ready::BACKEND_READ | Ready::BACKEND_WRITE | Ready::BACKEND_END;
        if backend.fin {
            if self.backend_end == End::CleanReset && self.sim.random.one_in(3) {
                backend.reset = true;
                self.connection.ready.insert(reset);
            }
            return;
        }
        // Being connected is the first event.
        self.connection.ready.insert(Ready::BACKEND_WRITE);
        if self.connection.report().connected.is_none() {
            return;
        }
        let count = (1 + self.sim.random.below(60_000)).min(self.backend_left.len());
        backend.incoming.extend(self.backend_left.drain(..count));
        if count > 0 {
            self.connection.ready.insert(Ready::BACKEND_READ);
        }
        if self.backend_left.is_empty() {
            self.backend_done = true;
            match self.backend_end {
                End::Clean | End::Cut | End::Notify | End::CleanReset => {
                    backend.fin = true;
                    self.connection.ready.insert(Ready::BACKEND_READ | Ready::BACKEND_END);
                }
                End::Reset => {
                    backend.reset = true;
                    self.connection.ready.insert(reset);
                }
                End::Silent => {}
            }
        }
    }

    fn backend_takes(&mut self) {
        let Some(backend) = self.sim.backend.as_mut() else { return };
        let count = (1 + self.sim.random.below(50_000)).min(backend.outgoing.len());
        self.backend_got.extend(backend.outgoing.drain(..count));
        if count > 0 && std::mem::take(&mut backend.wants_room) {
            self.connection.ready.insert(Ready::BACKEND_WRITE);
        }
        self.backend_saw_fin |= backend.shut && backend.outgoing.is_empty();
    }

    /// Lets everything happen that still can; time runs when nothing else does.
    fn run_out(&mut self) {
        for _ in 0..3_000 {
            for _ in 0..20 {
                self.client_sends();
                self.client_takes();
                self.backend_sends();
                self.backend_takes();
                self.drive();
            }
            if self.driven == Drive::Closed {
                // What the kernel took is still delivered.
                for _ in 0..20_000 {
                    self.client_takes();
                    self.backend_takes();
                    let left = |socket: &Socket| !socket.outgoing.is_empty();
                    if !left(&self.sim.client) && !self.sim.backend.as_ref().is_some_and(left) {
                        break;
                    }
                }
                return;
            }
            self.now.instant += Duration::from_millis(100);
            if self.connection.deadline().is_some_and(|deadline| deadline <= self.now.instant) {
                self.connection.handle_deadline(self.now, &mut self.scratch, &mut self.sim);
                self.driven = self.connection.drive(self.now, &mut self.scratch, &mut self.sim);
            }
        }
        panic!("the connection does not end: {:?}", self.connection.outcome());
    }
}

fn run(fixture: &Fixture, seed: u64) -> &'static str {
    let mut world = World::new(fixture, seed);
    let refused = world.sim.refuse_connects;
    let (sent, answered) = (world.client_left.clone(), world.backend_left.clone());
    for _ in 0..world.sim.random.below(2_000) {
        world.step();
    }
    world.run_out();

    // The header is whole and first, or the backend never got a byte.
    let payload = match proxy_in::parse(&world.backend_got) {
        Parse::Complete { consumed, .. } => &world.backend_got[consumed..],
        other => {
            let broken = world.sim.backend.as_ref().is_none_or(|backend| backend.aborted || backend.reset);
            assert!(broken || world.backend_got.is_empty(), "{other:?}");
            &[]
        }
    };
    assert!(sent.starts_with(payload), "the backend got what the client did not send");
    assert!(answered.starts_with(&world.client_got), "the client got what the backend did not send");
    let plain = world.tls.is_none();
    let client_ended = match world.client_end {
        End::Clean | End::Notify | End::CleanReset => !plain || world.client_end != End::Notify,
        End::Cut => plain,
        End::Reset | End::Silent => false,
    };
    let backend_ended = !matches!(world.backend_end, End::Reset | End::Silent);
    let backend_aborted = world.sim.backend.as_ref().is_none_or(|backend| backend.aborted || backend.reset);
    if world.backend_saw_fin && !backend_aborted {
        assert!(client_ended, "the backend saw an end where the client made none");
        assert_eq!(payload.len(), sent.len(), "the backend saw the end before the last byte");
    }
    if world.client_saw_notify || plain && world.client_saw_fin && !world.sim.client.aborted {
        assert!(backend_ended, "the client saw an end where the backend made none");
        assert_eq!(world.client_got.len(), answered.len(), "the client saw the end before the last byte");
    }
    let reason = world.connection.outcome().expect("a connection that is closed has a reason");
    // What ended with close_notify and was read is delivered, whatever happens to the client then.
    let read = !plain && !sent.is_empty() && world.sim.client.incoming.is_empty();
    let there = world.sim.backend.as_ref().is_some_and(|backend| !backend.reset);
    let takes = there && refused <= RETRIES as usize && !world.jumped;
    if let (End::CleanReset, true, true, CloseReason::ClientAborted) = (world.client_end, read, takes, reason) {
        assert_eq!(payload.len(), sent.len(), "an upload that was whole is lost");
    }
    match reason {
        CloseReason::Complete => {
            assert!(client_ended && backend_ended, "{:?} {:?}", world.client_end, world.backend_end);
            if world.client_end == End::Clean {
                assert_eq!(payload.len(), sent.len());
                assert_eq!(world.client_got.len(), answered.len());
                assert!(plain || world.client_saw_notify);
            }
            if world.connection.report().retries > 0 { "complete at another try" } else { "complete" }
        }
        CloseReason::HandshakeAborted => {
            assert_eq!(world.client_end, End::Reset);
            "aborted"
        }
        CloseReason::ConnectFailed(_) => {
            assert_eq!(world.connection.report().retries, RETRIES, "given up too early");
            "refused"
        }
        CloseReason::ClientAborted => {
            assert!(matches!(world.client_end, End::Cut | End::Reset | End::CleanReset));
            "client"
        }
        CloseReason::ServerAborted => {
            assert!(matches!(world.backend_end, End::Reset | End::CleanReset));
            "server"
        }
        CloseReason::ClientTimeout | CloseReason::ServerTimeout => {
            let lively = world.client_end == End::Clean && world.backend_end == End::Clean && !world.jumped;
            assert!(!lively, "nobody was slow: a wakeup was missed");
            "timeout"
        }
        CloseReason::ConnectTimeout | CloseReason::HandshakeTimeout => "slow",
        CloseReason::Refused(failure) if matches!(**failure, ConnectionFailure::ProxyTimeout) => "slow",
        other => panic!("{other:?}"),
    }
}

/// A few seconds' worth; tens of thousands were run when it was written.
const SEEDS: u64 = 400;

/// They bring the acknowledgement of the client's Finished. Where that comes late, whoever sends by Nagle's algorithm (RFC 9293,
/// 3.7.4), as most clients do, keeps its first bytes back for the 40 ms of a delayed acknowledgement.
#[test]
fn tickets_go_out_before_client_or_server_have_said_a_word() {
    let fixture = fixture();
    let plain = |world: &World| {
        let Sim { client, refuse_dial, refuse_connects, .. } = &world.sim;
        world.tls.is_some() && client.incoming.is_empty() && !refuse_dial && *refuse_connects == 0
    };
    let mut world = (0..SEEDS).map(|seed| World::new(&fixture, seed)).find(plain).expect("a plain one");
    world.sim.client.capacity = 1 << 20;
    (world.client_end, world.client_done) = (End::Silent, true);
    world.client_left.clear();
    for _ in 0..100_000 {
        world.client_sends();
        world.drive();
        if world.connection.session().is_some() {
            break;
        }
        world.client_takes();
    }
    assert!(world.connection.session().is_some() && world.connection.report().connected.is_none());
    assert!(!world.sim.client.outgoing.is_empty() && world.connection.waiting().1 == 0);
}

#[test]
fn every_connection_ends_and_no_byte_is_lost() {
    let fixture = fixture();
    let mut outcomes = std::collections::BTreeMap::<&str, usize>::new();
    let seeds = std::env::var("SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&fixture, seed)));
        match outcome {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(_) => panic!("seed {seed}"),
        }
    }
    // A simulation that never gets somewhere proves nothing.
    for outcome in ["complete", "complete at another try", "refused", "client", "server", "timeout"] {
        assert!(outcomes.contains_key(outcome), "{outcomes:?}");
    }
}
