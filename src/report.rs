//! What is said about a configuration: diagnostics with their source line, and what is in force. In a form that can go from
//! worker to master, which [`Diagnostic`] is not: its codes are constants of the program.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::conf::diagnostic::{Diagnostic, Severity};
use crate::log::logger;

/// A finding for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLine {
    /// How urgent it is.
    pub level: ReportLevel,
    /// For a terminal, severity included: a diagnostic has several lines, with the line of the file that it is about.
    pub text: String,
    /// The same on one line, for a log: what is said about a file that is at hand needs no excerpt of it.
    brief: String,
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
    /// A line about no place in a file. The severity is put in front of it, unless it is a fact.
    pub fn new(level: ReportLevel, text: impl fmt::Display) -> Self {
        let text = match level {
            ReportLevel::Error => format!("error: {text}"),
            ReportLevel::Warning => format!("warning: {text}"),
            ReportLevel::Notice => format!("notice: {text}"),
            ReportLevel::Fact => text.to_string(),
        };
        Self { level, brief: text.clone(), text }
    }

    /// What it says, on one line.
    pub fn brief(&self) -> &str {
        &self.brief
    }

    /// Writes it to the log of the process, on one line.
    pub fn log(&self) {
        let brief = Escaped(&self.brief);
        match self.level {
            ReportLevel::Fact => log::info!("{brief}"),
            _ => log::log!(target: logger::NAMES_SEVERITY, self.log_level(), "{brief}"),
        }
    }

    /// Shows it to whoever has started the process: as with `-c` on a terminal, as in the log if the journal is listening.
    pub fn show(&self) {
        if logger::stderr_is_journal() {
            self.log();
        } else if self.log_level() <= log::max_level() {
            // With nobody listening there is nobody to tell.
            let _ = writeln!(io::stderr(), "{}", self.for_terminal().trim_end());
        }
    }

    /// The text for standard error, coloured if that is a terminal whose user has not set NO_COLOR (no-color.org).
    pub fn for_terminal(&self) -> String {
        static COLOURED: LazyLock<bool> = LazyLock::new(|| {
            let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            io::stderr().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        });
        if *COLOURED { self.coloured() } else { self.text.clone() }
    }

    fn coloured(&self) -> String {
        let (word, colour) = match self.level {
            ReportLevel::Error => ("error", "31"),
            ReportLevel::Warning => ("warning", "33"),
            ReportLevel::Notice => ("notice", "36"),
            ReportLevel::Fact => return self.text.clone(),
        };
        let mut text = String::new();
        for (number, line) in self.text.lines().enumerate() {
            // The place in front of the severity may be nothing, or a file with a strange name.
            let start = match line.find(&format!(": {word}[")) {
                Some(colon) => Some(colon + 2),
                None => line.starts_with(word).then_some(0),
            };
            let severity = start.and_then(|at| Some((at, at + line[at..].find(':')?)));
            let painted = match severity {
                Some((at, end)) if number == 0 => {
                    format!(
                        "\x1b[1m{}\x1b[{colour}m{}\x1b[0m\x1b[1m{}\x1b[0m",
                        &line[..at],
                        &line[at..end],
                        &line[end..]
                    )
                }
                _ => match line.split_at_checked(7) {
                    Some(("     | ", mark)) => format!("     | \x1b[1;{colour}m{mark}\x1b[0m"),
                    _ => line.to_owned(),
                },
            };
            text.push_str(&painted);
            text.push('\n');
        }
        text
    }

    fn log_level(&self) -> log::Level {
        match self.level {
            ReportLevel::Error => log::Level::Error,
            ReportLevel::Warning => log::Level::Warn,
            ReportLevel::Notice | ReportLevel::Fact => log::Level::Info,
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
    let mut files: HashMap<&str, Vec<&[u8]>> = HashMap::new();
    for (name, text) in sources {
        files.entry(name).or_insert_with(|| text.split(|&byte| byte == b'\n').collect());
    }
    let render_one = |diagnostic: &Diagnostic| {
        let line = files.get(&*diagnostic.at.file).and_then(|lines| {
            let line = lines.get((diagnostic.at.line as usize).checked_sub(1)?)?;
            std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).ok()
        });
        let level = match diagnostic.severity {
            Severity::Error => ReportLevel::Error,
            Severity::Warning => ReportLevel::Warning,
            Severity::Notice => ReportLevel::Notice,
        };
        let brief = diagnostic.render(None).lines().collect::<Vec<_>>().join("; ");
        let text = match line.map(|line| (line, word_length(line, diagnostic.at.column))) {
            Some((line, Some(length))) if diagnostic.length == 0 => diagnostic.clone().span(length).render(Some(line)),
            _ => diagnostic.render(line),
        };
        ReportLine { level, text, brief }
    };
    diagnostics.iter().map(render_one).collect()
}

/// Bytes of the word, or the part of a comma list, at a column behind the first: what a diagnostic without a length is about
/// when it comes from a file that the word names.
fn word_length(line: &str, column: u32) -> Option<u32> {
    let start = usize::try_from(column).ok()?.checked_sub(1).filter(|&start| start > 0)?;
    let word = line.as_bytes().get(start..)?;
    let length = match word.first()? {
        quote @ (b'"' | b'\'') => 2 + word[1..].iter().position(|byte| byte == quote)?,
        _ => word.iter().position(|byte| matches!(byte, b' ' | b'\t' | b',')).unwrap_or(word.len()),
    };
    u32::try_from(length).ok().filter(|&length| length > 0)
}

/// Where warnings are not allowed (`zero-warning`, `-dW`) and there are some, an error is added.
pub fn forbid_warnings(report: &mut Vec<ReportLine>) {
    let warnings = Summary::of(report).warnings;
    if warnings > 0 {
        let plural = if warnings == 1 { "" } else { "s" };
        let text = format!("{warnings} warning{plural}, and 'zero-warning' or -dW does not allow any");
        report.push(ReportLine::new(ReportLevel::Error, text));
    }
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

    fn rendered(source: &str, diagnostic: Diagnostic) -> ReportLine {
        render(&[diagnostic], &[("a.cfg".to_owned(), source.as_bytes().to_vec())]).remove(0)
    }

    #[test]
    fn a_log_has_one_line_where_a_terminal_has_several() {
        let at = Location { file: "a.cfg".into(), line: 1, column: 5 };
        let error = Diagnostic::error("E101", &at, "unknown 'verfy'").span(5).label("did you mean 'verify'?");
        let line = rendered("crt verfy x\n", error.help("read the manual").note("it is short"));
        assert_eq!(
            line.text,
            "a.cfg:1:5: error[E101]: unknown 'verfy'\n   1 | crt verfy x\n     |     ^^^^^ did you mean 'verify'?\n\
             help: read the manual\nnote: it is short\n"
        );
        assert_eq!(
            line.brief,
            "a.cfg:1:5: error[E101]: unknown 'verfy'; help: did you mean 'verify'?; help: read the manual; note: it is short"
        );
    }

    #[test]
    fn colour_marks_severity_and_place() {
        let at = Location { file: "a.cfg".into(), line: 1, column: 5 };
        let line = rendered("crt verfy x\n", Diagnostic::error("E101", &at, "unknown 'verfy'").span(5).label("why"));
        assert_eq!(
            line.coloured(),
            "\x1b[1ma.cfg:1:5: \x1b[31merror[E101]\x1b[0m\x1b[1m: unknown 'verfy'\x1b[0m\n   1 | crt verfy x\n     | \
             \x1b[1;31m    ^^^^^ why\x1b[0m\n"
        );
        let warning = ReportLine::new(ReportLevel::Warning, "no file");
        assert_eq!(warning.coloured(), "\x1b[1m\x1b[33mwarning\x1b[0m\x1b[1m: no file\x1b[0m\n");
        assert_eq!(ReportLine::new(ReportLevel::Fact, "x").coloured(), "x");
    }

    #[test]
    fn the_word_that_names_a_file_is_marked() {
        let marked = |source: &str, column: u32| {
            let at = Location { file: "a.cfg".into(), line: 1, column };
            let text = rendered(source, Diagnostic::error("E221", &at, "cannot read it")).text;
            text.matches('^').count()
        };
        assert_eq!(marked("crt a.pem ca-file b.pem", 5), 5);
        assert_eq!(marked("crt 'a b.pem' x", 5), 9);
        assert_eq!(marked("bind :80,:8080 ssl", 6), 3);
        assert_eq!(marked("bind :80,:8080 ssl", 10), 5);
        // A place alone: the first column, behind the line, a quote that is never closed.
        assert_eq!([marked("global", 1), marked("crt a", 99), marked("crt 'a", 5)], [0; 3]);
    }

    #[test]
    fn lines_without_a_place_name_their_severity() {
        let texts = [ReportLevel::Error, ReportLevel::Warning, ReportLevel::Notice, ReportLevel::Fact]
            .map(|level| ReportLine::new(level, "x").text);
        assert_eq!(texts, ["error: x", "warning: x", "notice: x", "x"]);
    }

    #[test]
    fn warnings_can_be_forbidden() {
        let mut report = vec![ReportLine::new(ReportLevel::Notice, "n")];
        forbid_warnings(&mut report);
        assert_eq!(Summary::of(&report).errors, 0);
        report.push(ReportLine::new(ReportLevel::Warning, "w"));
        forbid_warnings(&mut report);
        assert_eq!(Summary::of(&report).to_string(), "1 error, 1 warning, 1 notice");
        assert!(report[2].text.starts_with("error: 1 warning, and 'zero-warning'"), "{}", report[2].text);
    }

    #[test]
    fn merging_keeps_one_of_each() {
        let line = |text: &str| ReportLine::new(ReportLevel::Warning, text);
        let mut report = vec![line("a")];
        merge(&mut report, vec![line("a"), line("b")]);
        assert_eq!(report, [line("a"), line("b")]);
    }
}
