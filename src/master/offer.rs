//! A configuration, and how it is put for the worker.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::listeners::{Open, Wanted};
use super::logging::LogDescriptors;
use super::plan::Plan;
use crate::conf::model::Model;
use crate::ipc::{Adopt, DescriptorRole, ToWorker};
use crate::material::Material;
use crate::report::ReportLine;
use crate::sys::descriptors::sealed_memory;

/// A configuration that the worker has adopted or is asked to.
pub(super) struct Configuration {
    pub(super) material: Arc<Material>,
    pub(super) model: Model,
    /// What a worker has to be for it.
    pub(super) plan: Plan,
    pub(super) wanted: Vec<Wanted>,
    pub(super) report: Vec<ReportLine>,
    /// Descriptors that log targets need.
    pub(super) log_descriptors: LogDescriptors,
}

/// A configuration that is not in force yet, and the listeners that only it has.
pub(super) struct Candidate {
    pub(super) configuration: Configuration,
    pub(super) opened: Vec<Open>,
    /// Somebody asked for it. If not, it is what is in force with other addresses of names.
    pub(super) is_reload: bool,
}

/// The message, and the material and sockets to send with it.
pub(super) fn encode(
    configuration: &Configuration,
    sockets: Vec<(DescriptorRole, Arc<OwnedFd>)>,
    forbid_warnings: bool,
) -> io::Result<(ToWorker, Vec<Arc<OwnedFd>>)> {
    let material = postcard::to_stdvec(&*configuration.material).map_err(io::Error::other)?;
    let material = zeroize::Zeroizing::new(material);
    let mut descriptors = vec![Arc::new(sealed_memory(c"material", &material)?)];
    let mut roles: Vec<DescriptorRole> = Vec::new();
    let logs = configuration.log_descriptors.iter();
    let logs = logs.map(|(key, descriptor)| (DescriptorRole::Log(key.clone()), descriptor.clone()));
    for (role, descriptor) in sockets.into_iter().chain(logs) {
        roles.push(role);
        descriptors.push(descriptor);
    }
    let adopt = Adopt {
        generation: configuration.material.generation,
        material_bytes: material.len() as u64,
        descriptors: roles,
        hard_stop_after: configuration.model.process.hard_stop_after,
        forbid_warnings,
    };
    Ok((ToWorker::Adopt(adopt), descriptors))
}
