//! Stand-in: replaced when merging.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::material::ListenerKey;
use crate::snapshot::Snapshot;

pub enum Command {
    Adopt { snapshot: Arc<Snapshot>, opened: Vec<(ListenerKey, OwnedFd)>, done: mpsc::Sender<()> },
    Drain { deadline: Option<Instant> },
    Stop,
}

#[derive(Default)]
struct Shared {
    busy: AtomicBool,
    turn: AtomicU64,
    connections: AtomicU32,
}

pub struct Handle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Handle {
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
    pub fn join(self) {
        let _ = self.thread.join();
    }
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
    pub fn ticks(&self) -> (bool, u64) {
        (self.shared.busy.load(Ordering::Relaxed), self.shared.turn.load(Ordering::Relaxed))
    }
    pub fn connections(&self) -> u32 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

pub fn spawn(index: usize, _id_prefix: u64, _queue: crate::log::Queue) -> io::Result<Handle> {
    let (commands, inbox) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    let thread = std::thread::Builder::new().name(format!("loop-{index}")).spawn({
        let shared = shared.clone();
        move || run(inbox, &shared)
    })?;
    Ok(Handle { commands, shared, thread })
}

fn run(inbox: mpsc::Receiver<Command>, shared: &Shared) {
    let mut listeners: Vec<(ListenerKey, TcpListener)> = Vec::new();
    let mut open: Vec<(TcpStream, TcpStream)> = Vec::new();
    let mut backend = None;
    let mut draining: Option<Option<Instant>> = None;
    let mut generation = 0;
    loop {
        match inbox.recv_timeout(Duration::from_millis(5)) {
            Ok(Command::Adopt { snapshot, opened, done }) => {
                generation = snapshot.generation;
                backend = snapshot.model.backends.iter().flat_map(|b| &b.servers).find_map(|s| match s.address.value {
                    crate::conf::model::ServerAddress::Inet(address) => Some(address),
                    _ => None,
                });
                listeners.extend(opened.into_iter().map(|(key, fd)| (key, fd.into())));
                let keys: BTreeSet<String> = (snapshot.model.frontends.iter())
                    .flat_map(|f| &f.binds)
                    .flat_map(|b| &b.addresses)
                    .map(|a| format!("{:?}", a.value))
                    .collect();
                listeners.retain(|(key, _)| keys.contains(&format!("{key:?}")));
                let _ = done.send(());
            }
            Ok(Command::Drain { deadline }) => {
                listeners.clear();
                draining = Some(deadline);
            }
            Ok(Command::Stop) => return,
            Err(_) => {}
        }
        for (_, listener) in &listeners {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.set_nonblocking(true);
                let _ = stream.write_all(format!("generation {generation}\n").as_bytes());
                if let Some(server) = backend.and_then(|backend| TcpStream::connect(backend).ok()) {
                    open.push((stream, server));
                }
            }
        }
        let mut hung = false;
        open.retain_mut(|(stream, _)| {
            let mut buffer = [0; 64];
            match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(n) => {
                    assert!(!buffer[..n].starts_with(b"panic"), "asked to");
                    hung |= buffer[..n].starts_with(b"hang");
                    true
                }
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            }
        });
        if hung {
            shared.busy.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(3600));
        }
        shared.turn.fetch_add(1, Ordering::Relaxed);
        shared.connections.store(open.len() as u32, Ordering::Relaxed);
        if let Some(deadline) = draining {
            if open.is_empty() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return;
            }
        }
    }
}
