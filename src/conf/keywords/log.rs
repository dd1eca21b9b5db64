//! `log <target> [len n] [format f] <facility> [max [min]]` (HAProxy manual, 4.2).

use super::super::address;
use super::super::diagnostic::Diagnostics;
use super::super::draft::TargetLine;
use super::super::model::{LogFraming, LogSink, LogTarget};
use super::super::token::Word;
use super::super::value;
use super::{Line, Prefix, nearest, not_yet, refusal, usage};

/// Longest line unless `len` says otherwise.
const LENGTH_DEFAULT: usize = 1024;

/// Facilities in the order of their numbers (RFC 5424, 6.2.1, with HAProxy's names).
const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp", "ntp", "audit",
    "alert", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// Levels in the order of their numbers (RFC 5424, 6.2.1).
const LEVELS: &[&str] = &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

const FORMATS: &[(&str, LogFraming)] = &[
    ("local", LogFraming::Local),
    ("rfc3164", LogFraming::Rfc3164),
    ("rfc5424", LogFraming::Rfc5424),
    ("short", LogFraming::Short),
    ("priority", LogFraming::Priority),
    ("raw", LogFraming::Raw),
    ("timed", LogFraming::Timed),
    ("iso", LogFraming::Iso),
];

/// Most `log` lines of a section, and most `audit` lines, those of `defaults` counted.
const LINES_MAX: usize = 64;

/// Reads a `log` or `audit` line of a proxy: `global`, a target, which `target` reads, or `no`, which forgets the `lines` before it.
/// A target has so many words at least; `needs` says what is missing.
pub(super) fn target_line<T>(
    lines: &mut Vec<TargetLine<T>>,
    line: &Line<'_>,
    (words, needs): (usize, &str),
    target: impl FnOnce(&Line<'_>, &mut Diagnostics) -> Option<T>,
    diagnostics: &mut Diagnostics,
) {
    let name = line.keyword.name;
    match (line.prefix, line.arguments) {
        (Prefix::No, []) => lines.clear(),
        (Prefix::No, [extra, ..]) => {
            let message = format!("'no {name}' takes no argument; it forgets all '{name}' lines");
            diagnostics.push(extra.error("E102", message));
        }
        (_, [word]) if word.is("global") => {
            // Saying it again, for instance after 'defaults', changes nothing.
            if !lines.iter().any(|line| matches!(line, TargetLine::Global)) {
                lines.push(TargetLine::Global);
            }
        }
        (_, [word, extra, ..]) if word.is("global") => {
            diagnostics.push(extra.error("E102", format!("nothing can follow '{name} global'")));
        }
        (_, arguments) if arguments.len() < words => {
            diagnostics.push(line.word.error("E102", needs).help(usage(line.keyword)));
        }
        _ if lines.len() == LINES_MAX => {
            let message = format!("more than {LINES_MAX} '{name}' lines for one section");
            diagnostics.push(line.word.error("E103", message));
        }
        _ => lines.extend(target(line, diagnostics).map(TargetLine::Target)),
    }
}

/// Reads a `log` line; what is wrong with it goes to `diagnostics`.
pub(super) fn target(line: &Line<'_>, diagnostics: &mut Diagnostics) -> Option<LogTarget> {
    let [target, options @ ..] = line.arguments else {
        return None;
    };
    let sink = match address::log(&target.text) {
        Ok(sink) => Some(sink),
        Err(error) => {
            diagnostics.push(from_address(target, error));
            None
        }
    };
    if matches!(sink, Some(LogSink::File(_))) {
        diagnostics.extension("file@<path>", &target.at, target.length);
    }
    let mut max_length = LENGTH_DEFAULT;
    let mut format = match sink {
        Some(LogSink::Descriptor(_)) => LogFraming::Raw,
        Some(LogSink::File(_)) => LogFraming::Iso,
        _ => LogFraming::Usual,
    };
    let mut rest = options;
    // HAProxy wants these in this order.
    if let [word, value, after @ ..] = rest {
        if word.is("len") {
            max_length = usize::try_from(value::number(value, 80..=65535, diagnostics)?).unwrap_or(LENGTH_DEFAULT);
            rest = after;
        }
    }
    if let [word, value, after @ ..] = rest {
        if word.is("format") {
            format = one_of(value, "log format", FORMATS, diagnostics)?;
            rest = after;
        }
    }
    match rest {
        [word, ..] if word.is("len") => {
            diagnostics.push(word.error("E102", "'len' goes before 'format'").help(usage(line.keyword)));
            return None;
        }
        [word, ..] if word.is("sample") => {
            diagnostics.push(not_yet("sample", word).help("until then: every line is sent"));
            return None;
        }
        [word, ..] if word.is("profile") => {
            diagnostics.push(refusal(super::Subject::Other, "profile", word, "use 'format' instead"));
            return None;
        }
        _ => {}
    }
    let [facility, levels @ ..] = rest else {
        diagnostics.push(
            line.word.error("E102", "the facility is missing, such as 'local0' or 'daemon'").help(usage(line.keyword)),
        );
        return None;
    };
    let facility = numbered(facility, "log facility", FACILITIES, diagnostics)?;
    let (max_level, min_level) = match levels {
        [] => (7, 0),
        [max] => (numbered(max, "log level", LEVELS, diagnostics)?, 0),
        [max, min] => {
            (numbered(max, "log level", LEVELS, diagnostics)?, numbered(min, "log level", LEVELS, diagnostics)?)
        }
        [_, _, extra, ..] => {
            diagnostics.push(
                extra.error("E102", format!("{} is too much: at most two levels follow the facility", extra.quoted())),
            );
            return None;
        }
    };
    Some(LogTarget { sink: sink?, max_length, format, facility, max_level, min_level, at: line.word.at.clone() })
}

/// The diagnostic of a wrong address.
pub(super) fn from_address(word: &Word, error: address::AddressError) -> super::Diagnostic {
    let diagnostic = word.error(error.code, error.message);
    match error.help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// The value that belongs to a name.
fn one_of<T: Copy>(word: &Word, what: &str, values: &[(&'static str, T)], diagnostics: &mut Diagnostics) -> Option<T> {
    let found = values.iter().find(|(name, _)| word.is(name));
    if found.is_none() {
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        diagnostics.push(unknown(word, what, &names));
    }
    found.map(|(_, value)| *value)
}

/// The index of a name in a list that is shorter than 256.
fn numbered(word: &Word, what: &str, names: &[&'static str], diagnostics: &mut Diagnostics) -> Option<u8> {
    let found = names.iter().position(|name| word.is(name));
    if found.is_none() {
        diagnostics.push(unknown(word, what, names));
    }
    found.and_then(|index| u8::try_from(index).ok())
}

fn unknown(word: &Word, what: &str, names: &[&'static str]) -> super::Diagnostic {
    let error = word.error("E101", format!("unknown {what} {}", word.quoted()));
    match nearest(&String::from_utf8_lossy(&word.text), names.iter().copied()) {
        Some(near) => error.label(format!("did you mean '{near}'?")),
        None => error.help(format!("there are: {}", names.join(" "))),
    }
}
