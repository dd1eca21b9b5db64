//! The worker: started, listened to, started again when it dies.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::Service;
use crate::ipc::{Incoming, Start, ToMaster, ToWorker};
use crate::master::child::{Worker, describe};
use crate::master::plan::Fixed;
use crate::report::{Escaped, ReportLevel, ReportLine};
use crate::sys::reason;

impl Service {
    pub(super) fn start_worker(&mut self) {
        self.restart_at = None;
        let Fixed { ids, loops } = self.fixed;
        let verbosity = self.logging.verbosity() as u8;
        let report_every = self.notify.report_every();
        match Worker::start(Start { uid: ids.uid, gid: ids.gid, loops, verbosity, report_every }) {
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

    pub(super) fn schedule_restart(&mut self, lived: Duration) {
        if self.in_force.is_none() {
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

    pub(super) fn handle_worker(&mut self) {
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
                self.tell_history();
                self.offer();
            }
            ToMaster::Adopted { generation, .. } | ToMaster::Refused { generation, .. }
                if worker.offered.is_none_or(|offered| offered.generation != generation) =>
            {
                log::warn!("the worker answered about generation {generation}, unasked");
            }
            ToMaster::Adopted { generation, report, certificates } => {
                worker.offered = None;
                worker.serving = true;
                self.note_certificates(certificates);
                self.handle_adopted(generation, report);
            }
            ToMaster::Refused { generation, report } => {
                worker.offered = None;
                self.handle_refused(generation, report);
            }
        }
    }

    pub(super) fn handle_child(&mut self) {
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

    /// The worker answers those who watch the service, and sees only a part of it.
    pub(super) fn tell_history(&mut self) {
        self.send(&ToWorker::History(self.history));
    }

    pub(super) fn send(&mut self, message: &ToWorker) {
        if let Some(worker) = &mut self.worker {
            let sent = worker.channel.queue(message, &[]).and_then(|()| worker.channel.flush());
            if let Err(error) = sent {
                log::debug!("writing to the worker: {error}");
            }
        }
    }
}
