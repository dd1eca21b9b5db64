//! OCSP responses, made and read by OpenSSL.

use std::process::Command;

use super::support::certs::{DAY, hex, now};
use super::support::metrics::Scrape;
use super::support::openssl::SClient;
use super::support::{Bowline, Config, Echo, Identity, Leaf, Site, pki};

/// Writes a response about `server` beside its certificate.
#[track_caller]
fn respond(site: &Site, server: &Identity, status: &str) {
    site.write("ca.key", pki().server_ca.key_pem());
    site.write("server-ca.pem", pki().server_ca.pem());
    site.write("leaf.pem", server.chain_pem());
    let revoked = if status == "R" { "251231235959Z" } else { "" };
    let serial = hex(&server.serial).to_uppercase();
    let serial = if serial.len() % 2 == 1 { format!("0{serial}") } else { serial };
    site.write("index.txt", format!("{status}\t491231235959Z\t{revoked}\t{serial}\tunknown\t/CN=server.test\n"));
    let words = "ocsp -index index.txt -CA server-ca.pem -rsigner server-ca.pem -rkey ca.key -issuer server-ca.pem \
                 -cert leaf.pem -ndays 7 -respout server.pem.ocsp";
    let made = Command::new("openssl").args(words.split_whitespace()).current_dir(site.dir()).output();
    let made = made.expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Starts with a server certificate, `server-ca.pem` beside it as the issuer.
fn start(site: Site, server: &Identity, echo: &Echo) -> Bowline {
    site.write("server.pem", server.pem());
    site.write("server.pem.issuer", pki().server_ca.pem());
    let config = Config::new().global("metrics socket {port:metrics}").bind_tls("").server(echo.address(), "");
    Bowline::start(site, &config)
}

/// When the metrics say that the response ends.
#[track_caller]
fn told(bowline: &Bowline) -> Option<f64> {
    let path = bowline.site.path("server.pem.ocsp");
    let series = format!("bowline_ocsp_response_next_update_timestamp_seconds{{response=\"{}\"}}", path.display());
    let scrape = Scrape::of(bowline.address("metrics"));
    scrape.has(&series).then(|| scrape.value(&series))
}

/// What OpenSSL's client says about the response.
#[track_caller]
fn seen(bowline: &Bowline, version: &str) -> String {
    let mut openssl = SClient::connect(bowline.main(), &["-status", version, "-servername", "server.test"]);
    openssl.log.wait_for(&["OCSP response:"]);
    openssl.end_input();
    openssl.wait();
    openssl.log.text()
}

#[test]
fn a_good_response_is_stapled() {
    let (site, echo) = (Site::new(), Echo::start());
    let server = pki().server_ca.issue(&Leaf::server(&["server.test"]));
    respond(&site, &server, "V");
    let bowline = start(site, &server, &echo);
    for version in ["-tls1_2", "-tls1_3"] {
        let text = seen(&bowline, version);
        assert!(text.contains("OCSP Response Status: successful") && text.contains("Cert Status: good"), "{text}");
    }
    let end = told(&bowline).expect("a time");
    assert!((end - (now() + 7 * DAY) as f64).abs() < 120.0, "{end}");
}

#[test]
fn a_revocation_is_not_stapled_but_warned_of() {
    let (site, echo) = (Site::new(), Echo::start());
    let server = pki().server_ca.issue(&Leaf::server(&["server.test"]));
    respond(&site, &server, "R");
    let bowline = start(site, &server, &echo);
    bowline.log.wait_for(&["W224", "server.pem.ocsp", "says that the certificate is revoked"]);
    assert!(seen(&bowline, "-tls1_3").contains("no response sent"));
    assert_eq!(told(&bowline), None);
}

#[test]
fn a_response_is_read_again_at_a_reload() {
    let (site, echo) = (Site::new(), Echo::start());
    let server = pki().server_ca.issue(&Leaf::server(&["server.test"]));
    let bowline = start(site, &server, &echo);
    assert!(seen(&bowline, "-tls1_3").contains("no response sent"));
    respond(&bowline.site, &server, "V");
    bowline.reload();
    assert!(seen(&bowline, "-tls1_3").contains("Cert Status: good"));
}
