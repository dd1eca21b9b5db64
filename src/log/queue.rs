//! [`Queue`]: where a loop puts a line. Bounded, never blocking; what does not fit is dropped and counted, and the
//! count is told once lines flow again.
//!
//! One thread routes lines to the sinks and frames them; each sink has a thread of its own. So there is one wait per
//! sink, and no way for one sink to reach another's.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use super::audit::Record;
use super::escape::without_controls;
use super::sink::{Outlet, Parcel, Sink};
use super::targets::{Content, Targets};
use crate::conf::model::LogSink;

/// Lines that may wait to be routed.
const CAPACITY: usize = 4096;

/// Handle of the queue; clones share it.
#[derive(Clone)]
pub struct Queue {
    entries: SyncSender<Entry>,
    lost: Arc<Lost>,
    inherited: Arc<Mutex<Inherited>>,
    /// A file that may be in use has a new descriptor.
    reopened: Arc<AtomicBool>,
}

/// The threads behind a [`Queue`]. Dropping it lets them run on.
pub struct Writer {
    entries: SyncSender<Entry>,
    stop: Arc<AtomicBool>,
    finished: Receiver<()>,
}

/// Lines that were dropped.
#[derive(Default)]
struct Lost {
    /// By the full queue.
    queue: AtomicU64,
    /// Of these, those since its last notice: who takes lines is told of lines, who takes records of records.
    unreported_lines: AtomicU64,
    unreported_records: AtomicU64,
    /// By each sink that was ever used.
    sinks: Mutex<HashMap<LogSink, Arc<AtomicU64>>>,
}

impl Lost {
    /// Counts what this sink drops.
    fn at(&self, sink: &LogSink) -> Arc<AtomicU64> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.entry(sink.clone()).or_default().clone()
    }
}

/// As in the configuration.
fn name(sink: &LogSink) -> String {
    match sink {
        LogSink::Descriptor(1) => "stdout".to_owned(),
        LogSink::Descriptor(2) => "stderr".to_owned(),
        LogSink::Descriptor(number) => format!("fd@{number}"),
        LogSink::Unix(path) => path.display().to_string(),
        LogSink::Udp(address) => address.to_string(),
        LogSink::File(path) => format!("file@{}", path.display()),
    }
}

/// Descriptors that came from the master: those above 2 that `fd@n` targets name, and files.
type Inherited = HashMap<LogSink, OwnedFd>;

enum Entry {
    Content {
        targets: Arc<Targets>,
        at: SystemTime,
        content: Content,
    },
    /// Only wakes the router up to see that it is to stop.
    Stop,
}

impl Queue {
    /// Starts the routing thread. Call it after the process has forked for the last time: threads do not survive that.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start() -> io::Result<(Self, Writer)> {
        Self::with_capacity(CAPACITY)
    }

    /// Lines for this target go to the descriptor, for as long as the process runs; those for a file, until it is opened again.
    /// To be called before such a target is used.
    pub fn inherit(&self, target: LogSink, descriptor: OwnedFd) {
        let mut inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(target, LogSink::File(_)) {
            inherited.insert(target, descriptor);
            drop(inherited);
            self.reopened.store(true, Ordering::Release);
        } else {
            // Its master's descriptor of this number never becomes another one.
            inherited.entry(target).or_insert(descriptor);
        }
    }

    fn with_capacity(capacity: usize) -> io::Result<(Self, Writer)> {
        let (entries, received) = sync_channel(capacity);
        // Nothing is ever sent here: it disconnects when the router and every sink have gone.
        let (alive, finished) = sync_channel(0);
        let lost = Arc::new(Lost::default());
        let stop = Arc::new(AtomicBool::new(false));
        let inherited = Arc::new(Mutex::new(Inherited::new()));
        let reopened = Arc::new(AtomicBool::new(false));
        let router = Router {
            inherited: inherited.clone(),
            reopened: reopened.clone(),
            sinks: HashMap::new(),
            lost: lost.clone(),
            alive,
        };
        let stopping = stop.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || router.run(&received, &stopping))?;
        Ok((Self { entries: entries.clone(), lost, inherited, reopened }, Writer { entries, stop, finished }))
    }

    /// Hands over a line for those of `targets` that take this severity. Never blocks; without a taker or room it is
    /// gone, in the second case counted. Control characters in `text` are escaped on the way.
    pub fn send(&self, targets: &Arc<Targets>, level: u8, text: String) {
        if targets.wants(level) {
            self.enqueue(targets, Content::Line { level, text }, &self.lost.unreported_lines);
        }
    }

    /// Hands over an audit record for those of `targets` that take its event. Never blocks, as [`Self::send`]. The record is
    /// written by the router, not by who hands it over.
    pub fn record(&self, targets: &Arc<Targets>, record: Record) {
        if record.event().is_some_and(|event| targets.wants_record(event)) {
            self.enqueue(targets, Content::Record(Box::new(record)), &self.lost.unreported_records);
        }
    }

    fn enqueue(&self, targets: &Arc<Targets>, content: Content, unreported: &AtomicU64) {
        let entry = Entry::Content { targets: targets.clone(), at: SystemTime::now(), content };
        if self.entries.try_send(entry).is_err() {
            self.lost.queue.fetch_add(1, Ordering::Relaxed);
            unreported.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines and records dropped since the start: by the full queue, and at each sink.
    pub fn dropped(&self) -> u64 {
        self.dropped_at_each().iter().map(|(_, lines)| lines).sum()
    }

    /// The same for each sink by its name, and for the queue itself as `queue`.
    pub fn dropped_at_each(&self) -> Vec<(String, u64)> {
        let sinks = self.lost.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut each: Vec<_> = sinks.iter().map(|(sink, lines)| (name(sink), lines.load(Ordering::Relaxed))).collect();
        each.push(("queue".to_owned(), self.lost.queue.load(Ordering::Relaxed)));
        each.sort();
        each
    }
}

impl Writer {
    /// Writes out what is waiting and ends the threads; `true` when all of it went out (or was counted as dropped)
    /// before the `timeout`. A sink that still blocks then keeps its thread until the process ends.
    pub fn finish(self, timeout: Duration) -> bool {
        self.stop.store(true, Ordering::Release);
        // A full queue needs no wake-up: its router is awake.
        let _ = self.entries.try_send(Entry::Stop);
        matches!(self.finished.recv_timeout(timeout), Err(RecvTimeoutError::Disconnected))
    }
}

struct Router {
    inherited: Arc<Mutex<Inherited>>,
    reopened: Arc<AtomicBool>,
    /// Open sinks, each with the targets that used it last: when those are gone, so is the reason to keep it.
    sinks: HashMap<LogSink, (Sink, Weak<Targets>)>,
    lost: Arc<Lost>,
    alive: SyncSender<()>,
}

impl Router {
    fn run(mut self, entries: &Receiver<Entry>, stop: &AtomicBool) {
        loop {
            let entry = match entries.try_recv() {
                Ok(entry) => entry,
                Err(TryRecvError::Empty) if stop.load(Ordering::Acquire) => return,
                Err(TryRecvError::Empty) => match entries.recv() {
                    Ok(entry) => entry,
                    Err(_) => return,
                },
                Err(TryRecvError::Disconnected) => return,
            };
            let Entry::Content { targets, at, content } = entry else { continue };
            let (content, lost, unreported): (_, fn(u64) -> Content, _) = match content {
                Content::Line { level, text } => {
                    let content = Content::Line { level, text: without_controls(text) };
                    (content, Content::lost_lines, &self.lost.unreported_lines)
                }
                record => (record, Content::lost_records, &self.lost.unreported_records),
            };
            let missed = unreported.swap(0, Ordering::Relaxed);
            self.route(&targets, at, &content);
            if missed > 0 {
                self.route(&targets, SystemTime::now(), &lost(missed));
            }
        }
    }

    fn route(&mut self, targets: &Arc<Targets>, at: SystemTime, content: &Content) {
        if self.reopened.swap(false, Ordering::AcqRel) {
            // What waits for the old file still goes there.
            self.sinks.retain(|sink, _| !matches!(sink, LogSink::File(_)));
        }
        for (index, sink) in targets.taking(content) {
            // A record is made of what a stranger has sent. A bug there must not end the log.
            let Ok(frame) = catch_unwind(AssertUnwindSafe(|| targets.frame(index, at, content))) else {
                self.lost.at(sink).fetch_add(1, Ordering::Relaxed);
                continue;
            };
            match self.sink(sink, targets) {
                Ok(sink) => sink.send(Parcel { frame, targets: targets.clone(), index }),
                // Tried again with the next line. Telling about it would need a log.
                Err(_) => drop(self.lost.at(sink).fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    fn sink(&mut self, key: &LogSink, targets: &Arc<Targets>) -> io::Result<&Sink> {
        if !self.sinks.contains_key(key) {
            self.sinks.retain(|_, (_, used_by)| used_by.strong_count() > 0);
            let outlet = {
                let inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
                Outlet::open(key, &inherited)?
            };
            let sink = Sink::start(outlet, self.lost.at(key), self.alive.clone())?;
            self.sinks.insert(key.clone(), (sink, Weak::new()));
        }
        match self.sinks.get_mut(key) {
            Some((sink, used_by)) => {
                if used_by.as_ptr() != Arc::as_ptr(targets) {
                    *used_by = Arc::downgrade(targets);
                }
                Ok(sink)
            }
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

#[cfg(test)]
mod tests;
