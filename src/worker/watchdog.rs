//! Ends the process when an event loop makes no progress: the master starts another at once, and a loop that hangs
//! would hold its clients for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::event_loop::Handle;

/// A turn of a loop takes milliseconds; this long is a bug.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the log has to write why.
const LAST_LINE: Duration = Duration::from_millis(200);
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Watches the loops from a thread of its own until the process ends.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(loops: Arc<[Handle]>, ending: Arc<AtomicBool>) -> io::Result<()> {
    let watch = move || {
        let mut progress = Progress::new(loops.len(), Instant::now());
        loop {
            thread::park_timeout(CHECK_EVERY);
            let ticks: Vec<(bool, u64)> = loops.iter().map(Handle::ticks).collect();
            let stuck = progress.find_stuck(&ticks, Instant::now());
            let ended = loops.iter().position(Handle::is_finished).filter(|_| !ending.load(Ordering::SeqCst));
            if let Some(index) = stuck {
                log::error!("event loop {index} made no progress for {} s: aborting", PATIENCE.as_secs());
            } else if let Some(index) = ended {
                log::error!("event loop {index} has ended: aborting");
            } else {
                continue;
            }
            // The log has threads of its own.
            thread::park_timeout(LAST_LINE);
            std::process::abort();
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
}

/// When each loop was last seen to move.
struct Progress {
    last: Vec<(u64, Instant)>,
}

impl Progress {
    fn new(loops: usize, now: Instant) -> Self {
        Self { last: vec![(0, now); loops] }
    }

    /// The first loop that has been busy with one turn for too long. A loop that waits for events is not busy.
    fn find_stuck(&mut self, ticks: &[(bool, u64)], now: Instant) -> Option<usize> {
        let mut stuck = None;
        for (index, (&(busy, turn), last)) in ticks.iter().zip(&mut self.last).enumerate() {
            if !busy || turn != last.0 {
                *last = (turn, now);
            } else if stuck.is_none() && now.duration_since(last.1) >= PATIENCE {
                stuck = Some(index);
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_without_progress_is_stuck_after_five_seconds_and_not_before() {
        let start = Instant::now();
        let mut progress = Progress::new(2, start);
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert_eq!(progress.find_stuck(&[(true, second + 1), (true, 7)], now), None, "second {second}");
        }
        // The second loop was first seen in turn 7 at second 0.
        assert_eq!(progress.find_stuck(&[(true, 9), (true, 7)], start + PATIENCE), Some(1));
        assert_eq!(progress.find_stuck(&[(true, 10), (true, 8)], start + PATIENCE * 2), None);
    }

    #[test]
    fn a_loop_that_waits_for_events_may_wait_for_ever() {
        let start = Instant::now();
        let mut progress = Progress::new(1, start);
        for hour in 1..10 {
            assert_eq!(progress.find_stuck(&[(false, 3)], start + Duration::from_secs(3600 * hour)), None);
        }
        // It has only just become busy with the same turn.
        let now = start + Duration::from_secs(3600 * 9 + 1);
        assert_eq!(progress.find_stuck(&[(true, 3)], now), None);
    }
}
