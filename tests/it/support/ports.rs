//! Ports that stay ours between choosing them and the moment when a server binds them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// A port of the loopback address, chosen by the system and held by a socket that is bound but does not listen.
///
/// With SO_REUSEADDR and SO_REUSEPORT on both sides a server can bind and listen on it all the same, while nobody gets it
/// for an outgoing connection or by asking for port 0. Until a server listens, connecting to it is refused.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    _held: Socket,
}

impl Port {
    /// A port of 127.0.0.1.
    pub(crate) fn reserve() -> Self {
        Self::reserve_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// A port of ::1.
    pub(crate) fn reserve_v6() -> Self {
        Self::reserve_on(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))
    }

    fn reserve_on(any: SocketAddr) -> Self {
        let held = Socket::new(Domain::for_address(any), Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        held.set_reuse_address(true).expect("SO_REUSEADDR");
        held.set_reuse_port(true).expect("SO_REUSEPORT");
        held.bind(&any.into()).expect("a free port");
        let address = held.local_addr().expect("its address").as_socket().expect("an IP address");
        Self { address, _held: held }
    }

    /// Where a server is expected.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
