//! Tests of the tests: what measures Bowline has to be right itself. Against servers of rustls and OpenSSL, without Bowline.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, RootCertStore, ServerConfig, ServerConnection};

use super::support::bowline::{Log, Site, alive, children};
use super::support::certs::{DAY, looping_chain, now};
use super::support::client::{Client, Ending, Version, dial, reset, timed_out};
use super::support::ports::Port;
use super::support::records::{APPLICATION_DATA, RecordClient};
use super::support::{
    Authority, Config, Echo, End, Identity, Leaf, Scripted, assert_same_bytes, pattern, pki, proxy_header,
};

/// A rustls server that echoes, one connection after the other, until its test ends.
struct PlainServer {
    address: SocketAddr,
}

impl PlainServer {
    fn start(identity: &Identity, client_ca: Option<&Authority>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate().clone()).expect("a root");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("a verifier");
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivatePkcs8KeyDer::from(identity.key.clone()).into();
        let config = builder.with_single_cert(identity.chain.clone(), key).expect("a server certificate");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let conn = ServerConnection::new(config.clone()).expect("a server");
                std::thread::spawn(move || serve(tcp, conn));
            }
        });
        Self { address }
    }
}

fn serve(mut tcp: TcpStream, mut conn: ServerConnection) {
    loop {
        while conn.wants_write() {
            if conn.write_tls(&mut tcp).is_err() {
                return;
            }
        }
        if !matches!(conn.read_tls(&mut tcp), Ok(1..)) {
            return;
        }
        let state = conn.process_new_packets();
        if let Ok(state) = &state {
            let mut data = vec![0; state.plaintext_bytes_to_read()];
            conn.reader().read_exact(&mut data).expect("what was announced");
            conn.writer().write_all(&data).expect("memory");
            if state.peer_has_closed() {
                conn.send_close_notify();
            }
        }
        let ended = !matches!(&state, Ok(state) if !state.peer_has_closed());
        while conn.wants_write() {
            if conn.write_tls(&mut tcp).is_err() {
                return;
            }
        }
        if ended {
            let _ = tcp.shutdown(std::net::Shutdown::Write);
            let _ = tcp.read_to_end(&mut Vec::new());
            return;
        }
    }
}

#[test]
fn a_reserved_port_refuses_until_a_server_takes_it() {
    let port = Port::reserve();
    let refused = TcpStream::connect(port.address()).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let listener = TcpListener::bind(port.address()).expect("the port is free for a server");
    TcpStream::connect(port.address()).expect("the server listens");
    drop(listener);
    // As a server with a listening socket per thread would.
    let group: Vec<_> = (0..2)
        .map(|_| {
            let domain = socket2::Domain::IPV4;
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("one");
            socket.set_reuse_address(true).expect("SO_REUSEADDR");
            socket.set_reuse_port(true).expect("SO_REUSEPORT");
            socket.bind(&port.address().into()).expect("bind");
            socket.listen(8).expect("listen");
            socket
        })
        .collect();
    for _ in 0..8 {
        TcpStream::connect(port.address()).expect("one of the two");
    }
    drop(group);
}

#[test]
fn pem_is_read_by_openssl() {
    let site = Site::new();
    let text = Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-serial", "-fingerprint", "-sha256", "-in"])
        .arg(site.write("leaf.pem", pki().good.chain_pem()))
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8(text.stdout).expect("text");
    let plain = text.replace(':', "").to_lowercase();
    assert!(plain.contains("subject=cn = alice"), "{text}");
    assert!(plain.contains(&pki().good.fingerprint_hex()), "{text}");
    let serial = super::support::certs::hex(&pki().good.serial);
    assert!(plain.contains(&format!("serial={serial}")), "{text}");
}

#[test]
fn openssl_agrees_with_the_certificates_and_lists() {
    let ca = Authority::new("Checked CA");
    let site = Site::new();
    let ca_file = site.write("checked-ca.pem", ca.pem());
    let verify = |identity: &Identity, crl: Option<&str>| -> String {
        let leaf = site.write("leaf.pem", super::support::certs::pem("CERTIFICATE", identity.leaf()));
        let mut command = Command::new("openssl");
        command.args(["verify", "-purpose", "sslclient", "-CAfile"]).arg(&ca_file);
        command.arg("-untrusted").arg(site.write("chain.pem", identity.chain_pem()));
        if let Some(crl) = crl {
            command.arg("-crl_check").arg("-CRLfile").arg(site.write("list.pem", crl));
        }
        let output = command.arg(leaf).output().expect("openssl is installed");
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    };
    let good = ca.issue(&Leaf::client("good"));
    let old = ca.issue(&Leaf::client("old").valid(now() - 2 * DAY, now() - DAY));
    let early = ca.issue(&Leaf::client("early").valid(now() + DAY, now() + 2 * DAY));
    let server = ca.issue(&Leaf::server(&["not.a.client"]));
    let below = ca.intermediate("Below").issue(&Leaf::client("leaf"));
    assert!(verify(&good, None).contains("OK"));
    assert!(verify(&below, None).contains("OK"), "{}", verify(&below, None));
    assert!(verify(&pki().good, None).contains("unable to get local issuer"));
    assert!(verify(&old, None).contains("certificate has expired"));
    assert!(verify(&early, None).contains("certificate is not yet valid"));
    assert!(verify(&server, None).contains("purpose"), "{}", verify(&server, None));
    assert!(verify(&good, Some(&ca.crl(&[&old]))).contains("OK"));
    assert!(verify(&good, Some(&ca.crl(&[&good]))).contains("certificate revoked"));
    let stale = ca.crl_until(&[], now() - DAY);
    assert!(verify(&good, Some(&stale)).contains("CRL has expired"));
}

#[test]
fn a_looping_chain_is_as_long_as_asked() {
    let chain = looping_chain(&pki().good, 8, 50).chain;
    assert_eq!(chain.len(), 59);
    let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
    assert!((10_000..40_000).contains(&bytes), "{bytes} bytes");
}

fn sample_header() -> Vec<u8> {
    let source = "192.0.2.7:4711".parse().expect("an address");
    let destination = "198.51.100.1:443".parse().expect("an address");
    let tlvs = [
        (proxy_header::AUTHORITY, b"server.test".to_vec()),
        (proxy_header::CRC32C, vec![0; 4]),
        (proxy_header::SSL, [&[7, 0, 0, 0, 0, 0x21, 0, 7][..], b"TLSv1.3"].concat()),
    ];
    let mut header = proxy_header::encode(source, destination, &tlvs);
    let sum = crc32c::crc32c(&header).to_be_bytes();
    let at = 16 + 12 + 3 + 11 + 3;
    header[at..at + 4].copy_from_slice(&sum);
    header
}

#[test]
fn the_header_parser_reads_addresses_tlvs_and_ssl() {
    let header = proxy_header::parse(&sample_header()).expect("a good header");
    assert!(header.proxied);
    assert_eq!(header.source(), "192.0.2.7:4711".parse().unwrap());
    assert_eq!(header.destination(), "198.51.100.1:443".parse().unwrap());
    assert_eq!(header.order(), [2, 3, 0x20]);
    assert_eq!(header.tlv(proxy_header::AUTHORITY), Some(&b"server.test"[..]));
    let ssl = header.ssl();
    assert_eq!((ssl.client, ssl.verify), (7, 0));
    assert_eq!(ssl.text(proxy_header::SSL_VERSION), Some("TLSv1.3"));
}

#[test]
fn the_header_parser_refuses_what_is_damaged() {
    let good = sample_header();
    for (what, position) in [
        ("signature", 3),
        ("version", 12),
        ("family", 13),
        ("length", 15),
        ("address, by its checksum", 17),
        ("TLV value, by its checksum", 33),
        ("TLV length", 30),
    ] {
        let mut bad = good.clone();
        bad[position] ^= 0x55;
        proxy_header::parse(&bad).expect_err(what);
    }
    for length in 0..good.len() {
        proxy_header::parse(&good[..length]).expect_err("a cut header");
    }
    let twice = [(1, vec![1]), (1, vec![2])];
    let address = "127.0.0.1:1".parse().expect("an address");
    let twice = proxy_header::encode(address, address, &twice);
    proxy_header::parse(&twice).expect_err("the same TLV twice");
}

#[test]
fn the_line_parser_reads_version_1() {
    let line = "PROXY TCP6 ::1 2001:db8::1 1 65535";
    let addresses = proxy_header::parse_v1(line).expect("a good line");
    let expected = ("[::1]:1", "[2001:db8::1]:65535");
    let expected = (expected.0.parse().unwrap(), expected.1.parse().unwrap());
    assert_eq!(addresses, Some(expected));
    assert_eq!(proxy_header::parse_v1("PROXY UNKNOWN"), Ok(None));
    for bad in [
        "PROXY TCP4 ::1 ::1 1 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 2",
    ] {
        proxy_header::parse_v1(bad).expect_err(bad);
    }
}

#[test]
fn clients_talk_to_a_plain_server_and_see_its_close_notify() {
    let server = PlainServer::start(&pki().server, None);
    for version in Version::ALL {
        let mut tls = Client::strict(version).connect(server.address);
        assert_eq!(tls.server_certificate(), *pki().server.leaf());
        tls.echo(&pattern(100_000));
        tls.close_notify();
        assert_eq!(tls.ending(), Ending::CloseNotify);
    }
}

#[test]
fn a_strict_client_refuses_an_unknown_server() {
    let server = PlainServer::start(&pki().good, None);
    let mut tls = Client::strict(Version::Tls13).over(dial(server.address));
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tls.handshake()));
    assert!(refused.is_err(), "it believed a client's certificate");
}

#[test]
fn clients_see_the_alerts_of_a_plain_server() {
    let server = PlainServer::start(&pki().server, Some(&pki().client_ca));
    for version in Version::ALL {
        let client = Client::new(version);
        assert_eq!(client.refused(server.address), Ending::Alert(AlertDescription::CertificateRequired));
        let stranger = pki().other_ca.issue(&Leaf::client("stranger"));
        assert_eq!(
            client.clone().identity(&stranger).refused(server.address),
            Ending::Alert(AlertDescription::UnknownCA)
        );
        client.identity(&pki().good).connect(server.address).echo(b"in");
    }
}

#[test]
fn clients_offer_sessions_whatever_the_server_is_called() {
    let server = PlainServer::start(&pki().server, None);
    let client = Client::new(Version::Tls13);
    let mut first = client.connect(server.address);
    first.echo(b"ticket, please");
    assert!(!first.resumed());
    assert_eq!(client.offers(), 0);
    let mut second = client.clone().sni("localhost").connect(server.address);
    second.echo(b"again");
    assert_eq!(client.offers(), 1);
}

#[test]
fn exchange_is_full_duplex_and_exact() {
    let server = PlainServer::start(&pki().server, None);
    let data = pattern(3_000_000);
    let client = Client::new(Version::Tls13).receive_buffer(8192);
    let got = client.connect(server.address).exchange(&data, data.len(), 5000);
    assert_same_bytes(&got, &data);
}

#[test]
fn crafted_records_are_understood_by_a_plain_server() {
    let server = PlainServer::start(&pki().server, None);
    let mut client = RecordClient::connect(&Client::new(Version::Tls13), server.address);
    for _ in 0..40 {
        let mut bytes = client.key_update();
        bytes.extend(client.record(APPLICATION_DATA, b"x"));
        client.send(&bytes).expect("a live server");
    }
    assert!(!client.hung_up(Duration::from_millis(200)), "it misread a record");
    // rustls itself takes 32 KeyUpdates in a row.
    let flood = client.flood(100_000, RecordClient::key_update);
    assert!(flood.is_some() || client.hung_up(Duration::from_secs(10)));
}

#[test]
fn a_backend_tells_a_reset_from_an_end() {
    let backend = Scripted::start();
    assert!(backend.accept_within(Duration::ZERO).is_none());
    let mut tcp = dial(backend.address());
    tcp.write_all(b"data").expect("written");
    drop(tcp);
    assert_eq!(backend.accept().read_to_end(), (b"data".to_vec(), End::Fin));
    let mut tcp = dial(backend.address());
    tcp.write_all(b"data").expect("written");
    reset(tcp);
    assert_eq!(backend.accept().read_to_end(), (b"data".to_vec(), End::Reset));
}

#[test]
fn a_connection_that_came_and_went_is_still_seen() {
    let backend = Scripted::start();
    reset(dial(backend.address()));
    assert!(backend.accept_within(Duration::from_secs(5)).is_some());
}

#[test]
fn an_echo_answers_to_the_end() {
    let echo = Echo::start();
    let mut tcp = dial(echo.address());
    let data = pattern(10_000);
    tcp.write_all(&data).expect("written");
    tcp.shutdown(std::net::Shutdown::Write).expect("a FIN");
    let mut back = Vec::new();
    tcp.read_to_end(&mut back).expect("an answer");
    assert_same_bytes(&back, &data);
    assert_eq!(echo.connections(), 1);
}

#[test]
fn a_black_hole_answers_nothing() {
    let hole = super::support::backend::BlackHole::start();
    let start = Instant::now();
    let error = TcpStream::connect_timeout(&hole.address(), Duration::from_millis(200));
    assert!(error.is_err_and(|error| timed_out(&error)));
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_log_finds_lines_and_knows_its_end() {
    let log = Log::default();
    let (mut writer, reader) = std::os::unix::net::UnixStream::pair().expect("a pair");
    log.capture(reader);
    writer.write_all(b"first line\nsecond \xff line\n").expect("written");
    assert_eq!(log.wait_for(&["first"]), "first line");
    let mark = log.mark().min(1);
    assert!(log.wait_after(mark, &["second", "line"]).starts_with("second"));
    assert_eq!(log.find(0, &["third"], Duration::ZERO), None);
    drop(writer);
    log.wait_end();
    assert_eq!(log.find(0, &["third"], Duration::from_secs(60)), None);
}

#[test]
fn configurations_carry_the_ports_of_their_site() {
    let site = Site::new();
    let text = Config::new()
        .bind_mtls("alpn h2")
        .server("127.0.0.1:7".parse().expect("an address"), "send-proxy-v2")
        .pair("second")
        .bind("other", "ssl crt {dir}/server.pem")
        .server_line("server unix {dir}/socket")
        .render(&site);
    let main = format!("    bind {} name main ssl crt ", site.address("main"));
    assert!(text.contains(&main), "{text}");
    let other = format!("    bind {} name other ssl crt ", site.address("other"));
    assert!(text.contains(&other), "{text}");
    assert_ne!(site.address("main"), site.address("other"));
    assert!(text.contains("    server s 127.0.0.1:7 send-proxy-v2\n"), "{text}");
    assert!(!text.contains('{'), "{text}");
}

#[test]
fn processes_are_seen_to_end() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    assert!(alive(pid));
    assert!(children(nix::unistd::getpid()).contains(&pid));
    child.kill().expect("kill");
    super::support::eventually("end of sleep", Duration::from_secs(5), || !alive(pid));
    child.wait().expect("wait");
}
