//! Latencies of one measurement, all of them kept, so that percentiles are exact.

use std::time::Duration;

use crate::wire::Values;

#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// Their number and percentiles (nearest rank) in nanoseconds.
    pub(crate) fn values(mut self) -> Values {
        self.0.sort_unstable();
        let at = |per_mille: usize| self.percentile(per_mille).as_nanos().to_string();
        vec![
            ("count", self.0.len().to_string()),
            ("p50", at(500)),
            ("p99", at(990)),
            ("p999", at(999)),
            ("worst", at(1000)),
        ]
    }

    /// The smallest value that is not exceeded by so many in a thousand; they must be sorted. Zero if there is none at all.
    fn percentile(&self, per_mille: usize) -> Duration {
        let rank = (self.0.len() * per_mille).div_ceil(1000);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut latencies = Latencies::default();
        (1..=1000).rev().for_each(|nanos| latencies.add(Duration::from_nanos(nanos)));
        let text = |value: &str| value.to_owned();
        let expected = [("count", "1000"), ("p50", "500"), ("p99", "990"), ("p999", "999"), ("worst", "1000")];
        assert_eq!(latencies.values(), expected.map(|(key, value)| (key, text(value))));
    }

    #[test]
    fn few_values_have_percentiles_too() {
        let mut latencies = Latencies(vec![Duration::from_nanos(7)]);
        assert_eq!(latencies.percentile(500).as_nanos(), 7);
        assert_eq!(latencies.percentile(999).as_nanos(), 7);
        latencies.add(Duration::from_nanos(9));
        assert_eq!(latencies.percentile(500).as_nanos(), 7);
        assert_eq!(latencies.percentile(990).as_nanos(), 9);
        assert_eq!(Latencies::default().percentile(990), Duration::ZERO);
    }
}
