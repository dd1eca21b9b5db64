//! TLS on `bind` lines.

use std::path::PathBuf;

use super::super::ciphers::{Group, Suite12, Suite13};
use super::super::crt_list::Entry;
use super::super::verify_errors::IgnoredErrors;
use super::At;

/// TLS on a `bind` line. Paths are complete: `crt-base` and `ca-base` are applied.
#[derive(Clone, Debug)]
pub struct BindTls {
    /// `crt` and `default-crt` in the order written; the first certificate is the default.
    pub crt: Vec<Crt>,
    /// `ssl-f-use` lines of the section, if the line names no certificate itself.
    pub entries: Vec<Entry>,
    /// `verify`.
    pub verify: Verify,
    /// `ca-file`: file, directory, or [`SYSTEM_CA`].
    pub ca_file: Option<At<PathBuf>>,
    /// `ca-verify-file`: further CAs, whose names are not sent.
    pub ca_verify_file: Option<At<PathBuf>>,
    /// Not `no-ca-names`: clients are told the names of the CAs.
    pub ca_names: bool,
    /// `crt-ignore-err`: what is let pass about the client's own certificate.
    pub ignored_of_leaf: IgnoredErrors,
    /// `ca-ignore-err`: what is let pass about the others in its chain.
    pub ignored_of_ca: IgnoredErrors,
    /// `crl-file`.
    pub crl_file: Option<At<PathBuf>>,
    /// `alpn`, in order of preference; empty: none.
    pub alpn: Vec<Vec<u8>>,
    /// Lowest version, from `ssl-min-ver` or `ssl-default-bind-options`.
    pub min_version: TlsVersion,
    /// Highest version.
    pub max_version: TlsVersion,
    /// Suites of TLS 1.2 in order of preference: `ciphers`, `ssl-default-bind-ciphers`, or [`Suite12::DEFAULT`]. Not empty.
    pub suites12: Vec<Suite12>,
    /// Suites of TLS 1.3 in order of preference: `ciphersuites`, its default, or [`Suite13::DEFAULT`]. Not empty.
    pub suites13: Vec<Suite13>,
    /// Groups: `curves`, its default, `ecdhe`, or [`Group::DEFAULT`]. Not empty. Among them the client's order counts.
    pub groups: Vec<Group>,
    /// `prefer-client-ciphers`: among the suites the client's order counts.
    pub prefer_client_ciphers: bool,
    /// `tls-tickets`, or not `no-tls-tickets`: sessions are kept in tickets, not here.
    pub tickets: bool,
    /// `tls-ticket-keys`: keys that several processes share.
    pub ticket_keys: Option<At<PathBuf>>,
    /// Who gets no certificate.
    pub sni: SniPolicy,
    /// `last-crt-wins` (extension): of the certificates for a name the last one counts, whatever its kind of key.
    pub last_crt_wins: bool,
}

/// `ca-file @system-ca`: the CAs that the system believes.
pub const SYSTEM_CA: &str = "@system-ca";

/// Where a `bind` line has its certificates from.
#[derive(Clone, Debug)]
pub struct Crt {
    /// A file or a directory.
    pub file: At<PathBuf>,
    /// Which word named it.
    pub kind: CrtKind,
}

/// What a [`Crt`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrtKind {
    /// `crt`: certificates.
    Plain,
    /// `default-crt`: certificates that are also for clients whose name no certificate has.
    Default,
    /// `crt-list`: a file that names certificates, for [`crate::conf::crt_list::parse`].
    List,
}

/// Which clients get the default certificate; the others get alert `unrecognized_name`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SniPolicy {
    /// Those that send no name, and those that send one that no certificate has.
    #[default]
    Lenient,
    /// `sni-nomatch-abort` (extension): those that send no name.
    NomatchAbort,
    /// `strict-sni`: nobody.
    Strict,
}

/// `verify` of a `bind` line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// No certificate is asked for.
    #[default]
    None,
    /// A certificate that is sent must verify.
    Optional,
    /// A certificate must be sent and verify.
    Required,
}

/// The versions of TLS that exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Most plaintext in a record to a client, in bytes; default 16384 (RFC 8446, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// While data comes in small pieces: `tune.ssl.maxrecord`.
    pub first: usize,
    /// Always: `tune.ssl.hard-maxrecord`.
    pub all: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { first: 16_384, all: 16_384 }
    }
}
