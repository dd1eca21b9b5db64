//! `crt-list`: certificates with names and settings of their own.

use rustls::AlertDescription;

use super::support::client::{Client, Ending, Version};
use super::support::proxy_header::{CLIENT_CERT_CONN, CLIENT_SSL};
use super::support::{Bowline, Config, Leaf, Scripted, Site, both_versions, pki};

const HEADER: &str = "send-proxy-v2 proxy-v2-options ssl,cert-cn,authority";

/// A listener with this list. `a.pem`, `b.pem` and `c.pem` are for a.test, b.test and c.test.
fn listen(list: &str, more: &str, backend: &Scripted) -> Bowline {
    let site = Site::new();
    for name in ["a", "b", "c"] {
        let issued = pki().server_ca.issue(&Leaf::server(&[&format!("{name}.test")]));
        site.write(&format!("{name}.pem"), issued.pem());
    }
    let directory = site.dir().display().to_string();
    site.write("list", list.replace("{dir}", &directory));
    let config =
        Config::new().bind("main", &format!("ssl crt-list {{dir}}/list {more}")).server(backend.address(), HEADER);
    Bowline::start(site, &config)
}

/// Connects and goes through to the backend: CN of the server's certificate, and the client bits of the header.
#[track_caller]
fn visit(client: &Client, bowline: &Bowline, backend: &Scripted) -> (String, u8, bool) {
    let mut tls = client.connect(bowline.main());
    tls.write_all(b"?");
    let mut peer = backend.accept();
    let bits = peer.header().ssl().client;
    assert_eq!(peer.read_exact(1), b"?");
    peer.write_all(b"!");
    assert_eq!(tls.read_exact(1), b"!");
    let shown = tls.server_certificate();
    let (_, certificate) = x509_parser::parse_x509_certificate(&shown).expect("one");
    let resumed = tls.resumed();
    tls.close_notify();
    (certificate.subject().to_string(), bits, resumed)
}

#[track_caller]
fn assert_demands(client: &Client, bowline: &Bowline) {
    assert_eq!(client.refused(bowline.main()), Ending::Alert(AlertDescription::CertificateRequired));
}

both_versions! {
    fn each_name_has_its_certificate_and_its_demands(version) {
        let backend = Scripted::start();
        let list = "{dir}/a.pem\n{dir}/b.pem [ca-file {dir}/ca.pem verify required]\n{dir}/c.pem *.c.test\n";
        let bowline = listen(list, "", &backend);
        let (open, _, _) = visit(&Client::new(version).sni("a.test"), &bowline, &backend);
        let (wild, _, _) = visit(&Client::new(version).sni("x.c.test"), &bowline, &backend);
        let (stranger, _, _) = visit(&Client::new(version).sni("c.test"), &bowline, &backend);
        assert_ne!(open, wild);
        assert_eq!(open, stranger, "the filter stands in the place of the name in the certificate");
        assert_demands(&Client::new(version).sni("b.test"), &bowline);
        let known = Client::new(version).sni("b.test").identity(&pki().good);
        let (_, bits, _) = visit(&known, &bowline, &backend);
        assert_eq!(bits & (CLIENT_SSL | CLIENT_CERT_CONN), CLIENT_SSL | CLIENT_CERT_CONN);
        let unasked = Client::new(version).sni("a.test").identity(&pki().good);
        assert_eq!(visit(&unasked, &bowline, &backend).1, CLIENT_SSL);
    }

    fn a_session_of_an_open_entry_is_worthless_once_the_entry_demands(version) {
        let backend = Scripted::start();
        let bowline = listen("{dir}/a.pem [alpn x]\n", "", &backend);
        let client = Client::new(version).sni("a.test");
        assert!(!visit(&client, &bowline, &backend).2);
        assert!(visit(&client, &bowline, &backend).2, "it is good where it comes from");
        let directory = bowline.site.dir().display().to_string();
        let demanding = format!("{directory}/a.pem [alpn x ca-file {directory}/ca.pem verify required]\n");
        bowline.site.write("list", demanding);
        bowline.reload();
        let offers = client.offers();
        assert_demands(&client, &bowline);
        assert!(client.offers() > offers, "the session was never offered");
    }
}

#[test]
fn versions_are_those_of_the_entry() {
    let backend = Scripted::start();
    let bowline = listen("{dir}/a.pem\n{dir}/b.pem [ssl-min-ver TLSv1.3]\n", "", &backend);
    let old = |name| Client::new(Version::Tls12).sni(name);
    assert_eq!(old("b.test").refused(bowline.main()), Ending::Alert(AlertDescription::ProtocolVersion));
    visit(&old("a.test"), &bowline, &backend);
    visit(&Client::new(Version::Tls13).sni("b.test"), &bowline, &backend);
}

#[test]
fn a_list_with_an_error_is_refused_at_a_reload_and_changes_nothing() {
    let backend = Scripted::start();
    let bowline = listen("{dir}/a.pem\n", "", &backend);
    bowline.site.write("list", "/missing.pem [nonsense]\n");
    bowline.reload_refused(&["nonsense"]);
    visit(&Client::new(Version::Tls13).sni("a.test"), &bowline, &backend);
}
