//! Building a snapshot and putting it in force on every loop, or answering why not.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Worker, build, watchdog};
use crate::control::{Control, Sources};
use crate::event_loop::{self, Command, Handle};
use crate::ipc::{Admin, Adopt, Certificates, DescriptorRole, ToMaster};
use crate::log::{Queue, logger};
use crate::material::{ListenerKey, LogKey, Material};
use crate::report::{self, ReportLevel, ReportLine, Summary};
use crate::snapshot::{Shared, Snapshot};
use crate::sys::descriptors::read_sealed_memory;

/// How long the loops may take to adopt a snapshot; the watchdog ends a loop that hangs before that.
const ADOPTION: Duration = Duration::from_secs(30);

/// New listeners of one loop.
type Opened = Vec<(ListenerKey, OwnedFd)>;
/// A descriptor that a log target needs.
type LogDescriptor = (LogKey, OwnedFd);

/// A generation that only has to be put in force.
struct Prepared {
    snapshot: Arc<Snapshot>,
    report: Vec<ReportLine>,
    sockets: Sockets,
}

/// Descriptors by what they are for.
struct Sockets {
    /// One list for each loop.
    opened: Vec<Opened>,
    /// Listening sockets of the process itself.
    admin: Vec<(Admin, OwnedFd)>,
    logs: Vec<LogDescriptor>,
}

impl Worker {
    /// Builds a snapshot and puts it in force, or answers why not; then nothing has changed.
    pub(super) fn handle_adopt(&mut self, adopt: Adopt, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let generation = adopt.generation;
        let answer = match self.prepare(&adopt, descriptors) {
            Err(report) => ToMaster::Refused { generation, report },
            Ok(Prepared { snapshot, report, sockets }) => {
                let (count, first_expiry) = snapshot.expiries();
                let first_expiry = first_expiry.map(|time| time.as_secs());
                let certificates = Certificates { count: count as u64, first_expiry };
                let fingerprints = snapshot.fingerprints();
                self.adopt(snapshot, sockets)?;
                self.hard_stop_after = adopt.hard_stop_after;
                ToMaster::Adopted { generation, report, certificates, fingerprints }
            }
        };
        self.outbox.send(&answer)
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
        let sockets = self.sort(&adopt.descriptors, descriptors).map_err(refuse)?;
        let material: Material = read_sealed_memory(memory, adopt.material_bytes)
            .and_then(|bytes| postcard::from_bytes(&bytes).map_err(io::Error::other))
            .map_err(|error| refuse(format!("the material did not arrive: {error}")))?;
        let shared = Shared { stats: self.stats.clone(), tickets: self.tickets.clone(), started: self.started };
        let mut built = build::build(&material, &shared, self.snapshot.as_deref())?;
        if adopt.forbid_warnings {
            report::forbid_warnings(&mut built.report);
            if Summary::of(&built.report).errors > 0 {
                built.report.retain(|line| line.level != ReportLevel::Fact);
                return Err(built.report);
            }
        }
        let snapshot = Arc::new(built.snapshot);
        if self.loops.is_empty() {
            self.start_threads(&snapshot)
                .map_err(|error| refuse(format!("cannot start the threads of the worker: {error}")))?;
        }
        Ok(Prepared { snapshot, report: built.report, sockets })
    }

    /// Sorts descriptors by their roles.
    fn sort(&self, roles: &[DescriptorRole], descriptors: impl Iterator<Item = OwnedFd>) -> Result<Sockets, String> {
        let opened = (0..self.loop_count).map(|_| Opened::new()).collect();
        let mut sockets = Sockets { opened, admin: Vec::new(), logs: Vec::new() };
        for (role, descriptor) in roles.iter().zip(descriptors) {
            match role {
                DescriptorRole::Log(key) => sockets.logs.push((key.clone(), descriptor)),
                DescriptorRole::Admin(admin) => sockets.admin.push((admin.clone(), descriptor)),
                DescriptorRole::Listener { key, loop_index } => {
                    let list = sockets.opened.get_mut(usize::from(*loop_index));
                    list.ok_or("a listener came for a loop that is not there")?.push((key.clone(), descriptor));
                }
            }
        }
        Ok(sockets)
    }

    fn start_threads(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        let (queue, writer) = Queue::start()?;
        let prefix = id_prefix();
        let cpus = |index: usize| self.cpus.get(index).cloned().unwrap_or_default();
        let spawn = |index| event_loop::spawn(index, prefix, cpus(index), queue.clone(), self.stats.clone());
        let loops: Arc<[Handle]> = (0..usize::from(self.loop_count)).map(spawn).collect::<io::Result<_>>()?;
        watchdog::start(loops.clone(), self.ending.clone(), self.pulse.take())?;
        let sources = Sources {
            log: queue.clone(),
            tickets: self.tickets.clone(),
            usage: self.usage.clone(),
            started: SystemTime::now() - self.started.elapsed(),
            ending: self.ending.clone(),
        };
        self.control =
            Some(Control::start(self.stats.clone(), loops.clone(), sources, snapshot.clone(), self.outbox.clone())?);
        self.loops = loops;
        self.logging = Some((queue, writer));
        Ok(())
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>, sockets: Sockets) -> io::Result<()> {
        let Sockets { opened, admin, logs } = sockets;
        if let Some((queue, _)) = &self.logging {
            logs.into_iter().for_each(|(number, descriptor)| queue.inherit(number, descriptor));
        }
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
        if let Some(control) = &self.control {
            control.adopt(snapshot.clone(), admin);
        }
        self.snapshot = Some(snapshot);
        self.stats.forget_unused();
        Ok(())
    }
}

/// Differs from one worker to the next, so that no two connections have the same id.
fn id_prefix() -> u64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    seconds << 32 | u64::from(std::process::id())
}
