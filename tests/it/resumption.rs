//! A resumed session skips the client's certificate. So it must be worth exactly what the certificate would be worth now, on
//! this listener: the matrix of issues behind CVE-2025-23419, CVE-2025-23048 and CVE-2025-68121.

use std::time::Instant;

use super::support::bowline::Bowline;
use super::support::certs::{hex, now};
use super::support::client::{Client, Ending, Version};
use super::support::proxy_header::{CLIENT_CERT_CONN, CLIENT_CERT_SESS, CLIENT_SSL, FINGERPRINT, Header, SSL_CN};
use super::support::{Config, DEADLINE, Identity, Leaf, Scripted, Site, both_versions, eventually, pki, serve};

const IDENTITY: &str = "send-proxy-v2 proxy-v2-options ssl,cert-cn,cert-fingerprint";

/// Connects, has the backend answer (so that tickets have arrived), and hangs up. Whether it was resumed, and the header.
#[track_caller]
fn visit(client: &Client, address: std::net::SocketAddr, backend: &Scripted) -> (bool, Header) {
    let mut tls = client.connect(address);
    tls.write_all(b"?");
    let mut peer = backend.accept();
    let header = peer.header();
    assert_eq!(peer.read_exact(1), b"?");
    peer.write_all(b"!");
    assert_eq!(tls.read_exact(1), b"!");
    let resumed = tls.resumed();
    tls.close_notify();
    (resumed, header)
}

/// A visit that must be a full handshake.
#[track_caller]
fn first_visit(client: &Client, address: std::net::SocketAddr, backend: &Scripted) -> Header {
    let (resumed, header) = visit(client, address, backend);
    assert!(!resumed, "resumed what it never had");
    assert_eq!(client.offers(), 0);
    header
}

/// The session is offered, and the client gets nowhere.
#[track_caller]
fn assert_worthless(client: &Client, address: std::net::SocketAddr, backend: &Scripted, bowline: Bowline) {
    let offers = client.offers();
    client.refused(address);
    assert!(client.offers() > offers, "the session was never offered");
    backend.assert_untouched_by(bowline);
}

#[track_caller]
fn assert_known(header: &Header, client_bits: u8, identity: &Identity, common_name: &str) {
    let ssl = header.ssl();
    assert_eq!((ssl.client, ssl.verify), (client_bits, 0));
    assert_eq!(ssl.text(SSL_CN), Some(common_name));
    let fingerprint = identity.fingerprint_hex();
    assert_eq!(header.tlv(FINGERPRINT), Some(fingerprint.as_bytes()));
}

const FULL: u8 = CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS;
const RESUMED: u8 = CLIENT_SSL | CLIENT_CERT_SESS;

both_versions! {
    fn on_the_same_listener_resumes_and_the_backend_knows_the_certificate(version) {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_mtls("").server(backend.address(), IDENTITY));
        let client = Client::new(version).identity(&pki().good);
        let header = first_visit(&client, bowline.main(), &backend);
        assert_known(&header, FULL, &pki().good, "alice");
        for _ in 0..3 {
            let (resumed, header) = visit(&client, bowline.main(), &backend);
            assert!(resumed, "a good session was not resumed");
            assert_known(&header, RESUMED, &pki().good, "alice");
        }
    }

    fn without_tickets_sessions_are_kept_in_the_process_and_bound_to_the_listener(version) {
        let backend = Scripted::start();
        let config = Config::new()
            .global("ssl-default-bind-options no-tls-tickets")
            .bind_mtls("")
            .bind("other", "ssl crt {dir}/server.pem ca-file {dir}/ca.pem verify required")
            .server(backend.address(), IDENTITY);
        let bowline = serve(&config);
        let client = Client::new(version).identity(&pki().good);
        first_visit(&client, bowline.main(), &backend);
        let (resumed, header) = visit(&client, bowline.main(), &backend);
        assert!(resumed);
        assert_known(&header, RESUMED, &pki().good, "alice");
        assert!(!visit(&client, bowline.address("other"), &backend).0, "a session of one listener resumed on another");
    }

    fn without_tickets_a_session_is_worthless_after_its_certificate_was_revoked(version) {
        let backend = Scripted::start();
        let config = |more: &str| {
            Config::new().bind_mtls(&format!("no-tls-tickets {more}")).server(backend.address(), IDENTITY)
        };
        let bowline = serve(&config(""));
        let client = Client::new(version).identity(&pki().good);
        first_visit(&client, bowline.main(), &backend);
        bowline.site.write("revoked.crl", pki().client_ca.crl(&[&pki().good]));
        bowline.reconfigure(&config("crl-file {dir}/revoked.crl"));
        bowline.reload();
        let main = bowline.main();
        assert_worthless(&client, main, &backend, bowline);
    }

    fn keys_of_a_file_outlive_the_process(version) {
        let backend = Scripted::start();
        let keys = |letters: &str| letters.chars().map(|one| format!("{}\n", one.to_string().repeat(64))).collect::<String>();
        let config = Config::new().bind_mtls("tls-ticket-keys {dir}/keys").server(backend.address(), IDENTITY);
        let start = |letters: &str| {
            let site = Site::new();
            site.write("keys", keys(letters));
            Bowline::start(site, &config)
        };
        let client = Client::new(version).identity(&pki().good);
        let bowline = start("ABC");
        first_visit(&client, bowline.main(), &backend);
        drop(bowline);
        // The listener has another port, and the line another name in the digest: named lines are the same everywhere.
        let bowline = start("BCD");
        let (resumed, header) = visit(&client, bowline.main(), &backend);
        assert!(resumed, "the key is still in the file");
        assert_known(&header, RESUMED, &pki().good, "alice");
        bowline.site.write("keys", keys("XYZ"));
        bowline.reload();
        assert!(!visit(&client, bowline.main(), &backend).0, "the key is in the file no more");
        bowline.site.write("keys", "nonsense\n");
        bowline.reload_refused(&["E260", "keys"]);
        assert!(visit(&client, bowline.main(), &backend).0, "what was in force stays");
    }

    fn without_tickets_and_room_every_visit_is_a_full_handshake(version) {
        let backend = Scripted::start();
        let config = Config::new()
            .global("ssl-default-bind-options no-tls-tickets")
            .global("tune.ssl.cachesize 0")
            .bind_mtls("")
            .bind("with", "ssl crt {dir}/server.pem tls-tickets")
            .server(backend.address(), IDENTITY);
        let bowline = serve(&config);
        let client = Client::new(version).identity(&pki().good);
        for _ in 0..3 {
            let header = first_visit(&client, bowline.main(), &backend);
            assert_known(&header, FULL, &pki().good, "alice");
        }
        let client = Client::new(version);
        first_visit(&client, bowline.address("with"), &backend);
        assert!(visit(&client, bowline.address("with"), &backend).0, "the line says that there are tickets");
    }

    fn survives_a_reload_that_changes_no_policy(version) {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_mtls("").server(backend.address(), IDENTITY));
        let client = Client::new(version).identity(&pki().good);
        first_visit(&client, bowline.main(), &backend);
        bowline.reload();
        let (resumed, header) = visit(&client, bowline.main(), &backend);
        assert!(resumed, "a reload of the same files made sessions worthless");
        assert_known(&header, RESUMED, &pki().good, "alice");
    }

    fn from_an_open_listener_is_worthless_where_certificates_are_demanded(version) {
        let backend = Scripted::start();
        let config = Config::new()
            .bind_mtls("")
            .bind("open", "ssl crt {dir}/server.pem")
            .server(backend.address(), IDENTITY);
        let bowline = serve(&config);
        let client = Client::new(version);
        let header = first_visit(&client, bowline.address("open"), &backend);
        assert_eq!((header.ssl().client, header.ssl().verify), (CLIENT_SSL, 1));
        let main = bowline.main();
        assert_worthless(&client, main, &backend, bowline);
    }

    fn of_an_anonymous_client_is_worthless_where_certificates_are_demanded(version) {
        let backend = Scripted::start();
        let config = Config::new()
            .bind_mtls("")
            .bind("optional", "ssl crt {dir}/server.pem ca-file {dir}/ca.pem verify optional")
            .server(backend.address(), IDENTITY);
        let bowline = serve(&config);
        let client = Client::new(version);
        first_visit(&client, bowline.address("optional"), &backend);
        let main = bowline.main();
        assert_worthless(&client, main, &backend, bowline);
    }

    fn of_one_ca_is_worthless_where_another_is_demanded(version) {
        let backend = Scripted::start();
        let site = Site::new();
        site.write("other-ca.pem", pki().other_ca.pem());
        let config = Config::new()
            .bind_mtls("")
            .bind("other", "ssl crt {dir}/server.pem ca-file {dir}/other-ca.pem verify required")
            .server(backend.address(), IDENTITY);
        let bowline = Bowline::start(site, &config);
        let client = Client::new(version).identity(&pki().good);
        first_visit(&client, bowline.main(), &backend);
        let other = bowline.address("other");
        assert_worthless(&client, other, &backend, bowline);
    }

    fn is_worthless_after_its_ca_was_removed(version) {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_mtls("").server(backend.address(), IDENTITY));
        let client = Client::new(version).identity(&pki().good);
        first_visit(&client, bowline.main(), &backend);
        bowline.site.write("ca.pem", pki().other_ca.pem());
        bowline.reload();
        let main = bowline.main();
        assert_worthless(&client, main, &backend, bowline);
    }

    fn is_worthless_after_its_certificate_was_revoked(version) {
        let backend = Scripted::start();
        let config = Config::new()
            .bind_mtls("crl-file {dir}/crl.pem")
            .server(backend.address(), IDENTITY);
        let bowline = serve(&config);
        let client = Client::new(version).identity(&pki().good);
        first_visit(&client, bowline.main(), &backend);
        bowline.site.write("crl.pem", pki().client_ca.crl(&[&pki().good]));
        bowline.reload();
        let main = bowline.main();
        assert_worthless(&client, main, &backend, bowline);
    }

    fn is_worthless_after_its_certificate_expired(version) {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_mtls("").server(backend.address(), IDENTITY));
        let expiry = now() + 4;
        let brief = pki().client_ca.issue(&Leaf::client("brief").valid(now() - 60, expiry));
        let client = Client::new(version).identity(&brief);
        first_visit(&client, bowline.main(), &backend);
        eventually("expiry of the certificate", DEADLINE, || now() > expiry);
        let main = bowline.main();
        assert_worthless(&client, main, &backend, bowline);
    }

    fn is_worthless_after_the_demand_was_made(version) {
        let backend = Scripted::start();
        let bowline = serve(&Config::new().bind_tls("").server(backend.address(), IDENTITY));
        let client = Client::new(version);
        first_visit(&client, bowline.main(), &backend);
        bowline.reconfigure(&Config::new().bind_mtls("").server(backend.address(), IDENTITY));
        bowline.reload();
        let main = bowline.main();
        assert_worthless(&client, main, &backend, bowline);
    }

    fn under_another_name_is_a_full_handshake(version) {
        let backend = Scripted::start();
        let site = Site::new();
        let other = pki().server_ca.issue(&Leaf::server(&["other.test"]));
        site.write("other.pem", other.pem());
        let config = Config::new()
            .bind_mtls("crt {dir}/other.pem")
            .server(backend.address(), IDENTITY);
        let bowline = Bowline::start(site, &config);
        let client = Client::new(version).identity(&pki().good);
        first_visit(&client, bowline.main(), &backend);
        let elsewhere = client.clone().sni("other.test");
        let (resumed, header) = visit(&elsewhere, bowline.main(), &backend);
        assert!(client.offers() > 0, "the session was never offered");
        assert!(!resumed, "a session of one name resumed under another");
        assert_known(&header, FULL, &pki().good, "alice");
    }

    fn after_a_restart_is_a_full_handshake(version) {
        let backend = Scripted::start();
        let config = Config::new().bind_mtls("").server(backend.address(), IDENTITY);
        let client = Client::new(version).identity(&pki().good);
        let bowline = serve(&config);
        first_visit(&client, bowline.main(), &backend);
        drop(bowline);
        let bowline = serve(&config);
        let (resumed, header) = visit(&client, bowline.main(), &backend);
        assert!(client.offers() > 0, "the session was never offered");
        assert!(!resumed, "another process knew the ticket key");
        assert_known(&header, FULL, &pki().good, "alice");
    }

    fn does_not_outlive_its_lifetime_by_being_renewed(version) {
        let backend = Scripted::start();
        let config = Config::new()
            .global("tune.ssl.lifetime 2")
            .bind_mtls("")
            .server(backend.address(), IDENTITY);
        let bowline = serve(&config);
        let client = Client::new(version).identity(&pki().good);
        first_visit(&client, bowline.main(), &backend);
        let start = Instant::now();
        eventually("full handshake after the lifetime", DEADLINE, || {
            !visit(&client, bowline.main(), &backend).0
        });
        assert!(start.elapsed().as_secs() >= 1, "sessions died at once");
    }
}

#[test]
fn a_foreign_ticket_is_a_full_handshake() {
    // What one listener encrypts, a listener of another process cannot read, and does not stumble over.
    let backend = Scripted::start();
    let config = Config::new().bind_mtls("").server(backend.address(), IDENTITY);
    let (one, other) = (serve(&config), serve(&config));
    for version in Version::ALL {
        let client = Client::new(version).identity(&pki().good);
        first_visit(&client, one.main(), &backend);
        let (resumed, header) = visit(&client, other.main(), &backend);
        assert!(!resumed);
        assert_known(&header, FULL, &pki().good, "alice");
    }
}

#[test]
fn tickets_differ_and_do_not_show_the_certificate() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_mtls("").server(backend.address(), IDENTITY));
    let site = &bowline.site;
    let certificate = site.write("client.pem", pki().good.pem());
    let certificate = certificate.to_str().expect("UTF-8");
    let saved = site.path("session.pem");
    let saved = saved.to_str().expect("UTF-8");
    let arguments = ["-tls1_2", "-cert", certificate, "-sess_out", saved];
    let mut openssl = super::support::openssl::SClient::connect(bowline.main(), &arguments);
    openssl.type_line("?");
    let mut peer = backend.accept();
    peer.header();
    peer.write_all(b"answer\n");
    openssl.log.wait_for(&["answer"]);
    openssl.end_input();
    openssl.wait();
    let session = std::process::Command::new("openssl")
        .args(["sess_id", "-noout", "-text", "-in", saved])
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&session.stdout).into_owned();
    let start = text.find("TLS session ticket:").expect("a ticket");
    let dump: String = text[start..]
        .lines()
        .skip(1)
        .map_while(|line| line.trim().split_once(" - "))
        .flat_map(|(_, bytes)| bytes.split("   ").next())
        .flat_map(|bytes| bytes.chars().filter(char::is_ascii_hexdigit))
        .collect();
    assert!(dump.len() > 64, "{text}");
    let name = hex(b"alice");
    assert!(!dump.contains(&name), "the ticket shows the certificate: {text}");
}

#[test]
fn tickets_come_although_the_server_says_nothing() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
    let client = Client::new(Version::Tls13);
    let mut tls = client.connect(bowline.main());
    assert!(tls.conn.read_tls(&mut tls.tcp).expect("tickets") > 0);
    tls.conn.process_new_packets().expect("tickets");
    assert!(client.connect(bowline.main()).resumed());
}

#[test]
fn tickets_come_with_the_end_of_a_server_that_says_nothing() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_tls("").server(backend.address(), ""));
    let client = Client::new(Version::Tls13);
    let mut tls = client.connect(bowline.main());
    backend.accept().fin();
    assert_eq!(tls.ending(), Ending::CloseNotify);
    assert!(client.connect(bowline.main()).resumed());
}
