//! The privileged process: reads the configuration and every file it names, binds the listeners, starts the worker and
//! another one if it crashes, and turns signals into reloads and drains. It never reads a byte from the network.

pub mod material;
pub mod plan;

mod child;
mod daemon;
pub mod handover;
mod listener_name;
mod listeners;
mod logging;
mod names;
mod notify;
mod offer;
mod service;
mod signals;
mod waiting;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

pub use logging::check_files as check_log_files;

use daemon::{Detached, Promise};
use handover::Handover;
use listeners::{Kept, Listeners};
use material::{Request, collect};
use notify::Notify;
use service::Service;
use signals::Signals;

use crate::conf::model::{AdminSocket, Model};
use crate::report::{ReportLevel, ReportLine, Summary};
use crate::sys::privileges;
use crate::sys::{Inherited, reason};

/// Whether to go into the background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// If `global` says `daemon`.
    #[default]
    AsConfigured,
    /// `-D`
    Always,
    /// `-db`
    Never,
}

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the configuration is.
    pub request: Request,
    /// `-D`, `-db`. Ignored when systemd waits for a notification, because it follows the process that it started.
    pub background: Background,
    /// `-p`, instead of `pidfile`.
    pub pidfile: Option<PathBuf>,
    /// `-n`, instead of `maxconn`.
    pub maxconn: Option<u32>,
    /// `-S`: a control socket beside those of the configuration.
    pub master_socket: Option<AdminSocket>,
    /// `-dW`: a configuration with warnings is refused.
    pub warnings_fail: bool,
    /// The current directory at the start, before `-C`.
    pub started_in: PathBuf,
    /// The words of a command line that checks the same configuration and starts nothing.
    pub check: Vec<OsString>,
    /// Where to write the addresses that are listened on, once the service is up.
    pub listen_report: Option<PathBuf>,
}

impl Options {
    /// `-dW` or `zero-warning`.
    fn forbids_warnings(&self, model: &Model) -> bool {
        self.warnings_fail || model.process.zero_warning
    }
}

/// Runs the service until it is told to stop. Success if it was up and has drained.
pub fn run(options: Options) -> ExitCode {
    match start(options) {
        Ok(Started::Foreground(code)) => code,
        Ok(Started::Service(service)) => service.run(),
        Err(()) => ExitCode::FAILURE,
    }
}

enum Started {
    Foreground(ExitCode),
    Service(Box<Service>),
}

/// Everything up to the first worker. What went wrong is in the log already.
fn start(options: Options) -> Result<Started, ()> {
    let fail = |what: &str, error: std::io::Error| log::error!("{what}: {}", reason(&error));
    let mut inherited = Inherited::note().map_err(|error| fail("cannot read /proc/self/fd", error))?;
    signals::postpone_reloads().map_err(|error| fail("cannot block signals", error))?;
    privileges::hide_memory().map_err(|error| fail("cannot keep the memory from others", error))?;
    if let Some(handover) = Handover::take(&mut inherited).map_err(|reason| log::error!("not started: {reason}"))? {
        let signals = Signals::new().map_err(|error| fail("cannot take over the signals", error))?;
        return Ok(Started::Service(Box::new(Service::take_over(options, inherited, signals, handover))));
    }
    // One thread until after the fork: no signal handler, no logger thread, no collecting in the background.
    let collected = collect(&options.request, None).map_err(|report| refuse_start(&report))?;
    if collected.model.process.quiet && log::max_level() < log::LevelFilter::Debug {
        log::set_max_level(log::LevelFilter::Error);
    }
    let promise = match go_to_background(&options, collected.model.process.daemon) {
        Ok(Detached::Foreground(code)) => return Ok(Started::Foreground(code)),
        Ok(Detached::Background(promise)) => promise,
        Err(error) => {
            fail("cannot go into the background", error);
            return Err(());
        }
    };
    let signals = Signals::new().map_err(|error| fail("cannot take over the signals", error))?;
    let kept = inherited.take_named(listener_name::decode);
    let kept = kept.into_iter().map(|(key, socket)| Kept { key, is_for_clients: true, socket }).collect();
    let mut service = Box::new(Service::new(options, inherited, Listeners::new(kept), promise, signals));
    service.consider(collected).map_err(|report| refuse_start(&report))?;
    Ok(Started::Service(service))
}

/// Why there is no start: all of it in the log, the first error in the status, which stays when the process is gone.
fn refuse_start(report: &[ReportLine]) {
    report.iter().for_each(ReportLine::show);
    let summary = Summary::of(report);
    log::error!("not started: {summary}");
    let error = report.iter().find(|line| line.level == ReportLevel::Error);
    let reason = error.map_or_else(|| summary.to_string(), |line| line.brief().to_owned());
    Notify::from_environment().status(&format!("not started: {reason}"));
}

fn go_to_background(options: &Options, configured: bool) -> std::io::Result<Detached> {
    let wanted = match options.background {
        Background::AsConfigured => configured,
        Background::Always => true,
        Background::Never => false,
    };
    if wanted && std::env::var_os("NOTIFY_SOCKET").is_none() {
        daemon::detach()
    } else {
        Ok(Detached::Background(Promise::none()))
    }
}
