//! The kinds of load: each is a loop that says what the connections do next.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::engine::{Engine, Tally, Target};
use super::job::Job;
use super::latency::Latencies;
use super::number;
use crate::wire::Values;

/// Handshakes at a time while connections are opened to be kept.
const OPENING: usize = 16;

/// One request for a transfer, in bytes. A measurement ends with the request that is under way when its time is over.
const TRANSFER: u64 = 16 * 1024 * 1024;

/// How long a load goes on. What is under way then is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Time(Instant),
    /// Until a line comes on standard input.
    Line,
}

impl Until {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "line" => Ok(Self::Line),
            _ => Ok(Self::Time(Instant::now() + Duration::from_millis(number(text)?))),
        }
    }
}

pub(crate) struct Load {
    engine: Engine,
}

impl Load {
    pub(crate) fn new(target: Target) -> Result<Self, String> {
        Ok(Self { engine: Engine::new(target)? })
    }

    pub(crate) fn tally(&self) -> Tally {
        self.engine.tally()
    }

    /// The errors since they were last taken.
    pub(crate) fn take_errors(&mut self) -> Vec<String> {
        self.engine.take_errors()
    }

    /// Opens connections and keeps them.
    pub(crate) fn open(&mut self, count: usize, proved: bool) -> Result<Values, String> {
        let engine = &mut self.engine;
        let first = engine.slots();
        engine.grow(first + count)?;
        let mut left = first..first + count;
        left.by_ref().take(OPENING).for_each(|slot| engine.start(slot, Job::Open));
        while engine.active() > 0 {
            for ended in engine.turn()? {
                if ended.succeeded && ended.job == Job::Open && proved {
                    engine.start(ended.slot, Job::Echo(1));
                } else if let (false, Some(slot)) = (engine.gives_up(), left.next()) {
                    engine.start(slot, Job::Open);
                }
            }
        }
        Ok(Values::new())
    }

    /// Connections that are opened, used once and closed, `at_a_time` of them. The latency is that from connect(2) to the echo.
    pub(crate) fn handshakes(&mut self, until: Until, at_a_time: usize) -> Result<Values, String> {
        let mut latencies = Latencies::default();
        let mut opened = vec![Instant::now(); at_a_time];
        self.engine.grow(at_a_time)?;
        self.begin(until)?;
        for (slot, opened) in opened.iter_mut().enumerate() {
            *opened = Instant::now();
            self.engine.start(slot, Job::Open);
        }
        while self.engine.active() > 0 {
            for ended in self.engine.turn()? {
                let next = match ended.job {
                    Job::Open if ended.succeeded => Some(Job::Echo(1)),
                    Job::Echo(_) if ended.succeeded => {
                        latencies.add(opened[ended.slot].elapsed());
                        Some(Job::Close)
                    }
                    _ => self.goes_on(until).then_some(Job::Open),
                };
                if next == Some(Job::Open) {
                    opened[ended.slot] = Instant::now();
                }
                if let Some(job) = next {
                    self.engine.start(ended.slot, job);
                }
            }
        }
        self.finish(until)?;
        Ok(latencies.values())
    }

    /// Echoes of `length` bytes, `at_a_time` of them, as fast as they come back; all connections take their turns.
    pub(crate) fn echo(&mut self, until: Until, length: u64, at_a_time: usize) -> Result<Values, String> {
        let mut latencies = Latencies::default();
        let mut idle = VecDeque::from(self.connected());
        self.begin(until)?;
        for _ in 0..at_a_time.min(idle.len()) {
            idle.pop_front().into_iter().for_each(|slot| self.engine.start(slot, Job::Echo(length)));
        }
        while self.engine.active() > 0 {
            for ended in self.engine.turn()? {
                if ended.succeeded {
                    latencies.add(ended.took);
                    idle.push_back(ended.slot);
                }
                if self.goes_on(until) {
                    idle.pop_front().into_iter().for_each(|slot| self.engine.start(slot, Job::Echo(length)));
                }
            }
        }
        self.finish(until)?;
        Ok(latencies.values())
    }

    /// Echoes on a timetable: one on each connection every `interval` microseconds, evenly spread. One that cannot start in time, because the
    /// last is not back, starts as soon as it is, and its latency counts from when it was due: a stall is seen by all that it delays.
    pub(crate) fn pace(&mut self, until: Until, length: u64, interval: u64) -> Result<Values, String> {
        let mut latencies = Latencies::default();
        let connections = self.connected();
        let count = u32::try_from(connections.len()).ok().filter(|&count| count > 0).ok_or("no connection is open")?;
        let step = Duration::from_micros(interval) / count;
        let mut late: Vec<VecDeque<Instant>> = vec![VecDeque::new(); self.engine.slots()];
        let mut busy = vec![false; self.engine.slots()];
        let mut turns = connections.iter().copied().cycle();
        self.begin(until)?;
        self.engine.tick(step)?;
        let mut due = Instant::now();
        let mut ticking = true;
        while ticking || self.engine.active() > 0 {
            for ended in self.engine.turn()? {
                busy[ended.slot] = false;
                if ended.succeeded {
                    latencies.add(ended.took);
                    if let Some(due) = late[ended.slot].pop_front() {
                        busy[ended.slot] = true;
                        self.engine.start_due(ended.slot, Job::Echo(length), due);
                    }
                }
            }
            if ticking && !self.goes_on(until) {
                ticking = false;
                self.engine.tick(Duration::ZERO)?;
            }
            let now = Instant::now();
            while ticking && due <= now {
                if let Some(slot) = turns.next() {
                    if busy[slot] {
                        late[slot].push_back(due);
                    } else {
                        busy[slot] = true;
                        self.engine.start_due(slot, Job::Echo(length), due);
                    }
                }
                due += step;
            }
        }
        self.finish(until)?;
        Ok(latencies.values())
    }

    /// Bytes in one direction on all connections.
    pub(crate) fn transfer(&mut self, until: Until, up: bool) -> Result<Values, String> {
        let job = if up { Job::Upload(TRANSFER) } else { Job::Download(TRANSFER) };
        let mut bytes = 0;
        self.begin(until)?;
        for slot in self.connected() {
            self.engine.start(slot, job);
        }
        while self.engine.active() > 0 {
            for ended in self.engine.turn()? {
                if ended.succeeded {
                    bytes += TRANSFER;
                    if self.goes_on(until) {
                        self.engine.start(ended.slot, job);
                    }
                }
            }
        }
        self.finish(until)?;
        Ok(vec![("bytes", bytes.to_string())])
    }

    /// Tells a certificate apart by the end of its signature, see [`leaf_name`].
    pub(crate) fn probe(&mut self) -> Result<Values, String> {
        let mut leaf = String::new();
        let slots = self.engine.slots();
        let slot = (0..slots).rev().find(|&slot| self.engine.connection(slot).is_none()).unwrap_or(slots);
        self.engine.grow(slot + 1)?;
        self.engine.start(slot, Job::Open);
        while self.engine.active() > 0 {
            for ended in self.engine.turn()? {
                if let (Job::Open, Some(connection)) = (ended.job, self.engine.connection(slot)) {
                    leaf = connection.server_certificate().map_or(String::new(), |leaf| leaf_name(&leaf));
                    self.engine.start(slot, Job::Close);
                }
            }
        }
        Ok(vec![("leaf", leaf)])
    }

    /// One echo on every connection. A dead one is a finding here; only why it is dead goes elsewhere.
    pub(crate) fn check(&mut self) -> Result<Values, String> {
        let mut alive = 0;
        for slot in self.connected() {
            self.engine.start(slot, Job::Echo(1));
        }
        while self.engine.active() > 0 {
            alive += self.engine.turn()?.iter().filter(|ended| ended.succeeded).count();
        }
        if let Some(first) = self.engine.take_errors().first() {
            eprintln!("{first}");
        }
        Ok(vec![("alive", alive.to_string())])
    }

    fn connected(&self) -> Vec<usize> {
        (0..self.engine.slots()).filter(|&slot| self.engine.connection(slot).is_some()).collect()
    }

    fn begin(&mut self, until: Until) -> Result<(), String> {
        if until == Until::Line { self.engine.listen(true) } else { Ok(()) }
    }

    fn goes_on(&self, until: Until) -> bool {
        let over = match until {
            Until::Time(end) => Instant::now() >= end,
            Until::Line => self.engine.line(),
        };
        !over && !self.engine.gives_up()
    }

    fn finish(&mut self, until: Until) -> Result<(), String> {
        if until == Until::Line { self.engine.listen(false) } else { Ok(()) }
    }
}

/// A name for a certificate that fits on a line: the end of its signature, as hex digits.
pub(crate) fn leaf_name(der: &[u8]) -> String {
    der.iter().rev().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_names_differ_by_the_end() {
        assert_eq!(leaf_name(&[1, 2, 0xab]), "ab0201");
        assert_ne!(leaf_name(&[0; 40]), leaf_name(&[&[0; 39][..], &[1]].concat()));
    }

    #[test]
    fn times() {
        assert_eq!(Until::parse("line"), Ok(Until::Line));
        assert!(
            matches!(Until::parse("100"), Ok(Until::Time(end)) if end <= Instant::now() + Duration::from_millis(100))
        );
        assert!(Until::parse("soon").is_err());
    }
}
