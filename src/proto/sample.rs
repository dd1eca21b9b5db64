//! Evaluates the expressions of [`crate::conf::expr`] on a finished handshake.
//!
//! A value is text or bytes, as HAProxy types it (manual, 7.1): where text is asked for, bytes end at their first NUL.

use std::cell::OnceCell;

use aws_lc_rs::digest::{self, Algorithm};

use crate::conf::expr::{Converter, Expr, Fetch, Format, Part};
use crate::tls::identity::{Client, TlsSession};
use crate::tls::x509::Certificate;

/// What a sample expression yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// HAProxy's `str`.
    Text(Vec<u8>),
    /// HAProxy's `bin`.
    Bytes(Vec<u8>),
}

impl Value {
    /// All bytes of the value (HAProxy's cast to `bin`).
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(bytes) | Self::Bytes(bytes) => bytes,
        }
    }

    /// The value as text: bytes end at their first NUL (HAProxy's cast to `str`).
    pub fn into_text(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text,
            Self::Bytes(mut bytes) => {
                if let Some(nul) = bytes.iter().position(|byte| *byte == 0) {
                    bytes.truncate(nul);
                }
                bytes
            }
        }
    }
}

/// What samples are taken from: one handshake, as far as there was one. Parses the certificate when first asked about it.
pub struct Source<'a> {
    session: Option<&'a TlsSession>,
    leaf: Option<&'a [u8]>,
    parsed: OnceCell<Option<Certificate<'a>>>,
}

impl<'a> Source<'a> {
    /// `session` is `None` on a listener without TLS. A certificate is looked at if it was verified, or if the operator has
    /// said that its errors do not matter.
    pub fn new(session: Option<&'a TlsSession>, client: &'a Client) -> Self {
        let leaf = match client {
            Client::Verified { leaf, .. } | Client::Unverified { leaf, .. } => Some(leaf.as_ref()),
            Client::NotAsked | Client::Anonymous => None,
        };
        Self { session, leaf, parsed: OnceCell::new() }
    }

    /// The same handshake, without its certificate.
    pub fn without_certificate(&self) -> Self {
        Self { session: self.session, leaf: None, parsed: OnceCell::new() }
    }

    /// DER of the certificate.
    pub fn der(&self) -> Option<&'a [u8]> {
        self.leaf
    }

    /// The certificate; `None` also for one that the parser cannot read.
    pub fn certificate(&self) -> Option<&Certificate<'a>> {
        self.parsed.get_or_init(|| Certificate::parse(self.leaf?)).as_ref()
    }

    /// The value of a format; an expression without a value adds nothing.
    pub fn format(&self, format: &Format) -> Vec<u8> {
        let mut text = Vec::new();
        for part in &format.parts {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal),
                Part::Sample { expr, binary } => {
                    if let Some(value) = self.sample(expr) {
                        text.extend(if *binary { value.into_bytes() } else { value.into_text() });
                    }
                }
            }
        }
        text
    }

    /// The value of one expression; `None` if the fetch has none here (no certificate, no SNI).
    pub fn sample(&self, expr: &Expr) -> Option<Value> {
        let fetched = self.fetch(&expr.fetch)?;
        Some(expr.converters.iter().fold(fetched, |value, converter| convert(*converter, value)))
    }

    fn fetch(&self, fetch: &Fetch) -> Option<Value> {
        let text = |text: &str| Some(Value::Text(text.as_bytes().to_vec()));
        match fetch {
            Fetch::SslCDer => Some(Value::Bytes(self.leaf?.to_vec())),
            Fetch::SslCSDn => text(&self.certificate()?.subject()?),
            Fetch::SslCIDn => text(&self.certificate()?.issuer()?),
            Fetch::SslCSerial => Some(Value::Bytes(self.certificate()?.serial()?.to_vec())),
            Fetch::SslCSha1 => Some(digested(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.leaf?)),
            Fetch::SslCNotBefore => text(&self.certificate()?.not_before()?),
            Fetch::SslCNotAfter => text(&self.certificate()?.not_after()?),
            Fetch::SslFcSni => text(self.session?.sni.as_deref()?),
            Fetch::SslFcAlpn => Some(Value::Text(self.session?.alpn.clone()?)),
            Fetch::SslFcProtocol => text(self.session?.version),
            Fetch::SslFcCipher => text(self.session?.cipher),
        }
    }
}

fn convert(converter: Converter, value: Value) -> Value {
    match converter {
        Converter::Sha1 => digested(&digest::SHA1_FOR_LEGACY_USE_ONLY, &value.into_bytes()),
        Converter::Sha2(224) => digested(&digest::SHA224, &value.into_bytes()),
        Converter::Sha2(384) => digested(&digest::SHA384, &value.into_bytes()),
        Converter::Sha2(512) => digested(&digest::SHA512, &value.into_bytes()),
        // The parser admits no other size than these four.
        Converter::Sha2(_) => digested(&digest::SHA256, &value.into_bytes()),
        Converter::Hex => Value::Text(hex(&value.into_bytes(), b"0123456789ABCDEF")),
        Converter::Lower => Value::Text(value.into_text().to_ascii_lowercase()),
        Converter::Upper => Value::Text(value.into_text().to_ascii_uppercase()),
        Converter::Base64 => Value::Text(base64(&value.into_bytes())),
    }
}

fn digested(algorithm: &'static Algorithm, bytes: &[u8]) -> Value {
    Value::Bytes(digest::digest(algorithm, bytes).as_ref().to_vec())
}

/// Lower-case hex SHA-256 of a certificate's DER, without colons: what `ssl_c_der,sha2(256),hex,lower` yields.
pub fn fingerprint(der: &[u8]) -> Vec<u8> {
    hex(digest::digest(&digest::SHA256, der).as_ref(), b"0123456789abcdef")
}

fn hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

/// RFC 4648 section 4, padded.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| (group << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let sextet = (group >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { DIGITS[sextet as usize] } else { b'=' });
        }
    }
    text
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
