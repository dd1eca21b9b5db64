//! One TLS connection of the load client, on a socket that never blocks. Every property that the rows promise is checked on each one.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::path::Path;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;

use super::session::{Session, Shared};
use crate::offer::{Listener, Offer};
use crate::pattern::PIECE;
use crate::proxy_v2;

/// DER of the object identifier rsaEncryption (RFC 8017), which only an RSA key names as its algorithm.
const RSA_ENCRYPTION: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// What connections share.
pub(crate) struct Config {
    offer: Offer,
    shared: Shared,
}

impl Config {
    /// Reads what the offer needs from the `directory` of [`crate::certificates`].
    pub(crate) fn new(directory: &Path, offer: Offer) -> Result<Self, String> {
        Ok(Self { offer, shared: Shared::new(directory, offer)? })
    }
}

/// Room for what passes through one connection at a time.
pub(crate) struct Scratch {
    /// Takes the ciphertext: rustls itself would ask the socket for 4 KiB at a time.
    wire: Box<[u8]>,
    plain: Box<[u8]>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { wire: vec![0; PIECE].into_boxed_slice(), plain: vec![0; 16 * 1024].into_boxed_slice() }
    }
}

/// What [`Connection::receive`] found at the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing for now.
    Blocked,
    /// Some bytes, and there may be more.
    Some,
    /// The product has ended the connection.
    End(Ending),
}

impl Received {
    /// Whether there may be more at once. `Err`: the connection ended instead of `what`.
    pub(crate) fn goes_on(self, what: impl fmt::Display) -> Result<bool, String> {
        match self {
            Self::Blocked => Ok(false),
            Self::Some => Ok(true),
            Self::End(ending) => Err(format!("the connection ended instead of {what} ({ending:?})")),
        }
    }
}

/// How the product ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    CloseNotify,
    /// FIN without close_notify.
    Bare,
    Reset,
}

/// A connection. Whenever one of its calls says that the socket is blocked, the next event of the socket is worth another try.
pub(crate) struct Connection {
    socket: TcpStream,
    session: Session,
    digest: u64,
    /// close_notify was given to TLS.
    closing: bool,
    /// FIN was sent after it.
    closed: bool,
    /// The product has sent close_notify.
    notified: bool,
}

impl Connection {
    /// Begins to connect to `port` of 127.0.0.1, asking for the server of this `name`.
    pub(crate) fn connect(config: &Config, port: u16, name: ServerName<'static>) -> Result<Self, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connect = || {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            let digest = proxy_v2::digest(socket.local_addr()?, address);
            Ok((socket, digest))
        };
        let (socket, digest) = connect().map_err(|error: std::io::Error| format!("connecting: {error}"))?;
        let session = Session::new(&config.shared, name)?;
        Ok(Self { socket, session, digest, closing: false, closed: false, notified: false })
    }

    /// For registering it.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// The number of this connection's addresses, see [`proxy_v2::digest`].
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The certificate that the server presented, as DER.
    pub(crate) fn server_certificate(&self) -> Option<Vec<u8>> {
        self.session.server_certificate()
    }

    /// Goes on with the handshake. `Ok(true)`: it is complete, and all of it is what `config` offered; `resumed`: from a ticket.
    pub(crate) fn handshake(&mut self, config: &Config, resumed: bool) -> Result<bool, String> {
        while self.session.is_handshaking() {
            if !self.flush()? {
                return Ok(false);
            }
            match self.session.read_handshake(&mut self.socket) {
                Ok(0) => return Err("the connection ended within the handshake".to_owned()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(format!("handshake: {error}")),
            }
            if let Err(error) = self.session.handshake() {
                // The alert may tell the product's log what is wrong.
                let _ = self.flush();
                return Err(format!("handshake: {error}"));
            }
        }
        if !self.flush()? {
            return Ok(false);
        }
        self.check(config, resumed).map(|()| true)
    }

    fn check(&self, config: &Config, resumed: bool) -> Result<(), String> {
        self.session.check(&config.shared, resumed)?;
        let Some(certificate) = self.server_certificate() else { return Ok(()) };
        let rsa = certificate.windows(RSA_ENCRYPTION.len()).any(|part| part == RSA_ENCRYPTION);
        if rsa != (config.offer.listener == Listener::Rsa) {
            let key = if rsa { "an RSA key" } else { "a key that is not RSA" };
            return Err(format!("the server certificate has {key}"));
        }
        Ok(())
    }

    /// Sends some of `bytes`; the number that were taken, 0 if the socket is blocked.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<usize, String> {
        if !self.flush()? {
            return Ok(0);
        }
        let count = self.session.write(bytes).map_err(|error| format!("sending: {error}"))?;
        self.flush()?;
        Ok(count)
    }

    /// `Ok(false)`: the socket is blocked, and ciphertext waits for it.
    fn flush(&mut self) -> Result<bool, String> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(format!("sending: {error}")),
            }
        }
        Ok(true)
    }

    /// Reads the socket once and hands every piece of plaintext to `take`. What still waits to be sent is tried first.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut Scratch,
        take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<Received, String> {
        self.flush()?;
        let wire = match self.socket.read(&mut scratch.wire) {
            Ok(0) if self.notified => return Ok(Received::End(Ending::CloseNotify)),
            Ok(0) => return Ok(Received::End(Ending::Bare)),
            Ok(count) => &scratch.wire[..count],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Blocked),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Received::End(Ending::Reset)),
            Err(error) => return Err(format!("receiving: {error}")),
        };
        self.notified |= self.session.read(wire, &mut scratch.plain, take)?;
        Ok(Received::Some)
    }

    /// Ends this side, then waits for the other. `Ok(None)`: it has not ended yet.
    pub(crate) fn close(&mut self, scratch: &mut Scratch) -> Result<Option<Ending>, String> {
        if !self.closing {
            self.session.send_close_notify()?;
            self.closing = true;
        }
        if !self.closed && self.flush()? {
            self.socket.shutdown(Shutdown::Write).map_err(|error| format!("closing: {error}"))?;
            self.closed = true;
        }
        loop {
            let unexpected = |_: &[u8]| Err("bytes after the last echo".to_owned());
            match self.receive(scratch, unexpected)? {
                Received::Blocked => return Ok(None),
                Received::Some => {}
                Received::End(ending) => return Ok(Some(ending)),
            }
        }
    }
}
