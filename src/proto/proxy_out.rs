//! The PROXY header that a server gets before the first byte of the client (proxy-protocol.txt, versions 1 and 2).
//!
//! A header is written whole or not at all: an identity that does not fit closes the connection, it is never shortened.
//! Precisely, where a certificate was verified: its fingerprint and its DER are written if they are asked for, or encoding
//! fails. The common name is written if it has a value ([`Certificate::common_name`]); one that has none is left out, so
//! nobody can be taken for somebody.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ppp::v2::{Addresses, Builder, Command, Protocol, Type, TypeLengthValue, Version, WriteToHeader};
use rustls::pki_types::DnsName;

pub use super::endpoint::{Endpoint, Endpoints};
use super::proxy_in::Received;
use super::sample::{self, Source};
use crate::conf::model::{ProxyOut, ProxyVersion, SslTlv, Tlv};
use crate::tls::identity::{Client, TlsSession, Verdict};
use crate::tls::x509::Certificate;

/// PP2_SUBTYPE_SSL_GROUP.
pub const SSL_GROUP: u8 = 0x26;
/// PP2_SUBTYPE_SSL_SIG_SCHEME.
pub const SSL_SIG_SCHEME: u8 = 0x27;
/// PP2_SUBTYPE_SSL_CLIENT_CERT.
pub const SSL_CLIENT_CERT: u8 = 0x28;
/// `cert-fingerprint`: the first of the application's own types (proxy-protocol.txt, 2.2.8).
pub const CERT_FINGERPRINT: u8 = 0xe0;

/// PP2_CLIENT_SSL: the client came over TLS.
pub const CLIENT_SSL: u8 = 0x01;
/// PP2_CLIENT_CERT_CONN: it sent a certificate in this connection's handshake.
pub const CLIENT_CERT_CONN: u8 = 0x02;
/// PP2_CLIENT_CERT_SESS: it sent a certificate at least once in this TLS session.
pub const CLIENT_CERT_SESS: u8 = 0x04;

/// AF_INET and AF_INET6 of Linux: `send-client-ip` is for a server on the same system.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Longest PP2_TYPE_UNIQUE_ID (proxy-protocol.txt, 2.2.5).
pub const UNIQUE_ID_LIMIT: usize = 128;

/// Length of a value and of the block behind the first 16 bytes: both are 16-bit fields.
const FIELD_LIMIT: usize = u16::MAX as usize;

/// What a header is written from.
#[derive(Debug)]
pub struct Header<'a> {
    /// Whom to announce: the peers of the accepted socket, or what a received header said.
    pub endpoints: Endpoints,
    /// What the handshake negotiated; `None` on a listener without TLS.
    pub session: Option<&'a TlsSession>,
    /// What the handshake proved.
    pub verdict: &'a Verdict,
    /// The header that the client side sent, if it sent one: its authority and unique id are passed on.
    pub received: Option<&'a Received>,
    /// The connection's own unique id, for want of a received one. Empty: none.
    pub unique_id: &'a [u8],
}

/// Why a header cannot be written. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// A value, or the header as a whole, is longer than its limit.
    TooLong {
        /// What it is, in the words of proxy-protocol.txt.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest that can be written.
        limit: usize,
    },
    /// A certificate was verified on a connection that has no TLS session: nothing true could be said about it.
    Identity,
    /// `send-client-ip` for a client that has no IP address.
    NoAddress,
    /// `send-received-proxy`, and none was received.
    NoHeader,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { what, length, limit } => {
                write!(f, "{what} of {length} bytes does not fit in a PROXY header (at most {limit})")
            }
            Self::NoAddress => f.write_str("the client has no IP address that could be sent"),
            Self::NoHeader => f.write_str("there is no received header to pass on"),
            Self::Identity => f.write_str("a verified certificate without a TLS session"),
        }
    }
}

impl std::error::Error for HeaderError {}

/// Appends the header to `buffer`; on an error, nothing.
///
/// Where an end has no address (unix socket) the header says so as HAProxy does: `PROXY UNKNOWN`, or command LOCAL with
/// family UNSPEC. At most 65,551 bytes.
pub fn encode(out: &ProxyOut, header: &Header<'_>, buffer: &mut Vec<u8>) -> Result<(), HeaderError> {
    match out.version {
        ProxyVersion::V1 => {
            line(&header.endpoints, buffer);
            Ok(())
        }
        ProxyVersion::ClientIp => client_ip(&header.endpoints, buffer),
        ProxyVersion::Received => {
            let received = header.received.filter(|received| !received.header.is_empty());
            buffer.extend_from_slice(&received.ok_or(HeaderError::NoHeader)?.header);
            Ok(())
        }
        ProxyVersion::V2 => {
            let client = header.verdict.client();
            if header.session.is_none() && matches!(client, Client::Verified { .. } | Client::Unverified { .. }) {
                return Err(HeaderError::Identity);
            }
            let source = Source::new(header.session, client);
            let (tlvs, crc) = tlvs(&out.tlvs, header, &source)?;
            buffer.extend_from_slice(&block(&header.endpoints, &tlvs, crc)?);
            Ok(())
        }
    }
}

/// Version 1 (proxy-protocol.txt, 2.1).
fn line(endpoints: &Endpoints, buffer: &mut Vec<u8>) {
    let text = match endpoints.inet() {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some((source, destination)) => format!(
            "PROXY {} {} {} {} {}\r\n",
            if source.is_ipv4() { "TCP4" } else { "TCP6" },
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
    };
    buffer.extend_from_slice(text.as_bytes());
}

/// Hitch's `write-ip`: the number of the address family as the system knows it, and the address.
fn client_ip(endpoints: &Endpoints, buffer: &mut Vec<u8>) -> Result<(), HeaderError> {
    let Endpoint::Inet(source) = endpoints.source else {
        return Err(HeaderError::NoAddress);
    };
    match source.ip() {
        IpAddr::V4(address) => {
            buffer.push(AF_INET);
            buffer.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            buffer.push(AF_INET6);
            buffer.extend_from_slice(&address.octets());
        }
    }
    Ok(())
}

/// Version 2 (proxy-protocol.txt, 2.2): the fixed part, the addresses, then the TLVs, with the checksum filled in.
/// `crc` counts the TLVs in front of PP2_TYPE_CRC32C.
fn block(endpoints: &Endpoints, tlvs: &[TypeLengthValue<'_>], crc: Option<usize>) -> Result<Vec<u8>, HeaderError> {
    let (command, protocol, addresses) = match endpoints.inet() {
        Some(addresses) => (Command::Proxy, Protocol::Stream, Addresses::from(addresses)),
        None => (Command::Local, Protocol::Unspecified, Addresses::Unspecified),
    };
    let tlvs_at = ppp::v2::PROTOCOL_PREFIX.len() + 4 + addresses.len();
    let length = addresses.len() + tlvs.iter().map(wire_length).sum::<usize>();
    let too_long = HeaderError::TooLong { what: "the header", length, limit: FIELD_LIMIT };
    if length > FIELD_LIMIT {
        return Err(too_long);
    }
    let mut bytes = Builder::with_addresses(Version::Two | command, protocol, addresses)
        .reserve_capacity(length)
        .write_payloads(tlvs)
        .and_then(Builder::build)
        .map_err(|_| too_long)?;

    if let Some(before) = crc {
        let value_at = tlvs_at + tlvs[..before].iter().map(wire_length).sum::<usize>() + 3;
        let sum = crc32c::crc32c(&bytes);
        bytes[value_at..value_at + 4].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(bytes)
}

/// Type, length and value.
fn wire_length(tlv: &TypeLengthValue<'_>) -> usize {
    3 + tlv.len()
}

/// The TLVs to write, in order, and the place of PP2_TYPE_CRC32C among them: its value is still zero. The place, because a
/// custom TLV may have that type too.
fn tlvs<'a>(
    wanted: &[Tlv],
    header: &Header<'a>,
    source: &Source<'a>,
) -> Result<(Vec<TypeLengthValue<'a>>, Option<usize>), HeaderError> {
    let mut tlvs = Vec::with_capacity(wanted.len());
    // TLV 0xE0 says who it is, and nothing beside it says that it was not verified.
    let verified = source.der().filter(|_| matches!(header.verdict.client(), Client::Verified { .. }));
    // So do custom ones, where `verify` is not told beside them. Where it is they are HAProxy's.
    let is_told = wanted.iter().any(|tlv| matches!(tlv, Tlv::Ssl(_)));
    let of_custom = if matches!(header.verdict.client(), Client::Unverified { .. }) && !is_told {
        &source.without_certificate()
    } else {
        source
    };
    let mut crc = None;
    for tlv in wanted {
        let written = match tlv {
            Tlv::Custom { id, format } => Some(value(*id, "a custom TLV", of_custom.format(format))?),
            Tlv::Crc32c => {
                crc = Some(tlvs.len());
                Some(value(Type::CRC32C, "CRC32C", &[0; 4][..])?)
            }
            Tlv::Alpn => match header.session.and_then(|session| session.alpn.as_deref()) {
                Some(alpn) => Some(value(Type::ALPN, "ALPN", alpn)?),
                None => None,
            },
            Tlv::Authority => match authority(header) {
                Some(name) => Some(value(Type::Authority, "AUTHORITY", name)?),
                None => None,
            },
            Tlv::UniqueId => unique_id(header)?,
            Tlv::CertFingerprint => match verified {
                Some(der) => Some(value(CERT_FINGERPRINT, "the fingerprint", sample::fingerprint(der))?),
                None => None,
            },
            Tlv::ClientCertPem => match verified {
                Some(der) => Some(value(CERT_FINGERPRINT, "the certificate", trusted_certificate(der))?),
                None => None,
            },
            Tlv::Ssl(wanted) => Some(ssl(wanted, header, source)?),
        };
        tlvs.extend(written);
    }
    Ok((tlvs, crc))
}

fn value<'a>(
    kind: impl Into<u8>,
    what: &'static str,
    value: impl Into<Cow<'a, [u8]>>,
) -> Result<TypeLengthValue<'a>, HeaderError> {
    let value = value.into();
    if value.len() > FIELD_LIMIT {
        return Err(HeaderError::TooLong { what, length: value.len(), limit: FIELD_LIMIT });
    }
    Ok(TypeLengthValue { kind: kind.into(), value })
}

/// The received authority, else the SNI (HAProxy's order), if it is a DNS name: Dovecot disconnects on anything else.
fn authority<'a>(header: &Header<'a>) -> Option<&'a [u8]> {
    let received = header.received.and_then(|received| received.authority.as_deref());
    let sni = header.session.and_then(|session| session.sni.as_deref());
    let name = received.or(sni.map(str::as_bytes))?;
    DnsName::try_from(name).is_ok().then_some(name)
}

fn unique_id<'a>(header: &Header<'a>) -> Result<Option<TypeLengthValue<'a>>, HeaderError> {
    let received = header.received.and_then(|received| received.unique_id.as_deref());
    let id = received.unwrap_or(header.unique_id);
    if id.len() > UNIQUE_ID_LIMIT {
        return Err(HeaderError::TooLong { what: "UNIQUE_ID", length: id.len(), limit: UNIQUE_ID_LIMIT });
    }
    if id.is_empty() {
        return Ok(None);
    }
    value(Type::UniqueId, "UNIQUE_ID", id).map(Some)
}

/// PP2_TYPE_SSL (proxy-protocol.txt, 2.2.6): client bits, verification result, sub-TLVs. Without TLS it says just that.
fn ssl<'a>(wanted: &[SslTlv], header: &Header<'a>, source: &Source<'a>) -> Result<TypeLengthValue<'a>, HeaderError> {
    let (client, verify) = client_and_verify(header.session, header.verdict.client());
    let mut content = vec![client];
    content.extend_from_slice(&verify.to_be_bytes());
    if let Some(session) = header.session {
        let mut sub_tlvs = vec![value(Type::SSLVersion, "SSL_VERSION", session.version.as_bytes())?];
        for wanted in wanted {
            sub_tlvs.extend(sub_tlv(*wanted, session, source)?);
        }
        for sub_tlv in &sub_tlvs {
            content.extend(sub_tlv.to_bytes().map_err(|_| HeaderError::TooLong {
                what: "the SSL TLV",
                length: sub_tlv.len(),
                limit: FIELD_LIMIT,
            })?);
        }
    }
    value(Type::SSL, "the SSL TLV", content)
}

/// `verify` is 0 only if a certificate was presented and verified; where errors are ignored it is OpenSSL's number. HAProxy also writes 0 where there was none; a receiver
/// that looks at nothing else would take an anonymous client for a verified one.
fn client_and_verify(session: Option<&TlsSession>, client: &Client) -> (u8, u32) {
    let bits = |resumed: bool| CLIENT_SSL | CLIENT_CERT_SESS | if resumed { 0 } else { CLIENT_CERT_CONN };
    match (session, client) {
        (None, _) => (0, 1),
        (Some(_), Client::NotAsked | Client::Anonymous) => (CLIENT_SSL, 1),
        (Some(_), Client::Verified { resumed, .. }) => (bits(*resumed), 0),
        (Some(_), Client::Unverified { resumed, error, .. }) => (bits(*resumed), error.get()),
    }
}

/// A certificate as OpenSSL's `PEM_write_bio_X509_AUX` writes it when no trust settings are attached to it.
fn trusted_certificate(der: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    /// Bytes in front of 64 characters.
    const LINE: usize = 48;
    let mut pem = b"-----BEGIN TRUSTED CERTIFICATE-----\n".to_vec();
    for line in der.chunks(LINE) {
        for group in line.chunks(3) {
            let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or_default());
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for character in 0..4 {
                let letter = ALPHABET[(bits >> (18 - 6 * character) & 63) as usize];
                pem.push(if character <= group.len() { letter } else { b'=' });
            }
        }
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END TRUSTED CERTIFICATE-----\n");
    pem
}

/// One sub-TLV, if there is something to write. The version is always written, first, by the caller.
fn sub_tlv<'a>(
    wanted: SslTlv,
    session: &'a TlsSession,
    source: &Source<'a>,
) -> Result<Option<TypeLengthValue<'a>>, HeaderError> {
    let text = |kind: u8, what, text: &'a str| value(kind, what, text.as_bytes()).map(Some);
    match wanted {
        SslTlv::Version => Ok(None),
        SslTlv::Cn => match source.certificate().and_then(Certificate::common_name) {
            Some(name) => value(Type::SSLCommonName, "SSL_CN", name.into_bytes()).map(Some),
            None => Ok(None),
        },
        SslTlv::Cipher => text(Type::SSLCipher.into(), "SSL_CIPHER", session.cipher),
        SslTlv::SigAlg => text(Type::SSLSignatureAlgorithm.into(), "SSL_SIG_ALG", session.server.sig_alg),
        SslTlv::KeyAlg => text(Type::SSLKeyAlgorithm.into(), "SSL_KEY_ALG", &session.server.key_alg),
        SslTlv::Group => session.group.map_or(Ok(None), |group| text(SSL_GROUP, "SSL_GROUP", group)),
        SslTlv::SigScheme => {
            session.sig_scheme.map_or(Ok(None), |scheme| text(SSL_SIG_SCHEME, "SSL_SIG_SCHEME", scheme))
        }
        SslTlv::ClientCert => match source.der() {
            Some(der) => value(SSL_CLIENT_CERT, "SSL_CLIENT_CERT", der).map(Some),
            None => Ok(None),
        },
    }
}

#[cfg(test)]
#[path = "proxy_out_tests.rs"]
mod tests;
