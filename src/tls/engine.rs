//! One TLS connection, server side: the only file that names the rustls connection.
//!
//! Built on rustls' unbuffered API, so ciphertext is decrypted in the caller's buffer and a connection owns no buffer of its
//! own. The ClientHello is looked at first through rustls' own [`Acceptor`]; the same bytes are then given to the connection,
//! so that two parsers can never disagree about them.

use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::UnixTime;
use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{AlertDescription, CipherSuite, Error, HandshakeKind, NamedGroup, ProtocolVersion, SignatureScheme};

use super::client_auth::{self, Handshake, Refusal};
use super::credential::Credential;
use super::identity::{TlsSession, Verdict};
use super::policy::TlsPolicy;
use super::tickets::Scope;

/// The time, as far as it matters here: one reading serves a turn of the loop.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines and the age of sessions.
    pub instant: Instant,
    /// For certificates.
    pub unix: UnixTime,
}

/// What a record adds to its plaintext at most: header (5), explicit nonce of TLS 1.2 (8), content type of TLS 1.3 (1), tag (16).
pub const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;

/// Plaintext of a full record (RFC 8446, 5.1).
pub const RECORD_PLAINTEXT: usize = 16_384;

/// Why a TLS connection ended before its time. The alert, where there is one, was put into the caller's output.
#[derive(Debug)]
pub struct Failure {
    /// In words, for the log.
    pub reason: String,
    /// The alert that was sent, by its name in RFC 8446.
    pub alert: Option<&'static str>,
    /// Whose certificate was refused, if it was about one.
    pub refusal: Option<Refusal>,
    /// The server name that was asked for, if the ClientHello was read.
    pub sni: Option<String>,
}

impl Failure {
    fn words(reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { reason: reason.into(), alert: None, refusal: None, sni: None })
    }

    fn refused(refusal: Refusal) -> Box<Self> {
        Box::new(Self { reason: refusal.words.clone(), alert: None, refusal: Some(refusal), sni: None })
    }
}

/// What the ClientHello asks for, and what was chosen for it.
pub struct Offer {
    sni: Option<String>,
    schemes: Vec<SignatureScheme>,
    alpn_overlaps: bool,
    /// `None`: no certificate for that name, under `strict-sni`.
    credential: Option<Arc<Credential>>,
}

/// Waits for the ClientHello.
#[derive(Default)]
pub struct Greeting {
    acceptor: Acceptor,
}

impl Greeting {
    /// Takes further bytes from the client; answers once the ClientHello is whole.
    ///
    /// On failure the alert to send is appended to `output`.
    pub fn read(
        &mut self,
        policy: &TlsPolicy,
        mut bytes: &[u8],
        output: &mut Outgoing,
    ) -> Result<Option<Offer>, Box<Failure>> {
        while !bytes.is_empty() {
            if self.acceptor.read_tls(&mut bytes).is_err() {
                return Err(Failure::words("ClientHello too large"));
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    return Ok(Some(Offer {
                        sni: hello.server_name().map(str::to_ascii_lowercase),
                        schemes: hello.signature_schemes().to_vec(),
                        alpn_overlaps: policy.alpn_overlaps(&hello),
                        credential: policy.choose(&hello).cloned(),
                    }));
                }
                Err((error, mut alert)) => {
                    let mut record = Vec::new();
                    // Writing into a Vec cannot fail.
                    let _ = alert.write_all(&mut record);
                    output.extend(&record);
                    let mut failure = describe(&error);
                    failure.alert = alert_name(&record);
                    return Err(failure);
                }
            }
        }
        Ok(None)
    }
}

/// What a call to [`Engine::receive`] has achieved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are done with; the rest must be at the front of the next input.
    pub consumed: usize,
    /// The client's close_notify has been reached: no further plaintext will come.
    pub peer_closed: bool,
}

/// A TLS connection.
pub struct Engine {
    connection: UnbufferedServerConnection,
    handshake: Option<Box<HandshakeState>>,
}

/// What only the handshake needs; freed with it.
struct HandshakeState {
    policy: Arc<TlsPolicy>,
    credential: Arc<Credential>,
    offer: Offer,
    first_authentication: Option<Instant>,
    /// Set as soon as a resumed session's stored chain has been judged.
    resumed: Option<Verdict>,
}

/// Everything a finished handshake proved and negotiated.
pub struct Established {
    /// May be spent on dialling a server.
    pub verdict: Verdict,
    /// For logs and headers.
    pub session: TlsSession,
}

impl Engine {
    /// Chooses the configuration for a ClientHello and processes it.
    ///
    /// `input` is everything received so far, from the first byte of the ClientHello; what the client must receive is appended
    /// to `output`, an alert included. A ticket that today's policy does not honour leads to a full handshake.
    pub fn accept(
        policy: &Arc<TlsPolicy>,
        offer: Offer,
        input: &mut [u8],
        now: Now,
        output: &mut Outgoing,
    ) -> Result<(Self, Progress), Box<Failure>> {
        let Some(credential) = offer.credential.clone() else {
            output.extend(&UNRECOGNIZED_NAME);
            return Err(Box::new(Failure {
                reason: match &offer.sni {
                    Some(name) => format!("no certificate for the server name {name}"),
                    None => "the client sent no server name".to_owned(),
                },
                alert: Some("unrecognized_name"),
                refusal: None,
                sni: offer.sni,
            }));
        };
        let alpn_overlaps = offer.alpn_overlaps;
        let fresh = |honour_tickets: bool| {
            UnbufferedServerConnection::new(Arc::clone(policy.config(alpn_overlaps, honour_tickets)))
                .map_err(|error| describe(&error))
        };
        let mut engine = Self {
            connection: fresh(true)?,
            handshake: Some(Box::new(HandshakeState {
                policy: Arc::clone(policy),
                credential,
                offer,
                first_authentication: None,
                resumed: None,
            })),
        };
        // rustls joins fragments in place, so the retry after a ticket that is refused needs the bytes as they came.
        let mut first_try = input.to_vec();
        let mut no_plaintext = |_: &[u8]| {};
        let start = output.len();
        match engine.step(&mut first_try, now, output, &mut no_plaintext) {
            Ok(progress) => Ok((engine, progress)),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::TicketRefused(_)) => {
                output.truncate(start);
                engine.connection = fresh(false)?;
                let progress = engine.receive(input, now, output, &mut no_plaintext)?;
                Ok((engine, progress))
            }
        }
    }

    /// Processes received records.
    ///
    /// Plaintext goes to `plaintext`, a piece a record; what must be sent to the client (handshake, tickets, alerts) is appended
    /// to `output`. After an error the alert is in `output` and the connection must not be used any more.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        now: Now,
        output: &mut Outgoing,
        plaintext: &mut impl FnMut(&[u8]),
    ) -> Result<Progress, Box<Failure>> {
        self.step(input, now, output, plaintext).map_err(|stop| match stop {
            Stop::Failed(failure) => failure,
            // A second ClientHello (after HelloRetryRequest) cannot be answered anew.
            Stop::TicketRefused(refusal) => Failure::refused(refusal),
        })
    }

    fn step(
        &mut self,
        input: &mut [u8],
        now: Now,
        output: &mut Outgoing,
        plaintext: &mut impl FnMut(&[u8]),
    ) -> Result<Progress, Stop> {
        let mut progress = Progress::default();
        loop {
            let scope =
                self.handshake.as_ref().map(|handshake| Scope::enter(now.instant, handshake.first_authentication));
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut input[progress.consumed..]);
            if let (Some(scope), Some(handshake)) = (scope, &mut self.handshake) {
                handshake.first_authentication = scope.leave();
            }
            let mut blocked = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(record) = records.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                plaintext(record.payload);
                            }
                            Err(error) => return Err(Stop::Failed(describe(&error))),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    output.append(|space| encode(&mut record, space));
                    self.judge_resumption(now.unix)?;
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => progress.peer_closed = true,
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                    blocked = true;
                }
                Ok(_) => return Err(Stop::Failed(Failure::words("unexpected early data"))),
                Err(error) => {
                    let start = output.len();
                    self.append_alert(&mut input[progress.consumed + discard..], output);
                    let mut failure = describe(&error);
                    failure.alert = alert_name(&output.bytes()[start..]).or_else(|| encrypted_alert(&error));
                    if matches!(error, Error::InvalidCertificate(_)) {
                        failure.refusal = client_auth::take_refusal();
                    }
                    failure.sni = self.handshake.as_ref().and_then(|handshake| handshake.offer.sni.clone());
                    return Err(Stop::Failed(failure));
                }
            }
            progress.consumed += discard;
            if blocked {
                return Ok(progress);
            }
        }
    }

    /// A resumed session carries the chain of an earlier handshake, and rustls takes it as it is. It is judged here, before the
    /// first byte is answered.
    fn judge_resumption(&mut self, now: UnixTime) -> Result<(), Stop> {
        let Some(handshake) = &mut self.handshake else { return Ok(()) };
        if self.connection.handshake_kind() != Some(HandshakeKind::Resumed) {
            // What a ticket that was not taken in the end had to say is void.
            handshake.first_authentication = None;
            return Ok(());
        }
        if handshake.resumed.is_some() {
            return Ok(());
        }
        let chain = self.connection.peer_certificates();
        match client_auth::judge(handshake.policy.client(), chain, Handshake::Resumed, now) {
            Ok(verdict) => {
                handshake.resumed = Some(verdict);
                Ok(())
            }
            Err(refusal) => Err(Stop::TicketRefused(refusal)),
        }
    }

    /// After an error rustls has at most an alert left to say. `rest` is the input that it has not let go of: it is looked at
    /// again once nothing is left to say, and would fail again.
    fn append_alert(&mut self, rest: &mut [u8], output: &mut Outgoing) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(rest).state {
                Ok(ConnectionState::EncodeTlsData(mut record)) => output.append(|space| encode(&mut record, space)),
                _ => return,
            }
        }
    }

    /// Whether the handshake is still going on.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes the result of a finished handshake, once.
    ///
    /// # Errors
    /// The client did not prove who it is; nothing may be dialled.
    pub fn establish(&mut self, now: UnixTime) -> Result<Established, Box<Failure>> {
        let Some(mut handshake) = self.handshake.take() else {
            return Err(Failure::words("the handshake's result was already taken"));
        };
        let resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let verdict = match (resumed, handshake.resumed.take()) {
            (true, Some(verdict)) => verdict,
            (true, None) => return Err(Failure::words("resumed session was not judged")),
            (false, _) => {
                let policy = handshake.policy.client();
                let full = Handshake::Full { verified_by: policy.digest() };
                client_auth::judge(policy, self.connection.peer_certificates(), full, now).map_err(Failure::refused)?
            }
        };
        let version = self.connection.protocol_version();
        let session = TlsSession {
            version: match version {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: self.connection.negotiated_cipher_suite().map_or("", |suite| openssl_suite(suite.suite())),
            group: self.connection.negotiated_key_exchange_group().map(|group| group_name(group.name())),
            sig_scheme: if resumed { None } else { handshake.signed_with(version) },
            sni: handshake.offer.sni,
            alpn: self.connection.alpn_protocol().map(<[u8]>::to_vec),
            resumed,
            server_sig_alg: handshake.credential.facts().server_sig_alg,
            server_key_alg: handshake.credential.facts().server_key_alg.clone(),
        };
        Ok(Established { verdict, session })
    }

    /// Encrypts `plaintext` and appends the records to `output`. `rest` is what [`Engine::receive`] has left of its input: rustls
    /// may still refer to it.
    ///
    /// # Errors
    /// TLS 1.2 keys are used up (2^24 records): the stream cannot go on, and must not look as if it had ended well.
    pub fn encrypt(&mut self, rest: &mut [u8], plaintext: &[u8], output: &mut Outgoing) -> Result<(), Exhausted> {
        self.write(rest, output, |traffic, space| traffic.encrypt(plaintext, space))
    }

    /// Appends close_notify to `output` (`rest` as for [`Engine::encrypt`]): the statement that all has been sent.
    pub fn close_notify(&mut self, rest: &mut [u8], output: &mut Outgoing) -> Result<(), Exhausted> {
        self.write(rest, output, |traffic, space| traffic.queue_close_notify(space))
    }

    fn write(
        &mut self,
        rest: &mut [u8],
        output: &mut Outgoing,
        mut write: impl FnMut(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), Exhausted> {
        let mut exhausted = false;
        loop {
            match self.connection.process_tls_records(rest).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    output.append(|space| match write(&mut traffic, space) {
                        Ok(written) => Ok(written),
                        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                            Err(required_size)
                        }
                        Err(EncryptError::EncryptExhausted) => {
                            exhausted = true;
                            Ok(0)
                        }
                    });
                    return if exhausted { Err(Exhausted) } else { Ok(()) };
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => output.append(|space| encode(&mut record, space)),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => {}
                _ => return Err(Exhausted),
            }
        }
    }
}

/// The connection cannot encrypt any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

impl HandshakeState {
    /// rustls does not say which scheme it signed with; the choice is a function of the offer, made again here.
    fn signed_with(&self, version: Option<ProtocolVersion>) -> Option<&'static str> {
        let tls13 = version == Some(ProtocolVersion::TLSv1_3);
        let offered: Vec<SignatureScheme> = self
            .offer
            .schemes
            .iter()
            .copied()
            .filter(|scheme| !tls13 || !matches!(scheme.as_str(), Some(name) if name.starts_with("RSA_PKCS1")))
            .collect();
        self.credential.certified().key.choose_scheme(&offered).map(|signer| scheme_name(signer.scheme()))
    }
}

enum Stop {
    Failed(Box<Failure>),
    /// Nothing has been sent yet.
    TicketRefused(Refusal),
}

fn encode<Data>(record: &mut EncodeTlsData<'_, Data>, space: &mut [u8]) -> Result<usize, usize> {
    match record.encode(space) {
        Ok(written) => Ok(written),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
        // Only after a success, and there has been none.
        Err(EncodeError::AlreadyEncoded) => Ok(0),
    }
}

/// Bytes on their way to the client: a buffer of the loop's that is written over and over, never zeroed again.
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

    fn truncate(&mut self, length: usize) {
        self.filled = self.filled.min(length);
    }

    /// Appends `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.append(|space| match space.get_mut(..bytes.len()) {
            Some(space) => {
                space.copy_from_slice(bytes);
                Ok(bytes.len())
            }
            None => Err(bytes.len()),
        });
    }

    /// Lets `encode` write behind the end; `Err(n)` says that it needs `n` bytes of space.
    fn append(&mut self, mut encode: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
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

/// Alert 112 (RFC 6066, 3) in a record of its own: rustls would say access_denied.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// The name of an alert that stands in the clear.
fn alert_name(record: &[u8]) -> Option<&'static str> {
    match record {
        [0x15, 0x03, _, 0x00, 0x02, _, code] => Some(alert_text(AlertDescription::from(*code))),
        _ => None,
    }
}

/// The alert that rustls encrypts for an error of client authentication.
fn encrypted_alert(error: &Error) -> Option<&'static str> {
    match error {
        Error::InvalidCertificate(certificate) => Some(alert_text(AlertDescription::from(certificate.clone()))),
        Error::NoCertificatesPresented => Some("certificate_required"),
        _ => None,
    }
}

fn alert_text(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CloseNotify => "close_notify",
        AlertDescription::UnexpectedMessage => "unexpected_message",
        AlertDescription::BadRecordMac => "bad_record_mac",
        AlertDescription::RecordOverflow => "record_overflow",
        AlertDescription::HandshakeFailure => "handshake_failure",
        AlertDescription::NoCertificate => "no_certificate",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::IllegalParameter => "illegal_parameter",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError => "decrypt_error",
        AlertDescription::ProtocolVersion => "protocol_version",
        AlertDescription::InsufficientSecurity => "insufficient_security",
        AlertDescription::InternalError => "internal_error",
        AlertDescription::InappropriateFallback => "inappropriate_fallback",
        AlertDescription::UserCanceled => "user_canceled",
        AlertDescription::NoRenegotiation => "no_renegotiation",
        AlertDescription::MissingExtension => "missing_extension",
        AlertDescription::UnsupportedExtension => "unsupported_extension",
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::BadCertificateStatusResponse => "bad_certificate_status_response",
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        AlertDescription::UnknownPSKIdentity => "unknown_psk_identity",
        _ => "unknown alert",
    }
}

/// An error of rustls in an operator's words.
fn describe(error: &Error) -> Box<Failure> {
    Failure::words(match error {
        Error::NoCertificatesPresented => "the client sent no certificate".to_owned(),
        Error::AlertReceived(alert) => format!("the client refused: alert {}", alert_text(*alert)),
        Error::InvalidMessage(_) => "what came is not TLS".to_owned(),
        Error::DecryptError => "a record could not be decrypted".to_owned(),
        Error::PeerSentOversizedRecord => "a record was longer than TLS allows".to_owned(),
        Error::InvalidCertificate(reason) => format!("client certificate: {reason:?}"),
        other => other.to_string(),
    })
}

fn openssl_suite(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown",
    }
}

/// TLS names of groups, as proxy-protocol.txt 2.2 wants them for PP2_SUBTYPE_SSL_GROUP.
fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        NamedGroup::secp521r1 => "secp521r1",
        NamedGroup::X25519 => "x25519",
        NamedGroup::X448 => "x448",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::secp256r1MLKEM768 => "SecP256r1MLKEM768",
        NamedGroup::MLKEM768 => "MLKEM768",
        NamedGroup::MLKEM1024 => "MLKEM1024",
        _ => "unknown",
    }
}

fn scheme_name(scheme: SignatureScheme) -> &'static str {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        SignatureScheme::ED25519 => "ed25519",
        _ => "unknown",
    }
}
