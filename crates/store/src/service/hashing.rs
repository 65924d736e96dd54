//! A bounded pool that hashes passwords, first come, first served.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use midge_core::gate::{Admission, HashJob};

use super::reply::Reply;
use super::{Shared, Verdict};
use crate::guarded::guarded;

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<(HashJob, Reply<Verdict>)>,
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
    pub(super) fn push(&self, job: HashJob, reply: Reply<Verdict>) -> Result<(), Reply<Verdict>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.jobs.len() >= self.bound || waiting.stopping {
            return Err(reply);
        }
        waiting.jobs.push_back((job, reply));
        self.arrived.notify_one();
        Ok(())
    }

    /// Has the threads end after the job they are at; returns those who wait in vain.
    pub(super) fn stop(&self) -> Vec<Reply<Verdict>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.stopping = true;
        self.arrived.notify_all();
        waiting.jobs.drain(..).map(|(_, reply)| reply).collect()
    }

    fn pop(&self) -> Option<(HashJob, Reply<Verdict>)> {
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
    while let Some((job, reply)) = shared.hashing.pop() {
        guarded(|| hash(shared, job, reply));
    }
}

fn hash(shared: &Shared, job: HashJob, reply: Reply<Verdict>) {
    let hello = job.hello().clone();
    let hashed = job.run();
    shared.hashed.fetch_add(1, Ordering::Relaxed);
    match shared.gate.conclude(hashed, shared.clock.now()) {
        Admission::Admitted(policy) => reply.send(Ok(policy)),
        Admission::Refused(refusal) => reply.send(Err(refusal)),
        Admission::Load(_) => shared.queue_login(hello, reply),
        // The stored password changed while this one was hashed against the old.
        Admission::Hash(job) => shared.hash(*job, reply),
    }
    shared.queue.nudge();
}
