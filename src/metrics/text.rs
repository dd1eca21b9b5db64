//! Prometheus' text format, version 0.0.4 (prometheus.io, "Exposition formats").

use std::fmt::{self, Display, Write as _};

use super::table::{Kind, Metric};
use crate::stats::counter::{Distribution, Scale};

/// The text as it grows.
#[derive(Default)]
pub(super) struct Text {
    out: String,
}

/// One metric, and its samples.
pub(super) struct Samples<'a> {
    out: &'a mut String,
    metric: &'a Metric,
}

impl Text {
    /// Writes a metric with the samples that `write` gives; nothing if it gives none.
    pub(super) fn metric(&mut self, metric: &Metric, write: impl FnOnce(&mut Samples<'_>)) {
        let before = self.out.len();
        let Metric { name, kind, help, .. } = metric;
        // Writing to a String cannot fail.
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.word());
        let head = self.out.len();
        write(&mut Samples { out: &mut self.out, metric });
        if self.out.len() == head {
            self.out.truncate(before);
        }
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.out
    }
}

impl Samples<'_> {
    /// A number; `labels` are the values of the metric's labels, in their order.
    pub(super) fn number(&mut self, labels: &[&str], value: impl Display) {
        debug_assert_ne!(self.metric.kind, Kind::Histogram, "{}", self.metric.name);
        self.line("", labels, None, value);
    }

    /// A histogram.
    pub(super) fn distribution<S: Scale>(&mut self, labels: &[&str], distribution: &Distribution<S>) {
        debug_assert_eq!(self.metric.kind, Kind::Histogram, "{}", self.metric.name);
        let mut count = 0_u64;
        for (bucket, bound) in distribution.buckets.iter().zip(distribution.bounds()) {
            count = count.wrapping_add(*bucket);
            self.line("_bucket", labels, Some(&seconds(bound).to_string()), count);
        }
        // Not counted twice: loops go on counting meanwhile.
        let count = distribution.count();
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, seconds(distribution.microseconds));
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: impl Display) {
        let names = self.metric.labels;
        debug_assert_eq!(names.len(), labels.len(), "{}", self.metric.name);
        let _ = write!(self.out, "{}{suffix}", self.metric.name);
        let mut separator = '{';
        for (name, value) in names.iter().copied().zip(labels.iter().copied()).chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.out, "{separator}{name}=\"{}\"", Escaped(value));
            separator = ',';
        }
        if separator == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

/// Microseconds in the base unit.
pub(super) fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

/// A label value: backslash, quote and line feed are escaped, everything else stands for itself.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::counter::{ConnectScale, Counted, Histogram};
    use std::time::Duration;

    const PLAIN: Metric = Metric { name: "plain", kind: Kind::Gauge, labels: &[], help: "A number." };
    const LABELLED: Metric =
        Metric { name: "labelled_total", kind: Kind::Counter, labels: &["one", "two"], help: "Two." };
    const TIMES: Metric = Metric { name: "times_seconds", kind: Kind::Histogram, labels: &["one"], help: "Times." };

    #[test]
    fn numbers_with_and_without_labels() {
        let mut text = Text::default();
        text.metric(&PLAIN, |samples| samples.number(&[], 0.5));
        text.metric(&LABELLED, |samples| {
            samples.number(&["a", "b"], 1);
            samples.number(&["a", "c"], u64::MAX);
        });
        assert_eq!(
            text.finish(),
            "# HELP plain A number.\n# TYPE plain gauge\nplain 0.5\n\
             # HELP labelled_total Two.\n# TYPE labelled_total counter\n\
             labelled_total{one=\"a\",two=\"b\"} 1\nlabelled_total{one=\"a\",two=\"c\"} 18446744073709551615\n"
        );
    }

    #[test]
    fn without_samples_there_is_no_metric() {
        let mut text = Text::default();
        text.metric(&LABELLED, |_| {});
        assert_eq!(text.finish(), "");
    }

    #[test]
    fn label_values_are_escaped() {
        let mut text = Text::default();
        text.metric(&LABELLED, |samples| samples.number(&["C:\\x \"y\"\nz", "ü\t"], 1));
        assert!(text.finish().ends_with("labelled_total{one=\"C:\\\\x \\\"y\\\"\\nz\",two=\"ü\t\"} 1\n"));
    }

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::<ConnectScale>::default();
        [50, 200, 300, 9_000_000].into_iter().for_each(|took| histogram.observe(Duration::from_micros(took)));
        let mut distribution = Distribution::default();
        histogram.add_to(&mut distribution);
        let mut text = Text::default();
        text.metric(&TIMES, |samples| samples.distribution(&["x"], &distribution));
        let text = text.finish();
        for line in [
            "times_seconds_bucket{one=\"x\",le=\"0.0001\"} 1",
            "times_seconds_bucket{one=\"x\",le=\"0.00025\"} 2",
            "times_seconds_bucket{one=\"x\",le=\"0.0005\"} 3",
            "times_seconds_bucket{one=\"x\",le=\"5\"} 3",
            "times_seconds_bucket{one=\"x\",le=\"+Inf\"} 4",
            "times_seconds_sum{one=\"x\"} 9.00055",
            "times_seconds_count{one=\"x\"} 4",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
        assert_eq!(text.lines().count(), 2 + 16 + 2);
    }
}
