//! Host names of servers: looked up at a start, at a reload, and, with `resolve-interval`, in between.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{Family, InitAddr, Model, Server};
use crate::material::Material;
use crate::sys::reason;

/// Host names that are looked up at the same time.
const RESOLVERS: usize = 16;

/// A host name and a port.
pub(super) type Name = (String, u16);
/// What names resolved to, best first.
pub(super) type Names = BTreeMap<Name, Vec<SocketAddr>>;

/// What a look-up brought, or why nothing.
pub(super) type Answer = Result<Vec<SocketAddr>, String>;

type Resolve<'a> = &'a (dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Sync);

/// Asks the system, which may take its time.
fn ask_system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    #[expect(clippy::disallowed_methods, reason = "this is the master, at a start or on a thread of its own")]
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Looks up every name that has to be; one that fails keeps the addresses it had, or is left out where `init-addr` knows
/// what to do without.
pub(super) fn resolve_all(model: &Model, previous: Option<&Material>) -> (Names, Vec<Diagnostic>) {
    resolve_with(model, previous, &ask_system)
}

/// Looks up some names; an answer is what counts of it, or why there is nothing.
pub(super) fn resolve(wanted: &[Name], family: Option<Family>) -> Vec<Answer> {
    ask(wanted, family, &ask_system)
}

fn resolve_with(model: &Model, previous: Option<&Material>, resolve: Resolve<'_>) -> (Names, Vec<Diagnostic>) {
    let mut wanted: BTreeMap<Name, &Server> = BTreeMap::new();
    for server in model.backends.iter().flat_map(|backend| &backend.servers) {
        let first = server.init_addr.first().copied().unwrap_or(InitAddr::Libc);
        if let Some(name) = server.name().filter(|_| first == InitAddr::Libc) {
            let strictest = wanted.entry(name).or_insert(server);
            if instead_of_an_address(server).is_none() {
                *strictest = server;
            }
        }
    }
    let list: Vec<Name> = wanted.keys().cloned().collect();
    let answers = ask(&list, model.process.name_family, resolve);
    let mut names = Names::new();
    let mut diagnostics = Vec::new();
    for ((name, server), answer) in wanted.into_iter().zip(answers) {
        let failure = match answer {
            Ok(addresses) => {
                names.insert(name, addresses);
                continue;
            }
            Err(failure) => failure,
        };
        let (host, at) = (&name.0, &server.address.at);
        let last = previous.and_then(|previous| previous.names.get(&name));
        if let Some(last) = last {
            let kept: Vec<String> = last.iter().map(|address| address.ip().to_string()).collect();
            let message = format!("cannot resolve '{host}': {failure}; keeping {}", kept.join(", "));
            diagnostics.push(Diagnostic::warning("W601", at, message));
            names.insert(name, last.clone());
        } else if let Some(instead) = instead_of_an_address(server) {
            let instead = match instead {
                InitAddr::Ip(address) => format!("going to {address}"),
                _ => "its clients are turned away".into(),
            };
            let message = format!("cannot resolve '{host}': {failure}; {instead}, as 'init-addr' says");
            diagnostics.push(Diagnostic::warning("W601", at, message));
        } else {
            diagnostics.push(Diagnostic::error("E601", at, format!("cannot resolve '{host}': {failure}")));
        }
    }
    (names, diagnostics)
}

/// What `init-addr` says for when a name does not resolve.
fn instead_of_an_address(server: &Server) -> Option<InitAddr> {
    server.init_addr.iter().copied().find(|method| *method != InitAddr::Libc)
}

/// Asks for all names, some at a time.
fn ask(wanted: &[Name], family: Option<Family>, resolve: Resolve<'_>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(wanted.len());
    for batch in wanted.chunks(RESOLVERS) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = batch.iter().map(|(host, port)| scope.spawn(move || resolve(host, *port))).collect();
            let failed = |_| Err(io::Error::other("the resolver failed"));
            answers.extend(threads.into_iter().map(|thread| thread.join().unwrap_or_else(failed)));
        });
    }
    let counts = |address: &SocketAddr| family.is_none_or(|family| (family == Family::Ipv4) == address.is_ipv4());
    answers
        .into_iter()
        .map(|answer| {
            let mut addresses = answer.map_err(|error| reason(&error))?;
            addresses.retain(counts);
            if addresses.is_empty() {
                return Err(match family {
                    None => "it has no address".into(),
                    Some(Family::Ipv4) => "it has no IPv4 address".into(),
                    Some(Family::Ipv6) => "it has no IPv6 address".into(),
                });
            }
            Ok(addresses)
        })
        .collect()
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
