//! What is said about a configuration: diagnostics with their source line, and what is in force.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::conf::diagnostic::{Diagnostic, Severity};

/// A line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLine {
    /// How urgent it is.
    pub level: ReportLevel,
    /// The text; a diagnostic has several lines.
    pub text: String,
}

/// How urgent a report line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReportLevel {
    /// It stops the configuration.
    Error,
    /// It probably is not what was meant.
    Warning,
    /// Worth knowing.
    Notice,
    /// What is in force now.
    Fact,
}

impl ReportLine {
    /// A line of its own.
    pub fn new(level: ReportLevel, text: impl Into<String>) -> Self {
        Self { level, text: text.into() }
    }

    /// Writes it to the log of the process.
    pub fn log(&self) {
        let level = match self.level {
            ReportLevel::Error => log::Level::Error,
            ReportLevel::Warning => log::Level::Warn,
            ReportLevel::Notice | ReportLevel::Fact => log::Level::Info,
        };
        for line in self.text.lines() {
            log::log!(level, "{}", Escaped(line));
        }
    }
}

/// Text on one line: control characters as `\u{…}`. A report may come from a worker that is no longer trustworthy.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// Renders diagnostics with the source lines that they are about, in their order.
pub fn render(diagnostics: &[Diagnostic], sources: &[(String, Vec<u8>)]) -> Vec<ReportLine> {
    let render_one = |diagnostic: &Diagnostic| {
        let text = sources.iter().find(|(name, _)| **name == *diagnostic.at.file);
        let line = text.and_then(|(_, text)| {
            let index = (diagnostic.at.line as usize).checked_sub(1)?;
            let line = text.split(|&byte| byte == b'\n').nth(index)?;
            std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).ok()
        });
        let level = match diagnostic.severity {
            Severity::Error => ReportLevel::Error,
            Severity::Warning => ReportLevel::Warning,
            Severity::Notice => ReportLevel::Notice,
        };
        ReportLine::new(level, diagnostic.render(line))
    };
    diagnostics.iter().map(render_one).collect()
}

/// Appends the lines of `more` that are not there yet: the configuration is parsed by more than one process.
pub fn merge(report: &mut Vec<ReportLine>, more: Vec<ReportLine>) {
    for line in more {
        if !report.contains(&line) {
            report.push(line);
        }
    }
}

/// How many lines there are of each level that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Errors.
    pub errors: usize,
    /// Warnings.
    pub warnings: usize,
    /// Notices.
    pub notices: usize,
}

impl Summary {
    /// Counts a report.
    pub fn of(report: &[ReportLine]) -> Self {
        let count = |level| report.iter().filter(|line| line.level == level).count();
        Self {
            errors: count(ReportLevel::Error),
            warnings: count(ReportLevel::Warning),
            notices: count(ReportLevel::Notice),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let Self { errors, warnings, notices } = *self;
        write!(
            f,
            "{errors} error{}, {warnings} warning{}, {notices} notice{}",
            plural(errors),
            plural(warnings),
            plural(notices)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::model::Location;

    #[test]
    fn a_summary_counts_and_declines() {
        let line = |level| ReportLine::new(level, "x");
        let report = [ReportLevel::Error, ReportLevel::Error, ReportLevel::Warning, ReportLevel::Fact].map(line);
        assert_eq!(Summary::of(&report).to_string(), "2 errors, 1 warning, 0 notices");
    }

    #[test]
    fn a_report_cannot_forge_a_line() {
        let forged = "cert\r\u{1b}[2J\u{7f} ünïcode";
        assert_eq!(Escaped(forged).to_string(), "cert\\u{d}\\u{1b}[2J\\u{7f} ünïcode");
    }

    #[test]
    fn diagnostics_of_a_line_that_is_not_there_still_render() {
        let at = |line| Location { file: "a.cfg".into(), line, column: 1 };
        let sources = vec![("a.cfg".to_owned(), b"one\r\ntwo".to_vec())];
        for line in [0, 1, 2, 3, u32::MAX] {
            let report = render(&[Diagnostic::error("E101", &at(line), "wrong")], &sources);
            assert_eq!(report[0].level, ReportLevel::Error);
            assert!(report[0].text.contains("wrong"));
        }
    }

    #[test]
    fn merging_keeps_one_of_each() {
        let line = |text: &str| ReportLine::new(ReportLevel::Warning, text);
        let mut report = vec![line("a")];
        merge(&mut report, vec![line("a"), line("b")]);
        assert_eq!(report, [line("a"), line("b")]);
    }
}
