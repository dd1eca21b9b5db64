//! Variables, where names of files start, and what else 'global' says about the reading of the lines after it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{HEAD, TAIL, codes, codes_of, findings, frontend, model, padded, read, read_with};
use crate::conf::model::{BindAddress, Model, ServerAddress};
use crate::conf::{condition, parse, parse_for_haproxy, variables};

/// What a word in `log-tag` becomes after these lines of `global`.
#[track_caller]
fn tag(lines: &str, word: &str) -> String {
    let text = format!("global\n{lines}    log-tag {word}\n");
    let parsed = read_with(&text, &[("SET", "old"), ("OTHER", "o")]);
    let said = findings(&parsed);
    parsed.model.map_or_else(|| format!("{said:?}"), |model| model.process.log_tag.unwrap_or_default())
}

#[test]
fn variables_can_be_set_and_forgotten() {
    assert_eq!(tag("    setenv SET new\n", "\"$SET\""), "new");
    assert_eq!(tag("    setenv A \"$SET-er\"\n", "\"$A\""), "old-er");
    assert_eq!(tag("    presetenv SET new\n    presetenv A a\n", "\"$SET$A\""), "olda");
    assert_eq!(tag("    unsetenv SET OTHER\n", "\"${SET-none}${OTHER-none}\""), "nonenone");
    assert_eq!(tag("    resetenv OTHER\n", "\"${SET-none}$OTHER\""), "noneo");
    assert_eq!(tag("    resetenv\n", "\"${SET-none}${OTHER-none}\""), "nonenone");
    assert_eq!(tag(".if 0\n    setenv SET new\n.endif\n", "\"$SET\""), "old");
    assert_eq!(tag("    setenv A 1\n.if defined(A) && !defined(B)\n    setenv B 2\n.endif\n", "\"$A$B\""), "12");
}

#[test]
fn a_variable_counts_for_the_lines_after_it() {
    let text = format!(
        "global\n    log-tag \"x${{PORT-0}}\"\n    setenv PORT 8443\n{}",
        &frontend("    bind \"127.0.0.1:$PORT\"\n")
    );
    let model = model(&text);
    assert_eq!(model.process.log_tag.as_deref(), Some("x0"));
    assert_eq!(addresses(&model), ["127.0.0.1:8443"]);
}

#[test]
fn names_of_variables_are_checked() {
    for line in ["setenv 1A x", "setenv A-B x", "presetenv .LINE x", "unsetenv A=b", "resetenv A,B"] {
        assert_eq!(codes(&format!("global\n    {line}\n")), ["E103"], "{line}");
    }
    for line in ["setenv A", "setenv A b c", "unsetenv"] {
        assert_eq!(codes(&format!("global\n    {line}\n")), ["E102"], "{line}");
    }
    assert_eq!(codes(&frontend("    bind :1\n    setenv A b\n")), ["E106"]);
    assert_eq!(codes(&format!("global\n    setenv A {}\n", "x".repeat(16_385))), ["E103"]);
}

#[test]
fn variables_of_haproxys_own() {
    assert_eq!(tag("", "\"$HAPROXY_BRANCH\""), "3.4");
    assert_eq!(tag("", "\"$HAPROXY_CFGFILES\""), "bowline.cfg");
    assert!(tag("", "\"$HAPROXY_TCP_LOG_FMT\"").starts_with("%ci:%cp [%t] %ft %b/%s "));
    assert!(tag("", "\"$HAPROXY_TCP_CLF_LOG_FMT\"").starts_with("%{+Q}o %{-Q}ci - - [%T] \"TCP \" 000 "));
    assert_eq!(tag("    unsetenv HAPROXY_BRANCH\n", "\"${HAPROXY_BRANCH-none}\""), "none");
}

#[test]
fn pseudo_variables_tell_the_place() {
    assert_eq!(tag("", "\"${.FILE}:${.LINE}:${.SECTION}\""), "bowline.cfg:2:global");
    let text = format!(
        "{HEAD}frontend fe\n    bind :80 name \"in-${{.SECTION}}-${{.LINE}}\"\n    default_backend app\n{TAIL}"
    );
    assert_eq!(model(&text).frontends[0].binds[0].name.as_deref(), Some("in-fe-9"));
    assert_eq!(codes("global\n    log-tag \"${.NOPE}\"\n"), ["E100"]);
    assert_eq!(codes(".notice \"${.SECTION}.\"\nglobal\n"), ["N012"], "nothing before the first section");
    assert!(variables(b"\"${.LINE}\"").is_empty(), "nobody's to ask for");
}

/// A model of one file in a directory.
fn in_directory(file: &str, global: &str) -> Model {
    let text = format!(
        "global\n{global}{}",
        frontend("    bind :1 ssl crt a.pem ca-file ca.pem verify required crt-list list\n")
    );
    let parsed = parse(&[(file.to_owned(), text.into_bytes())], &BTreeMap::new());
    assert_eq!(codes_of(&parsed), [""; 0], "{global}");
    parsed.model.expect("no error")
}

#[test]
fn names_of_files_start_where_default_path_says() {
    let paths = |file: &str, global: &str| {
        let mut model = in_directory(file, global);
        let tls = model.frontends.remove(0).binds.remove(0).tls.expect("ssl");
        let ca = tls.ca_file.expect("a file").value;
        let named = [tls.crt[0].file.value.clone(), tls.crt[1].file.value.clone(), ca];
        (named.map(|path| path.display().to_string()), model.process.certificate_files.crt_base)
    };
    let all = |start: &str| ["a.pem", "list", "ca.pem"].map(|name| format!("{start}{name}"));
    assert_eq!(paths("/etc/b/b.cfg", ""), (all(""), None));
    assert_eq!(paths("/etc/b/b.cfg", "    default-path current\n"), (all(""), None));
    assert_eq!(paths("/etc/b/b.cfg", "    default-path config\n"), (all("/etc/b/"), Some("/etc/b".into())));
    assert_eq!(paths("b.cfg", "    default-path config\n"), (all(""), None));
    assert_eq!(paths("/etc/b/b.cfg", "    default-path parent\n"), (all("/etc/b/../"), Some("/etc/b/..".into())));
    assert_eq!(paths("b.cfg", "    default-path origin /srv\n"), (all("/srv/"), Some("/srv".into())));
    let (named, base) = paths("b.cfg", "    default-path origin /srv\n    crt-base tls\n    ca-base /ca\n");
    assert_eq!(named, ["/srv/tls/a.pem", "/srv/list", "/ca/ca.pem"]);
    assert_eq!(base, Some(PathBuf::from("/srv/tls")));
}

#[test]
fn default_path_has_one_directory() {
    let global = "global\n    default-path config\n".to_owned();
    let tls = frontend("    bind :1 ssl crt a.pem\n");
    let read = |first: &str, second: &str| {
        let sources = [(first.to_owned(), global.clone().into_bytes()), (second.to_owned(), tls.clone().into_bytes())];
        codes_of(&parse(&sources, &BTreeMap::new()))
    };
    assert_eq!(read("/etc/b/a.cfg", "/etc/b/b.cfg"), [""; 0]);
    assert_eq!(read("/etc/b/a.cfg", "/etc/c/b.cfg"), ["E120"]);
}

#[test]
fn bad_default_paths() {
    for (words, code) in
        [("nowhere", "E101"), ("origin", "E102"), ("config x", "E102"), ("origin /a b", "E102"), ("", "E102")]
    {
        assert_eq!(codes(&format!("global\n    default-path {words}\n")), [code], "{words}");
    }
    assert_eq!(codes("global\n    default-path config\n    default-path parent\n"), ["E105"]);
}

/// Addresses of the first frontend.
fn addresses(model: &Model) -> Vec<String> {
    let binds = model.frontends[0].binds.iter();
    binds.flat_map(|bind| &bind.addresses).map(|address| address.value.to_string()).collect()
}

#[test]
fn unix_bind_counts_for_all_unix_sockets() {
    let text = format!(
        "global\n    unix-bind prefix /srv/run- mode 660 user www group 33\n{}",
        frontend("    bind /a\n    bind unix@/b mode 600 uid 7\n    bind abns@c\n    bind :80\n")
    );
    let model = model(&text);
    assert_eq!(addresses(&model), ["/srv/run-/a", "/srv/run-/b", "abns@c", "0.0.0.0:80"]);
    let [first, second, ..] = model.frontends[0].binds.as_slice() else { panic!() };
    assert_eq!((first.unix.mode, first.unix.user.as_deref()), (Some(0o660), Some("www")));
    assert_eq!((second.unix.mode, second.unix.user.as_deref()), (Some(0o600), Some("7")));
    assert_eq!(second.unix.group.as_deref(), Some("33"));
    for (words, code) in [("prefx /a", "E101"), ("mode", "E102"), ("mode 9", "E103"), ("uid x", "E103")] {
        assert_eq!(codes(&format!("global\n    unix-bind {words}\n")), [code], "{words}");
    }
    let long = format!("global\n    unix-bind prefix /{}\n{}", "x".repeat(100), frontend("    bind /long-name\n"));
    assert_eq!(codes(&long), ["E103"], "the kernel would not take the path");
}

#[test]
fn ranges_of_ports() {
    let of = |address: &str| addresses(&model(&frontend(&format!("    bind {address}\n"))));
    assert_eq!(of("127.0.0.1:8001-8003,:80"), ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003", "0.0.0.0:80"]);
    assert_eq!(of("[::1]:7-7"), ["[::1]:7"]);
    for bad in [":8003-8001", ":1-70000", ":0-5", ":5-", ":-5", ":1-2-3", ":1-2000"] {
        assert_eq!(codes(&frontend(&format!("    bind {bad}\n"))), ["E103"], "{bad}");
    }
    assert_eq!(codes(&frontend("    bind :1-5\n    bind :3\n")), ["E603"], "one of them is bound already");
    let many: String = (1..=30).map(|n| format!("    bind 127.0.0.{n}:1-1000\n")).collect();
    assert_eq!(codes(&frontend(&many)), ["E103"; 10], "20,000 addresses are enough");
}

#[test]
fn names_of_abstract_sockets() {
    let model = model(&frontend("    bind abns@a,abnsz@b\n").replace("127.0.0.1:80", "abns@s"));
    let names: Vec<_> = model.frontends[0].binds[0].addresses.iter().map(|address| address.value.clone()).collect();
    assert_eq!(names, [BindAddress::Abstract(padded("a")), BindAddress::Abstract(b"b".to_vec())]);
    assert_eq!(model.backends[0].servers[0].address.value, ServerAddress::Abstract(padded("s")));
    assert_eq!(addresses(&model), ["abns@a", "abnsz@b"]);
    for name in ["abns@", "abnsz@", &format!("abns@{}", "x".repeat(108))] {
        assert_eq!(codes(&frontend(&format!("    bind {name}\n"))), ["E103"], "{name}");
    }
}

#[test]
fn quiet() {
    assert!(model("global\n    quiet\n").process.quiet && !model("global\n").process.quiet);
}

#[test]
fn conditions_alone() {
    let environment = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    let holds = |text: &str| condition("condition", text.as_bytes(), &environment);
    assert_eq!(holds("defined(A) && streq(\"$A\",1)"), Ok(true));
    assert_eq!(holds("!feature(BOWLINE)"), Ok(false));
    assert_eq!(holds(""), Ok(false));
    assert_eq!(holds("nonsense(A)").map_err(|error| (error.at.column, error.code)), Err((1, "E101")));
    assert_eq!(holds("\"open").map_err(|error| error.code), Err("E100"));
}

/// Errors that HAProxy's reader would have.
fn for_haproxy(text: &str) -> Vec<String> {
    let found = parse_for_haproxy(&[("f".to_owned(), text.as_bytes().to_vec())], &BTreeMap::new());
    found
        .iter()
        .filter(|found| found.is_error())
        .map(|found| format!("{}:{} {}", found.at.line, found.at.column, found.code))
        .collect()
}

#[test]
fn extensions_are_pointed_out_for_haproxy() {
    let text = format!(
        "{HEAD}    option accept-tls-eof\nfrontend fe\n    bind :1 ssl crt x sni-nomatch-abort\n    default_backend app\n\
         backend app\n    server s 127.0.0.1:80 send-proxy-v2 proxy-v2-options ssl,ssl-group\n"
    );
    assert_eq!(for_haproxy(&text), ["8:5 E701", "10:23 E701", "13:58 E701"]);
    assert_eq!(codes(&text), [""; 0]);
    assert_eq!(for_haproxy("global\n    ssl-default-bind-options sni-nomatch-abort\n"), ["2:30 E701"]);
    let wrapped = text
        .replace("    option accept-tls-eof\n", ".if feature(BOWLINE)\n    option accept-tls-eof\n.endif\n")
        .replace(" sni-nomatch-abort", "")
        .replace(",ssl-group", "");
    assert_eq!(for_haproxy(&wrapped), [""; 0]);
    let other_way = "global\n.if !feature(BOWLINE)\n    log-tag h\n.else\n    bogus\n.endif\n";
    assert_eq!(for_haproxy(other_way), [""; 0], "lines that HAProxy passes over may say anything");
    assert_eq!(for_haproxy(&frontend("    bind fd@https,fd@5\n")), ["9:10 E701"]);
    assert_eq!(for_haproxy("global\n    log file@/var/log/x daemon\n"), ["2:9 E701"]);
    assert_eq!(for_haproxy("global"), ["1:1 E702"]);
    let missing = format!("{}.if feature(BOWLINE)\n{TAIL}.endif\n", frontend("    bind :1\n").replace(TAIL, ""));
    assert_eq!(for_haproxy(&missing), ["10:21 E401"], "what HAProxy would miss");
    assert_eq!(codes_of(&read(&missing)), [""; 0]);
}

#[test]
fn paths_of_the_model_are_as_written_without_default_path() {
    let model = in_directory("/etc/b/b.cfg", "    crt-base /c\n");
    let tls = model.frontends[0].binds[0].tls.as_ref().expect("ssl");
    assert_eq!(tls.crt[0].file.value, Path::new("/c/a.pem"));
}
