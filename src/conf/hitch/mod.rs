//! The second front-end: Hitch's command line and hitch.conf.
//!
//! It lowers to the text of an equivalent HAProxy-style configuration ([`Lowered`]), which the first front-end then reads. So
//! there is one way from words to the model, `--dump` prints exactly what is in force, and a migration is that one command. What
//! the text would lose is where things were written: every word of it carries its place in hitch.conf or on the command line,
//! and messages of any later stage point there.
//!
//! The layers: [`lexer`] makes tokens of a file, [`options`] is the table of what there is, [`grammar`] makes settings of
//! tokens and [`command_line`] of words, [`mod@lower`] decides what they mean, [`dump`] writes it down.

mod command_line;
mod dump;
mod glob;
mod grammar;
mod lexer;
mod lower;
mod md5;
mod options;

use std::sync::Arc;

pub use command_line::{CommandLine, OTHERS, Task, parse as parse_command_line};
pub use dump::Lowered;
pub use lower::{Listing, Outside};
pub use options::{ALIASES, OPTIONS, Row};

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::environment::Environment;
use super::model::Location;
use super::token::Word;
use super::{Parsed, check, parse as text};

/// How messages name the command line, as if it were a file of one line.
pub const COMMAND_LINE: &str = "command line";

/// A place and how many bytes of it are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    at: Location,
    length: u32,
}

impl Mark {
    fn error(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, &self.at, message).span(self.length)
    }

    fn warning(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(code, &self.at, message).span(self.length)
    }
}

/// Reads hitch.conf (name and text) and lowers it, with what the command line says on top. `outside` tells what is in
/// `pem-dir`, and which addresses a frontend's host has.
///
/// The text is there unless there is an error among the diagnostics. Never panics, whatever the bytes.
pub fn lower(
    command_line: &CommandLine,
    file: Option<&(String, Vec<u8>)>,
    outside: Outside<'_>,
) -> (Option<Lowered>, Vec<Diagnostic>) {
    let mut diagnostics = Diagnostics::default();
    let mut settings = Vec::new();
    if let Some((name, text)) = file {
        let name: Arc<str> = Arc::from(name.as_str());
        diagnostics.open(&name);
        settings = grammar::read(&name, text, &mut diagnostics);
    }
    diagnostics.open(&Arc::from(COMMAND_LINE));
    settings.extend(command_line.settings.iter().cloned());
    let start = Mark {
        at: Location { file: Arc::from(file.map_or(COMMAND_LINE, |(name, _)| name)), line: 1, column: 1 },
        length: 0,
    };
    let lowered = lower::lower(&settings, &start, outside, &mut diagnostics);
    let failed = diagnostics.any(Severity::Error);
    (Some(lowered).filter(|_| !failed), diagnostics.finish())
}

/// The model of a lowered text, with all places where the operator wrote them. Hitch has no idle timeouts, so that there are none
/// is no finding (W102).
pub fn parse(lowered: &Lowered) -> Parsed {
    let origins = lowered.origins();
    let translate = |word: &mut Word| {
        if let Some(mark) = origins.find(&word.at) {
            (word.at, word.length) = (mark.at, mark.length);
        }
    };
    let mut diagnostics = Diagnostics::default();
    let sources = [(dump::NAME.to_owned(), lowered.text().as_bytes().to_vec())];
    let drafts = text::read(&sources, Environment::default(), Some(&translate), &mut diagnostics);
    let model = check::model(drafts, &mut diagnostics);
    let failed = diagnostics.any(Severity::Error);
    let mut diagnostics = diagnostics.finish();
    diagnostics.retain(|diagnostic| diagnostic.code != "W102");
    Parsed { model: Some(model).filter(|_| !failed), diagnostics }
}

#[cfg(test)]
mod tests;
