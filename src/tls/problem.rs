//! [`Problem`]: what is wrong with a certificate, key, CA or CRL, in words for the operator.
//!
//! | code | meaning |
//! |---|---|
//! | E211 | `verify` without a CA |
//! | E220 | no private key |
//! | E221 | a file is missing or cannot be read |
//! | E222 | not usable as PEM: empty, DER, PKCS#12, truncated, bad base64 |
//! | E223 | no certificate in the file |
//! | E224 | more than one private key |
//! | E225 | the private key is encrypted |
//! | E226 | the key does not belong to the certificate |
//! | E227 | certificate or key of a kind that cannot be used, or damaged |
//! | E228 | no certificate at all for this `bind` |
//! | E231 | no CA certificate in `ca-file`, or one that cannot be used |
//! | E240 | `crl-file` holds no CRL, or one that cannot be used |
//! | E241 | a CRL has expired |
//! | E242 | a CRL is not signed by the CA that it names |
//! | E250 | TLS settings that fit no handshake |
//! | W130 | an exact RSA name is shadowed by a wildcard ECDSA name |
//! | W131 | a name is served by an earlier certificate already |
//! | W221 | a private key that everybody may read |
//! | W222 | a certificate has expired |
//! | W223 | a certificate is not valid yet |
//! | W232 | a CA certificate has expired |
//! | W233 | CRLs in `ca-file` |
//! | W234 | too many CA names to send |
//! | W240 | a CA has no CRL |
//! | W241 | a CRL expires within 24 hours |
//! | N224 | an OCSP response that is not stapled |
//! | N240 | an older CRL of the same CA is not used |

use crate::conf::model::Location;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Works, but probably not as meant.
    Warning,
    /// The configuration is refused.
    Error,
}

/// One message to the operator about the files that a `bind` line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The word of the configuration that leads here.
    pub at: Location,
    /// How bad it is.
    pub severity: Severity,
    /// Stable code, such as `E220`.
    pub code: &'static str,
    /// What is wrong, in one line, without a full stop.
    pub message: String,
    /// What was tried, and what to do.
    pub notes: Vec<String>,
}

impl Problem {
    pub(super) fn error(at: &Location, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(at, Severity::Error, code, message.into())
    }

    pub(super) fn warning(at: &Location, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(at, Severity::Warning, code, message.into())
    }

    pub(super) fn notice(at: &Location, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(at, Severity::Notice, code, message.into())
    }

    fn new(at: &Location, severity: Severity, code: &'static str, message: String) -> Self {
        Self { at: at.clone(), severity, code, message, notes: Vec::new() }
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Does it forbid the configuration?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
