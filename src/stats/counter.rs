//! What one loop counts with: plain numbers that it alone writes and anyone may read.

use std::array;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::labels::Label;

/// A number that one loop writes and anyone reads. Also a gauge: what a loop adds, the same loop subtracts.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only for the loop that owns the slot: another writer's addition could be lost.
    pub fn add(&self, n: u64) {
        self.set(self.value().wrapping_add(n));
    }

    /// Takes `n` back, for gauges. Only for the loop that owns the slot.
    pub fn subtract(&self, n: u64) {
        self.set(self.value().wrapping_sub(n));
    }

    /// Replaces the number. Only for the owner.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What can be a field of a slot, and what the sum over all slots is.
pub trait Counted: Default {
    /// The sum.
    type Total: Default;

    /// Adds this slot's share.
    fn add_to(&self, total: &mut Self::Total);
}

impl Counted for Counter {
    type Total = u64;

    fn add_to(&self, total: &mut u64) {
        *total = total.wrapping_add(self.value());
    }
}

/// A value for each word of a closed vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByLabel<L, const N: usize, T> {
    values: [T; N],
    label: PhantomData<L>,
}

impl<L, const N: usize, T: Default> Default for ByLabel<L, N, T> {
    fn default() -> Self {
        Self { values: array::from_fn(|_| T::default()), label: PhantomData }
    }
}

impl<L: Label, const N: usize, T> ByLabel<L, N, T> {
    /// The value of one word.
    pub fn of(&self, label: L) -> &T {
        &self.values[label.index()]
    }

    /// Every word and its value.
    pub fn iter(&self) -> impl Iterator<Item = (L, &T)> {
        L::all().zip(&self.values)
    }
}

impl<L, const N: usize> ByLabel<L, N, u64> {
    /// All of them together.
    pub fn total(&self) -> u64 {
        self.values.iter().fold(0, |sum, value| sum.wrapping_add(*value))
    }
}

impl<L, const N: usize> Counted for ByLabel<L, N, Counter> {
    type Total = ByLabel<L, N, u64>;

    fn add_to(&self, total: &mut Self::Total) {
        for (counter, total) in self.values.iter().zip(&mut total.values) {
            counter.add_to(total);
        }
    }
}

/// Bounds of every histogram; one bucket more is for what is above the last.
pub const BOUNDS: usize = 15;

/// What a histogram measures.
pub trait Scale {
    /// Upper bounds of the buckets in microseconds, ascending. A bound belongs to its bucket.
    const MICROSECONDS: [u64; BOUNDS];
}

macro_rules! scales {
    ($($(#[$doc:meta])* $name:ident = $bounds:expr;)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $name;

            impl Scale for $name {
                const MICROSECONDS: [u64; BOUNDS] = $bounds;
            }
        )+
    };
}

const MILLI: u64 = 1000;
const SECOND: u64 = 1000 * MILLI;
const HOUR: u64 = 3600 * SECOND;

scales! {
    /// TLS handshakes: from one on the same machine to one that nearly took `timeout client-hs`.
    HandshakeScale = [
        250, 500, MILLI, 2500, 5 * MILLI, 10 * MILLI, 25 * MILLI, 50 * MILLI, 100 * MILLI, 250 * MILLI, 500 * MILLI,
        SECOND, 2500 * MILLI, 5 * SECOND, 10 * SECOND,
    ];
    /// Lives of connections: from a probe to a week.
    LifetimeScale = [
        10 * MILLI, 50 * MILLI, 100 * MILLI, 500 * MILLI, SECOND, 5 * SECOND, 15 * SECOND, 60 * SECOND, 300 * SECOND,
        900 * SECOND, HOUR, 6 * HOUR, 24 * HOUR, 72 * HOUR, 168 * HOUR,
    ];
    /// Connects to a server: from the same machine to one that was lost and repeated.
    ConnectScale = [
        100, 250, 500, MILLI, 2500, 5 * MILLI, 10 * MILLI, 25 * MILLI, 50 * MILLI, 100 * MILLI, 250 * MILLI,
        500 * MILLI, SECOND, 2500 * MILLI, 5 * SECOND,
    ];
    /// Turns of a loop: whoever becomes ready waits for the end of one.
    TurnScale = [
        10, 25, 50, 100, 250, 500, MILLI, 2500, 5 * MILLI, 10 * MILLI, 25 * MILLI, 50 * MILLI, 100 * MILLI, 250 * MILLI,
        SECOND,
    ];
}

/// How long something took, in buckets.
#[derive(Debug)]
pub struct Histogram<S> {
    buckets: [Counter; BOUNDS + 1],
    microseconds: Counter,
    scale: PhantomData<S>,
}

impl<S> Default for Histogram<S> {
    fn default() -> Self {
        Self { buckets: Default::default(), microseconds: Counter::default(), scale: PhantomData }
    }
}

impl<S: Scale> Histogram<S> {
    /// Counts one. Only for the loop that owns the slot.
    pub fn observe(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = S::MICROSECONDS.partition_point(|bound| *bound < microseconds);
        self.buckets[bucket].add(1);
        self.microseconds.add(microseconds);
    }
}

impl<S: Scale> Counted for Histogram<S> {
    type Total = Distribution<S>;

    fn add_to(&self, total: &mut Distribution<S>) {
        for (bucket, total) in self.buckets.iter().zip(&mut total.buckets) {
            bucket.add_to(total);
        }
        self.microseconds.add_to(&mut total.microseconds);
    }
}

/// The sum of histograms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution<S> {
    /// How many were within each bound and above the one before; the last is for what is above all bounds.
    pub buckets: [u64; BOUNDS + 1],
    /// All durations added up.
    pub microseconds: u64,
    scale: PhantomData<S>,
}

impl<S> Default for Distribution<S> {
    fn default() -> Self {
        Self { buckets: Default::default(), microseconds: 0, scale: PhantomData }
    }
}

impl<S: Scale> Distribution<S> {
    /// Upper bounds of the buckets but the last, in microseconds.
    pub fn bounds(&self) -> [u64; BOUNDS] {
        S::MICROSECONDS
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.wrapping_add(*bucket))
    }
}

/// The longest duration of the last minute or two: a maximum that is forgotten again, whoever reads it and how often.
#[derive(Debug, Default)]
pub struct RecentLongest {
    minute: Counter,
    this_minute: Counter,
    minute_before: Counter,
}

impl RecentLongest {
    /// Notes one in this minute, counted from anywhere. Only for the loop that owns the slot.
    pub fn note(&self, minute: u64, took: Duration) {
        let passed = minute.wrapping_sub(self.minute.value());
        if passed > 0 {
            self.minute_before.set(if passed == 1 { self.this_minute.value() } else { 0 });
            self.this_minute.set(0);
            self.minute.set(minute);
        }
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if microseconds > self.this_minute.value() {
            self.this_minute.set(microseconds);
        }
    }

    /// The longest of this minute and the one before it, in microseconds.
    pub fn microseconds(&self, minute: u64) -> u64 {
        match minute.wrapping_sub(self.minute.value()) {
            0 => self.this_minute.value().max(self.minute_before.value()),
            1 => self.this_minute.value(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::labels::ConnectError;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::<ConnectScale>::default();
        for microseconds in [0, 100, 101, 250, 5_000_000, 5_000_001, u64::MAX / 4] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let mut total = Distribution::default();
        histogram.add_to(&mut total);
        assert_eq!(total.buckets, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(total.count(), 7);
        assert_eq!(total.microseconds, 451 + 10_000_001 + u64::MAX / 4);
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [
            HandshakeScale::MICROSECONDS,
            LifetimeScale::MICROSECONDS,
            ConnectScale::MICROSECONDS,
            TurnScale::MICROSECONDS,
        ] {
            assert!(bounds.is_sorted_by(|one, next| one < next), "{bounds:?}");
        }
    }

    #[test]
    fn words_are_counted_apart() {
        let errors = ByLabel::<ConnectError, { ConnectError::COUNT }, Counter>::default();
        errors.of(ConnectError::Refused).add(2);
        errors.of(ConnectError::Timeout).add(1);
        let mut total = ByLabel::default();
        errors.add_to(&mut total);
        errors.add_to(&mut total);
        assert_eq!((*total.of(ConnectError::Refused), *total.of(ConnectError::Timeout)), (4, 2));
        assert_eq!(total.total(), 6);
        assert_eq!(total.iter().count(), ConnectError::COUNT);
    }

    #[test]
    fn the_longest_is_forgotten_after_the_next_minute() {
        let longest = RecentLongest::default();
        let millis = Duration::from_millis;
        longest.note(7, millis(30));
        longest.note(7, millis(20));
        assert_eq!(longest.microseconds(7), 30_000);
        assert_eq!(longest.microseconds(8), 30_000);
        assert_eq!(longest.microseconds(9), 0);
        longest.note(8, millis(10));
        assert_eq!(longest.microseconds(8), 30_000);
        assert_eq!(longest.microseconds(9), 10_000);
        longest.note(20, millis(1));
        assert_eq!(longest.microseconds(20), 1000);
    }
}
