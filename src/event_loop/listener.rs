//! A loop's share of the listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef};

use super::stream::Stream;
use crate::material::ListenerKey;
use crate::snapshot::Bind;

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An open listening socket and the `bind` line that it belongs to in the snapshot in force.
pub(super) struct Listener {
    pub(super) key: ListenerKey,
    pub(super) bind: Arc<Bind>,
    socket: Socket,
    /// Whether connections may be waiting; an event sets it, an empty queue clears it.
    pub(super) ready: bool,
    /// Not before this: the system had no resources, or a rate is reached.
    pub(super) paused_until: Option<Instant>,
}

impl Listener {
    pub(super) fn new(key: ListenerKey, bind: Arc<Bind>, fd: OwnedFd) -> io::Result<Self> {
        let unix = SockRef::from(&fd).domain()? == Domain::UNIX;
        let socket = if unix {
            let listener = std::os::unix::net::UnixListener::from(fd);
            listener.set_nonblocking(true)?;
            Socket::Unix(UnixListener::from_std(listener))
        } else {
            let listener = std::net::TcpListener::from(fd);
            listener.set_nonblocking(true)?;
            Socket::Tcp(TcpListener::from_std(listener))
        };
        Ok(Self { key, bind, socket, ready: true, paused_until: None })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().register(registry, token, Interest::READABLE)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }

    fn source(&mut self) -> &mut dyn Source {
        match &mut self.socket {
            Socket::Tcp(listener) => listener,
            Socket::Unix(listener) => listener,
        }
    }

    /// Whether a connection may be waiting, and there is room for it.
    pub(super) fn may_accept(&self) -> bool {
        self.ready && self.paused_until.is_none() && self.bind.has_room()
    }

    /// As [`Listener::may_accept`]; sets when a rate allows the next one, if it does not now.
    pub(super) fn may_accept_now(&mut self, now: Instant) -> bool {
        if !self.may_accept() {
            return false;
        }
        self.paused_until = self.bind.wait_until(now);
        self.paused_until.is_none()
    }

    /// Takes a connection out of the queue; the address is that of a TCP client.
    pub(super) fn accept(&mut self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                Ok((Stream::Tcp(stream), Some(address)))
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}
