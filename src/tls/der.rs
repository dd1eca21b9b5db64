//! DER (X.690) as far as signed things need it: elements one after the other, and the signature around them. Fails with
//! `None`, whatever the bytes are.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::SignatureVerificationAlgorithm;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`; `[0] IMPLICIT` of something constructed looks the same.
pub(super) const EXPLICIT_0: u8 = 0xa0;

/// One element of DER (X.690, 8.1).
pub(super) struct Element<'a> {
    pub whole: &'a [u8],
    pub content: &'a [u8],
}

/// The first element of `der`, if it has this tag, and what follows.
pub(super) fn element(der: &[u8], tag: u8) -> Option<(Element<'_>, &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        // The shortest form is the only one (X.690, 10.1).
        if length.is_empty() || length.len() > 4 || length[0] == 0 {
            return None;
        }
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        (Some(length).filter(|length| *length >= 0x80)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (found == tag).then_some((Element { whole: &der[..der.len() - rest.len()], content }, rest))
}

/// Is `signed` (a certificate, a CRL, the basic response of OCSP) signed with the key `spki`? `None` if one of them is damaged,
/// or the algorithm is unknown.
pub(super) fn is_signed_by(signed: &[u8], spki: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> Option<bool> {
    let (signed, _) = element(signed, SEQUENCE)?;
    let (message, after) = element(signed.content, SEQUENCE)?;
    let (signature_algorithm, after) = element(after, SEQUENCE)?;
    let (signature, _) = element(after, BIT_STRING)?;
    // The first byte counts the unused bits, of which signatures have none.
    let signature = signature.content.strip_prefix(&[0])?;
    let named = algorithms.all.iter().copied();
    let named = named.filter(|algorithm| algorithm.signature_alg_id().as_ref() == signature_algorithm.content);
    verify_with(spki, named, message.whole, signature)
}

/// Is `signature` one of `message` with the key `spki`, by one of the algorithms that are for this kind of key? `None` if the
/// key is damaged.
pub(super) fn verify_with<'a>(
    spki: &[u8],
    mut algorithms: impl Iterator<Item = &'a dyn SignatureVerificationAlgorithm>,
    message: &[u8],
    signature: &[u8],
) -> Option<bool> {
    let (spki, _) = element(spki, SEQUENCE)?;
    let (key_algorithm, after) = element(spki.content, SEQUENCE)?;
    let (key, _) = element(after, BIT_STRING)?;
    let key = key.content.strip_prefix(&[0])?;
    Some(algorithms.any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == key_algorithm.content
            && algorithm.verify_signature(key, message, signature).is_ok()
    }))
}
