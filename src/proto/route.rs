//! What a connection needs to know of the configuration: immutable, shared, and kept until its last connection ends.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::wire::Target;
use crate::conf::model::ProxyOut;
use crate::tls::policy::TlsPolicy;

/// One `bind` line and the backend behind it.
pub struct Route {
    /// TLS, unless the listener is a plain one.
    pub tls: Option<Arc<TlsPolicy>>,
    /// A PROXY header is required before all else.
    pub accept_proxy: bool,
    /// A client's FIN without close_notify counts as its end of stream.
    pub accept_tls_eof: bool,
    /// Limits of time.
    pub timeouts: Timeouts,
    /// Where the server listens; `None`: it has no address, or takes no connections.
    pub target: Option<Target>,
    /// The port of `target` is that of the client's connection, with this added.
    pub port_offset: Option<i32>,
    /// How often a connection to it may be tried again.
    pub retries: u32,
    /// `option abortonclose`: a client that has ended its stream is not waited for with a connection to the server.
    pub abort_on_close: bool,
    /// `option independent-streams`, client and server: what is written to a side does not show that it is there.
    pub independent: Independent,
    /// Header for the server.
    pub proxy: Option<ProxyOut>,
}

impl Route {
    /// Where the server is for a client that has connected to `destination`, which is asked for if it matters.
    pub fn target_for(&self, destination: impl FnOnce() -> Option<SocketAddr>) -> Option<Cow<'_, Target>> {
        let target = self.target.as_ref()?;
        let (Target::Inet(address), Some(offset)) = (target, self.port_offset) else {
            return Some(Cow::Borrowed(target));
        };
        let port = i32::from(destination()?.port()) + offset;
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        Some(Cow::Owned(Target::Inet(SocketAddr::new(address.ip(), port))))
    }
}

/// Sides whose inactivity is judged by what comes from them alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Independent {
    /// In the frontend.
    pub client: bool,
    /// In the backend.
    pub server: bool,
}

/// Limits of time; `None`: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    /// From accept to the end of the handshake.
    pub handshake: Duration,
    /// Inactivity of the client.
    pub client: Option<Duration>,
    /// The same once one direction has ended.
    pub client_fin: Option<Duration>,
    /// Until the server has accepted.
    pub connect: Option<Duration>,
    /// Inactivity of the server.
    pub server: Option<Duration>,
    /// The same once one direction has ended.
    pub server_fin: Option<Duration>,
    /// Inactivity of both while both directions are open; replaces `client` and `server`.
    pub tunnel: Option<Duration>,
}
