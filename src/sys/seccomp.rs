//! The system calls that a worker makes, and no other (seccomp(2)).
//!
//! Three kinds of call are treated differently:
//!
//! - What belongs to somebody who has broken in and to nobody else ([`DEADLY`]: executing a program, tracing, mounting) ends the
//!   process. The master starts another and says what happened: an attack is seen, and has one try.
//! - What libraries try and can do without is refused as a sandbox or an older kernel would ([`REFUSED`], [`TOO_NEW`]).
//! - Everything that is not on the list of [`needed`] calls does not exist (ENOSYS): libraries then do without it, as they
//!   would on an older kernel. A call that was forgotten on that list in some rare path must not cost every connection, so it does
//!   not end the process, except in a build for tests, where it has to be found.

use std::collections::BTreeMap;
use std::fmt;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Whether system calls are limited for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    /// To those that a worker needs.
    Limited,
    /// The kernel has no seccomp, or not for this kind of processor.
    Unlimited(String),
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited => f.write_str("system calls are limited to those it needs (seccomp)"),
            Self::Unlimited(reason) => write!(f, "system calls are not limited (seccomp: {reason})"),
        }
    }
}

type Call = libc::c_long;
type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Failure = Box<dyn std::error::Error>;

/// They end the process.
const DEADLY: &[Call] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_reboot,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Files: refused with EACCES, as by Landlock. The allocator would like to look at `/proc`, and a panic at the current
/// directory.
const REFUSED: &[Call] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_unlinkat,
    libc::SYS_getcwd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Not there, so that the C library takes the older call, whose arguments can be looked at.
const TOO_NEW: &[Call] = &[libc::SYS_clone3];

/// Allowed whatever their arguments are.
const ALLOWED: &[Call] = &[
    // Sockets and descriptors that are open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_splice,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_socketpair,
    libc::SYS_pipe2,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Clocks, chance, and what the process uses.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Limits this thread, and the threads that it starts, for good. To be called while one thread runs.
pub fn limit_system_calls() -> Calls {
    match programs().and_then(|programs| Ok(programs.iter().try_for_each(|program| apply_filter(program))?)) {
        Ok(()) => Calls::Limited,
        Err(error) => Calls::Unlimited(error.to_string()),
    }
}

/// What [`limit_system_calls`] would achieve, tried on a thread that ends at once.
pub fn support() -> Calls {
    let unknown = || Calls::Unlimited("it could not be tried".to_owned());
    std::thread::Builder::new()
        .spawn(limit_system_calls)
        .ok()
        .and_then(|thread| thread.join().ok())
        .unwrap_or_else(unknown)
}

/// In the order in which they are installed: after the last one, no other could be. Of what several programs answer the
/// kernel takes the strictest.
fn programs() -> Result<Vec<BpfProgram>, Failure> {
    let unlisted =
        if cfg!(debug_assertions) { SeccompAction::KillProcess } else { SeccompAction::Errno(libc::ENOSYS as u32) };
    let refused = SeccompAction::Errno(libc::EACCES as u32);
    let too_new = SeccompAction::Errno(libc::ENOSYS as u32);
    let mut deadly = always(DEADLY);
    // A new process, as opposed to a thread.
    deadly.insert(libc::SYS_clone, vec![when(&[(0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), 0)])?]);
    Ok(vec![
        program(deadly, SeccompAction::Allow, SeccompAction::KillProcess)?,
        program(always(REFUSED), SeccompAction::Allow, refused)?,
        program(always(TOO_NEW), SeccompAction::Allow, too_new)?,
        program(needed()?, unlisted, SeccompAction::Allow)?,
    ])
}

/// Every call that does not end the process: also those that an earlier program refuses, because the last word would be stricter.
fn needed() -> Result<Rules, Failure> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let mut rules = always(ALLOWED);
    rules.extend(always(REFUSED));
    rules.extend(always(TOO_NEW));
    let each = |call: Call, argument: u8, values: &[u64]| -> Result<(i64, Vec<SeccompRule>), Failure> {
        Ok((call, values.iter().map(|value| when(&[(argument, Eq, *value)])).collect::<Result<_, _>>()?))
    };
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].map(|family| family as u64);
    let own = u64::from(std::process::id());
    // Nothing that was written can be executed.
    let not_executable = [(2, MaskedEq(libc::PROT_EXEC as u64), 0)];
    rules.extend([
        each(libc::SYS_socket, 0, &families)?,
        each(libc::SYS_prctl, 0, &[libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64, PR_SET_VMA])?,
        each(libc::SYS_ioctl, 1, &[libc::FIONBIO, libc::FIONREAD, libc::TIOCOUTQ, libc::TCGETS])?,
        each(libc::SYS_tgkill, 0, &[own])?,
        // Its own limits.
        each(libc::SYS_prlimit64, 0, &[0])?,
        (libc::SYS_mmap, vec![when(&not_executable)?]),
        (libc::SYS_mprotect, vec![when(&not_executable)?]),
        (libc::SYS_clone, vec![when(&[(0, MaskedEq(libc::CLONE_THREAD as u64), libc::CLONE_THREAD as u64)])?]),
    ]);
    Ok(rules)
}

/// Names of anonymous memory, which newer C libraries give (prctl(2)).
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Whatever the arguments are.
fn always(calls: &[Call]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// If all of these hold: argument, comparison, value. The kernel takes the lower half of what is smaller than a register.
fn when(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, Failure> {
    let condition = |(argument, comparison, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, comparison.clone(), *value)
    };
    Ok(SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)?)
}

fn program(rules: Rules, otherwise: SeccompAction, listed: SeccompAction) -> Result<BpfProgram, Failure> {
    let processor = TargetArch::try_from(std::env::consts::ARCH)?;
    Ok(SeccompFilter::new(rules, otherwise, listed, processor)?.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn no_call_is_on_two_lists() {
        let lists = [DEADLY, REFUSED, TOO_NEW, ALLOWED];
        let distinct: BTreeSet<Call> = lists.concat().into_iter().collect();
        assert_eq!(distinct.len(), lists.iter().map(|list| list.len()).sum::<usize>());
        assert!(programs().unwrap().iter().all(|program| program.len() < 4096), "the kernel takes no more");
    }

    /// Set in the process that is to die.
    const VICTIM: &str = "BOWLINE_TEST_SECCOMP";

    #[test]
    fn who_executes_a_program_is_killed() {
        if std::env::var_os(VICTIM).is_some() {
            assert_eq!(limit_system_calls(), Calls::Limited);
            let _ = Command::new("true").status();
            return;
        }
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["--exact", "sys::seccomp::tests::who_executes_a_program_is_killed"]).env(VICTIM, "1");
        let status = victim.output().unwrap().status;
        if support() == Calls::Limited {
            assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
        }
    }

    /// The limits are those of a thread, so this one is spent on them and the other tests go on.
    #[test]
    fn files_are_closed_and_what_a_worker_does_goes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            if limit_system_calls() != Calls::Limited {
                return;
            }
            assert_eq!(std::fs::File::open("/dev/null").unwrap_err().kind(), ErrorKind::PermissionDenied);
            let mut client = TcpStream::connect(address).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.set_nonblocking(true).unwrap();
            client.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
            // Threads with names, memory from the system and back, randomness, a caught panic.
            let inner = std::thread::Builder::new().name("inner".into());
            let inner = inner.spawn(|| vec![7_u8; 64 << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>()).unwrap();
            assert_eq!(inner.join().unwrap(), 7 * (64 << 20));
            let mut random = [0; 32];
            aws_lc_rs::rand::fill(&mut random).unwrap();
            assert!(std::panic::catch_unwind(|| panic!("as it may happen")).is_err());
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        });
        thread.join().unwrap();
    }
}
