//! The processes themselves: how they start, what they may, how they end, and what outlives what.

use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::support::bowline::{alive, children, descriptors, processor_time, program};
use super::support::client::{Client, Ending, Version};
use super::support::{Bowline, Config, DEADLINE, Echo, Scripted, Site, Tls, eventually, observe, pki, serve};

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

/// A field of `/proc/PID/status`.
fn status_field(process: nix::unistd::Pid, name: &str) -> String {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(path).expect("a running process");
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':')).expect("the field").1;
    value.trim().to_owned()
}

#[test]
fn the_worker_may_do_nothing_special() {
    let (_echo, bowline) = echoing();
    let worker = bowline.worker();
    let ids = status_field(worker, "Uid");
    assert!(!ids.split_whitespace().any(|id| id == "0"), "uids {ids}");
    let groups = status_field(worker, "Gid");
    assert!(!groups.split_whitespace().any(|id| id == "0"), "gids {groups}");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status_field(worker, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_field(worker, "NoNewPrivs"), "1");
    if nix::unistd::geteuid().is_root() {
        assert_eq!(status_field(worker, "Groups"), "", "supplementary groups");
    }
}

#[test]
fn idle_processes_use_no_processor_time() {
    let (_echo, bowline) = echoing();
    let mut tls = connected(&bowline);
    let processes = [bowline.master(), bowline.worker()];
    let before = processes.map(processor_time);
    observe(Duration::from_secs(1));
    for (process, before) in processes.into_iter().zip(before) {
        let used = processor_time(process) - before;
        assert!(used < Duration::from_millis(50), "{used:?} for nothing");
    }
    tls.echo(b"awake");
}

#[test]
fn connections_give_their_descriptors_back() {
    let (_echo, bowline) = echoing();
    drop(connected(&bowline));
    let worker = bowline.worker();
    eventually("an idle worker", DEADLINE, || bowline.log.lines_with("fe~ be/s").len() == 1);
    let idle = descriptors(worker);
    for round in 0..100 {
        let mut tls = connected(&bowline);
        match round % 3 {
            0 => {
                tls.close_notify();
                assert_eq!(tls.ending(), Ending::CloseNotify);
            }
            1 => tls.reset(),
            _ => drop(tls),
        }
    }
    eventually("descriptors given back", DEADLINE, || descriptors(worker) <= idle);
}

#[test]
fn term_finishes_open_relays_and_takes_no_new_ones() {
    let (_echo, mut bowline) = echoing();
    let mut tls = connected(&bowline);
    bowline.signal(Signal::SIGTERM);
    eventually("refusal of new connections", DEADLINE, || TcpStream::connect(bowline.main()).is_err());
    tls.echo(b"still here");
    assert!(bowline.running(), "it left a relay behind");
    tls.close_notify();
    assert_eq!(tls.ending(), Ending::CloseNotify);
    let status = bowline.wait_exit(DEADLINE);
    assert_eq!(status.code(), Some(0), "{status}");
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
fn a_second_term_hurries() {
    let (_echo, mut bowline) = echoing();
    let mut tls = connected(&bowline);
    bowline.signal(Signal::SIGTERM);
    eventually("refusal of new connections", DEADLINE, || TcpStream::connect(bowline.main()).is_err());
    bowline.signal(Signal::SIGTERM);
    bowline.wait_exit(Duration::from_secs(10));
    let ending = tls.ending();
    assert!(matches!(ending, Ending::Truncated | Ending::Reset), "{ending:?}");
}

#[test]
fn hard_stop_after_ends_a_drain() {
    let echo = Echo::start();
    let config = Config::new().global("hard-stop-after 2s").bind_tls("").server(echo.address(), "");
    let mut bowline = serve(&config);
    let mut tls = connected(&bowline);
    let start = Instant::now();
    bowline.signal(Signal::SIGTERM);
    eventually("refusal of new connections", DEADLINE, || TcpStream::connect(bowline.main()).is_err());
    tls.echo(b"for a while");
    bowline.wait_exit(Duration::from_secs(12));
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn term_lets_a_handshake_finish() {
    let (_echo, mut bowline) = echoing();
    let client = Client::new(Version::Tls13);
    let mut tls = client.over(client.dial(bowline.main()));
    let mut hello = Vec::new();
    tls.conn.write_tls(&mut hello).expect("a hello");
    std::io::Write::write_all(&mut tls.tcp, &hello[..60]).expect("half of it");
    // A connection that is served proves that the half hello before it was accepted.
    drop(connected(&bowline));
    bowline.signal(Signal::SIGTERM);
    eventually("refusal of new connections", DEADLINE, || TcpStream::connect(bowline.main()).is_err());
    std::io::Write::write_all(&mut tls.tcp, &hello[60..]).expect("the rest");
    tls.handshake().expect("a handshake");
    tls.echo(b"served");
    tls.close_notify();
    assert_eq!(bowline.wait_exit(DEADLINE).code(), Some(0));
}

#[test]
fn a_killed_worker_is_replaced_and_nobody_is_refused() {
    let (_echo, bowline) = echoing();
    let address = bowline.main();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let refused = std::thread::spawn(move || {
        let mut refused = 0;
        while !stopped.load(Ordering::Relaxed) {
            let error = TcpStream::connect(address).err();
            let refusal = std::io::ErrorKind::ConnectionRefused;
            refused += usize::from(error.is_some_and(|error| error.kind() == refusal));
            std::thread::park_timeout(Duration::from_millis(1));
        }
        refused
    });
    let mut worker = bowline.worker();
    for _ in 0..3 {
        kill(worker, Signal::SIGKILL).expect("killed");
        eventually("another worker", DEADLINE, || {
            let workers = children(bowline.master());
            workers.len() == 1 && workers[0] != worker
        });
        worker = bowline.worker();
        let mut served = false;
        eventually("service by the new worker", DEADLINE, || {
            // A connection of the time between the two workers may have died with the first.
            if let Ok(mut tls) = Client::new(Version::Tls13).try_connect(address) {
                served = tls.try_write_all(b"x").is_ok();
            }
            served
        });
    }
    let mut tls = connected(&bowline);
    tls.echo(b"as before");
    stop.store(true, Ordering::Relaxed);
    assert_eq!(refused.join().expect("the loop"), 0, "refused connections");
}

#[test]
fn after_a_replaced_worker_reloads_still_work() {
    let (_echo, bowline) = echoing();
    let worker = bowline.worker();
    let mark = bowline.log.mark();
    kill(worker, Signal::SIGKILL).expect("killed");
    bowline.log.wait_after(mark, &["worker adopted generation"]);
    bowline.reload();
    connected(&bowline);
}

#[test]
fn a_worker_does_not_outlive_its_master() {
    let (_echo, bowline) = echoing();
    let mut tls = connected(&bowline);
    let (master, worker) = (bowline.master(), bowline.worker());
    kill(master, Signal::SIGKILL).expect("killed");
    eventually("end of the orphan", DEADLINE, || !alive(worker));
    let ending = tls.ending();
    assert!(matches!(ending, Ending::Truncated | Ending::Reset), "{ending:?}");
}

#[test]
fn a_port_in_use_fails_the_start_with_its_name() {
    let taken = Scripted::start();
    let site = Site::new();
    let echo = Echo::start();
    let text = Config::new().bind_tls("").server(echo.address(), "").render(&site);
    let port = taken.address().to_string();
    let text = text.replace(&site.address("main").to_string(), &port);
    let failure = Bowline::start_refused(site, &text);
    assert_eq!(failure.status.and_then(|status| status.code()), Some(1));
    assert!(failure.log.contains(&port), "{}", failure.log);
    assert!(failure.log.contains("in use"), "{}", failure.log);
}

#[test]
fn check_accepts_a_good_configuration_even_while_it_is_served() {
    let (_echo, bowline) = echoing();
    let echo = Echo::start();
    let text = Config::new().bind_tls("").server(echo.address(), "").render(&bowline.site);
    let checked = bowline.site.check(&text);
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    connected(&bowline);
}

#[test]
fn check_reads_the_files_too() {
    let site = Site::new();
    site.write("server.pem", "nonsense");
    let echo = Echo::start();
    let text = Config::new().bind_tls("").server(echo.address(), "").render(&site);
    let checked = site.check(&text);
    assert_eq!(checked.code, Some(1), "{}", checked.text);
    assert!(checked.text.contains("server.pem"), "{}", checked.text);
}

#[test]
fn a_missing_configuration_is_named() {
    let output = Command::new(program()).args(["-c", "-f", "/nonexistent/bowline.cfg"]).output().expect("bowline runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("/nonexistent/bowline.cfg"), "{text}");
}

#[test]
fn it_knows_its_version() {
    let output = Command::new(program()).arg("-v").output().expect("bowline runs");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    // The log goes to a pipe that is full: traffic goes on.
    let echo = Echo::start();
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    let site = Site::new();
    let config = Config::new().bind_mtls("").server(echo.address(), "");
    let path = site.configure(&config.render(&site));
    let mut child = Command::new(program())
        .arg("-f")
        .arg(path)
        .arg("-db")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(writer)
        .spawn()
        .expect("bowline runs");
    let address = site.address("main");
    let good = Client::new(Version::Tls13).identity(&pki().good);
    eventually("bowline that listens", DEADLINE, || TcpStream::connect(address).is_ok());
    // Some hundred bytes of log each; a pipe holds 64 KiB.
    let stranger = Client::new(Version::Tls13);
    for _ in 0..700 {
        stranger.refused(address);
    }
    let mut tls = good.connect(address);
    tls.echo(b"unimpressed");
    drop(tls);
    let master = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let workers = children(master);
    child.kill().expect("killed");
    child.wait().expect("its end");
    for worker in workers {
        let _ = kill(worker, Signal::SIGKILL);
    }
    drop(reader);
}
