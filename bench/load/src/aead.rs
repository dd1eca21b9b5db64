//! `bowline-load aead`: what the cipher alone costs. The library, the calls and the shape of the data are Bowline's
//! (`src/tls/engine/traffic.rs`): full records of TLS 1.3, from one buffer of 64 KiB to another. Together they are larger than a
//! first-level cache, as a relay's buffers are, and no byte comes from or goes to a socket.

use std::time::Duration;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};

use crate::pattern::Pattern;
use crate::procfs::own_cpu;

/// Plaintext of a full record (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;
/// Records that a relay handles for one read.
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

/// Seals and opens `bytes` of plaintext with a cipher suite, and says what that cost the calling thread.
///
/// # Errors
/// A suite that is not one of TLS 1.3's three, or plaintext that did not come back.
pub(crate) fn measure(suite: &str, bytes: u64) -> Result<Cost, String> {
    let (_, algorithm) =
        SUITES.iter().find(|(name, _)| *name == suite).ok_or(format!("there is no suite '{suite}'"))?;
    let key: Vec<u8> = (0..algorithm.key_len() as u8).collect();
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &key).map_err(|error| error.to_string())?);
    let pattern = Pattern::new();
    let plain = pattern.slice(0, RECORDS * RECORD);
    let mut wire = vec![0; RECORDS * (HEADER + RECORD + TRAILER)];
    let mut opened = vec![0; RECORDS * (RECORD + 1)];
    // Caches and frequency are at their best for both.
    let turns = bytes.div_ceil((RECORDS * RECORD) as u64);
    (0..turns / 16).try_for_each(|turn| seal(&key, turn, plain, &mut wire))?;

    let start = own_cpu();
    (0..turns).try_for_each(|turn| seal(&key, turn, plain, &mut wire))?;
    let sealed = own_cpu();
    // The last turn's records are opened again and again.
    (0..turns).try_for_each(|_| open(&key, turns - 1, &wire, &mut opened))?;
    let end = own_cpu();
    if opened.chunks(RECORD + 1).map(|piece| &piece[..RECORD]).ne(plain.chunks(RECORD)) {
        return Err(format!("{suite}: what was opened is not what was sealed"));
    }
    let each = |time: Duration| time.mul_f64(f64::from(1 << 30) / (turns * (RECORDS * RECORD) as u64) as f64);
    Ok(Cost { seal: each(sealed - start), open: each(end - sealed) })
}

/// Sequence number of a record (RFC 8446, 5.3), with an initialisation vector of zero.
fn nonce(turn: u64, record: usize) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&(turn * RECORDS as u64 + record as u64).to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn header() -> [u8; HEADER] {
    let [high, low] = ((RECORD + TRAILER) as u16).to_be_bytes();
    [23, 3, 3, high, low]
}

fn seal(key: &LessSafeKey, turn: u64, plain: &[u8], wire: &mut [u8]) -> Result<(), String> {
    for (index, (plain, record)) in plain.chunks(RECORD).zip(wire.chunks_mut(HEADER + RECORD + TRAILER)).enumerate() {
        let header = header();
        let (written, content) = record.split_at_mut(HEADER);
        written.copy_from_slice(&header);
        let (ciphertext, trailer) = content.split_at_mut(RECORD);
        key.seal_out_of_place_scatter(nonce(turn, index), Aad::from(header), plain, ciphertext, &[23], trailer)
            .map_err(|error| format!("sealing: {error}"))?;
    }
    Ok(())
}

fn open(key: &LessSafeKey, turn: u64, wire: &[u8], plain: &mut [u8]) -> Result<(), String> {
    for (index, (plain, record)) in plain.chunks_mut(RECORD + 1).zip(wire.chunks(HEADER + RECORD + TRAILER)).enumerate()
    {
        let (ciphertext, tag) = record[HEADER..].split_at(RECORD + 1);
        key.open_separate_gather(nonce(turn, index), Aad::from(header()), ciphertext, tag, plain)
            .map_err(|error| format!("opening: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_gives_back_what_it_sealed() {
        for (suite, _) in SUITES {
            let cost = measure(suite, 1 << 20).unwrap();
            assert!(cost.seal > Duration::ZERO && cost.open > Duration::ZERO, "{suite}: {cost:?}");
        }
        assert!(measure("TLS_AES_128_CCM_SHA256", 1).unwrap_err().contains("CCM"));
    }
}
