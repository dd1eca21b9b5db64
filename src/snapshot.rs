//! [`Snapshot`]: the built, immutable answer to one [`Material`], shared by all loops until the next is adopted.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustls::pki_types::UnixTime;

use crate::conf;
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{self, BindAddress, Location, Model, ServerAddress};
use crate::log::Targets;
use crate::material::{ListenerKey, Material};
use crate::proto::route::{Route, Timeouts};
use crate::proto::wire::Target;
use crate::stats::{BackendCounters, FrontendCounters, ServerCounters, Stats};
use crate::tls::policy::{self, Expiring, Store, TlsPolicy};
use crate::tls::tickets::TicketKeys;

/// `timeout client-hs` where neither it nor `timeout client` is set: a client that has proved nothing never stays for ever.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What outlives generations: the worker makes it once.
pub struct Shared {
    /// Counters.
    pub stats: Arc<Stats>,
    /// Keys of session tickets.
    pub tickets: Arc<TicketKeys>,
}

/// What is in force.
pub struct Snapshot {
    /// Its number, from 1.
    pub generation: u64,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Targets of the process's own messages.
    pub log: Arc<Targets>,
    binds: HashMap<ListenerKey, Arc<Bind>>,
    maxconn: u32,
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
    /// SO_KEEPALIVE towards the server.
    pub server_keepalive: bool,
    /// Connections open through it.
    pub open: Arc<AtomicU32>,
    maxconn: Option<u32>,
}

/// What a frontend's connections share.
pub struct Frontend {
    /// Section name.
    pub name: String,
    /// Traffic log.
    pub log: Arc<Targets>,
    /// `option tcplog`.
    pub tcplog: bool,
    /// `option dontlognull`.
    pub dontlognull: bool,
    /// SO_KEEPALIVE towards clients.
    pub keepalive: bool,
    /// TCP_KEEPIDLE towards clients; `None`: the system's.
    pub keepalive_idle: Option<Duration>,
    /// Counters.
    pub counters: Arc<FrontendCounters>,
    maxconn: Option<u32>,
}

/// What a backend's connections share.
pub struct Backend {
    /// Section name.
    pub name: String,
    /// Name of its server.
    pub server: String,
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
    let given = Given { model: &model, shared, now };
    let (mut store, found) = Store::new(&model.process.certificate_files, &material.files);
    diagnostics.extend(found);
    let policies = previous.into_iter().flat_map(|previous| previous.binds.values());
    policies.filter_map(|bind| bind.route.tls.as_ref()).for_each(|policy| policy.remember_in(&mut store));
    let mut report = Vec::new();
    let mut binds = HashMap::new();
    for frontend in &model.frontends {
        let shared_frontend = Arc::new(Frontend {
            name: frontend.name.clone(),
            log: Targets::new(&frontend.logs, log_tag(&model)),
            tcplog: frontend.tcplog,
            dontlognull: frontend.dontlognull,
            keepalive: frontend.keepalive,
            keepalive_idle: frontend.keepalive_idle,
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
        let target = match target(server, material) {
            Ok(target) => target,
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                continue;
            }
        };
        let shared_backend = Arc::new(Backend {
            name: backend.name.clone(),
            server: server.name.clone(),
            counters: shared.stats.backend(&backend.name),
            server_counters: shared.stats.server(&backend.name, &server.name),
        });
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
                target: target.clone(),
                proxy: server.proxy.clone(),
            });
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
                    backend: Arc::clone(&shared_backend),
                    server_keepalive: backend.keepalive,
                    open: open.unwrap_or_default(),
                    maxconn: bind.maxconn,
                });
                binds.insert(key.clone(), built);
            }
        }
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
        log: Targets::new(&model.process.logs, log_tag(&model)),
        binds,
        maxconn: material.maxconn,
    };
    Ok(Built { snapshot, diagnostics, report })
}

fn log_tag(model: &Model) -> &str {
    model.process.log_tag.as_deref().unwrap_or("bowline")
}

/// What a snapshot is built from.
struct Given<'a> {
    model: &'a Model,
    shared: &'a Shared,
    now: UnixTime,
}

/// TLS of a `bind` line, if it has any; the reason for an error is among the diagnostics.
fn tls(
    bind: &model::Bind,
    frontend: &model::Frontend,
    given: &Given<'_>,
    store: &mut Store<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Option<Arc<TlsPolicy>>, ()> {
    let Given { model, shared, now } = *given;
    let Some(tls) = &bind.tls else { return Ok(None) };
    let key = bind.addresses.first().map(|address| &address.value);
    // What a ticket is bound to.
    let listener = match &bind.name {
        Some(name) => format!("{}/{name}", frontend.name),
        None => format!("{}/{key:?}", frontend.name),
    };
    let lifetime = model.process.session_lifetime;
    let (policy, found) = policy::build(tls, store, &shared.tickets, lifetime, &listener, now);
    diagnostics.extend(found);
    policy.map(|policy| Some(Arc::new(policy))).ok_or(())
}

/// Where a server is, its name replaced by what it resolved to.
fn target(server: &model::Server, material: &Material) -> Result<Target, Box<Diagnostic>> {
    Ok(match &server.address.value {
        ServerAddress::Inet(address) => Target::Inet(*address),
        ServerAddress::Unix(path) => Target::Unix(path.clone()),
        ServerAddress::Abstract(name) => Target::Abstract(name.clone()),
        ServerAddress::Name { host, port, family } => {
            let addresses = material.names.get(&(host.clone(), *port)).map(Vec::as_slice).unwrap_or_default();
            let wanted = addresses.iter().find(|address| match family {
                None => true,
                Some(model::Family::Ipv4) => address.is_ipv4(),
                Some(model::Family::Ipv6) => address.is_ipv6(),
            });
            match wanted {
                Some(address) => Target::Inet(*address),
                None => {
                    return Err(Box::new(Diagnostic::error(
                        "E230",
                        &server.address.at,
                        format!("the name '{host}' has no address"),
                    )));
                }
            }
        }
    })
}
