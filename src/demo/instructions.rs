//! The texts of the demo: the configuration that it runs, and what to try with it.

use std::net::SocketAddr;
use std::path::Path;

/// The configuration: everything in `folder`, listening on `listen`, to the demo's `backend`.
pub(super) fn configuration(listen: SocketAddr, backend: SocketAddr, folder: &Path) -> String {
    let file = |name: &str| quoted(&folder.join(name).to_string_lossy());
    let (server, ca, crl) = (file("server.pem"), file("ca.pem"), file("crl.pem"));
    format!(
        "global
    log stderr format raw daemon
    hard-stop-after 1s

defaults
    mode tcp
    log global
    option tcplog
    option dontlognull
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout client-hs 10s

frontend demo
    bind {listen} ssl crt {server} ca-file {ca} crl-file {crl} verify required
    default_backend show

backend show
    server show {backend} send-proxy-v2 proxy-v2-options \
ssl,cert-cn,ssl-cipher,authority,crc32c,unique-id,cert-fingerprint
"
    )
}

/// What to paste into another terminal. `pid` is Bowline's.
pub(super) fn instructions(port: u16, folder: &Path, pid: u32, configuration: &str) -> String {
    let configuration = configuration.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("    {line}\n"),
    });
    let configuration = configuration.collect::<String>();
    let curl = "curl --cacert ca.pem";
    let url = format!("https://localhost:{port}/");
    let s_client = format!("openssl s_client -connect 127.0.0.1:{port} -servername localhost");
    format!(
        "
Bowline listens on 127.0.0.1:{port} and lets in whoever has a certificate of the demo's own CA.
Ctrl-C ends it and removes its folder. This is its configuration:

{configuration}
Open another terminal there:

    cd {folder}

With a certificate, you see the PROXY v2 header that announced you to the backend:

    {curl} --cert alice.pem {url}
    {s_client} -quiet -CAfile ca.pem -cert alice.pem -key alice.pem

Without a certificate, you are refused:

    {curl} {url}
    {s_client} -quiet -CAfile ca.pem

With a revoked certificate as well:

    {curl} --cert mallory.pem {url}
    {s_client} -quiet -CAfile ca.pem -cert mallory.pem -key mallory.pem

Put a new server certificate in place, which cuts no connection, and look at it:

    cp server-new.pem server.pem && kill -HUP {pid}
    {s_client} </dev/null 2>/dev/null | openssl x509 -noout -subject

",
        folder = quoted(&folder.to_string_lossy())
    )
}

/// The word as it is if it has nothing special for a shell or for the configuration language, else in single quotes,
/// which mean the same to both.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        assert_eq!(quoted("/tmp/bowline-demo-0a/ca.pem"), "/tmp/bowline-demo-0a/ca.pem");
        assert_eq!(quoted("/tmp/my demo/$x#"), "'/tmp/my demo/$x#'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn the_configuration_verifies_clients_and_announces_them() {
        let folder = Path::new("/tmp/a b");
        let text = configuration("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap(), folder);
        let bind = text.lines().find(|line| line.trim_start().starts_with("bind ")).unwrap();
        assert_eq!(
            bind.trim_start(),
            "bind 127.0.0.1:1 ssl crt '/tmp/a b/server.pem' ca-file '/tmp/a b/ca.pem' \
             crl-file '/tmp/a b/crl.pem' verify required"
        );
        let server = text.lines().find(|line| line.trim_start().starts_with("server ")).unwrap();
        assert!(server.starts_with("    server show 127.0.0.1:2 send-proxy-v2 proxy-v2-options ssl,"), "{server}");
        assert!(server.ends_with(",cert-fingerprint"), "{server}");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn the_instructions_name_the_running_demo() {
        let text = instructions(4443, Path::new("/tmp/d"), 77, "global\n    one\n");
        for part in [
            "\n    global\n        one\n",
            "    cd /tmp/d\n",
            "curl --cacert ca.pem --cert alice.pem https://localhost:4443/\n",
            "curl --cacert ca.pem https://localhost:4443/\n",
            "curl --cacert ca.pem --cert mallory.pem https://localhost:4443/\n",
            "cp server-new.pem server.pem && kill -HUP 77\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
