//! What a finished handshake proved. A [`Verdict`] can only come from `tls::client_auth`'s one judging function (or
//! from a listener that has no TLS at all), and a server is only dialled with one in hand.

use std::num::NonZeroU32;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::stats::labels::ClientVerify;

/// What is known about the client's certificate.
#[derive(Clone, Debug)]
pub enum Client {
    /// The listener does not ask for certificates.
    NotAsked,
    /// It asked (`verify optional`) and none was sent.
    Anonymous,
    /// Verified now, by today's policy.
    Verified {
        /// The leaf.
        leaf: CertificateDer<'static>,
        /// The session was resumed: the certificate was sent in an earlier handshake.
        resumed: bool,
    },
    /// It does not verify, and `crt-ignore-err` or `ca-ignore-err` let that pass: it proves nothing.
    Unverified {
        /// The leaf.
        leaf: CertificateDer<'static>,
        /// The session was resumed.
        resumed: bool,
        /// OpenSSL's number of the last error, never 0.
        error: NonZeroU32,
    },
}

impl Client {
    /// As it is counted; `None` if nobody asked.
    pub fn label(&self) -> Option<ClientVerify> {
        match self {
            Self::NotAsked => None,
            Self::Anonymous => Some(ClientVerify::None),
            Self::Verified { .. } => Some(ClientVerify::Ok),
            Self::Unverified { .. } => Some(ClientVerify::Ignored),
        }
    }
}

/// The outcome of client authentication that permits a connection to go on. Not `Clone`: it is spent on one
/// connection to a server.
#[derive(Debug)]
pub struct Verdict {
    client: Client,
}

impl Verdict {
    /// For `tls::client_auth` alone (and a listener without TLS).
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// A verdict that no handshake gave, for unit tests of what is built on one.
    #[cfg(test)]
    pub(crate) fn for_tests(client: Client) -> Self {
        Self::new(client)
    }

    /// The verdict of a listener without TLS: nobody was asked.
    pub fn plaintext() -> Self {
        Self { client: Client::NotAsked }
    }

    /// What is known about the client's certificate.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// What was negotiated, in OpenSSL's names, for logs and PROXY headers.
#[derive(Clone, Debug)]
pub struct TlsSession {
    /// `TLSv1.2`, `TLSv1.3`.
    pub version: &'static str,
    /// `TLS_AES_128_GCM_SHA256`, `ECDHE-RSA-AES128-GCM-SHA256`.
    pub cipher: &'static str,
    /// `X25519`, `secp256r1`, `X25519MLKEM768`; `None` if a resumption used none.
    pub group: Option<&'static str>,
    /// Scheme that this side signed with, `ecdsa_secp256r1_sha256`; `None` on a resumed session.
    pub sig_scheme: Option<&'static str>,
    /// Server name, lower case.
    pub sni: Option<String>,
    /// Negotiated protocol.
    pub alpn: Option<Vec<u8>>,
    /// Resumed from a ticket.
    pub resumed: bool,
    /// The server's certificate.
    pub server: Arc<ServerCertificate>,
}

/// What is told about a server's certificate.
#[derive(Debug)]
pub struct ServerCertificate {
    /// Algorithm that signed it, `ecdsa-with-SHA256`, `RSA-SHA256`.
    pub sig_alg: &'static str,
    /// Its key, `RSA2048`, `EC256`.
    pub key_alg: String,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
}
