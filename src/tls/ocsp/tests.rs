use super::*;
use crate::tls::test_pki::*;

struct World {
    ca: Ca,
    other: Ca,
    server: Issued,
}

impl World {
    fn new() -> Self {
        let ca = Ca::root("Root");
        Self { server: ca.server(&["a.example"], ec_key()), ca, other: Ca::root("Other") }
    }

    fn good(&self) -> Ocsp<'_> {
        Ocsp::good(&self.server.der, &self.ca)
    }

    fn read(&self, der: &[u8]) -> Result<Staple, String> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        Staple::read(der, &Certificate::parse(&self.server.der).unwrap(), &self.ca.der, &algorithms)
    }

    #[track_caller]
    fn refused(&self, response: &Ocsp<'_>, reason: &str) {
        assert_eq!(self.read(&response.der()).unwrap_err(), reason);
    }

    /// A certificate of `issuer` that signs responses.
    fn responder(&self, issuer: &Ca, usage: rcgen::ExtendedKeyUsagePurpose) -> Issued {
        issuer.client("Responder", |params| params.extended_key_usages = vec![usage])
    }
}

#[test]
fn a_good_response_counts_between_its_dates() {
    let world = World::new();
    let der = world.good().der();
    let staple = world.read(&der).unwrap();
    assert_eq!(staple.der, der);
    for (second, is_valid) in [(0, true), (-60, true), (-361, false), (7 * DAY, true), (7 * DAY + 1, false)] {
        assert_eq!(staple.is_valid(at_second(second)), is_valid, "{second}");
        assert_eq!(staple.trouble(at_second(second)).is_none(), is_valid, "{second}");
    }
}

#[test]
fn a_responder_of_the_issuer_may_sign() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, OcspSigning};
    let world = World::new();
    let signed_by = |responder: &Issued| {
        let certificates = vec![responder.der.clone()];
        world.read(&Ocsp { signer: &responder.key, certificates, ..world.good() }.der())
    };
    assert!(signed_by(&world.responder(&world.ca, OcspSigning)).is_ok());
    let reason = "is not signed by the issuer, nor by a responder of the issuer";
    assert_eq!(signed_by(&world.responder(&world.ca, ClientAuth)).unwrap_err(), reason);
    assert_eq!(signed_by(&world.responder(&world.other, OcspSigning)).unwrap_err(), reason);
    let absent = world.responder(&world.ca, OcspSigning);
    world.refused(&Ocsp { signer: &absent.key, ..world.good() }, reason);
    // It counts as long as its responder does.
    let short = world.ca.client("Responder", |params| {
        params.extended_key_usages = vec![OcspSigning];
        valid(-DAY, DAY)(params);
    });
    let staple = signed_by(&short).unwrap();
    assert!(staple.is_valid(now()) && !staple.is_valid(at_second(2 * DAY)));
}

#[test]
fn everything_else_is_refused() {
    let world = World::new();
    let stranger = world.other.server(&["a.example"], ec_key());
    let sibling = world.ca.issue(ec_key(), |params| params.serial_number = Some(rcgen::SerialNumber::from(8)));
    world.refused(&Ocsp { status: 1, ..world.good() }, "says that the certificate is revoked");
    world.refused(&Ocsp { status: 2, ..world.good() }, "says that the certificate is unknown");
    world.refused(&Ocsp { next_update: None, ..world.good() }, "has no nextUpdate");
    world.refused(&Ocsp { about: (&sibling.der, &world.ca), ..world.good() }, "is about another certificate");
    world.refused(&Ocsp { about: (&stranger.der, &world.other), ..world.good() }, "is about another certificate");
    let reason = "is not signed by the issuer, nor by a responder of the issuer";
    world.refused(&Ocsp { signer: &stranger.key, ..world.good() }, reason);
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let leaf = Certificate::parse(&world.server.der).unwrap();
    let wrong = Staple::read(&world.good().der(), &leaf, &world.other.der, &algorithms).unwrap_err();
    assert_eq!(wrong, "cannot be checked: \"/O=Example/CN=Other\" is not the issuer");
}

#[test]
fn damage_is_noticed_wherever_it_is() {
    let world = World::new();
    let good = world.good().der();
    assert!(world.read(&good).is_ok());
    for index in 0..good.len() {
        let mut damaged = good.clone();
        damaged[index] ^= 1;
        // What no signature covers (the lengths of lengths) may read as the same.
        if let Ok(staple) = world.read(&damaged) {
            assert_eq!((staple.from, staple.until), (at_second(-60), at_second(7 * DAY)), "byte {index}");
        }
        assert!(world.read(&good[..index]).is_err(), "cut at {index}");
    }
    assert!(world.read(&[&good[..], &[0]].concat()).is_err(), "something behind it");
    for (der, reason) in [
        (&b"-----BEGIN OCSP RESPONSE-----"[..], "is PEM, DER is needed"),
        (b"", "is no OCSP response in DER"),
        (&[0x30, 3, 0x0a, 1, 3], "is the responder's error tryLater"),
        (&[0x30, 3, 0x0a, 1, 6], "is the responder's error unauthorized"),
        (&[0x30, 3, 0x0a, 1, 9], "is no OCSP response in DER"),
        (&[0x30, 3, 0x0a, 1, 0], "is no OCSP response in DER"),
    ] {
        assert_eq!(world.read(der).unwrap_err(), reason);
    }
}
