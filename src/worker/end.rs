//! The end of a worker: drain, stop, or a master that is gone.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use super::Worker;
use crate::event_loop::{Command, Handle};
use crate::ipc::{Incoming, ToWorker};

/// How long the loops may take to close everything when told to stop now.
const LAST_MOMENTS: Duration = Duration::from_secs(1);
/// How long the last answers to the clients of control sockets may take.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How often an ending worker looks whether its loops have ended.
const END_CHECK: Duration = Duration::from_millis(20);

/// Why the main thread leaves its loop over messages.
pub(super) enum Ending {
    Drain(Option<Duration>),
    Stop,
    /// The socket is closed: another worker has taken the place, or the master is gone.
    MasterHasHungUp,
}

impl Worker {
    pub(super) fn end(&mut self, ending: Ending) -> io::Result<()> {
        self.ending.store(true, Ordering::SeqCst);
        let limit = match ending {
            Ending::Stop => return self.stop(),
            // Whoever watches the service may go on asking how far it is.
            Ending::Drain(limit) => limit,
            Ending::MasterHasHungUp => {
                // Whoever takes over answers in its place.
                if let Some(control) = &self.control {
                    control.close();
                }
                self.hang_up();
                log::info!(
                    "another worker takes over or the master is gone; finishing {} connections",
                    self.connections()
                );
                self.hard_stop_after
            }
        };
        let deadline = limit.map(|limit| Instant::now() + limit);
        self.send_to_loops(|| Command::Drain { deadline });
        self.wait_for_loops(None)
    }

    fn stop(&mut self) -> io::Result<()> {
        self.send_to_loops(|| Command::Stop);
        self.wait_for_loops(Some(Instant::now() + LAST_MOMENTS))
    }

    fn send_to_loops(&self, command: impl Fn() -> Command) {
        for handle in self.loops.iter() {
            handle.send(command());
        }
    }

    fn connections(&self) -> u64 {
        self.loops.iter().map(|handle| u64::from(handle.connections())).sum()
    }

    /// Waits until every loop has ended, for `until` at most, or the master loses patience.
    fn wait_for_loops(&mut self, until: Option<Instant>) -> io::Result<()> {
        let mut listening = true;
        let mut orphaned = false;
        let pause = PollTimeout::try_from(END_CHECK).unwrap_or(PollTimeout::ZERO);
        while !self.loops.iter().all(Handle::is_finished) && until.is_none_or(|until| Instant::now() < until) {
            if !orphaned && getppid() != self.master {
                log::error!("the master is gone; finishing {} connections", self.connections());
                // Nobody else is left to decide: a TERM for this process ends it, also one that came before.
                asked_to_end().thread_unblock()?;
                orphaned = true;
            }
            let mut set = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
            let watched = if listening { &mut set[..] } else { &mut [] };
            if !matches!(poll(watched, pause), Ok(1..)) {
                continue;
            }
            match self.channel.poll_receive() {
                Ok(Incoming::Message(ToWorker::Stop, _)) if until.is_none() => return self.stop(),
                Ok(Incoming::Message(ToWorker::Drain { limit }, _)) if until.is_none() => {
                    let deadline = limit.map(|limit| Instant::now() + limit);
                    self.send_to_loops(|| Command::Drain { deadline });
                }
                Ok(Incoming::Message(ToWorker::Reloaded { request, outcome }, _)) => {
                    self.handle_reloaded(request, outcome)
                }
                Ok(Incoming::Message(..) | Incoming::Nothing) => {}
                Ok(Incoming::Closed) | Err(_) => {
                    listening = false;
                    self.hang_up();
                }
            }
        }
        if let Some(control) = &self.control {
            control.finish(LAST_ANSWERS);
        }
        Ok(())
    }

    /// Nobody answers to reloads any more.
    fn hang_up(&self) {
        if let Some(control) = &self.control {
            control.hang_up();
        }
    }
}

/// The signals that ask a process to end or to reload.
pub(super) fn asked_to_end() -> SigSet {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2].into_iter().collect()
}
