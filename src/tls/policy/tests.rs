use std::path::PathBuf;
use std::time::Instant;

use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::server::Acceptor;
use rustls::{AlertDescription, CipherSuite, ClientConnection, Error, HandshakeKind, RootCertStore, ServerConnection};

use super::*;
use crate::conf::model::{At, Crt, CrtKind, SniPolicy};
use crate::tls::client_auth::{self, Handshake, Reason, judge};
use crate::tls::identity::Client;
use crate::tls::test_pki::{self, *};
use crate::tls::tickets::Scope;

mod entries;
mod resumption;

const LIFETIME: Duration = Duration::from_secs(300);

/// A server CA, a client CA, a server certificate, and ticket keys that all policies share.
struct World {
    start: Instant,
    server_ca: Ca,
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
            ("/t/crl.pem", client_ca.crl(&[7], -DAY, 2 * DAY)),
        ]);
        Self { start, server_ca, client_ca, files, tickets: Arc::new(TicketKeys::new(start)) }
    }

    fn bind(&self, verify: Verify) -> BindTls {
        BindTls { verify, ca_file: Some(at(PathBuf::from("/t/ca.pem"))), ..test_pki::bind(&["/s/ec.pem"]) }
    }

    fn build(&self, bind: &BindTls, listener: &str) -> TlsPolicy {
        let (policy, diagnostics) =
            build(bind, &mut store(&self.files), &self.tickets, limits(LIFETIME), listener, now());
        assert_eq!(diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count(), 0, "{diagnostics:?}");
        policy.unwrap()
    }

    fn policy(&self, verify: Verify) -> TlsPolicy {
        self.build(&self.bind(verify), "bind")
    }

    fn client(&self, version: &'static SupportedProtocolVersion, certificate: Option<&Issued>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivatePkcs8KeyDer::from(issued.key.serialize_der());
                builder.with_client_auth_cert(vec![issued.der.clone()], key.into()).unwrap()
            }
        };
        config.resumption = Resumption::in_memory_sessions(32);
        Arc::new(config)
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn alice(&self) -> Issued {
        // Serial 8 is not in the CRL.
        self.client_ca.client("alice", |params| params.serial_number = Some(rcgen::SerialNumber::from(8)))
    }
}

/// What both sides made of a connection.
struct Outcome {
    client: ClientConnection,
    server: ServerConnection,
    server_result: Result<(), Error>,
    client_result: Result<(), Error>,
}

impl Outcome {
    fn kind(&self) -> HandshakeKind {
        self.server_result.clone().unwrap();
        self.server.handshake_kind().unwrap()
    }

    fn suite(&self) -> CipherSuite {
        self.server_result.clone().unwrap();
        self.server.negotiated_cipher_suite().unwrap().suite()
    }
}

/// One connection at `now`, until nobody has anything to say. The scopes are entered as the engine does.
fn connect(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, now: Instant) -> Outcome {
    let name = ServerName::try_from("s.example").unwrap();
    let mut outcome = Outcome {
        client: ClientConnection::new(client.clone(), name).unwrap(),
        server: ServerConnection::new(server.clone()).unwrap(),
        server_result: Ok(()),
        client_result: Ok(()),
    };
    let mut first = None;
    loop {
        let mut wire = Vec::new();
        while outcome.client.wants_write() {
            outcome.client.write_tls(&mut wire).unwrap();
        }
        let mut quiet = wire.is_empty();
        let mut wire = wire.as_slice();
        while !wire.is_empty() && outcome.server_result.is_ok() {
            outcome.server.read_tls(&mut wire).unwrap();
            let scope = Scope::enter(now, test_pki::now(), first);
            outcome.server_result = outcome.server.process_new_packets().map(|_| ());
            first = scope.leave();
            if outcome.server.handshake_kind() != Some(HandshakeKind::Resumed) {
                first = None;
            }
        }
        let mut wire = Vec::new();
        while outcome.server.wants_write() {
            outcome.server.write_tls(&mut wire).unwrap();
        }
        quiet &= wire.is_empty();
        let mut wire = wire.as_slice();
        while !wire.is_empty() && outcome.client_result.is_ok() {
            outcome.client.read_tls(&mut wire).unwrap();
            outcome.client_result = outcome.client.process_new_packets().map(|_| ());
        }
        if quiet {
            return outcome;
        }
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
#[test]
fn a_refused_client_gets_the_alert_and_leaves_its_name() {
    let world = World::new();
    let bind = BindTls { crl_file: Some(at(PathBuf::from("/t/crl.pem"))), ..world.bind(Verify::Optional) };
    let policy = world.build(&bind, "bind");
    let ca = &world.client_ca;
    let cases = [
        (ca.client("revoked", |_| ()), Reason::Revoked, AlertDescription::CertificateRevoked),
        (ca.client("expired", valid(-2 * DAY, -DAY)), Reason::Expired, AlertDescription::CertificateExpired),
        (Ca::root("X").client("unknown", |_| ()), Reason::UnknownCa, AlertDescription::UnknownCA),
    ];
    for version in VERSIONS {
        for (issued, reason, alert) in &cases {
            let outcome =
                connect(&world.client(version, Some(issued)), policy.entry(0).config(false, true), world.at(0));
            outcome.server_result.unwrap_err();
            assert_eq!(outcome.client_result, Err(Error::AlertReceived(*alert)), "{version:?} {reason:?}");
            let refusal = client_auth::take_refusal().unwrap();
            assert_eq!(refusal.reason, *reason);
            assert!(refusal.subject.unwrap().starts_with("/O=Example/CN="));
        }
        let anonymous = connect(&world.client(version, None), policy.entry(0).config(false, true), world.at(0));
        anonymous.server_result.unwrap();
        assert_eq!(client_auth::take_refusal(), None);
    }
}

#[test]
fn a_required_certificate_that_is_missing_is_answered_so() {
    let world = World::new();
    let policy = world.policy(Verify::Required);
    for version in VERSIONS {
        let outcome = connect(&world.client(version, None), policy.entry(0).config(false, true), world.at(0));
        assert_eq!(outcome.server_result, Err(Error::NoCertificatesPresented));
        let alert = AlertDescription::CertificateRequired;
        assert_eq!(outcome.client_result, Err(Error::AlertReceived(alert)));
        assert_eq!(client_auth::take_refusal(), None);
    }
}

/// Somebody else's certificate, without its key.
#[test]
fn a_stolen_certificate_is_refused() {
    let world = World::new();
    let policy = world.policy(Verify::Required);
    let alice = world.alice();
    let thief = Issued { key: ec_key(), der: alice.der.clone(), pem: alice.pem };
    for version in VERSIONS {
        let mut config = Arc::unwrap_or_clone(world.client(version, None));
        let key = aws_lc_rs::default_provider().key_provider;
        let key = key.load_private_key(PrivatePkcs8KeyDer::from(thief.key.serialize_der()).into()).unwrap();
        let certified = Arc::new(CertifiedKey::new(vec![thief.der.clone()], key));
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        let outcome = connect(&Arc::new(config), policy.entry(0).config(false, true), world.at(0));
        outcome.server_result.unwrap_err();
        let refusal = client_auth::take_refusal().unwrap();
        assert_eq!((refusal.reason, refusal.subject.unwrap().as_str()), (Reason::BadSignature, "/O=Example/CN=alice"));
    }
}

/// What the engine sees of a client before it chooses.
fn accepted(config: &Arc<ClientConfig>) -> rustls::server::Accepted {
    accepted_by(config, "s.example")
}

/// What a client sends that asks for `name`.
fn accepted_by(config: &Arc<ClientConfig>, name: &str) -> rustls::server::Accepted {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(config.clone(), name).unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut wire.as_slice()).unwrap();
    acceptor.accept().ok().flatten().unwrap()
}

#[test]
fn alpn_without_overlap_goes_on_without_alpn() {
    let world = World::new();
    let bind = BindTls { alpn: vec![b"mqtt".to_vec(), b"h2".to_vec()], ..world.bind(Verify::None) };
    let policy = world.build(&bind, "bind");
    let offering = |protocols: &[&[u8]]| {
        let mut config = Arc::unwrap_or_clone(world.client(&rustls::version::TLS13, None));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    };
    let negotiated = |protocols: &[&[u8]]| {
        let client = offering(protocols);
        let overlaps = policy.entry(0).alpn_overlaps(&accepted(&client).client_hello());
        let outcome = connect(&client, policy.entry(0).config(overlaps, true), world.at(0));
        outcome.server_result.unwrap();
        outcome.server.alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(negotiated(&[b"h2", b"mqtt"]).as_deref(), Some(&b"mqtt"[..]));
    assert_eq!(negotiated(&[b"h2", b"http/1.1"]).as_deref(), Some(&b"h2"[..]));
    assert_eq!(negotiated(&[b"http/1.1"]), None);
    assert_eq!(negotiated(&[]), None);
    // Without the choice rustls refuses.
    let refused = connect(&offering(&[b"http/1.1"]), policy.entry(0).config(true, true), world.at(0));
    assert_eq!(refused.server_result, Err(Error::NoApplicationProtocol));
}

#[test]
fn the_engine_and_rustls_choose_the_same_certificate() {
    let world = World::new();
    let crt = test_pki::bind(&["/s/rsa.pem", "/s/ec.pem"]).crt;
    let policy = world.build(&BindTls { crt, ..world.bind(Verify::None) }, "bind");
    let client = |version, suites: &[SupportedCipherSuite]| {
        let mut roots = RootCertStore::empty();
        roots.add(world.server_ca.der.clone()).unwrap();
        let provider = CryptoProvider { cipher_suites: suites.to_vec(), ..aws_lc_rs::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    };
    let modern = client(&rustls::version::TLS13, &Suite13::DEFAULT.map(suite13));
    let only_rsa = client(&rustls::version::TLS12, &[cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
    for (client, expected) in [(modern, "/s/ec.pem"), (only_rsa, "/s/rsa.pem")] {
        let accepted = accepted(&client);
        let chosen = policy.choose(wish(&accepted.client_hello())).unwrap();
        assert_eq!(chosen.credential.path().to_str(), Some(expected));
        let outcome = connect(&client, policy.entry(0).config(false, true), world.at(0));
        outcome.server_result.unwrap();
        assert_eq!(outcome.client.peer_certificates().unwrap()[0], chosen.credential.certified(now()).cert[0]);
    }
}

#[test]
fn strict_sni_has_no_certificate_for_strangers() {
    let world = World::new();
    let client = world.client(&rustls::version::TLS13, None);
    let accepted = accepted(&client);
    let server = world.server_ca.server(&["other.example"], ec_key());
    let mut other = world.files.clone();
    add_file(&mut other, "/s/ec.pem", server.combined().into_bytes(), 0o600);
    let world = World { files: other, ..world };
    let lax = world.policy(Verify::None);
    assert!(lax.choose(wish(&accepted.client_hello())).is_some());
    let strict = world.build(&BindTls { sni: SniPolicy::Strict, ..world.bind(Verify::None) }, "bind");
    assert!(strict.choose(wish(&accepted.client_hello())).is_none());
    assert!(connect(&client, strict.entry(0).config(false, true), world.at(0)).server_result.is_err());
}

#[test]
fn versions_and_suites_are_ours() {
    let world = World::new();
    let [tls12, tls13] = VERSIONS.map(|version| world.client(version, None));
    let policy = world.policy(Verify::None);
    let suite = |client, policy: &TlsPolicy| connect(client, policy.entry(0).config(false, true), world.at(0)).suite();
    assert_eq!(suite(&tls12, &policy), CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    assert_eq!(suite(&tls13, &policy), CipherSuite::TLS13_AES_256_GCM_SHA384);
    let only = |version| {
        let bind = BindTls { min_version: version, max_version: version, ..world.bind(Verify::None) };
        world.build(&bind, "bind")
    };
    let alert =
        |client, policy: &TlsPolicy| connect(client, policy.entry(0).config(false, true), world.at(0)).client_result;
    let refused = Err(Error::AlertReceived(AlertDescription::ProtocolVersion));
    assert_eq!(alert(&tls12, &only(TlsVersion::Tls13)), refused);
    assert_eq!(alert(&tls13, &only(TlsVersion::Tls12)), refused);
    assert_eq!((alert(&tls12, &only(TlsVersion::Tls12)), alert(&tls13, &only(TlsVersion::Tls13))), (Ok(()), Ok(())));
    let (min_version, max_version) = (TlsVersion::Tls13, TlsVersion::Tls12);
    let none = BindTls { min_version, max_version, ..world.bind(Verify::None) };
    let (policy, diagnostics) = build(&none, &mut store(&world.files), &world.tickets, limits(LIFETIME), "bind", now());
    assert!(policy.is_none());
    assert_eq!(diagnostics[0].code, "E250");
}

#[test]
fn errors_leave_no_policy() {
    let world = World::new();
    let code = |bind: &BindTls| {
        let (policy, diagnostics) =
            build(bind, &mut store(&world.files), &world.tickets, limits(LIFETIME), "bind", now());
        assert!(policy.is_none());
        diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>()
    };
    let missing = || At { value: PathBuf::from("/missing"), at: location() };
    let missing_crt = || Crt { file: missing(), kind: CrtKind::Plain };
    assert_eq!(code(&BindTls { crt: vec![], ..world.bind(Verify::None) }), ["E228"]);
    assert_eq!(code(&BindTls { crt: vec![missing_crt()], ..world.bind(Verify::None) }), ["E221"]);
    assert_eq!(code(&BindTls { ca_file: None, ..world.bind(Verify::Required) }), ["E211"]);
    assert_eq!(code(&BindTls { ca_file: Some(missing()), ..world.bind(Verify::Optional) }), ["E221"]);
    assert_eq!(code(&BindTls { crl_file: Some(missing()), ..world.bind(Verify::Required) }), ["E221"]);
    // All of them in one run.
    let all =
        BindTls { crt: vec![missing_crt(), missing_crt()], ca_file: Some(missing()), ..world.bind(Verify::Required) };
    assert_eq!(code(&all), ["E221", "E221", "E221"]);
}

#[test]
fn certificates_that_did_not_change_are_kept() {
    let world = World::new();
    let before = world.policy(Verify::None);
    let bind = world.bind(Verify::None);
    let mut store = store(&world.files);
    before.remember_in(&mut store);
    let (after, _) = build(&bind, &mut store, &world.tickets, limits(LIFETIME), "bind", now());
    let after = after.unwrap();
    assert!(Arc::ptr_eq(&before.names.credentials()[0], &after.names.credentials()[0]));
    let lines = after.describe();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("certificate \"/CN=s.example\" serial 07 expires "), "{lines:?}");
}

/// Every name of the configuration is the suite or the group that bears it.
#[test]
fn names_mean_the_suites_and_groups_of_these_names() {
    let plain =
        |name: &str| name.replace("TLS_", "").replace("TLS13_", "").replace("WITH_", "").replace(['_', '-'], "");
    for suite in Suite12::DEFAULT {
        let ours = format!("{:?}", suite12(suite).suite());
        let (ours, name) = (plain(&ours), plain(suite.name()));
        // OpenSSL leaves out the hash of ChaCha20.
        assert!(ours == name || ours == format!("{name}SHA256"), "{ours} {name}");
        // OpenSSL writes AES128 where the standard has AES_128.
    }
    for suite in Suite13::DEFAULT {
        assert_eq!(plain(&format!("{:?}", suite13(suite).suite())), plain(suite.name()));
    }
    let groups = Group::DEFAULT.map(|known| group(known).name());
    let defaults: Vec<_> = aws_lc_rs::default_provider().kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups.to_vec(), defaults);
    let others =
        [Group::P256MlKem768, Group::MlKem768, Group::MlKem1024].map(|known| format!("{:?}", group(known).name()));
    assert_eq!(others, ["secp256r1MLKEM768", "MLKEM768", "MLKEM1024"]);
}
