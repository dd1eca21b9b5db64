//! What `-c -V` shows of TLS on a `bind` line: which name gets which certificate, and what is asked of clients.

use super::names::Chosen;
use super::policy::{EntryPolicy, TlsPolicy};
use crate::conf::model::SniPolicy;

impl TlsPolicy {
    /// One line for each name, then for clients whose name no certificate has, then for what they are asked.
    pub fn overview(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .names
            .by_name()
            .into_iter()
            .map(|(name, chosen)| format!("name {name}: {}", certificates(&chosen)))
            .collect();
        let default = certificates(&self.names.defaults());
        let refused = "refused (alert 112)";
        let (nameless, unknown) = match self.names.policy() {
            SniPolicy::Lenient => (&*default, &*default),
            SniPolicy::NomatchAbort => (&*default, refused),
            SniPolicy::Strict => (refused, refused),
        };
        if nameless == unknown {
            lines.push(format!("other names, and none: {nameless}"));
        } else {
            lines.push(format!("no name: {nameless}"));
            lines.push(format!("other names: {unknown}"));
        }
        let credentials = self.names.credentials();
        for (number, entry) in self.entries.iter().enumerate() {
            let whose = match self.names.numbers().iter().position(|settings| *settings == number) {
                Some(index) if number > 0 => format!("clients of '{}'", credentials[index].path().display()),
                // No certificate goes with the settings of the line if all have their own.
                None if self.entries.len() > 1 => continue,
                _ => "clients".to_owned(),
            };
            lines.extend(clients(&whose, entry));
        }
        lines
    }
}

/// Certificates in the order of preference.
fn certificates(chosen: &[Chosen<'_>]) -> String {
    let one = |chosen: &Chosen<'_>| {
        let own = if chosen.entry > 0 { " with settings of its own" } else { "" };
        format!("{}{own}", chosen.credential.describe())
    };
    chosen.iter().map(one).collect::<Vec<_>>().join(", or ")
}

fn clients(whose: &str, entry: &EntryPolicy) -> Vec<String> {
    let alpn: Vec<_> = entry.alpn().iter().map(|protocol| protocol.escape_ascii().to_string()).collect();
    let alpn = if alpn.is_empty() { String::new() } else { format!(", and may speak {}", alpn.join(" or ")) };
    let must = match entry.client().required() {
        None => "are not asked for a certificate",
        Some(false) => "are asked for a certificate, and may come without",
        Some(true) => "must show a certificate",
    };
    let mut lines = vec![format!("{whose} {must}{alpn}")];
    let trust = entry.client().verifier().map(|verifier| verifier.trust().describe());
    lines.extend(trust.into_iter().flatten().map(|line| format!("  {line}")));
    lines
}
