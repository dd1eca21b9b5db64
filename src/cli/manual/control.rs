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
    page.item(
        "1",
        "The service could not be reached, has answered that something could not be done, or its answer was cut short.",
    );
    page.section("FILES");
    page.item(&format!("'{first}'"), "The socket that '-S' of the packaged service opens, level admin.");
    page.item(
        &format!("'{second}'"),
        "A 'stats socket' that the packaged configuration has in a comment, level admin.",
    );
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
tells nothing about clients, 'operator' at everything and may reload, 'admin' may do everything.

What is shown and cut belongs to the worker that serves; 'show info' tells its process id. After an upgrade, and after a reload \
that took another worker (one that changes 'nbthread', for example), the old worker goes on with the connections that it has, \
until 'hard-stop-after' is over, or as long as they last where that is not set. No command reaches those. 'systemctl status \
bowline' lists the old worker beside the master and the new one; 'kill -KILL' of its process id cuts all that it has, and \
nothing else. TERM does not: a worker leaves that to its master. 'systemctl restart' ends everybody, at the latest when 'hard-stop-after' is over.";

const PROTOCOL: &str = "\
A socket can be used with 'socat' and with the tools that are made for HAProxy. A line holds commands with ';' between them; '\\' \
takes the meaning from the character behind it. Each answer ends with an empty line, and the connection with the last answer, \
unless 'prompt' keeps it open. A line has at most 16384 bytes.";

const EXAMPLES: &[(&str, &str)] = &[
    ("Take renewed certificates into use, and fail if they cannot be used:", "bowline ctl reload"),
    ("Who is connected?", "bowline ctl show sess"),
    (
        "Cut whoever uses a stolen key, after the revocation list has been renewed:",
        "bowline ctl reload &&\n    bowline ctl shutdown sessions cert 5ad1...",
    ),
    (
        "Is there an old worker, whose connections this has not reached? It is a child of the master, and not the process that \
         'show info' names:",
        "bowline ctl show info | grep ^Pid\npgrep -P $(systemctl show -P MainPID bowline)",
    ),
    ("The same with socat:", "echo 'show sess' | socat -t60 - /run/bowline/admin.sock"),
];
