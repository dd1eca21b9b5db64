//! `client hold`: many connections that stay open and idle, one of them with a steady pulse.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, HandshakeKind};

use super::connection::{Connection, Sessions, config};
use super::{Arguments, Errors, command};
use crate::pause::pause;
use crate::wire;

/// Threads that open connections and ping them.
const THREADS: usize = 16;

/// Pause between two pings of the pulse: short against the stall that is looked for, long enough to leave the loop idle.
const PULSE_PAUSE: Duration = Duration::from_micros(200);

/// Arguments: `port`, `client_certificate` (true|false), `certificates`.
///
/// Commands: `open N` opens N more, each proved by a ping; `pulse` starts pinging one more connection without end; `lap` tells the
/// worst latency of the pulse since the last `lap` and whether it lives; `probe` makes one connection, tells which certificate it saw, and closes it;
/// `check` pings every connection once.
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let port: u16 = arguments.number("port")?;
    let config = config(&arguments.directory()?, arguments.number("client_certificate")?, Sessions::Fresh)?;
    let mut held: Vec<Mutex<Connection>> = Vec::new();
    let lap = Arc::new(Mutex::new(Lap::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut pulse = None;
    let mut digest = 0_u64;
    while let Some(command) = command() {
        let errors = Errors::default();
        match command.split_once(' ').unwrap_or((&command, "")) {
            ("open", number) => {
                let count = number.parse().map_err(|_| format!("'{command}' has no number"))?;
                let opened = open(&config, port, count, &errors);
                digest = opened.iter().fold(digest, |sum, connection| sum.wrapping_add(connection.digest()));
                held.extend(opened.into_iter().map(Mutex::new));
                wire::answer(&errors.take(), &[("connections", &held.len()), ("digest", &digest)]);
            }
            ("pulse", _) => {
                match open(&config, port, 1, &errors).pop() {
                    Some(connection) => {
                        digest = digest.wrapping_add(connection.digest());
                        let (lap, stop) = (Arc::clone(&lap), Arc::clone(&stop));
                        pulse = Some(std::thread::spawn(move || beat(connection, &lap, &stop)));
                    }
                    None => errors.push("the pulse has no connection".to_owned()),
                }
                wire::answer(&errors.take(), &[]);
            }
            ("lap", _) => {
                let (pings, worst, alive) = lap.lock().unwrap_or_else(PoisonError::into_inner).take();
                wire::answer(&[], &[("pings", &pings), ("worst_us", &worst.as_micros()), ("alive", &u8::from(alive))]);
            }
            ("probe", _) => {
                let leaf = probe(&config, port).unwrap_or_else(|error| {
                    errors.push(error);
                    String::new()
                });
                wire::answer(&errors.take(), &[("leaf", &leaf)]);
            }
            ("check", _) => {
                let alive = check(&held, &errors);
                // A dead connection is a finding here; only why it is dead goes elsewhere.
                if let Some(first) = errors.take().first() {
                    eprintln!("{first}");
                }
                wire::answer(&[], &[("alive", &alive)]);
            }
            _ => return Err(format!("unknown command '{command}'")),
        }
    }
    stop.store(true, Ordering::Relaxed);
    if let Some(thread) = pulse {
        thread.join().map_err(|_| "the pulse thread failed".to_owned())?;
    }
    Ok(())
}

/// A name for a certificate that fits on a line: the end of its signature, as hex digits.
pub(crate) fn leaf_name(der: &[u8]) -> String {
    der.iter().rev().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn probe(config: &Arc<ClientConfig>, port: u16) -> Result<String, String> {
    let connection = Connection::open(config, port, HandshakeKind::Full)?;
    let name = leaf_name(connection.server_certificate());
    connection.close()?;
    Ok(name)
}

fn open(config: &Arc<ClientConfig>, port: u16, count: usize, errors: &Errors) -> Vec<Connection> {
    let next = AtomicUsize::new(0);
    let opened = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(count) {
            scope.spawn(|| {
                while !errors.enough() && next.fetch_add(1, Ordering::Relaxed) < count {
                    let connection = Connection::open(config, port, HandshakeKind::Full).and_then(|mut connection| {
                        connection.ping()?;
                        Ok(connection)
                    });
                    match connection {
                        Ok(connection) => opened.lock().unwrap_or_else(PoisonError::into_inner).push(connection),
                        Err(error) => errors.push(error),
                    }
                }
            });
        }
    });
    opened.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Pings every connection; the number that answered.
fn check(held: &[Mutex<Connection>], errors: &Errors) -> usize {
    let next = AtomicUsize::new(0);
    let alive = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(connection) = held.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match connection.lock().unwrap_or_else(PoisonError::into_inner).ping() {
                        Ok(()) => _ = alive.fetch_add(1, Ordering::Relaxed),
                        Err(error) => errors.push(error),
                    }
                }
            });
        }
    });
    alive.into_inner()
}

/// What the pulse saw since the runner asked last.
#[derive(Default)]
struct Lap {
    pings: u64,
    worst: Duration,
    /// The ping that waits for its answer.
    waiting_since: Option<Instant>,
    dead: bool,
}

impl Lap {
    /// Number of answers, worst latency, and whether the connection still lives. A ping that has no answer yet counts with the time
    /// it has waited, or a loop that never comes back would look fast.
    fn take(&mut self) -> (u64, Duration, bool) {
        let waited = self.waiting_since.map_or(Duration::ZERO, |start| start.elapsed());
        let taken = (self.pings, self.worst.max(waited), !self.dead);
        (self.pings, self.worst) = (0, Duration::ZERO);
        taken
    }
}

fn beat(mut connection: Connection, lap: &Mutex<Lap>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        lap.lock().unwrap_or_else(PoisonError::into_inner).waiting_since = Some(start);
        let outcome = connection.ping();
        let latency = start.elapsed();
        let mut lap = lap.lock().unwrap_or_else(PoisonError::into_inner);
        lap.waiting_since = None;
        if let Err(error) = outcome {
            eprintln!("client: pulse: {error}");
            lap.dead = true;
            return;
        }
        lap.pings += 1;
        lap.worst = lap.worst.max(latency);
        drop(lap);
        pause(PULSE_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lap_starts_afresh_and_counts_the_ping_that_waits() {
        let mut lap = Lap { pings: 3, worst: Duration::from_secs(7), ..Lap::default() };
        assert_eq!(lap.take(), (3, Duration::from_secs(7), true));
        assert_eq!(lap.take(), (0, Duration::ZERO, true));
        lap.waiting_since = Instant::now().checked_sub(Duration::from_secs(2));
        lap.dead = true;
        let (_, worst, alive) = lap.take();
        assert!(worst >= Duration::from_secs(2) && !alive);
    }

    #[test]
    fn leaf_names_differ_by_the_end() {
        assert_eq!(leaf_name(&[1, 2, 0xab]), "ab0201");
        assert_ne!(leaf_name(&[0; 40]), leaf_name(&[&[0; 39][..], &[1]].concat()));
    }
}
