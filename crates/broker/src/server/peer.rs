//! What a loop keeps of one socket.
//!
//! No buffer: the front of a packet whose rest hasn't come is all that is ever kept.

use std::net::SocketAddr;

use midge_engine::shard::{ConnectionId, SessionId};
use midge_mqtt::ProtocolVersion;

use super::transport::Transport;

/// A socket of one loop; never the same twice until four billion later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId {
    pub(super) slot: u32,
    pub(super) serial: u32,
}

/// A socket and how far it has come.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) transport: Transport,
    pub(super) phase: Phase,
    /// The front of a packet that isn't complete.
    pub(super) partial: Vec<u8>,
    pub(super) serial: u32,
    /// Whether the socket took less than it was offered: the next event says when it takes more.
    pub(super) blocked: bool,
    /// Whether the socket may hold bytes, and nothing will be told of them.
    pub(super) unread: bool,
    /// Whether it stands in the list of those to be read again.
    pub(super) listed: bool,
    /// Whether the other side has ended its stream.
    pub(super) ended: bool,
    /// Whether `partial` holds whole packets, to be handled before more is read.
    pub(super) deferred: bool,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// CONNECT is waited for.
    New(Box<Origin>),
    /// Whether the client is let in is being decided; its CONNECT is kept.
    Asked(Box<Asked>),
    /// The engine knows it.
    Open { id: ConnectionId, session: SessionId, version: ProtocolVersion },
    /// The engine has closed it, and its last bytes are being written.
    Closing { id: ConnectionId, linger: bool },
    /// Everything was said; what still comes is thrown away until the other side has closed, or time is over.
    ///
    /// To close a socket with unread bytes destroys what the other side hasn't read yet.
    Lingering,
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The number of the listener, from 0.
    pub listener: usize,
    /// The client's address, as a proxy says where there is one; `None` for a Unix socket.
    pub address: Option<SocketAddr>,
    /// The certificate that the client has proved, as DER.
    pub certificate: Option<Box<[u8]>>,
}

/// A client that waits for a decision.
#[derive(Debug)]
pub(super) struct Asked {
    /// The whole CONNECT.
    pub(super) frame: Vec<u8>,
    /// The client identifier that the client was given, as it has none of its own.
    pub(super) assigned: Option<Box<str>>,
    /// Whether it is expected to say something: AUTH.
    pub(super) challenged: bool,
}

impl Peer {
    pub(super) fn new(transport: Transport, phase: Phase, serial: u32) -> Self {
        Self {
            transport,
            phase,
            partial: Vec::new(),
            serial,
            blocked: false,
            unread: false,
            listed: false,
            ended: false,
            deferred: false,
        }
    }

    /// Returns the engine's name for it.
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        match self.phase {
            Phase::Open { id, .. } | Phase::Closing { id, .. } => Some(id),
            Phase::New(_) | Phase::Asked(_) | Phase::Lingering => None,
        }
    }
}
