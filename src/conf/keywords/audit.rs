//! `audit <target> [len <bytes>] [format json] [events <event>[,<event>…]]`: an extension.

use super::super::address;
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::draft::Proxy;
use super::super::model::{AuditEvent, AuditTarget, Frontend};
use super::super::token::Word;
use super::super::value;
use super::{Action, Class, DEFAULTS_FRONTEND, Keyword, Line, Places, Prefix, log, nearest, usage};

/// Longest record unless `len` says otherwise: there is room for a dozen alternative names in a certificate, or more.
const LENGTH_DEFAULT: usize = 8192;
/// What is never left out fits into less.
const LENGTH_MIN: u32 = 1024;

const USAGE: &str = "<target> [len <bytes>] [format json] [events <event>[,<event>…]]";

pub(super) static KEYWORDS: &[Keyword] = &[
    Keyword {
        name: "audit",
        places: Places::GLOBAL,
        usage: USAGE,
        class: Class::Must,
        doc: "Extension: where audit records go, a JSON object on a line for each connection and reload. Targets as for 'log', with \
              'file@<path>'; to stdout, stderr, fd@ and files goes the record alone, to syslog sockets with facility local0 and level \
              info. A record is never cut: what makes it longer than 'len' (1024 to 65535, default 8192) is left out, and \
              '\"truncated\":true' says so. Events: close, handshake_failed, denied, cut, reload, and establish, which is not among \
              those without 'events'. As with 'log', lines of 'global' are for the process, here its reloads; connections of the \
              proxies that say 'audit global' come too. May be repeated.",
        arguments: 1..=usize::MAX,
        repeats: true,
        action: Action::Global(|global, line, diagnostics| {
            if line.prefix == Prefix::No {
                diagnostics
                    .push(line.word.error("E102", "'no audit' belongs into a proxy; leave the line out of 'global'"));
                return;
            }
            global.process.audits.extend(target(line, diagnostics));
        }),
    },
    Keyword {
        name: "audit",
        places: DEFAULTS_FRONTEND,
        usage: "global | <target> [len <bytes>] [format json] [events <event>[,<event>…]]",
        class: Class::Must,
        doc: "Extension: where the audit records of these connections go: 'audit global', the targets of 'global'; or a target as there, \
              which hears of reloads too. Inherited like 'log': lines add up, also to those of 'defaults', and 'no audit' forgets them \
              all. Every connection has its record, silent probes too: 'option dontlognull' and its like are about 'log'.",
        arguments: 0..=usize::MAX,
        repeats: true,
        action: Action::Proxy(audit_line),
    },
];

fn audit_line(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let needs = "'audit' needs a target, or 'global'";
    log::target_line(&mut proxy.settings.audits, line, (1, needs), target, diagnostics);
}

/// Reads an `audit` line with a target; what is wrong with it goes to `diagnostics`.
fn target(line: &Line<'_>, diagnostics: &mut Diagnostics) -> Option<AuditTarget> {
    let [target, options @ ..] = line.arguments else { return None };
    let mut rest = options;
    let errors = diagnostics.errors();
    let sink = address::log(&target.text).map_err(|error| diagnostics.push(log::from_address(target, error))).ok();
    let mut max_length = None;
    let mut events = None;
    let mut format = None;
    while let [option, after @ ..] = rest {
        let given = match option.text.as_slice() {
            b"len" => max_length.is_some(),
            b"format" => format.is_some(),
            b"events" => events.is_some(),
            _ => {
                let error = option.error("E101", format!("unknown audit option {}", option.quoted()));
                diagnostics.push(error.help(usage(line.keyword)));
                return None;
            }
        };
        let [value, after @ ..] = after else {
            let message = format!("{} needs a value", option.quoted());
            diagnostics.push(option.error("E102", message).help(usage(line.keyword)));
            return None;
        };
        rest = after;
        if given {
            diagnostics.push(option.error("E105", format!("{} is given twice on this line", option.quoted())));
        } else if option.is("len") {
            max_length = Some(value::number(value, LENGTH_MIN..=65535, diagnostics)?);
        } else if option.is("events") {
            events = Some(self::events(value, diagnostics));
        } else {
            format = Some(());
            if !value.is("json") {
                let error = value.error("E101", format!("unknown audit format {}", value.quoted()));
                diagnostics.push(error.help("there is: json"));
            }
        }
    }
    if diagnostics.errors() > errors {
        return None;
    }
    Some(AuditTarget {
        sink: sink?,
        max_length: max_length.map_or(LENGTH_DEFAULT, |number| number as usize),
        events: events.unwrap_or_else(|| AuditEvent::DEFAULT.to_vec()),
        at: line.word.at.clone(),
    })
}

/// Warns of lines of `global` that wait for the connections of somebody who does not say `audit global`.
pub(crate) fn audits_without_connections(
    audits: &[AuditTarget],
    frontends: &[Frontend],
    diagnostics: &mut Diagnostics,
) {
    if diagnostics.errors() > 0 || frontends.is_empty() {
        // What is missing may have been refused.
        return;
    }
    for audit in audits.iter().filter(|audit| audit.events != [AuditEvent::Reload]) {
        let mut targets = frontends.iter().flat_map(|frontend| &frontend.audits);
        if !targets.any(|target| target.at == audit.at) {
            let message = "this line records reloads only: no proxy says 'audit global'";
            let warning = Diagnostic::warning("W413", &audit.at, message).span(5);
            diagnostics.push(warning.help("write 'audit global' into 'defaults', or 'events reload' here"));
        }
    }
}

/// The events of a list with commas.
fn events(list: &Word, diagnostics: &mut Diagnostics) -> Vec<AuditEvent> {
    let mut events = Vec::new();
    for name in list.text.split(|byte| *byte == b',') {
        match AuditEvent::ALL.into_iter().find(|event| event.name().as_bytes() == name) {
            Some(event) if events.contains(&event) => {}
            Some(event) => events.push(event),
            None => {
                let name = String::from_utf8_lossy(name);
                let mut error = list.error("E101", format!("unknown audit event '{}'", name.escape_debug()));
                if let Some(near) = nearest(&name, AuditEvent::ALL.into_iter().map(AuditEvent::name)) {
                    error = error.label(format!("did you mean '{near}'?"));
                }
                diagnostics.push(error.help(format!("there are: {}", AuditEvent::ALL.map(AuditEvent::name).join(" "))));
            }
        }
    }
    events
}
