//! Listeners as text, for places where open sockets outlive this program: the service manager's store, and an upgrade. Only what
//! may stand in the name of a stored descriptor is used, which excludes the colon (sd_pid_notify_with_fds(3)).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::conf::model::{ABSTRACT_NAME_BYTES, BindAddress};
use crate::material::ListenerKey;

/// `tcp@127.0.0.1%3A443`. `None`: a socket that somebody else keeps for us.
pub(super) fn encode(key: &ListenerKey) -> Option<String> {
    Some(match key {
        BindAddress::Inet { address, v6only, interface } => {
            let kind = match v6only {
                None => "tcp",
                Some(true) => "v6only",
                Some(false) => "v4v6",
            };
            let address = format!("{kind}@{}", escape(address.to_string().as_bytes()));
            match interface {
                None => address,
                Some(interface) => format!("{address}@{}", escape(interface.as_bytes())),
            }
        }
        BindAddress::Unix(path) => format!("unix@{}", escape(path.as_os_str().as_bytes())),
        // What fills the name up is left out: the name of a stored descriptor has at most 255 bytes.
        BindAddress::Abstract(name) if name.len() == ABSTRACT_NAME_BYTES => {
            let end = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            format!("abns@{}", escape(&name[..end]))
        }
        BindAddress::Abstract(name) => format!("abnsz@{}", escape(name)),
        BindAddress::Descriptor(_) | BindAddress::Named(_) => return None,
    })
}

/// What [`encode`] made.
pub(super) fn decode(text: &str) -> Option<ListenerKey> {
    let (kind, rest) = text.split_once('@')?;
    let (rest, interface) = rest.split_once('@').map_or((rest, None), |(rest, interface)| (rest, Some(interface)));
    let rest = unescape(rest)?;
    let interface = match interface {
        None => None,
        Some(interface) => Some(String::from_utf8(unescape(interface)?).ok()?),
    };
    let inet = |v6only| {
        let address = std::str::from_utf8(&rest).ok()?.parse().ok()?;
        Some(BindAddress::Inet { address, v6only, interface: interface.clone() })
    };
    match kind {
        "tcp" => inet(None),
        "v6only" => inet(Some(true)),
        "v4v6" => inet(Some(false)),
        "unix" => Some(BindAddress::Unix(OsString::from_vec(rest).into())),
        "abns" => {
            let mut name = rest;
            name.resize(ABSTRACT_NAME_BYTES, 0);
            Some(BindAddress::Abstract(name))
        }
        "abnsz" => Some(BindAddress::Abstract(rest)),
        _ => None,
    }
}

/// Letters, digits, `.`, `_`, `-` and `/` as they are, everything else as `%XX`.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"._-/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// What [`escape`] made.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let through = |address: &str, v6only, interface: Option<&str>| BindAddress::Inet {
            address: address.parse().unwrap(),
            v6only,
            interface: interface.map(str::to_owned),
        };
        let inet = |address: &str, v6only| through(address, v6only, None);
        for (key, text) in [
            (inet("127.0.0.1:443", None), "tcp@127.0.0.1%3A443"),
            (through("127.0.0.1:443", None, Some("wg@0")), "tcp@127.0.0.1%3A443@wg%400"),
            (inet("[::]:443", None), "tcp@%5B%3A%3A%5D%3A443"),
            (inet("[::1]:1", Some(true)), "v6only@%5B%3A%3A1%5D%3A1"),
            (inet("[::1]:1", Some(false)), "v4v6@%5B%3A%3A1%5D%3A1"),
            (BindAddress::Unix("/run/a b/ü".into()), "unix@/run/a%20b/%C3%BC"),
            (BindAddress::Abstract(vec![0, b'x', b':', 0xff]), "abnsz@%00x%3A%FF"),
            (BindAddress::Abstract([b"a b".as_slice(), &[0; 104]].concat()), "abns@a%20b"),
        ] {
            assert_eq!(encode(&key).as_deref(), Some(text));
            assert_eq!(decode(text), Some(key));
        }
        assert_eq!(encode(&BindAddress::Descriptor(3)), None);
    }

    #[test]
    fn what_others_wrote_is_nothing() {
        for text in [
            "",
            "front-https",
            "tcp@",
            "tcp@nowhere",
            "tcp@127.0.0.1%3",
            "tcp@%zz",
            "udp@127.0.0.1%3A1",
            "bowline@1.socket",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
