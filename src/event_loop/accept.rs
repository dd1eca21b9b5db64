//! Taking in new connections: how many at a time, when to stop, and which listeners there are.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::Token;

use super::listener::Listener;
use super::slots::{Counted, Slot};
use super::stream::{READ, Stream};
use super::{EVENTS, Loop};
use crate::material::ListenerKey;
use crate::proto::connection::{Connection, Now};
use crate::proto::wire::Side;
use crate::snapshot::{Bind, Snapshot};

/// Handshakes that wait for the processor, beyond which no connection is accepted: the others wait in the kernel's queue,
/// which costs no memory of ours. Connections that send nothing do not count, so they keep nobody out.
const HANDSHAKES_WAITING: usize = 128;

/// Connections accepted in a turn.
const ACCEPTS: usize = 64;

/// Connections taken in from a listener that is closed: as many as its queue can hold (`net.core.somaxconn`), and not
/// whatever comes while they are.
const LAST_ACCEPTS: usize = 4096;

/// Below it only root may send from (ip(7), net.ipv4.ip_unprivileged_port_start).
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// How long accepting pauses when the system has no descriptor or memory left, and how soon room under a shared limit is
/// noticed.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A message about that at most this often.
const ACCEPT_COMPLAINT: Duration = Duration::from_secs(10);

impl Loop {
    pub(super) fn can_accept(&self) -> bool {
        self.draining.is_none()
            && self.handshaking.len() < HANDSHAKES_WAITING
            && self.snapshot.as_ref().is_some_and(|snapshot| snapshot.has_room())
    }

    /// Takes in new connections for so long, one of each listener in turn.
    pub(super) fn accept(&mut self, now: Now, time: Duration) {
        for (_, listener) in &mut self.listeners {
            if listener.paused_until.is_some_and(|until| until <= now.instant) {
                listener.paused_until = None;
            }
        }
        let count = self.listeners.len();
        // In a row, those that had nothing.
        let mut passed = 0;
        let mut left = self.snapshot.as_ref().and_then(|snapshot| snapshot.accepts).unwrap_or(ACCEPTS);
        let start = Instant::now();
        while passed < count && left > 0 && self.can_accept() && start.elapsed() < time {
            self.first_listener = (self.first_listener + 1) % count;
            if self.listeners[self.first_listener].1.may_accept_now(now.instant) {
                self.accept_one(self.first_listener, now);
                left -= 1;
                passed = 0;
            } else {
                passed += 1;
            }
        }
    }

    /// Takes one connection out of a listener's queue.
    fn accept_one(&mut self, place: usize, now: Now) {
        let (_, listener) = &mut self.listeners[place];
        match listener.accept() {
            Ok((client, peer)) => {
                let bind = Arc::clone(&listener.bind);
                self.admit(client, peer, bind, now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
            Err(error) if concerns_one(&error) => {}
            Err(error) => {
                listener.paused_until = Some(now.instant + ACCEPT_PAUSE);
                self.stats.process().slot(self.index).accept_pauses.add(1);
                if self.complained.is_none_or(|last| now.instant.duration_since(last) >= ACCEPT_COMPLAINT) {
                    self.complained = Some(now.instant);
                    let name = &self.listeners[place].1.bind.frontend.name;
                    log::warn!("cannot accept on frontend {name}: {error}; accepting pauses until it works again");
                }
            }
        }
    }

    fn admit(&mut self, client: Stream, peer: Option<SocketAddr>, bind: Arc<Bind>, now: Now) {
        bind.count_in_rates(now.instant);
        self.ids += 1;
        let id = self.ids;
        let rejects_port = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.reject_privileged_ports);
        if rejects_port && peer.is_some_and(|peer| peer.port() < FIRST_UNPRIVILEGED_PORT) {
            bind.frontend.counters.slot(self.index).denied.add(1);
            return self.audit_denied(id, &bind, peer, client.local_address());
        }
        let registry = self.poll.registry();
        let counters = Arc::clone(&bind.frontend.counters);
        let speaks_first = bind.route.accept_proxy || bind.route.tls.is_some();
        let key = self.slots.insert(|key| {
            let mut client = client;
            client.register(registry, key.token(Side::Client), READ).ok()?;
            Some(Box::new(Slot {
                connection: Connection::new(Arc::clone(&bind.route), now, id),
                client,
                client_writable: false,
                backend: None,
                peer,
                bind,
                accepted_at: SystemTime::now(),
                queued: false,
                counted: Counted::default(),
                logged: false,
                timer: None,
            }))
        });
        let Some(key) = key else { return counters.slot(self.index).shed.add(1) };
        self.count_accept(key);
        self.set_timer(key);
        // Where the client has to speak first there is an event when it does, or has done so.
        if !speaks_first {
            self.enqueue(key);
        }
    }

    pub(super) fn adopt(&mut self, snapshot: Arc<Snapshot>, opened: Vec<(ListenerKey, OwnedFd)>) {
        self.close_listeners(|key| snapshot.bind(key).is_none());
        for (_, listener) in &mut self.listeners {
            if let Some(bind) = snapshot.bind(&listener.key) {
                listener.bind = Arc::clone(bind);
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
        self.event_count = snapshot.events.unwrap_or(EVENTS);
        self.snapshot = Some(snapshot);
    }

    /// Closes listeners, but takes in first who already waits there.
    pub(super) fn close_listeners(&mut self, gone: impl Fn(&ListenerKey) -> bool) {
        let now = super::now();
        for place in (0..self.listeners.len()).rev() {
            if !gone(&self.listeners[place].1.key) {
                continue;
            }
            let listener = &mut self.listeners[place].1;
            // A rate that makes others wait would lose these.
            (listener.ready, listener.paused_until) = (true, None);
            for _ in 0..LAST_ACCEPTS {
                if !self.listeners[place].1.ready || self.listeners[place].1.paused_until.is_some() {
                    break;
                }
                self.accept_one(place, now);
            }
            let (_, mut listener) = self.listeners.remove(place);
            let _ = listener.deregister(self.poll.registry());
        }
    }
}

/// Whether accept(2) failed for the connection that was first in the queue: the next one is behind it.
fn concerns_one(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::ECONNABORTED
                | Errno::EINTR
                | Errno::EPROTO
                | Errno::EPERM
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::ENONET
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::EOPNOTSUPP
        )
    )
}
