//! Servers that people run behind a TLS terminator, reading what Bowline sends them.

use super::support::client::{Client, Ending, Version};
use super::support::peers::{Server, skipped};
use super::support::{Config, pki, serve};

/// Everything that these receivers read, and things that they have to step over.
const OPTIONS: &str = "send-proxy-v2 proxy-v2-options \
    ssl,cert-cn,ssl-cipher,authority,crc32c,unique-id,cert-fingerprint,ssl-group,ssl-sig-scheme";

#[track_caller]
fn ask(server: &Server, header: &str, question: &[u8]) -> (String, std::net::SocketAddr) {
    let config = Config::new().bind_mtls("").server(server.address(), header);
    let bowline = serve(&config);
    let client = Client::new(Version::Tls13).identity(&pki().good);
    let mut tls = client.connect(bowline.main());
    tls.write_all(question);
    let (answer, ending) = tls.read_to_end();
    assert_eq!(ending, Ending::CloseNotify);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer, tls.local())
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: server.test\r\nConnection: close\r\n\r\n";

#[test]
fn haproxy_reads_the_header() {
    if skipped() {
        return;
    }
    let server = Server::haproxy();
    let (answer, client) = ask(&server, OPTIONS, REQUEST);
    assert!(answer.ends_with(&format!("{client} server.test")), "{answer}");
    let (answer, client) = ask(&server, "send-proxy", REQUEST);
    assert!(answer.contains(&client.to_string()), "{answer}");
}

#[test]
fn nginx_reads_the_header() {
    if skipped() {
        return;
    }
    let server = Server::nginx();
    // Before 1.23.2 it takes no header of more than 107 bytes: addresses and a server name fit.
    for header in ["send-proxy-v2 proxy-v2-options authority,crc32c", "send-proxy"] {
        let (answer, client) = ask(&server, header, b"");
        assert_eq!(answer, format!("{client}\n"));
    }
}

#[test]
fn varnish_reads_the_header() {
    if skipped() {
        return;
    }
    let server = Server::varnish();
    let (answer, client) = ask(&server, OPTIONS, REQUEST);
    let expected = format!("{client} authority=server.test ssl=true version=TLSv1.3 cn=alice verify=0 cert=true");
    assert!(answer.ends_with(&expected), "{answer}");
    let (answer, client) = ask(&server, "send-proxy", REQUEST);
    assert!(answer.contains(&client.to_string()), "{answer}");
}
