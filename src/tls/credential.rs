//! [`Credential`]: a certificate chain with its key, as `crt` names it (HAProxy manual 5.1, `crt`).

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};

use super::pem::{self, Pem};
use super::x509::{self, Certificate, KeyType};
use crate::conf::crt_list;
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{BindTls, Crt, CrtKind, Location, SniPolicy};
use crate::material::{Entry, FileBytes, Files};

/// A certificate chain with its key. `Debug` shows no key.
pub(super) struct Credential {
    path: PathBuf,
    facts: Facts,
    certified: Arc<CertifiedKey>,
    /// The file that holds the key, if everybody may read it.
    exposed_key: Option<PathBuf>,
    /// SHA-256 of all that it was made from.
    source: [u8; 32],
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
    /// Algorithm that signed it: `ecdsa-with-SHA256`, `RSA-SHA256`.
    pub server_sig_alg: &'static str,
    /// Its key: `EC256`, `RSA2048`.
    pub server_key_alg: String,
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

    /// Chain and key for rustls.
    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Can it sign in a way that a client with these signature schemes understands?
    pub(super) fn suits(&self, schemes: &[rustls::SignatureScheme]) -> bool {
        self.certified.key.choose_scheme(schemes).is_some()
    }

    /// One line for the log: `certificate "/CN=a.example" serial 0A expires 2027-01-01 EC256 from '/etc/a.pem'`.
    pub(super) fn describe(&self) -> String {
        let Facts { subject, serial, not_after, server_key_alg, .. } = &self.facts;
        let (expiry, path) = (x509::date(*not_after), self.path.display());
        format!("certificate \"{subject}\" serial {serial} expires {expiry} {server_key_alg} from '{path}'")
    }

    /// What is wrong with it at `now`, without being an error.
    fn warnings(&self, at: &Location, now: UnixTime) -> Vec<Diagnostic> {
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
        warnings
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("path", &self.path).field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// The files that may stand beside the certificate file `path`: its key (`.key`) and its OCSP response (`.ocsp`).
fn companions(path: &Path) -> [PathBuf; 2] {
    [with_suffix(path, ".key"), with_suffix(path, ".ocsp")]
}

/// Does a file of this name in a `crt` directory hold a certificate?
fn is_certificate_name(name: &str) -> bool {
    !name.starts_with('.') && !["key", "issuer", "ocsp", "sctl"].iter().any(|skipped| has_extension(name, skipped))
}

pub(super) fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// A certificate of a `bind` line.
pub(super) struct Listed {
    pub credential: Arc<Credential>,
    pub role: Role,
}

/// What a `bind` line or a `crt-list` says about a certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct Role {
    /// `default-crt`, or the filter `*`.
    pub default: bool,
    /// In the place of the certificate's own names.
    pub names: Option<Vec<String>>,
    /// What a wildcard among the names does not mean.
    pub excluded: Vec<String>,
    /// Settings of its own.
    pub tls: Option<Box<BindTls>>,
}

/// Loads everything that the `crt` words of `bind` name, in their order. What did not change since `before` is taken from
/// there without parsing it again.
pub(super) fn load(
    bind: &BindTls,
    files: &Files,
    provider: &CryptoProvider,
    now: UnixTime,
    before: &[Arc<Credential>],
) -> (Vec<Listed>, Vec<Diagnostic>) {
    let before: HashMap<&Path, &Arc<Credential>> = before.iter().map(|known| (known.path(), known)).collect();
    let mut credentials = Vec::new();
    let mut diagnostics = Vec::new();
    let mut load_file =
        |path: &Path, file: &FileBytes, (at, role): (&Location, Role), diagnostics: &mut Vec<Diagnostic>| {
            let source = Source { path, file, files, at };
            match source.load(provider, before.get(path).copied()) {
                Ok(credential) => {
                    diagnostics.extend(credential.warnings(at, now));
                    diagnostics.extend(source.unused_staple());
                    credentials.push(Listed { credential, role });
                }
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
        };
    for Crt { file: crt, kind } in &bind.crt {
        let role = Role { default: *kind == CrtKind::Default, ..Role::default() };
        match files.entry(&crt.value) {
            Some(Entry::File(list)) if *kind == CrtKind::List => {
                let (entries, found) = crt_list::parse(&crt.value, &list.bytes, bind);
                let nothing = entries.is_empty() && found.is_empty();
                diagnostics.extend(found);
                for entry in entries {
                    let crt_list::Entry { file: crt, tls, names, excluded, default } = entry;
                    let role = Role { default, names, excluded, tls: tls.map(Box::new) };
                    match files.entry(&crt.value) {
                        Some(Entry::File(file)) => load_file(&crt.value, file, (&crt.at, role), &mut diagnostics),
                        other => diagnostics.push(unreadable(&crt.value, other, &crt.at)),
                    }
                }
                if nothing && bind.sni != SniPolicy::Strict {
                    let message = format!("no certificate in the list '{}'", crt.value.display());
                    let strict = "an empty list is accepted with 'strict-sni'";
                    diagnostics.push(Diagnostic::error("E228", &crt.at, message).note(strict));
                }
            }
            Some(Entry::File(file)) => load_file(&crt.value, file, (&crt.at, role), &mut diagnostics),
            other if *kind == CrtKind::List => diagnostics.push(unreadable(&crt.value, other, &crt.at)),
            Some(Entry::Directory(names)) => {
                let mut empty = true;
                for name in names.iter().filter(|name| is_certificate_name(name)) {
                    empty = false;
                    let path = crt.value.join(name);
                    match files.entry(&path) {
                        Some(Entry::File(file)) => load_file(&path, file, (&crt.at, role.clone()), &mut diagnostics),
                        other => diagnostics.push(unreadable(&path, other, &crt.at)),
                    }
                }
                if empty && bind.sni != SniPolicy::Strict {
                    let message = format!("no certificate in the directory '{}'", crt.value.display());
                    let hint = "files that begin with a dot or end in .key .issuer .ocsp .sctl do not count";
                    let strict = "an empty directory is accepted with 'strict-sni'";
                    diagnostics.push(Diagnostic::error("E228", &crt.at, message).note(hint).note(strict));
                }
            }
            other => diagnostics.push(unreadable(&crt.value, other, &crt.at)),
        }
    }
    (credentials, diagnostics)
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

/// One certificate file and what stands beside it.
struct Source<'a> {
    path: &'a Path,
    file: &'a FileBytes,
    files: &'a Files,
    at: &'a Location,
}

impl Source<'_> {
    fn load(
        &self,
        provider: &CryptoProvider,
        before: Option<&Arc<Credential>>,
    ) -> Result<Arc<Credential>, Box<Diagnostic>> {
        let digest = self.digest();
        if let Some(known) = before.filter(|known| known.source == digest) {
            return Ok(known.clone());
        }
        let mut pem = parse_pem(self.path, &self.file.bytes, self.at, "E222")?;
        let Some(leaf) = pem.certificates.first() else {
            return Err(self.no_certificate(&pem));
        };
        let leaf = leaf.clone();
        let Some(certificate) = Certificate::parse(&leaf) else {
            return Err(self.error("E227", "the first certificate is damaged"));
        };
        let (key, key_path, mode) = self.private_key(&mut pem)?;
        let key = provider.key_provider.load_private_key(key).map_err(|_| {
            let mut diagnostic = self.error("E227", "the private key cannot be used");
            diagnostic
                .notes
                .push("usable are RSA of 2048 to 8192 bits, EC P-256, P-384 and P-521, and Ed25519".to_owned());
            diagnostic
        })?;
        self.check_key(&certificate, &pem.certificates, &*key)?;
        let (not_before, not_after) = certificate.validity();
        let facts = Facts {
            names: certificate.server_names(),
            subject: certificate.printed_subject(),
            serial: certificate.printed_serial(),
            not_before,
            not_after,
            key_type: certificate.key_type(),
            server_sig_alg: certificate.signature_algorithm(),
            server_key_alg: certificate.key_summary(),
        };
        Ok(Arc::new(Credential {
            path: self.path.to_owned(),
            facts,
            certified: Arc::new(CertifiedKey::new(pem.certificates, key)),
            exposed_key: (mode & 0o004 != 0).then_some(key_path),
            source: digest,
        }))
    }

    /// Everything that [`Self::load`] looks at.
    fn digest(&self) -> [u8; 32] {
        let [key_path, _] = companions(self.path);
        let mut all = x509::sha256(&self.file.bytes).to_vec();
        all.extend(self.file.mode.to_be_bytes());
        if let Some(Entry::File(key)) = self.files.entry(&key_path) {
            all.extend(x509::sha256(&key.bytes));
            all.extend(key.mode.to_be_bytes());
        }
        x509::sha256(&all)
    }

    /// The key, the file where it was, and the mode of that file.
    fn private_key(&self, pem: &mut Pem) -> Result<(PrivateKeyDer<'static>, PathBuf, u32), Box<Diagnostic>> {
        if let Some(key) = self.only_key(self.path, pem)? {
            return Ok((key, self.path.to_owned(), self.file.mode));
        }
        let [key_path, _] = companions(self.path);
        let beside = match self.files.entry(&key_path) {
            Some(Entry::File(file)) => {
                let mut beside = parse_pem(&key_path, &file.bytes, self.at, "E222")?;
                if let Some(key) = self.only_key(&key_path, &mut beside)? {
                    return Ok((key, key_path, file.mode));
                }
                "has no key".to_owned()
            }
            None => "does not exist".to_owned(),
            Some(Entry::Directory(_)) => "is a directory".to_owned(),
            Some(Entry::Unreadable(reason)) => reason.clone(),
        };
        let count = match pem.certificates.len() {
            1 => "1 certificate".to_owned(),
            count => format!("{count} certificates"),
        };
        let message = format!("no private key for '{}'", self.path.display());
        let note = format!("looked in the file itself ({count}, 0 keys) and in '{}' ({beside})", key_path.display());
        Err(Box::new(Diagnostic::error("E220", self.at, message).note(note)))
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

    /// Stapling needs the response to be checked (signature, status, dates); until that exists, none is sent.
    fn unused_staple(&self) -> Option<Diagnostic> {
        let [_, staple] = companions(self.path);
        let exists = matches!(self.files.entry(&staple), Some(Entry::File(_)));
        exists.then(|| {
            let message = format!("the OCSP response '{}' is not used", staple.display());
            Diagnostic::notice("N224", self.at, message).note("this version does not staple OCSP responses")
        })
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
