//! Finds out which records still matter, without keeping what they say.
//!
//! Leaving out all others, in a stream of records, leads to the same [`State`](midge_engine::record::State): a record matters as long as nothing behind it has undone it.
//! Records are known by their place in the stream, so a message costs the same here whatever its length: about 130 bytes for each message that waits for a session, 110 for each session, 70 and the filter for each subscription, all only while a compaction looks for what is alive.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use midge_engine::record::{MessageKey, Order, Record, SessionKey};
use midge_mqtt::{PacketId, QoS};

/// Where a record is in the stream: the first is 0.
type Place = u64;

/// What is alive after some records.
#[derive(Debug, Default)]
pub(super) struct Live {
    sessions: BTreeMap<SessionKey, Session>,
    queue: BTreeMap<(SessionKey, Order), Queued>,
    subscriptions: BTreeMap<(SessionKey, Box<str>), Place>,
    received: BTreeMap<(SessionKey, PacketId), Place>,
    messages: BTreeMap<MessageKey, Message>,
    retained: BTreeMap<Box<str>, Retained>,
    last_session: SessionKey,
    last_message: MessageKey,
    /// How many records there were.
    places: u64,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    started: Place,
    online: Option<Place>,
    offline: Option<Place>,
    will: Option<Place>,
    ended: Option<Place>,
}

/// A message that is to be delivered to a session.
#[derive(Clone, Copy, Debug)]
struct Queued {
    /// Where it was queued, or released.
    place: Place,
    sent: Option<Place>,
    /// `None` once only PUBREL is to be sent.
    message: Option<MessageKey>,
    exactly_once: bool,
    shared: bool,
    in_flight: bool,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    place: Place,
    references: u32,
}

#[derive(Clone, Copy, Debug)]
struct Retained {
    place: Place,
    stamp: u64,
    cleared: bool,
    expires: Option<u64>,
}

/// The places of the records that matter, one bit for each there was.
#[derive(Debug, Default)]
pub(super) struct Survivors {
    bits: Vec<u64>,
    /// The greatest keys there have been, of a session and of a message.
    pub(super) last_keys: (u64, u64),
    /// How many messages are to be delivered.
    pub(super) queued: u64,
}

impl Survivors {
    /// Returns whether the record at this place matters.
    pub(super) fn contains(&self, place: Place) -> bool {
        self.bits.get(word(place)).is_some_and(|bits| bits & bit(place) != 0)
    }

    fn insert(&mut self, place: Place) {
        if let Some(bits) = self.bits.get_mut(word(place)) {
            *bits |= bit(place);
        }
    }
}

impl Live {
    /// Begins with the greatest keys that a snapshot knows of.
    pub(super) fn new(last_keys: (u64, u64)) -> Self {
        Self { last_session: SessionKey(last_keys.0), last_message: MessageKey(last_keys.1), ..Self::default() }
    }

    /// Returns how many records there were.
    pub(super) fn places(&self) -> u64 {
        self.places
    }

    /// Takes in the next record.
    pub(super) fn take(&mut self, record: Record) {
        let place = self.places;
        self.places += 1;
        match record {
            Record::Started { session, .. } => {
                self.last_session = self.last_session.max(session);
                let started = Session { started: place, online: None, offline: None, will: None, ended: None };
                self.sessions.insert(session, started);
            }
            Record::Message { key, .. } => {
                self.last_message = self.last_message.max(key);
                self.messages.insert(key, Message { place, references: 0 });
            }
            Record::Retained { topic, stamp, message, expires } => {
                if self.retained.get(&topic).is_none_or(|old| old.stamp < stamp) {
                    self.retained.insert(topic, Retained { place, stamp, cleared: message.is_none(), expires });
                }
            }
            Record::Ended { session } => self.end(session, place),
            record => self.take_of_session(record, place),
        }
    }

    /// Returns what matters at a time in seconds since 1970.
    ///
    /// What is there for nobody — a cleared or expired retained message, a message that no session waits for — is kept where its place is `young` or later: what it is good for may not be in the stream yet.
    pub(super) fn survivors(&self, young: Place, unix: u64) -> Survivors {
        let words = usize::try_from(self.places.div_ceil(64)).unwrap_or(usize::MAX);
        let mut survivors = Survivors {
            bits: vec![0; words],
            last_keys: (self.last_session.0, self.last_message.0),
            queued: self.queue.len() as u64,
        };
        for session in self.sessions.values() {
            let Session { started, online, offline, will, ended } = *session;
            [Some(started), online, offline, will, ended].into_iter().flatten().for_each(|place| survivors.insert(place));
        }
        for queued in self.queue.values() {
            [Some(queued.place), queued.sent].into_iter().flatten().for_each(|place| survivors.insert(place));
        }
        self.subscriptions.values().chain(self.received.values()).for_each(|&place| survivors.insert(place));
        for message in self.messages.values().filter(|message| message.references > 0 || message.place >= young) {
            survivors.insert(message.place);
        }
        for retained in self.retained.values() {
            let past = retained.cleared || retained.expires.is_some_and(|expires| expires <= unix);
            if !past || retained.place >= young {
                survivors.insert(retained.place);
            }
        }
        survivors
    }

    fn take_of_session(&mut self, record: Record, place: Place) {
        let (Record::Online { session, .. }
        | Record::Offline { session, .. }
        | Record::Will { session, .. }
        | Record::Subscribed { session, .. }
        | Record::Unsubscribed { session, .. }
        | Record::Queued { session, .. }
        | Record::Sent { session, .. }
        | Record::Released { session, .. }
        | Record::Done { session, .. }
        | Record::Received { session, .. }
        | Record::Forgotten { session, .. }) = record
        else {
            return;
        };
        let Some(known) = self.sessions.get_mut(&session) else { return };
        match record {
            Record::Online { .. } => (known.online, known.offline) = (Some(place), None),
            Record::Offline { .. } => known.offline = Some(place),
            Record::Will { will, .. } => known.will = will.map(|_| place),
            Record::Subscribed { filter, .. } => {
                self.subscriptions.insert((session, filter), place);
            }
            Record::Unsubscribed { filter, .. } => {
                self.subscriptions.remove(&(session, filter));
            }
            Record::Received { packet_id, .. } => {
                self.received.insert((session, packet_id), place);
            }
            Record::Forgotten { packet_id, .. } => {
                self.received.remove(&(session, packet_id));
            }
            delivery => self.take_delivery(session, delivery, place),
        }
    }

    fn take_delivery(&mut self, session: SessionKey, record: Record, place: Place) {
        match record {
            Record::Queued { order, message, qos, shared, packet_id, .. } => {
                let Some(stored) = self.messages.get_mut(&message) else { return };
                stored.references += 1;
                let exactly_once = qos == QoS::ExactlyOnce;
                let (shared, in_flight) = (shared.is_some(), packet_id.is_some());
                let queued = Queued { place, sent: None, message: Some(message), exactly_once, shared, in_flight };
                self.queue.insert((session, order), queued);
            }
            Record::Sent { order, .. } => {
                if let Some(queued) = self.queue.get_mut(&(session, order)) {
                    (queued.sent, queued.in_flight) = (Some(place), true);
                }
            }
            Record::Released { order, .. } => {
                let released = Queued { place, sent: None, message: None, exactly_once: true, shared: false, in_flight: true };
                let old = self.queue.insert((session, order), released);
                self.unreference(old.and_then(|queued| queued.message));
            }
            Record::Done { order, .. } => {
                let old = self.queue.remove(&(session, order));
                self.unreference(old.and_then(|queued| queued.message));
                if self.sessions.get(&session).is_some_and(|known| known.ended.is_some()) && !self.has_messages(session) {
                    self.forget(session);
                }
            }
            _ => {}
        }
    }

    /// Leaves of a session only what another member of a shared subscription may get.
    fn end(&mut self, session: SessionKey, place: Place) {
        let Some(&known) = self.sessions.get(&session) else { return };
        let gone = self.queue.range(all_of(session)).filter(|(_, queued)| !queued.may_go_to_another());
        let gone: Vec<_> = gone.map(|(&key, _)| key).collect();
        for key in gone {
            let queued = self.queue.remove(&key);
            self.unreference(queued.and_then(|queued| queued.message));
        }
        self.forget(session);
        if self.has_messages(session) {
            let ended = Session { started: known.started, online: None, offline: None, will: None, ended: Some(place) };
            self.sessions.insert(session, ended);
        }
    }

    fn has_messages(&self, session: SessionKey) -> bool {
        self.queue.range(all_of(session)).next().is_some()
    }

    /// Forgets a session, except for its queue.
    fn forget(&mut self, session: SessionKey) {
        self.sessions.remove(&session);
        let filters = self.subscriptions.range((session, Box::default())..).take_while(|((of, _), _)| *of == session);
        let filters: Vec<_> = filters.map(|(key, _)| key.clone()).collect();
        for key in filters {
            self.subscriptions.remove(&key);
        }
        let packets = self.received.range((session, PacketId::MIN)..).take_while(|((of, _), _)| *of == session);
        let packets: Vec<_> = packets.map(|(&key, _)| key).collect();
        for key in packets {
            self.received.remove(&key);
        }
    }

    fn unreference(&mut self, message: Option<MessageKey>) {
        let Some(key) = message else { return };
        let Some(message) = self.messages.get_mut(&key) else { return };
        message.references = message.references.saturating_sub(1);
        if message.references == 0 {
            self.messages.remove(&key);
        }
    }
}

impl Queued {
    /// As [`midge_engine::record::QueuedState::may_go_to_another`].
    fn may_go_to_another(&self) -> bool {
        self.shared && !(self.exactly_once && self.in_flight)
    }
}

fn word(place: Place) -> usize {
    usize::try_from(place / 64).unwrap_or(usize::MAX)
}

fn bit(place: Place) -> u64 {
    1 << (place % 64)
}

fn all_of(session: SessionKey) -> RangeInclusive<(SessionKey, Order)> {
    (session, Order::MIN)..=(session, Order::MAX)
}
