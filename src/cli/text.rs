//! Help and versions.

use crate::sys::privileges;

/// `--help`
pub(super) const HELP: &str = "\
Bowline terminates TLS, verifies client certificates and tells the backend who
is there with a PROXY protocol header. It reads the language of HAProxy.

Usage: bowline [-f FILE]... [OPTION]...
       bowline -c [-f FILE]...
       bowline demo [--port N]
       bowline hitch [OPTION]... [PEM]...

Configuration
  -f FILE          read FILE, or every *.cfg of a directory; may be repeated
                   (without it: /etc/bowline/bowline.cfg)
  -C DIR           change to DIR first
  -n CONNECTIONS   instead of 'maxconn' of the global section
  -c               check the configuration and all files it names, then exit;
                   the exit code is 1 if there are errors
  -dW              refuse a configuration that has warnings

Process
  -D               go into the background when the service is up
  -db              stay in the foreground, even with 'daemon'
  -p PIDFILE       instead of 'pidfile' of the global section
  -V               say more (with -c: what would be in force)
  -q               say errors only (with -c: nothing)

Other
  hitch            run Hitch's command line and hitch.conf; with --dump, print
                   the same in HAProxy's language ('bowline hitch --help')
  demo             try it: certificates, an echo backend and a listener
  -v, -vv          version; with those of the libraries and the sandbox
  -h, --help       this text
  --help-keywords  every keyword of the configuration

Signals: HUP reads everything again and changes nothing if there is an error.
USR1, TERM and INT stop accepting and wait for open connections, for
'hard-stop-after' at most; a second TERM or INT cuts them.

Options of HAProxy that mean nothing here (-W, -Ws, -sf, -st, -x, -S, -L, -m)
are accepted with a notice.
";

/// What was built in, with versions.
const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));

/// `-v`
pub(super) fn version() -> String {
    format!("bowline {}\n", env!("CARGO_PKG_VERSION"))
}

/// `-vv`
pub(super) fn versions() -> String {
    let mut text = version();
    for library in ["rustls", "rustls-webpki", "aws-lc-rs", "aws-lc-sys", "mio"] {
        text.push_str(&format!("  {library:14} {}\n", locked_version(LOCK, library).unwrap_or("?")));
    }
    text.push_str(&format!("  {:14} {}\n", "sandbox", privileges::sandbox_support()));
    text
}

fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_build() {
        assert!(locked_version(LOCK, "rustls").unwrap().starts_with("0.23."));
        assert!(!versions().contains('?'), "{}", versions());
        assert_eq!(locked_version(LOCK, "no-such-crate"), None);
    }

    #[test]
    fn help_fits_a_terminal() {
        assert!(HELP.lines().all(|line| line.len() <= 80));
    }
}
