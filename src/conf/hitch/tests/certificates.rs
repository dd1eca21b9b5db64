//! Certificates, and what belongs to them.

use super::*;

#[test]
fn suites_and_groups() {
    let text = r#"pem-file = "a"
ciphers = "ECDHE+AESGCM:!aRSA" ciphersuites = "TLS_AES_128_GCM_SHA256" ecdh-curve = "P-384:X25519" prefer-server-ciphers = off
frontend = "[192.0.2.1]:1"
frontend = { host = "192.0.2.2" port = "2" ciphers = "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH"
    ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" prefer-server-ciphers = on }
"#;
    let dumped = dump(text, "");
    assert_eq!(line_of(&dumped, "ssl-default-bind-ciphers"), "ssl-default-bind-ciphers 'ECDHE+AESGCM:!aRSA'");
    assert_eq!(
        line_of(&dumped, "ssl-default-bind-ciphersuites"),
        "ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256"
    );
    assert_eq!(line_of(&dumped, "ssl-default-bind-curves"), "ssl-default-bind-curves P-384:X25519");
    assert_eq!(line_of(&dumped, "bind 192.0.2.1"), "bind 192.0.2.1:1 defer-accept ssl crt a prefer-client-ciphers");
    let lists = "ciphers EECDH+AESGCM ciphersuites TLS_CHACHA20_POLY1305_SHA256";
    assert_eq!(line_of(&dumped, "bind 192.0.2.2"), format!("bind 192.0.2.2:2 defer-accept ssl crt a {lists}"));
    let model = model(text, "");
    let tls = |index: usize| model.frontends[index].binds[0].tls.as_ref().expect("tls");
    assert_eq!(tls(0).suites12, [Suite12::EcdsaAes256, Suite12::EcdsaAes128]);
    assert_eq!((&tls(0).suites13[..], tls(0).prefer_client_ciphers), (&[Suite13::Aes128][..], true));
    assert_eq!(tls(0).groups, [Group::P384, Group::X25519]);
    let hitchs = [Suite12::EcdsaAes256, Suite12::RsaAes256, Suite12::EcdsaAes128, Suite12::RsaAes128];
    assert_eq!(tls(1).suites12, hitchs, "those of Hitch's default that exist here");
    assert_eq!((&tls(1).suites13[..], tls(1).prefer_client_ciphers), (&[Suite13::ChaCha20][..], false));
    let line = dump("pem-file = \"a\"", "-c HIGH -O");
    assert_eq!(line_of(&line, "bind"), "bind *:8443,[::]:8443 v6only defer-accept ssl crt a");
    assert_eq!(line_of(&line, "ssl-default-bind-ciphers"), "ssl-default-bind-ciphers HIGH");
}

#[test]
fn certificates_stand_in_the_order_in_which_hitch_loads_them() {
    let crt = |text: &str| {
        let line = line_of(&dump(text, ""), "bind");
        let words: Vec<&str> = line.split(' ').collect();
        let named = words.chunk_by(|_, next| !matches!(*next, "crt" | "default-crt")).map(|words| words[..2].join(" "));
        named.filter(|words| words.contains("crt ")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(crt(r#"pem-file = "a" pem-file = "b" pem-file = "c""#), "crt c crt a crt b");
    let own = r#"frontend = { port = "1" pem-file = "x" pem-file = "y" }"#;
    assert_eq!(crt(own), "crt x default-crt y");
    let own = r#"frontend = { port = "1" pem-file = "x" pem-file = "y" match-global-certs = on }"#;
    assert_eq!(crt(&format!(r#"{own} pem-file = "a" pem-file = "b""#)), "crt b crt a crt x default-crt y");
    let directory = r#"pem-dir = "/d" pem-dir-glob = "[ab]*""#;
    assert_eq!(crt(directory), "crt /d/a.pem crt /d/b.pem");
    assert_eq!(crt(&format!(r#"{directory} pem-file = "x" pem-file = "y""#)), "crt y crt x crt /d/a.pem crt /d/b.pem");
}

#[test]
fn a_certificate_has_settings_of_its_own() {
    let text = r#"client-verify-ca = "/ca"
pem-file = { cert = "a" client-verify = required }
pem-file = { cert = "b" client-verify = none client-verify-ca = "/other" }
pem-file = { cert = "c" client-verify-ca = "/other" private-key = "k y" }
frontend = { port = "1" client-verify = optional }
frontend = "[*]:2"
"#;
    let text = dump(text, "");
    let lines = |frontend: &str| {
        let (_, after) = text.split_once(frontend).expect("a frontend");
        let lines = after.lines().map(str::trim).skip_while(|line| !line.starts_with("ssl-f-use"));
        lines.take_while(|line| line.starts_with("ssl-f-use")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        lines("hitch-1"),
        [
            "ssl-f-use crt c key 'k y' ca-file /other verify optional",
            "ssl-f-use crt a ca-file /ca verify required",
            "ssl-f-use crt b verify none",
        ]
    );
    assert_eq!(lines("hitch-2")[0], "ssl-f-use crt c key 'k y'", "nobody is asked there");
    let model =
        model(r#"client-verify-ca = "/ca" pem-file = { cert = "a" client-verify = required } pem-file = "b""#, "");
    let tls = model.frontends[0].binds[0].tls.as_ref().expect("tls");
    let verify = |index: usize| tls.entries[index].tls.as_ref().map(|tls: &crate::conf::model::BindTls| tls.verify);
    assert_eq!((tls.verify, verify(0), verify(1)), (Verify::None, None, Some(Verify::Required)));
    assert!(tls.crt.is_empty() && tls.last_crt_wins);
}

#[test]
fn many_certificates_have_a_line_each() {
    let many: String = (0..600).map(|number| format!("pem-file = \"{number}\"\n")).collect();
    let text = dump(&many, "");
    assert_eq!(text.lines().filter(|line| line.starts_with("    ssl-f-use crt ")).count(), 600);
    assert_eq!(line_of(&text, "ssl-f-use"), "ssl-f-use crt 599");
}

#[test]
fn responses_that_hitch_has_fetched_are_named_by_the_md5_sum_of_the_certificates_name() {
    let outside = Outside {
        list: &|directory| match directory {
            "/var/lib/hitch/" => Ok(Listing { files: vec![md5::hex(b"/a.pem")], links: Vec::new() }),
            _ => Err("No such file or directory".to_owned()),
        },
        ..OUTSIDE
    };
    let file = (FILE.to_owned(), b"pem-file = \"/a.pem\" pem-file = \"/b.pem\"".to_vec());
    let (lowered, diagnostics) = lower(&CommandLine::default(), Some(&file), outside);
    assert_eq!(diagnostics, []);
    let text = lowered.expect("no error").text().to_owned();
    let response = format!("ssl-f-use crt /a.pem ocsp /var/lib/hitch/{}", md5::hex(b"/a.pem"));
    assert_eq!(
        (line_of(&text, "ssl-f-use crt /b"), line_of(&text, "ssl-f-use crt /a")),
        ("ssl-f-use crt /b.pem".into(), response)
    );
}

#[test]
fn the_regular_files_of_a_directory_are_certificates() {
    let (lowered, diagnostics) = lowered("pem-dir = \"/d\"\npem-file = \"a\"\n", "");
    assert_eq!(diagnostics[0].message, "'l.pem' in '/d': symbolic links are skipped, as by Hitch");
    let crt = "crt a crt /d/.z.pem crt /d/a.pem crt /d/b.pem crt /d/readme";
    let text = lowered.expect("no error").text().to_owned();
    let bind = format!("bind *:8443,[::]:8443 v6only defer-accept ssl {crt} prefer-client-ciphers last-crt-wins");
    assert_eq!(line_of(&text, "bind"), bind);
}
