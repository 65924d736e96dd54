//! Gathers what was counted, ranks it, feeds the store.
//!
//! Lives on a worker, not on the thread that counts.
//! Each window has a ring of buckets, each bucket a [`Table`](super::table); tallies are added to the bucket of the moment of all four.
//! Buckets of the past are reused, so memory grows to a bound that [`Ledger::max_bytes`] names, and never again.

use std::collections::HashMap;

use serde::Serialize;

use super::bucket::Bucket;
use super::counter::Tally;
use super::distinct::Registers;
use super::flush::Mark;
use super::table::{SUMS, Sums};
use super::{Capacity, Metric, Seed, Window};

/// A topic, or a roll-up pattern, and what was counted of it in a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HotTopic {
    /// The topic name, the pattern, or the levels and `/#` that stand for a long topic.
    #[serde(rename = "topic")]
    pub name: String,
    /// Publishes.
    pub messages: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// Messages sent to subscribers.
    pub deliveries: u64,
    /// Different publishers, estimated with a standard error of 13 %.
    pub publishers: u64,
}

impl HotTopic {
    /// Returns a topic of which nothing is known.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, messages: 0, bytes: 0, deliveries: 0, publishers: 0 }
    }

    /// Sets one of the figures.
    pub fn set(&mut self, metric: Metric, figure: u64) {
        match metric {
            Metric::Messages => self.messages = figure,
            Metric::Bytes => self.bytes = figure,
            Metric::Deliveries => self.deliveries = figure,
            Metric::Publishers => self.publishers = figure,
        }
    }

    /// Returns the figure that topics are ranked by.
    #[must_use]
    pub fn metric(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Messages => self.messages,
            Metric::Bytes => self.bytes,
            Metric::Deliveries => self.deliveries,
            Metric::Publishers => self.publishers,
        }
    }
}

/// The hottest topics of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotList {
    /// By the metric that was asked for, highest first; by name where that is equal.
    pub topics: Vec<HotTopic>,
    /// Of all topics together, whether they are in the list or not; exact.
    pub total: Totals,
    /// The most that any one topic may have had more than is shown: what overflowing tables have lost.
    pub missed: Totals,
}

/// What is added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Publishes.
    pub messages: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// Messages sent to subscribers.
    pub deliveries: u64,
}

impl From<Sums> for Totals {
    fn from([messages, bytes, deliveries]: Sums) -> Self {
        Self { messages, bytes, deliveries }
    }
}

/// What one node has counted, by window.
#[derive(Debug)]
pub struct Ledger {
    pub(super) seed: Seed,
    pub(super) rings: [Ring; 4],
    capacity: usize,
    /// That of the last flush.
    pub(super) mark: Mark,
    /// How many parts of each metric the store said it had at its last answer.
    pub(super) acknowledged: [Option<u64>; 4],
    pub(super) dropped: u64,
}

/// The buckets of one window.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) window: Window,
    /// Oldest first.
    pub(super) buckets: Vec<Bucket>,
    spare: Vec<Bucket>,
    pub(super) flushed_unix: u64,
}

impl Ledger {
    /// Returns an empty ledger that keeps at most `capacity` topics in each bucket; `seed` is that of the counters.
    #[must_use]
    pub fn new(seed: Seed, capacity: Capacity) -> Self {
        let rings = Window::ALL.map(|window| Ring { window, buckets: Vec::new(), spare: Vec::new(), flushed_unix: 0 });
        let mark = Mark { run: seed.run(), sequence: 0 };
        Self { seed, rings, capacity: capacity.get(), mark, acknowledged: [None; 4], dropped: 0 }
    }

    /// Adds what a counter has counted to all windows at `unix`, in seconds since 1970, and returns the tally empty.
    #[must_use = "the tally is the counter's next"]
    pub fn absorb(&mut self, mut tally: Tally, unix: u64) -> Tally {
        if tally.is_empty() {
            return tally;
        }
        for ring in &mut self.rings {
            let bucket = ring.bucket(unix, self.capacity);
            for (_, name, row) in tally.table.rows() {
                bucket.add(row.hash, name, row.sums, &row.publishers);
            }
            for (name, row) in tally.roll_up.patterns().zip(&tally.patterns).filter(|(_, row)| row.sums != [0; SUMS]) {
                bucket.add(self.seed.topic(name), name, row.sums, &row.publishers);
            }
            bucket.close_tally(tally.total, tally.table.lost());
        }
        tally.clear();
        tally
    }

    /// Returns the `count` hottest topics of `window` at `unix` by `metric`, as far as this node has seen them.
    #[must_use]
    pub fn top(&self, window: Window, metric: Metric, count: usize, unix: u64) -> HotList {
        let ring = &self.rings[window as usize];
        let mut merged: HashMap<&str, (Sums, Registers)> = HashMap::new();
        let (mut total, mut lost) = ([0u64; SUMS], [0u64; SUMS]);
        for bucket in ring.buckets.iter().filter(|bucket| window.holds(bucket.start, unix)) {
            for (_, name, row) in bucket.table.rows() {
                let (sums, publishers) = merged.entry(name).or_insert(([0; SUMS], Registers::EMPTY));
                add(sums, row.sums);
                publishers.merge(&row.publishers);
            }
            add(&mut total, bucket.total);
            add(&mut lost, bucket.lost());
        }
        let mut topics: Vec<HotTopic> =
            merged.into_iter().map(|(name, (sums, publishers))| hot_topic(name, sums, &publishers)).collect();
        topics.sort_unstable_by(|a, b| b.metric(metric).cmp(&a.metric(metric)).then_with(|| a.name.cmp(&b.name)));
        topics.truncate(count);
        HotList { topics, total: total.into(), missed: lost.into() }
    }

    /// Returns how much that was given back could not be kept, as its topic or its bucket was gone: a count of increments.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns how many bytes of memory the ledger has taken for its buckets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rings.iter().flat_map(|ring| ring.buckets.iter().chain(&ring.spare)).map(Bucket::bytes).sum()
    }

    /// Returns how many bytes a ledger may take for its buckets at most, whatever is counted.
    #[must_use]
    pub fn max_bytes(capacity: Capacity) -> usize {
        let buckets: usize = Window::ALL.iter().map(|window| Ring::max_buckets(*window)).sum();
        buckets * Bucket::new(0, capacity.get()).bytes()
    }
}

impl Ring {
    /// A bucket more than a window has at a time: one ahead of a clock that was set back.
    fn max_buckets(window: Window) -> usize {
        window.starts(u64::MAX).count() + 1
    }

    /// Returns the bucket of the moment, after what is out of the window was cleared away.
    fn bucket(&mut self, unix: u64, capacity: usize) -> &mut Bucket {
        let start = self.window.start(unix);
        for at in (0..self.buckets.len()).rev() {
            if !self.window.holds(self.buckets[at].start, unix) {
                self.spare.push(self.buckets.remove(at));
            }
        }
        let at = match self.buckets.binary_search_by_key(&start, |bucket| bucket.start) {
            Ok(at) => at,
            Err(_) => self.open(start, unix, capacity),
        };
        &mut self.buckets[at]
    }

    fn open(&mut self, start: u64, unix: u64, capacity: usize) -> usize {
        if self.buckets.len() == Self::max_buckets(self.window) {
            // Only clocks that jump get here: what is furthest from now is worth least.
            let furthest = (0..self.buckets.len()).max_by_key(|at| self.buckets[*at].start.abs_diff(unix));
            self.spare.extend(furthest.map(|at| self.buckets.remove(at)));
        }
        let bucket = match self.spare.pop() {
            Some(mut bucket) => {
                bucket.reset(start);
                bucket
            }
            None => Bucket::new(start, capacity),
        };
        let at = self.buckets.partition_point(|bucket| bucket.start < start);
        self.buckets.insert(at, bucket);
        at
    }
}

fn add(to: &mut Sums, more: Sums) {
    for (sum, more) in to.iter_mut().zip(more) {
        *sum = sum.saturating_add(more);
    }
}

fn hot_topic(name: &str, [messages, bytes, deliveries]: Sums, publishers: &Registers) -> HotTopic {
    HotTopic { name: name.to_owned(), messages, bytes, deliveries, publishers: publishers.estimate() }
}
