//! Backends that fail, in every way that a backend can.

use std::time::{Duration, Instant};

use super::support::backend::BlackHole;
use super::support::client::{Client, Ending, Version};
use super::support::ports::Port;
use super::support::{Bowline, Config, DEADLINE, Echo, End, Scripted, Site, both_versions, eventually, pattern, serve};

/// The client learns that this was not the end of an answer.
#[track_caller]
fn assert_aborted(ending: Ending) {
    assert!(matches!(ending, Ending::Truncated | Ending::Reset), "{ending:?}");
}

both_versions! {
    fn a_backend_that_refuses_is_an_abort_for_the_client(version) {
        let nobody = Port::reserve();
        let config = Config::new().bind_tls("").server(nobody.address(), "send-proxy-v2");
        let bowline = serve(&config);
        let mut tls = Client::new(version).connect(bowline.main());
        assert_aborted(tls.ending());
        let line = bowline.log.wait_for(&["fe~ be/", " SC "]);
        assert!(line.starts_with(&tls.local().to_string()), "{line}");
    }

    fn a_backend_that_does_not_answer_is_given_up(version) {
        let hole = BlackHole::start();
        let config = Config::new()
            .timeout("connect", "500ms")
            .bind_tls("")
            .server(hole.address(), "");
        let bowline = serve(&config);
        let mut tls = Client::new(version).connect(bowline.main());
        let start = Instant::now();
        assert_aborted(tls.ending());
        assert!(start.elapsed() > Duration::from_millis(300), "{:?}", start.elapsed());
        bowline.log.wait_for(&["fe~ be/", " sC "]);
    }

    fn a_backend_that_closes_at_once_is_an_end_for_the_client(version) {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
        let mut tls = Client::new(version).connect(bowline.main());
        drop(backend.accept());
        assert_eq!(tls.ending(), Ending::CloseNotify);
    }

    fn a_backend_that_resets_in_mid_stream_loses_nothing_before_it(version) {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
        let mut tls = Client::new(version).connect(bowline.main());
        let mut peer = backend.accept();
        let data = pattern(100_000);
        peer.write_all(&data);
        assert!(tls.read_exact(data.len()) == data);
        peer.reset();
        assert_aborted(tls.ending());
    }

    fn a_backend_that_takes_its_time_is_waited_for(version) {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
        let mut tls = Client::new(version).connect(bowline.main());
        tls.write_all(b"well?");
        let mut peer = backend.accept();
        assert_eq!(peer.read_exact(5), b"well?");
        peer.assert_silent(Duration::from_secs(2));
        peer.write_all(b"yes");
        assert_eq!(tls.read_exact(3), b"yes");
    }
}

#[test]
fn a_client_that_leaves_while_the_backend_is_dialled_is_not_kept() {
    let hole = BlackHole::start();
    let config = Config::new().timeout("connect", "60s").bind_tls("").server(hole.address(), "");
    let bowline = serve(&config);
    let worker = bowline.worker();
    // In TLS 1.2 the server has the last word of the handshake: whoever has heard it is being dialled for. In TLS 1.3 a reset can
    // overtake the client's.
    let client = Client::new(Version::Tls12);
    // The first line opens the log, which is a descriptor more.
    let first = client.connect(bowline.main());
    let address = first.local().to_string();
    first.reset();
    bowline.log.wait_for(&[&address]);
    let idle = super::support::bowline::descriptors(worker);
    for _ in 0..20 {
        client.connect(bowline.main()).reset();
    }
    bowline.log.wait_for(&["fe~ be/s", " CC "]);
    eventually("descriptors given back", DEADLINE, || super::support::bowline::descriptors(worker) <= idle);
}

#[test]
fn a_backend_that_comes_back_is_used_again() {
    let port = Port::reserve();
    let bowline = serve(&Config::new().bind_tls("").server(port.address(), ""));
    let client = Client::new(Version::Tls13);
    assert_aborted(client.connect(bowline.main()).ending());
    let backend = Scripted::listen(port.address(), None, 8);
    let mut tls = client.connect(bowline.main());
    tls.write_all(b"there you are");
    assert_eq!(backend.accept().read_exact(13), b"there you are");
}

#[test]
fn backends_that_do_not_answer_hold_nobody_up() {
    let hole = BlackHole::start();
    let echo = Echo::start();
    let config = Config::new()
        .global("nbthread 1")
        .bind_tls("")
        .server(hole.address(), "")
        .pair("good")
        .bind("good", "ssl crt {dir}/server.pem")
        .server(echo.address(), "");
    let bowline = serve(&config);
    let client = Client::new(Version::Tls13);
    let _stuck: Vec<_> = (0..100).map(|_| client.connect(bowline.main())).collect();
    client.connect(bowline.address("good")).echo(b"not stuck");
}

#[test]
fn a_unix_socket_is_a_backend() {
    let site = Site::new();
    let backend = Scripted::unix(&site.path("backend.sock"));
    let config = Config::new().bind_tls("").server_line("server s unix@{dir}/backend.sock send-proxy-v2");
    let bowline = Bowline::start(site, &config);
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    tls.write_all(b"ping");
    let mut peer = backend.accept();
    assert_eq!(peer.header().source(), tls.local());
    assert_eq!(peer.read_exact(4), b"ping");
    peer.write_all(b"pong");
    peer.fin();
    assert_eq!(tls.read_to_end(), (b"pong".to_vec(), Ending::CloseNotify));
    tls.close_notify();
    assert_eq!(peer.end(), End::Fin);
}

#[test]
fn a_unix_socket_that_is_missing_is_an_abort_until_it_is_there() {
    let config = Config::new().timeout("connect", "1s").bind_tls("").server_line("server s unix@{dir}/backend.sock");
    let bowline = serve(&config);
    let client = Client::new(Version::Tls13);
    assert_aborted(client.connect(bowline.main()).ending());
    bowline.log.wait_for(&["fe~ be/", " SC "]);
    let backend = Scripted::unix(&bowline.site.path("backend.sock"));
    let mut tls = client.connect(bowline.main());
    tls.write_all(b"x");
    assert_eq!(backend.accept().read_exact(1), b"x");
    // A server that restarts leaves its old socket behind, dead, and makes a new one in its place.
    drop(backend);
    let mut tls = client.connect(bowline.main());
    assert_aborted(tls.ending());
    std::fs::remove_file(bowline.site.path("backend.sock")).expect("the dead socket");
    let backend = Scripted::unix(&bowline.site.path("backend.sock"));
    let mut tls = client.connect(bowline.main());
    tls.write_all(b"y");
    assert_eq!(backend.accept().read_exact(1), b"y");
}
