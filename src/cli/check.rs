//! `-c`: the two steps of a start, without the start.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use super::arguments::Arguments;
use crate::master::handover::can_take_over;
use crate::master::material::{Request, collect};
use crate::master::plan::Plan;
use crate::report::{self, ReportLevel, ReportLine, Summary};
use crate::snapshot::Shared;
use crate::stats::Stats;
use crate::sys::privileges::Ids;
use crate::tls::tickets::TicketKeys;
use crate::worker;

/// Reads and builds everything, prints what there is to say, and says by its exit code whether a start would accept it.
pub(super) fn run(request: &Request, arguments: &Arguments) -> ExitCode {
    let report = check(request, arguments.warnings_fail);
    let summary = Summary::of(&report);
    let valid = summary.errors == 0;
    if !arguments.quiet {
        for line in &report {
            if line.level != ReportLevel::Fact {
                eprintln!("{}", line.text.trim_end());
            } else if arguments.verbose {
                eprintln!("{}", report::Escaped(&line.text));
            }
        }
        let verdict = if valid { "Configuration file is valid" } else { "Configuration file is not valid" };
        super::print(&format!("{verdict}: {summary}\n"));
    }
    if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(super) fn check(request: &Request, warnings_fail: bool) -> Vec<ReportLine> {
    if let Err(reason) = can_take_over() {
        return vec![ReportLine::new(ReportLevel::Error, reason)];
    }
    let mut collected = match collect(request, None) {
        Ok(collected) => collected,
        Err(report) => return report,
    };
    let mut report = std::mem::take(&mut collected.report);
    let material = &mut collected.material;
    // What a service would adopt first; the descriptor limit of this shell says nothing about the service.
    material.generation = 1;
    material.maxconn = collected.model.process.maxconn.as_ref().map_or(u32::MAX, |maxconn| maxconn.value);
    // Checking needs no rights: who may become whom is only known at the start, as root.
    let as_root = Ids { uid: 0, gid: 0 };
    if let Err(diagnostic) = Plan::settle(&collected.model.process, as_root, &mut report) {
        report.extend(report::render(&[*diagnostic], &material.sources));
    }
    let shared = Shared { stats: Stats::new(1), tickets: Arc::new(TicketKeys::new(Instant::now())) };
    match worker::build::build(material, &shared, None) {
        Ok(built) => report::merge(&mut report, built.report),
        Err(refusal) => report::merge(&mut report, refusal),
    }
    if warnings_fail || collected.model.process.zero_warning {
        report::forbid_warnings(&mut report);
    }
    report
}
