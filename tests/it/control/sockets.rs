//! The sockets: permissions, life over crashes and reloads, limits, clients that misbehave.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::bowline::descriptors;
use crate::support::control::{ask, connect, exchange};
use crate::support::{Bowline, Config, DEADLINE, Echo, Site, eventually, serve};

const SOCKET: &str = "stats socket {dir}/admin.sock";

fn config(echo: &Echo, socket: &str) -> Config {
    Config::new().global(socket).bind_tls("").server(echo.address(), "")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a socket").permissions().mode() & 0o7777
}

fn version() -> String {
    format!("{}\n\n", env!("CARGO_PKG_VERSION"))
}

#[test]
fn answers_end_with_an_empty_line_and_the_connection_with_them() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, SOCKET));
    let path = bowline.site.path("admin.sock");
    assert_eq!(ask(&path, "show version"), version());
    assert_eq!(ask(&path, "show version;show cli level"), format!("{}operator\n\n", version()));
    assert_eq!(exchange(connect(&path), b"show version\nshow version\n"), version().repeat(2));
    assert_eq!(ask(&path, "quit;show version"), "");
    let help = ask(&path, "help");
    assert!(
        help.starts_with("The following commands are valid at this level:\n") && help.contains("\n  quit "),
        "{help}"
    );
    let stream = connect(&path);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(exchange_end(stream), "", "nobody has asked for anything");
}

fn exchange_end(mut stream: UnixStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_last_line_may_lack_its_end() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, SOCKET));
    let mut stream = connect(&bowline.site.path("admin.sock"));
    stream.write_all(b"show version").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(exchange_end(stream), version());
}

#[test]
fn a_session_with_prompt_goes_on_until_quit() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, SOCKET));
    let mut stream = connect(&bowline.site.path("admin.sock"));
    let mut expect = |line: &str, answer: &str| {
        stream.write_all(line.as_bytes()).unwrap();
        let mut got = vec![0; answer.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), answer, "after {line:?}");
    };
    expect("prompt\n", "\n> ");
    expect("show version\n", &format!("{}> ", version()));
    expect("\n", "\n> ");
    expect("set timeout cli 1m\n", "\n> ");
    expect("prompt i\n", "\n");
    expect("show cli level\n", "operator\n\n");
    stream.write_all(b"quit\n").unwrap();
    assert_eq!(exchange_end(stream), "");
}

#[test]
fn a_level_is_a_limit_and_can_only_be_lowered() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, SOCKET).global("stats socket {dir}/user.sock level user"));
    let (operator, user) = (bowline.site.path("admin.sock"), bowline.site.path("user.sock"));
    assert!(ask(&operator, "show cli sockets").contains("/user.sock user all\n"));
    assert_eq!(ask(&user, "show cli sockets"), "Permission denied\n\n");
    assert_eq!(ask(&operator, "user;show cli level;show cli sockets"), "\nuser\n\nPermission denied\n\n");
    assert_eq!(ask(&user, "operator;show cli level"), "Permission denied\n\nuser\n\n");
    assert!(!ask(&user, "help").contains("show cli sockets"));
}

#[test]
fn only_the_owner_may_connect_unless_the_line_says_otherwise() {
    let echo = Echo::start();
    let bowline = serve(
        &config(&echo, SOCKET)
            .global("stats socket {dir}/open.sock mode 666 level user")
            .global("stats socket {dir}/group.sock mode 660 gid 4321 uid 1234"),
    );
    assert_eq!(mode(&bowline.site.path("admin.sock")), 0o600);
    assert_eq!(mode(&bowline.site.path("open.sock")), 0o666);
    let group = bowline.site.path("group.sock");
    assert_eq!(mode(&group), 0o660);
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(&group).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
    }
}

#[test]
fn a_tcp_address_serves_too() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, "stats socket {port:control} level user"));
    let mut stream = TcpStream::connect(bowline.address("control")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"show cli level\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "user\n\n");
}

#[test]
fn the_socket_of_the_command_line_is_there_whatever_the_configuration_says() {
    let echo = Echo::start();
    let site = Site::new();
    let text = Config::new().bind_tls("").server(echo.address(), "").render(&site);
    let path = site.path("master.sock");
    let option = format!("{},mode,640", path.display());
    let bowline = Bowline::launch_with(site, &text, &["-S", &option]).unwrap();
    assert_eq!(ask(&path, "show cli level"), "admin\n\n");
    assert_eq!(mode(&path), 0o640);

    bowline.reconfigure(&config(&echo, SOCKET));
    bowline.reload();
    assert_eq!(ask(&bowline.site.path("admin.sock"), "show cli level"), "operator\n\n");
    assert_eq!(ask(&path, "show cli level"), "admin\n\n");

    // One address cannot have two levels.
    let mark = bowline.log.mark();
    bowline.reconfigure(&config(&echo, &format!("stats socket {} level user", path.display())));
    bowline.signal(Signal::SIGHUP);
    bowline.log.wait_after(mark, &["reload refused"]);
    bowline.log.wait_after(mark, &["the configuration and -S ask for the same address"]);
    assert_eq!(ask(&path, "show cli level"), "admin\n\n");
}

#[test]
fn sockets_survive_a_crash_of_the_worker() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, SOCKET));
    let path = bowline.site.path("admin.sock");
    assert_eq!(ask(&path, "show version"), version());
    let mark = bowline.log.mark();
    nix::sys::signal::kill(bowline.worker(), Signal::SIGKILL).unwrap();
    // Who connects meanwhile waits.
    assert_eq!(ask(&path, "show version"), version());
    bowline.log.wait_after(mark, &["worker adopted generation 1"]);
}

#[test]
fn a_reload_adds_removes_and_changes_sockets() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, SOCKET).global("stats socket {dir}/old.sock"));
    let path = |name: &str| bowline.site.path(name);
    let mut kept = connect(&path("old.sock"));
    kept.write_all(b"prompt i\n").unwrap();
    kept.read_exact(&mut [0]).unwrap();

    let changed = "stats socket {dir}/admin.sock mode 666 level user";
    bowline.reconfigure(&config(&echo, changed).global("stats socket {dir}/new.sock"));
    bowline.reload();
    assert!(!path("old.sock").exists());
    assert_eq!(exchange(kept, b"show version;quit\n"), version(), "a client that is there stays");
    assert_eq!(mode(&path("admin.sock")), 0o666);
    assert_eq!(ask(&path("admin.sock"), "show cli level"), "user\n\n");
    assert_eq!(ask(&path("new.sock"), "show cli level"), "operator\n\n");

    // What is refused changes nothing.
    let mark = bowline.log.mark();
    let refused = "stats socket {dir}/admin.sock mode 600 level admin";
    bowline.reconfigure(&config(&echo, refused).global("stats socket /no/such/directory/x"));
    bowline.signal(Signal::SIGHUP);
    bowline.log.wait_after(mark, &["reload refused"]);
    assert_eq!(mode(&path("admin.sock")), 0o666);
    assert_eq!(ask(&path("admin.sock"), "show cli level"), "user\n\n");
    assert_eq!(ask(&path("new.sock"), "show version"), version());
}

#[test]
fn nothing_is_left_behind() {
    let echo = Echo::start();
    let mut bowline = serve(&config(&echo, SOCKET));
    let path = bowline.site.path("admin.sock");
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    bowline.signal(Signal::SIGTERM);
    assert!(bowline.wait_exit(DEADLINE).success());
    assert!(!path.exists());
}

#[test]
fn a_path_in_use_is_refused_and_a_stale_one_replaced() {
    let echo = Echo::start();
    let site = Site::new();
    let path = site.path("admin.sock");
    let live = UnixListener::bind(&path).unwrap();
    let text = config(&echo, SOCKET).render(&site);
    let failure = Bowline::start_refused(site, &text);
    assert!(failure.log.contains("admin.sock: already in use by another process"), "{}", failure.log);
    assert!(failure.log.contains("bowline.cfg:"), "names the line: {}", failure.log);

    drop(live);
    let site = Site::new();
    let path = site.path("admin.sock");
    drop(UnixListener::bind(&path).unwrap());
    let _bowline = Bowline::start(site, &config(&echo, SOCKET));
    assert_eq!(ask(&path, "show version"), version());
}

#[test]
fn clients_beyond_the_limit_wait_and_silent_ones_go() {
    let echo = Echo::start();
    let limits = "stats socket {dir}/admin.sock maxconn 2";
    let bowline = serve(&config(&echo, limits).global("stats timeout 1s").global("stats socket {dir}/other.sock"));
    let path = bowline.site.path("admin.sock");
    let silent = [connect(&path), connect(&path)];
    // Another socket has places of its own.
    assert_eq!(ask(&bowline.site.path("other.sock"), "show version"), version());
    // This one has to wait until the silent ones have gone.
    assert_eq!(ask(&path, "show version"), version());
    for stream in silent {
        assert_eq!(exchange_end(stream), "");
    }
}

#[test]
fn a_client_is_one_descriptor() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, SOCKET));
    let before = descriptors(bowline.worker());
    let clients: Vec<UnixStream> = (0..5).map(|_| connect(&bowline.site.path("admin.sock"))).collect();
    for mut client in &clients {
        client.write_all(b"prompt i\n").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(descriptors(bowline.worker()), before + clients.len(), "the master counts with as many");
}

#[test]
fn rubbish_and_huge_lines_get_an_answer_and_harm_nobody() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, SOCKET));
    let path = bowline.site.path("admin.sock");
    assert_eq!(ask(&path, "\u{7}\u{1b}[31m"), ask(&path, "nonsense"));
    assert!(exchange(connect(&path), b"\xff\xfe\x00\n").starts_with("Commands are UTF-8 text."));
    assert_eq!(ask(&path, &" ".repeat(16_000)), ask(&path, ""));
    let most = format!("show version{}", " ".repeat(16 * 1024 - 12));
    assert_eq!(ask(&path, &most), version(), "the longest line");
    assert!(ask(&path, &format!("{most} ")).starts_with("Command too long"));
    // A line without end is not read to its end.
    let mut endless = connect(&path);
    let piece = [b'a'; 64 * 1024];
    eventually("end of an endless line", DEADLINE, || endless.write_all(&piece).is_err());
    assert_eq!(ask(&path, "show version"), version());
}

#[test]
fn a_client_that_never_reads_costs_its_place_and_no_more() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo, SOCKET).global("stats timeout 1s"));
    let path = bowline.site.path("admin.sock");
    let mut deaf = connect(&path);
    let many = format!("prompt i\n{}\n", vec!["help"; 3000].join(";"));
    deaf.write_all(many.as_bytes()).unwrap();
    assert_eq!(ask(&path, "show version"), version());
    // It is given up after the timeout: nothing more comes than what was on its way.
    eventually("end of the client", DEADLINE, || {
        let text = fs::read_dir(format!("/proc/{}/task", bowline.worker())).unwrap().flatten();
        let names = text.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
        names.filter(|name| name.trim() == "control client").count() == 0
    });
}
