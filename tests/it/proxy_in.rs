//! `accept-proxy`: a header in front of the ClientHello is demanded, believed, and never trusted to be well-formed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use super::support::client::{Client, Version, dial, timed_out};
use super::support::proxy_header::{self, AUTHORITY, CRC32C, SIGNATURE};
use super::support::{Bowline, Config, Scripted, both_versions, serve};

const SOURCE: &str = "192.0.2.77:4711";
const DESTINATION: &str = "198.51.100.1:8883";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn behind_a_balancer(backend: &Scripted) -> Bowline {
    let config =
        Config::new().timeout("client-hs", "2s").bind_tls("accept-proxy").server(backend.address(), "send-proxy-v2");
    serve(&config)
}

/// Sends `header`, then TLS, and answers the addresses that the backend is told.
#[track_caller]
fn told(version: Version, header: &[u8]) -> (SocketAddr, SocketAddr, SocketAddr, SocketAddr) {
    let backend = Scripted::start();
    let bowline = behind_a_balancer(&backend);
    let mut tcp = dial(bowline.main());
    tcp.write_all(header).expect("a header");
    let mut tls = Client::new(version).over(tcp);
    tls.handshake().expect("a handshake behind the header");
    tls.write_all(b"data");
    let mut peer = backend.accept();
    let sent = peer.header();
    assert_eq!(peer.read_exact(4), b"data");
    let own = (tls.local(), bowline.main());
    (sent.source(), sent.destination(), own.0, own.1)
}

/// Sends `bytes` and expects to be hung up on, without a byte in answer and without a connection at the backend.
#[track_caller]
fn refused(bytes: &[u8], and_then: impl FnOnce(&mut TcpStream)) {
    let backend = Scripted::start();
    let bowline = behind_a_balancer(&backend);
    let mut tcp = dial(bowline.main());
    tcp.write_all(bytes).expect("bytes");
    and_then(&mut tcp);
    let mut answer = Vec::new();
    if let Err(error) = tcp.read_to_end(&mut answer) {
        assert!(!timed_out(&error), "the connection stays open");
    }
    assert_eq!(answer, b"", "an answer to something that is no header");
    backend.assert_untouched_by(bowline);
}

both_versions! {
    fn version_1_is_passed_on(version) {
        let line = b"PROXY TCP4 192.0.2.77 198.51.100.1 4711 8883\r\n";
        let (source, destination, ..) = told(version, line);
        assert_eq!((source, destination), (address(SOURCE), address(DESTINATION)));
    }

    fn version_1_for_ipv6_is_passed_on(version) {
        let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 8883\r\n";
        let (source, destination, ..) = told(version, line);
        assert_eq!(source, address("[2001:db8::7]:4711"));
        assert_eq!(destination, address("[2001:db8::1]:8883"));
    }

    fn version_2_is_passed_on(version) {
        let tlvs = [(AUTHORITY, b"other.test".to_vec()), (0xe5, vec![0; 300])];
        let header = proxy_header::encode(address(SOURCE), address(DESTINATION), &tlvs);
        let (source, destination, ..) = told(version, &header);
        assert_eq!((source, destination), (address(SOURCE), address(DESTINATION)));
    }

    fn version_2_for_ipv6_is_passed_on(version) {
        let (from, to) = (address("[2001:db8::7]:4711"), address("[2001:db8::1]:8883"));
        let (source, destination, ..) = told(version, &proxy_header::encode(from, to, &[]));
        assert_eq!((source, destination), (from, to));
    }

    fn unknown_in_version_1_means_the_real_addresses(version) {
        let (source, destination, client, listener) = told(version, b"PROXY UNKNOWN\r\n");
        assert_eq!((source, destination), (client, listener));
    }

    fn local_in_version_2_means_the_real_addresses(version) {
        let header = [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
        let (source, destination, client, listener) = told(version, &header);
        assert_eq!((source, destination), (client, listener));
    }
}

#[test]
fn the_log_names_the_announced_client() {
    let backend = Scripted::start();
    let bowline = behind_a_balancer(&backend);
    let mut tcp = dial(bowline.main());
    tcp.write_all(&proxy_header::encode(address(SOURCE), address(DESTINATION), &[])).expect("a header");
    let mut tls = Client::new(Version::Tls13).over(tcp);
    tls.handshake().expect("a handshake");
    backend.accept().fin();
    tls.close_notify();
    let line = bowline.log.wait_for(&["fe~ be/s"]);
    assert!(line.starts_with(SOURCE), "{line}");
}

#[test]
fn a_header_in_single_bytes_is_read() {
    let backend = Scripted::start();
    let bowline = behind_a_balancer(&backend);
    let tlvs = [(AUTHORITY, b"other.test".to_vec())];
    for header in [
        b"PROXY TCP4 192.0.2.77 198.51.100.1 4711 8883\r\n".to_vec(),
        proxy_header::encode(address(SOURCE), address(DESTINATION), &tlvs),
    ] {
        let mut tcp = dial(bowline.main());
        for byte in header {
            tcp.write_all(&[byte]).expect("a byte");
        }
        let mut tls = Client::new(Version::Tls13).over(tcp);
        tls.handshake().expect("a handshake");
        assert_eq!(backend.accept().header().source(), address(SOURCE));
    }
}

#[test]
fn header_and_hello_in_one_segment_are_told_apart() {
    let backend = Scripted::start();
    let bowline = behind_a_balancer(&backend);
    let client = Client::new(Version::Tls13);
    let mut tls = client.over(dial(bowline.main()));
    let mut bytes = b"PROXY TCP4 192.0.2.77 198.51.100.1 4711 8883\r\n".to_vec();
    tls.conn.write_tls(&mut bytes).expect("a ClientHello");
    tls.tcp.write_all(&bytes).expect("both at once");
    tls.handshake().expect("a handshake");
    assert_eq!(backend.accept().header().source(), address(SOURCE));
}

#[test]
fn a_hello_without_a_header_is_refused() {
    refused(&Client::new(Version::Tls13).hello(), |_| {});
}

#[test]
fn silence_in_place_of_a_header_ends_at_the_deadline() {
    let start = Instant::now();
    refused(b"", |_| {});
    assert!(start.elapsed().as_secs() >= 1, "hung up at once");
}

#[test]
fn half_a_header_ends_at_the_deadline() {
    let header = proxy_header::encode(address(SOURCE), address(DESTINATION), &[]);
    refused(&header[..20], |_| {});
    refused(b"PROXY TCP4 192.0.2.77 198.5", |_| {});
}

#[test]
fn a_header_cut_by_the_end_of_the_stream_is_refused() {
    let header = proxy_header::encode(address(SOURCE), address(DESTINATION), &[]);
    refused(&header[..20], |tcp| {
        tcp.shutdown(Shutdown::Write).expect("a FIN");
    });
}

#[test]
fn a_line_without_end_is_refused() {
    refused(format!("PROXY TCP4 {}", "1".repeat(200)).as_bytes(), |_| {});
}

#[test]
fn an_oversized_header_is_refused() {
    let header = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff], &[0; 4096]].concat();
    refused(&header, |_| {});
}

#[test]
fn lines_that_are_almost_right_are_refused() {
    for line in [
        "PROXY TCP4 192.0.2.77 198.51.100.1 4711\r\n",
        "PROXY TCP4 192.0.2.777 198.51.100.1 4711 8883\r\n",
        "PROXY TCP4 192.0.2.77 198.51.100.1 4711 88883\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 4711 8883\r\n",
        "PROXY TCP5 192.0.2.77 198.51.100.1 4711 8883\r\n",
        "proxy TCP4 192.0.2.77 198.51.100.1 4711 8883\r\n",
        "PROXY TCP4 192.0.2.77 198.51.100.1 4711 8883\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        refused(line.as_bytes(), |_| {});
    }
}

#[test]
fn headers_that_are_almost_right_are_refused() {
    let good = proxy_header::encode(address(SOURCE), address(DESTINATION), &[]);
    let mut version = good.clone();
    version[12] = 0x31;
    let mut command = good.clone();
    command[12] = 0x2f;
    let mut signature = good.clone();
    signature[11] = b'!';
    let mut short = good.clone();
    short[15] = 8;
    let sum = [(CRC32C, vec![1, 2, 3, 4])];
    let checksum = proxy_header::encode(address(SOURCE), address(DESTINATION), &sum);
    for header in [version, command, signature, short, checksum] {
        refused(&header, |_| {});
    }
}

#[test]
fn a_header_where_none_is_accepted_is_refused() {
    let backend = Scripted::start();
    let config = Config::new().bind_tls("").server(backend.address(), "send-proxy-v2");
    let bowline = serve(&config);
    let mut tcp = dial(bowline.main());
    tcp.write_all(b"PROXY TCP4 192.0.2.77 198.51.100.1 4711 8883\r\n").expect("a line");
    let mut tls = Client::new(Version::Tls13).over(tcp);
    tls.handshake().expect_err("it believed a header");
    backend.assert_untouched_by(bowline);
}
