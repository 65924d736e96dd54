//! What has happened, and what went wrong.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::samples::Samples;

/// Complaints that are kept; one of a kind is enough to fail.
const MOST: usize = 50;

/// How often who rests looks whether all has ended.
const LOOK: Duration = Duration::from_millis(200);

/// Counts of all parts.
pub(crate) struct Tally {
    end: Instant,
    /// Whether it makes no sense to go on.
    ended: AtomicBool,
    length: Duration,
    pub(crate) connects: AtomicU64,
    pub(crate) kept: AtomicU64,
    pub(crate) wills: AtomicU64,
    pub(crate) retained: AtomicU64,
    pub(crate) pushed: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) kicks: AtomicU64,
    pub(crate) reloads: AtomicU64,
    pub(crate) changes: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    pub(crate) fn new(length: Duration) -> Self {
        let zero = AtomicU64::default;
        Self {
            end: Instant::now() + length,
            ended: AtomicBool::new(false),
            length,
            connects: zero(),
            kept: zero(),
            wills: zero(),
            retained: zero(),
            pushed: zero(),
            repeated: zero(),
            faults: zero(),
            kicks: zero(),
            reloads: zero(),
            changes: zero(),
            complaints: Mutex::default(),
        }
    }

    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Has all parts end now.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn left(&self) -> Duration {
        if self.ended.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.end.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Lets time pass, which is what a soak is about: a fault lasts, traffic has its pace. Ends early with the soak.
    pub(crate) fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(self.left()).min(LOOK);
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left);
        }
    }

    pub(crate) fn complain(&self, what: String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < MOST {
            eprintln!("{what}");
            complaints.push(what);
        }
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn progress(&self, samples: &Samples) -> String {
        format!("{:>6} s left; {}", self.left().as_secs(), self.summary(samples))
    }

    pub(crate) fn summary(&self, samples: &Samples) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} connects, {} messages kept for sessions away, {} wills, {} retained; {} pushes, {} of them twice; \
             {} faults, {} kicks, {} reloads, {} changes of rules; {samples}",
            count(&self.connects),
            count(&self.kept),
            count(&self.wills),
            count(&self.retained),
            count(&self.pushed),
            count(&self.repeated),
            count(&self.faults),
            count(&self.kicks),
            count(&self.reloads),
            count(&self.changes)
        )
    }
}
