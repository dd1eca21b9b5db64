//! The relay between the ends: every byte, in order, once, whatever the sizes and speeds.

use std::io::Write;
use std::time::Duration;

use super::support::backend::fill;
use super::support::bowline::{processor_time, resident};
use super::support::client::{Client, Ending, Version, dial};
use super::support::records::{APPLICATION_DATA, RecordClient};
use super::support::{
    Bowline, Config, Echo, End, Peer, Scripted, Tls, assert_same_bytes, both_versions, observe, pattern, serve,
};

#[track_caller]
fn relay(client: &Client, receive_buffer: Option<usize>) -> (Bowline, Tls, Peer) {
    let address = "127.0.0.1:0".parse().expect("an address");
    let backend = Scripted::listen(address, receive_buffer, 8);
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
    let tls = client.connect(bowline.main());
    let peer = backend.accept();
    (bowline, tls, peer)
}

/// `length` different bytes each way at the same time.
#[track_caller]
fn both_ways(client: &Client, receive_buffer: Option<usize>, length: usize, piece: usize) {
    let (_bowline, mut tls, peer) = relay(client, receive_buffer);
    let down = pattern(length);
    let up: Vec<u8> = down.iter().rev().copied().collect();
    let (mut reader, mut writer) = (peer.handle(), peer);
    let sent = down.clone();
    let writing = std::thread::spawn(move || writer.write_all(&sent));
    let reading = std::thread::spawn(move || reader.read_exact(length));
    let got = tls.exchange(&up, length, piece);
    writing.join().expect("the backend wrote everything");
    assert_same_bytes(&got, &down);
    assert_same_bytes(&reading.join().expect("the backend read everything"), &up);
}

both_versions! {
    fn twenty_megabytes_pass_both_ways_at_once(version) {
        both_ways(&Client::new(version), None, 20_000_000, 1 << 20);
    }

    fn narrow_windows_lose_nothing(version) {
        let client = Client::new(version).receive_buffer(2048).send_buffer(2048);
        both_ways(&client, Some(2048), 2_000_000, 777);
    }

    fn single_bytes_pass_as_they_come(version) {
        let echo = Echo::start();
        let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
        let mut tls = Client::new(version).connect(bowline.main());
        let data = pattern(5000);
        for byte in &data {
            tls.write_all(std::slice::from_ref(byte));
        }
        assert_same_bytes(&tls.read_exact(data.len()), &data);
    }

    fn a_question_and_an_answer_do_not_wait_for_each_other(version) {
        let echo = Echo::start();
        let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
        let mut tls = Client::new(version).connect(bowline.main());
        for length in [1, 2, 1460, 16_383, 16_384, 16_385, 65_536, 1] {
            tls.echo(&pattern(length));
        }
    }

    fn a_client_that_never_reads_stops_its_backend(version) {
        let client = Client::new(version).receive_buffer(4096);
        let (bowline, tls, mut peer) = relay(&client, None);
        let worker = bowline.worker();
        let before = resident(worker);
        let sent = peer.fill(256 << 20, Duration::from_secs(1));
        assert!(sent < 64 << 20, "{sent} bytes for nobody");
        let grown = resident(worker).saturating_sub(before);
        // The kernel's buffers are not the process's own.
        assert!(grown < 4 << 20, "{grown} bytes more memory");
        let idle = processor_time(worker);
        observe(Duration::from_millis(500));
        let used = processor_time(worker) - idle;
        assert!(used < Duration::from_millis(100), "{used:?} for a stalled relay");
        drop(tls);
        assert_eq!(peer.end(), End::Reset);
    }
}

#[test]
fn a_backend_that_never_reads_stops_its_client() {
    let (bowline, mut tls, _peer) = relay(&Client::new(Version::Tls13), Some(4096));
    let worker = bowline.worker();
    let before = resident(worker);
    tls.tcp.set_write_timeout(Some(Duration::from_secs(1))).expect("SO_SNDTIMEO");
    let piece = pattern(65536);
    let mut sent = 0;
    while sent < 256 << 20 && tls.try_write_all(&piece).is_ok() {
        sent += piece.len();
    }
    assert!(sent < 64 << 20, "{sent} bytes for nobody");
    let grown = resident(worker).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more memory");
}

#[test]
fn others_are_served_while_one_stalls() {
    let backend = Scripted::start();
    let config = Config::new().global("nbthread 1").bind_tls("").server(backend.address(), "");
    let bowline = serve(&config);
    let stalled = Client::new(Version::Tls13).receive_buffer(4096);
    let _stalled = stalled.connect(bowline.main());
    let mut peer = backend.accept();
    peer.fill(256 << 20, Duration::from_millis(500));
    let mut lively = Client::new(Version::Tls13).connect(bowline.main());
    let mut other = backend.accept();
    for _ in 0..100 {
        lively.write_all(b"ping");
        assert_eq!(other.read_exact(4), b"ping");
        other.write_all(b"pong");
        assert_eq!(lively.read_exact(4), b"pong");
    }
}

#[test]
fn others_are_served_while_one_floods() {
    let backend = Scripted::start();
    let config = Config::new().global("nbthread 1").bind_tls("").server(backend.address(), "");
    let bowline = serve(&config);
    let greedy = Client::new(Version::Tls13);
    let mut greedy = greedy.connect(bowline.main());
    let mut sink = backend.accept();
    let sinking = std::thread::spawn(move || sink.read_to_end());
    let flood = std::thread::spawn(move || {
        let piece = pattern(65536);
        for _ in 0..1500 {
            greedy.write_all(&piece);
        }
        greedy.close_notify();
        // Closing now, with tickets unread, would be a reset.
        greedy
    });
    let mut lively = Client::new(Version::Tls13).connect(bowline.main());
    let mut other = backend.accept();
    for _ in 0..50 {
        lively.write_all(b"ping");
        assert_eq!(other.read_exact(4), b"ping");
    }
    let _greedy = flood.join().expect("the flood");
    let (data, end) = sinking.join().expect("the sink");
    assert_eq!((data.len(), end), (1500 * 65536, End::Fin));
}

#[test]
fn records_of_one_byte_pass_exactly() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
    let mut client = RecordClient::connect(&Client::new(Version::Tls13), bowline.main());
    let mut peer = backend.accept();
    let data = pattern(20_000);
    let reading = std::thread::spawn(move || peer.read_exact(20_000));
    for piece in data.chunks(500) {
        let records: Vec<u8> =
            piece.iter().flat_map(|byte| client.record(APPLICATION_DATA, std::slice::from_ref(byte))).collect();
        client.send(&records).expect("a live relay");
    }
    assert_same_bytes(&reading.join().expect("a reader"), &data);
}

#[test]
fn key_updates_between_data_are_followed() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
    let mut client = RecordClient::connect(&Client::new(Version::Tls13), bowline.main());
    let mut peer = backend.accept();
    for round in 0..500_u32 {
        let mut bytes = client.key_update();
        bytes.extend(client.record(APPLICATION_DATA, &round.to_be_bytes()));
        client.send(&bytes).expect("a live relay");
        assert_eq!(peer.read_exact(4), round.to_be_bytes());
    }
}

#[test]
fn bytes_behind_an_urgent_one_are_not_held_back() {
    // A read ends before the urgent byte (tcp(7)), and no event tells of what is behind it.
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind("main", "").server(backend.address(), ""));
    let client = dial(bowline.main());
    let socket = socket2::SockRef::from(&client);
    let mut peer = backend.accept();
    // Often, since it is a matter of what is there when the relay reads.
    for _ in 0..50 {
        socket.send(b"before").expect("sent");
        socket.send_out_of_band(b"!").expect("sent");
        socket.send(b"behind").expect("sent");
        assert_eq!(peer.read_exact(12), b"beforebehind");
    }
}

#[test]
fn data_behind_the_finished_message_is_not_lost() {
    // Everything that the client has to say, in one segment with the end of its handshake.
    let (_bowline, tls, mut peer) = {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
        let client = Client::new(Version::Tls13);
        let mut tls = client.over(client.dial(bowline.main()));
        tls.conn.writer().write_all(b"all at once").expect("memory");
        tls.handshake().expect("a handshake");
        tls.close_notify();
        (bowline, tls, backend.accept())
    };
    assert_eq!(peer.read_to_end(), (b"all at once".to_vec(), End::Fin));
    drop(tls);
}

#[test]
fn many_connections_keep_apart() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    let client = Client::new(Version::Tls13);
    let mut all: Vec<Tls> = (0..100).map(|_| client.connect(bowline.main())).collect();
    for (number, tls) in all.iter_mut().enumerate() {
        tls.write_all(format!("client {number:04}").as_bytes());
    }
    for (number, tls) in all.iter_mut().enumerate() {
        let expected = format!("client {number:04}");
        assert_eq!(tls.read_exact(expected.len()), expected.as_bytes());
    }
    for tls in &mut all {
        tls.close_notify();
        assert_eq!(tls.ending(), Ending::CloseNotify);
    }
    assert_eq!(echo.connections(), 100);
}

#[test]
fn a_listener_without_tls_relays_too() {
    let backend = Scripted::start();
    let config = Config::new().bind("main", "").server(backend.address(), "send-proxy-v2");
    let bowline = serve(&config);
    let mut tcp = super::support::client::dial(bowline.main());
    tcp.write_all(b"plain").expect("data");
    let mut peer = backend.accept();
    assert_eq!(peer.header().source(), tcp.local_addr().expect("an address"));
    assert_eq!(peer.read_exact(5), b"plain");
    let socket = socket2::Socket::from(tcp);
    let sent = fill(&socket, 256 << 20, Duration::from_millis(500));
    assert!(sent < 64 << 20, "{sent} bytes for nobody");
}

/// HAProxy fills the name of `abns@` up with NUL bytes on both sides; `abnsz@` has the bare name.
#[test]
fn abstract_sockets_are_reached_by_the_name_that_they_are_bound_to() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let echo = Echo::start();
    let name = format!("bowline-test-{}", std::process::id());
    let config = Config::new()
        .bind_tls("")
        .server_line(&format!("server s abns@{name}"))
        .pair("inner")
        .frontend_line(&format!("bind abns@{name}"))
        .server(echo.address(), "");
    let bowline = serve(&config);
    Client::new(Version::Tls13).connect(bowline.main()).echo(b"by way of two");

    let bare = UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("{name}-bare")).expect("a name"));
    let bare = bare.expect("a listener");
    bowline.reconfigure(&Config::new().bind_tls("").server_line(&format!("server s abnsz@{name}-bare")));
    bowline.reload();
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    tls.write_all(b"x");
    let (mut peer, _) = bare.accept().expect("a connection");
    let mut byte = [0];
    std::io::Read::read_exact(&mut peer, &mut byte).expect("a byte");
    assert_eq!(&byte, b"x");
}
