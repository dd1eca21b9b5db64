//! What a client offers of TLS: exactly one version, suite and group each, so that the product has no choice and every product does
//! the same work.

use std::fmt;

/// A choice that has a name in the arguments of a client.
pub(crate) trait Named: Copy + 'static {
    const ALL: &[Self];

    fn name(self) -> &'static str;
}

/// Protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

impl Named for Version {
    const ALL: &[Self] = &[Self::Tls12, Self::Tls13];

    fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "tls12",
            Self::Tls13 => "tls13",
        }
    }
}

/// AEAD of the cipher suite, with the hash that TLS 1.3 pairs it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Suite {
    /// As people call it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        }
    }

    /// The cipher suite of TLS 1.3 (RFC 8446, appendix B.4).
    pub(crate) fn tls13(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Self::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Self::ChaCha20Poly1305 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }
}

impl Named for Suite {
    const ALL: &[Self] = &[Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128",
            Self::Aes256Gcm => "aes256",
            Self::ChaCha20Poly1305 => "chacha20",
        }
    }
}

/// Group of the key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    X25519,
    /// NIST P-256. In TLS 1.2 the group of an ECDSA certificate must be among those that are offered (RFC 8422, 5.1).
    Secp256r1,
    X25519MlKem768,
}

impl Named for Group {
    const ALL: &[Self] = &[Self::X25519, Self::Secp256r1, Self::X25519MlKem768];

    fn name(self) -> &'static str {
        match self {
            Self::X25519 => "x25519",
            Self::Secp256r1 => "secp256r1",
            Self::X25519MlKem768 => "x25519mlkem768",
        }
    }
}

/// The listener of the product, and with it what the server certificate is and whether a client certificate is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// ECDSA P-256, requires a client certificate.
    Mtls,
    /// ECDSA P-256.
    Tls,
    /// RSA 2048.
    Rsa,
    /// ECDSA P-256, one of many certificates, chosen by the name that the client sends.
    Sni,
}

impl Named for Listener {
    const ALL: &[Self] = &[Self::Mtls, Self::Tls, Self::Rsa, Self::Sni];

    fn name(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Tls => "tls",
            Self::Rsa => "rsa",
            Self::Sni => "sni",
        }
    }
}

/// Who speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    Rustls,
    OpenSsl,
    /// Nobody: the bytes go as they are.
    None,
}

impl Library {
    /// Whether the client can make this offer with it. For OpenSSL, a ticket takes code that is not safe, and Debian 12 has none that
    /// knows ML-KEM.
    pub(crate) fn can(self, offer: &Offer) -> bool {
        self != Self::OpenSsl || (offer.sessions == Sessions::Fresh && offer.group != Group::X25519MlKem768)
    }
}

impl Named for Library {
    const ALL: &[Self] = &[Self::Rustls, Self::OpenSsl, Self::None];

    fn name(self) -> &'static str {
        match self {
            Self::Rustls => "rustls",
            Self::OpenSsl => "openssl",
            Self::None => "none",
        }
    }
}

/// Whether sessions are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    Fresh,
    Resumed,
}

impl Named for Sessions {
    const ALL: &[Self] = &[Self::Fresh, Self::Resumed];

    fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Resumed => "resumed",
        }
    }
}

/// Everything that one client process offers on each of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) listener: Listener,
    pub(crate) version: Version,
    pub(crate) suite: Suite,
    pub(crate) group: Group,
    pub(crate) sessions: Sessions,
    pub(crate) library: Library,
}

impl Offer {
    /// TLS 1.3 with AES-128-GCM and X25519, every session a fresh one, with rustls.
    pub(crate) const fn to(listener: Listener) -> Self {
        Self {
            listener,
            version: Version::Tls13,
            suite: Suite::Aes128Gcm,
            group: Group::X25519,
            sessions: Sessions::Fresh,
            library: Library::Rustls,
        }
    }
}

/// As arguments of a client.
impl fmt::Display for Offer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listener, version, suite, group, sessions, library } = self;
        let (listener, version, suite) = (listener.name(), version.name(), suite.name());
        let (group, sessions) = (group.name(), sessions.name());
        write!(
            out,
            "listener={listener} version={version} suite={suite} group={group} sessions={sessions} tls={}",
            library.name()
        )
    }
}
