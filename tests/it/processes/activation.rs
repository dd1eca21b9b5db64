//! Sockets that somebody else has opened: a service manager, or this process before it executed another program.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::site::*;
use crate::support::notify::Manager;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// As systemd does it: sockets from descriptor 3 on, whose names are separated by colons.
fn activated(site: &Site, names: &str, sockets: [&TcpListener; 2]) -> Command {
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES={names} exec {} -f bowline.cfg 3<&0 4<&1 </dev/null >/dev/null",
        env!("CARGO_BIN_EXE_bowline")
    );
    let mut command = Command::new("sh");
    let [first, second] = sockets.map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
    command.current_dir(site.folder.path()).args(["-c", &script]).stdin(first).stdout(second);
    command
}

/// Both ways through a connection.
#[track_caller]
fn relayed(site: &Site, address: SocketAddr) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(address).unwrap();
    let (mut server, _) = eventually("a connection to the backend", || site.backend.accept().ok());
    server.set_nonblocking(false).unwrap();
    exchange(&mut client, &mut server);
    (client, server)
}

#[track_caller]
fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    let mut bytes = [0; 4];
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut bytes).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"pong");
}

#[test]
fn sockets_are_taken_by_name_and_through_an_upgrade() {
    let site = Site::new("");
    let ((one, first), (two, second)) = (listener(), listener());
    site.configure("", "bind fd@front");
    let log = fs::File::create(site.path("log")).unwrap();
    let child = activated(&site, "front:front", [&one, &two]).stderr(log).spawn().unwrap();
    drop((one, two));
    let running = Running { site: &site, child };
    running.wait_for_line("listening on fd@front");
    let (mut client, mut server) = relayed(&site, first);
    relayed(&site, second);

    running.signal(Signal::SIGUSR2);
    running.wait_for_line("worker adopted generation 2");
    exchange(&mut client, &mut server);
    relayed(&site, first);
    relayed(&site, second);
}

#[test]
fn a_name_that_was_not_passed_is_answered_with_those_that_were() {
    let site = Site::new("");
    site.configure("", "bind fd@frnt");
    let ((one, _), (two, _)) = (listener(), listener());
    let refused = activated(&site, "front:imaps", [&one, &two]).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("bowline.cfg:11:8") && said.contains("cannot listen on fd@frnt: no socket of this name"),
        "{said}"
    );
    assert!(said.contains("there is 'front', 'imaps'"), "{said}");

    let alone = site.output(&[]);
    assert!(String::from_utf8_lossy(&alone.stderr).contains("$LISTEN_FDS is not set"));
}

#[test]
fn a_socket_that_nobody_takes_is_a_warning() {
    let site = Site::new("");
    site.configure("", "bind fd@front");
    let ((one, _), (two, _)) = (listener(), listener());
    let log = fs::File::create(site.path("log")).unwrap();
    let child = activated(&site, "front:imaps", [&one, &two]).stderr(log).spawn().unwrap();
    let running = Running { site: &site, child };
    running.wait_for_line("a socket named 'imaps' was passed to this process and no 'bind' takes it");
}

#[test]
fn a_real_launcher_passes_sockets_by_name() {
    let launcher = "systemd-socket-activate";
    if crate::support::peers::skipped() || Command::new(launcher).arg("--version").output().is_err() {
        return;
    }
    let site = Site::new("");
    site.configure("", "bind fd@front");
    let address = free_address();
    let log = fs::File::create(site.path("log")).unwrap();
    let mut command = Command::new(launcher);
    command.current_dir(site.folder.path()).stdin(Stdio::null()).stderr(log);
    command.args(["-l", &address.to_string(), "--fdname=front", env!("CARGO_BIN_EXE_bowline"), "-f", "bowline.cfg"]);
    let running = Running { site: &site, child: command.spawn().unwrap() };
    // It starts the program with the first connection.
    let mut first = eventually("a listening launcher", || TcpStream::connect(address).ok());
    running.wait_for_line("listening on fd@front");
    let (mut server, _) = eventually("a connection to the backend", || site.backend.accept().ok());
    server.set_nonblocking(false).unwrap();
    exchange(&mut first, &mut server);
}

#[test]
fn a_service_in_the_background_stays_what_it_is_through_an_upgrade() {
    let site = Site::new("pidfile run.pid\n  log stderr format raw local0");
    let started = site.output(&["-D"]);
    assert_eq!(started.status.code(), Some(0), "{}", String::from_utf8_lossy(&started.stderr));
    let pid = || Pid::from_raw(fs::read_to_string(site.path("run.pid")).unwrap().trim().parse().unwrap());
    let master = pid();
    let worker = eventually("a worker", || worker_of(master));
    let (mut client, mut server) = relayed(&site, site.address);
    // The names on its command line are relative, and it has left that directory.
    kill(master, Signal::SIGUSR2).unwrap();
    let new = eventually("another worker", || workers_of(master).into_iter().find(|other| *other != worker));
    exchange(&mut client, &mut server);
    drop((client, server));
    eventually("the end of the old worker", || (!is_alive(worker)).then_some(()));
    relayed(&site, site.address);
    assert_eq!((pid(), worker_of(master)), (master, Some(new)));
    eventually("the directory of a daemon", || {
        (fs::read_link(format!("/proc/{master}/cwd")).unwrap() == Path::new("/")).then_some(())
    });
    kill(master, Signal::SIGTERM).unwrap();
    eventually("the end of the master", || if is_alive(master) { site.end_strays() } else { Some(()) });
    assert!(!site.path("run.pid").exists());
}

#[test]
fn a_configuration_that_cannot_be_read_again_is_not_given_up() {
    let site = Site::new("");
    let text = fs::read_to_string(site.path("bowline.cfg")).unwrap();
    let log = fs::File::create(site.path("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(["-f", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    let mut running = Running { site: &site, child: command.spawn().unwrap() };
    running.child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    running.wait_for_line("worker adopted generation 1");
    running.signal(Signal::SIGUSR2);
    running.wait_for_line("came through a pipe and cannot be read again");
    running.connect();
}

#[test]
fn a_changed_number_of_threads_or_user_gets_a_new_worker_and_cuts_nobody() {
    let site = Site::new("");
    let running = site.start(&[]);
    let worker = running.worker();
    let loops = |worker: Pid| {
        let tasks = fs::read_dir(format!("/proc/{worker}/task")).unwrap().flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("loop-")).count()
    };
    assert_eq!(loops(worker), 2);
    let (mut client, mut server) = relayed(&site, site.address);
    let mut old = worker;
    for (generation, threads) in [(2, 5), (3, 1)] {
        let text = fs::read_to_string(site.path("bowline.cfg")).unwrap();
        let before = if generation == 2 { "nbthread 2" } else { "nbthread 5" };
        fs::write(site.path("bowline.cfg"), text.replace(before, &format!("nbthread {threads}"))).unwrap();
        running.signal(Signal::SIGHUP);
        running.wait_for_line(&format!("worker adopted generation {generation}\n"));
        let new = eventually("a new worker", || {
            workers_of(running.master()).into_iter().find(|other| *other != old && *other != worker)
        });
        assert_eq!(loops(new), threads);
        // More clients than loops: each socket has somebody who takes them.
        for _ in 0..20 {
            relayed(&site, site.address);
        }
        old = new;
    }
    exchange(&mut client, &mut server);
    if is_root() {
        site.configure("user daemon", "");
        running.signal(Signal::SIGHUP);
        running.wait_for_line("worker adopted generation 4\n");
        let daemon = nix::unistd::User::from_name("daemon").unwrap().unwrap().uid;
        let is_daemon = |worker: &Pid| status_of(*worker, "Uid").starts_with(&format!("{daemon}\t"));
        assert!(workers_of(running.master()).iter().any(is_daemon));
        exchange(&mut client, &mut server);
    }
    drop((client, server));
    eventually("the end of the first worker", || (!is_alive(worker)).then_some(()));
    running.connect();
}

#[test]
fn a_new_worker_that_is_refused_leaves_the_one_there_serving() {
    let site = Site::new("");
    let running = site.start(&[]);
    let worker = running.worker();
    let text = fs::read_to_string(site.path("bowline.cfg")).unwrap();
    let broken = text.replace("nbthread 2", "nbthread 3");
    fs::write(
        site.path("bowline.cfg"),
        broken + &format!("frontend g\n  bind {} ssl crt missing.pem\n  default_backend b\n", free_address()),
    )
    .unwrap();
    running.signal(Signal::SIGHUP);
    running.wait_for_line("missing.pem");
    running.wait_for_line("generation 1 stays in force");
    eventually("one worker", || (workers_of(running.master()) == [worker]).then_some(()));
    running.connect();
}

/// The manager's side of a store: what was put there, for the next start.
fn stored(manager: &Manager, name: &str) -> Vec<OwnedFd> {
    let (mut found, mut mark) = (Vec::new(), 0);
    // Two loops, a socket each.
    while found.len() < 2 {
        let (notice, next) = manager.wait(mark, "stored socket", |notice| notice.value("FDNAME") == Some(name));
        assert_eq!(notice.value("FDSTORE"), Some("1"));
        found.push(notice.descriptor.as_ref().expect("a socket").try_clone().unwrap());
        mark = next;
    }
    found
}

#[test]
fn the_manager_keeps_listening_sockets_while_the_master_is_dead() {
    let site = Site::new("");
    let manager = Manager::listen(site.folder.path());
    let mut command = site.command();
    command.env("NOTIFY_SOCKET", &manager.path);
    let mut running = site.start_command(command);
    let name = format!("tcp@{}", site.address.to_string().replace(':', "%3A"));
    let [first, second] = <[OwnedFd; 2]>::try_from(stored(&manager, &name)).unwrap().map(TcpListener::from);

    let worker = running.worker();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    eventually("the end of the worker", || (!is_alive(worker)).then_some(()));
    let waiting: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(site.address).expect("nobody is refused")).collect();

    let log = fs::File::create(site.path("log")).unwrap();
    let mut command = activated(&site, &format!("{name}:{name}"), [&first, &second]);
    running.child = command.env("NOTIFY_SOCKET", &manager.path).stderr(log).spawn().unwrap();
    drop((first, second));
    running.wait_for_line("worker adopted generation 1");
    for _ in &waiting {
        eventually("those who waited", || site.backend.accept().ok());
    }

    // A listener that is given up is no longer kept.
    let mark = manager.mark();
    let text = fs::read_to_string(site.path("bowline.cfg")).unwrap();
    let other = free_address();
    fs::write(site.path("bowline.cfg"), text.replace(&site.address.to_string(), &other.to_string())).unwrap();
    running.signal(Signal::SIGHUP);
    let (forgotten, _) = manager.wait_for(mark, "FDSTOREREMOVE");
    assert_eq!(forgotten.value("FDNAME"), Some(name.as_str()));
}
