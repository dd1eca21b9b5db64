//! Words of the command line to [`Arguments`], by the table of options.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;

use super::manual::Page;
use super::options::{self, Effect, Operands, SUBCOMMANDS};
use crate::conf::keywords::nearest;
use crate::master::Background;

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// What to do.
    pub(super) task: Task,
    /// `-f`, in order.
    pub(super) sources: Vec<String>,
    /// `-D`, `-db`.
    pub(super) background: Background,
    /// `-p`
    pub(super) pidfile: Option<PathBuf>,
    /// `-n`
    pub(super) maxconn: Option<u32>,
    /// `-S`
    pub(super) master_socket: Option<String>,
    /// `-C`
    pub(super) directory: Option<PathBuf>,
    /// `-dW`
    pub(super) warnings_fail: bool,
    /// `-q`
    pub(super) quiet: bool,
    /// `-V`
    pub(super) verbose: bool,
    /// `--haproxy`
    pub(super) for_haproxy: bool,
    /// What stands behind `-cc`.
    pub(super) condition: String,
    /// HAProxy's options that mean nothing here, as they were written.
    pub(super) ignored: Vec<String>,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Task {
    /// Run the service.
    #[default]
    Serve,
    /// `-c`
    Check,
    /// `-cc`
    Condition,
    /// `-h`
    Help,
    /// `-v`
    Version,
    /// `-vv`
    Versions,
    /// `--help-keywords`
    Keywords,
    /// `--manual`
    Manual(&'static Page),
    /// `--completion`
    Completion,
    /// `demo`
    Demo {
        /// `--port`
        port: u16,
    },
}

/// Shortest word for which a similar one is looked for.
const SIMILAR_MIN: usize = 4;

/// Where `demo` listens without `--port`.
const DEMO_PORT: u16 = 8443;

/// Parses the words behind the program's name.
///
/// # Errors
/// What is wrong with which word, and what it may have been meant to be.
pub(super) fn parse(words: Vec<OsString>) -> Result<Arguments, String> {
    let mut words: VecDeque<String> = words
        .into_iter()
        .map(|word| word.into_string().map_err(|word| format!("'{}' is not UTF-8", word.to_string_lossy())))
        .collect::<Result<_, _>>()?;
    let mut arguments = Arguments::default();
    if words.front().is_some_and(|word| word == "demo") {
        words.pop_front();
        arguments.task = Task::Demo { port: parse_demo(&mut words)? };
        return Ok(arguments);
    }
    while let Some(word) = words.pop_front() {
        if word == "--" {
            arguments.sources.extend(words.drain(..));
            break;
        }
        match options::find(&word).map(|option| &option.effect) {
            Some(Effect::Set(set)) => set(&mut arguments),
            Some(Effect::Take(value)) => (value.set)(&mut arguments, operand(&word, &mut words)?)?,
            Some(Effect::Nothing(operands)) => arguments.ignored.push(skip(&word, *operands, &mut words)?),
            None => return Err(unknown(&word)),
        }
    }
    if arguments.for_haproxy && arguments.task != Task::Check {
        return Err("--haproxy goes with -c".to_owned());
    }
    Ok(arguments)
}

fn parse_demo(words: &mut VecDeque<String>) -> Result<u16, String> {
    let mut port = DEMO_PORT;
    while let Some(word) = words.pop_front() {
        if word != "--port" {
            return Err(unknown(&word));
        }
        let number = operand(&word, words)?;
        port = number.parse().map_err(|_| format!("--port takes a number from 0 to 65535, not '{number}'"))?;
    }
    Ok(port)
}

fn operand(option: &str, words: &mut VecDeque<String>) -> Result<String, String> {
    words.pop_front().filter(|word| !word.is_empty()).ok_or_else(|| format!("{option} needs a value"))
}

fn skip(option: &str, operands: Operands, words: &mut VecDeque<String>) -> Result<String, String> {
    let mut written = option.to_owned();
    match operands {
        Operands::None | Operands::Attached => {}
        Operands::One(_) => written = format!("{written} {}", operand(option, words)?),
        Operands::Numbers => {
            while words.front().is_some_and(|word| word.parse::<u32>().is_ok()) {
                written = format!("{written} {}", operand(option, words)?);
            }
        }
    }
    Ok(written)
}

fn unknown(word: &str) -> String {
    if !word.starts_with('-') && word.contains(['/', '.']) {
        return format!("'{word}' is no option; a configuration is given with -f {word}");
    }
    let known = options::words().chain(SUBCOMMANDS.iter().flat_map(|subcommand| subcommand.options).copied());
    // "-x" is one letter away from every short option: only longer words are worth a guess.
    match nearest(word, known).filter(|_| word.len() >= SIMILAR_MIN) {
        Some(option) => format!("unknown option '{word}'; did you mean '{option}'?"),
        None => format!("unknown option '{word}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::manual;
    use super::*;

    fn parse_line(line: &str) -> Result<Arguments, String> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn the_options_of_a_service() {
        let arguments = parse_line("-f a.cfg -f conf.d -D -p /run/b.pid -n 500 -C / -dW -V").unwrap();
        assert_eq!(arguments.sources, ["a.cfg", "conf.d"]);
        assert_eq!(arguments.background, Background::Always);
        assert_eq!(arguments.pidfile, Some("/run/b.pid".into()));
        assert_eq!((arguments.maxconn, arguments.directory), (Some(500), Some("/".into())));
        assert!(arguments.warnings_fail && arguments.verbose && !arguments.quiet);
        assert_eq!(arguments.task, Task::Serve);
        assert_eq!(parse_line("-D -db -- x y").unwrap().background, Background::Never);
        assert_eq!(parse_line("-- x y").unwrap().sources, ["x", "y"]);
    }

    #[test]
    fn other_tasks() {
        for (line, task) in [
            ("-c -f a", Task::Check),
            ("-v", Task::Version),
            ("-vv", Task::Versions),
            ("-h", Task::Help),
            ("--help", Task::Help),
            ("--help-keywords", Task::Keywords),
            ("--completion bash", Task::Completion),
            ("-cc 1", Task::Condition),
            ("demo", Task::Demo { port: 8443 }),
            ("demo --port 0", Task::Demo { port: 0 }),
        ] {
            assert_eq!(parse_line(line).unwrap().task, task, "{line}");
        }
    }

    #[test]
    fn the_line_of_debians_haproxy_unit_works() {
        let arguments = parse_line("-Ws -f /etc/a.cfg -p /run/h.pid -S /run/master.sock -sf 12 345 -x /s -q").unwrap();
        assert_eq!(arguments.sources, ["/etc/a.cfg"]);
        assert_eq!(arguments.ignored, ["-Ws", "-sf 12 345", "-x /s"]);
        assert_eq!(arguments.master_socket.as_deref(), Some("/run/master.sock"));
        assert!(arguments.quiet);
    }

    #[test]
    fn errors_say_which_word_and_what_to_do() {
        for (line, wanted) in [
            ("-f", "-f needs a value"),
            ("-n many", "-n takes a number of connections, not 'many'"),
            ("-n 0", "-n takes a number of connections, not '0'"),
            ("-n -1", "-n takes a number of connections, not '-1'"),
            ("--hlep", "unknown option '--hlep'; did you mean '--help'?"),
            ("--help-keyword", "unknown option '--help-keyword'; did you mean '--help-keywords'?"),
            ("-z", "unknown option '-z'"),
            ("/etc/a.cfg", "'/etc/a.cfg' is no option; a configuration is given with -f /etc/a.cfg"),
            ("demo --prot 1", "unknown option '--prot'; did you mean '--port'?"),
            ("demo --port 70000", "--port takes a number from 0 to 65535, not '70000'"),
            ("-S", "-S needs a value"),
            ("--haproxy -f a", "--haproxy goes with -c"),
            ("--completion fish", "there is no completion for 'fish'; there is one for bash"),
        ] {
            assert_eq!(parse_line(line).unwrap_err(), wanted, "{line}");
        }
    }

    #[test]
    fn a_manual_page_is_one_that_there_is() {
        for name in manual::names() {
            assert!(parse_line(&format!("--manual {name}")).is_ok(), "{name}");
        }
        let error = parse_line("--manual bowline.conf").unwrap_err();
        assert!(error.starts_with("there is no manual page 'bowline.conf'; there are bowline, bowline.cfg"), "{error}");
    }

    #[test]
    fn options_of_haproxys_diagnosis_are_passed_over() {
        let arguments = parse_line("-dMno-merge -dKall -dr -d -f a.cfg -de").unwrap();
        assert_eq!(arguments.ignored, ["-dMno-merge", "-dKall", "-dr", "-de"]);
        assert_eq!((arguments.background, arguments.sources.len()), (Background::Never, 1));
    }
}
