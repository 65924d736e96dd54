//! Carries pushes from the store's stream to a node.
//!
//! Every node reads every entry, in order, and keeps the place up to which it has passed all of them on: after a restart it goes on
//! there. So nothing that was written is lost, and what was under way at a crash is passed on again.
//! A node that comes for the first time begins with what is written from then on; in a directory, which has one node, with what is there.
//!
//! Entries with an identifier that an earlier one had are skipped; entries that are no pushes move to another stream, with the reason.
//! What no node has to read any more is trimmed.
//!
//! | key | type | content |
//! |---|---|---|
//! | `push` | stream | pushes: the fields of [`midge_core::push::Push`] |
//! | `push:read` | hash | node → up to which entry it has passed on all, and when it said so in seconds since 1970 |
//! | `push:id:{ID}` | string, TTL | the entry that had the identifier first |
//! | `push:result:{ENTRY}` | hash, TTL | node → clients that it was delivered to, clients that it is queued for |
//! | `push:dead` | stream, bounded | entries that were no pushes, and `reason` |

mod flight;
mod reader;

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use midge_core::push::Push;

use crate::{Backend, StoreError};
use flight::Flight;

/// Where an entry stands in the stream: milliseconds since 1970, and a number among those of one millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Milliseconds since 1970.
    pub milliseconds: u64,
    /// The number within the millisecond.
    pub sequence: u64,
}

impl EntryId {
    /// Returns the least id after this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.sequence.checked_add(1) {
            Some(sequence) => Self { sequence, ..self },
            None => Self { milliseconds: self.milliseconds.saturating_add(1), sequence: 0 },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

/// The text is no id of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry's id is two numbers with a - between them, such as 1700000000000-0")]
pub struct EntryIdError;

impl FromStr for EntryId {
    type Err = EntryIdError;

    fn from_str(text: &str) -> Result<Self, EntryIdError> {
        let (milliseconds, sequence) = text.split_once('-').ok_or(EntryIdError)?;
        let number = |text: &str| text.parse().map_err(|_| EntryIdError);
        Ok(Self { milliseconds: number(milliseconds)?, sequence: number(sequence)? })
    }
}

/// An entry as it stands in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// Its fields, in their order.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How far a node has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// The node's name.
    pub node: String,
    /// Up to which entry it has passed on all.
    pub position: EntryId,
    /// When it said so, in seconds since 1970.
    pub unix: u64,
}

/// What became of a push on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeResult {
    /// The node's name.
    pub node: String,
    /// How many clients it was delivered to.
    pub delivered: u64,
    /// How many clients it is kept for until they are back.
    pub queued: u64,
}

/// What those who push have of the streams and tables. One connection; an error ends its use.
pub trait PushWriter: Send {
    /// Appends an entry and returns its id.
    ///
    /// # Errors
    /// No answer; the entry may have been appended.
    fn add(&mut self, fields: &[(&str, Vec<u8>)]) -> Result<EntryId, StoreError>;

    /// Returns how far all nodes have come.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn readers(&mut self) -> Result<Vec<Reader>, StoreError>;

    /// Returns what became of a push on the nodes that have said so.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn results(&mut self, entry: EntryId) -> Result<Vec<NodeResult>, StoreError>;
}

/// The streams and tables of pushes.
pub trait PushLog: PushWriter {
    /// Returns up to `count` entries after `after`, waiting at most `wait` for the first.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn read(&mut self, after: EntryId, count: usize, wait: Duration) -> Result<Vec<Entry>, StoreError>;

    /// Returns behind which entry a node begins that comes for the first time.
    ///
    /// # Errors
    /// No answer.
    fn beginning(&mut self) -> Result<EntryId, StoreError>;

    /// Says how far a node has come.
    ///
    /// # Errors
    /// No answer.
    fn report(&mut self, reader: &Reader) -> Result<(), StoreError>;

    /// Forgets a node.
    ///
    /// # Errors
    /// No answer.
    fn forget(&mut self, node: &str) -> Result<(), StoreError>;

    /// Returns for each identifier whether the entry beside it is the first that has it.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn claim(&mut self, identifiers: &[(&str, EntryId)], for_how_long: Duration) -> Result<Vec<bool>, StoreError>;

    /// Moves an entry to the dead letters, of which at most `keep` are kept.
    ///
    /// # Errors
    /// No answer.
    fn bury(&mut self, entry: &Entry, reason: &str, keep: usize) -> Result<(), StoreError>;

    /// Removes entries before `keep_from`, and the oldest beyond `most`; returns how many the latter were.
    ///
    /// # Errors
    /// No answer.
    fn trim(&mut self, keep_from: EntryId, most: usize) -> Result<u64, StoreError>;

    /// Says what became of a push here, for `for_how_long`.
    ///
    /// # Errors
    /// No answer.
    fn put_result(&mut self, entry: EntryId, result: &NodeResult, for_how_long: Duration) -> Result<(), StoreError>;
}

/// How pushes are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushSettings {
    /// The node's name, under which its place is kept.
    pub node: String,
    /// Pushes that wait in memory at most; beyond, the others wait in the store.
    pub queue: usize,
    /// Bytes of the payloads that wait in memory at most, after which no further batch is read.
    pub queue_bytes: usize,
    /// Entries kept in the stream for nodes that have not read them; beyond, the oldest are dropped.
    pub backlog: usize,
    /// How long an identifier makes a second push of it void.
    pub id_ttl: Duration,
    /// Dead letters kept; beyond, the oldest are dropped.
    pub dead_letters: usize,
    /// How long the stream keeps entries for a node that doesn't come back.
    pub absence: Duration,
}

impl Default for PushSettings {
    fn default() -> Self {
        Self {
            node: "midge".to_owned(),
            queue: 1_000,
            queue_bytes: 16 << 20,
            backlog: 1_000_000,
            id_ttl: Duration::from_secs(86_400),
            dead_letters: 10_000,
            absence: Duration::from_secs(7 * 86_400),
        }
    }
}

/// A push for this node's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which entry it was.
    pub entry: EntryId,
    /// The push.
    pub push: Push,
    /// The message expiry interval that is left, in seconds, at least 1.
    pub expiry: Option<u32>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which entry it was.
    pub entry: EntryId,
    /// Whether somebody waits for it.
    pub wanted: bool,
    /// How many clients it was delivered to.
    pub delivered: u64,
    /// How many clients it is kept for until they are back.
    pub queued: u64,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushCounters {
    /// Pushes taken from the stream for this node's clients.
    pub taken: u64,
    /// Those that were too old when they were read.
    pub expired: u64,
    /// Those whose identifier had been there before.
    pub repeated: u64,
    /// Entries that were no pushes.
    pub malformed: u64,
    /// Entries that were dropped although some node had not read them.
    pub dropped: u64,
    /// Pushes that wait in memory now.
    pub waiting: u64,
    /// How often the queue in memory was full.
    pub full: u64,
}

#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    expired: AtomicU64,
    repeated: AtomicU64,
    malformed: AtomicU64,
    dropped: AtomicU64,
    full: AtomicU64,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Delivery>,
    ready_bytes: usize,
    flight: Flight,
    results: Vec<Outcome>,
    stopping: bool,
}

struct Shared {
    backend: Box<dyn Backend>,
    settings: PushSettings,
    wake: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
    changed: Condvar,
    has_work: AtomicBool,
    counts: Counts,
}

/// The thread that reads pushes, and what it has read.
pub struct Pushes {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushes").field("node", &self.shared.settings.node).finish_non_exhaustive()
    }
}

impl Pushes {
    /// Starts the thread, which calls `begin` before it does anything else, and `wake` whenever there is something to take.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start_in(
        backend: Box<dyn Backend>,
        settings: PushSettings,
        wake: Box<dyn Fn() + Send + Sync>,
        begin: fn(),
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            backend,
            settings,
            wake,
            state: Mutex::default(),
            changed: Condvar::new(),
            has_work: AtomicBool::new(false),
            counts: Counts::default(),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("midge-push".to_owned()).spawn(move || {
            begin();
            reader::run(&of_thread);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns whether [`Self::take`] has something to give; costs one load.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.shared.has_work.load(Ordering::Acquire)
    }

    /// Moves the next deliveries to the end of `batch`, `most` at most. Each of them has to be told of by [`Self::done`].
    pub fn take(&self, most: usize, batch: &mut Vec<Delivery>) {
        let mut state = self.shared.lock();
        let count = most.min(state.ready.len());
        let taken: usize = state.ready.iter().take(count).map(|delivery| delivery.push.payload.len()).sum();
        batch.extend(state.ready.drain(..count));
        state.ready_bytes -= taken;
        self.shared.has_work.store(!state.ready.is_empty(), Ordering::Release);
        self.shared.changed.notify_one();
    }

    /// Says that deliveries need not be made again.
    pub fn done(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        let mut state = self.shared.lock();
        for outcome in outcomes {
            state.flight.land(outcome.entry);
            if outcome.wanted {
                state.results.push(outcome);
            }
        }
    }

    /// Returns what has happened since the start.
    #[must_use]
    pub fn counters(&self) -> PushCounters {
        self.shared.counters()
    }

    /// Returns a function that returns what has happened since the start, for who outlives this.
    pub fn counting(&self) -> impl Fn() -> PushCounters + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || shared.counters()
    }
}

impl Shared {
    fn counters(&self) -> PushCounters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        PushCounters {
            taken: count(&counts.taken),
            expired: count(&counts.expired),
            repeated: count(&counts.repeated),
            malformed: count(&counts.malformed),
            dropped: count(&counts.dropped),
            full: count(&counts.full),
            waiting: u64::try_from(self.lock().ready.len()).unwrap_or(u64::MAX),
        }
    }
}

impl Drop for Pushes {
    /// Ends the thread and waits for it: a host may unmap this code afterwards.
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits for `time`, or for the end.
    fn pause(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), time, |state| !state.stopping));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_and_ordered() {
        let id = |text: &str| text.parse::<EntryId>();
        for text in ["0-0", "1700000000000-3", "18446744073709551615-18446744073709551615"] {
            assert_eq!(id(text).unwrap().to_string(), text);
        }
        for text in ["", "1", "1-", "-1", "1-2-3", "a-1", "+1-x"] {
            assert!(id(text).is_err(), "{text:?}");
        }
        assert!(id("2-0").unwrap() > id("1-99").unwrap());
        assert_eq!(id("1-18446744073709551615").unwrap().next(), id("2-0").unwrap());
        assert_eq!(id("1-1").unwrap().next(), id("1-2").unwrap());
    }
}
