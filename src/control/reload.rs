//! `reload`: the master is asked, and the client waits for the outcome. The answer is that of HAProxy's master socket.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::command::Then;
use super::lock;
use super::session::Session;
use crate::ipc::{Outbox, Outcome, ToMaster};

/// How long an outcome is waited for: far longer than any reload takes.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long another worker may take to take over: more than the master gives it to be ready, less than systemd gives a reload.
const TAKEOVER: Duration = Duration::from_secs(65);
/// How often a client that waits is looked at: one that has gone gives its place back.
const LOOK: Duration = Duration::from_millis(500);

/// The way to the master, and who waits for it.
pub(super) struct Master {
    outbox: Outbox,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    answers: HashMap<u64, mpsc::Sender<Outcome>>,
    /// What will be true when another worker takes over, and since when that is expected.
    at_takeover: Vec<(u64, Outcome, Instant)>,
}

impl Master {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self { outbox, waiting: Mutex::default() }
    }

    /// Asks for a reload; the outcome comes through the channel.
    fn reload(&self) -> io::Result<(u64, mpsc::Receiver<Outcome>)> {
        let (answer, outcome) = mpsc::channel();
        let mut waiting = lock(&self.waiting);
        waiting.last += 1;
        let request = waiting.last;
        waiting.answers.insert(request, answer);
        drop(waiting);
        self.outbox.send(&ToMaster::Reload { request }).inspect_err(|_| self.forget(request))?;
        Ok((request, outcome))
    }

    fn forget(&self, request: u64) {
        lock(&self.waiting).answers.remove(&request);
    }

    /// The master has answered.
    pub(super) fn handle(&self, request: u64, outcome: Outcome) {
        lock(&self.waiting).handle(request, outcome);
    }

    /// The master will answer no more: another worker has taken over, or it is gone.
    pub(super) fn hang_up(&self) {
        let mut waiting = lock(&self.waiting);
        for (request, outcome, _) in std::mem::take(&mut waiting.at_takeover) {
            waiting.handle(request, Outcome { at_takeover: false, ..outcome });
        }
        // Who still waits sees that nobody holds the other end.
        waiting.answers.clear();
    }
}

impl Waiting {
    fn handle(&mut self, request: u64, outcome: Outcome) {
        // What comes later may be the failure of what was to come.
        self.at_takeover.retain(|(coming, ..)| *coming != request);
        if outcome.at_takeover {
            self.at_takeover.push((request, outcome, Instant::now()));
        } else if let Some(answer) = self.answers.remove(&request) {
            // Whoever has asked may have gone.
            let _ = answer.send(outcome);
        }
    }

    /// Whether a takeover that was announced should have come. A program that has taken the place of the master's and then fails
    /// cannot say so to the worker that it found.
    fn is_overdue(&self, request: u64, now: Instant) -> bool {
        self.at_takeover
            .iter()
            .any(|(coming, _, since)| *coming == request && now.saturating_duration_since(*since) >= TAKEOVER)
    }
}

/// `reload`.
pub(super) fn reload(session: &mut Session<'_>, _: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let master = &session.site.master;
    let outcome = match master.reload() {
        Ok((request, outcome)) => {
            let outcome = wait(session, request, &outcome);
            master.forget(request);
            outcome?.unwrap_or_else(|| Outcome::refused("the master has not answered; ask again"))
        }
        Err(_) => Outcome::refused("the master is gone"),
    };
    if outcome.success {
        writeln!(out, "Success=1\n--")?;
    } else {
        session.fail(out, "Success=0\n--")?;
    }
    for line in &outcome.lines {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(Then::Stay)
}

/// `None`: there was no answer. An error: the client has gone.
fn wait(session: &Session<'_>, request: u64, outcome: &mpsc::Receiver<Outcome>) -> io::Result<Option<Outcome>> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match outcome.recv_timeout(LOOK) {
            Ok(outcome) => return Ok(Some(outcome)),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if lock(&session.site.master.waiting).is_overdue(request, Instant::now()) {
            let text = "no other worker has taken over: what ran before goes on, and the log says why";
            return Ok(Some(Outcome::refused(text)));
        }
        // Both directions: one that has only said all it has to say waits for the answer.
        let mut set = [PollFd::new(session.socket.as_fd(), PollFlags::empty())];
        if poll(&mut set, PollTimeout::ZERO).is_ok_and(|count| count > 0) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_that_does_not_come_is_not_waited_for_for_ever() {
        let mut waiting = Waiting::default();
        let announced = Outcome { success: true, lines: Vec::new(), at_takeover: true };
        waiting.handle(1, announced);
        let now = Instant::now();
        assert!(!waiting.is_overdue(1, now) && !waiting.is_overdue(2, now + TAKEOVER));
        assert!(waiting.is_overdue(1, now + TAKEOVER));
        // The failure of what was announced has come.
        waiting.handle(1, Outcome::refused("a reason"));
        assert!(!waiting.is_overdue(1, now + TAKEOVER));
    }
}
