//! From findings to the one table, and to what it says of Bowline's bars.

use std::collections::BTreeMap;

use crate::measure::{Effort, Finding};
use crate::workload::{Metric, Row, Workload};

/// The product that bars are for.
pub(crate) const OWN: &str = "bowline";

/// The relay without TLS: the floor under all of them.
pub(crate) const FLOOR: &str = "floor";

/// The relay that also seals what it passes on: the floor under those that encrypt.
pub(crate) const FLOOR_AEAD: &str = "floor-aead";

/// Products that are no peers.
pub(crate) const FLOORS: [&str; 2] = [FLOOR, FLOOR_AEAD];

/// What Bowline must reach in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// At most this share of the best peer's value.
    OfBestPeer(f64),
    /// At most this share of the value of the product of this name.
    Of(&'static str, f64),
    /// At most this share of Bowline's own value in the workload of this name.
    OfWorkload(&'static str, f64),
    /// At most this, in the row's unit.
    AtMost(f64),
}

/// The values of one product in one row, a round each, in the row's unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    values: Vec<f64>,
    /// The product cannot do it.
    unable: bool,
    /// The first reason for which a round is void; then the whole cell is.
    void: Option<String>,
}

impl Cell {
    /// Median, lowest and highest, if there are sound values.
    pub(crate) fn spread(&self) -> Option<[f64; 3]> {
        if self.void.is_some() {
            return None;
        }
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        median(&self.values).map(|middle| [middle, low, high])
    }

    /// Whether the product cannot do it.
    pub(crate) fn is_unable(&self) -> bool {
        self.unable
    }

    /// Why it is void, if it is.
    pub(crate) fn void(&self) -> Option<&str> {
        self.void.as_deref()
    }

    fn text(&self) -> String {
        match (&self.void, self.spread()) {
            (Some(_), _) => "void".to_owned(),
            (None, None) if self.unable => "cannot".to_owned(),
            (None, None) => "-".to_owned(),
            (None, Some([middle, ..])) if self.values.len() == 1 => number(middle),
            (None, Some([middle, low, high])) => format!("{} ({}-{})", number(middle), number(low), number(high)),
        }
    }
}

pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Three digits or so.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// How a bar ends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    /// Why it could not be judged: a value is void, or what it compares was not measured.
    Open(String),
}

/// One bar with what became of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    /// What Bowline's value is compared with, and the bar.
    pub(crate) text: String,
    /// The highest value that meets the bar, in the row's unit.
    pub(crate) limit: Option<f64>,
    pub(crate) verdict: Verdict,
}

/// A row in which at least one product was measured.
pub(crate) struct Line<'a> {
    pub(crate) group: &'static str,
    pub(crate) title: String,
    /// Of each product, in the order of the columns.
    pub(crate) cells: Vec<&'a Cell>,
    /// The best peer's median and name.
    pub(crate) best: Option<(f64, &'a str)>,
    pub(crate) judgements: Vec<Judgement>,
    /// CPU of client and backend for the same unit, the median over all products, in the row's unit.
    pub(crate) load: Option<f64>,
    /// The largest share of the time that client and backend were busy beside any of the products.
    pub(crate) busy: Option<f64>,
}

/// Everything that one run found.
pub(crate) struct Report<'a> {
    workloads: &'a [Workload],
    /// Name and version, Bowline first where it is there.
    products: Vec<(String, String)>,
    /// By the place of the workload, of its row, and of the product.
    cells: BTreeMap<(usize, usize, usize), Cell>,
    /// By the place of the workload.
    efforts: BTreeMap<usize, Vec<Effort>>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(workloads: &'a [Workload], products: Vec<(String, String)>) -> Self {
        Self { workloads, products, cells: BTreeMap::new(), efforts: BTreeMap::new() }
    }

    /// Adds one round of the product at this place.
    pub(crate) fn add(&mut self, workload: usize, product: usize, outcome: &Result<Option<Finding>, String>) {
        if let Ok(Some(Finding { effort: Some(effort), .. })) = outcome {
            self.efforts.entry(workload).or_default().push(*effort);
        }
        for (index, row) in self.workloads[workload].rows.iter().enumerate() {
            let cell = self.cells.entry((workload, index, product)).or_default();
            match outcome {
                Ok(Some(finding)) => {
                    let value = finding.values.iter().find(|(metric, _)| *metric == row.metric);
                    cell.values.extend(value.map(|(_, value)| value * row.unit.factor));
                }
                Ok(None) => cell.unable = true,
                Err(reason) => _ = cell.void.get_or_insert_with(|| reason.clone()),
            }
        }
    }

    /// The rows, in the order of the workloads.
    pub(crate) fn lines(&self) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        for (index, workload) in self.workloads.iter().enumerate() {
            for (place, row) in workload.rows.iter().enumerate() {
                let cells: Vec<_> = (0..self.products.len()).map(|product| self.cell(index, place, product)).collect();
                if cells.iter().all(Option::is_none) {
                    continue;
                }
                let efforts = self.efforts.get(&index).map_or(&[][..], Vec::as_slice);
                let loads: Vec<f64> = efforts.iter().map(|effort| effort.load * row.unit.factor).collect();
                lines.push(Line {
                    group: workload.group,
                    title: row.title(),
                    cells: cells.into_iter().map(|cell| cell.unwrap_or(&EMPTY)).collect(),
                    best: self.best_peer(index, place),
                    judgements: self.judgements(index, place),
                    load: median(&loads).filter(|_| row.metric == Metric::Cpu),
                    busy: efforts.iter().map(|effort| effort.load_busy).reduce(f64::max),
                });
            }
        }
        lines
    }

    fn cell(&self, workload: usize, row: usize, product: usize) -> Option<&Cell> {
        self.cells.get(&(workload, row, product))
    }

    fn median(&self, workload: usize, row: usize, product: &str) -> Option<f64> {
        let product = self.products.iter().position(|(name, _)| name == product)?;
        self.cell(workload, row, product)?.spread().map(|[middle, ..]| middle)
    }

    fn best_peer(&self, workload: usize, row: usize) -> Option<(f64, &str)> {
        self.products
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|&name| name != OWN && !FLOORS.contains(&name))
            .filter_map(|name| Some((self.median(workload, row, name)?, name)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Bowline's own value in a row of the same metric of the workload of this name.
    fn own_elsewhere(&self, name: &str, metric: Metric) -> Option<f64> {
        let workload = self.workloads.iter().position(|workload| workload.name == name)?;
        let row = self.workloads[workload].rows.iter().position(|row| row.metric == metric)?;
        self.median(workload, row, OWN)
    }

    fn judgements(&self, workload: usize, place: usize) -> Vec<Judgement> {
        let row: &Row = &self.workloads[workload].rows[place];
        let void = (0..self.products.len())
            .any(|product| self.cell(workload, place, product).is_some_and(|cell| cell.void.is_some()));
        let own = self.median(workload, place, OWN);
        let judge = |&bar: &Bar| {
            // What the value is a share of, what that is called, and the share.
            let (whole, name, share) = match bar {
                Bar::OfBestPeer(share) => match self.best_peer(workload, place) {
                    Some((value, name)) => (Some(value), format!("{name}, the best peer"), share),
                    None => (None, "the best peer".to_owned(), share),
                },
                Bar::Of(name, share) => (self.median(workload, place, name), name.to_owned(), share),
                Bar::OfWorkload(name, share) => (self.own_elsewhere(name, row.metric), name.to_owned(), share),
                Bar::AtMost(limit) => (Some(1.0), String::new(), limit),
            };
            let limit = whole.map(|whole| whole * share);
            let verdict = match (own, limit) {
                _ if void => Verdict::Open("the row is void".to_owned()),
                (None, _) => Verdict::Open(format!("{OWN} was not measured")),
                (_, None) => Verdict::Open(format!("{name} was not measured")),
                (Some(own), Some(limit)) if own <= limit => Verdict::Pass,
                _ => Verdict::Fail,
            };
            let text = match (bar, own.zip(whole)) {
                (Bar::AtMost(limit), Some((own, _))) => format!("{}, bar {}", number(own), number(limit)),
                (Bar::AtMost(limit), None) => format!("bar {}", number(limit)),
                (_, Some((own, whole))) => format!("{:.2} of {name}, bar {share:.2}", own / whole),
                (_, None) => format!("bar {share:.2} of {name}"),
            };
            Judgement { text, limit, verdict }
        };
        row.bars.iter().map(judge).collect()
    }

    /// Whether nothing is void and every bar of every row that Bowline was measured in is met.
    pub(crate) fn passed(&self) -> bool {
        let own = self.products.iter().position(|(name, _)| name == OWN);
        let sound = self.cells.values().all(|cell| cell.void.is_none());
        let met = |line: &Line<'_>| line.judgements.iter().all(|judgement| judgement.verdict == Verdict::Pass);
        let measured = |line: &Line<'_>| own.is_some_and(|own| line.cells[own].spread().is_some());
        sound && self.lines().iter().filter(|line| measured(line)).all(met)
    }

    /// The table, the bars, and the reasons of void cells.
    pub(crate) fn text(&self) -> String {
        let lines = self.lines();
        let mut table = vec![vec!["median (lowest-highest)".to_owned()]];
        table[0].extend(self.products.iter().map(|(name, version)| format!("{name} {version}")));
        table[0].extend(["bowline : best peer", "load CPU", "load busy"].map(str::to_owned));
        let mut bars = Vec::new();
        let mut group = "";
        let mut voids = String::new();
        for line in &lines {
            if line.group != group {
                group = line.group;
                table.push(vec![format!("[{group}]")]);
            }
            let mut cells = vec![line.title.clone()];
            cells.extend(line.cells.iter().map(|cell| cell.text()));
            let own = self.products.iter().position(|(name, _)| name == OWN);
            let own = own.and_then(|own| line.cells[own].spread());
            // What costs less than the clock can tell is no measure for anything.
            let best = line.best.filter(|&(best, _)| best > 0.0);
            cells.push(
                own.zip(best).map_or(String::new(), |([own, ..], (best, name))| format!("{:.2} of {name}", own / best)),
            );
            cells.push(line.load.map_or(String::new(), number));
            cells.push(line.busy.map_or(String::new(), |busy| format!("{:.0} %", busy * 100.0)));
            table.push(cells);
            for Judgement { text, verdict, .. } in &line.judgements {
                let verdict = match verdict {
                    Verdict::Pass => "pass".to_owned(),
                    Verdict::Fail => "FAIL".to_owned(),
                    Verdict::Open(reason) => format!("open: {reason}"),
                };
                bars.push(vec![line.title.clone(), text.clone(), verdict]);
            }
            for (cell, (name, _)) in line.cells.iter().zip(&self.products) {
                if let Some(reason) = cell.void() {
                    voids.push_str(&format!("void: {name}, {}: {reason}\n", line.title));
                }
            }
        }
        let mut text = align(&table);
        if !bars.is_empty() {
            bars.insert(0, ["bars", "bowline", ""].map(str::to_owned).to_vec());
            text.push('\n');
            text.push_str(&align(&bars));
        }
        if !voids.is_empty() {
            text.push('\n');
            text.push_str(&voids);
        }
        text
    }
}

/// Of a product that was not measured in a row.
static EMPTY: Cell = Cell { values: Vec::new(), unable: false, void: None };

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
mod tests;
