//! Who is let in: every reason to refuse a client certificate, seen from all four sides: the alert that the client gets, the line
//! in the log, the backend that hears nothing, and the good certificate that passes.

use rcgen::ExtendedKeyUsagePurpose;
use rustls::AlertDescription;

use super::support::bowline::processor_time;
use super::support::certs::{DAY, hex, looping_chain, now};
use super::support::client::{Client, Ending, Version};
use super::support::openssl::SClient;
use super::support::{Authority, Bowline, Config, Identity, Leaf, Scripted, Site, both_versions, pki, serve};

/// A listener that demands a certificate of the shared client CA and looks into `crl.pem`.
fn demanding(backend: &Scripted) -> Config {
    Config::new().bind_mtls("crl-file {dir}/crl.pem").server(backend.address(), "")
}

/// The log line of a refused handshake must name the certificate.
#[track_caller]
fn assert_names(line: &str, identity: &Identity, common_name: &str, issuer: &str) {
    assert!(line.contains(&format!("subject=\"/CN={common_name}\"")), "{line}");
    assert!(line.contains(&format!("issuer=\"/CN={issuer}\"")), "{line}");
    let serial = line.split("serial=").nth(1).unwrap_or_default();
    let serial = serial.split_whitespace().next().unwrap_or_default();
    let plain = serial.replace([':', '"'], "").to_lowercase();
    let plain = plain.trim_start_matches("0x").trim_start_matches('0');
    assert_eq!(plain, hex(&identity.serial).trim_start_matches('0'), "{line}");
}

/// Shows `identity` where it must be refused with this alert.
#[track_caller]
fn refused(version: Version, identity: &Identity, issuer: &str, crl: &str, alert: AlertDescription) {
    let backend = Scripted::start();
    let site = Site::new();
    site.write("crl.pem", crl);
    let bowline = Bowline::start(site, &demanding(&backend));
    let client = Client::new(version).identity(identity);
    assert_eq!(client.refused(bowline.main()), Ending::Alert(alert));
    let line = bowline.log.wait_for(&["fe/main: SSL handshake failure ("]);
    assert!(line.starts_with("127.0.0.1:"), "{line}");
    assert_names(&line, identity, "mallory", issuer);
    backend.assert_untouched_by(bowline);
}

fn no_one_revoked() -> String {
    pki().client_ca.crl(&[])
}

both_versions! {
    fn a_good_certificate_passes(version) {
        let backend = Scripted::start();
        let bowline = serve(&demanding(&backend));
        let mut tls = Client::strict(version).identity(&pki().good).connect(bowline.main());
        tls.write_all(b"ping");
        let mut peer = backend.accept();
        assert_eq!(peer.read_exact(4), b"ping");
        peer.write_all(b"pong");
        assert_eq!(tls.read_exact(4), b"pong");
    }

    fn no_certificate_is_refused(version) {
        let backend = Scripted::start();
        let bowline = serve(&demanding(&backend));
        let ending = Client::new(version).refused(bowline.main());
        assert_eq!(ending, Ending::Alert(AlertDescription::CertificateRequired));
        let line = bowline.log.wait_for(&["fe/main: SSL handshake failure ("]);
        assert!(line.to_lowercase().contains("certificate"), "{line}");
        backend.assert_untouched_by(bowline);
    }

    fn a_certificate_of_an_unknown_ca_is_refused(version) {
        let stranger = pki().other_ca.issue(&Leaf::client("mallory"));
        refused(version, &stranger, "Other CA", &no_one_revoked(), AlertDescription::UnknownCA);
    }

    fn a_ca_of_the_same_name_is_another_ca(version) {
        let impostor = Authority::new("Client CA").issue(&Leaf::client("mallory"));
        let backend = Scripted::start();
        let bowline = serve(&demanding(&backend));
        let ending = Client::new(version).identity(&impostor).refused(bowline.main());
        assert!(matches!(ending, Ending::Alert(_)), "{ending:?}");
        backend.assert_untouched_by(bowline);
    }

    fn an_expired_certificate_is_refused(version) {
        let old = pki().client_ca.issue(&Leaf::client("mallory").valid(now() - 2 * DAY, now() - 60));
        refused(version, &old, "Client CA", &no_one_revoked(), AlertDescription::CertificateExpired);
    }

    fn a_certificate_from_the_future_is_refused(version) {
        let early = pki().client_ca.issue(&Leaf::client("mallory").valid(now() + 600, now() + DAY));
        refused(version, &early, "Client CA", &no_one_revoked(), AlertDescription::CertificateExpired);
    }

    fn a_revoked_certificate_is_refused(version) {
        let revoked = pki().client_ca.issue(&Leaf::client("mallory"));
        let crl = pki().client_ca.crl(&[&revoked]);
        refused(version, &revoked, "Client CA", &crl, AlertDescription::CertificateRevoked);
    }

    fn a_certificate_for_servers_only_is_refused(version) {
        let usage = [ExtendedKeyUsagePurpose::ServerAuth];
        let server = pki().client_ca.issue(&Leaf::client("mallory").usages(&usage));
        let alert = AlertDescription::UnsupportedCertificate;
        refused(version, &server, "Client CA", &no_one_revoked(), alert);
    }

    fn a_certificate_for_mail_only_is_refused(version) {
        let usage = [ExtendedKeyUsagePurpose::EmailProtection];
        let mail = pki().client_ca.issue(&Leaf::client("mallory").usages(&usage));
        let alert = AlertDescription::UnsupportedCertificate;
        refused(version, &mail, "Client CA", &no_one_revoked(), alert);
    }

    fn a_certificate_without_usages_passes(version) {
        let backend = Scripted::start();
        let bowline = serve(&demanding(&backend));
        let plain = pki().client_ca.issue(&Leaf::client("plain").usages(&[]));
        let mut tls = Client::new(version).identity(&plain).connect(bowline.main());
        tls.write_all(b"x");
        assert_eq!(backend.accept().read_exact(1), b"x");
    }

    fn an_rsa_certificate_passes(version) {
        let backend = Scripted::start();
        let bowline = serve(&demanding(&backend));
        let rsa = pki().client_ca.issue(&Leaf::client("rsa").rsa());
        let mut tls = Client::new(version).identity(&rsa).connect(bowline.main());
        tls.write_all(b"x");
        assert_eq!(backend.accept().read_exact(1), b"x");
    }

    fn a_certificate_below_an_intermediate_passes(version) {
        let backend = Scripted::start();
        let config = Config::new().bind_mtls("").server(backend.address(), "");
        let bowline = serve(&config);
        let below = pki().client_intermediate.issue(&Leaf::client("below"));
        assert_eq!(below.chain.len(), 2);
        let mut tls = Client::new(version).identity(&below).connect(bowline.main());
        tls.write_all(b"x");
        assert_eq!(backend.accept().read_exact(1), b"x");
    }

    fn a_missing_intermediate_is_an_unknown_ca(version) {
        let backend = Scripted::start();
        let config = Config::new().bind_mtls("").server(backend.address(), "");
        let bowline = serve(&config);
        let mut below = pki().client_intermediate.issue(&Leaf::client("below"));
        below.chain.truncate(1);
        let ending = Client::new(version).identity(&below).refused(bowline.main());
        assert_eq!(ending, Ending::Alert(AlertDescription::UnknownCA));
        backend.assert_untouched_by(bowline);
    }

    fn an_intermediate_that_is_revoked_takes_its_clients_with_it(version) {
        let root = Authority::new("Careful CA");
        let middle = root.intermediate("Careless CA");
        let client = middle.issue(&Leaf::client("mallory"));
        let revoked = Identity {
            chain: vec![middle.certificate().clone()],
            key: Vec::new(),
            serial: x509_parser::parse_x509_certificate(middle.certificate())
                .expect("a certificate")
                .1
                .raw_serial()
                .to_vec(),
        };
        let backend = Scripted::start();
        let site = Site::new();
        site.write("ca.pem", root.pem());
        site.write("crl.pem", root.crl(&[&revoked]) + &middle.crl(&[]));
        let bowline = Bowline::start(site, &demanding(&backend));
        let ending = Client::new(version).identity(&client).refused(bowline.main());
        assert_eq!(ending, Ending::Alert(AlertDescription::CertificateRevoked));
        backend.assert_untouched_by(bowline);
    }

    fn an_issuer_without_a_revocation_list_is_refused_where_lists_are_demanded(version) {
        let backend = Scripted::start();
        let site = Site::new();
        site.write("ca.pem", pki().client_ca.pem() + &pki().other_ca.pem());
        let bowline = Bowline::start(site, &demanding(&backend));
        let unlisted = pki().other_ca.issue(&Leaf::client("mallory"));
        let ending = Client::new(version).identity(&unlisted).refused(bowline.main());
        assert!(matches!(ending, Ending::Alert(_)), "{ending:?}");
        backend.assert_untouched_by(bowline);
    }

    fn a_chain_of_twelve_is_refused(version) {
        let root = Authority::new("Deep CA");
        let mut bottom = root.intermediate("Deep CA 1");
        for depth in 2..=12 {
            bottom = bottom.intermediate(&format!("Deep CA {depth}"));
        }
        let deep = bottom.issue(&Leaf::client("mallory"));
        assert_eq!(deep.chain.len(), 13);
        let backend = Scripted::start();
        let site = Site::new();
        site.write("ca.pem", root.pem());
        let config = Config::new().bind_mtls("").server(backend.address(), "");
        let bowline = Bowline::start(site, &config);
        let ending = Client::new(version).identity(&deep).refused(bowline.main());
        assert!(matches!(ending, Ending::Alert(_)), "{ending:?}");
        backend.assert_untouched_by(bowline);
    }

    fn a_chain_of_three_passes(version) {
        let root = Authority::new("Flat CA");
        let bottom = root.intermediate("Flat CA 1").intermediate("Flat CA 2");
        let client = bottom.issue(&Leaf::client("carol"));
        let backend = Scripted::start();
        let site = Site::new();
        site.write("ca.pem", root.pem());
        let config = Config::new().bind_mtls("").server(backend.address(), "");
        let bowline = Bowline::start(site, &config);
        let mut tls = Client::new(version).identity(&client).connect(bowline.main());
        tls.write_all(b"x");
        assert_eq!(backend.accept().read_exact(1), b"x");
    }

    fn a_looping_chain_costs_no_processor_time(version) {
        let backend = Scripted::start();
        let bowline = serve(&demanding(&backend));
        let worker = bowline.worker();
        let bomb = Client::new(version).identity(&looping_chain(&pki().good, 10, 60));
        let before = processor_time(worker);
        for _ in 0..5 {
            let ending = bomb.refused(bowline.main());
            assert!(matches!(ending, Ending::Alert(_)), "{ending:?}");
        }
        let used = processor_time(worker) - before;
        // Path building without a cap burns more than half a second on each of these.
        assert!(used.as_millis() < 500, "{used:?}");
        backend.assert_untouched_by(bowline);
    }

    fn a_chain_of_60_kib_is_refused(version) {
        let backend = Scripted::start();
        let bowline = serve(&demanding(&backend));
        let mut chain = looping_chain(&pki().good, 2, 0);
        let padding = pki().other_ca.certificate();
        while chain.chain.iter().map(|one| one.len() + 5).sum::<usize>() < 60 * 1024 {
            chain.chain.push(padding.clone());
        }
        let ending = Client::new(version).identity(&chain).refused(bowline.main());
        assert!(matches!(ending, Ending::Alert(_)), "{ending:?}");
        backend.assert_untouched_by(bowline);
    }

    fn a_certificate_with_another_key_is_refused(version) {
        let backend = Scripted::start();
        let bowline = serve(&demanding(&backend));
        let thief = Identity {
            chain: pki().good.chain.clone(),
            key: pki().other_ca.issue(&Leaf::client("thief")).key,
            serial: pki().good.serial.clone(),
        };
        let ending = Client::new(version).identity(&thief).refused(bowline.main());
        assert!(matches!(ending, Ending::Alert(_)), "{ending:?}");
        backend.assert_untouched_by(bowline);
    }

    fn optional_lets_pass_without_and_with_a_good_certificate(version) {
        let backend = Scripted::start();
        let config = Config::new()
            .bind_tls("ca-file {dir}/ca.pem verify optional")
            .server(backend.address(), "");
        let bowline = serve(&config);
        let client = Client::new(version);
        let mut tls = client.connect(bowline.main());
        tls.write_all(b"a");
        assert_eq!(backend.accept().read_exact(1), b"a");
        let mut second = client.identity(&pki().good).connect(bowline.main());
        second.write_all(b"b");
        assert_eq!(backend.accept().read_exact(1), b"b");
    }

    fn optional_refuses_a_bad_certificate(version) {
        let backend = Scripted::start();
        let config = Config::new()
            .bind_tls("ca-file {dir}/ca.pem verify optional")
            .server(backend.address(), "");
        let bowline = serve(&config);
        let stranger = pki().other_ca.issue(&Leaf::client("mallory"));
        let ending = Client::new(version).identity(&stranger).refused(bowline.main());
        assert_eq!(ending, Ending::Alert(AlertDescription::UnknownCA));
        backend.assert_untouched_by(bowline);
    }

    fn without_verify_nobody_is_asked(version) {
        let backend = Scripted::start();
        let config = Config::new().bind_tls("").server(backend.address(), "");
        let bowline = serve(&config);
        let stranger = pki().other_ca.issue(&Leaf::client("mallory"));
        let mut tls = Client::new(version).identity(&stranger).connect(bowline.main());
        tls.write_all(b"x");
        assert_eq!(backend.accept().read_exact(1), b"x");
    }
}

#[test]
fn no_name_and_no_spelling_of_a_name_gets_past_the_demand() {
    let backend = Scripted::start();
    let bowline = serve(&demanding(&backend));
    let client = Client::new(Version::Tls13);
    for name in ["server.test", "unknown.test", "127.0.0.1"] {
        let ending = client.clone().sni(name).refused(bowline.main());
        let required = AlertDescription::CertificateRequired;
        assert_eq!(ending, Ending::Alert(required), "{name}");
    }
    let ending = client.no_sni().refused(bowline.main());
    assert_eq!(ending, Ending::Alert(AlertDescription::CertificateRequired));
    for name in ["SERVER.Test", "server.test."] {
        let mut openssl = SClient::connect(bowline.main(), &["-servername", name]);
        openssl.log.wait_for(&["alert number"]);
        openssl.end_input();
        openssl.wait();
    }
    backend.assert_untouched_by(bowline);
}

#[test]
fn a_name_cannot_forge_a_log_line() {
    let backend = Scripted::start();
    let bowline = serve(&demanding(&backend));
    let forged = "192.0.2.66:1 [01/Jan/2026:00:00:00.000] fe/main: forged";
    let name = format!("evil\"\n{forged}\r\u{1b}[2J");
    let mallory = pki().other_ca.issue(&Leaf::client(&name));
    Client::new(Version::Tls13).identity(&mallory).refused(bowline.main());
    let line = bowline.log.wait_for(&["SSL handshake failure ("]);
    assert!(line.starts_with("127.0.0.1:"), "{line}");
    assert!(line.contains("serial="), "the line is cut: {line}");
    let log = bowline.kill();
    let text = log.text();
    assert!(!text.lines().any(|line| line.starts_with("192.0.2.66")), "{text}");
    assert!(!log.text().contains('\u{1b}'), "an escape sequence in the log");
}

#[test]
fn a_long_name_cannot_fill_the_log() {
    let backend = Scripted::start();
    let bowline = serve(&demanding(&backend));
    let mallory = pki().other_ca.issue(&Leaf::client(&"m".repeat(10_000)));
    Client::new(Version::Tls13).identity(&mallory).refused(bowline.main());
    let line = bowline.log.wait_for(&["SSL handshake failure ("]);
    assert!(line.len() <= 1024, "{} bytes", line.len());
}

#[test]
fn tls_1_2_is_refused_where_1_3_is_the_minimum() {
    let backend = Scripted::start();
    let config = Config::new().bind_tls("ssl-min-ver TLSv1.3").server(backend.address(), "");
    let bowline = serve(&config);
    let ending = Client::new(Version::Tls12).refused(bowline.main());
    assert_eq!(ending, Ending::Alert(AlertDescription::ProtocolVersion));
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    tls.write_all(b"x");
    assert_eq!(backend.accept().read_exact(1), b"x");
    backend.assert_untouched_by(bowline);
}

#[test]
fn an_expired_revocation_list_is_refused_at_start() {
    let site = Site::new();
    site.write("crl.pem", pki().client_ca.crl_until(&[], now() - DAY));
    let config = demanding(&Scripted::start());
    let text = config.render(&site);
    let failure = Bowline::start_refused(site, &text);
    assert_eq!(failure.status.and_then(|status| status.code()), Some(1));
    assert!(failure.log.contains("crl.pem"), "{}", failure.log);
    assert!(failure.log.contains("expired"), "{}", failure.log);
}

#[test]
fn a_revocation_list_that_expires_while_running_shuts_the_door() {
    let backend = Scripted::start();
    let site = Site::new();
    let expiry = now() + 5;
    site.write("crl.pem", pki().client_ca.crl_until(&[], expiry));
    let bowline = Bowline::start(site, &demanding(&backend));
    let client = Client::new(Version::Tls13).identity(&pki().good);
    super::support::eventually("expiry of the list", super::support::DEADLINE, || now() > expiry);
    let ending = client.refused(bowline.main());
    assert!(matches!(ending, Ending::Alert(_)), "{ending:?}");
    // A worker that takes the place of a crashed one goes on like that; it does not fail over the list.
    let mark = bowline.log.mark();
    nix::sys::signal::kill(bowline.worker(), nix::sys::signal::Signal::SIGKILL).expect("a worker");
    bowline.log.wait_after(mark, &["worker adopted generation"]);
    let ending = client.refused(bowline.main());
    assert!(matches!(ending, Ending::Alert(_)), "{ending:?}");
    backend.assert_untouched_by(bowline);
}
