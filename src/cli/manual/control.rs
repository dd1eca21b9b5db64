//! bowline-ctl(1).

use super::roff::Roff;
use crate::cli::ctl::SOCKETS;
use crate::control::command::{COMMANDS, Command};

pub(super) fn body(page: &mut Roff) {
    page.section("SYNOPSIS");
    page.paragraphs("'bowline ctl' ['-s' <SOCKET>] ['-t' <SECONDS>] <COMMAND> [<ARGUMENT>]...");
    page.section("DESCRIPTION");
    page.paragraphs(DESCRIPTION);
    page.section("OPTIONS");
    let [first, second] = SOCKETS;
    page.item(
        "'-s' <SOCKET>",
        &format!(
            "The path of a control socket, or an address with a port. Without it, '{first}' is tried, then '{second}'."
        ),
    );
    page.item("'-t' <SECONDS>", "How long to wait while nothing is answered; 300 without it, 0: for ever.");
    page.item("'-h', '--help'", "Prints a summary of this page.");
    page.section("COMMANDS");
    page.paragraphs(COMMANDS_ABOUT);
    for command in COMMANDS {
        page.item(&usage(command), &format!("{} (Level {}.)", command.doc, command.level));
    }
    page.section("WITHOUT THIS PROGRAM");
    page.paragraphs(PROTOCOL);
    page.section("EXIT STATUS");
    page.item("0", "Everything was done.");
    page.item("1", "The service could not be reached, or has answered that something could not be done.");
    page.section("FILES");
    page.item(&format!("'{first}'"), "The socket that '-S' of the packaged service opens, level admin.");
    page.item(&format!("'{second}'"), "The socket of 'stats socket' in the packaged configuration, level operator.");
    page.section("EXAMPLES");
    for (about, lines) in EXAMPLES {
        page.paragraphs(about);
        page.example(lines);
    }
}

/// `show sess [<id>|all]`, with markup.
fn usage(command: &Command) -> String {
    format!("'{}' {}", command.name, command.usage)
}

const DESCRIPTION: &str = "\
Gives a command to a running 'bowline'(8) and prints the answer; what is said about errors goes to the standard error output. The \
service listens for commands where its configuration says 'stats socket', and where its command line says '-S'.

The words behind the options are the command. If there is only one word, it may hold several commands with ';' between them.";

const COMMANDS_ABOUT: &str = "\
They are HAProxy's where HAProxy has them. A socket has a level, which limits what may be said there: 'user' looks at what \
tells nothing about clients, 'operator' at everything and may reload, 'admin' may do everything.";

const PROTOCOL: &str = "\
A socket can be used with 'socat' and with the tools that are made for HAProxy. A line holds commands with ';' between them; '\\\\' \
takes the meaning from the character behind it. Each answer ends with an empty line, and the connection with the last answer, \
unless 'prompt' keeps it open. A line has at most 16384 bytes.";

const EXAMPLES: &[(&str, &str)] = &[
    ("Take renewed certificates into use, and fail if they cannot be used:", "bowline ctl reload"),
    ("Who is connected?", "bowline ctl show sess"),
    (
        "Cut whoever uses a stolen key, after the revocation list has been renewed:",
        "bowline ctl reload &&\n    bowline ctl shutdown sessions cert 5ad1...",
    ),
    ("The same with socat:", "echo 'show sess' | socat -t60 - /run/bowline/admin.sock"),
];
