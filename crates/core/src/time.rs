//! Time as an argument.
//!
//! Nothing in this crate reads a clock: callers read both clocks once and pass them in.

use std::time::Duration;

/// One moment on the two clocks that decisions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Time since an arbitrary fixed start; never goes back. Ages and back-off are measured on it.
    pub monotonic: Duration,
    /// Seconds since 1970-01-01T00:00:00Z. Expiry of tokens and bans is measured on it.
    pub unix: u64,
}

impl Now {
    /// Returns the moment `by` later on both clocks.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self { monotonic: self.monotonic + by, unix: self.unix + by.as_secs() }
    }
}
