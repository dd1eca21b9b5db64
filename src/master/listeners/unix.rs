//! Unix sockets with a path: bound with their owner and mode, and removed with the last use.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, umask};

use super::owner;
use crate::conf::model::UnixPermissions;

/// The path of a unix socket, removed when dropped unless something else stands there by then.
#[derive(Debug)]
pub(super) struct SocketName {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketName {
    /// The socket that stands there.
    ///
    /// # Errors
    /// Something else does, or nothing.
    pub(super) fn find(path: &Path) -> io::Result<Self> {
        let metadata = path.symlink_metadata()?;
        if !metadata.file_type().is_socket() {
            return Err(io::Error::other("something that is no socket stands there"));
        }
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// Opened without following a link and compared first: something else may stand at the path by now.
    pub(super) fn change_permissions(&self, wanted: &UnixPermissions) -> io::Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = std::fs::File::from(nix::fcntl::open(&self.path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != (self.device, self.inode) {
            return Err(io::Error::other("something else stands at its path"));
        }
        let (user, group) = owner(wanted)?;
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        if user.is_some() || group.is_some() {
            std::os::unix::fs::chown(&opened, user, group)?;
        }
        match wanted.mode {
            Some(mode) => std::fs::set_permissions(&opened, std::fs::Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }
}

impl Drop for SocketName {
    fn drop(&mut self) {
        let ours = |metadata: &std::fs::Metadata| metadata.dev() == self.device && metadata.ino() == self.inode;
        if self.path.symlink_metadata().is_ok_and(|metadata| ours(&metadata)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds beside the path and renames over it, so that the path has its owner and mode from the first moment, and an old
/// socket that nobody listens on is replaced.
pub(super) fn bind_unix(path: &Path, permissions: &UnixPermissions, backlog: i32) -> io::Result<(OwnedFd, SocketName)> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::other("something that is no socket stands there"));
        }
        Ok(_) if !is_stale(path)? => return Err(io::Error::other("already in use by another process")),
        _ => {}
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let _ = std::fs::remove_file(&temporary);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new(&temporary).map_err(|_| io::Error::other("the path is too long for a unix socket"))?;
    bind_with_mode(&socket, &address, permissions.mode)?;

    let metadata = temporary.symlink_metadata()?;
    let mut name = SocketName { path: temporary.clone(), device: metadata.dev(), inode: metadata.ino() };
    let (user, group) = owner(permissions)?;
    if user.is_some() || group.is_some() {
        lchown(&temporary, user, group)?;
    }
    socket::listen(&socket, Backlog::new(backlog)?)?;
    std::fs::rename(&temporary, path)?;
    name.path = path.to_owned();
    Ok((socket, name))
}

/// By the file mode creation mask: chmod(2) follows a link that somebody may put in the place of the path meanwhile.
fn bind_with_mode(socket: &OwnedFd, address: &UnixAddr, mode: Option<u32>) -> io::Result<()> {
    let usual = mode.map(|mode| umask(Mode::from_bits_truncate(!mode & 0o777)));
    let bound = socket::bind(socket.as_raw_fd(), address);
    usual.map(umask);
    Ok(bound?)
}

/// Whether the process that made this socket has gone. Asked without waiting: a process that accepts nothing must not stop
/// the master.
fn is_stale(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => Ok(true),
        // EAGAIN: its queue is full.
        Ok(()) | Err(Errno::EAGAIN) => Ok(false),
        Err(Errno::EPROTOTYPE) => Err(io::Error::other("a socket of another kind stands there")),
        Err(error) => Err(error.into()),
    }
}
