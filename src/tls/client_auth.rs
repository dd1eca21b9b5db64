//! Client certificates: who may come in, and who was refused and why.
//!
//! The policy belongs to the listener, never to the SNI. [`ClientVerifier`] is what rustls asks on a full handshake;
//! [`judge`] is the one function that turns a finished handshake into a [`Verdict`], and the only one that can.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::der;
use super::exceptions::{Exceptions, Outcome, Tolerance};
use super::identity::{Client, Verdict};
use super::signatures::Signatures;
use super::trust::Trust;
use super::x509::{self, Certificate};
use crate::stats::labels::ClientVerify;

/// Most certificates that a client may send beside its own. More cost webpki seconds of path building.
const INTERMEDIATES_MAX: usize = 5;
/// Longest chain in bytes.
pub(super) const CHAIN_MAX: usize = 32 * 1024;
/// Longest certificate of a client in bytes.
const LEAF_MAX: usize = 16 * 1024;

/// Identifies a policy: the same digest means the same listener, `verify` mode, CAs and CRLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PolicyDigest(pub(super) [u8; 32]);

/// Whether a listener asks for client certificates, and whom it believes.
#[derive(Clone, Debug)]
pub(super) struct ClientPolicy {
    digest: PolicyDigest,
    /// `None`: `verify none`.
    asks: Option<Asks>,
}

#[derive(Clone, Debug)]
struct Asks {
    required: bool,
    verifier: Arc<ClientVerifier>,
}

impl ClientPolicy {
    /// `verify none`.
    pub(super) fn none(digest: PolicyDigest) -> Self {
        Self { digest, asks: None }
    }

    /// `verify optional` or `verify required`.
    pub(super) fn asking(digest: PolicyDigest, required: bool, verifier: Arc<ClientVerifier>) -> Self {
        Self { digest, asks: Some(Asks { required, verifier }) }
    }

    /// Its identity, to be kept by a connection whose handshake ran under it.
    pub(super) fn digest(&self) -> PolicyDigest {
        self.digest
    }

    /// Whether a certificate is required; `None`: none is asked for.
    pub(super) fn required(&self) -> Option<bool> {
        self.asks.as_ref().map(|asks| asks.required)
    }

    pub(super) fn verifier(&self) -> Option<&Arc<ClientVerifier>> {
        self.asks.as_ref().map(|asks| &asks.verifier)
    }
}

/// Which handshake brought the client's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// A full handshake that has just ended, and rustls asked the verifier of the policy with this digest.
    Full {
        /// [`ClientPolicy::digest`] of the policy whose configuration the connection was made with.
        verified_by: PolicyDigest,
    },
    /// A resumed one: the certificates come out of a ticket, and nobody has looked at them today.
    Resumed,
}

/// The one judgement on a client. To be called once for every finished handshake, before anything is dialled.
///
/// On a resumed session the stored chain is verified again at `now`; so it is on a full handshake that another policy than
/// this one has verified.
///
/// # Errors
/// The client must not be let in: it sent no certificate where one is required, or one that does not verify.
pub(super) fn judge(
    policy: &ClientPolicy,
    chain: Option<&[CertificateDer<'_>]>,
    handshake: Handshake,
    now: UnixTime,
) -> Result<Verdict, Refusal> {
    let Some(asks) = &policy.asks else {
        return Ok(Verdict::new(Client::NotAsked));
    };
    let Some((leaf, intermediates)) = chain.and_then(<[_]>::split_first) else {
        if asks.required {
            return Err(Refusal::without_certificate());
        }
        return Ok(Verdict::new(Client::Anonymous));
    };
    let resumed = handshake == Handshake::Resumed;
    let mut ignored = None;
    // rustls does not hand on which errors were ignored.
    if handshake != (Handshake::Full { verified_by: policy.digest }) || asks.verifier.exceptions.ignores_errors() {
        ignored = asks.verifier.verify(leaf, intermediates, now).map_err(|refused| refused.refusal)?;
    }
    let leaf = leaf.clone().into_owned();
    Ok(Verdict::new(match ignored {
        None => Client::Verified { leaf, resumed },
        Some(error) => Client::Unverified { leaf, resumed, error },
    }))
}

/// Why a client was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `verify required`, and no certificate was sent.
    NoCertificate,
    /// More certificates or bytes than anybody needs.
    TooLarge,
    /// Not X.509, or a kind of it that is not supported.
    Malformed,
    /// No CA of `ca-file` issued it.
    UnknownCa,
    /// The certificate, or one in its chain, has expired.
    Expired,
    /// The certificate, or one in its chain, is not valid yet.
    NotYetValid,
    /// It is in a CRL.
    Revoked,
    /// `crl-file` has no usable CRL for an issuer in its chain.
    RevocationUnknown,
    /// The CRL has expired since it was loaded.
    CrlExpired,
    /// It is not meant for clients.
    WrongPurpose,
    /// A signature is wrong: of a certificate in the chain, or the client's own.
    BadSignature,
    /// Anything else.
    Other,
}

impl Reason {
    /// As it is counted.
    pub(super) fn label(self) -> ClientVerify {
        match self {
            Self::NoCertificate => ClientVerify::Missing,
            Self::TooLarge => ClientVerify::TooLarge,
            Self::Malformed => ClientVerify::Malformed,
            Self::UnknownCa => ClientVerify::UnknownCa,
            Self::Expired => ClientVerify::Expired,
            Self::NotYetValid => ClientVerify::NotYetValid,
            Self::Revoked => ClientVerify::Revoked,
            Self::RevocationUnknown => ClientVerify::RevocationUnknown,
            Self::CrlExpired => ClientVerify::CrlExpired,
            Self::WrongPurpose => ClientVerify::WrongPurpose,
            Self::BadSignature => ClientVerify::BadSignature,
            Self::Other => ClientVerify::Other,
        }
    }
}

/// A client that was refused, for the log. Names come from the client: they are escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for counting.
    pub reason: Reason,
    /// Why, in words.
    pub words: String,
    /// Subject, `/O=Example/CN=alice`; `None` without a certificate, or with one that cannot be parsed.
    pub subject: Option<String>,
    /// Issuer.
    pub issuer: Option<String>,
    /// Serial number in hexadecimal.
    pub serial: Option<String>,
    /// The certificate (DER), unless it is longer than any that is looked at.
    pub certificate: Option<Box<[u8]>>,
}

impl Refusal {
    fn without_certificate() -> Self {
        let words = "no certificate was sent".to_owned();
        Self { reason: Reason::NoCertificate, words, subject: None, issuer: None, serial: None, certificate: None }
    }

    fn of(leaf: &CertificateDer<'_>, reason: Reason, words: String) -> Self {
        let parsed = Certificate::parse(leaf);
        let parsed = parsed.as_ref();
        Self {
            reason,
            words,
            subject: parsed.map(Certificate::printed_subject),
            issuer: parsed.map(Certificate::printed_issuer),
            serial: parsed.map(Certificate::printed_serial),
            certificate: (leaf.len() <= LEAF_MAX).then(|| leaf.as_ref().into()),
        }
    }
}

thread_local! {
    static LAST: RefCell<Option<Refusal>> = const { RefCell::new(None) };
}

/// The refusal that the verifier has left behind on this thread since it was last asked, if any. To be called right after a
/// call into rustls has failed: the verifier is shared by all connections, and the error that rustls hands on has no names.
///
/// A client without certificate never reaches the verifier; for `Error::NoCertificatesPresented` [`judge`] has the words.
pub(super) fn take_refusal() -> Option<Refusal> {
    LAST.take()
}

/// Verifies client certificates for rustls: caps, then webpki, then the dates of the CAs; at last the exceptions.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    webpki: Arc<dyn ClientCertVerifier>,
    /// What `webpki` has verified before.
    signatures: Arc<Signatures>,
    trust: Trust,
    required: bool,
    exceptions: Exceptions,
}

struct Refused {
    error: CertificateError,
    refusal: Refusal,
}

impl ClientVerifier {
    /// `webpki` was made from `trust`.
    pub(super) fn new(webpki: Arc<dyn ClientCertVerifier>, trust: Trust, required: bool, tolerance: Tolerance) -> Self {
        Self { webpki, signatures: Arc::default(), required, exceptions: Exceptions::new(tolerance, &trust), trust }
    }

    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Answers with OpenSSL's number of an error that was ignored, if there was one.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Option<NonZeroU32>, Box<Refused>> {
        let refused = |error, reason, words| Box::new(Refused { error, refusal: Refusal::of(leaf, reason, words) });
        let total = intermediates.iter().map(|der| der.len()).sum::<usize>() + leaf.len();
        if intermediates.len() > INTERMEDIATES_MAX || total > CHAIN_MAX || leaf.len() > LEAF_MAX {
            let count = intermediates.len() + 1;
            let words = format!("too large: {count} certificates of {total} bytes were sent");
            // What OpenSSL answers to a chain that is too long.
            return Err(refused(CertificateError::UnknownIssuer, Reason::TooLarge, words));
        }
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).collect();
        let expired_issuer = || {
            self.trust.expired_issuer(&chain, now).map(|issuer| {
                let words = format!("the CA \"{issuer}\" has expired");
                refused(CertificateError::Expired, Reason::Expired, words)
            })
        };
        let verified = self.signatures.during(|| self.webpki.verify_client_cert(leaf, intermediates, now));
        let refusal = match verified {
            Ok(_) => match expired_issuer() {
                None => return Ok(None),
                Some(refusal) => refusal,
            },
            Err(error) => {
                let (mut error, mut reason, mut words) = explain(error, leaf, now);
                if reason == Reason::WrongPurpose && self.trust.is_self_signed_stranger(leaf) {
                    // To OpenSSL, too: what it may be used for matters once it is known.
                    (error, reason) = (CertificateError::UnknownIssuer, Reason::UnknownCa);
                    words = "it is self-signed, and not in 'ca-file'".to_owned();
                }
                let by_date = if reason == Reason::UnknownCa { expired_issuer() } else { None };
                by_date.unwrap_or_else(|| refused(error, reason, words))
            }
        };
        match self.exceptions.judge(&self.trust, leaf, intermediates, refusal.refusal.reason, now) {
            Outcome::Verified => Ok(None),
            Outcome::Ignored(number) => Ok(Some(number)),
            Outcome::Faulty(fault) => {
                let (error, reason, words) = fault.refusal();
                Err(refused(error, reason, words))
            }
            Outcome::Refused => Err(refusal),
        }
    }

    /// As rustls verifies the client's signature, for a certificate that webpki does not parse.
    fn verify_signature_of_version_1(
        &self,
        message: &[u8],
        certificate: &Certificate<'_>,
        dss: &DigitallySignedStruct,
        tls13: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = self.trust.algorithms();
        let spki = certificate.key();
        if tls13 {
            let key = SubjectPublicKeyInfoDer::from(spki.raw);
            return verify_tls13_signature_with_raw_key(message, &key, dss, algorithms);
        }
        // TLS 1.2 does not name the curve: it is the one of the key (RFC 8422, 5.4).
        let known = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme).flat_map(|(_, known)| *known);
        let is_signed = der::verify_with(spki.raw, known.copied(), message, dss.signature());
        if is_signed == Some(true) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }

    /// rustls sends the alert that belongs to the error; the names stay here.
    fn record(refused: Refused) -> Error {
        LAST.set(Some(refused.refusal));
        Error::InvalidCertificate(refused.error)
    }

    fn record_bad_signature(error: Error, leaf: &CertificateDer<'_>) -> Error {
        let words = "the client has not proved that it owns the private key".to_owned();
        LAST.set(Some(Refusal::of(leaf, Reason::BadSignature, words)));
        error
    }
}

/// The certificate, if it is of a version that webpki does not parse.
fn version_1<'a>(certificate: &'a CertificateDer<'_>) -> Option<Certificate<'a>> {
    Certificate::parse(certificate).filter(Certificate::is_version_1)
}

/// The error whose alert says most to the client, and the words for the log.
fn explain(error: Error, leaf: &CertificateDer<'_>, now: UnixTime) -> (CertificateError, Reason, String) {
    let error = match error {
        Error::InvalidCertificate(error) => error,
        Error::InvalidCertRevocationList(error) => {
            // Alert unknown_ca, as for every CRL that does not help; rustls alone would say handshake_failure.
            let words = format!("the CRL of its issuer cannot be used: {error:?}");
            return (CertificateError::UnknownRevocationStatus, Reason::RevocationUnknown, words);
        }
        other => {
            return (CertificateError::BadEncoding, Reason::Other, other.to_string());
        }
    };
    let validity = Certificate::parse(leaf).map(|leaf| leaf.validity());
    let which = |is_leaf: bool| {
        if is_leaf { "it" } else { "a certificate of its chain" }
    };
    use CertificateError as E;
    let (reason, words) = match &error {
        E::Expired | E::ExpiredContext { .. } => {
            let is_leaf = validity.is_some_and(|(_, not_after)| not_after < now);
            let date = match &error {
                E::ExpiredContext { not_after, .. } => format!(" on {}", x509::date(*not_after)),
                _ => String::new(),
            };
            (Reason::Expired, format!("{} has expired{date}", which(is_leaf)))
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            let is_leaf = validity.is_some_and(|(not_before, _)| not_before > now);
            let date = match &error {
                E::NotValidYetContext { not_before, .. } => {
                    format!(" before {}", x509::date(*not_before))
                }
                _ => " yet".to_owned(),
            };
            (Reason::NotYetValid, format!("{} is not valid{date}", which(is_leaf)))
        }
        E::Revoked => (Reason::Revoked, "it is revoked, or a certificate of its chain is".to_owned()),
        E::UnknownIssuer => (Reason::UnknownCa, "no CA of 'ca-file' has issued it".to_owned()),
        E::UnknownRevocationStatus => {
            (Reason::RevocationUnknown, "'crl-file' has no CRL for an issuer of its chain".to_owned())
        }
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
            let date = match &error {
                E::ExpiredRevocationListContext { next_update, .. } => {
                    format!(" on {}", x509::date(*next_update))
                }
                _ => String::new(),
            };
            (Reason::CrlExpired, format!("the CRL of its issuer has expired{date}"))
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            (Reason::WrongPurpose, "its extended key usage does not include clientAuth".to_owned())
        }
        E::BadSignature => (Reason::BadSignature, "a signature of its chain is wrong".to_owned()),
        E::BadEncoding => (Reason::Malformed, "it is damaged".to_owned()),
        E::UnhandledCriticalExtension => {
            (Reason::Malformed, "it has a critical extension that is not supported".to_owned())
        }
        E::UnsupportedSignatureAlgorithmContext { .. } | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            (Reason::Malformed, "it is signed with an algorithm that is not supported, such as SHA-1".to_owned())
        }
        E::Other(other) => {
            return explain_webpki(&other.to_string()).unwrap_or_else(|words| (error, Reason::Other, words));
        }
        other => (Reason::Other, other.to_string()),
    };
    (error, reason, words)
}

/// Errors of webpki that rustls hands on as they are, known by their names; with the alerts that OpenSSL sends for them.
fn explain_webpki(name: &str) -> Result<(CertificateError, Reason, String), String> {
    use CertificateError::{BadEncoding, InvalidPurpose, UnknownIssuer};
    let (error, reason, words) = match name {
        "CaUsedAsEndEntity" => (InvalidPurpose, Reason::WrongPurpose, "it is a CA certificate"),
        "EndEntityUsedAsCa" => (UnknownIssuer, Reason::UnknownCa, "it was issued by a certificate that is no CA"),
        "UnsupportedCertVersion" => {
            (BadEncoding, Reason::Malformed, "it is X.509 version 1, and no CA of 'ca-file' has signed it directly")
        }
        "NameConstraintViolation" => {
            (UnknownIssuer, Reason::UnknownCa, "a CA of its chain is not allowed to issue this name")
        }
        "PathLenConstraintViolated" => {
            (UnknownIssuer, Reason::UnknownCa, "its chain is longer than one of its CAs allows")
        }
        _ if name.starts_with("Maximum") => {
            (UnknownIssuer, Reason::TooLarge, "its chain cannot be followed in reasonable time")
        }
        _ => return Err(format!("it does not verify: {name}")),
    };
    Ok((error, reason, words.to_owned()))
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // What an earlier connection has left must not be taken for this one's.
        LAST.set(None);
        let verified = self.verify(end_entity, intermediates, now).map(|_ignored| ClientCertVerified::assertion());
        verified.map_err(|refused| Self::record(*refused))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let result = match version_1(cert) {
            Some(certificate) => self.verify_signature_of_version_1(message, &certificate, dss, false),
            None => self.webpki.verify_tls12_signature(message, cert, dss),
        };
        result.map_err(|error| Self::record_bad_signature(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let result = match version_1(cert) {
            Some(certificate) => self.verify_signature_of_version_1(message, &certificate, dss, true),
            None => self.webpki.verify_tls13_signature(message, cert, dss),
        };
        result.map_err(|error| Self::record_bad_signature(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
