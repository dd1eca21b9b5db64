//! A client of a `metrics socket`: one request of plain HTTP/1, one answer, the end. What is asked and answered is decided in
//! [`crate::metrics::http`]; here are the bytes and the patience.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::{Site, gather};
use crate::metrics;
use crate::metrics::http::{HEAD_BYTES, Request, Status, answer, parse};

/// How long a client may go on sending after its answer. A socket that is closed with unread bytes in it sends a reset, which
/// can destroy the answer on its way.
const LINGER: Duration = Duration::from_secs(1);
/// Shortest timeout of a read or a write.
const SHORTEST: Duration = Duration::from_millis(1);

/// Answers one request. The request may take as long as `patience`, however its bytes are spread, and so may the answer.
pub(super) fn serve(socket: &Socket, site: &Site, patience: Duration) {
    let mut head = Vec::new();
    let answer = match read_request(&mut Until::new(socket, patience), &mut head) {
        Ok(request) => respond(request, site),
        Err(error) if is_timeout(&error) => respond(Request::Refused(Status::RequestTimeout), site),
        // It has gone away.
        Err(_) => return,
    };
    if Until::new(socket, patience).write_all(&answer).is_ok() && socket.shutdown(Shutdown::Write).is_ok() {
        let mut rest = Until::new(socket, LINGER);
        while rest.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
    }
}

fn read_request<'a>(socket: &mut Until<'_>, head: &'a mut Vec<u8>) -> io::Result<Request<'a>> {
    let mut piece = [0; 1024];
    while parse(head) == Request::Incomplete {
        match socket.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&piece[..read]),
        }
    }
    debug_assert!(head.len() <= HEAD_BYTES + piece.len());
    Ok(parse(head))
}

fn respond(request: Request<'_>, site: &Site) -> Vec<u8> {
    match request {
        Request::Get { path: "/metrics", head_only } => {
            answer(Status::Ok, &metrics::render(&gather::numbers(site)), head_only)
        }
        Request::Get { path: "/healthz", head_only } => {
            let status = if site.is_draining() { Status::Unavailable } else { Status::Ok };
            answer(status, status.words(), head_only)
        }
        Request::Get { head_only, .. } => answer(Status::NotFound, Status::NotFound.words(), head_only),
        Request::Refused(status) => answer(status, status.words(), false),
        Request::Incomplete => answer(Status::BadRequest, Status::BadRequest.words(), false),
    }
}

/// A socket until a moment: a client that takes or gives a byte now and then gains nothing by it.
struct Until<'a> {
    socket: &'a Socket,
    end: Instant,
}

impl<'a> Until<'a> {
    fn new(socket: &'a Socket, patience: Duration) -> Self {
        Self { socket, end: Instant::now() + patience }
    }

    fn left(&self) -> io::Result<Duration> {
        timeout(self.end.saturating_duration_since(Instant::now()))
    }
}

impl Read for Until<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.set_read_timeout(Some(self.left()?))?;
            match (&mut &*self.socket).read(space) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        (&mut &*self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is left as a timeout of a socket; an error when nothing is. The system counts in microseconds and takes 0 for no timeout
/// at all, so less than [`SHORTEST`] is not asked for.
fn timeout(left: Duration) -> io::Result<Duration> {
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(SHORTEST)) }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moment_is_no_eternity() {
        assert_eq!(timeout(Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(timeout(Duration::from_secs(2)).unwrap(), Duration::from_secs(2));
        // What the system is told in whole microseconds is what holds.
        let (socket, _peer) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        for nanoseconds in [1, 999, 1000, 999_999] {
            socket.set_read_timeout(Some(timeout(Duration::from_nanos(nanoseconds)).unwrap())).unwrap();
            assert!(socket.read_timeout().unwrap().is_some(), "{nanoseconds} ns would be for ever");
        }
    }
}
