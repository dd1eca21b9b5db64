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
    assert_eq!(certificate.subject().unwrap(), "/O=Example/OU=ops/CN=alice/CN=bob/1.2.3.4=x");
    assert_eq!(certificate.issuer().unwrap(), "/O=Example/CN=Root");
    assert_eq!(certificate.common_name().unwrap(), "alice");
}

#[test]
fn a_control_character_gives_no_value_but_can_be_printed() {
    for (odd, printed) in [("root\0.example", "root#00.example"), ("a\nb", "a#0Ab"), ("\u{85}", "#C2#85")] {
        let der = named(&[(DnType::CommonName, odd), (DnType::LocalityName, "here")]);
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!((certificate.subject(), certificate.common_name()), (None, None), "{odd:?}");
        assert_eq!(certificate.printed_subject(), format!("/CN={printed}/L=here"));
    }
}

/// `der` with `from`, which is in there once, replaced by `to`.
fn patched(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<usize> = (0..der.len()).filter(|at| der[*at..].starts_with(from)).collect();
    let [place] = places[..] else { panic!("{} places", places.len()) };
    let mut patched = der.to_vec();
    patched[place..place + to.len()].copy_from_slice(to);
    patched
}

#[test]
fn a_text_that_can_be_read_in_two_ways_has_no_value() {
    const UTF8: u8 = 12;
    // NumericString, PrintableString, T61String, IA5String, VisibleString
    for tag in [18, 19, 20, 22, 26] {
        for (text, value) in [("Zoe", Some("Zoe".to_owned())), ("Zo\u{eb}", None)] {
            let der = named(&[(DnType::CommonName, text)]);
            let length = u8::try_from(text.len()).unwrap();
            let der = patched(&der, &[&[UTF8, length], text.as_bytes()].concat(), &[tag, length]);
            assert_eq!(Certificate::parse(&der).unwrap().common_name(), value, "tag {tag}");
        }
    }
    let utf8 = named(&[(DnType::CommonName, "Zo\u{eb}")]);
    assert_eq!(Certificate::parse(&utf8).unwrap().common_name().unwrap(), "Zo\u{eb}");
    let broken = patched(&utf8, &[UTF8, 4, b'Z', b'o', 0xc3, 0xab], &[UTF8, 4, b'Z', b'o', 0xc3, b'a']);
    assert_eq!(Certificate::parse(&broken).unwrap().common_name(), None);
    // UniversalString
    let universal = patched(&utf8, &[UTF8, 4, b'Z', b'o', 0xc3, 0xab], &[28, 4, 0, 0, 0, b'Z']);
    assert_eq!(Certificate::parse(&universal).unwrap().common_name(), None);
}

#[test]
fn bmp_strings_are_utf_16() {
    const BMP: u8 = 30;
    let der = named(&[(DnType::CommonName, "12345678")]);
    let common_name = |value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap();
        let value = [&[BMP, length], value].concat();
        let der = patched(&der, b"\x0c\x0812345678", &value);
        Certificate::parse(&der).unwrap().common_name()
    };
    assert_eq!(common_name(b"\0Z\0o\0\xeb\0!").unwrap(), "Zo\u{eb}!");
    // Two halves of a character, then one half alone, then a NUL.
    assert_eq!(common_name(b"\xd8\x3d\xde\0\0!\0!").unwrap(), "\u{1f600}!!");
    assert_eq!(common_name(b"\xd8\x3d\0!\0!\0!"), None);
    assert_eq!(common_name(b"\0a\0\0\0b\0c"), None);
    assert_eq!(utf16(b"\0a\0"), None);
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
    assert_eq!(Certificate::parse(&named(&[(DnType::CommonName, "")])).unwrap().common_name().unwrap(), "");
    assert_eq!(Certificate::parse(&named(&[])).unwrap().subject(), None);
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
fn serials_are_positive_and_without_sign_byte() {
    let with_serial = |bytes: &[u8]| {
        Ca::root("Root").issue(ec_key(), |params| params.serial_number = Some(SerialNumber::from_slice(bytes))).der
    };
    let serial = |der: &[u8]| {
        let certificate = Certificate::parse(der).unwrap();
        (certificate.serial().map(<[u8]>::to_vec), certificate.printed_serial())
    };
    assert_eq!(serial(&with_serial(&[0x80, 1])), (Some(vec![0x80, 1]), "8001".to_owned()));
    assert_eq!(serial(&with_serial(&[0, 0, 10])), (Some(vec![10]), "0A".to_owned()));
    assert_eq!(serial(&with_serial(&[0])), (Some(vec![0]), "00".to_owned()));
    assert_eq!(serial(&with_serial(&[0x7f; 30])).1, format!("{}...", "7F".repeat(20)));
    let plain = with_serial(b"\x01serial");
    let negative = patched(&plain, b"\x01serial", b"\xffserial");
    assert_eq!(serial(&negative), (None, "?FF73657269616C".to_owned()));
    let padded = patched(&plain, b"\x01serial", b"\x00serial");
    assert_eq!(serial(&padded), (None, "?0073657269616C".to_owned()));
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
