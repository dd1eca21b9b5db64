//! The master's main loop: signals, the worker's answers, timers.
//!
//! It waits in one place only, [`Service::wait`], and never for the worker alone.

mod reload;
mod status;
mod stop;
mod supervise;

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::reload::Collecting;
use self::status::Standing;
use self::stop::Draining;
use super::Options;
use super::child::{Backoff, Worker};
use super::daemon::{PidFile, Promise};
use super::listeners::Listeners;
use super::logging::Logging;
use super::notify::Notify;
use super::offer::{Candidate, Configuration};
use super::plan::Fixed;
use super::signals::{Signal, Signals};
use crate::ipc::{History, ToWorker};
use crate::sys::{Inherited, reason};

/// How long a worker that serves nobody yet may take to drop privileges and build its first snapshot.
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
    fixed: Fixed,
    signals: Signals,
    /// What `fd@n` may name.
    inherited: Inherited,
    listeners: Listeners,
    worker: Option<Worker>,
    backoff: Backoff,
    restart_at: Option<Instant>,
    in_force: Option<Configuration>,
    candidate: Option<Candidate>,
    collecting: Option<Collecting>,
    reload_wanted: bool,
    draining: Option<Draining>,
    /// Kept when the first configuration is adopted.
    promise: Option<Promise>,
    detached: bool,
    pidfile: Option<PidFile>,
    logging: Logging,
    notify: Notify,
    standing: Standing,
    history: History,
    outcome: Option<ExitCode>,
}

impl Service {
    pub(super) fn new(
        options: Options,
        fixed: Fixed,
        inherited: Inherited,
        promise: Promise,
        signals: Signals,
    ) -> Self {
        Self {
            options,
            fixed,
            signals,
            inherited,
            listeners: Listeners::new(fixed.loops),
            worker: None,
            backoff: Backoff::default(),
            restart_at: None,
            in_force: None,
            candidate: None,
            collecting: None,
            reload_wanted: false,
            draining: None,
            promise: Some(promise),
            detached: false,
            pidfile: None,
            logging: Logging::new(),
            notify: Notify::from_environment(),
            standing: Standing::default(),
            history: History::default(),
            outcome: None,
        }
    }

    /// Runs until there is an outcome.
    pub(super) fn run(mut self) -> ExitCode {
        self.start_worker();
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
            self.handle_worker();
            self.handle_beats();
            self.handle_timers(Instant::now());
        }
    }

    /// The generation in force; 0 before the first.
    fn generation(&self) -> u64 {
        self.in_force.as_ref().map_or(0, |configuration| configuration.material.generation)
    }

    fn wait(&mut self) {
        let timeout = self.next_timer().map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up, so that the timer is due afterwards.
        let timeout = timeout.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut set = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if let Some(worker) = self.worker.as_ref().filter(|worker| worker.silent.is_none()) {
            set.push(PollFd::new(worker.channel.as_fd(), PollFlags::POLLIN));
            set.extend(worker.beats.as_ref().map(|beats| PollFd::new(beats.as_fd(), PollFlags::POLLIN)));
        }
        if let Some(collecting) = &self.collecting {
            set.push(PollFd::new(collecting.over.as_fd(), PollFlags::POLLIN));
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
        let mut timers =
            vec![self.restart_at, self.draining.as_ref().and_then(|draining| draining.kill_at), self.next_sign()];
        if let Some(worker) = &self.worker {
            if worker.channel.has_outgoing() && worker.silent.is_none() {
                timers.push(Some(Instant::now() + FULL_SOCKET));
            }
            timers.push(worker.silent.map(|since| since + LAST_MOMENTS));
            if worker.serving {
                timers.push(worker.offered.map(|offered| offered.since + SLOW_ANSWER));
            } else {
                timers.push(Some(worker.since + FIRST_ANSWER));
            }
        }
        timers.into_iter().flatten().min()
    }

    fn handle_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Child => self.handle_child(),
            Signal::Reload if self.draining.is_some() => log::info!("no reload while stopping"),
            Signal::Reload => self.reload(),
            Signal::SoftStop if self.draining.is_some() => {}
            Signal::SoftStop => self.drain(),
            Signal::Stop if self.draining.is_some() => self.stop_now(),
            Signal::Stop => self.drain(),
        }
    }

    /// The first configuration is in force.
    fn come_up(&mut self, promise: Promise) {
        let configured = self.in_force.as_ref().and_then(|configuration| configuration.model.process.pidfile.as_ref());
        let path = self.options.pidfile.as_ref().or(configured.map(|pidfile| &pidfile.value));
        if let Some(path) = path.map(|path| self.options.request.directory.join(path)) {
            match PidFile::write(&path) {
                Ok(file) => self.pidfile = Some(file),
                Err(error) => {
                    log::error!("not started: cannot write the pid file {}: {}", path.display(), reason(&error));
                    self.outcome = Some(ExitCode::FAILURE);
                    return;
                }
            }
        }
        self.detached = promise.detaches();
        if self.detached {
            self.send(&ToWorker::Detach);
        }
        if let Err(error) = promise.keep() {
            log::error!("not started: cannot let go of the terminal: {}", reason(&error));
            self.outcome = Some(ExitCode::FAILURE);
        }
    }

    fn handle_timers(&mut self, now: Instant) {
        self.give_signs(now);
        if self.restart_at.is_some_and(|at| at <= now) {
            self.start_worker();
        }
        let kill_at = self.draining.as_ref().and_then(|draining| draining.kill_at);
        let Some(worker) = &mut self.worker else {
            return;
        };
        if kill_at.is_some_and(|at| at <= now) {
            log::warn!("worker {} did not stop in time and is killed", worker.pid());
            worker.kill();
            self.draining = Some(Draining { kill_at: None });
        } else if worker.silent.is_some_and(|since| since + LAST_MOMENTS <= now) {
            log::error!("worker {} hangs at its end and is killed", worker.pid());
            worker.silent = Some(now);
            worker.kill();
        } else if !worker.serving && worker.since + FIRST_ANSWER <= now {
            log::error!("worker {} is not ready after {} s and is killed", worker.pid(), FIRST_ANSWER.as_secs());
            worker.since = now;
            worker.kill();
        } else if let Some(offered) = worker.offered.as_mut().filter(|_| worker.serving) {
            if offered.since + SLOW_ANSWER <= now {
                offered.since = now;
                log::warn!("worker {} has not answered to the reload for {} s", worker.pid(), SLOW_ANSWER.as_secs());
            }
        }
    }
}
