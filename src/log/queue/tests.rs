use super::*;
use crate::conf::model::{AuditEvent, AuditTarget, Location, LogFraming, LogTarget};
use crate::log::audit::ReloadFacts;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

const LONG: Duration = Duration::from_secs(20);

fn target(sink: LogSink, format: LogFraming) -> LogTarget {
    LogTarget {
        sink,
        max_length: 65_535,
        format,
        facility: 16,
        max_level: 7,
        min_level: 0,
        at: Location { file: "t".into(), line: 1, column: 1 },
    }
}

fn udp() -> (UdpSocket, LogTarget) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let sink = LogSink::Udp(socket.local_addr().unwrap());
    (socket, target(sink, LogFraming::Short))
}

fn unix(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

fn line(received: io::Result<usize>, buffer: &[u8]) -> String {
    String::from_utf8(buffer[..received.unwrap()].to_vec()).unwrap()
}

fn from_udp(socket: &UdpSocket) -> String {
    let mut buffer = [0; 2048];
    line(socket.recv(&mut buffer), &buffer)
}

fn from_unix(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 2048];
    line(socket.recv(&mut buffer), &buffer)
}

#[test]
fn one_line_reaches_every_kind_of_sink() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (udp, udp_target) = udp();
    let unix = unix(&path);
    let (reader, descriptor) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (queue, writer) = Queue::start().unwrap();
    queue.inherit(LogSink::Descriptor(9), descriptor);
    let targets = Targets::new(
        &[
            udp_target,
            target(LogSink::Unix(path), LogFraming::Priority),
            target(LogSink::Descriptor(9), LogFraming::Raw),
        ],
        "demo",
    );
    queue.send(&targets, 6, "Connect from a\nforged".into());
    assert_eq!(from_udp(&udp), "<6>Connect from a#0Aforged\n");
    assert_eq!(from_unix(&unix), "<134>Connect from a#0Aforged\n");
    let mut lines = BufReader::new(File::from(reader)).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "Connect from a#0Aforged");
    assert!(writer.finish(LONG));
    assert_eq!(queue.dropped(), 0);
}

#[test]
fn a_finished_queue_has_written_everything_in_order() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writable: OwnedFd = file.reopen().unwrap().into();
    let (queue, writer) = Queue::start().unwrap();
    queue.inherit(LogSink::Descriptor(7), writable);
    let targets = Targets::new(&[target(LogSink::Descriptor(7), LogFraming::Raw)], "t");
    let expected: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
    for text in &expected {
        queue.send(&targets, 6, text.clone());
    }
    assert!(writer.finish(LONG));
    let mut text = String::new();
    File::open(file.path()).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    // Nobody is left to take this one.
    queue.send(&targets, 6, "too late".into());
    assert_eq!(queue.dropped(), 1);
}

#[test]
fn a_stalled_pipe_costs_its_own_lines_only_and_says_so_afterwards() {
    let (udp, udp_target) = udp();
    let (reader, descriptor) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (queue, writer) = Queue::start().unwrap();
    queue.inherit(LogSink::Descriptor(9), descriptor);
    let targets = Targets::new(&[target(LogSink::Descriptor(9), LogFraming::Raw), udp_target], "t");
    // A pipe takes 64 KiB and its backlog 1,024 lines; one line at a time, so that the queue itself stays empty.
    let filler = "x".repeat(500);
    for number in 0..3000 {
        queue.send(&targets, 6, format!("{number} {filler}"));
        assert!(from_udp(&udp).starts_with(&format!("<6>{number} ")));
    }
    let dropped = queue.dropped();
    assert!(dropped > 1000, "{dropped}");
    let udp_name = udp.local_addr().unwrap().to_string();
    assert_eq!(queue.dropped_at_each(), [(udp_name, 0), ("fd@9".into(), dropped), ("queue".into(), 0)]);

    // The pipe is read again: all that waited, and the count among it.
    let mut lines = BufReader::new(File::from(reader)).lines().map(Result::unwrap);
    let seen: Vec<String> = lines.by_ref().take(3000 - dropped as usize + 1).collect();
    let notices: Vec<_> = seen.iter().filter(|line| line.ends_with("dropped")).collect();
    assert_eq!(notices, [&format!("{dropped} log lines dropped")]);
    queue.send(&targets, 6, "after".into());
    assert_eq!(lines.next().as_deref(), Some("after"));
    assert_eq!(queue.dropped(), dropped);
    drop(lines);
    drop(targets);
    assert!(writer.finish(LONG));
}

#[test]
fn a_full_queue_drops_counts_and_reports() {
    let (udp, udp_target) = udp();
    let (entries, received) = sync_channel(2);
    let lost = Arc::new(Lost::default());
    let queue = Queue { entries, lost: lost.clone(), inherited: Arc::default(), reopened: Arc::default() };
    let targets = Targets::new(&[udp_target], "t");
    // Nothing takes from the queue yet: room for two.
    for text in ["one", "two", "three", "four", "five"] {
        queue.send(&targets, 6, text.into());
    }
    assert_eq!(queue.dropped(), 3);

    let (alive, finished) = sync_channel(0);
    let router = Router { inherited: Arc::default(), reopened: Arc::default(), sinks: HashMap::new(), lost, alive };
    router.run(&received, &AtomicBool::new(true));
    assert_eq!(finished.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    let seen: Vec<String> = (0..3).map(|_| from_udp(&udp)).collect();
    assert_eq!(seen, ["<6>one\n", "<4>3 log lines dropped\n", "<6>two\n"]);
}

/// Whoever counts on records has to hear of those that are missing, and not from the log.
#[test]
fn dropped_records_are_told_to_who_takes_records() {
    let (lines, line_target) = udp();
    let (records, LogTarget { sink, at, .. }) = udp();
    let (entries, received) = sync_channel(2);
    let lost = Arc::new(Lost::default());
    let queue = Queue { entries, lost: lost.clone(), inherited: Arc::default(), reopened: Arc::default() };
    let log = Targets::new(&[line_target], "t");
    let audit = AuditTarget { sink, max_length: 8192, events: vec![AuditEvent::Reload], at };
    let audit = Targets::audit([&audit], "t", None);
    let reload = || Record::Reload(ReloadFacts { generation: 1, by: None, outcome: Err("no".into()) });
    queue.record(&audit, reload());
    queue.send(&log, 6, "line".into());
    (0..3).for_each(|_| queue.record(&audit, reload()));
    assert_eq!(queue.dropped(), 3);

    let (alive, _finished) = sync_channel(0);
    let router = Router { inherited: Arc::default(), reopened: Arc::default(), sinks: HashMap::new(), lost, alive };
    router.run(&received, &AtomicBool::new(true));
    assert_eq!(from_udp(&lines), "<6>line\n");
    let seen = [from_udp(&records), from_udp(&records)];
    assert!(seen[0].starts_with("<134>") && seen[0].contains("\"event\":\"reload\""), "{seen:?}");
    assert!(seen[1].contains("\"event\":\"dropped\",\"dropped\":3,"), "{seen:?}");
}

#[test]
fn a_severity_that_nobody_takes_is_not_queued_and_not_lost() {
    let (udp, udp_target) = udp();
    let (queue, writer) = Queue::start().unwrap();
    let targets = Targets::new(&[LogTarget { max_level: 5, ..udp_target }], "t");
    queue.send(&targets, 6, "traffic".into());
    queue.send(&targets, 5, "notice".into());
    assert_eq!(from_udp(&udp), "<5>notice\n");
    assert!(writer.finish(LONG));
    assert_eq!(queue.dropped(), 0);
}

#[test]
fn a_syslog_socket_that_comes_back_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (udp, udp_target) = udp();
    let (queue, _writer) = Queue::start().unwrap();
    let targets = Targets::new(&[target(LogSink::Unix(path.clone()), LogFraming::Short), udp_target], "t");
    queue.send(&targets, 6, "nobody listens".into());
    assert_eq!(from_udp(&udp), "<6>nobody listens\n");

    let deadline = std::time::Instant::now() + LONG;
    while queue.dropped() < 1 {
        assert!(std::time::Instant::now() < deadline, "the line was not counted");
        std::thread::yield_now();
    }
    let socket = unix(&path);
    queue.send(&targets, 6, "back".into());
    assert_eq!(from_unix(&socket), "<6>back\n");
    assert_eq!(from_unix(&socket), "<4>1 log line dropped\n");
}

#[test]
fn a_closed_pipe_is_not_the_end() {
    let (udp, udp_target) = udp();
    let (reader, descriptor) = pipe2(OFlag::O_CLOEXEC).unwrap();
    drop(reader);
    let (queue, writer) = Queue::start().unwrap();
    queue.inherit(LogSink::Descriptor(9), descriptor);
    let targets = Targets::new(&[target(LogSink::Descriptor(9), LogFraming::Raw), udp_target], "t");
    for text in ["one", "two"] {
        queue.send(&targets, 6, text.into());
        assert_eq!(from_udp(&udp), format!("<6>{text}\n"));
    }
    assert!(writer.finish(LONG));
    assert_eq!(queue.dropped(), 2);
}

#[test]
fn a_descriptor_that_was_not_handed_down_is_never_written() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(file.as_file());
    let (queue, writer) = Queue::start().unwrap();
    let targets = Targets::new(&[target(LogSink::Descriptor(number), LogFraming::Raw)], "t");
    queue.send(&targets, 6, "into somebody's connection".into());
    assert!(writer.finish(LONG));
    assert_eq!(queue.dropped(), 1);
    assert_eq!(file.as_file().metadata().unwrap().len(), 0);
}

#[test]
fn finishing_does_not_wait_for_a_stalled_sink_past_the_deadline() {
    let (_reader, descriptor) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (queue, writer) = Queue::start().unwrap();
    queue.inherit(LogSink::Descriptor(9), descriptor);
    let targets = Targets::new(&[target(LogSink::Descriptor(9), LogFraming::Raw)], "t");
    for _ in 0..3 {
        queue.send(&targets, 6, "x".repeat(60_000));
    }
    assert!(!writer.finish(Duration::from_millis(50)));
}

#[test]
fn sinks_of_forgotten_targets_are_closed() {
    let (first, first_target) = udp();
    let (second, second_target) = udp();
    let (alive, finished) = sync_channel(0);
    let mut router = Router {
        inherited: Arc::default(),
        reopened: Arc::default(),
        sinks: HashMap::new(),
        lost: Arc::default(),
        alive,
    };
    let old = Targets::new(&[first_target], "t");
    router.route(&old, SystemTime::now(), &Content::Line { level: 6, text: "one".into() });
    assert_eq!(from_udp(&first), "<6>one\n");
    // What waits in a sink may hold its targets a moment longer than this.
    let deadline = std::time::Instant::now() + LONG;
    while Arc::strong_count(&old) > 1 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    drop(old);
    let new = Targets::new(&[second_target], "t");
    router.route(&new, SystemTime::now(), &Content::Line { level: 6, text: "two".into() });
    assert_eq!(from_udp(&second), "<6>two\n");
    assert_eq!(router.sinks.len(), 1);
    drop(router);
    assert_eq!(finished.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn lines_go_to_the_file_that_was_opened_last() {
    let directory = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
    let sink = LogSink::File("x".into());
    let (queue, writer) = Queue::start().unwrap();
    let targets = Targets::new(&[target(sink.clone(), LogFraming::Raw)], "demo");
    queue.inherit(sink.clone(), File::create(&old).unwrap().into());
    queue.send(&targets, 6, "first".into());
    let end = std::time::Instant::now() + LONG;
    while std::fs::read_to_string(&old).unwrap().is_empty() && std::time::Instant::now() < end {
        std::thread::yield_now();
    }
    queue.inherit(sink, File::create(&new).unwrap().into());
    queue.send(&targets, 6, "second".into());
    assert!(writer.finish(LONG));
    assert_eq!([old, new].map(|path| std::fs::read_to_string(path).unwrap()), ["first\n", "second\n"]);
}
