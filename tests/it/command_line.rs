//! Options, and what is said about them: help, manual pages, completion.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::support::bowline::program;
use super::support::peers::skipped;

fn run(words: &[&str]) -> Output {
    Command::new(program()).args(words).stdin(Stdio::null()).output().expect("bowline runs")
}

#[track_caller]
fn text(words: &[&str]) -> String {
    let output = run(words);
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Words that begin with a dash, as options do.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '|' | ',' | '(' | ')' | '\'' | ':' | '[' | ']'));
    let options = words.filter(|word| {
        let name = word.trim_start_matches('-');
        let dashes = word.len() - name.len();
        (1..=2).contains(&dashes) && name.starts_with(|c: char| c.is_ascii_alphabetic())
    });
    options.map(str::to_owned).collect()
}

/// Help is read from its table of options, the manual from the terms of its lists, the completion from its list of words.
#[test]
fn help_manual_and_completion_name_the_same_options() {
    let help = text(&["--help"]);
    let (shown, ignored) = help.split_once("with a notice:").expect("what is ignored");
    let terms: String =
        shown.lines().filter_map(|line| line.strip_prefix("  -")).map(|line| format!("-{}\n", &line[..15])).collect();
    let in_help: BTreeSet<_> = options(&terms).union(&options(ignored)).cloned().collect();
    assert!(in_help.len() > 30 && in_help.contains("-dW") && in_help.contains("-Ws"), "{in_help:?}");

    let manual = text(&["--manual", "bowline"]);
    let (_, rest) = manual.split_once(".SH \"OPTIONS\"\n").expect("OPTIONS");
    let (section, _) = rest.split_once("\n.SH ").expect("a section after it");
    let terms: String =
        section.split(".TP\n").skip(1).filter_map(|item| item.lines().next()).collect::<Vec<_>>().join("\n");
    let plain = terms.replace("\\fB", " ").replace("\\fR", " ").replace("\\fI", " ").replace("\\-", "-");
    assert_eq!(options(&plain), in_help);

    let completion = text(&["--completion", "bash"]);
    let words = completion.lines().find_map(|line| line.trim().strip_prefix("*) words='")).expect("the words");
    assert_eq!(options(words), in_help);
}

#[test]
fn manual_pages_are_formatted_without_a_warning() {
    if skipped() {
        return;
    }
    for page in ["bowline", "bowline.cfg"] {
        let roff = text(&["--manual", page]);
        let mut man = Command::new("man")
            .args(["-l", "--warnings", "-E", "UTF-8", "-Tutf8", "-"])
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("man: {error}. Install it, or set BOWLINE_SKIP_PEERS=1"));
        man.stdin.take().expect("a pipe").write_all(roff.as_bytes()).expect("man reads");
        let output = man.wait_with_output().expect("man");
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{page}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("SEE ALSO") || output.stdout.len() > 1000, "{page}");
    }
}

#[test]
fn an_unknown_page_is_refused() {
    let output = run(&["--manual", "bowline.conf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there are bowline, bowline.cfg"), "{output:?}");
}

/// What the shell would offer for a line that ends in `words`.
fn completed(words: &[&str]) -> Vec<String> {
    let script = text(&["--completion", "bash"]);
    let line: Vec<String> =
        std::iter::once("bowline").chain(words.iter().copied()).map(|word| format!("'{word}'")).collect();
    let ask = format!(
        "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; _bowline; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.join(" "),
        words.len()
    );
    let output = Command::new("bash").args(["--norc", "-c", &ask]).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_shell_completes_options_and_their_values() {
    assert_eq!(completed(&["--he"]), ["--help", "--help-keywords"]);
    assert_eq!(completed(&["de"]), ["demo"]);
    assert_eq!(completed(&["demo", "--"]), ["--port"]);
    assert_eq!(completed(&["-c", "--manual", "bowline."]), ["bowline.cfg"]);
    assert_eq!(completed(&["-f", "/etc/hostn"]), ["/etc/hostname"]);
    assert_eq!(completed(&["-C", "/etc/hostn"]), [""; 0], "a file is no directory");
    assert_eq!(completed(&["-n", ""]), [""; 0]);
}

#[test]
fn conditions_answer_by_exit_code() {
    for (condition, code) in [
        ("feature(BOWLINE) && !streq(a,b)", 0),
        ("version_atleast(3.0)", 0),
        ("defined(BOWLINE_NOT_SET)", 1),
        ("streq(\"$BOWLINE_SET\",yes)", 0),
        ("streq(a", 2),
        ("nonsense(a)", 2),
        ("\"open", 2),
    ] {
        let output =
            Command::new(program()).args(["-cc", condition]).env("BOWLINE_SET", "yes").output().expect("it runs");
        assert_eq!(output.status.code(), Some(code), "{condition}: {output:?}");
        assert_eq!(output.stderr.is_empty(), code < 2, "{condition}");
    }
    let output = run(&["-cc", "1 && nonsense(a)"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("condition:1:6: error[E101]: unknown predicate 'nonsense'"), "{said}");
    assert!(said.contains("   1 | 1 && nonsense(a)\n     |      ^^^^^^^^"), "{said}");
}
