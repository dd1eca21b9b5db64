//! A client of a control socket: lines to commands, answers back. The grammar is HAProxy's (management manual, 9.3): commands
//! end with a line feed or `;`, words are parted by blanks, `\` takes the meaning from the character behind it. Without
//! `prompt` the connection ends after the commands that came together; every answer ends with an empty line.

use std::io::{self, BufWriter, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use socket2::Socket;

use super::command::{self, Then};
use super::{AtWork, Site};
use crate::conf::model::Level;

/// Longest line with its commands.
const LINE_BYTES: usize = 16 * 1024;
/// An answer goes out in pieces of this size; what makes it waits until the client has taken them.
const STEP_BYTES: usize = 16 * 1024;
/// What is read of a line that is longer, and not kept.
const DISCARDED_BYTES: u64 = 256 * 1024;
/// The answer to such a line.
const TOO_LONG: &str = "Command too long: a line has at most 16384 bytes.\n";

/// What a client has settled for itself.
pub(super) struct Session<'a> {
    pub(super) site: &'a Site,
    pub(super) level: Level,
    pub(super) mode: Mode,
    pub(super) severity: Severity,
    pub(super) socket: &'a Socket,
}

/// How a session goes on after its first commands (`prompt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It ends.
    OneShot,
    /// It waits for more.
    Interactive,
    /// It says that it does.
    Prompt,
}

impl Mode {
    /// What stands behind an answer.
    fn end_of_answer(self) -> &'static str {
        match self {
            Self::OneShot | Self::Interactive => "\n",
            Self::Prompt => "\n> ",
        }
    }
}

/// How what went wrong is marked (`set severity-output`); level 3 is an error (RFC 5424, 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Not at all.
    None,
    /// `[3]: `
    Number,
    /// `[err]: `
    String,
}

impl Session<'_> {
    /// Says what is wrong with a command.
    pub(super) fn fail(&self, out: &mut dyn Write, text: &str) -> io::Result<Then> {
        let mark = match self.severity {
            Severity::None => "",
            Severity::Number => "[3]: ",
            Severity::String => "[err]: ",
        };
        writeln!(out, "{mark}{text}")?;
        Ok(Then::Stay)
    }

    /// How long this client may be silent.
    pub(super) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(timeout))?;
        self.socket.set_write_timeout(Some(timeout))
    }
}

/// Serves a client until it ends, breaks the rules or is silent for too long.
pub(super) fn serve(socket: &Socket, level: Level, site: &Site) {
    let mut session = Session { site, level, mode: Mode::OneShot, severity: Severity::None, socket };
    let mut out = BufWriter::with_capacity(STEP_BYTES, socket);
    let ended = session.run(socket, &mut out).and_then(|()| out.flush());
    // What a broken client has not taken is not offered again.
    drop(out.into_parts());
    if ended.is_ok() {
        let _ = socket.shutdown(Shutdown::Write);
    }
}

impl Session<'_> {
    fn run(&mut self, mut input: impl Read, out: &mut impl Write) -> io::Result<()> {
        let mut line = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let read = match input.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let _at_work = AtWork::new(self.site);
            line.extend_from_slice(&piece[..read]);
            let mut answered = false;
            while let Some(end) = line.iter().position(|&byte| byte == b'\n') {
                let rest = line.split_off(end + 1);
                if end > LINE_BYTES {
                    return self.too_long(&mut input, out);
                }
                let Then::Stay = self.line(&line[..end], out)? else { return out.flush() };
                line = rest;
                answered = true;
            }
            if read == 0 {
                // A last line may lack its end.
                if !line.is_empty() {
                    self.line(&line, out)?;
                }
                return out.flush();
            }
            if line.len() > LINE_BYTES {
                return self.too_long(&mut input, out);
            }
            out.flush()?;
            if answered && self.mode == Mode::OneShot {
                return Ok(());
            }
        }
    }

    /// Takes in some of what is still coming: a socket that is closed before would reset, and the answer be lost.
    fn too_long(&self, input: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{TOO_LONG}")?;
        out.flush()?;
        self.socket.shutdown(Shutdown::Write)?;
        io::copy(&mut input.take(DISCARDED_BYTES), &mut io::sink()).map(drop)
    }

    /// One line of commands.
    fn line(&mut self, line: &[u8], out: &mut impl Write) -> io::Result<Then> {
        let Ok(text) = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)) else {
            write!(out, "Commands are UTF-8 text.\n{}", self.mode.end_of_answer())?;
            return Ok(Then::Stay);
        };
        if text.trim().is_empty() && self.mode != Mode::OneShot {
            out.write_all(self.mode.end_of_answer().as_bytes())?;
            return Ok(Then::Stay);
        }
        for text in commands(text) {
            if let Then::End = command::perform(self, &words(text), out)? {
                return Ok(Then::End);
            }
            out.write_all(self.mode.end_of_answer().as_bytes())?;
        }
        Ok(Then::Stay)
    }
}

/// The commands of a line.
fn commands(line: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    line.split(move |character| {
        let ends = character == ';' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    })
}

/// The words of a command.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_to_commands_to_words() {
        let split = |line| commands(line).map(words).collect::<Vec<_>>();
        assert_eq!(
            split("show info;  show\tstat -1 4 -1 "),
            [vec!["show", "info"], vec!["show", "stat", "-1", "4", "-1"]]
        );
        assert_eq!(split(r"a\;b\ c;d\\;e"), [vec!["a;b c"], vec![r"d\"], vec!["e"]]);
        assert_eq!(split(""), [Vec::<String>::new()]);
        assert_eq!(split("quit;"), [vec!["quit"], vec![]]);
        assert_eq!(split("a\\"), [vec!["a"]]);
    }

    proptest! {
        /// What was escaped word by word comes out again, whatever it is.
        #[test]
        fn escaped_words_are_one_command(given in proptest::collection::vec("[^\n]{1,20}", 1..5)) {
            let escaped = given.iter().map(|word| word.chars().flat_map(|one| ['\\', one]).collect::<String>());
            let line = escaped.collect::<Vec<_>>().join(" ");
            prop_assert_eq!(commands(&line).map(words).collect::<Vec<_>>(), [given]);
        }

        #[test]
        fn no_line_is_too_odd(line in "\\PC{0,200}") {
            let longest = commands(&line).flat_map(words).map(|word| word.len()).max().unwrap_or(0);
            prop_assert!(longest <= line.len());
        }
    }
}
