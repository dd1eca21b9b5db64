//! What ships for those who watch the service: well-formed, and as `promtool` wants it where that is installed.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::metrics::get;
use crate::support::{Config, Echo, serve};

fn shipped(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

/// Runs `promtool` with this input; `None` where it is not installed.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) -> Option<String> {
    let child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("promtool: {error}"),
    };
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("an end");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    Some(text)
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let echo = Echo::start();
    let bowline =
        serve(&Config::new().global("metrics socket {port:metrics}").bind_mtls("").server(echo.address(), ""));
    let text = get(bowline.address("metrics"), "/metrics").body;
    if let Some(complaints) = promtool(&["check", "metrics"], &text) {
        assert_eq!(complaints, "");
    }
}

#[test]
fn the_alert_rules_are_rules() {
    let path = shipped("prometheus-alerts.yml");
    if let Some(answer) = promtool(&["check", "rules", path.to_str().expect("a path")], "") {
        assert!(answer.contains("SUCCESS"), "{answer}");
    }
}

#[test]
fn the_dashboard_is_json_with_a_data_source_to_choose() {
    let text = fs::read_to_string(shipped("grafana-dashboard.json")).expect("the dashboard");
    let rest = value(text.trim()).expect("JSON");
    assert_eq!(rest, "");
    assert!(text.contains("\"type\": \"datasource\"") && text.contains("${datasource}"));
    assert!(!text.contains("\"uid\": \"P"), "somebody's own data source");
}

/// Reads one value of RFC 8259, and answers what is behind it.
fn value(text: &str) -> Option<&str> {
    match text.chars().next()? {
        '{' => list(&text[1..], '}', |text| {
            let text = string(text)?.trim_start().strip_prefix(':')?;
            value(text.trim_start())
        }),
        '[' => list(&text[1..], ']', value),
        '"' => string(text),
        _ => {
            let end = text.find([',', ']', '}', ' ', '\n']).unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            (matches!(word, "true" | "false" | "null") || word.parse::<f64>().is_ok()).then_some(rest)
        }
    }
}

fn list(text: &str, end: char, item: impl Fn(&str) -> Option<&str>) -> Option<&str> {
    let mut text = text.trim_start();
    if let Some(rest) = text.strip_prefix(end) {
        return Some(rest);
    }
    loop {
        text = item(text)?.trim_start();
        match text.strip_prefix(end) {
            Some(rest) => return Some(rest),
            None => text = text.strip_prefix(',')?.trim_start(),
        }
    }
}

fn string(text: &str) -> Option<&str> {
    let text = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(&text[at + 1..]),
            '\n' => return None,
            _ => {}
        }
    }
    None
}
