//! Messages sent and not yet acknowledged to the end.
//!
//! In the order of sending, which is the order of sending them again [MQTT-4.6.0-1].

use std::collections::VecDeque;

use midge_mqtt::PacketId;

use super::Pending;
use crate::record::Order;

/// What is in flight to one client.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    entries: VecDeque<Sending>,
    last_id: u16,
    /// How many identifiers behind the last are known to be free.
    unchecked: u16,
    /// Entries that have to be sent, again or for the first time.
    unsent: usize,
}

/// One message in flight.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) packet_id: PacketId,
    pub(crate) order: Order,
    /// The message; `None` once PUBREC came, and PUBREL is what is sent.
    pub(crate) message: Option<Pending>,
    /// Whether it was sent on the connection that is there.
    sent: bool,
    /// Whether the message itself was, and counts against the client's receive maximum.
    counted: bool,
    /// Whether it was sent on an earlier one.
    pub(crate) dup: bool,
    /// The record that must be committed before it is sent.
    pub(crate) after: u64,
}

impl Inflight {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether all packet identifiers are in use.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= usize::from(u16::MAX)
    }

    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Returns a packet identifier that is not in use [MQTT-2.2.1-4].
    pub(crate) fn free_id(&mut self) -> Option<PacketId> {
        if self.is_full() {
            return None;
        }
        let mut id = PacketId::new(self.last_id).map_or(PacketId::MIN, PacketId::next);
        // Looking through all of them is needed once in a round of the identifiers, where none is held for longer.
        while self.unchecked == 0 {
            self.unchecked = self.entries.iter().map(|entry| distance(id, entry.packet_id)).min().unwrap_or(u16::MAX);
            if self.unchecked == 0 {
                id = id.next();
            }
        }
        self.unchecked -= 1;
        self.last_id = id.value();
        Some(id)
    }

    /// Adds a message that is to be sent once the record `after` is committed.
    pub(crate) fn push(&mut self, packet_id: PacketId, message: Pending, after: u64) {
        self.unsent += 1;
        let order = message.order;
        self.entries.push_back(Sending {
            packet_id,
            order,
            message: Some(message),
            sent: false,
            counted: false,
            dup: false,
            after,
        });
    }

    /// Adds what was in flight before a restart: it may have been sent.
    pub(crate) fn restore(&mut self, packet_id: PacketId, order: Order, message: Option<Pending>) {
        self.unsent += 1;
        (self.last_id, self.unchecked) = (packet_id.value(), 0);
        self.entries.push_back(Sending { packet_id, order, message, sent: false, counted: false, dup: true, after: 0 });
    }

    pub(crate) fn find(&mut self, id: PacketId) -> Option<&mut Sending> {
        self.entries.iter_mut().find(|entry| entry.packet_id == id)
    }

    /// Removes an entry; what is acknowledged is mostly the first.
    pub(crate) fn remove(&mut self, id: PacketId) -> Option<Sending> {
        let at = self.entries.iter().position(|entry| entry.packet_id == id)?;
        let entry = self.entries.remove(at)?;
        self.unsent -= usize::from(!entry.sent);
        Some(entry)
    }

    /// Forgets the message of an entry: from now on PUBREL is what is sent.
    ///
    /// Where PUBREL is on its way already, `sent`, it is sent again only on the next connection.
    pub(crate) fn release(&mut self, id: PacketId, sent: bool, after: u64) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.packet_id == id) else { return };
        self.unsent += usize::from(entry.sent && !sent);
        self.unsent -= usize::from(!entry.sent && sent);
        (entry.message, entry.sent, entry.after) = (None, sent, after);
    }

    /// Returns the first entry from `at` on that has to be sent and may be, with its place.
    pub(crate) fn next_unsent(&mut self, at: usize, committed: u64) -> Option<(usize, &mut Sending)> {
        if self.unsent == 0 {
            return None;
        }
        self.entries.iter_mut().enumerate().skip(at).find(|(_, entry)| !entry.sent && entry.after <= committed)
    }

    /// Notes that the entry at a place was sent.
    pub(crate) fn mark_sent(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at).filter(|entry| !entry.sent) {
            entry.sent = true;
            entry.counted = entry.message.is_some();
            self.unsent -= 1;
        }
    }

    /// Notes that the entry that was added last was sent.
    pub(crate) fn mark_last_sent(&mut self) {
        self.mark_sent(self.entries.len().saturating_sub(1));
    }

    /// Makes everything be sent again on the next connection [MQTT-4.4.0-1].
    pub(crate) fn rewind(&mut self) {
        for entry in &mut self.entries {
            entry.dup |= entry.sent;
            (entry.sent, entry.counted) = (false, false);
        }
        self.unsent = self.entries.len();
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Sending> {
        self.unsent = 0;
        self.entries.drain(..)
    }
}

/// Returns how often `from` has to be followed by its next to come to `to`.
fn distance(from: PacketId, to: PacketId) -> u16 {
    let (from, to) = (from.value(), to.value());
    if to >= from { to - from } else { u16::MAX - (from - to) }
}

impl Sending {
    /// Returns whether its end frees a place of the client's receive maximum [MQTT-3.3.4-9].
    pub(crate) fn frees_place(&self) -> bool {
        self.counted
    }
}
