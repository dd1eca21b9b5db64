//! The header in text of those products that know no PROXY v2 (proxy-protocol.txt, section 2.1), as strict as [`crate::proxy_v2`].

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::proxy_v2::Header;

/// The longest line that the specification allows, with its end.
const LONGEST: usize = 107;

const START: &[u8] = b"PROXY TCP4 ";

/// Reads the header at the start of `bytes`. `Ok(None)`: correct so far, more bytes are needed.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, String> {
    let common = bytes.len().min(START.len());
    if bytes[..common] != START[..common] {
        return Err(format!("no PROXY v1 header for TCP over IPv4: {:02x?}", &bytes[..common]));
    }
    let Some(end) = bytes.iter().take(LONGEST).position(|&byte| byte == b'\n') else {
        return if bytes.len() < LONGEST { Ok(None) } else { Err("the PROXY v1 header has no end".to_owned()) };
    };
    let line = String::from_utf8_lossy(&bytes[..=end]);
    let wrong = || format!("the PROXY v1 header is {line:?}");
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let &[_, _, source, destination, source_port, destination_port] = fields.as_slice() else {
        return Err(wrong());
    };
    let address = |ip: &str, port: &str| Some(SocketAddr::from((Ipv4Addr::from_str(ip).ok()?, port.parse().ok()?)));
    let source = address(source, source_port).ok_or_else(wrong)?;
    let destination = address(destination, destination_port).ok_or_else(wrong)?;
    // There is one right way to write it: no zero in front, no space too many, CR before LF.
    let written =
        format!("PROXY TCP4 {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port());
    if line == written { Ok(Some(Header { length: end + 1, source, destination })) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"PROXY TCP4 127.0.0.1 192.0.2.9 40000 443\r\n";

    #[test]
    fn addresses_and_length() {
        let bytes = [LINE, b"after"].concat();
        let header = parse(&bytes).unwrap().unwrap();
        assert_eq!(header.length, LINE.len());
        assert_eq!(header.source, "127.0.0.1:40000".parse().unwrap());
        assert_eq!(header.destination, "192.0.2.9:443".parse().unwrap());
    }

    #[test]
    fn every_prefix_asks_for_more() {
        for length in 0..LINE.len() {
            assert_eq!(parse(&LINE[..length]), Ok(None), "{length} bytes");
        }
    }

    #[test]
    fn other_ways_to_write_it_are_refused() {
        for line in [
            "PROXY UNKNOWN\r\n",
            "PROXY TCP6 ::1 ::1 1 2\r\n",
            "PROXY TCP4 127.0.0.1 192.0.2.9 40000\r\n",
            "PROXY TCP4 127.0.0.1 192.0.2.9 40000 443 1\r\n",
            "PROXY TCP4 127.0.0.1  192.0.2.9 40000 443\r\n",
            "PROXY TCP4 127.0.0.1 192.0.2.9 040000 443\r\n",
            "PROXY TCP4 127.0.0.1 192.0.2.9 +40000 443\r\n",
            "PROXY TCP4 127.0.0.1 192.0.2.9 70000 443\r\n",
            "PROXY TCP4 127.0.0.256 192.0.2.9 40000 443\r\n",
            "PROXY TCP4 127.0.0.1 192.0.2.9 40000 443\n",
            "\r\n\r\n\0\r\nQUIT\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(parse(&[START, &[b'1'; LONGEST]].concat()).unwrap_err().contains("no end"));
    }
}
