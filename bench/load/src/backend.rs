//! `bowline-load backend`: the server behind the product. One thread, one event loop; it checks every PROXY header and every byte.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, channel};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::pattern::{PIECE, Pattern};
use crate::proxy_v2::{self, Header};
use crate::wire::{self, DOWNLOAD, ERROR_LIMIT, UPLOAD};

const LISTENER: Token = Token(usize::MAX);
const COMMANDS: Token = Token(usize::MAX - 1);

/// One connection moves at most so many bytes before the others have their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// Reads the PROXY header at the start of the bytes; `Ok(None)`: more are needed.
pub(crate) type ParseHeader = fn(&[u8]) -> Result<Option<Header>, String>;

/// What the backend saw since it started.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Connections that sent a correct header and at least one byte behind it.
    pub(crate) connections: u64,
    /// Sum of [`proxy_v2::digest`] over them.
    pub(crate) digest: u64,
    /// Length of all their headers.
    pub(crate) header_bytes: u64,
    /// Bulk bytes received and compared, or sent.
    pub(crate) relayed_bytes: u64,
    pub(crate) errors: Vec<String>,
}

/// Runs until standard input ends; each line there asks for the tally.
pub(crate) fn run(parse_header: ParseHeader) -> io::Result<()> {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    wire::answer(&[], &[("port", listener.local_addr()?.port().to_string())]);
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), COMMANDS)?;
    let (sender, commands) = channel();
    std::thread::spawn(move || {
        for _ in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(()).is_err() {
                return;
            }
            let _ = waker.wake();
        }
        drop(sender);
        let _ = waker.wake();
    });
    serve(poll, listener, parse_header, &commands, |tally| {
        wire::answer(
            &tally.errors,
            &[
                ("connections", tally.connections.to_string()),
                ("digest", tally.digest.to_string()),
                ("header_bytes", tally.header_bytes.to_string()),
                ("relayed_bytes", tally.relayed_bytes.to_string()),
            ],
        );
    })
}

/// Serves until the sender of `commands` is gone. `COMMANDS` must be woken after each change of `commands`.
fn serve(
    mut poll: Poll,
    mut listener: TcpListener,
    parse_header: ParseHeader,
    commands: &Receiver<()>,
    mut report: impl FnMut(&Tally),
) -> io::Result<()> {
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut state = Backend {
        parse_header,
        pattern: Pattern::new(),
        scratch: vec![0; PIECE].into_boxed_slice(),
        tally: Tally::default(),
        connections: Vec::new(),
        free: Vec::new(),
    };
    let mut events = Events::with_capacity(1024);
    let mut unfinished: Vec<usize> = Vec::new();
    loop {
        let timeout = (!unfinished.is_empty()).then_some(std::time::Duration::ZERO);
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        let mut ready = std::mem::take(&mut unfinished);
        ready.extend(
            events.iter().map(Event::token).filter(|&token| token != LISTENER && token != COMMANDS).map(usize::from),
        );
        ready.sort_unstable();
        ready.dedup();
        unfinished.extend(ready.into_iter().filter(|&slot| state.drive(slot) == Turn::Unfinished));
        for event in &events {
            match event.token() {
                LISTENER => state.accept(&poll, &listener, &mut unfinished)?,
                COMMANDS => loop {
                    match commands.try_recv() {
                        Ok(()) => report(&state.tally),
                        Err(std::sync::mpsc::TryRecvError::Empty) => break,
                        Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
                    }
                },
                _ => {}
            }
        }
    }
}

struct Backend {
    parse_header: ParseHeader,
    pattern: Pattern,
    scratch: Box<[u8]>,
    tally: Tally,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
}

struct Connection {
    stream: TcpStream,
    phase: Phase,
    /// Answers that the socket did not take yet; nothing is read before it has.
    unsent: Vec<u8>,
}

enum Phase {
    /// Collecting the PROXY header.
    Header(Vec<u8>),
    /// The header was correct; nothing behind it yet.
    First {
        digest: u64,
        header_length: usize,
    },
    /// Collecting [`UPLOAD`] or [`DOWNLOAD`] and its length; the end may come instead.
    Request(Vec<u8>),
    Echo {
        fold: u8,
    },
    Upload {
        seen: u64,
        total: u64,
    },
    Download {
        sent: u64,
        total: u64,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// The socket has no more for now, or the connection is closed.
    Blocked,
    /// The turn was used up; there may be more.
    Unfinished,
}

impl Backend {
    fn accept(&mut self, poll: &Poll, listener: &TcpListener, unfinished: &mut Vec<usize>) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            poll.registry().register(&mut stream, Token(slot), Interest::READABLE | Interest::WRITABLE)?;
            self.connections[slot] = Some(Connection { stream, phase: Phase::Header(Vec::new()), unsent: Vec::new() });
            if self.drive(slot) == Turn::Unfinished {
                unfinished.push(slot);
            }
        }
    }

    /// Moves one connection on until its socket blocks, it ends, or its turn is over.
    fn drive(&mut self, slot: usize) -> Turn {
        let Some(connection) = self.connections[slot].as_mut() else {
            return Turn::Blocked;
        };
        match connection.drive(self.parse_header, &self.pattern, &mut self.scratch, &mut self.tally) {
            Ok(Step::Blocked) => Turn::Blocked,
            Ok(Step::Unfinished) => Turn::Unfinished,
            Ok(Step::Ended) => {
                self.close(slot);
                Turn::Blocked
            }
            Err(message) => {
                if self.tally.errors.len() < ERROR_LIMIT {
                    self.tally.errors.push(format!("backend: {message}"));
                }
                self.close(slot);
                Turn::Blocked
            }
        }
    }

    fn close(&mut self, slot: usize) {
        self.connections[slot] = None;
        self.free.push(slot);
    }
}

enum Step {
    Blocked,
    Unfinished,
    Ended,
}

impl Connection {
    fn drive(
        &mut self,
        parse_header: ParseHeader,
        pattern: &Pattern,
        scratch: &mut [u8],
        tally: &mut Tally,
    ) -> Result<Step, String> {
        let mut moved = 0;
        while moved < TURN_BYTES {
            if !self.flush()? {
                return Ok(Step::Blocked);
            }
            if let Phase::Download { sent, total } = &mut self.phase {
                let want = (*total - *sent).min(PIECE as u64) as usize;
                if want == 0 {
                    self.phase = Phase::Request(Vec::new());
                    continue;
                }
                match self.stream.write(pattern.slice(*sent, want)) {
                    Ok(count) => {
                        *sent += count as u64;
                        tally.relayed_bytes += count as u64;
                        moved += count;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Ok(Step::Blocked);
                    }
                    Err(error) => {
                        return Err(format!("sending failed after {sent} bytes: {error}"));
                    }
                }
                continue;
            }
            let count = match self.stream.read(scratch) {
                Ok(0) => return self.ended().map(|()| Step::Ended),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Blocked),
                // A product that closes with RST after all bytes have passed is rude, not wrong.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return self.ended().map(|()| Step::Ended);
                }
                Err(error) => return Err(format!("receiving failed: {error}")),
            };
            moved += count;
            self.receive(parse_header, &mut scratch[..count], pattern, tally)?;
        }
        Ok(Step::Unfinished)
    }

    /// The peer sent its end: right between requests, wrong within one.
    fn ended(&self) -> Result<(), String> {
        match &self.phase {
            Phase::Echo { .. } | Phase::First { .. } => Ok(()),
            Phase::Header(bytes) => {
                Err(format!("the connection ended after {} bytes of the PROXY header", bytes.len()))
            }
            Phase::Request(bytes) if bytes.is_empty() => Ok(()),
            Phase::Request(_) => Err("the connection ended within a request".to_owned()),
            Phase::Upload { seen, total } => Err(format!("the connection ended after {seen} of {total} bytes")),
            Phase::Download { sent, total } => {
                Err(format!("the connection ended when {sent} of {total} bytes were sent"))
            }
        }
    }

    fn receive(
        &mut self,
        parse_header: ParseHeader,
        mut bytes: &mut [u8],
        pattern: &Pattern,
        tally: &mut Tally,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            match &mut self.phase {
                Phase::Header(header) => {
                    let before = header.len();
                    header.extend_from_slice(bytes);
                    let Some(parsed) = parse_header(header)? else {
                        return Ok(());
                    };
                    bytes = &mut bytes[parsed.length - before..];
                    self.phase = Phase::First {
                        digest: proxy_v2::digest(parsed.source, parsed.destination),
                        header_length: parsed.length,
                    };
                }
                &mut Phase::First { digest, header_length } => {
                    tally.connections += 1;
                    tally.digest = tally.digest.wrapping_add(digest);
                    tally.header_bytes += header_length as u64;
                    self.phase = match bytes[0] {
                        UPLOAD | DOWNLOAD => Phase::Request(Vec::new()),
                        _ => Phase::Echo { fold: proxy_v2::fold(digest) },
                    };
                }
                Phase::Request(request) => {
                    let count = bytes.len().min(9 - request.len());
                    let (head, rest) = bytes.split_at_mut(count);
                    request.extend_from_slice(head);
                    bytes = rest;
                    let &[kind @ (UPLOAD | DOWNLOAD), ref length @ ..] = request.as_slice() else {
                        return Err(format!("{} bytes that are no request", request.len() + bytes.len()));
                    };
                    if let Ok(length) = <[u8; 8]>::try_from(length) {
                        let total = u64::from_be_bytes(length);
                        self.phase = match kind {
                            UPLOAD => Phase::Upload { seen: 0, total },
                            _ => Phase::Download { sent: 0, total },
                        };
                    }
                }
                Phase::Echo { fold } => {
                    let fold = *fold;
                    bytes.iter_mut().for_each(|byte| *byte ^= fold);
                    return self.answer(bytes);
                }
                Phase::Upload { seen, total } => {
                    if bytes.len() as u64 > *total - *seen {
                        return Err(format!("more than the {total} bytes announced"));
                    }
                    if !pattern.matches(*seen, bytes) {
                        return Err(format!("bytes changed on the way, after {seen}"));
                    }
                    *seen += bytes.len() as u64;
                    tally.relayed_bytes += bytes.len() as u64;
                    if seen == total {
                        let confirmation = seen.to_be_bytes();
                        self.phase = Phase::Request(Vec::new());
                        self.answer(&confirmation)?;
                    }
                    return Ok(());
                }
                Phase::Download { .. } => return Err(format!("{} unexpected bytes", bytes.len())),
            }
        }
        Ok(())
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.unsent.extend_from_slice(bytes);
        self.flush().map(|_| ())
    }

    /// `Ok(false)`: the socket is blocked.
    fn flush(&mut self) -> Result<bool, String> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => _ = self.unsent.drain(..count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(format!("an answer could not be sent: {error}")),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
