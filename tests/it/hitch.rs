//! `bowline hitch`: a hitch.conf works as with Hitch, down to the bytes of the header.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use rustls::AlertDescription;

use super::support::bowline::program;
use super::support::client::{Client, Ending, Version};
use super::support::peers::{Server, skipped};
use super::support::{Bowline, DEADLINE, Leaf, Peer, Scripted, Site, both_versions, eventually, pki};

/// An address as Hitch writes it.
fn brackets(address: SocketAddr) -> String {
    format!("[{}]:{}", address.ip(), address.port())
}

/// A hitch.conf without a frontend, for this backend, with the shared certificate of `site`.
fn config(site: &Site, backend: SocketAddr, more: &str) -> String {
    let user = if nix::unistd::geteuid().is_root() { "user = \"nobody\"\n" } else { "" };
    let pem = site.path("server.pem");
    let backend = brackets(backend);
    site.fill_in(&format!("{user}backend = \"{backend}\"\npem-file = \"{}\"\n{more}\n", pem.display()))
}

/// Bowline with this hitch.conf and a frontend called `main`.
fn serve(site: Site, backend: SocketAddr, more: &str) -> Bowline {
    let main = brackets(site.address("main"));
    let text = config(&site, backend, &format!("frontend = \"{main}\"\nlog-level = 2\n{more}"));
    site.write("hitch.conf", text);
    Bowline::hitch(site, &["--config={dir}/hitch.conf"])
}

/// `bowline hitch` to its end.
fn run(site: &Site, words: &[&str]) -> Output {
    let words = words.iter().map(|word| site.fill_in(word));
    Command::new(program()).arg("hitch").args(words).stdin(Stdio::null()).output().expect("bowline runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The bytes of a PROXY v2 header over IPv4, its two ports blanked.
fn header_without_ports(peer: &mut Peer) -> Vec<u8> {
    let mut bytes = peer.read_exact(16);
    bytes.extend(peer.read_exact(usize::from(bytes[14]) * 256 + usize::from(bytes[15])));
    assert_eq!(bytes[13], 0x11, "TCP over IPv4");
    bytes[24..28].fill(0);
    bytes
}

/// What the backend gets from Hitch and from Bowline with the same settings, for the same client.
#[track_caller]
fn both(more: &str, client: &Client, read: impl Fn(&mut Peer) -> Vec<u8>) {
    let backend = Scripted::start();
    let site = Site::new();
    // The lists of suites that hold without this differ.
    let more = &format!("ciphers = \"ECDHE-ECDSA-AES128-GCM-SHA256\"\n{more}");
    let hitch = Server::hitch(&config(&site, backend.address(), &format!("frontend = \"{{address}}\"\n{more}")));
    // Hitch may listen a moment before its worker does, and reset who comes in between.
    let mut tls = None;
    eventually("handshake with Hitch", DEADLINE, || {
        tls = client.try_connect(hitch.address()).ok();
        tls.is_some()
    });
    let from_hitch = read(&mut backend.accept());
    drop((tls, hitch));

    let bowline = serve(site, backend.address(), more);
    let _tls = client.connect(bowline.main());
    let from_bowline = read(&mut backend.accept());
    assert_eq!(from_bowline, from_hitch, "{more}:\n{}\n{}", text(&from_bowline), text(&from_hitch));
}

both_versions! {
    fn the_header_is_hitchs_byte_for_byte(version) {
        if skipped() {
            return;
        }
        let more = "write-proxy-v2 = on\nalpn-protos = \"h2, http/1.1\"";
        both(more, &Client::new(version).alpn(&["http/1.1"]), header_without_ports);
        both(more, &Client::new(version), header_without_ports);
        both("write-proxy = on\nproxy-tlv = off", &Client::new(version).no_sni(), header_without_ports);
    }

    fn the_header_of_a_certificate_is_hitchs_byte_for_byte(version) {
        if skipped() {
            return;
        }
        let verify = "write-proxy-v2 = on\nproxy-client-cert = on\nclient-verify-ca = \"{dir}/ca.pem\"\nclient-verify =";
        let client = Client::new(version).identity(&pki().good);
        both(&format!("{verify} required"), &client, header_without_ports);
        both(&format!("{verify} optional"), &Client::new(version), header_without_ports);
    }

    fn the_address_alone_is_hitchs_byte_for_byte(version) {
        if skipped() {
            return;
        }
        both("write-ip = on", &Client::new(version), |peer| peer.read_exact(5));
    }

    fn the_line_of_version_1_is_hitchs(version) {
        if skipped() {
            return;
        }
        let without_ports = |peer: &mut Peer| {
            let line = peer.line();
            let words: Vec<&str> = line.split(' ').take(4).collect();
            words.join(" ").into_bytes()
        };
        both("write-proxy-v1 = on", &Client::new(version), without_ports);
    }

    fn a_name_that_nobody_has_is_refused_and_no_name_is_not(version) {
        let backend = Scripted::start();
        let bowline = serve(Site::new(), backend.address(), "sni-nomatch-abort = on");
        let ending = Client::new(version).sni("stranger.test").refused(bowline.main());
        assert!(matches!(ending, Ending::Alert(AlertDescription::UnrecognisedName)), "{ending:?}");
        let mut tls = Client::new(version).no_sni().connect(bowline.main());
        tls.write_all(b"data");
        assert_eq!(backend.accept().read_exact(4), b"data");
    }

    fn the_last_certificate_is_the_default(version) {
        let backend = Scripted::start();
        let site = Site::new();
        let last = pki().server_ca.issue(&Leaf::server(&["last.test"]));
        site.write("last.pem", last.pem());
        let bowline = serve(site, backend.address(), "pem-file = \"{dir}/last.pem\"");
        let served = |client: Client| client.connect(bowline.main()).server_certificate();
        assert_eq!(&served(Client::new(version).no_sni()), last.leaf());
        assert_eq!(&served(Client::new(version).sni("stranger.test")), last.leaf());
        assert_eq!(&served(Client::new(version)), pki().server.leaf());
    }
}

#[test]
fn hup_reads_the_file_and_the_command_line_again() {
    let (first, second) = (Scripted::start(), Scripted::start());
    let bowline = serve(Site::new(), first.address(), "");
    let arrives = |backend: &Scripted| {
        let mut tls = Client::new(Version::Tls13).connect(bowline.main());
        tls.write_all(b"data");
        assert_eq!(backend.accept().read_exact(4), b"data");
    };
    arrives(&first);
    let main = brackets(bowline.main());
    let frontend = format!("frontend = \"{main}\"\nlog-level = 2\n");
    bowline.site.write("hitch.conf", config(&bowline.site, second.address(), &frontend));
    bowline.reload();
    arrives(&second);
    bowline.site.write("hitch.conf", config(&bowline.site, first.address(), &format!("{frontend}chroot = \"/x\"")));
    let line = bowline.reload_refused(&["hitch.conf", "E120"]);
    assert!(line.contains("'chroot' is valid Hitch but not implemented yet"), "{line}");
    arrives(&second);
}

#[test]
fn test_says_what_a_start_would_say() {
    let site = Site::new();
    let backend = Scripted::start();
    site.write("hitch.conf", config(&site, backend.address(), ""));
    let good = run(&site, &["--test", "--config={dir}/hitch.conf"]);
    assert_eq!((good.status.code(), text(&good.stderr).as_str()), (Some(0), "hitch configuration looks ok.\n"));
    let missing = run(&site, &["-t", "--config={dir}/hitch.conf", "{dir}/none.pem"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("command line:1:"), "{}", text(&missing.stderr));
    site.write("hitch.conf", config(&site, backend.address(), "port = 443"));
    let bad = run(&site, &["-t", "--config={dir}/hitch.conf"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stderr).contains("hitch.conf:"), "{}", text(&bad.stderr));
    for (words, code) in [
        (&[][..], 1),
        (&["--nonsense"][..], 1),
        (&["--test", "--config=/nonexistent"][..], 1),
        (&["--version", "--config=/nonexistent"][..], 0),
        (&["--help"][..], 0),
    ] {
        assert_eq!(run(&site, words).status.code(), Some(code), "{words:?}");
    }
}

#[test]
fn a_dump_is_a_configuration_that_works() {
    let site = Site::new();
    let backend = Scripted::start();
    let main = brackets(site.address("main"));
    let frontend = format!("frontend = \"{main}\"\nlog-level = 2");
    site.write("hitch.conf", config(&site, backend.address(), &frontend));
    let dump = run(&site, &["--dump", "--config={dir}/hitch.conf"]);
    assert_eq!((dump.status.code(), text(&dump.stderr).as_str()), (Some(0), ""));
    let bowline = Bowline::launch(site, &text(&dump.stdout), &[]).expect("it starts");
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    tls.write_all(b"data");
    assert_eq!(backend.accept().read_exact(4), b"data");
}

#[test]
fn the_name_of_the_program_counts() {
    use std::os::unix::process::CommandExt as _;
    let output = Command::new(program()).arg0("/usr/sbin/hitch").arg("--help").output().expect("bowline runs");
    assert!(text(&output.stdout).starts_with("Usage: bowline hitch"), "{}", text(&output.stdout));
}
