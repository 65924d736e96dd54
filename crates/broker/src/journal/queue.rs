//! What waits between the event loops and the journal's thread.
//!
//! The loops encode their records themselves; what they share is one buffer, which the thread takes as it is for its next block.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::compact::Compacted;
use super::format::BLOCK_HEADER;
use super::{Counters, Health, JournalError, Room};

/// Up to how many bytes a buffer is kept when it isn't needed.
const SPARE: usize = 1 << 20;

/// What all have in common.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// Something is to be done.
    work: Condvar,
    bound: usize,
    /// Bytes that were appended and aren't committed.
    waiting: AtomicUsize,
}

struct Inner {
    block: Vec<u8>,
    members: Vec<Member>,
    /// Whether the thread waits.
    idle: bool,
    stop: bool,
    compacted: Option<Result<Option<Compacted>, JournalError>>,
    health: Health,
    counters: Counters,
    flow: Flow,
}

/// An event loop.
struct Member {
    appended: u64,
    state: Arc<MemberState>,
}

/// What an event loop can look at without waiting for anybody.
pub(super) struct MemberState {
    committed: AtomicU64,
    /// Whether it was told that there is no room, and waits to hear that there is.
    full: AtomicBool,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// What the appended records do to the queues of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// Messages that were given to sessions.
    pub(super) queued: u64,
    /// Messages that are done.
    pub(super) gone: u64,
}

/// What there is to do.
#[derive(Debug)]
pub(super) struct Work {
    /// Records, behind [`BLOCK_HEADER`] free bytes.
    pub(super) block: Vec<u8>,
    /// Up to which number each loop's records are in it.
    pub(super) appended: Vec<u64>,
    /// What came of a compaction that has ended.
    pub(super) compacted: Option<Result<Option<Compacted>, JournalError>>,
    /// What has been appended since the last time.
    pub(super) flow: Flow,
    /// Whether this is the end.
    pub(super) stop: bool,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        let inner = Inner {
            block: vec![0; BLOCK_HEADER],
            members: Vec::new(),
            idle: false,
            stop: false,
            compacted: None,
            health: Health::Writing,
            counters: Counters::default(),
            flow: Flow::default(),
        };
        Self { inner: Mutex::new(inner), work: Condvar::new(), bound, waiting: AtomicUsize::new(0) }
    }

    /// Takes in an event loop; returns its number.
    pub(super) fn join(&self, wake: Arc<dyn Fn() + Send + Sync>) -> (usize, Arc<MemberState>) {
        let state = Arc::new(MemberState { committed: AtomicU64::new(0), full: AtomicBool::new(false), wake });
        let mut inner = self.lock();
        inner.members.push(Member { appended: 0, state: Arc::clone(&state) });
        (inner.members.len() - 1, state)
    }

    /// Takes what a loop has encoded.
    pub(super) fn append(&self, member: usize, bytes: &[u8], last: u64, records: u64, flow: Flow) -> Room {
        let mut inner = self.lock();
        inner.block.extend_from_slice(bytes);
        inner.counters.records += records;
        inner.flow.queued += flow.queued;
        inner.flow.gone += flow.gone;
        let waiting = self.waiting.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        let room = self.room_for(waiting);
        if let Some(member) = inner.members.get_mut(member) {
            member.appended = member.appended.max(last);
            if room == Room::Full {
                member.state.full.store(true, Ordering::Relaxed);
                inner.counters.full += 1;
            }
        }
        if inner.idle {
            inner.idle = false;
            self.work.notify_one();
        }
        room
    }

    /// Returns whether there is room now.
    pub(super) fn room(&self) -> Room {
        self.room_for(self.waiting.load(Ordering::Relaxed))
    }

    /// Waits until there is something to do, until `deadline` at the latest; `block` is an empty one for what comes next.
    pub(super) fn take(&self, mut block: Vec<u8>, deadline: Option<Instant>) -> Work {
        block.truncate(BLOCK_HEADER);
        block.shrink_to(SPARE);
        let mut inner = self.lock();
        while inner.block.len() == BLOCK_HEADER && !inner.stop && inner.compacted.is_none() {
            inner.idle = true;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match left {
                Some(left) if left.is_zero() => break,
                Some(left) => inner = self.work.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0,
                None => inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner),
            }
        }
        inner.idle = false;
        Work {
            block: std::mem::replace(&mut inner.block, block),
            appended: inner.members.iter().map(|member| member.appended).collect(),
            compacted: inner.compacted.take(),
            flow: std::mem::take(&mut inner.flow),
            stop: inner.stop,
        }
    }

    /// Waits, until `deadline` or until the journal is to be closed; returns whether it is.
    pub(super) fn pause(&self, deadline: Instant) -> bool {
        let mut inner = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if inner.stop || left.is_zero() {
                return inner.stop;
            }
            inner = self.work.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells the loops what is on disk.
    pub(super) fn committed(&self, work: &Work) {
        let bytes = work.block.len() - BLOCK_HEADER;
        let mut inner = self.lock();
        inner.health = Health::Writing;
        inner.counters.commits += 1;
        inner.counters.bytes += work.block.len() as u64;
        let waiting = self.waiting.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        let free = self.room_for(waiting) == Room::Free;
        let mut wake = Vec::new();
        for (member, &appended) in inner.members.iter().zip(&work.appended) {
            let news = member.state.committed.swap(appended, Ordering::Release) < appended;
            if news || (free && member.state.full.load(Ordering::Relaxed)) {
                wake.push(Arc::clone(&member.state.wake));
            }
            if free {
                member.state.full.store(false, Ordering::Relaxed);
            }
        }
        drop(inner);
        wake.iter().for_each(|wake| wake());
    }

    /// Notes that an attempt to write has failed; returns whether it is the first in a row.
    pub(super) fn failed(&self, error: String) -> bool {
        let mut inner = self.lock();
        inner.counters.failures += 1;
        let first = inner.health == Health::Writing;
        inner.health = Health::Stuck { error };
        first
    }

    /// Notes that nothing will be written any more, because of a fault in the program.
    pub(super) fn panicked(&self) -> JournalError {
        let cause = "the journal's thread panicked";
        self.failed(cause.to_owned());
        JournalError::Unwritten { bytes: self.waiting.load(Ordering::Relaxed) as u64, cause: cause.to_owned() }
    }

    /// Leaves what came of a compaction.
    pub(super) fn compacted(&self, result: Result<Option<Compacted>, JournalError>) {
        let mut inner = self.lock();
        inner.compacted = Some(result);
        inner.idle = false;
        self.work.notify_one();
    }

    /// Has the thread write what there is, and end.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.work.notify_one();
    }

    pub(super) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    pub(super) fn counters(&self) -> Counters {
        Counters { queued_bytes: self.waiting.load(Ordering::Relaxed) as u64, ..self.lock().counters }
    }

    /// Changes the counters that only the thread knows.
    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.lock().counters);
    }

    fn room_for(&self, waiting: usize) -> Room {
        if waiting < self.bound { Room::Free } else { Room::Full }
    }

    /// What is in there is right between any two statements, so a panic elsewhere doesn't matter.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemberState {
    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("bound", &self.bound).field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl fmt::Debug for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberState").field("committed", &self.committed).finish_non_exhaustive()
    }
}
