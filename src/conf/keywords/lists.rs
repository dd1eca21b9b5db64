//! Lists of cipher suites and groups, on `bind` lines and in `global` (HAProxy manual, 3.1 and 5.1).

use super::super::ciphers::{self, ListError, Selection, Suite12, Suite13};
use super::super::diagnostic::{Diagnostic, Diagnostics, shown};
use super::super::draft::{BindDraft, Global, TlsOptions};
use super::super::model::{At, Location};
use super::super::token::{Word, saturated};
use super::Line;

/// Words that one notice repeats.
const DROPPED_SHOWN: usize = 8;
/// RHEL's and Fedora's name for the list of the system.
const SYSTEM: &[u8] = b"PROFILE=SYSTEM";

/// `ciphers`, `ciphersuites`, `curves` and `ecdhe` of a `bind` line.
pub(super) fn of_bind(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    if line.keyword.name == "ecdhe" {
        let groups = kept(line, ciphers::groups, &mut bind.dropped, diagnostics);
        if groups.as_ref().is_some_and(|groups| groups.len() > 1) {
            let message = format!("{}: 'ecdhe' takes one group", word.quoted());
            diagnostics.push(word.error("E103", message).help("write 'curves' for several"));
        }
        bind.ecdhe = groups.map(|value| At { value, at: line.word.at.clone() });
        return;
    }
    read(&mut bind.options, line, &mut bind.dropped, diagnostics);
}

/// One notice for all that a `bind` line names in vain.
pub(super) fn tell_dropped(bind: &BindDraft, diagnostics: &mut Diagnostics) {
    if let Some((at, name, _)) = bind.dropped.first() {
        let words = bind.dropped.iter().flat_map(|(_, _, words)| words);
        diagnostics.push(notice(at, name, words));
    }
}

/// `ssl-default-bind-ciphers`, `-ciphersuites` and `-curves`.
pub(super) fn of_global(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let mut dropped = Vec::new();
    read(&mut global.bind_options, line, &mut dropped, diagnostics);
    if let Some((at, name, words)) = dropped.first() {
        diagnostics.push(notice(at, name, words.iter()));
    }
}

/// The place of a keyword, its name, and the words of its list that name nothing here.
pub(crate) type Dropped = (Location, &'static str, Vec<String>);

fn read(options: &mut TlsOptions, line: &Line<'_>, dropped: &mut Vec<Dropped>, diagnostics: &mut Diagnostics) {
    match line.keyword.name {
        "ciphers" | "ssl-default-bind-ciphers" => {
            let word = &line.arguments[0];
            options.suites12 = if word.text == SYSTEM {
                let message = "'PROFILE=SYSTEM' is a list of RHEL's OpenSSL; the built-in list is used";
                diagnostics.push(Diagnostic::notice("N303", &word.at, message).span(word.length));
                Some(Suite12::DEFAULT.to_vec())
            } else {
                kept(line, ciphers::suites12, dropped, diagnostics)
            };
        }
        "ciphersuites" | "ssl-default-bind-ciphersuites" => {
            options.suites13 = kept(line, ciphers::suites13, dropped, diagnostics);
        }
        _ => options.groups = kept(line, ciphers::groups, dropped, diagnostics),
    }
}

/// What a list selects. `None`: an error.
fn kept<T>(
    line: &Line<'_>,
    select: impl Fn(&str) -> Result<Selection<T>, ListError>,
    dropped: &mut Vec<Dropped>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<T>> {
    let word = &line.arguments[0];
    // Bytes that are no text are no name either.
    match select(&String::from_utf8_lossy(&word.text)) {
        Ok(selection) => {
            if !selection.dropped.is_empty() {
                dropped.push((line.word.at.clone(), line.keyword.name, selection.dropped));
            }
            Some(selection.kept)
        }
        Err(error) => {
            diagnostics.push(refusal(line.keyword.name, word, error));
            None
        }
    }
}

fn refusal(keyword: &str, word: &Word, error: ListError) -> Diagnostic {
    let what = match keyword.trim_start_matches("ssl-default-bind-") {
        "ciphers" => "TLS 1.2 suite",
        "ciphersuites" => "TLS 1.3 suite",
        _ => "group",
    };
    match error {
        ListError::Nothing => {
            let message = format!("no usable {what} left in {}", word.quoted());
            let names = if what == "group" {
                "X25519MLKEM768 X25519 P-256 P-384 SecP256r1MLKEM768 MLKEM768 MLKEM1024".to_owned()
            } else {
                let names12: Vec<&str> = Suite12::DEFAULT.iter().map(|suite| suite.name()).collect();
                let names13: Vec<&str> = Suite13::DEFAULT.iter().map(|suite| suite.name()).collect();
                format!("{} in 'ciphers', {} in 'ciphersuites'", names12.join(" "), names13.join(" "))
            };
            word.error("E302", message).help(format!("available: {names}; or remove '{keyword}'"))
        }
        ListError::Syntax(what) => word.error("E103", format!("{} is no list of cipher suites: {what}", word.quoted())),
        ListError::OpenSsl(why) => word.error("E303", format!("{}: {why}", word.quoted())),
        ListError::Unknown(unknown, near) => {
            let error = word.error("E103", format!("there is no {what} '{}'", shown(unknown.as_bytes())));
            match near {
                Some(near) => error.label(format!("did you mean '{near}'?")),
                None => error.help(format!("'{keyword}' is a list of names with ':' between them")),
            }
        }
    }
}

fn notice<'a>(at: &Location, name: &str, words: impl Iterator<Item = &'a String> + Clone) -> Diagnostic {
    let shown: Vec<String> = words.clone().take(DROPPED_SHOWN).map(|word| shown(word.as_bytes())).collect();
    let more = words.count() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!("not available here and left out: {}{more}", shown.join(" "));
    Diagnostic::notice("N302", at, message).span(saturated(name.len()))
}

/// For the sentence about the groups, which the tests compare with the list.
#[cfg(test)]
mod tests {
    use super::super::super::ciphers::Group;
    use super::*;

    #[test]
    fn the_groups_of_the_message_are_all_groups() {
        let word = Word {
            text: b"X448".to_vec(),
            at: Location { file: "x".into(), line: 1, column: 1 },
            length: 4,
            unset: vec![],
        };
        let error = refusal("curves", &word, ListError::Nothing);
        let names = error.help[0].strip_prefix("available: ").and_then(|text| text.split(';').next()).unwrap();
        let groups = ciphers::groups(&names.replace(' ', ":")).unwrap();
        assert_eq!((groups.kept.len(), groups.dropped), (7, vec![]));
        assert!(groups.kept.starts_with(&Group::DEFAULT));
    }
}
