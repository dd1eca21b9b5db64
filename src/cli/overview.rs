//! `-c -V`: what was understood, in the order in which a connection meets it.

use std::fmt::Write as _;

use crate::conf::model::{Bind, Model, ProxyOut, ProxyVersion, Purpose, SslTlv, TlsVersion, Tlv};
use crate::snapshot::Snapshot;

/// Frontends with their listeners, certificates and demands, and the backends that they lead to.
pub(super) fn text(model: &Model, snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for socket in &model.process.admin_sockets {
        let address = &socket.address.value;
        let _ = match socket.purpose {
            Purpose::Control(level) => writeln!(text, "commands, up to level {level}, at {address}"),
            Purpose::Metrics => writeln!(text, "metrics at {address}"),
        };
    }
    for frontend in &model.frontends {
        let _ = writeln!(text, "frontend {} ({}:{})", frontend.name, frontend.at.file, frontend.at.line);
        for bind in &frontend.binds {
            listener(&mut text, bind, snapshot);
        }
        let target = &frontend.default_backend.value;
        let backend = model.backends.iter().find(|backend| backend.name == *target);
        let Some(backend) = backend else { continue };
        let _ = writeln!(text, "  connections go to backend {target}");
        for server in &backend.servers {
            let header = server.proxy.as_ref().map_or("no PROXY header".to_owned(), header);
            let _ = writeln!(text, "    server {} at {}, with {header}", server.name, server.address.value);
        }
    }
    text
}

fn listener(text: &mut String, bind: &Bind, snapshot: &Snapshot) {
    let addresses: Vec<String> = bind.addresses.iter().map(|address| address.value.to_string()).collect();
    let tls = bind.tls.as_ref().map_or("plaintext", |tls| match (tls.min_version, tls.max_version) {
        (TlsVersion::Tls12, TlsVersion::Tls12) => "TLS 1.2",
        (TlsVersion::Tls12, TlsVersion::Tls13) => "TLS 1.2 and 1.3",
        (TlsVersion::Tls13, _) => "TLS 1.3",
    });
    let header = if bind.accept_proxy { ", behind a PROXY header" } else { "" };
    let _ = writeln!(text, "  listens on {}: {tls}{header}", addresses.join(", "));
    let built = bind.addresses.first().and_then(|address| snapshot.bind(&address.value));
    if let Some(policy) = built.and_then(|bind| bind.route.tls.as_ref()) {
        for line in policy.overview() {
            let _ = writeln!(text, "    {}", crate::report::Escaped(&line));
        }
    }
}

/// What a server is told, in the words of the configuration.
fn header(proxy: &ProxyOut) -> String {
    match proxy.version {
        ProxyVersion::V1 => "a PROXY header of version 1".to_owned(),
        ProxyVersion::ClientIp => "the client's address".to_owned(),
        ProxyVersion::Received => "the PROXY header that was received".to_owned(),
        ProxyVersion::V2 => {
            let told: Vec<String> = proxy.tlvs.iter().map(field).collect();
            format!("a PROXY header of version 2: {}", told.join(", "))
        }
    }
}

fn field(tlv: &Tlv) -> String {
    match tlv {
        Tlv::Custom { id, .. } => format!("0x{id:02X}"),
        Tlv::Crc32c => "crc32c".to_owned(),
        Tlv::Alpn => "alpn".to_owned(),
        Tlv::Authority => "authority".to_owned(),
        Tlv::UniqueId => "unique-id".to_owned(),
        Tlv::CertFingerprint => "cert-fingerprint".to_owned(),
        Tlv::ClientCertPem => "client-cert-pem".to_owned(),
        Tlv::Ssl(fields) => {
            let words = fields.iter().map(|field| match field {
                SslTlv::Version => "ssl",
                SslTlv::Cn => "cert-cn",
                SslTlv::Cipher => "ssl-cipher",
                SslTlv::SigAlg => "cert-sig",
                SslTlv::KeyAlg => "cert-key",
                SslTlv::Group => "ssl-group",
                SslTlv::SigScheme => "ssl-sig-scheme",
                SslTlv::ClientCert => "client-cert",
            });
            words.collect::<Vec<_>>().join(", ")
        }
    }
}
