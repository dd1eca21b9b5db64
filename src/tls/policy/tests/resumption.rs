//! Sessions resume where and as long as they may.

use super::*;

const FULL: &[HandshakeKind] = &[HandshakeKind::Full, HandshakeKind::FullWithHelloRetryRequest];

#[test]
fn a_session_resumes_under_the_same_policy() {
    let world = World::new();
    let alice = world.alice();
    for version in VERSIONS {
        for verify in [Verify::None, Verify::Optional, Verify::Required] {
            let client = world.client(version, Some(&alice));
            let policy = world.policy(verify);
            assert!(FULL.contains(&connect(&client, policy.entry(0).config(false, true), world.at(0)).kind()));
            // As after a reload that changed nothing, or on another loop.
            let policy = world.policy(verify);
            let second = connect(&client, policy.entry(0).config(false, true), world.at(1));
            assert_eq!(second.kind(), HandshakeKind::Resumed, "{version:?} {verify:?}");
            let chain = second.server.peer_certificates();
            assert_eq!(chain.is_some(), verify != Verify::None);
            let verdict = judge(policy.entry(0).client(), chain, Handshake::Resumed, now()).unwrap();
            assert_eq!(matches!(verdict.client(), Client::Verified { resumed: true, .. }), verify != Verify::None);
        }
    }
}

/// CVE-2025-23419, CVE-2025-23048 and their kin: rustls itself would resume every one of these.
#[test]
fn a_session_does_not_resume_under_another_policy() {
    let mut world = World::new();
    let other_ca = Ca::root("Other CA");
    add_file(&mut world.files, "/t/other.pem", other_ca.pem.clone().into_bytes(), 0o644);
    let mallory = other_ca.client("mallory", |_| ());
    let other = |verify| BindTls { ca_file: Some(at(PathBuf::from("/t/other.pem"))), ..world.bind(verify) };
    let with_crl = BindTls { crl_file: Some(at(PathBuf::from("/t/crl.pem"))), ..world.bind(Verify::Required) };
    let required = world.bind(Verify::Required);
    let alice = world.alice();
    let bind = "bind";
    // From, to, certificate: what the second handshake has to be is a full one, which refuses whom it has to.
    let cases = [
        ((world.bind(Verify::None), bind), (required.clone(), bind), None, Some(Reason::NoCertificate)),
        ((world.bind(Verify::Optional), bind), (required.clone(), bind), None, Some(Reason::NoCertificate)),
        ((other(Verify::Required), bind), (required.clone(), bind), Some(&mallory), Some(Reason::UnknownCa)),
        ((required.clone(), bind), (with_crl, bind), Some(&alice), None),
        ((required.clone(), bind), (required.clone(), "another bind"), Some(&alice), None),
        ((required.clone(), bind), (world.bind(Verify::Optional), bind), Some(&alice), None),
    ];
    for version in VERSIONS {
        for (index, (from, to, certificate, refused)) in cases.iter().enumerate() {
            let client = world.client(version, *certificate);
            let from = world.build(&from.0, from.1);
            connect(&client, from.entry(0).config(false, true), world.at(0)).kind();
            // The ticket is good where it comes from.
            assert_eq!(connect(&client, from.entry(0).config(false, true), world.at(1)).kind(), HandshakeKind::Resumed);
            let to = world.build(&to.0, to.1);
            let second = connect(&client, to.entry(0).config(false, true), world.at(2));
            assert_ne!(second.server.handshake_kind(), Some(HandshakeKind::Resumed), "{version:?} case {index}");
            match refused {
                None => second.server_result.unwrap(),
                Some(Reason::NoCertificate) => {
                    assert_eq!(second.server_result, Err(Error::NoCertificatesPresented));
                }
                Some(reason) => {
                    second.server_result.unwrap_err();
                    assert_eq!(client_auth::take_refusal().unwrap().reason, *reason);
                }
            }
        }
    }
}

#[test]
fn resumption_ends_with_the_lifetime_of_the_first_authentication() {
    let world = World::new();
    let alice = world.alice();
    let policy = world.policy(Verify::Required);
    for version in VERSIONS {
        let client = world.client(version, Some(&alice));
        let resumed = |second| {
            let kind = connect(&client, policy.entry(0).config(false, true), world.at(second)).kind();
            kind == HandshakeKind::Resumed
        };
        assert!(!resumed(10));
        // Each connection renews the ticket, none the authentication.
        assert!(resumed(100) && resumed(200) && resumed(309));
        assert!(!resumed(310));
        assert!(resumed(320) && resumed(609));
        assert!(!resumed(700));
    }
}

#[test]
fn refused_tickets_lead_to_a_full_handshake_and_a_new_ticket() {
    let world = World::new();
    let alice = world.alice();
    let policy = world.policy(Verify::Required);
    for version in VERSIONS {
        let client = world.client(version, Some(&alice));
        connect(&client, policy.entry(0).config(false, true), world.at(0)).kind();
        let full = connect(&client, policy.entry(0).config(false, false), world.at(1));
        assert!(FULL.contains(&full.kind()));
        assert_eq!(connect(&client, policy.entry(0).config(false, true), world.at(2)).kind(), HandshakeKind::Resumed);
    }
}

#[test]
fn without_a_scope_there_are_no_tickets() {
    let world = World::new();
    let policy = world.policy(Verify::None);
    let ticketer = &policy.entry(0).config(false, true).ticketer;
    assert!(ticketer.enabled() && ticketer.encrypt(b"state").is_none());
}

#[test]
fn there_is_one_mechanism_of_resumption_and_no_early_data() {
    let world = World::new();
    for verify in [Verify::None, Verify::Required] {
        let policy = world.policy(verify);
        for config in policy.entry(0).configs.iter().flatten() {
            assert!(!config.session_storage.can_cache());
            assert_eq!((config.max_early_data_size, config.send_half_rtt_data), (0, false));
            assert_eq!((config.send_tls13_tickets, config.max_tls13_tickets), (1, 0));
            assert!(config.ignore_client_order);
            assert!(config.cert_decompressors.is_empty());
        }
    }
}

#[test]
fn without_tickets_sessions_are_kept_here_and_bound_alike() {
    let world = World::new();
    let alice = world.alice();
    let required = BindTls { tickets: false, ..world.bind(Verify::Required) };
    let kept = world.build(&required, "bind");
    let elsewhere = world.build(&required, "other");
    for version in VERSIONS {
        let client = world.client(version, Some(&alice));
        let kind = |policy: &TlsPolicy, honoured, second| {
            connect(&client, policy.entry(0).config(false, honoured), world.at(second)).kind()
        };
        assert!(FULL.contains(&kind(&kept, true, 0)), "{version:?}");
        assert_eq!(kind(&kept, true, 1), HandshakeKind::Resumed, "{version:?}");
        assert!(FULL.contains(&kind(&elsewhere, true, 2)), "{version:?}");
        assert!(FULL.contains(&kind(&kept, true, 3)), "the last session is of the other line");
        assert_eq!(kind(&kept, true, 4), HandshakeKind::Resumed, "{version:?}");
        assert!(FULL.contains(&kind(&kept, false, 5)), "{version:?}");
        let late = LIFETIME.as_secs() + 6;
        assert!(FULL.contains(&kind(&kept, true, late)), "{version:?}");
    }
}

#[test]
fn without_tickets_and_without_room_nothing_is_resumed() {
    let world = World::new();
    let bind = BindTls { tickets: false, ..world.bind(Verify::None) };
    let limits = Limits { blocks: 0, ..limits(LIFETIME) };
    let (without, _) = build(&bind, &mut store(&world.files), &world.tickets, limits, "bind", now());
    let without = without.unwrap();
    for version in VERSIONS {
        let client = world.client(version, None);
        for second in 0..3 {
            let outcome = connect(&client, without.entry(0).config(false, true), world.at(second));
            assert!(FULL.contains(&outcome.kind()), "{version:?}");
        }
        // A session of the time before is worth nothing either.
        let client = world.client(version, None);
        let with = world.policy(Verify::None);
        connect(&client, with.entry(0).config(false, true), world.at(0)).kind();
        assert_eq!(connect(&client, with.entry(0).config(false, true), world.at(1)).kind(), HandshakeKind::Resumed);
        assert!(FULL.contains(&connect(&client, without.entry(0).config(false, true), world.at(2)).kind()));
    }
}

#[test]
fn keys_of_a_file_open_the_tickets_of_another_process() {
    let mut world = World::new();
    let line = |letter: &str| format!("{}\n", letter.repeat(64));
    let mut add = |path: &str, text: String, mode| add_file(&mut world.files, path, text.into_bytes(), mode);
    add("/t/keys", ["A", "B", "C"].map(line).concat(), 0o600);
    add("/t/rotated", ["B", "C", "D"].map(line).concat(), 0o600);
    add("/t/foreign", ["D", "E", "F"].map(line).concat(), 0o604);
    add("/t/short", ["A", "B"].map(line).concat(), 0o600);
    let alice = world.alice();
    let with = |path: &str, verify| {
        let bind = BindTls { ticket_keys: Some(at(PathBuf::from(path))), ..world.bind(verify) };
        // Keys of their own: as another process would have.
        let tickets = Arc::new(TicketKeys::new(world.start));
        let (policy, said) = build(&bind, &mut store(&world.files), &tickets, limits(LIFETIME), "bind", now());
        (policy, said.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>())
    };
    for version in VERSIONS {
        for (path, verify, resumes) in [
            ("/t/keys", Verify::Required, true),
            ("/t/rotated", Verify::Required, true),
            ("/t/foreign", Verify::Required, false),
            ("/t/keys", Verify::Optional, false),
        ] {
            let client = world.client(version, Some(&alice));
            let first = with("/t/keys", Verify::Required).0.unwrap();
            connect(&client, first.entry(0).config(false, true), world.at(0)).kind();
            let second = with(path, verify).0.unwrap();
            let kind = connect(&client, second.entry(0).config(false, true), world.at(1)).kind();
            assert_eq!(kind == HandshakeKind::Resumed, resumes, "{version:?} {path} {verify:?}");
        }
    }
    assert_eq!(with("/t/keys", Verify::None).1, [""; 0]);
    assert_eq!(with("/t/foreign", Verify::None).1, ["W226"]);
    assert_eq!(with("/t/short", Verify::None).1, ["E260"]);
    assert_eq!(with("/t/nothing", Verify::None).1, ["E221"]);
}
