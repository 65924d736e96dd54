//! The thread that writes, and says what is safe.
//!
//! After any error a log is given up: what was not confirmed goes to a new one, and only that one's fsync counts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::chain::Chain;
use super::compact::{Compacted, Task, compact};
use super::disk::Disk;
use super::format::BLOCK_HEADER;
use super::log::Log;
use super::queue::{Flow, Queue, Work};
use super::recover::{Start, unix_now};
use super::{JournalError, Settings, describe};

/// More logs than this are compacted, however short they are.
const MAX_LOGS: usize = 16;
/// A failed compaction is tried again after this many times the pause after a failed write.
const COMPACTION_PAUSE: u32 = 60;

/// The journal's thread.
#[derive(Debug)]
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    queue: Arc<Queue>,
    settings: Settings,
    chain: Chain,
    next_number: u64,
    /// `None` after an error.
    log: Option<Log>,
    /// The block that is written next.
    next: u64,
    /// The newest snapshot.
    snapshot: Compacted,
    /// Bytes of the logs behind the snapshot, except for the one that is being written.
    closed_bytes: u64,
    /// What came behind the snapshot.
    flow: Flow,
    /// Since when there is something that could be compacted.
    dirty_since: Option<Instant>,
    compaction: Option<Compaction>,
    /// Before this, no compaction is tried again.
    not_before: Option<Instant>,
}

/// A compaction that is going on.
#[derive(Debug)]
struct Compaction {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    /// How many logs it takes, of how many bytes, and what they say.
    logs: usize,
    bytes: u64,
    flow: Flow,
}

impl Writer {
    pub(super) fn new(disk: Arc<dyn Disk>, queue: Arc<Queue>, settings: Settings, start: Start) -> Self {
        let now = Instant::now();
        let mut writer = Self {
            disk,
            queue,
            settings,
            chain: start.listing.chain,
            next_number: start.listing.next_number,
            log: Some(start.log),
            next: start.next,
            snapshot: Compacted { bytes: start.snapshot_bytes, queued: start.queued, ..Compacted::default() },
            closed_bytes: start.log_bytes,
            flow: Flow::default(),
            dirty_since: (start.log_bytes > 0).then_some(now),
            compaction: None,
            not_before: None,
        };
        writer.snapshot.queued_bytes = start.snapshot_bytes;
        writer.count_bytes();
        writer
    }

    /// Writes until it is told to stop.
    pub(super) fn run(mut self) -> Result<(), JournalError> {
        let mut spare = vec![0; BLOCK_HEADER];
        loop {
            let mut work = self.queue.take(spare, self.deadline());
            self.flow.queued += work.flow.queued;
            self.flow.gone += work.flow.gone;
            let stop = work.stop;
            if let Some(result) = work.compacted.take() {
                self.end_compaction(result);
            }
            if work.block.len() > BLOCK_HEADER {
                self.commit(&mut work)?;
            }
            if stop {
                return self.close();
            }
            if self.is_compaction_due() {
                self.begin_compaction();
            }
            spare = work.block;
        }
    }

    /// Writes a block, as often as it takes.
    ///
    /// # Errors
    /// It could not be written before the journal was closed.
    fn commit(&mut self, work: &mut Work) -> Result<(), JournalError> {
        let mut last_attempt = work.stop;
        while let Err(cause) = self.try_commit(&mut work.block) {
            let error = format!("{}: writing failed: {cause}", self.disk.path().display());
            if self.queue.failed(error.clone()) {
                ::log::error!("journal: {error}; nothing is acknowledged until it works again");
            }
            if last_attempt {
                let bytes = self.queue.counters().queued_bytes;
                self.abandon_compaction();
                return Err(JournalError::Unwritten { bytes, cause: error });
            }
            last_attempt = self.queue.pause(Instant::now() + self.settings.retry);
        }
        self.next += 1;
        self.dirty_since.get_or_insert_with(Instant::now);
        self.count_bytes();
        self.queue.committed(work);
        Ok(())
    }

    fn try_commit(&mut self, block: &mut [u8]) -> std::io::Result<()> {
        if let Some(mut log) = self.log.take() {
            let result = log.commit(block, self.next);
            if result.is_err() {
                self.closed_bytes += log.length;
                return result;
            }
            self.log = Some(log);
            return Ok(());
        }
        self.new_log(Some(block))?;
        ::log::warn!("journal: {} can be written again", self.disk.path().display());
        Ok(())
    }

    /// Makes a log in place of the one there is, which may go on with `block`.
    ///
    /// After an error the one there is stays, unless it may not be written to any more.
    fn new_log(&mut self, block: Option<&mut [u8]>) -> std::io::Result<()> {
        let number = self.next_number;
        // A number is never used twice, so that what a failed attempt leaves behind is never taken for this.
        self.next_number += 1;
        let log = Log::prepare(&*self.disk, number, self.next, block)?;
        self.closed_bytes += self.log.take().map_or(0, |log| log.length);
        Log::publish(&*self.disk, number)?;
        self.chain.logs.push(number);
        self.log = Some(log);
        Ok(())
    }

    fn close(mut self) -> Result<(), JournalError> {
        self.abandon_compaction();
        let Some(log) = self.log.take() else { return Ok(()) };
        log.close(self.next).map_err(|cause| JournalError::io(self.disk.path(), "closing the log", cause))
    }

    /// Returns when there is something to do though nothing is appended.
    fn deadline(&self) -> Option<Instant> {
        if self.compaction.is_some() {
            return None;
        }
        let due = self.dirty_since?.checked_add(self.settings.compact_age)?;
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    fn is_compaction_due(&self) -> bool {
        if self.compaction.is_some() || self.not_before.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let log = self.log_bytes();
        let too_long = log >= self.settings.compact_bytes && log >= self.percent_of(self.snapshot.bytes);
        let too_old = self.dirty_since.is_some_and(|since| since.elapsed() >= self.settings.compact_age);
        too_long || too_old || self.chain.logs.len() > MAX_LOGS || self.is_mostly_dead()
    }

    /// Returns whether so many messages are delivered that what lies on disk is mostly them.
    ///
    /// How long those are isn't known here; they are taken to be as long as the others.
    fn is_mostly_dead(&self) -> bool {
        let (all, gone) = (self.snapshot.queued + self.flow.queued, self.flow.gone);
        let bytes = self.snapshot.queued_bytes + self.log_bytes();
        let dead = u128::from(bytes) * u128::from(gone.min(all)) / u128::from(all.max(1));
        let dead = u64::try_from(dead).unwrap_or(u64::MAX);
        let alive = (self.snapshot.bytes + self.log_bytes()).saturating_sub(dead);
        dead >= self.settings.compact_bytes && dead >= self.percent_of(alive)
    }

    fn percent_of(&self, bytes: u64) -> u64 {
        u64::try_from(u128::from(bytes) * u128::from(self.settings.compact_percent) / 100).unwrap_or(u64::MAX)
    }

    /// Begins a new log, and has what lies before it compacted.
    fn begin_compaction(&mut self) {
        let (old, number) = (self.chain.clone(), self.next_number);
        if let Err(cause) = self.new_log(None) {
            return self.compaction_failed(&format!("a new log can't be made: {cause}"));
        }
        self.dirty_since = None;
        let logs = old.logs.len();
        let task = Task { chain: old, number, until: self.next, unix: unix_now() };
        let stop = Arc::new(AtomicBool::new(false));
        let (disk, queue, told) = (Arc::clone(&self.disk), Arc::clone(&self.queue), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("midge-compact".to_owned());
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(|| compact(&*disk, &task, &told)));
            let panicked = || JournalError::io(disk.path(), "compacting", std::io::Error::other("a panic"));
            queue.compacted(result.unwrap_or_else(|_| Err(panicked())));
        };
        match thread.spawn(run) {
            Ok(thread) => {
                let flow = std::mem::take(&mut self.flow);
                self.compaction = Some(Compaction { thread, stop, logs, bytes: self.closed_bytes, flow });
            }
            Err(cause) => self.compaction_failed(&format!("a thread can't be made: {cause}")),
        }
    }

    fn end_compaction(&mut self, result: Result<Option<Compacted>, JournalError>) {
        let Some(compaction) = self.compaction.take() else { return };
        // It has left its result, which is the last thing it does.
        let _ = compaction.thread.join();
        match result {
            Ok(Some(compacted)) => {
                self.chain.snapshot = Some(compacted.number);
                self.chain.logs.drain(..compaction.logs);
                self.closed_bytes -= compaction.bytes;
                self.snapshot = compacted;
                self.not_before = None;
                self.queue.count(|counters| counters.compactions += 1);
                self.count_bytes();
            }
            Ok(None) => {}
            Err(error) => {
                self.flow.queued += compaction.flow.queued;
                self.flow.gone += compaction.flow.gone;
                self.compaction_failed(&describe(&error));
            }
        }
    }

    fn compaction_failed(&mut self, error: &str) {
        ::log::error!("journal: {} can't be compacted, and grows: {error}", self.disk.path().display());
        self.queue.count(|counters| counters.failed_compactions += 1);
        self.dirty_since.get_or_insert_with(Instant::now);
        self.not_before = Instant::now().checked_add(self.pause_of_compaction());
    }

    fn pause_of_compaction(&self) -> Duration {
        self.settings.retry.saturating_mul(COMPACTION_PAUSE)
    }

    fn abandon_compaction(&mut self) {
        if let Some(compaction) = self.compaction.take() {
            compaction.stop.store(true, Ordering::Relaxed);
            // Its result is nobody's business any more: on disk, both outcomes are right.
            let _ = compaction.thread.join();
        }
    }

    fn log_bytes(&self) -> u64 {
        self.closed_bytes + self.log.as_ref().map_or(0, |log| log.length)
    }

    fn count_bytes(&self) {
        let (snapshot, log) = (self.snapshot.bytes, self.log_bytes());
        self.queue.count(|counters| (counters.snapshot_bytes, counters.log_bytes) = (snapshot, log));
    }
}
