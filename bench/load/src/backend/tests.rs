use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

/// A backend on a thread; dropping it ends the thread.
struct Running {
    address: SocketAddr,
    commands: Option<Sender<()>>,
    waker: Arc<Waker>,
    tallies: Receiver<Tally>,
    thread: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl Running {
    fn start() -> Self {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), COMMANDS).unwrap());
        let (sender, commands) = channel();
        let (out, tallies) = channel();
        let out = Mutex::new(out);
        let thread = std::thread::spawn(move || {
            serve(poll, listener, proxy_v2::parse, &commands, |tally| {
                let tally = Tally { errors: tally.errors.clone(), ..*tally };
                out.lock().unwrap().send(tally).unwrap();
            })
        });
        Self { address, commands: Some(sender), waker, tallies, thread: Some(thread) }
    }

    /// A connection as a product makes it, with a header that names `source`.
    fn connect(&self, source: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&header(source, self.address)).unwrap();
        stream
    }

    fn tally(&self) -> Tally {
        self.commands.as_ref().unwrap().send(()).unwrap();
        self.waker.wake().unwrap();
        self.tallies.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.commands = None;
        self.waker.wake().unwrap();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

fn header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    for address in [source, destination] {
        let SocketAddr::V4(address) = address else { panic!("IPv4 only") };
        bytes.extend(address.ip().octets());
    }
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes
}

fn source() -> SocketAddr {
    "127.0.0.1:40000".parse().unwrap()
}

/// Reads until the backend has closed, so that its tally is final.
fn drain(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => rest,
    }
}

fn request(kind: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(length.to_be_bytes());
    bytes
}

#[test]
fn an_echo_has_the_address_folded_in() {
    let backend = Running::start();
    let mut stream = backend.connect(source());
    let digest = proxy_v2::digest(source(), backend.address);
    for ping in [1, 2, 63] {
        stream.write_all(&[ping]).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], ping ^ proxy_v2::fold(digest));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(drain(stream).is_empty());
    assert_eq!(
        backend.tally(),
        Tally { connections: 1, digest, header_bytes: 28, relayed_bytes: 0, errors: Vec::new() }
    );
}

#[test]
fn an_upload_is_compared_and_confirmed() {
    let backend = Running::start();
    let mut stream = backend.connect(source());
    let pattern = Pattern::new();
    let total = 3 * PIECE as u64 + 5;
    stream.write_all(&request(UPLOAD, total)).unwrap();
    let mut sent = 0;
    while sent < total {
        let piece = pattern.slice(sent, (total - sent).min(PIECE as u64) as usize);
        stream.write_all(piece).unwrap();
        sent += piece.len() as u64;
    }
    let mut confirmation = [0; 8];
    stream.read_exact(&mut confirmation).unwrap();
    assert_eq!(u64::from_be_bytes(confirmation), total);
    let tally = backend.tally();
    assert_eq!((tally.relayed_bytes, tally.errors), (total, Vec::new()));
}

#[test]
fn an_echo_is_not_lost_when_the_client_reads_late() {
    let backend = Running::start();
    let mut stream = backend.connect(source());
    let fold = proxy_v2::fold(proxy_v2::digest(source(), backend.address));
    let pattern = Pattern::new();
    let length = 16 * PIECE;
    let start = (0..).find(|&at| !matches!(pattern.slice(at, 1), [UPLOAD | DOWNLOAD])).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let bytes: Vec<u8> =
        (0..16).flat_map(|piece| pattern.slice(start + piece * PIECE as u64, PIECE).to_vec()).collect();
    let sent = bytes.clone();
    let thread = std::thread::spawn(move || writer.write_all(&sent));
    let mut echo = vec![0; length];
    stream.read_exact(&mut echo).unwrap();
    thread.join().unwrap().unwrap();
    assert!(echo.iter().zip(&bytes).all(|(echo, sent)| *echo == sent ^ fold));
    assert_eq!(backend.tally().errors, Vec::<String>::new());
}

#[test]
fn transfers_follow_each_other_on_one_connection() {
    let backend = Running::start();
    let mut stream = backend.connect(source());
    let pattern = Pattern::new();
    for _ in 0..2 {
        stream.write_all(&request(UPLOAD, 1000)).unwrap();
        stream.write_all(pattern.slice(0, 1000)).unwrap();
        let mut confirmation = [0; 8];
        stream.read_exact(&mut confirmation).unwrap();
        assert_eq!(u64::from_be_bytes(confirmation), 1000);
        stream.write_all(&request(DOWNLOAD, 500)).unwrap();
        let mut bytes = [0; 500];
        stream.read_exact(&mut bytes).unwrap();
        assert!(pattern.matches(0, &bytes));
    }
    let tally = backend.tally();
    assert_eq!((tally.connections, tally.relayed_bytes, tally.errors), (1, 3000, Vec::new()));
}

#[test]
fn bytes_after_a_transfer_that_are_no_request_are_an_error() {
    let backend = Running::start();
    let mut stream = backend.connect(source());
    stream.write_all(&request(UPLOAD, 10)).unwrap();
    stream.write_all(Pattern::new().slice(0, 10)).unwrap();
    let mut confirmation = [0; 8];
    stream.read_exact(&mut confirmation).unwrap();
    stream.write_all(b"x").unwrap();
    drain(stream);
    let errors = backend.tally().errors;
    assert!(errors.len() == 1 && errors[0].contains("no request"), "{errors:?}");
}

#[test]
fn an_upload_with_one_wrong_byte_is_an_error() {
    let backend = Running::start();
    let mut stream = backend.connect(source());
    let mut piece = Pattern::new().slice(0, 1000).to_vec();
    piece[999] ^= 0x10;
    stream.write_all(&request(UPLOAD, 1000)).unwrap();
    stream.write_all(&piece).unwrap();
    drain(stream);
    let errors = backend.tally().errors;
    assert!(errors.len() == 1 && errors[0].contains("changed"), "{errors:?}");
}

#[test]
fn an_upload_that_ends_early_is_an_error() {
    let backend = Running::start();
    let mut stream = backend.connect(source());
    stream.write_all(&request(UPLOAD, 1000)).unwrap();
    stream.write_all(Pattern::new().slice(0, 999)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    drain(stream);
    let errors = backend.tally().errors;
    assert!(errors.len() == 1 && errors[0].contains("999 of 1000"), "{errors:?}");
}

#[test]
fn a_download_is_the_pattern() {
    let backend = Running::start();
    let mut stream = backend.connect(source());
    let total = 2 * TURN_BYTES + 7;
    stream.write_all(&request(DOWNLOAD, total as u64)).unwrap();
    let mut bytes = vec![0; total];
    stream.read_exact(&mut bytes).unwrap();
    let pattern = Pattern::new();
    for (index, piece) in bytes.chunks(PIECE).enumerate() {
        assert!(pattern.matches((index * PIECE) as u64, piece));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(drain(stream).is_empty());
    assert_eq!(backend.tally().errors, Vec::<String>::new());
}

#[test]
fn a_connection_without_a_header_is_an_error() {
    let backend = Running::start();
    let mut stream = TcpStream::connect(backend.address).unwrap();
    stream.write_all(b"x").unwrap();
    drain(stream);
    let tally = backend.tally();
    assert_eq!(tally.connections, 0);
    assert!(tally.errors.len() == 1 && tally.errors[0].contains("signature"), "{:?}", tally.errors);
}

#[test]
fn half_a_header_is_an_error() {
    let backend = Running::start();
    let mut stream = TcpStream::connect(backend.address).unwrap();
    stream.write_all(&header(source(), backend.address)[..27]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    drain(stream);
    let errors = backend.tally().errors;
    assert!(errors.len() == 1 && errors[0].contains("27 bytes of the PROXY header"), "{errors:?}");
}

#[test]
fn a_header_for_another_client_changes_the_digest() {
    let backend = Running::start();
    let mut stream = backend.connect("127.0.0.1:40001".parse().unwrap());
    stream.write_all(&[1]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    let expected = proxy_v2::digest(source(), backend.address);
    assert_ne!(backend.tally().digest, expected);
    assert_ne!(answer[0], 1 ^ proxy_v2::fold(expected));
}
