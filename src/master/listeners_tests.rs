use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, IntoRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

fn want(key: ListenerKey) -> Wanted {
    let at = Location { file: "test.cfg".into(), line: 3, column: 7 };
    let (permissions, socket, spread) = (UnixPermissions::default(), ListenOptions::default(), Spread::default());
    Wanted { key, at, backlog: 16, permissions, socket, spread, admin: None }
}

fn inet(address: SocketAddr) -> Wanted {
    want(BindAddress::Inet { address, v6only: None, interface: None })
}

fn inherited() -> Inherited {
    Inherited::note().unwrap()
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn error_of(listeners: &Listeners, wanted: Wanted) -> Diagnostic {
    let mut errors = listeners.open_missing(&[wanted], &inherited(), 2).unwrap_err();
    assert_eq!(errors.len(), 1);
    errors.remove(0)
}

#[test]
fn every_loop_has_its_own_socket_and_clients_get_in() {
    let listeners = Listeners::new(Vec::new());
    let address = free_address();
    let opened = listeners.open_missing(&[inet(address)], &inherited(), 3).unwrap();
    let roles = for_loops(opened.iter(), 3);
    assert_eq!(roles.len(), 3);
    let mut numbers: Vec<_> = roles.iter().map(|(_, descriptor)| descriptor.as_raw_fd()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 3);
    for (index, (role, descriptor)) in roles.iter().enumerate() {
        let key = inet(address).key;
        assert_eq!(*role, DescriptorRole::Listener { key, loop_index: index as u16 });
        let flags = nix::fcntl::fcntl(descriptor.as_fd(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        let listener = TcpListener::from(descriptor.try_clone().unwrap());
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
    TcpStream::connect(address).unwrap();
}

#[test]
fn a_port_that_another_listener_has_is_refused_even_if_it_would_share() {
    let taken = bind_inet(&inet("127.0.0.1:0".parse().unwrap()), true).unwrap();
    taken.listen(1).unwrap();
    let address = taken.local_addr().unwrap().as_socket().unwrap();
    let error = error_of(&Listeners::new(Vec::new()), inet(address));
    assert_eq!(error.message, format!("cannot listen on {address}: already in use by another process"));
    assert_eq!((error.code, error.at.line), ("E602", 3));
}

#[test]
fn an_address_of_nobody_is_named() {
    let error = error_of(&Listeners::new(Vec::new()), inet("192.0.2.1:4433".parse().unwrap()));
    assert!(error.message.contains("192.0.2.1:4433: no interface has this address"), "{}", error.message);
}

#[test]
fn a_reload_keeps_opens_and_closes() {
    let (kept, removed, added) = (free_address(), free_address(), free_address());
    let mut listeners = Listeners::new(Vec::new());
    let before = [inet(kept), inet(removed)];
    let opened = listeners.open_missing(&before, &inherited(), 2).unwrap();
    listeners.commit(&before, opened);
    let numbers = |listeners: &Listeners| -> Vec<i32> {
        let open = listeners.for_clients().filter(|open| open.key == inet(kept).key);
        for_loops(open, 2).iter().map(|(_, descriptor)| descriptor.as_raw_fd()).collect()
    };
    let sockets = numbers(&listeners);

    let after = [inet(kept), inet(added)];
    let opened = listeners.open_missing(&after, &inherited(), 2).unwrap();
    assert_eq!(opened.len(), 1, "what is open is not opened again");
    TcpStream::connect(removed).expect("nothing is closed before the worker has adopted");
    let (new, gone) = listeners.commit(&after, opened);
    assert_eq!((new, gone), (vec![inet(added).key], vec![inet(removed).key]));
    assert_eq!(numbers(&listeners), sockets);
    TcpStream::connect(kept).unwrap();
    TcpStream::connect(added).unwrap();
    assert!(TcpStream::connect(removed).is_err());
}

#[test]
fn a_failed_reload_closes_what_it_opened() {
    let good = free_address();
    let mut listeners = Listeners::new(Vec::new());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let both = [inet(good), inet(taken.local_addr().unwrap())];
    assert_eq!(listeners.open_missing(&both, &inherited(), 2).unwrap_err().len(), 1);
    assert!(TcpStream::connect(good).is_err());

    let opened = listeners.open_missing(&[inet(good)], &inherited(), 2).unwrap();
    drop(opened);
    assert!(TcpStream::connect(good).is_err());
    listeners.close_to_clients();
}

#[test]
fn a_wildcard_beside_an_own_address_of_the_same_port() {
    let specific = free_address();
    let wildcard: SocketAddr = format!("0.0.0.0:{}", specific.port()).parse().unwrap();
    let mut listeners = Listeners::new(Vec::new());
    let opened = listeners.open_missing(&[inet(specific)], &inherited(), 2).unwrap();
    listeners.commit(&[inet(specific)], opened);
    assert_eq!(listeners.open_missing(&[inet(specific), inet(wildcard)], &inherited(), 2).unwrap().len(), 1);
}

#[test]
fn a_unix_socket_has_its_mode_and_leaves_no_name_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bowline.sock");
    let mut wanted = want(BindAddress::Unix(path.clone()));
    wanted.permissions.mode = Some(0o600);
    // What a process that was killed left behind.
    drop(UnixListener::bind(&path).unwrap());

    let mut listeners = Listeners::new(Vec::new());
    let opened = listeners.open_missing(&[wanted.clone()], &inherited(), 2).unwrap();
    listeners.commit(&[wanted.clone()], opened);
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    UnixStream::connect(&path).unwrap();
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "no temporary name is left");

    // A second instance finds it in use.
    assert!(
        error_of(&Listeners::new(Vec::new()), wanted.clone()).message.contains("already in use by another process")
    );
    listeners.close_to_clients();
    assert!(!path.exists());
}

#[test]
fn a_file_is_never_replaced_by_a_socket_nor_a_foreign_socket_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let wanted = want(BindAddress::Unix(path.clone()));
    assert!(error_of(&Listeners::new(Vec::new()), wanted.clone()).message.contains("no socket"));
    assert_eq!(std::fs::read(&path).unwrap(), b"data");

    std::fs::remove_file(&path).unwrap();
    let opened = Listeners::new(Vec::new()).open_missing(&[wanted], &inherited(), 2).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _foreign = UnixListener::bind(&path).unwrap();
    drop(opened);
    assert!(path.exists());
}

#[test]
fn a_socket_in_use_is_found_without_waiting_and_one_of_another_kind_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    // Nobody accepts, and its queue fills up.
    socket::listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let _waiting: Vec<_> = std::iter::from_fn(|| {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&SockAddr::unix(&path).unwrap()).is_ok().then_some(socket)
    })
    .collect();
    let error = error_of(&Listeners::new(Vec::new()), want(BindAddress::Unix(path)));
    assert!(error.message.contains("already in use by another process"), "{}", error.message);

    let path = folder.path().join("log");
    let datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let error = error_of(&Listeners::new(Vec::new()), want(BindAddress::Unix(path.clone())));
    assert!(error.message.contains("a socket of another kind"), "{}", error.message);
    std::os::unix::net::UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
    datagrams.recv(&mut [0]).unwrap();
}

#[test]
fn a_mode_is_what_the_socket_gets_whatever_the_mask() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o666, 0o600, 0o777, 0o000] {
        let path = folder.path().join(format!("{mode:o}"));
        let mut wanted = want(BindAddress::Unix(path.clone()));
        wanted.permissions.mode = Some(mode);
        let _open = Listeners::new(Vec::new()).open_missing(&[wanted], &inherited(), 2).unwrap();
        assert_eq!(path.symlink_metadata().unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn an_abstract_socket_has_the_name_that_it_is_given() {
    let name = format!("bowline-test-{}\0\0", std::process::id());
    let listeners = Listeners::new(Vec::new());
    let _opened = listeners.open_missing(&[want(BindAddress::Abstract(name.clone().into()))], &inherited(), 2).unwrap();
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    UnixStream::connect_addr(&address).unwrap();
    assert!(listeners.open_missing(&[want(BindAddress::Abstract(vec![b'x'; 108]))], &inherited(), 2).is_err());
}

#[test]
fn an_inherited_descriptor_has_to_be_a_listening_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let number = listener.into_raw_fd();
    let opened =
        Listeners::new(Vec::new()).open_missing(&[want(BindAddress::Descriptor(number))], &inherited(), 2).unwrap();
    let descriptor = opened[0].sockets().next().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let (accepted, _) = TcpListener::from(descriptor.try_clone().unwrap()).accept().unwrap();
    drop(accepted);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);

    for (wrong, why) in [(0, "is no listening socket"), (1_000_000, "was not started with an open descriptor 1000000")]
    {
        let error = error_of(&Listeners::new(Vec::new()), want(BindAddress::Descriptor(wrong)));
        assert!(error.message.contains(why), "{}", error.message);
    }
}

fn numbers(shared_out: &[(DescriptorRole, Arc<OwnedFd>)]) -> Vec<(u16, i32)> {
    let of_loop = |(role, descriptor): &(DescriptorRole, Arc<OwnedFd>)| match role {
        DescriptorRole::Listener { loop_index, .. } => (*loop_index, descriptor.as_raw_fd()),
        other => panic!("{other:?}"),
    };
    shared_out.iter().map(of_loop).collect()
}

#[test]
fn every_loop_has_a_socket_and_every_socket_a_loop() {
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let open = |sockets: usize| {
        let mut open = Open::new(&inet("127.0.0.1:443".parse().unwrap()), Vec::new(), None);
        open.sockets = (0..sockets).map(|_| Arc::new(null())).collect();
        open
    };
    for (sockets, loops) in [(1, 1), (1, 4), (4, 4), (3, 4), (6, 4), (5, 1)] {
        let open = open(sockets);
        let shared_out = numbers(&for_loops(std::iter::once(&open), loops));
        assert_eq!(shared_out.len(), sockets.max(usize::from(loops)));
        let count = |of: &dyn Fn(&(u16, i32)) -> i32| {
            shared_out.iter().map(of).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(count(&|(index, _)| i32::from(*index)), usize::from(loops), "{sockets} sockets, {loops} loops");
        assert_eq!(count(&|(_, number)| *number), sockets, "{sockets} sockets, {loops} loops");
    }
}

fn kept(key: ListenerKey, socket: impl Into<OwnedFd>) -> Kept {
    Kept { key, is_for_clients: true, socket: socket.into() }
}

#[test]
fn a_socket_that_was_kept_is_used_and_others_are_opened_beside_it() {
    let first = bind_inet(&inet("127.0.0.1:0".parse().unwrap()), true).unwrap();
    first.listen(1).unwrap();
    let address = first.local_addr().unwrap().as_socket().unwrap();
    let number = first.as_raw_fd();
    let mut listeners = Listeners::new(vec![kept(inet(address).key, first)]);
    let opened = listeners.open_missing(&[inet(address)], &inherited(), 2).unwrap();
    assert_eq!(opened[0].sockets.len(), 1, "one loop has a socket already");
    let (added, closed) = listeners.commit(&[inet(address)], opened);
    assert_eq!((added.len(), closed.len()), (0, 0));
    let shared_out = numbers(&for_loops(listeners.for_clients(), 2));
    assert_eq!((shared_out.len(), shared_out[0].1), (2, number));
    // More loops than before, and fewer.
    assert_eq!(listeners.open_missing(&[inet(address)], &inherited(), 3).unwrap()[0].sockets.len(), 1);
    assert!(listeners.open_missing(&[inet(address)], &inherited(), 1).unwrap().is_empty());
    // Not wanted any more.
    assert_eq!(listeners.commit(&[], Vec::new()).1, [inet(address).key]);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_socket_that_is_not_what_it_is_said_to_be_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone");
    let unix = UnixListener::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let listeners = Listeners::new(vec![
        kept(inet("127.0.0.1:1".parse().unwrap()).key, listener),
        kept(inet(address).key, stream),
        kept(BindAddress::Unix(path.clone()), unix),
    ]);
    assert!(listeners.serve_nobody());

    let unix = UnixListener::bind(&path).unwrap();
    let mut listeners = Listeners::new(vec![kept(BindAddress::Unix(path.clone()), unix)]);
    listeners.commit(&[], Vec::new());
    assert!(!path.exists(), "its name goes with it");
}

fn spread(threads: Option<&[u16]>, sockets: Option<u16>) -> Spread {
    let threads = threads.map(|threads| threads.iter().copied().collect());
    Spread { threads, sockets, no_reuse_port: false }
}

/// Indexes of event loops, and which socket each has, counted in the order of the sockets.
fn shares(spread: Spread, loops: u16) -> Vec<(u16, usize)> {
    let wanted = Wanted { spread, ..inet(free_address()) };
    let opened = Listeners::new(Vec::new()).open_missing(&[wanted], &inherited(), loops).unwrap();
    let mut seen: Vec<i32> = Vec::new();
    let shared = numbers(&for_loops(opened.iter(), loops)).into_iter().map(|(index, number)| {
        let place = seen.iter().position(|one| *one == number).unwrap_or(seen.len());
        if place == seen.len() {
            seen.push(number);
        }
        (index, place)
    });
    shared.collect()
}

#[test]
fn sockets_are_shared_as_evenly_as_they_can_be() {
    assert_eq!(shares(spread(None, Some(2)), 4), [(0, 0), (1, 1), (2, 0), (3, 1)]);
    assert_eq!(shares(spread(None, Some(3)), 4), [(0, 0), (1, 1), (2, 2), (3, 0)]);
    assert_eq!(shares(spread(None, Some(1)), 4), [(0, 0), (1, 0), (2, 0), (3, 0)]);
    assert_eq!(shares(spread(None, Some(9)), 4), [(0, 0), (1, 1), (2, 2), (3, 3)]);
    assert_eq!(shares(spread(Some(&[2, 4, 7]), None), 4), [(1, 0), (3, 1)], "threads count from 1");
    let none = Wanted { spread: spread(Some(&[7]), None), ..inet(free_address()) };
    let error = error_of(&Listeners::new(Vec::new()), none);
    assert!(error.message.ends_with("'thread' names no thread that is there; there are 2"), "{}", error.message);
}

#[test]
fn a_port_that_is_not_shared_can_not_be_taken() {
    let address = free_address();
    let alone = Spread { sockets: Some(1), no_reuse_port: true, threads: None };
    let wanted = Wanted { spread: alone, ..inet(address) };
    let opened = Listeners::new(Vec::new()).open_missing(&[wanted], &inherited(), 2).unwrap();
    assert_eq!(opened[0].sockets.len(), 1);
    assert_eq!(for_loops(opened.iter(), 2).len(), 2);
    assert!(bind_inet(&inet(address), true).is_err(), "even by one who would share");
}

#[test]
fn what_an_open_socket_can_not_become_is_said() {
    let address = free_address();
    let mut listeners = Listeners::new(Vec::new());
    let mut before = inet(address);
    before.socket.tcp.send_buffer = Some(10_000);
    let opened = listeners.open_missing(std::slice::from_ref(&before), &inherited(), 2).unwrap();
    listeners.commit(std::slice::from_ref(&before), opened);
    assert!(listeners.unchangeable(std::slice::from_ref(&before)).is_empty());
    let after = Wanted { spread: spread(None, Some(1)), ..inet(address) };
    let codes: Vec<_> = listeners.unchangeable(&[after]).iter().map(|found| found.code).collect();
    assert_eq!(codes, ["W611", "W611"]);
    before.socket.tcp.send_buffer = Some(20_000);
    assert!(listeners.unchangeable(&[before]).is_empty());
}

#[test]
fn a_socket_that_was_kept_gets_all_that_is_asked_for() {
    let mut before = inet("127.0.0.1:0".parse().unwrap());
    before.socket.tcp.no_linger = true;
    before.socket.tcp.user_timeout = Some(std::time::Duration::from_secs(3));
    let socket = bind_inet(&before, true).unwrap();
    socket.listen(1).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut after = inet(address);
    after.socket.tcp.keepalive = Some(Default::default());
    let mut listeners = Listeners::new(vec![kept(after.key.clone(), socket.try_clone().unwrap())]);
    let opened = listeners.open_missing(std::slice::from_ref(&after), &inherited(), 1).unwrap();
    assert!(listeners.unchangeable(std::slice::from_ref(&after)).is_empty());
    listeners.commit(&[after], opened);
    assert_eq!((socket.linger().unwrap(), socket.tcp_user_timeout().unwrap()), (None, None));
    assert!(socket.keepalive().unwrap());
}
