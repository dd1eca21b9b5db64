//! `show sess` and `shutdown session(s)`: the connections, and the end of some of them.
//!
//! The loops give a page at a time. What can be derived is derived here, not in a loop: names and fingerprints come from the
//! certificate that TLS keeps.

use std::io::{self, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Site;
use super::command::Then;
use super::session::Session;
use crate::event_loop::{Command, Handle, Page, Seen};
use crate::log::escape;
use crate::log::time::accept_date;
use crate::snapshot::Backend;
use crate::tls::x509::{self, Certificate};

/// How long a loop may take for a page; the watchdog ends one that hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that a loop ends before it serves again: each is two sockets to close and a line to log.
const CUT_TOGETHER: usize = 32;
/// What a client is told when that is over.
const SILENT: &str = "An event loop does not answer.";

/// What a client's certificate says.
pub(super) struct Identity {
    subject: Option<String>,
    issuer: Option<String>,
    serial: Option<String>,
    /// SHA-256, lower-case hexadecimal.
    pub(super) fingerprint: String,
}

impl Identity {
    fn of(der: &[u8]) -> Self {
        let certificate = Certificate::parse(der);
        let certificate = certificate.as_ref();
        Self {
            subject: certificate.and_then(Certificate::subject),
            issuer: certificate.and_then(Certificate::issuer),
            serial: certificate.and_then(Certificate::serial).map(x509::hex),
            fingerprint: x509::hex(&x509::sha256(der)),
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    escape::push_quoted(&mut out, text.as_bytes());
    out
}

/// A loop that should have answered has not.
struct Silence;

/// A page of a loop's connections; none from a loop that has ended.
fn page(handle: &Handle, from: u32, only: Option<u128>) -> Result<Page, Silence> {
    ask(handle, |answer| Command::Page { from, only, answer }).map(|page| page.unwrap_or_default())
}

fn ask<T>(handle: &Handle, command: impl FnOnce(mpsc::Sender<T>) -> Command) -> Result<Option<T>, Silence> {
    let (answer, answered) = mpsc::channel();
    handle.send(command(answer));
    match answered.recv_timeout(PATIENCE) {
        Ok(answer) => Ok(Some(answer)),
        Err(mpsc::RecvTimeoutError::Disconnected) => Ok(None),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Silence),
    }
}

/// Goes through all connections, loop by loop. `visit` gets each page when the one before is done with.
fn each_page(
    site: &Site,
    only: Option<u128>,
    mut visit: impl FnMut(&Handle, Page) -> io::Result<Result<(), Silence>>,
) -> io::Result<Result<(), Silence>> {
    for handle in site.loops.iter() {
        let mut from = Some(0);
        while let Some(start) = from {
            let Ok(page) = page(handle, start, only) else { return Ok(Err(Silence)) };
            from = page.next;
            if let Err(silence) = visit(handle, page)? {
                return Ok(Err(silence));
            }
        }
    }
    Ok(Ok(()))
}

/// `0x…` or the digits alone, as `show sess` and PP2_TYPE_UNIQUE_ID write it.
fn parse_id(word: &str) -> Option<u128> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    u128::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

/// `show sess`, `show sess all`, `show sess <id>`.
pub(super) fn show(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let (only, detailed) = match words.first().map(String::as_str) {
        None => (None, false),
        Some("all") => (None, true),
        Some(word) => match parse_id(word) {
            Some(id) => (Some(id), true),
            None => return session.fail(out, "Session not found."),
        },
    };
    let mut count = 0;
    let done = each_page(session.site, only, |_, page| {
        for seen in &page.connections {
            count += 1;
            if detailed { details(seen, out)? } else { line(seen, out)? }
        }
        Ok(Ok(()))
    })?;
    match done {
        Err(Silence) => session.fail(out, SILENT),
        Ok(()) if only.is_some() && count == 0 => session.fail(out, "Session not found."),
        Ok(()) => Ok(Then::Stay),
    }
}

/// One line, with HAProxy's words where there is the same thing.
fn line(seen: &Seen, out: &mut dyn Write) -> io::Result<()> {
    let (frontend, backend) = (&seen.bind.frontend.name, &seen.bind.backend);
    let server = if seen.dialled { backend.server.as_str() } else { "<none>" };
    write!(
        out,
        "0x{:032x}: proto={} src={} fe={frontend} be={} srv={server} age={} state={} in={} out={}",
        seen.id,
        protocol(seen),
        seen.client,
        backend.name,
        age(seen.report.accepted.elapsed()),
        seen.phase,
        seen.report.bytes_to_backend,
        seen.report.bytes_to_client,
    )?;
    if let Some(tls) = &seen.session {
        write!(out, " tls={} cipher={} resumed={}", tls.version, tls.cipher, u8::from(tls.resumed))?;
        if let Some(name) = &tls.sni {
            write!(out, " sni={}", quoted(name))?;
        }
    }
    if let Some(identity) = seen.certificate.as_deref().map(Identity::of) {
        write!(out, " subject={} sha256={}", optional(identity.subject), identity.fingerprint)?;
    }
    writeln!(out)
}

/// All that is known.
fn details(seen: &Seen, out: &mut dyn Write) -> io::Result<()> {
    let bind = &seen.bind;
    let report = &seen.report;
    writeln!(
        out,
        "0x{:032x}: [{}] proto={} source={} peer={}",
        seen.id,
        accept_date(seen.accepted_at),
        protocol(seen),
        seen.client,
        seen.peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string()),
    )?;
    writeln!(out, "  frontend={} listener={} addr={}", bind.frontend.name, bind.name, bind.key)?;
    let server = if seen.dialled { bind.backend.server.as_str() } else { "<none>" };
    writeln!(out, "  backend={} server={server}", bind.backend.name)?;
    writeln!(
        out,
        "  state={} age={} handshake={} connect={}",
        seen.phase,
        age(report.accepted.elapsed()),
        between(Some(report.accepted), report.established),
        between(report.established, report.connected),
    )?;
    let (to_server, to_client) = seen.waiting;
    writeln!(
        out,
        "  bytes in={} out={} waiting-for-server={to_server} waiting-for-client={to_client}",
        report.bytes_to_backend, report.bytes_to_client
    )?;
    if let Some(tls) = &seen.session {
        let alpn = tls.alpn.as_deref().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
        writeln!(
            out,
            "  tls={} cipher={} group={} resumed={} sni={} alpn={}",
            tls.version,
            tls.cipher,
            tls.group.unwrap_or("-"),
            u8::from(tls.resumed),
            optional(tls.sni.clone()),
            optional(alpn),
        )?;
    }
    if let Some(identity) = seen.certificate.as_deref().map(Identity::of) {
        let Identity { subject, issuer, serial, fingerprint } = identity;
        writeln!(
            out,
            "  certificate subject={} issuer={} serial={} sha256={fingerprint}",
            optional(subject),
            optional(issuer),
            serial.as_deref().unwrap_or("-"),
        )?;
    }
    Ok(())
}

/// In quotes and escaped; `-` for what is not there or has no unambiguous text.
fn optional(text: Option<String>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| quoted(&text))
}

fn protocol(seen: &Seen) -> &'static str {
    match seen.peer {
        Some(peer) if peer.is_ipv4() => "tcpv4",
        Some(_) => "tcpv6",
        None => "unix_stream",
    }
}

fn between(from: Option<Instant>, to: Option<Instant>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("{}ms", to.saturating_duration_since(from).as_millis()),
        _ => "-".to_owned(),
    }
}

/// `3s`, `5m04s`, `2h05m`, `3d04h`, as HAProxy writes ages.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `shutdown session <id>`.
pub(super) fn shutdown_one(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let Some(word) = words.first() else {
        return session.fail(out, "Session pointer expected (use 'show sess').");
    };
    let cut = match parse_id(word) {
        Some(id) => cut(session.site, Some(id), |_| true),
        None => Ok(0),
    };
    match cut {
        Err(Silence) => session.fail(out, SILENT),
        Ok(0) => session.fail(out, "No such session (use 'show sess')."),
        Ok(_) => Ok(Then::Stay),
    }
}

/// `shutdown sessions server <backend>/<server>`: as in HAProxy, nothing is said if it worked.
pub(super) fn shutdown_server(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let named = words.first().and_then(|word| word.split_once('/'));
    let Some((backend, server)) = named else {
        return session.fail(out, "Require 'backend/server'.");
    };
    let exists = |known: &Backend| known.name == backend && known.server == server;
    // A server that a reload has removed may have connections still.
    match cut(session.site, None, |seen| seen.dialled && exists(&seen.bind.backend)) {
        Err(Silence) => session.fail(out, SILENT),
        Ok(0) if !session.site.snapshot().backends().iter().any(|known| exists(known)) => {
            session.fail(out, "No such server.")
        }
        Ok(_) => Ok(Then::Stay),
    }
}

/// `shutdown sessions cert <sha256>`.
pub(super) fn shutdown_certificate(
    session: &mut Session<'_>,
    words: &[String],
    out: &mut dyn Write,
) -> io::Result<Then> {
    let digits: String = words.concat().chars().filter(|character| *character != ':').collect();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return session.fail(out, "The SHA-256 of a certificate has 64 hexadecimal digits (use 'show sess').");
    }
    let wanted = digits.to_ascii_lowercase();
    shutdown_identity(session, out, |identity| identity.fingerprint == wanted)
}

/// `shutdown sessions subject <dn>`.
pub(super) fn shutdown_subject(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    // Blanks between words are part of the name; more than one in a row is written with `\`.
    let wanted = words.join(" ");
    if !wanted.starts_with('/') {
        return session.fail(out, "A subject begins with '/', such as /O=Example/CN=alice (use 'show sess').");
    }
    shutdown_identity(session, out, |identity| {
        let subject = identity.subject.as_deref();
        subject.is_some_and(|subject| subject == wanted || quoted(subject).trim_matches('"') == wanted)
    })
}

fn shutdown_identity(
    session: &mut Session<'_>,
    out: &mut dyn Write,
    fits: impl Fn(&Identity) -> bool,
) -> io::Result<Then> {
    let fits = |seen: &Seen| seen.certificate.as_deref().map(Identity::of).is_some_and(|identity| fits(&identity));
    match cut(session.site, None, fits) {
        Err(Silence) => session.fail(out, SILENT),
        Ok(count) => {
            writeln!(out, "{count} session{} shut down.", if count == 1 { "" } else { "s" })?;
            Ok(Then::Stay)
        }
    }
}

/// Ends the connections that fit; answers how many.
fn cut(site: &Site, only: Option<u128>, fits: impl Fn(&Seen) -> bool) -> Result<usize, Silence> {
    let mut count = 0;
    let done = each_page(site, only, |handle, page| {
        let keys: Vec<_> = page.connections.iter().filter(|seen| fits(seen)).map(|seen| seen.key).collect();
        for keys in keys.chunks(CUT_TOGETHER) {
            match ask(handle, |answer| Command::Kill { keys: keys.to_vec(), answer }) {
                Ok(killed) => count += killed.unwrap_or(0),
                Err(silence) => return Ok(Err(silence)),
            }
        }
        Ok(Ok(()))
    });
    match done {
        Ok(Ok(())) => Ok(count),
        _ => Err(Silence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(parse_id("0x00ff"), Some(255));
        assert_eq!(parse_id("ff"), Some(255));
        for wrong in ["", "0x", "x", "+f", "0x+f", "-1", &"f".repeat(33)] {
            assert_eq!(parse_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ages() {
        let written = |seconds| age(Duration::from_secs(seconds));
        assert_eq!([written(0), written(59), written(304)], ["0s", "59s", "5m04s"]);
        assert_eq!([written(7500), written(273_600)], ["2h05m", "3d04h"]);
    }
}
