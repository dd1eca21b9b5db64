//! What the service manager is told: datagrams of `NAME=value` lines to the socket that `$NOTIFY_SOCKET` names (sd_notify(3)).
//! Started by hand there is none, and nothing is sent.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::socket::UnixAddr;
use nix::time::{ClockId, clock_gettime};

use crate::report::Escaped;
use crate::sys::descriptors::send_datagram;
use crate::sys::reason;

/// How long a manager that does not read may stop us: what it must not miss is worth a moment, not more.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the worker reports where there is no watchdog, for `STATUS=`.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// Longest `STATUS=`; systemd shows one line.
const STATUS_BYTES_MAX: usize = 500;

/// The service manager, if there is one.
pub(super) struct Notify {
    manager: Option<Manager>,
    /// How often it wants to hear that the service is alive (`$WATCHDOG_USEC`).
    watchdog: Option<Duration>,
    alive_at: Instant,
    /// The `STATUS=` that it knows.
    status: String,
}

struct Manager {
    socket: UnixDatagram,
    address: UnixAddr,
}

impl Notify {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        Self::new(|name| std::env::var_os(name), std::process::id()).unwrap_or_else(|error| {
            log::warn!("the service manager is not told anything: $NOTIFY_SOCKET: {}", reason(&error));
            Self::to_nobody()
        })
    }

    fn to_nobody() -> Self {
        Self { manager: None, watchdog: None, alive_at: Instant::now(), status: String::new() }
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> io::Result<Self> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::to_nobody());
        };
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => UnixAddr::new_abstract(rest)?,
            [b'/', ..] => UnixAddr::new(name.as_bytes())?,
            _ => return Err(io::Error::other("neither a path nor '@' and a name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // Set for another process, the watchdog is not about this one (sd_watchdog_enabled(3)).
        let is_ours = number("WATCHDOG_PID").is_none_or(|watched| watched == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|&period| is_ours && period > 0).map(Duration::from_micros);
        Ok(Self { manager: Some(Manager { socket, address }), watchdog, ..Self::to_nobody() })
    }

    /// How often a worker has to report for the watchdog and the status: often enough that a late report does no harm.
    pub(super) fn report_every(&self) -> Option<Duration> {
        self.manager.as_ref()?;
        Some(self.watchdog.map_or(STATUS_EVERY, |period| (period / 4).min(STATUS_EVERY)))
    }

    /// The service is up, or a reload is over, whatever came of it.
    pub(super) fn ready(&mut self, status: &str) {
        self.say("READY=1", status);
    }

    /// A reload has begun; [`Self::ready`] ends it. The time lets the manager tell this reload from another (sd_notify(3)).
    pub(super) fn reloading(&mut self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// The end has begun.
    pub(super) fn stopping(&mut self, status: &str) {
        self.say("STOPPING=1", status);
    }

    /// The end takes longer: the manager has to wait for this long from now on at least.
    pub(super) fn extend(&self, time: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()));
    }

    /// What people read in `systemctl status`; sent if it is new.
    pub(super) fn status(&mut self, status: &str) {
        let status = line(status);
        if self.manager.is_some() && status != self.status {
            self.send(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// The service is alive.
    pub(super) fn alive(&mut self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
            self.alive_at = Instant::now();
        }
    }

    /// When [`Self::alive`] has to be called at the latest; `None`: nobody waits for it.
    pub(super) fn alive_due(&self) -> Option<Instant> {
        self.watchdog.map(|period| self.alive_at + period / 2)
    }

    /// Gives the manager a listening socket to keep, so that nobody is refused while this process is killed or started again. It
    /// comes back by its name (sd_pid_notify_with_fds(3)); a manager that was not told `FileDescriptorStoreMax=` closes it.
    pub(super) fn store(&self, name: &str, socket: &OwnedFd) {
        self.send_with(&format!("FDSTORE=1\nFDNAME={name}"), Some(socket.as_fd()));
    }

    /// Lets the manager close all sockets of this name.
    pub(super) fn forget(&self, name: &str) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    fn say(&mut self, state: &str, status: &str) {
        self.status = line(status);
        self.send(&format!("{state}\nSTATUS={}", self.status));
    }

    fn send(&self, text: &str) {
        self.send_with(text, None);
    }

    fn send_with(&self, text: &str, descriptor: Option<BorrowedFd<'_>>) {
        let Some(Manager { socket, address }) = &self.manager else {
            return;
        };
        if let Err(error) = send_datagram(socket.as_fd(), address, text.as_bytes(), descriptor) {
            log::warn!("cannot tell the service manager {:?}: {}", text, reason(&error));
        }
    }
}

/// Text as a value: one line, and not longer than anybody reads.
fn line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        if line.len() >= STATUS_BYTES_MAX {
            line.push('…');
            break;
        }
        let _ = write!(line, "{}", Escaped(character.encode_utf8(&mut [0; 4])));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;

    use super::*;

    const PID: u32 = 42;

    fn notify(variables: &[(&str, &str)]) -> io::Result<Notify> {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Notify::new(value, PID)
    }

    /// A manager at a path of its own.
    fn listen() -> (tempfile::TempDir, UnixDatagram, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (folder, socket, path)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_state_in_the_words_of_sd_notify() {
        let (_folder, manager, path) = listen();
        let mut notify = notify(&[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "4000000")]).unwrap();
        notify.ready("serving");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=serving");
        notify.reloading();
        let text = heard(&manager);
        let stamp = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u64>().unwrap();
        assert!(stamp > 0);
        // Known already, new, and with a line break that would be a second variable.
        notify.status("serving");
        notify.status("serving\nMAINPID=1");
        assert_eq!(heard(&manager), "STATUS=serving\\u{a}MAINPID=1");
        notify.alive();
        assert_eq!(heard(&manager), "WATCHDOG=1");
        notify.extend(Duration::from_secs(2));
        assert_eq!(heard(&manager), "EXTEND_TIMEOUT_USEC=2000000");
        notify.stopping(&"x".repeat(1000));
        assert_eq!(heard(&manager), format!("STOPPING=1\nSTATUS={}…", "x".repeat(STATUS_BYTES_MAX)));
    }

    #[test]
    fn the_watchdog_is_fed_if_it_is_about_this_process() {
        let (_folder, manager, path) = listen();
        let socket = ("NOTIFY_SOCKET", path.as_str());
        let every = |variables: &[(&str, &str)]| {
            let all: Vec<_> = std::iter::once(socket).chain(variables.iter().copied()).collect();
            let notify = notify(&all).unwrap();
            (notify.alive_due().is_some(), notify.report_every().unwrap())
        };
        assert_eq!(every(&[("WATCHDOG_USEC", "2000000")]), (true, Duration::from_millis(500)));
        assert_eq!(every(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "42")]), (true, Duration::from_millis(500)));
        // The status is refreshed even where the watchdog is slow, not there, or none of our business.
        assert_eq!(every(&[("WATCHDOG_USEC", "3600000000")]), (true, STATUS_EVERY));
        for nothing in [&[][..], &[("WATCHDOG_USEC", "0")], &[("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", "43")]] {
            assert_eq!(every(nothing), (false, STATUS_EVERY), "{nothing:?}");
        }
        drop(manager);
    }

    #[test]
    fn an_abstract_name_and_no_manager_at_all() {
        let name = format!("bowline-notify-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut named = notify(&[("NOTIFY_SOCKET", &format!("@{name}"))]).unwrap();
        named.ready("up");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=up");

        for none in [&[][..], &[("NOTIFY_SOCKET", "")]] {
            let mut nobody = notify(none).unwrap();
            nobody.ready("up");
            assert_eq!((nobody.report_every(), nobody.alive_due()), (None, None));
        }
        assert!(notify(&[("NOTIFY_SOCKET", "vsock:2:1234")]).is_err());
        // A manager that is gone is no reason to stop.
        notify(&[("NOTIFY_SOCKET", "/no/such/socket")]).unwrap().ready("up");
    }
}
