//! Every metric: name, type, labels and what it means. Names follow prometheus.io, "Metric and label naming".

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One line for those who read the numbers.
    pub help: &'static str,
}

/// The types of the exposition format that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the worker is replaced.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl Kind {
    /// As the format spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal)*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )+

        /// All of them, in the order in which they are told.
        pub const TABLE: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    BUILD_INFO = Gauge "bowline_build_info" ["version" "rustls" "aws_lc"]
        "Always 1: the versions of the program, of rustls and of aws-lc-rs.";
    CONFIG_GENERATION = Gauge "bowline_config_generation" []
        "Number of the configuration in force; 1 after the start.";
    RELOADS = Counter "bowline_reloads_total" ["result"]
        "Configurations that were adopted (success, the one of the start included) or refused (failure).";
    LAST_RELOAD_SUCCESSFUL = Gauge "bowline_config_last_reload_successful" []
        "1 if the last attempt to put a configuration in force succeeded; 0: the one before it is in force.";
    LAST_RELOAD_SUCCESS = Gauge "bowline_config_last_reload_success_timestamp_seconds" []
        "When a configuration was last put in force.";
    WORKER_RESTARTS = Counter "bowline_worker_restarts_total" []
        "Workers that were started because one had died. All other counters begin at 0 with each worker.";
    DRAINING = Gauge "bowline_draining" []
        "1 while the worker accepts no more connections and finishes those that it has.";

    CONNECTIONS_LIMIT = Gauge "bowline_connections_limit" []
        "Most connections of the process (maxconn); further ones wait in the kernel.";
    CONNECTIONS_ACTIVE = Gauge "bowline_connections_active" ["frontend"]
        "Client connections that are open.";
    CONNECTIONS_ACCEPTED = Counter "bowline_connections_accepted_total" ["frontend"]
        "Client connections that were accepted.";
    CONNECTIONS_SHED = Counter "bowline_connections_shed_total" ["frontend"]
        "Client connections that were closed as soon as they were accepted, for want of room.";
    CONNECTIONS_DENIED = Counter "bowline_connections_denied_total" ["frontend"]
        "Client connections that were turned away before anything was read from them (harden.reject-privileged-ports.tcp).";
    CONNECTIONS_CLOSED = Counter "bowline_connections_closed_total" ["frontend" "termination"]
        "Client connections that have ended, by HAProxy's termination state (-- is a normal end); states that have not occurred are left out.";
    CONNECTION_DURATION = Histogram "bowline_connection_duration_seconds" ["frontend"]
        "How long connections that have ended were open.";
    BYTES = Counter "bowline_bytes_total" ["frontend" "direction"]
        "Plaintext bytes of clients (to_backend) and for clients (to_client), counted while connections are open.";
    FRONTEND_LIMIT = Gauge "bowline_frontend_connections_limit" ["frontend"]
        "Most connections of a frontend, for those that set maxconn.";
    ACCEPT_PAUSES = Counter "bowline_accept_pauses_total" []
        "Times that accepting paused for want of descriptors or memory.";
    PANICS = Counter "bowline_panics_total" []
        "Connections that were given up because an invariant of the program did not hold.";
    PROXY_FAILURES = Counter "bowline_proxy_header_failures_total" ["frontend" "reason"]
        "Connections without the PROXY header that accept-proxy demands.";

    HANDSHAKES = Counter "bowline_tls_handshakes_total" ["frontend" "version" "resumed"]
        "TLS handshakes that succeeded.";
    HANDSHAKE_FAILURES = Counter "bowline_tls_handshake_failures_total" ["frontend" "reason"]
        "TLS handshakes that failed; reason empty is a client that never sent a byte.";
    HANDSHAKE_DURATION = Histogram "bowline_tls_handshake_duration_seconds" ["frontend"]
        "How long handshakes that succeeded took, from the client's first byte.";
    CLIENT_VERIFY = Counter "bowline_tls_client_verify_total" ["frontend" "result"]
        "What became of asking clients for a certificate: ok, none (not sent and not required), or why the client was refused.";
    TICKETS_REFUSED = Counter "bowline_tls_tickets_refused_total" ["frontend" "reason"]
        "Clients that wanted to resume a session and had to do a full handshake.";
    TICKET_KEY_AGE = Gauge "bowline_tls_ticket_key_age_seconds" []
        "Age of the key that encrypts session tickets.";
    CERTIFICATE_NOT_AFTER = Gauge "bowline_certificate_not_after_timestamp_seconds" ["cert"]
        "When the certificate in a file of crt expires.";
    STAPLE_NEXT_UPDATE = Gauge "bowline_ocsp_response_next_update_timestamp_seconds" ["response"]
        "When the OCSP response in a file ends; from then on it is not stapled.";
    CLIENT_CA_NOT_AFTER = Gauge "bowline_client_ca_not_after_timestamp_seconds" ["ca"]
        "When the first CA certificate of a ca-file expires.";
    CRL_NEXT_UPDATE = Gauge "bowline_crl_next_update_timestamp_seconds" ["crl"]
        "When the first list of a crl-file expires; from then on clients of its CA are refused.";

    BACKEND_ACTIVE = Gauge "bowline_backend_connections_active" ["backend" "server"]
        "Connections to a server, those that are being opened included.";
    BACKEND_BYTES = Counter "bowline_backend_bytes_total" ["backend" "server" "direction"]
        "Bytes for a server (to_backend) and from it (to_client), PROXY headers not counted.";
    CONNECT_DURATION = Histogram "bowline_backend_connect_duration_seconds" ["backend" "server"]
        "How long connects to a server that succeeded took.";
    CONNECT_RETRIES = Counter "bowline_backend_connect_retries_total" ["backend" "server"]
        "Connects that failed and were tried again.";
    CONNECT_ERRORS = Counter "bowline_backend_connect_errors_total" ["backend" "server" "reason"]
        "Connections that ended because the server could not be reached.";

    LOG_DROPPED = Counter "bowline_log_dropped_total" ["sink"]
        "Log lines and audit records that were dropped because their sink did not take them, or, as sink queue, before they were handed to one.";
    TURN_DURATION = Histogram "bowline_loop_turn_duration_seconds" []
        "How long turns of the event loops took: a connection that becomes ready waits for the end of one.";
    LONGEST_TURN = Gauge "bowline_loop_longest_turn_seconds" ["loop"]
        "The longest turn of an event loop within the last minute or two.";

    CPU = Counter "process_cpu_seconds_total" []
        "Processor time of the worker.";
    START_TIME = Gauge "process_start_time_seconds" []
        "When the worker was started.";
    RESIDENT = Gauge "process_resident_memory_bytes" []
        "Memory of the worker.";
    VIRTUAL = Gauge "process_virtual_memory_bytes" []
        "Address space of the worker.";
    OPEN_FDS = Gauge "process_open_fds" []
        "Open descriptors of the worker.";
    MAX_FDS = Gauge "process_max_fds" []
        "Limit of open descriptors of the worker.";
}

/// The table as a page for operators, in Markdown.
pub fn page() -> String {
    let mut page = String::from(PAGE_HEAD);
    for Metric { name, kind, labels, help } in TABLE {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        page.push_str(&format!("| `{name}` | {} | {} | {help} |\n", kind.word(), labels.join(", ")));
    }
    page
}

const PAGE_HEAD: &str = "\
# Metrics

What a `metrics socket` tells at `/metrics`, in the text format 0.0.4 of Prometheus. This page is made from the table in
`src/metrics/table.rs`; a test keeps it so.

A histogram has the series `_bucket`, `_sum` and `_count`. Times are seconds, moments are seconds since 1970. Counters
begin at 0 with each worker process, which `rate()` and `increase()` know how to take. No label is chosen by a peer:
`frontend`, `backend`, `server`, `cert`, `response`, `ca`, `crl` and `sink` come from the configuration, the others from closed lists.

`/healthz` answers 200 `ready`, or 503 `draining` once the process accepts no more.

| metric | type | labels | meaning |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for (index, Metric { name, kind, labels, help }) in TABLE.iter().enumerate() {
            let lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(lower(name) && labels.iter().all(|label| lower(label)), "{name}");
            assert!(name.starts_with("bowline_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains(['\\', '\n', '|']), "{name}: {help}");
            assert!(TABLE[..index].iter().all(|other| other.name != *name), "{name} twice");
        }
    }

    /// What ships beside the program must not ask for what it does not tell.
    #[test]
    fn dashboard_and_alerts_name_metrics_that_there_are() {
        for (file, least) in [("grafana-dashboard.json", 25), ("prometheus-alerts.yml", 15)] {
            let path = format!("{}/packaging/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
            let mut known = std::collections::BTreeSet::new();
            for word in words.filter(|word| word.starts_with("bowline_") || word.starts_with("process_")) {
                let found = TABLE.iter().find(|metric| {
                    let series: &[&str] = match metric.kind {
                        Kind::Histogram => &["_bucket", "_sum", "_count"],
                        _ => &[""],
                    };
                    word.strip_prefix(metric.name).is_some_and(|suffix| series.contains(&suffix))
                });
                known.insert(found.unwrap_or_else(|| panic!("{file}: there is no {word}")).name);
            }
            assert!(known.len() >= least, "{file}: {known:?}");
        }
    }

    #[test]
    fn the_page_is_made_from_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/metrics.md");
        if std::env::var_os("BOWLINE_REWRITE").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap();
        assert!(there == page(), "run this test with BOWLINE_REWRITE=1 and look at the difference");
    }
}
