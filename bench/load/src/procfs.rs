//! CPU time and memory of a process and all its descendants, from /proc (proc(5)); CPU time of the calling thread.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A clock tick of /proc/PID/stat: USER_HZ is 100 on every architecture that the products run on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of the calling thread (clock_gettime(2)).
pub(crate) fn own_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock").into()
}

/// What /proc/PID/stat says of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    zombie: bool,
    /// User and system time, children that were waited for included, in ticks.
    ticks: u64,
}

/// Reads the one line of /proc/PID/stat. The command in parentheses may itself hold blanks and parentheses.
fn parse_stat(line: &str) -> Option<Stat> {
    let (pid, rest) = line.split_once(" (")?;
    let fields: Vec<&str> = rest[rest.rfind(')')? + 1..].split_ascii_whitespace().collect();
    // Field 3 of proc(5) is the first here: state, ppid (4), utime, stime, cutime, cstime (14 to 17).
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: u32::try_from(number(4)?).ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        ticks: number(14)? + number(15)? + number(16)? + number(17)?,
    })
}

fn all() -> io::Result<Vec<Stat>> {
    let mut stats = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if is_process {
            // A process may end between the listing and the reading.
            if let Ok(line) = fs::read_to_string(path.join("stat")) {
                stats.extend(parse_stat(&line));
            }
        }
    }
    Ok(stats)
}

fn descendants(root: u32, stats: &[Stat]) -> Vec<Stat> {
    let mut tree: Vec<Stat> = stats.iter().copied().filter(|stat| stat.pid == root).collect();
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next].pid;
        tree.extend(stats.iter().copied().filter(|stat| stat.parent == parent));
        next += 1;
    }
    tree
}

/// The processes of a tree, the root first; zombies left out.
pub(crate) fn tree(root: u32) -> io::Result<Vec<u32>> {
    Ok(descendants(root, &all()?).into_iter().filter(|stat| !stat.zombie).map(|stat| stat.pid).collect())
}

/// User and system time that the tree has used so far.
pub(crate) fn cpu(root: u32) -> io::Result<Duration> {
    let ticks: u64 = descendants(root, &all()?).iter().map(|stat| stat.ticks).sum();
    Ok(TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// Proportional set size of the tree in bytes: private pages, and each shared page divided by the number of its users.
pub(crate) fn pss(root: u32) -> Result<u64, String> {
    let mut sum = 0;
    for pid in tree(root).map_err(|error| error.to_string())? {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        sum += parse_pss(&text).ok_or_else(|| format!("{path} has no Pss line"))?;
    }
    Ok(sum)
}

fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line_with_parentheses_in_the_command() {
        let line = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4000 20 0 1 0 99 1 2";
        assert_eq!(parse_stat(line), Some(Stat { pid: 42, parent: 7, zombie: false, ticks: 4123 }));
    }

    #[test]
    fn short_stat_lines_are_left_out() {
        assert_eq!(parse_stat("42 (a) S 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_tree_has_grandchildren_and_no_strangers() {
        let stat = |pid, parent| Stat { pid, parent, zombie: false, ticks: 1 };
        let stats = [stat(1, 0), stat(12, 11), stat(10, 1), stat(11, 10), stat(20, 1), stat(13, 10)];
        let mut pids: Vec<u32> = descendants(10, &stats).iter().map(|stat| stat.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [10, 11, 12, 13]);
    }

    #[test]
    fn pss_line() {
        assert_eq!(
            parse_pss("00400000-7fff ---p [rollup]\nRss:  9 kB\nPss:     1234 kB\nPss_Dirty: 5 kB\n"),
            Some(1234 * 1024)
        );
        assert_eq!(parse_pss("Pss_Dirty: 5 kB\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_a_tree() {
        let me = std::process::id();
        assert_eq!(tree(me).unwrap()[0], me);
        assert!(pss(me).unwrap() > 100 * 1024);
    }
}
