//! Values of words: numbers, times, text, paths. Each reports what is wrong with a word and then answers `None`.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::Diagnostics;
use super::token::Word;

/// The longest time that HAProxy can say: 2^31 - 1 ms, 24.8 days.
const MILLISECONDS_MAX: u64 = (1 << 31) - 1;
/// A time without unit below this is probably meant in seconds.
const SUSPICIOUS_MILLISECONDS: u64 = 100;

/// A decimal number in a range. Stricter than HAProxy, which ignores what follows the digits.
pub(crate) fn number(word: &Word, range: RangeInclusive<u32>, diagnostics: &mut Diagnostics) -> Option<u32> {
    let digits = !word.text.is_empty() && word.text.iter().all(u8::is_ascii_digit);
    let value =
        if digits { std::str::from_utf8(&word.text).ok().and_then(|text| text.parse::<u32>().ok()) } else { None };
    match value {
        Some(value) if range.contains(&value) => Some(value),
        _ => {
            let what = if digits { "is out of range" } else { "is not a number" };
            let message = format!("{} {what}; expected {} to {}", word.quoted(), range.start(), range.end());
            diagnostics.push(word.error("E103", message));
            None
        }
    }
}

/// A size in bytes (HAProxy manual, 2.6): a whole number, with `k`, `m` or `g` in either case for powers of 1024.
pub(crate) fn size(word: &Word, range: RangeInclusive<u32>, diagnostics: &mut Diagnostics) -> Option<u32> {
    let (digits, shift) = match word.text.split_last() {
        Some((b'k' | b'K', digits)) => (digits, 10),
        Some((b'm' | b'M', digits)) => (digits, 20),
        Some((b'g' | b'G', digits)) => (digits, 30),
        _ => (&word.text[..], 0),
    };
    let number = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let bytes = number.and_then(|text| text.parse::<u64>().ok()).and_then(|number| number.checked_mul(1 << shift));
    let value = bytes.and_then(|bytes| u32::try_from(bytes).ok()).filter(|bytes| range.contains(bytes));
    if value.is_none() {
        let what = if number.is_some_and(|text| !text.is_empty()) { "is out of range" } else { "is not a size" };
        let message = format!("{} {what}; expected {} to {} bytes", word.quoted(), range.start(), range.end());
        diagnostics.push(word.error("E103", message).help("units are k, m and g, powers of 1024"));
    }
    value
}

/// What a time without unit means, and the finest time that can be told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds; small numbers draw a warning.
    Milliseconds,
    /// Seconds.
    Seconds,
}

/// A time (HAProxy manual, 2.5). `name` is the keyword, for messages.
pub(crate) fn duration(name: &str, word: &Word, unit: Unit, diagnostics: &mut Diagnostics) -> Option<Duration> {
    match parse_duration(&word.text, unit) {
        Ok(Time { microseconds, has_unit }) => {
            let milliseconds = microseconds / 1000;
            if unit == Unit::Milliseconds && !has_unit && (1..SUSPICIOUS_MILLISECONDS).contains(&milliseconds) {
                let shown = word.quoted();
                let number = shown.trim_matches('\'');
                let message = format!("'{name} {number}' is {number} milliseconds; write '{number}s' or '{number}ms'");
                diagnostics.push(word.warning("W101", message));
            }
            Some(Duration::from_micros(microseconds))
        }
        Err(reason) => {
            diagnostics.push(word.error("E103", format!("{} {reason}", word.quoted())));
            None
        }
    }
}

struct Time {
    microseconds: u64,
    has_unit: bool,
}

fn parse_duration(text: &[u8], unit: Unit) -> Result<Time, String> {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    if number.is_empty() {
        return Err("is not a time; write '30s'".into());
    }
    let too_long = || "is too long a time; at most 2147483647ms (24 days)".to_owned();
    let value: u64 = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).ok_or_else(too_long)?;
    let scale = match suffix {
        b"" if unit == Unit::Seconds => 1_000_000,
        b"" | b"ms" => 1000,
        b"us" => 1,
        b"s" => 1_000_000,
        b"m" => 60_000_000,
        b"h" => 3_600_000_000,
        b"d" => 86_400_000_000,
        _ if suffix[0] == b'.' => {
            return Err(format!("is not a time (whole numbers only){}", whole(value, suffix)));
        }
        _ => return Err(format!("is not a time{}", corrected(value, suffix))),
    };
    let microseconds = value.checked_mul(scale).ok_or_else(too_long)?;
    if microseconds > MILLISECONDS_MAX * 1000 {
        return Err(too_long());
    }
    let resolution = if unit == Unit::Seconds { 1_000_000 } else { 1000 };
    if microseconds > 0 && microseconds < resolution {
        let smallest = if unit == Unit::Seconds { "1s" } else { "1ms" };
        return Err(format!("is too short a time; the shortest is '{smallest}'"));
    }
    Ok(Time { microseconds, has_unit: !suffix.is_empty() })
}

/// `; write '30s'` for units that people spell out.
fn corrected(value: u64, suffix: &[u8]) -> String {
    let unit = match suffix.to_ascii_lowercase().as_slice() {
        b"sec" | b"secs" | b"second" | b"seconds" | b"s" => "s",
        b"min" | b"mins" | b"minute" | b"minutes" | b"m" => "m",
        b"hour" | b"hours" | b"hr" | b"h" => "h",
        b"day" | b"days" | b"d" => "d",
        b"msec" | b"millis" | b"milliseconds" | b"ms" => "ms",
        b"usec" | b"us" => "us",
        _ => return "; units are us, ms, s, m, h, d".into(),
    };
    format!("; write '{value}{unit}'")
}

/// `; write '1500ms'` for `1.5s`.
fn whole(value: u64, suffix: &[u8]) -> String {
    let rest = &suffix[1..];
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let (fraction, unit) = rest.split_at(digits);
    let (scale, smaller) = match unit {
        b"s" => (1000, "ms"),
        b"m" => (60_000, "ms"),
        b"h" => (3600, "s"),
        b"d" => (86_400, "s"),
        _ => return String::new(),
    };
    if fraction.is_empty() || fraction.len() > 6 {
        return String::new();
    }
    let divisor = 10_u64.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let fraction: u64 = std::str::from_utf8(fraction).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    match value.checked_mul(scale) {
        Some(whole) if fraction * scale % divisor == 0 => {
            format!("; write '{}{smaller}'", whole + fraction * scale / divisor)
        }
        _ => String::new(),
    }
}

/// Text: UTF-8 without control characters.
pub(crate) fn text(word: &Word, diagnostics: &mut Diagnostics) -> Option<String> {
    match std::str::from_utf8(&word.text) {
        Ok(text) if !text.chars().any(char::is_control) => Some(text.to_owned()),
        _ => {
            diagnostics.push(word.error("E103", format!("{} is not printable UTF-8 text", word.quoted())));
            None
        }
    }
}

/// The name of a section or a server: letters, digits, `-`, `_`, `.`, `:`.
pub(crate) fn name(word: &Word, what: &str, diagnostics: &mut Diagnostics) -> Option<String> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    match word.text.iter().find(|byte| !allowed(byte)) {
        None => String::from_utf8(word.text.clone()).ok(),
        Some(byte) => {
            let message = format!(
                "{} can not be the name of a {what}: '{}' is not allowed in it",
                word.quoted(),
                byte.escape_ascii()
            );
            diagnostics
                .push(word.error("E103", message).help("names are made of letters, digits, '-', '_', '.' and ':'"));
            None
        }
    }
}

/// A path, any bytes.
pub(crate) fn path(word: &Word) -> PathBuf {
    PathBuf::from(OsString::from_vec(word.text.clone()))
}
