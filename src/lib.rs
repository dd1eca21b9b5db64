//! Bowline: a layer-4 TLS terminator with PROXY protocol.
//!
//! The modules in reading order; who may import whom is in `ARCHITECTURE.md` and checked by `tests/it/tidy.rs`.

pub mod conf;
pub mod tls;
pub mod proto;
pub mod material;
pub mod snapshot;
pub mod stats;
pub mod metrics;
pub mod log;
pub mod event_loop;
pub mod report;
pub mod ipc;
pub mod control;
pub mod worker;
pub mod master;
pub mod demo;
pub mod cli;
pub mod socket;
pub mod sys;
pub mod versions;
