//! Other people's servers behind Bowline: proof that they read its headers.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::bowline::Log;
use super::ports::Port;
use super::{DEADLINE, eventually};

/// A running server of somebody else's.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: Log,
    address: SocketAddr,
    _kept: (Port, TempDir),
}

/// Says whether the tests against other programs are to be left out: `BOWLINE_SKIP_PEERS=1`. Without it a missing program fails
/// its test, because a test that skips itself in silence proves nothing.
pub(crate) fn skipped() -> bool {
    std::env::var_os("BOWLINE_SKIP_PEERS").is_some_and(|value| value == "1")
}

impl Server {
    #[track_caller]
    fn start(program: &str, file: &str, content: &str, arguments: &[&str]) -> Self {
        Self::start_at(program, file, content, arguments, None)
    }

    /// As [`Server::start`]; `elsewhere`: it listens there, not at `{address}`.
    #[track_caller]
    fn start_at(program: &str, file: &str, content: &str, arguments: &[&str], elsewhere: Option<SocketAddr>) -> Self {
        let dir = TempDir::new().expect("a directory");
        let port = Port::reserve();
        let fill = |text: &str| {
            let (ip, number) = (port.address().ip(), port.address().port());
            let hitch = format!("[{ip}]:{number}");
            let text = text.replace("{ip}", &ip.to_string()).replace("{port}", &number.to_string());
            let text = text.replace("{dir}", dir.path().to_str().expect("UTF-8")).replace("{hitch-address}", &hitch);
            text.replace("{address}", &port.address().to_string())
        };
        fs::write(dir.path().join(file), fill(content)).expect("a configuration");
        let mut child = Command::new(program)
            .args(arguments.iter().map(|word| fill(word)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}. Install it, or set BOWLINE_SKIP_PEERS=1"));
        let log = Log::default();
        log.capture(child.stdout.take().expect("a pipe"));
        log.capture(child.stderr.take().expect("a pipe"));
        let address = elsewhere.unwrap_or(port.address());
        let mut server = Self { child, log, address, _kept: (port, dir) };
        eventually(&format!("{program} that listens"), DEADLINE, || {
            if let Some(status) = server.child.try_wait().expect("a child") {
                server.log.wait_end();
                panic!("{program} ended: {status}\n{}", server.log.text());
            }
            TcpStream::connect(server.address).is_ok()
        });
        server
    }

    /// HAProxy with `accept-proxy`: answers HTTP requests with `address:port authority`.
    #[track_caller]
    pub(crate) fn haproxy() -> Self {
        let config = "\
global
    maxconn 64
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend fe
    bind {address} accept-proxy
    http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port] %[fc_pp_authority]\"
";
        let arguments = ["-db", "-q", "-f", "{dir}/haproxy.cfg"];
        Self::start("haproxy", "haproxy.cfg", config, &arguments)
    }

    /// HAProxy with this configuration, ready as soon as somebody takes connections at `address`.
    #[track_caller]
    pub(crate) fn haproxy_at(config: &str, address: SocketAddr) -> Self {
        let arguments = ["-db", "-q", "-f", "{dir}/haproxy.cfg"];
        Self::start_at("haproxy", "haproxy.cfg", config, &arguments, Some(address))
    }

    /// nginx stream with `proxy_protocol`: answers `address:port` to everyone.
    #[track_caller]
    pub(crate) fn nginx() -> Self {
        let config = "\
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log stderr;
events {}
stream {
    server {
        listen {address} proxy_protocol;
        return \"$proxy_protocol_addr:$proxy_protocol_port\\n\";
    }
}
";
        let arguments = ["-p", "{dir}", "-e", "stderr", "-c", "{dir}/nginx.conf"];
        Self::start("nginx", "nginx.conf", config, &arguments)
    }

    /// Varnish on a PROXY port: answers HTTP requests with what its `proxy` module read.
    #[track_caller]
    pub(crate) fn varnish() -> Self {
        let vcl = "\
vcl 4.1;
import std;
import proxy;
backend default none;
sub vcl_recv { return (synth(200, \"seen\")); }
sub vcl_synth {
    synthetic(client.ip + \":\" + std.port(client.ip) + \" authority=\" + proxy.authority()
        + \" ssl=\" + proxy.is_ssl() + \" version=\" + proxy.ssl_version()
        + \" cn=\" + proxy.client_cert_cn() + \" verify=\" + proxy.ssl_verify_result()
        + \" cert=\" + proxy.client_has_cert_conn());
    return (deliver);
}
";
        let arguments = [
            "-F",
            "-n",
            "{dir}/varnish",
            "-a",
            "{address},PROXY",
            "-s",
            "malloc,16m",
            "-j",
            "none",
            "-f",
            "{dir}/seen.vcl",
        ];
        Self::start("varnishd", "seen.vcl", vcl, &arguments)
    }

    /// Hitch with this configuration, in which `{address}` is where it listens, in Hitch's form.
    #[track_caller]
    pub(crate) fn hitch(config: &str) -> Self {
        let config = config.replace("{address}", "{hitch-address}");
        Self::start("hitch", "hitch.conf", &config, &["--config={dir}/hitch.conf"])
    }

    /// HAProxy with a configuration in which `{address}` is where it listens.
    #[track_caller]
    pub(crate) fn haproxy_with(config: &str) -> Self {
        Self::start("haproxy", "haproxy.cfg", config, &["-db", "-f", "{dir}/haproxy.cfg"])
    }

    /// What it printed.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // varnishd has a child that would outlive a killed parent; all three end at once on SIGTERM.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < end {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the backend's log ---\n{}\n---", self.log.text());
        }
    }
}
