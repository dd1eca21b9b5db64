//! What is refused, warned of and told.

use super::*;

#[test]
fn errors_of_the_command_line() {
    for (line, column, message) in [
        ("--nonsense", 1, "unknown option '--nonsense'"),
        ("a.pem -z", 7, "unknown option '-z'"),
        ("--write", 1, "'--write' can be --write-ip, --write-proxy, --write-proxy-v1, --write-proxy-v2"),
        ("--daemon=1", 1, "Invalid argument '1' for option 'daemon': expected one of 'on' or 'off'"),
        ("-n x", 1, "'workers' takes a number without quotes, or auto, not 'x'"),
        ("--backlog", 1, "'backlog' needs a value"),
        ("--proxy-tlv=on", 1, "'proxy-tlv' exists only in hitch.conf"),
        ("--tls-protos=TLSv9", 1, "'tls-protos' takes versions without quotes: tls-protos = TLSv1.2 TLSv1.3"),
        ("--client", 1, "'--client': this program does not speak TLS towards servers; use stunnel"),
        ("--dbg-listen", 1, "'dbg-listen' needs a value"),
        ("-V --nonsense", 4, "unknown option '--nonsense'"),
        ("--test=on", 1, "'--test' takes no value"),
    ] {
        let error = parse_command_line(&words(line)).expect_err(line);
        assert_eq!((error.at.column, error.message.as_str()), (column, message), "{line}");
    }
}

#[test]
fn errors_of_the_grammar() {
    let with = |text: &str| format!("pem-file = \"a\"\n{text}\n");
    for (text, expected) in [
        ("frontend = { host = \"*\" port = 443 }", "2:32 H101"),
        ("workers = \"4\"", "2:11 H101"),
        ("frontend = [*]:8443", "2:12 H101"),
        ("pidfile = \"/run/x.pid\"", "2:1 H102"),
        ("port = \"443\"", "2:1 H102"),
        ("frontend = { backend = \"[::1]:1\" port = \"1\" }", "2:14 H102"),
        ("pem-file = { user = \"x\" cert = \"y\" }", "2:14 H102"),
        ("nonsense = { a = \"b\" { } }", "2:1 H101"),
        ("ring-slots = 4", "2:1 H101"),
        ("daemon = maybe", "2:10 H101"),
        ("daemon on", "2:1 H100"),
        ("daemon =", "2:1 H100"),
        ("user = \"x", "2:8 H100"),
        ("frontend = { port = \"1\"", "2:12 H100"),
        ("}", "2:1 H100"),
        ("\"user\" = x", "2:1 H100"),
        ("tls-protos = TLSv1.4", "2:14 H101"),
        ("tls-protos = TLSv1.2 x", "2:22 H101"),
        ("client-verify = maybe", "2:17 H101"),
        ("client-verify = \"none\"", "2:17 H101"),
        ("ocsp-connect-tmo = 4.0", "2:20 H101"),
        ("pem-file = /etc/x.pem", "2:12 H101"),
        ("user = a_b", "2:8 H101"),
        ("user = nobody@x", "2:8 H101"),
        ("user = host", "2:8 H101"),
        ("user = \"a\\\"b\"", "2:8 H100"),
        ("tls = on tls-protos = TLSv1.2", "2:10 H104"),
        ("tls-protos = TLSv1.2 tls-protos = TLSv1.3", "2:22 H104"),
        ("user = \"\u{1}\"", "2:8 H100"),
    ] {
        assert_eq!(findings(&with(text), ""), [expected], "{text}");
    }
    assert_eq!(findings("# nothing\n", ""), ["1:1 H100"]);
    let (_, diagnostics) = lowered("frontend = {\n    port = 443\n}\n", "a.pem");
    assert_eq!(diagnostics[0].message, "'port' takes a quoted string in hitch.conf: port = \"443\"");
    let (_, diagnostics) = lowered("pidfile = \"/run/x.pid\"\n", "a.pem");
    assert_eq!(diagnostics[0].message, "'pidfile' exists only on the command line (--pidfile=…)");
    assert_eq!(codes("pem-file = \"a\" wokers = 4"), ["H101"]);
    assert_eq!(codes("pem-file = \"a\" workers = 4 workers = 5"), ["W113"]);
    let (_, diagnostics) = lowered("frontend = [*]:8443\n", "a.pem");
    assert_eq!(diagnostics[0].message, "'frontend' takes a quoted string or a block: frontend = \"[*]:8443\"");
}

#[test]
fn what_hitch_passes_over_is_told() {
    for (text, expected) in [
        ("workers = 4;", &[][..]),
        ("tls-protos = TLSv1.2, TLSv1.3;", &[]),
        ("user = “nobody”", &["2:8 W115"]),
        ("workers = 4 !\n(daemon) = on", &["2:13 W115", "3:1 W115"]),
        ("tls-protos = TLSv1.2:TLSv1.3", &["2:21 W115"]),
    ] {
        assert_eq!(findings(&format!("pem-file = \"a\"\n{text}\n"), ""), expected, "{text}");
    }
    assert_eq!(model("pem-file = \"a\" user = “nobody” ~", "").process.user.expect("user").value, "nobody");
    assert_eq!(findings("@@ ~~", ""), ["1:1 H100"], "nothing is left");
}

#[test]
fn versions_of_tls_are_chosen_once() {
    let with = |text: &str, line: &str| findings(&format!("pem-file = \"a\"\n{text}\n"), line);
    for (text, line, expected) in [
        ("tls-protos = TLSv1.3", "--tls-protos=TLSv1.2", &[][..]),
        ("tls-protos = TLSv1.2", "--tls", &["0:1 H104", "0:1 W301"]),
        ("tls = on", "--ssl", &["0:1 H104", "0:1 W301"]),
        ("user = \"x\"", "--ssl --tls", &["0:7 H104", "0:7 W301"]),
        ("tls = off tls-protos = TLSv1.3", "", &["2:1 W114"]),
        ("frontend = { port = \"1\" ssl = on tls-protos = TLSv1.3 }", "", &["2:34 H104"]),
    ] {
        assert_eq!(with(text, line), expected, "{text} {line}");
    }
    let text = dump("tls-protos = TLSv1.3 pem-file = \"a\"", "--tls-protos=TLSv1.2");
    assert!(line_of(&text, "bind").contains(" ssl-max-ver TLSv1.2"), "{text}");
}

#[test]
fn what_is_not_swallowed() {
    for (text, expected) in [
        ("chroot = \"/x\"", "E221"),
        ("ciphers = \"AES128-SHA\"", "E302"),
        ("ciphers = \"HIGH:DHE-RSA-AES128-SHA\"", "N302"),
        ("frontend = { port = \"1\" ciphersuites = \"TLS_AES_128_CCM_SHA256\" }", "E302"),
        ("ciphersuites = \"nonsense\"", "E103"),
        ("ecdh-curve = \"sect163k1\"", "E302"),
        ("ecdh-curve = \"nonsense\"", "E103"),
        ("ecdh-curve = \"mlkem768\"", "W303"),
        ("ocsp-dir = \"/none\"", "W118"),
        ("ocsp-dir = \"/d\"", "W118"),
        ("ocsp-verify-staple = on", "N001"),
        ("pem-file = { cert = \"x\" client-verify = required }", "E211"),
        ("ocsp-connect-tmo = 4", "N001"),
        ("ocsp-resp-tmo = 4", "N001"),
        ("ocsp-refresh-interval = 4", "N001"),
        ("session-cache = 5", "N001"),
        ("shared-cache-listen = \"x\"", "E303"),
        ("shared-cache-peer = \"x\"", "E303"),
        ("shared-cache-if = \"x\"", "E303"),
        ("ssl-engine = \"x\"", "E303"),
        ("tls-protos = TLSv1.1 TLSv1.2", "W301"),
        ("tls-protos = SSLv3 TLSv1.0", "E301"),
        ("tls = off", "W114"),
        ("tls = on", "W301"),
        ("ssl = on", "W301"),
        ("client-verify = required", "E211"),
        ("client-verify-ca = \"x\"", "W211"),
        ("pem-file = { private-key = \"y\" }", "H101"),
        ("pem-dir-glob = \"*\"", "W114"),
        ("pem-dir = \"/none\" pem-dir-glob = \"*\"", "E221"),
        ("pem-dir = \"/d\" pem-dir-glob = \"x*\"", "W117"),
        ("pem-dir = \"/d\"", "W116"),
        ("proxy-proxy = on write-proxy = on", "H103"),
        ("write-ip = on write-proxy-v1 = on", "H103"),
        ("write-ip = on write-proxy = on", "H103"),
        ("syslog-facility = \"local8\"", "H101"),
        ("alpn-protos = \"h2,,x\"", "H101"),
        ("backend = \"127.0.0.1:80\"", "H101"),
        ("backend = \"[]:80\"", "H101"),
        ("frontend = \"*:443\"", "H101"),
        ("frontend = \"[nowhere.example]:443\"", "H101"),
        ("frontend = \"[]:443\"", "H101"),
        ("frontend = \"[nothing]:443\"", "H101"),
        ("frontend = \"[::1]:443\" frontend = { host = \"::1\" port = \"443\" }", "E603"),
        ("frontend = \"[*]:https\"", "H101"),
        ("frontend = \"[*]:0\"", "H101"),
        ("frontend = { host = \"*\" }", "H101"),
        ("ssl-handshake-timeout = 0", "H101"),
        ("workers = 0", "E103"),
    ] {
        assert_eq!(codes(&format!("pem-file = \"a\" {text}\n")), [expected], "{text}");
    }
    assert_eq!(codes("workers = 1"), ["E212"]);
    assert_eq!(codes("pem-dir = \"/d\" pem-dir-glob = \"x*\""), ["E228"]);
    assert_eq!(findings("pem-file = \"a\"\n frontend = { port = \"1\"\n  ciphers = LOW }", ""), ["3:13 E302"]);
    assert_eq!(findings("pem-file = \"a\"\n", "--chroot /x"), ["0:10 E221"]);
}
