//! `bowline hitch …`, and the program under the name `hitch`: Hitch's command line, words and exit codes.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{check, print, text};
use crate::conf::hitch::{self, Task};
use crate::master::material::{Request, lower_hitch};
use crate::master::{self, Background, Options};
use crate::report::{self, ReportLevel, ReportLine, Summary};

/// The words of Hitch's command line, if it is one: behind `hitch` as the first word, or all under the name `hitch`.
pub(super) fn words<'a>(name: &OsStr, words: &'a [OsString]) -> Option<&'a [OsString]> {
    if Path::new(name).file_name() == Some(OsStr::new("hitch")) {
        return Some(words);
    }
    words.split_first().filter(|(first, _)| *first == "hitch").map(|(_, rest)| rest)
}

/// Does what the words say.
pub(super) fn run(words: &[OsString]) -> ExitCode {
    let fail = |text: String| {
        eprintln!("hitch: {text}");
        ExitCode::FAILURE
    };
    let mut readable = Vec::new();
    for word in words {
        match word.to_str() {
            Some(word) => readable.push(word.to_owned()),
            None => return fail(format!("'{}' is not UTF-8", report::Escaped(&word.to_string_lossy()))),
        }
    }
    let command_line = match hitch::parse_command_line(&readable) {
        Ok(command_line) => command_line,
        Err(diagnostic) => {
            let sources = [(hitch::COMMAND_LINE.to_owned(), readable.join(" ").into_bytes())];
            show(&report::render(&[*diagnostic], &sources));
            eprintln!("Invalid command line parameters. Run hitch --help for instructions.");
            return ExitCode::FAILURE;
        }
    };
    if readable.is_empty() {
        print(&text::hitch_help());
        return ExitCode::FAILURE;
    }
    let directory = match std::env::current_dir() {
        Ok(directory) => directory,
        Err(error) => return fail(format!("cannot find the current directory: {error}")),
    };
    let started_in = directory.clone();
    let request = Request { sources: Vec::new(), hitch: Some(readable), directory };
    match command_line.task {
        Task::Help => print(&text::hitch_help()),
        Task::Version => print(&text::version()),
        Task::Dump => dump(&request),
        Task::Test => test(&request),
        Task::Serve => master::run(Options {
            request,
            background: Background::AsConfigured,
            pidfile: None,
            maxconn: None,
            master_socket: None,
            warnings_fail: false,
            check: check_words(words),
            started_in,
            listen_report: command_line.listen_report.map(PathBuf::from),
        }),
    }
}

/// The command line that tests what this one serves.
fn check_words(words: &[OsString]) -> Vec<OsString> {
    let before = std::env::args_os().skip(1).take_while(|word| word == "hitch").take(1);
    let under_own_name = std::env::args_os().len() == words.len() + 1;
    let before = before.filter(|_| !under_own_name);
    before.chain(["--test".into()]).chain(words.iter().cloned()).collect()
}

/// `--test`: as Hitch, says on standard error that all is well.
fn test(request: &Request) -> ExitCode {
    let report = check::check(request, false, false).report;
    show(&report);
    if Summary::of(&report).errors > 0 {
        return ExitCode::FAILURE;
    }
    eprintln!("hitch configuration looks ok.");
    ExitCode::SUCCESS
}

/// `--dump`: the text alone on standard output, so that it can become a file.
fn dump(request: &Request) -> ExitCode {
    let words = request.hitch.as_deref().unwrap_or_default();
    match lower_hitch(words, &request.directory, false) {
        Ok(lowered) => {
            let parsed = hitch::parse(&lowered.lowered);
            show(&lowered.report);
            show(&report::render(&parsed.diagnostics, &lowered.sources));
            if parsed.model.is_none() {
                return ExitCode::FAILURE;
            }
            print(lowered.lowered.text())
        }
        Err(report) => {
            show(&report);
            ExitCode::FAILURE
        }
    }
}

fn show(report: &[ReportLine]) {
    for line in report.iter().filter(|line| line.level != ReportLevel::Fact) {
        eprintln!("{}", line.for_terminal().trim_end());
    }
}
