//! Conditions of `.if` and `.elif` (HAProxy manual, 2.4).

use super::diagnostic::shown;
use super::environment::Environment;

/// The version of HAProxy whose language this is.
pub(crate) const REFERENCE_BRANCH: &str = "3.4";
const REFERENCE_VERSION: Version = Version { numbers: [3, 4, 0], development: None };
/// Parentheses and negations that may be nested.
const DEPTH_MAX: u32 = 64;

/// Why a condition can not be evaluated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConditionError {
    /// Code of the diagnostic.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// Offset in the expression.
    pub(crate) offset: usize,
}

/// Evaluates a condition: predicates, integers, `!`, `&&`, `||`, parentheses. An empty one is false.
pub(crate) fn evaluate(text: &[u8], environment: &Environment) -> Result<bool, ConditionError> {
    let mut reader = Reader { text, position: 0, environment };
    reader.blanks();
    if reader.position == text.len() {
        return Ok(false);
    }
    let value = reader.alternatives(0)?;
    if reader.position < text.len() {
        return Err(reader.unexpected());
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a [u8],
    position: usize,
    environment: &'a Environment,
}

impl Reader<'_> {
    fn rest(&self) -> &[u8] {
        &self.text[self.position..]
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.position += rest.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(rest.len());
    }

    fn takes(&mut self, token: &[u8]) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.position += token.len();
            self.blanks();
        }
        found
    }

    fn error(&self, offset: usize, code: &'static str, message: impl Into<String>) -> ConditionError {
        ConditionError { code, message: message.into(), offset }
    }

    fn unexpected(&self) -> ConditionError {
        let rest = self.rest();
        if rest.is_empty() {
            return self.error(self.position, "E100", "the condition ends too early");
        }
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        self.error(self.position, "E100", format!("'{}' can not stand here in a condition", shown(&rest[..end])))
    }

    /// `a || b`; every part is evaluated, so that a mistake in any of them is found.
    fn alternatives(&mut self, depth: u32) -> Result<bool, ConditionError> {
        let mut value = self.conjunction(depth)?;
        while self.takes(b"||") {
            value |= self.conjunction(depth)?;
        }
        Ok(value)
    }

    fn conjunction(&mut self, depth: u32) -> Result<bool, ConditionError> {
        let mut value = self.term(depth)?;
        while self.takes(b"&&") {
            value &= self.term(depth)?;
        }
        Ok(value)
    }

    fn term(&mut self, depth: u32) -> Result<bool, ConditionError> {
        if depth > DEPTH_MAX {
            return Err(self.error(self.position, "E100", "the condition is nested too deeply"));
        }
        if self.takes(b"!") {
            return Ok(!self.term(depth + 1)?);
        }
        let open = self.position;
        if self.takes(b"(") {
            let value = self.alternatives(depth + 1)?;
            if !self.takes(b")") {
                return Err(self.error(open, "E100", "this parenthesis is never closed"));
            }
            return Ok(value);
        }
        let rest = self.rest();
        let length =
            rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_')).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.unexpected());
        }
        let name = String::from_utf8_lossy(&rest[..length]).into_owned();
        let start = self.position;
        self.position += length;
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            self.blanks();
            return Ok(name.bytes().any(|byte| byte != b'0'));
        }
        if self.rest().first() != Some(&b'(') {
            return Err(self.error(
                start,
                "E101",
                format!("unknown predicate '{}'; predicates are written 'name(…)'", shown(name.as_bytes())),
            ));
        }
        let arguments = self.arguments()?;
        self.blanks();
        self.predicate(&name, &arguments, start)
    }

    /// `(a,b)`: quotes group, blanks belong to the value (HAProxy manual, 2.2).
    fn arguments(&mut self) -> Result<Vec<Vec<u8>>, ConditionError> {
        let open = self.position;
        self.position += 1;
        let mut list = vec![Vec::new()];
        let mut quote: Option<u8> = None;
        while let Some(&byte) = self.text.get(self.position) {
            self.position += 1;
            match (byte, quote) {
                (byte, Some(mark)) if byte == mark => quote = None,
                (b'\\', None | Some(b'"')) => {
                    let next = self.text.get(self.position).copied();
                    match next {
                        Some(next @ (b' ' | b'\\' | b'\'' | b'"')) => {
                            self.position += 1;
                            push(&mut list, next);
                        }
                        _ => push(&mut list, b'\\'),
                    }
                }
                (byte, Some(_)) => push(&mut list, byte),
                (b'\'' | b'"', None) => quote = Some(byte),
                (b',', None) => list.push(Vec::new()),
                (b')', None) => return Ok(list),
                (byte, None) => push(&mut list, byte),
            }
        }
        Err(self.error(open, "E100", "this parenthesis is never closed"))
    }

    fn predicate(&self, name: &str, arguments: &[Vec<u8>], start: usize) -> Result<bool, ConditionError> {
        let wrong_count = |expected: &str| self.error(start, "E102", format!("'{name}' takes {expected}"));
        let one = || match arguments {
            [argument] if !argument.is_empty() => Ok(argument.as_slice()),
            _ => Err(wrong_count("one argument")),
        };
        let two = || match arguments {
            [left, right] => Ok((left.as_slice(), right.as_slice())),
            _ => Err(wrong_count("two arguments")),
        };
        let version = || {
            let text = one()?;
            Version::parse(text)
                .ok_or_else(|| self.error(start, "E103", format!("'{}' is not a version; write '3.4'", shown(text))))
        };
        match name {
            "defined" => {
                let variable = one()?;
                Ok(std::str::from_utf8(variable).is_ok_and(|variable| self.environment.value(variable).is_some()))
            }
            "feature" => Ok(match one()? {
                b"BOWLINE" => !self.environment.haproxys,
                feature => feature == b"OPENSSL",
            }),
            "streq" => two().map(|(left, right)| left == right),
            "strneq" => two().map(|(left, right)| left != right),
            "strstr" => two().map(|(text, part)| contains(text, part)),
            "version_atleast" => version().map(|version| REFERENCE_VERSION >= version),
            "version_before" => version().map(|version| REFERENCE_VERSION < version),
            "enabled" | "openssl_version_atleast" | "openssl_version_before" | "awslc_api_atleast" | "awslc_api_before"
            | "ssllib_name_startswith" | "fips_mode" => {
                Err(self.error(start, "E120", format!("predicate '{name}' is valid HAProxy but not implemented yet")))
            }
            _ => Err(self.error(
                start,
                "E101",
                format!(
                    "unknown predicate '{}'; there are defined, feature, streq, strneq, strstr, version_atleast, version_before",
                    shown(name.as_bytes())
                ),
            )),
        }
    }
}

fn push(list: &mut [Vec<u8>], byte: u8) {
    if let Some(last) = list.last_mut() {
        last.push(byte);
    }
}

/// `part` occurs in `text`. Both come from one line, whose length the caller has bounded.
fn contains(text: &[u8], part: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains(&*String::from_utf8_lossy(part))
}

/// `3.4.1-dev5`. A development version comes before the release that it leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    numbers: [u32; 3],
    development: Option<u32>,
}

impl Version {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let (release, development) = match text.split_once("-dev") {
            Some((release, "")) => (release, Some(0)),
            Some((release, number)) => (release, Some(number.parse().ok()?)),
            None => (text, None),
        };
        let mut numbers = [0; 3];
        let mut parts = release.split('.');
        for (index, number) in numbers.iter_mut().enumerate() {
            match parts.next() {
                Some(part) if part.bytes().all(|byte| byte.is_ascii_digit()) => *number = part.parse().ok()?,
                None if index > 0 => break,
                _ => return None,
            }
        }
        parts.next().is_none().then_some(Self { numbers, development })
    }

    fn rank(self) -> ([u32; 3], bool, u32) {
        (self.numbers, self.development.is_none(), self.development.unwrap_or(0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.rank().cmp(&other.rank()))
    }
}
