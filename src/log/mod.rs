//! Lines out. A loop hands a finished text to [`Queue`] and goes on; threads of their own frame it and write it, one
//! per sink, so that a syslog server, pipe or terminal that has stopped reading costs its own lines and nothing else.
//!
//! Three kinds of text meet here: traffic lines ([`mod@line`]), which a frontend's `log` targets get, the process's own
//! messages (the `log` crate's macros, see [`logger`]), which go to the targets of `global`, and audit records ([`audit`]).

pub mod audit;
pub mod escape;
pub mod line;
pub mod logger;
pub mod queue;
mod sink;
pub mod targets;
pub mod time;

pub use line::{ClientAddress, ConnectLine, ConnectionRecord, Failure, FailureRecord};
pub use queue::{Queue, Writer};
pub use targets::Targets;

/// Severities of syslog (RFC 5424, 6.2.1) that this program sends.
pub mod level {
    /// Something failed and needs a person.
    pub const ERROR: u8 = 3;
    /// Something will fail, or was refused for a reason worth knowing.
    pub const WARNING: u8 = 4;
    /// Traffic lines and milestones: HAProxy's level for both (HAProxy manual, 4.2 `log`).
    pub const INFO: u8 = 6;
    /// For whoever debugs this program.
    pub const DEBUG: u8 = 7;
}
