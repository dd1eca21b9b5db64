//! `SIGHUP`: all of the new, or all of the old; and nobody who is connected notices.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use rustls::AlertDescription;

use super::support::bowline::{descriptors, resident, uid};
use super::support::certs::{DAY, now};
use super::support::client::{Client, Ending, Version, dial};
use super::support::{Bowline, Config, DEADLINE, Echo, Identity, Leaf, Scripted, Site, eventually, pki, serve};

/// A new certificate for the usual name.
fn renewed() -> Identity {
    pki().server_ca.issue(&Leaf::server(&["server.test"]))
}

/// Which certificate a fresh client is shown.
#[track_caller]
fn shown(bowline: &Bowline) -> Vec<u8> {
    let client = Client::new(Version::Tls13).identity(&pki().good);
    let tls = client.connect(bowline.main());
    tls.server_certificate().to_vec()
}

#[test]
fn a_renewed_certificate_is_shown() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    assert!(shown(&bowline) == pki().server.leaf().as_ref());
    let new = renewed();
    bowline.site.write("server.pem", new.pem());
    assert!(shown(&bowline) == pki().server.leaf().as_ref(), "before the reload");
    bowline.reload();
    assert!(shown(&bowline) == new.leaf().as_ref());
}

#[test]
fn twenty_rotations_under_load_fail_no_handshake() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    let address = bowline.main();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = Version::ALL
        .into_iter()
        .map(|version| {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut tls = Client::strict(version).connect(address);
                    tls.echo(b"during a reload");
                    tls.close_notify();
                    assert_eq!(tls.ending(), Ending::CloseNotify);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let new = renewed();
        bowline.site.write("server.pem", new.pem());
        bowline.reload();
        assert!(shown(&bowline) == new.leaf().as_ref());
    }
    let handshakes = done.load(Ordering::Relaxed);
    eventually("handshakes after the last reload", DEADLINE, || done.load(Ordering::Relaxed) > handshakes + 4);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("not one handshake fails");
    }
}

#[test]
fn live_connections_survive() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_mtls("").server(echo.address(), ""));
    let client = Client::new(Version::Tls13).identity(&pki().good);
    let mut tls = client.connect(bowline.main());
    tls.echo(b"before");
    for _ in 0..5 {
        bowline.site.write("server.pem", renewed().pem());
        bowline.reload();
        tls.echo(b"after");
    }
}

#[test]
fn a_handshake_that_is_under_way_survives() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    let client = Client::new(Version::Tls13);
    let tcp = client.dial(bowline.main());
    let mut tls = client.over(tcp);
    let mut hello = Vec::new();
    tls.conn.write_tls(&mut hello).expect("a hello");
    std::io::Write::write_all(&mut tls.tcp, &hello[..60]).expect("half of it");
    bowline.site.write("server.pem", renewed().pem());
    bowline.reload();
    std::io::Write::write_all(&mut tls.tcp, &hello[60..]).expect("the rest");
    tls.handshake().expect("a handshake");
    tls.echo(b"x");
}

#[test]
fn a_new_bind_line_listens() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    TcpStream::connect(bowline.address("second")).expect_err("not yet");
    let config = Config::new().bind_tls("").bind("second", "ssl crt {dir}/server.pem").server(echo.address(), "");
    bowline.reconfigure(&config);
    bowline.reload();
    let client = Client::new(Version::Tls13);
    client.connect(bowline.address("second")).echo(b"new");
    client.connect(bowline.main()).echo(b"old");
}

#[test]
fn a_removed_bind_line_refuses_and_keeps_its_connections() {
    let echo = Echo::start();
    let config = Config::new().bind_tls("").bind("second", "ssl crt {dir}/server.pem").server(echo.address(), "");
    let bowline = serve(&config);
    let client = Client::new(Version::Tls13);
    let mut tls = client.connect(bowline.address("second"));
    tls.echo(b"before");
    bowline.reconfigure(&Config::new().bind_tls("").server(echo.address(), ""));
    bowline.reload();
    eventually("refusal at the removed address", DEADLINE, || TcpStream::connect(bowline.address("second")).is_err());
    tls.echo(b"after");
    client.connect(bowline.main()).echo(b"the other");
}

#[test]
fn a_new_backend_gets_the_new_connections() {
    let (old, new) = (Scripted::start(), Scripted::start());
    let bowline = serve(&Config::new().bind_tls("").server(old.address(), ""));
    let client = Client::new(Version::Tls13);
    let mut before = client.connect(bowline.main());
    let mut old_peer = old.accept();
    bowline.reconfigure(&Config::new().bind_tls("").server(new.address(), ""));
    bowline.reload();
    let mut after = client.connect(bowline.main());
    let mut new_peer = new.accept();
    before.write_all(b"old");
    after.write_all(b"new");
    assert_eq!(old_peer.read_exact(3), b"old");
    assert_eq!(new_peer.read_exact(3), b"new");
    old.assert_untouched_by(bowline);
}

#[test]
fn a_new_revocation_list_counts_for_new_connections() {
    let echo = Echo::start();
    let config = Config::new().bind_mtls("crl-file {dir}/crl.pem").server(echo.address(), "");
    let bowline = serve(&config);
    let client = || Client::new(Version::Tls13).identity(&pki().good);
    client().connect(bowline.main()).echo(b"welcome");
    bowline.site.write("crl.pem", pki().client_ca.crl(&[&pki().good]));
    bowline.reload();
    assert_eq!(client().refused(bowline.main()), Ending::Alert(AlertDescription::CertificateRevoked));
    bowline.site.write("crl.pem", pki().client_ca.crl(&[]));
    bowline.reload();
    client().connect(bowline.main()).echo(b"welcome back");
}

/// The client was asked before the reload, and answers after it.
#[test]
fn a_new_revocation_list_counts_for_handshakes_that_had_begun() {
    let backend = Scripted::start();
    let bowline = serve(&Config::new().bind_mtls("crl-file {dir}/crl.pem").server(backend.address(), ""));
    let half_way = |version| {
        let mut tls = Client::new(version).identity(&pki().good).over(dial(bowline.main()));
        tls.conn.write_tls(&mut tls.tcp).expect("a hello");
        while !tls.conn.wants_write() {
            tls.conn.read_tls(&mut tls.tcp).expect("an answer");
            tls.conn.process_new_packets().expect("TLS");
        }
        tls
    };
    let begun = Version::ALL.map(half_way);
    bowline.site.write("crl.pem", pki().client_ca.crl(&[&pki().good]));
    bowline.reload();
    for mut tls in begun {
        while tls.conn.wants_write() {
            tls.conn.write_tls(&mut tls.tcp).expect("a certificate");
        }
        // rustls has believed the certificate, and no alert can be sent behind its back.
        assert_eq!(tls.ending(), Ending::Truncated);
    }
    backend.assert_untouched_by(bowline);
}

#[test]
fn a_new_ca_counts_for_new_connections() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_mtls("").server(echo.address(), ""));
    let other = pki().other_ca.issue(&Leaf::client("other"));
    let client = |identity| Client::new(Version::Tls13).identity(identity);
    let unknown = Ending::Alert(AlertDescription::UnknownCA);
    assert_eq!(client(&other).refused(bowline.main()), unknown);
    bowline.site.write("ca.pem", pki().other_ca.pem());
    bowline.reload();
    client(&other).connect(bowline.main()).echo(b"welcome");
    assert_eq!(client(&pki().good).refused(bowline.main()), unknown);
}

/// Breaks something, reloads, and makes sure that the error names the file and that nothing has changed; then repairs it.
#[track_caller]
fn refused(name: &str, break_it: impl FnOnce(&Site)) {
    let echo = Echo::start();
    let config = Config::new().bind_mtls("crl-file {dir}/crl.pem").server(echo.address(), "");
    let bowline = serve(&config);
    let path = bowline.site.path(name);
    let good = fs::read(&path).expect("a good file");
    let mut live = Client::new(Version::Tls13).identity(&pki().good);
    let mut tls = live.connect(bowline.main());
    break_it(&bowline.site);
    let line = bowline.reload_refused(&["error", name]);
    assert!(!line.contains("panic"), "{line}");
    tls.echo(b"live");
    assert!(shown(&bowline) == pki().server.leaf().as_ref());
    live = Client::new(Version::Tls12).identity(&pki().good);
    live.connect(bowline.main()).echo(b"new");
    if path.is_dir() {
        fs::remove_dir(&path).expect("an empty directory");
    } else {
        let _ = fs::remove_file(&path);
    }
    bowline.site.write(name, good);
    bowline.reload();
    tls.echo(b"repaired");
}

#[test]
fn a_missing_certificate_is_refused() {
    refused("server.pem", |site| {
        fs::remove_file(site.path("server.pem")).expect("removed");
    });
}

#[test]
fn an_unreadable_certificate_is_refused() {
    // Root may read everything that can be read; a link to itself cannot.
    refused("server.pem", |site| {
        fs::remove_file(site.path("server.pem")).expect("removed");
        symlink("server.pem", site.path("server.pem")).expect("a loop");
    });
}

#[test]
fn an_empty_certificate_is_refused() {
    refused("server.pem", |site| {
        site.write("server.pem", "");
    });
}

#[test]
fn an_empty_directory_in_place_of_a_certificate_is_refused() {
    refused("server.pem", |site| {
        fs::remove_file(site.path("server.pem")).expect("removed");
        fs::create_dir(site.path("server.pem")).expect("a directory");
    });
}

#[test]
fn der_in_place_of_pem_is_refused() {
    refused("server.pem", |site| {
        site.write("server.pem", renewed().leaf());
    });
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    refused("server.pem", |site| {
        let (one, other) = (renewed(), renewed());
        site.write("server.pem", one.chain_pem() + &other.key_pem());
    });
}

#[test]
fn a_certificate_without_a_key_is_refused() {
    refused("server.pem", |site| {
        site.write("server.pem", renewed().chain_pem());
    });
}

#[test]
fn a_key_without_a_certificate_is_refused() {
    refused("server.pem", |site| {
        site.write("server.pem", renewed().key_pem());
    });
}

#[test]
fn truncated_pem_is_refused() {
    refused("server.pem", |site| {
        let whole = renewed().pem();
        site.write("server.pem", &whole[..whole.len() - 100]);
    });
}

#[test]
fn a_certificate_that_is_no_certificate_is_refused() {
    refused("server.pem", |site| {
        let nonsense = super::support::certs::pem("CERTIFICATE", b"nonsense");
        site.write("server.pem", nonsense + &renewed().key_pem());
    });
}

#[test]
fn an_empty_ca_file_is_refused() {
    refused("ca.pem", |site| {
        site.write("ca.pem", "");
    });
}

#[test]
fn a_ca_file_of_garbage_is_refused() {
    refused("ca.pem", |site| {
        site.write("ca.pem", super::support::certs::pem("CERTIFICATE", b"nonsense"));
    });
}

#[test]
fn a_missing_ca_file_is_refused() {
    refused("ca.pem", |site| {
        fs::remove_file(site.path("ca.pem")).expect("removed");
    });
}

#[test]
fn an_empty_revocation_list_file_is_refused() {
    refused("crl.pem", |site| {
        site.write("crl.pem", "");
    });
}

#[test]
fn a_revocation_list_of_garbage_is_refused() {
    refused("crl.pem", |site| {
        site.write("crl.pem", super::support::certs::pem("X509 CRL", b"nonsense"));
    });
}

#[test]
fn an_expired_revocation_list_is_refused() {
    refused("crl.pem", |site| {
        site.write("crl.pem", pki().client_ca.crl_until(&[], now() - DAY));
    });
}

#[test]
fn a_missing_revocation_list_is_refused() {
    refused("crl.pem", |site| {
        fs::remove_file(site.path("crl.pem")).expect("removed");
    });
}

#[test]
fn a_file_that_was_cut_off_closes_no_listener() {
    let echo = Echo::start();
    let config = Config::new().bind_tls("").server(echo.address(), "");
    let bowline = serve(&config);
    bowline.site.configure("");
    bowline.reload_refused(&["bowline.cfg:1:1: error[E111]"]);
    assert!(shown(&bowline) == pki().server.leaf().as_ref());
    bowline.reconfigure(&config);
    bowline.reload();
}

#[test]
fn a_syntax_error_is_refused_with_file_line_and_column() {
    let echo = Echo::start();
    let good = Config::new().bind_tls("").server(echo.address(), "");
    let bowline = serve(&good);
    let bad = Config::new().bind_tls("verfy required").server(echo.address(), "");
    bowline.reconfigure(&bad);
    let text = bad.render(&bowline.site);
    let line = text.lines().position(|line| line.contains("verfy")).expect("it");
    let place = format!("bowline.cfg:{}:", line + 1);
    bowline.reload_refused(&[&place, ": error[E", "verfy"]);
    assert!(shown(&bowline) == pki().server.leaf().as_ref());
    bowline.reconfigure(&good);
    bowline.reload();
}

/// What runs goes on, whatever is wrong with what is to take its place; and says what is wrong.
#[test]
fn no_bad_configuration_touches_what_runs() {
    let echo = Echo::start();
    let good = Config::new().bind_tls("").server(echo.address(), "");
    let bowline = serve(&good);
    let text = good.render(&bowline.site);
    let mut live = Client::new(Version::Tls13).connect(bowline.main());
    live.echo(b"before");
    bowline.site.write("list", "server.pem [verfy required]\n");
    let bind = text.lines().find(|line| line.contains("bind ")).expect("a line");
    let with = |old: &str, new: &str| text.replacen(old, new, 1);
    for (what, broken, words) in [
        ("a condition", format!(".if nonsense(1)\n.endif\n{text}"), &["error[E101]", "nonsense"][..]),
        ("an open condition", format!("{text}.if 1\n"), &["error[E100]", ".endif"]),
        ("a message that stops", format!(".alert \"not today\"\n{text}"), &["error[E108]", "not today"]),
        ("an open quote", format!("{text}\"\n"), &["error[E100]", "quote"]),
        (
            "a variable that is not set",
            with("default_backend be", "default_backend \"$BOWLINE_NOT_SET\""),
            &["error[E104]"],
        ),
        (
            "a warning where none is allowed",
            with("global\n", "global\n    zero-warning\n") + "frontend f\n    default_backend be\n",
            &["error[E109]", "zero-warning"],
        ),
        ("an unknown backend", with("default_backend be", "default_backend bee"), &["error[E401]", "'bee'"]),
        ("a word of HAProxy's", with(bind, &format!("{bind}\n    stick-table type ip size 1")), &["error[E203]"]),
        ("a listener given twice", with(bind, &format!("{bind}\n{bind}")), &["error[E603]", "already bound"]),
        ("a socket in no directory", with(bind, &format!("{bind}\n    bind {{dir}}/none/x.sock")), &["none/x.sock"]),
        ("a certificate list", with(bind, &bind.replace("crt ", "crt-list {dir}/list crt ")), &["list:1:", "'verfy'"]),
        ("bytes", "\u{0}\u{1}\u{2}".to_owned(), &["error[E100]"]),
        ("another language", "frontend = {\n}\n".to_owned(), &["error[E112]", "hitch"]),
    ] {
        bowline.site.configure(&bowline.site.fill_in(&broken));
        let line = bowline.reload_refused(words);
        assert!(!line.contains("panic"), "{what}: {line}");
        live.echo(what.as_bytes());
        assert!(shown(&bowline) == pki().server.leaf().as_ref(), "{what}");
    }
    let path = bowline.site.path("bowline.cfg");
    fs::remove_file(&path).expect("removed");
    bowline.reload_refused(&["error", "bowline.cfg", "No such file"]);
    fs::create_dir(&path).expect("a directory");
    bowline.reload_refused(&["error", "bowline.cfg", "no *.cfg"]);
    live.echo(b"without a file");
    fs::remove_dir(&path).expect("removed");
    bowline.site.configure(&text);
    bowline.reload();
    live.echo(b"after");
}

#[test]
fn a_refused_reload_changes_nothing_of_it() {
    // The first listener's new certificate is good, the second's is not: neither counts.
    let echo = Echo::start();
    let config = Config::new().bind_tls("").bind("second", "ssl crt {dir}/second.pem").server(echo.address(), "");
    let site = Site::new();
    site.write("second.pem", pki().server.pem());
    let bowline = Bowline::start(site, &config);
    bowline.site.write("server.pem", renewed().pem());
    bowline.site.write("second.pem", "nonsense");
    bowline.reload_refused(&["error", "second.pem"]);
    assert!(shown(&bowline) == pki().server.leaf().as_ref());
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    let taken = Scripted::start();
    let port = taken.address().to_string();
    let text = Config::new()
        .bind_tls("")
        .bind("second", "ssl crt {dir}/server.pem")
        .server(echo.address(), "")
        .render(&bowline.site);
    let second = bowline.address("second").to_string();
    bowline.site.configure(&text.replace(&second, &port));
    bowline.reload_refused(&[&port, "in use"]);
    Client::new(Version::Tls13).connect(bowline.main()).echo(b"old");
}

#[test]
fn keys_that_only_root_can_read_are_read_again() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    if nix::unistd::geteuid().is_root() {
        assert_ne!(uid(bowline.worker()), 0, "the worker is root");
    }
    let new = renewed();
    let path = bowline.site.write("server.pem", new.pem());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).expect("it").permissions());
    assert_eq!(mode & 0o077, 0, "others can read the key");
    bowline.reload();
    assert!(shown(&bowline) == new.leaf().as_ref());
}

#[test]
fn a_hundred_reloads_leak_nothing() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_mtls("").server(echo.address(), ""));
    for _ in 0..10 {
        bowline.reload();
    }
    let (master, worker) = (bowline.master(), bowline.worker());
    let before = (descriptors(master), descriptors(worker));
    let memory = (resident(master), resident(worker));
    for _ in 0..100 {
        bowline.reload();
    }
    assert_eq!(bowline.worker(), worker, "the worker was replaced");
    let after = (descriptors(master), descriptors(worker));
    let more = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    assert!(more.0 < 10 && more.1 < 10, "{before:?} descriptors, then {after:?}");
    let grown = resident(master).saturating_sub(memory.0) + resident(worker).saturating_sub(memory.1);
    assert!(grown < 4 << 20, "{grown} bytes more memory");
}

#[test]
fn reloads_in_quick_succession_end_with_the_last_files() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().bind_tls("").server(echo.address(), ""));
    let mut last = renewed();
    for _ in 0..20 {
        last = renewed();
        bowline.site.write("server.pem", last.pem());
        bowline.signal(Signal::SIGHUP);
    }
    eventually("the last certificate", DEADLINE, || shown(&bowline) == last.leaf().as_ref());
}
