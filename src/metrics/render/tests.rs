use std::time::Duration;

use super::*;
use crate::metrics::numbers::{Build, Expiries, Process, Service};
use crate::metrics::table::TABLE;
use crate::stats::Stats;
use crate::stats::labels::{ClientVerify, ConnectError, HandshakeFailure, ProxyFailure, Termination, TicketRefusal};

/// Something of everything.
fn numbers() -> Numbers {
    let stats = Stats::new(2);
    let millis = Duration::from_millis;
    stats.process().slot(1).accept_pauses.add(2);
    let frontend = stats.frontend("main");
    for index in 0..2 {
        let slot = frontend.slot(index);
        slot.active.add(3);
        slot.accepted.add(10);
        slot.bytes_from_clients.add(1000);
        slot.bytes_to_clients.add(1_000_000);
    }
    let slot = frontend.slot(0);
    slot.handshakes.of(HandshakeKind::Tls13Full).add(4);
    slot.handshakes.of(HandshakeKind::Tls13Resumed).add(2);
    slot.handshake_failures.of(HandshakeFailure::PlainHttp).add(1);
    slot.client_verify.of(ClientVerify::Revoked).add(1);
    slot.tickets_refused.of(TicketRefusal::Policy).add(1);
    slot.proxy_failures.of(ProxyFailure::NotHeader).add(1);
    slot.handshake_time.observe(millis(3));
    slot.lifetime.observe(millis(90_000));
    slot.closed.of(Termination::new(*b"--").unwrap()).add(12);
    slot.closed.of(Termination::new(*b"CD").unwrap()).add(1);
    let server = stats.server("app \"1\"", "a\\b");
    server.slot(0).active.add(6);
    server.slot(1).bytes_to_server.add(1000);
    server.slot(1).bytes_from_server.add(1_000_000);
    server.slot(0).connect_time.observe(Duration::from_micros(300));
    server.slot(0).connect_errors.of(ConnectError::Refused).add(1);
    stats.turns().slot(0).time.observe(Duration::from_micros(40));
    Numbers {
        build: Build { version: "0.1.0", rustls: "0.23.45", aws_lc: "1.17.0" },
        process: Process {
            started: Duration::from_millis(1_790_000_000_250),
            cpu: Some(millis(1500)),
            resident_bytes: Some(25_000_000),
            virtual_bytes: Some(900_000_000),
            open_descriptors: Some(40),
            max_descriptors: Some(1024),
        },
        service: Service {
            worker_restarts: 1,
            reloads_adopted: 3,
            reloads_refused: 2,
            last_reload_adopted: true,
            last_adopted_at: 1_790_000_100,
        },
        generation: 3,
        draining: false,
        connections_limit: 500,
        totals: stats.process().sum(),
        turns: stats.turn_times(),
        longest_turns: vec![1200, 0],
        frontends: stats.frontends(),
        frontend_limits: vec![("main".into(), 100)],
        servers: stats.servers(),
        log_dropped: vec![("/dev/log".into(), 7), ("queue".into(), 0)],
        expiries: Expiries {
            certificates: vec![("/etc/a.pem".into(), 1_800_000_000)],
            staples: vec![("/etc/a.pem.ocsp".into(), 1_791_000_000)],
            client_cas: vec![("/etc/ca.pem".into(), 1_900_000_000)],
            crls: vec![("/etc/crl.pem".into(), 1_795_000_000)],
        },
        ticket_key_age: Some(Duration::from_secs(90)),
    }
}

/// Written with `BOWLINE_REWRITE=1`, read by eye and by `promtool check metrics`.
#[test]
fn the_text_is_as_it_was_checked() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics/render/golden.prom");
    let text = render(&numbers());
    if std::env::var_os("BOWLINE_REWRITE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == text, "{text}");
}

#[test]
fn every_metric_of_the_table_is_told_once() {
    let text = render(&numbers());
    let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(told, TABLE.iter().map(|metric| metric.name).collect::<Vec<_>>());
}

#[test]
fn what_is_not_known_is_left_out() {
    let text = render(&Numbers::default());
    assert!(
        !text.contains("process_open_fds") && !text.contains("ticket_key_age") && !text.contains("_cert"),
        "{text}"
    );
}
