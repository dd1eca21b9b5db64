//! What this process uses, for monitoring. `/proc` cannot be opened any more once the sandbox is closed, so what is read
//! there is opened before.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::Mode;
use nix::sys::time::TimeVal;
use nix::unistd::{SysconfVar, sysconf};

/// Files of `/proc/self` that stay open. What could not be opened is not told.
#[derive(Debug)]
pub struct Usage {
    /// `statm`: pages.
    memory: Option<File>,
    /// `fd`: a name for each open descriptor.
    descriptors: Option<Mutex<Dir>>,
}

/// Memory of the process in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Address space.
    pub total: u64,
    /// What of it is in memory.
    pub resident: u64,
}

impl Usage {
    /// Opens what can be opened.
    pub fn open() -> Self {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Self {
            memory: File::open("/proc/self/statm").ok(),
            descriptors: Dir::open("/proc/self/fd", flags, Mode::empty()).ok().map(Mutex::new),
        }
    }

    /// Memory in use.
    pub fn memory(&self) -> Option<Memory> {
        let mut text = [0; 128];
        let read = self.memory.as_ref()?.read_at(&mut text, 0).ok()?;
        let page = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
        let mut pages = std::str::from_utf8(&text[..read]).ok()?.split_ascii_whitespace().map(str::parse::<u64>);
        let (total, resident) = (pages.next()?.ok()?, pages.next()?.ok()?);
        Some(Memory { total: total * page, resident: resident * page })
    }

    /// Descriptors that are open.
    pub fn descriptors(&self) -> Option<u64> {
        let mut folder = self.descriptors.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for entry in folder.iter() {
            // `.` and `..` are none.
            count += u64::from(!entry.ok()?.file_name().to_bytes().starts_with(b"."));
        }
        Some(count)
    }
}

/// Processor time of this process so far, in user and in system mode together.
pub fn processor_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let time = |value: TimeVal| {
        let seconds = Duration::from_secs(u64::try_from(value.tv_sec()).unwrap_or_default());
        seconds + Duration::from_micros(u64::try_from(value.tv_usec()).unwrap_or_default())
    };
    Some(time(usage.user_time()) + time(usage.system_time()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::privileges;

    /// Landlock holds for a thread, so this one is spent on it.
    #[test]
    fn usage_is_told_after_the_file_system_is_closed() {
        std::thread::spawn(|| {
            let usage = Usage::open();
            privileges::close_file_system();
            let memory = usage.memory().unwrap();
            assert!(memory.resident > 1 << 20 && memory.total >= memory.resident, "{memory:?}");
            // Other tests open and close some meanwhile.
            let before = usage.descriptors().unwrap();
            let many: Vec<_> = (0..2000).map(|_| std::os::unix::net::UnixDatagram::unbound().unwrap()).collect();
            let between = usage.descriptors().unwrap();
            assert!(between >= before + 1500, "{before}, then {between}");
            drop(many);
            assert!(usage.descriptors().unwrap() <= between - 1500);
            assert!(processor_time().unwrap() > Duration::ZERO);
        })
        .join()
        .unwrap();
    }
}
