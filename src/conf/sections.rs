//! Statements: sections with their inheritance, and keywords (HAProxy manual, 4).

use std::collections::HashMap;

use super::diagnostic::Diagnostic;
use super::draft::{Proxy, ProxyKind, Settings};
use super::keywords::{self, Action, Keyword, Line, Places, Prefix, Table, nearest, not_yet, refusal, usage};
use super::parse::{Defaults, Reader, SIMILAR_NAMES_MAX, Section};
use super::token::Word;
use super::value;
use super::words::{self, Kind};

/// Sections of one configuration.
const SECTIONS_MAX: usize = 10_000;
/// Addresses of one configuration: a range of ports is short to write.
const ADDRESSES_MAX: usize = 20_000;

impl Reader<'_> {
    /// Reads one line: the start of a section, or a keyword of the current one.
    pub(super) fn statement(&mut self, words: &[Word]) {
        let first = String::from_utf8_lossy(&words[0].text);
        let is_assignment = words.get(1).is_some_and(|word| word.is("="));
        match self.section {
            Section::Outside if is_assignment => {
                let error = words[0].error("E112", "this looks like the configuration of Hitch");
                let help = "run 'bowline hitch --config=FILE'; with --dump it prints the same for here";
                self.diagnostics.push(error.help(help));
                return self.skip_section();
            }
            Section::Skipped if is_assignment => return,
            _ => {}
        }
        if words::knows(Kind::Section, &first) {
            self.start_section(&first, words);
            return;
        }
        match self.section {
            Section::Skipped => {}
            Section::Outside => self.outside(&first, &words[0]),
            Section::Global | Section::Defaults | Section::Proxy => self.keyword(words),
        }
    }

    /// A line before the first section.
    fn outside(&mut self, name: &str, word: &Word) {
        let known = Table::Global.find(name).or_else(|| Table::Proxy.find(name)).is_some()
            || matches!(name, "option" | "timeout" | "no");
        if known {
            let error = word.error("E107", format!("{} stands before the first section", word.quoted()));
            self.diagnostics
                .push(error.help("a file starts with 'global', 'defaults', 'frontend', 'backend' or 'listen'"));
        } else {
            let error = word.error("E101", format!("unknown section {}", word.quoted()));
            self.diagnostics.push(match nearest(name, words::all(Kind::Section)) {
                Some(near) => error.label(format!("did you mean '{near}'?")),
                None => error.help("sections are global, defaults, frontend, backend, listen"),
            });
        }
        self.skip_section();
    }

    /// The rest of the section is not read.
    fn skip_section(&mut self) {
        self.section = Section::Skipped;
        self.drafts.incomplete = true;
    }

    fn start_section(&mut self, name: &str, words: &[Word]) {
        self.has_section = true;
        self.section_name =
            words.get(1).map_or(name.to_owned(), |word| String::from_utf8_lossy(&word.text).into_owned());
        let kind = match name {
            "global" => {
                self.section = Section::Global;
                if let Some(extra) = words.get(1) {
                    self.diagnostics.push(extra.error("E102", format!("{} can not follow 'global'", extra.quoted())));
                }
                return;
            }
            "defaults" => ProxyKind::Defaults,
            "frontend" => ProxyKind::Frontend,
            "backend" => ProxyKind::Backend,
            "listen" => ProxyKind::Listen,
            _ => {
                self.diagnostics.push(refused_section(name, &words[0]));
                self.section = Section::Skipped;
                return;
            }
        };
        if self.drafts.proxies.len() + self.defaults.len() >= SECTIONS_MAX {
            self.diagnostics.push(words[0].error("E107", format!("more than {SECTIONS_MAX} sections")));
            self.skip_section();
            return;
        }
        match self.proxy(kind, words) {
            Some(proxy) if kind == ProxyKind::Defaults => {
                self.defaults.push(Defaults { proxy, named: None, implicit: None, warned: false });
                self.section = Section::Defaults;
            }
            Some(proxy) => {
                self.drafts.proxies.push(proxy);
                self.section = Section::Proxy;
            }
            None => self.skip_section(),
        }
    }

    /// `<kind> [name] [from <defaults>]`; `None` if there is no name to know it by.
    fn proxy(&mut self, kind: ProxyKind, words: &[Word]) -> Option<Proxy> {
        let head = &words[0];
        let (name_word, rest) = match &words[1..] {
            [from, ..] if kind == ProxyKind::Defaults && from.is("from") => (None, &words[1..]),
            [name, rest @ ..] => (Some(name), rest),
            [] => (None, &words[1..]),
        };
        let name = match name_word {
            Some(word) => value::name(word, kind.word(), self.diagnostics).unwrap_or_default(),
            None if kind == ProxyKind::Defaults => String::new(),
            None => {
                self.diagnostics.push(head.error("E107", format!("'{}' needs a name", kind.word())));
                return None;
            }
        };
        let settings = match rest {
            [] if kind == ProxyKind::Defaults => Settings::default(),
            [] => self.last_defaults(head),
            [from, target] if from.is("from") => self.named_defaults(target)?,
            [from] if from.is("from") => {
                self.diagnostics.push(from.error("E102", "'from' needs the name of a 'defaults' section"));
                return None;
            }
            [extra, ..] => {
                let extra = if extra.is("from") { &rest[2] } else { extra };
                let error = extra.error("E102", format!("{} can not follow the name of a section", extra.quoted()));
                self.diagnostics.push(error.help(format!("usage: {} <name> [from <defaults>]", kind.word())));
                return None;
            }
        };
        if kind != ProxyKind::Defaults && !name.is_empty() {
            if let Some(first) = self.names.get(&name) {
                let word = name_word.unwrap_or(head);
                let message =
                    format!("there is a section named {} already (at {}:{})", word.quoted(), first.file, first.line);
                self.diagnostics.push(
                    word.error("E107", message).help("names are unique over all frontends, backends and listens"),
                );
            } else {
                self.names.insert(name.clone(), head.at.clone());
            }
        }
        Some(Proxy {
            kind,
            name,
            at: head.at.clone(),
            settings,
            binds: Vec::new(),
            certificates: Vec::new(),
            servers: Vec::new(),
            use_backend: None,
            seen: HashMap::new(),
            broken: false,
            http_lines: Vec::new(),
        })
    }

    /// What a section without `from` starts with.
    fn last_defaults(&mut self, head: &Word) -> Settings {
        let Some(defaults) = self.defaults.last_mut() else {
            return Settings::default();
        };
        defaults.implicit.get_or_insert_with(|| head.at.clone());
        let settings = defaults.proxy.settings.clone();
        let index = self.defaults.len() - 1;
        self.mixed_use(index, head);
        settings
    }

    /// What a section with `from` starts with.
    fn named_defaults(&mut self, target: &Word) -> Option<Settings> {
        let name = String::from_utf8_lossy(&target.text);
        let mut found = self
            .defaults
            .iter()
            .enumerate()
            .filter(|(_, defaults)| defaults.proxy.name == name)
            .map(|(index, _)| index);
        match (found.next(), found.next()) {
            (Some(index), None) => {
                self.defaults[index].named.get_or_insert_with(|| target.at.clone());
                self.mixed_use(index, target);
                Some(self.defaults[index].proxy.settings.clone())
            }
            (Some(first), Some(second)) => {
                let line = |index: usize| self.defaults[index].proxy.at.line;
                let message = format!(
                    "there are two 'defaults' sections named {} (at lines {} and {})",
                    target.quoted(),
                    line(first),
                    line(second)
                );
                self.diagnostics.push(target.error("E401", message));
                None
            }
            (None, _) => {
                let error = target.error("E401", format!("no 'defaults' section named {} above", target.quoted()));
                let names = self.defaults.iter().take(SIMILAR_NAMES_MAX).map(|defaults| defaults.proxy.name.as_str());
                let diagnostic = match nearest(&name, names) {
                    Some(near) => error.label(format!("did you mean '{near}'?")),
                    None => error,
                };
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    /// Warns once if a `defaults` section is used by name and as the last one above.
    fn mixed_use(&mut self, index: usize, word: &Word) {
        let defaults = &mut self.defaults[index];
        let (Some(named), Some(implicit)) = (&defaults.named, &defaults.implicit) else {
            return;
        };
        if std::mem::replace(&mut defaults.warned, true) {
            return;
        }
        let message = format!(
            "'defaults {}' (line {}) is used with 'from' at line {} and, as the last one above, at line {}",
            defaults.proxy.name, defaults.proxy.at.line, named.line, implicit.line
        );
        self.diagnostics.push(word.warning("W120", message).help("write 'from' in every section, or in none"));
    }

    fn keyword(&mut self, words: &[Word]) {
        let (prefix, words) = match words {
            [no, rest @ ..] if no.is("no") && !rest.is_empty() => (Prefix::No, rest),
            [default, rest @ ..] if default.is("default") && !rest.is_empty() => (Prefix::Default, rest),
            _ => (Prefix::None, words),
        };
        let (table, here, section) = match self.section {
            Section::Global => (Table::Global, Places::GLOBAL, "global"),
            Section::Defaults => (Table::Proxy, Places::DEFAULTS, "defaults"),
            _ => match self.drafts.proxies.last().map(|proxy| proxy.kind) {
                Some(ProxyKind::Frontend) => (Table::Proxy, Places::FRONTEND, "frontend"),
                Some(ProxyKind::Backend) => (Table::Proxy, Places::BACKEND, "backend"),
                _ => (Table::Proxy, Places::FRONTEND.and(Places::BACKEND), "listen"),
            },
        };
        let Some((keyword, name, name_words)) = find(table, words) else {
            self.unknown(table, section, words);
            return;
        };
        let (first, arguments) = (&words[0], &words[name_words..]);
        // Both words of a name that has two are marked.
        let last = &words[name_words - 1];
        let end = last.at.column.saturating_add(last.length);
        let word = &Word { length: end.saturating_sub(first.at.column).max(first.length), ..first.clone() };
        if prefix != Prefix::None && !takes_prefix(keyword, prefix) {
            let message = "'no' and 'default' can only stand before 'option', 'no' also before 'log' and 'audit'";
            self.diagnostics.push(word.error("E102", message));
            return;
        }
        // What is refused anyway is told what to do instead, wherever it stands.
        let refused = matches!(keyword.action, Action::NotYet | Action::Refuse(_));
        if !refused && !keyword.places.overlaps(here) {
            self.diagnostics.push(misplaced(keyword, &name, word, section));
            return;
        }
        if !keyword.is_implemented() {
            self.without_effect(keyword, &name, word, prefix);
            return;
        }
        if arguments.len() < *keyword.arguments.start() {
            let message = format!("'{name}' needs {}", keywords::counted(*keyword.arguments.start()));
            self.diagnostics.push(word.error("E102", message).help(usage(keyword)));
            return;
        }
        if arguments.len() > *keyword.arguments.end() {
            let extra = &arguments[*keyword.arguments.end()];
            let error = extra.error("E102", format!("{} is too much for '{name}'", extra.quoted()));
            self.diagnostics.push(error.help(usage(keyword)));
            return;
        }
        if keyword.is_extension() {
            self.diagnostics.extension(&name, &word.at, word.length);
        }
        let line = Line { keyword, word, arguments, prefix };
        self.apply(&line);
    }

    fn apply(&mut self, line: &Line<'_>) {
        let proxy = match self.section {
            Section::Defaults => self.defaults.last_mut().map(|defaults| &mut defaults.proxy),
            Section::Proxy => self.drafts.proxies.last_mut(),
            _ => None,
        };
        let global = &mut self.drafts.global;
        let seen = match &proxy {
            Some(proxy) => proxy.seen.get(line.keyword.name),
            None => global.seen.get(line.keyword.name),
        };
        if let Some(first) = seen.filter(|_| !line.keyword.repeats) {
            let message = format!("'{}' is given twice (first at line {first})", line.keyword.name);
            self.diagnostics.push(line.word.error("E105", message));
            return;
        }
        let number = line.word.at.line;
        match (&line.keyword.action, proxy) {
            (Action::Global(apply), _) => {
                global.seen.insert(line.keyword.name, number);
                apply(global, line, self.diagnostics);
            }
            (Action::Proxy(apply), Some(proxy)) => {
                proxy.seen.insert(line.keyword.name, number);
                let before = proxy.binds.len();
                apply(proxy, line, self.diagnostics);
                self.addresses += proxy.binds[before..].iter().map(|bind| bind.addresses.len()).sum::<usize>();
                if self.addresses > ADDRESSES_MAX && proxy.binds.len() > before {
                    proxy.binds.truncate(before);
                    let message = format!("more than {ADDRESSES_MAX} addresses on all 'bind' lines");
                    self.diagnostics.push(line.word.error("E103", message));
                }
            }
            _ => {}
        }
    }

    /// A keyword that is refused or has no effect.
    fn without_effect(&mut self, keyword: &'static Keyword, name: &str, word: &Word, prefix: Prefix) {
        // What is switched off asks for nothing, wherever it stands.
        let harmless = matches!(self.section, Section::Defaults) || prefix != Prefix::None;
        match (&keyword.action, self.drafts.proxies.last_mut()) {
            (Action::Http | Action::HttpTimeout, _) if harmless => {
                self.diagnostics.inert(name, keyword.doc, &word.at, word.length);
            }
            // Whether this is an error of its own is known at the end of the section.
            (Action::Http, Some(proxy)) => {
                proxy.http_lines.push((keyword.name, refusal(keywords::Subject::Http, name, word, "")));
            }
            _ => keywords::refuse(keyword, name, word, self.diagnostics),
        }
    }

    fn unknown(&mut self, table: Table, section: &str, words: &[Word]) {
        let word = &words[0];
        let name = String::from_utf8_lossy(&word.text);
        if let Some((kind, what)) = family(&name).filter(|_| table == Table::Proxy) {
            self.diagnostics.push(unknown_second(kind, what, words));
            return;
        }
        let elsewhere = if table == Table::Global { Table::Proxy } else { Table::Global };
        if let Some((keyword, name, _)) = find(elsewhere, words) {
            self.diagnostics.push(misplaced(keyword, &name, word, section));
            return;
        }
        if family(&name).is_some() {
            let message = format!("{} does not belong into '{section}'", word.quoted());
            self.diagnostics.push(word.error("E106", message));
            return;
        }
        if words::knows(table.kind(), &name) {
            self.diagnostics.push(refusal(keywords::Subject::Other, &name, word, "remove it"));
            return;
        }
        let error = word.error("E101", format!("unknown keyword {} in '{section}'", word.quoted()));
        // A mistyped section is better than a far-fetched keyword: what follows belongs to it.
        let sections = ["global", "defaults", "frontend", "backend", "listen"];
        if let Some(near) = nearest(&name, sections.into_iter()) {
            self.diagnostics.push(error.label(format!("did you mean '{near}'?")));
            self.skip_section();
            return;
        }
        self.diagnostics.push(match nearest(&name, table.names().chain(words::all(table.kind()))) {
            Some(near) => error.label(format!("did you mean '{near}'?")),
            None => error,
        });
    }
}

/// The row of a line, its name as written, and how many words the name has.
fn find(table: Table, words: &[Word]) -> Option<(&'static Keyword, String, usize)> {
    let first = std::str::from_utf8(&words.first()?.text).ok()?;
    if let Some(second) = words.get(1).and_then(|word| std::str::from_utf8(&word.text).ok()) {
        // No keyword is longer; a long argument need not be copied.
        if second.len() <= 64 {
            let both = format!("{first} {second}");
            if let Some(keyword) = table.find(&both) {
                return Some((keyword, both, 2));
            }
        }
    }
    table.find(first).map(|keyword| (keyword, first.to_owned(), 1))
}

/// The kind of the second word of a two-word keyword, and what it is called.
fn family(name: &str) -> Option<(Kind, &'static str)> {
    match name {
        "option" => Some((Kind::Option, "option")),
        "timeout" => Some((Kind::Timeout, "timeout")),
        _ => None,
    }
}

fn unknown_second(kind: Kind, what: &str, words: &[Word]) -> Diagnostic {
    let Some(word) = words.get(1) else {
        return words[0].error("E102", format!("'{what}' needs to be told which one"));
    };
    let name = String::from_utf8_lossy(&word.text);
    if words::knows(kind, &name) {
        return not_yet(&format!("{what} {name}"), word).help("until then: remove it");
    }
    let error = word.error("E101", format!("unknown {what} {}", word.quoted()));
    let prefix = format!("{what} ");
    let ours = Table::Proxy.names().filter_map(|row| row.strip_prefix(prefix.as_str()));
    match nearest(&name, ours.chain(words::all(kind))) {
        Some(near) => error.label(format!("did you mean '{near}'?")),
        None => error,
    }
}

/// `no` and `default` make sense in front of this keyword.
fn takes_prefix(keyword: &Keyword, prefix: Prefix) -> bool {
    let switch = matches!(
        keyword.name,
        "strict-limits" | "busy-polling" | "set-dumpable" | "numa-cpu-mapping" | "insecure-fork-wanted"
    );
    keyword.name.starts_with("option ") || switch || (matches!(keyword.name, "log" | "audit") && prefix == Prefix::No)
}

/// A keyword in the wrong section: ignored with a warning where HAProxy does that, else an error.
fn misplaced(keyword: &Keyword, name: &str, word: &Word, section: &str) -> Diagnostic {
    let places: Vec<String> = keyword.places.names().iter().map(|place| format!("'{place}'")).collect();
    let ignored = matches!(section, "frontend" | "backend") && matches!(keyword.action, Action::Proxy(_));
    if ignored && !matches!(name, "server" | "default-server") {
        return word.warning("W110", format!("'{name}' has no effect in a {section}; it is for {}", places.join(", ")));
    }
    word.error("E106", format!("'{name}' does not belong into '{section}'; it is for {}", places.join(", ")))
}

/// Sections of HAProxy that are not here.
fn refused_section(name: &str, word: &Word) -> Diagnostic {
    let until_then = match name {
        "resolvers" => Some("names of servers are looked up by the system at start and reload"),
        "crt-store" => Some("put the files on the 'bind' line with 'crt'"),
        _ => None,
    };
    if let Some(until_then) = until_then {
        return not_yet(name, word).help(format!("until then: {until_then}"));
    }
    let why = match name {
        "peers" => "this program has no stick tables",
        "ring" => "this program logs to sockets and descriptors only",
        "log-forward" => "this program does not receive logs",
        "log-profile" => "the formats of log lines are fixed",
        "mailers" => "this program sends no mail",
        "userlist" | "cache" | "http-errors" | "fcgi-app" => "this program relays bytes and does not parse HTTP",
        "program" => "this program runs no other programs",
        "traces" => "this program has no traces",
        "acme" => "use an ACME client such as certbot, and reload after a renewal",
        _ => "this program has nothing like it",
    };
    word.error("E110", format!("section '{name}' is HAProxy's; {why}")).help("remove the section")
}
