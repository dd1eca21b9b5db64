//! Clients that mean harm, or speak another language. Each is hung up on in time, at little cost, and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::AlertDescription;

use super::support::bowline::processor_time;
use super::support::client::{Client, Ending, Tls, Version, dial, reset, timed_out};
use super::support::openssl::SClient;
use super::support::records::{ALERT, APPLICATION_DATA, RecordClient};
use super::support::{
    Bowline, Config, DEADLINE, Echo, End, Scripted, Site, both_versions, eventually, observe, pattern, pki, serve,
};

/// A listener that is patient for two seconds.
fn guarded(backend: &Scripted) -> Bowline {
    let config = Config::new().timeout("client-hs", "2s").bind_mtls("").server(backend.address(), "");
    serve(&config)
}

/// Everything up to the end of the stream, however it ends.
#[track_caller]
fn rest(tcp: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    if let Err(error) = tcp.read_to_end(&mut answer) {
        assert!(!timed_out(&error), "the connection stays open");
    }
    answer
}

/// Sends `bytes`, which are no ClientHello: nothing, or a fatal alert, comes back, and the log has a line.
#[track_caller]
fn assert_turned_away(bytes: &[u8]) {
    let backend = Scripted::start();
    let bowline = guarded(&backend);
    let mut tcp = dial(bowline.main());
    tcp.write_all(bytes).expect("bytes");
    let answer = rest(&mut tcp);
    if !answer.is_empty() {
        assert_eq!((answer[0], answer[5]), (ALERT, 2), "no fatal alert: {answer:02x?}");
    }
    let line = bowline.log.wait_for(&["fe/main: SSL handshake failure ("]);
    let client = tcp.local_addr().expect("an address").to_string();
    assert!(line.starts_with(&client), "{line}");
    backend.assert_untouched_by(bowline);
}

/// Is hung up on between `least` and `most`.
#[track_caller]
fn assert_hung_up(tcp: &mut TcpStream, start: Instant, least: u64, most: u64) {
    rest(tcp);
    let took = start.elapsed();
    let seconds = Duration::from_secs(least)..Duration::from_secs(most);
    assert!(seconds.contains(&took), "hung up after {took:?}");
}

#[test]
fn http_on_the_tls_port_is_turned_away() {
    assert_turned_away(b"GET / HTTP/1.1\r\nHost: server.test\r\n\r\n");
}

#[test]
fn garbage_is_turned_away() {
    assert_turned_away(&pattern(4096));
}

#[test]
fn a_hello_of_sslv2_is_turned_away() {
    assert_turned_away(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80");
}

#[test]
fn a_record_that_is_too_long_is_turned_away() {
    let mut bytes = vec![22, 3, 1, 0xff, 0xff];
    bytes.extend(pattern(65535));
    let backend = Scripted::start();
    let bowline = guarded(&backend);
    let mut tcp = dial(bowline.main());
    // It may hang up before everything is written.
    let _ = tcp.write_all(&bytes);
    rest(&mut tcp);
    backend.assert_untouched_by(bowline);
}

#[test]
fn a_hello_of_tls_1_1_is_answered_with_protocol_version() {
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    // No session; TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA; no compression; no extensions.
    body.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let mut hello = vec![22, 3, 1, 0, u8::try_from(body.len() + 4).expect("short")];
    hello.extend([1, 0, 0, u8::try_from(body.len()).expect("short")]);
    hello.extend(body);
    let backend = Scripted::start();
    let bowline = guarded(&backend);
    let mut tcp = dial(bowline.main());
    tcp.write_all(&hello).expect("a hello");
    let answer = rest(&mut tcp);
    assert_eq!(answer.len(), 7, "{answer:02x?}");
    assert_eq!((answer[0], answer[5], answer[6]), (ALERT, 2, 70));
    backend.assert_untouched_by(bowline);
}

/// Sends the ClientHello in `pieces`, then goes on as usual.
#[track_caller]
fn connect_in_pieces(version: Version, pieces: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let backend = Scripted::start();
    let bowline = guarded(&backend);
    for identity in [None, Some(&pki().good)] {
        let mut client = Client::new(version);
        if let Some(identity) = identity {
            client = client.identity(identity);
        }
        let mut tls = client.over(dial(bowline.main()));
        let mut hello = Vec::new();
        tls.conn.write_tls(&mut hello).expect("a hello");
        for piece in pieces(&hello) {
            tls.tcp.write_all(&piece).expect("a piece");
        }
        let finished = tls.handshake();
        if identity.is_some() {
            finished.expect("a handshake");
            tls.write_all(b"x");
            assert_eq!(backend.accept().read_exact(1), b"x");
        } else {
            let ending = finished.err().unwrap_or_else(|| tls.ending());
            let required = AlertDescription::CertificateRequired;
            assert_eq!(ending, Ending::Alert(required));
        }
    }
    backend.assert_untouched_by(bowline);
}

both_versions! {
    fn a_hello_in_segments_of_one_byte_works(version) {
        connect_in_pieces(version, |hello| hello.iter().map(|byte| vec![*byte]).collect());
    }

    fn a_hello_in_records_of_four_bytes_works(version) {
        connect_in_pieces(version, |hello| {
            let payload = &hello[5..];
            let record = |piece: &[u8]| {
                [&[22, 3, 1, 0, u8::try_from(piece.len()).expect("short")], piece].concat()
            };
            vec![payload.chunks(4).flat_map(record).collect()]
        });
    }

    fn a_client_that_never_finishes_is_hung_up_on(version) {
        let backend = Scripted::start();
        let bowline = guarded(&backend);
        let mut tcp = dial(bowline.main());
        let start = Instant::now();
        tcp.write_all(&Client::new(version).hello()).expect("a hello");
        assert_hung_up(&mut tcp, start, 1, 10);
        bowline.log.wait_for(&["fe/main: Timeout during SSL handshake"]);
        backend.assert_untouched_by(bowline);
    }

    fn half_a_hello_is_hung_up_on(version) {
        let backend = Scripted::start();
        let bowline = guarded(&backend);
        let mut tcp = dial(bowline.main());
        let start = Instant::now();
        tcp.write_all(&Client::new(version).hello()[..100]).expect("half of it");
        assert_hung_up(&mut tcp, start, 1, 10);
        backend.assert_untouched_by(bowline);
    }

    fn bytes_now_and_then_do_not_move_the_deadline(version) {
        let backend = Scripted::start();
        let bowline = guarded(&backend);
        let mut tcp = dial(bowline.main());
        let start = Instant::now();
        let mut open = true;
        tcp.set_read_timeout(Some(Duration::from_millis(200))).expect("SO_RCVTIMEO");
        for byte in Client::new(version).hello() {
            if tcp.write_all(&[byte]).is_err() {
                open = false;
                break;
            }
            match tcp.read(&mut [0; 64]) {
                Err(error) if timed_out(&error) => {}
                _ => {
                    open = false;
                    break;
                }
            }
            assert!(start.elapsed() < Duration::from_secs(10), "still open");
        }
        assert!(!open, "it waited for the whole hello");
        assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
        backend.assert_untouched_by(bowline);
    }

    fn close_notify_behind_the_hello_is_no_handshake(version) {
        let backend = Scripted::start();
        let bowline = guarded(&backend);
        let mut tcp = dial(bowline.main());
        let mut bytes = Client::new(version).hello();
        bytes.extend([ALERT, 3, 3, 0, 2, 1, 0]);
        tcp.write_all(&bytes).expect("both");
        rest(&mut tcp);
        backend.assert_untouched_by(bowline);
    }

    fn a_forged_record_is_an_abort_for_the_backend(version) {
        let backend = Scripted::start();
        let bowline = guarded(&backend);
        let mut tls = Client::new(version).identity(&pki().good).connect(bowline.main());
        tls.write_all(b"real");
        let mut peer = backend.accept();
        assert_eq!(peer.read_exact(4), b"real");
        let mut forged = vec![APPLICATION_DATA, 3, 3, 0, 40];
        forged.extend([0x41; 40]);
        tls.tcp.write_all(&forged).expect("bytes");
        assert_eq!(tls.ending(), Ending::Alert(AlertDescription::BadRecordMac));
        assert_eq!(peer.end(), End::Reset);
    }
}

#[test]
fn connections_without_a_byte_are_hung_up_on() {
    let backend = Scripted::start();
    let bowline = guarded(&backend);
    let start = Instant::now();
    let mut silent: Vec<TcpStream> = (0..50).map(|_| dial(bowline.main())).collect();
    for tcp in &mut silent {
        assert_hung_up(tcp, start, 1, 10);
    }
    backend.assert_untouched_by(bowline);
}

#[test]
fn silent_connections_keep_nobody_out() {
    let backend = Scripted::start();
    let bowline = guarded(&backend);
    let _silent: Vec<TcpStream> = (0..300).map(|_| dial(bowline.main())).collect();
    let client = Client::new(Version::Tls13).identity(&pki().good);
    let mut tls = client.connect(bowline.main());
    tls.write_all(b"x");
    assert_eq!(backend.accept().read_exact(1), b"x");
}

#[test]
fn connections_that_come_and_go_do_no_harm() {
    let backend = Scripted::start();
    let bowline = guarded(&backend);
    for number in 0..200 {
        let tcp = dial(bowline.main());
        if number % 2 == 0 {
            reset(tcp);
        }
    }
    let client = Client::new(Version::Tls13).identity(&pki().good);
    let mut tls = client.connect(bowline.main());
    tls.write_all(b"x");
    assert_eq!(backend.accept().read_exact(1), b"x");
    backend.assert_untouched_by(bowline);
}

/// A flood of records that carry no data ends by itself, and a second connection on the same loop does not suffer.
#[track_caller]
fn assert_flood_ends(next: impl FnMut(&mut RecordClient) -> Vec<u8>) {
    let echo = Echo::start();
    let config = Config::new().global("nbthread 1").bind_tls("").server(echo.address(), "");
    let bowline = serve(&config);
    let client = Client::new(Version::Tls13);
    let mut other = client.connect(bowline.main());
    other.echo(b"before");
    let mut flooding = RecordClient::connect(&client, bowline.main());
    let ended = flooding.flood(400_000, next).is_some();
    assert!(ended || flooding.hung_up(DEADLINE), "the flood goes on");
    other.echo(b"after");
    let worker = bowline.worker();
    let before = processor_time(worker);
    observe(Duration::from_millis(500));
    let used = processor_time(worker) - before;
    assert!(used < Duration::from_millis(100), "{used:?} after the flood");
}

#[test]
fn a_flood_of_key_updates_ends() {
    assert_flood_ends(RecordClient::key_update);
}

#[test]
fn a_flood_of_empty_records_ends() {
    assert_flood_ends(|client| client.record(APPLICATION_DATA, b""));
}

#[test]
fn a_flood_of_key_updates_among_empty_records_ends() {
    // Each kind resets the other's counter in rustls.
    assert_flood_ends(|client| {
        let mut pair = client.record(APPLICATION_DATA, b"");
        pair.extend(client.key_update());
        pair
    });
}

#[test]
fn a_flood_of_key_updates_with_little_data_ends() {
    // One byte now and then, so that no kind comes too often in a row.
    let mut round = 0;
    assert_flood_ends(|client| {
        round += 1;
        if round % 30 == 0 { client.record(APPLICATION_DATA, b"x") } else { client.key_update() }
    });
}

#[test]
fn a_flood_of_warnings_ends() {
    // user_canceled, a warning (RFC 8446, 6.1).
    assert_flood_ends(|client| client.record(ALERT, &[1, 90]));
}

#[test]
fn a_fatal_alert_is_an_abort_for_the_backend() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
    let mut client = RecordClient::connect(&Client::new(Version::Tls13), bowline.main());
    let mut peer = backend.accept();
    // internal_error
    let alert = client.record(ALERT, &[2, 80]);
    client.send(&alert).expect("a live relay");
    assert_eq!(peer.end(), End::Reset);
}

#[test]
fn a_record_that_is_too_long_in_the_relay_is_an_abort_for_the_backend() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
    let mut client = RecordClient::connect(&Client::new(Version::Tls13), bowline.main());
    let mut peer = backend.accept();
    let mut bytes = vec![APPLICATION_DATA, 3, 3, 0xff, 0xff];
    bytes.extend(pattern(65535));
    let _ = client.send(&bytes);
    assert!(client.hung_up(DEADLINE));
    assert_eq!(peer.end(), End::Reset);
}

#[test]
fn renegotiation_is_refused() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
    let mut openssl = SClient::connect(bowline.main(), &["-tls1_2"]);
    let mut peer = backend.accept();
    peer.write_all(b"greeting\n");
    openssl.log.wait_for(&["greeting"]);
    openssl.type_line("R");
    openssl.log.wait_for(&["RENEGOTIATING"]);
    openssl.log.wait_for(&["no renegotiation"]);
    openssl.end_input();
    openssl.wait();
}

#[test]
fn early_data_is_not_offered() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    let client = Client::new(Version::Tls13).early_data();
    client.connect(bowline.main()).echo(b"ticket, please");
    let mut tls: Tls = client.over(dial(bowline.main()));
    assert!(client.offers() > 0, "no session to resume");
    assert!(tls.conn.early_data().is_none(), "the ticket permits early data");
    tls.handshake().expect("a handshake");
}

#[test]
fn without_descriptors_accepting_pauses_and_recovers() {
    let echo = Echo::start();
    let config = Config::new().global("nbthread 1").timeout("client-hs", "60s").bind_tls("").server(echo.address(), "");
    let limit = ["prlimit", "--nofile=80:80"];
    let bowline = Bowline::start_under(Site::new(), &config, &limit);
    let client = Client::new(Version::Tls13);
    let mut established = client.connect(bowline.main());
    established.echo(b"before");
    let greedy: Vec<TcpStream> = (0..120).map(|_| dial(bowline.main())).collect();
    established.echo(b"while there are none");
    let worker = bowline.worker();
    let (before, lines) = (processor_time(worker), bowline.log.mark());
    observe(Duration::from_secs(1));
    let used = processor_time(worker) - before;
    assert!(used < Duration::from_millis(200), "{used:?} while waiting");
    let lines = bowline.log.mark() - lines;
    assert!(lines < 20, "{lines} lines in a second");
    established.echo(b"still");
    drop(greedy);
    let mut late = None;
    eventually("new connections after the shortage", DEADLINE, || {
        late = client.try_connect(bowline.main()).ok();
        late.is_some()
    });
    late.expect("just seen").echo(b"after");
    established.echo(b"to the end");
}

#[test]
fn at_its_limit_a_listener_waits_without_work() {
    let echo = Echo::start();
    for limit in ["frontend", "bind"] {
        let config = Config::new().global("nbthread 2").frontend_line("backlog 64");
        let config = match limit {
            "frontend" => config.bind_tls("").frontend_line("maxconn 1"),
            _ => config.bind_tls("maxconn 1"),
        };
        let bowline = serve(&config.server(echo.address(), ""));
        let client = Client::new(Version::Tls13);
        let mut first = client.connect(bowline.main());
        first.echo(b"within the limit");
        let waiting: Vec<TcpStream> = (0..8).map(|_| dial(bowline.main())).collect();
        let worker = bowline.worker();
        let before = processor_time(worker);
        observe(Duration::from_secs(1));
        let used = processor_time(worker) - before;
        assert!(used < Duration::from_millis(200), "{used:?} while waiting at the limit of the {limit}");
        drop(waiting);
        first.close_notify();
        drop(first);
        client.connect(bowline.main()).echo(b"room again");
    }
}
