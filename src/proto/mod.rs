//! The decisions: no socket, no clock, no thread, no log.

pub mod close;
pub mod connection;
mod endpoint;
pub mod proxy_in;
pub mod proxy_out;
pub mod pump;
pub mod rate;
pub mod route;
pub mod sample;
pub mod wire;
#[cfg(test)]
mod simulation;
