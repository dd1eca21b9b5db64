//! The master's main loop: signals, the worker's answers, reloads.
//!
//! It waits in one place only, [`Service::wait`], and never for the worker alone.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Options;
use super::child::{Backoff, Offered, Worker, describe};
use super::daemon::{PidFile, Promise};
use super::listeners::{self, Listeners};
use super::logging::{self, Logging};
use super::material::{Collected, collect};
use super::offer::{self, Candidate, Configuration};
use super::plan::{self, Fixed};
use super::signals::{Signal, Signals};
use crate::conf::model::Model;
use crate::ipc::{Incoming, Start, ToMaster, ToWorker};
use crate::report::{self, Escaped, ReportLevel, ReportLine, Summary};
use crate::sys::limits::Raise;
use crate::sys::{Inherited, reason};

/// How long a worker that serves nobody yet may take to drop privileges and build its first snapshot.
const FIRST_ANSWER: Duration = Duration::from_secs(60);
/// After this long without an answer to a reload the log says so; the worker goes on serving meanwhile.
const SLOW_ANSWER: Duration = Duration::from_secs(60);
/// From the last word to a worker until it is killed.
const LAST_MOMENTS: Duration = Duration::from_secs(3);
/// Pause before sending on to a worker whose socket is full.
const FULL_SOCKET: Duration = Duration::from_millis(10);

/// A reload that is being read on a thread of its own: DNS and slow disks must not delay signals.
struct Collecting {
    answer: mpsc::Receiver<Result<Collected, Vec<ReportLine>>>,
    /// Ends when the thread does.
    over: UnixStream,
}

/// Stopping.
struct Draining {
    /// When the worker is killed.
    kill_at: Option<Instant>,
}

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
            self.handle_timers(Instant::now());
        }
    }

    /// Checks what was collected and opens the listeners it adds: from now on it is the candidate.
    ///
    /// # Errors
    /// Why it cannot become one; nothing has changed then.
    pub(super) fn consider(&mut self, collected: Collected) -> Result<(), Vec<ReportLine>> {
        let Collected { mut material, model, mut report } = collected;
        let sources = &material.sources;
        let render = |diagnostics: Vec<_>| report::render(&diagnostics, sources);
        let wanted = listeners::wanted(&model);
        let sockets = wanted.len() * usize::from(self.fixed.loops);
        // A worker that runs keeps the hard limit that it was started with.
        let raise = if self.in_force.is_some() { Raise::Soft } else { Raise::Hard };
        let connections = plan::connections(&model, self.options.maxconn, sockets, raise, &mut report);
        let connections = connections.map_err(|too_many| too_many.report(sources))?;
        if let Some(in_force) = &self.in_force {
            if wanted.is_empty() && !in_force.wanted.is_empty() {
                let text = "there is no 'bind' any more, which would close every listener: is a file empty or cut off? \
                            To stop, send TERM";
                report.push(ReportLine::new(ReportLevel::Error, text));
                return Err(report);
            }
            self.check_fixed(&model, &mut report);
        }
        if self.options.forbids_warnings(&model) {
            report::forbid_warnings(&mut report);
            if Summary::of(&report).errors > 0 {
                return Err(report);
            }
        }
        let log_descriptors = logging::find_descriptors(&model, &self.inherited).map_err(render)?;
        let opened = self.listeners.open_missing(&wanted, &self.inherited).map_err(render)?;
        material.maxconn = connections;
        material.generation = self.generation() + 1;
        let configuration = Configuration { material: Arc::new(material), model, wanted, report, log_descriptors };
        self.candidate = Some(Candidate { configuration, opened });
        Ok(())
    }

    /// What a reload cannot change is said, not ignored.
    fn check_fixed(&self, model: &Model, report: &mut Vec<ReportLine>) {
        let settled = Fixed::settle(&model.process, crate::sys::privileges::Ids::current(), &mut Vec::new());
        if settled.as_ref().ok() != Some(&self.fixed) {
            let text = "'user', 'group' and 'nbthread' take effect at the next start only";
            report.push(ReportLine::new(ReportLevel::Warning, text));
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
        let mut timers = vec![self.restart_at, self.draining.as_ref().and_then(|draining| draining.kill_at)];
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

    // Reload: collect, consider, offer; then the worker answers.

    fn reload(&mut self) {
        self.reload_wanted = true;
        self.start_collecting();
    }

    /// One reload at a time; asked for during one, there is one more afterwards.
    fn start_collecting(&mut self) {
        if !self.reload_wanted || self.collecting.is_some() || self.candidate.is_some() || self.draining.is_some() {
            return;
        }
        self.reload_wanted = false;
        log::info!("reloading");
        let request = self.options.request.clone();
        let previous = self.in_force.as_ref().map(|configuration| configuration.material.clone());
        let (sender, answer) = mpsc::channel();
        let started = UnixStream::pair().and_then(|(over, guard)| {
            std::thread::Builder::new().name("collect".into()).spawn(move || {
                // Dropped at the end, or by a panic: either wakes the main loop.
                let _guard = guard;
                let _ = sender.send(collect(&request, previous.as_deref()));
            })?;
            Ok(over)
        });
        match started {
            Ok(over) => self.collecting = Some(Collecting { answer, over }),
            Err(error) => self.refuse(&[ReportLine::new(ReportLevel::Error, reason(&error))]),
        }
    }

    fn handle_collected(&mut self) {
        let Some(collecting) = &self.collecting else {
            return;
        };
        let considered = match collecting.answer.try_recv() {
            Err(mpsc::TryRecvError::Empty) => return,
            Err(mpsc::TryRecvError::Disconnected) => {
                Err(vec![ReportLine::new(ReportLevel::Error, "reading the configuration failed unexpectedly")])
            }
            Ok(Err(report)) => Err(report),
            Ok(Ok(collected)) => self.consider(collected),
        };
        self.collecting = None;
        match considered {
            Err(report) => self.refuse(&report),
            Ok(()) if self.worker.is_some() => self.offer(),
            // The last worker died; the new configuration may be what was needed.
            Ok(()) => self.start_worker(),
        }
    }

    /// Logs why a reload failed. Everything stays as it was.
    fn refuse(&mut self, report: &[ReportLine]) {
        report.iter().for_each(ReportLine::log);
        log::error!("reload refused ({}); generation {} stays in force", Summary::of(report), self.generation());
        self.candidate = None;
        self.start_collecting();
    }

    /// Sends the worker what it is to adopt: the candidate, or to a new worker what is in force.
    fn offer(&mut self) {
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.started && worker.offered.is_none()) else {
            return;
        };
        let candidate = self.candidate.as_ref();
        let configuration = candidate.map(|candidate| &candidate.configuration).or(self.in_force.as_ref());
        let Some(configuration) = configuration else {
            return;
        };
        let generation = configuration.material.generation;
        let kept = self.listeners.all().filter(|_| !worker.serving);
        let listeners = kept.chain(candidate.iter().flat_map(|candidate| &candidate.opened));
        // For what is new only: a certificate that has expired since must not keep a new worker from what the last one did.
        let forbid_warnings = candidate.is_some() && self.options.forbids_warnings(&configuration.model);
        let sent = offer::encode(configuration, listeners, forbid_warnings).and_then(|(message, descriptors)| {
            worker.channel.queue(&message, &descriptors)?;
            worker.channel.flush()
        });
        match sent {
            Ok(_) => worker.offered = Some(Offered { generation, since: Instant::now() }),
            Err(error) => {
                let text = format!("cannot hand the configuration to the worker: {}", reason(&error));
                self.handle_refused(generation, vec![ReportLine::new(ReportLevel::Error, text)]);
            }
        }
    }

    // The worker.

    fn start_worker(&mut self) {
        self.restart_at = None;
        let Fixed { ids, loops } = self.fixed;
        let verbosity = self.logging.verbosity() as u8;
        match Worker::start(Start { uid: ids.uid, gid: ids.gid, loops, verbosity }) {
            Ok(worker) => {
                log::debug!("started worker {}", worker.pid());
                self.worker = Some(worker);
            }
            Err(error) => {
                log::error!("cannot start a worker: {}", reason(&error));
                self.schedule_restart(Duration::ZERO);
            }
        }
    }

    fn schedule_restart(&mut self, lived: Duration) {
        if self.in_force.is_none() {
            log::error!("not started: no worker could be brought up");
            self.outcome = Some(ExitCode::FAILURE);
            return;
        }
        let delay = self.backoff.delay_after(lived);
        if !delay.is_zero() {
            log::warn!("starting another worker in {} ms", delay.as_millis());
        }
        self.restart_at = Some(Instant::now() + delay);
    }

    fn handle_worker(&mut self) {
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.silent.is_none()) else {
            return;
        };
        if let Err(error) = worker.channel.flush() {
            log::debug!("writing to the worker: {error}");
            worker.silent = Some(Instant::now());
            return;
        }
        while let Some(worker) = self.worker.as_mut() {
            match worker.channel.poll_receive::<ToMaster>() {
                Ok(Incoming::Message(message, _)) => self.handle_message(message),
                Ok(Incoming::Nothing) => return,
                Ok(Incoming::Closed) => {
                    worker.silent = Some(Instant::now());
                    return;
                }
                Err(error) => {
                    log::error!("the worker sent nonsense: {error}");
                    worker.silent = Some(Instant::now());
                    worker.kill();
                    return;
                }
            }
        }
    }

    fn handle_message(&mut self, message: ToMaster) {
        let Some(worker) = self.worker.as_mut() else {
            return;
        };
        if self.draining.is_some() {
            return;
        }
        match message {
            ToMaster::Started { sandbox } => {
                worker.started = true;
                log::info!("worker {} runs as user {}: {}", worker.pid(), self.fixed.ids.uid, Escaped(&sandbox));
                self.offer();
            }
            ToMaster::Adopted { generation, .. } | ToMaster::Refused { generation, .. }
                if worker.offered.is_none_or(|offered| offered.generation != generation) =>
            {
                log::warn!("the worker answered about generation {generation}, unasked");
            }
            ToMaster::Adopted { generation, report } => {
                worker.offered = None;
                worker.serving = true;
                self.handle_adopted(generation, report);
            }
            ToMaster::Refused { generation, report } => {
                worker.offered = None;
                self.handle_refused(generation, report);
            }
        }
    }

    /// Whether the candidate has this number. While a new worker is given what is in force, there may be a candidate that it
    /// was not asked about.
    fn is_candidate(&self, generation: u64) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.configuration.material.generation == generation)
    }

    fn handle_adopted(&mut self, generation: u64, mut answer: Vec<ReportLine>) {
        let adopted = if self.is_candidate(generation) { self.candidate.take() } else { None };
        if let Some(Candidate { mut configuration, opened }) = adopted {
            let mut report = std::mem::take(&mut configuration.report);
            report::merge(&mut report, std::mem::take(&mut answer));
            report.iter().for_each(ReportLine::log);
            let (added, closed) = self.listeners.commit(&configuration.wanted, opened);
            added.iter().for_each(|key| log::info!("listening on {key}"));
            closed.iter().for_each(|key| log::info!("no longer listening on {key}"));
            self.in_force = Some(configuration);
        }
        log::info!("worker adopted generation {generation}");
        if let Some(promise) = self.promise.take() {
            self.come_up(promise);
        }
        if let Some(Configuration { model, log_descriptors, .. }) = &self.in_force {
            self.logging.adopt(model, log_descriptors);
        }
        if self.candidate.is_some() {
            self.offer();
        }
        self.start_collecting();
    }

    fn handle_refused(&mut self, generation: u64, report: Vec<ReportLine>) {
        let serving = self.worker.as_ref().is_some_and(|worker| worker.serving);
        if self.in_force.is_none() {
            self.candidate = None;
            super::refuse_start(&report);
            self.outcome = Some(ExitCode::FAILURE);
        } else if self.is_candidate(generation) {
            self.refuse(&report);
            if !serving {
                self.offer();
            }
        } else if self.candidate.is_some() {
            report.iter().for_each(ReportLine::log);
            log::error!("generation {generation} can not be restored: {}; trying the next", Summary::of(&report));
            self.offer();
        } else {
            // What was in force cannot be built any more (a CRL has expired since): only fresh files can help.
            report.iter().for_each(ReportLine::log);
            log::error!("generation {} can not be restored: {}", self.generation(), Summary::of(&report));
            let lived = self.worker.take().map_or(Duration::ZERO, |worker| worker.since.elapsed());
            self.schedule_restart(lived);
            self.reload();
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

    fn handle_child(&mut self) {
        let Some((status, worker)) = self.worker.as_mut().and_then(|worker| Some((worker.exit_status()?, worker)))
        else {
            return;
        };
        // Its last words, if it had any, are still in the socket.
        while worker.silent.is_none() {
            match worker.channel.poll_receive::<ToMaster>() {
                Ok(Incoming::Message(message @ ToMaster::Refused { .. }, _)) if self.in_force.is_none() => {
                    return self.handle_message(message);
                }
                Ok(Incoming::Message(..)) => {}
                _ => break,
            }
        }
        let (pid, lived) = (worker.pid(), worker.since.elapsed());
        let offered = worker.offered.map(|offered| offered.generation);
        self.worker = None;
        if self.draining.is_some() {
            log::info!("worker {pid} {}", describe(status));
            log::info!("stopped");
            self.outcome = Some(ExitCode::SUCCESS);
            return;
        }
        log::error!("worker {pid} {} after {} s", describe(status), lived.as_secs());
        if offered.is_some_and(|generation| self.is_candidate(generation)) && self.in_force.is_some() {
            let text = "the worker died of the new configuration";
            self.refuse(&[ReportLine::new(ReportLevel::Error, text)]);
        }
        self.schedule_restart(lived);
    }

    fn send(&mut self, message: &ToWorker) {
        if let Some(worker) = &mut self.worker {
            let sent = worker.channel.queue(message, &[]).and_then(|()| worker.channel.flush());
            if let Err(error) = sent {
                log::debug!("writing to the worker: {error}");
            }
        }
    }

    // Stopping.

    fn drain(&mut self) {
        let limit = self.in_force.as_ref().and_then(|configuration| configuration.model.process.hard_stop_after);
        log::info!("stopping: no new connections");
        self.listeners.close_all();
        (self.candidate, self.collecting, self.restart_at) = (None, None, None);
        if self.worker.as_ref().is_some_and(|worker| worker.serving) {
            self.draining = Some(Draining { kill_at: limit.map(|limit| Instant::now() + limit + LAST_MOMENTS) });
            self.send(&ToWorker::Drain { limit });
        } else {
            // Nobody is served: there is nothing to wait for.
            self.worker = None;
            self.outcome = Some(ExitCode::SUCCESS);
        }
    }

    fn stop_now(&mut self) {
        log::warn!("stopping now: open connections are cut");
        self.send(&ToWorker::Stop);
        let kill_at = Instant::now() + LAST_MOMENTS;
        self.draining = Some(Draining { kill_at: Some(kill_at) });
    }

    fn handle_timers(&mut self, now: Instant) {
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
