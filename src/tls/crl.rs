//! [`Crl`]: a revocation list as far as it is looked at beside webpki. Look-ups come before a client has proved anything: they
//! cost the same whatever the length of the list.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::der::{EXPLICIT_0, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, element, is_signed_by};
use super::x509;

/// Keys of which is remembered whether they have signed a list. Those of `ca-file` come first.
const KEYS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Crl {
    pub der: CertificateRevocationListDer<'static>,
    pub digest: [u8; 32],
    pub raw_issuer: Vec<u8>,
    pub issuer: String,
    /// Issuing distribution point (RFC 5280, 5.2.5): a CA may split its list.
    pub scope: Option<Vec<u8>>,
    pub this_update: UnixTime,
    pub next_update: UnixTime,
    /// Where the serial numbers stand in `der`, in the order of their content octets.
    serials: Vec<Range<u32>>,
    /// SHA-256 of keys (SubjectPublicKeyInfo), and whether they have signed it: a signature over a long list takes long.
    keys: Mutex<Vec<([u8; 32], bool)>>,
}

impl Crl {
    /// Is this serial number (its content octets) in the list?
    pub(super) fn lists(&self, serial: &[u8]) -> bool {
        self.serials.binary_search_by(|number| octets(&self.der, number).cmp(serial)).is_ok()
    }

    /// How many certificates it names.
    pub(super) fn revoked(&self) -> usize {
        self.serials.len()
    }

    /// Has the key `spki` signed it?
    pub(super) fn is_signed_with(&self, spki: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let keys = || self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = x509::sha256(spki);
        if let Some((_, known)) = keys().iter().find(|(known, _)| *known == hash) {
            return *known;
        }
        let is_signer = is_signed_by(&self.der, spki, algorithms) == Some(true);
        let mut keys = keys();
        if keys.len() < KEYS_MAX {
            keys.push((hash, is_signer));
        }
        is_signer
    }

    /// CertificateList (RFC 5280, 5.1) as far as it is needed. `None` if it is damaged, or has no nextUpdate.
    pub(super) fn parse(der: CertificateRevocationListDer<'static>) -> Option<Self> {
        let (list, rest) = element(&der, SEQUENCE)?;
        let (tbs, _) = element(list.content, SEQUENCE)?;
        let mut tbs = tbs.content;
        if let Some((_, after)) = element(tbs, INTEGER) {
            tbs = after;
        }
        let (_algorithm, after) = element(tbs, SEQUENCE)?;
        let (issuer, times) = element(after, SEQUENCE)?;
        let (times, this_update) = ASN1Time::from_der(times).ok()?;
        let (mut tail, next_update) = ASN1Time::from_der(times).ok()?;
        let mut serials = Vec::new();
        if let Some((entries, after)) = element(tail, SEQUENCE) {
            serials = revoked_serials(&der, entries.content)?;
            tail = after;
        }
        let scope = match element(tail, EXPLICIT_0) {
            Some((extensions, _)) => distribution_point(extensions.content)?,
            None => None,
        };
        let (raw_issuer, complete) = (issuer.whole.to_vec(), rest.is_empty());
        let issuer = x509::printed_raw_name(&raw_issuer);
        let (this_update, next_update) = (x509::unix_time(this_update), x509::unix_time(next_update));
        let digest = x509::sha256(&der);
        let keys = Mutex::default();
        complete.then_some(Self { der, digest, raw_issuer, issuer, scope, this_update, next_update, serials, keys })
    }
}

fn octets<'a>(der: &'a [u8], place: &Range<u32>) -> &'a [u8] {
    &der[place.start as usize..place.end as usize]
}

/// The places in `der` of the serial numbers of `entries`, a part of it, in order.
fn revoked_serials(der: &[u8], entries: &[u8]) -> Option<Vec<Range<u32>>> {
    let mut serials = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let (entry, after) = element(rest, SEQUENCE)?;
        let (number, _) = element(entry.content, INTEGER)?;
        let start = u32::try_from(number.content.as_ptr().addr() - der.as_ptr().addr()).ok()?;
        serials.push(start..start.checked_add(u32::try_from(number.content.len()).ok()?)?);
        rest = after;
    }
    serials.sort_unstable_by(|left, right| octets(der, left).cmp(octets(der, right)));
    Some(serials)
}

/// The value of the extension issuingDistributionPoint; `None` outside if the extensions are damaged.
fn distribution_point(extensions: &[u8]) -> Option<Option<Vec<u8>>> {
    const ID_CE_ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
    let (list, _) = element(extensions, SEQUENCE)?;
    let mut rest = list.content;
    while !rest.is_empty() {
        let (extension, after) = element(rest, SEQUENCE)?;
        rest = after;
        let (id, value) = element(extension.content, OBJECT_IDENTIFIER)?;
        if id.content == ID_CE_ISSUING_DISTRIBUTION_POINT {
            return Some(Some(value.to_vec()));
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::tls::test_pki::*;
    use crate::tls::x509::Certificate;

    fn crl(pem: &str) -> Crl {
        Crl::parse(CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn every_serial_number_is_found_and_no_other() {
        let ca = Ca::root("Root");
        let listed = [70_000, 3, 255, 1 << 40, 127, 128, 9];
        let list = crl(&ca.crl(&listed, -DAY, DAY));
        assert_eq!(list.revoked(), listed.len());
        for number in [1, 2, 3, 4, 9, 127, 128, 129, 255, 256, 70_000, 70_001, 1 << 40] {
            let der = ca.client("alice", |params| params.serial_number = Some(number.into())).der;
            assert_eq!(
                list.lists(Certificate::parse(&der).unwrap().raw_serial()),
                listed.contains(&number),
                "{number}"
            );
        }
        assert!(!crl(&ca.crl(&[], -DAY, DAY)).lists(&[3]));
    }

    #[test]
    fn a_signature_is_verified_once_for_each_key() {
        let (ca, other) = (Ca::root("Root"), Ca::root("Root"));
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let mut list = crl(&ca.crl(&[7], -DAY, DAY));
        let key = |ca: &Ca| Certificate::parse(&ca.der).unwrap().key().raw.to_vec();
        assert!(list.is_signed_with(&key(&ca), &algorithms) && !list.is_signed_with(&key(&other), &algorithms));
        // What is remembered needs no look at the list.
        list.der = Vec::new().into();
        assert!(list.is_signed_with(&key(&ca), &algorithms) && !list.is_signed_with(&key(&other), &algorithms));
        assert!(!list.is_signed_with(&key(&Ca::root("Root")), &algorithms));
        // Many keys are not all remembered.
        for number in 0..2 * KEYS_MAX {
            assert!(!list.is_signed_with(&number.to_be_bytes(), &algorithms));
        }
        assert_eq!(list.keys.lock().unwrap().len(), KEYS_MAX);
    }
}
