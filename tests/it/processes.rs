//! Master and worker as processes: start, reload, crash, background, exit codes. What goes through a connection is
//! tested elsewhere; here it is enough that one is open.

mod activation;
mod notify;
mod sandbox;
mod site;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::site::*;

#[test]
fn the_worker_has_no_privileges() {
    let site = Site::new("");
    let running = site.start(&[]);
    let worker = running.worker();
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status_of(worker, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_of(worker, "NoNewPrivs"), "1");
    assert_eq!(status_of(worker, "Seccomp"), "2", "system calls are filtered");
    if is_root() {
        assert_eq!(status_of(worker, "CapBnd"), "0000000000000000");
        assert_eq!(status_of(worker, "Uid"), "65534\t65534\t65534\t65534");
        assert_eq!(status_of(worker, "Gid"), "65534\t65534\t65534\t65534");
        assert_eq!(status_of(worker, "Groups"), "");
    }
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[test]
fn the_worker_runs_as_the_user_that_is_named() {
    if !is_root() {
        return;
    }
    let site = Site::new("user daemon");
    let running = site.start(&[]);
    let daemon = nix::unistd::User::from_name("daemon").unwrap().unwrap().uid;
    assert!(status_of(running.worker(), "Uid").starts_with(&format!("{daemon}\t{daemon}\t")));

    let site = Site::new("user root");
    let refused = site.output(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("bowline.cfg:3"));
}

#[test]
fn a_reload_with_an_error_changes_nothing_and_says_where_it_is() {
    let site = Site::new("");
    let running = site.start(&[]);
    let worker = running.worker();
    site.configure("", "verfy required");
    running.signal(Signal::SIGHUP);
    running.wait_for_line("bowline.cfg:11:");
    running.wait_for_line("generation 1 stays in force");
    running.connect();

    site.configure("", "");
    running.signal(Signal::SIGHUP);
    running.wait_for_line("worker adopted generation 2");
    assert_eq!(running.worker(), worker);
    running.connect();
}

#[test]
fn a_reload_that_the_worker_refuses_changes_nothing() {
    let site = Site::new("");
    let running = site.start(&[]);
    let other = free_address();
    site.configure("", &format!("bind {other} ssl crt missing.pem"));
    running.signal(Signal::SIGHUP);
    running.wait_for_line("missing.pem");
    running.wait_for_line("generation 1 stays in force");
    assert!(TcpStream::connect(other).is_err(), "the new listener is closed again");
    running.connect();
}

#[test]
fn a_reload_opens_and_closes_listeners_and_keeps_connections() {
    let site = Site::new("");
    let running = site.start(&[]);
    let (mut client, _server) = running.connect();
    let old = site.address;
    let new = free_address();
    site.configure("", &format!("bind {new}"));
    running.signal(Signal::SIGHUP);
    running.wait_for_line(&format!("listening on {new}"));
    TcpStream::connect(new).unwrap();

    let moved = Site { address: new, folder: tempfile::tempdir().unwrap(), backend: site.backend.try_clone().unwrap() };
    moved.configure("", "");
    fs::copy(moved.path("bowline.cfg"), site.path("bowline.cfg")).unwrap();
    running.signal(Signal::SIGHUP);
    running.wait_for_line(&format!("no longer listening on {old}"));
    eventually("the end of the old listener", || TcpStream::connect(old).is_err().then_some(()));
    TcpStream::connect(new).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut scratch = [0; 256];
    let open = loop {
        match client.read(&mut scratch) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
        }
    };
    assert!(open, "the old connection goes on");
}

#[test]
fn many_reloads_leave_nothing_behind() {
    let site = Site::new("");
    write_credential(&site, 0o600);
    site.configure("", &format!("bind {} ssl crt server.pem", free_address()));
    let running = site.start(&[]);
    let reload = |generation: u32| {
        running.signal(Signal::SIGHUP);
        running.wait_for_line(&format!("worker adopted generation {generation}\n"));
    };
    reload(2);
    let kept = running.connect();
    let processes = [running.master(), running.worker()];
    let memory =
        || processes.map(|process| status_of(process, "VmRSS").trim_end_matches(" kB").parse::<u64>().unwrap());
    let before = processes.map(descriptors);
    (3..=12).for_each(reload);
    let warm = memory();
    (13..=52).for_each(reload);
    assert_eq!(processes.map(descriptors), before);
    for (now, warm) in memory().into_iter().zip(warm) {
        assert!(now < warm + 2048, "{now} kB, {warm} kB after the first reloads");
    }
    drop(kept);
}

#[test]
fn a_crashed_worker_is_replaced_and_no_client_is_refused() {
    let site = Site::new("");
    let running = site.start(&[]);
    let stop = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            let mut refused = 0;
            while !stop.load(Ordering::Relaxed) {
                let error = TcpStream::connect(site.address).err();
                refused += usize::from(error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused));
                std::thread::park_timeout(Duration::from_millis(1));
            }
            refused
        });
        let mut worker = running.worker();
        for _ in 0..3 {
            let since = Instant::now();
            kill(worker, Signal::SIGKILL).unwrap();
            worker = eventually("another worker", || worker_of(running.master()).filter(|other| *other != worker));
            site.end_strays();
            running.connect();
            assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        knocking.join().unwrap()
    });
    assert_eq!(refused, 0, "refused connections");
    running.wait_for_line("was killed by signal 9 (SIGKILL)");

    // The new one listens to its master as the old one did.
    running.signal(Signal::SIGHUP);
    running.wait_for_line("worker adopted generation 2");
}

#[test]
fn in_the_background_the_pid_file_says_who_it_is() {
    let site = Site::new("pidfile run.pid");
    let started = site.output(&["-D"]);
    assert_eq!(started.status.code(), Some(0), "{}", String::from_utf8_lossy(&started.stderr));
    TcpStream::connect(site.address).expect("it serves when the command has ended");
    let master = Pid::from_raw(fs::read_to_string(site.path("run.pid")).unwrap().trim().parse().unwrap());
    assert_eq!(fs::read_link(format!("/proc/{master}/cwd")).unwrap(), PathBuf::from("/"));
    let worker = eventually("a worker", || worker_of(master));

    // Relative names still mean the directory of the start.
    fs::remove_file(site.path("bowline.cfg")).unwrap();
    kill(master, Signal::SIGHUP).unwrap();
    site.configure("pidfile run.pid", "");
    kill(master, Signal::SIGHUP).unwrap();
    kill(worker, Signal::SIGKILL).unwrap();
    eventually("another worker", || worker_of(master).filter(|other| *other != worker));

    kill(master, Signal::SIGTERM).unwrap();
    eventually("the end of the master", || if is_alive(master) { site.end_strays() } else { Some(()) });
    assert!(!site.path("run.pid").exists());
}

#[test]
fn a_start_that_fails_says_so_with_its_exit_code_also_in_the_background() {
    let site = Site::new("");
    let taken = TcpListener::bind(site.address).unwrap();
    for arguments in [&[][..], &["-D"]] {
        let failed = site.output(arguments);
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(1), "{text}");
        let wanted = format!("cannot listen on {}: already in use by another process", site.address);
        assert!(text.contains("bowline.cfg:10:") && text.contains(&wanted), "{text}");
    }
    drop(taken);
    site.configure("", &format!("bind {} ssl crt missing.pem", free_address()));
    let failed = site.output(&["-D"]);
    assert_eq!(failed.status.code(), Some(1), "the worker's refusal arrives too");
    assert!(String::from_utf8_lossy(&failed.stderr).contains("missing.pem"));
}

#[test]
fn more_connections_than_descriptors_are_refused_at_the_start() {
    let site = Site::new("");
    let failed = site.output(&["-n", "4000000000"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("4000000000 connections need"));
}

#[test]
fn a_start_that_could_serve_nobody_is_refused() {
    let site = Site::new("");
    let mut command = Command::new("prlimit");
    command.current_dir(site.folder.path()).args([
        "--nofile=40:40",
        env!("CARGO_BIN_EXE_bowline"),
        "-f",
        "bowline.cfg",
    ]);
    let refused = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    // Two loops listen once each.
    assert!(said.contains("to 68 at least"), "{said}");
}

#[test]
fn checking_starts_nothing_and_answers_with_its_exit_code() {
    let site = Site::new("");
    let taken = TcpListener::bind(site.address).unwrap();
    let good = site.output(&["-c"]);
    assert_eq!(good.status.code(), Some(0), "a port in use is no error of the configuration");
    assert!(String::from_utf8_lossy(&good.stdout).contains("0 errors"));

    site.configure("", "verfy required");
    let bad = site.output(&["-c"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stdout).contains("1 error,"));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("bowline.cfg:11:"));
    let quiet = site.output(&["-c", "-q"]);
    assert_eq!((quiet.status.code(), quiet.stdout.len(), quiet.stderr.len()), (Some(1), 0, 0));

    site.configure("", &format!("bind {} ssl crt missing.pem", free_address()));
    assert_eq!(site.output(&["-c"]).status.code(), Some(1), "files are read and built");
    drop(taken);
}

/// `server.pem`, which everybody may read if `mode` says so.
fn write_credential(site: &Site, mode: u32) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    fs::write(site.path("server.pem"), cert.pem() + &signing_key.serialize_pem()).unwrap();
    fs::set_permissions(site.path("server.pem"), PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn warnings_about_files_are_forbidden_too() {
    let site = Site::new("");
    let bind = format!("bind {} ssl crt server.pem", free_address());
    site.configure("", &bind);
    write_credential(&site, 0o644);
    for (arguments, accepted) in [(&["-c"][..], true), (&["-c", "-dW"], false), (&["-dW", "-db"], false)] {
        if accepted {
            assert_eq!(site.output(arguments).status.code(), Some(0));
            continue;
        }
        let refused = site.output(arguments);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(
            said.contains("warning[W221]") && said.contains("error: 1 warning, and 'zero-warning' or -dW"),
            "{said}"
        );
    }

    site.configure("zero-warning", &bind);
    assert_eq!(site.output(&["-c"]).status.code(), Some(1));
    write_credential(&site, 0o600);
    assert_eq!(site.output(&["-c"]).status.code(), Some(0));
    let running = site.start(&[]);
    write_credential(&site, 0o644);
    running.signal(Signal::SIGHUP);
    running.wait_for_line("generation 1 stays in force");

    // A new worker takes what the one before it had: a warning that has come up since is no reason for an outage.
    kill(running.worker(), Signal::SIGKILL).unwrap();
    running.wait_for_line("worker adopted generation 1\n");
    running.connect();
}

#[test]
fn a_reload_while_a_new_worker_takes_over_is_not_mistaken_for_adopted() {
    let site = Site::new("");
    write_credential(&site, 0o600);
    // Something to do for the new worker, so that it is still at it when the reload comes.
    let certificate = fs::read_to_string(site.path("server.pem")).unwrap();
    let (certificate, _) = certificate.split_once("-----BEGIN PRIVATE").unwrap();
    fs::write(site.path("ca.pem"), certificate.repeat(5000)).unwrap();
    let slow = format!("bind {} ssl crt server.pem ca-file ca.pem verify optional", free_address());
    site.configure("", &slow);
    let running = site.start(&[]);
    kill(running.worker(), Signal::SIGKILL).unwrap();
    eventually("another worker", || (site.log().matches(" runs as user ").count() == 2).then_some(()));
    let added = free_address();
    site.configure("", &format!("bind {added}"));
    running.signal(Signal::SIGHUP);
    running.wait_for_line("worker adopted generation 2\n");
    let log = site.log();
    assert!(log.find("generation 2").unwrap() > log.rfind("adopted generation 1").unwrap(), "{log}");
    TcpStream::connect(added).unwrap();
    eventually("a connection through the new listener", || site.backend.accept().ok());
}

#[test]
fn a_worker_without_room_for_new_listeners_refuses_them_and_goes_on() {
    let site = Site::new("");
    let running = site.start(&[]);
    let worker = running.worker();
    let (mut client, mut server) = running.connect();
    let before = descriptors(worker);
    let limit = |soft: usize| {
        let (pid, nofile) = (worker.to_string(), format!("--nofile={soft}:"));
        let mut prlimit = Command::new("prlimit");
        if is_root() {
            // The worker's own user may; for another's process it takes a capability that root in a container lacks.
            prlimit.uid(65534).gid(65534);
        }
        assert!(prlimit.args(["--pid", &pid, &nofile]).status().unwrap().success());
    };
    // Numbers below the limit that are still free: one for the material and one for half of the new listener.
    limit(before + 2);
    let added = free_address();
    site.configure("", &format!("bind {added}"));
    running.signal(Signal::SIGHUP);
    running.wait_for_line("too few");
    running.wait_for_line("generation 1 stays in force");
    assert_eq!((running.worker(), descriptors(worker)), (worker, before));
    std::io::Write::write_all(&mut server, b"on").unwrap();
    client.read_exact(&mut [0; 2]).unwrap();

    limit(1000);
    running.signal(Signal::SIGHUP);
    running.wait_for_line("worker adopted generation 2\n");
    TcpStream::connect(added).unwrap();
}

/// As `sh -c 'bowline 3>log3'` does it, if it says so.
fn start_with_descriptor_3<'a>(site: &'a Site, file: Option<&str>) -> Running<'a> {
    let redirection = file.map_or(String::new(), |file| format!("3>{file}"));
    let script = format!("exec {} -f bowline.cfg 3>&- {redirection}", env!("CARGO_BIN_EXE_bowline"));
    let mut shell = Command::new("sh");
    shell.stdin(Stdio::null()).current_dir(site.folder.path()).args(["-c", &script]);
    site.start_command(shell)
}

#[test]
fn a_reload_can_log_to_a_descriptor_of_the_start() {
    let site = Site::new("");
    let running = start_with_descriptor_3(&site, Some("log3"));
    let log = "log fd@3 format raw local0\n  option tcplog";
    site.configure("", log);
    running.signal(Signal::SIGHUP);
    running.wait_for_line("worker adopted generation 2\n");
    let (client, server) = running.connect();
    drop((client, server));
    eventually("a line of traffic", || fs::read_to_string(site.path("log3")).ok()?.contains(" f b/s ").then_some(()));
    let counted = |running: &Running| (descriptors(running.master()), descriptors(running.worker()));
    let before = counted(&running);
    for generation in 3..6 {
        running.signal(Signal::SIGHUP);
        running.wait_for_line(&format!("worker adopted generation {generation}\n"));
    }
    assert_eq!(counted(&running), before);
}

#[test]
fn a_reload_cannot_log_to_a_descriptor_of_ours() {
    let site = Site::new("");
    let running = start_with_descriptor_3(&site, None);
    assert!(PathBuf::from(format!("/proc/{}/fd/3", running.master())).symlink_metadata().is_ok(), "3 is in use");
    site.configure("", "log fd@3 format raw local0");
    running.signal(Signal::SIGHUP);
    running.wait_for_line("was not started with an open descriptor 3");
    running.wait_for_line("generation 1 stays in force");
    running.connect();
}

/// Closed in every program that is started, so that an end is one.
fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap()
}

#[test]
fn a_reload_that_is_asked_for_during_the_start_comes_after_it() {
    let site = Site::new("");
    let (reader, writer) = pipe();
    let log = fs::File::create(site.path("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(["-f", "/dev/stdin"]).stdin(reader).stdout(Stdio::null()).stderr(log);
    let mut running = Running { site: &site, child: command.spawn().unwrap() };
    // It waits for its configuration, without handlers yet, as soon as the signal is blocked.
    let hup = 1 << (Signal::SIGHUP as u64 - 1);
    let blocked = || u64::from_str_radix(&status_of(running.master(), "SigBlk"), 16).unwrap() & hup != 0;
    eventually("the beginning of the start", || blocked().then_some(()));
    running.signal(Signal::SIGHUP);
    assert!(running.child.try_wait().unwrap().is_none());
    fs::File::from(writer).write_all(&fs::read(site.path("bowline.cfg")).unwrap()).unwrap();
    running.wait_for_line("worker adopted generation 1\n");
    running.wait_for_line("reload refused");
    running.connect();
}

#[test]
fn the_masters_memory_is_not_for_other_processes_of_its_user() {
    let site = Site::new("");
    fs::set_permissions(site.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (mut command, mut reader) = (site.command(), Command::new("cat"));
    if is_root() {
        // Root may everything.
        command.uid(65534).gid(65534);
        reader.uid(65534).gid(65534);
    }
    let running = site.start_command(command);
    let environment = format!("/proc/{}/environ", running.master());
    let read = reader.arg(environment).output().unwrap();
    assert!(!read.status.success(), "{read:?}");
    // All the same it can do what it must.
    running.signal(Signal::SIGHUP);
    running.wait_for_line("worker adopted generation 2\n");
    kill(running.worker(), Signal::SIGKILL).unwrap();
    eventually("another worker", || (site.log().matches(" runs as user ").count() == 2).then_some(()));
    running.connect();
}

#[test]
fn a_reload_of_nothing_is_refused() {
    let site = Site::new("");
    let running = site.start(&[]);
    for (text, words) in [("", "no section in this file"), ("global\n  nbthread 2\n", "there is no 'bind' any more")] {
        fs::write(site.path("bowline.cfg"), text).unwrap();
        let before = site.log().len();
        running.signal(Signal::SIGHUP);
        eventually("a refusal", || site.log()[before..].contains("generation 1 stays in force").then_some(()));
        assert!(site.log()[before..].contains(words), "{}", site.log());
    }
    running.connect();
}

#[test]
fn a_pipe_is_not_read_again() {
    let site = Site::new("");
    let (reader, writer) = pipe();
    fs::File::from(writer).write_all(&fs::read(site.path("bowline.cfg")).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(["-f", "/dev/stdin"]).stdin(reader);
    let running = site.start_command(command);
    running.signal(Signal::SIGHUP);
    running.wait_for_line("no regular file");
    running.wait_for_line("generation 1 stays in force");
    running.connect();
}

#[test]
fn an_error_is_an_excerpt_for_who_starts_and_one_line_in_the_log() {
    let site = Site::new("");
    let bind = format!("bind {} ssl crt missing.pem", free_address());
    let column = 3 + bind.find("missing.pem").unwrap();
    site.configure("", &bind);
    let said = String::from_utf8(site.output(&[]).stderr).unwrap();
    let error = format!("bowline.cfg:11:{column}: error[E221]: cannot read 'missing.pem': No such file or directory\n");
    let excerpt = format!("  11 |   {bind}\n     | {}^^^^^^^^^^^\n", " ".repeat(column - 1));
    assert!(said.contains(&format!("\n{error}{excerpt}")), "{said}");

    site.configure("", "");
    let running = site.start(&[]);
    site.configure("", "verfy required");
    running.signal(Signal::SIGHUP);
    running.wait_for_line("stays in force");
    let log = site.log();
    let line = log.lines().find(|line| line.contains("verfy")).unwrap();
    let (time, said) = line.split_once(' ').unwrap();
    assert!(time.starts_with("20") && said.starts_with("bowline.cfg:11:3: error[E101]: "), "{line}");
    assert!(!log.contains(" | "), "{log}");
}

#[test]
fn a_worker_is_not_for_operators() {
    let alone = Command::new(env!("CARGO_BIN_EXE_bowline")).arg("--bowline-worker").stdin(Stdio::null()).output();
    assert_eq!(alone.unwrap().status.code(), Some(1));
    let wrong = Command::new(env!("CARGO_BIN_EXE_bowline")).arg("--chekc").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("unknown option '--chekc'"));
}

#[test]
fn a_configuration_that_is_missing_is_named() {
    let site = Site::new("");
    fs::remove_file(site.path("bowline.cfg")).unwrap();
    for arguments in [&[][..], &["-c"]] {
        let failed = site.output(arguments);
        assert_eq!(failed.status.code(), Some(1));
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(text.contains("bowline.cfg"), "{text}");
    }
}

#[test]
fn it_knows_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_bowline")).arg("-v").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}
