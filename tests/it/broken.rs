//! Configurations that must be refused, each with the place of the fault and a word that helps.

use super::support::bowline::{Bowline, Site};

/// The good configuration that each test breaks in one line. Lines count from 1.
const GOOD: &str = "\
global
    log stderr format raw local0
    nbthread 1

defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m

frontend fe
    bind {port:main} name main ssl crt {dir}/server.pem
    default_backend be

backend be
    server s 127.0.0.1:9 send-proxy-v2
";

fn broken(line: usize, text: &str) -> String {
    let mut lines: Vec<&str> = GOOD.lines().collect();
    lines[line - 1] = text;
    lines.join("\n") + "\n"
}

/// Replaces a line; the message must stand at that line, and contain all `words`.
#[track_caller]
fn refused(line: usize, text: &str, words: &[&str]) {
    let site = Site::new();
    let checked = site.check(&site.fill_in(&broken(line, text)));
    assert_eq!(checked.code, Some(1), "exit code; output:\n{}", checked.text);
    assert!(!checked.text.contains("panicked"), "{}", checked.text);
    let place = format!("bowline.cfg:{line}:");
    let message = checked.text.lines().find(|message| message.contains(&place) && message.contains(": error["));
    let message = message.unwrap_or_else(|| panic!("no error at line {line} in:\n{}", checked.text));
    let after = &message[message.find(&place).expect("just found") + place.len()..];
    let column = after.split(':').next().and_then(|word| word.parse().ok());
    assert!(column.is_some_and(|column: usize| column > 0), "{message}");
    for word in words {
        assert!(checked.text.contains(word), "no {word:?} in:\n{}", checked.text);
    }
}

#[test]
fn the_good_one_is_accepted() {
    let site = Site::new();
    let checked = site.check(&site.fill_in(GOOD));
    assert_eq!(checked.code, Some(0), "{}", checked.text);
}

#[test]
fn a_typing_error_is_corrected() {
    let line = "    bind {port:main} ssl crt {dir}/server.pem verfy required";
    refused(12, line, &["error[E101]", "'verfy'", "'verify'"]);
}

#[test]
fn an_unknown_section_is_named() {
    refused(11, "frontned fe", &["frontned", "frontend"]);
}

#[test]
fn a_certificate_without_ssl_is_refused() {
    let line = "    bind {port:main} crt {dir}/server.pem";
    refused(12, line, &["error[E210]", "ssl"]);
}

#[test]
fn verification_without_a_ca_is_refused() {
    let line = "    bind {port:main} ssl crt {dir}/server.pem verify required";
    refused(12, line, &["error[E211]", "ca-file"]);
}

#[test]
fn a_wrong_time_is_refused() {
    refused(8, "    timeout client 30sec", &["error[E103]", "30sec"]);
    refused(8, "    timeout client 1.5s", &["error[E103]", "1.5s"]);
    refused(8, "    timeout client soon", &["soon"]);
}

#[test]
fn an_unknown_backend_is_named() {
    refused(13, "    default_backend bee", &["error[E401]", "'bee'"]);
}

#[test]
fn tls_towards_a_server_is_never_ignored() {
    refused(16, "    server s 127.0.0.1:9 ssl verify none", &["error[E230]"]);
}

#[test]
fn http_mode_is_refused() {
    refused(13, "    mode http", &["error[E201]", "http"]);
}

#[test]
fn old_versions_of_tls_are_refused() {
    let line = "    bind {port:main} ssl crt {dir}/server.pem force-tlsv11";
    refused(12, line, &["error[E301]"]);
}

#[test]
fn a_certificate_file_that_is_missing_is_named() {
    refused(12, "    bind {port:main} ssl crt {dir}/absent.pem", &["absent.pem"]);
}

#[test]
fn a_bind_line_without_a_port_is_refused() {
    refused(12, "    bind 127.0.0.1 ssl crt {dir}/server.pem", &["127.0.0.1"]);
}

#[test]
fn a_port_out_of_range_is_refused() {
    refused(16, "    server s 127.0.0.1:99999", &["99999"]);
}

#[test]
fn an_unknown_header_option_is_refused() {
    let line = "    server s 127.0.0.1:9 send-proxy-v2 proxy-v2-options cert-cm";
    refused(16, line, &["cert-cm"]);
}

#[test]
fn an_unknown_sample_is_refused() {
    let line = "    server s 127.0.0.1:9 send-proxy-v2 set-proxy-v2-tlv-fmt(0xE1) %[ssl_c_dre]";
    refused(16, line, &["ssl_c_dre"]);
}

#[test]
fn a_type_out_of_range_is_refused() {
    let line = "    server s 127.0.0.1:9 send-proxy-v2 set-proxy-v2-tlv-fmt(256) %[ssl_c_der]";
    refused(16, line, &["256"]);
}

#[test]
fn a_wrong_number_is_refused() {
    refused(3, "    nbthread some", &["some"]);
    refused(3, "    nbthread 0", &["nbthread"]);
}

#[test]
fn an_open_quote_is_refused() {
    refused(6, "    mode \"tcp", &["quote"]);
}

#[test]
fn all_errors_are_told_in_one_run() {
    let site = Site::new();
    let text = broken(8, "    timeout client 30sec");
    let text = text.replace("default_backend be", "default_backend bee");
    let checked = site.check(&site.fill_in(&text));
    assert_eq!(checked.code, Some(1));
    for place in ["bowline.cfg:8:", "bowline.cfg:13:"] {
        assert!(checked.text.contains(place), "{}", checked.text);
    }
}

#[test]
fn nonsense_of_any_kind_is_refused_in_words() {
    let site = Site::new();
    for text in [
        "",
        "# all of it commented out\n",
        "\u{0}\u{1}\u{2}",
        "bind :443\n",
        "frontend\n",
        "frontend fe\n    bind\n",
        &"frontend fe\n".repeat(2),
        &"x ".repeat(100_000),
        "frontend fe\n    bind \"${NOT_SET}\"\n",
        ".if\n",
        ".endif\n",
    ] {
        let checked = site.check(text);
        let shown = &text[..text.len().min(40)];
        assert_eq!(checked.code, Some(1), "{shown:?}:\n{}", checked.text);
        assert!(!checked.text.contains("panicked"), "{shown:?}: {}", checked.text);
        assert!(!checked.text.trim().is_empty(), "{shown:?}: no word");
    }
}

#[test]
fn a_configuration_that_serves_nothing_is_accepted_with_a_notice() {
    let checked = Site::new().check("global\ndefaults\n    mode tcp\n");
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    assert!(checked.text.contains("notice[N411]: no frontend listens"), "{}", checked.text);
    let site = Site::new();
    let checked = site.check(&site.fill_in(GOOD));
    assert!(!checked.text.contains("N411"), "{}", checked.text);
}

#[test]
fn a_broken_configuration_fails_the_start() {
    let site = Site::new();
    let text = site.fill_in(&broken(13, "    default_backend bee"));
    let failure = Bowline::start_refused(site, &text);
    assert_eq!(failure.status.and_then(|status| status.code()), Some(1));
    assert!(failure.log.contains("bowline.cfg:13:"), "{}", failure.log);
}
