//! The client's side of acknowledging, and its signs of life.

use midge_mqtt::{Packet, PacketId, Puback, Pubcomp, Pubrec, Pubrel, QoS, ReasonCode};

use super::Shard;
use crate::permission::Turn;
use crate::record::Record;
use crate::session::held::HeldPacket;
use crate::session::inflight::Sending;

impl Shard {
    /// A message of QoS 1 is delivered, or refused, which is the same to us [MQTT-4.8.2-6].
    pub(super) fn incoming_puback(&mut self, slot: u32, packet: &Puback<'_>, turn: &Turn<'_>) -> Result<(), ReasonCode> {
        self.complete(slot, packet.packet_id, |entry| is_message(entry, QoS::AtLeastOnce), turn)
    }

    /// The client has a message of QoS 2, or refuses it.
    pub(super) fn incoming_pubrec(&mut self, slot: u32, packet: &Pubrec<'_>, turn: &Turn<'_>) -> Result<(), ReasonCode> {
        let id = packet.packet_id;
        if packet.reason_code.is_failure() {
            return self.complete(slot, id, |entry| is_message(entry, QoS::ExactlyOnce), turn);
        }
        let Some(session) = self.sessions.get_mut(self.session_of(slot)) else { return Ok(()) };
        let key = session.key;
        let inflight = session.flow.as_mut().map(|flow| &mut flow.inflight);
        let Some(inflight) = inflight else {
            self.hold(slot, 0, 0, HeldPacket::Pubrel(id, ReasonCode::PacketIdentifierNotFound));
            return Ok(());
        };
        match inflight.find(id) {
            Some(entry) if entry.message.is_none() => {
                let after = entry.after;
                self.hold(slot, after, 0, HeldPacket::Pubrel(id, ReasonCode::Success));
            }
            Some(entry) if is_message(entry, QoS::ExactlyOnce) => {
                let order = entry.order;
                let record = key.map(|session| Record::Released { session, order, packet_id: id });
                let after = record.map_or(0, |record| self.emitter.emit(record));
                inflight.release(id, true, after);
                self.hold(slot, after, 0, HeldPacket::Pubrel(id, ReasonCode::Success)); // [MQTT-4.3.3-4]
            }
            Some(_) => return Err(ReasonCode::ProtocolError),
            None => self.hold(slot, 0, 0, HeldPacket::Pubrel(id, ReasonCode::PacketIdentifierNotFound)),
        }
        Ok(())
    }

    /// The client may use the packet identifier of a message of QoS 2 for another.
    pub(super) fn incoming_pubrel(&mut self, slot: u32, packet: &Pubrel<'_>) -> Result<(), ReasonCode> {
        let id = packet.packet_id;
        let Some(session) = self.sessions.get_mut(self.session_of(slot)) else { return Ok(()) };
        let known = session.flow.as_mut().is_some_and(|flow| flow.received.remove(&id).is_some());
        let mut after = 0;
        if let Some(key) = session.key {
            // Even where it is not known: that may be known for a moment only, and not be on disk.
            after = self.emitter.emitted();
            if known {
                after = self.emitter.emit(Record::Forgotten { session: key, packet_id: id });
            }
        }
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.hold(slot, after, 0, HeldPacket::Pubcomp(id, reason)); // [MQTT-4.3.3-11]
        Ok(())
    }

    /// A message of QoS 2 is delivered.
    pub(super) fn incoming_pubcomp(&mut self, slot: u32, packet: &Pubcomp<'_>, turn: &Turn<'_>) -> Result<(), ReasonCode> {
        self.complete(slot, packet.packet_id, |entry| entry.message.is_none(), turn)
    }

    /// Takes a message out of flight, and sends the next.
    ///
    /// An acknowledgement of the wrong kind is out of order: the message would stay in flight for ever.
    fn complete(
        &mut self,
        slot: u32,
        id: PacketId,
        expected: impl Fn(&Sending) -> bool,
        turn: &Turn<'_>,
    ) -> Result<(), ReasonCode> {
        let session = self.session_of(slot);
        let Some(known) = self.sessions.get_mut(session) else { return Ok(()) };
        let key = known.key;
        let Some(flow) = known.flow.as_mut() else { return Ok(()) };
        if flow.inflight.find(id).is_some_and(|entry| !expected(entry)) {
            return Err(ReasonCode::ProtocolError);
        }
        // Who acknowledges what isn't there, after a crash for instance, is not punished.
        let Some(sending) = flow.inflight.remove(id) else { return Ok(()) };
        let more = !flow.queue.is_empty() || flow.inflight.unsent() > 0 || !flow.walks.is_empty();
        if let Some(connection) = self.connections.get_mut(slot).filter(|_| sending.frees_place()) {
            connection.quota = connection.quota.saturating_add(1).min(connection.window);
        }
        self.record_done(key, sending.order);
        if more {
            self.pump(session, turn);
        }
        Ok(())
    }

    /// Answers PINGREQ [MQTT-3.12.4-1]. Who pings is idle: what is kept for busy times is given back.
    pub(super) fn incoming_pingreq(&mut self, slot: u32) {
        self.write_own(slot, |version, out| {
            let written = Packet::Pingresp.encode(version, out);
            debug_assert!(written.is_ok(), "PINGRESP is the same in all versions");
        });
        let session = self.session_of(slot);
        if let Some(known) = self.sessions.get_mut(session)
            && known.flow.as_ref().is_some_and(|flow| flow.is_idle())
        {
            known.flow = None;
        }
    }
}

fn is_message(entry: &Sending, qos: QoS) -> bool {
    entry.message.as_ref().is_some_and(|pending| pending.qos == qos)
}
