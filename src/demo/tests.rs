//! The demo around a stand-in for Bowline: `false`, which ends at once, or `tail`, which takes `-f FILE` and stays.

use std::fs;

use signal_hook::consts::{SIGUSR2, SIGWINCH};

use super::*;

const ENDS: &str = "/bin/false";
const STAYS: &str = "/usr/bin/tail";

/// Never SIGINT: handled once, it would no longer end the test run.
fn signals(signals: &[i32]) -> Signals {
    Signals::new(signals).unwrap()
}

fn entries(parent: &Path) -> usize {
    fs::read_dir(parent).unwrap().count()
}

#[test]
fn a_bowline_that_ends_at_once_is_an_error_and_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    let signals = &mut signals(&[SIGCHLD]);
    let error = demonstrate(Path::new(ENDS), 0, parent.path(), signals, &mut out).unwrap_err();
    assert_eq!(error, "Bowline ended with exit code 1");
    assert!(out.is_empty());
    assert_eq!(entries(parent.path()), 0);
}

#[test]
fn an_executable_that_is_missing_is_an_error_and_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let none = parent.path().join("none");
    let signals = &mut signals(&[SIGCHLD]);
    let error = demonstrate(&none, 0, parent.path(), signals, &mut io::sink()).unwrap_err();
    assert!(error.starts_with("cannot start "), "{error}");
    assert_eq!(entries(parent.path()), 0);
}

#[test]
fn a_port_in_use_is_an_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = free_address(port).unwrap_err();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--port"), "{error}");
}

#[test]
fn the_folder_has_all_that_the_texts_name() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::create(parent.path()).unwrap();
    let address = (Ipv4Addr::LOCALHOST, 1).into();
    let configuration = instructions::configuration(address, address, folder.path());
    fill(&folder, &configuration).unwrap();
    let texts = instructions::instructions(1, folder.path(), 1, &configuration);
    let files = texts.split_whitespace().filter(|word| word.ends_with(".pem"));
    let files = files.map(|word| folder.file(word)).collect::<Vec<_>>();
    assert!(files.len() > 10, "{texts}");
    for file in files {
        assert!(file.exists(), "{}", file.display());
    }
}

#[test]
fn its_configuration_has_nothing_to_warn_about() {
    let address = (Ipv4Addr::LOCALHOST, 1).into();
    let text = instructions::configuration(address, address, Path::new("/tmp/x"));
    let parsed = crate::conf::parse(&[("bowline.cfg".to_owned(), text.into_bytes())], &Default::default());
    assert_eq!(parsed.diagnostics, []);
}

/// Until it has a value, and not for ever.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}");
        pause(POLL_INTERVAL);
    }
}

/// Listens where the configuration in the demo's folder says, as Bowline would, and returns once it was connected to.
fn accept_in_its_place(parent: &Path) {
    let address = wait_for("no whole configuration", || {
        let folder = fs::read_dir(parent).unwrap().next()?.unwrap().path();
        let text = fs::read_to_string(folder.join("bowline.cfg")).ok()?;
        // Its last word: it has been written to the end.
        let text = text.strip_suffix("cert-fingerprint\n")?;
        let (_, address) = text.split_once("bind ").unwrap();
        Some(address.split_once(' ').unwrap().0.to_owned())
    });
    TcpListener::bind(&address).unwrap().accept().unwrap();
}

/// The process that was started with a file in `parent`.
fn stand_in(parent: &Path) -> Pid {
    wait_for("no stand-in was started", || {
        let mut processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let process = processes.find(|process| {
            let command = fs::read(process.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command);
            command.starts_with(STAYS) && command.contains(parent.to_str().unwrap())
        })?;
        process.file_name()?.to_str()?.parse().ok().map(Pid::from_raw)
    })
}

/// Runs the demo; `end` is called once it has seen its port answer, with the process that it runs and where its folder is.
fn demonstrated(
    executable: &Path,
    signals: &mut Signals,
    end: impl FnOnce(Pid, &Path) + Send + 'static,
) -> (Result<(), String>, String, Pid) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().to_owned();
    let other = thread::spawn(move || {
        accept_in_its_place(&path);
        let pid = stand_in(&path);
        end(pid, &path);
        pid
    });
    let mut out = Vec::new();
    let outcome = demonstrate(executable, 0, parent.path(), signals, &mut out);
    let pid = other.join().unwrap();
    assert_eq!(entries(parent.path()), 0);
    (outcome, String::from_utf8(out).unwrap(), pid)
}

#[test]
fn the_demo_ends_with_its_bowline() {
    // Without the other test's signal, which reaches every handler in this process.
    let signals = &mut signals(&[SIGCHLD]);
    let (outcome, out, pid) = demonstrated(Path::new(STAYS), signals, |pid, _| kill(pid, Signal::SIGKILL).unwrap());
    assert_eq!(outcome.unwrap_err(), "Bowline was killed by signal 9");
    assert!(out.contains(&format!("kill -HUP {pid}\n")), "{out}");
}

#[test]
fn a_signal_ends_the_demo_and_its_bowline() {
    let signals = &mut signals(&[SIGCHLD, SIGUSR2]);
    let raise = |_, _: &Path| signal_hook::low_level::raise(SIGUSR2).unwrap();
    let (outcome, out, pid) = demonstrated(Path::new(STAYS), signals, raise);
    outcome.unwrap();
    assert!(out.contains(&format!("kill -HUP {pid}\n")), "{out}");
    kill(pid, None).unwrap_err();
}

fn ignores_term(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() & (1 << (Signal::SIGTERM as u64 - 1)) != 0
}

#[test]
fn the_folder_does_not_wait_for_a_bowline_that_does_not_end() {
    let folder = tempfile::tempdir().unwrap();
    let stubborn = folder.path().join("stubborn");
    fs::write(&stubborn, format!("#!/bin/sh\ntrap '' TERM\nexec {STAYS} \"$@\"\n")).unwrap();
    fs::set_permissions(&stubborn, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let signals = &mut signals(&[SIGCHLD, SIGWINCH]);
    let (outcome, _, pid) = demonstrated(&stubborn, signals, |pid, parent| {
        // The shell has to get as far as its trap.
        wait_for("TERM is ignored", || ignores_term(pid).then_some(()));
        signal_hook::low_level::raise(SIGWINCH).unwrap();
        wait_for("the folder stays", || (entries(parent) == 0).then_some(()));
        kill(pid, None).unwrap();
        kill(pid, Signal::SIGKILL).unwrap();
    });
    outcome.unwrap();
    kill(pid, None).unwrap_err();
}
