//! Lines to words (HAProxy manual, 2.1 to 2.3): quotes, escapes, comments, environment variables.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, shown};
use super::model::Location;

/// Words of one line; HAProxy takes 64.
const WORDS_MAX: usize = 1024;
/// Bytes of one line after variables are replaced.
const LINE_MAX: usize = 1 << 20;

/// One word of a line, quotes and escapes resolved.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    /// What it says. Any byte but NUL.
    pub(crate) text: Vec<u8>,
    /// Where it starts in the file, its first quote included.
    pub(crate) at: Location,
    /// Bytes that it takes in the file.
    pub(crate) length: u32,
    /// Variables in it that are not set and have no default.
    pub(crate) unset: Vec<Unset>,
}

/// A variable that is not set.
#[derive(Clone, Debug)]
pub(crate) struct Unset {
    /// Its name.
    pub(crate) name: String,
    /// Where its `$` stands.
    pub(crate) column: u32,
}

impl Word {
    /// The word for a message, in quotes.
    pub(crate) fn quoted(&self) -> String {
        format!("'{}'", shown(&self.text))
    }

    /// An error that marks this word.
    pub(crate) fn error(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, &self.at, message).span(self.length)
    }

    /// A warning that marks this word.
    pub(crate) fn warning(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(code, &self.at, message).span(self.length)
    }

    /// The word is this text.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text.as_bytes()
    }
}

/// Looks a variable up.
pub(crate) type Lookup<'a> = &'a mut dyn FnMut(&str) -> Option<String>;

/// Splits one line (without its line feed) into words. A word may be empty, if it was written with quotes or a variable.
pub(crate) fn split(
    line: &[u8],
    file: &Arc<str>,
    number: u32,
    lookup: Lookup<'_>,
) -> Result<Vec<Word>, Box<Diagnostic>> {
    let mut splitter = Splitter { line, file, number, position: 0, words: Vec::new(), open: None, expanded: 0 };
    splitter.run(lookup)?;
    Ok(splitter.words)
}

/// The first word of a line without looking at quotes: enough to find `.if` and `.endif` in a part that is skipped.
pub(crate) fn first_bare_word(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|byte| !is_blank(*byte)).unwrap_or(line.len());
    let rest = &line[start..];
    let end = rest.iter().position(|byte| is_blank(*byte) || *byte == b'#').unwrap_or(rest.len());
    &rest[..end]
}

/// Names of the environment variables that a text refers to: in double quotes, and in `defined(…)` of a condition.
pub(crate) fn variables(text: &[u8]) -> BTreeSet<String> {
    let file: Arc<str> = Arc::from("");
    let mut names = BTreeSet::new();
    for line in text.split(|byte| *byte == b'\n') {
        // A line with an error gives the names in front of it; parsing reports the error.
        let _ = split(line, &file, 0, &mut |name| {
            // Pseudo variables are nobody's to set.
            if name.starts_with('.') {
                return Some(String::new());
            }
            names.insert(name.to_owned());
            None
        });
        if matches!(first_bare_word(line), b".if" | b".elif") {
            defined_names(line, &mut names);
        }
    }
    names
}

/// Adds the arguments of `defined(…)`.
fn defined_names(line: &[u8], names: &mut BTreeSet<String>) {
    const PREDICATE: &[u8] = b"defined(";
    let mut rest = line;
    while let Some(found) = rest.windows(PREDICATE.len()).position(|window| window == PREDICATE) {
        rest = &rest[found + PREDICATE.len()..];
        let bare = rest.trim_ascii_start();
        let bare = bare.strip_prefix(b"\"").or(bare.strip_prefix(b"'")).unwrap_or(bare);
        let length = bare.iter().position(|byte| !is_name(*byte)).unwrap_or(bare.len());
        if let Ok(name) = std::str::from_utf8(&bare[..length]) {
            if !name.is_empty() {
                names.insert(name.to_owned());
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A word that is being put together.
struct Open {
    start: usize,
    text: Vec<u8>,
    unset: Vec<Unset>,
    /// Nothing but a `[*]` that gave no word: leaves no empty word behind.
    vanishes: bool,
}

struct Splitter<'a> {
    line: &'a [u8],
    file: &'a Arc<str>,
    number: u32,
    position: usize,
    words: Vec<Word>,
    open: Option<Open>,
    /// Bytes that variables have put in.
    expanded: usize,
}

impl Splitter<'_> {
    fn run(&mut self, lookup: Lookup<'_>) -> Result<(), Box<Diagnostic>> {
        while let Some(&byte) = self.line.get(self.position) {
            match byte {
                byte if is_blank(byte) => {
                    self.close()?;
                    self.position += 1;
                }
                b'#' => break,
                b'\'' => self.single_quoted()?,
                b'"' => self.double_quoted(lookup)?,
                b'\\' => self.escape(false)?,
                0 => {
                    return Err(self.error(self.position, 1, "a NUL byte: this is not a text file"));
                }
                byte => {
                    self.word().text.push(byte);
                    self.position += 1;
                }
            }
        }
        self.close()
    }

    fn location(&self, position: usize) -> Location {
        Location { file: self.file.clone(), line: self.number, column: saturated(position + 1) }
    }

    fn error(&self, position: usize, length: usize, message: &str) -> Box<Diagnostic> {
        Box::new(Diagnostic::error("E100", &self.location(position), message).span(saturated(length)))
    }

    fn word(&mut self) -> &mut Open {
        let start = self.position;
        self.open.get_or_insert_with(|| Open { start, text: Vec::new(), unset: Vec::new(), vanishes: false })
    }

    fn close(&mut self) -> Result<(), Box<Diagnostic>> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        if open.text.is_empty() && open.vanishes {
            return Ok(());
        }
        if self.words.len() == WORDS_MAX {
            return Err(self.error(open.start, 1, "too many words on one line"));
        }
        let length = saturated(self.position - open.start);
        self.words.push(Word { text: open.text, at: self.location(open.start), length, unset: open.unset });
        Ok(())
    }

    fn single_quoted(&mut self) -> Result<(), Box<Diagnostic>> {
        let quote = self.position;
        self.word();
        self.position += 1;
        let rest = &self.line[self.position..];
        let Some(length) = rest.iter().position(|byte| *byte == b'\'') else {
            return Err(self.error(quote, 1, "this quote is never closed"));
        };
        if let Some(nul) = rest[..length].iter().position(|byte| *byte == 0) {
            return Err(self.error(self.position + nul, 1, "a NUL byte: this is not a text file"));
        }
        self.word().text.extend_from_slice(&rest[..length]);
        self.position += length + 1;
        Ok(())
    }

    fn double_quoted(&mut self, lookup: Lookup<'_>) -> Result<(), Box<Diagnostic>> {
        let quote = self.position;
        self.word();
        self.position += 1;
        loop {
            match self.line.get(self.position) {
                None => return Err(self.error(quote, 1, "this quote is never closed")),
                Some(b'"') => {
                    self.position += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape(true)?,
                Some(b'$') => self.variable(lookup)?,
                Some(0) => {
                    return Err(self.error(self.position, 1, "a NUL byte: this is not a text file"));
                }
                Some(&byte) => {
                    self.word().text.push(byte);
                    self.position += 1;
                }
            }
        }
    }

    fn escape(&mut self, in_quotes: bool) -> Result<(), Box<Diagnostic>> {
        self.word();
        let (byte, length) = match self.line.get(self.position + 1) {
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(b't') => (b'\t', 2),
            Some(&byte @ (b' ' | b'#' | b'\\' | b'\'' | b'"')) => (byte, 2),
            Some(b'$') if in_quotes => (b'$', 2),
            Some(b'x') => {
                let digits = self.line.get(self.position + 2..self.position + 4);
                let value = digits.and_then(|d| Some(hex_digit(d[0])? << 4 | hex_digit(d[1])?));
                match value {
                    Some(0) => {
                        return Err(self.error(self.position, 4, "a word can not contain a NUL byte"));
                    }
                    Some(value) => (value, 4),
                    None => {
                        return Err(self.error(self.position, 2, r"'\x' needs two hexadecimal digits"));
                    }
                }
            }
            // Any other pair stands for itself.
            _ => (b'\\', 1),
        };
        self.word().text.push(byte);
        self.position += length;
        Ok(())
    }

    /// `$NAME`, `${NAME}`, `${NAME-default}`, `${NAME[*]}`, at the `$`.
    fn variable(&mut self, lookup: Lookup<'_>) -> Result<(), Box<Diagnostic>> {
        let dollar = self.position;
        let brace = self.line.get(dollar + 1) == Some(&b'{');
        let name_start = dollar + 1 + usize::from(brace);
        let rest = self.line.get(name_start..).unwrap_or_default();
        let dot = usize::from(rest.first() == Some(&b'.'));
        let name_length = dot + rest[dot..].iter().position(|byte| !is_name(*byte)).unwrap_or(rest.len() - dot);
        let name = match std::str::from_utf8(&rest[..name_length]) {
            Ok(name) if !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() => name,
            _ => {
                return Err(self.error(
                    dollar,
                    1,
                    r"'$' must be followed by the name of a variable; write '\$' for a dollar sign",
                ));
            }
        };
        let mut end = name_start + name_length;
        let mut splits = false;
        let mut default: Option<&[u8]> = None;
        if brace {
            if self.line[end..].starts_with(b"[") {
                if !self.line[end..].starts_with(b"[*]") {
                    return Err(self.error(end, 1, "only '[*]' can follow the name of a variable"));
                }
                splits = true;
                end += 3;
            }
            let Some(length) = self.line[end..].iter().position(|byte| *byte == b'}') else {
                return Err(self.error(dollar, 2, "'${' is never closed with '}'"));
            };
            default = match &self.line[end..end + length] {
                [] => None,
                [b'-', value @ ..] => Some(value),
                _ => {
                    return Err(self.error(
                        end,
                        length,
                        "a variable in braces is '${NAME}', '${NAME-default}' or '${NAME[*]}'",
                    ));
                }
            };
            end += length + 1;
        }
        let value = lookup(name).map(String::into_bytes).or(default.map(<[u8]>::to_vec));
        if value.is_none() && dot == 1 && name != ".SECTION" {
            let message = format!("there is no pseudo variable '{name}'; there are .FILE, .LINE and .SECTION");
            return Err(self.error(dollar, end - dollar, &message));
        }
        if value.is_none() {
            let unset = Unset { name: name.to_owned(), column: saturated(dollar + 1) };
            self.word().unset.push(unset);
        }
        let value = value.unwrap_or_default();
        self.expanded += value.len();
        if self.expanded > LINE_MAX {
            return Err(self.error(dollar, 1, "the line grows too long with the values of its variables"));
        }
        if value.contains(&0) {
            return Err(self.error(dollar, end - dollar, "the value of this variable contains a NUL byte"));
        }
        if splits {
            self.insert_words(&value, end)?;
        } else {
            self.word().text.extend_from_slice(&value);
        }
        self.position = end;
        Ok(())
    }

    /// The value of a `[*]` variable: its first part joins what stands before, its last part what comes after.
    fn insert_words(&mut self, value: &[u8], end: usize) -> Result<(), Box<Diagnostic>> {
        let mut parts = value.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty());
        let Some(first) = parts.next() else {
            let word = self.word();
            // "${A[*]}" alone must leave nothing; an unset list is how one says "none", so it is not worth a warning.
            word.vanishes = true;
            word.unset.pop();
            return Ok(());
        };
        let start = self.word().start;
        self.word().text.extend_from_slice(first);
        for part in parts {
            self.position = end;
            self.close()?;
            self.open = Some(Open { start, text: part.to_vec(), unset: Vec::new(), vanishes: false });
        }
        Ok(())
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Columns and lengths are 32 bits; a line that does not fit is shown at its end.
pub(crate) fn saturated(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
