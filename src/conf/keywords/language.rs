//! Words of `global` that are about the configuration itself: variables, where names of files start, unix sockets, messages
//! (HAProxy manual, 3.1 and 3.3).

use super::super::diagnostic::Diagnostics;
use super::super::draft::{DefaultPath, Global};
use super::super::model::At;
use super::super::token::Word;
use super::super::value;
use super::{Action, Apply, Class, Keyword, Line, Places, bind, nearest};

/// Longest value of a variable that a line may set: one that is made of itself must not grow for ever.
const VALUE_MAX: usize = 16 * 1024;

const fn keyword(name: &'static str, usage: &'static str, apply: Apply<Global>, doc: &'static str) -> Keyword {
    Keyword {
        name,
        places: Places::GLOBAL,
        usage,
        class: Class::Should,
        doc,
        arguments: 1..=usize::MAX,
        repeats: true,
        action: Action::Global(apply),
    }
}

pub(super) static KEYWORDS: &[Keyword] = &[
    Keyword {
        arguments: 2..=2,
        ..keyword(
            "setenv",
            "<name> <value>",
            |global, line, diagnostics| {
                if let Some((name, value)) = assignment(line, diagnostics) {
                    global.environment.set(&name, &value);
                }
            },
            "Set a variable for the lines that follow, whatever the environment says. May be repeated.",
        )
    },
    Keyword {
        arguments: 2..=2,
        ..keyword(
            "presetenv",
            "<name> <value>",
            |global, line, diagnostics| {
                if let Some((name, value)) = assignment(line, diagnostics) {
                    global.environment.preset(&name, &value);
                }
            },
            "Set a variable for the lines that follow, unless it is set. May be repeated.",
        )
    },
    keyword(
        "unsetenv",
        "<name> …",
        |global, line, diagnostics| {
            for word in line.arguments {
                if let Some(name) = variable(word, diagnostics) {
                    global.environment.unset(&name);
                }
            }
        },
        "Forget variables for the lines that follow. May be repeated.",
    ),
    Keyword {
        arguments: 0..=usize::MAX,
        ..keyword(
            "resetenv",
            "[<name> …]",
            |global, line, diagnostics| {
                let kept: Vec<String> = line.arguments.iter().filter_map(|word| variable(word, diagnostics)).collect();
                global.environment.keep(&kept);
            },
            "Forget all variables but these for the lines that follow. May be repeated.",
        )
    },
    Keyword {
        repeats: false,
        ..keyword(
            "default-path",
            "current | config | parent | origin <directory>",
            default_path,
            "Where names of files that do not begin with '/' start, 'crt-base' and 'ca-base' among them: in the directory that the \
             program was started in ('current', the default), in that of the configuration file that says so ('config'), in the one \
             above that ('parent'), or in one that is written down ('origin').",
        )
    },
    Keyword {
        repeats: false,
        ..keyword(
            "unix-bind",
            "[prefix <text>] [mode <octal>] [user|uid <who>] [group|gid <who>]",
            unix_bind,
            "For the unix sockets of all 'bind' lines: what is put in front of their paths, and permissions for those that say \
             nothing themselves.",
        )
    },
    Keyword {
        repeats: false,
        arguments: 0..=0,
        ..keyword(
            "quiet",
            "",
            |global, _, _| global.process.quiet = true,
            "Say errors only, as with '-q'; '-V' undoes it.",
        )
    },
];

/// A name that a variable may have.
fn variable(word: &Word, diagnostics: &mut Diagnostics) -> Option<String> {
    let text = std::str::from_utf8(&word.text).unwrap_or_default();
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Some(text.to_owned());
    }
    let message = format!("{} can not be the name of a variable", word.quoted());
    diagnostics.push(word.error("E103", message).help("names are made of letters, digits and '_'"));
    None
}

fn assignment(line: &Line<'_>, diagnostics: &mut Diagnostics) -> Option<(String, String)> {
    let [name, value] = line.arguments else { return None };
    let name = variable(name, diagnostics);
    if value.text.len() > VALUE_MAX {
        diagnostics.push(value.error("E103", format!("the value of a variable has at most {VALUE_MAX} bytes")));
        return None;
    }
    match String::from_utf8(value.text.clone()) {
        Ok(value) => Some((name?, value)),
        Err(_) => {
            diagnostics.push(value.error("E103", format!("{} is not UTF-8 text", value.quoted())));
            None
        }
    }
}

fn default_path(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let (policy, rest) = (&line.arguments[0], &line.arguments[1..]);
    let (path, rest) = match (policy.text.as_slice(), rest) {
        (b"current", rest) => (DefaultPath::Current, rest),
        (b"config", rest) => (DefaultPath::Config, rest),
        (b"parent", rest) => (DefaultPath::Parent, rest),
        (b"origin", [directory, rest @ ..]) => (DefaultPath::Origin(value::path(directory)), rest),
        (b"origin", []) => {
            diagnostics.push(policy.error("E102", "'origin' needs a directory").help(super::usage(line.keyword)));
            return;
        }
        _ => {
            let error = policy.error("E101", format!("unknown word {} in 'default-path'", policy.quoted()));
            diagnostics.push(error.help(super::usage(line.keyword)));
            return;
        }
    };
    match rest {
        [] => global.default_path = Some(At { value: path, at: line.word.at.clone() }),
        [extra, ..] => {
            let error = extra.error("E102", format!("{} is too much for 'default-path'", extra.quoted()));
            diagnostics.push(error.help(super::usage(line.keyword)));
        }
    }
}

/// Words of `unix-bind`.
const UNIX_BIND: &[&str] = &["prefix", "mode", "user", "uid", "group", "gid"];

fn unix_bind(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let unix = &mut global.unix_bind;
    let mut rest = line.arguments;
    while let [word, after @ ..] = rest {
        let name = String::from_utf8_lossy(&word.text);
        if !UNIX_BIND.contains(&&*name) {
            let error = word.error("E101", format!("unknown word {} in 'unix-bind'", word.quoted()));
            diagnostics.push(match nearest(&name, UNIX_BIND.iter().copied()) {
                Some(near) => error.label(format!("did you mean '{near}'?")),
                None => error.help(super::usage(line.keyword)),
            });
            return;
        }
        let [value, after @ ..] = after else {
            diagnostics.push(word.error("E102", format!("'{name}' needs 1 argument")).help(super::usage(line.keyword)));
            return;
        };
        rest = after;
        match &*name {
            "prefix" => unix.prefix = value.text.clone(),
            "mode" => unix.permissions.mode = bind::file_mode(value, diagnostics),
            "user" | "uid" => unix.permissions.user = bind::account(&name, value, diagnostics),
            _ => unix.permissions.group = bind::account(&name, value, diagnostics),
        }
    }
}
