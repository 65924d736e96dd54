//! What the broker says to a client.

use midge_mqtt::{
    Connack, Decoded, Delivery, Packet, PacketId, Peer, Puback, Pubcomp, Publish, Pubrec, Pubrel, ReasonCode, Rules, Suback, decode,
};

use super::Worker;
use super::client::{Due, State, encode};
use crate::clock;
use crate::payload::Stamp;
use crate::plan::Scenario;
use crate::sequence::Arrival;
use crate::wire::Told;

impl<T: FnMut(Told)> Worker<T> {
    /// Reads all that is there for a client.
    pub(super) fn read(&mut self, at: usize) {
        let mut clear = std::mem::take(&mut self.clients[at].input);
        loop {
            let Some(transport) = &mut self.clients[at].transport else { return };
            let layered = transport.is_layered();
            let read = transport.read(&mut self.scratch, &mut clear);
            // What came before an end of the connection came.
            let used = match self.packets(at, &clear) {
                Ok(used) => used,
                Err(why) => return self.lose(at, &why),
            };
            clear.drain(..used);
            if layered {
                self.touch(at);
            }
            match read {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return self.lose(at, &format!("the connection has ended: {error}")),
            }
        }
        if clear.is_empty() && clear.capacity() > 4096 {
            clear = Vec::new();
        }
        self.clients[at].input = clear;
    }

    /// Handles the packets of `input`; returns how much of it they were.
    fn packets(&mut self, at: usize, input: &[u8]) -> Result<usize, String> {
        let rules = Rules::new(Peer::Server(self.plan.version()));
        let now = clock::now();
        let mut used = 0;
        while used < input.len() {
            match decode(&rules, &input[used..]) {
                Ok(Decoded::Packet(packet, length)) => {
                    used += length;
                    self.packet(at, &packet, now)?;
                }
                Ok(Decoded::Incomplete(_)) => break,
                Err(error) => return Err(format!("a packet of the broker is wrong: {error}")),
            }
        }
        Ok(used)
    }

    fn packet(&mut self, at: usize, packet: &Packet<'_>, now: u64) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => self.arrived(at, publish, now),
            Packet::Puback(puback) => self.acknowledged(at, puback.packet_id, puback.reason_code, now),
            Packet::Pubrec(pubrec) if pubrec.reason_code.value() >= 0x80 => {
                self.acknowledged(at, pubrec.packet_id, pubrec.reason_code, now);
            }
            Packet::Pubrec(pubrec) => self.say(at, &Pubrel::success(pubrec.packet_id).into()),
            Packet::Pubcomp(pubcomp) => self.acknowledged(at, pubcomp.packet_id, pubcomp.reason_code, now),
            Packet::Pubrel(pubrel) => {
                self.clients[at].unreleased.remove(&pubrel.packet_id);
                self.say(at, &Pubcomp::success(pubrel.packet_id).into());
            }
            Packet::Connack(connack) => self.welcomed(at, connack, now)?,
            Packet::Suback(suback) => self.subscribed(at, suback, now)?,
            Packet::Disconnect(disconnect) => return Err(format!("the broker disconnects it: {:?}", disconnect.reason_code)),
            _ => {}
        }
        Ok(())
    }

    fn say(&mut self, at: usize, packet: &Packet<'_>) {
        encode(packet, self.plan.version(), &mut self.clients[at].output);
        self.touch(at);
    }

    fn welcomed(&mut self, at: usize, connack: &Connack<'_>, now: u64) -> Result<(), String> {
        if connack.reason_code != ReasonCode::Success {
            return Err(format!("the broker refuses it: {:?}", connack.reason_code));
        }
        self.door.under_way -= 1;
        let client = &mut self.clients[at];
        let (due, begun) = client.opened;
        client.spoke = now;
        if let Some(maximum) = connack.properties.receive_maximum() {
            client.most_unacknowledged = client.most_unacknowledged.min(maximum.get().into());
        }
        if std::mem::replace(&mut client.been_here, true) {
            self.counts.reconnected += 1;
        } else {
            self.counts.connected += 1;
        }
        if self.plan.scenario.is_connect() {
            self.measure(due, begun, now);
        }
        let client = &mut self.clients[at];
        if !connack.session_present {
            client.unreleased.clear();
        }
        match client.role.receives.as_ref().map(|receives| receives.filter.clone()) {
            Some(filter) if !connack.session_present => {
                client.state = State::Subscribing;
                client.subscribe(&filter, self.plan.qos(), self.plan.version());
                self.touch(at);
            }
            _ => self.make_ready(at),
        }
        Ok(())
    }

    fn make_ready(&mut self, at: usize) {
        self.clients[at].state = State::Ready;
        self.ready += 1;
        self.pump(at);
    }

    fn subscribed(&mut self, at: usize, suback: &Suback<'_>, now: u64) -> Result<(), String> {
        if let Some(code) = suback.reason_codes.iter().find(|code| code.value() >= 0x80) {
            return Err(format!("the broker refuses its subscription: {code:?}"));
        }
        self.counts.subscribed += 1;
        if self.clients[at].state == State::Subscribing {
            self.make_ready(at);
        } else if self.to_subscribe > 0 {
            let due = self.clients[at].subscribing;
            self.measure(due, due, now);
            self.to_subscribe -= 1;
            self.subscribe_measured(at);
        }
        Ok(())
    }

    /// Sends the next SUBSCRIBE that is measured.
    pub(super) fn subscribe_measured(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.filters_left == 0 {
            return;
        }
        client.filters_left -= 1;
        client.subscribing = clock::now();
        let (number, filter) = (client.role.number, client.filters_left);
        let filter = format!("{}/{:08x}/{number}/{filter}", self.plan.prefix, self.plan.run);
        client.subscribe(&filter, self.plan.qos(), self.plan.version());
        self.touch(at);
    }

    fn acknowledged(&mut self, at: usize, id: PacketId, code: ReasonCode, now: u64) {
        let client = &mut self.clients[at];
        let Some(place) = client.unacknowledged.iter().position(|&(waiting, ..)| waiting == id) else { return };
        let Some((_, due, sent)) = client.unacknowledged.remove(place) else { return };
        self.counts.acknowledged += 1;
        self.counts.rejected += u64::from(code.value() >= 0x80);
        if self.plan.copies() == 0 {
            self.measure(due, sent, now);
        }
        self.pump(at);
    }

    fn arrived(&mut self, at: usize, publish: &Publish<'_>, now: u64) {
        match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(id) => self.say(at, &Puback::success(id).into()),
            Delivery::ExactlyOnce(id) => {
                self.say(at, &Pubrec::success(id).into());
                if !self.clients[at].unreleased.insert(id) {
                    // Sent again, as the protocol has it, and not yet told that it was received.
                    return;
                }
            }
        }
        self.counts.received += 1;
        let Some(receives) = &self.clients[at].role.receives else { return };
        let stamp =
            Stamp::read(publish.payload).filter(|stamp| stamp.run == self.plan.run && receives.streams.contains(&stamp.stream));
        let Some(stamp) = stamp else {
            self.counts.received -= 1;
            self.counts.foreign += 1;
            return;
        };
        let (unit, measured) = (receives.unit, receives.measured);
        let place = (stamp.stream - receives.streams.start) as usize;
        let arrival = self.sequences[unit][place].take(stamp.number);
        match arrival {
            Arrival::Duplicate => {
                self.counts.duplicated += 1;
                return;
            }
            // The members of a group have no order among them.
            Arrival::Late if !matches!(self.plan.scenario, Scenario::Shared { .. }) => self.counts.misordered += 1,
            Arrival::Late | Arrival::InOrder => {}
        }
        if measured {
            self.measure(stamp.due, stamp.sent, now);
        }
        if let Some(publisher) = self.waiting[stamp.stream as usize] {
            self.clients[publisher].note_arrival(now);
        }
        if self.clients[at].role.answers
            && let Scenario::RequestResponse { requesters, .. } = self.plan.scenario
        {
            let answer = Some((stamp.number, stamp.sent));
            self.answer(at, Due { stream: requesters + stamp.stream, at: stamp.due, answer });
        }
    }
}
