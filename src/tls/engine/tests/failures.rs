//! What a client and a log are told about a handshake that fails.

use super::*;

#[track_caller]
fn alert_in(answer: &[u8], code: u8) {
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, code]);
}

/// Bytes that are no client's of ours, whole and byte by byte.
#[track_caller]
fn answer_to(bytes: &[u8]) -> (Vec<u8>, Box<Failure>) {
    let world = World::new();
    let policy = world.policy(Verify::Required);
    let mut answers = [bytes.len(), 1].map(|chunk| {
        let mut server = Server::new(&policy);
        let failure = bytes.chunks(chunk).find_map(|piece| server.read(piece, world.at(0)).err());
        (server.take_output(), failure.expect("a failure"))
    });
    assert_eq!(answers[0].0, answers[1].0);
    assert_eq!(answers[0].1.reason, answers[1].1.reason);
    std::mem::replace(&mut answers[0], (Vec::new(), Failure::words(HandshakeFailure::Internal, "")))
}

fn hello_of(version: [u8; 2], suites: &[u8], extensions: &[u8]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend((suites.len() as u16).to_be_bytes());
    body.extend(suites);
    body.extend([1, 0]);
    if !extensions.is_empty() {
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
    }
    let mut hello = vec![1, 0];
    hello.extend((body.len() as u16).to_be_bytes());
    hello.extend(body);
    hello
}

fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

#[test]
fn a_client_older_than_tls_1_2_is_told_so() {
    for minor in [0, 1, 2] {
        let (answer, failure) = answer_to(&record(22, &hello_of([3, minor], &[0xc0, 0x13], &[])));
        alert_in(&answer, 70);
        assert_eq!(failure.alert, Some("protocol_version"));
        assert_eq!(failure.reason, "the client knows no TLS version newer than 1.1");
    }
    // TLS 1.2 without signature_algorithms, which rustls wants, is something else.
    let (answer, failure) = answer_to(&record(22, &hello_of([3, 3], &[0xc0, 0x2f], &[])));
    alert_in(&answer, 40);
    assert_eq!(failure.alert, Some("handshake_failure"));
    assert_eq!(failure.reason, "the client names no signature schemes");
}

#[test]
fn a_version_that_is_not_enabled_is_told_so() {
    use crate::conf::model::TlsVersion;
    let world = World::new();
    for (version, only) in [(VERSIONS[0], TlsVersion::Tls13), (VERSIONS[1], TlsVersion::Tls12)] {
        let bind = BindTls { min_version: only, max_version: only, ..world.bind(Verify::None) };
        let (error, failure) = refused(&world.client(version, None), &world.build(&bind), world.at(0));
        assert_eq!(error, Error::AlertReceived(AlertDescription::ProtocolVersion));
        assert_eq!(failure.alert, Some("protocol_version"));
        assert_eq!(failure.reason, "no TLS version in common");
        assert_eq!(failure.sni.as_deref(), Some("s.example"));
    }
}

#[test]
fn what_is_not_in_common_is_named() {
    let world = World::new();
    let suite =
        |suite: SupportedCipherSuite| CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
    let group = |group: &'static dyn SupportedKxGroup| CryptoProvider {
        kx_groups: vec![group],
        ..aws_lc_rs::default_provider()
    };
    let cases = [
        // Its suite wants an RSA certificate.
        (
            VERSIONS[0],
            suite(aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
            "no cipher suite in common that goes with the certificate",
        ),
        (VERSIONS[1], group(aws_lc_rs::kx_group::MLKEM768), "no key exchange group in common"),
    ];
    for (version, provider, words) in cases {
        let browser = world.client_with(version, None, provider);
        let (error, failure) = refused(&browser, &world.policy(Verify::None), world.at(0));
        assert_eq!(error, Error::AlertReceived(AlertDescription::HandshakeFailure));
        assert_eq!(failure.alert, Some("handshake_failure"));
        assert_eq!(failure.reason, words);
    }
}

#[test]
fn a_name_without_certificate_is_answered_with_unrecognized_name() {
    let world = World::new();
    for version in VERSIONS {
        let bind = BindTls { sni: crate::conf::model::SniPolicy::Strict, ..test_pki::bind(&["/s/ec.pem"]) };
        let policy = world.build(&bind);
        // It has this one.
        connect(&world.client(version, None), &policy, world.at(0));
        for (name, words) in [
            ("other.example", "no certificate for the server name other.example"),
            ("192.0.2.1", "the client sent no server name"),
        ] {
            let browser = world.client(version, None);
            let mut pair = Pair::new(&browser, &policy, world.at(0));
            let name = ServerName::try_from(name).unwrap();
            pair.client = ClientConnection::new(Arc::new(browser.config.clone()), name).unwrap();
            let failure = pair.run().unwrap_err();
            assert_eq!(failure.reason, words);
            assert_eq!(failure.alert, Some("unrecognized_name"));
            let alert = AlertDescription::UnrecognisedName;
            assert_eq!(pair.client_result, Err(Error::AlertReceived(alert)));
        }
    }
}

#[test]
fn no_protocol_in_common_goes_on_without_one() {
    let world = World::new();
    for version in VERSIONS {
        let bind = BindTls { alpn: vec![b"h2".to_vec()], ..test_pki::bind(&["/s/ec.pem"]) };
        let mut browser = world.client(version, None);
        browser.config.alpn_protocols = vec![b"smtp".to_vec()];
        let (_, established) = connect(&browser, &world.build(&bind), world.at(0));
        assert_eq!(established.session.alpn, None);
    }
}

#[test]
fn a_client_that_refuses_us_is_quoted() {
    let world = World::new();
    for version in VERSIONS {
        let browser = world.client(version, None);
        browser.seen.distrusts.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut pair = Pair::new(&browser, &world.policy(Verify::None), world.at(0));
        let failure = pair.run().unwrap_err();
        assert_eq!(failure.reason, "the client refused: alert unknown_ca");
        // Nothing is said in return.
        assert_eq!(failure.alert, None);
        assert_eq!(failure.sni.as_deref(), Some("s.example"));
    }
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let world = World::new();
    let alice = world.alice();
    let thief = Issued { key: ec_key(), der: alice.der, pem: alice.pem };
    for version in VERSIONS {
        let (error, failure) =
            refused(&world.client(version, Some(&thief)), &world.policy(Verify::Required), world.at(0));
        assert_eq!(error, Error::AlertReceived(AlertDescription::DecryptError));
        assert_eq!(failure.alert, Some("decrypt_error"));
        assert_eq!(failure.refusal.unwrap().reason, Reason::BadSignature);
    }
}

#[test]
fn what_is_not_tls_is_answered_and_named() {
    for garbage in [&b"GET / HTTP/1.1\r\nHost: s.example\r\n\r\n"[..], &[0x80, 0x2e, 1, 0, 2, 0, 0x15], &[0xff; 400]] {
        let (answer, failure) = answer_to(garbage);
        alert_in(&answer, 50);
        assert_eq!(failure.reason, "what came is not TLS");
        assert_eq!(failure.alert, Some("decode_error"));
    }
    // A record that says it is longer than any may be.
    let (answer, failure) = answer_to(&[22, 3, 1, 0xff, 0xff, 1, 0]);
    alert_in(&answer, 50);
    assert_eq!(failure.reason, "a record was longer than TLS allows");
    // A ClientHello that ends in its middle.
    let mut hello = hello_of([3, 3], &[0xc0, 0x2f], &[0, 13, 0, 4, 0, 2, 4, 3]);
    hello.truncate(40);
    hello[3] = 36;
    let (answer, failure) = answer_to(&record(22, &hello));
    alert_in(&answer, 50);
    assert!(failure.reason.starts_with("a malformed message ("), "{}", failure.reason);
    // Application data, an alert and a ClientKeyExchange where the ClientHello should be.
    for (bytes, got) in [
        (record(23, b"data"), "ApplicationData"),
        (record(21, &[2, 80]), "Alert"),
        (record(22, &[16, 0, 0, 0]), "ClientKeyExchange"),
    ] {
        let (answer, failure) = answer_to(&bytes);
        alert_in(&answer, 10);
        assert_eq!(failure.alert, Some("unexpected_message"));
        assert_eq!(failure.reason, format!("a message came out of turn ({got})"));
    }
}

#[test]
fn a_hello_without_end_is_refused() {
    let world = World::new();
    let policy = world.policy(Verify::None);
    // 16 MB are announced, and they come.
    let mut server = Server::new(&policy);
    let mut first = vec![1, 0xff, 0xff, 0xff];
    first.extend([0; 16_380]);
    let failure = std::iter::once(record(22, &first))
        .chain(std::iter::repeat_with(|| record(22, &[0; 16_384])))
        .take(10)
        .find_map(|piece| server.read(&piece, world.at(0)).err())
        .expect("a limit");
    assert_eq!(failure.reason, "a handshake message is longer than 64 KiB");
    assert!(server.held.len() <= 3 * 16_400);
    // 60,000 bytes in records of one byte each.
    let mut server = Server::new(&policy);
    let hello = [&[1, 0, 0xea, 0x60][..], &[0; 60_000]].concat();
    let failure = hello.iter().find_map(|byte| server.read(&record(22, &[*byte]), world.at(0)).err()).expect("a limit");
    assert_eq!(failure.reason, "the ClientHello takes more than 64 KiB");
    assert!(server.held.len() <= 66_000);
}
