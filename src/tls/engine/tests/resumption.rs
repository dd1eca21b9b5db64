//! Sessions that resume, and tickets that are not taken.

use super::*;

/// A client whose first choice of a group is one that we do not have, so that each of its handshakes begins with a
/// HelloRetryRequest.
fn retried() -> CryptoProvider {
    let groups: Vec<&'static dyn SupportedKxGroup> =
        vec![aws_lc_rs::kx_group::MLKEM768, aws_lc_rs::kx_group::SECP384R1];
    CryptoProvider { kx_groups: groups, ..aws_lc_rs::default_provider() }
}

#[test]
fn a_resumed_session_is_verified_again() {
    let world = World::new();
    let alice = world.alice();
    for version in VERSIONS {
        let policy = world.policy(Verify::Required);
        let browser = world.client(version, Some(&alice));
        assert!(!verified(&connect(&browser, &policy, world.at(0)).1, &alice).resumed);
        // As after a reload that changed nothing.
        let policy = world.policy(Verify::Required);
        for second in [1, 2] {
            let (_, established) = connect(&browser, &policy, world.at(second));
            let session = verified(&established, &alice);
            assert!(session.resumed);
            assert_eq!(session.sig_scheme, None);
            let tls13 = version == &rustls::version::TLS13;
            assert_eq!(session.group, tls13.then_some("X25519MLKEM768"));
        }
    }
}

#[test]
fn resumptions_end_with_the_lifetime_of_the_first_authentication() {
    let world = World::new();
    for version in VERSIONS {
        let policy = world.policy(Verify::None);
        let browser = world.client(version, None);
        let resumed = |second| connect(&browser, &policy, world.at(second)).1.session.resumed;
        assert!(!resumed(10));
        assert!(resumed(2000) && resumed(3609));
        assert!(!resumed(3610));
        assert!(resumed(3611));
    }
}

/// A ticket that still opens, of a client whose certificate has expired since: it may have a new one by now.
#[test]
fn a_ticket_that_is_refused_leads_to_a_full_handshake() {
    let world = World::new();
    for (version, provider) in
        VERSIONS.map(|version| (version, aws_lc_rs::default_provider())).into_iter().chain([(VERSIONS[1], retried())])
    {
        let retries = provider.kx_groups.len() == 2;
        let (old, new) = (world.alice(), world.client_ca.client("alice", |_| ()));
        let policy = world.policy(Verify::Required);
        let browser = world.client_with(version, Some(&old), provider);
        connect(&browser, &policy, world.at(0));
        browser.wallet.put(Some(&new));
        let (_, established) = connect(&browser, &policy, world.at(2000));
        assert!(!verified(&established, &new).resumed, "{version:?}");
        // The ticket of that handshake is its own: it lives from then on.
        let (_, established) = connect(&browser, &policy, world.at(2000 + 3599));
        assert_eq!(verified(&established, &new).resumed, !retries);
    }
}

#[test]
fn a_client_that_is_refused_after_its_ticket_is_told_why() {
    let world = World::new();
    for (version, provider) in
        VERSIONS.map(|version| (version, aws_lc_rs::default_provider())).into_iter().chain([(VERSIONS[1], retried())])
    {
        let alice = world.alice();
        let policy = world.policy(Verify::Required);
        let browser = world.client_with(version, Some(&alice), provider);
        connect(&browser, &policy, world.at(0));
        let (error, failure) = refused(&browser, &policy, world.at(2000));
        assert_eq!(error, Error::AlertReceived(AlertDescription::CertificateExpired), "{version:?}");
        assert_eq!(failure.alert, Some("certificate_expired"));
        assert_eq!(failure.refusal.unwrap().reason, Reason::Expired);
    }
}

#[test]
fn a_ticket_of_another_policy_leads_to_a_full_handshake() {
    let mut world = World::new();
    let other_ca = Ca::root("Other CA");
    add_file(&mut world.files, "/t/other.pem", other_ca.pem.clone().into_bytes(), 0o644);
    add_file(&mut world.files, "/t/new.pem", world.client_ca.crl(&[8], -DAY, 20 * DAY).into_bytes(), 0o644);
    let with_crl = |path: &str| BindTls { crl_file: Some(at(PathBuf::from(path))), ..world.bind(Verify::Required) };
    let other = BindTls { ca_file: Some(at(PathBuf::from("/t/other.pem"))), ..world.bind(Verify::Required) };
    let alice = world.alice();
    let cases = [
        (other, Reason::UnknownCa, AlertDescription::UnknownCA, "unknown_ca"),
        (with_crl("/t/new.pem"), Reason::Revoked, AlertDescription::CertificateRevoked, "certificate_revoked"),
    ];
    for version in VERSIONS {
        for (bind, reason, alert, name) in &cases {
            let browser = world.client(version, Some(&alice));
            connect(&browser, &world.policy(Verify::Required), world.at(0));
            let (error, failure) = refused(&browser, &world.build(bind), world.at(1));
            assert_eq!(error, Error::AlertReceived(*alert));
            assert_eq!(failure.alert, Some(*name));
            assert_eq!(failure.refusal.unwrap().reason, *reason);
            assert_eq!(failure.sni.as_deref(), Some("s.example"));
        }
        // A CRL that does not name her.
        let browser = world.client(version, Some(&alice));
        connect(&browser, &world.policy(Verify::Required), world.at(0));
        let (_, established) = connect(&browser, &world.build(&with_crl("/t/crl.pem")), world.at(1));
        assert!(!verified(&established, &alice).resumed);
    }
}

#[test]
fn an_anonymous_session_does_not_open_a_door_that_wants_a_certificate() {
    let world = World::new();
    for version in VERSIONS {
        for from in [Verify::None, Verify::Optional] {
            let browser = world.client(version, None);
            connect(&browser, &world.policy(from), world.at(0));
            let (error, failure) = refused(&browser, &world.policy(Verify::Required), world.at(1));
            assert_eq!(error, Error::AlertReceived(AlertDescription::CertificateRequired));
            assert_eq!(failure.alert, Some("certificate_required"));
            assert_eq!(failure.reason, "the client sent no certificate");
        }
    }
}

/// A session of one name is none of another's.
#[test]
fn a_session_does_not_resume_for_another_name() {
    let world = World::new();
    let alice = world.alice();
    for version in VERSIONS {
        let policy = world.policy(Verify::Required);
        let browser = world.client(version, Some(&alice));
        connect(&browser, &policy, world.at(0));
        let mut pair = Pair::new(&browser, &policy, world.at(1));
        // The client finds the session by the name; it must not be the name that it tells.
        let mut silent = browser.config.clone();
        silent.enable_sni = false;
        pair.client = ClientConnection::new(Arc::new(silent), ServerName::try_from("S.Example").unwrap()).unwrap();
        pair.run().unwrap();
        let established = pair.establish().unwrap();
        assert!(!verified(&established, &alice).resumed);
        assert_eq!(established.session.sni, None);
    }
}
