//! What the parts of TLS are called in logs and headers: alerts as in RFC 8446, suites as in OpenSSL, groups and signature
//! schemes as in the IANA registry; and what rustls found wrong, in an operator's words.

use rustls::{
    AlertDescription, CipherSuite, Error, InvalidMessage, NamedGroup, PeerIncompatible, PeerMisbehaved, SignatureScheme,
};

use crate::stats::labels::HandshakeFailure;

/// An error of rustls in an operator's words. "The client" is the only peer there is.
pub(super) fn error_words(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "the client sent no certificate".to_owned(),
        Error::AlertReceived(alert) => format!("the client refused: alert {}", alert_name(*alert)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "what came is not TLS".to_owned()
        }
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) | Error::PeerSentOversizedRecord => {
            "a record was longer than TLS allows".to_owned()
        }
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
            "a handshake message is longer than 64 KiB".to_owned()
        }
        Error::InvalidMessage(what) => format!("a malformed message ({what:?})"),
        Error::InappropriateMessage { got_type, .. } => format!("a message came out of turn ({got_type:?})"),
        Error::InappropriateHandshakeMessage { got_type, .. } => format!("a message came out of turn ({got_type:?})"),
        Error::DecryptError => "a record could not be decrypted".to_owned(),
        Error::InvalidCertificate(reason) => format!("client certificate: {reason:?}"),
        Error::PeerIncompatible(what) => incompatibility_words(what),
        Error::PeerMisbehaved(what) => misbehaviour_words(what),
        other => other.to_string(),
    }
}

/// The same error for counting.
pub(super) fn error_kind(error: &Error) -> HandshakeFailure {
    use HandshakeFailure as Kind;
    match error {
        Error::NoCertificatesPresented => Kind::ClientCertificateMissing,
        Error::InvalidCertificate(_) => Kind::ClientCertificateRefused,
        Error::AlertReceived(alert) if is_about_certificate(*alert) => Kind::ServerCertificateRefused,
        Error::AlertReceived(_) => Kind::ClientAlert,
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            Kind::NotTls
        }
        Error::InvalidMessage(InvalidMessage::MessageTooLarge | InvalidMessage::HandshakePayloadTooLarge)
        | Error::PeerSentOversizedRecord => Kind::TooLarge,
        Error::DecryptError => Kind::Decrypt,
        Error::PeerIncompatible(what) => match what {
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired => Kind::Version,
            PeerIncompatible::NoCipherSuitesInCommon => Kind::Cipher,
            PeerIncompatible::NoKxGroupsInCommon => Kind::Group,
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => Kind::Signature,
            _ => Kind::Incompatible,
        },
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_) => Kind::Protocol,
        _ => Kind::Internal,
    }
}

/// Whether a client says by this alert that it does not believe our certificate.
fn is_about_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::BadCertificateStatusResponse
    )
}

fn incompatibility_words(what: &PeerIncompatible) -> String {
    let words = match what {
        PeerIncompatible::Tls12NotOffered => "the client knows no TLS version newer than 1.1",
        PeerIncompatible::Tls12NotOfferedOrEnabled | PeerIncompatible::SupportedVersionsExtensionRequired => {
            "no TLS version in common"
        }
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite in common that goes with the certificate",
        PeerIncompatible::NoKxGroupsInCommon => "no key exchange group in common",
        PeerIncompatible::NoSignatureSchemesInCommon => "no signature scheme in common that goes with the certificate",
        PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "no signature scheme for client certificates in common"
        }
        PeerIncompatible::SignatureAlgorithmsExtensionRequired => "the client names no signature schemes",
        PeerIncompatible::NamedGroupsExtensionRequired => "the client names no key exchange groups",
        PeerIncompatible::KeyShareExtensionRequired => "the client sent no key share",
        PeerIncompatible::NullCompressionRequired => "the client insists on compression",
        PeerIncompatible::UncompressedEcPointsRequired | PeerIncompatible::NoEcPointFormatsInCommon => {
            "the client insists on compressed points"
        }
        PeerIncompatible::IncorrectCertificateTypeExtension => "the client insists on raw public keys",
        other => return format!("the client does not fit: {other:?}"),
    };
    words.to_owned()
}

fn misbehaviour_words(what: &PeerMisbehaved) -> String {
    let words = match what {
        PeerMisbehaved::ServerNameMustContainOneHostName => "the server name that was asked for is no host name",
        PeerMisbehaved::TooManyEmptyFragments => "too many empty records in a row",
        PeerMisbehaved::TooManyKeyUpdateRequests => "too many KeyUpdate messages in a row",
        PeerMisbehaved::TooManyRenegotiationRequests => "the client insists on renegotiation",
        PeerMisbehaved::TooManyWarningAlertsReceived => "too many warnings",
        other => return format!("the client broke the rules of TLS: {other:?}"),
    };
    words.to_owned()
}

/// The alert that rustls has sent for an error whose alert went out encrypted.
pub(super) fn alert_for(error: &Error) -> Option<AlertDescription> {
    Some(match error {
        Error::InvalidCertificate(certificate) => AlertDescription::from(certificate.clone()),
        Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::InvalidMessage(_) => AlertDescription::DecodeError,
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            AlertDescription::UnexpectedMessage
        }
        _ => return None,
    })
}

/// An alert, as in RFC 8446, 6.
pub(super) fn alert_name(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CloseNotify => "close_notify",
        AlertDescription::UnexpectedMessage => "unexpected_message",
        AlertDescription::BadRecordMac => "bad_record_mac",
        AlertDescription::RecordOverflow => "record_overflow",
        AlertDescription::HandshakeFailure => "handshake_failure",
        AlertDescription::NoCertificate => "no_certificate",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::IllegalParameter => "illegal_parameter",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError => "decrypt_error",
        AlertDescription::ProtocolVersion => "protocol_version",
        AlertDescription::InsufficientSecurity => "insufficient_security",
        AlertDescription::InternalError => "internal_error",
        AlertDescription::InappropriateFallback => "inappropriate_fallback",
        AlertDescription::UserCanceled => "user_canceled",
        AlertDescription::NoRenegotiation => "no_renegotiation",
        AlertDescription::MissingExtension => "missing_extension",
        AlertDescription::UnsupportedExtension => "unsupported_extension",
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::BadCertificateStatusResponse => "bad_certificate_status_response",
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        AlertDescription::UnknownPSKIdentity => "unknown_psk_identity",
        _ => "unknown alert",
    }
}

/// OpenSSL's name of a cipher suite.
pub(super) fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown",
    }
}

/// TLS names of groups, as proxy-protocol.txt 2.2 wants them for PP2_SUBTYPE_SSL_GROUP.
pub(super) fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        NamedGroup::secp521r1 => "secp521r1",
        NamedGroup::X25519 => "x25519",
        NamedGroup::X448 => "x448",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::secp256r1MLKEM768 => "SecP256r1MLKEM768",
        NamedGroup::MLKEM768 => "MLKEM768",
        NamedGroup::MLKEM1024 => "MLKEM1024",
        _ => "unknown",
    }
}

/// A signature scheme, as in RFC 8446, 4.2.3.
pub(super) fn scheme_name(scheme: SignatureScheme) -> &'static str {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        SignatureScheme::ED25519 => "ed25519",
        _ => "unknown",
    }
}
