//! The worker as the master sees it: a child process and the socket to it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::ipc::{Channel, Start, ToWorker, WORKER_ARGUMENT};

/// What a worker's libraries may want to know; everything else of the environment stays in the master.
const ENVIRONMENT_KEPT: [&str; 3] = ["JOURNAL_STREAM", "RUST_BACKTRACE", "TZ"];

/// A worker that lived this long crashed for a new reason.
const LIVED_WELL: Duration = Duration::from_secs(10);
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_LONGEST: Duration = Duration::from_secs(10);

/// What a worker was asked to adopt and has not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered {
    /// Number of the configuration.
    pub(super) generation: u64,
    /// When it was sent, or the log last said that the answer is late.
    pub(super) since: Instant,
}

/// A running worker.
pub(super) struct Worker {
    child: Child,
    /// The socket to it, non-blocking.
    pub(super) channel: Channel,
    /// Its reports, if anybody wants to hear them, non-blocking.
    pub(super) beats: Option<UnixDatagram>,
    /// When it was started.
    pub(super) since: Instant,
    /// It has dropped its privileges and waits for a configuration.
    pub(super) started: bool,
    /// It has adopted a configuration and accepts connections.
    pub(super) serving: bool,
    /// The configuration that it is building.
    pub(super) offered: Option<Offered>,
    /// Its socket is closed: it is about to end, or hangs.
    pub(super) silent: Option<Instant>,
}

impl Worker {
    /// Starts this very program again as a worker; also after its file was replaced by a package upgrade. Standard output and error
    /// are shared, standard input is the socket.
    ///
    /// # Errors
    /// No process or descriptor is left, or /proc is not mounted.
    pub(super) fn start(settings: Start) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let kept = ENVIRONMENT_KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let child = Command::new("/proc/self/exe")
            .arg0("bowline: worker")
            .arg(WORKER_ARGUMENT)
            .env_clear()
            .envs(kept)
            .stdin(OwnedFd::from(theirs))
            .spawn()?;
        let mut channel = Channel::new(ours);
        let mut beats = None;
        let mut descriptors: Vec<Arc<OwnedFd>> = Vec::new();
        if settings.report_every.is_some() {
            let (ours, theirs) = UnixDatagram::pair()?;
            // The flag belongs to the socket, not to the process that sets it.
            theirs.set_nonblocking(true)?;
            ours.set_nonblocking(true)?;
            beats = Some(ours);
            descriptors.push(Arc::new(theirs.into()));
        }
        channel.queue(&ToWorker::Start(settings), &descriptors)?;
        let since = Instant::now();
        Ok(Self { child, channel, beats, since, started: false, serving: false, offered: None, silent: None })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
    }
}

impl Drop for Worker {
    /// The master gives up a worker only when it has ended or must not go on.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(number)) => {
            let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
            format!("was killed by signal {number} ({name})")
        }
        (None, None) => "ended".to_owned(),
    }
}

/// When the next worker may start after one has died.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    early_deaths: u32,
}

impl Backoff {
    /// How long to wait after a worker that lived for `lived`: nothing, or twice as long for each that died early.
    pub(super) fn delay_after(&mut self, lived: Duration) -> Duration {
        if lived >= LIVED_WELL {
            self.early_deaths = 0;
            return Duration::ZERO;
        }
        let delay = BACK_OFF_FIRST * 2u32.pow(self.early_deaths.min(16));
        self.early_deaths += 1;
        delay.min(BACK_OFF_LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_deaths_are_waited_for_longer_and_longer_up_to_a_bound() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.delay_after(Duration::from_secs(3600)), Duration::ZERO);
        let delays: Vec<u128> = (0..9).map(|_| backoff.delay_after(Duration::ZERO).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        for _ in 0..100 {
            assert!(backoff.delay_after(Duration::ZERO) <= BACK_OFF_LONGEST);
        }
        assert_eq!(backoff.delay_after(LIVED_WELL), Duration::ZERO);
        assert_eq!(backoff.delay_after(Duration::ZERO), BACK_OFF_FIRST);
    }

    #[test]
    fn endings_in_words() {
        assert_eq!(describe(ExitStatus::from_raw(1 << 8)), "exited with status 1");
        assert_eq!(describe(ExitStatus::from_raw(6)), "was killed by signal 6 (SIGABRT)");
    }
}
