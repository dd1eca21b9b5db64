//! From lines to the model.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{HEAD, TAIL, codes, frontend, model};
use crate::conf::model::{Bind, BindAddress, CrtKind, LogFraming, LogSink, SniPolicy, TlsVersion, Verify};

#[test]
fn global_settings() {
    let model = model(
        "\
global
    user bowline
    gid 33
    nbthread 4
    maxconn 1000
    pidfile /run/bowline.pid
    daemon
    hard-stop-after 30s
    log-tag edge
    tune.ssl.lifetime 10m
    log stdout format iso daemon notice err
    log fd@5 len 2048 local7
    log [::1]:1514 format rfc5424 kern
    log /dev/log user
",
    );
    let process = model.process;
    assert_eq!(process.user.map(|at| at.value).as_deref(), Some("bowline"));
    assert_eq!(process.group.map(|at| at.value).as_deref(), Some("33"));
    assert_eq!(process.threads.map(|at| at.value), Some(4));
    assert_eq!(process.maxconn.map(|at| at.value), Some(1000));
    assert_eq!(process.pidfile.map(|at| at.value), Some(PathBuf::from("/run/bowline.pid")));
    assert!(process.daemon && !process.zero_warning);
    assert_eq!(process.hard_stop_after, Some(Duration::from_secs(30)));
    assert_eq!(process.log_tag.as_deref(), Some("edge"));
    assert_eq!(process.session_lifetime, Duration::from_secs(600));
    let logs: Vec<_> = process
        .logs
        .iter()
        .map(|l| (l.sink.clone(), l.max_length, l.format, l.facility, l.max_level, l.min_level))
        .collect();
    let udp = LogSink::Udp("[::1]:1514".parse().expect("address"));
    assert_eq!(
        logs,
        [
            (LogSink::Descriptor(1), 1024, LogFraming::Iso, 3, 5, 3),
            (LogSink::Descriptor(5), 2048, LogFraming::Raw, 23, 7, 0),
            (udp, 1024, LogFraming::Rfc5424, 0, 7, 0),
            (LogSink::Unix("/dev/log".into()), 1024, LogFraming::Usual, 1, 7, 0),
        ]
    );
}

#[test]
fn session_lifetime_is_in_seconds() {
    assert_eq!(model("global\n    tune.ssl.lifetime 60\n").process.session_lifetime, Duration::from_secs(60));
    assert_eq!(model("global\n").process.session_lifetime, Duration::from_secs(300));
    assert_eq!(codes("global\n    tune.ssl.lifetime 500ms\n"), ["E103"]);
}

#[test]
fn bad_values_in_global() {
    for line in [
        "maxconn x",
        "maxconn 12k",
        "maxconn -1",
        "maxconn 99999999999",
        "nbthread 0",
        "nbthread 2x",
        "uid root",
        "hard-stop-after 10us",
        "log stderr len 79 daemon",
        "log nowhere local0",
        "log ::1 local0",
        "log * local0",
    ] {
        assert_eq!(codes(&format!("global\n    {line}\n")), ["E103"], "{line}");
    }
    for line in [
        "maxconn",
        "daemon yes",
        "log stderr",
        "pidfile a b",
        "log stderr format raw",
        "log-tag a b",
        "log stderr user err err err",
        "log stderr format raw len 100 user",
    ] {
        assert_eq!(codes(&format!("global\n    {line}\n")), ["E102"], "{line}");
    }
    for line in [
        "log stderr local9",
        "log stderr daemon loud",
        "log stderr format fancy daemon",
        "ssl-default-bind-options strct-sni",
    ] {
        assert_eq!(codes(&format!("global\n    {line}\n")), ["E101"], "{line}");
    }
}

/// The bind lines of a frontend.
#[track_caller]
fn binds(line: &str) -> Vec<Bind> {
    binds_of(&frontend(&format!("    bind {line}\n")))
}

#[track_caller]
fn binds_of(text: &str) -> Vec<Bind> {
    model(text).frontends.remove(0).binds
}

#[track_caller]
fn addresses(line: &str) -> Vec<BindAddress> {
    binds(line).remove(0).addresses.into_iter().map(|at| at.value).collect()
}

fn inet(address: &str, v6only: Option<bool>) -> BindAddress {
    BindAddress::Inet { address: address.parse().expect("address"), v6only, interface: None }
}

#[test]
fn addresses_of_bind() {
    for (line, expected) in [
        (":443", inet("0.0.0.0:443", None)),
        ("*:443", inet("0.0.0.0:443", None)),
        ("[192.0.2.1]:443", inet("192.0.2.1:443", None)),
        (":443,", inet("0.0.0.0:443", None)),
        (":::443", inet("[::]:443", None)),
        ("[::]:443", inet("[::]:443", None)),
        ("::1:443", inet("[::1]:443", None)),
        ("[2001:db8::1]:443", inet("[2001:db8::1]:443", None)),
        ("ipv6@:443", inet("[::]:443", None)),
        ("ipv4@192.0.2.1:443", inet("192.0.2.1:443", None)),
        (":::443 v4v6", inet("[::]:443", Some(false))),
        (":::443 v6only", inet("[::]:443", Some(true))),
        (":::443 v4v6 v6only", inet("[::]:443", Some(true))),
        ("/run/x.sock", BindAddress::Unix("/run/x.sock".into())),
        ("unix@x.sock", BindAddress::Unix("x.sock".into())),
        ("abns@name", BindAddress::Abstract(super::padded("name"))),
        ("fd@7", BindAddress::Descriptor(7)),
        ("fd@front-https", BindAddress::Named("front-https".into())),
    ] {
        assert_eq!(addresses(line), [expected], "{line}");
    }
    assert_eq!(addresses(":80,127.0.0.1:81"), [inet("0.0.0.0:80", None), inet("127.0.0.1:81", None)]);
    assert_eq!(addresses(":80-82"), [80, 81, 82].map(|port| inet(&format!("0.0.0.0:{port}"), None)));
    let list = binds(":80,127.0.0.1:81");
    assert_eq!(list[0].addresses[1].at.column, 14, "each address of a list has its place");
}

#[test]
fn bad_addresses_of_bind() {
    for (address, code) in [
        ("1.2.3.4", "E103"),
        (":0", "E103"),
        (":70000", "E103"),
        (":a", "E103"),
        (":+5", "E103"),
        ("::443", "E103"),
        ("1.2.3:80", "E103"),
        ("localhost:80", "E103"),
        ("ipv6@127.0.0.1:80", "E103"),
        ("ipv4@::1:80", "E103"),
        (",:80", "E103"),
        (":80,,", "E103"),
        (",", "E103"),
        ("unix@", "E103"),
        ("abns@", "E103"),
        ("fd@", "E103"),
        ("fd@3x", "E103"),
        ("fd@a\u{e4}", "E103"),
        ("fd@-1", "E103"),
        ("bogus@1.2.3.4:80", "E103"),
        ("quic4@:443", "E202"),
        ("udp@:443", "E202"),
        ("sockpair@3", "E205"),
        (&format!("/{}", "x".repeat(107)), "E103"),
    ] {
        assert_eq!(codes(&frontend(&format!("    bind {address}\n"))), [code], "{address}");
    }
    assert_eq!(codes(&frontend("    bind\n")), ["E102"]);
}

#[test]
fn tls_of_bind() {
    let text = format!(
        "global\n    crt-base /crt\n    ca-base /ca\n    ssl-default-bind-options ssl-min-ver TLSv1.3 strict-sni\n{}",
        frontend(
            "    bind :1 ssl crt a.pem crt /b.pem ca-file c.pem crl-file d.pem verify optional alpn h2,http/1.1\n    bind :2 ssl crt x no-strict-sni ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2 alpn a no-alpn\n    bind :3\n"
        )
    );
    let model = model(&text);
    let [first, second, plain] = model.frontends[0].binds.as_slice() else { panic!() };
    let tls = first.tls.as_ref().expect("ssl");
    let crt: Vec<&Path> = tls.crt.iter().map(|crt| crt.file.value.as_path()).collect();
    assert_eq!(crt, [Path::new("/crt/a.pem"), Path::new("/b.pem")]);
    assert_eq!(tls.ca_file.as_ref().map(|at| at.value.as_path()), Some(Path::new("/ca/c.pem")));
    assert_eq!(tls.crl_file.as_ref().map(|at| at.value.as_path()), Some(Path::new("/ca/d.pem")));
    assert_eq!(tls.verify, Verify::Optional);
    assert_eq!(tls.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!((tls.min_version, tls.max_version, tls.sni), (TlsVersion::Tls13, TlsVersion::Tls13, SniPolicy::Strict));
    let tls = second.tls.as_ref().expect("ssl");
    assert_eq!((tls.min_version, tls.max_version, tls.sni), (TlsVersion::Tls12, TlsVersion::Tls12, SniPolicy::Lenient));
    assert!(tls.alpn.is_empty());
    assert!(plain.tls.is_none());
    let abort = binds(":1 ssl crt x sni-nomatch-abort").remove(0).tls.expect("ssl");
    assert_eq!(abort.sni, SniPolicy::NomatchAbort);
}

#[test]
fn versions_of_tls() {
    let versions = |words: &str| {
        let tls = binds(&format!(":1 ssl crt x {words}")).remove(0).tls.expect("ssl");
        (tls.min_version, tls.max_version)
    };
    let (v12, v13) = (TlsVersion::Tls12, TlsVersion::Tls13);
    assert_eq!(versions(""), (v12, v13));
    assert_eq!(versions("no-sslv3 no-tlsv10 no-tlsv11"), (v12, v13));
    assert_eq!(versions("force-tlsv12"), (v12, v12));
    assert_eq!(versions("force-tlsv13"), (v13, v13));
    assert_eq!(versions("ssl-min-ver TLSv1.0"), (v12, v13));
    let said = |words: &str| codes(&frontend(&format!("    bind :1 ssl crt x {words}\n")));
    assert_eq!(said("ssl-max-ver TLSv1.1"), ["E301"]);
    assert_eq!(said("ssl-min-ver TLSv1.3 ssl-max-ver TLSv1.2"), ["E301"]);
    assert_eq!(said("ssl-min-ver 1.2"), ["E103"]);
    assert_eq!(said("ssl-min-ver SSLv3"), ["W301"]);
    assert_eq!(versions("no-tlsv12"), (v13, v13));
    assert_eq!(versions("no-tlsv13"), (v12, v12));
    assert_eq!(versions("no-tlsv12 ssl-min-ver TLSv1.2"), (v13, v13), "what is forbidden stays so");
    assert_eq!(said("no-tlsv12 no-tlsv13"), ["E301"]);
    assert_eq!(said("force-tlsv12 no-tlsv12"), ["E301"]);
    let with_global = |options: &str, words: &str| {
        format!(
            "global\n    ssl-default-bind-options {options}\n{}",
            frontend(&format!("    bind :1 ssl crt x {words}\n"))
        )
    };
    let inherited = binds_of(&with_global("no-tlsv13", "")).remove(0).tls.expect("ssl");
    assert_eq!((inherited.min_version, inherited.max_version), (v12, v12));
    assert_eq!(codes(&with_global("no-tlsv12", "no-tlsv13")), ["E301"]);
}

#[test]
fn tickets_and_default_certificates() {
    let tls = |words: &str| binds(&format!(":1 ssl crt x {words}")).remove(0).tls.expect("ssl");
    assert!(tls("").tickets && tls("tls-tickets").tickets && !tls("no-tls-tickets").tickets);
    let global = |words: &str| {
        let text = frontend(&format!("    bind :1 ssl crt x {words}\n"));
        let text = format!("global\n    ssl-default-bind-options no-tls-tickets\n{text}");
        binds_of(&text).remove(0).tls.expect("ssl").tickets
    };
    assert!(!global("") && global("tls-tickets"));
    let crt: Vec<_> = tls("default-crt /y crt z").crt.into_iter().map(|crt| (crt.file.value, crt.kind)).collect();
    assert_eq!(crt, [("x".into(), CrtKind::Plain), ("/y".into(), CrtKind::Default), ("z".into(), CrtKind::Plain)]);
    let said = |words: &str| codes(&frontend(&format!("    bind :1 {words}\n")));
    assert_eq!(said("ssl default-crt x"), [""; 0]);
    assert_eq!(said("default-crt x"), ["E210"]);
    assert_eq!(said("ssl default-crt @store/x"), ["E120"]);
    let based = format!("global\n    crt-base /base\n{}", frontend("    bind :1 ssl default-crt x\n"));
    assert_eq!(binds_of(&based)[0].tls.as_ref().expect("ssl").crt[0].file.value.to_str(), Some("/base/x"));
}

#[test]
fn the_rest_of_bind() {
    let bind = binds("/s mode 660 user a gid 7 backlog 9 maxconn 8 name n accept-proxy").remove(0);
    assert_eq!(bind.unix.mode, Some(0o660));
    assert_eq!((bind.unix.user.as_deref(), bind.unix.group.as_deref()), (Some("a"), Some("7")));
    assert_eq!(
        (bind.backlog, bind.maxconn, bind.name.as_deref(), bind.accept_proxy),
        (Some(9), Some(8), Some("n"), true)
    );
    let said = |words: &str| codes(&frontend(&format!("    bind /s {words}\n")));
    assert_eq!(said("mode 999"), ["E103"]);
    assert_eq!(said("mode tcp"), ["E103"]);
    assert_eq!(said("user a uid 3"), ["E105"]);
    assert_eq!(said("name a name b"), ["E105"]);
    assert_eq!(said("name"), ["E102"]);
    assert_eq!(said("backlog x"), ["E103"]);
    assert_eq!(said("ssl crt a alpn h2,,x"), ["E103"]);
    assert_eq!(said("ssl crt a verify maybe"), ["E103"]);
}

#[test]
fn frontend_settings() {
    let text = frontend(
        "    bind :1\n    maxconn 10\n    backlog 20\n    timeout client 1h\n    timeout client-hs 5s\n    timeout client-fin 3s\n    option tcpka\n    option accept-tls-eof\n    log global\n",
    );
    let frontend = model(&text).frontends.remove(0);
    assert_eq!((frontend.maxconn, frontend.backlog), (Some(10), Some(20)));
    assert_eq!(frontend.timeout_client, Some(Duration::from_secs(3600)));
    assert_eq!(frontend.timeout_client_hs, Some(Duration::from_secs(5)));
    assert_eq!(frontend.timeout_client_fin, Some(Duration::from_secs(3)));
    assert!(frontend.binds[0].socket.tcp.keepalive.is_some() && frontend.accept_tls_eof && !frontend.tcplog);
    assert_eq!(frontend.logs.len(), 1, "'log global' is replaced by the lines of 'global'");
    assert_eq!(frontend.default_backend.value, "app");
}

#[test]
fn listen_is_both() {
    let text = format!(
        "{HEAD}listen both\n    bind :1\n    server s 127.0.0.1:80\n    timeout tunnel 0\n    timeout server-fin 2s\n"
    );
    let model = model(&text);
    assert_eq!(model.frontends[0].default_backend.value, "both");
    let backend = &model.backends[0];
    assert_eq!((backend.name.as_str(), backend.timeout_tunnel), ("both", None), "0 is not set");
    assert_eq!(backend.timeout_server_fin, Some(Duration::from_secs(2)));
}

#[test]
fn listen_with_servers_elsewhere() {
    let text = format!("{HEAD}listen l\n    bind :1\n    default_backend app\n{TAIL}");
    let read = model(&text);
    assert_eq!((read.backends.len(), read.frontends[0].default_backend.value.as_str()), (1, "app"));
    let both = text.replace("    default_backend", "    server s 127.0.0.1:80\n    default_backend");
    assert_eq!(codes(&both), ["W412"]);
}

#[test]
fn disabled_sections_are_checked_and_left_out() {
    let text =
        format!("{}frontend off\n    disabled\n    bind :2\n    default_backend app\n", frontend("    bind :1\n"));
    assert_eq!(model(&text).frontends.len(), 1);
    assert_eq!(codes(&text.replace("bind :2", "bind :0")), ["E103"]);
    let on = frontend("    bind :1\n    enabled\n").replace("    mode tcp", "    disabled");
    assert_eq!(codes(&on), ["E401"], "the backend inherits 'disabled'");
}
