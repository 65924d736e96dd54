//! Counts which topics are hot, in bounded memory.

mod bucket;
mod counter;
mod distinct;
mod flush;
mod ledger;
mod name;
mod rollup;
mod seed;
mod table;
mod window;

#[cfg(test)]
mod tests;

pub use counter::{Arrival, Counter, Published, Tally};
pub use distinct::Publisher;
pub use flush::{BucketIncrements, Part};
pub use ledger::{HotList, HotTopic, Ledger};
pub use name::MAX_NAME_BYTES;
pub use rollup::{MAX_PATTERNS, RollUp, RollUpError};
pub use seed::Seed;
pub use window::{BucketKey, Metric, Window};

/// How many topics a table keeps at a time.
///
/// What a topic may have more than was counted is at most 4/capacity of the total, and nothing while there are no more topics than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capacity(u16);

/// Why a number is no capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} topics can't be kept: allowed are 16 to 32,768")]
pub struct CapacityError(usize);

impl Capacity {
    /// 4,096 topics for the tally of a second: 1.7 MB.
    pub const TALLY: Self = Self(4_096);

    /// 1,024 topics for each bucket of a window.
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
