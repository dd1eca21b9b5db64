//! Counts the system calls of a running product, with strace(1). Each one stops the product for some microseconds, so times
//! mean nothing meanwhile; and it finds its sockets fuller than it would otherwise, so the counts are those of a product that is
//! behind its load, as one at its limit is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Debian package, and program.
pub(crate) const STRACE: &str = "strace";

/// A strace that looks on.
pub(crate) struct Strace {
    child: Child,
    summary: PathBuf,
}

/// Calls by their names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Strace {
    /// Attaches to these processes, all their threads included; the summary is written into `directory`.
    ///
    /// # Errors
    /// strace is missing, or may not attach: that takes root, or a kernel that allows it (`kernel.yama.ptrace_scope`).
    pub(crate) fn attach(processes: &[u32], directory: &Path) -> Result<Self, String> {
        let summary = directory.join("strace.summary");
        let mut command = Command::new(STRACE);
        command.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(&summary);
        processes.iter().for_each(|process| _ = command.args(["-p", &process.to_string()]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("{STRACE}: {error} (as root: apt-get install strace)"))?;
        let Some(stderr) = child.stderr.take() else { return Err("strace has no standard error".to_owned()) };
        // It says "strace: Process 42 attached", with or without a number of threads, once for each.
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let mut said = Vec::new();
        for _ in processes {
            let line = lines.next().unwrap_or_default();
            let attached = line.contains(" attached");
            said.push(line);
            if !attached {
                said.extend(lines);
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("strace does not attach: {}", said.join("; ")));
            }
        }
        // Whatever else it has to say must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, summary })
    }

    /// Detaches, and answers what has been counted.
    pub(crate) fn finish(mut self) -> Result<Counts, String> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        kill(pid, Signal::SIGINT).map_err(|error| format!("ending strace: {error}"))?;
        self.child.wait().map_err(|error| format!("ending strace: {error}"))?;
        let text = fs::read_to_string(&self.summary).map_err(|error| format!("{}: {error}", self.summary.display()))?;
        Counts::parse(&text).ok_or_else(|| format!("strace's summary is not understood:\n{text}"))
    }
}

impl Counts {
    /// A table with the columns calls and name, and a last line for the sum.
    fn parse(text: &str) -> Option<Self> {
        let mut calls = BTreeMap::new();
        let mut total = None;
        // A title and a rule; then numbers.
        for line in text.lines().skip(2).filter(|line| !line.starts_with("---")) {
            let (number, name) = line.trim().split_once(char::is_whitespace)?;
            let number: u64 = number.parse().ok()?;
            match name.trim() {
                "total" => total = Some(number),
                name => _ = calls.insert(name.to_owned(), number),
            }
        }
        let counts = Self(calls);
        (total == Some(counts.total())).then_some(counts)
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The most frequent ones for one of `units`, the most frequent first.
    pub(crate) fn describe(&self, units: f64) -> String {
        let mut calls: Vec<(&str, f64)> =
            self.0.iter().map(|(name, &count)| (name.as_str(), count as f64 / units)).collect();
        calls.sort_by(|a, b| b.1.total_cmp(&a.1));
        let frequent = calls.iter().filter(|call| call.1 >= 0.005).map(|(name, each)| format!("{name} {each:.2}"));
        frequent.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "    calls syscall\n--------- ----------------\n     3000 read\n     1000 write\n        2 futex\n--------- ----------------\n     4002 total\n";

    #[test]
    fn a_summary_with_its_sum() {
        let counts = Counts::parse(SUMMARY).unwrap();
        assert_eq!(counts.total(), 4002);
        assert_eq!(counts.describe(2000.0), "read 1.50, write 0.50");
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        assert_eq!(Counts::parse(&SUMMARY.replace("3000", "3001")), None);
        assert_eq!(Counts::parse(&SUMMARY.replace("1000 write", "some write")), None);
        assert_eq!(Counts::parse(""), None);
    }
}
