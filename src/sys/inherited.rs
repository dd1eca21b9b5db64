//! The descriptors that this program was started with, by number and by the name that systemd gave them.

use std::ffi::OsString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::FdFlag;

/// First descriptor that systemd passes, `SD_LISTEN_FDS_START` (sd_listen_fds(3)).
const FIRST_PASSED: RawFd = 3;
/// The name of a socket that has none (sd_listen_fds_with_names(3)).
const UNNAMED: &str = "unknown";

/// The descriptors from 3 on that this program was started with: what `fd@n` may name, besides 0 to 2. Any other number may
/// by now be a descriptor of our own, such as the socket to the worker.
#[derive(Debug)]
pub struct Inherited {
    numbers: Vec<RawFd>,
    /// Those of socket activation, in the order of their numbers.
    named: Vec<(String, RawFd)>,
    /// Sockets were passed, but to the process of this number.
    for_another: Option<u32>,
}

impl Inherited {
    /// Notes what is open and marks it close-on-exec, so that none of it reaches the worker. To be called before anything
    /// else is opened.
    ///
    /// # Errors
    /// `/proc/self/fd` cannot be read.
    pub fn note() -> io::Result<Self> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
            numbers.extend(number.filter(|&number| number > 2));
        }
        // The directory's own is closed by now.
        numbers.retain(|&number| super::set_flags(number, FdFlag::FD_CLOEXEC).is_ok());
        Ok(Self::new(numbers, |name| std::env::var_os(name), std::process::id()))
    }

    /// Socket activation as sd_listen_fds_with_names(3) describes it: `$LISTEN_PID`, `$LISTEN_FDS`, `$LISTEN_FDNAMES`.
    fn new(numbers: Vec<RawFd>, variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let text = |name: &str| variable(name)?.into_string().ok();
        let number = |name: &str| text(name)?.parse::<u32>().ok();
        let (Some(passed_to), Some(count)) = (number("LISTEN_PID"), number("LISTEN_FDS")) else {
            return Self { numbers, named: Vec::new(), for_another: None };
        };
        if passed_to != pid {
            return Self { numbers, named: Vec::new(), for_another: Some(passed_to) };
        }
        let names = text("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').filter(|name| !name.is_empty());
        let end = FIRST_PASSED.saturating_add(i32::try_from(count).unwrap_or(i32::MAX));
        let passed = (FIRST_PASSED..end).map(|number| (names.next().unwrap_or(UNNAMED).to_owned(), number));
        let named = passed.take(numbers.len()).filter(|(_, number)| numbers.contains(number)).collect();
        Self { numbers, named, for_another: None }
    }

    /// A close-on-exec duplicate.
    ///
    /// # Errors
    /// This program was not started with it.
    pub fn duplicate(&self, number: RawFd) -> io::Result<OwnedFd> {
        if !(0..=2).contains(&number) && !self.numbers.contains(&number) {
            return Err(io::Error::from(Errno::EBADF));
        }
        super::duplicate(number)
    }

    /// Close-on-exec duplicates of all sockets that systemd passed under this name.
    ///
    /// # Errors
    /// There is none; in the words of the reason, the names that there are.
    pub fn duplicate_named(&self, name: &str) -> io::Result<Vec<OwnedFd>> {
        let found = self.named.iter().filter(|(known, _)| known == name);
        let found = found.map(|(_, number)| super::duplicate(*number)).collect::<io::Result<Vec<_>>>()?;
        if !found.is_empty() {
            return Ok(found);
        }
        let mut names: Vec<&str> = self.named.iter().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        let (pid, known) = (std::process::id(), names.join("', '"));
        Err(io::Error::other(match self.for_another {
            Some(other) => {
                format!("the sockets of $LISTEN_FDS were passed to process {other}, and this one is {pid}")
            }
            None if names.is_empty() => "no socket was passed to this process ($LISTEN_FDS is not set)".to_owned(),
            None => format!("no socket of this name was passed to this process; there is '{known}'"),
        }))
    }

    /// The sockets that systemd passed, by name and number.
    pub fn named(&self) -> impl Iterator<Item = (&str, RawFd)> {
        self.named.iter().map(|(name, number)| (name.as_str(), *number))
    }

    /// Takes out what systemd passed under names that suit: it is nobody else's any more.
    pub fn take_named<T>(&mut self, suits: impl Fn(&str) -> Option<T>) -> Vec<(T, OwnedFd)> {
        let found: Vec<(T, RawFd)> =
            self.named.iter().filter_map(|(name, number)| Some((suits(name)?, *number))).collect();
        found.into_iter().filter_map(|(what, number)| Some((what, self.take(number)?))).collect()
    }

    /// Takes a descriptor out: it is nobody else's any more. `None`: this program was not started with it.
    pub fn take(&mut self, number: RawFd) -> Option<OwnedFd> {
        let at = self.numbers.iter().position(|&known| known == number)?;
        self.numbers.swap_remove(at);
        self.named.retain(|(_, known)| *known != number);
        Some(super::own_received(number))
    }

    /// Whether systemd has passed sockets to this process.
    pub fn is_activated(&self) -> bool {
        !self.named.is_empty()
    }

    /// Whether the program that this process executes next has them too, under the same numbers.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn keep_through_exec(&self, keep: bool) -> io::Result<()> {
        let flags = if keep { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
        self.numbers.iter().try_for_each(|&number| super::set_flags(number, flags))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_descriptors_that_were_there_at_the_start_are_inherited() {
        let early = std::fs::File::open("/dev/null").unwrap();
        let inherited = Inherited::note().unwrap();
        assert!(inherited.duplicate(early.as_raw_fd()).is_ok());
        assert!(inherited.duplicate(0).is_ok());
        for number in [-1, 1_000_000_000] {
            assert!(inherited.duplicate(number).is_err());
        }
        // Open, and none of `fd@n`'s business.
        let nothing = Inherited::new(Vec::new(), |_| None, 1);
        assert!(nothing.duplicate(early.as_raw_fd()).is_err());
    }

    fn activated(numbers: &[RawFd], variables: &[(&str, &str)]) -> Inherited {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Inherited::new(numbers.to_vec(), value, 42)
    }

    #[test]
    fn names_belong_to_the_numbers_from_3_on() {
        let names = |numbers: &[RawFd], variables: &[(&str, &str)]| {
            activated(numbers, variables)
                .named
                .iter()
                .map(|(name, number)| format!("{name}={number}"))
                .collect::<Vec<_>>()
        };
        let all = [("LISTEN_PID", "42"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "a:b:a")];
        assert_eq!(names(&[3, 4, 5, 9], &all), ["a=3", "b=4", "a=5"]);
        // One of them was closed by somebody in between; a count that nobody would believe.
        assert_eq!(names(&[3, 5], &[all[0], all[1], all[2]]), ["a=3"]);
        assert_eq!(names(&[3], &[all[0], ("LISTEN_FDS", "4000000000"), all[2]]), ["a=3"]);
        assert_eq!(names(&[3, 4], &[all[0], ("LISTEN_FDS", "2")]), ["unknown=3", "unknown=4"]);
        assert_eq!(names(&[3], &[all[0], ("LISTEN_FDS", "many"), all[2]]), [""; 0]);
        assert_eq!(names(&[3, 4, 5], &[("LISTEN_PID", "41"), all[1], all[2]]), [""; 0]);
    }

    #[test]
    fn a_name_that_is_not_there_is_answered_with_those_that_are() {
        let reason = |inherited: &Inherited| inherited.duplicate_named("front").unwrap_err().to_string();
        let nothing = activated(&[3], &[]);
        assert!(reason(&nothing).contains("$LISTEN_FDS is not set"));
        let passed = [("LISTEN_PID", "42"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "https:imaps")];
        assert!(reason(&activated(&[3, 4], &passed)).contains("there is 'https', 'imaps'"));
        let elsewhere = activated(&[3, 4], &[("LISTEN_PID", "7"), passed[1], passed[2]]);
        assert!(reason(&elsewhere).contains("passed to process 7"));
    }
}
