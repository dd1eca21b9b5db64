//! The same client with OpenSSL instead of rustls, so that nobody has to wonder whether Bowline is fast with its own library only.
//! OpenSSL reads from and writes to memory here; [`super::connection`] moves the bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslFiletype, SslMethod, SslMode, SslStream, SslVerifyMode, SslVersion};

use crate::certificates::file;
use crate::offer::{Group, Listener, Offer, Sessions, Suite, Version};

/// What connections share.
pub(super) struct Config {
    context: SslContext,
    /// The name of the suite in RFC 8446 or RFC 5289, which is offered alone.
    suite: &'static str,
    version: SslVersion,
}

impl Config {
    /// As [`super::connection::Config::new`], but for resumption: the bindings have no safe way to give OpenSSL a ticket.
    pub(super) fn new(directory: &Path, offer: Offer) -> Result<Self, String> {
        if offer.sessions == Sessions::Resumed {
            return Err("the OpenSSL client does not resume sessions".to_owned());
        }
        let (suite, own_name) = match (offer.version, offer.listener, offer.suite) {
            (Version::Tls13, _, Suite::Aes128Gcm) => ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
            (Version::Tls13, _, Suite::Aes256Gcm) => ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
            (Version::Tls13, _, Suite::ChaCha20Poly1305) => {
                ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
            }
            (Version::Tls12, Listener::Rsa, Suite::Aes128Gcm) => {
                ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256")
            }
            (Version::Tls12, _, Suite::Aes128Gcm) => {
                ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256")
            }
            (Version::Tls12, _, _) => return Err("TLS 1.2 is offered with AES-128-GCM only".to_owned()),
        };
        let version = match offer.version {
            Version::Tls12 => SslVersion::TLS1_2,
            Version::Tls13 => SslVersion::TLS1_3,
        };
        let group = match offer.group {
            Group::X25519 => "X25519",
            Group::Secp256r1 => "P-256",
            Group::X25519MlKem768 => "X25519MLKEM768",
        };
        let build = || -> Result<SslContext, ErrorStack> {
            let mut builder = SslContext::builder(SslMethod::tls_client())?;
            builder.set_min_proto_version(Some(version))?;
            builder.set_max_proto_version(Some(version))?;
            match offer.version {
                Version::Tls12 => builder.set_cipher_list(own_name)?,
                Version::Tls13 => builder.set_ciphersuites(own_name)?,
            }
            builder.set_groups_list(group)?;
            builder.set_ca_file(directory.join(file::CA))?;
            builder.set_verify(SslVerifyMode::PEER);
            builder.set_mode(SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER);
            if offer.listener == Listener::Mtls {
                builder.set_certificate_file(directory.join(file::CLIENT), SslFiletype::PEM)?;
                builder.set_private_key_file(directory.join(file::CLIENT_KEY), SslFiletype::PEM)?;
            }
            Ok(builder.build())
        };
        let context = build().map_err(|error| format!("OpenSSL ({group}, {suite}): {error}"))?;
        Ok(Self { context, suite, version })
    }
}

/// What comes from the socket and what goes there.
#[derive(Default)]
struct Memory {
    incoming: Vec<u8>,
    taken: usize,
    outgoing: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let count = (&self.incoming[self.taken..]).read(space)?;
        self.taken += count;
        if self.taken == self.incoming.len() {
            self.incoming.clear();
            self.taken = 0;
        }
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One connection's TLS.
pub(super) struct Client {
    stream: SslStream<Memory>,
}

impl Client {
    /// Begins a handshake with the server of this `name`.
    pub(super) fn new(config: &Config, name: &str) -> Result<Self, String> {
        let begin = || -> Result<SslStream<Memory>, ErrorStack> {
            let mut ssl = Ssl::new(&config.context)?;
            ssl.set_hostname(name)?;
            ssl.param_mut().set_host(name)?;
            SslStream::new(ssl, Memory::default())
        };
        let mut this = Self { stream: begin().map_err(|error| error.to_string())? };
        this.handshake()?;
        Ok(this)
    }

    /// Goes on with what has come. Whether the handshake is over: [`Self::is_handshaking`].
    pub(super) fn handshake(&mut self) -> Result<(), String> {
        match self.stream.connect() {
            Ok(()) => Ok(()),
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        !self.stream.ssl().is_init_finished()
    }

    /// Takes over ciphertext.
    pub(super) fn read_tls(&mut self, bytes: &[u8]) {
        self.stream.get_mut().incoming.extend_from_slice(bytes);
    }

    pub(super) fn wants_write(&self) -> bool {
        !self.stream.get_ref().outgoing.is_empty()
    }

    /// Gives ciphertext away.
    pub(super) fn write_tls(&mut self, to: &mut dyn Write) -> io::Result<()> {
        let outgoing = &mut self.stream.get_mut().outgoing;
        let count = to.write(outgoing)?;
        outgoing.drain(..count);
        Ok(())
    }

    /// Encrypts some of `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, String> {
        self.stream.ssl_write(bytes).map_err(|error| error.to_string())
    }

    /// Decrypts a piece. `Ok(None)`: more ciphertext is needed. `Ok(Some(0))`: close_notify has come.
    pub(super) fn read(&mut self, plain: &mut [u8]) -> Result<Option<usize>, String> {
        match self.stream.ssl_read(plain) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(None),
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => Ok(Some(0)),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn send_close_notify(&mut self) -> Result<(), String> {
        self.stream.shutdown().map(drop).map_err(|error| error.to_string())
    }

    /// Whether all is as it was offered. No other group could be agreed upon than the one that was offered; OpenSSL 3.0 does not
    /// tell which it was.
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        let ssl = self.stream.ssl();
        let suite = ssl.current_cipher().and_then(|cipher| cipher.standard_name());
        if ssl.version2() != Some(config.version) || suite != Some(config.suite) {
            return Err(format!("negotiated {}, {suite:?}", ssl.version_str()));
        }
        if ssl.session_reused() {
            return Err("the handshake was a resumed one".to_owned());
        }
        Ok(())
    }

    /// The certificate that the server presented, as DER.
    pub(super) fn server_certificate(&self) -> Option<Vec<u8>> {
        self.stream.ssl().peer_certificate()?.to_der().ok()
    }
}
