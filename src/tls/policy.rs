//! [`TlsPolicy`]: everything that TLS on one `bind` line needs, built from the model and the files' bytes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

pub use super::certificates::Store;
use super::certificates::{self, Listed, Role};
use super::client_auth::{ClientPolicy, ClientVerifier, PolicyDigest};
use super::credential::unreadable;
use super::exceptions::Tolerance;
use super::names::{Chosen, SniTable, Wish};
use super::sessions::CachedSessions;
use super::ticket_file::FileKeys;
use super::tickets::{ScopeTime, Sealer, TicketKeys, Ticketer};
use super::trust::Trust;
use super::x509;
use crate::conf::ciphers::{Group, Suite12, Suite13};
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{At, BindTls, Location, RecordLimits, TlsVersion, Verify};
use crate::material::{Entry, Files};

/// TLS on one `bind` line: certificates, and the settings that go with each. Immutable.
#[derive(Debug)]
pub struct TlsPolicy {
    pub(super) names: Arc<SniTable>,
    records: RecordLimits,
    suites: Arc<[Vec<SupportedCipherSuite>]>,
    /// The settings of the line, and then those of each entry of its lists that has its own.
    pub(super) entries: Vec<EntryPolicy>,
}

/// The settings of a `bind` line, or of one entry of a `crt-list`: client authentication, and the rustls configurations.
#[derive(Debug)]
pub(super) struct EntryPolicy {
    client: ClientPolicy,
    alpn: Vec<Vec<u8>>,
    /// By (with ALPN, tickets honoured).
    configs: [[Arc<ServerConfig>; 2]; 2],
}

impl EntryPolicy {
    /// Client authentication, for [`super::client_auth::judge`].
    pub(super) fn client(&self) -> &ClientPolicy {
        &self.client
    }

    /// Application protocols in order of preference.
    pub(super) fn alpn(&self) -> &[Vec<u8>] {
        &self.alpn
    }

    /// Does rustls find a protocol if it is told of ours? A client that offers none does not mind. Without overlap rustls
    /// would refuse (RFC 7301, 3.2), where HAProxy goes on without ALPN.
    pub(super) fn alpn_overlaps(&self, hello: &ClientHello<'_>) -> bool {
        hello.alpn().is_none_or(|mut offered| offered.any(|protocol| self.alpn.iter().any(|ours| ours == protocol)))
    }

    /// The configuration for a connection. With `honour_tickets` false every handshake is a full one, which gives a client
    /// that was refused after a resumption the chance to show its certificate again.
    pub(super) fn config(&self, alpn_overlaps: bool, honour_tickets: bool) -> &Arc<ServerConfig> {
        &self.configs[usize::from(alpn_overlaps)][usize::from(honour_tickets)]
    }
}

impl TlsPolicy {
    /// The settings of this number, which came from [`TlsPolicy::choose`] of the same policy.
    pub(super) fn entry(&self, number: usize) -> &EntryPolicy {
        &self.entries[number]
    }

    /// How long records may be.
    pub(super) fn records(&self) -> RecordLimits {
        self.records
    }

    /// The certificate that this client gets, the same that rustls will ask for, and the settings that go with it. `None`:
    /// alert unrecognized_name.
    pub(super) fn choose(&self, wish: Wish<'_>) -> Option<Chosen<'_>> {
        self.names.choose(wish, &self.suites)
    }

    /// Lets `store` have its certificates.
    pub fn remember_in(&self, store: &mut Store<'_>) {
        store.remember(self.names.credentials());
    }

    /// Certificates by name.
    pub(super) fn names(&self) -> &SniTable {
        &self.names
    }

    /// Whom the settings believe about clients.
    pub(super) fn trusts(&self) -> impl Iterator<Item = &Trust> {
        self.entries.iter().filter_map(|entry| entry.client.verifier()).map(|verifier| verifier.trust())
    }

    /// Every file that ends on a day, and that day. A file of several stands there several times.
    pub fn expiries(&self) -> impl Iterator<Item = Expiry<'_>> {
        let certificates = self.names.credentials().iter().map(|credential| Expiry {
            of: Expiring::Certificate,
            path: credential.path(),
            at: credential.facts().not_after,
        });
        let stapled = self.names.credentials().iter().filter_map(|credential| credential.stapled());
        let staples = stapled.map(|(path, at)| Expiry { of: Expiring::Staple, path, at });
        let verifiers = self.entries.iter().filter_map(|entry| entry.client.verifier());
        certificates.chain(staples).chain(verifiers.flat_map(|verifier| verifier.trust().expiries()))
    }

    /// SHA-256 of every certificate that may be shown to a client.
    pub fn fingerprints(&self) -> impl Iterator<Item = [u8; 32]> {
        self.names.credentials().iter().map(|credential| credential.facts().server.sha256)
    }

    /// Lines for the log: certificates, CAs, CRLs.
    pub fn describe(&self) -> Vec<String> {
        let verifiers = self.entries.iter().filter_map(|entry| entry.client.verifier());
        let authorities = verifiers.flat_map(|verifier| verifier.trust().describe());
        // Entries may share their CAs.
        let mut seen = HashSet::new();
        let authorities = authorities.filter(|line| seen.insert(line.clone()));
        self.names.credentials().iter().map(|credential| credential.describe()).chain(authorities).collect()
    }
}

/// What ends on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiring {
    /// A certificate of `crt`.
    Certificate,
    /// The OCSP response of one.
    Staple,
    /// A CA of `ca-file`.
    ClientCa,
    /// A revocation list of `crl-file`: its next update.
    Crl,
}

/// When something in a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry<'a> {
    /// What it is.
    pub of: Expiring,
    /// The file.
    pub path: &'a Path,
    /// The end.
    pub at: UnixTime,
}

/// What `global` says about sessions and records.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `tune.ssl.lifetime`: how long sessions may be resumed.
    pub lifetime: Duration,
    /// `tune.ssl.cachesize`: how many are kept here.
    pub blocks: u32,
    /// How long records may be.
    pub records: RecordLimits,
}

/// Builds TLS for one `bind` line. `listener` names it uniquely in the configuration: sessions do not resume on another one.
/// Certificates that `store` knows are taken from there.
///
/// Answers `None` if there is an error among the diagnostics.
pub fn build(
    bind: &BindTls,
    store: &mut Store<'_>,
    tickets: &Arc<TicketKeys>,
    limits: Limits,
    listener: &str,
    now: UnixTime,
) -> (Option<TlsPolicy>, Vec<Diagnostic>) {
    let nowhere = Location { file: listener.into(), line: 0, column: 0 };
    let first = bind.crt.first().map(|crt| &crt.file).or(bind.entries.first().map(|entry| &entry.file));
    let at = first.map_or(&nowhere, |file| &file.at);
    let base = Arc::new(provider(bind));
    let (listed, mut diagnostics) = certificates::load(bind, store, &base, now);
    if first.is_none() {
        diagnostics.push(Diagnostic::error("E228", at, format!("no 'crt' for {listener}")));
    }
    // In the order in which the table of names counts them.
    let mut settings = vec![(bind.clone(), listener.to_owned())];
    for listed in &listed {
        if let Some(tls) = &listed.role.tls {
            settings.push(((**tls).clone(), entry_name(listener, listed, tls)));
        }
    }
    diagnostics.extend(different_demands(bind, &listed, at));
    let (names, shadows) = SniTable::build(listed, bind.sni, bind.last_crt_wins, at);
    diagnostics.extend(shadows);
    let mut clients = Vec::new();
    for (tls, name) in &settings {
        let provider = Arc::new(provider(tls));
        if let Some(client) = client_policy(tls, store.files(), &provider, name, now, at, &mut diagnostics) {
            clients.push((tls, provider, client));
        }
    }
    let sealer = match bind.ticket_keys.as_ref().map(|file| ticket_keys(file, store.files(), &mut diagnostics)) {
        Some(Some(keys)) => Sealer::File(Arc::new(keys)),
        _ => Sealer::Process(tickets.clone()),
    };
    if clients.len() < settings.len() || diagnostics.iter().any(Diagnostic::is_error) {
        return (None, diagnostics);
    }
    let names = Arc::new(names);
    let suites: Arc<[_]> = clients.iter().map(|(_, provider, _)| provider.cipher_suites.clone()).collect();
    let mut entries = Vec::new();
    for (number, (tls, provider, client)) in clients.into_iter().enumerate() {
        let config = |alpn: &[Vec<u8>], honoured| -> Result<_, rustls::Error> {
            let resolver = Resolver { names: names.clone(), suites: suites.clone(), entry: number };
            let mut config = server_config(tls, &provider, &client, resolver, alpn)?;
            let Limits { lifetime, blocks, records } = limits;
            if records.all < RecordLimits::default().all {
                // rustls counts the header.
                config.max_fragment_size = Some(records.all + 5);
            }
            if tls.tickets {
                config.ticketer = Arc::new(Ticketer::new(sealer.clone(), client.digest().0, lifetime, honoured));
            } else if blocks > 0 {
                let (cache, digest) = (tickets.cache().clone(), client.digest().0);
                config.session_storage = Arc::new(CachedSessions::new(cache, digest, lifetime, honoured, blocks));
            } else {
                config.send_tls13_tickets = 0;
            }
            Ok(Arc::new(config))
        };
        let configs = || -> Result<_, rustls::Error> {
            let alpn = &tls.alpn;
            Ok([[config(&[], false)?, config(&[], true)?], [config(alpn, false)?, config(alpn, true)?]])
        };
        match configs() {
            Ok(configs) => entries.push(EntryPolicy { alpn: tls.alpn.clone(), configs, client }),
            Err(error) => {
                diagnostics.push(Diagnostic::error("E250", at, format!("TLS cannot be set up: {error}")));
                return (None, diagnostics);
            }
        }
    }
    (Some(TlsPolicy { names, records: limits.records, suites, entries }), diagnostics)
}

/// A client that may choose the name that it asks for may choose the entry that demands the least.
fn different_demands(bind: &BindTls, listed: &[Listed], at: &Location) -> Option<Diagnostic> {
    let mut demands = listed.iter().map(|listed| listed.role.tls.as_ref().map_or(bind.verify, |tls| tls.verify));
    let first = demands.next()?;
    demands.any(|other| other != first).then(|| {
        let message = "entries of the list demand different client certificates, and a client chooses its entry by the \
                       name that it asks for";
        let note = "all of them lead to the same backend; where that matters use a 'bind' line for each";
        Diagnostic::notice("N213", at, message).note(note)
    })
}

/// What tells the sessions of an entry from those of the line and of every other entry: all that it says.
fn entry_name(listener: &str, listed: &Listed, tls: &BindTls) -> String {
    let Role { default, names, excluded, .. } = &listed.role;
    let BindTls { alpn, min_version, max_version, suites12, suites13, groups, .. } = tls;
    let certificate = (listed.credential.path(), names, excluded, default);
    format!("{listener} {:?}", (certificate, alpn, min_version, max_version, suites12, suites13, groups))
}

/// `tls-ticket-keys`; `None` after an error.
fn ticket_keys(file: &At<PathBuf>, files: &Files, diagnostics: &mut Vec<Diagnostic>) -> Option<FileKeys> {
    let At { value: path, at } = file;
    let Some(Entry::File(content)) = files.entry(path) else {
        diagnostics.push(unreadable(path, files.entry(path), at));
        return None;
    };
    let path = path.display();
    if content.mode & 0o004 != 0 {
        let message = format!("everybody may read the ticket keys in '{path}'");
        diagnostics.push(Diagnostic::warning("W226", at, message).note(format!("chmod o-r {path}")));
    }
    match FileKeys::parse(&content.bytes) {
        Ok(keys) => Some(keys),
        Err(reason) => {
            let note = "a key for each line: openssl rand -base64 48";
            diagnostics.push(Diagnostic::error("E260", at, format!("'{path}' {reason}")).note(note));
            None
        }
    }
}

/// Client authentication of the line; `None` after an error.
fn client_policy(
    bind: &BindTls,
    files: &Files,
    provider: &Arc<CryptoProvider>,
    listener: &str,
    now: UnixTime,
    at: &Location,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ClientPolicy> {
    let required = match bind.verify {
        Verify::None => return Some(ClientPolicy::none(digest(listener, bind, &[0; 32]))),
        Verify::Optional => false,
        Verify::Required => true,
    };
    let Some(ca_file) = bind.ca_file.as_ref().or(bind.ca_verify_file.as_ref()) else {
        let message = "'verify' needs 'ca-file' (or 'ca-verify-file'): nobody could be verified";
        diagnostics.push(Diagnostic::error("E211", at, message));
        return None;
    };
    let crl_file = bind.crl_file.as_ref();
    let (trust, found) = Trust::load(bind, files, &provider.signature_verification_algorithms);
    diagnostics.extend(found);
    let trust = trust?;
    let crl_at = crl_file.map_or(&ca_file.at, |crl_file| &crl_file.at);
    let digest = digest(listener, bind, &trust.digest());
    let tolerance = Tolerance { of_leaf: bind.ignored_of_leaf, of_ca: bind.ignored_of_ca };
    diagnostics.extend(trust.diagnostics(tolerance, &ca_file.at, crl_at, now));
    match trust.verifier(provider, tolerance, crl_at, now) {
        Ok(webpki) => {
            let verifier = ClientVerifier::new(webpki, trust, required, tolerance);
            Some(ClientPolicy::asking(digest, required, Arc::new(verifier)))
        }
        Err(diagnostic) => {
            diagnostics.push(*diagnostic);
            None
        }
    }
}

/// What a ticket must have in common with the connection that shows it. The server name is compared by rustls.
fn digest(listener: &str, bind: &BindTls, trust: &[u8; 32]) -> PolicyDigest {
    let mode = match bind.verify {
        Verify::None => 0,
        Verify::Optional => 1,
        Verify::Required => 2,
    };
    let mut all = b"bowline tls policy 1".to_vec();
    all.push(mode);
    all.extend(bind.ignored_of_leaf.bits());
    all.extend(bind.ignored_of_ca.bits());
    all.extend(trust);
    all.extend(listener.as_bytes());
    PolicyDigest(x509::sha256(&all))
}

fn suite12(suite: Suite12) -> SupportedCipherSuite {
    match suite {
        Suite12::EcdsaAes256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Suite12::RsaAes256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        Suite12::EcdsaChaCha20 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        Suite12::RsaChaCha20 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        Suite12::EcdsaAes128 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Suite12::RsaAes128 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    }
}

fn suite13(suite: Suite13) -> SupportedCipherSuite {
    match suite {
        Suite13::Aes256 => cipher_suite::TLS13_AES_256_GCM_SHA384,
        Suite13::ChaCha20 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        Suite13::Aes128 => cipher_suite::TLS13_AES_128_GCM_SHA256,
    }
}

fn group(group: Group) -> &'static dyn SupportedKxGroup {
    match group {
        Group::X25519MlKem768 => kx_group::X25519MLKEM768,
        Group::X25519 => kx_group::X25519,
        Group::P256 => kx_group::SECP256R1,
        Group::P384 => kx_group::SECP384R1,
        Group::P256MlKem768 => kx_group::SECP256R1MLKEM768,
        Group::MlKem768 => kx_group::MLKEM768,
        Group::MlKem1024 => kx_group::MLKEM1024,
    }
}

fn allows(bind: &BindTls, version: TlsVersion) -> bool {
    (bind.min_version..=bind.max_version).contains(&version)
}

fn provider(bind: &BindTls) -> CryptoProvider {
    let mut suites = Vec::new();
    if allows(bind, TlsVersion::Tls13) {
        suites.extend(bind.suites13.iter().copied().map(suite13));
    }
    if allows(bind, TlsVersion::Tls12) {
        suites.extend(bind.suites12.iter().copied().map(suite12));
    }
    let kx_groups = bind.groups.iter().copied().map(group).collect();
    CryptoProvider { cipher_suites: suites, kx_groups, ..aws_lc_rs::default_provider() }
}

fn server_config(
    bind: &BindTls,
    provider: &Arc<CryptoProvider>,
    client: &ClientPolicy,
    resolver: Resolver,
    alpn: &[Vec<u8>],
) -> Result<ServerConfig, rustls::Error> {
    let known: [(TlsVersion, &'static SupportedProtocolVersion); 2] =
        [(TlsVersion::Tls13, &rustls::version::TLS13), (TlsVersion::Tls12, &rustls::version::TLS12)];
    let versions: Vec<_> =
        known.iter().filter(|(version, _)| allows(bind, *version)).map(|(_, known)| *known).collect();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions)?;
    let builder = match client.verifier() {
        Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
        None => builder.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth()),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.time_provider = Arc::new(ScopeTime);
    config.ignore_client_order = !bind.prefer_client_ciphers;
    config.alpn_protocols = alpn.to_vec();
    // What there is of resumption is ours.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A ticket carries the client's chain. Each connection brings a new one, so a client that comes back never runs dry;
    // one that opens several connections at once does full handshakes for the others.
    config.send_tls13_tickets = 1;
    // Early data can be replayed, and half-RTT data goes to somebody who has proved nothing.
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    // After the handshake the record layer is the engine's.
    config.enable_secret_extraction = true;
    Ok(config)
}

/// What a ClientHello says about the certificate that it asks for.
pub(super) fn wish<'a>(hello: &'a ClientHello<'_>) -> Wish<'a> {
    Wish {
        sni: hello.server_name(),
        signature_schemes: hello.signature_schemes(),
        cipher_suites: hello.cipher_suites(),
    }
}

/// The choice of the certificate, for rustls.
#[derive(Debug)]
struct Resolver {
    names: Arc<SniTable>,
    suites: Arc<[Vec<SupportedCipherSuite>]>,
    entry: usize,
}

impl ResolvesServerCert for Resolver {
    /// `None` if the certificate goes with other settings than those of this configuration: a second ClientHello, after a
    /// HelloRetryRequest, must not get by its wishes what the first one was not judged for.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.names.choose(wish(&hello), &self.suites)?;
        let now = ScopeTime.current_time()?;
        (chosen.entry == self.entry).then(|| chosen.credential.certified(now).clone())
    }
}

#[cfg(test)]
mod tests;
