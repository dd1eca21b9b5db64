//! `show ssl …`: certificates, names, CAs and revocation lists in force. HAProxy's forms; never a key.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::command::Then;
use super::session::Session;
use crate::snapshot::{Bind, Snapshot};
use crate::tls::inventory::{self, Authority, RevocationList};
use crate::tls::policy::TlsPolicy;

/// The policies of all `bind` lines. Addresses of one line share theirs.
fn policies(snapshot: &Snapshot) -> Vec<&TlsPolicy> {
    let mut policies: Vec<&Arc<TlsPolicy>> = Vec::new();
    for policy in snapshot.binds().filter_map(|bind| bind.route.tls.as_ref()) {
        if !policies.iter().any(|known| Arc::ptr_eq(known, policy)) {
            policies.push(policy);
        }
    }
    policies.into_iter().map(|policy| &**policy).collect()
}

/// What `words` name: a path may have blanks.
fn wanted(words: &[String]) -> Option<String> {
    (!words.is_empty()).then(|| words.join(" "))
}

/// `show ssl cert [<file>]`.
pub(super) fn certificates(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let snapshot = session.site.snapshot();
    let policies = policies(&snapshot);
    let all = || policies.iter().flat_map(|policy| policy.certificates());
    let Some(file) = wanted(words) else {
        writeln!(out, "# filename")?;
        return list(&inventory::paths(all().map(|certificate| certificate.path)), out);
    };
    // A file of a combined PEM may hold one chain only.
    let Some(found) = all().find(|certificate| certificate.path == Path::new(&file)) else {
        return session.fail(out, "Can't display the certificate: Not found or the certificate is a bundle!");
    };
    writeln!(out, "Filename: {file}\nStatus: Used")?;
    let [leaf, chain @ ..] = found.chain else { return Ok(Then::Stay) };
    describe(leaf, out)?;
    for certificate in chain {
        for (name, value) in inventory::describe(certificate) {
            if let "Subject" | "Issuer" = name {
                writeln!(out, "Chain {name}: {value}")?;
            }
        }
    }
    Ok(Then::Stay)
}

fn describe(der: &[u8], out: &mut dyn Write) -> io::Result<()> {
    for (name, value) in inventory::describe(der) {
        writeln!(out, "{name}: {value}")?;
    }
    Ok(())
}

fn list(paths: &[impl AsRef<Path>], out: &mut dyn Write) -> io::Result<Then> {
    for path in paths {
        writeln!(out, "{}", path.as_ref().display())?;
    }
    Ok(Then::Stay)
}

/// `show ssl ca-file [<file>]`.
pub(super) fn authorities(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let snapshot = session.site.snapshot();
    let policies = policies(&snapshot);
    let mut all: Vec<Authority<'_>> = policies.iter().flat_map(|policy| policy.authorities()).collect();
    // Several lines may name one file.
    all.sort_by(|one, other| (one.path, &**one.der).cmp(&(other.path, &**other.der)));
    all.dedup_by(|one, other| one.path == other.path && one.der == other.der);
    let of = |path: &Path| all.iter().filter(|authority| authority.path == path).collect::<Vec<_>>();
    let Some(file) = wanted(words) else {
        writeln!(out, "# filename")?;
        for path in inventory::paths(all.iter().map(|authority| authority.path)) {
            writeln!(out, "{} - {} certificate(s)", path.display(), of(&path).len())?;
        }
        return Ok(Then::Stay);
    };
    let found = of(Path::new(&file));
    if found.is_empty() {
        return session.fail(out, "Can't display the CA file : Not found!");
    }
    writeln!(out, "Filename: {file}\nStatus: Used")?;
    for (authority, number) in found.into_iter().zip(1..) {
        writeln!(out, " \nCertificate #{number}:")?;
        describe(authority.der, out)?;
    }
    Ok(Then::Stay)
}

/// `show ssl crl-file [<file>]`.
pub(super) fn revocation_lists(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let snapshot = session.site.snapshot();
    let policies = policies(&snapshot);
    let all = || policies.iter().flat_map(|policy| policy.revocation_lists());
    let Some(file) = wanted(words) else {
        writeln!(out, "# filename")?;
        return list(&inventory::paths(all().map(|one| one.path)), out);
    };
    let mut found: Vec<RevocationList<'_>> = all().filter(|one| one.path == Path::new(&file)).collect();
    found.dedup_by(|one, other| one.issuer == other.issuer && one.validity == other.validity);
    if found.is_empty() {
        return session.fail(out, "Can't display the CRL file : Not found!");
    }
    writeln!(out, "Filename: {file}\nStatus: Used")?;
    for (one, number) in found.iter().zip(1..) {
        writeln!(out, " \nCertificate Revocation List #{number}:")?;
        writeln!(out, "Issuer: {}", one.issuer)?;
        writeln!(out, "Last Update: {}", one.validity.0)?;
        writeln!(out, "Next Update: {}", one.validity.1)?;
        match one.revoked {
            0 => writeln!(out, "No Revoked Certificates.")?,
            count => writeln!(out, "Revoked Certificates: {count}")?,
        }
    }
    Ok(Then::Stay)
}

/// `show ssl sni [-f <frontend>]`: columns with tabs between them, as HAProxy 3.2 has them.
pub(super) fn server_names(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let snapshot = session.site.snapshot();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let frontend = match words[..] {
        [] => None,
        ["-f", name] => match snapshot.frontends().iter().find(|frontend| frontend.name == name) {
            Some(frontend) => Some(frontend.number),
            None => return session.fail(out, "No such frontend."),
        },
        _ => return session.fail(out, "Expected: [-f <frontend>]."),
    };
    writeln!(out, "# Frontend/Bind\tSNI\tNegative Filter\tType\tFilename\tNotAfter\tNotBefore")?;
    let fits = |bind: &&Arc<Bind>| frontend.is_none_or(|number| bind.frontend.number == number);
    for bind in snapshot.binds().filter(fits) {
        let Some(policy) = &bind.route.tls else { continue };
        for name in policy.server_names() {
            let excluded: Vec<String> = name.excluded.iter().map(|name| format!("!{name}")).collect();
            let excluded = if excluded.is_empty() { "-".to_owned() } else { excluded.join(" ") };
            writeln!(
                out,
                "{}/{}\t{}\t{excluded}\t{}\t{}\t{}\t{}",
                bind.frontend.name,
                bind.name,
                name.name,
                name.key_type,
                name.path.display(),
                name.validity.1,
                name.validity.0,
            )?;
        }
    }
    Ok(Then::Stay)
}
