//! How much memory peers may take, all of them together.
//!
//! What a message holds is counted once, however many wait for it, and given back by whoever drops it last; all else each loop sums up itself and says once in a turn.
//! So nothing is counted under a lock, and the sum is right to within what the loops take in during one turn.
//!
//! As memory runs short, what can best do without gives way first: see [`Share`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What memory is asked for, and up to which part of the bound it gets some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Messages that are kept: queued or retained. Up to six eighths.
    Keep,
    /// What is begun: sessions, subscriptions, and messages to a client that leaves others unread. Up to seven eighths.
    Begin,
    /// Packets whose end hasn't come yet. Up to the bound, and a quarter of it by themselves.
    Receive,
}

impl Share {
    fn of(self, limit: usize) -> usize {
        match self {
            Self::Keep => limit - limit / 4,
            Self::Begin => limit - limit / 8,
            Self::Receive => limit,
        }
    }
}

/// The memory of all loops of a server.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    receiving: AtomicUsize,
    accounts: Box<[Arc<Account>]>,
}

/// What one loop has taken.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Account {
    /// Of messages, given back from whichever loop.
    stored: AtomicUsize,
    /// Of everything else, as the loop last said.
    held: AtomicUsize,
}

impl Budget {
    /// Returns a budget of `limit` bytes for so many loops; `usize::MAX` is no bound.
    #[must_use]
    pub fn new(limit: usize, loops: u8) -> Self {
        let accounts = (0..loops.max(1)).map(|_| Arc::default()).collect();
        Self { limit, receiving: AtomicUsize::new(0), accounts }
    }

    /// Returns the bound, in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns how much is taken, in bytes.
    #[must_use]
    pub fn used(&self) -> usize {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let accounts = self.accounts.iter().map(|account| of(&account.stored) + of(&account.held));
        accounts.sum::<usize>() + of(&self.receiving)
    }

    /// Takes memory for packets whose end hasn't come; returns false, and takes none, where there is none left.
    #[must_use]
    pub fn receive(&self, bytes: usize) -> bool {
        let receiving = self.receiving.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = self.limit == usize::MAX || (receiving <= self.limit / 4 && self.used() <= Share::Receive.of(self.limit));
        if !fits {
            self.received(bytes);
        }
        fits
    }

    /// Gives back what [`Self::receive`] took.
    pub fn received(&self, bytes: usize) {
        self.receiving.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a message takes beside what it holds.
const OVERHEAD: usize = 128;

/// Counts a message until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.stored.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A loop's view of the budget.
#[derive(Debug)]
pub(crate) struct Memory {
    budget: Arc<Budget>,
    account: Arc<Account>,
    /// What everybody had taken when the turn began.
    before: usize,
    /// What this loop has taken since; the others are taken to be no better.
    grown: usize,
    /// The buffers of connections, and those that wait for one.
    pub(crate) buffers: usize,
}

impl Memory {
    pub(crate) fn new(budget: Arc<Budget>, event_loop: u8) -> Self {
        let account = budget.accounts.get(usize::from(event_loop)).cloned().unwrap_or_default();
        Self { budget, account, before: 0, grown: 0, buffers: 0 }
    }

    /// Says what the loop holds beside messages, and begins a turn.
    pub(crate) fn begin_turn(&mut self, held: usize) {
        self.account.held.store(held + self.buffers, Ordering::Relaxed);
        (self.before, self.grown) = (self.budget.used(), 0);
    }

    /// Returns whether there is memory for something.
    #[inline]
    pub(crate) fn has(&self, share: Share) -> bool {
        let limit = self.budget.limit;
        limit == usize::MAX || self.before + self.grown * self.budget.accounts.len() <= share.of(limit)
    }

    /// Counts a message; to be kept with it.
    pub(crate) fn charge(&mut self, bytes: usize) -> Charge {
        let bytes = bytes + OVERHEAD;
        self.account.stored.fetch_add(bytes, Ordering::Relaxed);
        self.grown += bytes;
        Charge { account: Arc::clone(&self.account), bytes }
    }

    /// Notes what is held since the turn began, beside messages and buffers.
    #[inline]
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.grown += bytes;
    }

    /// Notes that a buffer has grown.
    #[inline]
    pub(crate) fn grow_buffer(&mut self, bytes: usize) {
        self.buffers += bytes;
        self.grown += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let budget = Arc::new(Budget::new(8000, 2));
        let mut here = Memory::new(Arc::clone(&budget), 0);
        let mut there = Memory::new(Arc::clone(&budget), 1);
        let charge = here.charge(1000 - OVERHEAD);
        there.grow_buffer(500);
        there.begin_turn(1500);
        assert_eq!(budget.used(), 3000);
        assert!(budget.receive(2000) && !budget.receive(1), "a quarter of it at most");
        assert_eq!(budget.used(), 5000);
        budget.received(2000);
        drop(charge);
        there.buffers -= 500;
        there.begin_turn(0);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_kept_gives_way_first_and_what_comes_in_last() {
        let budget = Arc::new(Budget::new(8000, 1));
        let mut memory = Memory::new(Arc::clone(&budget), 0);
        for (held, expected) in [
            (6000, [true, true, true]),
            (6001, [false, true, true]),
            (7000, [false, true, true]),
            (7001, [false, false, true]),
            (8000, [false, false, false]),
        ] {
            memory.begin_turn(held);
            let receives = budget.receive(1);
            assert_eq!([memory.has(Share::Keep), memory.has(Share::Begin), receives], expected, "{held}");
            budget.received(usize::from(receives));
        }
        memory.begin_turn(5000);
        memory.grow(1001);
        assert!(!memory.has(Share::Keep), "what was taken in this turn counts");
        let unbounded = Memory::new(Arc::new(Budget::new(usize::MAX, 1)), 0);
        assert!(unbounded.has(Share::Keep));
    }
}
