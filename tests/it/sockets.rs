//! Options of sockets, seen from outside: by the client's own socket, by /proc/net/tcp, by what happens.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::support::client::{Client, Version, dial};
use super::support::{Bowline, Config, DEADLINE, Echo, Scripted, Site, eventually, serve};

/// Seconds until the kernel probes a silent connection, from Bowline's end of it; `None`: it does not.
fn probe(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let end = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = row.into_iter().find(|row| row[1] == end(local) && row[2] == end(remote));
    let timer = row.expect("a connection")[5].split_once(':').map(|(kind, left)| (kind.to_owned(), left.to_owned()));
    let (kind, left) = timer.expect("a timer");
    // 2: keep-alive, in hundredths of seconds (proc_net_tcp.txt).
    (kind == "02").then(|| u64::from_str_radix(&left, 16).expect("a number") / 100)
}

/// Nothing but keep-alive waits any more.
#[track_caller]
fn assert_probe(what: &str, local: SocketAddr, remote: SocketAddr, seconds: std::ops::Range<u64>) {
    eventually(what, DEADLINE, || probe(local, remote).is_some_and(|left| seconds.contains(&left)));
}

#[test]
fn keep_alive_is_set_on_both_sides_and_follows_a_reload() {
    let backend = Scripted::start();
    let config = |idle: &str| {
        Config::new()
            .bind("main", "")
            .frontend_line("option clitcpka")
            .frontend_line(&format!("clitcpka-idle {idle}"))
            .server(backend.address(), "")
            .server_line("option srvtcpka")
            .server_line("srvtcpka-idle 777")
    };
    let bowline = serve(&config("2000"));
    let client = dial(bowline.main());
    let peer = backend.accept();
    assert_probe("a probe of the client", bowline.main(), client.local_addr().expect("an address"), 1900..2001);
    assert_probe("a probe of the server", peer.remote(), backend.address(), 700..778);

    bowline.reconfigure(&config("300"));
    bowline.reload();
    let later = dial(bowline.main());
    assert_probe("a probe of the next client", bowline.main(), later.local_addr().expect("an address"), 200..301);
    let first = probe(bowline.main(), client.local_addr().expect("an address"));
    assert!(first.is_some_and(|left| left > 1000), "who is connected keeps what he had: {first:?}");
}

/// The longest segment that a new client may send.
fn segment(address: SocketAddr) -> u32 {
    SockRef::from(&dial(address)).tcp_mss().expect("TCP_MAXSEG")
}

#[test]
fn the_longest_segment_is_announced_and_follows_reloads() {
    let backend = Scripted::start();
    let config = |words: &str| Config::new().bind("main", words).server(backend.address(), "");
    let bowline = serve(&config("mss 600"));
    assert!(segment(bowline.main()) <= 600);
    bowline.reconfigure(&config("mss 900"));
    bowline.reload();
    assert!((601..=900).contains(&segment(bowline.main())));
    bowline.reconfigure(&config(""));
    bowline.reload();
    assert!(segment(bowline.main()) > 900);
}

#[test]
fn clients_that_send_nothing_are_not_accepted_at_once() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind("main", "defer-accept").server(backend.address(), ""));
    let mut client = dial(bowline.main());
    assert!(backend.accept_within(Duration::from_millis(300)).is_none(), "accepted before it sent anything");
    client.write_all(b"here").expect("a connection");
    assert_eq!(backend.accept().read_exact(4), b"here");
}

#[test]
fn everything_at_once_still_relays() {
    let echo = Echo::start();
    let config = Config::new()
        .global("tune.rcvbuf.client 8k")
        .global("tune.sndbuf.client 8k")
        .global("tune.rcvbuf.server 8k")
        .global("tune.sndbuf.server 8k")
        .global("tune.notsent-lowat.client 4k")
        .global("tune.notsent-lowat.server 4k")
        .bind_tls("tfo defer-accept tcp-ut 30s mss 1000 cc reno")
        .server(echo.address(), "tcp-ut 30s cc reno");
    let bowline = serve(&config);
    let data = super::support::pattern(1 << 20);
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    let got = tls.exchange(&data, data.len(), 100_000);
    super::support::assert_same_bytes(&got, &data);
}

#[test]
fn an_interface_lets_in_only_who_comes_through_it() {
    let backend = Scripted::start();
    let text = |site: &Site, interface: &str| {
        Config::new().bind("main", &format!("interface {interface}")).server(backend.address(), "").render(site)
    };
    let site = Site::new();
    let config = text(&site, "lo");
    let bowline = Bowline::launch(site, &config, &[]).expect("a start");
    let _client = dial(bowline.main());
    backend.accept();

    let site = Site::new();
    let config = text(&site, "nowhere0");
    let failure = Bowline::start_refused(site, &config);
    assert!(failure.log.contains("there is no network interface 'nowhere0'"), "{}", failure.log);
}

#[test]
fn an_option_that_the_system_refuses_keeps_a_reload_out() {
    let backend = Scripted::start();
    let config = |words: &str| Config::new().bind("main", words).server(backend.address(), "");
    let bowline = serve(&config("cc reno"));
    bowline.reconfigure(&config("cc nonsense"));
    bowline.reload_refused(&["E602", "'cc': No such file or directory"]);
    let _client: TcpStream = dial(bowline.main());
    backend.accept();
}
