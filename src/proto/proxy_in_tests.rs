use proptest::prelude::*;

use super::*;

const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// 192.0.2.7:40000 to 198.51.100.9:8883.
const INET: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 9, 0x9c, 0x40, 0x22, 0xb3];

fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let mut block = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    block.extend([command, family]);
    block.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    block.extend(content);
    block
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut tlv = vec![kind];
    tlv.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    tlv.extend(value);
    tlv
}

/// A TCP4 header with these TLVs.
fn inet(tlvs: &[Vec<u8>]) -> Vec<u8> {
    v2(PROXY, TCP4, &[INET.to_vec(), tlvs.concat()].concat())
}

/// Fills in the first CRC32C TLV, which must be the first TLV of a TCP4 header.
fn sealed(mut block: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&block);
    block[31..35].copy_from_slice(&sum.to_be_bytes());
    block
}

fn endpoint(text: &str) -> Option<Endpoint> {
    Some(Endpoint::Inet(text.parse().unwrap()))
}

fn inet_received() -> Received {
    Received { source: endpoint("192.0.2.7:40000"), destination: endpoint("198.51.100.9:8883"), ..Received::default() }
}

/// Every proper beginning asks for more, the whole is accepted, and what follows changes nothing.
#[track_caller]
fn assert_accepted(header: &[u8], received: Received) {
    for end in 0..header.len() {
        assert_eq!(parse(&header[..end]), Parse::NeedMore, "cut at {end}");
    }
    let expected = Parse::Complete { consumed: header.len(), received };
    assert_eq!(parse(header), expected);
    for behind in [&b"\x16\x03\x01"[..], b"\r\n", b"PROXY TCP4 6.6.6.6", &[0xff; 5000]] {
        assert_eq!(parse(&[header, behind].concat()), expected);
    }
}

/// The header is refused for this reason, and not before `at` bytes of it are there.
#[track_caller]
fn assert_refused(header: &[u8], at: usize, reason: Reason) {
    for end in 0..at {
        assert_eq!(parse(&header[..end]), Parse::NeedMore, "cut at {end}");
    }
    for end in at..=header.len() {
        assert_eq!(parse(&header[..end]), Parse::Invalid(reason), "cut at {end}");
    }
}

#[test]
fn v1_accepts_what_the_specification_shows() {
    assert_accepted(
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        Received {
            source: endpoint("255.255.255.255:65535"),
            destination: endpoint("255.255.255.255:65535"),
            ..Received::default()
        },
    );
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_accepted(
        format!("PROXY TCP6 {longest} {longest} 65535 0\r\n").as_bytes(),
        Received {
            source: endpoint(&format!("[{longest}]:65535")),
            destination: endpoint(&format!("[{longest}]:0")),
            ..Received::default()
        },
    );
    assert_accepted(
        b"PROXY TCP6 ::1 ::ffff:192.0.2.1 1 443\r\n",
        Received {
            source: endpoint("[::1]:1"),
            destination: endpoint("[::ffff:192.0.2.1]:443"),
            ..Received::default()
        },
    );
}

#[test]
fn v1_unknown_says_nothing_whatever_it_says() {
    assert_accepted(b"PROXY UNKNOWN\r\n", Received::default());
    assert_accepted(b"PROXY UNKNOWN 6.6.6.6 6.6.6.6 1 1\r\n", Received::default());
    assert_accepted(b"PROXY UNKNOWN \xff\0\x80\r\n", Received::default());
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
    assert_eq!(line.len(), V1_LIMIT);
    assert_accepted(line.as_bytes(), Received::default());
}

#[test]
fn v1_refuses_at_the_byte_that_shows_it() {
    for (line, at, reason) in [
        (&b"\x16\x03\x01\x02\0\x01"[..], 1, Reason::Signature),
        (b"GET / HTTP/1.1\r\n", 1, Reason::Signature),
        (b"POST / HTTP/1.1\r\n", 2, Reason::Signature),
        (b"proxy TCP4", 1, Reason::Signature),
        (b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", 7, Reason::Protocol),
        (b"PROXY\rTCP4", 6, Reason::Signature),
        (b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", 8, Reason::Protocol),
        (b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", 10, Reason::Protocol),
        (b"PROXY TCP46 1.1.1.1 2.2.2.2 1 2\r\n", 11, Reason::Protocol),
        (b"PROXY UNKNOWNX\r\n", 14, Reason::Protocol),
        (b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", 12, Reason::Line),
        (b"PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", 20, Reason::Line),
        (b"PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n", 19, Reason::Line),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", 12, Reason::Line),
        (b"PROXY TCP4 a.example b 1 2\r\n", 12, Reason::Line),
        (b"PROXY TCP6 ::g ::1 1 2\r\n", 14, Reason::Line),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", 19, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", 28, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n", 28, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 a 2\r\n", 28, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 123456 2\r\n", 33, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", 29, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", 30, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", 31, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", 31, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", 31, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rX", 32, Reason::Line),
        (b"PROXY UNKNOWN\n", 14, Reason::Protocol),
        (b"PROXY UNKNOWN \n", 15, Reason::Line),
        (b"PROXY UNKNOWN\r\r\n", 15, Reason::Line),
        // What only the whole line shows.
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", 36, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", 36, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", 33, Reason::Line),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 00\r\n", 33, Reason::Line),
        (b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", 33, Reason::Line),
        (b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", 34, Reason::Line),
        (b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", 30, Reason::Line),
        (b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", 32, Reason::Line),
        (b"PROXY TCP6 1::2::3 ::1 1 2\r\n", 28, Reason::Line),
        (b"PROXY TCP6 12345::1 ::1 1 2\r\n", 29, Reason::Line),
    ] {
        eprintln!("{:?}", String::from_utf8_lossy(line));
        assert_refused(line, at, reason);
    }
}

#[test]
fn v1_ends_within_107_bytes() {
    let mut line = b"PROXY UNKNOWN ".to_vec();
    line.resize(V1_LIMIT, b'x');
    assert_refused(&line, V1_LIMIT, Reason::TooLong);
    // One byte too many: the CR is the 107th, the LF would be the 108th.
    line[V1_LIMIT - 1] = b'\r';
    line.push(b'\n');
    assert_refused(&line, V1_LIMIT, Reason::TooLong);

    let mut line = b"PROXY TCP4 ".to_vec();
    line.resize(200, b'1');
    assert_refused(&line, V1_LIMIT, Reason::TooLong);
}

#[test]
fn v2_accepts_every_family() {
    assert_accepted(&inet(&[]), inet_received());
    assert_accepted(&v2(PROXY, 0x12, &INET), inet_received());

    let mut content = [0; 36];
    content[15] = 1;
    content[16..32].copy_from_slice(&"2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    content[33] = 80;
    content[35] = 90;
    let received =
        Received { source: endpoint("[::1]:80"), destination: endpoint("[2001:db8::2]:90"), ..Received::default() };
    assert_accepted(&v2(PROXY, TCP6, &content), received.clone());
    assert_accepted(&v2(PROXY, 0x22, &content), received);

    let unix = Received {
        source: Some(Endpoint::Unix),
        destination: Some(Endpoint::Unix),
        unique_id: Some(b"u".to_vec()),
        ..Received::default()
    };
    let content = [vec![b'/'; 216], tlv(5, b"u")].concat();
    assert_accepted(&v2(PROXY, 0x31, &content), unix.clone());
    assert_accepted(&v2(PROXY, 0x32, &content), unix);
}

#[test]
fn v2_without_addresses_says_nothing() {
    assert_accepted(&v2(PROXY, 0, &[]), Received::default());
    // Not a TLV in sight, or what looks like one: the block of an unknown family is skipped.
    assert_accepted(&v2(PROXY, 0, &[1]), Received::default());
    assert_accepted(&v2(PROXY, 0, &tlv(2, b"a.example")), Received::default());
}

#[test]
fn v2_local_is_discarded_whatever_its_family() {
    assert_accepted(&v2(LOCAL, 0, &[]), Received::default());
    assert_accepted(&v2(LOCAL, TCP4, &INET), Received::default());
    assert_accepted(&v2(LOCAL, TCP4, &[]), Received::default());
    assert_accepted(&v2(LOCAL, 0xff, &[9; 7]), Received::default());
    assert_accepted(&v2(LOCAL, 0, &tlv(2, b"a.example")), Received::default());
    let mut long = v2(LOCAL, 0, &[0; 3]);
    long[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    assert_refused(&long, 15, Reason::TooLong);
}

#[test]
fn v2_refuses_at_the_byte_that_shows_it() {
    let good = inet(&[]);
    let with = |at: usize, byte: u8| {
        let mut header = good.clone();
        header[at] = byte;
        header
    };
    for at in 1..12 {
        assert_refused(&with(at, b'X'), at + 1, Reason::Signature);
    }
    for byte in [0x01, 0x10, 0x11, 0x22, 0x2f, 0x31, 0xff] {
        assert_refused(&with(12, byte), 13, Reason::Command);
    }
    for byte in [0x01, 0x02, 0x10, 0x13, 0x20, 0x23, 0x30, 0x33, 0x41, 0xff] {
        assert_refused(&with(13, byte), 14, Reason::Family);
    }
    assert_refused(&with(15, 11), 16, Reason::Addresses);
    assert_refused(&v2(PROXY, TCP6, &[0; 35]), 16, Reason::Addresses);
    assert_refused(&v2(PROXY, 0x31, &[0; 215]), 16, Reason::Addresses);
}

#[test]
fn v2_ends_within_4096_bytes() {
    let longest = inet(&[tlv(4, &[0; V2_LIMIT - 16 - 12 - 3])]);
    assert_eq!(longest.len(), V2_LIMIT);
    assert_accepted(&longest, inet_received());

    let mut long = longest.clone();
    long[14..16].copy_from_slice(&4081_u16.to_be_bytes());
    long.push(0);
    assert_refused(&long, 16, Reason::TooLong);
    long[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    assert_refused(&long, 15, Reason::TooLong);
}

#[test]
fn v2_keeps_authority_and_unique_id() {
    let received =
        Received { authority: Some(b"a.example".to_vec()), unique_id: Some(vec![0, 255, 7]), ..inet_received() };
    let tlvs = [
        tlv(4, &[]),
        tlv(2, b"a.example"),
        tlv(0xea, b"vpce"),
        tlv(4, &[1, 2, 3]),
        tlv(0xea, b"twice"),
        tlv(5, &[0, 255, 7]),
        tlv(0x20, &[1, 0, 0, 0, 0]),
    ];
    assert_accepted(&inet(&tlvs), received);

    let longest = Received { authority: Some(vec![b'a'; 255]), unique_id: Some(vec![b'u'; 128]), ..inet_received() };
    assert_accepted(&inet(&[tlv(2, &[b'a'; 255]), tlv(5, &[b'u'; 128])]), longest);
}

#[test]
fn v2_refuses_malformed_tlvs() {
    for (tlvs, reason) in [
        (vec![vec![4]], Reason::Tlv),
        (vec![vec![4, 0]], Reason::Tlv),
        (vec![vec![4, 0, 1]], Reason::Tlv),
        (vec![tlv(1, b"h2"), vec![4, 0xff, 0xff, 0]], Reason::Tlv),
        (vec![tlv(2, &[b'a'; 256])], Reason::Tlv),
        (vec![tlv(5, &[b'u'; 129])], Reason::Tlv),
        (vec![tlv(3, &[0; 3])], Reason::Tlv),
        (vec![tlv(3, &[0; 5])], Reason::Tlv),
        (vec![tlv(2, b"a.example"), tlv(2, b"b.example")], Reason::Duplicate),
        (vec![tlv(5, b"1"), tlv(5, b"1")], Reason::Duplicate),
        (vec![tlv(3, &[0; 4]), tlv(3, &[0; 4])], Reason::Duplicate),
    ] {
        let header = inet(&tlvs);
        assert_refused(&header, header.len(), reason);
        // The missing bytes are not looked for behind the header.
        assert_eq!(parse(&[&header[..], &[0; 300]].concat()), Parse::Invalid(reason));
    }
}

#[test]
fn v2_checks_the_checksum_if_there_is_one() {
    let header = sealed(inet(&[tlv(3, &[0; 4]), tlv(2, b"a.example")]));
    let received = Received { authority: Some(b"a.example".to_vec()), ..inet_received() };
    assert_accepted(&header, received);
    // Any changed bit of addresses, checksum or authority.
    for at in (16..28).chain(31..35).chain(38..header.len()) {
        let mut changed = header.clone();
        changed[at] ^= 0x40;
        assert_refused(&changed, changed.len(), Reason::Crc32c);
    }
}

proptest! {
    #[test]
    fn never_panics_and_never_looks_behind_the_header(
        start in prop::sample::select(vec![
            Vec::new(),
            b"PROXY TCP4 ".to_vec(),
            b"PROXY UNKNOWN".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1e123412341212".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec(),
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start, rest].concat();
        let whole = parse(&bytes);
        match &whole {
            Parse::Complete { consumed, .. } => {
                prop_assert!(*consumed <= bytes.len());
                prop_assert_eq!(parse(&bytes[..*consumed]), whole.clone());
                for end in 0..*consumed {
                    prop_assert_eq!(parse(&bytes[..end]), Parse::NeedMore);
                }
            }
            Parse::NeedMore => prop_assert!(bytes.len() < V2_LIMIT),
            // Once refused, always refused.
            Parse::Invalid(_) => {
                let more = parse(&[&bytes[..], b"\r\n"].concat());
                prop_assert!(matches!(more, Parse::Invalid(_)));
            }
        }
    }

    #[test]
    fn what_ppp_writes_is_read(source: std::net::SocketAddrV6, port: u16, unique_id in prop::collection::vec(any::<u8>(), 1..=128)) {
        let addresses = ppp::v2::IPv6::new(*source.ip(), *source.ip(), source.port(), port);
        let header = ppp::v2::Builder::with_addresses(PROXY, ppp::v2::Protocol::Stream, addresses)
            .write_tlv(ppp::v2::Type::UniqueId, &unique_id)
            .and_then(ppp::v2::Builder::build)
            .unwrap();
        let received = Received {
            source: Some(Endpoint::Inet((*source.ip(), source.port()).into())),
            destination: Some(Endpoint::Inet((*source.ip(), port).into())),
            authority: None,
            unique_id: Some(unique_id),
            header: Vec::new(),
        };
        prop_assert_eq!(parse(&header), Parse::Complete { consumed: header.len(), received });
    }
}
