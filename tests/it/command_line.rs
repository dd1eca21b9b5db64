//! Options, and what is said about them: help, manual pages, completion.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::support::bowline::{Site, program};
use super::support::certs::Leaf;
use super::support::peers::skipped;
use super::support::pki;

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
    let refused = run(&["--manual", "none"]);
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    let names = refused.lines().next().and_then(|line| line.split_once("there are ")).expect("the names").1;
    assert!(names.starts_with("bowline, bowline.cfg"), "{names}");
    for page in names.split(", ") {
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

/// What does not depend on the version and on what is built in is what it is to HAProxy, errors too.
#[test]
fn conditions_mean_what_they_mean_to_haproxy() {
    if skipped() {
        return;
    }
    for condition in [
        "1",
        "0",
        "7",
        "00",
        "!1",
        "!0",
        "!!1",
        "(1)",
        "((0))",
        "( 1 )",
        "1 && 0",
        "1&&1",
        "0||1",
        "1 || 0 && 0",
        "(1 || 0) && 0",
        "0 && 0 || 1",
        "!(1 && 0)",
        "! 0",
        "streq(a,a)",
        "streq(a,b)",
        "streq(a, a)",
        "streq( a,a)",
        "streq(\"a b\",a b)",
        "streq(\"'a,b'\",'\"a,b\"')",
        "streq(,)",
        "streq(a,)",
        "strneq(a,a)",
        "strneq(a,b)",
        "streq(a\\ b,'a b')",
        "defined(SET)",
        "defined(UNSET)",
        "!defined(UNSET)",
        "defined( SET)",
        "streq(\"$SET\",value)",
        "streq(\"${UNSET-value}\",\"$SET\")",
        "streq('$SET',value)",
        "feature(OPENSSL)",
        "feature(NO_SUCH)",
        "feature(BOWLINE_OF_NOBODY)",
        "version_atleast(2.0)",
        "version_before(2.0)",
        "version_atleast(2.0-dev5)",
        "streq(a,a) && !streq(a,b) || 0",
        "nonsense(1)",
        "nonsense",
        "streq(a",
        "streq(a)",
        "(1",
        "1)",
        "1 1",
        "1 &&",
        "&& 1",
        "!",
        "\"open",
        "streq(a,a))",
    ] {
        let code = |program: &std::ffi::OsStr| {
            let mut command = Command::new(program);
            command.args(["-cc", condition]).env("SET", "value").env_remove("UNSET");
            let output = command.output().unwrap_or_else(|error| panic!("{program:?}: {error}"));
            output.status.code().map(|code| code.min(2))
        };
        assert_eq!(code(program().as_os_str()), code("haproxy".as_ref()), "{condition}");
    }
}

/// A configuration with two names, a list and a header: `-c` with these options.
#[track_caller]
fn checked(lines: &str, options: &[&str]) -> (Option<i32>, String) {
    let site = Site::new();
    let other = pki().server_ca.issue(&Leaf::server(&["other.test", "*.other.test"]));
    site.write("other.pem", other.pem());
    site.write("list", "other.pem [verify required ca-file ca.pem alpn x] www.other.test\n");
    let text = format!(
        "global\n    user nobody\ndefaults\n    timeout connect 5s\n    timeout client 1m\n    timeout server 1m\nfrontend fe\n{lines}    \
         default_backend be\nbackend be\n    server s 192.0.2.1:80 send-proxy-v2 proxy-v2-options ssl,cert-cn,authority\n"
    );
    site.configure(&text);
    let mut command = Command::new(program());
    command.arg("-C").arg(site.dir()).args(["-c", "-f", "bowline.cfg"]).args(options).stdin(Stdio::null());
    let output = command.output().expect("bowline runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), said)
}

#[test]
fn a_check_shows_what_was_understood() {
    let lines = "    bind 192.0.2.9:443,:444 ssl crt server.pem crt other.pem alpn h2 verify optional ca-file ca.pem crl-file crl.pem\n    \
                 bind :445 ssl crt-list list strict-sni ssl-min-ver TLSv1.3\n    bind /run/x accept-proxy\n";
    let (code, said) = checked(lines, &["-V"]);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "frontend fe (bowline.cfg:7)\n  listens on 192.0.2.9:443, 0.0.0.0:444: TLS 1.2 and 1.3\n    name ",
        "\n    name other.test: certificate \"/CN=other.test\" serial ",
        "\n    name *.other.test: certificate \"/CN=other.test\" serial ",
        "\n    other names, and none: certificate \"",
        "\n    clients are asked for a certificate, and may come without, and may speak h2\n      client CA \"",
        "\n      CRL of \"",
        "\n  listens on 0.0.0.0:445: TLS 1.3\n    name www.other.test: certificate \"/CN=other.test\"",
        " EC256 from 'other.pem' with settings of its own\n    other names, and none: refused (alert 112)\n",
        "\n    clients of 'other.pem' must show a certificate, and may speak x\n",
        "\n  listens on /run/x: plaintext, behind a PROXY header\n",
        "\n  connections go to backend be\n    server s at 192.0.2.1:80, with a PROXY header of version 2: alpn, authority, ssl, cert-cn\n",
        "Configuration file is valid: 0 errors, 0 warnings, 0 notices\n",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    let (_, brief) = checked(lines, &[]);
    assert!(!brief.contains("listens on"), "{brief}");
    assert_eq!(checked(lines, &["-q"]), (Some(0), String::new()));
}

#[test]
fn a_check_shows_sockets_of_the_process() {
    let lines = "    bind :443 ssl crt server.pem\n    default_backend be\nglobal\n    stats socket /run/x.ctl level operator\nfrontend two\n    bind :444 ssl crt server.pem\n";
    let (code, said) = checked(lines, &["-V"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("commands, up to level operator, at /run/x.ctl\n"), "{said}");
}

#[test]
fn what_haproxy_would_not_read_is_pointed_out() {
    let bare = "    bind :443 ssl crt server.pem sni-nomatch-abort\n";
    let (code, said) = checked(bare, &["--haproxy"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("bowline.cfg:8:34: error[E701]: 'sni-nomatch-abort' is an extension"), "{said}");
    assert!(said.contains("help: put the line between '.if feature(BOWLINE)' and '.endif'"), "{said}");
    assert_eq!(checked(bare, &[]).0, Some(0));
    let wrapped = format!(".if feature(BOWLINE)\n{bare}.else\n    bind :443 ssl crt server.pem\n.endif\n");
    let (code, said) = checked(&wrapped, &["--haproxy"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn quiet_is_quiet_and_verbose_undoes_it() {
    let quiet =
        "    default_backend be\n    bind :443 ssl crt server.pem ca-file ca.pem\nglobal\n    quiet\nfrontend two\n";
    assert_eq!(checked(quiet, &[]), (Some(0), String::new()));
    let (code, said) = checked(quiet, &["-V"]);
    assert!(code == Some(0) && said.contains("W211") && said.contains("listens on"), "{said}");
    assert_eq!(checked(quiet, &["-dW"]).0, Some(1));
}

#[test]
fn messages_are_coloured_on_a_terminal_only() {
    let lines = "    bind :443 ssl crt server.pem verfy\n";
    assert!(!checked(lines, &[]).1.contains('\x1b'));
    let site = Site::new();
    site.configure("global\n    maxcon 5\n");
    let on_terminal = |colour: Option<&str>| {
        let shell = format!("exec '{}' -c -f '{}'", program().display(), site.path("bowline.cfg").display());
        let mut command = Command::new("script");
        command.args(["-qec", &shell, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
        if let Some(value) = colour {
            command.env("NO_COLOR", value);
        }
        let output = command.output().expect("script(1), of util-linux");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let coloured = on_terminal(None);
    assert!(coloured.contains("\x1b[31merror[E101]\x1b[0m"), "{coloured:?}");
    let plain = on_terminal(Some("1"));
    assert!(plain.contains("error[E101]") && !plain.contains('\x1b'), "{plain:?}");
}
