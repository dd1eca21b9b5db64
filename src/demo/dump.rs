//! A received PROXY v2 header as text for people: one line a fact.

use std::fmt::Write as _;

use ppp::v2::{self, Addresses, Command, TypeLengthValues};

/// Longest value that is shown whole, in bytes.
const SHOWN: usize = 256;

/// Names of the types (proxy-protocol.txt, 2.2), and of the fingerprint that Bowline adds.
const NAMES: [(u8, &str); 15] = [
    (0x01, "ALPN"),
    (0x02, "AUTHORITY"),
    (0x03, "CRC32C"),
    (0x04, "NOOP"),
    (0x05, "UNIQUE_ID"),
    (0x20, "SSL"),
    (0x21, "SSL_VERSION"),
    (0x22, "SSL_CN"),
    (0x23, "SSL_CIPHER"),
    (0x24, "SSL_SIG_ALG"),
    (0x25, "SSL_KEY_ALG"),
    (0x26, "SSL_GROUP"),
    (0x27, "SSL_SIG_SCHEME"),
    (0x28, "SSL_CLIENT_CERT"),
    (0xe0, "CERT_SHA256"),
];

/// Describes a whole header, which must not have anything behind it. What cannot be read is said to be so.
pub(super) fn dump(header: &[u8]) -> String {
    let mut text = String::new();
    let Ok(parsed) = v2::Header::try_from(header) else {
        return format!("Not a PROXY v2 header: {}\n", printed(header));
    };
    let (client, listener) = match parsed.addresses {
        Addresses::IPv4(ip) => (
            format!("{}:{}", ip.source_address, ip.source_port),
            format!("{}:{}", ip.destination_address, ip.destination_port),
        ),
        Addresses::IPv6(ip) => (
            format!("[{}]:{}", ip.source_address, ip.source_port),
            format!("[{}]:{}", ip.destination_address, ip.destination_port),
        ),
        Addresses::Unix(_) => ("a unix socket".to_owned(), "a unix socket".to_owned()),
        Addresses::Unspecified => ("not said".to_owned(), "not said".to_owned()),
    };
    let command = match parsed.command {
        Command::Proxy => "PROXY",
        Command::Local => "LOCAL",
    };
    line(&mut text, "PROXY v2", &format!("{command}, {} bytes", parsed.len()));
    line(&mut text, "client", &client);
    line(&mut text, "connected to", &listener);
    let tlvs_at = parsed.len() - parsed.tlv_bytes().len();
    list(&mut text, "", header, parsed.tlvs(), tlvs_at);
    text
}

/// Writes a line for each TLV, and below PP2_TYPE_SSL, indented, for each in it. `at` is their place in the header.
fn list(text: &mut String, indent: &str, header: &[u8], tlvs: TypeLengthValues<'_>, mut at: usize) {
    let outermost = indent.is_empty();
    for tlv in tlvs {
        let Ok(tlv) = tlv else {
            line(text, indent, "(the rest is malformed)");
            return;
        };
        let value_at = at + 3;
        at = value_at + tlv.len();
        let shown = match tlv.kind {
            0x03 if outermost => checked(header, value_at, &tlv.value),
            0x20 if outermost => ssl(&tlv.value),
            _ => printed(&tlv.value),
        };
        let name = NAMES.iter().find(|(kind, _)| *kind == tlv.kind).map_or("", |(_, name)| *name);
        line(text, &format!("{indent}0x{:02x} {name}", tlv.kind), &shown);
        let sub_tlvs = tlv.value.get(5..).filter(|_| outermost && tlv.kind == 0x20);
        if let Some(sub_tlvs) = sub_tlvs {
            list(text, "  ", header, TypeLengthValues::from(sub_tlvs), value_at + 5);
        }
    }
}

fn line(text: &mut String, label: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {label:<22} {value}");
}

/// PP2_TYPE_CRC32C: the sum of the header with these four bytes zeroed.
fn checked(header: &[u8], value_at: usize, value: &[u8]) -> String {
    let Ok(sum) = <[u8; 4]>::try_from(value).map(u32::from_be_bytes) else {
        return "malformed".to_owned();
    };
    let mut zeroed = header.to_vec();
    zeroed[value_at..value_at + 4].fill(0);
    let verdict = if crc32c::crc32c(&zeroed) == sum { "correct" } else { "WRONG" };
    format!("{sum:08x} ({verdict})")
}

/// PP2_TYPE_SSL: client bits and verification result; the sub-TLVs have their own lines.
fn ssl(value: &[u8]) -> String {
    let [client, a, b, c, d, ..] = *value else {
        return "malformed".to_owned();
    };
    let verify = u32::from_be_bytes([a, b, c, d]);
    let facts = [(0x01, "TLS"), (0x02, "certificate in this handshake"), (0x04, "certificate in this session")];
    let facts = facts.iter().filter(|(bit, _)| client & bit != 0).map(|(_, fact)| *fact);
    let facts = facts.collect::<Vec<_>>().join(", ");
    let verified = if verify == 0 { "verified" } else { "not verified" };
    format!("client=0x{client:02x} ({facts}) verify={verify} ({verified})")
}

/// Printable ASCII as it is, everything else in hex; long values are cut.
fn printed(value: &[u8]) -> String {
    let shown = &value[..value.len().min(SHOWN)];
    let mut text = if shown.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        shown.iter().map(|byte| char::from(*byte)).collect()
    } else {
        shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    if shown.len() < value.len() {
        let _ = write!(text, "... ({} bytes)", value.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const INET: &[u8] = b"\xc0\0\x02\x07\xc6\x33\x64\x09\x9c\x40\x22\xb3";

    fn header(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, content].concat()
    }

    #[test]
    fn every_fact_has_a_line() {
        let tlvs = b"\x03\0\x04\0\0\0\0\x02\0\x09localhost\x05\0\x02\0\xff\
            \x20\0\x1c\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x05alice\x29\0\x02ok\xe9\0\x01x";
        let mut header = header(0x21, 0x11, &[INET, tlvs].concat());
        let sum = crc32c::crc32c(&header);
        header[31..35].copy_from_slice(&sum.to_be_bytes());
        let expected = format!(
            "  PROXY v2               PROXY, 87 bytes\n  \
             client                 192.0.2.7:40000\n  \
             connected to           198.51.100.9:8883\n  \
             0x03 CRC32C            {sum:08x} (correct)\n  \
             0x02 AUTHORITY         localhost\n  \
             0x05 UNIQUE_ID         00ff\n  \
             0x20 SSL               client=0x07 (TLS, certificate in this handshake, certificate in this session) \
             verify=0 (verified)\n    \
             0x21 SSL_VERSION     TLSv1.3\n    \
             0x22 SSL_CN          alice\n    \
             0x29                 ok\n  \
             0xe9                   x\n"
        );
        assert_eq!(dump(&header), expected);
        header[20] ^= 1;
        assert!(dump(&header).contains("(WRONG)"));
    }

    #[test]
    fn an_anonymous_client_is_not_verified() {
        let header = header(0x21, 0x11, &[INET, b"\x20\0\x05\x01\0\0\0\x01"].concat());
        let text = dump(&header);
        assert!(text.contains("client=0x01 (TLS) verify=1 (not verified)"), "{text}");
    }

    #[test]
    fn addresses_of_every_family() {
        let mut ipv6 = [0; 36];
        (ipv6[15], ipv6[31], ipv6[33]) = (1, 2, 80);
        assert!(dump(&header(0x21, 0x21, &ipv6)).contains("client                 [::1]:80\n"));
        assert!(dump(&header(0x21, 0x31, &[0; 216])).contains("a unix socket"));
        let local = dump(&header(0x20, 0, b""));
        assert!(local.contains("LOCAL, 16 bytes") && local.contains("not said"), "{local}");
    }

    #[test]
    fn malformed_parts_are_said_to_be_so() {
        for tlvs in [&b"\x20\0\x04\x01\0\0\0"[..], b"\x03\0\x01x", b"\x02\0\x09short", b"\x20\0\x06\x01\0\0\0\x01\x21"]
        {
            let text = dump(&header(0x21, 0x11, &[INET, tlvs].concat()));
            assert!(text.contains("malformed"), "{tlvs:?}: {text}");
        }
        assert_eq!(dump(b"PROXY"), "Not a PROXY v2 header: PROXY\n");
    }

    #[test]
    fn values_cannot_break_out_of_their_line() {
        assert_eq!(printed(b"a\nb"), "610a62");
        assert_eq!(printed(b"\x1b[31m"), "1b5b33316d");
        assert_eq!(printed(&[b'a'; 300]), format!("{}... (300 bytes)", "a".repeat(256)));
    }
}
