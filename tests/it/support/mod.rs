//! Everything around Bowline: its process, its clients, its backends, and the certificates that both ends show.
//!
//! Nothing here waits for a length of time in the hope that something has happened by then; whatever is waited for has a
//! deadline, and missing it fails the test with the process's own log.

pub(crate) mod backend;
pub(crate) mod bowline;
pub(crate) mod certs;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod notify;
pub(crate) mod metrics;
pub(crate) mod openssl;
pub(crate) mod peers;
pub(crate) mod ports;
pub(crate) mod proxy_header;
pub(crate) mod records;
pub(crate) mod sessions;
pub(crate) mod trust;

use std::time::{Duration, Instant};

pub(crate) use backend::{Echo, End, Peer, Scripted};
pub(crate) use bowline::{Bowline, Site};
pub(crate) use certs::{Authority, Identity, Leaf, pki};
pub(crate) use client::Tls;
pub(crate) use config::Config;

/// How long anything may take that should happen at once. Generous: the machine may be busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `happened` says so.
///
/// # Panics
/// When `deadline` has passed first.
#[track_caller]
pub(crate) fn eventually(what: &str, deadline: Duration, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !happened() {
        assert!(Instant::now() < end, "within {deadline:?} there was no: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Lets `length` pass while something is being measured (a processor's use, the absence of progress).
pub(crate) fn observe(length: Duration) {
    let end = Instant::now() + length;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(rest);
    }
}

/// `length` bytes in which every position can be told from its neighbours, so that a lost, doubled or moved piece shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
    while bytes.len() < length {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compares long byte strings and names the first difference in place of printing megabytes.
#[track_caller]
pub(crate) fn assert_same_bytes(got: &[u8], expected: &[u8]) {
    if let Some(at) = got.iter().zip(expected).position(|(a, b)| a != b) {
        panic!("byte {at} differs: got {:#04x}, expected {:#04x}", got[at], expected[at]);
    }
    assert_eq!(got.len(), expected.len(), "number of bytes");
}

/// Starts Bowline in a fresh directory.
#[track_caller]
pub(crate) fn serve(config: &Config) -> Bowline {
    Bowline::start(Site::new(), config)
}

/// One test per version of TLS from each function: `module::name::tls12` and `module::name::tls13`.
macro_rules! both_versions {
    ($($(#[$attribute:meta])* fn $name:ident($version:ident) $body:block)*) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;

            fn run($version: Version) $body

            #[test]
            fn tls12() {
                run(Version::Tls12);
            }

            #[test]
            fn tls13() {
                run(Version::Tls13);
            }
        }
    )*};
}
pub(crate) use both_versions;
