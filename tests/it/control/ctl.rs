//! `bowline ctl`, and other clients.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::bowline::program;
use crate::support::client::{Client, Version};
use crate::support::peers::skipped;
use crate::support::{Config, Echo, pki, serve};

const SOCKET: &str = "stats socket {dir}/admin.sock level admin";

/// Exit code, standard output, standard error.
fn ctl(words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program()).arg("ctl").args(words).stdin(Stdio::null()).output().expect("bowline runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn the_exit_code_says_whether_it_was_done() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().global(SOCKET).bind_tls("").server(echo.address(), ""));
    let socket = bowline.site.path("admin.sock");
    let asked = |words: &[&str]| ctl(&[&["-s", path(&socket)], words].concat());
    let version = format!("{}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(asked(&["show", "version"]), (Some(0), version.clone(), String::new()));
    assert_eq!(asked(&["show version;show cli level"]), (Some(0), format!("{version}\nadmin\n"), String::new()));
    assert_eq!(asked(&["reload"]), (Some(0), "Success=1\n--\ngeneration 2 is in force\n".to_owned(), String::new()));
    let (code, out, errors) = asked(&["show", "nothing"]);
    assert_eq!((code, &*out), (Some(1), ""));
    assert!(errors.starts_with("Unknown command"), "{errors}");

    bowline.site.write("server.pem", "nonsense");
    let (code, out, errors) = asked(&["reload"]);
    assert_eq!((code, &*out), (Some(1), ""));
    assert!(errors.starts_with("Success=0\n--\n") && errors.contains("error[E2"), "{errors}");
    assert!(errors.ends_with("; generation 2 stays in force\n"), "{errors}");
}

#[test]
fn a_subject_with_blanks_is_one_word() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().global(SOCKET).bind_mtls("").server(echo.address(), ""));
    let identity = pki().client_ca.issue(&crate::support::Leaf::client("two  blanks; and \\ more"));
    let mut tls = Client::new(Version::Tls13).identity(&identity).connect(bowline.main());
    tls.echo(b"x");
    let socket = bowline.site.path("admin.sock");
    let subject = "/CN=two  blanks; and \\ more";
    let cut = |subject: &str| ctl(&["-s", path(&socket), "shutdown", "sessions", "subject", subject]);
    assert_eq!(cut("/CN=two blanks; and \\ more"), (Some(0), "0 sessions shut down.\n".to_owned(), String::new()));
    assert_eq!(cut(subject), (Some(0), "1 session shut down.\n".to_owned(), String::new()));
}

#[test]
fn a_service_that_is_not_there_is_told_from_one_that_may_not_be_asked() {
    let site = crate::support::Site::new();
    let missing = site.path("missing.sock");
    let (code, _, errors) = ctl(&["-s", path(&missing), "show", "info"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("missing.sock: No such file or directory (is there a 'stats socket'"), "{errors}");
    let stale = site.path("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let (code, _, errors) = ctl(&["-s", path(&stale), "show", "info"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("Connection refused (the service does not run)"), "{errors}");
    let mute = site.path("mute.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&mute).unwrap();
    let (code, _, errors) = ctl(&["-s", path(&mute), "-t", "1", "show", "info"]);
    assert_eq!((code, &*errors), (Some(1), "bowline ctl: no answer in time; a longer one is given with -t SECONDS\n"));
    let (code, _, errors) = ctl(&[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("a command is missing"), "{errors}");
    assert_eq!(ctl(&["--help"]).0, Some(0));
}

#[test]
fn a_tcp_address_is_asked_too() {
    let echo = Echo::start();
    let bowline = serve(&Config::new().global("stats socket {port:control}").bind_tls("").server(echo.address(), ""));
    let address = bowline.address("control").to_string();
    assert_eq!(ctl(&["-s", &address, "show", "cli", "level"]), (Some(0), "operator\n".to_owned(), String::new()));
}

#[test]
fn socat_is_a_client_too() {
    if skipped() {
        return;
    }
    let echo = Echo::start();
    let bowline = serve(&Config::new().global(SOCKET).bind_tls("").server(echo.address(), ""));
    let command = format!("echo 'show version;reload' | socat -t60 - {}", bowline.site.path("admin.sock").display());
    let output = Command::new("sh").args(["-c", &command]).output().expect("sh");
    let expected = format!("{}\n\nSuccess=1\n--\ngeneration 2 is in force\n\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", String::from_utf8_lossy(&output.stderr));
}
