//! OCSP responses (RFC 6960) that are stapled: read from a file, checked once, and sent as they are while they are in date.
//!
//! Small on purpose: what a client would refuse must not be sent, so everything that is not plainly good is a reason to staple
//! nothing. Never an error: without staple, a client asks the responder itself.

use std::time::Duration;

use aws_lc_rs::digest;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::UnixTime;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::der::{
    ENUMERATED, EXPLICIT_0, Element, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, element,
    is_signed_by,
};
use super::x509::{self, Certificate};

/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
const BASIC_RESPONSE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// `certStatus`: `[0] good`, `[1] revoked`, `[2] unknown`.
const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;
const UNKNOWN: u8 = 0x82;
/// `[1] byName` of a responder; also `[1]` extensions.
const EXPLICIT_1: u8 = 0xa1;
const EXPLICIT_2: u8 = 0xa2;
/// Clocks differ: a response may be a little newer than now. HAProxy allows as much.
const SKEW: Duration = Duration::from_secs(300);
/// Certificates of responders in one response.
const RESPONDERS_MAX: usize = 8;
/// Answers in one response.
const ANSWERS_MAX: usize = 64;

/// A response that says `good` about one certificate, and is signed by somebody who may say so.
#[derive(Debug)]
pub(super) struct Staple {
    pub der: Vec<u8>,
    /// From when it is valid: `thisUpdate`, and its responder's `notBefore`.
    from: UnixTime,
    /// Until when: `nextUpdate`, and its responder's `notAfter`.
    until: UnixTime,
}

impl Staple {
    /// Reads the DER of a response about `leaf`, which `issuer` (DER) has issued. The dates are not judged here.
    ///
    /// # Errors
    /// Why it is not to be stapled, as the end of a sentence that begins with the name of the file.
    pub(super) fn read(
        der: &[u8],
        leaf: &Certificate<'_>,
        issuer: &[u8],
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<Self, String> {
        if der.starts_with(b"-----BEGIN") {
            return Err("is PEM, DER is needed".to_owned());
        }
        let issuer = Certificate::parse(issuer).ok_or("has an issuer whose certificate is damaged")?;
        if issuer.raw_subject() != leaf.raw_issuer() {
            return Err(format!("cannot be checked: \"{}\" is not the issuer", issuer.printed_subject()));
        }
        let basic = basic_response(der)?;
        let damaged = || "is no OCSP response: the answer in it is damaged".to_owned();
        let body = Body::parse(basic).ok_or_else(damaged)?;
        let answer = body.answers.iter().find(|answer| answer.is_about(leaf, &issuer));
        let answer = answer.ok_or_else(|| "is about another certificate".to_owned())?;
        let (mut from, until) = (answer.this_update, answer.next_update);
        let mut until = until.ok_or("has no nextUpdate")?;
        if is_signed_by(basic, issuer.key().raw, algorithms) != Some(true) {
            let responder = body.responders.iter().find_map(|der| {
                let signed = is_signed_by(der, issuer.key().raw, algorithms) == Some(true);
                let responder = Certificate::parse(der).filter(|_| signed)?;
                let may_sign = responder.raw_issuer() == issuer.raw_subject() && responder.may_sign_ocsp();
                (may_sign && is_signed_by(basic, responder.key().raw, algorithms) == Some(true)).then_some(responder)
            });
            let responder = responder.ok_or("is not signed by the issuer, nor by a responder of the issuer")?;
            let (not_before, not_after) = responder.validity();
            (from, until) = (from.max(not_before), until.min(not_after));
        }
        match answer.status {
            GOOD => Ok(Self { der: der.to_vec(), from, until }),
            REVOKED => Err("says that the certificate is revoked".to_owned()),
            _ => Err("says that the certificate is unknown".to_owned()),
        }
    }

    /// Whether a client would take it at `now`.
    pub(super) fn is_valid(&self, now: UnixTime) -> bool {
        self.from.as_secs() <= now.as_secs().saturating_add(SKEW.as_secs()) && now <= self.until
    }

    /// Why it is not to be stapled at `now`; as with [`Staple::read`].
    pub(super) fn trouble(&self, now: UnixTime) -> Option<String> {
        if self.is_valid(now) {
            None
        } else if self.until < now {
            Some(format!("has expired on {}", x509::date(self.until)))
        } else {
            Some(format!("is not valid before {}", x509::date(self.from)))
        }
    }

    /// When clients stop taking it.
    pub(super) fn until(&self) -> UnixTime {
        self.until
    }
}

/// OCSPResponse (RFC 6960, 4.2.1): the BasicOCSPResponse in it.
fn basic_response(der: &[u8]) -> Result<&[u8], String> {
    let damaged = || "is no OCSP response in DER".to_owned();
    let (response, rest) = element(der, SEQUENCE).ok_or_else(damaged)?;
    let (status, bytes) = element(response.content, ENUMERATED).ok_or_else(damaged)?;
    if !rest.is_empty() {
        return Err(damaged());
    }
    match status.content {
        [0] => {}
        [1] => return Err("is the responder's error malformedRequest".to_owned()),
        [2] => return Err("is the responder's error internalError".to_owned()),
        [3] => return Err("is the responder's error tryLater".to_owned()),
        [5] => return Err("is the responder's error sigRequired".to_owned()),
        [6] => return Err("is the responder's error unauthorized".to_owned()),
        _ => return Err(damaged()),
    }
    let basic = || {
        let (bytes, _) = element(bytes, EXPLICIT_0)?;
        let (bytes, _) = element(bytes.content, SEQUENCE)?;
        let (kind, bytes) = element(bytes.content, OBJECT_IDENTIFIER)?;
        let (basic, _) = element(bytes, OCTET_STRING)?;
        (kind.content == BASIC_RESPONSE).then_some(basic.content)
    };
    basic().ok_or_else(damaged)
}

/// What a BasicOCSPResponse says.
struct Body<'a> {
    answers: Vec<Answer<'a>>,
    /// Certificates that came with it.
    responders: Vec<&'a [u8]>,
}

/// SingleResponse.
struct Answer<'a> {
    hash: &'a [u8],
    name_hash: &'a [u8],
    key_hash: &'a [u8],
    serial: &'a [u8],
    status: u8,
    this_update: UnixTime,
    next_update: Option<UnixTime>,
}

impl<'a> Body<'a> {
    fn parse(basic: &'a [u8]) -> Option<Self> {
        let (basic, rest) = element(basic, SEQUENCE)?;
        if !rest.is_empty() {
            return None;
        }
        let (data, after) = element(basic.content, SEQUENCE)?;
        let (_algorithm, after) = element(after, SEQUENCE)?;
        let (_signature, after) = element(after, super::der::BIT_STRING)?;
        let mut responders = Vec::new();
        if let Some((certificates, _)) = element(after, EXPLICIT_0) {
            let (list, _) = element(certificates.content, SEQUENCE)?;
            responders.extend(elements(list.content, RESPONDERS_MAX)?.into_iter().map(|one| one.whole));
        }
        let data = element(data.content, EXPLICIT_0).map_or(data.content, |(_version, after)| after);
        let (_responder, data) = element(data, EXPLICIT_1).or_else(|| element(data, EXPLICIT_2))?;
        let (_produced_at, data) = element(data, GENERALIZED_TIME)?;
        let (answers, _) = element(data, SEQUENCE)?;
        let answers: Option<Vec<_>> =
            elements(answers.content, ANSWERS_MAX)?.into_iter().map(|one| Answer::parse(one.content)).collect();
        Some(Self { answers: answers?, responders })
    }
}

/// All the sequences that make up `list`; `None` if there is anything else, or more than `max`.
fn elements(list: &[u8], max: usize) -> Option<Vec<Element<'_>>> {
    let mut found = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (one, after) = element(rest, SEQUENCE).filter(|_| found.len() < max)?;
        found.push(one);
        rest = after;
    }
    Some(found)
}

impl<'a> Answer<'a> {
    fn parse(content: &'a [u8]) -> Option<Self> {
        let (id, rest) = element(content, SEQUENCE)?;
        let (hash, after) = element(id.content, SEQUENCE)?;
        let (hash, _) = element(hash.content, OBJECT_IDENTIFIER)?;
        let (name_hash, after) = element(after, OCTET_STRING)?;
        let (key_hash, after) = element(after, OCTET_STRING)?;
        let (serial, _) = element(after, INTEGER)?;
        let status = *rest.first()?;
        let (_, rest) =
            [GOOD, REVOKED, UNKNOWN].into_iter().find(|known| *known == status).and_then(|tag| element(rest, tag))?;
        let (this_update, rest) = time(rest)?;
        let next_update = match element(rest, EXPLICIT_0) {
            Some((next_update, _)) => Some(time(next_update.content)?.0),
            None => None,
        };
        Some(Self {
            hash: hash.content,
            name_hash: name_hash.content,
            key_hash: key_hash.content,
            serial: serial.content,
            status,
            this_update,
            next_update,
        })
    }

    /// CertID (RFC 6960, 4.1.1): name and key of the issuer by their hashes, and the serial number.
    fn is_about(&self, leaf: &Certificate<'_>, issuer: &Certificate<'_>) -> bool {
        let algorithm = match self.hash {
            // 1.3.14.3.2.26 and 2.16.840.1.101.3.4.2.{1,2,3}. SHA-1 names things here, it protects nothing.
            [0x2b, 0x0e, 0x03, 0x02, 0x1a] => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01] => &digest::SHA256,
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02] => &digest::SHA384,
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03] => &digest::SHA512,
            _ => return false,
        };
        let hash = |bytes: &[u8]| digest::digest(algorithm, bytes);
        self.serial == leaf.raw_serial()
            && self.name_hash == hash(issuer.raw_subject()).as_ref()
            && self.key_hash == hash(&issuer.key().subject_public_key.data).as_ref()
    }
}

/// GeneralizedTime, and what follows.
fn time(der: &[u8]) -> Option<(UnixTime, &[u8])> {
    element(der, GENERALIZED_TIME)?;
    let (rest, time) = ASN1Time::from_der(der).ok()?;
    Some((x509::unix_time(time), rest))
}

#[cfg(test)]
mod tests;
