//! Counts what clients of one loop publish.
//!
//! Counting is a look-up in the loop's own memory; adding up, writing and ranking are another thread's work.

use std::cell::{Cell, RefCell};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use midge_core::hot::{Arrival, Counter, Published, Ranking};
use midge_core::time::Now;
use midge_core::topic::TopicName;
use midge_engine::message::Publication;
use midge_engine::permission::Turn;
use midge_engine::shard::Shard;
use midge_mqtt::QoS;
use midge_store::hot::HotTopics;

use super::login::LoopMind;

/// How often what was counted is passed on.
const COLLECT: Duration = Duration::from_secs(1);
/// Below this topic, a list is published for each window.
const TOPIC: &str = "$SYS/midge/hot/";

/// The counter of one loop.
pub(super) struct Counting {
    topics: Arc<HotTopics>,
    counter: RefCell<Counter>,
    /// Whether anything was counted since the last time.
    dirty: Cell<bool>,
    collected: Duration,
    /// Whether lists are this loop's business.
    publishes: bool,
}

impl Counting {
    pub(super) fn new(topics: Arc<HotTopics>, publishes: bool) -> Self {
        let counter = RefCell::new(topics.counter());
        Self { topics, counter, dirty: Cell::new(false), collected: Duration::ZERO, publishes }
    }

    /// Counts a message of a client, or of nobody; the engine hands each on once only.
    pub(super) fn published(&self, client: Option<&str>, topic: TopicName<'_>, bytes: usize, deliveries: usize) {
        let publisher = client.map(|client| self.topics.seed().publisher(client));
        let publish = Published { bytes: bytes as u64, deliveries: deliveries as u64, publisher, arrival: Arrival::First };
        self.counter.borrow_mut().published(topic, &publish);
        self.dirty.set(true);
    }

    /// Counts deliveries of a message that another loop has counted.
    pub(super) fn delivered(&self, topic: TopicName<'_>, deliveries: usize) {
        self.counter.borrow_mut().delivered(topic, deliveries as u64);
        self.dirty.set(true);
    }

    /// Returns when there is something to pass on.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        // Lists come from another thread, which has no way to ring.
        (self.dirty.get() || self.publishes).then(|| (self.collected + COLLECT).max(now))
    }

    /// Passes on what was counted where a second is over; returns the lists that are to be published.
    fn pass_on(&mut self, now: Duration) -> Vec<Ranking> {
        if now.saturating_sub(self.collected) < COLLECT {
            return Vec::new();
        }
        self.collected = now;
        if self.dirty.replace(false) {
            self.topics.collect(self.counter.get_mut());
        }
        if self.publishes { self.topics.take_lists() } else { Vec::new() }
    }
}

impl Drop for Counting {
    /// Passes on the rest.
    fn drop(&mut self) {
        self.topics.collect(self.counter.get_mut());
    }
}

impl<K: Copy + Eq + Hash + Send + 'static> LoopMind<K> {
    /// Passes on what was counted, and publishes new lists.
    pub(super) fn count(&mut self, shard: &mut Shard, now: Now) {
        let lists = self.counting.as_mut().map(|counting| counting.pass_on(now.monotonic)).unwrap_or_default();
        for list in lists {
            let (topic, payload) = (format!("{TOPIC}{}", list.window), list.to_json());
            let Ok(topic) = TopicName::new(&topic) else { continue };
            let (payload, qos, retain) = (payload.as_bytes(), QoS::AtMostOnce, true);
            let publication = Publication { topic, properties: &[], payload, qos, retain, expires: None, stamp: 0 };
            shard.publish(publication, &Turn { now, permissions: &*self });
        }
    }
}
