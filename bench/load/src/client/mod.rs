//! `bowline-load client`: the TLS clients in front of a product, all in one event loop, steered by lines on standard input.

mod connection;
mod engine;
mod job;
mod latency;
mod load;
#[cfg(feature = "openssl-client")]
mod openssl;
mod session;

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::path::PathBuf;

use rustls::pki_types::ServerName;

use crate::certificates::{SERVER_NAME, host_name};
use crate::offer::{Listener, Named, Offer};
use crate::wire;
use engine::Target;
pub(crate) use load::leaf_name;
use load::{Load, Until};

/// `key=value` arguments of a client.
struct Arguments(BTreeMap<String, String>);

impl Arguments {
    fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        words
            .map(|word| match word.split_once('=') {
                Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
                None => Err(format!("'{word}' is not key=value")),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn text(&self, key: &str) -> Result<&str, String> {
        self.0.get(key).map(String::as_str).ok_or_else(|| format!("{key}=… is missing"))
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, String> {
        number(self.text(key)?)
    }

    fn named<T: Named>(&self, key: &str) -> Result<T, String> {
        let text = self.text(key)?;
        T::ALL.iter().copied().find(|one| one.name() == text).ok_or_else(|| format!("{key}={text} is unknown"))
    }

    fn target(&self) -> Result<Target, String> {
        let name = |name: &str| ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"));
        let offer = Offer {
            listener: self.named("listener")?,
            version: self.named("version")?,
            suite: self.named("suite")?,
            group: self.named("group")?,
            sessions: self.named("sessions")?,
            library: self.named("tls")?,
        };
        let names = match (offer.listener, self.number("hosts")?) {
            (Listener::Sni, count) => (0..count).map(|host| name(&host_name(host))).collect::<Result<_, _>>()?,
            _ => vec![name(SERVER_NAME)?],
        };
        Ok(Target { port: self.number("port")?, names, offer, certificates: PathBuf::from(self.text("certificates")?) })
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number in range"))
}

/// The next command of the runner; `None`: it wants no more.
fn command() -> Option<String> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(count) if count > 0 => Some(line.trim().to_owned()),
        _ => None,
    }
}

/// Arguments: `port`, `certificates` (the directory), `hosts` (certificates of the listener `sni`), and those of an [`Offer`].
///
/// Commands, where TIME is milliseconds, or `line`: until the next line, which is no command. Each answers with the sums of this
/// process so far, and with what it counted and measured itself.
///
/// - `open COUNT`: that many more connections, each proved by an echo of one byte, to be kept
/// - `connect COUNT`: the same without the echo, for transfers
/// - `handshakes TIME COUNT`: connect, echo one byte, close, so many at a time
/// - `echo TIME LENGTH COUNT`: so many echoes at a time, each on the open connection that has been idle for longest
/// - `pace TIME LENGTH MICROSECONDS`: an echo on each open connection at this interval, whether or not the last one is back
/// - `up TIME` and `down TIME`: transfers on all open connections
/// - `probe`: a connection that only tells which certificate it saw
/// - `check`: an echo on every open connection, and how many are alive
pub(crate) fn run(words: impl Iterator<Item = String>) -> Result<(), String> {
    let mut load = Load::new(Arguments::parse(words)?.target()?)?;
    while let Some(command) = command() {
        let words: Vec<&str> = command.split(' ').collect();
        let mut values = match *words.as_slice() {
            ["open", count] => load.open(number(count)?, true),
            ["connect", count] => load.open(number(count)?, false),
            ["handshakes", time, count] => load.handshakes(Until::parse(time)?, number(count)?),
            ["echo", time, length, count] => load.echo(Until::parse(time)?, number(length)?, number(count)?),
            ["pace", time, length, interval] => load.pace(Until::parse(time)?, number(length)?, number(interval)?),
            ["up", time] => load.transfer(Until::parse(time)?, true),
            ["down", time] => load.transfer(Until::parse(time)?, false),
            ["probe"] => load.probe(),
            ["check"] => load.check(),
            _ => Err(format!("unknown command '{command}'")),
        }?;
        if words.contains(&"line") {
            let _ = self::command();
        }
        let tally = load.tally();
        values.extend([
            ("connections", tally.connections.to_string()),
            ("digest", tally.digest.to_string()),
            ("bare", tally.bare.to_string()),
            ("resets", tally.resets.to_string()),
        ]);
        wire::answer(&load.take_errors(), &values);
    }
    Ok(())
}
