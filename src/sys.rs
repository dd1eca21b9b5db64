//! The operating system: ids, limits, affinity, descriptors between processes, the sandbox.
//!
//! The only module that may hold `unsafe`; each block says why it is sound.

pub mod descriptors;
mod inherited;
pub mod limits;
pub mod privileges;
pub mod seccomp;
pub mod usage;

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::unistd::{ForkResult, Pid};

pub use inherited::Inherited;

/// What went wrong in the system's words, without its number: the number says nothing to an operator.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Takes over a descriptor that came into this process and that nothing else knows: by SCM_RIGHTS, or from the program that was
/// executed before.
#[expect(unsafe_code, reason = "a descriptor by number, or a call that no crate of ours has in a safe form")]
fn own_received(descriptor: RawFd) -> OwnedFd {
    // SAFETY: `recvmsg` or execve(2) made the descriptor for the caller, who hands over each number exactly once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// A close-on-exec duplicate of a descriptor by number.
///
/// # Errors
/// It is not open.
#[expect(unsafe_code, reason = "a descriptor by number, or a call that no crate of ours has in a safe form")]
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from(Errno::EBADF));
    }
    // SAFETY: the borrow lasts for one `fcntl(F_DUPFD_CLOEXEC)`, which answers EBADF for a number that is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    descriptor.try_clone_to_owned()
}

/// Sets the flags of a descriptor by number.
///
/// # Errors
/// It is not open.
#[expect(unsafe_code, reason = "a descriptor by number, or a call that no crate of ours has in a safe form")]
fn set_flags(number: RawFd, flags: FdFlag) -> io::Result<()> {
    // SAFETY: the borrow lasts for one `fcntl(F_SETFD)`, which answers EBADF for a number that is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(descriptor, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Which side of [`fork`] this is.
pub enum Forked {
    /// The process that was started by the operator; the other one has this id.
    Parent(Pid),
    /// The process that goes on in the background.
    Child,
}

/// `fork(2)`.
///
/// # Errors
/// More than one thread runs (a forked child may then hold locks that nobody releases), or the system's reason.
#[expect(unsafe_code, reason = "a descriptor by number, or a call that no crate of ours has in a safe form")]
pub fn fork() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("cannot fork: more than one thread runs"));
    }
    // SAFETY: this process has one thread, so the child may go on using the allocator and everything else.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// Header of capset(2), `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// One 32-bit half of the three sets, `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: 64 capabilities in two halves.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Empties the effective, permitted and inheritable sets of this thread, and with them the ambient set (capabilities(7)).
///
/// # Errors
/// The system's reason; giving up capabilities is always allowed, so none is expected.
#[expect(unsafe_code, reason = "a descriptor by number, or a call that no crate of ours has in a safe form")]
pub fn clear_capabilities() -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [CapabilityHalf::default(); 2];
    // SAFETY: both pointers are to live values of the layout that version 3 of the call reads; it writes to neither
    // (the version is one that the kernel knows).
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes capabilities out of the bounding set, so that no program that this process executes could ever have them. Returns
/// whether all are gone; it takes CAP_SETPCAP.
#[expect(unsafe_code, reason = "a descriptor by number, or a call that no crate of ours has in a safe form")]
pub fn drop_bounding_capabilities() -> bool {
    /// More than any kernel has; the call refuses the first that is too high with EINVAL.
    const CAPABILITIES_MAX: libc::c_ulong = 64;
    for capability in 0..CAPABILITIES_MAX {
        // SAFETY: the call takes numbers only.
        let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if answer != 0 {
            return Errno::last() == Errno::EINVAL;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective_capabilities() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned()
    }

    #[test]
    fn capabilities_are_gone_afterwards() {
        // Capabilities belong to a thread: the other tests keep theirs.
        let after = std::thread::spawn(|| {
            clear_capabilities().unwrap();
            effective_capabilities()
        });
        assert_eq!(after.join().unwrap(), "0000000000000000");
    }

    #[test]
    fn fork_is_refused_when_threads_run() {
        // The test harness itself is a second thread.
        let (_keep, wait) = std::sync::mpsc::channel::<()>();
        let second = std::thread::spawn(move || wait.recv().is_err());
        assert!(fork().is_err());
        drop(_keep);
        assert!(second.join().unwrap());
    }
}
