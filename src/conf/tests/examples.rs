//! The shipped configuration and the examples: free of errors, and free of warnings.

use super::{codes_of, read, read_with};
use crate::conf::model::{Model, ServerAddress, SniPolicy, Tlv, Verify};

/// No finding at all.
#[track_caller]
fn clean(text: &[u8], environment: &[(&str, &str)]) -> Model {
    let text = std::str::from_utf8(text).expect("UTF-8");
    let parsed = read_with(text, environment);
    assert_eq!(codes_of(&parsed), [""; 0], "{}", super::rendered(text, environment));
    parsed.model.expect("no error")
}

#[test]
fn shipped_configuration_listens_nowhere() {
    let model = clean(include_bytes!("../../../conf/bowline.cfg"), &[]);
    assert!(model.frontends.is_empty() && model.backends.is_empty());
    assert_eq!(model.process.user.map(|at| at.value).as_deref(), Some("bowline"));
}

#[test]
fn shipped_configuration_with_its_examples_taken_in() {
    let text = std::str::from_utf8(include_bytes!("../../../conf/bowline.cfg")).expect("UTF-8");
    // Comment signs directly before a word hide configuration, those before a blank are prose.
    let live = |line: &str| match line
        .strip_prefix('#')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()) || rest.starts_with("    "))
    {
        Some(rest) if !rest.trim_start().starts_with("bowline") => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = text.lines().map(live).collect();
    let model = clean(text.as_bytes(), &[]);
    assert_eq!((model.frontends.len(), model.backends.len()), (2, 2));
    assert_eq!(model.frontends[1].binds[0].tls.as_ref().map(|tls| tls.verify), Some(Verify::Required));
}

#[test]
fn minimal() {
    let model = clean(include_bytes!("../../../conf/examples/minimal.cfg"), &[]);
    assert_eq!((model.frontends.len(), model.backends.len()), (1, 1));
}

#[test]
fn mtls_gateway() {
    let model = clean(include_bytes!("../../../conf/examples/mtls-gateway.cfg"), &[]);
    let tls = model.frontends[0].binds[0].tls.as_ref().expect("ssl");
    assert!(tls.sni == SniPolicy::Strict && tls.verify == Verify::Required && tls.crl_file.is_some());
    let tlvs = &model.backends[0].servers[0].proxy.as_ref().expect("a header").tlvs;
    assert!(matches!(tlvs[..2], [Tlv::Custom { id: 0xE1, .. }, Tlv::Custom { id: 0xE2, .. }]));
}

#[test]
fn postgres_unix() {
    let model = clean(include_bytes!("../../../conf/examples/postgres-unix.cfg"), &[]);
    assert!(model.backends.iter().all(|backend| matches!(backend.servers[0].address.value, ServerAddress::Unix(_))));
    assert!(model.frontends[1].binds[0].tls.is_none());
}

#[test]
fn hitch_like() {
    let model = clean(include_bytes!("../../../conf/examples/hitch-like.cfg"), &[]);
    assert_eq!(model.frontends[0].binds[0].addresses.len(), 2);
}

#[test]
fn behind_haproxy() {
    let model = clean(include_bytes!("../../../conf/examples/behind-haproxy.cfg"), &[]);
    assert!(model.frontends[0].binds[0].accept_proxy);
    assert_eq!(model.backends[0].servers[0].address.value, ServerAddress::Abstract(super::padded("http")));
}

#[test]
fn many_doors() {
    let text = include_bytes!("../../../conf/examples/many-doors.cfg");
    let address = |model: Model| model.backends[0].servers[0].address.value.clone();
    let here = ServerAddress::Inet("127.0.0.1:1883".parse().expect("address"));
    assert_eq!(address(clean(text, &[])), here);
    let there = ServerAddress::Inet("10.0.1.1:1883".parse().expect("address"));
    assert_eq!(address(clean(text, &[("MQTT_BROKER", "10.0.1.1:1883")])), there);
}

/// Debian 12's /etc/haproxy/haproxy.cfg, without what is not implemented yet, in front of a TCP frontend.
#[test]
fn debians_defaults() {
    let text = "\
global
\tlog /dev/log\tlocal0
\tlog /dev/log\tlocal1 notice
\tuser haproxy
\tgroup haproxy
\tdaemon

\t# Default SSL material locations
\tca-base /etc/ssl/certs
\tcrt-base /etc/ssl/private

defaults
\tlog\tglobal
\tmode\thttp
\toption\thttplog
\toption\tdontlognull
        timeout connect 5000
        timeout client  50000
        timeout server  50000
\terrorfile 400 /etc/haproxy/errors/400.http
\terrorfile 403 /etc/haproxy/errors/403.http

listen tls
\tmode tcp
\tbind :443 ssl crt a.pem
\tserver s 127.0.0.1:80
";
    let parsed = read(text);
    assert_eq!(codes_of(&parsed), ["N001", "N001"], "httplog and errorfile");
}
