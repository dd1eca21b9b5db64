//! What master and worker say to each other, and the socket that carries it.
//!
//! A message is `length: u32`, `descriptors: u32`, both little-endian, and `length` bytes of postcard; then one byte for each
//! descriptor, which arrives with it. The material goes as sealed memory, so every message is small
//! and a worker that does not read cannot make the master wait.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::conf::model::{Chroot, Purpose};
use crate::material::{ListenerKey, LogKey};
use crate::report::ReportLine;
use crate::sys::descriptors::{Passed, receive_with_descriptor, send_with_descriptor};

/// First and only argument of a worker, which no operator needs; its standard input is the socket.
pub const WORKER_ARGUMENT: &str = "--bowline-worker";

/// Longest message body; a report over a hundred thousand certificates fits.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Most descriptors with one message.
const MESSAGE_DESCRIPTORS_MAX: usize = 1 << 20;
const HEADER_BYTES: usize = 8;
/// Most that may wait to be sent to a worker; the largest message fits twice.
const OUTGOING_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Most beats that are taken at a time.
const BEATS_AT_ONCE: usize = 64;

/// From the master to its worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first message: what the worker is to become. With [`Start::report_every`] comes the socket for its [`Beat`]s.
    Start(Start),
    /// Build a snapshot and put it in force. The first descriptor is the material, the others are [`Adopt::descriptors`].
    Adopt(Adopt),
    /// Accept no more, finish what runs, exit; after `limit` cut what is left.
    Drain {
        /// `None`: as long as it takes.
        limit: Option<Duration>,
    },
    /// Exit now.
    Stop,
    /// The service is in the background: let go of the terminal.
    Detach,
    /// These log files were opened again; the descriptors are in the same order.
    Logs(Vec<LogKey>),
    /// What has happened to the service so far.
    History(History),
    /// What has become of a reload that a client of a control socket asked for.
    Reloaded {
        /// Who asked, as in [`ToMaster::Reload`].
        request: u64,
        /// How it went.
        outcome: Outcome,
    },
}

/// What has happened to the service since the master was started, for those who watch it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Workers that were started because one had died.
    pub worker_restarts: u64,
    /// Configurations that were adopted, the first one included.
    pub reloads_adopted: u64,
    /// Reloads that were refused.
    pub reloads_refused: u64,
    /// Whether the last attempt was adopted.
    pub last_adopted: bool,
    /// When a configuration was last adopted, in seconds since 1970.
    pub last_adopted_at: u64,
}

/// The outcome of a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// It is in force; if not, everything is as it was.
    pub success: bool,
    /// What changed, or why not.
    pub lines: Vec<String>,
    /// It will have come to pass when another worker takes over, which is about to happen.
    pub at_takeover: bool,
}

impl Outcome {
    /// Nothing has changed.
    pub fn refused(reason: &str) -> Self {
        Self { success: false, lines: vec![format!("error: {reason}")], at_takeover: false }
    }
}

/// What a worker is to become.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// User to become.
    pub uid: u32,
    /// Group to become.
    pub gid: u32,
    /// Number of event loops.
    pub loops: u16,
    /// CPUs of each of them; empty: any.
    pub cpus: Vec<Vec<u16>>,
    /// Most descriptors to use.
    pub descriptors: u64,
    /// Most detailed level of the process's own messages, as [`log::LevelFilter`] counts them.
    pub verbosity: u8,
    /// Its root directory; `None`: that of the system.
    pub chroot: Option<Chroot>,
    /// How often it sends a [`Beat`]; `None`: nobody wants to know.
    pub report_every: Option<Duration>,
}

/// What a worker says of itself again and again, for as long as all of its loops make progress: a datagram each, on a socket of
/// their own. It is sent without waiting, so that a master that does not listen does not stop anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Client connections that are open.
    pub connections: u64,
}

impl Beat {
    /// Sends it, or loses it.
    pub fn send(self, socket: &UnixDatagram) {
        let _ = socket.send(&self.connections.to_le_bytes());
    }

    /// The last one that has arrived, or of very many a later one. The socket is non-blocking.
    pub fn receive_last(socket: &UnixDatagram) -> Option<Self> {
        let (mut last, mut bytes) = (None, [0; 8]);
        for _ in 0..BEATS_AT_ONCE {
            if !socket.recv(&mut bytes).is_ok_and(|length| length == bytes.len()) {
                break;
            }
            last = Some(Self { connections: u64::from_le_bytes(bytes) });
        }
        last
    }
}

/// A configuration to put in force.
#[derive(Debug, Serialize, Deserialize)]
pub struct Adopt {
    /// Its number, also in the material.
    pub generation: u64,
    /// Length of the encoded [`crate::material::Material`] in bytes.
    pub material_bytes: u64,
    /// What the descriptors behind the material are, in their order.
    pub descriptors: Vec<DescriptorRole>,
    /// How long a worker whose master is gone may drain.
    pub hard_stop_after: Option<Duration>,
    /// Warnings refuse it (`zero-warning`, `-dW`).
    pub forbid_warnings: bool,
}

/// What a descriptor is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DescriptorRole {
    /// A listening socket of one event loop.
    Listener {
        /// What it listens on.
        key: ListenerKey,
        /// Which loop accepts from it.
        loop_index: u16,
    },
    /// Where lines for `fd@n` or a file go.
    Log(LogKey),
    /// A listening socket of the process itself.
    Admin(Admin),
}

/// What the worker does with a listening socket of the process itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admin {
    /// What is spoken there.
    pub purpose: Purpose,
    /// Where it listens, as the operator writes it.
    pub name: String,
    /// How long a client may be silent or take nothing.
    pub timeout: Duration,
    /// Most clients at a time.
    pub maxconn: u32,
}

/// From the worker to its master.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToMaster {
    /// Privileges are dropped; ready for a configuration.
    Started {
        /// Whether the file system is closed, in words.
        sandbox: String,
    },
    /// The configuration is in force on every loop.
    Adopted {
        /// Which one.
        generation: u64,
        /// Warnings, notices, and what is in force.
        report: Vec<ReportLine>,
        /// What is served by it.
        certificates: Certificates,
        /// SHA-256 of each of these certificates, once, in order.
        fingerprints: Vec<[u8; 32]>,
    },
    /// The configuration was refused; the one before it stays.
    Refused {
        /// Which one.
        generation: u64,
        /// Why.
        report: Vec<ReportLine>,
    },
    /// A client of a control socket asks for a reload and waits for [`ToWorker::Reloaded`].
    Reload {
        /// Unique in this worker.
        request: u64,
    },
}

/// The server certificates of a configuration, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// How many there are.
    pub count: u64,
    /// When the first of them expires, in seconds since 1970.
    pub first_expiry: Option<u64>,
}

/// Something that arrived.
#[derive(Debug)]
pub enum Incoming<M> {
    /// A message and the descriptors that came with it: fewer than were sent if this process may not open more.
    Message(M, Vec<OwnedFd>),
    /// Nothing complete yet (non-blocking channels only).
    Nothing,
    /// The other process is gone.
    Closed,
}

/// One end of the socket between master and worker.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    outgoing: VecDeque<Chunk>,
    /// Memory that [`Self::outgoing`] takes.
    outgoing_bytes: usize,
    /// Most descriptors that a message may bring.
    descriptors_max: usize,
    header: Option<Header>,
    input: Vec<u8>,
    received: Vec<OwnedFd>,
    /// Descriptors of this message that there was no room for.
    lost: usize,
}

/// Bytes still to be sent; the descriptor goes with the first of them.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    sent: usize,
    descriptor: Option<Arc<OwnedFd>>,
}

impl Chunk {
    fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len()
    }
}

#[derive(Clone, Copy, Debug)]
struct Header {
    length: usize,
    descriptors: usize,
}

impl Channel {
    /// A channel over a connected stream socket, which may be blocking or not.
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            descriptors_max: MESSAGE_DESCRIPTORS_MAX,
            header: None,
            input: Vec::new(),
            received: Vec::new(),
            lost: 0,
        }
    }

    /// The same, where the other end has no descriptor to send: what it sends nevertheless is never open here.
    pub fn without_descriptors(self) -> Self {
        Self { descriptors_max: 0, ..self }
    }

    /// Appends a message to what is to be sent.
    ///
    /// # Errors
    /// It cannot be encoded or is larger than any honest message.
    pub fn queue<M: Serialize>(&mut self, message: &M, descriptors: &[Arc<OwnedFd>]) -> io::Result<()> {
        let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
        if body.len() > MESSAGE_BYTES_MAX || descriptors.len() > MESSAGE_DESCRIPTORS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large"));
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(descriptors.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        self.push(Chunk { bytes, sent: 0, descriptor: None });
        for descriptor in descriptors {
            self.push(Chunk { bytes: vec![0], sent: 0, descriptor: Some(descriptor.clone()) });
        }
        Ok(())
    }

    fn push(&mut self, chunk: Chunk) {
        self.outgoing_bytes += chunk.size();
        self.outgoing.push_back(chunk);
    }

    /// Sends what is queued; on a blocking socket all of it. Returns whether nothing is left.
    ///
    /// # Errors
    /// The socket broke: the other process is gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        while let Some(chunk) = self.outgoing.front_mut() {
            let descriptor = chunk.descriptor.as_ref().map(|one| one.as_fd());
            match send_with_descriptor(self.stream.as_fd(), &chunk.bytes[chunk.sent..], descriptor) {
                Ok(sent) => {
                    chunk.sent += sent;
                    chunk.descriptor = None;
                    if chunk.sent == chunk.bytes.len() {
                        self.outgoing_bytes -= chunk.size();
                        self.outgoing.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ETOOMANYREFS: more descriptors are under way than this user may have open; the worker takes them soon.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        || error.raw_os_error() == Some(nix::libc::ETOOMANYREFS) =>
                {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether [`Self::flush`] has more to do.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether more waits to be sent than any honest process leaves unread.
    pub fn is_flooded(&self) -> bool {
        self.outgoing_bytes > OUTGOING_BYTES_MAX
    }

    /// The next message, if it is complete. A blocking socket waits for it.
    ///
    /// # Errors
    /// The socket broke, or what arrived is no message of this program; the channel is unusable then.
    pub fn poll_receive<M: DeserializeOwned>(&mut self) -> io::Result<Incoming<M>> {
        match self.receive_step() {
            Ok(Some(header)) => {
                self.header = None;
                let body = &self.input[HEADER_BYTES..HEADER_BYTES + header.length];
                let message = postcard::from_bytes(body)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                self.input = Vec::new();
                self.lost = 0;
                Ok(Incoming::Message(message, std::mem::take(&mut self.received)))
            }
            Ok(None) => Ok(Incoming::Closed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Incoming::Nothing),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Incoming::Closed),
            Err(error) => Err(error),
        }
    }

    /// Reads past something that has arrived, which need not be a message of this program. Descriptors that came with it are
    /// closed by the kernel.
    ///
    /// # Errors
    /// The socket broke.
    pub fn discard(&mut self) -> io::Result<Incoming<()>> {
        match (&self.stream).read(&mut [0; 16 << 10]) {
            Ok(0) => Ok(Incoming::Closed),
            Ok(_) => Ok(Incoming::Message((), Vec::new())),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Incoming::Nothing)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Incoming::Closed),
            Err(error) => Err(error),
        }
    }

    /// Reads on until a message is complete (`Some`) or the stream ends between messages (`None`).
    fn receive_step(&mut self) -> io::Result<Option<Header>> {
        let header = match self.header {
            Some(header) => header,
            None => {
                if !self.fill(HEADER_BYTES)? {
                    return Ok(None);
                }
                let word = |at: usize| {
                    let bytes: [u8; 4] = self.input[at..at + 4].try_into().unwrap_or_default();
                    u32::from_le_bytes(bytes) as usize
                };
                let header = Header { length: word(0), descriptors: word(4) };
                if header.length > MESSAGE_BYTES_MAX || header.descriptors > self.descriptors_max {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "message too large"));
                }
                *self.header.insert(header)
            }
        };
        if !self.fill(HEADER_BYTES + header.length)? {
            return Ok(None);
        }
        while self.received.len() + self.lost < header.descriptors {
            match receive_with_descriptor(self.stream.as_fd(), &mut [0]) {
                Ok((0, _)) => return Ok(None),
                Ok((_, Passed::Descriptor(descriptor))) => self.received.push(descriptor),
                Ok((_, Passed::Lost)) => self.lost += 1,
                Ok((_, Passed::Nothing)) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without its descriptors"));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(header))
    }

    /// Reads until `input` holds `length` bytes; never more, because descriptors stay with the byte behind. False: end of stream.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        let mut scratch = [0; 16 << 10];
        while self.input.len() < length {
            let missing = (length - self.input.len()).min(scratch.len());
            match (&self.stream).read(&mut scratch[..missing]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.input.extend_from_slice(&scratch[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The sending side of a channel whose socket blocks, for several threads.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Mutex<Channel>>);

impl Outbox {
    /// For the other end of this channel's socket.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn of(channel: &Channel) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Channel::new(channel.stream.try_clone()?)))))
    }

    /// Sends a message, whole.
    ///
    /// # Errors
    /// It is too large, or the other process is gone.
    pub fn send<M: Serialize>(&self, message: &M) -> io::Result<()> {
        let mut channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channel.queue(message, &[])?;
        channel.flush().map(drop)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
#[path = "ipc_tests.rs"]
mod tests;
