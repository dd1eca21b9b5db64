//! The workers: started, listened to, started again when they die.
//!
//! There is one that serves, and for a while another beside it: the successor, which is to serve a configuration that the
//! one there is cannot (another user, another number of loops, another program). Whoever was replaced finishes its
//! connections among the retired.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;

use super::{FIRST_ANSWER, LAST_MOMENTS, SLOW_ANSWER, Service};
use crate::ipc::{Incoming, Outcome, ToMaster, ToWorker};
use crate::master::child::{Process, Worker, describe};
use crate::master::plan::Plan;
use crate::report::{Escaped, ReportLevel, ReportLine};
use crate::sys::reason;

/// Most messages that are taken from a worker before everything else has its turn.
const MESSAGES_AT_ONCE: usize = 64;

/// Which of the two workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// The one that serves, or is to as soon as it can.
    Worker,
    /// The one that is to take its place.
    Successor,
}

/// A worker that was replaced and finishes its connections.
pub(super) struct Retired {
    process: Process,
    /// When its time is over.
    pub(super) kill_at: Option<Instant>,
}

impl Service {
    pub(super) fn seat(&mut self, seat: Seat) -> &mut Option<Worker> {
        match seat {
            Seat::Worker => &mut self.worker,
            Seat::Successor => &mut self.successor,
        }
    }

    /// Starts a worker for the candidate, or for what is in force where there is none.
    pub(super) fn start_worker(&mut self, seat: Seat) {
        self.restart_at = None;
        let candidate = self.candidate.as_ref().map(|candidate| &candidate.configuration);
        let Some(configuration) = candidate.or(self.in_force.as_ref()) else {
            return;
        };
        let verbosity = self.logging.verbosity() as u8;
        match Worker::start(&configuration.plan, verbosity, self.notify.report_every()) {
            Ok(worker) => {
                log::debug!("started worker {}", worker.pid());
                *self.seat(seat) = Some(worker);
            }
            Err(error) => {
                let text = format!("cannot start a worker: {}", reason(&error));
                if seat == Seat::Successor {
                    self.refuse(&[ReportLine::new(ReportLevel::Error, text)]);
                } else {
                    log::error!("{text}");
                    self.schedule_restart(Duration::ZERO);
                }
            }
        }
    }

    pub(super) fn schedule_restart(&mut self, lived: Duration) {
        if !self.is_up {
            log::error!("not started: no worker could be brought up");
            self.outcome = Some(ExitCode::FAILURE);
            return;
        }
        let delay = self.backoff.delay_after(lived);
        if !delay.is_zero() {
            log::warn!("starting another worker in {} ms", delay.as_millis());
        }
        self.history.worker_restarts += 1;
        self.restart_at = Some(Instant::now() + delay);
    }

    /// The time for another worker has come.
    pub(super) fn restart(&mut self) {
        self.restart_at = None;
        if self.in_force.is_some() || self.candidate.is_some() {
            self.start_worker(Seat::Worker);
        } else {
            // The program before an upgrade has taken its configuration with it.
            self.reload();
        }
    }

    /// The successor serves: whoever served until now finishes.
    pub(super) fn succeed(&mut self) {
        let Some(successor) = self.successor.take() else {
            return;
        };
        // Their reload comes, but the numbers of those who wait are unique in one worker only.
        let requests = self.waiting.give_up();
        self.answer(&requests, &Outcome::refused("another worker takes over meanwhile: ask again"));
        if let Some(worker) = self.worker.replace(successor) {
            self.retire(worker);
        }
    }

    pub(super) fn retire(&mut self, worker: Worker) {
        log::info!("worker {} finishes its connections", worker.pid());
        let kill_at = self.hard_stop_after().map(|limit| Instant::now() + limit + LAST_MOMENTS);
        self.retired.push(Retired { process: worker.retire(), kill_at });
    }

    /// Retired workers of the program before an upgrade; their limits are theirs.
    pub(super) fn take_over_retired(&mut self, process: Process) {
        self.retired.push(Retired { process, kill_at: None });
    }

    pub(super) fn retired_ids(&self) -> impl Iterator<Item = nix::unistd::Pid> {
        self.retired.iter().map(|retired| retired.process.pid())
    }

    pub(super) fn handle_workers(&mut self) {
        for seat in [Seat::Successor, Seat::Worker] {
            self.listen_to(seat);
        }
    }

    fn listen_to(&mut self, seat: Seat) {
        let Some(worker) = self.seat(seat).as_mut().filter(|worker| worker.speaks()) else {
            return;
        };
        if let Err(error) = worker.channel.flush() {
            log::debug!("writing to the worker: {error}");
            worker.silent = Some(Instant::now());
            return;
        }
        // Taking a message may give the seat to somebody else.
        let pid = worker.pid();
        // What is left wakes the main loop again: no worker may keep it from everything else.
        for _ in 0..MESSAGES_AT_ONCE {
            let Some(worker) = self.seat(seat).as_mut().filter(|worker| worker.pid() == pid) else {
                return;
            };
            match worker.hear() {
                Ok(Incoming::Message(Some(message), _)) => self.handle_message(seat, message),
                // A client of its control socket. It hears that somebody else has taken over, once that has happened.
                Ok(Incoming::Message(None, _)) => return self.reload_or_upgrade(),
                Ok(Incoming::Nothing) => return,
                Ok(Incoming::Closed) => {
                    worker.silent = Some(Instant::now());
                    return;
                }
                Err(error) => {
                    log::error!("the worker sent nonsense: {error}");
                    worker.silent = Some(Instant::now());
                    worker.process.kill();
                    return;
                }
            }
        }
    }

    fn handle_message(&mut self, seat: Seat, message: ToMaster) {
        let draining = self.draining.is_some();
        let Some(worker) = self.seat(seat).as_mut() else {
            return;
        };
        match message {
            ToMaster::Reload { request } => self.handle_reload_request(request),
            _ if draining => {}
            ToMaster::Started { sandbox } => {
                worker.started = true;
                let uid = worker.plan.as_ref().map_or(0, |plan| plan.ids.uid);
                log::info!("worker {} runs as user {uid}: {}", worker.pid(), Escaped(&sandbox));
                self.tell_history();
                self.offer(seat);
            }
            ToMaster::Adopted { generation, .. } | ToMaster::Refused { generation, .. }
                if worker.offered.is_none_or(|offered| offered.generation != generation) =>
            {
                log::warn!("the worker answered about generation {generation}, unasked");
            }
            ToMaster::Adopted { generation, report, certificates, fingerprints } => {
                worker.offered = None;
                worker.serving = true;
                self.note_certificates(certificates);
                self.handle_adopted(seat, generation, report, fingerprints);
            }
            ToMaster::Refused { generation, report } => {
                worker.offered = None;
                self.handle_refused(seat, generation, report);
            }
        }
    }

    /// Looks which children have ended.
    pub(super) fn handle_child(&mut self) {
        self.handle_rehearsed();
        self.retired.retain(|retired| match retired.process.exit_status() {
            None => true,
            Some(status) => {
                log::info!("worker {} has finished: it {}", retired.process.pid(), describe(status));
                false
            }
        });
        for seat in [Seat::Successor, Seat::Worker] {
            if let Some(status) = self.seat(seat).as_ref().and_then(|worker| worker.process.exit_status()) {
                self.handle_death(seat, status);
            }
        }
        self.finish_draining();
    }

    fn handle_death(&mut self, seat: Seat, status: WaitStatus) {
        let Some(mut worker) = self.seat(seat).take() else {
            return;
        };
        let (pid, lived) = (worker.pid(), worker.since.elapsed());
        if seat == Seat::Worker {
            // Its clients are gone with it.
            self.waiting.give_up();
        }
        if self.draining.is_some() {
            log::info!("worker {pid} {}", describe(status));
            return;
        }
        // Its last words, if it had any, are still in the socket.
        while worker.speaks() {
            match worker.hear() {
                Ok(Incoming::Message(Some(ToMaster::Refused { generation, report }), _)) if !self.is_up => {
                    return self.handle_refused(seat, generation, report);
                }
                Ok(Incoming::Message(..)) => {}
                _ => break,
            }
        }
        log::error!("worker {pid} {} after {} s", describe(status), lived.as_secs());
        // One that never became ready was started for the candidate if it has its plan: it would not get further the next time.
        let died_of_it = worker.offered.is_some_and(|offered| self.is_candidate(offered.generation))
            || (!worker.serving && self.is_plan_of_candidate(worker.plan.as_ref()));
        if seat == Seat::Successor || (died_of_it && self.is_up) {
            let text = "the worker died of the new configuration";
            self.refuse(&[ReportLine::new(ReportLevel::Error, text)]);
        }
        if seat == Seat::Worker {
            // Whoever was to take its place may do so right away.
            self.worker = self.successor.take();
            if self.worker.is_none() {
                self.schedule_restart(lived);
            }
        }
    }

    fn is_plan_of_candidate(&self, plan: Option<&Plan>) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| plan == Some(&candidate.configuration.plan))
    }

    /// The workers answer those who watch the service, and see only a part of it.
    pub(super) fn tell_history(&mut self) {
        self.send_to(Seat::Worker, &ToWorker::History(self.history), &[]);
        self.send_to(Seat::Successor, &ToWorker::History(self.history), &[]);
    }

    pub(super) fn send(&mut self, message: &ToWorker) {
        self.send_to(Seat::Worker, message, &[]);
    }

    pub(super) fn send_with(&mut self, message: &ToWorker, descriptors: &[Arc<OwnedFd>]) {
        self.send_to(Seat::Worker, message, descriptors);
    }

    fn send_to(&mut self, seat: Seat, message: &ToWorker, descriptors: &[Arc<OwnedFd>]) {
        if let Some(worker) = self.seat(seat).as_mut().filter(|worker| worker.plan.is_some()) {
            if worker.channel.is_flooded() {
                if worker.silent.is_none() {
                    log::error!("worker {} reads nothing of what it is told and is killed", worker.pid());
                    worker.silent = Some(Instant::now());
                    worker.process.kill();
                }
                return;
            }
            let sent = worker.channel.queue(message, descriptors).and_then(|()| worker.channel.flush());
            if let Err(error) = sent {
                log::debug!("writing to the worker: {error}");
            }
        }
    }

    /// When a worker has to be looked at again.
    pub(super) fn next_check(&self) -> Option<Instant> {
        let workers = self.worker.iter().chain(&self.successor);
        let checks = workers.flat_map(|worker| {
            let full = (worker.channel.has_outgoing() && worker.speaks()).then(|| Instant::now() + super::FULL_SOCKET);
            let answer = if worker.serving {
                worker.offered.map(|offered| offered.since + SLOW_ANSWER)
            } else {
                Some(worker.since + FIRST_ANSWER)
            };
            [full, worker.silent.map(|since| since + LAST_MOMENTS), answer]
        });
        checks.chain(self.retired.iter().map(|retired| retired.kill_at)).flatten().min()
    }

    /// Ends workers that have had their time.
    pub(super) fn check_workers(&mut self, now: Instant) {
        for retired in &mut self.retired {
            if retired.kill_at.is_some_and(|at| at <= now) {
                log::warn!("worker {} did not finish in time and is killed", retired.process.pid());
                retired.process.kill();
                retired.kill_at = None;
            }
        }
        for seat in [Seat::Successor, Seat::Worker] {
            let Some(worker) = self.seat(seat) else {
                continue;
            };
            let pid = worker.pid();
            if worker.silent.is_some_and(|since| since + LAST_MOMENTS <= now) {
                log::error!("worker {pid} hangs at its end and is killed");
                worker.silent = Some(now);
                worker.process.kill();
            } else if !worker.serving && worker.since + FIRST_ANSWER <= now {
                log::error!("worker {pid} is not ready after {} s and is killed", FIRST_ANSWER.as_secs());
                worker.since = now;
                worker.process.kill();
            } else if let Some(offered) = worker.offered.as_mut().filter(|_| worker.serving) {
                if offered.since + SLOW_ANSWER <= now {
                    offered.since = now;
                    log::warn!("worker {pid} has not answered to the reload for {} s", SLOW_ANSWER.as_secs());
                }
            }
        }
    }
}
