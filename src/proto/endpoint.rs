//! Who talks to whom, as far as a PROXY header can say it.

use std::net::SocketAddr;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// IP address and TCP port.
    Inet(SocketAddr),
    /// A unix socket, or not known: nothing that an address could be written from.
    Unix,
}

/// Both ends of a client's connection: its own address, and the one it connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The client.
    pub source: Endpoint,
    /// The listener, or what a received PROXY header says in its place.
    pub destination: Endpoint,
}

impl Endpoints {
    /// The addresses to write, in one family: where one is IPv4 and the other IPv6, the IPv4 one is mapped
    /// (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2), as HAProxy does. `None` if either end has no address.
    pub fn inet(&self) -> Option<(SocketAddr, SocketAddr)> {
        let (Endpoint::Inet(source), Endpoint::Inet(destination)) = (self.source, self.destination) else {
            return None;
        };
        if source.is_ipv4() == destination.is_ipv4() {
            return Some((source, destination));
        }
        Some((mapped(source), mapped(destination)))
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => address,
    }
}
