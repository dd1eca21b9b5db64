//! A service manager that only listens: the socket behind `$NOTIFY_SOCKET`, and what arrives there.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use bowline::sys::descriptors::{Passed, receive_with_descriptor};

use super::DEADLINE;

/// What was said in one datagram.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    /// `NAME=value`, a line each.
    text: String,
    /// The descriptor that came with it.
    pub(crate) descriptor: Option<Arc<OwnedFd>>,
}

impl Notice {
    /// The value of this name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The listening manager.
pub(crate) struct Manager {
    /// For `$NOTIFY_SOCKET`.
    pub(crate) path: PathBuf,
    heard: Arc<(Mutex<Vec<Notice>>, Condvar)>,
}

impl Manager {
    /// Listens at `notify` in `folder`, until the test ends.
    pub(crate) fn listen(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let heard = Arc::<(Mutex<Vec<Notice>>, Condvar)>::default();
        let sink = heard.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok((length, passed)) = receive_with_descriptor(socket.as_fd(), &mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let descriptor = match passed {
                    Passed::Descriptor(descriptor) => Some(Arc::new(descriptor)),
                    Passed::Nothing | Passed::Lost => None,
                };
                sink.0.lock().expect("a list").push(Notice { text, descriptor });
                sink.1.notify_all();
            }
        });
        Self { path, heard }
    }

    /// How much was heard: a place to wait from.
    pub(crate) fn mark(&self) -> usize {
        self.heard.0.lock().expect("a list").len()
    }

    /// Everything from `mark` on.
    pub(crate) fn since(&self, mark: usize) -> Vec<Notice> {
        self.heard.0.lock().expect("a list")[mark..].to_vec()
    }

    /// Waits for the first notice from `mark` on that suits; answers it and where to wait from for the next.
    #[track_caller]
    pub(crate) fn wait(&self, mark: usize, what: &str, suits: impl Fn(&Notice) -> bool) -> (Notice, usize) {
        let end = Instant::now() + DEADLINE;
        let mut heard = self.heard.0.lock().expect("a list");
        loop {
            if let Some(at) = heard.iter().skip(mark).position(&suits) {
                return (heard[mark + at].clone(), mark + at + 1);
            }
            let left = end.checked_duration_since(Instant::now());
            let Some(left) = left else { panic!("no {what} among {:?}", &heard[mark.min(heard.len())..]) };
            heard = self.heard.1.wait_timeout(heard, left).expect("a list").0;
        }
    }

    /// Waits for `name=1` from `mark` on.
    #[track_caller]
    pub(crate) fn wait_for(&self, mark: usize, name: &str) -> (Notice, usize) {
        self.wait(mark, name, |notice| notice.value(name) == Some("1"))
    }
}
