//! A certificate factory: authorities, servers, and clients with every fault that Bowline has to notice.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;

/// A day.
pub(crate) const DAY: i64 = 86_400;

/// Certificates that most tests share. Immutable, made once per run.
pub(crate) struct Pki {
    /// Signs the servers.
    pub(crate) server_ca: Authority,
    /// The usual server: EC key, `server.test` and `localhost`.
    pub(crate) server: Identity,
    /// Signs the clients that are welcome.
    pub(crate) client_ca: Authority,
    /// Below `client_ca`.
    pub(crate) client_intermediate: Authority,
    /// Another authority that may sign clients.
    pub(crate) other_ca: Authority,
    /// A client that is welcome.
    pub(crate) good: Identity,
}

/// The shared certificates.
pub(crate) fn pki() -> &'static Pki {
    static PKI: LazyLock<Pki> = LazyLock::new(|| {
        let server_ca = Authority::new("Server CA");
        let client_ca = Authority::new("Client CA");
        let client_intermediate = client_ca.intermediate("Client Intermediate");
        Pki {
            server: server_ca.issue(&Leaf::server(&["server.test", "localhost"])),
            other_ca: Authority::new("Other CA"),
            good: client_ca.issue(&Leaf::client("alice")),
            server_ca,
            client_ca,
            client_intermediate,
        }
    });
    &PKI
}

/// Seconds since 1970 as of now.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292 billion")
}

macro_rules! at {
    ($unix:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from($unix).expect("after 1970"))
    };
}

fn fresh_serial() -> Vec<u8> {
    static NEXT: AtomicU64 = AtomicU64::new(0x4ABC_0001);
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    serial.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// CN of the subject.
    pub(crate) common_name: String,
    /// DNS names.
    pub(crate) names: Vec<String>,
    /// Unix time.
    pub(crate) not_before: i64,
    /// Unix time.
    pub(crate) not_after: i64,
    /// Extended key usages; empty: no such extension.
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    /// An RSA key (2048 bits) in place of one on P-256.
    pub(crate) rsa: bool,
}

impl Leaf {
    /// A server for these names; the first is also the CN.
    pub(crate) fn server(names: &[&str]) -> Self {
        Self {
            common_name: names[0].to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            not_before: now() - DAY,
            not_after: now() + 30 * DAY,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
            rsa: false,
        }
    }

    /// A client.
    pub(crate) fn client(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            names: Vec::new(),
            not_before: now() - DAY,
            not_after: now() + 30 * DAY,
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            rsa: false,
        }
    }

    /// With an RSA key.
    pub(crate) fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    /// With these dates, Unix time.
    pub(crate) fn valid(mut self, not_before: i64, not_after: i64) -> Self {
        self.not_before = not_before;
        self.not_after = not_after;
        self
    }

    /// With these extended key usages.
    pub(crate) fn usages(mut self, usages: &[ExtendedKeyUsagePurpose]) -> Self {
        self.usages = usages.to_vec();
        self
    }
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// From this authority up to, but without, the root.
    chain: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// A self-signed root.
    pub(crate) fn new(common_name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let parameters = Self::parameters(common_name);
        let certificate = parameters.self_signed(&key).expect("a root certificate").der().clone();
        Self { issuer: Issuer::new(parameters, key), certificate, chain: Vec::new() }
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, common_name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let parameters = Self::parameters(common_name);
        let certificate = parameters.signed_by(&key, &self.issuer).expect("an intermediate").der().clone();
        let mut chain = vec![certificate.clone()];
        chain.extend(self.chain.iter().cloned());
        Self { issuer: Issuer::new(parameters, key), certificate, chain }
    }

    fn parameters(common_name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named(common_name);
        parameters.not_before = at!(now() - 10 * DAY);
        parameters.not_after = at!(now() + 3_650 * DAY);
        parameters.serial_number = Some(SerialNumber::from(fresh_serial()));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.use_authority_key_identifier_extension = true;
        parameters
    }

    /// A certificate with a fresh key.
    pub(crate) fn issue(&self, leaf: &Leaf) -> Identity {
        let key =
            if leaf.rsa { KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256) } else { KeyPair::generate() }.expect("a key");
        let mut parameters = CertificateParams::new(leaf.names.clone()).expect("names that fit a certificate");
        let serial = fresh_serial();
        parameters.distinguished_name = named(&leaf.common_name);
        parameters.not_before = at!(leaf.not_before);
        parameters.not_after = at!(leaf.not_after);
        parameters.serial_number = Some(SerialNumber::from(serial.clone()));
        parameters.extended_key_usages = leaf.usages.clone();
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a leaf");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Identity { chain, key: key.serialize_der(), serial }
    }

    /// The authority's own certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's own key as PEM.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The authority's own certificate as PEM.
    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// A revocation list, good for a month, that names these certificates.
    pub(crate) fn crl(&self, revoked: &[&Identity]) -> String {
        self.crl_until(revoked, now() + 30 * DAY)
    }

    /// A revocation list with this `nextUpdate` (Unix time).
    pub(crate) fn crl_until(&self, revoked: &[&Identity], next_update: i64) -> String {
        let parameters = CertificateRevocationListParams {
            this_update: at!(next_update.min(now()) - DAY),
            next_update: at!(next_update),
            crl_number: SerialNumber::from(fresh_serial()),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|identity| RevokedCertParams {
                    serial_number: SerialNumber::from(identity.serial.clone()),
                    revocation_time: at!(now() - DAY),
                    reason_code: Some(RevocationReason::KeyCompromise),
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = parameters.signed_by(&self.issuer).expect("a CRL");
        pem("X509 CRL", crl.der())
    }
}

/// A certificate chain with its key.
#[derive(Clone)]
pub(crate) struct Identity {
    /// Leaf first, without the root.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// PKCS #8.
    pub(crate) key: Vec<u8>,
    /// Of the leaf, without leading zero bytes.
    pub(crate) serial: Vec<u8>,
}

impl Identity {
    /// The certificate itself.
    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// Chain and key in one PEM file, as `crt` wants it.
    pub(crate) fn pem(&self) -> String {
        format!("{}{}", self.chain_pem(), self.key_pem())
    }

    /// The chain alone.
    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The key alone.
    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// SHA-256 of the leaf.
    pub(crate) fn fingerprint(&self) -> Vec<u8> {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.leaf()).as_ref().to_vec()
    }

    /// SHA-256 of the leaf, lower-case hexadecimal.
    pub(crate) fn fingerprint_hex(&self) -> String {
        hex(&self.fingerprint())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// PEM armour (RFC 7468) around `der`.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = u32::from(group[0]) << 16
                | u32::from(*group.get(1).unwrap_or(&0)) << 8
                | u32::from(*group.get(2).unwrap_or(&0));
            for digit in 0..4 {
                if digit <= group.len() {
                    let index = (bits >> (18 - 6 * digit)) & 0x3f;
                    text.push(char::from(ALPHABET[index as usize]));
                } else {
                    text.push('=');
                }
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// A chain that makes naive path building explode: `loops` authorities of one name that could each have signed each other,
/// and `filler` more that lead nowhere. No signature in it is any good; none is needed.
pub(crate) fn looping_chain(leaf: &Identity, loops: usize, filler: usize) -> Identity {
    let ring = Authority::new("Ring");
    let mut chain = vec![ring.issue(&Leaf::client("ring")).chain[0].clone()];
    for _ in 0..loops {
        chain.push(Authority::new("Ring").certificate);
    }
    let padding = Authority::new("Padding").certificate;
    chain.extend(std::iter::repeat_n(padding, filler));
    Identity { chain, key: leaf.key.clone(), serial: leaf.serial.clone() }
}
