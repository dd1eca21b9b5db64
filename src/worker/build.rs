//! Material in, snapshot out, whatever the material is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::material::Material;
use crate::report::{self, ReportLevel, ReportLine};
use crate::snapshot::{self, Shared, Snapshot};

/// A snapshot that can be adopted.
pub struct Built {
    /// Immutable from now on.
    pub snapshot: Snapshot,
    /// Warnings, notices, and what will be in force.
    pub report: Vec<ReportLine>,
}

/// Builds a snapshot. A parser that panics on a file refuses the configuration and harms nothing else.
///
/// # Errors
/// Why not, rendered.
pub fn build(material: &Material, shared: &Shared, previous: Option<&Snapshot>) -> Result<Built, Vec<ReportLine>> {
    let built = catch_unwind(AssertUnwindSafe(|| snapshot::build(material, shared, previous)));
    match built {
        Ok(Ok(snapshot::Built { snapshot, diagnostics, report: facts })) => {
            let mut report = report::render(&diagnostics, &material.sources);
            report.extend(facts.into_iter().map(|fact| ReportLine::new(ReportLevel::Fact, fact)));
            Ok(Built { snapshot, report })
        }
        Ok(Err(diagnostics)) => Err(report::render(&diagnostics, &material.sources)),
        Err(_) => {
            let text = "building the configuration failed unexpectedly; the panic is in the log";
            Err(vec![ReportLine::new(ReportLevel::Error, text)])
        }
    }
}
