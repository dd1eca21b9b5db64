//! Many certificates: loaded, served and reloaded, in time and memory that grow with their number and not faster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::bowline::resident;
use super::support::client::{Client, Version};
use super::support::{Bowline, Config, Echo, Leaf, Site, pki};

/// Enough to notice what is read twice, few enough for every run; `BOWLINE_CERTIFICATES=10000` measures.
fn count() -> usize {
    std::env::var("BOWLINE_CERTIFICATES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

fn name(number: usize) -> String {
    format!("n{number:05}.test")
}

fn write_certificate(site: &Site, number: usize) -> Vec<u8> {
    let issued = pki().server_ca.issue(&Leaf::server(&[&name(number)]));
    std::fs::write(site.path(&format!("certs/{number:05}.pem")), issued.pem()).expect("a written file");
    issued.leaf().to_vec()
}

fn shown(bowline: &Bowline, listener: &str, name: &str) -> Vec<u8> {
    let mut tls = Client::new(Version::Tls13).sni(name).connect(bowline.address(listener));
    tls.echo(b"hello");
    let certificate = tls.server_certificate().to_vec();
    tls.close_notify();
    certificate
}

#[test]
fn a_directory_and_a_list_of_many_certificates_are_served_and_reloaded() {
    let (count, site, echo) = (count(), Site::new(), Echo::start());
    std::fs::create_dir(site.path("certs")).expect("a directory");
    let mut certificates: Vec<Vec<u8>> = (0..count).map(|number| write_certificate(&site, number)).collect();
    let dir = site.dir().display().to_string();
    let line = |number: usize| format!("{dir}/certs/{number:05}.pem l{number:05}.test\n");
    site.write("list", (0..count).map(line).collect::<String>());
    let config = Config::new()
        .bind("dir", "ssl crt {dir}/certs strict-sni")
        .bind("list", "ssl crt-list {dir}/list strict-sni")
        .server(echo.address(), "");

    let start = Instant::now();
    let bowline = Bowline::start(site, &config);
    eprintln!("{count} certificates: started in {:?}", start.elapsed());
    let at_first = resident(bowline.worker());
    for number in [0, count / 2, count - 1] {
        assert_eq!(shown(&bowline, "dir", &name(number)), certificates[number]);
        assert_eq!(shown(&bowline, "list", &format!("l{number:05}.test")), certificates[number]);
    }

    // One of them is renewed, while a connection is used.
    certificates[count / 2] = write_certificate(&bowline.site, count / 2);
    let over = AtomicBool::new(false);
    let mut busy = Client::new(Version::Tls13).sni(&name(0)).connect(bowline.address("dir"));
    std::thread::scope(|scope| {
        let pulse = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                busy.echo(b"x");
                slowest = slowest.max(start.elapsed());
            }
            slowest
        });
        for _ in 0..3 {
            let start = Instant::now();
            bowline.reload();
            eprintln!("{count} certificates: reloaded in {:?}", start.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        let slowest = pulse.join().expect("no panic");
        eprintln!("{count} certificates: the slowest echo meanwhile took {slowest:?}");
        assert!(slowest < Duration::from_secs(5), "a reload held up a connection for {slowest:?}");
    });
    for number in [0, count / 2, count - 1] {
        assert_eq!(shown(&bowline, "dir", &name(number)), certificates[number]);
    }
    let at_last = resident(bowline.worker());
    eprintln!("{count} certificates: {} KiB of memory, {} KiB after the reloads", at_first >> 10, at_last >> 10);
    assert!(at_last < at_first + at_first / 2 + (16 << 20), "from {at_first} to {at_last} bytes by three reloads");
}
