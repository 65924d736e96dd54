//! Lets a log line through at a limited rate.
//!
//! Whatever a client can trigger is logged through one of these, so that it can't fill a disk.

use std::time::Duration;

/// The time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    next: Duration,
    silent: u64,
}

impl Seldom {
    /// Returns how often it has happened since the last line, this time included, if a line may be written now.
    pub(super) fn now(&mut self, now: Duration) -> Option<u64> {
        self.silent += 1;
        if now < self.next {
            return None;
        }
        self.next = now + PAUSE;
        Some(std::mem::take(&mut self.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_keeps_back() {
        let mut seldom = Seldom::default();
        let at = Duration::from_secs;
        assert_eq!([0, 1, 9, 10, 11, 20].map(|second| seldom.now(at(second))), [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
