//! One client: its connection and what is on its way.

use std::collections::{HashSet, VecDeque};

use midge_mqtt::{
    Connect, Delivery, Disconnect, Packet, PacketId, Properties, Property, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    Subscription, Subscriptions,
};

use crate::Plan;
use crate::payload::Stamp;
use crate::share::Role;
use crate::transport::Transport;

/// The most bytes that wait for a connection before nothing more is published on it.
const FULL: usize = 256 << 10;
/// The most unacknowledged messages of a publisher, whatever the broker allows: identifiers are not used twice.
const MOST_UNACKNOWLEDGED: usize = 20_000;
/// A window that has not moved for so long is taken for lost messages.
const LOST: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Away,
    /// The network connection isn't there yet.
    Opening,
    /// CONNECT is on its way.
    Greeting,
    Subscribing,
    Ready,
    Gone,
}

/// A message that has to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) stream: u32,
    /// When the schedule wants it; of an answer, with number and time of the request.
    pub(super) at: u64,
    pub(super) answer: Option<(u64, u64)>,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) role: Role,
    pub(super) state: State,
    pub(super) transport: Option<Transport>,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) touched: bool,
    /// When its connection was due and when it was begun.
    pub(super) opened: (u64, u64),
    pub(super) spoke: u64,
    pub(super) been_here: bool,
    pub(super) backlog: VecDeque<Due>,
    /// Identifier, due time and sending time of what the broker hasn't acknowledged.
    pub(super) unacknowledged: VecDeque<(PacketId, u64, u64)>,
    /// QoS 2 messages that the broker may still send again.
    pub(super) unreleased: HashSet<PacketId>,
    /// Due times of measured SUBSCRIBE packets without an answer.
    pub(super) subscribing: u64,
    pub(super) filters_left: u32,
    pub(super) most_unacknowledged: usize,
    /// Arrivals here that each message needs before it is off the way.
    copies: u64,
    sent: u64,
    arrived: u64,
    moved: u64,
    numbers: Vec<u64>,
    topics: Vec<Box<str>>,
    next_id: PacketId,
}

impl Client {
    pub(super) fn new(plan: &Plan, role: Role, copies: u64) -> Self {
        let topics = role.publishes.clone().map(|stream| plan.topic(stream).into()).collect();
        Self {
            state: State::Away,
            transport: None,
            input: Vec::new(),
            output: Vec::new(),
            touched: false,
            opened: (0, 0),
            spoke: 0,
            been_here: false,
            backlog: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            unreleased: HashSet::new(),
            subscribing: 0,
            filters_left: role.filters,
            most_unacknowledged: MOST_UNACKNOWLEDGED,
            copies,
            sent: 0,
            arrived: 0,
            moved: 0,
            numbers: vec![0; role.publishes.len()],
            topics,
            next_id: PacketId::MIN,
            role,
        }
    }

    /// Writes CONNECT.
    pub(super) fn greet(&mut self, plan: &Plan) {
        let (id, number) = (format!("{}-{:08x}-{}", plan.prefix.replace('/', "-"), plan.run, self.role.number), self.role.number);
        let named = |text: &String| text.replace("%i", &number.to_string());
        let (username, password) = (plan.username.as_ref().map(named), plan.password.as_ref().map(named));
        let kept = [Property::SessionExpiryInterval(3_600)];
        let connect = Connect {
            version: plan.version(),
            bridge: false,
            clean_start: !self.role.phone,
            keep_alive: plan.keep_alive,
            properties: if self.role.phone { Properties::new(&kept) } else { Properties::NONE },
            client_id: &id,
            will: None,
            username: username.as_deref(),
            password: password.as_ref().map(String::as_bytes),
        };
        encode(&connect.into(), plan.version(), &mut self.output);
    }

    pub(super) fn subscribe(&mut self, filter: &str, qos: QoS, version: ProtocolVersion) {
        let list = [Subscription::new(filter, qos)];
        let packet_id = self.id();
        let subscribe = Subscribe { packet_id, properties: Properties::NONE, subscriptions: Subscriptions::new(&list) };
        encode(&subscribe.into(), version, &mut self.output);
    }

    pub(super) fn ping(&mut self, now: u64) {
        self.spoke = now;
        encode(&Packet::Pingreq, ProtocolVersion::V311, &mut self.output);
    }

    /// Returns whether one more message may be on its way.
    pub(super) fn has_room(&self, qos: QoS, window: Option<u32>) -> bool {
        let acknowledged = qos == QoS::AtMostOnce || self.unacknowledged.len() < self.most_unacknowledged;
        let in_window = window.is_none_or(|window| {
            let waiting = if qos == QoS::AtMostOnce { 0 } else { self.unacknowledged.len() };
            let here = self.copies == 0 || self.sent * self.copies < self.arrived + u64::from(window) * self.copies;
            waiting < window as usize && here
        });
        self.state == State::Ready && acknowledged && in_window && self.output.len() < FULL
    }

    /// Writes PUBLISH, stamping `payload`.
    pub(super) fn publish(&mut self, plan: &Plan, due: Due, now: u64, payload: &mut [u8]) {
        let version = plan.version();
        let answer_topic;
        let (topic, number, sent): (&str, _, _) = match due.answer {
            Some((number, sent)) => {
                answer_topic = plan.topic(due.stream);
                (&answer_topic, number, sent)
            }
            None => {
                let place = (due.stream - self.role.publishes.start) as usize;
                let number = self.numbers[place];
                self.numbers[place] += 1;
                (&self.topics[place], number, now)
            }
        };
        Stamp { run: plan.run, stream: due.stream, number, due: due.at, sent }.write(payload);
        let delivery = match plan.qos() {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            qos => {
                self.next_id = self.next_id.next();
                self.unacknowledged.push_back((self.next_id, due.at, sent));
                if qos == QoS::AtLeastOnce { Delivery::AtLeastOnce(self.next_id) } else { Delivery::ExactlyOnce(self.next_id) }
            }
        };
        let publish = Publish { dup: false, delivery, retain: false, topic, properties: Properties::NONE, payload };
        encode(&publish.into(), version, &mut self.output);
        if self.sent * self.copies == self.arrived {
            self.moved = now;
        }
        self.sent += 1;
        self.spoke = now;
    }

    /// Notes that a message of this publisher has arrived at a receiver here.
    pub(super) fn note_arrival(&mut self, now: u64) {
        self.arrived += 1;
        self.moved = now;
    }

    /// Opens a window that waits for messages that QoS 0 has lost.
    pub(super) fn give_up(&mut self, now: u64) {
        if now > self.moved + LOST && self.unacknowledged.is_empty() {
            self.arrived = self.arrived.max(self.sent * self.copies);
        }
    }

    /// Says goodbye as far as the network takes it.
    pub(super) fn leave(&mut self, version: ProtocolVersion) {
        let ended = [Property::SessionExpiryInterval(0)];
        let properties = if self.role.phone { Properties::new(&ended) } else { Properties::NONE };
        let disconnect = Disconnect { reason_code: ReasonCode::Success, properties };
        encode(&disconnect.into(), version, &mut self.output);
        if let Some(mut transport) = self.transport.take().filter(|_| self.state == State::Ready) {
            let _ = transport.write(&mut self.output);
        }
        self.state = State::Gone;
    }

    fn id(&mut self) -> PacketId {
        self.next_id = self.next_id.next();
        self.next_id
    }
}

/// Appends a packet.
pub(super) fn encode(packet: &Packet<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    let written = packet.encode(version, out);
    debug_assert!(written.is_ok(), "the plan's texts and sizes fit into packets");
}
