//! Cipher suites and key exchange groups: which there are, and what OpenSSL's lists of them mean here. A list is read as
//! OpenSSL reads it; what rustls has of the result counts, in that order (openssl-ciphers(1); HAProxy manual 5.1, `ciphers`,
//! `ciphersuites`, `curves`).

mod words;

use super::keywords::nearest;

/// A cipher suite of TLS 1.2, in OpenSSL's order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite12 {
    /// TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 (RFC 5289).
    EcdsaAes256,
    /// TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 (RFC 5289).
    RsaAes256,
    /// TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 (RFC 7905).
    EcdsaChaCha20,
    /// TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 (RFC 7905).
    RsaChaCha20,
    /// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 (RFC 5289).
    EcdsaAes128,
    /// TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 (RFC 5289).
    RsaAes128,
}

impl Suite12 {
    /// OpenSSL's order of preference.
    const ALL: [Self; 6] = [
        Self::EcdsaAes256,
        Self::RsaAes256,
        Self::EcdsaChaCha20,
        Self::RsaChaCha20,
        Self::EcdsaAes128,
        Self::RsaAes128,
    ];

    /// Ours without `ciphers`. ChaCha20 comes first: rustls ends a TLS 1.2 connection after 2^24 records under one AES-GCM key,
    /// which a long tunnel of small records does reach (1.6 GB in records of 100 bytes), and ChaCha20 has no such limit.
    pub const DEFAULT: [Self; 6] = [
        Self::EcdsaChaCha20,
        Self::EcdsaAes256,
        Self::EcdsaAes128,
        Self::RsaChaCha20,
        Self::RsaAes256,
        Self::RsaAes128,
    ];

    /// OpenSSL's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EcdsaAes256 => "ECDHE-ECDSA-AES256-GCM-SHA384",
            Self::RsaAes256 => "ECDHE-RSA-AES256-GCM-SHA384",
            Self::EcdsaChaCha20 => "ECDHE-ECDSA-CHACHA20-POLY1305",
            Self::RsaChaCha20 => "ECDHE-RSA-CHACHA20-POLY1305",
            Self::EcdsaAes128 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            Self::RsaAes128 => "ECDHE-RSA-AES128-GCM-SHA256",
        }
    }

    /// OpenSSL's `strength_bits`.
    fn strength(self) -> u16 {
        if matches!(self, Self::EcdsaAes128 | Self::RsaAes128) { 128 } else { 256 }
    }
}

/// A cipher suite of TLS 1.3 (RFC 8446, B.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite13 {
    /// TLS_AES_256_GCM_SHA384.
    Aes256,
    /// TLS_CHACHA20_POLY1305_SHA256.
    ChaCha20,
    /// TLS_AES_128_GCM_SHA256.
    Aes128,
}

impl Suite13 {
    /// Ours without `ciphersuites`: AES-256 first, like OpenSSL.
    pub const DEFAULT: [Self; 3] = [Self::Aes256, Self::Aes128, Self::ChaCha20];

    /// What OpenSSL has besides.
    const ABSENT: [&str; 4] =
        ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256", "TLS_SHA256_SHA256", "TLS_SHA384_SHA384"];

    /// The name, which is OpenSSL's too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256 => "TLS_AES_256_GCM_SHA384",
            Self::ChaCha20 => "TLS_CHACHA20_POLY1305_SHA256",
            Self::Aes128 => "TLS_AES_128_GCM_SHA256",
        }
    }
}

/// A group of the key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// X25519MLKEM768 (TLS 1.3 only).
    X25519MlKem768,
    /// X25519 (RFC 8446, 4.2.7).
    X25519,
    /// secp256r1, which is P-256.
    P256,
    /// secp384r1, which is P-384.
    P384,
    /// SecP256r1MLKEM768 (TLS 1.3 only).
    P256MlKem768,
    /// MLKEM768 (TLS 1.3 only).
    MlKem768,
    /// MLKEM1024 (TLS 1.3 only).
    MlKem1024,
}

impl Group {
    /// Without `curves`.
    pub const DEFAULT: [Self; 4] = [Self::X25519MlKem768, Self::X25519, Self::P256, Self::P384];

    /// TLS 1.2 can use it: the hybrid groups came with TLS 1.3.
    pub fn is_of_tls12(self) -> bool {
        matches!(self, Self::X25519 | Self::P256 | Self::P384)
    }

    /// Names in lower case; OpenSSL does not mind the case.
    const NAMES: [(&str, Self); 10] = [
        ("x25519mlkem768", Self::X25519MlKem768),
        ("x25519", Self::X25519),
        ("p-256", Self::P256),
        ("prime256v1", Self::P256),
        ("secp256r1", Self::P256),
        ("p-384", Self::P384),
        ("secp384r1", Self::P384),
        ("secp256r1mlkem768", Self::P256MlKem768),
        ("mlkem768", Self::MlKem768),
        ("mlkem1024", Self::MlKem1024),
    ];

    /// Groups of OpenSSL that do not exist here, in lower case.
    const ABSENT: &str = "p-521 secp521r1 x448 ffdhe2048 ffdhe3072 ffdhe4096 ffdhe6144 ffdhe8192 mlkem512 \
        secp384r1mlkem1024 x448mlkem1024 brainpoolp256r1 brainpoolp384r1 brainpoolp512r1 brainpoolp256r1tls13 \
        brainpoolp384r1tls13 brainpoolp512r1tls13 p-192 p-224 prime192v1 secp192r1 secp224r1 secp160k1 secp160r1 \
        secp160r2 secp192k1 secp224k1 secp256k1 sect163k1 sect163r1 sect163r2 sect193r1 sect193r2 sect233k1 sect233r1 \
        sect239k1 sect283k1 sect283r1 sect409k1 sect409r1 sect571k1 sect571r1 b-163 b-233 b-283 b-409 b-571 k-163 k-233 \
        k-283 k-409 k-571 curvesm2";
}

/// What a list means here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection<T> {
    /// What there is of it, at least one, in order.
    pub(crate) kept: Vec<T>,
    /// Words that name nothing that exists here.
    pub(crate) dropped: Vec<String>,
}

/// Why a list can not be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListError {
    /// Nothing of it exists here.
    Nothing,
    /// OpenSSL would not read it either: what is wrong.
    Syntax(String),
    /// A word that has no meaning, and one that may have been meant.
    Unknown(String, Option<&'static str>),
    /// It asks for a property of OpenSSL that can not be kept here.
    OpenSsl(&'static str),
}

/// The suites of a set, by their place in [`Suite12::ALL`].
type Set = u8;

const NONE: Set = 0;
const EVERY: Set = 0b11_1111;
const ECDSA: Set = 0b01_0101;
const RSA: Set = 0b10_1010;
const AES256: Set = 0b00_0011;
const CHACHA20: Set = 0b00_1100;
const AES128: Set = 0b11_0000;

/// What a word of a cipher string stands for. `None`: OpenSSL does not know it.
fn named(word: &str) -> Option<Set> {
    let set = match word {
        "ALL" | "HIGH" | "ECDH" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" | "TLSv1.2" => EVERY,
        "aECDSA" | "ECDSA" => ECDSA,
        "aRSA" => RSA,
        "AES" | "AESGCM" | "FIPS" => AES128 | AES256,
        "AES128" => AES128,
        "AES256" => AES256,
        "CHACHA20" => CHACHA20,
        _ => match Suite12::ALL.iter().position(|suite| suite.name() == word) {
            Some(index) => 1 << index,
            None => return words::is_known(word).then_some(NONE),
        },
    };
    Some(set)
}

/// The list that the rules of a cipher string work on. OpenSSL's has all suites that it knows; every rule keeps the order of
/// what it moves, so those that exist here can be looked at alone.
struct Rules {
    /// What was not killed.
    list: Vec<Ruled>,
}

/// A suite, and whether it is part of the result.
type Ruled = (Suite12, bool);

impl Rules {
    fn split(&mut self, moves: impl Fn(Suite12, bool) -> bool) -> (Vec<Ruled>, Vec<Ruled>) {
        std::mem::take(&mut self.list).into_iter().partition(|(suite, active)| moves(*suite, *active))
    }

    /// `word`, `-word`, `+word`, `!word`.
    fn apply(&mut self, operator: u8, set: Set) {
        let selected = |suite: Suite12| {
            Suite12::ALL.iter().zip(0..).any(|(known, index)| *known == suite && set & (1 << index) != 0)
        };
        match operator {
            b'-' => {
                let (taken, rest) = self.split(|suite, active| active && selected(suite));
                self.list.extend(taken.into_iter().map(|(suite, _)| (suite, false)).chain(rest));
            }
            b'+' => {
                let (taken, rest) = self.split(|suite, active| active && selected(suite));
                self.list.extend(rest.into_iter().chain(taken));
            }
            b'!' => self.list.retain(|(suite, _)| !selected(*suite)),
            _ => {
                let (taken, rest) = self.split(|suite, active| !active && selected(suite));
                self.list.extend(rest.into_iter().chain(taken.into_iter().map(|(suite, _)| (suite, true))));
            }
        }
    }

    /// `@STRENGTH`, `@SECLEVEL=n`.
    fn command(&mut self, name: &str) -> Result<(), ListError> {
        match name {
            "STRENGTH" => {
                let (mut active, rest) = self.split(|_, active| active);
                active.sort_by_key(|(suite, _)| std::cmp::Reverse(suite.strength()));
                self.list.extend(rest.into_iter().chain(active));
                Ok(())
            }
            // Whatever they ask for is so here.
            "SECLEVEL=0" | "SECLEVEL=1" | "SECLEVEL=2" => Ok(()),
            "SECLEVEL=3" | "SECLEVEL=4" | "SECLEVEL=5" => Err(ListError::OpenSsl(
                "security levels above 2 also ask for lengths of keys, which are not checked here",
            )),
            _ => Err(ListError::Syntax(format!("'@{name}' is no command of a cipher string"))),
        }
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b':' | b' ' | b';' | b',')
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'=' | b'_')
}

/// `ciphers`: OpenSSL's cipher string. [`ListError::Unknown`] does not occur: unknown words are passed over.
pub(crate) fn suites12(text: &str) -> Result<Selection<Suite12>, ListError> {
    if text.starts_with("SUITEB") {
        return Err(ListError::OpenSsl("Suite B is a mode of OpenSSL; name the suites, and the groups with 'curves'"));
    }
    let mut rules = Rules { list: Suite12::ALL.map(|suite| (suite, false)).to_vec() };
    let mut dropped = Vec::new();
    let mut rest = text;
    // Stands for OpenSSL's default only at the very beginning.
    if let Some(after) = text.strip_prefix("DEFAULT") {
        rules.apply(b' ', EVERY);
        rest = after;
    }
    while let Some(first) = rest.bytes().next() {
        let is_operator = matches!(first, b'-' | b'+' | b'!' | b'@');
        if is_separator(first) {
            rest = &rest[1..];
            continue;
        }
        let (whole, start) = (rest, usize::from(is_operator));
        rest = &rest[start..];
        let mut set = Some(EVERY);
        loop {
            let end = rest.bytes().position(|byte| !is_name(byte)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if name.is_empty() {
                let before = text.len() - rest.len();
                let message = match rest.chars().next() {
                    None => "a word is missing at its end".to_owned(),
                    Some(found) => format!("a word is missing before '{}'", found.escape_default()),
                };
                return Err(ListError::Syntax(format!("{message} (byte {})", before + 1)));
            }
            rest = after;
            if first == b'@' {
                rules.command(name)?;
                set = None;
                break;
            }
            set = named(name).and_then(|found| set.map(|set| set & found));
            match after.strip_prefix('+') {
                Some(after) if set.is_some() => rest = after,
                _ => break,
            }
        }
        if let Some(set) = set {
            rules.apply(if is_operator { first } else { b' ' }, set);
        } else {
            // After an unknown word and after a command OpenSSL goes on behind the next separator.
            rest = rest.find(|c: char| c.is_ascii() && is_separator(c as u8)).map_or("", |at| &rest[at..]);
        }
        if !is_operator && set.unwrap_or(NONE) == NONE {
            dropped.push(whole[..whole.len() - rest.len()].to_owned());
        }
    }
    let kept: Vec<Suite12> = rules.list.iter().filter(|(_, active)| *active).map(|(suite, _)| *suite).collect();
    if kept.is_empty() { Err(ListError::Nothing) } else { Ok(Selection { kept, dropped }) }
}

/// `ciphersuites`: names of TLS 1.3 suites with colons between them.
pub(crate) fn suites13(text: &str) -> Result<Selection<Suite13>, ListError> {
    list(text, |name| match Suite13::DEFAULT.iter().find(|suite| suite.name() == name) {
        Some(suite) => Ok(Some(*suite)),
        None if Suite13::ABSENT.contains(&name) => Ok(None),
        None => Err(nearest(name, Suite13::DEFAULT.iter().map(|suite| suite.name()))),
    })
}

/// `curves`: names of groups with colons between them. A `?` in front lets OpenSSL 3.3 pass over an unknown one.
pub(crate) fn groups(text: &str) -> Result<Selection<Group>, ListError> {
    list(text, |word| {
        let lower = word.to_ascii_lowercase();
        let name = lower.strip_prefix('?').unwrap_or(&lower);
        match Group::NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, group)) => Ok(Some(*group)),
            None if name.len() < lower.len() || Group::ABSENT.split(' ').any(|absent| absent == name) => Ok(None),
            None => Err(nearest(name, Group::NAMES.iter().map(|(known, _)| *known))),
        }
    })
}

/// Words with colons between them. `known` answers `None` for what exists elsewhere, and an error for what exists nowhere.
fn list<T: PartialEq>(
    text: &str,
    known: impl Fn(&str) -> Result<Option<T>, Option<&'static str>>,
) -> Result<Selection<T>, ListError> {
    let mut kept = Vec::new();
    let mut dropped = Vec::new();
    for word in text.split(':').map(str::trim).filter(|word| !word.is_empty()) {
        match known(word) {
            Ok(Some(found)) if kept.contains(&found) => {}
            Ok(Some(found)) => kept.push(found),
            Ok(None) => dropped.push(word.to_owned()),
            Err(near) => return Err(ListError::Unknown(word.to_owned(), near)),
        }
    }
    if kept.is_empty() { Err(ListError::Nothing) } else { Ok(Selection { kept, dropped }) }
}

#[cfg(test)]
mod tests;
