//! What the service manager hears.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::site::*;
use crate::support::notify::Manager;
use crate::support::observe;

/// Starts with a manager that listens; it has heard READY=1 when this returns.
#[track_caller]
fn start<'a>(site: &'a Site, environment: &[(&str, &str)]) -> (Running<'a>, Manager) {
    let manager = Manager::listen(site.folder.path());
    let mut command = site.command();
    command.env("NOTIFY_SOCKET", &manager.path).envs(environment.iter().copied());
    let running = site.start_command(command);
    manager.wait_for(0, "READY");
    (running, manager)
}

#[test]
fn ready_comes_when_it_serves_and_not_before() {
    let site = Site::new("");
    let manager = Manager::listen(site.folder.path());
    let mut command = site.command();
    command.env("NOTIFY_SOCKET", &manager.path).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let running = Running { site: &site, child: command.spawn().unwrap() };
    let (ready, _) = manager.wait_for(0, "READY");
    TcpStream::connect(site.address).expect("it serves");
    assert_eq!(ready.value("STATUS"), Some("generation 1; 0 connections"));
    drop(running);
}

/// What the log says is easily out of sight when a service is tried several times; the status is what is shown first.
#[test]
fn the_status_says_why_there_was_no_start() {
    let refused = Site::new("nonsense");
    let manager = Manager::listen(refused.folder.path());
    let output = refused.command().env("NOTIFY_SOCKET", &manager.path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (notice, mark) = manager.wait(0, "status", |notice| notice.value("STATUS").is_some());
    let status = notice.value("STATUS").unwrap();
    assert!(status.starts_with("not started: ") && status.contains("nonsense"), "{status}");
    assert!(notice.value("READY").is_none() && manager.since(mark).is_empty());
}

#[test]
fn a_reload_is_announced_and_its_result_too() {
    let site = Site::new("");
    let (running, manager) = start(&site, &[]);
    let mark = manager.mark();
    running.signal(Signal::SIGHUP);
    let (reloading, mark) = manager.wait_for(mark, "RELOADING");
    assert!(reloading.value("MONOTONIC_USEC").unwrap().parse::<u64>().unwrap() > 0);
    let (ready, mark) = manager.wait_for(mark, "READY");
    let status = ready.value("STATUS").unwrap();
    assert!(status.starts_with("generation 2; 0 connections; reloaded 20"), "{status}");

    site.configure("", "verfy required");
    running.signal(Signal::SIGHUP);
    let (_, mark) = manager.wait_for(mark, "RELOADING");
    let (ready, _) = manager.wait_for(mark, "READY");
    let status = ready.value("STATUS").unwrap();
    assert!(status.starts_with("generation 2; 0 connections; reload refused 20"), "{status}");
    assert!(status.contains("bowline.cfg:11:") && status.contains("verfy"), "{status}");
}

#[test]
fn the_status_says_which_certificate_expires_first() {
    let site = Site::new("");
    for (name, year) in [("a.pem", 2050), ("b.pem", 2045)] {
        let mut parameters = rcgen::CertificateParams::new([format!("{year}.example")]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 6, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        fs::write(site.path(name), certificate.pem() + &key.serialize_pem()).unwrap();
        fs::set_permissions(site.path(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    site.configure("", &format!("bind {} ssl crt a.pem crt b.pem", free_address()));
    let (_running, manager) = start(&site, &[("TZ", "UTC")]);
    let (ready, _) = manager.wait_for(0, "READY");
    let wanted = "generation 1; 0 connections; 2 certificates, the first expires 2045-06-01 00:00:00";
    assert_eq!(ready.value("STATUS"), Some(wanted));
}

#[test]
fn the_end_is_announced_with_what_is_left_and_more_time_is_asked_for() {
    let site = Site::new("hard-stop-after 30s");
    let (mut running, manager) = start(&site, &[("WATCHDOG_USEC", "400000")]);
    let connection = running.connect();
    let counted = |notice: &crate::support::notify::Notice| {
        notice.value("STATUS").is_some_and(|status| status.contains("; 1 connection"))
    };
    let (_, mark) = manager.wait(0, "status with the connection", counted);
    running.signal(Signal::SIGTERM);
    let (stopping, mark) = manager.wait_for(mark, "STOPPING");
    let status = stopping.value("STATUS").unwrap();
    assert!(status.starts_with("stopping: 1 connection to finish, 3"), "{status}");
    let (extend, _) = manager.wait(mark, "more time", |notice| notice.value("EXTEND_TIMEOUT_USEC").is_some());
    let microseconds: u64 = extend.value("EXTEND_TIMEOUT_USEC").unwrap().parse().unwrap();
    assert!((1_000_000..60_000_000).contains(&microseconds), "{microseconds}");
    drop(connection);
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_drain_without_limit_asks_for_no_time() {
    let site = Site::new("");
    let (mut running, manager) = start(&site, &[]);
    let connection = running.connect();
    running.signal(Signal::SIGTERM);
    let (stopping, mark) = manager.wait_for(0, "STOPPING");
    assert!(stopping.value("STATUS").unwrap().starts_with("stopping: "), "{stopping:?}");
    drop(connection);
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    let asked = manager.since(mark).iter().any(|notice| notice.value("EXTEND_TIMEOUT_USEC").is_some());
    assert!(!asked, "the manager's own limit applies");
}

#[test]
fn the_watchdog_is_fed_by_the_loops_alone() {
    let site = Site::new("");
    let (running, manager) = start(&site, &[("WATCHDOG_USEC", "400000")]);
    let (_, mark) = manager.wait_for(0, "WATCHDOG");
    manager.wait_for(mark, "WATCHDOG");

    let worker = running.worker();
    kill(worker, Signal::SIGSTOP).unwrap();
    eventually("a stopped worker", || stat(worker).filter(|(state, _)| state == "T"));
    // What was on its way when it stopped arrives meanwhile.
    observe(Duration::from_millis(300));
    let mark = manager.mark();
    observe(Duration::from_millis(1000));
    let fed = manager.since(mark);
    assert!(fed.is_empty(), "a stopped worker is alive: {fed:?}");

    kill(worker, Signal::SIGCONT).unwrap();
    manager.wait_for(mark, "WATCHDOG");
    // The next worker's loops count as well.
    kill(worker, Signal::SIGKILL).unwrap();
    let (_, mark) = manager.wait_for(manager.mark(), "READY");
    let (_, mark) = manager.wait_for(mark, "WATCHDOG");
    manager.wait_for(mark, "WATCHDOG");
}

#[test]
fn a_watchdog_for_another_process_is_left_alone() {
    let site = Site::new("");
    let (_running, manager) = start(&site, &[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")]);
    observe(Duration::from_millis(500));
    assert!(manager.since(0).iter().all(|notice| notice.value("WATCHDOG").is_none()));
}
