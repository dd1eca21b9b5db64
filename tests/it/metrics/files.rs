//! When files of the configuration end.

use crate::support::certs::{DAY, now};
use crate::support::metrics::Scrape;
use crate::support::{Bowline, Config, Echo, Leaf, Site, pki};

#[test]
fn certificates_cas_and_lists_and_a_reload() {
    let echo = Echo::start();
    let site = Site::new();
    let issue =
        |days: i64| pki().server_ca.issue(&Leaf::server(&["server.test"]).valid(now() - DAY, now() + days * DAY));
    let until = |days: i64| (now() + days * DAY) as f64;
    site.write("server.pem", issue(30).pem());
    site.write("other.pem", issue(60).pem());
    site.write("crl.pem", pki().client_ca.crl_until(&[], now() + 5 * DAY));
    let config = Config::new()
        .global("metrics socket {port:metrics}")
        .bind_mtls("crt {dir}/other.pem crl-file {dir}/crl.pem")
        .bind("second", "ssl crt {dir}/server.pem")
        .server(echo.address(), "");
    let bowline = Bowline::start(site, &config);
    let series = |metric: &str, label: &str, file: &str| {
        format!("bowline_{metric}_timestamp_seconds{{{label}=\"{}\"}}", bowline.site.path(file).display())
    };
    let about = |scrape: &Scrape, series: &str, expected: f64| {
        let value = scrape.value(series);
        assert!((value - expected).abs() < 120.0, "{series} is {value}, not {expected}");
    };
    let server = series("certificate_not_after", "cert", "server.pem");
    let crl = series("crl_next_update", "crl", "crl.pem");
    let scrape = Scrape::of(bowline.address("metrics"));
    about(&scrape, &server, until(30));
    about(&scrape, &series("certificate_not_after", "cert", "other.pem"), until(60));
    about(&scrape, &crl, until(5));
    assert!(scrape.value(&series("client_ca_not_after", "ca", "ca.pem")) > now() as f64);
    // Two lines with the same file: one series.
    assert_eq!(scrape.nonzero("bowline_certificate_not_after_timestamp_seconds").len(), 2);

    bowline.site.write("server.pem", issue(90).pem());
    bowline.site.write("crl.pem", pki().client_ca.crl_until(&[], now() + 7 * DAY));
    bowline.reload();
    let scrape = Scrape::of(bowline.address("metrics"));
    about(&scrape, &server, until(90));
    about(&scrape, &crl, until(7));
}
