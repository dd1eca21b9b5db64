//! Bowline: a layer-4 TLS terminator with PROXY protocol.
//!
//! The modules in reading order; who may import whom is in `ARCHITECTURE.md` and checked by `tests/it/tidy.rs`.

pub mod conf;
pub mod event_loop;
pub mod log;
pub mod master;
pub mod material;
pub mod proto;
pub mod snapshot;
pub mod stats;
pub mod sys;
pub mod tls;
pub mod worker;
