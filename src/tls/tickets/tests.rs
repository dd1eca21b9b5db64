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
        Ticketer::new(Sealer::Process(self.keys.clone()), policy, LIFETIME, honoured)
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
    let for_ever = Ticketer::new(Sealer::Process(fixture.keys.clone()), POLICY, Duration::MAX, true);
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
