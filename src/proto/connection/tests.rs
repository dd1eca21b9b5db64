//! One state and one event at a time, without TLS: what is waited for, and what comes of it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::UnixTime;

mod dialling;

use super::{Connection, Drive, Now, Scratch, Stage};
use crate::proto::close::CloseReason;
use crate::proto::endpoint::Endpoint;
use crate::proto::proxy_out::Endpoints;
use crate::proto::route::{Independent, Route, Timeouts};
use crate::proto::wire::{Ready, Side, Target, Wire};
use crate::tls::identity::Verdict;

/// What the next calls answer, and what was done.
#[derive(Default)]
struct Script {
    from_client: Vec<io::Result<Vec<u8>>>,
    from_backend: Vec<io::Result<Vec<u8>>>,
    client_room: usize,
    backend_room: usize,
    /// Answers of connect(2), the next one last.
    dials: Vec<io::ErrorKind>,
    /// How many sockets were made.
    dialled: usize,
    /// To where, the last time.
    target: Option<Target>,
    /// Where the client has connected to; `None`: no address.
    destination: Option<std::net::SocketAddr>,
    /// Ends of attempts to connect, the next one last.
    connects: Vec<io::ErrorKind>,
    to_client: Vec<u8>,
    to_backend: Vec<u8>,
    shut: Vec<Side>,
    aborted: Vec<Side>,
    backend_write_error: Option<io::ErrorKind>,
}

impl Wire for Script {
    fn read(&mut self, side: Side, space: &mut [u8]) -> io::Result<usize> {
        let script = if side == Side::Client { &mut self.from_client } else { &mut self.from_backend };
        if script.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = script.remove(0)?;
        space[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write(&mut self, side: Side, bytes: &[u8]) -> io::Result<usize> {
        if let (Side::Backend, Some(kind)) = (side, self.backend_write_error) {
            return Err(kind.into());
        }
        let (room, to) = match side {
            Side::Client => (&mut self.client_room, &mut self.to_client),
            Side::Backend => (&mut self.backend_room, &mut self.to_backend),
        };
        let count = bytes.len().min(*room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        *room -= count;
        to.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self, side: Side) {
        self.shut.push(side);
    }

    fn abort(&mut self, side: Side) {
        self.aborted.push(side);
    }

    fn dial(&mut self, target: &Target, _: &Verdict) -> io::Result<()> {
        self.target = Some(target.clone());
        if let Some(kind) = self.dials.pop() {
            return Err(kind.into());
        }
        self.dialled += 1;
        Ok(())
    }

    fn connected(&mut self) -> io::Result<()> {
        self.connects.pop().map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn endpoints(&self) -> Endpoints {
        let destination = self.destination.map_or(Endpoint::Unix, Endpoint::Inet);
        Endpoints { source: Endpoint::Unix, destination }
    }
}

struct World {
    connection: Connection,
    script: Script,
    scratch: Scratch,
    now: Now,
}

const ROOM: usize = 1 << 30;
const SECOND: Duration = Duration::from_secs(1);

fn timeouts() -> Timeouts {
    Timeouts {
        handshake: 10 * SECOND,
        client: Some(60 * SECOND),
        connect: Some(5 * SECOND),
        server: Some(100 * SECOND),
        ..Timeouts::default()
    }
}

fn route(timeouts: Timeouts) -> Route {
    Route {
        tls: None,
        accept_proxy: false,
        accept_tls_eof: false,
        timeouts,
        target: Some(Target::Inet("192.0.2.3:80".parse().unwrap())),
        port_offset: None,
        retries: 0,
        abort_on_close: false,
        independent: Independent::default(),
        proxy: None,
    }
}

impl World {
    fn new(timeouts: Timeouts) -> Self {
        Self::with(route(timeouts))
    }

    fn with(route: Route) -> Self {
        let now = Now { instant: Instant::now(), unix: UnixTime::now() };
        Self {
            connection: Connection::new(Arc::new(route), now, 1),
            script: Script { client_room: ROOM, backend_room: ROOM, ..Script::default() },
            scratch: Scratch::default(),
            now,
        }
    }

    /// In the relay, nothing said yet.
    fn relay(timeouts: Timeouts) -> Self {
        Self::relay_with(route(timeouts))
    }

    fn relay_with(route: Route) -> Self {
        let mut world = Self::with(route);
        assert_eq!(world.drive(), Drive::Wait);
        assert_eq!(world.event(Ready::BACKEND_WRITE), Drive::Wait);
        assert!(world.connection.report().connected.is_some());
        world
    }

    fn drive(&mut self) -> Drive {
        self.connection.drive(self.now, &mut self.scratch, &mut self.script)
    }

    fn event(&mut self, ready: Ready) -> Drive {
        self.connection.ready.insert(ready);
        self.drive()
    }

    fn client_sends(&mut self, bytes: &[u8]) -> Drive {
        self.script.from_client.push(Ok(bytes.to_vec()));
        self.event(Ready::CLIENT_READ)
    }

    fn client_ends(&mut self) -> Drive {
        self.script.from_client.push(Ok(Vec::new()));
        self.event(Ready::CLIENT_READ | Ready::CLIENT_END)
    }

    fn backend_sends(&mut self, bytes: &[u8]) -> Drive {
        self.script.from_backend.push(Ok(bytes.to_vec()));
        self.event(Ready::BACKEND_READ)
    }

    fn backend_ends(&mut self) -> Drive {
        self.script.from_backend.push(Ok(Vec::new()));
        self.event(Ready::BACKEND_READ | Ready::BACKEND_END)
    }

    fn backend_resets(&mut self) -> Drive {
        self.script.from_backend.push(Err(io::ErrorKind::ConnectionReset.into()));
        self.event(Ready::BACKEND_READ | Ready::BACKEND_END | Ready::BACKEND_WRITE)
    }

    /// How long it waits from now on.
    fn patience(&self) -> Option<Duration> {
        Some(self.connection.deadline()?.duration_since(self.now.instant))
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
    }

    /// Lets the deadline come.
    fn expire(&mut self) -> Drive {
        self.pass(self.patience().unwrap());
        self.connection.handle_deadline(self.now, &mut self.scratch, &mut self.script);
        self.drive()
    }

    fn termination(&self) -> String {
        let termination = self.connection.outcome().unwrap().termination(self.connection.report().stage);
        String::from_utf8(termination.to_vec()).unwrap()
    }
}

#[test]
fn a_clients_reset_is_noticed_while_nothing_is_read_from_it() {
    let mut world = World::relay(timeouts());
    world.script.backend_room = 0;
    assert_eq!(world.client_sends(&[7; 40_000]), Drive::Wait);
    assert!(!world.connection.interest().contains(Ready::CLIENT_READ));
    let gone = Ready::CLIENT_READ | Ready::CLIENT_WRITE | Ready::CLIENT_END | Ready::CLIENT_BROKEN;
    assert_eq!(world.event(gone), Drive::Closed);
    assert_eq!(world.script.aborted, [Side::Backend]);
    assert_eq!(world.termination(), "CD");
}

#[test]
fn a_clients_reset_is_noticed_after_its_end() {
    let mut world = World::relay(timeouts());
    assert_eq!(world.client_ends(), Drive::Wait);
    assert_eq!(world.script.shut, [Side::Backend]);
    assert_eq!(world.event(Ready::CLIENT_BROKEN | Ready::CLIENT_READ), Drive::Closed);
    assert_eq!(world.script.aborted, [Side::Backend]);
}

#[test]
fn what_a_client_ended_with_fin_survives_the_reset_behind_it() {
    // The socket of the server has taken it, which does not mean that the server has it.
    let mut world = World::relay(timeouts());
    world.client_sends(b"all of it");
    assert_eq!(world.client_ends(), Drive::Wait);
    assert_eq!(world.event(Ready::CLIENT_BROKEN | Ready::CLIENT_READ), Drive::Closed);
    assert_eq!(world.script.to_backend, b"all of it");
    assert_eq!((world.script.shut.as_slice(), world.script.aborted.as_slice()), (&[Side::Backend][..], &[][..]));
    assert_eq!(world.termination(), "CD");
}

#[test]
fn an_error_that_is_none_is_forgotten() {
    let mut world = World::relay(timeouts());
    assert_eq!(world.event(Ready::CLIENT_BROKEN | Ready::CLIENT_READ), Drive::Wait);
    assert!(!world.connection.is_runnable());
    assert_eq!(world.client_sends(b"alive"), Drive::Wait);
    assert_eq!(world.script.to_backend, b"alive");
}

#[test]
fn whoever_is_not_waited_for_does_not_time_out() {
    // The server does not read: the client, which is not read from, is not at fault.
    let mut world = World::relay(timeouts());
    world.script.backend_room = 0;
    world.client_sends(&[7; 40_000]);
    assert_eq!(world.patience(), Some(100 * SECOND));
    assert_eq!(world.expire(), Drive::Closed);
    assert_eq!(world.termination(), "sD");
    // The client does not read.
    let mut world = World::relay(Timeouts { server: Some(30 * SECOND), ..timeouts() });
    world.script.client_room = 0;
    world.backend_sends(&[7; 40_000]);
    assert_eq!(world.patience(), Some(60 * SECOND));
    // The client has ended, and waits for the answer.
    let mut world = World::relay(timeouts());
    world.client_ends();
    assert_eq!(world.patience(), Some(100 * SECOND));
}

#[test]
fn half_closed_connections_have_their_own_timeouts() {
    let fin = Timeouts { client_fin: Some(2 * SECOND), server_fin: Some(3 * SECOND), ..timeouts() };
    let mut world = World::relay(fin);
    assert_eq!(world.patience(), Some(60 * SECOND));
    world.client_ends();
    assert_eq!(world.patience(), Some(3 * SECOND));
    let mut world = World::relay(fin);
    world.backend_ends();
    assert_eq!(world.patience(), Some(2 * SECOND));
}

#[test]
fn a_tunnels_timeout_stays_in_force_after_a_half_close() {
    let tunnel = Timeouts { tunnel: Some(3600 * SECOND), ..timeouts() };
    let mut world = World::relay(tunnel);
    assert_eq!(world.patience(), Some(3600 * SECOND));
    world.client_ends();
    assert_eq!(world.patience(), Some(3600 * SECOND));
    let mut world = World::relay(Timeouts { server_fin: Some(4 * SECOND), ..tunnel });
    world.client_ends();
    assert_eq!(world.patience(), Some(4 * SECOND));
}

#[test]
fn independent_streams_are_judged_by_what_comes_alone() {
    let independent = Independent { client: true, server: false };
    let mut world = World::relay_with(Route { independent, ..route(timeouts()) });
    world.pass(50 * SECOND);
    world.backend_sends(b"tick");
    assert_eq!(world.script.to_client, b"tick");
    assert_eq!(world.patience(), Some(10 * SECOND), "what the client was sent does not count for what it sends");
    world.client_sends(b"tock");
    assert_eq!(world.patience(), Some(60 * SECOND));
    // A client that takes nothing is judged by that.
    world.script.client_room = 0;
    world.pass(20 * SECOND);
    world.backend_sends(&[7; 100]);
    assert_eq!(world.patience(), Some(40 * SECOND));
    let independent = Independent { client: false, server: true };
    let timeouts = Timeouts { client: None, ..timeouts() };
    let mut world = World::relay_with(Route { independent, ..route(timeouts) });
    world.pass(50 * SECOND);
    world.client_sends(b"tick");
    assert_eq!(world.patience(), Some(50 * SECOND));
}

#[test]
fn each_way_counts_as_activity() {
    let mut world = World::relay(timeouts());
    for _ in 0..3 {
        world.pass(50 * SECOND);
        world.backend_sends(b"tick");
        assert_eq!(world.patience(), Some(60 * SECOND));
    }
}

#[test]
fn without_tls_a_servers_reset_is_a_reset_for_the_client() {
    // Nothing on its way: at once.
    let mut world = World::relay(timeouts());
    assert_eq!(world.backend_resets(), Drive::Closed);
    assert_eq!(world.script.aborted, [Side::Backend, Side::Client]);
    assert_eq!(world.termination(), "SD");
    // With bytes on their way: once they have had time.
    let mut world = World::relay(timeouts());
    world.backend_sends(b"partial");
    assert_eq!(world.backend_resets(), Drive::Wait);
    assert_eq!(world.script.aborted, [Side::Backend]);
    assert_eq!(world.expire(), Drive::Closed);
    assert_eq!(world.script.aborted, [Side::Backend, Side::Client]);
    assert_eq!(world.script.shut, []);
    assert_eq!(world.script.to_client, b"partial");
}

#[test]
fn without_tls_ends_are_passed_on_as_ends() {
    let mut world = World::relay(timeouts());
    world.client_sends(b"question");
    world.client_ends();
    world.backend_sends(b"answer");
    assert_eq!(world.backend_ends(), Drive::Closed);
    assert_eq!(world.script.shut, [Side::Backend, Side::Client]);
    assert_eq!(world.script.aborted, []);
    assert_eq!(world.termination(), "--");
}

#[test]
fn the_last_bytes_have_time_as_long_as_some_are_taken() {
    let mut world = World::relay(timeouts());
    world.script.client_room = 0;
    world.backend_sends(&[7; 40_000]);
    assert_eq!(world.expire(), Drive::Wait);
    assert!(matches!(world.connection.outcome(), Some(CloseReason::ClientTimeout)));
    for _ in 0..4 {
        world.pass(59 * SECOND);
        world.script.client_room = 10_000;
        world.event(Ready::CLIENT_WRITE);
    }
    assert_eq!(world.script.to_client.len(), 40_000);
    assert_eq!(world.termination(), "cD");
}

#[test]
fn an_upload_that_the_server_does_not_take_is_no_good_end() {
    let mut world = World::relay(timeouts());
    world.backend_ends();
    world.script.backend_write_error = Some(io::ErrorKind::BrokenPipe);
    world.client_sends(b"more");
    assert_eq!(world.script.shut, [Side::Client]);
    assert_eq!(world.expire(), Drive::Closed);
    assert_eq!(world.termination(), "SD");
}

#[test]
fn one_that_is_given_up_is_an_abort_for_both() {
    let mut world = World::relay(timeouts());
    world.backend_sends(b"half");
    world.connection.give_up(&mut world.script);
    assert_eq!(world.drive(), Drive::Closed);
    assert!(world.script.shut.is_empty());
    assert_eq!(world.script.aborted, [Side::Client, Side::Backend]);
    assert_eq!(world.termination(), "ID");
}
