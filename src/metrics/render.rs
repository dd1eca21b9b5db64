//! Numbers to text.

use super::numbers::Numbers;
use super::table as metric;
use super::table::Metric;
use super::text::{Text, seconds};
use crate::stats::FrontendTotals;
use crate::stats::counter::ByLabel;
use crate::stats::labels::{HandshakeKind, Label};

/// The answer to `GET /metrics`.
pub fn render(numbers: &Numbers) -> String {
    let mut text = Text::default();
    service(&mut text, numbers);
    connections(&mut text, numbers);
    tls(&mut text, numbers);
    backends(&mut text, numbers);
    process(&mut text, numbers);
    text.finish()
}

fn service(text: &mut Text, numbers: &Numbers) {
    let (build, service) = (&numbers.build, &numbers.service);
    text.metric(&metric::BUILD_INFO, |samples| samples.number(&[build.version, build.rustls, build.aws_lc], 1));
    text.metric(&metric::CONFIG_GENERATION, |samples| samples.number(&[], numbers.generation));
    text.metric(&metric::RELOADS, |samples| {
        samples.number(&["success"], service.reloads_adopted);
        samples.number(&["failure"], service.reloads_refused);
    });
    text.metric(&metric::LAST_RELOAD_SUCCESSFUL, |samples| {
        samples.number(&[], u8::from(service.last_reload_adopted));
    });
    text.metric(&metric::LAST_RELOAD_SUCCESS, |samples| samples.number(&[], service.last_adopted_at));
    text.metric(&metric::WORKER_RESTARTS, |samples| samples.number(&[], service.worker_restarts));
    text.metric(&metric::DRAINING, |samples| samples.number(&[], u8::from(numbers.draining)));
}

fn connections(text: &mut Text, numbers: &Numbers) {
    text.metric(&metric::CONNECTIONS_LIMIT, |samples| samples.number(&[], numbers.connections_limit));
    let frontends = &numbers.frontends;
    each(text, &metric::CONNECTIONS_ACTIVE, frontends, |totals| totals.active);
    each(text, &metric::CONNECTIONS_ACCEPTED, frontends, |totals| totals.accepted);
    each(text, &metric::CONNECTIONS_SHED, frontends, |totals| totals.shed);
    each(text, &metric::CONNECTIONS_DENIED, frontends, |totals| totals.denied);
    text.metric(&metric::CONNECTIONS_CLOSED, |samples| {
        for (name, totals) in frontends {
            let occurred = totals.closed.iter().enumerate().filter(|(place, (_, count))| *place == 0 || **count > 0);
            occurred.for_each(|(_, (state, count))| samples.number(&[name, state.word()], count));
        }
    });
    text.metric(&metric::CONNECTION_DURATION, |samples| {
        frontends.iter().for_each(|(name, totals)| samples.distribution(&[name], &totals.lifetime));
    });
    text.metric(&metric::BYTES, |samples| {
        for (name, totals) in frontends {
            samples.number(&[name, "to_backend"], totals.bytes_from_clients);
            samples.number(&[name, "to_client"], totals.bytes_to_clients);
        }
    });
    text.metric(&metric::FRONTEND_LIMIT, |samples| {
        numbers.frontend_limits.iter().for_each(|(name, limit)| samples.number(&[name], limit));
    });
    text.metric(&metric::ACCEPT_PAUSES, |samples| samples.number(&[], numbers.totals.accept_pauses));
    text.metric(&metric::PANICS, |samples| samples.number(&[], numbers.totals.panics));
    by_label(text, &metric::PROXY_FAILURES, frontends, |totals| &totals.proxy_failures);
}

fn tls(text: &mut Text, numbers: &Numbers) {
    let frontends = &numbers.frontends;
    text.metric(&metric::HANDSHAKES, |samples| {
        for (name, totals) in frontends {
            for (kind, count) in totals.handshakes.iter() {
                let (version, resumed) = HandshakeKind::parts(kind);
                samples.number(&[name, version, if resumed { "true" } else { "false" }], count);
            }
        }
    });
    by_label(text, &metric::HANDSHAKE_FAILURES, frontends, |totals| &totals.handshake_failures);
    text.metric(&metric::HANDSHAKE_DURATION, |samples| {
        frontends.iter().for_each(|(name, totals)| samples.distribution(&[name], &totals.handshake_time));
    });
    by_label(text, &metric::CLIENT_VERIFY, frontends, |totals| &totals.client_verify);
    by_label(text, &metric::TICKETS_REFUSED, frontends, |totals| &totals.tickets_refused);
    text.metric(&metric::TICKET_KEY_AGE, |samples| {
        numbers.ticket_key_age.iter().for_each(|age| samples.number(&[], age.as_secs()));
    });
    for (metric, files) in [
        (&metric::CERTIFICATE_NOT_AFTER, &numbers.expiries.certificates),
        (&metric::STAPLE_NEXT_UPDATE, &numbers.expiries.staples),
        (&metric::CLIENT_CA_NOT_AFTER, &numbers.expiries.client_cas),
        (&metric::CRL_NEXT_UPDATE, &numbers.expiries.crls),
    ] {
        text.metric(metric, |samples| files.iter().for_each(|(path, at)| samples.number(&[path], at)));
    }
}

fn backends(text: &mut Text, numbers: &Numbers) {
    let servers = &numbers.servers;
    text.metric(&metric::BACKEND_ACTIVE, |samples| {
        servers.iter().for_each(|((backend, server), totals)| samples.number(&[backend, server], totals.active));
    });
    text.metric(&metric::BACKEND_BYTES, |samples| {
        for ((backend, server), totals) in servers {
            samples.number(&[backend, server, "to_backend"], totals.bytes_to_server);
            samples.number(&[backend, server, "to_client"], totals.bytes_from_server);
        }
    });
    text.metric(&metric::CONNECT_DURATION, |samples| {
        for ((backend, server), totals) in servers {
            samples.distribution(&[backend, server], &totals.connect_time);
        }
    });
    text.metric(&metric::CONNECT_RETRIES, |samples| {
        servers.iter().for_each(|((backend, server), totals)| samples.number(&[backend, server], totals.retries));
    });
    text.metric(&metric::CONNECT_ERRORS, |samples| {
        for ((backend, server), totals) in servers {
            for (reason, count) in totals.connect_errors.iter() {
                samples.number(&[backend, server, reason.word()], count);
            }
        }
    });
}

fn process(text: &mut Text, numbers: &Numbers) {
    text.metric(&metric::LOG_DROPPED, |samples| {
        numbers.log_dropped.iter().for_each(|(sink, lines)| samples.number(&[sink], lines));
    });
    text.metric(&metric::TURN_DURATION, |samples| samples.distribution(&[], &numbers.turns));
    text.metric(&metric::LONGEST_TURN, |samples| {
        for (index, longest) in numbers.longest_turns.iter().enumerate() {
            samples.number(&[&index.to_string()], seconds(*longest));
        }
    });
    let process = &numbers.process;
    text.metric(&metric::CPU, |samples| {
        process.cpu.iter().for_each(|cpu| samples.number(&[], cpu.as_secs_f64()));
    });
    text.metric(&metric::START_TIME, |samples| samples.number(&[], process.started.as_secs_f64()));
    for (metric, value) in [
        (&metric::RESIDENT, process.resident_bytes),
        (&metric::VIRTUAL, process.virtual_bytes),
        (&metric::OPEN_FDS, process.open_descriptors),
        (&metric::MAX_FDS, process.max_descriptors),
    ] {
        text.metric(metric, |samples| value.iter().for_each(|value| samples.number(&[], value)));
    }
}

type Frontends = [(String, FrontendTotals)];

/// One number of each frontend.
fn each(text: &mut Text, metric: &Metric, frontends: &Frontends, number: impl Fn(&FrontendTotals) -> u64) {
    text.metric(metric, |samples| {
        frontends.iter().for_each(|(name, totals)| samples.number(&[name], number(totals)));
    });
}

/// One number of each frontend for each word: those that are 0 too, because the first of a kind would be lost to `rate()`.
fn by_label<L: Label, const N: usize>(
    text: &mut Text,
    metric: &Metric,
    frontends: &Frontends,
    numbers: impl Fn(&FrontendTotals) -> &ByLabel<L, N, u64>,
) {
    text.metric(metric, |samples| {
        for (name, totals) in frontends {
            numbers(totals).iter().for_each(|(label, count)| samples.number(&[name, label.word()], count));
        }
    });
}

#[cfg(test)]
mod tests;
