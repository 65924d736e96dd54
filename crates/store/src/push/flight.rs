//! Up to where all pushes have been passed on.
//!
//! They may land in another order than they took off in: a push to a large group takes longer than the next one.

use std::collections::BTreeMap;

use super::EntryId;

/// Pushes under way.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Each with the entry before it.
    under_way: BTreeMap<EntryId, EntryId>,
    read_to: EntryId,
}

impl Flight {
    /// Begins after `position`.
    pub(super) fn begin(&mut self, position: EntryId) {
        self.under_way.clear();
        self.read_to = position;
    }

    /// Notes that an entry was read which needs nothing more.
    pub(super) fn skip(&mut self, entry: EntryId) {
        self.read_to = entry;
    }

    /// Notes that an entry was read, and is to be passed on.
    pub(super) fn take_off(&mut self, entry: EntryId) {
        self.under_way.insert(entry, self.read_to);
        self.read_to = entry;
    }

    /// Notes that an entry was passed on.
    pub(super) fn land(&mut self, entry: EntryId) {
        self.under_way.remove(&entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Returns up to which entry nothing is under way.
    pub(super) fn position(&self) -> EntryId {
        self.under_way.first_key_value().map_or(self.read_to, |(_, before)| *before)
    }

    /// Returns the last entry that was read.
    pub(super) fn read_to(&self) -> EntryId {
        self.read_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_under_way_is_passed_over() {
        let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
        let mut flight = Flight::default();
        flight.begin(id(1));
        let at = |flight: &Flight| (flight.position().milliseconds, flight.read_to().milliseconds, flight.is_empty());
        assert_eq!(at(&flight), (1, 1, true));
        flight.take_off(id(2));
        flight.skip(id(3));
        flight.take_off(id(4));
        flight.take_off(id(5));
        assert_eq!(at(&flight), (1, 5, false));
        flight.land(id(4));
        assert_eq!(at(&flight), (1, 5, false));
        flight.land(id(2));
        assert_eq!(at(&flight), (4, 5, false));
        flight.land(id(5));
        assert_eq!(at(&flight), (5, 5, true));
        flight.land(id(5));
        flight.skip(id(6));
        assert_eq!(at(&flight), (6, 6, true));
    }
}
