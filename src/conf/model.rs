//! The validated model that every front-end lowers to. Pure data: no file named here has been opened yet.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::certificate_files::CertificateFiles;
use super::ciphers::{Group, Suite12, Suite13};
use super::expr::Format;

/// A place in a configuration file, for messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The file as it was named by the operator.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in bytes.
    pub column: u32,
}

/// A value and the place that set it.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// What was written.
    pub value: T,
    /// Where it was written.
    pub at: Location,
}

/// Everything that one configuration asks for.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// `global`.
    pub process: Process,
    /// Every enabled `frontend`, and the front half of every `listen`, in file order.
    pub frontends: Vec<Frontend>,
    /// Every enabled `backend`, and the back half of every `listen`, in file order.
    pub backends: Vec<Backend>,
}

/// `global`: settings of the process (HAProxy manual, section 3).
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// `user` (name) or `uid` (decimal text).
    pub user: Option<At<String>>,
    /// `group` (name) or `gid` (decimal text).
    pub group: Option<At<String>>,
    /// `nbthread`; `None`: one event loop per CPU of the affinity mask.
    pub threads: Option<At<u16>>,
    /// `maxconn` of the process; `None`: as many as the descriptor limit carries.
    pub maxconn: Option<At<u32>>,
    /// `pidfile`.
    pub pidfile: Option<At<PathBuf>>,
    /// `daemon`.
    pub daemon: bool,
    /// `hard-stop-after`; `None`: a drain may last for ever.
    pub hard_stop_after: Option<Duration>,
    /// `log` lines of `global`, where the process's own messages go too.
    pub logs: Vec<LogTarget>,
    /// `log-tag`; default `bowline`.
    pub log_tag: Option<String>,
    /// `quiet`: errors only, as with `-q`.
    pub quiet: bool,
    /// `zero-warning`: a warning that is found later (in a file that the configuration names) refuses the start too.
    pub zero_warning: bool,
    /// `tune.ssl.lifetime`: how long after the first authentication a session may be resumed; default 300 s.
    pub session_lifetime: Duration,
    /// `crt-base`, `ssl-load-extra-files` and their kin.
    pub certificate_files: CertificateFiles,
    /// `stats socket` and `metrics socket`.
    pub admin_sockets: Vec<AdminSocket>,
    /// `stats timeout`: how long a client of these may be silent; default 10 s.
    pub admin_timeout: Duration,
    /// `stats maxconn`: clients of each of these at a time; default 10.
    pub admin_maxconn: u32,
}

/// A socket of the process itself: `stats socket`, `metrics socket`, or `-S` of the command line.
#[derive(Clone, Debug)]
pub struct AdminSocket {
    /// What it listens on.
    pub address: At<BindAddress>,
    /// What is spoken there.
    pub purpose: Purpose,
    /// Permissions of a unix socket; the mode is always there.
    pub unix: UnixPermissions,
    /// `backlog`.
    pub backlog: Option<u32>,
    /// `maxconn` of the line; `None`: that of the process.
    pub maxconn: Option<u32>,
}

/// What a socket of the process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Commands, up to this level.
    Control(Level),
    /// Monitoring, over HTTP.
    Metrics,
}

/// Who may do what on a control socket (HAProxy manual, 5.1, `level`). Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Look at what says nothing about clients.
    User,
    /// Look at everything, change what is harmless.
    Operator,
    /// Everything.
    Admin,
}

impl fmt::Display for Level {
    /// The word of the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

/// `log <target> [len n] [format f] <facility> [max [min]]` (HAProxy manual, 4.2).
#[derive(Clone, Debug)]
pub struct LogTarget {
    /// Where lines go.
    pub sink: LogSink,
    /// Longest line in bytes; default 1024.
    pub max_length: usize,
    /// How a line is framed.
    pub format: LogFraming,
    /// Syslog facility number, 0 to 23.
    pub facility: u8,
    /// Least urgent severity that is sent, 0 (emerg) to 7 (debug); default 7.
    pub max_level: u8,
    /// Everything more urgent is sent with this severity; default 0.
    pub min_level: u8,
    /// Where the line stands.
    pub at: Location,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogSink {
    /// `stdout`, `stderr`, `fd@n`: the descriptor's number in the master.
    Descriptor(i32),
    /// `/dev/log`: unix datagram socket.
    Unix(PathBuf),
    /// `192.0.2.1:514`: UDP syslog.
    Udp(SocketAddr),
}

/// `format` of a log target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFraming {
    /// `<PRI>Mmm dd hh:mm:ss tag[pid]: ` (the default on sockets).
    Local,
    /// As `local` with a host name.
    Rfc3164,
    /// `<PRI>1 timestamp host tag pid - - `.
    Rfc5424,
    /// `<N>` and the text, for journald's stderr.
    Short,
    /// `<PRI>` and the text.
    Priority,
    /// The text alone (the default on descriptors).
    Raw,
    /// `<N>`, ISO 8601 local time with microseconds, then the text.
    Timed,
    /// ISO 8601 time, then the text.
    Iso,
}

/// `frontend`, or the front half of `listen` (HAProxy manual, 4.2).
#[derive(Clone, Debug)]
pub struct Frontend {
    /// Section name.
    pub name: String,
    /// Where the section starts.
    pub at: Location,
    /// `bind` lines.
    pub binds: Vec<Bind>,
    /// Name of the backend: `default_backend`, or the own name of a `listen`. Checked to exist.
    pub default_backend: At<String>,
    /// `maxconn`: connections of this frontend; `None`: only the process's limit.
    pub maxconn: Option<u32>,
    /// `backlog`.
    pub backlog: Option<u32>,
    /// `timeout client`: longest inactivity on the client side.
    pub timeout_client: Option<Duration>,
    /// `timeout client-hs`: from accept to the end of PROXY header and TLS handshake, absolute. `None`: `timeout client`, else 10 s.
    pub timeout_client_hs: Option<Duration>,
    /// `timeout client-fin`: replaces `timeout client` once one direction has ended.
    pub timeout_client_fin: Option<Duration>,
    /// `log` targets, `log global` already replaced by the lines of `global`.
    pub logs: Vec<LogTarget>,
    /// `option tcplog`; without it HAProxy logs `Connect from … to …` at accept.
    pub tcplog: bool,
    /// `option dontlognull`.
    pub dontlognull: bool,
    /// `option clitcpka` or `option tcpka`: SO_KEEPALIVE towards clients.
    pub keepalive: bool,
    /// `clitcpka-idle`: silence before the first probe, TCP_KEEPIDLE; `None`: the system's.
    pub keepalive_idle: Option<Duration>,
    /// `option accept-tls-eof` (extension): a client's FIN without close_notify counts as its end of stream.
    pub accept_tls_eof: bool,
}

/// One `bind` line (HAProxy manual, 5.1).
#[derive(Clone, Debug)]
pub struct Bind {
    /// Where the line stands.
    pub at: Location,
    /// The comma list, one entry an address.
    pub addresses: Vec<At<BindAddress>>,
    /// `name`.
    pub name: Option<String>,
    /// `accept-proxy`: a PROXY header is required from everyone.
    pub accept_proxy: bool,
    /// `backlog`.
    pub backlog: Option<u32>,
    /// `maxconn` of this line.
    pub maxconn: Option<u32>,
    /// `mode`, `user`/`uid`, `group`/`gid`: permissions of a unix socket.
    pub unix: UnixPermissions,
    /// `ssl` and what belongs to it.
    pub tls: Option<BindTls>,
}

/// What a `bind` line listens on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BindAddress {
    /// IP address and port. `v6only` answers `v4v6` / `v6only` and matters for `[::]` only.
    Inet {
        /// The address; port 0 is refused by the parser.
        address: SocketAddr,
        /// IPV6_V6ONLY; `None`: the system's default.
        v6only: Option<bool>,
    },
    /// A unix stream socket with a path.
    Unix(PathBuf),
    /// Abstract unix socket. `abns@name`: the name with NUL bytes up to [`ABSTRACT_NAME_BYTES`]; `abnsz@name`: as it is.
    Abstract(Vec<u8>),
    /// `fd@n`: an inherited listening socket.
    Descriptor(i32),
    /// `fd@name`: the listening sockets that systemd passes under this name.
    Named(String),
}

impl fmt::Display for BindAddress {
    /// As the operator writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { address, .. } => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write_abstract(f, name),
            Self::Descriptor(number) => write!(f, "fd@{number}"),
            Self::Named(name) => write!(f, "fd@{name}"),
        }
    }
}

/// Longest name of an abstract unix socket (unix(7)): `sun_path` without its first byte.
pub const ABSTRACT_NAME_BYTES: usize = 107;

/// Permissions of a unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnixPermissions {
    /// Octal mode.
    pub mode: Option<u32>,
    /// Name or number.
    pub user: Option<String>,
    /// Name or number.
    pub group: Option<String>,
}

/// TLS on a `bind` line. Paths are complete: `crt-base` and `ca-base` are applied.
#[derive(Clone, Debug)]
pub struct BindTls {
    /// `crt` and `default-crt` in the order written; the first certificate is the default.
    pub crt: Vec<Crt>,
    /// `verify`.
    pub verify: Verify,
    /// `ca-file`: file or directory.
    pub ca_file: Option<At<PathBuf>>,
    /// `crl-file`.
    pub crl_file: Option<At<PathBuf>>,
    /// `alpn`, in order of preference; empty: none.
    pub alpn: Vec<Vec<u8>>,
    /// Lowest version, from `ssl-min-ver` or `ssl-default-bind-options`.
    pub min_version: TlsVersion,
    /// Highest version.
    pub max_version: TlsVersion,
    /// Suites of TLS 1.2 in order of preference: `ciphers`, `ssl-default-bind-ciphers`, or [`Suite12::DEFAULT`]. Not empty.
    pub suites12: Vec<Suite12>,
    /// Suites of TLS 1.3 in order of preference: `ciphersuites`, its default, or [`Suite13::DEFAULT`]. Not empty.
    pub suites13: Vec<Suite13>,
    /// Groups: `curves`, its default, `ecdhe`, or [`Group::DEFAULT`]. Not empty. Among them the client's order counts.
    pub groups: Vec<Group>,
    /// `prefer-client-ciphers`: among the suites the client's order counts.
    pub prefer_client_ciphers: bool,
    /// `tls-tickets`, or not `no-tls-tickets`: sessions may be resumed.
    pub tickets: bool,
    /// Who gets no certificate.
    pub sni: SniPolicy,
}

/// Where a `bind` line has its certificates from.
#[derive(Clone, Debug)]
pub struct Crt {
    /// A file or a directory.
    pub file: At<PathBuf>,
    /// Which word named it.
    pub kind: CrtKind,
}

/// What a [`Crt`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrtKind {
    /// `crt`: certificates.
    Plain,
    /// `default-crt`: certificates that are also for clients whose name no certificate has.
    Default,
    /// `crt-list`: a file that names certificates, for [`super::crt_list::parse`].
    List,
}

/// Which clients get the default certificate; the others get alert `unrecognized_name`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SniPolicy {
    /// Those that send no name, and those that send one that no certificate has.
    #[default]
    Lenient,
    /// `sni-nomatch-abort` (extension): those that send no name.
    NomatchAbort,
    /// `strict-sni`: nobody.
    Strict,
}

/// `verify` of a `bind` line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// No certificate is asked for.
    #[default]
    None,
    /// A certificate that is sent must verify.
    Optional,
    /// A certificate must be sent and verify.
    Required,
}

/// The versions of TLS that exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// `backend`, or the back half of `listen`.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Section name.
    pub name: String,
    /// Where the section starts.
    pub at: Location,
    /// `server` lines; the main job takes exactly one.
    pub servers: Vec<Server>,
    /// `timeout connect`.
    pub timeout_connect: Option<Duration>,
    /// `timeout server`: longest inactivity on the backend side.
    pub timeout_server: Option<Duration>,
    /// `timeout server-fin`: replaces `timeout server` once one direction has ended.
    pub timeout_server_fin: Option<Duration>,
    /// `timeout tunnel`: replaces client and server timeouts while the relay runs both ways; zero is `None`.
    pub timeout_tunnel: Option<Duration>,
    /// `option srvtcpka` or `option tcpka`: SO_KEEPALIVE towards servers.
    pub keepalive: bool,
}

/// One `server` line (HAProxy manual, 5.2).
#[derive(Clone, Debug)]
pub struct Server {
    /// Unique in its backend.
    pub name: String,
    /// Where the line stands.
    pub at: Location,
    /// Where to connect to.
    pub address: At<ServerAddress>,
    /// `send-proxy…`; `None`: no header.
    pub proxy: Option<ProxyOut>,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// IP address and port.
    Inet(SocketAddr),
    /// Host name and port, resolved by the master at start and reload; `family` restricts it (`ipv4@`, `ipv6@`).
    Name {
        /// As written.
        host: String,
        /// Port.
        port: u16,
        /// `ipv4@` or `ipv6@`.
        family: Option<Family>,
    },
    /// Unix stream socket.
    Unix(PathBuf),
    /// Abstract unix socket, as in [`BindAddress::Abstract`].
    Abstract(Vec<u8>),
}

impl fmt::Display for ServerAddress {
    /// As the operator writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "{address}"),
            Self::Name { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write_abstract(f, name),
        }
    }
}

/// `abns@` for a name that is filled up with NUL bytes, else `abnsz@`.
fn write_abstract(f: &mut fmt::Formatter<'_>, name: &[u8]) -> fmt::Result {
    let short = name.iter().rposition(|byte| *byte != 0).map_or(&[][..], |last| &name[..=last]);
    let prefix = if name.len() == ABSTRACT_NAME_BYTES { "abns" } else { "abnsz" };
    write!(f, "{prefix}@{}", short.escape_ascii())
}

/// Address family asked for by a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `ipv4@`
    Ipv4,
    /// `ipv6@`
    Ipv6,
}

/// Which PROXY header a server gets.
#[derive(Clone, Debug)]
pub struct ProxyOut {
    /// Protocol version.
    pub version: ProxyVersion,
    /// TLVs of version 2 in the order of the wire; the encoder leaves out what is unknown (no SNI, no certificate).
    pub tlvs: Vec<Tlv>,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// The text form (proxy-protocol.txt, 2.1).
    V1,
    /// The binary form (proxy-protocol.txt, 2.2).
    V2,
    /// `send-client-ip` (extension): Hitch's `write-ip`, which is no PROXY protocol. One byte with the number of the address
    /// family (AF_INET, AF_INET6), then the client's address in network byte order, without a port.
    ClientIp,
}

/// One TLV to send, named as in proxy-protocol.txt 2.2.
#[derive(Clone, Debug)]
pub enum Tlv {
    /// `set-proxy-v2-tlv-fmt(id) fmt`.
    Custom {
        /// PP2 type.
        id: u8,
        /// Its value.
        format: Format,
    },
    /// PP2_TYPE_CRC32C.
    Crc32c,
    /// PP2_TYPE_ALPN.
    Alpn,
    /// PP2_TYPE_AUTHORITY: the SNI.
    Authority,
    /// PP2_TYPE_UNIQUE_ID.
    UniqueId,
    /// `cert-fingerprint` (extension): TLV 0xE0, lower-case hex SHA-256 of the client certificate. Required if a certificate was verified.
    CertFingerprint,
    /// `client-cert-pem` (extension): TLV 0xE0 as Hitch's `proxy-client-cert` writes it, the client certificate in PEM with the
    /// label `TRUSTED CERTIFICATE`. Required if a certificate was verified.
    ClientCertPem,
    /// PP2_TYPE_SSL with these sub-TLVs in the order of the wire. PP2_SUBTYPE_SSL_VERSION is always first.
    Ssl(Vec<SslTlv>),
}

/// Sub-TLVs of PP2_TYPE_SSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslTlv {
    /// PP2_SUBTYPE_SSL_VERSION 0x21.
    Version,
    /// PP2_SUBTYPE_SSL_CN 0x22.
    Cn,
    /// PP2_SUBTYPE_SSL_CIPHER 0x23.
    Cipher,
    /// PP2_SUBTYPE_SSL_SIG_ALG 0x24.
    SigAlg,
    /// PP2_SUBTYPE_SSL_KEY_ALG 0x25.
    KeyAlg,
    /// PP2_SUBTYPE_SSL_GROUP 0x26.
    Group,
    /// PP2_SUBTYPE_SSL_SIG_SCHEME 0x27.
    SigScheme,
    /// PP2_SUBTYPE_SSL_CLIENT_CERT 0x28: DER.
    ClientCert,
}
