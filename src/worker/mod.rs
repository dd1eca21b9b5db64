//! The unprivileged process: it holds every connection, and nothing that is worth stealing but the keys in its memory.
//!
//! The main thread talks to the master and builds snapshots; the event loops go on meanwhile.

mod adopt;
pub mod build;
mod end;
mod watchdog;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getppid};

use self::end::{Ending, asked_to_end};
use self::watchdog::Pulse;
use crate::conf::model::Chroot;
use crate::control::Control;
use crate::event_loop::Handle;
use crate::ipc::{Channel, Incoming, Outbox, Outcome, Start, ToMaster, ToWorker};
use crate::log::{Queue, Writer, logger, time};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::sys::privileges::{self, Ids};
use crate::sys::usage::Usage;
use crate::sys::{drop_bounding_capabilities, limits, seccomp};
use crate::tls::{self, tickets::TicketKeys};

/// How long the last log lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs a worker on the socket that its standard input is, until the master says otherwise or is gone.
pub fn run() -> ExitCode {
    let mut worker = match Worker::start() {
        Ok(worker) => worker,
        Err(error) => {
            log::error!("worker: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = worker.serve();
    if let Err(error) = &outcome {
        log::error!("worker: {error}");
    }
    if let Some((_, writer)) = worker.logging.take() {
        logger::release();
        writer.finish(LAST_LINES);
    }
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Worker {
    /// What the master says.
    channel: Channel,
    /// What it is told, by the clients of control sockets too.
    outbox: Outbox,
    /// Its process; it keeps its number when it is upgraded.
    master: Pid,
    loop_count: u16,
    /// Of each loop; empty: any.
    cpus: Vec<Vec<u16>>,
    verbosity: log::LevelFilter,
    stats: Arc<Stats>,
    tickets: Arc<TicketKeys>,
    started: Instant,
    usage: Arc<Usage>,
    /// Empty until the first snapshot is there.
    loops: Arc<[Handle]>,
    /// Where lines go once the first snapshot is there.
    logging: Option<(Queue, Writer)>,
    /// Sockets of the process itself, once the first snapshot is there.
    control: Option<Control>,
    /// Loops are expected to end.
    ending: Arc<AtomicBool>,
    snapshot: Option<Arc<Snapshot>>,
    hard_stop_after: Option<Duration>,
    /// Taken by the watchdog.
    pulse: Option<Pulse>,
}

impl Worker {
    /// Becomes what the master says, before anything else happens.
    fn start() -> io::Result<Self> {
        let master = getppid();
        let mut channel = Channel::new(UnixStream::from(take_standard_input()?));
        prctl::set_name(c"bowline-worker")?;
        // Ctrl-C in a terminal and `systemctl stop` reach the worker too: the master decides what they mean.
        asked_to_end().thread_block()?;
        let (settings, passed) = match channel.poll_receive()? {
            Incoming::Message(ToWorker::Start(settings), passed) => (settings, passed),
            _ => return Err(io::Error::other("a worker is started by its master only")),
        };
        let Start { uid, gid, loops, cpus, descriptors, verbosity, chroot, report_every } = settings;
        let pulse = passed.into_iter().next().zip(report_every);
        let pulse = pulse.map(|(socket, every)| Pulse { socket: socket.into(), every });
        let verbosity = log::LevelFilter::iter().nth(verbosity.into()).unwrap_or(log::LevelFilter::Info);
        log::set_max_level(verbosity);
        let loops = loops.max(1);
        limits::use_descriptors(descriptors)?;
        // The last look at the file system.
        time::init();
        let usage = Arc::new(Usage::open());
        let sandbox = confine(Ids { uid, gid }, chroot.as_ref())?;
        tls::seed()?;
        let worker = Self {
            outbox: Outbox::of(&channel)?,
            channel,
            master,
            loop_count: loops,
            cpus,
            verbosity,
            stats: Stats::new(loops.into()),
            tickets: Arc::new(TicketKeys::new(Instant::now())),
            started: Instant::now(),
            usage,
            loops: Arc::new([]),
            logging: None,
            control: None,
            ending: Arc::default(),
            snapshot: None,
            hard_stop_after: None,
            pulse,
        };
        worker.outbox.send(&ToMaster::Started { sandbox })?;
        Ok(worker)
    }

    fn serve(&mut self) -> io::Result<()> {
        let ending = loop {
            match self.channel.poll_receive()? {
                Incoming::Message(ToWorker::Adopt(adopt), descriptors) => self.handle_adopt(adopt, descriptors)?,
                Incoming::Message(message, descriptors) => {
                    if let Some(ending) = self.handle_other(message, descriptors)? {
                        break ending;
                    }
                }
                Incoming::Closed => break Ending::MasterHasHungUp,
                Incoming::Nothing => {}
            }
        };
        self.end(ending)
    }

    fn handle_other(&mut self, message: ToWorker, descriptors: Vec<OwnedFd>) -> io::Result<Option<Ending>> {
        match message {
            ToWorker::Drain { limit } => return Ok(Some(Ending::Drain(limit))),
            ToWorker::Stop => return Ok(Some(Ending::Stop)),
            ToWorker::Detach => {
                // Standard input is /dev/null since the start.
                dup2_stdout(io::stdin())?;
                dup2_stderr(io::stdin())?;
            }
            ToWorker::History(history) => {
                let facts = self.stats.service();
                facts.worker_restarts.set(history.worker_restarts);
                facts.reloads_adopted.set(history.reloads_adopted);
                facts.reloads_refused.set(history.reloads_refused);
                facts.last_reload_adopted.set(u64::from(history.last_adopted));
                facts.last_adopted_at.set(history.last_adopted_at);
            }
            ToWorker::Logs(keys) => {
                if let Some((queue, _)) = &self.logging {
                    keys.into_iter().zip(descriptors).for_each(|(key, descriptor)| queue.inherit(key, descriptor));
                }
            }
            ToWorker::Reloaded { request, outcome } => self.handle_reloaded(request, outcome),
            ToWorker::Start(_) | ToWorker::Adopt(_) => return Err(io::Error::other("unexpected message")),
        }
        Ok(None)
    }

    fn handle_reloaded(&self, request: u64, outcome: Outcome) {
        if let Some(control) = &self.control {
            control.handle_reloaded(request, outcome);
        }
    }
}

/// Gives up everything that a process which parses hostile bytes does not need. Answers what holds, in words.
fn confine(ids: Ids, chroot: Option<&Chroot>) -> io::Result<String> {
    // Root alone can, and otherwise it makes no difference: there are no new privileges.
    drop_bounding_capabilities();
    let mut sandbox = String::new();
    if let Some(chroot) = chroot {
        match chroot {
            Chroot::Directory(path) => privileges::change_root(path)?,
            Chroot::Empty => privileges::change_root_to_nothing()?,
        }
        sandbox.push_str("root directory changed; ");
    }
    privileges::become_user(ids)?;
    privileges::harden()?;
    let files = privileges::close_file_system();
    let calls = seccomp::limit_system_calls();
    Ok(format!("{sandbox}{files}; {calls}"))
}

/// The socket to the master; standard input becomes /dev/null, so that nothing reads from the socket by accident.
fn take_standard_input() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    Ok(socket)
}
