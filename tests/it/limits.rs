//! How many, and how fast: what is above a limit waits in the backlog, and is served later.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::support::client::{Client, Version, dial};
use super::support::{Bowline, Config, Scripted, serve};

/// Opens `count` connections at once; answers after how much time the backend had each.
fn arrivals(bowline: &Bowline, backend: &Scripted, count: usize) -> Vec<Duration> {
    let start = Instant::now();
    let clients: Vec<TcpStream> = (0..count).map(|_| dial(bowline.main())).collect();
    let mut peers = Vec::new();
    let times = (0..count)
        .map(|_| {
            peers.push(backend.accept());
            start.elapsed()
        })
        .collect();
    drop(clients);
    times
}

/// A second's worth at once, the others one by one.
#[track_caller]
fn assert_five_in_a_second(config: Config) {
    let backend = Scripted::start();
    // Loops that look at the same moment may take one each.
    let bowline = serve(&config.global("nbthread 1").server(backend.address(), ""));
    let times = arrivals(&bowline, &backend, 9);
    assert!(times[5] >= Duration::from_millis(190), "the sixth came too early: {times:?}");
    assert!(times[8] >= Duration::from_millis(790), "the ninth came too early: {times:?}");
}

#[test]
fn a_frontend_takes_so_many_sessions_in_a_second() {
    assert_five_in_a_second(Config::new().bind("main", "").frontend_line("rate-limit sessions 5"));
}

#[test]
fn the_process_takes_so_many_connections_in_a_second() {
    assert_five_in_a_second(Config::new().global("maxconnrate 5").bind("main", ""));
    assert_five_in_a_second(Config::new().global("maxsessrate 5").global("maxconnrate 100").bind("main", ""));
}

#[test]
fn a_rate_of_tls_is_not_about_plain_listeners() {
    let backend = Scripted::start();
    let config = Config::new().global("maxsslrate 1").bind_tls("").bind("plain", "").server(backend.address(), "");
    let bowline = serve(&config);
    let start = Instant::now();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(dial(bowline.address("plain")));
        backend.accept();
    }
    let client = Client::new(Version::Tls13);
    let _first = client.connect(bowline.main());
    let _second = client.connect(bowline.main());
    assert!(start.elapsed() >= Duration::from_millis(990), "the second handshake came too early");
}

#[test]
fn a_reload_gives_nobody_another_seconds_worth() {
    let backend = Scripted::start();
    let config = Config::new().bind("main", "").frontend_line("rate-limit sessions 1").server(backend.address(), "");
    let bowline = serve(&config);
    let start = Instant::now();
    let _first = dial(bowline.main());
    backend.accept();
    bowline.reload();
    let _second = dial(bowline.main());
    backend.accept();
    assert!(start.elapsed() >= Duration::from_millis(990), "after {:?}", start.elapsed());
}

#[test]
fn who_waits_for_a_rate_is_served_when_the_listener_goes() {
    let backend = Scripted::start();
    let config = Config::new().bind("main", "").frontend_line("rate-limit sessions 1").server(backend.address(), "");
    let bowline = serve(&config);
    let clients: Vec<TcpStream> = (0..4).map(|_| dial(bowline.main())).collect();
    let _first = backend.accept();
    bowline.signal(nix::sys::signal::Signal::SIGUSR1);
    let peers: Vec<_> = clients.iter().skip(1).map(|_| backend.accept()).collect();
    drop((clients, peers));
}

#[test]
fn more_tls_connections_than_allowed_wait_for_others_to_end() {
    let backend = Scripted::start();
    let config = Config::new().global("maxsslconn 2").bind_tls("").bind("plain", "").server(backend.address(), "");
    let bowline = serve(&config);
    let client = Client::new(Version::Tls13);
    let (first, second) = (client.connect(bowline.main()), client.connect(bowline.main()));
    let (_one, _two) = (backend.accept(), backend.accept());
    let address = bowline.main();
    let third = std::thread::spawn(move || Client::new(Version::Tls13).connect(address));
    assert!(backend.accept_within(Duration::from_millis(300)).is_none(), "a third got in");
    let _plain = dial(bowline.address("plain"));
    let _peer = backend.accept();
    first.reset();
    backend.accept();
    third.join().expect("a handshake");
    drop(second);
}

#[test]
fn who_comes_from_a_privileged_port_is_turned_away() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let backend = Scripted::start();
    let config = |harden: &str| {
        let config = Config::new().global(&format!("harden.reject-privileged-ports.tcp {harden}"));
        config.bind("main", "").server(backend.address(), "")
    };
    let bowline = serve(&config("off"));
    let from_below = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let free = (600..1024).rev().find(|port| {
            let address: std::net::SocketAddr = format!("127.0.0.1:{port}").parse().expect("an address");
            socket.bind(&address.into()).is_ok()
        });
        free.expect("a free port below 1024");
        socket.connect(&bowline.main().into()).expect("a connection");
        socket
    };
    let _allowed = from_below();
    backend.accept();
    bowline.reconfigure(&config("on"));
    bowline.reload();
    let denied = TcpStream::from(from_below());
    denied.set_read_timeout(Some(super::support::DEADLINE)).expect("SO_RCVTIMEO");
    let end = std::io::Read::read(&mut &denied, &mut [0]);
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let _other = dial(bowline.main());
    backend.accept();
}

#[test]
fn one_connection_and_one_event_at_a_time_still_serve_all() {
    let backend = super::support::Echo::start();
    let config = Config::new().global("tune.maxaccept 1").global("tune.maxpollevents 1");
    let bowline = serve(&config.bind_tls("").server(backend.address(), ""));
    let client = Client::new(Version::Tls13);
    let mut all: Vec<_> = (0..20).map(|_| client.connect(bowline.main())).collect();
    for tls in &mut all {
        tls.echo(b"served");
    }
}
