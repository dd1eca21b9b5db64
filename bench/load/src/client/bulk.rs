//! `client bulk`: many bytes in one direction over a few connections.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls::HandshakeKind;

use super::connection::{Connection, Sessions, config};
use super::{Arguments, Errors, command};
use crate::pattern::{PIECE, Pattern};
use crate::wire::{self, DOWNLOAD, UPLOAD};

/// So much is given to TLS at once, in bytes: four full records.
const WRITE: usize = 64 * 1024;

/// Arguments: `port`, `direction` (up|down), `bytes` (of each connection), `connections`, `certificates`.
/// Commands: `open` makes the connections, `go` moves the bytes and closes.
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let port: u16 = arguments.number("port")?;
    let bytes: u64 = arguments.number("bytes")?;
    let count: usize = arguments.number("connections")?;
    let kind = match arguments.text("direction")? {
        "up" => UPLOAD,
        "down" => DOWNLOAD,
        other => return Err(format!("direction={other}: neither up nor down")),
    };
    let config = config(&arguments.directory()?, true, Sessions::Fresh)?;
    let pattern = Pattern::new();
    let mut open = Vec::new();
    while let Some(command) = command() {
        let errors = Errors::default();
        let digest = AtomicU64::new(0);
        match command.as_str() {
            "open" => {
                for _ in 0..count {
                    match Connection::open(&config, port, HandshakeKind::Full) {
                        Ok(connection) => open.push(connection),
                        Err(error) => errors.push(error),
                    }
                }
            }
            "go" => std::thread::scope(|scope| {
                for connection in open.drain(..) {
                    let (errors, digest, pattern) = (&errors, &digest, &pattern);
                    scope.spawn(move || {
                        digest.fetch_add(connection.digest(), Ordering::Relaxed);
                        if let Err(error) = transfer(connection, kind, bytes, pattern) {
                            errors.push(error);
                        }
                    });
                }
            }),
            _ => return Err(format!("unknown command '{command}'")),
        }
        wire::answer(&errors.take(), &[("connections", &count), ("digest", &digest.into_inner())]);
    }
    Ok(())
}

fn transfer(mut connection: Connection, kind: u8, bytes: u64, pattern: &Pattern) -> Result<(), String> {
    let mut scratch = vec![0; PIECE];
    let mut request = vec![kind];
    request.extend(bytes.to_be_bytes());
    connection.send(&request)?;
    if kind == DOWNLOAD {
        let mut seen = 0;
        connection.receive(bytes, &mut scratch, |piece| {
            let matches = pattern.matches(seen, piece);
            seen += piece.len() as u64;
            if matches { Ok(()) } else { Err(format!("bytes changed on the way, before {seen}")) }
        })?;
    } else {
        let mut sent = 0;
        while sent < bytes {
            let piece = pattern.slice(sent, (bytes - sent).min(WRITE as u64) as usize);
            connection.send(piece)?;
            sent += piece.len() as u64;
        }
        let mut confirmation = Vec::new();
        connection.receive(8, &mut scratch, |piece| {
            confirmation.extend_from_slice(piece);
            Ok(())
        })?;
        if confirmation != bytes.to_be_bytes() {
            return Err(format!("the backend confirms {confirmation:02x?}, not {bytes} bytes"));
        }
    }
    connection.close().map(drop)
}
