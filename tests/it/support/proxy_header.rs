//! A reader of PROXY protocol headers (proxy-protocol.txt 2.1 and 2.2), written for the tests alone: it shares no code with
//! what Bowline sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// First bytes of version 2.
pub(crate) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// PP2_TYPE_ALPN.
pub(crate) const ALPN: u8 = 0x01;
/// PP2_TYPE_AUTHORITY.
pub(crate) const AUTHORITY: u8 = 0x02;
/// PP2_TYPE_CRC32C.
pub(crate) const CRC32C: u8 = 0x03;
/// PP2_TYPE_UNIQUE_ID.
pub(crate) const UNIQUE_ID: u8 = 0x05;
/// PP2_TYPE_SSL.
pub(crate) const SSL: u8 = 0x20;
/// PP2_SUBTYPE_SSL_VERSION.
pub(crate) const SSL_VERSION: u8 = 0x21;
/// PP2_SUBTYPE_SSL_CN.
pub(crate) const SSL_CN: u8 = 0x22;
/// PP2_SUBTYPE_SSL_CIPHER.
pub(crate) const SSL_CIPHER: u8 = 0x23;
/// PP2_SUBTYPE_SSL_SIG_ALG.
pub(crate) const SSL_SIG_ALG: u8 = 0x24;
/// PP2_SUBTYPE_SSL_KEY_ALG.
pub(crate) const SSL_KEY_ALG: u8 = 0x25;
/// PP2_SUBTYPE_SSL_GROUP.
pub(crate) const SSL_GROUP: u8 = 0x26;
/// PP2_SUBTYPE_SSL_SIG_SCHEME.
pub(crate) const SSL_SIG_SCHEME: u8 = 0x27;
/// PP2_SUBTYPE_SSL_CLIENT_CERT.
pub(crate) const SSL_CLIENT_CERT: u8 = 0x28;
/// Where Bowline puts the certificate's fingerprint.
pub(crate) const FINGERPRINT: u8 = 0xe0;

/// PP2_CLIENT_SSL.
pub(crate) const CLIENT_SSL: u8 = 0x01;
/// PP2_CLIENT_CERT_CONN.
pub(crate) const CLIENT_CERT_CONN: u8 = 0x02;
/// PP2_CLIENT_CERT_SESS.
pub(crate) const CLIENT_CERT_SESS: u8 = 0x04;

/// A TLV: type and value.
pub(crate) type Tlv = (u8, Vec<u8>);

/// A header of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The command was PROXY, not LOCAL.
    pub(crate) proxied: bool,
    /// Source and destination; `None`: AF_UNSPEC or AF_UNIX.
    pub(crate) addresses: Option<(SocketAddr, SocketAddr)>,
    /// In the order of the wire.
    pub(crate) tlvs: Vec<Tlv>,
    /// Its length in bytes.
    pub(crate) length: usize,
}

/// PP2_TYPE_SSL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ssl {
    /// PP2_CLIENT_… bits.
    pub(crate) client: u8,
    /// 0: a certificate was presented and verified.
    pub(crate) verify: u32,
    /// In the order of the wire.
    pub(crate) tlvs: Vec<Tlv>,
}

/// How many bytes a version 2 header has, from its first 16.
pub(crate) fn length(first: &[u8; 16]) -> Result<usize, String> {
    if &first[..12] != SIGNATURE {
        return Err(format!("no PROXY v2 signature: {first:02x?}"));
    }
    Ok(16 + usize::from(u16::from_be_bytes([first[14], first[15]])))
}

/// Reads one whole header. `bytes` must be exactly the header. Everything that the specification forbids is an error, and a
/// CRC32C that is there must be right.
pub(crate) fn parse(bytes: &[u8]) -> Result<Header, String> {
    let first: &[u8; 16] = bytes.first_chunk().ok_or_else(|| format!("only {} bytes", bytes.len()))?;
    let expected = length(first)?;
    if expected != bytes.len() {
        return Err(format!("the header says {expected} bytes, there are {}", bytes.len()));
    }
    let proxied = match first[12] {
        0x20 => false,
        0x21 => true,
        other => return Err(format!("version and command {other:#04x}")),
    };
    let body = &bytes[16..];
    let (addresses, rest) = match first[13] {
        0x00 => (None, body),
        0x11 => {
            let (block, rest) = cut::<12>(body)?;
            let ip = |at: usize| IpAddr::from(Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]));
            (Some((ip(0), port(block, 8), ip(4), port(block, 10))), rest)
        }
        0x21 => {
            let (block, rest) = cut::<36>(body)?;
            let ip = |at: usize| {
                let octets: [u8; 16] = block[at..at + 16].try_into().expect("16 bytes");
                IpAddr::from(Ipv6Addr::from(octets))
            };
            (Some((ip(0), port(block, 32), ip(16), port(block, 34))), rest)
        }
        0x31 => (None, cut::<216>(body)?.1),
        other => return Err(format!("family and protocol {other:#04x}")),
    };
    let addresses = addresses.map(|(source, source_port, destination, destination_port)| {
        (SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port))
    });
    let tlvs = tlvs(rest)?;
    check_crc(bytes, rest.len())?;
    Ok(Header { proxied, addresses, tlvs, length: bytes.len() })
}

fn cut<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), String> {
    bytes.split_first_chunk().ok_or_else(|| format!("{N} bytes of addresses wanted, {} there", bytes.len()))
}

fn port(block: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([block[at], block[at + 1]])
}

fn tlvs(mut bytes: &[u8]) -> Result<Vec<Tlv>, String> {
    let mut found: Vec<Tlv> = Vec::new();
    while let Some((&kind, rest)) = bytes.split_first() {
        let (size, rest) = rest.split_first_chunk::<2>().ok_or("a TLV ends inside its length")?;
        let size = usize::from(u16::from_be_bytes(*size));
        if rest.len() < size {
            return Err(format!("TLV {kind:#04x} of {size} bytes ends after {}", rest.len()));
        }
        if found.iter().any(|(other, _)| *other == kind) {
            return Err(format!("TLV {kind:#04x} is there twice"));
        }
        found.push((kind, rest[..size].to_vec()));
        bytes = &rest[size..];
    }
    Ok(found)
}

fn check_crc(bytes: &[u8], tlv_length: usize) -> Result<(), String> {
    let mut at = bytes.len() - tlv_length;
    while at < bytes.len() {
        let size = usize::from(u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]));
        if bytes[at] == CRC32C {
            let value: [u8; 4] =
                bytes[at + 3..at + 3 + size].try_into().map_err(|_| format!("a CRC32C of {size} bytes"))?;
            let mut zeroed = bytes.to_vec();
            zeroed[at + 3..at + 7].fill(0);
            let computed = crc32c::crc32c(&zeroed);
            let sent = u32::from_be_bytes(value);
            if computed != sent {
                return Err(format!("CRC32C {sent:08x}, computed {computed:08x}"));
            }
        }
        at += 3 + size;
    }
    Ok(())
}

impl Header {
    /// Value of the TLV.
    pub(crate) fn tlv(&self, kind: u8) -> Option<&[u8]> {
        find(&self.tlvs, kind)
    }

    /// Source address.
    #[track_caller]
    pub(crate) fn source(&self) -> SocketAddr {
        self.addresses.expect("a header with addresses").0
    }

    /// Destination address.
    #[track_caller]
    pub(crate) fn destination(&self) -> SocketAddr {
        self.addresses.expect("a header with addresses").1
    }

    /// Types in the order of the wire.
    pub(crate) fn order(&self) -> Vec<u8> {
        self.tlvs.iter().map(|(kind, _)| *kind).collect()
    }

    /// PP2_TYPE_SSL.
    #[track_caller]
    pub(crate) fn ssl(&self) -> Ssl {
        let value = self.tlv(SSL).expect("a PP2_TYPE_SSL");
        let (head, rest) = value.split_first_chunk::<5>().expect("client and verify");
        Ssl {
            client: head[0],
            verify: u32::from_be_bytes([head[1], head[2], head[3], head[4]]),
            tlvs: tlvs(rest).expect("sub-TLVs"),
        }
    }
}

impl Ssl {
    /// Value of the sub-TLV.
    pub(crate) fn tlv(&self, kind: u8) -> Option<&[u8]> {
        find(&self.tlvs, kind)
    }

    /// Value of the sub-TLV as text.
    pub(crate) fn text(&self, kind: u8) -> Option<&str> {
        self.tlv(kind).map(|value| std::str::from_utf8(value).expect("text"))
    }

    /// Types in the order of the wire.
    pub(crate) fn order(&self) -> Vec<u8> {
        self.tlvs.iter().map(|(kind, _)| *kind).collect()
    }
}

fn find(tlvs: &[Tlv], kind: u8) -> Option<&[u8]> {
    tlvs.iter().find(|(other, _)| *other == kind).map(|(_, value)| value.as_slice())
}

/// Reads a version 1 line (without its CR LF): source and destination; `None`: `PROXY UNKNOWN`.
pub(crate) fn parse_v1(line: &str) -> Result<Option<(SocketAddr, SocketAddr)>, String> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let address = |ip: &str, port: &str| -> Result<SocketAddr, String> {
                let ip: IpAddr = ip.parse().map_err(|_| format!("address {ip:?}"))?;
                let port: u16 = port.parse().map_err(|_| format!("port {port:?}"))?;
                if ip.is_ipv4() != (*family == "TCP4") {
                    return Err(format!("{family} with {ip}"));
                }
                Ok(SocketAddr::new(ip, port))
            };
            Ok(Some((address(source, source_port)?, address(destination, destination_port)?)))
        }
        _ => Err(format!("not a PROXY line: {line:?}")),
    }
}

/// Writes a version 2 header; the tests play a load balancer in front of Bowline with it.
pub(crate) fn encode(source: SocketAddr, destination: SocketAddr, tlvs: &[Tlv]) -> Vec<u8> {
    let mut body = Vec::new();
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            body.extend_from_slice(&source.octets());
            body.extend_from_slice(&destination.octets());
            0x11
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            body.extend_from_slice(&source.octets());
            body.extend_from_slice(&destination.octets());
            0x21
        }
        _ => panic!("mixed families"),
    };
    body.extend_from_slice(&source.port().to_be_bytes());
    body.extend_from_slice(&destination.port().to_be_bytes());
    for (kind, value) in tlvs {
        body.push(*kind);
        body.extend_from_slice(&u16::try_from(value.len()).expect("a TLV").to_be_bytes());
        body.extend_from_slice(value);
    }
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[0x21, family]);
    header.extend_from_slice(&u16::try_from(body.len()).expect("a header").to_be_bytes());
    header.extend_from_slice(&body);
    header
}
