//! What the operator asked for: text in, [`model::Model`] out. Reads no file but the text it is given, opens no socket.
#![allow(missing_docs)]

pub mod diagnostic;
pub mod expr;
pub mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use diagnostic::Diagnostic;
use model::*;

pub struct Parsed {
    pub model: Option<Model>,
    pub diagnostics: Vec<Diagnostic>,
}

pub fn variables(_text: &[u8]) -> BTreeSet<String> {
    BTreeSet::new()
}

pub mod keywords {
    pub fn help() -> String {
        "stand-in".into()
    }
}

fn address(word: &str) -> Option<BindAddress> {
    if let Some(n) = word.strip_prefix("fd@") {
        return Some(BindAddress::Descriptor(n.parse().ok()?));
    }
    if let Some(n) = word.strip_prefix("abns@") {
        return Some(BindAddress::Abstract(n.into()));
    }
    if word.starts_with('/') {
        return Some(BindAddress::Unix(word.into()));
    }
    Some(BindAddress::Inet { address: word.parse().ok()?, v6only: None })
}

/// Stand-in: replaced when merging.
pub fn parse(sources: &[(String, Vec<u8>)], _environment: &BTreeMap<String, String>) -> Parsed {
    let mut model = Model::default();
    let mut diagnostics = Vec::new();
    let mut section = "";
    for (file, text) in sources {
        for (number, line) in std::str::from_utf8(text).unwrap_or("").lines().enumerate() {
            let at = Location { file: file.as_str().into(), line: number as u32 + 1, column: 1 };
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["global"] => section = "global",
                ["defaults"] => section = "defaults",
                ["frontend", name] => {
                    section = "frontend";
                    model.frontends.push(Frontend {
                        name: name.to_string(),
                        at: at.clone(),
                        binds: vec![],
                        default_backend: At { value: String::new(), at },
                        maxconn: None,
                        backlog: None,
                        timeout_client: None,
                        timeout_client_hs: None,
                        timeout_client_fin: None,
                        logs: vec![],
                        tcplog: false,
                        dontlognull: false,
                        keepalive: false,
                        accept_tls_eof: false,
                    });
                }
                ["backend", name] => {
                    section = "backend";
                    model.backends.push(Backend {
                        name: name.to_string(),
                        at,
                        servers: vec![],
                        timeout_connect: None,
                        timeout_server: None,
                        timeout_server_fin: None,
                        timeout_tunnel: None,
                        keepalive: false,
                    });
                }
                ["daemon"] if section == "global" => model.process.daemon = true,
                ["user", name] if section == "global" => model.process.user = Some(At { value: name.to_string(), at }),
                ["pidfile", name] if section == "global" => {
                    model.process.pidfile = Some(At { value: PathBuf::from(name), at })
                }
                ["nbthread", n] if section == "global" => {
                    model.process.threads = Some(At { value: n.parse().unwrap(), at })
                }
                ["maxconn", n] if section == "global" => {
                    model.process.maxconn = Some(At { value: n.parse().unwrap(), at })
                }
                ["hard-stop-after", n] if section == "global" => {
                    model.process.hard_stop_after = Some(Duration::from_secs(n.trim_end_matches('s').parse().unwrap()))
                }
                ["bind", word, rest @ ..] if section == "frontend" => {
                    let Some(value) = address(word) else {
                        diagnostics.push(Diagnostic::error("E102", &at, format!("bad address '{word}'")));
                        continue;
                    };
                    let tls = match rest {
                        ["ssl", "crt", path, rest @ ..] => Some(BindTls {
                            crt: vec![At { value: path.into(), at: at.clone() }],
                            verify: Verify::None,
                            ca_file: rest.get(1).map(|path| At { value: path.into(), at: at.clone() }),
                            crl_file: None,
                            alpn: vec![],
                            min_version: TlsVersion::Tls12,
                            max_version: TlsVersion::Tls13,
                            strict_sni: false,
                        }),
                        _ => None,
                    };
                    model.frontends.last_mut().unwrap().binds.push(Bind {
                        at: at.clone(),
                        addresses: vec![At { value, at }],
                        name: None,
                        accept_proxy: false,
                        backlog: None,
                        maxconn: None,
                        unix: UnixPermissions::default(),
                        tls,
                    });
                }
                ["server", name, word] if section == "backend" => {
                    let address = match word.parse() {
                        Ok(address) => ServerAddress::Inet(address),
                        Err(_) => {
                            let (host, port) = word.rsplit_once(':').unwrap_or((word, "80"));
                            ServerAddress::Name { host: host.into(), port: port.parse().unwrap(), family: None }
                        }
                    };
                    model.backends.last_mut().unwrap().servers.push(Server {
                        name: name.to_string(),
                        at: at.clone(),
                        address: At { value: address, at },
                        proxy: None,
                    });
                }
                ["log", word, ..] if section == "global" => model.process.logs.push(LogTarget {
                    sink: match word.strip_prefix("fd@") {
                        Some(n) => LogSink::Descriptor(n.parse().unwrap()),
                        None => LogSink::Udp(word.parse().unwrap()),
                    },
                    max_length: 1024,
                    format: LogFraming::Short,
                    facility: 16,
                    max_level: 7,
                    min_level: 0,
                    at,
                }),
                ["default_backend", _] | ["mode", "tcp"] | ["timeout", ..] => {}
                [word, ..] => diagnostics.push(Diagnostic::error("E101", &at, format!("unknown keyword '{word}'"))),
            }
        }
    }
    let failed = diagnostics.iter().any(|d| d.severity == diagnostic::Severity::Error);
    Parsed { model: (!failed).then_some(model), diagnostics }
}
