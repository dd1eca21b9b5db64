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
    #[serde(with = "whole")]
    pub bytes: Vec<u8>,
    /// Permission bits, for the warning about world-readable keys.
    pub mode: u32,
}

/// Bytes as one piece, not as a list of numbers, which takes a hundred times as long.
mod whole {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_encoded_as_its_length_and_its_bytes() {
        let file = FileBytes { bytes: vec![0xff; 300], mode: 0o600 };
        let encoded = postcard::to_stdvec(&file).unwrap();
        assert_eq!(encoded[..2], [0xac, 0x02], "300 as postcard writes it, as it would for a list of numbers");
        assert_eq!(encoded.len(), 2 + 300 + 2);
        let decoded: FileBytes = postcard::from_bytes(&encoded).unwrap();
        assert_eq!((&decoded.bytes, decoded.mode), (&file.bytes, 0o600));
        assert!(postcard::from_bytes::<FileBytes>(&encoded[..100]).is_err());
    }
}
