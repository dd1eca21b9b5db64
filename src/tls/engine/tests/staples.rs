//! OCSP responses in handshakes.

use super::*;

#[test]
fn a_response_is_stapled_until_it_expires() {
    let mut world = World::new();
    let ca = Ca::root("Server CA");
    let server = ca.server(&["s.example"], ec_key());
    let response = Ocsp { next_update: Some(3600), ..Ocsp::good(&server.der, &ca) }.der();
    let chain = format!("{}{}", server.combined(), ca.pem);
    add_file(&mut world.files, "/s/ec.pem", chain.into_bytes(), 0o600);
    add_file(&mut world.files, "/s/ec.pem.ocsp", response.clone(), 0o600);
    let policy = world.policy(Verify::None);
    for version in VERSIONS {
        for (second, stapled) in [(0, response.as_slice()), (3600, &response), (3601, &[])] {
            let browser = world.client(version, None);
            let mut pair = Pair::new(&browser, &policy, world.at(second));
            pair.run().unwrap();
            assert_eq!(*browser.seen.staple.lock().unwrap(), stapled, "{version:?} after {second} s");
        }
    }
}
