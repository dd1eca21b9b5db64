//! `log` and `audit` lines, compiled: what goes where, and how it is framed there.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use crate::conf::model::{AuditEvent, AuditTarget, LogFraming, LogSink, LogTarget};

use super::audit::Record;
use super::time::Local;

/// The targets of one proxy or of the process, and the program's name in their lines.
#[derive(Debug)]
pub struct Targets {
    targets: Vec<Target>,
    tag: Box<str>,
    /// `log-send-hostname`.
    host: Option<Box<str>>,
}

/// What is sent.
pub(super) enum Content {
    /// A line, without control characters.
    Line {
        /// Its severity.
        level: u8,
        /// Its text.
        text: String,
    },
    /// An audit record.
    Record(Box<Record>),
}

/// One `log` or `audit` line.
#[derive(Debug)]
struct Target {
    sink: LogSink,
    framing: LogFraming,
    max_length: usize,
    facility: u8,
    takes: Takes,
}

/// What a target takes.
#[derive(Debug)]
enum Takes {
    /// `log`: lines as urgent as `max` or more; none is sent as more urgent than `min`.
    Lines { max: u8, min: u8 },
    /// `audit`: records of these events.
    Records(Vec<AuditEvent>),
}

/// Facility of audit records on syslog sockets: `local0`.
const AUDIT_FACILITY: u8 = 16;

impl Targets {
    /// Compiles `log` lines; `tag` is `log-tag`.
    pub fn new(targets: &[LogTarget], tag: &str) -> Arc<Self> {
        Self::from_host(targets, tag, None)
    }

    /// The same with the host that `log-send-hostname` asks for.
    pub fn from_host(targets: &[LogTarget], tag: &str, host: Option<&str>) -> Arc<Self> {
        let targets = targets
            .iter()
            .map(|target| Target {
                sink: target.sink.clone(),
                framing: match target.format {
                    LogFraming::Usual if host.is_some() => LogFraming::Rfc3164,
                    framing => framing,
                },
                max_length: target.max_length,
                facility: target.facility,
                takes: Takes::Lines { max: target.max_level, min: target.min_level },
            })
            .collect();
        Arc::new(Self { targets, tag: tag.into(), host: host.map(Into::into) })
    }

    /// Compiles `audit` lines; `tag` and `host` are for syslog sockets, everybody else gets the record alone.
    pub fn audit<'a>(targets: impl IntoIterator<Item = &'a AuditTarget>, tag: &str, host: Option<&str>) -> Arc<Self> {
        let targets = targets.into_iter().map(|target| Target {
            sink: target.sink.clone(),
            framing: match target.sink {
                LogSink::Descriptor(_) | LogSink::File(_) => LogFraming::Raw,
                LogSink::Unix(_) | LogSink::Udp(_) if host.is_some() => LogFraming::Rfc3164,
                LogSink::Unix(_) | LogSink::Udp(_) => LogFraming::Local,
            },
            max_length: target.max_length,
            facility: AUDIT_FACILITY,
            takes: Takes::Records(target.events.clone()),
        });
        Arc::new(Self { targets: targets.collect(), tag: tag.into(), host: host.map(Into::into) })
    }

    /// Standard error alone: where the process's own messages go when `global` has no `log` line.
    pub(super) fn stderr(framing: LogFraming, tag: &str) -> Arc<Self> {
        let target = Target {
            sink: LogSink::Descriptor(2),
            framing,
            max_length: 8192,
            facility: 3,
            takes: Takes::Lines { max: super::level::INFO, min: 0 },
        };
        Arc::new(Self { targets: vec![target], tag: tag.into(), host: None })
    }

    /// No line goes anywhere.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Whether some target takes lines of this severity: ask before a line is written for nothing.
    pub fn wants(&self, level: u8) -> bool {
        self.targets.iter().any(|target| target.wants(level))
    }

    /// Whether some target takes records of this event.
    pub fn wants_record(&self, event: AuditEvent) -> bool {
        self.targets.iter().any(|target| target.wants_record(event))
    }

    /// Least urgent severity that any target takes; `None` without targets.
    pub fn max_level(&self) -> Option<u8> {
        let levels = self.targets.iter().filter_map(|target| match target.takes {
            Takes::Lines { max, .. } => Some(max),
            Takes::Records(_) => None,
        });
        levels.max()
    }

    /// The targets that take it: index and sink.
    pub(super) fn taking(&self, content: &Content) -> impl Iterator<Item = (usize, &LogSink)> {
        let takes = |target: &Target| match content {
            Content::Line { level, .. } => target.wants(*level),
            Content::Record(record) => {
                record.event().map_or(target.takes_records(), |event| target.wants_record(event))
            }
        };
        self.targets.iter().enumerate().filter(move |(_, target)| takes(target)).map(|(i, t)| (i, &t.sink))
    }

    /// The bytes of it for the target at `index`, as this process sends them.
    pub(super) fn frame(&self, index: usize, at: SystemTime, content: &Content) -> String {
        self.targets[index].frame(at, (self.host.as_deref(), &self.tag), std::process::id(), content)
    }

    /// What stands in for this many that the target at `index` has missed.
    pub(super) fn notice(&self, index: usize, missed: u64) -> String {
        let content = if self.targets[index].takes_records() { Content::lost_records } else { Content::lost_lines };
        self.frame(index, SystemTime::now(), &content(missed))
    }
}

impl Content {
    /// Stands in for lines that were dropped.
    pub(super) fn lost_lines(lines: u64) -> Self {
        let text = format!("{lines} log line{} dropped", if lines == 1 { "" } else { "s" });
        Self::Line { level: super::level::WARNING, text }
    }

    /// Stands in for records that were dropped.
    pub(super) fn lost_records(records: u64) -> Self {
        Self::Record(Box::new(Record::Dropped(records)))
    }
}

impl Target {
    fn wants(&self, level: u8) -> bool {
        matches!(self.takes, Takes::Lines { max, .. } if level <= max)
    }

    fn wants_record(&self, event: AuditEvent) -> bool {
        matches!(&self.takes, Takes::Records(events) if events.contains(&event))
    }

    fn takes_records(&self) -> bool {
        matches!(self.takes, Takes::Records(_))
    }

    /// The bytes of one line as HAProxy sends them to any kind of sink (checked against 2.6.12): framing and text, cut
    /// to `len`, and a line feed that `len` does not count. A record is not cut, but made to fit.
    fn frame(&self, at: SystemTime, (host, tag): (Option<&str>, &str), pid: u32, content: &Content) -> String {
        let level = match (content, &self.takes) {
            (Content::Line { level, .. }, Takes::Lines { min, .. }) => (*level).max(*min).min(7),
            (Content::Line { level, .. }, Takes::Records(_)) => *level,
            (Content::Record(_), _) => super::level::INFO,
        };
        let priority = u16::from(self.facility) * 8 + u16::from(level);
        let mut out = String::new();
        // Writing to a String cannot fail.
        match self.framing {
            LogFraming::Usual | LogFraming::Local => {
                let _ = write!(out, "<{priority}>");
                Local::new(at).push_syslog(&mut out);
                let _ = write!(out, " {tag}[{pid}]: ");
            }
            LogFraming::Rfc3164 => {
                let _ = write!(out, "<{priority}>");
                Local::new(at).push_syslog(&mut out);
                // The host is mandatory here; HAProxy's word for it without `log-send-hostname`.
                let _ = write!(out, " {} {tag}[{pid}]: ", host.unwrap_or("localhost"));
            }
            LogFraming::Rfc5424 => {
                let _ = write!(out, "<{priority}>1 ");
                Local::new(at).push_iso(&mut out);
                let _ = write!(out, " {} {tag} {pid} - - ", host.unwrap_or("-"));
            }
            LogFraming::Short => {
                let _ = write!(out, "<{level}>");
            }
            LogFraming::Priority => {
                let _ = write!(out, "<{priority}>");
            }
            LogFraming::Raw => {}
            LogFraming::Timed => {
                let _ = write!(out, "<{level}>");
                Local::new(at).push_iso(&mut out);
                out.push(' ');
            }
            LogFraming::Iso => {
                Local::new(at).push_iso(&mut out);
                out.push(' ');
            }
        }
        match content {
            Content::Line { text, .. } => {
                out.push_str(text);
                if out.len() > self.max_length {
                    let cut = (0..=self.max_length).rev().find(|&index| out.is_char_boundary(index));
                    out.truncate(cut.unwrap_or(0));
                }
            }
            Content::Record(record) => {
                out.push_str(&record.json(at, pid, self.max_length.saturating_sub(out.len())));
            }
        }
        out.push('\n');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::model::Location;

    fn target(format: LogFraming) -> LogTarget {
        LogTarget {
            sink: LogSink::Descriptor(2),
            max_length: 1024,
            format,
            facility: 16,
            max_level: 7,
            min_level: 0,
            at: Location { file: "t".into(), line: 1, column: 1 },
        }
    }

    fn framed(target: &LogTarget, level: u8, text: &str) -> Vec<String> {
        framed_from(target, level, text, None)
    }

    fn framed_from(target: &LogTarget, level: u8, text: &str, host: Option<&str>) -> Vec<String> {
        let targets = Targets::from_host(std::slice::from_ref(target), "demo", host);
        framed_content(&targets, &Content::Line { level, text: text.to_owned() })
    }

    fn framed_content(targets: &Targets, content: &Content) -> Vec<String> {
        let tag = (targets.host.as_deref(), "demo");
        targets
            .taking(content)
            .map(|(index, _)| targets.targets[index].frame(SystemTime::UNIX_EPOCH, tag, 4711, content))
            .collect()
    }

    #[test]
    fn records_are_bare_or_behind_a_syslog_header() {
        let target = |sink, events: &[AuditEvent]| AuditTarget {
            sink,
            max_length: 8192,
            events: events.to_vec(),
            at: Location { file: "t".into(), line: 1, column: 1 },
        };
        let lines = [
            target(LogSink::Descriptor(1), &[AuditEvent::Close]),
            target(LogSink::File("x".into()), &[AuditEvent::Reload]),
            target(LogSink::Unix("/dev/log".into()), &[AuditEvent::Close, AuditEvent::Reload]),
        ];
        let targets = Targets::audit(&lines, "demo", None);
        assert!(targets.wants_record(AuditEvent::Reload) && !targets.wants_record(AuditEvent::Cut));
        assert!(!targets.wants(0) && targets.max_level().is_none(), "lines are for 'log'");
        let json = "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"dropped\",\"dropped\":3,\"pid\":4711}\n";
        let mut syslog = String::new();
        Local::new(SystemTime::UNIX_EPOCH).push_syslog(&mut syslog);
        // Whatever a target takes, it is told what it has missed.
        assert_eq!(
            framed_content(&targets, &Content::lost_records(3)),
            [json.to_owned(), json.to_owned(), format!("<134>{syslog} demo[4711]: {json}")]
        );
        let named = Targets::audit(&lines[2..], "demo", Some("vm"));
        let [line] = &framed_content(&named, &Content::lost_records(3))[..] else { panic!("one target, one line") };
        assert_eq!(*line, format!("<134>{syslog} vm demo[4711]: {json}"));
    }

    /// Expected lines are recorded from HAProxy 2.6.12 with `log … local0`; dates are a pattern, since the zone of the
    /// machine that runs the test is not known (`time` has its own tests).
    #[test]
    fn every_framing_is_haproxys() {
        let mut syslog = String::new();
        let mut iso = String::new();
        Local::new(SystemTime::UNIX_EPOCH).push_syslog(&mut syslog);
        Local::new(SystemTime::UNIX_EPOCH).push_iso(&mut iso);
        for (format, expected) in [
            (LogFraming::Usual, format!("<134>{syslog} demo[4711]: text\n")),
            (LogFraming::Local, format!("<134>{syslog} demo[4711]: text\n")),
            (LogFraming::Rfc3164, format!("<134>{syslog} localhost demo[4711]: text\n")),
            (LogFraming::Rfc5424, format!("<134>1 {iso} - demo 4711 - - text\n")),
            (LogFraming::Short, "<6>text\n".to_owned()),
            (LogFraming::Priority, "<134>text\n".to_owned()),
            (LogFraming::Raw, "text\n".to_owned()),
            (LogFraming::Timed, format!("<6>{iso} text\n")),
            (LogFraming::Iso, format!("{iso} text\n")),
        ] {
            assert_eq!(framed(&target(format), 6, "text"), [expected]);
        }
        // With `log-send-hostname vm`.
        for (format, expected) in [
            (LogFraming::Usual, format!("<134>{syslog} vm demo[4711]: text\n")),
            (LogFraming::Local, format!("<134>{syslog} demo[4711]: text\n")),
            (LogFraming::Rfc3164, format!("<134>{syslog} vm demo[4711]: text\n")),
            (LogFraming::Rfc5424, format!("<134>1 {iso} vm demo 4711 - - text\n")),
        ] {
            assert_eq!(framed_from(&target(format), 6, "text", Some("vm")), [expected]);
        }
    }

    #[test]
    fn levels_are_filtered_and_raised() {
        let notice = LogTarget { max_level: 5, ..target(LogFraming::Short) };
        assert_eq!(framed(&notice, 5, "x"), ["<5>x\n"]);
        assert!(framed(&notice, 6, "x").is_empty());
        // `log … info notice`: an error is sent as a notice, information stays information.
        let between = LogTarget { max_level: 6, min_level: 5, ..target(LogFraming::Priority) };
        assert_eq!(framed(&between, 3, "x"), ["<133>x\n"]);
        assert_eq!(framed(&between, 6, "x"), ["<134>x\n"]);

        let both = Targets::new(&[notice, between], "t");
        assert_eq!(both.max_level(), Some(6));
        assert!(both.wants(6) && !both.wants(7));
        assert!(!Targets::new(&[], "t").wants(0));
    }

    #[test]
    fn len_counts_the_header_but_not_the_line_feed() {
        let short = LogTarget { max_length: 80, ..target(LogFraming::Short) };
        let [line] = &framed(&short, 6, &"a".repeat(100))[..] else { panic!("one target, one line") };
        assert_eq!(*line, format!("<6>{}\n", "a".repeat(77)));
        assert_eq!(framed(&short, 6, &"a".repeat(77)), [format!("<6>{}\n", "a".repeat(77))]);
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        let raw = LogTarget { max_length: 80, ..target(LogFraming::Raw) };
        assert_eq!(framed(&raw, 6, &"é".repeat(50)), [format!("{}\n", "é".repeat(40))]);
        let text = format!("x{}", "é".repeat(50));
        assert_eq!(framed(&raw, 6, &text), [format!("x{}\n", "é".repeat(39))]);
    }
}
