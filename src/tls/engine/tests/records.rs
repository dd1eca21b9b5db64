//! Records and messages in all shapes, and what becomes of keys.

use super::*;

#[test]
fn a_handshake_in_fragments_is_a_handshake() {
    let world = World::new();
    let alice = world.alice();
    for version in VERSIONS {
        for (fragment, chunk) in [(None, 1), (Some(32), usize::MAX), (Some(37), 1)] {
            let mut browser = world.client(version, Some(&alice));
            browser.config.max_fragment_size = fragment;
            let mut pair = Pair::new(&browser, &world.policy(Verify::Required), world.at(0));
            pair.chunk = chunk;
            pair.run().unwrap();
            verified(&pair.establish().unwrap(), &alice);
            assert!(pair.server.held.is_empty());
        }
    }
}

/// The engine joins fragments where they stand. Those behind the ClientHello must be joined in the caller's bytes, as the
/// caller gives them again.
#[test]
fn fragments_behind_the_hello_stay_where_they_were_joined() {
    let world = World::new();
    let browser = world.client(VERSIONS[0], None);
    let mut pair = Pair::new(&browser, &world.policy(Verify::None), world.at(0));
    let mut wire = sent_by(&mut pair.client);
    // ClientKeyExchange with a key that is too short, in three records, the last of which comes later.
    for piece in [&[16, 0, 0][..], &[5, 4, 1]] {
        wire.extend([22, 3, 3, 0, piece.len() as u8]);
        wire.extend(piece);
    }
    pair.server.read(&wire, pair.now).unwrap();
    assert!(pair.server.held.windows(6).any(|joined| joined == [16, 0, 0, 5, 4, 1]), "{:02x?}", pair.server.held);
    let failure = pair.server.read(&[22, 3, 3, 0, 3, 2, 3, 4], pair.now).unwrap_err();
    assert_eq!(failure.alert, Some("illegal_parameter"));
}

/// A record that does not decrypt, with more behind it: one alert, and no look at what follows.
#[test]
fn a_damaged_record_is_answered_with_bad_record_mac() {
    let world = World::new();
    for version in VERSIONS {
        for behind in [false, true] {
            let (mut pair, _) = connect(&world.client(version, None), &world.policy(Verify::None), world.at(0));
            std::io::Write::write_all(&mut pair.client.writer(), b"good").unwrap();
            let mut wire = sent_by(&mut pair.client);
            std::io::Write::write_all(&mut pair.client.writer(), b"bad").unwrap();
            let mut bad = sent_by(&mut pair.client);
            *bad.last_mut().unwrap() ^= 1;
            wire.extend(&bad);
            if behind {
                wire.extend(&bad);
            }
            let failure = pair.server.read(&wire, pair.now).unwrap_err();
            assert_eq!(failure.reason, "a record could not be decrypted");
            assert_eq!(failure.alert, Some("bad_record_mac"));
            assert_eq!(pair.server.plaintext, b"good");
            let answer = pair.server.take_output();
            pair.deliver(&answer);
            let alert = AlertDescription::BadRecordMac;
            assert_eq!(pair.client_result, Err(Error::AlertReceived(alert)));
        }
    }
}

#[test]
fn what_follows_close_notify_is_no_plaintext() {
    let world = World::new();
    for version in VERSIONS {
        let (mut pair, _) = connect(&world.client(version, None), &world.policy(Verify::None), world.at(0));
        pair.client.send_close_notify();
        let mut wire = sent_by(&mut pair.client);
        wire.extend([23, 3, 3, 0, 4, 1, 2, 3, 4]);
        wire.extend(b"rubbish");
        pair.server.read(&wire, pair.now).unwrap();
        assert!(pair.server.peer_closed);
        assert_eq!(pair.server.plaintext, b"");
        let sent = pair.server.encrypt(b"answer");
        pair.deliver(&sent);
        assert_eq!(pair.client_plaintext(), b"answer");
    }
}

#[test]
fn an_end_before_the_handshake_is_none() {
    let world = World::new();
    for version in VERSIONS {
        let mut pair = Pair::new(&world.client(version, None), &world.policy(Verify::None), world.at(0));
        let mut wire = sent_by(&mut pair.client);
        wire.extend([21, 3, 3, 0, 2, 1, 0]);
        // TLS 1.3 forbids it and TLS 1.2 does not care, but nobody takes it for an end.
        let _ = pair.server.read(&wire, pair.now);
        assert!(!pair.server.peer_closed);
        assert!(pair.server.engine.is_none_or(|engine| engine.is_handshaking()));
    }
}

/// Bytes come while half a record waits: what is sent in between leaves it alone.
#[test]
fn writing_leaves_what_was_half_received_alone() {
    let world = World::new();
    for version in VERSIONS {
        let (mut pair, _) = connect(&world.client(version, None), &world.policy(Verify::None), world.at(0));
        std::io::Write::write_all(&mut pair.client.writer(), b"question").unwrap();
        let wire = sent_by(&mut pair.client);
        for byte in wire {
            pair.server.read(&[byte], pair.now).unwrap();
            let sent = pair.server.encrypt(b"x");
            pair.deliver(&sent);
        }
        assert_eq!(pair.server.plaintext, b"question");
        assert!(pair.client_plaintext().iter().all(|byte| *byte == b'x'));
    }
}

#[test]
fn keys_are_renewed_when_the_client_asks() {
    let world = World::new();
    let (mut pair, _) = connect(&world.client(VERSIONS[1], None), &world.policy(Verify::None), world.at(0));
    for round in 0..100_u8 {
        pair.client.refresh_traffic_keys().unwrap();
        std::io::Write::write_all(&mut pair.client.writer(), &[round]).unwrap();
        pair.run().unwrap();
        let sent = pair.server.encrypt(&[round]);
        pair.deliver(&sent);
        assert_eq!(pair.client_plaintext(), [round]);
    }
    assert_eq!(pair.server.plaintext.len(), 100);
}

/// TLS 1.2 ends with its keys. The real limit is 2^24 records; the suite here has a lower one.
#[test]
fn keys_that_are_used_up_end_the_connection_without_close_notify() {
    let SupportedCipherSuite::Tls12(suite) = aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 else {
        panic!("a suite of TLS 1.2")
    };
    let suite = Box::leak(Box::new(rustls::Tls12CipherSuite {
        common: rustls::crypto::CipherSuiteCommon { confidentiality_limit: 10, ..suite.common },
        ..*suite
    }));
    let provider =
        CryptoProvider { cipher_suites: vec![SupportedCipherSuite::Tls12(suite)], ..aws_lc_rs::default_provider() };
    let world = World::new();
    let key = ec_key();
    let issued = world.server_ca.server(&["s.example"], rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[VERSIONS[0]])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.der], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let mut pair = Pair::new(&world.client(VERSIONS[0], None), &world.policy(Verify::None), world.at(0));
    let connection = UnbufferedServerConnection::new(Arc::new(config)).unwrap();
    pair.server.engine = Some(Engine { connection, handshake: None, exhausted: false });
    pair.run().unwrap();
    let Server { engine, held, output, .. } = &mut pair.server;
    let engine = engine.as_mut().unwrap();
    let mut sent = 0;
    while engine.encrypt(held, b"x", output).is_ok() {
        sent += 1;
        assert!(sent < 20, "no limit");
    }
    // It stays so, and what was promised has gone out; a chunk that does not fit whole is not sent in part.
    assert_eq!(engine.encrypt(held, &[0; 40_000], output), Err(Exhausted));
    let answer = pair.server.take_output();
    pair.deliver(&answer);
    assert_eq!(pair.client_plaintext().len(), sent);
    assert!(!pair.client.process_new_packets().unwrap().peer_has_closed());
}
