//! The options of the command line, one row each. Parsing, `--help`, the manual page and the completion come from it.

use super::arguments::{Arguments, Task};
use crate::master::Background;

/// One option: what it does, and all that is said about it.
pub(super) struct CommandOption {
    /// As it is written; the usual form first.
    pub(super) names: &'static [&'static str],
    /// Where it stands in help and manual.
    pub(super) group: Group,
    /// For `--help`: lower case, no full stop.
    pub(super) summary: &'static str,
    /// For the manual, if there is more to say: whole sentences.
    pub(super) detail: &'static str,
    /// What it does.
    pub(super) effect: Effect,
}

/// Options that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// What is read, and whether it is right.
    Configuration,
    /// How the process runs.
    Process,
    /// Answers that need no service.
    Other,
    /// Accepted because unit files and scripts for HAProxy contain them.
    HAProxy,
}

impl Group {
    /// Those that `--help` shows line by line, with their titles.
    pub(super) const SHOWN: [(Group, &'static str); 3] =
        [(Group::Configuration, "Configuration"), (Group::Process, "Process"), (Group::Other, "Other")];
}

/// What an option does to the arguments.
pub(super) enum Effect {
    /// Stands alone.
    Set(fn(&mut Arguments)),
    /// Takes the word that follows.
    Take(Value),
    /// HAProxy's, without effect here: so many words belong to it.
    Nothing(Operands),
}

/// The word that belongs to an option.
pub(super) struct Value {
    /// What it is, for help.
    pub(super) name: &'static str,
    /// What it may be, for the completion.
    pub(super) kind: ValueKind,
    /// Reads it; the error says what it should be.
    pub(super) set: fn(&mut Arguments, String) -> Result<(), String>,
}

/// What a value can be completed with.
#[derive(Clone, Copy)]
pub(super) enum ValueKind {
    /// Names of files.
    File,
    /// Names of directories.
    Directory,
    /// One of these words.
    Words(fn() -> Vec<&'static str>),
    /// Nothing that could be guessed.
    Free,
}

/// The words that belong to one of HAProxy's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operands {
    /// None.
    None,
    /// None; what follows the name directly belongs to it: `-dM0x50`.
    Attached,
    /// One, named for the manual.
    One(&'static str),
    /// Process ids, up to the next option.
    Numbers,
}

/// What can stand in the place of options, as the first word.
pub(super) struct Subcommand {
    /// The word.
    pub(super) name: &'static str,
    /// What follows it.
    pub(super) usage: &'static str,
    /// For `--help`.
    pub(super) summary: &'static str,
    /// For the manual.
    pub(super) detail: &'static str,
    /// Its own options, for the completion.
    pub(super) options: &'static [&'static str],
}

/// The words that can stand first.
pub(super) static SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "hitch",
        usage: "[OPTION]... [PEM]...",
        summary: "run Hitch's command line and hitch.conf; with --dump, print the same in HAProxy's language",
        detail: "Reads the command line and the configuration file of Hitch and does what they say: the way to try a Hitch \
                 installation unchanged. With '--dump' the same is printed as a configuration for '-f', and nothing is started. \
                 'bowline hitch --help' lists its options. The program does the same when it is called by the name 'hitch'.",
        options: &["--config=", "--dump", "--test", "--help", "--version"],
    },
    Subcommand {
        name: "ctl",
        usage: "[-s SOCKET] [-t SECONDS] COMMAND...",
        summary: "give a command to the running service: show sess, reload, help",
        detail: "Gives a command to a running service through one of its control sockets and prints the answer: see 'bowline-ctl'(1).",
        options: &["-s", "-t", "--help"],
    },
    Subcommand {
        name: "demo",
        usage: "[--port N]",
        summary: "try it: certificates, an echo backend and a listener",
        detail: "Makes certificates in a directory of its own, starts a backend that shows what it is told, listens on port 8443 of \
                 this host, or on '--port', and prints commands to try. Nothing stays behind.",
        options: &["--port"],
    },
];

const fn set(
    names: &'static [&'static str],
    group: Group,
    summary: &'static str,
    detail: &'static str,
    set: fn(&mut Arguments),
) -> CommandOption {
    CommandOption { names, group, summary, detail, effect: Effect::Set(set) }
}

const fn take(
    names: &'static [&'static str],
    group: Group,
    summary: &'static str,
    detail: &'static str,
    value: Value,
) -> CommandOption {
    CommandOption { names, group, summary, detail, effect: Effect::Take(value) }
}

const fn nothing(names: &'static [&'static str], operands: Operands, summary: &'static str) -> CommandOption {
    CommandOption { names, group: Group::HAProxy, summary, detail: "", effect: Effect::Nothing(operands) }
}

/// Every option.
pub(super) static OPTIONS: &[CommandOption] = &[
    take(
        &["-f"],
        Group::Configuration,
        "read FILE, or every *.cfg of a directory; may be repeated (without it: /etc/bowline/bowline.cfg)",
        "Reads <FILE>. A directory stands for all its files whose names end in '.cfg' and do not begin with a dot, in the order of \
         the bytes of their names. The option may be repeated; the files are read in the order in which they are given, and each must \
         start with a section. What stands behind '--' is read too. Without any, '/etc/bowline/bowline.cfg' is read. A pipe can be \
         read, but not again by a reload.",
        Value {
            name: "FILE",
            kind: ValueKind::File,
            set: |arguments, value| {
                arguments.sources.push(value);
                Ok(())
            },
        },
    ),
    take(
        &["-C"],
        Group::Configuration,
        "change to DIR first",
        "Changes to <DIR> before anything is read. Relative names of files start there, at a reload too.",
        Value {
            name: "DIR",
            kind: ValueKind::Directory,
            set: |arguments, value| {
                arguments.directory = Some(value.into());
                Ok(())
            },
        },
    ),
    take(
        &["-n"],
        Group::Configuration,
        "instead of 'maxconn' of the global section",
        "Most client connections at a time, in the place of 'maxconn' of the global section.",
        Value {
            name: "CONNECTIONS",
            kind: ValueKind::Free,
            set: |arguments, value| {
                let number = value.parse().ok().filter(|&number| number > 0);
                let number = number.ok_or_else(|| format!("-n takes a number of connections, not '{value}'"))?;
                arguments.maxconn = Some(number);
                Ok(())
            },
        },
    ),
    set(
        &["-c"],
        Group::Configuration,
        "check the configuration and all files it names, then exit; the exit code is 1 if there are errors",
        "Checks instead of starting: reads the configuration and every file that it names, builds all that a start would build, prints \
         what is wrong, and a summary. Nothing is bound, and no right is needed but to read the files. The exit code is 1 if there are \
         errors. With '-V' it prints what was understood too: where it would listen, which name gets which certificate, which clients \
         are asked for one, and where connections go.",
        |arguments| arguments.task = Task::Check,
    ),
    set(
        &["--haproxy"],
        Group::Configuration,
        "with -c: point out what HAProxy would not read",
        "With '-c', for files that both programs read: words that HAProxy does not have are errors, unless they stand between \
         '.if feature(BOWLINE)' and '.endif', which it passes over. So are names that are missing without these lines, and a last line \
         without a line feed.",
        |arguments| arguments.for_haproxy = true,
    ),
    take(
        &["-cc"],
        Group::Configuration,
        "evaluate a condition as after '.if'; the exit code is 0 if it holds, 1 if not, 2 if it is wrong",
        "Evaluates a condition as it may stand after '.if', and exits: with 0 if it holds, with 1 if it does not, with 2 if it is no \
         condition.",
        Value {
            name: "CONDITION",
            kind: ValueKind::Free,
            set: |arguments, value| {
                arguments.task = Task::Condition;
                arguments.condition = value;
                Ok(())
            },
        },
    ),
    set(
        &["-dW"],
        Group::Configuration,
        "refuse a configuration that has warnings",
        "Warnings count as errors, at the start and at every reload, as with 'zero-warning' in the configuration.",
        |arguments| arguments.warnings_fail = true,
    ),
    set(
        &["-D"],
        Group::Process,
        "go into the background when the service is up",
        "Goes into the background. The command returns when the service is up, or with exit code 1 and the reason when it is not. \
         Without effect under systemd ('$NOTIFY_SOCKET' is set).",
        |arguments| arguments.background = Background::Always,
    ),
    set(&["-db", "-d"], Group::Process, "stay in the foreground, even with 'daemon'", "", |arguments| {
        arguments.background = Background::Never
    }),
    take(
        &["-p"],
        Group::Process,
        "instead of 'pidfile' of the global section",
        "Where the number of the master process is written, in the place of 'pidfile' of the global section.",
        Value {
            name: "PIDFILE",
            kind: ValueKind::File,
            set: |arguments, value| {
                arguments.pidfile = Some(value.into());
                Ok(())
            },
        },
    ),
    take(
        &["-S"],
        Group::Process,
        "a control socket beside those of the configuration: -S /run/bowline/master.sock",
        "Opens a control socket of level admin at <SOCKET>, a path or an address with a port, beside those of the configuration \
         and whatever it says. Parameters of 'stats socket' may follow behind commas: '-S /run/b.sock,mode,660,group,ops'. Without \
         'mode' only the owner may connect.",
        Value {
            name: "SOCKET",
            kind: ValueKind::File,
            set: |arguments, value| {
                arguments.master_socket = Some(value);
                Ok(())
            },
        },
    ),
    set(&["-V"], Group::Process, "say more (with -c: what would be in force)", "", |arguments| {
        arguments.verbose = true
    }),
    set(&["-q"], Group::Process, "say errors only (with -c: nothing)", "", |arguments| arguments.quiet = true),
    set(&["-v", "--version"], Group::Other, "version", "", |arguments| arguments.task = Task::Version),
    set(&["-vv"], Group::Other, "version, with those of the libraries and the sandbox", "", |arguments| {
        arguments.task = Task::Versions
    }),
    set(&["-h", "--help"], Group::Other, "this text", "Prints a summary of this page.", |arguments| {
        arguments.task = Task::Help
    }),
    set(&["--help-keywords"], Group::Other, "every keyword of the configuration", "", |arguments| {
        arguments.task = Task::Keywords
    }),
    take(
        &["--manual"],
        Group::Other,
        "print the manual page PAGE (bowline, bowline.cfg, ...), for 'man -l -'",
        "Prints a manual page in the form that man(1) reads: 'bowline --manual bowline.cfg | man -l -'.",
        Value {
            name: "PAGE",
            kind: ValueKind::Words(super::manual::names),
            set: |arguments, value| {
                arguments.task = Task::Manual(super::manual::find(&value)?);
                Ok(())
            },
        },
    ),
    take(
        &["--completion"],
        Group::Other,
        "print the completion of a shell: bash",
        "Prints a script that completes the options of this command. For bash: 'source <(bowline --completion bash)'.",
        Value {
            name: "SHELL",
            kind: ValueKind::Words(|| vec!["bash"]),
            set: |arguments, value| {
                if value != "bash" {
                    return Err(format!("there is no completion for '{value}'; there is one for bash"));
                }
                arguments.task = Task::Completion;
                Ok(())
            },
        },
    ),
    nothing(&["-W"], Operands::None, "there are always a master and a worker"),
    nothing(&["-Ws"], Operands::None, "there are always a master and a worker, and systemd is told without it"),
    nothing(&["-sf"], Operands::Numbers, "a reload needs no second process"),
    nothing(&["-st"], Operands::Numbers, "a reload needs no second process"),
    nothing(&["-x"], Operands::One("SOCKET"), "listeners stay open without it"),
    nothing(&["-L"], Operands::One("NAME"), "there are no peers"),
    nothing(&["-m"], Operands::One("MEGABYTES"), "memory is limited by 'maxconn', or by 'MemoryMax=' of systemd"),
    nothing(&["-N"], Operands::One("CONNECTIONS"), "a frontend has the limit of the process unless it says 'maxconn'"),
    nothing(&["-dr"], Operands::None, "a name that does not resolve is an error at the start"),
    nothing(&["-dD", "-dL", "-dI"], Operands::None, "diagnosis of HAProxy's own"),
    nothing(&["-de", "-dp", "-dS", "-dG", "-dR", "-dV", "-dZ"], Operands::None, "switches of HAProxy's own parts"),
    nothing(&["-dM", "-dK", "-dC", "-dF", "-dA", "-dt"], Operands::Attached, "diagnosis of HAProxy's own"),
];

/// The row of a word, if it is an option.
pub(super) fn find(word: &str) -> Option<&'static CommandOption> {
    let exact = OPTIONS.iter().find(|option| option.names.contains(&word));
    exact.or_else(|| {
        OPTIONS.iter().find(|option| {
            matches!(option.effect, Effect::Nothing(Operands::Attached))
                && option.names.iter().any(|name| word.starts_with(name))
        })
    })
}

/// What can stand first or as an option, for suggestions.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    let options = OPTIONS.iter().filter(|option| option.group != Group::HAProxy).flat_map(|option| option.names);
    options.copied().chain(SUBCOMMANDS.iter().map(|subcommand| subcommand.name))
}
