//! Sealing as Bowline does it: the library, the calls and the shape of the data are its own (`src/tls/engine/traffic.rs`), full
//! records of TLS 1.3. The floor under bulk transfers ([`crate::relay`]) seals so what it passes on.
//!
//! `bowline-load aead` tells what the cipher alone costs: from one buffer of 64 KiB to another, which together are larger than a
//! first-level cache, as a relay's buffers are, and no byte comes from or goes to a socket.

use std::time::Duration;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};

use crate::pattern::Pattern;
use crate::procfs::own_cpu;

/// Plaintext of a full record (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;
/// Records that are sealed at once where the cipher is measured alone.
const RECORDS: usize = 4;
/// Type, version, length.
const HEADER: usize = 5;
/// The type of the content, and the tag.
const TRAILER: usize = 1 + 16;

/// The suites by their names in RFC 8446.
const SUITES: [(&str, &Algorithm); 3] = [
    ("TLS_AES_128_GCM_SHA256", &AES_128_GCM),
    ("TLS_AES_256_GCM_SHA384", &AES_256_GCM),
    ("TLS_CHACHA20_POLY1305_SHA256", &CHACHA20_POLY1305),
];

/// Prints a table of all suites, each over 1 GiB.
pub(crate) fn run() -> Result<(), String> {
    println!("CPU per GiB in records of 16 KiB, ms\n{:<30}{:>8}{:>8}", "", "seal", "open");
    for (suite, _) in SUITES {
        let cost = measure(suite, 1 << 30)?;
        println!("{suite:<30}{:>8.1}{:>8.1}", cost.seal.as_secs_f64() * 1e3, cost.open.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// CPU time for one GiB of plaintext.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Encryption.
    pub(crate) seal: Duration,
    /// Decryption, with the check of the tag.
    pub(crate) open: Duration,
}

/// One direction of a connection that is encrypted: its key, and the number of its next record.
pub(crate) struct Sealer {
    key: LessSafeKey,
    sequence: u64,
    /// The records that were sealed last.
    wire: Vec<u8>,
}

impl Sealer {
    /// Seals with a cipher suite of TLS 1.3, by its name.
    ///
    /// # Errors
    /// There is no such suite.
    pub(crate) fn new(suite: &str) -> Result<Self, String> {
        let found = SUITES.iter().find(|(name, _)| *name == suite);
        let Some((_, algorithm)) = found else {
            let names = SUITES.map(|(name, _)| name).join(", ");
            return Err(format!("there is no suite '{suite}'; there are {names}"));
        };
        Ok(Self { key: key(algorithm)?, sequence: 0, wire: Vec::new() })
    }

    /// Seals plaintext as full records and one for the rest, into a buffer of its own, where they stay until the next call.
    ///
    /// # Errors
    /// The library's, which it has for lengths that are wrong.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> Result<(), String> {
        let length = plain.len() + plain.len().div_ceil(RECORD) * (HEADER + TRAILER);
        if self.wire.len() < length {
            self.wire.resize(length, 0);
        }
        for (plain, record) in plain.chunks(RECORD).zip(self.wire.chunks_mut(HEADER + RECORD + TRAILER)) {
            let [high, low] = ((plain.len() + TRAILER) as u16).to_be_bytes();
            let header = [23, 3, 3, high, low];
            let (written, content) = record.split_at_mut(HEADER);
            written.copy_from_slice(&header);
            let (ciphertext, rest) = content.split_at_mut(plain.len());
            let (nonce, trailer) = (nonce(self.sequence), &mut rest[..TRAILER]);
            self.key
                .seal_out_of_place_scatter(nonce, Aad::from(header), plain, ciphertext, &[23], trailer)
                .map_err(|error| format!("sealing: {error}"))?;
            self.sequence += 1;
        }
        Ok(())
    }
}

/// Seals and opens `bytes` of plaintext with a cipher suite, and says what that cost the calling thread.
///
/// # Errors
/// A suite that is not one of TLS 1.3's three, or plaintext that did not come back.
pub(crate) fn measure(suite: &str, bytes: u64) -> Result<Cost, String> {
    let mut sealer = Sealer::new(suite)?;
    let pattern = Pattern::new();
    let plain = pattern.slice(0, RECORDS * RECORD);
    let mut opened = vec![0; RECORDS * (RECORD + 1)];
    // Caches and frequency are at their best for both.
    let turns = bytes.div_ceil((RECORDS * RECORD) as u64);
    (0..turns / 16).try_for_each(|_| sealer.seal(plain))?;

    let start = own_cpu();
    (0..turns).try_for_each(|_| sealer.seal(plain))?;
    let sealed = own_cpu();
    // The last turn's records are opened again and again.
    let first = sealer.sequence - RECORDS as u64;
    (0..turns).try_for_each(|_| open(&sealer.key, first, &sealer.wire, &mut opened))?;
    let end = own_cpu();
    if opened.chunks(RECORD + 1).map(|piece| &piece[..RECORD]).ne(plain.chunks(RECORD)) {
        return Err(format!("{suite}: what was opened is not what was sealed"));
    }
    let each = |time: Duration| time.mul_f64(f64::from(1 << 30) / (turns * (RECORDS * RECORD) as u64) as f64);
    Ok(Cost { seal: each(sealed - start), open: each(end - sealed) })
}

fn key(algorithm: &'static Algorithm) -> Result<LessSafeKey, String> {
    let key: Vec<u8> = (0..algorithm.key_len() as u8).collect();
    Ok(LessSafeKey::new(UnboundKey::new(algorithm, &key).map_err(|error| error.to_string())?))
}

/// That of the record with this sequence number (RFC 8446, 5.3), with an initialisation vector of zero.
fn nonce(sequence: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Opens records, the first of which has this sequence number. Behind the plaintext of each stands its type.
fn open(key: &LessSafeKey, first: u64, wire: &[u8], plain: &mut [u8]) -> Result<(), String> {
    let records = wire.chunks(HEADER + RECORD + TRAILER).zip(plain.chunks_mut(RECORD + 1));
    for (sequence, (record, plain)) in (first..).zip(records) {
        let (header, content) = record.split_at(HEADER);
        let (ciphertext, tag) = content.split_at(plain.len());
        key.open_separate_gather(nonce(sequence), Aad::from(header), ciphertext, tag, plain)
            .map_err(|error| format!("opening: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sealer {
        /// The plaintext of the records that were sealed last, of which there are `length` bytes, if they were sealed with this
        /// algorithm.
        pub(crate) fn opened(&self, algorithm: &'static Algorithm, length: usize) -> Result<Vec<u8>, String> {
            let records = length.div_ceil(RECORD);
            let mut plain = vec![0; length + records];
            let wire = &self.wire[..length + records * (HEADER + TRAILER)];
            open(&key(algorithm)?, self.sequence - records as u64, wire, &mut plain)?;
            Ok(plain.chunks(RECORD + 1).flat_map(|record| &record[..record.len() - 1]).copied().collect())
        }
    }

    #[test]
    fn every_suite_gives_back_what_it_sealed() {
        for (suite, _) in SUITES {
            let cost = measure(suite, 1 << 20).unwrap();
            assert!(cost.seal > Duration::ZERO && cost.open > Duration::ZERO, "{suite}: {cost:?}");
        }
        assert!(measure("TLS_AES_128_CCM_SHA256", 1).unwrap_err().contains("CCM"));
    }

    #[test]
    fn any_length_is_sealed_with_the_suite_that_was_asked_for_and_no_other() {
        let pattern = Pattern::new();
        for (suite, algorithm) in SUITES {
            let mut sealer = Sealer::new(suite).unwrap();
            // The buffer keeps what was longer.
            for length in [RECORD, 3 * RECORD + 1, 1, 2 * RECORD - 1] {
                let plain = pattern.slice(0, length);
                sealer.seal(plain).unwrap();
                for (name, other) in SUITES {
                    let opened = sealer.opened(other, length);
                    assert_eq!(
                        opened.is_ok_and(|opened| opened == plain),
                        other == algorithm,
                        "{suite}, {name}: {length}"
                    );
                }
            }
            assert_eq!(sealer.sequence, 1 + 4 + 1 + 2);
        }
    }
}
