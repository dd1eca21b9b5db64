//! The keyword table: one row per keyword. Parsing, the texts for what is refused, `--help-keywords` and the manual page all
//! come from it.

mod audit;
mod bind;
mod certificates;
mod control;
mod global;
mod haproxy;
mod haproxy_parameters;
mod language;
mod lists;
mod log;
mod process;
mod proxy;
mod server;
mod sockets;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::draft::{BindDraft, Global, Proxy, ServerOptions};
use super::token::Word;
use super::words::{self, Kind};

pub(crate) use audit::audits_without_connections;
pub(crate) use certificates::SCTL;
pub(crate) use control::master_socket;
pub(crate) use lists::{Dropped, tell_dropped};

/// Sections and lines in which a keyword may stand: a set of the constants below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places(u8);

impl Places {
    /// `global`.
    pub const GLOBAL: Places = Places(1);
    /// `defaults`.
    pub const DEFAULTS: Places = Places(2);
    /// `frontend` and `listen`.
    pub const FRONTEND: Places = Places(4);
    /// `backend` and `listen`.
    pub const BACKEND: Places = Places(8);
    /// A `bind` line.
    pub const BIND: Places = Places(16);
    /// A `server` or `default-server` line.
    pub const SERVER: Places = Places(32);

    const NAMES: [(Places, &'static str); 7] = [
        (Places::GLOBAL, "global"),
        (Places::DEFAULTS, "defaults"),
        (Places::FRONTEND, "frontend"),
        (Places::BACKEND, "backend"),
        (Places::FRONTEND.and(Places::BACKEND), "listen"),
        (Places::BIND, "bind"),
        (Places::SERVER, "server"),
    ];

    /// The union of two sets.
    #[must_use]
    pub const fn and(self, other: Places) -> Places {
        Places(self.0 | other.0)
    }

    /// The sets have a place in common.
    pub fn overlaps(self, other: Places) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of the places.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(place, _)| self.overlaps(*place)).map(|(_, name)| *name).collect()
    }
}

/// `defaults`, `frontend`, `listen`.
const DEFAULTS_FRONTEND: Places = Places::DEFAULTS.and(Places::FRONTEND);
/// `defaults`, `backend`, `listen`.
const DEFAULTS_BACKEND: Places = Places::DEFAULTS.and(Places::BACKEND);
/// All sections of proxies.
const PROXIES: Places = DEFAULTS_FRONTEND.and(Places::BACKEND);

/// How much of HAProxy's language a keyword is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Belongs to the core of the language.
    Must,
    /// Useful, second in line.
    Should,
    /// Known, for a later version.
    Later,
    /// Will not come: the program has no use for it.
    Never,
    /// Accepted and without effect, so that a file can be shared with HAProxy.
    Inert,
}

/// One row of the table.
pub struct Keyword {
    /// The word, or the two words of `option …` and `timeout …`. A trailing `*` stands for all of HAProxy's words that begin so.
    pub name: &'static str,
    /// Where it may stand.
    pub places: Places,
    /// Its arguments, as in a manual.
    pub usage: &'static str,
    /// How much of it there is.
    pub class: Class,
    /// What it means; for words that are refused, what to do instead.
    pub doc: &'static str,
    /// How many words may follow. A parameter of `bind` or `server` takes exactly the least number.
    pub(crate) arguments: RangeInclusive<usize>,
    /// May stand more than once in a section, or on a line.
    pub(crate) repeats: bool,
    pub(crate) action: Action,
}

impl Keyword {
    /// HAProxy does not have it.
    pub fn is_extension(&self) -> bool {
        let (kind, name) = match self.name.split_once(' ') {
            Some(("option", name)) => (Kind::Option, name),
            Some(("timeout", name)) => (Kind::Timeout, name),
            Some((first, _)) => (Kind::Global, first),
            None if self.places.overlaps(Places::GLOBAL) => (Kind::Global, self.name),
            None if self.places.overlaps(Places::BIND) => (Kind::Bind, self.name),
            None if self.places.overlaps(Places::SERVER) => (Kind::Server, self.name),
            None => (Kind::Proxy, self.name),
        };
        match name.strip_suffix('*') {
            Some(family) => !words::all(kind).any(|word| word.starts_with(family)),
            None => !words::knows(kind, name),
        }
    }

    /// For the manual: how the keyword is answered.
    pub fn answer(&self) -> Answer {
        match self.action {
            Action::Global(_) | Action::Proxy(_) | Action::Bind(_) | Action::Server(_) => Answer::Acts,
            Action::NotYet => Answer::NotYet,
            Action::Refuse(subject) => Answer::Refused(subject.why()),
            Action::Http => Answer::Http,
            Action::HttpTimeout | Action::Inert => Answer::Inert,
        }
    }

    /// The keyword has an effect (or is refused for what it would mean) in this version.
    pub fn is_implemented(&self) -> bool {
        matches!(self.action, Action::Global(_) | Action::Proxy(_) | Action::Bind(_) | Action::Server(_))
    }
}

/// How a keyword is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does what its row says.
    Acts,
    /// Accepted without effect, with a notice.
    Inert,
    /// Without effect in `defaults`, an error in a proxy.
    Http,
    /// An error until it is implemented.
    NotYet,
    /// An error, for this reason.
    Refused(&'static str),
}

/// The same row, second in line.
const fn should(keyword: Keyword) -> Keyword {
    let Keyword { name, places, usage, doc, arguments, repeats, action, .. } = keyword;
    Keyword { name, places, usage, class: Class::Should, doc, arguments, repeats, action }
}

/// What a row does to a draft.
pub(crate) type Apply<T> = fn(&mut T, &Line<'_>, &mut Diagnostics);

/// What happens when the keyword is met.
pub(crate) enum Action {
    Global(Apply<Global>),
    Proxy(Apply<Proxy>),
    Bind(Apply<BindDraft>),
    Server(Apply<ServerOptions>),
    /// Valid HAProxy, not here yet: E120.
    NotYet,
    /// Not here: an error of this subject.
    Refuse(Subject),
    /// Works on HTTP messages: without effect in `defaults`, an error in a proxy.
    Http,
    /// A timeout of HTTP: without effect in `defaults`, a warning in a proxy.
    HttpTimeout,
    /// Without effect: N001.
    Inert,
}

/// Why a keyword is refused for good.
#[derive(Clone, Copy)]
pub(crate) enum Subject {
    Http,
    Datagrams,
    Tables,
    Scripts,
    OpenSsl,
    TlsVersion,
    Other,
}

impl Subject {
    fn code(self) -> &'static str {
        match self {
            Subject::Http => "E201",
            Subject::Datagrams => "E202",
            Subject::Tables => "E203",
            Subject::Scripts => "E204",
            Subject::TlsVersion => "E301",
            Subject::OpenSsl => "E303",
            Subject::Other => "E205",
        }
    }

    fn message(self, name: &str) -> String {
        match self {
            Subject::Http => format!("'{name}' works on HTTP messages; this program relays bytes"),
            Subject::Datagrams => format!("'{name}' is for QUIC; QUIC and UDP are not supported"),
            Subject::Tables => {
                format!("'{name}' needs stick tables, which this program does not have")
            }
            Subject::Scripts => {
                format!("'{name}': this program runs no scripts and no external programs")
            }
            Subject::TlsVersion => {
                format!("'{name}': this version of TLS does not exist here (TLS 1.2 and 1.3 only)")
            }
            Subject::OpenSsl => {
                format!("'{name}' configures OpenSSL; this program uses rustls with aws-lc")
            }
            Subject::Other => format!("'{name}' is HAProxy's and has no counterpart here"),
        }
    }

    /// What the words of this subject have in common.
    fn why(self) -> &'static str {
        match self {
            Subject::Http => "works on HTTP messages",
            Subject::Datagrams => "for QUIC",
            Subject::Tables => "needs stick tables",
            Subject::Scripts => "runs scripts or programs",
            Subject::TlsVersion => "a version of TLS that does not exist here",
            Subject::OpenSsl => "configures OpenSSL",
            Subject::Other => "has no counterpart here",
        }
    }

    fn help(self) -> Option<&'static str> {
        match self {
            Subject::Http => Some(
                "remove the line, or terminate TLS here and pass the connection to an HAProxy in 'mode http' with 'server … send-proxy-v2'",
            ),
            Subject::Datagrams => Some("use HAProxy for HTTP/3; TCP on the same port can stay here"),
            Subject::Tables => Some("for a plain limit use 'rate-limit sessions' or 'maxconn'"),
            Subject::Scripts => Some("remove the line"),
            Subject::TlsVersion => Some("remove it; clients that need an older version need another terminator"),
            Subject::OpenSsl | Subject::Other => None,
        }
    }
}

/// Whether `no` or `default` stands in front of the keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    None,
    No,
    Default,
}

/// A keyword with the words that belong to it.
pub(crate) struct Line<'a> {
    /// Its row.
    pub(crate) keyword: &'static Keyword,
    /// The word itself; for two-word names the first.
    pub(crate) word: &'a Word,
    /// What follows the name.
    pub(crate) arguments: &'a [Word],
    /// `no` or `default` in front of it.
    pub(crate) prefix: Prefix,
}

impl Line<'_> {
    /// A boolean is switched on by this line.
    pub(crate) fn switches_on(&self) -> bool {
        self.prefix == Prefix::None
    }
}

/// Every row, section by section.
pub fn all() -> impl Iterator<Item = &'static Keyword> {
    [
        global::KEYWORDS,
        audit::KEYWORDS,
        control::KEYWORDS,
        certificates::KEYWORDS,
        language::KEYWORDS,
        proxy::KEYWORDS,
        bind::KEYWORDS,
        server::KEYWORDS,
        process::KEYWORDS,
        sockets::GLOBAL,
        sockets::PROXY,
        sockets::BIND,
        sockets::SERVER,
        haproxy::GLOBAL,
        haproxy::PROXY,
        haproxy_parameters::BIND,
        haproxy_parameters::SERVER,
    ]
    .into_iter()
    .flatten()
}

/// The tables in which a word is looked up: the same word means different things in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Global,
    Proxy,
    Bind,
    Server,
}

impl Table {
    fn places(self) -> Places {
        match self {
            Table::Global => Places::GLOBAL,
            Table::Proxy => PROXIES,
            Table::Bind => Places::BIND,
            Table::Server => Places::SERVER,
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Table::Global => Kind::Global,
            Table::Proxy => Kind::Proxy,
            Table::Bind => Kind::Bind,
            Table::Server => Kind::Server,
        }
    }

    /// The row of a name: exactly, or as one of HAProxy's words of a family such as `tune.h2.*`.
    pub(crate) fn find(self, name: &str) -> Option<&'static Keyword> {
        static INDEX: LazyLock<[HashMap<&'static str, &'static Keyword>; 4]> = LazyLock::new(|| {
            [Table::Global, Table::Proxy, Table::Bind, Table::Server].map(|table| {
                all().filter(|row| row.places.overlaps(table.places())).map(|row| (row.name, row)).collect()
            })
        });
        if let Some(row) = INDEX[self as usize].get(name) {
            return Some(row);
        }
        if !words::knows(self.kind(), name) {
            return None;
        }
        all().find(|row| {
            row.places.overlaps(self.places())
                && row.name.strip_suffix('*').is_some_and(|family| name.starts_with(family))
        })
    }

    /// Names of rows, for suggestions.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        all().filter(move |row| row.places.overlaps(self.places()) && !row.name.ends_with('*')).map(|row| row.name)
    }
}

/// Reports a keyword that has no effect or is refused; does nothing for one that is implemented.
pub(crate) fn refuse(keyword: &'static Keyword, name: &str, word: &Word, diagnostics: &mut Diagnostics) {
    match keyword.action {
        Action::Global(_) | Action::Proxy(_) | Action::Bind(_) | Action::Server(_) => {}
        Action::NotYet => diagnostics.push(not_yet(name, word).help(format!("until then: {}", keyword.doc))),
        Action::Refuse(subject) => diagnostics.push(refusal(subject, name, word, keyword.doc)),
        Action::Http => diagnostics.push(refusal(Subject::Http, name, word, "")),
        Action::HttpTimeout => {
            let message =
                format!("'{name}' has no effect in mode tcp; remove the line, or keep it in 'defaults' for HAProxy");
            diagnostics.push(word.warning("W201", message));
        }
        Action::Inert => diagnostics.inert(name, keyword.doc, &word.at, word.length),
    }
}

/// E120.
pub(crate) fn not_yet(name: &str, word: &Word) -> Diagnostic {
    word.error("E120", format!("'{name}' is valid HAProxy but not implemented yet"))
}

/// The error for something that will not come; `doc` says what to do where the subject alone does not.
pub(crate) fn refusal(subject: Subject, name: &str, word: &Word, doc: &str) -> Diagnostic {
    let mut diagnostic = word.error(subject.code(), subject.message(name));
    if !doc.is_empty() {
        diagnostic = diagnostic.help(doc);
    }
    match subject.help() {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// Reads the parameters of a `bind` or `server` line and hands each implemented one to `apply`.
pub(crate) fn parameters(
    words: &[Word],
    table: Table,
    diagnostics: &mut Diagnostics,
    mut apply: impl FnMut(&Line<'_>, &mut Diagnostics),
) {
    let mut seen: HashMap<&'static str, u32> = HashMap::new();
    let mut rest = words;
    let mut lost = false;
    while let [word, after @ ..] = rest {
        rest = after;
        let text = String::from_utf8_lossy(&word.text);
        // The one parameter that takes its argument in parentheses.
        let name = if text.starts_with("set-proxy-v2-tlv-fmt(") { "set-proxy-v2-tlv-fmt" } else { &*text };
        let Some(keyword) = table.find(name) else {
            // What follows an unknown word may be its argument: no second error for it.
            if !lost {
                diagnostics.push(unknown_parameter(word, name, table));
            }
            lost = true;
            continue;
        };
        lost = false;
        let wanted = *keyword.arguments.start();
        if rest.len() < wanted {
            diagnostics.push(word.error("E102", format!("'{name}' needs {}", counted(wanted))).help(usage(keyword)));
            return;
        }
        // The one parameter that goes on if a certain word follows.
        let more =
            keyword.name == "source" && rest.get(wanted).is_some_and(|word| word.is("interface") || word.is("usesrc"));
        let (arguments, after) = rest.split_at((wanted + if more { 2 } else { 0 }).min(rest.len()));
        rest = after;
        if let Some(column) = seen.insert(keyword.name, word.at.column) {
            if !keyword.repeats {
                let message = format!("'{name}' is given twice on this line (first at column {column})");
                diagnostics.push(word.error("E105", message));
                continue;
            }
        }
        if keyword.is_extension() {
            diagnostics.extension(name, &word.at, word.length);
        }
        if keyword.is_implemented() {
            apply(&Line { keyword, word, arguments, prefix: Prefix::None }, diagnostics);
        } else {
            refuse(keyword, name, word, diagnostics);
        }
    }
}

fn unknown_parameter(word: &Word, name: &str, table: Table) -> Diagnostic {
    let line = if table == Table::Bind { "bind" } else { "server" };
    if words::knows(table.kind(), name) {
        return not_yet(name, word).help("until then: remove it");
    }
    let diagnostic = word.error("E101", format!("unknown {line} parameter {}", word.quoted()));
    match nearest(name, table.names().chain(words::all(table.kind()))) {
        Some(near) => diagnostic.label(format!("did you mean '{near}'?")),
        None => diagnostic,
    }
}

/// `2 arguments`.
pub(crate) fn counted(number: usize) -> String {
    format!("{number} argument{}", if number == 1 { "" } else { "s" })
}

/// `usage: bind <address> …`.
pub(crate) fn usage(keyword: &Keyword) -> String {
    format!("usage: {} {}", keyword.name, keyword.usage).trim_end().to_owned()
}

/// Longest word for which a similar one is looked for.
const SIMILAR_MAX: usize = 40;

/// The candidate that is most like a word, if one is near: the first among equals.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > SIMILAR_MAX {
        return None;
    }
    let limit = (word.len() / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(word.len()) > limit || candidate.len() > SIMILAR_MAX {
            continue;
        }
        let distance = distance(word.as_bytes(), candidate.as_bytes());
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance: insertions, deletions, replacements, and swaps of neighbours.
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let differs = usize::from(left[i - 1] != right[j - 1]);
            row[j] = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + differs);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

/// The text of `--help-keywords`: what exists, with its arguments and meaning.
pub fn help() -> String {
    let mut text = String::new();
    for (title, tables) in [
        (
            "global",
            &[
                global::KEYWORDS,
                certificates::KEYWORDS,
                control::KEYWORDS,
                language::KEYWORDS,
                process::KEYWORDS,
                sockets::GLOBAL,
                haproxy::GLOBAL,
            ][..],
        ),
        ("defaults, frontend, backend, listen", &[proxy::KEYWORDS, sockets::PROXY, haproxy::PROXY]),
        ("bind <address> …", &[bind::KEYWORDS, sockets::BIND, haproxy_parameters::BIND]),
        (
            "server <name> <address> …, default-server …",
            &[server::KEYWORDS, sockets::SERVER, haproxy_parameters::SERVER],
        ),
    ] {
        let _ = writeln!(text, "{title}\n");
        for row in tables.iter().copied().flatten().filter(|row| row.is_implemented()) {
            let _ = writeln!(text, "{}", format!("  {} {}", row.name, row.usage).trim_end());
            wrapped(&mut text, row.doc);
            if row.places.overlaps(PROXIES) {
                let _ = writeln!(text, "      In: {}.", row.places.names().join(", "));
            }
        }
        let inert: Vec<_> = tables
            .iter()
            .copied()
            .flatten()
            .filter(|row| matches!(row.action, Action::Inert | Action::Http | Action::HttpTimeout))
            .map(|row| row.name)
            .collect();
        if !inert.is_empty() {
            text.push_str("\n  Accepted for HAProxy's sake, without effect (those about HTTP in 'defaults' only):\n");
            wrapped(&mut text, &inert.join(", "));
        }
        text.push('\n');
    }
    text
}

/// Adds a paragraph, indented, at most 100 columns wide.
fn wrapped(text: &mut String, paragraph: &str) {
    let mut width = 0;
    for word in paragraph.split(' ') {
        let length = word.chars().count();
        if width == 0 || width + 1 + length > 94 {
            if width > 0 {
                text.push('\n');
            }
            text.push_str("      ");
            width = 0;
        } else {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text.push('\n');
}
