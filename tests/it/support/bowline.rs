//! The process under test: started in the foreground, its log captured, killed when the test ends however it ends.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::certs::pki;
use super::config::Config;
use super::ports::Port;
use super::{DEADLINE, eventually};

/// What the process says when it serves.
pub(crate) const ADOPTED: &str = "worker adopted generation";

/// The program: the one cargo built, or the one that `BOWLINE_BIN` names (an installed package, say).
pub(crate) fn program() -> PathBuf {
    std::env::var_os("BOWLINE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_bowline")), PathBuf::from)
}

/// A test's own directory and ports.
#[derive(Debug)]
pub(crate) struct Site {
    dir: TempDir,
    ports: Mutex<HashMap<String, Port>>,
}

impl Site {
    /// With `server.pem` (the shared server), `ca.pem` (the shared client CA) and `crl.pem` (its list, empty) in it.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        // Unprivileged workers have to reach unix sockets in here.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode 755");
        let site = Self { dir, ports: Mutex::new(HashMap::new()) };
        site.write("server.pem", pki().server.pem());
        site.write("ca.pem", pki().client_ca.pem());
        site.write("crl.pem", pki().client_ca.crl(&[]));
        site
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Writes a file the way certificate tools do: whole, then renamed into place.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        let draft = self.path(&format!(".{name}.new"));
        fs::write(&draft, content).expect("a written file");
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("mode 600");
        fs::rename(&draft, &path).expect("a renamed file");
        path
    }

    /// Where the `bind` line of this name listens.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let mut ports = self.ports.lock().expect("no test panics in here");
        ports
            .entry(name.to_owned())
            .or_insert_with(|| if name.starts_with("v6") { Port::reserve_v6() } else { Port::reserve() })
            .address()
    }

    /// Replaces `{dir}` and `{port:NAME}`.
    pub(crate) fn fill_in(&self, text: &str) -> String {
        let dir = self.dir().to_str().expect("a directory in UTF-8");
        let mut rest = text.replace("{dir}", dir);
        let mut filled = String::new();
        while let Some(start) = rest.find("{port:") {
            let end = start + rest[start..].find('}').expect("a closing brace");
            filled.push_str(&rest[..start]);
            filled.push_str(&self.address(&rest[start + 6..end]).to_string());
            rest = rest[end + 1..].to_owned();
        }
        filled + &rest
    }

    /// Puts a copy of the program at `bowline`, as package managers do: whole, then renamed into place.
    pub(crate) fn install(&self) -> PathBuf {
        let (draft, path) = (self.path(".bowline.new"), self.path("bowline"));
        fs::copy(program(), &draft).expect("a copy");
        fs::rename(&draft, &path).expect("a renamed file");
        path
    }

    /// Puts a shell script in the place of the program.
    pub(crate) fn install_script(&self, script: &str) {
        let (draft, path) = (self.path(".bowline.new"), self.path("bowline"));
        fs::write(&draft, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("mode 755");
        fs::rename(&draft, &path).expect("a renamed file");
    }

    /// Writes `bowline.cfg`.
    pub(crate) fn configure(&self, text: &str) -> PathBuf {
        let path = self.path("bowline.cfg");
        fs::write(&path, text).expect("a written configuration");
        path
    }

    /// Runs `bowline -c -f bowline.cfg` to its end.
    pub(crate) fn check(&self, text: &str) -> Checked {
        let path = self.configure(text);
        let output =
            Command::new(program()).arg("-c").arg("-f").arg(path).stdin(Stdio::null()).output().expect("bowline runs");
        Checked {
            code: output.status.code(),
            text: [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat(),
        }
    }
}

/// What `bowline -c` answered.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Exit code; `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    /// Everything it printed.
    pub(crate) text: String,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    open: usize,
}

/// The lines that a process printed, as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    state: Arc<(Mutex<Lines>, Condvar)>,
}

impl Log {
    /// Reads `stream` line by line on a thread of its own until it ends.
    pub(crate) fn capture(&self, stream: impl Read + Send + 'static) {
        self.state.0.lock().expect("a log").open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                let (state, changed) = &*log.state;
                state.lock().expect("a log").lines.push(text);
                changed.notify_all();
                line.clear();
            }
            let (state, changed) = &*log.state;
            state.lock().expect("a log").open -= 1;
            changed.notify_all();
        });
    }

    /// How many lines there are: a place to wait from.
    pub(crate) fn mark(&self) -> usize {
        self.state.0.lock().expect("a log").lines.len()
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        self.state.0.lock().expect("a log").lines.join("\n")
    }

    /// The lines so far that contain `word`.
    pub(crate) fn lines_with(&self, word: &str) -> Vec<String> {
        let state = self.state.0.lock().expect("a log");
        let found = state.lines.iter().filter(|line| line.contains(word));
        found.cloned().collect()
    }

    /// The first line from `mark` on that contains all `words`; `None`: the deadline passed, or the output ended without it.
    pub(crate) fn find(&self, mark: usize, words: &[&str], deadline: Duration) -> Option<String> {
        let end = Instant::now() + deadline;
        let (state, changed) = &*self.state;
        let mut lines = state.lock().expect("a log");
        let mut seen = mark;
        loop {
            let fits = |line: &&String| words.iter().all(|word| line.contains(word));
            if let Some(line) = lines.lines.iter().skip(seen).find(fits) {
                return Some(line.clone());
            }
            seen = lines.lines.len();
            let rest = end.checked_duration_since(Instant::now())?;
            if lines.open == 0 {
                return None;
            }
            lines = changed.wait_timeout(lines, rest).expect("a log").0;
        }
    }

    /// As [`Log::find`].
    ///
    /// # Panics
    /// When there is no such line in time, with the whole log.
    #[track_caller]
    pub(crate) fn wait_after(&self, mark: usize, words: &[&str]) -> String {
        match self.find(mark, words, DEADLINE) {
            Some(line) => line,
            None => panic!("no line with {words:?} after line {mark} of:\n{}", self.text()),
        }
    }

    /// Waits for a line with all `words`, old or new.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &[&str]) -> String {
        self.wait_after(0, words)
    }

    /// Waits until the process has closed its output, so that nothing can be missed.
    #[track_caller]
    pub(crate) fn wait_end(&self) {
        eventually("end of the process's output", DEADLINE, || self.state.0.lock().expect("a log").open == 0);
    }
}

/// A start that failed.
#[derive(Debug)]
pub(crate) struct StartFailure {
    /// `None`: it ran on without ever being ready.
    pub(crate) status: Option<ExitStatus>,
    /// What it printed.
    pub(crate) log: String,
}

/// A running Bowline.
#[derive(Debug)]
pub(crate) struct Bowline {
    /// Its directory and ports.
    pub(crate) site: Site,
    /// What it printed so far.
    pub(crate) log: Log,
    child: Child,
    exited: Option<ExitStatus>,
}

impl Bowline {
    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub(crate) fn start(site: Site, config: &Config) -> Self {
        Self::start_under(site, config, &[])
    }

    /// As [`Bowline::start`], with a command in front of it: `prlimit --nofile=64`.
    #[track_caller]
    pub(crate) fn start_under(site: Site, config: &Config, prefix: &[&str]) -> Self {
        let text = config.render(&site);
        match Self::launch(site, &text, prefix) {
            Ok(bowline) => bowline,
            Err(failure) => panic!("bowline did not start: {:?}\n{}\nlog:\n{}", failure.status, text, failure.log),
        }
    }

    /// Starts a copy of the program, `bowline` in the site's directory, and waits until it serves. The copy can be replaced.
    #[track_caller]
    pub(crate) fn start_copy(site: Site, config: &Config) -> Self {
        let path = site.configure(&config.render(&site));
        let words = [site.install().into(), "-f".into(), path.into(), "-db".into()];
        match Self::run(site, &words) {
            Ok(bowline) => bowline,
            Err(failure) => panic!("bowline did not start: {:?}\nlog:\n{}", failure.status, failure.log),
        }
    }

    /// Starts it with this configuration.
    pub(crate) fn launch(site: Site, text: &str, prefix: &[&str]) -> Result<Self, StartFailure> {
        let path = site.configure(text);
        let mut words = prefix.iter().map(std::ffi::OsString::from).collect::<Vec<_>>();
        words.push(program().into());
        words.extend(["-f".into(), path.into(), "-db".into()]);
        Self::run(site, &words)
    }

    /// Starts it with this configuration and these options.
    pub(crate) fn launch_with(site: Site, text: &str, options: &[&str]) -> Result<Self, StartFailure> {
        let path = site.configure(text);
        let mut words = vec![program().into(), "-f".into(), path.into(), "-db".into()];
        words.extend(options.iter().map(std::ffi::OsString::from));
        Self::run(site, &words)
    }

    /// Starts `bowline hitch` with these words, in which `{dir}` and `{port:NAME}` are replaced.
    #[track_caller]
    pub(crate) fn hitch(site: Site, words: &[&str]) -> Self {
        let mut command = vec![program().into(), "hitch".into()];
        command.extend(words.iter().map(|word| site.fill_in(word).into()));
        match Self::run(site, &command) {
            Ok(bowline) => bowline,
            Err(failure) => panic!("bowline hitch did not start: {:?}\n{}", failure.status, failure.log),
        }
    }

    fn run(site: Site, words: &[std::ffi::OsString]) -> Result<Self, StartFailure> {
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", words[0].to_string_lossy()));
        let log = Log::default();
        log.capture(child.stdout.take().expect("a pipe"));
        log.capture(child.stderr.take().expect("a pipe"));
        let mut bowline = Self { site, log, child, exited: None };
        if bowline.log.find(0, &[ADOPTED], DEADLINE).is_some() {
            return Ok(bowline);
        }
        // A process closes its output shortly before it has ended; one that runs on without being ready is killed.
        let end = Instant::now() + Duration::from_secs(2);
        while bowline.running() && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Err(StartFailure { status: bowline.exited, log: bowline.log.text() })
    }

    /// Starts it with a configuration that must be refused.
    #[track_caller]
    pub(crate) fn start_refused(site: Site, text: &str) -> StartFailure {
        match Self::launch(site, text, &[]) {
            Err(failure) => failure,
            Ok(bowline) => panic!("it started with\n{text}\nlog:\n{}", bowline.log.text()),
        }
    }

    /// Where the `bind` line of this name listens.
    pub(crate) fn address(&self, bind: &str) -> SocketAddr {
        self.site.address(bind)
    }

    /// Where the `bind` line called `main` listens.
    pub(crate) fn main(&self) -> SocketAddr {
        self.address("main")
    }

    /// Writes a new configuration; [`Bowline::reload`] makes it count.
    pub(crate) fn reconfigure(&self, config: &Config) {
        self.site.configure(&config.render(&self.site));
    }

    /// Reloads and waits until the new generation serves.
    #[track_caller]
    pub(crate) fn reload(&self) {
        let mark = self.log.mark();
        self.signal(Signal::SIGHUP);
        self.log.wait_after(mark, &[ADOPTED]);
    }

    /// Reloads something that must be refused; answers the line with the error, which must contain all `words`.
    #[track_caller]
    pub(crate) fn reload_refused(&self, words: &[&str]) -> String {
        let mark = self.log.mark();
        self.signal(Signal::SIGHUP);
        let line = self.log.wait_after(mark, words);
        let adopted = self.log.find(mark, &[ADOPTED], Duration::ZERO);
        assert_eq!(adopted, None, "the refused configuration was adopted");
        line
    }

    /// The master process.
    pub(crate) fn master(&self) -> Pid {
        pid(self.child.id())
    }

    /// Workers that serve or finish.
    pub(crate) fn workers(&self) -> Vec<Pid> {
        children(self.master())
    }

    /// The worker process.
    #[track_caller]
    pub(crate) fn worker(&self) -> Pid {
        let workers = children(self.master());
        assert_eq!(workers.len(), 1, "workers: {workers:?}");
        workers[0]
    }

    /// Sends the master a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.master(), signal).expect("the master takes signals");
    }

    /// Waits for the master's end.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let child = &mut self.child;
        let mut status = None;
        let log = self.log.clone();
        let end = Instant::now() + deadline;
        while status.is_none() {
            assert!(Instant::now() < end, "still running after {deadline:?}:\n{}", log.text());
            std::thread::park_timeout(Duration::from_millis(5));
            status = child.try_wait().expect("a child");
        }
        self.exited = status;
        status.expect("just seen")
    }

    /// Whether the master still runs.
    pub(crate) fn running(&mut self) -> bool {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("a child");
        }
        self.exited.is_none()
    }

    /// Kills it and answers its whole log.
    pub(crate) fn kill(mut self) -> Log {
        self.end();
        self.log.wait_end();
        self.log.clone()
    }

    fn end(&mut self) {
        if self.exited.is_some() {
            return;
        }
        let workers = children(self.master());
        // Without its parent a worker ends by itself; a test must not depend on that.
        let _ = self.child.kill();
        self.exited = self.child.wait().ok();
        for worker in workers {
            let _ = kill(worker, Signal::SIGKILL);
        }
    }
}

impl Drop for Bowline {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- log of bowline ---\n{}\n---", self.log.text());
        }
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a process id"))
}

/// Processes whose parent is `parent`.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let own = Pid::from_raw(id);
        if stat(own).is_some_and(|fields| fields[1] == parent.to_string() && fields[0] != "Z") {
            found.push(own);
        }
    }
    found
}

/// The fields of `/proc/PID/stat` from the third (state) on.
fn stat(process: Pid) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let after_name = text.rsplit_once(") ")?.1;
    Some(after_name.split(' ').map(str::to_owned).collect())
}

/// Whether the process exists and has not ended.
pub(crate) fn alive(process: Pid) -> bool {
    stat(process).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

/// Resident memory in bytes.
#[track_caller]
pub(crate) fn resident(process: Pid) -> usize {
    let text = fs::read_to_string(format!("/proc/{process}/status")).expect("a running process");
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: usize = number.and_then(|word| word.parse().ok()).expect("VmRSS");
    kib * 1024
}

/// Processor time used so far, all threads.
#[track_caller]
pub(crate) fn processor_time(process: Pid) -> Duration {
    let fields = stat(process).expect("a running process");
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    // utime and stime are the 14th and 15th field of the file; USER_HZ is 100 on every Linux that Rust knows.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Open descriptors.
#[track_caller]
pub(crate) fn descriptors(process: Pid) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).expect("a running process").count()
}

/// Real user id.
#[track_caller]
pub(crate) fn uid(process: Pid) -> u32 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).expect("a running process");
    let line = text.lines().find(|line| line.starts_with("Uid:"));
    let word = line.and_then(|line| line.split_whitespace().nth(1));
    word.and_then(|word| word.parse().ok()).expect("Uid")
}
