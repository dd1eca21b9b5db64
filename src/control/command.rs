//! The table of commands: one row for each. `help`, the answer to an unknown word and the manual page are made of it.

use std::io::{self, Write};
use std::time::Duration;

use super::session::{Mode, Session};
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

/// Every command, in alphabetical order.
pub static COMMANDS: &[Command] = &[
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
        "set timeout cli",
        "<time>",
        Level::User,
        set_timeout,
        "How long this session may be silent: 30s, 5m; seconds without unit.",
    ),
    row("show cli level", "", Level::User, show_level, "Say which level this session has."),
    row("show cli sockets", "", Level::Operator, show_sockets, "List the control sockets and their levels."),
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
        unknown(session.level, words, out)?;
        return Ok(Then::Stay);
    };
    if session.level < command.level {
        writeln!(out, "Permission denied")?;
        return Ok(Then::Stay);
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

fn unknown(level: Level, words: &[String], out: &mut dyn Write) -> io::Result<()> {
    let near = |words: &[String]| !words.is_empty() && matching(level, words).next().is_some();
    let basics = |command: &&Command| matches!(command.name, "help" | "prompt" | "quit");
    match (0..=words.len()).rev().map(|length| &words[..length]).find(|words| near(words)) {
        Some(words) => {
            writeln!(out, "Unknown command, but maybe one of the following ones is a better match:")?;
            list(matching(level, words).chain(COMMANDS.iter().filter(basics)), out)
        }
        None => {
            writeln!(out, "Unknown command. Please enter one of the following commands only:")?;
            list(matching(level, &[]), out)
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
        (Some(_), mode) => {
            writeln!(out, "'prompt' takes n, i or p.")?;
            mode
        }
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
        None => writeln!(out, "A time from 1s to 24h is expected.")?,
    }
    Ok(Then::Stay)
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
            let mut out = Vec::new();
            unknown(level, &words(text), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let near = answer(Level::Admin, "show cli nonsense");
        assert!(near.starts_with("Unknown command, but maybe"), "{near}");
        assert!(
            near.contains("  show cli level ") && near.contains("  quit ") && !near.contains("show version"),
            "{near}"
        );
        let all = answer(Level::Admin, "xyz");
        assert!(all.starts_with("Unknown command. Please enter") && all.contains("  show cli sockets "), "{all}");
        assert!(!answer(Level::User, "xyz").contains("show cli sockets"), "what is not permitted is not offered");
    }
}
