//! Master and worker as processes: start, reload, crash, drain, background, exit codes. What goes through a connection is
//! tested elsewhere; here it is enough that one is open.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(20);

/// Looks again and again until there is an answer.
#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < end, "{what} did not happen in {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A directory with a configuration, and a backend that takes connections and says nothing.
struct Site {
    folder: TempDir,
    address: SocketAddr,
    backend: TcpListener,
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Site {
    fn new(global: &str) -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            address: free_address(),
            backend: TcpListener::bind("127.0.0.1:0").unwrap(),
        };
        site.backend.set_nonblocking(true).unwrap();
        site.configure(global, "");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, global: &str, frontend: &str) {
        let backend = self.backend.local_addr().unwrap();
        let text = format!(
            "global\n  nbthread 2\n  {global}\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
             frontend f\n  bind {}\n  {frontend}\n  default_backend b\nbackend b\n  server s {backend}\n",
            self.address
        );
        fs::write(self.path("bowline.cfg"), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.current_dir(self.folder.path()).args(["-f", "bowline.cfg"]).stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Waits until clients are refused. Those that got in before have to be ended by the backend: [`Site::end_strays`].
    #[track_caller]
    fn wait_closed(&self) {
        eventually("no new connections", || TcpStream::connect(self.address).is_err().then_some(()));
    }

    /// Ends connections that nobody has asked for.
    fn end_strays(&self) -> Option<()> {
        while self.backend.accept().is_ok() {}
        None
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// In the foreground, until it serves.
    #[track_caller]
    fn start(&self, arguments: &[&str]) -> Running<'_> {
        let mut command = self.command();
        command.args(arguments);
        self.start_command(command)
    }

    #[track_caller]
    fn start_command(&self, mut command: Command) -> Running<'_> {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut running = Running { site: self, child };
        eventually("the first generation", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}\n{}", self.log());
            self.log().contains("worker adopted generation 1").then_some(())
        });
        running
    }
}

struct Running<'a> {
    site: &'a Site,
    child: Child,
}

impl Running<'_> {
    fn master(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn signal(&self, signal: Signal) {
        kill(self.master(), signal).unwrap();
    }

    #[track_caller]
    fn worker(&self) -> Pid {
        eventually("a worker", || worker_of(self.master()))
    }

    #[track_caller]
    fn wait_for_line(&self, words: &str) {
        let look = || self.site.log().contains(words).then_some(());
        let end = Instant::now() + DEADLINE;
        while look().is_none() {
            assert!(Instant::now() < end, "no line with {words:?} in\n{}", self.site.log());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        eventually("the end of the master", || {
            self.child.try_wait().unwrap().or_else(|| self.site.end_strays().and(None))
        })
    }

    /// A connection that a loop has accepted.
    #[track_caller]
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.site.address).unwrap();
        let server = eventually("a connection to the backend", || self.site.backend.accept().ok());
        (client, server.0)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let worker = worker_of(self.master());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(worker) = worker {
            let _ = kill(worker, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("--- log ---\n{}", self.site.log());
        }
    }
}

fn stat(process: Pid) -> Option<(String, i32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn worker_of(master: Pid) -> Option<Pid> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let process = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
        let (state, parent) = stat(process)?;
        let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
        (parent == master.as_raw() && state != "Z" && name.trim() == "bowline-worker").then_some(process)
    })
}

fn is_alive(process: Pid) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z" && state != "X")
}

fn status_of(process: Pid, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

fn descriptors(process: Pid) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

#[test]
fn the_worker_has_no_privileges() {
    let site = Site::new("");
    let running = site.start(&[]);
    let worker = running.worker();
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status_of(worker, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_of(worker, "NoNewPrivs"), "1");
    if is_root() {
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
    let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
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
    let new = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
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
    let first = running.worker();
    kill(first, Signal::SIGKILL).unwrap();
    let since = Instant::now();
    // The listeners are the master's too.
    TcpStream::connect(site.address).unwrap();
    running.wait_for_line("was killed by signal 9 (SIGKILL)");
    let second = eventually("another worker", || worker_of(running.master()).filter(|worker| *worker != first));
    running.connect();
    assert!(since.elapsed() < Duration::from_secs(5));
    assert!(is_alive(second));
}

#[test]
fn a_worker_without_master_finishes_its_connections_and_ends() {
    let site = Site::new("");
    let running = site.start(&[]);
    let worker = running.worker();
    let (client, server) = running.connect();
    running.signal(Signal::SIGKILL);
    site.wait_closed();
    assert!(is_alive(worker), "a connection is open");
    drop((client, server));
    eventually("the end of the worker", || if is_alive(worker) { site.end_strays() } else { Some(()) });
}

#[test]
fn an_orphaned_worker_can_be_told_to_end() {
    let site = Site::new("");
    let running = site.start(&[]);
    let worker = running.worker();
    let _open = running.connect();
    running.signal(Signal::SIGKILL);
    site.wait_closed();
    kill(worker, Signal::SIGTERM).unwrap();
    eventually("the end of the worker", || (!is_alive(worker)).then_some(()));
}

#[test]
fn term_drains_and_a_second_one_cuts() {
    for finish in ["close", "term"] {
        let site = Site::new("");
        let mut running = site.start(&[]);
        let open = running.connect();
        running.signal(Signal::SIGTERM);
        site.wait_closed();
        assert!(running.child.try_wait().unwrap().is_none(), "a connection is open");
        if finish == "close" {
            drop(open);
            assert_eq!(running.wait().code(), Some(0));
        } else {
            running.signal(Signal::SIGTERM);
            assert_eq!(running.wait().code(), Some(0));
            drop(open);
        }
    }
}

#[test]
fn a_drain_ends_after_hard_stop_after() {
    let site = Site::new("hard-stop-after 1s");
    let mut running = site.start(&[]);
    let _open = running.connect();
    running.signal(Signal::SIGUSR1);
    // Asked again, a soft stop stays soft.
    running.signal(Signal::SIGUSR1);
    let since = Instant::now();
    assert_eq!(running.wait().code(), Some(0));
    assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
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
        let wanted = format!("cannot listen on {}: another process listens there", site.address);
        assert!(text.contains("bowline.cfg:10:") && text.contains(&wanted), "{text}");
    }
    drop(taken);
    site.configure("", "bind 127.0.0.1:1 ssl crt missing.pem");
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

    site.configure("", "bind 127.0.0.1:1 ssl crt missing.pem");
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

#[test]
fn a_reload_that_is_asked_for_during_the_start_comes_after_it() {
    let site = Site::new("");
    let (reader, mut writer) = std::io::pipe().unwrap();
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
    std::io::Write::write_all(&mut writer, &fs::read(site.path("bowline.cfg")).unwrap()).unwrap();
    drop(writer);
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
    for text in ["", "global\n  nbthread 2\n"] {
        fs::write(site.path("bowline.cfg"), text).unwrap();
        let before = site.log().len();
        running.signal(Signal::SIGHUP);
        eventually("a refusal", || site.log()[before..].contains("generation 1 stays in force").then_some(()));
        assert!(site.log()[before..].contains("there is no 'bind' any more"), "{}", site.log());
    }
    running.connect();
}

#[test]
fn a_pipe_is_not_read_again() {
    let site = Site::new("");
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, &fs::read(site.path("bowline.cfg")).unwrap()).unwrap();
    drop(writer);
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
    site.configure("", "bind 127.0.0.1:1 ssl crt missing.pem");
    let said = String::from_utf8(site.output(&[]).stderr).unwrap();
    let error = "bowline.cfg:11:28: error[E221]: cannot read 'missing.pem': No such file or directory\n";
    let excerpt = "  11 |   bind 127.0.0.1:1 ssl crt missing.pem\n     |                            ^^^^^^^^^^^\n";
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
