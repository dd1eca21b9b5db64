//! What a backend checks of the header that a product sends (proxy-protocol.txt, section 2.2). Written apart from bowline's own
//! encoder on purpose: a mistake there must not be repeated here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A header that is whole and correct.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the header, signature and TLVs included.
    pub(crate) length: usize,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// Reads the header at the start of `bytes`. `Ok(None)`: correct so far, more bytes are needed.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, String> {
    let signed = bytes.len().min(SIGNATURE.len());
    if bytes[..signed] != SIGNATURE[..signed] {
        return Err(format!("no PROXY v2 signature: {:02x?}", &bytes[..signed]));
    }
    let Some(&[command, family, high, low]) = bytes.get(12..16) else {
        return Ok(None);
    };
    if command != 0x21 {
        return Err(format!("version and command are {command:#04x}, not 0x21 (v2, PROXY)"));
    }
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    let Some(body) = bytes.get(16..length) else {
        return Ok(None);
    };
    let (source, destination, tlvs) = match family {
        0x11 => {
            let (addresses, tlvs) = body.split_at_checked(12).ok_or("the addresses do not fit into the length")?;
            let ip = |at: usize| {
                IpAddr::V4(Ipv4Addr::new(addresses[at], addresses[at + 1], addresses[at + 2], addresses[at + 3]))
            };
            let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
            (SocketAddr::new(ip(0), port(8)), SocketAddr::new(ip(4), port(10)), tlvs)
        }
        0x21 => {
            let (addresses, tlvs) = body.split_at_checked(36).ok_or("the addresses do not fit into the length")?;
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&addresses[at..at + 16]);
                IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
            };
            let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
            (SocketAddr::new(ip(0), port(32)), SocketAddr::new(ip(16), port(34)), tlvs)
        }
        other => {
            return Err(format!("address family is {other:#04x}, neither TCP over IPv4 nor over IPv6"));
        }
    };
    check_tlvs(tlvs)?;
    Ok(Some(Header { length, source, destination }))
}

fn check_tlvs(mut tlvs: &[u8]) -> Result<(), String> {
    while !tlvs.is_empty() {
        let &[kind, high, low, ref rest @ ..] = tlvs else {
            return Err("a TLV is cut off".to_owned());
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        tlvs =
            rest.get(length..).ok_or_else(|| format!("TLV {kind:#04x} says {length} bytes and has {}", rest.len()))?;
    }
    Ok(())
}

/// One number for a pair of addresses (FNV-1a). The client knows its pair from its socket, the backend from the header: equal sums
/// over all connections mean that every header named the right client.
pub(crate) fn digest(source: SocketAddr, destination: SocketAddr) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => ip.octets().into_iter().for_each(&mut mix),
            IpAddr::V6(ip) => ip.octets().into_iter().for_each(&mut mix),
        }
        address.port().to_be_bytes().into_iter().for_each(&mut mix);
    }
    hash
}

/// The one byte of a [`digest`] that every answer is mixed with, so that each connection also proves on its own that the header in
/// front of its bytes was its own (255 times in 256).
pub(crate) fn fold(digest: u64) -> u8 {
    digest.to_be_bytes().into_iter().fold(0, |sum, byte| sum ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x21, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    const IPV4: [u8; 12] = [127, 0, 0, 1, 192, 0, 2, 9, 0x9c, 0x40, 0x01, 0xbb];

    #[test]
    fn ipv4_header_with_tlvs() {
        let mut body = IPV4.to_vec();
        body.extend([0x20, 0, 5, 1, 0, 0, 0, 1, 0xe0, 0, 0]);
        let mut bytes = header(0x11, &body);
        bytes.push(b'x');
        let parsed = parse(&bytes).unwrap().unwrap();
        assert_eq!(parsed.length, 16 + 12 + 11);
        assert_eq!(parsed.source, "127.0.0.1:40000".parse().unwrap());
        assert_eq!(parsed.destination, "192.0.2.9:443".parse().unwrap());
    }

    #[test]
    fn ipv6_header_gives_the_mapped_ipv4_address() {
        let mut body = vec![0; 36];
        body[10..16].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        body[31] = 1;
        body[32..36].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
        let parsed = parse(&header(0x21, &body)).unwrap().unwrap();
        assert_eq!(parsed.source, "127.0.0.1:40000".parse().unwrap());
        assert_eq!(parsed.destination, "[::1]:443".parse().unwrap());
    }

    #[test]
    fn every_prefix_asks_for_more() {
        let bytes = header(0x11, &IPV4);
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Ok(None), "{length} bytes");
        }
    }

    #[test]
    fn faults_are_refused() {
        let good = header(0x11, &IPV4);
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            parse(&bytes)
        };
        assert!(changed(3, b'x').unwrap_err().contains("signature"));
        assert!(changed(12, 0x20).unwrap_err().contains("command"));
        assert!(changed(12, 0x11).unwrap_err().contains("command"));
        assert!(changed(13, 0x12).unwrap_err().contains("family"));
        assert!(parse(&header(0x11, &IPV4[..11])).unwrap_err().contains("addresses"));
        assert!(parse(&header(0x21, &IPV4)).unwrap_err().contains("addresses"));
        for tlv in [&[0x20][..], &[0x20, 0], &[0x20, 0, 2, 1]] {
            let mut body = IPV4.to_vec();
            body.extend(tlv);
            assert!(parse(&header(0x11, &body)).unwrap_err().contains("TLV"), "{tlv:02x?}");
        }
    }

    #[test]
    fn digest_tells_addresses_and_ports_apart() {
        let [a, b]: [SocketAddr; 2] = ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
        assert_ne!(digest(a, b), digest(b, a));
        assert_ne!(digest(a, a), digest(a, b));
    }
}
