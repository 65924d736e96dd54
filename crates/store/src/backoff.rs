//! How long to wait before trying again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How long something has to hold until it counts as working.
const STEADY: Duration = Duration::from_secs(10);

/// Waits that double up to a bound, each made shorter by up to a half so that nodes don't come back in step.
#[derive(Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
    jitter: RandomState,
    tries: u64,
}

impl Default for Backoff {
    /// Returns waits from 50 ms to 2 s: a store that is back is noticed soon.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }
}

impl Backoff {
    /// Returns waits that begin at `least` and end at `most`.
    #[must_use]
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, next: least, jitter: RandomState::new(), tries: 0 }
    }

    /// Returns the next wait.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.most);
        self.tries += 1;
        let share = self.jitter.hash_one(self.tries) % 512;
        wait - wait * u32::try_from(share).unwrap_or(0) / 1024
    }

    /// Begins anew if what was tried has held for so long that another try at once makes no storm.
    ///
    /// A server that takes connections and then refuses the first question would be asked without end otherwise.
    pub fn held(&mut self, time: Duration) {
        if time >= STEADY {
            self.next = self.least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        for most in [100, 200, 400, 400] {
            let wait = backoff.wait();
            assert!(wait <= Duration::from_millis(most) && wait >= Duration::from_millis(most / 2), "{wait:?} of {most}");
        }
        backoff.held(STEADY / 2);
        assert!(backoff.wait() > Duration::from_millis(100), "it didn't hold");
        backoff.held(STEADY);
        assert!(backoff.wait() <= Duration::from_millis(100));
    }
}
