//! What client and backend say to each other behind the PROXY header, and what both say to the runner.
//!
//! The first byte of a connection decides: [`UPLOAD`] and [`DOWNLOAD`] are followed by a length (u64, big-endian), and after the
//! transfer comes another such request; any other byte is echoed, and so is every byte after it.

use std::io::Write;

/// The client sends so many bytes of the pattern; the backend answers with the number it has seen, eight bytes, big-endian.
pub(crate) const UPLOAD: u8 = b'u';
/// The backend sends so many bytes of the pattern.
pub(crate) const DOWNLOAD: u8 = b'd';

/// After so many errors a measurement is given up: it is void anyway.
pub(crate) const ERROR_LIMIT: usize = 20;

/// What an answer to the runner says.
pub(crate) type Values = Vec<(&'static str, String)>;

/// The answer to one command of the runner: lines `error …`, then one line `done key=value …`.
pub(crate) fn answer(errors: &[String], values: &[(&str, String)]) {
    let mut text = String::new();
    for error in errors {
        text.push_str(&format!("error {}\n", error.replace('\n', " ")));
    }
    text.push_str("done");
    for (key, value) in values {
        text.push_str(&format!(" {key}={value}"));
    }
    text.push('\n');
    let mut out = std::io::stdout().lock();
    // A runner that is gone closes standard input too, and that ends this process.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
