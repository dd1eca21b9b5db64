//! What is not accepted, or not silently: dangers, and words that HAProxy has and this program has not.

use super::{HEAD, TAIL, backend, codes, findings, frontend, read};

#[test]
fn plaintext_by_mistake() {
    for words in [
        "crt a.pem",
        "verify required",
        "ca-file a",
        "crl-file a",
        "alpn h2",
        "strict-sni",
        "sni-nomatch-abort",
        "ssl-min-ver TLSv1.2",
        "force-tlsv13",
    ] {
        assert_eq!(codes(&frontend(&format!("    bind :1 {words}\n"))), ["E210"], "{words}");
    }
    assert_eq!(codes(&frontend("    bind :1 crt a.pem alpn h2\n")), ["E210"], "once a line");
    assert_eq!(codes(&frontend("    bind :1 accept-proxy name x\n")), [""; 0]);
    assert_eq!(codes(&frontend("    bind :1 crt a.pem ssl\n")), [""; 0], "the order is free");
}

#[test]
fn verification_that_verifies_nobody() {
    let said = |words: &str| codes(&frontend(&format!("    bind :1 ssl crt a {words}\n")));
    assert_eq!(said("verify required"), ["E211"]);
    assert_eq!(said("verify optional"), ["E211"]);
    assert_eq!(said("verify none"), [""; 0]);
    assert_eq!(said("ca-file a"), ["W211"]);
    assert_eq!(said("ca-file a verify none"), ["W211"]);
    assert_eq!(said("crl-file a"), ["W212"]);
    assert_eq!(said("ca-file a crl-file a"), ["W211", "W212"]);
    assert_eq!(said("ca-file a crl-file a verify required"), [""; 0]);
    assert_eq!(codes(&frontend("    bind :1 ssl\n")), ["E212"]);
}

#[test]
fn tls_to_servers() {
    let said = |words: &str| codes(&backend(&format!("    server s 127.0.0.1:80 {words}\n")));
    assert_eq!(said("ssl"), ["E230"]);
    assert_eq!(said("check-ssl"), ["E230"]);
    assert_eq!(said("no-ssl no-check-ssl"), [""; 0]);
    assert_eq!(said("verify none sni str(x)"), ["N001"; 2]);
    let inherited = "    default-server ssl\n    server s 127.0.0.1:80";
    assert_eq!(findings(&read(&backend(&format!("{inherited}\n")))), ["9:20 E230"]);
    assert_eq!(codes(&backend(&format!("{inherited} no-ssl\n"))), [""; 0]);
}

#[test]
fn missing_timeouts() {
    let bare = "frontend f\n    bind :1\n    default_backend b\nbackend b\n    server s 127.0.0.1:80\n";
    assert_eq!(findings(&read(bare)), ["1:1 W102", "4:1 W102"]);
    assert_eq!(codes(&frontend("    bind :1\n    timeout client 0\n")), ["W102"], "0 is not set");
}

#[test]
fn suspicious_and_impossible_times() {
    let said = |value: &str| codes(&frontend(&format!("    bind :1\n    timeout client {value}\n")));
    assert_eq!(said("99"), ["W101"]);
    for fine in ["100", "99ms", "2147483647", "2147483647ms", "24d", "5m", "1000us"] {
        assert_eq!(said(fine), [""; 0], "{fine}");
    }
    for bad in ["2147483648", "25d", "30sec", "1.5s", "", "s", "-1", "1e3", "99999999999999999999", "500us", "1 s"] {
        let codes = said(bad);
        assert!(matches!(codes.as_slice(), ["E103"] | ["E102"]), "{bad}: {codes:?}");
    }
}

#[test]
fn sections_that_lead_nowhere() {
    assert_eq!(codes(&format!("{HEAD}frontend f\n    bind :1\n")), ["E411"]);
    assert_eq!(codes(&format!("{HEAD}listen f\n    bind :1\n")), ["E411"]);
    assert_eq!(codes(&format!("{HEAD}backend f\n")), ["E412"]);
    assert_eq!(codes(&frontend("")), ["W411"]);
    assert_eq!(
        codes(&format!(
            "{HEAD}frontend f\n    bind :1\n    default_backend f2\nfrontend f2\n    bind :2\n    default_backend app\n{TAIL}"
        )),
        ["E401"]
    );
}

#[test]
fn a_second_server_waits_for_balancing() {
    assert_eq!(findings(&read(&backend("    server a 127.0.0.1:80\n    server b 127.0.0.1:81\n"))), ["10:5 E120"]);
}

#[test]
fn modes() {
    assert_eq!(codes(&frontend("    bind :1\n    mode http\n")), ["E201"]);
    assert_eq!(codes(&frontend("    bind :1\n    mode log\n")), ["E205"]);
    assert_eq!(codes(&frontend("    bind :1\n    mode udp\n")), ["E101"]);
    let in_defaults = HEAD.replace("mode tcp", "mode http");
    let section = |mode: &str| format!("{in_defaults}listen l\n{mode}    bind :1\n    server s 127.0.0.1:80\n");
    assert_eq!(findings(&read(&section(""))), ["8:1 E201"], "inherited: the section is pointed at");
    assert_eq!(codes(&section("    mode tcp\n")), [""; 0], "accepted where it is overridden");
    assert_eq!(codes(&in_defaults), [""; 0]);
}

#[test]
fn http_words() {
    assert_eq!(codes(&frontend("    bind :1\n    http-request deny\n    option forwardfor\n")), ["E201"; 2]);
    assert_eq!(codes(&frontend("    bind :1\n    timeout http-request 5s\n")), ["W201"]);
    let defaults = format!(
        "{HEAD}    option forwardfor\n    timeout http-request 5s\n    option http-server-close\n    stats enable\n"
    );
    assert_eq!(codes(&defaults), ["N001"; 4]);
    assert_eq!(codes(&frontend("    bind :1\n    no option http-server-close\n")), ["N001"], "asks for nothing");
    let httplog = format!("{HEAD}    option httplog\nlisten l\n    bind :1\n    server s 127.0.0.1:80\n");
    let parsed = read(&httplog);
    assert_eq!(super::codes_of(&parsed), ["N001"]);
    assert!(parsed.model.expect("no error").frontends[0].tcplog, "becomes tcplog, as in HAProxy");
}

#[test]
fn words_by_class() {
    let in_global = |line: &str| codes(&format!("global\n    {line}\n"));
    let in_frontend = |line: &str| codes(&frontend(&format!("    bind :1\n    {line}\n")));
    let on_bind = |words: &str| codes(&frontend(&format!("    bind :1 ssl crt x {words}\n")));
    let on_server = |words: &str| codes(&backend(&format!("    server s 127.0.0.1:80 {words}\n")));
    assert_eq!(in_global("stats socket /run/x expose-fd listeners"), ["N001"]);
    assert_eq!(in_global("setcap cap_net_bind_service"), ["N001"]);
    assert_eq!(in_global("tune.h2.initial-window-size 5"), ["N001"], "a family");
    assert_eq!(in_global("tune.ssl.ocsp-update.mindelay 5"), ["E120"], "the longer family wins");
    assert_eq!(in_global("tune.h2.nonsense 5"), ["E101"], "a family has HAProxy's words only");
    assert_eq!(in_global("lua-load x"), ["E204"]);
    assert_eq!(in_global("ssl-engine x"), ["E303"]);
    assert_eq!(in_global("master-worker"), ["N001"]);
    assert_eq!(in_global("ssl-default-bind-options allow-0rtt"), ["E205"]);
    assert_eq!(in_frontend("acl x src 1.2.3.4"), ["E120"]);
    assert_eq!(in_frontend("tcp-request connection reject"), ["E120"]);
    assert_eq!(in_frontend("use_backend app if TRUE"), ["E120"]);
    assert_eq!(in_frontend("stick-table type ip size 1"), ["E203"]);
    assert_eq!(in_frontend("filter spoe"), ["E204"]);
    assert_eq!(in_frontend("option splice-auto"), ["N001"]);
    assert_eq!(in_frontend("option forceclose"), ["E120"], "HAProxy's, without a row");
    assert_eq!(in_frontend("option tcplgo"), ["E101"]);
    assert_eq!(in_frontend("option"), ["E102"]);
    assert_eq!(in_frontend("timeout cleint 5s"), ["E101"]);
    assert_eq!(in_frontend("timeout queue 5s"), ["E120"]);
    assert_eq!(in_frontend("clitimeout 5s"), ["E205"], "HAProxy's, removed");
    assert_eq!(on_bind("sigalgs RSA+SHA256"), ["E120"]);
    assert_eq!(on_bind("npn h2"), ["E205"]);
    assert_eq!(on_bind("force-tlsv10"), ["E301"]);
    assert_eq!(on_bind("nice 5 level admin"), ["N001", "E106"]);
    assert_eq!(on_server("check inter 2s"), ["E120"; 2]);
    assert_eq!(on_server("cookie x"), ["E201"]);
    assert_eq!(on_server("no-tlsv11"), ["N001"]);
    assert_eq!(on_server("weigth 5"), ["E101"]);
}

#[test]
fn words_without_effect_have_their_place_too() {
    assert_eq!(codes(&format!("{HEAD}    description x\n")), ["E106"]);
    assert_eq!(codes(&frontend("    bind :1\n    description x\n    id 5\n")), ["N001"; 2]);
    assert_eq!(codes("global\n    option splice-auto\n"), ["E106"]);
}

#[test]
fn sections_of_haproxy() {
    for (section, code) in [
        ("peers x", "E110"),
        ("resolvers x", "E120"),
        ("crt-store", "E120"),
        ("userlist x", "E110"),
        ("cache x", "E110"),
    ] {
        assert_eq!(
            codes(&format!("{section}\n    whatever 5\n    peer a 1.2.3.4:5\nglobal\n")),
            [code],
            "{section}: its lines are not blamed"
        );
    }
}

#[test]
fn log_targets_that_do_not_exist() {
    let said = |target: &str| codes(&format!("global\n    log {target} local0\n"));
    assert_eq!(said("ring@x"), ["E205"]);
    assert_eq!(said("backend@x"), ["E205"]);
    assert_eq!(said("tcp@127.0.0.1:514"), ["E120"]);
    assert_eq!(said("loghost:514"), ["E103"]);
    assert_eq!(said("udp@127.0.0.1"), [""; 0]);
    assert_eq!(said("stderr sample 1:2"), ["E120"]);
    assert_eq!(said("stderr profile x"), ["E205"]);
    assert_eq!(codes("global\n    log global\n"), ["E102"]);
    assert_eq!(codes(&frontend("    bind :1\n    log global local0\n")), ["E102"]);
    assert_eq!(codes(&frontend("    bind :1\n    log stderr\n")), ["E102"]);
}
