//! `global`: the files of certificates (HAProxy manual, 3.1).

use super::super::certificate_files::ExtraFiles;
use super::super::diagnostic::Diagnostics;
use super::super::draft::Global;
use super::super::model::At;
use super::super::value;
use super::{Action, Apply, Class, Keyword, Line, Places, nearest, not_yet};

/// What stands on each row alike.
const fn row(
    name: &'static str,
    usage: &'static str,
    count: usize,
    apply: Apply<Global>,
    doc: &'static str,
) -> Keyword {
    Keyword {
        name,
        places: Places::GLOBAL,
        usage,
        class: Class::Must,
        doc,
        arguments: count..=count,
        repeats: false,
        action: Action::Global(apply),
    }
}

pub(super) static KEYWORDS: &[Keyword] = &[
    row(
        "crt-base",
        "<directory>",
        1,
        |global, line, _| global.process.certificate_files.crt_base = Some(value::path(&line.arguments[0])),
        "Put in front of relative paths of 'crt' and 'default-crt', and of the certificates, 'ocsp' and 'issuer' in a \
         'crt-list'.",
    ),
    row(
        "ca-base",
        "<directory>",
        1,
        |global, line, _| global.process.certificate_files.ca_base = Some(value::path(&line.arguments[0])),
        "Put in front of relative paths of 'ca-file', 'ca-verify-file' and 'crl-file'.",
    ),
    row(
        "key-base",
        "<directory>",
        1,
        |global, line, _| global.process.certificate_files.key_base = Some(value::path(&line.arguments[0])),
        "Put in front of relative paths of 'key' in a 'crt-list'.",
    ),
    Keyword {
        arguments: 1..=usize::MAX,
        ..row(
            "ssl-load-extra-files",
            "none | all | [bundle] [sctl] [ocsp] [issuer] [key]",
            1,
            extra_files,
            "Which files are looked for beside a certificate file; default all. key: the private key in <file>.key, if \
             <file> has none. ocsp: an OCSP response in <file>.ocsp (DER), to be stapled if it is good, signed and in date. \
             issuer: the issuer's certificate in <file>.issuer, which the response is checked with if the chain does not \
             have it. bundle: where there is no <file>, the certificates <file>.ecdsa and <file>.rsa. sctl has no effect.",
        )
    },
    row(
        "ssl-load-extra-del-ext",
        "",
        0,
        |global, _, _| global.process.certificate_files.replaces_extension = true,
        "The files beside site.crt are site.key, site.ocsp and site.issuer, not site.crt.key and so on.",
    ),
    row(
        "issuers-chain-path",
        "<directory>",
        1,
        |global, line, _| {
            let word = &line.arguments[0];
            let path = At { value: value::path(word), at: word.at.clone() };
            global.process.certificate_files.issuers = Some(path);
        },
        "Chains for certificates whose file has no chain: each file of the directory is one, PEM, the issuer first. A chain \
         is taken if its first certificate has signed the certificate.",
    ),
    row(
        "ssl-skip-self-issued-ca",
        "",
        0,
        |global, _, _| global.process.certificate_files.skips_self_issued = true,
        "Do not send the root of a chain, which clients must have anyway. It may stay in the file to check OCSP responses with.",
    ),
    row(
        "ocsp-update.mode",
        "off",
        1,
        ocsp_update,
        "OCSP responses are not fetched; 'off' says so. Fetch them with a timer, put them beside the certificate as \
         <file>.ocsp, and reload.",
    ),
    row("ocsp-update.disable", "on", 1, ocsp_update, "OCSP responses are not fetched; 'on' says so."),
];

/// Words of `ssl-load-extra-files`.
const EXTRA: &[&str] = &["none", "all", "bundle", "sctl", "ocsp", "issuer", "key"];

fn extra_files(global: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let mut extra = ExtraFiles::NONE;
    for word in line.arguments {
        let name = String::from_utf8_lossy(&word.text);
        match &*name {
            "none" => extra = ExtraFiles::NONE,
            "all" => extra = ExtraFiles::ALL,
            "bundle" => extra.bundle = true,
            "ocsp" => extra.ocsp = true,
            "issuer" => extra.issuer = true,
            "key" => extra.key = true,
            "sctl" => diagnostics.inert("ssl-load-extra-files sctl", SCTL, &word.at, word.length),
            _ => {
                let error = word.error("E103", format!("'ssl-load-extra-files' knows no {}", word.quoted()));
                diagnostics.push(match nearest(&name, EXTRA.iter().copied()) {
                    Some(near) => error.label(format!("did you mean '{near}'?")),
                    None => error.help(format!("it knows {}", EXTRA.join(", "))),
                });
            }
        }
    }
    global.process.certificate_files.extra = extra;
}

/// Why `sctl` has no effect.
pub(crate) const SCTL: &str = "the timestamps of certificate transparency are sent in the certificate only";

fn ocsp_update(_: &mut Global, line: &Line<'_>, diagnostics: &mut Diagnostics) {
    let (word, says_no) = (&line.arguments[0], if line.keyword.name.ends_with("disable") { "on" } else { "off" });
    if !word.is(says_no) {
        let error = not_yet(&format!("{} {}", line.keyword.name, word.quoted().trim_matches('\'')), word);
        let help =
            "until then: fetch the response with a timer, put it beside the certificate as <file>.ocsp, and reload";
        diagnostics.push(error.help(help));
    }
}
