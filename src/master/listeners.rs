//! The listening sockets. The master opens them, keeps them across reloads and crashes, and gives copies to the worker.

mod unix;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::libc;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use self::unix::{SocketName, bind_unix};
use super::listener_name;
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{AdminSocket, BindAddress, ListenOptions, Location, Model, Spread, UnixPermissions};
use crate::ipc::{Admin, DescriptorRole};
use crate::material::ListenerKey;
use crate::report::{ReportLevel, ReportLine};
use crate::socket::{self as options, change_listening, set_listening};
use crate::sys::{Inherited, privileges, reason};

/// Queue of connections that wait to be accepted, where the configuration says nothing; the kernel lowers it to
/// net.core.somaxconn.
const BACKLOG_DEFAULT: u32 = 4096;
/// The same for sockets of the process itself.
const ADMIN_BACKLOG: u32 = 32;

/// A listener that the configuration asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// What to listen on.
    pub(super) key: ListenerKey,
    /// Where it is asked for.
    pub(super) at: Location,
    backlog: u32,
    permissions: UnixPermissions,
    socket: ListenOptions,
    spread: Spread,
    /// What the worker does with it; `None`: it takes the clients of a frontend.
    admin: Option<Admin>,
}

impl Wanted {
    /// Whether it takes the clients of a frontend.
    pub(super) fn is_for_clients(&self) -> bool {
        self.admin.is_none()
    }

    /// Descriptors that it takes in the worker, its clients included where `maxconn` does not count them.
    pub(super) fn descriptors(&self, loops: u16) -> usize {
        self.admin.as_ref().map_or(usize::from(loops), |admin| 1 + admin.maxconn as usize)
    }
}

/// Why a service that has listeners for clients does not take a configuration that asks for none.
pub(super) fn nobody_wanted() -> ReportLine {
    let text =
        "there is no 'bind' any more, which would close every listener: is a file empty or cut off? To stop, send TERM";
    ReportLine::new(ReportLevel::Error, text)
}

/// All listeners that a model and `-S` ask for; the parser has seen to it that each address of the model is there once.
pub(super) fn wanted(model: &Model, master_socket: Option<&AdminSocket>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for socket in model.process.admin_sockets.iter().chain(master_socket) {
        wanted.push(Wanted {
            key: socket.address.value.clone(),
            at: socket.address.at.clone(),
            backlog: socket.backlog.unwrap_or(ADMIN_BACKLOG),
            permissions: socket.unix.clone(),
            socket: ListenOptions::default(),
            spread: Spread::default(),
            admin: Some(Admin {
                purpose: socket.purpose,
                name: socket.address.value.to_string(),
                timeout: model.process.admin_timeout,
                maxconn: socket.maxconn.unwrap_or(model.process.admin_maxconn),
            }),
        });
    }
    for frontend in &model.frontends {
        for bind in &frontend.binds {
            let backlog = bind.backlog.or(frontend.backlog).or(frontend.maxconn).unwrap_or(BACKLOG_DEFAULT);
            wanted.extend(bind.addresses.iter().map(|address| Wanted {
                key: address.value.clone(),
                at: address.at.clone(),
                backlog,
                permissions: bind.unix.clone(),
                socket: bind.socket.clone(),
                spread: bind.spread.clone(),
                admin: None,
            }));
        }
    }
    wanted
}

/// Names of sockets that systemd has passed and nobody will take connections from.
pub(super) fn unused<'a>(wanted: &[Wanted], inherited: &'a Inherited) -> Vec<&'a str> {
    let is_wanted = |name: &str, number: i32| {
        wanted.iter().any(|one| match &one.key {
            BindAddress::Named(wanted) => wanted == name,
            BindAddress::Descriptor(wanted) => *wanted == number,
            _ => false,
        })
    };
    inherited.named().filter(|(name, number)| !is_wanted(name, *number)).map(|(name, _)| name).collect()
}

/// A listener that is open: one socket per event loop, or one for all where the kernel cannot spread connections.
#[derive(Debug)]
pub(super) struct Open {
    key: ListenerKey,
    sockets: Vec<Arc<OwnedFd>>,
    permissions: UnixPermissions,
    /// The options that they have; `None` where that is not known.
    options: Option<ListenOptions>,
    /// How the event loops share them; means nothing where the options are not known.
    spread: Spread,
    is_for_clients: bool,
    /// Removes the socket's name with the last use of it.
    name: Option<SocketName>,
}

/// A listening socket that was open before this program began.
#[derive(Debug)]
pub(super) struct Kept {
    /// What it listens on.
    pub(super) key: ListenerKey,
    /// Whether it takes the clients of a frontend.
    pub(super) is_for_clients: bool,
    /// Close-on-exec.
    pub(super) socket: OwnedFd,
}

/// The sockets in force.
#[derive(Debug)]
pub(super) struct Listeners {
    open: BTreeMap<ListenerKey, Open>,
}

impl Listeners {
    /// Those that were kept; what is not what it is said to be is closed.
    pub(super) fn new(kept: Vec<Kept>) -> Self {
        let mut open: BTreeMap<ListenerKey, Open> = BTreeMap::new();
        for Kept { key, is_for_clients, socket } in kept {
            match identify(&key, &socket) {
                Ok(name) => {
                    let one = open.entry(key.clone()).or_insert(Open {
                        key,
                        sockets: Vec::new(),
                        permissions: UnixPermissions::default(),
                        options: None,
                        spread: Spread::default(),
                        is_for_clients,
                        name,
                    });
                    one.sockets.push(Arc::new(socket));
                }
                Err(error) => log::warn!("the socket that was kept for {key} is not used: {}", reason(&error)),
            }
        }
        Self { open }
    }

    /// Whether there is none for clients.
    pub(super) fn serve_nobody(&self) -> bool {
        self.for_clients().next().is_none()
    }

    /// Opens what is wanted and not open yet, for so many event loops. Nothing changes for what is open; that it can be changed
    /// as wanted is tried on a socket that nobody uses.
    ///
    /// # Errors
    /// Each address that failed, and why; everything opened by this call is closed again.
    pub(super) fn open_missing(
        &self,
        wanted: &[Wanted],
        inherited: &Inherited,
        loops: u16,
    ) -> Result<Vec<Open>, Vec<Diagnostic>> {
        let (mut opened, mut errors) = (Vec::new(), Vec::new());
        for (place, one) in wanted.iter().enumerate() {
            let result = match self.open.get(&one.key) {
                _ if wanted[..place].iter().any(|before| before.key == one.key) => {
                    Err(io::Error::other("the configuration and -S ask for the same address"))
                }
                Some(open) if open.is_for_clients == one.is_for_clients() => {
                    opened.extend(open.open_more(one, loops));
                    open.try_change(one, loops)
                }
                Some(_) => {
                    Err(io::Error::other("remove the socket first, with a reload, then use its address for another"))
                }
                None => self.open_one(one, &opened, inherited, loops).map(|open| opened.push(open)),
            };
            errors.extend(result.err().map(|error| refusal(one, &error)));
        }
        if errors.is_empty() { Ok(opened) } else { Err(errors) }
    }

    fn open_one(&self, wanted: &Wanted, opened: &[Open], inherited: &Inherited, loops: u16) -> io::Result<Open> {
        let mut name = None;
        let count = if wanted.is_for_clients() { sockets_of(&wanted.spread, loops)? } else { 1 };
        let sockets = match &wanted.key {
            BindAddress::Inet { address, .. } => {
                let of_port = |key: &ListenerKey| matches!(key, BindAddress::Inet { address: other, .. } if other.port() == address.port());
                let own = self.open.keys().chain(opened.iter().map(|open| &open.key)).any(of_port);
                if !own && !wanted.spread.no_reuse_port {
                    // SO_REUSEPORT would quietly share the port with another process of the same user.
                    bind_inet(wanted, false)?;
                }
                (0..count).map(|_| listen_inet(wanted)).collect::<io::Result<_>>()?
            }
            BindAddress::Unix(path) => {
                let (socket, own) = bind_unix(path, &wanted.permissions, backlog_of(wanted))?;
                name = Some(own);
                vec![socket]
            }
            BindAddress::Abstract(bytes) => vec![bind_abstract(bytes, backlog_of(wanted))?],
            BindAddress::Descriptor(number) => vec![take_listener(inherited, *number)?],
            BindAddress::Named(name) => take_listeners(inherited, name)?,
        };
        if matches!(wanted.key, BindAddress::Descriptor(_) | BindAddress::Named(_)) {
            for socket in sockets.iter().filter(has_tcp) {
                // What the service manager's unit says stays, unless something else is asked for.
                set_listening(socket, &wanted.socket, wanted.backlog)?;
            }
        }
        Ok(Open::new(wanted, sockets, name))
    }

    /// Makes the wanted set the one in force: keeps what was opened for it and closes what it has no more. To be called when the
    /// worker has adopted it. Returns what was added and what was closed.
    pub(super) fn commit(&mut self, wanted: &[Wanted], opened: Vec<Open>) -> (Vec<ListenerKey>, Vec<ListenerKey>) {
        let mut added = Vec::new();
        for one in opened {
            match self.open.get_mut(&one.key) {
                Some(open) => open.sockets.extend(one.sockets),
                None => {
                    added.push(one.key.clone());
                    self.open.insert(one.key.clone(), one);
                }
            }
        }
        let before = std::mem::take(&mut self.open);
        let (kept, closed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            before.into_iter().partition(|(key, _)| wanted.iter().any(|one| one.key == *key));
        self.open = kept;
        for one in wanted {
            if let Some(open) = self.open.get_mut(&one.key) {
                open.change_permissions(&one.permissions);
                if open.options.is_none() {
                    open.spread.clone_from(&one.spread);
                }
                open.change(one);
            }
        }
        (added, closed.into_keys().collect())
    }

    /// What a reload asks of open sockets and only new ones can have: a warning for each.
    pub(super) fn unchangeable(&self, wanted: &[Wanted]) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for (one, open) in wanted.iter().filter_map(|one| Some((one, self.open.get(&one.key)?))) {
            let Some(before) = &open.options else { continue };
            if one.spread != open.spread && one.is_for_clients() {
                let message =
                    "'thread', 'shards' and 'noreuseport' take effect when a socket is opened; this one is open";
                found.push(Diagnostic::warning("W611", &one.at, message).help("restart, or listen at another address"));
            }
            let given_up = |before: Option<u32>, after: Option<u32>| before.is_some() && after.is_none();
            let (before, after) = (&before.tcp, &one.socket.tcp);
            if given_up(before.receive_buffer, after.receive_buffer) || given_up(before.send_buffer, after.send_buffer)
            {
                let message = "this socket is open and keeps its buffers: 'tune.rcvbuf.client' and 'tune.sndbuf.client' can be \
                               changed by a reload, but not taken back";
                found.push(Diagnostic::warning("W611", &one.at, message));
            }
        }
        found
    }

    /// Everything that is open.
    pub(super) fn all(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// Everything that is open and goes to the loops, for a worker that has nothing yet.
    pub(super) fn for_clients(&self) -> impl Iterator<Item = &Open> {
        self.open.values().filter(|open| open.is_for_clients)
    }

    /// The sockets of the process itself that are wanted, open or just opened. A worker gets all of them with every
    /// configuration: those that do not come again are gone.
    pub(super) fn of_process(&self, wanted: &[Wanted], opened: &[Open]) -> Vec<(DescriptorRole, Arc<OwnedFd>)> {
        let find = |one: &Wanted| {
            let open = self.open.get(&one.key).or_else(|| opened.iter().find(|open| open.key == one.key))?;
            Some((DescriptorRole::Admin(one.admin.clone()?), open.sockets.first()?.clone()))
        };
        wanted.iter().filter_map(find).collect()
    }

    /// Closes what clients connect to: from now on they are refused, once the worker has closed its copies too. The sockets of
    /// the process itself stay until its end.
    pub(super) fn close_to_clients(&mut self) {
        self.open.retain(|_, open| !open.is_for_clients);
    }
}

/// What the loops of a worker get: each that accepts a socket of every listener at least, and each socket a loop at least.
/// Sockets may be fewer (they are shared) or more (there were more loops once) than loops.
pub(super) fn for_loops<'a>(open: impl Iterator<Item = &'a Open>, loops: u16) -> Vec<(DescriptorRole, Arc<OwnedFd>)> {
    let mut by_key: BTreeMap<&ListenerKey, (&Spread, Vec<&Arc<OwnedFd>>)> = BTreeMap::new();
    for open in open.filter(|open| open.is_for_clients) {
        by_key.entry(&open.key).or_insert((&open.spread, Vec::new())).1.extend(&open.sockets);
    }
    let mut shared_out = Vec::new();
    for (key, (spread, sockets)) in by_key {
        let accepting = loops_of(spread, loops);
        for place in 0..accepting.len().max(sockets.len()) {
            let role = DescriptorRole::Listener { key: key.clone(), loop_index: accepting[place % accepting.len()] };
            shared_out.push((role, Arc::clone(sockets[place % sockets.len()])));
        }
    }
    shared_out
}

impl Open {
    fn new(wanted: &Wanted, sockets: Vec<OwnedFd>, name: Option<SocketName>) -> Self {
        Self {
            key: wanted.key.clone(),
            sockets: sockets.into_iter().map(Arc::new).collect(),
            permissions: wanted.permissions.clone(),
            options: Some(wanted.socket.clone()),
            spread: wanted.spread.clone(),
            is_for_clients: wanted.is_for_clients(),
            name,
        }
    }

    /// What it listens on.
    pub(super) fn key(&self) -> &ListenerKey {
        &self.key
    }

    /// Whether it takes the clients of a frontend.
    pub(super) fn is_for_clients(&self) -> bool {
        self.is_for_clients
    }

    /// Its name in the manager's store. A socket with a path is not stored: the path goes with this process.
    pub(super) fn store_name(&self) -> Option<String> {
        listener_name::encode(&self.key).filter(|_| self.is_for_clients && self.name.is_none())
    }

    /// Its sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        self.sockets.iter()
    }

    /// The sockets that are missing where every loop can have its own. If that fails, loops share those that there are.
    fn open_more(&self, wanted: &Wanted, loops: u16) -> Option<Self> {
        if !matches!(self.key, BindAddress::Inet { .. }) || self.spread.no_reuse_port {
            return None;
        }
        let missing = sockets_of(&wanted.spread, loops).ok()?.saturating_sub(self.sockets.len());
        let sockets = (0..missing).map(|_| listen_inet(wanted)).collect::<io::Result<Vec<_>>>();
        let sockets = sockets.unwrap_or_else(|error| {
            log::debug!("no more sockets for {}: {}", self.key, reason(&error));
            Vec::new()
        });
        (self.is_for_clients && !sockets.is_empty()).then(|| Self::new(wanted, sockets, None))
    }

    /// Whether it could become what is wanted.
    fn try_change(&self, wanted: &Wanted, loops: u16) -> io::Result<()> {
        sockets_of(&wanted.spread, loops)?;
        owner(&wanted.permissions)?;
        if self.options.as_ref() == Some(&wanted.socket) {
            return Ok(());
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        set_listening(&socket, &wanted.socket, wanted.backlog)
    }

    /// Gives open sockets what they can still be given.
    fn change(&mut self, wanted: &Wanted) {
        let before = self.options.take().unwrap_or_else(options::unknown);
        for socket in &self.sockets {
            // A second listen(2) changes the queue of an open socket; failing, it leaves the old one.
            if let Ok(backlog) = Backlog::new(backlog_of(wanted)) {
                let _ = socket::listen(socket, backlog);
            }
            if has_tcp(socket) {
                if let Err(error) = change_listening(socket, &before, &wanted.socket, wanted.backlog) {
                    log::warn!("{}: {}", self.key, reason(&error));
                }
            }
        }
        self.options = Some(wanted.socket.clone());
    }

    /// Gives the path what a reload asks for.
    fn change_permissions(&mut self, wanted: &UnixPermissions) {
        if let Some(name) = self.name.as_ref().filter(|_| self.permissions != *wanted) {
            match name.change_permissions(wanted) {
                Ok(()) => log::info!("changed the permissions of {}", self.key),
                Err(error) => log::warn!("cannot change the permissions of {}: {}", self.key, reason(&error)),
            }
        }
        self.permissions.clone_from(wanted);
    }
}

/// User and group, as numbers.
fn owner(permissions: &UnixPermissions) -> io::Result<(Option<u32>, Option<u32>)> {
    let user = permissions.user.as_deref().map(privileges::find_user).transpose()?;
    let group = permissions.group.as_deref().map(privileges::find_group).transpose()?;
    Ok((user.map(|(uid, _)| uid), group))
}

/// Indexes of the event loops that accept, of so many: all, where `thread` names none of them.
fn loops_of(spread: &Spread, loops: u16) -> Vec<u16> {
    let accepts = |index: &u16| spread.threads.as_ref().is_none_or(|threads| threads.contains(&(index + 1)));
    let accepting: Vec<u16> = (0..loops).filter(accepts).collect();
    if accepting.is_empty() { (0..loops).collect() } else { accepting }
}

/// How many sockets an address has for so many event loops.
fn sockets_of(spread: &Spread, loops: u16) -> io::Result<usize> {
    if spread.threads.as_ref().is_some_and(|threads| threads.range(1..=loops).next().is_none()) {
        return Err(io::Error::other(format!("'thread' names no thread that is there; there are {loops}")));
    }
    let accepting = loops_of(spread, loops).len();
    Ok(spread.sockets.map_or(accepting, |count| accepting.min(count.into())))
}

fn backlog_of(wanted: &Wanted) -> i32 {
    i32::try_from(wanted.backlog).unwrap_or(i32::MAX).max(1)
}

fn refusal(wanted: &Wanted, error: &io::Error) -> Diagnostic {
    let words = reason(error);
    let (reason, help) = match (&wanted.key, error.raw_os_error()) {
        (BindAddress::Inet { address, .. }, Some(libc::EADDRINUSE)) => {
            let help = format!("who holds it: ss -ltnp 'sport = :{}'", address.port());
            ("already in use by another process", Some(help))
        }
        (BindAddress::Inet { .. }, Some(libc::EADDRNOTAVAIL)) => {
            ("no interface has this address", Some("see the addresses there are with: ip -brief address".to_owned()))
        }
        (BindAddress::Inet { address, .. }, Some(libc::EACCES | libc::EPERM)) if address.port() < 1024 => {
            ("ports below 1024 need root or CAP_NET_BIND_SERVICE", None)
        }
        (BindAddress::Abstract(_), Some(libc::EADDRINUSE)) => ("already in use by another process", None),
        _ => (words.as_str(), None),
    };
    let diagnostic = Diagnostic::error("E602", &wanted.at, format!("cannot listen on {}: {reason}", wanted.key));
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// A socket with everything but its queue.
fn bind_inet(wanted: &Wanted, reuse_port: bool) -> io::Result<Socket> {
    let BindAddress::Inet { address, v6only, interface } = &wanted.key else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    // socket2 sets close-on-exec.
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if let (SocketAddr::V6(_), Some(only)) = (address, v6only) {
        socket.set_only_v6(*only)?;
    }
    if let Some(name) = interface {
        socket.bind_device(Some(name.as_bytes())).map_err(|error| no_interface(name, &error))?;
    }
    set_listening(&socket, &wanted.socket, wanted.backlog)?;
    socket.bind(&SockAddr::from(*address))?;
    Ok(socket)
}

fn listen_inet(wanted: &Wanted) -> io::Result<OwnedFd> {
    let socket = bind_inet(wanted, !wanted.spread.no_reuse_port)?;
    socket.listen(backlog_of(wanted))?;
    Ok(socket.into())
}

fn no_interface(name: &str, error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENODEV) => io::Error::other(format!("there is no network interface '{name}'")),
        _ => io::Error::other(format!("'interface {name}': {}", reason(error))),
    }
}

fn has_tcp(socket: &impl AsFd) -> bool {
    SockRef::from(socket).domain().is_ok_and(|domain| domain != Domain::UNIX)
}

fn bind_abstract(name: &[u8], backlog: i32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    socket::listen(&socket, Backlog::new(backlog)?)?;
    Ok(socket)
}

fn take_listener(inherited: &Inherited, number: i32) -> io::Result<OwnedFd> {
    let not_there = || io::Error::other(format!("this process was not started with an open descriptor {number}"));
    let socket = inherited.duplicate(number).map_err(|_| not_there())?;
    check_listening(socket).map_err(|error| io::Error::other(format!("descriptor {number} {}", reason(&error))))
}

/// All sockets that systemd passed under a name.
fn take_listeners(inherited: &Inherited, name: &str) -> io::Result<Vec<OwnedFd>> {
    let listening = |socket| {
        check_listening(socket)
            .map_err(|error| io::Error::other(format!("what was passed under this name {}", reason(&error))))
    };
    inherited.duplicate_named(name)?.into_iter().map(listening).collect()
}

fn check_listening(socket: OwnedFd) -> io::Result<OwnedFd> {
    let socket = Socket::from(socket);
    if !socket.is_listener().unwrap_or(false) || socket.r#type()? != Type::STREAM {
        return Err(io::Error::other("is no listening socket"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Checks that a socket that was kept is the listener that it is said to be. Answers its name in the file system.
fn identify(key: &ListenerKey, socket: &OwnedFd) -> io::Result<Option<SocketName>> {
    let socket = SockRef::from(socket);
    if !socket.is_listener().unwrap_or(false) {
        return Err(io::Error::other("it is no listening socket"));
    }
    match key {
        BindAddress::Inet { address, .. } if socket.local_addr()?.as_socket() != Some(*address) => {
            Err(io::Error::other("it listens elsewhere"))
        }
        BindAddress::Unix(path) => SocketName::find(path).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
#[path = "listeners_tests.rs"]
mod tests;
