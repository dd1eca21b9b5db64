//! `client handshakes`: connect, handshake, one byte there and back, close; so many times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::{ClientConfig, HandshakeKind};

use super::connection::{Connection, Ending, Sessions, config};
use super::{Arguments, Errors, command};
use crate::wire;

/// Arguments: `port`, `count` (per `go`, over all threads), `in_flight`, `sessions` (fresh|resumed), `certificates`.
/// Commands: `warm N` does N of them per thread in advance, `go` does `count`.
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let port: u16 = arguments.number("port")?;
    let count: u64 = arguments.number("count")?;
    let in_flight: usize = arguments.number("in_flight")?;
    let (sessions, kind) = match arguments.text("sessions")? {
        "fresh" => (Sessions::Fresh, HandshakeKind::Full),
        "resumed" => (Sessions::Resumed, HandshakeKind::Resumed),
        other => return Err(format!("sessions={other}: neither fresh nor resumed")),
    };
    // Each thread keeps its own tickets: with a common store, threads would take them from each other and fall back to full handshakes.
    let configs: Vec<Arc<ClientConfig>> =
        (0..in_flight).map(|_| config(&arguments.directory()?, true, sessions)).collect::<Result<_, String>>()?;
    while let Some(command) = command() {
        let tally = Tally::default();
        match command.split_once(' ') {
            Some(("warm", number)) => {
                let each: u64 = number.parse().map_err(|_| format!("'{command}' has no number"))?;
                std::thread::scope(|scope| {
                    for config in &configs {
                        // There is no ticket for the first.
                        let work = || tally.work(config, port, [HandshakeKind::Full, kind], &AtomicU64::new(each));
                        scope.spawn(work);
                    }
                });
            }
            None if command == "go" => {
                let left = AtomicU64::new(count);
                std::thread::scope(|scope| {
                    for config in &configs {
                        scope.spawn(|| tally.work(config, port, [kind, kind], &left));
                    }
                });
            }
            _ => return Err(format!("unknown command '{command}'")),
        }
        tally.answer();
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    connections: AtomicU64,
    digest: AtomicU64,
    bare: AtomicU64,
    resets: AtomicU64,
    errors: Errors,
}

impl Tally {
    /// One thread: connection after connection until none are left; the first and the later ones must be of these kinds.
    fn work(&self, config: &Arc<ClientConfig>, port: u16, [mut kind, later]: [HandshakeKind; 2], left: &AtomicU64) {
        let one_less = |left: u64| left.checked_sub(1);
        while !self.errors.enough() && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            match self.one(config, port, kind) {
                Ok(Ending::CloseNotify) => {}
                Ok(Ending::Bare) => _ = self.bare.fetch_add(1, Ordering::Relaxed),
                Ok(Ending::Reset) => _ = self.resets.fetch_add(1, Ordering::Relaxed),
                Err(error) => self.errors.push(error),
            }
            kind = later;
        }
    }

    fn one(&self, config: &Arc<ClientConfig>, port: u16, kind: HandshakeKind) -> Result<Ending, String> {
        let mut connection = Connection::open(config, port, kind)?;
        connection.ping()?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.digest.fetch_add(connection.digest(), Ordering::Relaxed);
        connection.close()
    }

    fn answer(&self) {
        wire::answer(
            &self.errors.take(),
            &[
                ("connections", &self.connections.load(Ordering::Relaxed)),
                ("digest", &self.digest.load(Ordering::Relaxed)),
                ("bare", &self.bare.load(Ordering::Relaxed)),
                ("resets", &self.resets.load(Ordering::Relaxed)),
            ],
        );
    }
}
