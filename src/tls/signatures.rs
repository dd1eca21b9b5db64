//! [`Signatures`]: which signatures of certificates and CRLs were found good before, so that a client that comes again, and a
//! list that is looked at for every client, cost no second verification of the same bytes.
//!
//! Only what never changes is remembered: that a signature fits a message and a key. Dates, revocation and names are judged
//! every time, and so is the proof that the client has the private key. Each verifier has a memory of its own, which ends with it:
//! after a reload everything is verified anew.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use ::aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use super::client_auth::CHAIN_MAX;

/// Half of what is remembered: some 64 bytes each.
const HALF_MAX: usize = 2048;

/// SHA-256 of an algorithm, a key, a signature and what is signed.
type Fingerprint = [u8; 32];

/// Good signatures, the most recent ones.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    halves: Mutex<Halves>,
}

/// Full, the newer becomes the older. What is used again goes to the newer.
#[derive(Debug, Default)]
struct Halves {
    newer: HashSet<Fingerprint>,
    older: HashSet<Fingerprint>,
}

thread_local! {
    /// The memory of the verifier that is at work on this thread: algorithms are constants, to whom one cannot be given.
    static AT_WORK: RefCell<Option<Arc<Signatures>>> = const { RefCell::new(None) };
}

impl Signatures {
    /// Does `work`, in which [`ALGORITHMS`] remember. The CRLs that it looks at stay where they are as long as this memory lives.
    pub(super) fn during<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        /// A panic ends it too: it takes a connection, not the thread.
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                AT_WORK.set(None);
            }
        }
        AT_WORK.set(Some(self.clone()));
        let _over = Over;
        work()
    }

    fn knows(&self, fingerprint: &Fingerprint) -> bool {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.newer.contains(fingerprint) {
            return true;
        }
        let known = halves.older.remove(fingerprint);
        if known {
            halves.add(*fingerprint);
        }
        known
    }

    fn add(&self, fingerprint: Fingerprint) {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner).add(fingerprint);
    }
}

impl Halves {
    fn add(&mut self, fingerprint: Fingerprint) {
        if self.newer.len() == HALF_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(fingerprint);
    }
}

/// Those of aws-lc-rs, for certificates and CRLs with the memory of [`Signatures::during`]. What a client signs to prove that it
/// has a key is never the same twice: no memory there.
pub(super) static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let WebPkiSupportedAlgorithms { all, mapping } = aws_lc_rs::default_provider().signature_verification_algorithms;
    // Constants, made once for the life of the process.
    let remembering = all.iter().map(|&algorithm| -> &'static dyn SignatureVerificationAlgorithm {
        Box::leak(Box::new(Remembering { algorithm }))
    });
    WebPkiSupportedAlgorithms { all: remembering.collect::<Vec<_>>().leak(), mapping }
});

/// An algorithm that asks the memory first.
#[derive(Debug)]
struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
}

impl Remembering {
    fn fingerprint(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Fingerprint {
        let mut context = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        };
        // The two together name one algorithm of webpki: curve and hash, or padding and hash.
        add(self.public_key_alg_id().as_ref());
        add(self.signature_alg_id().as_ref());
        add(public_key);
        add(signature);
        if message.len() <= CHAIN_MAX {
            add(message);
        } else {
            // Longer than all that a client may send: a CRL. To hash it for every client would cost more than its signature.
            // It is the verifier's own and stays unchanged in its place, which is as good a name.
            context.update(&message.as_ptr().addr().to_be_bytes());
            context.update(&message.len().to_be_bytes());
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let memory = AT_WORK.with_borrow(Clone::clone);
        let Some(memory) = memory else {
            return self.algorithm.verify_signature(public_key, message, signature);
        };
        let fingerprint = self.fingerprint(public_key, message, signature);
        if memory.knows(&fingerprint) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        memory.add(fingerprint);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::pki_types::alg_id;

    use super::*;

    /// A signature is good if it is the message backwards, whatever the key; counts how often it is looked at.
    #[derive(Debug, Default)]
    struct Backwards(AtomicUsize);

    impl SignatureVerificationAlgorithm for Backwards {
        fn verify_signature(&self, _key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if message.iter().rev().eq(signature) { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ED25519
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ED25519
        }
    }

    struct World {
        counted: &'static Backwards,
        remembering: Remembering,
        memory: Arc<Signatures>,
    }

    impl World {
        fn new() -> Self {
            let counted: &'static Backwards = Box::leak(Box::default());
            Self { counted, remembering: Remembering { algorithm: counted }, memory: Arc::default() }
        }

        /// Whether the signature is good, and how many were looked at for that.
        fn verify(&self, key: &[u8], message: &[u8], signature: &[u8]) -> (bool, usize) {
            let before = self.counted.0.load(Ordering::Relaxed);
            let verified = self.memory.during(|| self.remembering.verify_signature(key, message, signature));
            (verified.is_ok(), self.counted.0.load(Ordering::Relaxed) - before)
        }
    }

    #[test]
    fn a_good_signature_is_looked_at_once() {
        let world = World::new();
        assert_eq!(world.verify(b"key", b"abc", b"cba"), (true, 1));
        assert_eq!(world.verify(b"key", b"abc", b"cba"), (true, 0));
    }

    #[test]
    fn whatever_differs_is_looked_at() {
        let world = World::new();
        assert_eq!(world.verify(b"key", b"abc", b"cba"), (true, 1));
        assert_eq!(world.verify(b"kez", b"abc", b"cba"), (true, 1), "another key");
        assert_eq!(world.verify(b"key", b"abd", b"cba"), (false, 1), "another message");
        assert_eq!(world.verify(b"key", b"abc", b"cbb"), (false, 1), "another signature");
        assert_eq!(world.verify(b"keyc", b"abc", b"ba"), (false, 1), "the same bytes in other places");
    }

    #[test]
    fn a_bad_signature_is_not_remembered() {
        let world = World::new();
        for _ in 0..3 {
            assert_eq!(world.verify(b"key", b"abc", b"abc"), (false, 1));
        }
    }

    #[test]
    fn another_verifier_remembers_nothing_of_it() {
        let mut world = World::new();
        assert_eq!(world.verify(b"key", b"abc", b"cba"), (true, 1));
        world.memory = Arc::default();
        assert_eq!(world.verify(b"key", b"abc", b"cba"), (true, 1));
    }

    #[test]
    fn outside_of_a_verifier_nothing_is_remembered() {
        let world = World::new();
        let _ = std::panic::catch_unwind(|| world.memory.clone().during(|| panic!("a chain that webpki cannot bear")));
        for looked_at in 1..3 {
            world.remembering.verify_signature(b"key", b"abc", b"cba").unwrap();
            assert_eq!(world.counted.0.load(Ordering::Relaxed), looked_at);
        }
    }

    #[test]
    fn a_long_list_is_known_by_its_place() {
        let world = World::new();
        let list = vec![7; CHAIN_MAX + 1];
        assert_eq!(world.verify(b"key", &list, &list), (true, 1));
        assert_eq!(world.verify(b"key", &list, &list), (true, 0));
        assert_eq!(world.verify(b"key", &list.clone(), &list), (true, 1), "a copy elsewhere");
        assert_eq!(world.verify(b"kez", &list, &list), (true, 1), "another key");
        assert_eq!(world.verify(b"key", &list, &list[1..]), (false, 1), "another signature");
        assert_eq!(world.verify(b"key", &list[..CHAIN_MAX], &list[1..]), (true, 1), "a part of it");
    }

    #[test]
    fn what_is_used_stays_and_the_number_is_bounded() {
        let world = World::new();
        assert_eq!(world.verify(b"often", b"abc", b"cba"), (true, 1));
        for number in 0..10 * HALF_MAX {
            assert_eq!(world.verify(&number.to_be_bytes(), b"abc", b"cba"), (true, 1));
            assert_eq!(world.verify(b"often", b"abc", b"cba"), (true, 0));
        }
        assert_eq!(world.verify(&0_usize.to_be_bytes(), b"abc", b"cba"), (true, 1), "forgotten");
        let halves = world.memory.halves.lock().unwrap();
        assert!(halves.newer.len() <= HALF_MAX && halves.older.len() <= HALF_MAX);
    }
}
