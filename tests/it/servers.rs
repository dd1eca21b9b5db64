//! Where servers are, and where connections to them come from.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::support::client::{Client, Ending, Version, dial};
use super::support::control::ask;
use super::support::{Bowline, Config, Scripted, Site, serve};

#[test]
fn connections_come_from_the_address_that_is_asked_for() {
    let backend = Scripted::start();
    let config = |lines: &str, words: &str| {
        let config = Config::new().bind("main", "").server(backend.address(), words);
        if lines.is_empty() { config } else { config.server_line(lines) }
    };
    let bowline = serve(&config("source 127.0.0.9 interface lo", ""));
    let from = || {
        let _client = dial(bowline.main());
        backend.accept().remote().ip().to_string()
    };
    assert_eq!(from(), "127.0.0.9");
    bowline.reconfigure(&config("source 127.0.0.9", "source 127.0.0.10"));
    bowline.reload();
    assert_eq!(from(), "127.0.0.10", "the server's own goes before the section's");
}

#[test]
fn an_address_that_is_nobodys_fails_connections_alone() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), "source 192.0.2.1"));
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    assert_eq!(tls.ending(), Ending::Truncated);
    bowline.log.wait_for(&["fe~ be/s", " RC "]);
}

#[test]
fn the_port_of_the_server_is_that_of_the_client() {
    let site = Site::new();
    let main = site.address("main");
    // The same port on another address of the loopback network.
    let there = SocketAddr::from(([127, 0, 0, 77], main.port()));
    let backend = Scripted::listen(there, None, 8);
    let config = Config::new().bind("main", "").server_line("server s 127.0.0.77");
    let bowline = Bowline::start(site, &config);
    let _client = dial(bowline.main());
    backend.accept();
    let offset = i32::from(backend.address().port()) - i32::from(main.port()) + 7;
    bowline.reconfigure(&Config::new().bind("main", "").server_line(&format!("server s 127.0.0.77:+{offset}")));
    bowline.reload();
    let there = Scripted::listen(SocketAddr::from(([127, 0, 0, 77], main.port() + 7)), None, 8);
    let _client = dial(bowline.main());
    there.accept();
}

#[test]
fn a_server_may_start_without_an_address() {
    let backend = Scripted::start();
    let port = backend.address().port();
    let config = |init_addr: &str| {
        let server = format!("server s no-such-host.invalid:{port} init-addr {init_addr}");
        Config::new().bind_tls("").server_line(&server)
    };
    let bowline = serve(&config("none"));
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    assert_eq!(tls.ending(), Ending::Truncated);
    bowline.log.wait_for(&["be/<NOSRV>", " SC "]);
    bowline.reconfigure(&config("127.0.0.1"));
    bowline.reload();
    let _tls = Client::new(Version::Tls13).connect(bowline.main());
    backend.accept();
}

/// Its own /etc/hosts: root can have one.
#[test]
fn a_name_is_looked_up_again() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (first, port) = {
        let first = Scripted::listen("127.0.0.1:0".parse().expect("an address"), None, 8);
        let port = first.address().port();
        (first, port)
    };
    let second = Scripted::listen(SocketAddr::from(([127, 0, 0, 2], port)), None, 8);
    let site = Site::new();
    let hosts = site.path("hosts");
    // Written in place: a bind mount is of the file, not of its name.
    let resolves_to = |address: &str| fs::write(&hosts, format!("{address} moving.test\n")).expect("a written file");
    resolves_to("127.0.0.1");
    fs::set_permissions(&hosts, fs::Permissions::from_mode(0o644)).expect("mode 644");
    let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
    let config = Config::new().global("stats socket {dir}/admin.sock").bind("main", "");
    let config = config.server_line(&format!("server s moving.test:{port} resolve-interval 1s"));
    let bowline = Bowline::start_under(site, &config, &["unshare", "--mount", "sh", "-c", &script]);
    let client = dial(bowline.main());
    let mut peer = first.accept();
    bowline.reconfigure(&config.frontend_line("nonsense"));
    bowline.signal(Signal::SIGHUP);
    bowline.log.wait_for(&["reload refused"]);
    resolves_to("127.0.0.2");
    bowline.log.wait_for(&["'moving.test' is now at 127.0.0.2"]);
    bowline.log.wait_for(&["worker adopted generation 2"]);
    let told = ask(&bowline.site.path("admin.sock"), "show info");
    for line in ["Generation: 2\n", "ReloadsAdopted: 1\n", "ReloadsRefused: 1\n", "LastReloadAdopted: 0\n"] {
        assert!(told.contains(line), "new addresses are no reload: {line}{told}");
    }
    let _next = dial(bowline.main());
    second.accept();
    std::io::Write::write_all(&mut &client, b"still here").expect("a connection");
    assert_eq!(peer.read_exact(10), b"still here", "who is connected stays");
    fs::write(&hosts, "").expect("a written file");
    bowline.log.wait_for(&["cannot resolve 'moving.test'", "nothing changes"]);
    let _last = dial(bowline.main());
    second.accept();
}

#[test]
fn a_range_of_ports_listens_on_each() {
    let backend = Scripted::start();
    let site = Site::new();
    // Three ports in a row that nobody has at the moment.
    let free = (20_000..30_000_u16).step_by(3).find(|first| {
        let taken = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_err();
        !(*first..first + 3).any(taken)
    });
    let first = free.expect("three free ports");
    let config = Config::new().frontend_line(&format!("bind 127.0.0.1:{first}-{}", first + 2));
    let bowline = Bowline::start(site, &config.server(backend.address(), ""));
    for port in first..first + 3 {
        let _client = dial(SocketAddr::from(([127, 0, 0, 1], port)));
        backend.accept();
    }
    drop(bowline);
}
