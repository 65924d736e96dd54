//! The one thread that asks the store.
//!
//! In each turn it takes all that waits: logins, changed keys, effects to write, and a part of the sweep that follows a gap.
//!
//! **Away**: logins are decided from what is known; changed keys and the sweep wait.
//! **Emptied**: a store that comes back without a single policy key, where accounts are known, was restarted empty or flushed.
//! That is no word about anybody's account, so what is missing counts as not asked, until the bounded age is over;
//! a key that is deleted by itself is announced by name, and counts at once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use midge_core::bans::Ban;
use midge_core::directory::{Identity, Slot};
use midge_core::entry::Entry;
use midge_core::gate::{Admission, Asked, Effect, StoreDown};
use midge_core::key::{Key, ShieldTarget};
use midge_core::time::Now;

use super::limiter::Limiter;
use super::queue::Job;
use super::{Done, Shared};
use crate::{Backoff, KeyKind, Store, StoreError, Write, Written};

/// How many keys one round trip asks for at most.
const BATCH: usize = 2_048;
/// How many live accounts of a sweep are read between two looks at what waits.
const SWEEP: usize = 256;
/// How often an idle store is asked whether it is there.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The body of the store's thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut worker = Worker {
        shared,
        store: None,
        backoff: Backoff::default(),
        retry_at: Duration::ZERO,
        asked_at: Duration::ZERO,
        changed: HashSet::new(),
        sweep: VecDeque::new(),
        bans_wanted: false,
        emptied: None,
        empty_checked: true,
        complaints: Limiter::new(6),
        flaws: Limiter::new(20),
    };
    while worker.turn() {}
}

struct Worker<'a> {
    shared: &'a Shared,
    store: Option<Box<dyn Store>>,
    backoff: Backoff,
    retry_at: Duration,
    asked_at: Duration,
    changed: HashSet<Key>,
    sweep: VecDeque<Arc<Slot>>,
    bans_wanted: bool,
    /// Since when the store has been without any policy.
    emptied: Option<Duration>,
    /// Whether the store was looked at for that since the last gap.
    empty_checked: bool,
    complaints: Limiter,
    flaws: Limiter,
}

/// Somebody who waits for an account.
enum Waiter {
    Login(midge_core::gate::Hello, Done),
    Prepare(Box<dyn FnOnce(Asked) + Send>),
}

impl Worker<'_> {
    /// Takes and does all that waits; returns whether to go on.
    fn turn(&mut self) -> bool {
        let waiting = self.shared.queue.take(self.patience());
        if waiting.stopping {
            self.dismiss(waiting.jobs);
            return false;
        }
        if waiting.everything {
            self.begin_epoch();
        }
        self.changed.extend(waiting.changed);
        self.connect();
        // Changes first: a login that comes after one must see it.
        self.read_changed();
        self.answer(waiting.jobs);
        self.read_bans();
        self.sweep_some();
        self.end_emptiness();
        self.write_effects();
        self.heartbeat();
        true
    }

    fn now(&self) -> Now {
        self.shared.clock.now()
    }

    fn patience(&self) -> Duration {
        let work_left = !self.changed.is_empty() || !self.sweep.is_empty() || self.bans_wanted;
        match (&self.store, work_left) {
            (Some(_), true) => Duration::ZERO,
            (Some(_), false) => HEARTBEAT,
            (None, _) => self.retry_at.saturating_sub(self.now().monotonic).min(HEARTBEAT),
        }
    }

    fn begin_epoch(&mut self) {
        self.shared.gate.directory().linked();
        self.changed.clear();
        self.sweep = self.shared.gate.directory().live().into();
        self.bans_wanted = true;
        self.empty_checked = false;
    }

    fn connect(&mut self) {
        if self.store.is_some() || self.now().monotonic < self.retry_at {
            return;
        }
        match self.shared.backend.connect() {
            Ok(store) => {
                self.backoff.reset();
                self.store = Some(store);
                log::info!("connected to the store");
                self.ask(|store| store.ping());
            }
            Err(error) => self.lose(&error),
        }
    }

    fn lose(&mut self, error: &StoreError) {
        let now = self.now().monotonic;
        self.store = None;
        self.retry_at = now + self.backoff.wait();
        self.shared.away.store(true, Ordering::Release);
        self.shared.note(|health| {
            health.connected = false;
            health.failures += 1;
            health.last_error = Some(error.to_string());
        });
        if let Some(held_back) = self.complaints.pass(now) {
            log::warn!("the store can't be asked: {error} ({held_back} more of these not shown)");
        }
    }

    /// Asks the store, if it is there; an error loses the connection.
    fn ask<T>(&mut self, question: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Option<T> {
        self.asked_at = self.now().monotonic;
        let store = self.store.as_mut()?;
        let start = Instant::now();
        match question(store.as_mut()) {
            Ok(answer) => {
                let took = start.elapsed();
                self.shared.round_trip_us.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
                self.shared.away.store(false, Ordering::Release);
                self.shared.note(|health| {
                    health.connected = true;
                    health.round_trip = took;
                    health.round_trips += 1;
                });
                Some(answer)
            }
            Err(error) => {
                self.lose(&error);
                None
            }
        }
    }

    fn read(&mut self, keys: &[Key]) -> Option<Vec<(Key, Entry)>> {
        let mut read = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let entries = self.ask(|store| store.read(batch))?;
            read.extend(batch.iter().cloned().zip(entries));
        }
        Some(read)
    }

    /// Applies what was read; returns the keys that the store has lost and whose known content stays.
    fn settle(&mut self, read: Vec<(Key, Entry)>) -> HashSet<Key> {
        let directory = self.shared.gate.directory();
        let mut kept = HashSet::new();
        let lost: Vec<&Key> =
            read.iter().filter(|(key, entry)| *entry == Entry::Missing && directory.knows(key)).map(|(key, _)| key).collect();
        if !lost.is_empty() {
            let lost: Vec<Key> = lost.into_iter().cloned().collect();
            self.look_for_emptiness();
            if self.emptied.is_some() {
                kept.extend(lost);
            }
        }
        let taken: Vec<(Key, Entry)> = read.into_iter().filter(|(key, _)| !kept.contains(key)).collect();
        self.apply(&taken);
        kept
    }

    fn apply(&mut self, read: &[(Key, Entry)]) {
        let now = self.now();
        for (key, entry) in read {
            if let (Key::Shield(target), Entry::Text { value, .. }) = (key, entry)
                && let Some(failures) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok())
            {
                self.shared.gate.shield().learn(target, failures, now);
            }
        }
        for flawed in self.shared.gate.directory().apply(read, now) {
            if let Some(held_back) = self.flaws.pass(now.monotonic) {
                let key = self.shared.backend.key_space().render(&flawed.key);
                let key = midge_core::name::Shown(&key).to_string();
                log::warn!("{key}: {} ({held_back} more keys not shown)", flawed.flaws.join("; "));
            }
        }
    }

    fn look_for_emptiness(&mut self) {
        if self.empty_checked {
            return;
        }
        let mut found = false;
        for kind in [KeyKind::User, KeyKind::AllAcl, KeyKind::GroupAcl, KeyKind::UserAcl] {
            let asked = self.ask(|store| {
                store.list(kind, &mut |_| {
                    found = true;
                    std::ops::ControlFlow::Break(())
                })
            });
            if asked.is_none() || found {
                break;
            }
        }
        if self.store.is_none() {
            return;
        }
        self.empty_checked = true;
        let was = self.emptied.is_some();
        self.emptied = (!found).then(|| self.emptied.unwrap_or_else(|| self.now().monotonic));
        self.shared.note(|health| health.emptied = !found);
        match (was, found) {
            (false, false) => {
                log::error!("the store has lost all users and rules; what is known of them stays in force for the bounded age")
            }
            (true, true) => log::info!("the store has users and rules again"),
            _ => {}
        }
    }

    /// Lets an emptied store's word count once the bounded age is over.
    fn end_emptiness(&mut self) {
        let Some(since) = self.emptied else { return };
        let over = match self.shared.gate.store_down() {
            StoreDown::Deny => true,
            StoreDown::LastKnownGood(longest) => self.now().monotonic.saturating_sub(since) > longest,
        };
        if over {
            log::error!("the store is still empty: its users no longer exist");
            self.emptied = None;
            self.empty_checked = true;
            self.shared.note(|health| health.emptied = false);
            self.sweep = self.shared.gate.directory().live().into();
        }
    }

    /// Reads the keys that were named as changed. A key that is missing now was deleted, whatever else the store has lost.
    fn read_changed(&mut self) {
        let directory = self.shared.gate.directory();
        self.changed.retain(|key| directory.concerns(key));
        if self.changed.is_empty() || self.store.is_none() {
            return;
        }
        let keys: Vec<Key> = self.changed.iter().take(BATCH).cloned().collect();
        let Some(read) = self.read(&keys) else { return };
        for key in &keys {
            self.changed.remove(key);
        }
        self.apply(&read);
        let slots: Vec<Arc<Slot>> = keys
            .iter()
            .filter_map(|key| match key {
                Key::User(name) => Some(self.shared.gate.directory().slots_of(name)),
                _ => None,
            })
            .flatten()
            .collect();
        let groups = self.wanted(slots.iter());
        if !groups.is_empty()
            && let Some(read) = self.read(&groups)
        {
            self.settle(read);
        }
    }

    fn wanted<'s>(&self, slots: impl Iterator<Item = &'s Arc<Slot>>) -> Vec<Key> {
        let keys: HashSet<Key> = slots.flat_map(|slot| self.shared.gate.directory().wants(slot)).collect();
        keys.into_iter().collect()
    }

    fn answer(&mut self, jobs: Vec<Job>) {
        let now = self.now();
        let mut waiters: Vec<(Arc<Slot>, Vec<ShieldTarget>, Waiter)> = Vec::new();
        for job in jobs {
            match job {
                Job::Login { hello, done } => match self.shared.gate.admit(hello.clone(), Asked::Memory, now) {
                    Admission::Load(slot) => {
                        let targets = self.shared.gate.shield().targets(hello.user.as_ref(), hello.address);
                        waiters.push((slot, targets, Waiter::Login(hello, done)));
                    }
                    other => self.shared.go_on(other, hello, done),
                },
                Job::Prepare { user, done } => {
                    let slot = self.shared.gate.directory().slot(&Identity::user(&user), now);
                    let targets = self.shared.gate.shield().targets(Some(&user), None);
                    waiters.push((slot, targets, Waiter::Prepare(done)));
                }
            }
        }
        if waiters.is_empty() {
            return;
        }
        let lost = self.load(&waiters);
        for (slot, _, waiter) in waiters {
            let asked = match &lost {
                Some(kept) if !slot.identity().user.as_ref().is_some_and(|user| kept.contains(&Key::User(user.clone()))) => {
                    Asked::Store
                }
                _ => Asked::StoreAway,
            };
            match waiter {
                Waiter::Prepare(done) => done(asked),
                Waiter::Login(hello, done) => {
                    let admission = self.shared.gate.admit(hello.clone(), asked, self.now());
                    self.shared.finish(admission, done);
                }
            }
        }
    }

    /// Reads all accounts that are waited for: users in one round trip, then the groups that came up new.
    fn load(&mut self, waiters: &[(Arc<Slot>, Vec<ShieldTarget>, Waiter)]) -> Option<HashSet<Key>> {
        let slots = || waiters.iter().map(|(slot, _, _)| slot);
        let mut keys = self.wanted(slots());
        let targets: HashSet<&ShieldTarget> = waiters.iter().flat_map(|(_, targets, _)| targets).collect();
        keys.extend(targets.into_iter().cloned().map(Key::Shield));
        let read = self.read(&keys)?;
        let already: HashSet<Key> = keys.into_iter().collect();
        let mut kept = self.settle(read);
        let more: Vec<Key> = self.wanted(slots()).into_iter().filter(|key| !already.contains(key)).collect();
        if !more.is_empty() {
            let read = self.read(&more)?;
            kept.extend(self.settle(read));
        }
        Some(kept)
    }

    fn sweep_some(&mut self) {
        if self.store.is_none() || self.sweep.is_empty() {
            return;
        }
        let slots: Vec<Arc<Slot>> = self.sweep.iter().take(SWEEP).cloned().collect();
        let mut already = HashSet::new();
        // A second pass for the groups that the records name now.
        for _ in 0..2 {
            let keys: Vec<Key> = self.wanted(slots.iter()).into_iter().filter(|key| !already.contains(key)).collect();
            if keys.is_empty() {
                break;
            }
            let Some(read) = self.read(&keys) else { return };
            self.settle(read);
            already.extend(keys);
        }
        self.sweep.drain(..slots.len());
    }

    fn read_bans(&mut self) {
        if !self.bans_wanted || self.store.is_none() {
            return;
        }
        let mut targets = Vec::new();
        let listed = self.ask(|store| {
            store.list(KeyKind::Ban, &mut |key| {
                targets.push(key);
                std::ops::ControlFlow::Continue(())
            })
        });
        let Some(read) = listed.and_then(|()| self.read(&targets)) else { return };
        let now = self.now();
        let bans = read.into_iter().filter_map(|(key, entry)| match (key, &entry) {
            (_, Entry::Missing) => None,
            (Key::Ban(target), entry) => Some((target, Ban::from_entry(entry, now))),
            _ => None,
        });
        let refused = self.shared.gate.directory().replace_bans(bans);
        if refused > 0 {
            log::error!("{refused} bans have no room and don't hold: at most {} are held", midge_core::bans::MAX_BANS);
        }
        self.bans_wanted = false;
    }

    fn write_effects(&mut self) {
        let effects = self.shared.gate.take_effects();
        if effects.is_empty() || self.store.is_none() {
            return;
        }
        let window = self.shared.gate.shield().window();
        let mut writes = Vec::new();
        let mut rehashes = Vec::new();
        for effect in effects {
            match effect {
                Effect::Failed(targets) => {
                    writes.extend(targets.into_iter().map(|target| Write::Increment { key: Key::Shield(target), ttl: window }));
                }
                Effect::Forgiven(target) => writes.push(Write::Remove(Key::Shield(target))),
                Effect::Rehash { user, old, new } => rehashes.push((Key::User(user), old, new)),
            }
        }
        if let Some(written) = self.ask(|store| store.write(&writes)) {
            let counts = writes.iter().zip(written).filter_map(|(write, written)| match (write, written) {
                (Write::Increment { key: Key::Shield(target), .. }, Written::Count(count)) => Some((target.clone(), count)),
                _ => None,
            });
            let now = self.now();
            for (target, count) in counts {
                self.shared.gate.shield().learn(&target, u32::try_from(count).unwrap_or(u32::MAX), now);
            }
        }
        for (key, old, new) in rehashes {
            self.rehash(&key, &old, new);
        }
    }

    /// Replaces a stored password, unless somebody else has meanwhile.
    fn rehash(&mut self, key: &Key, old: &str, new: String) {
        let Some(read) = self.read(std::slice::from_ref(key)) else { return };
        let unchanged = read.iter().any(|(_, entry)| match entry {
            Entry::Hash(fields) => fields.iter().any(|(field, value)| field == b"password" && value == old.as_bytes()),
            _ => false,
        });
        if unchanged {
            let write = Write::SetFields(key.clone(), vec![(b"password".to_vec(), new.into_bytes())]);
            self.ask(|store| store.write(&[write]));
        }
    }

    fn heartbeat(&mut self) {
        if self.store.is_some() && self.now().monotonic.saturating_sub(self.asked_at) >= HEARTBEAT {
            self.ask(|store| store.ping());
        }
    }

    fn dismiss(&self, jobs: Vec<Job>) {
        for job in jobs {
            match job {
                Job::Login { done, .. } => self.shared.refuse_busy(done),
                Job::Prepare { done, .. } => done(Asked::StoreAway),
            }
        }
    }
}
