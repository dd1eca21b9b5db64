//! hitch.conf to tokens (Hitch's cfg_lex.l).

use std::sync::Arc;

use super::super::diagnostic::Diagnostics;
use super::super::model::Location;
use super::super::token::saturated;
use super::Mark;

/// Tokens of one file.
const TOKENS_MAX: usize = 1_000_000;

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without quotes: a key, a number, a switch, a name.
    Bare(String),
    /// In double quotes, which end at the next one: there is no escape.
    Quoted(String),
    Equals,
    Open,
    Close,
}

/// A token and its place, quotes included.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) mark: Mark,
}

/// The tokens of a file. Commas and semicolons part words and mean nothing, as in Hitch; other characters that Hitch skips are
/// kept in the words, so that nothing is swallowed.
pub(super) fn tokens(file: &Arc<str>, text: &[u8], diagnostics: &mut Diagnostics) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let mut position = 0;
        while position < line.len() {
            let length = token_length(&line[position..]);
            let mark = Mark {
                at: Location { file: file.clone(), line: saturated(number + 1), column: saturated(position + 1) },
                length: saturated(length),
            };
            let bytes = &line[position..position + length];
            position += length;
            let kind = match bytes {
                [b'#', ..] => break,
                [byte, ..] if is_blank(*byte) => continue,
                b"=" => Kind::Equals,
                b"{" => Kind::Open,
                b"}" => Kind::Close,
                [b'"', inside @ .., b'"'] => match readable(inside) {
                    Some(text) => Kind::Quoted(text),
                    None => {
                        diagnostics.push(mark.error("H100", "not UTF-8, or a control character, between the quotes"));
                        Kind::Quoted(String::new())
                    }
                },
                [b'"', ..] => {
                    diagnostics.push(mark.error("H100", "the quote is not closed on this line"));
                    Kind::Quoted(String::new())
                }
                bare => match readable(bare) {
                    Some(text) => Kind::Bare(text),
                    None => {
                        diagnostics.push(mark.error("H100", "not UTF-8, or a control character"));
                        continue;
                    }
                },
            };
            if tokens.len() == TOKENS_MAX || diagnostics.is_full(file) {
                diagnostics.truncated(&mark.at);
                return tokens;
            }
            tokens.push(Token { kind, mark });
        }
    }
    tokens
}

/// Bytes of the token at the start of a line that is not empty.
fn token_length(rest: &[u8]) -> usize {
    let first = rest[0];
    if first == b'"' {
        return rest[1..].iter().position(|byte| *byte == b'"').map_or(rest.len(), |end| end + 2);
    }
    if is_blank(first) || is_mark(first) {
        return 1;
    }
    rest.iter().position(|byte| is_blank(*byte) || is_mark(*byte) || *byte == b'"').unwrap_or(rest.len())
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c | b',' | b';')
}

fn is_mark(byte: u8) -> bool {
    matches!(byte, b'=' | b'{' | b'}' | b'#')
}

fn readable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}
