//! Processes that the runner starts: pinned to a CPU, ended when dropped.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pause::pause;
use crate::procfs;
use crate::wire::ERROR_LIMIT;

/// Longest time that one command to a load process may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// A process ends within this time after SIGTERM, or is killed.
const TERM_LIMIT: Duration = Duration::from_secs(3);

/// The CPUs that this process may use, in order.
pub(crate) fn allowed_cpus() -> Result<Vec<usize>, String> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|error| format!("sched_getaffinity: {error}"))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// Binds the calling thread to these CPUs; what it starts inherits that.
pub(crate) fn pin(cpus: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu).map_err(|error| format!("CPU {cpu}: {error}"))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|error| format!("binding to CPU {cpus:?}: {error}"))
}

/// A started process with all that it starts.
pub(crate) struct Tree {
    child: Child,
}

impl Tree {
    /// Starts `command` on `cpus`; the caller continues on `own_cpu`.
    pub(crate) fn start(command: &mut Command, cpus: &[usize], own_cpu: usize) -> Result<Self, String> {
        pin(cpus)?;
        let child = command.spawn();
        pin(&[own_cpu])?;
        let child = child.map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
        Ok(Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the root process has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        kill(pid(self.child.id()), signal).map_err(|error| format!("{signal}: {error}"))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Children first noted, because they are nobody's once the root is gone.
        let tree = procfs::tree(self.child.id()).unwrap_or_default();
        if self.ended().is_none() {
            let _ = self.signal(Signal::SIGTERM);
        }
        let deadline = Instant::now() + TERM_LIMIT;
        while self.ended().is_none() && Instant::now() < deadline {
            pause(Duration::from_millis(5));
        }
        for process in tree {
            let _ = kill(pid(process), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX))
}

fn own_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("finding this program: {error}"))
}

/// A `bowline-load backend` or `client`: commands in, answers out.
pub(crate) struct Load {
    // Before `tree`: its end makes the process stop by itself.
    stdin: ChildStdin,
    lines: Receiver<String>,
    tree: Tree,
}

/// The answer to one command.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    values: HashMap<String, String>,
}

impl Answer {
    pub(crate) fn text(&self, key: &str) -> Result<&str, String> {
        self.values.get(key).map(String::as_str).ok_or_else(|| format!("the load did not say {key}"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<u64, String> {
        let text = self.text(key)?;
        text.parse().map_err(|_| format!("the load said {key}={text}"))
    }
}

impl Load {
    /// Starts this program again with `arguments`, on `cpu`.
    pub(crate) fn start(arguments: &[String], cpu: usize) -> Result<Self, String> {
        Self::spawn(Command::new(own_program()?), arguments, cpu)
    }

    /// The same as a process that gives way at once to all others on `cpu`: SCHED_IDLE, by chrt(1) of util-linux. However nice(1) it
    /// were, one that wakes up would still have to wait for the end of its slice.
    pub(crate) fn start_behind(arguments: &[String], cpu: usize) -> Result<Self, String> {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(own_program()?);
        Self::spawn(command, arguments, cpu)
    }

    fn spawn(mut command: Command, arguments: &[String], cpu: usize) -> Result<Self, String> {
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut tree = Tree::start(&mut command, &[cpu], cpu)?;
        let (Some(stdin), Some(stdout)) = (tree.child.stdin.take(), tree.child.stdout.take()) else {
            return Err("the load process has no pipes".to_owned());
        };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { stdin, lines, tree })
    }

    pub(crate) fn id(&self) -> u32 {
        self.tree.id()
    }

    /// Sends a command and waits for its answer. Errors that the load saw make it an `Err`: they void the measurement.
    pub(crate) fn ask(&mut self, command: &str) -> Result<Answer, String> {
        self.tell(command)?;
        self.answer()
    }

    /// Sends a command; [`Self::answer`] is for later.
    pub(crate) fn tell(&mut self, command: &str) -> Result<(), String> {
        writeln!(self.stdin, "{command}").map_err(|error| format!("the load process is gone: {error}"))
    }

    /// The next answer: that to a command before, or the one that comes right after the start.
    pub(crate) fn answer(&mut self) -> Result<Answer, String> {
        let deadline = Instant::now() + COMMAND_LIMIT;
        let mut errors: Vec<String> = Vec::new();
        loop {
            let line = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err("the load process gave no answer".to_owned());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the load process ended".to_owned());
                }
            };
            if let Some(error) = line.strip_prefix("error ") {
                errors.push(error.to_owned());
            } else if let Some(values) = line.strip_prefix("done") {
                if let Some(first) = errors.first() {
                    let count = match errors.len() {
                        ERROR_LIMIT => format!("{ERROR_LIMIT} or more errors"),
                        1 => "1 error".to_owned(),
                        count => format!("{count} errors"),
                    };
                    return Err(format!("{count}, the first: {first}"));
                }
                let pairs = values.split_whitespace().filter_map(|pair| pair.split_once('='));
                return Ok(Answer { values: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect() });
            }
        }
    }
}
