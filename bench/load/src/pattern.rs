//! The bytes that bulk relays carry. Both ends know them, so every byte is compared, not only counted.

/// A prime, so that neither a TLS record nor a buffer of a power of two can slip or repeat unnoticed.
const PERIOD: usize = 65_521;

/// The longest piece that [`Pattern::slice`] gives and [`Pattern::matches`] compares at once, in bytes.
pub(crate) const PIECE: usize = 256 * 1024;

/// An endless stream of bytes that is the same in every process.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    pub(crate) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let period: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(PERIOD)
        .collect();
        Self(period.iter().copied().cycle().take(PERIOD + PIECE).collect())
    }

    /// The `len` bytes (at most [`PIECE`]) that stand `at` bytes after the start of the stream.
    pub(crate) fn slice(&self, at: u64, len: usize) -> &[u8] {
        let start = (at % PERIOD as u64) as usize;
        &self.0[start..start + len.min(PIECE)]
    }

    /// Whether `bytes` (at most [`PIECE`]) are those that stand `at` bytes after the start of the stream.
    pub(crate) fn matches(&self, at: u64, bytes: &[u8]) -> bool {
        self.slice(at, bytes.len()) == bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_cut_anywhere_matches_at_its_place_only() {
        let pattern = Pattern::new();
        let piece = pattern.slice(1_000_003, 5_000).to_vec();
        assert!(pattern.matches(1_000_003, &piece));
        assert!(!pattern.matches(1_000_004, &piece));
        assert!(!pattern.matches(1_000_003 + 16_384, &piece));
        assert!(!pattern.matches(1_000_003 + 65_536, &piece));
    }

    #[test]
    fn one_changed_bit_is_seen() {
        let pattern = Pattern::new();
        let mut piece = pattern.slice(77, PIECE).to_vec();
        assert!(pattern.matches(77, &piece));
        piece[PIECE - 1] ^= 1;
        assert!(!pattern.matches(77, &piece));
    }
}
