//! The wording and the place of messages: what operators copy into bug reports.

use super::{HEAD, TAIL, backend, frontend, read, rendered};
use crate::conf::diagnostic::{Diagnostic, Severity, shown};
use crate::conf::model::Location;

#[test]
fn typing_error_suggests_the_parameter() {
    let text = frontend("    bind :18443 ssl crt a.pem verfy required ca-file ca.pem\n");
    assert_eq!(
        rendered(&text, &[]),
        "\
bowline.cfg:9:31: error[E101]: unknown bind parameter 'verfy'
   9 |     bind :18443 ssl crt a.pem verfy required ca-file ca.pem
     |                               ^^^^^ did you mean 'verify'?
"
    );
}

#[test]
fn http_mode_is_one_error_for_the_whole_section() {
    let text = frontend("    mode http\n    bind :80\n    http-request deny\n");
    assert_eq!(
        rendered(&text, &[]),
        "\
bowline.cfg:9:10: error[E201]: 'mode http' in frontend 'fe': this program relays bytes and does not parse HTTP
   9 |     mode http
     |          ^^^^
help: use 'mode tcp' here and hand the connection to an HAProxy in 'mode http' (server … send-proxy-v2)
note: 1 more line of this section is HTTP-only: 'http-request' (line 11)
"
    );
}

#[test]
fn times_say_what_to_write() {
    let said = |value: &str| rendered(&frontend(&format!("    bind :80\n    timeout client {value}\n")), &[]);
    assert!(said("30sec").starts_with("bowline.cfg:10:20: error[E103]: '30sec' is not a time; write '30s'\n"));
    assert!(
        said("30").starts_with(
            "bowline.cfg:10:20: warning[W101]: 'timeout client 30' is 30 milliseconds; write '30s' or '30ms'\n"
        ),
        "{}",
        said("30")
    );
    assert!(
        said("1.5s")
            .starts_with("bowline.cfg:10:20: error[E103]: '1.5s' is not a time (whole numbers only); write '1500ms'\n")
    );
    assert!(said("1.5h").contains("write '5400s'"));
    assert!(said("99us").contains("too short a time"));
    assert!(said("25d").contains("too long a time"));
    assert!(said("soon").contains("'soon' is not a time; write '30s'"));
}

#[test]
fn unknown_backend_names_the_near_one() {
    let text = format!(
        "{HEAD}frontend fe\n    bind :80\n    default_backend bakend\nbackend backend1\n    server s 127.0.0.1:80\n"
    );
    assert_eq!(
        rendered(&text, &[]),
        "\
bowline.cfg:10:21: error[E401]: no backend named 'bakend'
  10 |     default_backend bakend
     |                     ^^^^^^ did you mean 'backend1' (defined at line 11)?
"
    );
}

#[test]
fn certificate_without_ssl_would_be_plaintext() {
    let text = frontend("    bind :18443 crt /etc/bowline/certs/a.pem\n");
    assert_eq!(
        rendered(&text, &[]),
        "\
bowline.cfg:9:17: error[E210]: 'crt' is given but 'ssl' is missing: this socket would accept plaintext
   9 |     bind :18443 crt /etc/bowline/certs/a.pem
     |                 ^^^ write 'ssl crt …' here
"
    );
}

#[test]
fn verification_without_authority() {
    let text = frontend("    bind :18443 ssl crt a.pem verify required\n");
    assert_eq!(
        rendered(&text, &[]),
        "\
bowline.cfg:9:31: error[E211]: 'verify required' needs 'ca-file' (or 'ca-verify-file'): nobody could be verified
   9 |     bind :18443 ssl crt a.pem verify required
     |                               ^^^^^^
help: add 'ca-file <file>' with the authority of your clients
"
    );
}

#[test]
fn variables_that_are_not_set() {
    let text =
        format!("{}{}", frontend("    bind \"${TLS_ADDR}:18443\"\n"), "backend b2\n    server s \"${APP_ADDR}\"\n");
    assert_eq!(
        rendered(&text, &[]),
        "\
bowline.cfg:9:11: warning[W103]: environment variable TLS_ADDR is not set; the address becomes ':18443' = all IPv4 addresses
   9 |     bind \"${TLS_ADDR}:18443\"
     |           ^^^^^^^^^
help: \"${TLS_ADDR-value}\" sets a default
bowline.cfg:14:14: error[E104]: \"${APP_ADDR}\" is empty because APP_ADDR is not set
  14 |     server s \"${APP_ADDR}\"
     |              ^^^^^^^^^^^^^
help: leave it out, or give the variable a value
"
    );
}

#[test]
fn old_versions_of_tls() {
    let text =
        frontend("    bind :18443 ssl crt a.pem ssl-min-ver TLSv1.0\n    bind :18444 ssl crt a.pem force-tlsv11\n");
    let said = rendered(&text, &[]);
    assert!(
        said.starts_with(
            "bowline.cfg:9:43: warning[W301]: TLS 1.0 and 1.1 do not exist here; the minimum is TLS 1.2\n"
        )
    );
    assert!(said.contains(
        "bowline.cfg:10:31: error[E301]: 'force-tlsv11': this version of TLS does not exist here (TLS 1.2 and 1.3 only)"
    ));
}

#[test]
fn tls_towards_a_server_is_never_ignored() {
    let said = rendered(&backend("    server s 10.0.0.1:443 ssl verify none\n"), &[]);
    assert!(said.contains(
        "9:27: error[E230]: 'ssl' on a server asks for TLS towards 10.0.0.1:443; this program would send plaintext, so it refuses to start"
    ));
}

#[test]
fn given_twice_tells_where_first() {
    let text = frontend("    bind :80\n    timeout client 1m\n    timeout client 2m\n");
    assert!(
        rendered(&text, &[])
            .starts_with("bowline.cfg:11:5: error[E105]: 'timeout client' is given twice (first at line 10)\n")
    );
}

#[test]
fn later_words_say_what_to_do_until_then() {
    let said = rendered(&backend("    balance leastconn\n    server s 127.0.0.1:80\n"), &[]);
    assert_eq!(
        said,
        "\
bowline.cfg:9:5: error[E120]: 'balance' is valid HAProxy but not implemented yet
   9 |     balance leastconn
     |     ^^^^^^^
help: until then: one server in each backend, without 'balance'
"
    );
}

#[test]
fn everything_is_reported_in_one_run() {
    let text = format!(
        "{HEAD}frontend fe\n    bind :80 nme x\n    maxcon 3\n    default_backend nowhere\nbackend app\n    server s 1.2.3:80\n"
    );
    let codes: Vec<_> = read(&text).diagnostics.iter().map(|d| (d.at.line, d.code)).collect();
    assert_eq!(codes, [(9, "E101"), (10, "E101"), (11, "E401"), (13, "E103")]);
}

#[test]
fn at_most_fifty_errors_a_file() {
    let text = format!("{HEAD}frontend fe\n{}{TAIL}", "    xyzzy-plugh\n".repeat(500));
    let parsed = read(&text);
    let errors = parsed.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    assert_eq!(errors, 50);
    assert_eq!(parsed.diagnostics.last().map(|d| d.code), Some("N011"), "the reader is told that there may be more");
}

#[test]
fn remarks_are_limited_but_errors_are_not_crowded_out() {
    let text = format!("{HEAD}{}    frobnicate\n", "defaults\n    timeout client 1\n".repeat(100));
    let parsed = read(&text);
    let count = |severity| parsed.diagnostics.iter().filter(|d| d.severity == severity).count();
    assert_eq!((count(Severity::Warning), count(Severity::Error)), (50, 1));
}

#[test]
fn one_notice_for_each_inert_keyword() {
    let text = format!("{HEAD}    errorfile 400 /a\n    errorfile 403 /b\n    cookie x\n{TAIL}");
    assert_eq!(
        rendered(&text, &[]),
        "\
bowline.cfg:8:5: notice[N001]: 'errorfile' has no effect here: it is about HTTP (line kept for HAProxy) (2 lines)
   8 |     errorfile 400 /a
     |     ^^^^^^^^^
bowline.cfg:10:5: notice[N001]: 'cookie' has no effect here: it is about HTTP (line kept for HAProxy)
  10 |     cookie x
     |     ^^^^^^
"
    );
}

fn place(line: u32, column: u32) -> Location {
    Location { file: "f".into(), line, column }
}

#[test]
fn rendering_survives_tabs_escapes_and_long_lines() {
    let diagnostic = Diagnostic::error("E220", &place(3, 4), "no key").span(2).label("here").note("why");
    assert_eq!(
        diagnostic.render(Some("\ta\x1bbc")),
        "f:3:4: error[E220]: no key\n   3 |  a\u{fffd}bc\n     |    ^^ here\nnote: why\n"
    );
    assert_eq!(diagnostic.render(None), "f:3:4: error[E220]: no key\nhelp: here\nnote: why\n");
    let long = "x".repeat(100_000);
    let far = Diagnostic::error("E100", &place(1, 90_000), "far").span(50_000).render(Some(&long));
    assert!(far.len() < 800, "a long line is cut");
    let beyond = Diagnostic::warning("W1", &place(1, 500), "beyond").span(3).render(Some("short"));
    assert!(beyond.contains('^'));
}

#[test]
fn words_in_messages_are_escaped_and_capped() {
    assert_eq!(shown(b"a\x1b[31m\n"), "a\\u{1b}[31m\\n");
    assert_eq!(shown(&[b'x'; 500]).chars().count(), 65);
    assert_eq!(shown(b"\xff"), "\u{fffd}");
}
