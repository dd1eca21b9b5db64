//! The one place where this program lets time pass.

use std::time::Duration;

/// Waits. For what is observed over time, and for what can only be asked for: /proc wakes nobody when a value changes.
#[allow(clippy::disallowed_methods, reason = "there is no event to wait for")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
