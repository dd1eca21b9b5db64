//! What a certificate says, in the words of OpenSSL and HAProxy (manual 7.3.4, `ssl_c_*`). Certificates come from strangers:
//! every value is bytes of any length, and nothing here fails worse than with `None`.

use std::collections::HashSet;

use aws_lc_rs::digest;
use rustls::pki_types::UnixTime;
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::der_parser::oid::Oid;
use x509_parser::extensions::{GeneralName, SubjectAlternativeName};
use x509_parser::nom::Parser;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

/// A certificate that was parsed far enough to be described. Proves nothing.
#[derive(Debug)]
pub struct Certificate<'a> {
    der: &'a [u8],
    x509: X509Certificate<'a>,
}

/// The kind of a public key, as far as the choice of a server certificate depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// ECDSA.
    Ec,
    /// RSA.
    Rsa,
    /// Ed25519 and what may follow.
    Other,
}

impl<'a> Certificate<'a> {
    /// Parses `der`; `None` if it is not one X.509 certificate. Extensions are looked at only when they are asked for.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        match parser.parse(der) {
            Ok(([], x509)) => Some(Self { der, x509 }),
            _ => None,
        }
    }

    /// `/O=Example/OU=ops/CN=alice` (`ssl_c_s_dn`). `None` if a value has a NUL byte.
    pub fn subject(&self) -> Option<Vec<u8>> {
        one_line(self.x509.subject())
    }

    /// As [`Self::subject`], of the issuer (`ssl_c_i_dn`).
    pub fn issuer(&self) -> Option<Vec<u8>> {
        one_line(self.x509.issuer())
    }

    /// The `position`th value, from 1, of `entry` (`CN`, `ou`, `1.2.3.4`) in the subject; negative counts from the end
    /// (`ssl_c_s_dn(OU,-1)`). `None` if there is none, or it has a NUL byte.
    pub fn subject_entry(&self, entry: &str, position: i32) -> Option<&[u8]> {
        name_entry(self.x509.subject(), entry, position)
    }

    /// As [`Self::subject_entry`], of the issuer.
    pub fn issuer_entry(&self, entry: &str, position: i32) -> Option<&[u8]> {
        name_entry(self.x509.issuer(), entry, position)
    }

    /// The first common name of the subject: the one that HAProxy sends as PP2_SUBTYPE_SSL_CN.
    pub fn common_name(&self) -> Option<&[u8]> {
        self.subject_entry("CN", 1)
    }

    /// The serial number: magnitude, big endian, at least one byte, no leading zero (`ssl_c_serial`).
    pub fn serial(&self) -> Vec<u8> {
        let mut magnitude = self.x509.raw_serial().to_vec();
        if magnitude.first().is_some_and(|byte| byte & 0x80 != 0) {
            // Forbidden (RFC 5280, 4.1.2.2), but it occurs: minus the two's complement.
            let mut carry = true;
            for byte in magnitude.iter_mut().rev() {
                let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
                (*byte, carry) = (sum, overflow);
            }
        }
        let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
        magnitude.drain(..zeros.min(magnitude.len().saturating_sub(1)));
        magnitude
    }

    /// `YYMMDDhhmmssZ` (`ssl_c_notbefore`). `None` outside of the years 2000 to 2099, where two digits say nothing.
    pub fn not_before(&self) -> Option<String> {
        two_digit_time(self.x509.validity().not_before)
    }

    /// As [`Self::not_before`] (`ssl_c_notafter`).
    pub fn not_after(&self) -> Option<String> {
        two_digit_time(self.x509.validity().not_after)
    }

    /// First and last second of the validity.
    pub fn validity(&self) -> (UnixTime, UnixTime) {
        let validity = self.x509.validity();
        (unix_time(validity.not_before), unix_time(validity.not_after))
    }

    /// SHA-256 of the whole certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(self.der)
    }

    /// OpenSSL's short name of the algorithm that signed the certificate: `ecdsa-with-SHA256`, `RSA-SHA256`; `UNDEF` if
    /// unknown (`ssl_c_sig_alg`).
    pub fn signature_algorithm(&self) -> &'static str {
        let oid = self.x509.signature_algorithm.algorithm.to_id_string();
        find(SIGNATURE_ALGORITHMS, &oid).unwrap_or("UNDEF")
    }

    /// OpenSSL's short name of the key's algorithm: `id-ecPublicKey`, `rsaEncryption`; `UNDEF` if unknown
    /// (`ssl_c_key_alg`).
    pub fn key_algorithm(&self) -> &'static str {
        find(KEY_ALGORITHMS, &self.key().algorithm.algorithm.to_id_string()).unwrap_or("UNDEF")
    }

    /// Which kind of key it is.
    pub fn key_type(&self) -> KeyType {
        match self.key_algorithm() {
            "id-ecPublicKey" => KeyType::Ec,
            "rsaEncryption" | "RSASSA-PSS" => KeyType::Rsa,
            _ => KeyType::Other,
        }
    }

    /// Kind and bits in one word as in PP2_SUBTYPE_SSL_KEY_ALG: `RSA2048`, `EC256`; OpenSSL's name alone for others.
    pub fn key_summary(&self) -> String {
        match self.key_type() {
            KeyType::Rsa => format!("RSA{}", rsa_bits(self.key())),
            KeyType::Ec => format!("EC{}", ec_bits(self.key())),
            KeyType::Other => self.key_algorithm().to_owned(),
        }
    }

    /// The names that a server certificate is for, as HAProxy collects them: every DNS SAN and every CN. Names that no
    /// SNI can be (NUL, blanks, not ASCII) are left out.
    pub fn server_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        let mut add = |name: &[u8]| {
            if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
                return;
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if seen.insert(name.clone()) {
                names.push(name);
            }
        };
        let alternatives = self.x509.extensions().iter().find(|extension| extension.oid.to_id_string() == "2.5.29.17");
        if let Some((_, alternatives)) = alternatives.and_then(|san| SubjectAlternativeName::from_der(san.value).ok()) {
            for name in &alternatives.general_names {
                if let GeneralName::DNSName(name) = name {
                    add(name.as_bytes());
                }
            }
        }
        for attribute in self.x509.subject().iter_common_name() {
            add(attribute.as_slice());
        }
        names
    }

    pub(super) fn raw_subject(&self) -> &'a [u8] {
        self.x509.tbs_certificate.subject.as_raw()
    }

    pub(super) fn raw_issuer(&self) -> &'a [u8] {
        self.x509.tbs_certificate.issuer.as_raw()
    }

    pub(super) fn key(&self) -> &SubjectPublicKeyInfo<'a> {
        &self.x509.tbs_certificate.subject_pki
    }

    /// Subject for a message: escaped, NUL and all, and cut.
    pub(super) fn printed_subject(&self) -> String {
        printed_name(self.x509.subject())
    }

    /// Issuer for a message.
    pub(super) fn printed_issuer(&self) -> String {
        printed_name(self.x509.issuer())
    }

    /// Serial for a message: hexadecimal, at most 20 bytes (RFC 5280, 4.1.2.2).
    pub(super) fn printed_serial(&self) -> String {
        let serial = self.serial();
        let cut = if serial.len() > 20 { "..." } else { "" };
        serial.iter().take(20).map(|byte| format!("{byte:02X}")).collect::<String>() + cut
    }
}

/// Longest name in a message, in bytes.
const PRINTED_NAME_MAX: usize = 256;

/// A distinguished name for a message: `/O=Example/CN=alice`, escaped and cut.
pub(super) fn printed_name(name: &X509Name<'_>) -> String {
    let mut line = Vec::new();
    for (entry, value) in entries(name) {
        line.extend_from_slice(format!("/{entry}=").as_bytes());
        line.extend_from_slice(value);
        if line.len() > PRINTED_NAME_MAX {
            break;
        }
    }
    escape(&line, PRINTED_NAME_MAX)
}

/// As [`printed_name`], of a name in DER.
pub(super) fn printed_raw_name(der: &[u8]) -> String {
    X509Name::from_der(der).map_or_else(|_| "?".to_owned(), |(_, name)| printed_name(&name))
}

/// Text from a stranger for a message: printable ASCII as it is, everything else, `"` and `#` as `#XX` like in HAProxy's
/// logs. At most `max` bytes of the text are looked at; `...` tells that there was more.
pub fn escape(text: &[u8], max: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(max));
    for byte in text.iter().take(max) {
        match byte {
            b'"' | b'#' => escaped.push_str(&format!("#{byte:02X}")),
            0x20..=0x7e => escaped.push(char::from(*byte)),
            _ => escaped.push_str(&format!("#{byte:02X}")),
        }
    }
    if text.len() > max {
        escaped.push_str("...");
    }
    escaped
}

/// `2027-01-31`.
pub(super) fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    match seconds.and_then(|seconds| ASN1Time::from_timestamp(seconds).ok()) {
        Some(time) => {
            let time = time.to_datetime();
            format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day())
        }
        None => "never".to_owned(),
    }
}

/// Times before 1970 become 1970: long past, either way.
pub(super) fn unix_time(time: ASN1Time) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0)))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn entries<'n>(name: &'n X509Name<'_>) -> impl Iterator<Item = (String, &'n [u8])> {
    name.iter_attributes().map(|attribute| (entry_name(attribute.attr_type()), attribute.as_slice()))
}

fn one_line(name: &X509Name<'_>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    for (entry, value) in entries(name) {
        if value.contains(&0) {
            return None;
        }
        line.extend_from_slice(format!("/{entry}=").as_bytes());
        line.extend_from_slice(value);
    }
    Some(line)
}

fn name_entry<'n>(name: &'n X509Name<'_>, wanted: &str, position: i32) -> Option<&'n [u8]> {
    let mut matching: Vec<&[u8]> =
        entries(name).filter(|(entry, _)| entry.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).collect();
    if position < 0 {
        matching.reverse();
    }
    let index = usize::try_from(position.unsigned_abs()).ok()?.checked_sub(1)?;
    matching.get(index).copied().filter(|value| !value.contains(&0))
}

fn entry_name(oid: &Oid<'_>) -> String {
    let dotted = oid.to_id_string();
    find(NAME_ENTRIES, &dotted).map_or(dotted, str::to_owned)
}

fn two_digit_time(time: ASN1Time) -> Option<String> {
    let time = time.to_datetime();
    let year = time.year();
    if !(2000..2100).contains(&year) {
        return None;
    }
    let (month, day) = (u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    Some(format!("{:02}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z", year - 2000))
}

fn rsa_bits(key: &SubjectPublicKeyInfo<'_>) -> usize {
    let Ok(x509_parser::public_key::PublicKey::RSA(key)) = key.parsed() else { return 0 };
    let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = &key.modulus[zeros..];
    modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize)
}

fn ec_bits(key: &SubjectPublicKeyInfo<'_>) -> usize {
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    match curve.map(|oid| oid.to_id_string()).as_deref() {
        Some("1.2.840.10045.3.1.7") => 256,
        Some("1.3.132.0.34") => 384,
        Some("1.3.132.0.35") => 521,
        _ => key.subject_public_key.data.len().saturating_sub(1) / 2 * 8,
    }
}

fn find(table: &[(&str, &'static str)], oid: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name)
}

/// OpenSSL's short names (`crypto/objects/objects.txt`).
const NAME_ENTRIES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

const SIGNATURE_ALGORITHMS: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.4", "RSA-MD5"),
    ("1.2.840.113549.1.1.5", "RSA-SHA1"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.113549.1.1.11", "RSA-SHA256"),
    ("1.2.840.113549.1.1.12", "RSA-SHA384"),
    ("1.2.840.113549.1.1.13", "RSA-SHA512"),
    ("1.2.840.113549.1.1.14", "RSA-SHA224"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.2.840.10040.4.3", "DSA-SHA1"),
    ("2.16.840.1.101.3.4.3.2", "dsa_with_SHA256"),
    ("1.3.101.112", "ED25519"),
    ("1.3.101.113", "ED448"),
    ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
    ("2.16.840.1.101.3.4.3.19", "ML-DSA-87"),
];

const KEY_ALGORITHMS: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.1", "rsaEncryption"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.10045.2.1", "id-ecPublicKey"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.3.101.112", "ED25519"),
    ("1.3.101.113", "ED448"),
    ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
    ("2.16.840.1.101.3.4.3.19", "ML-DSA-87"),
];

#[cfg(test)]
mod tests {
    use rcgen::{CustomExtension, DnType, DnValue, SerialNumber, date_time_ymd};

    use super::*;
    use crate::tls::test_pki::{Ca, ec_key, rsa_key};

    fn named(values: &[(DnType, &str)]) -> Vec<u8> {
        let issued = Ca::root("Root").issue(ec_key(), |params| {
            for (entry, value) in values {
                params.distinguished_name.push(entry.clone(), DnValue::Utf8String((*value).to_owned()));
            }
        });
        issued.der.to_vec()
    }

    #[test]
    fn names_are_written_on_one_line_as_openssl_does() {
        let second_cn = DnType::CustomDnType(vec![2, 5, 4, 3]);
        let strange = DnType::CustomDnType(vec![1, 2, 3, 4]);
        let der = named(&[
            (DnType::OrganizationName, "Example"),
            (DnType::OrganizationalUnitName, "ops"),
            (DnType::CommonName, "alice"),
            (second_cn, "bob"),
            (strange, "x"),
        ]);
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.subject().unwrap(), b"/O=Example/OU=ops/CN=alice/CN=bob/1.2.3.4=x");
        assert_eq!(certificate.issuer().unwrap(), b"/O=Example/CN=Root");
        assert_eq!(certificate.common_name(), Some(b"alice".as_slice()));
        assert_eq!(certificate.subject_entry("cn", 2), Some(b"bob".as_slice()));
        assert_eq!(certificate.subject_entry("CN", -1), Some(b"bob".as_slice()));
        assert_eq!(certificate.subject_entry("CN", 3), None);
        assert_eq!(certificate.subject_entry("CN", 0), None);
        assert_eq!(certificate.subject_entry("1.2.3.4", 1), Some(b"x".as_slice()));
        assert_eq!(certificate.subject_entry("L", 1), None);
        assert_eq!(certificate.issuer_entry("CN", 1), Some(b"Root".as_slice()));
    }

    #[test]
    fn a_nul_byte_gives_no_value_but_can_be_printed() {
        let der = named(&[(DnType::CommonName, "root\0.example"), (DnType::LocalityName, "here")]);
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.subject(), None);
        assert_eq!(certificate.common_name(), None);
        assert_eq!(certificate.subject_entry("L", 1), Some(b"here".as_slice()));
        assert_eq!(certificate.printed_subject(), "/CN=root#00.example/L=here");
    }

    #[test]
    fn hostile_names_are_escaped_and_cut() {
        let long = "A".repeat(65_000);
        let der = named(&[(DnType::CommonName, &long)]);
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.common_name().unwrap().len(), 65_000);
        let printed = certificate.printed_subject();
        assert!(printed.starts_with("/CN=AAA") && printed.ends_with("A...") && printed.len() == 259, "{printed}");
        let der = named(&[(DnType::CommonName, "a\nERROR \"x\"#\u{e9}")]);
        assert_eq!(Certificate::parse(&der).unwrap().printed_subject(), "/CN=a#0AERROR #22x#22#23#C3#A9");
        assert_eq!(Certificate::parse(&named(&[(DnType::CommonName, "")])).unwrap().common_name(), Some(&b""[..]));
        assert_eq!(Certificate::parse(&named(&[])).unwrap().subject().unwrap(), b"");
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        let der = named(&[]);
        assert!(Certificate::parse(&der[..der.len() - 1]).is_none());
        assert!(Certificate::parse(&[der.as_slice(), b"x"].concat()).is_none());
        assert!(Certificate::parse(b"").is_none());
        for index in 0..der.len() {
            let mut damaged = der.clone();
            damaged[index] ^= 0xff;
            if let Some(certificate) = Certificate::parse(&damaged) {
                // Must not panic, whatever they answer.
                let _ = (certificate.subject(), certificate.serial(), certificate.not_after());
                let _ = (certificate.key_summary(), certificate.server_names(), certificate.printed_subject());
            }
        }
    }

    #[test]
    fn serials_are_magnitudes_without_leading_zeros() {
        let serial = |bytes: &[u8]| {
            let issued = Ca::root("Root")
                .issue(ec_key(), |params| params.serial_number = Some(SerialNumber::from_slice(bytes)));
            let certificate = Certificate::parse(&issued.der).unwrap();
            (certificate.serial(), certificate.printed_serial())
        };
        assert_eq!(serial(&[0x80, 1]), (vec![0x80, 1], "8001".to_owned()));
        assert_eq!(serial(&[0, 0, 10]), (vec![10], "0A".to_owned()));
        assert_eq!(serial(&[0]), (vec![0], "00".to_owned()));
        assert_eq!(serial(&[0x7f; 30]).1, format!("{}...", "7F".repeat(20)));
    }

    #[test]
    fn times_have_two_digit_years() {
        let time = |year| two_digit_time(ASN1Time::new(date_time_ymd(year, 12, 3)));
        assert_eq!(time(2026).as_deref(), Some("261203000000Z"));
        assert_eq!(time(2051).as_deref(), Some("511203000000Z"));
        assert_eq!(time(1999), None);
        assert_eq!(time(2100), None);
        assert_eq!(date(unix_time(ASN1Time::new(date_time_ymd(2027, 1, 31)))), "2027-01-31");
        assert_eq!(date(UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::MAX))), "never");
    }

    #[test]
    fn algorithms_have_the_names_of_openssl() {
        let ca = Ca::root("Root");
        let facts = |key| {
            let issued = ca.issue(key, |_| ());
            let certificate = Certificate::parse(&issued.der).unwrap();
            let algorithms = (certificate.signature_algorithm(), certificate.key_algorithm());
            (algorithms, certificate.key_summary(), certificate.key_type())
        };
        let by_ec = "ecdsa-with-SHA256";
        assert_eq!(facts(ec_key()), ((by_ec, "id-ecPublicKey"), "EC256".to_owned(), KeyType::Ec));
        assert_eq!(facts(rsa_key()), ((by_ec, "rsaEncryption"), "RSA2048".to_owned(), KeyType::Rsa));
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(facts(key), ((by_ec, "ED25519"), "ED25519".to_owned(), KeyType::Other));
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(facts(key).1, "EC384");
    }

    #[test]
    fn server_names_are_sans_and_cn_in_lower_case() {
        let issued = Ca::root("Root").issue(ec_key(), |params| {
            let sans = vec!["A.example".to_owned(), "*.b.example".to_owned(), "192.0.2.1".to_owned()];
            params.subject_alt_names = rcgen::CertificateParams::new(sans).unwrap().subject_alt_names;
            params.distinguished_name.push(DnType::CommonName, "C.example");
        });
        let certificate = Certificate::parse(&issued.der).unwrap();
        assert_eq!(certificate.server_names(), ["a.example", "*.b.example", "c.example"]);
        // SEQUENCE { [2] "a\0b", [2] "ok" }
        let san = vec![0x30, 9, 0x82, 3, b'a', 0, b'b', 0x82, 2, b'o', b'k'];
        let issued = Ca::root("Root").issue(ec_key(), |params| {
            params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], san));
            params.distinguished_name.push(DnType::CommonName, "My Server");
        });
        assert_eq!(Certificate::parse(&issued.der).unwrap().server_names(), ["ok"]);
    }
}
