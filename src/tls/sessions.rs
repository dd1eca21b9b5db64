//! Sessions that are kept here, for `bind` lines with `no-tls-tickets` (HAProxy's `tune.ssl.cachesize`).
//!
//! As with tickets, a session is worth what its policy is worth: it is found again under the same policy only, carries the
//! time of its first authentication, and ends with the worker.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::ProtocolVersion;
use rustls::server::StoresServerSessions;
use zeroize::Zeroizing;

use super::tickets::Scope;

/// HAProxy's unit of `tune.ssl.cachesize`, in bytes.
const BLOCK: usize = 200;
/// What a session takes beside its own bytes and its name.
const OVERHEAD: usize = 150;

/// All sessions of the process, the oldest of which goes first.
#[derive(Default)]
pub(super) struct SessionCache {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<Vec<u8>, Session>,
    /// Names in the order in which they came; some may be gone.
    order: VecDeque<Vec<u8>>,
    bytes: usize,
}

struct Session {
    policy: [u8; 32],
    /// A name of one version, which goes over the wire in the clear in TLS 1.2, is worth nothing in the other.
    version: ProtocolVersion,
    first: Instant,
    value: Zeroizing<Vec<u8>>,
}

impl State {
    fn put(&mut self, name: Vec<u8>, session: Session, budget: usize) -> bool {
        let size = size(&name, &session);
        if size > budget {
            return false;
        }
        while self.bytes + size > budget {
            let Some(oldest) = self.order.pop_front() else { return false };
            self.take(&oldest);
        }
        self.bytes += size;
        self.order.push_back(name.clone());
        if let Some(before) = self.sessions.insert(name.clone(), session) {
            self.bytes -= self::size(&name, &before);
        }
        // Names of sessions that were taken stay behind, each for a session that came.
        if self.order.len() > 2 * self.sessions.len() + 16 {
            self.order.retain(|name| self.sessions.contains_key(name));
        }
        true
    }

    fn take(&mut self, name: &[u8]) -> Option<Session> {
        let session = self.sessions.remove(name)?;
        self.bytes -= size(name, &session);
        Some(session)
    }
}

/// The version that rustls has written into the state of a session: behind a byte that tells whether a server name follows, and
/// that name with a byte for its length.
fn version(value: &[u8]) -> Option<ProtocolVersion> {
    let rest = match value.split_first()? {
        (0, rest) => rest,
        (_, rest) => {
            let (length, rest) = rest.split_first()?;
            rest.get(usize::from(*length)..)?
        }
    };
    Some(ProtocolVersion::from(u16::from_be_bytes(*rest.first_chunk()?)))
}

fn size(name: &[u8], session: &Session) -> usize {
    2 * name.len() + session.value.len() + OVERHEAD
}

impl SessionCache {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCache").finish_non_exhaustive()
    }
}

/// What rustls calls for the sessions of one policy. Works only inside a [`Scope`].
#[derive(Debug)]
pub(super) struct CachedSessions {
    cache: Arc<SessionCache>,
    policy: [u8; 32],
    lifetime: Duration,
    honoured: bool,
    budget: usize,
}

impl CachedSessions {
    /// `policy` is the digest of all that a session must have in common with the connection that asks for it; `blocks` is
    /// `tune.ssl.cachesize`. With `honoured` false no session is found, but new ones are kept.
    pub(super) fn new(
        cache: Arc<SessionCache>,
        policy: [u8; 32],
        lifetime: Duration,
        honoured: bool,
        blocks: u32,
    ) -> Self {
        Self { cache, policy, lifetime, honoured, budget: blocks as usize * BLOCK }
    }

    /// The state in `session`, if it counts now and in this version.
    fn open(&self, session: &Session, version: ProtocolVersion) -> Option<Vec<u8>> {
        let now = Scope::now()?;
        let belongs = session.policy == self.policy && session.version == version;
        if !belongs || now.saturating_duration_since(session.first) >= self.lifetime {
            return None;
        }
        Scope::resumes(session.first);
        Some(session.value.to_vec())
    }
}

impl StoresServerSessions for CachedSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let value = Zeroizing::new(value);
        let Some((now, first)) = Scope::now().map(|now| (now, Scope::first_authentication().unwrap_or(now))) else {
            return false;
        };
        if now.saturating_duration_since(first) >= self.lifetime {
            return false;
        }
        let Some(version) = version(&value) else { return false };
        self.cache.lock().put(key, Session { policy: self.policy, version, first, value }, self.budget)
    }

    /// TLS 1.2: a session may be resumed several times.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        if !self.honoured {
            return None;
        }
        self.cache.lock().sessions.get(key).and_then(|session| self.open(session, ProtocolVersion::TLSv1_2))
    }

    /// TLS 1.3: once, whoever else asks at the same time. One of another policy or version stays where it is.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        if !self.honoured {
            return None;
        }
        let mut cache = self.cache.lock();
        let state = self.open(cache.sessions.get(key)?, ProtocolVersion::TLSv1_3)?;
        cache.take(key);
        Some(state)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::tls::test_pki::now;

    const LIFETIME: Duration = Duration::from_secs(300);
    /// The beginning of a session's state, of a client that asked for no name, and for `n`.
    const OF_12: &[u8] = &[0, 3, 3];
    const OF_13: &[u8] = &[1, 1, b'n', 3, 4];

    fn sessions(cache: &Arc<SessionCache>, policy: u8, honoured: bool, blocks: u32) -> CachedSessions {
        CachedSessions::new(cache.clone(), [policy; 32], LIFETIME, honoured, blocks)
    }

    /// 100 bytes.
    fn state(beginning: &[u8]) -> Vec<u8> {
        let mut state = beginning.to_vec();
        state.resize(100, 0);
        state
    }

    /// Does something at this second after `start`, on a connection whose client was authenticated at the other one.
    fn at<T>(start: Instant, second: u64, first: Option<u64>, act: impl FnOnce() -> T) -> (T, Option<u64>) {
        let instant = |second| start + Duration::from_secs(second);
        let scope = Scope::enter(instant(second), now(), first.map(instant));
        let result = act();
        (result, scope.leave().map(|first| first.duration_since(start).as_secs()))
    }

    #[test]
    fn a_session_counts_under_its_policy_and_within_its_lifetime() {
        let (cache, start) = (Arc::default(), Instant::now());
        let one = sessions(&cache, 1, true, 100);
        assert!(at(start, 5, None, || one.put(b"id".to_vec(), OF_12.to_vec())).0);
        assert_eq!(at(start, 304, None, || one.get(b"id")), (Some(OF_12.to_vec()), Some(5)));
        assert_eq!(at(start, 305, None, || one.get(b"id")), (None, None));
        assert_eq!(at(start, 6, None, || sessions(&cache, 2, true, 100).take(b"id")).0, None);
        assert_eq!(at(start, 6, None, || sessions(&cache, 1, false, 100).take(b"id")).0, None);
        assert_eq!(one.get(b"id"), None, "outside of a scope there is no time");
        assert!(!one.put(b"id".to_vec(), OF_12.to_vec()));
        // What is kept for a resumed session carries the first authentication, and one that is too old is not kept.
        assert!(at(start, 100, Some(5), || one.put(b"new".to_vec(), OF_13.to_vec())).0);
        assert_eq!(at(start, 101, None, || one.take(b"new")).1, Some(5));
        assert_eq!(at(start, 101, None, || one.take(b"new")).0, None, "taken");
        assert!(!at(start, 305, Some(5), || one.put(b"late".to_vec(), OF_12.to_vec())).0);
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let (cache, start): (Arc<SessionCache>, _) = (Arc::default(), Instant::now());
        let few = sessions(&cache, 1, true, 5);
        let put = |name: u8| at(start, 0, None, || few.put(vec![name], state(OF_12))).0;
        let get = |name: u8| at(start, 0, None, || few.get(&[name])).0.is_some();
        assert!((1..=4).all(put));
        assert!(!get(1) && (2..=4).all(get), "1000 bytes are room for three");
        assert!(put(3) && !get(2) && get(3) && get(4));
        assert!(!at(start, 0, None, || few.put(vec![9], [OF_12, &[0; 2000]].concat())).0);
        assert!(get(4), "one that never fits costs nobody its place");
        let none = sessions(&cache, 1, true, 0);
        assert!(!at(start, 0, None, || none.put(vec![1], OF_12.to_vec())).0);
    }

    #[test]
    fn a_session_counts_in_its_version_only() {
        let (cache, start) = (Arc::default(), Instant::now());
        let sessions = sessions(&cache, 1, true, 100);
        assert!(at(start, 0, None, || sessions.put(b"old".to_vec(), OF_12.to_vec())).0);
        assert!(at(start, 0, None, || sessions.put(b"new".to_vec(), OF_13.to_vec())).0);
        assert_eq!(at(start, 1, None, || sessions.take(b"old")), (None, None));
        assert_eq!(at(start, 1, None, || sessions.get(b"new")), (None, None));
        assert!(at(start, 1, None, || sessions.get(b"old")).0.is_some(), "nobody else has taken it");
        assert!(at(start, 1, None, || sessions.take(b"new")).0.is_some());
        for damaged in [&[][..], &[0], &[0, 3], &[1], &[1, 9, 3, 4]] {
            assert!(!at(start, 0, None, || sessions.put(b"x".to_vec(), damaged.to_vec())).0);
        }
    }

    #[test]
    fn a_session_of_tls_13_is_taken_once() {
        const COUNT: u32 = 3000;
        let (cache, start): (Arc<SessionCache>, _) = (Arc::default(), Instant::now());
        let many = sessions(&cache, 1, true, 100_000);
        for number in 0..COUNT {
            assert!(at(start, 0, None, || many.put(number.to_be_bytes().to_vec(), state(OF_13))).0);
        }
        // Both ask for the same one as close together as can be.
        let arrived = AtomicU32::new(0);
        let take = |number: u32| {
            arrived.fetch_add(1, Ordering::SeqCst);
            while arrived.load(Ordering::SeqCst) < 2 * (number + 1) {
                std::thread::yield_now();
            }
            at(start, 1, None, || many.take(&number.to_be_bytes())).0.is_some()
        };
        let all = || (0..COUNT).filter(|number| take(*number)).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads = [scope.spawn(all), scope.spawn(all)];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, COUNT as usize);
    }

    #[test]
    fn taken_sessions_leave_nothing_behind() {
        let (cache, start): (Arc<SessionCache>, _) = (Arc::default(), Instant::now());
        let many = sessions(&cache, 1, true, 1000);
        for number in 0..1000_u32 {
            let name = number.to_be_bytes().to_vec();
            assert!(at(start, 0, None, || many.put(name.clone(), state(OF_13))).0);
            assert!(at(start, 0, None, || many.take(&name)).0.is_some());
        }
        let state = cache.lock();
        assert_eq!((state.bytes, state.sessions.len()), (0, 0));
        assert!(state.order.len() <= 17, "{}", state.order.len());
    }
}
