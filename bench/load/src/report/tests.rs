use super::*;
use crate::workload::{Scale, all};

/// A report of some workloads and products; values are added by names.
struct Bench<'a> {
    report: Report<'a>,
    workloads: &'a [Workload],
}

impl<'a> Bench<'a> {
    fn new(workloads: &'a [Workload], products: &[&str]) -> Self {
        let products = products.iter().map(|&name| (name.to_owned(), "1".to_owned())).collect();
        Self { report: Report::new(workloads, products), workloads }
    }

    fn outcome(&mut self, workload: &str, product: &str, outcome: &Result<Option<Finding>, String>) {
        let workload = self.workloads.iter().position(|one| one.name == workload).unwrap();
        let product = self.report.products.iter().position(|(name, _)| name == product).unwrap();
        self.report.add(workload, product, outcome);
    }

    fn values(&mut self, workload: &str, product: &str, values: &[(Metric, f64)]) {
        self.outcome(workload, product, &Ok(Some(Finding { values: values.to_vec(), ..Finding::default() })));
    }

    fn cpu(&mut self, workload: &str, product: &str, microseconds: f64) {
        self.values(workload, product, &[(Metric::Cpu, microseconds / 1e6)]);
    }

    /// The verdicts of the row with this title.
    fn verdicts(&self, title: &str) -> Vec<Verdict> {
        let lines = self.report.lines();
        let line = lines.iter().find(|line| line.title == title).unwrap();
        line.judgements.iter().map(|judgement| judgement.verdict.clone()).collect()
    }

    fn says(&self, text: &str) -> bool {
        self.report.text().contains(text)
    }
}

fn open(name: &str) -> Verdict {
    Verdict::Open(format!("{name} was not measured"))
}

const FULL_MTLS: &str = "CPU per full mTLS handshake, µs";
const FULL_RSA: &str = "CPU per full TLS handshake, RSA, µs";

#[test]
fn named_peers_have_bars_of_their_own() {
    let workloads = all(&Scale::FULL);
    let names = ["bowline", "envoy", "haproxy", "hitch", "nginx"];
    let mut bench = Bench::new(&workloads, &names);
    // 0.648 of envoy, 0.35 of haproxy, 0.347 of hitch, 0.354 of nginx.
    for (name, value) in names.into_iter().zip([35.0, 54.0, 100.0, 101.0, 99.0]) {
        bench.cpu("full-mtls", name, value);
    }
    // In the order of the bars: envoy, hitch, haproxy, nginx.
    assert_eq!(bench.verdicts(FULL_MTLS), [Verdict::Pass, Verdict::Pass, Verdict::Pass, Verdict::Fail]);
    assert!(bench.says("0.35 of nginx, bar 0.35") && !bench.report.passed());
}

#[test]
fn the_best_peer_is_the_one_with_the_least() {
    let workloads = all(&Scale::FULL);
    let mut bench = Bench::new(&workloads, &["bowline", "hitch", "haproxy"]);
    for (name, value) in [("bowline", 80.0), ("hitch", 100.0), ("haproxy", 101.0)] {
        bench.cpu("full-rsa", name, value);
    }
    assert_eq!(bench.verdicts(FULL_RSA), [Verdict::Pass]);
    assert!(bench.says("0.80 of hitch, the best peer, bar 0.80") && bench.report.passed());
    bench.cpu("full-rsa", "hitch", 90.0);
    assert_eq!(bench.verdicts(FULL_RSA), [Verdict::Fail]);
    assert!(!bench.report.passed());
}

#[test]
fn what_was_not_measured_leaves_a_bar_open() {
    let workloads = all(&Scale::FULL);
    let mut bench = Bench::new(&workloads, &["bowline", "haproxy"]);
    bench.cpu("full-mtls", "haproxy", 100.0);
    assert!(bench.verdicts(FULL_MTLS).iter().all(|verdict| *verdict == open("bowline")));
    assert!(bench.report.passed(), "a run without bowline has nothing to judge");
    bench.cpu("full-mtls", "bowline", 10.0);
    assert_eq!(bench.verdicts(FULL_MTLS), [open("envoy"), open("hitch"), Verdict::Pass, open("nginx")]);
    assert!(!bench.report.passed());
}

#[test]
fn one_void_round_of_any_product_voids_the_row() {
    let workloads = all(&Scale::FULL);
    for product in ["bowline", "haproxy"] {
        let mut bench = Bench::new(&workloads, &["bowline", "haproxy"]);
        bench.cpu("full-rsa", "bowline", 10.0);
        bench.cpu("full-rsa", "haproxy", 100.0);
        assert!(bench.report.passed());
        bench.outcome("full-rsa", product, &Err("3 errors".to_owned()));
        assert_eq!(bench.verdicts(FULL_RSA), [Verdict::Open("the row is void".to_owned())]);
        assert!(bench.says(&format!("void: {product}, {FULL_RSA}: 3 errors")) && !bench.report.passed());
    }
}

#[test]
fn who_cannot_is_no_peer_and_not_void() {
    let workloads = all(&Scale::FULL);
    let mut bench = Bench::new(&workloads, &["bowline", "haproxy", "hitch"]);
    bench.cpu("full-rsa", "bowline", 10.0);
    bench.cpu("full-rsa", "haproxy", 100.0);
    bench.outcome("full-rsa", "hitch", &Ok(None));
    assert!(bench.says("cannot") && bench.report.passed());
}

#[test]
fn bulk_is_compared_with_the_floor_that_encrypts_and_no_floor_is_a_peer() {
    let workloads = all(&Scale::FULL);
    let mut bench = Bench::new(&workloads, &["bowline", "haproxy", "floor", "floor-aead"]);
    for (name, value) in [("bowline", 336_000.0), ("haproxy", 400_000.0), ("floor", 200_000.0)] {
        bench.cpu("to-client-aes128-8", name, value);
    }
    let title = "CPU per GiB to the client, AES-128-GCM, 8 connections, ms";
    assert_eq!(bench.verdicts(title), [Verdict::Pass, open("floor-aead")]);
    bench.cpu("to-client-aes128-8", "floor-aead", 310_000.0);
    assert_eq!(bench.verdicts(title), [Verdict::Pass, Verdict::Pass]);
    assert!(bench.says("0.84 of haproxy, the best peer, bar 1.00") && bench.says("1.08 of floor-aead, bar 1.12"));
    bench.cpu("to-client-aes128-8", "floor-aead", 280_000.0);
    assert_eq!(bench.verdicts(title), [Verdict::Pass, Verdict::Fail]);
}

#[test]
fn growth_is_compared_with_bowline_itself() {
    let workloads = all(&Scale::FULL);
    let mut bench = Bench::new(&workloads, &["bowline"]);
    let title = "CPU per full mTLS handshake, 4 loops on 2 CPUs, µs";
    bench.cpu("growth-full-4", "bowline", 105.0);
    assert_eq!(bench.verdicts(title), [open("growth-full-1")]);
    bench.cpu("growth-full-1", "bowline", 100.0);
    assert_eq!(bench.verdicts(title), [Verdict::Pass]);
    bench.cpu("growth-full-4", "bowline", 107.0);
    assert_eq!(bench.verdicts(title), [Verdict::Fail]);
}

#[test]
fn absolute_limits_need_no_peer() {
    let workloads = all(&Scale::FULL);
    let mut bench = Bench::new(&workloads, &["bowline"]);
    let values = [(Metric::ConnectionsLost, 1.0), (Metric::Stall, 0.021), (Metric::MemoryChange, -0.03)];
    bench.values("reload", "bowline", &values);
    assert_eq!(bench.verdicts("reload: connections lost"), [Verdict::Fail]);
    assert_eq!(bench.verdicts("reload: worst round trip, ms"), [Verdict::Fail]);
    assert_eq!(bench.verdicts("reload: memory afterwards, %"), [Verdict::Pass]);
    bench.values("idle-tls-2000", "bowline", &[(Metric::Memory, 5.0 * 1024.0)]);
    let title = "memory per idle TLS connection, of 2000, KiB";
    assert_eq!(bench.verdicts(title), [open("the best peer"), Verdict::Pass]);
}

#[test]
fn the_load_is_shown_beside_what_it_caused() {
    let workloads = all(&Scale::FULL);
    let mut bench = Bench::new(&workloads, &["bowline", "haproxy"]);
    for (product, load, busy) in [("bowline", 2e-4, 0.97), ("haproxy", 4e-4, 0.5)] {
        let effort = Some(Effort { load, load_busy: busy, product_busy: 1.0 });
        let values = vec![(Metric::Cpu, 1e-4)];
        bench.outcome("full-rsa", product, &Ok(Some(Finding { values, effort, ..Finding::default() })));
    }
    let lines = bench.report.lines();
    assert_eq!((lines[0].load.map(f64::round), lines[0].busy), (Some(300.0), Some(0.97)));
    assert!(bench.says("97 %"));
}

#[test]
fn one_outlier_does_not_move_the_median() {
    let workloads = all(&Scale::FULL);
    let mut bench = Bench::new(&workloads, &["bowline", "haproxy"]);
    [40.0, 400.0, 41.0].into_iter().for_each(|value| bench.cpu("full-rsa", "bowline", value));
    [100.0, 100.0, 10.0].into_iter().for_each(|value| bench.cpu("full-rsa", "haproxy", value));
    assert!(bench.says("41.0 (40.0-400)") && bench.report.passed());
}

#[test]
fn medians() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
}
