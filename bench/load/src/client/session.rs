//! TLS of one connection, with the library that the [`Offer`] names, or with none. Nothing here waits or knows of sockets: ciphertext
//! comes in and goes out. What is checked of a handshake is all that an offer says.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedCipherSuite};

#[cfg(feature = "openssl-client")]
use super::openssl;
use crate::certificates::file;
use crate::offer::{Group, Library, Listener, Offer, Sessions, Suite, Version};

/// What sessions share: keys, and, of resumed ones, the tickets.
pub(super) enum Shared {
    Rustls {
        suite: SupportedCipherSuite,
        config: Arc<ClientConfig>,
    },
    #[cfg(feature = "openssl-client")]
    OpenSsl(openssl::Config),
    None,
}

impl Shared {
    /// Reads certificates and key from the `directory` of [`crate::certificates`]. With [`Sessions::Resumed`] there are tickets for
    /// one connection at a time.
    pub(super) fn new(directory: &Path, offer: Offer) -> Result<Self, String> {
        match offer.library {
            Library::Rustls => rustls(directory, offer),
            #[cfg(feature = "openssl-client")]
            Library::OpenSsl => openssl::Config::new(directory, offer).map(Self::OpenSsl),
            #[cfg(not(feature = "openssl-client"))]
            Library::OpenSsl => Err("the client was built without OpenSSL (feature openssl-client)".to_owned()),
            Library::None => Ok(Self::None),
        }
    }
}

fn rustls(directory: &Path, offer: Offer) -> Result<Shared, String> {
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
    let read =
        |name: &str| CertificateDer::from_pem_file(directory.join(name)).map_err(|error| format!("{name}: {error}"));
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
    Ok(Shared::Rustls { suite, config: Arc::new(tls) })
}

/// The TLS of one connection.
pub(super) enum Session {
    Rustls(Box<ClientConnection>),
    #[cfg(feature = "openssl-client")]
    OpenSsl(Box<openssl::Client>),
    /// What is to be sent.
    None(Vec<u8>),
}

impl Session {
    /// Begins a handshake with the server of this `name`.
    pub(super) fn new(shared: &Shared, name: ServerName<'static>) -> Result<Self, String> {
        match shared {
            Shared::Rustls { config, .. } => ClientConnection::new(Arc::clone(config), name)
                .map(|tls| Self::Rustls(Box::new(tls)))
                .map_err(|error| error.to_string()),
            #[cfg(feature = "openssl-client")]
            Shared::OpenSsl(config) => {
                openssl::Client::new(config, &name.to_str()).map(|tls| Self::OpenSsl(Box::new(tls)))
            }
            Shared::None => Ok(Self::None(Vec::new())),
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Self::Rustls(tls) => tls.is_handshaking(),
            #[cfg(feature = "openssl-client")]
            Self::OpenSsl(tls) => tls.is_handshaking(),
            Self::None(_) => false,
        }
    }

    /// Reads some ciphertext of the handshake; [`Self::handshake`] looks at it.
    pub(super) fn read_handshake(&mut self, from: &mut dyn Read) -> io::Result<usize> {
        match self {
            Self::Rustls(tls) => tls.read_tls(from),
            #[cfg(feature = "openssl-client")]
            Self::OpenSsl(tls) => {
                let mut bytes = [0; 16 * 1024];
                let count = from.read(&mut bytes)?;
                tls.read_tls(&bytes[..count]);
                Ok(count)
            }
            Self::None(_) => Ok(0),
        }
    }

    /// Goes on with what was read. After an error there may be an alert to be sent.
    pub(super) fn handshake(&mut self) -> Result<(), String> {
        match self {
            Self::Rustls(tls) => tls.process_new_packets().map(drop).map_err(|error| error.to_string()),
            #[cfg(feature = "openssl-client")]
            Self::OpenSsl(tls) => tls.handshake(),
            Self::None(_) => Ok(()),
        }
    }

    /// Whether all is as it was offered, and the session `resumed` or not.
    pub(super) fn check(&self, shared: &Shared, resumed: bool) -> Result<(), String> {
        match (self, shared) {
            (Self::Rustls(tls), Shared::Rustls { suite, config }) => {
                let version = tls.protocol_version();
                let seen = tls.negotiated_cipher_suite();
                let group = tls.negotiated_key_exchange_group().map(|group| group.name());
                let offered = config.crypto_provider().kx_groups.first().map(|group| group.name());
                if seen != Some(*suite) || version != Some(suite.version().version) || group != offered {
                    return Err(format!("negotiated {version:?}, {seen:?}, {group:?}"));
                }
                let kind = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
                match tls.handshake_kind() {
                    Some(seen) if seen == kind => Ok(()),
                    seen => Err(format!("the handshake was {seen:?}, not {kind:?}")),
                }
            }
            #[cfg(feature = "openssl-client")]
            (Self::OpenSsl(tls), Shared::OpenSsl(config)) => tls.check(config),
            _ => Ok(()),
        }
    }

    /// The certificate that the server presented, as DER.
    pub(super) fn server_certificate(&self) -> Option<Vec<u8>> {
        match self {
            Self::Rustls(tls) => tls.peer_certificates()?.first().map(|leaf| leaf.to_vec()),
            #[cfg(feature = "openssl-client")]
            Self::OpenSsl(tls) => tls.server_certificate(),
            Self::None(_) => None,
        }
    }

    /// Takes some of `bytes`, for [`Self::write_tls`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, String> {
        match self {
            Self::Rustls(tls) => tls.writer().write(bytes).map_err(|error| error.to_string()),
            #[cfg(feature = "openssl-client")]
            Self::OpenSsl(tls) => tls.write(bytes),
            Self::None(unsent) => {
                unsent.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    pub(super) fn wants_write(&self) -> bool {
        match self {
            Self::Rustls(tls) => tls.wants_write(),
            #[cfg(feature = "openssl-client")]
            Self::OpenSsl(tls) => tls.wants_write(),
            Self::None(unsent) => !unsent.is_empty(),
        }
    }

    /// Gives ciphertext away.
    pub(super) fn write_tls(&mut self, to: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Rustls(tls) => tls.write_tls(to).map(drop),
            #[cfg(feature = "openssl-client")]
            Self::OpenSsl(tls) => tls.write_tls(to),
            Self::None(unsent) => {
                let count = to.write(unsent)?;
                unsent.drain(..count);
                Ok(())
            }
        }
    }

    /// Hands the plaintext of `wire` to `take`, by way of `plain`. Whether close_notify has come.
    pub(super) fn read(
        &mut self,
        mut wire: &[u8],
        plain: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<bool, String> {
        let mut closed = false;
        match self {
            Self::Rustls(tls) => {
                while !wire.is_empty() {
                    tls.read_tls(&mut wire).map_err(|error| error.to_string())?;
                    let state = tls.process_new_packets().map_err(|error| error.to_string())?;
                    let mut left = state.plaintext_bytes_to_read();
                    while left > 0 {
                        let count = tls.reader().read(plain).map_err(|error| error.to_string())?;
                        take(&plain[..count])?;
                        left -= count;
                    }
                    closed |= state.peer_has_closed();
                }
            }
            #[cfg(feature = "openssl-client")]
            Self::OpenSsl(tls) => {
                tls.read_tls(wire);
                while let Some(count) = tls.read(plain)? {
                    if count == 0 {
                        return Ok(true);
                    }
                    take(&plain[..count])?;
                }
            }
            Self::None(_) => take(wire)?,
        }
        Ok(closed)
    }

    pub(super) fn send_close_notify(&mut self) -> Result<(), String> {
        match self {
            Self::Rustls(tls) => tls.send_close_notify(),
            #[cfg(feature = "openssl-client")]
            Self::OpenSsl(tls) => tls.send_close_notify()?,
            Self::None(_) => {}
        }
        Ok(())
    }
}
