//! From the end of the handshake to the server's answer: the verdict is spent, the PROXY header written.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Connection, Now, Phase, Redial, Scratch};
use crate::proto::close::{CloseReason, ConnectionFailure};
use crate::proto::proxy_out::{self, Endpoints, Header};
use crate::proto::wire::{Ready, Wire};
use crate::tls::identity::Verdict;

/// First and longest pause before a unix socket whose queue is full is dialled again.
pub(super) const REDIAL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

impl Connection {
    /// The handshake may be complete: take the verdict and dial.
    pub(super) fn establish<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) {
        let Some(engine) = self.engine.as_mut().filter(|engine| !engine.is_handshaking()) else { return };
        let Some(policy) = &self.policy else { return };
        match engine.establish(policy, now.unix) {
            Ok(established) => {
                self.report.client_verify = established.verdict.client().label();
                self.session = Some(Box::new(established.session));
                self.start_dialling(now, established.verdict, scratch, wire);
            }
            Err(failure) => self.refuse(now, scratch, wire, ConnectionFailure::tls(failure, &[])),
        }
    }

    pub(super) fn start_dialling<W: Wire>(&mut self, now: Now, verdict: Verdict, scratch: &mut Scratch, wire: &mut W) {
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
                self.cut(now, scratch, wire, CloseReason::Header(error));
                return;
            }
        }
        self.dial(now, now.instant, REDIAL.0, verdict, scratch, wire);
    }

    pub(super) fn dial<W: Wire>(
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
            Err((error, _)) => self.cut(now, scratch, wire, CloseReason::ConnectFailed(error)),
        }
    }

    pub(super) fn finish_dialling<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        match wire.connected() {
            Ok(()) => {
                self.phase = Phase::Relay;
                self.report.connected = Some(now.instant);
                self.last_backend = now.instant;
                // The time that the server took was not the client's.
                self.last_client = now.instant;
            }
            Err(error) => self.cut(now, scratch, wire, CloseReason::ConnectFailed(error)),
        }
        1
    }
}
