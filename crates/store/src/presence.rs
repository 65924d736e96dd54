//! Shows in the store who is online, with events.
//!
//! A body says who connects and who leaves, which costs it a short lock and never waits; a thread writes that in batches.
//! What is written is the difference between what holds and what the store was told, so a store that was away, or has lost its
//! data, is told all of it again, and a flood of comings and goings needs no more room than there are clients.
//!
//! A node that dies leaves its clients behind. Its lease, the record [`crate::node`] renews, then ends, and the other nodes enter
//! its clients as gone; the node itself does so when it is back. Who removes an entry tells of it, so it is told once.
//!
//! | key | type | content |
//! |---|---|---|
//! | `online:{USER}` | hash | client identifier → node, and since when in milliseconds since 1970; `{}` for those without a username |
//! | `seen:{USER}` | hash, TTL | `at`, `client` and `node` of the user's client that went last |
//! | `events` | stream, bounded | who came, who went, what was denied |
//! | `offline` | stream, bounded | messages that found their client away |
//! | `online:nodes` | set | nodes that enter clients |
//! | `online:node:{NAME}` | hash | username, U+0000 and client identifier of each of a node's entries → since when |

mod table;
mod worker;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use midge_core::entry::Fields;
use midge_core::gate::Gate;
use midge_core::name::{ClientId, NodeName, Username};

use crate::node::{Fact, Life};
use crate::{Backend, StoreError};
pub use table::Stay;
use table::Table;

/// Messages for clients that are away which wait to be written, at most.
const MAX_MISSED: usize = 10_000;
/// The same in bytes of their payloads.
const MAX_MISSED_BYTES: usize = 8 << 20;

/// Whose client, and which of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    /// The username; none for a client without.
    pub user: Option<Username>,
    /// The client identifier.
    pub client: ClientId,
}

/// Something that the store is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A client is connected.
    Online {
        /// Whose, and which.
        who: Who,
        /// Since when, in milliseconds since 1970.
        since: u64,
    },
    /// A connection has ended.
    Offline {
        /// Whose, and which.
        who: Who,
        /// Since when it was there, in milliseconds since 1970.
        since: u64,
        /// Until when.
        until: u64,
        /// Whether its node ended without a word.
        lost: bool,
    },
}

impl Change {
    /// Returns whose client it is about, and which.
    #[must_use]
    pub fn who(&self) -> &Who {
        match self {
            Self::Online { who, .. } | Self::Offline { who, .. } => who,
        }
    }

    /// Returns the fields of the event that tells of it.
    pub(crate) fn event(&self, node: &NodeName) -> Fields {
        let field = |name: &str, value: String| (name.as_bytes().to_vec(), value.into_bytes());
        let (kind, since) = match self {
            Self::Online { since, .. } => ("online", since),
            Self::Offline { since, .. } => ("offline", since),
        };
        let mut fields = vec![field("event", kind.to_owned())];
        fields.extend(self.who().user.as_ref().map(|user| field("user", user.to_string())));
        fields.push(field("client", self.who().client.to_string()));
        fields.push(field("node", node.to_string()));
        fields.push(field("since", since.to_string()));
        if let Self::Offline { until, lost, .. } = self {
            fields.push(field("until", until.to_string()));
            fields.push(field("why", if *lost { "lost" } else { "closed" }.to_owned()));
        }
        fields
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is written, and is news.
    New,
    /// The store had it so.
    Known,
    /// The key is on its way between servers: it has to be written again.
    Again,
    /// The store can't take it: the key holds another type.
    Failed,
}

/// What a node's lease was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whether the lease had ended, so that others may have removed the node's entries.
    pub lapsed: bool,
    /// How many entries the store has of the node.
    pub entries: u64,
}

/// A page of a node's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Whether the node has a lease.
    pub alive: bool,
    /// Who was entered, and since when.
    pub entries: Vec<(Who, u64)>,
    /// Where the next page begins; none after the last.
    pub next: Option<u64>,
}

/// How long the streams are kept, and what else is written with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// About how many events are kept.
    pub events: usize,
    /// How long it is kept when a user was there last; zero is not at all.
    pub seen: Duration,
    /// About how many messages for clients that are away are kept.
    pub missed: usize,
}

/// The tables and streams of presence. One connection; an error ends its use.
pub trait PresenceLog: Send {
    /// Renews the lease of a node that shows `online` clients.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn beat(&mut self, node: &NodeName, online: u64) -> Result<Beat, StoreError>;

    /// Writes changes of a node's clients, in order; returns what became of each.
    ///
    /// # Errors
    /// No answer, or not all of it: some of the changes may have been made.
    fn write(&mut self, node: &NodeName, changes: &[Change], bounds: &Bounds) -> Result<Vec<Outcome>, StoreError>;

    /// Returns whether [`Self::write`] tells of what is news in the same step; otherwise it has to be told by [`Self::tell`].
    fn tells(&self) -> bool;

    /// Appends events.
    ///
    /// # Errors
    /// No answer, or not all of it: some of them may have been appended.
    fn tell(&mut self, events: &[Fields], bounds: &Bounds) -> Result<(), StoreError>;

    /// Appends messages for clients that are away.
    ///
    /// # Errors
    /// No answer, or not all of it: some of them may have been appended.
    fn tell_missed(&mut self, messages: &[Fields], bounds: &Bounds) -> Result<(), StoreError>;

    /// Returns the nodes that have entries and no lease.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn dead(&mut self) -> Result<Vec<NodeName>, StoreError>;

    /// Returns some of a node's entries, from `page` on; zero is the beginning.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn entries(&mut self, node: &NodeName, page: u64) -> Result<Entries, StoreError>;

    /// Forgets a node, unless it has a lease or entries.
    ///
    /// # Errors
    /// No answer.
    fn forget(&mut self, node: &NodeName) -> Result<(), StoreError>;
}

/// How presence is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceSettings {
    /// What is kept.
    pub bounds: Bounds,
    /// Whether messages for clients that are away are told of.
    pub missed: bool,
    /// How many of them are told of in a second at most.
    pub missed_rate: u32,
    /// How many bytes of a payload are told; a longer one is left out.
    pub missed_payload: usize,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self {
            bounds: Bounds { events: 100_000, seen: Duration::from_secs(30 * 86_400), missed: 100_000 },
            missed: false,
            missed_rate: 1_000,
            missed_payload: 4_096,
        }
    }
}

/// A message that found its client away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Whom it is kept for.
    pub who: Who,
    /// Its topic name.
    pub topic: Box<str>,
    /// What it says; none where that is longer than is told.
    pub payload: Option<Vec<u8>>,
    /// How many bytes that is.
    pub size: usize,
    /// Its quality of service as it was published.
    pub qos: u8,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresenceCounters {
    /// Clients that the store is told are online.
    pub online: u64,
    /// Changes that wait to be written.
    pub waiting: u64,
    /// Comings and goings that were written.
    pub written: u64,
    /// Connections too short for a store that was away: neither their coming nor their going is told.
    pub skipped: u64,
    /// Changes that the store can't take.
    pub refused: u64,
    /// Clients of nodes that had ended which this node entered as gone.
    pub swept: u64,
    /// Messages for clients that are away that were told of.
    pub missed: u64,
    /// Those that were not, because there were too many.
    pub missed_dropped: u64,
}

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    refused: AtomicU64,
    swept: AtomicU64,
    missed: AtomicU64,
    missed_dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    table: Table,
    missed: VecDeque<Missed>,
    missed_bytes: usize,
    /// The second in which the messages of `missed_count` came.
    missed_second: u64,
    missed_count: u32,
    stopping: bool,
}

struct Shared {
    backend: Box<dyn Backend>,
    node: NodeName,
    life: Arc<Life>,
    gate: Arc<Gate>,
    settings: PresenceSettings,
    state: Mutex<State>,
    changed: Condvar,
    start: Instant,
    /// The latest moment that was given out.
    stamp: AtomicU64,
    counts: Counts,
}

/// Tells who comes and goes, from any thread.
#[derive(Clone)]
pub struct Attendance {
    shared: Arc<Shared>,
}

/// The thread that writes who is online.
pub struct Presence {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Presence {
    /// Starts the thread, which calls `begin` before it does anything else. What `gate` denies is told of as well.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start_in(
        backend: Box<dyn Backend>,
        node: NodeName,
        life: Arc<Life>,
        gate: Arc<Gate>,
        settings: PresenceSettings,
        begin: fn(),
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            backend,
            node,
            life,
            gate,
            settings,
            state: Mutex::default(),
            changed: Condvar::new(),
            start: Instant::now(),
            stamp: AtomicU64::new(0),
            counts: Counts::default(),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("midge-presence".to_owned()).spawn(move || {
            begin();
            worker::run(&of_thread);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns what comings and goings are told to.
    #[must_use]
    pub fn attendance(&self) -> Attendance {
        Attendance { shared: self.shared.clone() }
    }
}

impl Drop for Presence {
    /// Enters all clients as gone, if the store is there, ends the thread and waits for it: a host may unmap this code afterwards.
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Attendance {
    /// Notes that a client is connected, since `since` in milliseconds since 1970. An earlier connection of it counts no more.
    ///
    /// Its end can be told of by what is returned, if no two connections have the same `since`: see [`Self::stamp`].
    pub fn online(&self, who: Who, since: u64) -> Stay {
        self.shared.changed_by(|table| table.online(who, since))
    }

    /// Notes that a connection has ended; where its client has a newer one, that changes nothing.
    pub fn left(&self, stay: Stay) {
        self.shared.changed_by(|table| table.left(stay, unix_ms()));
    }

    /// Notes that the connection that a client had since `since` has ended; where it has a newer one, that changes nothing.
    pub fn offline(&self, who: &Who, since: u64) {
        self.shared.changed_by(|table| table.offline(who, since, unix_ms()));
    }

    /// Returns the milliseconds since 1970, and never the same twice: by it, two connections of a client can be told apart.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        let now = unix_ms();
        let before = self.shared.stamp.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
        now.max(before.unwrap_or(0) + 1)
    }

    /// Returns whether messages for clients that are away are told of.
    #[must_use]
    pub fn wants_missed(&self) -> bool {
        self.shared.settings.missed
    }

    /// Returns how many bytes of a payload are told of.
    #[must_use]
    pub fn payload_bound(&self) -> usize {
        self.shared.settings.missed_payload
    }

    /// Notes messages that found their clients away; beyond the rate, and where too many wait, they are counted only.
    pub fn missed(&self, messages: impl IntoIterator<Item = Missed>) {
        let shared = &self.shared;
        let second = shared.start.elapsed().as_secs();
        let mut dropped = 0;
        let mut state = shared.lock();
        if state.missed_second != second {
            (state.missed_second, state.missed_count) = (second, 0);
        }
        for message in messages {
            let bytes = message.payload.as_ref().map_or(0, Vec::len);
            let room = state.missed.len() < MAX_MISSED && state.missed_bytes + bytes <= MAX_MISSED_BYTES;
            if room && state.missed_count < shared.settings.missed_rate {
                state.missed_count += 1;
                state.missed_bytes += bytes;
                state.missed.push_back(message);
            } else {
                dropped += 1;
            }
        }
        drop(state);
        shared.counts.missed_dropped.fetch_add(dropped, Ordering::Relaxed);
        shared.changed.notify_one();
    }

    /// Counts messages that somebody else had no room for.
    pub fn missed_more(&self, count: u64) {
        self.shared.counts.missed_dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns what a server reports of it.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, Fact)> {
        let counters = self.counters();
        let mut facts = vec![
            ("presence_written", Fact::Counter(counters.written)),
            ("presence_waiting", Fact::Gauge(counters.waiting)),
            ("presence_skipped", Fact::Counter(counters.skipped)),
            ("presence_refused", Fact::Counter(counters.refused)),
            ("presence_swept", Fact::Counter(counters.swept)),
        ];
        if self.wants_missed() {
            facts.push(("offline_messages", Fact::Counter(counters.missed)));
            facts.push(("offline_dropped", Fact::Counter(counters.missed_dropped)));
        }
        facts
    }

    /// Returns what has happened since the start.
    #[must_use]
    pub fn counters(&self) -> PresenceCounters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.shared.counts;
        let state = self.shared.lock();
        PresenceCounters {
            online: state.table.stored() as u64,
            waiting: state.table.waiting() as u64,
            skipped: state.table.skipped(),
            written: count(&counts.written),
            refused: count(&counts.refused),
            swept: count(&counts.swept),
            missed: count(&counts.missed),
            missed_dropped: count(&counts.missed_dropped),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table, and wakes the thread where it has nothing to do yet.
    fn changed_by<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut state = self.lock();
        let was_idle = state.table.is_idle();
        let changed = change(&mut state.table);
        let wake = was_idle && !state.table.is_idle();
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        changed
    }

    fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits for `time`, or for the end.
    fn pause(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), time, |state| !state.stopping));
    }
}

/// Returns the milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
