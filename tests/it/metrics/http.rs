//! Who may ask, how, and for how long.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::{Client, Ending, Version, dial};
use crate::support::metrics::{Answer, Scrape, ask, get, get_unix};
use crate::support::{Config, DEADLINE, Echo, eventually, serve};

fn config(echo: &Echo, line: &str) -> Config {
    Config::new().global(line).bind_tls("").server(echo.address(), "")
}

#[test]
fn over_both_families_and_a_unix_socket() {
    let echo = Echo::start();
    let config = config(&echo, "metrics socket {port:v4}")
        .global("metrics socket {port:v6}")
        .global("metrics socket {dir}/metrics.sock mode 666");
    let bowline = serve(&config);
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    for name in ["v4", "v6"] {
        assert!(get(bowline.address(name), "/metrics").body.contains(&version));
    }
    let answer = get_unix(&bowline.site.path("metrics.sock"), "/metrics");
    Scrape::parse(&answer.body);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.field("Content-Length"), Some(answer.body.len().to_string().as_str()));
    assert_eq!(answer.field("Connection"), Some("close"));
}

#[test]
fn what_else_is_asked() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, "metrics socket {port:metrics}"));
    let address = bowline.address("metrics");
    let health = get(address, "/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ready\n"));
    assert_eq!(get(address, "/metrics?name=x").status, 200);
    for path in ["/", "/metrics/", "/Metrics", "/../etc/passwd"] {
        let answer = get(address, path);
        assert_eq!((answer.status, answer.body.as_str()), (404, "There are /metrics and /healthz.\n"), "{path}");
    }
    let head = ask(address, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.field("Content-Length").expect("a length").parse::<usize>().expect("a number") > 1000);
    let post = ask(address, b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!((post.status, post.field("Allow")), (405, Some("GET, HEAD")));
    assert_eq!(ask(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status, 505);
    for rubbish in [&b"hello\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\n", b"GET\n", b"\xff\xff\xff\n\n"] {
        assert_eq!(ask(address, rubbish).status, 400, "{rubbish:?}");
    }
    // Nobody is served less for it.
    Scrape::of(address);
}

#[test]
fn a_huge_request_is_refused() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, "metrics socket {port:metrics}"));
    let long = vec![b'a'; 9000];
    for request in [long.clone(), [b"GET /metrics HTTP/1.1\r\nX: ", long.as_slice()].concat()] {
        assert_eq!(ask(bowline.address("metrics"), &request).status, 431);
    }
}

#[test]
fn a_slow_request_is_cut_however_it_is_spread() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, "metrics socket {port:metrics}").global("stats timeout 1s"));
    let start = Instant::now();
    let mut silent = dial(bowline.address("metrics"));
    let mut dripping = dial(bowline.address("metrics"));
    let mut request = b"GET /metrics HTTP/1.1\r\nX-Padding: ".iter().chain(std::iter::repeat(&b'x'));
    dripping.set_nonblocking(true).expect("a socket");
    let mut first = [0; 12];
    eventually("an end of patience", DEADLINE, || {
        let _ = dripping.write(&[*request.next().expect("no end")]);
        dripping.peek(&mut first).is_ok_and(|read| read == first.len())
    });
    assert_eq!(&first, b"HTTP/1.1 408");
    assert!((1..8).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(Answer::read(&mut silent).status, 408);
}

#[test]
fn a_client_that_never_reads_loses_its_place() {
    let echo = Echo::start();
    let mut config = config(&echo, "metrics socket {dir}/metrics.sock mode 666 maxconn 1").global("stats timeout 1s");
    // More than a socket holds.
    for number in 0..40 {
        config = config.pair(&format!("frontend-with-a-rather-long-name-{number}"));
        config = config.bind(&format!("b{number}"), "").server(echo.address(), "");
    }
    let bowline = serve(&config);
    let path = bowline.site.path("metrics.sock");
    let mut deaf = UnixStream::connect(&path).expect("a socket");
    deaf.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("a request");
    // It keeps the only place until its time is over.
    let start = Instant::now();
    let answer = get_unix(&path, "/metrics");
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(answer.body.len() > 400_000, "{} bytes fit into a socket", answer.body.len());
    Scrape::parse(&answer.body);
    let mut got = Vec::new();
    let _ = deaf.read_to_end(&mut got);
    assert!(got.len() < answer.body.len(), "all of it was sent");
}

#[test]
fn as_many_clients_as_there_are_places() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, "metrics socket {port:metrics} maxconn 3"));
    let address = bowline.address("metrics");
    let mut idle: Vec<TcpStream> = (0..3).map(|_| dial(address)).collect();
    let mut late = dial(address);
    late.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").expect("a request");
    late.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    late.peek(&mut [0]).expect_err("there is no place yet");
    idle.pop();
    late.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    assert_eq!(Answer::read(&mut late).status, 200);
}

#[test]
fn a_reload_adds_and_removes_sockets() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, "metrics socket {port:one}"));
    Scrape::of(bowline.address("one"));
    bowline.reconfigure(&config(&echo, "metrics socket {port:two}").global("metrics socket {dir}/three.sock"));
    bowline.reload();
    Scrape::of(bowline.address("two"));
    eventually("refusal at the removed address", DEADLINE, || TcpStream::connect(bowline.address("one")).is_err());
    bowline.reconfigure(&config(&echo, "maxconn 100"));
    bowline.reload();
    eventually("refusal at the removed address", DEADLINE, || TcpStream::connect(bowline.address("two")).is_err());
    eventually("an end of the unix socket", DEADLINE, || UnixStream::connect(bowline.site.path("three.sock")).is_err());
}

#[test]
fn a_process_that_drains_says_so() {
    let echo = Echo::start();
    let mut bowline =
        serve(&config(&echo, "metrics socket {port:metrics}").global("metrics socket {dir}/m.sock mode 666"));
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    tls.echo(b"before");
    assert_eq!(get(bowline.address("metrics"), "/healthz").status, 200);
    bowline.signal(Signal::SIGUSR1);
    eventually("draining", DEADLINE, || get(bowline.address("metrics"), "/healthz").status == 503);
    let answer = get(bowline.address("metrics"), "/healthz");
    assert_eq!(answer.body, "draining\n");
    let scrape = Scrape::of(bowline.address("metrics"));
    assert_eq!(scrape.value("bowline_draining"), 1.0);
    assert_eq!(scrape.value("bowline_connections_active{frontend=\"fe\"}"), 1.0);
    assert_eq!(get_unix(&bowline.site.path("m.sock"), "/healthz").status, 503);
    tls.echo(b"during");
    tls.close_notify();
    assert_eq!(tls.ending(), Ending::CloseNotify);
    assert!(bowline.wait_exit(DEADLINE).success());
}
