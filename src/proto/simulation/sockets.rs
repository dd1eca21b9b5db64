//! Both sockets of a connection as pipes in memory, and the random numbers that decide what they do.

use std::collections::VecDeque;
use std::io;

use crate::proto::endpoint::Endpoint;
use crate::proto::proxy_out::Endpoints;
use crate::proto::wire::{Side, Target, Wire};
use crate::tls::identity::Verdict;

/// SplitMix64: a seed tells the whole run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// What one end of a stream socket looks like from our side.
pub(super) struct Socket {
    pub(super) incoming: VecDeque<u8>,
    /// The peer's FIN stands behind what is incoming.
    pub(super) fin: bool,
    /// The peer's RST has come: what was received before can still be read.
    pub(super) reset: bool,
    pub(super) outgoing: VecDeque<u8>,
    pub(super) capacity: usize,
    /// We have sent FIN.
    pub(super) shut: bool,
    /// We have sent RST.
    pub(super) aborted: bool,
    /// A write did not take everything: room is an event.
    pub(super) wants_room: bool,
    /// More came right behind what was read.
    pub(super) more: bool,
}

impl Socket {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            incoming: VecDeque::new(),
            fin: false,
            reset: false,
            outgoing: VecDeque::new(),
            capacity,
            shut: false,
            aborted: false,
            wants_room: false,
            more: false,
        }
    }
}

pub(super) struct Sim {
    pub(super) random: Random,
    pub(super) client: Socket,
    pub(super) backend: Option<Socket>,
    pub(super) dialled: usize,
    pub(super) refuse_dial: bool,
    /// So many connects are refused before one is not.
    pub(super) refuse_connects: usize,
}

impl Wire for Sim {
    fn read(&mut self, side: Side, space: &mut [u8]) -> io::Result<usize> {
        let socket = match side {
            Side::Client => &mut self.client,
            Side::Backend => self.backend.as_mut().expect("read from a backend that was dialled"),
        };
        assert!(!space.is_empty());
        if socket.incoming.is_empty() {
            if socket.reset {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            return if socket.fin { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        // The kernel gives what it has: a read is short only when the socket is empty then. What is left here is what came
        // between the read and the next event.
        let mut count = space.len().min(socket.incoming.len());
        if self.random.one_in(4) {
            count = 1 + self.random.below(count);
            socket.more = count < socket.incoming.len();
        }
        for (place, byte) in space.iter_mut().zip(socket.incoming.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn write(&mut self, side: Side, bytes: &[u8]) -> io::Result<usize> {
        let socket = match side {
            Side::Client => &mut self.client,
            Side::Backend => self.backend.as_mut().expect("write to a backend that was dialled"),
        };
        assert!(!socket.shut, "written after FIN");
        if socket.reset {
            return Err(if socket.fin { io::ErrorKind::BrokenPipe } else { io::ErrorKind::ConnectionReset }.into());
        }
        let room = socket.capacity.saturating_sub(socket.outgoing.len());
        let count = bytes.len().min(room);
        socket.wants_room = count < bytes.len();
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        socket.outgoing.extend(&bytes[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self, side: Side) {
        match side {
            Side::Client => self.client.shut = true,
            Side::Backend => self.backend.as_mut().expect("a backend that was dialled").shut = true,
        }
    }

    fn abort(&mut self, side: Side) {
        match side {
            Side::Client => self.client.aborted = true,
            Side::Backend => {
                if let Some(backend) = &mut self.backend {
                    backend.aborted = true;
                }
            }
        }
    }

    fn dial(&mut self, _: &Target, _: &Verdict) -> io::Result<()> {
        assert!(self.backend.as_ref().is_none_or(|backend| backend.aborted), "a second backend beside the first");
        if self.dialled == 0 && self.random.one_in(8) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.refuse_dial {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.dialled += 1;
        let capacity = draw_capacity(&mut self.random);
        self.backend = Some(Socket::new(capacity));
        Ok(())
    }

    fn connected(&mut self) -> io::Result<()> {
        if self.refuse_connects == 0 {
            return Ok(());
        }
        self.refuse_connects -= 1;
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn endpoints(&self) -> Endpoints {
        Endpoints {
            source: Endpoint::Inet("192.0.2.1:4711".parse().unwrap()),
            destination: Endpoint::Inet("192.0.2.2:443".parse().unwrap()),
        }
    }
}

pub(super) fn draw_capacity(random: &mut Random) -> usize {
    // Some take the PROXY header in pieces.
    let most = if random.one_in(4) { 100 } else { 80_000 };
    20 + random.below(most)
}
