//! HAProxy and Bowline with the same file: the same certificate for the same client, and the same header for the same
//! connection.

use std::net::SocketAddr;

use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};

use super::support::client::{Client, Version};
use super::support::peers::{Server, skipped};
use super::support::proxy_header::{CLIENT_CERT_CONN, CLIENT_CERT_SESS, CRC32C, SSL};
use super::support::{Bowline, Config, Echo, Leaf, Scripted, Site, pki};

/// Both programs with one file, each listening on ports of its own.
struct Twins {
    bowline: Bowline,
    _haproxy: Server,
}

impl Twins {
    /// `listeners` are names of `bind` lines of `config`.
    #[track_caller]
    fn start(site: Site, config: &Config, listeners: &[&str]) -> Self {
        let text = config.render(&site);
        // HAProxy 2.6 does not know the word.
        let mut other: String =
            text.lines().filter(|line| !line.contains("client-hs")).map(|line| format!("{line}\n")).collect();
        for name in listeners {
            let (ours, theirs) = (site.address(name), site.address(&format!("haproxy-{name}")));
            other = other.replace(&format!("bind {ours} "), &format!("bind {theirs} "));
        }
        let first = site.address(&format!("haproxy-{}", listeners[0]));
        let haproxy = Server::haproxy_at(&other, first);
        Self { bowline: Bowline::start(site, config), _haproxy: haproxy }
    }

    /// Where HAProxy and where Bowline listens.
    fn addresses(&self, listener: &str) -> [SocketAddr; 2] {
        [self.bowline.address(&format!("haproxy-{listener}")), self.bowline.address(listener)]
    }
}

/// Certificates by the name of their file: names and kind of key.
const CERTIFICATES: &[(&str, &[&str], bool)] = &[
    ("default", &["default.test"], true),
    ("rsa-exact", &["a.mixed.test"], false),
    ("ec-wild", &["*.mixed.test"], true),
    ("ec-exact", &["b.mixed.test"], true),
    ("rsa-both", &["both.test"], false),
    ("ec-both", &["both.test"], true),
    ("ec-first", &["twice.test"], true),
    ("ec-second", &["twice.test", "*.twice.test"], true),
    ("rsa-wild", &["*.wild.test", "wild.test"], false),
    ("rsa-only", &["rsa.test"], false),
    ("filtered", &["filtered.test"], true),
    ("other-filtered", &["other.test"], true),
];

const NAMES: &[&str] = &[
    "default.test",
    "a.mixed.test",
    "A.Mixed.Test",
    "b.mixed.test",
    "c.mixed.test",
    "x.c.mixed.test",
    "mixed.test",
    "both.test",
    "twice.test",
    "x.twice.test",
    "wild.test",
    "x.wild.test",
    "x.y.wild.test",
    "rsa.test",
    "filtered.test",
    "in.list.test",
    "not.list.test",
    "x.list.test",
    "other.test",
    "nobody.test",
];

fn site_with_certificates() -> Site {
    let site = Site::new();
    for (name, names, ecdsa) in CERTIFICATES {
        let leaf = Leaf::server(names);
        let issued = pki().server_ca.issue(&if *ecdsa { leaf } else { leaf.rsa() });
        site.write(&format!("{name}.pem"), issued.pem());
    }
    let dir = site.dir().display().to_string();
    let line = |name: &str, filters: &str| format!("{dir}/{name}.pem {filters}\n");
    let list = [
        line("default", ""),
        line("filtered", "in.list.test *.list.test !not.list.test"),
        line("other-filtered", "not.list.test *.other.test"),
        line("rsa-exact", "*.list.test"),
        line("rsa-only", ""),
    ];
    site.write("list", list.concat());
    site
}

/// Every name × what the client can verify × version, on a line of files, on a list, and with `strict-sni`.
#[test]
fn the_same_certificate_is_picked() {
    if skipped() {
        return;
    }
    let crts: String = CERTIFICATES.iter().map(|(name, ..)| format!(" crt {{dir}}/{name}.pem")).collect();
    let echo = Echo::start();
    let config = Config::new()
        .bind("files", &format!("ssl{crts}"))
        .bind("strict", &format!("ssl{crts} strict-sni"))
        .bind("list", "ssl crt-list {dir}/list")
        .server(echo.address(), "");
    let twins = Twins::start(site_with_certificates(), &config, &["files", "strict", "list"]);
    let mut picked = std::collections::BTreeSet::new();
    for listener in ["files", "strict", "list"] {
        for version in Version::ALL {
            for kind in [None, Some(true), Some(false)] {
                for name in NAMES.iter().copied().map(Some).chain([None]) {
                    let client = Client::new(version);
                    let client = name.map_or(client.clone().no_sni(), |name| client.sni(name));
                    let client = kind.map_or(client.clone(), |ecdsa| client.only_ecdsa(ecdsa));
                    let [theirs, ours] = twins
                        .addresses(listener)
                        .map(|address| client.try_connect(address).ok().map(|tls| tls.server_certificate()));
                    assert_eq!(theirs, ours, "{listener} {version:?} ecdsa {kind:?} {name:?}");
                    picked.extend(ours.map(|certificate| certificate.to_vec()));
                }
            }
        }
    }
    assert!(picked.len() >= 11, "the table picks only {} certificates", picked.len());
}

/// What HAProxy 2.6 can say to a server, by the name of the listener.
const HEADERS: &[(&str, &str)] = &[
    ("v1", "send-proxy"),
    ("v2", "send-proxy-v2"),
    ("v2-ssl", "send-proxy-v2-ssl"),
    ("v2-ssl-cn", "send-proxy-v2-ssl-cn"),
    ("ssl", "send-proxy-v2 proxy-v2-options ssl"),
    ("cn", "send-proxy-v2 proxy-v2-options cert-cn"),
    ("cipher", "send-proxy-v2 proxy-v2-options ssl-cipher"),
    ("sig", "send-proxy-v2 proxy-v2-options cert-sig"),
    ("key", "send-proxy-v2 proxy-v2-options cert-key"),
    ("authority", "send-proxy-v2 proxy-v2-options authority"),
    ("crc", "send-proxy-v2 proxy-v2-options crc32c"),
    ("all", "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c"),
    ("mixed", "send-proxy-v2-ssl-cn proxy-v2-options crc32c,authority,cert-key"),
];

/// The header of a connection through `address`, with the ports and what depends on them zeroed; and whether the session was
/// resumed.
#[track_caller]
fn header(client: &Client, address: SocketAddr, backend: &Scripted, v1: bool) -> (Vec<u8>, bool) {
    let mut tls = client.connect(address);
    tls.write_all(b"?");
    let mut peer = backend.accept();
    let bytes = if v1 {
        let line = peer.line();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words.len(), 6, "{line}");
        words[..4].join(" ").into_bytes()
    } else {
        masked(peer.raw_header())
    };
    assert_eq!(peer.read_exact(1), b"?");
    peer.write_all(b"!");
    assert_eq!(tls.read_exact(1), b"!");
    let resumed = tls.resumed();
    tls.close_notify();
    (bytes, resumed)
}

/// Zeroes the ports, the checksum, and `verify` where there is no certificate: there HAProxy says 0, and Bowline 1 on purpose.
fn masked(mut header: Vec<u8>) -> Vec<u8> {
    assert_eq!(header[13], 0x11, "TCP over IPv4");
    header[24..28].fill(0);
    let mut at = 28;
    while at < header.len() {
        let length = usize::from(u16::from_be_bytes([header[at + 1], header[at + 2]]));
        let header_type = header[at];
        let value = &mut header[at + 3..at + 3 + length];
        if header_type == CRC32C {
            value.fill(0);
        }
        if header_type == SSL && value[0] & (CLIENT_CERT_CONN | CLIENT_CERT_SESS) == 0 {
            value[1..5].fill(0);
        }
        at += 3 + length;
    }
    header
}

#[test]
fn the_same_header_is_sent() {
    if skipped() {
        return;
    }
    let backend = Scripted::start();
    let mut config = Config::new();
    for (index, (name, words)) in HEADERS.iter().enumerate() {
        config = if index == 0 { config } else { config.pair(name) };
        config = config
            .bind(name, "ssl crt {dir}/server.pem ca-file {dir}/ca.pem verify optional alpn mqtt,x")
            .server(backend.address(), words);
    }
    let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
    let twins = Twins::start(Site::new(), &config, &names);
    let suites = |version| match version {
        Version::Tls12 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Version::Tls13 => cipher_suite::TLS13_AES_128_GCM_SHA256,
    };
    // P-256, which the key of the certificate is of: OpenSSL asks for it with TLS 1.2.
    let groups = [kx_group::X25519, kx_group::SECP256R1];
    for (name, words) in HEADERS {
        for version in Version::ALL {
            for identity in [None, Some(&pki().good)] {
                let plain = Client::offering(version, &[suites(version)], &groups);
                let client = || {
                    let client = plain.clone().forgetting();
                    let client = identity.map_or(client.clone(), |identity| client.identity(identity));
                    client.sni("server.test").alpn(&["mqtt"])
                };
                let clients = [client(), client()];
                for visit in 0..2 {
                    let [theirs, ours] = twins.addresses(name);
                    let theirs = header(&clients[0], theirs, &backend, *words == "send-proxy");
                    let ours = header(&clients[1], ours, &backend, *words == "send-proxy");
                    let who = identity.map_or("nobody", |_| "alice");
                    assert_eq!(theirs, ours, "'{words}' for {who} with {version:?}, visit {visit}");
                    assert_eq!(ours.1, visit == 1, "resumed");
                }
            }
        }
    }
}
