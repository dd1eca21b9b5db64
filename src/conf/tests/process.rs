//! Limits, rates, and what connections are tried, judged and logged by.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{HEAD, TAIL, backend, codes, findings, frontend, model, read};
use crate::conf::model::{Family, InitAddr, LogHost, ServerAddress, Source, Spread};

#[test]
fn limits_of_the_process() {
    let text = "\
global
    maxconnrate 1000
    maxsessrate 0
    maxsslrate 300
    maxsslconn 20000
    tune.maxaccept 7
    tune.maxpollevents 100
    harden.reject-privileged-ports.tcp on
";
    let process = model(text).process;
    let limits = process.limits;
    assert_eq!((limits.connection_rate, limits.session_rate), (Some(1000), None), "0 is no limit");
    assert_eq!((limits.tls_rate, limits.tls_connections), (Some(300), Some(20000)));
    assert_eq!((process.accepts, process.events, process.reject_privileged_ports), (Some(7), Some(100), true));
    assert_eq!(model("global\n    tune.maxaccept -1\n").process.accepts, Some(1024));
    for wrong in [
        "maxconnrate x",
        "maxsslconn -1",
        "tune.maxaccept 0",
        "tune.maxaccept -2",
        "tune.maxpollevents 0",
        "harden.reject-privileged-ports.tcp yes",
    ] {
        assert_eq!(codes(&format!("global\n    {wrong}\n")), ["E103"], "{wrong}");
    }
    for inert in ["tune.bufsize 32768", "noktls", "spread-checks 5", "max-spread-checks 5s", "pp2-never-send-local"] {
        assert_eq!(codes(&format!("global\n    {inert}\n")), ["N001"], "{inert}");
    }
}

#[test]
fn a_rate_of_sessions() {
    let rate = |lines: &str| model(&frontend(&format!("    bind :1\n{lines}"))).frontends[0].session_rate;
    assert_eq!(rate(""), None);
    assert_eq!(rate("    rate-limit sessions 50\n"), Some(50));
    assert_eq!(rate("    rate-limit sessions 0\n"), None);
    let said = |line: &str| codes(&frontend(&format!("    bind :1\n    {line}\n")));
    assert_eq!(said("rate-limit sesions 5"), ["E101"]);
    assert_eq!(said("rate-limit sessions x"), ["E103"]);
    assert_eq!(said("rate-limit sessions"), ["E102"]);
    let inherited = format!("{HEAD}    rate-limit sessions 9\nlisten l\n    bind :1\n    server s 127.0.0.1:80\n");
    assert_eq!(model(&inherited).frontends[0].session_rate, Some(9));
}

#[test]
fn a_backend_without_condition() {
    let text = |lines: &str| {
        format!("{HEAD}frontend fe\n    bind :1\n{lines}{TAIL}backend other\n    server s 127.0.0.1:81\n")
    };
    let chosen = |lines: &str| model(&text(lines)).frontends.remove(0).default_backend.value;
    assert_eq!(chosen("    use_backend other\n"), "other");
    assert_eq!(chosen("    default_backend app\n    use_backend other\n"), "other", "goes before");
    let found = |lines: &str| findings(&read(&text(lines)));
    assert_eq!(found("    use_backend other\n    use_backend app\n"), ["11:5 W413"]);
    assert_eq!(found("    use_backend othr\n"), ["10:17 E401"]);
    assert_eq!(found("    use_backend other if TRUE\n    default_backend app\n"), ["10:23 E120"]);
    assert_eq!(found("    use_backend %[str(other)]\n    default_backend app\n"), ["10:17 E120"]);
    let listen = format!("{HEAD}listen l\n    bind :1\n    use_backend app\n    server s 127.0.0.1:80\n{TAIL}");
    assert_eq!(codes(&listen), ["W412"], "its own server is never used");
}

#[test]
fn tries_to_connect() {
    let tries = |lines: &str| {
        let backend = model(&backend(&format!("    server s 127.0.0.1:80\n{lines}"))).backends.remove(0);
        (backend.retries, backend.abort_on_close, backend.independent_streams)
    };
    assert_eq!(tries(""), (3, false, false), "HAProxy's number");
    assert_eq!(tries("    retries 0\n    option abortonclose\n    option independent-streams\n"), (0, true, true));
    assert_eq!(codes(&backend("    server s 127.0.0.1:80\n    retries x\n")), ["E103"]);
    assert_eq!(codes(&backend("    server s 127.0.0.1:80\n    option redispatch 2\n")), ["N001"]);
}

#[test]
fn a_disabled_server() {
    let disabled = |lines: &str| model(&backend(lines)).backends.remove(0).servers.remove(0).disabled;
    assert!(disabled("    server s 127.0.0.1:80 disabled\n"));
    assert!(!disabled("    default-server disabled\n    server s 127.0.0.1:80 enabled\n"));
}

#[test]
fn what_is_logged() {
    let lines = "    bind :1\n    option dontlog-normal\n    option log-separate-errors\n    option logasap\n    log-tag edge\n    \
                 option independent-streams\n";
    let frontend = model(&frontend(lines)).frontends.remove(0);
    assert!(frontend.dontlog_normal && frontend.log_separate_errors && frontend.logasap);
    assert!(frontend.independent_streams);
    assert_eq!(frontend.log_tag.as_deref(), Some("edge"));
}

#[test]
fn kernel_tls() {
    let said = |words: &str| codes(&frontend(&format!("    bind :1 {words}\n")));
    assert_eq!(said("ktls off"), [""; 0]);
    assert_eq!(said("ktls on"), ["N001"]);
    assert_eq!(said("ktls maybe"), ["E103"]);
}

#[test]
fn cpus_of_threads() {
    let map = |lines: &str| -> Vec<(u16, Vec<u16>)> {
        let map = model(&format!("global\n{lines}")).process.cpu_map;
        map.into_iter().map(|(thread, cpus)| (thread, cpus.value.into_iter().collect())).collect()
    };
    assert_eq!(map("    cpu-map 1/1-2 0-1,5\n"), [(1, vec![0, 1, 5]), (2, vec![0, 1, 5])]);
    assert_eq!(map("    cpu-map auto:1/1-3 4 6-7\n"), [(1, vec![4]), (2, vec![6]), (3, vec![7])]);
    assert_eq!(map("    cpu-map 1/1-2 0\n    cpu-map all/2 3\n"), [(1, vec![0]), (2, vec![3])], "the last one counts");
    let all = map("    cpu-map 1/all 0-3\n");
    assert_eq!((all.len(), all[0].0, &all[0].1), (1024, 1, &vec![0, 1, 2, 3]));
    assert_eq!(map("    cpu-map 1 2\n").len(), 1024, "a group is all of its threads");
    assert_eq!(map("    cpu-map 1/odd 0\n")[1].0, 3);
    assert_eq!(map("    cpu-map 1/even 0\n")[0].0, 2);
    for wrong in ["2/1 0", "1/0 0", "1/x 0", "1/2-1 0", "1/1 x", "1/1 0-", "1/1 1024", "auto:1/1-3 0-1", "odd 0"] {
        assert_eq!(codes(&format!("global\n    cpu-map {wrong}\n")), ["E103"], "{wrong}");
    }
    assert_eq!(codes("global\n    cpu-map 1/1\n"), ["E102"]);
}

#[test]
fn descriptors_and_threads() {
    let process = model("global\n    ulimit-n 5000\n    fd-hard-limit 9000\n    thread-hard-limit 8\n").process;
    assert_eq!(process.descriptors.map(|at| at.value), Some(5000));
    assert_eq!((process.descriptors_max, process.threads_max, process.lenient_limits), (Some(9000), Some(8), false));
    assert!(model("global\n    no strict-limits\n").process.lenient_limits);
    assert!(!model("global\n    strict-limits\n").process.lenient_limits);
    assert_eq!(codes("global\n    thread-hard-limit 0\n"), ["E103"]);
}

#[test]
fn how_threads_share_a_listener() {
    let spread = |global: &str, words: &str| {
        let text = format!("global\n{global}{}", frontend(&format!("    bind :1 {words}\n")));
        model(&text).frontends.remove(0).binds.remove(0).spread
    };
    let threads = |threads: &[u16]| Some(threads.iter().copied().collect::<BTreeSet<u16>>());
    let usual = Spread::default();
    assert_eq!(spread("", ""), usual);
    assert_eq!(spread("", "thread 1-2,4"), Spread { threads: threads(&[1, 2, 4]), ..usual.clone() });
    assert_eq!(spread("", "thread 1/3"), Spread { threads: threads(&[3]), ..usual.clone() });
    assert_eq!(spread("", "shards 2"), Spread { sockets: Some(2), ..usual.clone() });
    assert_eq!(spread("", "shards by-group"), Spread { sockets: Some(1), ..usual.clone() });
    let one = "    tune.listener.default-shards by-process\n";
    assert_eq!(spread(one, ""), Spread { sockets: Some(1), ..usual.clone() });
    assert_eq!(spread(one, "shards by-thread"), usual);
    assert_eq!(spread("    noreuseport\n", "shards 4").sockets, Some(1));
    assert!(spread("    noreuseport\n", "").no_reuse_port);
    let said = |words: &str| codes(&frontend(&format!("    bind :1 {words}\n")));
    for wrong in ["thread 2/1", "thread 0", "thread x", "shards 0", "shards many"] {
        assert_eq!(said(wrong), ["E103"], "{wrong}");
    }
    assert_eq!(codes("global\n    tune.listener.default-shards 4\n"), ["E103"]);
}

#[test]
fn the_host_in_syslog_lines() {
    let host = |line: &str| model(&format!("global\n    {line}\n")).process.log_host;
    assert_eq!(host("log-tag x"), None);
    assert_eq!(host("log-send-hostname"), Some(LogHost::Own));
    assert_eq!(host("log-send-hostname edge-1"), Some(LogHost::Named("edge-1".into())));
}

#[test]
fn families_of_names() {
    let family = |value: &str| model(&format!("global\n    dns-accept-family {value}\n")).process.name_family;
    assert_eq!(family("ipv4"), Some(Family::Ipv4));
    assert_eq!(family("ipv6"), Some(Family::Ipv6));
    assert_eq!((family("auto"), family("ipv6,ipv4")), (None, None));
    assert_eq!(codes("global\n    dns-accept-family inet\n"), ["E103"]);
}

#[test]
fn where_connections_come_from() {
    let source = |lines: &str| model(&backend(lines)).backends.remove(0).servers.remove(0).source;
    let from = |address: &str, interface: Option<&str>| Source {
        address: Some(address.parse().expect("address")),
        interface: interface.map(str::to_owned),
    };
    let server = "    server s 192.0.2.1:80";
    assert_eq!(source(&format!("{server}\n")), Source::default());
    assert_eq!(source(&format!("    source 192.0.2.9\n{server}\n")), from("192.0.2.9:0", None));
    assert_eq!(
        source(&format!("{server} source 192.0.2.9:1234 interface eth0\n")),
        from("192.0.2.9:1234", Some("eth0"))
    );
    assert_eq!(source(&format!("    source 192.0.2.8\n{server} source *\n")), Source::default(), "the server's own");
    let only = Source { address: None, interface: Some("eth0".into()) };
    assert_eq!(source(&format!("    source 0.0.0.0 interface eth0\n{server} send-proxy\n")), only);
    assert_eq!(source("    server s [2001:db8::1]:80 source 2001:db8::9\n"), from("[2001:db8::9]:0", None));
    let said = |lines: &str| codes(&backend(lines));
    assert_eq!(said(&format!("{server} source 2001:db8::9\n")), ["E103"], "of two families");
    assert_eq!(said(&format!("{server} source localhost\n")), ["E103"]);
    assert_eq!(said(&format!("{server} source 192.0.2.9 usesrc client\n")), ["E120"]);
    assert_eq!(said(&format!("    source 192.0.2.9 intrface eth0\n{server}\n")), ["E102"]);
    assert_eq!(said(&format!("{server} source 192.0.2.9 interface\n")), ["E102"]);
}

#[test]
fn the_port_of_the_clients_connection() {
    let server = |address: &str| {
        let server = model(&backend(&format!("    server s {address}\n"))).backends.remove(0).servers.remove(0);
        let written = match server.address.value {
            ServerAddress::Inet(address) => address.to_string(),
            ServerAddress::Name { host, port, .. } => format!("{host}:{port}"),
            other => panic!("{other:?}"),
        };
        (written, server.port_offset)
    };
    assert_eq!(server("192.0.2.1:80"), ("192.0.2.1:80".into(), None));
    assert_eq!(server("192.0.2.1"), ("192.0.2.1:0".into(), Some(0)));
    assert_eq!(server("192.0.2.1:0"), ("192.0.2.1:0".into(), Some(0)));
    assert_eq!(server("192.0.2.1:+1000"), ("192.0.2.1:0".into(), Some(1000)));
    assert_eq!(server("[2001:db8::1]:-300"), ("[2001:db8::1]:0".into(), Some(-300)));
    assert_eq!(server("db.example"), ("db.example:0".into(), Some(0)));
    assert_eq!(codes(&backend("    server s 192.0.2.1:+x\n")), ["E103"]);
}

#[test]
fn names_of_servers() {
    let server = |words: &str| {
        let text = backend(&format!("    server s db.example:80 {words}\n"));
        let server = model(&text).backends.remove(0).servers.remove(0);
        (server.init_addr, server.resolve_interval)
    };
    assert_eq!(server(""), (Vec::new(), None));
    let methods = vec![InitAddr::Libc, InitAddr::Ip("192.0.2.1".parse().expect("address")), InitAddr::None];
    assert_eq!(server("init-addr last,libc,192.0.2.1,none"), (methods, None));
    assert_eq!(server("resolve-interval 30s"), (Vec::new(), Some(Duration::from_secs(30))));
    assert_eq!(server("resolve-interval 0"), (Vec::new(), None));
    let said = |words: &str| codes(&backend(&format!("    server s db.example:80 {words}\n")));
    assert_eq!(said("init-addr dns"), ["E103"]);
    assert_eq!(said("resolve-interval soon"), ["E103"]);
}
