//! `tls-ticket-keys`: keys of session tickets that several processes share, from a file in HAProxy's format (manual, 5.1).
//!
//! The tickets are not HAProxy's: what is in them, and how it is sealed, is the same as with the keys of the process.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use rustls::pki_types::UnixTime;
use zeroize::Zeroizing;

use super::tickets::{Key, NAME_LEN};
use crate::stats::labels::TicketRefusal;

/// How many of the file's keys count: the last ones.
const KEYS: usize = 3;
/// Lengths of a key in bytes: for AES-128 and for AES-256, in HAProxy.
const LENGTHS: [usize; 2] = [48, 80];
/// The clocks of processes that share keys may differ by so much.
const SKEW: Duration = Duration::from_secs(60);

/// The last three keys of a file. The last but one encrypts, so that all processes know a key before one of them uses it.
#[derive(Debug)]
pub(super) struct FileKeys {
    keys: [Key; KEYS],
}

impl FileKeys {
    /// Reads the file: a key in base64 on each line, all of one length.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the name of the file. Never a part of a key.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut keys = Vec::new();
        let mut length = None;
        for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let bytes = base64(line).ok_or_else(|| format!("has no base64 on line {number}"))?;
            if !LENGTHS.contains(&bytes.len()) {
                return Err(format!("has a key of {} bytes on line {number}; 48 or 80 are needed", bytes.len()));
            }
            if *length.get_or_insert(bytes.len()) != bytes.len() {
                return Err(format!("has keys of 48 and of 80 bytes, first on line {number}"));
            }
            keys.push(bytes);
        }
        let count = keys.len();
        let last: Vec<Key> = keys.iter().skip(count.saturating_sub(KEYS)).filter_map(|key| derive(key)).collect();
        let keys = last.try_into().map_err(|_| format!("has {count} keys; at least {KEYS} are needed"))?;
        Ok(Self { keys })
    }

    /// A ticket of a client that was authenticated `age` ago. `None` as with the keys of the process.
    pub(super) fn seal(
        &self,
        now: UnixTime,
        age: Duration,
        lifetime: Duration,
        policy: &[u8; 32],
        plain: &[u8],
    ) -> Option<Vec<u8>> {
        if age >= lifetime {
            return None;
        }
        // A second that has begun counts: a ticket may live shorter, not longer.
        let begun = u64::from(age.subsec_nanos() > 0);
        let first = now.as_secs().saturating_sub(age.as_secs() + begun);
        let [_, encrypting, _] = &self.keys;
        encrypting.seal(policy, first, plain)
    }

    /// The plaintext, and how long ago the client was authenticated.
    pub(super) fn open(
        &self,
        now: UnixTime,
        lifetime: Duration,
        policy: &[u8; 32],
        envelope: &[u8],
    ) -> Result<(Vec<u8>, Duration), TicketRefusal> {
        let name = envelope.get(..NAME_LEN).ok_or(TicketRefusal::UnknownKey)?;
        let key = self.keys.iter().rev().find(|key| key.is_named(name)).ok_or(TicketRefusal::UnknownKey)?;
        let (first, plain) = key.open(policy, envelope)?;
        let now = now.as_secs();
        // From the future: a clock was set back, and nobody can say how old it is.
        let age = Duration::from_secs(now.saturating_sub(first));
        if first > now.saturating_add(SKEW.as_secs()) || age >= lifetime {
            return Err(TicketRefusal::Expired);
        }
        Ok((plain, age))
    }
}

/// The name is the first part, as in HAProxy; the key is made of all of it.
fn derive(secret: &[u8]) -> Option<Key> {
    let extracted = Salt::new(HKDF_SHA256, b"bowline tls-ticket-keys").extract(secret);
    let info = [&b"AES-256-GCM"[..]];
    let key = UnboundKey::from(extracted.expand(&info, &AES_256_GCM).ok()?);
    Some(Key::new(*secret.first_chunk()?, LessSafeKey::new(key)))
}

/// RFC 4648, 4, with padding.
fn base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if text.is_empty() || text.len() % 4 != 0 || padding > 2 {
        return None;
    }
    // Exactly sized: a vector that grows leaves copies of keys behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3));
    for (index, group) in text.chunks_exact(4).enumerate() {
        let missing = if (index + 1) * 4 == text.len() { padding } else { 0 };
        let mut bits = 0_u32;
        for byte in &group[..4 - missing] {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * missing;
        let [_, group @ ..] = bits.to_be_bytes();
        let (kept, cut) = group.split_at(3 - missing);
        if cut.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::test_pki::{at_second, now};

    const LIFETIME: Duration = Duration::from_secs(300);
    const POLICY: [u8; 32] = [1; 32];

    fn encode(bytes: &[u8]) -> String {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for index in 0..4 {
                let letter = char::from(alphabet[(bits >> (18 - 6 * index) & 63) as usize]);
                text.push(if index <= group.len() { letter } else { '=' });
            }
        }
        text
    }

    /// A file with a key for each number.
    fn file(length: usize, numbers: &[u8]) -> String {
        numbers.iter().map(|number| format!("{}\n", encode(&vec![*number; length]))).collect()
    }

    fn keys(numbers: &[u8]) -> FileKeys {
        FileKeys::parse(file(48, numbers).as_bytes()).unwrap()
    }

    fn seal(keys: &FileKeys) -> Vec<u8> {
        keys.seal(now(), Duration::ZERO, LIFETIME, &POLICY, b"state").unwrap()
    }

    fn opens(keys: &FileKeys, ticket: &[u8]) -> bool {
        keys.open(now(), LIFETIME, &POLICY, ticket).is_ok_and(|(plain, _)| plain == b"state")
    }

    #[test]
    fn the_last_three_decrypt_and_the_last_but_one_encrypts() {
        let ticket = seal(&keys(&[1, 2, 3, 4]));
        assert_eq!(ticket[..NAME_LEN], [3; NAME_LEN]);
        for (numbers, known) in [
            (&[2, 3, 4][..], true),
            (&[3, 4, 5], true),
            (&[1, 2, 3], true),
            (&[4, 5, 6], false),
            (&[3, 4, 5, 6], false),
        ] {
            assert_eq!(opens(&keys(numbers), &ticket), known, "{numbers:?}");
        }
        let long = FileKeys::parse(file(80, &[1, 2, 3]).as_bytes()).unwrap();
        assert!(opens(&long, &seal(&long)));
        // A key that begins in the same way is another one.
        assert_eq!(keys(&[2, 3, 4]).open(now(), LIFETIME, &POLICY, &seal(&long)).unwrap_err(), TicketRefusal::Policy);
    }

    #[test]
    fn a_ticket_counts_under_its_policy_and_within_its_lifetime() {
        let keys = keys(&[1, 2, 3]);
        let ticket = keys.seal(now(), Duration::from_millis(10_001), LIFETIME, &POLICY, b"state").unwrap();
        let open = |second, policy| keys.open(at_second(second), LIFETIME, policy, &ticket);
        assert_eq!(open(0, &POLICY).unwrap(), (b"state".to_vec(), Duration::from_secs(11)));
        assert!(open(288, &POLICY).is_ok());
        assert_eq!(open(289, &POLICY).unwrap_err(), TicketRefusal::Expired);
        assert!(open(-71, &POLICY).is_ok(), "clocks may differ by a minute");
        assert_eq!(open(-72, &POLICY).unwrap_err(), TicketRefusal::Expired);
        assert_eq!(open(0, &[2; 32]).unwrap_err(), TicketRefusal::Policy);
        assert_eq!(keys.seal(now(), LIFETIME, LIFETIME, &POLICY, b"state"), None);
        for index in 0..ticket.len() {
            let mut damaged = ticket.clone();
            damaged[index] ^= 1;
            assert!(keys.open(now(), LIFETIME, &POLICY, &damaged).is_err(), "byte {index}");
            assert!(keys.open(now(), LIFETIME, &POLICY, &ticket[..index]).is_err(), "length {index}");
        }
    }

    #[test]
    fn other_files_are_refused_without_showing_keys() {
        let mixed = format!("{}{}", file(48, &[1, 2]), file(80, &[3]));
        let short = file(47, &[1, 2, 3]);
        let loose = format!("\n  {}\r\n\n{}", file(48, &[1, 2]).replace('\n', "\r\n").trim(), file(48, &[3]));
        for (text, reason) in [
            ("", "has 0 keys; at least 3 are needed"),
            (&file(48, &[1, 2]), "has 2 keys; at least 3 are needed"),
            (&mixed, "has keys of 48 and of 80 bytes, first on line 3"),
            (&short, "has a key of 47 bytes on line 1; 48 or 80 are needed"),
            ("AAA", "has no base64 on line 1"),
            ("\nA===", "has no base64 on line 2"),
            ("AA*A", "has no base64 on line 1"),
            ("AB==", "has no base64 on line 1"),
        ] {
            assert_eq!(FileKeys::parse(text.as_bytes()).unwrap_err(), reason);
        }
        assert!(FileKeys::parse(loose.as_bytes()).is_ok(), "blanks around a key do no harm");
    }
}
