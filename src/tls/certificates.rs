//! The certificates of a `bind` line: everything that its `crt`, `default-crt` and `crt-list` name (HAProxy manual, 5.1).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::credential::{Credential, Source, parse_pem, unreadable};
use super::der::is_signed_by;
use super::x509::{self, Certificate};
use crate::conf::certificate_files::{CertificateFiles, OwnFiles, is_certificate_name};
use crate::conf::crt_list;
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{At, BindTls, Crt, CrtKind, Location, SniPolicy};
use crate::material::{Entry, FileBytes, Files};

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

/// What all `bind` lines of one generation share: where files are, chains of issuers, and every certificate by what it was
/// made from, those of the generation before included.
pub struct Store<'a> {
    files: &'a Files,
    settings: &'a CertificateFiles,
    issuers: Issuers,
    known: HashMap<[u8; 32], Arc<Credential>>,
}

impl<'a> Store<'a> {
    /// Without certificates. Also what is wrong with `issuers-chain-path`.
    pub fn new(settings: &'a CertificateFiles, files: &'a Files) -> (Self, Vec<Diagnostic>) {
        let (issuers, diagnostics) = Issuers::load(settings.issuers.as_ref(), files);
        (Self { files, settings, issuers, known: HashMap::new() }, diagnostics)
    }

    /// What the configuration names.
    pub(super) fn files(&self) -> &'a Files {
        self.files
    }

    /// Certificates that need not be made again if they are asked for.
    pub(super) fn remember(&mut self, credentials: &[Arc<Credential>]) {
        self.known.extend(credentials.iter().map(|credential| (*credential.source(), credential.clone())));
    }
}

/// Loads everything that the `crt` words of `bind` name, in their order.
pub(super) fn load(
    bind: &BindTls,
    store: &mut Store<'_>,
    provider: &CryptoProvider,
    now: UnixTime,
) -> (Vec<Listed>, Vec<Diagnostic>) {
    let mut loading = Loading { store, provider, now, listed: Vec::new(), diagnostics: Vec::new() };
    let files = loading.store.files;
    for Crt { file: crt, kind } in &bind.crt {
        let role = Role { default: *kind == CrtKind::Default, ..Role::default() };
        match files.entry(&crt.value) {
            Some(Entry::File(list)) if *kind == CrtKind::List => loading.list(crt, list, bind),
            other if *kind == CrtKind::List => loading.diagnostics.push(unreadable(&crt.value, other, &crt.at)),
            Some(Entry::Directory(names)) => {
                let mut empty = true;
                for name in names.iter().filter(|name| is_certificate_name(name)) {
                    empty = false;
                    loading.certificate(&crt.value.join(name), &crt.at, role.clone(), &OwnFiles::default());
                }
                if empty && bind.sni != SniPolicy::Strict {
                    let message = format!("no certificate in the directory '{}'", crt.value.display());
                    let hint = "files that begin with a dot or end in .key .issuer .ocsp .sctl do not count";
                    let strict = "an empty directory is accepted with 'strict-sni'";
                    loading.diagnostics.push(Diagnostic::error("E228", &crt.at, message).note(hint).note(strict));
                }
            }
            _ => loading.certificate(&crt.value, &crt.at, role, &OwnFiles::default()),
        }
    }
    for entry in &bind.entries {
        loading.entry(entry.clone());
    }
    (loading.listed, loading.diagnostics)
}

struct Loading<'a, 'b> {
    store: &'a mut Store<'b>,
    provider: &'a CryptoProvider,
    now: UnixTime,
    listed: Vec<Listed>,
    diagnostics: Vec<Diagnostic>,
}

impl Loading<'_, '_> {
    fn list(&mut self, crt: &At<PathBuf>, list: &FileBytes, bind: &BindTls) {
        let (entries, found) = crt_list::parse(&crt.value, &list.bytes, bind, self.store.settings);
        let nothing = entries.is_empty() && found.is_empty();
        self.diagnostics.extend(found);
        entries.into_iter().for_each(|entry| self.entry(entry));
        if nothing && bind.sni != SniPolicy::Strict {
            let message = format!("no certificate in the list '{}'", crt.value.display());
            let strict = "an empty list is accepted with 'strict-sni'";
            self.diagnostics.push(Diagnostic::error("E228", &crt.at, message).note(strict));
        }
    }

    fn entry(&mut self, entry: crt_list::Entry) {
        let crt_list::Entry { file, tls, names, excluded, default, own } = entry;
        let role = Role { default, names, excluded, tls: tls.map(Box::new) };
        self.certificate(&file.value, &file.at, role, &own);
    }

    /// The certificate at `path`; where nothing is, those of a bundle.
    fn certificate(&mut self, path: &Path, at: &Location, role: Role, own: &OwnFiles) {
        let files = self.store.files;
        match files.entry(path) {
            Some(Entry::File(file)) => self.load(path, file, at, role, own),
            other => {
                let bundle = self.store.settings.bundle(path);
                let mut found = false;
                for path in &bundle {
                    if let Some(Entry::File(file)) = files.entry(path) {
                        found = true;
                        self.load(path, file, at, role.clone(), own);
                    }
                }
                if !found {
                    self.diagnostics.push(unreadable(path, other, at));
                }
            }
        }
    }

    fn load(&mut self, path: &Path, file: &FileBytes, at: &Location, role: Role, own: &OwnFiles) {
        let Store { files, settings, issuers, known } = &mut *self.store;
        let beside = settings.beside(path);
        let source =
            Source { path, file, own, beside, issuers, skips_self_issued: settings.skips_self_issued, files, at };
        let digest = source.digest();
        let credential = match known.get(&digest) {
            Some(credential) => credential.clone(),
            None => match source.load(self.provider, digest) {
                Ok(credential) => {
                    known.insert(digest, credential.clone());
                    credential
                }
                Err(diagnostic) => return self.diagnostics.push(*diagnostic),
            },
        };
        self.diagnostics.extend(credential.warnings(at, self.now));
        self.listed.push(Listed { credential, role });
    }
}

/// `issuers-chain-path`: chains for certificates whose file has none, by the name of the issuer that is first in them.
#[derive(Debug, Default)]
pub(super) struct Issuers {
    chains: HashMap<Vec<u8>, Vec<Vec<CertificateDer<'static>>>>,
    /// Of all of them.
    digest: [u8; 32],
}

impl Issuers {
    fn load(directory: Option<&At<PathBuf>>, files: &Files) -> (Self, Vec<Diagnostic>) {
        let (mut issuers, mut diagnostics) = (Self::default(), Vec::new());
        let Some(At { value: directory, at }) = directory else {
            return (issuers, diagnostics);
        };
        let Some(Entry::Directory(names)) = files.entry(directory) else {
            diagnostics.push(unreadable(directory, files.entry(directory), at));
            return (issuers, diagnostics);
        };
        let mut all = Vec::new();
        for name in names {
            let path = directory.join(name);
            let Some(Entry::File(file)) = files.entry(&path) else {
                diagnostics.push(unreadable(&path, files.entry(&path), at));
                continue;
            };
            // What serves to complete chains can be left out; HAProxy only warns, too.
            let pem = match parse_pem(&path, &file.bytes, at, "W225") {
                Ok(pem) => pem,
                Err(diagnostic) => {
                    let Diagnostic { message, notes, .. } = *diagnostic;
                    let warning = Diagnostic::warning("W225", at, format!("{message}; no chain is taken from it"));
                    diagnostics.push(notes.into_iter().fold(warning, |warning, note| warning.note(note)));
                    continue;
                }
            };
            let subject = pem
                .certificates
                .first()
                .and_then(|first| Certificate::parse(first))
                .map(|first| first.raw_subject().to_vec());
            let Some(subject) = subject else {
                let message = format!("no certificate in '{}'; no chain is taken from it", path.display());
                diagnostics.push(Diagnostic::warning("W225", at, message));
                continue;
            };
            all.extend(x509::sha256(&file.bytes));
            issuers.chains.entry(subject).or_default().push(pem.certificates);
        }
        issuers.digest = x509::sha256(&all);
        (issuers, diagnostics)
    }

    /// Of all chains.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The chain that begins with the issuer of `leaf`: the one of that name whose key has signed it.
    pub(super) fn chain(
        &self,
        leaf: &Certificate<'_>,
        provider: &CryptoProvider,
    ) -> Option<&[CertificateDer<'static>]> {
        let named = self.chains.get(leaf.raw_issuer())?;
        let has_signed = |chain: &&Vec<CertificateDer<'static>>| {
            let key = chain.first().and_then(|first| Certificate::parse(first)).map(|first| first.key().raw.to_vec());
            key.is_some_and(|key| {
                is_signed_by(leaf.der(), &key, &provider.signature_verification_algorithms) == Some(true)
            })
        };
        named.iter().find(has_signed).map(Vec::as_slice)
    }
}
