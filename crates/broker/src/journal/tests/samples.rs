//! Records for tests: any at all, and sensible streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use midge_core::topic::TopicName;
use midge_engine::message::{Message, Publication};
use midge_engine::record::{MessageKey, Record, SessionKey, State, WillRecord};
use midge_engine::tree::SubscriptionOptions;
use midge_mqtt::{PacketId, QoS, SubscriptionId};
use proptest::prelude::*;

use crate::journal::recover::unix_now;

pub(super) fn message(payload: &[u8], stamp: u64) -> Arc<Message> {
    let topic = TopicName::new("a/b").unwrap();
    let qos = QoS::AtLeastOnce;
    Publication { topic, properties: &[1, 1], payload, qos, retain: false, expires: None, stamp }.to_message()
}

/// Some step of a random stream: what, on which session, and how.
pub(super) type Step = (u8, u8, u16);

pub(super) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0u8..24, 0u8..4, any::<u16>()), 0..most)
}

/// Makes batches of records that a server could have emitted: keys are never used twice, and nothing is queued for a session that is over.
///
/// Batches begin anywhere, so that what belongs together may be in two of them.
pub(super) fn stream(steps: &[Step]) -> Vec<Vec<Record>> {
    let mut maker = Maker::default();
    let mut batches = vec![Vec::new()];
    for &(kind, session, detail) in steps {
        let batch = batches.last_mut().unwrap();
        maker.step(kind, usize::from(session), detail, batch);
        if detail.is_multiple_of(3) && !batch.is_empty() {
            let next = batch.split_off(batch.len() - usize::from(detail / 3) % batch.len());
            batches.push(next);
        }
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

#[derive(Default)]
struct Maker {
    keys: u64,
    sessions: Vec<u64>,
    orders: BTreeMap<u64, u64>,
    ended: BTreeSet<u64>,
    messages: u64,
    stamp: u64,
}

impl Maker {
    fn step(&mut self, kind: u8, place: usize, detail: u16, out: &mut Vec<Record>) {
        while self.sessions.len() <= place {
            self.start(out);
        }
        let key = self.sessions[place];
        let session = SessionKey(key);
        let last_order = self.orders.get(&key).copied().unwrap_or(0);
        let order = u64::from(detail) % (last_order + 1) + 1;
        let packet_id = PacketId::new(detail % 5 + 1).unwrap();
        let filter = || ["a/b", "$share/g/#", "+/c"][usize::from(detail) % 3].into();
        let future = (detail.is_multiple_of(4)).then_some(if detail.is_multiple_of(8) { 1 } else { u64::MAX });
        match kind {
            0 => {
                self.start(out);
                self.sessions[place] = *self.sessions.last().unwrap();
            }
            1 => out.push(Record::Online {
                session,
                username: (detail.is_multiple_of(2)).then(|| "u".into()),
                expiry: detail.into(),
            }),
            2 => out.push(Record::Offline { session, expiry: detail.into(), since: 7 }),
            3 => {
                let will = WillRecord { message: message(b"gone", 0), expiry: None, delay: detail.into() };
                out.push(Record::Will { session, will: (!detail.is_multiple_of(3)).then(|| will.into()) });
            }
            4 => {
                self.ended.insert(key);
                out.push(Record::Ended { session });
            }
            5 => out.push(Record::Subscribed { session, filter: filter(), options: SubscriptionOptions::new(QoS::AtLeastOnce) }),
            6 => out.push(Record::Unsubscribed { session, filter: filter() }),
            7 => out.push(Record::Received { session, packet_id }),
            8 => out.push(Record::Forgotten { session, packet_id }),
            9 | 10 => self.retain(detail, future, out),
            11..=15 => self.queue(detail, future, out),
            16 | 17 => out.push(Record::Sent { session, order, packet_id }),
            18 | 19 if !self.ended.contains(&key) => out.push(Record::Released { session, order, packet_id }),
            _ => out.push(Record::Done { session, order }),
        }
    }

    fn start(&mut self, out: &mut Vec<Record>) {
        self.keys += 1;
        self.sessions.push(self.keys);
        out.push(Record::Started { session: SessionKey(self.keys), client_id: format!("c{}", self.keys).into() });
    }

    /// Changes a retained message; sometimes an older change comes behind it.
    fn retain(&mut self, detail: u16, expires: Option<u64>, out: &mut Vec<Record>) {
        self.stamp += 2;
        for stamp in [self.stamp, self.stamp - 1].into_iter().take(1 + usize::from(detail.is_multiple_of(5))) {
            let message = (!detail.is_multiple_of(3) || stamp < self.stamp).then(|| message(b"kept", stamp));
            out.push(Record::Retained { topic: format!("t{}", detail % 3).into(), stamp, message, expires });
        }
    }

    /// Queues one message for some sessions.
    fn queue(&mut self, detail: u16, expires: Option<u64>, out: &mut Vec<Record>) {
        self.messages += 1;
        let key = MessageKey(self.messages);
        let payload = vec![b'x'; usize::from(detail % 200)];
        out.push(Record::Message { key, message: message(&payload, 0), expires });
        for (place, &session) in self.sessions.iter().enumerate().filter(|(_, session)| !self.ended.contains(session)) {
            if detail >> (place % 16) & 1 == 1 {
                continue;
            }
            let order = self.orders.entry(session).or_default();
            *order += 1;
            out.push(Record::Queued {
                session: SessionKey(session),
                order: *order,
                message: key,
                qos: if detail.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce },
                retain: false,
                identifiers: Box::default(),
                shared: (detail.is_multiple_of(3)).then(|| "$share/g/#".into()),
                packet_id: (detail.is_multiple_of(7)).then(|| PacketId::new(9).unwrap()),
            });
        }
    }
}

/// Returns what the batches amount to, after each of them.
pub(super) fn states(batches: &[Vec<Record>]) -> Vec<State> {
    let mut state = State::default();
    let mut states = vec![state.clone()];
    for batch in batches {
        batch.iter().cloned().for_each(|record| state.apply(record));
        states.push(state.clone());
    }
    states
}

/// Returns the part of a state that may matter.
pub(super) fn normal(mut state: State) -> State {
    state.forget_past(unix_now());
    // What is left out of a snapshot has nobody to be told apart from.
    state.last_stamp = 0;
    let queues = state.sessions.values().flat_map(|session| session.queue.values());
    let used: BTreeSet<_> = queues.filter_map(|queued| queued.message).collect();
    state.messages.retain(|key, _| used.contains(key));
    state
}

pub(super) fn any_record() -> impl Strategy<Value = Record> {
    let session = || any::<u64>().prop_map(SessionKey);
    let packet_id = || (1u16..).prop_map(|id| PacketId::new(id).unwrap());
    let text = || ".{0,200}";
    let queued = (
        (session(), any::<u64>(), any::<u64>(), qos(), any::<bool>()),
        prop::collection::vec(1u32..=268_435_455, 0..4),
        (prop::option::of(text()), prop::option::of(packet_id())),
    );
    prop_oneof![
        (session(), text()).prop_map(|(session, id)| Record::Started { session, client_id: id.into() }),
        (session(), prop::option::of(text()), any::<u32>()).prop_map(|(session, name, expiry)| Record::Online {
            session,
            username: name.map(Into::into),
            expiry
        }),
        (session(), any::<u32>(), any::<u64>()).prop_map(|(session, expiry, since)| Record::Offline { session, expiry, since }),
        (session(), prop::option::of((any_message(), prop::option::of(any::<u32>()), any::<u32>()))).prop_map(|(session, will)| {
            let will = will.map(|(message, expiry, delay)| WillRecord { message, expiry, delay }.into());
            Record::Will { session, will }
        }),
        session().prop_map(|session| Record::Ended { session }),
        (session(), text(), qos(), 0u32..=268_435_455, any::<[bool; 2]>()).prop_map(
            |(session, filter, qos, id, [no_local, as_published])| {
                let mut options = SubscriptionOptions::new(qos);
                options = if no_local { options.with_no_local() } else { options };
                options = if as_published { options.with_retain_as_published() } else { options };
                options = SubscriptionId::new(id).map_or(options, |id| options.with_identifier(id));
                Record::Subscribed { session, filter: filter.into(), options }
            }
        ),
        (session(), text()).prop_map(|(session, filter)| Record::Unsubscribed { session, filter: filter.into() }),
        (any::<u64>(), any_message(), prop::option::of(any::<u64>())).prop_map(|(key, message, expires)| Record::Message {
            key: MessageKey(key),
            message,
            expires
        }),
        queued.prop_map(|((session, order, key, qos, retain), identifiers, (shared, packet_id))| Record::Queued {
            session,
            order,
            message: MessageKey(key),
            qos,
            retain,
            identifiers: identifiers.into_iter().map(|id| SubscriptionId::new(id).unwrap()).collect(),
            shared: shared.map(Into::into),
            packet_id,
        }),
        (session(), any::<u64>(), packet_id()).prop_map(|(session, order, packet_id)| Record::Sent { session, order, packet_id }),
        (session(), any::<u64>(), packet_id()).prop_map(|(session, order, packet_id)| Record::Released {
            session,
            order,
            packet_id
        }),
        (session(), any::<u64>()).prop_map(|(session, order)| Record::Done { session, order }),
        (session(), packet_id()).prop_map(|(session, packet_id)| Record::Received { session, packet_id }),
        (session(), packet_id()).prop_map(|(session, packet_id)| Record::Forgotten { session, packet_id }),
        (text(), any::<u64>(), prop::option::of(any_message()), prop::option::of(any::<u64>()))
            .prop_map(|(topic, stamp, message, expires)| Record::Retained { topic: topic.into(), stamp, message, expires }),
    ]
}

fn any_message() -> impl Strategy<Value = Arc<Message>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    ("[a-z/$ü]{1,40}", bytes(), bytes(), qos(), any::<bool>(), any::<u64>()).prop_map(
        |(topic, properties, payload, qos, retain, stamp)| {
            let topic = TopicName::new(&topic).unwrap();
            Publication { topic, properties: &properties, payload: &payload, qos, retain, expires: None, stamp }.to_message()
        },
    )
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}
