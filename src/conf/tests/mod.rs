//! Tests of the language as an operator meets it: text in, model and messages out.

mod audit;
mod certificates;
mod control;
mod environment;
mod examples;
mod language;
mod lowering;
mod messages;
mod process;
mod refusals;
mod robustness;
mod servers;
mod sockets;
mod table;
mod tls_lists;

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Severity};
use super::model::Model;
use super::{Parsed, parse};

/// Lines 1 to 7 of most tests: timeouts, so that they need not be thought of. Ends before line 8.
const HEAD: &str = "\
global
    log stderr daemon
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
";

/// A backend for frontends under test.
const TAIL: &str = "backend app\n    server s 127.0.0.1:80\n";

fn read_with(text: &str, environment: &[(&str, &str)]) -> Parsed {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(&[("bowline.cfg".to_owned(), text.as_bytes().to_vec())], &environment)
}

fn read(text: &str) -> Parsed {
    read_with(text, &[])
}

/// The model of a text without errors.
#[track_caller]
fn model(text: &str) -> Model {
    let parsed = read(text);
    let messages = render_all(&parsed.diagnostics, &[]);
    parsed.model.unwrap_or_else(|| panic!("refused:\n{messages}"))
}

/// A frontend with these lines (the first is line 9) and a backend `app`.
fn frontend(lines: &str) -> String {
    format!("{HEAD}frontend fe\n{lines}    default_backend app\n{TAIL}")
}

/// A backend with these lines (the first is line 9), used by nobody.
fn backend(lines: &str) -> String {
    format!("{HEAD}backend be\n{lines}")
}

/// `line:column code`, in order.
fn findings(parsed: &Parsed) -> Vec<String> {
    let place = |d: &super::diagnostic::Diagnostic| format!("{}:{} {}", d.at.line, d.at.column, d.code);
    parsed.diagnostics.iter().map(place).collect()
}

/// Codes of a text, in order; the model must be there exactly if there is no error.
#[track_caller]
fn codes(text: &str) -> Vec<&'static str> {
    codes_of(&read(text))
}

#[track_caller]
fn codes_of(parsed: &Parsed) -> Vec<&'static str> {
    let failed = parsed.diagnostics.iter().any(|d| d.severity == Severity::Error);
    assert_eq!(parsed.model.is_none(), failed, "model without error, or error without model");
    parsed.diagnostics.iter().map(|d| d.code).collect()
}

/// As `-c` prints them.
fn render_all(diagnostics: &[Diagnostic], sources: &[(String, Vec<u8>)]) -> String {
    crate::report::render(diagnostics, sources).into_iter().map(|line| line.text).collect()
}

/// Everything that is said about a text.
fn rendered(text: &str, environment: &[(&str, &str)]) -> String {
    let parsed = read_with(text, environment);
    render_all(&parsed.diagnostics, &[("bowline.cfg".to_owned(), text.as_bytes().to_vec())])
}

/// The name of an abstract socket with what `abns@` fills it up with.
fn padded(name: &str) -> Vec<u8> {
    let mut name = name.as_bytes().to_vec();
    name.resize(107, 0);
    name
}

/// TLS of a `bind` line with these words.
#[track_caller]
pub(super) fn tls_of(words: &str) -> super::model::BindTls {
    model(&frontend(&format!("    bind :1 ssl crt x {words}\n"))).frontends.remove(0).binds.remove(0).tls.expect("ssl")
}
