//! What there is to tell at this moment: counters added up, and what the snapshot and the system say.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, UNIX_EPOCH};

use super::Site;
use crate::metrics::numbers::{Build, Expiries, Numbers, Process, Service};
use crate::snapshot::Snapshot;
use crate::stats::ServiceFacts;
use crate::sys::{limits, usage};
use crate::tls::policy::Expiring;
use crate::versions;

/// All of it.
pub(super) fn numbers(site: &Site) -> Numbers {
    let (snapshot, stats, now) = (site.snapshot(), &site.stats, Instant::now());
    let minute = stats.minute(now);
    let of_library = |name| versions::of_library(name).unwrap_or_default();
    Numbers {
        build: Build { version: versions::PROGRAM, rustls: of_library("rustls"), aws_lc: of_library("aws-lc-rs") },
        process: process(site),
        service: service(stats.service()),
        generation: snapshot.generation,
        draining: site.is_draining(),
        connections_limit: snapshot.maxconn(),
        totals: stats.process().sum(),
        turns: stats.turn_times(),
        longest_turns: stats.turns().slots().iter().map(|slot| slot.longest.microseconds(minute)).collect(),
        frontends: stats.frontends(),
        frontend_limits: frontend_limits(&snapshot),
        servers: stats.servers(),
        log_dropped: site.sources.log.dropped_at_each(),
        expiries: expiries(&snapshot),
        ticket_key_age: site.sources.tickets.age(now),
    }
}

fn process(site: &Site) -> Process {
    let memory = site.sources.usage.memory();
    Process {
        started: site.sources.started.duration_since(UNIX_EPOCH).unwrap_or_default(),
        cpu: usage::processor_time(),
        resident_bytes: memory.map(|memory| memory.resident),
        virtual_bytes: memory.map(|memory| memory.total),
        open_descriptors: site.sources.usage.descriptors(),
        max_descriptors: limits::descriptors().ok().map(|(soft, _)| soft),
    }
}

fn service(facts: &ServiceFacts) -> Service {
    Service {
        worker_restarts: facts.worker_restarts.value(),
        reloads_adopted: facts.reloads_adopted.value(),
        reloads_refused: facts.reloads_refused.value(),
        last_reload_adopted: facts.last_reload_adopted.value() == 1,
        last_adopted_at: facts.last_adopted_at.value(),
    }
}

fn frontend_limits(snapshot: &Snapshot) -> Vec<(String, u32)> {
    let limits = snapshot.binds().filter_map(|bind| Some((bind.frontend.name.clone(), bind.frontend.maxconn?)));
    limits.collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// By file; what stands in a file several times, or in several lines, is there once.
fn expiries(snapshot: &Snapshot) -> Expiries {
    let mut ends: [BTreeMap<&Path, u64>; 4] = Default::default();
    for expiry in snapshot.binds().filter_map(|bind| bind.route.tls.as_ref()).flat_map(|policy| policy.expiries()) {
        let files = match expiry.of {
            Expiring::Certificate => &mut ends[0],
            Expiring::Staple => &mut ends[1],
            Expiring::ClientCa => &mut ends[2],
            Expiring::Crl => &mut ends[3],
        };
        let end = files.entry(expiry.path).or_insert(u64::MAX);
        *end = expiry.at.as_secs().min(*end);
    }
    let [certificates, staples, client_cas, crls] =
        ends.map(|files| files.into_iter().map(|(path, end)| (path.display().to_string(), end)).collect());
    Expiries { certificates, staples, client_cas, crls }
}
