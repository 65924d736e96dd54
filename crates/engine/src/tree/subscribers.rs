//! Knows which filters and groups each subscriber is in.
//!
//! So a session can leave all of them at its end, however many, without a search.

use super::subscription::SubscriberId;
use crate::hash::mix;
use crate::slab::Slab;
use crate::sorted::SortedList;
use crate::table::IdTable;

/// What a subscriber is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The filter with this id.
    Filter(u32),
    /// The group with this id.
    Group(u32),
}

const GROUP: u32 = 1 << 31;

impl Reference {
    fn pack(self) -> u32 {
        match self {
            Self::Filter(id) => id,
            Self::Group(id) => id | GROUP,
        }
    }

    fn unpack(bits: u32) -> Self {
        if bits & GROUP == 0 { Self::Filter(bits) } else { Self::Group(bits & !GROUP) }
    }
}

/// All subscribers that have a subscription.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    table: IdTable,
    records: Slab<Record>,
}

#[derive(Debug)]
struct Record {
    id: SubscriberId,
    offline: bool,
    references: SortedList<u32>,
}

impl Subscribers {
    /// Adds a reference.
    pub(crate) fn add(&mut self, subscriber: SubscriberId, reference: Reference) {
        let at = self.find(subscriber).unwrap_or_else(|| {
            let at = self.records.insert(Record { id: subscriber, offline: false, references: SortedList::Empty });
            self.table.insert(hash(subscriber), at);
            at
        });
        if let Some(record) = self.records.get_mut(at) {
            record.references.insert(reference.pack());
        }
    }

    /// Removes a reference, and with the last one the subscriber.
    pub(crate) fn remove(&mut self, subscriber: SubscriberId, reference: Reference) {
        let Some(at) = self.find(subscriber) else { return };
        let Some(record) = self.records.get_mut(at) else { return };
        record.references.remove(reference.pack());
        if record.references.is_empty() {
            self.records.remove(at);
            self.table.remove(hash(subscriber), at);
        }
    }

    /// Returns the references of a subscriber, filters first.
    pub(crate) fn references(&self, subscriber: SubscriberId) -> impl Iterator<Item = Reference> {
        let record = self.find(subscriber).and_then(|at| self.records.get(at));
        record.into_iter().flat_map(|record| record.references.iter()).map(Reference::unpack)
    }

    /// Returns the groups of a subscriber.
    pub(crate) fn groups(&self, subscriber: SubscriberId) -> impl Iterator<Item = u32> {
        let record = self.find(subscriber).and_then(|at| self.records.get(at));
        record.into_iter().flat_map(|record| record.references.iter_from(GROUP)).map(|bits| bits & !GROUP)
    }

    /// Returns how many references a subscriber has.
    pub(crate) fn count(&self, subscriber: SubscriberId) -> usize {
        self.find(subscriber).and_then(|at| self.records.get(at)).map_or(0, |record| record.references.len())
    }

    /// Returns whether the subscriber is online; one without subscriptions is taken to be.
    pub(crate) fn is_online(&self, subscriber: SubscriberId) -> bool {
        self.find(subscriber).and_then(|at| self.records.get(at)).is_none_or(|record| !record.offline)
    }

    /// Notes whether the subscriber is online; without a subscription there is nothing to note.
    pub(crate) fn set_online(&mut self, subscriber: SubscriberId, online: bool) {
        if let Some(record) = self.find(subscriber).and_then(|at| self.records.get_mut(at)) {
            record.offline = !online;
        }
    }

    /// Returns how many subscribers there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn find(&self, subscriber: SubscriberId) -> Option<u32> {
        self.table.find(hash(subscriber), |at| self.records.get(at).is_some_and(|record| record.id == subscriber))
    }
}

/// The server itself gives these ids out, so that they need no key.
fn hash(subscriber: SubscriberId) -> u64 {
    mix(u64::from(subscriber.0) + 1)
}
