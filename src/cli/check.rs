//! `-c`: the two steps of a start, without the start.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use super::arguments::Arguments;
use super::overview;
use crate::conf;
use crate::conf::diagnostic::Diagnostic;
use crate::master;
use crate::master::handover::{can_be_adopted, can_take_over};
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
    let Checked { report, overview, quiet } = check(request, arguments.warnings_fail, arguments.for_haproxy);
    let summary = Summary::of(&report);
    let valid = summary.errors == 0;
    if !arguments.quiet && (!quiet || arguments.verbose) {
        for line in report.iter().filter(|line| line.level != ReportLevel::Fact) {
            eprintln!("{}", line.for_terminal().trim_end());
        }
        if arguments.verbose {
            super::print(&overview);
        }
        let verdict = if valid { "Configuration file is valid" } else { "Configuration file is not valid" };
        super::print(&format!("{verdict}: {summary}\n"));
    }
    if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What came of a check.
#[derive(Default)]
pub(super) struct Checked {
    /// Findings.
    pub(super) report: Vec<ReportLine>,
    /// What was understood; empty if there are errors.
    overview: String,
    /// The configuration says `quiet`.
    quiet: bool,
}

pub(super) fn check(request: &Request, warnings_fail: bool, for_haproxy: bool) -> Checked {
    if let Err(reason) = can_take_over() {
        return Checked { report: vec![ReportLine::new(ReportLevel::Error, reason)], ..Checked::default() };
    }
    let mut collected = match collect(request, None) {
        Ok(collected) => collected,
        Err(report) => return Checked { report, ..Checked::default() },
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
    report.extend(can_be_adopted(&collected.model).err());
    let log_files = master::check_log_files(&collected.model, &request.directory);
    report.extend(report::render(&log_files, &material.sources));
    let shared =
        Shared { stats: Stats::new(1), tickets: Arc::new(TicketKeys::new(Instant::now())), started: Instant::now() };
    let mut overview = String::new();
    match worker::build::build(material, &shared, None) {
        Ok(built) => {
            overview = overview::text(&collected.model, &built.snapshot);
            report::merge(&mut report, built.report);
        }
        Err(refusal) => report::merge(&mut report, refusal),
    }
    if for_haproxy {
        let mut found = conf::parse_for_haproxy(&material.sources, &material.environment);
        found.retain(Diagnostic::is_error);
        report::merge(&mut report, report::render(&found, &material.sources));
    }
    if warnings_fail || collected.model.process.zero_warning {
        report::forbid_warnings(&mut report);
    }
    Checked { report, overview, quiet: collected.model.process.quiet }
}
