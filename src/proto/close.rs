//! Why a connection ended. Everything that a peer can cause is a value here, never a panic.

use std::io;

use super::connection::Stage;
use super::proxy_in;
use super::proxy_out::HeaderError;
use crate::stats::labels::{ClientVerify, ConnectError, HandshakeFailure, ProxyFailure};
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
    /// There is no server that takes connections.
    NoServer,
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
    /// It was ended from here.
    Killed(Kill),
    /// An invariant of ours did not hold; the connection was given up.
    Panicked,
}

/// What ended a connection that might have gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// `shutdown session(s)`.
    Command,
    /// `hard-stop-after`, or a second signal to stop.
    Stop,
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
    pub fn termination(&self, stage: Stage) -> [u8; 2] {
        let cause = match self {
            Self::Complete => return *b"--",
            Self::Refused(_) | Self::Header(_) | Self::Flood | Self::KeysExhausted => b'P',
            Self::HandshakeAborted | Self::ClientAborted | Self::ClientProtocol(_) => b'C',
            Self::ConnectFailed(error) if is_exhaustion(error) => b'R',
            Self::NoServer | Self::ConnectFailed(_) | Self::ServerAborted => b'S',
            Self::HandshakeTimeout | Self::ClientTimeout => b'c',
            Self::ConnectTimeout | Self::ServerTimeout => b's',
            Self::Killed(_) => b'K',
            Self::Panicked => b'I',
        };
        let phase = match stage {
            Stage::Request => b'R',
            Stage::Connect => b'C',
            Stage::Data => b'D',
            Stage::Last => b'L',
        };
        [cause, phase]
    }
}

impl CloseReason {
    /// The alert that the client was sent.
    pub fn alert(&self) -> Option<&'static str> {
        match self {
            Self::Refused(failure) => match &**failure {
                ConnectionFailure::Tls { failure, .. } => failure.alert,
                _ => None,
            },
            Self::ClientProtocol(failure) => failure.alert,
            _ => None,
        }
    }

    /// What a connection that ended before its handshake was complete is counted as; `None` if it was about something
    /// else. `heard` says whether the client ever sent a byte.
    pub fn handshake_failure(&self, heard: bool) -> Option<HandshakeFailure> {
        match self {
            Self::HandshakeAborted | Self::HandshakeTimeout if !heard => Some(HandshakeFailure::Empty),
            Self::HandshakeAborted => Some(HandshakeFailure::Aborted),
            Self::HandshakeTimeout => Some(HandshakeFailure::Timeout),
            Self::Refused(failure) => match &**failure {
                ConnectionFailure::Tls { plain_http: true, .. } => Some(HandshakeFailure::PlainHttp),
                ConnectionFailure::Tls { failure, .. } => Some(failure.kind),
                ConnectionFailure::Words(_) => Some(HandshakeFailure::TooLarge),
                ConnectionFailure::ProxyHeader(_) | ConnectionFailure::ProxyTimeout => None,
            },
            _ => None,
        }
    }

    /// What a connection that ended before its PROXY header had come is counted as.
    pub fn proxy_failure(&self, heard: bool) -> Option<ProxyFailure> {
        match self {
            Self::HandshakeAborted if !heard => Some(ProxyFailure::Empty),
            Self::HandshakeAborted => Some(ProxyFailure::Truncated),
            Self::Refused(failure) => match &**failure {
                ConnectionFailure::ProxyTimeout if !heard => Some(ProxyFailure::Empty),
                ConnectionFailure::ProxyTimeout => Some(ProxyFailure::Timeout),
                ConnectionFailure::ProxyHeader(proxy_in::Reason::Signature) => Some(ProxyFailure::NotHeader),
                ConnectionFailure::ProxyHeader(_) => Some(ProxyFailure::Invalid),
                ConnectionFailure::Tls { .. } | ConnectionFailure::Words(_) => None,
            },
            _ => None,
        }
    }

    /// What the client's certificate was refused for, if that is how it ended.
    pub fn client_verify(&self) -> Option<ClientVerify> {
        match self {
            Self::Refused(failure) => match &**failure {
                ConnectionFailure::Tls { failure, .. } => failure.client_verify(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Why the server could not be reached, if that is how it ended.
    pub fn connect_error(&self) -> Option<ConnectError> {
        use io::ErrorKind as Kind;
        match self {
            Self::ConnectTimeout => Some(ConnectError::Timeout),
            Self::ConnectFailed(error) if is_exhaustion(error) => Some(ConnectError::Resources),
            Self::ConnectFailed(error) => Some(match error.kind() {
                Kind::ConnectionRefused => ConnectError::Refused,
                Kind::TimedOut => ConnectError::Timeout,
                Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => ConnectError::Unreachable,
                Kind::ConnectionReset | Kind::ConnectionAborted => ConnectError::Reset,
                Kind::NotFound => ConnectError::NotFound,
                Kind::PermissionDenied => ConnectError::Permission,
                _ => ConnectError::Other,
            }),
            _ => None,
        }
    }
}

/// Whether the system had no descriptor, memory or port left.
pub fn is_exhaustion(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, OutOfMemory};
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.kind(), OutOfMemory | AddrNotAvailable)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}
