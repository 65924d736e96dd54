//! Whether and until when changes in the store reach us.
//!
//! Between two gaps lies an epoch. What was read in an epoch holds until its end, since a change would have been announced;
//! after that it only grows older. The latest 1,024 ends are remembered; what is older counts from when it was read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::account::Stamp;
use crate::time::Now;

const LINKED: u64 = u64::MAX;
const MAX_ENDS: usize = 1_024;

#[derive(Debug, Default)]
struct Past {
    /// When each of the latest epochs ended, in order; the last is the one before the current.
    ends: VecDeque<Duration>,
    losses: u64,
}

/// The announcements of one store.
#[derive(Debug)]
pub(super) struct Link {
    epoch: AtomicU64,
    /// When announcements stopped, in nanoseconds of the monotonic clock; [`LINKED`] while they come.
    lost_at: AtomicU64,
    /// The latest moment that anybody has told, in the same.
    seen: AtomicU64,
    past: Mutex<Past>,
}

impl Default for Link {
    fn default() -> Self {
        Self { epoch: AtomicU64::new(1), lost_at: AtomicU64::new(0), seen: AtomicU64::new(0), past: Mutex::default() }
    }
}

impl Link {
    /// Notes that it is `now`, at least.
    pub(super) fn see(&self, now: Now) {
        self.seen.fetch_max(nanos(now.monotonic), Ordering::Relaxed);
    }

    /// Begins an epoch, after a gap.
    pub(super) fn begin(&self) {
        self.begin_locked(&mut self.lock());
    }

    /// Begins an epoch, unless announcements were lost again since `losses` was read; returns whether it did.
    pub(super) fn begin_unless_lost(&self, losses: u64) -> bool {
        let mut past = self.lock();
        let holds = past.losses == losses;
        if holds {
            self.begin_locked(&mut past);
        }
        holds
    }

    /// Notes that announcements have stopped.
    pub(super) fn lose(&self, now: Now) {
        let mut past = self.lock();
        past.losses += 1;
        self.see(now);
        let _ = self.lost_at.compare_exchange(LINKED, nanos(now.monotonic), Ordering::AcqRel, Ordering::Acquire);
    }

    /// Returns how often announcements have stopped, or failed to begin.
    pub(super) fn losses(&self) -> u64 {
        self.lock().losses
    }

    pub(super) fn is_up(&self) -> bool {
        self.lost_at.load(Ordering::Acquire) == LINKED
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Returns whether nothing that was read at `stamp` can have changed unnoticed.
    pub(super) fn vouches_for(&self, stamp: Stamp) -> bool {
        // In this order: an epoch is counted before its link is up, so that an old epoch never meets the new link.
        self.is_up() && stamp.epoch == self.epoch()
    }

    /// Returns since when nobody vouches for what was read at `stamp`; `None` where somebody does.
    pub(super) fn vouched_until(&self, stamp: Stamp) -> Option<Duration> {
        let past = self.lock();
        let (epoch, lost_at) = (self.epoch(), self.lost_at.load(Ordering::Acquire));
        let end = match epoch.checked_sub(stamp.epoch) {
            Some(0) if lost_at == LINKED => return None,
            Some(0) => Duration::from_nanos(lost_at),
            Some(back) => {
                let back = usize::try_from(back).unwrap_or(usize::MAX);
                past.ends.len().checked_sub(back).and_then(|at| past.ends.get(at)).copied().unwrap_or_default()
            }
            None => Duration::ZERO,
        };
        Some(end.max(stamp.at()))
    }

    fn begin_locked(&self, past: &mut Past) {
        let end = match self.lost_at.load(Ordering::Acquire) {
            LINKED => self.seen.load(Ordering::Relaxed),
            lost_at => lost_at,
        };
        if past.ends.len() >= MAX_ENDS {
            past.ends.pop_front();
        }
        past.ends.push_back(Duration::from_nanos(end));
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.lost_at.store(LINKED, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(LINKED).min(LINKED - 1)
}
