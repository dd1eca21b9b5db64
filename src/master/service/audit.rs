//! Audit records of reloads.

use super::Service;
use crate::log::audit::{CertificateChange, ReloadFacts};

impl Service {
    /// A reload is over: adopted, or refused for this reason.
    pub(super) fn audit_reload(&self, by: Option<&'static str>, outcome: Result<CertificateChange, String>) {
        self.logging.record(ReloadFacts { generation: self.generation(), by, outcome });
    }
}

/// What the certificates that are served `after` differ in from those `before`, both in order; nothing if those are not known.
pub(super) fn change(before: Option<&[[u8; 32]]>, after: &[[u8; 32]]) -> CertificateChange {
    let without = |list: &[[u8; 32]], other: &[[u8; 32]]| {
        list.iter().filter(|hash| other.binary_search(hash).is_err()).copied().collect()
    };
    let Some(before) = before else { return CertificateChange::default() };
    CertificateChange { added: without(after, before), removed: without(before, after) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_come_and_go() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        assert_eq!(change(Some(&[a, b]), &[b, c]), CertificateChange { added: vec![c], removed: vec![a] });
        assert_eq!(change(None, &[a]), CertificateChange::default());
    }
}
