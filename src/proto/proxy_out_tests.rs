use std::collections::BTreeMap;

use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::CertificateDer;

use super::*;
use crate::conf::expr::{Expr, Fetch, Format, Part};
use crate::proto::proxy_in::{self, Parse};

#[path = "proxy_out_golden_tests.rs"]
mod golden;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn endpoint(text: &str) -> Endpoint {
    Endpoint::Inet(text.parse().unwrap())
}

fn between(source: &str, destination: &str) -> Endpoints {
    Endpoints { source: endpoint(source), destination: endpoint(destination) }
}

fn ipv4() -> Endpoints {
    between("192.0.2.7:40000", "198.51.100.9:8883")
}

fn unix() -> Endpoints {
    Endpoints { source: Endpoint::Unix, destination: Endpoint::Unix }
}

fn session() -> TlsSession {
    TlsSession {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        group: Some("X25519"),
        sig_scheme: Some("ecdsa_secp256r1_sha256"),
        sni: Some("gw.example.org".into()),
        alpn: Some(b"mqtt".to_vec()),
        resumed: false,
        server: std::sync::Arc::new(crate::tls::identity::ServerCertificate {
            sig_alg: "ecdsa-with-SHA256",
            key_alg: "EC256".into(),
            sha256: [0; 32],
        }),
    }
}

fn certificate(name: &str) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

fn verified(leaf: CertificateDer<'static>) -> Verdict {
    Verdict::for_tests(Client::Verified { leaf, resumed: false })
}

fn resumed(leaf: CertificateDer<'static>) -> Verdict {
    Verdict::for_tests(Client::Verified { leaf, resumed: true })
}

fn unverified(leaf: CertificateDer<'static>, resumed: bool) -> Verdict {
    let error = std::num::NonZeroU32::new(10).unwrap();
    Verdict::for_tests(Client::Unverified { leaf, resumed, error })
}

fn anonymous() -> Verdict {
    Verdict::for_tests(Client::Anonymous)
}

fn v2(tlvs: &[Tlv]) -> ProxyOut {
    ProxyOut { version: ProxyVersion::V2, tlvs: tlvs.to_vec() }
}

fn custom(id: u8, fetch: Fetch) -> Tlv {
    let expr = Expr { fetch, converters: Vec::new() };
    Tlv::Custom { id, format: Format { parts: vec![Part::Sample { expr, binary: true }] } }
}

fn header<'a>(session: Option<&'a TlsSession>, verdict: &'a Verdict) -> Header<'a> {
    Header { endpoints: ipv4(), session, verdict, received: None, unique_id: b"" }
}

#[track_caller]
fn encoded(out: &ProxyOut, header: &Header<'_>) -> Vec<u8> {
    let mut buffer = b"before".to_vec();
    encode(out, header, &mut buffer).unwrap();
    assert_eq!(&buffer[..6], b"before");
    buffer.split_off(6)
}

/// The error, after a look that nothing was appended.
#[track_caller]
fn refused(out: &ProxyOut, header: &Header<'_>) -> HeaderError {
    let mut buffer = b"before".to_vec();
    let error = encode(out, header, &mut buffer).unwrap_err();
    assert_eq!(buffer, b"before");
    error
}

/// Type and value.
type Tlvs = Vec<(u8, Vec<u8>)>;

/// A second reader, independent of ppp: the fixed part, then (type, value) pairs.
fn read(bytes: &[u8]) -> (u8, u8, Vec<u8>, Tlvs) {
    assert_eq!(&bytes[..12], SIGNATURE);
    let (command, family) = (bytes[12], bytes[13]);
    let length = usize::from(bytes[14]) * 256 + usize::from(bytes[15]);
    assert_eq!(bytes.len(), 16 + length, "exact length");
    let addresses = BTreeMap::from([(0, 0), (0x11, 12), (0x21, 36)])[&family];
    (command, family, bytes[16..16 + addresses].to_vec(), read_tlvs(&bytes[16 + addresses..]))
}

fn read_tlvs(mut bytes: &[u8]) -> Tlvs {
    let mut tlvs = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(bytes[1]) * 256 + usize::from(bytes[2]);
        tlvs.push((bytes[0], bytes[3..3 + length].to_vec()));
        bytes = &bytes[3 + length..];
    }
    tlvs
}

fn found(tlvs: &[(u8, Vec<u8>)], kind: u8) -> Option<&[u8]> {
    tlvs.iter().find(|tlv| tlv.0 == kind).map(|tlv| &tlv.1[..])
}

/// Client bits, verification result, sub-TLVs.
fn read_ssl(value: &[u8]) -> (u8, u32, Tlvs) {
    let verify = u32::from_be_bytes([value[1], value[2], value[3], value[4]]);
    (value[0], verify, read_tlvs(&value[5..]))
}

#[test]
fn v1_lines() {
    let verdict = Verdict::plaintext();
    let out = ProxyOut { version: ProxyVersion::V1, tlvs: vec![Tlv::Alpn] };
    let line = |endpoints| {
        let header = Header { endpoints, ..header(None, &verdict) };
        String::from_utf8(encoded(&out, &header)).unwrap()
    };
    assert_eq!(line(ipv4()), "PROXY TCP4 192.0.2.7 198.51.100.9 40000 8883\r\n");
    assert_eq!(line(between("[::1]:1", "[::2]:2")), "PROXY TCP6 ::1 ::2 1 2\r\n");
    assert_eq!(line(between("192.0.2.7:1", "[::2]:2")), "PROXY TCP6 ::ffff:192.0.2.7 ::2 1 2\r\n");
    assert_eq!(line(between("[::2%7]:2", "192.0.2.7:1")), "PROXY TCP6 ::2 ::ffff:192.0.2.7 2 1\r\n");
    assert_eq!(line(unix()), "PROXY UNKNOWN\r\n");
}

#[test]
fn tlvs_keep_the_order_of_the_configuration() {
    let (session, verdict) = (session(), verified(certificate("alice")));
    let wanted = [
        custom(0xe5, Fetch::SslFcSni),
        Tlv::Crc32c,
        Tlv::Alpn,
        Tlv::Authority,
        Tlv::UniqueId,
        Tlv::Ssl(vec![
            SslTlv::Cn,
            SslTlv::KeyAlg,
            SslTlv::SigAlg,
            SslTlv::Cipher,
            SslTlv::Group,
            SslTlv::SigScheme,
            SslTlv::ClientCert,
        ]),
        Tlv::CertFingerprint,
    ];
    let header = Header { unique_id: b"id", ..header(Some(&session), &verdict) };
    let kinds = |bytes: &[u8]| read(bytes).3.iter().map(|tlv| tlv.0).collect::<Vec<_>>();
    let bytes = encoded(&v2(&wanted), &header);
    assert_eq!(kinds(&bytes), [0xe5, 3, 1, 2, 5, 0x20, 0xe0]);
    let tlvs = read(&bytes).3;
    let (_, _, sub_tlvs) = read_ssl(found(&tlvs, 0x20).unwrap());
    let sub_kinds = sub_tlvs.iter().map(|tlv| tlv.0).collect::<Vec<_>>();
    assert_eq!(sub_kinds, [0x21, 0x22, 0x25, 0x24, 0x23, 0x26, 0x27, 0x28]);
    assert_eq!(found(&sub_tlvs, 0x26).unwrap(), b"X25519");
    assert_eq!(found(&sub_tlvs, 0x27).unwrap(), b"ecdsa_secp256r1_sha256");

    let reversed = wanted.iter().rev().cloned().collect::<Vec<_>>();
    assert_eq!(kinds(&encoded(&v2(&reversed), &header)), [0xe0, 0x20, 5, 2, 1, 3, 0xe5]);
}

/// Row by row: what may stand behind which verdict.
#[test]
fn certificate_facts_are_written_for_verified_certificates_alone() {
    let (session, leaf) = (session(), certificate("alice"));
    let out = v2(&[Tlv::CertFingerprint, Tlv::Ssl(vec![SslTlv::Cn, SslTlv::ClientCert])]);
    for (verdict, bits, verify, certified) in [
        (Verdict::plaintext(), 0x01, 1, false),
        (anonymous(), 0x01, 1, false),
        (verified(leaf.clone()), 0x07, 0, true),
        (resumed(leaf.clone()), 0x05, 0, true),
    ] {
        let tlvs = read(&encoded(&out, &header(Some(&session), &verdict))).3;
        let (client, result, sub_tlvs) = read_ssl(found(&tlvs, 0x20).unwrap());
        assert_eq!((client, result), (bits, verify), "{verdict:?}");
        let fingerprint = certified.then(|| sample::fingerprint(&leaf));
        assert_eq!(found(&tlvs, 0xe0), fingerprint.as_deref(), "{verdict:?}");
        assert_eq!(found(&sub_tlvs, 0x22), certified.then_some(&b"alice"[..]), "{verdict:?}");
        assert_eq!(found(&sub_tlvs, 0x28), certified.then_some(&leaf[..]), "{verdict:?}");
    }
}

#[test]
fn the_fingerprint_is_lower_case_hex_sha256() {
    let (session, verdict) = (session(), verified(CertificateDer::from(&b"abc"[..])));
    let tlvs = read(&encoded(&v2(&[Tlv::CertFingerprint]), &header(Some(&session), &verdict))).3;
    let expected = b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_vec();
    assert_eq!(tlvs, [(0xe0, expected)]);
}

#[test]
fn the_certificate_in_pem_is_that_of_openssl() {
    let session = session();
    let pem = |der: &'static [u8]| {
        let verdict = verified(CertificateDer::from(der));
        let tlvs = read(&encoded(&v2(&[Tlv::ClientCertPem]), &header(Some(&session), &verdict))).3;
        String::from_utf8(found(&tlvs, 0xe0).unwrap().to_vec()).unwrap()
    };
    let framed = |body: &str| format!("-----BEGIN TRUSTED CERTIFICATE-----\n{body}-----END TRUSTED CERTIFICATE-----\n");
    assert_eq!(pem(b"a"), framed("YQ==\n"));
    assert_eq!(pem(b"ab"), framed("YWI=\n"));
    assert_eq!(pem(b"abc"), framed("YWJj\n"));
    assert_eq!(pem(b"\xff\xfe\xfb"), framed("//77\n"));
    assert_eq!(pem(&[0; 48]), framed(&format!("{}\n", "A".repeat(64))));
    assert_eq!(pem(&[0; 49]), framed(&format!("{}\nAA==\n", "A".repeat(64))));
    for verdict in [Verdict::plaintext(), anonymous()] {
        assert_eq!(read(&encoded(&v2(&[Tlv::ClientCertPem]), &header(Some(&session), &verdict))).3, []);
    }
}

#[test]
fn the_address_alone_as_hitch_writes_it() {
    let (session, verdict) = (session(), anonymous());
    let out = ProxyOut { version: ProxyVersion::ClientIp, tlvs: Vec::new() };
    let mut header = header(Some(&session), &verdict);
    assert_eq!(encoded(&out, &header), [2, 192, 0, 2, 7]);
    header.endpoints = between("[2001:db8::7]:1", "[2001:db8::8]:2");
    let bytes = encoded(&out, &header);
    assert_eq!((bytes.len(), bytes[0], &bytes[1..5], bytes[16]), (17, 10, &[0x20, 1, 0x0d, 0xb8][..], 7));
    header.endpoints = unix();
    assert_eq!(refused(&out, &header), HeaderError::NoAddress);
}

#[test]
fn a_received_header_is_passed_on_as_it_is_and_one_that_was_not_received_is_an_error() {
    let (session, verdict) = (session(), anonymous());
    let out = ProxyOut { version: ProxyVersion::Received, tlvs: Vec::new() };
    let mut header = header(Some(&session), &verdict);
    assert_eq!(refused(&out, &header), HeaderError::NoHeader);
    let received = Received { header: b"PROXY UNKNOWN nonsense\r\n".to_vec(), ..Received::default() };
    header.received = Some(&received);
    assert_eq!(encoded(&out, &header), received.header);
}

#[test]
fn a_common_name_without_a_value_is_left_out() {
    let session = session();
    let out = v2(&[Tlv::CertFingerprint, Tlv::Ssl(vec![SslTlv::Cn])]);
    for leaf in [certificate("alice\0.evil"), CertificateDer::from(&b"abc"[..])] {
        let verdict = verified(leaf);
        let tlvs = read(&encoded(&out, &header(Some(&session), &verdict))).3;
        let (client, verify, sub_tlvs) = read_ssl(found(&tlvs, 0x20).unwrap());
        assert_eq!((client, verify, sub_tlvs.len()), (0x07, 0, 1));
        assert_eq!(found(&tlvs, 0xe0).unwrap().len(), 64);
    }
}

#[test]
fn a_custom_tlv_without_a_value_is_empty() {
    let (session, verdict) = (session(), anonymous());
    let out = v2(&[custom(0xe1, Fetch::SslCSDn), custom(0xe2, Fetch::SslFcSni)]);
    let tlvs = read(&encoded(&out, &header(Some(&session), &verdict))).3;
    assert_eq!(tlvs, [(0xe1, Vec::new()), (0xe2, b"gw.example.org".to_vec())]);
}

#[test]
fn the_authority_is_a_dns_name_or_nothing() {
    let (mut session, verdict) = (session(), anonymous());
    let authority = |session: &TlsSession, received: Option<&[u8]>| {
        let received = received.map(|name| Received { authority: Some(name.to_vec()), ..Received::default() });
        let header = Header { received: received.as_ref(), ..header(Some(session), &verdict) };
        let tlvs = read(&encoded(&v2(&[Tlv::Authority]), &header)).3;
        found(&tlvs, 2).map(|name| String::from_utf8(name.to_vec()).unwrap())
    };
    assert_eq!(authority(&session, None).unwrap(), "gw.example.org");
    assert_eq!(authority(&session, Some(b"front.example")).unwrap(), "front.example");
    let long = [&[b'a'; 63][..]; 5].join(&b'.');
    for bad in [&b""[..], b"a b", b"a\0b", b"a\nb", b"-\xc3\xb6", b"..", &long] {
        assert_eq!(authority(&session, Some(bad)), None, "{bad:?}");
    }
    session.sni = None;
    assert_eq!(authority(&session, None), None);
}

#[test]
fn the_unique_id_is_the_received_one_or_the_own() {
    let verdict = Verdict::plaintext();
    let received = Received { unique_id: Some(b"theirs".to_vec()), ..Received::default() };
    let out = v2(&[Tlv::UniqueId]);
    let own = Header { unique_id: b"ours", ..header(None, &verdict) };
    assert_eq!(read(&encoded(&out, &own)).3, [(5, b"ours".to_vec())]);
    let theirs = Header { unique_id: b"ours", received: Some(&received), ..header(None, &verdict) };
    assert_eq!(read(&encoded(&out, &theirs)).3, [(5, b"theirs".to_vec())]);
    assert_eq!(read(&encoded(&out, &header(None, &verdict))).3, []);

    let longest = Header { unique_id: &[b'u'; 128], ..header(None, &verdict) };
    assert_eq!(read(&encoded(&out, &longest)).3[0].1.len(), 128);
    let long = Header { unique_id: &[b'u'; 129], ..header(None, &verdict) };
    let error = HeaderError::TooLong { what: "UNIQUE_ID", length: 129, limit: 128 };
    assert_eq!(refused(&out, &long), error);
}

#[test]
fn an_identity_that_does_not_fit_is_never_shortened() {
    let (session, verdict) = (session(), verified(certificate(&"x".repeat(60_000))));
    let header = header(Some(&session), &verdict);
    // Once, it fits.
    let bytes = encoded(&v2(&[custom(0xe1, Fetch::SslCSDn)]), &header);
    assert_eq!(found(&read(&bytes).3, 0xe1).unwrap().len(), 60_004);
    // Twice in one header, or twice in the SSL TLV, it does not.
    let twice = v2(&[custom(0xe1, Fetch::SslCSDn), Tlv::Ssl(vec![SslTlv::Cn])]);
    assert!(matches!(refused(&twice, &header), HeaderError::TooLong { what: "the header", .. }));
    let in_ssl = v2(&[Tlv::Ssl(vec![SslTlv::Cn, SslTlv::ClientCert])]);
    let error = refused(&in_ssl, &header);
    assert!(matches!(error, HeaderError::TooLong { .. }), "{error:?}");

    let verdict = verified(CertificateDer::from(vec![0; 65_536]));
    let header = Header { verdict: &verdict, ..header };
    let out = v2(&[Tlv::Ssl(vec![SslTlv::ClientCert])]);
    let error = HeaderError::TooLong { what: "SSL_CLIENT_CERT", length: 65_536, limit: 65_535 };
    assert_eq!(refused(&out, &header), error);
}

#[test]
fn the_whole_header_ends_at_65535_bytes_behind_the_fixed_part() {
    let session = session();
    let out = v2(&[custom(0xe1, Fetch::SslCDer)]);
    let verdict = verified(CertificateDer::from(vec![0; 65_535 - 12 - 3]));
    assert_eq!(encoded(&out, &header(Some(&session), &verdict)).len(), 16 + 65_535);
    let verdict = verified(CertificateDer::from(vec![0; 65_535 - 12 - 2]));
    let error = HeaderError::TooLong { what: "the header", length: 65_536, limit: 65_535 };
    assert_eq!(refused(&out, &header(Some(&session), &verdict)), error);
}

#[test]
fn a_verified_certificate_without_tls_is_refused() {
    let verdict = verified(certificate("alice"));
    assert_eq!(refused(&v2(&[Tlv::Ssl(Vec::new())]), &header(None, &verdict)), HeaderError::Identity);
}

fn any_tlv() -> impl Strategy<Value = Tlv> {
    prop::sample::select(vec![
        custom(0xe7, Fetch::SslCDer),
        custom(0, Fetch::SslFcAlpn),
        Tlv::Crc32c,
        Tlv::Alpn,
        Tlv::Authority,
        Tlv::UniqueId,
        Tlv::CertFingerprint,
        Tlv::Ssl(vec![]),
        Tlv::Ssl(vec![SslTlv::Cn, SslTlv::Cipher, SslTlv::ClientCert]),
    ])
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![any::<std::net::SocketAddr>().prop_map(Endpoint::Inet), Just(Endpoint::Unix),]
}

/// As it arrives: without scope and flow label, which no header carries.
fn plain(address: std::net::SocketAddr) -> Endpoint {
    Endpoint::Inet((address.ip(), address.port()).into())
}

proptest! {
    #[test]
    fn three_readers_agree(
        source in any_endpoint(),
        destination in any_endpoint(),
        mut wanted in prop::collection::vec(any_tlv(), 0..6),
        certified in any::<bool>(),
        leaf in prop::collection::vec(any::<u8>(), 0..900),
        alpn in prop::collection::vec(any::<u8>(), 1..256),
        unique_id in prop::collection::vec(any::<u8>(), 0..=128),
    ) {
        // A second one of these is refused by a strict receiver; the configuration cannot ask for it.
        for kind in [Tlv::Crc32c, Tlv::Authority, Tlv::UniqueId] {
            let same = |tlv: &Tlv| std::mem::discriminant(tlv) == std::mem::discriminant(&kind);
            if let Some(first) = wanted.iter().position(same) {
                let kept = wanted.remove(first);
                wanted.retain(|tlv| !same(tlv));
                wanted.push(kept);
            }
        }
        let mut session = session();
        session.alpn = Some(alpn.clone());
        let verdict = if certified { verified(leaf.clone().into()) } else { anonymous() };
        let endpoints = Endpoints { source, destination };
        let header = Header { endpoints, unique_id: &unique_id, ..header(Some(&session), &verdict) };
        let bytes = encoded(&v2(&wanted), &header);

        // Our own reader of accepted headers; it takes at most 4,096 bytes.
        let parsed = proxy_in::parse(&bytes);
        if bytes.len() > proxy_in::V2_LIMIT {
            prop_assert_eq!(parsed, Parse::Invalid(proxy_in::Reason::TooLong));
        } else {
            let Parse::Complete { consumed, received } = parsed else {
                return Err(TestCaseError::fail(format!("{parsed:?}")));
            };
            prop_assert_eq!(consumed, bytes.len());
            prop_assert_eq!(received.source, endpoints.inet().map(|(source, _)| plain(source)));
            prop_assert_eq!(received.destination, endpoints.inet().map(|(_, destination)| plain(destination)));
        }

        // The one of this file.
        let (command, _, _, tlvs) = read(&bytes);
        prop_assert_eq!(command, if endpoints.inet().is_some() { 0x21 } else { 0x20 });
        if let Some(value) = found(&tlvs, 0xe7) {
            prop_assert_eq!(value, if certified { &leaf[..] } else { b"" });
        }
        if let Some(value) = found(&tlvs, 1) {
            prop_assert_eq!(value, &alpn[..]);
        }
        if let Some(value) = found(&tlvs, 0x20) {
            let (client, verify, _) = read_ssl(value);
            prop_assert_eq!((client, verify), if certified { (7, 0) } else { (1, 1) });
        }

        // ppp, which takes the block of an unknown family for addresses.
        let header = ppp::v2::Header::try_from(&bytes[..]).unwrap();
        prop_assert_eq!(header.len(), bytes.len());
        if command == 0x21 {
            let theirs = header.tlvs().map(|tlv| tlv.map(|tlv| (tlv.kind, tlv.value.into_owned())));
            prop_assert_eq!(theirs.collect::<Result<Vec<_>, _>>().unwrap(), tlvs);
        }
    }
}

#[test]
fn an_ignored_error_is_told_and_the_fingerprint_is_not() {
    let session = session();
    let leaf = certificate("alice");
    let wanted = v2(&[Tlv::CertFingerprint, Tlv::ClientCertPem, Tlv::Ssl(vec![SslTlv::Cn, SslTlv::ClientCert])]);
    for (resumed, bits) in [(false, 7), (true, 5)] {
        let verdict = unverified(leaf.clone(), resumed);
        let (_, _, _, tlvs) = read(&encoded(&wanted, &header(Some(&session), &verdict)));
        let [(0x20, ssl)] = tlvs.as_slice() else { panic!("{tlvs:?}") };
        assert_eq!(ssl[..5], [bits, 0, 0, 0, 10], "never 0");
        let subs = read_tlvs(&ssl[5..]);
        assert!(subs.contains(&(0x22, b"alice".to_vec())) && subs.contains(&(0x28, leaf.to_vec())), "{subs:?}");
    }
    assert_eq!(refused(&wanted, &header(None, &unverified(leaf, false))), HeaderError::Identity);
}

#[test]
fn custom_tlvs_name_whom_nothing_verified_only_beside_the_field_that_says_so() {
    let session = session();
    let leaf = certificate("admin");
    let of = |verdict: &Verdict, more: &[Tlv]| {
        let mut wanted =
            vec![custom(0xe1, Fetch::SslCSDn), custom(0xe2, Fetch::SslCDer), custom(0xe3, Fetch::SslFcSni)];
        wanted.extend_from_slice(more);
        let (_, _, _, tlvs) = read(&encoded(&v2(&wanted), &header(Some(&session), verdict)));
        (tlvs[0].1.clone(), tlvs[1].1.clone(), tlvs[2].1.clone())
    };
    let (nothing, sni) = (Vec::new(), b"gw.example.org".to_vec());
    let named = (b"/CN=admin".to_vec(), leaf.to_vec(), sni.clone());
    for resumed in [false, true] {
        let ignored = unverified(leaf.clone(), resumed);
        assert_eq!(of(&ignored, &[]), (nothing.clone(), nothing.clone(), sni.clone()));
        assert_eq!(of(&ignored, &[Tlv::Crc32c]), (nothing.clone(), nothing.clone(), sni.clone()));
        // HAProxy's bytes, where 'verify' is told.
        assert_eq!(of(&ignored, &[Tlv::Ssl(vec![])]), named);
    }
    assert_eq!(of(&verified(leaf), &[]), named);
}
