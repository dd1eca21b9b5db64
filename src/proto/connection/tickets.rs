//! Session tickets of TLS 1.3 (RFC 8446, 4.6.1) wait for the server's first bytes and go out with them. That is a packet less
//! for each handshake; and what arrives at a client that only sends, and is gone already, is answered with RST.

use std::time::Duration;

use super::{Connection, Now, Scratch};

/// Longest wait for the server. A client needs its tickets for the next connection.
const WAIT: Duration = Duration::from_millis(50);

impl Connection {
    /// Keeps what is in the output, the last that the handshake has to say, if it is tickets alone. Answers whether it did.
    pub(super) fn hold_tickets(&mut self, now: Now, scratch: &mut Scratch) -> bool {
        let tickets = self.engine.as_ref().is_some_and(|engine| engine.has_issued_tickets());
        if tickets {
            self.to_client.store(scratch.outgoing.bytes(), &mut scratch.pool);
            self.held_back = Some(now.instant + WAIT);
        }
        tickets
    }

    /// Whether bytes wait for the client and for nothing else.
    pub(super) fn client_is_slow(&self) -> bool {
        self.to_client.pending() > 0 && self.held_back.is_none()
    }
}
