//! What the service manager hears: the state of the service in a line, and that it is alive.

use std::time::{Duration, Instant, SystemTime};

use super::Service;
use crate::ipc::{Beat, Certificates};
use crate::log::time;
use crate::report::{ReportLevel, ReportLine, Summary};

/// How often the manager is asked for more time while connections finish.
const EXTEND_EVERY: Duration = Duration::from_secs(5);

/// What the status line is made of, beside what the service knows anyway.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Open connections, by the last report.
    connections: u64,
    certificates: Certificates,
    last_reload: Option<LastReload>,
    /// When the manager is asked for more time again.
    extend_at: Option<Instant>,
}

#[derive(Debug)]
struct LastReload {
    at: SystemTime,
    /// Why it was refused.
    refused: Option<String>,
}

/// Why a reload was refused, in a sentence.
pub(super) fn brief(report: &[ReportLine]) -> String {
    let error = report.iter().find(|line| line.level == ReportLevel::Error);
    error.map_or_else(|| Summary::of(report).to_string(), |line| line.brief().to_owned())
}

impl Service {
    /// The worker's report: all of its loops move. Only that feeds the watchdog of the manager, so that a loop that hangs, a
    /// worker that is stopped and a master that is stuck all are the end of the service.
    pub(super) fn handle_beats(&mut self) {
        let worker = self.worker.as_ref().filter(|worker| worker.serving);
        if let Some(Beat { connections }) = worker.and_then(|worker| Beat::receive_last(worker.beats.as_ref()?)) {
            self.standing.connections = connections;
            self.notify.alive();
            self.show_status();
        }
    }

    /// Whether there is a worker that reports.
    fn is_heard(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.serving && worker.beats.is_some())
    }

    /// When the manager has to hear from the master because no worker can speak: one builds its first snapshot, or is started
    /// again, or is of the program before an upgrade.
    pub(super) fn next_sign(&self) -> Option<Instant> {
        let alive = if self.is_heard() { None } else { self.notify.alive_due() };
        [alive, self.standing.extend_at].into_iter().flatten().min()
    }

    /// Gives the signs that are due.
    pub(super) fn give_signs(&mut self, now: Instant) {
        if !self.is_heard() && self.notify.alive_due().is_some_and(|due| due <= now) {
            self.notify.alive();
        }
        if self.standing.extend_at.is_some_and(|at| at <= now) {
            self.extend(now);
        }
    }

    /// The reload is over; the manager hears it together with that the service is ready again.
    pub(super) fn note_reload(&mut self, refusal: Option<&[ReportLine]>) {
        self.standing.last_reload = Some(LastReload { at: SystemTime::now(), refused: refusal.map(brief) });
    }

    pub(super) fn note_certificates(&mut self, certificates: Certificates) {
        self.standing.certificates = certificates;
    }

    /// The service is up, for the first time or after a reload; unless one is under way.
    pub(super) fn show_ready(&mut self) {
        let status = self.status();
        if !self.is_changing() {
            self.notify.ready(&status);
        }
    }

    pub(super) fn show_stopping(&mut self) {
        let status = self.status();
        self.notify.stopping(&status);
        self.extend(Instant::now());
    }

    fn show_status(&mut self) {
        let status = self.status();
        self.notify.status(&status);
    }

    /// Without a limit to the drain the manager's own applies.
    fn extend(&mut self, now: Instant) {
        let end = self.draining.as_ref().and_then(|draining| draining.kill_at);
        self.standing.extend_at = end.filter(|end| *end > now).map(|end| {
            self.notify.extend((end - now).min(EXTEND_EVERY * 2) + EXTEND_EVERY);
            now + EXTEND_EVERY
        });
    }

    fn status(&self) -> String {
        let Standing { connections, certificates, last_reload, .. } = &self.standing;
        let connections = counted(*connections, "connection");
        if let Some(draining) = &self.draining {
            let left = draining.kill_at.map(|end| end.saturating_duration_since(Instant::now()).as_secs());
            return match left {
                Some(left) => format!("stopping: {connections} to finish, {left} s at most"),
                None => format!("stopping: {connections} to finish"),
            };
        }
        let mut status = format!("generation {}; {connections}", self.generation());
        if certificates.count > 0 {
            status += &format!("; {}", counted(certificates.count, "certificate"));
        }
        if let Some(seconds) = certificates.first_expiry {
            let which = if certificates.count > 1 { "the first " } else { "" };
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            status += &format!(", {which}expires {}", time::stamp(at));
        }
        match last_reload {
            None => {}
            Some(LastReload { at, refused: None }) => status += &format!("; reloaded {}", time::stamp(*at)),
            Some(LastReload { at, refused: Some(why) }) => {
                status += &format!("; reload refused {}: {why}", time::stamp(*at));
            }
        }
        status
    }
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
