//! The throwaway CA of the demo and everything it signs. Valid for a week, from an hour ago.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    Error, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Serial number of the revoked certificate.
const REVOKED: u64 = 4;

/// PEM texts. Where there is a key, it stands behind its certificate in the same text.
pub(super) struct Certificates {
    /// The CA's certificate: signs servers and clients.
    pub(super) ca: String,
    /// For localhost, 127.0.0.1 and ::1.
    pub(super) server: String,
    /// The same with another name, serial and key, to rotate to.
    pub(super) server_new: String,
    /// `/O=Demo/CN=alice`.
    pub(super) alice: String,
    /// `/O=Demo/CN=mallory`, revoked.
    pub(super) mallory: String,
    /// The list that revokes mallory.
    pub(super) crl: String,
}

/// Makes new keys and signs.
pub(super) fn create(now: SystemTime) -> Result<Certificates, Error> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = date_time_ymd(1970, 1, 1) + since_epoch;
    let params = |name: &str, serial: u64| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Demo");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = now - HOUR;
        params.not_after = now + WEEK;
        params
    };
    let server = |name, serial| -> Result<_, Error> {
        let mut params = params(name, serial);
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params)
    };
    let client = |name, serial| {
        let mut params = params(name, serial);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    };

    let mut ca = params("Bowline demo CA", 1);
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let crl = CertificateRevocationListParams {
        this_update: now - HOUR,
        next_update: now + WEEK,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(REVOKED),
            revocation_time: now - HOUR,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let signed = |params: CertificateParams| -> Result<String, Error> {
        let key = KeyPair::generate()?;
        Ok(params.signed_by(&key, &ca)?.pem() + &key.serialize_pem())
    };
    Ok(Certificates {
        server: signed(server("Demo server", 2)?)?,
        server_new: signed(server("Demo server, rotated", 5)?)?,
        alice: signed(client("alice", 3))?,
        mallory: signed(client("mallory", REVOKED))?,
        crl: crl.signed_by(&ca)?.pem()?,
        ca: ca.pem(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{CertificateError, Error as TlsError};

    use super::*;

    fn certificate(pem: &str) -> CertificateDer<'static> {
        rustls_pemfile::certs(&mut pem.as_bytes()).next().unwrap().unwrap()
    }

    fn roots(made: &Certificates) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&made.ca)).unwrap();
        Arc::new(roots)
    }

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    /// What a listener with this CA and CRL says to a client's certificate.
    fn verified(made: &Certificates, pem: &str) -> Result<(), TlsError> {
        let crl = rustls_pemfile::crls(&mut made.crl.as_bytes()).next().unwrap().unwrap();
        let crl = CertificateRevocationListDer::from(crl.to_vec());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(made), provider())
            .with_crls([crl])
            .enforce_revocation_expiration()
            .build()
            .unwrap();
        verifier.verify_client_cert(&certificate(pem), &[], UnixTime::now()).map(|_| ())
    }

    #[test]
    fn alice_is_let_in_and_mallory_is_not() {
        let made = create(SystemTime::now()).unwrap();
        verified(&made, &made.alice).unwrap();
        let revoked = TlsError::InvalidCertificate(CertificateError::Revoked);
        assert_eq!(verified(&made, &made.mallory).unwrap_err(), revoked);
        // A server's certificate is not a client's.
        verified(&made, &made.server).unwrap_err();
        // Nor is another demo's alice ours.
        let other = create(SystemTime::now()).unwrap();
        verified(&made, &other.alice).unwrap_err();
    }

    #[test]
    fn both_server_certificates_are_for_this_machine_alone() {
        let made = create(SystemTime::now()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(&made), provider()).build().unwrap();
        for pem in [&made.server, &made.server_new] {
            let verify = |name: &'static str| {
                let name = ServerName::try_from(name).unwrap();
                verifier.verify_server_cert(&certificate(pem), &[], &name, &[], UnixTime::now())
            };
            for name in ["localhost", "127.0.0.1", "::1"] {
                verify(name).unwrap();
            }
            verify("example.org").unwrap_err();
        }
        assert_ne!(made.server, made.server_new);
    }

    #[test]
    fn a_key_stands_behind_its_certificate() {
        let made = create(SystemTime::now()).unwrap();
        for pem in [&made.server, &made.server_new, &made.alice, &made.mallory] {
            let key = rustls_pemfile::private_key(&mut pem.as_bytes()).unwrap().unwrap();
            let key = provider().key_provider.load_private_key(key).unwrap();
            let chain = vec![certificate(pem)];
            rustls::sign::CertifiedKey::new(chain, key).keys_match().unwrap();
        }
        assert!(!made.ca.contains("PRIVATE"), "the CA's key is never written");
    }
}
