use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, DnValue, IsCa, KeyPair,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use super::*;

fn issued(subject: DistinguishedName, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name = DistinguishedName::new();
    ca.distinguished_name.push(DnType::OrganizationName, "Example");
    ca.distinguished_name.push(DnType::CommonName, "Client CA");
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();

    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = date_time_ymd(2026, 1, 2);
    params.not_after = date_time_ymd(2099, 12, 31);
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap().der().clone()
}

fn alice() -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Example");
    name.push(DnType::OrganizationalUnitName, "ops");
    name.push(DnType::CommonName, "alice");
    name
}

fn verified(leaf: CertificateDer<'static>) -> Client {
    Client::Verified { leaf, resumed: false }
}

fn session() -> TlsSession {
    TlsSession {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        group: Some("X25519"),
        sig_scheme: Some("ecdsa_secp256r1_sha256"),
        sni: Some("gw.example.org".into()),
        alpn: Some(b"mqtt".to_vec()),
        resumed: false,
        server: std::sync::Arc::new(crate::tls::identity::ServerCertificate {
            sig_alg: "ecdsa-with-SHA256",
            key_alg: "EC256".into(),
            sha256: [0; 32],
        }),
    }
}

fn expr(fetch: Fetch, converters: &[Converter]) -> Expr {
    Expr { fetch, converters: converters.to_vec() }
}

/// What an expression adds to a format, as text.
fn text(client: &Client, fetch: Fetch, converters: &[Converter]) -> Option<String> {
    let value = Source::new(None, client).sample(&expr(fetch, converters))?;
    Some(String::from_utf8(value.into_text()).unwrap())
}

/// The value of a certificate with the bytes `abc`, which no parser takes for a certificate.
fn of_abc(fetch: Fetch, converters: &[Converter]) -> Option<String> {
    text(&verified(CertificateDer::from(&b"abc"[..])), fetch, converters)
}

#[test]
fn names_are_written_as_haproxy_writes_them() {
    let client = verified(issued(alice(), |_| {}));
    assert_eq!(text(&client, Fetch::SslCSDn, &[]).unwrap(), "/O=Example/OU=ops/CN=alice");
    assert_eq!(text(&client, Fetch::SslCIDn, &[]).unwrap(), "/O=Example/CN=Client CA");
    assert_eq!(text(&client, Fetch::SslCSDn, &[Converter::Upper]).unwrap(), "/O=EXAMPLE/OU=OPS/CN=ALICE");
}

#[test]
fn attribute_types_have_openssl_short_names_or_dots() {
    let mut name = DistinguishedName::new();
    name.push(DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]), DnValue::Ia5String("a@b.c".try_into().unwrap()));
    name.push(DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 1]), "u1");
    name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "odd");
    name.push(DnType::CommonName, DnValue::BmpString("Zoë".try_into().unwrap()));
    let client = verified(issued(name, |_| {}));
    assert_eq!(text(&client, Fetch::SslCSDn, &[]).unwrap(), "/emailAddress=a@b.c/UID=u1/1.2.3.4=odd/CN=Zoë");
}

#[test]
fn a_name_with_a_control_character_has_no_value() {
    for odd in ["alice\0.evil", "alice\nbob", "\u{7f}"] {
        let mut name = alice();
        name.push(DnType::CommonName, odd);
        let client = verified(issued(name, |_| {}));
        let source = Source::new(None, &client);
        assert_eq!(source.sample(&expr(Fetch::SslCSDn, &[])), None, "{odd:?}");
        assert_eq!(source.certificate().unwrap().common_name(), None, "{odd:?}");
    }
}

#[test]
fn an_empty_name_has_no_value() {
    let client = verified(issued(DistinguishedName::new(), |_| {}));
    assert_eq!(text(&client, Fetch::SslCSDn, &[]), None);
    assert_eq!(text(&client, Fetch::SslCNotAfter, &[]).unwrap(), "991231000000Z");
}

#[test]
fn the_serial_has_no_sign_byte() {
    for (written, read) in [(vec![0x41, 0x42], vec![0x41, 0x42]), (vec![0xff, 1], vec![0xff, 1]), (vec![7], vec![7])] {
        let client = verified(issued(alice(), |params| {
            params.serial_number = Some(SerialNumber::from_slice(&written));
        }));
        let source = Source::new(None, &client);
        assert_eq!(source.sample(&expr(Fetch::SslCSerial, &[])), Some(Value::Bytes(read)));
    }
}

#[test]
fn dates_are_of_this_century() {
    let client = verified(issued(alice(), |_| {}));
    assert_eq!(text(&client, Fetch::SslCNotBefore, &[]).unwrap(), "260102000000Z");
    assert_eq!(text(&client, Fetch::SslCNotAfter, &[]).unwrap(), "991231000000Z");

    let client = verified(issued(alice(), |params| {
        params.not_before = date_time_ymd(1999, 12, 31);
        params.not_after = date_time_ymd(2100, 1, 1);
    }));
    assert_eq!(text(&client, Fetch::SslCNotBefore, &[]), None);
    assert_eq!(text(&client, Fetch::SslCNotAfter, &[]), None);
}

/// FIPS 180-4 examples for "abc".
#[test]
fn converters_give_the_published_values() {
    use Converter::*;
    let sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";
    assert_eq!(of_abc(Fetch::SslCSha1, &[Hex, Lower]).unwrap(), sha1);
    assert_eq!(of_abc(Fetch::SslCDer, &[Sha1, Hex, Lower]).unwrap(), sha1);
    assert_eq!(of_abc(Fetch::SslCDer, &[Sha1, Hex]).unwrap(), sha1.to_uppercase());
    for (bits, start) in [(224, "23097d22"), (256, "ba7816bf"), (384, "cb00753f"), (512, "ddaf35a1")] {
        let hex = of_abc(Fetch::SslCDer, &[Sha2(bits), Hex, Lower]).unwrap();
        assert!(hex.starts_with(start), "{bits}: {hex}");
        assert_eq!(hex.len(), usize::from(bits) / 4);
    }
    assert_eq!(fingerprint(b"abc"), b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/// RFC 4648, section 10.
#[test]
fn base64_gives_the_published_values() {
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(bytes.as_bytes()), text.as_bytes());
    }
    assert_eq!(base64(&[0xfb, 0xff]), b"+/8=");
}

/// The values that HAProxy 2.6 logs for this serial number.
#[test]
fn bytes_become_text_up_to_the_first_nul() {
    use Converter::*;
    let client = verified(issued(alice(), |params| {
        params.serial_number = Some(SerialNumber::from_slice(b"AB\0CDEF"));
    }));
    let serial = |converters: &[Converter]| text(&client, Fetch::SslCSerial, converters).unwrap();
    assert_eq!(serial(&[]), "AB");
    assert_eq!(serial(&[Lower]), "ab");
    assert_eq!(serial(&[Lower, Hex]), "6162");
    assert_eq!(serial(&[Hex]), "41420043444546");
    assert_eq!(serial(&[Base64]), "QUIAQ0RFRg==");
    assert_eq!(serial(&[Sha1, Hex]), "CD1C79F76B818A4457EFDF5AF3F683253904D24C");
    assert_eq!(serial(&[Lower, Sha1, Hex]), "DA23614E02469A0D7C7BD1BDAB5C9C474B1904DC");
}

#[test]
fn a_format_is_the_concatenation_of_its_parts() {
    let client = verified(CertificateDer::from(&b"A\0B"[..]));
    let session = session();
    let sample = |fetch, binary| Part::Sample { expr: expr(fetch, &[]), binary };
    let format = Format {
        parts: vec![
            Part::Literal(b"<\0".to_vec()),
            sample(Fetch::SslCDer, false),
            sample(Fetch::SslCDer, true),
            sample(Fetch::SslFcSni, false),
            sample(Fetch::SslCSDn, false),
            Part::Literal(b">".to_vec()),
        ],
    };
    assert_eq!(Source::new(Some(&session), &client).format(&format), b"<\0AA\0Bgw.example.org>");
    assert_eq!(Source::new(None, &Client::Anonymous).format(&format), b"<\0>");
}

#[test]
fn a_fetch_without_its_subject_has_no_value() {
    let certificate_fetches = [
        Fetch::SslCDer,
        Fetch::SslCSDn,
        Fetch::SslCIDn,
        Fetch::SslCSerial,
        Fetch::SslCSha1,
        Fetch::SslCNotBefore,
        Fetch::SslCNotAfter,
    ];
    let session = session();
    for client in [Client::NotAsked, Client::Anonymous] {
        let source = Source::new(Some(&session), &client);
        for fetch in certificate_fetches.clone() {
            // Not even a converter makes something of nothing.
            assert_eq!(source.sample(&expr(fetch, &[Converter::Sha2(256), Converter::Hex])), None);
        }
    }
    let plaintext = Source::new(None, &Client::NotAsked);
    let session_fetches = [Fetch::SslFcSni, Fetch::SslFcAlpn, Fetch::SslFcProtocol, Fetch::SslFcCipher];
    let values = ["gw.example.org", "mqtt", "TLSv1.3", "TLS_AES_128_GCM_SHA256"];
    for (fetch, value) in session_fetches.into_iter().zip(values) {
        let expr = expr(fetch, &[]);
        assert_eq!(plaintext.sample(&expr), None);
        let with_session = Source::new(Some(&session), &Client::NotAsked).sample(&expr);
        assert_eq!(with_session, Some(Value::Text(value.as_bytes().to_vec())));
    }
}

#[test]
fn an_unreadable_certificate_has_its_bytes_and_no_names() {
    assert_eq!(of_abc(Fetch::SslCSDn, &[]), None);
    assert_eq!(of_abc(Fetch::SslCSerial, &[]), None);
    assert_eq!(of_abc(Fetch::SslCDer, &[]).unwrap(), "abc");

    let mut trailing = issued(alice(), |_| {}).to_vec();
    trailing.push(0);
    assert_eq!(text(&verified(trailing.into()), Fetch::SslCSDn, &[]), None);
}
