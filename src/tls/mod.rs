//! Certificates and handshakes.

pub mod client_auth;
pub mod credential;
pub mod engine;
pub mod identity;
pub mod names;
pub mod pem;
pub mod policy;
pub mod problem;
#[cfg(test)]
pub(crate) mod test_pki;
pub mod tickets;
mod trust;
pub mod x509;
