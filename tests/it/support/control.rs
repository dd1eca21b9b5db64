//! A client of a control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::DEADLINE;

/// A connection on which nothing has been said yet.
#[track_caller]
pub(crate) fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
    stream
}

/// Sends bytes and reads to the end of the stream.
#[track_caller]
pub(crate) fn exchange(mut stream: UnixStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).expect("a client that is listened to");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the end");
    answer
}

/// Sends one line of commands and reads the answers.
#[track_caller]
pub(crate) fn ask(path: &Path, line: &str) -> String {
    exchange(connect(path), format!("{line}\n").as_bytes())
}
