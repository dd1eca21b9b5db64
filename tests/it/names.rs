//! Which certificate is shown for which name, and which application protocol is agreed.

use rustls::AlertDescription;

use super::support::client::{Client, Ending, Version};
use super::support::openssl::SClient;
use super::support::{Bowline, Config, Echo, Identity, Leaf, Scripted, Site, both_versions, pki, serve};

struct Named {
    first: Identity,
    exact: Identity,
    wild: Identity,
    both_rsa: Identity,
    both_ec: Identity,
    bowline: Bowline,
    _echo: Echo,
}

/// A listener with five certificates.
fn named(more: &str) -> Named {
    let ca = &pki().server_ca;
    let first = ca.issue(&Leaf::server(&["first.test"]));
    let exact = ca.issue(&Leaf::server(&["exact.test", "also.exact.test"]));
    let wild = ca.issue(&Leaf::server(&["*.wild.test"]));
    let both_rsa = ca.issue(&Leaf::server(&["both.test"]).rsa());
    let both_ec = ca.issue(&Leaf::server(&["both.test"]));
    let site = Site::new();
    let mut crt = String::from("ssl");
    for (name, identity) in
        [("first", &first), ("exact", &exact), ("wild", &wild), ("both-rsa", &both_rsa), ("both-ec", &both_ec)]
    {
        site.write(&format!("{name}.pem"), identity.pem());
        crt.push_str(&format!(" crt {{dir}}/{name}.pem"));
    }
    let echo = Echo::start();
    let config = Config::new().bind("main", &format!("{crt} {more}")).server(echo.address(), "");
    let bowline = Bowline::start(site, &config);
    Named { first, exact, wild, both_rsa, both_ec, bowline, _echo: echo }
}

/// CN of a certificate.
fn subject(certificate: &[u8]) -> String {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).expect("one");
    certificate.subject().to_string()
}

impl Named {
    #[track_caller]
    fn assert_shows(&self, client: &Client, expected: &Identity) {
        let mut tls = client.connect(self.bowline.main());
        let (shown, expected) = (tls.server_certificate(), expected.leaf());
        assert_eq!(subject(&shown), subject(expected));
        assert!(shown == *expected, "the other one of the same name");
        tls.echo(b"and it works");
    }
}

both_versions! {
    fn a_name_chooses_its_certificate(version) {
        let named = named("");
        let client = || Client::strict(version);
        named.assert_shows(&client().sni("exact.test"), &named.exact);
        named.assert_shows(&client().sni("also.exact.test"), &named.exact);
        named.assert_shows(&client().sni("first.test"), &named.first);
    }

    fn a_wildcard_stands_for_one_label(version) {
        let named = named("");
        let client = || Client::new(version);
        named.assert_shows(&client().sni("any.wild.test"), &named.wild);
        named.assert_shows(&client().sni("two.labels.wild.test"), &named.first);
        named.assert_shows(&client().sni("wild.test"), &named.first);
    }

    fn the_first_certificate_is_the_default(version) {
        let named = named("");
        let client = || Client::new(version);
        named.assert_shows(&client().sni("nobody.test"), &named.first);
        named.assert_shows(&client().sni("127.0.0.1"), &named.first);
        named.assert_shows(&client().no_sni(), &named.first);
    }

    fn default_crt_is_the_default_of_its_kind_of_key(version) {
        let named = named("default-crt {dir}/both-rsa.pem");
        let client = || Client::new(version).sni("nobody.test");
        named.assert_shows(&client().only_ecdsa(false), &named.both_rsa);
        named.assert_shows(&client().only_ecdsa(true), &named.first);
        named.assert_shows(&client(), &named.first);
        named.assert_shows(&client().no_sni().only_ecdsa(false), &named.both_rsa);
        named.assert_shows(&client().sni("exact.test"), &named.exact);
    }

    fn strict_sni_refuses_names_that_no_certificate_has(version) {
        let named = named("strict-sni");
        let unknown = Ending::Alert(AlertDescription::UnrecognisedName);
        let address = named.bowline.main();
        let client = || Client::new(version);
        assert_eq!(client().sni("nobody.test").refused(address), unknown);
        assert_eq!(client().no_sni().refused(address), unknown);
        named.assert_shows(&client().sni("exact.test"), &named.exact);
        named.assert_shows(&client().sni("any.wild.test"), &named.wild);
    }

    fn a_name_with_two_keys_gives_each_client_what_it_can_verify(version) {
        let named = named("");
        let client = || Client::new(version).sni("both.test");
        named.assert_shows(&client().only_ecdsa(false), &named.both_rsa);
        named.assert_shows(&client().only_ecdsa(true), &named.both_ec);
        named.assert_shows(&client(), &named.both_ec);
    }

    fn alpn_follows_the_preference_of_the_configuration(version) {
        let echo = Echo::start();
        let config = Config::new().bind_tls("alpn first,second").server(echo.address(), "");
        let bowline = serve(&config);
        let client = Client::new(version).alpn(&["second", "other", "first"]);
        let mut tls = client.connect(bowline.main());
        assert_eq!(tls.alpn().as_deref(), Some("first"));
        tls.echo(b"x");
    }

    fn alpn_without_overlap_goes_on_without(version) {
        let echo = Echo::start();
        let config = Config::new().bind_tls("alpn first,second").server(echo.address(), "");
        let bowline = serve(&config);
        let mut tls = Client::new(version).alpn(&["third"]).connect(bowline.main());
        assert_eq!(tls.alpn(), None);
        tls.echo(b"x");
    }

    fn alpn_is_not_asked_of_clients(version) {
        let echo = Echo::start();
        let config = Config::new().bind_tls("alpn first").server(echo.address(), "");
        let bowline = serve(&config);
        let mut tls = Client::new(version).connect(bowline.main());
        assert_eq!(tls.alpn(), None);
        tls.echo(b"x");
    }

    fn alpn_is_not_agreed_where_none_is_configured(version) {
        let echo = Echo::start();
        let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
        let mut tls = Client::new(version).alpn(&["h2"]).connect(bowline.main());
        assert_eq!(tls.alpn(), None);
        tls.echo(b"x");
    }
}

#[test]
fn case_does_not_matter_in_names() {
    let named = named("strict-sni");
    let arguments = ["-servername", "EXACT.Test"];
    let mut openssl = SClient::connect(named.bowline.main(), &arguments);
    openssl.log.wait_for(&["subject=CN = exact.test"]);
    openssl.end_input();
    openssl.wait();
}

#[test]
fn the_intermediates_of_the_file_are_sent() {
    let below = pki().server_ca.intermediate("Server Intermediate");
    let server = below.issue(&Leaf::server(&["server.test"]));
    let site = Site::new();
    site.write("server.pem", server.pem());
    let echo = Echo::start();
    let config = Config::new().bind_tls("").server(echo.address(), "");
    let bowline = Bowline::start(site, &config);
    for version in Version::ALL {
        let mut tls = Client::strict(version).connect(bowline.main());
        assert_eq!(tls.conn.peer_certificates().map(<[_]>::len), Some(2));
        tls.echo(b"x");
    }
}

#[test]
fn a_key_may_stand_in_a_file_beside_the_certificate() {
    let site = Site::new();
    site.write("server.pem", pki().server.chain_pem());
    site.write("server.pem.key", pki().server.key_pem());
    let echo = Echo::start();
    let config = Config::new().bind_tls("").server(echo.address(), "");
    let bowline = Bowline::start(site, &config);
    Client::strict(Version::Tls13).connect(bowline.main()).echo(b"x");
}

#[test]
fn a_directory_of_certificates_is_read_in_the_order_of_names() {
    let site = Site::new();
    let ca = &pki().server_ca;
    let (a, b) = (ca.issue(&Leaf::server(&["a.test"])), ca.issue(&Leaf::server(&["b.test"])));
    std::fs::create_dir(site.path("certs")).expect("a directory");
    std::fs::write(site.path("certs/2.pem"), b.pem()).expect("a file");
    std::fs::write(site.path("certs/1.pem"), a.pem()).expect("a file");
    let echo = Echo::start();
    let config = Config::new().bind("main", "ssl crt {dir}/certs").server(echo.address(), "");
    let bowline = Bowline::start(site, &config);
    let client = || Client::new(Version::Tls13);
    let shown = |client: Client| client.connect(bowline.main()).server_certificate();
    assert_eq!(shown(client().sni("b.test")), *b.leaf());
    assert_eq!(shown(client().sni("a.test")), *a.leaf());
    assert_eq!(shown(client().no_sni()), *a.leaf());
}

#[test]
fn each_listener_has_its_own_certificates_and_demands() {
    let site = Site::new();
    let other = pki().server_ca.issue(&Leaf::server(&["server.test"]));
    site.write("other.pem", other.pem());
    let backend = Scripted::start();
    let config = Config::new().bind_mtls("").bind("open", "ssl crt {dir}/other.pem").server(backend.address(), "");
    let bowline = Bowline::start(site, &config);
    let client = Client::new(Version::Tls13);
    let mut open = client.connect(bowline.address("open"));
    assert_eq!(open.server_certificate(), *other.leaf());
    open.write_all(b"x");
    assert_eq!(backend.accept().read_exact(1), b"x");
    let ending = client.refused(bowline.main());
    assert_eq!(ending, Ending::Alert(AlertDescription::CertificateRequired));
    backend.assert_untouched_by(bowline);
}
