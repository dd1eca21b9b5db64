//! `bowline hitch`: a hitch.conf works as with Hitch, down to the bytes of the header.

mod beside;
mod corpus;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use rustls::AlertDescription;

use super::support::bowline::program;
use super::support::client::{Client, Ending, Tls, Version, dial};
use super::support::peers::{Server, skipped};
use super::support::proxy_header;
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
    both_by(more, |address| client.try_connect(address), read);
}

/// The same for whoever connects in this way.
#[track_caller]
fn both_by(more: &str, connect: impl Fn(SocketAddr) -> Result<Tls, Ending>, read: impl Fn(&mut Peer) -> Vec<u8>) {
    let backend = Scripted::start();
    let site = Site::new();
    let hitch = Server::hitch(&config(&site, backend.address(), &format!("frontend = \"{{address}}\"\n{more}")));
    // Hitch may listen a moment before its worker does, and reset who comes in between.
    let mut tls = None;
    eventually("handshake with Hitch", DEADLINE, || {
        tls = connect(hitch.address()).ok();
        tls.is_some()
    });
    let from_hitch = read(&mut backend.accept());
    drop((tls, hitch));

    let bowline = serve(site, backend.address(), more);
    let tls = connect(bowline.main());
    let _tls = tls.unwrap_or_else(|ending| panic!("{more}: {ending:?}\n{}", bowline.log.text()));
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

    fn a_received_header_is_passed_on_as_hitch_passes_it_on(version) {
        if skipped() {
            return;
        }
        let from: SocketAddr = "192.0.2.77:4711".parse().expect("an address");
        let to: SocketAddr = "198.51.100.1:8883".parse().expect("an address");
        let tlvs = [(proxy_header::AUTHORITY, b"other.test".to_vec()), (0xe0, vec![0; 300])];
        for header in [
            b"PROXY TCP4 192.0.2.77 198.51.100.1 4711 8883\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 8883\r\n".to_vec(),
            b"PROXY UNKNOWN some words\r\n".to_vec(),
            proxy_header::encode(from, to, &tlvs),
            [&proxy_header::SIGNATURE[..], b"\x20\x00\x00\x00"].concat(),
        ] {
            let connect = |address| {
                let mut tcp = dial(address);
                tcp.write_all(&header).expect("a header");
                let mut tls = Client::new(version).over(tcp);
                tls.handshake()?;
                tls.write_all(b"data");
                Ok(tls)
            };
            both_by("proxy-proxy = on\nalpn-protos = \"h2\"", connect, |peer| {
                let bytes = peer.read_exact(header.len() + 4);
                assert_eq!(bytes, [&header[..], b"data"].concat());
                bytes
            });
        }
    }

    fn a_client_without_a_header_is_refused(version) {
        let backend = Scripted::start();
        let bowline = serve(Site::new(), backend.address(), "proxy-proxy = on");
        let _ = Client::new(version).refused(bowline.main());
        backend.assert_untouched_by(bowline);
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

    fn a_certificate_has_its_own_key_and_demands(version) {
        let backend = Scripted::start();
        let site = Site::new();
        let second = pki().server_ca.issue(&Leaf::server(&["second.test"]));
        site.write("second.crt", second.chain_pem());
        site.write("second.key.of.its.own", second.key_pem());
        let block = "pem-file = { cert = \"{dir}/second.crt\" private-key = \"{dir}/second.key.of.its.own\"
            client-verify = required client-verify-ca = \"{dir}/ca.pem\" }";
        // The last one is the default.
        let bowline = serve(site, backend.address(), &format!("{block}\npem-file = \"{{dir}}/server.pem\""));
        let passes = |client: Client| {
            let mut tls = client.connect(bowline.main());
            tls.write_all(b"data");
            assert_eq!(backend.accept().read_exact(4), b"data");
            tls.server_certificate()
        };
        assert_eq!(&passes(Client::new(version)), pki().server.leaf());
        assert_eq!(&passes(Client::new(version).sni("second.test").identity(&pki().good)), second.leaf());
        let ending = Client::new(version).sni("second.test").refused(bowline.main());
        assert!(matches!(ending, Ending::Alert(AlertDescription::CertificateRequired)), "{ending:?}");
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
    bowline.site.write("hitch.conf", config(&bowline.site, first.address(), &format!("{frontend}ssl-engine = \"x\"")));
    let line = bowline.reload_refused(&["hitch.conf", "E303"]);
    assert!(line.contains("'ssl-engine' has no counterpart here"), "{line}");
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

#[test]
fn a_log_file_is_opened_again_after_it_was_moved_away() {
    let site = Site::new();
    let main = brackets(site.address("main"));
    let frontend = format!("frontend = \"{main}\"\nlog-level = 2\nlog-filename = \"{{dir}}/hitch.log\"");
    let backend = Scripted::start();
    site.write("hitch.conf", config(&site, backend.address(), &frontend));
    let mut bowline = Bowline::hitch(site, &["--config={dir}/hitch.conf"]);
    let (path, address) = (bowline.site.dir().to_owned(), bowline.main());
    let logged = |name: &str, word: &str| {
        let path = path.join(name);
        eventually(&format!("'{word}' in {name}"), DEADLINE, || {
            std::fs::read_to_string(&path).is_ok_and(|text| text.contains(word))
        });
    };
    let rename = |new: &str| {
        let [from, to] = ["hitch.log", new].map(|name| path.join(name));
        std::fs::rename(from, to).expect("a renamed file");
    };
    let served = || {
        let mut tls = Client::new(Version::Tls13).connect(address);
        tls.write_all(b"data");
        assert_eq!(backend.accept().read_exact(4), b"data");
        drop(tls);
        logged("hitch.log", " hitch-1~ hitch-backend/backend ");
    };
    served();
    // Log rotation does not always ask for a reload.
    rename("hitch.log.1");
    eventually("the file again", DEADLINE, || path.join("hitch.log").exists());
    served();
    rename("hitch.log.2");
    bowline.signal(Signal::SIGHUP);
    // In the old file, or in the new one if it was there first.
    eventually("a reload", DEADLINE, || {
        let adopted = |name| std::fs::read_to_string(path.join(name)).unwrap_or_default().contains("generation 2");
        ["hitch.log", "hitch.log.2"].into_iter().any(adopted)
    });
    served();
    bowline.signal(Signal::SIGTERM);
    assert!(bowline.wait_exit(DEADLINE).success());
    logged("hitch.log", "stopped");
}

#[test]
fn where_it_listens_is_written_to_a_file() {
    let site = Site::new();
    let main = brackets(site.address("main"));
    site.write("hitch.conf", config(&site, Scripted::start().address(), &format!("frontend = \"{main}\"")));
    let bowline = Bowline::hitch(site, &["--config={dir}/hitch.conf", "--dbg-listen={dir}/listening", "-L", "2"]);
    let path = bowline.site.path("listening");
    let expected = format!("{}\n", bowline.main());
    eventually("the addresses", DEADLINE, || std::fs::read_to_string(&path).is_ok_and(|text| text == expected));
}

#[test]
fn the_worker_is_locked_up_in_its_directory() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let backend = Scripted::start();
    let site = Site::new();
    std::fs::create_dir(site.path("empty")).expect("a directory");
    let bowline = serve(site, backend.address(), "chroot = \"{dir}/empty\"");
    let root = std::fs::read_link(format!("/proc/{}/root", bowline.worker())).expect("a root");
    assert_eq!(root, bowline.site.path("empty"));
    let mut tls = Client::new(Version::Tls13).connect(bowline.main());
    tls.write_all(b"data");
    assert_eq!(backend.accept().read_exact(4), b"data");
}
