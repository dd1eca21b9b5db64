//! Client certificates that webpki refuses and that are let in nevertheless.
//!
//! Some because OpenSSL accepts them, and people with CAs of their own have them: X.509 version 1 (what `openssl x509 -req`
//! makes without an extension file), signed directly by a CA of `ca-file`; and self-signed ones that are in `ca-file`
//! themselves. Others because `crt-ignore-err` and `ca-ignore-err` say so.
//!
//! webpki finds paths and verifies what is in them. What is let pass beside it is looked at here once more, certificate by
//! certificate along the path, because webpki stops at its first finding.

use std::num::NonZeroU32;

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::client_auth::Reason;
use super::der::is_signed_by;
use super::trust::Trust;
use super::x509::Certificate;
use crate::conf::verify_errors::{IgnoredErrors, VerifyError};

/// Numbers of OpenSSL's (`x509_vfy.h`) that only `all` ignores.
const UNSPECIFIED: u32 = 1;
const CERT_SIGNATURE_FAILURE: u32 = 7;
const CERT_NOT_YET_VALID: u32 = 9;
const DEPTH_ZERO_SELF_SIGNED_CERT: u32 = 18;
const SELF_SIGNED_CERT_IN_CHAIN: u32 = 19;
const UNABLE_TO_GET_ISSUER_CERT_LOCALLY: u32 = 20;
const UNABLE_TO_VERIFY_LEAF_SIGNATURE: u32 = 21;
const INVALID_PURPOSE: u32 = 26;

/// What is let pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tolerance {
    /// `crt-ignore-err`: about the client's own certificate.
    pub of_leaf: IgnoredErrors,
    /// `ca-ignore-err`: about the others.
    pub of_ca: IgnoredErrors,
}

impl Tolerance {
    /// Nothing.
    pub(super) fn is_empty(self) -> bool {
        self.of_leaf.is_empty() && self.of_ca.is_empty()
    }

    fn of(self, depth: usize) -> IgnoredErrors {
        if depth == 0 { self.of_leaf } else { self.of_ca }
    }

    fn lets_pass(self, fault: &Fault) -> bool {
        match fault.error {
            Problem::Listed(error) => self.of(fault.depth).contains(error),
            Problem::Other(_) => self.of(fault.depth).is_every(),
        }
    }
}

/// Something that is wrong with a certificate of a path; depth 0 is the client's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    depth: usize,
    error: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Listed(VerifyError),
    Other(u32),
}

impl Fault {
    fn number(self) -> u32 {
        match self.error {
            Problem::Listed(error) => error.number(),
            Problem::Other(number) => number,
        }
    }

    /// What the client and the log are told.
    pub(super) fn refusal(self) -> (CertificateError, Reason, String) {
        let which = if self.depth == 0 { "it" } else { "a certificate of its chain" };
        let (error, reason, words) = match self.error {
            Problem::Listed(VerifyError::CertHasExpired) => {
                (CertificateError::Expired, Reason::Expired, format!("{which} has expired"))
            }
            Problem::Listed(VerifyError::CertRevoked) => {
                (CertificateError::Revoked, Reason::Revoked, format!("{which} is revoked"))
            }
            Problem::Listed(VerifyError::CrlHasExpired) => {
                let words = "the CRL of its issuer has expired".to_owned();
                (CertificateError::ExpiredRevocationList, Reason::CrlExpired, words)
            }
            Problem::Listed(VerifyError::UnableToGetCrl) => {
                let words = "'crl-file' has no CRL for an issuer of its chain".to_owned();
                (CertificateError::UnknownRevocationStatus, Reason::RevocationUnknown, words)
            }
            Problem::Other(CERT_NOT_YET_VALID) => {
                (CertificateError::NotValidYet, Reason::NotYetValid, format!("{which} is not valid yet"))
            }
            Problem::Other(_) => (CertificateError::UnknownIssuer, Reason::Other, "it does not verify".to_owned()),
        };
        (error, reason, words)
    }
}

/// Certificates from the client's own to one of `ca-file`, each signed by the next. A single one is in `ca-file` itself.
struct Path<'a>(Vec<Certificate<'a>>);

impl Path<'_> {
    /// What is wrong along the path at `now`, in the order in which OpenSSL comes to it: revocation from the client's
    /// certificate up, then the dates down to it.
    fn faults(&self, trust: &Trust, now: UnixTime) -> Vec<Fault> {
        let certificates = &self.0;
        let revocable = &certificates[..certificates.len().saturating_sub(1).max(1)];
        let mut faults = Vec::new();
        for (depth, certificate) in revocable.iter().enumerate() {
            let issuer = certificates.get(depth + 1).unwrap_or(certificate);
            let errors = trust.revocation(certificate, issuer, now).into_iter();
            faults.extend(errors.map(|error| Fault { depth, error: Problem::Listed(error) }));
        }
        for (depth, certificate) in certificates.iter().enumerate().rev() {
            faults.extend(fault_of_dates(certificate, depth, now));
        }
        faults
    }
}

fn fault_of_dates(certificate: &Certificate<'_>, depth: usize, now: UnixTime) -> Option<Fault> {
    let (not_before, not_after) = certificate.validity();
    if not_after < now {
        return Some(Fault { depth, error: Problem::Listed(VerifyError::CertHasExpired) });
    }
    (not_before > now).then_some(Fault { depth, error: Problem::Other(CERT_NOT_YET_VALID) })
}

/// What came of a second look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It verifies, to OpenSSL.
    Verified,
    /// It does not, and that is let pass: the number of the last error.
    Ignored(NonZeroU32),
    /// It leads to `ca-file`, and this is wrong with it.
    Faulty(Fault),
    /// What webpki said stands.
    Refused,
}

/// Second looks for the clients of one listener.
#[derive(Debug)]
pub(super) struct Exceptions {
    tolerance: Tolerance,
    /// [`Trust::signers`] in the same order; none if nothing is let pass.
    anchors: Vec<TrustAnchor<'static>>,
}

impl Exceptions {
    pub(super) fn new(tolerance: Tolerance, trust: &Trust) -> Self {
        let wanted = trust.signers().filter(|_| !tolerance.is_empty());
        // `Trust` has tried them before.
        let anchors = wanted.map(|anchor| anchor_from_trusted_cert(&anchor.der).map(|anchor| anchor.to_owned()));
        Self { tolerance, anchors: anchors.collect::<Result<_, _>>().unwrap_or_default() }
    }

    /// Whether a certificate that does not verify may be let in.
    pub(super) fn ignores_errors(&self) -> bool {
        !self.tolerance.is_empty()
    }

    /// Looks once more at a chain that webpki has refused with `reason`.
    pub(super) fn judge(
        &self,
        trust: &Trust,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        reason: Reason,
        now: UnixTime,
    ) -> Outcome {
        let Some(parsed) = Certificate::parse(leaf) else { return Outcome::Refused };
        if let Some(path) = direct(trust, &parsed) {
            return self.verdict(&path.faults(trust, now)).unwrap_or(Outcome::Verified);
        }
        if self.tolerance.is_empty() {
            return Outcome::Refused;
        }
        let found = self.faults_of_path(trust, &parsed, leaf, intermediates, now);
        // A path on which nothing is wrong is one that webpki has seen something on.
        found
            .or_else(|| self.faults_without_path(&parsed, intermediates, reason, now))
            .and_then(|faults| self.verdict(&faults))
            .unwrap_or(Outcome::Refused)
    }

    /// `None`: there are no faults.
    fn verdict(&self, faults: &[Fault]) -> Option<Outcome> {
        if let Some(fault) = faults.iter().find(|fault| !self.tolerance.lets_pass(fault)) {
            return Some(Outcome::Faulty(*fault));
        }
        faults.last().and_then(|last| NonZeroU32::new(last.number())).map(Outcome::Ignored)
    }

    /// Lets webpki find a path at a time when what may have expired had not.
    fn faults_of_path(
        &self,
        trust: &Trust,
        parsed: &Certificate<'_>,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<Vec<Fault>> {
        let end_entity = EndEntityCert::try_from(leaf).ok()?;
        let (algorithms, usage) = (trust.algorithms().all, KeyUsage::client_auth());
        let time = self.time_of_path(parsed, intermediates, now);
        let path =
            end_entity.verify_for_usage(algorithms, &self.anchors, intermediates, time, usage, None, None).ok()?;
        let number = self.anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()))?;
        let between: Vec<CertificateDer<'_>> = path.intermediate_certificates().map(|one| one.der()).collect();
        let path = std::iter::once(leaf).chain(&between).chain([&trust.signers().nth(number)?.der]);
        let certificates: Option<Vec<_>> = path.map(|der| Certificate::parse(der)).collect();
        Some(Path(certificates?).faults(trust, now))
    }

    fn time_of_path(&self, leaf: &Certificate<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) -> UnixTime {
        let (not_before, not_after) = leaf.validity();
        if not_before > now && self.tolerance.of_leaf.is_every() {
            return not_before;
        }
        let mut time = now;
        if self.tolerance.of_leaf.contains(VerifyError::CertHasExpired) {
            time = time.min(not_after);
        }
        if self.tolerance.of_ca.contains(VerifyError::CertHasExpired) {
            let ends = intermediates.iter().filter_map(|der| Some(Certificate::parse(der)?.validity().1));
            time = ends.fold(time, UnixTime::min);
        }
        time
    }

    /// For `all`, the errors that OpenSSL has for a certificate that leads nowhere. `None`: it is not let in.
    fn faults_without_path(
        &self,
        leaf: &Certificate<'_>,
        intermediates: &[CertificateDer<'_>],
        reason: Reason,
        now: UnixTime,
    ) -> Option<Vec<Fault>> {
        let top = intermediates.len();
        let has_root =
            || intermediates.iter().any(|der| Certificate::parse(der).is_some_and(|one| one.is_self_issued()));
        let (depth, number) = match reason {
            Reason::UnknownCa if top > 0 && has_root() => (top, SELF_SIGNED_CERT_IN_CHAIN),
            Reason::UnknownCa if top > 0 => (top, UNABLE_TO_GET_ISSUER_CERT_LOCALLY),
            Reason::UnknownCa if leaf.is_self_issued() => (0, DEPTH_ZERO_SELF_SIGNED_CERT),
            Reason::UnknownCa => (0, UNABLE_TO_VERIFY_LEAF_SIGNATURE),
            Reason::Malformed if leaf.is_version_1() => (top, UNABLE_TO_VERIFY_LEAF_SIGNATURE),
            Reason::WrongPurpose => (0, INVALID_PURPOSE),
            Reason::BadSignature => (top, CERT_SIGNATURE_FAILURE),
            Reason::NoCertificate | Reason::TooLarge | Reason::Malformed => return None,
            _ => (top, UNSPECIFIED),
        };
        let mut faults = vec![Fault { depth: 0, error: Problem::Other(number) }];
        if depth > 0 {
            faults.insert(0, Fault { depth, error: Problem::Other(number) });
        }
        faults.extend(fault_of_dates(leaf, 0, now));
        faults.iter().all(|fault| self.tolerance.lets_pass(fault)).then_some(faults)
    }
}

/// The path of a certificate that OpenSSL accepts and webpki does not know. Its dates and its revocation are not judged yet.
fn direct<'a>(trust: &'a Trust, leaf: &Certificate<'a>) -> Option<Path<'a>> {
    let again = |der: &'a [u8]| Certificate::parse(der);
    if leaf.is_self_issued() && trust.anchors().iter().any(|anchor| &*anchor.der == leaf.der()) {
        let usable = leaf.may_be_client() && !leaf.has_unknown_critical_extension();
        return usable.then(|| again(leaf.der()).map(|leaf| Path(vec![leaf]))).flatten();
    }
    if !leaf.is_version_1() {
        return None;
    }
    let named = trust.anchors().iter().filter(|anchor| anchor.raw_subject == leaf.raw_issuer());
    let signers = named.filter_map(|anchor| Certificate::parse(&anchor.der)).filter(|issuer| {
        // Which names it may give cannot be judged for a certificate without extensions.
        issuer.may_sign_certificates()
            && !issuer.has_name_constraints()
            && is_signed_by(leaf.der(), issuer.key().raw, trust.algorithms()) == Some(true)
    });
    // Of a CA that was renewed with its key the certificate that lasts longest.
    let issuer = signers.max_by_key(|issuer| issuer.validity().1)?;
    Some(Path(vec![again(leaf.der())?, issuer]))
}
