//! Formats and sample expressions (HAProxy manual, 7 and 8.2.6): text to [`super::expr`].

use super::diagnostic::shown;
use super::expr::{Converter, Expr, Fetch, Format, Part};
use super::keywords::nearest;
use super::words::{self, Kind};

/// Fetches that exist, with their names.
const FETCHES: &[(&str, Fetch)] = &[
    ("ssl_c_der", Fetch::SslCDer),
    ("ssl_c_s_dn", Fetch::SslCSDn),
    ("ssl_c_i_dn", Fetch::SslCIDn),
    ("ssl_c_serial", Fetch::SslCSerial),
    ("ssl_c_sha1", Fetch::SslCSha1),
    ("ssl_c_notbefore", Fetch::SslCNotBefore),
    ("ssl_c_notafter", Fetch::SslCNotAfter),
    ("ssl_fc_sni", Fetch::SslFcSni),
    ("ssl_fc_alpn", Fetch::SslFcAlpn),
    ("ssl_fc_protocol", Fetch::SslFcProtocol),
    ("ssl_fc_cipher", Fetch::SslFcCipher),
];

/// Converters that exist; `sha2` takes its argument apart.
const CONVERTERS: &[(&str, Converter)] = &[
    ("sha1", Converter::Sha1),
    ("sha2", Converter::Sha2(256)),
    ("hex", Converter::Hex),
    ("lower", Converter::Lower),
    ("upper", Converter::Upper),
    ("base64", Converter::Base64),
];

/// Aliases that describe HTTP messages (HAProxy manual, 8.2.6).
const HTTP_ALIASES: &[&str] = &[
    "CC", "CS", "HM", "HP", "HPO", "HQ", "HU", "HV", "Ta", "Tq", "TR", "Tr", "Ti", "hr", "hrl", "hs", "hsl", "r", "tr",
    "trg", "trl",
];

/// Aliases of HAProxy that do not need HTTP.
const OTHER_ALIASES: &[&str] = &[
    "B", "E", "H", "ID", "OG", "ST", "T", "Tc", "Td", "Th", "Tl", "Ts", "Tt", "Tu", "Tw", "U", "ac", "b", "bc", "bi",
    "bp", "bq", "ci", "cp", "f", "fc", "fi", "fp", "ft", "lc", "ms", "pid", "rc", "rt", "s", "sc", "si", "sp", "sq",
    "sslc", "sslv", "t", "ts",
];

/// What is wrong with a format, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FormatError {
    /// Code of the diagnostic.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// Offset of the place in the format.
    pub(crate) offset: usize,
    /// What to do.
    pub(crate) help: Option<String>,
}

fn error(code: &'static str, offset: usize, message: impl Into<String>) -> FormatError {
    FormatError { code, message: message.into(), offset, help: None }
}

impl FormatError {
    fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

/// A format: literal text, `%%`, `%[fetch,converter]`, `%{+bin}o` for all that follows, `%{+bin}[…]` for one.
pub(crate) fn parse(text: &[u8]) -> Result<Format, FormatError> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut binary_from_here = false;
    let mut position = 0;
    while let Some(&byte) = text.get(position) {
        if byte != b'%' {
            literal.push(byte);
            position += 1;
            continue;
        }
        let percent = position;
        position += 1;
        if text.get(position) == Some(&b'%') {
            literal.push(b'%');
            position += 1;
            continue;
        }
        let mut binary = binary_from_here;
        if text.get(position) == Some(&b'{') {
            let end =
                closing(text, position, b'}').ok_or_else(|| error("E100", percent, "'%{' is never closed with '}'"))?;
            binary = flags(&text[position + 1..end], position + 1, binary)?;
            position = end + 1;
        }
        if text.get(position) == Some(&b'[') {
            let end =
                closing(text, position, b']').ok_or_else(|| error("E100", percent, "'%[' is never closed with ']'"))?;
            let expr = expression(&text[position + 1..end]).map_err(|mut found| {
                found.offset += position + 1;
                found
            })?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Sample { expr, binary });
            position = end + 1;
        } else if text.get(position) == Some(&b'o') && !text.get(position + 1).is_some_and(u8::is_ascii_alphanumeric) {
            binary_from_here = binary;
            position += 1;
        } else {
            return Err(alias(&text[position..], percent));
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(Format { parts })
}

/// The end of something that starts at `open`: the first `mark` that is not inside quotes.
fn closing(text: &[u8], open: usize, mark: u8) -> Option<usize> {
    let mut quote = None;
    for (offset, &byte) in text[open + 1..].iter().enumerate() {
        match quote {
            Some(inside) if byte == inside => quote = None,
            Some(_) => {}
            None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
            None if byte == mark => return Some(open + 1 + offset),
            None => {}
        }
    }
    None
}

/// `+bin,-bin`; answers whether values are binary after them.
fn flags(text: &[u8], offset: usize, mut binary: bool) -> Result<bool, FormatError> {
    let mut start = offset;
    for flag in text.split(|byte| *byte == b',') {
        match flag {
            b"+bin" => binary = true,
            b"-bin" => binary = false,
            [b'+' | b'-', b'Q' | b'X' | b'E'] | b"+json" | b"-json" | b"+cbor" | b"-cbor" => {
                let message = format!("flag '{}' is valid HAProxy but not implemented yet", shown(flag));
                return Err(error("E120", start, message).help("until then: '+bin' is the only flag"));
            }
            _ => {
                return Err(error("E101", start, format!("unknown flag '{}'; write '+bin' or '-bin'", shown(flag))));
            }
        }
        start += flag.len() + 1;
    }
    Ok(binary)
}

/// `%ci` and the like are not values of a TLV yet.
fn alias(text: &[u8], percent: usize) -> FormatError {
    let length = text.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(text.len());
    let name = String::from_utf8_lossy(&text[..length]).into_owned();
    let shown = shown(name.as_bytes());
    if HTTP_ALIASES.contains(&name.as_str()) {
        return error("E410", percent, format!("'%{shown}' describes an HTTP message; this program relays bytes"));
    }
    if OTHER_ALIASES.contains(&name.as_str()) {
        return error("E120", percent, format!("'%{shown}' is valid HAProxy but not implemented yet"))
            .help("until then: use a sample expression, '%[ssl_fc_sni]'");
    }
    if name.is_empty() {
        return error("E100", percent, "'%' must be followed by '[', '{' or '%'; write '%%' for a percent sign");
    }
    error("E101", percent, format!("unknown format '%{shown}'"))
        .help("sample expressions are written '%[…]', a percent sign '%%'")
}

/// `fetch(args),converter(args),…`.
pub(crate) fn expression(text: &[u8]) -> Result<Expr, FormatError> {
    let mut items = items(text)?.into_iter();
    let Some(first) = items.next().filter(|item| !item.name.is_empty()) else {
        return Err(error("E102", 0, "a sample expression starts with a fetch, such as 'ssl_c_s_dn'"));
    };
    let fetch = fetch(&first)?;
    let converters = items.map(|item| converter(&item)).collect::<Result<_, _>>()?;
    Ok(Expr { fetch, converters })
}

/// `name` or `name(arguments)`, and where it stands.
struct Item {
    name: String,
    arguments: Option<Vec<u8>>,
    offset: usize,
}

/// Splits at the commas that stand outside parentheses and quotes.
fn items(text: &[u8]) -> Result<Vec<Item>, FormatError> {
    let mut items = Vec::new();
    let mut position = 0;
    loop {
        let offset = position;
        let rest = &text[position..];
        let length = rest.iter().position(|byte| matches!(byte, b',' | b'(')).unwrap_or(rest.len());
        let name = shown(&rest[..length]);
        position += length;
        let mut arguments = None;
        if text.get(position) == Some(&b'(') {
            let end = closing(text, position, b')')
                .ok_or_else(|| error("E100", position, "this parenthesis is never closed"))?;
            arguments = Some(text[position + 1..end].to_vec());
            position = end + 1;
        }
        items.push(Item { name, arguments, offset });
        match text.get(position) {
            None => return Ok(items),
            Some(b',') => position += 1,
            Some(_) => {
                let message =
                    format!("'{}' can not stand here; items are separated by commas", shown(&text[position..]));
                return Err(error("E100", position, message));
            }
        }
    }
}

fn fetch(item: &Item) -> Result<Fetch, FormatError> {
    let Some((name, fetch)) = FETCHES.iter().find(|(name, _)| *name == item.name) else {
        return Err(unknown(item, "fetch", FETCHES.iter().map(|(name, _)| *name), Kind::Fetch));
    };
    match item.arguments.as_deref() {
        None | Some(b"") => Ok(fetch.clone()),
        Some(_) if matches!(fetch, Fetch::SslCSDn | Fetch::SslCIDn) => {
            Err(error("E120", item.offset, format!("arguments of '{name}' are valid HAProxy but not implemented yet"))
                .help(format!("until then: '{name}' without arguments gives the whole name, '/O=Example/CN=alice'")))
        }
        Some(_) => Err(error("E102", item.offset, format!("'{name}' takes no argument"))),
    }
}

fn converter(item: &Item) -> Result<Converter, FormatError> {
    let Some((name, converter)) = CONVERTERS.iter().find(|(name, _)| *name == item.name) else {
        return Err(unknown(item, "converter", CONVERTERS.iter().map(|(name, _)| *name), Kind::Converter));
    };
    match (converter, item.arguments.as_deref()) {
        (_, None | Some(b"")) => Ok(*converter),
        (Converter::Sha2(_), Some(bits)) => match bits {
            b"224" => Ok(Converter::Sha2(224)),
            b"256" => Ok(Converter::Sha2(256)),
            b"384" => Ok(Converter::Sha2(384)),
            b"512" => Ok(Converter::Sha2(512)),
            _ => Err(error(
                "E103",
                item.offset,
                format!("'{}' is not a size for 'sha2'; expected 224, 256, 384 or 512", shown(bits)),
            )),
        },
        (_, Some(_)) => Err(error("E102", item.offset, format!("'{name}' takes no argument"))),
    }
}

fn unknown(item: &Item, what: &str, known: impl Iterator<Item = &'static str> + Clone, kind: Kind) -> FormatError {
    let Item { name, offset, .. } = item;
    if words::knows(kind, name) {
        let list = known.collect::<Vec<_>>().join(" ");
        return error("E120", *offset, format!("{what} '{name}' is valid HAProxy but not implemented yet"))
            .help(format!("until then there are: {list}"));
    }
    let error = error("E101", *offset, format!("unknown {what} '{name}'"));
    match nearest(name, known.chain(words::all(kind))) {
        Some(near) => error.help(format!("did you mean '{near}'?")),
        None => error,
    }
}
