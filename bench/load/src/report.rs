//! From findings to the one table.

use std::collections::BTreeMap;

use crate::measure::{Finding, Kind};

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    FullHandshake,
    ResumedHandshake,
    ToBackend,
    ToClient,
    IdleTls,
    IdleMtls,
    ReloadLost,
    ReloadStall,
    ReloadMemory,
}

/// What Bowline must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// At most this share of the best peer's value.
    OfBestPeer(f64),
    /// At most this, in the row's unit.
    AtMost(f64),
}

impl Row {
    const ALL: [Self; 9] = [
        Self::FullHandshake,
        Self::ResumedHandshake,
        Self::ToBackend,
        Self::ToClient,
        Self::IdleTls,
        Self::IdleMtls,
        Self::ReloadLost,
        Self::ReloadStall,
        Self::ReloadMemory,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::FullHandshake => "CPU per full mTLS handshake, µs",
            Self::ResumedHandshake => "CPU per resumed mTLS handshake, µs",
            Self::ToBackend => "CPU per GiB to the backend, ms",
            Self::ToClient => "CPU per GiB to the client, ms",
            Self::IdleTls => "memory per idle TLS connection, KiB",
            Self::IdleMtls => "memory per idle mTLS connection, KiB",
            Self::ReloadLost => "reload: connections lost",
            Self::ReloadStall => "reload: worst ping, ms",
            Self::ReloadMemory => "reload: memory afterwards, %",
        }
    }

    pub(crate) fn bar(self) -> Bar {
        match self {
            Self::FullHandshake => Bar::OfBestPeer(0.45),
            Self::ResumedHandshake => Bar::OfBestPeer(0.6),
            Self::ToBackend | Self::ToClient => Bar::OfBestPeer(0.75),
            Self::IdleTls => Bar::AtMost(6.0),
            Self::IdleMtls => Bar::AtMost(7.0),
            Self::ReloadLost => Bar::AtMost(0.0),
            Self::ReloadStall => Bar::AtMost(20.0),
            Self::ReloadMemory => Bar::AtMost(2.0),
        }
    }

    fn of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::FullHandshake => &[Self::FullHandshake],
            Kind::ResumedHandshake => &[Self::ResumedHandshake],
            Kind::ToBackend => &[Self::ToBackend],
            Kind::ToClient => &[Self::ToClient],
            Kind::IdleTls => &[Self::IdleTls],
            Kind::IdleMtls => &[Self::IdleMtls],
            Kind::Reload => &[Self::ReloadLost, Self::ReloadStall, Self::ReloadMemory],
        }
    }
}

/// The values of one product in one row, a round each.
#[derive(Clone, Debug, Default)]
struct Cell {
    values: Vec<f64>,
    /// The first reason for which a round is void; then the whole cell is.
    void: Option<String>,
}

impl Cell {
    fn median(&self) -> Option<f64> {
        if self.void.is_some() { None } else { median(&self.values) }
    }

    fn text(&self) -> String {
        match (&self.void, self.median()) {
            (Some(_), _) => "void".to_owned(),
            (None, None) => "-".to_owned(),
            (None, Some(middle)) if self.values.len() == 1 => number(middle),
            (None, Some(middle)) => {
                let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
                let high = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                format!("{} ({}-{})", number(middle), number(low), number(high))
            }
        }
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Everything that one run found.
pub(crate) struct Report {
    /// Columns: name and version, Bowline first where it is there.
    products: Vec<(String, String)>,
    cells: BTreeMap<(Row, String), Cell>,
    /// CPU of client and backend together, over all products.
    load: BTreeMap<Row, Vec<f64>>,
}

/// How a row ends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    /// A value is void, or Bowline or a peer to compare it with is missing.
    Open(String),
}

impl Report {
    pub(crate) fn new(products: Vec<(String, String)>) -> Self {
        Self { products, cells: BTreeMap::new(), load: BTreeMap::new() }
    }

    /// Adds one round of one product.
    pub(crate) fn add(&mut self, kind: Kind, product: &str, outcome: &Result<Finding, String>) {
        let mut value =
            |row: Row, value: f64| self.cells.entry((row, product.to_owned())).or_default().values.push(value);
        match outcome {
            Ok(Finding::Cpu { product, load, .. }) => {
                let row = Row::of(kind)[0];
                let unit = if matches!(kind, Kind::FullHandshake | Kind::ResumedHandshake) { 1e6 } else { 1e3 };
                value(row, product.as_secs_f64() * unit);
                self.load.entry(row).or_default().push(load.as_secs_f64() * unit);
            }
            Ok(Finding::Memory { bytes }) => value(Row::of(kind)[0], bytes / 1024.0),
            Ok(Finding::Reload { lost, stall, memory_percent, .. }) => {
                value(Row::ReloadLost, *lost as f64);
                value(Row::ReloadStall, stall.as_secs_f64() * 1e3);
                value(Row::ReloadMemory, *memory_percent);
            }
            Err(reason) => {
                for &row in Row::of(kind) {
                    self.cells.entry((row, product.to_owned())).or_default().void.get_or_insert_with(|| reason.clone());
                }
            }
        }
    }

    fn median(&self, row: Row, product: &str) -> Option<f64> {
        self.cells.get(&(row, product.to_owned())).and_then(Cell::median)
    }

    fn best_peer(&self, row: Row) -> Option<(f64, &str)> {
        self.products
            .iter()
            .filter(|(name, _)| name != "bowline")
            .filter_map(|(name, _)| Some((self.median(row, name)?, name.as_str())))
            .min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Bowline against the bar, and what was compared.
    pub(crate) fn verdict(&self, row: Row) -> (Verdict, String) {
        let judged = |value: f64, bar: f64| {
            if value <= bar { Verdict::Pass } else { Verdict::Fail }
        };
        if self.cells.iter().any(|((seen, _), cell)| *seen == row && cell.void.is_some()) {
            return (Verdict::Open("void".to_owned()), String::new());
        }
        let own = self.median(row, "bowline");
        let best = self.best_peer(row);
        let ratio = own.zip(best).map(|(own, (peer, name))| (own / peer, format!("{:.2} of {name}", own / peer)));
        match (row.bar(), own, ratio) {
            (_, None, _) => (Verdict::Open("bowline not measured".to_owned()), String::new()),
            (Bar::AtMost(bar), Some(value), ratio) => {
                (judged(value, bar), ratio.map_or(String::new(), |(_, text)| text))
            }
            (Bar::OfBestPeer(bar), Some(_), Some((ratio, text))) => (judged(ratio, bar), text),
            (Bar::OfBestPeer(_), Some(_), None) => (Verdict::Open("no peer measured".to_owned()), String::new()),
        }
    }

    /// Whether nothing is void and every row that Bowline was measured in has passed.
    pub(crate) fn passed(&self) -> bool {
        let sound = self.cells.values().all(|cell| cell.void.is_none());
        let measured = |row: Row| self.cells.contains_key(&(row, "bowline".to_owned()));
        sound && Row::ALL.into_iter().filter(|&row| measured(row)).all(|row| self.verdict(row).0 == Verdict::Pass)
    }

    /// The table, then the reasons of void cells.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![vec!["median (lowest-highest)".to_owned()]];
        lines[0].extend(self.products.iter().map(|(name, version)| format!("{name} {version}")));
        lines[0].extend(["bowline : best peer", "bar", "", "load CPU"].map(str::to_owned));
        for row in Row::ALL.into_iter().filter(|row| self.cells.keys().any(|(seen, _)| seen == row)) {
            let mut line = vec![row.title().to_owned()];
            for (name, _) in &self.products {
                line.push(self.cells.get(&(row, name.clone())).map_or("-".to_owned(), Cell::text));
            }
            let (verdict, compared) = self.verdict(row);
            line.push(compared);
            line.push(match row.bar() {
                Bar::OfBestPeer(share) => format!("<= {share:.2} of it"),
                Bar::AtMost(limit) => format!("<= {}", number(limit)),
            });
            line.push(match verdict {
                Verdict::Pass => "pass".to_owned(),
                Verdict::Fail => "FAIL".to_owned(),
                Verdict::Open(reason) => reason,
            });
            line.push(self.load.get(&row).and_then(|values| median(values)).map_or(String::new(), number));
            lines.push(line);
        }
        let mut text = align(&lines);
        for ((row, product), cell) in &self.cells {
            if let Some(reason) = &cell.void {
                text.push_str(&format!("void: {product}, {}: {reason}\n", row.title()));
            }
        }
        text
    }
}

/// Columns of equal width; the first to the left, the others too, so that medians stand below each other.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cpu(micros: u64) -> Result<Finding, String> {
        let product = Duration::from_micros(micros);
        Ok(Finding::Cpu { product, load: product, busy: [1.0, 1.0], remark: String::new() })
    }

    fn report(bowline: &[u64], hitch: &[u64], haproxy: &[u64]) -> Report {
        let names = ["bowline", "hitch", "haproxy"];
        let mut report = Report::new(names.map(|name| (name.to_owned(), "1".to_owned())).to_vec());
        for (name, values) in names.into_iter().zip([bowline, hitch, haproxy]) {
            values.iter().for_each(|&value| report.add(Kind::FullHandshake, name, &cpu(value)));
        }
        report
    }

    #[test]
    fn the_bar_is_a_share_of_the_better_peer() {
        assert_eq!(
            report(&[45], &[100], &[120]).verdict(Row::FullHandshake),
            (Verdict::Pass, "0.45 of hitch".to_owned())
        );
        assert_eq!(
            report(&[46], &[120], &[100]).verdict(Row::FullHandshake),
            (Verdict::Fail, "0.46 of haproxy".to_owned())
        );
    }

    #[test]
    fn one_outlier_does_not_move_the_median() {
        let report = report(&[40, 400, 41], &[100, 100, 10], &[120, 120, 120]);
        assert_eq!(report.verdict(Row::FullHandshake).0, Verdict::Pass);
        assert!(report.text().contains("41.0 (40.0-400)"), "{}", report.text());
    }

    #[test]
    fn one_void_round_of_any_product_voids_the_row() {
        for product in ["bowline", "hitch"] {
            let mut report = report(&[40, 40], &[100, 100], &[120, 120]);
            assert!(report.passed());
            report.add(Kind::FullHandshake, product, &Err("3 errors".to_owned()));
            assert_eq!(report.verdict(Row::FullHandshake).0, Verdict::Open("void".to_owned()));
            assert!(!report.passed());
            let reason = format!("void: {product}, CPU per full mTLS handshake, µs: 3 errors");
            assert!(report.text().contains(&reason), "{}", report.text());
        }
    }

    #[test]
    fn without_peers_a_ratio_stays_open_and_a_limit_is_judged() {
        let mut report = report(&[50], &[], &[]);
        assert_eq!(report.verdict(Row::FullHandshake).0, Verdict::Open("no peer measured".to_owned()));
        report.add(Kind::IdleTls, "bowline", &Ok(Finding::Memory { bytes: 6.0 * 1024.0 }));
        assert_eq!(report.verdict(Row::IdleTls).0, Verdict::Pass);
        report.add(Kind::IdleMtls, "bowline", &Ok(Finding::Memory { bytes: 7.1 * 1024.0 }));
        assert_eq!(report.verdict(Row::IdleMtls).0, Verdict::Fail);
    }

    #[test]
    fn a_reload_has_three_bars() {
        let mut report = Report::new(vec![("bowline".to_owned(), "1".to_owned())]);
        let milli = Duration::from_millis;
        let finding = Finding::Reload {
            lost: 1,
            stall: milli(21),
            quiet: milli(1),
            adopted_after: milli(9),
            memory_percent: -3.0,
        };
        report.add(Kind::Reload, "bowline", &Ok(finding));
        assert_eq!(report.verdict(Row::ReloadLost).0, Verdict::Fail);
        assert_eq!(report.verdict(Row::ReloadStall).0, Verdict::Fail);
        assert_eq!(report.verdict(Row::ReloadMemory).0, Verdict::Pass);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
