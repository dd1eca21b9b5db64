//! The worker as the master sees it: a child process and the socket to it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::plan::Plan;
use crate::ipc::{Channel, Incoming, Start, ToMaster, ToWorker, WORKER_ARGUMENT};

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

/// A child process by its id alone, because one may be left to us by the program that this process executed before. Dropped, it
/// is killed.
#[derive(Debug)]
pub(super) struct Process(Pid);

impl Process {
    /// Takes over a child of this process that nobody else waits for.
    pub(super) fn new(pid: Pid) -> Self {
        Self(pid)
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Pid {
        self.0
    }

    /// How it ended, if it has; to be asked once after that.
    pub(super) fn exit_status(&self) -> Option<WaitStatus> {
        match waitpid(self.0, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => None,
            Ok(ended) => Some(ended),
            // No such child: there is nothing to wait for.
            Err(_) => Some(WaitStatus::Exited(self.0, 0)),
        }
    }

    /// Ends it at once.
    pub(super) fn kill(&self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

impl Drop for Process {
    /// The master gives up a child only when it has ended or must not go on.
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            self.kill();
            let _ = waitpid(self.0, None);
        }
    }
}

/// A running worker.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its process.
    pub(super) process: Process,
    /// The socket to it, non-blocking.
    pub(super) channel: Channel,
    /// Its reports, if anybody wants to hear them, non-blocking.
    pub(super) beats: Option<UnixDatagram>,
    /// What it was started as. `None`: by the program before an upgrade. Then nothing is said to it, because the two
    /// programs may speak differently, and whatever it says asks for a reload, as nothing else is left to ask for; it serves
    /// until the socket is closed.
    pub(super) plan: Option<Plan>,
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
    pub(super) fn start(plan: &Plan, verbosity: u8, report_every: Option<Duration>) -> io::Result<Self> {
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
        let process = Process(Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?));
        let mut channel = Channel::new(ours).without_descriptors();
        let mut beats = None;
        let mut descriptors: Vec<Arc<OwnedFd>> = Vec::new();
        if report_every.is_some() {
            let (ours, theirs) = UnixDatagram::pair()?;
            // The flag belongs to the socket, not to the process that sets it.
            theirs.set_nonblocking(true)?;
            ours.set_nonblocking(true)?;
            beats = Some(ours);
            descriptors.push(Arc::new(theirs.into()));
        }
        let Plan { ids, loops, cpus, descriptors: most, chroot } = plan.clone();
        let (uid, gid) = (ids.uid, ids.gid);
        let start = Start { uid, gid, loops, cpus, descriptors: most, verbosity, chroot, report_every };
        channel.queue(&ToWorker::Start(start), &descriptors)?;
        Ok(Self { plan: Some(plan.clone()), beats, ..Self::new(process, channel) })
    }

    /// The worker that the program before an upgrade has left serving.
    pub(super) fn left_by_another(process: Process, channel: UnixStream) -> Self {
        Self { started: true, serving: true, ..Self::new(process, Channel::new(channel)) }
    }

    fn new(process: Process, channel: Channel) -> Self {
        let since = Instant::now();
        Self {
            process,
            channel,
            beats: None,
            plan: None,
            since,
            started: false,
            serving: false,
            offered: None,
            silent: None,
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Whether there may be anything to hear from it.
    pub(super) fn speaks(&self) -> bool {
        self.silent.is_none()
    }

    /// What it says next. Of a worker that may speak differently only that it says something.
    ///
    /// # Errors
    /// As [`Channel::poll_receive`].
    pub(super) fn hear(&mut self) -> io::Result<Incoming<Option<ToMaster>>> {
        if self.plan.is_none() {
            return Ok(match self.channel.discard()? {
                Incoming::Message((), none) => Incoming::Message(None, none),
                Incoming::Nothing => Incoming::Nothing,
                Incoming::Closed => Incoming::Closed,
            });
        }
        Ok(match self.channel.poll_receive()? {
            Incoming::Message(message, descriptors) => Incoming::Message(Some(message), descriptors),
            Incoming::Nothing => Incoming::Nothing,
            Incoming::Closed => Incoming::Closed,
        })
    }

    /// Closes the socket to it. A worker of this and of any other version takes that as the word to finish its connections and
    /// end.
    pub(super) fn retire(self) -> Process {
        self.process
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exited with status {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("was killed by signal {} ({signal})", signal as i32),
        _ => "ended".to_owned(),
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
    #[expect(clippy::zombie_processes, reason = "the worker waits for it")]
    fn of_a_worker_of_another_program_is_heard_only_that_it_speaks() {
        // Before there is a socket: it is not to hold the other end, not for a moment.
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut worker = Worker::left_by_another(Process::new(Pid::from_raw(child.id() as i32)), ours);
        assert!(worker.speaks());
        assert!(matches!(worker.hear().unwrap(), Incoming::Nothing));
        for said in [&[0xff; 8][..], &[1, 2, 3]] {
            io::Write::write_all(&mut (&theirs), said).unwrap();
            assert!(matches!(worker.hear().unwrap(), Incoming::Message(None, _)));
            assert!(matches!(worker.hear().unwrap(), Incoming::Nothing));
        }
        drop(theirs);
        assert!(matches!(worker.hear().unwrap(), Incoming::Closed));
    }

    #[test]
    fn endings_in_words() {
        let pid = Pid::from_raw(7);
        assert_eq!(describe(WaitStatus::Exited(pid, 1)), "exited with status 1");
        assert_eq!(describe(WaitStatus::Signaled(pid, Signal::SIGABRT, false)), "was killed by signal 6 (SIGABRT)");
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "waiting for it is what is tested")]
    fn a_process_that_is_given_up_is_gone() {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let process = Process::new(pid);
        assert_eq!(process.exit_status(), None);
        drop(process);
        assert!(kill(pid, None).is_err());
    }
}
