//! A folder with a configuration, the process that runs it, and looks at that process from outside.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::support::ports::Port;

pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Looks again and again until there is an answer.
#[track_caller]
pub(super) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
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
pub(super) struct Site {
    pub(super) folder: TempDir,
    pub(super) address: SocketAddr,
    pub(super) backend: TcpListener,
}

/// An address that stays free until something listens on it, for as long as the tests run.
pub(super) fn free_address() -> SocketAddr {
    Box::leak(Box::new(Port::reserve())).address()
}

impl Site {
    pub(super) fn new(global: &str) -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            address: free_address(),
            backend: TcpListener::bind("127.0.0.1:0").unwrap(),
        };
        site.backend.set_nonblocking(true).unwrap();
        site.configure(global, "");
        site
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn configure(&self, global: &str, frontend: &str) {
        let backend = self.backend.local_addr().unwrap();
        let text = format!(
            "global\n  nbthread 2\n  {global}\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
             frontend f\n  bind {}\n  {frontend}\n  default_backend b\nbackend b\n  server s {backend}\n",
            self.address
        );
        fs::write(self.path("bowline.cfg"), text).unwrap();
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.current_dir(self.folder.path()).args(["-f", "bowline.cfg"]).stdin(Stdio::null());
        command
    }

    pub(super) fn output(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Ends connections that nobody has asked for.
    pub(super) fn end_strays(&self) -> Option<()> {
        while self.backend.accept().is_ok() {}
        None
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// In the foreground, until it serves.
    #[track_caller]
    pub(super) fn start(&self, arguments: &[&str]) -> Running<'_> {
        let mut command = self.command();
        command.args(arguments);
        self.start_command(command)
    }

    #[track_caller]
    pub(super) fn start_command(&self, mut command: Command) -> Running<'_> {
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

pub(super) struct Running<'a> {
    pub(super) site: &'a Site,
    pub(super) child: Child,
}

impl Running<'_> {
    pub(super) fn master(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(self.master(), signal).unwrap();
    }

    #[track_caller]
    pub(super) fn worker(&self) -> Pid {
        eventually("a worker", || worker_of(self.master()))
    }

    #[track_caller]
    pub(super) fn wait_for_line(&self, words: &str) {
        let look = || self.site.log().contains(words).then_some(());
        let end = Instant::now() + DEADLINE;
        while look().is_none() {
            assert!(Instant::now() < end, "no line with {words:?} in\n{}", self.site.log());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// A connection that a loop has accepted.
    #[track_caller]
    pub(super) fn connect(&self) -> (TcpStream, TcpStream) {
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

pub(super) fn stat(process: Pid) -> Option<(String, i32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

pub(super) fn workers_of(master: Pid) -> Vec<Pid> {
    let worker = |entry: fs::DirEntry| {
        let process = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
        let (state, parent) = stat(process)?;
        let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
        (parent == master.as_raw() && state != "Z" && name.trim() == "bowline-worker").then_some(process)
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(worker).collect()
}

pub(super) fn worker_of(master: Pid) -> Option<Pid> {
    workers_of(master).first().copied()
}

pub(super) fn is_alive(process: Pid) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z" && state != "X")
}

pub(super) fn status_of(process: Pid, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

pub(super) fn descriptors(process: Pid) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

pub(super) fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}
