//! The thread that takes counts and writes them, every second.
//!
//! A part whose answer is missing is settled before anything else of its metric is written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use midge_core::hot::{Capacity, Ledger, Metric, Part, Ranking, Window};

use super::{FLUSH, HotLog, Shared, unix};
use crate::guarded::guarded;
use crate::limiter::Limiter;
use crate::{Backoff, StoreError};

/// How long a store that refused us is left alone: an operator has to act.
const REST: Duration = Duration::from_secs(60);

/// How often a store that isn't known to have lost anything is asked whether it has.
const VERIFY: Duration = Duration::from_secs(60);
/// How often is said what stays wrong.
const COMPLAIN: Duration = Duration::from_secs(3_600);

/// The body of the thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut worker = Worker {
        shared,
        ledger: Ledger::new(shared.seed.clone(), Capacity::BUCKET),
        store: None,
        unclear: Vec::new(),
        backoff: Backoff::default(),
        connected: Instant::now(),
        verified: None,
        retry: None,
        refreshed: [0; 4],
        listed: None,
        complaints: Limiter::new(2),
        complaint: None,
        start: Instant::now(),
    };
    loop {
        let stopping = shared.pause(FLUSH);
        guarded(|| worker.turn(stopping));
        if stopping {
            return;
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    ledger: Ledger,
    store: Option<Box<dyn HotLog>>,
    /// Parts that were sent and not answered.
    unclear: Vec<Part>,
    backoff: Backoff,
    connected: Instant,
    /// When the store was last asked whether it still has what it was given.
    verified: Option<Instant>,
    retry: Option<Instant>,
    /// When each window's sets were last looked after, in seconds since 1970.
    refreshed: [u64; 4],
    listed: Option<Instant>,
    complaints: Limiter,
    complaint: Option<(String, Instant)>,
    start: Instant,
}

impl Worker<'_> {
    fn turn(&mut self, stopping: bool) {
        self.absorb();
        let now = unix();
        if let Err(error) = self.follow(now, stopping) {
            self.lose(&error);
        }
        self.shared.counts.dropped.store(self.ledger.dropped(), Ordering::Relaxed);
        if !stopping {
            self.list(now);
        }
    }

    fn absorb(&mut self) {
        let full = std::mem::take(&mut self.shared.lock().full);
        for (tally, unix) in full {
            let empty = self.ledger.absorb(tally, unix);
            self.shared.lock().empty.push(empty);
        }
    }

    /// Writes what is due, if the store is there.
    fn follow(&mut self, now: u64, stopping: bool) -> Result<(), StoreError> {
        self.connect()?;
        if self.store.is_none() {
            return Ok(());
        }
        self.settle()?;
        let parts = if stopping { self.ledger.take_all(now) } else { self.ledger.take(now) };
        self.write(parts)?;
        self.refresh(now)?;
        self.complaint = None;
        self.backoff.held(self.connected.elapsed());
        Ok(())
    }

    fn connect(&mut self) -> Result<(), StoreError> {
        let Some(backend) = self.shared.backend.as_ref().filter(|_| self.store.is_none()) else { return Ok(()) };
        if self.retry.is_none_or(|at| Instant::now() >= at) {
            self.store = Some(backend.hot()?);
            self.connected = Instant::now();
            self.verified = None;
        }
        Ok(())
    }

    /// Finds out what became of parts without an answer, and now and then whether the store still has the others.
    fn settle(&mut self) -> Result<(), StoreError> {
        let (Some(store), node) = (&mut self.store, &self.shared.settings.node) else { return Ok(()) };
        while let Some(metric) = self.unclear.last().map(|part| part.metric) {
            let found = store.last(node, metric)?;
            if let Some(part) = self.unclear.pop() {
                self.ledger.resolve(part, found.as_ref().map(|(mark, parts)| (mark.as_str(), *parts)));
            }
        }
        if self.verified.is_none_or(|at| at.elapsed() >= VERIFY) {
            for metric in Metric::ALL {
                self.ledger.verify(metric, store.last(node, metric)?.map(|(_, parts)| parts));
            }
            self.verified = Some(Instant::now());
        }
        Ok(())
    }

    fn write(&mut self, parts: Vec<Part>) -> Result<(), StoreError> {
        let (Some(store), node) = (&mut self.store, &self.shared.settings.node) else { return Ok(()) };
        let mut parts = parts.into_iter();
        while let Some(part) = parts.next() {
            match store.apply(node, &part) {
                Ok(applied) if self.ledger.applied(&part, applied.parts, &applied.scores) => self.verified = None,
                Ok(_) => {}
                Err(error) => {
                    self.unclear.push(part);
                    parts.for_each(|part| self.ledger.give_back(part));
                    return Err(error);
                }
            }
            self.shared.counts.flushed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Has the sets of whole windows made anew.
    fn refresh(&mut self, now: u64) -> Result<(), StoreError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        for window in Window::ALL {
            let last = &mut self.refreshed[window as usize];
            if now < *last || now - *last >= window.flush_seconds() {
                store.refresh(window, now)?;
                *last = now;
            }
        }
        Ok(())
    }

    fn lose(&mut self, error: &StoreError) {
        self.store = None;
        self.retry = Some(Instant::now() + if error.is_away() { self.backoff.wait() } else { REST });
        self.shared.counts.failed.fetch_add(1, Ordering::Relaxed);
        let problem = error.to_string();
        let known = self.complaint.as_ref().is_some_and(|(known, at)| *known == problem && at.elapsed() < COMPLAIN);
        if !known && let Some(held_back) = self.complaints.pass(self.start.elapsed()) {
            log::warn!("counts of topics wait, the store doesn't take them: {problem} ({held_back} more of these not shown)");
            self.complaint = Some((problem, Instant::now()));
        }
    }

    /// Makes the lists to be published, of all nodes where the store answers and of this one where it doesn't.
    fn list(&mut self, now: u64) {
        let settings = &self.shared.settings;
        if settings.list == 0 || self.listed.is_some_and(|at| at.elapsed() < settings.interval) {
            return;
        }
        self.listed = Some(Instant::now());
        let lists = Window::ALL.map(|window| self.ranking(window, now)).to_vec();
        self.shared.lock().lists = lists;
    }

    fn ranking(&mut self, window: Window, at: u64) -> Ranking {
        let settings = &self.shared.settings;
        if let Some(store) = &mut self.store {
            match store.top(window, Metric::Messages, settings.list) {
                Ok(topics) => return Ranking { window, at, node: None, topics },
                Err(error) => self.lose(&error),
            }
        }
        let topics = self.ledger.top(window, Metric::Messages, settings.list, at).topics;
        Ranking { window, at, node: Some(settings.node.clone()), topics }
    }
}
