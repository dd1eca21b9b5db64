//! [`Credential`]: a certificate chain with its key and its OCSP response, as `crt` names it (HAProxy manual 5.1, `crt`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use zeroize::Zeroize;

use super::certificates::Issuers;
use super::der::is_signed_by;
use super::identity::ServerCertificate;
use super::ocsp::Staple;
use super::pem::{self, Pem};
use super::x509::{self, Certificate, KeyType};
use crate::conf::certificate_files::{Beside, OwnFiles};
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{At, Location};
use crate::material::{Entry, FileBytes, Files};

/// A certificate chain with its key. `Debug` shows no key.
pub(super) struct Credential {
    path: PathBuf,
    facts: Facts,
    /// With the OCSP response, if there is one.
    certified: Arc<CertifiedKey>,
    /// Without, for when the response is out of date; made when it is first needed.
    bare: OnceLock<Arc<CertifiedKey>>,
    staple: Option<StapleFile>,
    /// The file that holds the key, if everybody may read it.
    exposed_key: Option<PathBuf>,
    /// SHA-256 of all that it was made from.
    source: [u8; 32],
}

/// A file with an OCSP response.
struct StapleFile {
    path: PathBuf,
    /// What is in it, or why it is not stapled.
    content: Result<Staple, String>,
}

/// What the first certificate of a chain says.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// DNS names of SAN and CN in lower case; a wildcard is `*.example.com`.
    pub names: Vec<String>,
    /// Subject, escaped and cut: `/O=Example/CN=a.example`.
    pub subject: String,
    /// Serial number in upper-case hexadecimal.
    pub serial: String,
    /// Start of the validity.
    pub not_before: UnixTime,
    /// End of the validity.
    pub not_after: UnixTime,
    /// Kind of its key.
    pub key_type: KeyType,
    /// What connections tell about it.
    pub server: Arc<ServerCertificate>,
}

impl Credential {
    /// The file that `crt` named, or the one in its directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What its certificate says.
    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Chain and key for rustls, with the OCSP response as far as it is in date at `now`: a client refuses one that is not.
    pub(super) fn certified(&self, now: UnixTime) -> &Arc<CertifiedKey> {
        match &self.staple {
            Some(StapleFile { content: Ok(staple), .. }) if !staple.is_valid(now) => self.bare.get_or_init(|| {
                let CertifiedKey { cert, key, .. } = &*self.certified;
                Arc::new(CertifiedKey::new(cert.clone(), key.clone()))
            }),
            _ => &self.certified,
        }
    }

    /// The file with the OCSP response that is stapled, and the end of its validity.
    pub(super) fn stapled(&self) -> Option<(&Path, UnixTime)> {
        match self.staple.as_ref()? {
            StapleFile { path, content: Ok(staple) } => Some((path, staple.until())),
            StapleFile { content: Err(_), .. } => None,
        }
    }

    /// The certificates, leaf first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Its key.
    pub(super) fn key(&self) -> &Arc<dyn SigningKey> {
        &self.certified.key
    }

    /// SHA-256 of all that it was made from.
    pub(super) fn source(&self) -> &[u8; 32] {
        &self.source
    }

    /// Can it sign in a way that a client with these signature schemes understands?
    pub(super) fn suits(&self, schemes: &[rustls::SignatureScheme]) -> bool {
        self.key().choose_scheme(schemes).is_some()
    }

    /// One line for the log: `certificate "/CN=a.example" serial 0A expires 2027-01-01 EC256 from '/etc/a.pem'`.
    pub(super) fn describe(&self) -> String {
        let Facts { subject, serial, not_after, server, .. } = &self.facts;
        let (expiry, path) = (x509::date(*not_after), self.path.display());
        let staple = match &self.staple {
            Some(StapleFile { content: Ok(staple), .. }) => {
                format!(" with an OCSP response until {}", x509::date(staple.until()))
            }
            _ => String::new(),
        };
        format!("certificate \"{subject}\" serial {serial} expires {expiry} {} from '{path}'{staple}", server.key_alg)
    }

    /// What is wrong with it at `now`, without being an error.
    pub(super) fn warnings(&self, at: &Location, now: UnixTime) -> Vec<Diagnostic> {
        let (path, subject) = (self.path.display(), &self.facts.subject);
        let mut warnings = Vec::new();
        if self.facts.not_after < now {
            let date = x509::date(self.facts.not_after);
            let message = format!("certificate \"{subject}\" in '{path}' has expired on {date}");
            warnings.push(Diagnostic::warning("W222", at, message).note("clients will refuse it; renew it"));
        }
        if self.facts.not_before > now {
            let date = x509::date(self.facts.not_before);
            let message = format!("certificate \"{subject}\" in '{path}' is not valid before {date}");
            warnings.push(Diagnostic::warning("W223", at, message).note("is the clock of this machine right?"));
        }
        if let Some(path) = &self.exposed_key {
            let message = format!("everybody may read the private key in '{}'", path.display());
            warnings.push(Diagnostic::warning("W221", at, message).note(format!("chmod o-r {}", path.display())));
        }
        if let Some(StapleFile { path: file, content }) = &self.staple {
            let trouble = content.as_ref().map_or_else(|trouble| Some(trouble.clone()), |staple| staple.trouble(now));
            if let Some(trouble) = trouble {
                let message = format!("the OCSP response '{}' {trouble}; nothing is stapled", file.display());
                let note = format!("it is for the certificate \"{subject}\" in '{path}'");
                warnings.push(Diagnostic::warning("W224", at, message).note(note));
            }
        }
        warnings
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("path", &self.path).field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Why there is no file at `path`, where there should be one.
pub(super) fn unreadable(path: &Path, entry: Option<&Entry>, at: &Location) -> Diagnostic {
    let path = path.display();
    Diagnostic::error(
        "E221",
        at,
        match entry {
            None => format!("'{path}' does not exist"),
            Some(Entry::Unreadable(reason)) => format!("cannot read '{path}': {reason}"),
            Some(Entry::Directory(_)) => format!("'{path}' is a directory, a file is needed"),
            Some(Entry::File(_)) => format!("'{path}' is a file, a directory is needed"),
        },
    )
}

/// Reads PEM, or says what is wrong with the file.
pub(super) fn parse_pem(path: &Path, bytes: &[u8], at: &Location, code: &'static str) -> Result<Pem, Box<Diagnostic>> {
    pem::parse(bytes).map_err(|error| {
        let path = path.display().to_string();
        let diagnostic = Diagnostic::error(code, at, format!("'{path}' {error}"));
        Box::new(match error.remedy(&path) {
            Some(remedy) => diagnostic.note(remedy),
            None => diagnostic,
        })
    })
}

/// One certificate file and what belongs to it.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub file: &'a FileBytes,
    /// Files that the `crt-list` names.
    pub own: &'a OwnFiles,
    /// Files to look for beside it.
    pub beside: Beside,
    pub issuers: &'a Issuers,
    /// `ssl-skip-self-issued-ca`.
    pub skips_self_issued: bool,
    pub files: &'a Files,
    pub at: &'a Location,
}

impl Source<'_> {
    /// Makes the credential; `digest` is [`Self::digest`].
    pub(super) fn load(&self, provider: &CryptoProvider, digest: [u8; 32]) -> Result<Arc<Credential>, Box<Diagnostic>> {
        let mut pem = parse_pem(self.path, &self.file.bytes, self.at, "E222")?;
        let Some(leaf) = pem.certificates.first() else {
            return Err(self.no_certificate(&pem));
        };
        let leaf = leaf.clone();
        let Some(certificate) = Certificate::parse(&leaf) else {
            return Err(self.error("E227", "the first certificate is damaged"));
        };
        let (mut key, key_path, mode) = self.private_key(&mut pem)?;
        // By reference: given away, its bytes would be freed as they are.
        let loaded = any_supported_type(&key);
        key.zeroize();
        let key = loaded.map_err(|_| {
            let mut diagnostic = self.error("E227", "the private key cannot be used");
            diagnostic
                .notes
                .push("usable are RSA of 2048 to 8192 bits, EC P-256, P-384 and P-521, and Ed25519".to_owned());
            diagnostic
        })?;
        self.check_key(&certificate, &pem.certificates, &*key)?;
        let mut chain = pem.certificates;
        if chain.len() == 1 {
            chain.extend_from_slice(self.issuers.chain(&certificate, provider).unwrap_or_default());
        }
        let staple = self.staple(&certificate, &chain, provider)?;
        if self.skips_self_issued {
            let mut index = 0;
            chain.retain(|der| {
                index += 1;
                let root = || Certificate::parse(der).is_some_and(|one| one.is_self_issued());
                index == 1 || !root()
            });
        }
        let (not_before, not_after) = certificate.validity();
        let facts = Facts {
            names: certificate.server_names(),
            subject: certificate.printed_subject(),
            serial: certificate.printed_serial(),
            not_before,
            not_after,
            key_type: certificate.key_type(),
            server: Arc::new(ServerCertificate {
                sig_alg: certificate.signature_algorithm(),
                key_alg: certificate.key_summary(),
                sha256: x509::sha256(certificate.der()),
            }),
        };
        let mut certified = CertifiedKey::new(chain, key);
        if let Some(StapleFile { content: Ok(staple), .. }) = &staple {
            certified.ocsp = Some(staple.der.clone());
        }
        Ok(Arc::new(Credential {
            path: self.path.to_owned(),
            facts,
            certified: Arc::new(certified),
            bare: OnceLock::new(),
            staple,
            exposed_key: (mode & 0o004 != 0).then_some(key_path),
            source: digest,
        }))
    }

    /// Of everything that [`Self::load`] looks at.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut all = x509::sha256(self.path.as_os_str().as_encoded_bytes()).to_vec();
        all.extend(x509::sha256(&self.file.bytes));
        all.extend(self.file.mode.to_be_bytes());
        all.extend(self.issuers.digest());
        all.push(u8::from(self.skips_self_issued));
        let [key, ocsp, issuer] = [
            (&self.own.key, &self.beside.key),
            (&self.own.ocsp, &self.beside.ocsp),
            (&self.own.issuer, &self.beside.issuer),
        ];
        for (own, beside) in [key, ocsp, issuer] {
            let path = own.as_ref().map(|own| &own.value).or(beside.as_ref());
            let Some((path, entry)) = path.and_then(|path| Some((path, self.files.entry(path)?))) else {
                all.push(0);
                continue;
            };
            all.push(1);
            all.extend(x509::sha256(path.as_os_str().as_encoded_bytes()));
            match entry {
                Entry::File(file) => {
                    all.extend(x509::sha256(&file.bytes));
                    all.extend(file.mode.to_be_bytes());
                }
                Entry::Directory(_) => all.push(2),
                Entry::Unreadable(reason) => all.extend(x509::sha256(reason.as_bytes())),
            }
        }
        x509::sha256(&all)
    }

    /// The OCSP response, if there is a file with one.
    ///
    /// # Errors
    /// A file that a `crt-list` names is missing, or the issuer's is no certificate.
    fn staple(
        &self,
        leaf: &Certificate<'_>,
        chain: &[CertificateDer<'static>],
        provider: &CryptoProvider,
    ) -> Result<Option<StapleFile>, Box<Diagnostic>> {
        let own_issuer = match &self.own.issuer {
            Some(issuer) => Some(self.issuer(&issuer.value, &issuer.at)?),
            None => None,
        };
        let (path, file) = match (&self.own.ocsp, &self.beside.ocsp) {
            (Some(At { value, at }), _) => match self.files.entry(value) {
                Some(Entry::File(file)) => (value, file),
                other => return Err(Box::new(unreadable(value, other, at))),
            },
            (None, Some(path)) => match self.files.entry(path) {
                Some(Entry::File(file)) => (path, file),
                Some(Entry::Unreadable(reason)) => {
                    let content = Err(format!("cannot be read: {reason}"));
                    return Ok(Some(StapleFile { path: path.clone(), content }));
                }
                Some(Entry::Directory(_)) | None => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        let algorithms = &provider.signature_verification_algorithms;
        let has_signed = |der: &CertificateDer<'_>| {
            let issuer = Certificate::parse(der);
            issuer.is_some_and(|issuer| is_signed_by(leaf.der(), issuer.key().raw, algorithms) == Some(true))
        };
        let beside = self.beside.issuer.as_ref().filter(|path| self.files.entry(path).is_some());
        let beside = beside.filter(|_| own_issuer.is_none());
        let (beside, damage) = match beside.map(|path| self.issuer(path, self.at)).transpose() {
            Ok(beside) => (beside, None),
            Err(diagnostic) => (None, Some(diagnostic.message)),
        };
        let issuers = self.issuers.chain(leaf, provider).unwrap_or_default();
        let mut candidates = own_issuer.iter().chain(&chain[1..]).chain(&beside).chain(issuers);
        let content = match candidates.find(|der| has_signed(der)) {
            Some(issuer) => Staple::read(&file.bytes, leaf, issuer, algorithms),
            None => {
                let why = damage.unwrap_or_else(|| "the certificate of the issuer is not there".to_owned());
                Err(format!("cannot be checked: {why}"))
            }
        };
        Ok(Some(StapleFile { path: path.clone(), content }))
    }

    /// The first certificate of a file.
    fn issuer(&self, path: &Path, at: &Location) -> Result<CertificateDer<'static>, Box<Diagnostic>> {
        let Some(Entry::File(file)) = self.files.entry(path) else {
            return Err(Box::new(unreadable(path, self.files.entry(path), at)));
        };
        let pem = parse_pem(path, &file.bytes, at, "E222")?;
        let message = || format!("no certificate in '{}'", path.display());
        pem.certificates.into_iter().next().ok_or_else(|| Box::new(Diagnostic::error("E223", at, message())))
    }

    /// The key, the file where it was, and the mode of that file.
    fn private_key(&self, pem: &mut Pem) -> Result<(PrivateKeyDer<'static>, PathBuf, u32), Box<Diagnostic>> {
        if let Some(At { value: path, at }) = &self.own.key {
            let Some(Entry::File(file)) = self.files.entry(path) else {
                return Err(Box::new(unreadable(path, self.files.entry(path), at)));
            };
            let mut named = parse_pem(path, &file.bytes, at, "E222")?;
            return match self.only_key(path, &mut named)? {
                Some(key) => Ok((key, path.clone(), file.mode)),
                None => Err(Box::new(Diagnostic::error("E220", at, format!("no private key in '{}'", path.display())))),
            };
        }
        if let Some(key) = self.only_key(self.path, pem)? {
            return Ok((key, self.path.to_owned(), self.file.mode));
        }
        let count = match pem.certificates.len() {
            1 => "1 certificate".to_owned(),
            count => format!("{count} certificates"),
        };
        let message = format!("no private key for '{}'", self.path.display());
        let error = Diagnostic::error("E220", self.at, message);
        let Some(key_path) = &self.beside.key else {
            let note = format!("looked in the file itself ({count}, 0 keys)");
            return Err(Box::new(
                error.note(note).note("'ssl-load-extra-files' leaves out 'key': no other file is looked at"),
            ));
        };
        let beside = match self.files.entry(key_path) {
            Some(Entry::File(file)) => {
                let mut beside = parse_pem(key_path, &file.bytes, self.at, "E222")?;
                if let Some(key) = self.only_key(key_path, &mut beside)? {
                    return Ok((key, key_path.clone(), file.mode));
                }
                "has no key".to_owned()
            }
            None => "does not exist".to_owned(),
            Some(Entry::Directory(_)) => "is a directory".to_owned(),
            Some(Entry::Unreadable(reason)) => reason.clone(),
        };
        let note = format!("looked in the file itself ({count}, 0 keys) and in '{}' ({beside})", key_path.display());
        Err(Box::new(error.note(note)))
    }

    fn only_key(&self, path: &Path, pem: &mut Pem) -> Result<Option<PrivateKeyDer<'static>>, Box<Diagnostic>> {
        let name = path.display();
        if pem.keys.len() + pem.encrypted_keys > 1 {
            let count = pem.keys.len() + pem.encrypted_keys;
            let message = format!("{count} private keys in '{name}', one is needed");
            return Err(Box::new(Diagnostic::error("E224", self.at, message)));
        }
        if pem.encrypted_keys > 0 {
            let message =
                format!("the private key in '{name}' is encrypted, and there is nobody to ask for a password");
            let note = format!("decrypt it: openssl pkey -in {name} -out {name}.plain");
            return Err(Box::new(Diagnostic::error("E225", self.at, message).note(note)));
        }
        Ok(pem.keys.pop())
    }

    /// The public half of `key` must be the one in the certificate. A key that cannot tell is refused as well.
    fn check_key(
        &self,
        certificate: &Certificate<'_>,
        chain: &[CertificateDer<'static>],
        key: &dyn SigningKey,
    ) -> Result<(), Box<Diagnostic>> {
        let Some(public) = key.public_key() else {
            return Err(self.error("E226", "the private key does not tell whether it belongs to the certificate"));
        };
        if public.as_ref() == certificate.key().raw {
            return Ok(());
        }
        let subject = certificate.printed_subject();
        let mut diagnostic =
            self.error("E226", &format!("the private key does not belong to the certificate \"{subject}\""));
        let belongs =
            |der: &CertificateDer<'_>| Certificate::parse(der).is_some_and(|other| other.key().raw == public.as_ref());
        if let Some(index) = chain.iter().position(belongs) {
            let place = index + 1;
            diagnostic.notes.push(format!("it belongs to certificate {place} of the file: that one must come first"));
        }
        Err(diagnostic)
    }

    fn no_certificate(&self, pem: &Pem) -> Box<Diagnostic> {
        let mut found: Vec<String> = pem.others.clone();
        if !pem.keys.is_empty() || pem.encrypted_keys > 0 {
            found.push("PRIVATE KEY".to_owned());
        }
        if !pem.crls.is_empty() {
            found.push("X509 CRL".to_owned());
        }
        let message = format!("no certificate in '{}'", self.path.display());
        Box::new(Diagnostic::error("E223", self.at, message).note(format!("it has only: {}", found.join(", "))))
    }

    fn error(&self, code: &'static str, what: &str) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(code, self.at, format!("'{}': {what}", self.path.display())))
    }
}

#[cfg(test)]
mod tests;
