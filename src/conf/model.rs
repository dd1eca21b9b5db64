//! The validated model that every front-end lowers to. Pure data: no file named here has been opened yet.

mod audit;
mod sockets;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::certificate_files::CertificateFiles;
use super::expr::Format;
pub use audit::{AuditEvent, AuditTarget};
pub use sockets::{InitAddr, KeepAlive, ListenOptions, Source, Spread, TcpOptions};
pub use tls::{BindTls, Crt, CrtKind, RecordLimits, SYSTEM_CA, SniPolicy, TlsVersion, Verify};

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

impl Model {
    /// Every `audit` target, those of `global` first. One may come several times.
    pub fn audits(&self) -> impl Iterator<Item = &AuditTarget> {
        self.process.audits.iter().chain(self.frontends.iter().flat_map(|frontend| &frontend.audits))
    }
}

/// `global`: settings of the process (HAProxy manual, section 3).
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// `user` (name) or `uid` (decimal text).
    pub user: Option<At<String>>,
    /// `group` (name) or `gid` (decimal text).
    pub group: Option<At<String>>,
    /// `chroot`; `None`: the worker's root directory is that of the system.
    pub chroot: Option<At<Chroot>>,
    /// `nbthread`; `None`: one event loop per CPU of the affinity mask.
    pub threads: Option<At<u16>>,
    /// `thread-hard-limit`: no more event loops than this.
    pub threads_max: Option<u16>,
    /// `cpu-map`: CPUs of an event loop by its number, from 1; others run wherever the process may.
    pub cpu_map: BTreeMap<u16, At<BTreeSet<u16>>>,
    /// `ulimit-n`: the limit of open descriptors; `None`: as many as needed.
    pub descriptors: Option<At<u32>>,
    /// `fd-hard-limit`: no more open descriptors than this, whatever the system allows.
    pub descriptors_max: Option<u32>,
    /// `no strict-limits`: what the system does not allow is a warning, not an error.
    pub lenient_limits: bool,
    /// `dns-accept-family`: the addresses of host names that count; `None`: both families.
    pub name_family: Option<Family>,
    /// `maxconn` of the process; `None`: as many as the descriptor limit carries.
    pub maxconn: Option<At<u32>>,
    /// Further limits over all frontends.
    pub limits: Limits,
    /// `tune.maxaccept`: connections that a loop takes in before it does something else; `None`: its own number.
    pub accepts: Option<u32>,
    /// `tune.maxpollevents`: events that a loop takes from the system at a time; `None`: its own number.
    pub events: Option<u32>,
    /// `harden.reject-privileged-ports.tcp`: who comes from a port below 1024 is turned away.
    pub reject_privileged_ports: bool,
    /// `pidfile`.
    pub pidfile: Option<At<PathBuf>>,
    /// `daemon`.
    pub daemon: bool,
    /// `hard-stop-after`; `None`: a drain may last for ever.
    pub hard_stop_after: Option<Duration>,
    /// `log` lines of `global`, where the process's own messages go too.
    pub logs: Vec<LogTarget>,
    /// `audit` lines of `global`, where reloads are recorded too.
    pub audits: Vec<AuditTarget>,
    /// `log-tag`; default `bowline`.
    pub log_tag: Option<String>,
    /// `log-send-hostname`: the host in syslog lines; `None`: none.
    pub log_host: Option<LogHost>,
    /// `quiet`: errors only, as with `-q`.
    pub quiet: bool,
    /// `zero-warning`: a warning that is found later (in a file that the configuration names) refuses the start too.
    pub zero_warning: bool,
    /// `tune.ssl.lifetime`: how long after the first authentication a session may be resumed; default 300 s.
    pub session_lifetime: Duration,
    /// `tune.ssl.cachesize`: room for the sessions of `no-tls-tickets`, in blocks of 200 bytes; default 20000.
    pub session_blocks: u32,
    /// `tune.ssl.maxrecord` and `tune.ssl.hard-maxrecord`.
    pub records: RecordLimits,
    /// `crt-base`, `ssl-load-extra-files` and their kin.
    pub certificate_files: CertificateFiles,
    /// `stats socket` and `metrics socket`.
    pub admin_sockets: Vec<AdminSocket>,
    /// `stats timeout`: how long a client of these may be silent; default 10 s.
    pub admin_timeout: Duration,
    /// `stats maxconn`: clients of each of these at a time; default 10.
    pub admin_maxconn: u32,
}

/// `chroot`: the worker's root directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chroot {
    /// This one, an absolute path.
    Directory(PathBuf),
    /// `auto`: one without name and content.
    Empty,
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

/// Limits of the process beside `maxconn`; `None`: there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// `maxconnrate`: connections accepted in a second.
    pub connection_rate: Option<u32>,
    /// `maxsessrate`: the same, because here each connection is a session.
    pub session_rate: Option<u32>,
    /// `maxsslrate`: TLS connections accepted in a second.
    pub tls_rate: Option<u32>,
    /// `maxsslconn`: TLS connections at a time.
    pub tls_connections: Option<u32>,
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

/// `log-send-hostname`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogHost {
    /// The name of this machine.
    Own,
    /// This text.
    Named(String),
}

impl LogHost {
    /// The text, on a machine of this name.
    pub fn name<'a>(&'a self, own: &'a str) -> &'a str {
        match self {
            Self::Own => own,
            Self::Named(name) => name,
        }
    }
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogSink {
    /// `stdout`, `stderr`, `fd@n`: the descriptor's number in the master.
    Descriptor(i32),
    /// `/dev/log`: unix datagram socket.
    Unix(PathBuf),
    /// `192.0.2.1:514`: UDP syslog.
    Udp(SocketAddr),
    /// `file@/var/log/x.log` (extension): a file that the master opens, at every reload anew and when another one stands there.
    File(PathBuf),
}

/// `format` of a log target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFraming {
    /// What sockets get without `format`: `Local`, or `Rfc3164` with `log-send-hostname`.
    Usual,
    /// `<PRI>Mmm dd hh:mm:ss tag[pid]: `.
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
    /// Name of the backend: `use_backend` without condition, `default_backend`, or the own name of a `listen`. Checked to exist.
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
    /// `audit` targets, `audit global` already replaced by the lines of `global`.
    pub audits: Vec<AuditTarget>,
    /// `option tcplog`; without it HAProxy logs `Connect from … to …` at accept.
    pub tcplog: bool,
    /// `option dontlognull`.
    pub dontlognull: bool,
    /// `option dontlog-normal`: no line for connections that went well.
    pub dontlog_normal: bool,
    /// `option log-separate-errors`: lines about errors have the level `err`.
    pub log_separate_errors: bool,
    /// `option logasap`: the line is written once the server has accepted.
    pub logasap: bool,
    /// `log-tag` of the section; `None`: that of `global`.
    pub log_tag: Option<String>,
    /// `rate-limit sessions`: most new connections in a second.
    pub session_rate: Option<u32>,
    /// `option independent-streams`: what is written to a client does not refresh `timeout client`.
    pub independent_streams: bool,
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
    /// Options of the listening sockets.
    pub socket: ListenOptions,
    /// How the event loops share it.
    pub spread: Spread,
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
        /// `interface`: connections that arrive there alone (SO_BINDTODEVICE).
        interface: Option<String>,
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
            Self::Inet { address, interface: None, .. } => write!(f, "{address}"),
            Self::Inet { address, interface: Some(interface), .. } => write!(f, "{address} interface {interface}"),
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
    /// `retries`: further attempts to connect to the server.
    pub retries: u32,
    /// `option abortonclose`: a client that has ended its stream is given up while the server is connected to.
    pub abort_on_close: bool,
    /// `option independent-streams`: what is written to a server does not refresh `timeout server`.
    pub independent_streams: bool,
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
    /// `disabled`: it takes no connections.
    pub disabled: bool,
    /// The port is that of the client's connection, with this added: an address without port, `+n` or `-n`.
    pub port_offset: Option<i32>,
    /// `source`: where connections to it come from.
    pub source: Source,
    /// `init-addr`: what to do at the start about a host name, in order.
    pub init_addr: Vec<InitAddr>,
    /// `resolve-interval` (extension): how often the host name is looked up again; `None`: at reloads only.
    pub resolve_interval: Option<Duration>,
    /// Options of the sockets towards it.
    pub tcp: TcpOptions,
}

impl Server {
    /// The address to use of those that its name has, best first: one of the family asked for, and one that `source` can reach.
    pub fn choose(&self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let family = match &self.address.value {
            ServerAddress::Name { family, .. } => *family,
            _ => None,
        };
        let fits = |address: &&SocketAddr| {
            let wanted = family.is_none_or(|family| (family == Family::Ipv4) == address.is_ipv4());
            wanted && self.source.address.is_none_or(|local| local.is_ipv4() == address.is_ipv4())
        };
        addresses.iter().find(fits).copied()
    }

    /// The host name and port that have to be looked up.
    pub fn name(&self) -> Option<(String, u16)> {
        match &self.address.value {
            ServerAddress::Name { host, port, .. } => Some((host.clone(), *port)),
            _ => None,
        }
    }
}

/// Where a server is. A port of 0 is that of the client's connection, see [`Server::port_offset`].
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
    /// `send-received-proxy` (extension): Hitch's `proxy-proxy`, the header that the client side sent, byte for byte.
    Received,
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
