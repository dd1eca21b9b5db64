//! `bind` lines (HAProxy manual, 5.1).

use super::super::address;
use super::super::diagnostic::{Diagnostics, shown};
use super::super::draft::{BindDraft, Proxy};
use super::super::model::{At, BindAddress, Crt, CrtKind, SYSTEM_CA, Verify};
use super::super::token::{Word, saturated};
use super::super::value;
use super::super::verify_errors::{IgnoredErrors, VerifyError};
use super::{
    Action, Class, Keyword, Line, Places, Table, control, global, lists, log, not_yet, parameters, process, should,
    sockets,
};

/// Longest protocol name (RFC 7301, 3.1).
const PROTOCOL_MAX: usize = 255;
/// Longest list of protocols (RFC 7301, 3.1): its length has 16 bits.
const PROTOCOLS_MAX: usize = 65535;
/// Addresses of one line.
const ADDRESSES_MAX: usize = 1024;

/// A parameter: what stands on each row alike.
pub(super) const fn parameter(
    name: &'static str,
    usage: &'static str,
    count: usize,
    apply: super::Apply<BindDraft>,
    doc: &'static str,
) -> Keyword {
    Keyword {
        name,
        places: Places::BIND,
        usage,
        class: Class::Must,
        doc,
        arguments: count..=count,
        repeats: false,
        action: Action::Bind(apply),
    }
}

pub(super) static KEYWORDS: &[Keyword] = &[
    parameter(
        "ssl",
        "",
        0,
        |bind, line, _| bind.ssl = Some((line.word.at.clone(), line.word.length)),
        "Speak TLS on this socket.",
    ),
    Keyword {
        repeats: true,
        ..parameter(
            "crt",
            "<file or directory>",
            1,
            crt,
            "Certificate with its chain, and the private key: in the same PEM file, or in <file>.key. An OCSP response in \
             <file>.ocsp is stapled. A directory means all its \
             files in the order of their names. May be repeated. The first certificate of the line is the one for clients that ask for no \
             name or for an unknown one, unless 'strict-sni' is set.",
        )
    },
    Keyword {
        repeats: true,
        ..parameter(
            "default-crt",
            "<file or directory>",
            1,
            crt,
            "As 'crt', and the certificate is also for clients that ask for no name or for an unknown one: one of each kind of key \
             (ECDSA, RSA), the first certificate of the line among them.",
        )
    },
    Keyword {
        repeats: true,
        ..parameter(
            "crt-list",
            "<file>",
            1,
            crt,
            "A file with a certificate on each line: '<file> [<option> …] <name> …'. The names stand in the place of those in the \
             certificate; '!<name>' is not meant by a wildcard of the line, '*' makes it a default certificate. The options, in \
             brackets, stand in the place of those of the 'bind' line: verify, ca-file, ca-verify-file, no-ca-names, crl-file, alpn, no-alpn, \
             ssl-min-ver, ssl-max-ver, ciphers, ciphersuites, curves; 'key <file>', 'ocsp <file>' and 'issuer <file>' stand in the place \
             of the files beside the certificate. The client chooses the entry, and so the options, by the name that it \
             asks for: where 'verify' differs it may ask for the name with the laxest one and speak to the same backend.",
        )
    },
    parameter(
        "ca-file",
        "<file or directory>",
        1,
        ca_file,
        "Certificates that client certificates must lead to; their names are sent as a hint. '@system-ca' are those that the \
         system believes about servers. A client certificate of version 1 must be signed by one of them directly; a \
         self-signed one must be among them, and one that may not sign others, by OpenSSL's rules, lets in itself alone.",
    ),
    parameter(
        "ca-verify-file",
        "<file or directory>",
        1,
        ca_file,
        "Further certificates that client certificates may lead to; their names are not sent.",
    ),
    parameter(
        "no-ca-names",
        "",
        0,
        |bind, _, _| bind.no_ca_names = true,
        "Do not send the names of the authorities in 'ca-file'. A client with several certificates then has to guess.",
    ),
    parameter(
        "crt-ignore-err",
        "all|<error>,…",
        1,
        ignored,
        "Errors of the client's own certificate that do not keep it out: X509_V_ERR_CERT_HAS_EXPIRED (10), \
         X509_V_ERR_CRL_HAS_EXPIRED (12), X509_V_ERR_UNABLE_TO_GET_CRL (3), X509_V_ERR_CERT_REVOKED (23), or all, which lets in \
         whoever has any certificate. The field 'verify' of the PROXY header then tells the number, and is never 0; the \
         fingerprint and the PEM in TLV 0xE0 are left out, and samples of the certificate in 'set-proxy-v2-tlv-fmt' are empty unless \
         'proxy-v2-options ssl' sends that field.",
    ),
    parameter(
        "ca-ignore-err",
        "all|<error>,…",
        1,
        ignored,
        "As 'crt-ignore-err', for the other certificates of the client's chain.",
    ),
    parameter(
        "crl-file",
        "<file>",
        1,
        crl_file,
        "Revocation lists, PEM. Every authority in the chain of a client needs one that has not expired; otherwise the client is refused.",
    ),
    parameter(
        "verify",
        "none|optional|required",
        1,
        verify,
        "Ask clients for a certificate: 'required', not without; 'optional', one that is sent must verify; 'none' (default), do not ask.",
    ),
    parameter(
        "alpn",
        "<protocol>,…",
        1,
        alpn,
        "Application protocols in order of preference. If the client knows none of them, the connection goes on without.",
    ),
    parameter("no-alpn", "", 0, |bind, _, _| bind.alpn.clear(), "No application protocols."),
    parameter("ssl-min-ver", "TLSv1.2|TLSv1.3", 1, version, "Lowest version of TLS; default TLSv1.2."),
    parameter("ssl-max-ver", "TLSv1.2|TLSv1.3", 1, version, "Highest version of TLS; default TLSv1.3."),
    parameter("force-tlsv12", "", 0, switch, "TLS 1.2 only."),
    parameter("force-tlsv13", "", 0, switch, "TLS 1.3 only."),
    parameter("no-sslv3", "", 0, switch, "Without effect: SSL 3 does not exist here."),
    parameter("no-tlsv10", "", 0, switch, "Without effect: TLS 1.0 does not exist here."),
    parameter("no-tlsv11", "", 0, switch, "Without effect: TLS 1.1 does not exist here."),
    parameter("no-tlsv12", "", 0, switch, "No TLS 1.2, whatever the other parameters say."),
    parameter("no-tlsv13", "", 0, switch, "No TLS 1.3, whatever the other parameters say."),
    parameter(
        "no-tls-tickets",
        "",
        0,
        switch,
        "No session tickets: sessions are kept in the memory of the process, see 'tune.ssl.cachesize'.",
    ),
    parameter(
        "tls-tickets",
        "",
        0,
        switch,
        "Session tickets (this is the default): undo 'no-tls-tickets' of 'global'.",
    ),
    parameter(
        "tls-ticket-keys",
        "<file>",
        1,
        |bind, line, _| bind.ticket_keys = Some(path(line)),
        "Keys of session tickets, so that sessions outlive the process and resume on other machines, on a 'bind' line of the \
         same 'name', authorities and revocation lists: at least three lines of 48 or 80 random bytes in base64 ('openssl rand -base64 48'). The last three \
         open tickets, the last but one seals them; to rotate, append a line everywhere and reload. Without it keys are drawn \
         by the process and never leave its memory. Whoever reads the file can read the traffic of its sessions in TLS 1.2.",
    ),
    parameter(
        "ciphers",
        "<list>",
        1,
        lists::of_bind,
        "Cipher suites of TLS 1.2 in order of preference, as OpenSSL's cipher strings name them: suites, words such as ECDHE+AESGCM \
         or HIGH, and what to leave out, such as !aRSA. What does not exist here is left out.",
    ),
    parameter(
        "ciphersuites",
        "<suite>[:<suite>]…",
        1,
        lists::of_bind,
        "Cipher suites of TLS 1.3 in order of preference: TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256, \
         TLS_CHACHA20_POLY1305_SHA256.",
    ),
    parameter(
        "curves",
        "<group>[:<group>]…",
        1,
        lists::of_bind,
        "Groups of the key exchange: X25519MLKEM768, X25519, P-256, P-384 (these are the default), SecP256r1MLKEM768, MLKEM768, \
         MLKEM1024. Of those in the list, the one that the client names first is taken.",
    ),
    parameter(
        "ecdhe",
        "<group>",
        1,
        lists::of_bind,
        "One group, where neither the line nor 'global' has a list of them.",
    ),
    parameter(
        "prefer-client-ciphers",
        "",
        0,
        switch,
        "Of the suites that both sides know take the one that the client prefers, not the first of 'ciphers' and 'ciphersuites'.",
    ),
    parameter(
        "strict-sni",
        "",
        0,
        switch,
        "A client that asks for no name, or for one that no certificate has, is refused (alert 112).",
    ),
    parameter(
        "sni-nomatch-abort",
        "",
        0,
        switch,
        "Extension, Hitch's word: a client that asks for a name that no certificate has is refused (alert 112); one that asks for no \
         name gets a default certificate.",
    ),
    parameter(
        "last-crt-wins",
        "",
        0,
        |bind, _, _| bind.last_crt_wins = true,
        "Extension, Hitch's choice of certificates: for each name there is one, the last of the line that has it, whatever kind of key \
         it has; an exact name goes before a wildcard. The default is that of 'default-crt', else the first of the line, whatever the \
         client can verify. Without this word, the first one for each kind of key counts.",
    ),
    parameter(
        "no-strict-sni",
        "",
        0,
        switch,
        "Undo 'strict-sni' or 'sni-nomatch-abort' of 'ssl-default-bind-options'.",
    ),
    parameter(
        "accept-proxy",
        "",
        0,
        |bind, _, _| bind.accept_proxy = true,
        "Every connection must begin with a PROXY protocol header, version 1 or 2, which tells the client's address. Whoever can \
         connect is believed: let only your load balancer reach this socket.",
    ),
    parameter("backlog", "<number>", 1, backlog, "Connections that may wait to be accepted."),
    parameter("maxconn", "<number>", 1, maxconn, "Most connections at a time over the addresses of this line."),
    parameter(
        "name",
        "<text>",
        1,
        |bind, line, diagnostics| bind.name = value::text(&line.arguments[0], diagnostics),
        "A name for log lines.",
    ),
    parameter(
        "v4v6",
        "",
        0,
        |bind, _, _| bind.v4v6 = true,
        "An IPv6 wildcard address takes IPv4 clients too: 'bind :::443 v4v6'.",
    ),
    parameter(
        "v6only",
        "",
        0,
        |bind, _, _| bind.v6only = true,
        "An IPv6 wildcard address takes IPv6 clients only; wins over 'v4v6'.",
    ),
    should(parameter(
        "ktls",
        "on|off",
        1,
        |_, line, diagnostics| {
            if process::on_off(&line.arguments[0], diagnostics) == Some(true) {
                diagnostics.inert("ktls on", "kernel TLS is not used", &line.word.at, line.word.length);
            }
        },
        "Kernel TLS, which is not used here: 'on' draws a notice.",
    )),
    parameter("mode", "<octal>", 1, mode, "Permissions of a unix socket, such as 660."),
    parameter("user", "<name>", 1, owner, "Owner of a unix socket."),
    parameter("uid", "<number>", 1, owner, "Owner of a unix socket, by number."),
    parameter("group", "<name>", 1, owner, "Group of a unix socket."),
    parameter("gid", "<number>", 1, owner, "Group of a unix socket, by number."),
    parameter(
        "level",
        "user|operator|admin",
        1,
        control::level,
        "On a 'stats socket' only: which commands may be given there.",
    ),
];

/// Parameters without meaning on a plaintext socket.
const ABOUT_TLS: &[&str] = &[
    "crt",
    "default-crt",
    "crt-list",
    "ca-file",
    "ca-verify-file",
    "no-ca-names",
    "crt-ignore-err",
    "ca-ignore-err",
    "crl-file",
    "verify",
    "alpn",
    "no-alpn",
    "ssl-min-ver",
    "ssl-max-ver",
    "force-tlsv12",
    "force-tlsv13",
    "no-sslv3",
    "no-tlsv10",
    "no-tlsv11",
    "no-tlsv12",
    "no-tlsv13",
    "no-tls-tickets",
    "tls-tickets",
    "tls-ticket-keys",
    "ciphers",
    "ciphersuites",
    "curves",
    "ecdhe",
    "prefer-client-ciphers",
    "strict-sni",
    "no-strict-sni",
    "sni-nomatch-abort",
    "last-crt-wins",
];

/// `bind <address>[,…] [parameter …]`.
pub(super) fn line(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let [addresses, rest @ ..] = line.arguments else {
        return;
    };
    let mut bind = BindDraft::new(line.word.at.clone());
    let errors = diagnostics.errors();
    read_addresses(&mut bind, addresses, diagnostics);
    parameters(rest, Table::Bind, diagnostics, |line, diagnostics| {
        if bind.tls_parameter.is_none() && ABOUT_TLS.contains(&line.keyword.name) {
            bind.tls_parameter = Some((line.keyword.name, line.word.at.clone()));
        }
        if bind.tcp_parameter.is_none() && sockets::BIND.iter().any(|row| row.name == line.keyword.name) {
            bind.tcp_parameter = Some((line.keyword.name, line.word.at.clone()));
        }
        if let Action::Bind(apply) = line.keyword.action {
            apply(&mut bind, line, diagnostics);
        }
    });
    lists::tell_dropped(&bind, diagnostics);
    if let Some(error) = control::no_level_here(&bind) {
        diagnostics.push(error);
    }
    sockets::tell_unix(&bind, diagnostics);
    let only = v6only(&bind);
    for address in &mut bind.addresses {
        if let BindAddress::Inet { v6only, interface, .. } = &mut address.value {
            *v6only = only;
            interface.clone_from(&bind.interface);
        }
    }
    bind.broken = diagnostics.errors() > errors;
    proxy.binds.push(bind);
}

/// What `v4v6` and `v6only` mean together.
pub(super) fn v6only(bind: &BindDraft) -> Option<bool> {
    match (bind.v6only, bind.v4v6) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

fn read_addresses(bind: &mut BindDraft, word: &Word, diagnostics: &mut Diagnostics) {
    // In a word without quotes and variables the parts can be pointed at one by one.
    let literal = word.length == saturated(word.text.len());
    let mut offset = 0;
    // HAProxy does not mind a comma at the end.
    let list = word.text.strip_suffix(b",").unwrap_or(&word.text);
    for part in list.split(|byte| *byte == b',') {
        let mut place = Word { text: Vec::new(), at: word.at.clone(), length: word.length, unset: Vec::new() };
        if literal {
            place.at.column = place.at.column.saturating_add(saturated(offset));
            place.length = saturated(part.len());
        }
        match address::bind(part) {
            Ok(values) if bind.addresses.len() + values.len() > ADDRESSES_MAX => {
                diagnostics.push(place.error("E103", format!("more than {ADDRESSES_MAX} addresses on one line")));
                return;
            }
            Ok(values) => {
                if matches!(values.as_slice(), [BindAddress::Named(_)]) {
                    diagnostics.extension("fd@<name>", &place.at, place.length);
                }
                bind.addresses.extend(values.into_iter().map(|value| At { value, at: place.at.clone() }));
            }
            Err(error) => diagnostics.push(log::from_address(&place, error)),
        }
        offset += part.len() + 1;
    }
}

/// A path and where it was written.
fn path(line: &Line<'_>) -> At<std::path::PathBuf> {
    let word = &line.arguments[0];
    At { value: value::path(word), at: word.at.clone() }
}

fn crt(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    if line.arguments[0].text.starts_with(b"@") {
        diagnostics.push(
            not_yet(&format!("{} @<store>/<name>", line.keyword.name), &line.arguments[0])
                .help("until then: write the path of the file"),
        );
        return;
    }
    let kind = match line.keyword.name {
        "crt-list" => CrtKind::List,
        "default-crt" => CrtKind::Default,
        _ => CrtKind::Plain,
    };
    bind.crt.push(Crt { file: path(line), kind });
}

/// `ca-file` and `ca-verify-file`.
fn ca_file(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    if word.is(SYSTEM_CA) && line.keyword.name == "ca-file" {
        let message = "every public authority may vouch for your clients, for any name";
        diagnostics.push(word.warning("W310", message).help("name your own authority's certificate"));
    } else if word.text.starts_with(b"@") {
        let error = word.error("E103", format!("{} is no file of authorities", word.quoted()));
        diagnostics.push(error.help("'ca-file @system-ca' are those of the system; a file of that name is './@…'"));
        return;
    }
    bind.ca_file_at.get_or_insert((line.word.at.clone(), line.word.length));
    let target = if line.keyword.name == "ca-file" { &mut bind.ca_file } else { &mut bind.ca_verify_file };
    *target = Some(path(line));
}

/// `crt-ignore-err` and `ca-ignore-err`.
fn ignored(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let (name, word) = (line.keyword.name, &line.arguments[0]);
    let Some(text) = value::text(word, diagnostics) else { return };
    let value = match IgnoredErrors::parse(&text) {
        Ok(value) => value,
        Err(part) => {
            let message = format!("error '{}' can not be ignored here", shown(part.as_bytes()));
            let known: Vec<String> =
                VerifyError::ALL.iter().map(|error| format!("{} ({})", error.name(), error.number())).collect();
            diagnostics.push(word.error("E304", message).help(format!("supported: {}, all", known.join(", "))));
            return;
        }
    };
    if value.is_every() && name == "crt-ignore-err" {
        let message = "'crt-ignore-err all' lets in whoever has a certificate, whoever made it";
        diagnostics.push(word.warning("W311", message).help("the backend must look at 'verify' in the PROXY header"));
    }
    let target = if name == "ca-ignore-err" { &mut bind.ignored_of_ca } else { &mut bind.ignored_of_leaf };
    *target = Some(At { value, at: line.word.at.clone() });
}

fn crl_file(bind: &mut BindDraft, line: &Line<'_>, _: &mut Diagnostics) {
    bind.crl_file_at = Some((line.word.at.clone(), line.word.length));
    bind.crl_file = Some(path(line));
}

fn verify(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let value = match word.text.as_slice() {
        b"none" => Verify::None,
        b"optional" => Verify::Optional,
        b"required" => Verify::Required,
        _ => {
            diagnostics
                .push(word.error("E103", format!("{}: 'verify' takes none, optional or required", word.quoted())));
            // What was meant is unknown: no further finding about it.
            return;
        }
    };
    bind.verify = Some(At { value, at: line.word.at.clone() });
}

fn alpn(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let protocols: Vec<Vec<u8>> = word.text.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect();
    if protocols.iter().any(Vec::is_empty) {
        diagnostics.push(word.error("E103", format!("{}: a protocol name is missing beside a comma", word.quoted())));
    } else if protocols.iter().any(|name| name.len() > PROTOCOL_MAX) || word.text.len() >= PROTOCOLS_MAX {
        diagnostics.push(
            word.error("E103", format!("a protocol name has at most {PROTOCOL_MAX} bytes, the list {PROTOCOLS_MAX}")),
        );
    } else {
        bind.alpn = protocols;
    }
}

fn version(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    global::limit_version(&mut bind.options, line.keyword.name, &line.arguments[0], diagnostics);
}

fn switch(bind: &mut BindDraft, line: &Line<'_>, _: &mut Diagnostics) {
    global::switch(&mut bind.options, line.keyword.name);
}

fn backlog(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    bind.backlog = positive(&line.arguments[0], diagnostics);
}

fn maxconn(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    bind.maxconn = positive(&line.arguments[0], diagnostics);
}

/// A number; zero is not set.
pub(super) fn positive(word: &Word, diagnostics: &mut Diagnostics) -> Option<u32> {
    value::number(word, 0..=i32::MAX.unsigned_abs(), diagnostics).filter(|number| *number > 0)
}

fn mode(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    bind.unix.mode = file_mode(&line.arguments[0], diagnostics);
}

/// Permission bits of a unix socket.
pub(super) fn file_mode(word: &Word, diagnostics: &mut Diagnostics) -> Option<u32> {
    let digits =
        std::str::from_utf8(&word.text).ok().filter(|text| text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)));
    let mode = digits.and_then(|text| u32::from_str_radix(text, 8).ok()).filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let error = word.error("E103", format!("{} is not a file mode; write it in octal, such as 660", word.quoted()));
        diagnostics.push(error.help("'mode' is about the permissions of a unix socket here"));
    }
    mode
}

/// A name (`user`, `group`), or a number as decimal text (`uid`, `gid`).
pub(super) fn account(name: &str, word: &Word, diagnostics: &mut Diagnostics) -> Option<String> {
    match name {
        "uid" | "gid" => value::number(word, 0..=u32::MAX - 1, diagnostics).map(|number| number.to_string()),
        _ => value::text(word, diagnostics),
    }
}

fn owner(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let name = line.keyword.name;
    let value = account(name, &line.arguments[0], diagnostics);
    let target = if matches!(name, "user" | "uid") { &mut bind.unix.user } else { &mut bind.unix.group };
    if target.is_some() {
        diagnostics.push(line.word.error("E105", format!("'{name}' is given, but this line has said who already")));
        return;
    }
    *target = value;
}
