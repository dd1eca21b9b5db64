//! What one connection does at a time, from its start to its end.

use std::time::Instant;

use super::connection::{Config, Connection, Ending, Scratch};
use crate::pattern::Pattern;
use crate::proxy_v2;
use crate::wire::{DOWNLOAD, UPLOAD};

/// One connection moves at most so many bytes before the others have their turn.
const TURN_BYTES: u64 = 1024 * 1024;

/// So much is given to TLS at once, in bytes: four full records.
const WRITE: u64 = 64 * 1024;

/// Length of a bulk request: the byte that says what follows, and a length.
const REQUEST: u64 = 9;

/// Length of the backend's confirmation of an upload.
const CONFIRMATION: usize = 8;

/// What a connection is to do. Every job ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Connect, and complete the handshake.
    Open,
    /// Send so many bytes (at most [`crate::pattern::PIECE`]) and compare what comes back.
    Echo(u64),
    /// Send so many bytes of the pattern and wait for the backend's confirmation.
    Upload(u64),
    /// Receive so many bytes of the pattern.
    Download(u64),
    /// End the connection, and wait for the product's end.
    Close,
}

impl Job {
    /// Whether its end proves that a byte came to the backend.
    pub(crate) fn reaches_the_backend(self) -> bool {
        matches!(self, Self::Echo(_) | Self::Upload(_) | Self::Download(_))
    }
}

/// How far a job is.
pub(crate) struct Progress {
    pub(crate) job: Job,
    /// When it was started, or due.
    pub(crate) since: Instant,
    sent: u64,
    received: u64,
    confirmation: [u8; CONFIRMATION],
}

/// Whether the job can go on.
pub(crate) enum Step {
    /// Not before the next event of the socket.
    Blocked,
    /// At once: only its turn is used up.
    Unfinished,
    Done,
    Closed(Ending),
}

/// What a job needs besides its connection.
pub(crate) struct Tools<'a> {
    pub(crate) config: &'a Config,
    /// Whether the handshake must be one with a ticket.
    pub(crate) resumed: bool,
    /// Where the next byte to be echoed stands in the pattern.
    pub(crate) position: &'a mut u64,
    pub(crate) pattern: &'a Pattern,
    pub(crate) scratch: &'a mut Scratch,
}

impl Progress {
    pub(crate) fn new(job: Job, since: Instant) -> Self {
        Self { job, since, sent: 0, received: 0, confirmation: [0; CONFIRMATION] }
    }

    /// Goes on until the socket blocks, the job is done, or its turn is over. `Err`: what is wrong with the connection.
    pub(crate) fn step(&mut self, connection: &mut Connection, tools: Tools<'_>) -> Result<Step, String> {
        match self.job {
            Job::Open => {
                let complete = connection.handshake(tools.config, tools.resumed)?;
                Ok(if complete { Step::Done } else { Step::Blocked })
            }
            Job::Echo(length) => self.echo(connection, length, tools),
            Job::Upload(length) => self.upload(connection, length, tools),
            Job::Download(length) => self.download(connection, length, tools),
            Job::Close => Ok(connection.close(tools.scratch)?.map_or(Step::Blocked, Step::Closed)),
        }
    }

    fn echo(&mut self, connection: &mut Connection, length: u64, tools: Tools<'_>) -> Result<Step, String> {
        let Tools { position, pattern, scratch, .. } = tools;
        while self.sent < length {
            match connection.send(pattern.slice(*position + self.sent, (length - self.sent) as usize))? {
                0 => break,
                count => self.sent += count as u64,
            }
        }
        let fold = proxy_v2::fold(connection.digest());
        while self.received < length {
            let received = &mut self.received;
            let answer = connection.receive(scratch, |piece| {
                if *received + piece.len() as u64 > length {
                    return Err(format!("the echo is longer than {length} bytes"));
                }
                let sent = pattern.slice(*position + *received, piece.len());
                if !piece.iter().zip(sent).all(|(echo, sent)| *echo == sent ^ fold) {
                    return Err(format!("the echo of {length} bytes is not what was sent, after {received}"));
                }
                *received += piece.len() as u64;
                Ok(())
            })?;
            if !answer.goes_on("an echo")? {
                return Ok(Step::Blocked);
            }
        }
        *position += length;
        Ok(Step::Done)
    }

    /// Sends the request for a bulk transfer. `Ok(None)`: all of it is sent.
    fn request(&mut self, connection: &mut Connection, kind: u8, length: u64) -> Result<Option<Step>, String> {
        let mut request = [kind; REQUEST as usize];
        request[1..].copy_from_slice(&length.to_be_bytes());
        while self.sent < REQUEST {
            match connection.send(&request[self.sent as usize..])? {
                0 => return Ok(Some(Step::Blocked)),
                count => self.sent += count as u64,
            }
        }
        Ok(None)
    }

    fn upload(&mut self, connection: &mut Connection, length: u64, tools: Tools<'_>) -> Result<Step, String> {
        if let Some(step) = self.request(connection, UPLOAD, length)? {
            return Ok(step);
        }
        let turn = self.sent + TURN_BYTES;
        while self.sent < REQUEST + length {
            if self.sent >= turn {
                return Ok(Step::Unfinished);
            }
            let at = self.sent - REQUEST;
            match connection.send(tools.pattern.slice(at, (length - at).min(WRITE) as usize))? {
                0 => return Ok(Step::Blocked),
                count => self.sent += count as u64,
            }
        }
        while self.received < CONFIRMATION as u64 {
            let (received, confirmation) = (&mut self.received, &mut self.confirmation);
            let answer = connection.receive(tools.scratch, |piece| {
                let at = *received as usize;
                let place = confirmation.get_mut(at..at + piece.len()).ok_or("bytes after the confirmation")?;
                place.copy_from_slice(piece);
                *received += piece.len() as u64;
                Ok(())
            })?;
            if !answer.goes_on("a confirmation")? {
                return Ok(Step::Blocked);
            }
        }
        match u64::from_be_bytes(self.confirmation) {
            confirmed if confirmed == length => Ok(Step::Done),
            confirmed => Err(format!("the backend confirms {confirmed} bytes, not {length}")),
        }
    }

    fn download(&mut self, connection: &mut Connection, length: u64, tools: Tools<'_>) -> Result<Step, String> {
        if let Some(step) = self.request(connection, DOWNLOAD, length)? {
            return Ok(step);
        }
        let turn = self.received + TURN_BYTES;
        while self.received < length {
            if self.received >= turn {
                return Ok(Step::Unfinished);
            }
            let received = &mut self.received;
            let answer = connection.receive(tools.scratch, |piece| {
                if !tools.pattern.matches(*received, piece) {
                    return Err(format!("bytes changed on the way, after {received}"));
                }
                *received += piece.len() as u64;
                Ok(())
            })?;
            if !answer.goes_on(format_args!("the rest of {length} bytes"))? {
                return Ok(Step::Blocked);
            }
        }
        if self.received > length {
            return Err(format!("{} bytes instead of {length}", self.received));
        }
        Ok(Step::Done)
    }
}
