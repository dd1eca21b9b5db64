//! Stand-in: replaced when merging.
#![allow(missing_docs)]

use std::sync::Arc;

use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::Model;
use crate::material::{Entry, Material};

pub struct Shared {
    pub stats: Arc<crate::stats::Stats>,
    pub tickets: Arc<crate::tls::tickets::TicketKeys>,
    pub maxconn: u32,
}

pub struct Snapshot {
    pub generation: u64,
    pub log: Arc<crate::log::Targets>,
    pub model: Model,
}

pub struct Built {
    pub snapshot: Snapshot,
    pub diagnostics: Vec<Diagnostic>,
    pub report: Vec<String>,
}

pub fn build(
    material: &Material,
    _shared: &Shared,
    _previous: Option<&Snapshot>,
    _now: rustls::pki_types::UnixTime,
) -> Result<Built, Vec<Diagnostic>> {
    let parsed = crate::conf::parse(&material.sources, &material.environment);
    let Some(model) = parsed.model else {
        return Err(parsed.diagnostics);
    };
    let mut errors = Vec::new();
    let mut report = Vec::new();
    for bind in model.frontends.iter().flat_map(|frontend| &frontend.binds) {
        for crt in bind.tls.iter().flat_map(|tls| &tls.crt) {
            let shown = crt.value.display();
            match material.files.entry(&crt.value) {
                Some(Entry::File(file)) if file.bytes == b"panic" => panic!("asked to"),
                Some(Entry::File(file)) => report.push(format!("{shown}: {} bytes", file.bytes.len())),
                Some(Entry::Directory(names)) => report.push(format!("{shown}: {names:?}")),
                Some(Entry::Unreadable(reason)) => {
                    errors.push(Diagnostic::error("E401", &crt.at, format!("{shown}: {reason}")))
                }
                None => errors.push(Diagnostic::error("E401", &crt.at, format!("{shown}: never collected"))),
            }
        }
    }
    if errors.is_empty() {
        let log = crate::log::Targets::new(&model.process.logs, "bowline");
        let snapshot = Snapshot { generation: material.generation, log, model };
        Ok(Built { snapshot, diagnostics: parsed.diagnostics, report })
    } else {
        Err(errors)
    }
}
