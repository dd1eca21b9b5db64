//! `audit`: where records about connections and reloads go, and which of them.

use super::{Location, LogSink};

/// `audit <target> [len <bytes>] [format json] [events <event>[,<event>…]]` (extension).
#[derive(Clone, Debug)]
pub struct AuditTarget {
    /// Where records go.
    pub sink: LogSink,
    /// Longest record in bytes, a syslog header included.
    pub max_length: usize,
    /// What is recorded.
    pub events: Vec<AuditEvent>,
    /// Where the line stands.
    pub at: Location,
}

/// What a record is about. A connection has one record at its end, whichever fits, and `establish` if that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditEvent {
    /// A connection that was let in has ended.
    Close,
    /// A client did not complete its handshake, or never began one.
    HandshakeFailed,
    /// A client was turned away before TLS.
    Denied,
    /// A connection was ended from here: by a command, or because the process stops.
    Cut,
    /// A reload was adopted or refused.
    Reload,
    /// A client was let in.
    Establish,
}

impl AuditEvent {
    /// Every event.
    pub const ALL: [Self; 6] =
        [Self::Close, Self::HandshakeFailed, Self::Denied, Self::Cut, Self::Reload, Self::Establish];

    /// What is recorded unless the line says otherwise: everything, each connection once.
    pub const DEFAULT: [Self; 5] = [Self::Close, Self::HandshakeFailed, Self::Denied, Self::Cut, Self::Reload];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::HandshakeFailed => "handshake_failed",
            Self::Denied => "denied",
            Self::Cut => "cut",
            Self::Reload => "reload",
            Self::Establish => "establish",
        }
    }
}
