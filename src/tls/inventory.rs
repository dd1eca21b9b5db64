//! What is in force, for people to look at: certificates, the names they are for, CAs and revocation lists. Never keys.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::policy::TlsPolicy;
use super::x509::{self, Certificate, KeyType};

/// A certificate file of a `bind` line.
pub struct CertificateFile<'a> {
    /// The file.
    pub path: &'a Path,
    /// Leaf first.
    pub chain: &'a [CertificateDer<'static>],
}

/// A name that clients may ask for, and a certificate that is there for it.
pub struct Name<'a> {
    /// The name; a wildcard is `*.example.com`.
    pub name: String,
    /// Names that the wildcard does not mean.
    pub excluded: &'a [String],
    /// `ecdsa`, `rsa` or `other`.
    pub key_type: &'static str,
    /// Its file.
    pub path: &'a Path,
    /// Validity, as OpenSSL prints times.
    pub validity: (String, String),
}

/// A CA of `ca-file`.
pub struct Authority<'a> {
    /// The file, or the file in its directory.
    pub path: &'a Path,
    /// The certificate.
    pub der: &'a CertificateDer<'static>,
}

/// A revocation list.
pub struct RevocationList<'a> {
    /// The file.
    pub path: &'a Path,
    /// Who issued it, escaped.
    pub issuer: &'a str,
    /// From when to when, as OpenSSL prints times.
    pub validity: (String, String),
    /// Certificates that it names.
    pub revoked: usize,
}

impl TlsPolicy {
    /// Every certificate in the order of the configuration; one may stand there twice.
    pub fn certificates(&self) -> impl Iterator<Item = CertificateFile<'_>> {
        let credentials = self.names().credentials().iter();
        credentials.map(|credential| CertificateFile { path: credential.path(), chain: credential.chain() })
    }

    /// Every name with every certificate that may be chosen for it.
    pub fn server_names(&self) -> Vec<Name<'_>> {
        let listed = self.names().listed().into_iter().map(|(name, credential, excluded)| {
            let facts = credential.facts();
            Name {
                name,
                excluded,
                key_type: match facts.key_type {
                    KeyType::Ec => "ecdsa",
                    KeyType::Rsa => "rsa",
                    KeyType::Other => "other",
                },
                path: credential.path(),
                validity: (openssl_time(facts.not_before), openssl_time(facts.not_after)),
            }
        });
        listed.collect()
    }

    /// The CAs of clients, once for each of the settings that names them.
    pub fn authorities(&self) -> impl Iterator<Item = Authority<'_>> {
        self.trusts().flat_map(|trust| trust.authorities())
    }

    /// The revocation lists, once for each of the settings that names them.
    pub fn revocation_lists(&self) -> impl Iterator<Item = RevocationList<'_>> {
        self.trusts().flat_map(|trust| trust.revocation_lists())
    }
}

/// A certificate in HAProxy's words (`show ssl cert <file>`), a line each.
pub fn describe(der: &[u8]) -> Vec<(&'static str, String)> {
    let Some(certificate) = Certificate::parse(der) else { return Vec::new() };
    let (not_before, not_after) = certificate.validity();
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    vec![
        ("Serial", certificate.printed_serial()),
        ("notBefore", openssl_time(not_before)),
        ("notAfter", openssl_time(not_after)),
        ("Subject Alternative Name", certificate.printed_alternatives()),
        ("Algorithm", certificate.key_summary()),
        ("SHA1 FingerPrint", hex(sha1.as_ref())),
        ("SHA256 FingerPrint", hex(&x509::sha256(der))),
        ("Subject", certificate.printed_subject()),
        ("Issuer", certificate.printed_issuer()),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `Nov  2 08:18:05 2026 GMT`.
pub(super) fn openssl_time(time: UnixTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = i64::try_from(time.as_secs()).ok();
    let Some(time) = seconds.and_then(|seconds| x509_parser::time::ASN1Time::from_timestamp(seconds).ok()) else {
        return "never".to_owned();
    };
    let time = time.to_datetime();
    let month = MONTHS[usize::from(u8::from(time.month())) - 1];
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{month} {:2} {hour:02}:{minute:02}:{second:02} {} GMT", time.day(), time.year())
}

/// `path`, each once, in order.
pub fn paths<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut known: Vec<PathBuf> = paths.map(Path::to_owned).collect();
    known.sort();
    known.dedup();
    known
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_as_openssl_prints_them() {
        let time = |seconds| openssl_time(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!(time(0), "Jan  1 00:00:00 1970 GMT");
        assert_eq!(time(1_795_655_304), "Nov 26 01:08:24 2026 GMT");
        assert_eq!(time(u64::MAX), "never");
    }
}
