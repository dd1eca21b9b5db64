//! A TLS 1.3 client that writes any record it likes, also those that no library would write.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use super::client::{Client, dial, timed_out};

/// Content type of an alert (RFC 8446, appendix B.1).
pub(crate) const ALERT: u8 = 21;
/// Content type of a handshake message.
pub(crate) const HANDSHAKE: u8 = 22;
/// Content type of application data.
pub(crate) const APPLICATION_DATA: u8 = 23;

/// A finished TLS 1.3 handshake and the keys of this end.
pub(crate) struct RecordClient {
    tcp: TcpStream,
    kernel: KernelConnection<ClientConnectionData>,
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl RecordClient {
    /// Connects as `client` would, with TLS 1.3.
    #[track_caller]
    pub(crate) fn connect(client: &Client, address: SocketAddr) -> Self {
        let mut tcp = dial(address);
        let name = ServerName::try_from("server.test").expect("a name");
        let mut conn = UnbufferedClientConnection::new(client.config(), name).expect("a client");
        let mut incoming = Vec::new();
        let mut outgoing = Vec::new();
        loop {
            let UnbufferedStatus { discard, state, .. } = conn.process_tls_records(&mut incoming);
            let mut done = false;
            let mut blocked = false;
            match state.expect("a handshake") {
                ConnectionState::EncodeTlsData(mut encode) => {
                    let mut piece = vec![0; 1 << 16];
                    let length = encode.encode(&mut piece).expect("64 KiB are enough");
                    outgoing.extend_from_slice(&piece[..length]);
                }
                ConnectionState::TransmitTlsData(transmit) => {
                    tcp.write_all(&outgoing).expect("the server reads");
                    outgoing.clear();
                    transmit.done();
                }
                ConnectionState::BlockedHandshake => blocked = true,
                ConnectionState::WriteTraffic(_) => done = true,
                other => panic!("unexpected: {other:?}"),
            }
            incoming.drain(..discard);
            if done {
                break;
            }
            if blocked {
                let mut piece = [0; 16384];
                let read = tcp.read(&mut piece).expect("the server answers");
                assert!(read > 0, "the server hung up during the handshake");
                incoming.extend_from_slice(&piece[..read]);
            }
        }
        let (secrets, kernel) = conn.dangerous_into_kernel_connection().expect("keys of a finished handshake");
        let (key, iv) = unpack(&secrets.tx.1);
        Self { tcp, kernel, key, iv, sequence: secrets.tx.0 }
    }

    /// Encrypts one record.
    pub(crate) fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len() + 1 + self.key.algorithm().tag_len();
        let [high, low] = u16::try_from(length).expect("a record").to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        let mut inner = content.to_vec();
        inner.push(content_type);
        let mut nonce = self.iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence += 1;
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header), &mut inner)
            .expect("encryption");
        let mut record = header.to_vec();
        record.extend_from_slice(&inner);
        record
    }

    /// A KeyUpdate (RFC 8446, 4.6.3) that asks for none in return; what follows is encrypted with the new key.
    pub(crate) fn key_update(&mut self) -> Vec<u8> {
        let record = self.record(HANDSHAKE, &[24, 0, 0, 1, 0]);
        let (sequence, secrets) = self.kernel.update_tx_secret().expect("TLS 1.3");
        (self.key, self.iv) = unpack(&secrets);
        self.sequence = sequence;
        record
    }

    /// Writes these bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tcp.write_all(bytes)
    }

    /// Writes what `next` makes until the server hangs up: how long that took. `None`: it still listened after `count` times.
    pub(crate) fn flood(&mut self, count: usize, mut next: impl FnMut(&mut Self) -> Vec<u8>) -> Option<Duration> {
        let start = Instant::now();
        let mut batch = Vec::new();
        for round in 1..=count {
            batch.extend(next(self));
            if batch.len() > 16384 || round == count {
                if self.send(&batch).is_err() {
                    return Some(start.elapsed());
                }
                batch.clear();
            }
        }
        None
    }

    /// Whether the server hangs up before `deadline`; whatever it still sends is read.
    pub(crate) fn hung_up(&mut self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let mut piece = [0; 16384];
        while let Some(rest) = end.checked_duration_since(Instant::now()) {
            let rest = rest.max(Duration::from_millis(1));
            self.tcp.set_read_timeout(Some(rest)).expect("SO_RCVTIMEO");
            match self.tcp.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if timed_out(&error) => {}
                Err(_) => return true,
            }
        }
        false
    }
}

fn unpack(secrets: &ConnectionTrafficSecrets) -> (LessSafeKey, [u8; 12]) {
    let (algorithm, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
        _ => panic!("an unknown cipher"),
    };
    let key = UnboundKey::new(algorithm, key.as_ref()).expect("a key");
    let iv = iv.as_ref().try_into().expect("12 bytes");
    (LessSafeKey::new(key), iv)
}
