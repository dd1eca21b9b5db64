//! What Bowline takes from the machine: processor time, descriptors, and nothing from anybody for a log that is not read.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::support::bowline::{children, descriptors, processor_time, program};
use super::support::client::{Client, Ending, Version};
use super::support::{Bowline, Config, DEADLINE, Echo, Site, Tls, eventually, observe, pki, serve};

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
fn a_log_that_nobody_reads_stops_nothing() {
    // The log goes to a pipe that is full: traffic goes on.
    let echo = Echo::start();
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
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
