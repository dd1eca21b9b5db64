//! Session tickets (RFC 5077, RFC 8446 4.6.1). rustls resumes a session without looking at the client's certificate, and
//! renews tickets for ever; so a ticket here says under which policy it was issued and when its client was authenticated
//! first, and is worthless under another policy or after the lifetime.
//!
//! Envelope: key name (16) | nonce (12) | AES-256-GCM (milliseconds of the first authentication (8), rustls' state). The
//! policy's digest is additional data: it is authenticated and needs no room.
//!
//! All loops and policies of the process share one [`TicketKeys`], so a session resumes on any of them; keys are never
//! written anywhere, so it does not survive the worker.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use zeroize::Zeroizing;

use crate::stats::labels::TicketRefusal;

const NAME_LEN: usize = 16;
const NONCE_LEN: usize = 12;
const TIME_LEN: usize = 8;
const TAG_LEN: usize = 16;
/// The longest lifetime that a client may be told, in seconds (RFC 8446, 4.6.1).
const HINT_MAX: u64 = 7 * 24 * 3600;
/// Shortest envelope.
const OVERHEAD: usize = NAME_LEN + NONCE_LEN + TIME_LEN + TAG_LEN;
/// Longest envelope, in bytes: a ClientHello with it still fits one record. A client whose certificates need more gets no
/// ticket.
const ENVELOPE_MAX: usize = 15 * 1024;
/// A key encrypts for this long, or for the lifetime of a session if that is longer, and decrypts for as long again. Well
/// below the 2^32 messages after which random nonces of AES-GCM become a risk (NIST SP 800-38D, 8.3).
const ROTATION: Duration = Duration::from_secs(3600);

/// The keys of all tickets of this process: one that encrypts and the one before it.
#[derive(Debug)]
pub struct TicketKeys {
    epoch: Instant,
    keys: RwLock<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    current: Option<Key>,
    previous: Option<Key>,
}

/// aws-lc wipes the key schedule when it is freed, and [`Key::draw`] wipes the bytes it was made of.
#[derive(Debug)]
struct Key {
    name: [u8; NAME_LEN],
    born: Instant,
    aead: LessSafeKey,
}

impl Key {
    fn draw(now: Instant) -> Option<Self> {
        let random = SystemRandom::new();
        let mut name = [0; NAME_LEN];
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(&mut name).ok()?;
        random.fill(&mut *bytes).ok()?;
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*bytes).ok()?);
        Some(Self { name, born: now, aead })
    }
}

impl TicketKeys {
    /// Keys are drawn when they are first needed. No ticket can be older than `epoch`.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, keys: RwLock::default() }
    }

    /// Forgets the keys that are too old at `now`. Done whenever a ticket is sealed or opened.
    fn rotate(&self, now: Instant, lifetime: Duration) {
        let interval = lifetime.max(ROTATION);
        let due =
            |key: &Option<Key>, age| key.as_ref().is_some_and(|key| now.saturating_duration_since(key.born) >= age);
        let is_due = |keys: &Keys| due(&keys.current, interval) || due(&keys.previous, 2 * interval);
        if !is_due(&self.keys.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if due(&keys.current, interval) {
            keys.previous = keys.current.take();
        }
        if due(&keys.previous, 2 * interval) {
            keys.previous = None;
        }
    }

    /// `None` without randomness, for a plaintext that is too long, and if the session's lifetime is over.
    fn seal(
        &self,
        now: Instant,
        first: Instant,
        lifetime: Duration,
        policy: &[u8; 32],
        plain: &[u8],
    ) -> Option<Vec<u8>> {
        if now.saturating_duration_since(first) >= lifetime || plain.len() > ENVELOPE_MAX - OVERHEAD {
            return None;
        }
        self.rotate(now, lifetime);
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let since_epoch = first.saturating_duration_since(self.epoch).as_millis();
        let mut sealed = Vec::with_capacity(OVERHEAD + plain.len());
        sealed.extend_from_slice(&u64::try_from(since_epoch).ok()?.to_be_bytes());
        sealed.extend_from_slice(plain);
        let mut envelope = Vec::with_capacity(OVERHEAD + plain.len());
        self.with_current(now, |key| {
            let aad = Aad::from(*policy);
            key.aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
            envelope.extend_from_slice(&key.name);
            Some(())
        })?;
        envelope.extend_from_slice(&nonce);
        envelope.extend_from_slice(&sealed);
        Some(envelope)
    }

    fn with_current(&self, now: Instant, seal: impl FnOnce(&Key) -> Option<()>) -> Option<()> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &keys.current {
            return seal(key);
        }
        drop(keys);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.current.is_none() {
            keys.current = Some(Key::draw(now)?);
        }
        seal(keys.current.as_ref()?)
    }

    /// The plaintext and the time of the first authentication.
    ///
    /// # Errors
    /// It was not sealed under this policy with a key that still exists, or its lifetime is over.
    fn open(
        &self,
        now: Instant,
        lifetime: Duration,
        policy: &[u8; 32],
        envelope: &[u8],
    ) -> Result<(Vec<u8>, Instant), TicketRefusal> {
        if envelope.len() < OVERHEAD || envelope.len() > ENVELOPE_MAX {
            return Err(TicketRefusal::UnknownKey);
        }
        self.rotate(now, lifetime);
        let (name, rest) = envelope.split_at(NAME_LEN);
        let (nonce, sealed) = rest.split_at(NONCE_LEN);
        let mut sealed = sealed.to_vec();
        let plain_len = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            let mut known = [&keys.current, &keys.previous].into_iter().flatten();
            let key = known.find(|key| key.name == name).ok_or(TicketRefusal::UnknownKey)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| TicketRefusal::Policy)?;
            let opened = key.aead.open_in_place(nonce, Aad::from(*policy), &mut sealed);
            opened.map_err(|_| TicketRefusal::Policy)?.len()
        };
        sealed.truncate(plain_len);
        let time = sealed.get(..TIME_LEN).and_then(|time| time.try_into().ok()).ok_or(TicketRefusal::Policy)?;
        let since_epoch = Duration::from_millis(u64::from_be_bytes(time));
        let first = self.epoch.checked_add(since_epoch).ok_or(TicketRefusal::Policy)?;
        if now.saturating_duration_since(first) >= lifetime {
            return Err(TicketRefusal::Expired);
        }
        sealed.drain(..TIME_LEN);
        Ok((sealed, first))
    }

    /// How old the key is that encrypts; `None` before the first ticket.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.current.as_ref().map(|key| now.saturating_duration_since(key.born))
    }
}

/// What rustls calls for the tickets of one policy. Works only inside a [`Scope`]: outside nothing is sealed or opened.
#[derive(Debug)]
pub(super) struct Ticketer {
    keys: Arc<TicketKeys>,
    policy: [u8; 32],
    lifetime: Duration,
    honoured: bool,
}

impl Ticketer {
    /// `policy` is the digest of all that a ticket must have in common with the connection that shows it. With `honoured`
    /// false no ticket opens, which makes rustls do a full handshake, but new ones are issued.
    pub(super) fn new(keys: Arc<TicketKeys>, policy: [u8; 32], lifetime: Duration, honoured: bool) -> Self {
        Self { keys, policy, lifetime, honoured }
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    /// The hint to the client (RFC 8446 4.6.1): what is left of the lifetime, in seconds. Never 0, which would mean
    /// "unspecified" in TLS 1.2 (RFC 5077, 3.3).
    fn lifetime(&self) -> u32 {
        let age = SCOPE.get().and_then(|scope| Some(scope.now.saturating_duration_since(scope.first?)));
        let left = self.lifetime.saturating_sub(age.unwrap_or_default());
        left.as_secs().clamp(1, HINT_MAX) as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let Frame { now, first, .. } = SCOPE.get()?;
        self.keys.seal(now, first.unwrap_or(now), self.lifetime, &self.policy, plain)
    }

    fn decrypt(&self, envelope: &[u8]) -> Option<Vec<u8>> {
        if !self.honoured {
            return None;
        }
        let frame = SCOPE.get()?;
        let (plain, opened) = match self.keys.open(frame.now, self.lifetime, &self.policy, envelope) {
            Ok(opened) => opened,
            Err(refusal) => {
                SCOPE.set(Some(Frame { refused: Some(refusal), ..frame }));
                return None;
            }
        };
        // A ClientHello may offer several tickets; the oldest of those that opened is the safe answer.
        let first = Some(frame.first.map_or(opened, |first| first.min(opened)));
        SCOPE.set(Some(Frame { first, ..frame }));
        Some(plain)
    }
}

#[derive(Clone, Copy)]
struct Frame {
    now: Instant,
    unix: UnixTime,
    first: Option<Instant>,
    /// Why the last ticket that did not open did not.
    refused: Option<TicketRefusal>,
}

thread_local! {
    static SCOPE: Cell<Option<Frame>> = const { Cell::new(None) };
}

/// What the tickets of one connection need to know, for the duration of one call into rustls.
///
/// rustls hands [`ProducesTickets`] nothing but bytes, and its unbuffered API has neither `set_resumption_data` nor
/// `received_resumption_data`. But it calls the ticketer on the thread that called it, so a thread-local can say which
/// connection it works for. To be entered around every call that processes handshake records:
///
/// ```ignore
/// let scope = Scope::enter(now.instant, now.unix, self.first_authentication);
/// let result = tls.process_tls_records(buffer);
/// self.first_authentication = scope.leave();
/// // As soon as the kind of the handshake is known: if it is Full, whatever a ticket said is void.
/// if tls.handshake_kind() != Some(HandshakeKind::Resumed) { self.first_authentication = None }
/// ```
///
/// A renewed ticket then carries the time of the original handshake (TLS 1.2 renews within the call that opens the old
/// ticket, TLS 1.3 in a later one), the ticket of a full handshake carries now. Forgetting the last line makes tickets live
/// shorter, never longer.
pub(super) struct Scope {
    outer: Option<Frame>,
    /// It belongs to this thread.
    not_send: PhantomData<*const ()>,
}

impl Scope {
    /// `now` is the monotonic time and `unix` the time for certificates, see [`ScopeTime`]; `first_authentication` is what the
    /// last scope of this connection left.
    pub(super) fn enter(now: Instant, unix: UnixTime, first_authentication: Option<Instant>) -> Self {
        let outer = SCOPE.replace(Some(Frame { now, unix, first: first_authentication, refused: None }));
        Self { outer, not_send: PhantomData }
    }

    /// Why a ticket did not open, for counting.
    pub(super) fn refused(&self) -> Option<TicketRefusal> {
        SCOPE.get().and_then(|frame| frame.refused)
    }

    /// Ends it and answers with the time of the first authentication, if it was given or a ticket that opened told it.
    pub(super) fn leave(self) -> Option<Instant> {
        SCOPE.get().and_then(|frame| frame.first)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        SCOPE.set(self.outer);
    }
}

/// The clock of rustls: inside a [`Scope`] the time that the scope was given, so that one reading serves a turn of the loop
/// and every check of it.
#[derive(Debug)]
pub(super) struct ScopeTime;

impl TimeProvider for ScopeTime {
    fn current_time(&self) -> Option<UnixTime> {
        SCOPE.get().map(|frame| frame.unix).or_else(|| DefaultTimeProvider.current_time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::test_pki::now;

    const LIFETIME: Duration = Duration::from_secs(300);
    const POLICY: [u8; 32] = [1; 32];

    struct Fixture {
        start: Instant,
        keys: Arc<TicketKeys>,
    }

    impl Fixture {
        fn new() -> Self {
            let start = Instant::now();
            Self { start, keys: Arc::new(TicketKeys::new(start)) }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn ticketer(&self, policy: [u8; 32], honoured: bool) -> Ticketer {
            Ticketer::new(self.keys.clone(), policy, LIFETIME, honoured)
        }

        fn seal(&self, second: u64, plain: &[u8]) -> Option<Vec<u8>> {
            let now = self.at(second);
            self.keys.seal(now, now, LIFETIME, &POLICY, plain)
        }

        fn open(&self, second: u64, envelope: &[u8]) -> Result<(Vec<u8>, Instant), TicketRefusal> {
            self.keys.open(self.at(second), LIFETIME, &POLICY, envelope)
        }
    }

    #[test]
    fn a_ticket_opens_under_its_own_policy_only() {
        let fixture = Fixture::new();
        let ticket = fixture.seal(5, b"state").unwrap();
        assert_eq!(ticket.len(), OVERHEAD + 5);
        assert_eq!(fixture.open(6, &ticket), Ok((b"state".to_vec(), fixture.at(5))));
        let other = fixture.keys.open(fixture.at(6), LIFETIME, &[2; 32], &ticket);
        assert_eq!(other, Err(TicketRefusal::Policy));
        assert_eq!(Fixture::new().open(6, &ticket), Err(TicketRefusal::UnknownKey));
    }

    #[test]
    fn a_ticket_is_worthless_after_the_lifetime() {
        let fixture = Fixture::new();
        let ticket = fixture.seal(5, b"state").unwrap();
        assert!(fixture.open(304, &ticket).is_ok());
        assert_eq!(fixture.open(305, &ticket), Err(TicketRefusal::Expired));
        let first = fixture.at(5);
        assert!(fixture.keys.seal(fixture.at(304), first, LIFETIME, &POLICY, b"state").is_some());
        assert!(fixture.keys.seal(fixture.at(305), first, LIFETIME, &POLICY, b"state").is_none());
    }

    #[test]
    fn damaged_short_and_huge_tickets_do_not_open() {
        let fixture = Fixture::new();
        let ticket = fixture.seal(0, b"state").unwrap();
        for index in 0..ticket.len() {
            let mut damaged = ticket.clone();
            damaged[index] ^= 1;
            assert!(fixture.open(0, &damaged).is_err(), "byte {index}");
            assert!(fixture.open(0, &ticket[..index]).is_err(), "length {index}");
        }
        assert!(fixture.open(0, &[ticket.as_slice(), &[0; 70_000]].concat()).is_err());
        assert!(fixture.open(0, &[0; ENVELOPE_MAX]).is_err());
        let longest = ENVELOPE_MAX - OVERHEAD;
        let ticket = fixture.seal(0, &vec![0; longest]).unwrap();
        assert_eq!(fixture.open(0, &ticket).unwrap().0.len(), longest);
        assert_eq!(fixture.seal(0, &vec![0; longest + 1]), None);
    }

    #[test]
    fn rotation_keeps_the_previous_key_only() {
        let fixture = Fixture::new();
        // Without a lifetime in the way: only the key decides.
        let long = Duration::from_secs(1_000_000);
        let sealed_at = |second: u64| {
            fixture.keys.rotate(fixture.at(second), LIFETIME);
            let now = fixture.at(second);
            fixture.keys.seal(now, now, Duration::from_secs(1), &POLICY, b"state").unwrap()
        };
        let opens = |ticket: &[u8]| {
            let epoch = fixture.start;
            fixture.keys.open(epoch, long, &POLICY, ticket).is_ok()
        };
        let first = sealed_at(0);
        let same_key = sealed_at(3599);
        assert_eq!(first[..NAME_LEN], same_key[..NAME_LEN]);
        let second = sealed_at(3600);
        assert_ne!(first[..NAME_LEN], second[..NAME_LEN]);
        assert!(opens(&first) && opens(&second));
        let third = sealed_at(7200);
        assert!(!opens(&first) && opens(&second) && opens(&third));
        // After a long silence nothing is left.
        fixture.keys.rotate(fixture.at(100_000), LIFETIME);
        assert!(!opens(&second) && !opens(&third));
    }

    #[test]
    fn every_ticket_has_its_own_nonce() {
        let fixture = Fixture::new();
        let nonce = |ticket: Vec<u8>| ticket[NAME_LEN..NAME_LEN + NONCE_LEN].to_vec();
        assert_ne!(nonce(fixture.seal(0, b"state").unwrap()), nonce(fixture.seal(0, b"state").unwrap()));
    }

    #[test]
    fn a_renewed_ticket_carries_the_first_authentication() {
        let fixture = Fixture::new();
        let ticketer = fixture.ticketer(POLICY, true);
        let scope = Scope::enter(fixture.at(10), now(), None);
        let ticket = ticketer.encrypt(b"state").unwrap();
        assert_eq!(ticketer.lifetime(), 300);
        let for_ever = Ticketer::new(fixture.keys.clone(), POLICY, Duration::MAX, true);
        assert_eq!(for_ever.lifetime(), 604_800);
        assert_eq!(scope.leave(), None);
        // TLS 1.2: opened and renewed in one call.
        let scope = Scope::enter(fixture.at(100), now(), None);
        assert_eq!(ticketer.decrypt(&ticket).unwrap(), b"state");
        let renewed = ticketer.encrypt(b"state").unwrap();
        assert_eq!(ticketer.lifetime(), 210);
        let first = scope.leave();
        assert_eq!(first, Some(fixture.at(10)));
        // TLS 1.3: renewed in a later call.
        let scope = Scope::enter(fixture.at(200), now(), first);
        let again = ticketer.encrypt(b"state").unwrap();
        assert_eq!(scope.leave(), first);
        for ticket in [renewed, again] {
            assert!(fixture.open(309, &ticket).is_ok());
            assert!(fixture.open(310, &ticket).is_err());
        }
    }

    #[test]
    fn the_oldest_of_several_tickets_counts() {
        let fixture = Fixture::new();
        let ticketer = fixture.ticketer(POLICY, true);
        let (old, new) = (fixture.seal(1, b"old").unwrap(), fixture.seal(50, b"new").unwrap());
        let scope = Scope::enter(fixture.at(60), now(), None);
        ticketer.decrypt(&old).unwrap();
        ticketer.decrypt(&new).unwrap();
        assert_eq!(scope.leave(), Some(fixture.at(1)));
    }

    #[test]
    fn a_scope_tells_why_a_ticket_did_not_open() {
        let fixture = Fixture::new();
        let ticket = fixture.seal(0, b"state").unwrap();
        let scope = Scope::enter(fixture.at(1), now(), None);
        assert_eq!(scope.refused(), None);
        assert!(fixture.ticketer([2; 32], true).decrypt(&ticket).is_none());
        assert_eq!(scope.refused(), Some(TicketRefusal::Policy));
        drop(scope);
        let scope = Scope::enter(fixture.at(1), now(), None);
        assert!(fixture.ticketer(POLICY, true).decrypt(&ticket).is_some());
        assert_eq!(scope.refused(), None);
    }

    #[test]
    fn the_age_is_that_of_the_key_that_encrypts() {
        let fixture = Fixture::new();
        assert_eq!(fixture.keys.age(fixture.at(0)), None);
        fixture.seal(5, b"state").unwrap();
        assert_eq!(fixture.keys.age(fixture.at(65)), Some(Duration::from_secs(60)));
    }

    #[test]
    fn scopes_end_even_by_panic_and_can_be_nested() {
        let fixture = Fixture::new();
        let ticketer = fixture.ticketer(POLICY, true);
        assert!(ticketer.encrypt(b"state").is_none());
        let ticket = fixture.seal(0, b"state").unwrap();
        assert!(ticketer.decrypt(&ticket).is_none());
        let outer = Scope::enter(fixture.at(1), now(), None);
        let unwound = std::panic::catch_unwind(|| {
            let _inner = Scope::enter(fixture.at(2), now(), Some(fixture.start));
            std::panic::resume_unwind(Box::new("test"));
        });
        assert!(unwound.is_err());
        assert_eq!(outer.leave(), None);
        assert!(ticketer.encrypt(b"state").is_none());
    }

    #[test]
    fn a_ticketer_that_honours_nothing_still_issues() {
        let fixture = Fixture::new();
        let scope = Scope::enter(fixture.at(1), now(), None);
        let ticket = fixture.ticketer(POLICY, false).encrypt(b"state").unwrap();
        assert!(fixture.ticketer(POLICY, false).decrypt(&ticket).is_none());
        assert!(fixture.ticketer(POLICY, true).decrypt(&ticket).is_some());
        assert!(fixture.ticketer(POLICY, false).enabled());
        drop(scope);
    }
}
