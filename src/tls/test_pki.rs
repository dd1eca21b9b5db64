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

use super::policy::{Limits, Store};
use super::x509::Certificate;
use crate::conf::certificate_files::CertificateFiles;
use crate::conf::ciphers::{Group, Suite12, Suite13};
use crate::conf::model::{At, BindTls, Crt, CrtKind, Location, RecordLimits, SniPolicy, TlsVersion, Verify};
use crate::conf::verify_errors::IgnoredErrors;
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

/// What all `bind` lines share, as `global` says it when it is silent.
pub(crate) fn store(files: &Files) -> Store<'_> {
    static SETTINGS: std::sync::LazyLock<CertificateFiles> = std::sync::LazyLock::new(CertificateFiles::default);
    Store::new(&SETTINGS, files).0
}

/// Sessions that may be resumed so long.
pub(crate) fn limits(lifetime: Duration) -> Limits {
    Limits { lifetime, blocks: 20_000, records: RecordLimits::default() }
}

/// A `bind` line with these certificates and nothing else.
pub(crate) fn bind(crt: &[&str]) -> BindTls {
    BindTls {
        crt: crt.iter().map(|path| Crt { file: at(PathBuf::from(path)), kind: CrtKind::Plain }).collect(),
        entries: Vec::new(),
        verify: Verify::None,
        ca_file: None,
        ca_verify_file: None,
        ca_names: true,
        ignored_of_leaf: IgnoredErrors::default(),
        ignored_of_ca: IgnoredErrors::default(),
        crl_file: None,
        alpn: Vec::new(),
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        suites12: Suite12::DEFAULT.to_vec(),
        suites13: Suite13::DEFAULT.to_vec(),
        groups: Group::DEFAULT.to_vec(),
        prefer_client_ciphers: false,
        tickets: true,
        ticket_keys: None,
        sni: SniPolicy::Lenient,
        last_crt_wins: false,
    }
}

/// An OCSP response, to be made with whatever is wrong about it.
pub(crate) struct Ocsp<'a> {
    /// The certificate that it is about, and who has issued that.
    pub(crate) about: (&'a CertificateDer<'static>, &'a Ca),
    /// `certStatus`: `[0]`, `[1]` or `[2]`.
    pub(crate) status: u8,
    /// `thisUpdate`, relative to [`now`].
    pub(crate) this_update: i64,
    /// `nextUpdate`, relative to [`now`].
    pub(crate) next_update: Option<i64>,
    /// Whose key signs it.
    pub(crate) signer: &'a KeyPair,
    /// Certificates that go with it.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

impl<'a> Ocsp<'a> {
    /// Good for a week, signed by the issuer.
    pub(crate) fn good(leaf: &'a CertificateDer<'static>, issuer: &'a Ca) -> Self {
        let (this_update, next_update) = (-60, Some(7 * DAY));
        Self { about: (leaf, issuer), status: 0, this_update, next_update, signer: &issuer.key, certificates: vec![] }
    }

    /// RFC 6960, 4.2.1.
    pub(crate) fn der(&self) -> Vec<u8> {
        use rcgen::SigningKey;
        let (leaf, issuer) = self.about;
        let leaf = Certificate::parse(leaf).unwrap();
        let issuer = Certificate::parse(&issuer.der).unwrap();
        let hash = |bytes: &[u8]| {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
            tlv(0x04, &[hash.as_ref()])
        };
        let sha1 = tlv(0x30, &[&[0x06, 5, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0]]);
        let (name, key) = (hash(issuer.raw_subject()), hash(&issuer.key().subject_public_key.data));
        let id = tlv(0x30, &[&sha1, &name, &key, &tlv(0x02, &[leaf.raw_serial()])]);
        let status = match self.status {
            1 => tlv(0xa1, &[&generalized(self.this_update)]),
            other => tlv(0x80 + other, &[]),
        };
        let next_update = self.next_update.map(|time| tlv(0xa0, &[&generalized(time)])).unwrap_or_default();
        let answer = tlv(0x30, &[&id, &status, &generalized(self.this_update), &next_update]);
        let responder = tlv(0xa1, &[issuer.raw_subject()]);
        let data = tlv(0x30, &[&responder, &generalized(self.this_update), &tlv(0x30, &[&answer])]);
        let ecdsa = tlv(0x30, &[&[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]]);
        let signature = tlv(0x03, &[&[0], &self.signer.sign(&data).unwrap()]);
        let certificates: Vec<&[u8]> = self.certificates.iter().map(|der| der.as_ref()).collect();
        let certificates = if certificates.is_empty() { Vec::new() } else { tlv(0xa0, &[&tlv(0x30, &certificates)]) };
        let basic = tlv(0x30, &[&data, &ecdsa, &signature, &certificates]);
        let kind = [0x06, 9, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
        let bytes = tlv(0xa0, &[&tlv(0x30, &[&kind, &tlv(0x04, &[&basic])])]);
        tlv(0x30, &[&[0x0a, 1, 0], &bytes])
    }
}

fn tlv(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let bytes = (content.len() as u16).to_be_bytes();
    let length = match content.len() {
        0..0x80 => vec![bytes[1]],
        0x80..0x100 => vec![0x81, bytes[1]],
        _ => vec![0x82, bytes[0], bytes[1]],
    };
    [&[tag][..], &length, &content].concat()
}

fn generalized(seconds: i64) -> Vec<u8> {
    let time = i64::try_from(at_second(seconds).as_secs()).unwrap();
    let time = x509_parser::time::ASN1Time::from_timestamp(time).unwrap().to_datetime();
    let (month, day) = (u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let text = format!("{:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z", time.year());
    tlv(0x18, &[text.as_bytes()])
}

/// The certificate made over: version 1, so without extensions (what `openssl x509 -req` makes), signed by `signer`.
pub(crate) fn as_version_1(certificate: &CertificateDer<'_>, signer: &KeyPair) -> CertificateDer<'static> {
    use super::der::{EXPLICIT_0, SEQUENCE, element};
    use rcgen::SigningKey;
    let (certificate, _) = element(certificate, SEQUENCE).unwrap();
    let (tbs, after) = element(certificate.content, SEQUENCE).unwrap();
    let (algorithm, _) = element(after, SEQUENCE).unwrap();
    let (_version, fields) = element(tbs.content, EXPLICIT_0).unwrap();
    // serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo.
    let mut rest = element(fields, 0x02).unwrap().1;
    for _ in 0..5 {
        rest = element(rest, SEQUENCE).unwrap().1;
    }
    let tbs = tlv(0x30, &[&fields[..fields.len() - rest.len()]]);
    let signature = tlv(0x03, &[&[0], &signer.sign(&tbs).unwrap()]);
    CertificateDer::from(tlv(0x30, &[&tbs, algorithm.whole, &signature]))
}

impl Ca {
    /// Its key.
    pub(crate) fn key(&self) -> &KeyPair {
        &self.key
    }
}

/// PEM of a certificate.
pub(crate) fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in certificate.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for index in 0..4 {
            let letter = char::from(alphabet[(bits >> (18 - 6 * index) & 63) as usize]);
            text.push(if index <= group.len() { letter } else { '=' });
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}
