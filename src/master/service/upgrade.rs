//! Upgrade: this process executes the program file again, which may be a newer one, and keeps its id, the open listeners and
//! the worker. The program that comes after starts a worker of its own beside that one and lets it finish when the new one serves.
//!
//! The new program is asked first whether it accepts the configuration; if not, nothing happens.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, execve};

use super::reload::Wish;
use super::{FIRST_ANSWER, Service};
use crate::ipc::Outcome;
use crate::master::child::{Process, Worker, describe};
use crate::master::daemon::PidFile;
use crate::master::handover::{self, State};
use crate::report::{ReportLevel, ReportLine};
use crate::sys::descriptors::memory;
use crate::sys::reason;

/// What the kernel puts behind the path of a program whose file was replaced or removed (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";
/// Most that is shown of what the new program says about the configuration.
const SAID_BYTES_MAX: u64 = 16 << 10;

/// The new program reads the configuration and says what it thinks of it.
pub(super) struct Rehearsal {
    program: PathBuf,
    process: Process,
    said: File,
    since: Instant,
}

/// The file that this process runs, and whether it is still there.
fn running() -> io::Result<(PathBuf, bool)> {
    let link = std::fs::read_link("/proc/self/exe")?.into_os_string().into_vec();
    Ok(match link.strip_suffix(DELETED) {
        Some(path) => (OsString::from_vec(path.to_vec()).into(), false),
        None => (OsString::from_vec(link).into(), true),
    })
}

impl Service {
    /// HUP: a reload, or an upgrade if the program file was replaced, as package managers do before they ask for a reload.
    pub(super) fn reload_or_upgrade(&mut self) {
        match running() {
            Ok((path, false)) if path.exists() => {
                log::info!("{} was replaced: upgrading", path.display());
                self.ask(Wish::Upgrade);
            }
            _ => self.reload(),
        }
    }

    /// USR2.
    pub(super) fn upgrade(&mut self) {
        self.ask(Wish::Upgrade);
    }

    /// Where the program to execute is: where it was called by an absolute path, that, which may be a link that now leads elsewhere.
    fn program(&self) -> io::Result<PathBuf> {
        let called = std::env::args_os().next().map(PathBuf::from);
        match called.filter(|path| path.is_absolute() && path.is_file()) {
            Some(path) => Ok(path),
            None => Ok(running()?.0),
        }
    }

    /// Lets the new program check the configuration.
    pub(super) fn rehearse(&mut self) {
        self.notify.reloading();
        match self.start_rehearsal() {
            Ok(rehearsal) => {
                log::info!("upgrading: {} checks the configuration", rehearsal.program.display());
                self.rehearsal = Some(rehearsal);
            }
            Err(error) => self.refuse_upgrade(&reason(&error), &[]),
        }
    }

    fn start_rehearsal(&self) -> io::Result<Rehearsal> {
        if !self.options.request.can_be_read_again() {
            return Err(io::Error::other("the configuration came through a pipe and cannot be read again"));
        }
        let program = self.program()?;
        let said = File::from(memory(c"rehearsal")?);
        let name = std::env::args_os().next().unwrap_or_else(|| program.clone().into());
        let mut command = Command::new(&program);
        if !self.listeners.serve_nobody() {
            command.env(handover::SERVING_VARIABLE, "1");
        }
        let child = command
            .arg0(name)
            .args(&self.options.check)
            .env(handover::VERSION_VARIABLE, handover::VERSION.to_string())
            .env_remove(handover::VARIABLE)
            .current_dir(&self.options.started_in)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone()?)
            .spawn()
            .map_err(|error| io::Error::other(format!("cannot run {}: {}", program.display(), reason(&error))))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        Ok(Rehearsal { program, process: Process::new(pid), said, since: Instant::now() })
    }

    /// Executes the new program if it was content.
    pub(super) fn handle_rehearsed(&mut self) {
        let ended = self.rehearsal.as_ref().and_then(|rehearsal| rehearsal.process.exit_status());
        let Some((status, rehearsal)) = ended.and_then(|status| Some((status, self.rehearsal.take()?))) else {
            return;
        };
        let Rehearsal { program, mut said, .. } = rehearsal;
        if matches!(status, WaitStatus::Exited(_, 0)) {
            let error = self.execute(&program);
            return self.refuse_upgrade(&format!("cannot execute {}: {}", program.display(), reason(&error)), &[]);
        }
        let mut text = Vec::new();
        let _ = said.rewind().and_then(|()| (&said).take(SAID_BYTES_MAX).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let text = format!("{} does not accept the configuration: it {}", program.display(), describe(status));
        self.refuse_upgrade(&text, &lines);
    }

    pub(super) fn rehearsal_ends(&self) -> Option<Instant> {
        self.rehearsal.as_ref().map(|rehearsal| rehearsal.since + FIRST_ANSWER)
    }

    pub(super) fn check_rehearsal(&mut self, now: Instant) {
        if self.rehearsal_ends().is_some_and(|end| end <= now) {
            self.rehearsal = None;
            self.refuse_upgrade("the new program takes too long to check the configuration", &[]);
        }
    }

    fn refuse_upgrade(&mut self, why: &str, said: &[&str]) {
        let mut error = ReportLine::new(ReportLevel::Error, format!("no upgrade: {why}"));
        // Who waits for the reload is told the whole; the log has a line for each.
        said.iter().for_each(|line| error.text.extend(["\n  ", line]));
        let mut report = vec![error];
        report.extend(said.iter().map(|line| ReportLine::new(ReportLevel::Fact, line)));
        self.refuse(&report);
    }

    /// Becomes the new program. Returns why it did not; everything is as before then.
    fn execute(&mut self, program: &Path) -> io::Error {
        log::info!("upgrading: executing {}", program.display());
        let lines = vec!["another program has taken over".to_owned()];
        self.answer(&self.waiting.running(), &Outcome { success: true, lines, at_takeover: true });
        let (serving, unready): (Vec<&Worker>, Vec<&Worker>) = self.worker.iter().partition(|worker| worker.serving);
        let state = State {
            generation: self.generation(),
            detached: self.detached,
            pidfile: self.pidfile.as_ref().map(PidFile::path),
            worker: serving.first().copied(),
            // One that is not ready ends by itself when the socket to it is closed.
            retired: self.retired_ids().chain(unready.iter().map(|worker| worker.pid())).collect(),
        };
        let left = match state.leave(self.listeners.all()) {
            Ok(left) => left,
            Err(error) => return error,
        };
        // From here on signals wait for the new program, also those that nobody has looked at yet.
        if let Err(error) = self.signals.postpone() {
            return error;
        }
        // What the log still holds would be lost, and its threads with it.
        self.logging.stop();
        self.signals.put_back();
        let error = self.execute_with(program, left.memory.as_raw_fd());
        if let Err(error) = self.signals.resume() {
            log::error!("cannot take signals again: {}", reason(&error));
        }
        if let Some(configuration) = &self.in_force {
            self.logging.adopt(&configuration.model, &configuration.material.host, &configuration.log_descriptors);
        }
        error
    }

    fn execute_with(&mut self, program: &Path, state: i32) -> io::Error {
        let before = std::env::current_dir();
        let path = CString::new(program.as_os_str().as_bytes());
        let words = std::env::args_os().map(|word| CString::new(word.into_vec())).collect::<Result<Vec<_>, _>>();
        let environment = handover::environment(state, self.inherited.is_activated());
        let (Ok(path), Ok(words), Ok(environment)) = (path, words, environment) else {
            return io::Error::other("a word with a zero byte");
        };
        let changed = std::env::set_current_dir(&self.options.started_in);
        let inherited = changed.and_then(|()| self.inherited.keep_through_exec(true));
        let error = match inherited {
            Err(error) => error,
            Ok(()) => match execve(&path, &words, &environment) {
                Ok(never) => match never {},
                Err(error) => error.into(),
            },
        };
        let _ = self.inherited.keep_through_exec(false);
        if let Ok(before) = before {
            let _ = std::env::set_current_dir(before);
        }
        error
    }
}
