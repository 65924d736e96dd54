//! Bytes go out, and connections end.

use std::io::{ErrorKind, IoSlice};

use midge_engine::shard::ConnectionId;

use super::event_loop::{EventLoop, turn};
use super::memory::held;
use super::peer::{PeerId, Phase};
use super::transport::{SLICES, Written};

/// Writes to one socket in one turn; who takes more has the rest in the next.
const WRITES: usize = 8;

impl EventLoop {
    /// Writes what a connection has.
    pub(super) fn flush(&mut self, connection: ConnectionId) {
        let Some(&slot) = self.peer_of.get(connection.slot()) else { return };
        let known = self.peers.get(slot as usize);
        if known.is_some_and(|peer| peer.connection() == Some(connection) && !peer.blocked) {
            self.flush_peer(slot);
        }
    }

    pub(super) fn flush_peer(&mut self, slot: u32) {
        for _ in 0..WRITES {
            let Some(peer) = self.peers.get_mut(slot as usize) else { return };
            let Some(id) = peer.connection() else { return };
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.shard.slices(id, &mut slices);
            if used == 0 {
                if !self.push(slot) {
                    return;
                }
                return self.flushed(slot, id);
            }
            match peer.transport.write(&slices[..used]) {
                Ok(Written { taken, blocked }) => {
                    peer.blocked = blocked;
                    self.traffic.bytes_sent += taken as u64;
                    let left = self.shard.wrote(id, taken, &turn!(self));
                    if left == 0 || blocked {
                        return self.flushed(slot, id);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    peer.blocked = true;
                    return;
                }
                Err(_) => return self.lost(slot),
            }
        }
        if let Some(id) = self.peers.get(slot as usize).and_then(super::peer::Peer::connection) {
            self.unwritten.push(id);
        }
    }

    /// Writes what the layers of a connection have to say by themselves; returns whether the connection goes on.
    pub(super) fn push(&mut self, slot: u32) -> bool {
        let Some(peer) = self.peers.get_mut(slot as usize) else { return false };
        match peer.transport.push() {
            Ok(all) => peer.blocked = !all,
            Err(_) => {
                self.lost(slot);
                return false;
            }
        }
        true
    }

    /// Goes on after a write: reads what was left unread, closes what was to be closed.
    fn flushed(&mut self, slot: u32, id: ConnectionId) {
        let Some(peer) = self.peers.get_mut(slot as usize) else { return };
        match peer.phase {
            Phase::Closing { linger, .. } if !peer.blocked => {
                self.forget(id);
                if linger { self.linger(slot) } else { self.drop_peer(slot) }
            }
            Phase::Open { .. } if peer.unread && self.shard.wants_input(id) => {
                peer.unread = false;
                self.list(slot);
            }
            _ => {}
        }
    }

    /// Closes a connection behind its last byte; the engine has ended it.
    pub(super) fn close(&mut self, connection: ConnectionId, linger: bool) {
        let Some(&slot) = self.peer_of.get(connection.slot()) else { return };
        let Some(peer) = self.peers.get_mut(slot as usize).filter(|peer| peer.connection() == Some(connection)) else { return };
        let id = PeerId { slot, serial: peer.serial };
        peer.phase = Phase::Closing { id: connection, linger };
        let blocked = peer.blocked;
        self.take_partial(slot);
        if !blocked {
            self.flush_peer(slot);
        }
        let closing = |peer: &super::peer::Peer| peer.serial == id.serial && matches!(peer.phase, Phase::Closing { .. });
        if self.peers.get(slot as usize).is_some_and(closing) {
            self.leave(id);
        }
    }

    /// Ends a connection whose layers have, saying what they have to say.
    pub(super) fn part_from(&mut self, slot: u32) {
        let Some(peer) = self.peer(slot) else { return };
        if let Some(connection) = peer.connection() {
            // What the client asked for before is still answered.
            self.flush_peer(slot);
            if self.peer(slot).is_none_or(|peer| peer.connection() != Some(connection)) {
                return;
            }
            self.forget(connection);
        }
        self.linger(slot);
    }

    /// Ends our side, and waits for the other to end its own.
    pub(super) fn linger(&mut self, slot: u32) {
        let Some(peer) = self.peers.get_mut(slot as usize) else { return };
        peer.phase = Phase::Lingering;
        let id = PeerId { slot, serial: peer.serial };
        self.take_partial(slot);
        self.mind.gone(id);
        let Some(peer) = self.peers.get_mut(slot as usize) else { return };
        if peer.transport.end().is_err() {
            return self.drop_peer(slot);
        }
        // What came before may still be unread.
        self.list(slot);
        self.leave(id);
    }

    fn leave(&mut self, id: PeerId) {
        self.leaving.push(self.now.monotonic + self.shared.settings.limits.close_timeout, id);
    }

    /// The other side has closed the socket, or it is broken.
    pub(super) fn lost(&mut self, slot: u32) {
        self.drop_peer(slot);
    }

    /// Closes a socket at once.
    pub(super) fn drop_peer(&mut self, slot: u32) {
        let Some(peer) = self.peers.try_remove(slot as usize) else { return };
        self.shared.memory.received(held(&peer.partial));
        match peer.phase {
            Phase::Open { id, .. } | Phase::Closing { id, .. } => self.forget(id),
            Phase::Asked(asked) => self.shared.memory.received(asked.frame.len()),
            Phase::New(_) | Phase::Lingering => {}
        }
        self.mind.gone(PeerId { slot, serial: peer.serial });
    }

    /// Tells the engine that a connection is no more.
    fn forget(&mut self, id: ConnectionId) {
        self.shard.closed(id, &turn!(self));
    }
}
