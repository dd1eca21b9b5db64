//! What is counted, and how often.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};

use nix::sys::signal::{Signal, kill};

use crate::support::bowline::{descriptors, resident};
use crate::support::certs::{DAY, now};
use crate::support::client::{Client, Ending, Version, dial};
use crate::support::metrics::{Scrape, scrape_until};
use crate::support::{Bowline, Config, Echo, Leaf, Scripted, both_versions, pki, serve};

fn config() -> Config {
    Config::new().global("metrics socket {port:metrics}")
}

fn metrics(bowline: &Bowline) -> SocketAddr {
    bowline.address("metrics")
}

/// Connects, has `data` echoed, and ends as one should.
#[track_caller]
fn visit(client: &Client, address: SocketAddr, data: &[u8]) {
    let mut tls = client.connect(address);
    tls.echo(data);
    tls.close_notify();
    assert_eq!(tls.ending(), Ending::CloseNotify);
}

/// Scrapes when this many connections have ended.
#[track_caller]
fn after_ends(bowline: &Bowline, ended: u32) -> Scrape {
    scrape_until(metrics(bowline), "the end of all connections", |scrape| {
        scrape.value("bowline_connection_duration_seconds_count{frontend=\"fe\"}") == f64::from(ended)
    })
}

#[track_caller]
fn assert_nonzero(scrape: &Scrape, metric: &str, expected: &[(&str, u32)]) {
    let mut expected: Vec<(String, f64)> =
        expected.iter().map(|(labels, count)| ((*labels).to_owned(), f64::from(*count))).collect();
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(scrape.nonzero(metric), expected, "{metric}");
}

both_versions! {
    fn full_and_resumed_handshakes(version) {
        let echo = Echo::start();
        let bowline = serve(&config().bind_mtls("").server(echo.address(), ""));
        let client = Client::new(version).identity(&pki().good);
        visit(&client, bowline.main(), b"first");
        visit(&client, bowline.main(), b"second");
        visit(&client, bowline.main(), b"third");
        let scrape = after_ends(&bowline, 3);
        let name = version.name();
        let (full, resumed) = (
            format!("frontend=\"fe\",version=\"{name}\",resumed=\"false\""),
            format!("frontend=\"fe\",version=\"{name}\",resumed=\"true\""),
        );
        assert_nonzero(&scrape, "bowline_tls_handshakes_total", &[(&full, 1), (&resumed, 2)]);
        assert_nonzero(&scrape, "bowline_tls_client_verify_total", &[("frontend=\"fe\",result=\"ok\"", 3)]);
        assert_nonzero(&scrape, "bowline_tls_handshake_failures_total", &[]);
        assert_nonzero(&scrape, "bowline_tls_tickets_refused_total", &[]);
        assert_nonzero(&scrape, "bowline_connections_accepted_total", &[("frontend=\"fe\"", 3)]);
        assert_nonzero(&scrape, "bowline_connections_active", &[]);
        assert_nonzero(&scrape, "bowline_backend_connections_active", &[]);
        assert_nonzero(&scrape, "bowline_connections_closed_total", &[("frontend=\"fe\",termination=\"--\"", 3)]);
        assert_nonzero(&scrape, "bowline_tls_handshake_duration_seconds_count", &[("frontend=\"fe\"", 3)]);
        assert_nonzero(&scrape, "bowline_backend_connect_duration_seconds_count", &[("backend=\"be\",server=\"s\"", 3)]);
        let bytes = [("direction=\"to_backend\"", 16), ("direction=\"to_client\"", 16)];
        let with = |labels: &str| bytes.map(|(direction, count)| (format!("{labels},{direction}"), count));
        for (metric, labels) in [("bowline_bytes_total", "frontend=\"fe\""), ("bowline_backend_bytes_total", "backend=\"be\",server=\"s\"")] {
            let expected = with(labels);
            let expected: Vec<(&str, u32)> = expected.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
            assert_nonzero(&scrape, metric, &expected);
        }
    }

    fn a_ticket_that_the_new_policy_does_not_honour(version) {
        let echo = Echo::start();
        let bowline = serve(&config().bind_mtls("crl-file {dir}/crl.pem").server(echo.address(), ""));
        let client = Client::new(version).identity(&pki().good);
        visit(&client, bowline.main(), b"first");
        let other = pki().client_ca.issue(&Leaf::client("somebody else"));
        bowline.site.write("crl.pem", pki().client_ca.crl(&[&other]));
        bowline.reload();
        visit(&client, bowline.main(), b"second");
        let scrape = after_ends(&bowline, 2);
        let refused = "frontend=\"fe\",reason=\"policy\"";
        assert_nonzero(&scrape, "bowline_tls_tickets_refused_total", &[(refused, 1)]);
        let full = format!("frontend=\"fe\",version=\"{}\",resumed=\"false\"", version.name());
        assert_nonzero(&scrape, "bowline_tls_handshakes_total", &[(&full, 2)]);
        assert!(scrape.value("bowline_tls_ticket_key_age_seconds") < 600.0);
    }

    fn every_reason_to_refuse_a_certificate(version) {
        let backend = Scripted::start();
        let bowline = serve(&config().bind_mtls("crl-file {dir}/crl.pem").server(backend.address(), ""));
        let ca = &pki().client_ca;
        let revoked = ca.issue(&Leaf::client("mallory"));
        bowline.site.write("crl.pem", ca.crl(&[&revoked]));
        bowline.reload();
        let stranger = pki().other_ca.issue(&Leaf::client("mallory"));
        let expired = ca.issue(&Leaf::client("mallory").valid(now() - 2 * DAY, now() - 60));
        let early = ca.issue(&Leaf::client("mallory").valid(now() + 600, now() + DAY));
        let server = ca.issue(&Leaf::client("mallory").usages(&[rcgen::ExtendedKeyUsagePurpose::ServerAuth]));
        let known = [("revoked", &revoked), ("unknown_ca", &stranger), ("expired", &expired), ("not_yet_valid", &early), ("wrong_purpose", &server)];
        let mut results = vec![("frontend=\"fe\",result=\"missing\"".to_owned(), 1)];
        Client::new(version).refused(bowline.main());
        for (result, identity) in known {
            Client::new(version).identity(identity).refused(bowline.main());
            results.push((format!("frontend=\"fe\",result=\"{result}\""), 1));
        }
        let scrape = after_ends(&bowline, 6);
        let results: Vec<(&str, u32)> = results.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
        assert_nonzero(&scrape, "bowline_tls_client_verify_total", &results);
        let reasons = [
            ("frontend=\"fe\",reason=\"client_certificate_missing\"", 1),
            ("frontend=\"fe\",reason=\"client_certificate_refused\"", 5),
        ];
        assert_nonzero(&scrape, "bowline_tls_handshake_failures_total", &reasons);
        assert_nonzero(&scrape, "bowline_tls_handshakes_total", &[]);
        assert_nonzero(&scrape, "bowline_connections_closed_total", &[("frontend=\"fe\",termination=\"PR\"", 6)]);
        backend.assert_untouched_by(bowline);
    }

    fn a_certificate_that_nobody_has_to_show(version) {
        let echo = Echo::start();
        let config = config().bind_tls("ca-file {dir}/ca.pem verify optional").server(echo.address(), "");
        let bowline = serve(&config);
        visit(&Client::new(version), bowline.main(), b"anonymous");
        visit(&Client::new(version).identity(&pki().good), bowline.main(), b"alice");
        let scrape = after_ends(&bowline, 2);
        let results = [("frontend=\"fe\",result=\"none\"", 1), ("frontend=\"fe\",result=\"ok\"", 1)];
        assert_nonzero(&scrape, "bowline_tls_client_verify_total", &results);
    }

    fn a_client_that_does_not_believe_us(version) {
        let backend = Scripted::start();
        let bowline = serve(&config().bind_tls("").server(backend.address(), ""));
        let client = Client::strict(version).sni("other.test");
        let mut tls = client.over(client.dial(bowline.main()));
        tls.conn.complete_io(&mut tls.tcp).expect_err("another name");
        let scrape = after_ends(&bowline, 1);
        let reason = "frontend=\"fe\",reason=\"server_certificate_refused\"";
        assert_nonzero(&scrape, "bowline_tls_handshake_failures_total", &[(reason, 1)]);
        backend.assert_untouched_by(bowline);
    }

    fn the_bytes_of_a_connection_that_lives(version) {
        let echo = Echo::start();
        let bowline = serve(&config().bind_tls("").server(echo.address(), ""));
        let mut tls = Client::new(version).connect(bowline.main());
        for round in 1..=3 {
            tls.exchange(&[7; 100_000], 100_000, 10_000);
            let scrape = scrape_until(metrics(&bowline), "all bytes", |scrape| {
                let direction = |word: &str| scrape.value(&format!("bowline_bytes_total{{frontend=\"fe\",direction=\"{word}\"}}"));
                let all = f64::from(round * 100_000);
                assert!(direction("to_backend") <= all && direction("to_client") <= all);
                (direction("to_backend"), direction("to_client")) == (all, all)
            });
            assert_nonzero(&scrape, "bowline_connections_active", &[("frontend=\"fe\"", 1)]);
            assert_nonzero(&scrape, "bowline_backend_connections_active", &[("backend=\"be\",server=\"s\"", 1)]);
            assert_nonzero(&scrape, "bowline_connection_duration_seconds_count", &[]);
        }
    }
}

#[test]
fn what_is_no_handshake() {
    let backend = Scripted::start();
    let config = config()
        .timeout("client-hs", "2s")
        .bind_tls("strict-sni ssl-min-ver TLSv1.3 ciphersuites TLS_AES_256_GCM_SHA384")
        .server(backend.address(), "");
    let bowline = serve(&config);
    let client = Client::new(Version::Tls13);
    let hello = client.hello();
    let send = |bytes: &[u8]| {
        let mut tcp = dial(bowline.main());
        tcp.write_all(bytes).expect("bytes");
        tcp
    };
    let mut waiting = vec![dial(bowline.main()), send(&hello[..100])];
    drop(dial(bowline.main()));
    drop(send(&hello[..100]));
    waiting.push(send(b"GET / HTTP/1.1\r\n\r\n"));
    waiting.push(send(b"SSH-2.0-OpenSSH_9.2\r\n"));
    waiting.push(send(&[22, 3, 1, 0xff, 0xff]));
    client.clone().sni("unknown.test").refused(bowline.main());
    client.no_sni().refused(bowline.main());
    Client::new(Version::Tls12).refused(bowline.main());
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let groups = [rustls::crypto::aws_lc_rs::kx_group::X25519];
    Client::offering(Version::Tls13, &[suite], &groups).refused(bowline.main());
    let scrape = after_ends(&bowline, 11);
    let reasons = [
        ("frontend=\"fe\",reason=\"empty\"", 2),
        ("frontend=\"fe\",reason=\"aborted\"", 1),
        ("frontend=\"fe\",reason=\"timeout\"", 1),
        ("frontend=\"fe\",reason=\"plain_http\"", 1),
        ("frontend=\"fe\",reason=\"not_tls\"", 1),
        ("frontend=\"fe\",reason=\"too_large\"", 1),
        ("frontend=\"fe\",reason=\"server_name\"", 2),
        ("frontend=\"fe\",reason=\"version\"", 1),
        ("frontend=\"fe\",reason=\"cipher\"", 1),
    ];
    assert_nonzero(&scrape, "bowline_tls_handshake_failures_total", &reasons);
    let states = [
        ("frontend=\"fe\",termination=\"CR\"", 2),
        ("frontend=\"fe\",termination=\"PR\"", 7),
        ("frontend=\"fe\",termination=\"cR\"", 2),
    ];
    assert_nonzero(&scrape, "bowline_connections_closed_total", &states);
    assert_nonzero(&scrape, "bowline_tls_client_verify_total", &[]);
    drop(waiting);
    backend.assert_untouched_by(bowline);
}

#[test]
fn what_is_no_proxy_header() {
    let backend = Scripted::start();
    let config = config().timeout("client-hs", "2s").bind_tls("accept-proxy").server(backend.address(), "");
    let bowline = serve(&config);
    let send = |bytes: &[u8]| {
        let mut tcp = dial(bowline.main());
        tcp.write_all(bytes).expect("bytes");
        tcp
    };
    let _waiting =
        [dial(bowline.main()), send(b"PROXY TCP4 192.0."), send(b"GET / HTTP/1.1\r\n"), send(b"PROXY TCP9 x\r\n")];
    drop(dial(bowline.main()));
    drop(send(b"PROXY TCP4 192.0."));
    let scrape = after_ends(&bowline, 6);
    let reasons = [
        ("frontend=\"fe\",reason=\"empty\"", 2),
        ("frontend=\"fe\",reason=\"truncated\"", 1),
        ("frontend=\"fe\",reason=\"timeout\"", 1),
        ("frontend=\"fe\",reason=\"not_a_header\"", 1),
        ("frontend=\"fe\",reason=\"invalid\"", 1),
    ];
    assert_nonzero(&scrape, "bowline_proxy_header_failures_total", &reasons);
    assert_nonzero(&scrape, "bowline_tls_handshake_failures_total", &[]);
}

#[test]
fn servers_that_cannot_be_reached() {
    let echo = Echo::start();
    let config = config()
        .bind_tls("")
        .server(echo.address(), "")
        .pair("closed")
        .bind("closed", "ssl crt {dir}/server.pem")
        .server_line("retries 1")
        .server_line("server s {port:nobody}")
        .pair("missing")
        .bind("missing", "ssl crt {dir}/server.pem")
        .server_line("retries 0")
        .server_line("server s unix@{dir}/missing.sock");
    let bowline = serve(&config);
    let client = Client::new(Version::Tls13);
    for name in ["closed", "missing"] {
        let ending = client.connect(bowline.address(name)).ending();
        assert!(matches!(ending, Ending::Truncated | Ending::Reset), "{ending:?}");
    }
    visit(&client, bowline.main(), b"x");
    let scrape = scrape_until(metrics(&bowline), "three ends", |scrape| {
        scrape.nonzero("bowline_connection_duration_seconds_count").len() == 3
    });
    let errors = [
        ("backend=\"closed-be\",server=\"s\",reason=\"refused\"", 1),
        ("backend=\"missing-be\",server=\"s\",reason=\"not_found\"", 1),
    ];
    assert_nonzero(&scrape, "bowline_backend_connect_errors_total", &errors);
    let retries = [("backend=\"closed-be\",server=\"s\"", 1)];
    assert_nonzero(&scrape, "bowline_backend_connect_retries_total", &retries);
    let connects = [("backend=\"be\",server=\"s\"", 1)];
    assert_nonzero(&scrape, "bowline_backend_connect_duration_seconds_count", &connects);
    let states = [
        ("frontend=\"closed\",termination=\"SC\"", 1),
        ("frontend=\"fe\",termination=\"--\"", 1),
        ("frontend=\"missing\",termination=\"SC\"", 1),
    ];
    assert_nonzero(&scrape, "bowline_connections_closed_total", &states);
}

#[test]
fn ends_of_every_kind() {
    let backend = Scripted::start();
    let config = config().timeout("client", "1s").bind_tls("").server(backend.address(), "");
    let bowline = serve(&config);
    let client = Client::new(Version::Tls13);
    let opened = || {
        let mut tls = client.connect(bowline.main());
        tls.write_all(b"x");
        let mut peer = backend.accept();
        assert_eq!(peer.read_exact(1), b"x");
        (tls, peer)
    };
    let silent = opened();
    let (tls, _peer) = opened();
    tls.reset();
    let (_tls, peer) = opened();
    peer.reset();
    let scrape = after_ends(&bowline, 3);
    let states = [
        ("frontend=\"fe\",termination=\"CD\"", 1),
        ("frontend=\"fe\",termination=\"SD\"", 1),
        ("frontend=\"fe\",termination=\"cD\"", 1),
    ];
    assert_nonzero(&scrape, "bowline_connections_closed_total", &states);
    drop(silent);
}

#[test]
fn reloads_and_restarts() {
    let echo = Echo::start();
    let bowline = serve(&config().bind_tls("").server(echo.address(), ""));
    let service = |adopted: u32, refused: u32, restarts: u32, successful: u32| {
        scrape_until(metrics(&bowline), "what the master has told", |scrape| {
            scrape.value("bowline_reloads_total{result=\"success\"}") == f64::from(adopted)
                && scrape.value("bowline_reloads_total{result=\"failure\"}") == f64::from(refused)
                && scrape.value("bowline_worker_restarts_total") == f64::from(restarts)
                && scrape.value("bowline_config_last_reload_successful") == f64::from(successful)
                && scrape.value("bowline_config_generation") == f64::from(adopted)
        })
    };
    let start = service(1, 0, 0, 1).value("bowline_config_last_reload_success_timestamp_seconds");
    assert!((start - now() as f64).abs() < 60.0, "{start}");
    bowline.reload();
    service(2, 0, 0, 1);
    let good = std::fs::read(bowline.site.path("server.pem")).expect("a file");
    bowline.site.write("server.pem", "rubbish");
    bowline.reload_refused(&["reload refused"]);
    let refused = service(2, 1, 0, 0);
    assert!(refused.value("bowline_config_last_reload_success_timestamp_seconds") >= start);
    bowline.site.write("server.pem", good);
    bowline.reload();
    service(3, 1, 0, 1);

    visit(&Client::new(Version::Tls13), bowline.main(), b"x");
    let accepted = "bowline_connections_accepted_total{frontend=\"fe\"}";
    assert_eq!(after_ends(&bowline, 1).value(accepted), 1.0);
    let mark = bowline.log.mark();
    kill(bowline.worker(), Signal::SIGKILL).expect("a worker");
    bowline.log.wait_after(mark, &["worker adopted generation 3"]);
    let again = service(3, 1, 1, 1);
    assert_eq!(again.value(accepted), 0.0, "a new worker counts from the beginning");
}

#[test]
fn the_process_itself() {
    let echo = Echo::start();
    let bowline = serve(
        &config()
            .global("nbthread 2")
            .global("maxconn 1234")
            .bind_tls("")
            .frontend_line("maxconn 77")
            .server(echo.address(), ""),
    );
    let clients: Vec<_> = (0..20).map(|_| Client::new(Version::Tls13).connect(bowline.main())).collect();
    let scrape = scrape_until(metrics(&bowline), "all connections at the server", |scrape| {
        scrape.value("bowline_backend_connect_duration_seconds_count{backend=\"be\",server=\"s\"}") == 20.0
    });
    assert_eq!(scrape.value("bowline_connections_limit"), 1234.0);
    assert_eq!(scrape.value("bowline_frontend_connections_limit{frontend=\"fe\"}"), 77.0);
    let build = format!("bowline_build_info{{version=\"{}\",rustls=\"0.23.", env!("CARGO_PKG_VERSION"));
    assert!(scrape.keys().any(|key| key.starts_with(&build)), "{build}");
    let worker = bowline.worker();
    let (open, told) = (descriptors(worker) as f64, scrape.value("process_open_fds"));
    assert!((open - told).abs() < 10.0 && told > 40.0, "{open} open, {told} told");
    let (memory, told) = (resident(worker) as f64, scrape.value("process_resident_memory_bytes"));
    assert!((memory - told).abs() < 8e6, "{memory} resident, {told} told");
    assert!(scrape.value("process_virtual_memory_bytes") > told);
    assert!(scrape.value("process_max_fds") >= 1234.0 * 2.0);
    assert!(scrape.value("process_cpu_seconds_total") > 0.0);
    assert!((scrape.value("process_start_time_seconds") - now() as f64).abs() < 60.0);
    assert!(scrape.value("bowline_loop_turn_duration_seconds_count") >= 20.0);
    let longest = [0, 1].map(|index| scrape.value(&format!("bowline_loop_longest_turn_seconds{{loop=\"{index}\"}}")));
    assert!(longest.iter().any(|longest| (1e-6..5.0).contains(longest)), "{longest:?}");
    drop(clients);
}

#[test]
fn dropped_log_lines() {
    let echo = Echo::start();
    let config = config().global("log {dir}/nobody.sock local0").bind_tls("").server(echo.address(), "");
    let bowline = serve(&config);
    visit(&Client::new(Version::Tls13), bowline.main(), b"x");
    let sink = bowline.site.path("nobody.sock").display().to_string();
    let series = format!("bowline_log_dropped_total{{sink=\"{sink}\"}}");
    let scrape =
        scrape_until(metrics(&bowline), "a dropped line", |scrape| scrape.has(&series) && scrape.value(&series) >= 1.0);
    assert_eq!(scrape.value("bowline_log_dropped_total{sink=\"queue\"}"), 0.0);
    assert_eq!(scrape.value("bowline_log_dropped_total{sink=\"stderr\"}"), 0.0);
}

/// Whatever a client sends, it cannot make a series of its own.
#[test]
fn no_client_chooses_a_label() {
    let echo = Echo::start();
    let bowline = serve(&config().bind_mtls("").server(echo.address(), ""));
    visit(&Client::new(Version::Tls13).identity(&pki().good), bowline.main(), b"x");
    let before: Vec<String> = after_ends(&bowline, 1).keys().map(str::to_owned).collect();
    let mallory = pki().other_ca.issue(&Leaf::client("mallory"));
    let mut ended = 1;
    for name in ["one.evil.test", "two.evil.test", "three.evil.test"] {
        Client::new(Version::Tls13).sni(name).identity(&mallory).refused(bowline.main());
        let good = Client::new(Version::Tls12).sni(name).identity(&pki().good);
        visit(&good, bowline.main(), name.as_bytes());
        let tcp = dial(bowline.main());
        tcp.shutdown(Shutdown::Both).expect("an end");
        ended += 3;
    }
    let after = after_ends(&bowline, ended);
    // What has not occurred yet, and sinks that have had no line yet, are left out.
    let late = ["bowline_connections_closed_total{", "bowline_log_dropped_total{"];
    let is_late = |key: &str| late.iter().any(|metric| key.starts_with(metric));
    let new: Vec<&str> = after.keys().filter(|key| !is_late(key) && !before.iter().any(|old| old == key)).collect();
    assert_eq!(new, Vec::<&str>::new());
    for key in after.keys() {
        assert!(!key.contains("evil") && !key.contains("mallory") && !key.contains("127.0.0.1"), "{key}");
    }
}
