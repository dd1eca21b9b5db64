//! The sockets of a connection, and the system calls behind [`Wire`].

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use nix::libc;
use socket2::SockRef;

use super::slots::Key;
use crate::proto::proxy_out::{Endpoint, Endpoints};
use crate::proto::wire::{Side, Target, Wire};
use crate::socket::ServerSocket;
use crate::tls::identity::Verdict;

/// What a socket has to read, and whether some of it is urgent.
pub(super) const READ: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Both directions.
const BOTH: Interest = READ.add(Interest::WRITABLE);

/// A connected or connecting stream socket.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects without waiting.
    fn connect(target: &Target, server: &ServerSocket) -> io::Result<Self> {
        Ok(match target {
            Target::Inet(address) => Self::Tcp(TcpStream::from_std(server.connect(*address)?)),
            Target::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            Target::Abstract(name) => Self::Unix(UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?)?),
        })
    }

    /// Tells the poll of a new socket, and what to look for.
    pub(super) fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => registry.register(stream, token, interest),
            Self::Unix(stream) => registry.register(stream, token, interest),
        }
    }

    /// Tells the poll to look for something else. What is there already is an event.
    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => registry.reregister(stream, token, interest),
            Self::Unix(stream) => registry.reregister(stream, token, interest),
        }
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(space),
            Self::Unix(stream) => stream.read(space),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    /// Writes what [`Self::shutdown_write`] follows: TCP sends both as one segment.
    fn write_last(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => SockRef::from(&*stream).send_with_flags(bytes, libc::MSG_MORE | libc::MSG_NOSIGNAL),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn shutdown_write(&self) {
        // An error means that the socket is already of no use, which the next call on it will tell.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// The next close sends RST. Unix sockets have no reset.
    fn linger_zero(&self) {
        if let Self::Tcp(stream) = self {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
        }
    }

    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Both sockets of a connection for the length of one call into the core.
pub(super) struct Sockets<'a> {
    pub(super) client: &'a mut Stream,
    pub(super) backend: &'a mut Option<Stream>,
    /// Address of the client's end; `None` on unix sockets.
    pub(super) peer: Option<SocketAddr>,
    pub(super) registry: &'a Registry,
    pub(super) key: Key,
    /// The poll looks out for the client's socket taking bytes.
    pub(super) client_writable: &'a mut bool,
    /// What is written to the client next is followed by its end.
    pub(super) client_ends: bool,
    /// How sockets to the server are made.
    pub(super) server: &'a ServerSocket,
}

impl Sockets<'_> {
    fn side(&mut self, side: Side) -> io::Result<&mut Stream> {
        match side {
            Side::Client => Ok(self.client),
            Side::Backend => self.backend.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Wire for Sockets<'_> {
    fn read(&mut self, side: Side, space: &mut [u8]) -> io::Result<usize> {
        self.side(side)?.read(space)
    }

    fn write(&mut self, side: Side, bytes: &[u8]) -> io::Result<usize> {
        let written = match side {
            Side::Client if self.client_ends => self.client.write_last(bytes),
            _ => self.side(side)?.write(bytes),
        };
        let blocked = match &written {
            Ok(count) => *count < bytes.len(),
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        // A new socket takes bytes, and most take all there ever are: to be told so would wake the loop for nothing.
        if blocked && side == Side::Client && !*self.client_writable {
            self.client.reregister(self.registry, self.key.token(side), BOTH)?;
            *self.client_writable = true;
        }
        written
    }

    fn announce_end(&mut self, side: Side) {
        self.client_ends |= side == Side::Client;
    }

    fn shutdown_write(&mut self, side: Side) {
        if let Ok(stream) = self.side(side) {
            stream.shutdown_write();
        }
    }

    fn abort(&mut self, side: Side) {
        match side {
            Side::Client => self.client.linger_zero(),
            // Dropping closes, and the poll forgets a closed descriptor by itself.
            Side::Backend => {
                if let Some(stream) = self.backend.take() {
                    stream.linger_zero();
                }
            }
        }
    }

    fn dial(&mut self, target: &Target, _: &Verdict) -> io::Result<()> {
        let mut stream = Stream::connect(target, self.server)?;
        stream.register(self.registry, self.key.token(Side::Backend), BOTH)?;
        *self.backend = Some(stream);
        Ok(())
    }

    fn connected(&mut self) -> io::Result<()> {
        // Writable is only reported once the attempt is over; SO_ERROR tells how.
        self.side(Side::Backend)?.take_error()?.map_or(Ok(()), Err)
    }

    fn endpoints(&self) -> Endpoints {
        let endpoint = |address: Option<SocketAddr>| address.map_or(Endpoint::Unix, Endpoint::Inet);
        Endpoints { source: endpoint(self.peer), destination: endpoint(self.client.local_address()) }
    }
}
