//! Where the master's own messages go, and the descriptors that log lines of the worker need.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;

use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{LogSink, Model};
use crate::log::{Queue, Targets, Writer, logger};
use crate::sys::{Inherited, reason};

/// How long the last log lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

/// By their number in the master.
pub(super) type LogDescriptors = Vec<(i32, Arc<OwnedFd>)>;

/// Duplicates of the descriptors that `log fd@n` lines name; 0 to 2 are the worker's anyway.
///
/// # Errors
/// One is not open.
pub(super) fn find_descriptors(model: &Model, inherited: &Inherited) -> Result<LogDescriptors, Vec<Diagnostic>> {
    let mut found = LogDescriptors::new();
    let frontends = model.frontends.iter().flat_map(|frontend| &frontend.logs);
    for target in model.process.logs.iter().chain(frontends) {
        if let LogSink::Descriptor(number @ 3..) = target.sink {
            if found.iter().any(|(known, _)| *known == number) {
                continue;
            }
            let descriptor = inherited.duplicate(number).map_err(|_| {
                let message = format!("this process was not started with an open descriptor {number}");
                vec![Diagnostic::error("E605", &target.at, message)]
            })?;
            found.push((number, Arc::new(descriptor)));
        }
    }
    Ok(found)
}

/// The log of the master.
pub(super) struct Logging {
    /// What the command line asked for.
    verbosity: LevelFilter,
    /// There once the first configuration is in force: threads must not be there before the fork.
    running: Option<(Queue, Writer)>,
}

impl Logging {
    /// On standard error for now.
    pub(super) fn new() -> Self {
        Self { verbosity: log::max_level(), running: None }
    }

    /// What the command line asked for.
    pub(super) fn verbosity(&self) -> LevelFilter {
        self.verbosity
    }

    /// From now on messages go where `global` says.
    pub(super) fn adopt(&mut self, model: &Model, host: &str, descriptors: &LogDescriptors) {
        if self.running.is_none() {
            match Queue::start() {
                Ok(running) => self.running = Some(running),
                Err(error) => log::error!("cannot start the log: {}", reason(&error)),
            }
        }
        if let Some((queue, _)) = &self.running {
            for (number, descriptor) in descriptors {
                match descriptor.try_clone() {
                    Ok(descriptor) => queue.inherit(*number, descriptor),
                    Err(error) => log::error!("cannot log to fd@{number}: {}", reason(&error)),
                }
            }
            let tag = model.process.log_tag.as_deref().unwrap_or("bowline");
            let host = model.process.log_host.as_ref().map(|wanted| wanted.name(host));
            logger::adopt(Targets::from_host(&model.process.logs, tag, host), queue.clone());
            if self.verbosity != LevelFilter::Info {
                log::set_max_level(self.verbosity);
            }
        }
    }

    /// Writes what is left; later messages go to standard error.
    pub(super) fn stop(&mut self) {
        if let Some((_, writer)) = self.running.take() {
            logger::release();
            writer.finish(LAST_LINES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::model::{Location, LogFraming, LogTarget};

    fn model(numbers: &[i32]) -> Model {
        let target = |number: &i32| LogTarget {
            sink: LogSink::Descriptor(*number),
            max_length: 1024,
            format: LogFraming::Raw,
            facility: 16,
            max_level: 7,
            min_level: 0,
            at: Location { file: "test.cfg".into(), line: 4, column: 1 },
        };
        let mut model = Model::default();
        model.process.logs = numbers.iter().map(target).collect();
        model
    }

    #[test]
    fn each_descriptor_is_found_once_and_one_that_is_closed_is_an_error() {
        let (_reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&writer);
        let inherited = Inherited::note().unwrap();
        let found = find_descriptors(&model(&[1, number, 2, number]), &inherited).unwrap();
        assert_eq!(found.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [number]);
        let error = find_descriptors(&model(&[1_000_000]), &inherited).unwrap_err();
        assert_eq!((error[0].code, error[0].at.line), ("E605", 4));
    }
}
