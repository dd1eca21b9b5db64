//! Tells the master again and again that all event loops make progress, and ends the process when one does not: the master
//! starts another at once, and a loop that hangs would hold its clients for ever.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::event_loop::Handle;
use crate::ipc::Beat;

/// A step of a loop takes milliseconds; this long is a bug.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the log has to write why.
const LAST_LINE: Duration = Duration::from_millis(200);
const CHECK_EVERY: Duration = Duration::from_millis(500);
/// A look that comes so late says that the process or the machine stood still, and not a loop.
const LATE: Duration = Duration::from_secs(2);

/// Who wants to hear that all is well.
pub(super) struct Pulse {
    /// Where to send it, non-blocking.
    pub(super) socket: UnixDatagram,
    /// How often.
    pub(super) every: Duration,
}

/// Watches the loops from a thread of its own until the process ends.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(loops: Arc<[Handle]>, ending: Arc<AtomicBool>, pulse: Option<Pulse>) -> io::Result<()> {
    let watch = move || {
        let pause = pulse.as_ref().map_or(CHECK_EVERY, |pulse| pulse.every.min(CHECK_EVERY));
        let mut progress = Progress::new(loops.len(), Instant::now());
        let mut asked = Asked::default();
        loop {
            let ticks: Vec<(bool, u64)> = loops.iter().map(Handle::ticks).collect();
            let now = Instant::now();
            if let Some(pulse) = pulse.as_ref().filter(|pulse| asked.at.is_none_or(|at| at + pulse.every <= now)) {
                let answered = |index: usize| asked.is_answered(index, ticks[index].1) || loops[index].is_finished();
                if (0..loops.len()).all(answered) {
                    if asked.at.is_some() {
                        let connections = loops.iter().map(|handle| u64::from(handle.connections())).sum();
                        Beat { connections }.send(&pulse.socket);
                    }
                    asked = Asked { at: Some(now), steps: ticks.iter().map(|(_, step)| *step).collect() };
                    loops.iter().for_each(Handle::wake);
                }
            }
            let stuck = progress.find_stuck(&ticks, now);
            let ended = loops.iter().position(Handle::is_finished).filter(|_| !ending.load(Ordering::SeqCst));
            if let Some(index) = stuck {
                log::error!("event loop {index} made no progress for {} s: aborting", PATIENCE.as_secs());
            } else if let Some(index) = ended {
                log::error!("event loop {index} has ended: aborting");
            } else {
                thread::park_timeout(pause);
                continue;
            }
            // The log has threads of its own.
            thread::park_timeout(LAST_LINE);
            std::process::abort();
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
}

/// The last time that every loop was woken, to see whether it moves.
#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    /// The step that each was at.
    steps: Vec<u64>,
}

impl Asked {
    fn is_answered(&self, index: usize, step: u64) -> bool {
        self.steps.get(index) != Some(&step)
    }
}

/// When each loop was last seen to move.
struct Progress {
    last: Vec<(u64, Instant)>,
    looked: Instant,
}

impl Progress {
    fn new(loops: usize, now: Instant) -> Self {
        Self { last: vec![(0, now); loops], looked: now }
    }

    /// The first loop that has been busy with one step for too long. A loop that waits for events is not busy.
    fn find_stuck(&mut self, ticks: &[(bool, u64)], now: Instant) -> Option<usize> {
        let late = now.duration_since(std::mem::replace(&mut self.looked, now)) >= LATE;
        let mut stuck = None;
        for (index, (&(busy, step), last)) in ticks.iter().zip(&mut self.last).enumerate() {
            if !busy || step != last.0 || late {
                *last = (step, now);
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
        // The second loop was first seen in step 7 at second 0.
        assert_eq!(progress.find_stuck(&[(true, 9), (true, 7)], start + PATIENCE), Some(1));
        assert_eq!(progress.find_stuck(&[(true, 10), (true, 8)], start + PATIENCE * 2), None);
    }

    #[test]
    fn a_process_that_was_stopped_has_no_stuck_loop() {
        let start = Instant::now();
        let mut progress = Progress::new(1, start);
        assert_eq!(progress.find_stuck(&[(true, 7)], start), None);
        let thawed = start + Duration::from_secs(600);
        assert_eq!(progress.find_stuck(&[(true, 7)], thawed), None);
        // Still in the same step, now watched all the time.
        for second in 1..5 {
            assert_eq!(progress.find_stuck(&[(true, 7)], thawed + Duration::from_secs(second)), None, "{second}");
        }
        assert_eq!(progress.find_stuck(&[(true, 7)], thawed + PATIENCE), Some(0));
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

    #[test]
    fn a_loop_answers_by_another_step() {
        let asked = Asked { at: Some(Instant::now()), steps: vec![7, 7] };
        assert!(asked.is_answered(0, 8) && !asked.is_answered(1, 7));
        // Nothing was asked yet.
        assert!(Asked::default().is_answered(0, 0));
    }
}
