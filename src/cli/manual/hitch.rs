//! bowline-hitch(8).

use super::roff::Roff;
use crate::conf::hitch::{ALIASES, OPTIONS, OTHERS, Row};

pub(super) fn body(page: &mut Roff) {
    page.section("SYNOPSIS");
    page.paragraphs(
        "'bowline hitch' ['--config='<FILE>] [<OPTION>]... [<PEM>]...\n\n\
         'bowline hitch' '--config='<FILE> '--dump'\n\n'bowline hitch' '--config='<FILE> '--test'",
    );
    page.section("DESCRIPTION");
    page.paragraphs(DESCRIPTION);
    page.section("COMMAND LINE");
    page.paragraphs(COMMAND_LINE);
    for other in OTHERS {
        let value = if other.value.is_empty() { String::new() } else { format!("=<{}>", other.value) };
        page.item(&term(other.letter, other.name, &value), other.doc);
    }
    page.section("OPTIONS");
    page.paragraphs("In brackets, where an option may stand.");
    for row in OPTIONS {
        let value = match (row.is_on_command_line(), row.is_switch()) {
            (true, true) => "[=on|off]".to_owned(),
            (true, false) => format!("={}", row.value),
            (false, true) => " = on|off".to_owned(),
            (false, false) => format!(" = {}", row.value),
        };
        let name = if row.is_on_command_line() {
            term(row.letter, row.name, &value)
        } else {
            format!("'{}'{value}", row.name)
        };
        page.item(&name, &format!("{} ({})", row.doc, places(row)));
    }
    page.section("FILE");
    page.paragraphs(FILE);
    page.section("DIFFERENCES FROM HITCH");
    for (what, meaning) in DIFFERENCES {
        page.item(what, meaning);
    }
    page.section("SIGNALS");
    page.paragraphs(
        "'SIGHUP' reads the file and applies the command line again; if anything is wrong, nothing changes. 'SIGTERM' lets open \
         connections finish; a second one cuts them.",
    );
    page.section("EXIT STATUS");
    page.item("0", "The service has stopped as it was told; with '--test', a start would work.");
    page.item("1", "The service could not start, or an option is wrong; with '--test', a start would fail.");
    page.section("EXAMPLES");
    page.paragraphs("Try an installation of Hitch:");
    page.example("bowline hitch --config=/etc/hitch/hitch.conf --test");
    page.paragraphs("Make a configuration of it:");
    page.example("bowline hitch --config=/etc/hitch/hitch.conf --dump > /etc/bowline/bowline.cfg");
    page.paragraphs("Without a file:");
    page.example("bowline hitch -f '[*]:443' -b '[127.0.0.1]:6086' --write-proxy-v2 /etc/ssl/site.pem");
}

/// `-f, --frontend=…` with markup.
fn term(letter: u8, name: &str, value: &str) -> String {
    let letter = if letter == 0 { String::new() } else { format!("'-{}', ", char::from(letter)) };
    format!("{letter}'--{name}'{value}")
}

/// `top level, command line as --backendrefresh too`
fn places(row: &Row) -> String {
    let mut places = row.places().join(", ");
    for (alias, _) in ALIASES.iter().filter(|(_, of)| *of == row.name) {
        places += &format!(" as '--{alias}' too");
    }
    places
}

const DESCRIPTION: &str = "\
Reads the command line and the configuration file of 'hitch'(8), version 1.8.0, and does what they say. The program does the same \
when it is called by the name 'hitch'.

The options are translated into a configuration in HAProxy's language (see 'bowline.cfg'(5)), which '--dump' prints. Messages name \
the place in hitch.conf, or the column on the command line.";

const COMMAND_LINE: &str = "\
The file of '--config' is read first, wherever that option stands. Then the other options take effect, in the place of what the \
file says; 'frontend' and certificates add to it. The remaining words are certificate files; the last one becomes the default. Long \
names may be cut short as long as they are clear. An option that can be on or off may have '=on' or '=off' behind it, and no other \
word.";

const FILE: &str = "\
A file is a list of settings, 'name = value'; line ends mean nothing. '#' starts a comment. Numbers, switches and versions of TLS \
stand without quotes; a switch is one of yes, y, on, true, t, no, n, off, false, f. Strings stand in double quotes and can not have \
one in them; letters, digits and dashes alone need none. An empty string means that the option is not set. Blocks stand in braces: \
'frontend = { ... }' and, at the top level or in a frontend, 'pem-file = { ... }'. In a frontend its own settings go before those of \
the top level, in a 'pem-file' block its own before both.

Hitch passes over characters that its language does not know; so does this program, with a warning unless they are commas or \
semicolons.";

const DIFFERENCES: &[(&str, &str)] = &[
    (
        "TLS 1.1 and older, CBC, finite-field Diffie-Hellman, NPN, engines",
        "do not exist here. What is left out is told; if nothing is left, that is an error.",
    ),
    ("OCSP responses", "are not fetched."),
    ("'shared-cache-...'", "is refused: sessions are resumed with tickets."),
    ("An OCSP response that is not good", "is not sent, with a warning; Hitch does not start."),
    ("The socket of a backend", "need not be there at the start."),
    ("'--client'", "is refused: there is no TLS towards servers."),
    ("A received PROXY header ('proxy-proxy')", "is checked before it is passed on, and has at most 4096 bytes."),
    ("An abbreviation that fits several options", "is an error, also where Hitch would take the first."),
    ("Options given twice in a file", "get a warning; as in Hitch the last one counts."),
    ("Root without 'user'", "starts: the worker runs as nobody."),
];
