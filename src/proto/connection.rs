//! One connection from its first byte to its last: header in, ClientHello, handshake, dial, header out, relay, close.
//!
//! [`Connection::drive`] does all that can be done with what the sockets are ready for and then says when to come back. What
//! it waits for is derived from its state, never stored: a direction whose sink is full stops reading its source, and TCP
//! does the rest. Half-close is not a state; each [`Pump`] ends on its own.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::close::{CloseReason, ConnectionFailure};
use super::proxy_in::{self, Parse, Received};
use super::proxy_out::{self, Endpoints, Header};
use super::pump::{Flow, Pool, Pump};
use super::route::Route;
use super::wire::{self, Read, Ready, Side, Wire};
pub use crate::tls::engine::Now;
use crate::tls::engine::{self, Engine, Greeting, Outgoing};
use crate::tls::identity::{TlsSession, Verdict};
use crate::tls::policy::TlsPolicy;

/// How long a close waits for the client to take the last bytes and to answer with its own end. Long enough for any round
/// trip, short enough that nobody can park here (`shutdown` without it lets a reset destroy what is in flight).
pub const LINGER: Duration = Duration::from_secs(2);

/// What a closing client may still send before the socket is closed under it.
const LINGER_BYTES: usize = 256 * 1024;

/// Ciphertext that yields no plaintext: more than this within a second ends the connection. rustls' own limits are counts in
/// a row, which alternating kinds of empty messages evade.
const IDLE_WIRE_BYTES: usize = 64 * 1024;

/// Each byte of plaintext earns this many bytes of ciphertext: a stream of one-byte records costs 23 a byte.
const WIRE_BYTES_PER_PLAINTEXT: usize = 64;

/// A source is read while less than this waits for its sink.
const PENDING_BYTES: usize = 16 * 1024;

/// Bytes that one call of `drive` may move before others have their turn.
const TURN_BYTES: usize = 256 * 1024;

/// Records shorter than this are gathered, longer ones written straight from where they were decrypted.
const GATHER_BYTES: usize = 4 * 1024;

/// First and longest pause before a unix socket whose queue is full is dialled again.
const REDIAL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Buffers of a loop, shared by its connections.
pub struct Scratch {
    incoming: Box<[u8]>,
    plain: Box<[u8]>,
    gathered: Vec<u8>,
    outgoing: Outgoing,
    pool: Pool,
}

impl Default for Scratch {
    fn default() -> Self {
        // A read of 64 KiB behind the longest handshake message or record that may be waiting for its end.
        const READ: usize = 4 * (engine::RECORD_PLAINTEXT + engine::RECORD_OVERHEAD);
        Self {
            incoming: vec![0; READ + 68 * 1024].into(),
            plain: vec![0; 4 * engine::RECORD_PLAINTEXT].into(),
            gathered: Vec::with_capacity(engine::RECORD_PLAINTEXT),
            outgoing: Outgoing::new(READ),
            pool: Pool::default(),
        }
    }
}

/// What a connection wants after [`Connection::drive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// Nothing until an event or the deadline.
    Wait,
    /// Another turn as soon as others have had theirs.
    Again,
    /// It is over: close the sockets.
    Closed,
}

/// How far a connection has come.
enum Phase {
    /// A PROXY header must come first.
    ProxyHeader,
    /// Waiting for the ClientHello. No TLS state before the first byte.
    Greeting {
        greeting: Option<Box<Greeting>>,
    },
    Handshake,
    /// Connecting to the server. The verdict is here again while a unix socket's queue is full.
    Dialling {
        since: Instant,
        again: Option<Redial>,
    },
    Relay,
    /// The last bytes go to the client, then its end is awaited.
    Closing {
        until: Instant,
        discarded: usize,
    },
    Closed,
}

struct Redial {
    verdict: Verdict,
    at: Instant,
    pause: Duration,
}

/// What the log wants to know at the end.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it was accepted.
    pub accepted: Instant,
    /// When the handshake was complete.
    pub established: Option<Instant>,
    /// When the server had accepted.
    pub connected: Option<Instant>,
    /// Plaintext bytes from the client to the server, as written.
    pub bytes_to_backend: u64,
    /// Plaintext bytes from the server, as read.
    pub bytes_to_client: u64,
    /// Whether the client ever sent a byte.
    pub heard: bool,
}

/// A connection.
pub struct Connection {
    route: Arc<Route>,
    /// Of the route, or of the one that a reload has put in its place during the handshake.
    policy: Option<Arc<TlsPolicy>>,
    phase: Phase,
    /// What the kernel has said; set by the event loop.
    pub ready: Ready,
    engine: Option<Box<Engine>>,
    to_backend: Pump,
    to_client: Pump,
    held: Vec<u8>,
    client_end: bool,
    /// The stream to the client has not been cut, and its end has not been said.
    close_notify_due: bool,
    /// The client's close_notify came: whatever follows means nothing.
    client_closed: bool,
    backend_reset: bool,
    last_client: Instant,
    last_backend: Instant,
    idle_wire: usize,
    idle_wire_since: Instant,
    id: u128,
    session: Option<Box<TlsSession>>,
    received: Option<Box<Received>>,
    outcome: Option<CloseReason>,
    report: Report,
}

impl Connection {
    /// A connection that was just accepted. `id` is unique; it becomes PP2_TYPE_UNIQUE_ID.
    pub fn new(route: Arc<Route>, now: Now, id: u128) -> Self {
        let phase = match (route.accept_proxy, &route.tls) {
            (true, _) => Phase::ProxyHeader,
            (false, Some(_)) => Phase::Greeting { greeting: None },
            // There is nothing to wait for: the first drive dials.
            (false, None) => Phase::Handshake,
        };
        Self {
            policy: route.tls.clone(),
            route,
            phase,
            ready: Ready::CLIENT_READ | Ready::CLIENT_WRITE,
            engine: None,
            to_backend: Pump::new(Side::Backend),
            to_client: Pump::new(Side::Client),
            held: Vec::new(),
            client_end: false,
            close_notify_due: true,
            client_closed: false,
            backend_reset: false,
            last_client: now.instant,
            last_backend: now.instant,
            idle_wire: 0,
            idle_wire_since: now.instant,
            id,
            session: None,
            received: None,
            outcome: None,
            report: Report {
                accepted: now.instant,
                established: None,
                connected: None,
                bytes_to_backend: 0,
                bytes_to_client: 0,
                heard: false,
            },
        }
    }

    /// Whether the client has yet to prove who it is: such connections wait behind the established ones.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.phase, Phase::ProxyHeader | Phase::Greeting { .. } | Phase::Handshake)
    }

    /// The configuration has changed: a client that has yet to prove who it is has to prove it to this policy. What was
    /// permitted before stays so.
    pub fn handle_reload(&mut self, policy: &Arc<TlsPolicy>) {
        if self.is_handshaking() && self.policy.is_some() {
            self.policy = Some(Arc::clone(policy));
        }
    }

    /// What was negotiated.
    pub fn session(&self) -> Option<&TlsSession> {
        self.session.as_deref()
    }

    /// Why it ended; `None` while it lives.
    pub fn outcome(&self) -> Option<&CloseReason> {
        self.outcome.as_ref()
    }

    /// The PROXY header that came in.
    pub fn received(&self) -> Option<&Received> {
        self.received.as_deref()
    }

    /// What the log wants to know.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Bytes of buffers that it owns right now: none while no peer is slow.
    pub fn owned_bytes(&self) -> usize {
        self.to_backend.pending() + self.to_client.pending() + self.held.len()
    }

    /// What it can do something with right now.
    pub fn interest(&self) -> Ready {
        let mut interest = Ready::default();
        if self.to_client.pending() > 0 {
            interest.insert(Ready::CLIENT_WRITE);
        }
        if self.wants_client() {
            interest.insert(Ready::CLIENT_READ);
        }
        match &self.phase {
            Phase::Dialling { again: None, .. } => interest.insert(Ready::BACKEND_WRITE),
            Phase::Relay => {
                if self.to_backend.pending() > 0 {
                    interest.insert(Ready::BACKEND_WRITE);
                }
                if self.to_client.flow == Flow::Open && self.to_client.pending() == 0 {
                    interest.insert(Ready::BACKEND_READ);
                }
            }
            _ => {}
        }
        interest
    }

    fn wants_client(&self) -> bool {
        !self.client_end
            && match self.phase {
                Phase::Closed => false,
                // After its end only a reset can come, or rubbish, which is limited.
                Phase::Closing { discarded, .. } => discarded < LINGER_BYTES,
                _ => self.to_backend.pending() < PENDING_BYTES,
            }
    }

    /// When [`Connection::handle_deadline`] must be called if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let timeouts = &self.route.timeouts;
        match &self.phase {
            Phase::ProxyHeader | Phase::Greeting { .. } | Phase::Handshake => {
                Some(self.report.accepted + timeouts.handshake)
            }
            Phase::Dialling { since, again } => {
                let end = timeouts.connect.map(|timeout| *since + timeout);
                earliest(end, again.as_ref().map(|again| again.at))
            }
            Phase::Relay => self.relay_deadline().map(|(deadline, _)| deadline),
            Phase::Closing { until, .. } => Some(*until),
            Phase::Closed => None,
        }
    }

    fn relay_deadline(&self) -> Option<(Instant, CloseReason)> {
        let timeouts = &self.route.timeouts;
        let open = self.to_backend.flow == Flow::Open && self.to_client.flow == Flow::Open;
        if let (true, Some(tunnel)) = (open, timeouts.tunnel) {
            let last = self.last_client.max(self.last_backend);
            let reason = if self.last_client < self.last_backend {
                CloseReason::ClientTimeout
            } else {
                CloseReason::ServerTimeout
            };
            return Some((last + tunnel, reason));
        }
        let (client, server) = if open {
            (timeouts.client, timeouts.server)
        } else {
            (timeouts.client_fin.or(timeouts.client), timeouts.server_fin.or(timeouts.server))
        };
        let client = client.map(|timeout| self.last_client + timeout);
        let server = server.map(|timeout| self.last_backend + timeout);
        match (client, server) {
            (Some(client), Some(server)) if server < client => Some((server, CloseReason::ServerTimeout)),
            (Some(client), _) => Some((client, CloseReason::ClientTimeout)),
            (None, Some(server)) => Some((server, CloseReason::ServerTimeout)),
            (None, None) => None,
        }
    }

    /// The deadline has come. Drive afterwards.
    pub fn handle_deadline<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) {
        match &mut self.phase {
            Phase::ProxyHeader => self.refuse(now, scratch, ConnectionFailure::ProxyTimeout),
            Phase::Greeting { .. } | Phase::Handshake => self.close(CloseReason::HandshakeTimeout),
            Phase::Dialling { since, again } => {
                let late = self.route.timeouts.connect.is_some_and(|timeout| *since + timeout <= now.instant);
                if late {
                    wire.abort(Side::Backend);
                    self.cut(now, scratch, CloseReason::ConnectTimeout);
                } else if let Some(redial) = again.take() {
                    let (since, pause) = (*since, (redial.pause * 2).min(REDIAL.1));
                    self.dial(now, since, pause, redial.verdict, scratch, wire);
                }
            }
            Phase::Relay => {
                if let Some((_, reason)) = self.relay_deadline() {
                    wire.abort(Side::Backend);
                    self.cut(now, scratch, reason);
                }
            }
            Phase::Closing { .. } => self.phase = Phase::Closed,
            Phase::Closed => {}
        }
    }

    /// Ends it at once: the process will not wait any longer.
    pub fn kill<W: Wire>(&mut self, wire: &mut W) {
        wire.abort(Side::Backend);
        self.close(CloseReason::Killed);
    }

    /// Does all that can be done now.
    pub fn drive<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> Drive {
        let mut moved = 0;
        loop {
            if matches!(self.phase, Phase::Handshake) && self.route.tls.is_none() {
                self.start_dialling(now, Verdict::plaintext(), scratch, wire);
            }
            let mut work = self.flush(now, scratch, wire);
            work += self.pass_on_ends(now, scratch, wire);
            if self.ready.contains(Ready::CLIENT_READ) && self.wants_client() {
                work += self.read_client(now, scratch, wire);
            }
            match self.phase {
                Phase::Dialling { again: None, .. } if self.ready.contains(Ready::BACKEND_WRITE) => {
                    work += self.finish_dialling(now, scratch, wire);
                }
                Phase::Relay
                    if self.ready.contains(Ready::BACKEND_READ)
                        && self.to_client.flow == Flow::Open
                        && self.to_client.pending() == 0 =>
                {
                    work += self.read_backend(now, scratch, wire);
                }
                _ => {}
            }
            work += self.pass_on_ends(now, scratch, wire);
            moved += work;
            if matches!(self.phase, Phase::Closed) {
                return Drive::Closed;
            }
            if !self.is_runnable() {
                return Drive::Wait;
            }
            if moved >= TURN_BYTES {
                return Drive::Again;
            }
            debug_assert!(work > 0, "ready for what it wants, and nothing done");
            if work == 0 {
                return Drive::Wait;
            }
        }
    }

    /// Whether it could do something with what the kernel has said.
    pub fn is_runnable(&self) -> bool {
        self.interest().intersects(self.ready)
    }

    /// Writes what waits on both sides.
    fn flush<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        let mut sent = 0;
        if self.to_client.pending() > 0 {
            match self.to_client.flush(wire, &mut self.ready, &mut scratch.pool) {
                Ok(count) => {
                    sent += count;
                    if count > 0 {
                        self.last_client = now.instant;
                    }
                }
                Err(_) => self.client_broke(wire),
            }
        }
        if matches!(self.phase, Phase::Relay) && self.to_backend.pending() > 0 {
            match self.to_backend.flush(wire, &mut self.ready, &mut scratch.pool) {
                Ok(count) => {
                    sent += count;
                    if count > 0 {
                        self.last_backend = now.instant;
                    }
                }
                Err(error) => self.backend_write_broke(&error, scratch),
            }
        }
        sent
    }

    /// A direction that is ending and empty passes its end on. Answers how many did.
    fn pass_on_ends<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        let mut passed = 0;
        if !matches!(self.phase, Phase::Relay | Phase::Closing { .. }) {
            return passed;
        }
        if self.to_backend.flow == Flow::Ending && self.to_backend.pending() == 0 {
            wire.shutdown_write(Side::Backend);
            self.to_backend.flow = Flow::Ended;
            passed += 1;
        }
        if self.to_client.flow == Flow::Ending && self.to_client.pending() == 0 {
            // close_notify is a statement of truth: the server's stream came to its end.
            if let (true, Some(engine)) = (std::mem::take(&mut self.close_notify_due), &mut self.engine) {
                scratch.outgoing.clear();
                if engine.close_notify(&mut self.held, &mut scratch.outgoing).is_ok() {
                    self.send_to_client(now, scratch, wire);
                }
            }
            if self.to_client.flow == Flow::Ending && self.to_client.pending() == 0 {
                wire.shutdown_write(Side::Client);
                self.to_client.flow = Flow::Ended;
                passed += 1;
                if let Phase::Closing { until, .. } = &mut self.phase {
                    *until = now.instant + LINGER;
                }
            }
        }
        if self.to_backend.flow == Flow::Ended && self.to_client.flow == Flow::Ended {
            self.outcome.get_or_insert(CloseReason::Complete);
            match self.phase {
                _ if self.client_end => self.phase = Phase::Closed,
                Phase::Relay => self.phase = Phase::Closing { until: now.instant + LINGER, discarded: 0 },
                _ => {}
            }
        }
        passed
    }

    /// Reads from the client as long as there is something and somewhere to put it.
    fn read_client<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        let mut incoming = std::mem::take(&mut scratch.incoming);
        let mut have = self.held.len();
        incoming[..have].copy_from_slice(&self.held);
        let mut moved = 0;
        while self.wants_client() && moved < TURN_BYTES {
            match wire::read(wire, Side::Client, &mut self.ready, &mut incoming[have..]) {
                Read::Bytes(count) => {
                    moved += count;
                    self.report.heard = true;
                    have += count;
                    let consumed = self.take(&mut incoming[..have], count, now, scratch, wire);
                    incoming.copy_within(consumed..have, 0);
                    have -= consumed;
                    if have == incoming.len() {
                        // rustls refuses before this; without room there could be no progress.
                        self.refuse(now, scratch, ConnectionFailure::Words("a message has no end"));
                        have = 0;
                    }
                }
                Read::Blocked => break,
                Read::End => {
                    self.client_end = true;
                    moved += 1;
                    self.client_ended(now, wire);
                }
                Read::Broken => {
                    self.client_broke(wire);
                    moved += 1;
                }
            }
            if !self.ready.contains(Ready::CLIENT_READ) {
                break;
            }
        }
        if have == 0 {
            if self.held.capacity() > 0 {
                scratch.pool.give(std::mem::take(&mut self.held));
            }
        } else {
            if self.held.capacity() == 0 {
                self.held = scratch.pool.take();
            }
            self.held.clear();
            self.held.extend_from_slice(&incoming[..have]);
        }
        scratch.incoming = incoming;
        moved
    }

    /// Takes bytes from the client, the last `new` of which were just read; answers how many are done with.
    fn take<W: Wire>(&mut self, bytes: &mut [u8], new: usize, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        let mut done = 0;
        loop {
            let before = done;
            match &mut self.phase {
                Phase::ProxyHeader => match proxy_in::parse(bytes) {
                    Parse::NeedMore => return 0,
                    Parse::Complete { consumed, received } => {
                        self.received = Some(Box::new(received));
                        self.phase = match self.route.tls {
                            Some(_) => Phase::Greeting { greeting: None },
                            None => Phase::Handshake,
                        };
                        if self.route.tls.is_none() {
                            self.start_dialling(now, Verdict::plaintext(), scratch, wire);
                        }
                        done = consumed;
                    }
                    Parse::Invalid(reason) => {
                        self.refuse(now, scratch, ConnectionFailure::ProxyHeader(reason));
                        return bytes.len();
                    }
                },
                Phase::Greeting { .. } => match self.greet(&mut bytes[done..], now, scratch, wire) {
                    Some(consumed) => done += consumed,
                    None => return done,
                },
                Phase::Handshake | Phase::Dialling { .. } | Phase::Relay => {
                    let new = new.min(bytes.len() - done);
                    return done + self.decrypt(&mut bytes[done..], new, now, scratch, wire);
                }
                Phase::Closing { discarded, .. } => {
                    *discarded += new;
                    return bytes.len();
                }
                Phase::Closed => return bytes.len(),
            }
            if done == before || done == bytes.len() {
                return done;
            }
        }
    }

    /// Looks for the whole ClientHello and starts the handshake; `None` while it is not whole.
    fn greet<W: Wire>(&mut self, bytes: &mut [u8], now: Now, scratch: &mut Scratch, wire: &mut W) -> Option<usize> {
        let Phase::Greeting { greeting } = &mut self.phase else { return None };
        let policy = self.policy.as_ref()?;
        scratch.outgoing.clear();
        let offer = match greeting.get_or_insert_default().read(policy, bytes, &mut scratch.outgoing) {
            Ok(Some(offer)) => offer,
            Ok(None) => return None,
            Err(failure) => {
                self.send_to_client(now, scratch, wire);
                self.refuse(now, scratch, ConnectionFailure::tls(failure, bytes));
                return Some(bytes.len());
            }
        };
        match Engine::accept(policy, offer, bytes, now, &mut scratch.outgoing) {
            Ok((engine, progress)) => {
                self.engine = Some(Box::new(engine));
                self.phase = Phase::Handshake;
                self.send_to_client(now, scratch, wire);
                Some(progress.consumed)
            }
            Err(failure) => {
                self.send_to_client(now, scratch, wire);
                self.refuse(now, scratch, ConnectionFailure::tls(failure, bytes));
                Some(bytes.len())
            }
        }
    }

    /// Turns ciphertext into plaintext for the backend.
    fn decrypt<W: Wire>(
        &mut self,
        bytes: &mut [u8],
        new: usize,
        now: Now,
        scratch: &mut Scratch,
        wire: &mut W,
    ) -> usize {
        if self.client_closed {
            self.count_idle_wire(new, 0, now, wire);
            return bytes.len();
        }
        let mut sink = BackendSink {
            connected: matches!(self.phase, Phase::Relay) && self.to_backend.flow == Flow::Open,
            pump: &mut self.to_backend,
            ready: &mut self.ready,
            gathered: &mut scratch.gathered,
            pool: &mut scratch.pool,
            wire,
            taken: 0,
            sent: 0,
            broken: None,
        };
        scratch.outgoing.clear();
        let result = match &mut self.engine {
            Some(engine) => engine.receive(bytes, now, &mut scratch.outgoing, &mut |plaintext| sink.take(plaintext)),
            None => {
                sink.take(bytes);
                Ok(engine::Progress { consumed: bytes.len(), peer_closed: false })
            }
        };
        sink.finish();
        let (taken, sent, broken) = (sink.taken, sink.sent, sink.broken);
        self.report.bytes_to_backend += taken as u64;
        if taken > 0 {
            self.last_client = now.instant;
        }
        if sent > 0 {
            self.last_backend = now.instant;
        }
        if let Some(error) = broken {
            self.backend_write_broke(&error, scratch);
        }
        if !scratch.outgoing.is_empty() {
            self.send_to_client(now, scratch, wire);
        }
        match result {
            Ok(progress) => {
                if matches!(self.phase, Phase::Handshake) {
                    self.establish(now, scratch, wire);
                }
                if progress.peer_closed {
                    self.close_notify_came();
                }
                if self.engine.is_some() && matches!(self.phase, Phase::Dialling { .. } | Phase::Relay) {
                    self.count_idle_wire(new, taken, now, wire);
                }
                progress.consumed
            }
            Err(failure) => {
                if matches!(self.phase, Phase::Handshake) {
                    self.refuse(now, scratch, ConnectionFailure::tls(failure, &[]));
                } else {
                    wire.abort(Side::Backend);
                    self.cut(now, scratch, CloseReason::ClientProtocol(failure));
                }
                bytes.len()
            }
        }
    }

    fn close_notify_came(&mut self) {
        // An end before the handshake is none: the deadline takes care of the client.
        if matches!(self.phase, Phase::Dialling { .. } | Phase::Relay) {
            self.client_closed = true;
            if self.to_backend.flow == Flow::Open {
                self.to_backend.flow = Flow::Ending;
            }
        }
    }

    /// Ends a connection whose client keeps the decryption busy with nothing.
    fn count_idle_wire<W: Wire>(&mut self, new: usize, plaintext: usize, now: Now, wire: &mut W) {
        self.idle_wire = (self.idle_wire + new).saturating_sub(plaintext.saturating_mul(WIRE_BYTES_PER_PLAINTEXT));
        if self.idle_wire <= IDLE_WIRE_BYTES {
            return;
        }
        if now.instant.duration_since(self.idle_wire_since) < Duration::from_secs(1) {
            wire.abort(Side::Backend);
            self.close(CloseReason::Flood);
        } else {
            self.idle_wire = 0;
            self.idle_wire_since = now.instant;
        }
    }

    /// The handshake may be complete: take the verdict and dial.
    fn establish<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) {
        let Some(engine) = self.engine.as_mut().filter(|engine| !engine.is_handshaking()) else { return };
        let Some(policy) = &self.policy else { return };
        match engine.establish(policy, now.unix) {
            Ok(established) => {
                self.session = Some(Box::new(established.session));
                self.start_dialling(now, established.verdict, scratch, wire);
            }
            Err(failure) => self.refuse(now, scratch, ConnectionFailure::tls(failure, &[])),
        }
    }

    fn start_dialling<W: Wire>(&mut self, now: Now, verdict: Verdict, scratch: &mut Scratch, wire: &mut W) {
        self.report.established = Some(now.instant);
        if let Some(proxy) = &self.route.proxy {
            let own = wire.endpoints();
            let received = self.received.as_deref();
            let unique_id = format!("{:032x}", self.id);
            let header = Header {
                endpoints: Endpoints {
                    source: received.and_then(|received| received.source).unwrap_or(own.source),
                    destination: received.and_then(|received| received.destination).unwrap_or(own.destination),
                },
                session: self.session.as_deref(),
                verdict: &verdict,
                received,
                unique_id: unique_id.as_bytes(),
            };
            let mut buffer = scratch.pool.take();
            let result = proxy_out::encode(proxy, &header, &mut buffer);
            if result.is_ok() {
                self.to_backend.store_first(&buffer, &mut scratch.pool);
            }
            scratch.pool.give(buffer);
            if let Err(error) = result {
                self.cut(now, scratch, CloseReason::Header(error));
                return;
            }
        }
        self.dial(now, now.instant, REDIAL.0, verdict, scratch, wire);
    }

    fn dial<W: Wire>(
        &mut self,
        now: Now,
        since: Instant,
        pause: Duration,
        verdict: Verdict,
        scratch: &mut Scratch,
        wire: &mut W,
    ) {
        let route = Arc::clone(&self.route);
        self.ready.remove(Ready::BACKEND_READ | Ready::BACKEND_WRITE | Ready::BACKEND_END);
        match wire.dial(&route.target, verdict) {
            Ok(()) => self.phase = Phase::Dialling { since, again: None },
            Err((error, verdict)) if error.kind() == io::ErrorKind::WouldBlock => {
                let at = now.instant + pause;
                self.phase = Phase::Dialling { since, again: Some(Redial { verdict, at, pause }) };
            }
            Err((error, _)) => self.cut(now, scratch, CloseReason::ConnectFailed(error)),
        }
    }

    fn finish_dialling<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        match wire.connected() {
            Ok(true) => {
                self.phase = Phase::Relay;
                self.report.connected = Some(now.instant);
                self.last_backend = now.instant;
                1
            }
            Ok(false) => {
                self.ready.remove(Ready::BACKEND_WRITE);
                0
            }
            Err(error) => {
                self.cut(now, scratch, CloseReason::ConnectFailed(error));
                1
            }
        }
    }

    /// Reads from the backend and encrypts for the client.
    fn read_backend<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        let mut plain = std::mem::take(&mut scratch.plain);
        let mut moved = 0;
        while self.to_client.flow == Flow::Open && self.to_client.pending() == 0 && moved < TURN_BYTES {
            match wire::read(wire, Side::Backend, &mut self.ready, &mut plain) {
                Read::Bytes(count) => {
                    moved += count;
                    self.report.bytes_to_client += count as u64;
                    self.last_backend = now.instant;
                    match &mut self.engine {
                        Some(engine) => {
                            scratch.outgoing.clear();
                            if engine.encrypt(&mut self.held, &plain[..count], &mut scratch.outgoing).is_err() {
                                wire.abort(Side::Backend);
                                self.cut(now, scratch, CloseReason::KeysExhausted);
                                break;
                            }
                            self.send_to_client(now, scratch, wire);
                        }
                        None => match self.to_client.send(wire, &mut self.ready, &plain[..count], &mut scratch.pool) {
                            Ok(0) => {}
                            Ok(_) => self.last_client = now.instant,
                            Err(_) => self.client_broke(wire),
                        },
                    }
                }
                Read::Blocked => break,
                // The kernel reports a reset once; if a write was told, a read only sees an end.
                Read::End if self.backend_reset => {
                    self.backend_broke(now, scratch);
                    moved += 1;
                }
                Read::End => {
                    self.to_client.flow = Flow::Ending;
                    moved += 1;
                }
                Read::Broken => {
                    self.backend_broke(now, scratch);
                    moved += 1;
                }
            }
            if !self.ready.contains(Ready::BACKEND_READ) {
                break;
            }
        }
        scratch.plain = plain;
        moved
    }

    /// Sends what is in the loop's output buffer, keeping what the socket does not take.
    fn send_to_client<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        match self.to_client.send(wire, &mut self.ready, scratch.outgoing.bytes(), &mut scratch.pool) {
            Ok(0) => {}
            Ok(_) => self.last_client = now.instant,
            Err(_) => self.client_broke(wire),
        }
    }

    /// FIN from the client.
    fn client_ended<W: Wire>(&mut self, now: Now, wire: &mut W) {
        match self.phase {
            Phase::ProxyHeader | Phase::Greeting { .. } | Phase::Handshake => self.close(CloseReason::HandshakeAborted),
            Phase::Dialling { .. } | Phase::Relay if self.to_backend.flow == Flow::Open => {
                if self.engine.is_none() || self.route.accept_tls_eof {
                    self.to_backend.flow = Flow::Ending;
                } else {
                    // Cut off, by whomever: the backend must not take it for the end.
                    wire.abort(Side::Backend);
                    self.close(CloseReason::ClientAborted);
                }
            }
            Phase::Closing { .. } if self.to_client.flow == Flow::Ended => self.phase = Phase::Closed,
            _ => {}
        }
        self.last_client = now.instant;
    }

    /// RST from the client, or its socket is of no use any more.
    fn client_broke<W: Wire>(&mut self, wire: &mut W) {
        let reason = if self.is_handshaking() { CloseReason::HandshakeAborted } else { CloseReason::ClientAborted };
        wire.abort(Side::Backend);
        self.close(reason);
    }

    /// A write to the backend failed. What it sent before is still to be read, and reading tells how it ended.
    fn backend_write_broke(&mut self, error: &io::Error, scratch: &mut Scratch) {
        // EPIPE comes where FIN had come before the reset (tcp(7)): its own stream is whole.
        self.backend_reset |= error.kind() != io::ErrorKind::BrokenPipe;
        self.to_backend.discard(&mut scratch.pool);
        self.to_backend.flow = Flow::Ended;
        self.ready.insert(Ready::BACKEND_READ);
    }

    /// RST from the backend: what it sent goes to the client, but its end is not called one.
    fn backend_broke(&mut self, now: Now, scratch: &mut Scratch) {
        self.cut(now, scratch, CloseReason::ServerAborted);
    }

    /// Ends without close_notify after what waits for the client has gone out.
    fn cut(&mut self, now: Now, scratch: &mut Scratch, reason: CloseReason) {
        self.close_notify_due = false;
        self.close_slowly(now, scratch, reason);
    }

    /// The client proved nothing: what is in the output (an alert) goes out, then the end.
    fn refuse(&mut self, now: Now, scratch: &mut Scratch, failure: ConnectionFailure) {
        self.cut(now, scratch, CloseReason::Refused(Box::new(failure)));
    }

    fn close_slowly(&mut self, now: Now, scratch: &mut Scratch, reason: CloseReason) {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Closed) {
            return;
        }
        self.outcome.get_or_insert(reason);
        self.to_backend.discard(&mut scratch.pool);
        self.to_backend.flow = Flow::Ended;
        if self.to_client.flow == Flow::Open {
            self.to_client.flow = Flow::Ending;
        }
        // A slow client may take as long for the last bytes as it may be silent.
        let patience = self.route.timeouts.client_fin.or(self.route.timeouts.client).unwrap_or(LINGER).max(LINGER);
        let pending = self.to_client.pending() > 0;
        self.phase = Phase::Closing { until: now.instant + if pending { patience } else { LINGER }, discarded: 0 };
    }

    /// Ends at once.
    fn close(&mut self, reason: CloseReason) {
        self.outcome.get_or_insert(reason);
        self.phase = Phase::Closed;
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Where decrypted records go: long ones straight to the backend, short ones together.
struct BackendSink<'a, W> {
    pump: &'a mut Pump,
    ready: &'a mut Ready,
    gathered: &'a mut Vec<u8>,
    pool: &'a mut Pool,
    wire: &'a mut W,
    connected: bool,
    taken: usize,
    sent: usize,
    broken: Option<io::Error>,
}

impl<W: Wire> BackendSink<'_, W> {
    fn take(&mut self, plaintext: &[u8]) {
        self.taken += plaintext.len();
        if self.pump.flow == Flow::Ended {
            return;
        }
        if self.gathered.len() + plaintext.len() > engine::RECORD_PLAINTEXT {
            self.finish();
        }
        if self.gathered.is_empty() && plaintext.len() >= GATHER_BYTES {
            self.send(plaintext);
        } else {
            self.gathered.extend_from_slice(plaintext);
        }
    }

    fn finish(&mut self) {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(self.gathered);
            self.send(&gathered);
            *self.gathered = gathered;
            self.gathered.clear();
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        if !self.connected {
            self.pump.store(bytes, self.pool);
            return;
        }
        match self.pump.send(self.wire, self.ready, bytes, self.pool) {
            Ok(sent) => self.sent += sent,
            Err(error) => self.broken = Some(error),
        }
    }
}
