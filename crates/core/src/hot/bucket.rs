//! What one bucket of a window holds, and the store too.
//!
//! Tallies are merged into a table like their own; its losses add up with theirs
//! (Agarwal, Cormode, Huang, Phillips, Wei, Yi: Mergeable summaries, 2012).

use super::distinct::Registers;
use super::table::{SUMS, Sums, Table};

/// What the store was given of one topic in one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// May be negative, when something is given back after its topic was lost and entered again.
    pub(super) sums: [i64; SUMS],
    pub(super) publishers: i64,
    /// Whether publishers came since they were last sent.
    pub(super) new_publishers: bool,
}

/// One bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) start: u64,
    pub(super) table: Table,
    pub(super) sent: Vec<Sent>,
    pub(super) total: Sums,
    /// What the tallies had lost before they came here.
    lost_before: Sums,
}

impl Bucket {
    pub(super) fn new(start: u64, capacity: usize) -> Self {
        let sent = vec![Sent::default(); capacity];
        Self { start, table: Table::new(capacity), sent, total: [0; SUMS], lost_before: [0; SUMS] }
    }

    pub(super) fn reset(&mut self, start: u64) {
        self.table.clear();
        (self.start, self.total, self.lost_before) = (start, [0; SUMS], [0; SUMS]);
    }

    pub(super) fn add(&mut self, hash: u64, name: &str, sums: Sums, publishers: &Registers) {
        let place = self.table.add(hash, name, sums);
        let sent = &mut self.sent[place.slot];
        if place.fresh {
            *sent = Sent::default();
        }
        sent.new_publishers |= self.table.publishers(place.slot).merge(publishers);
    }

    pub(super) fn close_tally(&mut self, total: Sums, lost: Sums) {
        for metric in 0..SUMS {
            self.total[metric] = self.total[metric].saturating_add(total[metric]);
            self.lost_before[metric] = self.lost_before[metric].saturating_add(lost[metric]);
        }
    }

    /// Returns the most that any topic may have more than was counted.
    pub(super) fn lost(&self) -> Sums {
        let mut lost = self.table.lost();
        for (lost, before) in lost.iter_mut().zip(self.lost_before) {
            *lost = lost.saturating_add(before);
        }
        lost
    }

    /// Returns how much of each metric a topic needs to be worth a member of the store's sorted set: a k-th of all.
    pub(super) fn share(&self) -> Sums {
        self.total.map(|total| total / self.sent.len() as u64)
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + self.sent.capacity() * size_of::<Sent>()
    }
}
