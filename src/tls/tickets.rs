//! Session tickets (RFC 5077, RFC 8446 4.6.1). rustls resumes a session without looking at the client's certificate, and
//! renews tickets for ever; so a ticket here says under which policy it was issued and when its client was authenticated
//! first, and is worthless under another policy or after the lifetime.
//!
//! Envelope: key name (16) | nonce (12) | AES-256-GCM (milliseconds of the first authentication (8), rustls' state). The
//! policy's digest is additional data: it is authenticated and needs no room.
//!
//! All loops and policies of the process share one [`TicketKeys`], so a session resumes on any of them; keys are never
//! written anywhere, so it does not survive the worker. Keys of `tls-ticket-keys` do; there the time is that of the day, in
//! seconds, because the processes that share them share no other.

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

use super::sessions::SessionCache;
use super::ticket_file::FileKeys;

use crate::stats::labels::TicketRefusal;

pub(super) const NAME_LEN: usize = 16;
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

/// The keys of all tickets of this process that no `tls-ticket-keys` names others for: one that encrypts and the one before it.
#[derive(Debug)]
pub struct TicketKeys {
    epoch: Instant,
    /// The sessions of `bind` lines without tickets.
    cache: Arc<SessionCache>,
    keys: RwLock<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    current: Option<Drawn>,
    previous: Option<Drawn>,
}

#[derive(Debug)]
struct Drawn {
    key: Key,
    born: Instant,
}

/// aws-lc wipes the key schedule when it is freed, and whoever makes a key wipes the bytes it was made of.
#[derive(Debug)]
pub(super) struct Key {
    name: [u8; NAME_LEN],
    aead: LessSafeKey,
}

impl Key {
    pub(super) fn new(name: [u8; NAME_LEN], aead: LessSafeKey) -> Self {
        Self { name, aead }
    }

    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        self.name == name
    }

    /// An envelope. `time` is what the caller will know the first authentication by. `None` without randomness, and for a
    /// plaintext that is too long.
    pub(super) fn seal(&self, policy: &[u8; 32], time: u64, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > ENVELOPE_MAX - OVERHEAD {
            return None;
        }
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(OVERHEAD + plain.len());
        sealed.extend_from_slice(&time.to_be_bytes());
        sealed.extend_from_slice(plain);
        let aad = Aad::from(*policy);
        self.aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        let mut envelope = Vec::with_capacity(OVERHEAD + plain.len());
        envelope.extend_from_slice(&self.name);
        envelope.extend_from_slice(&nonce);
        envelope.extend_from_slice(&sealed);
        Some(envelope)
    }

    /// Time and plaintext of an envelope that bears the name of this key.
    ///
    /// # Errors
    /// It was not sealed under this policy with this key.
    pub(super) fn open(&self, policy: &[u8; 32], envelope: &[u8]) -> Result<(u64, Vec<u8>), TicketRefusal> {
        if envelope.len() < OVERHEAD || envelope.len() > ENVELOPE_MAX {
            return Err(TicketRefusal::UnknownKey);
        }
        let (nonce, sealed) = envelope[NAME_LEN..].split_at(NONCE_LEN);
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| TicketRefusal::Policy)?;
        let opened = self.aead.open_in_place(nonce, Aad::from(*policy), &mut sealed);
        let length = opened.map_err(|_| TicketRefusal::Policy)?.len();
        sealed.truncate(length);
        let time = sealed.first_chunk().copied().ok_or(TicketRefusal::Policy)?;
        sealed.drain(..TIME_LEN);
        Ok((u64::from_be_bytes(time), sealed))
    }
}

impl Drawn {
    fn draw(now: Instant) -> Option<Self> {
        let random = SystemRandom::new();
        let mut name = [0; NAME_LEN];
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(&mut name).ok()?;
        random.fill(&mut *bytes).ok()?;
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*bytes).ok()?);
        Some(Self { key: Key { name, aead }, born: now })
    }
}

impl TicketKeys {
    /// Keys are drawn when they are first needed. No ticket can be older than `epoch`.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, cache: Arc::default(), keys: RwLock::default() }
    }

    /// Forgets the keys that are too old at `now`. Done whenever a ticket is sealed or opened.
    fn rotate(&self, now: Instant, lifetime: Duration) {
        let interval = lifetime.max(ROTATION);
        let due =
            |key: &Option<Drawn>, age| key.as_ref().is_some_and(|key| now.saturating_duration_since(key.born) >= age);
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

    /// `None` as with [`Key::seal`], and if the session's lifetime is over.
    fn seal(
        &self,
        now: Instant,
        first: Instant,
        lifetime: Duration,
        policy: &[u8; 32],
        plain: &[u8],
    ) -> Option<Vec<u8>> {
        if now.saturating_duration_since(first) >= lifetime {
            return None;
        }
        self.rotate(now, lifetime);
        let since_epoch = u64::try_from(first.saturating_duration_since(self.epoch).as_millis()).ok()?;
        self.with_current(now, |key| key.seal(policy, since_epoch, plain))
    }

    fn with_current<T>(&self, now: Instant, seal: impl FnOnce(&Key) -> Option<T>) -> Option<T> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &keys.current {
            return seal(&current.key);
        }
        drop(keys);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.current.is_none() {
            keys.current = Some(Drawn::draw(now)?);
        }
        seal(&keys.current.as_ref()?.key)
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
        let name = envelope.get(..NAME_LEN).ok_or(TicketRefusal::UnknownKey)?;
        self.rotate(now, lifetime);
        let (time, plain) = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            let mut known = [&keys.current, &keys.previous].into_iter().flatten();
            let known = known.find(|known| known.key.is_named(name)).ok_or(TicketRefusal::UnknownKey)?;
            known.key.open(policy, envelope)?
        };
        let first = self.epoch.checked_add(Duration::from_millis(time)).ok_or(TicketRefusal::Policy)?;
        if now.saturating_duration_since(first) >= lifetime {
            return Err(TicketRefusal::Expired);
        }
        Ok((plain, first))
    }

    /// The sessions of `bind` lines without tickets.
    pub(super) fn cache(&self) -> &Arc<SessionCache> {
        &self.cache
    }

    /// How old the key is that encrypts; `None` before the first ticket.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.current.as_ref().map(|key| now.saturating_duration_since(key.born))
    }
}

/// Whose keys a policy's tickets are sealed with.
#[derive(Clone, Debug)]
pub(super) enum Sealer {
    /// The process's own.
    Process(Arc<TicketKeys>),
    /// Those of `tls-ticket-keys`.
    File(Arc<FileKeys>),
}

/// What rustls calls for the tickets of one policy. Works only inside a [`Scope`]: outside nothing is sealed or opened.
#[derive(Debug)]
pub(super) struct Ticketer {
    sealer: Sealer,
    policy: [u8; 32],
    lifetime: Duration,
    honoured: bool,
}

impl Ticketer {
    /// `policy` is the digest of all that a ticket must have in common with the connection that shows it. With `honoured`
    /// false no ticket opens, which makes rustls do a full handshake, but new ones are issued.
    pub(super) fn new(sealer: Sealer, policy: [u8; 32], lifetime: Duration, honoured: bool) -> Self {
        Self { sealer, policy, lifetime, honoured }
    }

    fn open(&self, now: Instant, unix: UnixTime, envelope: &[u8]) -> Result<(Vec<u8>, Instant), TicketRefusal> {
        match &self.sealer {
            Sealer::Process(keys) => keys.open(now, self.lifetime, &self.policy, envelope),
            Sealer::File(keys) => {
                let (plain, age) = keys.open(unix, self.lifetime, &self.policy, envelope)?;
                // From before this machine was started: as old as its clock can tell, and never younger than it is.
                Ok((plain, now.checked_sub(age).ok_or(TicketRefusal::Expired)?))
            }
        }
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
        let Frame { now, unix, first, .. } = SCOPE.get()?;
        let first = first.unwrap_or(now);
        match &self.sealer {
            Sealer::Process(keys) => keys.seal(now, first, self.lifetime, &self.policy, plain),
            Sealer::File(keys) => {
                let age = now.saturating_duration_since(first);
                keys.seal(unix, age, self.lifetime, &self.policy, plain)
            }
        }
    }

    fn decrypt(&self, envelope: &[u8]) -> Option<Vec<u8>> {
        if !self.honoured {
            return None;
        }
        let frame = SCOPE.get()?;
        let (plain, opened) = match self.open(frame.now, frame.unix, envelope) {
            Ok(opened) => opened,
            Err(refusal) => {
                SCOPE.set(Some(Frame { refused: Some(refusal), ..frame }));
                return None;
            }
        };
        Scope::resumes(opened);
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

    /// The time of the scope that this thread is in.
    pub(super) fn now() -> Option<Instant> {
        SCOPE.get().map(|frame| frame.now)
    }

    /// The first authentication of the client whose connection this thread works for, if a session has told it.
    pub(super) fn first_authentication() -> Option<Instant> {
        SCOPE.get().and_then(|frame| frame.first)
    }

    /// A session that began at `first` was found. A ClientHello may offer several; the oldest of them is the safe answer.
    pub(super) fn resumes(first: Instant) {
        if let Some(frame) = SCOPE.get() {
            let first = Some(frame.first.map_or(first, |other| other.min(first)));
            SCOPE.set(Some(Frame { first, ..frame }));
        }
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
mod tests;
