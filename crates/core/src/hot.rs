//! Counts which topics are hot, in bounded memory.
//!
//! # Parts
//!
//! A [`Counter`] belongs to the thread that handles publishes: the plugin has one, each event loop of the broker one.
//! It counts into a [`Tally`], without a lock and, for a topic that is known, without an allocation.
//! Once a second its owner takes the tally with [`Counter::swap`] and sends it to a worker.
//! The worker's [`Ledger`] adds the tallies of all counters up, by window, and gives each back empty; an owner that has none back yet
//! goes on with the one it has.
//! Two tallies for each counter are enough.
//! All share one [`Seed`], and sessions keep the [`Publisher`] that it makes of their client identifier.
//!
//! An event loop calls [`Counter::published`] once for each PUBLISH that it routes, with as many deliveries as it knows of,
//! and [`Counter::delivered`] where it learns of more later; once a second, at the end of a turn, it swaps.
//! Loops share nothing: the one owner of the ledger absorbs their tallies one after the other, in any order.
//!
//! # What is counted
//!
//! Every publish whose topic doesn't begin with `$`, under its topic or under the first [`RollUp`] pattern that matches.
//! A QoS 2 publish that comes again is not counted; only the caller can know, and says so ([`Arrival`]).
//! Publishes, bytes of payload and deliveries are added up; publishers are counted once each.
//! A tally counts for the moment at which it is absorbed, so a publish may be found up to a second late.
//!
//! # What may be wrong
//!
//! With at most k different topics in a tally or a bucket, k being its [`Capacity`], nothing.
//! With more, for every topic and each of messages, bytes and deliveries,
//! **true − 4T/K − 4T/k ≤ shown ≤ true**, T being the sum over all topics in the window, K the capacity of a tally and k of a bucket:
//! 0.5 % of T with [`Capacity::TALLY`] and [`Capacity::BUCKET`].
//! [`HotList::missed`] is what it came to, which mostly is much less; the tables are the hashed form of Misra and Gries of `hot/table.rs`,
//! where the source of the formula is.
//! Patterns have places of their own in tallies.
//!
//! Publishers are an estimate with a standard error of 13 % (`hot/distinct.rs`).
//! A topic that a bucket lost and has again counts its publishers anew there; that can only happen to one with less than 4T/k of the messages.
//!
//! A window is made of buckets, and reaches back at least its length and less than a bucket more ([`Window`]).
//!
//! # The flush
//!
//! The worker calls [`Ledger::take`] once a second and gets a [`Part`] for each metric, at most 16 k increments in all.
//! For each part it does in **one transaction**, which is possible as all its keys share a slot of a cluster:
//!
//! * for each of `part.buckets`, the key being the prefix and then [`BucketKey`]: `ZINCRBY key amount member` for each member,
//!   and `EXPIRE key` with [`Window::time_to_live`];
//! * in the hash [`Metric::applied_key`], `HINCRBY parts 1` and `HSET mark` to the text of the part's [`Mark`], and an `EXPIRE` for as
//!   long as a bucket of the longest window lives.
//!
//! [`Ledger::applied`] takes the answers: parts that begin anew or a score that is too low say that the store has lost something,
//! which is then sent again; [`Ledger::verify`] finds out the same where nothing is sent.
//! If there is no answer, the part is kept until the hash can be read, and [`Ledger::resolve`] decides by it.
//! Until that is clear no other part of this metric is sent; [`Ledger::take`] need not be called either, as the ledger itself is the buffer.
//! So nothing counts twice. What a store that is away costs is the buckets that leave their windows meanwhile,
//! and topics that leave the table, which [`Ledger::dropped`] counts; memory stays what it was.
//! A store that comes back empty is given what this run of the node still knows of each window.
//! A crash of the node costs what was not flushed: a second of the window of a minute, 2 of an hour, 5 of a day, 10 of a week,
//! and a second more for the tallies; [`Ledger::take_all`] before a stop leaves nothing.
//!
//! # A query
//!
//! The figure of a topic in a window is the sum of its scores in the sets of [`Window::keys`], over however many nodes;
//! scores of 0 and below mean nothing.
//! [`Window::now_key`] names a set with that sum, which the nodes keep ready.
//! Sums over nodes are exact where nothing overflowed; a client counts as one publisher for each node on which it published in the window.
//! A set lacks topics with less than T/k of the bucket on each node.
//! Scores are floating point numbers, and exact up to 2^53.
//! [`Ledger::top`] says the same about one node without the store.
//! How many subscribers a topic has is for whoever routes messages to add.

mod bucket;
mod counter;
mod distinct;
mod flush;
mod ledger;
mod name;
mod ranking;
mod rollup;
mod seed;
mod table;
mod window;

#[cfg(test)]
mod tests;

pub use counter::{Arrival, Counter, Published, Tally};
pub use distinct::Publisher;
pub use flush::{BucketIncrements, Mark, Part};
pub use ledger::{HotList, HotTopic, Ledger, Totals};
pub use name::MAX_NAME_BYTES;
pub use ranking::Ranking;
pub use rollup::{MAX_PATTERNS, RollUp, RollUpError};
pub use seed::Seed;
pub use window::{BucketKey, HotNameError, Metric, Window};

/// How many topics a table keeps at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capacity(u16);

/// Why a number is no capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} topics can't be kept: allowed are 16 to 32,768")]
pub struct CapacityError(usize);

impl Capacity {
    /// 4,096 topics for the tally of a second: 1.7 MB.
    pub const TALLY: Self = Self(4_096);

    /// 1,024 topics for each bucket of a window: 15 MB for all buckets, of which little is touched where there are few topics.
    pub const BUCKET: Self = Self(1_024);

    fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl TryFrom<usize> for Capacity {
    type Error = CapacityError;

    fn try_from(topics: usize) -> Result<Self, CapacityError> {
        match u16::try_from(topics) {
            Ok(fitting @ 16..=32_768) => Ok(Self(fitting)),
            _ => Err(CapacityError(topics)),
        }
    }
}
