//! The backend of the demo: shows everyone the PROXY header that announced them, then echoes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::dump::dump;
use crate::proto::proxy_in::{self, Parse};

/// How long a PROXY header may take: it is the first thing that is sent.
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait for the client to speak first, as in HTTP, before it is told what is known about it.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_millis(200);
/// How much of an HTTP request is looked at.
const REQUEST_LIMIT: usize = 16 * 1024;
/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 100;

/// Listens on a free port of 127.0.0.1, answers in threads of its own until the process ends, and says where.
pub(super) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("demo backend".to_owned()).spawn(move || accept(&listener))?;
    Ok(address)
}

fn accept(listener: &TcpListener) {
    let running = Arc::new(());
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors or memory: the next try must not come at once.
            super::pause(FIRST_BYTES_TIMEOUT);
            continue;
        };
        if Arc::strong_count(&running) > CONNECTIONS {
            continue;
        }
        let running = Arc::clone(&running);
        // A thread that cannot be started drops the connection, which closes it.
        let _ = thread::Builder::new().spawn(move || {
            // Errors are the client going away; there is nobody to tell.
            let _ = serve(stream);
            drop(running);
        });
    }
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(HEADER_TIMEOUT))?;
    let (header, mut first) = read_header(&mut stream)?;
    let page = format!("Bowline announced you to the backend with this header:\n\n{}\n", dump(&header));

    stream.set_read_timeout(Some(FIRST_BYTES_TIMEOUT))?;
    read_until(&mut stream, &mut first, b"\n")?;
    if is_http(&first) {
        read_until(&mut stream, &mut first, b"\r\n\r\n")?;
        return answer(stream, &page, first.starts_with(b"HEAD "));
    }
    stream.write_all(page.as_bytes())?;
    stream.write_all(&first)?;
    stream.set_read_timeout(None)?;
    io::copy(&mut &stream, &mut &stream)?;
    stream.shutdown(Shutdown::Write)
}

/// The PROXY header, and what came behind it.
fn read_header(stream: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        match proxy_in::parse(&bytes) {
            Parse::Complete { consumed, .. } => {
                let rest = bytes.split_off(consumed);
                return Ok((bytes, rest));
            }
            Parse::Invalid(reason) => {
                return Err(io::Error::new(ErrorKind::InvalidData, reason.to_string()));
            }
            Parse::NeedMore => {
                if read_some(stream, &mut bytes)? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

/// Reads until `end` was seen, the peer is silent or done, or [`REQUEST_LIMIT`] is reached.
fn read_until(stream: &mut TcpStream, bytes: &mut Vec<u8>, end: &[u8]) -> io::Result<()> {
    while bytes.len() < REQUEST_LIMIT && !bytes.windows(end.len()).any(|window| window == end) {
        match read_some(stream, bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 4096];
    let length = stream.read(&mut chunk)?;
    bytes.extend_from_slice(&chunk[..length]);
    Ok(length)
}

fn is_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH "];
    METHODS.iter().any(|method| bytes.starts_with(method))
}

/// Answers and ends the connection: the rest of the request is read first, a reset could overtake the answer.
fn answer(mut stream: TcpStream, page: &str, head: bool) -> io::Result<()> {
    let length = page.len();
    let body = if head { "" } else { page };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Announces a client from 192.0.2.7 with the CN-less header of a plaintext connection.
    const HEADER: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x18\xc0\0\x02\x07\xc6\x33\x64\x09\x9c\x40\x22\xb3\x02\0\x09localhost";

    fn connected() -> TcpStream {
        let stream = TcpStream::connect(start().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn an_http_client_gets_a_page() {
        for cut in [0, 5, HEADER.len()] {
            let mut stream = connected();
            stream.write_all(&HEADER[..cut]).unwrap();
            stream.write_all(&HEADER[cut..]).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let text = rest(stream);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            assert!(body.contains("192.0.2.7:40000") && body.contains("localhost"), "{body}");
        }
    }

    #[test]
    fn head_gets_no_body() {
        let mut stream = connected();
        stream.write_all(&[HEADER, b"HEAD / HTTP/1.1\r\n\r\n"].concat()).unwrap();
        assert!(rest(stream).ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_silent_client_is_told_at_once_and_then_echoed() {
        let mut stream = connected();
        stream.write_all(HEADER).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"localhost\n\n") {
            assert_ne!(read_some(&mut stream, &mut seen).unwrap(), 0);
        }
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(stream), "hello");
    }

    #[test]
    fn first_bytes_that_are_not_http_are_echoed_behind_the_page() {
        let mut stream = connected();
        stream.write_all(&[HEADER, b"\x10\x0cMQTT\n"].concat()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let text = rest(stream);
        assert!(text.starts_with("Bowline announced you"), "{text}");
        assert!(text.ends_with("localhost\n\n\x10\x0cMQTT\n"), "{text}");
    }

    #[test]
    fn who_brings_no_header_gets_nothing() {
        let mut stream = connected();
        // One byte, all of it read: an unread rest would turn the end into a reset.
        stream.write_all(b"G").unwrap();
        assert_eq!(rest(stream), "");
    }
}
