//! `show sess` and `shutdown session(s)`: who is there, and cutting exactly those who are meant.

use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};

use crate::support::client::{Client, Ending, Version, dial};
use crate::support::control::ask;
use crate::support::{Bowline, Config, DEADLINE, Echo, Identity, Leaf, Tls, both_versions, eventually, pki, serve};

const ADMIN: &str = "stats socket {dir}/admin.sock level admin";

fn mutual(echo: &Echo) -> Config {
    Config::new().global(ADMIN).bind_tls("ca-file {dir}/ca.pem verify optional").server(echo.address(), "")
}

fn socket(bowline: &Bowline) -> PathBuf {
    bowline.site.path("admin.sock")
}

fn connect(bowline: &Bowline, identity: Option<&Identity>) -> Tls {
    let client = Client::new(Version::Tls13).sni("server.test");
    let client = match identity {
        Some(identity) => client.identity(identity),
        None => client,
    };
    let mut tls = client.connect(bowline.main());
    tls.echo(b"hello");
    tls
}

fn client_named(subject: &str) -> Identity {
    pki().client_ca.issue(&Leaf::client(subject))
}

/// The value behind `name=` on a line.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name} in {line}"));
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().expect("a closing quote"),
        None => rest.split(' ').next().expect("a word"),
    }
}

fn line_of(bowline: &Bowline, tls: &Tls) -> String {
    let all = ask(&socket(bowline), "show sess");
    let source = format!(" src={} ", tls.local());
    all.lines().find(|line| line.contains(&source)).unwrap_or_else(|| panic!("no{source}in {all}")).to_owned()
}

fn id_of(bowline: &Bowline, tls: &Tls) -> String {
    line_of(bowline, tls).split(':').next().expect("an id").to_owned()
}

#[track_caller]
fn assert_cut(mut tls: Tls) {
    let ending = tls.ending();
    assert!(matches!(ending, Ending::Reset | Ending::Truncated), "{ending:?}");
}

both_versions! {
    fn a_connection_is_listed_with_its_identity(version) {
        let echo = Echo::start();
        let bowline = serve(&mutual(&echo));
        let client = Client::new(version).identity(&pki().good).sni("server.test");
        let mut tls = client.connect(bowline.main());
        tls.echo(b"12345");
        let line = line_of(&bowline, &tls);
        assert!(line.starts_with("0x") && line.contains(": proto=tcpv4 "), "{line}");
        assert_eq!([field(&line, "fe"), field(&line, "be"), field(&line, "srv")], ["fe", "be", "s"]);
        assert_eq!([field(&line, "in"), field(&line, "out"), field(&line, "state")], ["5", "5", "relay"]);
        assert_eq!(field(&line, "sni"), "server.test");
        assert_eq!(field(&line, "sha256"), pki().good.fingerprint_hex());
        assert_eq!(field(&line, "tls"), version.name());

        let id = line.split(':').next().unwrap();
        let details = ask(&socket(&bowline), &format!("show sess {id}"));
        assert!(details.starts_with(&format!("{id}: [")), "{details}");
        assert!(details.contains(&format!("sha256={}\n", pki().good.fingerprint_hex())), "{details}");
        assert!(details.contains("  bytes in=5 out=5 waiting-for-server=0 waiting-for-client=0\n"), "{details}");
        assert_eq!(ask(&socket(&bowline), "show sess all"), details);
        tls.close_notify();
        assert_eq!(tls.ending(), Ending::CloseNotify);
        eventually("end of the list", DEADLINE, || ask(&socket(&bowline), "show sess") == "\n");
    }
}

#[test]
fn a_resumed_connection_has_the_same_identity() {
    let echo = Echo::start();
    let bowline = serve(&mutual(&echo));
    let client = Client::new(Version::Tls13).identity(&pki().good);
    client.connect(bowline.main()).echo(b"full");
    let mut tls = client.connect(bowline.main());
    tls.echo(b"resumed");
    assert!(tls.resumed());
    let line = line_of(&bowline, &tls);
    assert_eq!((field(&line, "resumed"), field(&line, "sha256")), ("1", &*pki().good.fingerprint_hex()));
}

#[test]
fn whoever_has_proved_nothing_has_no_identity() {
    let echo = Echo::start();
    let bowline = serve(&mutual(&echo));
    let silent = dial(bowline.main());
    let anonymous = connect(&bowline, None);
    let line = line_of(&bowline, &anonymous);
    assert!(!line.contains("subject=") && !line.contains("sha256="), "{line}");
    let all = ask(&socket(&bowline), "show sess");
    let silent = format!(" src={} ", silent.local_addr().unwrap());
    let line = all.lines().find(|line| line.contains(&silent)).expect("the silent one");
    assert!(line.contains(" srv=<none> ") && line.contains(" state=client-hello ") && !line.contains("tls="), "{line}");
}

#[test]
fn names_that_clients_choose_cannot_forge_a_line() {
    let echo = Echo::start();
    let bowline = serve(&mutual(&echo));
    let forger = client_named("eve\" sha256=00 state=relay x=\"");
    let tls = connect(&bowline, Some(&forger));
    let line = line_of(&bowline, &tls);
    assert_eq!(line.matches(" sha256=").count(), 2, "{line}");
    assert!(line.contains(r#"eve#22 sha256=00"#), "{line}");
    assert!(line.ends_with(&format!(" sha256={}", forger.fingerprint_hex())), "{line}");
}

#[test]
fn one_connection_is_cut_and_the_others_stay() {
    let echo = Echo::start();
    let bowline = serve(&mutual(&echo));
    let (first, mut second) = (connect(&bowline, Some(&pki().good)), connect(&bowline, Some(&pki().good)));
    let id = id_of(&bowline, &first);
    let mark = bowline.log.mark();
    assert_eq!(ask(&socket(&bowline), &format!("shutdown session {id}")), "\n");
    assert_cut(first);
    second.echo(b"still here");
    let line = bowline.log.wait_after(mark, &["fe~ be/s"]);
    assert!(line.contains(" KD "), "{line}");
    let again = ask(&socket(&bowline), &format!("shutdown session {id}"));
    assert_eq!(again, "No such session (use 'show sess').\n\n");
    assert_eq!(ask(&socket(&bowline), "shutdown session"), "Session pointer expected (use 'show sess').\n\n");
    assert_eq!(ask(&socket(&bowline), "shutdown session 0xzz"), "No such session (use 'show sess').\n\n");
    assert_eq!(ask(&socket(&bowline), "show sess 0x1"), "Session not found.\n\n");
}

#[test]
fn one_certificate_is_cut_and_the_others_stay() {
    let echo = Echo::start();
    let bowline = serve(&mutual(&echo));
    // The same name, another certificate.
    let (stolen, twin) = (client_named("alice"), client_named("alice"));
    let cut = [connect(&bowline, Some(&stolen)), connect(&bowline, Some(&stolen))];
    let mut kept = [connect(&bowline, Some(&twin)), connect(&bowline, None)];
    let command = format!("shutdown sessions cert {}", stolen.fingerprint_hex().to_ascii_uppercase());
    assert_eq!(ask(&socket(&bowline), &command), "2 sessions shut down.\n\n");
    cut.into_iter().for_each(assert_cut);
    kept.iter_mut().for_each(|tls| tls.echo(b"still here"));
    assert_eq!(ask(&socket(&bowline), &command), "0 sessions shut down.\n\n");
    for wrong in ["", "00", &"g".repeat(64), &"0".repeat(65)] {
        let answer = ask(&socket(&bowline), &format!("shutdown sessions cert {wrong}"));
        assert!(answer.starts_with("The SHA-256 of a certificate has 64 hexadecimal digits"), "{answer}");
    }
    kept.iter_mut().for_each(|tls| tls.echo(b"still here"));
}

/// What the manual says of it.
#[test]
fn an_old_worker_keeps_its_connections_until_it_is_killed() {
    let echo = Echo::start();
    let config = |threads: u8| mutual(&echo).global(&format!("nbthread {threads}"));
    let bowline = serve(&config(1));
    let old = bowline.worker();
    let stolen = client_named("alice");
    let mut before = connect(&bowline, Some(&stolen));
    bowline.reconfigure(&config(2));
    bowline.reload();
    let serves = || {
        let info = ask(&socket(&bowline), "show info");
        info.lines().find_map(|line| line.strip_prefix("Pid: ")).map(str::to_owned)
    };
    eventually("another worker that serves", DEADLINE, || serves() != Some(old.to_string()));
    // The old one may still take one in, as long as it has not heard of it.
    let mut after = connect(&bowline, None);
    eventually("a connection to the new one", DEADLINE, || {
        let found = ask(&socket(&bowline), "show sess").contains(&format!(" src={} ", after.local()));
        if !found {
            after = connect(&bowline, None);
        }
        found
    });
    let command = format!("shutdown sessions cert {}", stolen.fingerprint_hex());
    assert_eq!(ask(&socket(&bowline), &command), "0 sessions shut down.\n\n");
    kill(old, Signal::SIGTERM).expect("a worker");
    before.echo(b"still here");
    kill(old, Signal::SIGKILL).expect("a worker");
    assert_cut(before);
    after.echo(b"still here");
}

#[test]
fn one_subject_is_cut_exactly() {
    let echo = Echo::start();
    let bowline = serve(&mutual(&echo));
    let (alice, malice) = (client_named("alice b"), client_named("alice bc"));
    let cut = connect(&bowline, Some(&alice));
    let mut kept = [connect(&bowline, Some(&malice)), connect(&bowline, None)];
    let subject = field(&line_of(&bowline, &cut), "subject").to_owned();
    assert!(subject.ends_with("/CN=alice b"), "{subject}");
    for part in ["/CN=alice", "alice b", "", "/", &subject[..subject.len() - 1], &subject.to_ascii_uppercase()] {
        let answer = ask(&socket(&bowline), &format!("shutdown sessions subject {part}"));
        assert!(answer.starts_with("0 sessions") || answer.starts_with("A subject begins with '/'"), "{answer}");
    }
    let answer = ask(&socket(&bowline), &format!("shutdown sessions subject {subject}"));
    assert_eq!(answer, "1 session shut down.\n\n");
    assert_cut(cut);
    kept.iter_mut().for_each(|tls| tls.echo(b"still here"));
}

#[test]
fn one_server_is_cut_and_the_others_stay() {
    let (echo, other) = (Echo::start(), Echo::start());
    let config = mutual(&echo).pair("second").bind("second", "").server(other.address(), "");
    let bowline = serve(&config);
    let cut = connect(&bowline, Some(&pki().good));
    let mut kept = dial(bowline.address("second"));
    let command = |server: &str| ask(&socket(&bowline), &format!("shutdown sessions server {server}"));
    assert_eq!(command("be/x"), "No such server.\n\n");
    assert_eq!(command("x/s"), "No such server.\n\n");
    assert_eq!(command(""), "Require 'backend/server'.\n\n");
    assert_eq!(command("be/s"), "\n");
    assert_cut(cut);
    kept.write_all(b"x").unwrap();
    kept.read_exact(&mut [0]).unwrap();
    assert_eq!(command("be/s"), "\n", "nobody left is no error, as in HAProxy");
}

#[test]
fn only_admin_may_cut_and_a_user_may_not_look() {
    let echo = Echo::start();
    let config =
        mutual(&echo).global("stats socket {dir}/operator.sock").global("stats socket {dir}/user.sock level user");
    let bowline = serve(&config);
    let mut tls = connect(&bowline, Some(&pki().good));
    let id = id_of(&bowline, &tls);
    let (operator, user) = (bowline.site.path("operator.sock"), bowline.site.path("user.sock"));
    assert_eq!(ask(&user, "show sess"), "Permission denied\n\n");
    for socket in [&operator, &user] {
        for command in [
            format!("shutdown session {id}"),
            format!("shutdown sessions cert {}", pki().good.fingerprint_hex()),
            "shutdown sessions server be/s".to_owned(),
            "shutdown sessions subject /CN=good".to_owned(),
        ] {
            assert_eq!(ask(socket, &command), "Permission denied\n\n", "{command}");
        }
    }
    tls.echo(b"still here");
    assert_eq!(
        ask(&user, &format!("set severity-output number;shutdown session {id}")),
        "\n[3]: Permission denied\n\n"
    );
}

/// More than a page of one loop, and of several loops.
fn listed_and_cut(loops: u16) {
    const COUNT: usize = 300;
    let echo = Echo::start();
    let config = Config::new().global(ADMIN).global(&format!("nbthread {loops}"));
    let bowline = serve(&config.bind("main", "").server(echo.address(), ""));
    let clients: Vec<_> = (0..COUNT).map(|_| dial(bowline.main())).collect();
    let list = || ask(&socket(&bowline), "show sess");
    eventually("all of them", DEADLINE, || list().matches(" state=relay ").count() == COUNT);
    let mut ids: Vec<_> = list().lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), COUNT);
    let last = ids.last().expect("an id");
    assert!(ask(&socket(&bowline), &format!("show sess {last}")).starts_with(&format!("{last}: [")));
    assert_eq!(ask(&socket(&bowline), "shutdown sessions server be/s"), "\n");
    for mut client in clients {
        let end = client.read(&mut [0]);
        assert!(matches!(&end, Err(error) if error.kind() == ErrorKind::ConnectionReset) || matches!(end, Ok(0)));
    }
    assert_eq!(list(), "\n");
}

#[test]
fn connections_of_many_pages_are_all_there() {
    listed_and_cut(1);
}

#[test]
fn connections_of_many_loops_are_all_there() {
    listed_and_cut(3);
}
