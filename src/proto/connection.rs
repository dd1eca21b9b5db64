//! One connection from its first byte to its last: header in, ClientHello, handshake, dial, header out, relay, close.
//!
//! [`Connection::drive`] does all that can be done with what the sockets are ready for and then says when to come back. What
//! it waits for is derived from its state, never stored: a direction whose sink is full stops reading its source, and TCP
//! does the rest. Half-close is not a state; each [`Pump`] ends on its own.

mod client;
mod deadlines;
mod dialling;
mod endings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::endings::LINGER;
use super::close::{CloseReason, Kill};
use super::proxy_in::Received;
use super::pump::{Flow, Pool, Pump, READ_BYTES_MAX};
use super::route::Route;
use super::wire::{self, Read, Ready, Side, Wire};
use crate::stats::labels::{ClientVerify, TicketRefusal};
pub use crate::tls::engine::Now;
use crate::tls::engine::{self, Engine, Greeting, Outgoing};
use crate::tls::identity::{TlsSession, Verdict};
use crate::tls::policy::TlsPolicy;

/// What a closing client may still send before the socket is closed under it.
const LINGER_BYTES: usize = 256 * 1024;

/// A source is read while less than this waits for its sink.
const PENDING_BYTES: usize = 16 * 1024;

/// Bytes that one call of `drive` may move before others have their turn.
const TURN_BYTES: usize = 256 * 1024;

/// Buffers of a loop, shared by its connections.
pub struct Scratch {
    incoming: Box<[u8]>,
    plain: Box<[u8]>,
    outgoing: Outgoing,
    pool: Pool,
}

impl Default for Scratch {
    fn default() -> Self {
        // The longest read, as records, and behind the longest handshake message or record that may be waiting for its end.
        const RECORDS: usize = READ_BYTES_MAX.div_ceil(engine::RECORD_PLAINTEXT);
        const READ: usize = RECORDS * (engine::RECORD_PLAINTEXT + engine::RECORD_OVERHEAD);
        const INCOMING: usize = READ + 68 * 1024;
        Self {
            incoming: vec![0; INCOMING].into(),
            plain: vec![0; INCOMING].into(),
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
    /// Connecting to the server, or about to.
    Dialling(Attempt),
    Relay,
    /// The last bytes go to the client, then its end is awaited.
    Closing {
        until: Instant,
        discarded: usize,
    },
    Closed,
}

/// What the client is told at the end of its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// close_notify, once the server's stream has come to its end.
    Due,
    /// It was told.
    Said,
    /// Nothing: the stream does not end, it breaks.
    Cut,
}

/// A try to connect to the server.
struct Attempt {
    /// Leave to dial, until the server has accepted.
    verdict: Verdict,
    /// When it began, or will begin.
    since: Instant,
    /// The socket is not made yet, or again not: a unix socket's queue is full.
    wait: Option<Redial>,
}

struct Redial {
    at: Instant,
    /// How long the wait before was.
    pause: Duration,
}

/// When a side last showed that it is there.
#[derive(Clone, Copy)]
struct Activity {
    /// By sending.
    sent: Instant,
    /// By taking what was written.
    took: Instant,
}

impl Activity {
    fn at(now: Instant) -> Self {
        Self { sent: now, took: now }
    }

    fn last(&self) -> Instant {
        self.sent.max(self.took)
    }
}

/// What a connection was about when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The client had yet to say who it is.
    Request,
    /// The server had yet to accept.
    Connect,
    /// The relay.
    Data,
    /// The server was done, and the client took the last bytes.
    Last,
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
    /// When the client's first byte came.
    pub heard: Option<Instant>,
    /// What came of looking for the client's certificate; `None` while that is open, and if nobody asked.
    pub client_verify: Option<ClientVerify>,
    /// Why the client's ticket did not resume its session.
    pub ticket_refused: Option<TicketRefusal>,
    /// Connections to the server that were tried again.
    pub retries: u32,
    /// What it was about when it ended.
    pub stage: Stage,
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
    farewell: Farewell,
    /// The client's close_notify came: whatever follows means nothing.
    client_closed: bool,
    backend_reset: bool,
    client: Activity,
    server: Activity,
    idle_wire: usize,
    idle_wire_since: Instant,
    /// Records decrypted in this turn.
    records: usize,
    id: u128,
    session: Option<Box<TlsSession>>,
    /// Kept so that the client can be found by it; what else is told about it is derived.
    certificate: Option<Box<[u8]>>,
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
            ready: Ready::CLIENT_WRITE,
            engine: None,
            to_backend: Pump::new(Side::Backend),
            to_client: Pump::new(Side::Client),
            held: Vec::new(),
            client_end: false,
            farewell: Farewell::Due,
            client_closed: false,
            backend_reset: false,
            client: Activity::at(now.instant),
            server: Activity::at(now.instant),
            idle_wire: 0,
            idle_wire_since: now.instant,
            records: 0,
            id,
            session: None,
            certificate: None,
            received: None,
            outcome: None,
            report: Report {
                accepted: now.instant,
                established: None,
                connected: None,
                bytes_to_backend: 0,
                bytes_to_client: 0,
                heard: None,
                client_verify: None,
                ticket_refused: None,
                retries: 0,
                stage: Stage::Request,
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

    /// PP2_TYPE_UNIQUE_ID.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// What it is about, in a word.
    pub fn phase(&self) -> &'static str {
        match self.phase {
            Phase::ProxyHeader => "proxy-header",
            Phase::Greeting { .. } => "client-hello",
            Phase::Handshake => "handshake",
            Phase::Dialling { .. } => "connect",
            Phase::Relay => "relay",
            Phase::Closing { .. } => "closing",
            Phase::Closed => "closed",
        }
    }

    /// Bytes that wait for the server, and for the client.
    pub fn waiting(&self) -> (usize, usize) {
        (self.to_backend.pending(), self.to_client.pending())
    }

    /// The client's certificate (DER), if it was verified and the client let in by it.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
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
        // Whoever is not read from can still be seen to be gone.
        interest.insert(if self.wants_client() { Ready::CLIENT_READ } else { Ready::CLIENT_BROKEN });
        match &self.phase {
            Phase::Dialling(Attempt { wait: None, .. }) => interest.insert(Ready::BACKEND_WRITE),
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

    /// Ends it at once.
    pub fn kill<W: Wire>(&mut self, why: Kill, wire: &mut W) {
        wire.abort(Side::Client);
        self.close(CloseReason::Killed(why), wire);
    }

    /// Ends it at once: an invariant did not hold.
    pub fn give_up<W: Wire>(&mut self, wire: &mut W) {
        wire.abort(Side::Client);
        self.outcome = None;
        self.close(CloseReason::Panicked, wire);
    }

    /// Does all that can be done now.
    pub fn drive<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> Drive {
        let mut moved = 0;
        loop {
            if matches!(self.phase, Phase::Handshake) && self.route.tls.is_none() {
                self.start_dialling(now, Verdict::plaintext(), scratch, wire);
            }
            let mut work = 0;
            if self.ready.contains(Ready::CLIENT_BROKEN) && !self.wants_client() {
                self.client_broke(scratch, wire);
                work += 1;
            }
            work += self.flush(now, scratch, wire);
            work += self.pass_on_ends(now, scratch, wire);
            if self.ready.contains(Ready::CLIENT_READ) && self.wants_client() {
                work += self.read_client(now, scratch, wire);
            }
            match self.phase {
                Phase::Dialling(Attempt { wait: None, .. }) if self.ready.contains(Ready::BACKEND_WRITE) => {
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
            if self.route.abort_on_close
                && matches!(self.phase, Phase::Dialling(_))
                && self.to_backend.flow != Flow::Open
            {
                self.close(CloseReason::ClientAborted, wire);
            }
            if matches!(self.phase, Phase::Closed) {
                if self.must_reset_client() {
                    wire.abort(Side::Client);
                }
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
                        self.client.took = now.instant;
                        let patience = self.patience();
                        if let (Phase::Closing { until, .. }, true) = (&mut self.phase, patience > LINGER) {
                            *until = now.instant + patience;
                        }
                    }
                }
                Err(_) => self.client_broke(scratch, wire),
            }
        }
        if matches!(self.phase, Phase::Relay) && self.to_backend.pending() > 0 {
            match self.to_backend.flush(wire, &mut self.ready, &mut scratch.pool) {
                Ok(count) => {
                    sent += count;
                    if count > 0 {
                        self.server.took = now.instant;
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
            if let (Farewell::Due, Some(engine)) = (self.farewell, &mut self.engine) {
                self.farewell = Farewell::Said;
                scratch.outgoing.clear();
                match engine.close_notify(&mut scratch.outgoing) {
                    Ok(()) => {
                        wire.announce_end(Side::Client);
                        self.send_to_client(now, scratch, wire);
                    }
                    Err(_) => self.fail(CloseReason::KeysExhausted),
                }
            }
            if self.to_client.flow == Flow::Ending && self.to_client.pending() == 0 {
                self.to_client.flow = Flow::Ended;
                passed += 1;
                if !self.must_reset_client() {
                    wire.shutdown_write(Side::Client);
                } else if self.report.bytes_to_client == 0 {
                    // Nothing is on its way that a reset could destroy.
                    self.phase = Phase::Closed;
                }
                if let Phase::Closing { until, .. } = &mut self.phase {
                    *until = now.instant + LINGER;
                }
            }
        }
        if self.to_backend.flow == Flow::Ended && self.to_client.flow == Flow::Ended {
            self.fail(CloseReason::Complete);
            match self.phase {
                _ if self.client_end => self.phase = Phase::Closed,
                Phase::Relay => self.phase = Phase::Closing { until: now.instant + LINGER, discarded: 0 },
                _ => {}
            }
        }
        passed
    }

    /// Reads from the backend and encrypts for the client.
    fn read_backend<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        let mut plain = std::mem::take(&mut scratch.plain);
        let mut moved = 0;
        while self.to_client.flow == Flow::Open && self.to_client.pending() == 0 && moved < TURN_BYTES {
            let size = self.to_client.read_size();
            match wire::read(wire, Side::Backend, &mut self.ready, &mut plain[..size]) {
                Read::Bytes(count) => {
                    moved += count;
                    self.report.bytes_to_client += count as u64;
                    self.server.sent = now.instant;
                    match &mut self.engine {
                        Some(engine) => {
                            scratch.outgoing.clear();
                            if engine.encrypt(&plain[..count], &mut scratch.outgoing).is_err() {
                                self.cut(now, scratch, wire, CloseReason::KeysExhausted);
                                break;
                            }
                            self.send_to_client(now, scratch, wire);
                        }
                        None => match self.to_client.send(wire, &mut self.ready, &plain[..count], &mut scratch.pool) {
                            Ok(0) => {}
                            Ok(_) => self.client.took = now.instant,
                            Err(_) => self.client_broke(scratch, wire),
                        },
                    }
                    self.to_client.handle_read(count == size, false);
                }
                Read::Blocked => break,
                // The kernel reports a reset once; if a write was told, a read only sees an end.
                Read::End if self.backend_reset => {
                    self.cut(now, scratch, wire, CloseReason::ServerAborted);
                    moved += 1;
                }
                Read::End => {
                    self.to_client.flow = Flow::Ending;
                    moved += 1;
                }
                Read::Broken => {
                    self.cut(now, scratch, wire, CloseReason::ServerAborted);
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
            Ok(_) => self.client.took = now.instant,
            Err(_) => self.client_broke(scratch, wire),
        }
    }
}
