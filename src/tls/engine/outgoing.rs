//! Bytes on their way to the client.

/// A buffer of the loop's that is written over and over, never zeroed again.
pub struct Outgoing {
    bytes: Vec<u8>,
    filled: usize,
}

impl Outgoing {
    /// Room for `capacity` bytes; grows where a handshake needs it.
    pub fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity], filled: 0 }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// How much is in it.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.filled = self.filled.min(length);
    }

    /// Appends `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.grow(bytes.len()).copy_from_slice(bytes);
    }

    /// Appends `length` bytes, to be written by the caller: they are not zero.
    pub(super) fn grow(&mut self, length: usize) -> &mut [u8] {
        let start = self.filled;
        self.filled += length;
        if self.bytes.len() < self.filled {
            self.bytes.resize(self.filled, 0);
        }
        &mut self.bytes[start..self.filled]
    }

    /// Lets `encode` write behind the end; `Err(n)` says that it needs `n` bytes of space.
    pub(super) fn append(&mut self, mut encode: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
        loop {
            match encode(&mut self.bytes[self.filled..]) {
                Ok(written) => {
                    self.filled += written;
                    return;
                }
                Err(required) => self.bytes.resize(self.filled + required, 0),
            }
        }
    }
}
