//! Going into the background, and the pid file.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::sys::{self, Forked};

/// Which side of [`detach`] this is.
pub(super) enum Detached {
    /// The process that the operator started: it ends with this code once the service is up or has failed.
    Foreground(ExitCode),
    /// The service. To be told when it is up.
    Background(Promise),
}

/// The foreground process waits for this to be kept; dropped, it reports failure.
pub(super) struct Promise {
    foreground: Option<UnixStream>,
}

/// Forks into the background as the leader of a new session. The terminal stays until [`Promise::keep`], so that errors of
/// the start are seen.
///
/// # Errors
/// As fork(2), socketpair(2) and setsid(2).
pub(super) fn detach() -> io::Result<Detached> {
    let (foreground, background) = UnixStream::pair()?;
    match sys::fork()? {
        Forked::Parent(_) => {
            drop(background);
            Ok(Detached::Foreground(wait_for(foreground)))
        }
        Forked::Child => {
            setsid()?;
            Ok(Detached::Background(Promise { foreground: Some(background) }))
        }
    }
}

fn wait_for(mut background: UnixStream) -> ExitCode {
    match background.read(&mut [0]) {
        Ok(1) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

impl Promise {
    /// To nobody: the service stays in the foreground.
    pub(super) fn none() -> Self {
        Self { foreground: None }
    }

    /// Whether there is a terminal to let go of.
    pub(super) fn detaches(&self) -> bool {
        self.foreground.is_some()
    }

    /// The service is up: lets go of the terminal and the directory, and ends the foreground process with success.
    ///
    /// # Errors
    /// /dev/null cannot be opened.
    pub(super) fn keep(self) -> io::Result<()> {
        let Some(mut foreground) = self.foreground else {
            return Ok(());
        };
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        std::env::set_current_dir("/")?;
        foreground.write_all(&[0])
    }
}

/// The file that holds the master's process id while it lives.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    content: String,
}

impl PidFile {
    /// Writes it, replacing one that a dead process left; readers never see half of it.
    ///
    /// # Errors
    /// The directory is missing or not writable.
    pub(super) fn write(path: &Path) -> io::Result<Self> {
        let content = content();
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let _ = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
        let written = file.write_all(content.as_bytes()).and_then(|()| std::fs::rename(&temporary, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written.map(|()| Self { path: path.to_owned(), content })
    }

    /// One that this process has written before it executed this program.
    pub(super) fn of_before(path: PathBuf) -> Self {
        Self { path, content: content() }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn content() -> String {
    format!("{}\n", std::process::id())
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A successor may have written its own meanwhile.
        if std::fs::read_to_string(&self.path).is_ok_and(|content| content == self.content) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_lives_as_long_as_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bowline.pid");
        std::fs::write(&path, "1\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_successors_pid_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bowline.pid");
        let file = PidFile::write(&path).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
        assert!(PidFile::write(&folder.path().join("no/such/place")).is_err());
    }

    #[test]
    fn the_foreground_process_tells_success_from_failure() {
        let (reader, mut writer) = UnixStream::pair().unwrap();
        writer.write_all(&[0]).unwrap();
        assert_eq!(format!("{:?}", wait_for(reader)), format!("{:?}", ExitCode::SUCCESS));
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(writer);
        assert_eq!(format!("{:?}", wait_for(reader)), format!("{:?}", ExitCode::FAILURE));
    }
}
