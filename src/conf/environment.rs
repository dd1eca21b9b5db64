//! The variables that a configuration may name, as they are at a line: the process's, changed by `setenv` and its kin, and
//! HAProxy's own (HAProxy manual, 2.3).

use std::collections::BTreeMap;

use super::conditions::REFERENCE_BRANCH;

/// What HAProxy sets for itself at a start, so far as it means something here.
const PRESET: [(&str, &str); 3] = [
    ("HAPROXY_BRANCH", REFERENCE_BRANCH),
    ("HAPROXY_TCP_LOG_FMT", "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq"),
    (
        "HAPROXY_TCP_CLF_LOG_FMT",
        "%{+Q}o %{-Q}ci - - [%T] \"TCP \" 000 %B \"\" \"\" %cp %ms %ft %b %s %Th %Tw %Tc %Tt %U %ts-- %ac/%fc/%bc/%sc/%rc %sq/%bq \
         \"\" \"\" ",
    ),
];

/// Variables with their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
    /// `feature(BOWLINE)` is false: the text is read as HAProxy reads it.
    pub(crate) haproxys: bool,
}

impl Environment {
    /// The process's variables, and HAProxy's own. `files` are the names of the configuration files.
    pub(crate) fn new<'a>(process: &BTreeMap<String, String>, files: impl Iterator<Item = &'a str>) -> Self {
        let mut variables = process.clone();
        variables.extend(PRESET.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        variables.insert("HAPROXY_CFGFILES".to_owned(), files.collect::<Vec<_>>().join(";"));
        Self { variables, haproxys: false }
    }

    /// The value of a variable.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// `setenv`.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// `presetenv`: only if it is not set.
    pub(crate) fn preset(&mut self, name: &str, value: &str) {
        self.variables.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// `unsetenv`.
    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    /// `resetenv`: all but these are unset.
    pub(crate) fn keep(&mut self, names: &[String]) {
        self.variables.retain(|name, _| names.contains(name));
    }
}
