use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};

use super::*;

/// A day of 2027, and a bit.
const AT: Duration = Duration::from_nanos(1_800_000_000_123_456_789);

fn json(record: &Record, max: usize) -> String {
    record.json(SystemTime::UNIX_EPOCH + AT, 4711, max)
}

/// What a reader gets.
fn parsed(record: &Record) -> Value {
    let json = json(record, 65_535);
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn closed(facts: ConnectionFacts) -> Record {
    Record::Connection(AuditEvent::Close, Box::new(facts))
}

fn certificate(subject: &str, names: Vec<SanType>) -> Box<[u8]> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.subject_alt_names = names;
    params.not_before = date_time_ymd(2026, 1, 2);
    params.not_after = date_time_ymd(2051, 12, 31);
    params.serial_number = Some(vec![0x0a, 0xff].into());
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().as_ref().into()
}

fn with_certificate(der: Box<[u8]>) -> ConnectionFacts {
    let certificate = CertificateFacts { verify: Verify::Ok, reason: None, der: Some(der) };
    ConnectionFacts { certificate: Some(certificate), frontend: "fe".into(), ..ConnectionFacts::default() }
}

#[test]
fn what_is_not_known_is_absent() {
    let facts = ConnectionFacts { frontend: "fe".into(), listener: "1".into(), id: 0xff, ..ConnectionFacts::default() };
    assert_eq!(
        json(&closed(facts), 8192),
        "{\"time\":\"2027-01-15T08:00:00.123456Z\",\"event\":\"close\",\"conn_id\":\"000000000000000000000000000000ff\",\
         \"frontend\":\"fe\",\"listener\":\"1\",\"generation\":0,\"pid\":4711}"
    );
}

#[test]
fn everything_that_is_known() {
    let der = certificate("alice", vec![SanType::URI("spiffe://example.org/alice".try_into().unwrap())]);
    let sha256 = x509::hex(&x509::sha256(&der));
    let facts = ConnectionFacts {
        generation: 3,
        client: Some("[::ffff:192.0.2.7]:4711".parse().unwrap()),
        local: Some("[2001:db8::1]:443".parse().unwrap()),
        proxy_source: Some("198.51.100.1:5".parse().unwrap()),
        listener: "main".into(),
        server: Some(ServerFacts { backend: "be".into(), server: "s".into(), address: Some("127.0.0.1:80".into()) }),
        sni: Some("a.example".into()),
        tls: Some(TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            group: Some("X25519"),
            alpn: Some(b"mqtt".to_vec()),
            resumed: false,
            server_certificate: Some([0xab; 32]),
        }),
        bytes: Some((1, 2)),
        handshake: Some(Duration::from_micros(1_250)),
        connect: Some(Duration::from_nanos(1_999)),
        duration: Some(Duration::from_secs(3)),
        termination: Some(*b"CD"),
        alert: Some("access_denied"),
        error: Some("a reason".into()),
        ..with_certificate(der)
    };
    let expected = serde_json::json!({
        "time": "2027-01-15T08:00:00.123456Z", "event": "close", "conn_id": "0".repeat(32),
        "client_ip": "192.0.2.7", "client_port": 4711, "local_ip": "2001:db8::1", "local_port": 443,
        "proxy_src": "198.51.100.1:5", "frontend": "fe", "listener": "main",
        "backend": "be", "server": "s", "server_addr": "127.0.0.1:80",
        "sni": "a.example", "alpn": "mqtt", "tls_version": "TLSv1.3", "cipher": "TLS_AES_128_GCM_SHA256",
        "group": "X25519", "resumed": false,
        "client_cert": {
            "verify": "ok", "subject": "/CN=alice", "issuer": "/CN=alice", "san": ["URI:spiffe://example.org/alice"],
            "serial": "0AFF", "not_before": "2026-01-02T00:00:00Z", "not_after": "2051-12-31T00:00:00Z", "sha256": sha256,
        },
        "server_cert": { "sha256": "ab".repeat(32) },
        "bytes_in": 1, "bytes_out": 2, "handshake_s": 0.00125, "connect_s": 0.000001, "duration_s": 3.0,
        "termination": "CD", "tls_alert": "access_denied", "error": "a reason", "generation": 3, "pid": 4711,
    });
    assert_eq!(parsed(&closed(facts)), expected);
}

#[test]
fn what_a_peer_chose_is_ascii_and_stays_in_its_member() {
    let nasty = "x\",\"event\":\"forged\n\r\0\u{1b}[31m\u{7f}\u{9b}\u{2028}\u{202e}é\\#";
    let der = certificate(nasty, vec![SanType::DnsName("a.example".try_into().unwrap())]);
    let facts = ConnectionFacts {
        sni: Some(nasty.into()),
        tls: Some(TlsFacts {
            version: "TLSv1.2",
            cipher: "",
            group: None,
            alpn: Some(b"\xff\xfe\n\"".to_vec()),
            resumed: true,
            server_certificate: None,
        }),
        ..with_certificate(der)
    };
    let record = closed(facts);
    let text = json(&record, 8192);
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text}");
    let value = parsed(&record);
    let escaped = "x#22,#22event#22:#22forged#0A#0D#00#1B[31m#7F#C2#9B#E2#80#A8#E2#80#AE#C3#A9\\#23";
    assert_eq!(value["sni"], escaped);
    assert_eq!(value["client_cert"]["subject"], format!("/CN={escaped}"));
    assert_eq!(value["alpn"], "#FF#FE#0A#22");
    assert_eq!(value["event"], "close");
    assert!(value.get("group").is_none());
}

#[test]
fn a_name_of_the_configuration_cannot_end_a_line() {
    let facts = ConnectionFacts { listener: "a\n\"\u{7f}\u{85}ü\u{2028}".into(), ..ConnectionFacts::default() };
    let record = closed(facts);
    assert!(json(&record, 8192).chars().all(|character| !character.is_control()));
    assert_eq!(parsed(&record)["listener"], "a\n\"#7F#C2#85ü\u{2028}");
}

#[test]
fn a_certificate_that_cannot_be_read_has_its_fingerprint_still() {
    let facts = CertificateFacts {
        verify: Verify::Failed,
        reason: Some("malformed"),
        der: Some(b"nonsense".as_slice().into()),
    };
    let facts = ConnectionFacts { certificate: Some(facts), ..ConnectionFacts::default() };
    let expected = serde_json::json!({
        "verify": "failed", "reason": "malformed", "sha256": x509::hex(&x509::sha256(b"nonsense")),
    });
    assert_eq!(parsed(&closed(facts))["client_cert"], expected);
}

/// Whatever `len` is, each record is one object that says when, what and which; and it is no longer than that.
#[test]
fn a_record_that_is_too_long_loses_members_and_never_its_end() {
    let names: Vec<_> =
        (0..100).map(|i| SanType::DnsName(format!("{i}.{}", "a".repeat(200)).try_into().unwrap())).collect();
    let der = certificate(&"\n".repeat(1000), names);
    let long = "/very-long".repeat(100);
    let record = || {
        closed(ConnectionFacts {
            listener: long.clone(),
            frontend: long.clone(),
            server: Some(ServerFacts { backend: long.clone(), server: long.clone(), address: Some(long.clone()) }),
            sni: Some(long.clone()),
            error: Some(long.clone().into()),
            ..with_certificate(der.clone())
        })
    };
    let mut shortest = usize::MAX;
    for max in (0..30_000).step_by(97).rev() {
        let text = json(&record(), max);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(value["truncated"], true, "64 of 100 names are shown at most");
        assert!(value["event"] == "close" && value["conn_id"].is_string() && value["time"].is_string());
        assert!(text.len() <= max.max(1024), "{} > {max}", text.len());
        shortest = shortest.min(text.len());
    }
    assert!(shortest < 400, "{shortest}");
    let value = parsed(&record());
    assert_eq!(value["client_cert"]["san"].as_array().unwrap().len(), 64);
    assert!(value["error"].as_str().unwrap().len() <= SENTENCE_MAX + 3);
    let value: Value = serde_json::from_str(&json(&record(), 8192)).unwrap();
    assert!(value["client_cert"]["sha256"].is_string() && value["client_cert"]["san"][0].is_string());
}

#[test]
fn a_record_that_fits_is_whole() {
    let record = closed(with_certificate(certificate("x", Vec::new())));
    let whole = json(&record, 65_535);
    assert_eq!(json(&record, whole.len()), whole);
    assert!(!whole.contains("truncated"));
    let cut = json(&record, whole.len() - 1);
    assert!(cut.contains("\"truncated\":true") && !cut.contains("issuer"), "{cut}");
}

#[test]
fn a_reload_tells_who_asked_and_what_changed() {
    let change = CertificateChange { added: vec![[1; 32]; 40], removed: vec![[2; 32]] };
    let value = parsed(&Record::Reload(ReloadFacts { generation: 7, by: Some("signal"), outcome: Ok(change) }));
    assert_eq!(
        (&value["event"], &value["result"], &value["by"]),
        (&"reload".into(), &"adopted".into(), &"signal".into())
    );
    assert_eq!((&value["generation"], &value["truncated"]), (&7.into(), &true.into()));
    assert_eq!(value["certificates_added"].as_array().unwrap().len(), 32);
    assert_eq!(value["certificates_removed"][0], "02".repeat(32));

    let outcome = Err(format!("x.cfg:1: {}", "é".repeat(1000)));
    let value = parsed(&Record::Reload(ReloadFacts { generation: 7, by: None, outcome }));
    assert_eq!(value["result"], "refused");
    assert!(value["error"].as_str().unwrap().starts_with("x.cfg:1: éé"));
    assert!(value.get("by").is_none() && value.get("certificates_added").is_none());
}
