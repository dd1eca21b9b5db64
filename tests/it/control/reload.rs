//! `reload`: the answer tells the outcome, whoever else asks at the same time.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};

use crate::support::client::{Client, Version};
use crate::support::control::{ask, connect, exchange};
use crate::support::{Bowline, Config, DEADLINE, Echo, Leaf, Site, eventually, pki, serve};

const SOCKET: &str = "stats socket {dir}/admin.sock";

fn config(echo: &Echo) -> Config {
    Config::new().global(SOCKET).bind_tls("").server(echo.address(), "")
}

fn socket(bowline: &Bowline) -> PathBuf {
    bowline.site.path("admin.sock")
}

#[test]
fn success_means_that_the_new_certificate_is_served() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo));
    for generation in 2..5 {
        let new = pki().server_ca.issue(&Leaf::server(&["server.test"]));
        bowline.site.write("server.pem", new.pem());
        let answer = ask(&socket(&bowline), "reload");
        assert_eq!(answer, format!("Success=1\n--\ngeneration {generation} is in force\n\n"));
        let tls = Client::new(Version::Tls13).connect(bowline.main());
        assert!(tls.server_certificate() == *new.leaf());
    }
}

#[test]
fn success_tells_what_changed_and_what_to_look_at() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo));
    // The mode makes a warning: everybody may read the key.
    bowline.reconfigure(&config(&echo).bind("second", ""));
    std::fs::set_permissions(bowline.site.path("server.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    let answer = ask(&socket(&bowline), "reload");
    assert!(answer.starts_with("Success=1\n--\n"), "{answer}");
    assert!(answer.contains("warning[W221]"), "{answer}");
    assert!(answer.contains(&format!("\nlistening on {}\n", bowline.address("second"))), "{answer}");
    bowline.reconfigure(&config(&echo));
    let answer = ask(&socket(&bowline), "reload");
    assert!(answer.contains(&format!("\nno longer listening on {}\n", bowline.address("second"))), "{answer}");
}

#[test]
fn a_refused_reload_tells_every_error_and_the_next_one_works() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo));
    let good = bowline.site.path("server.pem");
    let saved = std::fs::read(&good).unwrap();
    bowline.site.write("server.pem", "nonsense");
    for _ in 0..2 {
        let answer = ask(&socket(&bowline), "reload");
        assert!(answer.starts_with("Success=0\n--\n"), "{answer}");
        assert!(answer.contains("error[E2") && answer.contains("server.pem"), "{answer}");
        assert!(answer.ends_with("; generation 1 stays in force\n\n"), "{answer}");
    }
    bowline.reconfigure(&config(&echo).global("nonsense").global("maxconn many"));
    let answer = ask(&socket(&bowline), "reload");
    assert!(answer.contains("'nonsense'") && answer.contains("'many'"), "every error: {answer}");
    Client::new(Version::Tls13).connect(bowline.main()).echo(b"as before");

    bowline.reconfigure(&config(&echo));
    bowline.site.write("server.pem", saved);
    assert_eq!(ask(&socket(&bowline), "reload"), "Success=1\n--\ngeneration 2 is in force\n\n");
}

#[test]
fn everybody_who_asks_gets_an_answer_about_a_reload_that_began_later() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo).global("stats maxconn 30"));
    let path = socket(&bowline);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            let (path, bowline) = (&path, &bowline);
            scope.spawn(move || {
                let answer = ask(path, "reload;show version");
                assert!(answer.starts_with("Success=1\n--\ngeneration "), "{answer}\n{}", bowline.log.text());
            });
        }
        bowline.signal(Signal::SIGHUP);
    });
    // What was true when the last one asked is in force.
    bowline.site.write("server.pem", "nonsense");
    assert!(ask(&path, "reload").starts_with("Success=0\n"));
}

#[test]
fn a_user_may_not_reload() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo).global("stats socket {dir}/user.sock level user"));
    assert_eq!(ask(&bowline.site.path("user.sock"), "reload"), "Permission denied\n\n");
    assert_eq!(bowline.log.lines_with("reloading").len(), 0);
}

#[test]
fn who_asks_and_leaves_harms_nobody() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo));
    for _ in 0..20 {
        let mut stream = connect(&socket(&bowline));
        std::io::Write::write_all(&mut stream, b"reload\n").unwrap();
    }
    assert!(ask(&socket(&bowline), "reload").starts_with("Success=1\n"));
}

#[test]
fn a_worker_that_dies_takes_its_clients_along_and_the_next_reloads_again() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo));
    let waiting = connect(&socket(&bowline));
    let mark = bowline.log.mark();
    kill(bowline.worker(), Signal::SIGKILL).unwrap();
    bowline.log.wait_after(mark, &["worker adopted generation 1"]);
    assert_eq!(ask(&socket(&bowline), "reload"), "Success=1\n--\ngeneration 2 is in force\n\n");
    // The one from before is gone, or was never taken in and is served by the new worker.
    drop(waiting);
    assert_eq!(exchange(connect(&socket(&bowline)), b"reload\n"), "Success=1\n--\ngeneration 3 is in force\n\n");
}

#[test]
fn a_worker_that_is_replaced_still_answers() {
    let echo = Echo::start();
    let bowline = serve(&config(&echo).global("nbthread 1"));
    let first = bowline.worker();
    for (threads, generation) in [(2, 2), (1, 3)] {
        bowline.reconfigure(&config(&echo).global(&format!("nbthread {threads}")));
        let answer = ask(&socket(&bowline), "reload;show version");
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(answer, format!("Success=1\n--\ngeneration {generation} is in force\n\n{version}\n\n"));
        assert!(ask(&socket(&bowline), "show info").contains(&format!("\nNbthread: {threads}\n")));
    }
    eventually("the end of those before", DEADLINE, || bowline.workers().len() == 1);
    assert_ne!(bowline.worker(), first);
}

#[test]
fn a_program_that_was_replaced_takes_over_before_the_answer() {
    let echo = Echo::start();
    let bowline = Bowline::start_copy(Site::new(), &config(&echo));
    let file = std::fs::read_link(format!("/proc/{}/exe", bowline.master())).unwrap();
    let draft = file.with_extension("new");
    std::fs::copy(&file, &draft).unwrap();
    std::fs::rename(&draft, &file).unwrap();
    let mark = bowline.log.mark();
    assert_eq!(ask(&socket(&bowline), "reload"), "Success=1\n--\nanother program has taken over\n\n");
    assert!(ask(&socket(&bowline), "show info").contains("\nGeneration: 2\n"), "asked again, the new one answers");
    bowline.log.wait_after(mark, &["worker adopted generation 2"]);

    // One that refuses the configuration is not executed, and the answer says why.
    std::fs::copy(&file, &draft).unwrap();
    std::fs::rename(&draft, &file).unwrap();
    bowline.site.write("server.pem", "nonsense");
    let answer = ask(&socket(&bowline), "reload");
    assert!(answer.starts_with("Success=0\n--\nerror: no upgrade: "), "{answer}");
    assert!(ask(&socket(&bowline), "show info").contains("\nGeneration: 2\n"));
}
