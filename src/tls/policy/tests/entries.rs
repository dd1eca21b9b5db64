//! Entries of a `crt-list` with settings of their own.

use super::*;

/// A line with a list of this text in front of two certificates, `open.example` and `closed.example`, of which the list says
/// the rest.
struct Listed {
    world: World,
    alice: Issued,
}

impl Listed {
    fn new() -> Self {
        let mut world = World::new();
        for name in ["open", "closed", "other"] {
            let issued = world.server_ca.server(&[&format!("{name}.example")], ec_key());
            add_file(&mut world.files, &format!("/s/{name}.pem"), issued.combined().into_bytes(), 0o600);
        }
        let alice = world.alice();
        Self { world, alice }
    }

    fn build(&self, list: &str, verify: Verify) -> TlsPolicy {
        self.try_build(list, verify).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
    }

    fn try_build(&self, list: &str, verify: Verify) -> Result<TlsPolicy, Vec<Diagnostic>> {
        let mut files = self.world.files.clone();
        add_file(&mut files, "/s/list", list.as_bytes().to_vec(), 0o644);
        let mut bind = self.world.bind(verify);
        bind.crt = vec![Crt { file: at(PathBuf::from("/s/list")), kind: CrtKind::List }];
        let (policy, diagnostics) =
            build(&bind, &mut store(&files), &self.world.tickets, limits(LIFETIME), "bind", now());
        policy.ok_or(diagnostics)
    }

    /// The hello of a client that asks for this name, and where it leads.
    fn chosen(&self, policy: &TlsPolicy, name: &str) -> Option<(String, usize)> {
        let client = self.world.client(&rustls::version::TLS13, None);
        let hello = accepted_by(&client, name);
        let chosen = policy.choose(wish(&hello.client_hello()))?;
        Some((chosen.credential.path().to_str().unwrap().to_owned(), chosen.entry))
    }
}

fn found(path: &str, entry: usize) -> Option<(String, usize)> {
    Some((path.to_owned(), entry))
}

#[test]
fn filters_stand_in_the_place_of_the_names_of_the_certificate() {
    let listed = Listed::new();
    let list = "/s/other.pem\n/s/open.pem *.wild.example !no.wild.example new.example\n/s/closed.pem *.wild.example\n";
    let policy = listed.build(list, Verify::None);
    for (name, path) in [
        ("new.example", "/s/open.pem"),
        ("a.wild.example", "/s/open.pem"),
        ("NO.wild.example", "/s/closed.pem"),
        ("open.example", "/s/other.pem"),
        ("closed.example", "/s/other.pem"),
        ("other.example", "/s/other.pem"),
    ] {
        assert_eq!(listed.chosen(&policy, name), found(path, 0), "{name}");
    }
    let policy = listed.build("/s/other.pem x.example\n/s/open.pem *.wild.example !no.wild.example\n", Verify::None);
    assert_eq!(listed.chosen(&policy, "no.wild.example"), found("/s/other.pem", 0), "the default");
}

#[test]
fn an_entry_may_be_there_twice_with_other_settings() {
    let listed = Listed::new();
    let list = "/s/open.pem a.example\n/s/open.pem [verify required] b.example\n/s/open.pem [alpn h2] c.example\n";
    let policy = listed.build(list, Verify::None);
    assert_eq!(listed.chosen(&policy, "a.example"), found("/s/open.pem", 0));
    assert_eq!(listed.chosen(&policy, "b.example"), found("/s/open.pem", 1));
    assert_eq!(listed.chosen(&policy, "c.example"), found("/s/open.pem", 2));
    assert!(policy.entry(0).client().verifier().is_none() && policy.entry(1).client().verifier().is_some());
    let digests: std::collections::HashSet<_> = (0..3).map(|entry| policy.entry(entry).client().digest().0).collect();
    assert_eq!(digests.len(), 3, "sessions of one entry would open under another");
}

/// Entries that agree in everything but one word, each with a session that must be worth nothing to the other.
#[test]
fn a_session_of_one_entry_does_not_resume_under_another() {
    let listed = Listed::new();
    let lists = [
        ("/s/ec.pem [verify none]", "/s/ec.pem [verify required]"),
        ("/s/ec.pem [verify optional]", "/s/ec.pem [verify required]"),
        ("/s/ec.pem [verify none]", "/s/ec.pem"),
        ("/s/ec.pem", "/s/ec.pem [verify required]"),
        ("/s/ec.pem [alpn h2]", "/s/ec.pem [alpn h3]"),
        ("/s/ec.pem [curves X25519]", "/s/ec.pem [curves X25519:P-256]"),
        ("/s/ec.pem [verify none]", "/s/ec.pem [verify none] s.example"),
    ];
    for version in VERSIONS {
        for (from, to) in lists {
            let client = listed.world.client(version, Some(&listed.alice));
            let kind = |list, second| {
                let policy = listed.build(list, Verify::Optional);
                // Settings of its own have the number 1.
                let entry = policy.entries.last().unwrap();
                connect(&client, entry.config(false, true), listed.world.at(second)).kind()
            };
            kind(from, 0);
            assert_eq!(kind(from, 1), HandshakeKind::Resumed, "{from}");
            assert_ne!(kind(to, 2), HandshakeKind::Resumed, "{from} → {to} {version:?}");
        }
    }
}

/// After a HelloRetryRequest a client can wish anew. The second wish is not served under the settings of the first.
#[test]
fn a_configuration_serves_the_certificates_of_its_settings_only() {
    let listed = Listed::new();
    let policy = listed.build("/s/ec.pem [verify none]\n/s/open.pem [verify required] *\n", Verify::None);
    // It asks for s.example, the name of the first.
    let client = listed.world.client(&rustls::version::TLS13, Some(&listed.alice));
    assert!(connect(&client, policy.entry(1).config(false, true), listed.world.at(0)).server_result.is_ok());
    for entry in [0, 2] {
        let outcome = connect(&client, policy.entry(entry).config(false, true), listed.world.at(0));
        assert!(outcome.server_result.is_err(), "settings {entry}");
    }
}

#[test]
fn different_demands_are_noticed() {
    let listed = Listed::new();
    let said = |list: &str, verify| {
        let mut files = listed.world.files.clone();
        add_file(&mut files, "/s/list", list.as_bytes().to_vec(), 0o644);
        let mut bind = listed.world.bind(verify);
        bind.crt = vec![Crt { file: at(PathBuf::from("/s/list")), kind: CrtKind::List }];
        let (policy, diagnostics) =
            build(&bind, &mut store(&files), &listed.world.tickets, limits(LIFETIME), "bind", now());
        assert!(policy.is_some());
        diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>()
    };
    assert_eq!(said("/s/open.pem\n/s/closed.pem [verify required]\n", Verify::None), ["N213"]);
    assert_eq!(said("/s/open.pem [verify none]\n/s/closed.pem\n", Verify::Required), ["N213"]);
    assert_eq!(said("/s/open.pem [verify none]\n", Verify::Required), [""; 0], "nothing to choose from");
    assert_eq!(said("/s/open.pem [verify required]\n/s/closed.pem [alpn h2]\n", Verify::Required), [""; 0]);
}

#[test]
fn errors_of_a_list_leave_no_policy() {
    let listed = Listed::new();
    for (list, code) in [
        ("", "E228"),
        ("# nothing\n", "E228"),
        ("/s/missing.pem\n", "E221"),
        ("/s/open.pem [ca-file /t/missing.pem verify required]\n", "E221"),
        ("/s/open.pem\n/s/closed.pem [nonsense]\n", "E101"),
        ("/t/ca.pem\n", "E220"),
    ] {
        let diagnostics = listed.try_build(list, Verify::None).expect_err(list);
        assert_eq!(diagnostics[0].code, code, "{list}");
    }
}
