//! Reloads: collect, consider, present; then a worker answers.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::supervise::Seat;
use super::{Service, audit, status};
use crate::ipc::{Outcome, ToWorker};
use crate::master::child::Offered;
use crate::master::listeners::{self, Wanted};
use crate::master::material::{Collected, collect};
use crate::master::offer::{self, Candidate, Configuration};
use crate::master::plan::{self, Plan};
use crate::master::{listener_name, logging, refuse_start, waiting};
use crate::report::{self, ReportLevel, ReportLine, Summary};
use crate::sys::limits::Raise;
use crate::sys::privileges::Ids;
use crate::sys::reason;

/// A reload that is being read on a thread of its own: DNS and slow disks must not delay signals.
pub(super) struct Collecting {
    answer: mpsc::Receiver<Result<Collected, Vec<ReportLine>>>,
    /// Ends when the thread does.
    pub(super) over: UnixStream,
}

/// What was asked for and has not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// Read everything again.
    Reload,
    /// Execute the program again, which then reads everything.
    Upgrade,
}

impl Service {
    pub(super) fn reload(&mut self) {
        self.ask(Wish::Reload);
    }

    /// A client of a control socket asks, and waits.
    pub(super) fn handle_reload_request(&mut self, request: u64) {
        if self.draining.is_some() {
            self.answer(&[request], &Outcome::refused("the service is stopping"));
        } else if self.waiting.add(request) {
            self.reload_or_upgrade();
        } else {
            self.answer(&[request], &Outcome::refused("too many reloads are waited for"));
        }
    }

    /// Tells those who wait for a reload.
    pub(super) fn answer(&mut self, requests: &[u64], outcome: &Outcome) {
        for &request in requests {
            self.send(&ToWorker::Reloaded { request, outcome: outcome.clone() });
        }
    }

    /// One thing at a time; what is asked for meanwhile comes afterwards, once.
    pub(super) fn ask(&mut self, wish: Wish) {
        self.wish = self.wish.max(Some(wish));
        self.start_next();
    }

    pub(super) fn is_changing(&self) -> bool {
        self.collecting.is_some() || self.candidate.is_some() || self.rehearsal.is_some()
    }

    pub(super) fn start_next(&mut self) {
        if self.is_changing() || self.draining.is_some() {
            return;
        }
        if self.wish.is_some() {
            self.waiting.begin();
        }
        match self.wish.take() {
            None => {}
            Some(Wish::Upgrade) => self.rehearse(),
            Some(Wish::Reload) => self.start_collecting(),
        }
    }

    fn start_collecting(&mut self) {
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
            Ok(()) => self.present(),
            Err(report) => {
                self.refuse(&report);
                if self.worker.is_none() && self.in_force.is_none() && !self.is_changing() {
                    self.schedule_restart(Duration::ZERO);
                }
            }
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
        let plan = Plan::settle(&model.process, Ids::current(), &mut report);
        let plan = plan.map_err(|diagnostic| render(vec![*diagnostic]))?;
        let wanted = listeners::wanted(&model, self.options.master_socket.as_ref());
        let sockets = wanted.iter().map(|one| one.descriptors(plan.loops)).sum();
        // A worker that runs keeps the hard limit that it was started with.
        let stays = self.worker.as_ref().is_some_and(|worker| worker.plan.as_ref() == Some(&plan));
        let raise = if stays { Raise::Soft } else { Raise::Hard };
        plan::limit_descriptors(&model.process, &mut report).map_err(|diagnostic| render(vec![*diagnostic]))?;
        let most = plan.descriptors;
        let connections = plan::connections(&model, self.options.maxconn, sockets, (raise, most), &mut report);
        let connections = connections.map_err(|too_many| too_many.report(sources))?;
        if self.is_up && !wanted.iter().any(Wanted::is_for_clients) && !self.listeners.serve_nobody() {
            report.push(listeners::nobody_wanted());
            return Err(report);
        }
        for name in listeners::unused(&wanted, &self.inherited) {
            let text = format!(
                "a socket named '{name}' was passed to this process and no 'bind' takes it (fd@{name}): its clients wait"
            );
            report.push(ReportLine::new(ReportLevel::Warning, text));
        }
        let mut about_sockets = self.listeners.unchangeable(&wanted);
        about_sockets.extend(plan::socket_limits(&model));
        report.extend(render(about_sockets));
        if Summary::of(&report).errors > 0 {
            return Err(report);
        }
        if self.options.forbids_warnings(&model) {
            report::forbid_warnings(&mut report);
            if Summary::of(&report).errors > 0 {
                return Err(report);
            }
        }
        let directory = &self.options.request.directory;
        let log_descriptors =
            logging::find_descriptors(&model, &self.inherited, directory, plan.ids).map_err(render)?;
        let opened = self.listeners.open_missing(&wanted, &self.inherited, plan.loops).map_err(render)?;
        material.maxconn = connections;
        material.generation = self.generation() + 1;
        let material = Arc::new(material);
        let configuration = Configuration { material, model, plan, wanted, report, log_descriptors };
        self.candidate = Some(Candidate { configuration, opened, is_reload: true });
        Ok(())
    }

    /// Puts the candidate to the worker that can adopt it: the one that is there, or a new one beside it.
    pub(super) fn present(&mut self) {
        let Some(plan) = self.candidate.as_ref().map(|candidate| &candidate.configuration.plan) else {
            return;
        };
        match &self.worker {
            // The successor is at it.
            Some(_) if self.successor.is_some() => {}
            Some(worker) if worker.plan.as_ref() == Some(plan) => self.offer(Seat::Worker),
            Some(worker) if worker.serving => self.start_worker(Seat::Successor),
            // One that serves nobody yet, or the last one has died: the new configuration may be what was needed.
            _ => {
                self.worker = None;
                self.start_worker(Seat::Worker);
            }
        }
    }

    /// Sends a worker what it is to adopt: the candidate, or to a new worker what is in force.
    pub(super) fn offer(&mut self, seat: Seat) {
        let place = match seat {
            Seat::Worker => &mut self.worker,
            Seat::Successor => &mut self.successor,
        };
        let Some(worker) = place.as_mut().filter(|worker| worker.started && worker.offered.is_none()) else {
            return;
        };
        let fits = |configuration: &Configuration| worker.plan.as_ref() == Some(&configuration.plan);
        let candidate = self.candidate.as_ref().filter(|candidate| fits(&candidate.configuration));
        let in_force = self.in_force.as_ref().filter(|configuration| fits(configuration));
        let Some(configuration) = candidate.map(|candidate| &candidate.configuration).or(in_force) else {
            // It was started for a candidate that is no more.
            *place = None;
            return self.schedule_restart(Duration::ZERO);
        };
        let generation = configuration.material.generation;
        let opened = candidate.map_or(&[][..], |candidate| &candidate.opened);
        let kept = self.listeners.for_clients().filter(|_| !worker.serving);
        let mut sockets = listeners::for_loops(kept.chain(opened), configuration.plan.loops);
        sockets.extend(self.listeners.of_process(&configuration.wanted, opened));
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
                self.handle_refused(seat, generation, vec![ReportLine::new(ReportLevel::Error, text)]);
            }
        }
    }

    /// Whether the candidate has this number. While a new worker is given what is in force, there may be a candidate that it
    /// was not asked about.
    pub(super) fn is_candidate(&self, generation: u64) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.configuration.material.generation == generation)
    }

    pub(super) fn handle_adopted(
        &mut self,
        seat: Seat,
        generation: u64,
        mut answer: Vec<ReportLine>,
        fingerprints: Vec<[u8; 32]>,
    ) {
        let change = audit::change(self.fingerprints.as_deref(), &fingerprints);
        self.fingerprints = Some(fingerprints);
        let mut reload = None;
        let adopted = if self.is_candidate(generation) { self.candidate.take() } else { None };
        if let Some(Candidate { mut configuration, opened, is_reload }) = adopted {
            if self.is_up && is_reload {
                self.note_reload(None);
                reload = Some(self.waiting.cause());
            }
            let mut report = std::mem::take(&mut configuration.report);
            report::merge(&mut report, std::mem::take(&mut answer));
            report.iter().for_each(ReportLine::log);
            for (name, open) in opened.iter().filter_map(|open| Some((open.store_name()?, open))) {
                open.sockets().for_each(|socket| self.notify.store(&name, socket));
            }
            let (added, closed) = self.listeners.commit(&configuration.wanted, opened);
            closed.iter().filter_map(listener_name::encode).for_each(|name| self.notify.forget(&name));
            let added = added.iter().map(|key| format!("listening on {key}"));
            let closed = closed.iter().map(|key| format!("no longer listening on {key}"));
            let changes: Vec<String> = added.chain(closed).collect();
            changes.iter().for_each(|change| log::info!("{change}"));
            self.in_force = Some(configuration);
            if is_reload {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.history.reloads_adopted += 1;
                self.history.last_adopted = true;
                self.history.last_adopted_at = now.as_secs();
                self.tell_history();
            }
            let mut lines = waiting::lines(&report);
            lines.extend(changes);
            lines.push(format!("generation {generation} is in force"));
            // Those who wait are clients of the worker that is replaced. Who asks again is to meet the one that comes.
            let at_takeover = seat == Seat::Successor;
            let requests = self.waiting.finish();
            self.answer(&requests, &Outcome { success: true, lines, at_takeover });
        }
        if let Some(in_force) = &self.in_force {
            self.refresh.adopt(&in_force.model, Instant::now());
        }
        log::info!("worker adopted generation {generation}");
        if seat == Seat::Successor {
            self.succeed();
        }
        if let Some(promise) = self.promise.take() {
            self.come_up(promise);
        }
        if let Some(Configuration { model, material, log_descriptors, .. }) = &self.in_force {
            self.logging.adopt(model, &material.host, log_descriptors);
        }
        if let Some(by) = reload {
            self.audit_reload(by, Ok(change));
        }
        if self.outcome.is_none() {
            self.is_up = true;
            self.show_ready();
        }
        if self.candidate.is_some() {
            self.present();
        }
        self.start_next();
    }

    pub(super) fn handle_refused(&mut self, seat: Seat, generation: u64, report: Vec<ReportLine>) {
        if !self.is_up {
            self.candidate = None;
            refuse_start(&report);
            self.outcome = Some(ExitCode::FAILURE);
        } else if self.is_candidate(generation) {
            self.refuse(&report);
            if self.worker.as_ref().is_some_and(|worker| !worker.serving) {
                self.offer(Seat::Worker);
            }
        } else if self.candidate.is_some() {
            report.iter().for_each(ReportLine::log);
            log::error!("generation {generation} can not be restored: {}; trying the next", Summary::of(&report));
            self.present();
        } else {
            // What was in force cannot be built any more (a CRL has expired since): only fresh files can help.
            report.iter().for_each(ReportLine::log);
            log::error!("generation {} can not be restored: {}", self.generation(), Summary::of(&report));
            let lived = self.seat(seat).take().map_or(Duration::ZERO, |worker| worker.since.elapsed());
            self.schedule_restart(lived);
            self.reload();
        }
    }

    /// Logs why a reload or an upgrade failed. Everything stays as it was.
    pub(super) fn refuse(&mut self, report: &[ReportLine]) {
        report.iter().for_each(ReportLine::log);
        let (summary, generation) = (Summary::of(report), self.generation());
        let is_reload = self.candidate.as_ref().is_none_or(|candidate| candidate.is_reload);
        let what = if is_reload { "reload" } else { "new addresses" };
        let outcome = format!("{what} refused ({summary}); generation {generation} stays in force");
        log::error!("{outcome}");
        let mut lines = waiting::lines(report);
        lines.push(outcome);
        (self.candidate, self.successor) = (None, None);
        if is_reload {
            self.note_reload(Some(report));
            self.audit_reload(self.waiting.cause(), Err(status::brief(report)));
            self.history.reloads_refused += 1;
            self.history.last_adopted = false;
            self.tell_history();
        }
        self.show_ready();
        let requests = self.waiting.finish();
        self.answer(&requests, &Outcome { success: false, lines, at_takeover: false });
        self.start_next();
    }
}
