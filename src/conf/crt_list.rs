//! `crt-list` files (HAProxy manual, 5.1): certificates with names and TLS settings of their own. Pure text: nothing that is
//! named here has been opened yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificate_files::{CertificateFiles, OwnFiles};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::draft::BindDraft;
use super::keywords::{self, Action, Table};
use super::model::{At, BindTls, Location, Verify};
use super::token::{Word, saturated};
use super::value;

/// Entries of one list.
const ENTRIES_MAX: usize = 100_000;

/// What may stand between `[` and `]`.
const OPTIONS: &[&str] = &[
    "verify",
    "ca-file",
    "ca-verify-file",
    "no-ca-names",
    "crl-file",
    "alpn",
    "no-alpn",
    "ssl-min-ver",
    "ssl-max-ver",
    "ciphers",
    "ciphersuites",
    "curves",
];
/// Options that HAProxy has for crt-lists alone: files of the certificate, and whether to fetch OCSP responses.
const FILES: &[&str] = &["key", "ocsp", "issuer", "sctl", "ocsp-update"];

/// One line of a crt-list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The certificate file, `crt-base` applied.
    pub file: At<PathBuf>,
    /// The settings of the `bind` line with those of this entry in their place; `None`: it has none of its own.
    pub tls: Option<BindTls>,
    /// Names in lower case that stand in the place of those in the certificate; `None`: no filters are given.
    pub names: Option<Vec<String>>,
    /// Names in lower case that the wildcards among `names` do not mean.
    pub excluded: Vec<String>,
    /// `*`: for clients whose name no certificate has.
    pub default: bool,
    /// `key`, `ocsp` and `issuer`.
    pub own: OwnFiles,
}

/// Reads a list that the line of `bind` names; `files` has the bases of relative names.
pub fn parse(path: &Path, text: &[u8], bind: &BindTls, files: &CertificateFiles) -> (Vec<Entry>, Vec<Diagnostic>) {
    let file: Arc<str> = path.display().to_string().into();
    let mut diagnostics = Diagnostics::default();
    diagnostics.open(&file);
    let mut entries = Vec::new();
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
        let at = |offset: usize| Location { file: file.clone(), line: number, column: saturated(offset + 1) };
        if line.trim_ascii_start().first().is_none_or(|first| *first == b'#') {
            continue;
        }
        if entries.len() == ENTRIES_MAX {
            let message = format!("more than {ENTRIES_MAX} entries in one list");
            diagnostics.push(Diagnostic::error("E103", &at(0), message));
            break;
        }
        match parts(line, &at) {
            Ok(parts) => entries.extend(entry(&parts, bind, files, &mut diagnostics)),
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
        if diagnostics.is_full(&file) {
            diagnostics.truncated(&at(0));
            break;
        }
    }
    (entries, diagnostics.finish())
}

/// Reads the words of an `ssl-f-use` line: `crt <file>`, then options.
pub(crate) fn line(
    words: &[Word],
    bind: &BindTls,
    files: &CertificateFiles,
    diagnostics: &mut Diagnostics,
) -> Option<Entry> {
    match words {
        [crt, file, options @ ..] if crt.is("crt") => {
            let parts = Parts { file: file.clone(), options: options.to_vec(), filters: Vec::new() };
            entry(&parts, bind, files, diagnostics)
        }
        [first, ..] => {
            diagnostics.push(first.error("E102", "'crt <file>' comes first").help("write ssl-f-use crt <file> …"));
            None
        }
        [] => None,
    }
}

/// The words of one line.
struct Parts {
    file: Word,
    options: Vec<Word>,
    filters: Vec<Word>,
}

/// Words have blanks between them; brackets are words wherever they stand.
fn parts(line: &[u8], at: &impl Fn(usize) -> Location) -> Result<Parts, Box<Diagnostic>> {
    let error = |offset: usize, message: &str| Box::new(Diagnostic::error("E103", &at(offset), message).span(1));
    let mut outside = Vec::new();
    let mut options: Option<Vec<Word>> = None;
    let mut open = None;
    let mut start = None;
    for (offset, byte) in line.iter().copied().chain([b' ']).enumerate() {
        if !byte.is_ascii_whitespace() && !matches!(byte, b'[' | b']') {
            start.get_or_insert(offset);
            continue;
        }
        if let Some(start) = start.take() {
            let text = line[start..offset].to_vec();
            let word = Word { length: saturated(text.len()), text, at: at(start), unset: Vec::new() };
            match (&mut options, open) {
                (Some(options), Some(_)) => options.push(word),
                _ => outside.push(word),
            }
        }
        match byte {
            b'[' if options.is_some() => return Err(error(offset, "a second '[' on this line")),
            b'[' if outside.len() != 1 => return Err(error(offset, "'[' stands after the file and before the names")),
            b'[' => (options, open) = (Some(Vec::new()), Some(offset)),
            b']' if open.is_none() => return Err(error(offset, "']' without '['")),
            b']' => open = None,
            _ => {}
        }
    }
    if let Some(open) = open {
        return Err(error(open, "'[' without ']'"));
    }
    let mut outside = outside.into_iter();
    match outside.next() {
        Some(file) => Ok(Parts { file, options: options.unwrap_or_default(), filters: outside.collect() }),
        None => Err(error(0, "the name of a certificate file is missing")),
    }
}

fn entry(parts: &Parts, bind: &BindTls, files: &CertificateFiles, diagnostics: &mut Diagnostics) -> Option<Entry> {
    let errors = diagnostics.errors();
    let (own, options) = own_files(&parts.options, files, diagnostics);
    let tls = if options.is_empty() { None } else { settings(&options, bind, files, diagnostics) };
    let (mut names, mut excluded, mut default) = (Vec::new(), Vec::new(), false);
    for filter in &parts.filters {
        let text = value::text(filter, diagnostics)?.to_ascii_lowercase();
        match text.strip_prefix('!') {
            Some(name) => excluded.push(name.to_owned()),
            None if text == "*" => default = true,
            None => names.push(text),
        }
    }
    let path = value::path(&parts.file);
    let file = below(files.crt_base.as_deref(), path);
    let names = (!parts.filters.is_empty()).then_some(names);
    let file = At { value: file, at: parts.file.at.clone() };
    (diagnostics.errors() == errors).then_some(Entry { file, tls, names, excluded, default, own })
}

/// Takes `key`, `ocsp`, `issuer`, `sctl` and `ocsp-update` out of the options.
fn own_files(options: &[Word], files: &CertificateFiles, diagnostics: &mut Diagnostics) -> (OwnFiles, Vec<Word>) {
    let mut own = OwnFiles::default();
    let mut others = Vec::new();
    let mut rest = options;
    while let [word, after @ ..] = rest {
        rest = after;
        let Some(name) = FILES.iter().copied().find(|name| word.is(name)) else {
            others.push(word.clone());
            continue;
        };
        let [argument, after @ ..] = rest else {
            diagnostics.push(word.error("E102", format!("'{name}' needs 1 argument")));
            break;
        };
        rest = after;
        let base = if name == "key" { &files.key_base } else { &files.crt_base };
        let target = match name {
            "key" => &mut own.key,
            "ocsp" => &mut own.ocsp,
            "issuer" => &mut own.issuer,
            "sctl" => {
                diagnostics.inert(name, keywords::SCTL, &word.at, word.length);
                continue;
            }
            _ if argument.is("off") => continue,
            _ => {
                let error = keywords::not_yet("ocsp-update on", word);
                diagnostics.push(error.help(
                    "until then: fetch the response with a timer, put it beside the certificate as <file>.ocsp, and reload",
                ));
                continue;
            }
        };
        if target.is_some() {
            diagnostics.push(word.error("E105", format!("'{name}' is given twice for this certificate")));
        }
        *target = Some(At { value: below(base.as_deref(), value::path(argument)), at: argument.at.clone() });
    }
    (own, others)
}

/// A path below its base, unless it is absolute.
fn below(base: Option<&Path>, path: PathBuf) -> PathBuf {
    base.map_or_else(|| path.clone(), |base| base.join(&path))
}

/// The settings of the line, with those of the entry in their place.
fn settings(
    options: &[Word],
    bind: &BindTls,
    files: &CertificateFiles,
    diagnostics: &mut Diagnostics,
) -> Option<BindTls> {
    let mut draft = BindDraft::new(options[0].at.clone());
    let mut no_alpn = false;
    let errors = diagnostics.errors();
    keywords::parameters(options, Table::Bind, diagnostics, |line, diagnostics| {
        if !OPTIONS.contains(&line.keyword.name) {
            let message = format!("'{}' does not belong here", line.keyword.name);
            let error = line.word.error("E106", message);
            diagnostics.push(error.help(format!(
                "a certificate may have {}, {}",
                OPTIONS.join(", "),
                FILES.join(", ")
            )));
            return;
        }
        no_alpn |= line.keyword.name == "no-alpn";
        if let Action::Bind(apply) = line.keyword.action {
            apply(&mut draft, line, diagnostics);
        }
    });
    keywords::tell_dropped(&draft, diagnostics);
    let mut tls = bind.clone();
    let own_authority = draft.ca_file_at.clone();
    let own_name = if draft.ca_file.is_some() { "ca-file" } else { "ca-verify-file" };
    let based = |path: Option<At<PathBuf>>| path.map(|path| files.authority(&path));
    tls.ca_file = based(draft.ca_file).or(tls.ca_file);
    tls.ca_verify_file = based(draft.ca_verify_file).or(tls.ca_verify_file);
    tls.ca_names &= !draft.no_ca_names;
    tls.crl_file = based(draft.crl_file).or(tls.crl_file);
    tls.verify = draft.verify.as_ref().map_or(tls.verify, |verify| verify.value);
    if no_alpn || !draft.alpn.is_empty() {
        tls.alpn = draft.alpn;
    }
    tls.min_version = draft.options.min.unwrap_or(tls.min_version);
    tls.max_version = draft.options.max.unwrap_or(tls.max_version);
    tls.suites12 = draft.options.suites12.unwrap_or(tls.suites12);
    tls.suites13 = draft.options.suites13.unwrap_or(tls.suites13);
    tls.groups = draft.options.groups.unwrap_or(tls.groups);
    if tls.min_version > tls.max_version {
        let message = "no version of TLS is left: the lowest is TLS 1.3 and the highest TLS 1.2";
        diagnostics.push(options[0].error("E301", message).help("the 'bind' line counts where the entry is silent"));
    }
    match (tls.verify, tls.ca_file.as_ref().or(tls.ca_verify_file.as_ref()), own_authority) {
        (Verify::Optional | Verify::Required, None, _) => {
            let at = draft.verify.map_or(options[0].at.clone(), |verify| verify.at);
            let error = Diagnostic::error(
                "E211",
                &at,
                "'verify' needs 'ca-file' (or 'ca-verify-file'): nobody could be verified",
            );
            diagnostics.push(error.help("add 'ca-file <file>' here or on the 'bind' line"));
        }
        (Verify::None, _, Some((at, length))) => {
            let message = format!("'{own_name}' without 'verify': clients are NOT asked for a certificate");
            let warning = Diagnostic::warning("W211", &at, message).span(length);
            diagnostics.push(warning.help(format!("add 'verify required', or remove '{own_name}'")));
        }
        _ => {}
    }
    (diagnostics.errors() == errors).then_some(tls)
}

#[cfg(test)]
mod tests;
