//! What the loader makes of `ca-file` and `crl-file`.

use super::*;
use crate::material::Entry;

const YEAR: i64 = 365 * DAY;

/// What the load of these files says: codes, and whether it was accepted.
fn load(ca: &str, crl: Option<&str>) -> (Vec<&'static str>, bool) {
    let mut collected = files([("/t/ca.pem", ca.to_owned())]);
    if let Some(crl) = crl {
        add_file(&mut collected, "/t/crl.pem", crl.as_bytes().to_vec(), 0o644);
    }
    let (policy, diagnostics) = build(Verify::Required, crl.is_some(), &collected);
    (diagnostics.iter().map(|diagnostic| diagnostic.code).collect(), policy.is_some())
}

#[test]
fn the_newest_crl_of_a_ca_counts_wherever_it_stands() {
    let ca = Ca::root("Root");
    let (old, new) = (ca.crl(&[], -2 * DAY, 2 * DAY), ca.crl(&[7], -DAY, 2 * DAY));
    for pem in [format!("{old}{new}"), format!("{new}{old}")] {
        assert_eq!(load(&ca.pem, Some(&pem)), (vec!["N240"], true));
        let policy = policy(Verify::Required, &ca.pem, Some(&pem));
        assert_eq!(refusal(&policy, &[ca.client("alice", |_| ()).der], now()).0.reason, Reason::Revoked);
    }
    // An old one that has expired does no harm.
    let expired = ca.crl(&[], -3 * DAY, -DAY);
    assert_eq!(load(&ca.pem, Some(&format!("{expired}{new}"))), (vec!["N240"], true));
}

#[test]
fn a_ca_that_has_expired_issues_nothing_more() {
    let (ca, other) = (Ca::root_with("Old", valid(-YEAR, 60)), Ca::root("Other"));
    let both = format!("{}{}", ca.pem, other.pem);
    let client = [ca.client("alice", |_| ()).der];
    // It expires while the process runs, and webpki does not look.
    let running = policy(Verify::Required, &both, None);
    assert!(judge(&running, Some(&client), Handshake::Resumed, at_second(59)).is_ok());
    let (late, alert) = refusal(&running, &client, at_second(61));
    assert_eq!((late.reason, alert), (Reason::Expired, AlertDescription::CertificateExpired));
    assert_eq!(late.words, "the CA \"/O=Example/CN=Old\" has expired");
    assert!(judge(&running, Some(&[other.client("bob", |_| ()).der]), Handshake::Resumed, at_second(61)).is_ok());
    // It had expired before.
    let expired = Ca::root_with("Old", valid(-YEAR, -60));
    let both = format!("{}{}", expired.pem, other.pem);
    assert_eq!(load(&both, None), (vec!["W232"], true));
    let (before, _) = refusal(&policy(Verify::Required, &both, None), &[expired.client("alice", |_| ()).der], now());
    assert_eq!(before.words, "the CA \"/O=Example/CN=Old\" has expired");
    assert_eq!(load(&expired.pem, None), (vec!["W232", "E231"], false));
}

/// A CA that was renewed with a new key keeps its name: whose key signed is what counts.
#[test]
fn the_expired_one_of_two_cas_of_a_name_issues_nothing_more() {
    let old = Ca::root_with("Root", valid(-100 * DAY, DAY));
    let new = Ca::root("Root");
    let policy = policy(Verify::Required, &(old.pem.clone() + &new.pem), None);
    let (by_old, by_new) = (old.client("alice", |_| ()), new.client("alice", |_| ()));
    let later = at_second(2 * DAY);
    for client in [&by_old, &by_new] {
        assert!(judge(&policy, Some(std::slice::from_ref(&client.der)), Handshake::Resumed, now()).is_ok());
    }
    assert!(judge(&policy, Some(std::slice::from_ref(&by_new.der)), Handshake::Resumed, later).is_ok());
    let (refused, alert) = refusal(&policy, std::slice::from_ref(&by_old.der), later);
    assert_eq!((refused.reason, alert), (Reason::Expired, AlertDescription::CertificateExpired));
    assert_eq!(refused.words, "the CA \"/O=Example/CN=Root\" has expired");
}

#[test]
fn cas_come_from_a_directory_and_are_sent_as_hints() {
    let (one, two) = (Ca::root("One"), Ca::root("Two"));
    let mut collected = files([
        ("/t/ca.pem/1.crt", one.pem.clone()),
        ("/t/ca.pem/2.pem", format!("{}{}", two.pem, one.pem)),
        ("/t/ca.pem/README", "no PEM".to_owned()),
        ("/t/ca.pem/.x.pem", "no PEM".to_owned()),
    ]);
    let (policy, diagnostics) = build(Verify::Required, false, &collected);
    assert_eq!(diagnostics, []);
    let policy = policy.unwrap();
    for ca in [&one, &two] {
        assert!(judged(policy.entry(0).client(), &[ca.client("alice", |_| ()).der]).is_ok());
    }
    assert_eq!(policy.entry(0).client().verifier().unwrap().root_hint_subjects().len(), 2);
    assert_eq!(policy.describe().iter().filter(|line| line.starts_with("client CA \"/O=Example/CN=")).count(), 2);
    collected.entries.insert("/t/ca.pem".into(), Entry::Directory(vec!["README".to_owned()]));
    assert_eq!(build(Verify::Required, false, &collected).1[0].code, "E231");
}

#[test]
fn ca_files_that_cannot_be_used_are_errors() {
    let ca = Ca::root("Root");
    assert_eq!(load(&ca.pem, None), (vec![], true));
    assert_eq!(load("", None), (vec!["E231"], false));
    assert_eq!(load("hello", None), (vec!["E231"], false));
    assert_eq!(load(&ec_key().serialize_pem(), None), (vec!["E231"], false));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(load(&format!("{}{garbage}", ca.pem), None), (vec!["E231"], false));
    assert_eq!(load(&format!("{}{}", ca.pem, ca.crl(&[], -DAY, 2 * DAY)), None), (vec!["W233"], true));
    let (policy, diagnostics) = build(Verify::Optional, false, &Files::default());
    assert!(policy.is_none());
    assert_eq!((diagnostics[0].code, diagnostics[0].message.as_str()), ("E221", "'/t/ca.pem' does not exist"));
}

#[test]
fn crl_files_that_cannot_be_used_are_errors() {
    let ca = Ca::root("Root");
    let good = ca.crl(&[], -DAY, 2 * DAY);
    assert_eq!(load(&ca.pem, Some(&good)), (vec![], true));
    assert_eq!(load(&ca.pem, Some("")), (vec!["E240"], false));
    assert_eq!(load(&ca.pem, Some("hello")), (vec!["E240"], false));
    assert_eq!(load(&ca.pem, Some(&good[..good.len() - 40])), (vec!["E240"], false));
    assert_eq!(load(&ca.pem, Some(&ca.pem)).0[0], "E240");
    let garbage = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    assert_eq!(load(&ca.pem, Some(&format!("{good}{garbage}"))), (vec!["E240"], false));
    assert_eq!(load(&ca.pem, Some(&ca.crl(&[], -2 * DAY, -1))), (vec!["E241"], false));
    assert_eq!(load(&ca.pem, Some(&ca.crl(&[], DAY, 2 * DAY))), (vec!["E241"], false));
    assert_eq!(load(&ca.pem, Some(&ca.crl(&[], -DAY, DAY - 60))), (vec!["W241"], true));
    let missing = build(Verify::Required, true, &files([("/t/ca.pem", ca.pem.clone())]));
    assert!(missing.0.is_none());
    assert_eq!((missing.1[0].code, missing.1[0].message.as_str()), ("E221", "'/t/crl.pem' does not exist"));
}

#[test]
fn messages_about_crls_name_the_file() {
    let (ca, impostor) = (Ca::root("Root"), Ca::root("Root"));
    let crls = [
        ca.crl(&[], -2 * DAY, -1),
        ca.crl(&[], DAY, 2 * DAY),
        ca.crl(&[], -DAY, DAY - 60),
        impostor.crl(&[], -DAY, 2 * DAY),
        Ca::root("Other").crl(&[], -DAY, 2 * DAY),
        String::new(),
    ];
    for crl in crls {
        let (_, diagnostics) =
            build(Verify::Required, true, &files([("/t/ca.pem", ca.pem.clone()), ("/t/crl.pem", crl)]));
        assert!(diagnostics[0].message.contains("'/t/crl.pem'"), "{}", diagnostics[0].message);
    }
}

#[test]
fn crls_of_other_signers_are_noticed() {
    let (ca, other, impostor) = (Ca::root("Root"), Ca::root("Other"), Ca::root("Root"));
    // No CRL for the CA: its clients would be refused.
    let foreign = other.crl(&[], -DAY, 2 * DAY);
    assert_eq!(load(&ca.pem, Some(&foreign)), (vec!["W240"], true));
    let policy = policy(Verify::Required, &ca.pem, Some(&foreign));
    assert_eq!(refusal(&policy, &[ca.client("alice", |_| ()).der], now()).0.reason, Reason::RevocationUnknown);
    // The name of the CA, but not its key.
    let forged = impostor.crl(&[], -DAY, 2 * DAY);
    assert_eq!(load(&ca.pem, Some(&forged)).0[0], "E242");
    assert!(!load(&ca.pem, Some(&forged)).1);
    let both = format!("{}{}", ca.pem, other.pem);
    let mine = ca.crl(&[], -DAY, 2 * DAY);
    assert_eq!(load(&both, Some(&mine)), (vec!["W240"], true));
    assert_eq!(load(&both, Some(&format!("{mine}{foreign}"))), (vec![], true));
}

#[test]
fn damaged_crls_never_panic_and_never_pass() {
    let ca = Ca::root("Root");
    let pem = ca.crl(&[7, 8], -DAY, 2 * DAY);
    let der = crate::tls::pem::parse(pem.as_bytes()).unwrap().crls.remove(0);
    for index in 0..der.len() {
        let mut damaged = der.to_vec();
        damaged[index] ^= 0x41;
        let text = base64(&damaged);
        let pem = format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n");
        let (codes, accepted) = load(&ca.pem, Some(&pem));
        // A changed issuer makes it the CRL of somebody else.
        assert!(!accepted || codes.contains(&"W240"), "byte {index}: {codes:?}");
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encode = |chunk: &[u8]| {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digit = |index: usize| char::from(ALPHABET[(word >> (18 - 6 * index)) as usize & 63]);
        (0..4).map(|index| if index <= chunk.len() { digit(index) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(encode).collect()
}

#[test]
fn names_are_sent_for_the_authorities_of_ca_file_only() {
    let (ca, more) = (Ca::root("Root"), Ca::root("More"));
    let collected = files([("/t/ca.pem", ca.pem.clone()), ("/t/more.pem", format!("{}{}", more.pem, ca.pem))]);
    let hints = |change: &dyn Fn(&mut BindTls)| {
        let (policy, diagnostics) = build_with(Verify::Required, false, &collected, |bind| {
            bind.ca_verify_file = Some(at(PathBuf::from("/t/more.pem")));
            change(bind);
        });
        assert_eq!(diagnostics, []);
        let policy = policy.unwrap().entry(0).client().clone();
        for client in [ca.client("alice", |_| ()), more.client("bob", |_| ())] {
            assert!(judged(&policy, &[client.der]).is_ok());
        }
        let hints = policy.verifier().unwrap().root_hint_subjects();
        hints.iter().map(|hint| hint.as_ref().to_vec()).collect::<Vec<_>>()
    };
    let name = Certificate::parse(&ca.der).unwrap().raw_subject().to_vec();
    assert_eq!(hints(&|_| ()), [name]);
    assert!(hints(&|bind| bind.ca_names = false).is_empty());
    assert!(hints(&|bind| bind.ca_file = None).is_empty());
}
