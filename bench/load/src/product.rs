//! A product under test: one template in `peers/` says everything that is particular about it.
//!
//! A template is the product's configuration with `@NAME@` placeholders. Lines that start with `#!` are for the runner:
//! `program` (looked up in PATH), `start` and `version` (its arguments), `package` (Debian), `file` (what
//! must be there besides the program), `pypi` (a Python package that carries it), `lacks` (see [`Feature`]), `proxy` (the version of
//! its header, `v1` or `v2`), `note` (printed below the table). A line with `@CERTIFICATE@` stands for as many lines as the directory of hosts has files.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};

use crate::certificates::{Certificates, file};
use crate::pause::pause;
use crate::process::Tree;
use crate::workload::Workload;

/// A product listens within this time after its start; 10,000 certificates take some of them a while.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Connections that a product is told to expect; two descriptors each.
const MAXCONN: u64 = 9_500;

/// Descriptors of a product that are not connections.
const SPARE_DESCRIPTORS: u64 = 200;

/// The last lines of a product's own output that an error message shows.
const LOG_LINES: usize = 5;

/// What not every product can do. A measurement that needs it leaves the others out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// A listener that chooses among the certificates of a directory by the name that the client asks for.
    Sni,
    /// A given number of loops.
    Loops,
    /// TLS: it passes on what comes, and clients send plaintext.
    Tls,
}

impl Feature {
    fn parse(name: &str) -> Result<Self, String> {
        match name {
            "sni" => Ok(Self::Sni),
            "loops" => Ok(Self::Loops),
            "tls" => Ok(Self::Tls),
            _ => Err(format!("'#! lacks: {name}': there are sni, loops and tls")),
        }
    }
}

/// One file of `peers/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// The file's name up to the first dot.
    pub(crate) name: String,
    /// The file's name without `.in`: some products tell their language by what follows the dot.
    file: String,
    pub(crate) program: String,
    start: Vec<String>,
    version: Vec<String>,
    /// Debian packages that it comes from, or that its Python package needs.
    pub(crate) packages: Vec<String>,
    /// Files that must be there besides the program.
    pub(crate) files: Vec<String>,
    /// A Python package, with its version, that has the program.
    pub(crate) pypi: Option<String>,
    pub(crate) notes: Vec<String>,
    lacks: Vec<Feature>,
    /// What the backend is told to expect: `v1` or `v2`.
    pub(crate) proxy: &'static str,
    text: String,
}

impl Template {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(name, &text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// `file` is the name that the configuration is to have.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, String> {
        let mut settings: BTreeMap<&str, &str> = BTreeMap::new();
        let mut notes = Vec::new();
        let mut lacks = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("#!")) {
            let (key, value) = line.trim().split_once(':').ok_or_else(|| format!("'#!{line}' is not 'key: value'"))?;
            match key.trim() {
                "note" => notes.push(value.trim().to_owned()),
                "lacks" => {
                    for name in value.split_whitespace() {
                        lacks.push(Feature::parse(name)?);
                    }
                }
                key @ ("program" | "start" | "version" | "package" | "file" | "pypi" | "proxy") => {
                    _ = settings.insert(key, value.trim())
                }
                key => return Err(format!("'#! {key}' is unknown")),
            }
        }
        let setting = |key: &str| settings.get(key).map(|&value| value.to_owned());
        let words =
            |key: &str| setting(key).map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        Ok(Self {
            name: file.split('.').next().unwrap_or_default().to_owned(),
            file: file.to_owned(),
            program: setting("program").ok_or("there is no '#! program: …'")?,
            start: words("start").ok_or("there is no '#! start: …'")?,
            version: words("version").ok_or("there is no '#! version: …'")?,
            packages: words("package").unwrap_or_default(),
            files: words("file").unwrap_or_default(),
            pypi: setting("pypi"),
            notes,
            lacks,
            proxy: match settings.get("proxy") {
                Some(&"v1") => "v1",
                Some(&"v2") | None => "v2",
                Some(other) => return Err(format!("'#! proxy: {other}': there are v1 and v2")),
            },
            text: text.to_owned(),
        })
    }

    pub(crate) fn lacks(&self, feature: Feature) -> bool {
        self.lacks.contains(&feature)
    }

    /// The first word with a digit that the program prints for its version arguments.
    pub(crate) fn version(&self, program: &Path) -> String {
        let output = Command::new(program).args(&self.version).stdin(Stdio::null()).output();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        version_word(&String::from_utf8_lossy(&text))
    }
}

fn version_word(text: &str) -> String {
    let word = text
        .split(|character: char| character.is_whitespace() || character == '/')
        .find(|word| word.contains('.') && word.contains(|character: char| character.is_ascii_digit()));
    word.map_or("(unknown version)", |word| word.trim_start_matches(|character: char| !character.is_ascii_digit()))
        .to_owned()
}

/// Writes each line that names `@CERTIFICATE@` once for every host.
fn expand_hosts(text: &str, hosts: &[PathBuf]) -> String {
    let mut expanded = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.contains("@CERTIFICATE@") {
            expanded.extend(hosts.iter().map(|host| line.replace("@CERTIFICATE@", &host.display().to_string())));
        } else {
            expanded.push_str(line);
        }
    }
    expanded
}

/// Replaces every `@NAME@`. A placeholder that nobody knows is an error: it would reach the product as text.
pub(crate) fn expand(text: &str, values: &[(&str, String)]) -> Result<String, String> {
    let mut expanded = text.to_owned();
    for (name, value) in values {
        expanded = expanded.replace(&format!("@{name}@"), value);
    }
    let pieces: Vec<&str> = expanded.split('@').collect();
    let is_name = |word: &&&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    match pieces[1..pieces.len().max(2) - 1].iter().find(is_name) {
        Some(name) => Err(format!("the placeholder @{name}@ is unknown")),
        None => Ok(expanded),
    }
}

/// Looks a program up in PATH, then where Debian keeps daemons, then beside this one; a name with a slash is taken as it is.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file()).and_then(|path| path.canonicalize().ok());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .chain(std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned)))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// A running product with its listeners. Each takes TLS 1.2 and 1.3 and every cipher and group that the client may offer.
pub(crate) struct Product {
    pub(crate) tree: Tree,
    /// Requires a client certificate.
    pub(crate) mtls_port: u16,
    /// Asks for none, as the following.
    pub(crate) tls_port: u16,
    /// Its certificate has an RSA key.
    pub(crate) rsa_port: u16,
    /// Has the certificates of the hosts. Nobody listens there if the product lacks [`Feature::Sni`].
    pub(crate) sni_port: u16,
}

impl Product {
    /// Starts `program` on `cpus`, for this workload, in front of `backend_port`, and waits until it listens.
    pub(crate) fn start(
        template: &Template,
        program: &Path,
        certificates: &Certificates,
        backend_port: u16,
        workload: &Workload,
        cpus: &[usize],
        own_cpu: usize,
    ) -> Result<Self, String> {
        let [mtls_port, tls_port, rsa_port, sni_port] =
            free_ports().map_err(|error| format!("finding free ports: {error}"))?;
        let configuration = certificates.path(&template.file);
        let log = certificates.path(&format!("{}.log", template.name));
        let path = |name: &str| certificates.path(name).display().to_string();
        let (user, group) = unprivileged();
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("getrlimit: {error}"))?.0;
        let values = [
            ("CONFIG", configuration.display().to_string()),
            ("MTLS_PORT", mtls_port.to_string()),
            ("TLS_PORT", tls_port.to_string()),
            ("RSA_PORT", rsa_port.to_string()),
            ("SNI_PORT", sni_port.to_string()),
            ("BACKEND_PORT", backend_port.to_string()),
            ("SERVER_PEM", path(file::SERVER)),
            ("SERVER_RSA_PEM", path(file::RSA_SERVER)),
            ("CERTIFICATES", path(file::HOSTS)),
            ("CA_PEM", path(file::CA)),
            ("CRL_PEM", path(file::CRL)),
            ("DIRECTORY", certificates.directory().display().to_string()),
            ("LOOPS", workload.loops.to_string()),
            ("SUITE", workload.offer.suite.tls13().to_owned()),
            ("MAXCONN", MAXCONN.min(descriptors.saturating_sub(SPARE_DESCRIPTORS) / 2).to_string()),
            ("USER", user),
            ("GROUP", group),
        ];
        let write =
            |path: &Path, text: &str| fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
        write(&configuration, &expand(&expand_hosts(&template.text, certificates.hosts()), &values)?)?;
        let output = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let arguments = template.start.iter().map(|word| expand(word, &values)).collect::<Result<Vec<_>, _>>()?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
        let tree = Tree::start(&mut command, cpus, own_cpu)?;
        let mut product = Self { tree, mtls_port, tls_port, rsa_port, sni_port };
        let mut ports = vec![mtls_port, tls_port, rsa_port];
        if !template.lacks(Feature::Sni) {
            ports.push(sni_port);
        }
        product.wait_until_listening(&ports).map_err(|error| format!("{error}{}", tail(&log)))?;
        Ok(product)
    }

    fn wait_until_listening(&mut self, ports: &[u16]) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        for &port in ports {
            while let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                if let Some(status) = self.tree.ended() {
                    return Err(format!("it ended at its start ({status})"));
                }
                if Instant::now() > deadline {
                    return Err(format!("it does not listen: {error}"));
                }
                pause(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| format!("\n    | {line}")).collect()
}

/// Ports that are free now. Nothing holds them until the product binds them; a collision shows as a product that does not start.
fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    // All are held until the last is found, so that none is found twice.
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Whom a product becomes: root gives it away, anybody else stays who they are.
fn unprivileged() -> (String, String) {
    if nix::unistd::geteuid().is_root() {
        return ("nobody".to_owned(), "nogroup".to_owned());
    }
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let group = nix::unistd::Group::from_gid(nix::unistd::getgid()).ok().flatten().map(|group| group.name);
    (user.unwrap_or_default(), group.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "#! program: relay\n#! start: -f @CONFIG@ -x\n#! version: -v\n#! note: one\n#! note: two\nlisten @TLS_PORT@\n";

    #[test]
    fn template_with_its_settings() {
        let template = Template::parse("relay.yaml", TEXT).unwrap();
        assert_eq!((template.name.as_str(), template.program.as_str()), ("relay", "relay"));
        assert_eq!(template.file, "relay.yaml");
        assert_eq!(template.start, ["-f", "@CONFIG@", "-x"]);
        assert_eq!(template.notes, ["one", "two"]);
        assert!(template.packages.is_empty() && template.files.is_empty() && template.pypi.is_none());
    }

    #[test]
    fn templates_that_lack_or_invent_settings_are_refused() {
        for missing in ["program", "start", "version"] {
            let text: String =
                TEXT.lines().filter(|line| !line.contains(missing)).map(|line| format!("{line}\n")).collect();
            assert!(Template::parse("relay", &text).unwrap_err().contains(missing));
        }
        assert!(Template::parse("relay", "#! prgram: x\n").unwrap_err().contains("prgram"));
        assert!(Template::parse("relay", "#! program\n").unwrap_err().contains("key: value"));
        assert!(Template::parse("relay", &format!("#! proxy: v3\n{TEXT}")).unwrap_err().contains("v3"));
        assert!(Template::parse("relay", &format!("#! lacks: sni tea\n{TEXT}")).unwrap_err().contains("tea"));
    }

    #[test]
    fn a_template_says_what_its_product_cannot_do() {
        let template = Template::parse("relay", &format!("#! lacks: loops\n#! proxy: v1\n{TEXT}")).unwrap();
        assert_eq!((template.proxy, Template::parse("relay", TEXT).unwrap().proxy), ("v1", "v2"));
        assert!(template.lacks(Feature::Loops) && !template.lacks(Feature::Sni));
    }

    #[test]
    fn the_line_of_a_certificate_is_repeated() {
        let hosts = ["/a.pem", "/b.pem"].map(PathBuf::from);
        assert_eq!(expand_hosts("x\n- @CERTIFICATE@\ny", &hosts), "x\n- /a.pem\n- /b.pem\ny");
        assert_eq!(expand_hosts("@CERTIFICATES@\n", &hosts), "@CERTIFICATES@\n");
    }

    #[test]
    fn placeholders_are_all_replaced_or_refused() {
        let values = [("A", "1".to_owned()), ("B_C", "2".to_owned())];
        assert_eq!(expand("x @A@ ipv4@ @B_C@", &values).unwrap(), "x 1 ipv4@ 2");
        assert!(expand("x @A@ @NOBODY@", &values).unwrap_err().contains("@NOBODY@"));
    }

    #[test]
    fn version_words() {
        assert_eq!(
            version_word("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/"),
            "2.6.12-1+deb12u4"
        );
        assert_eq!(version_word("nginx version: nginx/1.22.1"), "1.22.1");
        assert_eq!(version_word("hitch 1.7.2"), "1.7.2");
        assert_eq!(version_word("envoy  version: 5c1a9f/1.40.0/Clean/RELEASE/BoringSSL"), "1.40.0");
        assert_eq!(version_word(""), "(unknown version)");
    }

    #[test]
    fn shipped_templates_are_complete() {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let known = [
            "CONFIG",
            "MTLS_PORT",
            "TLS_PORT",
            "RSA_PORT",
            "SNI_PORT",
            "BACKEND_PORT",
            "SERVER_PEM",
            "SERVER_RSA_PEM",
            "CERTIFICATES",
            "CA_PEM",
            "CRL_PEM",
            "DIRECTORY",
            "LOOPS",
            "SUITE",
            "MAXCONN",
            "USER",
            "GROUP",
        ];
        let values = known.map(|name| (name, "1".to_owned()));
        let mut count = 0;
        for entry in fs::read_dir(peers).unwrap() {
            let template = Template::read(&entry.unwrap().path()).unwrap();
            expand(&expand_hosts(&template.text, &[PathBuf::from("host.pem")]), &values).unwrap();
            for listener in ["MTLS_PORT", "TLS_PORT", "RSA_PORT", "SNI_PORT"] {
                let expected = listener != "SNI_PORT" || !template.lacks(Feature::Sni);
                assert_eq!(template.text.contains(&format!("@{listener}@")), expected, "{}: {listener}", template.name);
            }
            template.start.iter().for_each(|word| _ = expand(word, &values).unwrap());
            count += 1;
        }
        assert!(count >= 6, "only {count} templates");
    }
}
