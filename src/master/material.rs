//! Collects [`Material`]: the configuration files, every file that they name, and the addresses behind host names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::net::ToSocketAddrs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::libc;

use super::names;
use crate::conf::certificate_files::{Beside, CertificateFiles, OwnFiles};
use crate::conf::crt_list;
use crate::conf::hitch::{self, Lowered};
use crate::conf::model::{At, BindTls, CrtKind, Model, SYSTEM_CA};
use crate::conf::{self, Parsed};
use crate::material::{Entry, FileBytes, Files, Material};
use crate::report::{self, ReportLevel, ReportLine};
use crate::sys::privileges::Ids;
use crate::sys::reason;

/// Largest file that is read: CRLs of large authorities are tens of megabytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most files in a directory that is named as a whole.
const DIRECTORY_FILES_MAX: usize = 100_000;
/// Where distributions keep the CAs that the system believes: Debian, Fedora and RHEL, openSUSE, Alpine.
const SYSTEM_CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where to read from.
#[derive(Clone, Debug)]
pub struct Request {
    /// The arguments of `-f`: files, or directories whose `*.cfg` are read in the order of their bytes.
    pub sources: Vec<String>,
    /// The words behind `bowline hitch`; `sources` is empty then, they name the file.
    pub hitch: Option<Vec<String>>,
    /// Absolute; relative names are below it, whatever the current directory becomes later.
    pub directory: PathBuf,
}

impl Request {
    /// Whether it can be read more than once: a pipe cannot.
    pub fn can_be_read_again(&self) -> bool {
        let file = |name: &str| match name {
            "-" => false,
            name => self.directory.join(name).metadata().is_ok_and(|metadata| metadata.is_file() || metadata.is_dir()),
        };
        let hitch = self.hitch.as_ref().and_then(|words| hitch::parse_command_line(words).ok());
        self.sources.iter().all(|name| file(name)) && hitch.and_then(|line| line.config).is_none_or(|name| file(&name))
    }
}

/// A configuration that parsed, and all that it names.
pub struct Collected {
    /// What the worker builds from. `generation` and `maxconn` are still 0.
    pub material: Material,
    /// What the text means.
    pub model: Model,
    /// Warnings and notices so far.
    pub report: Vec<ReportLine>,
}

/// Reads everything once. `previous` is asked for the addresses of names that do not resolve now.
///
/// A file that the model names and that cannot be read is no error here: the reason is part of the material.
///
/// # Errors
/// The reasons, rendered: a configuration file cannot be read or has errors, or a host name has no address.
pub fn collect(request: &Request, previous: Option<&Material>) -> Result<Collected, Vec<ReportLine>> {
    let Reading { sources, environment, lowered, parsed, mut report } = match &request.hitch {
        Some(words) => read_hitch(words, &request.directory, previous.is_some())?,
        None => read_haproxy(request, previous.is_some())?,
    };
    report.extend(report::render(&parsed.diagnostics, &sources));
    let Some(model) = parsed.model else {
        return Err(report);
    };
    let files = read_files(&model, &request.directory, &mut report);
    let (names, diagnostics) = names::resolve_all(&model, previous);
    report.extend(report::render(&diagnostics, &sources));
    if report.iter().any(|line| line.level == ReportLevel::Error) {
        return Err(report);
    }
    // A clock before 1970 is one that was never set; certificates say so themselves.
    let read_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let material = Material { read_at, host, sources, lowered, environment, files, names, ..Material::default() };
    Ok(Collected { material, model, report })
}

/// A configuration that was read, whether it makes sense or not.
struct Reading {
    sources: Vec<(String, Vec<u8>)>,
    environment: BTreeMap<String, String>,
    lowered: Option<Lowered>,
    parsed: Parsed,
    /// What was found before parsing.
    report: Vec<ReportLine>,
}

fn read_haproxy(request: &Request, again: bool) -> Result<Reading, Vec<ReportLine>> {
    let sources = read_sources(request, again).map_err(|reason| vec![ReportLine::new(ReportLevel::Error, reason)])?;
    let names: BTreeSet<String> = sources.iter().flat_map(|(_, text)| conf::variables(text)).collect();
    let environment = names.into_iter().filter_map(|name| std::env::var(&name).ok().map(|value| (name, value)));
    let environment: BTreeMap<String, String> = environment.collect();
    let parsed = conf::parse(&sources, &environment);
    Ok(Reading { sources, environment, lowered: None, parsed, report: Vec::new() })
}

fn read_hitch(words: &[String], directory: &Path, again: bool) -> Result<Reading, Vec<ReportLine>> {
    let Hitch { sources, lowered, report } = lower_hitch(words, directory, again)?;
    let parsed = conf::hitch::parse(&lowered);
    Ok(Reading { sources, environment: BTreeMap::new(), lowered: Some(lowered), parsed, report })
}

/// What Hitch's command line asks for, in HAProxy's language.
pub struct Hitch {
    /// The file, if there is one, and the command line.
    pub sources: Vec<(String, Vec<u8>)>,
    /// What they mean.
    pub lowered: Lowered,
    /// Warnings and notices.
    pub report: Vec<ReportLine>,
}

/// Reads the file that Hitch's command line names, and lowers both. Relative names are below `directory`.
///
/// # Errors
/// Why not, rendered.
pub fn lower_hitch(words: &[String], directory: &Path, again: bool) -> Result<Hitch, Vec<ReportLine>> {
    let line = (hitch::COMMAND_LINE.to_owned(), words.join(" ").into_bytes());
    let command_line = hitch::parse_command_line(words)
        .map_err(|diagnostic| report::render(&[*diagnostic], std::slice::from_ref(&line)))?;
    let file = match command_line.config.as_deref() {
        None => None,
        Some(name) => {
            let path = if matches!(name, "" | "-") { "/dev/stdin" } else { name };
            let text = read_source(&directory.join(path), again).map_err(|error| {
                let text = format!("Unable to open configuration file '{name}': {}", reason(&error));
                vec![ReportLine::new(ReportLevel::Error, text)]
            })?;
            Some((path.to_owned(), text))
        }
    };
    let list = |path: &str| list(&directory.join(path)).map_err(|error| reason(&error));
    #[expect(clippy::disallowed_methods, reason = "this is the master, at a start or on a thread of its own")]
    let resolve = |host: &str| {
        let addresses = (host, 0).to_socket_addrs().map_err(|error| reason(&error))?;
        Ok(addresses.map(|address| address.ip()).collect())
    };
    let outside = hitch::Outside { list: &list, resolve: &resolve };
    let (lowered, diagnostics) = hitch::lower(&command_line, file.as_ref(), outside);
    let sources: Vec<_> = file.into_iter().chain([line]).collect();
    let report = report::render(&diagnostics, &sources);
    match lowered {
        Some(lowered) => Ok(Hitch { sources, lowered, report }),
        None => Err(report),
    }
}

/// What is in a directory, links not followed.
fn list(directory: &Path) -> io::Result<hitch::Listing> {
    let mut listing = hitch::Listing::default();
    for entry in directory.read_dir()? {
        let entry = entry?;
        let not_readable = |name: std::ffi::OsString| {
            io::Error::other(format!("the name '{}' is not UTF-8", Path::new(&name).display()))
        };
        let (name, kind) = (entry.file_name().into_string().map_err(not_readable)?, entry.file_type()?);
        if kind.is_file() {
            listing.files.push(name);
        } else if kind.is_symlink() {
            listing.links.push(name);
        }
        if listing.files.len() > DIRECTORY_FILES_MAX {
            return Err(io::Error::other(format!("more than {DIRECTORY_FILES_MAX} files")));
        }
    }
    listing.files.sort();
    listing.links.sort();
    Ok(listing)
}

/// Name as given and text of every configuration file.
fn read_sources(request: &Request, again: bool) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut sources = Vec::new();
    for name in &request.sources {
        let path = request.directory.join(name);
        if path.is_dir() {
            let names =
                file_names(&path).map_err(|error| format!("cannot read the directory {name}: {}", reason(&error)))?;
            let before = sources.len();
            for file in names.iter().filter_map(|file| file.to_str()).filter(|file| file.ends_with(".cfg")) {
                let name = format!("{}/{file}", name.trim_end_matches('/'));
                let text = read_source(&path.join(file), again)
                    .map_err(|error| format!("cannot read {name}: {}", reason(&error)))?;
                sources.push((name, text));
            }
            if sources.len() == before {
                return Err(format!("no *.cfg in the directory {name}"));
            }
        } else {
            let text = read_source(&path, again)
                .map_err(|error| format!("cannot read the configuration {name}: {}", reason(&error)))?;
            sources.push((name.clone(), text));
        }
    }
    Ok(sources)
}

/// A configuration file, which may be a pipe (`-f /dev/stdin`, `-f <(…)`), unlike the files that it names. What came out of a
/// pipe is gone: read `again`, it would seem to be empty.
fn read_source(path: &Path, again: bool) -> io::Result<Vec<u8>> {
    if path.metadata()?.is_file() {
        return read_file(path).map(|mut file| std::mem::take(&mut file.bytes));
    }
    if again {
        return Err(io::Error::other("it is no regular file, which can be read again"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Reads every file that the model names, and all again if one changed meanwhile: a certificate and its key have to be of one
/// generation, and they are replaced one after the other.
fn read_files(model: &Model, directory: &Path, report: &mut Vec<ReportLine>) -> Files {
    let mut reading = FileReading { directory, files: Files::default(), stamps: BTreeMap::new(), skipped: Vec::new() };
    for attempt in 0.. {
        reading.read_all(model);
        let Some(changed) = reading.find_changed() else {
            break;
        };
        let changed = changed.display().to_string();
        if attempt > 0 {
            let text = format!("{changed} changed while the configuration was read; reload once it is complete");
            report.push(ReportLine::new(ReportLevel::Warning, text));
            break;
        }
    }
    report.extend(reading.skipped.into_iter().map(|text| ReportLine::new(ReportLevel::Warning, text)));
    reading.files
}

/// What tells one state of a file from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// `None`: nothing is there.
    fn now(path: &Path) -> Option<Self> {
        path.metadata().ok().as_ref().map(Self::of)
    }
}

struct FileReading<'a> {
    directory: &'a Path,
    files: Files,
    /// By absolute path, what was there when it was read.
    stamps: BTreeMap<PathBuf, Option<Stamp>>,
    skipped: Vec<String>,
}

/// Why a file cannot be read, and if it is a matter of permissions, who wanted to.
fn unreadable(error: &io::Error) -> String {
    let reason = reason(error);
    if error.kind() == io::ErrorKind::PermissionDenied { format!("{reason} for {}", Ids::current()) } else { reason }
}

impl FileReading<'_> {
    fn read_all(&mut self, model: &Model) {
        self.files = Files::default();
        self.stamps.clear();
        self.skipped.clear();
        let settings = &model.process.certificate_files;
        if let Some(issuers) = &settings.issuers {
            self.read_named(issuers);
        }
        for tls in model.frontends.iter().flat_map(|frontend| &frontend.binds).filter_map(|bind| bind.tls.as_ref()) {
            for crt in &tls.crt {
                self.read_named(&crt.file);
                match self.files.entry(&crt.file.value) {
                    Some(Entry::File(list)) if crt.kind == CrtKind::List => {
                        // What is wrong with it is told by whoever builds from it.
                        let (entries, _) = crt_list::parse(&crt.file.value, &list.bytes, tls, settings);
                        entries.iter().for_each(|entry| self.read_entry(entry, settings));
                    }
                    // What stands beside its files is in it.
                    Some(Entry::Directory(_)) => {}
                    _ => self.read_beside(&crt.file.value, settings),
                }
            }
            tls.entries.iter().for_each(|entry| self.read_entry(entry, settings));
            self.read_authorities(Some(tls));
        }
    }

    fn read_entry(&mut self, entry: &crt_list::Entry, settings: &CertificateFiles) {
        self.read_named(&entry.file);
        self.read_beside(&entry.file.value, settings);
        let OwnFiles { key, ocsp, issuer } = &entry.own;
        [key, ocsp, issuer].into_iter().flatten().for_each(|own| self.read_named(own));
        self.read_authorities(entry.tls.as_ref());
    }

    /// What may stand beside a certificate file, and in its place if it does not exist.
    fn read_beside(&mut self, certificate: &Path, settings: &CertificateFiles) {
        if let Some(Entry::File(_)) = self.files.entry(certificate) {
            let Beside { key, ocsp, issuer } = settings.beside(certificate);
            [key, ocsp, issuer].into_iter().flatten().for_each(|path| self.read_if_there(path));
            return;
        }
        for part in settings.bundle(certificate) {
            self.read_if_there(part.clone());
            if let Some(Entry::File(_)) = self.files.entry(&part) {
                self.read_beside(&part, settings);
            }
        }
    }

    fn read_authorities(&mut self, tls: Option<&BindTls>) {
        for named in tls
            .into_iter()
            .flat_map(|tls| tls.ca_file.iter().chain(&tls.ca_verify_file).chain(&tls.crl_file).chain(&tls.ticket_keys))
        {
            if named.value == Path::new(SYSTEM_CA) {
                self.read_system_ca();
            } else {
                self.read_named(named);
            }
        }
    }

    /// The bundle of the system, under the name that the model has for it.
    fn read_system_ca(&mut self) {
        let Some(path) = SYSTEM_CA_FILES.iter().map(Path::new).find(|path| path.exists()) else {
            let reason = format!("there is none of {}; install ca-certificates", SYSTEM_CA_FILES.join(", "));
            self.files.entries.insert(SYSTEM_CA.into(), Entry::Unreadable(reason));
            return;
        };
        self.read_as(SYSTEM_CA.into(), path.to_owned());
    }

    fn read_named(&mut self, named: &At<PathBuf>) {
        let path = &named.value;
        if self.files.entries.contains_key(path) {
            return;
        }
        let absolute = self.directory.join(path);
        if !absolute.is_dir() {
            self.read_one(path.clone());
            return;
        }
        self.stamps.insert(absolute.clone(), Stamp::now(&absolute));
        let entry = match file_names(&absolute) {
            Ok(names) => {
                let mut kept = Vec::new();
                for name in names {
                    if let Ok(name) = name.clone().into_string() {
                        self.read_one(path.join(&name));
                        kept.push(name);
                    } else {
                        self.skipped.push(format!("{}: skipped, its name is not UTF-8", path.join(name).display()));
                    }
                }
                Entry::Directory(kept)
            }
            Err(error) => Entry::Unreadable(unreadable(&error)),
        };
        self.files.entries.insert(path.clone(), entry);
    }

    fn read_one(&mut self, path: PathBuf) {
        let absolute = self.directory.join(&path);
        self.read_as(path, absolute);
    }

    fn read_as(&mut self, path: PathBuf, absolute: PathBuf) {
        if self.files.entries.contains_key(&path) {
            return;
        }
        let stamp = Stamp::now(&absolute);
        let entry = match read_file(&absolute) {
            Ok(file) => Entry::File(file),
            Err(error) => Entry::Unreadable(unreadable(&error)),
        };
        self.stamps.insert(absolute, stamp);
        self.files.entries.insert(path, entry);
    }

    fn read_if_there(&mut self, path: PathBuf) {
        if self.files.entries.contains_key(&path) {
            return;
        }
        let absolute = self.directory.join(&path);
        match absolute.metadata() {
            // That it appears while the rest is read counts as a change.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.stamps.insert(absolute, None);
            }
            _ => self.read_one(path),
        }
    }

    fn find_changed(&self) -> Option<&Path> {
        let changed = self.stamps.iter().find(|(path, stamp)| Stamp::now(path) != **stamp);
        changed.map(|(path, _)| path.as_path())
    }
}

/// Names of the regular files of a directory (links are followed), sorted bytewise; hidden ones are left out.
fn file_names(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = OsStr::as_encoded_bytes(&name).starts_with(b".");
        if hidden || !entry.path().metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        names.push(name);
        if names.len() > DIRECTORY_FILES_MAX {
            return Err(io::Error::other(format!("more than {DIRECTORY_FILES_MAX} files")));
        }
    }
    names.sort();
    Ok(names)
}

/// One state of a file, read again once if it changed under the reader.
fn read_file(path: &Path) -> io::Result<FileBytes> {
    for _ in 0..2 {
        if let Some(file) = read_file_once(path)? {
            return Ok(file);
        }
    }
    Err(io::Error::other("it changed while it was read"))
}

/// `None`: it changed meanwhile.
fn read_file_once(path: &Path) -> io::Result<Option<FileBytes>> {
    // Opening a FIFO would wait for a writer.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if before.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    // Exactly sized: a vector that grows leaves copies of keys behind.
    let mut bytes = vec![0; before.len() as usize];
    let complete = file.read_exact(&mut bytes).is_ok();
    let read = FileBytes { bytes, mode: before.mode() & 0o7777 };
    let before = Some(Stamp::of(&before));
    let unchanged = before == Some(Stamp::of(&file.metadata()?)) && before == Stamp::now(path);
    Ok((complete && unchanged).then_some(read))
}

#[cfg(test)]
#[path = "material_tests.rs"]
mod tests;
