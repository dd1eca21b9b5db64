//! Client certificates that OpenSSL lets in and webpki does not, made by OpenSSL as people make them at home.

use std::process::Command;

use rustls::AlertDescription;

use super::support::certs::{DAY, now};
use super::support::client::{Client, Ending, Version};
use super::support::openssl::SClient;
use super::support::proxy_header::{CLIENT_CERT_CONN, CLIENT_CERT_SESS, CLIENT_SSL, FINGERPRINT, SSL_CN};
use super::support::{Authority, Bowline, Config, Leaf, Scripted, Site, both_versions, pki};

/// Runs `openssl` in the directory of the site.
#[track_caller]
fn openssl(site: &Site, words: &str) {
    let made = Command::new("openssl").args(words.split_whitespace()).current_dir(site.dir()).output();
    let made = made.expect("openssl is installed");
    assert!(made.status.success(), "{words}: {}", String::from_utf8_lossy(&made.stderr));
}

/// `home.pem`, a CA, and `v1.pem`, what it signs without an extension file: version 1.
#[track_caller]
fn home_made(site: &Site) {
    openssl(site, "req -x509 -newkey rsa:2048 -nodes -keyout home.key -out home.pem -days 30 -subj /CN=Home");
    openssl(site, "req -newkey rsa:2048 -nodes -keyout v1.key -out v1.csr -subj /CN=v1");
    openssl(site, "x509 -req -in v1.csr -CA home.pem -CAkey home.key -set_serial 77 -days 30 -out v1.pem");
    openssl(site, "req -x509 -newkey rsa:2048 -nodes -keyout own.key -out own.pem -days 30 -subj /CN=own");
}

#[track_caller]
fn start(site: Site, ca: &str, more: &str, backend: &Scripted) -> Bowline {
    let more = format!("ssl crt {{dir}}/server.pem ca-file {{dir}}/{ca} verify required {more}");
    let header = "send-proxy-v2 proxy-v2-options cert-cn,cert-fingerprint";
    Bowline::start(site, &Config::new().bind("main", &more).server(backend.address(), header))
}

/// Connects with OpenSSL: the CN in the header.
#[track_caller]
fn visit(bowline: &Bowline, backend: &Scripted, version: &str, name: &str) -> String {
    let path = |extension: &str| bowline.site.path(&format!("{name}.{extension}")).display().to_string();
    let (certificate, key) = (path("pem"), path("key"));
    let mut client = SClient::connect(bowline.main(), &[version, "-quiet", "-cert", &certificate, "-key", &key]);
    client.type_line("hello");
    let mut peer = backend.accept();
    let ssl = peer.header().ssl().clone();
    assert_eq!(peer.read_exact(6), b"hello\n");
    assert_eq!((ssl.client, ssl.verify), (CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS, 0));
    let (_, name) = ssl.tlvs.into_iter().find(|(kind, _)| *kind == SSL_CN).expect("a CN");
    String::from_utf8(name).expect("text")
}

/// OpenSSL's client is refused with this alert.
#[track_caller]
fn refused(bowline: &Bowline, version: &str, name: &str, alert: &str) {
    let path = |extension: &str| bowline.site.path(&format!("{name}.{extension}")).display().to_string();
    let (certificate, key) = (path("pem"), path("key"));
    let mut client = SClient::connect(bowline.main(), &[version, "-cert", &certificate, "-key", &key]);
    client.log.wait_for(&[alert]);
    client.end_input();
    client.wait();
}

#[test]
fn version_1_of_a_home_made_authority_is_let_in_with_both_versions() {
    let (site, backend) = (Site::new(), Scripted::start());
    home_made(&site);
    let bowline = start(site, "home.pem", "", &backend);
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(visit(&bowline, &backend, version, "v1"), "v1");
    }
}

#[test]
fn version_1_is_refused_without_its_authority_or_once_revoked() {
    let (site, backend) = (Site::new(), Scripted::start());
    home_made(&site);
    // What 'openssl ca' needs to make a list.
    site.write("index.txt", "R\t491231235959Z\t251231235959Z\t4D\tunknown\t/CN=v1\n");
    let settings = "database=index.txt\ndefault_md=sha256\ndefault_crl_days=7\ncrlnumber=number\ncrl_extensions=e\n";
    site.write("ca.cnf", format!("[ca]\ndefault_ca=x\n[x]\n{settings}[e]\nauthorityKeyIdentifier=keyid\n"));
    site.write("number", "01\n");
    openssl(&site, "ca -config ca.cnf -gencrl -keyfile home.key -cert home.pem -out home.crl");
    let bowline = start(site, "ca.pem", "", &backend);
    for version in ["-tls1_2", "-tls1_3"] {
        refused(&bowline, version, "v1", "alert bad certificate");
    }
    bowline.log.wait_for(&["it is X.509 version 1, and no CA of 'ca-file' has signed it directly"]);
    let more = "ssl crt {dir}/server.pem ca-file {dir}/home.pem crl-file {dir}/home.crl verify required";
    bowline.reconfigure(&Config::new().bind("main", more).server(backend.address(), ""));
    bowline.reload();
    for version in ["-tls1_2", "-tls1_3"] {
        refused(&bowline, version, "v1", "alert certificate revoked");
    }
    backend.assert_untouched_by(bowline);
}

#[test]
fn a_self_signed_certificate_is_let_in_if_it_is_listed() {
    let (site, backend) = (Site::new(), Scripted::start());
    home_made(&site);
    let bowline = start(site, "own.pem", "", &backend);
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(visit(&bowline, &backend, version, "own"), "own");
    }
    let more = "ssl crt {dir}/server.pem ca-file {dir}/home.pem verify required";
    bowline.reconfigure(&Config::new().bind("main", more).server(backend.address(), ""));
    bowline.reload();
    refused(&bowline, "-tls1_3", "own", "alert unknown ca");
    backend.assert_untouched_by(bowline);
}

#[test]
fn a_listed_certificate_that_is_no_authority_lets_in_itself_alone() {
    let (site, backend) = (Site::new(), Scripted::start());
    home_made(&site);
    let settings = "[req]\ndistinguished_name=d\nx509_extensions=x\n[d]\n[x]\nbasicConstraints=critical,CA:FALSE\n";
    site.write("req.cnf", settings);
    site.write("client.ext", "extendedKeyUsage=clientAuth\n");
    openssl(
        &site,
        "req -x509 -config req.cnf -newkey rsa:2048 -nodes -keyout alice.key -out alice.pem -days 30 -subj /CN=alice",
    );
    openssl(&site, "req -newkey rsa:2048 -nodes -keyout admin.key -out admin.csr -subj /CN=admin");
    openssl(
        &site,
        "x509 -req -in admin.csr -CA alice.pem -CAkey alice.key -extfile client.ext -set_serial 9 -days 30 -out admin.pem",
    );
    let bowline = start(site, "alice.pem", "", &backend);
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(visit(&bowline, &backend, version, "alice"), "alice");
        refused(&bowline, version, "admin", "alert unknown ca");
    }
    let more = "ssl crt {dir}/server.pem ca-file {dir}/alice.pem verify optional";
    bowline.reconfigure(&Config::new().bind("main", more).server(backend.address(), ""));
    bowline.reload();
    for version in ["-tls1_2", "-tls1_3"] {
        refused(&bowline, version, "admin", "alert unknown ca");
    }
    backend.assert_untouched_by(bowline);
}

both_versions! {
    fn an_ignored_error_is_told_to_the_backend_also_when_the_session_is_resumed(version) {
        let backend = Scripted::start();
        let expired = pki().client_ca.issue(&Leaf::client("late").valid(now() - 2 * DAY, now() - DAY));
        let bowline = start(Site::new(), "ca.pem", "crt-ignore-err X509_V_ERR_CERT_HAS_EXPIRED", &backend);
        let client = Client::new(version).identity(&expired);
        let full = CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS;
        for (resumed, bits) in [(false, full), (true, CLIENT_SSL | CLIENT_CERT_SESS)] {
            let mut tls = client.connect(bowline.main());
            tls.write_all(b"?");
            let mut peer = backend.accept();
            let header = peer.header();
            assert_eq!((header.ssl().client, header.ssl().verify), (bits, 10));
            assert!(header.ssl().tlvs.contains(&(SSL_CN, b"late".to_vec())));
            assert!(header.tlvs.iter().all(|(kind, _)| *kind != FINGERPRINT), "no fingerprint of somebody who proved nothing");
            assert_eq!(peer.read_exact(1), b"?");
            peer.write_all(b"!");
            assert_eq!(tls.read_exact(1), b"!");
            assert_eq!(tls.resumed(), resumed);
            tls.close_notify();
        }
    }

    fn nothing_else_is_ignored(version) {
        let backend = Scripted::start();
        let site = Site::new();
        let revoked = pki().client_ca.issue(&Leaf::client("revoked"));
        site.write("revoked.crl", pki().client_ca.crl(&[&revoked]));
        let more = "crt-ignore-err X509_V_ERR_CERT_HAS_EXPIRED crl-file {dir}/revoked.crl";
        let bowline = start(site, "ca.pem", more, &backend);
        let stranger = Authority::new("Stranger").issue(&Leaf::client("stranger"));
        let refused = |client: Client| client.refused(bowline.main());
        let alert = Ending::Alert(AlertDescription::CertificateRevoked);
        assert_eq!(refused(Client::new(version).identity(&revoked)), alert);
        assert_eq!(refused(Client::new(version).identity(&stranger)), Ending::Alert(AlertDescription::UnknownCA));
        assert_eq!(refused(Client::new(version)), Ending::Alert(AlertDescription::CertificateRequired));
        backend.assert_untouched_by(bowline);
    }
}
