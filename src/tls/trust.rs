//! [`Trust`]: the CAs of `ca-file` and the CRLs of `crl-file`. Fails closed: what is configured but missing, damaged or
//! expired is an error, because a verifier without CRLs would check nothing and say so to nobody.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use webpki::EndEntityCert;

use super::credential::{parse_pem, unreadable};
use super::crl::Crl;
use super::der::{SEQUENCE, element, is_signed_by};
use super::exceptions::Tolerance;
use super::inventory::{Authority, RevocationList, openssl_time};
use super::policy::{Expiring, Expiry};
use super::signatures;
use super::x509::{self, Certificate};
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{At, BindTls, Location};
use crate::conf::verify_errors::VerifyError;
use crate::material::{Entry, FileBytes, Files};

/// A CRL that ends sooner than this deserves a warning.
const CRL_WARNING: Duration = Duration::from_secs(24 * 3600);
/// TLS has 16 bits for the length of all CA names together.
const HINTS_MAX: usize = 60_000;

/// Whom to believe about clients.
#[derive(Debug)]
pub(super) struct Trust {
    anchors: Vec<Anchor>,
    /// At most one per CA and scope.
    crls: Vec<Crl>,
    crl_file: Option<PathBuf>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A certificate of `ca-file` or `ca-verify-file`: a CA, or a client's own self-signed one.
#[derive(Debug)]
pub(super) struct Anchor {
    pub der: CertificateDer<'static>,
    path: PathBuf,
    pub raw_subject: Vec<u8>,
    subject: String,
    not_after: UnixTime,
    /// Without it, a certificate of the file stands for itself alone: webpki would believe whatever its key has signed.
    may_sign: bool,
    is_self_issued: bool,
    /// Clients are told its name.
    hinted: bool,
    /// One of the CRLs is signed by it.
    has_crl: bool,
}

impl Trust {
    /// Reads `ca-file`, `ca-verify-file` and `crl-file`. Answers `None` if there is an error among the diagnostics.
    pub(super) fn load(
        tls: &BindTls,
        files: &Files,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> (Option<Self>, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let mut anchors = Vec::new();
        for (ca_file, hinted) in [(&tls.ca_file, tls.ca_names), (&tls.ca_verify_file, false)] {
            if let Some(ca_file) = ca_file {
                load_anchors(ca_file, hinted, files, &mut anchors, &mut diagnostics);
            }
        }
        let mut crls = Vec::new();
        let crl_file = tls.crl_file.as_ref();
        if let Some(crl_file) = crl_file {
            crls = load_crls(crl_file, files, &mut diagnostics);
            for crl in &crls {
                match_signer(crl, &mut anchors, algorithms, crl_file, &mut diagnostics);
            }
        }
        let complete = !diagnostics.iter().any(Diagnostic::is_error);
        (
            complete.then_some(Self {
                anchors,
                crls,
                crl_file: crl_file.map(|crl_file| crl_file.value.clone()),
                algorithms: *algorithms,
            }),
            diagnostics,
        )
    }

    /// What depends on the time, and CAs without CRL. Errors among them forbid the configuration: nobody would get in. What
    /// `tolerance` lets pass is a warning.
    pub(super) fn diagnostics(
        &self,
        tolerance: Tolerance,
        ca_at: &Location,
        crl_at: &Location,
        now: UnixTime,
    ) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        for anchor in &self.anchors {
            let (subject, path) = (&anchor.subject, anchor.path.display());
            let kind = anchor.kind();
            if !anchor.may_sign && !anchor.is_self_issued {
                let message = format!("the certificate \"{subject}\" in '{path}' is neither a CA nor self-signed");
                diagnostics.push(Diagnostic::warning("W235", ca_at, message).note("it lets nobody in"));
                continue;
            }
            if anchor.not_after < now {
                let date = x509::date(anchor.not_after);
                let message = format!("the {kind} \"{subject}\" in '{path}' has expired on {date}");
                let note = match (anchor.may_sign, anchor.may_have_expired(tolerance)) {
                    (true, false) => "certificates that it issued are refused",
                    (true, true) => "certificates that it issued are let in by 'ca-ignore-err'",
                    (false, false) => "its owner is refused",
                    (false, true) => "its owner is let in by 'crt-ignore-err'",
                };
                diagnostics.push(Diagnostic::warning("W232", ca_at, message).note(note));
            }
            if self.crl_file.is_some() && !anchor.has_crl {
                let message = format!("no CRL for the {kind} \"{subject}\" of '{path}' in '{}'", self.crl_path());
                let note = match (anchor.may_sign, ignored(tolerance, VerifyError::UnableToGetCrl)) {
                    (true, Some(note)) => note,
                    (true, None) => {
                        "with 'crl-file', certificates that it issued are refused: revocation cannot be checked"
                    }
                    (false, _) if tolerance.of_leaf.contains(VerifyError::UnableToGetCrl) => {
                        "its owner is let in by 'crt-ignore-err'"
                    }
                    (false, _) => "with 'crl-file', its owner is refused: revocation cannot be checked",
                };
                diagnostics.push(Diagnostic::warning("W240", crl_at, message).note(note));
            }
        }
        let expired = ignored(tolerance, VerifyError::CrlHasExpired);
        for crl in &self.crls {
            let (issuer, date) = (&crl.issuer, x509::date(crl.next_update));
            let path = self.crl_path();
            let soon = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_add(CRL_WARNING));
            let diagnostic = if crl.this_update > now {
                let date = x509::date(crl.this_update);
                Diagnostic::error(
                    "E241",
                    crl_at,
                    format!("the CRL of \"{issuer}\" in '{path}' is not valid before {date}"),
                )
                .note("is the clock of this machine right?")
            } else if crl.next_update <= now {
                let message = format!("the CRL of \"{issuer}\" in '{path}' has expired on {date}");
                match expired {
                    Some(note) => Diagnostic::warning("W241", crl_at, message).note(note),
                    None => Diagnostic::error("E241", crl_at, message)
                        .note("every client of this CA would be refused; fetch a new CRL"),
                }
            } else if crl.next_update <= soon {
                Diagnostic::warning("W241", crl_at, format!("the CRL of \"{issuer}\" in '{path}' expires on {date}"))
                    .note(expired.unwrap_or("from then on every client of this CA is refused"))
            } else {
                continue;
            };
            diagnostics.push(diagnostic);
        }
        if self.hints().is_none() {
            let count = self.anchors.iter().filter(|anchor| anchor.hinted).count();
            let message = format!("the names of {count} CAs are too long to be sent to clients");
            diagnostics.push(Diagnostic::warning("W234", ca_at, message).note("clients are asked without naming a CA"));
        }
        diagnostics
    }

    /// Names of CAs for clients; `None`: more than fit.
    fn hints(&self) -> Option<Vec<DistinguishedName>> {
        let hinted = self.anchors.iter().filter(|anchor| anchor.hinted);
        let names: Option<Vec<_>> = hinted.map(|anchor| element(&anchor.raw_subject, SEQUENCE)).collect();
        let names: Vec<_> = names?.into_iter().map(|(name, _)| DistinguishedName::in_sequence(name.content)).collect();
        let length: usize = names.iter().map(|name| name.as_ref().len() + 2).sum();
        (length <= HINTS_MAX).then_some(names)
    }

    /// The certificates, in the order of the files.
    pub(super) fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// Those of them that may sign others, in the same order: what a path may end in.
    pub(super) fn signers(&self) -> impl Iterator<Item = &Anchor> {
        self.anchors.iter().filter(|anchor| anchor.may_sign)
    }

    /// Is it self-signed, by its names, and not in the files?
    pub(super) fn is_self_signed_stranger(&self, certificate: &CertificateDer<'_>) -> bool {
        Certificate::parse(certificate).is_some_and(|certificate| certificate.is_self_issued())
            && !self.anchors.iter().any(|anchor| anchor.der.as_ref() == certificate.as_ref())
    }

    /// How signatures are verified.
    pub(super) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// What the CRLs say against `certificate`, which `issuer` has signed, in OpenSSL's order; nothing without `crl-file`. A
    /// list for a part of the certificates only (RFC 5280, 5.2.5) can revoke here, and does not clear.
    pub(super) fn revocation(
        &self,
        certificate: &Certificate<'_>,
        issuer: &Certificate<'_>,
        now: UnixTime,
    ) -> Vec<VerifyError> {
        if self.crl_file.is_none() {
            return Vec::new();
        }
        let mut errors = Vec::new();
        let is_of_issuer = |crl: &&Crl| {
            crl.raw_issuer == certificate.raw_issuer()
                && issuer.may_sign_crls()
                && crl.is_signed_with(issuer.key().raw, &self.algorithms)
        };
        let crls: Vec<&Crl> = self.crls.iter().filter(is_of_issuer).collect();
        match crls.iter().find(|crl| crl.scope.is_none()) {
            None => errors.push(VerifyError::UnableToGetCrl),
            Some(crl) if crl.next_update <= now => errors.push(VerifyError::CrlHasExpired),
            Some(_) => {}
        }
        if crls.iter().any(|crl| crl.lists(certificate.raw_serial())) {
            errors.push(VerifyError::CertRevoked);
        }
        errors
    }

    fn crl_path(&self) -> std::path::Display<'_> {
        self.crl_file.as_deref().unwrap_or(Path::new("")).display()
    }

    /// The CA that has expired by `now` and has issued a certificate of `chain`. webpki does not look at the dates of its
    /// anchors. A name decides, unless `ca-file` has another CA of that name that has not expired: then the signature.
    pub(super) fn expired_issuer(&self, chain: &[&CertificateDer<'_>], now: UnixTime) -> Option<&str> {
        let is_expired = |anchor: &Anchor| anchor.not_after < now;
        if !self.signers().any(is_expired) {
            return None;
        }
        chain.iter().find_map(|der| {
            let certificate = Certificate::parse(der)?;
            let named = self.signers().filter(|anchor| anchor.raw_subject == certificate.raw_issuer());
            let (expired, valid): (Vec<_>, Vec<_>) = named.partition(|anchor| is_expired(anchor));
            let has_signed = |anchor: &&Anchor| {
                let key = Certificate::parse(&anchor.der).map(|ca| ca.key().raw.to_vec());
                key.is_some_and(|key| is_signed_by(der, &key, &self.algorithms) == Some(true))
            };
            let blamed = if valid.is_empty() {
                expired.first().copied()
            } else if expired.is_empty() || valid.iter().any(has_signed) {
                None
            } else {
                expired.into_iter().find(has_signed)
            };
            blamed.map(|anchor| anchor.subject.as_str())
        })
    }

    /// webpki with the CAs that have not expired and the CRLs: revocation of the whole chain, unknown status refused, expiry
    /// of CRLs enforced.
    pub(super) fn verifier(
        &self,
        provider: &CryptoProvider,
        tolerance: Tolerance,
        at: &Location,
        now: UnixTime,
    ) -> Result<Arc<dyn ClientCertVerifier>, Box<Diagnostic>> {
        let is_live = |anchor: &&Anchor| anchor.not_after >= now;
        if !self.anchors.iter().any(|anchor| is_live(&anchor) || anchor.may_have_expired(tolerance)) {
            return Err(Box::new(Diagnostic::error("E231", at, "every CA in 'ca-file' has expired")));
        }
        let mut roots = RootCertStore::empty();
        for anchor in self.signers().filter(is_live) {
            // A failure was reported by `load_anchors` before.
            let _ = roots.add(anchor.der.clone());
        }
        if roots.is_empty() {
            return Ok(Arc::new(NoRoots { hints: self.hints().unwrap_or_default(), algorithms: self.algorithms }));
        }
        let roots = Arc::new(roots);
        let all: Vec<_> = self.crls.iter().map(|crl| crl.der.clone()).collect();
        let hints = self.hints().unwrap_or_default();
        let reason = match build(&roots, hints, provider, all) {
            Ok(verifier) => return Ok(verifier),
            Err(reason) => reason,
        };
        // Which one was it?
        let culprit = self.crls.iter().find_map(|crl| {
            let reason = build(&roots, Vec::new(), provider, vec![crl.der.clone()]).err()?;
            Some((crl.issuer.as_str(), reason))
        });
        let message = match culprit {
            Some((issuer, reason)) => {
                format!("the CRL of \"{issuer}\" in '{}' cannot be used: {reason}", self.crl_path())
            }
            None => format!("clients cannot be verified: {reason}"),
        };
        Err(Box::new(Diagnostic::error("E240", at, message)))
    }

    /// When its CAs and lists end.
    pub(super) fn expiries(&self) -> impl Iterator<Item = Expiry<'_>> {
        let cas = self.anchors.iter().map(|anchor| Expiry {
            of: Expiring::ClientCa,
            path: &anchor.path,
            at: anchor.not_after,
        });
        let crl_file = self.crl_file.as_deref().unwrap_or(Path::new(""));
        cas.chain(self.crls.iter().map(move |crl| Expiry { of: Expiring::Crl, path: crl_file, at: crl.next_update }))
    }

    /// The CAs.
    pub(super) fn authorities(&self) -> impl Iterator<Item = Authority<'_>> {
        self.anchors.iter().map(|anchor| Authority { path: &anchor.path, der: &anchor.der })
    }

    /// The revocation lists.
    pub(super) fn revocation_lists(&self) -> impl Iterator<Item = RevocationList<'_>> {
        let path = self.crl_file.as_deref().unwrap_or(Path::new(""));
        self.crls.iter().map(move |crl| RevocationList {
            path,
            issuer: &crl.issuer,
            validity: (openssl_time(crl.this_update), openssl_time(crl.next_update)),
            revoked: crl.revoked(),
        })
    }

    /// Lines for the log.
    pub(super) fn describe(&self) -> Vec<String> {
        let anchors = self.anchors.iter().map(|anchor| {
            let (subject, path) = (&anchor.subject, anchor.path.display());
            format!("client CA \"{subject}\" expires {} from '{path}'", x509::date(anchor.not_after))
        });
        let crls = self.crls.iter().map(|crl| {
            let (from, to) = (x509::date(crl.this_update), x509::date(crl.next_update));
            format!("CRL of \"{}\" from {from} expires {to}", crl.issuer)
        });
        anchors.chain(crls).collect()
    }

    /// Digest of the set of CAs and CRLs, whatever the order.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut anchors: Vec<_> = self.anchors.iter().map(|anchor| x509::sha256(&anchor.der)).collect();
        let mut crls: Vec<_> = self.crls.iter().map(|crl| crl.digest).collect();
        anchors.sort_unstable();
        crls.sort_unstable();
        let mut all = (anchors.len() as u64).to_be_bytes().to_vec();
        all.extend(anchors.concat());
        all.extend(crls.concat());
        x509::sha256(&all)
    }
}

impl Anchor {
    /// For messages.
    fn kind(&self) -> &'static str {
        if self.may_sign { "CA" } else { "self-signed certificate" }
    }

    /// Is it of use after its end?
    fn may_have_expired(&self, tolerance: Tolerance) -> bool {
        let level = if self.may_sign { tolerance.of_ca } else { tolerance.of_leaf };
        level.contains(VerifyError::CertHasExpired)
    }
}

/// What becomes of what a CA has issued although `error` is found about its list; `None`: it is refused.
fn ignored(tolerance: Tolerance, error: VerifyError) -> Option<&'static str> {
    match (tolerance.of_leaf.contains(error), tolerance.of_ca.contains(error)) {
        (false, false) => None,
        (true, true) => Some("'crt-ignore-err' and 'ca-ignore-err' let it pass"),
        (true, false) => Some(
            "'crt-ignore-err' lets the clients pass that this CA issued; those below another CA that it issued are refused",
        ),
        (false, true) => {
            Some("'ca-ignore-err' lets the CAs pass that this CA issued; clients that it issued itself are refused")
        }
    }
}

/// What stands in for webpki, which will not work without a root: nobody is known to it.
#[derive(Debug)]
struct NoRoots {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for NoRoots {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let error = match EndEntityCert::try_from(end_entity) {
            Ok(_) => CertificateError::UnknownIssuer,
            Err(error @ webpki::Error::UnsupportedCertVersion) => CertificateError::Other(OtherError(Arc::new(error))),
            Err(_) => CertificateError::BadEncoding,
        };
        Err(Error::InvalidCertificate(error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn build(
    roots: &Arc<RootCertStore>,
    hints: Vec<DistinguishedName>,
    provider: &CryptoProvider,
    crls: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let provider = CryptoProvider { signature_verification_algorithms: *signatures::ALGORITHMS, ..provider.clone() };
    // RUSTSEC-2026-0104: the parser of CRLs has panicked before.
    let built = catch_unwind(AssertUnwindSafe(|| {
        let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), Arc::new(provider))
            .with_crls(crls)
            .enforce_revocation_expiration()
            .clear_root_hint_subjects()
            .add_root_hint_subjects(hints);
        builder.build().map_err(|error| error.to_string())
    }));
    built.unwrap_or_else(|_| Err("the parser has panicked".to_owned()))
}

fn load_anchors(
    ca_file: &At<PathBuf>,
    hinted: bool,
    files: &Files,
    anchors: &mut Vec<Anchor>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut add = |path: &Path, file: &FileBytes, diagnostics: &mut Vec<Diagnostic>| {
        add_anchors(path, file, (&ca_file.at, hinted), anchors, diagnostics);
    };
    match files.entry(&ca_file.value) {
        Some(Entry::File(file)) => add(&ca_file.value, file, diagnostics),
        Some(Entry::Directory(names)) => {
            let is_ca = |name: &&String| {
                let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
                !name.starts_with('.') && matches!(extension, Some("pem" | "crt" | "cer"))
            };
            for name in names.iter().filter(is_ca) {
                let path = ca_file.value.join(name);
                match files.entry(&path) {
                    Some(Entry::File(file)) => add(&path, file, diagnostics),
                    other => diagnostics.push(unreadable(&path, other, &ca_file.at)),
                }
            }
            if !names.iter().any(|name| is_ca(&name)) {
                let message = format!("no CA certificate in the directory '{}'", ca_file.value.display());
                let hint = "files count if they end in .pem .crt or .cer";
                diagnostics.push(Diagnostic::error("E231", &ca_file.at, message).note(hint));
            }
        }
        other => diagnostics.push(unreadable(&ca_file.value, other, &ca_file.at)),
    }
}

fn add_anchors(
    path: &Path,
    file: &FileBytes,
    (at, hinted): (&Location, bool),
    anchors: &mut Vec<Anchor>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let pem = match parse_pem(path, &file.bytes, at, "E231") {
        Ok(pem) => pem,
        Err(diagnostic) => return diagnostics.push(*diagnostic),
    };
    if pem.certificates.is_empty() {
        diagnostics.push(Diagnostic::error("E231", at, format!("no CA certificate in '{}'", path.display())));
    }
    if !pem.crls.is_empty() {
        let message = format!("CRLs in '{}' are not used", path.display());
        diagnostics.push(Diagnostic::warning("W233", at, message).note("name the file with 'crl-file'"));
    }
    for (index, der) in pem.certificates.into_iter().enumerate() {
        if anchors.iter().any(|known| known.der == der) {
            continue;
        }
        let parsed = Certificate::parse(&der).map(|certificate| {
            let (_, not_after) = certificate.validity();
            Anchor {
                der: der.clone(),
                path: path.to_owned(),
                raw_subject: certificate.raw_subject().to_vec(),
                subject: certificate.printed_subject(),
                not_after,
                may_sign: certificate.may_sign_certificates(),
                is_self_issued: certificate.is_self_issued(),
                hinted,
                has_crl: false,
            }
        });
        // The store is the judge of what can anchor; one certificate costs nothing.
        match parsed.filter(|_| RootCertStore::empty().add(der.clone()).is_ok()) {
            Some(anchor) => anchors.push(anchor),
            None => {
                let message = format!("certificate {} in '{}' is damaged or cannot be a CA", index + 1, path.display());
                diagnostics.push(Diagnostic::error("E231", at, message));
            }
        }
    }
}

fn load_crls(crl_file: &At<PathBuf>, files: &Files, diagnostics: &mut Vec<Diagnostic>) -> Vec<Crl> {
    let (path, at) = (&crl_file.value, &crl_file.at);
    let Some(Entry::File(file)) = files.entry(path) else {
        diagnostics.push(unreadable(path, files.entry(path), at));
        return Vec::new();
    };
    let pem = match parse_pem(path, &file.bytes, at, "E240") {
        Ok(pem) => pem,
        Err(diagnostic) => {
            diagnostics.push(*diagnostic);
            return Vec::new();
        }
    };
    if pem.crls.is_empty() {
        let note = "without a CRL no revocation could be checked; remove 'crl-file' if that is meant";
        diagnostics.push(Diagnostic::error("E240", at, format!("no CRL in '{}'", path.display())).note(note));
    }
    let mut newest: HashMap<(Vec<u8>, Option<Vec<u8>>), Crl> = HashMap::new();
    for (index, der) in pem.crls.into_iter().enumerate() {
        let Some(crl) = Crl::parse(der) else {
            let message = format!("CRL {} in '{}' is damaged or has no nextUpdate", index + 1, path.display());
            diagnostics.push(Diagnostic::error("E240", at, message));
            continue;
        };
        let key = (crl.raw_issuer.clone(), crl.scope.clone());
        // webpki takes the first one that fits, which may be the older.
        let older = match newest.remove(&key) {
            Some(known) if known.this_update >= crl.this_update => {
                newest.insert(key, known);
                crl
            }
            known => {
                newest.insert(key, crl);
                let Some(known) = known else { continue };
                known
            }
        };
        let (issuer, date) = (&older.issuer, x509::date(older.this_update));
        let message = format!("'{}' has a newer CRL of \"{issuer}\" than the one of {date}", path.display());
        diagnostics.push(Diagnostic::notice("N240", at, message).note("only the newest one of a CA is used"));
    }
    let mut crls: Vec<Crl> = newest.into_values().collect();
    crls.sort_by(|left, right| (&left.raw_issuer, &left.scope).cmp(&(&right.raw_issuer, &right.scope)));
    crls
}

/// Finds the CAs that signed `crl`. One that has the name but not the key is an error now rather than at every handshake.
fn match_signer(
    crl: &Crl,
    anchors: &mut [Anchor],
    algorithms: &WebPkiSupportedAlgorithms,
    file: &At<PathBuf>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let (mut named, mut signed) = (false, false);
    for anchor in anchors.iter_mut().filter(|anchor| anchor.raw_subject == crl.raw_issuer) {
        named = true;
        let is_signer = Certificate::parse(&anchor.der)
            .is_some_and(|certificate| crl.is_signed_with(certificate.key().raw, algorithms));
        signed |= is_signer;
        anchor.has_crl |= is_signer;
    }
    if named && !signed {
        let (issuer, path, at) = (&crl.issuer, file.value.display(), &file.at);
        let message = format!("the CRL of \"{issuer}\" in '{path}' is not signed by the CA of this name in 'ca-file'");
        let note = "or it is signed with an algorithm that is not supported (SHA-1, for example)";
        diagnostics.push(Diagnostic::error("E242", at, message).note(note));
    }
}
