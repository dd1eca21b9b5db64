//! Frontends: where they listen, with which certificates, and what TLS is to be there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::super::diagnostic::shown;
use super::super::dump::{Piece, Writer};
use super::super::glob::matches;
use super::super::md5;
use super::super::options::{Setting, Value};
use super::super::{COMMAND_LINE, Mark};
use super::{
    BACKEND, CIPHERS_DEFAULT, CIPHERS_DEFAULT_HERE, FRONTEND, Listing, Lowering, RESPONSES_DEFAULT, endpoint, is_unset,
    last, piece, switch, text,
};

/// A certificate.
struct Crt<'a> {
    path: String,
    mark: &'a Mark,
    /// The settings of its block.
    own: &'a [Setting],
    /// A response that Hitch has fetched for it.
    cached: Option<String>,
}

/// More certificates than this get a line each.
const ON_ONE_LINE: usize = 16;

/// Where one frontend listens, and what differs from the rest.
struct Frontend<'a> {
    host: &'a str,
    port: &'a str,
    mark: &'a Mark,
    /// In the order written.
    certificates: Vec<Crt<'a>>,
    own: &'a [Setting],
}

/// Options that choose versions of TLS.
const VERSIONS: &[&str] = &["tls-protos", "tls", "ssl"];

impl<'a> Lowering<'a, '_> {
    pub(super) fn frontends(&mut self, writer: &mut Writer) {
        let settings = self.global.iter().filter(|setting| setting.row.name == "frontend" && !is_unset(setting));
        let settings: Vec<&Setting> = settings.collect();
        let mut frontends: Vec<Frontend<'a>> = Vec::new();
        for setting in &settings {
            frontends.extend(self.frontend(setting));
        }
        if settings.is_empty() {
            let mark = self.start;
            frontends.push(Frontend { host: "*", port: "8443", mark, certificates: Vec::new(), own: &[] });
        }
        self.versions_once(self.global);
        let certificates = self.certificates(self.global);
        let directory = self.directory(!certificates.is_empty());
        for (index, frontend) in frontends.iter().enumerate() {
            writer.blank();
            writer.plain(0, &["frontend", &format!("{FRONTEND}-{}", index + 1)], frontend.mark);
            self.bind(frontend, &certificates, &directory, writer);
            writer.plain(4, &["default_backend", BACKEND], frontend.mark);
        }
    }

    /// Reports what a block lacks, unless an error may be why.
    fn missing(&mut self, setting: &Setting, message: &str) {
        if self.diagnostics.errors() == 0 {
            self.diagnostics.push(setting.key.error("H101", message));
        }
    }

    /// `[HOST]:PORT[+CERT]`, or a block.
    fn frontend(&mut self, setting: &'a Setting) -> Option<Frontend<'a>> {
        let mark = &setting.mark;
        match &setting.value {
            Value::Text(written) => {
                let (address, certificate) =
                    written.split_once('+').map_or((written.as_str(), None), |(address, path)| (address, Some(path)));
                let Some((host, port)) = endpoint(address) else {
                    let message = format!("'{}' is not an address to listen on", shown(written.as_bytes()));
                    self.diagnostics.push(
                        mark.error("H101", message)
                            .help("write [HOST]:PORT or [HOST]:PORT+CERT; the brackets are mandatory"),
                    );
                    return None;
                };
                let certificates = certificate.map(|path| self.crt(path, mark, &[])).into_iter().collect();
                Some(Frontend { host, port, mark, certificates, own: &[] })
            }
            Value::Block(own) => {
                self.versions_once(own);
                let Some((port, _)) = text(own, "port") else {
                    self.missing(setting, "this frontend has no 'port'");
                    return None;
                };
                let (host, mark) = text(own, "host").unwrap_or(("*", &setting.key));
                Some(Frontend { host, port, mark, certificates: self.certificates(own), own })
            }
            _ => None,
        }
    }

    /// `pem-file`, as often as it is given.
    fn certificates(&mut self, settings: &'a [Setting]) -> Vec<Crt<'a>> {
        let mut found = Vec::new();
        for setting in settings.iter().filter(|setting| setting.row.name == "pem-file" && !is_unset(setting)) {
            let mark = &setting.mark;
            match &setting.value {
                Value::Text(path) if !path.is_empty() => found.push(self.crt(path, mark, &[])),
                Value::Block(inside) => found.extend(self.pem_block(setting, inside)),
                _ => self.diagnostics.push(mark.error("H101", "the name of the file is missing")),
            }
        }
        found
    }

    fn pem_block(&mut self, setting: &'a Setting, inside: &'a [Setting]) -> Option<Crt<'a>> {
        let Some((path, mark)) = text(inside, "cert") else {
            self.missing(setting, "this 'pem-file' has no 'cert'");
            return None;
        };
        Some(self.crt(path, mark, inside))
    }

    /// With the response that stands for it in `ocsp-dir`: Hitch names it by the MD5 sum of the certificate's name.
    fn crt(&self, path: &str, mark: &'a Mark, own: &'a [Setting]) -> Crt<'a> {
        let name = md5::hex(path.as_bytes());
        let cached = self.responses.binary_search(&name).is_ok();
        let cached = cached.then(|| format!("{}/{name}", self.response_directory().trim_end_matches('/')));
        Crt { path: path.to_owned(), mark, own, cached }
    }

    /// `ocsp-dir`; empty: none.
    fn response_directory(&self) -> &'a str {
        match last(self.global, &["ocsp-dir"]) {
            Some(Setting { value: Value::Text(path), .. }) => path,
            _ => RESPONSES_DEFAULT,
        }
    }

    /// What is in `ocsp-dir`. That it can not be read is told if it was named.
    pub(super) fn find_responses(&mut self) {
        let directory = self.response_directory();
        if directory.is_empty() {
            return;
        }
        let named = text(self.global, "ocsp-dir");
        match ((self.outside.list)(directory), named) {
            (Ok(listing), named) => {
                self.responses = listing.files;
                if let Some((_, mark)) = named {
                    let message =
                        "OCSP responses are not fetched: those in this directory are sent as long as they are valid";
                    let warning = mark.warning("W118", message);
                    self.diagnostics.push(warning.help("fetch them with a timer, and reload; or say ocsp-dir = \"\""));
                }
            }
            (Err(reason), Some((_, mark))) => {
                let message = format!("cannot read the directory '{}': {reason}", shown(directory.as_bytes()));
                self.diagnostics.push(mark.warning("W118", message).help("no OCSP response is taken from there"));
            }
            (Err(_), None) => {}
        }
    }

    /// `pem-dir`: the regular files that `pem-dir-glob` matches, hidden ones too. Links are skipped, as in Hitch, and told.
    /// `others`: there are certificates beside those of the directory.
    fn directory(&mut self, others: bool) -> Vec<Crt<'a>> {
        let glob = text(self.global, "pem-dir-glob");
        let Some((directory, mark)) = text(self.global, "pem-dir") else {
            if let Some((_, mark)) = glob {
                self.diagnostics.push(mark.warning("W114", "'pem-dir-glob' has no effect without 'pem-dir'"));
            }
            return Vec::new();
        };
        let shown_directory = shown(directory.as_bytes());
        let Listing { mut files, mut links } = match (self.outside.list)(directory) {
            Ok(listing) => listing,
            Err(reason) => {
                let message = format!("cannot read the directory '{shown_directory}': {reason}");
                self.diagnostics.push(mark.error("E221", message));
                return Vec::new();
            }
        };
        let wanted = |name: &String| glob.is_none_or(|(glob, _)| matches(glob.as_bytes(), name.as_bytes()));
        files.retain(wanted);
        links.retain(wanted);
        if let [link, rest @ ..] = &links[..] {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            let message = format!(
                "'{}'{more} in '{shown_directory}': symbolic links are skipped, as by Hitch",
                shown(link.as_bytes())
            );
            self.diagnostics.push(mark.warning("W116", message).help("name the files with 'pem-file'"));
        }
        if files.is_empty() {
            let (place, message) = match glob {
                Some((glob, place)) => {
                    (place, format!("no file in '{shown_directory}' matches '{}'", shown(glob.as_bytes())))
                }
                None => (mark, format!("no file in '{shown_directory}'")),
            };
            self.diagnostics.push(match others {
                true => place.warning("W117", message),
                false => place.error("E228", message),
            });
        }
        let path = |name: &String| format!("{}/{name}", directory.trim_end_matches('/'));
        files.retain(|name| match name.chars().any(char::is_control) {
            true => {
                let message = format!("a control character in the name '{}'", shown(name.as_bytes()));
                self.diagnostics.push(mark.error("E221", message));
                false
            }
            false => true,
        });
        files.iter().map(|name| self.crt(&path(name), mark, &[])).collect()
    }

    /// Where to listen: all addresses of the host.
    fn addresses(&mut self, host: &str, port: &str, mark: &'a Mark, pieces: &mut Vec<Piece<'a>>) {
        let number =
            port.parse::<u16>().ok().filter(|number| *number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(port) = number else {
            let message = format!("'{}' is not a port from 1 to 65535", shown(port.as_bytes()));
            self.diagnostics.push(mark.error("H101", message));
            return;
        };
        let addresses = match host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) if host == "*" => Ok(vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]),
            Err(_) if host.is_empty() => Err("it is empty; all addresses are '*'".to_owned()),
            Err(_) => (self.outside.resolve)(host),
        };
        let written: Vec<String> = match addresses {
            Ok(addresses) if addresses.is_empty() => {
                let message = format!("'{}' has no address to listen on", shown(host.as_bytes()));
                self.diagnostics.push(mark.error("H101", message));
                return;
            }
            Ok(addresses) => addresses
                .iter()
                .map(|address| match address {
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED) => format!("*:{port}"),
                    IpAddr::V4(address) => format!("{address}:{port}"),
                    IpAddr::V6(address) => format!("[{address}]:{port}"),
                })
                .collect(),
            Err(reason) => {
                let message = format!("'{}' has no address to listen on: {reason}", shown(host.as_bytes()));
                self.diagnostics.push(mark.error("H101", message));
                return;
            }
        };
        let any_of_ipv6 = written.iter().any(|address| address.starts_with('['));
        pieces.push(Piece { text: written.join(","), mark });
        if any_of_ipv6 {
            pieces.push(piece("v6only", mark));
        }
    }

    fn bind(&mut self, frontend: &Frontend<'a>, global: &[Crt<'a>], directory: &[Crt<'a>], writer: &mut Writer) {
        let Frontend { host, port, mark, certificates, own } = frontend;
        let mut pieces = vec![piece("bind", mark)];
        self.addresses(host, port, mark, &mut pieces);
        if let Some(mark) = self.receives_header() {
            pieces.push(piece("accept-proxy", mark));
        }
        pieces.push(piece("defer-accept", mark));
        if let Some((true, mark)) = switch(self.global, "tcp-fastopen") {
            pieces.push(piece("tfo", mark));
        }
        pieces.push(piece("ssl", mark));
        let uses_global = switch(own, "match-global-certs").map_or(certificates.is_empty(), |(on, _)| on);
        let loaded =
            loaded(certificates, global.split_last().filter(|_| uses_global), directory.iter().filter(|_| uses_global));
        // An error before this may be why there is none.
        if loaded.is_empty() && self.diagnostics.errors() == 0 {
            let error = mark.error("E212", "no certificate: there is no 'pem-file' and no 'pem-dir'");
            self.diagnostics
                .push(error.help("add pem-file = \"<file>\", with the certificate, its chain and the private key"));
        }
        let several = loaded.len() > 1;
        let plain = |(crt, _): &(&Crt<'a>, bool)| crt.own.is_empty() && crt.cached.is_none();
        let on_line = loaded.len() <= ON_ONE_LINE && loaded.iter().all(plain);
        if on_line {
            for (index, (crt, is_default)) in loaded.iter().enumerate() {
                let word = if *is_default && index > 0 { "default-crt" } else { "crt" };
                pieces.extend([piece(word, crt.mark), Piece { text: file_name(&crt.path), mark: crt.mark }]);
            }
        }
        self.versions(own, &mut pieces);
        self.verification(&[own, self.global], false, &mut pieces);
        self.protocols(&mut pieces);
        lists(own, &mut pieces);
        let server = switch(own, "prefer-server-ciphers").or(switch(self.global, "prefer-server-ciphers"));
        if !server.is_some_and(|(on, _)| on) {
            pieces.push(piece("prefer-client-ciphers", server.map_or(self.start, |(_, mark)| mark)));
        }
        let abort = switch(own, "sni-nomatch-abort").or(switch(self.global, "sni-nomatch-abort"));
        let abort = abort.filter(|(on, _)| *on);
        if let Some((_, mark)) = abort {
            pieces.push(piece("sni-nomatch-abort", mark));
        }
        if several {
            pieces.push(piece("last-crt-wins", mark));
        }
        writer.line_in(abort.is_some() || several, 4, &pieces);
        if !on_line {
            self.certificate_lines(&loaded, own, writer);
        }
    }

    /// `ssl-f-use`: a line for each certificate. The first is the default, so one that is not gets a second line there.
    fn certificate_lines(&mut self, loaded: &[(&Crt<'a>, bool)], own: &'a [Setting], writer: &mut Writer) {
        let default = loaded.iter().enumerate().find(|(index, (_, is_default))| *is_default && *index > 0);
        for (crt, _) in default.map(|(_, found)| found).into_iter().chain(loaded) {
            let Crt { path, mark, own: block, cached } = crt;
            let mut pieces = vec![piece("ssl-f-use", mark), piece("crt", mark), Piece { text: file_name(path), mark }];
            if let Some((key, mark)) = text(block, "private-key") {
                pieces.extend([piece("key", mark), piece(key, mark)]);
            }
            match (text(block, "ocsp-resp-file"), cached) {
                (Some((response, mark)), _) => pieces.extend([piece("ocsp", mark), piece(response, mark)]),
                (None, Some(response)) => pieces.extend([piece("ocsp", mark), piece(response, mark)]),
                (None, None) => {}
            }
            if last(block, &["client-verify", "client-verify-ca"]).is_some() {
                self.verification(&[block, own, self.global], true, &mut pieces);
            }
            writer.line(4, &pieces);
        }
    }

    /// `ciphers`, `ciphersuites` and `ecdh-curve` of the top level, for all frontends. Hitch's list of its own is written as far
    /// as its suites exist here.
    pub(super) fn tls_defaults(&self, writer: &mut Writer) {
        let (list, mark) = text(self.global, "ciphers").unwrap_or((CIPHERS_DEFAULT, self.start));
        let list = if list == CIPHERS_DEFAULT { CIPHERS_DEFAULT_HERE } else { list };
        writer.plain(4, &["ssl-default-bind-ciphers", list], mark);
        if let Some((list, mark)) = text(self.global, "ciphersuites") {
            writer.plain(4, &["ssl-default-bind-ciphersuites", list], mark);
        }
        if let Some((list, mark)) = text(self.global, "ecdh-curve").filter(|(list, _)| *list != "auto") {
            writer.plain(4, &["ssl-default-bind-curves", list], mark);
        }
    }

    /// Of `tls-protos`, `tls` and `ssl` there may be one in a block and in the file; on the command line `tls-protos` goes before
    /// the file, and the older two can not go with what the file says.
    fn versions_once(&mut self, settings: &[Setting]) {
        let mut first: Option<&Setting> = None;
        for setting in settings.iter().filter(|setting| VERSIONS.contains(&setting.row.name)) {
            let name = setting.row.name;
            if setting.value == Value::Switch(false) {
                let message = format!("'{name} = off' has no effect");
                self.diagnostics
                    .push(setting.key.warning("W114", message).help("say what there is to be with 'tls-protos'"));
                continue;
            }
            let overrides = &*setting.key.at.file == COMMAND_LINE && matches!(setting.value, Value::Versions(_));
            if let Some(first) = first.filter(|_| !overrides) {
                let message = format!("'{name}' can not go with '{}' before it", first.row.name);
                self.diagnostics.push(setting.key.error("H104", message).help("keep one: 'tls-protos'"));
            }
            first.get_or_insert(setting);
        }
    }

    /// `tls-protos`, and the older `tls` and `ssl`.
    fn versions(&mut self, own: &'a [Setting], pieces: &mut Vec<Piece<'a>>) {
        let chosen = |settings: &'a [Setting]| {
            let on = |setting: &&Setting| setting.value != Value::Switch(false);
            settings.iter().rev().filter(on).find(|setting| VERSIONS.contains(&setting.row.name))
        };
        let Some(setting) = chosen(own).or(chosen(self.global)) else {
            return;
        };
        let mark = &setting.mark;
        let versions: Vec<&str> = match &setting.value {
            Value::Versions(versions) => versions.iter().map(String::as_str).collect(),
            _ => vec!["TLSv1.0", "TLSv1.2", "TLSv1.3"],
        };
        let (v12, v13) = (versions.contains(&"TLSv1.2"), versions.contains(&"TLSv1.3"));
        if !v12 && !v13 {
            let error = mark.error("E301", "no version of TLS is left: there are TLSv1.2 and TLSv1.3 only");
            self.diagnostics.push(error.help("remove it; clients that need an older version need another terminator"));
            return;
        }
        if versions.iter().any(|version| !matches!(*version, "TLSv1.2" | "TLSv1.3")) {
            let message = "SSL 3, TLS 1.0 and TLS 1.1 do not exist here; what is left is TLS 1.2 and 1.3";
            self.diagnostics.push(mark.warning("W301", message));
        }
        if !v12 {
            pieces.extend([piece("ssl-min-ver", mark), piece("TLSv1.3", mark)]);
        }
        if !v13 {
            pieces.extend([piece("ssl-max-ver", mark), piece("TLSv1.2", mark)]);
        }
    }

    /// The first of the scopes that says something counts. `always`: also if it is what there is without.
    fn verification(&mut self, scopes: &[&'a [Setting]], always: bool, pieces: &mut Vec<Piece<'a>>) {
        let ca = scopes.iter().find_map(|scope| text(scope, "client-verify-ca"));
        let verify = scopes.iter().find_map(|scope| text(scope, "client-verify"));
        match (verify.filter(|(mode, _)| *mode != "none"), ca) {
            (Some((mode, at)), Some((file, mark))) => {
                pieces.extend([
                    piece("ca-file", mark),
                    Piece { text: file_name(file), mark },
                    piece("verify", at),
                    piece(mode, at),
                ]);
            }
            (Some((mode, at)), None) => {
                let message = format!("'client-verify = {mode}' needs 'client-verify-ca': nobody could be verified");
                self.diagnostics.push(at.error("E211", message));
            }
            // Who says 'none' means it.
            (None, Some((_, mark))) if verify.is_none() && !verifies_some(self.global) => {
                let message = "'client-verify-ca' without 'client-verify': clients are NOT asked for a certificate";
                self.diagnostics.push(mark.warning("W211", message));
            }
            (None, _) => {
                if let Some((_, at)) = verify.filter(|_| always) {
                    pieces.extend([piece("verify", at), piece("none", at)]);
                }
            }
        }
    }

    /// `alpn-protos`: blanks do not count, a comma at the end neither.
    fn protocols(&mut self, pieces: &mut Vec<Piece<'a>>) {
        let Some((written, mark)) = text(self.global, "alpn-protos") else {
            return;
        };
        let list: String = written.chars().filter(|character| !character.is_whitespace()).collect();
        let list = list.strip_suffix(',').unwrap_or(&list);
        if list.split(',').any(str::is_empty) {
            self.diagnostics.push(mark.error("H101", "a protocol name is missing beside a comma in 'alpn-protos'"));
        } else {
            pieces.extend([piece("alpn", mark), piece(list, mark)]);
        }
    }
}

/// `ciphers` and `ciphersuites` of a frontend.
fn lists<'a>(own: &'a [Setting], pieces: &mut Vec<Piece<'a>>) {
    for option in ["ciphers", "ciphersuites"] {
        if let Some((list, mark)) = text(own, option) {
            let list = if list == CIPHERS_DEFAULT { CIPHERS_DEFAULT_HERE } else { list };
            pieces.extend([piece(option, mark), piece(list, mark)]);
        }
    }
}

/// Whether a certificate has clients of its own verified, for which an authority may stand elsewhere.
fn verifies_some(settings: &[Setting]) -> bool {
    settings.iter().any(|setting| match &setting.value {
        Value::Block(inside) => text(inside, "client-verify").is_some() || verifies_some(inside),
        _ => false,
    })
}

/// Certificates in the order in which Hitch loads them, so that the last one for a name counts; the default is marked. Those of
/// the top level come first, their last one, the default, before the others; those of the frontend go before all of them.
fn loaded<'b, 'a>(
    own: &'b [Crt<'a>],
    global: Option<(&'b Crt<'a>, &'b [Crt<'a>])>,
    directory: impl Iterator<Item = &'b Crt<'a>>,
) -> Vec<(&'b Crt<'a>, bool)> {
    let global = global.into_iter().flat_map(|(last, others)| std::iter::once(last).chain(others));
    let mut loaded: Vec<(&Crt<'_>, bool)> = global.chain(directory).chain(own).map(|crt| (crt, false)).collect();
    let default = if own.is_empty() { loaded.first_mut() } else { loaded.last_mut() };
    if let Some((_, is_default)) = default {
        *is_default = true;
    }
    loaded
}

/// A file's name where HAProxy takes a leading '@' for a name in a store.
fn file_name(path: &str) -> String {
    if path.starts_with('@') { format!("./{path}") } else { path.to_owned() }
}
