//! bowline.cfg(5).

use super::roff::Roff;
use crate::conf::keywords::{self, Answer, Keyword, Places};

pub(super) fn body(page: &mut Roff) {
    page.section("DESCRIPTION");
    page.paragraphs(DESCRIPTION);
    page.section("FILE SYNTAX");
    page.paragraphs(SYNTAX);
    for (title, text) in SYNTAX_PARTS {
        page.subsection(title);
        page.paragraphs(text);
    }
    page.section("SECTIONS");
    page.paragraphs(SECTIONS);
    for (title, about, places) in KEYWORDS {
        page.section(title);
        page.paragraphs(about);
        for row in rows(*places).filter(|row| row.answer() == Answer::Acts) {
            keyword(page, row, *places);
        }
    }
    page.section("CERTIFICATE LISTS");
    page.paragraphs(CERTIFICATE_LISTS);
    page.section("DIFFERENCES FROM HAPROXY");
    page.paragraphs("All of them are stricter or safer. The reference is HAProxy 3.4.");
    for (id, there, here) in DEVIATIONS {
        page.item(id, &format!("HAProxy: {there}"));
        page.item_continues(&format!("Here: {here}"));
    }
    page.section("WORDS WITHOUT EFFECT");
    page.paragraphs(
        "Accepted with one notice for each word, so that a file can be shared with HAProxy. A star stands for all words of HAProxy \
         that begin so.",
    );
    by_place(page, |answer| answer == Answer::Inert, |row| format!("{}.", row.doc));
    page.subsection("About HTTP");
    page.paragraphs("Without effect in 'defaults', errors in a section that relays bytes:");
    page.paragraphs(&joined(keywords::all().filter(|row| row.answer() == Answer::Http)));
    page.section("WORDS THAT ARE REFUSED");
    page.paragraphs(
        "Words of HAProxy that would change something and can not: some have no use here, others are not there yet. Each is an error \
         that says what to do instead. A word of HAProxy's that is nowhere on this page is refused too; any other is unknown to both \
         programs.",
    );
    by_place(
        page,
        |answer| matches!(answer, Answer::NotYet | Answer::Refused(_)),
        |row| {
            let what = match row.answer() {
                Answer::NotYet => "not implemented yet; until then",
                Answer::Refused(why) => why,
                Answer::Acts | Answer::Inert | Answer::Http => "",
            };
            if row.doc.is_empty() { format!("{what}.") } else { format!("{what}: {}.", row.doc) }
        },
    );
    page.section("EXAMPLES");
    for (about, lines) in EXAMPLES {
        page.paragraphs(about);
        page.example(lines);
    }
}

/// Sections of the page that list keywords: title, what is said about all, where the keywords stand.
const KEYWORDS: &[(&str, &str, Places)] = &[
    (
        "GLOBAL KEYWORDS",
        "Of the section 'global': they apply to the whole process. Each may be given once, unless it says otherwise. 'global' may \
         come in several parts.",
        Places::GLOBAL,
    ),
    (
        "KEYWORDS OF DEFAULTS, FRONTEND, BACKEND AND LISTEN",
        "Each may be given once in a section, unless it says otherwise; what stands in the section overrides what it has from \
         'defaults'. 'no' in front of 'option' switches it off, 'default' gives it its built-in value.",
        Places::DEFAULTS.and(Places::FRONTEND).and(Places::BACKEND),
    ),
    ("PARAMETERS OF BIND", "They follow the address on a 'bind' line, in any order.", Places::BIND),
    (
        "PARAMETERS OF SERVER",
        "They follow the address on a 'server' line, or 'default-server', in any order.",
        Places::SERVER,
    ),
];

fn rows(places: Places) -> impl Iterator<Item = &'static Keyword> {
    keywords::all().filter(move |row| row.places.overlaps(places))
}

fn keyword(page: &mut Roff, row: &Keyword, places: Places) {
    page.item(&format!("'{}' {}", row.name, row.usage), row.doc);
    if places.overlaps(Places::DEFAULTS) {
        page.item_continues(&format!("May stand in: {}.", row.places.names().join(", ")));
    }
}

/// The rows that are answered so, with the reason, by the place where they stand; rows with one reason together.
fn by_place(page: &mut Roff, wanted: impl Fn(Answer) -> bool, reason: impl Fn(&Keyword) -> String) {
    for (title, places) in [
        ("In global", Places::GLOBAL),
        ("In defaults, frontend, backend and listen", Places::DEFAULTS.and(Places::FRONTEND).and(Places::BACKEND)),
        ("On bind", Places::BIND),
        ("On server", Places::SERVER),
    ] {
        page.subsection(title);
        let mut reasons: Vec<(String, Vec<&'static Keyword>)> = Vec::new();
        for row in rows(places).filter(|row| wanted(row.answer())) {
            let reason = reason(row);
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, rows)) => rows.push(row),
                None => reasons.push((reason, vec![row])),
            }
        }
        for (reason, rows) in reasons {
            let (first, rest) = reason.split_at(reason.chars().next().map_or(0, char::len_utf8));
            page.item(&joined(rows.into_iter()), &format!("{}{rest}", first.to_uppercase()));
        }
    }
}

fn joined(rows: impl Iterator<Item = &'static Keyword>) -> String {
    rows.map(|row| format!("'{}'", row.name)).collect::<Vec<_>>().join(", ")
}

const DESCRIPTION: &str = "\
The configuration of 'bowline'(8) is written in the language of HAProxy and means what it means there: a configuration in 'mode tcp' \
that terminates TLS is read unchanged. Words that change nothing here are accepted with a notice; words that would change something, and \
cannot, are refused with an error that says what to do. Nothing is accepted and ignored.

'bowline -c' checks a configuration and every file that it names, 'bowline -c -V' shows what was understood. Errors name file, line and \
column, all of them in one run. 'bowline --help-keywords' prints the keywords of this page.";

const SYNTAX: &str = "\
One statement on each line: words with blanks between them. Leading blanks are ignored, '#' starts a comment. A file must start with a \
section. Several files, or a directory, are one configuration; 'defaults' of a file count for the files after it.";

const SYNTAX_PARTS: &[(&str, &str)] = &[
    (
        "Quotes",
        "Outside quotes, a backslash takes the meaning from a blank, '#', a quote or a backslash; '\\n', '\\r', '\\t' and '\\xNN' \
         stand for characters. Between double quotes, blanks and '#' are text, a backslash works as before, and variables are \
         replaced. Between single quotes, everything is text. Parts that touch are one word. An empty word is an error.",
    ),
    (
        "Environment variables",
        "\"$NAME\" and \"${NAME}\" between double quotes stand for the value of a variable of the master's environment; \
         \"${NAME-value}\" has a default for when it is not set; \"${NAME[*]}\" becomes as many words as the value has. A variable \
         that is not set and has no default draws a warning. 'setenv' and its kin change variables for the lines after them.\n\n\
         \"${.FILE}\", \"${.LINE}\" and \"${.SECTION}\" tell where they stand. \"$HAPROXY_BRANCH\" is 3.4, \"$HAPROXY_CFGFILES\" the names of \
         the configuration files, \"$HAPROXY_TCP_LOG_FMT\" and \"$HAPROXY_TCP_CLF_LOG_FMT\" are formats of log lines.",
    ),
    (
        "Conditions",
        "'.if' <condition>, '.elif' <condition>, '.else' and '.endif' stand on lines of their own; lines in a branch that does not \
         count are not looked at. A condition is made of predicates, numbers (0 is false), '!', '&&', '||' and parentheses. \
         Predicates: 'defined(NAME)', the variable is set; 'feature(NAME)', true for BOWLINE and OPENSSL; 'streq(a,b)', \
         'strneq(a,b)', two texts are equal, or not; 'strstr(a,b)', the first contains the second; 'version_atleast(3.0)', \
         'version_before(3.0)', which answer for HAProxy 3.4.\n\nWhat stands between '.if feature(BOWLINE)' and '.endif' is read here \
         and passed over by HAProxy: extensions belong there in a file that both programs read. 'bowline -c --haproxy' points out those that do not stand \
         there.\n\n'.notice', '.warning' and '.alert', followed by a text in quotes, print it; '.alert' is an error. \
         '.diag' does as '.notice'.",
    ),
    (
        "Times",
        "A whole number with a unit: 'us', 'ms', 's', 'm', 'h', 'd'. Without a unit it is milliseconds, or seconds where the keyword says \
         so. 0 is no time, that is, no limit. The longest is 2147483647 milliseconds, 24 days.",
    ),
    (
        "Addresses",
        "'192.0.2.1:443', '[2001:db8::1]:443', '*:443' and ':443' (all addresses of IPv4), ':::443' (all of IPv6; with 'v4v6' those of IPv4 \
         too), '/path' or 'unix@/path' for a unix socket, 'abns@name' for an abstract one as HAProxy names it, 'abnsz@name' as other programs do, 'fd@3' for a descriptor that was \
         inherited, and 'fd@name' for sockets that systemd passes (an extension). 'ipv4@' and 'ipv6@' in front fix the family. \
         A 'bind' line takes several with commas between them, and ranges \
         of ports, ':8000-8010'; a 'server' line a host name too.",
    ),
];

const SECTIONS: &str = "\
'global' is about the process. 'defaults' [<name>] ['from' <defaults>] sets what the sections after it begin with; each 'defaults' \
starts from the built-in values, unless it says 'from'. 'frontend' <name> listens, 'backend' <name> has a server, 'listen' <name> is \
both; each begins with what the last 'defaults' above it says, or the one that is named after 'from'. Names are made of letters, \
digits, '-', '_', '.' and ':', and are unique.";

const CERTIFICATE_LISTS: &str = "\
A file that 'crt-list' names has one certificate on each line: <file> ['['<option> ...']'] [<name>]... Words have blanks between them; \
there are no quotes, and '#' starts a comment at the beginning of a line only. 'crt-base' counts for the files. Options in brackets stand in \
the place of those of the 'bind' line, for this certificate. Names stand in the place of those in the certificate: 'www.example.com', \
'*.example.com' (one label), '!old.example.com' (not meant by a wildcard of this line), '*' (a default certificate).";

const DEVIATIONS: &[(&str, &str, &str)] = &[
    (
        "V1: PROXY header without a client certificate",
        "'verify' in the TLV is 0 for a client that sent no certificate.",
        "It is 1, as the specification asks: 0 is a certificate that was verified.",
    ),
    (
        "V2: TLS versions and suites",
        "TLS 1.0 and 1.1, CBC, finite-field Diffie-Hellman and RSA key exchange are possible.",
        "TLS 1.2 and 1.3 with forward secrecy and AEAD suites. A lower 'ssl-min-ver' draws a warning, a list of which nothing is left is an \
         error. 'no-tlsv12' and 'no-tlsv13' hold beside 'ssl-min-ver' and 'ssl-max-ver'.",
    ),
    (
        "V3: resumed sessions",
        "Resumption does not look at revocation lists and dates again.",
        "The stored certificate is judged again by the authorities, dates and lists that are in force; a refused resumption becomes a full \
         handshake.",
    ),
    (
        "V5: single settings given twice",
        "The last one counts, in silence.",
        "An error that names the first. What stands in a section may override 'defaults'.",
    ),
    ("V8: numbers", "What follows the digits of a number is ignored.", "It is an error."),
    ("V9: end of the file", "A last line without a line feed is an error.", "It is accepted with a notice."),
    (
        "Dangerous lines",
        "'crt' without 'ssl' opens a plaintext listener; 'verify required' without 'ca-file' and a mistyped variable have their way.",
        "A TLS parameter without 'ssl' is an error, and so are 'verify' without authorities and empty words. 'ca-file' or 'crl-file' without \
         'verify', parameters of the PROXY header without 'send-proxy-v2', small times without unit and unset variables draw warnings.",
    ),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("TLS in front of one backend:", include_str!("../../../conf/examples/minimal.cfg")),
    (
        "Client certificates, and a backend that is told who is there:",
        "frontend mqtts\n    bind :8883 ssl crt /etc/bowline/tls/server.pem ca-file /etc/bowline/tls/clients.pem verify required\n    \
         timeout client 10m\n    default_backend broker\nbackend broker\n    timeout connect 5s\n    timeout server 10m\n    server local \
         127.0.0.1:1883 send-proxy-v2 proxy-v2-options ssl,cert-cn\n",
    ),
    (
        "One file for both programs:",
        "backend broker\n    timeout connect 5s\n    timeout server 10m\n.if feature(BOWLINE)\n    default-server \
         proxy-v2-options cert-fingerprint\n.endif\n    server local 127.0.0.1:1883 send-proxy-v2 proxy-v2-options ssl,cert-cn\n",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::conf;

    #[test]
    fn every_keyword_is_there() {
        let mut page = Roff::new("bowline.cfg", 5, "");
        body(&mut page);
        let text = page.finish();
        for row in keywords::all() {
            let name = row.name.replace('-', "\\-");
            assert!(text.contains(&format!("\\fB{name}\\fR")), "no '{}'", row.name);
        }
    }

    #[test]
    fn examples_are_accepted() {
        for (about, text) in EXAMPLES {
            let parsed = conf::parse(&[("example".to_owned(), text.as_bytes().to_vec())], &BTreeMap::new());
            assert!(parsed.diagnostics.is_empty(), "{about} {:?}", parsed.diagnostics);
        }
    }
}
