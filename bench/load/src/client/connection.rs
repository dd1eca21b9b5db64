//! One TLS 1.3 connection of the load client, on a blocking socket. Every property that the rows promise is checked on each one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore};

use crate::certificates::{SERVER_NAME, file};
use crate::proxy_v2;
use crate::wire::PING_LIMIT;

/// Nothing here takes longer unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether sessions are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    Fresh,
    Resumed,
}

/// A client that offers TLS 1.3 with AES-128-GCM and X25519 and nothing else. One with [`Sessions::Resumed`] keeps tickets for one
/// connection at a time.
pub(crate) fn config(
    directory: &Path,
    client_certificate: bool,
    sessions: Sessions,
) -> Result<Arc<ClientConfig>, String> {
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let read =
        |name: &str| CertificateDer::from_pem_file(directory.join(name)).map_err(|error| format!("{name}: {error}"));
    let mut roots = RootCertStore::empty();
    roots.add(read(file::CA)?).map_err(|error| error.to_string())?;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = if client_certificate {
        let key = PrivateKeyDer::from_pem_file(directory.join(file::CLIENT_KEY))
            .map_err(|error| format!("{}: {error}", file::CLIENT_KEY))?;
        builder.with_client_auth_cert(vec![read(file::CLIENT)?], key).map_err(|error| error.to_string())?
    } else {
        builder.with_no_client_auth()
    };
    config.resumption = match sessions {
        Sessions::Fresh => Resumption::disabled(),
        Sessions::Resumed => Resumption::in_memory_sessions(8),
    };
    Ok(Arc::new(config))
}

/// How the product ended a connection that the client had ended before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    CloseNotify,
    /// FIN without close_notify.
    Bare,
    Reset,
}

/// An open connection.
pub(crate) struct Connection {
    socket: TcpStream,
    tls: ClientConnection,
    digest: u64,
    pings: u8,
}

impl Connection {
    /// Connects to `port` of 127.0.0.1 and completes a handshake of this `kind`.
    pub(crate) fn open(config: &Arc<ClientConfig>, port: u16, kind: HandshakeKind) -> Result<Self, String> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| format!("connecting: {error}"))?;
        let prepare = || -> io::Result<u64> {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(proxy_v2::digest(socket.local_addr()?, socket.peer_addr()?))
        };
        let digest = prepare().map_err(|error| format!("preparing the socket: {error}"))?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| error.to_string())?;
        let tls = ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())?;
        let mut this = Self { socket, tls, digest, pings: 0 };
        while this.tls.is_handshaking() {
            this.tls.complete_io(&mut this.socket).map_err(|error| format!("handshake: {error}"))?;
        }
        this.check(kind)?;
        Ok(this)
    }

    fn check(&self, kind: HandshakeKind) -> Result<(), String> {
        let suite = self.tls.negotiated_cipher_suite().map(|suite| suite.suite());
        let group = self.tls.negotiated_key_exchange_group().map(|group| group.name());
        if self.tls.protocol_version() != Some(ProtocolVersion::TLSv1_3)
            || suite != Some(CipherSuite::TLS13_AES_128_GCM_SHA256)
            || group != Some(NamedGroup::X25519)
        {
            return Err(format!("negotiated {:?}, {suite:?}, {group:?}", self.tls.protocol_version()));
        }
        match self.tls.handshake_kind() {
            Some(seen) if seen == kind => Ok(()),
            seen => Err(format!("the handshake was {seen:?}, not {kind:?}")),
        }
    }

    /// The number of this connection's addresses, see [`proxy_v2::digest`].
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The certificate that the server presented, as DER.
    pub(crate) fn server_certificate(&self) -> &[u8] {
        self.tls.peer_certificates().and_then(|chain| chain.first()).map_or(&[], |leaf| leaf.as_ref())
    }

    /// Sends one byte and checks the byte that comes back.
    pub(crate) fn ping(&mut self) -> Result<(), String> {
        self.pings = (self.pings + 1) % PING_LIMIT;
        self.send(&[self.pings])?;
        let mut answer = [0; 2];
        let mut stream = rustls::Stream::new(&mut self.tls, &mut self.socket);
        let count = stream.read(&mut answer).map_err(|error| format!("waiting for the echo: {error}"))?;
        let expected = self.pings ^ proxy_v2::fold(self.digest);
        match answer[..count] {
            [byte] if byte == expected => Ok(()),
            [] => Err("the connection ended instead of an echo".to_owned()),
            ref other => Err(format!("the echo is {other:02x?}, not {expected:#04x}")),
        }
    }

    /// Sends all of `bytes`.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        rustls::Stream::new(&mut self.tls, &mut self.socket)
            .write_all(bytes)
            .map_err(|error| format!("sending: {error}"))
    }

    /// Hands every piece of plaintext to `take` until that has seen `total` bytes. `scratch` takes the ciphertext: rustls itself would
    /// ask the socket for 4 KiB at a time.
    pub(crate) fn receive(
        &mut self,
        total: u64,
        scratch: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut seen = 0;
        let mut plain = [0; 16 * 1024];
        while seen < total {
            let count =
                match self.socket.read(scratch).map_err(|error| format!("receiving after {seen} bytes: {error}"))? {
                    0 => {
                        return Err(format!("the connection ended after {seen} of {total} bytes"));
                    }
                    count => count,
                };
            let mut wire = &scratch[..count];
            while !wire.is_empty() {
                self.tls.read_tls(&mut wire).map_err(|error| error.to_string())?;
                self.tls.process_new_packets().map_err(|error| error.to_string())?;
                loop {
                    match self.tls.reader().read(&mut plain) {
                        Ok(0) => return Err(format!("close_notify after {seen} of {total} bytes")),
                        Ok(count) => {
                            seen += count as u64;
                            take(&plain[..count])?;
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.to_string()),
                    }
                }
            }
        }
        if seen > total { Err(format!("{seen} bytes instead of {total}")) } else { Ok(()) }
    }

    /// Ends this side, then waits for the other.
    pub(crate) fn close(mut self) -> Result<Ending, String> {
        self.tls.send_close_notify();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).map_err(|error| format!("sending close_notify: {error}"))?;
        }
        self.socket.shutdown(Shutdown::Write).map_err(|error| format!("closing: {error}"))?;
        let mut ending = Ending::Bare;
        loop {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Ok(ending),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Ok(Ending::Reset);
                }
                Err(error) => return Err(format!("waiting for the end: {error}")),
            }
            let state = self.tls.process_new_packets().map_err(|error| error.to_string())?;
            if state.plaintext_bytes_to_read() > 0 {
                return Err("bytes after the last echo".to_owned());
            }
            if state.peer_has_closed() {
                ending = Ending::CloseNotify;
            }
        }
    }
}
