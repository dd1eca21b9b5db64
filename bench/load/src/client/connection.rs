//! One TLS connection of the load client, on a socket that never blocks. Every property that the rows promise is checked on each one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedCipherSuite};

use crate::certificates::file;
use crate::offer::{Group, Listener, Offer, Sessions, Suite, Version};
use crate::pattern::PIECE;
use crate::proxy_v2;

/// DER of the object identifier rsaEncryption (RFC 8017), which only an RSA key names as its algorithm.
const RSA_ENCRYPTION: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// What connections share: the offer with its keys, and, of resumed sessions, the tickets.
pub(crate) struct Config {
    offer: Offer,
    suite: SupportedCipherSuite,
    tls: Arc<ClientConfig>,
}

impl Config {
    /// Reads certificates and key from the `directory` of [`crate::certificates`]. With [`Sessions::Resumed`] there are tickets for
    /// one connection at a time.
    pub(crate) fn new(directory: &Path, offer: Offer) -> Result<Self, String> {
        let suite = match (offer.version, offer.listener, offer.suite) {
            (Version::Tls13, _, Suite::Aes128Gcm) => cipher_suite::TLS13_AES_128_GCM_SHA256,
            (Version::Tls13, _, Suite::Aes256Gcm) => cipher_suite::TLS13_AES_256_GCM_SHA384,
            (Version::Tls13, _, Suite::ChaCha20Poly1305) => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            (Version::Tls12, Listener::Rsa, Suite::Aes128Gcm) => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            (Version::Tls12, _, Suite::Aes128Gcm) => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            (Version::Tls12, _, _) => return Err("TLS 1.2 is offered with AES-128-GCM only".to_owned()),
        };
        let group = match offer.group {
            Group::X25519 => kx_group::X25519,
            Group::Secp256r1 => kx_group::SECP256R1,
            Group::X25519MlKem768 => kx_group::X25519MLKEM768,
        };
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![suite],
            kx_groups: vec![group],
            ..aws_lc_rs::default_provider()
        };
        let read = |name: &str| {
            CertificateDer::from_pem_file(directory.join(name)).map_err(|error| format!("{name}: {error}"))
        };
        let mut roots = RootCertStore::empty();
        roots.add(read(file::CA)?).map_err(|error| error.to_string())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[suite.version()])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut tls = if offer.listener == Listener::Mtls {
            let key = PrivateKeyDer::from_pem_file(directory.join(file::CLIENT_KEY))
                .map_err(|error| format!("{}: {error}", file::CLIENT_KEY))?;
            builder.with_client_auth_cert(vec![read(file::CLIENT)?], key).map_err(|error| error.to_string())?
        } else {
            builder.with_no_client_auth()
        };
        tls.resumption = match offer.sessions {
            Sessions::Fresh => Resumption::disabled(),
            Sessions::Resumed => Resumption::in_memory_sessions(8),
        };
        Ok(Self { offer, suite, tls: Arc::new(tls) })
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
    tls: ClientConnection,
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
        let tls = ClientConnection::new(Arc::clone(&config.tls), name).map_err(|error| error.to_string())?;
        Ok(Self { socket, tls, digest, closing: false, closed: false, notified: false })
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
    pub(crate) fn server_certificate(&self) -> &[u8] {
        self.tls.peer_certificates().and_then(|chain| chain.first()).map_or(&[], |leaf| leaf.as_ref())
    }

    /// Goes on with the handshake. `Ok(true)`: it is complete, and all of it is what `config` offered; `resumed`: from a ticket.
    pub(crate) fn handshake(&mut self, config: &Config, resumed: bool) -> Result<bool, String> {
        while self.tls.is_handshaking() {
            if !self.flush()? {
                return Ok(false);
            }
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Err("the connection ended within the handshake".to_owned()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(format!("handshake: {error}")),
            }
            if let Err(error) = self.tls.process_new_packets() {
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
        let version = self.tls.protocol_version();
        let suite = self.tls.negotiated_cipher_suite();
        let group = self.tls.negotiated_key_exchange_group().map(|group| group.name());
        let offered = config.tls.crypto_provider().kx_groups.first().map(|group| group.name());
        if suite != Some(config.suite) || version != Some(config.suite.version().version) || group != offered {
            return Err(format!("negotiated {version:?}, {suite:?}, {group:?}"));
        }
        let kind = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
        if self.tls.handshake_kind() != Some(kind) {
            return Err(format!("the handshake was {:?}, not {kind:?}", self.tls.handshake_kind()));
        }
        let rsa = self.server_certificate().windows(RSA_ENCRYPTION.len()).any(|part| part == RSA_ENCRYPTION);
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
        let count = self.tls.writer().write(bytes).map_err(|error| format!("sending: {error}"))?;
        self.flush()?;
        Ok(count)
    }

    /// `Ok(false)`: the socket is blocked, and ciphertext waits for it.
    fn flush(&mut self) -> Result<bool, String> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
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
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<Received, String> {
        self.flush()?;
        let mut wire = match self.socket.read(&mut scratch.wire) {
            Ok(0) if self.notified => return Ok(Received::End(Ending::CloseNotify)),
            Ok(0) => return Ok(Received::End(Ending::Bare)),
            Ok(count) => &scratch.wire[..count],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Blocked),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Received::End(Ending::Reset)),
            Err(error) => return Err(format!("receiving: {error}")),
        };
        while !wire.is_empty() {
            self.tls.read_tls(&mut wire).map_err(|error| error.to_string())?;
            let state = self.tls.process_new_packets().map_err(|error| error.to_string())?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let count = self.tls.reader().read(&mut scratch.plain).map_err(|error| error.to_string())?;
                take(&scratch.plain[..count])?;
                left -= count;
            }
            self.notified |= state.peer_has_closed();
        }
        Ok(Received::Some)
    }

    /// Ends this side, then waits for the other. `Ok(None)`: it has not ended yet.
    pub(crate) fn close(&mut self, scratch: &mut Scratch) -> Result<Option<Ending>, String> {
        if !self.closing {
            self.tls.send_close_notify();
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
