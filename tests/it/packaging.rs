//! What `packaging/` ships, as far as it can be judged without building the package: the tools of systemd and AppArmor say
//! whether its files are well formed, and what they say about the program and the configuration is true.
//! `packaging/test/` does the rest, with a package and a booted system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::bowline::program;
use crate::support::peers;

/// The path of the unit file that the package installs.
const UNIT: &str = "packaging/debian/bowline.service";

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[track_caller]
fn read(path: &str) -> String {
    fs::read_to_string(shipped(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn run(program: &str, arguments: &[&Path]) -> Output {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}. Install it, or set BOWLINE_SKIP_PEERS=1"))
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    said
}

/// The value of a setting that the unit has once.
#[track_caller]
fn setting(name: &str) -> String {
    let unit = read(UNIT);
    let values: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
    let [value] = values[..] else { panic!("{name}: {values:?}") };
    value.to_owned()
}

/// The exposure, from 0 to 10, that systemd computes: HAProxy's unit has 9.6, Hitch's 8.5.
#[test]
fn the_unit_exposes_little() {
    if peers::skipped() {
        return;
    }
    let options = ["security", "--offline=true", "--threshold=20", UNIT].map(Path::new);
    succeeded(&run("systemd-analyze", &options));
}

/// The unit by itself, with each of the drop-ins, and the socket unit.
#[test]
fn systemd_has_nothing_against_the_units() {
    if peers::skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let service = folder.path().join("bowline.service");
    // The program is not installed where the tests run.
    fs::write(&service, read(UNIT).replace("/usr/sbin/bowline", program().to_str().expect("UTF-8"))).unwrap();
    let verify = |unit: &Path| {
        let said = succeeded(&run("systemd-analyze", &[Path::new("verify"), Path::new("--man=no"), unit]));
        // Units of the machine that the tests run on are read too.
        let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("bowline")).collect();
        assert!(about_ours.is_empty(), "{about_ours:?}");
    };
    verify(&service);
    let drop_ins = folder.path().join("bowline.service.d");
    fs::create_dir(&drop_ins).unwrap();
    for example in fs::read_dir(shipped("packaging/examples/systemd")).unwrap() {
        let example = example.unwrap().path();
        let name = example.file_name().expect("a file");
        if example.extension().is_some_and(|extension| extension == "conf") {
            let copy = drop_ins.join(name);
            fs::copy(&example, &copy).unwrap();
            verify(&service);
            fs::remove_file(copy).unwrap();
        } else {
            let copy = folder.path().join(name);
            fs::copy(&example, &copy).unwrap();
            verify(&copy);
        }
    }
}

#[test]
fn apparmor_understands_the_profile() {
    if peers::skipped() {
        return;
    }
    let parser = Path::new("/usr/sbin/apparmor_parser");
    let profile = Path::new("packaging/apparmor/usr.sbin.bowline");
    // Without it a master whose program file was replaced cannot start another worker from it.
    assert!(fs::read_to_string(profile).expect("the profile").contains("mediate_deleted"));
    succeeded(&run(parser.to_str().expect("UTF-8"), &[Path::new("-QK"), profile]));
}

#[test]
fn shells_understand_the_scripts_and_the_completion() {
    let folder = tempfile::tempdir().unwrap();
    let completion = folder.path().join("bowline");
    fs::write(
        &completion,
        succeeded(&run(program().to_str().expect("UTF-8"), &["--completion", "bash"].map(Path::new))),
    )
    .unwrap();
    let mut scripts = vec![completion];
    for path in ["packaging", "packaging/debian", "packaging/debian/tests", "packaging/examples", "packaging/test"] {
        for entry in fs::read_dir(shipped(path)).unwrap() {
            let file = entry.unwrap().path();
            if fs::read(&file)
                .is_ok_and(|content| content.starts_with(b"#!/bin/sh") || content.starts_with(b"#!/bin/bash"))
            {
                scripts.push(file);
            }
        }
    }
    assert!(scripts.len() > 4, "{scripts:?}");
    for script in scripts {
        succeeded(&run("bash", &[Path::new("-n"), &script]));
    }
}

/// As shipped, a stop is over before systemd loses patience, whatever becomes of the requests for more time.
#[test]
fn connections_are_given_less_time_than_systemd_gives_the_service() {
    let configuration = read("conf/bowline.cfg");
    let hard_stop =
        configuration.lines().find_map(|line| line.trim().strip_prefix("hard-stop-after ")).expect("hard-stop-after");
    let seconds = |text: &str| {
        let (number, unit) = text.split_at(text.len() - 1);
        let number: u64 = number.trim().parse().expect("a number");
        Duration::from_secs(number * if unit == "m" { 60 } else { 1 })
    };
    assert!(seconds(hard_stop) + Duration::from_secs(5) < seconds(&setting("TimeoutStopSec")), "{hard_stop}");
}

/// The unit, the default file, the configuration and the maintainer scripts mean the same files.
#[test]
fn files_have_the_same_names_everywhere() {
    let start = setting("ExecStart");
    let (socket, _) = start.split_once(" -S ").expect("-S").1.split_once(' ').expect("more");
    assert!(setting("ExecReload").contains(&format!(" -s {socket} reload")), "{start}");
    let runtime = format!("/run/{}/", setting("RuntimeDirectory"));
    assert!(socket.starts_with(&runtime) && start.contains(&format!("-p {runtime}bowline.pid")), "{start}");
    let logs = format!("/var/log/{}/*", setting("LogsDirectory"));
    for file in ["packaging/debian/bowline.logrotate", "packaging/apparmor/usr.sbin.bowline"] {
        assert!(read(file).contains(&logs), "{file}");
    }
    let default = read("packaging/debian/bowline.default");
    for variable in ["CONFIG", "EXTRAOPTS"] {
        assert!(default.contains(&format!("\n#{variable}=")) && start.contains(&format!("${variable}")), "{variable}");
        assert!(setting("Environment").contains(&format!("{variable}=")), "{variable}");
    }
    let configuration = read("conf/bowline.cfg");
    let tls = "/etc/bowline/tls";
    assert!(configuration.contains(&format!("crt-base {tls}")));
    assert!(read("packaging/debian/bowline.dirs").contains(&tls[1..]));
    assert!(read("packaging/debian/bowline.postinst").contains(tls));
    let user = setting("User");
    assert!(configuration.contains(&format!("user  {user}\n")));
    assert!(read("packaging/debian/bowline.sysusers").starts_with(&format!("u {user} ")));
}

/// Reads the licences of every crate; a crate whose licence has no text in the package is an error.
#[test]
fn licences_of_all_linked_crates_are_in_the_copyright_file() {
    let copyright = succeeded(&run("packaging/copyright.py", &[Path::new("packaging/debian/copyright.in")]));
    for crate_name in ["aws-lc-sys", "rustls", "mio"] {
        assert!(copyright.contains(&format!("Files: vendor/{crate_name}-")), "{crate_name}");
    }
    assert!(!copyright.contains("Files: vendor/tempfile-"), "tests are not linked");
}
