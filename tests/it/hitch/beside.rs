//! The same hitch.conf, the same files and the same clients: Hitch and Bowline serve the same certificates and let in the same
//! clients.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use rustls::pki_types::CertificateDer;

use super::super::support::client::{Client, Version};
use super::super::support::openssl::SClient;
use super::super::support::peers::{Server, skipped};
use super::super::support::{Bowline, DEADLINE, Identity, Leaf, Site, both_versions, eventually, pki};
use super::{config, serve};

/// Both, with the same configuration.
struct Pair {
    hitch: Server,
    bowline: Bowline,
}

impl Pair {
    /// `settings` has `FRONTEND` where a block for the address begins: `FRONTEND pem-file = … }`. Without it there is a frontend
    /// without settings.
    #[track_caller]
    fn start(site: Site, settings: &str) -> Self {
        let backend = greeter();
        let settings = site.fill_in(settings);
        let for_hitch = match settings.contains("FRONTEND") {
            true => settings.replace("FRONTEND", "frontend = { host = \"{ip}\" port = \"{port}\""),
            false => format!("frontend = \"{{address}}\"\n{settings}"),
        };
        let hitch = Server::hitch(&config(&site, backend, &for_hitch));
        let main = site.address("main");
        let block = format!("frontend = {{ host = \"{}\" port = \"{}\"", main.ip(), main.port());
        let bowline = match settings.contains("FRONTEND") {
            true => {
                let text = config(&site, backend, &format!("log-level = 2\n{}", settings.replace("FRONTEND", &block)));
                site.write("hitch.conf", text);
                Bowline::hitch(site, &["--config={dir}/hitch.conf"])
            }
            false => serve(site, backend, &settings),
        };
        // Hitch may listen a moment before its worker does, and reset who comes in between.
        eventually("Hitch that serves", DEADLINE, || {
            Client::new(Version::Tls13).try_connect(hitch.address()).is_ok()
                || Client::new(Version::Tls12).no_sni().try_connect(hitch.address()).is_ok()
        });
        Self { hitch, bowline }
    }
}

/// A backend that answers a byte with two letters and closes. It is not the first to speak: an end that comes at once would
/// seem to a client of TLS 1.2 to be that of the handshake.
fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            std::thread::spawn(move || connection.read_exact(&mut [0]).and_then(|()| connection.write_all(b"hi")));
        }
    });
    address
}

/// The certificate that is shown; `None`: the client is refused.
fn shown(address: SocketAddr, version: Version, sni: Option<&str>) -> Option<CertificateDer<'static>> {
    let client = Client::new(version);
    let client = match sni {
        Some(name) => client.sni(name),
        None => client.no_sni(),
    };
    client.try_connect(address).ok().map(|tls| tls.server_certificate())
}

/// Whether the backend is reached.
fn is_let_in(address: SocketAddr, client: &Client) -> bool {
    client.try_connect(address).is_ok_and(|mut tls| {
        // The answer may already be on its way; failing to write is no news then.
        let _ = tls.try_write_all(b"?");
        tls.read_to_end().0 == b"hi"
    })
}

/// Certificates `a` and `a2` for a.test, `rsa` for it with an RSA key, `b` for b.test, `wild` and `wildrsa` for *.test.
fn certificates() -> (Site, Vec<(&'static str, Identity)>) {
    let site = Site::new();
    let issue = |leaf: Leaf| pki().server_ca.issue(&leaf);
    let all = vec![
        ("a", issue(Leaf::server(&["a.test"]))),
        ("a2", issue(Leaf::server(&["a.test"]))),
        ("rsa", issue(Leaf::server(&["a.test"]).rsa())),
        ("b", issue(Leaf::server(&["b.test"]))),
        ("wild", issue(Leaf::server(&["*.test"]))),
        ("wildrsa", issue(Leaf::server(&["*.test"]).rsa())),
    ];
    for directory in ["", "d/", "d2/"] {
        std::fs::create_dir_all(site.path(directory)).expect("a directory");
    }
    for (index, (name, identity)) in all.iter().enumerate() {
        site.write(&format!("{name}.pem"), identity.pem());
        std::fs::write(site.path(&format!("d/{index}.pem")), identity.pem()).expect("a certificate");
    }
    std::fs::write(site.path("d2/x.pem"), all[4].1.pem()).expect("a certificate");
    (site, all)
}

/// For each name the same certificate. `config()` adds the shared server's certificate first.
#[track_caller]
fn same_certificates(version: Version, settings: &str) {
    if skipped() {
        return;
    }
    let (site, all) = certificates();
    let pair = Pair::start(site, settings);
    let name = |certificate: Option<CertificateDer<'static>>| match certificate {
        None => "refused",
        Some(der) => all.iter().find(|(_, identity)| *identity.leaf() == der).map_or("server", |(name, _)| *name),
    };
    for sni in [Some("a.test"), Some("A.Test"), Some("b.test"), Some("c.test"), Some("x.y.test"), Some("z.org"), None] {
        let [hitch, bowline] =
            [pair.hitch.address(), pair.bowline.main()].map(|address| name(shown(address, version, sni)));
        assert_eq!(bowline, hitch, "{sni:?} with {settings}");
    }
}

fn pem(names: &[&str]) -> String {
    names.iter().map(|name| format!("pem-file = \"{{dir}}/{name}.pem\"\n")).collect()
}

both_versions! {
    fn the_last_certificate_for_a_name_counts(version) {
        same_certificates(version, &pem(&["a", "a2", "b"]));
        same_certificates(version, &pem(&["a2", "b", "a"]));
    }

    fn the_kind_of_key_does_not_count(version) {
        same_certificates(version, &pem(&["rsa", "wild"]));
        same_certificates(version, &pem(&["a", "rsa", "b"]));
        same_certificates(version, &pem(&["wildrsa", "rsa", "wild", "b"]));
    }

    fn a_directory_comes_behind_the_files(version) {
        same_certificates(version, &format!("{}pem-dir = \"{{dir}}/d\"", pem(&["b"])));
        same_certificates(version, &format!("{}pem-dir = \"{{dir}}/d\" pem-dir-glob = \"[14]*\"", pem(&["a"])));
    }

    fn a_frontends_own_certificates_go_before_the_others(version) {
        same_certificates(version, &format!("FRONTEND {} }}\n{}", pem(&["a", "b"]), pem(&["a2", "wild"])));
        let own = format!("FRONTEND match-global-certs = on {} }}\n{}", pem(&["a2", "b"]), pem(&["a", "rsa"]));
        same_certificates(version, &own);
        same_certificates(version, &format!("FRONTEND {} }}", pem(&["a2", "b", "a"])));
    }

    fn names_that_nobody_has(version) {
        same_certificates(version, &format!("{}sni-nomatch-abort = on", pem(&["a", "wild"])));
        same_certificates(version, &format!("FRONTEND sni-nomatch-abort = on {} }}", pem(&["a", "b"])));
        let off = format!("sni-nomatch-abort = on FRONTEND sni-nomatch-abort = off {} }}", pem(&["a", "b"]));
        same_certificates(version, &off);
    }

    fn the_same_clients_are_let_in(version) {
        if skipped() {
            return;
        }
        let below = pki().client_intermediate.issue(&Leaf::client("below"));
        let expired = pki().client_ca.issue(&Leaf::client("late").valid(1_000_000_000, 1_100_000_000));
        let stranger = pki().other_ca.issue(&Leaf::client("stranger"));
        for mode in ["none", "optional", "required"] {
            let settings = format!("client-verify = {mode}\nclient-verify-ca = \"{{dir}}/ca.pem\"");
            let site = Site::new();
            let pair = Pair::start(site, &settings);
            let plain = Client::new(version);
            for (who, client) in [
                ("nobody", plain),
                ("good", Client::new(version).identity(&pki().good)),
                ("below an intermediate", Client::new(version).identity(&below)),
                ("expired", Client::new(version).identity(&expired)),
                ("of another authority", Client::new(version).identity(&stranger)),
            ] {
                let [hitch, bowline] =
                    [pair.hitch.address(), pair.bowline.main()].map(|address| is_let_in(address, &client));
                assert_eq!(bowline, hitch, "{who} with {mode}");
            }
        }
    }
}

/// `openssl` with these words, in the directory of the site; `+` stands for a blank within a word.
fn openssl(site: &Site, words: &str) {
    let words = words.split(' ').map(|word| word.replace('+', " "));
    let output = Command::new("openssl").current_dir(site.dir()).args(words).output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether `openssl s_client` reaches the backend with this certificate.
fn lets_openssl_in(site: &Site, address: SocketAddr, version: &str, name: &str) -> bool {
    let [certificate, key] = ["crt", "key"].map(|extension| site.path(&format!("{name}.{extension}")));
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().expect("UTF-8"));
    let mut client = SClient::connect(address, &[version, "-quiet", "-cert", certificate, "-key", key]);
    client.type_line("?");
    client.wait();
    client.log.text().lines().any(|line| line.ends_with("hi"))
}

#[test]
fn certificates_of_home_made_authorities_are_taken_as_hitch_takes_them() {
    if skipped() {
        return;
    }
    let site = Site::new();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["home", "listed", "unlisted"] {
        let words = format!("req -x509 {key} -keyout {name}.key -out {name}.crt -days 30 -subj /CN={name}");
        openssl(&site, &words);
    }
    for (name, authority) in [("old", "home"), ("below", "listed"), ("foreign", "unlisted")] {
        openssl(&site, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        // Without extensions OpenSSL 3.0 makes version 1 of it.
        let sign = format!("x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial");
        openssl(&site, &format!("{sign} -days 30 -out {name}.crt"));
    }
    let listed = ["home.crt", "listed.crt"].map(|name| std::fs::read_to_string(site.path(name)).expect("PEM"));
    site.write("home-and-listed.pem", listed.concat());
    let settings = "client-verify = required\nclient-verify-ca = \"{dir}/home-and-listed.pem\"";
    let pair = Pair::start(site, settings);
    let mut let_in = Vec::new();
    for name in ["old", "listed", "unlisted", "below", "foreign"] {
        for version in ["-tls1_2", "-tls1_3"] {
            let [hitch, bowline] = [pair.hitch.address(), pair.bowline.main()]
                .map(|address| lets_openssl_in(&pair.bowline.site, address, version, name));
            assert_eq!(bowline, hitch, "{name} with {version}");
            let_in.extend(hitch.then_some(name));
        }
    }
    assert_eq!(let_in, ["old", "old", "listed", "listed", "below", "below"]);
}
