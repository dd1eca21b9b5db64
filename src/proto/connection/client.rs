//! What comes from the client: header, ClientHello, records; and how much of it may mean nothing.

use std::time::Duration;

use super::{Connection, Now, Phase, Scratch, TURN_BYTES};
use crate::conf::model::ProxyVersion;
use crate::proto::close::{CloseReason, ConnectionFailure};
use crate::proto::proxy_in::{self, Parse};
use crate::proto::pump::Flow;
use crate::proto::wire::{self, Read, Ready, Side, Wire};
use crate::tls::engine::{Engine, Progress};
use crate::tls::identity::Verdict;

/// Records that yield no plaintext: more than this within a second ends the connection, whatever comes between them. Limits of
/// a kind in a row are evaded by alternating.
const IDLE_WIRE_BYTES: usize = 64 * 1024;

/// Work that a record is, beside its bytes: one byte costs as much time as this many in long records.
const RECORD_COST: usize = 256;

/// Records whose work is less than this are few, however short they are.
const FEW: usize = 64 * 1024;

impl Connection {
    /// Reads from the client as long as there is something and somewhere to put it.
    pub(super) fn read_client<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        let mut incoming = std::mem::take(&mut scratch.incoming);
        let mut have = self.held.len();
        incoming[..have].copy_from_slice(&self.held);
        let mut moved = 0;
        while self.wants_client() && moved < TURN_BYTES {
            let size = self.to_backend.read_size().min(incoming.len() - have);
            match wire::read(wire, Side::Client, &mut self.ready, &mut incoming[have..have + size]) {
                Read::Bytes(count) => {
                    self.report.heard.get_or_insert(now.instant);
                    self.records = 0;
                    have += count;
                    let consumed = self.take(&mut incoming[..have], count, now, scratch, wire);
                    let records = self.records * RECORD_COST;
                    moved += count + records;
                    self.to_backend.handle_read(count == size, records > count.max(FEW));
                    incoming.copy_within(consumed..have, 0);
                    have -= consumed;
                    if have == incoming.len() {
                        // rustls refuses before this; without room there could be no progress.
                        self.refuse(now, scratch, wire, ConnectionFailure::Words("a message has no end"));
                        have = 0;
                    }
                }
                Read::Blocked => {
                    self.ready.remove(Ready::CLIENT_BROKEN);
                    break;
                }
                Read::End => {
                    self.client_end = true;
                    moved += 1;
                    self.client_ended(now, scratch, wire);
                }
                Read::Broken => {
                    self.client_broke(scratch, wire);
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
                    Parse::Complete { consumed, mut received } => {
                        if self.route.proxy.as_ref().is_some_and(|out| out.version == ProxyVersion::Received) {
                            received.header = bytes[..consumed].to_vec();
                        }
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
                        self.refuse(now, scratch, wire, ConnectionFailure::ProxyHeader(reason));
                        return bytes.len();
                    }
                },
                Phase::Greeting { .. } => match self.greet(&mut bytes[done..], now, scratch, wire) {
                    Some(consumed) => done += consumed,
                    None => return done,
                },
                Phase::Handshake | Phase::Dialling(_) | Phase::Relay => {
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
                self.refuse(now, scratch, wire, ConnectionFailure::tls(failure, bytes));
                return Some(bytes.len());
            }
        };
        if self.ready.contains(Ready::CLIENT_END) {
            // It has closed its side already, most likely tired of waiting, and can not finish a handshake.
            self.close(CloseReason::HandshakeAborted, wire);
            return Some(bytes.len());
        }
        match Engine::accept(policy, offer, bytes, now, &mut scratch.outgoing) {
            Ok((engine, progress)) => {
                self.report.ticket_refused = engine.ticket_refused();
                self.engine = Some(Box::new(engine));
                self.phase = Phase::Handshake;
                self.send_to_client(now, scratch, wire);
                Some(progress.consumed)
            }
            Err(failure) => {
                self.send_to_client(now, scratch, wire);
                self.refuse(now, scratch, wire, ConnectionFailure::tls(failure, bytes));
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
            self.count_idle_wire(new, now, wire);
            return bytes.len();
        }
        let mut plain = std::mem::take(&mut scratch.plain);
        scratch.outgoing.clear();
        let mut progress = Progress::default();
        let (result, plaintext) = match &mut self.engine {
            Some(engine) => {
                let result = engine.receive(bytes, now, &mut plain, &mut scratch.outgoing, &mut progress);
                (result, &plain[..progress.plaintext])
            }
            None => {
                progress = Progress { consumed: bytes.len(), records: 1, ..progress };
                (Ok(()), &*bytes)
            }
        };
        self.records += progress.records;
        if !plaintext.is_empty() {
            self.report.bytes_to_backend += plaintext.len() as u64;
            self.client.sent = now.instant;
            self.pass_to_backend(plaintext, now, scratch, wire);
        }
        scratch.plain = plain;
        if !scratch.outgoing.is_empty() {
            self.send_to_client(now, scratch, wire);
        }
        match result {
            Ok(()) => {
                if matches!(self.phase, Phase::Handshake) {
                    self.establish(now, scratch, wire);
                    let rest = &mut bytes[progress.consumed..];
                    if matches!(self.phase, Phase::Dialling(_) | Phase::Relay) && !rest.is_empty() {
                        // It came in the same read as the end of the handshake, and no event will tell of it.
                        let new = new.min(rest.len());
                        return progress.consumed + self.decrypt(rest, new, now, scratch, wire);
                    }
                }
                if progress.peer_closed {
                    self.close_notify_came();
                }
                if self.engine.is_some() && matches!(self.phase, Phase::Dialling(_) | Phase::Relay) {
                    self.count_idle_wire(progress.idle, now, wire);
                }
                progress.consumed
            }
            Err(failure) => {
                if matches!(self.phase, Phase::Handshake) {
                    self.refuse(now, scratch, wire, ConnectionFailure::tls(failure, &[]));
                } else {
                    self.cut(now, scratch, wire, CloseReason::ClientProtocol(failure));
                }
                bytes.len()
            }
        }
    }

    fn pass_to_backend<W: Wire>(&mut self, plaintext: &[u8], now: Now, scratch: &mut Scratch, wire: &mut W) {
        if self.to_backend.flow == Flow::Ended {
            return;
        }
        if !matches!(self.phase, Phase::Relay) || self.to_backend.flow != Flow::Open {
            return self.to_backend.store(plaintext, &mut scratch.pool);
        }
        match self.to_backend.send(wire, &mut self.ready, plaintext, &mut scratch.pool) {
            Ok(0) => {}
            Ok(_) => self.server.took = now.instant,
            Err(error) => self.backend_write_broke(&error, scratch),
        }
    }

    fn close_notify_came(&mut self) {
        // An end before the handshake is none: the deadline takes care of the client.
        if matches!(self.phase, Phase::Dialling(_) | Phase::Relay) {
            self.client_closed = true;
            if self.to_backend.flow == Flow::Open {
                self.to_backend.flow = Flow::Ending;
            }
        }
    }

    /// Ends a connection whose client keeps the decryption busy with nothing.
    fn count_idle_wire<W: Wire>(&mut self, new: usize, now: Now, wire: &mut W) {
        self.idle_wire += new;
        if self.idle_wire <= IDLE_WIRE_BYTES {
            return;
        }
        if now.instant.duration_since(self.idle_wire_since) < Duration::from_secs(1) {
            self.close(CloseReason::Flood, wire);
        } else {
            self.idle_wire = 0;
            self.idle_wire_since = now.instant;
        }
    }
}
