//! What is said about a configuration: errors, warnings, notices, each with its place and what to do about it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::model::Location;

/// Errors of one file that are reported; what comes after them is not read.
const ERRORS_PER_FILE: usize = 50;
/// Warnings and notices of one file that are reported.
const REMARKS_PER_FILE: usize = 50;
/// Characters of a word of the operator's that a message repeats.
const SHOWN_MAX: usize = 64;
/// Characters of a source line that are printed.
const LINE_MAX: usize = 160;

/// How much a diagnostic matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// Accepted, but probably not what was meant; `zero-warning` refuses it.
    Warning,
    /// Worth knowing.
    Notice,
}

impl Severity {
    /// The word in front of the code.
    fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        }
    }
}

/// One finding. Codes are stable: a letter for the severity and a number that documentation and tests refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// `E101`.
    pub code: &'static str,
    /// Where.
    pub at: Location,
    /// Bytes of the source that are meant, from `at`; 0: the place alone.
    pub length: u32,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// Short text beside the mark under the word.
    pub label: Option<String>,
    /// What to do.
    pub help: Vec<String>,
    /// What else is known about it.
    pub notes: Vec<String>,
}

impl Diagnostic {
    fn new(severity: Severity, code: &'static str, at: &Location, message: String) -> Self {
        Self { severity, code, at: at.clone(), length: 0, message, label: None, help: Vec::new(), notes: Vec::new() }
    }

    /// An error. `message` may repeat words of the operator; pass them through [`shown`].
    pub fn error(code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, at, message.into())
    }

    /// A warning.
    pub fn warning(code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, at, message.into())
    }

    /// A notice.
    pub fn notice(code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Notice, code, at, message.into())
    }

    /// Does it forbid the configuration?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Marks `length` bytes of the source from the location on.
    #[must_use]
    pub fn span(mut self, length: u32) -> Self {
        self.length = length;
        self
    }

    /// Sets the text beside the mark.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    /// Adds a line that says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds a line with background.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// The text for a terminal: `file:line:column: error[E101]: …`, the line and a mark if `source_line` is given, help and
    /// notes. Ends with a line feed.
    pub fn render(&self, source_line: Option<&str>) -> String {
        let Location { file, line, column } = &self.at;
        let (file, severity, code, message) = (printable(file), self.severity.word(), self.code, &self.message);
        let mut text = format!("{file}:{line}:{column}: {severity}[{code}]: {message}\n");
        match source_line {
            Some(source) => {
                let excerpt = Excerpt::new(source, *column, self.length);
                let _ = writeln!(text, "{line:>4} | {}", excerpt.text);
                if self.length > 0 {
                    let marks = "^".repeat(excerpt.width);
                    let label = self.label.as_deref().unwrap_or("");
                    let mark = format!("     | {}{marks} {label}", " ".repeat(excerpt.indent));
                    let _ = writeln!(text, "{}", mark.trim_end());
                }
            }
            None => {
                if let Some(label) = &self.label {
                    let _ = writeln!(text, "help: {label}");
                }
            }
        }
        for help in &self.help {
            let _ = writeln!(text, "help: {help}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}

/// The part of a line that is printed, and where the mark goes.
struct Excerpt {
    text: String,
    indent: usize,
    width: usize,
}

impl Excerpt {
    fn new(source: &str, column: u32, length: u32) -> Self {
        let start = usize::try_from(column).unwrap_or(1).saturating_sub(1);
        let end = start.saturating_add(usize::try_from(length).unwrap_or(0));
        let before = source.char_indices().take_while(|(byte, _)| *byte < start).count();
        let inside = source.char_indices().filter(|(byte, _)| (start..end).contains(byte)).count();
        // A very long line is shown from shortly before the place.
        let skipped = if before > LINE_MAX / 2 { before - LINE_MAX / 4 } else { 0 };
        let text: String = source.chars().skip(skipped).take(LINE_MAX).map(one_column).collect();
        let indent = before - skipped;
        let width = inside.clamp(1, LINE_MAX.saturating_sub(indent).max(1));
        Self { text, indent, width }
    }
}

/// A character that moves the cursor by one: a tab would put the mark in the wrong place, an escape would do worse.
fn one_column(character: char) -> char {
    match character {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Text without control characters.
fn printable(text: &str) -> String {
    text.chars().map(one_column).collect()
}

/// A word of the operator's for a message: lossily decoded, control characters escaped, capped at 64 characters.
pub fn shown(word: &[u8]) -> String {
    let head = &word[..word.len().min(SHOWN_MAX * 4)];
    let mut text = String::new();
    for (count, character) in String::from_utf8_lossy(head).chars().enumerate() {
        if count == SHOWN_MAX {
            text.push('…');
            break;
        }
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// Collects what is found while files are read, with a limit for each file.
#[derive(Default)]
pub(crate) struct Diagnostics {
    list: Vec<Diagnostic>,
    files: HashMap<Arc<str>, Counts>,
    errors: usize,
    inert: Vec<Inert>,
    inert_index: HashMap<String, usize>,
    for_haproxy: bool,
}

#[derive(Default)]
struct Counts {
    order: usize,
    errors: usize,
    remarks: usize,
}

/// A keyword that is accepted without effect, and how often it was met.
struct Inert {
    name: String,
    why: &'static str,
    at: Location,
    length: u32,
    count: usize,
}

impl Diagnostics {
    /// Of a text that HAProxy is to read too: extensions are errors.
    pub(crate) fn for_haproxy() -> Self {
        Self { for_haproxy: true, ..Self::default() }
    }

    /// The text is to be read by HAProxy too.
    pub(crate) fn is_for_haproxy(&self) -> bool {
        self.for_haproxy
    }

    /// A word that HAProxy does not have: E701 if it is to read the text too.
    pub(crate) fn extension(&mut self, name: &str, at: &Location, length: u32) {
        if self.for_haproxy {
            let message = format!("'{name}' is an extension: HAProxy does not know it and would not start");
            let error = Diagnostic::error("E701", at, message).span(length);
            self.push(
                error.help("put the line between '.if feature(BOWLINE)' and '.endif', which HAProxy passes over"),
            );
        }
    }

    /// Sets the place of a file in the order of the output.
    pub(crate) fn open(&mut self, file: &Arc<str>) {
        let order = self.files.len();
        self.files.entry(file.clone()).or_insert(Counts { order, ..Counts::default() });
    }

    /// Keeps a finding unless its file has used up its share.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let counts = self.files.entry(diagnostic.at.file.clone()).or_default();
        let (count, limit) = match diagnostic.severity {
            Severity::Error => (&mut counts.errors, ERRORS_PER_FILE),
            Severity::Warning | Severity::Notice => (&mut counts.remarks, REMARKS_PER_FILE),
        };
        *count += 1;
        self.errors += usize::from(diagnostic.severity == Severity::Error);
        if *count <= limit {
            self.list.push(diagnostic);
        }
    }

    /// Notes a keyword without effect; one notice per keyword comes out (N001).
    pub(crate) fn inert(&mut self, name: &str, why: &'static str, at: &Location, length: u32) {
        if let Some(index) = self.inert_index.get(name) {
            self.inert[*index].count += 1;
            return;
        }
        self.inert_index.insert(name.to_owned(), self.inert.len());
        self.inert.push(Inert { name: name.to_owned(), why, at: at.clone(), length, count: 1 });
    }

    /// Tells that a file was not read to its end. Not counted: it must not get lost.
    pub(crate) fn truncated(&mut self, at: &Location) {
        let message = "too many errors: what follows in this file was not read";
        self.list.push(Diagnostic::notice("N011", at, message));
    }

    /// No further error of this file will be reported.
    pub(crate) fn is_full(&self, file: &Arc<str>) -> bool {
        self.files.get(file).is_some_and(|counts| counts.errors >= ERRORS_PER_FILE)
    }

    /// How many errors there were, reported or not.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Some file was not read to its end.
    pub(crate) fn any_full(&self) -> bool {
        self.files.values().any(|counts| counts.errors >= ERRORS_PER_FILE)
    }

    /// There is at least one of this severity.
    pub(crate) fn any(&self, severity: Severity) -> bool {
        self.list.iter().any(|d| d.severity == severity)
    }

    /// Everything, in the order of the files and lines.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        for Inert { name, why, at, length, count } in std::mem::take(&mut self.inert) {
            let times = if count > 1 { format!(" ({count} lines)") } else { String::new() };
            let message = format!("'{name}' has no effect here: {why}{times}");
            self.list.push(Diagnostic::notice("N001", &at, message).span(length));
        }
        let order = |d: &Diagnostic| {
            (self.files.get(&d.at.file).map_or(usize::MAX, |counts| counts.order), d.at.line, d.at.column)
        };
        self.list.sort_by_key(order);
        self.list
    }
}
