use super::*;
use crate::conf::certificate_files::{CertificateFiles, ExtraFiles};
use crate::conf::model::{BindTls, SniPolicy};
use crate::tls::certificates::{Listed, Store, load};
use crate::tls::test_pki::*;

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn load_from(files: &Files, crt: &[&str]) -> (Vec<Arc<Credential>>, Vec<Diagnostic>) {
    load_with(&CertificateFiles::default(), files, &bind(crt))
}

fn load_with(settings: &CertificateFiles, files: &Files, bind: &BindTls) -> (Vec<Arc<Credential>>, Vec<Diagnostic>) {
    let (mut store, mut diagnostics) = Store::new(settings, files);
    let (listed, found) = load(bind, &mut store, &provider(), now());
    diagnostics.extend(found);
    (listed.into_iter().map(|Listed { credential, .. }| credential).collect(), diagnostics)
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
    assert_eq!((facts.server.sig_alg, facts.server.key_alg.as_str()), ("ecdsa-with-SHA256", "EC256"));
    assert_eq!(credentials[0].certified(now()).cert, [server.der.clone(), issuing.der.clone()]);
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
    assert_eq!(diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>(), ["W224"]);
    all.entries.insert("/d".into(), Entry::Directory(vec![".hidden.pem".to_owned()]));
    assert_eq!(refusal(&all, "/d").code, "E228");
    let strict = BindTls { sni: SniPolicy::Strict, ..bind(&["/d"]) };
    assert_eq!(load(&strict, &mut store(&all), &provider(), now()).1, []);
}

#[test]
fn what_did_not_change_is_not_parsed_again() {
    let ca = Ca::root("Root");
    let file = |name| ca.server(&[name], ec_key()).combined();
    let mut all = files([("/c/a.pem", file("a.example")), ("/c/b.pem", file("b.example"))]);
    let first = load_from(&all, &["/c/a.pem", "/c/b.pem"]).0;
    add_file(&mut all, "/c/b.pem", file("b.example").into_bytes(), 0o600);
    let mut store = store(&all);
    store.remember(&first);
    let second = load(&bind(&["/c/a.pem", "/c/b.pem"]), &mut store, &provider(), now()).0;
    assert!(Arc::ptr_eq(&first[0], &second[0].credential));
    assert!(!Arc::ptr_eq(&first[1], &second[1].credential));
}

/// A site whose certificate, key and issuer are in files of their own.
struct Split {
    issuing: Ca,
    server: Issued,
}

impl Split {
    fn new() -> Self {
        let issuing = Ca::root("Root").intermediate("Issuing");
        Self { server: issuing.server(&["a.example"], ec_key()), issuing }
    }

    fn staple(&self) -> Vec<u8> {
        Ocsp::good(&self.server.der, &self.issuing).der()
    }

    fn files(&self, more: &[(&str, Vec<u8>)]) -> Files {
        let mut all = files([("/c/a.crt", self.server.pem.clone())]);
        for (path, bytes) in more {
            add_file(&mut all, path, bytes.clone(), 0o600);
        }
        all
    }

    fn key(&self) -> Vec<u8> {
        self.server.key.serialize_pem().into_bytes()
    }

    fn issuer(&self) -> Vec<u8> {
        self.issuing.pem.clone().into_bytes()
    }
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn a_staple_is_sent_while_it_is_in_date() {
    let split = Split::new();
    let (key, issuer, staple) = (split.key(), split.issuer(), split.staple());
    let all = split.files(&[("/c/a.crt.key", key), ("/c/a.crt.issuer", issuer), ("/c/a.crt.ocsp", staple.clone())]);
    let (credentials, diagnostics) = load_from(&all, &["/c/a.crt"]);
    assert_eq!(diagnostics, []);
    let sent = |second| credentials[0].certified(at_second(second)).ocsp.clone();
    assert_eq!(sent(0), Some(staple.clone()));
    assert_eq!(sent(7 * DAY), Some(staple));
    assert_eq!((sent(7 * DAY + 1), sent(-DAY)), (None, None));
    let bare = credentials[0].certified(at_second(8 * DAY));
    assert!(Arc::ptr_eq(bare, credentials[0].certified(at_second(9 * DAY))), "made once");
    assert_eq!(bare.cert, credentials[0].certified(now()).cert);
    let until = format!("with an OCSP response until {}", x509::date(at_second(7 * DAY)));
    assert!(credentials[0].describe().ends_with(&until), "{}", credentials[0].describe());
    // The issuer may be in the chain as well.
    let chain = format!("{}{}", split.server.combined(), split.issuing.pem);
    let mut all = files([("/c/b.pem", chain)]);
    add_file(&mut all, "/c/b.pem.ocsp", split.staple(), 0o600);
    assert!(load_from(&all, &["/c/b.pem"]).0[0].certified(now()).ocsp.is_some());
}

#[test]
fn a_staple_that_no_client_would_take_is_not_sent() {
    let split = Split::new();
    let load = |staple: Vec<u8>, issuer: Option<Vec<u8>>| {
        let mut all = split.files(&[("/c/a.crt.key", split.key()), ("/c/a.crt.ocsp", staple)]);
        if let Some(issuer) = issuer {
            add_file(&mut all, "/c/a.crt.issuer", issuer, 0o600);
        }
        let (credentials, mut diagnostics) = load_from(&all, &["/c/a.crt"]);
        assert_eq!((codes(&diagnostics), credentials[0].certified(now()).ocsp.is_some()), (vec!["W224"], false));
        diagnostics.remove(0).message
    };
    let old = Ocsp { this_update: -9 * DAY, next_update: Some(-DAY), ..Ocsp::good(&split.server.der, &split.issuing) };
    let date = x509::date(at_second(-DAY));
    let message = format!("the OCSP response '/c/a.crt.ocsp' has expired on {date}; nothing is stapled");
    assert_eq!(load(old.der(), Some(split.issuer())), message);
    assert!(load(split.staple(), None).contains("the certificate of the issuer is not there"));
    let other = Ca::root("Other").pem.into_bytes();
    assert!(load(split.staple(), Some(other)).contains("the certificate of the issuer is not there"));
    assert!(load(b"hello".to_vec(), Some(split.issuer())).contains("is no OCSP response in DER"));
    let mut all = split.files(&[("/c/a.crt.key", split.key())]);
    all.entries.insert("/c/a.crt.ocsp".into(), Entry::Unreadable("Permission denied".to_owned()));
    let diagnostic = load_from(&all, &["/c/a.crt"]).1.remove(0);
    assert_eq!(diagnostic.code, "W224");
    assert!(diagnostic.message.contains("cannot be read: Permission denied"), "{diagnostic:?}");
}

#[test]
fn only_the_wanted_files_are_looked_for_beside_a_certificate() {
    let split = Split::new();
    let all = split.files(&[("/c/a.crt.key", split.key()), ("/c/a.crt.ocsp", b"x".to_vec())]);
    let with =
        |extra| load_with(&CertificateFiles { extra, ..CertificateFiles::default() }, &all, &bind(&["/c/a.crt"]));
    let (_, diagnostics) = with(ExtraFiles::NONE);
    assert_eq!(codes(&diagnostics), ["E220"]);
    assert_eq!(diagnostics[0].notes[1], "'ssl-load-extra-files' leaves out 'key': no other file is looked at");
    let (credentials, diagnostics) = with(ExtraFiles { key: true, ..ExtraFiles::NONE });
    assert_eq!((credentials.len(), diagnostics), (1, vec![]), "nor at the damaged staple");
    let replaced = CertificateFiles { replaces_extension: true, ..CertificateFiles::default() };
    let beside = split.files(&[("/c/a.key", split.key())]);
    assert_eq!(load_with(&replaced, &beside, &bind(&["/c/a.crt"])).1, []);
    let note = load_with(&replaced, &all, &bind(&["/c/a.crt"])).1.remove(0).notes.remove(0);
    assert!(note.contains("in '/c/a.key' (does not exist)"), "{note}");
}

#[test]
fn a_bundle_stands_in_the_place_of_a_missing_file() {
    let ca = Ca::root("Root");
    let (ec, rsa) = (ca.server(&["a.example"], ec_key()), ca.server(&["a.example"], rsa_key()));
    let mut all = files([("/c/a.pem.rsa", rsa.combined()), ("/c/a.pem.ecdsa", ec.pem.clone())]);
    add_file(&mut all, "/c/a.pem.ecdsa.key", ec.key.serialize_pem().into_bytes(), 0o600);
    let (credentials, diagnostics) = load_from(&all, &["/c/a.pem"]);
    let loaded: Vec<_> = credentials.iter().map(|credential| credential.path().to_str().unwrap()).collect();
    assert_eq!((loaded, diagnostics), (vec!["/c/a.pem.ecdsa", "/c/a.pem.rsa"], vec![]));
    let extra = ExtraFiles { bundle: false, ..ExtraFiles::ALL };
    let (credentials, diagnostics) =
        load_with(&CertificateFiles { extra, ..CertificateFiles::default() }, &all, &bind(&["/c/a.pem"]));
    assert_eq!((credentials.len(), codes(&diagnostics)), (0, vec!["E221"]));
}

#[test]
fn a_chain_is_completed_and_its_root_left_out() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let impostor = Ca::root("Other").intermediate("Issuing");
    let server = issuing.server(&["a.example"], ec_key());
    let chain = format!("{}{}", issuing.pem, root.pem);
    let mut all = files([
        ("/i/a.pem", impostor.pem.clone()),
        ("/i/b.pem", chain.clone()),
        ("/i/junk", "hello".to_owned()),
        ("/c/a.pem", server.combined()),
        ("/c/full.pem", format!("{}{}", server.combined(), issuing.pem)),
    ]);
    add_file(&mut all, "/c/a.pem.ocsp", Ocsp::good(&server.der, &issuing).der(), 0o600);
    let issuers = Some(at(PathBuf::from("/i")));
    let settings = CertificateFiles { issuers, skips_self_issued: true, ..CertificateFiles::default() };
    let (credentials, diagnostics) = load_with(&settings, &all, &bind(&["/c/a.pem", "/c/full.pem"]));
    assert_eq!(codes(&diagnostics), ["W225"]);
    assert_eq!(diagnostics[0].message, "'/i/junk' has no PEM block; no chain is taken from it");
    assert_eq!(credentials[0].certified(now()).cert, [server.der.clone(), issuing.der.clone()], "by key, not by name");
    assert!(credentials[0].certified(now()).ocsp.is_some(), "its issuer is known from there");
    assert_eq!(credentials[1].certified(now()).cert.len(), 2, "a chain of its own stays as it is");
    let settings = CertificateFiles { skips_self_issued: false, ..settings };
    assert_eq!(load_with(&settings, &all, &bind(&["/c/a.pem"])).0[0].certified(now()).cert.len(), 3);
    let missing = CertificateFiles { issuers: Some(at(PathBuf::from("/nowhere"))), ..CertificateFiles::default() };
    assert_eq!(codes(&load_with(&missing, &all, &bind(&["/c/a.pem"])).1)[0], "E221");
    // A self-signed certificate is no root to leave out.
    let alone = CertificateFiles { skips_self_issued: true, ..CertificateFiles::default() };
    let own = rcgen::CertificateParams::new(vec!["s.example".to_owned()]).unwrap();
    let key = ec_key();
    let own = format!("{}{}", own.self_signed(&key).unwrap().pem(), key.serialize_pem());
    let (credentials, _) = load_with(&alone, &files([("/c/s.pem", own)]), &bind(&["/c/s.pem"]));
    assert_eq!(credentials[0].certified(now()).cert.len(), 1);
}

#[test]
fn a_list_may_name_key_staple_and_issuer() {
    let split = Split::new();
    let lists = |options: &str, more: &[(&str, Vec<u8>)]| {
        let mut all = split.files(more);
        add_file(&mut all, "/l", format!("/c/a.crt [{options}]\n").into_bytes(), 0o600);
        let mut bind = bind(&["/l"]);
        bind.crt[0].kind = crate::conf::model::CrtKind::List;
        load_with(&CertificateFiles::default(), &all, &bind)
    };
    let named = [("/k", split.key()), ("/o", split.staple()), ("/i", split.issuer())];
    let (credentials, diagnostics) = lists("key /k ocsp /o issuer /i", &named);
    assert_eq!((credentials[0].certified(now()).ocsp.is_some(), diagnostics), (true, vec![]));
    // What is named must be there, and goes before what stands beside.
    let key = ("/c/a.crt.key", split.key());
    assert_eq!(codes(&lists("key /nothing", std::slice::from_ref(&key)).1), ["E221"]);
    assert_eq!(codes(&lists("key /c/a.crt", std::slice::from_ref(&key)).1), ["E220"]);
    assert_eq!(codes(&lists("ocsp /nothing", std::slice::from_ref(&key)).1), ["E221"]);
    let other = ("/k", ec_key().serialize_pem().into_bytes());
    assert_eq!(codes(&lists("key /k", &[key.clone(), other]).1), ["E226"]);
    assert_eq!(codes(&lists("issuer /nothing ocsp /o", &[key, ("/o", split.staple())]).1), ["E221"]);
}

#[test]
fn whatever_belongs_to_a_certificate_makes_it_another_one() {
    let split = Split::new();
    let base = [("/c/a.crt.key", split.key()), ("/c/a.crt.issuer", split.issuer())];
    let all = split.files(&base);
    let first = load_from(&all, &["/c/a.crt"]).0;
    let again = |files: &Files| {
        let mut store = store(files);
        store.remember(&first);
        let second = load(&bind(&["/c/a.crt"]), &mut store, &provider(), now()).0;
        Arc::ptr_eq(&first[0], &second[0].credential)
    };
    assert!(again(&all));
    let with_staple = split.files(&[base[0].clone(), base[1].clone(), ("/c/a.crt.ocsp", split.staple())]);
    assert!(!again(&with_staple));
    let mut readable = split.files(&base);
    add_file(&mut readable, "/c/a.crt.key", split.key(), 0o644);
    assert!(!again(&readable));
}
