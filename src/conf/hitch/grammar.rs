//! Tokens to settings (Hitch's cfg_parser.y).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::diagnostic::{Diagnostic, Diagnostics, shown};
use super::super::keywords::nearest;
use super::Mark;
use super::lexer::{self, Kind, Token};
use super::options::{self, FRONTEND, GLOBAL, LINE, OPTIONS, Row, Scope, Setting, Takes, VERIFY, VERSIONS, Value};

/// All settings of a file, in its order.
pub(super) fn read(file: &Arc<str>, text: &[u8], diagnostics: &mut Diagnostics) -> Vec<Setting> {
    let before = diagnostics.errors();
    let found = lexer::tokens(file, text, diagnostics);
    let tokens = &found.tokens[..];
    if tokens.is_empty() {
        let at = super::Location { file: file.clone(), line: 1, column: 1 };
        let error = Diagnostic::error("H100", &at, "there is no setting in this file");
        diagnostics.push(error.help("was the file cut off, or all of it commented out?"));
    }
    let mut parser = Parser { text, rest: tokens, diagnostics };
    let mut settings = parser.settings(GLOBAL);
    while let [Token { mark, .. }, after @ ..] = parser.rest {
        parser.diagnostics.push(mark.error("H100", "'}' without '{'"));
        parser.rest = after;
        settings.extend(parser.settings(GLOBAL));
    }
    if diagnostics.errors() == before {
        found.tell_skipped(diagnostics);
    }
    settings
}

struct Parser<'a> {
    text: &'a [u8],
    rest: &'a [Token],
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Parser<'a> {
    /// Up to the end, or the brace that closes the block, which is left for the caller.
    fn settings(&mut self, scope: Scope) -> Vec<Setting> {
        let mut settings: Vec<Setting> = Vec::new();
        let mut seen: HashMap<&'static str, u32> = HashMap::new();
        while let [Token { kind, mark, word, bytes }, after @ ..] = self.rest {
            if *kind == Kind::Close {
                break;
            }
            self.rest = after;
            let Kind::Bare(name) = kind else {
                self.diagnostics.push(mark.error("H100", "expected the name of an option"));
                self.skip();
                continue;
            };
            let [Token { kind: Kind::Equals, .. }, after @ ..] = self.rest else {
                let written = self.written(bytes);
                self.diagnostics.push(word.error("H100", format!("expected '=' behind '{written}'")));
                self.skip();
                continue;
            };
            self.rest = after;
            let Some(row) = self.row(name, mark, scope) else {
                self.skip_value();
                continue;
            };
            let Some((value, place)) = self.value(row, mark) else {
                self.skip();
                continue;
            };
            let first = seen.insert(row.name, mark.at.line);
            // How versions of TLS go together is for later.
            let counts =
                !matches!(row.takes, Takes::TextOrBlock(_) | Takes::Versions) && !matches!(row.name, "tls" | "ssl");
            if let Some(first) = first.filter(|_| counts) {
                let message = format!("'{name}' is given twice (first at line {first}); the last one counts");
                self.diagnostics.push(mark.warning("W113", message));
            }
            settings.push(Setting { row, value, key: mark.clone(), mark: place });
        }
        settings
    }

    /// The option, if it may stand here.
    fn row(&mut self, name: &str, mark: &Mark, scope: Scope) -> Option<&'static Row> {
        let Some(row) = options::find(name) else {
            let error = mark.error("H101", format!("unknown option '{}'", shown(name.as_bytes())));
            let names = OPTIONS.iter().filter(|row| row.scope & scope != 0).map(|row| row.name);
            self.diagnostics.push(match nearest(name, names) {
                Some(near) => error.label(format!("did you mean '{near}'?")),
                None => error,
            });
            return None;
        };
        if row.scope & scope != 0 {
            return Some(row);
        }
        let message = if row.scope == LINE {
            format!("'{name}' exists only on the command line (--{name}=…)")
        } else {
            let place = match (scope, row.scope & GLOBAL, row.scope & FRONTEND) {
                (GLOBAL, _, 0) => "in a 'pem-file' block",
                (GLOBAL, ..) => "in a 'frontend' block",
                (_, 0, _) => "in another block",
                _ => "at the top level",
            };
            format!("'{name}' can not stand here, only {place}")
        };
        self.diagnostics.push(mark.error("H102", message));
        None
    }

    /// The value and its place; an error has been reported if there is none.
    fn value(&mut self, row: &'static Row, key: &Mark) -> Option<(Value, Mark)> {
        let name = row.name;
        let [Token { kind, mark, word, bytes }, after @ ..] = self.rest else {
            self.diagnostics.push(key.error("H100", format!("'{name}' has no value")));
            return None;
        };
        let value = match (row.takes, kind) {
            (Takes::Versions, Kind::Bare(_)) => return self.versions(mark),
            // More of the same word: all of it was meant.
            (_, Kind::Bare(_)) if after.first().is_some_and(|next| next.bytes == *bytes) => None,
            (Takes::TextOrBlock(scope), Kind::Open) => {
                self.rest = after;
                let settings = self.settings(scope);
                match self.rest {
                    [Token { kind: Kind::Close, .. }, after @ ..] => self.rest = after,
                    _ => self.diagnostics.push(mark.error("H100", "'{' without '}'")),
                }
                return Some((Value::Block(settings), mark.clone()));
            }
            (Takes::Text | Takes::TextOrBlock(_), Kind::Quoted(text)) => Some(Value::Text(text.clone())),
            (Takes::Text | Takes::TextOrBlock(_), Kind::Bare(text)) => {
                is_bare_string(text).then(|| Value::Text(text.clone()))
            }
            (Takes::Verify, Kind::Bare(text)) if VERIFY.contains(&text.as_str()) => Some(Value::Text(text.clone())),
            (Takes::Switch, Kind::Bare(text) | Kind::Quoted(text)) => options::switch(text).map(Value::Switch),
            (Takes::NumberOrAuto, Kind::Bare(text)) if text == "auto" => Some(Value::Auto),
            (Takes::Number | Takes::Integer | Takes::NumberOrAuto, Kind::Bare(text)) => number(row.takes, text),
            _ => None,
        };
        let Some(value) = value else {
            let written = match kind {
                Kind::Bare(_) => self.written(bytes),
                Kind::Quoted(text) => shown(text.as_bytes()),
                Kind::Equals | Kind::Open | Kind::Close => "…".to_owned(),
            };
            self.diagnostics.push(word.error("H101", expected(row, &written)));
            return None;
        };
        self.rest = after;
        Some((value, mark.clone()))
    }

    /// Versions of TLS, up to a word that is none.
    fn versions(&mut self, first: &'a Mark) -> Option<(Value, Mark)> {
        let mut versions = Vec::new();
        let mut place = first.clone();
        while let [Token { kind: Kind::Bare(version), mark, word, bytes }, after @ ..] = self.rest {
            if matches!(after, [Token { kind: Kind::Equals, .. }, ..]) {
                break;
            }
            if !VERSIONS.contains(&version.as_str()) {
                let written = self.written(bytes);
                let message = format!("'{written}' is not a version; there are: {}", VERSIONS.join(" "));
                self.diagnostics.push(word.error("H101", message));
                return None;
            }
            if mark.at.line == first.at.line {
                place.length = (mark.at.column + mark.length).saturating_sub(first.at.column);
            }
            versions.push(version.clone());
            self.rest = after;
        }
        if versions.is_empty() {
            self.diagnostics.push(first.error("H100", "a version of TLS is missing"));
            return None;
        }
        Some((Value::Versions(versions), place))
    }

    /// Bytes of the file, for a message.
    fn written(&self, bytes: &Range<usize>) -> String {
        shown(self.text.get(bytes.clone()).unwrap_or_default())
    }

    /// Goes on to the next setting after an error.
    fn skip(&mut self) {
        while let [token, after @ ..] = self.rest {
            let is_key = matches!(token.kind, Kind::Bare(_));
            if token.kind == Kind::Close || is_key && matches!(after, [Token { kind: Kind::Equals, .. }, ..]) {
                return;
            }
            self.rest = after;
        }
    }

    /// Passes the value of an option that is not known, with all of its block.
    fn skip_value(&mut self) {
        let [Token { kind: Kind::Open, .. }, ..] = self.rest else {
            return self.skip();
        };
        let mut depth = 0_usize;
        while let [token, after @ ..] = self.rest {
            self.rest = after;
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}

/// What Hitch takes for a string without quotes.
fn is_bare_string(text: &str) -> bool {
    let bytes = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    bytes && !digits && options::switch(text).is_none() && options::find(text).is_none()
}

/// A number of decimal digits, with a minus where one may be negative.
pub(super) fn number(takes: Takes, text: &str) -> Option<Value> {
    let digits = if takes == Takes::Integer { text.strip_prefix('-').unwrap_or(text) } else { text };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).map(Value::Number)
}

/// What an option takes, for a message.
pub(super) fn expected(row: &Row, written: &str) -> String {
    let name = row.name;
    match row.takes {
        Takes::Text => format!("'{name}' takes a quoted string in hitch.conf: {name} = \"{written}\""),
        Takes::TextOrBlock(_) => format!("'{name}' takes a quoted string or a block: {name} = \"{written}\""),
        Takes::Number => format!("'{name}' takes a number without quotes, not '{written}'"),
        Takes::Integer => format!("'{name}' takes a number without quotes (-1: that of the system), not '{written}'"),
        Takes::NumberOrAuto => format!("'{name}' takes a number without quotes, or auto, not '{written}'"),
        Takes::Switch => format!("'{name}' takes on or off, not '{written}'"),
        Takes::Versions => format!("'{name}' takes versions without quotes: {name} = TLSv1.2 TLSv1.3"),
        Takes::Verify => format!("'{name}' takes none, optional or required, not '{written}'"),
    }
}
