//! Sockets of the process itself: `stats socket` and its limits (HAProxy manual, 3.1), `metrics socket`, and `-S` of the
//! command line.

use std::time::Duration;

use super::super::address;
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::draft::{BindDraft, Global};
use super::super::model::{AdminSocket, At, BindAddress, Level, Purpose};
use super::super::token::Word;
use super::super::value::{self, Unit};
use super::{Action, Class, Keyword, Line, Places, Table, bind, log, parameters};

/// Who may connect where the line has no `mode`: the owner. HAProxy leaves it to the file mode creation mask.
const MODE_DEFAULT: u32 = 0o600;

/// Parameters of `bind` lines that such a socket has too.
const PARAMETERS: &[&str] = &["mode", "user", "uid", "group", "gid", "level", "backlog", "maxconn", "v4v6", "v6only"];

pub(super) static KEYWORDS: &[Keyword] = &[
    Keyword {
        name: "stats socket",
        places: Places::GLOBAL,
        usage: "<path or address:port> [<parameter> …]",
        class: Class::Must,
        doc: "A socket for commands: 'bowline ctl', socat, HAProxy's tools. Parameters: 'level' user, operator (default) or admin, and \
              mode, user, uid, group, gid, backlog, maxconn of 'bind' lines; without 'mode' only the owner may connect. May be \
              repeated. Whoever can connect to a TCP address can give commands.",
        arguments: 1..=usize::MAX,
        repeats: true,
        action: Action::Global(socket),
    },
    Keyword {
        name: "stats timeout",
        places: Places::GLOBAL,
        usage: "<time>",
        class: Class::Must,
        doc: "How long a client of a 'stats socket' or 'metrics socket' may be silent or take nothing; default 10s.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(timeout),
    },
    Keyword {
        name: "stats maxconn",
        places: Places::GLOBAL,
        usage: "<number>",
        class: Class::Must,
        doc: "Most clients of each 'stats socket' and 'metrics socket' at a time; others wait. Default 10.",
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(maxconn),
    },
    Keyword {
        name: "metrics socket",
        places: Places::GLOBAL,
        usage: "<path or address:port> [<parameter> …]",
        class: Class::Must,
        doc: "Extension: a socket for monitoring, plain HTTP: /metrics for Prometheus, and /healthz, which answers 200 ready or 503 \
              draining. Parameters as for 'stats socket', without 'level'; a request and its answer may take 'stats timeout' each. \
              May be repeated. Whoever can connect can read it.",
        arguments: 1..=usize::MAX,
        repeats: true,
        action: Action::Global(socket),
    },
];

fn socket(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let name = line.keyword.name;
    let purpose = if name == "metrics socket" { Purpose::Metrics } else { Purpose::Control(Level::Operator) };
    if let Some(socket) = read(name, purpose, MODE_DEFAULT, line.word, line.arguments, diagnostics) {
        global.process.admin_sockets.push(socket);
    }
}

/// `-S <path>[,<parameter>…]`: a control socket of level `admin`, whatever the configuration says.
pub(crate) fn master_socket(words: &[Word], diagnostics: &mut Diagnostics) -> Option<AdminSocket> {
    read("-S", Purpose::Control(Level::Admin), MODE_DEFAULT, words.first()?, words, diagnostics)
}

fn read(
    name: &str,
    mut purpose: Purpose,
    mode: u32,
    at: &Word,
    words: &[Word],
    diagnostics: &mut Diagnostics,
) -> Option<AdminSocket> {
    let [place, rest @ ..] = words else { return None };
    let errors = diagnostics.errors();
    let mut draft = BindDraft::new(at.at.clone());
    parameters(rest, Table::Bind, diagnostics, |line, diagnostics| {
        let word = line.keyword.name;
        if !PARAMETERS.contains(&word) || (word == "level" && purpose == Purpose::Metrics) {
            let error = line.word.error("E106", format!("'{word}' does not belong to '{name}'"));
            diagnostics.push(error.help(format!("remove it; there are: {}", PARAMETERS.join(" "))));
        } else if let Action::Bind(apply) = line.keyword.action {
            apply(&mut draft, line, diagnostics);
        }
    });
    let address = match address::single(&place.text) {
        Ok(address) => Some(address),
        Err(error) => {
            diagnostics.push(log::from_address(place, error));
            None
        }
    };
    if diagnostics.errors() > errors {
        return None;
    }
    let mut address = address?;
    if let BindAddress::Inet { address, v6only, .. } = &mut address {
        *v6only = bind::v6only(&draft);
        if !address.ip().is_loopback() {
            let (code, what) = match purpose {
                Purpose::Control(_) => ("W213", "give commands"),
                Purpose::Metrics => ("W214", "read names of files and servers, and how busy they are"),
            };
            let message = format!("whoever can connect to {address} can {what}: there is no password");
            let warning = place.warning(code, message);
            diagnostics.push(warning.help("use a unix socket, or an address of the loopback interface"));
        }
    }
    if let (Purpose::Control(level), Some(wanted)) = (&mut purpose, draft.level) {
        *level = wanted.value;
    }
    draft.unix.mode.get_or_insert(mode);
    Some(AdminSocket {
        address: At { value: address, at: place.at.clone() },
        purpose,
        unix: draft.unix,
        backlog: draft.backlog,
        maxconn: draft.maxconn,
    })
}

/// `level` on a line of a socket for commands.
pub(super) fn level(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let value = match word.text.as_slice() {
        b"user" => Level::User,
        b"operator" => Level::Operator,
        b"admin" => Level::Admin,
        _ => {
            diagnostics.push(word.error("E103", format!("{}: 'level' takes user, operator or admin", word.quoted())));
            return;
        }
    };
    bind.level = Some(At { value, at: line.word.at.clone() });
}

/// On a line of a frontend it would change nothing; whoever writes it expects commands there.
pub(super) fn no_level_here(bind: &BindDraft) -> Option<Diagnostic> {
    let level = bind.level.as_ref()?;
    let error = Diagnostic::error("E106", &level.at, "'level' does not belong to 'bind'; it is for 'stats socket'");
    Some(error.span(5))
}

fn timeout(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let time = value::duration("stats timeout", &line.arguments[0], Unit::Milliseconds, diagnostics);
    match time {
        Some(Duration::ZERO) => {
            let word = &line.arguments[0];
            diagnostics.push(word.error("E103", "'stats timeout 0' would let a silent client stay for ever"));
        }
        Some(time) => global.process.admin_timeout = time,
        None => {}
    }
}

fn maxconn(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    if let Some(number) = value::number(&line.arguments[0], 1..=1000, diagnostics) {
        global.process.admin_maxconn = number;
    }
}
