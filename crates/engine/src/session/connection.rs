//! What is kept of a network connection.

use std::time::Duration;

use midge_mqtt::ProtocolVersion;

use super::alias::Aliases;
use super::held::Line;
use super::outgoing::Outgoing;

/// A connection whose CONNECT was accepted.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The slot of its session, or `NONE` once it is closing.
    pub(crate) session: u32,
    /// Tells it from connections before it in the slot.
    pub(crate) generation: u32,
    /// When the last packet came, in milliseconds.
    pub(crate) heard: u64,
    pub(crate) outgoing: Option<Box<Outgoing>>,
    pub(crate) aliases: Option<Box<Aliases>>,
    pub(crate) held: Option<Box<Line>>,
    /// Nothing is written before this record is committed: CONNACK is the first packet and promises a session.
    pub(crate) corked: u64,
    /// The largest packet that the client takes, in bytes.
    pub(crate) max_packet: u32,
    /// Messages of QoS 1 and 2 that may be sent now, and at most.
    pub(crate) quota: u16,
    pub(crate) window: u16,
    /// Messages of QoS 1 and 2 of the client that we have not acknowledged to the end.
    pub(crate) unacknowledged: u16,
    /// Aliases towards the client.
    pub(crate) alias_maximum: u16,
    /// In seconds, 0 for none.
    pub(crate) keep_alive: u16,
    pub(crate) version: ProtocolVersion,
    /// Whether it is in the list of connections to be written.
    pub(crate) listed: bool,
    /// Whether its session has retained messages to be sent and is in the list of those.
    pub(crate) walking: bool,
    /// Whether the client closes the connection by itself, or we do after the last byte.
    pub(crate) closing: bool,
}

impl Connection {
    /// Returns when the client is taken for dead if nothing comes: after one and a half keep alives [MQTT-3.1.2-22].
    pub(crate) fn deadline(&self) -> Option<Duration> {
        (self.keep_alive > 0).then(|| Duration::from_millis(self.heard + u64::from(self.keep_alive) * 1500))
    }

    /// Returns how many acknowledgements wait to be sent.
    pub(crate) fn owed(&self) -> usize {
        self.held.as_ref().map_or(0, |line| line.len())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.len())
    }
}
