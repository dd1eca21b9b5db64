//! The master's main loop: signals, the workers' answers, timers.
//!
//! It waits in one place only, [`Service::wait`], and never for a worker alone.

mod audit;
mod refresh;
mod reload;
mod status;
mod stop;
mod supervise;
mod upgrade;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::refresh::Refresh;
use self::reload::{Collecting, Wish};
use self::status::Standing;
use self::stop::Draining;
use self::supervise::{Retired, Seat};
use self::upgrade::Rehearsal;
use super::Options;
use super::child::{Backoff, Process, Worker};
use super::daemon::{PidFile, Promise};
use super::handover::Handover;
use super::listeners::Listeners;
use super::logging::Logging;
use super::notify::Notify;
use super::offer::{Candidate, Configuration};
use super::signals::{Signal, Signals};
use super::waiting::Waiting;
use crate::ipc::{History, ToWorker};
use crate::sys::{Inherited, reason};

/// How long a worker that serves nobody yet may take to drop privileges and build its first snapshot, and a new program to check
/// the configuration.
const FIRST_ANSWER: Duration = Duration::from_secs(60);
/// After this long without an answer to a reload the log says so; the worker goes on serving meanwhile.
const SLOW_ANSWER: Duration = Duration::from_secs(60);
/// From the last word to a worker until it is killed.
const LAST_MOMENTS: Duration = Duration::from_secs(3);
/// Pause before sending on to a worker whose socket is full.
const FULL_SOCKET: Duration = Duration::from_millis(10);

/// The running service.
pub(super) struct Service {
    options: Options,
    signals: Signals,
    /// What `fd@n` and `fd@name` may name.
    inherited: Inherited,
    listeners: Listeners,
    /// The worker that serves, or is to.
    worker: Option<Worker>,
    /// The worker that is to take its place.
    successor: Option<Worker>,
    /// Workers whose place was taken.
    retired: Vec<Retired>,
    backoff: Backoff,
    restart_at: Option<Instant>,
    in_force: Option<Configuration>,
    /// The number of the configuration that was in force before this program was executed.
    generation_before: u64,
    candidate: Option<Candidate>,
    collecting: Option<Collecting>,
    rehearsal: Option<Rehearsal>,
    /// What comes when nothing else is going on.
    wish: Option<Wish>,
    refresh: Refresh,
    /// Who waits for the outcome.
    waiting: Waiting,
    draining: Option<Draining>,
    /// It has served, in this program or in the one that executed it. From then on no error ends it.
    is_up: bool,
    /// Kept when the first configuration is adopted.
    promise: Option<Promise>,
    detached: bool,
    pidfile: Option<PidFile>,
    logging: Logging,
    notify: Notify,
    standing: Standing,
    /// SHA-256 of each certificate that is served; `None`: by a worker of the program before.
    fingerprints: Option<Vec<[u8; 32]>>,
    history: History,
    outcome: Option<ExitCode>,
}

impl Service {
    /// A service that still has to come up.
    pub(super) fn new(
        options: Options,
        inherited: Inherited,
        listeners: Listeners,
        promise: Promise,
        signals: Signals,
    ) -> Self {
        Self {
            options,
            signals,
            inherited,
            listeners,
            worker: None,
            successor: None,
            retired: Vec::new(),
            backoff: Backoff::default(),
            restart_at: None,
            in_force: None,
            generation_before: 0,
            candidate: None,
            collecting: None,
            rehearsal: None,
            wish: None,
            refresh: Refresh::default(),
            waiting: Waiting::default(),
            draining: None,
            is_up: false,
            promise: Some(promise),
            detached: false,
            pidfile: None,
            logging: Logging::new(),
            notify: Notify::from_environment(),
            standing: Standing::default(),
            fingerprints: None,
            history: History::default(),
            outcome: None,
        }
    }

    /// The service that the program before this one has left, whose worker still serves.
    pub(super) fn take_over(options: Options, inherited: Inherited, signals: Signals, handover: Handover) -> Self {
        let Handover { generation, detached, pidfile, worker, retired, listeners } = handover;
        let listeners = Listeners::new(listeners);
        let mut service = Self::new(options, inherited, listeners, Promise::none(), signals);
        let left = |(pid, channel)| Worker::left_by_another(Process::new(pid), UnixStream::from(channel));
        service.worker = worker.map(left);
        retired.into_iter().for_each(|pid| service.take_over_retired(Process::new(pid)));
        (service.is_up, service.generation_before, service.detached) = (true, generation, detached);
        service.pidfile = pidfile.map(PidFile::of_before);
        // Children may have ended while nobody listened.
        service.handle_child();
        service.waiting.note("upgrade");
        service.reload();
        service
    }

    /// Runs until there is an outcome.
    pub(super) fn run(mut self) -> ExitCode {
        if !self.is_up {
            self.start_worker(Seat::Worker);
        }
        loop {
            if let Some(outcome) = self.outcome {
                self.logging.stop();
                return outcome;
            }
            self.wait();
            for signal in self.signals.take() {
                self.handle_signal(signal);
            }
            self.handle_collected();
            self.handle_workers();
            self.handle_beats();
            self.handle_timers(Instant::now());
            self.refresh_names(Instant::now());
        }
    }

    /// The generation in force; 0 before the first.
    fn generation(&self) -> u64 {
        self.in_force.as_ref().map_or(self.generation_before, |configuration| configuration.material.generation)
    }

    fn wait(&mut self) {
        let timeout = self.next_timer().map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up, so that the timer is due afterwards.
        let timeout = timeout.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut set = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        for worker in self.worker.iter().chain(&self.successor).filter(|worker| worker.speaks()) {
            set.push(PollFd::new(worker.channel.as_fd(), PollFlags::POLLIN));
            set.extend(worker.beats.as_ref().map(|beats| PollFd::new(beats.as_fd(), PollFlags::POLLIN)));
        }
        if let Some(collecting) = &self.collecting {
            set.push(PollFd::new(collecting.over.as_fd(), PollFlags::POLLIN));
        }
        if let Some(over) = self.refresh.over().filter(|_| self.draining.is_none()) {
            set.push(PollFd::new(over.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut set, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                log::error!("poll: {error}");
                std::thread::park_timeout(FULL_SOCKET);
            }
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        let drained = self.draining.as_ref().and_then(|draining| draining.kill_at);
        let names = self.refresh.next().filter(|_| self.draining.is_none());
        let timers = [
            self.restart_at,
            drained,
            names,
            self.rehearsal_ends(),
            self.next_check(),
            self.next_sign(),
            self.logging.check_at(),
        ];
        timers.into_iter().flatten().min()
    }

    fn handle_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Child => self.handle_child(),
            Signal::Reload | Signal::Upgrade if self.draining.is_some() => log::info!("no reload while stopping"),
            Signal::Reload => {
                self.waiting.note("signal");
                self.reload_or_upgrade();
            }
            Signal::Upgrade => {
                self.waiting.note("signal");
                self.upgrade();
            }
            Signal::SoftStop if self.draining.is_some() => {}
            Signal::SoftStop => self.drain(),
            Signal::Stop if self.draining.is_some() => self.stop_sooner(),
            Signal::Stop => self.drain(),
        }
    }

    fn handle_timers(&mut self, now: Instant) {
        self.give_signs(now);
        self.check_rehearsal(now);
        self.check_log_files(now);
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart();
        }
        self.check_draining(now);
        self.check_workers(now);
    }

    /// The first configuration is in force. What fails now keeps a service from starting, but does not end one that is up.
    fn come_up(&mut self, promise: Promise) {
        let configured = self.in_force.as_ref().and_then(|configuration| configuration.model.process.pidfile.as_ref());
        let path = self.options.pidfile.as_ref().or(configured.map(|pidfile| &pidfile.value));
        let path = path.map(|path| self.options.request.directory.join(path));
        if self.pidfile.as_ref().map(PidFile::path) != path.as_deref() {
            match path.map(|path| PidFile::write(&path).map_err(|error| (path, error))).transpose() {
                Ok(file) => self.pidfile = file,
                Err((path, error)) => {
                    let text = format!("cannot write the pid file {}: {}", path.display(), reason(&error));
                    return self.fail_to_come_up(&text);
                }
            }
        }
        if let Err((path, error)) = self.report_listeners() {
            return self.fail_to_come_up(&format!("cannot write {}: {}", path.display(), reason(&error)));
        }
        if promise.detaches() {
            self.detached = true;
            self.send(&ToWorker::Detach);
        }
        if let Err(error) = promise.keep() {
            self.fail_to_come_up(&format!("cannot let go of the terminal: {}", reason(&error)));
        }
        if self.detached {
            let _ = std::env::set_current_dir("/");
        }
    }

    fn report_listeners(&self) -> Result<(), (PathBuf, io::Error)> {
        let (Some(path), Some(in_force)) = (&self.options.listen_report, &self.in_force) else { return Ok(()) };
        let lines: String = in_force.wanted.iter().map(|wanted| format!("{}\n", wanted.key)).collect();
        let path = self.options.request.directory.join(path);
        std::fs::write(&path, lines).map_err(|error| (path, error))
    }

    /// Log files that were moved away are opened again.
    fn check_log_files(&mut self, now: Instant) {
        let Some(in_force) = self.in_force.as_mut().filter(|_| self.logging.check_at().is_some_and(|at| at <= now))
        else {
            return;
        };
        let directory = &self.options.request.directory;
        let opened = self.logging.reopen(&mut in_force.log_descriptors, directory, in_force.plan.ids, now);
        if !opened.is_empty() {
            let (keys, descriptors): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
            self.send_with(&ToWorker::Logs(keys), &descriptors);
        }
    }

    fn fail_to_come_up(&mut self, text: &str) {
        if self.is_up {
            log::error!("{text}");
        } else {
            log::error!("not started: {text}");
            self.outcome = Some(ExitCode::FAILURE);
        }
    }
}
