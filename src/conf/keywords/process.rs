//! Limits and tuning of the process (HAProxy manual, 3.1 and 3.2).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::super::diagnostic::Diagnostics;
use super::super::draft::Global;
use super::super::model::{At, Family, LogHost};
use super::super::token::Word;
use super::super::value;
use super::{Action, Apply, Class, Keyword, Line, Places, bind, global};

const fn keyword(name: &'static str, usage: &'static str, apply: Apply<Global>, doc: &'static str) -> Keyword {
    Keyword {
        name,
        places: Places::GLOBAL,
        usage,
        class: Class::Should,
        doc,
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(apply),
    }
}

pub(super) static KEYWORDS: &[Keyword] = &[
    keyword(
        "maxconnrate",
        "<number>",
        |global, line, diagnostics| {
            global.process.limits.connection_rate = bind::positive(&line.arguments[0], diagnostics)
        },
        "Most client connections accepted in a second, over all frontends; the others wait in the backlogs. 0: no limit.",
    ),
    keyword(
        "maxsessrate",
        "<number>",
        |global, line, diagnostics| {
            global.process.limits.session_rate = bind::positive(&line.arguments[0], diagnostics)
        },
        "As 'maxconnrate': here each connection is a session. The lower of the two counts.",
    ),
    keyword(
        "maxsslrate",
        "<number>",
        |global, line, diagnostics| global.process.limits.tls_rate = bind::positive(&line.arguments[0], diagnostics),
        "Most connections accepted in a second by 'bind … ssl' lines, over all frontends: a bound for what handshakes cost. 0: no limit.",
    ),
    keyword(
        "maxsslconn",
        "<number>",
        |global, line, diagnostics| {
            global.process.limits.tls_connections = bind::positive(&line.arguments[0], diagnostics)
        },
        "Most connections at a time through 'bind … ssl' lines, over all frontends; more wait in the backlogs. 0: no limit.",
    ),
    keyword(
        "tune.maxaccept",
        "<number>",
        max_accept,
        "How many connections a thread takes in before it serves the others again; default 64. -1 means 1024.",
    ),
    keyword(
        "tune.maxpollevents",
        "<number>",
        |global, line, diagnostics| {
            global.process.events = value::number(&line.arguments[0], 1..=EVENTS_MAX, diagnostics);
        },
        "How many events a thread takes from the system at a time; default 512.",
    ),
    keyword(
        "harden.reject-privileged-ports.tcp",
        "on|off",
        |global, line, diagnostics| {
            if let Some(on) = on_off(&line.arguments[0], diagnostics) {
                global.process.reject_privileged_ports = on;
            }
        },
        "Turn away clients that come from a port below 1024, as some attacks by reflection do.",
    ),
    keyword(
        "thread-hard-limit",
        "<number>",
        |global, line, diagnostics| {
            let number = value::number(&line.arguments[0], 1..=global::THREADS_MAX, diagnostics);
            global.process.threads_max = number.and_then(|number| u16::try_from(number).ok());
        },
        "No more event loops than this, whatever 'nbthread' or the number of CPUs says.",
    ),
    Keyword {
        arguments: 2..=CPU_WORDS_MAX,
        repeats: true,
        ..keyword(
            "cpu-map",
            "[auto:]1/<threads> <cpus> …",
            cpu_map,
            "Threads run on these CPUs only: 'cpu-map 1/1-2 0-3' both on any of four, 'cpu-map auto:1/1-4 0-3' each on one of its own. \
             Threads count from 1, CPUs from 0; there is one group of threads. Takes effect at the start.",
        )
    },
    keyword(
        "ulimit-n",
        "<number>",
        |global, line, diagnostics| {
            let word = &line.arguments[0];
            let number = bind::positive(word, diagnostics);
            global.process.descriptors = number.map(|value| At { value, at: word.at.clone() });
        },
        "Limit of open descriptors. Best left alone: it is computed from 'maxconn', or 'maxconn' from it.",
    ),
    keyword(
        "fd-hard-limit",
        "<number>",
        |global, line, diagnostics| {
            global.process.descriptors_max = bind::positive(&line.arguments[0], diagnostics);
        },
        "No more open descriptors than this, even where the system allows more; default 1048576.",
    ),
    Keyword {
        arguments: 0..=0,
        ..keyword(
            "strict-limits",
            "",
            |global, line, _| global.process.lenient_limits = !line.switches_on(),
            "Refuse to start if the system does not allow as many descriptors as are needed; this is the default. With 'no' in front it \
             is a warning, and there are fewer connections.",
        )
    },
    Keyword {
        arguments: 0..=0,
        ..keyword(
            "noreuseport",
            "",
            |global, _, _| global.no_reuse_port = true,
            "One socket for each address, from which all threads accept, and which no other process can share (SO_REUSEPORT).",
        )
    },
    keyword(
        "tune.listener.default-shards",
        "by-thread|by-group|by-process",
        default_shards,
        "'shards' of all 'bind' lines that have none.",
    ),
    Keyword {
        arguments: 0..=1,
        ..keyword(
            "log-send-hostname",
            "[<name>]",
            |global, line, diagnostics| {
                global.process.log_host = match line.arguments {
                    [] => Some(LogHost::Own),
                    [word, ..] => value::text(word, diagnostics).map(LogHost::Named),
                };
            },
            "Syslog lines name the host: this machine, or what is written here. Lines without 'format' are then 'rfc3164'.",
        )
    },
    keyword(
        "dns-accept-family",
        "ipv4|ipv6|auto[,…]",
        name_family,
        "Which addresses of the host names of servers count; default: both families, in the order of the system.",
    ),
];

/// Most events or connections of one turn of a loop.
const EVENTS_MAX: u32 = 1_000_000;

/// What stands for no limit: others wait meanwhile.
const ACCEPTS_MAX: u32 = 1024;

/// Words of one `cpu-map` line.
const CPU_WORDS_MAX: usize = 1024;

/// Highest number of a CPU, as sched_setaffinity(2) counts them here.
const CPU_MAX: u16 = 1023;

fn max_accept(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    global.process.accepts =
        if word.is("-1") { Some(ACCEPTS_MAX) } else { value::number(word, 1..=ACCEPTS_MAX, diagnostics) };
}

/// `on` or `off`.
pub(super) fn on_off(word: &Word, diagnostics: &mut Diagnostics) -> Option<bool> {
    match word.text.as_slice() {
        b"on" => Some(true),
        b"off" => Some(false),
        _ => {
            diagnostics.push(word.error("E103", format!("{} is neither on nor off", word.quoted())));
            None
        }
    }
}

/// `[auto:]<group>[/<threads>] <cpus> …`
fn cpu_map(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let text = String::from_utf8_lossy(&word.text);
    let (automatic, set) = text.strip_prefix("auto:").map_or((false, &*text), |set| (true, set));
    let Some(threads) = threads(set) else {
        let error = word.error("E103", format!("{} is no set of threads", word.quoted()));
        diagnostics.push(error.help("write '1/1-4', '1/all', or 'auto:1/1-4'; there is one group of threads"));
        return;
    };
    let mut cpus = BTreeSet::new();
    for word in &line.arguments[1..] {
        let text = String::from_utf8_lossy(&word.text);
        match text.split(',').map(|part| range(part, 0..=CPU_MAX)).collect::<Option<Vec<_>>>() {
            Some(ranges) => cpus.extend(ranges.into_iter().flatten()),
            None => {
                let error = word.error("E103", format!("{} is no set of CPUs", word.quoted()));
                diagnostics.push(error.help("CPUs are numbers from 0, or ranges such as 0-3"));
                return;
            }
        }
    }
    if automatic && threads.len() != cpus.len() {
        let message = format!("'auto:' needs a CPU for each thread: {} threads, {} CPUs", threads.len(), cpus.len());
        diagnostics.push(word.error("E103", message));
        return;
    }
    let at = |value| At { value, at: word.at.clone() };
    if automatic {
        let each = threads.into_iter().zip(cpus).map(|(thread, cpu)| (thread, at(BTreeSet::from([cpu]))));
        global.process.cpu_map.extend(each);
    } else {
        global.process.cpu_map.extend(threads.into_iter().map(|thread| (thread, at(cpus.clone()))));
    }
}

/// `[<group>/]<threads>[,…]`: numbers from 1, of group 1 or `all`. A group alone means all its threads.
fn threads(text: &str) -> Option<BTreeSet<u16>> {
    match text.split_once('/') {
        Some(("1" | "all", set)) => numbers(set),
        Some(_) => None,
        None if matches!(text, "1" | "all") => numbers("all"),
        None => None,
    }
}

/// `thread`: as in `cpu-map`, where without a group the numbers are those of threads.
pub(super) fn thread_set(word: &Word, diagnostics: &mut Diagnostics) -> Option<BTreeSet<u16>> {
    let text = String::from_utf8_lossy(&word.text);
    let set: Option<Vec<_>> =
        text.split(',').map(|part| if part.contains('/') { threads(part) } else { numbers(part) }).collect();
    if set.is_none() {
        let error = word.error("E103", format!("{} is no set of threads", word.quoted()));
        diagnostics.push(error.help("write '1-4', '1/1-4', 'odd', 'even' or 'all'; there is one group of threads"));
    }
    set.map(|sets| sets.into_iter().flatten().collect())
}

/// `all`, `odd`, `even`, a number or a range of threads.
fn numbers(text: &str) -> Option<BTreeSet<u16>> {
    let all = 1..=global::THREADS_MAX as u16;
    match text {
        "all" => Some(all.collect()),
        "odd" => Some(all.step_by(2).collect()),
        "even" => Some(all.skip(1).step_by(2).collect()),
        _ => range(text, all).map(Iterator::collect),
    }
}

/// `<number>` or `<number>-<number>`, within a range.
fn range(text: &str, within: RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && within.contains(number))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    (first <= last).then_some(first..=last)
}

/// `tune.listener.default-shards` and `shards`: `None` is a socket for each event loop.
pub(super) fn shards(word: &Word, diagnostics: &mut Diagnostics) -> Option<Option<u16>> {
    match word.text.as_slice() {
        b"by-thread" => Some(None),
        // All threads are one group.
        b"by-group" | b"by-process" => Some(Some(1)),
        _ => value::number(word, 1..=global::THREADS_MAX, diagnostics).map(|number| u16::try_from(number).ok()),
    }
}

fn default_shards(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    if word.text.first().is_some_and(u8::is_ascii_digit) {
        let message = format!("{}: expected by-thread, by-group or by-process", word.quoted());
        diagnostics.push(word.error("E103", message).help("a number goes to 'shards' on the 'bind' line"));
        return;
    }
    global.default_shards = shards(word, diagnostics).flatten();
}

fn name_family(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let word = &line.arguments[0];
    let (mut v4, mut v6) = (false, false);
    for part in word.text.split(|byte| *byte == b',') {
        match part {
            b"ipv4" => v4 = true,
            b"ipv6" => v6 = true,
            // What can not be reached is sorted to the end by the system (RFC 6724).
            b"auto" => (v4, v6) = (true, true),
            _ => {
                diagnostics.push(word.error("E103", format!("{}: expected ipv4, ipv6 or auto", word.quoted())));
                return;
            }
        }
    }
    global.process.name_family = match (v4, v6) {
        (true, false) => Some(Family::Ipv4),
        (false, true) => Some(Family::Ipv6),
        _ => None,
    };
}
