//! hitch.conf to tokens (Hitch's cfg_lex.l).

use std::ops::Range;
use std::sync::Arc;

use super::super::diagnostic::{Diagnostics, shown};
use super::super::model::Location;
use super::super::token::saturated;
use super::Mark;
use super::options::VERSIONS;

/// Tokens of one file.
const TOKENS_MAX: usize = 1_000_000;
/// Lines with something to pass over that are told.
const SKIPPED_MAX: usize = 20;

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without quotes: a key, a number, a switch, a name, a version of TLS.
    Bare(String),
    /// In double quotes.
    Quoted(String),
    Equals,
    Open,
    Close,
}

/// A token and its place.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) mark: Mark,
    /// The place with all that stands there without a blank, for messages.
    pub(super) word: Mark,
    /// The same as bytes of the file.
    pub(super) bytes: Range<usize>,
}

/// What a file consists of.
pub(super) struct Tokens {
    pub(super) tokens: Vec<Token>,
    /// The first characters on a line that no rule of Hitch's language knows.
    skipped: Vec<(Mark, String)>,
}

impl Tokens {
    /// Warns of what was passed over.
    pub(super) fn tell_skipped(&self, diagnostics: &mut Diagnostics) {
        for (mark, text) in &self.skipped {
            let warning = mark.warning("W115", format!("Hitch passes over '{text}', and so does this program"));
            diagnostics.push(warning.help("remove it; a value with such characters stands in double quotes"));
        }
    }
}

/// The tokens of a file. As in Hitch a character that belongs to no token parts words and means nothing; what is not a blank, a
/// comma or a semicolon is remembered to be told.
pub(super) fn tokens(file: &Arc<str>, text: &[u8], diagnostics: &mut Diagnostics) -> Tokens {
    let mut found = Tokens { tokens: Vec::new(), skipped: Vec::new() };
    let mut line_start = 0;
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let mark = |start: usize, end: usize| Mark {
            at: Location { file: file.clone(), line: saturated(number + 1), column: saturated(start + 1) },
            length: saturated(end - start),
        };
        // What stands around a word without a blank.
        let mut around = 0..0;
        let mut position = 0;
        while position < line.len() {
            let start = position;
            position += token_length(&line[start..]);
            let bytes = &line[start..position];
            if start >= around.end {
                let length = line[start..].iter().position(|byte| parts(*byte)).unwrap_or(line.len() - start);
                around = start..(start + length).max(position);
            }
            let kind = match bytes {
                [b'#', ..] => break,
                [byte] if is_blank(*byte) => continue,
                b"=" => Kind::Equals,
                b"{" => Kind::Open,
                b"}" => Kind::Close,
                [b'"', inside @ ..] => match quoted(inside) {
                    Ok(text) => Kind::Quoted(text),
                    Err(reason) => {
                        diagnostics.push(mark(start, position).error("H100", reason));
                        Kind::Quoted(String::new())
                    }
                },
                [byte, ..] if is_word(*byte) => Kind::Bare(String::from_utf8_lossy(bytes).into_owned()),
                other => {
                    let told = found.skipped.last().is_some_and(|(last, _)| last.at.line == saturated(number + 1));
                    if !told && found.skipped.len() < SKIPPED_MAX {
                        found.skipped.push((mark(start, position), shown(other)));
                    }
                    continue;
                }
            };
            if found.tokens.len() == TOKENS_MAX || diagnostics.is_full(file) {
                diagnostics.truncated(&mark(start, position).at);
                return found;
            }
            let (word, bytes) = match kind {
                Kind::Bare(_) => (mark(around.start, around.end), line_start + around.start..line_start + around.end),
                _ => (mark(start, position), line_start + start..line_start + position),
            };
            found.tokens.push(Token { kind, mark: mark(start, position), word, bytes });
        }
        line_start += line.len() + 1;
    }
    found
}

/// The value of what stands behind the first quote.
fn quoted(inside: &[u8]) -> Result<String, &'static str> {
    let Some((b'"', text)) = inside.split_last() else {
        return Err("the quote is not closed on this line");
    };
    // Hitch would read on behind an escaped quote, and leave out all of it.
    if text.contains(&b'"') {
        return Err("there is no escape in hitch.conf: a value can not have a double quote in it");
    }
    match std::str::from_utf8(text) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err("not UTF-8, or a control character, between the quotes"),
    }
}

/// Bytes of the token, or of what is no token, at the start of a line that is not empty.
fn token_length(rest: &[u8]) -> usize {
    let first = rest[0];
    if first == b'"' {
        let mut escaped = false;
        let closes = |byte: &u8| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        };
        return rest[1..].iter().position(closes).map_or(rest.len(), |end| end + 2);
    }
    if parts(first) {
        return 1;
    }
    // The versions with a dot are the only words with anything but letters, digits and dashes.
    let dotted = |version: &&&str| version.contains('.') && rest.starts_with(version.as_bytes());
    if let Some(version) = VERSIONS.iter().find(dotted) {
        return version.len();
    }
    rest.iter().position(|byte| parts(*byte) || is_word(*byte) != is_word(first)).unwrap_or(rest.len())
}

/// Words end here, whatever else they consist of.
fn parts(byte: u8) -> bool {
    is_blank(byte) || is_mark(byte) || byte == b'"'
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c | b',' | b';')
}

fn is_mark(byte: u8) -> bool {
    matches!(byte, b'=' | b'{' | b'}' | b'#')
}
