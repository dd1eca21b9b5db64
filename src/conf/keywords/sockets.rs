//! Options of TCP sockets (HAProxy manual, 3.2, 4.2, 5.1 and 5.2).

use std::time::Duration;

use super::super::address;
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::draft::{BindDraft, Global, Proxy};
use super::super::model::{BindAddress, Source};
use super::super::token::{Word, saturated};
use super::super::value::{self, Unit};
use super::{
    Action, Class, DEFAULTS_BACKEND, DEFAULTS_FRONTEND, Keyword, Line, PROXIES, Places, bind, log, not_yet, process,
    proxy, server, should,
};

/// Longest name of an interface: IFNAMSIZ without its terminator (netdevice(7)).
const INTERFACE_MAX: usize = 15;
/// Longest name of an algorithm against congestion: TCP_CA_NAME_MAX without its terminator (tcp(7)).
const CONGESTION_MAX: usize = 15;
/// What Linux takes for TCP_MAXSEG: TCP_MIN_MSS to MAX_TCP_WINDOW.
const SEGMENT: std::ops::RangeInclusive<u32> = 88..=32767;
/// What Linux takes for TCP_KEEPCNT: up to MAX_TCP_KEEPCNT.
const PROBES: std::ops::RangeInclusive<u32> = 1..=127;
/// Longest TCP_KEEPIDLE and TCP_KEEPINTVL of Linux, in seconds: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL.
const PROBE_SECONDS_MAX: u64 = 32767;

const fn global(name: &'static str, doc: &'static str) -> Keyword {
    Keyword {
        name,
        places: Places::GLOBAL,
        usage: "<bytes>",
        class: Class::Should,
        doc,
        arguments: 1..=1,
        repeats: false,
        action: Action::Global(buffer),
    }
}

pub(super) static GLOBAL: &[Keyword] = &[
    global(
        "tune.rcvbuf.client",
        "Receive buffer of each client's socket in the kernel, which then no longer grows by itself. The system caps it \
         (net.core.rmem_max).",
    ),
    global("tune.rcvbuf.server", "The same for the sockets towards servers."),
    global(
        "tune.sndbuf.client",
        "Send buffer of each client's socket in the kernel, which then no longer grows by itself. The system caps it \
         (net.core.wmem_max).",
    ),
    global("tune.sndbuf.server", "The same for the sockets towards servers."),
    global(
        "tune.notsent-lowat.client",
        "Most bytes that wait unsent in a client's socket: less memory, and nothing is late behind what was written long before \
         (TCP_NOTSENT_LOWAT).",
    ),
    global("tune.notsent-lowat.server", "The same for the sockets towards servers."),
];

pub(super) static PROXY: &[Keyword] = &[
    proxy::keyword(
        "option clitcpka",
        DEFAULTS_FRONTEND,
        "",
        0,
        |proxy, line, _| proxy.settings.clitcpka = line.switches_on(),
        "TCP keep-alive towards clients.",
    ),
    proxy::keyword(
        "option srvtcpka",
        DEFAULTS_BACKEND,
        "",
        0,
        |proxy, line, _| proxy.settings.srvtcpka = line.switches_on(),
        "TCP keep-alive towards servers.",
    ),
    proxy::keyword(
        "option tcpka",
        PROXIES,
        "",
        0,
        |proxy, line, _| proxy.settings.tcpka = line.switches_on(),
        "TCP keep-alive on both sides.",
    ),
    proxy::keyword(
        "clitcpka-idle",
        DEFAULTS_FRONTEND,
        "<time>",
        1,
        probes,
        "With 'option clitcpka': after how much silence the first probe is sent. A number without unit is in seconds; default: the \
         system's.",
    ),
    should(proxy::keyword(
        "clitcpka-intvl",
        DEFAULTS_FRONTEND,
        "<time>",
        1,
        probes,
        "With 'option clitcpka': time between two probes. A number without unit is in seconds; default: the system's.",
    )),
    should(proxy::keyword(
        "clitcpka-cnt",
        DEFAULTS_FRONTEND,
        "<number>",
        1,
        probes,
        "With 'option clitcpka': after how many probes without an answer the client is gone; default: the system's.",
    )),
    should(proxy::keyword(
        "srvtcpka-idle",
        DEFAULTS_BACKEND,
        "<time>",
        1,
        probes,
        "As 'clitcpka-idle', towards servers, with 'option srvtcpka'.",
    )),
    should(proxy::keyword(
        "srvtcpka-intvl",
        DEFAULTS_BACKEND,
        "<time>",
        1,
        probes,
        "As 'clitcpka-intvl', towards servers, with 'option srvtcpka'.",
    )),
    should(proxy::keyword(
        "srvtcpka-cnt",
        DEFAULTS_BACKEND,
        "<number>",
        1,
        probes,
        "As 'clitcpka-cnt', towards servers, with 'option srvtcpka'.",
    )),
    should(Keyword {
        arguments: 1..=usize::MAX,
        ..proxy::keyword(
            "source",
            DEFAULTS_BACKEND,
            "<address>[:<port>] [interface <name>]",
            1,
            |proxy, line, diagnostics| proxy.settings.source = source(line, diagnostics).unwrap_or_default(),
            "Local address, and interface, that connections to servers come from; '*' for any.",
        )
    }),
    should(proxy::keyword(
        "option nolinger",
        PROXIES,
        "",
        0,
        |proxy, line, _| proxy.settings.nolinger = line.switches_on(),
        "Close with a reset, so that the kernel keeps nothing of the connection: in a frontend towards clients, in a backend towards \
         servers, which may lose the last bytes by it. For peers that vanish by the thousand.",
    )),
];

pub(super) static BIND: &[Keyword] = &[
    should(bind::parameter(
        "thread",
        "<threads>",
        1,
        |bind, line, diagnostics| bind.threads = process::thread_set(&line.arguments[0], diagnostics),
        "Threads that accept from this socket: numbers from 1, ranges, 'odd', 'even', 'all' (default). Takes effect when the socket is \
         opened.",
    )),
    should(bind::parameter(
        "shards",
        "<number>|by-thread|by-group",
        1,
        |bind, line, diagnostics| bind.shards = process::shards(&line.arguments[0], diagnostics),
        "How many sockets the kernel spreads connections over; default 'by-thread', one for each thread. Fewer are shared. Takes effect \
         when the socket is opened.",
    )),
    should(bind::parameter(
        "interface",
        "<name>",
        1,
        interface,
        "Take connections that arrive through this network interface only.",
    )),
    should(bind::parameter(
        "tfo",
        "",
        0,
        |bind, _, _| bind.socket.tcp.fast_open = true,
        "TCP Fast Open (RFC 7413): clients that have been here before may send data with their first packet. Needs bit 2 of \
         net.ipv4.tcp_fastopen.",
    )),
    should(bind::parameter(
        "defer-accept",
        "",
        0,
        |bind, _, _| bind.socket.defer_accept = true,
        "Take in a connection once the client has sent something, or after some seconds (TCP_DEFER_ACCEPT).",
    )),
    should(bind::parameter(
        "tcp-ut",
        "<time>",
        1,
        |bind, line, diagnostics| bind.socket.tcp.user_timeout = user_timeout(line, diagnostics),
        "A client that has not acknowledged data for so long is gone. A number without unit is in milliseconds.",
    )),
    should(bind::parameter(
        "mss",
        "<bytes>",
        1,
        |bind, line, diagnostics| bind.socket.mss = value::number(&line.arguments[0], SEGMENT, diagnostics),
        "Longest TCP segment that clients are told to send, 88 to 32767.",
    )),
    should(bind::parameter(
        "cc",
        "<algorithm>",
        1,
        |bind, line, diagnostics| bind.socket.tcp.congestion = congestion(line, diagnostics),
        "Algorithm against congestion for what is sent to clients, such as bbr; see net.ipv4.tcp_available_congestion_control.",
    )),
];

pub(super) static SERVER: &[Keyword] = &[
    should(Keyword {
        // With 'interface <name>' three.
        arguments: 1..=3,
        ..server::parameter(
            "source",
            "<address>[:<port>] [interface <name>]",
            1,
            |options, line, diagnostics| options.source = source(line, diagnostics),
            "Local address that connections to this server come from, in place of the section's 'source'; '*' for any.",
        )
    }),
    should(server::parameter(
        "tcp-ut",
        "<time>",
        1,
        |options, line, diagnostics| options.tcp.user_timeout = user_timeout(line, diagnostics),
        "A server that has not acknowledged data for so long is gone. A number without unit is in milliseconds.",
    )),
    should(server::parameter(
        "cc",
        "<algorithm>",
        1,
        |options, line, diagnostics| options.tcp.congestion = congestion(line, diagnostics),
        "Algorithm against congestion for what is sent to the server: one of net.ipv4.tcp_allowed_congestion_control.",
    )),
];

fn buffer(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let name = line.keyword.name;
    let side = if name.ends_with(".client") { &mut global.clients } else { &mut global.servers };
    let option = match name.split('.').nth(1) {
        Some("rcvbuf") => &mut side.receive_buffer,
        Some("sndbuf") => &mut side.send_buffer,
        _ => &mut side.unsent_low_water,
    };
    // As in HAProxy, 0 leaves it to the system.
    *option = value::size(&line.arguments[0], 0..=i32::MAX.unsigned_abs(), diagnostics).filter(|bytes| *bytes > 0);
}

fn probes(proxy: &mut Proxy, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let name = line.keyword.name;
    let settings = &mut proxy.settings;
    let side = if name.starts_with("cli") { &mut settings.client_probes } else { &mut settings.server_probes };
    let word = &line.arguments[0];
    match name.split_once('-') {
        Some((_, "idle")) => side.idle = seconds(name, word, diagnostics),
        Some((_, "intvl")) => side.interval = seconds(name, word, diagnostics),
        _ => side.count = value::number(word, PROBES, diagnostics),
    }
}

/// A time that Linux takes between probes; zero takes back what `defaults` said.
fn seconds(name: &str, word: &Word, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let time = value::duration(name, word, Unit::Seconds, diagnostics).filter(|time| !time.is_zero())?;
    if time.as_secs() > PROBE_SECONDS_MAX {
        let message = format!("{} is too long a time; at most {PROBE_SECONDS_MAX}s (9 hours)", word.quoted());
        diagnostics.push(word.error("E103", message));
        return None;
    }
    Some(time)
}

/// `<address>[:<port>] [interface <name>]`
fn source(line: &Line<'_>, diagnostics: &mut Diagnostics) -> Option<Source> {
    let [word, rest @ ..] = line.arguments else {
        return None;
    };
    let address = match address::source(&word.text) {
        Ok(address) => address,
        Err(error) => {
            diagnostics.push(log::from_address(word, error));
            return None;
        }
    };
    let interface = match rest {
        [] => None,
        [word, name] if word.is("interface") => interface_name(name, diagnostics),
        [word, ..] if word.is("usesrc") => {
            diagnostics.push(not_yet("source … usesrc", word).help("until then: tell the server by 'send-proxy-v2'"));
            return None;
        }
        [word, ..] => {
            diagnostics.push(word.error("E102", format!("{} can not follow 'source'", word.quoted())));
            return None;
        }
    };
    Some(Source { address, interface })
}

fn interface(bind: &mut BindDraft, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    bind.interface = interface_name(&line.arguments[0], diagnostics);
}

fn interface_name(word: &Word, diagnostics: &mut Diagnostics) -> Option<String> {
    short_name(word, "interface", INTERFACE_MAX, diagnostics)
}

fn congestion(line: &Line<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
    short_name(&line.arguments[0], "algorithm", CONGESTION_MAX, diagnostics)
}

fn short_name(word: &Word, what: &str, most: usize, diagnostics: &mut Diagnostics) -> Option<String> {
    let name = value::text(word, diagnostics)?;
    if name.len() > most || name.contains(['/', ' ']) {
        diagnostics.push(word.error("E103", format!("{} is no name of an {what}", word.quoted())));
        return None;
    }
    Some(name)
}

fn user_timeout(line: &Line<'_>, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let time = value::duration(line.keyword.name, &line.arguments[0], Unit::Milliseconds, diagnostics);
    time.filter(|time| !time.is_zero())
}

/// W112: on a unix socket there is no TCP. E103: a socket that came with the process has its interface already.
pub(super) fn tell_unix(bind: &BindDraft, diagnostics: &mut Diagnostics) {
    let Some((name, at)) = &bind.tcp_parameter else {
        return;
    };
    let inherited = bind
        .addresses
        .iter()
        .any(|address| matches!(address.value, BindAddress::Descriptor(_) | BindAddress::Named(_)));
    if inherited && bind.interface.is_some() {
        let message = "'interface' has no effect on 'fd@': whoever opened that socket has bound it";
        diagnostics.push(Diagnostic::error("E103", at, message).span(saturated(name.len())));
    }
    let unix = |address: &BindAddress| matches!(address, BindAddress::Unix(_) | BindAddress::Abstract(_));
    if !bind.addresses.is_empty() && bind.addresses.iter().all(|address| unix(&address.value)) {
        let message = format!("'{name}' has no effect on a unix socket");
        diagnostics.push(Diagnostic::warning("W112", at, message).span(saturated(name.len())));
    }
}
