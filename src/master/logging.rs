//! Where the master's own messages go, and the descriptors that log lines of the worker need.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::LevelFilter;
use nix::libc;
use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid, fchown};

use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{AuditEvent, AuditTarget, Location, LogSink, Model};
use crate::log::audit::{Record, ReloadFacts};
use crate::log::{Queue, Targets, Writer, logger};
use crate::material::LogKey;
use crate::sys::privileges::Ids;
use crate::sys::{Inherited, reason};

/// How long the last log lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How often it is looked whether a log file was moved away, as log rotation does.
const ROTATION_CHECK: Duration = Duration::from_secs(5);

/// Permissions of a log file that is made.
const LOG_FILE_MODE: u32 = 0o640;

/// Why a link is not followed.
const LINK: &str = "it is a symbolic link";

/// By the target that needs them.
pub(super) type LogDescriptors = Vec<(LogKey, Arc<OwnedFd>)>;

/// Duplicates of the descriptors that `log fd@n` lines name, and open files; 0 to 2 are the worker's anyway. Relative names are
/// below `directory`; a file that is made belongs to `owner`, the worker, who does not open it but may have others who read it.
///
/// # Errors
/// One is not open, or can not be opened.
pub(super) fn find_descriptors(
    model: &Model,
    inherited: &Inherited,
    directory: &Path,
    owner: Ids,
) -> Result<LogDescriptors, Vec<Diagnostic>> {
    let mut found = LogDescriptors::new();
    for (sink, at) in targets(model) {
        let refuse = |message| vec![Diagnostic::error("E605", at, message)];
        let descriptor = match sink {
            LogSink::Descriptor(number @ 3..) => inherited
                .duplicate(*number)
                .map_err(|_| refuse(format!("this process was not started with an open descriptor {number}")))?,
            LogSink::File(path) => {
                let path = directory.join(path);
                open_file(&path, owner).map_err(|error| vec![refusal(at, &path, &reason(&error))])?
            }
            LogSink::Descriptor(_) | LogSink::Unix(_) | LogSink::Udp(_) => continue,
        };
        found.push((sink.clone(), Arc::new(descriptor)));
    }
    Ok(found)
}

/// Every target, and the first `log` or `audit` line that names it.
fn targets(model: &Model) -> Vec<(&LogSink, &Location)> {
    let logs = model.process.logs.iter().chain(model.frontends.iter().flat_map(|frontend| &frontend.logs));
    let logs = logs.map(|target| (&target.sink, &target.at));
    let mut targets: Vec<(&LogSink, &Location)> = Vec::new();
    for target in logs.chain(model.audits().map(|target| (&target.sink, &target.at))) {
        if !targets.iter().any(|(known, _)| *known == target.0) {
            targets.push(target);
        }
    }
    targets
}

/// What would keep log files from being opened, as far as that shows without making one.
pub fn check_files(model: &Model, directory: &Path) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    for (sink, at) in targets(model) {
        let LogSink::File(path) = sink else { continue };
        let path = directory.join(path);
        let wrong = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => Some("it is a directory".to_owned()),
            Ok(metadata) if metadata.is_symlink() => Some(LINK.to_owned()),
            Ok(_) => None,
            Err(_) => path.parent().and_then(|parent| parent.metadata().err()).map(|error| reason(&error)),
        };
        found.extend(wrong.map(|wrong| refusal(at, &path, &wrong)));
    }
    found
}

fn refusal(at: &Location, path: &Path, reason: &str) -> Diagnostic {
    let message = format!("cannot open the log file '{}': {reason}", path.display());
    Diagnostic::error("E605", at, message)
}

/// Opens a log file for lines at its end. A link in its place is not followed: whoever may write in the directory must not
/// choose where root writes.
fn open_file(path: &Path, owner: Ids) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    // Opening a FIFO without a reader would wait for one.
    options.append(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    match options.clone().create_new(true).mode(LOG_FILE_MODE).open(path) {
        Ok(file) => {
            if Ids::current().uid == 0 {
                fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
            }
            Ok(file.into())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.open(path).map(OwnedFd::from).map_err(|error| match error.raw_os_error() {
                Some(libc::ELOOP) => io::Error::other(LINK),
                _ => error,
            })
        }
        Err(error) => Err(error),
    }
}

/// Whether something else, or nothing, stands where the file was opened.
fn has_moved(path: &Path, descriptor: &OwnedFd) -> bool {
    let Ok(open) = fstat(descriptor) else { return false };
    path.symlink_metadata().map_or(true, |now| (now.dev(), now.ino()) != (open.st_dev, open.st_ino))
}

/// The log of the master.
pub(super) struct Logging {
    /// What the command line asked for.
    verbosity: LevelFilter,
    /// There once the first configuration is in force: threads must not be there before the fork.
    running: Option<(Queue, Writer)>,
    /// The `audit` targets in force that hear of reloads.
    audits: Vec<AuditTarget>,
    /// Where a refused reload is recorded: there.
    refusal: Arc<Targets>,
    /// Where an adopted one is: at the targets of the configuration before it, too. The reload that takes a target away is the
    /// last that it hears of.
    adoption: Arc<Targets>,
    /// When to look after log files.
    check_at: Option<Instant>,
}

impl Logging {
    /// On standard error for now.
    pub(super) fn new() -> Self {
        let nobody = Targets::audit([], "", None);
        Self {
            verbosity: log::max_level(),
            running: None,
            audits: Vec::new(),
            adoption: nobody.clone(),
            refusal: nobody,
            check_at: None,
        }
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
            descriptors.iter().for_each(|(key, descriptor)| hand_over(queue, key, descriptor));
            self.check_at = next_check(descriptors, Instant::now());
            let tag = model.process.log_tag.as_deref().unwrap_or("bowline");
            let host = model.process.log_host.as_ref().map(|wanted| wanted.name(host));
            logger::adopt(Targets::from_host(&model.process.logs, tag, host), queue.clone());
            let audits = reload_audits(model);
            let gone = self.audits.iter().filter(|before| audits.iter().all(|target| target.sink != before.sink));
            self.adoption = Targets::audit(audits.iter().copied().chain(gone), tag, host);
            self.refusal = Targets::audit(audits.iter().copied(), tag, host);
            self.audits = audits.into_iter().cloned().collect();
            if self.verbosity != LevelFilter::Info {
                log::set_max_level(self.verbosity);
            }
        }
    }

    /// Records what became of a reload.
    pub(super) fn record(&self, reload: ReloadFacts) {
        if let Some((queue, _)) = &self.running {
            let targets = if reload.outcome.is_ok() { &self.adoption } else { &self.refusal };
            queue.record(targets, Record::Reload(reload));
        }
    }

    /// When [`Self::reopen`] is due.
    pub(super) fn check_at(&self) -> Option<Instant> {
        self.check_at
    }

    /// Opens log files again that were moved away, and says which: the worker needs them too.
    pub(super) fn reopen(
        &mut self,
        descriptors: &mut LogDescriptors,
        directory: &Path,
        owner: Ids,
        now: Instant,
    ) -> LogDescriptors {
        self.check_at = next_check(descriptors, now);
        let mut opened = LogDescriptors::new();
        for (key, descriptor) in descriptors {
            let LogSink::File(path) = &*key else { continue };
            let path = directory.join(path);
            if !has_moved(&path, descriptor) {
                continue;
            }
            match open_file(&path, owner) {
                Ok(new) => {
                    *descriptor = Arc::new(new);
                    if let Some((queue, _)) = &self.running {
                        hand_over(queue, key, descriptor);
                    }
                    opened.push((key.clone(), descriptor.clone()));
                }
                Err(error) => log::error!("cannot open the log file '{}' again: {}", path.display(), reason(&error)),
            }
        }
        opened
    }

    /// Writes what is left; later messages go to standard error.
    pub(super) fn stop(&mut self) {
        if let Some((_, writer)) = self.running.take() {
            logger::release();
            writer.finish(LAST_LINES);
        }
    }
}

/// The `audit` targets that hear of reloads, each once however many proxies name it.
fn reload_audits(model: &Model) -> Vec<&AuditTarget> {
    let mut targets: Vec<&AuditTarget> = Vec::new();
    for target in model.audits().filter(|target| target.events.contains(&AuditEvent::Reload)) {
        if !targets.iter().any(|known| known.sink == target.sink) {
            targets.push(target);
        }
    }
    targets
}

fn hand_over(queue: &Queue, key: &LogKey, descriptor: &OwnedFd) {
    match descriptor.try_clone() {
        Ok(descriptor) => queue.inherit(key.clone(), descriptor),
        Err(error) => log::error!("cannot log to {key:?}: {}", reason(&error)),
    }
}

/// There is only something to look after if there are files.
fn next_check(descriptors: &LogDescriptors, now: Instant) -> Option<Instant> {
    descriptors.iter().any(|(key, _)| matches!(key, LogSink::File(_))).then(|| now + ROTATION_CHECK)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::conf::model::{LogFraming, LogTarget};

    const ALICE: Ids = Ids { uid: 1000, gid: 1000 };

    fn model(sinks: impl IntoIterator<Item = LogSink>) -> Model {
        let target = |sink| LogTarget {
            sink,
            max_length: 1024,
            format: LogFraming::Raw,
            facility: 16,
            max_level: 7,
            min_level: 0,
            at: Location { file: "test.cfg".into(), line: 4, column: 1 },
        };
        let mut model = Model::default();
        model.process.logs = sinks.into_iter().map(target).collect();
        model
    }

    fn find(sinks: Vec<LogSink>, inherited: &Inherited, directory: &Path) -> Result<LogDescriptors, Vec<Diagnostic>> {
        find_descriptors(&model(sinks), inherited, directory, ALICE)
    }

    #[test]
    fn each_descriptor_is_found_once_and_one_that_is_closed_is_an_error() {
        let (_reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&writer);
        let inherited = Inherited::note().unwrap();
        let numbers = |numbers: &[i32]| numbers.iter().copied().map(LogSink::Descriptor).collect();
        let found = find(numbers(&[1, number, 2, number]), &inherited, Path::new("/")).unwrap();
        assert_eq!(found.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [LogSink::Descriptor(number)]);
        let error = find(numbers(&[1_000_000]), &inherited, Path::new("/")).unwrap_err();
        assert_eq!((error[0].code, error[0].at.line), ("E605", 4));
    }

    #[test]
    fn a_file_is_made_for_few_eyes_and_one_that_is_there_is_added_to() {
        let directory = tempfile::tempdir().unwrap();
        let inherited = Inherited::note().unwrap();
        let file = LogSink::File("x.log".into());
        let found = find(vec![file.clone(), file.clone()], &inherited, directory.path()).unwrap();
        assert_eq!(found.len(), 1);
        let path = directory.path().join("x.log");
        let metadata = path.metadata().unwrap();
        // As the creation mask of this process permits.
        assert_eq!(metadata.mode() & 0o137, 0, "{:o}", metadata.mode());
        if Ids::current().uid == 0 {
            assert_eq!((metadata.uid(), metadata.gid()), (ALICE.uid, ALICE.gid));
        }
        std::fs::write(&path, "before\n").unwrap();
        let again = find(vec![file], &inherited, directory.path()).unwrap();
        nix::unistd::write(&again[0].1, b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn links_directories_and_missing_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let inherited = Inherited::note().unwrap();
        std::os::unix::fs::symlink("elsewhere", directory.path().join("link")).unwrap();
        std::fs::write(directory.path().join("elsewhere"), "").unwrap();
        for (name, words) in [("link", "it is a symbolic link"), (".", "directory"), ("none/x", "No such file")] {
            let error = find(vec![LogSink::File(name.into())], &inherited, directory.path()).unwrap_err();
            assert!(error[0].code == "E605" && error[0].message.contains(words), "{}", error[0].message);
        }
    }

    #[test]
    fn a_check_looks_at_the_files_of_every_section_once() {
        let text = "global\n log file@none/x daemon\nlisten l\n bind :1\n server s 127.0.0.1:2\n log global\n log file@none/y daemon\n";
        let parsed = crate::conf::parse(&[("test.cfg".into(), text.into())], &BTreeMap::new());
        let directory = tempfile::tempdir().unwrap();
        let found = check_files(&parsed.model.expect("a configuration"), directory.path());
        assert_eq!(
            found.iter().map(|wrong| (wrong.code, wrong.at.line)).collect::<Vec<_>>(),
            [("E605", 2), ("E605", 7)]
        );
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let inherited = Inherited::note().unwrap();
        let mut found = find(vec![LogSink::File("x.log".into())], &inherited, directory.path()).unwrap();
        let mut logging = Logging::new();
        let now = Instant::now();
        assert!(logging.reopen(&mut found, directory.path(), ALICE, now).is_empty());
        assert_eq!(logging.check_at(), Some(now + ROTATION_CHECK));
        let path = directory.path().join("x.log");
        std::fs::rename(&path, directory.path().join("x.log.1")).unwrap();
        assert_eq!(logging.reopen(&mut found, directory.path(), ALICE, now).len(), 1);
        nix::unistd::write(&found[0].1, b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        assert!(logging.reopen(&mut LogDescriptors::new(), directory.path(), ALICE, now).is_empty());
        assert_eq!(logging.check_at(), None, "nothing to look after");
    }
}
