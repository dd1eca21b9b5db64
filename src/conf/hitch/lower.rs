//! What the settings mean, in HAProxy's language.

use std::net::IpAddr;

use super::super::diagnostic::{Diagnostics, shown};
use super::Mark;
use super::dump::{Lowered, Piece, Writer};
use super::glob::matches;
use super::options::{Setting, Value};

/// Names of the regular files in a directory, sorted; or why not.
pub type List<'a> = &'a dyn Fn(&str) -> Result<Vec<String>, String>;

/// Hitch's own value of `ciphers`: ECDHE and DHE with AES, of which the suites that exist here are part.
const CIPHERS_DEFAULT: &str = "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH";

/// Seconds of `keepalive`, and of both timeouts.
const KEEPALIVE_DEFAULT: i64 = 3600;
const TIMEOUT_DEFAULT: i64 = 30;
const BACKLOG_DEFAULT: i64 = 100;

/// Facilities of syslog by Hitch's names, and HAProxy's.
const FACILITIES: &[(&str, &str)] = &[
    ("auth", "auth"),
    ("authpriv", "auth2"),
    ("cron", "cron"),
    ("daemon", "daemon"),
    ("ftp", "ftp"),
    ("local0", "local0"),
    ("local1", "local1"),
    ("local2", "local2"),
    ("local3", "local3"),
    ("local4", "local4"),
    ("local5", "local5"),
    ("local6", "local6"),
    ("local7", "local7"),
    ("lpr", "lpr"),
    ("mail", "mail"),
    ("news", "news"),
    ("user", "user"),
    ("uucp", "uucp"),
];

/// What of an option without counterpart can be accepted, because it changes nothing.
enum Harmless {
    Text(&'static [&'static str]),
    Number(i64),
    Off,
    /// Any value: the option only tunes what does not exist here.
    Inert(&'static str),
}

/// Options without counterpart, and what to do.
const WITHOUT: &[(&str, Harmless, &str)] = &[
    ("backend-refresh", Harmless::Number(0), "until then: reload (SIGHUP) when the address has changed"),
    (
        "chroot",
        Harmless::Text(&[""]),
        "until then: remove it; the worker has no access to files where the kernel has Landlock",
    ),
    (
        "ciphers",
        Harmless::Text(&["", CIPHERS_DEFAULT]),
        "until then: remove it; only AEAD suites with ECDHE exist here",
    ),
    ("ciphersuites", Harmless::Text(&[""]), "until then: remove it"),
    ("ecdh-curve", Harmless::Text(&["", "auto"]), "until then: remove it"),
    ("log-filename", Harmless::Text(&[""]), "until then: send standard error to the file, or use 'syslog'"),
    ("ocsp-connect-tmo", Harmless::Inert("OCSP responses are not fetched"), ""),
    (
        "ocsp-dir",
        Harmless::Text(&[""]),
        "until then: remove it, and put responses beside the certificates as <certificate>.ocsp",
    ),
    ("ocsp-refresh-interval", Harmless::Inert("OCSP responses are not fetched"), ""),
    ("ocsp-resp-tmo", Harmless::Inert("OCSP responses are not fetched"), ""),
    ("ocsp-verify-staple", Harmless::Off, "until then: remove it"),
    (
        "proxy-proxy",
        Harmless::Off,
        "until then: 'accept-proxy' and 'send-proxy-v2' of HAProxy's language, which make a new header",
    ),
    ("recv-bufsize", Harmless::Number(-1), "until then: remove it"),
    ("send-bufsize", Harmless::Number(-1), "until then: remove it"),
    ("session-cache", Harmless::Number(0), "remove it: sessions are resumed with tickets"),
    ("shared-cache-if", Harmless::Text(&[""]), "remove it: sessions are resumed with tickets"),
    ("shared-cache-listen", Harmless::Text(&[""]), "remove it: sessions are resumed with tickets"),
    ("shared-cache-peer", Harmless::Text(&[""]), "remove it: sessions are resumed with tickets"),
    ("ssl-engine", Harmless::Text(&[""]), "remove it: this program uses aws-lc, which has no engines"),
    ("tcp-fastopen", Harmless::Off, "until then: remove it"),
];

/// Names of the sections and of the server.
const FRONTEND: &str = "hitch";
const BACKEND: &str = "hitch-backend";
const SERVER: &str = "backend";

/// A certificate, or a directory of them.
struct Crt<'a> {
    path: String,
    mark: &'a Mark,
}

/// Where one frontend listens, and what differs from the rest.
struct Frontend<'a> {
    host: &'a str,
    port: &'a str,
    mark: &'a Mark,
    /// In the order written.
    certificates: Vec<Crt<'a>>,
    own: &'a [Setting],
}

struct Lowering<'a, 'b> {
    global: &'a [Setting],
    /// Where what nobody has written comes from.
    start: &'a Mark,
    list: List<'b>,
    diagnostics: &'b mut Diagnostics,
}

/// Writes the configuration. It is of use only if there was no error.
pub(super) fn lower(settings: &[Setting], start: &Mark, list: List<'_>, diagnostics: &mut Diagnostics) -> Lowered {
    let mut lowering = Lowering { global: settings, start, list, diagnostics };
    let mut writer = Writer::default();
    writer.comment("What a Hitch configuration means in HAProxy's language.");
    lowering.refuse(settings);
    lowering.process(&mut writer);
    lowering.defaults(&mut writer);
    lowering.frontends(&mut writer);
    lowering.backend(&mut writer);
    writer.finish()
}

/// The last setting of one of these names.
fn last<'a>(settings: &'a [Setting], names: &[&str]) -> Option<&'a Setting> {
    settings.iter().rev().find(|setting| names.contains(&setting.row.name))
}

/// A text that is not empty, and where.
fn text<'a>(settings: &'a [Setting], name: &str) -> Option<(&'a str, &'a Mark)> {
    let setting = last(settings, &[name])?;
    match &setting.value {
        Value::Text(text) if !text.is_empty() => Some((text, &setting.mark)),
        _ => None,
    }
}

fn switch<'a>(settings: &'a [Setting], name: &str) -> Option<(bool, &'a Mark)> {
    let setting = last(settings, &[name])?;
    match setting.value {
        Value::Switch(on) => Some((on, &setting.key)),
        _ => None,
    }
}

impl<'a> Lowering<'a, '_> {
    /// What can not be honoured is an error, unless its value changes nothing.
    fn refuse(&mut self, settings: &[Setting]) {
        for setting in settings {
            let name = setting.row.name;
            if let Value::Block(inside) = &setting.value {
                self.refuse(inside);
            }
            let Some((_, harmless, help)) = WITHOUT.iter().find(|(known, ..)| *known == name) else { continue };
            let accepted = match (harmless, &setting.value) {
                (Harmless::Text(texts), Value::Text(text)) => texts.contains(&text.as_str()),
                (Harmless::Number(number), Value::Number(value)) => number == value,
                (Harmless::Off, Value::Switch(on)) => !on,
                (Harmless::Inert(why), _) => {
                    self.diagnostics.inert(name, why, &setting.key.at, setting.key.length);
                    true
                }
                _ => false,
            };
            if !accepted {
                let error = if help.starts_with("remove") {
                    setting.key.error("E303", format!("'{name}' has no counterpart here"))
                } else {
                    setting.key.error("E120", format!("'{name}' is valid Hitch but not implemented yet"))
                };
                self.diagnostics.push(error.help(*help));
            }
        }
    }

    fn number(&self, name: &str, default: i64) -> (i64, &'a Mark) {
        match last(self.global, &[name]) {
            Some(Setting { value: Value::Number(number), mark, .. }) => (*number, mark),
            _ => (default, self.start),
        }
    }

    fn process(&mut self, writer: &mut Writer) {
        writer.plain(0, &["global"], self.start);
        match last(self.global, &["workers"]) {
            Some(Setting { value: Value::Auto, .. }) => {}
            _ => {
                let (workers, mark) = self.number("workers", 1);
                writer.plain(4, &["nbthread", &workers.to_string()], mark);
            }
        }
        for name in ["user", "group", "pidfile"] {
            if let Some((value, mark)) = text(self.global, name) {
                writer.plain(4, &[name, value], mark);
            }
        }
        if let Some((true, mark)) = switch(self.global, "daemon") {
            writer.plain(4, &["daemon"], mark);
        }
        self.log(writer);
    }

    /// Standard error always, syslog if it is asked for. Hitch's level 1 is errors; here warnings come with them, because what
    /// Hitch writes to standard error at its start is among them.
    fn log(&mut self, writer: &mut Writer) {
        let (level, mark) = match last(self.global, &["log-level", "quiet"]) {
            Some(Setting { value: Value::Switch(quiet), mark, .. }) => (i64::from(!quiet), mark),
            Some(Setting { value: Value::Number(level), mark, .. }) => (*level, mark),
            _ => (1, self.start),
        };
        let level = match level {
            0 => "emerg",
            1 => "warning",
            2 => "debug",
            _ => {
                self.diagnostics.push(mark.error("H101", "'log-level' is 0 (silence), 1 (errors) or 2 (all)"));
                return;
            }
        };
        writer.plain(4, &["log", "stderr", "format", "raw", "daemon", level], mark);
        let facility = text(self.global, "syslog-facility");
        let (name, place) = facility.unwrap_or(("daemon", self.start));
        let Some((_, facility)) = FACILITIES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            let names: Vec<&str> = FACILITIES.iter().map(|(name, _)| *name).collect();
            let error = place.error("H101", format!("unknown facility '{}'", shown(name.as_bytes())));
            self.diagnostics.push(error.help(format!("there are: {}", names.join(" "))));
            return;
        };
        if let Some((true, mark)) = switch(self.global, "syslog") {
            writer.plain(4, &["log", "/dev/log", facility, level], mark);
        }
    }

    fn defaults(&mut self, writer: &mut Writer) {
        writer.blank();
        writer.plain(0, &["defaults"], self.start);
        writer.plain(4, &["mode", "tcp"], self.start);
        writer.plain(4, &["log", "global"], self.start);
        writer.plain(4, &["option", "tcplog"], self.start);
        writer.plain(4, &["option", "dontlognull"], self.start);
        for (option, keyword) in [("backend-connect-timeout", "connect"), ("ssl-handshake-timeout", "client-hs")] {
            let (seconds, mark) = self.number(option, TIMEOUT_DEFAULT);
            if seconds == 0 {
                self.diagnostics.push(mark.error("H101", format!("'{option}' is at least 1 second")));
            }
            writer.plain(4, &["timeout", keyword, &format!("{seconds}s")], mark);
        }
        let (backlog, mark) = self.number("backlog", BACKLOG_DEFAULT);
        writer.plain(4, &["backlog", &backlog.to_string()], mark);
        let (keepalive, mark) = self.number("keepalive", KEEPALIVE_DEFAULT);
        if keepalive > 0 {
            writer.plain(4, &["option", "clitcpka"], mark);
            writer.plain(4, &["clitcpka-idle", &keepalive.to_string()], mark);
        }
    }

    fn frontends(&mut self, writer: &mut Writer) {
        let mut frontends = Vec::new();
        for setting in self.global.iter().filter(|setting| setting.row.name == "frontend") {
            frontends.extend(self.frontend(setting));
        }
        if !self.global.iter().any(|setting| setting.row.name == "frontend") {
            let mark = self.start;
            frontends.push(Frontend { host: "*", port: "8443", mark, certificates: Vec::new(), own: &[] });
        }
        let certificates = self.certificates(self.global);
        let directory = self.directory();
        for (index, frontend) in frontends.iter().enumerate() {
            writer.blank();
            writer.plain(0, &["frontend", &format!("{FRONTEND}-{}", index + 1)], frontend.mark);
            self.bind(frontend, &certificates, &directory, writer);
            writer.plain(4, &["default_backend", BACKEND], frontend.mark);
        }
    }

    /// Reports what a block lacks, unless an error may be why.
    fn missing(&mut self, setting: &Setting, message: &str) {
        if self.diagnostics.errors() == 0 {
            self.diagnostics.push(setting.key.error("H101", message));
        }
    }

    /// `[HOST]:PORT[+CERT]`, or a block.
    fn frontend(&mut self, setting: &'a Setting) -> Option<Frontend<'a>> {
        let mark = &setting.mark;
        match &setting.value {
            Value::Text(written) => {
                let (address, certificate) =
                    written.split_once('+').map_or((written.as_str(), None), |(address, path)| (address, Some(path)));
                let Some((host, port)) = endpoint(address) else {
                    let message = format!("'{}' is not an address to listen on", shown(written.as_bytes()));
                    self.diagnostics.push(
                        mark.error("H101", message)
                            .help("write [HOST]:PORT or [HOST]:PORT+CERT; the brackets are mandatory"),
                    );
                    return None;
                };
                let certificates = certificate.map(|path| Crt { path: path.to_owned(), mark }).into_iter().collect();
                Some(Frontend { host, port, mark, certificates, own: &[] })
            }
            Value::Block(own) => {
                let Some((port, _)) = text(own, "port") else {
                    self.missing(setting, "this frontend has no 'port'");
                    return None;
                };
                let (host, mark) = text(own, "host").unwrap_or(("*", &setting.key));
                Some(Frontend { host, port, mark, certificates: self.certificates(own), own })
            }
            _ => None,
        }
    }

    /// `pem-file`, as often as it is given.
    fn certificates(&mut self, settings: &'a [Setting]) -> Vec<Crt<'a>> {
        let mut found = Vec::new();
        for setting in settings.iter().filter(|setting| setting.row.name == "pem-file") {
            let mark = &setting.mark;
            match &setting.value {
                Value::Text(path) if !path.is_empty() => found.push(Crt { path: path.clone(), mark }),
                Value::Block(inside) => found.extend(self.pem_block(setting, inside)),
                _ => self.diagnostics.push(mark.error("H101", "the name of the file is missing")),
            }
        }
        found
    }

    fn pem_block(&mut self, setting: &'a Setting, inside: &'a [Setting]) -> Option<Crt<'a>> {
        let Some((path, mark)) = text(inside, "cert") else {
            self.missing(setting, "this 'pem-file' has no 'cert'");
            return None;
        };
        for (option, extension) in [("private-key", ".key"), ("ocsp-resp-file", ".ocsp")] {
            let beside = format!("{path}{extension}");
            if let Some((_, mark)) = text(inside, option).filter(|(written, _)| *written != beside) {
                let error = mark
                    .error("E120", format!("'{option}' with a name of its own is valid Hitch but not implemented yet"));
                self.diagnostics.push(error.help(format!("until then: name the file {}", shown(beside.as_bytes()))));
            }
        }
        for option in ["client-verify", "client-verify-ca"] {
            if let Some(setting) = last(inside, &[option]) {
                let message = format!("'{option}' for one certificate is valid Hitch but not implemented yet");
                let error = setting.key.error("E120", message);
                self.diagnostics.push(error.help("until then: say it in the frontend, for all of its certificates"));
            }
        }
        Some(Crt { path: path.to_owned(), mark })
    }

    /// `pem-dir`: as a directory, or with `pem-dir-glob` as the files that match now.
    fn directory(&mut self) -> Vec<Crt<'a>> {
        let Some((directory, mark)) = text(self.global, "pem-dir") else {
            if let Some((_, mark)) = text(self.global, "pem-dir-glob") {
                self.diagnostics.push(mark.warning("W114", "'pem-dir-glob' has no effect without 'pem-dir'"));
            }
            return Vec::new();
        };
        let Some((glob, place)) = text(self.global, "pem-dir-glob") else {
            return vec![Crt { path: directory.to_owned(), mark }];
        };
        let names = match (self.list)(directory) {
            Ok(names) => names,
            Err(reason) => {
                let message = format!("cannot read the directory '{}': {reason}", shown(directory.as_bytes()));
                self.diagnostics.push(mark.error("E221", message));
                return Vec::new();
            }
        };
        let matching: Vec<Crt<'a>> = names
            .iter()
            .filter(|name| matches(glob.as_bytes(), name.as_bytes()) && !name.chars().any(char::is_control))
            .map(|name| Crt { path: format!("{}/{name}", directory.trim_end_matches('/')), mark })
            .collect();
        if matching.is_empty() {
            let message = format!("no file in '{}' matches '{}'", shown(directory.as_bytes()), shown(glob.as_bytes()));
            self.diagnostics.push(place.error("E228", message));
        }
        matching
    }

    fn bind(&mut self, frontend: &Frontend<'a>, global: &[Crt<'a>], directory: &[Crt<'a>], writer: &mut Writer) {
        let Frontend { host, port, mark, certificates, own } = frontend;
        let mut pieces = vec![piece("bind", mark)];
        let any = matches!(*host, "*" | "");
        let address = host.parse::<IpAddr>();
        let number =
            port.parse::<u16>().ok().filter(|number| *number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()));
        match (number, any, address) {
            (None, ..) => {
                let message = format!("'{}' is not a port from 1 to 65535", shown(port.as_bytes()));
                self.diagnostics.push(mark.error("H101", message));
            }
            (Some(port), true, _) => {
                pieces.extend([piece(&format!("*:{port},[::]:{port}"), mark), piece("v6only", mark)]);
            }
            (Some(port), _, Ok(IpAddr::V4(address))) => pieces.push(piece(&format!("{address}:{port}"), mark)),
            (Some(port), _, Ok(IpAddr::V6(address))) => {
                pieces.extend([piece(&format!("[{address}]:{port}"), mark), piece("v6only", mark)]);
            }
            (Some(_), _, Err(_)) => {
                let message =
                    format!("'{}': a name to listen on is valid Hitch but not implemented yet", shown(host.as_bytes()));
                self.diagnostics.push(mark.error("E120", message).help("until then: write the IP address, or *"));
            }
        }
        pieces.push(piece("ssl", mark));
        let uses_global = switch(own, "match-global-certs").map_or(certificates.is_empty(), |(on, _)| on);
        // Hitch's default is the last one, and of two for the same name the last one counts: here it is the first.
        let global = global.iter().rev().chain(directory).filter(|_| uses_global);
        let before = pieces.len();
        for crt in certificates.iter().rev().chain(global) {
            // HAProxy takes a leading '@' for a name in a store.
            let path = if crt.path.starts_with('@') { format!("./{}", crt.path) } else { crt.path.clone() };
            pieces.extend([piece("crt", crt.mark), Piece { text: path, mark: crt.mark }]);
        }
        // An error before this may be why there is none.
        if pieces.len() == before && self.diagnostics.errors() == 0 {
            let error = mark.error("E212", "no certificate: there is no 'pem-file' and no 'pem-dir'");
            self.diagnostics
                .push(error.help("add pem-file = \"<file>\", with the certificate, its chain and the private key"));
        }
        self.versions(own, &mut pieces);
        self.verification(own, &mut pieces);
        self.protocols(&mut pieces);
        let abort = switch(own, "sni-nomatch-abort").or(switch(self.global, "sni-nomatch-abort"));
        if let Some((true, mark)) = abort {
            pieces.push(piece("sni-nomatch-abort", mark));
        }
        if let Some((false, mark)) =
            switch(own, "prefer-server-ciphers").or(switch(self.global, "prefer-server-ciphers"))
        {
            self.diagnostics.inert(
                "prefer-server-ciphers = off",
                "the order is always the server's",
                &mark.at,
                mark.length,
            );
        }
        writer.line(4, &pieces);
    }

    /// `tls-protos`, and the older `tls` and `ssl`.
    fn versions(&mut self, own: &'a [Setting], pieces: &mut Vec<Piece<'a>>) {
        const NAMES: &[&str] = &["tls-protos", "tls", "ssl"];
        let Some(setting) = last(own, NAMES).or(last(self.global, NAMES)) else {
            return;
        };
        let mark = &setting.mark;
        let versions: Vec<&str> = match &setting.value {
            Value::Versions(versions) => versions.iter().map(String::as_str).collect(),
            Value::Switch(true) => vec!["TLSv1.0", "TLSv1.2", "TLSv1.3"],
            _ => return,
        };
        let (v12, v13) = (versions.contains(&"TLSv1.2"), versions.contains(&"TLSv1.3"));
        if !v12 && !v13 {
            let error = mark.error("E301", "no version of TLS is left: there are TLSv1.2 and TLSv1.3 only");
            self.diagnostics.push(error.help("remove it; clients that need an older version need another terminator"));
            return;
        }
        if versions.iter().any(|version| !matches!(*version, "TLSv1.2" | "TLSv1.3")) {
            let message = "SSL 3, TLS 1.0 and TLS 1.1 do not exist here; what is left is TLS 1.2 and 1.3";
            self.diagnostics.push(mark.warning("W301", message));
        }
        if !v12 {
            pieces.extend([piece("ssl-min-ver", mark), piece("TLSv1.3", mark)]);
        }
        if !v13 {
            pieces.extend([piece("ssl-max-ver", mark), piece("TLSv1.2", mark)]);
        }
    }

    fn verification(&mut self, own: &'a [Setting], pieces: &mut Vec<Piece<'a>>) {
        let ca = text(own, "client-verify-ca").or(text(self.global, "client-verify-ca"));
        let verify = text(own, "client-verify").or(text(self.global, "client-verify"));
        match (verify, ca) {
            (Some((mode @ ("optional" | "required"), at)), Some((file, mark))) => {
                let file = if file.starts_with('@') { format!("./{file}") } else { file.to_owned() };
                pieces.extend([
                    piece("ca-file", mark),
                    Piece { text: file, mark },
                    piece("verify", at),
                    piece(mode, at),
                ]);
            }
            (Some((mode @ ("optional" | "required"), at)), None) => {
                let message = format!("'client-verify = {mode}' needs 'client-verify-ca': nobody could be verified");
                self.diagnostics.push(at.error("E211", message));
            }
            (None | Some(("none", _)), None) => {}
            (None | Some(("none", _)), Some((_, mark))) => {
                let message = "'client-verify-ca' without 'client-verify': clients are NOT asked for a certificate";
                self.diagnostics.push(mark.warning("W211", message));
            }
            (Some((other, at)), _) => {
                let message =
                    format!("'client-verify' takes none, optional or required, not '{}'", shown(other.as_bytes()));
                self.diagnostics.push(at.error("H101", message));
            }
        }
    }

    /// `alpn-protos`: blanks do not count, a comma at the end neither.
    fn protocols(&mut self, pieces: &mut Vec<Piece<'a>>) {
        let Some((written, mark)) = text(self.global, "alpn-protos") else {
            return;
        };
        let list: String = written.chars().filter(|character| !character.is_whitespace()).collect();
        let list = list.strip_suffix(',').unwrap_or(&list);
        if list.split(',').any(str::is_empty) {
            self.diagnostics.push(mark.error("H101", "a protocol name is missing beside a comma in 'alpn-protos'"));
        } else {
            pieces.extend([piece("alpn", mark), piece(list, mark)]);
        }
    }

    fn backend(&mut self, writer: &mut Writer) {
        let (written, mark) = text(self.global, "backend").unwrap_or(("[127.0.0.1]:8000", self.start));
        let address = match endpoint(written) {
            _ if written.starts_with('/') => written.to_owned(),
            Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
            Some((host, port)) if !host.is_empty() && host != "*" && !host.contains(['@', '/']) => {
                format!("{host}:{port}")
            }
            _ => {
                let message = format!("'{}' is not the address of a backend", shown(written.as_bytes()));
                let error = mark.error("H101", message);
                self.diagnostics
                    .push(error.help("write [HOST]:PORT (the brackets are mandatory), or the path of a unix socket"));
                return;
            }
        };
        writer.blank();
        writer.plain(0, &["backend", BACKEND], mark);
        let mut pieces = vec![piece("server", mark), piece(SERVER, mark), Piece { text: address, mark }];
        self.header(&mut pieces);
        writer.line(4, &pieces);
    }

    /// What is sent in front of the client's data.
    fn header(&mut self, pieces: &mut Vec<Piece<'a>>) {
        let headers = [
            ("send-proxy-v2", &["write-proxy", "write-proxy-v2"][..]),
            ("send-proxy", &["write-proxy-v1"]),
            ("send-client-ip", &["write-ip"]),
        ];
        let mut chosen: Option<(&str, &Mark)> = None;
        for (word, names) in headers {
            let Some(Setting { value: Value::Switch(true), key, row, .. }) = last(self.global, names) else { continue };
            if chosen.is_some() {
                let message =
                    format!("'{}' can not go with another of write-proxy-v2, write-proxy-v1, write-ip", row.name);
                self.diagnostics.push(key.error("H103", message));
                continue;
            }
            chosen = Some((word, key));
        }
        let Some((word, mark)) = chosen else { return };
        pieces.push(piece(word, mark));
        if word != "send-proxy-v2" {
            return;
        }
        let tells = |name, default| switch(self.global, name).map_or(default, |(on, _)| on);
        let options: Vec<&str> = [
            ("ssl,ssl-cipher", tells("proxy-tlv", true)),
            ("authority", tells("proxy-authority", true)),
            ("client-cert-pem", tells("proxy-client-cert", false)),
        ]
        .into_iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(option, _)| option)
        .collect();
        if !options.is_empty() {
            pieces.extend([piece("proxy-v2-options", mark), piece(&options.join(","), mark)]);
        }
    }
}

fn piece<'a>(text: &str, mark: &'a Mark) -> Piece<'a> {
    Piece { text: text.to_owned(), mark }
}

/// Host and port of `[HOST]:PORT`.
fn endpoint(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.rsplit_once("]:")
}
