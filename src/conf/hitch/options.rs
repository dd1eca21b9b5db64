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
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The letter on the command line; 0: none.
    pub letter: u8,
    /// Where it may stand.
    pub(super) scope: Scope,
    /// What it takes.
    pub(super) takes: Takes,
    /// The value, named for help and manual; empty for switches.
    pub value: &'static str,
    /// What it does and what its default is: whole sentences.
    pub doc: &'static str,
}

impl Row {
    /// Whether the command line has it.
    pub fn is_on_command_line(&self) -> bool {
        self.scope & LINE != 0
    }

    /// Whether it stays without a value on the command line, or has `=on` or `=off` behind it.
    pub fn is_switch(&self) -> bool {
        self.takes == Takes::Switch
    }

    /// Where it may stand, in words.
    pub fn places(&self) -> Vec<&'static str> {
        let places =
            [(GLOBAL, "top level"), (FRONTEND, "'frontend' block"), (PEM, "'pem-file' block"), (LINE, "command line")];
        places.iter().filter(|(place, _)| self.scope & place != 0).map(|(_, name)| *name).collect()
    }
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

const fn row(
    name: &'static str,
    letter: u8,
    scope: Scope,
    takes: Takes,
    value: &'static str,
    doc: &'static str,
) -> Row {
    Row { name, letter, scope, takes, value, doc }
}

use Takes::{Integer, Number, NumberOrAuto, Switch, Text, TextOrBlock, Verify, Versions};

/// The table.
pub static OPTIONS: &[Row] = &[
    row(
        "alpn-protos",
        0,
        GLOBAL | LINE,
        Text,
        "LIST",
        "Protocols for ALPN with commas between them, in order of preference. A client that knows none of them is served without. NPN does not exist here.",
    ),
    row(
        "backend",
        b'b',
        GLOBAL | LINE,
        Text,
        "[HOST]:PORT|PATH",
        "Where connections go: an address (the brackets are mandatory), or the path of a unix socket. Default [127.0.0.1]:8000. A name is resolved at the start and at a reload.",
    ),
    row(
        "backend-connect-timeout",
        0,
        GLOBAL | LINE,
        Number,
        "SECONDS",
        "How long the backend may take to accept a connection. Default 30.",
    ),
    row(
        "backend-refresh",
        b'R',
        GLOBAL | LINE,
        Number,
        "SECONDS",
        "How often the backend's name is resolved again. Default 0: at a start and a reload only.",
    ),
    row("backlog", b'B', GLOBAL | LINE, Number, "NUMBER", "Connections that may wait to be accepted. Default 100."),
    row(
        "cert",
        0,
        PEM,
        Text,
        "FILE",
        "The certificate with its chain, and the private key unless 'private-key' names it.",
    ),
    row("chroot", b'r', GLOBAL | LINE, Text, "DIRECTORY", "Directory that the worker is locked up in."),
    row(
        "ciphers",
        b'c',
        GLOBAL | FRONTEND | LINE,
        Text,
        "LIST",
        "Cipher suites of TLS 1.2, in OpenSSL's words. Suites with CBC or finite-field Diffie-Hellman do not exist here. Default EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH.",
    ),
    row("ciphersuites", 0, GLOBAL | FRONTEND, Text, "LIST", "Cipher suites of TLS 1.3."),
    row(
        "client-verify",
        0,
        GLOBAL | FRONTEND | PEM,
        Verify,
        "none|optional|required",
        "Whether clients are asked for a certificate. Default none.",
    ),
    row(
        "client-verify-ca",
        0,
        GLOBAL | FRONTEND | PEM,
        Text,
        "FILE",
        "Certificates of the authorities that clients' certificates come from.",
    ),
    row("daemon", 0, GLOBAL | LINE, Switch, "", "Go into the background once the service is up. Default off."),
    row(
        "ecdh-curve",
        0,
        GLOBAL,
        Text,
        "LIST",
        "Groups for the key exchange with colons between them; auto is the default.",
    ),
    row(
        "frontend",
        b'f',
        GLOBAL | LINE,
        TextOrBlock(FRONTEND),
        "[HOST]:PORT[+CERT]",
        "Where to listen: all addresses of the host, with the certificate CERT. In a file also a block. May be repeated. Default [*]:8443.",
    ),
    row("group", b'g', GLOBAL | LINE, Text, "GROUP", "Group of the worker. Default: that of the user."),
    row("host", 0, FRONTEND, Text, "HOST", "Where to listen. Default: all addresses."),
    row("keepalive", b'k', GLOBAL | LINE, Number, "SECONDS", "Silence of a client before it is probed. Default 3600."),
    row(
        "log-filename",
        b'l',
        GLOBAL | LINE,
        Text,
        "FILE",
        "Log to a file in the place of standard error. It is opened again at a reload and when it was moved away.",
    ),
    row(
        "log-level",
        b'L',
        GLOBAL | LINE,
        Number,
        "NUMBER",
        "0 is silence, 1 errors and warnings (the default), 2 everything.",
    ),
    row(
        "match-global-certs",
        0,
        FRONTEND,
        Switch,
        "",
        "Use the certificates of the top level too. Default: if the frontend has none of its own.",
    ),
    row("ocsp-connect-tmo", 0, GLOBAL, Number, "SECONDS", "Without effect: OCSP responses are not fetched."),
    row("ocsp-dir", b'o', GLOBAL | LINE, Text, "DIRECTORY", "Directory with OCSP responses that Hitch has fetched."),
    row("ocsp-refresh-interval", 0, GLOBAL, Number, "SECONDS", "Without effect: OCSP responses are not fetched."),
    row("ocsp-resp-file", 0, PEM, Text, "FILE", "OCSP response for the certificate, DER."),
    row("ocsp-resp-tmo", 0, GLOBAL, Number, "SECONDS", "Without effect: OCSP responses are not fetched."),
    row("ocsp-verify-staple", 0, GLOBAL | PEM, Switch, "", "Check the signature of OCSP responses."),
    row(
        "pem-dir",
        0,
        GLOBAL,
        Text,
        "DIRECTORY",
        "Directory of certificates, taken in the order of their names. Symbolic links are skipped, with a warning.",
    ),
    row("pem-dir-glob", 0, GLOBAL, Text, "PATTERN", "Which files of 'pem-dir' are certificates. Default: all."),
    row(
        "pem-file",
        0,
        GLOBAL | FRONTEND,
        TextOrBlock(PEM),
        "FILE",
        "A certificate with its chain and private key; or a block. May be repeated; the last one is for clients that ask for no name or for one that no certificate has.",
    ),
    row("pidfile", b'p', LINE, Text, "FILE", "Write the process id to this file."),
    row("port", 0, FRONTEND, Text, "\"NUMBER\"", "Where to listen; mandatory."),
    row(
        "prefer-server-ciphers",
        b'O',
        GLOBAL | FRONTEND | LINE,
        Switch,
        "",
        "Choose by the server's order of cipher suites, not by the client's. Default off.",
    ),
    row("private-key", 0, PEM, Text, "FILE", "The private key of the certificate."),
    row(
        "proxy-authority",
        0,
        GLOBAL,
        Switch,
        "",
        "With 'write-proxy-v2': tell the server name that the client asked for. Default on.",
    ),
    row(
        "proxy-client-cert",
        0,
        GLOBAL,
        Switch,
        "",
        "With 'write-proxy-v2': tell the client's certificate, PEM, in a field of type 0xE0. Default off.",
    ),
    row(
        "proxy-proxy",
        0,
        GLOBAL | LINE,
        Switch,
        "",
        "Demand a PROXY protocol header from clients, version 1 or 2, and pass it on as it is. Default off.",
    ),
    row(
        "proxy-tlv",
        0,
        GLOBAL,
        Switch,
        "",
        "With 'write-proxy-v2': tell version of TLS, cipher suite, and what came of the client's certificate. Default on.",
    ),
    row("quiet", b'q', GLOBAL | LINE, Switch, "", "As 'log-level' 0; off is 'log-level' 1."),
    row(
        "recv-bufsize",
        0,
        GLOBAL | LINE,
        Integer,
        "BYTES",
        "Receive buffer of each client's socket. Default -1: the system's.",
    ),
    row(
        "send-bufsize",
        0,
        GLOBAL | LINE,
        Integer,
        "BYTES",
        "Send buffer of each client's socket. Default -1: the system's.",
    ),
    row(
        "session-cache",
        b'C',
        GLOBAL | LINE,
        Number,
        "NUMBER",
        "Without effect: sessions are resumed with tickets, which need no room.",
    ),
    row("shared-cache-if", b'M', GLOBAL | LINE, Text, "INTERFACE", "Refused: sessions are resumed with tickets."),
    row("shared-cache-listen", b'U', GLOBAL | LINE, Text, "[HOST]:PORT", "Refused: sessions are resumed with tickets."),
    row("shared-cache-peer", b'P', GLOBAL | LINE, Text, "[HOST]:PORT", "Refused: sessions are resumed with tickets."),
    row(
        "sni-nomatch-abort",
        0,
        GLOBAL | FRONTEND | LINE,
        Switch,
        "",
        "Refuse clients that ask for a name that no certificate has. Default off.",
    ),
    row("ssl", 0, GLOBAL | FRONTEND | LINE, Switch, "", "Old: all versions of TLS that there are."),
    row("ssl-engine", b'e', GLOBAL | LINE, Text, "NAME", "Refused unless empty: there are no engines here."),
    row(
        "ssl-handshake-timeout",
        0,
        GLOBAL | LINE,
        Number,
        "SECONDS",
        "How long a client may take from its connection to the end of the handshake. Default 30.",
    ),
    row("syslog", b's', GLOBAL | LINE, Switch, "", "Log to syslog too. Default off."),
    row("syslog-facility", 0, GLOBAL | LINE, Text, "FACILITY", "Facility for syslog. Default daemon."),
    row("tcp-fastopen", 0, GLOBAL | LINE, Switch, "", "TCP Fast Open on the listening sockets. Default off."),
    row("tls", 0, GLOBAL | FRONTEND | LINE, Switch, "", "Old: all versions of TLS that there are."),
    row(
        "tls-protos",
        0,
        GLOBAL | FRONTEND | LINE,
        Versions,
        "VERSIONS",
        "Versions of TLS with blanks between them: TLSv1.2, TLSv1.3. Default both. Older ones do not exist here.",
    ),
    row("user", b'u', GLOBAL | LINE, Text, "USER", "User that the worker becomes."),
    row(
        "workers",
        b'n',
        GLOBAL | LINE,
        NumberOrAuto,
        "NUMBER|auto",
        "Threads with a loop each; auto is one for each processor. Default 1.",
    ),
    row(
        "write-ip",
        0,
        GLOBAL | LINE,
        Switch,
        "",
        "Send the client's address to the backend first: a byte with the number of the address family, then 4 or 16 bytes. Default off.",
    ),
    row("write-proxy", 0, GLOBAL | LINE, Switch, "", "As 'write-proxy-v2'."),
    row(
        "write-proxy-v1",
        0,
        GLOBAL | LINE,
        Switch,
        "",
        "Send a PROXY protocol header to the backend first, version 1. Default off.",
    ),
    row(
        "write-proxy-v2",
        0,
        GLOBAL | LINE,
        Switch,
        "",
        "Send a PROXY protocol header to the backend first, version 2. Default off. Only one of 'write-proxy-v2', 'write-proxy-v1', 'write-ip' and 'proxy-proxy' can be on.",
    ),
];

/// Other names on the command line: the one that works in Hitch 1.7, and that of its manual.
pub const ALIASES: &[(&str, &str)] = &[("backendrefresh", "backend-refresh"), ("enable-tcp-fastopen", "tcp-fastopen")];

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

/// Modes of `client-verify`.
pub(super) const VERIFY: &[&str] = &["none", "optional", "required"];
