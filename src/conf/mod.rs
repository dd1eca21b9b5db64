//! What the operator asked for: text in, [`model::Model`] out. Reads no file but the text it is given, opens no socket.
//!
//! The layers in reading order: [`token`] makes words of lines, [`conditions`] decides which lines count, [`keywords`] is the
//! table of what a word means, [`mod@parse`] and [`sections`] follow files, sections and inheritance into [`draft`]s, [`check`] makes the [`model`] of
//! them. [`diagnostic`] is how all of them speak. [`hitch`] is a second front-end, which makes text for this one.

pub mod certificate_files;
pub mod ciphers;
pub mod crt_list;
pub mod diagnostic;
pub mod expr;
pub mod hitch;
pub mod keywords;
pub mod model;
pub mod verify_errors;

mod address;
mod check;
mod conditions;
mod draft;
mod environment;
mod format;
mod header;
mod parse;
mod sections;
mod token;
mod value;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use diagnostic::{Diagnostic, Diagnostics, Severity};
use environment::Environment;
use model::{AdminSocket, Location, Model};
use token::{Word, saturated};

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Parsed {
    /// The model; `None` exactly if there is an error among the diagnostics.
    pub model: Option<Model>,
    /// Everything that was found, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a configuration: `sources` are names and contents of files in the order in which they count. `environment` answers
/// `"$NAME"` and `defined(NAME)`; [`variables`] tells which names matter.
///
/// The same arguments always give the same answer: no file, socket, clock or environment of the process is looked at. Never
/// panics, whatever the bytes.
pub fn parse(sources: &[(String, Vec<u8>)], environment: &BTreeMap<String, String>) -> Parsed {
    read(sources, environment, Diagnostics::default())
}

/// What HAProxy would not read: the text is read as it reads it, without `feature(BOWLINE)`. Words that it does not have are
/// errors, and so is what is missing without the lines that it passes over. Errors that [`parse()`] reports are among them.
pub fn parse_for_haproxy(sources: &[(String, Vec<u8>)], environment: &BTreeMap<String, String>) -> Vec<Diagnostic> {
    read(sources, environment, Diagnostics::for_haproxy()).diagnostics
}

fn read(sources: &[(String, Vec<u8>)], environment: &BTreeMap<String, String>, mut diagnostics: Diagnostics) -> Parsed {
    let mut environment = Environment::new(environment, sources.iter().map(|(name, _)| name.as_str()));
    environment.haproxys = diagnostics.is_for_haproxy();
    let drafts = parse::read(sources, environment, None, &mut diagnostics);
    let model = check::model(drafts, &mut diagnostics);
    let failed = diagnostics.any(Severity::Error);
    Parsed { model: if failed { None } else { Some(model) }, diagnostics: diagnostics.finish() }
}

/// Evaluates a condition as it may stand after `.if`. `name` is what messages call the text.
///
/// # Errors
/// What is wrong with it.
pub fn condition(name: &str, text: &[u8], environment: &BTreeMap<String, String>) -> Result<bool, Box<Diagnostic>> {
    let file: Arc<str> = Arc::from(name);
    let environment = Environment::new(environment, std::iter::empty());
    let words = token::split(text, &file, 1, &mut |name| environment.value(name).map(str::to_owned))?;
    let at = Location { file, line: 1, column: 1 };
    let start = Word { text: Vec::new(), at, length: 0, unset: Vec::new() };
    parse::condition(&start, &words, &environment)
}

/// Reads `-S <path>[,<parameter>…]` of the command line, whose parameters are those of `stats socket`.
///
/// # Errors
/// What is wrong with it.
pub fn master_socket(text: &str) -> Result<AdminSocket, Vec<Diagnostic>> {
    let file = Arc::from("-S");
    let mut words = Vec::new();
    let mut column = 1;
    for part in text.split(',') {
        let at = Location { file: Arc::clone(&file), line: 1, column };
        words.push(Word { text: part.as_bytes().to_vec(), at, length: saturated(part.len()), unset: Vec::new() });
        column += saturated(part.len() + 1);
    }
    let mut diagnostics = Diagnostics::default();
    let socket = keywords::master_socket(&words, &mut diagnostics);
    socket.ok_or_else(|| diagnostics.finish())
}

/// Names of the environment variables that a text refers to.
pub fn variables(text: &[u8]) -> BTreeSet<String> {
    token::variables(text)
}

#[cfg(test)]
mod tests;
