//! The sockets of the process itself: `stats socket`, `-S` and `metrics socket`.
//!
//! The master opens them and keeps them over crashes and reloads; the worker answers. One thread, `control`, accepts; each
//! client has a thread of its own, of which there are `stats maxconn` for a socket at most. So a client that sends nothing,
//! reads nothing or sends rubbish costs its place and no more, and every command is written as plain steps one after another.
//! No event loop ever waits for any of this.

pub mod command;
mod connections;
mod gather;
mod http;
mod reload;
mod session;
mod ssl;
mod stat;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use crate::conf::model::Purpose;
use crate::event_loop::Handle;
use crate::ipc::{Admin, Outbox, Outcome};
use crate::log::Queue;
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::sys::usage::Usage;
use crate::tls::tickets::TicketKeys;

/// How long accepting pauses when the system has no descriptor, memory or thread left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it may take until no more clients are taken.
const CLOSING: Duration = Duration::from_secs(1);
/// How often an ending worker looks whether all is answered.
const FINISH_CHECK: Duration = Duration::from_millis(5);
/// Stack of a client's thread. What it does is shallow; long answers go out in pieces.
const STACK_BYTES: usize = 256 * 1024;

/// What commands and metrics are about. The worker makes it once.
pub struct Site {
    /// Counters.
    pub stats: Arc<Stats>,
    /// The event loops.
    pub loops: Arc<[Handle]>,
    /// Clients whose commands are being answered.
    at_work: AtomicU32,
    /// When the worker was started.
    pub since: Instant,
    /// What only metrics are made of.
    pub sources: Sources,
    snapshot: Mutex<Arc<Snapshot>>,
    master: reload::Master,
    /// What is open, for `show cli sockets`.
    sockets: Mutex<Vec<Admin>>,
}

/// What only metrics are made of.
pub struct Sources {
    /// Where log lines go, and are dropped.
    pub log: Queue,
    /// Keys of session tickets.
    pub tickets: Arc<TicketKeys>,
    /// Memory and descriptors of this process.
    pub usage: Arc<Usage>,
    /// When the worker was started.
    pub started: SystemTime,
    /// Set once the worker accepts no more.
    pub ending: Arc<AtomicBool>,
}

impl Site {
    /// Whether the worker accepts no more and finishes what runs.
    fn is_draining(&self) -> bool {
        self.sources.ending.load(Ordering::Relaxed)
    }

    /// What is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.snapshot))
    }

    /// The sockets of the process itself.
    fn sockets(&self) -> Vec<Admin> {
        lock(&self.sockets).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind these locks is replaced whole: a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running thread `control`.
pub struct Control {
    site: Arc<Site>,
    listeners: mpsc::Sender<Adopt>,
    waker: Arc<UnixStream>,
}

impl Control {
    /// Starts the thread, with no socket yet.
    ///
    /// # Errors
    /// No descriptor or thread is left.
    pub fn start(
        stats: Arc<Stats>,
        loops: Arc<[Handle]>,
        sources: Sources,
        snapshot: Arc<Snapshot>,
        outbox: Outbox,
    ) -> io::Result<Self> {
        let site = Arc::new(Site {
            stats,
            loops,
            at_work: AtomicU32::new(0),
            since: Instant::now(),
            sources,
            snapshot: Mutex::new(snapshot),
            master: reload::Master::new(outbox),
            sockets: Mutex::default(),
        });
        let (listeners, inbox) = mpsc::channel();
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let waker = Arc::new(waker);
        let acceptor = Acceptor { site: site.clone(), inbox, woken, waker: waker.clone(), listeners: Vec::new() };
        std::thread::Builder::new().name("control".into()).spawn(move || acceptor.run())?;
        Ok(Self { site, listeners, waker })
    }

    /// A configuration is in force: from now on these are the sockets, and the answers are about this snapshot. Clients that
    /// are there stay.
    pub fn adopt(&self, snapshot: Arc<Snapshot>, listeners: Vec<(Admin, OwnedFd)>) {
        *lock(&self.site.snapshot) = snapshot;
        *lock(&self.site.sockets) = listeners.iter().map(|(admin, _)| admin.clone()).collect();
        self.listen(listeners);
    }

    /// The master has answered to a reload.
    pub fn handle_reloaded(&self, request: u64, outcome: Outcome) {
        self.site.master.handle(request, outcome);
    }

    /// The master answers no more.
    pub fn hang_up(&self) {
        self.site.master.hang_up();
    }

    /// Waits until every command that was given is answered, for `limit` at most.
    pub fn finish(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.site.at_work.load(Ordering::SeqCst) > 0 && Instant::now() < end {
            std::thread::park_timeout(FINISH_CHECK);
        }
    }

    /// Takes no more clients: whoever connects from now on meets another worker, or nobody.
    pub fn close(&self) {
        let closed = self.listen(Vec::new());
        // The thread waits for nothing else than clients.
        let _ = closed.recv_timeout(CLOSING);
    }

    /// Hands over listeners; the channel is closed when they are the ones that there are.
    fn listen(&self, listeners: Vec<(Admin, OwnedFd)>) -> mpsc::Receiver<()> {
        let (done, adopted) = mpsc::channel();
        if self.listeners.send(Adopt { listeners, _done: done }).is_ok() {
            wake(&self.waker);
        }
        adopted
    }
}

/// A client whose commands are being answered.
struct AtWork<'a>(&'a AtomicU32);

impl<'a> AtWork<'a> {
    fn new(site: &'a Site) -> Self {
        site.at_work.fetch_add(1, Ordering::SeqCst);
        Self(&site.at_work)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A full pipe wakes as well.
fn wake(waker: &UnixStream) {
    let _ = io::Write::write(&mut &*waker, &[0]);
}

/// Listeners in the place of those that there are.
struct Adopt {
    listeners: Vec<(Admin, OwnedFd)>,
    /// Dropped when they are.
    _done: mpsc::Sender<()>,
}

/// A listening socket, and how many clients came through it and are still there.
struct Listener {
    admin: Admin,
    socket: Socket,
    clients: Arc<AtomicU32>,
}

impl Listener {
    fn has_room(&self) -> bool {
        self.clients.load(Ordering::Relaxed) < self.admin.maxconn
    }
}

struct Acceptor {
    site: Arc<Site>,
    inbox: mpsc::Receiver<Adopt>,
    woken: UnixStream,
    waker: Arc<UnixStream>,
    listeners: Vec<Listener>,
}

/// A place among a listener's clients; given back when dropped, however the thread ends.
struct Place {
    clients: Arc<AtomicU32>,
    /// Shared, because a client is counted as one descriptor when the master sees whether there are enough.
    waker: Arc<UnixStream>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
        wake(&self.waker);
    }
}

impl Acceptor {
    fn run(mut self) {
        loop {
            let ready = self.wait();
            while io::Read::read(&mut &self.woken, &mut [0; 64]).is_ok_and(|read| read > 0) {}
            let mut failed = false;
            for place in ready {
                if let Err(error) = self.accept(place) {
                    failed |= !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
                }
            }
            if let Some(adopt) = self.inbox.try_iter().last() {
                self.adopt(adopt.listeners);
            }
            if failed {
                std::thread::park_timeout(ACCEPT_PAUSE);
            }
        }
    }

    /// Which listeners have somebody waiting, and room.
    fn wait(&self) -> Vec<usize> {
        let mut set = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        let mut places = Vec::new();
        for (place, listener) in self.listeners.iter().enumerate().filter(|(_, listener)| listener.has_room()) {
            set.push(PollFd::new(listener.socket.as_fd(), PollFlags::POLLIN));
            places.push(place);
        }
        if poll(&mut set, PollTimeout::NONE).is_err() {
            return Vec::new();
        }
        places.into_iter().zip(&set[1..]).filter(|(_, one)| one.any() == Some(true)).map(|(place, _)| place).collect()
    }

    /// A listener that was there before keeps its count of clients.
    fn adopt(&mut self, listeners: Vec<(Admin, OwnedFd)>) {
        let before = std::mem::take(&mut self.listeners);
        for (admin, descriptor) in listeners {
            let same = before.iter().find(|listener| listener.admin.name == admin.name);
            let clients = same.map(|listener| Arc::clone(&listener.clients)).unwrap_or_default();
            self.listeners.push(Listener { admin, socket: Socket::from(descriptor), clients });
        }
    }

    /// Takes a client in and gives it a thread.
    fn accept(&self, place: usize) -> io::Result<()> {
        let listener = &self.listeners[place];
        let (socket, _) = listener.socket.accept()?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(listener.admin.timeout))?;
        socket.set_write_timeout(Some(listener.admin.timeout))?;
        listener.clients.fetch_add(1, Ordering::Relaxed);
        let place = Place { clients: listener.clients.clone(), waker: self.waker.clone() };
        let (site, Admin { purpose, timeout, .. }) = (self.site.clone(), listener.admin.clone());
        let serve = move || {
            let _place = place;
            match purpose {
                Purpose::Control(level) => session::serve(&socket, level, &site),
                Purpose::Metrics => http::serve(&socket, &site, timeout),
            }
        };
        std::thread::Builder::new().name("control client".into()).stack_size(STACK_BYTES).spawn(serve)?;
        Ok(())
    }
}
