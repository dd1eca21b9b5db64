//! `resolve-interval`: host names of servers are looked up again while everything else stays as it is. A new address comes
//! into force as a reload does, of the material that is in force with other addresses in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::Service;
use crate::conf::model::Model;
use crate::master::names::{self, Answer, Name, Names};
use crate::master::offer::{Candidate, Configuration};
use crate::master::signals;
use crate::material::Material;
use crate::sys::reason;

/// A name is not looked up more often than this.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Names that are looked up at times.
#[derive(Default)]
pub(super) struct Refresh {
    names: BTreeMap<Name, Watched>,
    asking: Option<Asking>,
}

struct Watched {
    interval: Duration,
    due: Instant,
    /// The last look-up failed: that is not said again.
    failing: bool,
}

/// A look-up on a thread of its own, which may take its time.
struct Asking {
    answer: mpsc::Receiver<Vec<(Name, Answer)>>,
    /// Ends when the thread does.
    over: UnixStream,
}

impl Refresh {
    /// Looks after the names of a configuration that has come into force. Those that were known keep their time.
    pub(super) fn adopt(&mut self, model: &Model, now: Instant) {
        let mut known = std::mem::take(&mut self.names);
        for server in model.backends.iter().flat_map(|backend| &backend.servers) {
            let (Some(name), Some(interval)) = (server.name(), server.resolve_interval) else { continue };
            let interval = interval.max(INTERVAL_MIN);
            let before = known.remove(&name).or_else(|| self.names.remove(&name));
            let watched = match before {
                Some(before) => Watched {
                    interval: interval.min(before.interval),
                    due: before.due.min(now + interval),
                    failing: before.failing,
                },
                None => Watched { interval, due: now + interval, failing: false },
            };
            self.names.insert(name, watched);
        }
    }

    /// When the next look-up is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = self.names.values().map(|watched| watched.due).min();
        due.filter(|_| self.asking.is_none())
    }

    /// Readable once there is an answer.
    pub(super) fn over(&self) -> Option<&UnixStream> {
        self.asking.as_ref().map(|asking| &asking.over)
    }
}

impl Service {
    /// Looks up what is due, and puts into force what has come back.
    pub(super) fn refresh_names(&mut self, now: Instant) {
        if self.draining.is_some() {
            return;
        }
        self.handle_names(now);
        if self.refresh.next().is_some_and(|due| due <= now) {
            if let Err(error) = self.ask_names(now) {
                log::error!("cannot look up names: {}", reason(&error));
            }
        }
    }

    fn ask_names(&mut self, now: Instant) -> std::io::Result<()> {
        let due = self.refresh.names.iter_mut().filter(|(_, watched)| watched.due <= now);
        let mut wanted = Vec::new();
        for (name, watched) in due {
            watched.due = now + watched.interval;
            wanted.push(name.clone());
        }
        let family = self.in_force.as_ref().and_then(|in_force| in_force.model.process.name_family);
        let (sender, answer) = mpsc::channel();
        let (over, guard) = UnixStream::pair()?;
        std::thread::Builder::new().name("names".into()).spawn(move || {
            // Dropped at the end, or by a panic: either wakes the main loop.
            let _guard = guard;
            signals::keep_out();
            let answers = names::resolve(&wanted, family);
            let _ = sender.send(wanted.into_iter().zip(answers).collect());
        })?;
        self.refresh.asking = Some(Asking { answer, over });
        Ok(())
    }

    fn handle_names(&mut self, now: Instant) {
        let Some(asking) = &self.refresh.asking else { return };
        let answers = match asking.answer.try_recv() {
            Err(mpsc::TryRecvError::Empty) => return,
            Err(mpsc::TryRecvError::Disconnected) => Vec::new(),
            Ok(answers) => answers,
        };
        self.refresh.asking = None;
        let mut found = Names::new();
        for (name, answer) in answers {
            let Some(watched) = self.refresh.names.get_mut(&name) else { continue };
            let failing = std::mem::replace(&mut watched.failing, answer.is_err());
            match answer {
                Ok(addresses) => {
                    found.insert(name, addresses);
                }
                Err(failure) if !failing => log::warn!("cannot resolve '{}': {failure}; nothing changes", name.0),
                Err(_) => {}
            }
        }
        let Some(in_force) = &self.in_force else { return };
        let changed = changed(&in_force.model, &in_force.material.names, found);
        if changed.is_empty() {
            return;
        }
        let serving = self.worker.as_ref().is_some_and(|worker| worker.serving && worker.offered.is_none());
        if !serving || self.is_changing() {
            // A reload looks all names up anyway; otherwise it is tried again right away.
            for name in changed.keys() {
                if let Some(watched) = self.refresh.names.get_mut(name) {
                    watched.due = now + INTERVAL_MIN;
                }
            }
            return;
        }
        for ((host, _), addresses) in &changed {
            let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            log::info!("'{host}' is now at {}", list.join(", "));
        }
        let mut material = Material::clone(&in_force.material);
        material.names.extend(changed);
        material.generation += 1;
        let configuration = Configuration {
            material: Arc::new(material),
            model: in_force.model.clone(),
            plan: in_force.plan.clone(),
            wanted: in_force.wanted.clone(),
            report: Vec::new(),
            log_descriptors: in_force.log_descriptors.clone(),
        };
        self.candidate = Some(Candidate { configuration, opened: Vec::new(), is_reload: false });
        self.present();
    }
}

/// Of what was found, the names that lead some server elsewhere: an address that is still among the answers stays, however
/// they are ordered this time.
fn changed(model: &Model, before: &Names, found: Names) -> Names {
    let servers = || model.backends.iter().flat_map(|backend| &backend.servers);
    let leads_elsewhere = |name: &Name, addresses: &Vec<SocketAddr>| {
        servers().filter(|server| server.name().as_ref() == Some(name)).any(|server| {
            let chosen = before.get(name).and_then(|addresses| server.choose(addresses));
            let now = server.choose(addresses);
            now.is_some() && chosen.is_none_or(|chosen| !addresses.contains(&chosen))
        })
    };
    found.into_iter().filter(|(name, addresses)| leads_elsewhere(name, addresses)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(lines: &[&str]) -> Model {
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            text.push_str(&format!("backend b{number}\n    server s {line}\n"));
        }
        crate::conf::parse(&[("test.cfg".into(), text.into_bytes())], &BTreeMap::new()).model.unwrap()
    }

    fn at(addresses: &[&str]) -> Names {
        let addresses = addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 80)).collect();
        [(("db.example".into(), 80), addresses)].into()
    }

    #[test]
    fn the_order_of_answers_changes_nothing() {
        let model = model(&["db.example:80 resolve-interval 5s"]);
        let before = at(&["192.0.2.1", "192.0.2.2"]);
        assert!(changed(&model, &before, at(&["192.0.2.2", "192.0.2.1"])).is_empty());
        assert!(changed(&model, &before, at(&["192.0.2.3", "192.0.2.1"])).is_empty(), "it is still there");
        assert_eq!(changed(&model, &before, at(&["192.0.2.2"])), at(&["192.0.2.2"]));
        assert_eq!(changed(&model, &Names::new(), at(&["192.0.2.2"])), at(&["192.0.2.2"]), "it had none");
    }

    #[test]
    fn families_are_looked_at_for_each_server() {
        let model = model(&["ipv4@db.example:80 resolve-interval 5s", "ipv6@db.example:80"]);
        let before = at(&["192.0.2.1", "2001:db8::1"]);
        assert!(changed(&model, &before, at(&["2001:db8::1", "192.0.2.1"])).is_empty());
        let other = at(&["192.0.2.1", "2001:db8::2"]);
        assert_eq!(changed(&model, &before, other.clone()), other);
        assert!(changed(&model, &before, at(&["192.0.2.1"])).is_empty(), "an address that is gone is better than none");
    }

    #[test]
    fn names_are_due_at_the_shortest_interval_and_keep_their_time() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut refresh = Refresh::default();
        let both = model(&["a.example:80 resolve-interval 60s", "a.example:80 resolve-interval 20s", "b.example:80"]);
        refresh.adopt(&both, now);
        assert_eq!((refresh.names.len(), refresh.next()), (1, Some(now + 20 * second)));
        refresh.adopt(&both, now + 15 * second);
        assert_eq!(refresh.next(), Some(now + 20 * second), "reloads do not put it off");
        refresh.adopt(&model(&["a.example:80 resolve-interval 100ms"]), now);
        assert_eq!(refresh.next(), Some(now + second));
        refresh.adopt(&model(&["a.example:80"]), now);
        assert_eq!(refresh.next(), None);
    }
}
