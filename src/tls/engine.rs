//! One TLS connection, server side: the only file that names the rustls connection.
//!
//! The handshake is rustls', through its unbuffered API, so that a connection owns no buffer of its own. The ClientHello is
//! looked at first through rustls' own [`Acceptor`]; the same bytes are then given to the connection, so that two parsers can
//! never disagree about them. Once the handshake's result is taken, records are [`traffic`]'s.

mod outgoing;
mod traffic;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus};
use rustls::{AlertDescription, CipherSuite, Error, HandshakeKind, PeerIncompatible, ProtocolVersion, SignatureScheme};

pub use self::outgoing::Outgoing;
use self::traffic::Traffic;
use super::client_auth::{self, Handshake, Refusal};
use super::credential::Credential;
use super::identity::{TlsSession, Verdict};
use super::names::Wish;
use super::policy::{self, TlsPolicy};
use super::terms;
use super::tickets::Scope;
use crate::stats::labels::{ClientVerify, HandshakeFailure, TicketRefusal};

/// The time, as far as it matters here: one reading serves a turn of the loop.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines and the age of sessions.
    pub instant: Instant,
    /// For certificates.
    pub unix: UnixTime,
}

impl Now {
    /// What two clocks said; this module reads none. A system time before 1970 counts as 1970: no certificate is valid then.
    pub fn new(instant: Instant, system: SystemTime) -> Self {
        Self { instant, unix: UnixTime::since_unix_epoch(system.duration_since(UNIX_EPOCH).unwrap_or_default()) }
    }
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
    /// For counting.
    pub kind: HandshakeFailure,
    /// The alert that was sent, by its name in RFC 8446.
    pub alert: Option<&'static str>,
    /// Whose certificate was refused, if it was about one.
    pub refusal: Option<Refusal>,
    /// The server name that was asked for, if the ClientHello was read.
    pub sni: Option<String>,
}

impl Failure {
    fn words(kind: HandshakeFailure, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { reason: reason.into(), kind, alert: None, refusal: None, sni: None })
    }

    fn of(error: &Error) -> Box<Self> {
        Self::words(terms::error_kind(error), terms::error_words(error))
    }

    fn refused(refusal: Refusal) -> Box<Self> {
        let kind = match refusal.reason {
            client_auth::Reason::NoCertificate => HandshakeFailure::ClientCertificateMissing,
            _ => HandshakeFailure::ClientCertificateRefused,
        };
        Box::new(Self { reason: refusal.words.clone(), kind, alert: None, refusal: Some(refusal), sni: None })
    }

    /// What came of looking for the client's certificate, if that is what failed.
    pub fn client_verify(&self) -> Option<ClientVerify> {
        match (&self.refusal, self.kind) {
            (Some(refusal), _) => Some(refusal.reason.label()),
            (None, HandshakeFailure::ClientCertificateMissing) => Some(ClientVerify::Missing),
            (None, HandshakeFailure::ClientCertificateRefused) => Some(ClientVerify::Other),
            (None, _) => None,
        }
    }
}

/// What the ClientHello asks for, and what was chosen for it.
pub struct Offer {
    sni: Option<String>,
    schemes: Vec<SignatureScheme>,
    cipher_suites: Vec<CipherSuite>,
    alpn_overlaps: bool,
    /// The certificate, and the number of the settings that go with it. `None`: no certificate for that name, under
    /// `strict-sni`.
    chosen: Option<(Arc<Credential>, usize)>,
}

impl Offer {
    fn wish(&self) -> Wish<'_> {
        Wish { sni: self.sni.as_deref(), signature_schemes: &self.schemes, cipher_suites: &self.cipher_suites }
    }
}

/// Waits for the ClientHello.
#[derive(Default)]
pub struct Greeting {
    acceptor: Acceptor,
    /// How much of what was received it has seen.
    seen: usize,
}

impl Greeting {
    /// Looks at `received`, everything that the client has sent so far; answers once the ClientHello is whole.
    ///
    /// # Errors
    /// There will be none. The alert to send is appended to `output`.
    pub fn read(
        &mut self,
        policy: &TlsPolicy,
        received: &[u8],
        output: &mut Outgoing,
    ) -> Result<Option<Offer>, Box<Failure>> {
        while self.seen < received.len() {
            match self.acceptor.read_tls(&mut &received[self.seen..]) {
                Ok(count) => self.seen += count,
                Err(_) => {
                    output.extend(&fatal(AlertDescription::RecordOverflow));
                    let mut failure =
                        Failure::words(HandshakeFailure::TooLarge, "the ClientHello takes more than 64 KiB");
                    failure.alert = Some(terms::alert_name(AlertDescription::RecordOverflow));
                    return Err(failure);
                }
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let chosen = policy.choose(policy::wish(&hello));
                    return Ok(Some(Offer {
                        sni: hello.server_name().map(str::to_ascii_lowercase),
                        schemes: hello.signature_schemes().to_vec(),
                        cipher_suites: hello.cipher_suites().to_vec(),
                        alpn_overlaps: chosen.is_some_and(|chosen| policy.entry(chosen.entry).alpn_overlaps(&hello)),
                        chosen: chosen.map(|chosen| (chosen.credential.clone(), chosen.entry)),
                    }));
                }
                Err((mut error, mut alert)) => {
                    let mut record = Vec::new();
                    // Writing into a Vec cannot fail.
                    let _ = alert.write_all(&mut record);
                    // Before TLS 1.2 there was no such extension, and what is missing is the version.
                    if error == Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired)
                        && predates_tls12(received)
                    {
                        error = PeerIncompatible::Tls12NotOffered.into();
                        record = fatal(AlertDescription::ProtocolVersion).to_vec();
                    }
                    if matches!(error, Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. })
                    {
                        record = fatal(AlertDescription::UnexpectedMessage).to_vec();
                    }
                    output.extend(&record);
                    let mut failure = Failure::of(&error);
                    failure.alert = plain_alert(&record);
                    return Err(failure);
                }
            }
        }
        Ok(None)
    }
}

/// What a call to [`Engine::receive`] has achieved, also before an error.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are done with; the rest must be at the front of the next input.
    pub consumed: usize,
    /// Bytes of plaintext, at the front of the caller's buffer.
    pub plaintext: usize,
    /// Records that were opened, of whatever kind.
    pub records: usize,
    /// Bytes of the input that were records without any plaintext for the backend.
    pub idle: usize,
    /// The client's close_notify has been reached: no further plaintext will come.
    pub peer_closed: bool,
}

/// A TLS connection.
pub struct Engine(Stage);

enum Stage {
    Handshake(Box<Negotiation>),
    Traffic(Box<Traffic>),
    /// The client did not prove who it is.
    Refused,
}

/// What only the handshake needs; freed with it.
struct Negotiation {
    connection: UnbufferedServerConnection,
    policy: Arc<TlsPolicy>,
    credential: Arc<Credential>,
    /// The settings of `policy` that it runs under.
    entry: usize,
    offer: Offer,
    first_authentication: Option<Instant>,
    /// Why a ticket of the client's was not taken, so far.
    ticket_refused: Option<TicketRefusal>,
    /// Set as soon as a resumed session's stored chain has been judged.
    resumed: Option<Verdict>,
    /// How much of what is not consumed yet rustls has seen, and may have changed.
    seen: usize,
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
        let Some((credential, entry)) = offer.chosen.clone() else {
            output.extend(&fatal(AlertDescription::UnrecognisedName));
            return Err(Box::new(Failure {
                reason: match &offer.sni {
                    Some(name) => format!("no certificate for the server name {name}"),
                    None => "the client sent no server name".to_owned(),
                },
                kind: HandshakeFailure::ServerName,
                alert: Some("unrecognized_name"),
                refusal: None,
                sni: offer.sni,
            }));
        };
        let alpn_overlaps = offer.alpn_overlaps;
        let fresh = |honour_tickets: bool| {
            UnbufferedServerConnection::new(Arc::clone(policy.entry(entry).config(alpn_overlaps, honour_tickets)))
                .map_err(|error| Failure::of(&error))
        };
        let mut negotiation = Box::new(Negotiation {
            connection: fresh(true)?,
            policy: Arc::clone(policy),
            credential,
            entry,
            offer,
            first_authentication: None,
            ticket_refused: None,
            resumed: None,
            seen: 0,
        });
        // For a second try: rustls decrypts and joins in place.
        let original = input.to_vec();
        let start = output.len();
        let mut progress = Progress::default();
        match negotiation.step(input, now, output, &mut progress) {
            // The next ClientHello may bring a ticket, and could not be answered anew if that were refused.
            Ok(()) if negotiation.connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest) => {}
            Err(Stop::TicketRefused(_)) => negotiation.ticket_refused = Some(TicketRefusal::ClientCertificate),
            Ok(()) => return Ok((Self(Stage::Handshake(negotiation)), progress)),
            Err(Stop::Failed(failure)) => return Err(failure),
        }
        output.truncate(start);
        input.copy_from_slice(&original);
        negotiation.connection = fresh(false)?;
        negotiation.seen = 0;
        let mut progress = Progress::default();
        negotiation.step(input, now, output, &mut progress).map_err(Stop::into_failure)?;
        Ok((Self(Stage::Handshake(negotiation)), progress))
    }

    /// Processes received records.
    ///
    /// Plaintext goes to the front of `plain`, which is as long as `input`; what must be sent to the client (handshake, tickets,
    /// alerts) is appended to `output`, and `progress`, which starts at its default, says how far it has come. That is the end of
    /// the handshake at most: what is behind it is for another call, after [`Self::establish`].
    ///
    /// # Errors
    /// The connection must not be used any more. The alert is in `output`; what came before the error is in `progress`.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        now: Now,
        plain: &mut [u8],
        output: &mut Outgoing,
        progress: &mut Progress,
    ) -> Result<(), Box<Failure>> {
        match &mut self.0 {
            Stage::Handshake(negotiation) => negotiation.step(input, now, output, progress).map_err(Stop::into_failure),
            Stage::Traffic(traffic) => traffic.receive(input, plain, output, progress).map_err(|fault| {
                let mut failure = Failure::of(&fault.error);
                if let Some(alert) = fault.alert {
                    traffic.fail(alert, output);
                    failure.alert = Some(terms::alert_name(alert));
                }
                failure
            }),
            Stage::Refused => Err(Failure::words(HandshakeFailure::Internal, "the client was refused")),
        }
    }

    /// Why the client's ticket does not resume its session; to be asked during the handshake.
    pub fn ticket_refused(&self) -> Option<TicketRefusal> {
        let Stage::Handshake(negotiation) = &self.0 else { return None };
        let resumed = negotiation.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        negotiation.ticket_refused.filter(|_| !resumed)
    }

    /// Whether the handshake is still going on.
    pub fn is_handshaking(&self) -> bool {
        matches!(&self.0, Stage::Handshake(negotiation) if negotiation.connection.is_handshaking())
    }

    /// Takes the result of a finished handshake, once, as `policy` judges it: the one in force now, which a reload may have
    /// put in the place of the one that the handshake began with.
    ///
    /// # Errors
    /// The client did not prove who it is; nothing may be dialled.
    pub fn establish(&mut self, policy: &TlsPolicy, now: UnixTime) -> Result<Established, Box<Failure>> {
        match std::mem::replace(&mut self.0, Stage::Refused) {
            Stage::Handshake(negotiation) => {
                let (established, connection) = negotiation.judge(policy, now)?;
                let traffic = connection
                    .dangerous_into_kernel_connection()
                    .and_then(|(secrets, kernel)| Traffic::new(secrets, kernel, policy.records()))
                    .map_err(|error| Failure::of(&error))?;
                self.0 = Stage::Traffic(Box::new(traffic));
                Ok(established)
            }
            other => {
                self.0 = other;
                Err(Failure::words(HandshakeFailure::Internal, "the handshake's result was already taken"))
            }
        }
    }

    /// Encrypts `plaintext` and appends the records to `output`.
    ///
    /// # Errors
    /// TLS 1.2 keys are used up (2^24 records): the stream cannot go on, and must not look as if it had ended well.
    pub fn encrypt(&mut self, plaintext: &[u8], output: &mut Outgoing) -> Result<(), Exhausted> {
        self.traffic()?.encrypt(plaintext, output)
    }

    /// Appends close_notify to `output`: the statement that all has been sent.
    ///
    /// # Errors
    /// As for [`Self::encrypt`].
    pub fn close_notify(&mut self, output: &mut Outgoing) -> Result<(), Exhausted> {
        self.traffic()?.close_notify(output)
    }

    /// There are no keys for data before the verdict.
    fn traffic(&mut self) -> Result<&mut Traffic, Exhausted> {
        match &mut self.0 {
            Stage::Traffic(traffic) => Ok(traffic),
            Stage::Handshake(_) | Stage::Refused => Err(Exhausted),
        }
    }
}

impl Negotiation {
    /// Gives rustls one record after the other, and none behind the last one of the handshake: what it had received and answered
    /// beyond that, new keys for instance, would be lost when its keys are taken over.
    fn step(&mut self, input: &mut [u8], now: Now, output: &mut Outgoing, progress: &mut Progress) -> Result<(), Stop> {
        let mut end = self.seen;
        loop {
            let scope = Scope::enter(now.instant, now.unix, self.first_authentication);
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut input[progress.consumed..end]);
            self.ticket_refused = scope.refused().or(self.ticket_refused);
            self.first_authentication = scope.leave();
            let mut blocked = false;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    output.append(|space| encode(&mut record, space));
                    self.judge_resumption(now.unix)?;
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => blocked = true,
                Ok(_) => {
                    let words = "data or an end before the end of the handshake";
                    return Err(Stop::Failed(Failure::words(HandshakeFailure::Protocol, words)));
                }
                Err(error) => {
                    let start = output.len();
                    self.append_alert(output);
                    let mut failure = Failure::of(&error);
                    failure.alert = match &output.bytes()[start..] {
                        [] => None,
                        record => plain_alert(record).or_else(|| terms::alert_for(&error).map(terms::alert_name)),
                    };
                    if matches!(error, Error::InvalidCertificate(_)) {
                        failure.refusal = client_auth::take_refusal();
                    }
                    failure.sni = self.offer.sni.clone();
                    return Err(Stop::Failed(failure));
                }
            }
            progress.consumed += discard;
            if blocked {
                match traffic::end_of_record(input, end).filter(|_| self.connection.is_handshaking()) {
                    Some(next) => end = next,
                    None => {
                        self.seen = end - progress.consumed;
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A resumed session carries the chain of an earlier handshake, and rustls takes it as it is. It is judged here, before the
    /// first byte is answered.
    fn judge_resumption(&mut self, now: UnixTime) -> Result<(), Stop> {
        if self.connection.handshake_kind() != Some(HandshakeKind::Resumed) {
            // What a ticket that was not taken in the end had to say is void.
            self.first_authentication = None;
            return Ok(());
        }
        if self.resumed.is_some() {
            return Ok(());
        }
        let chain = self.connection.peer_certificates();
        match client_auth::judge(self.policy.entry(self.entry).client(), chain, Handshake::Resumed, now) {
            Ok(verdict) => {
                self.resumed = Some(verdict);
                Ok(())
            }
            Err(refusal) => Err(Stop::TicketRefused(refusal)),
        }
    }

    /// After an error rustls has at most an alert left to say. It says that before it looks at any input; without something
    /// to say it would look for the next record, and fail over it once more.
    fn append_alert(&mut self, output: &mut Outgoing) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut record)) => output.append(|space| encode(&mut record, space)),
                _ => return,
            }
        }
    }

    /// What the handshake has proved, by `policy`; and the connection, which has nothing left to say.
    fn judge(
        self: Box<Self>,
        policy: &TlsPolicy,
        now: UnixTime,
    ) -> Result<(Established, UnbufferedServerConnection), Box<Failure>> {
        let Self { connection, policy: began_under, credential, entry, offer, resumed: judged, .. } = *self;
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let began_with = began_under.entry(entry).client().digest();
        // After a reload the same wish may lead to other settings, or to no certificate at all.
        let Some(chosen) = policy.choose(offer.wish()) else {
            let words = "there is no certificate for the server name any more";
            let mut failure = Failure::words(HandshakeFailure::ServerName, words);
            failure.sni = offer.sni;
            return Err(failure);
        };
        let client = policy.entry(chosen.entry).client();
        let chain = connection.peer_certificates();
        let verdict = match judged {
            Some(verdict) if resumed && began_with == client.digest() => Ok(verdict),
            _ if resumed => client_auth::judge(client, chain, Handshake::Resumed, now),
            _ => client_auth::judge(client, chain, Handshake::Full { verified_by: began_with }, now),
        };
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(refusal) => {
                let mut failure = Failure::refused(refusal);
                failure.sni = offer.sni;
                return Err(failure);
            }
        };
        let version = connection.protocol_version();
        let session = TlsSession {
            version: match version {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: connection.negotiated_cipher_suite().map_or("", |suite| terms::suite_name(suite.suite())),
            group: connection.negotiated_key_exchange_group().map(|group| terms::group_name(group.name())),
            sig_scheme: if resumed { None } else { signed_with(&credential, &offer.schemes, version) },
            sni: offer.sni,
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            resumed,
            server: Arc::clone(&credential.facts().server),
        };
        Ok((Established { verdict, session }, connection))
    }
}

/// The connection cannot encrypt any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

/// rustls does not say which scheme it signed with; the choice is a function of the offer, made again here.
fn signed_with(
    credential: &Credential,
    offered: &[SignatureScheme],
    version: Option<ProtocolVersion>,
) -> Option<&'static str> {
    let is_pkcs1 = |scheme: &SignatureScheme| scheme.as_str().is_some_and(|name| name.starts_with("RSA_PKCS1"));
    let tls13 = version == Some(ProtocolVersion::TLSv1_3);
    let usable: Vec<SignatureScheme> = offered.iter().copied().filter(|scheme| !(tls13 && is_pkcs1(scheme))).collect();
    credential.key().choose_scheme(&usable).map(|signer| terms::scheme_name(signer.scheme()))
}

enum Stop {
    Failed(Box<Failure>),
    /// Nothing has been sent yet.
    TicketRefused(Refusal),
}

impl Stop {
    fn into_failure(self) -> Box<Failure> {
        match self {
            Self::Failed(failure) => failure,
            // `accept` has seen to it that no ticket is opened any more.
            Self::TicketRefused(refusal) => Failure::refused(refusal),
        }
    }
}

fn encode<Data>(record: &mut EncodeTlsData<'_, Data>, space: &mut [u8]) -> Result<usize, usize> {
    match record.encode(space) {
        Ok(written) => Ok(written),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
        // Only after a success, and there has been none.
        Err(EncodeError::AlreadyEncoded) => Ok(0),
    }
}

/// A fatal alert of our own in a record (RFC 8446, 6), for where rustls would say another or none.
fn fatal(alert: AlertDescription) -> [u8; 7] {
    [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, u8::from(alert)]
}

/// The name of an alert that stands in the clear.
fn plain_alert(record: &[u8]) -> Option<&'static str> {
    match record {
        [0x15, 0x03, _, 0x00, 0x02, _, code] => Some(terms::alert_name(AlertDescription::from(*code))),
        _ => None,
    }
}

/// Whether a whole ClientHello is older than TLS 1.2, by its first field (RFC 8446, 4.1.2), if the first record holds that.
/// Of no consequence but the alert: rustls has refused it.
fn predates_tls12(hello: &[u8]) -> bool {
    match hello {
        [0x16, _, _, high, low, _, _, _, _, major, minor, ..] => {
            u16::from_be_bytes([*high, *low]) >= 6 && (*major, *minor) < (3, 3)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
