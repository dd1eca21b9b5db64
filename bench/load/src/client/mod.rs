//! `bowline-load client`: the TLS clients in front of a product. Three kinds of load, each steered by lines on standard input.

pub(crate) mod bulk;
pub(crate) mod connection;
pub(crate) mod handshakes;
pub(crate) mod hold;

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::wire::ERROR_LIMIT;

/// `key=value` arguments of a client.
pub(crate) struct Arguments(BTreeMap<String, String>);

impl Arguments {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        words
            .map(|word| match word.split_once('=') {
                Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
                None => Err(format!("'{word}' is not key=value")),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, String> {
        self.0.get(key).map(String::as_str).ok_or_else(|| format!("{key}=… is missing"))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, String> {
        let text = self.text(key)?;
        text.parse().map_err(|_| format!("{key}={text} is not a number in range"))
    }

    /// Where [`crate::certificates`] put its files.
    pub(crate) fn directory(&self) -> Result<PathBuf, String> {
        self.text("certificates").map(PathBuf::from)
    }
}

/// The next command of the runner; `None`: it wants no more.
pub(crate) fn command() -> Option<String> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(count) if count > 0 => Some(line.trim().to_owned()),
        _ => None,
    }
}

/// Errors of several threads. More than [`ERROR_LIMIT`] of them end the work.
#[derive(Default)]
pub(crate) struct Errors {
    list: Mutex<Vec<String>>,
    enough: AtomicBool,
}

impl Errors {
    pub(crate) fn push(&self, error: String) {
        let mut list = self.list.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if list.len() < ERROR_LIMIT {
            list.push(format!("client: {error}"));
        } else {
            self.enough.store(true, Ordering::Relaxed);
        }
    }

    /// Whether to give up.
    pub(crate) fn enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.list.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
