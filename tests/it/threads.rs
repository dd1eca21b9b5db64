//! Threads, their processors, their descriptors, and how they share listeners.

use std::fs;
use std::net::TcpStream;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::support::client::dial;
use super::support::{Bowline, Config, Echo, Scripted, Site, serve};

/// `Cpus_allowed_list` of the worker's threads by name.
fn processors(worker: Pid) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{worker}/task")).expect("a running process").flatten() {
        let status = fs::read_to_string(task.path().join("status")).expect("a thread");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.trim().to_owned()
        };
        found.push((field("Name:"), field("Cpus_allowed_list:")));
    }
    found.sort();
    found
}

/// The first processor that this test may use.
fn first_processor() -> u16 {
    let list = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let list = list.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list").trim().to_owned();
    list.split([',', '-']).next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn threads_run_where_the_map_says() {
    let echo = Echo::start();
    let cpu = first_processor();
    let config = Config::new().global("nbthread 2").global(&format!("cpu-map 1/2 {cpu}"));
    let bowline = serve(&config.bind("main", "").server(echo.address(), ""));
    let all = processors(bowline.worker());
    let of = |name: &str| all.iter().find(|(thread, _)| thread == name).expect("a thread").1.clone();
    assert_eq!(of("loop-1"), cpu.to_string());
    assert_eq!(of("loop-0"), of("bowline-worker"), "the others run wherever the process may");
}

#[test]
fn a_thread_without_a_processor_is_an_error() {
    let echo = Echo::start();
    let site = Site::new();
    let config = Config::new().global("cpu-map 1/1 1023").bind("main", "").server(echo.address(), "");
    let text = config.render(&site);
    let failure = Bowline::start_refused(site, &text);
    assert!(
        failure.log.contains("E607") && failure.log.contains("'cpu-map' leaves thread 1 no CPU"),
        "{}",
        failure.log
    );
}

/// Soft limit of open descriptors.
fn limit(process: Pid) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).expect("a running process");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    line.split_whitespace().nth(3).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn the_limit_of_descriptors_is_the_one_asked_for() {
    let echo = Echo::start();
    let with = |line: &str| serve(&Config::new().global(line).bind("main", "").server(echo.address(), ""));
    let bowline = with("ulimit-n 700");
    assert_eq!(limit(bowline.worker()), 700);
    assert!(limit(bowline.master()) >= 700, "the master keeps what it has");
    let bowline = with("fd-hard-limit 800");
    assert_eq!(limit(bowline.worker()), 800);
}

#[test]
fn a_limit_with_which_nothing_works_is_refused_and_can_be_mended() {
    let echo = Echo::start();
    let config = |limit: &str| Config::new().global(limit).bind("main", "").server(echo.address(), "");
    let bowline = serve(&config("ulimit-n 700"));
    let before = limit(bowline.master());
    bowline.reconfigure(&config("ulimit-n 65"));
    let mark = bowline.log.mark();
    bowline.signal(Signal::SIGHUP);
    bowline.log.wait_after(mark, &["reload refused"]);
    assert_eq!(limit(bowline.master()), before);
    bowline.reconfigure(&config("ulimit-n 701"));
    bowline.signal(Signal::SIGHUP);
    bowline.log.wait_after(mark, &["worker adopted generation 2"]);
}

#[test]
fn more_connections_than_descriptors_are_an_error_unless_limits_are_not_strict() {
    let echo = Echo::start();
    let config = |more: &str| {
        let config = Config::new().global("fd-hard-limit 500").global("maxconn 1000");
        let config = if more.is_empty() { config } else { config.global(more) };
        config.bind("main", "").server(echo.address(), "")
    };
    let site = Site::new();
    let text = config("").render(&site);
    let failure = Bowline::start_refused(site, &text);
    assert!(failure.log.contains("1000 connections need"), "{}", failure.log);
    let bowline = serve(&config("no strict-limits"));
    bowline.log.wait_for(&["warning", "connections at most"]);
}

#[test]
fn all_threads_serve_over_one_socket() {
    let backend = Scripted::start();
    let config =
        Config::new().global("nbthread 4").global("noreuseport").bind("main", "").server(backend.address(), "");
    // The port is held with SO_REUSEPORT by the test itself: listen elsewhere.
    let site = Site::new();
    let path = site.path("in.sock");
    let text = config.render(&site);
    let main = site.address("main").to_string();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let bowline = Bowline::launch(site, &text.replace(&main, &free.to_string()), &[]).expect("a start");
    let clients: Vec<TcpStream> = (0..40).map(|_| dial(free)).collect();
    for _ in &clients {
        backend.accept();
    }
    drop((bowline, path));
}

#[test]
fn one_thread_of_four_accepts() {
    let backend = Scripted::start();
    let config = Config::new().global("nbthread 4").bind("main", "thread 3").bind("second", "shards 2");
    let bowline = serve(&config.server(backend.address(), ""));
    for name in ["main", "second"] {
        let clients: Vec<TcpStream> = (0..20).map(|_| dial(bowline.address(name))).collect();
        for _ in &clients {
            backend.accept();
        }
    }
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let listening = |name: &str| {
        let address = format!("0100007F:{:04X}", bowline.address(name).port());
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row[1] == address && row[3] == "0A").count()
    };
    assert_eq!((listening("main"), listening("second")), (1, 2));
}
