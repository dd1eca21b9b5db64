//! `show stat`, `show info`, `show servers state`, `show ssl …`: what scripts for HAProxy read, with true numbers in it.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::certs::hex;
use crate::support::client::{Client, Version, dial};
use crate::support::control::{ask, connect, exchange};
use crate::support::peers::skipped;
use crate::support::{Bowline, Config, DEADLINE, Echo, Leaf, Scripted, Site, eventually, pki, serve};

const SOCKET: &str = "stats socket {dir}/admin.sock level admin";

fn socket(bowline: &Bowline) -> PathBuf {
    bowline.site.path("admin.sock")
}

/// The rows of `show stat` by column.
fn rows(csv: &str) -> Vec<HashMap<String, String>> {
    let mut lines = csv.lines().filter(|line| !line.is_empty());
    let head: Vec<&str> = lines.next().expect("a head").trim_start_matches("# ").split(',').collect();
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), head.len(), "{line}");
            head.iter().zip(fields).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
        })
        .collect()
}

#[track_caller]
fn row<'a>(rows: &'a [HashMap<String, String>], section: &str, name: &str) -> &'a HashMap<String, String> {
    let found = rows.iter().find(|row| row["pxname"] == section && row["svname"] == name);
    found.unwrap_or_else(|| panic!("no {section}/{name} in {rows:?}"))
}

#[test]
fn counters_are_where_haproxys_columns_are() {
    let echo = Echo::start();
    let config =
        Config::new().global(SOCKET).bind_mtls("").server(echo.address(), "").pair("plain").bind("plain", "maxconn 7");
    let bowline = serve(&config.frontend_line("maxconn 9").server(echo.address(), ""));
    let client = Client::new(Version::Tls13).identity(&pki().good);
    let mut first = client.connect(bowline.main());
    first.echo(b"12345");
    let mut second = client.connect(bowline.main());
    second.echo(b"123");
    assert!(second.resumed());
    second.close_notify();
    second.read_to_end();
    Client::new(Version::Tls13).refused(bowline.main());
    let ask_rows = || rows(&ask(&socket(&bowline), "show stat"));
    eventually("the end of two connections", DEADLINE, || row(&ask_rows(), "fe", "FRONTEND")["scur"] == "1");
    let all = ask_rows();
    let names: Vec<_> = all.iter().map(|row| format!("{}/{}", row["pxname"], row["svname"])).collect();
    let expected = ["fe/FRONTEND", "plain/FRONTEND", "be/s", "be/BACKEND", "plain-be/s", "plain-be/BACKEND"];
    assert_eq!(names, expected);
    let front = row(&all, "fe", "FRONTEND");
    for (column, value) in [
        ("stot", "3"),
        ("ereq", "1"),
        ("status", "OPEN"),
        ("type", "0"),
        ("iid", "2"),
        ("ssl_sess", "2"),
        ("ssl_reused_sess", "1"),
        ("ssl_failed_handshake", "1"),
        ("mode", "tcp"),
        ("qcur", ""),
    ] {
        assert_eq!(front[column], value, "{column}");
    }
    assert_eq!(row(&all, "plain", "FRONTEND")["slim"], "9");
    let server = row(&all, "be", "s");
    assert_eq!([&*server["scur"], &server["stot"], &server["type"], &server["sid"]], ["1", "2", "2", "1"]);
    assert_eq!((&*server["addr"], &*server["status"]), (&*echo.address().to_string(), "no check"));
    let backend = row(&all, "be", "BACKEND");
    assert_eq!([&*backend["scur"], &backend["stot"], &backend["type"], &backend["status"]], ["1", "2", "1", "UP"]);
}

#[test]
fn rows_can_be_chosen() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().global(SOCKET).bind("main", "").server(echo.address(), ""));
    let chosen = |words: &str| {
        let answer = ask(&socket(&bowline), &format!("show stat {words}"));
        let rows = rows(&answer);
        rows.iter().map(|row| format!("{}/{}", row["pxname"], row["svname"])).collect::<Vec<_>>()
    };
    assert_eq!(chosen("-1 4 -1"), ["be/s"]);
    assert_eq!(chosen("-1 6 -1"), ["be/s", "be/BACKEND"]);
    assert_eq!(chosen("fe -1 -1"), ["fe/FRONTEND"]);
    assert_eq!(chosen("3 -1 -1"), ["be/s", "be/BACKEND"]);
    assert_eq!(chosen("be 4 1"), ["be/s"]);
    assert_eq!(chosen("be 4 2"), [""; 0]);
    assert_eq!(chosen("-1 8 -1"), ["fe/main"]);
    assert_eq!(chosen("up"), chosen(""));
    for (words, answer) in [
        ("nobody -1 -1", "No such proxy.\n\n"),
        ("fe", "Expected: {<iid>|<proxy>} <type> <sid>.\n\n"),
        ("fe x 1", "Expected: {<iid>|<proxy>} <type> <sid>.\n\n"),
        ("json", "There is CSV only.\n\n"),
    ] {
        assert_eq!(ask(&socket(&bowline), &format!("show stat {words}")), answer);
    }
}

#[test]
fn the_process_tells_about_itself() {
    let echo = Echo::start();
    let bowline = serve(
        &Config::new()
            .global(SOCKET)
            .global("nbthread 2")
            .global("maxconn 77")
            .bind("main", "")
            .server(echo.address(), ""),
    );
    let _open = dial(bowline.main());
    let info = || -> HashMap<String, String> {
        let answer = ask(&socket(&bowline), "show info");
        let lines = answer.lines().filter_map(|line| line.split_once(": "));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    // The master tells of the first adoption after it.
    let known = |info: HashMap<String, String>| info["CurrConns"] == "1" && info["LastReloadAdopted"] == "1";
    eventually("a connection", DEADLINE, || known(info()));
    let info = info();
    for (name, value) in [
        ("Name", "Bowline"),
        ("Version", env!("CARGO_PKG_VERSION")),
        ("Nbthread", "2"),
        ("Maxconn", "77"),
        ("CumConns", "1"),
        ("Listeners", "1"),
        ("Stopping", "0"),
        ("Generation", "1"),
        ("ReloadsRefused", "0"),
        ("LastReloadAdopted", "1"),
    ] {
        assert_eq!(info[name], value, "{name}");
    }
    assert_eq!(info["Pid"], bowline.worker().to_string());
    assert!(info["Uptime"].starts_with("0d 0h0"), "{}", info["Uptime"]);

    bowline.site.configure("nonsense");
    ask(&socket(&bowline), "reload");
    let info = ask(&socket(&bowline), "show info");
    assert!(info.contains("\nLastReloadAdopted: 0\n") && info.contains("\nReloadsRefused: 1\n"), "{info}");
}

#[test]
fn a_service_that_stops_still_answers() {
    let backend = Scripted::start();
    let mut bowline = serve(&Config::new().global(SOCKET).bind("main", "").server(backend.address(), ""));
    let open = dial(bowline.main());
    let peer = backend.accept();
    let mut operator = connect(&socket(&bowline));
    operator.write_all(b"prompt i\n").unwrap();
    let mark = bowline.log.mark();
    bowline.signal(nix::sys::signal::Signal::SIGTERM);
    bowline.log.wait_after(mark, &["stopping"]);
    let stopping = || ask(&socket(&bowline), "show info").contains("\nStopping: 1\n");
    eventually("an answer to whoever watches", DEADLINE, stopping);
    let answers = exchange(operator, b"show info;show sess;reload;quit\n");
    assert!(answers.contains("\nStopping: 1\n") && answers.contains(" state=relay "), "{answers}");
    assert!(answers.ends_with("Success=0\n--\nerror: the service is stopping\n\n"), "{answers}");
    drop((open, peer));
    assert!(bowline.wait_exit(DEADLINE).success());
}

#[test]
fn certificates_and_names_are_shown_and_keys_are_not() {
    let echo = Echo::start();
    let site = Site::new();
    let second = pki().server_ca.issue(&Leaf::server(&["*.two.test", "two.test"]));
    site.write("two.pem", second.pem());
    let options = "crt {dir}/two.pem ca-file {dir}/ca.pem crl-file {dir}/crl.pem verify required";
    site.write("crl.pem", pki().client_ca.crl(&[&pki().good]));
    let bowline = Bowline::start(site, &Config::new().global(SOCKET).bind_tls(options).server(echo.address(), ""));
    let path = |name: &str| bowline.site.path(name).display().to_string();
    let show = |words: &str| ask(&socket(&bowline), &format!("show ssl {words}"));

    assert_eq!(show("cert"), format!("# filename\n{}\n{}\n\n", path("server.pem"), path("two.pem")));
    let details = show(&format!("cert {}", path("two.pem")));
    for line in [
        format!("Filename: {}", path("two.pem")),
        "Status: Used".to_owned(),
        "Subject Alternative Name: DNS:*.two.test, DNS:two.test".to_owned(),
        "Algorithm: EC256".to_owned(),
        format!("SHA256 FingerPrint: {}", hex(&second.fingerprint()).to_uppercase()),
        "Subject: /CN=*.two.test".to_owned(),
        "Issuer: /CN=Server CA".to_owned(),
    ] {
        assert!(details.lines().any(|found| found == line), "{line} in {details}");
    }
    assert!(show("cert /no/such").starts_with("Can't display the certificate: Not found"));

    let names = show("sni");
    let all: Vec<Vec<&str>> =
        names.lines().filter(|line| !line.is_empty()).map(|line| line.split('\t').collect()).collect();
    assert_eq!(all[0][..2], ["# Frontend/Bind", "SNI"]);
    let listed: Vec<&str> = all[1..].iter().map(|columns| columns[1]).collect();
    assert_eq!(listed, ["*", "*.two.test", "localhost", "server.test", "two.test"]);
    assert_eq!(all[2][..5], ["fe/main", "*.two.test", "-", "ecdsa", &path("two.pem")]);
    assert_eq!(show("sni -f fe"), names);
    assert_eq!(show("sni -f nobody"), "No such frontend.\n\n");

    assert_eq!(show("ca-file"), format!("# filename\n{} - 1 certificate(s)\n\n", path("ca.pem")));
    assert!(show(&format!("ca-file {}", path("ca.pem"))).contains("\nSubject: /CN=Client CA\n"));
    assert_eq!(show("crl-file"), format!("# filename\n{}\n\n", path("crl.pem")));
    let list = show(&format!("crl-file {}", path("crl.pem")));
    assert!(list.contains("\nIssuer: /CN=Client CA\n") && list.contains("\nRevoked Certificates: 1\n"), "{list}");
    assert_eq!(show("crl-file x"), "Can't display the CRL file : Not found!\n\n");

    for words in ["cert", "ca-file", "crl-file", "sni"] {
        let file = format!("{words} {}", path("two.pem"));
        assert!(!show(words).contains("PRIVATE") && !show(&file).contains("PRIVATE"));
    }
}

#[test]
fn what_will_come_says_so() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().global(SOCKET).bind("main", "").server(echo.address(), ""));
    for command in ["set server be/s state maint", "disable server be/s", "enable server be/s"] {
        let answer = ask(&socket(&bowline), command);
        assert!(answer.starts_with("Not implemented yet: "), "{answer}");
    }
}

/// HAProxy with a socket of its own.
struct Haproxy {
    child: std::process::Child,
    folder: TempDir,
}

impl Haproxy {
    fn start(backend: std::net::SocketAddr) -> Self {
        let folder = TempDir::new().unwrap();
        let text = format!(
            "global\n  stats socket {}/h.sock level admin\ndefaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1s\n  \
             timeout server 1s\nfrontend fe\n  bind unix@{}/fe.sock\n  default_backend be\nbackend be\n  server s {backend}\n",
            folder.path().display(),
            folder.path().display()
        );
        std::fs::write(folder.path().join("h.cfg"), text).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(folder.path().join("h.cfg")).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().unwrap_or_else(|error| panic!("haproxy: {error}. Install it, or set BOWLINE_SKIP_PEERS=1"));
        let haproxy = Self { child, folder };
        eventually("HAProxy", DEADLINE, || std::os::unix::net::UnixStream::connect(haproxy.socket()).is_ok());
        haproxy
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("h.sock")
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Columns that every version since 2.0 has in front; the others may differ.
fn head(socket: &Path, words: &str) -> Vec<String> {
    let answer = ask(socket, words);
    answer.lines().find(|line| line.starts_with("# ")).expect("a head").split([',', ' ']).map(str::to_owned).collect()
}

#[test]
fn columns_are_those_of_the_real_haproxy() {
    if skipped() {
        return;
    }
    let echo = Echo::start();
    let haproxy = Haproxy::start(echo.address());
    let bowline = serve(&Config::new().global(SOCKET).bind("main", "").server(echo.address(), ""));
    for words in ["show stat", "show servers state"] {
        let (ours, theirs) = (head(&socket(&bowline), words), head(&haproxy.socket(), words));
        let ours_known = ours.iter().take_while(|column| *column != "-").count();
        assert_eq!(ours[..ours_known], theirs[..ours_known], "{words}");
        let later: Vec<_> = ours[ours_known..].iter().filter(|column| !theirs.contains(column)).collect();
        assert!(later.is_empty(), "{words}: {later:?} is not HAProxy's");
    }
    // The rows that both have, with the values that do not depend on time.
    let [ours, theirs] = [socket(&bowline), haproxy.socket()].map(|socket| rows(&ask(&socket, "show stat")));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for column in
            ["pxname", "svname", "status", "weight", "act", "bck", "pid", "iid", "sid", "type", "addr", "mode"]
        {
            assert_eq!(ours[column], theirs[column], "{column} of {}/{}", theirs["pxname"], theirs["svname"]);
        }
    }
    let filtered = "show stat be 4 1";
    assert_eq!(rows(&ask(&socket(&bowline), filtered)).len(), rows(&ask(&haproxy.socket(), filtered)).len());
    // Answers that scripts compare.
    for words in [
        "shutdown session 0x1",
        "shutdown session",
        "shutdown sessions server be/s",
        "shutdown sessions server be/none",
        "show sess 0x1",
        "show stat nobody 1 1",
        "show ssl cert none",
        "show ssl crl-file none",
        "show backend",
        "show cli level",
        "user;show sess",
        "set severity-output number;shutdown session 0x1",
        "set timeout cli 5s",
    ] {
        assert_eq!(ask(&socket(&bowline), words), ask(&haproxy.socket(), words), "{words}");
    }
    for words in ["show", "show ssl", "shutdown sessions", "prompt\nquit"] {
        let first = |socket: &Path| ask(socket, words).lines().next().map(str::to_owned);
        assert_eq!(first(&socket(&bowline)), first(&haproxy.socket()), "{words}");
    }
}
