//! PEM (RFC 7468): certificates, private keys and CRLs out of a file's bytes. The only file that names `rustls_pemfile`.
//!
//! The blocks are found here and decoded one at a time, because the decoder lets a block without END line run into the
//! next one, and skips encrypted keys without a word.

use std::fmt;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls_pemfile::Item;
use x509_parser::prelude::FromDer;

/// What a PEM file holds, each kind in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Pem {
    /// `CERTIFICATE`.
    pub certificates: Vec<CertificateDer<'static>>,
    /// `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1), `EC PRIVATE KEY` (SEC1).
    pub keys: Vec<PrivateKeyDer<'static>>,
    /// Private keys that need a password.
    pub encrypted_keys: usize,
    /// `X509 CRL`.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// Labels of the blocks that are of no use here, such as `DH PARAMETERS`, without repetition.
    pub others: Vec<String>,
}

/// Why bytes are not PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PemError {
    /// No bytes, or white space only.
    Empty,
    /// Binary; see [`Der`].
    Binary(Der),
    /// UTF-16, as some editors write it.
    Utf16,
    /// Text without any block.
    NoBlock,
    /// A block without its END line.
    Unterminated {
        /// Line of its BEGIN.
        line: usize,
        /// Its label.
        label: String,
    },
    /// A BEGIN line that does not end in five dashes.
    BadBegin {
        /// Its number.
        line: usize,
    },
    /// The lines between BEGIN and END are not base64.
    BadBase64 {
        /// Line of its BEGIN.
        line: usize,
        /// Its label.
        label: String,
    },
}

/// What a binary file seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Der {
    /// An X.509 certificate.
    Certificate,
    /// A CRL.
    Crl,
    /// A PKCS#12 container.
    Pkcs12,
    /// Other ASN.1, most likely a key.
    Other,
    /// No ASN.1.
    Unknown,
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::Binary(Der::Certificate) => f.write_str("is a certificate in DER, PEM is needed"),
            Self::Binary(Der::Crl) => f.write_str("is a CRL in DER, PEM is needed"),
            Self::Binary(Der::Pkcs12) => f.write_str("is a PKCS#12 container, PEM is needed"),
            Self::Binary(Der::Other) => f.write_str("is binary (DER), PEM is needed"),
            Self::Binary(Der::Unknown) => f.write_str("is binary, PEM is needed"),
            Self::Utf16 => f.write_str("is UTF-16 text, PEM is ASCII"),
            Self::NoBlock => f.write_str("has no PEM block"),
            Self::Unterminated { line, label } => {
                write!(f, "is cut off: the block '{label}' that begins on line {line} has no END line")
            }
            Self::BadBegin { line } => write!(f, "has a damaged BEGIN line on line {line}"),
            Self::BadBase64 { line, label } => {
                write!(f, "is damaged: the block '{label}' that begins on line {line} is not base64")
            }
        }
    }
}

impl PemError {
    /// What to do about it; `file` is the file's name.
    pub(super) fn remedy(&self, file: &str) -> Option<String> {
        let command = match self {
            Self::Binary(Der::Certificate) => {
                format!("openssl x509 -inform DER -in {file} -out {file}.pem")
            }
            Self::Binary(Der::Crl) => format!("openssl crl -inform DER -in {file} -out {file}.pem"),
            Self::Binary(Der::Pkcs12) => {
                format!("openssl pkcs12 -in {file} -nodes -out {file}.pem")
            }
            Self::Binary(Der::Other) => {
                format!("openssl pkey -inform DER -in {file} -out {file}.pem")
            }
            Self::Utf16 => format!("iconv -f UTF-16 -t ASCII {file} > {file}.pem"),
            Self::Unterminated { .. } | Self::BadBegin { .. } | Self::BadBase64 { .. } => {
                return Some("was it being written while it was read?".to_owned());
            }
            Self::Empty | Self::Binary(Der::Unknown) | Self::NoBlock => return None,
        };
        Some(format!("convert it: {command}"))
    }
}

/// Reads everything that `bytes` hold. Text between the blocks, a byte order mark and CRLF are fine.
///
/// # Errors
/// A file without a single block, and a block that is damaged.
pub(super) fn parse(bytes: &[u8]) -> Result<Pem, PemError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(PemError::Empty);
    }
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(PemError::Utf16);
    }
    let blocks = blocks(bytes)?;
    if blocks.is_empty() {
        return Err(no_block(bytes));
    }
    let mut pem = Pem::default();
    for block in blocks {
        block.decode(&mut pem)?;
    }
    Ok(pem)
}

/// One block: from the first byte of its BEGIN line to the end of its END line.
struct Block<'a> {
    line: usize,
    label: &'a [u8],
    text: &'a [u8],
}

fn blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, PemError> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, usize, &[u8])> = None;
    let mut offset = 0;
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let start = offset;
        offset += line.len() + 1;
        let line = line.trim_ascii_end();
        if let Some(rest) = line.strip_prefix(b"-----BEGIN ") {
            if let Some((line, _, label)) = open {
                return Err(PemError::Unterminated { line, label: text(label) });
            }
            let label = rest.strip_suffix(b"-----").filter(|label| !label.ends_with(b"-"));
            let label = label.ok_or(PemError::BadBegin { line: number + 1 })?;
            open = Some((number + 1, start, label));
        } else if let Some(rest) = line.strip_prefix(b"-----END ") {
            if let Some((line, start, label)) = open.take() {
                if !rest.strip_prefix(label).is_some_and(|dashes| dashes.starts_with(b"-----")) {
                    return Err(PemError::Unterminated { line, label: text(label) });
                }
                blocks.push(Block { line, label, text: &bytes[start..offset.min(bytes.len())] });
            }
        }
    }
    match open {
        Some((line, _, label)) => Err(PemError::Unterminated { line, label: text(label) }),
        None => Ok(blocks),
    }
}

impl Block<'_> {
    fn decode(&self, pem: &mut Pem) -> Result<(), PemError> {
        // "Proc-Type: 4,ENCRYPTED" is the header of an encrypted PKCS#1 or SEC1 key (RFC 1421, 4.6.1.1).
        let encrypted = self
            .text
            .split(|byte| *byte == b'\n')
            .any(|line| line.starts_with(b"Proc-Type:") && line.trim_ascii_end().ends_with(b"ENCRYPTED"));
        if encrypted || self.label == b"ENCRYPTED PRIVATE KEY" {
            pem.encrypted_keys += 1;
            return Ok(());
        }
        let damaged = || PemError::BadBase64 { line: self.line, label: text(self.label) };
        match rustls_pemfile::read_one_from_slice(self.text).map_err(|_| damaged())? {
            Some((Item::X509Certificate(der), _)) => pem.certificates.push(der),
            Some((Item::Pkcs8Key(key), _)) => pem.keys.push(key.into()),
            Some((Item::Pkcs1Key(key), _)) => pem.keys.push(key.into()),
            Some((Item::Sec1Key(key), _)) => pem.keys.push(key.into()),
            Some((Item::Crl(der), _)) => pem.crls.push(der),
            _ => {
                let label = text(self.label);
                if !pem.others.contains(&label) {
                    pem.others.push(label);
                }
            }
        }
        Ok(())
    }
}

/// A label as text for a message: printable ASCII, at most 64 bytes.
fn text(label: &[u8]) -> String {
    label.iter().take(64).map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' }).collect()
}

fn no_block(bytes: &[u8]) -> PemError {
    let is_text = bytes.iter().take(512).all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace());
    if bytes.first() != Some(&0x30) {
        return if is_text { PemError::NoBlock } else { PemError::Binary(Der::Unknown) };
    }
    // ASCII text may begin with '0', which is 0x30, too.
    if is_text && std::str::from_utf8(bytes).is_ok() {
        return PemError::NoBlock;
    }
    PemError::Binary(if x509_parser::certificate::X509Certificate::from_der(bytes).is_ok() {
        Der::Certificate
    } else if x509_parser::revocation_list::CertificateRevocationList::from_der(bytes).is_ok() {
        Der::Crl
    } else if is_pkcs12(bytes) {
        Der::Pkcs12
    } else {
        Der::Other
    })
}

/// PFX ::= SEQUENCE { version INTEGER 3, authSafe SEQUENCE … } (RFC 7292, 4).
fn is_pkcs12(bytes: &[u8]) -> bool {
    let content = match bytes.get(1) {
        Some(length) if *length < 0x80 => bytes.get(2..),
        Some(length) => bytes.get(2 + usize::from(length & 0x7f)..),
        None => None,
    };
    content.is_some_and(|content| content.starts_with(&[0x02, 0x01, 0x03, 0x30]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
    }

    fn key() -> String {
        rcgen::KeyPair::generate().unwrap().serialize_pem()
    }

    #[test]
    fn every_kind_of_block_is_found() {
        let file = format!(
            "subject=/CN=x\r\n{}some words\n{}-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n",
            certificate(),
            key()
        );
        let pem = parse(file.as_bytes()).unwrap();
        assert_eq!((pem.certificates.len(), pem.keys.len(), pem.crls.len()), (1, 1, 0));
        assert_eq!(pem.others, ["DH PARAMETERS"]);
    }

    #[test]
    fn sec1_and_pkcs1_keys_are_keys() {
        for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY"] {
            let pem = parse(format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----").as_bytes()).unwrap();
            assert_eq!(pem.keys.len(), 1, "{label}");
        }
    }

    #[test]
    fn byte_order_mark_and_crlf_do_no_harm() {
        let file = format!("\u{feff}{}", certificate().replace("\r\n", "\n").replace('\n', "\r\n"));
        assert_eq!(parse(file.as_bytes()).unwrap().certificates.len(), 1);
    }

    #[test]
    fn the_six_dash_dh_parameters_of_hitch_are_no_block() {
        let file = format!("------BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n{}", certificate());
        let pem = parse(file.as_bytes()).unwrap();
        assert_eq!((pem.certificates.len(), pem.others.len()), (1, 0));
    }

    #[test]
    fn a_cut_off_block_is_named_with_its_line() {
        let whole = certificate();
        let cut = &whole[..whole.len() / 2];
        let unterminated = PemError::Unterminated { line: 3, label: "CERTIFICATE".to_owned() };
        assert_eq!(parse(format!("a\nb\n{cut}").as_bytes()).unwrap_err(), unterminated);
        // A decoder that only looks for END lines would join the two halves.
        assert_eq!(parse(format!("a\nb\n{cut}\n{whole}").as_bytes()).unwrap_err(), unterminated);
        let other = "-----END X509 CRL-----\n";
        assert_eq!(parse(format!("a\nb\n{cut}\n{other}").as_bytes()).unwrap_err(), unterminated);
    }

    #[test]
    fn damaged_blocks_are_named_with_their_line() {
        let file = "\n-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        let error = PemError::BadBase64 { line: 2, label: "CERTIFICATE".to_owned() };
        assert_eq!(parse(file.as_bytes()).unwrap_err(), error);
        assert_eq!(parse(b"-----BEGIN CERTIFICATE---\nAAAA").unwrap_err(), PemError::BadBegin { line: 1 });
        assert_eq!(parse(b"-----BEGIN CERTIFICATE------\nAAAA").unwrap_err(), PemError::BadBegin { line: 1 });
    }

    #[test]
    fn encrypted_keys_are_counted_and_not_decoded() {
        let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let pkcs1 = "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,AA\r\n\r\nAAAA\r\n-----END RSA PRIVATE KEY-----\n";
        let pem = parse(format!("{pkcs8}{pkcs1}").as_bytes()).unwrap();
        assert_eq!((pem.encrypted_keys, pem.keys.len()), (2, 0));
    }

    #[test]
    fn files_that_are_no_pem_are_told_apart() {
        assert_eq!(parse(b"").unwrap_err(), PemError::Empty);
        assert_eq!(parse(b" \r\n\n").unwrap_err(), PemError::Empty);
        assert_eq!(parse(b"hello").unwrap_err(), PemError::NoBlock);
        assert_eq!(parse(b"0 hello").unwrap_err(), PemError::NoBlock);
        assert_eq!(parse(b"\xFF\xFE-\0-\0").unwrap_err(), PemError::Utf16);
        assert_eq!(parse(b"\x7fELF\x00\x01").unwrap_err(), PemError::Binary(Der::Unknown));
        let der = parse(certificate().as_bytes()).unwrap().certificates.remove(0);
        assert_eq!(parse(&der).unwrap_err(), PemError::Binary(Der::Certificate));
        let der = rcgen::KeyPair::generate().unwrap().serialize_der();
        assert_eq!(parse(&der).unwrap_err(), PemError::Binary(Der::Other));
        assert_eq!(parse(b"\x30\x82\x01\x00\x02\x01\x03\x30\xff").unwrap_err(), PemError::Binary(Der::Pkcs12));
        let remedy = PemError::Binary(Der::Certificate).remedy("/x.crt").unwrap();
        assert_eq!(remedy, "convert it: openssl x509 -inform DER -in /x.crt -out /x.crt.pem");
    }
}
