//! What HAProxy's `ssl_c_*` fetches say about a certificate, byte for byte.
//!
//! One deviation, on purpose: a name entry with a control character in it (NUL, line feed) yields no value instead of a
//! shortened or a raw one. Such an entry exists to be read differently by two programs, and no value authorizes nobody.

use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// OpenSSL's short names of the attribute types that occur in distinguished names; every other type is written in dots.
const SHORT_NAMES: [(&str, &str); 26] = [
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
];

/// `ssl_c_s_dn`, `ssl_c_i_dn`: `/O=Example/CN=alice`, the entries in the certificate's order and nothing escaped. `None`: the
/// name is empty, or an entry has no value.
pub(super) fn one_line(name: &X509Name<'_>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
        let value = entry(attribute)?;
        line.push(b'/');
        line.extend_from_slice(short.unwrap_or(&oid).as_bytes());
        line.push(b'=');
        line.extend_from_slice(&value);
    }
    (!line.is_empty()).then_some(line)
}

/// PP2_SUBTYPE_SSL_CN: the first common name, UTF-8. `None`: there is none, or it has no value.
pub(super) fn common_name(name: &X509Name<'_>) -> Option<Vec<u8>> {
    entry(name.iter_common_name().next()?)
}

/// `ssl_c_serial`: the bytes of the number without a sign byte. `None` for a negative one (RFC 5280, 4.1.2.2 forbids them).
pub(super) fn serial<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    match certificate.raw_serial() {
        [0, rest @ ..] if !rest.is_empty() => Some(rest),
        [first, ..] if *first >= 0x80 => None,
        [] => None,
        bytes => Some(bytes),
    }
}

/// `ssl_c_notbefore`, `ssl_c_notafter`: `YYMMDDhhmmssZ`. `None` outside of this century, as in HAProxy.
pub(super) fn date(time: &ASN1Time) -> Option<Vec<u8>> {
    let date = time.to_datetime();
    if !(2000..2100).contains(&date.year()) {
        return None;
    }
    Some(
        format!(
            "{:02}{:02}{:02}{:02}{:02}{:02}Z",
            date.year() - 2000,
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second()
        )
        .into_bytes(),
    )
}

/// The value of a name entry as UTF-8 without control characters.
fn entry(attribute: &AttributeTypeAndValue<'_>) -> Option<Vec<u8>> {
    let value = attribute.attr_value();
    let text = match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            std::str::from_utf8(value.data).ok()?.to_owned()
        }
        // Latin-1 to most writers, something else to the standard: only what both read alike.
        Tag::T61String if value.data.is_ascii() => std::str::from_utf8(value.data).ok()?.to_owned(),
        Tag::BmpString => utf16(value.data)?,
        _ => return None,
    };
    (!text.chars().any(char::is_control)).then(|| text.into_bytes())
}

fn utf16(data: &[u8]) -> Option<String> {
    if data.len() % 2 != 0 {
        return None;
    }
    let units = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).collect::<Result<String, _>>().ok()
}
