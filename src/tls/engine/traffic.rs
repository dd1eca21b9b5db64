//! Records once the handshake is over. rustls has handed over the keys, and each record goes from the loop's input to the
//! loop's plaintext, or from there to the loop's output, in one pass of the cipher: nothing is allocated, and no byte is copied
//! but by the cipher. Framing is RFC 8446, 5 (TLS 1.3) and RFC 5246, 6.2 (TLS 1.2); the keys that KeyUpdate asks for
//! (RFC 8446, 4.6.3) are still derived by rustls.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use rustls::crypto::cipher::{Iv, NONCE_LEN, Nonce, make_tls12_aad};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, HandshakeType, InvalidMessage,
    PeerMisbehaved, ProtocolVersion, SupportedCipherSuite,
};

use super::{Exhausted, Outgoing, Progress, RECORD_PLAINTEXT};
use crate::conf::model::RecordLimits;
use crate::tls::terms;

/// Type, version, length.
const HEADER: usize = 5;
const TAG: usize = 16;
/// What AES-GCM sends of its nonce in TLS 1.2 (RFC 5288, 3).
const EXPLICIT_NONCE: usize = 8;
/// What the content of a record may be longer than its plaintext (RFC 5246, 6.2.3; TLS 1.3 says 256).
const EXPANSION_MAX: usize = 2048;

/// KeyUpdate is a handshake message of five bytes: type, length, and whether an answer is asked for.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
/// So many full reads in a row are a stream, for which long records are best (HAProxy's number).
const STREAM: u8 = 3;
/// KeyUpdate messages in a row: each costs a derivation and buys nothing.
const KEY_UPDATES_MAX: u8 = 32;
/// KeyUpdate messages in one read, whatever is between them: some milliseconds of a loop's time.
const KEY_UPDATES_AT_ONCE_MAX: u16 = 1_000;
/// Alerts of the level "warning" on one connection.
const WARNINGS_MAX: u8 = 4;

/// The record layer of an established connection.
pub(super) struct Traffic {
    read: Keys,
    write: Keys,
    /// Derives the next keys; TLS 1.2 has no next ones.
    kernel: Option<Box<KernelConnection<ServerConnectionData>>>,
    /// Records that one key of ours may protect (RFC 8446, 5.5).
    pub(super) records_max: u64,
    /// The beginning of a KeyUpdate that came in fragments.
    fragment: [u8; KEY_UPDATE.len()],
    fragment_length: u8,
    /// The client has asked for new keys of ours: they are due before the next record (RFC 8446, 4.6.3).
    update_due: bool,
    updates: u8,
    warnings: u8,
    renegotiations: u8,
    records: RecordLimits,
    /// How many times in a row a whole record or more was to be sent, as far as it matters.
    streak: u8,
    /// Something could not be encrypted any more: nothing may follow, close_notify least of all.
    exhausted: bool,
}

/// What the client did wrong, and what it is told.
pub(super) struct Fault {
    pub(super) error: Error,
    pub(super) alert: Option<AlertDescription>,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let alert = match &error {
            Error::PeerMisbehaved(_) => Some(AlertDescription::UnexpectedMessage),
            Error::InvalidMessage(InvalidMessage::MessageTooLarge) => Some(AlertDescription::RecordOverflow),
            other => terms::alert_for(other),
        };
        Self { error, alert }
    }
}

impl From<PeerMisbehaved> for Fault {
    fn from(what: PeerMisbehaved) -> Self {
        Error::from(what).into()
    }
}

impl From<InvalidMessage> for Fault {
    fn from(what: InvalidMessage) -> Self {
        Error::from(what).into()
    }
}

impl Traffic {
    /// Goes on with the keys of a connection whose handshake is over.
    ///
    /// # Errors
    /// A cipher that is not known here.
    pub(super) fn new(
        secrets: ExtractedSecrets,
        kernel: KernelConnection<ServerConnectionData>,
        records: RecordLimits,
    ) -> Result<Self, Error> {
        let tls13 = kernel.protocol_version() == ProtocolVersion::TLSv1_3;
        let common = match kernel.negotiated_cipher_suite() {
            SupportedCipherSuite::Tls12(suite) => &suite.common,
            SupportedCipherSuite::Tls13(suite) => &suite.common,
        };
        Ok(Self {
            read: Keys::new(secrets.rx, tls13)?,
            write: Keys::new(secrets.tx, tls13)?,
            records_max: common.confidentiality_limit,
            kernel: tls13.then(|| Box::new(kernel)),
            fragment: [0; KEY_UPDATE.len()],
            fragment_length: 0,
            update_due: false,
            updates: 0,
            warnings: 0,
            renegotiations: 0,
            records,
            streak: 0,
            exhausted: false,
        })
    }

    /// Opens the whole records of `input`: their plaintext goes to the front of `plain`, one behind the other, and into
    /// `progress`, also before an error. `plain` must be as long as `input`.
    pub(super) fn receive(
        &mut self,
        input: &[u8],
        plain: &mut [u8],
        output: &mut Outgoing,
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        let mut updates = 0;
        while let Some(record) = Record::first_of(&input[progress.consumed..])? {
            let space = &mut plain[progress.plaintext..];
            let (kind, length) = self.read.open(&record, space)?;
            let wire = HEADER + record.content.len();
            progress.consumed += wire;
            progress.records += 1;
            if kind != ContentType::ApplicationData || length == 0 {
                progress.idle += wire;
            }
            if self.fragment_length > 0 && kind != ContentType::Handshake {
                return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
            }
            match kind {
                ContentType::ApplicationData => {
                    progress.plaintext += length;
                    self.updates = 0;
                }
                ContentType::Alert => {
                    if self.handle_alert(&space[..length])? {
                        progress.peer_closed = true;
                        progress.consumed = input.len();
                        return Ok(());
                    }
                }
                ContentType::Handshake if self.kernel.is_some() => {
                    updates += 1;
                    if updates > KEY_UPDATES_AT_ONCE_MAX {
                        return Err(PeerMisbehaved::TooManyKeyUpdateRequests.into());
                    }
                    self.handle_key_update(&space[..length])?;
                }
                ContentType::Handshake => self.handle_renegotiation(&space[..length], output)?,
                got_type => {
                    let expect_types = vec![ContentType::ApplicationData];
                    return Err(Error::InappropriateMessage { expect_types, got_type }.into());
                }
            }
        }
        Ok(())
    }

    /// Whether it was close_notify; what else it may be and is not an error means nothing (RFC 8446, 6; RFC 5246, 7.2).
    fn handle_alert(&mut self, alert: &[u8]) -> Result<bool, Fault> {
        let [level, description] = *alert else {
            return Err(InvalidMessage::MessageTooShort.into());
        };
        let description = AlertDescription::from(description);
        let error = Error::AlertReceived(description);
        match (level, description) {
            (1 | 2, AlertDescription::CloseNotify) => Ok(true),
            (1, _) => {
                self.warnings += 1;
                if self.warnings > WARNINGS_MAX {
                    Err(PeerMisbehaved::TooManyWarningAlertsReceived.into())
                } else if self.kernel.is_some() && description != AlertDescription::UserCanceled {
                    Err(Fault { error, alert: Some(AlertDescription::DecodeError) })
                } else {
                    Ok(false)
                }
            }
            (2, _) => Err(Fault { error, alert: None }),
            _ => Err(Fault { error, alert: Some(AlertDescription::IllegalParameter) }),
        }
    }

    /// The one handshake message that a client of TLS 1.3 may still send.
    fn handle_key_update(&mut self, piece: &[u8]) -> Result<(), Fault> {
        if piece.is_empty() {
            return Err(InvalidMessage::InvalidEmptyPayload.into());
        }
        let mut message = [0; KEY_UPDATE.len() + 1];
        let before = usize::from(self.fragment_length);
        message[..before].copy_from_slice(&self.fragment[..before]);
        let taken = piece.len().min(message.len() - before);
        message[before..before + taken].copy_from_slice(&piece[..taken]);
        let length = before + taken;
        if message[0] != KEY_UPDATE[0] {
            let (expect_types, got_type) = (vec![HandshakeType::KeyUpdate], HandshakeType::from(message[0]));
            return Err(Error::InappropriateHandshakeMessage { expect_types, got_type }.into());
        }
        if !KEY_UPDATE.starts_with(&message[..length.min(KEY_UPDATE.len())]) {
            return Err(InvalidMessage::InvalidKeyUpdate.into());
        }
        if length < message.len() {
            self.fragment[..length].copy_from_slice(&message[..length]);
            self.fragment_length = length as u8;
            return Ok(());
        }
        if taken < piece.len() {
            // What follows would be protected by the old keys.
            return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
        }
        self.fragment_length = 0;
        self.updates += 1;
        if self.updates > KEY_UPDATES_MAX {
            return Err(PeerMisbehaved::TooManyKeyUpdateRequests.into());
        }
        match message[KEY_UPDATE.len()] {
            0 => {}
            1 => self.update_due = true,
            _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
        }
        if let Some(kernel) = &mut self.kernel {
            self.read = Keys::new(kernel.update_rx_secret()?, true)?;
        }
        Ok(())
    }

    /// A ClientHello is all that a client of TLS 1.2 may send. It is told once that there is no renegotiation (RFC 5746, 4.5).
    fn handle_renegotiation(&mut self, message: &[u8], output: &mut Outgoing) -> Result<(), Fault> {
        let whole = match *message {
            [1, high, middle, low, ref body @ ..] => u32::from_be_bytes([0, high, middle, low]) as usize == body.len(),
            _ => false,
        };
        if !whole {
            let got_type = HandshakeType::from(message.first().copied().unwrap_or_default());
            return Err(Error::InappropriateHandshakeMessage { expect_types: Vec::new(), got_type }.into());
        }
        self.renegotiations += 1;
        if self.renegotiations > 1 {
            return Err(PeerMisbehaved::TooManyRenegotiationRequests.into());
        }
        // An error is one of keys that are used up, which the next write tells.
        let _ = self.write.seal(ContentType::Alert, &[1, AlertDescription::NoRenegotiation.into()], output);
        Ok(())
    }

    /// Appends `plaintext` to `output` in records, all of it or nothing.
    ///
    /// # Errors
    /// The keys of TLS 1.2 would be used up before the end. It stays so.
    pub(super) fn encrypt(&mut self, plaintext: &[u8], output: &mut Outgoing) -> Result<(), Exhausted> {
        self.streak = if plaintext.len() < RECORD_PLAINTEXT { 0 } else { STREAM.min(self.streak + 1) };
        let RecordLimits { first, all } = self.records;
        let longest = if self.streak == STREAM { all } else { first.min(all) };
        let records = plaintext.len().div_ceil(longest) as u64;
        self.exhausted |= self.kernel.is_none() && self.write.sequence.saturating_add(records) > self.records_max;
        if self.exhausted {
            return Err(Exhausted);
        }
        for piece in plaintext.chunks(longest) {
            if self.update_due || self.write.sequence >= self.records_max {
                self.renew_keys(output)?;
            }
            self.write.seal(ContentType::ApplicationData, piece, output)?;
        }
        Ok(())
    }

    /// Appends close_notify.
    ///
    /// # Errors
    /// An [`Self::encrypt`] has failed: the stream has not come to its end.
    pub(super) fn close_notify(&mut self, output: &mut Outgoing) -> Result<(), Exhausted> {
        self.alert(1, AlertDescription::CloseNotify, output)
    }

    /// Appends a fatal alert, if there are keys to say it under.
    pub(super) fn fail(&mut self, alert: AlertDescription, output: &mut Outgoing) {
        let _ = self.alert(2, alert, output);
    }

    fn alert(&mut self, level: u8, alert: AlertDescription, output: &mut Outgoing) -> Result<(), Exhausted> {
        if self.exhausted {
            return Err(Exhausted);
        }
        self.write.seal(ContentType::Alert, &[level, alert.into()], output)
    }

    /// Tells the client of new keys, and uses them from then on. TLS 1.3 only.
    fn renew_keys(&mut self, output: &mut Outgoing) -> Result<(), Exhausted> {
        let Some(kernel) = &mut self.kernel else { return Err(Exhausted) };
        let [kind, high, middle, low] = KEY_UPDATE;
        self.write.seal(ContentType::Handshake, &[kind, high, middle, low, 0], output)?;
        let secrets = kernel.update_tx_secret().map_err(|_| Exhausted)?;
        self.write = Keys::new(secrets, true).map_err(|_| Exhausted)?;
        self.update_due = false;
        Ok(())
    }
}

/// Where the record that begins at `start` ends, if it is whole. One that says it is longer than any may be ends with the
/// input: rustls refuses it.
pub(super) fn end_of_record(input: &[u8], start: usize) -> Option<usize> {
    let [.., high, low] = *input.get(start..)?.first_chunk::<HEADER>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > RECORD_PLAINTEXT + EXPANSION_MAX {
        return Some(input.len());
    }
    Some(start + HEADER + length).filter(|end| *end <= input.len())
}

/// A record as it came.
struct Record<'a> {
    header: [u8; HEADER],
    content: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the front, if it is whole.
    fn first_of(bytes: &'a [u8]) -> Result<Option<Self>, Fault> {
        let Some((&header, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let [kind, major, _, high, low] = header;
        if !(20..=23).contains(&kind) {
            return Err(InvalidMessage::InvalidContentType.into());
        }
        if major != 3 {
            return Err(InvalidMessage::UnknownProtocolVersion.into());
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > RECORD_PLAINTEXT + EXPANSION_MAX {
            return Err(InvalidMessage::MessageTooLarge.into());
        }
        Ok(rest.get(..length).map(|content| Self { header, content }))
    }
}

/// The keys of one direction.
struct Keys {
    key: LessSafeKey,
    iv: Iv,
    /// Number of the next record. No number is used twice with a key.
    sequence: u64,
    tls13: bool,
    /// How much of the nonce stands in the record.
    explicit: usize,
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets), tls13: bool) -> Result<Self, Error> {
        let (algorithm, key, iv, gcm) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, true),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, true),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv, false),
            _ => return Err(Error::General("a cipher that is not known here".to_owned())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::EncryptError)?;
        let explicit = if gcm && !tls13 { EXPLICIT_NONCE } else { 0 };
        Ok(Self { key: LessSafeKey::new(key), iv, sequence, tls13, explicit })
    }

    /// RFC 8446, 5.3; RFC 7905, 2. For AES-GCM in TLS 1.2 any nonce will do that does not come twice (RFC 5288, 3).
    fn nonce(&self) -> [u8; NONCE_LEN] {
        Nonce::new(&self.iv, self.sequence).0
    }

    /// Appends a record.
    fn seal(&mut self, kind: ContentType, plaintext: &[u8], output: &mut Outgoing) -> Result<(), Exhausted> {
        let inner: &[u8] = if self.tls13 { &[kind.into()] } else { &[] };
        let content = self.explicit + plaintext.len() + inner.len() + TAG;
        let outer = if self.tls13 { ContentType::ApplicationData } else { kind };
        let [high, low] = (content as u16).to_be_bytes();
        let header = [outer.into(), 3, 3, high, low];
        let nonce = self.nonce();

        let start = output.len();
        let space = output.grow(HEADER + content);
        let (written, space) = space.split_at_mut(HEADER);
        written.copy_from_slice(&header);
        let (written, space) = space.split_at_mut(self.explicit);
        written.copy_from_slice(&nonce[NONCE_LEN - self.explicit..]);
        let (ciphertext, rest) = space.split_at_mut(plaintext.len());
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
        let sealed = if self.tls13 {
            self.key.seal_out_of_place_scatter(nonce, Aad::from(header), plaintext, ciphertext, inner, rest)
        } else {
            let aad = make_tls12_aad(self.sequence, kind, ProtocolVersion::TLSv1_2, plaintext.len());
            self.key.seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, inner, rest)
        };
        self.sequence += 1;
        sealed.map_err(|_| {
            output.truncate(start);
            Exhausted
        })
    }

    /// Decrypts a record to the front of `space`. Answers what it holds, and how much of it.
    fn open(&mut self, record: &Record<'_>, space: &mut [u8]) -> Result<(ContentType, usize), Fault> {
        let Record { header, content } = record;
        let kind = ContentType::from(header[0]);
        let Some((sent, tag)) = content.split_last_chunk::<TAG>() else { return Err(Error::DecryptError.into()) };
        let Some((explicit, ciphertext)) = sent.split_at_checked(self.explicit) else {
            return Err(Error::DecryptError.into());
        };
        let plain = &mut space[..ciphertext.len()];
        let mut nonce = self.nonce();
        nonce[NONCE_LEN - self.explicit..].copy_from_slice(explicit);
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
        let opened = if self.tls13 {
            if kind != ContentType::ApplicationData {
                let expect_types = vec![ContentType::ApplicationData];
                return Err(Error::InappropriateMessage { expect_types, got_type: kind }.into());
            }
            self.key.open_separate_gather(nonce, Aad::from(*header), ciphertext, tag, plain)
        } else {
            let version = ProtocolVersion::from(u16::from_be_bytes([header[1], header[2]]));
            let aad = make_tls12_aad(self.sequence, kind, version, ciphertext.len());
            self.key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plain)
        };
        opened.map_err(|_| Error::DecryptError)?;
        self.sequence += 1;
        let (kind, length) = match self.tls13 {
            false => (kind, plain.len()),
            // The type is the last byte that is not zero; what follows is padding (RFC 8446, 5.4).
            true => match plain.iter().rposition(|byte| *byte != 0) {
                Some(last) => (ContentType::from(plain[last]), last),
                None => return Err(PeerMisbehaved::IllegalTlsInnerPlaintext.into()),
            },
        };
        if plain.len() > RECORD_PLAINTEXT + usize::from(self.tls13) || length > RECORD_PLAINTEXT {
            return Err(Error::PeerSentOversizedRecord.into());
        }
        Ok((kind, length))
    }
}
