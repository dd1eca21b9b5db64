//! What is let in although webpki refuses it.

use rcgen::KeyPair;

use super::*;
use crate::conf::verify_errors::IgnoredErrors;

fn tolerant(leaf: &str, ca: &str, ca_pem: &str, crl: Option<&str>) -> ClientPolicy {
    let mut files = files([("/t/ca.pem", ca_pem.to_owned())]);
    if let Some(crl) = crl {
        add_file(&mut files, "/t/crl.pem", crl.as_bytes().to_vec(), 0o644);
    }
    let ignored =
        |text: &str| if text.is_empty() { IgnoredErrors::default() } else { IgnoredErrors::parse(text).unwrap() };
    let change = |bind: &mut BindTls| {
        bind.ignored_of_leaf = ignored(leaf);
        bind.ignored_of_ca = ignored(ca);
    };
    let (policy, diagnostics) = build_with(Verify::Required, crl.is_some(), &files, change);
    assert!(!diagnostics.iter().any(Diagnostic::is_error), "{diagnostics:?}");
    policy.unwrap().entry(0).client().clone()
}

/// The number of the error that was ignored; `None`: verified. Both ways to the verifier agree.
#[track_caller]
fn let_in(policy: &ClientPolicy, chain: &[CertificateDer<'static>], now: UnixTime) -> Option<u32> {
    let verdict = judge(policy, Some(chain), Handshake::Resumed, now).unwrap();
    assert!(policy.verifier().unwrap().verify_client_cert(&chain[0], &chain[1..], now).is_ok());
    let full = Handshake::Full { verified_by: policy.digest() };
    let fresh = judge(policy, Some(chain), full, now).unwrap();
    match (verdict.client(), fresh.client()) {
        (Client::Verified { leaf, resumed: true }, Client::Verified { resumed: false, .. }) => {
            assert_eq!(*leaf, chain[0]);
            None
        }
        (
            Client::Unverified { leaf, resumed: true, error },
            Client::Unverified { resumed: false, error: of_full, .. },
        ) => {
            assert_eq!((leaf, error), (&chain[0], of_full));
            Some(error.get())
        }
        _ => panic!("{verdict:?} {fresh:?}"),
    }
}

#[track_caller]
fn reason(policy: &ClientPolicy, chain: &[CertificateDer<'static>], now: UnixTime) -> Reason {
    refusal(policy, chain, now).0.reason
}

#[test]
fn version_1_signed_by_a_ca_of_the_file_is_let_in() {
    let ca = Ca::root("Root");
    let client = ca.client("alice", |_| ());
    let old = [as_version_1(&client.der, ca.key())];
    assert_eq!(let_in(&policy(Verify::Required, &ca.pem, None), &old, now()), None);
    // What else the client sends does not matter.
    let more = [old[0].clone(), ca.der.clone()];
    assert_eq!(let_in(&policy(Verify::Optional, &ca.pem, None), &more, now()), None);
    let clean = policy(Verify::Required, &ca.pem, Some(&ca.crl(&[8], -DAY, 2 * DAY)));
    assert_eq!(let_in(&clean, &old, now()), None);
    // The CA may be of version 1 itself.
    let old_ca = as_version_1(&ca.der, ca.key());
    assert_eq!(let_in(&policy(Verify::Required, &pem(&old_ca), None), &old, now()), None);
}

#[test]
fn version_1_is_judged_by_dates_and_lists() {
    let ca = Ca::root("Root");
    let issue = |from, to| [as_version_1(&ca.client("alice", valid(from, to)).der, ca.key())];
    let plain = policy(Verify::Required, &ca.pem, None);
    assert_eq!(reason(&plain, &issue(-2 * DAY, -DAY), now()), Reason::Expired);
    assert_eq!(reason(&plain, &issue(DAY, 2 * DAY), now()), Reason::NotYetValid);
    let good = issue(-DAY, 30 * DAY);
    let (revoked, alert) =
        refusal(&policy(Verify::Required, &ca.pem, Some(&ca.crl(&[7], -DAY, 2 * DAY))), &good, now());
    assert_eq!((revoked.reason, alert), (Reason::Revoked, AlertDescription::CertificateRevoked));
    assert_eq!((revoked.words.as_str(), revoked.serial.as_deref()), ("it is revoked", Some("07")));
    let clean = policy(Verify::Required, &ca.pem, Some(&ca.crl(&[8], -DAY, 2 * DAY)));
    assert_eq!(reason(&clean, &good, at_second(3 * DAY)), Reason::CrlExpired);
    let other = Ca::root("Other");
    let both = format!("{}{}", ca.pem, other.pem);
    let without = policy(Verify::Required, &both, Some(&other.crl(&[], -DAY, 2 * DAY)));
    assert_eq!(reason(&without, &good, now()), Reason::RevocationUnknown);
    let short = Ca::root_with("Short", valid(-DAY, DAY));
    let of_short = [as_version_1(&short.client("alice", |_| ()).der, short.key())];
    let running = policy(Verify::Required, &short.pem, None);
    assert_eq!(reason(&running, &of_short, at_second(2 * DAY)), Reason::Expired);
}

#[test]
fn version_1_of_anybody_else_is_refused() {
    let (ca, other) = (Ca::root("Root"), Ca::root("Other"));
    let client = ca.client("alice", |_| ());
    let listed = policy(Verify::Required, &ca.pem, None);
    // Another CA, one of the same name, and a signature that is none.
    for signer in [&other, &Ca::root("Root")] {
        let der = signer.client("alice", |_| ()).der;
        assert_eq!(reason(&listed, &[as_version_1(&der, signer.key())], now()), Reason::Malformed);
    }
    assert_eq!(reason(&listed, &[as_version_1(&client.der, other.key())], now()), Reason::Malformed);
    let mut damaged = as_version_1(&client.der, ca.key()).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(reason(&listed, &[damaged.into()], now()), Reason::Malformed);
    // Not directly: by an intermediate, and below one of version 1.
    let below = ca.intermediate("Issuing");
    let der = below.client("alice", |_| ()).der;
    let chain = [as_version_1(&der, below.key()), below.der.clone()];
    assert_eq!(reason(&listed, &chain, now()), Reason::Malformed);
    let chain = [der, as_version_1(&below.der, ca.key())];
    assert!(matches!(reason(&listed, &chain, now()), Reason::Malformed | Reason::UnknownCa));
    // A certificate in the file that is no CA, or is limited to some names, has signed it.
    let leaf_ca = Ca::root_with("Leaf", |params| params.is_ca = rcgen::IsCa::ExplicitNoCa);
    let der = as_version_1(&leaf_ca.client("alice", |_| ()).der, leaf_ca.key());
    assert_eq!(reason(&policy(Verify::Required, &leaf_ca.pem, None), &[der], now()), Reason::Malformed);
    let limited = Ca::root_with("Limited", |params| {
        let permitted_subtrees = vec![rcgen::GeneralSubtree::DnsName("example".to_owned())];
        params.name_constraints = Some(rcgen::NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let der = as_version_1(&limited.client("alice", |_| ()).der, limited.key());
    assert_eq!(reason(&policy(Verify::Required, &limited.pem, None), &[der], now()), Reason::Malformed);
}

fn self_signed(change: impl FnOnce(&mut rcgen::CertificateParams)) -> (CertificateDer<'static>, KeyPair) {
    let key = ec_key();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "carol");
    valid(-DAY, 30 * DAY)(&mut params);
    change(&mut params);
    (params.self_signed(&key).unwrap().der().clone(), key)
}

#[test]
fn a_self_signed_certificate_is_let_in_if_it_is_in_the_file() {
    let (plain, key) = self_signed(|_| ());
    let (own_ca, _) = self_signed(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    let (stranger, _) = self_signed(|_| ());
    let file = format!("{}{}{}", pem(&plain), pem(&own_ca), pem(&as_version_1(&plain, &key)));
    let listed = policy(Verify::Required, &file, None);
    for known in [&plain, &own_ca, &as_version_1(&plain, &key)] {
        assert_eq!(let_in(&listed, std::slice::from_ref(known), now()), None);
    }
    assert_eq!(reason(&listed, &[stranger], now()), Reason::BadSignature, "another key under the same name");
    assert_eq!(reason(&listed, std::slice::from_ref(&own_ca), at_second(31 * DAY)), Reason::Expired);
    let elsewhere = policy(Verify::Required, &Ca::root("Root").pem, None);
    let (unknown, alert) = refusal(&elsewhere, std::slice::from_ref(&own_ca), now());
    assert_eq!((unknown.reason, alert), (Reason::UnknownCa, AlertDescription::UnknownCA));
    assert_eq!(unknown.words, "it is self-signed, and not in 'ca-file'");
    // Revocation cannot be checked without a list of its own.
    let ca = Ca::root("Root");
    let with_crl = policy(Verify::Required, &format!("{file}{}", ca.pem), Some(&ca.crl(&[], -DAY, 2 * DAY)));
    assert_eq!(reason(&with_crl, &[own_ca], now()), Reason::RevocationUnknown);
}

/// A self-signed certificate as a CA, to sign with it what it may not sign.
fn as_ca(name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Ca {
    Ca::root_with(name, |params| {
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.key_usages = Vec::new();
        change(params);
    })
}

#[test]
fn a_self_signed_certificate_of_the_file_signs_nothing() {
    let explicit = as_ca("alice", |_| ());
    let silent = as_ca("alice", |params| params.is_ca = rcgen::IsCa::NoCa);
    let wrong_usage = as_ca("alice", |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    });
    let real = Ca::root("Root");
    for pin in [explicit, silent, wrong_usage] {
        let admin = [pin.client("admin", |_| ()).der];
        let below = pin.intermediate("Issuing");
        let deep = [below.client("admin", |_| ()).der, below.der.clone()];
        let with_pin = [admin[0].clone(), pin.der.clone()];
        for file in [pin.pem.clone(), format!("{}{}", pin.pem, real.pem), format!("{}{}", real.pem, pin.pem)] {
            for verify in [Verify::Required, Verify::Optional] {
                let listed = policy(verify, &file, None);
                for chain in [&admin[..], &deep, &with_pin] {
                    let (refused, alert) = refusal(&listed, chain, now());
                    assert_eq!((refused.reason, alert), (Reason::UnknownCa, AlertDescription::UnknownCA));
                }
            }
            // Nor if some errors are ignored: this is none of them.
            let ignoring = tolerant("3,10,12,23", "3,10,12,23", &file, None);
            let expired = [pin.client("admin", valid(-2 * DAY, -DAY)).der];
            for chain in [&admin[..], &deep, &with_pin, &expired] {
                assert!(matches!(reason(&ignoring, chain, now()), Reason::UnknownCa | Reason::Expired));
            }
        }
        let both = policy(Verify::Required, &format!("{}{}", pin.pem, real.pem), None);
        assert_eq!(let_in(&both, std::slice::from_ref(&pin.der), now()), None);
        assert_eq!(let_in(&both, &[real.client("bob", |_| ()).der], now()), None);
        let alone = policy(Verify::Required, &pin.pem, None);
        assert_eq!(let_in(&alone, std::slice::from_ref(&pin.der), now()), None);
        assert_eq!(reason(&alone, std::slice::from_ref(&pin.der), at_second(4000 * DAY)), Reason::Expired);
    }
}

#[test]
fn an_ignored_error_is_found_through_the_right_ca() {
    let (pin, real) = (as_ca("alice", |_| ()), Ca::root("Root"));
    let file = format!("{}{}", pin.pem, real.pem);
    let ignoring = tolerant("10", "", &file, None);
    assert_eq!(let_in(&ignoring, &[real.client("bob", valid(-2 * DAY, -DAY)).der], now()), Some(10));
    // The path is the one of the CA: with its list, not with the one of the certificate in front of it.
    let with_crl = tolerant("10", "", &file, Some(&real.crl(&[9], -DAY, 2 * DAY)));
    assert_eq!(let_in(&with_crl, &[real.client("bob", valid(-2 * DAY, -DAY)).der], now()), Some(10));
}

#[test]
fn who_may_sign_is_openssls_answer() {
    // Without basicConstraints, keyUsage decides (`X509_check_ca` answers 4).
    let by_usage = as_ca("Old", |params| {
        params.is_ca = rcgen::IsCa::NoCa;
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        // rcgen writes keyUsage only beside another extension.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(
        let_in(&policy(Verify::Required, &by_usage.pem, None), &[by_usage.client("a", |_| ()).der], now()),
        None
    );
    // A root of version 1 may (3).
    let real = Ca::root("Root");
    let old = as_version_1(&real.der, real.key());
    assert_eq!(let_in(&policy(Verify::Required, &pem(&old), None), &[real.client("a", |_| ()).der], now()), None);
    // One of version 1 that is no root may not: it is neither a CA nor somebody's own.
    let below = real.intermediate("Issuing");
    let old = as_version_1(&below.der, real.key());
    let listed = files([("/t/ca.pem", pem(&old))]);
    let (policy, diagnostics) = build(Verify::Required, false, &listed);
    assert!(diagnostics.iter().any(|one| one.code == "W235"), "{diagnostics:?}");
    let policy = policy.unwrap().entry(0).client().clone();
    assert_eq!(reason(&policy, &[below.client("a", |_| ()).der], now()), Reason::UnknownCa);
}

#[test]
fn a_self_signed_certificate_must_be_meant_for_clients() {
    let ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let signing = |params: &mut rcgen::CertificateParams| {
        params.is_ca = ca;
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    };
    let server = |params: &mut rcgen::CertificateParams| {
        params.is_ca = ca;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    for (certificate, _) in [self_signed(signing), self_signed(server)] {
        let listed = policy(Verify::Required, &pem(&certificate), None);
        assert_eq!(reason(&listed, &[certificate], now()), Reason::WrongPurpose);
    }
    let client = |params: &mut rcgen::CertificateParams| {
        params.is_ca = ca;
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let (certificate, _) = self_signed(client);
    assert_eq!(let_in(&policy(Verify::Required, &pem(&certificate), None), &[certificate], now()), None);
}

#[test]
fn an_ignored_error_is_told_by_its_number() {
    let ca = Ca::root("Root");
    let crl = ca.crl(&[7], -DAY, 2 * DAY);
    let clean = ca.crl(&[9], -DAY, 2 * DAY);
    let leaf = |serial: u64, to: i64| {
        [ca.client("alice", |params| {
            params.serial_number = Some(SerialNumber::from(serial));
            valid(-2 * DAY, to)(params);
        })
        .der]
    };
    let (good, expired) = (leaf(8, DAY), leaf(8, -DAY));
    let (revoked, both) = (leaf(7, DAY), leaf(7, -DAY));
    let of = |ignored: &str, crl: &str| tolerant(ignored, "", &ca.pem, Some(crl));
    assert_eq!(let_in(&of("10", &crl), &good, now()), None, "a good one is verified");
    assert_eq!(let_in(&of("10", &crl), &expired, now()), Some(10));
    assert_eq!(let_in(&of("23", &crl), &revoked, now()), Some(23));
    assert_eq!(let_in(&of("10,23", &crl), &both, now()), Some(10), "OpenSSL looks at dates last");
    assert_eq!(let_in(&of("12", &clean), &leaf(8, 4 * DAY), at_second(3 * DAY)), Some(12));
    let other = Ca::root("Other");
    let two = format!("{}{}", ca.pem, other.pem);
    let without = |ignored: &str| tolerant(ignored, "", &two, Some(&other.crl(&[], -DAY, 2 * DAY)));
    assert_eq!(let_in(&without("3"), &good, now()), Some(3));
    // One error that is ignored excuses no other.
    assert_eq!(reason(&of("10", &crl), &revoked, now()), Reason::Revoked);
    assert_eq!(reason(&of("10", &crl), &both, now()), Reason::Revoked);
    assert_eq!(reason(&of("23", &crl), &both, now()), Reason::Expired);
    assert_eq!(reason(&of("12", &crl), &leaf(7, 4 * DAY), at_second(3 * DAY)), Reason::Revoked);
    assert_eq!(reason(&of("23", &clean), &leaf(8, 4 * DAY), at_second(3 * DAY)), Reason::CrlExpired);
    assert_eq!(reason(&without("10,12,23"), &good, now()), Reason::RevocationUnknown);
    let stranger = [other.client("bob", valid(-2 * DAY, -DAY)).der];
    assert!(matches!(reason(&of("10", &crl), &stranger, now()), Reason::UnknownCa | Reason::Expired));
    // Those of a CA are another matter.
    let of_ca = tolerant("", "all", &ca.pem, Some(&crl));
    assert_eq!(reason(&of_ca, &expired, now()), Reason::Expired);
    assert_eq!(reason(&of_ca, &revoked, now()), Reason::Revoked);
    // Version 1 goes the same way.
    let old = [as_version_1(&expired[0], ca.key())];
    assert_eq!(let_in(&of("10", &crl), &old, now()), Some(10));
    assert_eq!(reason(&of("23", &crl), &old, now()), Reason::Expired);
}

#[test]
fn errors_of_the_chain_are_ignored_by_ca_ignore_err() {
    let root = Ca::root("Root");
    let issuing = root.intermediate_with("Issuing", |params| {
        params.serial_number = Some(SerialNumber::from(70));
        valid(-100 * DAY, DAY)(params);
    });
    let chain = [issuing.client("alice", |_| ()).der, issuing.der.clone()];
    let later = at_second(2 * DAY);
    assert_eq!(let_in(&tolerant("", "10", &root.pem, None), &chain, later), Some(10));
    assert_eq!(reason(&tolerant("10", "", &root.pem, None), &chain, later), Reason::Expired);
    let crls = |revoked: &[u64]| format!("{}{}", root.crl(revoked, -DAY, 5 * DAY), issuing.crl(&[], -DAY, 5 * DAY));
    let of_ca = |ignored: &str, crl: &str| tolerant("", ignored, &root.pem, Some(crl));
    assert_eq!(let_in(&of_ca("23", &crls(&[70])), &chain, now()), Some(23));
    assert_eq!(reason(&of_ca("10,3,12", &crls(&[70])), &chain, now()), Reason::Revoked);
    assert_eq!(let_in(&of_ca("3", &issuing.crl(&[], -DAY, 5 * DAY)), &chain, now()), Some(3));
    assert_eq!(reason(&of_ca("10,12,23", &issuing.crl(&[], -DAY, 5 * DAY)), &chain, now()), Reason::RevocationUnknown);
    // A CA of the file that expires while the process runs.
    let short = Ca::root_with("Short", valid(-DAY, DAY));
    let client = [short.client("alice", |_| ()).der];
    assert_eq!(let_in(&tolerant("", "10", &short.pem, None), &client, later), Some(10));
    assert_eq!(reason(&tolerant("10", "", &short.pem, None), &client, later), Reason::Expired);
}

#[test]
fn all_lets_in_strangers_but_nobody_as_verified() {
    let (ca, other) = (Ca::root("Root"), Ca::root("Other"));
    let below = other.intermediate("Issuing");
    let leaf_only = tolerant("all", "", &ca.pem, None);
    let all = tolerant("all", "all", &ca.pem, None);
    let stranger = [other.client("mallory", |_| ()).der];
    let (own, _) = self_signed(|_| ());
    assert_eq!(let_in(&leaf_only, &stranger, now()), Some(21));
    assert_eq!(let_in(&leaf_only, &[own], now()), Some(18));
    assert_eq!(let_in(&leaf_only, &[as_version_1(&stranger[0], other.key())], now()), Some(21));
    assert_eq!(let_in(&leaf_only, &[other.client("mallory", valid(-2 * DAY, -DAY)).der], now()), Some(10));
    assert_eq!(let_in(&leaf_only, &[ca.client("alice", valid(DAY, 2 * DAY)).der], now()), Some(9));
    let server = ca.client("server", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(let_in(&leaf_only, &[server.der], now()), Some(26));
    assert_eq!(let_in(&leaf_only, &[ca.client("alice", |_| ()).der], now()), None);
    let with_root = [stranger[0].clone(), other.der.clone()];
    let without_root = [below.client("mallory", |_| ()).der, below.der.clone()];
    assert_eq!(let_in(&all, &with_root, now()), Some(19));
    assert_eq!(let_in(&all, &without_root, now()), Some(20));
    // What is wrong above the leaf needs 'ca-ignore-err'.
    assert_eq!(reason(&leaf_only, &with_root, now()), Reason::UnknownCa);
    assert_eq!(reason(&leaf_only, &without_root, now()), Reason::UnknownCa);
    // What is no certificate, or too much of them, is let in by nothing.
    assert_eq!(reason(&all, &[b"hello".to_vec().into()], now()), Reason::Malformed);
    let many = vec![stranger[0].clone(); 10];
    assert_eq!(reason(&all, &many, now()), Reason::TooLarge);
    let none = judge(&all, None, Handshake::Resumed, now()).unwrap_err();
    assert_eq!(none.reason, Reason::NoCertificate);
}

/// What the load says with errors ignored: code and note, and whether it was accepted.
fn load(leaf: &str, ca: &str, ca_pem: &str, crl: Option<&str>) -> (Vec<(&'static str, String)>, bool) {
    let mut files = files([("/t/ca.pem", ca_pem.to_owned())]);
    if let Some(crl) = crl {
        add_file(&mut files, "/t/crl.pem", crl.as_bytes().to_vec(), 0o644);
    }
    let ignored = |text: &str| IgnoredErrors::parse(text).unwrap_or_default();
    let change = |bind: &mut BindTls| {
        bind.ignored_of_leaf = ignored(leaf);
        bind.ignored_of_ca = ignored(ca);
    };
    let (policy, diagnostics) = build_with(Verify::Required, crl.is_some(), &files, change);
    (diagnostics.iter().map(|one| (one.code, one.notes.join(" "))).collect(), policy.is_some())
}

#[test]
fn a_list_that_has_expired_is_a_warning_if_that_is_ignored() {
    let ca = Ca::root("Root");
    let expired = ca.crl(&[7], -2 * DAY, -1);
    let leaf = |serial: u64| [ca.client("alice", |params| params.serial_number = Some(SerialNumber::from(serial))).der];
    let says = |leaf: &str, of_ca: &str, code: &str, words: &str, is_accepted: bool| {
        let (said, accepted) = load(leaf, of_ca, &ca.pem, Some(&expired));
        assert_eq!((said.len(), said[0].0, accepted), (1, code, is_accepted), "{said:?}");
        assert!(said[0].1.contains(words), "{said:?}");
    };
    says("", "", "E241", "every client of this CA would be refused", false);
    says("3,10,23", "3,10,23", "E241", "every client of this CA would be refused", false);
    says("12", "", "W241", "those below another CA that it issued are refused", true);
    says("", "12", "W241", "clients that it issued itself are refused", true);
    says("12", "all", "W241", "'crt-ignore-err' and 'ca-ignore-err' let it pass", true);
    let of_leaf = tolerant("12", "", &ca.pem, Some(&expired));
    assert_eq!(let_in(&of_leaf, &leaf(8), now()), Some(12));
    assert_eq!(reason(&of_leaf, &leaf(7), now()), Reason::Revoked);
    assert_eq!(reason(&tolerant("", "12", &ca.pem, Some(&expired)), &leaf(8), now()), Reason::CrlExpired);
    let below = ca.intermediate("Issuing");
    let lists = format!("{expired}{}", below.crl(&[], -DAY, 2 * DAY));
    let chain = [below.client("alice", |_| ()).der, below.der.clone()];
    assert_eq!(reason(&tolerant("12", "", &ca.pem, Some(&lists)), &chain, now()), Reason::CrlExpired);
    // One that is not valid yet is none of these errors.
    assert!(!load("12", "12", &ca.pem, Some(&ca.crl(&[], DAY, 2 * DAY))).1);
}

#[test]
fn a_ca_that_has_expired_is_a_warning_if_that_is_ignored() {
    let ca = Ca::root_with("Old", valid(-20 * DAY, -DAY));
    let client = [ca.client("alice", |_| ()).der];
    for ignored in ["", "3,12,23"] {
        assert_eq!(
            load("10", ignored, &ca.pem, None).0.iter().map(|(code, _)| *code).collect::<Vec<_>>(),
            ["W232", "E231"]
        );
    }
    let (said, accepted) = load("", "10", &ca.pem, None);
    assert_eq!((said.len(), said[0].0, accepted), (1, "W232", true), "{said:?}");
    assert!(said[0].1.contains("let in by 'ca-ignore-err'"), "{said:?}");
    let ignoring = tolerant("", "10", &ca.pem, None);
    assert_eq!(let_in(&ignoring, &client, now()), Some(10));
    let stranger = [Ca::root("Other").client("mallory", |_| ()).der];
    assert_eq!(reason(&ignoring, &stranger, now()), Reason::UnknownCa);
    assert_eq!(reason(&ignoring, &[Ca::root("Old").client("mallory", |_| ()).der], now()), Reason::Expired);
    // A client's own certificate is judged as such.
    let own = as_ca("carol", valid(-20 * DAY, -DAY));
    let (said, accepted) = load("", "10", &own.pem, None);
    assert_eq!((said.len(), accepted), (2, false), "{said:?}");
    let (said, accepted) = load("10", "", &own.pem, None);
    assert_eq!((said.len(), said[0].0, accepted), (1, "W232", true), "{said:?}");
    assert_eq!(let_in(&tolerant("10", "", &own.pem, None), std::slice::from_ref(&own.der), now()), Some(10));
}

#[test]
fn the_note_about_a_missing_list_tells_who_is_refused() {
    let (ca, other) = (Ca::root("Root"), Ca::root("Other"));
    let two = format!("{}{}", ca.pem, other.pem);
    let list = other.crl(&[], -DAY, 2 * DAY);
    let note = |leaf: &str, of_ca: &str| {
        let (said, accepted) = load(leaf, of_ca, &two, Some(&list));
        assert_eq!((said.len(), said[0].0, accepted), (1, "W240", true), "{said:?}");
        said[0].1.clone()
    };
    assert!(note("10", "12").contains("certificates that it issued are refused"));
    assert!(note("3", "3").contains("let it pass"));
    assert!(note("3", "").contains("those below another CA that it issued are refused"));
}

#[test]
fn what_is_ignored_belongs_to_the_policy() {
    let ca = Ca::root("Root");
    let digests = ["", "10", "23", "all"].map(|ignored| tolerant(ignored, "", &ca.pem, None).digest());
    let of_ca = tolerant("", "10", &ca.pem, None).digest();
    for (index, digest) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(digest) && *digest != of_ca, "{index}");
    }
}
