//! Where a loop keeps its connections. A token names a place and how often it was used before, so what is left over from an
//! earlier connection (an event, a timer) reaches nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mio::Token;

use super::stream::Stream;
use crate::proto::connection::Connection;
use crate::proto::wire::Side;
use crate::snapshot::Bind;

/// One connection and its sockets.
pub(super) struct Slot {
    pub(super) connection: Connection,
    pub(super) client: Stream,
    /// The poll looks out for the client's socket taking bytes.
    pub(super) client_writable: bool,
    pub(super) backend: Option<Stream>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) bind: Arc<Bind>,
    pub(super) accepted_at: SystemTime,
    /// Already waits for its turn.
    pub(super) queued: bool,
    pub(super) counted: Counted,
    /// Its line is written: `option logasap`.
    pub(super) logged: bool,
    /// When a timer is set for it; never later than its deadline.
    pub(super) timer: Option<Instant>,
}

/// What of a connection the counters have seen.
#[derive(Default)]
pub(super) struct Counted {
    /// It has begun to use its server.
    pub(super) established: bool,
    /// The server has accepted.
    pub(super) connected: bool,
    pub(super) to_backend: u64,
    pub(super) to_client: u64,
    pub(super) retries: u32,
}

impl Slot {
    /// Whether the PROXY header that must come first has yet to come.
    pub(super) fn awaits_proxy_header(&self) -> bool {
        self.bind.route.accept_proxy && self.connection.received().is_none()
    }
}

/// A place in [`Slots`], and its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The token of one of its sockets.
    pub(super) fn token(self, side: Side) -> Token {
        let side = match side {
            Side::Client => 0,
            Side::Backend => 1,
        };
        Token((self.generation as usize) << 32 | (self.index as usize) << 1 | side)
    }

    /// What [`Key::token`] was made from.
    pub(super) fn from_token(token: Token) -> (Self, Side) {
        let side = if token.0 & 1 == 0 { Side::Client } else { Side::Backend };
        (Self { index: (token.0 as u32) >> 1, generation: (token.0 >> 32) as u32 }, side)
    }
}

struct Place {
    generation: u32,
    slot: Option<Box<Slot>>,
}

/// All connections of a loop.
#[derive(Default)]
pub(super) struct Slots {
    places: Vec<Place>,
    free: Vec<u32>,
    /// Freed in this turn: not used again before its events are done with.
    freed: Vec<u32>,
    occupied: usize,
}

/// Places, at most; the last ones would collide with the tokens of listeners.
const PLACES: usize = 1 << 30;

impl Slots {
    /// Takes in a connection that is made from its key.
    pub(super) fn insert(&mut self, make: impl FnOnce(Key) -> Option<Box<Slot>>) -> Option<Key> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.places.len() < PLACES => {
                self.places.push(Place { generation: 0, slot: None });
                (self.places.len() - 1) as u32
            }
            None => return None,
        };
        let place = &mut self.places[index as usize];
        let key = Key { index, generation: place.generation };
        place.slot = make(key);
        if place.slot.is_none() {
            self.free.push(index);
            return None;
        }
        self.occupied += 1;
        Some(key)
    }

    pub(super) fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        let place = self.places.get_mut(key.index as usize)?;
        place.slot.as_deref_mut().filter(|_| place.generation == key.generation)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Box<Slot>> {
        let place = self.places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)?;
        let slot = place.slot.take()?;
        // Half of the range is left to the tokens of waker and listeners.
        place.generation = (place.generation + 1) & 0x7fff_ffff;
        self.freed.push(key.index);
        self.occupied -= 1;
        Some(slot)
    }

    /// The turn is over: freed places may be used again.
    pub(super) fn recycle(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// Number of connections.
    pub(super) fn len(&self) -> usize {
        self.occupied
    }

    /// Every connection's key.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.keys_from(0, self.places.len()).0
    }

    /// The keys in `count` places from the given one on, and the place behind them, if there is one.
    pub(super) fn keys_from(&self, from: u32, count: usize) -> (Vec<Key>, Option<u32>) {
        let from = (from as usize).min(self.places.len());
        let end = from.saturating_add(count).min(self.places.len());
        let places = self.places[from..end].iter().zip(from as u32..).filter(|(place, _)| place.slot.is_some());
        let keys = places.map(|(place, index)| Key { index, generation: place.generation }).collect();
        (keys, (end < self.places.len()).then_some(end as u32))
    }
}
