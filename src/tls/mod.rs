//! Certificates and handshakes.
//!
//! What is said about the files that a `bind` line names ([`Diagnostic`][crate::conf::diagnostic::Diagnostic]):
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
//! | E241 | a CRL has expired, and that is not ignored |
//! | E242 | a CRL is not signed by the CA that it names |
//! | E250 | TLS settings that fit no handshake |
//! | W130 | an exact RSA name is shadowed by a wildcard ECDSA name |
//! | W131 | a name is served by an earlier certificate already |
//! | W221 | a private key that everybody may read |
//! | W222 | a certificate has expired |
//! | W223 | a certificate is not valid yet |
//! | W224 | an OCSP response that is not stapled |
//! | W225 | a file of `issuers-chain-path` that gives no chain |
//! | E260 | `tls-ticket-keys` holds no keys that can be used |
//! | W226 | ticket keys that everybody may read |
//! | W232 | a CA certificate has expired |
//! | W233 | CRLs in `ca-file` |
//! | W234 | too many CA names to send |
//! | W235 | a certificate of `ca-file` that is neither a CA nor self-signed |
//! | W240 | a CA has no CRL |
//! | W241 | a CRL expires within 24 hours, or has expired and that is ignored |
//! | N240 | an older CRL of the same CA is not used |

mod certificates;
mod client_auth;
mod credential;
mod crl;
mod der;
pub mod engine;
mod exceptions;
pub mod identity;
pub mod inventory;
mod names;
mod ocsp;
mod overview;
mod pem;
pub mod policy;
mod terms;
#[cfg(test)]
pub(crate) mod test_pki;
mod sessions;
mod signatures;
mod ticket_file;
pub mod tickets;
mod trust;
pub mod x509;

use std::io;

/// Seeds the random number generator of the process. Where that measures jitter of the processor it takes some 20 ms, which the
/// first client would wait for, and everybody on its loop.
///
/// # Errors
/// There is no randomness: nothing that is done with keys would be safe.
pub fn seed() -> io::Result<()> {
    aws_lc_rs::rand::fill(&mut [0]).map_err(|_| io::Error::other("there are no random numbers"))
}
