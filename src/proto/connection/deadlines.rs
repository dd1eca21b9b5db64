//! Who is waited for, and for how long.

use std::time::{Duration, Instant};

use super::{Activity, Attempt, Connection, Now, PENDING_BYTES, Phase, Scratch};
use crate::proto::close::{CloseReason, ConnectionFailure};
use crate::proto::pump::Flow;
use crate::proto::wire::Wire;

impl Connection {
    /// When [`Connection::handle_deadline`] must be called if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let timeouts = &self.route.timeouts;
        match &self.phase {
            Phase::ProxyHeader | Phase::Greeting { .. } | Phase::Handshake => {
                Some(self.report.accepted + timeouts.handshake)
            }
            Phase::Dialling(Attempt { since, wait, .. }) => {
                let end = timeouts.connect.map(|timeout| *since + timeout);
                earliest(end, wait.as_ref().map(|wait| wait.at))
            }
            Phase::Relay => self.relay_deadline().map(|(deadline, _)| deadline),
            Phase::Closing { until, .. } => Some(*until),
            Phase::Closed => None,
        }
    }

    /// A side is only waited for while it has something to do: to send what would be read, or to read what waits for it.
    fn relay_deadline(&self) -> Option<(Instant, CloseReason)> {
        let timeouts = &self.route.timeouts;
        let open = self.to_backend.flow == Flow::Open && self.to_client.flow == Flow::Open;
        if let (true, Some(tunnel)) = (open, timeouts.tunnel) {
            let (client, server) = (self.client.last(), self.server.last());
            let last = client.max(server);
            let reason = if client < server { CloseReason::ClientTimeout } else { CloseReason::ServerTimeout };
            return Some((last + tunnel, reason));
        }
        let timeout = |usual: Option<Duration>, fin: Option<Duration>| match open {
            true => usual,
            false => fin.or(timeouts.tunnel).or(usual),
        };
        let independent = self.route.independent;
        let from_client = self.to_backend.flow == Flow::Open && self.to_backend.pending() < PENDING_BYTES;
        let from_backend = self.to_client.flow == Flow::Open && self.to_client.pending() == 0;
        let client = timeout(timeouts.client, timeouts.client_fin)
            .zip(silent_since(&self.client, independent.client, from_client, self.to_client.pending() > 0))
            .map(|(timeout, since)| since + timeout);
        let server = timeout(timeouts.server, timeouts.server_fin)
            .zip(silent_since(&self.server, independent.server, from_backend, self.to_backend.pending() > 0))
            .map(|(timeout, since)| since + timeout);
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
            Phase::ProxyHeader => self.refuse(now, scratch, wire, ConnectionFailure::ProxyTimeout),
            Phase::Greeting { .. } | Phase::Handshake => self.close(CloseReason::HandshakeTimeout, wire),
            Phase::Dialling(_) => self.handle_dialling_deadline(now, scratch, wire),
            Phase::Relay => {
                if let Some((_, reason)) = self.relay_deadline() {
                    self.cut(now, scratch, wire, reason);
                }
            }
            Phase::Closing { .. } => self.phase = Phase::Closed,
            Phase::Closed => {}
        }
    }
}

/// Since when a side has done nothing that it was expected to do: to send, or to take what waits. `None`: nothing is.
fn silent_since(side: &Activity, independent: bool, to_send: bool, to_take: bool) -> Option<Instant> {
    if !independent {
        return (to_send || to_take).then(|| side.last());
    }
    earliest(to_send.then_some(side.sent), to_take.then_some(side.took))
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
