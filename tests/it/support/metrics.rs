//! A scraper that forgives nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::client::dial;
use super::{DEADLINE, eventually};

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The number in its first line.
    pub(crate) status: u16,
    /// Its head, with the first line.
    pub(crate) head: String,
    /// What follows.
    pub(crate) body: String,
}

impl Answer {
    /// Reads to the end of the stream.
    #[track_caller]
    pub(crate) fn read(stream: &mut impl Read) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer, and the end");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok()).expect("a status line");
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Sends a request as it is and reads the answer.
#[track_caller]
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = dial(address);
    stream.write_all(request).expect("a server that listens");
    Answer::read(&mut stream)
}

/// `GET path` over TCP.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, format!("GET {path} HTTP/1.1\r\nHost: metrics\r\nAccept: */*\r\n\r\n").as_bytes())
}

/// `GET path` over a unix socket.
#[track_caller]
pub(crate) fn get_unix(socket: &Path, path: &str) -> Answer {
    let mut stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("a server that listens");
    Answer::read(&mut stream)
}

/// All numbers of one answer.
#[derive(Debug)]
pub(crate) struct Scrape {
    series: BTreeMap<String, f64>,
}

impl Scrape {
    /// `GET /metrics`.
    #[track_caller]
    pub(crate) fn of(address: SocketAddr) -> Self {
        let answer = get(address, "/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Self::parse(&answer.body)
    }

    /// Reads the text format 0.0.4 as strictly as it can be read: every metric has HELP, TYPE and its samples, in this order
    /// and together; no series twice; buckets grow and end with the count.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut series = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
            assert!(!help.is_empty() && seen.insert(name), "{line}");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)).expect(name);
            let kind = kind.trim_start();
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{name} {kind}");
            let mut samples = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (key, value) = line.rsplit_once(' ').expect(line);
                let value: f64 = value.parse().expect(line);
                let (own, labels) = key.split_once('{').map_or((key, ""), |(own, labels)| (own, labels));
                let suffix = own.strip_prefix(name).expect(line);
                let fits = match kind {
                    "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
                    _ => suffix.is_empty(),
                };
                assert!(fits, "{line}");
                assert!(labels.is_empty() || labels.ends_with('}'), "{line}");
                check_labels(labels.trim_end_matches('}'));
                assert!(
                    kind != "counter" || (value >= 0.0 && value.fract() == 0.0) || own.ends_with("seconds_total"),
                    "{line}"
                );
                assert!(series.insert(key.to_owned(), value).is_none(), "{key} twice");
                samples += 1;
            }
            assert!(samples > 0, "{name} without samples");
        }
        check_histograms(&series);
        Self { series }
    }

    /// The number of one series, written as in the answer.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.series))
    }

    /// Whether there is such a series.
    pub(crate) fn has(&self, series: &str) -> bool {
        self.series.contains_key(series)
    }

    /// The series of a metric that are not 0, by what stands between the braces.
    pub(crate) fn nonzero(&self, metric: &str) -> Vec<(String, f64)> {
        let of_metric = |key: &str| Some(key.strip_prefix(metric)?.strip_prefix('{')?.strip_suffix('}')?.to_owned());
        self.series
            .iter()
            .filter(|(_, value)| **value != 0.0)
            .filter_map(|(key, value)| Some((of_metric(key)?, *value)))
            .collect()
    }

    /// All labels and their values.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }
}

/// Scrapes until `fits`, then once more: a scrape beside a running loop is no moment in time, so the counter that tells of an
/// event may have been read after it, and the others before. Counts of a connection's end come when it has ended.
#[track_caller]
pub(crate) fn scrape_until(address: SocketAddr, what: &str, mut fits: impl FnMut(&Scrape) -> bool) -> Scrape {
    eventually(what, DEADLINE, || fits(&Scrape::of(address)));
    Scrape::of(address)
}

/// `name="value",…`
#[track_caller]
fn check_labels(mut labels: &str) {
    while !labels.is_empty() {
        let (name, rest) = labels.split_once("=\"").expect(labels);
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{labels}");
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            assert!(!escaped || matches!(byte, b'"' | b'\\' | b'n'), "{rest}");
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let rest = &rest[end.expect(labels) + 1..];
        labels = rest.strip_prefix(',').unwrap_or(rest);
        assert!(labels.is_empty() == rest.is_empty(), "{rest}");
    }
}

#[track_caller]
fn check_histograms(series: &BTreeMap<String, f64>) {
    for (key, count) in series {
        let (name, labels) = key.split_once('{').map_or((key.as_str(), ""), |(name, labels)| (name, labels));
        let Some(name) = name.strip_suffix("_count") else { continue };
        let labels = labels.trim_end_matches('}');
        let first = if labels.is_empty() { String::new() } else { format!("{labels},") };
        let prefix = format!("{name}_bucket{{{first}le=\"");
        let mut buckets: Vec<(f64, f64)> = series
            .iter()
            .filter_map(|(key, value)| {
                let bound = key.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect(key) }, *value))
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, next| one.1 <= next.1), "{key}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{key}");
        let sum = key.replacen("_count", "_sum", 1);
        assert!(series[&sum] >= 0.0, "{sum}");
    }
}
