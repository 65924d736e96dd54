//! A client that keeps to the standard, however its connections end.
//!
//! It remembers what it published until that is acknowledged to the end, and everything it was delivered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;

use midge_mqtt::{
    Connect, Delivery, Disconnect, Packet, PacketId, Properties, Property, ProtocolVersion, Puback, Pubcomp, Publish, Pubrec,
    Pubrel, QoS, ReasonCode, Subscribe, Subscription, Subscriptions,
};

use crate::Random;
use crate::server::Server;

const VERSIONS: [ProtocolVersion; 4] = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5, ProtocolVersion::V5];

/// Where retained messages are published; no wildcard of a client matches it.
pub(crate) const RETAINED: &str = "$r/1";

/// A message that was delivered: topic, publisher and number within its line, QoS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) topic: String,
    pub(crate) publisher: String,
    pub(crate) number: u32,
    pub(crate) qos: QoS,
}

/// A message on its way to the server.
#[derive(Clone, Debug)]
struct Sending {
    topic: String,
    payload: String,
    qos: QoS,
    id: PacketId,
    /// PUBREC came, and PUBREL is what is sent.
    released: bool,
    sent: bool,
}

/// A packet from the server, as far as it matters.
enum Got {
    Connack(bool),
    Publish(String, String, QoS, Option<PacketId>),
    Puback(PacketId),
    Pubrec(PacketId),
    Pubrel(PacketId),
    Pubcomp(PacketId),
    Suback(usize),
    Other,
}

/// What a client owes the server.
enum Owed {
    Puback(PacketId),
    Pubrec(PacketId),
    Pubrel(PacketId),
    Pubcomp(PacketId),
}

pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) version: ProtocolVersion,
    /// Whether its session ends with its connection.
    pub(crate) fleeting: bool,
    pub(crate) window: u16,
    /// Whether what it may receive has changed on the way, so that nobody can say what must have come.
    pub(crate) doubtful: bool,
    pub(crate) filters: Vec<(String, QoS)>,
    pub(crate) subscribed: bool,
    /// CONNACK came, on this connection and ever.
    pub(crate) online: bool,
    known: bool,
    sending: VecDeque<Sending>,
    pub(crate) numbers: BTreeMap<(String, QoS), u32>,
    pub(crate) published: Vec<Delivered>,
    received: BTreeMap<PacketId, String>,
    /// What came on this connection and was not acknowledged to the end.
    unacknowledged: BTreeSet<PacketId>,
    owed: VecDeque<Owed>,
    /// What topic aliases mean on this connection.
    aliases: BTreeMap<NonZeroU16, String>,
    pub(crate) delivered: Vec<Delivered>,
}

impl Model {
    pub(crate) fn new(name: &str, fleeting: bool, filters: Vec<(String, QoS)>) -> Self {
        Self {
            name: name.to_owned(),
            version: ProtocolVersion::V5,
            fleeting,
            window: 1,
            doubtful: false,
            filters,
            subscribed: false,
            online: false,
            known: false,
            sending: VecDeque::new(),
            numbers: BTreeMap::new(),
            published: Vec::new(),
            received: BTreeMap::new(),
            unacknowledged: BTreeSet::new(),
            owed: VecDeque::new(),
            aliases: BTreeMap::new(),
            delivered: Vec::new(),
        }
    }

    /// Connects, whether or not it is connected: with any version and receive maximum.
    pub(crate) fn connect(&mut self, server: &mut Server, random: &mut Random) {
        self.lost();
        self.version = VERSIONS[random.below(VERSIONS.len())];
        self.window = u16::try_from(random.below(5) + 1).expect("small");
        let window = NonZeroU16::new(self.window).expect("at least 1");
        let expiry = if self.fleeting { 0 } else { 100_000 };
        let properties =
            [Property::SessionExpiryInterval(expiry), Property::ReceiveMaximum(window), Property::TopicAliasMaximum(2)];
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: self.fleeting,
            keep_alive: 0,
            properties: Properties::new(if self.version == ProtocolVersion::V5 { &properties } else { &[] }),
            client_id: &self.name,
            will: None,
            username: None,
            password: None,
        };
        server.connect(&self.name, &connect).expect("everybody is let in");
    }

    /// Says goodbye.
    pub(crate) fn disconnect(&mut self, server: &mut Server) {
        let goodbye = Disconnect { reason_code: ReasonCode::NORMAL_DISCONNECTION, properties: Properties::NONE };
        server.send(&self.name, &goodbye.into());
        self.lost();
    }

    /// Learns that its connection is gone.
    pub(crate) fn lost(&mut self) {
        self.online = false;
        self.owed.clear();
        self.unacknowledged.clear();
        self.sending.iter_mut().for_each(|sending| sending.sent = false);
        if self.fleeting {
            self.received.clear();
            self.subscribed = false;
            self.sending.clear();
        }
    }

    /// Publishes the next message of a line.
    pub(crate) fn publish(&mut self, server: &mut Server, topic: &str, qos: QoS) {
        if qos == QoS::AtMostOnce && !self.online {
            return;
        }
        let number = self.numbers.entry((topic.to_owned(), qos)).or_default();
        *number += 1;
        // Some clear it.
        let clears = topic == RETAINED && number.is_multiple_of(5);
        let payload = if clears { String::new() } else { format!("{} {number} {}", self.name, "x".repeat(*number as usize % 40)) };
        self.published.push(Delivered { topic: topic.to_owned(), publisher: self.name.clone(), number: *number, qos });
        if qos == QoS::AtMostOnce {
            self.send_publish(server, topic, &payload, Delivery::AtMostOnce, false);
            return;
        }
        // Identifiers are used again as soon as they may be.
        let free = (1..50).filter_map(PacketId::new).find(|id| self.sending.iter().all(|sending| sending.id != *id));
        let Some(id) = free else {
            self.published.pop();
            *self.numbers.get_mut(&(topic.to_owned(), qos)).expect("just counted") -= 1;
            return;
        };
        self.sending.push_back(Sending { topic: topic.to_owned(), payload, qos, id, released: false, sent: false });
        self.send_all(server, false);
    }

    /// Sends what was not sent on this connection, in its order.
    fn send_all(&mut self, server: &mut Server, again: bool) {
        if !self.online {
            return;
        }
        let mut sending = std::mem::take(&mut self.sending);
        for entry in sending.iter_mut().filter(|entry| !entry.sent) {
            entry.sent = true;
            if entry.released {
                server.send(&self.name, &Pubrel::success(entry.id).into());
                continue;
            }
            let delivery =
                if entry.qos == QoS::AtLeastOnce { Delivery::AtLeastOnce(entry.id) } else { Delivery::ExactlyOnce(entry.id) };
            self.send_publish(server, &entry.topic, &entry.payload, delivery, again);
        }
        self.sending = sending;
    }

    fn send_publish(&self, server: &mut Server, topic: &str, payload: &str, delivery: Delivery, dup: bool) {
        let retain = topic == RETAINED;
        let publish = Publish { dup, delivery, retain, topic, properties: Properties::NONE, payload: payload.as_bytes() };
        server.send(&self.name, &publish.into());
    }

    /// Takes the next packet, if one is there; returns whether there was.
    pub(crate) fn read(&mut self, server: &mut Server) -> bool {
        let known = &mut self.aliases;
        let got = server.next_packet(&self.name, |packet| match packet {
            Packet::Connack(connack) => Got::Connack(connack.session_present),
            Packet::Publish(publish) => {
                let topic = match publish.properties.topic_alias() {
                    Some(alias) if publish.topic.is_empty() => known[&alias].clone(),
                    Some(alias) => {
                        known.insert(alias, publish.topic.to_owned());
                        publish.topic.to_owned()
                    }
                    None => publish.topic.to_owned(),
                };
                let payload = String::from_utf8_lossy(publish.payload).into_owned();
                Got::Publish(topic, payload, publish.delivery.qos(), publish.delivery.packet_id())
            }
            Packet::Puback(packet) => Got::Puback(packet.packet_id),
            Packet::Pubrec(packet) => Got::Pubrec(packet.packet_id),
            Packet::Pubrel(packet) => Got::Pubrel(packet.packet_id),
            Packet::Pubcomp(packet) => Got::Pubcomp(packet.packet_id),
            Packet::Suback(packet) => {
                assert!(packet.reason_codes.iter().all(|code| !code.is_failure()), "{packet:?}");
                Got::Suback(packet.reason_codes.iter().count())
            }
            _ => Got::Other,
        });
        let any = got.is_some();
        if let Some(got) = got {
            self.take(server, got);
        }
        any
    }

    fn take(&mut self, server: &mut Server, got: Got) {
        match got {
            Got::Connack(present) => self.connected(server, present),
            Got::Suback(count) => {
                assert_eq!(count, self.filters.len());
                self.subscribed = true;
            }
            Got::Publish(topic, payload, qos, id) => self.take_publish(topic, &payload, qos, id),
            Got::Puback(id) => self.done(id, QoS::AtLeastOnce),
            Got::Pubrec(id) => {
                let sending = self.sending.iter_mut().find(|sending| sending.id == id && sending.qos == QoS::ExactlyOnce);
                let sending = sending.unwrap_or_else(|| panic!("{}: PUBREC {id} for nothing", self.name));
                sending.released = true;
                self.owed.push_back(Owed::Pubrel(id));
            }
            Got::Pubrel(id) => {
                self.received.remove(&id);
                self.owed.push_back(Owed::Pubcomp(id));
            }
            Got::Pubcomp(id) => {
                assert!(self.sending.iter().all(|sending| sending.id != id || sending.released), "{}: PUBCOMP {id}", self.name);
                self.done(id, QoS::ExactlyOnce);
            }
            Got::Other => {}
        }
    }

    fn connected(&mut self, server: &mut Server, present: bool) {
        // 3.1 has no such flag.
        let present = present || (self.version == ProtocolVersion::V31 && self.known);
        self.online = true;
        self.aliases.clear();
        assert!(present || !self.known, "{}: the session was lost", self.name);
        self.known = !self.fleeting;
        if !present {
            self.received.clear();
        }
        if !self.subscribed {
            let list: Vec<Subscription<'_>> = self.filters.iter().map(|(filter, qos)| Subscription::new(filter, *qos)).collect();
            if !list.is_empty() {
                let subscribe =
                    Subscribe { packet_id: PacketId::MIN, properties: Properties::NONE, subscriptions: Subscriptions::new(&list) };
                server.send(&self.name, &subscribe.into());
            }
        }
        self.send_all(server, true);
    }

    fn take_publish(&mut self, topic: String, payload: &str, qos: QoS, id: Option<PacketId>) {
        let mut words = payload.split(' ');
        let publisher = words.next().expect("a publisher").to_owned();
        let number = words.next().and_then(|number| number.parse().ok()).expect("a number");
        let delivered = Delivered { topic, publisher, number, qos };
        if let Some(id) = id {
            self.unacknowledged.insert(id);
            let limited = self.version == ProtocolVersion::V5;
            assert!(!limited || self.unacknowledged.len() <= self.window.into(), "{}: more than the receive maximum", self.name);
            if qos == QoS::AtLeastOnce {
                self.owed.push_back(Owed::Puback(id));
            } else {
                self.owed.push_back(Owed::Pubrec(id));
                // What came before with this packet identifier and was not released is the same message.
                if let Some(before) = self.received.insert(id, payload.to_owned()) {
                    assert_eq!(before, payload, "{}: packet identifier {id} used for another message", self.name);
                    return;
                }
            }
        }
        self.delivered.push(delivered);
    }

    fn done(&mut self, id: PacketId, qos: QoS) {
        let at = self.sending.iter().position(|sending| sending.id == id && sending.qos == qos);
        // After a new connection, an answer may come to each of two copies of PUBREL.
        match at {
            Some(at) => drop(self.sending.remove(at)),
            None => assert_eq!(qos, QoS::ExactlyOnce, "{}: PUBACK {id} for nothing", self.name),
        }
    }

    /// Sends the oldest acknowledgement that it owes; returns whether there was one.
    pub(crate) fn acknowledge(&mut self, server: &mut Server) -> bool {
        let Some(owed) = self.owed.pop_front() else { return false };
        let packet = match owed {
            Owed::Puback(id) => {
                self.unacknowledged.remove(&id);
                Puback::success(id).into()
            }
            Owed::Pubrec(id) => Pubrec::success(id).into(),
            Owed::Pubrel(id) => Pubrel::success(id).into(),
            Owed::Pubcomp(id) => {
                self.unacknowledged.remove(&id);
                Pubcomp { packet_id: id, reason_code: ReasonCode::Success, properties: Properties::NONE }.into()
            }
        };
        server.send(&self.name, &packet);
        true
    }

    /// Returns whether everything it published was acknowledged to the end.
    pub(crate) fn is_idle(&self) -> bool {
        self.sending.is_empty() && self.owed.is_empty()
    }
}
