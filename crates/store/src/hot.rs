//! Adds up what topics carry, over all nodes.
//!
//! A thread of its own takes what counters have counted, once a second, and writes it into sorted sets, with a connection of its own:
//! neither who counts nor who logs in waits for it. What is written and what may be wrong is told in [`midge_core::hot`].
//!
//! While the store is away, counts are kept in memory that doesn't grow, and are written when it is back; what leaves its window meanwhile
//! is lost, and counted. A store that comes back without them is given what this run still knows.
//!
//! | key | type | content |
//! |---|---|---|
//! | `hot:{METRIC}:WINDOW:BUCKET` | sorted set, TTL | topic → what was counted in the bucket that begins at BUCKET, in seconds since 1970 |
//! | `hot:{METRIC}:WINDOW:now` | sorted set, TTL | topic → the same over the whole window, made anew by whichever node comes first |
//! | `hot:{METRIC}:applied:NODE` | hash, TTL | `mark` and `parts`: what the node has written, so that nothing is written twice |
//!
//! Each set keeps its [`MAX_MEMBERS`] hottest topics. A topic that fell out and goes on is written again by its nodes, each with all it
//! has, publishers excepted.

mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use midge_core::hot::{Capacity, Counter, HotTopic, Metric, Part, Ranking, RollUp, Seed, Tally, Window};

use crate::node::Fact;
use crate::{Backend, StoreError};

/// How many topics a sorted set of a bucket keeps, the hottest ones.
pub const MAX_MEMBERS: usize = 2_048;
/// How many topics the set of a whole window keeps.
pub const MAX_MEMBERS_NOW: usize = 2 * MAX_MEMBERS;

/// How often counts are taken and written.
const FLUSH: Duration = Duration::from_secs(1);

/// What a store answers to a part that it has applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How many parts of this metric and node there were since the store began.
    pub parts: u64,
    /// The score that each member has now, by bucket.
    pub scores: Vec<Vec<Option<i64>>>,
}

/// The sorted sets of topics. One connection; an error ends its use.
pub trait HotLog: Send {
    /// Applies a part of `node`'s counts, all of it or nothing.
    ///
    /// # Errors
    /// No answer; the part may have been applied, which [`Self::last`] tells.
    fn apply(&mut self, node: &str, part: &Part) -> Result<Applied, StoreError>;

    /// Returns the mark of the last part that was applied for `node`, and how many there were.
    ///
    /// # Errors
    /// No answer.
    fn last(&mut self, node: &str, metric: Metric) -> Result<Option<(String, u64)>, StoreError>;

    /// Makes the sets of the whole window at `unix`, in seconds since 1970, anew, unless somebody did so within [`Window::flush_seconds`].
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn refresh(&mut self, window: Window, unix: u64) -> Result<(), StoreError>;

    /// Returns the `count` hottest topics of a window by `metric`, over all nodes.
    ///
    /// A figure is 0 where the topic is not among the [`MAX_MEMBERS_NOW`] hottest by it.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn top(&mut self, window: Window, metric: Metric, count: usize) -> Result<Vec<HotTopic>, StoreError>;
}

/// How topics are counted.
#[derive(Clone, Debug)]
pub struct HotSettings {
    /// The node's name, under which is kept what it has written.
    pub node: String,
    /// Patterns under which topics are counted together.
    pub roll_up: Arc<RollUp>,
    /// How many topics a published list has; none are made where it is 0.
    pub list: usize,
    /// How often lists are made.
    pub interval: Duration,
}

impl Default for HotSettings {
    fn default() -> Self {
        Self { node: "midge".to_owned(), roll_up: Arc::default(), list: 20, interval: Duration::from_secs(10) }
    }
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HotCounters {
    /// Parts that the store has applied.
    pub flushed: u64,
    /// Times that it couldn't be asked.
    pub failed: u64,
    /// Increments lost because their topic or bucket was gone before the store was back.
    pub dropped: u64,
}

#[derive(Default)]
struct Counts {
    flushed: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    full: Vec<(Tally, u64)>,
    empty: Vec<Tally>,
    lists: Vec<Ranking>,
    stopping: bool,
}

struct Shared {
    /// None where counts stay in this process.
    backend: Option<Box<dyn Backend>>,
    settings: HotSettings,
    seed: Seed,
    state: Mutex<State>,
    changed: Condvar,
    counts: Counts,
}

/// The thread that adds up, and what it has added up.
pub struct HotTopics {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl HotTopics {
    /// Starts the thread, which calls `begin` before it does anything else; without a backend, counts stay in this process.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start_in(backend: Option<Box<dyn Backend>>, settings: HotSettings, begin: fn()) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            backend,
            settings,
            seed: Seed::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
            counts: Counts::default(),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("midge-hot".to_owned()).spawn(move || {
            begin();
            worker::run(&of_thread);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns a counter for one thread, such as an event loop, which passes on what it has counted by [`Self::collect`].
    #[must_use]
    pub fn counter(&self) -> Counter {
        let tally = || Tally::new(Capacity::TALLY, self.shared.settings.roll_up.clone());
        self.shared.lock().empty.push(tally());
        Counter::new(self.shared.seed.clone(), tally())
    }

    /// Returns what places publishers; see [`Seed::publisher`].
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.shared.seed
    }

    /// Takes what a counter has counted; to be called once a second by its thread, and once before the end.
    ///
    /// Never waits: where the last second is still being written, the counter goes on and is asked again.
    pub fn collect(&self, counter: &mut Counter) {
        let mut state = self.shared.lock();
        if let Some(empty) = state.empty.pop() {
            let full = counter.swap(empty);
            state.full.push((full, unix()));
        }
    }

    /// Returns the ranked lists that were made since the last call, one for each window; mostly none.
    #[must_use]
    pub fn take_lists(&self) -> Vec<Ranking> {
        std::mem::take(&mut self.shared.lock().lists)
    }

    /// Returns a function that returns what a server reports of it.
    pub fn facts(&self) -> impl Fn() -> [(&'static str, Fact); 3] + Send + Sync + use<> {
        let counters = self.counting();
        move || {
            let HotCounters { flushed, failed, dropped, .. } = counters();
            [("hot_flushed", flushed), ("hot_failed", failed), ("hot_dropped", dropped)]
                .map(|(name, count)| (name, Fact::Counter(count)))
        }
    }

    /// Returns a function that returns what has happened since the start, for who outlives this.
    pub fn counting(&self) -> impl Fn() -> HotCounters + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let Counts { flushed, failed, dropped } = &shared.counts;
            HotCounters { flushed: count(flushed), failed: count(failed), dropped: count(dropped) }
        }
    }
}

impl Drop for HotTopics {
    /// Has the thread write what there is, once, and waits for it: a host may unmap this code afterwards.
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

    /// Waits for `time`, or for the end; returns whether it has come.
    fn pause(&self, time: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), time, |state| !state.stopping);
        waited.map_or_else(|poisoned| poisoned.into_inner().0.stopping, |(state, _)| state.stopping)
    }
}

/// Returns the seconds since 1970.
fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
