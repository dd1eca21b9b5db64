//! `global` (HAProxy manual, 3).

use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::draft::{Global, TlsOptions};
use super::super::model::{At, Chroot, SniPolicy, TlsVersion};
use super::super::token::Word;
use super::super::value::{self, Unit};
use super::super::words;
use super::{Action, Class, Keyword, Line, Places, bind, lists, log, nearest};

/// HAProxy's limit of threads in all groups.
pub(super) const THREADS_MAX: u32 = 1024;
/// Shortest record that is worth its header and its tag.
const RECORD_MIN: u32 = 64;
/// Plaintext of a full record (RFC 8446, 5.1).
const RECORD_MAX: u32 = 16_384;

pub(super) static KEYWORDS: &[Keyword] = &[
    Keyword {
        name: "user",
        places: Places::GLOBAL,
        usage: "<name>",
        class: Class::Must,
        doc: "The user that the worker runs as. Needs a start as root. Give 'user' or 'uid', not both.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(user),
    },
    Keyword {
        name: "uid",
        places: Places::GLOBAL,
        usage: "<number>",
        class: Class::Must,
        doc: "As 'user', by number.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(user),
    },
    Keyword {
        name: "group",
        places: Places::GLOBAL,
        usage: "<name>",
        class: Class::Must,
        doc: "The group that the worker runs as; supplementary groups are dropped. Give 'group' or 'gid', not both.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(group),
    },
    Keyword {
        name: "gid",
        places: Places::GLOBAL,
        usage: "<number>",
        class: Class::Must,
        doc: "As 'group', by number.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(group),
    },
    Keyword {
        name: "chroot",
        places: Places::GLOBAL,
        usage: "<directory>|auto",
        class: Class::Should,
        doc: "The root directory of the worker, which takes a start as root or CAP_SYS_CHROOT. Unix sockets of 'server' and 'log' lines are then looked for \
              inside, as by the worker. 'auto' is an empty directory without name. The master, which reads the configuration and keys and \
              opens listeners, is not concerned.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(chroot),
    },
    Keyword {
        name: "nbthread",
        places: Places::GLOBAL,
        usage: "<number>",
        class: Class::Must,
        doc: "How many event loops serve connections, each in a thread of its own. Default: one for each CPU that the process may use.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(nbthread),
    },
    Keyword {
        name: "maxconn",
        places: Places::GLOBAL,
        usage: "<number>",
        class: Class::Must,
        doc: "Most client connections at a time, over all frontends. At the limit no more are accepted; they wait in the backlog of the \
              listener. 0 or unset: as many as the limit of open files carries.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(maxconn),
    },
    Keyword {
        name: "pidfile",
        places: Places::GLOBAL,
        usage: "<path>",
        class: Class::Must,
        doc: "Where the process writes its number.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(pidfile),
    },
    Keyword {
        name: "daemon",
        places: Places::GLOBAL,
        usage: "",
        class: Class::Must,
        doc: "Go to the background after the start. Without effect under systemd ($NOTIFY_SOCKET is set) and with '-db'.",
        arguments: 0..=0,
        repeats: false,
        action: Action::Global(|global, _, _| global.process.daemon = true),
    },
    Keyword {
        name: "hard-stop-after",
        places: Places::GLOBAL,
        usage: "<time>",
        class: Class::Must,
        doc: "After a soft stop, connections that are still open are cut when this time is over. Default: they may take as long as they like.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(hard_stop_after),
    },
    Keyword {
        name: "log",
        places: Places::GLOBAL,
        usage: "<target> [len <bytes>] [format <format>] <facility> [<max level> [<min level>]]",
        class: Class::Must,
        doc: "Where log lines go: 'stderr', 'stdout', 'fd@<n>', the path of a unix datagram socket such as /dev/log, <address>[:<port>] \
              (UDP, port 514), or, an extension, 'file@<path>', which is opened again at a reload and within seconds when it was moved away. \
              Formats: local rfc3164 rfc5424 priority short timed iso raw; default local, raw for stderr, stdout and fd@, iso for files. \
              Messages of the process go here; traffic of the proxies that say 'log global' too. May be repeated.",
        arguments: 2..=usize::MAX,
        repeats: true,
        action: Action::Global(|global, line, diagnostics| {
            global.process.logs.extend(log::target(line, diagnostics));
        }),
    },
    Keyword {
        name: "log-tag",
        places: Places::GLOBAL,
        usage: "<text>",
        class: Class::Must,
        doc: "The name of the program in syslog lines; default 'bowline'.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(|global, line, diagnostics| {
            global.process.log_tag = value::text(&line.arguments[0], diagnostics)
        }),
    },
    Keyword {
        name: "tune.ssl.lifetime",
        places: Places::GLOBAL,
        usage: "<time>",
        class: Class::Must,
        doc: "How long after the first authentication a TLS session may be resumed. A number without unit is in seconds; default 300.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(session_lifetime),
    },
    Keyword {
        name: "tune.ssl.cachesize",
        places: Places::GLOBAL,
        usage: "<number>",
        class: Class::Must,
        doc: "Room for the sessions of 'bind' lines with 'no-tls-tickets', in blocks of 200 bytes; default 20000. The oldest make \
              place for new ones; 0: none is kept. Sessions in tickets need no room.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(|global, line, diagnostics| {
            global.session_blocks = value::number(&line.arguments[0], 0..=1 << 24, diagnostics);
        }),
    },
    Keyword {
        name: "tune.ssl.maxrecord",
        places: Places::GLOBAL,
        usage: "<bytes>",
        class: Class::Should,
        doc: "Most plaintext in a record to a client, 64 to 16384: a client can use a small record as soon as its packet is there. As \
              soon as three reads from the server in a row fill a whole record or more, records are as long as they can be, until \
              a read is shorter. 0 or unset: no limit. Small records count as with 'tune.ssl.hard-maxrecord'.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(|global, line, diagnostics| {
            if let Some(length) = record_length(line, diagnostics) {
                global.process.records.first = length;
            }
        }),
    },
    Keyword {
        name: "tune.ssl.hard-maxrecord",
        places: Places::GLOBAL,
        usage: "<bytes>",
        class: Class::Should,
        doc: "Most plaintext in every record to a client, 64 to 16384, for clients with little memory. 0 or unset: no limit. A \
              connection of TLS 1.2 with AES-GCM ends after 2^24 records, which cannot be renewed there: after 1 GiB with 64 bytes, \
              8 GiB with 512.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(|global, line, diagnostics| {
            if let Some(length) = record_length(line, diagnostics) {
                global.process.records.all = length;
            }
        }),
    },
    Keyword {
        name: "tune.ssl.certificate-compression",
        places: Places::GLOBAL,
        usage: "auto|off",
        class: Class::Should,
        doc: "Certificates are not compressed (RFC 8879), which 'off' asks for; 'auto' leaves it to the library, and means off here.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(certificate_compression),
    },
    Keyword {
        name: "ssl-default-bind-options",
        places: Places::GLOBAL,
        usage: "<option> …",
        class: Class::Must,
        doc: "Defaults for all 'bind … ssl' lines: ssl-min-ver <version>, ssl-max-ver <version>, force-tlsv12, force-tlsv13, strict-sni, \
              no-strict-sni, sni-nomatch-abort, prefer-client-ciphers, no-tls-tickets, tls-tickets, \
              no-sslv3, no-tlsv10, no-tlsv11, no-tlsv12, no-tlsv13. The line itself overrides them.",
        arguments: 1..=usize::MAX,
        repeats: false,
        action: Action::Global(default_bind_options),
    },
    default_list("ssl-default-bind-ciphers", "<list>", "'ciphers' of all 'bind … ssl' lines that have none."),
    default_list(
        "ssl-default-bind-ciphersuites",
        "<suite>[:<suite>]…",
        "'ciphersuites' of all 'bind … ssl' lines that have none.",
    ),
    default_list(
        "ssl-default-bind-curves",
        "<group>[:<group>]…",
        "'curves' of all 'bind … ssl' lines that have none. Goes before 'ecdhe' of a line.",
    ),
    Keyword {
        name: "zero-warning",
        places: Places::GLOBAL,
        usage: "",
        class: Class::Must,
        doc: "Refuse to start if there is any warning.",
        arguments: 0..=0,
        repeats: false,
        action: Action::Global(|global, line, _| {
            global.zero_warning = Some(line.word.at.clone());
            global.process.zero_warning = true;
        }),
    },
];

/// A list that `bind` lines without one of their own take.
const fn default_list(name: &'static str, usage: &'static str, doc: &'static str) -> Keyword {
    Keyword {
        name,
        places: Places::GLOBAL,
        usage,
        class: Class::Must,
        doc,
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(lists::of_global),
    }
}

fn user(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    account(&mut global.process.user, line, diagnostics);
}

fn group(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    account(&mut global.process.group, line, diagnostics);
}

/// A name (`user`, `group`), or a number as decimal text (`uid`, `gid`).
fn account(target: &mut Option<At<String>>, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let Some(value) = bind::account(line.keyword.name, word, diagnostics) else { return };
    if let Some(first) = target {
        let message = format!("'{}' is given, but line {} has said who already", line.keyword.name, first.at.line);
        diagnostics.push(line.word.error("E105", message));
        return;
    }
    *target = Some(At { value, at: word.at.clone() });
}

fn chroot(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let value = match word.text.as_slice() {
        b"auto" => Chroot::Empty,
        [b'/', ..] => Chroot::Directory(value::path(word)),
        _ => {
            let message = format!("{} is not an absolute path", word.quoted());
            diagnostics
                .push(word.error("E103", message).help("write the whole path, or 'auto' for an empty directory"));
            return;
        }
    };
    // HAProxy's way to say that it is meant so.
    let is_none = value == Chroot::Directory("/".into());
    global.process.chroot = (!is_none).then(|| At { value, at: word.at.clone() });
}

fn nbthread(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let number = value::number(word, 1..=THREADS_MAX, diagnostics).and_then(|number| u16::try_from(number).ok());
    global.process.threads = number.map(|value| At { value, at: word.at.clone() });
}

fn maxconn(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let number = value::number(word, 0..=i32::MAX.unsigned_abs(), diagnostics).filter(|number| *number > 0);
    global.process.maxconn = number.map(|value| At { value, at: word.at.clone() });
}

fn pidfile(global: &mut Global, line: &Line<'_>, _: &mut Diagnostics) {
    let word = &line.arguments[0];
    global.process.pidfile = Some(At { value: value::path(word), at: word.at.clone() });
}

fn hard_stop_after(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let time = value::duration("hard-stop-after", &line.arguments[0], Unit::Milliseconds, diagnostics);
    global.process.hard_stop_after = time.filter(|time| !time.is_zero());
}

fn session_lifetime(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    global.session_lifetime = value::duration("tune.ssl.lifetime", &line.arguments[0], Unit::Seconds, diagnostics);
}

/// `tune.ssl.maxrecord` and `tune.ssl.hard-maxrecord`; `None`: an error, or no limit.
fn record_length(line: &Line<'_>, diagnostics: &mut Diagnostics) -> Option<usize> {
    let word = &line.arguments[0];
    let range = if word.is("0") { 0..=0 } else { RECORD_MIN..=RECORD_MAX };
    let length = value::number(word, range, diagnostics).filter(|length| *length > 0)?;
    usize::try_from(length).ok()
}

fn certificate_compression(_: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    if word.is("auto") {
        let message = "certificates are not compressed here: 'auto' means off";
        diagnostics.push(Diagnostic::notice("N305", &word.at, message).span(word.length));
    } else if !word.is("off") {
        let message = format!("{}: 'tune.ssl.certificate-compression' takes auto or off", word.quoted());
        diagnostics.push(word.error("E103", message));
    }
}

/// Words of `ssl-default-bind-options` that are understood, for suggestions.
const BIND_OPTIONS: &[&str] = &[
    "ssl-min-ver",
    "ssl-max-ver",
    "force-tlsv12",
    "force-tlsv13",
    "strict-sni",
    "no-strict-sni",
    "sni-nomatch-abort",
    "prefer-client-ciphers",
    "no-sslv3",
    "no-tlsv10",
    "no-tlsv11",
    "no-tlsv12",
    "no-tlsv13",
    "no-tls-tickets",
    "tls-tickets",
];

fn default_bind_options(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let options = &mut global.bind_options;
    let mut rest = line.arguments;
    while let [word, after @ ..] = rest {
        rest = after;
        let name = String::from_utf8_lossy(&word.text);
        if matches!(&*name, "ssl-min-ver" | "ssl-max-ver") {
            let [version, after @ ..] = rest else {
                diagnostics.push(word.error("E102", format!("'{name}' needs a version: TLSv1.2 or TLSv1.3")));
                return;
            };
            rest = after;
            limit_version(options, &name, version, diagnostics);
        } else if !switch(options, &name) {
            diagnostics.push(unknown_bind_option(word, &name));
        } else if name == "sni-nomatch-abort" {
            diagnostics.extension(&name, &word.at, word.length);
        }
    }
}

fn unknown_bind_option(word: &Word, name: &str) -> Diagnostic {
    match name {
        "force-sslv3" | "force-tlsv10" | "force-tlsv11" => super::refusal(super::Subject::TlsVersion, name, word, ""),
        "allow-0rtt" => super::refusal(super::Subject::Other, name, word, "early data can be replayed; remove it"),
        _ => {
            let error = word.error("E101", format!("unknown word {} in 'ssl-default-bind-options'", word.quoted()));
            match nearest(name, BIND_OPTIONS.iter().copied().chain(words::all(words::Kind::Bind))) {
                Some(near) => error.label(format!("did you mean '{near}'?")),
                None => error,
            }
        }
    }
}

/// A word without argument; false if it is none of these.
pub(super) fn switch(options: &mut TlsOptions, name: &str) -> bool {
    match name {
        "strict-sni" => options.sni = Some(SniPolicy::Strict),
        "no-strict-sni" => options.sni = Some(SniPolicy::Lenient),
        "sni-nomatch-abort" => options.sni = Some(SniPolicy::NomatchAbort),
        "prefer-client-ciphers" => options.prefer_client_ciphers = true,
        "force-tlsv12" => (options.min, options.max) = (Some(TlsVersion::Tls12), Some(TlsVersion::Tls12)),
        "force-tlsv13" => (options.min, options.max) = (Some(TlsVersion::Tls13), Some(TlsVersion::Tls13)),
        "no-tlsv12" => options.no_tls12 = true,
        "no-tlsv13" => options.no_tls13 = true,
        "tls-tickets" => options.tickets = Some(true),
        "no-tls-tickets" => options.tickets = Some(false),
        // They are off already.
        "no-sslv3" | "no-tlsv10" | "no-tlsv11" => {}
        _ => return false,
    }
    true
}

/// `ssl-min-ver` and `ssl-max-ver`.
pub(super) fn limit_version(options: &mut TlsOptions, name: &str, word: &Word, diagnostics: &mut Diagnostics) {
    let version = match word.text.as_slice() {
        b"TLSv1.2" => Some(TlsVersion::Tls12),
        b"TLSv1.3" => Some(TlsVersion::Tls13),
        b"SSLv3" | b"TLSv1.0" | b"TLSv1.1" => None,
        _ => {
            let error =
                word.error("E103", format!("{} is not a version of TLS; write TLSv1.2 or TLSv1.3", word.quoted()));
            diagnostics.push(error);
            return;
        }
    };
    match (name, version) {
        ("ssl-min-ver", Some(version)) => options.min = Some(version),
        ("ssl-min-ver", None) => {
            let message = "TLS 1.0 and 1.1 do not exist here; the minimum is TLS 1.2";
            diagnostics.push(word.warning("W301", message));
            options.min = Some(TlsVersion::Tls12);
        }
        (_, Some(version)) => options.max = Some(version),
        (_, None) => {
            let message = format!(
                "'ssl-max-ver {}' leaves no version: TLS 1.2 and 1.3 are what there is",
                word.quoted().trim_matches('\'')
            );
            diagnostics.push(
                word.error("E301", message)
                    .help("remove it; clients that need an older version need another terminator"),
            );
        }
    }
}
