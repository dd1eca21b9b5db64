//! Another program in the same process: nobody is refused and nothing is cut, whatever the new one thinks of it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::bowline::{ADOPTED, alive, program};
use super::support::client::{Client, Ending, Version};
use super::support::control::ask;
use super::support::{Bowline, Config, DEADLINE, Echo, Site, Tls, eventually};

const TAKES_OVER: &str = "another worker takes over";

fn echoing(more: &str) -> (Echo, Bowline, Config) {
    let echo = Echo::start();
    let config = Config::new().global(more).bind_tls("").server(echo.address(), "");
    (echo, Bowline::start_copy(Site::new(), &config), config)
}

#[track_caller]
fn connected(bowline: &Bowline) -> Tls {
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    tls.echo(b"connected");
    tls
}

/// Upgrades by a signal and waits until the new worker serves.
#[track_caller]
fn upgrade(bowline: &Bowline, signal: Signal) {
    let mark = bowline.log.mark();
    bowline.signal(signal);
    bowline.log.wait_after(mark, &["upgrading: executing"]);
    bowline.log.wait_after(mark, &[ADOPTED]);
}

fn executable(process: Pid) -> PathBuf {
    fs::read_link(format!("/proc/{process}/exe")).expect("a running process")
}

/// Clients that come one after the other until they are told to stop; each has to be served to its end.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(bowline: &Bowline) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let address = bowline.main();
        let one = |version| {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut tls = Client::strict(version).connect(address);
                    tls.echo(b"during an upgrade");
                    tls.close_notify();
                    assert_eq!(tls.ending(), Ending::CloseNotify);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = Version::ALL.into_iter().map(one).collect();
        Self { stop, done, clients }
    }

    #[track_caller]
    fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        eventually("more clients that are served", DEADLINE, || self.done.load(Ordering::Relaxed) > before + 4);
    }

    #[track_caller]
    fn end(self) {
        self.goes_on();
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("every client is served");
        }
    }
}

#[test]
fn upgrades_under_load_fail_no_handshake_and_cut_nobody() {
    let (_echo, bowline, _) = echoing("");
    let master = bowline.master();
    let first = bowline.worker();
    let mut long = connected(&bowline);
    let load = Load::on(&bowline);
    for _ in 0..3 {
        upgrade(&bowline, Signal::SIGUSR2);
        load.goes_on();
        long.echo(b"from long ago");
    }
    load.end();
    assert!(bowline.log.text().contains("worker adopted generation 4"));
    assert_eq!(bowline.master(), master);
    // The workers in between had nobody left to serve.
    eventually("two workers", DEADLINE, || bowline.workers().len() == 2);
    long.close_notify();
    assert_eq!(long.ending(), Ending::CloseNotify);
    eventually("the end of the first worker", DEADLINE, || !alive(first));
    assert!(!bowline.workers().contains(&first));
}

#[test]
fn hup_upgrades_when_the_program_was_replaced_and_reloads_when_not() {
    let (_echo, bowline, _) = echoing("");
    let worker = bowline.worker();
    let mut tls = connected(&bowline);
    bowline.reload();
    assert_eq!(bowline.worker(), worker);

    bowline.site.install();
    assert!(executable(bowline.master()).to_str().is_some_and(|path| path.ends_with(" (deleted)")));
    // A worker that crashes before the upgrade is replaced by the program that is gone.
    let mark = bowline.log.mark();
    kill(worker, Signal::SIGKILL).expect("a worker");
    bowline.log.wait_after(mark, &["was killed by signal 9"]);
    drop(tls);
    eventually("another worker", DEADLINE, || bowline.workers().first().is_some_and(|other| *other != worker));
    tls = connected(&bowline);
    // Clients are served a moment before it is said, and that must not be taken for the next worker's.
    bowline.log.wait_after(mark, &[ADOPTED]);

    upgrade(&bowline, Signal::SIGHUP);
    assert_eq!(executable(bowline.master()), bowline.site.path("bowline"));
    tls.echo(b"old");
    connected(&bowline).echo(b"new");
}

#[test]
fn a_program_that_refuses_the_configuration_is_not_executed() {
    let (_echo, bowline, _) = echoing("");
    let worker = bowline.worker();
    let mut tls = connected(&bowline);
    bowline.site.install_script("echo 'bowline.cfg:1:1: error: not to my taste' >&2; exit 1");
    for signal in [Signal::SIGHUP, Signal::SIGUSR2] {
        let mark = bowline.log.mark();
        bowline.signal(signal);
        bowline.log.wait_after(mark, &["does not accept the configuration: it exited with status 1"]);
        bowline.log.wait_after(mark, &["not to my taste"]);
        bowline.log.wait_after(mark, &["generation 1 stays in force"]);
    }
    assert_eq!(bowline.worker(), worker);
    tls.echo(b"still");

    bowline.site.install_script("exec sleep 1000");
    bowline.signal(Signal::SIGHUP);
    // A reload that is asked for meanwhile waits, and the end does not.
    let mut bowline = bowline;
    bowline.log.wait_for(&["checks the configuration"]);
    bowline.signal(Signal::SIGTERM);
    tls.close_notify();
    assert_eq!(bowline.wait_exit(DEADLINE).code(), Some(0));
}

#[test]
fn a_broken_configuration_keeps_the_program_and_a_later_upgrade_works() {
    let (_echo, bowline, config) = echoing("");
    let mut tls = connected(&bowline);
    bowline.reconfigure(&config.clone().frontend_line("nonsense"));
    let mark = bowline.log.mark();
    bowline.signal(Signal::SIGUSR2);
    bowline.log.wait_after(mark, &["unknown keyword 'nonsense'"]);
    bowline.log.wait_after(mark, &["generation 1 stays in force"]);
    bowline.reconfigure(&config);
    upgrade(&bowline, Signal::SIGUSR2);
    tls.echo(b"through both");
}

#[test]
fn a_configuration_that_would_close_every_listener_keeps_the_program() {
    let (_echo, bowline, config) = echoing("stats socket {dir}/admin.sock");
    let mut tls = connected(&bowline);
    let nobody = bowline.site.fill_in("global\n  stats socket {dir}/admin.sock\n");
    bowline.site.write("bowline.cfg", nobody);
    bowline.site.install();
    let answer = ask(&bowline.site.path("admin.sock"), "reload");
    assert!(answer.starts_with("Success=0\n--\nerror: no upgrade: "), "{answer}");
    assert!(answer.contains("\n  error: there is no 'bind' any more"), "{answer}");
    assert_eq!(bowline.log.text().matches("upgrading: executing").count(), 0);
    bowline.reconfigure(&config);
    upgrade(&bowline, Signal::SIGHUP);
    tls.echo(b"through both");
}

#[test]
fn a_service_without_listeners_upgrades() {
    let nobody = "global\n  log stderr format raw local0\n";
    let bowline = Bowline::launch(Site::new(), nobody, &[]).unwrap_or_else(|failure| panic!("{}", failure.log));
    upgrade(&bowline, Signal::SIGUSR2);
}

/// A program that accepts every configuration when it is asked, and is the real one otherwise.
fn lie(bowline: &Bowline) {
    let real = program();
    bowline.site.install_script(&format!("case \"$1\" in -c) exit 0;; esac\nexec {} \"$@\"", real.display()));
}

#[test]
fn a_new_program_that_cannot_serve_leaves_the_old_worker_serving_until_it_can() {
    let (_echo, bowline, config) = echoing("");
    let worker = bowline.worker();
    let mut tls = connected(&bowline);
    lie(&bowline);
    bowline.reconfigure(&config.clone().frontend_line("nonsense"));
    let mark = bowline.log.mark();
    bowline.signal(Signal::SIGUSR2);
    bowline.log.wait_after(mark, &["unknown keyword 'nonsense'"]);
    bowline.log.wait_after(mark, &["reload refused"]);
    assert_eq!(bowline.worker(), worker, "nobody else serves");
    tls.echo(b"old");
    connected(&bowline).echo(b"new");

    bowline.reconfigure(&config);
    let mark = bowline.log.mark();
    bowline.signal(Signal::SIGHUP);
    bowline.log.wait_after(mark, &["worker adopted generation 2"]);
    bowline.log.wait_after(mark, &[TAKES_OVER]);
    tls.echo(b"old");
    connected(&bowline).echo(b"new");
    drop(tls);
    eventually("the end of the old worker", DEADLINE, || !alive(worker));
}

#[test]
fn a_reload_that_is_asked_of_the_old_worker_reaches_the_new_program() {
    let (_echo, bowline, config) = echoing("stats socket {dir}/admin.sock");
    let worker = bowline.worker();
    lie(&bowline);
    bowline.reconfigure(&config.clone().frontend_line("nonsense"));
    let mark = bowline.log.mark();
    bowline.signal(Signal::SIGUSR2);
    bowline.log.wait_after(mark, &["reload refused"]);

    bowline.reconfigure(&config);
    let answer = ask(&bowline.site.path("admin.sock"), "reload");
    assert!(answer.starts_with("Success="), "{answer}");
    bowline.log.wait_after(mark, &["worker adopted generation 2"]);
    eventually("the end of the old worker", DEADLINE, || !alive(worker));
}

#[test]
fn when_the_old_worker_dies_before_another_serves_the_service_comes_back_by_itself() {
    let (_echo, bowline, config) = echoing("");
    lie(&bowline);
    bowline.reconfigure(&config.clone().frontend_line("nonsense"));
    let mark = bowline.log.mark();
    bowline.signal(Signal::SIGUSR2);
    bowline.log.wait_after(mark, &["reload refused"]);
    kill(bowline.worker(), Signal::SIGKILL).expect("a worker");
    bowline.log.wait_after(mark, &["was killed by signal 9"]);
    // Clients wait in the queue of the socket, which is still open.
    let waiting = Client::new(Version::Tls13).dial(bowline.main());
    bowline.reconfigure(&config);
    bowline.log.wait_after(mark, &["worker adopted generation 2"]);
    let mut tls = Client::new(Version::Tls13).over(waiting);
    tls.handshake().expect("a handshake");
    tls.echo(b"worth the wait");
}

#[test]
fn killing_either_worker_after_an_upgrade_leaves_the_other_alone() {
    let (_echo, bowline, _) = echoing("");
    let old = bowline.worker();
    let mut before = connected(&bowline);
    upgrade(&bowline, Signal::SIGUSR2);
    let new = *bowline.workers().iter().find(|worker| **worker != old).expect("a new worker");
    let mark = bowline.log.mark();
    kill(new, Signal::SIGKILL).expect("a worker");
    bowline.log.wait_after(mark, &[ADOPTED]);
    before.echo(b"unharmed");
    let mut after = connected(&bowline);
    kill(old, Signal::SIGKILL).expect("a worker");
    let line = bowline.log.wait_after(mark, &[&format!("worker {old} has finished")]);
    assert!(line.contains("was killed by signal 9"), "{line}");
    after.echo(b"unharmed");
    connected(&bowline);
}

#[test]
fn a_killed_master_leaves_its_workers_finishing_and_its_ports_free() {
    let (_echo, bowline, _) = echoing("");
    let mut before = connected(&bowline);
    upgrade(&bowline, Signal::SIGUSR2);
    let mut after = connected(&bowline);
    let workers = bowline.workers();
    kill(bowline.master(), Signal::SIGKILL).expect("a master");
    eventually("a free port", DEADLINE, || TcpStream::connect(bowline.main()).is_err());
    let mut another = Command::new(program()).arg("-f").arg(bowline.site.path("bowline.cfg")).spawn().expect("a start");
    eventually("a service on the same port", DEADLINE, || TcpStream::connect(bowline.main()).is_ok());
    connected(&bowline).echo(b"somebody else");
    another.kill().and_then(|()| another.wait()).expect("an end");
    before.echo(b"finishing");
    after.echo(b"finishing");
    // Nobody decides for them any more: they end when they are asked to.
    workers.iter().for_each(|worker| kill(*worker, Signal::SIGTERM).expect("a worker"));
    eventually("the end of the workers", DEADLINE, || !workers.iter().any(|worker| alive(*worker)));
}

#[test]
fn an_old_worker_ends_when_its_time_is_over() {
    let (_echo, bowline, _) = echoing("hard-stop-after 1s");
    let old = bowline.worker();
    let mut tls = connected(&bowline);
    let start = Instant::now();
    upgrade(&bowline, Signal::SIGUSR2);
    // In a terminal and under systemd the workers are asked to end, too: that is the master's to decide.
    kill(old, Signal::SIGTERM).expect("a worker");
    tls.echo(b"for a while");
    let ending = tls.ending();
    assert!(matches!(ending, Ending::Truncated | Ending::Reset), "{ending:?}");
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
    eventually("the end of the old worker", DEADLINE, || !alive(old));
}

#[test]
fn the_end_waits_for_old_workers_too_and_twice_asked_for_does_not() {
    let (_echo, mut bowline, _) = echoing("");
    let mut first = connected(&bowline);
    upgrade(&bowline, Signal::SIGUSR2);
    let mut second = connected(&bowline);
    bowline.signal(Signal::SIGTERM);
    bowline.log.wait_for(&["stopping: no new connections"]);
    first.echo(b"still");
    second.echo(b"still");
    drop(second);
    first.echo(b"the last one");
    assert!(bowline.running());
    bowline.signal(Signal::SIGTERM);
    assert_eq!(bowline.wait_exit(DEADLINE).code(), Some(0));
    assert_ne!(first.ending(), Ending::CloseNotify);
}

#[test]
fn sockets_with_names_and_control_sockets_are_kept() {
    let echo = Echo::start();
    let name = format!("bowline-upgrade-{}", std::process::id());
    let config = Config::new()
        .global("stats socket {dir}/ctl level admin")
        .bind_tls("")
        .frontend_line("bind unix@{dir}/front ssl crt {dir}/server.pem")
        .frontend_line(&format!("bind abns@{name} ssl crt {{dir}}/server.pem"))
        .server(echo.address(), "");
    let bowline = Bowline::start_copy(Site::new(), &config);
    let paths = ["front", "ctl"].map(|name| bowline.site.path(name));
    let inode = |path: &PathBuf| std::os::unix::fs::MetadataExt::ino(&path.symlink_metadata().expect("a socket"));
    let before = paths.each_ref().map(inode);
    for _ in 0..2 {
        upgrade(&bowline, Signal::SIGUSR2);
        assert_eq!(paths.each_ref().map(inode), before, "nobody is told that a path is gone");
        paths.iter().for_each(|path| drop(UnixStream::connect(path).expect("it listens")));
    }
    let lines = bowline.log.lines_with("listening on");
    assert_eq!(lines.len(), 4, "each once, at the start: {lines:?}");

    // What is not wanted any more is closed, as by any reload.
    bowline.reconfigure(&Config::new().bind_tls("").server(echo.address(), ""));
    upgrade(&bowline, Signal::SIGUSR2);
    eventually("the end of the path", DEADLINE, || !paths[0].exists());
    connected(&bowline);
}
