//! [`Snapshot`]: the built, immutable answer to one [`Material`], shared by all loops until the next is adopted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::UnixTime;

use crate::conf;
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{self, BindAddress, InitAddr, Location, LogTarget, Model, ServerAddress};
use crate::log::Targets;
use crate::material::{ListenerKey, Material};
use crate::proto::rate::Rate;
use crate::proto::route::{Independent, Route, Timeouts};
use crate::proto::wire::Target;
use crate::socket::ServerSocket;
use crate::stats::{BackendCounters, FrontendCounters, ServerCounters, Stats};
use crate::tls::policy::{self, Expiring, Limits, Store, TlsPolicy};
use crate::tls::tickets::TicketKeys;

/// `timeout client-hs` where neither it nor `timeout client` is set: a client that has proved nothing never stays for ever.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What outlives generations: the worker makes it once.
pub struct Shared {
    /// Counters.
    pub stats: Arc<Stats>,
    /// Keys of session tickets.
    pub tickets: Arc<TicketKeys>,
    /// When the worker began: what rates are measured from.
    pub started: Instant,
}

/// What is in force.
pub struct Snapshot {
    /// Its number, from 1.
    pub generation: u64,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Targets of the process's own messages.
    pub log: Arc<Targets>,
    /// `harden.reject-privileged-ports.tcp`.
    pub reject_privileged_ports: bool,
    /// `tune.maxaccept`.
    pub accepts: Option<usize>,
    /// `tune.maxpollevents`.
    pub events: Option<usize>,
    binds: HashMap<ListenerKey, Arc<Bind>>,
    /// In file order.
    frontends: Vec<Arc<Frontend>>,
    /// In file order.
    backends: Vec<Arc<Backend>>,
    maxconn: u32,
    rates: ProcessRates,
}

/// Rates over all frontends.
struct ProcessRates {
    connections: Option<Arc<Rate>>,
    sessions: Option<Arc<Rate>>,
    tls: Option<Arc<Rate>>,
}

/// A `bind` line and all that a connection through it needs.
pub struct Bind {
    /// Its listener, by which the line is found again after a reload.
    pub key: ListenerKey,
    /// The section it stands in.
    pub frontend: Arc<Frontend>,
    /// Its `name`, or the number of its listener.
    pub name: String,
    /// Number of the listener in its frontend, from 1.
    pub number: u32,
    /// What the core needs.
    pub route: Arc<Route>,
    /// Where connections go.
    pub backend: Arc<Backend>,
    /// Connections open through it.
    pub open: Arc<AtomicU32>,
    maxconn: Option<u32>,
    /// What its connections are counted in.
    rates: Vec<Arc<Rate>>,
    /// `maxsslconn`, and where they are counted; `None`: no limit, or no TLS.
    tls_room: Option<(u32, Arc<Stats>)>,
}

/// What a frontend's connections share.
pub struct Frontend {
    /// Section name.
    pub name: String,
    /// Number of the section, as HAProxy counts them: from 2, in file order.
    pub number: u32,
    /// Number of the configuration.
    pub generation: u64,
    /// Traffic log.
    pub log: Arc<Targets>,
    /// Audit records.
    pub audit: Arc<Targets>,
    /// `option tcplog`.
    pub tcplog: bool,
    /// `option dontlognull`.
    pub dontlognull: bool,
    /// `option dontlog-normal`.
    pub dontlog_normal: bool,
    /// `option log-separate-errors`.
    pub log_separate_errors: bool,
    /// `option logasap`.
    pub logasap: bool,
    /// Counters.
    pub counters: Arc<FrontendCounters>,
    /// `maxconn` of the section.
    pub maxconn: Option<u32>,
    rate: Option<Arc<Rate>>,
}

/// What a backend's connections share.
pub struct Backend {
    /// Section name.
    pub name: String,
    /// Number of the section; see [`Frontend::number`].
    pub number: u32,
    /// Name of its server.
    pub server: String,
    /// Where that is; `None`: it is disabled, or its name has no address and `init-addr` allows that.
    pub target: Option<Target>,
    /// How sockets to it are made.
    pub socket: ServerSocket,
    /// Counters of the backend.
    pub counters: Arc<BackendCounters>,
    /// Counters of the server.
    pub server_counters: Arc<ServerCounters>,
}

impl Snapshot {
    /// The `bind` line of a listener; `None` if there is none any more.
    pub fn bind(&self, key: &ListenerKey) -> Option<&Arc<Bind>> {
        self.binds.get(key)
    }

    /// How many certificates are served, and when the first of them expires.
    pub fn expiries(&self) -> (usize, Option<UnixTime>) {
        let policies = self.binds.values().filter_map(|bind| bind.route.tls.as_ref());
        let certificates = policies.flat_map(|policy| policy.expiries()).filter(|end| end.of == Expiring::Certificate);
        let by_file: BTreeMap<&Path, UnixTime> = certificates.map(|end| (end.path, end.at)).collect();
        (by_file.len(), by_file.values().min().copied())
    }

    /// SHA-256 of each certificate that is served, once, in order.
    pub fn fingerprints(&self) -> Vec<[u8; 32]> {
        let policies = self.binds.values().filter_map(|bind| bind.route.tls.as_ref());
        let hashes: BTreeSet<[u8; 32]> = policies.flat_map(|policy| policy.fingerprints()).collect();
        hashes.into_iter().collect()
    }

    /// The `bind` lines of a frontend, address by address.
    pub fn binds_of(&self, frontend: &Frontend) -> Vec<&Arc<Bind>> {
        let mut binds: Vec<_> = self.binds.values().filter(|bind| bind.frontend.number == frontend.number).collect();
        binds.sort_by_key(|bind| bind.number);
        binds
    }

    /// Every `bind` line, address by address, in file order.
    pub fn binds(&self) -> impl Iterator<Item = &Arc<Bind>> {
        self.frontends.iter().flat_map(|frontend| self.binds_of(frontend))
    }

    /// Every frontend, in file order.
    pub fn frontends(&self) -> &[Arc<Frontend>] {
        &self.frontends
    }

    /// Every backend that has a server, in file order.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Most connections of the process.
    pub fn maxconn(&self) -> u32 {
        self.maxconn
    }

    /// Whether the process may take another connection.
    pub fn has_room(&self) -> bool {
        self.stats.process().active() < u64::from(self.maxconn)
    }
}

impl Bind {
    /// Whether another connection is within `maxconn` of the line and its frontend.
    pub fn has_room(&self) -> bool {
        let below = |limit: Option<u32>, open: u64| limit.is_none_or(|limit| open < u64::from(limit));
        below(self.maxconn, u64::from(self.open.load(Ordering::Relaxed)))
            && below(self.frontend.maxconn, self.frontend.counters.active())
            && self.tls_room.as_ref().is_none_or(|(limit, stats)| stats.process().tls_active() < u64::from(*limit))
    }

    /// When a rate allows the next connection, if not now.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.rates.iter().filter_map(|rate| rate.wait_until(now)).max()
    }

    /// A connection was accepted.
    pub fn count_in_rates(&self, now: Instant) {
        self.rates.iter().for_each(|rate| rate.take(now));
    }
}

/// A snapshot and what is to be said about it.
pub struct Built {
    /// Ready to be adopted.
    pub snapshot: Snapshot,
    /// Warnings and notices.
    pub diagnostics: Vec<Diagnostic>,
    /// What is in force, a line each: certificates, revocation lists.
    pub report: Vec<String>,
}

/// Builds what the material asks for: all of it, or nothing and all the reasons.
///
/// # Errors
/// Every error, and the warnings with them.
pub fn build(material: &Material, shared: &Shared, previous: Option<&Snapshot>) -> Result<Built, Vec<Diagnostic>> {
    let parsed = match &material.lowered {
        Some(lowered) => conf::hitch::parse(lowered),
        None => conf::parse(&material.sources, &material.environment),
    };
    let mut diagnostics = parsed.diagnostics;
    let Some(model) = parsed.model else { return Err(diagnostics) };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(material.read_at));
    let given = Given { material, model: &model, shared, now };
    let (mut store, found) = Store::new(&model.process.certificate_files, &material.files);
    diagnostics.extend(found);
    let policies = previous.into_iter().flat_map(|previous| previous.binds.values());
    policies.filter_map(|bind| bind.route.tls.as_ref()).for_each(|policy| policy.remember_in(&mut store));
    let limits = &model.process.limits;
    let before = previous.map(|previous| &previous.rates);
    let rates = ProcessRates {
        connections: given.rate(limits.connection_rate, before.and_then(|rates| rates.connections.as_ref())),
        sessions: given.rate(limits.session_rate, before.and_then(|rates| rates.sessions.as_ref())),
        tls: given.rate(limits.tls_rate, before.and_then(|rates| rates.tls.as_ref())),
    };
    let mut report = Vec::new();
    let mut binds = HashMap::new();
    let numbers = numbers(&model, &material.sources);
    let backends = given.backends(&numbers, &mut diagnostics);
    let mut frontends = Vec::new();
    for frontend in &model.frontends {
        let keys = frontend.binds.iter().flat_map(|bind| &bind.addresses).map(|address| &address.value);
        let before = previous.and_then(|previous| keys.filter_map(|key| previous.bind(key)).next());
        let before = before.map(|bind| &bind.frontend).filter(|before| before.name == frontend.name);
        let shared_frontend = Arc::new(Frontend {
            name: frontend.name.clone(),
            number: numbers.get(&*frontend.name).copied().unwrap_or_default(),
            generation: material.generation,
            log: given.targets(&frontend.logs, frontend.log_tag.as_deref()),
            audit: given.audit(frontend),
            dontlog_normal: frontend.dontlog_normal,
            log_separate_errors: frontend.log_separate_errors,
            logasap: frontend.logasap,
            rate: given.rate(frontend.session_rate, before.and_then(|before| before.rate.as_ref())),
            tcplog: frontend.tcplog,
            dontlognull: frontend.dontlognull,
            counters: shared.stats.frontend(&frontend.name),
            maxconn: frontend.maxconn,
        });
        let Some(backend) = model.backends.iter().find(|backend| backend.name == frontend.default_backend.value) else {
            // The parser has checked it.
            diagnostics.push(Diagnostic::error(
                "E401",
                &frontend.default_backend.at,
                format!("no backend named '{}'", frontend.default_backend.value),
            ));
            continue;
        };
        let Some(server) = backend.servers.first() else {
            diagnostics.push(Diagnostic::error(
                "E401",
                &backend.at,
                format!("backend '{}' has no server", backend.name),
            ));
            continue;
        };
        let Some(shared_backend) = backends.iter().find(|built| built.name == backend.name) else {
            // Why its server has no address has been said.
            continue;
        };
        let mut number = 0;
        for bind in &frontend.binds {
            let tls = match tls(bind, frontend, &given, &mut store, &mut diagnostics) {
                Ok(tls) => tls,
                Err(()) => continue,
            };
            if let Some(policy) = &tls {
                report.extend(policy.describe().into_iter().map(|line| format!("frontend {}: {line}", frontend.name)));
            }
            let route = Arc::new(Route {
                tls,
                accept_proxy: bind.accept_proxy,
                accept_tls_eof: frontend.accept_tls_eof,
                timeouts: Timeouts {
                    handshake: frontend.timeout_client_hs.or(frontend.timeout_client).unwrap_or(HANDSHAKE_TIMEOUT),
                    client: frontend.timeout_client,
                    client_fin: frontend.timeout_client_fin,
                    connect: backend.timeout_connect,
                    server: backend.timeout_server,
                    server_fin: backend.timeout_server_fin,
                    tunnel: backend.timeout_tunnel,
                },
                target: shared_backend.target.clone(),
                port_offset: server.port_offset,
                retries: backend.retries,
                abort_on_close: backend.abort_on_close,
                independent: Independent { client: frontend.independent_streams, server: backend.independent_streams },
                proxy: server.proxy.clone(),
            });
            let all = [&rates.connections, &rates.sessions, &shared_frontend.rate];
            let tls_rate = rates.tls.as_ref().filter(|_| bind.tls.is_some());
            let bind_rates: Vec<_> = all.into_iter().flatten().chain(tls_rate).cloned().collect();
            let tls_limit = limits.tls_connections.filter(|_| bind.tls.is_some());
            for address in &bind.addresses {
                number += 1;
                let key: &BindAddress = &address.value;
                let open = previous.and_then(|previous| previous.bind(key)).map(|bind| Arc::clone(&bind.open));
                let built = Arc::new(Bind {
                    key: key.clone(),
                    frontend: Arc::clone(&shared_frontend),
                    name: bind.name.clone().unwrap_or_else(|| number.to_string()),
                    number,
                    route: Arc::clone(&route),
                    backend: Arc::clone(shared_backend),
                    open: open.unwrap_or_default(),
                    maxconn: bind.maxconn,
                    rates: bind_rates.clone(),
                    tls_room: tls_limit.map(|limit| (limit, Arc::clone(&shared.stats))),
                });
                binds.insert(key.clone(), built);
            }
        }
        frontends.push(shared_frontend);
    }
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostics);
    }
    if let Some((file, _)) = material.sources.first().filter(|_| binds.is_empty()) {
        let at = Location { file: Arc::from(file.as_str()), line: 1, column: 1 };
        diagnostics.push(Diagnostic::notice("N411", &at, "no frontend listens: nothing is served"));
    }
    let snapshot = Snapshot {
        generation: material.generation,
        stats: Arc::clone(&shared.stats),
        log: given.targets(&model.process.logs, None),
        reject_privileged_ports: model.process.reject_privileged_ports,
        accepts: model.process.accepts.map(|number| number as usize),
        events: model.process.events.map(|number| number as usize),
        binds,
        frontends,
        backends,
        maxconn: material.maxconn,
        rates,
    };
    Ok(Built { snapshot, diagnostics, report })
}

/// The number of every section, by its name. A `listen` is one section.
fn numbers<'a>(model: &'a Model, sources: &[(String, Vec<u8>)]) -> HashMap<&'a str, u32> {
    let place = |at: &Location| (sources.iter().position(|(name, _)| **name == *at.file), at.line);
    let frontends = model.frontends.iter().map(|frontend| (place(&frontend.at), frontend.name.as_str()));
    let backends = model.backends.iter().map(|backend| (place(&backend.at), backend.name.as_str()));
    let mut sections: Vec<_> = frontends.chain(backends).collect();
    sections.sort_unstable();
    sections.dedup();
    sections.into_iter().zip(2..).map(|((_, name), number)| (name, number)).collect()
}

/// What a snapshot is built from.
struct Given<'a> {
    material: &'a Material,
    model: &'a Model,
    shared: &'a Shared,
    now: UnixTime,
}

impl Given<'_> {
    /// Every backend that has a server. One without is an error only if it is used.
    fn backends(&self, numbers: &HashMap<&str, u32>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Arc<Backend>> {
        let mut backends = Vec::new();
        for backend in &self.model.backends {
            let Some(server) = backend.servers.first() else { continue };
            let target = match target(server, self.material) {
                _ if server.disabled => None,
                Ok(target) => target,
                Err(diagnostic) => {
                    diagnostics.push(*diagnostic);
                    continue;
                }
            };
            backends.push(Arc::new(Backend {
                name: backend.name.clone(),
                number: numbers.get(&*backend.name).copied().unwrap_or_default(),
                server: server.name.clone(),
                target,
                socket: ServerSocket { options: server.tcp.clone(), source: server.source.clone() },
                counters: self.shared.stats.backend(&backend.name),
                server_counters: self.shared.stats.server(&backend.name, &server.name),
            }));
        }
        backends
    }

    /// `log` lines, compiled. `tag` is that of the section, if it has one.
    fn targets(&self, logs: &[LogTarget], tag: Option<&str>) -> Arc<Targets> {
        let (tag, host) = self.sender(tag);
        Targets::from_host(logs, tag, host)
    }

    /// `audit` lines, compiled.
    fn audit(&self, frontend: &model::Frontend) -> Arc<Targets> {
        let (tag, host) = self.sender(frontend.log_tag.as_deref());
        Targets::audit(&frontend.audits, tag, host)
    }

    /// Program and host in syslog lines.
    fn sender<'a>(&'a self, tag: Option<&'a str>) -> (&'a str, Option<&'a str>) {
        let process = &self.model.process;
        let tag = tag.or(process.log_tag.as_deref()).unwrap_or("bowline");
        (tag, process.log_host.as_ref().map(|host| host.name(&self.material.host)))
    }

    /// A rate, and the one before it if it is the same: a reload gives nobody another second's worth.
    fn rate(&self, limit: Option<u32>, before: Option<&Arc<Rate>>) -> Option<Arc<Rate>> {
        let limit = limit?;
        let same = before.filter(|before| before.limit() == limit);
        Some(same.map_or_else(|| Arc::new(Rate::new(limit, self.shared.started)), Arc::clone))
    }
}

/// TLS of a `bind` line, if it has any; the reason for an error is among the diagnostics.
fn tls(
    bind: &model::Bind,
    frontend: &model::Frontend,
    given: &Given<'_>,
    store: &mut Store<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Option<Arc<TlsPolicy>>, ()> {
    let Given { model, shared, now, .. } = *given;
    let Some(tls) = &bind.tls else { return Ok(None) };
    let key = bind.addresses.first().map(|address| &address.value);
    // What a ticket is bound to.
    let listener = match &bind.name {
        Some(name) => format!("{}/{name}", frontend.name),
        None => format!("{}/{key:?}", frontend.name),
    };
    let model::Process { session_lifetime, session_blocks, records, .. } = &model.process;
    let limits = Limits { lifetime: *session_lifetime, blocks: *session_blocks, records: *records };
    let (policy, found) = policy::build(tls, store, &shared.tickets, limits, &listener, now);
    diagnostics.extend(found);
    policy.map(|policy| Some(Arc::new(policy))).ok_or(())
}

/// Where a server is, its name replaced by what it resolved to; `None`: it has no address, and `init-addr` allows that.
fn target(server: &model::Server, material: &Material) -> Result<Option<Target>, Box<Diagnostic>> {
    Ok(Some(match &server.address.value {
        ServerAddress::Inet(address) => Target::Inet(*address),
        ServerAddress::Unix(path) => Target::Unix(path.clone()),
        ServerAddress::Abstract(name) => Target::Abstract(name.clone()),
        ServerAddress::Name { host, port, .. } => {
            let resolved = material.names.get(&(host.clone(), *port)).and_then(|addresses| server.choose(addresses));
            let instead = || server.init_addr.iter().find(|method| **method != InitAddr::Libc);
            match (resolved, instead()) {
                (Some(address), _) => Target::Inet(address),
                (None, Some(InitAddr::Ip(address))) => Target::Inet(SocketAddr::new(*address, *port)),
                (None, Some(_)) => return Ok(None),
                (None, None) => {
                    let message = format!("the name '{host}' has no address");
                    return Err(Box::new(Diagnostic::error("E230", &server.address.at, message)));
                }
            }
        }
    }))
}
