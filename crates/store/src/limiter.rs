//! Lets a few messages a minute through, counts the rest.

use std::time::Duration;

/// A rate limit for one kind of message.
#[derive(Debug)]
pub(crate) struct Limiter {
    per_minute: u32,
    minute: u64,
    passed: u32,
    held_back: u64,
}

impl Limiter {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, minute: 0, passed: 0, held_back: 0 }
    }

    /// Returns how many were held back before this one, or `None` where this one is held back too.
    pub(crate) fn pass(&mut self, now: Duration) -> Option<u64> {
        let minute = now.as_secs() / 60;
        if minute != self.minute {
            (self.minute, self.passed) = (minute, 0);
        }
        if self.passed >= self.per_minute {
            self.held_back += 1;
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_counted() {
        let mut limiter = Limiter::new(2);
        let passes: Vec<_> = [0, 1, 2, 3, 60, 61].map(|second| limiter.pass(Duration::from_secs(second))).to_vec();
        assert_eq!(passes, [Some(0), Some(0), None, None, Some(2), Some(0)]);
    }
}
