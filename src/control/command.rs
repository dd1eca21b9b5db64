//! The table of commands: one row for each. `help`, the answer to an unknown word and the manual page are made of it.

use std::io::{self, Write};
use std::time::Duration;

use super::session::{Mode, Session, Severity};
use super::{connections, reload, ssl, stat};
use crate::conf::model::{Level, Purpose};

/// One command.
pub struct Command {
    /// Its words.
    pub name: &'static str,
    /// Its arguments, as in a manual.
    pub usage: &'static str,
    /// From which level on it may be given.
    pub level: Level,
    /// What it does, a sentence.
    pub doc: &'static str,
    action: Action,
}

/// What happens.
type Action = fn(&mut Session<'_>, &[String], &mut dyn Write) -> io::Result<Then>;

/// What becomes of the client afterwards.
pub(super) enum Then {
    /// It may go on.
    Stay,
    /// It is let go.
    End,
}

const fn row(name: &'static str, usage: &'static str, level: Level, action: Action, doc: &'static str) -> Command {
    Command { name, usage, level, doc, action }
}

/// About commands that HAProxy has and that will come.
const NOT_YET: &str = "Not implemented yet: a backend has one server, which cannot be taken out but by a reload.";

/// Every command, in alphabetical order.
pub static COMMANDS: &[Command] = &[
    row("disable server", "<backend>/<server>", Level::Admin, not_yet, NOT_YET),
    row("enable server", "<backend>/<server>", Level::Admin, not_yet, NOT_YET),
    row("help", "[<command>]", Level::User, help, "List the commands, or those that begin with the words."),
    row(
        "operator",
        "",
        Level::Operator,
        |session, _, _| {
            session.level = Level::Operator;
            Ok(Then::Stay)
        },
        "Give up what only 'admin' may do, for the rest of this session.",
    ),
    row(
        "prompt",
        "[n|i|p]",
        Level::User,
        prompt,
        "Keep the session open for more commands: i without and p with a prompt, n not. Alone it switches p on and off.",
    ),
    row("quit", "", Level::User, |_, _, _| Ok(Then::End), "End the session."),
    row(
        "reload",
        "",
        Level::Operator,
        reload::reload,
        "Read the configuration and all files again, and wait. The answer is Success=1 and what changed, or Success=0 and every \
         error; then everything stays as it was.",
    ),
    row("set server", "<backend>/<server> <setting> <value>", Level::Admin, not_yet, NOT_YET),
    row(
        "set severity-output",
        "none|number|string",
        Level::User,
        set_severity,
        "Mark answers that tell of an error: with [3]: or [err]: in front, for programs.",
    ),
    row(
        "set timeout cli",
        "<time>",
        Level::User,
        set_timeout,
        "How long this session may be silent: 30s, 5m; seconds without unit.",
    ),
    row("show backend", "", Level::User, stat::show_backend, "List the backends."),
    row("show cli level", "", Level::User, show_level, "Say which level this session has."),
    row("show cli sockets", "", Level::Operator, show_sockets, "List the control sockets and their levels."),
    row(
        "show info",
        "",
        Level::User,
        stat::show_info,
        "Tell about the process: version, uptime, limits, connections, reloads. A line each.",
    ),
    row(
        "show servers state",
        "[<backend>]",
        Level::User,
        stat::show_servers,
        "List the servers in the form of HAProxy's state file. Servers are not checked: each is up.",
    ),
    row(
        "show sess",
        "[<id>|all]",
        Level::Operator,
        connections::show,
        "List the connections, a line each: identity, age, bytes; with an id, or all, everything that is known. Those of an old \
         worker that still drains are not among them.",
    ),
    row(
        "show ssl ca-file",
        "[<file>]",
        Level::Operator,
        ssl::authorities,
        "List the files with the CAs of clients, or tell all about the certificates in one of them.",
    ),
    row(
        "show ssl cert",
        "[<file>]",
        Level::Operator,
        ssl::certificates,
        "List the files with certificates, or tell all about the one in a file: names, dates, fingerprints.",
    ),
    row(
        "show ssl crl-file",
        "[<file>]",
        Level::Operator,
        ssl::revocation_lists,
        "List the files with revocation lists, or tell who issued those in a file and when they expire.",
    ),
    row(
        "show ssl sni",
        "[-f <frontend>]",
        Level::Operator,
        ssl::server_names,
        "List the names that clients may ask for, with the certificates for them.",
    ),
    row(
        "show stat",
        "[{<iid>|<proxy>} <type> <sid>]",
        Level::User,
        stat::show_stat,
        "List counters as CSV, a row for each frontend, server and backend. Types are 1 for frontends, 2 for backends, 4 for \
         servers, 8 for listeners, or a sum of them; -1 is all but listeners.",
    ),
    row(
        "show version",
        "",
        Level::User,
        |_, _, out| {
            writeln!(out, "{}", env!("CARGO_PKG_VERSION"))?;
            Ok(Then::Stay)
        },
        "Say the version of the program that runs.",
    ),
    row(
        "shutdown session",
        "<id>",
        Level::Admin,
        connections::shutdown_one,
        "Cut this connection; 'show sess' tells the ids. One of an old worker that still drains cannot be cut so.",
    ),
    row(
        "shutdown sessions cert",
        "<sha256>",
        Level::Admin,
        connections::shutdown_certificate,
        "Cut every connection whose client has shown this certificate; the fingerprint is in hexadecimal digits. Those of an old \
         worker that still drains, after an upgrade or a reload that took another worker, are not reached.",
    ),
    row(
        "shutdown sessions server",
        "<backend>/<server>",
        Level::Admin,
        connections::shutdown_server,
        "Cut every connection to this server. Those of an old worker that still drains are not reached.",
    ),
    row(
        "shutdown sessions subject",
        "<name>",
        Level::Admin,
        connections::shutdown_subject,
        "Cut every connection whose client's certificate has exactly this subject, such as /O=Example/CN=alice. Those of an old \
         worker that still drains, after an upgrade or a reload that took another worker, are not reached.",
    ),
    row(
        "user",
        "",
        Level::User,
        |session, _, _| {
            session.level = Level::User;
            Ok(Then::Stay)
        },
        "Give up what only 'operator' and 'admin' may do, for the rest of this session.",
    ),
];

/// Does what the words say.
pub(super) fn perform(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let Some((command, arguments)) = find(words) else {
        return unknown(session, words, out);
    };
    if session.level < command.level {
        return session.fail(out, "Permission denied");
    }
    (command.action)(session, arguments, out)
}

/// The command with the longest name that the words begin with, and its arguments.
fn find(words: &[String]) -> Option<(&'static Command, &[String])> {
    let length = |command: &Command| command.name.split(' ').count();
    let begins = |command: &&Command| {
        words.len() >= length(command) && command.name.split(' ').zip(words).all(|(name, word)| name == word)
    };
    let command = COMMANDS.iter().filter(begins).max_by_key(|command| length(command))?;
    Some((command, &words[length(command)..]))
}

/// Rows whose name begins with the words, as far as both go; each word may be cut short.
fn matching(level: Level, words: &[String]) -> impl Iterator<Item = &'static Command> {
    let fits = move |command: &&Command| {
        command.level <= level && command.name.split(' ').zip(words).all(|(name, word)| name.starts_with(word.as_str()))
    };
    COMMANDS.iter().filter(fits)
}

fn list(commands: impl Iterator<Item = &'static Command>, out: &mut dyn Write) -> io::Result<()> {
    for command in commands {
        let name = format!("{} {}", command.name, command.usage);
        writeln!(out, "  {:<40}: {}", name.trim_end(), command.doc)?;
    }
    Ok(())
}

fn unknown(session: &Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let (headline, commands) = suggestions(session.level, words);
    session.fail(out, headline)?;
    list(commands.into_iter(), out)?;
    Ok(Then::Stay)
}

/// What may have been meant: the commands that begin with as many of the words as any does, else all.
fn suggestions(level: Level, words: &[String]) -> (&'static str, Vec<&'static Command>) {
    let near = |words: &&[String]| matching(level, words).next().is_some();
    let basics = COMMANDS.iter().filter(|command| matches!(command.name, "help" | "prompt" | "quit"));
    match (1..=words.len()).rev().map(|length| &words[..length]).find(near) {
        Some(words) => {
            let text = "Unknown command, but maybe one of the following ones is a better match:";
            (text, matching(level, words).chain(basics).collect())
        }
        None => {
            let text = "Unknown command. Please enter one of the following commands only:";
            (text, matching(level, &[]).collect())
        }
    }
}

fn help(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    writeln!(out, "The following commands are valid at this level:")?;
    list(matching(session.level, words), out)?;
    Ok(Then::Stay)
}

fn prompt(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    session.mode = match (words.first().map(String::as_str), session.mode) {
        (None, Mode::Prompt) | (Some("n"), _) => Mode::OneShot,
        (None, _) | (Some("p"), _) => Mode::Prompt,
        (Some("i"), _) => Mode::Interactive,
        (Some(_), _) => return session.fail(out, "'prompt' takes n, i or p."),
    };
    Ok(Then::Stay)
}

fn set_timeout(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    const LONGEST: u64 = 24 * 3600;
    let parse = |word: &str| {
        let digits = word.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
        let scale = match &word[digits.len()..] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let seconds = digits.parse::<u64>().ok()?.checked_mul(scale)?;
        (1..=LONGEST).contains(&seconds).then(|| Duration::from_secs(seconds))
    };
    match words.first().and_then(|word| parse(word)) {
        Some(timeout) => session.set_timeout(timeout)?,
        None => return session.fail(out, "A time from 1s to 24h is expected."),
    }
    Ok(Then::Stay)
}

fn set_severity(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    session.severity = match words.first().map(String::as_str) {
        Some("none") => Severity::None,
        Some("number") => Severity::Number,
        Some("string") => Severity::String,
        _ => return session.fail(out, "One of 'none', 'number', 'string' is required as an argument."),
    };
    Ok(Then::Stay)
}

fn not_yet(session: &mut Session<'_>, _: &[String], out: &mut dyn Write) -> io::Result<Then> {
    session.fail(out, NOT_YET)
}

fn show_level(session: &mut Session<'_>, _: &[String], out: &mut dyn Write) -> io::Result<Then> {
    writeln!(out, "{}", session.level)?;
    Ok(Then::Stay)
}

fn show_sockets(session: &mut Session<'_>, _: &[String], out: &mut dyn Write) -> io::Result<Then> {
    writeln!(out, "# socket lvl processes")?;
    for admin in session.site.sockets() {
        if let Purpose::Control(level) = admin.purpose {
            writeln!(out, "{} {level} all", admin.name)?;
        }
    }
    Ok(Then::Stay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(COMMANDS.is_sorted_by(|before, after| before.name < after.name));
        for command in COMMANDS {
            assert!(command.doc.ends_with('.') && command.doc.starts_with(char::is_uppercase), "{}", command.name);
        }
    }

    #[test]
    fn a_command_is_found_by_all_of_its_words() {
        let found = |text| find(&words(text)).map(|(command, rest)| (command.name, rest.to_vec()));
        assert_eq!(found("show version"), Some(("show version", vec![])));
        assert_eq!(found("prompt i"), Some(("prompt", words("i"))));
        assert_eq!(found("show"), None);
        assert_eq!(found("show versio"), None);
        assert_eq!(found("version show"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn an_unknown_word_gets_what_is_near() {
        let answer = |level, text| {
            let (headline, commands) = suggestions(level, &words(text));
            (headline, commands.iter().map(|command| command.name).collect::<Vec<_>>())
        };
        let (headline, near) = answer(Level::Admin, "show cli nonsense");
        assert!(headline.starts_with("Unknown command, but maybe"), "{headline}");
        assert_eq!(near, ["show cli level", "show cli sockets", "help", "prompt", "quit"]);
        assert!(answer(Level::Admin, "shutdown sess").1.contains(&"shutdown session"), "a word may be cut short");
        let (headline, all) = answer(Level::Admin, "xyz");
        assert!(headline.starts_with("Unknown command. Please enter"), "{headline}");
        assert_eq!(all.len(), COMMANDS.len());
        assert!(!answer(Level::User, "xyz").1.contains(&"show cli sockets"), "what is not permitted is not offered");
        assert_eq!(answer(Level::User, "").1, answer(Level::User, "xyz").1);
    }
}
