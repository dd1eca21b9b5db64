//! Addresses (HAProxy manual, 2.9): `*:443`, `[::]:443`, `:::443`, `name:80`, `/path`, and the prefixes.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::diagnostic::shown;
use super::model::{ABSTRACT_NAME_BYTES, BindAddress, Family, LogSink, ServerAddress};

/// `sun_path` without its terminator (unix(7)).
pub(crate) const UNIX_PATH_MAX: usize = 107;
/// Longest host name (RFC 1035, 2.3.4).
const HOST_NAME_MAX: usize = 253;
/// Longest name of a descriptor that systemd passes, `FDNAME_MAX`.
const PASSED_NAME_MAX: usize = 255;
/// Port of syslog over UDP (RFC 5426, 3.3).
const SYSLOG_PORT: u16 = 514;

/// What is wrong with an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AddressError {
    /// Code of the diagnostic.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: Option<String>,
}

impl AddressError {
    fn new(code: &'static str, message: String) -> Self {
        Self { code, message, help: None }
    }

    fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

/// An address with its prefix taken apart.
enum Kind<'a> {
    Inet {
        rest: &'a [u8],
        family: Option<Family>,
    },
    Unix(&'a [u8]),
    /// `abns@`, or `abnsz@` whose name ends where it ends.
    Abstract {
        name: &'a [u8],
        padded: bool,
    },
    Descriptor(&'a [u8]),
}

fn classify(text: &[u8]) -> Result<Kind<'_>, AddressError> {
    if text.first() == Some(&b'/') {
        return Ok(Kind::Unix(text));
    }
    let Some(at) = text.iter().position(|byte| *byte == b'@') else {
        return Ok(Kind::Inet { rest: text, family: None });
    };
    let (prefix, rest) = (&text[..at], &text[at + 1..]);
    let word = shown(text);
    match prefix {
        b"ipv4" | b"tcp4" => Ok(Kind::Inet { rest, family: Some(Family::Ipv4) }),
        b"ipv6" | b"tcp6" => Ok(Kind::Inet { rest, family: Some(Family::Ipv6) }),
        b"ip" | b"tcp" => Ok(Kind::Inet { rest, family: None }),
        b"unix" | b"uxst" => Ok(Kind::Unix(rest)),
        b"abns" | b"abnsz" => Ok(Kind::Abstract { name: rest, padded: prefix == b"abns" }),
        b"fd" => Ok(Kind::Descriptor(rest)),
        b"quic4" | b"quic6" | b"udp" | b"udp4" | b"udp6" => {
            Err(AddressError::new("E202", format!("'{word}': QUIC and UDP are not supported; use HAProxy for HTTP/3"))
                .help("TCP on the same port can stay here"))
        }
        b"sockpair" | b"rhttp" | b"mptcp" | b"mptcp4" | b"mptcp6" => {
            Err(AddressError::new("E205", format!("'{word}': addresses of this kind are not available here"))
                .help("use an IP address, a unix socket, 'abns@' or 'fd@'"))
        }
        _ => Err(AddressError::new("E103", format!("'{word}': unknown address prefix '{}@'", shown(prefix)))
            .help("prefixes are ipv4@ ipv6@ unix@ abns@ abnsz@ fd@")),
    }
}

/// Host and port as written: the last `:` outside brackets parts them. The port is empty if there is none.
fn host_and_port(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(position) if text[position] == b':' => (&text[..position], &text[position + 1..]),
        _ => (text, b""),
    }
}

/// A literal address; `*` and nothing mean any address of the family, IPv4 unless told otherwise.
fn literal(host: &[u8], family: Option<Family>) -> Result<Option<IpAddr>, AddressError> {
    let any = || match family {
        Some(Family::Ipv6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    if matches!(host, b"" | b"*") {
        return Ok(Some(any()));
    }
    let bare = host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    let text = std::str::from_utf8(bare.unwrap_or(host)).unwrap_or("");
    let address: Option<IpAddr> = text.parse().ok();
    match (address, family) {
        (Some(IpAddr::V4(_)), Some(Family::Ipv6)) => Err(AddressError::new(
            "E103",
            format!("'{}' is an IPv4 address, but the prefix asks for IPv6", shown(host)),
        )),
        (Some(IpAddr::V6(_)), Some(Family::Ipv4)) => Err(AddressError::new(
            "E103",
            format!("'{}' is an IPv6 address, but the prefix asks for IPv4", shown(host)),
        )),
        (address, _) => Ok(address),
    }
}

fn port(digits: &[u8], whole: &[u8]) -> Result<u16, AddressError> {
    let number = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match number.and_then(|text| text.parse::<u16>().ok()) {
        Some(port) if port > 0 => Ok(port),
        _ => Err(AddressError::new(
            "E103",
            format!("'{}' is not a port in '{}'; expected 1 to 65535", shown(digits), shown(whole)),
        )),
    }
}

fn unix_path(path: &[u8]) -> Result<PathBuf, AddressError> {
    if path.is_empty() {
        return Err(AddressError::new("E103", "the path of the unix socket is missing".into()));
    }
    if path.len() > UNIX_PATH_MAX {
        let message =
            format!("the path of a unix socket has at most {UNIX_PATH_MAX} bytes, this one has {}", path.len());
        return Err(AddressError::new("E103", message));
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

/// HAProxy fills the name of `abns@` up with NUL bytes, which count; other programs and `abnsz@` do not.
fn abstract_name(name: &[u8], padded: bool) -> Result<Vec<u8>, AddressError> {
    if name.is_empty() || name.len() > ABSTRACT_NAME_BYTES {
        let message = format!("the name of an abstract socket has 1 to {ABSTRACT_NAME_BYTES} bytes");
        return Err(AddressError::new("E103", message));
    }
    let mut name = name.to_vec();
    if padded {
        name.resize(ABSTRACT_NAME_BYTES, 0);
    }
    Ok(name)
}

fn descriptor(number: &[u8]) -> Result<i32, AddressError> {
    let digits = std::str::from_utf8(number).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| AddressError::new("E103", format!("'{}' is not the number of a file descriptor", shown(number))))
}

/// A descriptor by number, or sockets that systemd passes by name: printable ASCII without `:` (sd_listen_fds(3)). A name begins
/// with a letter, so that a mistyped number is none.
fn passed(name: &[u8]) -> Result<BindAddress, AddressError> {
    let is_name = name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.len() <= PASSED_NAME_MAX
        && name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':');
    match std::str::from_utf8(name) {
        Ok(name) if is_name => Ok(BindAddress::Named(name.to_owned())),
        _ => descriptor(name).map(BindAddress::Descriptor).map_err(|error| {
            error.help("or the name of sockets that systemd passes ('FileDescriptorName='), which begins with a letter")
        }),
    }
}

/// What one address of a `bind` line stands for: several with a range of ports. `v6only` is left open.
pub(crate) fn bind(text: &[u8]) -> Result<Vec<BindAddress>, AddressError> {
    let (rest, family) = match classify(text)? {
        Kind::Unix(path) => return unix_path(path).map(|path| vec![BindAddress::Unix(path)]),
        Kind::Abstract { name, padded } => {
            return abstract_name(name, padded).map(|name| vec![BindAddress::Abstract(name)]);
        }
        Kind::Descriptor(name) => return passed(name).map(|address| vec![address]),
        Kind::Inet { rest, family } => (rest, family),
    };
    if rest.is_empty() {
        return Err(AddressError::new("E103", "an address is missing here".into()));
    }
    let (host, digits) = host_and_port(rest);
    if digits.is_empty() {
        let message = format!("the port is missing in '{}'", shown(text));
        return Err(
            AddressError::new("E103", message).help(format!("write '{}:443'", shown(text).trim_end_matches(':')))
        );
    }
    let Some(address) = literal(host, family)? else {
        return Err(AddressError::new("E103", format!("'{}' is not an IP address", shown(host)))
            .help("write the address itself: a host name on a bind line is not looked up"));
    };
    let (first, last) = match digits.iter().position(|byte| *byte == b'-').filter(|dash| *dash > 0) {
        Some(dash) => (port(&digits[..dash], text)?, port(&digits[dash + 1..], text)?),
        None => (port(digits, text)?, port(digits, text)?),
    };
    if first > last {
        return Err(AddressError::new(
            "E103",
            format!("the range of ports in '{}' ends before it begins", shown(text)),
        ));
    }
    let bound = |port| BindAddress::Inet { address: SocketAddr::new(address, port), v6only: None, interface: None };
    Ok((first..=last).map(bound).collect())
}

/// One address to listen on, where several make no sense.
pub(crate) fn single(text: &[u8]) -> Result<BindAddress, AddressError> {
    let mut addresses = bind(text)?;
    match (addresses.pop(), addresses.is_empty()) {
        (Some(address), true) => Ok(address),
        _ => Err(AddressError::new("E103", format!("'{}' is a range of ports; one is needed here", shown(text)))),
    }
}

/// The address of a `server` line, and what is added to the port of the client's connection if that is the port.
pub(crate) fn server(text: &[u8]) -> Result<(ServerAddress, Option<i32>), AddressError> {
    let (rest, family) = match classify(text)? {
        Kind::Unix(path) => return unix_path(path).map(|path| (ServerAddress::Unix(path), None)),
        Kind::Abstract { name, padded } => {
            return abstract_name(name, padded).map(|name| (ServerAddress::Abstract(name), None));
        }
        Kind::Descriptor(_) => {
            return Err(AddressError::new("E103", "a file descriptor can not be the address of a server".into()));
        }
        Kind::Inet { rest, family } => (rest, family),
    };
    let (host, digits) = host_and_port(rest);
    let offset = match digits {
        b"" | b"0" => Some(0),
        [b'+', number @ ..] => Some(i32::from(port(number, text)?)),
        [b'-', number @ ..] => Some(-i32::from(port(number, text)?)),
        _ => None,
    };
    let port = if offset.is_some() { 0 } else { port(digits, text)? };
    match literal(host, family)? {
        Some(address) if address.is_unspecified() => Err(AddressError::new(
            "E120",
            format!(
                "'{}': taking the address from the client's connection is valid HAProxy but not implemented yet",
                shown(text)
            ),
        )
        .help("until then: write the address of the server")),
        Some(address) => Ok((ServerAddress::Inet(SocketAddr::new(address, port)), offset)),
        None => Ok((ServerAddress::Name { host: host_name(host)?, port, family }, offset)),
    }
}

/// The address of `source`: `<address>[:<port>]`; `None` for any address of any family.
pub(crate) fn source(text: &[u8]) -> Result<Option<SocketAddr>, AddressError> {
    let Kind::Inet { rest, family } = classify(text)? else {
        return Err(AddressError::new("E103", format!("'{}' is not an IP address", shown(text))));
    };
    // An IPv6 address without brackets has no port.
    let bare = std::str::from_utf8(rest).ok().and_then(|text| text.parse::<IpAddr>().ok());
    let (host, digits) = if bare.is_some() { (rest, &b""[..]) } else { host_and_port(rest) };
    let port = if matches!(digits, b"" | b"0") { 0 } else { port(digits, text)? };
    match literal(host, family)? {
        Some(address) if address.is_unspecified() && port == 0 => Ok(None),
        Some(address) => Ok(Some(SocketAddr::new(address, port))),
        None => Err(AddressError::new("E103", format!("'{}' is not an IP address", shown(host)))
            .help("write an address of this machine; names are not looked up here")),
    }
}

fn host_name(host: &[u8]) -> Result<String, AddressError> {
    let label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let labels = host.strip_suffix(b".").unwrap_or(host);
    // Digits and dots alone are a mistyped address, not a name.
    let numeric = host.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if host.len() <= HOST_NAME_MAX && !numeric && labels.split(|byte| *byte == b'.').all(label) {
        return Ok(String::from_utf8_lossy(host).into_owned());
    }
    let error = AddressError::new("E103", format!("'{}' is neither an IP address nor a host name", shown(host)));
    Err(if host.contains(&b':') { error.help("write an IPv6 address in brackets: '[2001:db8::1]:443'") } else { error })
}

/// The target of a `log` line.
pub(crate) fn log(text: &[u8]) -> Result<LogSink, AddressError> {
    match text {
        b"stdout" => return Ok(LogSink::Descriptor(1)),
        b"stderr" => return Ok(LogSink::Descriptor(2)),
        _ => {}
    }
    for (prefix, help) in [
        ("ring@", "rings do not exist here; log to a socket or to stderr"),
        ("backend@", "log to the address of the syslog server itself"),
    ] {
        if text.starts_with(prefix.as_bytes()) {
            return Err(AddressError::new(
                "E205",
                format!("'{}': log targets of this kind are not available here", shown(text)),
            )
            .help(help));
        }
    }
    if let Some(path) = text.strip_prefix(b"file@") {
        if path.is_empty() {
            return Err(AddressError::new("E103", "the path of the log file is missing".into()));
        }
        return Ok(LogSink::File(PathBuf::from(OsStr::from_bytes(path))));
    }
    if text.starts_with(b"tcp@") || text.starts_with(b"tcp4@") || text.starts_with(b"tcp6@") {
        return Err(AddressError::new(
            "E120",
            format!("'{}': syslog over TCP is valid HAProxy but not implemented yet", shown(text)),
        )
        .help("until then: use UDP, or a unix socket of a local syslog daemon"));
    }
    let text = match text.strip_prefix(b"udp@") {
        Some(rest) => rest,
        None => text,
    };
    let (rest, family) = match classify(text)? {
        Kind::Unix(path) => return unix_path(path).map(LogSink::Unix),
        Kind::Descriptor(number) => return descriptor(number).map(LogSink::Descriptor),
        Kind::Abstract { .. } => {
            return Err(AddressError::new(
                "E120",
                "'abns@' as log target is valid HAProxy but not implemented yet".into(),
            )
            .help("until then: use the path of a unix socket, such as /dev/log"));
        }
        Kind::Inet { rest, family } => (rest, family),
    };
    let (host, digits) = host_and_port(rest);
    let port = if digits.is_empty() { SYSLOG_PORT } else { port(digits, text)? };
    match literal(host, family)? {
        Some(address) if !address.is_unspecified() => Ok(LogSink::Udp(SocketAddr::new(address, port))),
        _ => Err(AddressError::new("E103", format!("'{}' is not a log target", shown(text)))
            .help("a target is stderr, stdout, fd@<n>, file@<path>, a path such as /dev/log, or an IP address with port; host names are not looked up")),
    }
}
