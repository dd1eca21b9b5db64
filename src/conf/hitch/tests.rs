mod certificates;
mod messages;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::conf;
use crate::conf::ciphers::{Group, Suite12, Suite13};
use crate::conf::model::{BindAddress, Model, ProxyVersion, SniPolicy, TlsVersion, Verify};

const FILE: &str = "hitch.conf";

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

const OUTSIDE: Outside<'static> = Outside {
    list: &|directory| match directory {
        "/e" => Ok(Listing::default()),
        "/d" | "/d/" => Ok(Listing {
            files: [".z.pem", "a.pem", "b.pem", "readme"].map(str::to_owned).to_vec(),
            links: vec!["l.pem".to_owned()],
        }),
        _ => Err("No such file or directory".to_owned()),
    },
    resolve: &|host| match host {
        "nothing" => Ok(Vec::new()),
        "localhost" => Ok(vec![[127, 0, 0, 1].into(), [0, 0, 0, 0, 0, 0, 0, 1].into()]),
        _ => Err("Name or service not known".to_owned()),
    },
};

fn lowered(text: &str, line: &str) -> (Option<Lowered>, Vec<Diagnostic>) {
    let command_line = parse_command_line(&words(line)).expect("a good command line");
    let file = (!text.is_empty()).then(|| (FILE.to_owned(), text.as_bytes().to_vec()));
    lower(&command_line, file.as_ref(), OUTSIDE)
}

/// The text, for a configuration without a finding.
#[track_caller]
fn dump(text: &str, line: &str) -> String {
    let (lowered, diagnostics) = lowered(text, line);
    assert_eq!(diagnostics, [], "{text} {line}");
    lowered.expect("no error").text().to_owned()
}

#[track_caller]
fn model(text: &str, line: &str) -> Model {
    let (lowered, diagnostics) = lowered(text, line);
    let parsed = parse(&lowered.unwrap_or_else(|| panic!("{diagnostics:?}")));
    parsed.model.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
}

/// `line:column code` of everything that is found; the command line is line 0.
fn findings(text: &str, line: &str) -> Vec<String> {
    let (lowered, mut diagnostics) = lowered(text, line);
    diagnostics.extend(lowered.iter().flat_map(|lowered| parse(lowered).diagnostics));
    let place = |at: &Location| if &*at.file == FILE { at.line } else { 0 };
    diagnostics.iter().map(|d| format!("{}:{} {}", place(&d.at), d.at.column, d.code)).collect()
}

fn codes(text: &str) -> Vec<&'static str> {
    let (lowered, mut diagnostics) = lowered(text, "");
    diagnostics.extend(lowered.iter().flat_map(|lowered| parse(lowered).diagnostics));
    diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

/// The line of the dump that starts with these words.
#[track_caller]
fn line_of(dump: &str, start: &str) -> String {
    let line = dump.lines().find(|line| line.trim_start().starts_with(start));
    line.unwrap_or_else(|| panic!("no line '{start}' in\n{dump}")).trim().to_owned()
}

const EXAMPLE: &str = r#"# The example of Debian's package.
frontend = {
    host = "*"
    port = "443"
}
backend = "[127.0.0.1]:6086"    # 6086 is the default Varnish PROXY port.
workers = 4                     # number of CPU cores

daemon = on
user = "hitch"
group = "hitch"
# alpn-protos = "h2, http/1.1"
write-proxy-v2 = on             # Write PROXY header
pem-file = "/etc/ssl/a.pem"
"#;

#[test]
fn the_shipped_example() {
    let expected = "\
# What a Hitch configuration means in HAProxy's language.
global
    nbthread 4
    user hitch
    group hitch
    daemon
    log stderr format raw daemon warning
    ssl-default-bind-ciphers EECDH+AESGCM

defaults
    mode tcp
    log global
    option tcplog
    option dontlognull
    timeout connect 30s
    timeout client-hs 30s
    retries 0
    backlog 100
    option clitcpka
    clitcpka-idle 3600

frontend hitch-1
    bind *:443,[::]:443 v6only defer-accept ssl crt /etc/ssl/a.pem prefer-client-ciphers
    default_backend hitch-backend

backend hitch-backend
    server backend 127.0.0.1:6086 send-proxy-v2 proxy-v2-options ssl,ssl-cipher,authority
";
    assert_eq!(dump(EXAMPLE, ""), expected);
}

const EVERYTHING: &str = r#"
frontend = { host = "192.0.2.1" port = "443"
    pem-file = "own one.pem" pem-file = { cert = "own2.pem" client-verify = none }
    match-global-certs = on client-verify = optional client-verify-ca = "own ca.pem"
    tls-protos = TLSv1.3 sni-nomatch-abort = off prefer-server-ciphers = on ciphersuites = "" ciphers = ""
}
frontend = "[2001:db8::1]:8443+it's.pem"
frontend = "[*]:9443"
backend = "[backend.example]:8080"; backend-refresh = 0
backend-connect-timeout = 5 ssl-handshake-timeout = 6
pem-file = "@first.pem" pem-file = "last.pem" pem-dir = "/d/" pem-dir-glob = "[ab].pem"
ocsp-dir = ""
client-verify = required client-verify-ca = "/ca.pem"
alpn-protos = "h2, http/1.1,"
ciphers = "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH" ciphersuites = "" ecdh-curve = "auto"
tls-protos = TLSv1.2, TLSv1.3
sni-nomatch-abort = yes
write-proxy-v2 = on proxy-proxy = off write-ip = off write-proxy-v1 = off prefer-server-ciphers = off
proxy-tlv = on proxy-authority = off proxy-client-cert = on
workers = auto backlog = 7 keepalive = 60 tcp-fastopen = off recv-bufsize = -1 send-bufsize = -1
chroot = "" user = "u" group = g daemon = "off"
syslog = on syslog-facility = "authpriv" log-filename = "log/h.log" log-level = 2
ssl-engine = "" shared-cache-listen = "" shared-cache-peer = "" shared-cache-if = ""
"#;

#[test]
fn every_option_that_can_be_honoured() {
    let text = dump(EVERYTHING, "--pidfile=/run/h.pid");
    let expected = "\
# What a Hitch configuration means in HAProxy's language.
global
    user u
    group g
    pidfile /run/h.pid
.if feature(BOWLINE)
    log file@log/h.log format iso daemon debug
.endif
    log /dev/log auth2 debug
    ssl-default-bind-ciphers EECDH+AESGCM

defaults
    mode tcp
    log global
    option tcplog
    option dontlognull
    timeout connect 5s
    timeout client-hs 6s
    retries 0
    backlog 7
    option clitcpka
    clitcpka-idle 60

frontend hitch-1
.if feature(BOWLINE)
    bind 192.0.2.1:443 defer-accept ssl ssl-min-ver TLSv1.3 ca-file 'own ca.pem' verify optional alpn h2,http/1.1 last-crt-wins
.endif
    ssl-f-use crt own2.pem verify none
    ssl-f-use crt last.pem
    ssl-f-use crt ./@first.pem
    ssl-f-use crt /d/a.pem
    ssl-f-use crt /d/b.pem
    ssl-f-use crt 'own one.pem'
    ssl-f-use crt own2.pem verify none
    default_backend hitch-backend

frontend hitch-2
.if feature(BOWLINE)
    bind [2001:db8::1]:8443 v6only defer-accept ssl crt 'it'\\''s.pem' ca-file /ca.pem verify required alpn h2,http/1.1 \
prefer-client-ciphers sni-nomatch-abort
.endif
    default_backend hitch-backend

frontend hitch-3
.if feature(BOWLINE)
    bind *:9443,[::]:9443 v6only defer-accept ssl crt last.pem crt ./@first.pem crt /d/a.pem crt /d/b.pem \
ca-file /ca.pem verify required alpn h2,http/1.1 prefer-client-ciphers sni-nomatch-abort last-crt-wins
.endif
    default_backend hitch-backend

backend hitch-backend
.if feature(BOWLINE)
    server backend backend.example:8080 send-proxy-v2 proxy-v2-options ssl,ssl-cipher,client-cert-pem
.endif
";
    assert_eq!(text, expected);
}

/// The model as text without the places.
fn without_places(model: &Model) -> String {
    let text = format!("{model:?}");
    let mut parts = text.split("Location {");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(part.split_once('}').expect("the end of a location").1);
    }
    kept
}

#[test]
fn a_dump_means_the_same() {
    for (text, line) in [
        (EXAMPLE, ""),
        (EVERYTHING, "--pidfile=/x"),
        ("", "cert.pem --write-ip -b /run/b.sock"),
        ("frontend = \"[localhost]:1\" pem-file = \"a\"", "--proxy-proxy -L 2 -l /x/log"),
        ("pem-file = \"#\\x\"", "--write-proxy-v1 -q"),
    ] {
        let source = (FILE.to_owned(), dump(text, line).into_bytes());
        let again = conf::parse(&[source], &BTreeMap::new());
        let again = again.model.unwrap_or_else(|| panic!("{:?}", again.diagnostics));
        assert_eq!(without_places(&again), without_places(&model(text, line)), "{text} {line}");
    }
}

#[test]
fn what_the_model_gets() {
    let model = model(EVERYTHING, "");
    let [first, second, third] = &model.frontends[..] else { panic!("three frontends") };
    let tls = |index: usize| model.frontends[index].binds[0].tls.as_ref().expect("tls");
    assert_eq!(
        (tls(0).min_version, tls(0).sni, tls(0).verify),
        (TlsVersion::Tls13, SniPolicy::Lenient, Verify::Optional)
    );
    assert_eq!(
        (tls(1).min_version, tls(1).sni, tls(1).verify),
        (TlsVersion::Tls12, SniPolicy::NomatchAbort, Verify::Required)
    );
    assert_eq!(tls(1).crt[0].file.value.to_str(), Some("it's.pem"));
    assert_eq!(tls(2).crt[1].file.value.to_str(), Some("./@first.pem"));
    assert_eq!(
        (
            first.timeout_client,
            first.binds[0].socket.tcp.keepalive.and_then(|probes| probes.idle).map(|idle| idle.as_secs())
        ),
        (None, Some(60))
    );
    assert_eq!(second.binds[0].addresses.len(), 1);
    let both: Vec<&BindAddress> = third.binds[0].addresses.iter().map(|address| &address.value).collect();
    assert!(
        matches!(both[..], [_, BindAddress::Inet { address, v6only: Some(true), .. }] if address.is_ipv6()),
        "{both:?}"
    );
}

#[test]
fn places_are_those_of_the_operator() {
    let model = model(EXAMPLE, "-n 3");
    let place = |at: &Location| (at.file.to_string(), at.line, at.column);
    let threads = model.process.threads.expect("threads");
    assert_eq!((threads.value, place(&threads.at)), (3, (COMMAND_LINE.to_owned(), 1, 4)));
    let bind = &model.frontends[0].binds[0];
    assert_eq!(place(&bind.tls.as_ref().expect("tls").crt[0].file.at), (FILE.to_owned(), 14, 12));
    assert_eq!(place(&model.backends[0].servers[0].address.at), (FILE.to_owned(), 6, 11));
    // What only the other front-end finds is told about the place in hitch.conf.
    let twice = "pem-file = \"a\"\nfrontend = \"[*]:1\"\nfrontend = \"[*]:1\"\nuser = \"u\"\nworkers = 5000\n";
    assert!(findings(twice, "").contains(&"5:11 E103".to_owned()), "{:?}", findings(twice, ""));
    let twice = twice.replace("5000", "5");
    assert!(findings(&twice, "").iter().all(|finding| finding.starts_with("3:12 ")), "{:?}", findings(&twice, ""));
    assert!(!findings(&twice, "").is_empty());
}

#[test]
fn the_command_line_goes_before_the_file() {
    let line = "-n 2 --backlog=3 -k9 -b [192.0.2.9]:1 -u other -g2 --tls-protos=TLSv1.2 -sq x.pem --daemon=off --alpn-protos h2 -- -y.pem";
    let text = dump(EXAMPLE, line);
    for (start, expected) in [
        ("nbthread", "nbthread 2"),
        ("backlog", "backlog 3"),
        ("clitcpka-idle", "clitcpka-idle 9"),
        ("user", "user other"),
        ("group", "group 2"),
        ("log /dev/log", "log /dev/log daemon emerg"),
        ("log stderr", "log stderr format raw daemon emerg"),
        ("server", "server backend 192.0.2.9:1 send-proxy-v2 proxy-v2-options ssl,ssl-cipher,authority"),
        (
            "bind",
            "bind *:443,[::]:443 v6only defer-accept ssl crt -y.pem crt /etc/ssl/a.pem crt x.pem ssl-max-ver TLSv1.2 alpn h2 prefer-client-ciphers last-crt-wins",
        ),
    ] {
        assert_eq!(line_of(&text, start), expected);
    }
    assert!(!text.contains("    daemon\n"));
    let alone = dump(
        "",
        "-f [127.0.0.1]:1+a.pem -f [::1]:2 --sni -O b.pem --write-proxy --backend-conn=1 --ssl-hand 2 -L 2 --quiet=off",
    );
    assert_eq!(line_of(&alone, "bind 127"), "bind 127.0.0.1:1 defer-accept ssl crt a.pem sni-nomatch-abort");
    assert_eq!(line_of(&alone, "bind [::1]"), "bind [::1]:2 v6only defer-accept ssl crt b.pem sni-nomatch-abort");
    assert_eq!(line_of(&alone, "log stderr"), "log stderr format raw daemon warning", "the last of the two counts");
    assert_eq!(line_of(&alone, "timeout connect"), "timeout connect 1s");
    let version = |line: &str| model("", line).backends[0].servers[0].proxy.as_ref().map(|out| out.version);
    assert_eq!(version("a.pem"), None);
    assert_eq!(version("a.pem --write-proxy-v1"), Some(ProxyVersion::V1));
    assert_eq!(version("a.pem --write-ip=on"), Some(ProxyVersion::ClientIp));
    assert_eq!(version("a.pem --write-proxy-v2 --write-proxy-v2=off"), None);
}

#[test]
fn tasks() {
    for (line, task) in [
        ("a.pem", Task::Serve),
        ("-t", Task::Test),
        ("--test x", Task::Test),
        ("--dump --config=x", Task::Dump),
        ("-V -t -h --dump", Task::Version),
        ("-h -V", Task::Help),
        ("--vers", Task::Version),
        ("-h", Task::Help),
    ] {
        assert_eq!(parse_command_line(&words(line)).map(|line| line.task), Ok(task), "{line}");
    }
    let config = |line: &str| parse_command_line(&words(line)).expect("good").config;
    assert_eq!(config("x.pem --config a.conf"), Some("a.conf".to_owned()));
    assert_eq!(config("--config="), Some(String::new()));
    let report = |line: &str| parse_command_line(&words(line)).expect("good").listen_report;
    assert_eq!((report("--dbg-listen=x"), report("--dbg-listen="), report("")), (Some("x".to_owned()), None, None));
}

#[test]
fn an_empty_string_is_none() {
    let text =
        dump("frontend = \"\" backend = \"\" pem-file = \"\" pem-file = \"a\" user = \"\" log-filename = \"\"", "");
    assert_eq!(line_of(&text, "bind"), "bind *:8443,[::]:8443 v6only defer-accept ssl crt a prefer-client-ciphers");
    assert_eq!(line_of(&text, "server"), "server backend 127.0.0.1:8000");
    assert_eq!(line_of(&text, "log"), "log stderr format raw daemon warning");
    for line in ["a --frontend=", "a --backend=", "a -f ="] {
        assert_eq!(findings("", line).len(), 1, "{line}");
    }
}

#[test]
fn a_header_that_is_passed_on() {
    let text = dump("proxy-proxy = on pem-file = \"a\"", "");
    assert_eq!(
        line_of(&text, "bind"),
        "bind *:8443,[::]:8443 v6only accept-proxy defer-accept ssl crt a prefer-client-ciphers"
    );
    assert_eq!(line_of(&text, "server"), "server backend 127.0.0.1:8000 send-received-proxy");
    let model = model("proxy-proxy = on pem-file = \"a\"", "");
    let version = model.backends[0].servers[0].proxy.as_ref().map(|out| out.version);
    assert_eq!((version, model.frontends[0].binds[0].accept_proxy), (Some(ProxyVersion::Received), true));
}

#[test]
fn sockets() {
    let text =
        r#"pem-file = "a" backend = "[b.example]:1" backend-refresh = 30 recv-bufsize = 65536 send-bufsize = 4096"#;
    let text = dump(text, "--enable-tcp-fastopen");
    assert_eq!(line_of(&text, "server"), "server backend b.example:1 resolve-interval 30s");
    assert_eq!(line_of(&text, "tune.rcvbuf"), "tune.rcvbuf.client 65536");
    assert_eq!(line_of(&text, "tune.sndbuf"), "tune.sndbuf.client 4096");
    assert!(line_of(&text, "bind").contains(" defer-accept tfo ssl "), "{text}");
    let text = dump("pem-file = \"a\"", "--backendrefresh=5 -b [192.0.2.1]:1 --recv-bufsize=0");
    assert_eq!(line_of(&text, "server"), "server backend 192.0.2.1:1", "an address does not change");
    assert!(!text.contains("tune.rcvbuf"), "{text}");
    assert_eq!(line_of(&dump("pem-file = \"a\"", "--chroot=/e"), "chroot"), "chroot /e");
    assert_eq!(
        line_of(&dump("pem-file = \"a\"", "-R 5 -b [b.example]:1"), "server"),
        "server backend b.example:1 resolve-interval 5s"
    );
}

#[test]
fn all_addresses_of_a_name_are_listened_on() {
    let text = dump("frontend = \"[localhost]:1\" pem-file = \"a\"", "");
    assert_eq!(line_of(&text, "bind"), "bind 127.0.0.1:1,[::1]:1 v6only defer-accept ssl crt a prefer-client-ciphers");
}

#[test]
fn log_files() {
    let line = |text: &str| line_of(&dump(&format!("pem-file = \"a\" {text}"), ""), "log");
    assert_eq!(line("log-filename = \"/x y\" log-level = 9"), "log 'file@/x y' format iso daemon debug");
    assert_eq!(line("log-filename = \"/dev/stdout\""), "log stdout format raw daemon warning");
    assert_eq!(line("log-filename = \"/dev/stderr\""), "log stderr format raw daemon warning");
}

proptest! {
    /// Whatever the bytes: no panic, and what is accepted means what its dump means.
    #[test]
    fn random_files(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_any(&bytes);
    }

    #[test]
    fn random_tokens(parts in proptest::collection::vec(proptest::sample::select(vec![
        "frontend", "pem-file", "backend", "workers", "tls-protos", "client-verify", "pem-dir", "pem-dir-glob", "user", "ciphers", "ecdh-curve", "=", "=", "=",
        "{", "}", "\"a\"", "\"[*]:1\"", "\"/d\"", "\"[[!]*\\\"", "\"'#$ x\"", "\"HIGH:!aRSA\"", "X25519", "4", "on", "TLSv1.3", "required", "\n", ";", "#", "\"",
    ]), 0..60)) {
        read_any(parts.join(" ").as_bytes());
    }

    #[test]
    fn random_command_lines(line in proptest::collection::vec("(-|--)?[a-zA-Z-]{0,12}(=.{0,6})?", 0..6)) {
        if let Ok(command_line) = parse_command_line(&line) {
            let _ = lower(&command_line, None, OUTSIDE);
        }
    }
}

fn read_any(bytes: &[u8]) {
    let file = (FILE.to_owned(), bytes.to_vec());
    let (lowered, diagnostics) = lower(&CommandLine::default(), Some(&file), OUTSIDE);
    assert_eq!(lowered.is_none(), diagnostics.iter().any(Diagnostic::is_error));
    if let Some(lowered) = lowered {
        let parsed = parse(&lowered);
        let source = (FILE.to_owned(), lowered.text().as_bytes().to_vec());
        let again = conf::parse(&[source], &BTreeMap::new());
        let text = |model: &Option<Model>| model.as_ref().map(without_places);
        assert_eq!(text(&parsed.model), text(&again.model));
    }
}
