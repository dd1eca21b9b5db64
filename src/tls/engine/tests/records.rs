//! Records and messages in all shapes, and what becomes of keys.

use rustls::{ConnectionTrafficSecrets, ContentType};

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

impl Stage {
    /// The handshake is over, and its result not taken yet.
    fn is_finished(&self) -> bool {
        matches!(self, Self::Handshake(negotiation) if !negotiation.connection.is_handshaking())
    }
}

fn traffic(pair: &mut Pair) -> &mut Traffic {
    match &mut pair.server.engine().0 {
        Stage::Traffic(traffic) => traffic,
        _ => panic!("the handshake's result was taken"),
    }
}

/// What comes in one read with the end of the handshake belongs to what follows it, new keys and the answer to them too.
#[test]
fn the_end_of_the_handshake_is_not_the_end_of_what_came() {
    let world = World::new();
    for tickets in [true, false] {
        for chunk in [usize::MAX, 1] {
            let browser = world.client(VERSIONS[1], None);
            let policy = world.build(&BindTls { tickets, ..world.bind(Verify::None) });
            let mut pair = Pair::new(&browser, &policy, world.at(0));
            let hello = sent_by(&mut pair.client);
            pair.server.read(&hello, pair.now).unwrap();
            let answer = pair.server.take_output();
            pair.deliver(&answer);
            pair.client.refresh_traffic_keys().unwrap();
            std::io::Write::write_all(&mut pair.client.writer(), b"at once").unwrap();
            pair.client.send_close_notify();
            let wire = sent_by(&mut pair.client);
            for piece in wire.chunks(chunk.min(wire.len())) {
                pair.server.read(piece, pair.now).unwrap();
                if pair.server.engine().0.is_finished() {
                    pair.establish().unwrap();
                    pair.server.read(&[], pair.now).unwrap();
                }
            }
            assert_eq!(pair.server.plaintext, b"at once");
            assert!(pair.server.peer_closed);
            let sent = pair.server.encrypt(b"answer");
            pair.deliver(&sent);
            pair.client_result.clone().unwrap();
            assert_eq!(pair.client_plaintext(), b"answer");
        }
    }
}

/// TLS 1.2 ends with its keys. The real limit is 2^24 records.
#[test]
fn keys_that_are_used_up_end_the_connection_without_close_notify() {
    let world = World::new();
    let (mut pair, _) = connect(&world.client(VERSIONS[0], None), &world.policy(Verify::None), world.at(0));
    traffic(&mut pair).records_max = 10;
    let Server { engine, output, .. } = &mut pair.server;
    let engine = engine.as_mut().unwrap();
    // The first record was Finished.
    for _ in 1..9 {
        engine.encrypt(b"x", output).unwrap();
    }
    // What does not fit whole is not sent in part, and it stays so.
    assert_eq!(engine.encrypt(&[0; 40_000], output), Err(Exhausted));
    assert_eq!(engine.encrypt(b"x", output), Err(Exhausted));
    assert_eq!(engine.close_notify(output), Err(Exhausted));
    let answer = pair.server.take_output();
    pair.deliver(&answer);
    assert_eq!(pair.client_plaintext().len(), 8);
    assert!(!pair.client.process_new_packets().unwrap().peer_has_closed());
}

/// TLS 1.3 goes on with new ones, in the middle of a stream too.
#[test]
fn keys_that_are_used_up_are_renewed() {
    let world = World::new();
    let (mut pair, _) = connect(&world.client(VERSIONS[1], None), &world.policy(Verify::None), world.at(0));
    traffic(&mut pair).records_max = 3;
    let long: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let sent = pair.server.encrypt(&long);
    pair.deliver(&sent);
    assert_eq!(pair.client_plaintext(), long);
    let sent = pair.server.close_notify();
    pair.deliver(&sent);
    assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
}

/// A record of TLS 1.3 that the client might have written, under its own keys: `inner` is content, type and padding.
fn sealed(client: ClientConnection, inner: &[&[u8]]) -> Vec<u8> {
    let secrets = client.dangerous_extract_secrets().unwrap();
    let (mut sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else { panic!("AES-256") };
    let mut wire = Vec::new();
    for inner in inner {
        let content = inner.len() + 16;
        let header = [23, 3, 3, (content >> 8) as u8, content as u8];
        let key = ::aws_lc_rs::aead::UnboundKey::new(&::aws_lc_rs::aead::AES_256_GCM, key.as_ref()).unwrap();
        let nonce = rustls::crypto::cipher::Nonce::new(&iv, sequence).0;
        let nonce = ::aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
        let mut sealed = inner.to_vec();
        let aad = ::aws_lc_rs::aead::Aad::from(header);
        ::aws_lc_rs::aead::LessSafeKey::new(key).seal_in_place_append_tag(nonce, aad, &mut sealed).unwrap();
        wire.extend(header);
        wire.extend(sealed);
        sequence += 1;
    }
    wire
}

/// What comes of records that rustls would not write, delivered whole and byte by byte.
#[track_caller]
fn outcome_of(inner: &[&[u8]]) -> (Vec<u8>, Option<Box<Failure>>) {
    let outcomes = [usize::MAX, 1].map(|chunk| {
        let world = World::new();
        let mut browser = world.client(VERSIONS[1], None);
        browser.config.enable_secret_extraction = true;
        let (pair, _) = connect(&browser, &world.policy(Verify::None), world.at(0));
        let Pair { client, mut server, now, .. } = pair;
        let wire = sealed(client, inner);
        let failure = wire.chunks(chunk.min(wire.len())).find_map(|piece| server.read(piece, now).err());
        (server.plaintext, failure)
    });
    let [whole, pieces] = outcomes;
    assert_eq!(whole.0, pieces.0);
    let words =
        |failure: &Option<Box<Failure>>| failure.as_ref().map(|failure| (failure.reason.clone(), failure.alert));
    assert_eq!(words(&whole.1), words(&pieces.1));
    whole
}

#[test]
fn padding_is_no_plaintext() {
    let padded = [&b"text\x17"[..], &[0; 300]].concat();
    let (plaintext, failure) = outcome_of(&[&padded, b"\x17", b"\x17\0\0", b" and more\x17"]);
    assert_eq!((plaintext.as_slice(), failure.is_none()), (&b"text and more"[..], true));
}

#[test]
fn the_longest_record_is_taken_and_a_longer_one_is_not() {
    let full = [&[b'x'; RECORD_PLAINTEXT][..], &[23]].concat();
    let (plaintext, failure) = outcome_of(&[&full]);
    assert_eq!((plaintext.len(), failure.is_none()), (RECORD_PLAINTEXT, true));
    // One byte of content more; one byte of padding more.
    for longer in [[&[b'x'; RECORD_PLAINTEXT + 1][..], &[23]].concat(), [&full[..], &[0]].concat()] {
        let (plaintext, failure) = outcome_of(&[b"good\x17", &longer]);
        let failure = failure.expect("it is too long");
        assert_eq!(failure.reason, "a record was longer than TLS allows");
        assert_eq!((failure.alert, plaintext.as_slice()), (Some("record_overflow"), &b"good"[..]));
    }
}

#[test]
fn what_has_no_place_in_the_stream_is_answered_with_its_alert() {
    for (inner, alert) in [
        // Nothing but padding; a type that nobody knows; ChangeCipherSpec under encryption.
        (&[&[0; 20][..]][..], "unexpected_message"),
        (&[b"x\x19"], "unexpected_message"),
        (&[b"\x01\x14"], "unexpected_message"),
        // Handshake messages: Finished, none at all, KeyUpdates that are not well-formed, or with something behind them.
        (&[b"\x14\0\0\x01x\x16"], "unexpected_message"),
        (&[b"\x16"], "decode_error"),
        (&[b"\x18\0\0\x02\0\x16"], "decode_error"),
        (&[b"\x18\0\0\x01\x02\x16"], "decode_error"),
        (&[b"\x18\0\0\x01\0\x18\x16"], "unexpected_message"),
        // Between the pieces of a message nothing else may come.
        (&[b"\x18\0\x16", b"x\x17"], "unexpected_message"),
        // Alerts: cut off, of a level that does not exist, a warning that is none in TLS 1.3.
        (&[b"\x02\x15"], "decode_error"),
        (&[b"\x03\x0a\x15"], "illegal_parameter"),
        (&[b"\x01\x0a\x15"], "decode_error"),
    ] {
        let (plaintext, failure) = outcome_of(inner);
        let failure = failure.unwrap_or_else(|| panic!("{inner:x?} is taken"));
        assert_eq!((failure.alert, plaintext.as_slice()), (Some(alert), &b""[..]), "{inner:x?}: {}", failure.reason);
    }
}

#[test]
fn alerts_that_end_nothing_are_passed_over() {
    let (plaintext, failure) = outcome_of(&[b"\x01\x5a\x15", b"on\x17"]);
    assert_eq!((plaintext.as_slice(), failure.is_none()), (&b"on"[..], true));
    // Not for ever.
    let failure = outcome_of(&[&b"\x01\x5a\x15"[..]; 5]).1.expect("a limit");
    assert_eq!(failure.reason, "too many warnings");
}

#[test]
fn a_fatal_alert_is_quoted_and_not_answered() {
    let failure = outcome_of(&[b"\x02\x50\x15"]).1.expect("it is fatal");
    assert_eq!((failure.reason.as_str(), failure.alert), ("the client refused: alert internal_error", None));
}

#[test]
fn a_key_update_may_come_in_pieces_but_not_for_ever() {
    // The keys change with its last byte: what was sealed under the old ones is rubbish.
    let (plaintext, failure) = outcome_of(&[b"a\x17", b"\x18\0\x16", b"\0\x01\0\x16", b"b\x17"]);
    assert_eq!((plaintext.as_slice(), failure.unwrap().alert), (&b"a"[..], Some("bad_record_mac")));

    let world = World::new();
    let (mut pair, _) = connect(&world.client(VERSIONS[1], None), &world.policy(Verify::None), world.at(0));
    let failure = (0..100).find_map(|_| {
        pair.client.refresh_traffic_keys().unwrap();
        pair.run().err()
    });
    assert_eq!(failure.expect("a limit").reason, "too many KeyUpdate messages in a row");
}

#[test]
fn data_between_key_updates_allows_no_thousands_of_them_at_once() {
    let world = World::new();
    let updates = |count| {
        let (mut pair, _) = connect(&world.client(VERSIONS[1], None), &world.policy(Verify::None), world.at(0));
        pair.client.set_buffer_limit(None);
        for _ in 0..count {
            pair.client.refresh_traffic_keys().unwrap();
            std::io::Write::write_all(&mut pair.client.writer(), b"x").unwrap();
        }
        pair.run().err()
    };
    assert_eq!(updates(900).map(|failure| failure.reason), None);
    let failure = updates(1_100).expect("a limit");
    assert_eq!(
        (failure.reason.as_str(), failure.alert),
        ("too many KeyUpdate messages in a row", Some("unexpected_message"))
    );
}

#[test]
fn a_record_outside_of_encryption_is_refused() {
    let world = World::new();
    for version in VERSIONS {
        for record in
            [&[21, 3, 3, 0, 2, 1, 0][..], &[20, 3, 3, 0, 1, 1], &[22, 3, 3, 0, 4, 0, 0, 0, 0], &[24, 3, 3, 0, 0]]
        {
            let (mut pair, _) = connect(&world.client(version, None), &world.policy(Verify::None), world.at(0));
            let failure = pair.server.read(record, pair.now).unwrap_err();
            assert!(failure.alert.is_some() && !pair.server.peer_closed, "{record:x?}: {}", failure.reason);
        }
    }
}

/// A client of TLS 1.2 that wants to negotiate anew is told no, once, and may go on.
#[test]
fn renegotiation_is_declined_once() {
    let world = World::new();
    let mut browser = world.client(VERSIONS[0], None);
    browser.config.enable_secret_extraction = true;
    for (hellos, words) in [(1, None), (2, Some("the client insists on renegotiation"))] {
        let (pair, _) = connect(&browser, &world.policy(Verify::None), world.at(0));
        let Pair { client, mut server, now, .. } = pair;
        let secrets = client.dangerous_extract_secrets().unwrap();
        let (mut sequence, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets.tx else {
            panic!("ChaCha20")
        };
        let messages = std::iter::repeat_n((ContentType::Handshake, &[1, 0, 0, 2, 3, 3][..]), hellos);
        let messages = messages.chain([(ContentType::ApplicationData, &b"on"[..])]);
        let mut failure = None;
        for (kind, message) in messages {
            use ::aws_lc_rs::aead;
            let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key.as_ref()).unwrap();
            let nonce = aead::Nonce::assume_unique_for_key(rustls::crypto::cipher::Nonce::new(&iv, sequence).0);
            let aad = rustls::crypto::cipher::make_tls12_aad(sequence, kind, ProtocolVersion::TLSv1_2, message.len());
            let mut sealed = message.to_vec();
            let key = aead::LessSafeKey::new(key);
            key.seal_in_place_append_tag(nonce, aead::Aad::from(aad), &mut sealed).unwrap();
            let header = [u8::from(kind), 3, 3, 0, sealed.len() as u8];
            sequence += 1;
            failure = failure.or(server.read(&[&header[..], &sealed].concat(), now).err());
            if failure.is_some() {
                break;
            }
        }
        assert_eq!(failure.map(|failure| failure.reason).as_deref(), words);
        assert_eq!(server.plaintext, if hellos == 1 { &b"on"[..] } else { b"" });
        assert!(!server.take_output().is_empty());
    }
}

/// Lengths of the plaintext in the records of `wire`.
fn record_lengths(wire: &[u8], version: &SupportedProtocolVersion) -> Vec<usize> {
    // Content type and tag; explicit nonce and tag.
    let around = if version.version == ProtocolVersion::TLSv1_3 { 17 } else { 24 };
    let mut lengths = Vec::new();
    let mut rest = wire;
    while let [_, _, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        lengths.push(length - around);
        rest = &after[length..];
    }
    lengths
}

#[test]
fn records_are_short_until_data_streams_and_never_longer_than_the_hard_limit() {
    let world = World::new();
    let records = crate::conf::model::RecordLimits { first: 1000, all: 4000 };
    let limits = policy::Limits { records, ..limits(LIFETIME) };
    let bind = world.bind(Verify::None);
    let (limited, _) = policy::build(&bind, &mut store(&world.files), &world.tickets, limits, "bind", now());
    let limited = Arc::new(limited.unwrap());
    use rustls::crypto::aws_lc_rs::cipher_suite;
    let suites = [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    for version in VERSIONS {
        let provider = CryptoProvider { cipher_suites: suites.to_vec(), ..aws_lc_rs::default_provider() };
        let browser = world.client_with(version, None, provider);
        let (mut pair, _) = connect(&browser, &limited, world.at(0));
        let mut lengths = |length: usize| record_lengths(&pair.server.encrypt(&vec![b'x'; length]), version);
        assert_eq!(lengths(2500), [1000, 1000, 500], "{version:?}");
        assert_eq!(lengths(1000), [1000]);
        assert_eq!(lengths(RECORD_PLAINTEXT)[..2], [1000, 1000]);
        assert_eq!(lengths(RECORD_PLAINTEXT)[..2], [1000, 1000]);
        assert_eq!(lengths(RECORD_PLAINTEXT), [4000, 4000, 4000, 4000, 384], "the third in a row: a stream");
        assert_eq!(lengths(50_000)[..2], [4000, 4000]);
        assert_eq!(lengths(1500), [1000, 500], "and it is over");
        let (mut pair, _) = connect(&browser, &world.policy(Verify::None), world.at(0));
        let whole = record_lengths(&pair.server.encrypt(&vec![b'x'; RECORD_PLAINTEXT + 1]), version);
        assert_eq!(whole, [RECORD_PLAINTEXT, 1]);
    }
}

#[test]
fn the_hard_limit_is_for_handshakes_too() {
    let world = World::new();
    let records = crate::conf::model::RecordLimits { all: 64, ..Default::default() };
    let limits = policy::Limits { records, ..limits(LIFETIME) };
    let bind = world.bind(Verify::None);
    let (limited, _) = policy::build(&bind, &mut store(&world.files), &world.tickets, limits, "bind", now());
    let limited = Arc::new(limited.unwrap());
    for version in VERSIONS {
        let browser = world.client(version, None);
        let mut pair = Pair::new(&browser, &limited, world.at(0));
        pair.server.read(&sent_by(&mut pair.client), pair.now).unwrap();
        let mut output = pair.server.output.bytes();
        while let [_, _, _, high, low, after @ ..] = output {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            assert!(length <= 64 + 17, "{version:?}: {length}");
            output = &after[length..];
        }
        pair.run().unwrap();
        pair.establish().unwrap();
    }
}
