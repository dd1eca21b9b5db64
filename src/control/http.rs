//! A client of a `metrics socket`: one request of plain HTTP/1, one answer, the end.

use std::io::{self, Read, Write};

use socket2::Socket;

use super::Site;

/// Longest request line with its headers.
const REQUEST_BYTES: usize = 8 * 1024;

/// Answers one request.
pub(super) fn serve(mut socket: &Socket, site: &Site) {
    let answered = read_request(socket).and_then(|request| socket.write_all(answer(&request, site).as_bytes()));
    if answered.is_ok() {
        let _ = socket.shutdown(std::net::Shutdown::Write);
    }
}

/// The request up to the empty line behind its headers.
fn read_request(mut socket: &Socket) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = socket.read(&mut piece)?;
        request.extend_from_slice(&piece[..read]);
        if read == 0 || request.len() > REQUEST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(request)
}

fn answer(request: &[u8], site: &Site) -> String {
    let (status, body) = match request.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] {
        [b"GET", b"/healthz", ..] => {
            ("200 OK", format!("ready: generation {} is in force\n", site.snapshot().generation))
        }
        [b"GET", ..] => ("404 Not Found", "there is /healthz\n".to_owned()),
        _ => ("405 Method Not Allowed", "GET only\n".to_owned()),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
