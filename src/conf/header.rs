//! Which PROXY protocol header a server gets.

use super::diagnostic::Diagnostic;
use super::draft::ProxyOptions;
use super::model::{ProxyOut, ProxyVersion, SslTlv, Tlv};
use super::token::saturated;

/// The header of one server. What looks wrong about it goes to `report`.
pub(crate) fn proxy_out(options: &ProxyOptions, mut report: impl FnMut(Diagnostic)) -> Option<ProxyOut> {
    // As in HAProxy: without version 2, any of its flags that is left makes it send version 1.
    let v1 = options.v1 || options.has_v2_flags();
    if let Some((name, at)) = &options.v2_parameter {
        let span = saturated(name.len());
        if !options.v2 && (v1 || !options.custom.is_empty()) {
            let what = match (options.v1, v1) {
                (true, _) => "only version 2 of the header can carry it",
                (false, true) => "a version 1 header is sent, as in HAProxy, which can not carry it",
                (false, false) => "nothing is sent",
            };
            let message = format!("'{name}' has no effect without 'send-proxy-v2': {what}");
            report(
                Diagnostic::warning("W220", at, message)
                    .span(span)
                    .help(format!("write 'send-proxy-v2 {name} …', or remove it")),
            );
        }
    } else if v1 && !options.v1 && !options.v2 {
        if let Some((name, at)) = &options.taken_back {
            let message =
                format!("'{name}' leaves options of version 2 behind: a version 1 header is sent, as in HAProxy");
            let warning = Diagnostic::warning("W220", at, message).span(saturated(name.len()));
            report(
                warning
                    .help("move 'send-proxy-v2' and its options from 'default-server' to the servers that want them"),
            );
        }
    }
    if let (true, true, Some((name, at))) = (options.client_cert_pem, options.cert_fingerprint, &options.v2_parameter) {
        let message = "'client-cert-pem' and 'cert-fingerprint' have the same type of field, 0xE0: choose one";
        report(Diagnostic::error("E231", at, message).span(saturated(name.len())));
    }
    let instead = [
        ("send-client-ip", &options.client_ip, ProxyVersion::ClientIp),
        ("send-received-proxy", &options.received, ProxyVersion::Received),
    ];
    let mut instead = instead.into_iter().filter_map(|(name, at, version)| Some((name, at.as_ref()?, version)));
    if let Some((name, at, version)) = instead.next() {
        if v1 || options.v2 || instead.next().is_some() {
            let message = format!("'{name}' can not go with another header: a server reads one or the other");
            report(Diagnostic::error("E231", at, message).span(saturated(name.len())));
        }
        return Some(ProxyOut { version, tlvs: Vec::new() });
    }
    match (v1, options.v2) {
        (_, true) => Some(ProxyOut { version: ProxyVersion::V2, tlvs: tlvs(options) }),
        (true, false) => Some(ProxyOut { version: ProxyVersion::V1, tlvs: Vec::new() }),
        (false, false) => None,
    }
}

/// The TLVs in the order of the wire, which is HAProxy's, so that captures compare byte for byte.
fn tlvs(options: &ProxyOptions) -> Vec<Tlv> {
    let mut tlvs: Vec<Tlv> =
        options.custom.iter().map(|(id, format)| Tlv::Custom { id: *id, format: format.clone() }).collect();
    let standard = [
        (options.crc32c, Tlv::Crc32c),
        (true, Tlv::Alpn),
        (options.authority, Tlv::Authority),
        (options.unique_id, Tlv::UniqueId),
        (options.cert_fingerprint, Tlv::CertFingerprint),
        (options.client_cert_pem, Tlv::ClientCertPem),
    ];
    tlvs.extend(standard.into_iter().filter(|(wanted, _)| *wanted).map(|(_, tlv)| tlv));
    if options.ssl {
        let inside = [
            (true, SslTlv::Version),
            (options.cert_cn, SslTlv::Cn),
            (options.cert_key, SslTlv::KeyAlg),
            (options.cert_sig, SslTlv::SigAlg),
            (options.ssl_cipher, SslTlv::Cipher),
            (options.ssl_group, SslTlv::Group),
            (options.ssl_sig_scheme, SslTlv::SigScheme),
            (options.client_cert, SslTlv::ClientCert),
        ];
        tlvs.push(Tlv::Ssl(inside.into_iter().filter(|(wanted, _)| *wanted).map(|(_, tlv)| tlv).collect()));
    }
    tlvs
}
