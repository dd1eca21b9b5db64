//! Options of TCP sockets: for the master, whose listening sockets hand them down to every connection that is accepted, and
//! for the loops, which connect to servers.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::conf::model::{KeepAlive, ListenOptions, Source, TcpOptions};
use crate::sys::reason;

sockopt_impl!(
    /// Connections that may be half open with data in their first packet (tcp(7), RFC 7413).
    FastOpenQueue,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    u32
);
sockopt_impl!(
    /// Seconds for which a connection may stay unaccepted because it has sent nothing (tcp(7)).
    DeferAccept,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    u32
);

/// As HAProxy; the kernel makes it the time of its retransmissions.
const DEFER_ACCEPT_SECONDS: u32 = 1;

/// Sets the options of a fresh socket that is to listen, before it does. `backlog` bounds the queue of TCP Fast Open.
///
/// # Errors
/// Which option, by its word in the configuration, and the system's reason.
pub fn set_listening(socket: &impl AsFd, options: &ListenOptions, backlog: u32) -> io::Result<()> {
    change_listening(socket, &ListenOptions::default(), options, backlog)
}

/// What a socket may have of which nothing is known: everything that can be asked for is something else.
pub fn unknown() -> ListenOptions {
    let never = Some(Duration::ZERO);
    let tcp = TcpOptions {
        keepalive: Some(KeepAlive { idle: never, interval: never, count: Some(0) }),
        user_timeout: never,
        congestion: Some(String::new()),
        fast_open: true,
        no_linger: true,
        // Whether they were ever set can not be seen, and not be undone.
        receive_buffer: None,
        send_buffer: None,
        unsent_low_water: Some(u32::MAX),
    };
    ListenOptions { tcp, defer_accept: true, mss: Some(0) }
}

/// Sets what differs from `before` on a socket that listens: connections that are accepted from now on have it. What was
/// set and is no longer asked for becomes what a fresh socket has, but for buffers, which no call gives back to the system.
///
/// # Errors
/// As [`set_listening`].
pub fn change_listening(
    socket: &impl AsFd,
    before: &ListenOptions,
    after: &ListenOptions,
    backlog: u32,
) -> io::Result<()> {
    change(socket, &before.tcp, &after.tcp)?;
    if before.mss != after.mss {
        told("mss", SockRef::from(socket).set_tcp_mss(after.mss.unwrap_or(0)))?;
    }
    if before.defer_accept || after.defer_accept {
        let seconds = if after.defer_accept { DEFER_ACCEPT_SECONDS } else { 0 };
        told("defer-accept", setsockopt(socket, DeferAccept, &seconds).map_err(io::Error::from))?;
    }
    if before.tcp.fast_open || after.tcp.fast_open {
        let queue = if after.tcp.fast_open { backlog } else { 0 };
        told("tfo", setsockopt(socket, FastOpenQueue, &queue).map_err(io::Error::from))?;
    }
    Ok(())
}

/// How sockets to a server are made.
#[derive(Clone, Debug, Default)]
pub struct ServerSocket {
    /// What they are given.
    pub options: TcpOptions,
    /// Where they come from.
    pub source: Source,
}

impl ServerSocket {
    /// Begins to connect, without waiting.
    ///
    /// # Errors
    /// The system's reason: no descriptor, no way to the address.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        change(&socket, &TcpOptions::default(), &self.options)?;
        if let Some(name) = &self.source.interface {
            told("source … interface", socket.bind_device(Some(name.as_bytes())))?;
        }
        if let Some(local) = self.source.address {
            if local.port() == 0 {
                // As many connections as there are pairs of ports, not as there are ports (ip(7)).
                setsockopt(&socket, IpBindAddressNoPort, &true)?;
            } else {
                socket.set_reuse_address(true)?;
            }
            socket.bind(&local.into())?;
        }
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(socket.into())
    }
}

fn change(socket: &impl AsFd, before: &TcpOptions, after: &TcpOptions) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    if before.keepalive != after.keepalive {
        set_probes(&socket, &before.keepalive.unwrap_or_default(), &after.keepalive.unwrap_or_default())?;
        socket.set_keepalive(after.keepalive.is_some())?;
    }
    if before.user_timeout != after.user_timeout {
        socket.set_tcp_user_timeout(after.user_timeout)?;
    }
    if before.congestion != after.congestion {
        let usual;
        let name = match &after.congestion {
            Some(name) => name.as_bytes(),
            None => {
                usual = fresh()?.tcp_congestion()?;
                usual.split(|byte| *byte == 0).next().unwrap_or_default()
            }
        };
        told("cc", socket.set_tcp_congestion(name))?;
    }
    if before.no_linger || after.no_linger {
        socket.set_linger(after.no_linger.then_some(Duration::ZERO))?;
    }
    if let Some(bytes) = after.receive_buffer.filter(|_| before.receive_buffer != after.receive_buffer) {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = after.send_buffer.filter(|_| before.send_buffer != after.send_buffer) {
        socket.set_send_buffer_size(bytes as usize)?;
    }
    if before.unsent_low_water != after.unsent_low_water {
        socket.set_tcp_notsent_lowat(after.unsent_low_water.unwrap_or(0))?;
    }
    Ok(())
}

fn set_probes(socket: &SockRef<'_>, before: &KeepAlive, after: &KeepAlive) -> io::Result<()> {
    let mut probes = TcpKeepalive::new();
    if before.idle != after.idle {
        probes = probes.with_time(after.idle.map_or_else(|| fresh()?.tcp_keepalive_time(), Ok)?);
    }
    if before.interval != after.interval {
        probes = probes.with_interval(after.interval.map_or_else(|| fresh()?.tcp_keepalive_interval(), Ok)?);
    }
    if before.count != after.count {
        probes = probes.with_retries(after.count.map_or_else(|| fresh()?.tcp_keepalive_retries(), Ok)?);
    }
    socket.set_tcp_keepalive(&probes)
}

/// A socket that has what the system gives.
fn fresh() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
}

/// Names the word that asked for what failed.
fn told(word: &str, result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| io::Error::other(format!("'{word}': {}", reason(&error))))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;

    use nix::sys::socket::getsockopt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn listening(options: &ListenOptions) -> TcpListener {
        let socket = fresh().unwrap();
        set_listening(&socket, options, 16).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(16).unwrap();
        OwnedFd::from(socket).into()
    }

    fn accepted(listener: &TcpListener) -> (TcpStream, Socket) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        (client, socket.into())
    }

    fn everything() -> ListenOptions {
        let keepalive = KeepAlive { idle: Some(77 * SECOND), interval: Some(7 * SECOND), count: Some(3) };
        let tcp = TcpOptions {
            keepalive: Some(keepalive),
            user_timeout: Some(9 * SECOND),
            congestion: Some("reno".into()),
            fast_open: true,
            no_linger: true,
            receive_buffer: Some(40_000),
            send_buffer: Some(50_000),
            unsent_low_water: Some(8192),
        };
        ListenOptions { tcp, defer_accept: false, mss: Some(600) }
    }

    #[track_caller]
    fn assert_usual(socket: &Socket) {
        let usual = fresh().unwrap();
        assert!(socket.tcp_nodelay().unwrap(), "small writes never wait");
        assert!(!socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), usual.tcp_keepalive_time().unwrap());
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), usual.tcp_keepalive_interval().unwrap());
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), usual.tcp_keepalive_retries().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        assert_eq!(socket.tcp_congestion().unwrap(), usual.tcp_congestion().unwrap());
        assert_eq!(socket.linger().unwrap(), None);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), usual.tcp_notsent_lowat().unwrap());
    }

    #[test]
    fn accepted_sockets_inherit_everything() {
        let listener = listening(&everything());
        assert_eq!(getsockopt(&listener, FastOpenQueue).unwrap(), 16);
        let (client, socket) = accepted(&listener);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), 77 * SECOND);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), 7 * SECOND);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(9 * SECOND));
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
        // The kernel doubles what is asked for (socket(7)).
        assert_eq!((socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap()), (80_000, 100_000));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 8192);
        assert!(SockRef::from(&client).tcp_mss().unwrap() <= 600);
    }

    #[test]
    fn what_is_no_longer_asked_for_is_as_on_a_fresh_socket() {
        let listener = listening(&everything());
        change_listening(&listener, &everything(), &ListenOptions::default(), 16).unwrap();
        assert_eq!(getsockopt(&listener, FastOpenQueue).unwrap(), 0);
        let (client, socket) = accepted(&listener);
        assert_usual(&socket);
        assert!(SockRef::from(&client).tcp_mss().unwrap() > 600);
    }

    #[test]
    fn an_open_listener_takes_new_options() {
        let listener = listening(&ListenOptions::default());
        assert_usual(&accepted(&listener).1);
        let after = ListenOptions { defer_accept: true, ..everything() };
        change_listening(&listener, &ListenOptions::default(), &after, 16).unwrap();
        assert!(getsockopt(&listener, DeferAccept).unwrap() > 0);
        change_listening(&listener, &after, &everything(), 16).unwrap();
        assert_eq!(getsockopt(&listener, DeferAccept).unwrap(), 0);
        let (_client, socket) = accepted(&listener);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(9 * SECOND));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), 77 * SECOND);
    }

    #[test]
    fn an_option_that_cannot_be_set_is_named() {
        let options = TcpOptions { congestion: Some("nonsense".into()), ..TcpOptions::default() };
        let error = set_listening(&fresh().unwrap(), &ListenOptions { tcp: options, ..ListenOptions::default() }, 1);
        assert_eq!(error.unwrap_err().to_string(), "'cc': No such file or directory");
    }

    #[test]
    fn sockets_to_servers_have_what_is_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connected = |options: &TcpOptions| {
            let server = ServerSocket { options: options.clone(), source: Source::default() };
            let stream = server.connect(address).unwrap();
            listener.accept().unwrap();
            Socket::from(stream)
        };
        assert_usual(&connected(&TcpOptions::default()));
        let from = |source: &str| {
            let source = Source { address: Some(source.parse().unwrap()), interface: Some("lo".into()) };
            let stream = ServerSocket { options: TcpOptions::default(), source }.connect(address).unwrap();
            listener.accept().unwrap();
            stream.local_addr().unwrap()
        };
        assert_eq!(from("127.0.0.7:0").ip().to_string(), "127.0.0.7");
        let port = TcpListener::bind("127.0.0.7:0").unwrap().local_addr().unwrap();
        assert_eq!(from(&port.to_string()), port);
        let socket = connected(&everything().tcp);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(9 * SECOND));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), 77 * SECOND);
        assert_eq!((socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap()), (80_000, 100_000));
    }
}
