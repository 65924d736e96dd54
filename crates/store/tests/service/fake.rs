//! A store in memory that fails on demand.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use midge_core::entry::Entry;
use midge_core::key::{Key, KeySpace};
use midge_store::{Backend, Change, KeyKind, Page, Store, StoreError, Watch, WatchMode, Write, Written};

#[derive(Default)]
struct State {
    entries: BTreeMap<Key, Entry>,
    away: bool,
    deaf: bool,
    hold: bool,
    panicking: bool,
    read_only: bool,
    slow: Duration,
    flood: Option<Duration>,
    holding: usize,
    connects: usize,
    reads: usize,
    replaces: usize,
    /// Which connections count: those of an earlier number have ended.
    life: usize,
    swaps: HashMap<Key, Entry>,
    watches: Vec<Sender<Change>>,
}

#[derive(Default)]
struct Inner {
    keys: KeySpace,
    state: Mutex<State>,
    released: Condvar,
}

/// A store in memory, and the switches of its faults.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Inner>);

impl Fake {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn backend(&self) -> Box<dyn Backend> {
        Box::new(self.clone())
    }

    pub(crate) fn put(&self, key: Key, entry: Entry) {
        self.lock().entries.insert(key, entry);
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.lock().entries.remove(key);
    }

    /// Forgets everything, and tells nobody.
    pub(crate) fn clear(&self) {
        self.lock().entries.clear();
    }

    /// Forgets everything, and says so: no reader finds the one without the other.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        state.entries.clear();
        state.watches.retain(|watch| watch.send(Change::Flushed).is_ok());
    }

    pub(crate) fn field(&self, key: &Key, field: &str) -> String {
        match self.lock().entries.get(key) {
            Some(Entry::Hash(fields)) => {
                let value = fields.iter().find(|(name, _)| name == field.as_bytes()).map(|(_, value)| value.clone());
                String::from_utf8(value.unwrap_or_default()).unwrap()
            }
            _ => String::new(),
        }
    }

    /// Ends all connections and makes no new ones.
    pub(crate) fn away(&self, away: bool) {
        let mut state = self.lock();
        state.away = away;
        state.life += 1;
        state.watches.clear();
    }

    /// Ends all announcements and lets nobody listen.
    pub(crate) fn deaf(&self, deaf: bool) {
        let mut state = self.lock();
        state.deaf = deaf;
        state.watches.clear();
    }

    /// Keeps whoever reads waiting, for at most five seconds, after which there is no answer.
    pub(crate) fn hold(&self, hold: bool) {
        self.lock().hold = hold;
        self.0.released.notify_all();
    }

    pub(crate) fn holding(&self) -> usize {
        self.lock().holding
    }

    pub(crate) fn panicking(&self, panicking: bool) {
        self.lock().panicking = panicking;
    }

    pub(crate) fn read_only(&self, read_only: bool) {
        self.lock().read_only = read_only;
    }

    pub(crate) fn slow(&self, by: Duration) {
        self.lock().slow = by;
    }

    /// Announces everything, again and again.
    pub(crate) fn flood(&self, every: Duration) {
        self.lock().flood = Some(every);
    }

    pub(crate) fn swap_before_replacing(&self, key: Key, entry: Entry) {
        self.lock().swaps.insert(key, entry);
    }

    pub(crate) fn announce(&self, change: &Change) {
        self.lock().watches.retain(|watch| watch.send(change.clone()).is_ok());
    }

    pub(crate) fn connects(&self) -> usize {
        self.lock().connects
    }

    pub(crate) fn reads(&self) -> usize {
        self.lock().reads
    }

    pub(crate) fn replaces(&self) -> usize {
        self.lock().replaces
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

fn away() -> StoreError {
    StoreError::Away("the fake is away".to_owned())
}

impl Backend for Fake {
    fn connect(&self) -> Result<Box<dyn Store>, StoreError> {
        let mut state = self.lock();
        state.connects += 1;
        if state.away { Err(away()) } else { Ok(Box::new(Connection { fake: self.clone(), life: state.life })) }
    }

    fn watch(&self) -> Result<Box<dyn Watch>, StoreError> {
        let mut state = self.lock();
        if state.away || state.deaf {
            return Err(away());
        }
        let (sender, changes) = channel();
        state.watches.push(sender);
        Ok(Box::new(Listener { fake: self.clone(), changes, heard_until: Instant::now() }))
    }

    fn key_space(&self) -> &KeySpace {
        &self.0.keys
    }
}

struct Connection {
    fake: Fake,
    life: usize,
}

impl Connection {
    /// Does what every question meets first.
    fn begin(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let slow = self.fake.lock().slow;
        std::thread::sleep(slow);
        let mut state = self.fake.lock();
        if state.panicking {
            drop(state);
            panic!("the fake panics");
        }
        if state.hold {
            state.holding += 1;
            let (woken, timeout) =
                self.fake.0.released.wait_timeout_while(state, Duration::from_secs(5), |state| state.hold).unwrap();
            state = woken;
            state.holding -= 1;
            if timeout.timed_out() {
                return Err(StoreError::Away("no answer in time".to_owned()));
            }
        }
        if state.away || state.life != self.life { Err(away()) } else { Ok(state) }
    }
}

impl Store for Connection {
    fn read(&mut self, keys: &[Key]) -> Result<Vec<Entry>, StoreError> {
        let mut state = self.begin()?;
        state.reads += 1;
        Ok(keys.iter().map(|key| state.entries.get(key).cloned().unwrap_or(Entry::Missing)).collect())
    }

    fn write(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        let state = self.begin()?;
        match state.read_only {
            true => Err(StoreError::Away("READONLY".to_owned())),
            false => Ok(writes.iter().map(|_| Written::Count(1)).collect()),
        }
    }

    fn list_page(&mut self, kind: KeyKind, _: &Page) -> Result<(Vec<Key>, Option<Page>), StoreError> {
        let state = self.begin()?;
        Ok((state.entries.keys().filter(|key| KeyKind::of(key) == Some(kind)).cloned().collect(), None))
    }

    fn replace_field(&mut self, key: &Key, field: &[u8], old: &[u8], new: &[u8]) -> Result<Written, StoreError> {
        let mut state = self.begin()?;
        if let Some(entry) = state.swaps.remove(key) {
            state.entries.insert(key.clone(), entry);
        }
        let Some(Entry::Hash(fields)) = state.entries.get_mut(key) else { return Ok(Written::Count(0)) };
        let found = fields.iter_mut().find(|(name, value)| name == field && value == old);
        let replaced = found.map(|(_, value)| *value = new.to_vec()).is_some();
        state.replaces += 1;
        Ok(Written::Count(u64::from(replaced)))
    }

    fn ping(&mut self) -> Result<(), StoreError> {
        self.begin().map(drop)
    }
}

struct Listener {
    fake: Fake,
    changes: Receiver<Change>,
    heard_until: Instant,
}

impl Watch for Listener {
    fn next(&mut self, wait: Duration) -> Result<Vec<Change>, StoreError> {
        self.heard_until = Instant::now();
        let flood = self.fake.lock().flood;
        if let Some(every) = flood {
            std::thread::sleep(every);
            return Ok(vec![Change::Everything]);
        }
        match self.changes.recv_timeout(wait) {
            Ok(change) => Ok(vec![change]),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Ok(Vec::new()),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(away()),
        }
    }

    fn heard_until(&self) -> Instant {
        self.heard_until
    }

    fn mode(&self) -> WatchMode {
        WatchMode::Tracking
    }
}
