//! What a certificate says, in the words of OpenSSL and HAProxy (manual 7.3.4, `ssl_c_*`). Certificates come from strangers:
//! every value is bytes of any length, and nothing here fails worse than with `None`.
//!
//! Others authorize by these values, so one that two programs could read differently is none at all: no value authorizes
//! nobody. HAProxy is laxer; it hands on a name with a NUL or a line feed in it. Messages show everything, escaped.

use std::collections::HashSet;

use aws_lc_rs::digest;
use rustls::pki_types::UnixTime;
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::extensions::{BasicConstraints, ExtendedKeyUsage, GeneralName, KeyUsage, SubjectAlternativeName};
use x509_parser::nom::Parser;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, SubjectPublicKeyInfo, X509Name, X509Version};

/// A certificate that was parsed far enough to be described. Proves nothing.
#[derive(Debug)]
pub struct Certificate<'a> {
    der: &'a [u8],
    x509: X509Certificate<'a>,
}

/// The kind of a public key, as far as the choice of a server certificate depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeyType {
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

    /// `/O=Example/OU=ops/CN=alice` (`ssl_c_s_dn`): the entries in the certificate's order and nothing escaped. `None` if the
    /// name is empty, or an entry has no value.
    pub fn subject(&self) -> Option<String> {
        one_line(self.x509.subject())
    }

    /// As [`Self::subject`], of the issuer (`ssl_c_i_dn`).
    pub fn issuer(&self) -> Option<String> {
        one_line(self.x509.issuer())
    }

    /// The first common name of the subject: the one that HAProxy sends as PP2_SUBTYPE_SSL_CN. `None` if there is none, or it
    /// has no value.
    pub fn common_name(&self) -> Option<String> {
        entry_value(self.x509.subject().iter_common_name().next()?)
    }

    /// The serial number without a sign byte, big endian (`ssl_c_serial`). `None` for a negative one (RFC 5280, 4.1.2.2 forbids
    /// them) and for one with more zeros in front than its sign needs (X.690, 8.3.2).
    pub fn serial(&self) -> Option<&'a [u8]> {
        match self.x509.raw_serial() {
            [] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..] => None,
            [0, magnitude @ ..] if !magnitude.is_empty() => Some(magnitude),
            magnitude => Some(magnitude),
        }
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

    /// OpenSSL's short name of the algorithm that signed the certificate: `ecdsa-with-SHA256`, `RSA-SHA256`; `UNDEF` if
    /// unknown.
    pub(super) fn signature_algorithm(&self) -> &'static str {
        let oid = self.x509.signature_algorithm.algorithm.to_id_string();
        find(SIGNATURE_ALGORITHMS, &oid).unwrap_or("UNDEF")
    }

    /// OpenSSL's short name of the key's algorithm: `id-ecPublicKey`, `rsaEncryption`; `UNDEF` if unknown.
    fn key_algorithm(&self) -> &'static str {
        find(KEY_ALGORITHMS, &self.key().algorithm.algorithm.to_id_string()).unwrap_or("UNDEF")
    }

    /// Which kind of key it is.
    pub(super) fn key_type(&self) -> KeyType {
        match self.key_algorithm() {
            "id-ecPublicKey" => KeyType::Ec,
            "rsaEncryption" | "RSASSA-PSS" => KeyType::Rsa,
            _ => KeyType::Other,
        }
    }

    /// Kind and bits in one word as in PP2_SUBTYPE_SSL_KEY_ALG: `RSA2048`, `EC256`; OpenSSL's name alone for others.
    pub(super) fn key_summary(&self) -> String {
        match self.key_type() {
            KeyType::Rsa => format!("RSA{}", rsa_bits(self.key())),
            KeyType::Ec => format!("EC{}", ec_bits(self.key())),
            KeyType::Other => self.key_algorithm().to_owned(),
        }
    }

    /// The names that a server certificate is for, as HAProxy collects them: every DNS SAN and every CN. Names that no
    /// SNI can be (NUL, blanks, not ASCII) are left out.
    pub(super) fn server_names(&self) -> Vec<String> {
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
        let alternatives = self.extension("2.5.29.17");
        if let Some((_, alternatives)) = alternatives.and_then(|san| SubjectAlternativeName::from_der(san).ok()) {
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

    /// The serial number's content octets as they stand.
    pub(super) fn raw_serial(&self) -> &'a [u8] {
        self.x509.raw_serial()
    }

    /// Version 1: without extensions (RFC 5280, 4.1.2.1).
    pub(super) fn is_version_1(&self) -> bool {
        self.x509.version() == X509Version::V1
    }

    /// Subject and issuer are the same. Proves nothing.
    pub(super) fn is_self_issued(&self) -> bool {
        self.raw_subject() == self.raw_issuer()
    }

    /// May its key sign certificates, as OpenSSL's `X509_check_ca` answers? A root of version 1 may.
    pub(super) fn may_sign_certificates(&self) -> bool {
        let usage = self.key_usage();
        if usage.is_some_and(|usage| !usage.is_some_and(|usage| usage.key_cert_sign())) {
            return false;
        }
        match self.extension("2.5.29.19") {
            Some(constraints) => BasicConstraints::from_der(constraints).is_ok_and(|(_, constraints)| constraints.ca),
            None => usage.is_some() || self.is_version_1() && self.is_self_issued(),
        }
    }

    /// May its key sign CRLs? Without the extension keyUsage it may.
    pub(super) fn may_sign_crls(&self) -> bool {
        self.key_usage().is_none_or(|usage| usage.is_some_and(|usage| usage.crl_sign()))
    }

    /// May it be shown by a client: digitalSignature or keyAgreement, and clientAuth, as far as it says anything about usage
    /// (OpenSSL's `check_purpose_ssl_client`)?
    pub(super) fn may_be_client(&self) -> bool {
        let signs = |usage: KeyUsage| usage.digital_signature() || usage.key_agreement();
        let extended = self.extension("2.5.29.37").map(ExtendedKeyUsage::from_der);
        self.key_usage().is_none_or(|usage| usage.is_some_and(signs))
            && extended.is_none_or(|usage| usage.is_ok_and(|(_, usage)| usage.client_auth))
    }

    /// Has it an extension that must be understood, and is not here?
    pub(super) fn has_unknown_critical_extension(&self) -> bool {
        const KNOWN: &[&str] = &["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"];
        let is_unknown = |oid: &str| !KNOWN.contains(&oid);
        self.x509.extensions().iter().any(|one| one.critical && is_unknown(&one.oid.to_id_string()))
    }

    /// Does it limit the names in the certificates below it?
    pub(super) fn has_name_constraints(&self) -> bool {
        self.extension("2.5.29.30").is_some()
    }

    /// keyUsage; `None` without the extension, `Some(None)` if it is damaged.
    fn key_usage(&self) -> Option<Option<KeyUsage>> {
        Some(KeyUsage::from_der(self.extension("2.5.29.15")?).ok().map(|(_, usage)| usage))
    }

    /// The extended key usage OCSPSigning (RFC 6960, 4.2.2.2): it may sign responses for its issuer.
    pub(super) fn may_sign_ocsp(&self) -> bool {
        let usage = self.extension("2.5.29.37");
        usage.and_then(|value| ExtendedKeyUsage::from_der(value).ok()).is_some_and(|(_, usage)| usage.ocsp_signing)
    }

    fn extension(&self, oid: &str) -> Option<&'a [u8]> {
        self.x509.extensions().iter().find(|extension| extension.oid.to_id_string() == oid).map(|found| found.value)
    }

    /// What it was parsed from.
    pub(super) fn der(&self) -> &'a [u8] {
        self.der
    }

    /// The alternative names in OpenSSL's words: `DNS:a.example`, `IP Address:192.0.2.1`; not escaped.
    pub fn alternative_names(&self) -> Vec<String> {
        let names = self.extension("2.5.29.17").and_then(|value| SubjectAlternativeName::from_der(value).ok());
        let Some((_, names)) = names else {
            return Vec::new();
        };
        let printed = names.general_names.iter().map(|name| match name {
            GeneralName::DNSName(name) => format!("DNS:{name}"),
            GeneralName::RFC822Name(name) => format!("email:{name}"),
            GeneralName::URI(name) => format!("URI:{name}"),
            GeneralName::IPAddress([a, b, c, d]) => format!("IP Address:{}", std::net::Ipv4Addr::new(*a, *b, *c, *d)),
            GeneralName::IPAddress(bytes) => match <[u8; 16]>::try_from(*bytes) {
                Ok(address) => format!("IP Address:{}", std::net::Ipv6Addr::from(address)),
                Err(_) => "IP Address:<invalid>".to_owned(),
            },
            _ => "othername:<unsupported>".to_owned(),
        });
        printed.collect()
    }

    /// The alternative names for a message, escaped: `DNS:a.example, IP Address:192.0.2.1`.
    pub(super) fn printed_alternatives(&self) -> String {
        escape(self.alternative_names().join(", ").as_bytes(), PRINTED_ALTERNATIVES_MAX)
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
    pub fn printed_subject(&self) -> String {
        printed_name(self.x509.subject())
    }

    /// Issuer for a message.
    pub fn printed_issuer(&self) -> String {
        printed_name(self.x509.issuer())
    }

    /// Serial for a message: hexadecimal, at most 20 bytes (RFC 5280, 4.1.2.2); `?` in front of one that [`Self::serial`] does
    /// not accept, whose bytes are shown as they stand.
    pub fn printed_serial(&self) -> String {
        let (mark, serial) = self.serial().map_or(("?", self.x509.raw_serial()), |serial| ("", serial));
        let cut = if serial.len() > 20 { "..." } else { "" };
        let digits: String = serial.iter().take(20).map(|byte| format!("{byte:02X}")).collect();
        format!("{mark}{digits}{cut}")
    }
}

/// Most of the alternative names in a message, in bytes.
const PRINTED_ALTERNATIVES_MAX: usize = 8192;
/// Longest name in a message, in bytes.
const PRINTED_NAME_MAX: usize = 256;

/// A distinguished name for a message: `/O=Example/CN=alice`, escaped and cut.
pub(super) fn printed_name(name: &X509Name<'_>) -> String {
    let mut line = Vec::new();
    for entry in name.iter_attributes() {
        line.extend_from_slice(format!("/{}=", entry_name(entry)).as_bytes());
        line.extend_from_slice(entry.as_slice());
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

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn one_line(name: &X509Name<'_>) -> Option<String> {
    let mut line = String::new();
    for entry in name.iter_attributes() {
        line.push_str(&format!("/{}={}", entry_name(entry), entry_value(entry)?));
    }
    (!line.is_empty()).then_some(line)
}

/// OpenSSL's short name of the entry's type, else its number in dots.
fn entry_name(entry: &AttributeTypeAndValue<'_>) -> String {
    let dotted = entry.attr_type().to_id_string();
    find(NAME_ENTRIES, &dotted).map_or(dotted, str::to_owned)
}

/// The value of a name entry, if every program reads the same text in it.
fn entry_value(entry: &AttributeTypeAndValue<'_>) -> Option<String> {
    let value = entry.attr_value();
    let text = match value.tag() {
        Tag::Utf8String => std::str::from_utf8(value.data).ok()?.to_owned(),
        // ASCII by the standard (T61String: much more), Latin-1 to OpenSSL, UTF-8 to others: only what all read alike.
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString | Tag::T61String
            if value.data.is_ascii() =>
        {
            std::str::from_utf8(value.data).ok()?.to_owned()
        }
        Tag::BmpString => utf16(value.data)?,
        _ => return None,
    };
    // To one program a NUL ends the text, to another a line feed ends the record.
    (!text.chars().any(char::is_control)).then_some(text)
}

fn utf16(data: &[u8]) -> Option<String> {
    if data.len() % 2 != 0 {
        return None;
    }
    let units = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).collect::<Result<String, _>>().ok()
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
    let Ok(x509_parser::public_key::PublicKey::RSA(key)) = key.parsed() else {
        return 0;
    };
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
    ("2.5.4.20", "telephoneNumber"),
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
mod tests;
