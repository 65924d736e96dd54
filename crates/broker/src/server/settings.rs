//! What the event loops are told before they start.
//!
//! Values that were checked already: nothing here reads a file or has a syntax.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::pump::PushSource;
use super::transport::tls::TlsFiles;
use super::transport::websocket::Settings as WebSocketSettings;

/// What a server does and bears.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Event loops, at least one; best as many as there are cores for them.
    pub loops: u8,
    /// What each loop's engine offers and bears.
    pub engine: midge_engine::limits::Settings,
    /// Where clients come in.
    pub listeners: Vec<Listen>,
    /// What the sockets bear.
    pub limits: Limits,
    /// How often the server says how it is under `$SYS/broker`; `None` never.
    pub sys_interval: Option<Duration>,
    /// Where pushes come from, if any do.
    pub pushes: Option<PushSource>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            loops: 1,
            engine: midge_engine::limits::Settings::default(),
            listeners: Vec::new(),
            limits: Limits::default(),
            sys_interval: Some(Duration::from_secs(10)),
            pushes: None,
        }
    }
}

/// One place where clients come in.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Its address.
    pub address: Address,
    /// Whether every connection begins with a header of the PROXY protocol; whoever can connect can choose the address in it.
    pub proxy: bool,
    /// The certificates of TLS; without, connections are in the clear.
    pub tls: Option<TlsFiles>,
    /// What is asked of clients of WebSocket; without, MQTT lies directly on the connection.
    pub websocket: Option<WebSocketSettings>,
    /// Connections of this listener, beside those of all together.
    pub max_connections: Option<usize>,
    /// Who may connect to a Unix socket, as in chmod(2); `None` leaves it to the process's mask.
    pub unix_mode: Option<u32>,
    /// A socket that listens at the address already, such as one that systemd has passed.
    pub inherited: Option<Arc<OwnedFd>>,
}

impl Listen {
    /// Returns a listener for plain MQTT over TCP.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        Self::at(Address::Tcp(address))
    }

    /// Returns a listener for plain MQTT.
    #[must_use]
    pub fn at(address: Address) -> Self {
        let (tls, websocket, max_connections, unix_mode, inherited) = (None, None, None, None, None);
        Self { address, proxy: false, tls, websocket, max_connections, unix_mode, inherited }
    }
}

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and port; port 0 lets the operating system choose.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The bounds of what comes from outside; each has a counter in [`super::Traffic`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of all listeners together; more are closed as soon as they are accepted.
    pub max_connections: usize,
    /// Connections from one address; more are closed as soon as the address is known. `None` for no limit.
    pub max_per_address: Option<NonZeroUsize>,
    /// Connections of one user; more are refused with 0x97. `None` for no limit.
    pub max_per_user: Option<NonZeroUsize>,
    /// Connections accepted in a second, of all listeners together; 0 for no limit. More wait in the backlog of the listener.
    pub connect_rate: u32,
    /// Connections that wait to be accepted, for each listener; the operating system may bear fewer.
    pub backlog: i32,
    /// How long a connection may take until its CONNECT is there, all handshakes included.
    pub connect_timeout: Duration,
    /// The largest CONNECT, in bytes: it is buffered before anybody knows who sends it.
    pub max_connect_size: u32,
    /// How long a closing connection may take for its last bytes.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1_000_000,
            max_per_address: None,
            max_per_user: None,
            connect_rate: 0,
            backlog: 4096,
            connect_timeout: Duration::from_secs(10),
            // Five fields of 64 KiB and a little for properties.
            max_connect_size: 384 << 10,
            close_timeout: Duration::from_secs(5),
        }
    }
}
