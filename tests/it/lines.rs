//! Which lines about connections are written, when, and with which level.

use std::time::Duration;

use super::support::client::{Client, Version};
use super::support::{Bowline, Config, Echo, Scripted, Site, Tls, observe};

/// Levels show in the framing `short`.
#[track_caller]
fn serving(backend: std::net::SocketAddr, lines: &[&str]) -> Bowline {
    let mut config = Config::new().bind_tls("").server(backend, "");
    for line in lines {
        config = config.frontend_line(line);
    }
    let site = Site::new();
    let text = config.render(&site).replace("log stderr format raw local0", "log stderr format short local0");
    Bowline::launch(site, &text, &[]).expect("a start")
}

fn connected(bowline: &Bowline) -> Tls {
    Client::new(Version::Tls13).connect(bowline.main())
}

#[test]
fn what_went_well_is_not_logged_if_it_is_not_wanted() {
    let echo = Echo::start();
    let bowline = serving(echo.address(), &["option dontlog-normal"]);
    let mut good = connected(&bowline);
    good.echo(b"fine");
    good.close_notify();
    good.ending();
    drop(good);
    let mut bad = connected(&bowline);
    bad.echo(b"bad");
    bad.reset();
    let line = bowline.log.wait_for(&["fe~ be/s"]);
    assert!(line.contains(" CD "), "{line}");
    assert!(line.starts_with("<6>"), "{line}");
    assert_eq!(bowline.log.lines_with("fe~ be/s").len(), 1);
}

#[test]
fn errors_have_a_level_of_their_own_if_it_is_wanted() {
    let echo = Echo::start();
    let bowline = serving(echo.address(), &["option log-separate-errors"]);
    let mut good = connected(&bowline);
    good.echo(b"fine");
    good.close_notify();
    good.ending();
    let line = bowline.log.wait_for(&["fe~ be/s", " -- "]);
    assert!(line.starts_with("<6>"), "{line}");
    let mut bad = connected(&bowline);
    bad.echo(b"bad");
    bad.reset();
    let line = bowline.log.wait_for(&["fe~ be/s", " CD "]);
    assert!(line.starts_with("<3>"), "{line}");
    let refused = Client::new(Version::Tls13).dial(bowline.main());
    std::io::Write::write_all(&mut &refused, b"GET / HTTP/1.0\r\n\r\n").expect("a connection");
    let line = bowline.log.wait_for(&["fe/main", "plain HTTP"]);
    assert!(line.starts_with("<3>"), "{line}");
}

#[test]
fn the_line_comes_once_the_server_has_accepted_if_it_is_wanted() {
    let backend = Scripted::start();
    let bowline = serving(backend.address(), &["option logasap"]);
    let mut tls = connected(&bowline);
    let mut peer = backend.accept();
    let line = bowline.log.wait_for(&["fe~ be/s"]);
    let fields: Vec<&str> = line.split(' ').collect();
    let times = fields.iter().position(|field| field.contains("/+")).expect("a time that is not the last");
    assert_eq!(fields[times + 1], "+0", "bytes so far: {line}");
    assert_eq!(fields[times + 2], "--", "{line}");
    assert_eq!(fields[times + 3], "1/1/1/1/0", "it still counts: {line}");
    peer.write_all(b"more");
    assert_eq!(tls.read_exact(4), b"more");
    tls.reset();
    observe(Duration::from_millis(200));
    assert_eq!(bowline.log.lines_with("fe~ be/s").len(), 1, "one line is enough");
}
