//! What control commands ask of a loop: its connections a page at a time, and the end of some of them. A page costs a loop
//! well under a millisecond; between two pages it serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::Loop;
use super::slots::{Key, Slot};
use crate::log::line::ClientAddress;
use crate::proto::close::Kill;
use crate::proto::connection::{Drive, Report};
use crate::snapshot::Bind;
use crate::tls::identity::TlsSession;

/// Places that are looked at for one page.
const PAGE_PLACES: usize = 256;

/// Some of a loop's connections.
#[derive(Default)]
pub struct Page {
    /// They, oldest place first.
    pub connections: Vec<Seen>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<u32>,
}

/// A connection as it was a moment ago.
pub struct Seen {
    /// To name it to the loop again.
    pub key: Key,
    /// Unique; PP2_TYPE_UNIQUE_ID.
    pub id: u128,
    /// Who is there: as a PROXY header announced it, else the socket's.
    pub client: ClientAddress,
    /// The other end of the client's socket.
    pub peer: Option<SocketAddr>,
    /// Its `bind` line, frontend and backend.
    pub bind: Arc<Bind>,
    /// It has begun to use its server.
    pub dialled: bool,
    /// When it was accepted.
    pub accepted_at: SystemTime,
    /// What it does, in a word.
    pub phase: &'static str,
    /// Times and bytes.
    pub report: Report,
    /// Bytes that wait for the server, and for the client.
    pub waiting: (usize, usize),
    /// What was negotiated.
    pub session: Option<TlsSession>,
    /// The client's certificate, verified: DER.
    pub certificate: Option<Vec<u8>>,
}

impl Loop {
    /// The page that begins at a place. With `only` just that connection.
    pub(super) fn page(&mut self, from: u32, only: Option<u128>) -> Page {
        let mut connections = Vec::new();
        let (keys, next) = self.slots.keys_from(from, PAGE_PLACES);
        for key in keys {
            let Some(slot) = self.slots.slot(key) else { continue };
            if only.is_none_or(|only| slot.connection.id() == only) {
                connections.push(seen(key, slot));
            }
        }
        Page { connections, next }
    }

    /// Ends those of these connections that are still there; answers how many.
    pub(super) fn kill(&mut self, keys: &[Key]) -> usize {
        let now = super::now();
        let before = self.slots.len();
        for key in keys {
            self.step(*key, now, |connection, _, _, wire| {
                connection.kill(Kill::Command, wire);
                Drive::Closed
            });
        }
        before - self.slots.len()
    }
}

fn seen(key: Key, slot: &Slot) -> Seen {
    Seen {
        key,
        id: slot.connection.id(),
        client: super::finish::client(slot),
        peer: slot.peer,
        bind: Arc::clone(&slot.bind),
        dialled: slot.counted.established,
        accepted_at: slot.accepted_at,
        phase: slot.connection.phase(),
        report: slot.connection.report().clone(),
        waiting: slot.connection.waiting(),
        session: slot.connection.session().cloned(),
        certificate: slot.connection.certificate().map(<[u8]>::to_vec),
    }
}
