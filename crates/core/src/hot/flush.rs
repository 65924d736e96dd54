//! Changes of buckets, on their way to the store and back.
//!
//! What is taken counts as sent; what the store refused is given back, and what it has lost is found out by its answers:
//! both come with the next flush.
//! The [parent module](super) says how parts are applied.
//!
//! All members are increments, so the sum over nodes is the sum of what they counted; with clients that don't change nodes this
//! holds for publishers as well.
//! A publisher counts in the newest bucket it was seen in: being seen again moves it, by a negative increment to where it was before.
//! So for every metric the sum over a window's buckets is the figure of the window.
//!
//! Only topics with at least a k-th of what the bucket counted, k being the ledger's capacity, become members.
//! While the total T doubles, at most 2k can pass that mark, so a node brings at most 2k·log₂(T) members into a set,
//! about k in practice, and a flood of random topics none.
//! What a set lacks of a topic is at most T/k per node beside what the tables lost.
//!
//! The store may drop the least members of a set that is too long. A node that is told a score below what it has sent of a topic
//! sends all of it again, so no topic that goes on is lost, and none ever shows more than was counted.
//! Publishers are not sent again: those of a topic that fell out may be missing until their bucket has left the window.

use std::fmt;

use super::bucket::{Bucket, Sent};
use super::distinct::Registers;
use super::ledger::Ring;
use super::{BucketKey, Ledger, Metric};

/// Increments of one metric, to be applied together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a part that was not applied has to be given back"]
pub struct Part {
    /// Tells whether it was applied.
    pub mark: Mark,
    /// What was counted.
    pub metric: Metric,
    /// By key, each once.
    pub buckets: Vec<BucketIncrements>,
}

/// Tells one flush of one run of a node from all others of this node.
///
/// Its text is what the store writes down, with the increments and as atomically, at [`Metric::applied_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    pub(super) run: u64,
    pub(super) sequence: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.sequence)
    }
}

/// Increments of one sorted set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketIncrements {
    /// The key, without the prefix; it shall live for [`Window::time_to_live`](super::Window::time_to_live) from now.
    pub key: BucketKey,
    /// Members and what is to be added to them, each member once; only publishers are ever negative.
    pub members: Vec<(Box<str>, i64)>,
}

impl Ledger {
    /// Takes what has to go to the store at `unix`: one [`Part`] for each metric that changed.
    ///
    /// To be called once a second. The window of a minute is flushed each time, that of an hour every 2 seconds,
    /// of 24 hours every 5, of 7 days every 10; a crash loses as much of each.
    /// At most 16 times the ledger's capacity of increments are taken; more follow the next time.
    pub fn take(&mut self, unix: u64) -> Vec<Part> {
        self.take_due(|ring| unix < ring.flushed_unix || unix - ring.flushed_unix >= ring.window.flush_seconds(), unix)
    }

    /// Takes what has to go to the store from all windows, as before a stop; the same bound holds.
    pub fn take_all(&mut self, unix: u64) -> Vec<Part> {
        self.take_due(|_| true, unix)
    }

    /// Gives back a part that is known not to have been applied; its increments come with the next flush.
    ///
    /// What has no place any more, as its bucket left the window or its topic the table, is counted in [`Ledger::dropped`].
    pub fn give_back(&mut self, part: Part) {
        for BucketIncrements { key, members } in part.buckets {
            self.rings[key.window as usize].flushed_unix = 0;
            for (name, amount) in members {
                match self.sent(key, &name) {
                    Some(sent) => {
                        *sent.of(part.metric) = sent.of(part.metric).saturating_sub(amount);
                        sent.new_publishers |= part.metric == Metric::Publishers;
                    }
                    None => self.dropped += 1,
                }
            }
        }
    }

    /// Says that a part was applied: how many parts of this metric the store has counted with it, and the score that each member has now.
    ///
    /// `scores` has a list for each of `part.buckets`, and in it a number for each member; `None` where it is not known.
    /// A store that has forgotten what it was given, all of it or some members, is given it again with the next flush.
    /// Returns whether it had forgotten all of this metric; the others are to be looked after by [`Ledger::verify`] then.
    pub fn applied(&mut self, part: &Part, parts: u64, scores: &[Vec<Option<i64>>]) -> bool {
        let counted_before = self.acknowledged[part.metric as usize].replace(parts).is_some();
        if counted_before && parts == 1 {
            self.forget_sent(part.metric);
            self.note_sent(part);
            return true;
        }
        // Of publishers another node may just have taken some away, so their scores say nothing.
        let heals = part.metric != Metric::Publishers;
        for (BucketIncrements { key, members }, scores) in part.buckets.iter().zip(scores).filter(|_| heals) {
            for ((name, _), score) in members.iter().zip(scores) {
                if let (Some(score), Some(sent)) = (score, self.sent(*key, name)) {
                    let sent = sent.of(part.metric);
                    *sent = (*sent).min(*score);
                }
            }
        }
        false
    }

    /// Settles a part for which there was no answer, by what stands at [`Metric::applied_key`] now: the mark, and how many parts.
    pub fn resolve(&mut self, part: Part, found: Option<(&str, u64)>) {
        let metric = part.metric;
        match found {
            Some((mark, parts)) if part.mark.to_string() == mark => {
                self.applied(&part, parts, &[]);
            }
            Some((_, parts)) => {
                self.acknowledged[metric as usize] = Some(parts);
                self.give_back(part);
            }
            None => {
                self.give_back(part);
                self.verify(metric, None);
            }
        }
    }

    /// Has a metric sent again if the store has forgotten it: `parts` is what stands at [`Metric::applied_key`] now.
    ///
    /// To be called with each new connection, where a part showed that the store was emptied, and now and then where nothing is sent.
    /// No part of the metric may be under way.
    pub fn verify(&mut self, metric: Metric, parts: Option<u64>) {
        if parts.is_none() && self.acknowledged[metric as usize].take().is_some() {
            self.forget_sent(metric);
        }
    }

    /// Has everything of a metric sent again that is still known here.
    fn forget_sent(&mut self, metric: Metric) {
        for ring in &mut self.rings {
            ring.flushed_unix = 0;
            for sent in ring.buckets.iter_mut().flat_map(|bucket| &mut bucket.sent) {
                *sent.of(metric) = 0;
                sent.new_publishers |= metric == Metric::Publishers;
            }
        }
    }

    fn note_sent(&mut self, part: &Part) {
        for BucketIncrements { key, members } in &part.buckets {
            for (name, amount) in members {
                if let Some(sent) = self.sent(*key, name) {
                    *sent.of(part.metric) = sent.of(part.metric).saturating_add(*amount);
                }
            }
        }
    }

    fn sent(&mut self, key: BucketKey, name: &str) -> Option<&mut Sent> {
        let hash = self.seed.topic(name);
        let bucket = self.rings[key.window as usize].buckets.iter_mut().find(|bucket| bucket.start == key.start)?;
        let slot = bucket.table.find(hash)?;
        bucket.sent.get_mut(slot)
    }

    fn take_due(&mut self, due: impl Fn(&Ring) -> bool, unix: u64) -> Vec<Part> {
        let mark = Mark { run: self.mark.run, sequence: self.mark.sequence + 1 };
        let mut parts = Metric::ALL.map(|metric| Part { mark, metric, buckets: Vec::new() });
        for ring in self.rings.iter_mut().filter(|ring| due(ring)) {
            let mut budget = 4 * ring.buckets.first().map_or(0, |bucket| bucket.sent.len());
            for part in &mut parts {
                match sum_of(part.metric) {
                    Some(sum) => ring.take_sum(sum, part, &mut budget),
                    None => ring.take_publishers(part, &mut budget),
                }
            }
            // A window that has more to say is asked again in a second.
            ring.flushed_unix = if budget == 0 { 0 } else { unix };
        }
        let parts: Vec<Part> = parts.into_iter().filter(|part| !part.buckets.is_empty()).collect();
        if !parts.is_empty() {
            self.mark = mark;
        }
        parts
    }
}

impl Sent {
    fn of(&mut self, metric: Metric) -> &mut i64 {
        match sum_of(metric) {
            Some(sum) => &mut self.sums[sum],
            None => &mut self.publishers,
        }
    }
}

/// Returns which of the sums a metric is; publishers are none.
fn sum_of(metric: Metric) -> Option<usize> {
    match metric {
        Metric::Messages => Some(0),
        Metric::Bytes => Some(1),
        Metric::Deliveries => Some(2),
        Metric::Publishers => None,
    }
}

impl Ring {
    fn take_sum(&mut self, sum: usize, part: &mut Part, budget: &mut usize) {
        for bucket in self.buckets.iter_mut().rev() {
            let share = bucket.share()[sum];
            let Bucket { start, table, sent, .. } = bucket;
            let key = BucketKey { metric: part.metric, window: self.window, start: *start };
            let pending = table.rows().filter(|(_, _, row)| row.sums[sum] >= share).filter_map(|(slot, name, row)| {
                let sums = &mut sent[slot].sums[sum];
                let counted = i64::try_from(row.sums[sum]).unwrap_or(i64::MAX);
                let pending = counted.saturating_sub(*sums);
                (pending != 0).then(|| {
                    *sums = counted;
                    (name.into(), pending)
                })
            });
            let members: Vec<(Box<str>, i64)> = pending.take(*budget).collect();
            *budget -= members.len();
            if !members.is_empty() {
                part.buckets.push(BucketIncrements { key, members });
            }
        }
    }

    fn take_publishers(&mut self, part: &mut Part, budget: &mut usize) {
        let first = part.buckets.len();
        part.buckets.extend(self.buckets.iter().map(|bucket| BucketIncrements {
            key: BucketKey { metric: Metric::Publishers, window: self.window, start: bucket.start },
            members: Vec::new(),
        }));
        let taken = &mut part.buckets[first..];
        for at in (0..self.buckets.len()).rev() {
            for (hash, name) in changed(&self.buckets[at]) {
                // A topic changes in all its buckets together, or the sum would be wrong in between.
                if *budget < self.buckets.len() {
                    *budget = 0;
                    break;
                }
                *budget -= self.take_publishers_of(hash, &name, taken);
            }
        }
        part.buckets.retain(|bucket| !bucket.members.is_empty());
    }

    /// Takes the changes of one topic in all buckets; returns how many there are.
    fn take_publishers_of(&mut self, hash: u64, name: &str, taken: &mut [BucketIncrements]) -> usize {
        let (mut seen, mut counted, mut changes) = (Registers::EMPTY, 0, 0);
        for (bucket, taken) in self.buckets.iter_mut().zip(taken).rev() {
            let Some(slot) = bucket.table.find(hash) else { continue };
            seen.merge(&bucket.table.slot(slot).publishers);
            let until_here = i64::try_from(seen.estimate()).unwrap_or(i64::MAX);
            let only_here = until_here - counted;
            counted = until_here;
            let sent = &mut bucket.sent[slot];
            sent.new_publishers = false;
            if only_here != sent.publishers {
                taken.members.push((name.into(), only_here - sent.publishers));
                sent.publishers = only_here;
                changes += 1;
            }
        }
        changes
    }
}

/// Returns the topics that have new publishers and messages enough to matter.
fn changed(bucket: &Bucket) -> Vec<(u64, String)> {
    let share = bucket.share()[0].max(1);
    let rows = bucket.table.rows().filter(|(slot, _, row)| bucket.sent[*slot].new_publishers && row.sums[0] >= share);
    rows.map(|(_, name, row)| (row.hash, name.to_owned())).collect()
}
