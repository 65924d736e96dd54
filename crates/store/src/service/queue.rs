//! What waits for the store's worker.
//!
//! Logins are bounded and refused at the bound; changed keys are a set that collapses into "everything" at its bound.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use midge_core::gate::{Asked, Hello};
use midge_core::key::Key;
use midge_core::name::Username;

use super::Verdict;
use super::reply::Reply;

/// How many changed keys are kept apart; beyond, everything is read again.
pub(super) const MAX_CHANGED: usize = 50_000;

/// A question to the store that somebody waits for.
pub(super) enum Job {
    Login { hello: Hello, reply: Reply<Verdict> },
    Prepare { user: Username, reply: Reply<Asked> },
}

/// All that waits.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) jobs: Vec<Job>,
    pub(super) changed: HashSet<Key>,
    /// That anything may have changed, and how often announcements had been lost before that was found.
    pub(super) everything: Option<u64>,
    /// That the store was emptied.
    pub(super) flushed: bool,
    /// A moment whose past has been told of.
    pub(super) heard: Option<Instant>,
    pub(super) nudged: bool,
    pub(super) stopping: bool,
}

impl Waiting {
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.changed.is_empty() && self.everything.is_none() && !self.nudged && !self.stopping
    }
}

pub(super) struct Queue {
    bound: usize,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    stopped: Condvar,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, waiting: Mutex::default(), arrived: Condvar::new(), stopped: Condvar::new() }
    }

    /// Appends `job`, or gives it back at the bound and after the end.
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        let mut waiting = self.lock();
        if waiting.jobs.len() >= self.bound || waiting.stopping {
            return Err(job);
        }
        waiting.jobs.push(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// Names keys that have changed, on a link that had been lost `losses` times before.
    pub(super) fn changed(&self, keys: impl IntoIterator<Item = Key>, losses: u64) {
        let mut waiting = self.lock();
        waiting.changed.extend(keys);
        if waiting.changed.len() > MAX_CHANGED {
            waiting.changed.clear();
            waiting.everything = Some(losses);
        }
        self.arrived.notify_one();
    }

    /// Says that anything may have changed, and whether the store was emptied; keys named before are covered by that.
    pub(super) fn everything(&self, losses: u64, flushed: bool) {
        let mut waiting = self.lock();
        waiting.changed.clear();
        waiting.flushed |= flushed;
        waiting.everything = Some(losses);
        self.arrived.notify_one();
    }

    /// Says that whatever changed before `until` has been told of.
    pub(super) fn heard(&self, until: Instant) {
        self.lock().heard = Some(until);
        self.arrived.notify_one();
    }

    pub(super) fn nudge(&self) {
        self.lock().nudged = true;
        self.arrived.notify_one();
    }

    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.arrived.notify_all();
        self.stopped.notify_all();
    }

    /// Waits for `time`, or for the end.
    pub(super) fn pause(&self, time: Duration) {
        let waiting = self.lock();
        drop(self.stopped.wait_timeout_while(waiting, time, |waiting| !waiting.stopping));
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits for something, or for having heard of all before `wanted`, at most for `wait`, and takes all of it.
    pub(super) fn take(&self, wait: Duration, wanted: Option<Instant>) -> Waiting {
        let is_idle = |waiting: &mut Waiting| waiting.is_idle() && wanted.is_none_or(|wanted| waiting.heard < Some(wanted));
        let (mut waiting, _) = self.arrived.wait_timeout_while(self.lock(), wait, is_idle).unwrap_or_else(PoisonError::into_inner);
        let (stopping, heard) = (waiting.stopping, waiting.heard);
        let taken = std::mem::take(&mut *waiting);
        (waiting.stopping, waiting.heard) = (stopping, heard);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
