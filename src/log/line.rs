//! The traffic lines, in HAProxy's words and order (HAProxy manual, 8.2), so that what reads HAProxy's log reads ours.
//! Everything here is a plain value: no socket, no clock, no event loop.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::SystemTime;

use super::escape::push_word;
use super::time::Local;

/// Who connected, as lines name it: `%ci:%cp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// An address and port: of the socket, or as a PROXY header gave it.
    Inet(SocketAddr),
    /// A unix socket has no port; HAProxy prints the number of the listener in its frontend, counted from 1 over all
    /// addresses of all `bind` lines.
    Unix {
        /// That number.
        listener: u32,
    },
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // IPv6 without brackets, as HAProxy does.
            Self::Inet(address) => write!(f, "{}:{}", address.ip(), address.port()),
            Self::Unix { listener } => write!(f, "unix:{listener}"),
        }
    }
}

/// A connection that is over: `option tcplog` (HAProxy manual, 8.2.2).
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRecord<'a> {
    /// `%ci:%cp`
    pub client: ClientAddress,
    /// `%t`: when it was accepted.
    pub accepted_at: SystemTime,
    /// `%ft`, without the mark for TLS.
    pub frontend: &'a str,
    /// Prints `~` after the frontend.
    pub tls: bool,
    /// `%b`; `None` before one was chosen prints the frontend's name.
    pub backend: Option<&'a str>,
    /// `%s`; `None` prints `<NOSRV>`.
    pub server: Option<&'a str>,
    /// `%Tw`, milliseconds from accept until a server was chosen (the handshake included); `None` prints -1.
    pub wait_ms: Option<u64>,
    /// `%Tc`, milliseconds until the server had answered the connect; `None` prints -1.
    pub connect_ms: Option<u64>,
    /// `%Tt`, milliseconds from accept to the end.
    pub total_ms: u64,
    /// `%B`: bytes from the server to the client.
    pub bytes_to_client: u64,
    /// `%ts`: cause and phase (HAProxy manual, 8.5). Two printable ASCII characters.
    pub termination: [u8; 2],
    /// `%ac`: connections of the process, this one counted.
    pub process_connections: u64,
    /// `%fc`: of the frontend, this one counted.
    pub frontend_connections: u64,
    /// `%bc`: of the backend, this one no longer counted.
    pub backend_connections: u64,
    /// `%sc`: of the server, this one no longer counted.
    pub server_connections: u64,
    /// `%rc`: connects that were tried again.
    pub retries: u32,
    /// `option logasap`: it goes on, so time and bytes are marked as not the last.
    pub unfinished: bool,
}

impl ConnectionRecord<'_> {
    /// Appends `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq`. There are no queues here:
    /// `%sq/%bq` is always `0/0`.
    pub fn tcp(&self, out: &mut String) {
        push_start(out, self.client, self.accepted_at);
        out.push_str(self.frontend);
        if self.tls {
            out.push('~');
        }
        let _ = write!(out, " {}/{} ", self.backend.unwrap_or(self.frontend), self.server.unwrap_or("<NOSRV>"));
        push_timer(out, self.wait_ms);
        out.push('/');
        push_timer(out, self.connect_ms);
        let more = if self.unfinished { "+" } else { "" };
        let _ = write!(out, "/{more}{} {more}{} ", self.total_ms, self.bytes_to_client);
        push_word(out, &self.termination);
        let _ = write!(
            out,
            " {}/{}/{}/{}/{} 0/0",
            self.process_connections,
            self.frontend_connections,
            self.backend_connections,
            self.server_connections,
            self.retries
        );
    }
}

/// A connection that was accepted: the only line of a frontend with `log` and without `option tcplog` (HAProxy manual,
/// 8.2.1).
#[derive(Clone, Copy, Debug)]
pub struct ConnectLine<'a> {
    /// Who connected.
    pub client: ClientAddress,
    /// The address that was connected to; not printed for unix sockets.
    pub local: Option<SocketAddr>,
    /// The frontend's name.
    pub frontend: &'a str,
}

impl ConnectLine<'_> {
    /// Appends `Connect from 127.0.0.1:50200 to 127.0.0.1:7004 (fe/TCP)`, or `Connect to unix:2 (fe/TCP)`.
    pub fn connect(&self, out: &mut String) {
        out.push_str("Connect ");
        if let (ClientAddress::Inet(_), Some(local)) = (self.client, self.local) {
            out.push_str("from ");
            let _ = write!(out, "{}", self.client);
            out.push_str(" to ");
            let _ = write!(out, "{}", ClientAddress::Inet(local));
        } else {
            out.push_str("to ");
            let _ = write!(out, "{}", self.client);
        }
        let _ = write!(out, " ({}/TCP)", self.frontend);
    }
}

/// Why a connection ended before its session began. The texts are HAProxy's (`fc_err_str`; HAProxy manual, 7.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `accept-proxy`: the client closed without a byte.
    ProxyEmpty,
    /// `accept-proxy`: the socket failed.
    ProxyAborted,
    /// `accept-proxy`: no complete header within `timeout client-hs`.
    ProxyTimeout,
    /// `accept-proxy`: the client closed in the middle of the header.
    ProxyTruncated,
    /// `accept-proxy`: neither of the two signatures.
    ProxyNotHeader,
    /// `accept-proxy`: the signature, then nonsense.
    ProxyInvalid,
    /// `accept-proxy`: a family or protocol that cannot be used.
    ProxyProtocol,
    /// The client closed without a byte of TLS.
    TlsEmpty,
    /// The socket failed, or the client closed in the middle of the handshake.
    TlsAborted,
    /// No complete handshake within `timeout client-hs`.
    TlsTimeout,
    /// As many handshakes or TLS connections as may be.
    TlsTooMany,
    /// Something above the client's certificate did not verify: unknown CA, an expired or revoked intermediate.
    ClientChain,
    /// The client's certificate itself did not verify.
    ClientCertificate,
    /// Everything else that ends a handshake.
    TlsHandshake,
}

impl Failure {
    /// HAProxy's text.
    pub fn text(self) -> &'static str {
        match self {
            Self::ProxyEmpty => "Connection closed while waiting for PROXY protocol header",
            Self::ProxyAborted => "Connection error while waiting for PROXY protocol header",
            Self::ProxyTimeout => "Timeout while waiting for PROXY protocol header",
            Self::ProxyTruncated => "Truncated PROXY protocol header received",
            Self::ProxyNotHeader => "Received something which does not look like a PROXY protocol header",
            Self::ProxyInvalid => "Received an invalid PROXY protocol header",
            Self::ProxyProtocol => "Received an unhandled protocol in the PROXY protocol header",
            Self::TlsEmpty => "Connection closed during SSL handshake",
            Self::TlsAborted => "Connection error during SSL handshake",
            Self::TlsTimeout => "Timeout during SSL handshake",
            Self::TlsTooMany => "Too many SSL connections",
            Self::ClientChain => "SSL client CA chain cannot be verified",
            Self::ClientCertificate => "SSL client certificate not trusted",
            Self::TlsHandshake => "SSL handshake failure",
        }
    }

    /// The client sent nothing at all: what `option dontlognull` keeps out of the log (HAProxy manual, 4.2).
    pub fn is_null(self) -> bool {
        matches!(self, Self::ProxyEmpty | Self::TlsEmpty)
    }
}

/// A connection that failed before its session began (HAProxy manual, 8.2.5), and what an operator asks next: which
/// certificate, why, what the client was told.
#[derive(Clone, Copy, Debug)]
pub struct FailureRecord<'a> {
    /// Who connected; without an accepted PROXY header the socket's peer.
    pub client: ClientAddress,
    /// When it was accepted.
    pub accepted_at: SystemTime,
    /// The frontend's name.
    pub frontend: &'a str,
    /// `name` of the `bind` line, or the listener's number in its frontend.
    pub listener: &'a str,
    /// What happened.
    pub failure: Failure,
    /// Why, in words of ours: `certificate revoked`. Not peer-chosen, though escaped like everything.
    pub reason: Option<&'a str>,
    /// The certificate that the client sent.
    pub certificate: Option<ClientCertificate<'a>>,
    /// Name of the alert that was sent (RFC 8446, 6): `certificate_revoked`.
    pub alert_sent: Option<&'a str>,
    /// Name of the alert that the client sent.
    pub alert_received: Option<&'a str>,
    /// The server name that was asked for.
    pub sni: Option<&'a [u8]>,
}

/// The names in a certificate that was refused. Chosen by the peer, so escaped and cut by whoever read the certificate
/// ([`crate::tls::x509::escape`]).
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'a> {
    /// Subject as one line: `/CN=mallory`.
    pub subject: Option<&'a str>,
    /// Issuer as one line.
    pub issuer: Option<&'a str>,
    /// Serial number, hexadecimal.
    pub serial: Option<&'a str>,
}

impl FailureRecord<'_> {
    /// Appends `%ci:%cp [%t] frontend/listener: text`, then only what is known of ` (reason)`, ` subject="…"`,
    /// ` issuer="…"`, ` serial=…` (hexadecimal), ` alert=…`, ` alert-received=…`, ` sni=…`.
    pub fn failure(&self, out: &mut String) {
        push_start(out, self.client, self.accepted_at);
        let _ = write!(out, "{}/{}: {}", self.frontend, self.listener, self.failure.text());
        if let Some(reason) = self.reason {
            let _ = write!(out, " ({reason})");
        }
        if let Some(certificate) = &self.certificate {
            for (key, name) in [(" subject=", certificate.subject), (" issuer=", certificate.issuer)] {
                if let Some(name) = name {
                    let _ = write!(out, "{key}\"{name}\"");
                }
            }
            if let Some(serial) = certificate.serial {
                let _ = write!(out, " serial={serial}");
            }
        }
        for (key, name) in [(" alert=", self.alert_sent), (" alert-received=", self.alert_received)] {
            if let Some(name) = name {
                out.push_str(key);
                push_word(out, name.as_bytes());
            }
        }
        if let Some(sni) = self.sni {
            out.push_str(" sni=");
            push_word(out, sni);
        }
    }
}

fn push_start(out: &mut String, client: ClientAddress, accepted_at: SystemTime) {
    let _ = write!(out, "{client}");
    out.push_str(" [");
    Local::new(accepted_at).push_accept_date(out);
    out.push_str("] ");
}

fn push_timer(out: &mut String, milliseconds: Option<u64>) {
    match milliseconds {
        Some(milliseconds) => {
            let _ = write!(out, "{milliseconds}");
        }
        None => out.push_str("-1"),
    }
}

/// RFC 5280, 4.1.2.2 allows 20 octets; a peer may send more.
#[cfg(test)]
mod tests {
    use super::*;

    fn date() -> String {
        let mut out = String::new();
        Local::new(SystemTime::UNIX_EPOCH).push_accept_date(&mut out);
        out
    }

    fn inet(text: &str) -> ClientAddress {
        ClientAddress::Inet(text.parse().unwrap())
    }

    fn connection() -> ConnectionRecord<'static> {
        ConnectionRecord {
            client: inet("127.0.0.1:39894"),
            accepted_at: SystemTime::UNIX_EPOCH,
            frontend: "deflog",
            tls: true,
            backend: Some("be"),
            server: Some("a"),
            wait_ms: Some(3),
            connect_ms: Some(1),
            total_ms: 3,
            bytes_to_client: 3,
            termination: *b"--",
            process_connections: 1,
            frontend_connections: 1,
            backend_connections: 0,
            server_connections: 0,
            retries: 0,
            unfinished: false,
        }
    }

    fn tcp(record: ConnectionRecord<'_>) -> String {
        let mut out = String::new();
        record.tcp(&mut out);
        out
    }

    fn connect(client: ClientAddress, local: Option<&str>) -> String {
        let mut out = String::new();
        ConnectLine { client, local: local.map(|text| text.parse().unwrap()), frontend: "fe" }.connect(&mut out);
        out
    }

    fn failed() -> FailureRecord<'static> {
        FailureRecord {
            client: inet("127.0.0.1:4711"),
            accepted_at: SystemTime::UNIX_EPOCH,
            frontend: "fe",
            listener: "main",
            failure: Failure::TlsHandshake,
            reason: None,
            certificate: None,
            alert_sent: None,
            alert_received: None,
            sni: None,
        }
    }

    fn failure(record: FailureRecord<'_>) -> String {
        let mut out = String::new();
        record.failure(&mut out);
        out
    }

    /// The lines are HAProxy 2.6.12's, ports and dates replaced.
    #[test]
    fn tcplog_is_haproxys() {
        let date = date();
        assert_eq!(tcp(connection()), format!("127.0.0.1:39894 [{date}] deflog~ be/a 3/1/3 3 -- 1/1/0/0/0 0/0"));
        let refused = ConnectionRecord {
            tls: false,
            server: Some("d"),
            connect_ms: None,
            total_ms: 3004,
            bytes_to_client: 0,
            termination: *b"SC",
            retries: 3,
            ..connection()
        };
        assert_eq!(tcp(refused), format!("127.0.0.1:39894 [{date}] deflog be/d 3/-1/3004 0 SC 1/1/0/0/3 0/0"));
        let rejected = ConnectionRecord {
            backend: None,
            server: None,
            wait_ms: None,
            connect_ms: None,
            total_ms: 2,
            bytes_to_client: 0,
            termination: *b"PR",
            ..connection()
        };
        let expected = format!("127.0.0.1:39894 [{date}] deflog~ deflog/<NOSRV> -1/-1/2 0 PR 1/1/0/0/0 0/0");
        assert_eq!(tcp(rejected), expected);
    }

    #[test]
    fn clients_without_brackets_and_without_ports() {
        let date = date();
        let v6 = tcp(ConnectionRecord { client: inet("[::1]:43800"), ..connection() });
        assert!(v6.starts_with(&format!("::1:43800 [{date}] ")), "{v6}");
        let unix = tcp(ConnectionRecord { client: ClientAddress::Unix { listener: 3 }, ..connection() });
        assert!(unix.starts_with(&format!("unix:3 [{date}] ")), "{unix}");
    }

    #[test]
    fn connect_line_is_haproxys() {
        let expected = "Connect from 127.0.0.1:50200 to 127.0.0.1:7004 (fe/TCP)";
        assert_eq!(connect(inet("127.0.0.1:50200"), Some("127.0.0.1:7004")), expected);
        assert_eq!(connect(ClientAddress::Unix { listener: 2 }, None), "Connect to unix:2 (fe/TCP)");
    }

    #[test]
    fn failure_line_starts_like_haproxys() {
        let date = date();
        assert_eq!(failure(failed()), format!("127.0.0.1:4711 [{date}] fe/main: SSL handshake failure"));
        assert_eq!(
            failure(FailureRecord { failure: Failure::ProxyNotHeader, listener: "4", ..failed() }),
            format!(
                "127.0.0.1:4711 [{date}] fe/4: Received something which does not look like a PROXY protocol header"
            )
        );
    }

    #[test]
    fn failure_line_says_whose_certificate_and_why() {
        let record = FailureRecord {
            reason: Some("certificate revoked"),
            certificate: Some(ClientCertificate {
                subject: Some("/CN=mallory"),
                issuer: Some("/CN=Demo CA"),
                serial: Some("0A"),
            }),
            alert_sent: Some("certificate_revoked"),
            sni: Some(b"db.example.org"),
            ..failed()
        };
        assert_eq!(
            failure(record),
            format!(
                "127.0.0.1:4711 [{}] fe/main: SSL handshake failure (certificate revoked) subject=\"/CN=mallory\" \
                 issuer=\"/CN=Demo CA\" serial=0A alert=certificate_revoked sni=db.example.org",
                date()
            )
        );
    }

    #[test]
    fn what_a_peer_chose_cannot_add_fields_or_lines() {
        let subject = crate::tls::x509::escape(b"/CN=x\" issuer=\"/CN=Demo CA\n<0>fake", 256);
        let record = FailureRecord {
            certificate: Some(ClientCertificate { subject: Some(&subject), issuer: None, serial: None }),
            alert_received: Some("unknown_ca"),
            sni: Some(b"a alert=none"),
            ..failed()
        };
        let line = failure(record);
        assert!(
            line.ends_with(
                " subject=\"/CN=x#22 issuer=#22/CN=Demo CA#0A<0>fake\" alert-received=unknown_ca sni=a#20alert=none"
            ),
            "{line}"
        );
    }
}
