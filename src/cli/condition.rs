//! `-cc`: evaluates a condition.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::{conf, report};

/// What a place in the condition is called in messages.
const NAME: &str = "condition";

/// Exit code 0 if the condition holds, 1 if it does not, 2 if it is none: HAProxy's.
pub(super) fn run(text: &str) -> ExitCode {
    let names = conf::variables(format!(".if {text}").as_bytes());
    let environment: BTreeMap<String, String> =
        names.into_iter().filter_map(|name| std::env::var(&name).ok().map(|value| (name, value))).collect();
    match conf::condition(NAME, text.as_bytes(), &environment) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(diagnostic) => {
            for line in report::render(&[*diagnostic], &[(NAME.to_owned(), text.as_bytes().to_vec())]) {
                eprintln!("{}", line.for_terminal().trim_end());
            }
            ExitCode::from(2)
        }
    }
}
