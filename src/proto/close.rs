//! Why a connection ended. Everything that a peer can cause is a value here, never a panic.

use std::io;

use super::proxy_in;
use super::proxy_out::HeaderError;
use crate::tls::engine::Failure;

/// Why a connection ended.
#[derive(Debug)]
pub enum CloseReason {
    /// Both directions came to their end.
    Complete,
    /// The client was refused before anything was dialled.
    Refused(Box<ConnectionFailure>),
    /// The client went away before the handshake was complete.
    HandshakeAborted,
    /// `timeout client-hs`.
    HandshakeTimeout,
    /// The header for the server could not be written whole.
    Header(HeaderError),
    /// The server could not be reached.
    ConnectFailed(io::Error),
    /// `timeout connect`.
    ConnectTimeout,
    /// The client reset the connection, or cut it off without close_notify.
    ClientAborted,
    /// The client broke the rules of TLS after the handshake.
    ClientProtocol(Box<Failure>),
    /// The client sent too much that carried nothing.
    Flood,
    /// The server reset the connection.
    ServerAborted,
    /// `timeout client`, `timeout client-fin`, or `timeout tunnel`.
    ClientTimeout,
    /// `timeout server`, `timeout server-fin`, or `timeout tunnel`.
    ServerTimeout,
    /// TLS 1.2 allows no more records under the same keys.
    KeysExhausted,
    /// `hard-stop-after`, or a second signal to stop.
    Killed,
    /// An invariant of ours did not hold; the connection was given up.
    Panicked,
}

/// Why a client was refused.
#[derive(Debug)]
pub enum ConnectionFailure {
    /// It was about TLS or its certificate.
    Tls {
        /// What and whose.
        failure: Box<Failure>,
        /// It spoke HTTP in the clear.
        plain_http: bool,
    },
    /// What came was not a PROXY header.
    ProxyHeader(proxy_in::Reason),
    /// No whole PROXY header came in time.
    ProxyTimeout,
    /// Something else, in words.
    Words(&'static str),
}

impl ConnectionFailure {
    /// `hello` is what the client sent first, if that is known.
    pub(super) fn tls(failure: Box<Failure>, hello: &[u8]) -> Self {
        const METHODS: [&[u8]; 6] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"CONN"];
        Self::Tls { failure, plain_http: METHODS.iter().any(|method| hello.starts_with(method)) }
    }
}

impl CloseReason {
    /// HAProxy's termination state (manual, 8.5): what ended it, and in which phase.
    pub fn termination(&self) -> [u8; 2] {
        match self {
            Self::Complete => *b"--",
            Self::Refused(_) | Self::HandshakeAborted => *b"CR",
            Self::HandshakeTimeout => *b"cR",
            Self::Header(_) => *b"PC",
            Self::ConnectFailed(_) => *b"SC",
            Self::ConnectTimeout => *b"sC",
            Self::ClientAborted | Self::ClientProtocol(_) => *b"CD",
            Self::Flood => *b"PD",
            Self::ServerAborted => *b"SD",
            Self::ClientTimeout => *b"cD",
            Self::ServerTimeout => *b"sD",
            Self::KeysExhausted => *b"PD",
            Self::Killed => *b"KD",
            Self::Panicked => *b"ID",
        }
    }
}
