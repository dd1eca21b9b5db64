//! [`Material`]: the configuration and the bytes of everything it names. The master collects it, the worker builds from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::conf::hitch::Lowered;
use crate::conf::model::{BindAddress, LogSink};

/// All that a generation is built from. Building is a pure function of it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Material {
    /// Counts adopted configurations, from 1.
    pub generation: u64,
    /// When it was read, in seconds since 1970: what is expired is judged by this when it is built, so what could be adopted
    /// once can be adopted again by a worker that takes the place of a crashed one.
    pub read_at: u64,
    /// The configuration files in order: name as the operator gave it, and text.
    pub sources: Vec<(String, Vec<u8>)>,
    /// What the sources mean in HAProxy's language, where they are Hitch's.
    pub lowered: Option<Lowered>,
    /// The master's environment variables that the text may name.
    pub environment: BTreeMap<String, String>,
    /// Files and directories that the configuration names.
    pub files: Files,
    /// Most connections of the process: `-n`, else `maxconn` of `global`, else what the descriptor limit carries.
    pub maxconn: u32,
    /// The name of this machine, for `log-send-hostname`.
    pub host: String,
    /// Host names of `server` lines as (host, port): resolved addresses, best first.
    pub names: BTreeMap<(String, u16), Vec<SocketAddr>>,
}

/// What was read, by the path that the model names.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Files {
    /// What stands at each path.
    pub entries: BTreeMap<PathBuf, Entry>,
}

/// What stands at a path.
#[derive(Clone, Serialize, Deserialize)]
pub enum Entry {
    /// A file.
    File(FileBytes),
    /// A directory: names of its regular files, sorted bytewise. Each file has its own entry.
    Directory(Vec<String>),
    /// It could not be read: the reason in the words of the system.
    Unreadable(String),
}

/// A file's content and what its permissions say.
#[derive(Clone, Serialize, Deserialize)]
pub struct FileBytes {
    /// The content.
    pub bytes: Vec<u8>,
    /// Permission bits, for the warning about world-readable keys.
    pub mode: u32,
}

impl Drop for FileBytes {
    /// Most of these are private keys: they do not outlive their use in freed memory.
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Files {
    /// What stands at `path`; a path that was never collected reads as missing.
    pub fn entry(&self, path: &Path) -> Option<&Entry> {
        self.entries.get(path)
    }
}

/// Key of a log target whose descriptor comes from the master.
pub type LogKey = LogSink;

/// Key of a listener: two `bind` addresses with the same key share the open sockets across reloads.
pub type ListenerKey = BindAddress;
