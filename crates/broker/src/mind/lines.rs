//! Keeps clients from filling the log.

use std::cell::Cell;
use std::time::Duration;

/// How many lines of one kind a loop writes in a minute.
const PER_MINUTE: u32 = 60;

/// One kind of line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    minute: Cell<u64>,
    written: Cell<u32>,
}

impl Lines {
    /// Returns whether another line may be written now, and counts it.
    pub(super) fn may(&self, now: Duration) -> bool {
        let minute = now.as_secs() / 60;
        if self.minute.replace(minute) != minute {
            self.written.set(0);
        }
        let written = self.written.get();
        self.written.set(written.saturating_add(1));
        written < PER_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_a_bound() {
        let lines = Lines::default();
        let written = |second| (0..100).filter(|_| lines.may(Duration::from_secs(second))).count();
        assert_eq!([written(5), written(59), written(60)], [60, 0, 60]);
    }
}
