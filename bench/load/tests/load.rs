//! The load end to end, without a product: client, relay and backend are processes of their own, as in a measurement.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that answers commands; it ends with its standard input.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

struct Answer {
    errors: Vec<String>,
    values: HashMap<String, String>,
}

impl Answer {
    fn number(&self, key: &str) -> u64 {
        assert!(self.errors.is_empty(), "{:?}", self.errors);
        self.values[key].parse().unwrap()
    }
}

impl Process {
    fn start(arguments: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bowline-load"))
            .args(arguments.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, lines }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.stdin.as_ref().unwrap(), "{command}").unwrap();
    }

    fn answer(&mut self) -> Answer {
        let mut errors = Vec::new();
        loop {
            let line = self.lines.next().expect("an answer").unwrap();
            if let Some(values) = line.strip_prefix("done") {
                let pairs = values.split_whitespace().filter_map(|pair| pair.split_once('='));
                let values = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                return Answer { errors, values };
            }
            errors.push(line);
        }
    }

    fn ask(&mut self, command: &str) -> Answer {
        self.tell(command);
        self.answer()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        // The relay has no standard input to end with.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A relay in front of a backend, and where it listens.
struct Bench {
    backend: Process,
    _relay: Process,
    port: u16,
}

impl Bench {
    fn start() -> Self {
        let mut backend = Process::start("backend v2");
        let backend_port = backend.answer().number("port");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let relay = Process::start(&format!("relay {backend_port} {port}"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline, "the relay does not listen");
            std::thread::yield_now();
        }
        Self { backend, _relay: relay, port }
    }

    /// The backend has seen what the clients say they did.
    fn agrees(&mut self, connections: u64, digest: u64, relayed: u64) {
        let tally = self.backend.ask("tally");
        let seen = ["connections", "digest", "relayed_bytes"].map(|key| tally.number(key));
        assert_eq!(seen, [connections, digest, relayed]);
    }
}

fn client(port: u16) -> Process {
    let offer = "listener=mtls version=tls13 suite=aes128 group=x25519 sessions=fresh tls=none";
    Process::start(&format!("client port={port} certificates=. hosts=1 {offer}"))
}

#[test]
fn round_trips_are_counted_and_both_ends_agree() {
    let mut bench = Bench::start();
    let mut client = client(bench.port);
    assert_eq!(client.ask("open 40").number("connections"), 40);
    for command in ["echo 20 64 40", "echo 20 16384 7", "pace 50 64 5000"] {
        let answer = client.ask(command);
        let [count, p50, p99, worst] = ["count", "p50", "p99", "worst"].map(|key| answer.number(key));
        assert!(count > 0 && 0 < p50 && p50 <= p99 && p99 <= worst, "{command}: {count}, {p50}, {p99}, {worst}");
    }
    let answer = client.ask("check");
    assert_eq!((answer.number("alive"), answer.number("connections")), (40, 40));
    bench.agrees(40, answer.number("digest"), 0);
}

#[test]
fn bytes_are_counted_in_both_directions() {
    let mut bench = Bench::start();
    let mut client = client(bench.port);
    assert_eq!(client.ask("connect 3").number("connections"), 0);
    let up = client.ask("up 10").number("bytes");
    let answer = client.ask("down 10");
    assert!(up > 0 && answer.number("bytes") > 0);
    assert_eq!(answer.number("connections"), 3);
    bench.agrees(3, answer.number("digest"), up + answer.number("bytes"));
}

#[test]
fn a_load_without_a_time_goes_on_until_the_next_line() {
    let mut bench = Bench::start();
    let mut client = client(bench.port);
    client.tell("handshakes line 8");
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.backend.ask("tally").number("connections") < 50 {
        assert!(Instant::now() < deadline, "there are no connections");
    }
    let answer = client.ask("stop");
    assert!(answer.number("count") >= 50);
    assert_eq!(answer.number("count"), answer.number("connections"));
    bench.agrees(answer.number("connections"), answer.number("digest"), 0);
    // The line that ended it was no command.
    assert_eq!(client.ask("open 1").number("connections"), answer.number("connections") + 1);
}

#[test]
fn an_echo_that_is_not_what_was_sent_is_an_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = client(listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        // Whatever the byte is mixed with: one of these two is wrong, and one too many.
        stream.write_all(&[byte[0], !byte[0]]).unwrap();
        stream.read(&mut byte)
    });
    let errors = client.ask("open 1").errors;
    assert!(errors.len() == 1 && errors[0].contains("echo"), "{errors:?}");
    let _ = server.join().unwrap();
}

#[test]
fn a_connection_that_ends_is_an_error_but_a_finding_of_a_check() {
    let mut bench = Bench::start();
    let mut client = client(bench.port);
    client.ask("open 5");
    let answer = client.ask("check");
    bench.agrees(5, answer.number("digest"), 0);
    drop(bench);
    let answer = client.ask("check");
    assert_eq!(answer.number("alive"), 0);
    let errors = client.ask("open 1").errors;
    assert!(errors.len() == 1 && errors[0].contains("refused"), "{errors:?}");
}
