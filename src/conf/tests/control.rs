//! `stats socket`, `metrics socket` and `-S`.

use std::path::PathBuf;
use std::time::Duration;

use super::{codes, frontend, model};
use crate::conf::master_socket;
use crate::conf::model::{AdminSocket, BindAddress, Level, Purpose};

fn sockets(lines: &str) -> Vec<AdminSocket> {
    model(&format!("global\n{lines}")).process.admin_sockets
}

#[test]
fn a_socket_has_its_parameters() {
    let socket = &sockets("    stats socket /run/x.sock mode 660 user a gid 7 level admin backlog 9 maxconn 3\n")[0];
    assert_eq!(socket.address.value, BindAddress::Unix(PathBuf::from("/run/x.sock")));
    assert_eq!(socket.purpose, Purpose::Control(Level::Admin));
    assert_eq!(
        (socket.unix.mode, socket.unix.user.as_deref(), socket.unix.group.as_deref()),
        (Some(0o660), Some("a"), Some("7"))
    );
    assert_eq!((socket.backlog, socket.maxconn), (Some(9), Some(3)));
}

#[test]
fn without_parameters_the_owner_alone_is_an_operator() {
    let both = sockets("    stats socket /run/x.sock\n    metrics socket 127.0.0.1:9101\n");
    assert_eq!((both[0].purpose, both[0].unix.mode), (Purpose::Control(Level::Operator), Some(0o600)));
    assert_eq!(both[1].purpose, Purpose::Metrics);
}

#[test]
fn limits_have_haproxys_defaults() {
    let process = model("global\n").process;
    assert_eq!((process.admin_timeout, process.admin_maxconn), (Duration::from_secs(10), 10));
    let process = model("global\n    stats timeout 2m\n    stats maxconn 3\n").process;
    assert_eq!((process.admin_timeout, process.admin_maxconn), (Duration::from_secs(120), 3));
}

#[test]
fn what_is_wrong_with_a_socket() {
    let in_global = |line: &str| codes(&format!("global\n    {line}\n"));
    assert_eq!(in_global("stats socket"), ["E102"]);
    assert_eq!(in_global("stats socket /run/x level root"), ["E103"]);
    assert_eq!(in_global("stats socket /run/x level"), ["E102"]);
    assert_eq!(in_global("stats socket /run/x ssl crt y"), ["E106", "E106"]);
    assert_eq!(in_global("stats socket /run/x lvel admin"), ["E101"]);
    assert_eq!(in_global("stats socket /run/x severity-output number"), ["E120"]);
    assert_eq!(in_global("stats socket /run/x expose-fd listeners"), ["N001"]);
    assert_eq!(in_global("stats socket 127.0.0.1"), ["E103"]);
    assert_eq!(in_global("stats timeout 0"), ["E103"]);
    assert_eq!(in_global("stats maxconn 0"), ["E103"]);
    assert_eq!(in_global("metrics socket /run/x level admin"), ["E106"]);
    assert_eq!(in_global("stats socket /run/x\n    stats socket /run/x"), ["E603"]);
    assert_eq!(codes(&frontend("    bind :1 level admin\n")), ["E106"], "commands are expected where there are none");
}

#[test]
fn commands_for_the_whole_network_draw_a_warning() {
    let in_global = |line: &str| codes(&format!("global\n    {line}\n"));
    assert_eq!(in_global("stats socket :9999"), ["W213"]);
    assert_eq!(in_global("stats socket 127.0.0.1:9999"), Vec::<&str>::new());
    assert_eq!(in_global("stats socket [::1]:9999"), Vec::<&str>::new());
    assert_eq!(in_global("metrics socket :9101"), ["W214"]);
    assert_eq!(in_global("metrics socket [::1]:9101"), Vec::<&str>::new());
}

#[test]
fn an_address_is_a_frontends_or_the_process_s() {
    let text = frontend("    bind :1\n").replacen("global\n", "global\n    metrics socket :1\n", 1);
    assert_eq!(codes(&text), ["W214", "E603"]);
}

#[test]
fn the_command_line_has_commas_for_blanks() {
    let socket = master_socket("/run/x.sock,mode,640,level,operator").unwrap();
    assert_eq!((socket.purpose, socket.unix.mode), (Purpose::Control(Level::Operator), Some(0o640)));
    assert_eq!(master_socket("/run/x.sock").unwrap().purpose, Purpose::Control(Level::Admin));
    let errors = master_socket("/run/x.sock,mdoe,640").unwrap_err();
    assert_eq!((errors[0].code, errors[0].at.column), ("E101", 13));
    assert!(master_socket("").is_err() && master_socket("nowhere").is_err());
}
