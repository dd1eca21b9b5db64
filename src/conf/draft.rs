//! What the lines of a configuration have said so far; `check` makes the model of it.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use super::ciphers::{Group, Suite12, Suite13};
use super::diagnostic::Diagnostic;
use super::environment::Environment;
use super::expr::Format;
use super::keywords::Dropped;
use super::model::{
    At, AuditTarget, BindAddress, Crt, InitAddr, KeepAlive, Level, ListenOptions, Location, LogTarget, Process,
    ServerAddress, SniPolicy, Source, TcpOptions, TlsVersion, UnixPermissions, Verify,
};
use super::token::Word;
use super::verify_errors::IgnoredErrors;

/// `global`.
#[derive(Default)]
pub(crate) struct Global {
    /// Variables as they are at the line that is read: `setenv` counts for the lines after it.
    pub(crate) environment: Environment,
    /// The part that goes into the model as it is.
    pub(crate) process: Process,
    /// `tune.ssl.lifetime`.
    pub(crate) session_lifetime: Option<Duration>,
    /// `tune.ssl.cachesize`.
    pub(crate) session_blocks: Option<u32>,
    /// `default-path`.
    pub(crate) default_path: Option<At<DefaultPath>>,
    /// `unix-bind`.
    pub(crate) unix_bind: UnixBind,
    /// `ssl-default-bind-…`.
    pub(crate) bind_options: TlsOptions,
    /// `tune.….client`: what clients' sockets are given.
    pub(crate) clients: TcpOptions,
    /// `tune.….server`: what servers' sockets are given.
    pub(crate) servers: TcpOptions,
    /// `tune.listener.default-shards`.
    pub(crate) default_shards: Option<u16>,
    /// `noreuseport`.
    pub(crate) no_reuse_port: bool,
    /// `zero-warning`.
    pub(crate) zero_warning: Option<Location>,
    /// Lines of keywords already given.
    pub(crate) seen: HashMap<&'static str, u32>,
}

/// `default-path`: where relative names of files start.
#[derive(Clone, Debug)]
pub(crate) enum DefaultPath {
    /// `current`: where the program was started.
    Current,
    /// `config`: in the directory of the file that says so.
    Config,
    /// `parent`: in the directory above that.
    Parent,
    /// `origin <path>`.
    Origin(PathBuf),
}

/// `unix-bind`: what counts for the unix sockets of all `bind` lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnixBind {
    /// Put in front of their paths.
    pub(crate) prefix: Vec<u8>,
    /// For those that do not say it themselves.
    pub(crate) permissions: UnixPermissions,
}

/// TLS settings that stand on a `bind` line or in `ssl-default-bind-…`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// `ssl-min-ver`.
    pub(crate) min: Option<TlsVersion>,
    /// `ssl-max-ver`.
    pub(crate) max: Option<TlsVersion>,
    /// `strict-sni`, `no-strict-sni` or `sni-nomatch-abort`.
    pub(crate) sni: Option<SniPolicy>,
    /// `no-tlsv12`.
    pub(crate) no_tls12: bool,
    /// `no-tlsv13`.
    pub(crate) no_tls13: bool,
    /// `tls-tickets` or `no-tls-tickets`.
    pub(crate) tickets: Option<bool>,
    /// `prefer-client-ciphers`.
    pub(crate) prefer_client_ciphers: bool,
    /// `ciphers`.
    pub(crate) suites12: Option<Vec<Suite12>>,
    /// `ciphersuites`.
    pub(crate) suites13: Option<Vec<Suite13>>,
    /// `curves`.
    pub(crate) groups: Option<Vec<Group>>,
}

/// Which section a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    Defaults,
    Frontend,
    Backend,
    Listen,
}

impl ProxyKind {
    /// The keyword.
    pub(crate) fn word(self) -> &'static str {
        match self {
            ProxyKind::Defaults => "defaults",
            ProxyKind::Frontend => "frontend",
            ProxyKind::Backend => "backend",
            ProxyKind::Listen => "listen",
        }
    }

    /// Takes clients.
    pub(crate) fn has_frontend(self) -> bool {
        matches!(self, ProxyKind::Frontend | ProxyKind::Listen)
    }

    /// Has servers.
    pub(crate) fn has_backend(self) -> bool {
        matches!(self, ProxyKind::Backend | ProxyKind::Listen)
    }
}

/// `defaults`, `frontend`, `backend` or `listen`.
pub(crate) struct Proxy {
    pub(crate) kind: ProxyKind,
    pub(crate) name: String,
    pub(crate) at: Location,
    /// What can be inherited from `defaults`.
    pub(crate) settings: Settings,
    pub(crate) binds: Vec<BindDraft>,
    /// Words of each `ssl-f-use` line.
    pub(crate) certificates: Vec<Vec<Word>>,
    pub(crate) servers: Vec<ServerDraft>,
    /// `use_backend` without condition, and bytes to mark.
    pub(crate) use_backend: Option<(At<String>, u32)>,
    /// Lines of keywords already given in this section.
    pub(crate) seen: HashMap<&'static str, u32>,
    /// A line of it was refused: something that seems to be missing may stand there.
    pub(crate) broken: bool,
    /// HTTP-only lines: errors of their own, unless `mode http` is the error.
    pub(crate) http_lines: Vec<(&'static str, Diagnostic)>,
}

/// A mode that a proxy may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Tcp,
    Http,
}

/// Settings that `defaults` hand down.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    /// `mode`, and bytes to mark.
    pub(crate) mode: Option<(At<Mode>, u32)>,
    pub(crate) maxconn: Option<u32>,
    pub(crate) backlog: Option<u32>,
    /// `default_backend`, and bytes to mark.
    pub(crate) default_backend: Option<(At<String>, u32)>,
    pub(crate) disabled: bool,
    pub(crate) timeouts: Timeouts,
    pub(crate) logs: Vec<TargetLine<LogTarget>>,
    pub(crate) audits: Vec<TargetLine<AuditTarget>>,
    pub(crate) tcplog: bool,
    pub(crate) dontlognull: bool,
    pub(crate) clitcpka: bool,
    /// `clitcpka-…`
    pub(crate) client_probes: KeepAlive,
    pub(crate) srvtcpka: bool,
    /// `srvtcpka-…`
    pub(crate) server_probes: KeepAlive,
    pub(crate) tcpka: bool,
    pub(crate) nolinger: bool,
    pub(crate) accept_tls_eof: bool,
    pub(crate) dontlog_normal: bool,
    pub(crate) log_separate_errors: bool,
    pub(crate) logasap: bool,
    pub(crate) log_tag: Option<String>,
    /// `rate-limit sessions`.
    pub(crate) session_rate: Option<u32>,
    pub(crate) independent_streams: bool,
    pub(crate) abort_on_close: bool,
    /// `source`.
    pub(crate) source: Source,
    /// `retries`; `None`: the usual number.
    pub(crate) retries: Option<u32>,
    /// `default-server`.
    pub(crate) default_server: ServerOptions,
}

/// `timeout …`; zero is not set.
#[derive(Clone, Default)]
pub(crate) struct Timeouts {
    pub(crate) client: Option<Duration>,
    pub(crate) client_hs: Option<Duration>,
    pub(crate) client_fin: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) server: Option<Duration>,
    pub(crate) server_fin: Option<Duration>,
    pub(crate) tunnel: Option<Duration>,
}

/// One `log` or `audit` line of a proxy.
#[derive(Clone)]
pub(crate) enum TargetLine<T> {
    /// `log global`: the lines of `global`.
    Global,
    /// `log <target> …`.
    Target(T),
}

/// One `bind` line.
pub(crate) struct BindDraft {
    pub(crate) at: Location,
    pub(crate) addresses: Vec<At<BindAddress>>,
    pub(crate) name: Option<String>,
    pub(crate) accept_proxy: bool,
    pub(crate) backlog: Option<u32>,
    pub(crate) maxconn: Option<u32>,
    pub(crate) unix: UnixPermissions,
    pub(crate) v4v6: bool,
    pub(crate) v6only: bool,
    /// `level`, which belongs to `stats socket`.
    pub(crate) level: Option<At<Level>>,
    /// `interface`.
    pub(crate) interface: Option<String>,
    pub(crate) socket: ListenOptions,
    /// `thread`.
    pub(crate) threads: Option<BTreeSet<u16>>,
    /// `shards`: a number; `Some(None)`: one for each event loop.
    pub(crate) shards: Option<Option<u16>>,
    /// The first parameter that is about TCP, for when the socket is a unix socket.
    pub(crate) tcp_parameter: Option<(&'static str, Location)>,
    /// `ssl`, and bytes to mark.
    pub(crate) ssl: Option<(Location, u32)>,
    /// A parameter was refused: something that seems to be missing may be it.
    pub(crate) broken: bool,
    /// The first parameter that is about TLS, for when `ssl` is missing.
    pub(crate) tls_parameter: Option<(&'static str, Location)>,
    /// `last-crt-wins`.
    pub(crate) last_crt_wins: bool,
    pub(crate) crt: Vec<Crt>,
    pub(crate) verify: Option<At<Verify>>,
    pub(crate) ca_file: Option<At<PathBuf>>,
    /// The first of the words `ca-file` and `ca-verify-file`, and bytes to mark.
    pub(crate) ca_file_at: Option<(Location, u32)>,
    pub(crate) ca_verify_file: Option<At<PathBuf>>,
    /// `no-ca-names`.
    pub(crate) no_ca_names: bool,
    /// `crt-ignore-err`.
    pub(crate) ignored_of_leaf: Option<At<IgnoredErrors>>,
    /// `ca-ignore-err`.
    pub(crate) ignored_of_ca: Option<At<IgnoredErrors>>,
    pub(crate) crl_file: Option<At<PathBuf>>,
    /// The word `crl-file`, and bytes to mark.
    pub(crate) crl_file_at: Option<(Location, u32)>,
    pub(crate) ticket_keys: Option<At<PathBuf>>,
    pub(crate) alpn: Vec<Vec<u8>>,
    /// `ecdhe`.
    pub(crate) ecdhe: Option<At<Vec<Group>>>,
    /// Words of `ciphers`, `ciphersuites`, `curves` and `ecdhe` that name nothing here.
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) options: TlsOptions,
}

impl BindDraft {
    /// A line without parameters.
    pub(crate) fn new(at: Location) -> Self {
        Self {
            at,
            addresses: Vec::new(),
            name: None,
            accept_proxy: false,
            backlog: None,
            maxconn: None,
            unix: UnixPermissions::default(),
            v4v6: false,
            v6only: false,
            level: None,
            interface: None,
            socket: ListenOptions::default(),
            threads: None,
            shards: None,
            tcp_parameter: None,
            ssl: None,
            broken: false,
            tls_parameter: None,
            last_crt_wins: false,
            crt: Vec::new(),
            verify: None,
            ca_file: None,
            ca_file_at: None,
            ca_verify_file: None,
            no_ca_names: false,
            ignored_of_leaf: None,
            ignored_of_ca: None,
            crl_file: None,
            crl_file_at: None,
            ticket_keys: None,
            alpn: Vec::new(),
            ecdhe: None,
            dropped: Vec::new(),
            options: TlsOptions::default(),
        }
    }
}

/// One `server` line.
pub(crate) struct ServerDraft {
    pub(crate) name: String,
    pub(crate) at: Location,
    pub(crate) address: Option<At<ServerAddress>>,
    /// The port is that of the client's connection, with this added.
    pub(crate) port_offset: Option<i32>,
    pub(crate) options: ServerOptions,
}

/// What the parameters of a `server` or `default-server` line ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerOptions {
    /// The PROXY header.
    pub(crate) proxy: ProxyOptions,
    /// `tcp-ut`, `cc`.
    pub(crate) tcp: TcpOptions,
    /// `disabled`.
    pub(crate) disabled: bool,
    /// `source`; `None`: that of the section.
    pub(crate) source: Option<Source>,
    /// `init-addr`; empty: the usual.
    pub(crate) init_addr: Vec<InitAddr>,
    /// `resolve-interval`.
    pub(crate) resolve_interval: Option<Duration>,
}

/// The PROXY header that a `server` or `default-server` line asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyOptions {
    pub(crate) v1: bool,
    pub(crate) v2: bool,
    pub(crate) ssl: bool,
    pub(crate) cert_cn: bool,
    pub(crate) ssl_cipher: bool,
    pub(crate) cert_sig: bool,
    pub(crate) cert_key: bool,
    pub(crate) authority: bool,
    pub(crate) crc32c: bool,
    pub(crate) unique_id: bool,
    pub(crate) client_cert: bool,
    pub(crate) ssl_group: bool,
    pub(crate) ssl_sig_scheme: bool,
    pub(crate) cert_fingerprint: bool,
    pub(crate) client_cert_pem: bool,
    /// `send-client-ip`, and where.
    pub(crate) client_ip: Option<Location>,
    /// `send-received-proxy`, and where.
    pub(crate) received: Option<Location>,
    /// `set-proxy-v2-tlv-fmt`, in order.
    pub(crate) custom: Vec<(u8, Format)>,
    /// The last parameter that matters for version 2 only, for when no `send-proxy-v2` is there.
    pub(crate) v2_parameter: Option<(&'static str, Location)>,
    /// The last `no-send-proxy-v2…`, for when it leaves something behind.
    pub(crate) taken_back: Option<(&'static str, Location)>,
    /// `ssl` of the server itself: asks for TLS towards it, which is refused once the address is known.
    pub(crate) tls: Option<(&'static str, Location)>,
}

impl ProxyOptions {
    /// Something that HAProxy has asks for version 2, other than `send-proxy-v2` itself.
    pub(crate) fn has_v2_flags(&self) -> bool {
        let about_tls = self.ssl || self.cert_cn || self.ssl_cipher || self.cert_sig || self.cert_key;
        about_tls || self.authority || self.crc32c || self.unique_id
    }
}
