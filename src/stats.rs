//! Counters. Every loop has a slot of its own in each set and is the only one to write it: no locked instruction, no
//! cache line that two cores want at once. A reader adds the slots up and may be a moment behind.
//!
//! The sets belong to names, not to snapshots: a reload asks for `frontend("main")` again and gets the set that
//! already counts, connections of the old generation included.

pub mod counter;
pub mod labels;
mod slots;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::counter::{Counted, Distribution, TurnScale};
pub use self::slots::{
    BackendSlot, BackendTotals, FrontendSlot, FrontendTotals, LoopSlot, ProcessSlot, ProcessTotals, ServerSlot,
    ServerTotals, ServiceFacts,
};

/// One slot a loop.
#[derive(Debug)]
pub struct PerLoop<Slot> {
    slots: Box<[Slot]>,
}

impl PerLoop<ProcessSlot> {
    /// `tls_active` alone, over all loops.
    pub fn tls_active(&self) -> u64 {
        self.slots.iter().fold(0, |sum: u64, slot| sum.wrapping_add(slot.tls_active.value()))
    }
}

/// Counters of one frontend.
pub type FrontendCounters = PerLoop<FrontendSlot>;
/// Counters of one backend.
pub type BackendCounters = PerLoop<BackendSlot>;
/// Counters of one server.
pub type ServerCounters = PerLoop<ServerSlot>;

impl<Slot: Default> PerLoop<Slot> {
    fn new(loops: usize) -> Self {
        Self { slots: (0..loops).map(|_| Slot::default()).collect() }
    }

    /// The slot that loop `index`, counted from 0, writes.
    ///
    /// # Panics
    /// There is no such loop.
    pub fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }

    /// Every loop's slot, in their order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

/// All counters of a worker, as many slots in each set as it has loops.
#[derive(Debug)]
pub struct Stats {
    epoch: Instant,
    service: ServiceFacts,
    process: PerLoop<ProcessSlot>,
    turns: PerLoop<LoopSlot>,
    frontends: ByName<String, FrontendSlot>,
    backends: ByName<String, BackendSlot>,
    servers: ByName<(String, String), ServerSlot>,
}

impl Stats {
    /// Counters for `loops` event loops. Their number does not change while a worker lives.
    pub fn new(loops: usize) -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            service: ServiceFacts::default(),
            process: PerLoop::new(loops),
            turns: PerLoop::new(loops),
            frontends: ByName::new(loops),
            backends: ByName::new(loops),
            servers: ByName::new(loops),
        })
    }

    /// The process's own.
    pub fn process(&self) -> &PerLoop<ProcessSlot> {
        &self.process
    }

    /// What the loops' turns take.
    pub fn turns(&self) -> &PerLoop<LoopSlot> {
        &self.turns
    }

    /// What the turns of all loops took.
    pub fn turn_times(&self) -> Distribution<TurnScale> {
        let mut total = Distribution::default();
        self.turns.slots().iter().for_each(|slot| slot.time.add_to(&mut total));
        total
    }

    /// The minute of a moment, for [`counter::RecentLongest`].
    pub fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs() / 60
    }

    /// The same, and when the next one begins: whoever asks often need not before.
    pub fn minute_until(&self, now: Instant) -> (u64, Instant) {
        let minute = self.minute(now);
        (minute, self.epoch + Duration::from_secs((minute + 1) * 60))
    }

    /// What the master has told.
    pub fn service(&self) -> &ServiceFacts {
        &self.service
    }

    /// The counters of a frontend, made at first sight. For whoever builds a snapshot: it takes a lock; a loop keeps
    /// the answer in its snapshot.
    pub fn frontend(&self, name: &str) -> Arc<FrontendCounters> {
        self.frontends.set(name.to_owned())
    }

    /// The counters of a backend; see [`Self::frontend`].
    pub fn backend(&self, name: &str) -> Arc<BackendCounters> {
        self.backends.set(name.to_owned())
    }

    /// The counters of a server; see [`Self::frontend`].
    pub fn server(&self, backend: &str, name: &str) -> Arc<ServerCounters> {
        self.servers.set((backend.to_owned(), name.to_owned()))
    }

    /// Every frontend's sum, by name. With the two below: for reports.
    pub fn frontends(&self) -> Vec<(String, FrontendTotals)> {
        self.frontends.read(FrontendCounters::sum)
    }

    /// Every backend's sum, by name.
    pub fn backends(&self) -> Vec<(String, BackendTotals)> {
        self.backends.read(BackendCounters::sum)
    }

    /// Every server's sum, by backend and name.
    pub fn servers(&self) -> Vec<((String, String), ServerTotals)> {
        self.servers.read(ServerCounters::sum)
    }

    /// Forgets the counters of names that no snapshot and no connection holds any more. Called after a reload.
    pub fn forget_unused(&self) {
        self.frontends.forget_unused();
        self.backends.forget_unused();
        self.servers.forget_unused();
    }
}

#[derive(Debug)]
struct ByName<Name, Slot> {
    loops: usize,
    sets: Mutex<BTreeMap<Name, Arc<PerLoop<Slot>>>>,
}

impl<Name: Ord + Clone, Slot: Default> ByName<Name, Slot> {
    fn new(loops: usize) -> Self {
        Self { loops, sets: Mutex::default() }
    }

    fn set(&self, name: Name) -> Arc<PerLoop<Slot>> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.entry(name).or_insert_with(|| Arc::new(PerLoop::new(self.loops))).clone()
    }

    fn read<Totals>(&self, sum: impl Fn(&PerLoop<Slot>) -> Totals) -> Vec<(Name, Totals)> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.iter().map(|(name, set)| (name.clone(), sum(set))).collect()
    }

    fn forget_unused(&self) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.retain(|_, set| Arc::strong_count(set) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_lasts_until_the_next() {
        let stats = Stats::new(1);
        let start = Instant::now();
        for seconds in [0, 59, 60, 61, 3600] {
            let (minute, end) = stats.minute_until(start + Duration::from_secs(seconds));
            assert_eq!(stats.minute(end - Duration::from_nanos(1)), minute, "{seconds}");
            assert_eq!(stats.minute_until(end).0, minute + 1, "{seconds}");
        }
    }

    #[test]
    fn loops_count_apart_and_are_read_together() {
        let stats = Stats::new(3);
        let frontend = stats.frontend("main");
        frontend.slot(0).accepted.add(2);
        frontend.slot(0).active.add(2);
        frontend.slot(2).accepted.add(5);
        frontend.slot(2).active.add(5);
        frontend.slot(2).active.subtract(1);
        assert_eq!(frontend.active(), 6);
        assert_eq!(frontend.sum(), FrontendTotals { active: 6, accepted: 7, ..FrontendTotals::default() });
        assert_eq!(frontend.slot(1).accepted.value(), 0);

        stats.process().slot(1).active.add(1);
        assert_eq!(stats.process().active(), 1);
        assert_eq!(stats.process().sum(), ProcessTotals { active: 1, ..ProcessTotals::default() });
    }

    #[test]
    fn a_name_keeps_its_counters_across_reloads() {
        let stats = Stats::new(1);
        let old = stats.frontend("main");
        old.slot(0).accepted.add(1);
        let new = stats.frontend("main");
        drop(old);
        stats.forget_unused();
        new.slot(0).accepted.add(1);
        assert_eq!(stats.frontends(), [("main".into(), FrontendTotals { accepted: 2, ..FrontendTotals::default() })]);

        drop(new);
        stats.forget_unused();
        assert_eq!(stats.frontends(), []);
        assert_eq!(stats.frontend("main").sum(), FrontendTotals::default());
    }

    #[test]
    fn servers_of_one_name_in_two_backends_are_two() {
        let stats = Stats::new(1);
        let (a, b) = (stats.server("be1", "s"), stats.server("be2", "s"));
        a.slot(0).bytes_to_server.add(1);
        assert_eq!((a.sum().bytes_to_server, b.sum().bytes_to_server), (1, 0));
        let names: Vec<_> = stats.servers().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [("be1".into(), "s".into()), ("be2".into(), "s".into())]);
        stats.backend("be1").slot(0).chosen.add(1);
        assert_eq!(stats.backends()[0].1, BackendTotals { active: 0, chosen: 1 });
    }

    #[test]
    fn no_two_loops_share_a_cache_line() {
        assert_eq!(align_of::<FrontendSlot>(), 128);
        let frontend = FrontendCounters::new(2);
        let distance = std::ptr::from_ref(frontend.slot(1)).addr() - std::ptr::from_ref(frontend.slot(0)).addr();
        assert_eq!(distance % 128, 0);
    }
}
