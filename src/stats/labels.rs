//! The closed vocabularies that things are counted by. None of them grows with what peers send.

/// A word of a closed vocabulary.
pub trait Label: Copy + 'static {
    /// Its place in the vocabulary, from 0.
    fn index(self) -> usize;

    /// As it is written in a metric.
    fn word(self) -> &'static str;

    /// The whole vocabulary, in order.
    fn all() -> impl Iterator<Item = Self>;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum $name { $($(#[$word_doc])* $variant,)+ }

            impl $name {
                /// Number of words.
                pub const COUNT: usize = [$($word),+].len();
            }

            impl Label for $name {
                fn index(self) -> usize {
                    self as usize
                }

                fn word(self) -> &'static str {
                    match self { $(Self::$variant => $word),+ }
                }

                fn all() -> impl Iterator<Item = Self> {
                    [$(Self::$variant),+].into_iter()
                }
            }
        )+
    };
}

labels! {
    /// A handshake that succeeded: protocol version, and whether it resumed a session.
    HandshakeKind {
        /// TLS 1.2, full.
        Tls12Full = "tls12",
        /// TLS 1.2, resumed.
        Tls12Resumed = "tls12_resumed",
        /// TLS 1.3, full.
        Tls13Full = "tls13",
        /// TLS 1.3, resumed.
        Tls13Resumed = "tls13_resumed",
    }

    /// Why a handshake failed.
    HandshakeFailure {
        /// The client connected and never sent a byte: a probe, most often.
        Empty = "empty",
        /// The client went away in the middle.
        Aborted = "aborted",
        /// `timeout client-hs`.
        Timeout = "timeout",
        /// Plain HTTP.
        PlainHttp = "plain_http",
        /// Something else that is not TLS.
        NotTls = "not_tls",
        /// No TLS version in common.
        Version = "version",
        /// No cipher suite in common.
        Cipher = "cipher",
        /// No key exchange group in common.
        Group = "group",
        /// No signature scheme in common that goes with a certificate.
        Signature = "signature",
        /// Something else that the two sides do not have in common.
        Incompatible = "incompatible",
        /// No certificate for the name that was asked for, or none was asked for (`strict-sni`).
        ServerName = "server_name",
        /// The client sent no certificate and had to.
        ClientCertificateMissing = "client_certificate_missing",
        /// The client's certificate was refused.
        ClientCertificateRefused = "client_certificate_refused",
        /// The client did not like our certificate, and said so by an alert.
        ServerCertificateRefused = "server_certificate_refused",
        /// The client sent another alert.
        ClientAlert = "client_alert",
        /// A message larger than it may be.
        TooLarge = "too_large",
        /// A record that does not decrypt.
        Decrypt = "decrypt",
        /// A message that cannot be parsed, came out of turn, or breaks another rule of TLS.
        Protocol = "protocol",
        /// A fault of ours.
        Internal = "internal",
    }

    /// What came of looking for a client's certificate, where one was asked for.
    ClientVerify {
        /// It verified.
        Ok = "ok",
        /// It did not, and `crt-ignore-err` or `ca-ignore-err` let that pass.
        Ignored = "ignored",
        /// None was sent, and none had to be (`verify optional`).
        None = "none",
        /// None was sent, and one had to be (`verify required`).
        Missing = "missing",
        /// More certificates or bytes than anybody needs.
        TooLarge = "too_large",
        /// Not X.509, or a kind of it that is not supported.
        Malformed = "malformed",
        /// No CA of `ca-file` issued it.
        UnknownCa = "unknown_ca",
        /// It, or one in its chain, has expired.
        Expired = "expired",
        /// It, or one in its chain, is not valid yet.
        NotYetValid = "not_yet_valid",
        /// It is in a revocation list.
        Revoked = "revoked",
        /// `crl-file` has no list for an issuer in its chain.
        RevocationUnknown = "revocation_unknown",
        /// The revocation list has expired since it was loaded.
        CrlExpired = "crl_expired",
        /// It is not meant for clients.
        WrongPurpose = "wrong_purpose",
        /// A signature is wrong: of a certificate in the chain, or the client's own.
        BadSignature = "bad_signature",
        /// Anything else.
        Other = "other",
    }

    /// What is wrong with a PROXY header that had to come.
    ProxyFailure {
        /// Not a byte came: a probe, most often.
        Empty = "empty",
        /// The sender went away in the middle.
        Truncated = "truncated",
        /// It did not come in time.
        Timeout = "timeout",
        /// What came is none.
        NotHeader = "not_a_header",
        /// It is none that can be believed.
        Invalid = "invalid",
    }

    /// Why a session was not resumed although the client had a ticket.
    TicketRefusal {
        /// It was issued under another policy (listener, `verify`, CAs, revocation lists), or is damaged.
        Policy = "policy",
        /// Its lifetime is over.
        Expired = "expired",
        /// Its key is gone, or was never ours.
        UnknownKey = "unknown_key",
        /// The client's certificate in it does not verify any more.
        ClientCertificate = "client_certificate",
    }

    /// Why a server could not be reached.
    ConnectError {
        /// Nothing listens there.
        Refused = "refused",
        /// `timeout connect`, or the system's own patience.
        Timeout = "timeout",
        /// No route, or the network or host is down.
        Unreachable = "unreachable",
        /// It reset the connection at once.
        Reset = "reset",
        /// No descriptor, memory or local port was left.
        Resources = "resources",
        /// The unix socket does not exist.
        NotFound = "not_found",
        /// The system forbids it.
        Permission = "permission",
        /// Anything else.
        Other = "other",
    }
}

impl HandshakeKind {
    /// The version's name, and whether the session was resumed.
    pub fn parts(self) -> (&'static str, bool) {
        match self {
            Self::Tls12Full => ("TLSv1.2", false),
            Self::Tls12Resumed => ("TLSv1.2", true),
            Self::Tls13Full => ("TLSv1.3", false),
            Self::Tls13Resumed => ("TLSv1.3", true),
        }
    }

    /// The kind of a session of TLS 1.3 (or 1.2) that was resumed (or not).
    pub fn new(tls13: bool, resumed: bool) -> Self {
        match (tls13, resumed) {
            (false, false) => Self::Tls12Full,
            (false, true) => Self::Tls12Resumed,
            (true, false) => Self::Tls13Full,
            (true, true) => Self::Tls13Resumed,
        }
    }
}

/// HAProxy's termination state (manual, 8.5): what ended a connection, and in which phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination(u8);

const CAUSES: &[u8] = b"CSPLRIDUKcs";
const PHASES: &[u8] = b"RQCDL";

/// Every cause with every phase; the first is a connection that ended as it should.
#[rustfmt::skip]
const TERMINATIONS: [&str; 56] = [
    "--",
    "CR", "CQ", "CC", "CD", "CL",
    "SR", "SQ", "SC", "SD", "SL",
    "PR", "PQ", "PC", "PD", "PL",
    "LR", "LQ", "LC", "LD", "LL",
    "RR", "RQ", "RC", "RD", "RL",
    "IR", "IQ", "IC", "ID", "IL",
    "DR", "DQ", "DC", "DD", "DL",
    "UR", "UQ", "UC", "UD", "UL",
    "KR", "KQ", "KC", "KD", "KL",
    "cR", "cQ", "cC", "cD", "cL",
    "sR", "sQ", "sC", "sD", "sL",
];

impl Termination {
    /// Number of states.
    pub const COUNT: usize = TERMINATIONS.len();

    /// From the two letters of the log; `None` if the manual has no such letters.
    pub fn new(letters: [u8; 2]) -> Option<Self> {
        let place = |letters: &[u8], letter: u8| letters.iter().position(|one| *one == letter);
        let index = match letters {
            [b'-', b'-'] => 0,
            [cause, phase] => 1 + place(CAUSES, cause)? * PHASES.len() + place(PHASES, phase)?,
        };
        u8::try_from(index).ok().map(Self)
    }
}

impl Label for Termination {
    fn index(self) -> usize {
        self.0.into()
    }

    fn word(self) -> &'static str {
        TERMINATIONS[self.index()]
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..TERMINATIONS.len() as u8).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letters_are_found_again() {
        for state in Termination::all() {
            let letters = state.word().as_bytes();
            assert_eq!(Termination::new([letters[0], letters[1]]), Some(state));
        }
        assert_eq!(Termination::new(*b"XX"), None);
    }

    #[test]
    fn words_are_lower_case_and_unique() {
        fn check<L: Label>() {
            let words: Vec<&str> = L::all().map(Label::word).collect();
            for (index, word) in words.iter().enumerate() {
                assert!(word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{word}");
                assert!(!words[..index].contains(word), "{word} twice");
            }
        }
        check::<HandshakeKind>();
        check::<HandshakeFailure>();
        check::<ClientVerify>();
        check::<ProxyFailure>();
        check::<TicketRefusal>();
        check::<ConnectError>();
    }
}
