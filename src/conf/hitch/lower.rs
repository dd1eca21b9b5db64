//! What the settings mean, in HAProxy's language.

mod frontends;

use std::net::IpAddr;

use super::super::diagnostic::{Diagnostics, shown};
use super::dump::{Lowered, Piece, Writer};
use super::options::{Setting, Value};
use super::{COMMAND_LINE, Mark};

/// What only those can tell who open files and ask for addresses.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// What is in a directory; or why that can not be told.
    pub list: &'a dyn Fn(&str) -> Result<Listing, String>,
    /// The addresses of a host name; or why there is none.
    pub resolve: &'a dyn Fn(&str) -> Result<Vec<IpAddr>, String>,
}

/// What is in a directory, in the order of the names' bytes.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Regular files, hidden ones too.
    pub files: Vec<String>,
    /// Symbolic links.
    pub links: Vec<String>,
}

/// Hitch's own value of `ciphers`. Of its suites those with AESGCM exist here.
const CIPHERS_DEFAULT: &str = "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH";
const CIPHERS_DEFAULT_HERE: &str = "EECDH+AESGCM";

/// Hitch's own value of `ocsp-dir`.
const RESPONSES_DEFAULT: &str = "/var/lib/hitch/";

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

/// What becomes of an option without counterpart.
enum Without {
    /// An error unless it is empty; what to do.
    Refused(&'static str),
    /// It only tunes what does not exist here; why it has no effect.
    Inert(&'static str),
}

const NOT_FETCHED: Without = Without::Inert("OCSP responses are not fetched");
const TICKETS: Without = Without::Refused("remove it: sessions are resumed with tickets");

/// Options without counterpart.
const WITHOUT: &[(&str, Without)] = &[
    ("ocsp-connect-tmo", NOT_FETCHED),
    ("ocsp-refresh-interval", NOT_FETCHED),
    ("ocsp-resp-tmo", NOT_FETCHED),
    ("ocsp-verify-staple", Without::Inert("OCSP responses are always verified")),
    ("session-cache", Without::Inert("sessions are resumed with tickets, which need no room")),
    ("shared-cache-if", TICKETS),
    ("shared-cache-listen", TICKETS),
    ("shared-cache-peer", TICKETS),
    ("ssl-engine", Without::Refused("remove it: this program uses aws-lc, which has no engines")),
];

/// Names of the sections and of the server.
const FRONTEND: &str = "hitch";
const BACKEND: &str = "hitch-backend";
const SERVER: &str = "backend";

struct Lowering<'a, 'b> {
    global: &'a [Setting],
    /// Where what nobody has written comes from.
    start: &'a Mark,
    outside: Outside<'b>,
    /// Names of the files in `ocsp-dir`, sorted.
    responses: Vec<String>,
    diagnostics: &'b mut Diagnostics,
}

/// Writes the configuration. It is of use only if there was no error.
pub(super) fn lower(
    settings: &[Setting],
    start: &Mark,
    outside: Outside<'_>,
    diagnostics: &mut Diagnostics,
) -> Lowered {
    let mut lowering = Lowering { global: settings, start, outside, responses: Vec::new(), diagnostics };
    let mut writer = Writer::default();
    writer.comment("What a Hitch configuration means in HAProxy's language.");
    lowering.refuse(settings);
    lowering.find_responses();
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

/// Not set: `frontend = ""`. On the command line that is a mistake.
fn is_unset(setting: &Setting) -> bool {
    matches!(&setting.value, Value::Text(text) if text.is_empty()) && &*setting.key.at.file != COMMAND_LINE
}

impl<'a> Lowering<'a, '_> {
    /// What can not be honoured is an error, and what has no effect a notice.
    fn refuse(&mut self, settings: &[Setting]) {
        for setting in settings {
            let name = setting.row.name;
            if let Value::Block(inside) = &setting.value {
                self.refuse(inside);
            }
            match WITHOUT.iter().find(|(known, _)| *known == name) {
                Some((_, Without::Inert(why))) => {
                    self.diagnostics.inert(name, why, &setting.key.at, setting.key.length);
                }
                Some((_, Without::Refused(help))) if !matches!(&setting.value, Value::Text(text) if text.is_empty()) => {
                    let error = setting.key.error("E303", format!("'{name}' has no counterpart here"));
                    self.diagnostics.push(error.help(*help));
                }
                Some((_, Without::Refused(_))) | None => {}
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
        if let Some((directory, mark)) = text(self.global, "chroot") {
            if let Err(reason) = (self.outside.list)(directory) {
                let message = format!("'{}' can not be the root directory: {reason}", shown(directory.as_bytes()));
                self.diagnostics.push(mark.error("E221", message));
            }
            writer.plain(4, &["chroot", directory], mark);
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
        for (option, keyword) in [("recv-bufsize", "tune.rcvbuf.client"), ("send-bufsize", "tune.sndbuf.client")] {
            let (bytes, mark) = self.number(option, -1);
            if bytes > 0 {
                writer.plain(4, &[keyword, &bytes.to_string()], mark);
            }
        }
        self.tls_defaults(writer);
    }

    /// Standard error, or a file in its place; syslog as well if it is asked for. Hitch's level 1 is errors; here warnings come
    /// with them, because what Hitch writes to standard error at its start is among them.
    fn log(&mut self, writer: &mut Writer) {
        let (level, mark) = match last(self.global, &["log-level", "quiet"]) {
            Some(Setting { value: Value::Switch(quiet), mark, .. }) => (i64::from(!quiet), mark),
            Some(Setting { value: Value::Number(level), mark, .. }) => (*level, mark),
            _ => (1, self.start),
        };
        let level = match level {
            0 => "emerg",
            1 => "warning",
            _ => "debug",
        };
        match text(self.global, "log-filename") {
            Some((path @ ("/dev/stdout" | "/dev/stderr"), at)) => {
                let name = path.trim_start_matches("/dev/");
                writer.plain(4, &["log", name, "format", "raw", "daemon", level], at);
            }
            Some((path, at)) => {
                let target = format!("file@{path}");
                writer.extension(|writer| writer.plain(4, &["log", &target, "format", "iso", "daemon", level], at));
            }
            None => writer.plain(4, &["log", "stderr", "format", "raw", "daemon", level], mark),
        }
        let facility = text(self.global, "syslog-facility");
        let (name, place) = facility.unwrap_or(("daemon", self.start));
        let Some((_, facility)) = FACILITIES.iter().find(|(known, _)| *known == name) else {
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
        writer.plain(4, &["retries", "0"], self.start);
        let (backlog, mark) = self.number("backlog", BACKLOG_DEFAULT);
        writer.plain(4, &["backlog", &backlog.to_string()], mark);
        let (keepalive, mark) = self.number("keepalive", KEEPALIVE_DEFAULT);
        if keepalive > 0 {
            writer.plain(4, &["option", "clitcpka"], mark);
            writer.plain(4, &["clitcpka-idle", &keepalive.to_string()], mark);
        }
    }

    fn backend(&mut self, writer: &mut Writer) {
        let setting = last(self.global, &["backend"]).filter(|setting| !is_unset(setting));
        let (written, mark) = match setting {
            Some(Setting { value: Value::Text(text), mark, .. }) => (text.as_str(), mark),
            _ => ("[127.0.0.1]:8000", self.start),
        };
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
        let extension = self.header(&mut pieces);
        let (seconds, at) = self.number("backend-refresh", 0);
        let is_name = endpoint(written).is_some_and(|(host, _)| host.parse::<IpAddr>().is_err());
        let refresh = seconds > 0 && is_name;
        if refresh {
            pieces.extend([piece("resolve-interval", at), piece(&format!("{seconds}s"), at)]);
        }
        writer.line_in(extension || refresh, 4, &pieces);
    }

    /// What is sent in front of the client's data. Answers whether HAProxy has no word for it.
    fn header(&mut self, pieces: &mut Vec<Piece<'a>>) -> bool {
        let Some((header, mark)) = self.chosen_header() else { return false };
        pieces.push(piece(header.word(), mark));
        if header != Header::V2 {
            return matches!(header, Header::ClientIp | Header::Received);
        }
        let tells = |name, default| switch(self.global, name).map_or(default, |(on, _)| on);
        let certificate = tells("proxy-client-cert", false);
        let options: Vec<&str> = [
            ("ssl,ssl-cipher", tells("proxy-tlv", true)),
            ("authority", tells("proxy-authority", true)),
            ("client-cert-pem", certificate),
        ]
        .into_iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(option, _)| option)
        .collect();
        if !options.is_empty() {
            pieces.extend([piece("proxy-v2-options", mark), piece(&options.join(","), mark)]);
        }
        certificate
    }

    /// The last setting of each counts; two that are on are an error.
    fn chosen_header(&mut self) -> Option<(Header, &'a Mark)> {
        let mut chosen = None;
        for (header, names) in Header::OPTIONS {
            let Some(Setting { value: Value::Switch(true), key, row, .. }) = last(self.global, names) else { continue };
            if chosen.is_some() {
                let message = format!(
                    "'{}' can not go with another of write-proxy-v2, write-proxy-v1, write-ip, proxy-proxy",
                    row.name
                );
                self.diagnostics.push(key.error("H103", message));
                continue;
            }
            chosen = Some((header, key));
        }
        chosen
    }

    /// Whether clients have to send a PROXY header, which is passed on.
    fn receives_header(&self) -> Option<&'a Mark> {
        switch(self.global, "proxy-proxy").filter(|(on, _)| *on).map(|(_, mark)| mark)
    }
}

/// What goes to the backend first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    V2,
    V1,
    ClientIp,
    Received,
}

impl Header {
    const OPTIONS: [(Self, &'static [&'static str]); 4] = [
        (Self::V2, &["write-proxy", "write-proxy-v2"]),
        (Self::V1, &["write-proxy-v1"]),
        (Self::ClientIp, &["write-ip"]),
        (Self::Received, &["proxy-proxy"]),
    ];

    fn word(self) -> &'static str {
        match self {
            Self::V2 => "send-proxy-v2",
            Self::V1 => "send-proxy",
            Self::ClientIp => "send-client-ip",
            Self::Received => "send-received-proxy",
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
