//! Certificates and handshakes.

pub mod credential;
pub mod identity;
pub mod names;
pub mod pem;
pub mod problem;
#[cfg(test)]
pub(crate) mod test_pki;
pub mod tickets;
pub mod x509;
