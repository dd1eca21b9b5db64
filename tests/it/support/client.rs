//! TLS clients, blocking, with a deadline on every read and write.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::certs::{Identity, pki};
use super::sessions::Sessions;
use super::trust::{Always, AnyServer, provider};
use super::{DEADLINE, assert_same_bytes};

/// A group of the key exchange, as rustls has it.
pub(crate) type Group = &'static dyn SupportedKxGroup;

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &rustls::version::TLS12,
            Self::Tls13 => &rustls::version::TLS13,
        }
    }

    /// OpenSSL's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// How the other end of a stream looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A close_notify: all data is there.
    CloseNotify,
    /// A FIN without close_notify.
    Truncated,
    /// A RST.
    Reset,
    /// A fatal alert.
    Alert(AlertDescription),
}

/// What a client does. Sessions are remembered from one connection to the next.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
    server_name: ServerName<'static>,
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
}

impl Client {
    /// A client that speaks this version, asks for `server.test`, shows no certificate, believes any server, and does not
    /// offer ALPN.
    pub(crate) fn new(version: Version) -> Self {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version.supported()])
            .expect("suites for every version")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer::with_any_key()))
            .with_no_client_auth();
        Self::with(config)
    }

    /// As [`Client::new`], but it offers these suites and groups, in this order.
    pub(crate) fn offering(version: Version, suites: &[SupportedCipherSuite], groups: &[Group]) -> Self {
        let provider =
            CryptoProvider { cipher_suites: suites.to_vec(), kx_groups: groups.to_vec(), ..(*provider()).clone() };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version.supported()])
            .expect("suites and groups for the version")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer::with_any_key()))
            .with_no_client_auth();
        Self::with(config)
    }

    /// As [`Client::new`], but it insists on a server certificate from the shared server CA for the name that it asks for.
    pub(crate) fn strict(version: Version) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let anchor = pki().server_ca.certificate().clone();
        roots.add(anchor).expect("a trust anchor");
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version.supported()])
            .expect("suites for every version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self::with(config)
    }

    fn with(mut config: ClientConfig) -> Self {
        let sessions = Arc::new(Sessions::new());
        config.resumption = Resumption::store(sessions.clone());
        config.enable_secret_extraction = true;
        Self {
            config: Arc::new(config),
            sessions,
            server_name: ServerName::try_from("server.test").expect("a name"),
            receive_buffer: None,
            send_buffer: None,
        }
    }

    /// With sessions of its own, none so far.
    pub(crate) fn forgetting(mut self) -> Self {
        self.sessions = Arc::new(Sessions::new());
        let resumption = Resumption::store(self.sessions.clone());
        self.change(|config| config.resumption = resumption)
    }

    fn change(mut self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// Shows this certificate to whoever asks, whatever authorities they name.
    pub(crate) fn identity(self, identity: &Identity) -> Self {
        let key = PrivatePkcs8KeyDer::from(identity.key.clone()).into();
        let key = provider().key_provider.load_private_key(key);
        let certified = CertifiedKey::new(identity.chain.clone(), key.expect("a key"));
        self.change(|config| {
            config.client_auth_cert_resolver = Arc::new(Always(Arc::new(certified)));
        })
    }

    /// Asks for this name.
    pub(crate) fn sni(mut self, name: &str) -> Self {
        self.server_name = ServerName::try_from(name.to_owned()).expect("a name");
        self
    }

    /// Asks for no name.
    pub(crate) fn no_sni(self) -> Self {
        self.change(|config| config.enable_sni = false)
    }

    /// Offers these protocols.
    pub(crate) fn alpn(self, protocols: &[&str]) -> Self {
        self.change(|config| {
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        })
    }

    /// Accepts only server keys that sign with ECDSA (true) or RSA (false).
    pub(crate) fn only_ecdsa(self, ecdsa: bool) -> Self {
        self.change(|config| {
            config.dangerous().set_certificate_verifier(Arc::new(AnyServer::with_key(ecdsa)));
        })
    }

    /// Would send early data where a server permits it.
    pub(crate) fn early_data(self) -> Self {
        self.change(|config| config.enable_early_data = true)
    }

    /// SO_RCVBUF, set before the connection is made, so that it bounds the window.
    pub(crate) fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// SO_SNDBUF.
    pub(crate) fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// How often a remembered session was offered to a server.
    pub(crate) fn offers(&self) -> usize {
        self.sessions.offers()
    }

    /// A plain TCP connection.
    #[track_caller]
    pub(crate) fn dial(&self, address: SocketAddr) -> TcpStream {
        dial_with(address, self.receive_buffer, self.send_buffer).expect("a TCP connection")
    }

    /// A TLS connection over this socket, still without a handshake.
    pub(crate) fn over(&self, tcp: TcpStream) -> Tls {
        let name = self.server_name.clone();
        let conn = ClientConnection::new(self.config.clone(), name).expect("a client");
        Tls { tcp, conn, ended: None }
    }

    /// Connects and finishes the handshake as far as this end sees it (with TLS 1.3 the server may still refuse the
    /// certificate afterwards).
    #[track_caller]
    pub(crate) fn try_connect(&self, address: SocketAddr) -> Result<Tls, Ending> {
        let mut tls = self.over(self.dial(address));
        tls.handshake()?;
        Ok(tls)
    }

    /// As [`Client::try_connect`].
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    pub(crate) fn connect(&self, address: SocketAddr) -> Tls {
        match self.try_connect(address) {
            Ok(tls) => tls,
            Err(ending) => panic!("handshake with {address}: {ending:?}"),
        }
    }

    /// Connects where the handshake must fail, and answers how. Sends a byte of data so that a server that lets it pass
    /// passes it on.
    #[track_caller]
    pub(crate) fn refused(&self, address: SocketAddr) -> Ending {
        let mut tls = match self.try_connect(address) {
            Err(ending) => return ending,
            Ok(tls) => tls,
        };
        // The answer may already be on its way; failing to write is no news then.
        let _ = tls.conn.writer().write(b"?");
        let _ = tls.flush();
        let (data, ending) = tls.read_to_end();
        assert_eq!(data, b"", "data from a server that had to refuse");
        ending
    }

    /// The rustls configuration, for those who drive rustls otherwise.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The bytes of a ClientHello.
    pub(crate) fn hello(&self) -> Vec<u8> {
        let name = self.server_name.clone();
        let mut conn = ClientConnection::new(self.config.clone(), name).expect("a client");
        let mut hello = Vec::new();
        conn.write_tls(&mut hello).expect("memory");
        hello
    }
}

/// A TCP connection with deadlines; buffer sizes in bytes.
pub(crate) fn dial_with(
    address: SocketAddr,
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.connect_timeout(&address.into(), DEADLINE)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    Ok(socket.into())
}

/// A TCP connection with deadlines.
#[track_caller]
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    dial_with(address, None, None).expect("a TCP connection")
}

/// Closes with a RST.
pub(crate) fn reset(tcp: TcpStream) {
    let socket = Socket::from(tcp);
    socket.set_linger(Some(std::time::Duration::ZERO)).expect("SO_LINGER");
}

/// Whether the error says that nothing came in time.
pub(crate) fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A TLS connection.
#[derive(Debug)]
pub(crate) struct Tls {
    /// The socket.
    pub(crate) tcp: TcpStream,
    /// The state of TLS.
    pub(crate) conn: ClientConnection,
    /// How the server's stream ended, once it has.
    ended: Option<Ending>,
}

impl Tls {
    /// The client's own address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.tcp.local_addr().expect("an address")
    }

    /// Handshakes.
    #[track_caller]
    pub(crate) fn handshake(&mut self) -> Result<(), Ending> {
        while self.conn.is_handshaking() {
            if self.flush().is_err() {
                // What the server said before it hung up counts for more.
                return Err(self.read_tls().err().unwrap_or(Ending::Reset));
            }
            if self.conn.is_handshaking() {
                self.read_tls()?;
            }
        }
        let _ = self.flush();
        Ok(())
    }

    /// Reads once from the socket; `Err`: how the stream ended, however often it is asked.
    #[track_caller]
    fn read_tls(&mut self) -> Result<(), Ending> {
        if self.ended.is_none() {
            self.ended = self.read_once();
        }
        self.ended.map_or(Ok(()), Err)
    }

    #[track_caller]
    fn read_once(&mut self) -> Option<Ending> {
        match self.conn.read_tls(&mut self.tcp) {
            Ok(0) => Some(Ending::Truncated),
            Ok(_) => match self.conn.process_new_packets() {
                Ok(state) if state.peer_has_closed() => Some(Ending::CloseNotify),
                Ok(_) => None,
                Err(Error::AlertReceived(alert)) => Some(Ending::Alert(alert)),
                Err(error) => panic!("the server broke TLS: {error}"),
            },
            Err(error) if timed_out(&error) => panic!("nothing from the server in {DEADLINE:?}"),
            // A signal, or a machine that was stopped for a moment: with SO_RCVTIMEO the system does not go on by itself.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(_) => Some(Ending::Reset),
        }
    }

    /// Writes what TLS has to say.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.conn.wants_write() {
            self.conn.write_tls(&mut self.tcp)?;
        }
        Ok(())
    }

    /// Sends data.
    #[track_caller]
    pub(crate) fn write_all(&mut self, data: &[u8]) {
        self.try_write_all(data).expect("the server takes data");
    }

    /// Sends data; an error when the server is gone.
    pub(crate) fn try_write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let taken = self.conn.writer().write(data)?;
            data = &data[taken..];
            self.flush()?;
        }
        Ok(())
    }

    /// Receives exactly `length` bytes.
    #[track_caller]
    pub(crate) fn read_exact(&mut self, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.conn.reader().read(&mut data[filled..]) {
                Ok(0) => panic!("close_notify after {filled} of {length} bytes"),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(ending) = self.read_tls() {
                        // A close_notify may have come in one piece with the data before it.
                        let rest = self.conn.reader().read(&mut data[filled..]);
                        filled += rest.unwrap_or(0);
                        assert!(filled == length, "{ending:?} after {filled} of {length} bytes");
                    }
                }
                Err(error) => panic!("{error} after {filled} of {length} bytes"),
            }
        }
        data
    }

    /// Receives everything up to the end, and how it ended.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, Ending) {
        let mut data = Vec::new();
        loop {
            let ending = self.read_tls().err();
            // An end of stream that rustls finds unclean is reported by read_tls.
            let _ = self.conn.reader().read_to_end(&mut data);
            if let Some(ending) = ending {
                return (data, ending);
            }
        }
    }

    /// How the stream ended, without data before it.
    #[track_caller]
    pub(crate) fn ending(&mut self) -> Ending {
        let (data, ending) = self.read_to_end();
        assert_eq!(data, b"", "data in place of an end");
        ending
    }

    /// Sends `data` and expects it back.
    #[track_caller]
    pub(crate) fn echo(&mut self, data: &[u8]) {
        self.write_all(data);
        assert_same_bytes(&self.read_exact(data.len()), data);
    }

    /// Sends a close_notify and nothing else.
    #[track_caller]
    pub(crate) fn close_notify(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("the server takes a close_notify");
    }

    /// Sends a FIN (without close_notify, unless [`Tls::close_notify`] came first).
    pub(crate) fn fin(&mut self) {
        self.tcp.shutdown(Shutdown::Write).expect("a connection");
    }

    /// Sends a RST.
    pub(crate) fn reset(self) {
        reset(self.tcp);
    }

    /// The server's certificate.
    pub(crate) fn server_certificate(&self) -> CertificateDer<'static> {
        self.conn.peer_certificates().expect("a certificate")[0].clone().into_owned()
    }

    /// Whether an earlier session was resumed.
    pub(crate) fn resumed(&self) -> bool {
        self.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The negotiated protocol.
    pub(crate) fn alpn(&self) -> Option<String> {
        let protocol = self.conn.alpn_protocol()?;
        Some(String::from_utf8_lossy(protocol).into_owned())
    }

    /// Sends `outgoing` and receives `length` bytes at the same time, reading at most `piece` bytes at once.
    #[track_caller]
    pub(crate) fn exchange(&mut self, outgoing: &[u8], length: usize, piece: usize) -> Vec<u8> {
        self.tcp.set_nonblocking(true).expect("O_NONBLOCK");
        let mut sent = 0;
        let mut received = Vec::with_capacity(length);
        let mut last_progress = Instant::now();
        let mut small = vec![0; piece];
        while sent < outgoing.len() || self.conn.wants_write() || received.len() < length {
            let mut wanted = PollFlags::empty();
            if received.len() < length {
                wanted |= PollFlags::POLLIN;
            }
            if sent < outgoing.len() || self.conn.wants_write() {
                wanted |= PollFlags::POLLOUT;
            }
            let mut fds = [PollFd::new(self.tcp.as_fd(), wanted)];
            poll(&mut fds, PollTimeout::from(1000_u16)).expect("poll");
            let before = (sent, received.len());
            if !self.conn.wants_write() && sent < outgoing.len() {
                sent += self.conn.writer().write(&outgoing[sent..]).expect("memory");
            }
            while self.conn.wants_write() {
                match self.conn.write_tls(&mut self.tcp) {
                    Ok(_) => last_progress = Instant::now(),
                    Err(error) if timed_out(&error) => break,
                    Err(error) => panic!("writing after {sent} bytes: {error}"),
                }
            }
            match self.conn.read_tls(&mut (&self.tcp).take(piece as u64)) {
                Ok(0) => panic!("the end after {} of {length} bytes", received.len()),
                Ok(_) => {
                    self.conn.process_new_packets().expect("TLS");
                }
                Err(error) if timed_out(&error) => {}
                // rustls holds unread data; the loop below takes it.
                Err(error) if error.kind() == io::ErrorKind::Other => {}
                Err(error) => panic!("reading after {} bytes: {error}", received.len()),
            }
            while let Ok(read @ 1..) = self.conn.reader().read(&mut small) {
                received.extend_from_slice(&small[..read]);
            }
            if (sent, received.len()) != before {
                last_progress = Instant::now();
            }
            assert!(
                last_progress.elapsed() < DEADLINE,
                "no progress after sending {sent} of {} and receiving {} of {length} bytes",
                outgoing.len(),
                received.len()
            );
        }
        self.tcp.set_nonblocking(false).expect("O_NONBLOCK");
        received
    }
}
