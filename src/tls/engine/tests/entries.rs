//! Connections under entries of a `crt-list` with settings of their own. The client asks for `s.example`.

use super::*;
use crate::conf::model::{Crt, CrtKind, SniPolicy};

fn policy(world: &mut World, list: &str, strict_sni: bool) -> Arc<TlsPolicy> {
    add_file(&mut world.files, "/s/list", list.as_bytes().to_vec(), 0o644);
    let crt = vec![Crt { file: at(PathBuf::from("/s/list")), kind: CrtKind::List }];
    let sni = if strict_sni { SniPolicy::Strict } else { SniPolicy::Lenient };
    world.build(&BindTls { crt, sni, ..world.bind(Verify::None) })
}

#[test]
fn the_entry_of_the_name_decides_whom_it_lets_in() {
    let mut world = World::new();
    let alice = world.alice();
    let demanding = policy(&mut world, "/s/rsa.pem other.example\n/s/ec.pem [verify required]\n", false);
    let open = policy(&mut world, "/s/ec.pem [verify none]\n/s/rsa.pem [verify required] other.example\n", false);
    for version in VERSIONS {
        let (_, failure) = refused(&world.client(version, None), &demanding, world.at(0));
        assert_eq!(failure.alert, Some("certificate_required"));
        let (_, established) = connect(&world.client(version, Some(&alice)), &demanding, world.at(0));
        verified(&established, &alice);
        let (_, established) = connect(&world.client(version, Some(&alice)), &open, world.at(0));
        assert!(matches!(established.verdict.client(), Client::NotAsked));
    }
}

#[test]
fn what_is_in_force_for_the_name_at_the_end_of_the_handshake_decides() {
    let mut world = World::new();
    let alice = world.alice();
    let open = policy(&mut world, "/s/ec.pem [alpn x]\n", false);
    let demanding = policy(&mut world, "/s/rsa.pem other.example\n/s/ec.pem [verify required alpn x]\n", false);
    let elsewhere = policy(&mut world, "/s/ec.pem other.example\n", true);
    for version in VERSIONS {
        let browser = world.client(version, Some(&alice));
        // Twice: a full handshake, and a resumed one.
        for _ in 0..2 {
            let mut pair = Pair::new(&browser, &open, world.at(0));
            pair.run().unwrap();
            pair.server.policy = demanding.clone();
            let failure = pair.establish().map(drop).unwrap_err();
            assert_eq!(failure.refusal.unwrap().reason, Reason::NoCertificate, "{version:?}");
        }
        let mut pair = Pair::new(&browser, &demanding, world.at(0));
        pair.run().unwrap();
        pair.server.policy = elsewhere.clone();
        let failure = pair.establish().map(drop).unwrap_err();
        assert_eq!(failure.reason, "there is no certificate for the server name any more");
        assert_eq!(failure.sni.as_deref(), Some("s.example"));
        let mut pair = Pair::new(&browser, &demanding, world.at(0));
        pair.run().unwrap();
        verified(&pair.establish().unwrap(), &alice);
    }
}
