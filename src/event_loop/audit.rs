//! What is recorded about a connection: facts, copied as they are. Whoever writes the record derives the rest from them.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

use super::Loop;
use super::slots::{Key, Slot};
use crate::conf::model::AuditEvent;
use crate::log::audit::{CertificateFacts, ConnectionFacts, Record, ServerFacts, TlsFacts, Verify};
use crate::proto::close::{CloseReason, ConnectionFailure, Kill};
use crate::proto::proxy_out::Endpoint;
use crate::snapshot::Bind;
use crate::stats::labels::{ClientVerify, Label};
use crate::sys;
use crate::tls::identity::TlsSession;

impl Loop {
    /// A client was let in.
    pub(super) fn audit_established(&mut self, key: Key) {
        let Some(slot) = self.slots.slot(key) else { return };
        if slot.bind.frontend.audit.wants_record(AuditEvent::Establish) {
            let record = Record::Connection(AuditEvent::Establish, Box::new(facts(slot)));
            self.queue.record(&slot.bind.frontend.audit, record);
        }
    }

    /// A connection has come to its end.
    pub(super) fn audit_end(&self, slot: &Slot, reason: &CloseReason, now: Instant) {
        let audit = &slot.bind.frontend.audit;
        let report = slot.connection.report();
        let event = event(reason, report.established.is_some());
        if !audit.wants_record(event) {
            return;
        }
        let mut facts = facts(slot);
        if let CloseReason::Refused(failure) = reason {
            if let ConnectionFailure::Tls { failure, .. } = &**failure {
                facts.sni = failure.sni.clone();
                facts.certificate = failure.client_verify().map(|result| {
                    let der = failure.refusal.as_ref().and_then(|refusal| refusal.certificate.clone());
                    certificate(result, der)
                });
            }
        }
        facts.bytes = report.established.map(|_| (report.bytes_to_backend, report.bytes_to_client));
        facts.duration = Some(now.saturating_duration_since(report.accepted));
        facts.termination = Some(reason.termination(report.stage));
        facts.alert = reason.alert();
        facts.error = words(reason, report.heard.is_some());
        self.queue.record(audit, Record::Connection(event, Box::new(facts)));
    }

    /// A client was turned away as soon as it had come.
    pub(super) fn audit_denied(&self, id: u128, bind: &Bind, peer: Option<SocketAddr>, local: Option<SocketAddr>) {
        let frontend = &bind.frontend;
        if frontend.audit.wants_record(AuditEvent::Denied) {
            let error = Some("a port below 1024 is not accepted from clients".into());
            let facts = ConnectionFacts { id, client: peer, local, error, ..place(bind) };
            self.queue.record(&frontend.audit, Record::Connection(AuditEvent::Denied, Box::new(facts)));
        }
    }
}

fn event(reason: &CloseReason, established: bool) -> AuditEvent {
    match reason {
        CloseReason::Killed(_) => AuditEvent::Cut,
        CloseReason::Refused(failure) if matches!(**failure, ConnectionFailure::ProxyHeader(_)) => AuditEvent::Denied,
        CloseReason::Refused(failure) if matches!(**failure, ConnectionFailure::ProxyTimeout) => AuditEvent::Denied,
        _ if established => AuditEvent::Close,
        _ => AuditEvent::HandshakeFailed,
    }
}

/// Where a connection came in.
fn place(bind: &Bind) -> ConnectionFacts {
    ConnectionFacts {
        generation: bind.frontend.generation,
        frontend: bind.frontend.name.clone(),
        listener: bind.name.clone(),
        ..ConnectionFacts::default()
    }
}

/// What is known of a connection wherever it stands.
fn facts(slot: &Slot) -> ConnectionFacts {
    let (connection, bind) = (&slot.connection, &slot.bind);
    let report = connection.report();
    let received = connection.received();
    let inet = |endpoint: Option<Endpoint>| match endpoint {
        Some(Endpoint::Inet(address)) => Some(address),
        _ => None,
    };
    let announced = inet(received.and_then(|received| received.source));
    let local = inet(received.and_then(|received| received.destination)).or_else(|| slot.client.local_address());
    let session = connection.session();
    ConnectionFacts {
        id: connection.id(),
        client: announced.or(slot.peer),
        local,
        proxy_source: slot.peer.filter(|_| received.is_some()),
        server: slot.counted.established.then(|| ServerFacts {
            backend: bind.backend.name.clone(),
            server: bind.backend.server.clone(),
            address: bind.route.target_for(|| local).map(|target| target.to_string()),
        }),
        sni: session.and_then(|session| session.sni.clone()),
        tls: session.map(tls),
        certificate: report.client_verify.map(|result| certificate(result, connection.certificate().map(Into::into))),
        handshake: session.and(report.established).map(|at| at.saturating_duration_since(report.accepted)),
        connect: report.established.zip(report.connected).map(|(from, to)| to.saturating_duration_since(from)),
        ..place(bind)
    }
}

fn tls(session: &TlsSession) -> TlsFacts {
    TlsFacts {
        version: session.version,
        cipher: session.cipher,
        group: session.group,
        alpn: session.alpn.clone(),
        resumed: session.resumed,
        server_certificate: (!session.resumed).then_some(session.server.sha256),
    }
}

fn certificate(result: ClientVerify, der: Option<Box<[u8]>>) -> CertificateFacts {
    let verify = match result {
        ClientVerify::Ok => Verify::Ok,
        ClientVerify::None | ClientVerify::Missing => Verify::None,
        _ => Verify::Failed,
    };
    CertificateFacts { verify, reason: (verify == Verify::Failed).then(|| result.word()), der }
}

/// What happened, in words; `None` if it simply came to its end. `heard` says whether the client ever sent a byte.
fn words(reason: &CloseReason, heard: bool) -> Option<Cow<'static, str>> {
    Some(match reason {
        CloseReason::Complete => return None,
        CloseReason::Refused(failure) => match &**failure {
            ConnectionFailure::Tls { plain_http: true, .. } => "plain HTTP on a TLS port".into(),
            ConnectionFailure::Tls { failure, .. } => match &failure.refusal {
                Some(refusal) => refusal.words.clone().into(),
                None => failure.reason.clone().into(),
            },
            ConnectionFailure::ProxyHeader(reason) => reason.to_string().into(),
            ConnectionFailure::ProxyTimeout => "the PROXY header was not there in time".into(),
            ConnectionFailure::Words(words) => (*words).into(),
        },
        CloseReason::HandshakeAborted if !heard => "the client left without a byte".into(),
        CloseReason::HandshakeAborted => "the client left in the middle of the handshake".into(),
        CloseReason::HandshakeTimeout if !heard => "the client was silent until 'timeout client-hs'".into(),
        CloseReason::HandshakeTimeout => "the handshake was not complete in time".into(),
        CloseReason::Header(error) => format!("the PROXY header for the server cannot be written: {error}").into(),
        CloseReason::NoServer => "there is no server that takes connections".into(),
        CloseReason::ConnectFailed(error) => format!("the server cannot be reached: {}", sys::reason(error)).into(),
        CloseReason::ConnectTimeout => "the server did not answer in time".into(),
        CloseReason::ClientAborted => "the client broke off".into(),
        CloseReason::ClientProtocol(failure) => failure.reason.clone().into(),
        CloseReason::Flood => "the client sent too much that carried nothing".into(),
        CloseReason::ServerAborted => "the server broke off".into(),
        CloseReason::ClientTimeout => "the client was silent for too long".into(),
        CloseReason::ServerTimeout => "the server was silent for too long".into(),
        CloseReason::KeysExhausted => "TLS 1.2 allows no more records under the same keys".into(),
        CloseReason::Killed(Kill::Command) => "shut down by a command".into(),
        CloseReason::Killed(Kill::Stop) => "the process stops".into(),
        CloseReason::Panicked => "given up: an invariant did not hold".into(),
    })
}
