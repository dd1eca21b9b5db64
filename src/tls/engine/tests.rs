//! The engine against rustls as the client, in memory, under a virtual clock.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::*;
use crate::conf::diagnostic::Severity;
use crate::conf::model::{BindTls, Verify};
use crate::material::Files;
use crate::tls::client_auth::Reason;
use crate::tls::identity::Client;
use crate::tls::policy;
use crate::tls::test_pki::{self, *};
use crate::tls::tickets::TicketKeys;

mod entries;
mod failures;
mod records;
mod resumption;
mod staples;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
const LIFETIME: Duration = Duration::from_secs(3600);

/// A client CA, what the servers' certificates are read from, and ticket keys that all policies share.
struct World {
    start: Instant,
    client_ca: Ca,
    files: Files,
    tickets: Arc<TicketKeys>,
}

impl World {
    fn new() -> Self {
        let (server_ca, client_ca) = (Ca::root("Server CA"), Ca::root("Client CA"));
        let start = Instant::now();
        let files = files([
            ("/s/ec.pem", server_ca.server(&["s.example"], ec_key()).combined()),
            ("/s/rsa.pem", server_ca.server(&["s.example"], rsa_key()).combined()),
            ("/t/ca.pem", client_ca.pem.clone()),
            ("/t/crl.pem", client_ca.crl(&[7], -DAY, 20 * DAY)),
        ]);
        Self { start, client_ca, files, tickets: Arc::new(TicketKeys::new(start)) }
    }

    fn bind(&self, verify: Verify) -> BindTls {
        BindTls { verify, ca_file: Some(at(PathBuf::from("/t/ca.pem"))), ..test_pki::bind(&["/s/ec.pem"]) }
    }

    fn build(&self, bind: &BindTls) -> Arc<TlsPolicy> {
        let (policy, problems) =
            policy::build(bind, &mut store(&self.files), &self.tickets, limits(LIFETIME), "bind", now());
        assert!(problems.iter().all(|problem| problem.severity != Severity::Error), "{problems:?}");
        Arc::new(policy.unwrap())
    }

    fn policy(&self, verify: Verify) -> Arc<TlsPolicy> {
        self.build(&self.bind(verify))
    }

    /// The time that is `seconds` after the start, on both clocks.
    fn at(&self, seconds: u64) -> Now {
        Now { instant: self.start + Duration::from_secs(seconds), unix: at_second(i64::try_from(seconds).unwrap()) }
    }

    fn client(&self, version: &'static SupportedProtocolVersion, certificate: Option<&Issued>) -> Browser {
        self.client_with(version, certificate, aws_lc_rs::default_provider())
    }

    fn client_with(
        &self,
        version: &'static SupportedProtocolVersion,
        certificate: Option<&Issued>,
        provider: CryptoProvider,
    ) -> Browser {
        let seen = Arc::new(Seen::default());
        let wallet = Arc::new(Wallet::default());
        wallet.put(certificate);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(seen.clone())
            .with_client_cert_resolver(wallet.clone());
        config.resumption = Resumption::store(Arc::new(Forgetful::default()));
        Browser { config, wallet, seen }
    }

    /// Valid for an hour; serial 8 is not in the CRL.
    fn alice(&self) -> Issued {
        self.client_ca.client("alice", |params| {
            params.serial_number = Some(rcgen::SerialNumber::from(8));
            valid(-DAY, 1800)(params);
        })
    }
}

/// A client: its configuration, its certificate (which it may renew), and what it saw.
struct Browser {
    config: ClientConfig,
    wallet: Arc<Wallet>,
    seen: Arc<Seen>,
}

impl Browser {
    fn connection(&self) -> ClientConnection {
        let name = ServerName::try_from("S.Example").unwrap();
        ClientConnection::new(Arc::new(self.config.clone()), name).unwrap()
    }
}

#[derive(Debug, Default)]
struct Wallet(Mutex<Option<Arc<CertifiedKey>>>);

impl Wallet {
    fn put(&self, certificate: Option<&Issued>) {
        *self.0.lock().unwrap() = certificate.map(|issued| {
            let key = PrivatePkcs8KeyDer::from(issued.key.serialize_der()).into();
            let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).unwrap();
            Arc::new(CertifiedKey::new(vec![issued.der.clone()], key))
        });
    }
}

impl ResolvesClientCert for Wallet {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().clone()
    }

    fn has_certs(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }
}

/// A client that believes every server, and remembers how that one signed and what it stapled.
#[derive(Debug, Default)]
struct Seen {
    staple: Mutex<Vec<u8>>,
    scheme: Mutex<Option<SignatureScheme>>,
    distrusts: std::sync::atomic::AtomicBool,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.staple.lock().unwrap() = staple.to_vec();
        match self.distrusts.load(std::sync::atomic::Ordering::Relaxed) {
            false => Ok(ServerCertVerified::assertion()),
            true => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        *self.scheme.lock().unwrap() = Some(signed.scheme);
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls12_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Keeps sessions, but not which group a server likes: a client with the wrong key share is told so each time.
#[derive(Debug)]
struct Forgetful(ClientSessionMemoryCache);

impl Default for Forgetful {
    fn default() -> Self {
        Self(ClientSessionMemoryCache::new(32))
    }
}

impl ClientSessionStore for Forgetful {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(name, value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.0.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(name)
    }
}

/// Our side as a connection keeps it: what the engine has left is given to it again with what follows.
struct Server {
    policy: Arc<TlsPolicy>,
    greeting: Greeting,
    engine: Option<Engine>,
    held: Vec<u8>,
    plaintext: Vec<u8>,
    peer_closed: bool,
    output: Outgoing,
}

impl Server {
    fn new(policy: &Arc<TlsPolicy>) -> Self {
        Self {
            policy: policy.clone(),
            greeting: Greeting::default(),
            engine: None,
            held: Vec::new(),
            plaintext: Vec::new(),
            peer_closed: false,
            // Too small for anything: it has to grow.
            output: Outgoing::new(1),
        }
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    /// What the client has sent.
    fn read(&mut self, bytes: &[u8], now: Now) -> Result<(), Box<Failure>> {
        self.held.extend_from_slice(bytes);
        let progress = match &mut self.engine {
            Some(engine) => {
                let mut progress = Progress::default();
                let mut plain = vec![0; self.held.len()];
                let result = engine.receive(&mut self.held, now, &mut plain, &mut self.output, &mut progress);
                self.plaintext.extend_from_slice(&plain[..progress.plaintext]);
                result?;
                progress
            }
            None => {
                let Some(offer) = self.greeting.read(&self.policy, &self.held, &mut self.output)? else {
                    return Ok(());
                };
                let (engine, progress) = Engine::accept(&self.policy, offer, &mut self.held, now, &mut self.output)?;
                self.engine = Some(engine);
                progress
            }
        };
        self.held.drain(..progress.consumed);
        self.peer_closed |= progress.peer_closed;
        Ok(())
    }

    /// What is to be sent.
    fn take_output(&mut self) -> Vec<u8> {
        let bytes = self.output.bytes().to_vec();
        self.output.clear();
        bytes
    }

    fn encrypt(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let Self { engine, output, .. } = self;
        engine.as_mut().unwrap().encrypt(plaintext, output).unwrap();
        self.take_output()
    }

    fn close_notify(&mut self) -> Vec<u8> {
        let Self { engine, output, .. } = self;
        engine.as_mut().unwrap().close_notify(output).unwrap();
        self.take_output()
    }
}

/// A connection and its fate.
struct Pair {
    client: ClientConnection,
    client_result: Result<(), Error>,
    client_got: Vec<u8>,
    server: Server,
    now: Now,
    /// The client's bytes arrive so many at a time.
    chunk: usize,
}

impl Pair {
    fn new(browser: &Browser, policy: &Arc<TlsPolicy>, now: Now) -> Self {
        Self {
            client: browser.connection(),
            client_result: Ok(()),
            client_got: Vec::new(),
            server: Server::new(policy),
            now,
            chunk: usize::MAX,
        }
    }

    /// Until nobody has anything to say.
    fn run(&mut self) -> Result<(), Box<Failure>> {
        loop {
            let sent = sent_by(&mut self.client);
            let mut result = Ok(());
            for piece in sent.chunks(self.chunk.min(sent.len()).max(1)) {
                result = self.server.read(piece, self.now);
                if result.is_err() {
                    break;
                }
            }
            let answer = self.server.take_output();
            self.deliver(&answer);
            if result.is_err() || (sent.is_empty() && answer.is_empty()) {
                return result;
            }
        }
    }

    /// Bytes from the server.
    fn deliver(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.client_result.is_ok() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client_result = self.client.process_new_packets().map(drop);
            // Without an end there is an error behind what has come.
            let _ = std::io::Read::read_to_end(&mut self.client.reader(), &mut self.client_got);
        }
    }

    fn establish(&mut self) -> Result<Established, Box<Failure>> {
        assert!(!self.server.engine().is_handshaking());
        let (policy, now) = (self.server.policy.clone(), self.now);
        self.server.engine().establish(&policy, now.unix)
    }

    /// What the client has received since it was last asked.
    fn client_plaintext(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.client_got)
    }
}

fn sent_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    wire
}

/// A whole handshake that succeeds.
#[track_caller]
fn connect(browser: &Browser, policy: &Arc<TlsPolicy>, now: Now) -> (Pair, Established) {
    let mut pair = Pair::new(browser, policy, now);
    pair.run().unwrap();
    pair.client_result.clone().unwrap();
    let established = pair.establish().unwrap();
    (pair, established)
}

/// One that does not.
#[track_caller]
fn refused(browser: &Browser, policy: &Arc<TlsPolicy>, now: Now) -> (Error, Box<Failure>) {
    let mut pair = Pair::new(browser, policy, now);
    let failure = pair.run().unwrap_err();
    (pair.client_result.unwrap_err(), failure)
}

#[track_caller]
fn verified<'a>(established: &'a Established, issued: &Issued) -> &'a TlsSession {
    match established.verdict.client() {
        Client::Verified { leaf, resumed } => {
            assert_eq!(leaf, &issued.der);
            assert_eq!(*resumed, established.session.resumed);
        }
        other => panic!("{other:?}"),
    }
    &established.session
}

#[test]
fn a_handshake_tells_what_was_negotiated() {
    let world = World::new();
    for version in VERSIONS {
        for (crt, key, key_alg) in [("/s/ec.pem", "EC256", "ECDSA"), ("/s/rsa.pem", "RSA2048", "RSA")] {
            let bind = BindTls { alpn: vec![b"h2".to_vec(), b"x".to_vec()], ..test_pki::bind(&[crt]) };
            let mut browser = world.client(version, None);
            browser.config.alpn_protocols = vec![b"x".to_vec()];
            let (mut pair, established) = connect(&browser, &world.build(&bind), world.at(0));
            assert!(matches!(established.verdict.client(), Client::NotAsked));
            let session = established.session;
            let tls13 = version == &rustls::version::TLS13;
            assert_eq!(session.version, if tls13 { "TLSv1.3" } else { "TLSv1.2" });
            let tls12 = format!("ECDHE-{key_alg}-CHACHA20-POLY1305");
            assert_eq!(session.cipher, if tls13 { "TLS_AES_256_GCM_SHA384" } else { &tls12 });
            assert_eq!(session.group, Some(if tls13 { "X25519MLKEM768" } else { "x25519" }));
            assert_eq!(session.sni.as_deref(), Some("s.example"));
            assert_eq!(session.alpn.as_deref(), Some(&b"x"[..]));
            assert_eq!(session.server.key_alg, key);
            let seen = browser.seen.scheme.lock().unwrap().unwrap();
            assert_eq!(session.sig_scheme, Some(terms::scheme_name(seen)), "{seen:?}");
            assert!(!session.resumed);
            let again = pair.establish().map(drop).unwrap_err();
            assert_eq!(again.reason, "the handshake's result was already taken");
        }
    }
}

#[test]
fn data_goes_both_ways_and_ends_where_it_was_said_to_end() {
    let world = World::new();
    for version in VERSIONS {
        for chunk in [usize::MAX, 1, 7] {
            let (mut pair, _) = connect(&world.client(version, None), &world.policy(Verify::None), world.at(0));
            pair.chunk = chunk;
            let long: Vec<u8> = (0..40_000_u32).map(|number| number as u8).collect();
            std::io::Write::write_all(&mut pair.client.writer(), &long).unwrap();
            pair.run().unwrap();
            assert_eq!(pair.server.plaintext, long);
            let sent = pair.server.encrypt(&long);
            pair.deliver(&sent);
            assert_eq!(pair.client_plaintext(), long);

            assert!(!pair.server.peer_closed);
            pair.client.send_close_notify();
            pair.run().unwrap();
            assert!(pair.server.peer_closed && pair.server.held.is_empty());
            // One direction has ended, the other has not.
            let sent = pair.server.encrypt(b"last");
            pair.deliver(&sent);
            assert_eq!(pair.client_plaintext(), b"last");
            let sent = pair.server.close_notify();
            pair.deliver(&sent);
            let state = pair.client.process_new_packets().unwrap();
            assert!(state.peer_has_closed());
        }
    }
}

#[test]
fn a_client_certificate_is_asked_for_and_verified() {
    let world = World::new();
    let alice = world.alice();
    for version in VERSIONS {
        for verify in [Verify::Required, Verify::Optional] {
            let policy = world.policy(verify);
            let (_, established) = connect(&world.client(version, Some(&alice)), &policy, world.at(0));
            assert!(!verified(&established, &alice).resumed);
        }
        let anonymous = world.client(version, None);
        let (_, established) = connect(&anonymous, &world.policy(Verify::Optional), world.at(0));
        assert!(matches!(established.verdict.client(), Client::Anonymous));
        // Nobody asked for it, so it is not sent.
        let (_, established) = connect(&world.client(version, Some(&alice)), &world.policy(Verify::None), world.at(0));
        assert!(matches!(established.verdict.client(), Client::NotAsked));
    }
}

#[test]
fn what_is_in_force_at_the_end_of_the_handshake_decides() {
    let mut world = World::new();
    let alice = world.alice();
    add_file(&mut world.files, "/t/new.pem", world.client_ca.crl(&[8], -DAY, 20 * DAY).into_bytes(), 0o644);
    let revoking = BindTls { crl_file: Some(at(PathBuf::from("/t/new.pem"))), ..world.bind(Verify::Required) };
    for version in VERSIONS {
        let browser = world.client(version, Some(&alice));
        let (none, required) = (world.policy(Verify::None), world.policy(Verify::Required));
        // Twice: a full handshake, and a resumed one.
        for resumed in [false, true] {
            let mut pair = Pair::new(&browser, &required, world.at(0));
            pair.run().unwrap();
            pair.server.policy = world.build(&revoking);
            let failure = pair.establish().map(drop).unwrap_err();
            assert_eq!(failure.refusal.unwrap().reason, Reason::Revoked, "{version:?} {resumed}");
            assert_eq!(pair.client.handshake_kind() == Some(HandshakeKind::Resumed), resumed);
        }
        let mut pair = Pair::new(&browser, &none, world.at(0));
        pair.run().unwrap();
        pair.server.policy = required.clone();
        let failure = pair.establish().map(drop).unwrap_err();
        assert_eq!(failure.refusal.unwrap().reason, Reason::NoCertificate);
        // The same policy, built again, is the same policy.
        let mut pair = Pair::new(&browser, &required, world.at(0));
        pair.run().unwrap();
        pair.server.policy = world.policy(Verify::Required);
        verified(&pair.establish().unwrap(), &alice);
    }
}
