//! No bytes may panic the reader, or keep it busy.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;

use super::{render_all, tls_of};
use crate::conf::certificate_files::CertificateFiles;
use crate::conf::diagnostic::Severity;
use crate::conf::{condition, crt_list, parse, parse_for_haproxy, variables};

const VALID: &[&[u8]] = &[
    include_bytes!("../../../conf/bowline.cfg"),
    include_bytes!("../../../conf/examples/minimal.cfg"),
    include_bytes!("../../../conf/examples/mtls-gateway.cfg"),
    include_bytes!("../../../conf/examples/many-doors.cfg"),
    include_bytes!("../../../conf/examples/hitch-like.cfg"),
];

/// Pieces that mean something to the reader.
const PIECES: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "listen",
    "backend",
    "bind",
    "server",
    "from",
    " ",
    " ",
    "\n",
    "\n",
    "\t",
    "#",
    "\"",
    "'",
    "\\",
    "\\x4",
    "\\x00",
    "$",
    "${",
    "}",
    "[*]",
    "-",
    "A",
    ".if",
    ".elif",
    ".else",
    ".endif",
    "(",
    ")",
    "&&",
    "||",
    "!",
    "defined",
    "streq",
    ",",
    "%[",
    "]",
    "%{+bin}o",
    "ssl_c_der",
    "sha2(256)",
    "set-proxy-v2-tlv-fmt(",
    "set-proxy-v2-tlv-fmt(1)",
    "proxy-v2-options",
    "ssl",
    "crt",
    ":443",
    "[::]:1",
    "::",
    "@",
    "unix@",
    "fd@",
    "1.2.3.4:5",
    "timeout",
    "client",
    "30s",
    "30sec",
    "1.5s",
    "99999999999999999999",
    "option",
    "tcplog",
    "no",
    "default",
    "log",
    "stderr",
    "len",
    "format",
    "daemon",
    "mode",
    "http",
    "tcp",
    "maxconn",
    "0",
    "verify",
    "required",
    "setenv",
    "presetenv",
    "unsetenv",
    "resetenv",
    ".LINE",
    ".SECTION",
    "default-path",
    "origin",
    "unix-bind",
    "prefix",
    "abnsz@",
    "-8080",
    "feature(BOWLINE)",
    "[",
    "*.example.com",
    "!a.example.com",
    "ca-file",
    "\u{fc}",
    "\r",
];

fn environment() -> BTreeMap<String, String> {
    BTreeMap::from([("A".to_owned(), "a b".to_owned())])
}

/// Reads a file and holds the promises that hold for any file.
fn hold(text: &[u8]) {
    let environment = environment();
    let sources = [("f.cfg".to_owned(), text.to_vec())];
    let parsed = parse(&sources, &environment);
    let errors = parsed.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    assert_eq!(parsed.model.is_none(), errors > 0);
    assert!(errors <= 50);
    for diagnostic in &parsed.diagnostics {
        assert!(diagnostic.at.line >= 1 && diagnostic.at.column >= 1);
        assert!(!diagnostic.message.chars().any(char::is_control), "{:?}", diagnostic.message);
    }
    let printed = render_all(&parsed.diagnostics, &sources);
    assert!(!printed.contains('\x1b'), "an escape sequence of the file's must not reach a terminal");
    let again = parse(&sources, &environment);
    assert_eq!(again.diagnostics, parsed.diagnostics, "the same text, the same answer");
    variables(text);
}

/// Reads a text as a certificate list and as a condition.
fn hold_elsewhere(text: &[u8]) {
    let (_, found) = crt_list::parse(Path::new("l"), text, &tls_of(""), &CertificateFiles::default());
    for diagnostic in found {
        assert!(!diagnostic.message.chars().any(char::is_control), "{:?}", diagnostic.message);
    }
    if let Err(found) = condition("condition", text, &environment()) {
        assert!(!found.message.chars().any(char::is_control), "{:?}", found.message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn random_bytes(text in proptest::collection::vec(any::<u8>(), 0..2000)) {
        hold(&text);
        hold_elsewhere(&text);
    }

    #[test]
    fn random_words(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..300)) {
        let text = pieces.concat();
        hold(text.as_bytes());
        hold_elsewhere(text.as_bytes());
        parse_for_haproxy(&[("f.cfg".to_owned(), text.into_bytes())], &environment());
    }

    #[test]
    fn mutated_files(
        file in proptest::sample::select(VALID),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..12),
    ) {
        let mut text = file.to_vec();
        for (index, byte, what) in edits {
            let at = index.index(text.len());
            match what {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                2 => { text.remove(at); }
                _ => {
                    let piece = PIECES[usize::from(byte) % PIECES.len()].bytes();
                    text.splice(at..at, piece);
                }
            }
        }
        hold(&text);
    }
}

/// What this thread has worked: other tests beside it do not count.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}

/// Shapes that make careless readers quadratic. A reader that takes seconds for one of them is caught; the limit is far above
/// what it takes without optimisation, twice over.
#[test]
fn a_mebibyte_of_anything_is_read_quickly() {
    let head = "defaults\n timeout client 1m\n timeout server 1m\n timeout connect 1s\n";
    let repeated = |unit: &str| unit.repeat((1 << 20) / unit.len());
    let shapes = [
        repeated("a\n"),
        repeated("a "),
        repeated("global\n"),
        format!("global\n log-tag {}\n", repeated("x")),
        format!("global\n log-tag \"{}\"\n", repeated("$A")),
        format!("global\n log-tag \"{}\"\n", repeated("${A[*]}")),
        format!(".if {}\n", repeated("(")),
        format!(".if {}\n.endif\n", repeated("1 || ")),
        format!(".if streq(a,{})\n.endif\n", repeated("'")),
        format!(".if {}\n.endif\n", repeated("defined(")),
        repeated(".if 1\n"),
        repeated(".if 0\n"),
        format!("{head}frontend f\n bind {}\n", repeated(",")),
        format!("{head}frontend f\n bind {}\n", repeated(":1,")),
        format!("{head}frontend f\n bind :1 {}\n", repeated("vrefy ")),
        format!("{head}frontend f\n bind :1 alpn {}\n", repeated("h2,")),
        format!("{head}{}", repeated("backend b\n")),
        format!("{head}{}", (0..60_000).map(|n| format!("backend b{n}\n")).collect::<String>()),
        format!("{head}{}", (0..30_000).map(|n| format!("frontend f{n}\n bind :1\n")).collect::<String>()),
        format!("{head}frontend f\n{}", repeated(" log stderr daemon\n")),
        format!(
            "{head}{}{}",
            " log stderr daemon\n".repeat(64),
            (0..60_000).map(|n| format!("backend b{n}\n")).collect::<String>()
        ),
        format!("{head}backend b\n server s 1.2.3.4:5 send-proxy-v2 set-proxy-v2-tlv-fmt(1) {}\n", repeated("%[")),
        format!("{head}backend b\n{}", repeated(" default-server set-proxy-v2-tlv-fmt(1) %[ssl_c_der,hex,hex]\n")),
        format!("{head}backend b\n server s 1.2.3.4:5 proxy-v2-options {}\n", repeated("ssl,")),
        repeated("defaults d\n"),
        repeated("defaults d from d\n"),
        repeated("errorfile x\n"),
        format!("defaults\n{}", repeated(" errorfile x\n")),
        format!("defaults\n{}", repeated(" timeout client 1\n")),
        format!("global\n{}", repeated(" setenv A x\n")),
        format!("global\n{}", repeated(" setenv A \"$A-x\"\n")),
        format!("global\n{}", (0..40_000).map(|n| format!(" setenv A{n} x\n")).collect::<String>()),
        format!("global\n{}", repeated(" resetenv A B C\n")),
        format!("global\n log-tag \"{}\"\n", repeated("${.LINE}")),
        format!("global\n log-tag \"{}\"\n", repeated("${.FILE}")),
        format!(".if 0\n{}.endif\n", repeated("x \"$A\" 'y'\n")),
        format!("{head}frontend f\n{}", repeated(" bind :1-1000\n")),
        format!("{head}frontend f\n bind {}\n", repeated(":1-1000,")),
        format!("global\n unix-bind {}\n", repeated("mode 600 ")),
        repeated("\"\n"),
        repeated("\0"),
    ];
    for shape in shapes {
        let start = worked();
        hold(shape.as_bytes());
        let took = worked() - start;
        assert!(took < Duration::from_secs(5), "{took:?} for {:?}…", shape.chars().take(60).collect::<String>());
    }
}
