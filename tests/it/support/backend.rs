//! Backends. A [`Scripted`] one hands each connection to the test, which then plays the server itself; an [`Echo`] answers by
//! itself what it gets.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::client::timed_out;
use super::proxy_header::{self, Header};
use super::{Bowline, DEADLINE};

/// How a connection from Bowline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A FIN.
    Fin,
    /// A RST.
    Reset,
}

/// A listening socket whose connections the test takes one by one.
#[derive(Debug)]
pub(crate) struct Scripted {
    listener: Socket,
}

impl Scripted {
    /// On a TCP port of the loopback address.
    pub(crate) fn start() -> Self {
        Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None, 128)
    }

    /// On this address, with this SO_RCVBUF (inherited by every connection) and backlog.
    pub(crate) fn listen(address: SocketAddr, receive_buffer: Option<usize>, backlog: i32) -> Self {
        let domain = Domain::for_address(address);
        let listener = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).expect("a backend's socket");
        listener.set_reuse_address(true).expect("SO_REUSEADDR");
        if let Some(bytes) = receive_buffer {
            listener.set_recv_buffer_size(bytes).expect("SO_RCVBUF");
        }
        listener.bind(&address.into()).expect("a backend's port");
        listener.listen(backlog).expect("a backend that listens");
        Self { listener }
    }

    /// On a unix socket that everyone may connect to.
    pub(crate) fn unix(path: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a unix socket");
        let address = SockAddr::unix(path).expect("a short path");
        listener.bind(&address).expect("a backend's path");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("mode 777");
        listener.listen(128).expect("a backend that listens");
        Self { listener }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.listener.local_addr().expect("an address");
        address.as_socket().expect("an IP address")
    }

    /// The next connection.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub(crate) fn accept(&self) -> Peer {
        match self.accept_within(DEADLINE) {
            Some(peer) => peer,
            None => panic!("no connection at the backend in {DEADLINE:?}"),
        }
    }

    /// The next connection, if one comes in time.
    pub(crate) fn accept_within(&self, deadline: Duration) -> Option<Peer> {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(deadline).expect("less than 24 days");
        if poll(&mut fds, timeout).expect("poll") == 0 {
            return None;
        }
        let (socket, _) = self.listener.accept().expect("a connection");
        Some(Peer::new(socket))
    }

    /// Ends Bowline and makes sure that it had never connected. The kernel keeps connections that nobody accepted even when
    /// they are long gone, so what this does not see did not happen.
    #[track_caller]
    pub(crate) fn assert_untouched_by(&self, bowline: Bowline) {
        let log = bowline.kill();
        if let Some(mut peer) = self.accept_within(Duration::ZERO) {
            let (data, end) = peer.read_to_end();
            panic!("a connection at the backend with {data:02x?}, then {end:?}; log:\n{}", log.text());
        }
    }
}

/// A connection from Bowline, as its backend has it.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: Socket,
}

impl Peer {
    fn new(socket: Socket) -> Self {
        socket.set_nonblocking(false).expect("blocking");
        socket.set_read_timeout(Some(DEADLINE)).expect("SO_RCVTIMEO");
        socket.set_write_timeout(Some(DEADLINE)).expect("SO_SNDTIMEO");
        Self { socket }
    }

    /// A second handle, to read and write at the same time.
    pub(crate) fn handle(&self) -> Self {
        Self { socket: self.socket.try_clone().expect("a handle") }
    }

    /// Bowline's end.
    pub(crate) fn remote(&self) -> SocketAddr {
        let address = self.socket.peer_addr().expect("a connection");
        address.as_socket().expect("an IP address")
    }

    /// Receives exactly `length` bytes.
    #[track_caller]
    pub(crate) fn read_exact(&mut self, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        if let Err(error) = (&self.socket).read_exact(&mut data) {
            panic!("{length} bytes at the backend: {error}");
        }
        data
    }

    /// Receives everything up to the end, and how it ended.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let mut data = Vec::new();
        let mut piece = [0; 65536];
        loop {
            match (&self.socket).read(&mut piece) {
                Ok(0) => return (data, End::Fin),
                Ok(read) => data.extend_from_slice(&piece[..read]),
                Err(error) if timed_out(&error) => {
                    panic!("no end of stream at the backend after {} bytes", data.len())
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return (data, End::Reset);
                }
                Err(error) => panic!("reading at the backend: {error}"),
            }
        }
    }

    /// How the stream ended, without data before it.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        let (data, end) = self.read_to_end();
        assert_eq!(data, b"", "data in place of an end");
        end
    }

    /// The bytes of a PROXY header of version 2, and not one more.
    #[track_caller]
    pub(crate) fn raw_header(&mut self) -> Vec<u8> {
        let mut bytes = self.read_exact(16);
        let first: &[u8; 16] = bytes.first_chunk().expect("16 bytes");
        let length = proxy_header::length(first).expect("a PROXY v2 header");
        bytes.extend(self.read_exact(length - 16));
        bytes
    }

    /// Reads a PROXY header of version 2, and not a byte more.
    #[track_caller]
    pub(crate) fn header(&mut self) -> Header {
        let bytes = self.raw_header();
        match proxy_header::parse(&bytes) {
            Ok(header) => header,
            Err(error) => panic!("a bad PROXY v2 header: {error}: {bytes:02x?}"),
        }
    }

    /// Reads a line that ends with CR LF, and not a byte more.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.read_exact(1));
            assert!(line.len() < 108, "a line without end: {line:02x?}");
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("text")
    }

    /// Sends data.
    #[track_caller]
    pub(crate) fn write_all(&mut self, data: &[u8]) {
        if let Err(error) = (&self.socket).write_all(data) {
            panic!("writing {} bytes at the backend: {error}", data.len());
        }
    }

    /// Sends as much of endless zeros as Bowline takes until it took nothing for `patience`; how much that was. Stops at `most`.
    #[track_caller]
    pub(crate) fn fill(&mut self, most: usize, patience: Duration) -> usize {
        fill(&self.socket, most, patience)
    }

    /// Sends a FIN.
    #[track_caller]
    pub(crate) fn fin(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("a connection");
    }

    /// Closes with a RST.
    pub(crate) fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// A RST comes although nothing is read.
    #[track_caller]
    pub(crate) fn assert_reset_unread(&mut self) {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let timeout = PollTimeout::try_from(DEADLINE).expect("less than 24 days");
        assert_eq!(poll(&mut fds, timeout).expect("poll"), 1, "no RST");
        let error = self.socket.take_error().expect("SO_ERROR").expect("an error");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    /// Nothing arrives for as long as `length`.
    #[track_caller]
    pub(crate) fn assert_silent(&mut self, length: Duration) {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(length).expect("less than 24 days");
        let ready = poll(&mut fds, timeout).expect("poll");
        assert_eq!(ready, 0, "data or an end at the backend");
    }
}

/// Writes zeros until nobody takes them for `patience`, or `most` bytes are gone; how many went.
#[track_caller]
pub(crate) fn fill(socket: &Socket, most: usize, patience: Duration) -> usize {
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    let zeros = [0; 65536];
    let mut sent = 0;
    let mut last_progress = Instant::now();
    while sent < most && last_progress.elapsed() < patience {
        match (&mut &*socket).write(&zeros[..zeros.len().min(most - sent)]) {
            Ok(written) => {
                sent += written;
                last_progress = Instant::now();
            }
            Err(error) if timed_out(&error) => {
                let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                poll(&mut fds, PollTimeout::from(50_u16)).expect("poll");
            }
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
    socket.set_nonblocking(false).expect("O_NONBLOCK");
    sent
}

/// Sends back what it gets; ends its answer when the request ends.
#[derive(Debug)]
pub(crate) struct Echo {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Echo {
    /// On a TCP port of the loopback address.
    pub(crate) fn start() -> Self {
        let scripted = Scripted::start();
        let address = scripted.address();
        let connections = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, stopped) = (connections.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(peer) = scripted.accept_within(Duration::from_millis(100)) {
                    count.fetch_add(1, Ordering::Relaxed);
                    std::thread::spawn(move || serve_echo(&peer.socket));
                }
            }
        });
        Self { address, connections, stop }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn serve_echo(socket: &Socket) {
    // A connection may live as long as its test; when the test ends, so does the connection.
    let _ = socket.set_read_timeout(None);
    let mut piece = [0; 65536];
    while let Ok(read @ 1..) = (&mut &*socket).read(&mut piece) {
        if (&mut &*socket).write_all(&piece[..read]).is_err() {
            return;
        }
    }
    let _ = socket.shutdown(Shutdown::Write);
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A backend that takes no more connections: SYNs to it are dropped, as behind a firewall.
#[derive(Debug)]
pub(crate) struct BlackHole {
    full: Scripted,
    _queued: Vec<Socket>,
}

impl BlackHole {
    /// A listener with a queue of one, filled up.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let full = Scripted::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None, 0);
        let address = full.address().into();
        let mut queued = Vec::new();
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let patience = Duration::from_millis(300);
            let connected = socket.connect_timeout(&address, patience).is_ok();
            queued.push(socket);
            if !connected {
                return Self { full, _queued: queued };
            }
            assert!(queued.len() < 64, "the queue never fills");
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.full.address()
    }
}
