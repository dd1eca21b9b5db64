//! Clients of control sockets that wait for the outcome of a reload.

use crate::report::{ReportLevel, ReportLine};

/// Reloads that are waited for at a time. There are no more clients: this bounds what a worker that has gone mad has noted here.
/// What it is answered is bounded by the channel to it, which it has to read.
const REQUESTS_MAX: usize = 1000;
/// Lines of an answer; the log has them all.
const LINES_MAX: usize = 1000;

/// Who waits. A reload that began before it was asked for may have read what has changed since: it does not count.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    next: Vec<u64>,
    running: Vec<u64>,
    /// What else asks for the next reload, in a word, and what has asked for the one that runs.
    next_cause: Option<&'static str>,
    running_cause: Option<&'static str>,
}

impl Waiting {
    /// Notes a request for the next reload; false: there is no room.
    pub(super) fn add(&mut self, request: u64) -> bool {
        let room = self.next.len() + self.running.len() < REQUESTS_MAX;
        if room {
            self.next.push(request);
        }
        room
    }

    /// Notes what asks for the next reload and does not wait for it.
    pub(super) fn note(&mut self, cause: &'static str) {
        self.next_cause = Some(cause);
    }

    /// A reload begins: it is the one that was waited for.
    pub(super) fn begin(&mut self) {
        self.running.append(&mut self.next);
        self.running_cause = self.next_cause.take();
    }

    /// Who has asked for the reload that runs, in a word; to be asked before it is over. `None`: nobody outside.
    pub(super) fn cause(&self) -> Option<&'static str> {
        if self.running.is_empty() { self.running_cause } else { Some("control socket") }
    }

    /// Who waits for the reload that runs.
    pub(super) fn running(&self) -> Vec<u64> {
        self.running.clone()
    }

    /// The reload is over; whom to tell.
    pub(super) fn finish(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.running)
    }

    /// There will be no reload any more; whom to tell.
    pub(super) fn give_up(&mut self) -> Vec<u64> {
        self.begin();
        self.finish()
    }
}

/// A report for somebody who waits: without what is in force beside it, and not without end.
pub(super) fn lines(report: &[ReportLine]) -> Vec<String> {
    let findings = report.iter().filter(|line| line.level != ReportLevel::Fact);
    let mut lines: Vec<String> = findings.flat_map(|line| line.text.lines()).map(str::to_owned).collect();
    let surplus = lines.len().saturating_sub(LINES_MAX);
    if surplus > 0 {
        lines.truncate(LINES_MAX);
        lines.push(format!("{surplus} more lines are in the log"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_that_runs_already_is_not_the_one() {
        let mut waiting = Waiting::default();
        waiting.add(1);
        waiting.begin();
        waiting.add(2);
        assert_eq!(waiting.finish(), [1]);
        assert_eq!(waiting.finish(), [] as [u64; 0], "2 has not begun");
        waiting.add(3);
        waiting.begin();
        assert_eq!(waiting.finish(), [2, 3]);
        waiting.add(4);
        assert_eq!(waiting.give_up(), [4]);
    }

    #[test]
    fn a_reload_is_known_by_who_has_asked_for_it() {
        let mut waiting = Waiting::default();
        waiting.note("signal");
        assert_eq!(waiting.cause(), None, "it has not begun");
        waiting.begin();
        waiting.add(1);
        assert_eq!(waiting.cause(), Some("signal"));
        waiting.finish();
        waiting.begin();
        assert_eq!(waiting.cause(), Some("control socket"));
        waiting.finish();
        waiting.begin();
        assert_eq!(waiting.cause(), None);
    }

    #[test]
    fn the_number_of_those_who_wait_is_bounded() {
        let mut waiting = Waiting::default();
        let noted = (0..5000).filter(|request| waiting.add(*request)).count();
        assert_eq!((noted, waiting.give_up().len()), (REQUESTS_MAX, REQUESTS_MAX));
    }

    #[test]
    fn an_answer_has_findings_only_and_an_end() {
        let fact = ReportLine::new(ReportLevel::Fact, "certificate x");
        let error = ReportLine::new(ReportLevel::Error, "a\nb");
        assert_eq!(lines(&[fact, error.clone()]), ["error: a", "b"]);
        let many = vec![error; 600];
        let answer = lines(&many);
        assert_eq!((answer.len(), answer.last().unwrap().as_str()), (1001, "200 more lines are in the log"));
    }
}
