//! Headers byte for byte, written down by hand from proxy-protocol.txt.

use super::*;

#[track_caller]
fn assert_golden(actual: &[u8], expected: &[&[u8]]) {
    assert_eq!(actual, expected.concat());
}

#[test]
fn golden_plaintext_listener() {
    let verdict = Verdict::plaintext();
    let out = v2(&[Tlv::Authority, Tlv::Ssl(vec![SslTlv::Cn, SslTlv::Cipher]), Tlv::CertFingerprint]);
    assert_golden(
        &encoded(&out, &header(None, &verdict)),
        &[SIGNATURE, b"\x21\x11\0\x14\xc0\0\x02\x07\xc6\x33\x64\x09\x9c\x40\x22\xb3", b"\x20\0\x05\0\0\0\0\x01"],
    );
}

#[test]
fn golden_no_certificate() {
    let session = session();
    let out = v2(&[Tlv::Alpn, Tlv::Authority, Tlv::Ssl(vec![SslTlv::Cn, SslTlv::Cipher])]);
    for verdict in [anonymous(), Verdict::for_tests(Client::NotAsked)] {
        assert_golden(
            &encoded(&out, &header(Some(&session), &verdict)),
            &[
                SIGNATURE,
                b"\x21\x11\0\x4f\xc0\0\x02\x07\xc6\x33\x64\x09\x9c\x40\x22\xb3",
                b"\x01\0\x04mqtt",
                b"\x02\0\x0egw.example.org",
                b"\x20\0\x28\x01\0\0\0\x01\x21\0\x07TLSv1.3\x23\0\x16TLS_AES_128_GCM_SHA256",
            ],
        );
    }
}

#[test]
fn golden_verified() {
    let (session, verdict) = (session(), verified(certificate("alice")));
    let out = v2(&[Tlv::Ssl(vec![SslTlv::Version, SslTlv::Cn, SslTlv::KeyAlg, SslTlv::SigAlg])]);
    assert_golden(
        &encoded(&out, &header(Some(&session), &verdict)),
        &[
            SIGNATURE,
            b"\x21\x11\0\x42\xc0\0\x02\x07\xc6\x33\x64\x09\x9c\x40\x22\xb3",
            b"\x20\0\x33\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x05alice",
            b"\x25\0\x05EC256\x24\0\x11ecdsa-with-SHA256",
        ],
    );
}

#[test]
fn golden_resumed() {
    let (mut session, verdict) = (session(), resumed(certificate("alice")));
    (session.group, session.sig_scheme) = (None, None);
    let out = v2(&[Tlv::Ssl(vec![SslTlv::Cn, SslTlv::Group, SslTlv::SigScheme])]);
    assert_golden(
        &encoded(&out, &header(Some(&session), &verdict)),
        &[
            SIGNATURE,
            b"\x21\x11\0\x26\xc0\0\x02\x07\xc6\x33\x64\x09\x9c\x40\x22\xb3",
            b"\x20\0\x17\x05\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x05alice",
        ],
    );
}

#[test]
fn golden_ipv6() {
    let verdict = Verdict::plaintext();
    let mut header = header(None, &verdict);
    header.endpoints = between("[2001:db8::7]:40000", "[2001:db8::9]:443");
    assert_golden(
        &encoded(&v2(&[]), &header),
        &[
            SIGNATURE,
            b"\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07",
            b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\x9c\x40\x01\xbb",
        ],
    );
}

#[test]
fn golden_mixed_families() {
    let verdict = Verdict::plaintext();
    let mut header = header(None, &verdict);
    header.endpoints = between("192.0.2.7:40000", "[2001:db8::9]:443");
    let mapped = b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x07";
    let native = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09";
    let fixed = b"\x21\x21\0\x24";
    let out = v2(&[]);
    assert_golden(&encoded(&out, &header), &[SIGNATURE, fixed, mapped, native, b"\x9c\x40\x01\xbb"]);
    header.endpoints = between("[2001:db8::9]:443", "192.0.2.7:40000");
    assert_golden(&encoded(&out, &header), &[SIGNATURE, fixed, native, mapped, b"\x01\xbb\x9c\x40"]);
}

#[test]
fn golden_unix() {
    let verdict = Verdict::plaintext();
    let mut header = header(None, &verdict);
    header.unique_id = b"7";
    for endpoints in
        [unix(), Endpoints { source: Endpoint::Unix, ..ipv4() }, Endpoints { destination: Endpoint::Unix, ..ipv4() }]
    {
        header.endpoints = endpoints;
        assert_golden(&encoded(&v2(&[]), &header), &[SIGNATURE, b"\x20\0\0\0"]);
        let with_tlv = encoded(&v2(&[Tlv::UniqueId]), &header);
        assert_golden(&with_tlv, &[SIGNATURE, b"\x20\0\0\x04\x05\0\x01\x37"]);
    }
}

#[test]
fn golden_checksum() {
    let verdict = Verdict::plaintext();
    let mut header = header(None, &verdict);
    header.unique_id = b"7";
    let bytes = encoded(&v2(&[Tlv::UniqueId, Tlv::Crc32c]), &header);
    let fixed = b"\x21\x11\0\x17\xc0\0\x02\x07\xc6\x33\x64\x09\x9c\x40\x22\xb3\x05\0\x01\x37\x03\0\x04";
    let zeroed = [SIGNATURE, fixed, &[0; 4]].concat();
    assert_golden(&bytes, &[SIGNATURE, fixed, &bitwise_crc32c(&zeroed).to_be_bytes()]);
}

#[test]
fn a_custom_tlv_of_the_checksums_type_is_left_alone() {
    let verdict = Verdict::plaintext();
    let out = v2(&[custom(3, Fetch::SslCSDn), Tlv::Crc32c]);
    let tlvs = read(&encoded(&out, &header(None, &verdict))).3;
    assert_eq!(tlvs[0], (3, Vec::new()));
    assert_eq!((tlvs[1].0, tlvs[1].1.len()), (3, 4));
    assert_ne!(tlvs[1].1, [0; 4]);
    let alone = v2(&[custom(3, Fetch::SslCSDn)]);
    assert_eq!(read(&encoded(&alone, &header(None, &verdict))).3, [(3, Vec::new())]);
}

/// RFC 3720, appendix B.4, the slow way.
fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn the_slow_checksum_is_right() {
    assert_eq!(bitwise_crc32c(&[0; 32]), 0x8a91_36aa);
}
