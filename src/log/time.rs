//! Local time for log lines. The rules of the zone (`TZ`, `/etc/localtime`, the zone database) are files, which a
//! sandboxed worker cannot read: [`init`] loads them once, before. No environment variable is read afterwards.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

static ZONE: OnceLock<TimeZone> = OnceLock::new();

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Loads the system's time zone; later calls change nothing. An unknown zone is UTC, as everywhere else on the system.
/// Call it before the process gives up the file system.
pub fn init() {
    zone();
}

fn zone() -> &'static TimeZone {
    ZONE.get_or_init(|| TimeZone::try_system().unwrap_or(TimeZone::UTC))
}

/// `2026-11-22 08:18:05`, for people.
pub fn stamp(at: SystemTime) -> String {
    let c = Local::new(at).civil;
    format!("{} {:02}:{:02}:{:02}", c.date(), c.hour(), c.minute(), c.second())
}

/// HAProxy's `%t` in the system's zone: `22/Nov/2026:08:18:05.235`.
pub fn accept_date(at: SystemTime) -> String {
    let mut date = String::new();
    Local::new(at).push_accept_date(&mut date);
    date
}

/// A moment on the wall clock.
pub(super) struct Local {
    civil: DateTime,
    offset: Offset,
}

impl Local {
    /// `at` in the system's zone.
    pub(super) fn new(at: SystemTime) -> Self {
        Self::in_zone(at, zone())
    }

    fn in_zone(at: SystemTime, zone: &TimeZone) -> Self {
        // Out of range means a clock set before year -9999 or after 9999.
        let timestamp = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
        let offset = zone.to_offset(timestamp);
        Self { civil: offset.to_datetime(timestamp), offset }
    }

    fn month(&self) -> &'static str {
        MONTHS.get(usize::from(self.civil.month().unsigned_abs()).wrapping_sub(1)).copied().unwrap_or("???")
    }

    /// HAProxy's `%t`: `22/Nov/2026:08:18:05.235`.
    pub(super) fn push_accept_date(&self, out: &mut String) {
        let c = &self.civil;
        let _ = write!(
            out,
            "{:02}/{}/{:04}:{:02}:{:02}:{:02}.{:03}",
            c.day(),
            self.month(),
            c.year(),
            c.hour(),
            c.minute(),
            c.second(),
            c.millisecond()
        );
    }

    /// RFC 3164, 4.1.2: `Nov  2 08:18:05`.
    pub(super) fn push_syslog(&self, out: &mut String) {
        let c = &self.civil;
        let _ = write!(out, "{} {:2} {:02}:{:02}:{:02}", self.month(), c.day(), c.hour(), c.minute(), c.second());
    }

    /// RFC 5424, 6.2.3: `2026-11-22T08:18:05.235017+01:00`.
    pub(super) fn push_iso(&self, out: &mut String) {
        let c = &self.civil;
        let seconds = self.offset.seconds();
        let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
        let _ = write!(
            out,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}{sign}{:02}:{:02}",
            c.year(),
            c.month(),
            c.day(),
            c.hour(),
            c.minute(),
            c.second(),
            c.subsec_nanosecond() / 1000,
            minutes / 60,
            minutes % 60
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// 2026-11-02 07:08:05.035017 UTC
    fn moment() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(1_793_603_285_035_017)
    }

    fn printed(zone: &str, print: fn(&Local, &mut String)) -> String {
        let mut out = String::new();
        print(&Local::in_zone(moment(), &TimeZone::posix(zone).unwrap()), &mut out);
        out
    }

    #[test]
    fn dates_are_local_and_padded_as_haproxy_does() {
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        assert_eq!(printed(berlin, Local::push_accept_date), "02/Nov/2026:08:08:05.035");
        assert_eq!(printed(berlin, Local::push_syslog), "Nov  2 08:08:05");
        assert_eq!(printed(berlin, Local::push_iso), "2026-11-02T08:08:05.035017+01:00");
    }

    #[test]
    fn offsets_west_and_with_half_hours() {
        assert_eq!(printed("NST3:30", Local::push_iso), "2026-11-02T03:38:05.035017-03:30");
        assert_eq!(printed("IST-5:30", Local::push_iso), "2026-11-02T12:38:05.035017+05:30");
        assert_eq!(printed("UTC0", Local::push_iso), "2026-11-02T07:08:05.035017+00:00");
        assert_eq!(printed("XXX12", Local::push_syslog), "Nov  1 19:08:05");
    }
}
