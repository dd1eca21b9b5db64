//! The PROXY header that a client side sends first on an `accept-proxy` listener (proxy-protocol.txt, versions 1 and 2).
//!
//! Strict: what the specification does not allow is refused, at the first byte that shows it. A client that starts with TLS
//! is refused at byte 1. Complete headers go through the `ppp` crate; what it lets pass (ports such as `+80`, a LOCAL
//! header it cannot place, families without a transport) is refused or dealt with before it sees them.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use ppp::{v1, v2};

pub use super::endpoint::Endpoint;

/// Longest line of version 1, CRLF included (proxy-protocol.txt, 2.1).
pub const V1_LIMIT: usize = 107;

/// Longest header of version 2, all 16 + n bytes. nginx draws the same line. It leaves room for the certificate that
/// another terminator in front may pass on (PP2_SUBTYPE_SSL_CLIENT_CERT, 1 to 2 kB), which 536 bytes (Postfix) would not,
/// and is all that one unauthenticated connection can make us keep.
pub const V2_LIMIT: usize = 4096;

/// Longest PP2_TYPE_AUTHORITY.
const AUTHORITY_LIMIT: usize = 255;
/// Longest PP2_TYPE_UNIQUE_ID (proxy-protocol.txt, 2.2.5).
const UNIQUE_ID_LIMIT: usize = 128;
/// Signature, version and command, family and transport, length.
const FIXED_LENGTH: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse {
    /// The beginning of a header. Call again with these bytes and more; at most [`V2_LIMIT`] are ever needed.
    NeedMore,
    /// A whole header.
    Complete {
        /// Its length: what comes behind it belongs to the client.
        consumed: usize,
        /// What it says.
        received: Received,
    },
    /// Not a header, whatever may follow.
    Invalid(Reason),
}

/// What a received header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The client. `None` (LOCAL, UNKNOWN, UNSPEC): the socket's peer.
    pub source: Option<Endpoint>,
    /// What the client connected to. `None`: the socket's own address.
    pub destination: Option<Endpoint>,
    /// PP2_TYPE_AUTHORITY, at most 255 bytes, not checked to be a name.
    pub authority: Option<Vec<u8>>,
    /// PP2_TYPE_UNIQUE_ID, at most 128 bytes.
    pub unique_id: Option<Vec<u8>>,
    /// The header itself, at most [`V2_LIMIT`] bytes. The parser leaves it empty: it is kept only where it is passed on.
    pub header: Vec<u8>,
}

/// Why bytes are not a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Neither signature.
    Signature,
    /// Version 1: not one of TCP4, TCP6, UNKNOWN.
    Protocol,
    /// Version 1: a character that cannot stand there, or an address or port that is none.
    Line,
    /// Longer than [`V1_LIMIT`] or [`V2_LIMIT`].
    TooLong,
    /// Version 2: a version other than 2, or a command other than LOCAL and PROXY.
    Command,
    /// Version 2: a family and transport that the specification does not name.
    Family,
    /// Version 2: too short for the addresses of its family.
    Addresses,
    /// Version 2: a TLV reaches beyond the header, or its length is not one that its type can have.
    Tlv,
    /// Version 2: a TLV that can stand there once stands there twice.
    Duplicate,
    /// Version 2: wrong checksum.
    Crc32c,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "no PROXY header",
            Self::Protocol => "PROXY v1: not TCP4, TCP6 or UNKNOWN",
            Self::Line => "PROXY v1: malformed line",
            Self::TooLong => "PROXY header too long",
            Self::Command => "PROXY v2: unknown version or command",
            Self::Family => "PROXY v2: unknown address family or transport",
            Self::Addresses => "PROXY v2: too short for its addresses",
            Self::Tlv => "PROXY v2: malformed TLV",
            Self::Duplicate => "PROXY v2: the same TLV twice",
            Self::Crc32c => "PROXY v2: wrong CRC32C",
        })
    }
}

/// Looks at the first bytes of a connection. What stands behind the header has no influence.
pub fn parse(bytes: &[u8]) -> Parse {
    let parsed = match bytes.first() {
        None => return Parse::NeedMore,
        Some(b'P') => parse_line(bytes),
        Some(b'\r') => parse_block(bytes),
        Some(_) => Err(Reason::Signature),
    };
    match parsed {
        Ok(None) => Parse::NeedMore,
        Ok(Some((consumed, received))) => Parse::Complete { consumed, received },
        Err(reason) => Parse::Invalid(reason),
    }
}

/// `None`: more bytes are needed.
type Parsed = Result<Option<(usize, Received)>, Reason>;

/// Matches as much of `expected` as there is. `Some`: the bytes behind it; `None`: it is not complete yet.
fn literal<'a>(bytes: &'a [u8], expected: &[u8], reason: Reason) -> Result<Option<&'a [u8]>, Reason> {
    match bytes.strip_prefix(expected) {
        Some(rest) => Ok(Some(rest)),
        None if expected.starts_with(bytes) => Ok(None),
        None => Err(reason),
    }
}

/// Version 1 (proxy-protocol.txt, 2.1).
fn parse_line(bytes: &[u8]) -> Parsed {
    let Some(rest) = literal(bytes, b"PROXY ", Reason::Signature)? else {
        return Ok(None);
    };
    let tcp = match rest.first() {
        None => return Ok(None),
        Some(b'T') => true,
        Some(b'U') => false,
        Some(_) => return Err(Reason::Protocol),
    };
    if tcp { parse_tcp(bytes, rest) } else { parse_unknown(bytes, rest) }
}

/// The line is valid as far as there is one; whatever it says up to its end is ignored.
fn parse_unknown(bytes: &[u8], rest: &[u8]) -> Parsed {
    let Some(rest) = literal(rest, b"UNKNOWN", Reason::Protocol)? else {
        return Ok(None);
    };
    if !matches!(rest.first(), None | Some(b' ' | b'\r')) {
        return Err(Reason::Protocol);
    }
    Ok(line_end(bytes)?.map(|end| (end, Received::default())))
}

fn parse_tcp(bytes: &[u8], rest: &[u8]) -> Parsed {
    let Some(rest) = literal(rest, b"TCP", Reason::Protocol)? else {
        return Ok(None);
    };
    let ipv4 = match rest.first() {
        None => return Ok(None),
        Some(b'4') => true,
        Some(b'6') => false,
        Some(_) => return Err(Reason::Protocol),
    };
    let Some(fields) = literal(&rest[1..], b" ", Reason::Protocol)? else {
        return Ok(None);
    };
    check_fields(fields, ipv4)?;
    let Some(end) = line_end(bytes)? else {
        return Ok(None);
    };
    let header = v1::Header::try_from(&bytes[..end]).map_err(|_| Reason::Line)?;
    let (source, destination): (SocketAddr, SocketAddr) = match header.addresses {
        v1::Addresses::Tcp4(ip) => {
            ((ip.source_address, ip.source_port).into(), (ip.destination_address, ip.destination_port).into())
        }
        v1::Addresses::Tcp6(ip) => {
            ((ip.source_address, ip.source_port).into(), (ip.destination_address, ip.destination_port).into())
        }
        v1::Addresses::Unknown => return Err(Reason::Line),
    };
    let received = Received {
        source: Some(Endpoint::Inet(source)),
        destination: Some(Endpoint::Inet(destination)),
        ..Received::default()
    };
    Ok(Some((end, received)))
}

/// Refuses characters that have no place in the field that they are in, before the line is complete.
fn check_fields(fields: &[u8], ipv4: bool) -> Result<(), Reason> {
    const LAST: usize = 3;
    let (mut field, mut length) = (0, 0);
    for byte in fields.iter().take(V1_LIMIT) {
        match byte {
            b'\r' if field == LAST && length > 0 => return Ok(()),
            b' ' if field < LAST && length > 0 => (field, length) = (field + 1, 0),
            b'0'..=b'9' => length += 1,
            b'.' if field < 2 => length += 1,
            b'a'..=b'f' | b'A'..=b'F' | b':' if field < 2 && !ipv4 => length += 1,
            _ => return Err(Reason::Line),
        }
        if field >= 2 && length > 5 {
            return Err(Reason::Line);
        }
    }
    Ok(())
}

/// Where the line ends, its CRLF included. `None`: it does not end yet.
fn line_end(bytes: &[u8]) -> Result<Option<usize>, Reason> {
    let line = &bytes[..bytes.len().min(V1_LIMIT)];
    match line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        // The limit is the CRLF's as well: a CR on its last byte is one too many.
        Some(at) if line[at] == b'\r' && at + 1 < V1_LIMIT => match line.get(at + 1) {
            Some(b'\n') => Ok(Some(at + 2)),
            Some(_) => Err(Reason::Line),
            None => Ok(None),
        },
        Some(at) if line[at] == b'\n' => Err(Reason::Line),
        Some(_) => Err(Reason::TooLong),
        None if line.len() == V1_LIMIT => Err(Reason::TooLong),
        None => Ok(None),
    }
}

/// Version 2 (proxy-protocol.txt, 2.2).
fn parse_block(bytes: &[u8]) -> Parsed {
    let Some(rest) = literal(bytes, v2::PROTOCOL_PREFIX, Reason::Signature)? else {
        return Ok(None);
    };
    let local = match rest.first() {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(Reason::Command),
    };
    let addresses_length = match rest.get(1) {
        None => return Ok(None),
        // The family of a LOCAL header is ignored, whatever it is.
        Some(_) if local => 0,
        Some(0x00) => 0,
        Some(0x11 | 0x12) => 12,
        Some(0x21 | 0x22) => 36,
        Some(0x31 | 0x32) => 216,
        Some(_) => return Err(Reason::Family),
    };
    // The high byte alone can show that the header is too long.
    let length = match rest.get(2..) {
        None | Some([]) => return Ok(None),
        Some([high]) if usize::from(*high) << 8 > V2_LIMIT - FIXED_LENGTH => {
            return Err(Reason::TooLong);
        }
        Some([_]) => return Ok(None),
        Some([high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])),
    };
    let total = FIXED_LENGTH + length;
    if total > V2_LIMIT {
        return Err(Reason::TooLong);
    }
    if length < addresses_length {
        return Err(Reason::Addresses);
    }
    let Some(block) = bytes.get(..total) else {
        return Ok(None);
    };
    // "The receiver must … use the real connection endpoints and discard the protocol block" (2.2).
    let received = if local { Received::default() } else { announced(block)? };
    Ok(Some((total, received)))
}

/// What a complete PROXY command says.
fn announced(block: &[u8]) -> Result<Received, Reason> {
    let header = v2::Header::try_from(block).map_err(|_| Reason::Addresses)?;
    let (source, destination) = match header.addresses {
        // The block of an unknown family has no known layout, so no TLV can be found in it.
        v2::Addresses::Unspecified => return Ok(Received::default()),
        v2::Addresses::IPv4(ip) => (
            Endpoint::Inet((ip.source_address, ip.source_port).into()),
            Endpoint::Inet((ip.destination_address, ip.destination_port).into()),
        ),
        v2::Addresses::IPv6(ip) => (
            Endpoint::Inet((ip.source_address, ip.source_port).into()),
            Endpoint::Inet((ip.destination_address, ip.destination_port).into()),
        ),
        v2::Addresses::Unix(_) => (Endpoint::Unix, Endpoint::Unix),
    };
    let mut received = Received { source: Some(source), destination: Some(destination), ..Received::default() };
    let mut crc = None;
    let mut at = FIXED_LENGTH + header.addresses.len();
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(|_| Reason::Tlv)?;
        let value_at = at + 3;
        at = value_at + tlv.len();
        match tlv.kind {
            kind if kind == v2::Type::CRC32C as u8 => {
                let sum = <[u8; 4]>::try_from(tlv.value.as_ref()).map_err(|_| Reason::Tlv)?;
                once(&mut crc, (value_at, u32::from_be_bytes(sum)))?;
            }
            kind if kind == v2::Type::Authority as u8 => {
                once(&mut received.authority, at_most(AUTHORITY_LIMIT, tlv.value)?)?;
            }
            kind if kind == v2::Type::UniqueId as u8 => {
                once(&mut received.unique_id, at_most(UNIQUE_ID_LIMIT, tlv.value)?)?;
            }
            _ => {}
        }
    }
    match crc {
        Some((value_at, sum)) if checksum(block, value_at) != sum => Err(Reason::Crc32c),
        _ => Ok(received),
    }
}

/// CRC32C of the header as if the four bytes at `value_at` were zero (proxy-protocol.txt, 2.2.3).
fn checksum(block: &[u8], value_at: usize) -> u32 {
    let sum = crc32c::crc32c(&block[..value_at]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &block[value_at + 4..])
}

fn at_most(limit: usize, value: Cow<'_, [u8]>) -> Result<Vec<u8>, Reason> {
    if value.len() > limit { Err(Reason::Tlv) } else { Ok(value.into_owned()) }
}

/// Two different values of one fact are an invitation to believe the wrong one.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Reason> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Reason::Duplicate),
    }
}

#[cfg(test)]
#[path = "proxy_in_tests.rs"]
mod tests;
