//! Every option of Hitch 1.8.0: its name, where it may stand, what it takes.

use super::Mark;

/// Places where an option may stand: a set of the constants below.
pub(super) type Scope = u8;
/// Top level of hitch.conf.
pub(super) const GLOBAL: Scope = 1;
/// `frontend = { … }`
pub(super) const FRONTEND: Scope = 2;
/// `pem-file = { … }`
pub(super) const PEM: Scope = 4;
/// The command line, as `--name`.
pub(super) const LINE: Scope = 8;

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// A string in quotes.
    Text,
    /// A number from 0.
    Number,
    /// A number from -1.
    Integer,
    /// A number, or `auto`.
    NumberOrAuto,
    /// `on`, `off`, and other words for them.
    Switch,
    /// Words of which several may follow: versions of TLS.
    Versions,
    /// `none`, `optional`, `required`.
    Verify,
    /// A string, or settings of this scope in braces.
    TextOrBlock(Scope),
}

/// One option.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// The letter on the command line; 0: none.
    pub(super) letter: u8,
    pub(super) scope: Scope,
    pub(super) takes: Takes,
}

/// What was written for an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Auto,
    Switch(bool),
    Versions(Vec<String>),
    Block(Vec<Setting>),
}

/// An option with its value.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(super) row: &'static Row,
    pub(super) value: Value,
    /// The name of the option.
    pub(super) key: Mark,
    /// Its value.
    pub(super) mark: Mark,
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        (self.row.name, &self.value, &self.key) == (other.row.name, &other.value, &other.key)
    }
}

impl Eq for Setting {}

const fn row(name: &'static str, letter: u8, scope: Scope, takes: Takes) -> Row {
    Row { name, letter, scope, takes }
}

use Takes::{Integer, Number, NumberOrAuto, Switch, Text, TextOrBlock, Verify, Versions};

/// The table.
pub(super) static OPTIONS: &[Row] = &[
    row("alpn-protos", 0, GLOBAL | LINE, Text),
    row("backend", b'b', GLOBAL | LINE, Text),
    row("backend-connect-timeout", 0, GLOBAL | LINE, Number),
    row("backend-refresh", b'R', GLOBAL | LINE, Number),
    row("backlog", b'B', GLOBAL | LINE, Number),
    row("cert", 0, PEM, Text),
    row("chroot", b'r', GLOBAL | LINE, Text),
    row("ciphers", b'c', GLOBAL | FRONTEND | LINE, Text),
    row("ciphersuites", 0, GLOBAL | FRONTEND, Text),
    row("client-verify", 0, GLOBAL | FRONTEND | PEM, Verify),
    row("client-verify-ca", 0, GLOBAL | FRONTEND | PEM, Text),
    row("daemon", 0, GLOBAL | LINE, Switch),
    row("ecdh-curve", 0, GLOBAL, Text),
    row("frontend", b'f', GLOBAL | LINE, TextOrBlock(FRONTEND)),
    row("group", b'g', GLOBAL | LINE, Text),
    row("host", 0, FRONTEND, Text),
    row("keepalive", b'k', GLOBAL | LINE, Number),
    row("log-filename", b'l', GLOBAL | LINE, Text),
    row("log-level", b'L', GLOBAL | LINE, Number),
    row("match-global-certs", 0, FRONTEND, Switch),
    row("ocsp-connect-tmo", 0, GLOBAL, Number),
    row("ocsp-dir", b'o', GLOBAL | LINE, Text),
    row("ocsp-refresh-interval", 0, GLOBAL, Number),
    row("ocsp-resp-file", 0, PEM, Text),
    row("ocsp-resp-tmo", 0, GLOBAL, Number),
    row("ocsp-verify-staple", 0, GLOBAL | PEM, Switch),
    row("pem-dir", 0, GLOBAL, Text),
    row("pem-dir-glob", 0, GLOBAL, Text),
    row("pem-file", 0, GLOBAL | FRONTEND, TextOrBlock(PEM)),
    row("pidfile", b'p', LINE, Text),
    row("port", 0, FRONTEND, Text),
    row("prefer-server-ciphers", b'O', GLOBAL | FRONTEND | LINE, Switch),
    row("private-key", 0, PEM, Text),
    row("proxy-authority", 0, GLOBAL, Switch),
    row("proxy-client-cert", 0, GLOBAL, Switch),
    row("proxy-proxy", 0, GLOBAL | LINE, Switch),
    row("proxy-tlv", 0, GLOBAL, Switch),
    row("quiet", b'q', GLOBAL | LINE, Switch),
    row("recv-bufsize", 0, GLOBAL | LINE, Integer),
    row("send-bufsize", 0, GLOBAL | LINE, Integer),
    row("session-cache", b'C', GLOBAL | LINE, Number),
    row("shared-cache-if", b'M', GLOBAL | LINE, Text),
    row("shared-cache-listen", b'U', GLOBAL | LINE, Text),
    row("shared-cache-peer", b'P', GLOBAL | LINE, Text),
    row("sni-nomatch-abort", 0, GLOBAL | FRONTEND | LINE, Switch),
    row("ssl", 0, GLOBAL | FRONTEND | LINE, Switch),
    row("ssl-engine", b'e', GLOBAL | LINE, Text),
    row("ssl-handshake-timeout", 0, GLOBAL | LINE, Number),
    row("syslog", b's', GLOBAL | LINE, Switch),
    row("syslog-facility", 0, GLOBAL | LINE, Text),
    row("tcp-fastopen", 0, GLOBAL | LINE, Switch),
    row("tls", 0, GLOBAL | FRONTEND | LINE, Switch),
    row("tls-protos", 0, GLOBAL | FRONTEND | LINE, Versions),
    row("user", b'u', GLOBAL | LINE, Text),
    row("workers", b'n', GLOBAL | LINE, NumberOrAuto),
    row("write-ip", 0, GLOBAL | LINE, Switch),
    row("write-proxy", 0, GLOBAL | LINE, Switch),
    row("write-proxy-v1", 0, GLOBAL | LINE, Switch),
    row("write-proxy-v2", 0, GLOBAL | LINE, Switch),
];

/// Options that only other words on the command line stand for.
pub(super) const ALIASES: &[(&str, &str)] =
    &[("backendrefresh", "backend-refresh"), ("enable-tcp-fastopen", "tcp-fastopen")];

/// The option of this name.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    OPTIONS.iter().find(|row| row.name == name)
}

/// Words for on and off, in any case.
pub(super) fn switch(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "yes" | "y" | "on" | "true" | "t" => Some(true),
        "no" | "n" | "off" | "false" | "f" => Some(false),
        _ => None,
    }
}

/// Names of versions of TLS.
pub(super) const VERSIONS: &[&str] = &["SSLv3", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
