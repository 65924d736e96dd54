//! A loop's way to the journal.

use midge_engine::shard::Shard;

use crate::journal::{Handle, Room};

/// What a loop has of the journal.
#[derive(Debug)]
pub(super) struct Records {
    handle: Handle,
    batch: Vec<midge_engine::record::Record>,
    committed: u64,
    full: bool,
}

impl Records {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, batch: Vec::new(), committed: 0, full: false }
    }

    /// Hands over what the engine wants kept.
    pub(super) fn append(&mut self, shard: &mut Shard) {
        let last = shard.take_records(&mut self.batch);
        if !self.batch.is_empty() {
            self.full = self.handle.append(&mut self.batch, last) == Room::Full;
        }
    }

    /// Returns up to which number records are on disk, if that is more than the last time.
    pub(super) fn newly_committed(&mut self) -> Option<u64> {
        let committed = self.handle.committed();
        (committed > std::mem::replace(&mut self.committed, committed)).then_some(committed)
    }

    /// Returns whether clients must not be asked for more.
    pub(super) fn is_full(&mut self) -> bool {
        self.full = self.full && self.handle.room() == Room::Full;
        self.full
    }
}
