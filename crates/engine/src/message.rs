//! One application message, stored once for everybody who gets it.
//!
//! Topic name, properties and payload lie in one allocation, in this order and already encoded: the tail of a PUBLISH of 5.0 is a suffix of it, and so is that of the older versions.
//! What differs from target to target (QoS, packet identifier, topic alias, subscription identifiers, remaining expiry) is not in it.

use std::cell::OnceCell;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use midge_core::topic::TopicName;
use midge_mqtt::QoS;

use crate::memory::{Charge, Memory};

/// A message that is looked at where it lies: in a packet, or in a [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Where it is published to.
    pub topic: TopicName<'a>,
    /// Properties as 5.0 writes them, without length; no topic alias, subscription identifier or message expiry interval.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// The QoS it was published with.
    pub qos: QoS,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// When it expires, on the monotonic clock.
    pub expires: Option<Duration>,
    /// Which of two retained messages of one topic is the later one; 0 where it isn't known yet.
    pub stamp: u64,
}

impl Publication<'_> {
    /// Returns the message with storage of its own.
    #[must_use]
    pub fn to_message(&self) -> Arc<Message> {
        self.store(0)
    }

    fn store(&self, publisher: u64) -> Arc<Message> {
        let topic = self.topic.as_str().as_bytes();
        let mut content = Vec::with_capacity(topic.len() + self.properties.len() + self.payload.len());
        content.extend_from_slice(topic);
        content.extend_from_slice(self.properties);
        content.extend_from_slice(self.payload);
        Arc::new(Message {
            content: content.into_boxed_slice(),
            topic: topic.len(),
            properties: self.properties.len(),
            qos: self.qos,
            retain: self.retain,
            expires: self.expires,
            stamp: self.stamp,
            publisher,
            charge: OnceLock::new(),
        })
    }

    /// Returns whether the message has expired.
    #[must_use]
    pub fn is_expired(&self, now: Duration) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Returns the message expiry interval to forward, in seconds: what is left of it [MQTT-3.3.2-6].
    ///
    /// Begun seconds count as whole ones, so that a message that may be sent never says 0.
    #[must_use]
    pub fn remaining(&self, now: Duration) -> Option<u32> {
        let left = self.expires?.saturating_sub(now);
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

/// An application message, immutable and shared by reference.
#[derive(Debug)]
pub struct Message {
    content: Box<[u8]>,
    topic: usize,
    properties: usize,
    qos: QoS,
    retain: bool,
    expires: Option<Duration>,
    stamp: u64,
    /// The hash of the publisher's client identifier, for retained messages and as long as the server runs; 0 for nobody.
    publisher: u64,
    /// What counts it as taken memory, from the first loop on that has it stored.
    charge: OnceLock<Charge>,
}

/// Who published it is not part of it.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        let rest =
            |message: &Self| (message.topic, message.properties, message.qos, message.retain, message.expires, message.stamp);
        self.content == other.content && rest(self) == rest(other)
    }
}

impl Eq for Message {}

impl Message {
    /// Returns the parts of the message.
    #[must_use]
    pub fn view(&self) -> Publication<'_> {
        let (topic, tail) = self.content.split_at(self.topic);
        let (properties, payload) = tail.split_at(self.properties);
        let text = std::str::from_utf8(topic).expect("the topic was text when it was copied");
        Publication {
            topic: TopicName::new(text).expect("the topic was a topic name when it was copied"),
            properties,
            payload,
            qos: self.qos,
            retain: self.retain,
            expires: self.expires,
            stamp: self.stamp,
        }
    }

    /// Returns the bytes it holds: topic name, properties and payload.
    #[must_use]
    pub fn len(&self) -> usize {
        self.content.len()
    }

    /// Returns whether it holds nothing; it always holds a topic name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// Returns when it expires, on the monotonic clock.
    #[must_use]
    pub fn expires(&self) -> Option<Duration> {
        self.expires
    }

    /// Has it counted as taken memory as long as it lasts, if it isn't yet.
    pub(crate) fn charge(&self, memory: &mut Memory) {
        self.charge.get_or_init(|| memory.charge(self.content.len()));
    }

    /// Returns the hash of the client identifier of its publisher; 0 where nobody knows.
    pub(crate) fn publisher(&self) -> u64 {
        self.publisher
    }

    /// Returns where the shared end of a PUBLISH begins: with the properties in 5.0, with the payload before.
    pub(crate) fn tail_start(&self, with_properties: bool) -> usize {
        if with_properties { self.topic } else { self.topic + self.properties }
    }

    pub(crate) fn rest(&self, offset: usize) -> &[u8] {
        self.content.get(offset..).unwrap_or_default()
    }
}

/// A message on its way, which gets storage of its own when the first target needs it.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    view: Publication<'a>,
    publisher: u64,
    message: OnceCell<Arc<Message>>,
}

impl<'a> Shared<'a> {
    /// `publisher` is what [`Message::publisher`] is to return.
    pub(crate) fn new(view: Publication<'a>, publisher: u64) -> Self {
        Self { view, publisher, message: OnceCell::new() }
    }

    pub(crate) fn of(message: &'a Arc<Message>) -> Self {
        Self { view: message.view(), publisher: message.publisher, message: OnceCell::from(Arc::clone(message)) }
    }

    #[inline]
    pub(crate) fn view(&self) -> &Publication<'a> {
        &self.view
    }

    /// Returns the message with storage of its own, if anything needed it so far.
    pub(crate) fn stored(&self) -> Option<&Arc<Message>> {
        self.message.get()
    }

    pub(crate) fn message(&self) -> Arc<Message> {
        Arc::clone(self.message.get_or_init(|| self.view.store(self.publisher)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(expires: Option<u64>) -> Publication<'static> {
        Publication {
            topic: TopicName::new("a/b").unwrap(),
            properties: &[1, 1],
            payload: b"xyz",
            qos: QoS::AtLeastOnce,
            retain: true,
            expires: expires.map(Duration::from_millis),
            stamp: 7,
        }
    }

    #[test]
    fn parts_and_tails_lie_in_one_allocation() {
        let message = publication(None).to_message();
        let view = message.view();
        assert_eq!((view.topic.as_str(), view.properties, view.payload), ("a/b", &[1, 1][..], &b"xyz"[..]));
        assert_eq!((view.qos, view.retain, view.stamp, message.len()), (QoS::AtLeastOnce, true, 7, 8));
        let tail = |v5| message.rest(message.tail_start(v5));
        assert_eq!((tail(true), tail(false)), (&[1, 1, b'x', b'y', b'z'][..], &b"xyz"[..]));
    }

    #[test]
    fn what_is_left_of_the_expiry_interval() {
        for (expires, now, expected) in [
            (None, 5, None),
            (Some(2000), 0, Some(2)),
            (Some(2000), 1, Some(2)),
            (Some(2000), 1001, Some(1)),
            (Some(2000), 3000, Some(0)),
        ] {
            assert_eq!(publication(expires).remaining(Duration::from_millis(now)), expected);
        }
        assert!(publication(Some(2000)).is_expired(Duration::from_millis(2000)));
    }
}
