//! One direction of a relay: what could not be written yet, and how far its end has come.

use std::io;

use super::wire::{self, Ready, Side, Wire};

/// How far a direction is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More may come.
    Open,
    /// The source has ended; what is pending goes out, then the end is passed on.
    Ending,
    /// Nothing more will go out.
    Ended,
}

/// What is read from a source at a time as long as nothing is known of its sink.
const READ_BYTES: usize = 64 * 1024;

/// How often that may double. Few large reads cost the kernel far less than many small ones (a fifth of the processor time
/// of a bulk transfer over loopback), but what a sink does not take at once has to be kept.
const DOUBLINGS_MAX: u8 = 3;

/// Longest read.
pub const READ_BYTES_MAX: usize = READ_BYTES << DOUBLINGS_MAX;

/// One direction.
#[derive(Debug)]
pub struct Pump {
    sink: Side,
    pending: Vec<u8>,
    written: usize,
    /// How often the read size has doubled.
    doublings: u8,
    /// How far its end has come.
    pub flow: Flow,
}

/// Buffers that connections borrow while a peer is slow.
#[derive(Default)]
pub struct Pool {
    free: Vec<Vec<u8>>,
}

/// Buffers that are kept for the next slow peer; more are given back to the allocator.
const POOLED_BUFFERS: usize = 32;

/// Buffers larger than a record and a bit are not kept: one would be lent for a few bytes in the end.
const POOLED_CAPACITY: usize = 20 * 1024;

impl Pool {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    /// Takes back a buffer that is not needed any more.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        if (1..=POOLED_CAPACITY).contains(&buffer.capacity()) && self.free.len() < POOLED_BUFFERS {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

impl Pump {
    /// A direction that ends at `sink`.
    pub fn new(sink: Side) -> Self {
        Self { sink, pending: Vec::new(), written: 0, doublings: 0, flow: Flow::Open }
    }

    /// Bytes that wait for the sink.
    pub fn pending(&self) -> usize {
        self.pending.len() - self.written
    }

    /// How much to read from the source at a time.
    pub fn read_size(&self) -> usize {
        READ_BYTES << self.doublings
    }

    /// A read has gone through. The next one may be larger if this one was `full` and went out whole, and is small again if
    /// the sink did not keep up, since a sink that stalls leaves much to keep only once, or if these bytes were `dear`, since a
    /// loop is long busy with many of those.
    pub fn handle_read(&mut self, full: bool, dear: bool) {
        if self.pending() > 0 || dear {
            self.doublings = 0;
        } else if full {
            self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        }
    }

    /// Keeps bytes for later, behind what already waits.
    pub fn store(&mut self, bytes: &[u8], pool: &mut Pool) {
        if self.pending.capacity() == 0 {
            self.pending = pool.take();
        }
        self.pending.extend_from_slice(bytes);
    }

    /// Keeps bytes that must go out before all else.
    pub fn store_first(&mut self, bytes: &[u8], pool: &mut Pool) {
        if self.pending.capacity() == 0 {
            self.pending = pool.take();
        }
        self.pending.splice(self.written..self.written, bytes.iter().copied());
    }

    /// Writes at once what the sink takes, and keeps the rest. Answers how much went out.
    pub fn send<W: Wire>(
        &mut self,
        wire: &mut W,
        ready: &mut Ready,
        bytes: &[u8],
        pool: &mut Pool,
    ) -> io::Result<usize> {
        let mut sent = 0;
        if self.pending() == 0 {
            while sent < bytes.len() && ready.contains(Ready::write(self.sink)) {
                sent += wire::write(wire, self.sink, ready, &bytes[sent..])?;
            }
        }
        if sent < bytes.len() {
            self.store(&bytes[sent..], pool);
        }
        Ok(sent)
    }

    /// Writes what waits. Answers how much went out.
    pub fn flush<W: Wire>(&mut self, wire: &mut W, ready: &mut Ready, pool: &mut Pool) -> io::Result<usize> {
        let before = self.written;
        while self.pending() > 0 && ready.contains(Ready::write(self.sink)) {
            self.written += wire::write(wire, self.sink, ready, &self.pending[self.written..])?;
        }
        let sent = self.written - before;
        if self.pending() == 0 {
            self.discard(pool);
        }
        Ok(sent)
    }

    /// Gives up what waits.
    pub fn discard(&mut self, pool: &mut Pool) {
        if self.pending.capacity() > 0 {
            pool.give(std::mem::take(&mut self.pending));
        }
        self.written = 0;
    }
}
