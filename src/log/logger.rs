//! The process's own messages: what the `log` crate's macros say goes to the targets of `global`, or to standard error
//! as long as there are none. Standard error is written directly until [`adopt`] brings a queue, so that errors of the
//! start-up are seen however it ends.

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use ::log::{Level, LevelFilter, Log, Metadata, Record};

use super::queue::Queue;
use super::targets::{Content, Targets};
use super::{escape, level, sink};
use crate::conf::model::LogFraming;

static LOGGER: Logger = Logger { route: RwLock::new(None) };

static STDERR: OnceLock<Arc<Targets>> = OnceLock::new();

/// Target of records whose text names its severity itself, as a diagnostic does.
pub const NAMES_SEVERITY: &str = concat!(env!("CARGO_CRATE_NAME"), "::diagnostic");

/// The one implementation of the `log` crate's trait. See [`install`].
#[derive(Debug)]
pub struct Logger {
    route: RwLock<Option<Route>>,
}

struct Route {
    /// Of `global`; may be empty.
    targets: Arc<Targets>,
    queue: Queue,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.targets.fmt(out)
    }
}

/// Makes the macros of the `log` crate speak to standard error, from `info` up. Later calls change nothing.
pub fn install() {
    // The error says that there is a logger already: ours, or the one of a test.
    if ::log::set_logger(&LOGGER).is_ok() {
        ::log::set_max_level(LevelFilter::Info);
    }
}

/// From now on messages go through `queue` to `targets`, or to standard error if these are empty. Called at the start
/// and at every reload.
pub fn adopt(targets: Arc<Targets>, queue: Queue) {
    ::log::set_max_level(filter(&targets));
    *LOGGER.route.write().unwrap_or_else(PoisonError::into_inner) = Some(Route { targets, queue });
}

/// Messages go to standard error again: before the queue is finished, or before a fork.
pub fn release() {
    *LOGGER.route.write().unwrap_or_else(PoisonError::into_inner) = None;
    ::log::set_max_level(LevelFilter::Info);
}

fn filter(targets: &Targets) -> LevelFilter {
    match targets.max_level() {
        None | Some(5..=6) => LevelFilter::Info,
        Some(..=2) => LevelFilter::Off,
        Some(3) => LevelFilter::Error,
        Some(4) => LevelFilter::Warn,
        Some(7..) => LevelFilter::Debug,
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // A dependency may warn; what else it has to say is for its developers.
        metadata.level() <= Level::Warn || metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let severity = match record.level() {
            Level::Error => level::ERROR,
            Level::Warn => level::WARNING,
            Level::Info => level::INFO,
            Level::Debug | Level::Trace => level::DEBUG,
        };
        let text = record.args().to_string();
        let on_stderr = |line| for_stderr(severity, record.target() == NAMES_SEVERITY, line);
        let route = self.route.read().unwrap_or_else(PoisonError::into_inner);
        // A message of several lines is as many log lines.
        for line in text.lines() {
            match route.as_ref() {
                Some(route) if !route.targets.is_empty() => route.queue.send(&route.targets, severity, line.to_owned()),
                Some(route) => route.queue.send(stderr(), severity, on_stderr(line)),
                None => write_directly(severity, on_stderr(line)),
            }
        }
    }

    fn flush(&self) {}
}

/// Standard error as a target: for the journal (sd-daemon(3)) if that is what reads it, else with the time.
fn stderr() -> &'static Arc<Targets> {
    STDERR.get_or_init(|| {
        let framing = if stderr_is_journal() { LogFraming::Short } else { LogFraming::Iso };
        Targets::stderr(framing, "bowline")
    })
}

fn for_stderr(severity: u8, named: bool, line: &str) -> String {
    if named || stderr_is_journal() {
        return line.to_owned();
    }
    let name = match severity {
        level::ERROR => "error",
        level::WARNING => "warning",
        level::INFO => "info",
        _ => "debug",
    };
    format!("{name}: {line}")
}

/// A message that cannot be written is lost: there is nowhere to say so, and nothing to die for.
fn write_directly(severity: u8, line: String) {
    let content = Content::Line { level: severity, text: escape::without_controls(line) };
    let frame = stderr().frame(0, SystemTime::now(), &content);
    let _ = sink::write_fully(std::io::stderr().as_fd(), frame.as_bytes(), sink::PATIENCE);
}

/// Whether standard error is the journal: `JOURNAL_STREAM` names its device and inode (systemd.exec(5)). A variable
/// that was merely inherited does not match.
pub fn stderr_is_journal() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let Some(variable) = std::env::var_os("JOURNAL_STREAM") else { return false };
        let Ok(stat) = nix::sys::stat::fstat(std::io::stderr().as_fd()) else { return false };
        variable.to_str() == Some(&*format!("{}:{}", stat.st_dev, stat.st_ino))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::model::{Location, LogSink, LogTarget};
    use std::net::UdpSocket;
    use std::time::Duration;

    fn udp_target(to: &UdpSocket, max_level: u8) -> LogTarget {
        LogTarget {
            sink: LogSink::Udp(to.local_addr().unwrap()),
            max_length: 1024,
            format: LogFraming::Short,
            facility: 16,
            max_level,
            min_level: 0,
            at: Location { file: "t".into(), line: 1, column: 1 },
        }
    }

    fn receiver() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn received(socket: &UdpSocket) -> String {
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn say(logger: &Logger, level: Level, target: &str, text: &str) {
        logger.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
    }

    #[test]
    fn messages_follow_the_targets_of_the_last_reload() {
        let (first, second) = (receiver(), receiver());
        let (queue, writer) = Queue::start().unwrap();
        let logger = Logger { route: RwLock::new(None) };
        let route =
            |to: &UdpSocket| Some(Route { targets: Targets::new(&[udp_target(to, 7)], "t"), queue: queue.clone() });

        *logger.route.write().unwrap() = route(&first);
        say(&logger, Level::Error, "bowline::worker", "one");
        assert_eq!(received(&first), "<3>one\n");
        *logger.route.write().unwrap() = route(&second);
        say(&logger, Level::Info, "bowline", "two");
        assert_eq!(received(&second), "<6>two\n");
        assert!(writer.finish(Duration::from_secs(10)));
    }

    #[test]
    fn several_lines_are_several_messages_and_dependencies_only_warn() {
        let socket = receiver();
        let (queue, _writer) = Queue::start().unwrap();
        let targets = Targets::new(&[udp_target(&socket, 7)], "t");
        let logger = Logger { route: RwLock::new(Some(Route { targets, queue })) };
        say(&logger, Level::Debug, "mio::poll", "not this");
        say(&logger, Level::Info, "bowlinetoo", "nor this");
        say(&logger, Level::Warn, "bowline::conf", "a.cfg:1:2: error\n  1 | x\x1b[0m");
        say(&logger, Level::Warn, "mio::poll", "this");
        assert_eq!(received(&socket), "<4>a.cfg:1:2: error\n");
        assert_eq!(received(&socket), "<4>  1 | x#1B[0m\n");
        assert_eq!(received(&socket), "<4>this\n");
    }

    #[test]
    fn the_most_talkative_target_sets_the_level() {
        let socket = receiver();
        let with = |max_level| filter(&Targets::new(&[udp_target(&socket, 2), udp_target(&socket, max_level)], "t"));
        assert_eq!(with(1), LevelFilter::Off);
        assert_eq!(with(3), LevelFilter::Error);
        assert_eq!(with(4), LevelFilter::Warn);
        assert_eq!(with(6), LevelFilter::Info);
        assert_eq!(with(7), LevelFilter::Debug);
        assert_eq!(filter(&Targets::new(&[], "t")), LevelFilter::Info);
    }
}
