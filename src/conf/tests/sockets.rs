//! Options of sockets.

use std::time::Duration;

use super::{backend, codes, findings, frontend, model, read};
use crate::conf::model::{BindAddress, KeepAlive, ListenOptions, TcpOptions};

/// The options of the first `bind` line of a frontend with these lines.
#[track_caller]
fn listening(lines: &str) -> ListenOptions {
    model(&frontend(lines)).frontends.remove(0).binds.remove(0).socket
}

/// The options of the server of a backend with these lines.
#[track_caller]
fn connecting(global: &str, lines: &str) -> TcpOptions {
    let text = format!("global\n{global}\n{}", backend(lines));
    model(&text).backends.remove(0).servers.remove(0).tcp
}

const SERVER: &str = "    server s 127.0.0.1:80";

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn probes_of_keep_alive() {
    let clients = |lines: &str| listening(&format!("    bind :1\n{lines}")).tcp.keepalive;
    let none = KeepAlive::default();
    assert_eq!(clients(""), None);
    assert_eq!(clients("    option clitcpka\n"), Some(none));
    assert_eq!(clients("    option clitcpka\n    clitcpka-idle 7\n"), Some(KeepAlive { idle: seconds(7), ..none }));
    assert_eq!(clients("    clitcpka-idle 2m\n"), None, "only with the option");
    assert_eq!(clients("    option clitcpka\n    clitcpka-idle 0\n"), Some(none));
    let all = "    option tcpka\n    clitcpka-idle 7\n    clitcpka-intvl 3s\n    clitcpka-cnt 4\n";
    assert_eq!(clients(all), Some(KeepAlive { idle: seconds(7), interval: seconds(3), count: Some(4) }));

    let servers = |lines: &str| connecting("", &format!("{lines}{SERVER}\n")).keepalive;
    assert_eq!(servers(""), None);
    assert_eq!(servers("    option tcpka\n"), Some(none));
    let all = "    option srvtcpka\n    srvtcpka-idle 1h\n    srvtcpka-intvl 2\n    srvtcpka-cnt 5\n";
    assert_eq!(servers(all), Some(KeepAlive { idle: seconds(3600), interval: seconds(2), count: Some(5) }));

    let said = |line: &str| codes(&frontend(&format!("    bind :1\n    {line}\n")));
    assert_eq!(said("clitcpka-intvl 10h"), ["E103"], "Linux takes 32767 s");
    assert_eq!(said("clitcpka-cnt 128"), ["E103"]);
    assert_eq!(said("clitcpka-cnt 0"), ["E103"]);
    assert_eq!(said("srvtcpka-cnt 3"), ["W110"], "of no use in a frontend");
}

#[test]
fn parameters_of_bind() {
    let socket = listening("    bind :1 tfo defer-accept tcp-ut 30s mss 1400 cc bbr\n    option nolinger\n");
    let tcp = TcpOptions {
        user_timeout: seconds(30),
        congestion: Some("bbr".into()),
        fast_open: true,
        no_linger: true,
        ..TcpOptions::default()
    };
    assert_eq!(socket, ListenOptions { tcp, defer_accept: true, mss: Some(1400) });
    assert_eq!(listening("    bind :1 tcp-ut 0\n"), ListenOptions::default());
    let said = |words: &str| codes(&frontend(&format!("    bind :1 {words}\n")));
    for wrong in ["mss 87", "mss 32768", "mss -40", "mss x", "cc", "cc seventeen-letters", "cc a/b", "tcp-ut x"] {
        assert!(matches!(said(wrong)[..], ["E103" | "E102"]), "{wrong}");
    }
    assert_eq!(said("tcp-ut 30"), ["W101"], "milliseconds");
    assert_eq!(said("tfo tfo"), ["E105"]);
}

#[test]
fn interfaces() {
    let addresses = |line: &str| -> Vec<BindAddress> {
        let bind = model(&frontend(&format!("    bind {line}\n"))).frontends.remove(0).binds.remove(0);
        bind.addresses.into_iter().map(|at| at.value).collect()
    };
    for address in addresses(":1,:2 interface eth0") {
        assert!(matches!(&address, BindAddress::Inet { interface: Some(name), .. } if name == "eth0"));
        assert!(address.to_string().ends_with(" interface eth0"), "{address}");
    }
    let said = |lines: &str| codes(&frontend(lines));
    assert_eq!(said("    bind :1 interface eth0\n    bind :1 interface eth1\n"), [""; 0]);
    assert_eq!(said("    bind :1 interface eth0\n    bind :1 interface eth0\n"), ["E603"]);
    assert_eq!(said("    bind :1 interface much-too-long-a-name\n"), ["E103"]);
    assert_eq!(said("    bind fd@7 interface eth0\n"), ["E103"]);
    assert_eq!(said("    bind fd@web interface eth0\n"), ["E103"]);
}

#[test]
fn a_unix_socket_has_none_of_it() {
    let said = |words: &str| findings(&read(&frontend(&format!("    bind {words}\n"))));
    assert_eq!(said("/run/x.sock tfo mss 1000"), ["9:22 W112"]);
    assert_eq!(said("abns@x interface eth0"), ["9:17 W112"]);
    assert_eq!(said("/run/x.sock,:1 tfo"), [""; 0]);
}

#[test]
fn parameters_of_servers() {
    let tcp = connecting("", &format!("    default-server cc reno\n{SERVER} tcp-ut 5s\n    option nolinger\n"));
    let expected = TcpOptions {
        user_timeout: seconds(5),
        congestion: Some("reno".into()),
        no_linger: true,
        ..TcpOptions::default()
    };
    assert_eq!(tcp, expected);
}

#[test]
fn buffers_of_all_sockets() {
    let global = "    tune.rcvbuf.client 64k\n    tune.sndbuf.client 1M\n    tune.notsent-lowat.client 16384\n    \
                  tune.rcvbuf.server 3\n    tune.sndbuf.server 0\n    tune.notsent-lowat.server 1\n";
    let servers = connecting(global, &format!("{SERVER}\n"));
    assert_eq!((servers.receive_buffer, servers.send_buffer, servers.unsent_low_water), (Some(3), None, Some(1)));
    let clients = model(&format!("global\n{global}{}", frontend("    bind :1\n"))).frontends.remove(0).binds.remove(0);
    let tcp = clients.socket.tcp;
    assert_eq!((tcp.receive_buffer, tcp.send_buffer, tcp.unsent_low_water), (Some(65536), Some(1 << 20), Some(16384)));
    for wrong in ["", "k", "1.5m", "-1", "4g", "1kb", "0x10"] {
        assert!(
            matches!(codes(&format!("global\n    tune.rcvbuf.client {wrong}\n"))[..], ["E103" | "E102"]),
            "{wrong}"
        );
    }
}
