//! `audit`: its words, what is wrong with them, who inherits what.

use super::{codes, findings, frontend, model, read, rendered};
use crate::conf::model::{AuditEvent, AuditTarget, LogSink};

fn audit(words: &str) -> AuditTarget {
    model(&frontend(&format!("    bind :1\n    audit {words}\n"))).frontends.remove(0).audits.remove(0)
}

fn wrong(words: &str) -> Vec<&'static str> {
    codes(&frontend(&format!("    bind :1\n    audit {words}\n")))
}

#[test]
fn a_target_alone_gets_everything_once() {
    let target = audit("stderr");
    assert_eq!((target.sink, target.max_length), (LogSink::Descriptor(2), 8192));
    assert_eq!(target.events, AuditEvent::DEFAULT);
    assert!(!target.events.contains(&AuditEvent::Establish));
}

#[test]
fn options_come_in_any_order() {
    let target = audit("file@/var/log/audit.log events reload,establish,reload format json len 1024");
    assert_eq!((target.sink, target.max_length), (LogSink::File("/var/log/audit.log".into()), 1024));
    assert_eq!(target.events, [AuditEvent::Reload, AuditEvent::Establish]);
    assert_eq!(audit("/dev/log").sink, LogSink::Unix("/dev/log".into()));
    assert_eq!(audit("192.0.2.1").sink, LogSink::Udp("192.0.2.1:514".parse().unwrap()));
    for event in AuditEvent::ALL {
        assert_eq!(audit(&format!("stdout events {}", event.name())).events, [event]);
    }
}

#[test]
fn what_is_wrong_with_a_line() {
    for (words, code) in [
        ("", "E102"),
        ("nowhere", "E103"),
        ("ring@x", "E205"),
        ("file@", "E103"),
        ("stderr local0", "E101"),
        ("stderr len", "E102"),
        ("stderr len 1023", "E103"),
        ("stderr len 65536", "E103"),
        ("stderr len 1100 len 1200", "E105"),
        ("stderr format cbor", "E101"),
        ("stderr format json format json", "E105"),
        ("stderr events", "E102"),
        ("stderr events closed", "E101"),
        ("stderr events close,", "E101"),
        ("stderr events close events cut", "E105"),
        ("global stderr", "E102"),
    ] {
        assert_eq!(wrong(words), [code], "audit {words}");
    }
    assert_eq!(codes(&frontend("    bind :1\n    no audit stderr\n")), ["E102"]);
    assert_eq!(codes("global\n    no audit\n"), ["E102"]);
    assert_eq!(codes("global\n    audit\n"), ["E102"]);
    let many = "    audit stderr\n".repeat(65);
    assert_eq!(codes(&frontend(&format!("    bind :1\n{many}"))), ["E103"]);
}

#[test]
fn an_unknown_event_is_told_which_there_are() {
    let text = rendered(&frontend("    bind :1\n    audit stderr events clsoe\n"), &[]);
    assert!(text.contains("unknown audit event 'clsoe'") && text.contains("did you mean 'close'?"), "{text}");
    assert!(text.contains("there are: close handshake_failed denied cut reload establish"), "{text}");
}

#[test]
fn it_belongs_to_who_takes_clients() {
    let found =
        read("backend b\n    audit stderr\n    timeout connect 1s\n    timeout server 1s\n    server s 127.0.0.1:1\n");
    assert_eq!(findings(&found), ["2:5 W110"]);
}

#[test]
fn lines_add_up_and_are_forgotten_like_those_of_log() {
    let text = "\
global
    audit stdout
    audit fd@3 events reload
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    audit global
frontend one
    bind :1
    audit stderr
    audit global
    default_backend app
frontend two
    bind :2
    no audit
    default_backend app
frontend three
    bind :3
    no audit
    audit stderr
    default_backend app
backend app
    server s 127.0.0.1:80
";
    let model = model(text);
    let sinks = |index: usize| {
        let targets = model.frontends[index].audits.iter();
        targets.map(|target| target.sink.clone()).collect::<Vec<_>>()
    };
    assert_eq!(sinks(0), [1, 3, 2].map(LogSink::Descriptor), "a line adds");
    assert!(sinks(1).is_empty(), "'no audit' forgets");
    assert_eq!(sinks(2), [LogSink::Descriptor(2)]);
    assert_eq!(model.process.audits.len(), 2);
}

#[test]
fn a_line_of_global_that_waits_for_nobodys_connections_is_noticed() {
    let with = |line: &str, more: &str| {
        let text = frontend(&format!("    bind :1\n{more}"));
        read(&text.replacen("global\n", &format!("global\n    {line}\n"), 1))
    };
    assert_eq!(findings(&with("audit stderr", "")), ["2:5 W413"]);
    assert!(findings(&with("audit stderr", "    audit global\n")).is_empty());
    assert!(findings(&with("audit stderr events reload", "")).is_empty());
}
