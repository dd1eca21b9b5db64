//! Descriptor limit and CPUs.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// Descriptors that are neither a connection nor a listener: logs, epoll, wakers, control sockets, standard streams.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Most descriptors that are used when the limit is higher or infinite: HAProxy's default of `fd-hard-limit` (manual, 3.1).
pub const DESCRIPTORS_CEILING: u64 = 1 << 20;

/// Soft and hard limit of open descriptors (RLIMIT_NOFILE).
///
/// # Errors
/// As getrlimit(2).
pub fn descriptors() -> io::Result<(u64, u64)> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?)
}

/// Descriptors that `connections` and `listeners` need: a client and a backend socket each, and the reserve.
pub fn descriptors_needed(connections: u32, listeners: usize) -> u64 {
    u64::from(connections) * 2 + listeners as u64 + DESCRIPTORS_RESERVED
}

/// Connections that `descriptors` carry beside the listeners.
pub fn connections_carried(descriptors: u64, listeners: usize) -> u32 {
    let free = descriptors.saturating_sub(listeners as u64 + DESCRIPTORS_RESERVED);
    u32::try_from(free / 2).unwrap_or(u32::MAX)
}

/// Which limit may be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raise {
    /// The soft one, up to the hard one: what a process that runs already can do too.
    Soft,
    /// Also the hard one, which takes root. Only processes started afterwards have it.
    Hard,
}

/// Raises the soft limit so that `needed` descriptors can be opened. Returns the one that holds now, which may be lower.
///
/// # Errors
/// The limit cannot be read.
pub fn raise_descriptors(needed: u64, raise: Raise) -> io::Result<u64> {
    let (soft, hard) = descriptors()?;
    if needed <= soft {
        return Ok(soft);
    }
    if needed > hard && raise == Raise::Hard && setrlimit(Resource::RLIMIT_NOFILE, needed, needed).is_ok() {
        return Ok(needed);
    }
    let best = needed.min(hard);
    if best > soft && setrlimit(Resource::RLIMIT_NOFILE, best, hard).is_ok() {
        return Ok(best);
    }
    Ok(soft)
}

/// Sets the soft limit to `most`, or to the hard one if that is lower: a later configuration may need all of it.
///
/// # Errors
/// As setrlimit(2).
pub fn use_descriptors(most: u64) -> io::Result<u64> {
    let (soft, hard) = descriptors()?;
    let wanted = hard.min(most);
    if wanted != soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(wanted)
}

/// Raises the limit of this process and of those that it starts to `number`, with root's help if it is above the hard one. It is
/// never lowered: who has no descriptor left can not even read that it was a mistake.
///
/// # Errors
/// As setrlimit(2).
pub fn allow_descriptors(number: u64) -> io::Result<()> {
    let (soft, hard) = descriptors()?;
    if number > soft {
        setrlimit(Resource::RLIMIT_NOFILE, number, hard.max(number))?;
    }
    Ok(())
}

/// Numbers of the CPUs that this process may run on, in order.
pub fn cpu_numbers() -> Vec<u16> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).map(|cpu| cpu as u16).collect()
}

/// Keeps this thread on these CPUs.
///
/// # Errors
/// As sched_setaffinity(2): it may run on none of them.
pub fn run_on(cpus: &[u16]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu.into())?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// How many connections the process may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// So many.
    Connections(u32),
    /// `maxconn` asks for more than the descriptor limit carries.
    TooMany {
        /// Descriptors that it needs.
        needed: u64,
        /// Descriptors that there are.
        limit: u64,
        /// Connections that would fit.
        fit: u32,
    },
}

/// Makes room for `maxconn` connections, or finds out how many the descriptor limit carries if none is set; `most` descriptors
/// are used in either case.
///
/// # Errors
/// The limit cannot be read.
pub fn make_room(maxconn: Option<u32>, listeners: usize, raise: Raise, most: u64) -> io::Result<Carried> {
    let Some(wanted) = maxconn else {
        let (_, hard) = descriptors()?;
        let limit = raise_descriptors(hard.min(most), Raise::Soft)?.min(most);
        return Ok(Carried::Connections(connections_carried(limit, listeners)));
    };
    let needed = descriptors_needed(wanted, listeners);
    let limit = raise_descriptors(needed.min(most), raise)?.min(most);
    if needed <= limit {
        Ok(Carried::Connections(wanted))
    } else {
        Ok(Carried::TooMany { needed, limit, fit: connections_carried(limit, listeners) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_what_is_carried() {
        for (connections, listeners) in [(0, 0), (1, 3), (10_000, 8), (500_000, 64)] {
            let needed = descriptors_needed(connections, listeners);
            assert_eq!(connections_carried(needed, listeners), connections);
            assert_eq!(connections_carried(needed + 1, listeners), connections);
            if connections > 0 {
                assert_eq!(connections_carried(needed - 1, listeners), connections - 1);
            }
        }
    }

    #[test]
    fn an_infinite_limit_does_not_become_infinite_connections() {
        assert_eq!(connections_carried(DESCRIPTORS_CEILING, 0), (1 << 19) - 32);
        assert_eq!(connections_carried(10, 50), 0);
        assert_eq!(make_room(None, 0, Raise::Soft, 164).unwrap(), Carried::Connections(50));
        let too_many = Carried::TooMany { needed: 166, limit: 164, fit: 50 };
        assert_eq!(make_room(Some(51), 0, Raise::Soft, 164).unwrap(), too_many);
    }

    #[test]
    fn more_than_the_kernel_allows_is_refused_with_numbers() {
        // fs.nr_open bounds even root, and is never above 2^31.
        let Carried::TooMany { needed, limit, fit } = make_room(Some(u32::MAX), 1, Raise::Hard, u64::MAX).unwrap()
        else {
            panic!("4 billion connections were granted");
        };
        assert_eq!(needed, u64::from(u32::MAX) * 2 + 65);
        assert!(limit < needed && u64::from(fit) < limit);
    }

    #[test]
    fn a_low_number_takes_nothing_from_this_process() {
        let before = descriptors().unwrap();
        allow_descriptors(65).unwrap();
        assert_eq!(descriptors().unwrap(), before);
    }

    #[test]
    fn a_thread_stays_where_it_is_put() {
        let cpus = cpu_numbers();
        let last = *cpus.last().unwrap();
        let thread = std::thread::spawn(move || {
            run_on(&[last]).unwrap();
            cpu_numbers()
        });
        assert_eq!(thread.join().unwrap(), [last]);
        assert_eq!(cpu_numbers(), cpus, "the others do not");
        assert!(run_on(&[1023]).is_err(), "no machine under test has so many");
    }
}
