//! `bowline-load relay`: the floor under every proxy that passes bytes through user space. No TLS, no configuration, no timers,
//! no counters: one thread, one epoll, one buffer; it sends a PROXY v2 header and copies. With `--seal` it is the floor under those
//! that encrypt: it seals all that it passes on besides, for nobody to read, since its clients know no TLS. What a product costs
//! above this is its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use crate::aead::Sealer;
use crate::proxy_v2::SIGNATURE;

/// Read at once, in bytes. Over loopback, 64 KiB cost a third more system time for the same bytes, and would be no floor.
const BUFFER: usize = 512 * 1024;

/// One connection moves at most so many bytes before the others have their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// Tokens of the listeners are above this, those of connections below: twice the place, and one more for the backend.
const LISTENERS: usize = usize::MAX / 2;

/// Relays from each of the listening ports to the backend, for ever. Arguments: a cipher suite to seal with, if any, the backend's
/// port, then the ports to listen on.
pub(crate) fn run(words: impl Iterator<Item = String>) -> Result<(), String> {
    let mut words = words.peekable();
    let sealer = match words.next_if(|word| word == "--seal") {
        Some(_) => Some(Sealer::new(&words.next().unwrap_or_default())?),
        None => None,
    };
    let port = |word: String| word.parse::<u16>().map_err(|_| format!("'{word}' is no port"));
    let ports = words.map(port).collect::<Result<Vec<u16>, _>>()?;
    let Some((&backend, listening)) = ports.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Err("usage: bowline-load relay [--seal SUITE] BACKEND_PORT PORT…".to_owned());
    };
    let mut listeners = listening
        .iter()
        .map(|&port| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port).into()).map_err(|error| format!("port {port}: {error}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    serve(&mut listeners, (Ipv4Addr::LOCALHOST, backend).into(), sealer).map_err(|error| error.to_string())
}

fn serve(listeners: &mut [TcpListener], backend: SocketAddr, sealer: Option<Sealer>) -> io::Result<()> {
    let mut poll = Poll::new()?;
    for (index, listener) in listeners.iter_mut().enumerate() {
        poll.registry().register(listener, Token(LISTENERS + index), Interest::READABLE)?;
    }
    let mut relay = Relay {
        backend,
        sealer,
        buffer: vec![0; BUFFER].into_boxed_slice(),
        connections: Vec::new(),
        free: Vec::new(),
    };
    let mut events = Events::with_capacity(512);
    let mut unfinished: Vec<usize> = Vec::new();
    loop {
        let timeout = (!unfinished.is_empty()).then_some(Duration::ZERO);
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        let mut due = std::mem::take(&mut unfinished);
        for event in &events {
            match event.token() {
                Token(listener) if listener >= LISTENERS => {
                    relay.accept(poll.registry(), &listeners[listener - LISTENERS])?;
                }
                Token(place) => {
                    relay.note(event);
                    due.push(place / 2);
                }
            }
        }
        due.sort_unstable();
        due.dedup();
        unfinished.extend(due.into_iter().filter(|&place| relay.drive(place)));
    }
}

struct Relay {
    backend: SocketAddr,
    /// One for all connections and both directions.
    sealer: Option<Sealer>,
    buffer: Box<[u8]>,
    connections: Vec<Option<Pair>>,
    free: Vec<usize>,
}

/// A client and its backend connection.
struct Pair {
    /// Client, backend.
    ends: [End; 2],
}

struct End {
    socket: TcpStream,
    /// What the kernel has said of the socket (epoll is edge-triggered: it says so once).
    readable: bool,
    writable: bool,
    /// The peer's FIN may be behind the bytes of a short read.
    closing: bool,
    /// Nothing more comes from here.
    read_ended: bool,
    /// What the socket did not take at once, and how much of that it has taken since. Nothing is read for it meanwhile.
    pending: Vec<u8>,
    written: usize,
}

impl End {
    fn new(socket: TcpStream, pending: Vec<u8>) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, readable: false, writable: false, closing: false, read_ended: false, pending, written: 0 })
    }

    /// Writes as much as the socket takes; the rest stays pending.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = written(self.socket.write(bytes))?;
        self.writable = taken == bytes.len();
        self.pending.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Writes what is pending.
    fn flush(&mut self) -> io::Result<()> {
        self.written += written(self.socket.write(&self.pending[self.written..]))?;
        self.writable = self.written == self.pending.len();
        if self.writable {
            self.pending.clear();
            self.written = 0;
        }
        Ok(())
    }
}

fn written(outcome: io::Result<usize>) -> io::Result<usize> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

impl Relay {
    fn accept(&mut self, registry: &Registry, listener: &TcpListener) -> io::Result<()> {
        loop {
            let (client, source) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let backend = TcpStream::connect(self.backend)?;
            let header = header(source, client.local_addr()?)?;
            let mut pair = Pair { ends: [End::new(client, Vec::new())?, End::new(backend, header)?] };
            for (side, end) in pair.ends.iter_mut().enumerate() {
                registry.register(&mut end.socket, Token(2 * place + side), Interest::READABLE | Interest::WRITABLE)?;
            }
            self.connections[place] = Some(pair);
        }
    }

    /// Takes down what the kernel says of a socket.
    fn note(&mut self, event: &Event) {
        let Token(token) = event.token();
        if let Some(pair) = &mut self.connections[token / 2] {
            let end = &mut pair.ends[token % 2];
            end.readable |= event.is_readable();
            end.writable |= event.is_writable();
            end.closing |= event.is_read_closed() || event.is_error();
        }
    }

    /// Moves a connection on. Answers whether it has more to do before the kernel says anything new.
    fn drive(&mut self, place: usize) -> bool {
        let Some(pair) = &mut self.connections[place] else { return false };
        let [client, backend] = &mut pair.ends;
        let forth = copy(client, backend, &mut self.buffer, self.sealer.as_mut());
        let back = copy(backend, client, &mut self.buffer, self.sealer.as_mut());
        match (forth, back) {
            (Ok(Turn::Ended), Ok(Turn::Ended)) | (Err(_), _) | (_, Err(_)) => {
                // An error is a reset by one side; the other sees the end of its connection.
                self.connections[place] = None;
                self.free.push(place);
                false
            }
            (Ok(forth), Ok(back)) => forth == Turn::UsedUp || back == Turn::UsedUp,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing can be read, or written.
    Blocked,
    /// There may be more.
    UsedUp,
    /// The end has been passed on.
    Ended,
}

/// Copies until one of the two sockets blocks, the source ends, or the turn is over. Seals what it copies, if it is to.
fn copy(from: &mut End, to: &mut End, buffer: &mut [u8], mut sealer: Option<&mut Sealer>) -> io::Result<Turn> {
    if !to.pending.is_empty() && to.writable {
        to.flush()?;
    }
    let mut moved = 0;
    while !from.read_ended {
        if !to.pending.is_empty() || !from.readable {
            return Ok(Turn::Blocked);
        }
        if moved >= TURN_BYTES {
            return Ok(Turn::UsedUp);
        }
        match from.socket.read(buffer) {
            Ok(0) => {
                from.read_ended = true;
                to.socket.shutdown(Shutdown::Write)?;
            }
            Ok(count) => {
                if let Some(sealer) = &mut sealer {
                    sealer.seal(&buffer[..count]).map_err(io::Error::other)?;
                }
                to.write(&buffer[..count])?;
                moved += count;
                // A short read has emptied the socket (epoll(7)), unless FIN has come too.
                from.readable = count == buffer.len() || from.closing;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => from.readable = false,
            Err(error) => return Err(error),
        }
    }
    Ok(Turn::Ended)
}

/// The header of proxy-protocol.txt, section 2.2, for the addresses that the listeners can have.
fn header(source: SocketAddr, destination: SocketAddr) -> io::Result<Vec<u8>> {
    let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) else {
        return Err(ErrorKind::Unsupported.into());
    };
    let mut header = SIGNATURE.to_vec();
    header.extend([0x21, 0x11, 0, 12]);
    header.extend(source.ip().octets());
    header.extend(destination.ip().octets());
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::net;

    use aws_lc_rs::aead::{AES_256_GCM, CHACHA20_POLY1305};

    use super::*;
    use crate::pattern::{PIECE, Pattern};
    use crate::proxy_v2;

    /// A relay in a thread of its own, which ends with the process, and the listener behind it.
    fn start(sealer: Option<Sealer>) -> (SocketAddr, net::TcpListener) {
        let backend = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = backend.local_addr().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let front = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&mut [listener], address, sealer));
        (front, backend)
    }

    /// A connection through the relay: the client's end, and the backend's behind its header.
    fn connect(front: SocketAddr, backend: &net::TcpListener) -> (net::TcpStream, net::TcpStream) {
        let client = net::TcpStream::connect(front).unwrap();
        let mut server = backend.accept().unwrap().0;
        let mut header = [0; 28];
        server.read_exact(&mut header).unwrap();
        let parsed = proxy_v2::parse(&header).unwrap().unwrap();
        assert_eq!((parsed.source, parsed.destination), (client.local_addr().unwrap(), front));
        (client, server)
    }

    #[test]
    fn more_bytes_than_the_sockets_hold_pass_both_ways_and_so_do_the_ends() {
        for sealer in [None, Some(Sealer::new("TLS_AES_128_GCM_SHA256").unwrap())] {
            passes_both_ways(sealer);
        }
    }

    fn passes_both_ways(sealer: Option<Sealer>) {
        const TOTAL: usize = 16 << 20;
        let (front, backend) = start(sealer);
        let (client, server) = connect(front, &backend);
        let pattern = Pattern::new();
        let send = |mut socket: net::TcpStream| {
            for at in (0..TOTAL).step_by(PIECE) {
                socket.write_all(pattern.slice(at as u64, PIECE)).unwrap();
            }
            socket.shutdown(Shutdown::Write).unwrap();
        };
        let receive = |mut socket: net::TcpStream| {
            let mut bytes = Vec::new();
            socket.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len(), TOTAL);
            let same = |(index, piece)| pattern.matches((index * PIECE) as u64, piece);
            assert!(bytes.chunks(PIECE).enumerate().all(same));
        };
        std::thread::scope(|scope| {
            for socket in [&client, &server] {
                let [sender, receiver] = [socket.try_clone().unwrap(), socket.try_clone().unwrap()];
                scope.spawn(|| send(sender));
                scope.spawn(|| receive(receiver));
            }
        });
    }

    #[test]
    fn bytes_and_end_in_one_go_are_not_lost_and_the_other_way_stays_open() {
        let (front, backend) = start(None);
        let (mut client, mut server) = connect(front, &backend);
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"question");
        server.write_all(b"answer").unwrap();
        drop(server);
        bytes.clear();
        client.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"answer");
    }

    #[test]
    fn what_is_copied_is_sealed_and_goes_on_as_it_came() {
        let (mut sender, from) = loopback();
        let (mut receiver, to) = loopback();
        let end = |socket| End { readable: true, writable: true, ..End::new(socket, Vec::new()).unwrap() };
        let mut ends = [from, to].map(|socket| end(TcpStream::from_std(socket)));
        let [from, to] = &mut ends;
        let mut sealer = Sealer::new("TLS_CHACHA20_POLY1305_SHA256").unwrap();
        // In one piece: a read takes all that has come.
        let pattern = Pattern::new();
        let sent = pattern.slice(0, 20_000);
        sender.write_all(sent).unwrap();
        while from.socket.peek(&mut [0; 20_000]).unwrap_or(0) < sent.len() {}
        assert_eq!(copy(from, to, &mut [0; 64 * 1024], Some(&mut sealer)).unwrap(), Turn::Blocked);
        assert_eq!(sealer.opened(&CHACHA20_POLY1305, sent.len()).unwrap(), sent);
        assert!(sealer.opened(&AES_256_GCM, sent.len()).is_err());
        let mut received = vec![0; sent.len()];
        receiver.read_exact(&mut received).unwrap();
        assert_eq!(received, sent);
    }

    /// Two ends of a connection; the second does not block.
    fn loopback() -> (net::TcpStream, net::TcpStream) {
        let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ours = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let theirs = listener.accept().unwrap().0;
        theirs.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn arguments_are_a_suite_and_ports() {
        let run = |words: &[&str]| run(words.iter().map(|&word| word.to_owned()));
        assert!(run(&["1"]).unwrap_err().contains("usage"));
        assert!(run(&["1", "http"]).unwrap_err().contains("'http'"));
        assert!(run(&["--seal", "TLS_AES_128_CCM_SHA256", "1", "2"]).unwrap_err().contains("CCM"));
        assert!(run(&["--seal", "TLS_AES_128_GCM_SHA256", "1"]).unwrap_err().contains("usage"));
    }
}
