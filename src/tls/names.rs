//! [`SniTable`]: which certificate a client gets. The rules are HAProxy's (manual 5.1, `crt` and `strict-sni`): per kind of
//! key one candidate, exact before wildcard; among the candidates ECDSA before RSA, as far as the client can verify it. So a
//! wildcard ECDSA certificate wins over an exact RSA one.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::{CipherSuite, SignatureScheme, SupportedCipherSuite};

use super::certificates::{Listed, Role};
use super::credential::Credential;
use super::x509::KeyType;
use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{Location, SniPolicy};

/// Names to certificates. Immutable; a look-up costs two hash look-ups.
#[derive(Debug)]
pub(super) struct SniTable {
    credentials: Vec<Arc<Credential>>,
    exact: HashMap<Box<str>, Candidates>,
    /// By the name without its `*`: `.example.com`.
    /// For a name that the first one excludes the next one counts.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    /// By certificate, the names that its wildcards do not mean.
    excluded: Vec<Vec<String>>,
    /// By certificate, the number of its settings: 0 for those of the `bind` line.
    entries: Vec<usize>,
    default: Candidates,
    policy: SniPolicy,
    /// One certificate for each name, whatever its kind of key.
    last_wins: bool,
}

/// What a client told about itself in its ClientHello, as far as it decides on the certificate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// Server name; `None` if it sent none.
    pub sni: Option<&'a str>,
    /// Signature schemes that it verifies.
    pub signature_schemes: &'a [SignatureScheme],
    /// Its cipher suites.
    pub cipher_suites: &'a [CipherSuite],
}

/// Our cipher suites, by the number of the settings.
pub(super) type Suites = [Vec<SupportedCipherSuite>];

/// A certificate, and the settings that go with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen<'a> {
    pub credential: &'a Arc<Credential>,
    /// The number of its settings: 0 for those of the `bind` line, else as they come in the configuration.
    pub entry: usize,
}

/// The names that a certificate is for.
fn names<'a>(credential: &'a Credential, role: &'a Role) -> &'a [String] {
    role.names.as_deref().unwrap_or(&credential.facts().names)
}

/// At most one certificate per kind of key: index into `credentials`.
#[derive(Clone, Copy, Debug, Default)]
struct Candidates {
    ec: Option<usize>,
    rsa: Option<usize>,
    other: Option<usize>,
}

impl Candidates {
    fn of(&mut self, key_type: KeyType) -> &mut Option<usize> {
        match key_type {
            KeyType::Ec => &mut self.ec,
            KeyType::Rsa => &mut self.rsa,
            KeyType::Other => &mut self.other,
        }
    }

    /// One of them, if there is any.
    fn any(self) -> Option<usize> {
        self.ec.or(self.rsa).or(self.other)
    }

    /// Those that there are.
    fn all(self) -> impl Iterator<Item = usize> {
        [self.ec, self.rsa, self.other].into_iter().flatten()
    }

    /// Each kind from `self`, else from `fallback`.
    fn or(self, fallback: Self) -> Self {
        Self { ec: self.ec.or(fallback.ec), rsa: self.rsa.or(fallback.rsa), other: self.other.or(fallback.other) }
    }
}

impl SniTable {
    /// `listed` is in the order of the configuration: the first one is the default, and for a name that is in several the
    /// first one counts, or with `last_wins` the last one. `policy`: who gets the default.
    pub(super) fn build(
        listed: Vec<Listed>,
        policy: SniPolicy,
        last_wins: bool,
        at: &Location,
    ) -> (Self, Vec<Diagnostic>) {
        let (credentials, roles): (Vec<_>, Vec<_>) =
            listed.into_iter().map(|listed| (listed.credential, listed.role)).unzip();
        let mut exact: HashMap<Box<str>, Candidates> = HashMap::new();
        let mut wildcard: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut duplicates = Pairs::default();
        let is_other = |one: usize, other: usize| credentials[one].path() != credentials[other].path();
        for (index, credential) in credentials.iter().enumerate() {
            let key_type = credential.facts().key_type;
            for name in names(credential, &roles[index]) {
                let candidates = match name.strip_prefix('*') {
                    Some(parent) if parent.len() > 1 && parent.starts_with('.') && !parent.contains('*') => {
                        let known = wildcard.entry(parent.into()).or_default();
                        if last_wins {
                            let before = known.drain(..).filter(|before| is_other(*before, index));
                            before.for_each(|before| duplicates.add(before, index, name));
                            known.push(index);
                            continue;
                        }
                        let same = |other: &&usize| {
                            roles[**other].excluded.is_empty() && credentials[**other].facts().key_type == key_type
                        };
                        match known.iter().find(same) {
                            Some(first) => duplicates.add(index, *first, name),
                            None => known.push(index),
                        }
                        continue;
                    }
                    None if !name.contains('*') => exact.entry(name.as_str().into()).or_default(),
                    _ => continue,
                };
                if last_wins {
                    let before = std::mem::take(candidates);
                    let before = before.any().filter(|before| is_other(*before, index));
                    before.into_iter().for_each(|before| duplicates.add(before, index, name));
                }
                match candidates.of(key_type) {
                    Some(first) => duplicates.add(index, *first, name),
                    free => *free = Some(index),
                }
            }
        }
        let (default, unused) = default_candidates(&credentials, &roles, last_wins);
        let mut count = 0;
        let entries = roles.iter().map(|role| {
            count += usize::from(role.tls.is_some());
            if role.tls.is_some() { count } else { 0 }
        });
        let entries = entries.collect();
        let excluded = roles.into_iter().map(|role| role.excluded).collect();
        let table = Self { credentials, exact, wildcard, excluded, entries, default, policy, last_wins };
        let mut diagnostics = duplicates.diagnostics(
            |loser, winner, names| {
                let comes = if last_wins { "later" } else { "first" };
                let message = format!("{names} of '{loser}' is served by '{winner}', which comes {comes}");
                Diagnostic::warning("W131", at, message)
            },
            &table.credentials,
        );
        let shadowed = table.shadowed().diagnostics(
            |exact, wildcard, names| {
                let message = format!(
                    "{names} of '{exact}' (RSA) is shadowed by the wildcard of '{wildcard}' (ECDSA): \
                     clients that know ECDSA get the latter"
                );
                let note = "HAProxy chooses in the same way; \
                            an ECDSA certificate for the exact name wins over both";
                Diagnostic::warning("W130", at, message).note(note)
            },
            &table.credentials,
        );
        diagnostics.extend(shadowed);
        if policy != SniPolicy::Strict {
            diagnostics.extend(unused.into_iter().map(|(later, first)| {
                let [later, first] = [later, first].map(|index| table.credentials[index].path().display());
                let message = format!("'{later}' is no default: '{first}', with the same kind of key, comes first");
                Diagnostic::warning("W132", at, message).note("there is one default for each kind of key")
            }));
        }
        (table, diagnostics)
    }

    /// All certificates in the order of the configuration.
    pub(super) fn credentials(&self) -> &[Arc<Credential>] {
        &self.credentials
    }

    /// Every name in order, with each certificate that may be chosen for it and the names that are excluded from a wildcard;
    /// `*` stands for clients that ask for another name or none.
    pub(super) fn listed(&self) -> Vec<(String, &Credential, &[String])> {
        let mut listed: Vec<(String, usize)> = Vec::new();
        for (name, candidates) in &self.exact {
            listed.extend(candidates.all().map(|index| (name.to_string(), index)));
        }
        for (parent, indices) in &self.wildcard {
            listed.extend(indices.iter().map(|index| (format!("*{parent}"), *index)));
        }
        if self.policy != SniPolicy::Strict {
            listed.extend(self.default.all().map(|index| ("*".to_owned(), index)));
        }
        listed.sort();
        let row = |(name, index): (String, usize)| {
            let excluded = if name.starts_with('*') { &self.excluded[index][..] } else { &[] };
            (name, &*self.credentials[index], excluded)
        };
        listed.into_iter().map(row).collect()
    }

    /// The certificate for this client. `None`: the policy has no default for it, or there is no certificate at all; alert
    /// unrecognized_name (RFC 6066, 3). `suites` are ours, by the number of the settings.
    pub(super) fn choose(&self, wish: Wish<'_>, suites: &Suites) -> Option<Chosen<'_>> {
        let named = wish.sni.map_or(Candidates::default(), |sni| self.named(sni));
        let has_default = match self.policy {
            SniPolicy::Lenient => true,
            SniPolicy::NomatchAbort => wish.sni.is_none(),
            SniPolicy::Strict => false,
        };
        let default = if has_default { self.default } else { Candidates::default() };
        self.pick(named, wish, suites).or_else(|| self.pick(default, wish, suites))
    }

    fn named(&self, sni: &str) -> Candidates {
        let lower = sni.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let exact = self.exact.get(name).copied().unwrap_or_default();
        if self.last_wins && exact.any().is_some() {
            return exact;
        }
        let parent = name.find('.').map(|dot| &name[dot..]);
        exact.or(parent.map_or(Candidates::default(), |parent| self.below(parent, name)))
    }

    /// Those whose wildcard for `parent` means `name`.
    fn below(&self, parent: &str, name: &str) -> Candidates {
        let mut candidates = Candidates::default();
        for index in self.wildcard.get(parent).into_iter().flatten() {
            if !self.excluded[*index].iter().any(|excluded| excluded == name) {
                candidates.of(self.credentials[*index].facts().key_type).get_or_insert(*index);
            }
        }
        candidates
    }

    /// HAProxy's order.
    fn ordered(&self, candidates: Candidates) -> impl Iterator<Item = Chosen<'_>> + Clone {
        let Candidates { ec, rsa, other } = candidates;
        [ec, rsa, other].into_iter().flatten().map(|index| self.chosen(index))
    }

    fn chosen(&self, index: usize) -> Chosen<'_> {
        Chosen { credential: &self.credentials[index], entry: self.entries[index] }
    }

    /// Every name with its certificates in the order of preference: exact names, then wildcards.
    pub(super) fn by_name(&self) -> Vec<(String, Vec<Chosen<'_>>)> {
        let exact = self.exact.iter().map(|(name, candidates)| (name.to_string(), self.ordered(*candidates).collect()));
        let mut exact: Vec<(String, Vec<_>)> = exact.collect();
        let wildcard = self
            .wildcard
            .iter()
            .map(|(parent, known)| (format!("*{parent}"), known.iter().map(|index| self.chosen(*index)).collect()));
        let mut wildcard: Vec<(String, Vec<_>)> = wildcard.collect();
        exact.sort_by(|(left, _), (right, _)| left.cmp(right));
        wildcard.sort_by(|(left, _), (right, _)| left.cmp(right));
        exact.extend(wildcard);
        exact
    }

    /// The certificates of clients whose name no certificate has, as far as the policy lets them in.
    pub(super) fn defaults(&self) -> Vec<Chosen<'_>> {
        self.ordered(self.default).collect()
    }

    /// Who gets the default.
    pub(super) fn policy(&self) -> SniPolicy {
        self.policy
    }

    /// By certificate, the number of its settings.
    pub(super) fn numbers(&self) -> &[usize] {
        &self.entries
    }

    /// If the client can verify none of the candidates it gets one nevertheless: its alert tells more than ours.
    fn pick(&self, candidates: Candidates, wish: Wish<'_>, suites: &Suites) -> Option<Chosen<'_>> {
        let ordered = self.ordered(candidates);
        let suits = |chosen: &Chosen<'_>| suits(chosen.credential, wish, &suites[chosen.entry]);
        ordered.clone().find(suits).or_else(|| ordered.clone().next())
    }

    /// Exact RSA names that no client which knows ECDSA will see.
    fn shadowed(&self) -> Pairs {
        let mut shadowed = Pairs::default();
        let exact = self.exact.iter().filter(|_| !self.last_wins);
        for (name, candidates) in exact {
            let Candidates { ec: None, rsa: Some(exact), .. } = *candidates else {
                continue;
            };
            let parent = name.find('.').map(|dot| &name[dot..]);
            let wildcard = parent.and_then(|parent| self.below(parent, name).ec);
            if let Some(wildcard) = wildcard {
                shadowed.add(exact, wildcard, name);
            }
        }
        shadowed
    }
}

/// TLS 1.2 suites name the kind of key, TLS 1.3 suites go with every kind; the signature schemes say the rest.
fn suits(credential: &Credential, wish: Wish<'_>, suites: &[SupportedCipherSuite]) -> bool {
    let algorithm = credential.key().algorithm();
    let usable = |suite: &SupportedCipherSuite| {
        wish.cipher_suites.contains(&suite.suite()) && suite.usable_for_signature_algorithm(algorithm)
    };
    suites.iter().any(usable) && credential.suits(wish.signature_schemes)
}

/// The first certificate and those that are marked; for the kinds of key that are left the first one with the names of the
/// first certificate. Also the marked ones that are not needed, each with the one that has its place.
/// With `last_wins` the last marked one alone, or the first certificate.
fn default_candidates(
    credentials: &[Arc<Credential>],
    roles: &[Role],
    last_wins: bool,
) -> (Candidates, Vec<(usize, usize)>) {
    let mut default = Candidates::default();
    let mut unused = Vec::new();
    if last_wins {
        let index = roles.iter().rposition(|role| role.default).unwrap_or(0);
        if let Some(credential) = credentials.get(index) {
            *default.of(credential.facts().key_type) = Some(index);
        }
        return (default, unused);
    }
    for (index, credential) in credentials.iter().enumerate().filter(|(index, _)| *index == 0 || roles[*index].default)
    {
        match default.of(credential.facts().key_type) {
            Some(first) => unused.push((index, *first)),
            free => *free = Some(index),
        }
    }
    let sorted_names = |index: usize| {
        let mut names = names(&credentials[index], &roles[index]).to_vec();
        names.sort();
        names
    };
    if credentials.is_empty() {
        return (default, unused);
    }
    let first = sorted_names(0);
    for (index, credential) in credentials.iter().enumerate() {
        let free = default.of(credential.facts().key_type);
        let is_twin = || names(credential, &roles[index]).len() == first.len() && sorted_names(index) == first;
        if free.is_none() && is_twin() {
            *free = Some(index);
        }
    }
    (default, unused)
}

/// Names by pairs of certificates, so that a thousand names make one message.
#[derive(Default)]
struct Pairs(std::collections::BTreeMap<(usize, usize), Vec<String>>);

impl Pairs {
    fn add(&mut self, left: usize, right: usize, name: &str) {
        self.0.entry((left, right)).or_default().push(name.to_owned());
    }

    fn diagnostics(
        self,
        diagnostic: impl Fn(&str, &str, &str) -> Diagnostic,
        credentials: &[Arc<Credential>],
    ) -> Vec<Diagnostic> {
        let path = |index: usize| credentials[index].path().display().to_string();
        let pairs = self.0.into_iter().map(|((left, right), mut names)| {
            names.sort();
            let names = match names.as_slice() {
                [name] => format!("the name '{name}'"),
                [name, more @ ..] => format!("the name '{name}' (and {} more)", more.len()),
                [] => String::new(),
            };
            diagnostic(&path(left), &path(right), &names)
        });
        pairs.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificates;
    use super::super::test_pki::*;
    use super::*;
    use crate::conf::model::CrtKind;
    use rustls::SignatureScheme::{ECDSA_NISTP256_SHA256, ED25519, RSA_PSS_SHA256};
    const MODERN: &[SignatureScheme] = &[RSA_PSS_SHA256, ECDSA_NISTP256_SHA256];
    const ONLY_RSA: &[SignatureScheme] = &[RSA_PSS_SHA256];
    const TLS13: &[CipherSuite] = &[CipherSuite::TLS13_AES_128_GCM_SHA256];

    /// A table of certificates named like their file, each with these names and kind of key.
    fn table(policy: SniPolicy, certificates: &[(&str, &[&str], rcgen::KeyPair)]) -> (SniTable, Vec<Diagnostic>) {
        table_with(policy, certificates, &[])
    }

    /// `defaults`: places of those that 'default-crt' names.
    fn table_with(
        policy: SniPolicy,
        certificates: &[(&str, &[&str], rcgen::KeyPair)],
        defaults: &[usize],
    ) -> (SniTable, Vec<Diagnostic>) {
        SniTable::build(listed(certificates, defaults), policy, false, &location())
    }

    fn listed(certificates: &[(&str, &[&str], rcgen::KeyPair)], defaults: &[usize]) -> Vec<Listed> {
        let ca = Ca::root("Root");
        let issued = certificates.iter().map(|(path, names, key)| {
            let key = rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap();
            (*path, ca.server(names, key).combined())
        });
        let files = files(issued.collect::<Vec<_>>());
        let paths: Vec<&str> = certificates.iter().map(|(path, ..)| *path).collect();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut bind = bind(&paths);
        defaults.iter().for_each(|index| bind.crt[*index].kind = CrtKind::Default);
        let (credentials, diagnostics) = certificates::load(&bind, &mut store(&files), &provider, now());
        assert_eq!(diagnostics, []);
        credentials
    }

    fn ours() -> Vec<SupportedCipherSuite> {
        rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES.to_vec()
    }

    fn chosen<'a>(table: &'a SniTable, sni: Option<&str>, signature_schemes: &[SignatureScheme]) -> Option<&'a str> {
        let wish = Wish { sni, signature_schemes, cipher_suites: TLS13 };
        table.choose(wish, &[ours()]).map(|chosen| chosen.credential.path().to_str().unwrap())
    }

    #[test]
    fn exact_before_wildcard_before_default() {
        let (table, diagnostics) = table(
            SniPolicy::Lenient,
            &[
                ("/c/default", &["default.example"], ec_key()),
                ("/c/wild", &["*.example"], ec_key()),
                ("/c/a", &["a.example"], ec_key()),
            ],
        );
        assert_eq!(diagnostics, []);
        assert_eq!(chosen(&table, Some("a.example"), MODERN), Some("/c/a"));
        assert_eq!(chosen(&table, Some("A.Example"), MODERN), Some("/c/a"));
        assert_eq!(chosen(&table, Some("a.example."), MODERN), Some("/c/a"));
        assert_eq!(chosen(&table, Some("b.example"), MODERN), Some("/c/wild"));
        // A wildcard stands for one label exactly.
        assert_eq!(chosen(&table, Some("a.b.example"), MODERN), Some("/c/default"));
        assert_eq!(chosen(&table, Some("example"), MODERN), Some("/c/default"));
        assert_eq!(chosen(&table, Some("*.example"), MODERN), Some("/c/wild"));
        assert_eq!(chosen(&table, None, MODERN), Some("/c/default"));
        assert_eq!(chosen(&table, Some(""), MODERN), Some("/c/default"));
    }

    #[test]
    fn strict_has_no_default() {
        let (table, _) = table(SniPolicy::Strict, &[("/c/a", &["a.example"], ec_key())]);
        assert_eq!(chosen(&table, Some("a.example"), MODERN), Some("/c/a"));
        assert_eq!(chosen(&table, Some("b.example"), MODERN), None);
        assert_eq!(chosen(&table, None, MODERN), None);
        let (empty, _) = SniTable::build(Vec::new(), SniPolicy::Lenient, false, &location());
        assert_eq!(chosen(&empty, None, MODERN), None);
    }

    #[test]
    fn nomatch_abort_has_a_default_for_those_without_a_name() {
        let (table, _) = table(SniPolicy::NomatchAbort, &[("/c/a", &["a.example"], ec_key())]);
        assert_eq!(chosen(&table, Some("a.example"), MODERN), Some("/c/a"));
        assert_eq!(chosen(&table, Some("b.example"), MODERN), None);
        assert_eq!(chosen(&table, None, MODERN), Some("/c/a"));
    }

    #[test]
    fn ecdsa_before_rsa_as_far_as_the_client_knows_it() {
        let names: &[&str] = &["a.example", "b.example"];
        let reversed: &[&str] = &["b.example", "a.example"];
        let (table, diagnostics) =
            table(SniPolicy::Lenient, &[("/c/rsa", names, rsa_key()), ("/c/ec", reversed, ec_key())]);
        assert_eq!(diagnostics, []);
        for sni in [Some("a.example"), Some("unknown.example"), None] {
            assert_eq!(chosen(&table, sni, MODERN), Some("/c/ec"));
            assert_eq!(chosen(&table, sni, ONLY_RSA), Some("/c/rsa"));
            assert_eq!(chosen(&table, sni, &[ED25519]), Some("/c/ec"));
        }
        // A TLS 1.2 client that offers no ECDSA suite cannot use the certificate, whatever its schemes say.
        let suites = &[CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
        let wish = Wish { sni: None, signature_schemes: MODERN, cipher_suites: suites };
        assert_eq!(table.choose(wish, &[ours()]).unwrap().credential.path().to_str(), Some("/c/rsa"));
    }

    #[test]
    fn the_default_of_the_other_kind_must_have_the_same_names() {
        let (table, _) =
            table(SniPolicy::Lenient, &[("/c/rsa", &["a.example"], rsa_key()), ("/c/ec", &["b.example"], ec_key())]);
        assert_eq!(chosen(&table, None, MODERN), Some("/c/rsa"));
    }

    #[test]
    fn each_kind_of_key_may_have_a_default_of_its_own() {
        let certificates = || {
            [
                ("/c/first", &["a.example"][..], rsa_key()),
                ("/c/other", &["b.example"][..], ec_key()),
                ("/c/ec", &["c.example"][..], ec_key()),
                ("/c/rsa", &["d.example"][..], rsa_key()),
                ("/c/twin", &["a.example"][..], ec_key()),
            ]
        };
        let (only_first, diagnostics) = table_with(SniPolicy::Lenient, &certificates(), &[0]);
        assert_eq!(diagnostics, []);
        assert_eq!(chosen(&only_first, None, MODERN), Some("/c/twin"));
        let (named, diagnostics) = table_with(SniPolicy::Lenient, &certificates(), &[2]);
        assert_eq!(diagnostics, []);
        for sni in [None, Some("nobody.example")] {
            assert_eq!(chosen(&named, sni, MODERN), Some("/c/ec"));
            assert_eq!(chosen(&named, sni, ONLY_RSA), Some("/c/first"));
        }
        assert_eq!(chosen(&named, Some("b.example"), MODERN), Some("/c/other"));
        assert_eq!(chosen(&named, Some("c.example"), MODERN), Some("/c/ec"), "found by its name too");
        // The first of the line keeps its place.
        let (named, diagnostics) = table_with(SniPolicy::Lenient, &certificates(), &[2, 3]);
        let message = "'/c/rsa' is no default: '/c/first', with the same kind of key, comes first";
        assert_eq!(diagnostics.iter().map(|p| (p.code, p.message.as_str())).collect::<Vec<_>>(), [("W132", message)]);
        assert_eq!(chosen(&named, None, ONLY_RSA), Some("/c/first"));
        let (nomatch, diagnostics) = table_with(SniPolicy::NomatchAbort, &certificates(), &[2]);
        assert_eq!(diagnostics, []);
        assert_eq!(chosen(&nomatch, None, MODERN), Some("/c/ec"));
        assert_eq!(chosen(&nomatch, None, ONLY_RSA), Some("/c/first"));
        assert_eq!(chosen(&nomatch, Some("c.example"), MODERN), Some("/c/ec"));
        assert_eq!(chosen(&nomatch, Some("nobody.example"), MODERN), None);
        let (_, diagnostics) = table_with(SniPolicy::NomatchAbort, &certificates(), &[2, 3]);
        assert_eq!(diagnostics.len(), 1, "there is a default that '/c/rsa' is not");
        let (strict, diagnostics) = table_with(SniPolicy::Strict, &certificates(), &[2, 3]);
        assert_eq!((diagnostics, chosen(&strict, None, MODERN)), (vec![], None));
    }

    #[test]
    fn wildcard_ecdsa_shadows_exact_rsa_with_a_warning() {
        let (table, diagnostics) = table(
            SniPolicy::Lenient,
            &[("/c/exact", &["a.example"], rsa_key()), ("/c/wild", &["*.example"], ec_key())],
        );
        assert_eq!(chosen(&table, Some("a.example"), MODERN), Some("/c/wild"));
        assert_eq!(chosen(&table, Some("a.example"), ONLY_RSA), Some("/c/exact"));
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(diagnostics[0].code, "W130");
        assert!(
            diagnostics[0].message.starts_with("the name 'a.example' of '/c/exact' (RSA) is shadowed"),
            "{diagnostics:?}"
        );
    }

    #[test]
    fn of_two_certificates_for_a_name_the_first_counts() {
        let (table, diagnostics) = table(
            SniPolicy::Lenient,
            &[
                ("/c/1", &["a.example", "b.example", "*.c.example"], ec_key()),
                ("/c/2", &["*.c.example", "b.example", "a.example", "d.example"], ec_key()),
            ],
        );
        assert_eq!(chosen(&table, Some("a.example"), MODERN), Some("/c/1"));
        assert_eq!(chosen(&table, Some("x.c.example"), MODERN), Some("/c/1"));
        assert_eq!(chosen(&table, Some("d.example"), MODERN), Some("/c/2"));
        let message = "the name '*.c.example' (and 2 more) of '/c/2' is served by '/c/1', which comes first";
        assert_eq!(diagnostics.iter().map(|p| (p.code, p.message.as_str())).collect::<Vec<_>>(), [("W131", message)]);
    }

    /// What Hitch 1.7.2 serves with these files, in the order in which it loads them.
    #[test]
    fn as_in_hitch_the_last_one_counts_whatever_its_kind_of_key() {
        let last_wins = |certificates: &[(&str, &[&str], rcgen::KeyPair)], defaults: &[usize]| {
            SniTable::build(listed(certificates, defaults), SniPolicy::Lenient, true, &location())
        };
        let (table, diagnostics) = last_wins(
            &[
                ("/c/default", &["a.example"], ec_key()),
                ("/c/rsa", &["a.example", "b.example"], rsa_key()),
                ("/c/wild", &["*.example"], ec_key()),
                ("/c/wilder", &["*.example"], rsa_key()),
            ],
            &[],
        );
        for (sni, path) in [
            (Some("a.example"), "/c/rsa"),
            (Some("b.example"), "/c/rsa"),
            (Some("c.example"), "/c/wilder"),
            (Some("d.test"), "/c/default"),
            (None, "/c/default"),
        ] {
            assert_eq!(chosen(&table, sni, MODERN), Some(path), "{sni:?}");
        }
        assert_eq!(chosen(&table, None, ONLY_RSA), Some("/c/default"), "there is one default");
        let messages: Vec<&str> = diagnostics.iter().map(|found| found.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "the name 'a.example' of '/c/default' is served by '/c/rsa', which comes later",
                "the name '*.example' of '/c/wild' is served by '/c/wilder', which comes later",
            ]
        );
        let (marked, _) = last_wins(
            &[
                ("/c/1", &["a.example"], ec_key()),
                ("/c/2", &["b.example"], rsa_key()),
                ("/c/3", &["c.example"], rsa_key()),
            ],
            &[1],
        );
        assert_eq!(chosen(&marked, None, MODERN), Some("/c/2"));
        assert_eq!(chosen(&marked, Some("a.example"), MODERN), Some("/c/1"));
    }

    #[test]
    fn ten_thousand_names_are_found() {
        let names: Vec<String> = (0..10_000).map(|number| format!("n{number}.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (table, diagnostics) = table(SniPolicy::Strict, &[("/c/many", &names, ec_key())]);
        assert_eq!(diagnostics, []);
        assert!(names.iter().all(|name| chosen(&table, Some(name), MODERN) == Some("/c/many")));
        assert_eq!(chosen(&table, Some("n10000.example"), MODERN), None);
    }
}
