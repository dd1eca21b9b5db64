//! The end of the service.

use std::process::ExitCode;
use std::time::Instant;

use super::{LAST_MOMENTS, Service};
use crate::ipc::ToWorker;

/// Stopping.
pub(super) struct Draining {
    /// When the worker is killed.
    pub(super) kill_at: Option<Instant>,
}

impl Service {
    pub(super) fn drain(&mut self) {
        let limit = self.in_force.as_ref().and_then(|configuration| configuration.model.process.hard_stop_after);
        log::info!("stopping: no new connections");
        self.listeners.close_all();
        (self.candidate, self.collecting, self.restart_at) = (None, None, None);
        if self.worker.as_ref().is_some_and(|worker| worker.serving) {
            self.draining = Some(Draining { kill_at: limit.map(|limit| Instant::now() + limit + LAST_MOMENTS) });
            self.send(&ToWorker::Drain { limit });
            self.show_stopping();
        } else {
            // Nobody is served: there is nothing to wait for.
            self.show_stopping();
            self.worker = None;
            self.outcome = Some(ExitCode::SUCCESS);
        }
    }

    pub(super) fn stop_now(&mut self) {
        log::warn!("stopping now: open connections are cut");
        self.send(&ToWorker::Stop);
        let kill_at = Instant::now() + LAST_MOMENTS;
        self.draining = Some(Draining { kill_at: Some(kill_at) });
    }
}
