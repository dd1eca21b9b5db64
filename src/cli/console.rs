//! The process's own messages on standard error, and how a panic looks.

use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::report::Escaped;

/// Longest panic message that is shown, in characters.
const PANIC_MESSAGE_MAX: usize = 200;

/// Makes standard error the target of the `log` crate. The one place that decides where the process's messages go.
pub(super) fn install(level: LevelFilter) {
    let console = Console { journal: is_journal() };
    if log::set_boxed_logger(Box::new(console)).is_ok() {
        log::set_max_level(level);
    }
}

/// A panic is one line with its place. Its message is shown only where it is text of the program: one that was put together at run
/// time may hold what a key file or a peer contained.
pub(super) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let message = match panic.payload().downcast_ref::<&'static str>() {
            Some(text) => text.chars().take(PANIC_MESSAGE_MAX).collect(),
            None => String::new(),
        };
        let separator = if message.is_empty() { "" } else { ": " };
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        log::error!("panic in thread '{thread}' at {place}{separator}{}", Escaped(&message));
    }));
}

struct Console {
    /// systemd reads standard error: it wants `<N>` and adds the rest itself (sd-daemon(3)).
    journal: bool,
}

impl Log for Console {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = if self.journal {
            format!("<{}>{}\n", priority(record.level()), record.args())
        } else {
            let (time, pid, level) = (Utc(SystemTime::now()), std::process::id(), word(record.level()));
            format!("{time} bowline[{pid}] {level}: {}\n", record.args())
        };
        // One write, so that lines of master and worker do not mix; nothing can be done about a closed terminal.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Whether standard error is the socket that systemd said it is.
fn is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let status = nix::sys::stat::fstat(std::io::stderr().as_fd());
    status.is_ok_and(|status| stream == format!("{}:{}", status.st_dev, status.st_ino))
}

/// Priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

/// A time as in RFC 3339, to the second.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Days to a date by eras of 400 years that begin on 1 March (Hinnant, "chrono-compatible low-level date algorithms").
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_that_date_prints() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_338_600, "2026-11-22T09:10:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), text, "{seconds}");
        }
    }

    #[test]
    fn errors_are_more_urgent_than_facts() {
        assert_eq!([Level::Error, Level::Warn, Level::Info, Level::Debug].map(priority), [3, 4, 6, 7]);
    }
}
