//! The end of the service: nobody is taken any more, and everybody may finish, for a while.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{LAST_MOMENTS, Service};
use crate::ipc::{Outcome, ToWorker};

/// What is left to those who still finish when the end is asked for again.
const HURRY: Duration = Duration::from_secs(2);

/// Stopping.
pub(super) struct Draining {
    /// When the worker is killed.
    pub(super) kill_at: Option<Instant>,
    /// The end was asked for more than once.
    hurried: bool,
}

impl Service {
    pub(super) fn hard_stop_after(&self) -> Option<Duration> {
        self.in_force.as_ref().and_then(|configuration| configuration.model.process.hard_stop_after)
    }

    pub(super) fn drain(&mut self) {
        log::info!("stopping: no new connections");
        self.listeners.close_to_clients();
        let requests = self.waiting.give_up();
        self.answer(&requests, &Outcome::refused("the service is stopping"));
        (self.candidate, self.collecting, self.rehearsal, self.restart_at) = (None, None, None, None);
        (self.successor, self.wish) = (None, None);
        match self.worker.take() {
            Some(worker) if worker.serving && worker.plan.is_none() => self.retire(worker),
            Some(worker) if worker.serving => self.worker = Some(worker),
            // Nobody is served by it: there is nothing to wait for.
            _ => {}
        }
        self.drain_within(self.hard_stop_after(), false);
        self.send(&ToWorker::Drain { limit: self.hard_stop_after() });
        self.show_stopping();
        self.finish_draining();
    }

    /// Asked for the end again: a few seconds, and asked once more, nothing.
    pub(super) fn stop_sooner(&mut self) {
        if self.draining.as_ref().is_some_and(|draining| draining.hurried) {
            log::warn!("stopping now: open connections are cut");
            self.drain_within(Some(Duration::ZERO), true);
            self.send(&ToWorker::Stop);
        } else {
            log::warn!("stopping sooner: open connections are cut in {} s", HURRY.as_secs());
            self.drain_within(Some(HURRY), true);
            self.send(&ToWorker::Drain { limit: Some(HURRY) });
            self.show_stopping();
        }
    }

    /// Sets the time after which whoever is left is killed. Retired workers cannot be told to hurry.
    fn drain_within(&mut self, limit: Option<Duration>, hurried: bool) {
        let sooner = |before: Option<Instant>, new: Option<Instant>| match (before, new) {
            (Some(before), Some(new)) => Some(before.min(new)),
            (before, new) => before.or(new),
        };
        let end = limit.map(|limit| Instant::now() + limit);
        let before = self.draining.as_ref().and_then(|draining| draining.kill_at);
        self.draining = Some(Draining { kill_at: sooner(before, end.map(|end| end + LAST_MOMENTS)), hurried });
        for retired in &mut self.retired {
            retired.kill_at = sooner(retired.kill_at, end);
        }
    }

    /// The last worker has ended.
    pub(super) fn finish_draining(&mut self) {
        if self.draining.is_some() && self.worker.is_none() && self.retired.is_empty() {
            log::info!("stopped");
            self.outcome = Some(ExitCode::SUCCESS);
        }
    }

    pub(super) fn check_draining(&mut self, now: Instant) {
        let kill_at = self.draining.as_ref().and_then(|draining| draining.kill_at);
        if let (Some(draining), Some(worker)) = (&mut self.draining, &self.worker) {
            if kill_at.is_some_and(|at| at <= now) {
                log::warn!("worker {} did not stop in time and is killed", worker.pid());
                worker.process.kill();
                draining.kill_at = None;
            }
        }
    }
}
