//! Files to lines that count: conditions, messages, empty words (HAProxy manual, 2.2 to 2.4).

use std::collections::HashMap;
use std::sync::Arc;

use super::conditions;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::draft::{Global, Proxy};
use super::environment::Environment;
use super::keywords::nearest;
use super::model::Location;
use super::token::{self, Word, saturated};

/// `.if` inside `.if`.
const CONDITIONS_MAX: usize = 64;

/// Names among which a similar one is looked for.
pub(crate) const SIMILAR_NAMES_MAX: usize = 200;

/// Everything that was said, section by section.
#[derive(Default)]
pub(crate) struct Drafts {
    pub(crate) global: Global,
    /// `frontend`, `backend`, `listen` in file order.
    pub(crate) proxies: Vec<Proxy>,
    /// Some section could not be read, so that something that seems to be missing may stand in it.
    pub(crate) incomplete: bool,
}

/// Moves a word to the place that it comes from, where the text was made from another.
pub(crate) type Translate<'a> = &'a dyn Fn(&mut Word);

/// Reads all files; `translate` sees every word first.
pub(crate) fn read(
    sources: &[(String, Vec<u8>)],
    environment: Environment,
    translate: Option<Translate<'_>>,
    diagnostics: &mut Diagnostics,
) -> Drafts {
    let global = Global { environment, ..Global::default() };
    let mut reader = Reader {
        translate,
        diagnostics,
        drafts: Drafts { global, ..Drafts::default() },
        section_name: String::new(),
        defaults: Vec::new(),
        names: HashMap::new(),
        section: Section::Outside,
        has_section: false,
        addresses: 0,
        conditions: Vec::new(),
    };
    for (name, text) in sources {
        reader.file(name, text);
    }
    reader.not_empty(sources);
    let mut drafts = reader.drafts;
    drafts.incomplete |= diagnostics.any_full();
    drafts
}

/// Evaluates the words of a condition. `directive` is what is marked if there are none.
pub(super) fn condition(directive: &Word, words: &[Word], environment: &Environment) -> Result<bool, Box<Diagnostic>> {
    let mut text = Vec::new();
    let mut starts = Vec::new();
    for word in words {
        if !text.is_empty() {
            text.push(b' ');
        }
        starts.push(text.len());
        text.extend_from_slice(&word.text);
    }
    conditions::evaluate(&text, environment).map_err(|error| {
        let index = starts.partition_point(|start| *start <= error.offset).checked_sub(1);
        let mut place = index.and_then(|index| words.get(index)).unwrap_or(directive).clone();
        if let Some(index) = index {
            if place.length == saturated(place.text.len()) {
                let inside = saturated(error.offset - starts[index]);
                place.at.column = place.at.column.saturating_add(inside);
                place.length = place.length.saturating_sub(inside).max(1);
            }
        }
        Box::new(place.error(error.code, error.message))
    })
}

/// A `defaults` section, and who has used it.
pub(super) struct Defaults {
    pub(super) proxy: Proxy,
    /// Where it was first named with `from`.
    pub(super) named: Option<Location>,
    /// Where it was first used as the last one above.
    pub(super) implicit: Option<Location>,
    /// That both happen has been said.
    pub(super) warned: bool,
}

/// Where the reader is.
pub(super) enum Section {
    /// Before the first section of a file.
    Outside,
    /// In a section that is not read.
    Skipped,
    Global,
    /// The last of the `defaults`.
    Defaults,
    /// The last of the proxies.
    Proxy,
}

/// One `.if` that is open.
struct Condition {
    at: Location,
    branch: Branch,
    in_else: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Branch {
    /// These lines count.
    Taken,
    /// No branch has been true yet.
    Waiting,
    /// A branch before was true, or the `.if` stands in lines that do not count.
    Done,
}

/// Goes through the files line by line.
pub(super) struct Reader<'a> {
    translate: Option<Translate<'a>>,
    pub(super) diagnostics: &'a mut Diagnostics,
    pub(super) drafts: Drafts,
    pub(super) defaults: Vec<Defaults>,
    /// Names of proxies, with the place of their section.
    pub(super) names: HashMap<String, Location>,
    pub(super) section: Section,
    /// Its name, or its kind where it has none; empty before the first.
    pub(super) section_name: String,
    /// There has been a section, of whatever kind.
    pub(super) has_section: bool,
    /// How many addresses the 'bind' lines have named.
    pub(super) addresses: usize,
    conditions: Vec<Condition>,
}

impl Reader<'_> {
    /// E111: a file that was cut off would otherwise close every listener with the next reload.
    fn not_empty(&mut self, sources: &[(String, Vec<u8>)]) {
        let Some((name, _)) = sources.first() else { return };
        if self.has_section || self.diagnostics.errors() > 0 {
            return;
        }
        let at = Location { file: Arc::from(name.as_str()), line: 1, column: 1 };
        let others = if sources.len() == 1 { "" } else { ", nor in the files after it" };
        let message = format!("no section in this file{others}: expected at least 'global' or 'defaults'");
        self.diagnostics
            .push(Diagnostic::error("E111", &at, message).help("was the file cut off, or all of it commented out?"));
    }

    fn file(&mut self, name: &str, text: &[u8]) {
        let file: Arc<str> = Arc::from(name);
        self.diagnostics.open(&file);
        self.section = Section::Outside;
        self.section_name.clear();
        self.conditions.clear();
        let mut number = 0;
        for line in text.split(|byte| *byte == b'\n') {
            number += 1;
            if self.diagnostics.is_full(&file) {
                let at = Location { file, line: number, column: 1 };
                self.diagnostics.truncated(&at);
                return;
            }
            let errors = self.diagnostics.errors();
            self.line(line, &file, number);
            if self.diagnostics.errors() > errors {
                if let (Section::Proxy, Some(proxy)) = (&self.section, self.drafts.proxies.last_mut()) {
                    proxy.broken = true;
                }
            }
        }
        if text.last().is_some_and(|byte| *byte != b'\n') {
            let at = Location { file, line: number, column: 1 };
            let message =
                "the last line does not end with a line feed (HAProxy refuses such a file); was the file cut off?";
            self.diagnostics.push(match self.diagnostics.is_for_haproxy() {
                true => Diagnostic::error("E702", &at, message),
                false => Diagnostic::notice("N010", &at, message),
            });
        }
        if let Some(open) = self.conditions.pop() {
            self.diagnostics
                .push(Diagnostic::error("E100", &open.at, "this '.if' has no '.endif' in this file").span(3));
        }
    }

    fn counts(&self) -> bool {
        self.conditions.iter().all(|condition| condition.branch == Branch::Taken)
    }

    fn line(&mut self, line: &[u8], file: &Arc<str>, number: u32) {
        let first = token::first_bare_word(line);
        let directive = first.starts_with(b".");
        let counts = self.counts();
        let structure = matches!(first, b".if" | b".elif" | b".else" | b".endif");
        let (environment, section) = (&self.drafts.global.environment, &self.section_name);
        let mut lookup = |name: &str| match name {
            ".FILE" => Some(file.to_string()),
            ".LINE" => Some(number.to_string()),
            ".SECTION" => Some(section.clone()).filter(|section| !section.is_empty()),
            _ => environment.value(name).map(str::to_owned),
        };
        let mut words = match token::split(line, file, number, &mut lookup) {
            Ok(words) => words,
            Err(error) => {
                // A broken condition must not let the lines of a branch pass by accident.
                if structure {
                    self.structure(first, None, &error.at.clone());
                }
                self.diagnostics.push(*error);
                return;
            }
        };
        // HAProxy, too, takes every line apart before it passes over it.
        if !counts && !structure {
            return;
        }
        if let Some(translate) = self.translate {
            words.iter_mut().for_each(translate);
        }
        let Some(word) = words.first() else { return };
        if structure {
            self.structure(first, Some(&words), &word.at);
        } else if directive {
            self.message(&words);
        } else if self.complete(&words) {
            self.statement(&words);
        }
    }

    /// `.if`, `.elif`, `.else`, `.endif`; without words the line could not be read.
    fn structure(&mut self, directive: &[u8], words: Option<&[Word]>, at: &Location) {
        match directive {
            b".if" => {
                if self.conditions.len() >= CONDITIONS_MAX {
                    let error =
                        Diagnostic::error("E100", at, format!("more than {CONDITIONS_MAX} '.if' inside each other"));
                    self.diagnostics.push(error.span(3));
                }
                let branch = if self.counts() { self.decide(words) } else { Branch::Done };
                self.conditions.push(Condition { at: at.clone(), branch, in_else: false });
            }
            _ => {
                let Some(mut condition) = self.conditions.pop() else {
                    let name = String::from_utf8_lossy(directive);
                    let error = Diagnostic::error("E100", at, format!("'{name}' without '.if'"));
                    self.diagnostics.push(error.span(saturated(directive.len())));
                    return;
                };
                if directive == b".endif" {
                    return;
                }
                if condition.in_else {
                    let message = format!(
                        "'{}' after '.else' (the '.if' is at line {})",
                        String::from_utf8_lossy(directive),
                        condition.at.line
                    );
                    self.diagnostics.push(Diagnostic::error("E100", at, message).span(saturated(directive.len())));
                }
                condition.in_else |= directive == b".else";
                condition.branch = match condition.branch {
                    Branch::Taken | Branch::Done => Branch::Done,
                    Branch::Waiting if !self.counts() => Branch::Done,
                    Branch::Waiting if directive == b".else" => Branch::Taken,
                    Branch::Waiting => self.decide(words),
                };
                self.conditions.push(condition);
            }
        }
    }

    /// Evaluates the condition of `.if` or `.elif`. After an error no branch counts.
    fn decide(&mut self, words: Option<&[Word]>) -> Branch {
        let Some([directive, rest @ ..]) = words else {
            return Branch::Done;
        };
        match condition(directive, rest, &self.drafts.global.environment) {
            Ok(true) => Branch::Taken,
            Ok(false) => Branch::Waiting,
            Err(error) => {
                self.diagnostics.push(*error);
                Branch::Done
            }
        }
    }

    /// `.notice`, `.warning`, `.alert`, `.diag`.
    fn message(&mut self, words: &[Word]) {
        let directive = &words[0];
        let text = words.get(1).map_or_else(String::new, |word| super::diagnostic::shown(&word.text));
        let diagnostic = match directive.text.as_slice() {
            b".notice" | b".diag" => Diagnostic::notice("N012", &directive.at, text),
            b".warning" => Diagnostic::warning("W012", &directive.at, text),
            b".alert" => Diagnostic::error("E108", &directive.at, text),
            _ => {
                let error = directive.error("E101", format!("unknown directive {}", directive.quoted()));
                let known = [".if", ".elif", ".else", ".endif", ".notice", ".warning", ".alert", ".diag"];
                let diagnostic = match nearest(&String::from_utf8_lossy(&directive.text), known.into_iter()) {
                    Some(near) => error.label(format!("did you mean '{near}'?")),
                    None => error,
                };
                self.diagnostics.push(diagnostic);
                return;
            }
        };
        self.diagnostics.push(diagnostic.span(directive.length));
        if let Some(extra) = words.get(2) {
            self.diagnostics
                .push(extra.error("E102", format!("{} is too much; put the message in quotes", extra.quoted())));
        }
    }

    /// Reports empty words and variables that are not set. False: the line can not be used.
    fn complete(&mut self, words: &[Word]) -> bool {
        let mut usable = true;
        for (index, word) in words.iter().enumerate() {
            if word.text.is_empty() {
                usable = false;
                let error = match word.unset.as_slice() {
                    [] => word.error("E104", "an empty word"),
                    [unset, ..] => {
                        word.error("E104", format!("\"${{{0}}}\" is empty because {0} is not set", unset.name))
                    }
                };
                self.diagnostics.push(error.help("leave it out, or give the variable a value"));
                continue;
            }
            for unset in &word.unset {
                let everywhere = if words[0].is("bind") && index == 1 && word.text.starts_with(b":") {
                    " = all IPv4 addresses"
                } else {
                    ""
                };
                let what = if words[0].is("bind") && index == 1 { "address" } else { "word" };
                let name = &unset.name;
                let at = Location { column: unset.column, ..word.at.clone() };
                let message =
                    format!("environment variable {name} is not set; the {what} becomes {}{everywhere}", word.quoted());
                self.diagnostics.push(
                    Diagnostic::warning("W103", &at, message)
                        .span(saturated(name.len()).saturating_add(1))
                        .help(format!("\"${{{name}-value}}\" sets a default")),
                );
            }
        }
        usable
    }
}
