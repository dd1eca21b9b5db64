//! The I/O: a thread with its own poll, its own listening sockets, its own connections and timers.
//!
//! Loops share the snapshot, and counters that each loop alone writes. Each socket is registered once; events only set
//! readiness bits, and a connection is driven while it can do something with them. In a turn the established connections come
//! first, then handshakes for as long as [`HANDSHAKE_TIME`] lasts, then new connections.

mod finish;
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

use self::listener::Listener;
use self::slots::{Key, Slot, Slots};
use self::stream::Sockets;
use crate::log::Queue;
use crate::material::ListenerKey;
use crate::proto::connection::{Connection, Drive, Now, Scratch};
use crate::proto::wire::{Ready, Side, Wire};
use crate::snapshot::Snapshot;

/// Events taken from the kernel at a time.
const EVENTS: usize = 512;

/// What handshakes may take of a turn while established connections wait: a few of them.
const HANDSHAKE_TIME: Duration = Duration::from_millis(1);

/// Handshakes that wait for the processor, beyond which no connection is accepted: the others wait in the kernel's queue,
/// which costs no memory of ours. Connections that send nothing do not count, so they keep nobody out.
const HANDSHAKES_WAITING: usize = 128;

/// Timers that may be left over from connections that are gone, beside one for each that lives.
const STALE_TIMERS: usize = 1024;

/// Connections accepted in a turn.
const ACCEPTS: usize = 64;

/// How long accepting pauses when the system has no descriptor or memory left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A message about that at most this often.
const ACCEPT_COMPLAINT: Duration = Duration::from_secs(10);

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
    turn: AtomicU64,
    connections: AtomicU32,
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

    /// Waits for its end.
    pub fn join(self) {
        let _ = self.thread.join();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// For the watchdog: whether it is at work, and how many turns it has made.
    pub fn ticks(&self) -> (bool, u64) {
        (self.shared.busy.load(Ordering::Relaxed), self.shared.turn.load(Ordering::Relaxed))
    }

    /// Open connections.
    pub fn connections(&self) -> u32 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

/// Starts loop number `index`; `id_prefix` makes the ids of its connections unique.
///
/// # Errors
/// No poll or thread could be made.
pub fn spawn(index: usize, id_prefix: u64, queue: Queue) -> io::Result<Handle> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let (commands, inbox) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    let event_loop = Loop {
        index,
        poll,
        inbox,
        queue,
        shared: Arc::clone(&shared),
        snapshot: None,
        listeners: Vec::new(),
        listener_tokens: usize::MAX,
        slots: Slots::default(),
        established: VecDeque::new(),
        handshaking: VecDeque::new(),
        timers: BinaryHeap::new(),
        scratch: Scratch::default(),
        ids: u128::from(id_prefix) << 64 | (index as u128) << 48,
        draining: None,
        complained: None,
        line: String::new(),
    };
    let thread = std::thread::Builder::new().name(format!("loop-{index}")).spawn(move || event_loop.run())?;
    Ok(Handle { commands, waker, shared, thread })
}

struct Loop {
    index: usize,
    poll: Poll,
    inbox: mpsc::Receiver<Command>,
    queue: Queue,
    shared: Arc<Shared>,
    snapshot: Option<Arc<Snapshot>>,
    listeners: Vec<(Token, Listener)>,
    /// The token that was given last; they count down and are not used twice.
    listener_tokens: usize,
    slots: Slots,
    established: VecDeque<Key>,
    handshaking: VecDeque<Key>,
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    scratch: Scratch,
    ids: u128,
    /// No more connections; cut those that are left at this time, if there is one.
    draining: Option<Option<Instant>>,
    complained: Option<Instant>,
    line: String,
}

fn now() -> Now {
    Now::new(Instant::now(), SystemTime::now())
}

impl Loop {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.timeout(Instant::now());
            self.shared.busy.store(false, Ordering::Relaxed);
            let polled = self.poll.poll(&mut events, timeout);
            self.shared.busy.store(true, Ordering::Relaxed);
            self.shared.turn.fetch_add(1, Ordering::Relaxed);
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
            self.turn(now);
            self.accept(now);
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

    fn timeout(&self, now: Instant) -> Option<Duration> {
        let accepting = self.can_accept()
            && self.listeners.iter().any(|(_, listener)| listener.ready && listener.paused_until.is_none());
        if accepting || !self.established.is_empty() || !self.handshaking.is_empty() {
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
        if slot.connection.is_runnable() {
            self.enqueue(key);
        }
    }

    /// Drives whoever waits: the established first, each once, then handshakes while there is time.
    fn turn(&mut self, now: Now) {
        for _ in 0..self.established.len() {
            if let Some(key) = self.established.pop_front() {
                self.drive(key, now);
            }
        }
        let start = Instant::now();
        for _ in 0..self.handshaking.len() {
            if let Some(key) = self.handshaking.pop_front() {
                self.drive(key, now);
            }
            if start.elapsed() > HANDSHAKE_TIME {
                break;
            }
        }
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
        let Some(slot) = self.slots.slot(key) else { return };
        slot.queued = false;
        let Slot { connection, client, backend, peer, bind, .. } = slot;
        let mut wire = Sockets {
            client,
            backend,
            peer: *peer,
            registry: self.poll.registry(),
            token: key.token(Side::Backend),
            keepalive: bind.server_keepalive,
        };
        let scratch = &mut self.scratch;
        let outcome = catch_unwind(AssertUnwindSafe(|| step(connection, now, scratch, &mut wire)));
        let (outcome, panicked) = match outcome {
            Ok(outcome) => (outcome, false),
            Err(_) => {
                // Buffers that were on loan are lost with the connection.
                self.scratch = Scratch::default();
                (Drive::Closed, true)
            }
        };
        self.count_dial(key);
        match outcome {
            Drive::Closed => return self.finish(key, now, panicked),
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

    fn can_accept(&self) -> bool {
        self.draining.is_none()
            && self.handshaking.len() < HANDSHAKES_WAITING
            && self.snapshot.as_ref().is_some_and(|snapshot| snapshot.has_room())
    }

    /// Takes in new connections, the listeners in turn.
    fn accept(&mut self, now: Now) {
        for (_, listener) in &mut self.listeners {
            if listener.paused_until.is_some_and(|until| until <= now.instant) {
                listener.paused_until = None;
            }
        }
        let mut left = ACCEPTS;
        for place in 0..self.listeners.len() {
            while left > 0 && self.can_accept() {
                let (_, listener) = &self.listeners[place];
                if !listener.ready || listener.paused_until.is_some() || !listener.bind.has_room() {
                    break;
                }
                left -= 1;
                self.accept_one(place, now);
            }
        }
        // Whoever stands first in one turn stands last in another.
        if self.listeners.len() > 1 && left == 0 {
            self.listeners.rotate_left(1);
        }
    }

    /// Takes one connection out of a listener's queue; `false` if there was none.
    fn accept_one(&mut self, place: usize, now: Now) -> bool {
        let (_, listener) = &mut self.listeners[place];
        match listener.accept() {
            Ok((client, peer)) => {
                let bind = Arc::clone(&listener.bind);
                self.admit(client, peer, bind, now);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listener.ready = false;
                false
            }
            Err(error) if is_exhaustion(&error) => {
                listener.paused_until = Some(now.instant + ACCEPT_PAUSE);
                if self.complained.is_none_or(|last| now.instant.duration_since(last) >= ACCEPT_COMPLAINT) {
                    self.complained = Some(now.instant);
                    let name = &self.listeners[place].1.bind.frontend.name;
                    log::warn!("cannot accept on frontend {name}: {error}; accepting pauses until there is room again");
                }
                false
            }
            // The client went away while it was waiting (accept(2)): the next one is behind it.
            Err(_) => true,
        }
    }

    fn admit(
        &mut self,
        client: stream::Stream,
        peer: Option<std::net::SocketAddr>,
        bind: Arc<crate::snapshot::Bind>,
        now: Now,
    ) {
        self.ids += 1;
        let id = self.ids;
        let registry = self.poll.registry();
        let key = self.slots.insert(|key| {
            let mut client = client;
            client.register(registry, key.token(Side::Client)).ok()?;
            Some(Box::new(Slot {
                connection: Connection::new(Arc::clone(&bind.route), now, id),
                client,
                backend: None,
                peer,
                bind,
                accepted_at: SystemTime::now(),
                queued: false,
                dialled: false,
                timer: None,
            }))
        });
        let Some(key) = key else { return };
        self.count_accept(key);
        self.set_timer(key);
        self.enqueue(key);
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
                Command::Drain { deadline } => {
                    self.close_listeners(|_| true);
                    self.draining = Some(deadline);
                }
                Command::Stop => {
                    self.kill_all();
                    return false;
                }
            }
        }
        true
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>, opened: Vec<(ListenerKey, OwnedFd)>) {
        self.close_listeners(|key| snapshot.bind(key).is_none());
        for (_, listener) in &mut self.listeners {
            if let Some(bind) = snapshot.bind(&listener.key) {
                listener.bind = Arc::clone(bind);
                // The socket works as it is; what was asked for anew concerns new connections only.
                let _ = listener.set_options();
            }
        }
        for (key, fd) in opened {
            let Some(bind) = snapshot.bind(&key) else { continue };
            self.listener_tokens -= 1;
            let token = Token(self.listener_tokens);
            let opened = Listener::new(key, Arc::clone(bind), fd).and_then(|mut listener| {
                listener.register(self.poll.registry(), token)?;
                Ok(listener)
            });
            match opened {
                Ok(listener) => self.listeners.push((token, listener)),
                Err(error) => log::error!("cannot use a listening socket of frontend {}: {error}", bind.frontend.name),
            }
        }
        for key in self.slots.keys() {
            let Some(slot) = self.slots.slot(key) else { continue };
            let policy = snapshot.bind(&slot.bind.key).and_then(|bind| bind.route.tls.as_ref());
            if let Some(policy) = policy {
                slot.connection.handle_reload(policy);
            }
        }
        self.snapshot = Some(snapshot);
    }

    /// Closes listeners, but takes in first who already waits there.
    fn close_listeners(&mut self, gone: impl Fn(&ListenerKey) -> bool) {
        let now = now();
        for place in (0..self.listeners.len()).rev() {
            if !gone(&self.listeners[place].1.key) {
                continue;
            }
            self.listeners[place].1.ready = true;
            while self.listeners[place].1.ready && self.listeners[place].1.paused_until.is_none() {
                self.accept_one(place, now);
            }
            let (_, mut listener) = self.listeners.remove(place);
            let _ = listener.deregister(self.poll.registry());
        }
    }

    fn kill_all(&mut self) {
        let now = now();
        for key in self.slots.keys() {
            self.step(key, now, |connection, _, _, wire| {
                connection.kill(wire);
                wire.abort(Side::Client);
                Drive::Closed
            });
        }
        self.slots.recycle();
    }
}

/// The system has no more descriptors or memory for now.
fn is_exhaustion(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}
