//! Deadlines that lie about equally far ahead.
//!
//! So the first in is most often the first due: a queue, with little to sort and nothing to cancel.

use std::collections::VecDeque;
use std::time::Duration;

use super::peer::PeerId;

/// Peers that have to do something in time.
#[derive(Debug, Default)]
pub(super) struct Deadlines(VecDeque<(Duration, PeerId)>);

impl Deadlines {
    /// Adds a deadline.
    pub(super) fn push(&mut self, at: Duration, peer: PeerId) {
        if self.0.back().is_none_or(|&(last, _)| last <= at) {
            return self.0.push_back((at, peer));
        }
        let place = self.0.partition_point(|&(other, _)| other <= at);
        self.0.insert(place, (at, peer));
    }

    /// Returns the next peer whose deadline is over.
    ///
    /// Peers in front that are not `waiting` any more are forgotten, so that the queue is only as long as the slowest needs.
    pub(super) fn due(&mut self, now: Duration, waiting: impl Fn(PeerId) -> bool) -> Option<PeerId> {
        while let Some(&(at, peer)) = self.0.front() {
            let still = waiting(peer);
            if still && at > now {
                return None;
            }
            self.0.pop_front();
            if still {
                return Some(peer);
            }
        }
        None
    }

    /// Returns when the first deadline is over.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.front().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_earlier_than_others_is_due_before_them() {
        let mut deadlines = Deadlines::default();
        for slot in [1, 4, 2, 3, 0, 4] {
            deadlines.push(Duration::from_secs(u64::from(slot)), PeerId { slot, serial: slot });
        }
        let due = std::iter::from_fn(|| deadlines.due(Duration::from_secs(9), |_| true)).map(|peer| peer.slot);
        assert_eq!(due.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 4]);
    }

    #[test]
    fn gives_back_who_is_late_and_forgets_who_was_in_time() {
        let mut deadlines = Deadlines::default();
        let peer = |slot| PeerId { slot, serial: slot };
        for slot in 0..4 {
            deadlines.push(Duration::from_secs(u64::from(slot)), peer(slot));
        }
        let waiting = |id: PeerId| id.slot != 1;
        let now = Duration::from_secs(2);
        assert_eq!(deadlines.due(now, waiting), Some(peer(0)));
        assert_eq!(deadlines.due(now, waiting), Some(peer(2)));
        assert_eq!(deadlines.due(now, waiting), None);
        assert_eq!(deadlines.next(), Some(Duration::from_secs(3)));
        assert_eq!(deadlines.due(now, |_| false), None);
        assert_eq!(deadlines.next(), None);
    }
}
