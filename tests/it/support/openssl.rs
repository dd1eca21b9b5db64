//! `openssl s_client`: a client that does what rustls refuses to do.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::bowline::Log;
use super::{DEADLINE, eventually};

/// A running `openssl s_client`.
#[derive(Debug)]
pub(crate) struct SClient {
    child: Child,
    input: Option<ChildStdin>,
    /// What it printed, both streams.
    pub(crate) log: Log,
}

impl SClient {
    /// Connects with these further arguments.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr, arguments: &[&str]) -> Self {
        let address = address.to_string();
        let arguments = [&["-connect", address.as_str()][..], arguments].concat();
        Self::start(&arguments)
    }

    /// Runs `openssl s_client` with these arguments.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .arg("s_client")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is installed");
        let log = Log::default();
        log.capture(child.stdout.take().expect("a pipe"));
        log.capture(child.stderr.take().expect("a pipe"));
        let input = child.stdin.take();
        Self { child, input, log }
    }

    /// Types a line.
    #[track_caller]
    pub(crate) fn type_line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("still open");
        writeln!(input, "{line}").expect("s_client reads");
    }

    /// Ends its input.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Waits for its end; the exit code.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("end of openssl s_client", DEADLINE, || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        self.log.wait_end();
        status.and_then(|status| status.code())
    }
}

impl Drop for SClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- openssl s_client ---\n{}\n---", self.log.text());
        }
    }
}
