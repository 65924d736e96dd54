//! The one thread that reads pushes.
//!
//! It reads as much as there is room for, hands it to the body, and says from time to time how far all was passed on.
//! While the body is slow the entries wait in the store, and while the store is away the place is kept here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use midge_core::push::{Push, PushError};

use super::{Delivery, Entry, EntryId, NodeResult, Outcome, PushLog, Reader, Shared};
use crate::guarded::guarded;
use crate::limiter::Limiter;
use crate::{Backoff, StoreError};

/// How many entries one round trip brings at most.
const BATCH: usize = 256;
/// How long one question waits for entries; the thread's end waits for no longer.
const WAIT: Duration = Duration::from_millis(250);
/// The same while something is under way: how soon the place in the stream follows.
const SHORT_WAIT: Duration = Duration::from_millis(20);
/// How often the place is told although nothing has changed: by this a node shows that it is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// How long to wait where the store refuses us: an operator has to act.
const REFUSED: Duration = Duration::from_secs(30);
/// How often the same complaint is made.
const COMPLAIN: Duration = Duration::from_secs(3600);
/// How often the stream is trimmed.
const TRIM: Duration = Duration::from_secs(10);
/// How long what became of a push can be asked.
const RESULTS: Duration = Duration::from_secs(60);

/// The body of the thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut worker = Worker {
        shared,
        backoff: Backoff::default(),
        begun: false,
        reported: None,
        trimmed_at: None,
        complaints: Limiter::new(6),
        complaint: None,
        malformed: Limiter::new(20),
        start: Instant::now(),
    };
    while !shared.is_stopping() {
        let (problem, wait) = match guarded(|| worker.follow()) {
            Some(Ok(())) => return,
            Some(Err(error @ StoreError::Refused(_))) => (error.to_string(), REFUSED),
            Some(Err(error)) => (error.to_string(), worker.backoff.wait()),
            None => ("internal error".to_owned(), worker.backoff.wait()),
        };
        worker.complain(problem);
        shared.pause(wait);
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    backoff: Backoff,
    /// Whether the place to go on from is known.
    begun: bool,
    /// What was told last, and when.
    reported: Option<(EntryId, Instant)>,
    trimmed_at: Option<Instant>,
    complaints: Limiter,
    complaint: Option<(String, Instant)>,
    malformed: Limiter,
    start: Instant,
}

impl Worker<'_> {
    /// Returns at the end; an error says that the store can't be asked.
    fn follow(&mut self) -> Result<(), StoreError> {
        let mut log = self.shared.backend.pushes()?;
        let since = Instant::now();
        self.begin(log.as_mut())?;
        self.complaint = None;
        loop {
            self.tell(log.as_mut())?;
            if self.shared.is_stopping() {
                // Once more: something may have been passed on between the telling and the end.
                return self.tell(log.as_mut());
            }
            self.trim(log.as_mut())?;
            if let Some(room) = self.room() {
                let (after, wait) = {
                    let state = self.shared.lock();
                    (state.flight.read_to(), if state.flight.is_empty() { WAIT } else { SHORT_WAIT })
                };
                let entries = log.read(after, room.min(BATCH), wait)?;
                self.take_in(log.as_mut(), entries)?;
            }
            self.backoff.held(since.elapsed());
        }
    }

    /// Says what is wrong: what stays wrong, once an hour.
    fn complain(&mut self, problem: String) {
        let now = Instant::now();
        let known = self.complaint.as_ref().is_some_and(|(known, at)| *known == problem && now.duration_since(*at) < COMPLAIN);
        if !known && let Some(held_back) = self.complaints.pass(self.start.elapsed()) {
            log::warn!("pushes wait, the stream can't be read: {problem} ({held_back} more of these not shown)");
            self.complaint = Some((problem, now));
        }
    }

    /// Finds out where to go on; a node that comes for the first time begins at the end.
    fn begin(&mut self, log: &mut dyn PushLog) -> Result<(), StoreError> {
        if self.begun {
            // The store may have lost it meanwhile.
            self.reported = None;
            return Ok(());
        }
        let known = log.readers()?.into_iter().find(|reader| reader.node == self.shared.settings.node);
        let position = match known {
            Some(reader) => reader.position,
            None => log.beginning()?,
        };
        self.shared.lock().flight.begin(position);
        self.begun = true;
        log::info!("reading pushes after {position}");
        Ok(())
    }

    /// Waits a little where there is no room for further pushes; returns how many there is room for.
    fn room(&self) -> Option<usize> {
        let settings = &self.shared.settings;
        let room = |waiting: usize, bytes: usize| {
            settings.queue.checked_sub(waiting).filter(|room| *room > 0 && bytes < settings.queue_bytes)
        };
        let state = self.shared.lock();
        let now = room(state.ready.len(), state.ready_bytes);
        if now.is_none() {
            self.shared.counts.full.fetch_add(1, Ordering::Relaxed);
            let full = |state: &mut super::State| !state.stopping && room(state.ready.len(), state.ready_bytes).is_none();
            drop(self.shared.changed.wait_timeout_while(state, SHORT_WAIT, full));
        }
        now
    }

    /// Says how far all was passed on, and what became of pushes that somebody asks about.
    fn tell(&mut self, log: &mut dyn PushLog) -> Result<(), StoreError> {
        let (position, results) = {
            let mut state = self.shared.lock();
            (state.flight.position(), std::mem::take(&mut state.results))
        };
        // Before the place: who finds the push passed on finds what became of it.
        for (at, outcome) in results.iter().enumerate() {
            if let Err(error) = log.put_result(outcome.entry, &self.result(outcome), RESULTS) {
                self.shared.lock().results.extend_from_slice(&results[at..]);
                return Err(error);
            }
        }
        if self.reported.is_none_or(|(told, at)| told != position || at.elapsed() >= SIGN_OF_LIFE) {
            log.report(&Reader { node: self.shared.settings.node.clone(), position, unix: unix().as_secs() })?;
            self.reported = Some((position, Instant::now()));
        }
        Ok(())
    }

    fn result(&self, outcome: &Outcome) -> NodeResult {
        NodeResult { node: self.shared.settings.node.clone(), delivered: outcome.delivered, queued: outcome.queued }
    }

    fn take_in(&mut self, log: &mut dyn PushLog, entries: Vec<Entry>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let parsed: Vec<(Entry, Result<Push, PushError>)> = entries
            .into_iter()
            .map(|entry| {
                let push = Push::parse(entry.fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
                (entry, push)
            })
            .collect();
        for (entry, push) in &parsed {
            if let Err(error) = push {
                self.bury(log, entry, error)?;
            }
        }
        let identified: Vec<(&str, EntryId)> =
            parsed.iter().filter_map(|(entry, push)| Some((push.as_ref().ok()?.id.as_deref()?, entry.id))).collect();
        let claimed = if identified.is_empty() { Vec::new() } else { log.claim(&identified, self.shared.settings.id_ttl)? };
        let repeated: Vec<EntryId> =
            identified.iter().zip(claimed).filter(|(_, first)| !first).map(|((_, entry), _)| *entry).collect();
        self.hand_over(parsed, &repeated);
        Ok(())
    }

    fn bury(&mut self, log: &mut dyn PushLog, entry: &Entry, error: &PushError) -> Result<(), StoreError> {
        log.bury(entry, &error.to_string(), self.shared.settings.dead_letters)?;
        count(&self.shared.counts.malformed);
        if let Some(held_back) = self.malformed.pass(self.start.elapsed()) {
            log::warn!("push {} is none and was moved to the dead letters: {error} ({held_back} more not shown)", entry.id);
        }
        Ok(())
    }

    fn hand_over(&self, parsed: Vec<(Entry, Result<Push, PushError>)>, repeated: &[EntryId]) {
        let counts = &self.shared.counts;
        let now = unix();
        let mut state = self.shared.lock();
        for (Entry { id, .. }, push) in parsed {
            let Ok(push) = push else {
                state.flight.skip(id);
                continue;
            };
            let age = now.saturating_sub(Duration::from_millis(id.milliseconds));
            let is_repeated = repeated.contains(&id);
            if is_repeated || push.has_expired(age) {
                count(if is_repeated { &counts.repeated } else { &counts.expired });
                state.flight.skip(id);
                if push.wants_result {
                    state.results.push(Outcome { entry: id, wanted: true, delivered: 0, queued: 0 });
                }
                continue;
            }
            let expiry = push.seconds_left(age);
            count(&counts.taken);
            state.flight.take_off(id);
            state.ready_bytes += push.payload.len();
            state.ready.push_back(Delivery { entry: id, push, expiry });
        }
        let any = !state.ready.is_empty();
        self.shared.has_work.store(any, Ordering::Release);
        drop(state);
        if any {
            (self.shared.wake)();
        }
    }

    /// Removes what every node has read, and what is more than may be kept.
    fn trim(&mut self, log: &mut dyn PushLog) -> Result<(), StoreError> {
        if self.trimmed_at.is_some_and(|at| at.elapsed() < TRIM) {
            return Ok(());
        }
        self.trimmed_at = Some(Instant::now());
        let settings = &self.shared.settings;
        let now = unix().as_secs();
        let is_gone = |reader: &Reader| now.saturating_sub(reader.unix) > settings.absence.as_secs();
        let (gone, there): (Vec<Reader>, Vec<Reader>) = log.readers()?.into_iter().partition(is_gone);
        for reader in gone {
            log::warn!(
                "no push is kept any more for the node \"{}\", which has read none for long",
                midge_core::name::Shown(&reader.node)
            );
            log.forget(&reader.node)?;
        }
        let Some(slowest) = there.iter().min_by_key(|reader| reader.position) else { return Ok(()) };
        let dropped = log.trim(slowest.position.next(), settings.backlog)?;
        if dropped > 0 {
            self.shared.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
            let node = midge_core::name::Shown(&slowest.node).to_string();
            log::error!(
                "{dropped} pushes were dropped that the node \"{node}\" has not read: more than {} waited",
                settings.backlog
            );
        }
        Ok(())
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Returns the time since 1970.
fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
