//! The PROXY header that the backend gets: what it says, and that it is always the first thing said.

use std::collections::HashSet;

use rustls::NamedGroup;
use rustls::ProtocolVersion;

use super::support::client::{Client, Version};
use super::support::openssl::SClient;
use super::support::proxy_header::{
    self, ALPN, AUTHORITY, CLIENT_CERT_CONN, CLIENT_CERT_SESS, CLIENT_SSL, CRC32C, FINGERPRINT, Header, SSL,
    SSL_CIPHER, SSL_CLIENT_CERT, SSL_CN, SSL_GROUP, SSL_KEY_ALG, SSL_SIG_ALG, SSL_SIG_SCHEME, SSL_VERSION, UNIQUE_ID,
};
use super::support::{Bowline, Config, Leaf, Peer, Scripted, Site, Tls, both_versions, pattern, pki, serve};

/// A connection with a certificate through a listener that demands one, and its header.
#[track_caller]
fn through(version: Version, server: &str) -> (Bowline, Tls, Peer, Header) {
    let backend = Scripted::start();
    let config = Config::new().bind_mtls("alpn proto").server(backend.address(), server);
    let bowline = serve(&config);
    let client = Client::new(version).identity(&pki().good).alpn(&["proto"]);
    let tls = client.connect(bowline.main());
    let mut peer = backend.accept();
    let header = peer.header();
    (bowline, tls, peer, header)
}

/// OpenSSL's name of what a client of rustls negotiated.
fn cipher_name(tls: &Tls) -> String {
    let suite = tls.conn.negotiated_cipher_suite().expect("a suite").suite();
    let name = format!("{suite:?}");
    if tls.conn.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
        return name.replace("TLS13_", "TLS_");
    }
    let name = name.replace("TLS_", "").replace("_WITH_", "_");
    let name = name.replace("AES_128", "AES128").replace("AES_256", "AES256");
    let name = name.replace("POLY1305_SHA256", "POLY1305");
    name.replace('_', "-")
}

both_versions! {
    fn version_1_names_both_ends(version) {
        let backend = Scripted::start();
        let config = Config::new().bind_tls("").server(backend.address(), "send-proxy");
        let bowline = serve(&config);
        let mut tls = Client::new(version).connect(bowline.main());
        tls.write_all(b"data");
        let mut peer = backend.accept();
        let line = peer.line();
        let addresses = proxy_header::parse_v1(&line).expect("a good line");
        assert_eq!(addresses, Some((tls.local(), bowline.main())), "{line}");
        assert_eq!(peer.read_exact(4), b"data");
    }

    fn version_2_names_both_ends(version) {
        let backend = Scripted::start();
        let config = Config::new().bind_tls("").server(backend.address(), "send-proxy-v2");
        let bowline = serve(&config);
        let mut tls = Client::new(version).connect(bowline.main());
        tls.write_all(b"data");
        let mut peer = backend.accept();
        let header = peer.header();
        assert!(header.proxied);
        assert_eq!(header.addresses, Some((tls.local(), bowline.main())));
        assert_eq!(header.order(), [] as [u8; 0], "nothing more was asked for");
        assert_eq!(peer.read_exact(4), b"data");
    }

    fn ipv6_is_ipv6_in_both_versions_of_the_header(version) {
        let backend = Scripted::start();
        for server in ["send-proxy", "send-proxy-v2"] {
            let config = Config::new()
                .bind("v6", "ssl crt {dir}/server.pem")
                .server(backend.address(), server);
            let bowline = serve(&config);
            let listener = bowline.address("v6");
            assert!(listener.is_ipv6());
            let tls = Client::new(version).connect(listener);
            let mut peer = backend.accept();
            let addresses = if server == "send-proxy" {
                proxy_header::parse_v1(&peer.line()).expect("a good line")
            } else {
                peer.header().addresses
            };
            assert_eq!(addresses, Some((tls.local(), listener)));
        }
    }

    fn a_certificate_is_told_with_all_that_was_asked_for(version) {
        let options = "ssl,cert-cn,ssl-cipher,cert-key,cert-sig,authority,crc32c,unique-id,\
            cert-fingerprint,client-cert,ssl-group,ssl-sig-scheme";
        let server = format!("send-proxy-v2 proxy-v2-options {options}");
        let (_bowline, tls, _peer, header) = through(version, &server);
        assert_eq!(header.tlv(ALPN), Some(&b"proto"[..]));
        assert_eq!(header.tlv(AUTHORITY), Some(&b"server.test"[..]));
        assert!(header.tlv(CRC32C).is_some(), "the parser checks its value");
        let unique = header.tlv(UNIQUE_ID).expect("a unique id");
        assert!((1..=128).contains(&unique.len()), "{unique:02x?}");
        let fingerprint = pki().good.fingerprint_hex();
        assert_eq!(header.tlv(FINGERPRINT), Some(fingerprint.as_bytes()));
        let ssl = header.ssl();
        let bits = CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS;
        assert_eq!((ssl.client, ssl.verify), (bits, 0));
        assert_eq!(ssl.text(SSL_VERSION), Some(version.name()));
        assert_eq!(ssl.text(SSL_CN), Some("alice"));
        assert_eq!(ssl.text(SSL_CIPHER), Some(cipher_name(&tls).as_str()));
        assert_eq!(ssl.text(SSL_KEY_ALG), Some("EC256"));
        assert_eq!(ssl.text(SSL_SIG_ALG), Some("ecdsa-with-SHA256"));
        assert_eq!(ssl.text(SSL_SIG_SCHEME), Some("ecdsa_secp256r1_sha256"));
        // IANA's spelling, which is OpenSSL's too.
        let group = match tls.conn.negotiated_key_exchange_group().expect("a group").name() {
            NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
            NamedGroup::X25519 => "x25519",
            other => panic!("{other:?}"),
        };
        assert_eq!(ssl.text(SSL_GROUP), Some(group));
        assert_eq!(ssl.tlv(SSL_CLIENT_CERT), Some(pki().good.leaf().as_ref()));
        let expected = [CRC32C, ALPN, AUTHORITY, UNIQUE_ID, SSL];
        let order: Vec<u8> = header.order();
        let order: Vec<u8> = order.into_iter().filter(|kind| *kind != FINGERPRINT).collect();
        assert_eq!(order, expected, "HAProxy's order");
        let expected = [SSL_VERSION, SSL_CN, SSL_KEY_ALG, SSL_SIG_ALG, SSL_CIPHER];
        assert_eq!(ssl.order()[..5], expected, "HAProxy's order");
    }

    fn nothing_is_told_that_was_not_asked_for(version) {
        let (_bowline, _tls, _peer, header) = through(version, "send-proxy-v2-ssl");
        assert_eq!(header.order(), [ALPN, SSL]);
        assert_eq!(header.ssl().order(), [SSL_VERSION]);
        let (_bowline, _tls, _peer, header) = through(version, "send-proxy-v2-ssl-cn");
        assert_eq!(header.ssl().order(), [SSL_VERSION, SSL_CN]);
    }

    fn an_anonymous_client_is_not_verified(version) {
        let server = "send-proxy-v2 proxy-v2-options ssl,cert-cn,cert-fingerprint,client-cert";
        for verify in ["", "ca-file {dir}/ca.pem verify optional"] {
            let backend = Scripted::start();
            let config = Config::new().bind_tls(verify).server(backend.address(), server);
            let bowline = serve(&config);
            let _tls = Client::new(version).connect(bowline.main());
            let header = backend.accept().header();
            let ssl = header.ssl();
            assert_eq!(ssl.client, CLIENT_SSL);
            assert_eq!(ssl.verify, 1, "0 would mean a verified certificate");
            assert_eq!(ssl.order(), [SSL_VERSION]);
            assert_eq!(header.tlv(FINGERPRINT), None);
        }
    }

    fn a_certificate_that_nobody_asked_for_is_not_told(version) {
        let server = "send-proxy-v2 proxy-v2-options ssl,cert-cn,cert-fingerprint,client-cert";
        let backend = Scripted::start();
        let config = Config::new().bind_tls("").server(backend.address(), server);
        let bowline = serve(&config);
        let _tls = Client::new(version).identity(&pki().good).connect(bowline.main());
        let header = backend.accept().header();
        assert_eq!((header.ssl().client, header.ssl().verify), (CLIENT_SSL, 1));
        assert_eq!(header.ssl().order(), [SSL_VERSION]);
    }

    fn formats_fill_tlvs_of_ones_own(version) {
        let server = "send-proxy-v2 proxy-v2-options ssl \
            set-proxy-v2-tlv-fmt(0xE1) %[ssl_c_der,sha2(256),hex,lower] \
            set-proxy-v2-tlv-fmt(0xE2) \"%{+bin}o%[ssl_c_der,sha2(256)]\" \
            set-proxy-v2-tlv-fmt(0xE3) \"cn=%[ssl_c_s_dn] by=%[ssl_c_i_dn] sni=%[ssl_fc_sni]\" \
            set-proxy-v2-tlv-fmt(228) %[ssl_c_serial,hex]";
        let (_bowline, _tls, _peer, header) = through(version, server);
        let good = &pki().good;
        assert_eq!(header.tlv(0xe1), Some(good.fingerprint_hex().as_bytes()));
        assert_eq!(header.tlv(0xe2), Some(good.fingerprint().as_slice()));
        let text = "cn=/CN=alice by=/CN=Client CA sni=server.test";
        assert_eq!(header.tlv(0xe3), Some(text.as_bytes()));
        let serial = crate::support::certs::hex(&good.serial).to_uppercase();
        assert_eq!(header.tlv(0xe4), Some(serial.as_bytes()));
        assert_eq!(header.order(), [0xe1, 0xe2, 0xe3, 0xe4, ALPN, SSL]);
    }

    fn a_clients_own_header_stays_behind_the_real_one(version) {
        let lie = b"PROXY TCP4 6.6.6.6 7.7.7.7 1 2\r\n";
        let backend = Scripted::start();
        for server in ["send-proxy", "send-proxy-v2"] {
            let config = Config::new().bind_tls("").server(backend.address(), server);
            let bowline = serve(&config);
            let mut tls = Client::new(version).connect(bowline.main());
            tls.write_all(lie);
            let mut peer = backend.accept();
            let addresses = if server == "send-proxy" {
                proxy_header::parse_v1(&peer.line()).expect("a good line")
            } else {
                peer.header().addresses
            };
            assert_eq!(addresses, Some((tls.local(), bowline.main())));
            assert_eq!(peer.read_exact(lie.len()), lie, "as data, behind the header");
        }
    }

    fn a_backend_that_speaks_first_has_the_header_at_once(version) {
        let (_bowline, mut tls, mut peer, header) = through(version, "send-proxy-v2-ssl-cn");
        // The client has not sent a byte, and will not before the greeting.
        assert_eq!(header.ssl().text(SSL_CN), Some("alice"));
        peer.write_all(b"220 ready\r\n");
        assert_eq!(tls.read_exact(11), b"220 ready\r\n");
        tls.write_all(b"HELO\r\n");
        assert_eq!(peer.read_exact(6), b"HELO\r\n");
    }

    fn without_send_proxy_there_is_no_header(version) {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
        let mut tls = Client::new(version).connect(bowline.main());
        tls.write_all(b"bare");
        assert_eq!(backend.accept().read_exact(4), b"bare");
    }

    fn no_name_means_no_authority(version) {
        let backend = Scripted::start();
        let server = "send-proxy-v2 proxy-v2-options authority";
        let bowline = serve(&Config::new().bind_tls("").server(backend.address(), server));
        let _tls = Client::new(version).no_sni().connect(bowline.main());
        assert_eq!(backend.accept().header().tlv(AUTHORITY), None);
    }
}

#[test]
fn an_rsa_server_is_told_as_rsa() {
    let backend = Scripted::start();
    let site = Site::new();
    let rsa = pki().server_ca.issue(&Leaf::server(&["server.test"]).rsa());
    site.write("server.pem", rsa.pem());
    let server = "send-proxy-v2 proxy-v2-options cert-key,cert-sig,ssl-sig-scheme";
    let config = Config::new().bind_tls("").server(backend.address(), server);
    let bowline = Bowline::start(site, &config);
    let _tls = Client::new(Version::Tls13).connect(bowline.main());
    let ssl = backend.accept().header().ssl();
    assert_eq!(ssl.text(SSL_KEY_ALG), Some("RSA2048"));
    let scheme = ssl.text(SSL_SIG_SCHEME).expect("a scheme");
    assert!(scheme.starts_with("rsa_pss_rsae_sha"), "{scheme}");
}

#[test]
fn every_connection_has_an_id_of_its_own() {
    let backend = Scripted::start();
    let server = "send-proxy-v2 proxy-v2-options unique-id";
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), server));
    let client = Client::new(Version::Tls13);
    let mut seen = HashSet::new();
    for _ in 0..20 {
        let _tls = client.connect(bowline.main());
        let header = backend.accept().header();
        assert!(seen.insert(header.tlv(UNIQUE_ID).expect("an id").to_vec()));
    }
}

#[test]
fn names_are_passed_on_byte_by_byte() {
    let name = "Zo\u{eb}\u{4e2d}/CN=admin \"x";
    let backend = Scripted::start();
    let server = "send-proxy-v2-ssl-cn";
    let bowline = serve(&Config::new().bind_mtls("").server(backend.address(), server));
    let strange = pki().client_ca.issue(&Leaf::client(name));
    let client = Client::new(Version::Tls13).identity(&strange);
    let _tls = client.connect(bowline.main());
    assert_eq!(backend.accept().header().ssl().text(SSL_CN), Some(name));
}

#[test]
fn a_name_with_control_characters_is_not_passed_on() {
    let backend = Scripted::start();
    let server = "send-proxy-v2-ssl-cn";
    let bowline = serve(&Config::new().bind_mtls("").server(backend.address(), server));
    let strange = pki().client_ca.issue(&Leaf::client("admin\n"));
    let client = Client::new(Version::Tls13).identity(&strange);
    let _tls = client.connect(bowline.main());
    let header = backend.accept().header();
    assert_eq!(header.ssl().text(SSL_CN), None);
    assert_eq!(header.ssl().verify, 0);
}

#[test]
fn a_long_header_arrives_whole_through_a_narrow_socket() {
    let address = "127.0.0.1:0".parse().expect("an address");
    let backend = Scripted::listen(address, Some(1024), 8);
    let server = "send-proxy-v2 proxy-v2-options client-cert,crc32c";
    let bowline = serve(&Config::new().bind_mtls("").server(backend.address(), server));
    let mut long = Leaf::client("long");
    long.names = (0..200).map(|n| format!("name-{n}.of.a.long.certificate.test")).collect();
    let long = pki().client_ca.issue(&long);
    let mut tls = Client::new(Version::Tls13).identity(&long).connect(bowline.main());
    let data = pattern(50_000);
    tls.write_all(&data);
    let mut peer = backend.accept();
    let header = peer.header();
    assert!(header.length > 6000, "{} bytes", header.length);
    assert_eq!(header.ssl().tlv(SSL_CLIENT_CERT), Some(long.leaf().as_ref()));
    assert!(peer.read_exact(data.len()) == data, "the data behind it");
}

#[test]
fn a_client_of_a_unix_socket_has_no_address_to_tell() {
    let backend = Scripted::start();
    let config = Config::new()
        .frontend_line("bind unix@{dir}/in.sock mode 666 ssl crt {dir}/server.pem")
        .server(backend.address(), "send-proxy-v2");
    let bowline = serve(&config);
    let path = bowline.site.path("in.sock");
    let path = path.to_str().expect("UTF-8");
    let mut openssl = SClient::start(&["-unix", path]);
    openssl.type_line("hello");
    let mut peer = backend.accept();
    let header = peer.header();
    assert_eq!(header.addresses, None);
    assert_eq!(peer.read_exact(6), b"hello\n");
    openssl.end_input();
    openssl.wait();
}
