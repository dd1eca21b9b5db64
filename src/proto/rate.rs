//! How many in a second: a bucket that all loops take from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SECOND: u64 = 1_000_000_000;

/// At most so many in a second, and as many at once after a second of rest: a token bucket, told by the time at which it
/// will be full again (the "generic cell rate algorithm"), so that one number is all of its state. Loops that look at the same
/// moment may take one each; what was taken too early is made up for, so the rate holds.
#[derive(Debug)]
pub struct Rate {
    limit: u32,
    start: Instant,
    /// When it will be full, in nanoseconds after `start`.
    full_at: AtomicU64,
}

impl Rate {
    /// So many in a second; the bucket is full.
    pub fn new(limit: u32, start: Instant) -> Self {
        Self { limit: limit.max(1), start, full_at: AtomicU64::new(0) }
    }

    /// How many in a second.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    fn interval(&self) -> u64 {
        SECOND / u64::from(self.limit)
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// When the next one may come, if it may not come now.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        let empty_for = self.full_at.load(Ordering::Relaxed).saturating_add(self.interval()).saturating_sub(SECOND);
        (empty_for > self.nanoseconds(now)).then(|| self.start + Duration::from_nanos(empty_for))
    }

    /// One has come.
    pub fn take(&self, now: Instant) {
        let (now, interval) = (self.nanoseconds(now), self.interval());
        // The closure always answers.
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            Some(full_at.max(now).saturating_add(interval))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How many come in this time if there is always another one.
    fn come_within(rate: &Rate, mut now: Instant, time: Duration) -> u32 {
        let end = now + time;
        let mut count = 0;
        while now < end {
            match rate.wait_until(now) {
                Some(at) => now = at,
                None => {
                    rate.take(now);
                    count += 1;
                }
            }
        }
        count
    }

    #[test]
    fn a_second_of_rest_is_worth_a_seconds_number_and_no_more() {
        let start = Instant::now();
        for limit in [1, 2, 10, 100, 1000] {
            let rate = Rate::new(limit, start);
            assert_eq!(come_within(&rate, start, millis(1)), limit, "at once, of {limit}");
            assert_eq!(come_within(&rate, start + millis(1), millis(999)), limit - 1, "then {limit} a second");
            let later = start + Duration::from_secs(3600);
            assert_eq!(come_within(&rate, later, millis(1)), limit, "an hour saves nothing");
        }
    }

    #[test]
    fn the_rate_holds_over_time() {
        let start = Instant::now();
        let rate = Rate::new(50, start);
        let count = come_within(&rate, start, Duration::from_secs(60));
        assert_eq!(count, 50 + 50 * 60 - 1);
    }

    #[test]
    fn it_is_known_when_the_next_may_come() {
        let start = Instant::now();
        let rate = Rate::new(2, start);
        assert_eq!(rate.wait_until(start), None);
        rate.take(start);
        rate.take(start);
        assert_eq!(rate.wait_until(start), Some(start + millis(500)));
        assert_eq!(rate.wait_until(start + millis(500)), None);
    }
}
