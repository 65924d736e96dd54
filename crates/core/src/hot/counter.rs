//! Counts publishes on the thread that handles them.
//!
//! A count takes no lock, allocates nothing, and touches three cache lines for a topic that is known.
//! Once a second the owner swaps what was counted for an empty [`Tally`]; the rest is the [`Ledger`](super::Ledger)'s work, elsewhere.

use std::sync::Arc;

use crate::topic::TopicName;

use super::distinct::{Publisher, Registers};
use super::name::{BUFFER, bounded};
use super::table::{SUMS, Sums, Table};
use super::{Capacity, RollUp, Seed};

/// Whether a publish is new.
///
/// The caller's QoS 2 state decides, not the DUP flag: a flagged packet may be the first that arrives,
/// and only the state knows that the packet identifier is still held from before [MQTT-4.3.3-10].
/// A QoS 1 packet that comes twice is delivered twice, and is [`Arrival::First`] each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The publish is routed to subscribers.
    First,
    /// The same QoS 2 publish was counted and routed before; nothing is counted.
    Repeated,
}

/// One publish, as far as counting is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Length of the payload in bytes.
    pub bytes: u64,
    /// To how many subscribers it goes, as far as that is known now; see [`Counter::delivered`].
    pub deliveries: u64,
    /// Who published; `None` for the server itself.
    pub publisher: Option<Publisher>,
    /// Whether it is new.
    pub arrival: Arrival,
}

/// What was counted since the last swap.
#[derive(Debug)]
pub struct Tally {
    pub(super) table: Table,
    pub(super) patterns: Vec<Row>,
    pub(super) roll_up: Arc<RollUp>,
    pub(super) total: Sums,
}

/// What is known of a pattern: it has a place of its own, and is never lost.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) sums: Sums,
    pub(super) publishers: Registers,
}

impl Row {
    const EMPTY: Self = Self { sums: [0; SUMS], publishers: Registers::EMPTY };
}

impl Tally {
    /// Returns an empty tally that keeps at most `capacity` topics, beside the patterns.
    #[must_use]
    pub fn new(capacity: Capacity, roll_up: Arc<RollUp>) -> Self {
        let patterns = vec![Row::EMPTY; roll_up.patterns().len()];
        Self { table: Table::new(capacity.get()), patterns, roll_up, total: [0; SUMS] }
    }

    /// Returns whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == [0; SUMS]
    }

    /// Returns how many bytes of memory the tally has taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.patterns.capacity() * size_of::<Row>()
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.patterns.fill(Row::EMPTY);
        self.total = [0; SUMS];
    }
}

/// Counts on one thread: the plugin has one, each of the broker's loops has one.
#[derive(Debug)]
pub struct Counter {
    seed: Seed,
    tally: Tally,
    /// Where the topic of the last publish is, as its deliveries come next.
    last: Option<usize>,
}

impl Counter {
    /// Returns a counter that counts into `tally`.
    #[must_use]
    pub fn new(seed: Seed, tally: Tally) -> Self {
        Self { seed, tally, last: None }
    }

    /// Counts a publish; not below `$`, where servers report, this one hot topics among others.
    #[inline]
    pub fn published(&mut self, topic: TopicName<'_>, publish: &Published) {
        if publish.arrival == Arrival::Repeated || topic.is_reserved() {
            return;
        }
        let publishers = self.add(topic, [1, publish.bytes, publish.deliveries]);
        if let Some(publisher) = publish.publisher {
            publishers.note(publisher);
        }
    }

    /// Counts deliveries that were not known when the message was published: later, queued and retained ones.
    ///
    /// For the topic of the last publish this costs a comparison of the names.
    #[inline]
    pub fn delivered(&mut self, topic: TopicName<'_>, deliveries: u64) {
        if topic.is_reserved() {
            return;
        }
        if !self.delivered_of_last(topic.as_str().as_bytes(), deliveries) {
            self.add(topic, [0, 0, deliveries]);
        }
    }

    /// Counts deliveries if `topic` is that of the last publish, and returns whether it is: nothing has to be known of it but its bytes.
    #[inline]
    pub fn delivered_of_last(&mut self, topic: &[u8], deliveries: u64) -> bool {
        let Some(last) = self.last.filter(|last| self.tally.table.name(*last) == topic) else { return false };
        self.tally.table.add_at(last, [0, 0, deliveries]);
        self.count_total([0, 0, deliveries]);
        true
    }

    /// Goes on counting into `next`, which has to be empty, and returns what was counted until now.
    #[must_use = "what was counted goes to the ledger"]
    pub fn swap(&mut self, next: Tally) -> Tally {
        self.last = None;
        std::mem::replace(&mut self.tally, next)
    }

    /// Returns how many bytes of memory the counter has taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tally.bytes()
    }

    #[inline]
    fn add(&mut self, topic: TopicName<'_>, sums: Sums) -> &mut Registers {
        self.count_total(sums);
        if let Some(pattern) = self.tally.roll_up.find(topic) {
            let row = &mut self.tally.patterns[pattern];
            for (sum, more) in row.sums.iter_mut().zip(sums) {
                *sum = sum.saturating_add(more);
            }
            return &mut row.publishers;
        }
        let mut buffer = BUFFER;
        let name = bounded(topic, &mut buffer);
        let place = self.tally.table.add(self.seed.topic(name), name, sums);
        self.last = Some(place.slot);
        self.tally.table.publishers(place.slot)
    }

    #[inline]
    fn count_total(&mut self, sums: Sums) {
        for (total, more) in self.tally.total.iter_mut().zip(sums) {
            *total = total.saturating_add(more);
        }
    }
}
