//! [`Numbers`]: everything that one answer is made of, read at one time.

use std::time::Duration;

use crate::stats::counter::{Distribution, TurnScale};
use crate::stats::{FrontendTotals, ProcessTotals, ServerTotals};

/// What there is to tell.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Versions of the program and of what it is made of.
    pub build: Build,
    /// The worker process.
    pub process: Process,
    /// What the master knows.
    pub service: Service,
    /// Number of the configuration in force.
    pub generation: u64,
    /// The worker accepts no more and finishes what runs.
    pub draining: bool,
    /// Most connections of the process.
    pub connections_limit: u32,
    /// Counters of the process.
    pub totals: ProcessTotals,
    /// Turns of all loops.
    pub turns: Distribution<TurnScale>,
    /// The longest turn of each loop in the last minute or two, in microseconds.
    pub longest_turns: Vec<u64>,
    /// By name.
    pub frontends: Vec<(String, FrontendTotals)>,
    /// Most connections of a frontend, for those that have a limit.
    pub frontend_limits: Vec<(String, u32)>,
    /// By backend and name.
    pub servers: Vec<((String, String), ServerTotals)>,
    /// Log lines that were dropped, by where they should have gone.
    pub log_dropped: Vec<(String, u64)>,
    /// Files of the configuration that end on a day.
    pub expiries: Expiries,
    /// How old the key is that encrypts session tickets.
    pub ticket_key_age: Option<Duration>,
}

/// Versions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Build {
    /// Of this program.
    pub version: &'static str,
    /// Of rustls.
    pub rustls: &'static str,
    /// Of aws-lc-rs.
    pub aws_lc: &'static str,
}

/// What the system says about the process. What it does not say is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Since 1970.
    pub started: Duration,
    /// Processor time, in user and in system mode together.
    pub cpu: Option<Duration>,
    /// Bytes of memory in use.
    pub resident_bytes: Option<u64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_descriptors: Option<u64>,
    /// The limit on them.
    pub max_descriptors: Option<u64>,
}

/// What the master has told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Service {
    /// Workers that were started in place of one that died.
    pub worker_restarts: u64,
    /// Configurations that were adopted, the first one included.
    pub reloads_adopted: u64,
    /// Reloads that were refused.
    pub reloads_refused: u64,
    /// Whether the last attempt was adopted.
    pub last_reload_adopted: bool,
    /// When a configuration was last adopted, in seconds since 1970.
    pub last_adopted_at: u64,
}

/// Files that end on a day, each with the first of those days that matters, in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiries {
    /// Certificates of `crt`.
    pub certificates: Vec<(String, u64)>,
    /// Their OCSP responses.
    pub staples: Vec<(String, u64)>,
    /// Files and directories of `ca-file`: the CA that expires first.
    pub client_cas: Vec<(String, u64)>,
    /// Files of `crl-file`: the list whose next update is due first.
    pub crls: Vec<(String, u64)>,
}
