//! How it ends: whose end or abort it was, and what the other side is told.

use std::io;
use std::time::Duration;

use super::{Connection, Farewell, Now, Phase, Scratch, Stage};
use crate::proto::close::{CloseReason, ConnectionFailure};
use crate::proto::pump::Flow;
use crate::proto::wire::{Ready, Side, Wire};

/// How long a close waits for the client to take the last bytes and to answer with its own end. Long enough for any round
/// trip, short enough that nobody can park here (`shutdown` without it lets a reset destroy what is in flight).
pub(super) const LINGER: Duration = Duration::from_secs(2);

impl Connection {
    /// FIN from the client.
    pub(super) fn client_ended<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) {
        match self.phase {
            Phase::ProxyHeader | Phase::Greeting { .. } | Phase::Handshake => {
                self.close(CloseReason::HandshakeAborted, wire);
            }
            Phase::Dialling(_) | Phase::Relay if self.to_backend.flow == Flow::Open => {
                if self.engine.is_none() || self.route.accept_tls_eof {
                    self.to_backend.flow = Flow::Ending;
                } else {
                    // Cut off, by whomever: the backend must not take it for the end.
                    self.client_broke(scratch, wire);
                }
            }
            Phase::Closing { .. } if self.to_client.flow == Flow::Ended => self.phase = Phase::Closed,
            _ => {}
        }
        self.client.sent = now.instant;
    }

    /// RST from the client, or its socket is of no use any more.
    pub(super) fn client_broke<W: Wire>(&mut self, scratch: &mut Scratch, wire: &mut W) {
        if self.is_handshaking() {
            return self.close(CloseReason::HandshakeAborted, wire);
        }
        // By close_notify, or by FIN where that is an end.
        let ended = self.client_closed || self.client_end && self.to_backend.flow != Flow::Open;
        let said_all = ended && self.report.bytes_to_backend > 0;
        if said_all && matches!(self.phase, Phase::Dialling(_) | Phase::Relay) {
            // The end came first: what it sent is whole, and goes out. It only hears no answer. (A client that closes without
            // having read everything, the last session ticket for instance, sends RST by that.)
            self.fail(CloseReason::ClientAborted);
            self.client_end = true;
            self.to_client.discard(&mut scratch.pool);
            self.to_client.flow = Flow::Ended;
            self.ready.remove(Ready::CLIENT_BROKEN);
            return;
        }
        self.close(CloseReason::ClientAborted, wire);
    }

    /// A write to the backend failed. What it sent before is still to be read, and reading tells how it ended.
    pub(super) fn backend_write_broke(&mut self, error: &io::Error, scratch: &mut Scratch) {
        // EPIPE comes where FIN had come before the reset (tcp(7)): its own stream is whole.
        self.backend_reset |= error.kind() != io::ErrorKind::BrokenPipe;
        self.fail(CloseReason::ServerAborted);
        self.to_backend.discard(&mut scratch.pool);
        self.to_backend.flow = Flow::Ended;
        self.ready.insert(Ready::BACKEND_READ);
    }

    /// Aborts the server's side, and ends the client's without close_notify after what waits for it has gone out.
    pub(super) fn cut<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W, reason: CloseReason) {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Closed) {
            return;
        }
        wire.abort(Side::Backend);
        self.fail(reason);
        self.farewell = Farewell::Cut;
        self.to_backend.discard(&mut scratch.pool);
        self.to_backend.flow = Flow::Ended;
        if self.to_client.flow == Flow::Open {
            self.to_client.flow = Flow::Ending;
        }
        self.phase = Phase::Closing { until: now.instant + self.patience(), discarded: 0 };
    }

    /// How long a closing client may take to read on.
    pub(super) fn patience(&self) -> Duration {
        if self.to_client.pending() == 0 || self.report.established.is_none() {
            return LINGER;
        }
        // A slow client may take as long for the last bytes as it may be silent.
        self.route.timeouts.client_fin.or(self.route.timeouts.client).unwrap_or(LINGER).max(LINGER)
    }

    /// The client proved nothing: what is in the output (an alert) goes out, then the end.
    pub(super) fn refuse<W: Wire>(
        &mut self,
        now: Now,
        scratch: &mut Scratch,
        wire: &mut W,
        failure: ConnectionFailure,
    ) {
        self.cut(now, scratch, wire, CloseReason::Refused(Box::new(failure)));
    }

    /// Without TLS an end is told by FIN alone, so what breaks has to end with RST.
    pub(super) fn must_reset_client(&self) -> bool {
        self.farewell == Farewell::Cut && self.route.tls.is_none()
    }

    /// Ends at once.
    pub(super) fn close<W: Wire>(&mut self, reason: CloseReason, wire: &mut W) {
        wire.abort(Side::Backend);
        self.fail(reason);
        self.phase = Phase::Closed;
    }

    /// Keeps why and how far along it ended; what came first counts.
    pub(super) fn fail(&mut self, reason: CloseReason) {
        if self.outcome.is_some() {
            return;
        }
        self.report.stage = match () {
            () if self.report.established.is_none() => Stage::Request,
            () if self.report.connected.is_none() => Stage::Connect,
            () if self.to_backend.flow == Flow::Ended && self.to_client.flow != Flow::Open => Stage::Last,
            () => Stage::Data,
        };
        self.outcome = Some(reason);
    }
}
