//! Connecting to the server: waiting, trying again, giving up.

use super::*;
use crate::proto::close::Kill;

#[test]
fn a_full_queue_is_dialled_again_and_other_errors_are_not() {
    let mut world = World::new(timeouts());
    world.script.dials = vec![io::ErrorKind::WouldBlock; 3];
    assert_eq!(world.drive(), Drive::Wait);
    world.client_sends(b"early");
    for pause in [5, 10, 20] {
        assert_eq!(world.patience(), Some(Duration::from_millis(pause)));
        world.expire();
    }
    world.event(Ready::BACKEND_WRITE);
    assert_eq!(world.script.to_backend, b"early");

    let mut world = World::new(timeouts());
    world.script.dials = vec![io::ErrorKind::NotFound];
    assert_eq!(world.drive(), Drive::Closed);
    assert_eq!(world.termination(), "SC");
    let mut world = World::new(timeouts());
    world.script.dials = vec![io::ErrorKind::AddrNotAvailable];
    world.drive();
    assert_eq!(world.termination(), "RC");
}

#[test]
fn a_full_queue_is_not_dialled_for_ever() {
    let mut world = World::new(timeouts());
    world.script.dials = vec![io::ErrorKind::WouldBlock; 1000];
    let start = world.now.instant;
    let mut turns = 0;
    let mut driven = world.drive();
    while driven != Drive::Closed {
        driven = world.expire();
        turns += 1;
    }
    assert_eq!(world.now.instant - start, 5 * SECOND);
    assert!(turns < 50, "{turns}");
    assert_eq!(world.termination(), "sC");
}

#[test]
fn ends_before_the_server_has_accepted_are_told_apart() {
    let mut world = World::new(timeouts());
    world.drive();
    world.script.from_client.push(Err(io::ErrorKind::ConnectionReset.into()));
    assert_eq!(world.event(Ready::CLIENT_READ | Ready::CLIENT_BROKEN), Drive::Closed);
    assert_eq!((world.termination().as_str(), world.connection.report().stage), ("CC", Stage::Connect));
    let mut world = World::new(timeouts());
    world.drive();
    assert_eq!(world.expire(), Drive::Closed);
    assert_eq!(world.termination(), "sC");
    let mut world = World::new(timeouts());
    world.drive();
    world.connection.kill(Kill::Stop, &mut world.script);
    assert_eq!(world.termination(), "KC");
    assert_eq!(world.script.aborted, [Side::Client, Side::Backend]);
}

#[test]
fn a_client_that_is_done_while_the_server_is_dialled_is_served() {
    let mut world = World::new(timeouts());
    world.drive();
    world.client_sends(b"all");
    assert_eq!(world.client_ends(), Drive::Wait);
    assert_eq!(world.event(Ready::BACKEND_WRITE), Drive::Wait);
    assert_eq!(world.script.to_backend, b"all");
    assert_eq!(world.script.shut, [Side::Backend]);
}

fn retrying(retries: u32) -> World {
    World::with(Route { retries, ..route(timeouts()) })
}

impl World {
    /// The attempt has ended, as the script says.
    fn attempt_ends(&mut self) -> Drive {
        self.event(Ready::BACKEND_WRITE)
    }
}

#[test]
fn a_server_that_refuses_is_tried_again_a_second_later() {
    let mut world = retrying(3);
    world.script.connects = vec![io::ErrorKind::ConnectionRefused; 2];
    assert_eq!(world.drive(), Drive::Wait);
    world.client_sends(b"early");
    for retry in 1..=2 {
        assert_eq!(world.attempt_ends(), Drive::Wait);
        assert_eq!(world.script.aborted, vec![Side::Backend; retry], "the socket of the attempt is closed");
        assert!(!world.connection.interest().contains(Ready::BACKEND_WRITE), "there is no socket");
        assert_eq!((world.patience(), world.script.dialled), (Some(SECOND), retry));
        assert_eq!(world.expire(), Drive::Wait);
        assert_eq!((world.patience(), world.script.dialled), (Some(5 * SECOND), retry + 1), "a whole timeout for each");
    }
    assert_eq!(world.attempt_ends(), Drive::Wait);
    assert_eq!(world.script.to_backend, b"early");
    assert_eq!(world.connection.report().retries, 2);
    assert!(world.connection.outcome().is_none());
}

#[test]
fn after_the_last_try_it_is_given_up() {
    let mut world = retrying(2);
    world.script.connects = vec![io::ErrorKind::ConnectionRefused; 3];
    world.drive();
    for _ in 0..2 {
        world.attempt_ends();
        world.expire();
    }
    assert_eq!(world.attempt_ends(), Drive::Closed);
    assert_eq!((world.termination().as_str(), world.script.dialled), ("SC", 3));
    assert_eq!(world.connection.report().retries, 2);
}

#[test]
fn the_pause_is_no_longer_than_the_time_to_connect() {
    let connect = Some(Duration::from_millis(300));
    let mut world = World::with(Route { retries: 1, ..route(Timeouts { connect, ..timeouts() }) });
    world.script.connects = vec![io::ErrorKind::ConnectionRefused];
    world.drive();
    world.attempt_ends();
    assert_eq!(world.patience(), connect);
}

#[test]
fn whoever_was_waited_for_is_tried_again_at_once() {
    let mut world = retrying(1);
    world.drive();
    assert_eq!(world.expire(), Drive::Wait);
    assert_eq!((world.patience(), world.script.dialled), (Some(5 * SECOND), 2));
    assert_eq!(world.expire(), Drive::Closed);
    assert_eq!(world.termination(), "sC");
}

#[test]
fn an_address_that_cannot_be_reached_at_once_is_tried_again_and_a_want_of_resources_is_not() {
    let mut world = retrying(1);
    world.script.dials = vec![io::ErrorKind::NetworkUnreachable];
    assert_eq!(world.drive(), Drive::Wait);
    assert_eq!(world.patience(), Some(SECOND));
    world.expire();
    assert_eq!(world.script.dialled, 1);

    let mut world = retrying(3);
    world.script.dials = vec![io::ErrorKind::AddrNotAvailable];
    assert_eq!(world.drive(), Drive::Closed);
    assert_eq!((world.termination().as_str(), world.connection.report().retries), ("RC", 0));
}

#[test]
fn a_client_that_leaves_between_two_tries_is_noticed() {
    let mut world = retrying(3);
    world.script.connects = vec![io::ErrorKind::ConnectionRefused];
    world.drive();
    world.attempt_ends();
    world.script.from_client.push(Err(io::ErrorKind::ConnectionReset.into()));
    assert_eq!(world.event(Ready::CLIENT_READ | Ready::CLIENT_BROKEN), Drive::Closed);
    assert_eq!((world.termination().as_str(), world.script.dialled), ("CC", 1));
}

#[test]
fn a_client_that_is_done_is_served_unless_it_is_to_be_left() {
    for abort_on_close in [false, true] {
        let mut world = World::with(Route { abort_on_close, ..route(timeouts()) });
        world.drive();
        world.client_sends(b"all");
        let driven = world.client_ends();
        assert_eq!(driven, if abort_on_close { Drive::Closed } else { Drive::Wait });
        if abort_on_close {
            assert_eq!((world.termination().as_str(), &world.script.aborted[..]), ("CC", &[Side::Backend][..]));
        }
    }
    // Once the server has accepted, an end is an end.
    let mut world = World::relay_with(Route { abort_on_close: true, ..route(timeouts()) });
    assert_eq!(world.client_ends(), Drive::Wait);
    assert_eq!(world.script.shut, [Side::Backend]);
}

#[test]
fn without_a_server_nothing_is_dialled() {
    let mut world = World::with(Route { target: None, retries: 3, ..route(timeouts()) });
    assert_eq!(world.drive(), Drive::Closed);
    assert_eq!((world.termination().as_str(), world.script.dialled), ("SC", 0));
    assert!(matches!(world.connection.outcome(), Some(CloseReason::NoServer)));
}

#[test]
fn the_port_may_be_that_of_the_clients_connection() {
    let target = |destination: Option<&str>, offset: i32| {
        let unset = Some(Target::Inet("192.0.2.3:0".parse().unwrap()));
        let mut world = World::with(Route { target: unset, port_offset: Some(offset), ..route(timeouts()) });
        world.script.destination = destination.map(|address| address.parse().unwrap());
        world.drive();
        world.script.target
    };
    let port = |port: u16| Some(Target::Inet(std::net::SocketAddr::new([192, 0, 2, 3].into(), port)));
    assert_eq!(target(Some("198.51.100.1:443"), 0), port(443));
    assert_eq!(target(Some("198.51.100.1:443"), 1000), port(1443));
    assert_eq!(target(Some("[2001:db8::1]:443"), -363), port(80));
    assert_eq!(target(Some("198.51.100.1:443"), -443), None, "there is no port 0");
    assert_eq!(target(Some("198.51.100.1:65000"), 1000), None);
    assert_eq!(target(None, 0), None, "a unix socket has no port");
}
