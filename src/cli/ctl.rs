//! `bowline ctl …`: gives a command to a running service and prints its answer.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use crate::report::Escaped;
use crate::sys::reason;

/// Where the packaged service listens: `-S` of its unit, which may do everything, and `stats socket` of its configuration.
pub(super) const SOCKETS: [&str; 2] = ["/run/bowline/master.sock", "/run/bowline/admin.sock"];
/// How long the service may say nothing. A reload may have to wait for one before it.
const TIMEOUT: Duration = Duration::from_secs(300);
/// What the service puts in front of an answer that tells of an error (`set severity-output number`).
const MARK: &str = "[3]: ";

/// Longest answer line; the service's are far shorter.
const LINE_BYTES: u64 = 1 << 20;

const USAGE: &str = "\
Usage: bowline ctl [-s SOCKET] [-t SECONDS] COMMAND [ARGUMENT]...

Gives a command to the running service and prints the answer. The exit code is
1 if the service cannot be reached, says that it could not be done, or breaks
off its answer.

  -s SOCKET    a path, or an address with a port; without it, the first of
               /run/bowline/master.sock and /run/bowline/admin.sock
  -t SECONDS   how long to wait for an answer (300; 0: for ever)

'bowline ctl help' lists the commands, bowline-ctl(1) explains them.
";

/// The words behind `ctl`, if that is the first.
pub(super) fn words(words: &[OsString]) -> Option<&[OsString]> {
    words.split_first().filter(|(first, _)| *first == "ctl").map(|(_, rest)| rest)
}

/// Does what the words say.
pub(super) fn run(words: &[OsString]) -> ExitCode {
    let asked = match parse(words) {
        Ok(Some(asked)) => asked,
        Ok(None) => return super::print(USAGE),
        Err(error) => {
            eprintln!("bowline ctl: {error}\nTry 'bowline ctl --help'.");
            return ExitCode::FAILURE;
        }
    };
    let answered = connect(&asked).and_then(|stream| {
        let talk = talk(stream, &asked.line, &mut io::stdout().lock(), &mut io::stderr().lock());
        talk.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => "no answer in time; a longer one is given with -t SECONDS".to_owned(),
            io::ErrorKind::UnexpectedEof => {
                "the service has ended the connection before its answer was complete".to_owned()
            }
            _ => format!("the connection to the service broke: {}", reason(&error)),
        })
    });
    match answered {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bowline ctl: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    socket: Option<String>,
    timeout: Option<Duration>,
    /// The command, for the service.
    line: String,
}

/// `None`: help is wanted.
fn parse(words: &[OsString]) -> Result<Option<Asked>, String> {
    let readable = |word: &OsString| {
        let text = word.to_str().filter(|text| !text.contains(['\n', '\0']));
        text.map(str::to_owned)
            .ok_or_else(|| format!("'{}' is not one line of UTF-8", Escaped(&word.to_string_lossy())))
    };
    let words: Vec<String> = words.iter().map(readable).collect::<Result<_, _>>()?;
    let (mut socket, mut timeout) = (None, Some(TIMEOUT));
    let mut rest = words.as_slice();
    while let [word, after @ ..] = rest {
        let operand = || after.first().filter(|value| !value.is_empty()).ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "-h" | "--help" => return Ok(None),
            "-s" => socket = Some(operand()?.clone()),
            "-t" => {
                let value = operand()?;
                let seconds: u64 =
                    value.parse().map_err(|_| format!("-t takes a number of seconds, not '{}'", Escaped(value)))?;
                timeout = Some(Duration::from_secs(seconds)).filter(|timeout| !timeout.is_zero());
            }
            option if option.starts_with('-') => return Err(format!("unknown option '{}'", Escaped(option))),
            _ => break,
        }
        rest = &after[1..];
    }
    let line = match rest {
        [] => return Err("a command is missing, such as 'show info'".to_owned()),
        // In one word there may be several commands.
        [line] => line.clone(),
        words => words.iter().map(|word| escaped(word)).collect::<Vec<_>>().join(" "),
    };
    Ok(Some(Asked { socket, timeout, line }))
}

/// A word of the shell's as a word of the command.
fn escaped(word: &str) -> String {
    let special = |character| matches!(character, ' ' | '\t' | ';' | '\\');
    word.chars().flat_map(|one| special(one).then_some('\\').into_iter().chain([one])).collect()
}

/// A connection of whichever kind.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

fn connect(asked: &Asked) -> Result<Stream, String> {
    let sockets = asked.socket.as_ref().map_or_else(|| SOCKETS.to_vec(), |socket| vec![socket.as_str()]);
    let mut failures = Vec::new();
    for socket in sockets {
        match connect_to(socket, asked.timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let help = match error.kind() {
                    io::ErrorKind::PermissionDenied => " (try sudo, or join the group of the socket)",
                    io::ErrorKind::NotFound if asked.socket.is_some() => {
                        " (is there a 'stats socket' in the configuration?)"
                    }
                    io::ErrorKind::ConnectionRefused => " (the service does not run)",
                    _ => "",
                };
                failures.push(format!("cannot connect to {}: {}{help}", Escaped(socket), reason(&error)));
            }
        }
    }
    if asked.socket.is_none() {
        failures.push("does the service run? Another socket is given with -s SOCKET".to_owned());
    }
    Err(failures.join("\nbowline ctl: "))
}

fn connect_to(socket: &str, timeout: Option<Duration>) -> io::Result<Stream> {
    if socket.contains('/') || !socket.contains(':') {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        return Ok(Stream::Unix(stream));
    }
    let stream = TcpStream::connect(socket)?;
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    Ok(Stream::Tcp(stream))
}

/// Sends the command; what is answered goes to `out`, what is answered about errors to `errors`. Whether there was none.
fn talk(stream: Stream, line: &str, out: &mut impl Write, errors: &mut impl Write) -> io::Result<bool> {
    match stream {
        Stream::Unix(stream) => exchange(&stream, &stream, line, out, errors),
        Stream::Tcp(stream) => exchange(&stream, &stream, line, out, errors),
    }
}

fn exchange(
    mut to: impl Write,
    from: impl Read,
    line: &str,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> io::Result<bool> {
    to.write_all(format!("set severity-output number;{line}\n").as_bytes())?;
    let mut answers = BufReader::new(from);
    let mut heard = Vec::new();
    let (mut lines, mut answers_ended, mut whole) = (0u64, 0usize, false);
    let (mut good, mut failing, mut parted) = (true, false, false);
    while { (&mut answers).take(LINE_BYTES).read_until(b'\n', &mut heard)? } > 0 {
        let text = String::from_utf8_lossy(&heard);
        let text = text.trim_end_matches('\n');
        lines += 1;
        whole = text.is_empty();
        if whole {
            // An answer ends; the first is that of the setting.
            answers_ended += 1;
            failing = false;
            parted = lines > 1;
        } else {
            let marked = text.strip_prefix(MARK);
            // The setting has nothing to say: this is about the whole line, before marks were asked for.
            failing |= marked.is_some() || lines == 1;
            good &= !failing;
            let target: &mut dyn Write = if failing { &mut *errors } else { &mut *out };
            // Columns are parted by tabs; nothing else may tell a terminal what to do.
            let columns: Vec<_> =
                marked.unwrap_or(text).split('\t').map(|column| Escaped(column).to_string()).collect();
            let shown = columns.join("\t");
            // A closed pipe (`| head`) is no error of the service.
            let _ = writeln!(target, "{}{shown}", if parted { "\n" } else { "" });
            parted = false;
        }
        heard.clear();
    }
    // `quit` has no answer.
    let quits = line.split(';').any(|command| command.split_whitespace().next() == Some("quit"));
    if !whole || (answers_ended < 2 && good && !quits) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &[&str]) -> Result<Option<Asked>, String> {
        parse(&line.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_come_before_the_command() {
        let asked = asked(&["-s", "/x", "-t", "5", "show", "sess", "-s"]).unwrap().unwrap();
        assert_eq!(asked.socket.as_deref(), Some("/x"));
        assert_eq!(asked.timeout, Some(Duration::from_secs(5)));
        assert_eq!(asked.line, "show sess -s");
    }

    #[test]
    fn words_keep_their_blanks_and_a_line_its_commands() {
        let line = |words: &[&str]| asked(words).unwrap().unwrap().line;
        assert_eq!(
            line(&["shutdown", "sessions", "subject", r"/O=A B;C\/CN=x"]),
            r"shutdown sessions subject /O=A\ B\;C\\/CN=x"
        );
        assert_eq!(line(&["show info;show stat"]), "show info;show stat");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(asked(&["--help"]), Ok(None));
        for (words, wanted) in [
            (&[][..], "a command is missing, such as 'show info'"),
            (&["-s"], "-s needs a value"),
            (&["-t", "soon", "help"], "-t takes a number of seconds, not 'soon'"),
            (&["-x", "help"], "unknown option '-x'"),
            (&["a\nb"], "'a\\u{a}b' is not one line of UTF-8"),
        ] {
            assert_eq!(asked(words).unwrap_err(), wanted);
        }
    }

    fn exchanged(answer: &str) -> (io::Result<bool>, String, String) {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let good = exchange(io::sink(), answer.as_bytes(), "x", &mut out, &mut errors);
        (good, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[test]
    fn errors_are_told_from_answers() {
        let (good, out, errors) = exchanged("\na\nb\n\n");
        assert_eq!((good.unwrap(), &*out, &*errors), (true, "a\nb\n", ""));
        let (good, out, errors) = exchanged("\na\n\n[3]: wrong\nvery\n\nc\n\n");
        assert_eq!((good.unwrap(), &*out, &*errors), (false, "a\n\nc\n", "\nwrong\nvery\n"));
        let (good, ..) = exchanged("\n\n");
        assert!(good.unwrap(), "nothing to say is a success");
        let (good, out, _) = exchanged("\n\u{1b}[31m\tb\n\n");
        assert_eq!((good.unwrap(), &*out), (true, "\\u{1b}[31m\tb\n"), "a terminal is not told what to do");
    }

    #[test]
    fn an_answer_that_was_cut_short_is_an_error() {
        for cut in ["", "\n", "\na\n", "\na", "\na\n\nb\n", "\n[3]: wrong\n"] {
            assert_eq!(exchanged(cut).0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{cut:?}");
        }
        let quit = exchange(io::sink(), &b"\n"[..], "quit", &mut io::sink(), &mut io::sink());
        assert!(quit.unwrap(), "it has no answer");
        let (good, out, errors) = exchanged("Command too long.\n\n");
        assert_eq!((good.unwrap(), &*out, &*errors), (false, "", "Command too long.\n"), "nothing was done");
    }
}
