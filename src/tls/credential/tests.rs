use super::*;
use crate::conf::model::SniPolicy;
use crate::tls::test_pki::*;

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn load_from(files: &Files, crt: &[&str]) -> (Vec<Arc<Credential>>, Vec<Diagnostic>) {
    let (listed, diagnostics) = load(&bind(crt), files, &provider(), now(), &[]);
    (listed.into_iter().map(|listed| listed.credential).collect(), diagnostics)
}

/// The only diagnostic, which must be an error that leaves nothing loaded.
fn refusal(files: &Files, crt: &str) -> Diagnostic {
    let (credentials, mut diagnostics) = load_from(files, &[crt]);
    assert!(credentials.is_empty());
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    assert!(diagnostics[0].is_error());
    diagnostics.remove(0)
}

fn server() -> Issued {
    Ca::root("Root").server(&["a.example", "*.b.example"], ec_key())
}

#[test]
fn a_combined_file_is_loaded_with_its_facts() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let server = issuing.server(&["a.example", "*.b.example"], ec_key());
    let file = format!("{}{}{}", server.key.serialize_pem(), server.pem, issuing.pem);
    let (credentials, diagnostics) = load_from(&files([("/c/a.pem", file)]), &["/c/a.pem"]);
    assert_eq!(diagnostics, []);
    let facts = credentials[0].facts();
    assert_eq!(facts.names, ["a.example", "*.b.example"]);
    assert_eq!((facts.server_sig_alg, facts.server_key_alg.as_str()), ("ecdsa-with-SHA256", "EC256"));
    assert_eq!(credentials[0].certified().cert, [server.der.clone(), issuing.der.clone()]);
    let expiry = x509::date(at_second(30 * DAY));
    let line = format!("certificate \"/CN=a.example\" serial 07 expires {expiry} EC256 from '/c/a.pem'");
    assert_eq!(credentials[0].describe(), line);
    assert!(!format!("{:?}", credentials[0]).contains("certified"));
}

#[test]
fn the_key_may_stand_beside_the_certificate() {
    let server = server();
    let beside = files([("/c/a.pem", server.pem.clone()), ("/c/a.pem.key", server.key.serialize_pem())]);
    let (credentials, diagnostics) = load_from(&beside, &["/c/a.pem"]);
    assert_eq!((credentials.len(), diagnostics), (1, vec![]));
}

#[test]
fn a_missing_key_is_told_with_both_places() {
    let diagnostic = refusal(&files([("/c/a.pem", server().pem)]), "/c/a.pem");
    assert_eq!((diagnostic.code, diagnostic.message.as_str()), ("E220", "no private key for '/c/a.pem'"));
    let note = "looked in the file itself (1 certificate, 0 keys) and in '/c/a.pem.key' (does not exist)";
    assert_eq!(diagnostic.notes, [note]);
    let empty = server().pem;
    let diagnostic = refusal(&files([("/c/a.pem", server().pem), ("/c/a.pem.key", empty)]), "/c/a.pem");
    assert!(diagnostic.notes[0].ends_with("(has no key)"), "{diagnostic:?}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let other = ec_key().serialize_pem();
    let diagnostic = refusal(&files([("/c/a.pem", format!("{}{other}", server().pem))]), "/c/a.pem");
    assert_eq!(diagnostic.code, "E226");
    assert_eq!(diagnostic.notes, [""; 0]);
    let other = rsa_key().serialize_pem();
    assert_eq!(refusal(&files([("/c/a.pem", format!("{}{other}", server().pem))]), "/c/a.pem").code, "E226");
}

#[test]
fn a_chain_in_the_wrong_order_is_recognised() {
    let root = Ca::root("Root");
    let server = root.server(&["a.example"], ec_key());
    let file = format!("{}{}", root.pem, server.combined());
    let diagnostic = refusal(&files([("/c/a.pem", file)]), "/c/a.pem");
    assert_eq!(diagnostic.code, "E226");
    assert_eq!(diagnostic.notes, ["it belongs to certificate 2 of the file: that one must come first"]);
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let server = server();
    let twice = format!("{}{}", server.combined(), server.key.serialize_pem());
    assert_eq!(refusal(&files([("/c/a.pem", twice)]), "/c/a.pem").code, "E224");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let diagnostic = refusal(&files([("/c/a.pem", format!("{}{encrypted}", server.pem))]), "/c/a.pem");
    assert_eq!(diagnostic.code, "E225");
    assert!(diagnostic.notes[0].contains("openssl pkey -in /c/a.pem"), "{diagnostic:?}");
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(refusal(&files([("/c/a.pem", format!("{}{garbage}", server.pem))]), "/c/a.pem").code, "E227");
}

#[test]
fn files_that_are_no_certificates_are_refused() {
    let diagnostic = refusal(&files([("/c/a.pem", String::new())]), "/c/a.pem");
    assert_eq!((diagnostic.code, diagnostic.message.as_str()), ("E222", "'/c/a.pem' is empty"));
    let diagnostic = refusal(&files([("/c/a.pem", ec_key().serialize_pem())]), "/c/a.pem");
    assert_eq!((diagnostic.code, diagnostic.notes[0].as_str()), ("E223", "it has only: PRIVATE KEY"));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let with_key = format!("{garbage}{}", ec_key().serialize_pem());
    assert_eq!(refusal(&files([("/c/a.pem", with_key)]), "/c/a.pem").code, "E227");
    assert_eq!(refusal(&Files::default(), "/c/a.pem").message, "'/c/a.pem' does not exist");
    let mut unreadable = Files::default();
    unreadable.entries.insert("/c/a.pem".into(), Entry::Unreadable("Permission denied".to_owned()));
    assert_eq!(refusal(&unreadable, "/c/a.pem").message, "cannot read '/c/a.pem': Permission denied");
}

#[test]
fn dates_and_modes_are_warnings() {
    let issue = |from, to| Ca::root("Root").issue(ec_key(), valid(from, to)).combined().into_bytes();
    let code = |bytes, mode| {
        let mut files = Files::default();
        add_file(&mut files, "/c/a.pem", bytes, mode);
        let (credentials, diagnostics) = load_from(&files, &["/c/a.pem"]);
        assert_eq!(credentials.len(), 1);
        diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>()
    };
    assert_eq!(code(issue(-2 * DAY, -DAY), 0o600), ["W222"]);
    assert_eq!(code(issue(DAY, 2 * DAY), 0o640), ["W223"]);
    assert_eq!(code(issue(-DAY, DAY), 0o644), ["W221"]);
    // A certificate may be public, its key may not.
    let server = server();
    let mut files = Files::default();
    add_file(&mut files, "/c/a.pem", server.pem.clone().into_bytes(), 0o644);
    add_file(&mut files, "/c/a.pem.key", server.key.serialize_pem().into_bytes(), 0o600);
    assert_eq!(load_from(&files, &["/c/a.pem"]).1, []);
}

#[test]
fn directories_are_read_in_name_order_without_companions() {
    let ca = Ca::root("Root");
    let name = |name| ca.server(&[name], ec_key()).combined();
    let split = ca.server(&["split.example"], ec_key());
    let mut all = files([
        ("/d/b.pem", name("b.example")),
        ("/d/a", name("a.example")),
        ("/d/.hidden.pem", "x".to_owned()),
        ("/d/c.pem", split.pem.clone()),
        ("/d/c.pem.key", split.key.serialize_pem()),
        ("/d/c.pem.issuer", "x".to_owned()),
        ("/d/c.pem.ocsp", "x".to_owned()),
        ("/d/c.pem.sctl", "x".to_owned()),
    ]);
    let (credentials, diagnostics) = load_from(&all, &["/d"]);
    let loaded: Vec<_> = credentials.iter().map(|credential| credential.path().to_str().unwrap()).collect();
    assert_eq!(loaded, ["/d/a", "/d/b.pem", "/d/c.pem"]);
    assert_eq!(diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>(), ["N224"]);
    all.entries.insert("/d".into(), Entry::Directory(vec![".hidden.pem".to_owned()]));
    assert_eq!(refusal(&all, "/d").code, "E228");
    let strict = BindTls { sni: SniPolicy::Strict, ..bind(&["/d"]) };
    assert_eq!(load(&strict, &all, &provider(), now(), &[]).1, []);
}

#[test]
fn what_did_not_change_is_not_parsed_again() {
    let ca = Ca::root("Root");
    let file = |name| ca.server(&[name], ec_key()).combined();
    let mut all = files([("/c/a.pem", file("a.example")), ("/c/b.pem", file("b.example"))]);
    let first = load_from(&all, &["/c/a.pem", "/c/b.pem"]).0;
    add_file(&mut all, "/c/b.pem", file("b.example").into_bytes(), 0o600);
    let second = load(&bind(&["/c/a.pem", "/c/b.pem"]), &all, &provider(), now(), &first).0;
    assert!(Arc::ptr_eq(&first[0], &second[0].credential));
    assert!(!Arc::ptr_eq(&first[1], &second[1].credential));
}
