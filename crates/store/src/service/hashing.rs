//! A bounded pool that hashes passwords, first come, first served.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use midge_core::gate::{Admission, HashJob, Refusal};

use super::queue::Job;
use super::{Done, Shared};

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<(HashJob, Done)>,
    stopping: bool,
}

pub(super) struct HashPool {
    bound: usize,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl HashPool {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, waiting: Mutex::default(), arrived: Condvar::new() }
    }

    /// Appends a job, or gives back whom to tell that there is no room.
    pub(super) fn push(&self, job: HashJob, done: Done) -> Result<(), Done> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.jobs.len() >= self.bound || waiting.stopping {
            return Err(done);
        }
        waiting.jobs.push_back((job, done));
        self.arrived.notify_one();
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        self.arrived.notify_all();
    }

    fn pop(&self) -> Option<(HashJob, Done)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self
            .arrived
            .wait_while(waiting, |waiting| waiting.jobs.is_empty() && !waiting.stopping)
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.stopping { None } else { waiting.jobs.pop_front() }
    }
}

/// The body of one hashing thread.
pub(super) fn run(shared: &Arc<Shared>) {
    while let Some((job, done)) = shared.hashing.pop() {
        let hello = job.hello().clone();
        let hashed = job.run();
        shared.hashed.fetch_add(1, Ordering::Relaxed);
        match shared.gate.conclude(hashed, shared.clock.now()) {
            Admission::Admitted(policy) => done(Ok(policy)),
            Admission::Refused(refusal) => done(Err(refusal)),
            Admission::Load(_) => {
                if let Err(Job::Login { done, .. }) = shared.queue.push(Job::Login { hello, done }) {
                    shared.refuse_busy(done);
                }
            }
            // The stored password changed while it was hashed; the client shall show it against the new one.
            Admission::Hash(_) => done(Err(Refusal::Busy)),
        }
        shared.queue.nudge();
    }
}
