//! The HAProxy-style text, and where each of its words comes from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::model::Location;
use super::super::token::saturated;
use super::Mark;

/// How a place in the text itself is named, for want of a better one.
pub(super) const NAME: &str = "hitch.conf as HAProxy's language";

/// An equivalent configuration in HAProxy's language, word by word with its origin.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lowered {
    text: String,
    /// Names that `origins` refer to.
    files: Vec<String>,
    /// In the order of the text.
    origins: Vec<Origin>,
}

/// Where a word comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Origin {
    /// Line and column in the text.
    word: (u32, u32),
    /// Index into the names of the files.
    file: usize,
    line: u32,
    column: u32,
    length: u32,
}

impl Lowered {
    /// What `--dump` prints.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// For look-ups.
    pub(super) fn origins(&self) -> Origins<'_> {
        Origins { names: self.files.iter().map(|name| Arc::from(name.as_str())).collect(), origins: &self.origins }
    }
}

/// Finds where a word of the text comes from.
pub(super) struct Origins<'a> {
    names: Vec<Arc<str>>,
    origins: &'a [Origin],
}

impl Origins<'_> {
    pub(super) fn find(&self, at: &Location) -> Option<Mark> {
        let word = (at.line, at.column);
        let index = self.origins.binary_search_by_key(&word, |origin| origin.word).ok()?;
        let Origin { file, line, column, length, .. } = &self.origins[index];
        let at = Location { file: self.names.get(*file)?.clone(), line: *line, column: *column };
        Some(Mark { at, length: *length })
    }
}

/// A word to be written, and what it is there for.
pub(super) struct Piece<'a> {
    pub(super) text: String,
    pub(super) mark: &'a Mark,
}

/// Writes the text.
#[derive(Default)]
pub(super) struct Writer {
    lowered: Lowered,
    line: u32,
}

impl Writer {
    /// A line of a section, or with `indent` 0 the head of one.
    pub(super) fn line(&mut self, indent: usize, pieces: &[Piece<'_>]) {
        self.line += 1;
        let start = self.lowered.text.len();
        self.lowered.text.push_str(&" ".repeat(indent));
        for (index, Piece { text, mark }) in pieces.iter().enumerate() {
            if index > 0 {
                self.lowered.text.push(' ');
            }
            let file = self.file(&mark.at.file);
            let column = saturated(self.lowered.text.len() - start + 1);
            let Location { line, column: from, .. } = mark.at;
            let origin = Origin { word: (self.line, column), file, line, column: from, length: mark.length };
            self.lowered.origins.push(origin);
            self.lowered.text.push_str(&quoted(text));
        }
        self.lowered.text.push('\n');
    }

    /// A line, with the condition around it that HAProxy passes over if it has words that HAProxy does not know.
    pub(super) fn line_in(&mut self, extension: bool, indent: usize, pieces: &[Piece<'_>]) {
        if extension {
            self.extension(|writer| writer.line(indent, pieces));
        } else {
            self.line(indent, pieces);
        }
    }

    /// Lines that are for Bowline alone.
    pub(super) fn extension(&mut self, lines: impl FnOnce(&mut Self)) {
        self.bare(".if feature(BOWLINE)");
        lines(self);
        self.bare(".endif");
    }

    /// A line of a section whose words all come from one place.
    pub(super) fn plain(&mut self, indent: usize, words: &[&str], mark: &Mark) {
        let pieces: Vec<Piece<'_>> = words.iter().map(|word| Piece { text: (*word).to_owned(), mark }).collect();
        self.line(indent, &pieces);
    }

    pub(super) fn comment(&mut self, text: &str) {
        self.bare(&format!("# {text}"));
    }

    pub(super) fn blank(&mut self) {
        self.bare("");
    }

    /// A line without words that come from somewhere.
    fn bare(&mut self, text: &str) {
        self.line += 1;
        self.lowered.text.push_str(text);
        self.lowered.text.push('\n');
    }

    pub(super) fn finish(self) -> Lowered {
        self.lowered
    }

    fn file(&mut self, name: &str) -> usize {
        let files = &mut self.lowered.files;
        files.iter().position(|known| known == name).unwrap_or_else(|| {
            files.push(name.to_owned());
            files.len() - 1
        })
    }
}

/// A word of HAProxy's language that means this text (manual, 2.2): in single quotes unless it is harmless.
fn quoted(text: &str) -> String {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@,*+=%[]".contains(&byte);
    if !text.is_empty() && text.bytes().all(harmless) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
