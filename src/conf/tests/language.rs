//! File syntax, conditions, sections, inheritance.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{HEAD, TAIL, backend, codes, codes_of, findings, frontend, model, read, read_with};
use crate::conf::model::LogSink;
use crate::conf::{parse, variables};

/// What a word in `log-tag` becomes. The expected values were taken from HAProxy 2.6.12 with `.notice`.
#[track_caller]
fn word(source: &str) -> String {
    let environment = [("HOME", "/root"), ("SPLIT", " a  b "), ("EMPTY", "")];
    let text = format!("global\n    log-tag {source}\n");
    let parsed = read_with(&text, &environment);
    parsed.model.map_or_else(
        || format!("{:?}", findings_of(&text, &environment)),
        |model| model.process.log_tag.unwrap_or_default(),
    )
}

fn findings_of(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    findings(&read_with(text, environment))
}

#[test]
fn quotes_and_escapes_are_haproxys() {
    for (source, expected) in [
        (r"a\$b", r"a\$b"),
        (r"'x\n'", r"x\n"),
        (r#""\$H""#, "$H"),
        (r"a\#b", "a#b"),
        (r#""q\#r""#, "q#r"),
        (r#""s's""#, "s's"),
        (r#"a\'b\"c"#, "a'b\"c"),
        (r"a\qb", r"a\qb"),
        (r#""\q""#, r"\q"),
        (r"tr\\ail", r"tr\ail"),
        (r#""${HOME[*]}x""#, "/rootx"),
        (r#""$HOME""#, "/root"),
        ("$HOME", "$HOME"),
        (r#""a\ b""#, "a b"),
        (r"a\ b", "a b"),
        (r"x\x41y", "xAy"),
        (r#"a""b"#, "ab"),
        (r#""a${HOME}b""#, "a/rootb"),
        (r#""$_x-$HOME.y""#, "-/root.y"),
        (r#"a'b'"c""#, "abc"),
        (r#""'$HOME'""#, "'/root'"),
        (r#""${NOPE-de f}""#, "de f"),
        (r#""${NOPE-}x""#, "x"),
        (r#""${HOME-zz}""#, "/root"),
        (r#""${EMPTY-zz}x""#, "x"),
        ("a#b", "a"),
        ("'#'", "#"),
        (r"end\", r"end\"),
    ] {
        assert_eq!(word(source), expected, "{source}");
    }
}

#[test]
fn broken_words_are_errors() {
    for source in [
        "\"abc",
        "'abc",
        r#""${A""#,
        r#""${1}""#,
        r#""$""#,
        r"a\x4",
        r"a\x4z",
        r"\x00b",
        r#""${HOME[1]}""#,
        r#""${HOME=x}""#,
    ] {
        assert!(codes(&format!("global\n    log-tag {source}\n")).contains(&"E100"), "{source}");
    }
    assert_eq!(codes_of(&parse(&[("f".into(), b"global\n log-tag a\0b\n".to_vec())], &BTreeMap::new())), ["E100"]);
}

#[test]
fn list_variables_become_words() {
    let text = "global\n    ssl-default-bind-options \"${OPTIONS[*]}\" no-sslv3\n";
    assert_eq!(codes_of(&read_with(text, &[("OPTIONS", " ssl-min-ver  TLSv1.3 ")])), [""; 0]);
    assert_eq!(codes_of(&read(text)), [""; 0], "an unset list is no word, and no warning");
    assert_eq!(codes_of(&read_with(text, &[("OPTIONS", "bogus")])), ["E101"]);
}

#[test]
fn empty_words_are_errors() {
    assert_eq!(codes("global\n    log-tag \"\"\n"), ["E104"]);
    assert_eq!(codes("global\n    log-tag ''\n"), ["E104"]);
    assert_eq!(codes_of(&read_with("global\n    log-tag \"$A\"\n", &[("A", "")])), ["E104"]);
}

#[test]
fn unset_variables_warn_only_where_lines_count() {
    assert_eq!(codes("global\n    log-tag \"x$A\"\n"), ["W103"]);
    assert_eq!(codes("global\n.if 0\n    log-tag \"x$A\"\n.endif\n"), [""; 0]);
    assert_eq!(
        codes(".if streq(\"$A\",x)\nnonsense\n.endif\nglobal\n"),
        [""; 0],
        "a condition may ask for what is not set"
    );
}

#[test]
fn names_of_variables() {
    let text = b"bind \"$A:443\" # \"$NOT\"\n '$NOT' $NOT \"\\$NOT\" \"${B-x}${C[*]}\"\n.if defined(D) && !defined( \"E\" )\n\"$F\n";
    let expected: Vec<&str> = vec!["A", "B", "C", "D", "E", "F"];
    assert_eq!(variables(text).into_iter().collect::<Vec<_>>(), expected);
    assert!(variables(b"defined(X)\n# .if defined(X)\n").is_empty());
}

/// Whether the branch of `.if` is taken.
#[track_caller]
fn holds(condition: &str) -> bool {
    let text = format!(".if {condition}\nglobal\n    log-tag yes\n.else\nglobal\n    log-tag no\n.endif\n");
    let environment = [("SET", "1"), ("TWO", "a b")];
    let parsed = read_with(&text, &environment);
    let said = findings(&parsed);
    let model = parsed.model.unwrap_or_else(|| panic!("{condition}: {said:?}"));
    model.process.log_tag.as_deref() == Some("yes")
}

#[test]
fn conditions() {
    for condition in [
        "feature(BOWLINE)",
        "feature(OPENSSL) && !feature(LUA)",
        "1",
        "!0",
        "!(0 || 0) && 1",
        "0 && 0 || 1",
        "1 || 0 && 0",
        "(1)",
        "defined(SET)",
        "!defined(NOT_SET)",
        "streq(a,a)",
        "streq(\"$SET\",1)",
        "strneq(a,b)",
        "streq(\"'a,b'\",'\"a,b\"')",
        "strstr(abc,bc)",
        "streq(\"$NOT_SET\",)",
        "version_atleast(2.9)",
        "version_atleast(3.4)",
        "version_atleast(3.4-dev5)",
        "version_atleast(3.4.0)",
        "version_before(3.4.1)",
        "version_before(3.5-dev0)",
        "streq(\"$TWO\",\"a b\")",
    ] {
        assert!(holds(condition), "{condition}");
    }
    for condition in [
        "",
        "0",
        "!1",
        "feature(LUA)",
        "defined(NOT_SET)",
        "streq(a,b)",
        "streq(a, a)",
        "strneq(a,a)",
        "version_atleast(3.5)",
        "version_atleast(3.4.1)",
        "version_before(3.4)",
        "version_before(2.9)",
        "0 || 0",
        "1 && 0",
    ] {
        assert!(!holds(condition), "{condition}");
    }
}

#[test]
fn bad_conditions() {
    for (condition, code) in [
        ("1 0", "E100"),
        ("(1", "E100"),
        ("1 &&", "E100"),
        (")", "E100"),
        ("defined(X", "E100"),
        ("defined()", "E102"),
        ("streq(a)", "E102"),
        ("nonsense(1)", "E101"),
        ("nonsense", "E101"),
        ("version_atleast(three)", "E103"),
        ("openssl_version_atleast(3)", "E120"),
        (&"(".repeat(1000), "E100"),
        (&"!".repeat(100_000), "E100"),
    ] {
        let text = format!(".if {condition}\nglobal\n    bogus\n.else\nglobal\n    bogus\n.endif\n");
        assert_eq!(codes(&text), [code], "{condition:.40}: neither branch is read");
    }
}

#[test]
fn conditions_nest_and_choose_one_branch() {
    let text = "\
.if 0
  .if 1
    bogus
  .elif nonsense(
  .else
    bogus
  .endif
.elif 1
global
  .if 0
    bogus
  .else
    log-tag right
  .endif
.elif 1
    bogus
.else
    bogus
.endif
";
    assert_eq!(model(text).process.log_tag.as_deref(), Some("right"));
}

#[test]
fn structure_of_conditions_is_checked() {
    assert_eq!(findings(&read("global\n.endif\n")), ["2:1 E100"]);
    assert_eq!(findings(&read("global\n.else\n")), ["2:1 E100"]);
    assert_eq!(findings(&read(".if 1\nglobal\n")), ["1:1 E100"]);
    assert_eq!(findings(&read(".if 1\nglobal\n.else\n.else\n.endif\n")), ["4:1 E100"]);
    assert_eq!(findings(&read(".fi 1\nglobal\n")), ["1:1 E101"]);
    let two = [("a".to_owned(), b".if 1\nglobal\n".to_vec()), ("b".to_owned(), b"global\n.endif\n".to_vec())];
    assert_eq!(codes_of(&parse(&two, &BTreeMap::new())), ["E100", "E100"], "a condition does not cross files");
}

#[test]
fn an_unreadable_condition_lets_no_branch_pass() {
    assert_eq!(findings(&read(".if \"1\nbogus\n.else\nbogus\n.endif\nglobal\n")), ["1:5 E100"]);
}

/// HAProxy takes lines that it passes over apart all the same, and refuses what it can not.
#[test]
fn lines_that_do_not_count_have_to_be_lines() {
    assert_eq!(findings(&read("global\n.if 0\n    bogus \"open\n.endif\n")), ["3:11 E100"]);
    assert_eq!(findings(&read("global\n.if 0\n    bogus \\x4 \n.else\n.endif\n")), ["3:11 E100"]);
}

#[test]
fn messages_of_the_file() {
    let text = ".notice hello\n.warning 'two words'\n.diag x\nglobal\n";
    assert_eq!(codes(text), ["N012", "W012", "N012"]);
    assert_eq!(codes(".alert stop\nglobal\n"), ["E108"]);
    assert_eq!(codes(".if 0\n.alert stop\n.endif\nglobal\n"), [""; 0]);
}

#[test]
fn a_configuration_without_a_section_is_refused() {
    for text in ["", "\n\n", "# global\n", "    # frontend fe\n", ".if 0\nglobal\n.endif\n", ".notice \"x\"\n"] {
        let parsed = read(text);
        assert!(parsed.model.is_none(), "{text:?}");
        assert!(findings(&parsed).contains(&"1:1 E111".to_owned()), "{text:?}: {:?}", findings(&parsed));
    }
    for text in ["global\n", "defaults\n", "global\ndefaults\n", ".if 1\nglobal\n.endif\n"] {
        assert!(read(text).model.is_some(), "{text:?}");
    }
    // What is there is wrong: that is enough said.
    assert_eq!(codes("bind :443\n"), ["E107"]);

    // One file without a section is a place for later.
    let parsed = |texts: [&str; 2]| {
        let sources = [("a".to_owned(), texts[0].into()), ("b".to_owned(), texts[1].into())];
        parse(&sources, &BTreeMap::new())
    };
    assert!(parsed(["", "global\n"]).model.is_some() && parsed(["global\n", "# none\n"]).model.is_some());
    let neither = parsed(["", "# none\n"]);
    assert!(neither.model.is_none() && neither.diagnostics[0].message.contains("nor in the files after it"));
}

#[test]
fn missing_line_feed_is_a_notice() {
    assert_eq!(findings(&read("global")), ["1:1 N010"]);
    assert_eq!(codes("global\n"), [""; 0]);
}

#[test]
fn several_files_are_one_configuration() {
    let files = [
        ("a.cfg".to_owned(), format!("{HEAD}frontend fe\n    bind :80\n    default_backend app\n").into_bytes()),
        ("b.cfg".to_owned(), TAIL.as_bytes().to_vec()),
    ];
    let parsed = parse(&files, &BTreeMap::new());
    assert_eq!(codes_of(&parsed), [""; 0]);
    let model = parsed.model.expect("no error");
    assert_eq!(model.backends[0].timeout_connect, Some(Duration::from_secs(5)), "defaults reach into the next file");
    assert_eq!(&*model.backends[0].at.file, "b.cfg");
    let loose = [files[0].clone(), ("b.cfg".to_owned(), b"    maxconn 3\n".to_vec())];
    assert_eq!(codes_of(&parse(&loose, &BTreeMap::new())), ["E107"], "a file starts with a section");
}

#[test]
fn words_before_and_between_sections() {
    assert_eq!(findings(&read("maxconn 3\n")), ["1:1 E107"]);
    assert_eq!(
        findings(&read("frontnd fe\n    bind :80\n")),
        ["1:1 E101"],
        "the lines of a mistyped section are not blamed"
    );
    let text = format!("{HEAD}fronted web\n    bind :80\n    default_backend nowhere\n");
    assert_eq!(findings(&read(&text)), ["8:1 E101"]);
}

#[test]
fn names_of_sections() {
    let text = |head: &str| format!("{HEAD}{TAIL}{head}\n    bind :80\n    default_backend app\n");
    assert_eq!(codes(&text("frontend a-b_c.d:e1")), [""; 0]);
    assert_eq!(codes(&text("frontend a/b")), ["E103"]);
    assert_eq!(codes(&text("frontend")), ["E107"]);
    assert_eq!(codes(&text("frontend app")), ["E107"], "unique over frontends and backends");
    assert_eq!(codes(&text("frontend fe 127.0.0.1:80")), ["E102"]);
    assert_eq!(codes(&text("frontend fe from")), ["E102"]);
    assert_eq!(codes(&text("frontend fe from nowhere")), ["E401"]);
    assert_eq!(codes(&text("global x")).first(), Some(&"E102"));
}

#[test]
fn defaults_reset_and_are_inherited() {
    let text = "\
defaults
    timeout client 1s
    timeout connect 2s
    timeout server 3s
    log 127.0.0.1 local0
    option tcplog
    option dontlognull
    default-server send-proxy-v2
backend one
    server s 127.0.0.1:80
    timeout server 9s
frontend f1
    bind :80
    log stderr local0
    no option dontlognull
    default_backend one
frontend f2
    bind :81
    no log
    default_backend one
defaults
    timeout connect 5s
    timeout server 5s
    timeout client 0
backend two
    server s 127.0.0.1:80
";
    let model = model(text);
    let [one, two] = model.backends.as_slice() else { panic!() };
    assert_eq!((one.timeout_connect, one.timeout_server), (Some(Duration::from_secs(2)), Some(Duration::from_secs(9))));
    assert!(one.servers[0].proxy.is_some() && two.servers[0].proxy.is_none(), "a new 'defaults' starts from zero");
    let [f1, f2] = model.frontends.as_slice() else { panic!() };
    let sinks: Vec<_> = f1.logs.iter().map(|log| log.sink.clone()).collect();
    assert_eq!(
        sinks,
        [LogSink::Udp("127.0.0.1:514".parse().expect("address")), LogSink::Descriptor(2)],
        "a 'log' line adds"
    );
    assert!(f1.tcplog && !f1.dontlognull && f2.dontlognull);
    assert!(f2.logs.is_empty(), "'no log' forgets");
}

#[test]
fn named_defaults() {
    let text = "\
defaults base
    timeout client 1s
    timeout connect 2s
    timeout server 3s
defaults long from base
    timeout client 1h
frontend f from long
    bind :80
    default_backend b
backend b from base
    server s 127.0.0.1:80
";
    let model = model(text);
    assert_eq!(model.frontends[0].timeout_client, Some(Duration::from_secs(3600)));
    assert_eq!(model.backends[0].timeout_server, Some(Duration::from_secs(3)));
    let twice = "defaults a\ndefaults a\nbackend b from a\n    server s 127.0.0.1:80\n";
    assert_eq!(codes(twice), ["E401"]);
}

#[test]
fn defaults_used_by_name_and_by_place() {
    let section = |head: &str| format!("{head}\n    server s 127.0.0.1:80\n");
    let start = "defaults a\n    timeout connect 1s\n    timeout server 1s\n";
    assert_eq!(codes(&format!("{start}{}{}", section("backend b from a"), section("backend c"))), ["W120"]);
    assert_eq!(codes(&format!("{start}{}{}", section("backend b from a"), section("backend c from a"))), [""; 0]);
    assert_eq!(codes(&format!("{start}{}{}", section("backend b"), section("backend c"))), [""; 0]);
}

#[test]
fn global_may_come_in_parts_but_not_repeat() {
    assert_eq!(model("global\n    nbthread 2\nglobal\n    maxconn 5\n").process.threads.map(|at| at.value), Some(2));
    assert_eq!(findings(&read("global\n    nbthread 2\nglobal\n    nbthread 2\n")), ["4:5 E105"]);
    assert_eq!(codes("global\n    user a\n    uid 3\n"), ["E105"]);
}

#[test]
fn prefixes() {
    assert_eq!(codes(&frontend("    bind :80\n    no maxconn\n")), ["E102"]);
    assert_eq!(codes(&frontend("    bind :80\n    no option tcplog\n")), ["E102"], "as in HAProxy");
    assert_eq!(codes(&frontend("    bind :80\n    default log\n")), ["E102"]);
    assert_eq!(codes(&frontend("    bind :80\n    no log now\n")), ["E102"]);
    assert!(
        model(&frontend("    bind :80\n    default option clitcpka\n")).frontends[0].binds[0]
            .socket
            .tcp
            .keepalive
            .is_none()
    );
    assert_eq!(codes("global\n    no busy-polling\n"), ["N001"]);
}

#[test]
fn an_address_is_bound_once() {
    let two = |first: &str, second: &str| {
        let text = format!(
            "{HEAD}frontend a\n    bind {first}\n    default_backend app\n{}",
            &frontend(&format!("    bind {second}\n"))[HEAD.len()..]
        );
        findings(&read(&text))
    };
    let refused: &[&str] = &["12:10 E603"];
    for (first, second) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        (":80", "*:80"),
        (":::80 v4v6", "[::]:80 v6only"),
        ("/run/a", "unix@/run/a"),
        ("abns@a", "abns@a"),
        ("fd@3", "fd@3"),
    ] {
        assert_eq!(two(first, second), refused, "{first} {second}");
    }
    for (first, second) in
        [("127.0.0.1:80", "127.0.0.1:81"), (":80", "127.0.0.1:80"), (":80", ":::80"), ("fd@3", "fd@4")]
    {
        assert!(two(first, second).is_empty(), "{first} {second}");
    }
    assert_eq!(codes(&frontend("    bind :80,:80\n")), ["E603"], "on one line");
    assert!(
        super::rendered(&frontend("    bind :80\n    bind :80\n"), &[])
            .contains("0.0.0.0:80 is already bound at bowline.cfg:9")
    );
}

#[test]
fn keywords_in_the_wrong_section() {
    assert_eq!(
        codes(&backend("    server s 127.0.0.1:80\n    maxconn 3\n    bind :80\n    timeout client 1s\n")),
        ["W110"; 3]
    );
    assert_eq!(codes(&frontend("    bind :80\n    timeout server 1s\n    option srvtcpka\n")), ["W110"; 2]);
    assert_eq!(
        codes(&frontend("    bind :80\n    server s 127.0.0.1:80\n    default-server send-proxy\n")),
        ["E106"; 2]
    );
    assert_eq!(codes(&format!("{HEAD}    bind :80\n    server s 127.0.0.1:80\n")), ["E106"; 2]);
    assert_eq!(codes(&frontend("    bind :80\n    nbthread 3\n    lua-load x\n")), ["E106"; 2]);
    assert_eq!(codes("global\n    bind :80\n    option tcplog\n    timeout client 3s\n"), ["E106"; 3]);
}

#[test]
fn zero_warning() {
    assert_eq!(codes(&format!("global\n    zero-warning\n{}", frontend("    bind :80\n"))), [""; 0]);
    let text = format!("global\n    zero-warning\n{}", frontend("    bind :80\n    timeout client 5\n"));
    assert_eq!(codes(&text), ["E109", "W101"]);
    assert!(model("global\n    zero-warning\n").process.zero_warning);
}

#[test]
fn a_configuration_of_hitch_is_recognised() {
    for text in
        ["frontend = {\n    port = \"443\"\n}\nbackend = \"[::1]:80\"\n", "backend = \"[::1]:80\"\n", "workers = 4\n"]
    {
        assert_eq!(codes(text), ["E112"], "{text}");
    }
}
