//! What all loops of a server have in common.
//!
//! Nothing here is touched per message.

use std::sync::Arc;

use arc_swap::ArcSwap;
use midge_engine::hash::HashKey;
use midge_engine::memory::Budget;
use midge_mqtt::{Peer as Sender, Rules};
use midge_store::service::Clock;

use rustls::ServerConfig;

use super::handshake::Errand;
use super::mailbox::Mailbox;
use super::report::Reports;
use super::seats::Seats;
use super::settings::Settings;
use super::transport::Kind;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) key: HashKey,
    /// What peers take of memory.
    pub(super) memory: Arc<Budget>,
    /// The same for all loops, and for the mind: what one says of time, another understands.
    pub(super) clock: Clock,
    pub(super) mailboxes: Vec<Mailbox>,
    /// The way into the threads of TLS handshakes; none where no listener has TLS.
    pub(super) vestibules: Vec<Mailbox<Errand>>,
    /// The certificates of each listener as they are now.
    pub(super) certificates: Vec<Option<ArcSwap<ServerConfig>>>,
    /// How each loop is.
    pub(super) reports: Reports,
    pub(super) seats: Arc<Seats>,
}

impl Shared {
    /// Returns what a connection of a listener begins with.
    pub(super) fn kind(&self, listener: usize) -> Kind {
        let Some(listen) = self.settings.listeners.get(listener) else { return Kind::default() };
        let tls = self.certificates.get(listener).and_then(|certificates| certificates.as_ref());
        Kind { proxy: listen.proxy, tls: tls.map(ArcSwap::load_full), websocket: listen.websocket.clone().map(Arc::new) }
    }

    /// Returns what is accepted from a client.
    #[inline]
    pub(super) fn rules(&self, sender: Sender) -> Rules {
        let size = match sender {
            Sender::NewClient => self.settings.limits.max_connect_size.min(self.settings.engine.max_packet_size),
            Sender::Client(_) | Sender::Server(_) => self.settings.engine.max_packet_size,
        };
        Rules { peer: sender, max_packet_size: size, bridges: true }
    }
}
