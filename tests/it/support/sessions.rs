//! Sessions that a client remembers, and offers where it should not.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::NamedGroup;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Sessions to resume, offered to any server whatever its name: what an attacker would do.
#[derive(Debug)]
pub(crate) struct Sessions {
    memory: ClientSessionMemoryCache,
    offered: AtomicUsize,
}

impl Sessions {
    /// None remembered yet.
    pub(crate) fn new() -> Self {
        Self { memory: ClientSessionMemoryCache::new(64), offered: AtomicUsize::new(0) }
    }

    /// How often a session was offered.
    pub(crate) fn offers(&self) -> usize {
        self.offered.load(Ordering::Relaxed)
    }

    fn key() -> ServerName<'static> {
        ServerName::try_from("any.server").expect("a name")
    }

    fn count<T>(&self, session: Option<T>) -> Option<T> {
        if session.is_some() {
            self.offered.fetch_add(1, Ordering::Relaxed);
        }
        session
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.memory.set_kx_hint(Self::key(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.memory.kx_hint(&Self::key())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.memory.set_tls12_session(Self::key(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.count(self.memory.tls12_session(&Self::key()))
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.memory.remove_tls12_session(&Self::key());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.memory.insert_tls13_ticket(Self::key(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.count(self.memory.take_tls13_ticket(&Self::key()))
    }
}
