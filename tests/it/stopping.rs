//! How Bowline ends: finishing what it has begun, or at once.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::support::bowline::alive;
use super::support::client::{Client, Ending, Version};
use super::support::{Bowline, Config, DEADLINE, Echo, Tls, eventually, serve};

fn echoing() -> (Echo, Bowline) {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    (echo, bowline)
}

#[track_caller]
fn connected(bowline: &Bowline) -> Tls {
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    tls.echo(b"connected");
    tls
}

#[track_caller]
fn wait_closed(bowline: &Bowline) {
    eventually("refusal of new connections", DEADLINE, || TcpStream::connect(bowline.main()).is_err());
}

#[track_caller]
fn assert_cut(tls: &mut Tls) {
    let ending = tls.ending();
    assert!(matches!(ending, Ending::Truncated | Ending::Reset), "{ending:?}");
}

#[test]
fn term_finishes_open_relays_and_takes_no_new_ones() {
    let (_echo, mut bowline) = echoing();
    let mut tls = connected(&bowline);
    bowline.signal(Signal::SIGTERM);
    wait_closed(&bowline);
    tls.echo(b"still here");
    assert!(bowline.running(), "it left a relay behind");
    tls.close_notify();
    assert_eq!(tls.ending(), Ending::CloseNotify);
    let status = bowline.wait_exit(DEADLINE);
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn term_lets_a_handshake_finish() {
    let (_echo, mut bowline) = echoing();
    let client = Client::new(Version::Tls13);
    let mut tls = client.over(client.dial(bowline.main()));
    let mut hello = Vec::new();
    tls.conn.write_tls(&mut hello).expect("a hello");
    tls.tcp.write_all(&hello[..60]).expect("half of it");
    // A connection that is served proves that the half hello before it was accepted.
    drop(connected(&bowline));
    bowline.signal(Signal::SIGTERM);
    wait_closed(&bowline);
    tls.tcp.write_all(&hello[60..]).expect("the rest");
    tls.handshake().expect("a handshake");
    tls.echo(b"served");
    tls.close_notify();
    assert_eq!(bowline.wait_exit(DEADLINE).code(), Some(0));
}

#[test]
fn term_without_connections_ends_at_once() {
    let (_echo, mut bowline) = echoing();
    let worker = bowline.worker();
    bowline.signal(Signal::SIGTERM);
    let status = bowline.wait_exit(DEADLINE);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!alive(worker), "the worker is left behind");
}

#[test]
fn int_ends_it_as_term_does() {
    let (_echo, mut bowline) = echoing();
    bowline.signal(Signal::SIGINT);
    assert_eq!(bowline.wait_exit(DEADLINE).code(), Some(0));
}

#[test]
fn a_second_term_cuts() {
    let (_echo, mut bowline) = echoing();
    let mut tls = connected(&bowline);
    bowline.signal(Signal::SIGTERM);
    wait_closed(&bowline);
    bowline.signal(Signal::SIGTERM);
    assert_eq!(bowline.wait_exit(Duration::from_secs(10)).code(), Some(0));
    assert_cut(&mut tls);
}

#[test]
fn hard_stop_after_ends_a_drain() {
    let echo = Echo::start();
    let config = Config::new().global("hard-stop-after 2s").bind_tls("").server(echo.address(), "");
    let mut bowline = serve(&config);
    let mut tls = connected(&bowline);
    let start = Instant::now();
    bowline.signal(Signal::SIGUSR1);
    // Asked again, a soft stop stays soft.
    bowline.signal(Signal::SIGUSR1);
    wait_closed(&bowline);
    tls.echo(b"for a while");
    assert_eq!(bowline.wait_exit(Duration::from_secs(12)).code(), Some(0));
    assert!(start.elapsed() > Duration::from_millis(1900), "{:?}", start.elapsed());
    assert_cut(&mut tls);
}

/// The watchdog of the worker gives a loop 5 seconds for a turn.
#[test]
fn a_drain_outlasts_the_loops_that_have_nothing_to_finish() {
    let echo = Echo::start();
    let mut bowline = serve(&Config::new().global("nbthread 3").bind_tls("").server(echo.address(), ""));
    let mut tls = connected(&bowline);
    bowline.signal(Signal::SIGTERM);
    wait_closed(&bowline);
    let patience = tls.tcp.read_timeout().unwrap();
    tls.tcp.set_read_timeout(Some(Duration::from_secs(7))).unwrap();
    let seen = tls.tcp.peek(&mut [0]).map_err(|error| error.kind());
    assert_eq!(seen, Err(ErrorKind::WouldBlock), "neither an end nor a byte");
    tls.tcp.set_read_timeout(patience).unwrap();
    tls.echo(b"still here");
    tls.close_notify();
    assert_eq!(tls.ending(), Ending::CloseNotify);
    assert_eq!(bowline.wait_exit(DEADLINE).code(), Some(0));
}

#[test]
fn a_worker_without_master_finishes_its_connections_and_ends() {
    let (_echo, bowline) = echoing();
    let mut tls = connected(&bowline);
    let worker = bowline.worker();
    bowline.signal(Signal::SIGKILL);
    wait_closed(&bowline);
    tls.echo(b"still here");
    assert!(alive(worker), "a connection is open");
    tls.close_notify();
    assert_eq!(tls.ending(), Ending::CloseNotify);
    eventually("the end of the worker", DEADLINE, || !alive(worker));
}

#[test]
fn a_worker_without_master_can_be_told_to_end() {
    let (_echo, bowline) = echoing();
    let mut tls = connected(&bowline);
    let worker = bowline.worker();
    bowline.signal(Signal::SIGKILL);
    wait_closed(&bowline);
    kill(worker, Signal::SIGTERM).expect("told");
    eventually("the end of the worker", Duration::from_secs(4), || !alive(worker));
    assert_cut(&mut tls);
}
