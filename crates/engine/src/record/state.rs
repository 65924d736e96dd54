//! What a stream of records amounts to.
//!
//! A journal restores from it and compacts by it; the size is that of what is alive, not of what has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use midge_mqtt::{PacketId, QoS, SubscriptionId};

use super::{MessageKey, Order, Record, SessionKey, WillRecord};
use crate::message::Message;
use crate::tree::SubscriptionOptions;

/// All that survives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The sessions.
    pub sessions: BTreeMap<SessionKey, SessionState>,
    /// The messages that sessions refer to.
    pub messages: BTreeMap<MessageKey, StoredMessage>,
    /// What was retained or cleared for each topic name.
    pub retained: BTreeMap<Box<str>, RetainedState>,
    /// The greatest key of a session there has been.
    pub last_session: SessionKey,
    /// The greatest key of a message there has been.
    pub last_message: MessageKey,
    /// The greatest stamp among the records: whoever goes on stamps beyond it, or an older record would count for more.
    pub last_stamp: u64,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionState {
    /// The client identifier.
    pub client_id: Box<str>,
    /// The username.
    pub username: Option<Arc<str>>,
    /// The session expiry interval, in seconds.
    pub expiry: u32,
    /// Since when the client is away, in seconds since 1970; `None` while it is connected.
    pub offline_since: Option<u64>,
    /// The will.
    pub will: Option<Arc<WillRecord>>,
    /// Whether it is over, and only its messages of shared subscriptions are still to be passed on.
    pub ended: bool,
    /// The subscriptions.
    pub subscriptions: BTreeMap<Box<str>, SubscriptionOptions>,
    /// The messages to deliver.
    pub queue: BTreeMap<Order, QueuedState>,
    /// The packet identifiers of QoS 2 that the client has not released.
    pub received: BTreeSet<PacketId>,
}

/// A message for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedState {
    /// The message; `None` once only PUBREL is to be sent.
    pub message: Option<MessageKey>,
    /// The QoS.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// The subscription identifiers.
    pub identifiers: Box<[SubscriptionId]>,
    /// The shared subscription that it came by.
    pub shared: Option<Arc<str>>,
    /// The packet identifier, once it is in flight.
    pub packet_id: Option<PacketId>,
}

/// A message that is kept once for all sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// The message.
    pub message: Arc<Message>,
    /// When it expires, in seconds since 1970.
    pub expires: Option<u64>,
    references: usize,
}

/// What was last said of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedState {
    /// When, in the order of all loops.
    pub stamp: u64,
    /// The message, unless it was cleared.
    pub message: Option<Arc<Message>>,
    /// When it expires, in seconds since 1970.
    pub expires: Option<u64>,
}

impl State {
    /// Takes in the next record. One that refers to what isn't there changes nothing.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Started { session, client_id } => {
                self.last_session = self.last_session.max(session);
                self.sessions.insert(session, SessionState { client_id, ..SessionState::default() });
            }
            Record::Message { key, message, expires } => {
                self.last_message = self.last_message.max(key);
                self.messages.insert(key, StoredMessage { message, expires, references: 0 });
            }
            Record::Retained { topic, stamp, message, expires } => {
                self.last_stamp = self.last_stamp.max(stamp);
                if self.retained.get(&topic).is_none_or(|old| old.stamp < stamp) {
                    self.retained.insert(topic, RetainedState { stamp, message, expires });
                }
            }
            Record::Ended { session } => self.end(session),
            Record::Queued { session, .. }
            | Record::Sent { session, .. }
            | Record::Released { session, .. }
            | Record::Done { session, .. } => self.apply_to_queue(session, record),
            Record::Online { session, .. }
            | Record::Offline { session, .. }
            | Record::Will { session, .. }
            | Record::Subscribed { session, .. }
            | Record::Unsubscribed { session, .. }
            | Record::Received { session, .. }
            | Record::Forgotten { session, .. } => {
                if let Some(state) = self.sessions.get_mut(&session) {
                    state.apply(record);
                }
            }
        }
    }

    /// Forgets what can't matter any more at a time in seconds since 1970: retained messages that were cleared or have expired.
    ///
    /// Their records may go on lying in the journal, so [`Self::last_stamp`] stays.
    /// To be called only when the streams of all loops are applied up to about the same moment: what was cleared must not come back by an older record.
    pub fn forget_past(&mut self, unix: u64) {
        self.retained.retain(|_, kept| kept.message.is_some() && kept.expires.is_none_or(|expires| expires > unix));
    }

    /// Returns records that lead to this state from nothing, for a compact journal.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let messages = self.messages.iter().map(|(&key, stored)| Record::Message {
            key,
            message: Arc::clone(&stored.message),
            expires: stored.expires,
        });
        let retained = self.retained.iter().map(|(topic, retained)| Record::Retained {
            topic: topic.clone(),
            stamp: retained.stamp,
            message: retained.message.clone(),
            expires: retained.expires,
        });
        messages.chain(retained).chain(self.sessions.iter().flat_map(|(&key, session)| session.records(key)))
    }

    fn apply_to_queue(&mut self, session: SessionKey, record: Record) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        match record {
            Record::Queued { order, message, qos, retain, identifiers, shared, packet_id, .. } => {
                let Some(stored) = self.messages.get_mut(&message) else { return };
                stored.references += 1;
                state.queue.insert(order, QueuedState { message: Some(message), qos, retain, identifiers, shared, packet_id });
            }
            Record::Sent { order, packet_id, .. } => {
                if let Some(queued) = state.queue.get_mut(&order) {
                    queued.packet_id = Some(packet_id);
                }
            }
            Record::Released { order, packet_id, .. } => {
                let message = state.queue.insert(order, QueuedState::released(packet_id)).and_then(|queued| queued.message);
                self.unreference(message);
            }
            Record::Done { order, .. } => {
                let message = state.queue.remove(&order).and_then(|queued| queued.message);
                if state.ended && state.queue.is_empty() {
                    self.sessions.remove(&session);
                }
                self.unreference(message);
            }
            _ => {}
        }
    }

    fn end(&mut self, session: SessionKey) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let (kept, gone) = std::mem::take(&mut state.queue).into_iter().partition(|(_, queued)| queued.may_go_to_another());
        let gone: BTreeMap<Order, QueuedState> = gone;
        if BTreeMap::is_empty(&kept) {
            self.sessions.remove(&session);
        } else {
            let client_id = std::mem::take(&mut state.client_id);
            *state = SessionState { client_id, queue: kept, ended: true, ..SessionState::default() };
        }
        gone.into_values().for_each(|queued| self.unreference(queued.message));
    }

    fn unreference(&mut self, message: Option<MessageKey>) {
        let Some(key) = message else { return };
        let Some(stored) = self.messages.get_mut(&key) else { return };
        stored.references -= 1;
        if stored.references == 0 {
            self.messages.remove(&key);
        }
    }
}

impl QueuedState {
    fn released(packet_id: PacketId) -> Self {
        let (qos, identifiers) = (QoS::ExactlyOnce, Box::default());
        Self { message: None, qos, retain: false, identifiers, shared: None, packet_id: Some(packet_id) }
    }

    fn record(&self, session: SessionKey, order: Order) -> Option<Record> {
        let Some(message) = self.message else {
            return self.packet_id.map(|packet_id| Record::Released { session, order, packet_id });
        };
        let (identifiers, shared) = (self.identifiers.clone(), self.shared.clone());
        Some(Record::Queued {
            session,
            order,
            message,
            qos: self.qos,
            retain: self.retain,
            identifiers,
            shared,
            packet_id: self.packet_id,
        })
    }

    /// Returns whether another member of the shared subscription may get it once the session is over.
    ///
    /// What is in flight with QoS 2 may not [MQTT-4.8.2-5].
    #[must_use]
    pub fn may_go_to_another(&self) -> bool {
        self.shared.is_some() && (self.qos != QoS::ExactlyOnce || self.packet_id.is_none())
    }
}

impl SessionState {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Online { username, expiry, .. } => {
                (self.username, self.expiry, self.offline_since) = (username, expiry, None);
            }
            Record::Offline { expiry, since, .. } => (self.expiry, self.offline_since) = (expiry, Some(since)),
            Record::Will { will, .. } => self.will = will,
            Record::Subscribed { filter, options, .. } => {
                self.subscriptions.insert(filter, options);
            }
            Record::Unsubscribed { filter, .. } => {
                self.subscriptions.remove(&filter);
            }
            Record::Received { packet_id, .. } => {
                self.received.insert(packet_id);
            }
            Record::Forgotten { packet_id, .. } => {
                self.received.remove(&packet_id);
            }
            _ => {}
        }
    }

    fn records(&self, session: SessionKey) -> Vec<Record> {
        let mut records = vec![Record::Started { session, client_id: self.client_id.clone() }];
        records.push(Record::Online { session, username: self.username.clone(), expiry: self.expiry });
        if let Some(will) = &self.will {
            records.push(Record::Will { session, will: Some(Arc::clone(will)) });
        }
        for (filter, &options) in &self.subscriptions {
            records.push(Record::Subscribed { session, filter: filter.clone(), options });
        }
        records.extend(self.queue.iter().filter_map(|(&order, queued)| queued.record(session, order)));
        records.extend(self.received.iter().map(|&packet_id| Record::Received { session, packet_id }));
        if let Some(since) = self.offline_since {
            records.push(Record::Offline { session, expiry: self.expiry, since });
        }
        if self.ended {
            records.push(Record::Ended { session });
        }
        records
    }
}
