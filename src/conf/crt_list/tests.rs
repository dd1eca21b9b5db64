use super::super::ciphers::{Group, Suite12, Suite13};
use super::super::tests::tls_of;
use super::*;

fn read(text: &str) -> (Vec<Entry>, Vec<String>) {
    read_below("", text)
}

/// `words` stand on the `bind` line.
fn read_below(words: &str, text: &str) -> (Vec<Entry>, Vec<String>) {
    let bind = tls_of(words);
    let (entries, diagnostics) = parse(Path::new("/l/list"), text.as_bytes(), &bind, &CertificateFiles::default());
    let place = |d: &Diagnostic| format!("{}:{}:{} {}", d.at.file, d.at.line, d.at.column, d.code);
    (entries, diagnostics.iter().map(place).collect())
}

#[track_caller]
fn good(words: &str, text: &str) -> Vec<Entry> {
    let (entries, said) = read_below(words, text);
    assert_eq!(said, [""; 0]);
    entries
}

#[test]
fn a_line_has_a_file_options_and_names() {
    let text = "# first\n\n  \t\na.pem\n  b.pem [alpn h2] Example.COM *.example.com !no.example.com\r\n c.pem[ ]*\nd.pem []\n#e.pem\nf#.pem x";
    let entries = good("", text);
    let files: Vec<_> = entries.iter().map(|entry| (entry.file.value.to_str().unwrap(), entry.file.at.line)).collect();
    assert_eq!(files, [("a.pem", 4), ("b.pem", 5), ("c.pem", 6), ("d.pem", 7), ("f#.pem", 9)]);
    assert!(entries[0].tls.is_none() && entries[0].names.is_none() && !entries[0].default);
    let second = &entries[1];
    assert_eq!(second.names.as_deref(), Some(&["example.com".to_owned(), "*.example.com".to_owned()][..]));
    assert_eq!(second.excluded, ["no.example.com"]);
    assert_eq!(second.tls.as_ref().unwrap().alpn, [b"h2".to_vec()]);
    assert!(
        entries[2].default && entries[2].names.as_deref() == Some(&[]),
        "a filter, so not those of the certificate"
    );
    assert!(entries[3].tls.is_none() && entries[3].names.is_none());
}

#[test]
fn options_stand_in_the_place_of_those_of_the_line() {
    let line = "ca-file /ca.pem verify required alpn h2,mqtt ssl-min-ver TLSv1.3 ciphers AES128 curves P-384";
    let text = "a [verify none]\n\
                b [ca-file /b.pem crl-file /c.pem no-alpn ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2]\n\
                c [ciphers aRSA+CHACHA20 ciphersuites TLS_AES_128_GCM_SHA256 curves X25519 verify optional]";
    let own: Vec<BindTls> = good(line, text).into_iter().map(|entry| entry.tls.unwrap()).collect();
    assert_eq!((own[0].verify, own[0].alpn.len(), own[0].groups.as_slice()), (Verify::None, 2, &[Group::P384][..]));
    let path = |path: &Option<At<PathBuf>>| path.as_ref().map(|path| path.value.clone());
    assert_eq!(own[0].ca_file.as_ref().unwrap().value, Path::new("/ca.pem"));
    assert_eq!((path(&own[1].ca_file), path(&own[1].crl_file)), (Some("/b.pem".into()), Some("/c.pem".into())));
    assert_eq!((own[1].verify, own[1].alpn.len()), (Verify::Required, 0));
    assert_eq!(format!("{:?}", (own[1].min_version, own[1].max_version)), "(Tls12, Tls12)");
    assert_eq!((own[2].verify, own[2].suites12.as_slice()), (Verify::Optional, &[Suite12::RsaChaCha20][..]));
    assert_eq!((own[2].suites13.as_slice(), own[2].groups.as_slice()), (&[Suite13::Aes128][..], &[Group::X25519][..]));
}

#[test]
fn relative_paths_are_below_the_bases() {
    let [crt, ca, key] = ["/crt", "/ca", "/key"].map(|base| Some(base.into()));
    let files = CertificateFiles { crt_base: crt, ca_base: ca, key_base: key, ..CertificateFiles::default() };
    let text = b"a.pem [verify required ca-file b.pem crl-file /c.pem key k.pem ocsp o issuer i]\n/d.pem";
    let (entries, _) = parse(Path::new("x"), text, &tls_of(""), &files);
    let OwnFiles { key, ocsp, issuer } = &entries[0].own;
    let own = [key, ocsp, issuer].map(|own| own.as_ref().unwrap().value.to_str().unwrap());
    assert_eq!(own, ["/key/k.pem", "/crt/o", "/crt/i"]);
    let tls = entries[0].tls.as_ref().unwrap();
    assert_eq!(entries[0].file.value, Path::new("/crt/a.pem"));
    assert_eq!(tls.ca_file.as_ref().unwrap().value, Path::new("/ca/b.pem"));
    assert_eq!(tls.crl_file.as_ref().unwrap().value, Path::new("/c.pem"));
    assert_eq!(entries[1].file.value, Path::new("/d.pem"));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (line, said) in [
        ("a [alpn h2", "1:3 E103"),
        ("a alpn h2]", "1:10 E103"),
        ("a [alpn h2] [alpn h2]", "1:13 E103"),
        ("a x [alpn h2]", "1:5 E103"),
        ("[alpn h2]", "1:1 E103"),
        ("a [verfy required]", "1:4 E101"),
        ("a [verify]", "1:4 E102"),
        ("a [verify always]", "1:11 E103"),
        ("a [verify required]", "1:4 E211"),
        ("a [ca-file x]", "1:4 W211"),
        ("a [strict-sni]", "1:4 E106"),
        ("a [crt b.pem]", "1:4 E106"),
        ("a [key]", "1:4 E102"),
        ("a [key x key y]", "1:10 E105"),
        ("a [ocsp-update on]", "1:4 E120"),
        ("a [sctl x]", "1:4 N001"),
        ("a [sigalgs x]", "1:4 E120"),
        ("a [allow-0rtt]", "1:4 E205"),
        ("a [ssl-min-ver TLSv1.3 ssl-max-ver TLSv1.2]", "1:4 E301"),
        ("a [ciphers AES128-SHA]", "1:12 E302"),
        ("a [ciphers HIGH:AES128-SHA]", "1:4 N302"),
        ("a [alpn h2 alpn h3]", "1:12 E105"),
        ("a \u{1}", "1:3 E103"),
    ] {
        let (entries, found) = read(line);
        assert_eq!(found, [format!("/l/list:{said}")], "{line}");
        assert_eq!(entries.is_empty(), said.contains(" E"), "{line}: an entry with an error is none");
    }
    // The rest of the list is read.
    let (entries, found) = read("a [\nb\n]\nc");
    assert_eq!((entries.len(), found.len()), (2, 2));
}

#[test]
fn files_of_its_own_are_no_settings_of_its_own() {
    let entries = good("", "a [key k ocsp o issuer i]\nb [ocsp-update off]\nc [key k alpn h2]");
    assert!(entries[0].tls.is_none() && entries[1].tls.is_none());
    assert_eq!(entries[0].own.key.as_ref().map(|key| (key.at.line, key.at.column)), Some((1, 8)));
    assert_eq!(entries[2].tls.as_ref().map(|tls| tls.alpn.len()), Some(1));
}

#[test]
fn an_entry_without_authority_needs_that_of_the_line() {
    assert_eq!(good("ca-file /ca.pem verify required", "a [verify optional]").len(), 1);
    assert_eq!(read_below("", "a [verify optional]").1, ["/l/list:1:4 E211"]);
}

#[test]
fn strange_bytes_are_answered() {
    for text in [
        &b"\xff\xfe [\xff] \xff\0"[..],
        b"[",
        b"]",
        b"[]",
        b"a[[",
        b"a]]",
        b"\n\n\n",
        b"",
        b"a [ca-file",
        b"!x",
        b"a !",
    ] {
        let _ = parse(Path::new("x"), text, &tls_of(""), &CertificateFiles::default());
    }
}
