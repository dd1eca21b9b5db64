//! Signals as a list that the main loop takes when its pipe becomes readable.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc::c_int;
use nix::sys::signal::SigSet;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// What the operator or the kernel wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// HUP: read everything again.
    Reload,
    /// USR2: execute the program again.
    Upgrade,
    /// USR1: drain. Asking twice changes nothing.
    SoftStop,
    /// TERM, INT: drain; the second time in a hurry, the third at once.
    Stop,
    /// CHLD: a child has ended.
    Child,
}

/// Order matters: a child that ends may be what another program was waiting for, and with it this one is over. What was asked
/// for comes before.
const KINDS: [(c_int, Signal); 6] = [
    (SIGTERM, Signal::Stop),
    (SIGINT, Signal::Stop),
    (SIGUSR1, Signal::SoftStop),
    (SIGHUP, Signal::Reload),
    (SIGUSR2, Signal::Upgrade),
    (SIGCHLD, Signal::Child),
];

/// Until [`Signals::new`], asking for a reload would end the process: such signals wait. Those that ask for the end do not.
///
/// # Errors
/// As sigprocmask(2).
pub(super) fn postpone_reloads() -> io::Result<()> {
    Ok(reloads().thread_block()?)
}

fn reloads() -> SigSet {
    [nix::sys::signal::Signal::SIGHUP, nix::sys::signal::Signal::SIGUSR2].into_iter().collect()
}

/// Signals are not for this thread: one that is about to be another program's would be lost in it.
pub(super) fn keep_out() {
    let _ = all().thread_block();
}

fn all() -> SigSet {
    KINDS.iter().filter_map(|(number, _)| nix::sys::signal::Signal::try_from(*number).ok()).collect()
}

/// The signals of the master.
pub(super) struct Signals {
    pipe: UnixStream,
    raised: [Arc<AtomicBool>; KINDS.len()],
}

impl Signals {
    /// Takes over the signals of this process.
    ///
    /// # Errors
    /// As sigaction(2).
    pub(super) fn new() -> io::Result<Self> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let raised = KINDS.map(|_| Arc::new(AtomicBool::new(false)));
        for ((number, _), flag) in KINDS.iter().zip(&raised) {
            // The flag first: whoever reads the pipe must find it set. Handlers run in the order of registration.
            signal_hook::flag::register(*number, flag.clone())?;
            signal_hook::low_level::pipe::register(*number, write.try_clone()?)?;
        }
        // Those that came before, in this program or in the one that executed it.
        all().thread_unblock()?;
        Ok(Self { pipe, raised })
    }

    /// From now on signals wait, for the program that this process is about to execute.
    ///
    /// # Errors
    /// As sigprocmask(2).
    pub(super) fn postpone(&self) -> io::Result<()> {
        Ok(all().thread_block()?)
    }

    /// Raises again what has arrived and was not taken: with [`Self::postpone`] before it, that waits too.
    pub(super) fn put_back(&self) {
        for ((number, _), flag) in KINDS.iter().zip(&self.raised) {
            if flag.swap(false, Ordering::SeqCst) {
                // For this thread, which is the one that goes on in the other program.
                let _ = signal_hook::low_level::raise(*number);
            }
        }
    }

    /// Takes signals again.
    ///
    /// # Errors
    /// As sigprocmask(2).
    pub(super) fn resume(&self) -> io::Result<()> {
        Ok(all().thread_unblock()?)
    }

    /// What was raised since the last call, each once.
    pub(super) fn take(&mut self) -> Vec<Signal> {
        while matches!(self.pipe.read(&mut [0; 64]), Ok(1..)) {}
        let raised = KINDS.iter().zip(&self.raised).filter(|(_, flag)| flag.swap(false, Ordering::SeqCst));
        raised.map(|((_, signal), _)| *signal).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn a_signal_wakes_the_loop_and_is_taken_once() {
        let mut signals = Signals::new().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR2).unwrap();
        let mut set = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut set, PollTimeout::from(5_000u16)).unwrap(), 1);
        // Children of other tests may end meanwhile.
        let taken = |signals: &mut Signals| signals.take().iter().filter(|one| **one == Signal::Upgrade).count();
        assert_eq!(taken(&mut signals), 1);
        assert_eq!(taken(&mut signals), 0);
    }

    #[test]
    fn what_was_raised_and_not_taken_waits_for_the_other_program() {
        let mut signals = Signals::new().unwrap();
        for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGCHLD] {
            nix::sys::signal::raise(signal).unwrap();
        }
        signals.postpone().unwrap();
        signals.put_back();
        assert_eq!(signals.take(), []);
        signals.resume().unwrap();
        assert_eq!(signals.take(), [Signal::Stop, Signal::Child], "what was asked for comes first");
    }
}
