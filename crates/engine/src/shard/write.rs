//! What is to be written, connection by connection.
//!
//! Buffers go round among connections: one that has nothing to say has none.

use std::collections::VecDeque;
use std::io::IoSlice;

use midge_mqtt::ProtocolVersion;

use super::{ConnectionId, NONE, Shard};
use crate::permission::Turn;
use crate::session::connection::Connection;
use crate::session::outgoing::Outgoing;

/// Buffers that wait for a connection with something to say.
#[derive(Debug, Default)]
pub(super) struct Spare {
    // The box is what a connection keeps: eight bytes while idle.
    #[expect(clippy::vec_box, reason = "buffers move between here and connections without being copied")]
    buffers: Vec<Box<Outgoing>>,
    bytes: usize,
}

impl Shard {
    /// Returns a connection that has bytes to be written, each once until [`Shard::wrote`] says that some are left.
    pub fn next_ready(&mut self) -> Option<ConnectionId> {
        loop {
            let slot = self.ready.pop_front()?;
            let Some(connection) = self.connections.get_mut(slot).filter(|connection| connection.listed) else { continue };
            connection.listed = false;
            return Some(ConnectionId { slot, generation: connection.generation });
        }
    }

    /// Fills `slices` with the bytes to be written next and returns how many slices it used.
    pub fn slices<'a>(&'a self, connection: ConnectionId, slices: &mut [IoSlice<'a>]) -> usize {
        let known = self.connections.get(connection.slot).filter(|known| known.generation == connection.generation);
        known.and_then(|known| known.outgoing.as_ref()).map_or(0, |outgoing| outgoing.slices(slices))
    }

    /// Learns how many bytes were written; returns how many are left, to be written when the socket takes more.
    pub fn wrote(&mut self, connection: ConnectionId, bytes: usize, turn: &Turn<'_>) -> usize {
        let slot = connection.slot;
        let Some(known) = self.connections.get_mut(slot).filter(|known| known.generation == connection.generation) else {
            return 0;
        };
        let Some(outgoing) = &mut known.outgoing else { return 0 };
        let limit = self.settings.max_outgoing_bytes;
        let was_full = outgoing.len() >= limit / 2;
        outgoing.consume(bytes);
        let left = outgoing.len();
        let session = known.session;
        if left == 0
            && let Some(empty) = known.outgoing.take()
        {
            self.put_aside(empty);
        }
        if was_full && left < limit / 2 && session != NONE {
            self.pump(session, turn);
        }
        left
    }

    /// Returns whether more may be read from the connection.
    ///
    /// Not while too many acknowledgements wait for the journal, nor while the client leaves too many answers unread, nor once the connection is to be closed.
    #[must_use]
    pub fn wants_input(&self, connection: ConnectionId) -> bool {
        let known = self.connections.get(connection.slot).filter(|known| known.generation == connection.generation);
        known.is_some_and(|known| {
            !known.closing
                && known.owed() < usize::from(self.settings.receive_maximum)
                && known.waiting() < self.settings.max_outgoing_bytes
        })
    }

    /// Appends a packet for a connection and has it written; one that is too large for the client is left out [MQTT-3.1.2-24].
    pub(super) fn write_own(&mut self, slot: u32, write: impl FnOnce(ProtocolVersion, &mut Vec<u8>)) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let out = connection.outgoing.get_or_insert_with(|| self.spare.take()).own();
        let (start, capacity) = (out.len(), out.capacity());
        write(connection.version, out);
        self.memory.grow_buffer(out.capacity() - capacity);
        if out.len() - start > connection.max_packet as usize {
            out.truncate(start);
            self.counters.too_large += 1;
            return;
        }
        self.counters.answers += 1;
        list(connection, slot, &mut self.ready, self.emitter.committed());
    }

    /// Keeps a buffer for another connection, or gives its memory back.
    pub(super) fn put_aside(&mut self, buffer: Box<Outgoing>) {
        let capacity = buffer.capacity();
        if !self.spare.put(buffer, self.settings.spare_bytes) {
            self.memory.buffers -= capacity;
        }
    }
}

/// Puts a connection among those to be written, unless it is there or must not be written yet.
pub(super) fn list(connection: &mut Connection, slot: u32, ready: &mut VecDeque<u32>, committed: u64) {
    if !connection.listed && connection.corked <= committed {
        connection.listed = true;
        ready.push_back(slot);
    }
}

impl Spare {
    pub(super) fn take(&mut self) -> Box<Outgoing> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps a buffer, unless there are enough; returns whether it did.
    fn put(&mut self, mut buffer: Box<Outgoing>, limit: usize) -> bool {
        let fits = self.bytes + buffer.capacity() <= limit;
        if fits {
            buffer.clear();
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
        fits
    }
}
