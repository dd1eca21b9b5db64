//! How sockets are made: those that listen, and those to servers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How event loops share a listener. Only a start can change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// `thread`: numbers of the event loops that accept, from 1; `None`: all.
    pub threads: Option<BTreeSet<u16>>,
    /// `shards`, `tune.listener.default-shards`: sockets for each address; `None`: one for each event loop.
    pub sockets: Option<u16>,
    /// `noreuseport`: one socket, and the port can not be shared with another process.
    pub no_reuse_port: bool,
}

/// Options of listening TCP sockets (HAProxy manual, 5.1); unix sockets have none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// What accepted sockets inherit.
    pub tcp: TcpOptions,
    /// `defer-accept`: a connection is accepted once it has sent a byte (TCP_DEFER_ACCEPT).
    pub defer_accept: bool,
    /// `mss`: the longest segment that is announced (TCP_MAXSEG).
    pub mss: Option<u32>,
}

/// Options of TCP sockets towards one side, beyond TCP_NODELAY, which all have. `None`: the system's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// `option clitcpka`, `option srvtcpka`, `option tcpka`: SO_KEEPALIVE; `None`: off.
    pub keepalive: Option<KeepAlive>,
    /// `tcp-ut`: longest time without an acknowledgement (TCP_USER_TIMEOUT).
    pub user_timeout: Option<Duration>,
    /// `cc`: algorithm against congestion (TCP_CONGESTION).
    pub congestion: Option<String>,
    /// `tfo`: TCP Fast Open (RFC 7413).
    pub fast_open: bool,
    /// `option nolinger`: a close is a reset (SO_LINGER with no time).
    pub no_linger: bool,
    /// `tune.rcvbuf.client`, `tune.rcvbuf.server`: SO_RCVBUF.
    pub receive_buffer: Option<u32>,
    /// `tune.sndbuf.client`, `tune.sndbuf.server`: SO_SNDBUF.
    pub send_buffer: Option<u32>,
    /// `tune.notsent-lowat.client`, `tune.notsent-lowat.server`: TCP_NOTSENT_LOWAT.
    pub unsent_low_water: Option<u32>,
}

/// Probes of a silent connection; `None`: the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// `clitcpka-idle`, `srvtcpka-idle`: silence before the first probe (TCP_KEEPIDLE).
    pub idle: Option<Duration>,
    /// `clitcpka-intvl`, `srvtcpka-intvl`: time between two probes (TCP_KEEPINTVL).
    pub interval: Option<Duration>,
    /// `clitcpka-cnt`, `srvtcpka-cnt`: probes without answer that end the connection (TCP_KEEPCNT).
    pub count: Option<u32>,
}

/// `source <address>[:<port>] [interface <name>]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source {
    /// Local address, port 0 for any; `None`: the system chooses.
    pub address: Option<SocketAddr>,
    /// SO_BINDTODEVICE.
    pub interface: Option<String>,
}

/// One word of `init-addr`; `last` means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitAddr {
    /// Look the name up.
    Libc,
    /// Start without an address.
    None,
    /// Use this one.
    Ip(IpAddr),
}
