//! Help and versions.

use super::options::{Effect, Group, OPTIONS, SUBCOMMANDS};
use crate::conf::hitch;
use crate::sys::{privileges, seccomp};
use crate::versions;

/// Columns of `--help`.
const WIDTH: usize = 80;
/// Where the summaries begin.
const INDENT: usize = 20;

/// `--help`
pub(super) fn help() -> String {
    let mut text = String::from(
        "\
Bowline terminates TLS, verifies client certificates and tells the backend who
is there with a PROXY protocol header. It reads the language of HAProxy.

Usage: bowline [-f FILE]... [OPTION]...
       bowline -c [-f FILE]...
",
    );
    for subcommand in SUBCOMMANDS {
        text += &format!("       bowline {} {}\n", subcommand.name, subcommand.usage);
    }
    for (group, title) in Group::SHOWN {
        text += &format!("\n{title}\n");
        if group == Group::Other {
            SUBCOMMANDS.iter().for_each(|subcommand| entry(&mut text, subcommand.name, subcommand.summary));
        }
        for option in OPTIONS.iter().filter(|option| option.group == group) {
            let names = option.names.join(", ");
            let head = match &option.effect {
                Effect::Take(value) => format!("{names} {}", value.name),
                Effect::Set(_) | Effect::Nothing(_) => names,
            };
            entry(&mut text, &head, option.summary);
        }
    }
    text += "
Signals: HUP reads everything again and changes nothing if there is an error.
USR2 upgrades: the program file is executed again, and open connections finish
in the old worker. HUP does so too if the file was replaced.
USR1, TERM and INT stop accepting and wait for open connections, for
'hard-stop-after' at most; a second TERM or INT leaves them 2 seconds, a third
none.
";
    let names: Vec<&str> = OPTIONS
        .iter()
        .filter(|option| option.group == Group::HAProxy)
        .flat_map(|option| option.names)
        .copied()
        .collect();
    text.push('\n');
    let ignored = format!("Options of HAProxy that mean nothing here are accepted with a notice: {}", names.join(" "));
    wrap(&mut text, &ignored, 0, 0);
    text
}

/// `bowline hitch --help`
pub(super) fn hitch_help() -> String {
    let mut text = String::from(
        "\
Usage: bowline hitch [OPTION]... [PEM]...

Runs what Hitch's command line and hitch.conf describe. Options go before the
file. PEM files are added to those of the file; the last one is the default.
",
    );
    text.push('\n');
    for other in hitch::OTHERS {
        let value = if other.value.is_empty() { String::new() } else { format!("={}", other.value) };
        entry(&mut text, &hitch_term(other.letter, other.name, &value), other.doc);
    }
    text.push('\n');
    for row in hitch::OPTIONS.iter().filter(|row| row.is_on_command_line()) {
        let value = if row.is_switch() { "[=on|off]".to_owned() } else { format!("={}", row.value) };
        entry(&mut text, &hitch_term(row.letter, row.name, &value), row.doc);
    }
    let files: Vec<&str> = hitch::OPTIONS.iter().filter(|row| !row.is_on_command_line()).map(|row| row.name).collect();
    text.push('\n');
    wrap(&mut text, &format!("Only in hitch.conf: {}. See bowline-hitch(8).", files.join(" ")), 0, 0);
    text
}

/// `-f, --frontend=[HOST]:PORT`
fn hitch_term(letter: u8, name: &str, value: &str) -> String {
    let letter = if letter == 0 { String::new() } else { format!("-{}, ", char::from(letter)) };
    format!("{letter}--{name}{value}")
}

/// A term and what is said about it, in two columns.
fn entry(text: &mut String, term: &str, summary: &str) {
    *text += &format!("  {term:0$}", INDENT - 4);
    let column = term.len().max(INDENT - 4) + 2;
    if column + 2 > INDENT {
        text.push('\n');
        wrap(text, summary, 0, INDENT);
    } else {
        wrap(text, summary, column, INDENT);
    }
}

/// Adds words and a line feed; lines that are begun here start at `indent`. `column` is where the text stands now.
fn wrap(text: &mut String, words: &str, mut column: usize, indent: usize) {
    for (index, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            column = 0;
        } else if column >= indent && column > 0 {
            text.push(' ');
            column += 1;
        }
        if column < indent {
            *text += &" ".repeat(indent - column);
            column = indent;
        }
        *text += word;
        column += length;
    }
    text.push('\n');
}

/// `-v`
pub(super) fn version() -> String {
    format!("bowline {}\n", versions::PROGRAM)
}

/// `-vv`
pub(super) fn versions() -> String {
    let mut text = version();
    for library in ["rustls", "rustls-webpki", "aws-lc-rs", "aws-lc-sys", "mio"] {
        text.push_str(&format!("  {library:14} {}\n", versions::of_library(library).unwrap_or("?")));
    }
    text.push_str(&format!("  {:14} {}\n", "sandbox", privileges::sandbox_support()));
    text.push_str(&format!("  {:14} {}\n", "", seccomp::support()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_build() {
        assert!(!super::versions().contains('?'), "{}", super::versions());
    }

    #[test]
    fn help_fits_a_terminal() {
        let help = help();
        assert!(help.lines().all(|line| line.len() <= WIDTH && line.trim_end() == line), "{help}");
        assert!(help.contains("\n  -C DIR            change to DIR first\n"), "{help}");
    }
}
