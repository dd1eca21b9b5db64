//! A fresh folder for keys: nobody else may look into it, and it goes away with its owner.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder; removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes a folder with a new name in `parent`, mode 0700.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        for _ in 0..100 {
            let mut random = [0; 6];
            aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random bytes"))?;
            let suffix = random.map(|byte| format!("{byte:02x}")).concat();
            let path = parent.join(format!("bowline-demo-{suffix}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a new file, mode 0600.
    pub(super) fn write(&self, name: &str, content: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.file(name))?;
        file.write_all(content.as_bytes())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("bowline demo: cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn nobody_else_may_look_and_nothing_stays() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::create(parent.path()).unwrap();
        folder.write("key.pem", "secret").unwrap();
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.file("key.pem")), 0o600);
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_never_written_over() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::create(parent.path()).unwrap();
        folder.write("key.pem", "first").unwrap();
        assert_eq!(folder.write("key.pem", "second").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(folder.file("key.pem")).unwrap(), "first");
    }

    #[test]
    fn a_missing_parent_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        assert_eq!(Folder::create(&parent.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
