//! What the core asks of the two sockets of a connection. The event loop answers with system calls, the simulation with
//! pipes in memory.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::proxy_out::Endpoints;
use crate::tls::identity::Verdict;

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Backend,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// IP address and port.
    Inet(SocketAddr),
    /// Unix stream socket with a path.
    Unix(PathBuf),
    /// Abstract unix socket.
    Abstract(Vec<u8>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "abns@{}", name.escape_ascii()),
        }
    }
}

/// The sockets of one connection. None of the calls blocks; `WouldBlock` says so.
pub trait Wire {
    /// Reads once; `Ok(0)` is the end of the stream.
    fn read(&mut self, side: Side, space: &mut [u8]) -> io::Result<usize>;
    /// Writes once.
    fn write(&mut self, side: Side, bytes: &[u8]) -> io::Result<usize>;
    /// The next write is the last before [`Wire::shutdown_write`]: both may go out as one.
    fn announce_end(&mut self, _side: Side) {}
    /// Sends FIN after what was written.
    fn shutdown_write(&mut self, side: Side);
    /// Closes with RST: the stream did not end, it broke.
    fn abort(&mut self, side: Side);
    /// Starts to connect to a server, which takes a verdict in hand: it is spent once the server has accepted.
    fn dial(&mut self, target: &Target, verdict: &Verdict) -> io::Result<()>;
    /// How the attempt to connect to the server has ended; asked once the socket takes bytes.
    fn connected(&mut self) -> io::Result<()>;
    /// Addresses of the client's socket.
    fn endpoints(&self) -> Endpoints;
}

/// What the kernel said and no call has contradicted since: bits that events set and `WouldBlock` clears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(u8);

impl Ready {
    /// The client's socket has bytes or its end to read.
    pub const CLIENT_READ: Self = Self(1);
    /// The client's socket takes bytes.
    pub const CLIENT_WRITE: Self = Self(2);
    /// The backend's socket has bytes or its end to read.
    pub const BACKEND_READ: Self = Self(4);
    /// The backend's socket takes bytes.
    pub const BACKEND_WRITE: Self = Self(8);
    /// The client's stream has ended behind what is there to read, so a short read does not mean that nothing is left.
    pub const CLIENT_END: Self = Self(16);
    /// The same for the backend.
    pub const BACKEND_END: Self = Self(32);
    /// The client's socket has failed, by a reset most likely: seen even while nothing is read from it.
    pub const CLIENT_BROKEN: Self = Self(64);
    /// One of the sides has sent urgent data. A read ends before such a byte (tcp(7)), so from now on a short one does not mean
    /// that nothing is left.
    pub const URGENT: Self = Self(128);

    /// Readable bit of a side.
    pub fn read(side: Side) -> Self {
        match side {
            Side::Client => Self::CLIENT_READ,
            Side::Backend => Self::BACKEND_READ,
        }
    }

    /// Writable bit of a side.
    pub fn write(side: Side) -> Self {
        match side {
            Side::Client => Self::CLIENT_WRITE,
            Side::Backend => Self::BACKEND_WRITE,
        }
    }

    /// Bit for the end of a side's stream.
    pub fn end(side: Side) -> Self {
        match side {
            Side::Client => Self::CLIENT_END,
            Side::Backend => Self::BACKEND_END,
        }
    }

    /// Sets bits.
    pub fn insert(&mut self, bits: Self) {
        self.0 |= bits.0;
    }

    /// Clears bits.
    pub fn remove(&mut self, bits: Self) {
        self.0 &= !bits.0;
    }

    /// Whether all of `bits` are set.
    pub fn contains(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// Whether any of `bits` is set.
    pub fn intersects(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }
}

impl std::ops::BitOr for Ready {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a read has brought.
#[derive(Debug)]
pub(super) enum Read {
    Bytes(usize),
    Blocked,
    End,
    Broken,
}

/// Reads once, keeping `ready` true: the only place that looks for `WouldBlock` on reading.
pub(super) fn read<W: Wire>(wire: &mut W, side: Side, ready: &mut Ready, space: &mut [u8]) -> Read {
    loop {
        match wire.read(side, space) {
            Ok(0) => return Read::End,
            Ok(count) => {
                // A short read has emptied the socket; whatever comes later is a new event (epoll(7)).
                if count < space.len() && !ready.intersects(Ready::end(side) | Ready::URGENT) {
                    ready.remove(Ready::read(side));
                }
                return Read::Bytes(count);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    ready.remove(Ready::read(side));
                    return Read::Blocked;
                }
                io::ErrorKind::Interrupted => {}
                _ => return Read::Broken,
            },
        }
    }
}

/// Writes once, keeping `ready` true: the only place that looks for `WouldBlock` on writing. `Ok(0)`: blocked.
pub(super) fn write<W: Wire>(wire: &mut W, side: Side, ready: &mut Ready, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match wire.write(side, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                if count < bytes.len() {
                    ready.remove(Ready::write(side));
                }
                return Ok(count);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    ready.remove(Ready::write(side));
                    return Ok(0);
                }
                io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}
