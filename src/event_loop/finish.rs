//! What is counted and logged about a connection.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Loop;
use super::slots::{Key, Slot};
use crate::log::line::{ClientAddress, ClientCertificate, ConnectLine, ConnectionRecord, Failure, FailureRecord};
use crate::proto::close::{CloseReason, ConnectionFailure};
use crate::proto::connection::Now;
use crate::proto::proxy_in;
use crate::proto::proxy_out::Endpoint;
use crate::stats::Stats;
use crate::stats::labels::{HandshakeKind, Termination};

/// Severity of lines about errors where they are told apart: `err`.
const ERROR: u8 = 3;
/// Severity of traffic lines: informational.
const INFO: u8 = 6;
/// Severity of what an operator should look at.
const WARNING: u8 = 4;

impl Loop {
    pub(super) fn count_accept(&mut self, key: Key) {
        let Some(slot) = self.slots.slot(key) else { return };
        slot.bind.open.fetch_add(1, Ordering::Relaxed);
        let frontend = slot.bind.frontend.counters.slot(self.index);
        frontend.active.add(1);
        frontend.accepted.add(1);
        let process = self.stats.process().slot(self.index);
        process.active.add(1);
        process.accepted.add(1);
        process.tls_active.add(u64::from(slot.bind.route.tls.is_some()));
    }

    /// Counts what a connection has come to: a handshake, a server, and its bytes so far, so that a long life shows while it
    /// lasts.
    pub(super) fn count_progress(&mut self, key: Key) {
        let Some(slot) = self.slots.slot(key) else { return };
        let report = slot.connection.report();
        if slot.counted.established != report.established.is_some() {
            slot.counted.established = true;
            self.count_established(key);
            self.audit_established(key);
        }
        let Some(slot) = self.slots.slot(key) else { return };
        let (report, counted) = (slot.connection.report(), &mut slot.counted);
        let to_backend = report.bytes_to_backend - counted.to_backend;
        let to_client = report.bytes_to_client - counted.to_client;
        if to_backend + to_client > 0 {
            (counted.to_backend, counted.to_client) = (report.bytes_to_backend, report.bytes_to_client);
            let frontend = slot.bind.frontend.counters.slot(self.index);
            frontend.bytes_from_clients.add(to_backend);
            frontend.bytes_to_clients.add(to_client);
            let server = slot.bind.backend.server_counters.slot(self.index);
            server.bytes_to_server.add(to_backend);
            server.bytes_from_server.add(to_client);
        }
        if counted.retries != report.retries {
            let server = slot.bind.backend.server_counters.slot(self.index);
            server.retries.add(u64::from(report.retries - counted.retries));
            counted.retries = report.retries;
        }
        if let (false, Some(established), Some(connected)) = (counted.connected, report.established, report.connected) {
            counted.connected = true;
            let server = slot.bind.backend.server_counters.slot(self.index);
            server.connect_time.observe(connected.saturating_duration_since(established));
        }
    }

    /// Counts a connection that has begun to use its server; tells of it where there will be no line at its end.
    fn count_established(&mut self, key: Key) {
        let Some(slot) = self.slots.slot(key) else { return };
        let backend = slot.bind.backend.counters.slot(self.index);
        backend.active.add(1);
        backend.chosen.add(1);
        slot.bind.backend.server_counters.slot(self.index).active.add(1);
        let report = slot.connection.report();
        if let (Some(session), Some(heard)) = (slot.connection.session(), report.heard) {
            let frontend = slot.bind.frontend.counters.slot(self.index);
            let kind = HandshakeKind::new(session.version == "TLSv1.3", session.resumed);
            frontend.handshakes.of(kind).add(1);
            // Not the time of the turn: the last step of the handshake is the one that costs most.
            frontend.handshake_time.observe(Instant::now().saturating_duration_since(heard));
            report.client_verify.into_iter().for_each(|result| frontend.client_verify.of(result).add(1));
            report.ticket_refused.into_iter().for_each(|refusal| frontend.tickets_refused.of(refusal).add(1));
        }
        let frontend = &slot.bind.frontend;
        if !frontend.tcplog && frontend.log.wants(INFO) {
            let mut line = String::new();
            let announced = slot.connection.received().and_then(|received| match received.destination {
                Some(Endpoint::Inet(address)) => Some(address),
                _ => None,
            });
            let local = announced.or_else(|| slot.client.local_address());
            let record = ConnectLine { client: client(slot), local, frontend: &frontend.name };
            record.connect(&mut line);
            self.queue.send(&frontend.log, INFO, line);
        }
    }

    /// The connection is over: counts, log, sockets.
    pub(super) fn finish(&mut self, key: Key, now: Now) {
        let Some(slot) = self.slots.remove(key) else { return };
        let reason = slot.connection.outcome().unwrap_or(&CloseReason::Complete);
        self.log(&slot, reason, now.instant);
        self.audit_end(&slot, reason, now.instant);
        slot.bind.open.fetch_sub(1, Ordering::Relaxed);
        let process = self.stats.process().slot(self.index);
        process.active.subtract(1);
        process.tls_active.subtract(u64::from(slot.bind.route.tls.is_some()));
        process.panics.add(u64::from(matches!(reason, CloseReason::Panicked)));
        let report = slot.connection.report();
        let frontend = slot.bind.frontend.counters.slot(self.index);
        frontend.active.subtract(1);
        if let Some(state) = Termination::new(reason.termination(report.stage)) {
            frontend.closed.of(state).add(1);
        }
        if slot.counted.established {
            slot.bind.backend.counters.slot(self.index).active.subtract(1);
            let server = slot.bind.backend.server_counters.slot(self.index);
            server.active.subtract(1);
            reason.connect_error().into_iter().for_each(|error| server.connect_errors.of(error).add(1));
        } else if slot.awaits_proxy_header() {
            let failure = reason.proxy_failure(report.heard.is_some());
            failure.into_iter().for_each(|failure| frontend.proxy_failures.of(failure).add(1));
        } else {
            let heard = report.heard.is_some();
            let failure = reason.handshake_failure(heard);
            failure.into_iter().for_each(|failure| frontend.handshake_failures.of(failure).add(1));
            reason.client_verify().into_iter().for_each(|result| frontend.client_verify.of(result).add(1));
            report.ticket_refused.into_iter().for_each(|refusal| frontend.tickets_refused.of(refusal).add(1));
        }
        // Last, so that who sees a life ended finds the rest of it counted.
        frontend.lifetime.observe(now.instant.saturating_duration_since(report.accepted));
    }

    /// Writes the line of a connection that the server has accepted, if it is wanted as soon as that.
    pub(super) fn log_connected(&mut self, key: Key, now: Now) {
        let Some(slot) = self.slots.slot(key) else { return };
        let frontend = &slot.bind.frontend;
        if !frontend.logasap || !frontend.tcplog || slot.logged || slot.connection.report().connected.is_none() {
            return;
        }
        slot.logged = true;
        let failed = slot.connection.report().retries > 0;
        if frontend.dontlog_normal && !failed {
            return;
        }
        self.line.clear();
        let level = if frontend.log_separate_errors && failed { ERROR } else { INFO };
        record_line(slot, &CloseReason::Complete, &self.stats, now.instant, &mut self.line);
        self.queue.send(&frontend.log, level, std::mem::take(&mut self.line));
    }

    fn log(&mut self, slot: &Slot, reason: &CloseReason, now: Instant) {
        let frontend = &slot.bind.frontend;
        let error_level = if frontend.log_separate_errors { ERROR } else { INFO };
        if let CloseReason::Panicked = reason {
            log::error!("a connection of frontend {} was given up: an invariant did not hold", frontend.name);
        }
        self.line.clear();
        let level = match reason {
            CloseReason::Refused(_) | CloseReason::HandshakeAborted | CloseReason::HandshakeTimeout => {
                let proxy = slot.awaits_proxy_header();
                let heard = slot.connection.report().heard.is_some();
                if frontend.dontlognull && !heard || !frontend.log.wants(error_level) {
                    return;
                }
                failure_line(slot, reason, proxy, heard, &mut self.line);
                error_level
            }
            CloseReason::Header(error) => {
                let _ = write!(
                    self.line,
                    "{}/{}: the PROXY header for {}/{} cannot be written, the connection was closed: {error}",
                    frontend.name, slot.bind.name, slot.bind.backend.name, slot.bind.backend.server
                );
                WARNING
            }
            // HAProxy looks at the client's bytes alone.
            _ if frontend.dontlognull && slot.connection.report().bytes_to_backend == 0 => return,
            _ if !frontend.tcplog || slot.logged => return,
            _ => {
                let failed = !matches!(reason, CloseReason::Complete) || slot.connection.report().retries > 0;
                if frontend.dontlog_normal && !failed {
                    return;
                }
                record_line(slot, reason, &self.stats, now, &mut self.line);
                if failed { error_level } else { INFO }
            }
        };
        self.queue.send(&frontend.log, level, std::mem::take(&mut self.line));
    }
}

fn record_line(slot: &Slot, reason: &CloseReason, stats: &Stats, now: Instant, line: &mut String) {
    let report = slot.connection.report();
    let bind = &slot.bind;
    let unfinished = slot.connection.outcome().is_none();
    let millis = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as u64;
    // At its end a connection no longer counts for its server.
    let gone = u64::from(slot.counted.established && !unfinished);
    ConnectionRecord {
        client: client(slot),
        accepted_at: slot.accepted_at,
        frontend: &bind.frontend.name,
        tls: bind.route.tls.is_some(),
        backend: Some(&bind.backend.name),
        server: (slot.counted.established && bind.route.target.is_some()).then_some(bind.backend.server.as_str()),
        wait_ms: report.established.filter(|_| bind.route.target.is_some()).map(|at| millis(report.accepted, at)),
        connect_ms: report.established.zip(report.connected).map(|(from, to)| millis(from, to)),
        total_ms: millis(report.accepted, now),
        bytes_to_client: report.bytes_to_client,
        termination: reason.termination(report.stage),
        process_connections: stats.process().active(),
        frontend_connections: bind.frontend.counters.active(),
        backend_connections: bind.backend.counters.active().saturating_sub(gone),
        server_connections: bind.backend.server_counters.active().saturating_sub(gone),
        retries: report.retries,
        unfinished,
    }
    .tcp(line);
}

/// The client's address: what a PROXY header announced, else the socket's.
pub(super) fn client(slot: &Slot) -> ClientAddress {
    let announced = slot.connection.received().and_then(|received| match received.source {
        Some(Endpoint::Inet(address)) => Some(address),
        _ => None,
    });
    let address: Option<SocketAddr> = announced.or(slot.peer);
    address.map_or(ClientAddress::Unix { listener: slot.bind.number }, ClientAddress::Inet)
}

fn failure_line(slot: &Slot, reason: &CloseReason, proxy: bool, heard: bool, line: &mut String) {
    let mut record = FailureRecord {
        client: client(slot),
        accepted_at: slot.accepted_at,
        frontend: &slot.bind.frontend.name,
        listener: &slot.bind.name,
        failure: Failure::TlsHandshake,
        reason: None,
        certificate: None,
        alert_sent: None,
        alert_received: None,
        sni: None,
    };
    let words;
    match reason {
        CloseReason::HandshakeTimeout if proxy => record.failure = Failure::ProxyTimeout,
        CloseReason::HandshakeTimeout => record.failure = Failure::TlsTimeout,
        CloseReason::HandshakeAborted => {
            record.failure = match (proxy, heard) {
                (true, false) => Failure::ProxyEmpty,
                (true, true) => Failure::ProxyTruncated,
                (false, false) => Failure::TlsEmpty,
                (false, true) => Failure::TlsAborted,
            }
        }
        CloseReason::Refused(failure) => match &**failure {
            ConnectionFailure::Tls { failure, plain_http } => {
                record.reason = Some(if *plain_http { "plain HTTP on a TLS port" } else { &failure.reason });
                record.alert_sent = failure.alert;
                record.sni = failure.sni.as_deref().map(str::as_bytes);
                if let Some(refusal) = &failure.refusal {
                    record.reason = Some(&refusal.words);
                    record.certificate = Some(ClientCertificate {
                        subject: refusal.subject.as_deref(),
                        issuer: refusal.issuer.as_deref(),
                        serial: refusal.serial.as_deref(),
                    });
                }
            }
            ConnectionFailure::ProxyHeader(reason) => {
                record.failure = match reason {
                    proxy_in::Reason::Signature => Failure::ProxyNotHeader,
                    _ => Failure::ProxyInvalid,
                };
                words = reason.to_string();
                record.reason = Some(&words);
            }
            ConnectionFailure::ProxyTimeout => record.failure = Failure::ProxyTimeout,
            ConnectionFailure::Words(words) => record.reason = Some(words),
        },
        _ => {}
    }
    record.failure(line);
}
