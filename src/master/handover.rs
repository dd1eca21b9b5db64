//! What a master leaves to the program that it executes in its place: text in an inherited memory file, and the descriptors that the
//! text names. Lines that a later version adds are passed over by an earlier one; a change of meaning takes another [`VERSION`].

use std::ffi::{CString, NulError, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Pid, dup};

use super::child::Worker;
use super::listener_name::{self, escape, unescape};
use super::listeners::{self, Kept, Open, Wanted};
use crate::conf::model::Model;
use crate::report::ReportLine;
use crate::sys::Inherited;
use crate::sys::descriptors::sealed_memory;

/// What this program writes and reads.
pub const VERSION: u32 = 1;
/// Number of the memory file, in the environment.
pub(super) const VARIABLE: &str = "BOWLINE_HANDOVER";
/// In the environment of `-c`, when a running master asks: the version that it would leave.
pub const VERSION_VARIABLE: &str = "BOWLINE_HANDOVER_VERSION";
/// In the environment of `-c`, when a running master asks that has listeners for clients.
pub(super) const SERVING_VARIABLE: &str = "BOWLINE_HANDOVER_SERVING";

/// Everything that is left. It is close-on-exec once it is taken.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// The number of the configuration in force.
    pub(super) generation: u64,
    /// The service is in the background.
    pub(super) detached: bool,
    /// The pid file, which has this process's number already.
    pub(super) pidfile: Option<PathBuf>,
    /// The worker that serves, and the socket to it.
    pub(super) worker: Option<(Pid, OwnedFd)>,
    /// Workers that finish their connections.
    pub(super) retired: Vec<Pid>,
    /// Open listening sockets.
    pub(super) listeners: Vec<Kept>,
}

/// The memory file and the descriptors that stay open when another program is executed. Dropped, all is as it was.
pub(super) struct Left {
    pub(super) memory: OwnedFd,
    _descriptors: Vec<OwnedFd>,
}

/// What a master leaves.
pub(super) struct State<'a> {
    pub(super) generation: u64,
    pub(super) detached: bool,
    pub(super) pidfile: Option<&'a Path>,
    pub(super) worker: Option<&'a Worker>,
    pub(super) retired: Vec<Pid>,
}

impl State<'_> {
    /// Writes it down.
    ///
    /// # Errors
    /// No descriptor or memory is left.
    pub(super) fn leave<'a>(&self, listeners: impl Iterator<Item = &'a Open>) -> io::Result<Left> {
        let mut text = format!("bowline handover {VERSION}\npid {}\ngeneration {}\n", Pid::this(), self.generation);
        let mut descriptors = Vec::new();
        // dup(2) makes a descriptor that stays open when a program is executed.
        let mut keep = |descriptor: &dyn AsFd| -> io::Result<RawFd> {
            let kept = dup(descriptor.as_fd())?;
            let number = kept.as_raw_fd();
            descriptors.push(kept);
            Ok(number)
        };
        if self.detached {
            text.push_str("detached\n");
        }
        if let Some(path) = self.pidfile {
            text.push_str(&format!("pidfile {}\n", escape(path.as_os_str().as_bytes())));
        }
        if let Some(worker) = self.worker {
            text.push_str(&format!("worker {} {}\n", worker.pid(), keep(&worker.channel)?));
        }
        for pid in &self.retired {
            text.push_str(&format!("retired {pid}\n"));
        }
        for open in listeners {
            if let Some(name) = listener_name::encode(open.key()) {
                let word = if open.is_for_clients() { "listener" } else { "admin" };
                for socket in open.sockets() {
                    text.push_str(&format!("{word} {name} {}\n", keep(socket)?));
                }
            }
        }
        let memory = dup(sealed_memory(c"handover", text.as_bytes())?)?;
        Ok(Left { memory, _descriptors: descriptors })
    }
}

impl Handover {
    /// What was left to this process, if anything was. The descriptors are taken out of `inherited`.
    ///
    /// # Errors
    /// Why it cannot be understood.
    pub(super) fn take(inherited: &mut Inherited) -> Result<Option<Self>, String> {
        let Some(value) = std::env::var_os(VARIABLE) else {
            return Ok(None);
        };
        let number = value.to_str().and_then(|number| number.parse().ok());
        let Some(memory) = number.and_then(|number| inherited.take(number)) else {
            return Err(format!("${VARIABLE} names no descriptor of this process"));
        };
        let mut text = String::new();
        let mut file = File::from(memory);
        let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
        read.map_err(|error| format!("${VARIABLE} names nothing that can be read: {error}"))?;
        Self::parse(&text, |number| inherited.take(number)).map(Some)
    }

    fn parse(text: &str, mut take: impl FnMut(RawFd) -> Option<OwnedFd>) -> Result<Self, String> {
        let mut lines = text.lines();
        let version = lines.next().and_then(|line| line.strip_prefix("bowline handover "));
        check_version(version.unwrap_or("?"))?;
        let mut taken = Self::default();
        for line in lines {
            let bad = || format!("the program before this one has left a line that means nothing: {line:?}");
            let words: Vec<&str> = line.split(' ').collect();
            let pid = |word: &str| word.parse().map(Pid::from_raw).map_err(|_| bad());
            let mut descriptor = |word: &str| word.parse().ok().and_then(&mut take).ok_or_else(bad);
            match words[..] {
                ["pid", word] if pid(word)? != Pid::this() => {
                    return Err("what the program before this one has left is for another process".to_owned());
                }
                ["generation", word] => taken.generation = word.parse().map_err(|_| bad())?,
                ["detached"] => taken.detached = true,
                ["pidfile", word] => {
                    taken.pidfile = Some(OsString::from_vec(unescape(word).ok_or_else(bad)?).into());
                }
                ["worker", word, number] => taken.worker = Some((pid(word)?, descriptor(number)?)),
                ["retired", word] => taken.retired.push(pid(word)?),
                [word @ ("listener" | "admin"), name, number] => {
                    let key = listener_name::decode(name).ok_or_else(bad)?;
                    taken.listeners.push(Kept { key, is_for_clients: word == "listener", socket: descriptor(number)? });
                }
                _ => {}
            }
        }
        Ok(taken)
    }
}

fn check_version(version: &str) -> Result<(), String> {
    if version.parse() == Ok(VERSION) {
        return Ok(());
    }
    Err(format!(
        "this version takes over from handover version {VERSION} and the running one leaves version {version}: stop the service \
         and start it again"
    ))
}

/// For `-c`: whether a service that asks could be upgraded to this program.
///
/// # Errors
/// Why not.
pub fn can_take_over() -> Result<(), String> {
    std::env::var(VERSION_VARIABLE).map_or(Ok(()), |version| check_version(&version))
}

/// For `-c`: whether a service that asks could be upgraded with this configuration.
///
/// # Errors
/// The service has clients, and nobody would listen for them any more.
pub fn can_be_adopted(model: &Model) -> Result<(), ReportLine> {
    if std::env::var_os(SERVING_VARIABLE).is_some()
        && !listeners::wanted(model, None).iter().any(Wanted::is_for_clients)
    {
        return Err(listeners::nobody_wanted());
    }
    Ok(())
}

/// The environment of this process for the program that comes after. The sockets of systemd are for this process, whatever it was
/// before it went into the background.
pub(super) fn environment(memory: RawFd, is_activated: bool) -> Result<Vec<CString>, NulError> {
    let mut variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let mut set = |name: &str, value: String| {
        variables.retain(|(known, _)| known != name);
        variables.push((name.into(), value.into()));
    };
    set(VARIABLE, memory.to_string());
    if is_activated {
        set("LISTEN_PID", std::process::id().to_string());
    }
    let line = |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    variables.into_iter().map(|variable| CString::new(line(variable))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn what_is_left_is_what_is_taken() {
        let state = State {
            generation: 12,
            detached: true,
            pidfile: Some(Path::new("/run/a b.pid")),
            worker: None,
            retired: vec![Pid::from_raw(7), Pid::from_raw(8)],
        };
        let left = state.leave(std::iter::empty()).unwrap();
        let mut text = String::new();
        let mut file = File::from(left.memory);
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text.push_str("worker 9 5\nlistener tcp@127.0.0.1%3A443 6\nsomething of a later version\n");
        let mut asked = Vec::new();
        let taken = Handover::parse(&text, |number| {
            asked.push(number);
            Some(null())
        });
        let taken = taken.unwrap();
        assert_eq!((taken.generation, taken.detached), (12, true));
        assert_eq!(taken.pidfile.as_deref(), Some(Path::new("/run/a b.pid")));
        assert_eq!(taken.retired, [Pid::from_raw(7), Pid::from_raw(8)]);
        assert_eq!(taken.worker.unwrap().0, Pid::from_raw(9));
        assert_eq!(taken.listeners[0].key, listener_name::decode("tcp@127.0.0.1%3A443").unwrap());
        assert_eq!(asked, [5, 6]);
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for (text, wanted) in [
            ("", "version ?"),
            ("bowline handover 2\n", "version 2"),
            ("bowline handover 1\npid 1\n", "another process"),
            ("bowline handover 1\nworker x 5\n", "worker x 5"),
            ("bowline handover 1\nlistener nonsense 5\n", "nonsense"),
            ("bowline handover 1\npidfile %\n", "pidfile"),
        ] {
            let error = Handover::parse(text, |_| Some(null())).unwrap_err();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        let missing = Handover::parse("bowline handover 1\nworker 9 5\n", |_| None).unwrap_err();
        assert!(missing.contains("worker 9 5"), "{missing}");
    }
}
