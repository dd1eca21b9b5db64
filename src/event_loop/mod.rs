//! The I/O: a thread with its own poll, its own listening sockets, its own connections and timers.
//!
//! Loops share the snapshot, and counters that each loop alone writes. Sockets are registered edge-triggered; events only set
//! readiness bits, and a connection is driven while it can do something with them. In a turn the established connections come
//! first, then handshakes for a time, then new connections for as long.

mod accept;
mod audit;
mod finish;
mod inspect;
mod listener;
mod slots;
mod stream;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Poll, Token, Waker};

use self::accept::ACCEPT_PAUSE;
pub use self::inspect::{Page, Seen};
use self::listener::Listener;
pub use self::slots::Key;
use self::slots::{Slot, Slots};
use self::stream::Sockets;
use crate::log::Queue;
use crate::material::ListenerKey;
use crate::proto::close::Kill;
use crate::proto::connection::{Connection, Drive, Now, Scratch};
use crate::proto::wire::{Ready, Side};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::sys::limits;

/// Events taken from the kernel at a time, unless `tune.maxpollevents` says otherwise.
const EVENTS: usize = 512;

/// What handshakes may take of a turn, and new connections after them, beside few that are established: one of those waits so
/// long twice for an answer. Less is hardly possible, because one step of a handshake takes as long.
const NEWCOMERS_TIME: Duration = Duration::from_micros(50);
/// What they may take beside many, as a part of what those have taken: whoever is new must get on, too.
const NEWCOMERS_PART: u32 = 4;

/// Timers that may be left over from connections that are gone, beside one for each that lives.
const STALE_TIMERS: usize = 1024;

const WAKER: Token = Token(usize::MAX);

/// What the worker tells a loop.
pub enum Command {
    /// Serve by this snapshot from now on.
    Adopt {
        /// What is in force.
        snapshot: Arc<Snapshot>,
        /// Listening sockets that were opened for it.
        opened: Vec<(ListenerKey, OwnedFd)>,
        /// Told when it is done, the queues of removed listeners taken in.
        done: mpsc::Sender<()>,
    },
    /// Tell of connections.
    Page {
        /// Where the page begins; 0: the first.
        from: u32,
        /// Just the connection with this id.
        only: Option<u128>,
        /// Gets the page.
        answer: mpsc::Sender<Page>,
    },
    /// End these connections.
    Kill {
        /// As they stood on a page.
        keys: Vec<Key>,
        /// Gets how many were still there.
        answer: mpsc::Sender<usize>,
    },
    /// Accept no more, finish what runs, end.
    Drain {
        /// When what is left is cut.
        deadline: Option<Instant>,
    },
    /// Cut everything and end.
    Stop,
}

#[derive(Default)]
#[repr(align(128))]
struct Shared {
    busy: AtomicBool,
    /// Turns, and steps of connections within them. Written by the loop alone.
    steps: AtomicU64,
    connections: AtomicU32,
}

impl Shared {
    /// One writer: it takes no locked instruction.
    fn count_step(&self) {
        self.steps.store(self.steps.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// A running loop.
pub struct Handle {
    commands: mpsc::Sender<Command>,
    waker: Waker,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Gives it something to do.
    pub fn send(&self, command: Command) {
        // A loop that is gone needs no command.
        if self.commands.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }

    /// Lets it make a turn, if it can.
    pub fn wake(&self) {
        let _ = self.waker.wake();
    }

    /// Waits for its end.
    pub fn join(self) {
        let _ = self.thread.join();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// For the watchdog: whether it is at work, and how many steps it has made: each turn, and each connection in it, is one.
    pub fn ticks(&self) -> (bool, u64) {
        (self.shared.busy.load(Ordering::Relaxed), self.shared.steps.load(Ordering::Relaxed))
    }

    /// Open connections.
    pub fn connections(&self) -> u32 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

/// Starts loop number `index`, on these CPUs if there are any; `id_prefix` makes the ids of its connections unique.
///
/// # Errors
/// No poll or thread could be made.
pub fn spawn(index: usize, id_prefix: u64, cpus: Vec<u16>, queue: Queue, stats: Arc<Stats>) -> io::Result<Handle> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let (commands, inbox) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    let minute = stats.minute_until(Instant::now());
    let event_loop = Loop {
        index,
        poll,
        inbox,
        queue,
        stats,
        shared: Arc::clone(&shared),
        snapshot: None,
        listeners: Vec::new(),
        listener_tokens: usize::MAX,
        first_listener: 0,
        slots: Slots::default(),
        established: VecDeque::new(),
        handshaking: VecDeque::new(),
        timers: BinaryHeap::new(),
        scratch: Scratch::default(),
        ids: u128::from(id_prefix) << 64 | (index as u128) << 48,
        draining: None,
        complained: None,
        minute,
        event_count: EVENTS,
        line: String::new(),
    };
    let ended = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name(format!("loop-{index}")).spawn(move || {
        if !cpus.is_empty() {
            if let Err(error) = limits::run_on(&cpus) {
                log::warn!("thread {} can not be kept on its CPUs: {error}", index + 1);
            }
        }
        event_loop.run();
        // Whoever has finished what it had to drain is not stuck.
        ended.busy.store(false, Ordering::Relaxed);
    })?;
    Ok(Handle { commands, waker, shared, thread })
}

struct Loop {
    index: usize,
    poll: Poll,
    inbox: mpsc::Receiver<Command>,
    queue: Queue,
    stats: Arc<Stats>,
    shared: Arc<Shared>,
    snapshot: Option<Arc<Snapshot>>,
    listeners: Vec<(Token, Listener)>,
    /// The token that was given last; they count down and are not used twice.
    listener_tokens: usize,
    /// Which listener has the first turn.
    first_listener: usize,
    slots: Slots,
    established: VecDeque<Key>,
    handshaking: VecDeque<Key>,
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    scratch: Scratch,
    ids: u128,
    /// No more connections; cut those that are left at this time, if there is one.
    draining: Option<Option<Instant>>,
    complained: Option<Instant>,
    /// As [`Stats::minute_until`] told it last; a turn is too short to work it out.
    minute: (u64, Instant),
    /// Events taken from the kernel at a time.
    event_count: usize,
    line: String,
}

fn now() -> Now {
    Now::new(Instant::now(), SystemTime::now())
}

impl Loop {
    fn run(mut self) {
        let mut events = Events::with_capacity(self.event_count);
        let mut began = None;
        loop {
            if events.capacity() != self.event_count {
                events = Events::with_capacity(self.event_count);
            }
            let instant = Instant::now();
            began.take().into_iter().for_each(|began| self.count_turn(began, instant));
            let timeout = self.timeout(instant);
            self.shared.busy.store(false, Ordering::Relaxed);
            let polled = self.poll.poll(&mut events, timeout);
            self.shared.busy.store(true, Ordering::Relaxed);
            self.shared.count_step();
            if let Err(error) = polled {
                if error.kind() != io::ErrorKind::Interrupted {
                    // Nothing can be served without it; the master starts another worker.
                    panic!("cannot wait for events: {error}");
                }
                continue;
            }
            let mut commands = false;
            for event in &events {
                match event.token() {
                    WAKER => commands = true,
                    token if token.0 > usize::MAX / 2 => {
                        if let Some((_, listener)) = self.listeners.iter_mut().find(|(given, _)| *given == token) {
                            listener.ready = true;
                        }
                    }
                    _ => self.note(event),
                }
            }
            let now = now();
            began = Some(now.instant);
            let newcomers = self.turn(now);
            self.accept(now, newcomers);
            self.fire_timers(now);
            self.slots.recycle();
            if commands && !self.obey() {
                return;
            }
            self.shared.connections.store(self.slots.len() as u32, Ordering::Relaxed);
            if let Some(deadline) = self.draining {
                if deadline.is_some_and(|deadline| deadline <= now.instant) {
                    self.kill_all();
                }
                if self.slots.len() == 0 {
                    return;
                }
            }
        }
    }

    /// Whoever became ready during the turn had to wait for its end.
    fn count_turn(&mut self, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        if now >= self.minute.1 {
            self.minute = self.stats.minute_until(now);
        }
        let counters = self.stats.turns().slot(self.index);
        counters.time.observe(took);
        counters.longest.note(self.minute.0, took);
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        let accepting = || self.can_accept() && self.listeners.iter().any(|(_, listener)| listener.may_accept());
        if !self.established.is_empty() || !self.handshaking.is_empty() || accepting() {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let paused = self.listeners.iter().filter_map(|(_, listener)| listener.paused_until).min();
        // Another loop may have made room under a limit that is shared.
        let crowded = self.listeners.iter().any(|(_, listener)| listener.ready).then(|| now + ACCEPT_PAUSE);
        let drained = self.draining.flatten();
        let next = [timer, paused, crowded, drained].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Keeps in mind what the kernel said.
    fn note(&mut self, event: &mio::event::Event) {
        let (key, side) = Key::from_token(event.token());
        let Some(slot) = self.slots.slot(key) else { return };
        let ready = &mut slot.connection.ready;
        let hung_up = event.is_read_closed() || event.is_error();
        if event.is_readable() || hung_up {
            ready.insert(Ready::read(side));
        }
        if event.is_writable() || event.is_write_closed() || event.is_error() {
            ready.insert(Ready::write(side));
        }
        if hung_up {
            ready.insert(Ready::end(side));
        }
        if event.is_priority() {
            ready.insert(Ready::URGENT);
        }
        if event.is_error() && side == Side::Client {
            ready.insert(Ready::CLIENT_BROKEN);
        }
        if slot.connection.is_runnable() {
            self.enqueue(key);
        }
    }

    /// Drives whoever waits: the established first, each once, then handshakes while there is time. Answers how much time those
    /// had, which new connections have, too.
    fn turn(&mut self, now: Now) -> Duration {
        let start = Instant::now();
        for _ in 0..self.established.len() {
            if let Some(key) = self.established.pop_front() {
                self.drive(key, now);
            }
        }
        let established = start.elapsed();
        let newcomers = NEWCOMERS_TIME.max(established / NEWCOMERS_PART);
        for _ in 0..self.handshaking.len() {
            if let Some(key) = self.handshaking.pop_front() {
                self.drive(key, now);
            }
            if start.elapsed() > established + newcomers {
                break;
            }
        }
        newcomers
    }

    fn drive(&mut self, key: Key, now: Now) {
        self.step(key, now, |connection, now, scratch, wire| connection.drive(now, scratch, wire));
    }

    /// Lets a connection do something; a panic takes it alone.
    fn step(
        &mut self,
        key: Key,
        now: Now,
        step: impl FnOnce(&mut Connection, Now, &mut Scratch, &mut Sockets<'_>) -> Drive,
    ) {
        self.shared.count_step();
        let Some(slot) = self.slots.slot(key) else { return };
        slot.queued = false;
        let Slot { connection, client, client_writable, backend, peer, bind, .. } = slot;
        let mut wire = Sockets {
            client,
            backend,
            peer: *peer,
            registry: self.poll.registry(),
            key,
            client_writable,
            client_ends: false,
            server: &bind.backend.socket,
        };
        let scratch = &mut self.scratch;
        let outcome = catch_unwind(AssertUnwindSafe(|| step(connection, now, scratch, &mut wire)));
        let outcome = outcome.unwrap_or_else(|_| {
            connection.give_up(&mut wire);
            // Buffers that were on loan are lost with the connection.
            self.scratch = Scratch::default();
            Drive::Closed
        });
        self.count_progress(key);
        self.log_connected(key, now);
        match outcome {
            Drive::Closed => return self.finish(key, now),
            Drive::Again => self.enqueue(key),
            Drive::Wait => {}
        }
        self.set_timer(key);
    }

    fn enqueue(&mut self, key: Key) {
        let Some(slot) = self.slots.slot(key) else { return };
        if slot.queued {
            return;
        }
        slot.queued = true;
        if slot.connection.is_handshaking() {
            self.handshaking.push_back(key);
        } else {
            self.established.push_back(key);
        }
    }

    /// A timer is only moved forward; one that comes too early is set again.
    fn set_timer(&mut self, key: Key) {
        let Some(slot) = self.slots.slot(key) else { return };
        let Some(deadline) = slot.connection.deadline() else { return };
        if slot.timer.is_none_or(|timer| deadline < timer) {
            slot.timer = Some(deadline);
            self.timers.push(Reverse((deadline, key)));
            if self.timers.len() > 2 * self.slots.len() + STALE_TIMERS {
                let slots = &mut self.slots;
                self.timers.retain(|Reverse((at, key))| slots.slot(*key).is_some_and(|slot| slot.timer == Some(*at)));
            }
        }
    }

    fn fire_timers(&mut self, now: Now) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now.instant {
                return;
            }
            self.timers.pop();
            let Some(slot) = self.slots.slot(key) else { continue };
            if slot.timer != Some(at) {
                continue;
            }
            slot.timer = None;
            if slot.connection.deadline().is_some_and(|deadline| deadline <= now.instant) {
                self.step(key, now, |connection, now, scratch, wire| {
                    connection.handle_deadline(now, scratch, wire);
                    connection.drive(now, scratch, wire)
                });
            } else {
                self.set_timer(key);
            }
        }
    }

    /// Carries out what the worker wants; `false` ends the loop.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Adopt { snapshot, opened, done } => {
                    self.adopt(snapshot, opened);
                    // The worker may have stopped waiting.
                    let _ = done.send(());
                }
                // Whoever has asked may not wait any longer.
                Command::Page { from, only, answer } => {
                    let _ = answer.send(self.page(from, only));
                }
                Command::Kill { keys, answer } => {
                    let _ = answer.send(self.kill(&keys));
                }
                Command::Drain { deadline } => {
                    self.close_listeners(|_| true);
                    // Whoever asks again does not want to wait longer.
                    let sooner = [self.draining.flatten(), deadline].into_iter().flatten().min();
                    self.draining = Some(sooner);
                }
                Command::Stop => {
                    self.kill_all();
                    return false;
                }
            }
        }
        true
    }

    fn kill_all(&mut self) {
        let now = now();
        for key in self.slots.keys() {
            self.step(key, now, |connection, _, _, wire| {
                connection.kill(Kill::Stop, wire);
                Drive::Closed
            });
        }
        self.slots.recycle();
    }
}
