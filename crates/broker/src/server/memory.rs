//! Memory for packets whose end hasn't come yet.
//!
//! Never more than twice what has come: an announced size alone costs nothing.
//! Of what is large, room for all is reserved once some of it is there, so that it needn't be moved; what isn't written yet takes address space and no memory.
//! Where there is none left, whoever holds most gives way, and is told (0x97).

use std::time::Duration;

use midge_mqtt::ReasonCode;

use super::event_loop::{EventLoop, turn};
use super::peer::Phase;
use super::seldom::Seldom;

/// The time between two looks at who holds most, each at all connections of the loop.
const LOOK: Duration = Duration::from_millis(20);

/// From this size on room for a whole packet is reserved.
const LARGE: usize = 1 << 20;

/// What a loop remembers of times without memory.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    next_look: Duration,
    line: Seldom,
    /// What had given way when the log was last looked after.
    told: u64,
}

impl EventLoop {
    /// Keeps the front of a packet of `size` until its rest comes; returns false where it can't, and the connection ends.
    pub(super) fn keep(&mut self, slot: u32, bytes: &[u8], size: usize) -> bool {
        let Some(peer) = self.peers.get_mut(slot as usize) else { return false };
        let (length, capacity) = (peer.partial.len() + bytes.len(), peer.partial.capacity());
        let wanted = match length {
            _ if length <= capacity => capacity,
            _ if length > LARGE / 2 => size.max(length),
            _ => size.clamp(length, 2 * length),
        };
        let more = counted(length, wanted).saturating_sub(counted(peer.partial.len(), capacity));
        if more > 0 && !self.shared.memory.receive(more) && !self.make_room(slot, more) {
            self.out_of_memory(slot);
            return false;
        }
        let Some(peer) = self.peers.get_mut(slot as usize) else { return false };
        if peer.partial.try_reserve_exact(wanted - peer.partial.len()).is_err() {
            self.shared.memory.received(more);
            self.out_of_memory(slot);
            return false;
        }
        peer.partial.extend_from_slice(bytes);
        true
    }

    /// Returns the front of a packet, which isn't kept any more.
    pub(super) fn take_partial(&mut self, slot: u32) -> Vec<u8> {
        let Some(peer) = self.peers.get_mut(slot as usize) else { return Vec::new() };
        self.shared.memory.received(held(&peer.partial));
        std::mem::take(&mut peer.partial)
    }

    /// Ends the connection that holds most, if that is more than this one asks for; returns whether it got it then.
    fn make_room(&mut self, slot: u32, bytes: usize) -> bool {
        let now = self.now.monotonic;
        if now < self.shortage.next_look {
            return false;
        }
        self.shortage.next_look = now + LOOK;
        let most = self.peers.iter().max_by_key(|(_, peer)| held(&peer.partial));
        let Some((most, peer)) = most else { return false };
        let Ok(most_slot) = u32::try_from(most) else { return false };
        if most_slot == slot || held(&peer.partial) <= bytes {
            return false;
        }
        self.out_of_memory(most_slot);
        self.shared.memory.receive(bytes)
    }

    fn out_of_memory(&mut self, slot: u32) {
        self.traffic.closed_memory += 1;
        self.take_partial(slot);
        match self.peer(slot).map(|peer| &peer.phase) {
            Some(&Phase::Open { id, .. }) => self.shard.disconnect(id, ReasonCode::QuotaExceeded, &turn!(self)),
            Some(Phase::New(_) | Phase::Asked(_)) => self.drop_peer(slot),
            Some(Phase::Closing { .. } | Phase::Lingering) | None => {}
        }
    }

    /// Says in the log what gave way for want of memory.
    pub(super) fn tell_of_shortage(&mut self) {
        let engine = self.shard.counters();
        let (dropped, refused, closed) = (engine.dropped_memory, engine.refused_memory, self.traffic.closed_memory);
        let all = dropped + refused + closed;
        if all == self.shortage.told {
            return;
        }
        self.shortage.told = all;
        if self.shortage.line.now(self.now.monotonic).is_some() {
            let (used, limit) = (self.shared.memory.used(), self.shared.memory.limit());
            log::warn!(
                "clients take {used} of the {limit} bytes of memory_max; since this event loop began: \
                 {dropped} messages not kept, {refused} sessions and subscriptions refused, {closed} connections closed"
            );
        }
    }
}

/// Returns what the front of a packet counts for.
pub(super) fn held(partial: &Vec<u8>) -> usize {
    counted(partial.len(), partial.capacity())
}

fn counted(length: usize, capacity: usize) -> usize {
    if capacity > LARGE { length } else { capacity }
}
