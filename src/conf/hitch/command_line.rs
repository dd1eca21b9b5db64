//! Hitch's command line, as getopt_long reads it: abbreviated names, letters in one word, options behind operands.

use std::sync::Arc;

use super::super::diagnostic::{Diagnostic, shown};
use super::super::keywords::nearest;
use super::super::model::Location;
use super::super::token::saturated;
use super::grammar::{expected, number};
use super::options::{ALIASES, LINE, OPTIONS, Row, Setting, Takes, VERSIONS, Value, find};
use super::{COMMAND_LINE, Mark};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Task {
    /// Run the service.
    #[default]
    Serve,
    /// `--test`, `-t`: say whether a start would work.
    Test,
    /// `--dump` (not in Hitch): print the HAProxy-style configuration.
    Dump,
    /// `--version`, `-V`
    Version,
    /// `--help`, `-h`
    Help,
}

/// The words behind the program's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// What to do.
    pub task: Task,
    /// `--config`: a file; `-` or nothing is standard input.
    pub config: Option<String>,
    /// `--dbg-listen`: where to write the addresses that are listened on.
    pub listen_report: Option<String>,
    /// All words with a blank between them: what places on the command line refer to.
    pub text: String,
    pub(super) settings: Vec<Setting>,
}

/// An option that is no setting.
#[derive(Debug)]
pub struct Other {
    /// Its name.
    pub name: &'static str,
    /// Its letter; 0: none.
    pub letter: u8,
    /// Its value, named for help and manual; empty: it takes none.
    pub value: &'static str,
    /// What it does: whole sentences.
    pub doc: &'static str,
}

/// All of them.
pub static OTHERS: &[Other] = &[
    other(
        "config",
        0,
        "FILE",
        "Read hitch.conf(5); '-' is standard input. Wherever it stands, the other options go before the file.",
    ),
    other(
        "dump",
        0,
        "",
        "Print the same as a configuration for 'bowline -f', and exit. What HAProxy has no word for stands between '.if \
         feature(BOWLINE)' and '.endif', which HAProxy passes over. Not in Hitch.",
    ),
    other("test", b't', "", "Check everything that a start would check, and exit with 0 if it is well, else with 1."),
    other("version", b'V', "", "Print the version and exit."),
    other("help", b'h', "", "Print a summary of the options and exit."),
    other(
        "dbg-listen",
        0,
        "FILE",
        "Write the addresses that the service listens on to a file, a line each, once it is up.",
    ),
    other("client", 0, "", "Refused: this program does not speak TLS towards servers."),
];

const fn other(name: &'static str, letter: u8, value: &'static str, doc: &'static str) -> Other {
    Other { name, letter, value, doc }
}

/// A name on the command line.
#[derive(Clone, Copy)]
enum Name {
    Setting(&'static Row),
    Other(&'static str),
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Name::Setting(row) => row.name,
            Name::Other(name) => name,
        }
    }
}

/// Reads the words.
///
/// # Errors
/// Which word is wrong, and how.
pub fn parse(words: &[String]) -> Result<CommandLine, Box<Diagnostic>> {
    let file: Arc<str> = Arc::from(COMMAND_LINE);
    let mut column = 1;
    let mut marked = Vec::new();
    for word in words {
        let at = Location { file: file.clone(), line: 1, column: saturated(column) };
        marked.push((word.as_str(), Mark { at, length: saturated(word.len()) }));
        column += word.len() + 1;
    }
    let mut reader = Reader { rest: &marked, line: CommandLine { text: words.join(" "), ..CommandLine::default() } };
    let mut operands_only = false;
    while let [(word, mark), after @ ..] = reader.rest {
        reader.rest = after;
        if operands_only || !word.starts_with('-') || *word == "-" {
            let row = find("pem-file").ok_or_else(|| Box::new(mark.error("H101", "no operands")))?;
            reader.push(row, Value::Text((*word).to_owned()), mark, mark);
        } else if *word == "--" {
            operands_only = true;
        } else if let Some(long) = word.strip_prefix("--") {
            reader.long(long, mark)?;
        } else {
            reader.letters(&word[1..], mark)?;
        }
    }
    Ok(reader.line)
}

struct Reader<'a> {
    rest: &'a [(&'a str, Mark)],
    line: CommandLine,
}

impl Reader<'_> {
    fn push(&mut self, row: &'static Row, value: Value, key: &Mark, mark: &Mark) {
        self.line.settings.push(Setting { row, value, key: key.clone(), mark: mark.clone() });
    }

    /// `name` or `name=value` behind two dashes.
    fn long(&mut self, word: &str, mark: &Mark) -> Result<(), Box<Diagnostic>> {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let name = long_name(name, mark)?;
        self.apply(name, value, mark)
    }

    /// Letters behind one dash; the first that takes a value gets the rest of the word, or the next word.
    fn letters(&mut self, word: &str, mark: &Mark) -> Result<(), Box<Diagnostic>> {
        let mut rest = word;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let is = |known: u8| known != 0 && char::from(known) == letter;
            let setting = OPTIONS.iter().find(|row| is(row.letter)).map(Name::Setting);
            let other = || OTHERS.iter().find(|other| is(other.letter)).map(|other| Name::Other(other.name));
            let Some(name) = setting.or_else(other) else {
                let letter = shown(letter.to_string().as_bytes());
                return Err(Box::new(mark.error("H101", format!("unknown option '-{letter}'"))));
            };
            let takes_value = matches!(name, Name::Setting(row) if row.takes != Takes::Switch);
            if takes_value && !rest.is_empty() {
                return self.apply(name, Some(rest), mark);
            }
            self.apply(name, None, mark)?;
        }
        Ok(())
    }

    fn apply(&mut self, name: Name, value: Option<&str>, mark: &Mark) -> Result<(), Box<Diagnostic>> {
        let error = |message: String| Err(Box::new(mark.error("H101", message)));
        let row = match name {
            Name::Setting(row) => row,
            Name::Other("config") => {
                self.line.config = Some(self.operand(name, value, mark)?.0);
                return Ok(());
            }
            Name::Other("client") => {
                return error("'--client': this program does not speak TLS towards servers; use stunnel".to_owned());
            }
            Name::Other("dbg-listen") => {
                self.line.listen_report = Some(self.operand(name, value, mark)?.0).filter(|path| !path.is_empty());
                return Ok(());
            }
            Name::Other(task) => {
                if value.is_some() {
                    return error(format!("'--{task}' takes no value"));
                }
                // The first of these two is what Hitch does, whatever follows.
                if !matches!(self.line.task, Task::Version | Task::Help) {
                    self.line.task = match task {
                        "dump" => Task::Dump,
                        "test" => Task::Test,
                        "version" => Task::Version,
                        _ => Task::Help,
                    };
                }
                return Ok(());
            }
        };
        if row.takes == Takes::Switch {
            let on = match value {
                None | Some("on") => true,
                Some("off") => false,
                Some(other) => {
                    let other = shown(other.as_bytes());
                    let name = row.name;
                    return error(format!(
                        "Invalid argument '{other}' for option '{name}': expected one of 'on' or 'off'"
                    ));
                }
            };
            self.push(row, Value::Switch(on), mark, mark);
            return Ok(());
        }
        let (text, place) = self.operand(name, value, mark)?;
        if text.chars().any(char::is_control) {
            return error(format!("a control character in the value of '{}'", row.name));
        }
        let value = match row.takes {
            Takes::NumberOrAuto if text == "auto" => Some(Value::Auto),
            Takes::Number | Takes::Integer | Takes::NumberOrAuto => number(row.takes, &text),
            Takes::Versions => versions(&text),
            _ => Some(Value::Text(text.clone())),
        };
        let Some(value) = value else {
            return error(expected(row, &shown(text.as_bytes())));
        };
        self.push(row, value, mark, &place);
        Ok(())
    }

    /// The value of an option, in its word or the next one.
    fn operand(&mut self, name: Name, value: Option<&str>, mark: &Mark) -> Result<(String, Mark), Box<Diagnostic>> {
        if let Some(value) = value {
            return Ok((value.to_owned(), mark.clone()));
        }
        let [(value, place), after @ ..] = self.rest else {
            return Err(Box::new(mark.error("H101", format!("'{}' needs a value", name.text()))));
        };
        self.rest = after;
        Ok(((*value).to_owned(), place.clone()))
    }
}

/// The option of a long name, which may be cut short as long as it is clear.
fn long_name(name: &str, mark: &Mark) -> Result<Name, Box<Diagnostic>> {
    let settings = OPTIONS.iter().filter(|row| row.scope & LINE != 0).map(|row| (row.name, Name::Setting(row)));
    let aliases = ALIASES.iter().filter_map(|(alias, of)| Some((*alias, Name::Setting(find(of)?))));
    let others = OTHERS.iter().map(|other| (other.name, Name::Other(other.name)));
    let all: Vec<(&str, Name)> = settings.chain(aliases).chain(others).collect();
    if let Some((_, exact)) = all.iter().find(|(known, _)| *known == name) {
        return Ok(*exact);
    }
    let mut near: Vec<&(&str, Name)> =
        all.iter().filter(|(known, _)| !name.is_empty() && known.starts_with(name)).collect();
    near.dedup_by_key(|(_, name)| name.text());
    let word = shown(name.as_bytes());
    match near.as_slice() {
        [(_, only)] => Ok(*only),
        [] => {
            let error = match find(name) {
                Some(_) => mark.error("H102", format!("'{name}' exists only in hitch.conf")),
                None => mark.error("H101", format!("unknown option '--{word}'")),
            };
            Err(Box::new(match nearest(name, all.iter().map(|(known, _)| *known)) {
                Some(near) => error.label(format!("did you mean '--{near}'?")),
                None => error,
            }))
        }
        several => {
            let names: Vec<String> = several.iter().map(|(known, _)| format!("--{known}")).collect();
            Err(Box::new(mark.error("H101", format!("'--{word}' can be {}", names.join(", ")))))
        }
    }
}

fn versions(text: &str) -> Option<Value> {
    let names: Vec<String> = text
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    let known = names.iter().all(|name| VERSIONS.contains(&name.as_str()));
    (known && !names.is_empty()).then_some(Value::Versions(names))
}
