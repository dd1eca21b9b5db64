//! Errors of OpenSSL's certificate verification that `crt-ignore-err` and `ca-ignore-err` may let pass (HAProxy manual, 5.1).

/// Why a certificate does not verify; the numbers are OpenSSL's (`X509_V_ERR_…` in `x509_vfy.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerifyError {
    /// `X509_V_ERR_UNABLE_TO_GET_CRL`
    UnableToGetCrl = 3,
    /// `X509_V_ERR_CERT_HAS_EXPIRED`
    CertHasExpired = 10,
    /// `X509_V_ERR_CRL_HAS_EXPIRED`
    CrlHasExpired = 12,
    /// `X509_V_ERR_CERT_REVOKED`
    CertRevoked = 23,
}

impl VerifyError {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::UnableToGetCrl, Self::CertHasExpired, Self::CrlHasExpired, Self::CertRevoked];

    /// OpenSSL's number.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// OpenSSL's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnableToGetCrl => "X509_V_ERR_UNABLE_TO_GET_CRL",
            Self::CertHasExpired => "X509_V_ERR_CERT_HAS_EXPIRED",
            Self::CrlHasExpired => "X509_V_ERR_CRL_HAS_EXPIRED",
            Self::CertRevoked => "X509_V_ERR_CERT_REVOKED",
        }
    }

    /// By name or number.
    fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.name() == word || word.parse() == Ok(error.number()))
    }
}

/// A set of errors that do not stop a handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IgnoredErrors {
    /// `all`: also those that have no name here.
    all: bool,
    /// One bit for each of [`VerifyError::ALL`].
    listed: u8,
}

impl IgnoredErrors {
    /// `all`.
    pub const EVERY: Self = Self { all: true, listed: 0 };

    /// Reads the argument of the keyword: `all`, or names and numbers with commas between them.
    ///
    /// # Errors
    /// The part that is none of them.
    pub fn parse(text: &str) -> Result<Self, &str> {
        let mut ignored = Self::default();
        for part in text.split(',') {
            match VerifyError::find(part) {
                Some(error) => ignored.listed |= Self::bit(error),
                None if part == "all" => ignored.all = true,
                None => return Err(part),
            }
        }
        Ok(ignored)
    }

    fn bit(error: VerifyError) -> u8 {
        VerifyError::ALL.iter().zip(0..).find(|(known, _)| **known == error).map_or(0, |(_, index)| 1 << index)
    }

    /// The same bits for the same set.
    pub fn bits(self) -> [u8; 2] {
        [u8::from(self.all), self.listed]
    }

    /// Nothing is ignored.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Everything is ignored.
    pub fn is_every(self) -> bool {
        self.all
    }

    /// Is this error among them?
    pub fn contains(self, error: VerifyError) -> bool {
        self.all || self.listed & Self::bit(error) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        let names = VerifyError::ALL.map(VerifyError::name).join(",");
        assert_eq!(IgnoredErrors::parse(&names), IgnoredErrors::parse("3,10,12,23"));
        let some = IgnoredErrors::parse("10,X509_V_ERR_CERT_REVOKED").unwrap();
        let contained = VerifyError::ALL.into_iter().filter(|error| some.contains(*error)).map(VerifyError::number);
        assert_eq!(contained.collect::<Vec<_>>(), [10, 23]);
        assert!(!some.is_every() && !some.is_empty());
    }

    #[test]
    fn all_contains_everything() {
        let all = IgnoredErrors::parse("all").unwrap();
        assert!(all.is_every() && VerifyError::ALL.into_iter().all(|error| all.contains(error)));
        assert_eq!(all, IgnoredErrors::EVERY);
    }

    #[test]
    fn other_words_are_named() {
        for (text, part) in [
            ("", ""),
            ("10,", ""),
            ("10,25", "25"),
            ("ALL", "ALL"),
            ("x509_v_err_cert_revoked", "x509_v_err_cert_revoked"),
        ] {
            assert_eq!(IgnoredErrors::parse(text), Err(part));
        }
    }
}
