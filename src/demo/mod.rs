//! `bowline demo`: Bowline with certificates, a backend and a configuration of its own, to be tried with curl.
//!
//! It makes a throwaway CA in a fresh folder, starts a backend that shows the PROXY header of each connection, and runs
//! this very binary with a configuration for both. On Ctrl-C all of it is gone.

mod backend;
mod certificates;
mod dump;
mod folder;
mod instructions;

use std::env;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use folder::Folder;

/// How long Bowline may take to accept connections.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two looks at whether something has happened.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the demo on `127.0.0.1:port` (0: a free port) until SIGINT, SIGTERM or SIGHUP. Errors go to standard error.
pub fn run(port: u16) -> ExitCode {
    match prepare_and_run(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bowline demo: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn prepare_and_run(port: u16) -> Result<(), String> {
    // First of all: from here on, Ctrl-C leads to the end of the demo and not past its folder.
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).map_err(|error| format!("cannot handle signals: {error}"))?;
    let executable = env::current_exe().map_err(|error| format!("cannot find the own executable: {error}"))?;
    demonstrate(&executable, port, &env::temp_dir(), &mut signals, &mut io::stdout())
}

/// `executable` is run with `-f` and a configuration in a new folder in `parent`; what to try goes to `out`. Any of
/// `signals` but SIGCHLD ends the demo.
fn demonstrate(
    executable: &Path,
    port: u16,
    parent: &Path,
    signals: &mut Signals,
    out: &mut impl Write,
) -> Result<(), String> {
    let listen = free_address(port)?;
    let backend = backend::start().map_err(|error| format!("cannot start the backend: {error}"))?;
    let folder =
        Folder::create(parent).map_err(|error| format!("cannot make a folder in {}: {error}", parent.display()))?;
    let configuration = instructions::configuration(listen, backend, folder.path());
    fill(&folder, &configuration)?;

    let mut bowline = Bowline::start(executable, &folder.file("bowline.cfg"))?;
    let deadline = Instant::now() + START_TIMEOUT;
    while !accepts(listen) {
        bowline.check_running()?;
        if signals.pending().any(|signal| signal != SIGCHLD) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("Bowline does not accept connections on {listen}"));
        }
        pause(POLL_INTERVAL);
    }
    let text = instructions::instructions(listen.port(), folder.path(), bowline.child.id(), &configuration);
    // Whoever closed our output has read enough; the demo runs on.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());

    // Its SIGCHLD may be among the signals that the loop above took.
    bowline.check_running()?;
    for signal in signals.forever() {
        if signal != SIGCHLD {
            break;
        }
        bowline.check_running()?;
    }
    bowline.ask_to_stop();
    // Before the wait for its end: whoever loses patience and kills the demo now finds no keys left behind.
    drop(folder);
    Ok(())
}

/// 127.0.0.1 with this port, or a free one for 0. Somebody else may still take it before Bowline does.
fn free_address(port: u16) -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}; choose another port with --port"))
}

/// Whether somebody listens there. A connection to itself, which Linux makes now and then where nobody does, is no answer.
fn accepts(listen: SocketAddr) -> bool {
    TcpStream::connect(listen).and_then(|stream| stream.local_addr()).is_ok_and(|own| own != listen)
}

/// Writes certificates, keys, the revocation list and the configuration.
fn fill(folder: &Folder, configuration: &str) -> Result<(), String> {
    let made = certificates::create(SystemTime::now()).map_err(|error| format!("cannot make certificates: {error}"))?;
    for (name, content) in [
        ("ca.pem", &*made.ca),
        ("server.pem", &made.server),
        ("server-new.pem", &made.server_new),
        ("alice.pem", &made.alice),
        ("mallory.pem", &made.mallory),
        ("crl.pem", &made.crl),
        ("bowline.cfg", configuration),
    ] {
        folder
            .write(name, content)
            .map_err(|error| format!("cannot write {}: {error}", folder.file(name).display()))?;
    }
    Ok(())
}

/// The child process; stopped when dropped.
#[derive(Debug)]
struct Bowline {
    child: Child,
}

impl Bowline {
    fn start(executable: &Path, configuration: &Path) -> Result<Self, String> {
        Command::new(executable)
            .arg("-f")
            .arg(configuration)
            .stdin(Stdio::null())
            .spawn()
            .map(|child| Self { child })
            .map_err(|error| format!("cannot start {}: {error}", executable.display()))
    }

    /// SIGTERM. A second one makes it cut its connections, which is as well: nobody depends on them.
    fn ask_to_stop(&mut self) {
        // Once it was waited for, its id may be another process's.
        if let Ok(None) = self.child.try_wait() {
            // A process id is far below i32::MAX. An error here is a process that has ended already.
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        }
    }

    /// An error that says how it ended, if it has ended.
    fn check_running(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(match (status.code(), status.signal()) {
                (Some(code), _) => format!("Bowline ended with exit code {code}"),
                (None, signal) => format!("Bowline was killed by signal {}", signal.unwrap_or_default()),
            }),
            Err(error) => Err(format!("cannot look after Bowline: {error}")),
        }
    }
}

impl Drop for Bowline {
    fn drop(&mut self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        self.ask_to_stop();
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            pause(POLL_INTERVAL);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an address that begins to accept gives no event, nor does a lack of memory that ends"
)]
fn pause(length: Duration) {
    thread::sleep(length);
}

#[cfg(test)]
mod tests;
