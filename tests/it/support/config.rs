//! Writes configurations. Ports are names here; a [`Site`] gives each name a port of its own.

use std::net::SocketAddr;

use super::bowline::Site;

/// A configuration: one `frontend`/`backend` pair by default, with short timeouts, logging to stderr.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    global: Vec<String>,
    timeouts: Vec<(String, String)>,
    frontends: Vec<Section>,
    backends: Vec<Section>,
}

#[derive(Clone, Debug)]
struct Section {
    name: String,
    lines: Vec<String>,
}

impl Section {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), lines: Vec::new() }
    }
}

impl Config {
    /// `frontend fe` and `backend be`, still without `bind` and `server`.
    pub(crate) fn new() -> Self {
        let mut global = vec!["log stderr format raw local0".to_owned()];
        if nix::unistd::geteuid().is_root() {
            global.push("user nobody".to_owned());
            global.push("group nogroup".to_owned());
        }
        let timeouts = [("connect", "5s"), ("client", "60s"), ("server", "60s"), ("client-hs", "10s")];
        let mut front = Section::new("fe");
        front.lines.push("default_backend be".to_owned());
        Self {
            global,
            timeouts: timeouts.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            frontends: vec![front],
            backends: vec![Section::new("be")],
        }
    }

    /// A line of `global`.
    pub(crate) fn global(mut self, line: &str) -> Self {
        self.global.push(line.to_owned());
        self
    }

    /// `timeout <name> <value>`, replacing what [`Config::new`] set.
    pub(crate) fn timeout(mut self, name: &str, value: &str) -> Self {
        self.timeouts.retain(|(other, _)| other != name);
        self.timeouts.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of the current frontend, `option accept-tls-eof` say.
    pub(crate) fn frontend_line(mut self, line: &str) -> Self {
        self.last_frontend().lines.push(line.to_owned());
        self
    }

    /// A `bind` line of the current frontend on the port called `name`. In `parameters`, `{dir}` is the site's directory.
    pub(crate) fn bind(mut self, name: &str, parameters: &str) -> Self {
        self.last_frontend().lines.push(format!("bind {{port:{name}}} name {name} {parameters}"));
        self
    }

    /// The usual `bind` line of a listener that knows nobody: `main`, the shared server certificate, no client certificates.
    pub(crate) fn bind_tls(self, more: &str) -> Self {
        self.bind("main", &format!("ssl crt {{dir}}/server.pem {more}"))
    }

    /// The usual `bind` line of a listener that demands a certificate of the shared client CA.
    pub(crate) fn bind_mtls(self, more: &str) -> Self {
        self.bind_tls(&format!("ca-file {{dir}}/ca.pem verify required {more}"))
    }

    /// A further frontend with a backend of its own (where lines go to from here on): `NAME` and `NAME-be`.
    pub(crate) fn pair(mut self, name: &str) -> Self {
        let backend = format!("{name}-be");
        let mut section = Section::new(name);
        section.lines.push(format!("default_backend {backend}"));
        self.frontends.push(section);
        self.backends.push(Section::new(&backend));
        self
    }

    /// `server s <address> <parameters>`.
    pub(crate) fn server(self, address: SocketAddr, parameters: &str) -> Self {
        self.server_line(&format!("server s {address} {parameters}"))
    }

    /// A whole line of `backend be`.
    pub(crate) fn server_line(mut self, line: &str) -> Self {
        self.backends.last_mut().expect("a backend").lines.push(line.to_owned());
        self
    }

    fn last_frontend(&mut self) -> &mut Section {
        self.frontends.last_mut().expect("a frontend")
    }

    /// The text, with the ports and the directory of `site`.
    pub(crate) fn render(&self, site: &Site) -> String {
        let mut text = String::from("global\n");
        for line in &self.global {
            text.push_str(&format!("    {line}\n"));
        }
        text.push_str("\ndefaults\n    mode tcp\n    log global\n    option tcplog\n");
        for (name, value) in &self.timeouts {
            text.push_str(&format!("    timeout {name} {value}\n"));
        }
        for (kind, sections) in [("frontend", &self.frontends), ("backend", &self.backends)] {
            for section in sections {
                text.push_str(&format!("\n{kind} {}\n", section.name));
                for line in &section.lines {
                    text.push_str(&format!("    {line}\n"));
                }
            }
        }
        site.fill_in(&text)
    }
}
