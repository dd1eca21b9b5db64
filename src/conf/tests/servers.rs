//! Servers, PROXY headers and formats: from lines to the model.

use super::{HEAD, backend, codes, model};
use crate::conf::expr::{Converter, Expr, Fetch, Part};
use crate::conf::model::{Family, ProxyOut, ProxyVersion, ServerAddress, SslTlv, Tlv};

/// The address of a server.
#[track_caller]
fn server(address: &str) -> ServerAddress {
    model(&backend(&format!("    server s {address}\n"))).backends.remove(0).servers.remove(0).address.value
}

#[test]
fn addresses_of_servers() {
    let name = |host: &str, family| ServerAddress::Name { host: host.into(), port: 80, family };
    assert_eq!(server("10.0.0.1:80"), ServerAddress::Inet("10.0.0.1:80".parse().expect("address")));
    assert_eq!(server("::1:80"), ServerAddress::Inet("[::1]:80".parse().expect("address")));
    assert_eq!(server("ipv6@[::1]:80"), ServerAddress::Inet("[::1]:80".parse().expect("address")));
    assert_eq!(server("db.example.com:80"), name("db.example.com", None));
    assert_eq!(server("ipv4@db:80"), name("db", Some(Family::Ipv4)));
    assert_eq!(server("ipv6@db:80"), name("db", Some(Family::Ipv6)));
    assert_eq!(server("/run/x"), ServerAddress::Unix("/run/x".into()));
    assert_eq!(server("abns@x"), ServerAddress::Abstract(super::padded("x")));
    assert_eq!(server("abnsz@x"), ServerAddress::Abstract(b"x".to_vec()));
    for (address, code) in [
        ("0.0.0.0:80", "E120"),
        (":80", "E120"),
        ("fd@3", "E103"),
        ("1.2.3:80", "E103"),
        ("a..b:80", "E103"),
        ("a/b:80", "E103"),
        ("1.2.3.4:x", "E103"),
        ("2001:db8::xyz:80", "E103"),
    ] {
        assert_eq!(codes(&backend(&format!("    server s {address}\n"))), [code], "{address}");
    }
    assert_eq!(codes(&backend("    server s\n")), ["E102"]);
    assert_eq!(codes(&backend("    server s,t 1.2.3.4:80\n")), ["E103"]);
}

#[track_caller]
fn proxy(words: &str) -> Option<ProxyOut> {
    model(&backend(&format!("    server s 127.0.0.1:80 {words}\n"))).backends.remove(0).servers.remove(0).proxy
}

/// Names of the TLVs, for a look at their order.
#[track_caller]
fn order(words: &str) -> String {
    let tlvs = proxy(words).expect("a header").tlvs;
    let name = |tlv: &Tlv| match tlv {
        Tlv::Custom { id, .. } => format!("{id:#x}"),
        Tlv::Ssl(inside) => format!("{inside:?}"),
        other => format!("{other:?}"),
    };
    tlvs.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn proxy_header() {
    assert!(proxy("").is_none());
    assert!(matches!(proxy("send-proxy"), Some(ProxyOut { version: ProxyVersion::V1, tlvs }) if tlvs.is_empty()));
    assert!(matches!(proxy("send-proxy-v2"), Some(ProxyOut { version: ProxyVersion::V2, .. })));
    assert_eq!(order("send-proxy-v2"), "Alpn", "ALPN is always told");
    assert_eq!(order("send-proxy-v2-ssl"), "Alpn [Version]");
    assert_eq!(order("send-proxy-v2-ssl-cn"), "Alpn [Version, Cn]");
    assert_eq!(order("send-proxy-v2 proxy-v2-options cert-key"), "Alpn [Version, KeyAlg]", "implies ssl");
    assert_eq!(
        order(
            "proxy-v2-options client-cert,ssl-sig-scheme,ssl-group,ssl-cipher,cert-sig,cert-key,cert-cn,authority,crc32c,cert-fingerprint \
             set-proxy-v2-tlv-fmt(0xE2) b set-proxy-v2-tlv-fmt(0xE1) a send-proxy-v2"
        ),
        "0xe2 0xe1 Crc32c Alpn Authority CertFingerprint \
         [Version, Cn, KeyAlg, SigAlg, Cipher, Group, SigScheme, ClientCert]",
        "the order of the wire, not of the line"
    );
    let v2 = proxy("send-proxy send-proxy-v2").map(|out| out.version);
    assert_eq!(v2, Some(ProxyVersion::V2), "as in HAProxy");
}

#[test]
fn what_hitch_sends() {
    assert_eq!(
        order("send-proxy-v2 proxy-v2-options ssl-cipher,client-cert-pem,authority"),
        "Alpn Authority ClientCertPem [Version, Cipher]"
    );
    assert_eq!(proxy("send-client-ip").map(|out| out.version), Some(ProxyVersion::ClientIp));
    let said = |words: &str| codes(&backend(&format!("    server s 127.0.0.1:80 {words}\n")));
    for words in [
        "send-client-ip send-proxy",
        "send-proxy-v2 send-client-ip",
        "send-client-ip proxy-v2-options ssl",
        "send-received-proxy send-proxy-v2",
        "send-received-proxy send-proxy",
        "send-received-proxy send-client-ip",
    ] {
        assert!(said(words).contains(&"E231"), "{words}");
    }
    assert_eq!(said("send-proxy-v2 proxy-v2-options client-cert-pem,cert-fingerprint"), ["E231"]);
    assert_eq!(said("send-client-ip"), [""; 0]);
    assert_eq!(said("send-received-proxy"), [""; 0]);
}

#[test]
fn a_header_that_nobody_has_to_send_can_not_be_passed_on() {
    let with = |parameters: &str| {
        let bind = format!("frontend f\n    bind 127.0.0.1:1 accept-proxy\n    bind 127.0.0.1:2 {parameters}\n");
        let text = format!("{bind}    timeout client 1s\n    default_backend be\n");
        let text = backend(&format!("    server s 127.0.0.1:80 send-received-proxy\n{text}"));
        codes(&text)
    };
    assert_eq!(with("accept-proxy"), [""; 0]);
    assert_eq!(with(""), ["E232"]);
}

/// The version that is sent, and codes. The expectations were observed with HAProxy 2.6.12.
fn inherited(default: &str, words: &str) -> (Option<ProxyVersion>, Vec<&'static str>) {
    let text = backend(&format!("    default-server {default}\n    server s 127.0.0.1:80 {words}\n"));
    let version = model(&text).backends.remove(0).servers.remove(0).proxy.map(|out| out.version);
    (version, codes(&text))
}

#[test]
fn default_server_is_undone() {
    let (v1, v2) = (Some(ProxyVersion::V1), Some(ProxyVersion::V2));
    assert_eq!(inherited("send-proxy-v2-ssl-cn", ""), (v2, vec![]));
    assert_eq!(inherited("send-proxy-v2", "no-send-proxy-v2"), (None, vec![]));
    assert_eq!(inherited("send-proxy-v2-ssl", "no-send-proxy-v2-ssl"), (None, vec![]));
    assert_eq!(inherited("send-proxy-v2-ssl-cn", "no-send-proxy-v2-ssl-cn"), (None, vec![]));
    assert_eq!(inherited("send-proxy-v2", "no-send-proxy"), (v2, vec![]));
    assert_eq!(inherited("send-proxy-v2", "no-send-proxy-v2 send-proxy"), (v1, vec![]));
    // What is left behind makes HAProxy send version 1. So do we, but not silently.
    assert_eq!(inherited("send-proxy-v2-ssl-cn", "no-send-proxy-v2-ssl"), (v1, vec!["W220"]));
    assert_eq!(inherited("send-proxy-v2-ssl", "no-send-proxy-v2"), (v1, vec!["W220"]));
    assert_eq!(inherited("proxy-v2-options ssl", "send-proxy-v2 no-send-proxy-v2"), (v1, vec!["W220"]));
    assert_eq!(
        order("send-proxy-v2 proxy-v2-options crc32c proxy-v2-options authority"),
        "Crc32c Alpn Authority",
        "options add up"
    );
}

#[test]
fn header_options_without_header() {
    let said = |words: &str| {
        let text = backend(&format!("    server s 127.0.0.1:80 {words}\n"));
        (model(&text).backends.remove(0).servers.remove(0).proxy.map(|out| out.version), codes(&text))
    };
    let (v1, v2) = (Some(ProxyVersion::V1), Some(ProxyVersion::V2));
    assert_eq!(said("proxy-v2-options ssl"), (v1, vec!["W220"]), "as in HAProxy");
    assert_eq!(said("set-proxy-v2-tlv-fmt(1) x"), (None, vec!["W220"]));
    assert_eq!(said("send-proxy proxy-v2-options ssl"), (v1, vec!["W220"]));
    assert_eq!(said("send-proxy-v2 proxy-v2-options unique-id"), (v2, vec![]), "an id of our own is sent");
    assert_eq!(codes(&backend("    server s 127.0.0.1:80 send-proxy-v2 proxy-v2-options ssl,bogus\n")), ["E101"]);
    let shared = format!(
        "{HEAD}    default-server proxy-v2-options ssl\nbackend a\n    server s 127.0.0.1:80\nbackend b\n    server s 127.0.0.1:80\n"
    );
    assert_eq!(codes(&shared), ["W220"], "said once, however many sections inherit it");
}

#[track_caller]
fn parts(format: &str) -> Vec<Part> {
    let out = proxy(&format!("send-proxy-v2 set-proxy-v2-tlv-fmt(0xE1) {format}"));
    match out.expect("a header").tlvs.into_iter().next() {
        Some(Tlv::Custom { id: 0xE1, format }) => format.parts,
        other => panic!("{other:?}"),
    }
}

fn sample(fetch: Fetch, converters: &[Converter], binary: bool) -> Part {
    Part::Sample { expr: Expr { fetch, converters: converters.to_vec() }, binary }
}

#[test]
fn formats() {
    let fingerprint = [Converter::Sha2(256), Converter::Hex, Converter::Lower];
    assert_eq!(parts("%[ssl_c_der,sha2(256),hex,lower]"), [sample(Fetch::SslCDer, &fingerprint, false)]);
    assert_eq!(
        parts("%[ssl_c_der,sha2,hex,lower]"),
        [sample(Fetch::SslCDer, &fingerprint, false)],
        "256 bits are the default"
    );
    assert_eq!(parts("\"%{+bin}o%[ssl_c_der,sha2(384)]\""), [sample(Fetch::SslCDer, &[Converter::Sha2(384)], true)]);
    assert_eq!(
        parts("%{+bin}[ssl_c_sha1]%[ssl_c_s_dn]"),
        [sample(Fetch::SslCSha1, &[], true), sample(Fetch::SslCSDn, &[], false)]
    );
    assert_eq!(
        parts("%{+bin}o%{-bin}[ssl_c_sha1]%[ssl_c_der]"),
        [sample(Fetch::SslCSha1, &[], false), sample(Fetch::SslCDer, &[], true)]
    );
    assert_eq!(parts("%[ssl_c_serial,hex]"), [sample(Fetch::SslCSerial, &[Converter::Hex], false)]);
    assert_eq!(
        parts("\"a%%b sni=%[ssl_fc_sni()]!\""),
        [Part::Literal(b"a%b sni=".to_vec()), sample(Fetch::SslFcSni, &[], false), Part::Literal(b"!".to_vec())]
    );
    for (name, fetch) in [
        ("ssl_c_i_dn", Fetch::SslCIDn),
        ("ssl_c_notbefore", Fetch::SslCNotBefore),
        ("ssl_c_notafter", Fetch::SslCNotAfter),
        ("ssl_fc_alpn", Fetch::SslFcAlpn),
        ("ssl_fc_protocol", Fetch::SslFcProtocol),
        ("ssl_fc_cipher", Fetch::SslFcCipher),
    ] {
        let converters = [Converter::Upper, Converter::Base64, Converter::Sha1];
        assert_eq!(parts(&format!("%[{name},upper,base64,sha1]")), [sample(fetch, &converters, false)], "{name}");
    }
}

#[test]
fn bad_formats() {
    for (format, code) in [
        ("%[ssl_c_dr]", "E101"),
        ("%[ssl_c_der,hx]", "E101"),
        ("%[src]", "E120"),
        ("%[ssl_c_der,field(1)]", "E120"),
        ("%[ssl_c_s_dn(OU)]", "E120"),
        ("%[ssl_c_der(1)]", "E102"),
        ("%[ssl_c_der,hex(1)]", "E102"),
        ("%[]", "E102"),
        ("%[ssl_c_der,sha2(255)]", "E103"),
        ("%[ssl_c_der", "E100"),
        ("%[ssl_c_der)]", "E101"),
        ("%[ssl_c_der(]", "E100"),
        ("%[ssl_c_der()x]", "E100"),
        ("%{+bin", "E100"),
        ("%{+Q}o", "E120"),
        ("%{+bim}o", "E101"),
        ("%ci", "E120"),
        ("%HM", "E410"),
        ("%zz", "E101"),
        ("100%", "E100"),
    ] {
        assert_eq!(
            codes(&backend(&format!("    server s 127.0.0.1:80 send-proxy-v2 set-proxy-v2-tlv-fmt(1) {format}\n"))),
            [code],
            "{format}"
        );
    }
    let text = backend("    server s 127.0.0.1:80 send-proxy-v2 set-proxy-v2-tlv-fmt(1) \"ab%[ssl_c_der,hx]\"\n");
    let at = super::read(&text).diagnostics[0].at.column;
    assert_eq!(
        &text.lines().nth(8).expect("line 9")[at as usize - 1..][..2],
        "hx",
        "the place inside the format is marked"
    );
}

#[test]
fn types_of_tlvs() {
    let id = |number: &str| {
        let text = backend(&format!("    server s 127.0.0.1:80 send-proxy-v2 set-proxy-v2-tlv-fmt{number} x\n"));
        match super::read(&text).model {
            Some(mut model) => match model.backends.remove(0).servers.remove(0).proxy.expect("a header").tlvs.remove(0)
            {
                Tlv::Custom { id, .. } => Ok(id),
                other => panic!("{other:?}"),
            },
            None => Err(codes(&text)),
        }
    };
    assert_eq!(
        (id("(0xE1)"), id("(225)"), id("(0341)"), id("(0)"), id("(255)")),
        (Ok(0xE1), Ok(225), Ok(225), Ok(0), Ok(255))
    );
    for number in ["(256)", "(-1)", "()", "", "(0x)", "(x", "(08)", "(+1)"] {
        assert!(matches!(id(number), Err(codes) if codes == ["E103"]), "{number}");
    }
}

#[test]
fn ssl_tlv_starts_with_the_version() {
    let Some(ProxyOut { tlvs, .. }) = proxy("send-proxy-v2 proxy-v2-options client-cert") else { panic!() };
    assert!(matches!(tlvs.last(), Some(Tlv::Ssl(inside)) if *inside == [SslTlv::Version, SslTlv::ClientCert]));
}
