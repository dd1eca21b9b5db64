//! What HAProxy has and this program has not, or not yet: accepted without effect, or refused with what to do instead.

use super::{Action, Class, DEFAULTS_BACKEND, DEFAULTS_FRONTEND, Keyword, PROXIES, Places, Subject};

/// A row; arguments of a keyword without effect are not looked at.
const fn row(name: &'static str, places: Places, class: Class, action: Action, doc: &'static str) -> Keyword {
    Keyword { name, places, usage: "…", class, doc, arguments: 0..=usize::MAX, repeats: true, action }
}

/// Part of a later step of the core language.
pub(super) const fn must(name: &'static str, places: Places, until_then: &'static str) -> Keyword {
    row(name, places, Class::Must, Action::NotYet, until_then)
}

/// Second in line.
pub(super) const fn should(name: &'static str, places: Places, until_then: &'static str) -> Keyword {
    row(name, places, Class::Should, Action::NotYet, until_then)
}

/// For a later version.
pub(super) const fn later(name: &'static str, places: Places, until_then: &'static str) -> Keyword {
    row(name, places, Class::Later, Action::NotYet, until_then)
}

pub(super) const fn never(name: &'static str, places: Places, subject: Subject, instead: &'static str) -> Keyword {
    row(name, places, Class::Never, Action::Refuse(subject), instead)
}

const fn http(name: &'static str) -> Keyword {
    row(name, PROXIES, Class::Never, Action::Http, KEPT)
}

pub(super) const fn inert(name: &'static str, places: Places, why: &'static str) -> Keyword {
    row(name, places, Class::Inert, Action::Inert, why)
}

const CPU: &str = "threads go to the CPUs that the process may use";
pub(super) const NO_SUCH_PART: &str = "it tunes a part of HAProxy that does not exist here";
pub(super) const LABEL: &str = "it is a label";
const NO_TLS_TO_SERVERS: &str = "it is about TLS towards servers, which this program does not speak";
const POLLERS: &str = "there is one way to wait for events";
const NO_CHECKS: &str = "there are no health checks";
const KEPT: &str = "it is about HTTP (line kept for HAProxy)";
pub(super) const REMOVE: &str = "remove it";

const G: Places = Places::GLOBAL;
/// Sections that are one thing each.
const NAMED: Places = Places::FRONTEND.and(Places::BACKEND);

pub(super) static GLOBAL: &[Keyword] = &[
    inert("cpu-policy", G, CPU),
    inert("cpu-set", G, CPU),
    inert("cpu-affinity", G, CPU),
    inert("numa-cpu-mapping", G, CPU),
    inert("thread-groups", G, CPU),
    inert("thread-group", G, CPU),
    inert("max-threads-per-group", G, CPU),
    inert("prealloc-fd", G, NO_SUCH_PART),
    inert("set-dumpable", G, "the worker can not be dumped"),
    inert("insecure-fork-wanted", G, "no program is ever started"),
    inert("insecure-setuid-wanted", G, "no program is ever started"),
    inert(
        "setcap",
        G,
        "the worker needs no capability: the master binds and reads with its own ('AmbientCapabilities=' in its unit)",
    ),
    later("grace", G, REMOVE),
    later("close-spread-time", G, "use 'hard-stop-after'"),
    later("ssl-default-bind-sigalgs", G, REMOVE),
    later("ssl-default-bind-client-sigalgs", G, REMOVE),
    inert("ssl-default-server-*", G, NO_TLS_TO_SERVERS),
    inert("ssl-server-verify", G, NO_TLS_TO_SERVERS),
    inert("ssl-dh-param-file", G, "there is no finite-field Diffie-Hellman"),
    inert("tune.ssl.default-dh-param", G, "there is no finite-field Diffie-Hellman"),
    inert("ssl-security-level", G, "only suites above level 2 exist"),
    never("ssl-engine", G, Subject::OpenSsl, REMOVE),
    never("ssl-mode-async", G, Subject::OpenSsl, REMOVE),
    never("ssl-provider", G, Subject::OpenSsl, REMOVE),
    never("ssl-provider-path", G, Subject::OpenSsl, REMOVE),
    never("ssl-propquery", G, Subject::OpenSsl, REMOVE),
    later("ssl-passphrase-cmd", G, "store the key without a passphrase, readable by the master only"),
    later("tune.ssl.keylog", G, REMOVE),
    later(
        "tune.ssl.ocsp-update.*",
        G,
        "fetch the staple with a timer and put it beside the certificate as <file>.ocsp",
    ),
    later("ocsp-update.*", G, "fetch the staple with a timer and put it beside the certificate as <file>.ocsp"),
    inert("tune.bufsize", G, "a connection has a buffer only while a peer is slow, as large as it needs"),
    inert("tune.*", G, NO_SUCH_PART),
    inert("maxpipes", G, NO_SUCH_PART),
    inert("nosplice", G, NO_SUCH_PART),
    inert("noktls", G, "kernel TLS is not used"),
    inert("spread-checks", G, NO_CHECKS),
    inert("max-spread-checks", G, NO_CHECKS),
    inert("pp2-never-send-local", G, NO_CHECKS),
    inert("noepoll", G, POLLERS),
    inert("nopoll", G, POLLERS),
    inert("noevports", G, POLLERS),
    inert("nokqueue", G, POLLERS),
    inert("nogetaddrinfo", G, NO_SUCH_PART),
    inert("busy-polling", G, POLLERS),
    inert("no-memory-trimming", G, NO_SUCH_PART),
    inert("harden.reject-privileged-ports.quic", G, "there is no QUIC"),
    inert("description", G, LABEL),
    inert("node", G, LABEL),
    inert("expose-experimental-directives", G, "nothing here needs it"),
    inert("expose-deprecated-directives", G, "nothing here needs it"),
    inert("localpeer", G, NO_SUCH_PART),
    inert("cluster-secret", G, NO_SUCH_PART),
    inert("master-worker", G, "there are always a master and a worker"),
    inert("mworker-max-reloads", G, "a reload keeps one worker"),
    inert("anonkey", G, NO_SUCH_PART),
    inert("debug.counters", G, NO_SUCH_PART),
    inert("profiling.*", G, NO_SUCH_PART),
    inert("warn-blocked-traffic-after", G, "a watchdog looks after the threads"),
    inert("force-cfg-parser-pause", G, NO_SUCH_PART),
    inert("quick-exit", G, NO_SUCH_PART),
    inert("stats calculate-max-counters", G, NO_SUCH_PART),
    inert("stress-level", G, NO_SUCH_PART),
    inert("limited-quic", G, "there is no QUIC"),
    inert("h1-*", G, "it is about HTTP"),
    inert("h2-*", G, "it is about HTTP"),
    inert("http-*", G, "it is about HTTP"),
    inert("httpclient.*", G, "it is about HTTP"),
    inert("maxcomp*", G, "it is about HTTP"),
    inert("maxzlibmem", G, "it is about HTTP"),
    inert("jwt.*", G, "it is about HTTP"),
    never("lua-*", G, Subject::Scripts, ""),
    never("external-check", G, Subject::Scripts, ""),
    never("51degrees-*", G, Subject::Other, REMOVE),
    never("deviceatlas-*", G, Subject::Other, REMOVE),
    never("wurfl-*", G, Subject::Other, REMOVE),
    never("acme.*", G, Subject::Other, "use an ACME client such as certbot, and reload after a renewal"),
    never("set-var", G, Subject::Other, REMOVE),
    never("set-var-fmt", G, Subject::Other, REMOVE),
    later("server-state-base", G, REMOVE),
    later("server-state-file", G, REMOVE),
    later("stats-file", G, REMOVE),
    later("shm-stats-file*", G, REMOVE),
];

const RULES_UNTIL_THEN: &str = "remove the rule, and let 'verify required' and 'ca-file' decide who may connect";

pub(super) static PROXY: &[Keyword] = &[
    must("acl", PROXIES, RULES_UNTIL_THEN),
    must("tcp-request", PROXIES, RULES_UNTIL_THEN),
    must("log-format", DEFAULTS_FRONTEND, "use 'option tcplog'"),
    later("log-format-sd", DEFAULTS_FRONTEND, "use 'option tcplog'"),
    must("error-log-format", DEFAULTS_FRONTEND, "remove it; failed handshakes are logged in a fixed format"),
    should("log-steps", DEFAULTS_FRONTEND, "use 'option tcplog'"),
    inert("option socket-stats", PROXIES, "counters are always kept for each listener"),
    inert("option contstats", PROXIES, "counters are always continuous"),
    inert("option use-small-buffers", PROXIES, "an idle connection has no buffer"),
    inert("option splice-auto", PROXIES, "decrypted bytes can not be spliced"),
    inert("option splice-request", PROXIES, "decrypted bytes can not be spliced"),
    inert("option splice-response", PROXIES, "decrypted bytes can not be spliced"),
    inert("option tcp-smart-accept", PROXIES, NO_SUCH_PART),
    inert("option tcp-smart-connect", PROXIES, NO_SUCH_PART),
    inert("option persist", PROXIES, NO_SUCH_PART),
    should("unique-id-format", PROXIES, "remove it; the header then has no unique-id"),
    inert("description", NAMED, LABEL),
    inert("id", NAMED, LABEL),
    inert("guid", NAMED, LABEL),
    later("crt", Places::FRONTEND, "put the files on the 'bind' line with 'crt'"),
    must("balance", DEFAULTS_BACKEND, "one server in each backend, without 'balance'"),
    should("hash-type", DEFAULTS_BACKEND, REMOVE),
    later("hash-balance-factor", DEFAULTS_BACKEND, REMOVE),
    later("hash-preserve-affinity", DEFAULTS_BACKEND, REMOVE),
    later("server-template", Places::BACKEND, "write a 'server' line"),
    must("timeout queue", DEFAULTS_BACKEND, "remove it; connections do not queue"),
    must("timeout check", DEFAULTS_BACKEND, "remove it; there are no health checks"),
    inert("option redispatch", DEFAULTS_BACKEND, "there is one server in each backend"),
    inert("retry-on", PROXIES, "it is about HTTP"),
    must("option allbackups", DEFAULTS_BACKEND, REMOVE),
    should("option tcp-check", DEFAULTS_BACKEND, REMOVE),
    should("tcp-check", DEFAULTS_BACKEND, REMOVE),
    should("option httpchk", DEFAULTS_BACKEND, REMOVE),
    should("http-check", DEFAULTS_BACKEND, REMOVE),
    later("option pgsql-check", DEFAULTS_BACKEND, REMOVE),
    later("option mysql-check", DEFAULTS_BACKEND, REMOVE),
    later("option redis-check", DEFAULTS_BACKEND, REMOVE),
    later("option smtpchk", DEFAULTS_BACKEND, REMOVE),
    later("option ldap-check", DEFAULTS_BACKEND, REMOVE),
    later("option ssl-hello-chk", DEFAULTS_BACKEND, REMOVE),
    never("option spop-check", DEFAULTS_BACKEND, Subject::Scripts, ""),
    never("option external-check", DEFAULTS_BACKEND, Subject::Scripts, ""),
    should("option log-health-checks", DEFAULTS_BACKEND, REMOVE),
    should("fullconn", DEFAULTS_BACKEND, REMOVE),
    should("use-server", Places::BACKEND, REMOVE),
    later("load-server-state-from-file", DEFAULTS_BACKEND, REMOVE),
    later("server-state-file-name", DEFAULTS_BACKEND, REMOVE),
    inert("be-unpublished", PROXIES, LABEL),
    never("dispatch", PROXIES, Subject::Other, "use a 'server' line"),
    never("transparent", PROXIES, Subject::Other, "use a 'server' line"),
    never("option transparent", PROXIES, Subject::Other, "use a 'server' line"),
    never("stick-table", PROXIES, Subject::Tables, ""),
    never("stick", PROXIES, Subject::Tables, ""),
    never("persist", PROXIES, Subject::Tables, ""),
    never("force-persist", PROXIES, Subject::Tables, ""),
    never("ignore-persist", PROXIES, Subject::Tables, ""),
    never("filter", PROXIES, Subject::Scripts, ""),
    never("filter-sequence", PROXIES, Subject::Scripts, ""),
    never("external-check", PROXIES, Subject::Scripts, ""),
    never("quic-initial", PROXIES, Subject::Datagrams, ""),
    never("force-be-switch", PROXIES, Subject::Other, REMOVE),
    never("tcp-response", PROXIES, Subject::Other, "rules look at the client only; remove it"),
    never("declare", PROXIES, Subject::Other, REMOVE),
    row("timeout http-request", PROXIES, Class::Inert, Action::HttpTimeout, KEPT),
    row("timeout http-keep-alive", PROXIES, Class::Inert, Action::HttpTimeout, KEPT),
    row("timeout tarpit", PROXIES, Class::Inert, Action::HttpTimeout, KEPT),
    http("option http-server-close"),
    http("option httpclose"),
    http("option http-keep-alive"),
    http("option http-no-delay"),
    http("option http-buffer-request"),
    http("option http-drop-request-trailers"),
    http("option http-drop-response-trailers"),
    http("option http-ignore-probes"),
    http("option http-pretend-keepalive"),
    http("option http-use-proxy-header"),
    http("option http-restrict-req-hdr-names"),
    http("option h1-case-adjust-bogus-client"),
    http("option h1-case-adjust-bogus-server"),
    http("option accept-unsafe-violations-in-http-request"),
    http("option accept-unsafe-violations-in-http-response"),
    http("option forwardfor"),
    http("option forwarded"),
    http("option originalto"),
    http("option checkcache"),
    http("option idle-close-on-response"),
    http("option disable-h2-upgrade"),
    http("option prefer-last-server"),
    http("capture"),
    http("compression"),
    http("cookie"),
    http("email-alert"),
    http("errorfile"),
    http("errorfiles"),
    http("errorloc"),
    http("errorloc302"),
    http("errorloc303"),
    http("http-after-response"),
    http("http-error"),
    http("http-request"),
    http("http-response"),
    http("http-reuse"),
    http("http-send-name-header"),
    http("max-keep-alive-queue"),
    http("max-session-srv-conns"),
    http("monitor"),
    http("monitor-net"),
    http("monitor-uri"),
    http("redirect"),
    http("stats"),
    http("unique-id-header"),
    http("use-fcgi-app"),
];
