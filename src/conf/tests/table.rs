//! The keyword table itself.

use std::collections::HashSet;
use std::path::Path;

use crate::conf::keywords::{Class, Places, all, help, nearest};
use crate::conf::words::{self, Kind};

const PROXIES: Places = Places::DEFAULTS.and(Places::FRONTEND).and(Places::BACKEND);

/// Words of this program's own; HAProxy must not have them.
const EXTENSIONS: &[&str] = &[
    "option accept-tls-eof",
    "sni-nomatch-abort",
    "last-crt-wins",
    "send-client-ip",
    "send-received-proxy",
    "resolve-interval",
    "metrics socket",
    "audit",
    "audit",
];

#[test]
fn one_row_for_each_keyword() {
    for places in [Places::GLOBAL, PROXIES, Places::BIND, Places::SERVER] {
        let mut seen = HashSet::new();
        for row in all().filter(|row| row.places.overlaps(places)) {
            assert!(seen.insert(row.name), "'{}' has two rows in {:?}", row.name, places.names());
        }
    }
}

#[test]
fn rows_are_complete() {
    for row in all() {
        assert!(!row.name.is_empty() && !row.doc.is_empty() || row.class == Class::Never, "{}", row.name);
        assert!(!row.places.names().is_empty(), "{}", row.name);
        if row.is_implemented() {
            assert!(row.doc.ends_with('.') && row.doc.len() > 10, "'{}' needs a sentence", row.name);
            assert_eq!(
                row.usage.is_empty(),
                *row.arguments.end() == 0 || row.name == "option tcplog" || row.class == Class::Inert,
                "{}",
                row.name
            );
            assert!(!row.name.ends_with('*'), "{}", row.name);
        }
    }
}

/// What is an extension is written down here, so that a mistyped word of HAProxy's does not become one.
#[test]
fn rows_are_haproxys_words_or_extensions() {
    let extensions: Vec<&str> = all().filter(|row| row.is_extension()).map(|row| row.name).collect();
    let mut expected = EXTENSIONS.to_vec();
    expected.retain(|name| extensions.contains(name));
    assert_eq!(expected, EXTENSIONS, "HAProxy has one of these now: its meaning wins");
    let surplus: Vec<_> = extensions.iter().filter(|name| !EXTENSIONS.contains(name)).collect();
    assert!(surplus.is_empty(), "HAProxy has no {surplus:?}");
    for row in all().filter(|row| row.is_extension()) {
        assert!(row.doc.starts_with("Extension"), "'{}' does not say that it is one", row.name);
    }
}

/// The word is not among the unknown ones.
#[track_caller]
fn known(text: &str, word: &str) {
    let kinds = ["keyword", "option", "timeout", "bind parameter", "server parameter"];
    let says_so = |message: &str| kinds.iter().any(|kind| message.starts_with(&format!("unknown {kind} '{word}'")));
    let unknown = super::read(text).diagnostics.into_iter().find(|d| says_so(&d.message));
    assert!(unknown.is_none(), "{unknown:?}");
}

/// Every word that HAProxy takes here gets an answer of its own class, not "unknown".
#[test]
fn no_word_of_haproxys_is_unknown() {
    for word in words::all(Kind::Global) {
        known(
            &format!(
                "global
    {word} a b
"
            ),
            word,
        );
    }
    for word in words::all(Kind::Proxy).filter(|word| !matches!(*word, "mode" | "option" | "timeout")) {
        let text = format!("{}backend b\n    {word} a b\n", super::HEAD);
        known(&text, word);
    }
    for (kind, first) in [(Kind::Option, "option"), (Kind::Timeout, "timeout")] {
        for word in words::all(kind) {
            let text = format!("{}backend b\n    {first} {word} 5s\n", super::HEAD);
            known(&text, word);
        }
    }
    for word in words::all(Kind::Bind) {
        let text = super::frontend(&format!("    bind :1 ssl crt x {word}\n"));
        known(&text, word);
    }
    for word in words::all(Kind::Server) {
        let text = super::backend(&format!("    server s 127.0.0.1:80 {word}\n"));
        known(&text, word);
    }
}

#[test]
fn help_lists_what_is_implemented() {
    let text = help();
    for line in [
        "  nbthread <number>",
        "  crt <file or directory>",
        "  set-proxy-v2-tlv-fmt (<type>) <format>",
        "  timeout client-hs <time>",
        "  daemon",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "fits a terminal");
    assert!(!text.contains("\n  stick-table"), "what is refused is not advertised");
}

/// The text of all files below a folder of the project.
fn text_below(folder: &Path, text: &mut String) {
    for entry in folder.read_dir().expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text_below(&path, text);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "cfg" || extension == "list")
        {
            text.push_str(&std::fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

/// `name` occurs as a word of its own: `crt` does not in `default-crt`.
fn has_word(text: &str, name: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + name.len()..].chars().next());
        !before.is_some_and(part_of_word) && !after.is_some_and(|c| part_of_word(c) && c != '.')
    })
}

/// A word that acts and that no test has ever said might as well not be there. Words without effect are in the corpus.
#[test]
fn every_keyword_occurs_in_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for folder in ["tests/corpus", "tests/it", "src/conf/tests", "src/conf/crt_list", "conf"] {
        text_below(&root.join(folder), &mut text);
    }
    let missing: Vec<&str> =
        all().filter(|row| row.is_implemented() && !has_word(&text, row.name)).map(|row| row.name).collect();
    assert!(missing.is_empty(), "no test names {missing:?}: add them to tests/corpus/good");
    assert!(has_word("a crt b", "crt") && !has_word("default-crt crt-list xcrt", "crt"));
}

#[test]
fn near_words() {
    let list = ["verify", "verifyhost", "name", "ssl"];
    assert_eq!(nearest("verfy", list.into_iter()), Some("verify"));
    assert_eq!(nearest("vreify", list.into_iter()), Some("verify"), "neighbours swapped");
    assert_eq!(nearest("nmae", list.into_iter()), Some("name"));
    assert_eq!(nearest("tls", list.into_iter()), None);
    assert_eq!(nearest(&"x".repeat(1000), list.into_iter()), None);
}
