//! Reloads: collect, consider, offer; then the worker answers.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Service;
use crate::conf::model::Model;
use crate::master::child::Offered;
use crate::master::listeners::{self, Open, Wanted};
use crate::master::material::{Collected, collect};
use crate::master::offer::{self, Candidate, Configuration};
use crate::master::plan::{self, Fixed};
use crate::master::{logging, refuse_start};
use crate::report::{self, ReportLevel, ReportLine, Summary};
use crate::sys::limits::Raise;
use crate::sys::reason;

/// A reload that is being read on a thread of its own: DNS and slow disks must not delay signals.
pub(super) struct Collecting {
    answer: mpsc::Receiver<Result<Collected, Vec<ReportLine>>>,
    /// Ends when the thread does.
    pub(super) over: UnixStream,
}

impl Service {
    pub(super) fn reload(&mut self) {
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
        self.notify.reloading();
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

    pub(super) fn handle_collected(&mut self) {
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

    /// Checks what was collected and opens the listeners it adds: from now on it is the candidate.
    ///
    /// # Errors
    /// Why it cannot become one; nothing has changed then.
    pub(in crate::master) fn consider(&mut self, collected: Collected) -> Result<(), Vec<ReportLine>> {
        let Collected { mut material, model, mut report } = collected;
        let sources = &material.sources;
        let render = |diagnostics: Vec<_>| report::render(&diagnostics, sources);
        let wanted = listeners::wanted(&model, self.options.master_socket.as_ref());
        let sockets = wanted.iter().map(|one| one.descriptors(self.fixed.loops)).sum();
        // A worker that runs keeps the hard limit that it was started with.
        let raise = if self.in_force.is_some() { Raise::Soft } else { Raise::Hard };
        let connections = plan::connections(&model, self.options.maxconn, sockets, raise, &mut report);
        let connections = connections.map_err(|too_many| too_many.report(sources))?;
        if let Some(in_force) = &self.in_force {
            let serves = |wanted: &[Wanted]| wanted.iter().any(Wanted::is_for_clients);
            if !serves(&wanted) && serves(&in_force.wanted) {
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

    /// Sends the worker what it is to adopt: the candidate, or to a new worker what is in force.
    pub(super) fn offer(&mut self) {
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.started && worker.offered.is_none()) else {
            return;
        };
        let candidate = self.candidate.as_ref();
        let configuration = candidate.map(|candidate| &candidate.configuration).or(self.in_force.as_ref());
        let Some(configuration) = configuration else {
            return;
        };
        let generation = configuration.material.generation;
        let kept = self.listeners.for_clients().filter(|_| !worker.serving);
        let opened = candidate.iter().flat_map(|candidate| &candidate.opened);
        let sockets = kept.chain(opened).flat_map(Open::for_worker);
        let sockets = sockets.chain(self.listeners.of_process(&configuration.wanted));
        // For what is new only: a certificate that has expired since must not keep a new worker from what the last one did.
        let forbid_warnings = candidate.is_some() && self.options.forbids_warnings(&configuration.model);
        let sent = offer::encode(configuration, sockets, forbid_warnings).and_then(|(message, descriptors)| {
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

    /// Whether the candidate has this number. While a new worker is given what is in force, there may be a candidate that it
    /// was not asked about.
    pub(super) fn is_candidate(&self, generation: u64) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.configuration.material.generation == generation)
    }

    pub(super) fn handle_adopted(&mut self, generation: u64, mut answer: Vec<ReportLine>) {
        let adopted = if self.is_candidate(generation) { self.candidate.take() } else { None };
        if let Some(Candidate { mut configuration, opened }) = adopted {
            if self.in_force.is_some() {
                self.note_reload(None);
            }
            let mut report = std::mem::take(&mut configuration.report);
            report::merge(&mut report, std::mem::take(&mut answer));
            report.iter().for_each(ReportLine::log);
            let (added, closed) = self.listeners.commit(&configuration.wanted, opened);
            added.iter().for_each(|key| log::info!("listening on {key}"));
            closed.iter().for_each(|key| log::info!("no longer listening on {key}"));
            self.in_force = Some(configuration);
            self.history.reloads_adopted += 1;
            self.history.last_adopted = true;
            self.history.last_adopted_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            self.tell_history();
        }
        log::info!("worker adopted generation {generation}");
        if let Some(promise) = self.promise.take() {
            self.come_up(promise);
        }
        if let Some(Configuration { model, log_descriptors, .. }) = &self.in_force {
            self.logging.adopt(model, log_descriptors);
        }
        if self.outcome.is_none() {
            self.show_ready();
        }
        if self.candidate.is_some() {
            self.offer();
        }
        self.start_collecting();
    }

    pub(super) fn handle_refused(&mut self, generation: u64, report: Vec<ReportLine>) {
        let serving = self.worker.as_ref().is_some_and(|worker| worker.serving);
        if self.in_force.is_none() {
            self.candidate = None;
            refuse_start(&report);
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

    /// Logs why a reload failed. Everything stays as it was.
    pub(super) fn refuse(&mut self, report: &[ReportLine]) {
        report.iter().for_each(ReportLine::log);
        log::error!("reload refused ({}); generation {} stays in force", Summary::of(report), self.generation());
        self.candidate = None;
        self.note_reload(Some(report));
        self.show_ready();
        self.history.reloads_refused += 1;
        self.history.last_adopted = false;
        self.tell_history();
        self.start_collecting();
    }
}
