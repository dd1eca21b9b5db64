//! The certificates of one run: made at run time, ECDSA P-256 but for one, read by every product from the same files.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RevocationReason, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

/// The name in the server certificate, and the SNI that the client sends.
pub(crate) const SERVER_NAME: &str = "bench.test";

/// A directory with everything that products and clients read.
pub(crate) struct Certificates {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    issued: u64,
    hosts: Vec<PathBuf>,
}

/// The name of one of the many hosts, see [`Certificates::fill_hosts`].
pub(crate) fn host_name(index: usize) -> String {
    format!("host-{index:05}.{SERVER_NAME}")
}

/// Where a file of [`Certificates`] lies below its directory.
pub(crate) mod file {
    /// The CA of both sides.
    pub(crate) const CA: &str = "ca.pem";
    /// Server certificate and key in one file.
    pub(crate) const SERVER: &str = "server.pem";
    /// The same with a key for RSA-2048; the CA's signature on it is ECDSA all the same.
    pub(crate) const RSA_SERVER: &str = "rsa.pem";
    /// A directory of files such as `host-00042.bench.test.pem`, each with certificate and key.
    pub(crate) const HOSTS: &str = "hosts";
    /// A CRL of the CA that revokes one certificate that nobody uses.
    pub(crate) const CRL: &str = "crl.pem";
    pub(crate) const CLIENT: &str = "client.pem";
    pub(crate) const CLIENT_KEY: &str = "client.key";
}

impl Certificates {
    /// Makes all files in `directory`, which must exist.
    pub(crate) fn create(directory: &Path) -> Result<Self, Box<dyn Error>> {
        // Some products read certificates when they have given root away. Nothing in here is a secret.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name.push(DnType::CommonName, "bench CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        write(directory, file::CA, &ca.self_signed(&key)?.pem())?;
        let mut this =
            Self { directory: directory.to_owned(), issuer: Issuer::new(ca, key), issued: 0, hosts: Vec::new() };

        let client_key = KeyPair::generate()?;
        let client =
            this.params("client 1", ExtendedKeyUsagePurpose::ClientAuth, &[])?.signed_by(&client_key, &this.issuer)?;
        write(directory, file::CLIENT, &client.pem())?;
        write(directory, file::CLIENT_KEY, &client_key.serialize_pem())?;
        let rsa_key = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
        let rsa = this.server(SERVER_NAME, &rsa_key)?;
        write(directory, file::RSA_SERVER, &format!("{}{}", rsa.pem(), rsa_key.serialize_pem()))?;
        this.fill_hosts(1)?;
        this.renew()?;
        Ok(this)
    }

    /// Makes the directory of hosts hold `count` certificates, for [`host_name`] of 0 and up. They share one key: a product's work
    /// is the same, and 10,000 are made in a second.
    pub(crate) fn fill_hosts(&mut self, count: usize) -> Result<(), Box<dyn Error>> {
        let directory = self.path(file::HOSTS);
        if !self.hosts.is_empty() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir(&directory)?;
        let key = KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        self.hosts.clear();
        for name in (0..count).map(host_name) {
            let path = directory.join(format!("{name}.pem"));
            fs::write(&path, format!("{}{key_pem}", self.server(&name, &key)?.pem()))?;
            self.hosts.push(path);
        }
        Ok(())
    }

    /// The files of the hosts.
    pub(crate) fn hosts(&self) -> &[PathBuf] {
        &self.hosts
    }

    /// Replaces the server certificate and the CRL, as an operator does before a reload. Returns the DER of the new certificate.
    pub(crate) fn renew(&mut self) -> Result<Vec<u8>, Box<dyn Error>> {
        let key = KeyPair::generate()?;
        let server = self.server(SERVER_NAME, &key)?;
        write(&self.directory, file::SERVER, &format!("{}{}", server.pem(), key.serialize_pem()))?;

        self.issued += 1;
        let crl = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2049, 1, 1),
            crl_number: SerialNumber::from(self.issued),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(1_000_000 + self.issued),
                revocation_time: date_time_ymd(2024, 1, 1),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)?;
        write(&self.directory, file::CRL, &crl.pem()?)?;
        Ok(server.der().to_vec())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn server(&mut self, name: &str, key: &KeyPair) -> Result<Certificate, rcgen::Error> {
        self.params(name, ExtendedKeyUsagePurpose::ServerAuth, &[name])?.signed_by(key, &self.issuer)
    }

    fn params(
        &mut self,
        common_name: &str,
        usage: ExtendedKeyUsagePurpose,
        names: &[&str],
    ) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        self.issued += 1;
        params.serial_number = Some(SerialNumber::from(self.issued));
        Ok(params)
    }
}

/// Replaces a file in one step, so that no product ever reads half of it.
fn write(directory: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let unfinished = directory.join(format!(".{name}"));
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_replaced_not_added() {
        let directory = tempfile::tempdir().unwrap();
        let mut certificates = Certificates::create(directory.path()).unwrap();
        for count in [1, 3, 2] {
            certificates.fill_hosts(count).unwrap();
            let mut found: Vec<PathBuf> =
                fs::read_dir(directory.path().join(file::HOSTS)).unwrap().map(|entry| entry.unwrap().path()).collect();
            found.sort();
            assert_eq!(certificates.hosts(), found);
            assert_eq!(found.len(), count);
        }
        assert!(certificates.hosts()[1].ends_with("hosts/host-00001.bench.test.pem"));
    }
}
