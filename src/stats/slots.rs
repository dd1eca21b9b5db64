//! What is counted, and for whom.

use super::PerLoop;
use super::counter::{
    ByLabel, ConnectScale, Counted, Counter, HandshakeScale, Histogram, LifetimeScale, RecentLongest, TurnScale,
};
use super::labels::{
    ClientVerify, ConnectError, HandshakeFailure, HandshakeKind, ProxyFailure, Termination, TicketRefusal,
};

/// Declares a slot of counters, and the same fields as plain numbers for their sum. A field is a [`Counter`] unless
/// its type is given.
macro_rules! counters {
    ($(#[$doc:meta])* $slot:ident, $totals:ident {
        $($(#[$field_doc:meta])* $field:ident $(: $kind:ty)?,)+
    }) => {
        $(#[$doc])*
        ///
        /// As large as the pair of cache lines that a processor may fetch together, or a multiple of it.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct $slot { $($(#[$field_doc])* pub $field: counters!(@kind $($kind)?),)+ }

        /// The sum over loops; see the slot of the same name.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $totals {
            $($(#[$field_doc])* pub $field: <counters!(@kind $($kind)?) as Counted>::Total,)+
        }

        impl PerLoop<$slot> {
            /// The sum over all loops.
            pub fn sum(&self) -> $totals {
                let mut totals = $totals::default();
                for slot in self.slots() {
                    $(slot.$field.add_to(&mut totals.$field);)+
                }
                totals
            }
        }
    };
    (@kind) => { Counter };
    (@kind $kind:ty) => { $kind };
}

/// `active` alone, over all loops: cheap enough to be asked for before each accept.
macro_rules! active {
    ($($slot:ident)+) => {
        $(impl PerLoop<$slot> {
            /// `active` alone, over all loops.
            pub fn active(&self) -> u64 {
                self.slots().iter().fold(0, |sum: u64, slot| sum.wrapping_add(slot.active.value()))
            }
        })+
    };
}

active! { ProcessSlot FrontendSlot BackendSlot ServerSlot }

counters! {
    /// What one loop counts for the process.
    ProcessSlot, ProcessTotals {
        /// Client connections that exist now: HAProxy's `%ac`.
        active,
        /// Client connections ever accepted.
        accepted,
        /// Those of `active` that came through a `bind … ssl` line.
        tls_active,
        /// Times that accepting stopped for want of descriptors or memory.
        accept_pauses,
        /// Connections ended by a panic that was contained.
        panics,
    }
}

/// What one loop's turns take.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct LoopSlot {
    /// From the moment that the kernel told of something until all of it was served.
    pub time: Histogram<TurnScale>,
    /// The longest of late.
    pub longest: RecentLongest,
}

counters! {
    /// What one loop counts for one frontend.
    FrontendSlot, FrontendTotals {
        /// Client connections that exist now: HAProxy's `%fc`.
        active,
        /// Client connections ever accepted.
        accepted,
        /// Connections that were closed as soon as they were accepted, for want of room.
        shed,
        /// Connections that were turned away before anything was read from them.
        denied,
        /// PROXY headers that were required and did not come or were wrong.
        proxy_failures: ByLabel<ProxyFailure, { ProxyFailure::COUNT }, Counter>,
        /// Handshakes that succeeded.
        handshakes: ByLabel<HandshakeKind, { HandshakeKind::COUNT }, Counter>,
        /// Handshakes that failed.
        handshake_failures: ByLabel<HandshakeFailure, { HandshakeFailure::COUNT }, Counter>,
        /// What came of looking for clients' certificates.
        client_verify: ByLabel<ClientVerify, { ClientVerify::COUNT }, Counter>,
        /// Tickets that did not resume a session.
        tickets_refused: ByLabel<TicketRefusal, { TicketRefusal::COUNT }, Counter>,
        /// Plaintext bytes from clients.
        bytes_from_clients,
        /// Plaintext bytes to clients.
        bytes_to_clients,
        /// How long handshakes that succeeded took, from the client's first byte.
        handshake_time: Histogram<HandshakeScale>,
        /// How connections ended.
        closed: ByLabel<Termination, { Termination::COUNT }, Counter>,
        /// How long connections that have ended lived.
        lifetime: Histogram<LifetimeScale>,
    }
}

counters! {
    /// What one loop counts for one backend.
    BackendSlot, BackendTotals {
        /// Connections that have chosen this backend and still use it: HAProxy's `%bc`.
        active,
        /// Connections that ever chose it.
        chosen,
    }
}

counters! {
    /// What one loop counts for one server.
    ServerSlot, ServerTotals {
        /// Connections to it that exist now, being opened ones included: HAProxy's `%sc`.
        active,
        /// How long it took to connect to it; whatever is in there was established.
        connect_time: Histogram<ConnectScale>,
        /// Connects that were tried again.
        retries,
        /// Connects that failed or timed out, and were not tried again.
        connect_errors: ByLabel<ConnectError, { ConnectError::COUNT }, Counter>,
        /// Bytes from clients for it, PROXY headers not counted.
        bytes_to_server,
        /// Bytes received from it.
        bytes_from_server,
    }
}

/// What the master has told its worker about the service. Written by the worker's main thread alone.
#[derive(Debug, Default)]
pub struct ServiceFacts {
    /// Workers that were started in place of one that died.
    pub worker_restarts: Counter,
    /// Configurations that were adopted, the first one included.
    pub reloads_adopted: Counter,
    /// Reloads that were refused.
    pub reloads_refused: Counter,
    /// 1 if the last attempt was adopted.
    pub last_reload_adopted: Counter,
    /// When a configuration was last adopted, in seconds since 1970.
    pub last_adopted_at: Counter,
}
