//! Files of certificates in `global`, and what `bind` lines say about the CAs of clients.

use super::*;
use crate::conf::certificate_files::{CertificateFiles, ExtraFiles};
use crate::conf::verify_errors::IgnoredErrors;

fn files(lines: &str) -> CertificateFiles {
    let parsed = read(&format!("global\n{lines}{}", frontend("    bind :1 ssl crt x\n")));
    parsed.model.expect("no error").process.certificate_files
}

fn codes_of_global(line: &str) -> Vec<&'static str> {
    codes(&format!("global\n    {line}\n"))
}

#[test]
fn bases_and_chains_are_taken_as_they_stand() {
    let found = files("    crt-base /c\n    ca-base /a\n    key-base /k\n    issuers-chain-path /i\n");
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    assert_eq!(path(&found.crt_base).as_deref(), Some("/c"));
    assert_eq!(path(&found.ca_base).as_deref(), Some("/a"));
    assert_eq!(path(&found.key_base).as_deref(), Some("/k"));
    assert_eq!(found.issuers.map(|issuers| (issuers.value, issuers.at.line)), Some(("/i".into(), 5)));
    assert!(!found.replaces_extension && !found.skips_self_issued);
    let found = files("    ssl-load-extra-del-ext\n    ssl-skip-self-issued-ca\n");
    assert!(found.replaces_extension && found.skips_self_issued);
}

#[test]
fn extra_files_are_those_in_the_list() {
    let extra = |words: &str| files(&format!("    ssl-load-extra-files {words}\n")).extra;
    assert_eq!(files("").extra, ExtraFiles::ALL);
    assert_eq!(extra("all"), ExtraFiles::ALL);
    assert_eq!(extra("none"), ExtraFiles::NONE);
    assert_eq!(extra("key ocsp"), ExtraFiles { key: true, ocsp: true, ..ExtraFiles::NONE });
    assert_eq!(extra("bundle issuer"), ExtraFiles { bundle: true, issuer: true, ..ExtraFiles::NONE });
    assert_eq!(codes_of_global("ssl-load-extra-files sctl"), ["N001"]);
    assert_eq!(codes_of_global("ssl-load-extra-files keys"), ["E103"]);
    assert_eq!(codes_of_global("ssl-load-extra-files"), ["E102"]);
}

#[test]
fn fetching_of_ocsp_responses_can_only_be_declined() {
    for (line, said) in [
        ("ocsp-update.mode off", &[][..]),
        ("ocsp-update.mode on", &["E120"]),
        ("ocsp-update.disable on", &[]),
        ("ocsp-update.disable off", &["E120"]),
        ("ocsp-update.mindelay 5", &["E120"]),
    ] {
        assert_eq!(codes_of_global(line), said, "{line}");
    }
}

#[test]
fn lines_of_a_section_are_for_binds_without_certificates() {
    let text = frontend(
        "    bind :1 ssl alpn h2\n    bind :2 ssl crt x\n    bind :3 ssl verify required ca-file /ca\n    \
         ssl-f-use crt /a\n    ssl-f-use crt /b key /k ocsp /o verify none alpn x\n",
    );
    let parsed = read(&text);
    assert_eq!(findings(&parsed), [""; 0]);
    let model = parsed.model.expect("no error");
    let entries = |index: usize| &model.frontends[0].binds[index].tls.as_ref().expect("tls").entries;
    assert_eq!([0, 1, 2].map(|index| entries(index).len()), [2, 0, 2]);
    let [plain, own] = &entries(2)[..] else { panic!("two lines") };
    assert!(plain.tls.is_none() && plain.names.is_none());
    assert_eq!(own.own.key.as_ref().map(|key| key.value.clone()), Some("/k".into()));
    assert_eq!(own.tls.as_ref().map(|tls| tls.verify), Some(crate::conf::model::Verify::None));
    for (lines, said) in [
        ("    bind :1 ssl\n    bind :2 ssl\n    ssl-f-use /a\n", &["E102"][..]),
        ("    bind :1 ssl\n    bind :2 ssl\n    ssl-f-use crt /a nonsense\n", &["E101"]),
        ("    bind :1 ssl\n    ssl-f-use crt /a strict-sni\n", &["E106"]),
        ("    bind :1 ssl\n    ssl-f-use crt /a verify required\n", &["E211"]),
        ("    bind :1 ssl crt x\n    ssl-f-use crt /a\n", &["W413"]),
        ("    bind :1\n    ssl-f-use crt /a\n", &["W413"]),
    ] {
        assert_eq!(codes(&frontend(lines)), said, "{lines}");
    }
}

fn said(words: &str) -> Vec<&'static str> {
    codes(&frontend(&format!("    bind :1 ssl crt x {words}\n")))
}

#[test]
fn further_authorities_and_their_names() {
    let tls = tls_of("ca-file a ca-verify-file b no-ca-names verify required");
    let path = |path: &Option<crate::conf::model::At<std::path::PathBuf>>| path.as_ref().unwrap().value.clone();
    assert_eq!((path(&tls.ca_file), path(&tls.ca_verify_file), tls.ca_names), ("a".into(), "b".into(), false));
    let tls = tls_of("ca-verify-file b verify optional");
    assert!(tls.ca_file.is_none() && tls.ca_names);
    assert_eq!(said("ca-verify-file b"), ["W211"]);
    assert_eq!(said("ca-file a ca-verify-file b"), ["W211"], "once");
    assert_eq!(codes(&frontend("    bind :1 no-ca-names\n")), ["E210"]);
}

#[test]
fn the_authorities_of_the_system_are_warned_of() {
    assert_eq!(said("ca-file @system-ca verify required"), ["W310"]);
    assert_eq!(said("ca-file @nonsense verify required"), ["E103"]);
    assert_eq!(said("ca-verify-file @system-ca verify required"), ["E103"], "and no second finding");
    let text =
        format!("global\n    ca-base /ca\n{}", frontend("    bind :1 ssl crt x ca-file @system-ca verify required\n"));
    let model = read(&text).model.expect("a warning only");
    let tls = model.frontends[0].binds[0].tls.as_ref().expect("ssl");
    assert_eq!(
        tls.ca_file.as_ref().expect("given").value,
        std::path::Path::new("@system-ca"),
        "no base in front of it"
    );
}

#[test]
fn errors_to_ignore_are_those_that_can_be() {
    let with = |words: &str| tls_of(&format!("ca-file a verify required {words}"));
    let tls = with("crt-ignore-err X509_V_ERR_CERT_HAS_EXPIRED,23 ca-ignore-err 12");
    assert_eq!(Ok(tls.ignored_of_leaf), IgnoredErrors::parse("10,23"));
    assert_eq!(Ok(tls.ignored_of_ca), IgnoredErrors::parse("12"));
    assert!(with("").ignored_of_leaf.is_empty());
    let verified = |words: &str| said(&format!("ca-file a verify required {words}"));
    assert_eq!(verified("crt-ignore-err all"), ["W311"]);
    assert_eq!(verified("ca-ignore-err all"), [""; 0]);
    assert_eq!(verified("crt-ignore-err X509_V_ERR_PATH_LENGTH_EXCEEDED"), ["E304"]);
    assert_eq!(verified("crt-ignore-err 25"), ["E304"]);
    assert_eq!(verified("crt-ignore-err"), ["E102"]);
    assert_eq!(said("crt-ignore-err 10"), ["W213"]);
    assert_eq!(said("ca-ignore-err 10"), ["W213"]);
    let text = frontend("    bind :1 ssl crt x ca-file a verify required crt-ignore-err 10,25\n");
    let said = rendered(&text, &[]);
    let supported = "supported: X509_V_ERR_UNABLE_TO_GET_CRL (3), X509_V_ERR_CERT_HAS_EXPIRED (10), \
                     X509_V_ERR_CRL_HAS_EXPIRED (12), X509_V_ERR_CERT_REVOKED (23), all";
    assert!(said.contains("error '25' can not be ignored here") && said.contains(supported), "{said}");
}

#[test]
fn sessions_and_records() {
    let process = |lines: &str| read(&format!("global\n{lines}{}", frontend(""))).model.expect("no error").process;
    let default = process("");
    assert_eq!((default.session_blocks, default.records.first, default.records.all), (20_000, 16_384, 16_384));
    let set = process("    tune.ssl.cachesize 0\n    tune.ssl.maxrecord 1400\n    tune.ssl.hard-maxrecord 4096\n");
    assert_eq!((set.session_blocks, set.records.first, set.records.all), (0, 1400, 4096));
    assert_eq!(process("    tune.ssl.maxrecord 0\n").records.first, 16_384);
    for (line, said) in [
        ("tune.ssl.maxrecord 63", &["E103"][..]),
        ("tune.ssl.hard-maxrecord 16385", &["E103"]),
        ("tune.ssl.cachesize many", &["E103"]),
        ("tune.ssl.certificate-compression off", &[]),
        ("tune.ssl.certificate-compression auto", &["N305"]),
        ("tune.ssl.certificate-compression brotli", &["E103"]),
    ] {
        assert_eq!(codes_of_global(line), said, "{line}");
    }
    let path = tls_of("tls-ticket-keys /k").ticket_keys.expect("given").value;
    assert_eq!(path, std::path::Path::new("/k"));
    let text = format!("global\n    default-path origin /o\n{}", frontend("    bind :1 ssl crt x tls-ticket-keys k\n"));
    let keys = read(&text).model.expect("no error").frontends.remove(0).binds.remove(0).tls.expect("ssl").ticket_keys;
    assert_eq!(keys.expect("given").value, std::path::Path::new("/o/k"));
    assert_eq!(said("tls-ticket-keys /k no-tls-tickets"), ["W304"]);
    assert_eq!(codes(&frontend("    bind :1 tls-ticket-keys /k\n")), ["E210"]);
}
