//! The unprivileged process: it holds every connection, and nothing that is worth stealing but the keys in its memory.
//!
//! The main thread talks to the master and builds snapshots; the event loops go on meanwhile.

pub mod build;
mod watchdog;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::event_loop::{self, Command, Handle};
use crate::ipc::{Adopt, Channel, DescriptorRole, Incoming, Start, ToMaster, ToWorker};
use crate::log::{Queue, Writer, logger};
use crate::material::{ListenerKey, Material};
use crate::report::{self, ReportLevel, ReportLine, Summary};
use crate::snapshot::{Shared, Snapshot};
use crate::stats::Stats;
use crate::sys::descriptors::read_sealed_memory;
use crate::sys::limits;
use crate::sys::privileges::{self, Ids};
use crate::tls::tickets::TicketKeys;

/// How long the loops may take to adopt a snapshot; the watchdog ends a loop that hangs before that.
const ADOPTION: Duration = Duration::from_secs(30);
/// How long the loops may take to close everything when told to stop now.
const LAST_MOMENTS: Duration = Duration::from_secs(1);
/// How long the last log lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How often an ending worker looks whether its loops have ended.
const END_CHECK: Duration = Duration::from_millis(20);

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
    channel: Channel,
    loop_count: u16,
    verbosity: log::LevelFilter,
    stats: Arc<Stats>,
    tickets: Arc<TicketKeys>,
    /// Empty until the first snapshot is there.
    loops: Arc<[Handle]>,
    /// Where lines go once the first snapshot is there.
    logging: Option<(Queue, Writer)>,
    /// Loops are expected to end.
    ending: Arc<AtomicBool>,
    snapshot: Option<Arc<Snapshot>>,
    hard_stop_after: Option<Duration>,
}

/// Why the main thread leaves its loop over messages.
enum Ending {
    Drain(Option<Duration>),
    Stop,
    MasterIsGone,
}

impl Worker {
    /// Becomes what the master says, before anything else happens.
    fn start() -> io::Result<Self> {
        let mut channel = Channel::new(UnixStream::from(take_standard_input()?));
        prctl::set_name(c"bowline-worker")?;
        // Ctrl-C in a terminal and `systemctl stop` reach the worker too: the master decides what they mean.
        asked_to_end().thread_block()?;
        let settings = match channel.poll_receive()? {
            Incoming::Message(ToWorker::Start(settings), _) => settings,
            _ => return Err(io::Error::other("a worker is started by its master only")),
        };
        let Start { uid, gid, loops, verbosity } = settings;
        let verbosity = log::LevelFilter::iter().nth(verbosity.into()).unwrap_or(log::LevelFilter::Info);
        log::set_max_level(verbosity);
        let loops = loops.max(1);
        limits::raise_all_descriptors()?;
        privileges::become_user(Ids { uid, gid })?;
        privileges::harden()?;
        let sandbox = privileges::close_file_system().to_string();
        let mut worker = Self {
            channel,
            loop_count: loops,
            verbosity,
            stats: Stats::new(loops.into()),
            tickets: Arc::new(TicketKeys::new(Instant::now())),
            loops: Arc::new([]),
            logging: None,
            ending: Arc::default(),
            snapshot: None,
            hard_stop_after: None,
        };
        worker.send(&ToMaster::Started { sandbox })?;
        Ok(worker)
    }

    fn send(&mut self, message: &ToMaster) -> io::Result<()> {
        self.channel.queue(message, &[])?;
        self.channel.flush().map(drop)
    }

    fn serve(&mut self) -> io::Result<()> {
        let ending = loop {
            match self.channel.poll_receive()? {
                Incoming::Message(ToWorker::Adopt(adopt), descriptors) => self.handle_adopt(adopt, descriptors)?,
                Incoming::Message(message, _) => {
                    if let Some(ending) = self.handle_other(message)? {
                        break ending;
                    }
                }
                Incoming::Closed => break Ending::MasterIsGone,
                Incoming::Nothing => {}
            }
        };
        self.end(ending)
    }

    fn handle_other(&mut self, message: ToWorker) -> io::Result<Option<Ending>> {
        match message {
            ToWorker::Drain { limit } => return Ok(Some(Ending::Drain(limit))),
            ToWorker::Stop => return Ok(Some(Ending::Stop)),
            ToWorker::Detach => {
                // Standard input is /dev/null since the start.
                dup2_stdout(io::stdin())?;
                dup2_stderr(io::stdin())?;
            }
            ToWorker::Start(_) | ToWorker::Adopt(_) => return Err(io::Error::other("unexpected message")),
        }
        Ok(None)
    }

    // Adoption.

    /// Builds a snapshot and puts it in force, or answers why not; then nothing has changed.
    fn handle_adopt(&mut self, adopt: Adopt, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let generation = adopt.generation;
        let answer = match self.prepare(&adopt, descriptors) {
            Err(report) => ToMaster::Refused { generation, report },
            Ok(Prepared { snapshot, report, opened }) => {
                self.adopt(snapshot, opened)?;
                self.hard_stop_after = adopt.hard_stop_after;
                ToMaster::Adopted { generation, report }
            }
        };
        self.send(&answer)
    }

    fn prepare(&mut self, adopt: &Adopt, descriptors: Vec<OwnedFd>) -> Result<Prepared, Vec<ReportLine>> {
        let refuse = |reason: String| vec![ReportLine::new(ReportLevel::Error, reason)];
        let missing = (adopt.descriptors.len() + 1).saturating_sub(descriptors.len());
        let mut descriptors = descriptors.into_iter();
        let Some(memory) = descriptors.next().filter(|_| missing == 0) else {
            let text = format!(
                "{missing} descriptors too few: the worker holds as many as it may; raise the limit (ulimit -n, LimitNOFILE=) \
                 and restart, or try again when there are fewer connections"
            );
            return Err(refuse(text));
        };
        let (opened, log_descriptors) = self.sort(&adopt.descriptors, descriptors).map_err(refuse)?;
        let material: Material = read_sealed_memory(memory, adopt.material_bytes)
            .and_then(|bytes| postcard::from_bytes(&bytes).map_err(io::Error::other))
            .map_err(|error| refuse(format!("the material did not arrive: {error}")))?;
        let shared = Shared { stats: self.stats.clone(), tickets: self.tickets.clone() };
        let mut built = build::build(&material, &shared, self.snapshot.as_deref())?;
        if adopt.forbid_warnings {
            report::forbid_warnings(&mut built.report);
            if Summary::of(&built.report).errors > 0 {
                built.report.retain(|line| line.level != ReportLevel::Fact);
                return Err(built.report);
            }
        }
        if self.loops.is_empty() {
            self.start_threads().map_err(|error| refuse(format!("cannot start the threads of the worker: {error}")))?;
        }
        if let Some((queue, _)) = &self.logging {
            log_descriptors.into_iter().for_each(|(number, descriptor)| queue.inherit(number, descriptor));
        }
        Ok(Prepared { snapshot: Arc::new(built.snapshot), report: built.report, opened })
    }

    /// One list of new listeners for each loop, and the descriptors for logs.
    fn sort(
        &self,
        roles: &[DescriptorRole],
        descriptors: impl Iterator<Item = OwnedFd>,
    ) -> Result<(Vec<Opened>, Vec<LogDescriptor>), String> {
        let mut logs = Vec::new();
        let mut opened: Vec<Opened> = (0..self.loop_count).map(|_| Opened::new()).collect();
        for (role, descriptor) in roles.iter().zip(descriptors) {
            match role {
                DescriptorRole::Log(number) => logs.push((*number, descriptor)),
                DescriptorRole::Listener { key, loop_index } => {
                    let list = opened.get_mut(usize::from(*loop_index));
                    list.ok_or("a listener came for a loop that is not there")?.push((key.clone(), descriptor));
                }
            }
        }
        Ok((opened, logs))
    }

    fn start_threads(&mut self) -> io::Result<()> {
        let (queue, writer) = Queue::start()?;
        let prefix = id_prefix();
        let spawn = |index| event_loop::spawn(index, prefix, queue.clone());
        let loops: Arc<[Handle]> = (0..usize::from(self.loop_count)).map(spawn).collect::<io::Result<_>>()?;
        watchdog::start(loops.clone(), self.ending.clone())?;
        self.loops = loops;
        self.logging = Some((queue, writer));
        Ok(())
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>, opened: Vec<Opened>) -> io::Result<()> {
        let (done, adopted) = mpsc::channel();
        for (handle, opened) in self.loops.iter().zip(opened) {
            handle.send(Command::Adopt { snapshot: snapshot.clone(), opened, done: done.clone() });
        }
        drop(done);
        for _ in self.loops.iter() {
            // Half the loops on the new configuration and half on the old one is worse than a crash.
            adopted
                .recv_timeout(ADOPTION)
                .map_err(|_| io::Error::other("an event loop did not adopt the configuration"))?;
        }
        if let Some((queue, _)) = &self.logging {
            logger::adopt(snapshot.log.clone(), queue.clone());
            if self.verbosity != log::LevelFilter::Info {
                log::set_max_level(self.verbosity);
            }
        }
        self.snapshot = Some(snapshot);
        self.stats.forget_unused();
        Ok(())
    }

    // The end.

    fn end(&mut self, ending: Ending) -> io::Result<()> {
        self.ending.store(true, Ordering::SeqCst);
        let limit = match ending {
            Ending::Stop => return self.stop(),
            Ending::Drain(limit) => limit,
            Ending::MasterIsGone => {
                log::error!("the master is gone; finishing {} connections", self.connections());
                // Nobody else is left to decide: a TERM for this process ends it, also one that came before.
                asked_to_end().thread_unblock()?;
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
        let pause = PollTimeout::try_from(END_CHECK).unwrap_or(PollTimeout::ZERO);
        while !self.loops.iter().all(Handle::is_finished) && until.is_none_or(|until| Instant::now() < until) {
            let mut set = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
            let watched = if listening { &mut set[..] } else { &mut [] };
            if !matches!(poll(watched, pause), Ok(1..)) {
                continue;
            }
            match self.channel.poll_receive() {
                Ok(Incoming::Message(ToWorker::Stop, _)) if until.is_none() => return self.stop(),
                Ok(Incoming::Message(..) | Incoming::Nothing) => {}
                Ok(Incoming::Closed) | Err(_) => {
                    listening = false;
                    asked_to_end().thread_unblock()?;
                }
            }
        }
        Ok(())
    }
}

/// Differs from one worker to the next, so that no two connections have the same id.
fn id_prefix() -> u64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    seconds << 32 | u64::from(std::process::id())
}

/// New listeners of one loop.
type Opened = Vec<(ListenerKey, OwnedFd)>;
/// A descriptor that `log fd@n` names, with its number in the master.
type LogDescriptor = (i32, OwnedFd);

/// A generation that only has to be put in force.
struct Prepared {
    snapshot: Arc<Snapshot>,
    report: Vec<ReportLine>,
    /// One list for each loop.
    opened: Vec<Opened>,
}

/// The signals that ask a process to end or to reload.
fn asked_to_end() -> SigSet {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2].into_iter().collect()
}

/// The socket to the master; standard input becomes /dev/null, so that nothing reads from the socket by accident.
fn take_standard_input() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    Ok(socket)
}
