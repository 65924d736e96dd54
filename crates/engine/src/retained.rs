//! Keeps the last retained message of each topic.
//!
//! # How
//! One ordered map, whose keys are topic names with U+0000, which no topic name can hold, in place of `/`: then the bytes are in the order of the levels, and all topics below a level lie side by side.
//! A wildcard query is a [`Cursor`]: it leaps from match to match, seeking past whatever a level rules out, and keeps nothing but its place between two steps.
//!
//! # Promises
//! * A query visits at most as many topics in one step as it is told; nothing is prepared before its first step.
//! * A message that is there from a query's first step to its last is found exactly once; what is set or cleared meanwhile may be found or not, never twice. Messages come in the order of their levels.
//! * Expired messages are never found. They are dropped when met by [`Retained::set`], and by [`Retained::expire`].
//! * At a [bound](Bounds) the new message is refused and counted; what was there stays. To replace or clear is always possible, unless the new message is larger than there is room for.
//! * No hash, no key: the worst case is logarithmic, whatever names clients choose.

mod cursor;

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use midge_core::topic::TopicName;

pub use cursor::{Cursor, Progress};

/// Expired messages that [`Retained::set`] drops at most to make room.
const EXPIRED_AT_ONCE: usize = 16;

/// How much may be retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Messages.
    pub messages: usize,
    /// Bytes of topic names and messages together.
    pub bytes: usize,
}

/// Why a message was not retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many messages as may be.
    Messages,
    /// There would be more bytes than may be.
    Bytes,
}

/// What is retained, and what happened to the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages retained now, expired ones that were not dropped yet included.
    pub messages: usize,
    /// Bytes of their topic names and content.
    pub bytes: usize,
    /// Bytes of their topic names.
    pub topic_bytes: usize,
    /// Messages refused because of a bound.
    pub refused: u64,
    /// Messages dropped because they expired.
    pub expired: u64,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<V> {
    /// The content, which this room does not look into.
    pub value: V,
    /// The bytes that it counts for.
    pub bytes: usize,
    /// When it expires, on the monotonic clock.
    pub expires: Option<Duration>,
}

impl<V> Message<V> {
    fn is_expired(&self, now: Duration) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Retained messages by topic; `V` is best a reference to shared content.
#[derive(Debug)]
pub struct Retained<V> {
    messages: BTreeMap<Arc<str>, Message<V>>,
    /// The topics of messages that expire, the first to do so first.
    expiring: BTreeSet<(Duration, Arc<str>)>,
    bounds: Bounds,
    counters: Counters,
}

impl<V> Retained<V> {
    /// Returns an empty store within `bounds`.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { messages: BTreeMap::new(), expiring: BTreeSet::new(), bounds, counters: Counters::default() }
    }

    /// Changes the bounds; what is there stays.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Retains a message for `topic` and returns the one it replaces, unless that has expired.
    ///
    /// `now` and the message's expiry are on the monotonic clock.
    ///
    /// # Errors
    /// The bound that the message would break; what was retained for the topic stays.
    pub fn set(&mut self, topic: TopicName<'_>, message: Message<V>, now: Duration) -> Result<Option<Message<V>>, Refused> {
        let key = to_key(topic.as_str());
        self.expire(now, EXPIRED_AT_ONCE);
        let old_bytes = self.messages.get(&*key).map(|old| old.bytes);
        let bytes = match old_bytes {
            None if self.messages.len() >= self.bounds.messages => return Err(self.refuse(Refused::Messages)),
            None => self.counters.bytes + key.len() + message.bytes,
            Some(old) => self.counters.bytes - old + message.bytes,
        };
        if bytes > self.bounds.bytes && old_bytes.is_none_or(|old| message.bytes > old) {
            return Err(self.refuse(Refused::Bytes));
        }
        let old = self.take(&key);
        let key: Arc<str> = key.into();
        if let Some(expires) = message.expires {
            self.expiring.insert((expires, Arc::clone(&key)));
        }
        self.counters.bytes += key.len() + message.bytes;
        self.counters.topic_bytes += key.len();
        self.messages.insert(key, message);
        Ok(old.filter(|old| !old.is_expired(now)))
    }

    /// Removes the message of `topic` and returns it, unless it has expired.
    pub fn clear(&mut self, topic: TopicName<'_>, now: Duration) -> Option<Message<V>> {
        self.take(&to_key(topic.as_str())).filter(|old| !old.is_expired(now))
    }

    /// Returns the message of `topic`, unless it has expired.
    #[must_use]
    pub fn find(&self, topic: TopicName<'_>, now: Duration) -> Option<&Message<V>> {
        self.messages.get(&*to_key(topic.as_str())).filter(|message| !message.is_expired(now))
    }

    /// Drops at most `limit` expired messages and returns their number: fewer means all.
    pub fn expire(&mut self, now: Duration, limit: usize) -> usize {
        let mut dropped = 0;
        while dropped < limit && self.expiring.first().is_some_and(|(expires, _)| *expires <= now) {
            let Some((_, key)) = self.expiring.pop_first() else { break };
            self.take(&key);
            dropped += 1;
        }
        self.counters.expired += dropped as u64;
        dropped
    }

    /// Returns when the next message expires, on the monotonic clock.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        self.expiring.first().map(|(expires, _)| *expires)
    }

    /// Returns what is retained and what was refused or dropped.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { messages: self.messages.len(), ..self.counters }
    }

    /// Returns the messages from `start` on.
    fn from(&self, start: &str) -> btree_map::Range<'_, Arc<str>, Message<V>> {
        self.messages.range::<str, _>((Bound::Included(start), Bound::Unbounded))
    }

    fn take(&mut self, key: &str) -> Option<Message<V>> {
        let (key, old) = self.messages.remove_entry(key)?;
        self.counters.bytes -= key.len() + old.bytes;
        self.counters.topic_bytes -= key.len();
        if let Some(expires) = old.expires {
            self.expiring.remove(&(expires, key));
        }
        Some(old)
    }

    fn refuse(&mut self, refused: Refused) -> Refused {
        self.counters.refused += 1;
        refused
    }
}

fn to_key(topic: &str) -> String {
    topic.replace('/', "\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn message(bytes: usize, expires: Option<u64>) -> Message<u8> {
        Message { value: 0, bytes, expires: expires.map(at) }
    }

    fn name(text: &str) -> TopicName<'_> {
        TopicName::new(text).unwrap()
    }

    #[test]
    fn bounds_refuse_what_is_new_and_keep_what_is_there() {
        let mut retained = Retained::new(Bounds { messages: 2, bytes: 20 });
        let mut set =
            |topic, bytes, expires, now| retained.set(name(topic), message(bytes, expires), at(now)).map(|old| old.is_some());
        assert_eq!(set("a", 5, None, 0), Ok(false));
        assert_eq!(set("b", 5, Some(10), 0), Ok(false));
        assert_eq!(set("c", 5, None, 1), Err(Refused::Messages));
        assert_eq!(set("a", 14, None, 1), Err(Refused::Bytes));
        assert_eq!(set("a", 13, None, 1), Ok(true));
        assert_eq!(set("a", 12, None, 1), Ok(true));
        assert_eq!(set("c", 6, None, 10), Ok(false));
        assert_eq!(retained.counters(), Counters { messages: 2, bytes: 20, topic_bytes: 2, refused: 2, expired: 1 });
    }

    #[test]
    fn expired_messages_are_not_found() {
        let mut retained = Retained::new(Bounds { messages: 100, bytes: 10_000 });
        for topic in 0..20 {
            retained.set(name(&topic.to_string()), message(1, Some(topic)), at(0)).unwrap();
        }
        assert_eq!(retained.next_expiry(), Some(at(1)));
        assert!(retained.find(name("5"), at(4)).is_some());
        assert!(retained.find(name("5"), at(5)).is_none());
        assert!(retained.clear(name("5"), at(5)).is_none());
        assert_eq!(retained.expire(at(10), 4), 4);
        assert_eq!(retained.expire(at(10), 100), 5);
        assert_eq!((retained.counters().messages, retained.next_expiry()), (9, Some(at(11))));
        assert_eq!(retained.set(name("11"), message(1, None), at(11)), Ok(None));
        assert_eq!(retained.next_expiry(), Some(at(12)));
    }
}
