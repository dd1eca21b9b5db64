use std::path::PathBuf;
use std::time::{Duration, Instant};

use rcgen::{ExtendedKeyUsagePurpose, SerialNumber};
use rustls::AlertDescription;

use super::*;
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{BindTls, Verify};
use crate::material::Files;
use crate::tls::policy::{self, TlsPolicy};
use crate::tls::test_pki::*;
use crate::tls::tickets::TicketKeys;

mod exceptions;
mod files;

fn build(verify: Verify, with_crl: bool, files: &Files) -> (Option<TlsPolicy>, Vec<Diagnostic>) {
    build_with(verify, with_crl, files, |_| ())
}

fn build_with(
    verify: Verify,
    with_crl: bool,
    files: &Files,
    change: impl FnOnce(&mut BindTls),
) -> (Option<TlsPolicy>, Vec<Diagnostic>) {
    let mut bind = BindTls {
        verify,
        ca_file: Some(at(PathBuf::from("/t/ca.pem"))),
        crl_file: with_crl.then(|| at(PathBuf::from("/t/crl.pem"))),
        ..bind(&["/s/server.pem"])
    };
    change(&mut bind);
    let mut files = files.clone();
    let server = Ca::root("Server CA").server(&["s.example"], ec_key());
    add_file(&mut files, "/s/server.pem", server.combined().into_bytes(), 0o600);
    let keys = Arc::new(TicketKeys::new(Instant::now()));
    policy::build(&bind, &mut store(&files), &keys, limits(Duration::from_secs(300)), "bind", now())
}

/// The policy of a line whose files are in order.
fn policy(verify: Verify, ca: &str, crl: Option<&str>) -> ClientPolicy {
    let mut collected = files([("/t/ca.pem", ca.to_owned())]);
    if let Some(crl) = crl {
        add_file(&mut collected, "/t/crl.pem", crl.as_bytes().to_vec(), 0o644);
    }
    let (policy, diagnostics) = build(verify, crl.is_some(), &collected);
    assert_eq!(
        diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect::<Vec<_>>(),
        [] as [&Diagnostic; 0]
    );
    policy.unwrap().entry(0).client().clone()
}

fn judged(policy: &ClientPolicy, chain: &[CertificateDer<'static>]) -> Result<Verdict, Refusal> {
    judge(policy, Some(chain), Handshake::Resumed, now())
}

/// The refusal, the alert that a client would get, and that both ways to the verifier agree.
fn refusal(policy: &ClientPolicy, chain: &[CertificateDer<'static>], now: UnixTime) -> (Refusal, AlertDescription) {
    let refusal = judge(policy, Some(chain), Handshake::Resumed, now).unwrap_err();
    assert_eq!(take_refusal(), None);
    let verifier = policy.verifier().unwrap();
    let error = verifier.verify_client_cert(&chain[0], &chain[1..], now).unwrap_err();
    assert_eq!(take_refusal(), Some(refusal.clone()));
    assert_eq!(take_refusal(), None);
    let Error::InvalidCertificate(error) = error else { panic!("{error:?}") };
    (refusal, AlertDescription::from(error))
}

#[test]
fn a_client_of_the_ca_is_verified() {
    let ca = Ca::root("Root");
    let client = ca.client("alice", |_| ());
    for verify in [Verify::Optional, Verify::Required] {
        let policy = policy(verify, &ca.pem, None);
        let verdict = judged(&policy, std::slice::from_ref(&client.der)).unwrap();
        let Client::Verified { leaf, resumed: true } = verdict.client() else { panic!("{verdict:?}") };
        assert_eq!(*leaf, client.der);
        assert!(policy.verifier().unwrap().verify_client_cert(&client.der, &[], now()).is_ok());
    }
}

#[test]
fn without_certificate_the_mode_decides() {
    let ca = Ca::root("Root");
    let required = policy(Verify::Required, &ca.pem, None);
    let optional = policy(Verify::Optional, &ca.pem, None);
    let none = policy(Verify::None, &ca.pem, None);
    let full = |policy: &ClientPolicy| Handshake::Full { verified_by: policy.digest() };
    for chain in [None, Some([].as_slice())] {
        for handshake in [Handshake::Resumed, full(&required)] {
            let refusal = judge(&required, chain, handshake, now()).unwrap_err();
            assert_eq!(refusal.reason, Reason::NoCertificate);
            assert_eq!((refusal.words.as_str(), refusal.subject), ("no certificate was sent", None));
        }
        for handshake in [Handshake::Resumed, full(&optional)] {
            let verdict = judge(&optional, chain, handshake, now()).unwrap();
            assert!(matches!(verdict.client(), Client::Anonymous));
        }
        for handshake in [Handshake::Resumed, full(&none)] {
            assert!(matches!(judge(&none, chain, handshake, now()).unwrap().client(), Client::NotAsked));
        }
    }
    let (required, optional) = (required.verifier().unwrap(), optional.verifier().unwrap());
    assert!(required.client_auth_mandatory() && !optional.client_auth_mandatory());
    assert!(required.offer_client_auth() && optional.offer_client_auth() && none.verifier().is_none());
}

#[test]
fn nobody_is_identified_by_a_listener_that_does_not_ask() {
    let ca = Ca::root("Root");
    let client = ca.client("alice", |_| ());
    let policy = policy(Verify::None, &ca.pem, None);
    assert!(matches!(judged(&policy, &[client.der]).unwrap().client(), Client::NotAsked));
}

#[test]
fn a_full_handshake_counts_only_for_the_policy_that_verified_it() {
    let (ca, other) = (Ca::root("Root"), Ca::root("Other"));
    let (policy_of_ca, policy_of_other) =
        (policy(Verify::Required, &ca.pem, None), policy(Verify::Required, &other.pem, None));
    let chain = [ca.client("alice", |_| ()).der];
    let handshake = Handshake::Full { verified_by: policy_of_ca.digest() };
    let verdict = judge(&policy_of_ca, Some(&chain), handshake, now()).unwrap();
    assert!(matches!(verdict.client(), Client::Verified { resumed: false, .. }));
    assert_eq!(judge(&policy_of_other, Some(&chain), handshake, now()).unwrap_err().reason, Reason::UnknownCa);
}

#[test]
fn the_digest_tells_listeners_modes_cas_and_crls_apart() {
    let (ca, other) = (Ca::root("Root"), Ca::root("Other"));
    let (crl, newer_crl) = (ca.crl(&[], -DAY, 2 * DAY), ca.crl(&[7], -DAY, 2 * DAY));
    let digests = [
        policy(Verify::Required, &ca.pem, None).digest(),
        policy(Verify::Optional, &ca.pem, None).digest(),
        policy(Verify::None, &ca.pem, None).digest(),
        policy(Verify::Required, &other.pem, None).digest(),
        policy(Verify::Required, &format!("{}{}", ca.pem, other.pem), None).digest(),
        policy(Verify::Required, &ca.pem, Some(&crl)).digest(),
        policy(Verify::Required, &ca.pem, Some(&newer_crl)).digest(),
    ];
    for (index, digest) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(digest), "{index}");
    }
    let again = policy(Verify::Required, &format!("{}{}", other.pem, ca.pem), None).digest();
    assert_eq!(again, digests[4]);
}

#[test]
fn unknown_ca() {
    let (ca, other) = (Ca::root("Root"), Ca::root("Other"));
    let policy = policy(Verify::Required, &ca.pem, None);
    let (refusal, alert) = refusal(&policy, &[other.client("mallory", |_| ()).der], now());
    assert_eq!((refusal.reason, alert), (Reason::UnknownCa, AlertDescription::UnknownCA));
    assert_eq!(refusal.words, "no CA of 'ca-file' has issued it");
    let names = [refusal.subject, refusal.issuer, refusal.serial].map(Option::unwrap);
    assert_eq!(names, ["/O=Example/CN=mallory", "/O=Example/CN=Other", "07"]);
}

#[test]
fn a_ca_of_the_same_name_with_another_key_does_not_count() {
    let (ca, impostor) = (Ca::root("Root"), Ca::root("Root"));
    let policy = policy(Verify::Required, &ca.pem, None);
    let (refusal, _) = refusal(&policy, &[impostor.client("mallory", |_| ()).der, impostor.der.clone()], now());
    assert_eq!(refusal.reason, Reason::BadSignature);
}

#[test]
fn expired_and_not_yet_valid() {
    let ca = Ca::root("Root");
    let policy = policy(Verify::Optional, &ca.pem, None);
    let (expired, alert) = refusal(&policy, &[ca.client("alice", valid(-2 * DAY, -DAY)).der], now());
    assert_eq!((expired.reason, alert), (Reason::Expired, AlertDescription::CertificateExpired));
    assert_eq!(expired.words, format!("it has expired on {}", x509::date(at_second(-DAY))));
    let (early, alert) = refusal(&policy, &[ca.client("alice", valid(DAY, 2 * DAY)).der], now());
    assert_eq!((early.reason, alert), (Reason::NotYetValid, AlertDescription::CertificateExpired));
    assert_eq!(early.words, format!("it is not valid before {}", x509::date(at_second(DAY))));
}

#[test]
fn a_session_whose_certificate_has_expired_since_is_refused() {
    let ca = Ca::root("Root");
    let policy = policy(Verify::Required, &ca.pem, None);
    let chain = [ca.client("alice", valid(-DAY, 60)).der];
    assert!(judge(&policy, Some(&chain), Handshake::Resumed, at_second(59)).is_ok());
    assert_eq!(judge(&policy, Some(&chain), Handshake::Resumed, at_second(61)).unwrap_err().reason, Reason::Expired);
}

#[test]
fn an_expired_intermediate_is_not_blamed_on_the_leaf() {
    let root = Ca::root("Root");
    let issuing = root.intermediate_with("Issuing", valid(-2 * DAY, -DAY));
    let policy = policy(Verify::Required, &root.pem, None);
    let (refusal, _) = refusal(&policy, &[issuing.client("alice", |_| ()).der, issuing.der.clone()], now());
    assert_eq!(refusal.reason, Reason::Expired);
    assert!(refusal.words.starts_with("a certificate of its chain has expired"), "{}", refusal.words);
}

#[test]
fn the_extended_key_usage_must_allow_clients_if_there_is_one() {
    let ca = Ca::root("Root");
    let policy = policy(Verify::Required, &ca.pem, None);
    let client = |usages: &[ExtendedKeyUsagePurpose]| {
        [ca.client("alice", |params| params.extended_key_usages = usages.to_vec()).der]
    };
    use ExtendedKeyUsagePurpose::{ClientAuth, EmailProtection, ServerAuth};
    for allowed in [vec![], vec![ClientAuth], vec![ServerAuth, ClientAuth]] {
        assert!(judged(&policy, &client(&allowed)).is_ok(), "{allowed:?}");
    }
    for forbidden in [ServerAuth, EmailProtection] {
        let (refusal, alert) = refusal(&policy, &client(&[forbidden]), now());
        assert_eq!((refusal.reason, alert), (Reason::WrongPurpose, AlertDescription::UnsupportedCertificate));
    }
}

#[test]
fn a_ca_certificate_is_no_client_and_a_client_is_no_ca() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let policy = policy(Verify::Required, &root.pem, None);
    let (ca_as_client, alert) = refusal(&policy, std::slice::from_ref(&issuing.der), now());
    assert_eq!((ca_as_client.reason, alert), (Reason::WrongPurpose, AlertDescription::UnsupportedCertificate));
    assert_eq!(ca_as_client.words, "it is a CA certificate");
    let no_ca = root.intermediate_with("alice", |params| params.is_ca = rcgen::IsCa::ExplicitNoCa);
    let (by_client, alert) = refusal(&policy, &[no_ca.client("mallory", |_| ()).der, no_ca.der.clone()], now());
    assert_eq!((by_client.reason, alert), (Reason::UnknownCa, AlertDescription::UnknownCA));
    assert_eq!(by_client.words, "it was issued by a certificate that is no CA");
}

#[test]
fn revoked() {
    let ca = Ca::root("Root");
    let policy = policy(Verify::Required, &ca.pem, Some(&ca.crl(&[7], -DAY, 2 * DAY)));
    let (refusal, alert) = refusal(&policy, &[ca.client("alice", |_| ()).der], now());
    assert_eq!((refusal.reason, alert), (Reason::Revoked, AlertDescription::CertificateRevoked));
    let other = ca.client("bob", |params| params.serial_number = Some(SerialNumber::from(8)));
    assert!(judged(&policy, &[other.der]).is_ok());
}

#[test]
fn a_list_that_is_longer_than_any_chain_is_judged_for_every_client() {
    let ca = Ca::root("Root");
    let number = |number: u64| move |params: &mut rcgen::CertificateParams| params.serial_number = Some(number.into());
    let (first, last) = (ca.client("first", number(1)).der, ca.client("last", number(4000)).der);
    let (odd, even): (Vec<u64>, Vec<u64>) = (1..=4000).partition(|number| number % 2 == 1);
    // Verifiers side by side, as they are during a reload, and one after the other.
    let policies =
        [&odd, &even].map(|revoked| policy(Verify::Required, &ca.pem, Some(&ca.crl(revoked, -DAY, 2 * DAY))));
    for _ in 0..3 {
        for (policy, good, bad) in [(&policies[0], &last, &first), (&policies[1], &first, &last)] {
            assert!(judged(policy, std::slice::from_ref(good)).is_ok());
            assert_eq!(refusal(policy, std::slice::from_ref(bad), now()).0.reason, Reason::Revoked);
        }
    }
    let unsigned = Ca::root("Root").crl(&even, -DAY, 2 * DAY);
    let (policy, diagnostics) =
        build(Verify::Required, true, &files([("/t/ca.pem", ca.pem.clone()), ("/t/crl.pem", unsigned)]));
    assert!(policy.is_none() && diagnostics.iter().any(|found| found.code == "E242"), "{diagnostics:?}");
}

#[test]
fn revocation_is_checked_along_the_whole_chain() {
    let root = Ca::root("Root");
    let issuing = root.intermediate_with("Issuing", |params| params.serial_number = Some(SerialNumber::from(50)));
    let chain = [issuing.client("alice", |_| ()).der, issuing.der.clone()];
    let pem = |crls: &[String]| crls.concat();
    let of_root = |revoked: &[u64]| root.crl(revoked, -DAY, 2 * DAY);
    let of_issuing = |revoked: &[u64]| issuing.crl(revoked, -DAY, 2 * DAY);
    let with = |crls: &[String]| policy(Verify::Required, &root.pem, Some(&pem(crls)));
    assert!(judged(&with(&[of_root(&[]), of_issuing(&[])]), &chain).is_ok());
    for crls in [[of_root(&[50]), of_issuing(&[])], [of_root(&[]), of_issuing(&[7])]] {
        assert_eq!(refusal(&with(&crls), &chain, now()).0.reason, Reason::Revoked);
    }
    // Every CA of the chain needs a CRL.
    for crls in [of_root(&[]), of_issuing(&[])] {
        let (refusal, alert) = refusal(&with(&[crls]), &chain, now());
        assert_eq!((refusal.reason, alert), (Reason::RevocationUnknown, AlertDescription::UnknownCA));
    }
}

#[test]
fn a_crl_that_expires_while_running_refuses() {
    let ca = Ca::root("Root");
    let policy = policy(Verify::Required, &ca.pem, Some(&ca.crl(&[], -DAY, 30)));
    let chain = [ca.client("alice", |_| ()).der];
    assert!(judge(&policy, Some(&chain), Handshake::Resumed, at_second(29)).is_ok());
    let (refusal, alert) = refusal(&policy, &chain, at_second(31));
    assert_eq!((refusal.reason, alert), (Reason::CrlExpired, AlertDescription::UnknownCA));
}

#[test]
fn chains_that_are_too_large_never_reach_webpki() {
    let ca = Ca::root("Root");
    let policy = policy(Verify::Required, &ca.pem, None);
    let leaf = ca.client("alice", |_| ()).der;
    let filler = Ca::root("Filler").der;
    let chain = |intermediates: usize| {
        let mut chain = vec![leaf.clone()];
        chain.resize(1 + intermediates, filler.clone());
        chain
    };
    assert!(judged(&policy, &chain(INTERMEDIATES_MAX)).is_ok());
    let (too_many, alert) = refusal(&policy, &chain(INTERMEDIATES_MAX + 1), now());
    assert_eq!((too_many.reason, alert), (Reason::TooLarge, AlertDescription::UnknownCA));
    assert!(too_many.words.starts_with("too large: 7 certificates of "), "{}", too_many.words);
    let big = |bytes: usize| {
        Ca::root_with("Big", |params| {
            let blob = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![4; bytes]);
            params.custom_extensions.push(blob);
        })
        .der
    };
    // 60 KB in few certificates.
    let (too_long, _) = refusal(&policy, &[leaf.clone(), big(20_000), big(20_000), big(20_000)], now());
    assert_eq!(too_long.reason, Reason::TooLarge);
    assert!(judged(&policy, &[leaf.clone(), big(30_000)]).is_ok());
    let long_name = ca.client(&"A".repeat(17_000), |_| ());
    let (long_leaf, _) = refusal(&policy, &[long_name.der], now());
    assert_eq!(long_leaf.reason, Reason::TooLarge);
    assert!(long_leaf.subject.unwrap().len() < 300);
}

/// Certificates of one name that could all have issued each other: every order of them is a path to be tried.
#[test]
fn a_looping_chain_is_answered() {
    let policy = policy(Verify::Required, &Ca::root("Root").pem, None);
    let loops: Vec<Ca> = (0..8).map(|_| Ca::root("Loop")).collect();
    let mut chain = vec![Ca::root("Loop").client("mallory", |_| ()).der];
    chain.extend(loops[..INTERMEDIATES_MAX].iter().map(|ca| ca.der.clone()));
    assert_eq!(refusal(&policy, &chain, now()).0.reason, Reason::UnknownCa);
    chain.extend(loops[INTERMEDIATES_MAX..].iter().map(|ca| ca.der.clone()));
    assert_eq!(refusal(&policy, &chain, now()).0.reason, Reason::TooLarge);
}

#[test]
fn damaged_certificates_are_refused() {
    let ca = Ca::root("Root");
    let policy = policy(Verify::Required, &ca.pem, None);
    let der = ca.client("alice", |_| ()).der;
    let cut = CertificateDer::from(der[..der.len() - 1].to_vec());
    let (refusal, alert) = refusal(&policy, &[cut], now());
    assert_eq!((refusal.reason, alert, refusal.subject), (Reason::Malformed, AlertDescription::BadCertificate, None));
    // That the signature of the whole one is known to be good helps no other.
    assert!(judged(&policy, std::slice::from_ref(&der)).is_ok());
    for index in 0..der.len() {
        let mut damaged = der.to_vec();
        damaged[index] ^= 1;
        assert!(judged(&policy, &[CertificateDer::from(damaged)]).is_err(), "byte {index}");
    }
}

#[test]
fn names_of_clients_are_escaped_for_the_log() {
    let policy = policy(Verify::Required, &Ca::root("Root").pem, None);
    let client = Ca::root("Other").client("a\nb\0c\" \u{e9}", |_| ());
    let (refusal, _) = refusal(&policy, &[client.der], now());
    assert_eq!(refusal.subject.as_deref(), Some("/O=Example/CN=a#0Ab#00c#22 #C3#A9"));
}
