//! `defaults`, `frontend`, `backend`, `listen` (HAProxy manual, 4.2).

use std::time::Duration;

use super::super::diagnostic::Diagnostics;
use super::super::draft::{Mode, Proxy};
use super::super::model::At;
use super::super::value::{self, Unit};
use super::{
    Action, Class, DEFAULTS_BACKEND, DEFAULTS_FRONTEND, Keyword, Line, PROXIES, Places, bind, log, not_yet, refusal,
    server, should,
};

/// A keyword of which one is enough; what stands on each row alike.
pub(super) const fn keyword(
    name: &'static str,
    places: Places,
    usage: &'static str,
    count: usize,
    apply: super::Apply<Proxy>,
    doc: &'static str,
) -> Keyword {
    Keyword {
        name,
        places,
        usage,
        class: Class::Must,
        doc,
        arguments: count..=count,
        repeats: false,
        action: Action::Proxy(apply),
    }
}

pub(super) static KEYWORDS: &[Keyword] = &[
    keyword("mode", PROXIES, "tcp", 1, mode, "What is relayed: bytes. 'tcp' is the default."),
    Keyword {
        name: "bind",
        places: Places::FRONTEND,
        usage: "<address>[,<address>…] [<parameter> …]",
        class: Class::Must,
        doc: "Listen here. Addresses: <ip>:<port>, [<ipv6>]:<port>, *:<port> or :<port> (IPv4), :::<port> (IPv6), /path or unix@/path, \
              abns@<name>, fd@<number>, fd@<name> (sockets that systemd passes under that name); <port>-<port> is a range. May be \
              repeated. Parameters are listed below.",
        arguments: 1..=usize::MAX,
        repeats: true,
        action: Action::Proxy(bind::line),
    },
    Keyword {
        name: "ssl-f-use",
        places: Places::FRONTEND,
        usage: "crt <file> [<option> …]",
        class: Class::Should,
        doc: "A certificate for the 'bind … ssl' lines of this section that name none with 'crt', 'default-crt' or 'crt-list', and \
              settings of its own. The options are those of a crt-list: key, ocsp, issuer, verify, ca-file, crl-file, alpn, no-alpn, \
              ssl-min-ver, ssl-max-ver, ciphers, ciphersuites, curves. May be repeated.",
        arguments: 1..=usize::MAX,
        repeats: true,
        action: Action::Proxy(|proxy, line, _| proxy.certificates.push(line.arguments.to_vec())),
    },
    Keyword {
        name: "server",
        places: Places::BACKEND,
        usage: "<name> <address> [<parameter> …]",
        class: Class::Must,
        doc: "Where connections go: <ip>:<port>, <host name>:<port> (looked up at start and reload), /path or unix@/path, abns@<name>; \
              'ipv4@' and 'ipv6@' choose the family of a name. Parameters are listed below.",
        arguments: 2..=usize::MAX,
        repeats: true,
        action: Action::Proxy(server::line),
    },
    Keyword {
        name: "default-server",
        places: DEFAULTS_BACKEND,
        usage: "<parameter> …",
        class: Class::Must,
        doc: "Parameters for the 'server' lines that follow. Several lines add up.",
        arguments: 1..=usize::MAX,
        repeats: true,
        action: Action::Proxy(server::default_line),
    },
    keyword(
        "default_backend",
        DEFAULTS_FRONTEND,
        "<backend>",
        1,
        default_backend,
        "The backend, or 'listen', that takes the connections.",
    ),
    Keyword {
        name: "use_backend",
        places: Places::FRONTEND,
        usage: "<backend>",
        class: Class::Must,
        doc: "As 'default_backend', and goes before it. Conditions are not there yet.",
        arguments: 1..=usize::MAX,
        repeats: true,
        action: Action::Proxy(use_backend),
    },
    Keyword {
        arguments: 2..=2,
        ..keyword(
            "rate-limit",
            DEFAULTS_FRONTEND,
            "sessions <number>",
            2,
            rate_limit,
            "Most new connections in a second; the others wait in the backlog. 0: no limit.",
        )
    },
    keyword(
        "retries",
        DEFAULTS_BACKEND,
        "<number>",
        1,
        |proxy, line, diagnostics| {
            proxy.settings.retries = value::number(&line.arguments[0], 0..=RETRIES_MAX, diagnostics);
        },
        "How often a connection to a server is tried again; default 3. After a refusal the next try waits a second, or 'timeout \
         connect' if that is shorter; each try may take 'timeout connect'.",
    ),
    should(keyword(
        "option abortonclose",
        PROXIES,
        "",
        0,
        |proxy, line, _| proxy.settings.abort_on_close = line.switches_on(),
        "In a backend: a client that ends its stream while the server is still being connected to is given up, not served. In a \
         frontend it changes nothing: the TLS handshake of a client that has gone is never made.",
    )),
    should(keyword(
        "option independent-streams",
        PROXIES,
        "",
        0,
        |proxy, line, _| proxy.settings.independent_streams = line.switches_on(),
        "What is written to a side does not show that it is there: 'timeout client' (in a frontend) and 'timeout server' (in a \
         backend) are about what comes from it.",
    )),
    keyword(
        "maxconn",
        DEFAULTS_FRONTEND,
        "<number>",
        1,
        |proxy, line, diagnostics| proxy.settings.maxconn = bind::positive(&line.arguments[0], diagnostics),
        "Most connections at a time in this frontend; more wait in the backlog. 0 or unset: only the limit of 'global' counts.",
    ),
    keyword(
        "backlog",
        DEFAULTS_FRONTEND,
        "<number>",
        1,
        |proxy, line, diagnostics| proxy.settings.backlog = bind::positive(&line.arguments[0], diagnostics),
        "Connections that may wait to be accepted on each listener; default: 'maxconn' of the frontend.",
    ),
    keyword(
        "disabled",
        PROXIES,
        "",
        0,
        |proxy, _, _| proxy.settings.disabled = true,
        "The section is checked, but not started.",
    ),
    keyword("enabled", PROXIES, "", 0, |proxy, _, _| proxy.settings.disabled = false, "Undo 'disabled' of 'defaults'."),
    keyword(
        "timeout client",
        DEFAULTS_FRONTEND,
        "<time>",
        1,
        |proxy, line, diagnostics| set(&mut proxy.settings.timeouts.client, line, diagnostics),
        "Longest inactivity on the client's side. A number without unit is in milliseconds; 0 or unset: for ever.",
    ),
    keyword(
        "timeout client-hs",
        DEFAULTS_FRONTEND,
        "<time>",
        1,
        |proxy, line, diagnostics| set(&mut proxy.settings.timeouts.client_hs, line, diagnostics),
        "Time from accepting a connection to the end of its PROXY header and TLS handshake. Unset: 'timeout client', else 10 seconds.",
    ),
    keyword(
        "timeout client-fin",
        DEFAULTS_FRONTEND,
        "<time>",
        1,
        |proxy, line, diagnostics| set(&mut proxy.settings.timeouts.client_fin, line, diagnostics),
        "Replaces 'timeout client' once one direction has ended.",
    ),
    keyword(
        "timeout connect",
        DEFAULTS_BACKEND,
        "<time>",
        1,
        |proxy, line, diagnostics| set(&mut proxy.settings.timeouts.connect, line, diagnostics),
        "Time to connect to a server. 0 or unset: as long as the system takes.",
    ),
    keyword(
        "timeout server",
        DEFAULTS_BACKEND,
        "<time>",
        1,
        |proxy, line, diagnostics| set(&mut proxy.settings.timeouts.server, line, diagnostics),
        "Longest inactivity on the server's side. 0 or unset: for ever.",
    ),
    keyword(
        "timeout server-fin",
        DEFAULTS_BACKEND,
        "<time>",
        1,
        |proxy, line, diagnostics| set(&mut proxy.settings.timeouts.server_fin, line, diagnostics),
        "Replaces 'timeout server' once one direction has ended.",
    ),
    keyword(
        "timeout tunnel",
        DEFAULTS_BACKEND,
        "<time>",
        1,
        |proxy, line, diagnostics| set(&mut proxy.settings.timeouts.tunnel, line, diagnostics),
        "Replaces 'timeout client' and 'timeout server' while bytes flow both ways. 0 is not 'for ever': those two stay in force.",
    ),
    Keyword {
        name: "log",
        places: PROXIES,
        usage: "global | <target> [len <bytes>] [format <format>] <facility> [<max level> [<min level>]]",
        class: Class::Must,
        doc: "Where the lines about connections go: 'log global', the targets of 'global'; or a target as there. Lines add up, also to \
              those of 'defaults'; 'no log' forgets them all.",
        arguments: 0..=usize::MAX,
        repeats: true,
        action: Action::Proxy(log_line),
    },
    Keyword {
        name: "option tcplog",
        places: DEFAULTS_FRONTEND,
        usage: "",
        class: Class::Must,
        doc: "Log each connection at its end, with times, bytes and the reason why it ended.",
        arguments: 0..=1,
        repeats: false,
        action: Action::Proxy(tcplog),
    },
    Keyword {
        class: Class::Inert,
        arguments: 0..=1,
        ..keyword(
            "option httplog",
            DEFAULTS_FRONTEND,
            "",
            0,
            httplog,
            "Becomes 'option tcplog', as in HAProxy in mode tcp.",
        )
    },
    Keyword {
        class: Class::Inert,
        arguments: 0..=1,
        ..keyword(
            "option httpslog",
            DEFAULTS_FRONTEND,
            "",
            0,
            httplog,
            "Becomes 'option tcplog', as in HAProxy in mode tcp.",
        )
    },
    keyword(
        "option dontlognull",
        DEFAULTS_FRONTEND,
        "",
        0,
        |proxy, line, _| proxy.settings.dontlognull = line.switches_on(),
        "No line for connections without any data, such as port probes.",
    ),
    should(keyword(
        "option dontlog-normal",
        DEFAULTS_FRONTEND,
        "",
        0,
        |proxy, line, _| proxy.settings.dontlog_normal = line.switches_on(),
        "No line for connections that went well: without error, timeout or another try to connect.",
    )),
    should(keyword(
        "option log-separate-errors",
        DEFAULTS_FRONTEND,
        "",
        0,
        |proxy, line, _| proxy.settings.log_separate_errors = line.switches_on(),
        "Lines of connections that did not go well have the level 'err' in place of 'info'.",
    )),
    should(keyword(
        "option logasap",
        DEFAULTS_FRONTEND,
        "",
        0,
        |proxy, line, _| proxy.settings.logasap = line.switches_on(),
        "Write the line of 'option tcplog' once the server has accepted, with a '+' before time and bytes, which are not the last.",
    )),
    should(keyword(
        "log-tag",
        PROXIES,
        "<text>",
        1,
        |proxy, line, diagnostics| proxy.settings.log_tag = value::text(&line.arguments[0], diagnostics),
        "The name of the program in the syslog lines of this section; default: that of 'global'.",
    )),
    keyword(
        "option accept-tls-eof",
        DEFAULTS_FRONTEND,
        "",
        0,
        |proxy, line, _| proxy.settings.accept_tls_eof = line.switches_on(),
        "Extension. A client that closes without the TLS close message (close_notify) has ended its data, instead of having been cut off. \
         For clients that can not do better: an attacker can then cut their data short without a trace.",
    ),
];

/// More tries than this are a loop.
const RETRIES_MAX: u32 = 1000;

/// `use_backend <backend>`, the first one counts.
fn use_backend(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    if let Some(condition) = line.arguments.get(1) {
        let error = not_yet("use_backend <backend> if …", condition);
        diagnostics.push(error.help("until then: one frontend for each backend"));
        return;
    }
    if word.text.starts_with(b"%[") {
        let error = not_yet("use_backend %[…]", word);
        diagnostics.push(error.help("until then: one frontend for each backend"));
        return;
    }
    if let Some((first, _)) = &proxy.use_backend {
        let message = format!("this line is never reached: line {} sends every connection elsewhere", first.at.line);
        diagnostics.push(line.word.warning("W413", message));
        return;
    }
    if let Some(value) = value::name(word, "backend", diagnostics) {
        proxy.use_backend = Some((At { value, at: word.at.clone() }, word.length));
    }
}

fn rate_limit(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let [what, number] = line.arguments else {
        return;
    };
    if !what.is("sessions") {
        diagnostics.push(what.error("E101", format!("unknown rate {}", what.quoted())).label("write 'sessions'"));
        return;
    }
    proxy.settings.session_rate = bind::positive(number, diagnostics);
}

/// A timeout; zero takes back what `defaults` said.
fn set(target: &mut Option<Duration>, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let time = value::duration(line.keyword.name, &line.arguments[0], Unit::Milliseconds, diagnostics);
    // What was refused is not missing: that would be a second finding.
    *target = Some(time.unwrap_or(Duration::MAX)).filter(|time| !time.is_zero());
}

fn mode(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let mode = match word.text.as_slice() {
        b"tcp" => Mode::Tcp,
        b"http" => Mode::Http,
        b"log" | b"spop" | b"haterm" | b"health" => {
            let name = format!("mode {}", word.quoted().trim_matches('\''));
            diagnostics.push(refusal(super::Subject::Other, &name, word, "use 'mode tcp'"));
            return;
        }
        _ => {
            diagnostics.push(word.error("E101", format!("unknown mode {}", word.quoted())).label("write 'tcp'"));
            return;
        }
    };
    proxy.settings.mode = Some((At { value: mode, at: word.at.clone() }, word.length));
}

fn default_backend(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    if let Some(value) = value::name(word, "backend", diagnostics) {
        proxy.settings.default_backend = Some((At { value, at: word.at.clone() }, word.length));
    }
}

fn log_line(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let needs = "'log' needs a target and a facility, or 'global'";
    log::target_line(&mut proxy.settings.logs, line, (2, needs), log::target, diagnostics);
}

fn tcplog(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    if !line.switches_on() {
        let error = line.word.error("E102", "'option tcplog' can not be taken back, as in HAProxy");
        diagnostics.push(error.help("leave it out of 'defaults' and write it where it is wanted"));
        return;
    }
    match line.arguments {
        [] => proxy.settings.tcplog = true,
        [word, ..] if word.is("clf") => {
            diagnostics.push(not_yet("option tcplog clf", word).help("until then: 'option tcplog'"));
        }
        [word, ..] => diagnostics.push(word.error("E102", format!("{} can not follow 'option tcplog'", word.quoted()))),
    }
}

fn httplog(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    if line.switches_on() {
        proxy.settings.tcplog = true;
        diagnostics.inert(line.keyword.name, "'option tcplog' is used in its place", &line.word.at, line.word.length);
    }
}
