//! From the end of the handshake to the server's answer: the verdict is spent, the PROXY header written.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Activity, Attempt, Connection, Now, Phase, Redial, Scratch};
use crate::proto::close::{self, CloseReason, ConnectionFailure};
use crate::proto::proxy_out::{self, Endpoint, Endpoints, Header};
use crate::proto::route::Route;
use crate::proto::wire::{Ready, Side, Target, Wire};
use crate::tls::identity::{Client, Verdict};

/// First and longest pause before a unix socket whose queue is full is dialled again.
const REDIAL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Longest pause between two attempts, as in HAProxy (manual, 4.2, "retries").
const TURN_AROUND: Duration = Duration::from_secs(1);

impl Connection {
    /// The handshake may be complete: take the verdict and dial.
    pub(super) fn establish<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) {
        let Some(engine) = self.engine.as_mut().filter(|engine| !engine.is_handshaking()) else { return };
        let Some(policy) = &self.policy else { return };
        match engine.establish(policy, now.unix) {
            Ok(established) => {
                self.report.client_verify = established.verdict.client().label();
                self.session = Some(Box::new(established.session));
                if let Client::Verified { leaf, .. } = established.verdict.client() {
                    self.certificate = Some(leaf.as_ref().into());
                }
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
        self.dial(now, Attempt { verdict, since: now.instant, wait: None }, Duration::ZERO, scratch, wire);
    }

    /// Makes a socket for an attempt. `paused` is how long it has waited for a place in a queue the last time.
    fn dial<W: Wire>(&mut self, now: Now, attempt: Attempt, paused: Duration, scratch: &mut Scratch, wire: &mut W) {
        let route = Arc::clone(&self.route);
        let Some(target) = self.target(&route, wire) else {
            return self.cut(now, scratch, wire, CloseReason::NoServer);
        };
        self.ready.remove(Ready::BACKEND_READ | Ready::BACKEND_WRITE | Ready::BACKEND_END);
        match wire.dial(&target, &attempt.verdict) {
            Ok(()) => self.phase = Phase::Dialling(Attempt { wait: None, ..attempt }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let pause = (paused * 2).clamp(REDIAL.0, REDIAL.1);
                let wait = Some(Redial { at: now.instant + pause, pause });
                self.phase = Phase::Dialling(Attempt { wait, ..attempt });
            }
            Err(error) => self.try_again(now, attempt.verdict, CloseReason::ConnectFailed(error), scratch, wire),
        }
    }

    /// Where the server is for this connection.
    fn target<'a, W: Wire>(&self, route: &'a Route, wire: &W) -> Option<Cow<'a, Target>> {
        route.target_for(|| {
            let announced = self.received.as_deref().and_then(|received| received.destination);
            match announced.unwrap_or_else(|| wire.endpoints().destination) {
                Endpoint::Inet(destination) => Some(destination),
                _ => None,
            }
        })
    }

    pub(super) fn finish_dialling<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) -> usize {
        let Phase::Dialling(attempt) = std::mem::replace(&mut self.phase, Phase::Relay) else { return 0 };
        match wire.connected() {
            Ok(()) => {
                self.report.connected = Some(now.instant);
                self.server = Activity::at(now.instant);
                // The time that the server took was not the client's.
                self.client = Activity::at(now.instant);
            }
            Err(error) => self.try_again(now, attempt.verdict, CloseReason::ConnectFailed(error), scratch, wire),
        }
        1
    }

    pub(super) fn handle_dialling_deadline<W: Wire>(&mut self, now: Now, scratch: &mut Scratch, wire: &mut W) {
        let Phase::Dialling(attempt) = &mut self.phase else { return };
        let late = self.route.timeouts.connect.is_some_and(|timeout| attempt.since + timeout <= now.instant);
        let wait = attempt.wait.take();
        if !late && wait.is_none() {
            return;
        }
        let Phase::Dialling(attempt) = std::mem::replace(&mut self.phase, Phase::Closed) else { return };
        match wait {
            Some(wait) if !late => self.dial(now, attempt, wait.pause, scratch, wire),
            _ => self.try_again(now, attempt.verdict, CloseReason::ConnectTimeout, scratch, wire),
        }
    }

    /// An attempt has failed: begins the next, if there may be one, or gives up.
    fn try_again<W: Wire>(
        &mut self,
        now: Now,
        verdict: Verdict,
        reason: CloseReason,
        scratch: &mut Scratch,
        wire: &mut W,
    ) {
        // What is missing here will be missing for the next attempt too, and makes things worse.
        let hopeless = matches!(&reason, CloseReason::ConnectFailed(error) if close::is_exhaustion(error));
        // For `cut`: it is no connection any more, and none yet.
        self.phase = Phase::Relay;
        if hopeless || self.report.retries >= self.route.retries {
            return self.cut(now, scratch, wire, reason);
        }
        self.report.retries += 1;
        wire.abort(Side::Backend);
        let attempt = Attempt { verdict, since: now.instant, wait: None };
        if matches!(reason, CloseReason::ConnectTimeout) {
            return self.dial(now, attempt, Duration::ZERO, scratch, wire);
        }
        // A server that refuses needs a moment before it is asked again.
        let pause = self.route.timeouts.connect.unwrap_or(TURN_AROUND).min(TURN_AROUND);
        let at = now.instant + pause;
        let wait = Some(Redial { at, pause: Duration::ZERO });
        self.phase = Phase::Dialling(Attempt { since: at, wait, ..attempt });
    }
}
