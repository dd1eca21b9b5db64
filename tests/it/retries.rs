//! A server that does not accept at once.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::support::backend::BlackHole;
use super::support::client::{Client, Ending, Version, dial};
use super::support::peers::{self, Server};
use super::support::ports::Port;
use super::support::{Bowline, Config, DEADLINE, Scripted, Site, serve};

/// Fields of the line about the only connection.
#[track_caller]
fn line(bowline: &Bowline) -> Vec<String> {
    let line = bowline.log.wait_for(&[" be/"]);
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_server_that_comes_up_meanwhile_is_found() {
    let port = Port::reserve();
    let bowline = serve(&Config::new().bind_tls("").server(port.address(), "send-proxy-v2"));
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    tls.write_all(b"early");
    // The first try is refused before anybody listens there.
    super::support::observe(Duration::from_millis(300));
    let backend = Scripted::listen(port.address(), None, 8);
    let mut peer = backend.accept();
    peer.header();
    assert_eq!(peer.read_exact(5), b"early");
    peer.write_all(b"late");
    assert_eq!(tls.read_exact(4), b"late");
    drop(tls);
    let fields = line(&bowline);
    let counts = fields.iter().find(|field| field.matches('/').count() == 4).expect("counts");
    assert!(counts.ends_with("/1"), "one more try: {fields:?}");
}

#[test]
fn it_is_given_up_after_as_many_tries_as_were_asked_for() {
    let port = Port::reserve();
    let config = Config::new().timeout("connect", "100ms").bind_tls("").server(port.address(), "");
    let bowline = serve(&config.server_line("retries 2"));
    let start = Instant::now();
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    assert_eq!(tls.ending(), Ending::Truncated);
    assert!(start.elapsed() >= Duration::from_millis(200), "two pauses of 'timeout connect': {:?}", start.elapsed());
    let fields = line(&bowline);
    assert!(fields.contains(&"SC".to_owned()), "{fields:?}");
    assert!(fields.iter().any(|field| field.ends_with("/2")), "{fields:?}");
}

#[test]
fn each_try_has_its_time() {
    let hole = BlackHole::start();
    let config = Config::new().timeout("connect", "150ms").bind("main", "").server(hole.address(), "");
    let bowline = serve(&config.server_line("retries 1"));
    let start = Instant::now();
    let mut client = dial(bowline.main());
    client.set_read_timeout(Some(DEADLINE)).expect("SO_RCVTIMEO");
    let _ = client.read(&mut [0]);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    let fields = line(&bowline);
    assert!(fields.contains(&"sC".to_owned()) && fields.iter().any(|field| field.ends_with("/1")), "{fields:?}");
}

#[test]
fn a_disabled_server_is_not_dialled() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), "disabled"));
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    assert_eq!(tls.ending(), Ending::Truncated);
    let line = bowline.log.wait_for(&["be/<NOSRV>"]);
    assert!(line.contains("be/<NOSRV> -1/-1/") && line.contains(" SC "), "{line}");
    backend.assert_untouched_by(bowline);
}

#[test]
fn the_backend_without_condition_goes_before_the_default() {
    let (usual, other) = (Scripted::start(), Scripted::start());
    let config = Config::new().bind("main", "").server(usual.address(), "").pair("second").server(other.address(), "");
    let bowline = serve(&config);
    let _client = dial(bowline.main());
    usual.accept();
    let text = config
        .render(&bowline.site)
        .replace("    default_backend be\n", "    default_backend be\n    use_backend second-be\n");
    bowline.site.configure(&text);
    bowline.reload();
    let _client = dial(bowline.main());
    other.accept();
}

#[test]
fn clients_that_have_gone_cost_no_handshake() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
    let client = Client::new(Version::Tls13);
    let mut tcp = client.dial(bowline.main());
    tcp.write_all(&client.hello()).expect("a hello");
    tcp.shutdown(std::net::Shutdown::Write).expect("a connection");
    tcp.set_read_timeout(Some(DEADLINE)).expect("SO_RCVTIMEO");
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    bowline.log.wait_for(&["fe/main", "during SSL handshake"]);
    backend.assert_untouched_by(bowline);
}

/// The same file, the same servers that can not be reached: the same lines.
#[test]
fn lines_about_servers_that_can_not_be_reached_are_haproxys() {
    if peers::skipped() {
        return;
    }
    let closed = Port::reserve();
    let text = |address: &str, words: &str| {
        format!(
            "global\n    log stderr format raw local0\n    maxconn 64\n    user nobody\ndefaults\n    mode tcp\n    log global\n    \
             option tcplog\n    timeout connect 200ms\n    timeout client 5s\n    timeout server 5s\nfrontend fe\n    \
             bind {address}\n    default_backend be\nbackend be\n    retries 2\n    server s {} {words}\n",
            closed.address()
        )
    };
    let ends = |address: std::net::SocketAddr| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        client.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        client.set_read_timeout(Some(DEADLINE)).expect("SO_RCVTIMEO");
        let own = client.local_addr().expect("an address").as_socket().expect("an IP address");
        // Who is reset at once may hear of it before the call has returned.
        if client.connect(&address.into()).is_ok() {
            let _ = (&client).read(&mut [0]);
        }
        own.to_string()
    };
    // All but addresses, times (of which only whether there was a connection is the same), and how many other connections
    // there are: whoever looks whether HAProxy listens yet is one.
    let told = |line: String| {
        let fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let connected = fields[4].split('/').nth(1).map(str::to_owned);
        let counts: Vec<String> = fields[7].split('/').skip(2).map(str::to_owned).collect();
        (fields[2..4].to_vec(), connected, fields[5..7].to_vec(), counts, fields[8].clone())
    };
    for words in ["", "disabled"] {
        let haproxy = Server::haproxy_with(&text("{address}", words));
        let client = ends(haproxy.address());
        let theirs = told(haproxy.log().wait_for(&[&client, "fe be/"]));
        let site = Site::new();
        let config = text(&site.address("main").to_string(), words);
        let bowline = Bowline::launch(site, &config, &[]).expect("a start");
        ends(bowline.main());
        assert_eq!(told(bowline.log.wait_for(&["fe be/"])), theirs, "{words}");
    }
}
