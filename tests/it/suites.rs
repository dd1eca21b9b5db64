//! Which cipher suite and which group two ends agree on.

use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::{AlertDescription, CipherSuite, NamedGroup, SupportedCipherSuite};

use super::support::client::{Client, Ending, Group, Version};
use super::support::{Bowline, Config, Echo, both_versions, serve};

/// ChaCha20, AES-256, AES-128.
fn suites(version: Version) -> [SupportedCipherSuite; 3] {
    match version {
        Version::Tls12 => [
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ],
        Version::Tls13 => [
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
    }
}

/// AES-128 before ChaCha20, without AES-256.
const TWO_SUITES: &str = "ciphers ECDHE+AES128:ECDHE+CHACHA20:AES128-SHA \
                          ciphersuites TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
const GROUPS: [Group; 3] = [kx_group::X25519, kx_group::SECP384R1, kx_group::SECP256R1];

/// A listener with these parameters in front of an echo.
fn listen(more: &str) -> (Bowline, Echo) {
    listen_with(Config::new(), more)
}

fn listen_with(config: Config, more: &str) -> (Bowline, Echo) {
    let echo = Echo::start();
    let bowline = serve(&config.bind_tls(more).server(echo.address(), ""));
    (bowline, echo)
}

/// What a client that offers these gets.
#[track_caller]
fn agreed(
    bowline: &Bowline,
    version: Version,
    suites: &[SupportedCipherSuite],
    groups: &[Group],
) -> (CipherSuite, NamedGroup) {
    let mut tls = Client::offering(version, suites, groups).connect(bowline.main());
    tls.echo(b"and it works");
    let suite = tls.conn.negotiated_cipher_suite().expect("a handshake").suite();
    let group = tls.conn.negotiated_key_exchange_group().expect("a handshake").name();
    (suite, group)
}

both_versions! {
    fn the_list_decides_on_the_suite_and_the_client_on_nothing(version) {
        let (bowline, _echo) = listen(TWO_SUITES);
        let [chacha20, aes256, aes128] = suites(version);
        for offer in [[chacha20, aes256, aes128], [aes128, aes256, chacha20], [aes256, aes128, chacha20]] {
            assert_eq!(agreed(&bowline, version, &offer, &GROUPS).0, aes128.suite());
        }
        assert_eq!(agreed(&bowline, version, &[aes256, chacha20], &GROUPS).0, chacha20.suite());
    }

    fn the_client_decides_on_the_suite_if_it_may(version) {
        let [chacha20, aes256, aes128] = suites(version);
        let own = listen(&format!("{TWO_SUITES} prefer-client-ciphers"));
        let global = listen_with(Config::new().global("ssl-default-bind-options prefer-client-ciphers"), TWO_SUITES);
        for (bowline, _echo) in [own, global] {
            assert_eq!(agreed(&bowline, version, &[chacha20, aes128], &GROUPS).0, chacha20.suite());
            assert_eq!(agreed(&bowline, version, &[aes128, chacha20], &GROUPS).0, aes128.suite());
            assert_eq!(agreed(&bowline, version, &[aes256, chacha20, aes128], &GROUPS).0, chacha20.suite());
        }
    }

    fn a_client_without_a_suite_of_the_list_is_refused(version) {
        let (bowline, _echo) = listen(TWO_SUITES);
        let [chacha20, aes256, _] = suites(version);
        let client = Client::offering(version, &[aes256], &GROUPS);
        assert_eq!(client.refused(bowline.main()), Ending::Alert(AlertDescription::HandshakeFailure));
        agreed(&bowline, version, &[aes256, chacha20], &GROUPS);
    }

    fn of_the_groups_in_the_list_the_first_of_the_client_is_taken(version) {
        let (bowline, _echo) = listen("curves P-256:secp384r1:P-521");
        let suites = suites(version);
        assert_eq!(agreed(&bowline, version, &suites, &GROUPS).1, NamedGroup::secp384r1);
        let offer = [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
        assert_eq!(agreed(&bowline, version, &suites, &offer).1, NamedGroup::secp256r1);
    }

    fn a_client_without_a_group_of_the_list_is_refused(version) {
        let (bowline, _echo) = listen("ecdhe P-384");
        let suites = suites(version);
        let client = Client::offering(version, &suites, &[kx_group::X25519, kx_group::SECP256R1]);
        assert_eq!(client.refused(bowline.main()), Ending::Alert(AlertDescription::HandshakeFailure));
        assert_eq!(agreed(&bowline, version, &suites, &GROUPS).1, NamedGroup::secp384r1);
    }

    fn lists_of_global_are_for_lines_without_their_own(version) {
        let global = Config::new()
            .global("ssl-default-bind-ciphers ECDHE+AES128")
            .global("ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256")
            .global("ssl-default-bind-curves P-384");
        let [chacha20, _, aes128] = suites(version);
        let (bowline, _echo) = listen_with(global.clone(), "");
        let expected = (aes128.suite(), NamedGroup::secp384r1);
        assert_eq!(agreed(&bowline, version, &[chacha20, aes128], &GROUPS), expected);
        let own = "ciphers CHACHA20 ciphersuites TLS_CHACHA20_POLY1305_SHA256 curves X25519";
        let (bowline, _echo) = listen_with(global, own);
        let expected = (chacha20.suite(), NamedGroup::X25519);
        assert_eq!(agreed(&bowline, version, &[aes128, chacha20], &GROUPS), expected);
    }
}

#[test]
fn a_hybrid_group_can_be_demanded() {
    let (bowline, _echo) = listen("curves X25519MLKEM768 ssl-min-ver TLSv1.3");
    let suites = suites(Version::Tls13);
    let refused = Client::offering(Version::Tls13, &suites, &GROUPS).refused(bowline.main());
    assert_eq!(refused, Ending::Alert(AlertDescription::HandshakeFailure));
    // Without 'ssl-min-ver' this is how a client of TLS 1.2 fares.
    let (open, _echo) = listen("curves X25519MLKEM768");
    let old = Client::offering(Version::Tls12, &self::suites(Version::Tls12), &GROUPS);
    assert_eq!(old.refused(open.main()), Ending::Alert(AlertDescription::HandshakeFailure));
    let modern = [kx_group::X25519, kx_group::X25519MLKEM768];
    assert_eq!(agreed(&bowline, Version::Tls13, &suites, &modern).1, NamedGroup::X25519MLKEM768);
}
