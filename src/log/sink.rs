//! One sink: a thread that writes frames to a syslog socket or a descriptor and may wait for it as long as it likes.
//! Nothing but its own bounded backlog depends on it.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::targets::Targets;
use crate::conf::model::LogSink;

/// Frames that may wait for one sink.
const BACKLOG: usize = 1024;

/// How long one line may wait for a socket or non-blocking descriptor that takes nothing; then it is dropped and the
/// next one has its turn.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// A line on its way to one sink.
pub(super) struct Parcel {
    pub(super) frame: String,
    pub(super) targets: Arc<Targets>,
    /// Which of them it was framed for; a notice is framed alike.
    pub(super) index: usize,
}

/// The queue's end of a sink.
pub(super) struct Sink {
    parcels: SyncSender<Parcel>,
    missed: Arc<AtomicU64>,
    /// Dropped at this sink, ever.
    lost: Arc<AtomicU64>,
}

impl Sink {
    /// Starts the thread. `alive` is dropped when it has written its last line.
    pub(super) fn start(outlet: Outlet, lost: Arc<AtomicU64>, alive: SyncSender<()>) -> io::Result<Self> {
        let (parcels, received) = sync_channel(BACKLOG);
        let missed = Arc::new(AtomicU64::new(0));
        let writer =
            Writer { outlet, patience: PATIENCE, rest: Vec::new(), missed: missed.clone(), lost: lost.clone() };
        std::thread::Builder::new().name("log-sink".into()).spawn(move || {
            writer.run(&received);
            drop(alive);
        })?;
        Ok(Self { parcels, missed, lost })
    }

    /// Never blocks: a parcel that finds the backlog full is dropped and counted.
    pub(super) fn send(&self, parcel: Parcel) {
        if self.parcels.try_send(parcel).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Where the bytes go.
pub(super) enum Outlet {
    /// A datagram a line, to a path that is looked up each time: a syslog daemon that restarted is found again.
    Unix(UnixDatagram, PathBuf),
    /// A datagram a line.
    Udp(UdpSocket, SocketAddr),
    /// A stream of lines.
    Descriptor(OwnedFd),
}

impl Outlet {
    /// Opens `sink`. Descriptors above 2 must be among the `inherited` ones: a number alone might by now be a
    /// client's socket. Files must be there too: the worker can not open any.
    pub(super) fn open(sink: &LogSink, inherited: &HashMap<LogSink, OwnedFd>) -> io::Result<Self> {
        Ok(match sink {
            LogSink::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Self::Unix(socket, path.clone())
            }
            LogSink::Udp(address) => {
                let any = match address {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(any)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Self::Udp(socket, *address)
            }
            LogSink::Descriptor(1) => Self::Descriptor(io::stdout().as_fd().try_clone_to_owned()?),
            LogSink::Descriptor(2) => Self::Descriptor(io::stderr().as_fd().try_clone_to_owned()?),
            LogSink::Descriptor(_) | LogSink::File(_) => match inherited.get(sink) {
                Some(descriptor) => Self::Descriptor(descriptor.try_clone()?),
                None => return Err(io::Error::from(io::ErrorKind::NotFound)),
            },
        })
    }
}

struct Writer {
    outlet: Outlet,
    patience: Duration,
    /// What a descriptor has yet to take of the last line: half of a line is worse than none.
    rest: Vec<u8>,
    missed: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, parcels: &Receiver<Parcel>) {
        for parcel in parcels {
            if self.write(parcel.frame.as_bytes()).is_err() {
                self.missed.fetch_add(1, Ordering::Relaxed);
                self.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let missed = self.missed.swap(0, Ordering::Relaxed);
            if missed > 0 {
                let notice = parcel.targets.notice(parcel.index, missed);
                if self.write(notice.as_bytes()).is_err() {
                    self.missed.fetch_add(missed, Ordering::Relaxed);
                }
            }
        }
        if !self.rest.is_empty() && self.write(&[]).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match &self.outlet {
            Outlet::Unix(socket, path) => retried(|| socket.send_to(line, path)).map(drop),
            Outlet::Udp(socket, address) => retried(|| socket.send_to(line, address)).map(drop),
            Outlet::Descriptor(descriptor) => {
                let descriptor = descriptor.as_fd();
                if !self.rest.is_empty() {
                    let taken = write_fully(descriptor, &self.rest, self.patience);
                    self.rest.drain(..taken.map_or_else(|(written, _)| written, |()| self.rest.len()));
                    taken.map_err(|(_, errno)| errno)?;
                }
                match write_fully(descriptor, line, self.patience) {
                    // It goes on when there is room again.
                    Err((written @ 1.., _)) => self.rest = line[written..].to_vec(),
                    Err((0, errno)) => return Err(errno.into()),
                    Ok(()) => {}
                }
                Ok(())
            }
        }
    }
}

fn retried(mut send: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Writes all of `line` to a descriptor that may be non-blocking (its status flags belong to whoever shares it), or
/// tells how much of it went out before it failed or took nothing for as long as `patience`.
pub(super) fn write_fully(descriptor: BorrowedFd<'_>, line: &[u8], patience: Duration) -> Result<(), (usize, Errno)> {
    let mut written = 0;
    while written < line.len() {
        match nix::unistd::write(descriptor, &line[written..]) {
            Ok(0) => return Err((written, Errno::EIO)),
            Ok(count) => written += count,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut set = [PollFd::new(descriptor, PollFlags::POLLOUT)];
                let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
                match poll(&mut set, timeout) {
                    Ok(0) => return Err((written, Errno::EAGAIN)),
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => return Err((written, errno)),
                }
            }
            Err(errno) => return Err((written, errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::io::Read as _;

    #[test]
    fn a_torn_line_goes_on_before_the_next_one() {
        let (reader, descriptor) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut reader = std::fs::File::from(reader);
        fcntl(&descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut writer = Writer {
            outlet: Outlet::Descriptor(descriptor),
            patience: Duration::from_millis(1),
            rest: Vec::new(),
            missed: Arc::default(),
            lost: Arc::default(),
        };
        // More than a pipe holds: part of it goes out, the rest finds nobody.
        let long = format!("{}\n", "x".repeat(100_000));
        writer.write(long.as_bytes()).unwrap();
        assert!(!writer.rest.is_empty());
        let error = writer.write(b"no room\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

        let mut taken = vec![0; 64 * 1024];
        reader.read_exact(&mut taken).unwrap();
        writer.write(b"next\n").unwrap();
        assert!(writer.rest.is_empty());
        drop(writer);
        let mut text = String::from_utf8(taken).unwrap();
        reader.read_to_string(&mut text).unwrap();
        assert!(text == format!("{long}next\n"), "{} bytes", text.len());
    }
}
