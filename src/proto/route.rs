//! What a connection needs to know of the configuration: immutable, shared, and kept until its last connection ends.

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
    /// Where the server listens.
    pub target: Target,
    /// Header for the server.
    pub proxy: Option<ProxyOut>,
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
