//! Where the files of certificates are: what `global` says about them, and which files may stand beside one that is named.
//! Pure names: the master reads by them, the worker looks the bytes up by them.

use std::path::{Path, PathBuf};

use super::model::{At, SYSTEM_CA};

/// What `global` says about the files of all `bind` lines (HAProxy manual, 3.1).
#[derive(Clone, Debug, Default)]
pub struct CertificateFiles {
    /// `crt-base`.
    pub crt_base: Option<PathBuf>,
    /// `ca-base`.
    pub ca_base: Option<PathBuf>,
    /// `key-base`, for the keys that a `crt-list` names.
    pub key_base: Option<PathBuf>,
    /// `ssl-load-extra-files`.
    pub extra: ExtraFiles,
    /// `ssl-load-extra-del-ext`: `site.key` stands beside `site.crt`, not `site.crt.key`.
    pub replaces_extension: bool,
    /// `issuers-chain-path`.
    pub issuers: Option<At<PathBuf>>,
    /// `ssl-skip-self-issued-ca`: the root of a chain is not sent.
    pub skips_self_issued: bool,
}

/// Which files are looked for beside a certificate; default: all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraFiles {
    /// `<crt>.ecdsa` and `<crt>.rsa`, where there is no `<crt>`.
    pub bundle: bool,
    /// `<crt>.key`.
    pub key: bool,
    /// `<crt>.ocsp`.
    pub ocsp: bool,
    /// `<crt>.issuer`.
    pub issuer: bool,
}

impl ExtraFiles {
    /// `none`.
    pub const NONE: Self = Self { bundle: false, key: false, ocsp: false, issuer: false };
    /// `all`.
    pub const ALL: Self = Self { bundle: true, key: true, ocsp: true, issuer: true };
}

impl Default for ExtraFiles {
    fn default() -> Self {
        Self::ALL
    }
}

/// Files that an entry of a `crt-list` names in the place of those beside the certificate.
#[derive(Clone, Debug, Default)]
pub struct OwnFiles {
    /// `key`.
    pub key: Option<At<PathBuf>>,
    /// `ocsp`.
    pub ocsp: Option<At<PathBuf>>,
    /// `issuer`.
    pub issuer: Option<At<PathBuf>>,
}

/// Files that may stand beside a certificate. `None`: it is not looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// An OCSP response about it, DER.
    pub ocsp: Option<PathBuf>,
    /// The certificate of its issuer, PEM.
    pub issuer: Option<PathBuf>,
}

impl CertificateFiles {
    /// What may stand beside the file `certificate`.
    pub fn beside(&self, certificate: &Path) -> Beside {
        let named = |wanted: bool, extension: &str| wanted.then(|| self.with_extension(certificate, extension));
        let ExtraFiles { key, ocsp, issuer, .. } = self.extra;
        Beside { key: named(key, "key"), ocsp: named(ocsp, "ocsp"), issuer: named(issuer, "issuer") }
    }

    /// The files of a bundle (HAProxy's certificates for several kinds of key), for a `certificate` that does not exist.
    pub fn bundle(&self, certificate: &Path) -> Vec<PathBuf> {
        if !self.extra.bundle {
            return Vec::new();
        }
        ["ecdsa", "rsa"].map(|kind| appended(certificate, kind)).into()
    }

    /// The path of a `ca-file`, `ca-verify-file` or `crl-file` below `ca-base`.
    pub(crate) fn authority(&self, path: &At<PathBuf>) -> At<PathBuf> {
        let value = match &self.ca_base {
            Some(base) if path.value != Path::new(SYSTEM_CA) => base.join(&path.value),
            _ => path.value.clone(),
        };
        At { value, at: path.at.clone() }
    }

    fn with_extension(&self, certificate: &Path, extension: &str) -> PathBuf {
        if self.replaces_extension && certificate.extension().is_some_and(|found| found == "crt") {
            return certificate.with_extension(extension);
        }
        appended(certificate, extension)
    }
}

/// Does a file of this name in a `crt` directory hold a certificate?
pub fn is_certificate_name(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with('.') && !matches!(extension, Some("key" | "issuer" | "ocsp" | "sctl"))
}

fn appended(path: &Path, extension: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(beside: Beside) -> Vec<String> {
        let paths = [beside.key, beside.ocsp, beside.issuer].into_iter().flatten();
        paths.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn an_extension_is_appended() {
        let files = CertificateFiles::default();
        assert_eq!(paths(files.beside(Path::new("/a.crt"))), ["/a.crt.key", "/a.crt.ocsp", "/a.crt.issuer"]);
    }

    #[test]
    fn or_stands_in_the_place_of_crt() {
        let files = CertificateFiles { replaces_extension: true, ..CertificateFiles::default() };
        assert_eq!(paths(files.beside(Path::new("/a.b.crt"))), ["/a.b.key", "/a.b.ocsp", "/a.b.issuer"]);
        // HAProxy's manual: "Your crt file must have a .crt extension for this option to work."
        assert_eq!(paths(files.beside(Path::new("/a.pem")))[0], "/a.pem.key");
        assert_eq!(paths(files.beside(Path::new("/crt")))[0], "/crt.key");
        assert_eq!(files.bundle(Path::new("/a.crt")), [Path::new("/a.crt.ecdsa"), Path::new("/a.crt.rsa")]);
    }

    #[test]
    fn only_what_is_wanted_is_looked_for() {
        let extra = ExtraFiles { ocsp: true, ..ExtraFiles::NONE };
        let files = CertificateFiles { extra, ..CertificateFiles::default() };
        assert_eq!(paths(files.beside(Path::new("/a.pem"))), ["/a.pem.ocsp"]);
        assert!(files.bundle(Path::new("/a.pem")).is_empty());
    }
}
