//! Certificates and handshakes.

pub mod identity;
