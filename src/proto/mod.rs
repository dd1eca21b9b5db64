//! The decisions: no socket, no clock, no thread, no log.

pub mod certificate;
pub mod endpoint;
pub mod proxy_in;
pub mod proxy_out;
pub mod sample;
