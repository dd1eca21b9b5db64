//! What a process may do: user and group, capabilities, new privileges, core files, the file system.

use std::fmt;
use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, RestrictionStatus, Ruleset, RulesetAttr, RulesetStatus,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{
    Gid, Group, Uid, User, chdir, chroot, getresgid, getresuid, mkdtemp, setgroups, setresgid, setresuid,
};

/// User and group that a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// `nobody`: who the worker is when root starts Bowline without `user`.
pub const NOBODY: Ids = Ids { uid: 65534, gid: 65534 };

impl Ids {
    /// Effective ids of this process.
    pub fn current() -> Self {
        Self { uid: Uid::effective().as_raw(), gid: Gid::effective().as_raw() }
    }
}

impl fmt::Display for Ids {
    /// `user bowline (997)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match User::from_uid(Uid::from_raw(self.uid)) {
            Ok(Some(user)) => write!(f, "user {} ({})", user.name, self.uid),
            _ => write!(f, "user {}", self.uid),
        }
    }
}

/// User id and primary group of a name or a decimal number; the group of a number that no user has is `None`.
///
/// # Errors
/// No such user, or the user database cannot be read.
pub fn find_user(name: &str) -> io::Result<(u32, Option<u32>)> {
    if let Some(user) = User::from_name(name)? {
        return Ok((user.uid.as_raw(), Some(user.gid.as_raw())));
    }
    let uid: u32 = name.parse().map_err(|_| io::Error::new(io::ErrorKind::NotFound, format!("no user '{name}'")))?;
    let group = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.gid.as_raw());
    Ok((uid, group))
}

/// Group id of a name or a decimal number.
///
/// # Errors
/// No such group, or the group database cannot be read.
pub fn find_group(name: &str) -> io::Result<u32> {
    if let Some(group) = Group::from_name(name)? {
        return Ok(group.gid.as_raw());
    }
    name.parse().map_err(|_| io::Error::new(io::ErrorKind::NotFound, format!("no group '{name}'")))
}

/// Becomes `ids` for good: no supplementary groups, all three user and group ids, and root out of reach.
/// A process that has no root anywhere and already is `ids` is left as it is.
///
/// # Errors
/// `ids` is root, a call was refused, or root could be regained afterwards. The caller must not go on then.
pub fn become_user(ids: Ids) -> io::Result<()> {
    if ids.uid == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "refusing to run as root"));
    }
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    let (users, groups) = (getresuid()?, getresgid()?);
    let is_there = users.real == uid && users.effective == uid && users.saved == uid && groups.effective == gid;
    if !is_there {
        setgroups(&[])?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
    }
    let users = getresuid()?;
    let gone = [users.real, users.effective, users.saved].iter().all(|&one| one == uid);
    let root = Uid::from_raw(0);
    if !gone || setresuid(root, root, root).is_ok() {
        return Err(io::Error::other("root could be regained after giving it up"));
    }
    Ok(())
}

/// Number of the capability to change the root directory (capabilities(7)).
pub const CAP_SYS_CHROOT: u32 = 18;

/// Whether this process has a capability, by its number, in its effective set.
pub fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set >> number & 1 == 1)
}

/// Keeps this process's memory, which holds keys, from core files and from other processes of the same user.
///
/// # Errors
/// As prctl(2) and setrlimit(2).
pub fn hide_memory() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Gives up everything that a process which parses hostile bytes does not need: capabilities, set-user-id programs,
/// core files and being traced (keys are in memory). To be called while one thread runs.
///
/// # Errors
/// The call that was refused. The caller must not go on then.
pub fn harden() -> io::Result<()> {
    super::clear_capabilities()?;
    prctl::set_no_new_privs()?;
    hide_memory()
}

/// Makes `directory` the root of this process's file system, and its current directory.
///
/// # Errors
/// As chroot(2): it takes CAP_SYS_CHROOT.
pub fn change_root(directory: &Path) -> io::Result<()> {
    chroot(directory)?;
    Ok(chdir("/")?)
}

/// Makes a directory without name and content the root: nothing can be made in it either.
///
/// # Errors
/// As chroot(2), or no temporary directory can be made.
pub fn change_root_to_nothing() -> io::Result<()> {
    let path = mkdtemp(&std::env::temp_dir().join("bowline-XXXXXX"))?;
    let entered = chdir(&path);
    std::fs::remove_dir(&path)?;
    entered?;
    chroot(".")?;
    Ok(())
}

/// Whether the file system is closed for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Every access that this version knows is refused.
    Full,
    /// An older kernel refuses what it knows.
    Partial,
    /// The kernel has no Landlock, or has it switched off.
    Absent,
    /// It did not work.
    Failed(String),
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no file can be opened (Landlock)"),
            Self::Partial => f.write_str("no file can be opened, as far as this kernel's Landlock goes"),
            Self::Absent => f.write_str("files are protected by permissions alone (this kernel has no Landlock)"),
            Self::Failed(reason) => write!(f, "files are protected by permissions alone (Landlock: {reason})"),
        }
    }
}

/// Refuses this thread, and the threads and processes it starts, to open, list, make or remove any file (landlock(7)).
///
/// Descriptors that are open stay usable, and connecting to a unix socket by its path stays possible: the accesses are those of
/// version 5, before connecting became one.
pub fn close_file_system() -> Sandbox {
    let outcome = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    match outcome {
        Ok(RestrictionStatus { ruleset: RulesetStatus::FullyEnforced, .. }) => Sandbox::Full,
        Ok(RestrictionStatus { ruleset: RulesetStatus::PartiallyEnforced, .. }) => Sandbox::Partial,
        Ok(_) => Sandbox::Absent,
        Err(error) => Sandbox::Failed(error.to_string()),
    }
}

/// What [`close_file_system`] would achieve, tried on a thread that ends at once.
pub fn sandbox_support() -> Sandbox {
    std::thread::spawn(close_file_system).join().unwrap_or(Sandbox::Absent)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn users_and_groups_by_name_and_number() {
        assert_eq!(find_user("root").unwrap(), (0, Some(0)));
        assert_eq!(find_user("0").unwrap(), (0, Some(0)));
        assert_eq!(find_user("4000000000").unwrap(), (4_000_000_000, None));
        assert!(find_user("no-such-user-here").is_err());
        assert!(find_user("-1").is_err());
        assert_eq!(find_group("root").unwrap(), 0);
        assert_eq!(find_group("12345").unwrap(), 12345);
        assert!(find_group("no-such-group-here").is_err());
    }

    #[test]
    fn root_is_refused() {
        assert!(become_user(Ids { uid: 0, gid: 0 }).is_err());
    }

    /// Landlock holds for a thread, so this one is spent on it and the other tests go on.
    #[test]
    fn a_closed_file_system_leaves_sockets_and_open_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let stream = folder.path().join("backend");
        let datagram = folder.path().join("log");
        let listener = UnixListener::bind(&stream).unwrap();
        let syslog = UnixDatagram::bind(&datagram).unwrap();
        let plain = folder.path().join("file");
        std::fs::write(&plain, b"key").unwrap();
        let open = File::open(&plain).unwrap();

        std::thread::spawn(move || {
            let sandbox = close_file_system();
            let refused = matches!(sandbox, Sandbox::Full | Sandbox::Partial);
            assert_eq!(File::open(&plain).is_err(), refused, "{sandbox:?}");
            assert_eq!(File::create(plain.with_extension("new")).is_err(), refused);
            assert_eq!(std::fs::read_dir("/").is_err(), refused);
            assert_eq!(std::io::read_to_string(open).unwrap(), "key");
            UnixStream::connect(&stream).unwrap();
            UnixDatagram::unbound().unwrap().send_to(b"<6>line", &datagram).unwrap();
        })
        .join()
        .unwrap();

        listener.accept().unwrap();
        let mut line = [0; 16];
        assert_eq!(syslog.recv(&mut line).unwrap(), 7);
    }
}
