//! Many connections on one thread: each does one job at a time, and whoever drives them says what comes next.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use rustls::pki_types::ServerName;

use super::connection::{Config, Connection, Ending, Scratch};
use super::job::{Job, Progress, Step, Tools};
use crate::offer::{Offer, Sessions};
use crate::pattern::Pattern;
use crate::wire::{DOWNLOAD, ERROR_LIMIT, UPLOAD};

const TIMER: Token = Token(usize::MAX);
const LINE: Token = Token(usize::MAX - 1);

/// Nothing here takes longer unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where and how connections are made.
pub(crate) struct Target {
    pub(crate) port: u16,
    /// The servers that are asked for, in turn.
    pub(crate) names: Vec<ServerName<'static>>,
    pub(crate) offer: Offer,
    /// Where [`crate::certificates`] put its files.
    pub(crate) certificates: PathBuf,
}

/// What all connections of this process did since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Connections over which a first answer has come back.
    pub(crate) connections: u64,
    /// Sum of [`crate::proxy_v2::digest`] over them.
    pub(crate) digest: u64,
    /// Connections that the product ended without close_notify.
    pub(crate) bare: u64,
    /// Connections that the product ended with RST.
    pub(crate) resets: u64,
}

/// A job that is done, or has failed; then the error is noted and the connection gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) slot: usize,
    pub(crate) job: Job,
    /// Time from the start of the job, or from the time it was due.
    pub(crate) took: Duration,
    pub(crate) succeeded: bool,
}

/// The place of one connection, and of those after it.
struct Slot {
    config: Rc<Config>,
    connection: Option<Connection>,
    /// Whether a handshake was completed, so that there is a ticket for the next.
    known: bool,
    /// Whether the connection is in the [`Tally`].
    proved: bool,
    /// Where the next byte to be echoed stands in the pattern.
    position: u64,
    progress: Option<Progress>,
}

pub(crate) struct Engine {
    target: Target,
    config: Rc<Config>,
    poll: Poll,
    events: Events,
    slots: Vec<Slot>,
    /// Slots whose job can go on without an event.
    unfinished: Vec<usize>,
    ended: Vec<Ended>,
    active: usize,
    /// Connections so far, for the names' turns.
    opened: usize,
    pattern: Pattern,
    scratch: Scratch,
    tally: Tally,
    errors: Vec<String>,
    timer: Option<TimerFd>,
    line: bool,
}

impl Engine {
    pub(crate) fn new(target: Target) -> Result<Self, String> {
        Ok(Self {
            config: Rc::new(Config::new(&target.certificates, target.offer)?),
            target,
            poll: Poll::new().map_err(|error| format!("epoll: {error}"))?,
            events: Events::with_capacity(1024),
            slots: Vec::new(),
            unfinished: Vec::new(),
            ended: Vec::new(),
            active: 0,
            opened: 0,
            pattern: Pattern::new(),
            scratch: Scratch::new(),
            tally: Tally::default(),
            errors: Vec::new(),
            timer: None,
            line: false,
        })
    }

    /// How many slots there are; they are named by the numbers below it.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Sees to it that there are `count` slots at least; new ones have no connection.
    pub(crate) fn grow(&mut self, count: usize) -> Result<(), String> {
        while self.slots.len() < count {
            // With common tickets, connections would take them from each other and fall back to full handshakes.
            let config = match self.target.offer.sessions {
                Sessions::Fresh => Rc::clone(&self.config),
                Sessions::Resumed => Rc::new(Config::new(&self.target.certificates, self.target.offer)?),
            };
            let slot = Slot { config, connection: None, known: false, proved: false, position: 0, progress: None };
            self.slots.push(slot);
        }
        Ok(())
    }

    /// The connection of a slot, if it has one.
    pub(crate) fn connection(&self, slot: usize) -> Option<&Connection> {
        self.slots.get(slot)?.connection.as_ref()
    }

    /// Jobs of which [`Self::turn`] has not told the end yet.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether so much went wrong that the measurement is void anyway.
    pub(crate) fn gives_up(&self) -> bool {
        self.errors.len() >= ERROR_LIMIT
    }

    /// The errors since they were last taken.
    pub(crate) fn take_errors(&mut self) -> Vec<String> {
        std::mem::take(&mut self.errors)
    }

    /// From now on, [`Self::turn`] ends whenever `interval` is over; zero: no more.
    pub(crate) fn tick(&mut self, interval: Duration) -> Result<(), String> {
        let fail = |error: nix::Error| format!("timer: {error}");
        if self.timer.is_none() {
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).map_err(fail)?;
            let source = timer.as_fd().as_raw_fd();
            self.poll
                .registry()
                .register(&mut SourceFd(&source), TIMER, Interest::READABLE)
                .map_err(|error| format!("timer: {error}"))?;
            self.timer = Some(timer);
        }
        match &self.timer {
            Some(timer) if interval.is_zero() => timer.unset().map_err(fail),
            Some(timer) => timer
                .set(Expiration::Interval(TimeSpec::from_duration(interval)), TimerSetTimeFlags::empty())
                .map_err(fail),
            None => Ok(()),
        }
    }

    /// From now on, a line on standard input is looked for, or no more.
    pub(crate) fn listen(&mut self, wanted: bool) -> Result<(), String> {
        let input = io::stdin().as_raw_fd();
        let registry = self.poll.registry();
        self.line = false;
        if wanted {
            registry.register(&mut SourceFd(&input), LINE, Interest::READABLE)
        } else {
            registry.deregister(&mut SourceFd(&input))
        }
        .map_err(|error| format!("standard input: {error}"))
    }

    /// Whether there is something to be read on standard input since [`Self::listen`].
    pub(crate) fn line(&self) -> bool {
        self.line
    }

    /// Gives a slot that has nothing to do its next job.
    pub(crate) fn start(&mut self, slot: usize, job: Job) {
        self.start_due(slot, job, Instant::now());
    }

    /// The same with a job that was due before: its time counts from there.
    pub(crate) fn start_due(&mut self, slot: usize, job: Job, since: Instant) {
        self.active += 1;
        self.slots[slot].progress = Some(Progress::new(job, since));
        match self.prepare(slot, job) {
            Ok(()) => self.drive(slot),
            Err(error) => self.end(slot, Err(error)),
        }
    }

    /// A new connection, if that is the job; and all others need one.
    fn prepare(&mut self, slot: usize, job: Job) -> Result<(), String> {
        let place = &mut self.slots[slot];
        if job != Job::Open {
            return place.connection.as_ref().map(|_| ()).ok_or("there is no connection any more".to_owned());
        }
        let name = self.target.names[self.opened % self.target.names.len()].clone();
        self.opened += 1;
        let mut connection = Connection::connect(&place.config, self.target.port, name)?;
        self.poll
            .registry()
            .register(connection.socket(), Token(slot), Interest::READABLE | Interest::WRITABLE)
            .map_err(|error| format!("epoll: {error}"))?;
        // Each begins elsewhere, so that bytes of another connection are noticed; and not with a byte that asks for a transfer.
        place.position = connection.digest() >> 1;
        while matches!(self.pattern.slice(place.position, 1), [UPLOAD | DOWNLOAD]) {
            place.position += 1;
        }
        place.proved = false;
        place.connection = Some(connection);
        Ok(())
    }

    /// Waits for events once, and lets connections go on with their jobs. Returns those that have ended.
    pub(crate) fn turn(&mut self) -> Result<Vec<Ended>, String> {
        let timeout = if self.unfinished.is_empty() && self.ended.is_empty() { PATIENCE } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Vec::new()),
            outcome => outcome.map_err(|error| format!("epoll: {error}"))?,
        }
        let mut ready = std::mem::take(&mut self.unfinished);
        for event in &self.events {
            match event.token() {
                TIMER => _ = self.timer.as_ref().map(TimerFd::wait),
                LINE => self.line = true,
                Token(slot) => ready.push(slot),
            }
        }
        if self.events.is_empty() && timeout == PATIENCE {
            self.abandon();
        }
        ready.into_iter().for_each(|slot| self.drive(slot));
        self.active -= self.ended.len();
        Ok(std::mem::take(&mut self.ended))
    }

    /// Nothing has happened for too long: every job has failed.
    fn abandon(&mut self) {
        for slot in 0..self.slots.len() {
            if let Some(progress) = &self.slots[slot].progress {
                let error = format!("{:?}: nothing happened within {PATIENCE:?}", progress.job);
                self.end(slot, Err(error));
            }
        }
    }

    fn drive(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        let (Some(progress), Some(connection)) = (&mut place.progress, &mut place.connection) else {
            return;
        };
        let tools = Tools {
            config: &place.config,
            resumed: place.known && self.target.offer.sessions == Sessions::Resumed,
            position: &mut place.position,
            pattern: &self.pattern,
            scratch: &mut self.scratch,
        };
        match progress.step(connection, tools) {
            Ok(Step::Blocked) => {}
            Ok(Step::Unfinished) => self.unfinished.push(slot),
            Ok(Step::Done) => self.end(slot, Ok(None)),
            Ok(Step::Closed(ending)) => self.end(slot, Ok(Some(ending))),
            Err(error) => self.end(slot, Err(error)),
        }
    }

    fn end(&mut self, slot: usize, outcome: Result<Option<Ending>, String>) {
        let place = &mut self.slots[slot];
        let Some(progress) = place.progress.take() else { return };
        self.ended.push(Ended { slot, job: progress.job, took: progress.since.elapsed(), succeeded: outcome.is_ok() });
        match outcome {
            Ok(None) => {
                place.known |= progress.job == Job::Open;
                if let (true, false, Some(connection)) =
                    (progress.job.reaches_the_backend(), place.proved, &place.connection)
                {
                    place.proved = true;
                    self.tally.connections += 1;
                    self.tally.digest = self.tally.digest.wrapping_add(connection.digest());
                }
            }
            Ok(Some(ending)) => {
                place.connection = None;
                match ending {
                    Ending::CloseNotify => {}
                    Ending::Bare => self.tally.bare += 1,
                    Ending::Reset => self.tally.resets += 1,
                }
            }
            Err(error) => {
                place.connection = None;
                if self.errors.len() < ERROR_LIMIT {
                    self.errors.push(format!("client: {error}"));
                }
            }
        }
    }
}
