//! Stand-in: replaced when merging.
#![allow(missing_docs)]

use super::model::Location;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Notice,
    Warning,
    Error,
}

#[derive(Clone, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    pub code: &'static str,
    pub at: Location,
    pub message: String,
    pub help: Option<String>,
}

impl Diagnostic {
    pub fn error(code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, at, message)
    }
    pub fn warning(code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, at, message)
    }
    pub fn notice(code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Notice, code, at, message)
    }
    fn new(severity: Severity, code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self { severity, code, at: at.clone(), message: message.into(), help: None }
    }
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
    pub fn render(&self, _source_line: Option<&str>) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        };
        let Location { file, line, column } = &self.at;
        let help = self.help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default();
        format!("{file}:{line}:{column}: {severity} {}: {}{help}", self.code, self.message)
    }
}
