//! bowline(8).

use super::super::options::{CommandOption, Effect, Group, OPTIONS, Operands, SUBCOMMANDS};
use super::roff::Roff;
use crate::metrics::table::{Metric, TABLE};

pub(super) fn body(page: &mut Roff) {
    page.section("SYNOPSIS");
    page.paragraphs(
        "'bowline' ['-f' <FILE>]... [<OPTION>]...\n\n'bowline' '-c' ['-f' <FILE>]...\n\n'bowline' '-cc' <CONDITION>",
    );
    for subcommand in SUBCOMMANDS {
        page.paragraphs(&format!("'bowline {}' {}", subcommand.name, subcommand.usage));
    }
    page.section("DESCRIPTION");
    page.paragraphs(DESCRIPTION);
    page.section("OPTIONS");
    for (group, title) in Group::SHOWN {
        page.subsection(title);
        for option in OPTIONS.iter().filter(|option| option.group == group) {
            page.item(&usage(option), &meaning(option));
        }
    }
    page.subsection("Of HAProxy, without effect");
    page.paragraphs("Accepted with a notice, because unit files and scripts for HAProxy contain them.");
    for option in OPTIONS.iter().filter(|option| option.group == Group::HAProxy) {
        page.item(&usage(option), &meaning(option));
    }
    page.section("COMMANDS");
    for subcommand in SUBCOMMANDS {
        page.item(&format!("'{}' {}", subcommand.name, subcommand.usage), subcommand.detail);
    }
    page.section("SIGNALS");
    for (signals, meaning) in SIGNALS {
        page.item(signals, meaning);
    }
    page.section("METRICS");
    page.paragraphs(METRICS);
    for Metric { name, kind, labels, help } in TABLE {
        let labels: Vec<String> = labels.iter().map(|label| format!("<{label}>")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(" by {}", labels.join(", ")) };
        page.item(&format!("'{name}'{labels}"), &format!("({}) {help}", kind.word()));
    }
    page.section("EXIT STATUS");
    for (code, meaning) in EXIT_CODES {
        page.item(code, meaning);
    }
    page.section("ENVIRONMENT");
    for (name, meaning) in ENVIRONMENT {
        page.item(name, meaning);
    }
    page.section("FILES");
    page.item("'/etc/bowline/bowline.cfg'", "The configuration where no '-f' is given; see 'bowline.cfg'(5).");
    page.section("EXAMPLES");
    for (about, lines) in EXAMPLES {
        page.paragraphs(about);
        page.example(lines);
    }
}

/// `-h, --help`, or `-f <FILE>`, with markup.
fn usage(option: &CommandOption) -> String {
    let names: Vec<String> = option.names.iter().map(|name| format!("'{name}'")).collect();
    let names = names.join(", ");
    match &option.effect {
        Effect::Set(_) | Effect::Nothing(Operands::None) => names,
        Effect::Take(value) => format!("{names} <{}>", value.name),
        Effect::Nothing(Operands::Attached) => format!("{names}, each with what follows it directly"),
        Effect::Nothing(Operands::One(value)) => format!("{names} <{value}>"),
        Effect::Nothing(Operands::Numbers) => format!("{names} [<PID>]..."),
    }
}

/// The detail, or the summary as a sentence.
fn meaning(option: &CommandOption) -> String {
    if !option.detail.is_empty() {
        return option.detail.to_owned();
    }
    let mut letters = option.summary.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

const DESCRIPTION: &str = "\
Bowline accepts TLS connections, verifies client certificates, tells a backend who is there with a PROXY protocol header, and \
relays bytes. It does not parse what it relays. Its configuration is written in the language of HAProxy: see 'bowline.cfg'(5).

The process that is started becomes the master. It reads the configuration and every file that it names, opens the listeners, \
and starts the worker, which gives up all rights and the file system before it looks at the first byte from the network. Keys may \
therefore be readable by root only, and are read again by every reload.

A reload takes everything or nothing: if anything is wrong with the configuration or a file that it names, the log says what and \
where, and what was in force stays in force. Connections live on through a reload.";

const METRICS: &str = "\
A 'metrics socket' of 'global' answers 'GET /metrics' with numbers in the text format of Prometheus, and 'GET /healthz' with 200 \
'ready', or 503 'draining' once the process accepts no more. A dashboard for Grafana and alert rules for Prometheus come with the \
package. Counters begin at 0 with each worker process. Times are seconds, moments are seconds since 1970. No label is chosen by a \
peer.";

const SIGNALS: &[(&str, &str)] = &[
    (
        "'SIGHUP'",
        "Reads the configuration and all files again. Nothing changes if there is an error. (HAProxy only logs at this signal.) If \
         the program file was replaced since the start, as by a package upgrade, it does what 'SIGUSR2' does.",
    ),
    (
        "'SIGUSR2'",
        "Upgrades: the program is executed again by the same process, if it accepts the configuration. It keeps the listeners open, \
         starts a worker of its own, and lets the old one finish its connections, for 'hard-stop-after' at most. Nobody is refused \
         and nothing is cut. If the new program cannot serve, the old worker goes on.",
    ),
    (
        "'SIGUSR1', 'SIGTERM', 'SIGINT'",
        "Accepts no more and waits for the connections that are open, for 'hard-stop-after' at most. A second 'SIGTERM' or 'SIGINT' \
         leaves them 2 seconds, and a third none.",
    ),
];

const EXIT_CODES: &[(&str, &str)] = &[
    (
        "0",
        "The service has stopped as it was told; with '-c', the configuration has no errors; with '-cc', the condition holds.",
    ),
    (
        "1",
        "The service could not start; with '-c', the configuration has errors (warnings count with '-dW' or 'zero-warning' only); with \
           '-cc', the condition does not hold.",
    ),
    ("2", "With '-cc', the condition is wrong."),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "'NOTIFY_SOCKET', 'WATCHDOG_USEC'",
        "Set by systemd: it is told when the service is ready, reloads, stops, and that its event loops move. '-D' and 'daemon' are then \
         without effect.",
    ),
    (
        "'LISTEN_FDS', 'LISTEN_FDNAMES'",
        "Set by systemd for a socket unit: 'bind fd@<name>' takes the sockets of that name.",
    ),
    ("'NO_COLOR'", "If it is set to anything, messages are not coloured. They are on a terminal only."),
    ("others", "The configuration may name any, in double quotes: \"$NAME\"."),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("Check a configuration, and see what it means:", "bowline -c -V -f /etc/bowline/bowline.cfg"),
    ("Is this file fit for HAProxy too?", "bowline -c --haproxy -f /etc/haproxy/haproxy.cfg"),
    ("Take renewed certificates and revocation lists into use:", "systemctl reload bowline"),
    ("What would a Hitch installation be here?", "bowline hitch --config=/etc/hitch/hitch.conf --dump"),
];
