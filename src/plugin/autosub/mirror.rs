//! The broker's retained messages, as far as there is room.
//!
//! No function of the broker gives them out. What clients publish and what we publish is noted as it happens; what was there
//! before, a reader brings once. A message without room is not kept: its topic then has none here, never an old one.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use midge_core::topic::{TopicFilter, TopicName};

/// What a message takes beside its topic and its payload.
const OVERHEAD: usize = 128;

/// One retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) payload: Arc<[u8]>,
    /// The quality of service that it was published with.
    pub(super) qos: u8,
    /// When it was noted.
    pub(super) noted: Duration,
}

/// Retained messages by their topics.
#[derive(Default)]
pub(super) struct Mirror {
    kept: BTreeMap<Box<str>, Kept>,
    bytes: usize,
    most: usize,
    most_bytes: usize,
    /// Topics about which something newer is known than a reader can bring; `None` once it has.
    newer: Option<HashSet<Box<str>>>,
}

/// What is found between two looks.
pub(super) struct Found {
    /// Topics and messages.
    pub(super) messages: Vec<(Box<str>, Kept)>,
    /// Where to go on; `None` at the end.
    pub(super) after: Option<Box<str>>,
    /// How many were looked at.
    pub(super) seen: usize,
}

impl Mirror {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self { most, most_bytes, newer: Some(HashSet::new()), ..Self::default() }
    }

    /// Returns how many messages are held.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Notes what a topic retains from now on; an empty payload is nothing. Returns whether there was room.
    pub(super) fn note(&mut self, topic: &str, payload: &[u8], qos: u8, now: Duration) -> bool {
        // The set has the mirror's own bound: beyond it, what the reader brings is not trusted.
        if let Some(newer) = &mut self.newer
            && newer.insert(topic.into())
            && newer.len() > self.most
        {
            self.newer = None;
        }
        self.put(topic, Kept { payload: payload.into(), qos, noted: now })
    }

    /// Takes over what a reader has found, but for topics of which something newer is known. Returns how many had no room.
    pub(super) fn learn(&mut self, found: Vec<(Box<str>, Vec<u8>)>) -> usize {
        let Some(newer) = self.newer.take() else { return found.len() };
        let old = found.into_iter().filter(|(topic, _)| !newer.contains(topic));
        // A reader isn't told with which quality of service they were published.
        let kept = |payload: Vec<u8>| Kept { payload: payload.into(), qos: 2, noted: Duration::ZERO };
        old.filter_map(|(topic, payload)| (!self.put(&topic, kept(payload))).then_some(topic)).count()
    }

    /// Returns messages that `filter` matches, behind the topic `after`, having looked at no more than `most`.
    pub(super) fn find(&self, filter: TopicFilter<'_>, after: Option<&str>, most: usize) -> Found {
        let text = filter.as_str();
        let prefix = text.split(['+', '#']).next().unwrap_or_default();
        // `a/#` matches `a` too.
        let prefix = if prefix.len() < text.len() { prefix.trim_end_matches('/') } else { prefix };
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut found = Found { messages: Vec::new(), after: None, seen: 0 };
        for (topic, kept) in self.kept.range::<str, _>((from, Bound::Unbounded)) {
            if !topic.starts_with(prefix) {
                break;
            }
            found.seen += 1;
            if TopicName::new(topic).is_ok_and(|topic| filter.matches(topic)) {
                found.messages.push((topic.clone(), kept.clone()));
            }
            if found.seen >= most {
                found.after = Some(topic.clone());
                break;
            }
        }
        found
    }

    fn put(&mut self, topic: &str, kept: Kept) -> bool {
        if let Some(old) = self.kept.remove(topic) {
            self.bytes -= size(topic, &old.payload);
        }
        if kept.payload.is_empty() {
            return true;
        }
        let size = size(topic, &kept.payload);
        let room = self.kept.len() < self.most && self.bytes + size <= self.most_bytes;
        if room {
            self.bytes += size;
            self.kept.insert(topic.into(), kept);
        }
        room
    }
}

fn size(topic: &str, payload: &[u8]) -> usize {
    OVERHEAD + topic.len() + payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(mirror: &Mirror, filter: &str, step: usize) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let found = mirror.find(TopicFilter::new(filter).unwrap(), after.as_deref(), step);
            all.extend(found.messages.into_iter().map(|(topic, _)| topic.to_string()));
            after = found.after;
            if after.is_none() {
                return all;
            }
        }
    }

    #[test]
    fn messages_are_found_by_filters_in_steps() {
        let mut mirror = Mirror::new(100, 100_000);
        for topic in ["a", "a/b", "a/b/c", "ab", "b/b", "$x/a"] {
            assert!(mirror.note(topic, b"1", 0, Duration::ZERO));
        }
        for (filter, expected) in [
            ("a", &["a"][..]),
            ("a/#", &["a", "a/b", "a/b/c"]),
            ("+/b", &["a/b", "b/b"]),
            ("a/+/c", &["a/b/c"]),
            ("#", &["a", "a/b", "a/b/c", "ab", "b/b"]),
            ("$x/#", &["$x/a"]),
            ("c", &[]),
        ] {
            for step in [1, 2, 100] {
                assert_eq!(topics(&mirror, filter, step), expected, "{filter} {step}");
            }
        }
    }

    #[test]
    fn what_has_no_room_leaves_nothing_old_behind() {
        let mut mirror = Mirror::new(2, 2 * (OVERHEAD + 10));
        assert!(mirror.note("a", b"1", 1, Duration::ZERO) && mirror.note("b", b"1", 1, Duration::ZERO));
        assert!(!mirror.note("c", b"1", 1, Duration::ZERO));
        assert!(!mirror.note("a", &[0; 200], 1, Duration::ZERO));
        assert_eq!(topics(&mirror, "#", 10), ["b"]);
        assert!(mirror.note("b", b"", 1, Duration::ZERO) && mirror.note("c", b"1", 1, Duration::ZERO));
        assert_eq!(topics(&mirror, "#", 10), ["c"]);
        assert_eq!(mirror.bytes, size("c", b"1"));
    }

    #[test]
    fn a_reader_brings_nothing_that_is_older_than_what_is_known() {
        let mut mirror = Mirror::new(10, 10_000);
        mirror.note("changed", b"new", 1, Duration::ZERO);
        mirror.note("deleted", b"", 1, Duration::ZERO);
        let old = ["changed", "deleted", "kept"].map(|topic| (topic.into(), b"old".to_vec()));
        assert_eq!(mirror.learn(old.to_vec()), 0);
        let found = mirror.find(TopicFilter::new("#").unwrap(), None, 10).messages;
        let shown: Vec<_> = found.iter().map(|(topic, kept)| (&**topic, &*kept.payload)).collect();
        assert_eq!(shown, [("changed", &b"new"[..]), ("kept", b"old")]);
    }
}
