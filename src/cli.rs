//! The command line: what is asked for, and the answers that need no service.

mod arguments;
mod check;
mod completion;
mod condition;
mod ctl;
mod hitch;
mod manual;
mod options;
mod overview;
mod panic;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arguments::{Arguments, Task};

use crate::log::logger;
use crate::master::material::Request;
use crate::master::{self, Options};
use crate::report::{self, ReportLine};
use crate::{conf, demo, ipc, worker};

/// Read when no `-f` is given.
const DEFAULT_CONFIGURATION: &str = "/etc/bowline/bowline.cfg";

/// The whole program.
pub fn main() -> ExitCode {
    panic::install_hook();
    logger::install();
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == ipc::WORKER_ARGUMENT) {
        return worker::run();
    }
    let name = std::env::args_os().next().unwrap_or_default();
    if let Some(words) = ctl::words(&words) {
        return ctl::run(words);
    }
    if let Some(words) = hitch::words(&name, &words) {
        return hitch::run(words);
    }
    let arguments = match arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("bowline: {error}\nTry 'bowline --help'.");
            return ExitCode::FAILURE;
        }
    };
    log::set_max_level(match (arguments.quiet, arguments.verbose) {
        (true, _) => log::LevelFilter::Error,
        (false, true) => log::LevelFilter::Debug,
        (false, false) => log::LevelFilter::Info,
    });
    if !arguments.quiet {
        for option in &arguments.ignored {
            eprintln!("bowline: notice: {option} is HAProxy's and has no effect here");
        }
    }
    perform(arguments)
}

fn perform(arguments: Arguments) -> ExitCode {
    // Where it cannot be found, nothing is relative to it.
    let started_in = std::env::current_dir().unwrap_or_else(|_| "/".into());
    match arguments.task {
        Task::Help => print(&text::help()),
        Task::Version => print(&text::version()),
        Task::Versions => print(&text::versions()),
        Task::Keywords => print(&conf::keywords::help()),
        Task::Manual(page) => print(&manual::text(page)),
        Task::Completion => print(&completion::bash()),
        Task::Condition => condition::run(&arguments.condition),
        Task::Demo { port } => demo::run(port),
        Task::Check | Task::Serve => check_or_serve(arguments, started_in),
    }
}

fn check_or_serve(arguments: Arguments, started_in: PathBuf) -> ExitCode {
    let Ok(master_socket) = arguments.master_socket.as_deref().map(master_socket).transpose() else {
        return ExitCode::FAILURE;
    };
    match request(&arguments) {
        Ok(request) if arguments.task == Task::Check => check::run(&request, &arguments),
        Ok(request) => master::run(Options {
            request,
            background: arguments.background,
            pidfile: arguments.pidfile,
            maxconn: arguments.maxconn,
            master_socket,
            warnings_fail: arguments.warnings_fail,
            started_in,
            check: std::iter::once("-c".into()).chain(std::env::args_os().skip(1)).collect(),
            listen_report: None,
        }),
        Err(error) => {
            eprintln!("bowline: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the value of `-S`, or says what is wrong with it.
fn master_socket(text: &str) -> Result<conf::model::AdminSocket, ()> {
    conf::master_socket(text).map_err(|diagnostics| {
        let sources = [("-S".to_owned(), text.as_bytes().to_vec())];
        report::render(&diagnostics, &sources).iter().for_each(ReportLine::show);
    })
}

/// Changes to the directory of `-C` and notes where relative names begin.
fn request(arguments: &Arguments) -> Result<Request, String> {
    if let Some(directory) = &arguments.directory {
        std::env::set_current_dir(directory)
            .map_err(|error| format!("cannot change to the directory {}: {error}", directory.display()))?;
    }
    let directory = std::env::current_dir().map_err(|error| format!("cannot find the current directory: {error}"))?;
    let mut sources = arguments.sources.clone();
    if sources.is_empty() {
        if !Path::new(DEFAULT_CONFIGURATION).exists() {
            return Err(format!("no configuration: give one with -f FILE (there is no {DEFAULT_CONFIGURATION})"));
        }
        sources.push(DEFAULT_CONFIGURATION.to_owned());
    }
    Ok(Request { sources, hitch: None, directory })
}

/// Standard output may be a closed pipe (`| head`); that is no reason to panic.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
