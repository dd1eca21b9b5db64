//! How a relay ends. Each side's end is told to the other as what it was: an end of stream as an end of stream, an abort as an
//! abort, never one as the other.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use super::support::client::{Client, Ending, Version, dial, reset};
use super::support::{
    Bowline, Config, End, Peer, Scripted, Tls, assert_same_bytes, both_versions, observe, pattern, pki, serve,
};

/// A relay in mid-flow.
#[track_caller]
fn relay(version: Version, option: Option<&str>) -> (Bowline, Tls, Peer) {
    relay_of(&Client::new(version), option)
}

#[track_caller]
fn relay_of(client: &Client, option: Option<&str>) -> (Bowline, Tls, Peer) {
    let backend = Scripted::start();
    let mut config = Config::new().bind_mtls("").server(backend.address(), "");
    if let Some(line) = option {
        config = config.frontend_line(line);
    }
    let bowline = serve(&config);
    let mut tls = client.clone().identity(&pki().good).connect(bowline.main());
    tls.write_all(b"hello");
    let mut peer = backend.accept();
    assert_eq!(peer.read_exact(5), b"hello");
    (bowline, tls, peer)
}

both_versions! {
    fn after_close_notify_and_fin_the_answer_still_comes(version) {
        let (_bowline, mut tls, mut peer) = relay(version, None);
        tls.write_all(b"question");
        tls.close_notify();
        tls.fin();
        assert_eq!(peer.read_to_end(), (b"question".to_vec(), End::Fin));
        let answer = pattern(200_000);
        peer.write_all(&answer);
        drop(peer);
        let (got, ending) = tls.read_to_end();
        assert_same_bytes(&got, &answer);
        assert_eq!(ending, Ending::CloseNotify);
    }

    fn after_close_notify_alone_the_answer_still_comes(version) {
        let (_bowline, mut tls, mut peer) = relay(version, None);
        tls.write_all(b"question");
        tls.close_notify();
        assert_eq!(peer.read_to_end(), (b"question".to_vec(), End::Fin));
        let answer = pattern(200_000);
        peer.write_all(&answer);
        drop(peer);
        let (got, ending) = tls.read_to_end();
        assert_same_bytes(&got, &answer);
        assert_eq!(ending, Ending::CloseNotify);
    }

    fn after_the_backends_fin_the_upload_still_arrives(version) {
        let (_bowline, mut tls, mut peer) = relay(version, None);
        peer.write_all(b"go on");
        peer.fin();
        assert_eq!(tls.read_to_end(), (b"go on".to_vec(), Ending::CloseNotify));
        let upload = pattern(200_000);
        tls.write_all(&upload);
        tls.close_notify();
        let (got, end) = peer.read_to_end();
        assert_same_bytes(&got, &upload);
        assert_eq!(end, End::Fin);
    }

    fn a_clients_fin_without_close_notify_is_an_abort_for_the_backend(version) {
        let (_bowline, mut tls, mut peer) = relay(version, None);
        tls.write_all(b"trunc");
        assert_eq!(peer.read_exact(5), b"trunc");
        tls.fin();
        assert_eq!(peer.end(), End::Reset);
    }

    fn a_clients_fin_is_an_end_where_the_operator_says_so(version) {
        let (_bowline, mut tls, mut peer) = relay(version, Some("option accept-tls-eof"));
        tls.write_all(b"old client");
        tls.fin();
        assert_eq!(peer.read_to_end(), (b"old client".to_vec(), End::Fin));
        peer.write_all(b"answer");
        drop(peer);
        assert_eq!(tls.read_to_end(), (b"answer".to_vec(), Ending::CloseNotify));
    }

    fn a_clients_reset_is_a_reset_for_the_backend(version) {
        let (_bowline, tls, mut peer) = relay(version, None);
        tls.reset();
        assert_eq!(peer.end(), End::Reset);
    }

    fn a_clients_reset_is_a_reset_also_where_a_fin_is_an_end(version) {
        let (_bowline, tls, mut peer) = relay(version, Some("option accept-tls-eof"));
        tls.reset();
        assert_eq!(peer.end(), End::Reset);
    }

    fn a_backends_reset_is_no_close_notify_for_the_client(version) {
        let (_bowline, mut tls, mut peer) = relay(version, None);
        peer.write_all(b"partial");
        assert_eq!(tls.read_exact(7), b"partial");
        peer.reset();
        let ending = tls.ending();
        assert!(matches!(ending, Ending::Truncated | Ending::Reset), "{ending:?}");
    }

    fn a_backends_fin_is_a_close_notify_for_the_client(version) {
        let (_bowline, mut tls, mut peer) = relay(version, None);
        peer.write_all(b"all of it");
        peer.fin();
        assert_eq!(tls.read_to_end(), (b"all of it".to_vec(), Ending::CloseNotify));
    }

    fn five_megabytes_and_a_close_reach_a_slow_client_whole(version) {
        let client = Client::new(version).receive_buffer(4096);
        let (_bowline, mut tls, mut peer) = relay_of(&client, None);
        let data = pattern(5_000_000);
        let sent = data.clone();
        let writer = std::thread::spawn(move || peer.write_all(&sent));
        let (got, ending) = tls.read_to_end();
        writer.join().expect("the backend wrote everything");
        assert_same_bytes(&got, &data);
        assert_eq!(ending, Ending::CloseNotify);
    }

    fn five_megabytes_and_a_close_reach_a_client_that_is_still_sending(version) {
        let client = Client::new(version).receive_buffer(65536);
        let (_bowline, mut tls, mut peer) = relay_of(&client, None);
        let data = pattern(5_000_000);
        let sent = data.clone();
        // The backend closes with the client's data unread, as servers do that have heard enough.
        let writer = std::thread::spawn(move || {
            peer.write_all(&sent);
            peer.fin();
            peer
        });
        let mut got = Vec::new();
        while got.len() < data.len() {
            let _ = tls.try_write_all(b"more and more and more");
            let piece = 50_000.min(data.len() - got.len());
            got.extend(tls.read_exact(piece));
        }
        let peer = writer.join().expect("the backend wrote everything");
        assert_same_bytes(&got, &data);
        assert_eq!(tls.ending(), Ending::CloseNotify);
        drop(peer);
    }

    fn both_ends_closing_at_once_is_a_clean_end(version) {
        let (bowline, mut tls, mut peer) = relay(version, None);
        peer.fin();
        tls.close_notify();
        assert_eq!(tls.ending(), Ending::CloseNotify);
        assert_eq!(peer.end(), End::Fin);
        let line = bowline.log.wait_for(&["fe~ be/s"]);
        assert!(line.contains(" -- "), "{line}");
    }

    fn idle_clients_are_cut_off_without_a_close_notify(version) {
        let backend = Scripted::start();
        let config = Config::new()
            .timeout("client", "1s")
            .timeout("server", "1s")
            .bind_tls("")
            .server(backend.address(), "");
        let bowline = serve(&config);
        let mut tls = Client::new(version).connect(bowline.main());
        let mut peer = backend.accept();
        let ending = tls.ending();
        assert!(matches!(ending, Ending::Truncated | Ending::Reset), "{ending:?}");
        assert_eq!(peer.end(), End::Reset);
    }
}

#[test]
fn data_keeps_an_otherwise_silent_relay_alive() {
    let backend = Scripted::start();
    let config =
        Config::new().timeout("client", "1s").timeout("server", "1s").bind_tls("").server(backend.address(), "");
    let bowline = serve(&config);
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    let mut peer = backend.accept();
    for _ in 0..8 {
        peer.assert_silent(Duration::from_millis(250));
        tls.write_all(b"t");
        assert_eq!(peer.read_exact(1), b"t");
        peer.write_all(b"T");
        assert_eq!(tls.read_exact(1), b"T");
    }
}

#[test]
fn the_end_of_a_connection_is_logged_with_the_bytes_to_the_client() {
    let (bowline, mut tls, mut peer) = relay(Version::Tls13, None);
    peer.write_all(&pattern(12_345));
    peer.fin();
    assert_eq!(tls.read_to_end().1, Ending::CloseNotify);
    tls.close_notify();
    let line = bowline.log.wait_for(&["fe~ be/s", " 12345 "]);
    let client = tls.local().to_string();
    assert!(line.starts_with(&client), "{line}");
}

#[test]
fn an_abort_is_logged_with_the_side_that_aborted() {
    let (bowline, tls, mut peer) = relay(Version::Tls13, None);
    tls.reset();
    assert_eq!(peer.end(), End::Reset);
    bowline.log.wait_for(&["fe~ be/s", " CD "]);
    let (bowline, mut tls, peer) = relay(Version::Tls13, None);
    peer.reset();
    tls.ending();
    bowline.log.wait_for(&["fe~ be/s", " SD "]);
}

both_versions! {
    fn an_upload_that_ended_with_close_notify_survives_the_reset_behind_it(version) {
        // What a client does that closes with a session ticket unread.
        let backend = Scripted::listen("127.0.0.1:0".parse().expect("an address"), Some(2048), 8);
        let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
        let mut tls = Client::new(version).connect(bowline.main());
        let mut peer = backend.accept();
        // Little enough for the first window, so that it is there before the reset.
        let upload = pattern(30_000);
        tls.write_all(&upload);
        tls.close_notify();
        let local = tls.local().to_string();
        tls.reset();
        bowline.log.wait_for(&[&local, " CD "]);
        let (got, end) = peer.read_to_end();
        assert_same_bytes(&got, &upload);
        assert_eq!(end, End::Fin);
    }

    fn a_clients_reset_reaches_a_backend_that_does_not_read(version) {
        let (_bowline, mut tls, mut peer) = relay(version, None);
        tls.tcp.set_write_timeout(Some(Duration::from_millis(300))).expect("SO_SNDTIMEO");
        while tls.try_write_all(&pattern(65536)).is_ok() {}
        tls.reset();
        peer.assert_reset_unread();
    }
}

#[test]
fn without_tls_an_abort_is_a_reset_for_either_side() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind("main", "").server(backend.address(), ""));
    let mut tcp = dial(bowline.main());
    let mut peer = backend.accept();
    peer.write_all(b"partial");
    let mut partial = [0; 7];
    tcp.read_exact(&mut partial).expect("the answer so far");
    peer.reset();
    let error = tcp.read(&mut partial).expect_err("not an end of stream");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let tcp = dial(bowline.main());
    let mut peer = backend.accept();
    reset(tcp);
    assert_eq!(peer.end(), End::Reset);
}

#[test]
fn without_tls_an_upload_that_ended_survives_the_reset_behind_it() {
    // What a client does that closes without waiting for the answer.
    let backend = Scripted::listen("127.0.0.1:0".parse().expect("an address"), Some(2048), 8);
    let bowline = serve(&Config::new().bind("main", "").server(backend.address(), ""));
    let mut tcp = dial(bowline.main());
    let mut peer = backend.accept();
    let upload = pattern(30_000);
    tcp.write_all(&upload).expect("written");
    let local = tcp.local_addr().expect("an address").to_string();
    tcp.shutdown(Shutdown::Write).expect("FIN");
    // The relay has seen the end before the reset: the server's socket, which is slow, has taken it all.
    observe(Duration::from_millis(200));
    peer.write_all(b"too late");
    drop(tcp);
    bowline.log.wait_for(&[&local, " C"]);
    let (got, end) = peer.read_to_end();
    assert_same_bytes(&got, &upload);
    assert_eq!(end, End::Fin);
}

#[test]
fn connections_without_data_from_the_client_need_not_be_logged() {
    let (bowline, mut tls, peer) = relay(Version::Tls13, Some("option dontlognull"));
    let address = bowline.main();
    let silent = Client::new(Version::Tls13).identity(&pki().good).connect(address);
    let local = silent.local().to_string();
    drop(silent);
    drop(peer);
    tls.ending();
    tls.close_notify();
    bowline.log.wait_for(&[&tls.local().to_string(), "fe~ be/s"]);
    let log = bowline.kill();
    assert!(!log.text().contains(&local), "{}", log.text());
}
