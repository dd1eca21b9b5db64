//! Audit records as JSON, one object to a line.
//!
//! A member that is not known is absent. Text that a peer chose is escaped as in every other line and capped, so that it is
//! ASCII; a record that is too long loses members, never its end. There are no keys, tickets or payload in it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::escape::without_controls;
use crate::conf::model::AuditEvent;
use crate::tls::x509::{self, Certificate};

/// Alternative names of a certificate in a record.
const NAMES_MAX: usize = 64;
/// Bytes of such a name, before it is escaped.
const NAME_MAX: usize = 256;
/// Bytes of a sentence.
const SENTENCE_MAX: usize = 512;
/// Fingerprints that a reload tells of, of each kind.
const FINGERPRINTS_MAX: usize = 32;

/// What goes first when a record is too long. Who it was, when and what happened stay.
const EXPENDABLE: &[&str] = &[
    "san",
    "certificates_removed",
    "certificates_added",
    "alpn",
    "server_addr",
    "error",
    "sni",
    "issuer",
    "subject",
    "listener",
    "server",
    "backend",
    "frontend",
    "client_cert",
];

/// What is recorded.
#[derive(Debug)]
pub enum Record {
    /// Something about a connection.
    Connection(AuditEvent, Box<ConnectionFacts>),
    /// A reload.
    Reload(ReloadFacts),
    /// Stands in for this many records that were dropped.
    Dropped(u64),
}

/// A connection, as far as it has come.
#[derive(Debug, Default)]
pub struct ConnectionFacts {
    /// PP2_TYPE_UNIQUE_ID.
    pub id: u128,
    /// Number of the configuration that it began with.
    pub generation: u64,
    /// Who is there: as a PROXY header announced it, else the socket's; `None` for a unix socket.
    pub client: Option<SocketAddr>,
    /// What the client connected to, likewise.
    pub local: Option<SocketAddr>,
    /// Who sent the PROXY header.
    pub proxy_source: Option<SocketAddr>,
    /// Section name.
    pub frontend: String,
    /// Name of the `bind` line, or its number.
    pub listener: String,
    /// The server that was chosen.
    pub server: Option<ServerFacts>,
    /// Name that was asked for.
    pub sni: Option<String>,
    /// What was negotiated.
    pub tls: Option<TlsFacts>,
    /// What came of looking for the client's certificate; `None`: nobody asked, or it did not come to that.
    pub certificate: Option<CertificateFacts>,
    /// Plaintext from the client and to it; `None` where there could be none.
    pub bytes: Option<(u64, u64)>,
    /// From accept to the end of the handshake.
    pub handshake: Option<Duration>,
    /// From there until the server had accepted.
    pub connect: Option<Duration>,
    /// From accept to the end.
    pub duration: Option<Duration>,
    /// Cause and phase (HAProxy manual, 8.5).
    pub termination: Option<[u8; 2]>,
    /// The alert that the client was sent.
    pub alert: Option<&'static str>,
    /// Why it ended, if it did not simply come to its end.
    pub error: Option<Cow<'static, str>>,
}

/// The server of a connection.
#[derive(Debug)]
pub struct ServerFacts {
    /// Section name.
    pub backend: String,
    /// Its name there.
    pub server: String,
    /// Where it is.
    pub address: Option<String>,
}

/// A finished handshake.
#[derive(Debug)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub version: &'static str,
    /// `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// `X25519`.
    pub group: Option<&'static str>,
    /// Negotiated protocol.
    pub alpn: Option<Vec<u8>>,
    /// Resumed from a ticket.
    pub resumed: bool,
    /// SHA-256 of the certificate that the client was shown; `None` on a resumed session.
    pub server_certificate: Option<[u8; 32]>,
}

/// The client's certificate.
#[derive(Debug)]
pub struct CertificateFacts {
    /// What came of it.
    pub verify: Verify,
    /// Why it was refused, as it is counted in metrics.
    pub reason: Option<&'static str>,
    /// The certificate (DER).
    pub der: Option<Box<[u8]>>,
}

/// What came of looking for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// It verified.
    Ok,
    /// None was sent.
    None,
    /// It did not verify.
    Failed,
}

/// A reload, seen by the master.
#[derive(Debug)]
pub struct ReloadFacts {
    /// Number of the configuration that is in force now.
    pub generation: u64,
    /// Who asked, in a word.
    pub by: Option<&'static str>,
    /// What changed, or why it was refused.
    pub outcome: Result<CertificateChange, String>,
}

/// Server certificates (SHA-256) that a configuration has, and the one before had not; and the other way round.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CertificateChange {
    /// New ones.
    pub added: Vec<[u8; 32]>,
    /// Those that are gone.
    pub removed: Vec<[u8; 32]>,
}

impl Record {
    /// What it is about; `None` for what every target is told.
    pub fn event(&self) -> Option<AuditEvent> {
        match self {
            Self::Connection(event, _) => Some(*event),
            Self::Reload(_) => Some(AuditEvent::Reload),
            Self::Dropped(_) => None,
        }
    }

    /// The object, no longer than `max` bytes if what is left without anything expendable is not.
    pub(super) fn json(&self, at: SystemTime, pid: u32, max: usize) -> String {
        let mut object = self.object(at, pid);
        let mut expendable = EXPENDABLE.iter();
        loop {
            let json = without_controls(serde_json::to_string(&object).unwrap_or_default());
            if json.len() <= max {
                return json;
            }
            let Some(name) = expendable.next() else { return json };
            while object.shorten(name) {
                object.put("truncated", Some(true));
                let json = without_controls(serde_json::to_string(&object).unwrap_or_default());
                if json.len() <= max {
                    return json;
                }
            }
        }
    }

    fn object(&self, at: SystemTime, pid: u32) -> Object {
        let mut object = Object::default();
        object.put("time", date(at).map(|at| format!("{at:.6}")));
        object.put("event", Some(self.event().map_or("dropped", AuditEvent::name)));
        match self {
            Self::Connection(_, facts) => facts.put_into(&mut object),
            Self::Reload(facts) => facts.put_into(&mut object),
            Self::Dropped(records) => object.put("dropped", Some(*records)),
        }
        object.put("pid", Some(pid));
        object
    }
}

impl ConnectionFacts {
    fn put_into(&self, object: &mut Object) {
        object.put("conn_id", Some(format!("{:032x}", self.id)));
        for (ip, port, address) in [("client_ip", "client_port", self.client), ("local_ip", "local_port", self.local)] {
            object.put(ip, address.map(|address| address.ip().to_canonical().to_string()));
            object.put(port, address.map(|address| address.port()));
        }
        object.put("proxy_src", self.proxy_source.map(|address| address.to_string()));
        object.put("frontend", Some(self.frontend.as_str()));
        object.put("listener", Some(self.listener.as_str()));
        if let Some(server) = &self.server {
            object.put("backend", Some(server.backend.as_str()));
            object.put("server", Some(server.server.as_str()));
            object.put("server_addr", server.address.as_deref());
        }
        object.put("sni", self.sni.as_ref().map(|name| x509::escape(name.as_bytes(), NAME_MAX)));
        if let Some(tls) = &self.tls {
            object.put("alpn", tls.alpn.as_ref().map(|protocol| x509::escape(protocol, NAME_MAX)));
            object.put("tls_version", Some(tls.version));
            object.put("cipher", Some(tls.cipher));
            object.put("group", tls.group);
            object.put("resumed", Some(tls.resumed));
        }
        if let Some(certificate) = &self.certificate {
            let (certificate, truncated) = certificate.object();
            object.0.push(("client_cert", Member::Object(certificate)));
            object.put("truncated", truncated.then_some(true));
        }
        if let Some(hash) = self.tls.as_ref().and_then(|tls| tls.server_certificate) {
            let mut certificate = Object::default();
            certificate.put("sha256", Some(x509::hex(&hash)));
            object.0.push(("server_cert", Member::Object(certificate)));
        }
        object.put("bytes_in", self.bytes.map(|(bytes, _)| bytes));
        object.put("bytes_out", self.bytes.map(|(_, bytes)| bytes));
        object.put("handshake_s", self.handshake.map(seconds));
        object.put("connect_s", self.connect.map(seconds));
        object.put("duration_s", self.duration.map(seconds));
        object.put("termination", self.termination.map(|letters| letters.map(char::from).iter().collect::<String>()));
        object.put("tls_alert", self.alert);
        object.put("error", self.error.as_deref().map(sentence));
        object.put("generation", Some(self.generation));
    }
}

impl CertificateFacts {
    /// Also whether there is more to it.
    fn object(&self) -> (Object, bool) {
        let mut object = Object::default();
        object.put(
            "verify",
            Some(match self.verify {
                Verify::Ok => "ok",
                Verify::None => "none",
                Verify::Failed => "failed",
            }),
        );
        object.put("reason", self.reason);
        let Some(der) = &self.der else { return (object, false) };
        let mut more = false;
        if let Some(certificate) = Certificate::parse(der) {
            object.put("subject", Some(certificate.printed_subject()).filter(|name| !name.is_empty()));
            object.put("issuer", Some(certificate.printed_issuer()).filter(|name| !name.is_empty()));
            let mut names = certificate.alternative_names();
            more = names.len() > NAMES_MAX;
            names.truncate(NAMES_MAX);
            let names: Vec<String> = names.iter().map(|name| x509::escape(name.as_bytes(), NAME_MAX)).collect();
            object.put("san", Some(names).filter(|names| !names.is_empty()));
            object.put("serial", Some(certificate.printed_serial()));
            let (not_before, not_after) = certificate.validity();
            for (name, time) in [("not_before", not_before), ("not_after", not_after)] {
                let date = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
                object.put(name, date.map(|date| date.to_string()));
            }
        }
        object.put("sha256", Some(x509::hex(&x509::sha256(der))));
        (object, more)
    }
}

impl ReloadFacts {
    fn put_into(&self, object: &mut Object) {
        object.put("result", Some(if self.outcome.is_ok() { "adopted" } else { "refused" }));
        object.put("by", self.by);
        match &self.outcome {
            Ok(CertificateChange { added, removed }) => {
                for (name, hashes) in [("certificates_added", added), ("certificates_removed", removed)] {
                    let printed: Vec<String> =
                        hashes.iter().take(FINGERPRINTS_MAX).map(|hash| x509::hex(hash)).collect();
                    object.put("truncated", (hashes.len() > FINGERPRINTS_MAX).then_some(true));
                    object.put(name, Some(printed).filter(|hashes| !hashes.is_empty()));
                }
            }
            Err(reason) => object.put("error", Some(sentence(reason))),
        }
        object.put("generation", Some(self.generation));
    }
}

/// The members of an object in the order in which they were put there; serde_json would sort them.
#[derive(Default)]
struct Object(Vec<(&'static str, Member)>);

#[derive(Serialize)]
#[serde(untagged)]
enum Member {
    Value(Value),
    Object(Object),
}

impl Object {
    /// Adds a member, once, unless there is no value.
    fn put(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value.filter(|_| self.0.iter().all(|(known, _)| *known != name)) {
            self.0.push((name, Member::Value(value.into())));
        }
    }

    /// Takes away a member, of a list the last half; answers whether there was anything.
    fn shorten(&mut self, name: &str) -> bool {
        for index in 0..self.0.len() {
            let (known, member) = &mut self.0[index];
            let shortened = match member {
                Member::Value(Value::Array(values)) if *known == name && values.len() > 1 => {
                    values.truncate(values.len() / 2);
                    true
                }
                _ if *known == name => {
                    self.0.remove(index);
                    true
                }
                Member::Object(object) => object.shorten(name),
                Member::Value(_) => false,
            };
            if shortened {
                return true;
            }
        }
        false
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, member)| (name, member)))
    }
}

/// UTC, for records are compared across machines. `None`: outside of the calendar.
fn date(at: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(at).ok()
}

/// With microseconds.
fn seconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e6
}

/// At most so much of a text of ours.
fn sentence(text: &str) -> String {
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= SENTENCE_MAX).last().unwrap_or(0);
    if text.len() <= SENTENCE_MAX { text.to_owned() } else { format!("{}...", &text[..end]) }
}

#[cfg(test)]
mod tests;
