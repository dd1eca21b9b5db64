//! Stand-in: replaced when merging.
#![allow(missing_docs)]

use std::sync::Arc;

use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::Model;
use crate::material::{Entry, Material};

#[derive(Debug)]
pub struct Snapshot {
    pub generation: u64,
    pub model: Model,
}

#[allow(clippy::type_complexity)]
pub fn build(
    material: &Material,
    _previous: Option<&Arc<Snapshot>>,
) -> Result<(Snapshot, Vec<Diagnostic>, Vec<String>), Vec<Diagnostic>> {
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
        Ok((Snapshot { generation: material.generation, model }, parsed.diagnostics, report))
    } else {
        Err(errors)
    }
}
