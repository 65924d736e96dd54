//! One message to one session: written, in flight, or queued.

use std::sync::Arc;

use midge_mqtt::{PacketId, ProtocolVersion, QoS, SubscriptionId};

use super::route::Routing;
use super::{Client, ConnectionId, SessionId, Shard, list};
use crate::frame::{Forms, Target, TooLarge};
use crate::memory::Share;
use crate::message::Shared;
use crate::permission::Turn;
use crate::record::{Order, Record, SessionKey};
use crate::session::queue::Room;
use crate::session::{Identifiers, Pending};

/// A session that gets a message, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressed<'a> {
    pub(super) session: u32,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: &'a [SubscriptionId],
    /// The shared subscription that it comes by.
    pub(super) shared: Option<&'a Arc<str>>,
    /// Whether the sender waits for the client to read, so that nothing has to be dropped.
    pub(super) patient: bool,
}

/// What all packets with one message have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter<'a, 'm> {
    pub(super) message: &'m Shared<'a>,
    pub(super) topic_hash: u64,
    pub(super) remaining: Option<u32>,
}

/// How one packet differs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp<'a> {
    pub(super) qos: QoS,
    pub(super) packet_id: Option<PacketId>,
    pub(super) dup: bool,
    pub(super) retain: bool,
    pub(super) identifiers: &'a [SubscriptionId],
}

impl Shard {
    /// Delivers a message to a session, if it may have it.
    pub(super) fn deliver(&mut self, to: &Addressed<'_>, routing: &mut Routing<'_, '_>, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get(to.session) else { return };
        let connection = self.connections.get(session.connection);
        if connection.is_none() && to.qos == QoS::AtMostOnce {
            return;
        }
        let client = Client {
            session: SessionId(to.session),
            connection: connection.map(|known| ConnectionId { slot: session.connection, generation: known.generation }),
            client_id: &session.client_id,
            username: session.username.as_deref(),
        };
        let view = routing.message.view();
        if !turn.permissions.may_receive(&client, view.topic) {
            self.counters.denied_receive += 1;
            return;
        }
        if view.is_expired(turn.monotonic()) {
            self.counters.expired += 1; // [MQTT-3.3.2-5]
            return;
        }
        routing.deliveries += 1;
        if client.connection.is_none() {
            turn.permissions.missed(&client, view);
        }
        if to.qos > QoS::AtMostOnce {
            return self.deliver_safely(to, routing);
        }
        let (slot, waiting) = (session.connection, connection.map_or(0, crate::session::connection::Connection::waiting));
        if waiting >= self.settings.max_outgoing_bytes && !to.patient {
            self.counters.dropped_slow += 1;
            return;
        }
        if waiting > 0 && !self.memory.has(Share::Begin) {
            self.counters.dropped_memory += 1;
            return;
        }
        let letter = Letter { message: routing.message, topic_hash: routing.topic_hash, remaining: routing.remaining };
        let stamp = Stamp { qos: to.qos, packet_id: None, dup: false, retain: to.retain, identifiers: to.identifiers };
        // What is too large for the client counts as sent [MQTT-3.1.2-25].
        let _ = self.write_message(slot, &letter, &stamp, &mut routing.forms);
    }

    /// Puts a message of QoS 1 or 2 in flight, or in the queue.
    ///
    /// Where it is dropped at once, the message on disk may have gone with this target: the next one needs another.
    fn deliver_safely(&mut self, to: &Addressed<'_>, routing: &mut Routing<'_, '_>) {
        let Some(session) = self.sessions.get_mut(to.session) else { return };
        let slot = session.connection;
        let key = session.key;
        let flow = session.flow.get_or_insert_default();
        let pending = Pending {
            order: flow.next_order(),
            message: routing.message.message(),
            qos: to.qos,
            retain: to.retain,
            identifiers: Identifiers::new(to.identifiers),
            shared: to.shared.map(Arc::clone),
        };
        let limit = self.settings.max_outgoing_bytes;
        let connection = self.connections.get(slot);
        let room = connection.is_some_and(|known| usize::from(known.quota) > flow.inflight.unsent() && known.waiting() < limit);
        // Who acknowledges what it has is not held up by those who don't.
        let room = room && (flow.inflight.is_empty() || self.memory.has(Share::Begin));
        let packet_id = if room && flow.queue.is_empty() { flow.inflight.free_id() } else { None };
        let after = key.map_or(0, |key| self.record_queued(key, &pending, packet_id, routing));
        routing.after = routing.after.max(after);
        let Some(packet_id) = packet_id else {
            routing.queued += usize::from(slot == super::NONE);
            let order = pending.order;
            if self.enqueue(to, pending) == Some(order) {
                routing.key = None;
            }
            return;
        };
        let qos = pending.qos;
        // After a crash, nobody would know that it was sent, or under which packet identifier.
        let after = if qos == QoS::ExactlyOnce { after } else { 0 };
        let Some(flow) = self.sessions.get_mut(to.session).and_then(|known| known.flow.as_mut()) else { return };
        flow.inflight.push(packet_id, pending, after);
        if after > self.emitter.committed() {
            return self.wake_after(to.session, after);
        }
        let letter = Letter { message: routing.message, topic_hash: routing.topic_hash, remaining: routing.remaining };
        let stamp = Stamp { qos, packet_id: Some(packet_id), dup: false, retain: to.retain, identifiers: to.identifiers };
        match self.write_message(slot, &letter, &stamp, &mut routing.forms) {
            Ok(()) => self.note_sent(to.session),
            Err(TooLarge) => {
                self.drop_inflight(to.session, packet_id);
                routing.key = None;
            }
        }
    }

    /// Emits the records for a message that waits for a persistent session; returns the number of the last.
    fn record_queued(
        &mut self,
        session: SessionKey,
        pending: &Pending,
        packet_id: Option<PacketId>,
        routing: &mut Routing<'_, '_>,
    ) -> u64 {
        let view = routing.message.view();
        let message = *routing.key.get_or_insert_with(|| {
            let key = self.emitter.message_key();
            let expires = routing.remaining.filter(|_| view.expires.is_some());
            let expires = expires.map(|seconds| routing.unix.saturating_add(u64::from(seconds)));
            self.emitter.emit(Record::Message { key, message: routing.message.message(), expires });
            key
        });
        self.emitter.emit(Record::Queued {
            session,
            order: pending.order,
            message,
            qos: pending.qos,
            retain: pending.retain,
            identifiers: pending.identifiers.as_slice().into(),
            shared: pending.shared.clone(),
            packet_id,
        })
    }

    /// Adds a message to a session's queue; returns the order of what gave way last, perhaps itself.
    fn enqueue(&mut self, to: &Addressed<'_>, pending: Pending) -> Option<Order> {
        let known = self.sessions.get_mut(to.session)?;
        let settings = &self.settings;
        let (messages, bytes, when_full) = (settings.max_queued_messages, settings.max_queued_bytes, settings.when_full);
        // A patient sender goes on only once the queue is empty: what it brings at once is little.
        let (messages, bytes) = if to.patient { (usize::MAX, usize::MAX) } else { (messages, bytes) };
        let key = known.key;
        let flow = known.flow.get_or_insert_default();
        // Where memory is short, a queue may change but not grow.
        let short = !self.memory.has(Share::Keep);
        let (messages, bytes) =
            if short { (messages.min(flow.queue.len()), bytes.min(flow.queue.bytes())) } else { (messages, bytes) };
        let room = Room { messages, bytes, when_full };
        self.counters.queued_messages -= flow.queue.len();
        self.counters.queued_bytes -= flow.queue.bytes();
        let mut last_dropped = None;
        flow.queue.push(pending, room, |dropped| {
            *(if short { &mut self.counters.dropped_memory } else { &mut self.counters.dropped_full }) += 1;
            last_dropped = Some(dropped.order);
            if let Some(key) = key {
                self.emitter.emit(Record::Done { session: key, order: dropped.order });
            }
        });
        self.counters.queued_messages += flow.queue.len();
        self.counters.queued_bytes += flow.queue.bytes();
        self.memory.grow(size_of::<Pending>());
        last_dropped
    }

    /// Appends a PUBLISH for a connection and has it written.
    pub(super) fn write_message(
        &mut self,
        slot: u32,
        letter: &Letter<'_, '_>,
        stamp: &Stamp<'_>,
        forms: &mut Forms,
    ) -> Result<(), TooLarge> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(()) };
        let outgoing = connection.outgoing.get_or_insert_with(|| self.spare.take());
        let alias = (connection.alias_maximum > 0 && connection.version == ProtocolVersion::V5).then(|| {
            let aliases = connection.aliases.get_or_insert_default();
            aliases.assign(letter.message.view().topic.as_str(), letter.topic_hash, connection.alias_maximum)
        });
        let target = Target {
            version: connection.version,
            qos: stamp.qos,
            packet_id: stamp.packet_id,
            dup: stamp.dup,
            retain: stamp.retain,
            identifiers: stamp.identifiers,
            alias,
            max_packet: connection.max_packet,
        };
        let capacity = outgoing.capacity();
        let mut written = forms.write(letter.message, letter.remaining, &target, outgoing);
        if let (Err(TooLarge), Some((aliases, alias))) = (written, connection.aliases.as_mut().zip(alias)) {
            // It may fit without the alias, which nobody asked for.
            aliases.unassign(alias);
            written = forms.write(letter.message, letter.remaining, &Target { alias: None, ..target }, outgoing);
        }
        self.memory.grow_buffer(outgoing.capacity() - capacity);
        match written {
            Ok(()) => {
                self.counters.sent += 1;
                self.counters.sent_bytes += letter.message.view().payload.len() as u64;
                connection.quota -= u16::from(stamp.qos > QoS::AtMostOnce).min(connection.quota);
            }
            Err(TooLarge) => self.counters.too_large += 1,
        }
        list(connection, slot, &mut self.ready, self.emitter.committed());
        written
    }

    fn note_sent(&mut self, session: u32) {
        if let Some(flow) = self.sessions.get_mut(session).and_then(|known| known.flow.as_mut()) {
            flow.inflight.mark_last_sent();
        }
    }

    /// Treats a message as delivered that the client will never get.
    fn drop_inflight(&mut self, session: u32, packet_id: PacketId) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        let key = known.key;
        let sending = known.flow.as_mut().and_then(|flow| flow.inflight.remove(packet_id));
        if let (Some(key), Some(sending)) = (key, sending) {
            self.emitter.emit(Record::Done { session: key, order: sending.order });
        }
    }
}
