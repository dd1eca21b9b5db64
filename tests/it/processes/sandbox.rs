//! What master and worker may do, seen from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::site::*;
use super::write_credential;

/// Runs the master as `daemon` with these capabilities and no others.
fn as_daemon(site: &Site, capabilities: &str) -> Command {
    fs::set_permissions(site.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    let inherited = format!("--inh-caps=-all{capabilities}");
    let ambient = format!("--ambient-caps=-all{capabilities}");
    command.current_dir(site.folder.path()).args([
        "--reuid=daemon",
        "--regid=daemon",
        "--clear-groups",
        &inherited,
        &ambient,
    ]);
    command.args([env!("CARGO_BIN_EXE_bowline"), "-f", "bowline.cfg"]).stdin(std::process::Stdio::null());
    command
}

fn privileged_address() -> SocketAddr {
    let free = (512..1024).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    free.expect("a free port below 1024").local_addr().unwrap()
}

#[track_caller]
fn assert_no_capabilities(process: nix::unistd::Pid) {
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status_of(process, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_of(process, "NoNewPrivs"), "1");
}

#[test]
fn an_ordinary_user_binds_low_ports_by_a_capability_that_the_worker_has_not() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    let address = privileged_address();
    site.configure("", &format!("bind {address}"));
    let running = site.start_command(as_daemon(&site, ",+net_bind_service"));
    assert_eq!(status_of(running.master(), "CapEff"), "0000000000000400");
    assert_no_capabilities(running.worker());
    TcpStream::connect(address).unwrap();
    // The same through an upgrade: the port is not bound again, and the capability is still there.
    running.signal(nix::sys::signal::Signal::SIGUSR2);
    running.wait_for_line("worker adopted generation 2\n");
    assert_eq!(status_of(running.master(), "CapEff"), "0000000000000400");
    // It has a connection to finish.
    eventually("the end of the old worker", || {
        site.end_strays();
        (workers_of(running.master()).len() == 1).then_some(())
    });
    assert_no_capabilities(running.worker());
    TcpStream::connect(address).unwrap();
}

#[test]
fn keys_of_root_are_read_by_a_capability_that_the_worker_has_not() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    write_credential(&site, 0o600);
    let address = free_address();
    site.configure("", &format!("bind {address} ssl crt server.pem"));
    let refused = as_daemon(&site, "").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("server.pem") && said.contains("Permission denied for user daemon (1)"), "{said}");

    let running = site.start_command(as_daemon(&site, ",+dac_read_search"));
    assert_no_capabilities(running.worker());
    let before = fs::read(site.path("server.pem")).unwrap();
    write_credential(&site, 0o600);
    assert_ne!(fs::read(site.path("server.pem")).unwrap(), before);
    running.signal(nix::sys::signal::Signal::SIGHUP);
    running.wait_for_line("worker adopted generation 2\n");
}

#[test]
fn the_root_directory_of_the_worker_is_what_chroot_says() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    let jail = site.path("jail");
    fs::create_dir(&jail).unwrap();
    let backend = UnixListener::bind(jail.join("backend")).unwrap();
    let log = UnixDatagram::bind(jail.join("log")).unwrap();
    log.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for path in [site.folder.path().to_owned(), jail.clone(), jail.join("backend"), jail.join("log")] {
        chown(&path, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let address = free_address();
    let text = format!(
        "global\n  chroot {}\n  log stderr format raw local0\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  \
         timeout server 1m\n\
         frontend f\n  bind {address}\n  log /log local0\n  option tcplog\n  default_backend b\nbackend b\n  server s /backend\n",
        jail.display()
    );
    fs::write(site.path("bowline.cfg"), text).unwrap();
    let running = site.start(&[]);
    running.wait_for_line("root directory changed; ");
    assert_eq!(fs::read_link(format!("/proc/{}/root", running.worker())).unwrap(), jail);
    assert_eq!(fs::read_link(format!("/proc/{}/root", running.master())).unwrap(), Path::new("/"));
    let mut client = TcpStream::connect(address).unwrap();
    let (mut server, _) = backend.accept().unwrap();
    client.write_all(b"inside").unwrap();
    let mut bytes = [0; 6];
    server.read_exact(&mut bytes).unwrap();
    drop((client, server));
    let mut line = [0; 1024];
    let length = log.recv(&mut line).unwrap();
    assert!(String::from_utf8_lossy(&line[..length]).contains(" f b/s "));
}

#[test]
fn an_empty_root_directory_has_no_name_and_nothing_is_left_of_it() {
    if !is_root() {
        return;
    }
    let site = Site::new("chroot auto");
    let running = site.start(&[]);
    let root = fs::read_link(format!("/proc/{}/root", running.worker())).unwrap();
    let root = root.to_str().unwrap();
    assert!(root.ends_with(" (deleted)"), "{root}");
    assert!(!Path::new(root.trim_end_matches(" (deleted)")).exists());
    running.connect();

    // Another one by a reload: it takes another worker.
    site.configure("chroot /", "");
    running.signal(nix::sys::signal::Signal::SIGHUP);
    running.wait_for_line("worker adopted generation 2\n");
    eventually("one worker", || (workers_of(running.master()).len() == 1).then_some(()));
    assert_eq!(fs::read_link(format!("/proc/{}/root", running.worker())).unwrap(), Path::new("/"));
}

#[test]
fn who_may_not_change_the_root_directory_is_told_what_it_takes() {
    if !is_root() {
        return;
    }
    let site = Site::new("chroot auto");
    let refused = as_daemon(&site, "").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("bowline.cfg:3:10") && said.contains("CAP_SYS_CHROOT"), "{said}");

    let running = site.start_command(as_daemon(&site, ",+sys_chroot"));
    assert_no_capabilities(running.worker());
    running.wait_for_line("root directory changed; ");
    running.connect();
}

#[test]
fn a_root_directory_that_a_new_worker_cannot_enter_is_refused_also_while_none_serves() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    let closed = site.folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
    let running = site.start_command(as_daemon(&site, ",+sys_chroot"));
    // Early deaths make the next start wait long enough for a reload.
    for wait in [100, 200, 400, 800, 1600] {
        nix::sys::signal::kill(running.worker(), nix::sys::signal::Signal::SIGKILL).unwrap();
        running.wait_for_line(&format!("starting another worker in {wait} ms"));
        if wait < 1600 {
            eventually("a worker", || (workers_of(running.master()).len() == 1).then_some(()));
        }
    }
    site.configure(&format!("chroot {}", closed.display()), "");
    running.signal(nix::sys::signal::Signal::SIGHUP);
    running.wait_for_line("reload refused");
    running.wait_for_line("worker adopted generation 1\n");
    running.connect();
    site.configure("chroot auto", "");
    running.signal(nix::sys::signal::Signal::SIGHUP);
    running.wait_for_line("worker adopted generation 2\n");
    running.connect();
}

#[test]
fn the_log_has_the_time_of_the_place_though_the_zone_is_a_file() {
    if !Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        return;
    }
    let site = Site::new("");
    site.configure("", "log stderr format iso local0\n  option tcplog");
    let mut command = site.command();
    command.env("TZ", "Asia/Tokyo");
    let running = site.start_command(command);
    drop(running.connect());
    running.wait_for_line("+09:00 ");
}

#[test]
fn what_holds_is_said_at_the_start_and_on_request() {
    let site = Site::new("");
    let running = site.start(&[]);
    let versions = String::from_utf8(site.output(&["-vv"]).stdout).unwrap();
    running.wait_for_line(" runs as user ");
    let log = site.log();
    let said = log.lines().find(|line| line.contains(" runs as user ")).unwrap();
    for what in ["Landlock", "seccomp"] {
        assert!(said.contains(what), "{said}");
        assert!(versions.contains(what), "{versions}");
    }
}
