//! `audit`: a JSON record for every connection and every reload, whatever became of it.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::support::certs::{DAY, now};
use super::support::client::{Client, Version, dial, reset};
use super::support::control::ask;
use super::support::metrics::{Scrape, scrape_until};
use super::support::ports::Port;
use super::support::{Bowline, Config, DEADLINE, Echo, Identity, Leaf, Site, both_versions, eventually, pki, serve};

const AUDIT: &str = "audit file@{dir}/audit.log";

/// Demands a certificate, knows a revocation list, and records.
fn mutual(echo: &Echo) -> Config {
    Config::new()
        .global("stats socket {dir}/admin.sock level admin")
        .frontend_line(AUDIT)
        .frontend_line("option dontlognull")
        .bind_mtls("crl-file {dir}/crl.pem alpn mqtt")
        .server(echo.address(), "")
}

fn text(bowline: &Bowline, file: &str) -> String {
    std::fs::read_to_string(bowline.site.path(file)).unwrap_or_default()
}

/// The records so far; every whole line must be one.
#[track_caller]
fn records(bowline: &Bowline) -> Vec<Value> {
    let text = text(bowline, "audit.log");
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits for the record of this event, which has to be the only one.
#[track_caller]
fn only(bowline: &Bowline, event: &str) -> Value {
    let of = || records(bowline).into_iter().filter(|record| record["event"] == event).collect::<Vec<_>>();
    eventually(&format!("a record of {event}"), DEADLINE, || !of().is_empty());
    let mut found = of();
    assert_eq!(found.len(), 1, "{found:?}");
    let record = found.remove(0);
    for key in ["time", "generation", "pid"] {
        assert!(!record[key].is_null(), "no {key} in {record}");
    }
    record
}

/// Connects with this certificate, is refused, and answers the record.
#[track_caller]
fn refused(version: Version, identity: Option<&Identity>, prepare: impl FnOnce(&Bowline)) -> Value {
    let echo = Echo::start();
    let bowline = serve(&mutual(&echo));
    prepare(&bowline);
    let client = Client::new(version).sni("server.test");
    match identity {
        Some(identity) => client.identity(identity).refused(bowline.main()),
        None => client.refused(bowline.main()),
    };
    let record = only(&bowline, "handshake_failed");
    assert_eq!(echo.connections(), 0);
    assert_eq!(
        (&record["frontend"], &record["listener"], &record["sni"]),
        (&json!("fe"), &json!("main"), &json!("server.test"))
    );
    assert_eq!(record["termination"], "PR");
    assert!(record.get("server").is_none() && record.get("bytes_in").is_none() && record.get("tls_version").is_none());
    if let Some(identity) = identity {
        let certificate = &record["client_cert"];
        assert_eq!(certificate["verify"], "failed");
        assert_eq!(certificate["sha256"], identity.fingerprint_hex());
        assert!(certificate["not_after"].is_string() && certificate["serial"].is_string(), "{certificate}");
    }
    record
}

both_versions! {
    fn a_connection_with_a_certificate_is_recorded_at_its_end(version) {
        let echo = Echo::start();
        let bowline = serve(&mutual(&echo));
        let client = Client::new(version).sni("server.test").alpn(&["mqtt"]).identity(&pki().good);
        let mut tls = client.connect(bowline.main());
        tls.echo(b"12345");
        let source = tls.local();
        assert!(records(&bowline).is_empty(), "it lives");
        tls.close_notify();
        tls.ending();
        let record = only(&bowline, "close");
        let text = |name: &str| record[name].as_str().unwrap_or_else(|| panic!("no {name} in {record}")).to_owned();
        assert_eq!(format!("{}:{}", text("client_ip"), record["client_port"]), source.to_string());
        assert_eq!(format!("{}:{}", text("local_ip"), record["local_port"]), bowline.main().to_string());
        assert_eq!([text("backend"), text("server"), text("server_addr")], ["be", "s", &echo.address().to_string()]);
        assert_eq!([text("sni"), text("alpn"), text("tls_version")], ["server.test", "mqtt", version.name()]);
        assert!(!text("cipher").is_empty() && !text("group").is_empty());
        assert_eq!((&record["resumed"], &record["termination"]), (&json!(false), &json!("--")));
        assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&json!(5), &json!(5)));
        for name in ["handshake_s", "connect_s", "duration_s"] {
            assert!(record[name].as_f64().is_some_and(|seconds| seconds > 0.0), "{name} in {record}");
        }
        assert_eq!(record["server_cert"]["sha256"], pki().server.fingerprint_hex());
        let certificate = &record["client_cert"];
        assert_eq!(certificate["verify"], "ok");
        assert_eq!((&certificate["subject"], &certificate["issuer"]), (&json!("/CN=alice"), &json!("/CN=Client CA")));
        assert_eq!(certificate["sha256"], pki().good.fingerprint_hex());
        assert!(certificate.get("reason").is_none() && record.get("error").is_none(), "{record}");
        assert_eq!((&record["generation"], &record["pid"]), (&json!(1), &json!(bowline.worker().as_raw())));
        assert_eq!(text("conn_id").len(), 32);
    }

    fn a_client_without_certificate_is_recorded(version) {
        let record = refused(version, None, |_| ());
        assert_eq!(record["client_cert"], json!({ "verify": "none" }));
        assert_eq!(record["tls_alert"], "certificate_required");
        assert!(record["error"].is_string(), "{record}");
    }

    fn a_certificate_of_a_stranger_is_recorded(version) {
        let stranger = pki().other_ca.issue(&Leaf::client("mallory"));
        let record = refused(version, Some(&stranger), |_| ());
        assert_eq!((&record["client_cert"]["reason"], &record["tls_alert"]), (&json!("unknown_ca"), &json!("unknown_ca")));
        assert_eq!(record["client_cert"]["subject"], "/CN=mallory");
    }

    fn an_expired_certificate_is_recorded(version) {
        let old = pki().client_ca.issue(&Leaf::client("old").valid(now() - 2 * DAY, now() - DAY));
        let record = refused(version, Some(&old), |_| ());
        assert_eq!(record["client_cert"]["reason"], "expired");
        assert!(record["error"].as_str().is_some_and(|words| words.contains("has expired on")), "{record}");
    }

    fn a_revoked_certificate_is_recorded(version) {
        let revoked = pki().client_ca.issue(&Leaf::client("revoked"));
        let record = refused(version, Some(&revoked), |bowline| {
            bowline.site.write("crl.pem", pki().client_ca.crl(&[&revoked]));
            bowline.reload();
        });
        assert_eq!((&record["client_cert"]["reason"], &record["generation"]), (&json!("revoked"), &json!(2)));
        assert_eq!(record["tls_alert"], "certificate_revoked");
    }

    fn a_resumed_session_is_recorded_with_its_certificate(version) {
        let echo = Echo::start();
        let bowline = serve(&mutual(&echo));
        let client = Client::new(version).identity(&pki().good);
        for count in 1..=2 {
            let mut tls = client.connect(bowline.main());
            tls.echo(b"hello");
            tls.close_notify();
            tls.ending();
            // Loops do not wait for each other.
            eventually("a record", DEADLINE, || records(&bowline).len() == count);
        }
        let [first, second] = &records(&bowline)[..] else { panic!("two records") };
        assert_eq!((&first["resumed"], &second["resumed"]), (&json!(false), &json!(true)));
        assert_eq!(second["client_cert"]["sha256"], pki().good.fingerprint_hex());
        assert!(second.get("server_cert").is_none(), "none was shown: {second}");
        assert_ne!(first["conn_id"], second["conn_id"]);
    }
}

#[test]
fn silent_probes_and_slow_handshakes_are_recorded_whatever_the_log_leaves_out() {
    let echo = Echo::start();
    let bowline = serve(&mutual(&echo).timeout("client-hs", "300ms"));
    drop(dial(bowline.main()));
    let record = only(&bowline, "handshake_failed");
    assert_eq!((&record["error"], &record["termination"]), (&json!("the client left without a byte"), &json!("CR")));
    assert!(record.get("client_cert").is_none() && record.get("sni").is_none(), "{record}");
    let mut slow = dial(bowline.main());
    slow.write_all(&Client::new(Version::Tls13).hello()[..40]).expect("half of a ClientHello");
    eventually("a second record", DEADLINE, || records(&bowline).len() == 2);
    let late = &records(&bowline)[1];
    assert_eq!((&late["event"], &late["termination"]), (&json!("handshake_failed"), &json!("cR")));
    assert_eq!(late["error"], "the handshake was not complete in time");
    assert!(late["duration_s"].as_f64().is_some_and(|seconds| seconds >= 0.3), "{late}");
    reset(dial(bowline.main()));
    eventually("a third record", DEADLINE, || records(&bowline).len() == 3);
}

#[test]
fn who_is_turned_away_before_tls_is_denied() {
    let echo = Echo::start();
    let config = Config::new().frontend_line(AUDIT).bind_tls("accept-proxy").server(echo.address(), "");
    let bowline = serve(&config);
    let mut tcp = dial(bowline.main());
    tcp.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("written");
    let record = only(&bowline, "denied");
    assert_eq!((&record["termination"], &record["client_ip"]), (&json!("PR"), &json!("127.0.0.1")));
    assert!(record["error"].is_string() && record.get("proxy_src").is_none(), "{record}");

    let mut tcp = dial(bowline.main());
    let sender = tcp.local_addr().expect("an address").to_string();
    tcp.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n").expect("written");
    let mut tls = Client::new(Version::Tls13).over(tcp);
    tls.handshake().expect("a handshake");
    tls.echo(b"hello");
    tls.close_notify();
    tls.ending();
    let record = only(&bowline, "close");
    assert_eq!((&record["client_ip"], &record["client_port"]), (&json!("192.0.2.7"), &json!(4711)));
    assert_eq!((&record["local_ip"], &record["local_port"]), (&json!("198.51.100.1"), &json!(443)));
    assert_eq!(record["proxy_src"], sender);
    assert!(record.get("client_cert").is_none(), "nobody asked: {record}");
}

#[test]
fn a_plain_connection_that_finds_no_server_is_recorded() {
    let nobody = Port::reserve();
    let config = Config::new().frontend_line(AUDIT).bind("main", "").server(nobody.address(), "");
    let bowline = serve(&config.server_line("retries 0"));
    let tcp = dial(bowline.main());
    let record = only(&bowline, "close");
    assert_eq!((&record["termination"], &record["server_addr"]), (&json!("SC"), &json!(nobody.address().to_string())));
    assert_eq!(record["error"], "the server cannot be reached: Connection refused");
    assert!(["tls_version", "handshake_s", "connect_s", "client_cert"].iter().all(|name| record.get(name).is_none()));
    drop(tcp);
}

#[test]
fn connections_that_are_cut_say_by_whom() {
    let echo = Echo::start();
    let mut bowline = serve(&mutual(&echo).global("hard-stop-after 1s"));
    let connect = || {
        let mut tls = Client::new(Version::Tls13).identity(&pki().good).connect(bowline.main());
        tls.echo(b"hello");
        tls
    };
    let mut cut = connect();
    ask(&bowline.site.path("admin.sock"), "shutdown sessions subject /CN=alice");
    cut.ending();
    let record = only(&bowline, "cut");
    assert_eq!((&record["error"], &record["termination"]), (&json!("shut down by a command"), &json!("KD")));
    assert_eq!((&record["bytes_in"], &record["client_cert"]["subject"]), (&json!(5), &json!("/CN=alice")));

    let stopped = connect();
    bowline.signal(Signal::SIGTERM);
    bowline.wait_exit(DEADLINE);
    let all = records(&bowline);
    assert_eq!((&all[1]["event"], &all[1]["error"]), (&json!("cut"), &json!("the process stops")));
    assert_eq!(all.len(), 2);
    drop(stopped);
}

#[test]
fn reloads_are_recorded_with_what_they_changed() {
    let echo = Echo::start();
    // One target on three lines hears once.
    let config = mutual(&echo).global("audit file@{dir}/audit.log events reload").pair("two").frontend_line(AUDIT);
    let config = config.bind("other", "ssl crt {dir}/server.pem").server(echo.address(), "");
    let bowline = serve(&config);
    let renewed = pki().server_ca.issue(&Leaf::server(&["server.test"]));
    bowline.site.write("server.pem", renewed.pem());
    bowline.reload();
    let record = only(&bowline, "reload");
    assert_eq!(
        (&record["result"], &record["by"], &record["generation"]),
        (&json!("adopted"), &json!("signal"), &json!(2))
    );
    assert_eq!(record["certificates_added"], json!([renewed.fingerprint_hex()]));
    assert_eq!(record["certificates_removed"], json!([pki().server.fingerprint_hex()]));
    assert_eq!(record["pid"], bowline.master().as_raw());

    bowline.site.write("server.pem", "nonsense");
    let answer = ask(&bowline.site.path("admin.sock"), "reload");
    assert!(answer.starts_with("Success=0"), "{answer}");
    eventually("a second record", DEADLINE, || records(&bowline).len() == 2);
    let record = &records(&bowline)[1];
    assert_eq!(
        (&record["result"], &record["by"], &record["generation"]),
        (&json!("refused"), &json!("control socket"), &json!(2))
    );
    assert!(record["error"].as_str().is_some_and(|words| words.contains("server.pem")), "{record}");
    assert!(record.get("certificates_added").is_none());

    // Nobody stops the records unrecorded.
    bowline.site.write("server.pem", renewed.pem());
    let unheard = Config::new().bind_tls("").server(echo.address(), "");
    bowline.reconfigure(&unheard);
    bowline.reload();
    eventually("a third record", DEADLINE, || records(&bowline).len() == 3);
    let record = &records(&bowline)[2];
    assert_eq!((&record["result"], &record["generation"]), (&json!("adopted"), &json!(3)));
    bowline.reload();
    drop(Client::new(Version::Tls13).connect(bowline.main()));
    bowline.log.wait_for(&["fe~ be/s"]);
    assert_eq!(records(&bowline).len(), 3, "nobody asks for more");
}

#[test]
fn the_file_is_opened_again_at_a_reload() {
    let echo = Echo::start();
    let bowline = serve(&mutual(&echo));
    let probe = |count: usize| {
        drop(dial(bowline.main()));
        eventually("a record", DEADLINE, || {
            records(&bowline).iter().filter(|one| one["event"] != "reload").count() == count
        });
    };
    probe(1);
    let [path, moved] = ["audit.log", "audit.log.1"].map(|name| bowline.site.path(name));
    std::fs::rename(path, moved).expect("moved away");
    bowline.reload();
    probe(1);
    assert_eq!(text(&bowline, "audit.log.1").lines().count(), 1);
}

#[test]
fn each_target_gets_the_events_it_asks_for() {
    let echo = Echo::start();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let syslog = format!("audit {} events establish,cut", socket.local_addr().expect("an address"));
    let config = Config::new().global("audit stdout events close len 1024").frontend_line("audit global");
    let config = config.frontend_line(&syslog).bind_tls("").server(echo.address(), "");
    let bowline = serve(&config);
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    let mut buffer = [0; 8192];
    let length = socket.recv(&mut buffer).expect("a record as soon as the client is in");
    let datagram = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(datagram.starts_with("<134>"), "{datagram}");
    let record: Value = serde_json::from_str(&datagram[datagram.find('{').expect("an object")..]).expect("JSON");
    assert_eq!(record["event"], "establish");
    assert!(["bytes_in", "duration_s", "termination"].iter().all(|name| record.get(name).is_none()), "{record}");
    tls.echo(b"hello");
    tls.close_notify();
    tls.ending();
    let line = bowline.log.wait_for(&["{\"time\":"]);
    let closed: Value = serde_json::from_str(&line).expect("the line is the record");
    assert_eq!((&closed["event"], &closed["conn_id"]), (&json!("close"), &record["conn_id"]));
    assert!(line.len() <= 1024, "{line}");
}

/// A reader that stands still costs records, which are counted, and never half of one.
#[test]
fn each_record_of_a_burst_is_there_or_counted() {
    const CONNECTIONS: u64 = 2500;
    let echo = Echo::start();
    let site = Site::new();
    let pipe = site.path("audit.pipe");
    mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe with a name");
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe);
    let reader = options.expect("the reading end");
    let config = Config::new().global("metrics socket {port:metrics}").frontend_line("audit file@{dir}/audit.pipe");
    // What the log drops would be counted too.
    let config = config.frontend_line("option dontlognull").bind_tls("").server(echo.address(), "");
    let bowline = Bowline::start(site, &config);
    (0..CONNECTIONS).for_each(|_| drop(dial(bowline.main())));
    let metrics = bowline.site.address("metrics");
    let failed = "bowline_tls_handshake_failures_total{frontend=\"fe\",reason=\"empty\"}";
    scrape_until(metrics, "all connections", |scrape| scrape.value(failed) as u64 == CONNECTIONS);

    fcntl(&reader, FcntlArg::F_SETFL(OFlag::empty())).expect("a reading end that waits");
    let (mut stored, mut dropped) = (0, 0);
    let mut lines = BufReader::new(reader).lines();
    while stored + dropped < CONNECTIONS {
        let line = lines.next().expect("more to come").expect("a line");
        let record: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        match record["event"].as_str() {
            Some("handshake_failed") => stored += 1,
            Some("dropped") => dropped += record["dropped"].as_u64().expect("a number"),
            _ => panic!("{record}"),
        }
    }
    assert_eq!(stored + dropped, CONNECTIONS);
    assert!(dropped > 0, "the pipe took {stored}: the test is too short");
    let counted = Scrape::of(metrics).nonzero("bowline_log_dropped_total");
    assert_eq!(counted.iter().map(|(_, records)| *records as u64).sum::<u64>(), dropped, "{counted:?}");
}
