//! The demo around a stand-in for Bowline.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

/// An executable shell script.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("bowline");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    path
}

/// Not SIGINT: handled once, it would no longer end the test run.
fn signals() -> Signals {
    Signals::new([SIGCHLD]).unwrap()
}

fn demo_folders(parent: &Path) -> usize {
    fs::read_dir(parent)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir())
        .count()
}

#[test]
fn a_bowline_that_ends_at_once_is_an_error_and_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    // It must have been given a configuration next to all the files that it names.
    let executable = script(
        parent.path(),
        r#"test "$1" = -f && cd "$(dirname "$2")" && test -s bowline.cfg -a -s server.pem -a -s ca.pem -a -s crl.pem && exit 3"#,
    );
    let mut out = Vec::new();
    let error = demonstrate(&executable, 0, parent.path(), &mut signals(), &mut out).unwrap_err();
    assert_eq!(error, "Bowline ended with exit code 3");
    assert!(out.is_empty());
    assert_eq!(demo_folders(parent.path()), 0);
}

#[test]
fn an_executable_that_is_missing_is_an_error_and_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let error = demonstrate(
        &parent.path().join("none"),
        0,
        parent.path(),
        &mut signals(),
        &mut io::sink(),
    )
    .unwrap_err();
    assert!(error.starts_with("cannot start "), "{error}");
    assert_eq!(demo_folders(parent.path()), 0);
}

#[test]
fn a_port_in_use_is_an_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = free_address(port).unwrap_err();
    assert!(
        error.contains(&format!("127.0.0.1:{port}")) && error.contains("--port"),
        "{error}"
    );
}

#[test]
fn dropping_bowline_stops_it() {
    let parent = tempfile::tempdir().unwrap();
    let executable = script(parent.path(), "exec sleep 600");
    let mut bowline = Bowline::start(&executable, Path::new("x.cfg")).unwrap();
    bowline.check_running().unwrap();
    let pid = Pid::from_raw(bowline.child.id() as i32);
    kill(pid, None).unwrap();
    drop(bowline);
    kill(pid, None).unwrap_err();
}
