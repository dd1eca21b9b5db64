//! Drafts to the model: what only shows when all sections are known.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::UNIX_PATH_MAX;
use super::certificate_files::CertificateFiles;
use super::ciphers::{Group, Suite12, Suite13};
use super::crt_list;
use super::diagnostic::{Diagnostic, Diagnostics, Severity, shown};
use super::draft::{BindDraft, DefaultPath, Global, Mode, Proxy, ServerDraft, Settings, TargetLine, TlsOptions};
use super::header;
use super::keywords::{self, nearest};
use super::model::{
    AdminSocket, At, AuditTarget, Backend, Bind, BindAddress, BindTls, Crt, CrtKind, Frontend, Location, LogTarget,
    Model, ProxyVersion, Server, ServerAddress, Source, Spread, TcpOptions, TlsVersion, UnixPermissions, Verify,
};
use super::parse::{Drafts, SIMILAR_NAMES_MAX};
use super::token::saturated;

/// HAProxy's default of `tune.ssl.lifetime`.
const SESSION_LIFETIME_DEFAULT: Duration = Duration::from_secs(300);

/// HAProxy's default of `stats timeout`.
const ADMIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// HAProxy's default of `stats maxconn`.
const ADMIN_MAXCONN_DEFAULT: u32 = 10;
/// HAProxy's default of `retries`.
const RETRIES_DEFAULT: u32 = 3;

/// HAProxy's default of `tune.ssl.cachesize`.
const SESSION_BLOCKS_DEFAULT: u32 = 20_000;

/// Checks everything and makes the model. It is complete only if there was no error.
pub(crate) fn model(drafts: Drafts, diagnostics: &mut Diagnostics) -> Model {
    let Drafts { mut global, proxies, incomplete } = drafts;
    let mut process = std::mem::take(&mut global.process);
    process.session_lifetime = global.session_lifetime.unwrap_or(SESSION_LIFETIME_DEFAULT);
    process.session_blocks = global.session_blocks.unwrap_or(SESSION_BLOCKS_DEFAULT);
    if process.admin_timeout.is_zero() {
        process.admin_timeout = ADMIN_TIMEOUT_DEFAULT;
    }
    if process.admin_maxconn == 0 {
        process.admin_maxconn = ADMIN_MAXCONN_DEFAULT;
    }
    let backends: HashMap<&str, &Proxy> =
        proxies.iter().filter(|proxy| proxy.kind.has_backend()).map(|proxy| (proxy.name.as_str(), proxy)).collect();
    let start = start_of_names(&global, &mut process.certificate_files);
    let mut check = Check {
        global: &global,
        start,
        logs: &process.logs,
        audits: &process.audits,
        files: &process.certificate_files,
        backends,
        incomplete,
        reported: HashSet::new(),
        diagnostics,
    };
    let mut frontends = Vec::new();
    let mut servers = Vec::new();
    for proxy in &proxies {
        check.mode(proxy);
        check.timeouts(proxy);
        if proxy.kind.has_frontend() {
            frontends.extend(check.frontend(proxy).filter(|_| !proxy.settings.disabled));
        }
        if proxy.kind.has_backend() {
            servers.extend(check.backend(proxy).filter(|_| !proxy.settings.disabled));
        }
    }
    addresses_once(&frontends, &process.admin_sockets, diagnostics);
    headers_received(&frontends, &servers, diagnostics);
    keywords::audits_without_connections(&process.audits, &frontends, diagnostics);
    if let Some(at) = global.zero_warning.filter(|_| diagnostics.any(Severity::Warning)) {
        let error = Diagnostic::error("E109", &at, "there are warnings, and 'zero-warning' does not allow any");
        diagnostics.push(error.span(saturated("zero-warning".len())));
    }
    Model { process, frontends, backends: servers }
}

struct Check<'a> {
    global: &'a Global,
    logs: &'a [LogTarget],
    audits: &'a [AuditTarget],
    files: &'a CertificateFiles,
    /// Where relative names start, by `default-path`; empty: in the directory of the process.
    start: PathBuf,
    backends: HashMap<&'a str, &'a Proxy>,
    incomplete: bool,
    /// Findings about lines of `defaults`, which would come again with every section.
    reported: HashSet<(&'static str, Location)>,
    diagnostics: &'a mut Diagnostics,
}

impl Check<'_> {
    /// E201, with the HTTP-only lines of the section as a note or as errors of their own.
    fn mode(&mut self, proxy: &Proxy) {
        let (kind, name) = (proxy.kind.word(), &proxy.name);
        let Some((mode, length)) = proxy.settings.mode.as_ref().filter(|(mode, _)| mode.value == Mode::Http) else {
            for (_, error) in &proxy.http_lines {
                self.diagnostics.push(error.clone());
            }
            return;
        };
        let own = proxy.seen.contains_key("mode");
        let (at, length) = if own { (&mode.at, *length) } else { (&proxy.at, saturated(kind.len())) };
        let from = if own { String::new() } else { format!(", from 'defaults' (line {})", mode.at.line) };
        let message =
            format!("'mode http' in {kind} '{name}'{from}: this program relays bytes and does not parse HTTP");
        let mut error = Diagnostic::error("E201", at, message)
            .span(length)
            .help("use 'mode tcp' here and hand the connection to an HAProxy in 'mode http' (server … send-proxy-v2)");
        if !proxy.http_lines.is_empty() {
            let shown: Vec<String> = proxy
                .http_lines
                .iter()
                .take(8)
                .map(|(keyword, line)| format!("'{keyword}' (line {})", line.at.line))
                .collect();
            let (count, more) = (proxy.http_lines.len(), if proxy.http_lines.len() > 8 { ", …" } else { "" });
            let are = if count == 1 { "line of this section is" } else { "lines of this section are" };
            error = error.note(format!("{count} more {are} HTTP-only: {}{more}", shown.join(", ")));
        }
        self.diagnostics.push(error);
    }

    fn timeouts(&mut self, proxy: &Proxy) {
        let timeouts = &proxy.settings.timeouts;
        let wanted = [
            ("timeout client", proxy.kind.has_frontend() && timeouts.client.is_none()),
            ("timeout connect", proxy.kind.has_backend() && timeouts.connect.is_none()),
            ("timeout server", proxy.kind.has_backend() && timeouts.server.is_none()),
        ];
        let missing: Vec<String> =
            wanted.iter().filter(|(_, missing)| *missing).map(|(name, _)| format!("'{name}'")).collect();
        // A section without a name could not be read.
        if missing.is_empty() || proxy.settings.disabled || proxy.name.is_empty() {
            return;
        }
        let kind = proxy.kind.word();
        let message = format!(
            "{kind} '{}' has no {}: a connection without activity may stay for ever",
            proxy.name,
            missing.join(", ")
        );
        let warning = Diagnostic::warning("W102", &proxy.at, message).span(saturated(kind.len()));
        self.diagnostics.push(warning.help("set it here or in 'defaults'; '1h' is better than nothing"));
    }

    fn frontend(&mut self, proxy: &Proxy) -> Option<Frontend> {
        let settings = &proxy.settings;
        let kind = proxy.kind.word();
        if proxy.binds.is_empty() && !proxy.broken {
            let message = format!("{kind} '{}' has no 'bind': it listens nowhere", proxy.name);
            self.diagnostics.push(Diagnostic::warning("W411", &proxy.at, message).span(saturated(kind.len())));
        }
        let binds: Vec<Bind> = proxy.binds.iter().map(|bind| self.bind(bind, proxy)).collect();
        if let Some(word) = proxy.certificates.first().and_then(|words| words.first()) {
            if !proxy.binds.iter().any(takes_lines) && !proxy.broken {
                let message = "'ssl-f-use' has no effect: no 'bind … ssl' line is without certificates of its own";
                self.diagnostics.push(word.warning("W413", message));
            }
        }
        let Settings { maxconn, backlog, timeouts, tcplog, dontlognull, accept_tls_eof, .. } = settings;
        Some(Frontend {
            name: proxy.name.clone(),
            at: proxy.at.clone(),
            binds,
            default_backend: self.route(proxy)?,
            maxconn: *maxconn,
            backlog: *backlog,
            timeout_client: timeouts.client,
            timeout_client_hs: timeouts.client_hs,
            timeout_client_fin: timeouts.client_fin,
            logs: targets(&settings.logs, self.logs),
            audits: targets(&settings.audits, self.audits),
            tcplog: *tcplog,
            dontlognull: *dontlognull,
            dontlog_normal: settings.dontlog_normal,
            log_separate_errors: settings.log_separate_errors,
            logasap: settings.logasap,
            log_tag: settings.log_tag.clone(),
            session_rate: settings.session_rate,
            independent_streams: settings.independent_streams,
            accept_tls_eof: *accept_tls_eof,
        })
    }

    /// Where connections go.
    fn route(&mut self, proxy: &Proxy) -> Option<At<String>> {
        let kind = proxy.kind.word();
        let target = proxy.use_backend.as_ref().or(proxy.settings.default_backend.as_ref());
        let Some((target, length)) = target else {
            if !proxy.servers.is_empty() {
                return Some(At { value: proxy.name.clone(), at: proxy.at.clone() });
            }
            if !self.incomplete && !proxy.broken {
                let what =
                    if proxy.kind.has_backend() { "'server' and no 'default_backend'" } else { "'default_backend'" };
                let message = format!("{kind} '{}' has no {what}: its connections would go nowhere", proxy.name);
                let error = Diagnostic::error("E411", &proxy.at, message).span(saturated(kind.len()));
                self.diagnostics.push(error.help("write 'default_backend <name of a backend>'"));
            }
            return None;
        };
        if let Some(server) = proxy.servers.first() {
            let word = if proxy.use_backend.is_some() { "use_backend" } else { "default_backend" };
            let message =
                format!("'{word}' of listen '{}' goes before its own server, which is never used", proxy.name);
            self.diagnostics.push(Diagnostic::warning("W412", &server.at, message).span(saturated("server".len())));
        }
        match self.backends.get(target.value.as_str()) {
            Some(backend) if backend.settings.disabled => {
                let message = format!("backend '{}' is disabled: connections would go nowhere", target.value);
                self.report(Diagnostic::error("E401", &target.at, message).span(*length));
                None
            }
            // A listen that has its servers elsewhere can not be where connections end.
            Some(backend) if backend.servers.is_empty() && backend.kind.has_frontend() && !self.incomplete => {
                let message = format!("listen '{}' has no server: connections would go nowhere", target.value);
                self.report(Diagnostic::error("E401", &target.at, message).span(*length));
                None
            }
            Some(_) => Some(target.clone()),
            None => {
                if !self.incomplete {
                    self.unknown_backend(target, *length);
                }
                None
            }
        }
    }

    fn unknown_backend(&mut self, target: &At<String>, length: u32) {
        let error =
            Diagnostic::error("E401", &target.at, format!("no backend named '{}'", shown(target.value.as_bytes())))
                .span(length);
        let mut names: Vec<&str> = self.backends.keys().copied().collect();
        names.sort_unstable();
        let near =
            nearest(&target.value, names.into_iter().take(SIMILAR_NAMES_MAX)).and_then(|name| self.backends.get(name));
        let error = match near {
            Some(backend) => {
                error.label(format!("did you mean '{}' (defined at line {})?", backend.name, backend.at.line))
            }
            None => error,
        };
        self.report(error);
    }

    /// Pushes a finding about a place once, however many sections inherit it.
    fn report(&mut self, diagnostic: Diagnostic) {
        if self.reported.insert((diagnostic.code, diagnostic.at.clone())) {
            self.diagnostics.push(diagnostic);
        }
    }

    fn bind(&mut self, draft: &BindDraft, proxy: &Proxy) -> Bind {
        let settings = &proxy.settings;
        self.one_directory(draft);
        let mut tls = self.tls(draft, proxy);
        if let Some(tls) = tls.as_mut().filter(|_| takes_lines(draft)) {
            // What is wrong with the lines is told once.
            let is_first = proxy.binds.iter().find(|bind| takes_lines(bind)).is_some_and(|bind| bind.at == draft.at);
            let mut told = Diagnostics::default();
            let diagnostics = if is_first { &mut *self.diagnostics } else { &mut told };
            let entries = proxy.certificates.iter();
            let entries = entries.filter_map(|words| crt_list::line(words, tls, self.files, diagnostics));
            tls.entries = entries.collect();
        }
        let shared = &self.global.unix_bind;
        let addresses = draft.addresses.iter().map(|address| self.prefixed(address)).collect();
        let mut socket = draft.socket.clone();
        socket.tcp = with_buffers(&socket.tcp, &self.global.clients);
        socket.tcp.keepalive = (settings.clitcpka || settings.tcpka).then_some(settings.client_probes);
        socket.tcp.no_linger = settings.nolinger;
        let Global { no_reuse_port, default_shards, .. } = self.global;
        let sockets = if *no_reuse_port { Some(1) } else { draft.shards.unwrap_or(*default_shards) };
        Bind {
            at: draft.at.clone(),
            addresses,
            name: draft.name.clone(),
            accept_proxy: draft.accept_proxy,
            backlog: draft.backlog,
            maxconn: draft.maxconn,
            unix: UnixPermissions {
                mode: draft.unix.mode.or(shared.permissions.mode),
                user: draft.unix.user.clone().or_else(|| shared.permissions.user.clone()),
                group: draft.unix.group.clone().or_else(|| shared.permissions.group.clone()),
            },
            socket,
            spread: Spread { threads: draft.threads.clone(), sockets, no_reuse_port: *no_reuse_port },
            tls,
        }
    }

    /// E120: HAProxy goes from directory to directory with 'default-path config'; here there is one start for all names.
    fn one_directory(&mut self, draft: &BindDraft) {
        let Some(At { value: DefaultPath::Config | DefaultPath::Parent, at }) = &self.global.default_path else {
            return;
        };
        if directory(&at.file) != directory(&draft.at.file) && draft.ssl.is_some() {
            let message = "files in another directory than the one that says 'default-path' are valid HAProxy but not implemented yet";
            let error = Diagnostic::error("E120", &draft.at, message).span(saturated("bind".len()));
            self.diagnostics
                .push(error.help("until then: write 'default-path origin <directory>', or put the files side by side"));
        }
    }

    /// The address with the prefix of 'unix-bind' in front of the path of a unix socket.
    fn prefixed(&mut self, address: &At<BindAddress>) -> At<BindAddress> {
        let prefix = &self.global.unix_bind.prefix;
        let BindAddress::Unix(path) = &address.value else { return address.clone() };
        let whole = [prefix, path.as_os_str().as_bytes()].concat();
        if whole.len() > UNIX_PATH_MAX {
            let message = format!(
                "the path of a unix socket has at most {UNIX_PATH_MAX} bytes; with the prefix of 'unix-bind' this one has {}",
                whole.len()
            );
            self.diagnostics.push(Diagnostic::error("E103", &address.at, message));
        }
        At { value: BindAddress::Unix(PathBuf::from(OsString::from_vec(whole))), at: address.at.clone() }
    }

    fn tls(&mut self, draft: &BindDraft, proxy: &Proxy) -> Option<BindTls> {
        let Some((ssl_at, ssl_length)) = &draft.ssl else {
            if let Some((name, at)) = &draft.tls_parameter {
                let message = format!("'{name}' is given but 'ssl' is missing: this socket would accept plaintext");
                let error = Diagnostic::error("E210", at, message).span(saturated(name.len()));
                self.diagnostics.push(error.label(format!("write 'ssl {name} …' here")));
            }
            return None;
        };
        if !draft.broken {
            self.verification(draft, !proxy.certificates.is_empty(), ssl_at, *ssl_length);
        }
        let verify = draft.verify.as_ref().map_or(Verify::None, |verify| verify.value);
        let (min_version, max_version) = self.versions(&draft.options, ssl_at, *ssl_length);
        let groups = self.groups(draft);
        if min_version == TlsVersion::Tls12 && !groups.iter().any(|group| group.is_of_tls12()) {
            let message = "no group is left for TLS 1.2: clients without TLS 1.3 are refused";
            let warning = Diagnostic::warning("W303", ssl_at, message).span(*ssl_length);
            self.diagnostics.push(warning.help("add X25519 or P-256 to 'curves', or say 'ssl-min-ver TLSv1.3'"));
        }
        let Global { bind_options, .. } = self.global;
        let CertificateFiles { crt_base, .. } = self.files;
        let tickets = draft.options.tickets.or(bind_options.tickets).unwrap_or(true);
        if let Some(At { at, .. }) = draft.ticket_keys.as_ref().filter(|_| !tickets) {
            let message = "'tls-ticket-keys' has no effect: 'no-tls-tickets' says that there are no tickets";
            self.diagnostics.push(Diagnostic::warning("W304", at, message));
        }
        Some(BindTls {
            crt: draft
                .crt
                .iter()
                .map(|crt| match crt.kind {
                    CrtKind::List => Crt { file: based(Some(&self.start), &crt.file), ..crt.clone() },
                    kind => Crt { file: based(crt_base.as_deref(), &crt.file), kind },
                })
                .collect(),
            entries: Vec::new(),
            verify,
            ca_file: draft.ca_file.as_ref().map(|path| self.files.authority(path)),
            ca_verify_file: draft.ca_verify_file.as_ref().map(|path| self.files.authority(path)),
            ca_names: !draft.no_ca_names,
            ignored_of_leaf: draft.ignored_of_leaf.as_ref().map_or_else(Default::default, |ignored| ignored.value),
            ignored_of_ca: draft.ignored_of_ca.as_ref().map_or_else(Default::default, |ignored| ignored.value),
            crl_file: draft.crl_file.as_ref().map(|path| self.files.authority(path)),
            alpn: draft.alpn.clone(),
            min_version,
            max_version,
            suites12: or_default(&draft.options.suites12, &bind_options.suites12, &Suite12::DEFAULT),
            suites13: or_default(&draft.options.suites13, &bind_options.suites13, &Suite13::DEFAULT),
            groups,
            prefer_client_ciphers: draft.options.prefer_client_ciphers || bind_options.prefer_client_ciphers,
            tickets,
            ticket_keys: draft.ticket_keys.as_ref().map(|path| based(Some(&self.start), path)),
            sni: draft.options.sni.or(bind_options.sni).unwrap_or_default(),
            last_crt_wins: draft.last_crt_wins,
        })
    }

    /// A list of the line, else of `global`, else `ecdhe`: HAProxy's order.
    fn groups(&mut self, draft: &BindDraft) -> Vec<Group> {
        let listed = draft.options.groups.as_ref().or(self.global.bind_options.groups.as_ref());
        match (listed, &draft.ecdhe) {
            (Some(listed), Some(At { at, .. })) => {
                let wins = if draft.options.groups.is_some() { "curves" } else { "ssl-default-bind-curves" };
                let message = format!("'ecdhe' has no effect: '{wins}' goes before it");
                self.diagnostics.push(Diagnostic::warning("W302", at, message).span(saturated("ecdhe".len())));
                listed.clone()
            }
            (Some(listed), None) => listed.clone(),
            (None, Some(single)) => single.value.clone(),
            (None, None) => Group::DEFAULT.to_vec(),
        }
    }

    /// What is missing on a line with `ssl`.
    fn verification(&mut self, draft: &BindDraft, has_lines: bool, ssl_at: &Location, ssl_length: u32) {
        if draft.crt.is_empty() && !has_lines {
            let error = Diagnostic::error("E212", ssl_at, "'ssl' needs a certificate").span(ssl_length);
            self.diagnostics
                .push(error.help("add 'crt <file>', a PEM file with the certificate, its chain and the private key"));
        }
        let verify = draft.verify.as_ref().map_or(Verify::None, |verify| verify.value);
        match (verify, &draft.verify, &draft.ca_file_at) {
            (Verify::Optional | Verify::Required, Some(At { at, .. }), None) => {
                let word = if verify == Verify::Required { "required" } else { "optional" };
                let message =
                    format!("'verify {word}' needs 'ca-file' (or 'ca-verify-file'): nobody could be verified");
                let error = Diagnostic::error("E211", at, message).span(saturated("verify".len()));
                self.diagnostics.push(error.help("add 'ca-file <file>' with the authority of your clients"));
            }
            (Verify::None, given, Some((at, length))) => {
                let without = if given.is_some() { "with 'verify none'" } else { "without 'verify'" };
                let name = if draft.ca_file.is_some() { "ca-file" } else { "ca-verify-file" };
                let message = format!("'{name}' {without}: clients are NOT asked for a certificate");
                let warning = Diagnostic::warning("W211", at, message).span(*length);
                self.diagnostics.push(warning.help(format!("add 'verify required', or remove '{name}'")));
            }
            _ => {}
        }
        let ignored = [("crt-ignore-err", &draft.ignored_of_leaf), ("ca-ignore-err", &draft.ignored_of_ca)];
        for (name, ignored) in ignored.into_iter().filter(|_| verify == Verify::None) {
            if let Some(At { at, .. }) = ignored {
                let message = format!("'{name}' without 'verify': clients are NOT asked for a certificate");
                let warning = Diagnostic::warning("W213", at, message).span(saturated(name.len()));
                self.diagnostics.push(warning.help(format!("add 'verify required' and 'ca-file', or remove '{name}'")));
            }
        }
        if let Some((at, length)) = &draft.crl_file_at {
            if verify == Verify::None {
                let message =
                    "'crl-file' without 'verify': clients are NOT asked for a certificate, so none is ever revoked";
                let warning = Diagnostic::warning("W212", at, message).span(*length);
                self.diagnostics.push(warning.help("add 'verify required' and 'ca-file', or remove 'crl-file'"));
            }
        }
    }

    fn versions(&mut self, options: &TlsOptions, at: &Location, length: u32) -> (TlsVersion, TlsVersion) {
        let defaults = &self.global.bind_options;
        let min = options.min.or(defaults.min).unwrap_or(TlsVersion::Tls12);
        let max = options.max.or(defaults.max).unwrap_or(TlsVersion::Tls13);
        // HAProxy forgets these words beside 'ssl-min-ver' and 'ssl-max-ver', with a warning.
        let min = if options.no_tls12 || defaults.no_tls12 { TlsVersion::Tls13 } else { min };
        let max = if options.no_tls13 || defaults.no_tls13 { TlsVersion::Tls12 } else { max };
        if min > max {
            let message = "no version of TLS is left: the lowest is TLS 1.3 and the highest TLS 1.2";
            let error = Diagnostic::error("E301", at, message).span(length);
            let words = "'ssl-min-ver', 'ssl-max-ver', 'force-tlsv1…' and 'no-tlsv1…'";
            self.diagnostics.push(error.help(format!("look at {words} here and in 'ssl-default-bind-options'")));
        }
        (min, max)
    }

    /// `None`: a `listen` that sends its connections elsewhere, or an error.
    fn backend(&mut self, proxy: &Proxy) -> Option<Backend> {
        if proxy.servers.is_empty() {
            if !proxy.kind.has_frontend() && !proxy.broken {
                let message = format!("backend '{}' has no 'server': its connections would go nowhere", proxy.name);
                let error = Diagnostic::error("E412", &proxy.at, message).span(saturated("backend".len()));
                self.diagnostics.push(error.help("write 'server <name> <address>:<port>'"));
            }
            return None;
        }
        let settings = &proxy.settings;
        let mut servers = Vec::new();
        for draft in &proxy.servers {
            let proxy_out = header::proxy_out(&draft.options.proxy, |finding| self.report(finding));
            let mut tcp = with_buffers(&draft.options.tcp, &self.global.servers);
            tcp.keepalive = (settings.srvtcpka || settings.tcpka).then_some(settings.server_probes);
            tcp.no_linger = settings.nolinger;
            // Without address the line was refused.
            if let Some(address) = &draft.address {
                servers.push(Server {
                    name: draft.name.clone(),
                    at: draft.at.clone(),
                    address: address.clone(),
                    proxy: proxy_out,
                    disabled: draft.options.disabled,
                    port_offset: draft.port_offset,
                    source: self.source(draft, settings),
                    init_addr: draft.options.init_addr.clone(),
                    resolve_interval: draft.options.resolve_interval,
                    tcp,
                });
            }
        }
        let timeouts = &settings.timeouts;
        Some(Backend {
            name: proxy.name.clone(),
            at: proxy.at.clone(),
            servers,
            timeout_connect: timeouts.connect,
            timeout_server: timeouts.server,
            timeout_server_fin: timeouts.server_fin,
            timeout_tunnel: timeouts.tunnel,
            retries: settings.retries.unwrap_or(RETRIES_DEFAULT),
            abort_on_close: settings.abort_on_close,
            independent_streams: settings.independent_streams,
        })
    }
}

/// Where relative names start, by `default-path`. The bases of certificates start there too.
fn start_of_names(global: &Global, files: &mut CertificateFiles) -> PathBuf {
    let Some(At { value, at }) = &global.default_path else { return PathBuf::new() };
    let start = match value {
        DefaultPath::Current => PathBuf::new(),
        DefaultPath::Config => directory(&at.file).to_owned(),
        DefaultPath::Parent => directory(&at.file).join(".."),
        DefaultPath::Origin(path) => path.clone(),
    };
    if !start.as_os_str().is_empty() {
        for base in [&mut files.crt_base, &mut files.ca_base, &mut files.key_base] {
            *base = Some(base.as_ref().map_or_else(|| start.clone(), |base| start.join(base)));
        }
        files.issuers = files.issuers.as_ref().map(|path| based(Some(&start), path));
    }
    start
}

/// The directory that a configuration file stands in.
fn directory(file: &str) -> &Path {
    Path::new(file).parent().unwrap_or(Path::new(""))
}

impl Check<'_> {
    /// Where connections to a server come from.
    fn source(&mut self, draft: &ServerDraft, settings: &Settings) -> Source {
        let source = draft.options.source.as_ref().unwrap_or(&settings.source);
        if let (Some(At { value: ServerAddress::Inet(server), at }), Some(local)) = (&draft.address, source.address) {
            if server.is_ipv4() != local.is_ipv4() {
                let message = format!("{server} can not be reached from {}: one is IPv4, the other IPv6", local.ip());
                self.report(
                    Diagnostic::error("E103", at, message).help("change 'source' or the address of the server"),
                );
            }
        }
        source.clone()
    }
}

/// Whether the certificates of `ssl-f-use` lines are for it.
fn takes_lines(draft: &BindDraft) -> bool {
    draft.ssl.is_some() && draft.crt.is_empty()
}

/// E603: a connection to an address that two lines listen on would belong to either.
fn addresses_once(frontends: &[Frontend], admin: &[AdminSocket], diagnostics: &mut Diagnostics) {
    let mut first: HashMap<BindAddress, &Location> = HashMap::new();
    let bound = frontends.iter().flat_map(|frontend| &frontend.binds).flat_map(|bind| &bind.addresses);
    for address in bound.chain(admin.iter().map(|socket| &socket.address)) {
        let key = match &address.value {
            // The kernel would spread IPv6 clients over a 'v4v6' and a 'v6only' socket.
            BindAddress::Inet { address, interface, .. } => {
                BindAddress::Inet { address: *address, v6only: None, interface: interface.clone() }
            }
            other => other.clone(),
        };
        match first.entry(key) {
            Entry::Vacant(free) => {
                free.insert(&address.at);
            }
            Entry::Occupied(before) => {
                let Location { file, line, .. } = before.get();
                let message = format!("{} is already bound at {file}:{line}", address.value);
                diagnostics.push(Diagnostic::error("E603", &address.at, message));
            }
        }
    }
}

/// E232: a header that nobody has to send can not be passed on.
fn headers_received(frontends: &[Frontend], backends: &[Backend], diagnostics: &mut Diagnostics) {
    let passed_on = |server: &&Server| server.proxy.as_ref().is_some_and(|out| out.version == ProxyVersion::Received);
    for frontend in frontends {
        let backend = backends.iter().find(|backend| backend.name == frontend.default_backend.value);
        let Some(server) = backend.and_then(|backend| backend.servers.iter().find(passed_on)) else { continue };
        for bind in frontend.binds.iter().filter(|bind| !bind.accept_proxy) {
            let message = format!("no 'accept-proxy' here, and server '{}' is to get the header received", server.name);
            let error = Diagnostic::error("E232", &bind.at, message).span(saturated("bind".len()));
            diagnostics.push(error.help("add 'accept-proxy', or write 'send-proxy-v2' on the server"));
        }
    }
}

/// The targets of a section's `log` or `audit` lines.
fn targets<T: Clone>(lines: &[TargetLine<T>], global: &[T]) -> Vec<T> {
    let of = |line: &TargetLine<T>| match line {
        TargetLine::Global => global.to_vec(),
        TargetLine::Target(target) => vec![target.clone()],
    };
    lines.iter().flat_map(of).collect()
}

/// The list of the line, else that of `global`, else the built-in one.
fn or_default<T: Clone>(own: &Option<Vec<T>>, global: &Option<Vec<T>>, built_in: &[T]) -> Vec<T> {
    own.as_ref().or(global.as_ref()).map_or_else(|| built_in.to_vec(), Vec::clone)
}

/// What a line asks for, and what `tune.…` says about all sockets of that side.
fn with_buffers(own: &TcpOptions, side: &TcpOptions) -> TcpOptions {
    TcpOptions {
        receive_buffer: side.receive_buffer,
        send_buffer: side.send_buffer,
        unsent_low_water: side.unsent_low_water,
        ..own.clone()
    }
}

/// A path below its base, unless it is absolute.
fn based(base: Option<&Path>, path: &At<PathBuf>) -> At<PathBuf> {
    let value = base.map_or_else(|| path.value.clone(), |base| base.join(&path.value));
    At { value, at: path.at.clone() }
}
