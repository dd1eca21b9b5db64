//! Sample expressions and log formats (HAProxy manual, 7 and 8.2.6): parsed here, evaluated by `proto::sample`.

/// A compiled format: literal text and expressions (`%[fetch,converter,…]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// In order; the value of the format is their concatenation.
    pub parts: Vec<Part>,
}

/// A piece of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that stands for itself.
    Literal(Vec<u8>),
    /// `%[…]`.
    Sample {
        /// What to compute.
        expr: Expr,
        /// `%{+bin}o` before it: the bytes go out as they are. Otherwise a value ends at its first NUL byte, as in HAProxy.
        binary: bool,
    },
}

/// One fetch and its converters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr {
    /// Where the value comes from.
    pub fetch: Fetch,
    /// Applied in order.
    pub converters: Vec<Converter>,
}

/// Sample fetches (HAProxy manual, 7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// `ssl_c_der`: the client certificate.
    SslCDer,
    /// `ssl_c_s_dn`: its subject, `/C=…/CN=…`.
    SslCSDn,
    /// `ssl_c_i_dn`: its issuer.
    SslCIDn,
    /// `ssl_c_serial`: its serial number, bytes.
    SslCSerial,
    /// `ssl_c_sha1`: SHA-1 of the certificate, bytes.
    SslCSha1,
    /// `ssl_c_notbefore`, `YYMMDDhhmmssZ`.
    SslCNotBefore,
    /// `ssl_c_notafter`, `YYMMDDhhmmssZ`.
    SslCNotAfter,
    /// `ssl_fc_sni`.
    SslFcSni,
    /// `ssl_fc_alpn`.
    SslFcAlpn,
    /// `ssl_fc_protocol`, `TLSv1.3`.
    SslFcProtocol,
    /// `ssl_fc_cipher`, OpenSSL's name.
    SslFcCipher,
}

/// Converters (HAProxy manual, 7.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converter {
    /// `sha1`
    Sha1,
    /// `sha2(bits)`: 224, 256, 384 or 512.
    Sha2(u16),
    /// `hex`, upper case.
    Hex,
    /// `lower`
    Lower,
    /// `upper`
    Upper,
    /// `base64`
    Base64,
}
