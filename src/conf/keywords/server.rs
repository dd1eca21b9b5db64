//! `server` and `default-server` lines (HAProxy manual, 5.2).

use super::super::address;
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::draft::{Proxy, ServerDraft, ServerOptions};
use super::super::format;
use super::super::model::{At, InitAddr, ServerAddress};
use super::super::token::{Word, saturated};
use super::super::value::{self, Unit};
use super::{Action, Apply, Class, Keyword, Line, Places, Table, log, nearest, parameters, should};

/// Formats of one server.
const CUSTOM_MAX: usize = 32;
/// Bytes of one format as written.
const FORMAT_MAX: usize = 4096;

pub(super) const fn parameter(
    name: &'static str,
    usage: &'static str,
    count: usize,
    apply: Apply<ServerOptions>,
    doc: &'static str,
) -> Keyword {
    Keyword {
        name,
        places: Places::SERVER,
        usage,
        class: Class::Must,
        doc,
        arguments: count..=count,
        repeats: false,
        action: Action::Server(apply),
    }
}

pub(super) static KEYWORDS: &[Keyword] = &[
    parameter(
        "send-proxy",
        "",
        0,
        |options, _, _| options.proxy.v1 = true,
        "Send a PROXY protocol header, version 1: the client's address as a line of text.",
    ),
    parameter(
        "send-proxy-v2",
        "",
        0,
        |options, _, _| options.proxy.v2 = true,
        "Send a PROXY protocol header, version 2: addresses, the negotiated application protocol, and what 'proxy-v2-options' adds.",
    ),
    parameter(
        "send-proxy-v2-ssl",
        "",
        0,
        send_ssl,
        "As 'send-proxy-v2', with the version of TLS and whether a client certificate was verified.",
    ),
    parameter(
        "send-proxy-v2-ssl-cn",
        "",
        0,
        send_ssl,
        "As 'send-proxy-v2-ssl', with the common name of the client certificate.",
    ),
    parameter(
        "send-client-ip",
        "",
        0,
        |options, line, _| options.proxy.client_ip = Some(line.word.at.clone()),
        "Extension, Hitch's 'write-ip': send one byte with the number of the address family, then the client's address, 4 or 16 bytes. \
         Not together with a PROXY protocol header.",
    ),
    parameter(
        "send-received-proxy",
        "",
        0,
        |options, line, _| options.proxy.received = Some(line.word.at.clone()),
        "Extension, Hitch's 'proxy-proxy': pass on the PROXY protocol header that the client side sent, version 1 or 2, as it is. What \
         TLS has shown is not told. Needs 'accept-proxy' on every 'bind' line that leads here; not together with another header.",
    ),
    parameter(
        "no-send-proxy",
        "",
        0,
        |options, _, _| options.proxy.v1 = false,
        "Undo 'send-proxy' of 'default-server'.",
    ),
    parameter("no-send-proxy-v2", "", 0, no_send_v2, "Undo 'send-proxy-v2' of 'default-server'."),
    parameter("no-send-proxy-v2-ssl", "", 0, no_send_ssl, "Undo 'send-proxy-v2-ssl' of 'default-server'."),
    parameter("no-send-proxy-v2-ssl-cn", "", 0, no_send_ssl, "Undo 'send-proxy-v2-ssl-cn' of 'default-server'."),
    Keyword {
        repeats: true,
        ..parameter(
            "proxy-v2-options",
            "<option>,…",
            1,
            options,
            "What the version 2 header tells besides addresses: ssl (TLS version, verification), cert-cn, ssl-cipher, cert-sig, cert-key, \
             authority (the server name that the client asked for), crc32c, unique-id. Extensions: client-cert (the certificate, DER), \
             ssl-group, ssl-sig-scheme, cert-fingerprint (SHA-256 of the certificate, hexadecimal, type 0xE0), client-cert-pem (the \
             certificate as Hitch writes it, PEM, type 0xE0). Needs 'send-proxy-v2'.",
        )
    },
    Keyword {
        repeats: true,
        ..parameter(
            "set-proxy-v2-tlv-fmt",
            "(<type>) <format>",
            1,
            custom,
            "Adds a field of this type (0 to 255) to the version 2 header, with the value of a format: \
             set-proxy-v2-tlv-fmt(0xE1) %[ssl_c_der,sha2(256),hex,lower]. Put \"%{+bin}o\" in front for bytes as they are. \
             Of a client whose errors were ignored ('crt-ignore-err', 'ca-ignore-err') samples of the certificate are empty, unless \
             'proxy-v2-options ssl' tells 'verify' beside them. May be repeated.",
        )
    },
    parameter(
        "ssl",
        "",
        0,
        tls,
        "Refused (E230): it asks for TLS towards the server, which this program does not speak; it would send plaintext.",
    ),
    parameter("check-ssl", "", 0, tls, "Refused (E230), as 'ssl'."),
    parameter(
        "no-ssl",
        "",
        0,
        |options, _, _| options.proxy.tls = None,
        "No TLS towards the server: undoes 'ssl' of 'default-server'.",
    ),
    parameter(
        "disabled",
        "",
        0,
        |options, _, _| options.disabled = true,
        "The server takes no connections: clients of its backend are turned away.",
    ),
    parameter("enabled", "", 0, |options, _, _| options.disabled = false, "Undo 'disabled' of 'default-server'."),
    should(parameter(
        "init-addr",
        "<method>,…",
        1,
        init_addr,
        "What to do at the start about the address of a host name: 'libc', look it up; 'none', start without, turning clients away; an \
         address, use that. The first that succeeds counts; 'last' is passed over. Default: 'libc', and a failure is an error.",
    )),
    should(parameter(
        "resolve-interval",
        "<time>",
        1,
        |options, line, diagnostics| {
            let time = value::duration("resolve-interval", &line.arguments[0], Unit::Milliseconds, diagnostics);
            options.resolve_interval = time.filter(|time| !time.is_zero());
        },
        "Extension, Hitch's 'backend-refresh': look the host name up again this often, at least a second apart. A new address counts for \
         new connections; a failure changes nothing. 0 or unset: at reloads only.",
    )),
    parameter("no-check-ssl", "", 0, |_, _, _| {}, "No TLS in health checks: how it is anyway."),
];

fn init_addr(options: &mut ServerOptions, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    options.init_addr.clear();
    for part in word.text.split(|byte| *byte == b',') {
        let address = || std::str::from_utf8(part).ok()?.parse().ok();
        match part {
            b"last" => {}
            b"libc" => options.init_addr.push(InitAddr::Libc),
            b"none" => options.init_addr.push(InitAddr::None),
            _ => match address() {
                Some(address) => options.init_addr.push(InitAddr::Ip(address)),
                None => {
                    let part = super::super::diagnostic::shown(part);
                    let error = word.error("E103", format!("'{part}' is no method of 'init-addr'"));
                    diagnostics.push(error.help("there are: last libc none, and IP addresses"));
                    return;
                }
            },
        }
    }
}

/// `server <name> <address> [parameter …]`.
pub(super) fn line(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let [name, address, rest @ ..] = line.arguments else {
        return;
    };
    let server_name = value::name(name, "server", diagnostics).unwrap_or_default();
    let (address, port_offset) = match address::server(&address.text) {
        Ok((value, port_offset)) => (Some(At { value, at: address.at.clone() }), port_offset),
        Err(error) => {
            diagnostics.push(log::from_address(address, error));
            (None, None)
        }
    };
    let mut options = proxy.settings.default_server.clone();
    read_parameters(&mut options, rest, diagnostics);
    if let Some((keyword, at)) = &options.proxy.tls {
        let target = address.as_ref().map_or_else(|| "the server".to_owned(), |address| written(&address.value));
        let message = format!(
            "'{keyword}' on a server asks for TLS towards {target}; this program would send plaintext, so it refuses to start"
        );
        diagnostics.push(
            Diagnostic::error("E230", at, message)
                .span(saturated(keyword.len()))
                .help("use a local stunnel or HAProxy, or a backend on a trusted network without it"),
        );
    }
    if !proxy.servers.is_empty() {
        let message = format!("a second server in one {} is valid HAProxy but not implemented yet", proxy.kind.word());
        diagnostics.push(line.word.error("E120", message).help("until then: one server in each backend"));
    }
    proxy.servers.push(ServerDraft { name: server_name, at: line.word.at.clone(), address, port_offset, options });
}

/// `default-server [parameter …]`: adds to what was said before.
pub(super) fn default_line(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    read_parameters(&mut proxy.settings.default_server, line.arguments, diagnostics);
}

fn read_parameters(options: &mut ServerOptions, words: &[Word], diagnostics: &mut Diagnostics) {
    parameters(words, Table::Server, diagnostics, |line, diagnostics| {
        if let Action::Server(apply) = line.keyword.action {
            apply(options, line, diagnostics);
        }
    });
}

/// An address for a message.
fn written(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Inet(address) => address.to_string(),
        ServerAddress::Name { host, port, .. } => format!("{host}:{port}"),
        ServerAddress::Unix(path) => super::super::diagnostic::shown(path.as_os_str().as_encoded_bytes()),
        ServerAddress::Abstract(name) => format!("abns@{}", super::super::diagnostic::shown(name)),
    }
}

fn send_ssl(options: &mut ServerOptions, line: &Line<'_>, _: &mut Diagnostics) {
    let options = &mut options.proxy;
    options.v2 = true;
    options.ssl = true;
    options.cert_cn |= line.keyword.name == "send-proxy-v2-ssl-cn";
}

fn no_send_v2(options: &mut ServerOptions, line: &Line<'_>, _: &mut Diagnostics) {
    let options = &mut options.proxy;
    options.v2 = false;
    options.v2_parameter = None;
    options.taken_back = Some((line.keyword.name, line.word.at.clone()));
}

/// As in HAProxy, these take back the whole of what their counterparts switch on.
fn no_send_ssl(options: &mut ServerOptions, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    no_send_v2(options, line, diagnostics);
    options.proxy.ssl = false;
    if line.keyword.name == "no-send-proxy-v2-ssl-cn" {
        options.proxy.cert_cn = false;
    }
}

fn tls(options: &mut ServerOptions, line: &Line<'_>, _: &mut Diagnostics) {
    let options = &mut options.proxy;
    options.tls = Some((line.keyword.name, line.word.at.clone()));
}

/// Values of `proxy-v2-options`: HAProxy's.
const OPTIONS: &[&str] = &["ssl", "cert-cn", "ssl-cipher", "cert-sig", "cert-key", "authority", "crc32c", "unique-id"];
/// Values that HAProxy does not have.
const EXTENSIONS: &[&str] = &["client-cert", "ssl-group", "ssl-sig-scheme", "cert-fingerprint", "client-cert-pem"];

fn options(options: &mut ServerOptions, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let options = &mut options.proxy;
    options.v2_parameter = Some(("proxy-v2-options", line.word.at.clone()));
    let word = &line.arguments[0];
    for name in word.text.split(|byte| *byte == b',') {
        if let Some(extension) = EXTENSIONS.iter().find(|extension| extension.as_bytes() == name) {
            diagnostics.extension(extension, &word.at, word.length);
        }
        let about_tls = match name {
            b"ssl" => &mut options.ssl,
            b"cert-cn" => &mut options.cert_cn,
            b"ssl-cipher" => &mut options.ssl_cipher,
            b"cert-sig" => &mut options.cert_sig,
            b"cert-key" => &mut options.cert_key,
            b"client-cert" => &mut options.client_cert,
            b"ssl-group" => &mut options.ssl_group,
            b"ssl-sig-scheme" => &mut options.ssl_sig_scheme,
            b"authority" => {
                options.authority = true;
                continue;
            }
            b"crc32c" => {
                options.crc32c = true;
                continue;
            }
            b"unique-id" => {
                options.unique_id = true;
                continue;
            }
            b"cert-fingerprint" => {
                options.cert_fingerprint = true;
                continue;
            }
            b"client-cert-pem" => {
                options.client_cert_pem = true;
                continue;
            }
            _ => {
                let name = super::super::diagnostic::shown(name);
                let error = word.error("E101", format!("unknown value '{name}' in 'proxy-v2-options'"));
                diagnostics.push(match nearest(&name, OPTIONS.iter().chain(EXTENSIONS).copied()) {
                    Some(near) => error.label(format!("did you mean '{near}'?")),
                    None => error.help(format!("there are: {} {}", OPTIONS.join(" "), EXTENSIONS.join(" "))),
                });
                return;
            }
        };
        *about_tls = true;
        options.ssl = true;
    }
}

fn custom(options: &mut ServerOptions, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let options = &mut options.proxy;
    options.v2_parameter = Some(("set-proxy-v2-tlv-fmt", line.word.at.clone()));
    let Some(id) = tlv_type(line.word, diagnostics) else {
        return;
    };
    let word = &line.arguments[0];
    if word.text.len() > FORMAT_MAX {
        diagnostics.push(word.error("E103", format!("a format has at most {FORMAT_MAX} bytes")));
        return;
    }
    match format::parse(&word.text) {
        Ok(format) if options.custom.len() < CUSTOM_MAX => options.custom.push((id, format)),
        Ok(_) => diagnostics.push(word.error("E103", format!("more than {CUSTOM_MAX} formats for one server"))),
        Err(error) => {
            let mut place = word.clone();
            // In a word without escapes, at most one quote precedes the text.
            if matches!(word.length.checked_sub(saturated(word.text.len())), Some(0 | 2)) {
                let quote = word.length - saturated(word.text.len());
                place.at.column = place.at.column.saturating_add(saturated(error.offset)).saturating_add(quote / 2);
                place.length = 1;
            }
            let diagnostic = place.error(error.code, error.message);
            diagnostics.push(match error.help {
                Some(help) => diagnostic.help(help),
                None => diagnostic,
            });
        }
    }
}

/// The number in `set-proxy-v2-tlv-fmt(0xE1)`: decimal, hexadecimal after `0x`, octal after `0`, as strtol(3) reads it.
fn tlv_type(word: &Word, diagnostics: &mut Diagnostics) -> Option<u8> {
    let text = String::from_utf8_lossy(&word.text);
    let number = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).map(str::trim);
    let value = number.and_then(|number| {
        let hexadecimal = number.strip_prefix("0x").or(number.strip_prefix("0X"));
        let (digits, radix) = match (hexadecimal, number.strip_prefix('0')) {
            (Some(digits), _) => (digits, 16),
            (None, Some(digits)) if !digits.is_empty() => (digits, 8),
            _ => (number, 10),
        };
        if digits.starts_with('+') { None } else { u8::from_str_radix(digits, radix).ok() }
    });
    if value.is_none() {
        let error = word.error(
            "E103",
            format!("{}: the type of the field goes in parentheses, a number from 0 to 255", word.quoted()),
        );
        diagnostics.push(error.help("write set-proxy-v2-tlv-fmt(0xE1) %[ssl_c_der,sha2(256),hex,lower]"));
    }
    value
}
