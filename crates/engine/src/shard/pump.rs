//! Sends a client what waits for it.
//!
//! What was in flight comes first, in its order, then the queue.
//! The client's receive maximum, its reading speed and the journal say how far it goes.

use std::sync::Arc;

use midge_mqtt::{Pubrel, QoS};

use super::Shard;
use super::deliver::{Letter, Stamp};
use crate::frame::{Forms, TooLarge};
use crate::message::Shared;
use crate::permission::Turn;
use crate::record::{Record, SessionKey};
use crate::session::inflight::Sending;
use crate::session::{Flow, NONE, Pending};

/// What became of a message that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    /// The client never gets it: not allowed, expired, too large.
    Dropped,
}

/// The session that is sent to.
#[derive(Clone, Copy, Debug)]
struct Receiver {
    session: u32,
    connection: u32,
    key: Option<SessionKey>,
}

impl Shard {
    /// Sends what the session has, if its client is there.
    pub(super) fn pump(&mut self, session: u32, turn: &Turn<'_>) {
        let Some(known) = self.sessions.get_mut(session).filter(|known| known.is_online()) else { return };
        let to = Receiver { session, connection: known.connection, key: known.key };
        let Some(mut flow) = known.flow.take() else { return };
        let mut forms = self.scratch.forms.take().unwrap_or_default();
        self.send_inflight(to, &mut flow, &mut forms, turn);
        self.send_queued(to, &mut flow, &mut forms, turn);
        self.scratch.forms = Some(forms);
        let walks = !flow.walks.is_empty() && flow.queue.is_empty();
        if let Some(known) = self.sessions.get_mut(session) {
            known.flow = Some(flow);
        }
        if walks {
            self.list_walk(to.connection);
        }
    }

    /// Has the retained messages of a session go on with the next [`Shard::advance`].
    pub(super) fn list_walk(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot).filter(|known| !known.walking && known.session != NONE) else {
            return;
        };
        if connection.waiting() < self.settings.max_outgoing_bytes / 2 {
            connection.walking = true;
            self.walking.push_back(slot);
        }
    }

    /// Returns how many messages of QoS 1 and 2 the client takes now.
    fn quota(&self, slot: u32) -> usize {
        let limit = self.settings.max_outgoing_bytes;
        self.connections.get(slot).filter(|known| known.waiting() < limit).map_or(0, |known| usize::from(known.quota))
    }

    fn send_inflight(&mut self, to: Receiver, flow: &mut Flow, forms: &mut Forms, turn: &Turn<'_>) {
        let mut at = 0;
        while let Some((place, entry)) = flow.inflight.next_unsent(at, self.emitter.committed()) {
            at = place + 1;
            let id = entry.packet_id;
            if entry.message.is_none() {
                self.write_own(to.connection, |version, out| {
                    let written = Pubrel::success(id).encode(version, out);
                    debug_assert!(written.is_ok(), "a PUBREL without properties fits every packet");
                });
                flow.inflight.mark_sent(place);
            } else if self.quota(to.connection) > 0 {
                match self.send_pending(to, entry, forms, turn) {
                    Outcome::Sent => flow.inflight.mark_sent(place),
                    Outcome::Dropped => at = self.give_up(to, flow, place),
                }
            }
        }
    }

    /// Gives up a message in flight; returns the place to go on at.
    ///
    /// The client may hold a message of QoS 2 that was sent before: it is released, as if it had said that it has it.
    fn give_up(&mut self, to: Receiver, flow: &mut Flow, place: usize) -> usize {
        let Some((_, entry)) = flow.inflight.next_unsent(place, self.emitter.committed()) else { return place + 1 };
        let (id, order) = (entry.packet_id, entry.order);
        let known_to_client = entry.dup && entry.message.as_ref().is_some_and(|pending| pending.qos == QoS::ExactlyOnce);
        if !known_to_client {
            flow.inflight.remove(id);
            self.record_done(to.key, order);
            return place;
        }
        let after = to.key.map_or(0, |session| self.emitter.emit(Record::Released { session, order, packet_id: id }));
        flow.inflight.release(id, false, after);
        self.wake_after(to.session, after);
        place
    }

    fn send_queued(&mut self, to: Receiver, flow: &mut Flow, forms: &mut Forms, turn: &Turn<'_>) {
        while self.quota(to.connection) > flow.inflight.unsent() && !flow.inflight.is_full() {
            let before = flow.queue.bytes();
            let Some(pending) = flow.queue.pop() else { return };
            self.counters.queued_messages -= 1;
            self.counters.queued_bytes -= before - flow.queue.bytes();
            let (order, qos) = (pending.order, pending.qos);
            if !self.may_still(to, &pending, turn) {
                self.record_done(to.key, order);
                continue;
            }
            let Some(packet_id) = flow.inflight.free_id() else { return };
            let after = to.key.map_or(0, |session| self.emitter.emit(Record::Sent { session, order, packet_id }));
            let after = if qos == QoS::ExactlyOnce { after } else { 0 };
            flow.inflight.push(packet_id, pending, after);
            if after > self.emitter.committed() {
                self.wake_after(to.session, after);
                continue;
            }
            let outcome = match flow.inflight.find(packet_id) {
                Some(entry) => self.send_pending(to, entry, forms, turn),
                None => Outcome::Sent,
            };
            if outcome == Outcome::Sent {
                flow.inflight.mark_last_sent();
            } else {
                flow.inflight.remove(packet_id);
                self.record_done(to.key, order);
            }
        }
    }

    /// Returns whether a message that waited is still to be delivered: rules change, and messages expire.
    fn may_still(&mut self, to: Receiver, pending: &Pending, turn: &Turn<'_>) -> bool {
        let view = pending.message.view();
        let Some(client) = self.client(to.session) else { return false };
        if !turn.permissions.may_receive(&client, view.topic) {
            self.counters.denied_receive += 1;
            return false;
        }
        if view.is_expired(turn.monotonic()) {
            self.counters.expired += 1; // [MQTT-3.3.2-5]
            return false;
        }
        true
    }

    fn send_pending(&mut self, to: Receiver, entry: &Sending, forms: &mut Forms, turn: &Turn<'_>) -> Outcome {
        let Some(pending) = &entry.message else { return Outcome::Sent };
        let view = pending.message.view();
        // What was sent before has begun to be delivered, and expires no more.
        let may = match entry.dup {
            false => self.may_still(to, pending, turn),
            true => self.client(to.session).is_some_and(|client| turn.permissions.may_receive(&client, view.topic)),
        };
        if !may {
            return Outcome::Dropped;
        }
        let message = Shared::of(&pending.message);
        let letter = Letter {
            message: &message,
            topic_hash: self.key.text(view.topic.as_str()),
            remaining: view.remaining(turn.monotonic()),
        };
        let stamp = Stamp {
            qos: pending.qos,
            packet_id: Some(entry.packet_id),
            dup: entry.dup,
            retain: pending.retain,
            identifiers: pending.identifiers.as_slice(),
        };
        forms.reset(true);
        match self.write_message(to.connection, &letter, &stamp, forms) {
            Ok(()) => Outcome::Sent,
            Err(TooLarge) => Outcome::Dropped,
        }
    }

    pub(super) fn record_done(&mut self, key: Option<SessionKey>, order: u64) {
        if let Some(session) = key {
            self.emitter.emit(Record::Done { session, order });
        }
    }

    /// Sends retained messages for a session's new subscriptions, a few at a time and only to who reads them.
    pub(super) fn walk(&mut self, session: u32, turn: &Turn<'_>) {
        /// Topics looked at in one step: some microseconds.
        const VISITED: usize = 64;
        let limit = self.settings.max_outgoing_bytes / 2;
        let Some(known) = self.sessions.get_mut(session) else { return };
        let slot = known.connection;
        let Some(connection) = self.connections.get(slot).filter(|known| known.waiting() < limit) else { return };
        let _ = connection;
        let Some(flow) = known.flow.as_mut().filter(|flow| flow.queue.is_empty()) else { return };
        let committed = self.emitter.committed();
        let Some(walk) = flow.walks.front_mut().filter(|walk| walk.after <= committed) else { return };
        let mut found = std::mem::take(&mut self.scratch.found);
        let progress = walk.cursor.next_batch(&self.retained, VISITED, turn.monotonic(), |_, kept| {
            found.extend(kept.value.message.as_ref().map(Arc::clone));
        });
        let options = walk.options;
        if progress == crate::retained::Progress::Done {
            flow.walks.pop_front();
        }
        let more = !flow.walks.is_empty();
        for message in found.drain(..) {
            self.deliver_retained(session, options, &message, turn);
        }
        self.scratch.found = found;
        if more {
            self.list_walk(slot);
        }
    }
}
