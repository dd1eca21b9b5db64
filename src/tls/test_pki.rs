//! A certificate authority for the tests of this folder: certificates, keys and CRLs made at run time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::conf::ciphers::{Group, Suite12, Suite13};
use crate::conf::model::{At, BindTls, Crt, CrtKind, Location, SniPolicy, TlsVersion, Verify};
use crate::material::{Entry, FileBytes, Files};

pub(crate) const DAY: i64 = 86_400;

/// One time for the whole test run.
pub(crate) fn now() -> UnixTime {
    static NOW: std::sync::LazyLock<UnixTime> = std::sync::LazyLock::new(UnixTime::now);
    *NOW
}

/// `now` moved by `seconds`.
pub(crate) fn at_second(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs().checked_add_signed(seconds).unwrap()))
}

macro_rules! moved {
    ($seconds:expr) => {
        date_time_ymd(1970, 1, 1) + Duration::from_secs(at_second($seconds).as_secs())
    };
}

/// A CA with its key.
pub(crate) struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) key: KeyPair,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = moved!(-100 * DAY);
    params.not_after = moved!(1000 * DAY);
    params
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, |_| ())
    }

    pub(crate) fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { params, key, der: certificate.der().clone(), pem: certificate.pem() }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(name, |_| ())
    }

    pub(crate) fn intermediate_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Self { params, key, der: certificate.der().clone(), pem: certificate.pem() }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A client certificate: serial number 7, valid for 30 days, no extended key usage, unless changed.
    pub(crate) fn client(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.issue(KeyPair::generate().unwrap(), |params| {
            params.distinguished_name.push(DnType::OrganizationName, "Example");
            params.distinguished_name.push(DnType::CommonName, name);
            change(params);
        })
    }

    /// A server certificate for `names`, the first of them also as CN.
    pub(crate) fn server(&self, names: &[&str], key: KeyPair) -> Issued {
        self.issue(key, |params| {
            let with_names = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            params.subject_alt_names = with_names.unwrap().subject_alt_names;
            params.distinguished_name.push(DnType::CommonName, names[0]);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    pub(crate) fn issue(&self, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(7));
        params.not_before = moved!(-DAY);
        params.not_after = moved!(30 * DAY);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Issued { key, der: certificate.der().clone(), pem: certificate.pem() }
    }

    /// A CRL of this CA in PEM; times relative to [`now`].
    pub(crate) fn crl(&self, revoked: &[u64], this_update: i64, next_update: i64) -> String {
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: moved!(this_update),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: moved!(this_update),
            next_update: moved!(next_update),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }
}

impl Issued {
    /// Certificate and key in one file.
    pub(crate) fn combined(&self) -> String {
        format!("{}{}", self.pem, self.key.serialize_pem())
    }
}

pub(crate) fn rsa_key() -> KeyPair {
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap()
}

pub(crate) fn ec_key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// Moves validity; times relative to [`now`].
pub(crate) fn valid(from: i64, to: i64) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.not_before = moved!(from);
        params.not_after = moved!(to);
    }
}

pub(crate) fn location() -> Location {
    Location { file: Arc::from("bowline.cfg"), line: 9, column: 25 }
}

pub(crate) fn at<T>(value: T) -> At<T> {
    At { value, at: location() }
}

/// Files with mode 0600, by path; a `Directory` entry is added for every parent.
pub(crate) fn files<'a>(files: impl IntoIterator<Item = (&'a str, String)>) -> Files {
    let mut collected = Files::default();
    for (path, text) in files {
        add_file(&mut collected, path, text.into_bytes(), 0o600);
    }
    collected
}

pub(crate) fn add_file(files: &mut Files, path: &str, bytes: Vec<u8>, mode: u32) {
    let path = Path::new(path);
    let directory = files.entries.entry(path.parent().unwrap().to_owned());
    if let Entry::Directory(names) = directory.or_insert_with(|| Entry::Directory(Vec::new())) {
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        names.sort();
    }
    files.entries.insert(path.to_owned(), Entry::File(FileBytes { bytes, mode }));
}

/// A `bind` line with these certificates and nothing else.
pub(crate) fn bind(crt: &[&str]) -> BindTls {
    BindTls {
        crt: crt.iter().map(|path| Crt { file: at(PathBuf::from(path)), kind: CrtKind::Plain }).collect(),
        verify: Verify::None,
        crt_base: None,
        ca_base: None,
        ca_file: None,
        crl_file: None,
        alpn: Vec::new(),
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        suites12: Suite12::DEFAULT.to_vec(),
        suites13: Suite13::DEFAULT.to_vec(),
        groups: Group::DEFAULT.to_vec(),
        prefer_client_ciphers: false,
        tickets: true,
        sni: SniPolicy::Lenient,
    }
}
