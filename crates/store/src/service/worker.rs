//! The one thread that asks the store.
//!
//! In each turn it takes all that waits: logins, changed keys, effects to write, and a part of the sweep that follows a gap
//! and of the list of bans. Logins wait for at most one such part.
//!
//! **Away**: logins are decided from what is known; changed keys and the sweep wait.
//! **Emptied**: see [`emptiness`] and [`gone`].

mod bans;
mod effects;
mod emptiness;
mod gone;
mod lists;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use midge_core::directory::{Identity, Slot};
use midge_core::entry::Entry;
use midge_core::gate::{Admission, Asked, Hello, Stranger};
use midge_core::key::{Key, ShieldTarget};
use midge_core::time::Now;

use super::queue::{Job, MAX_CHANGED};
use super::reply::Reply;
use super::{Shared, Verdict};
use crate::guarded::guarded;
use crate::limiter::Limiter;
use crate::node::{Fact, Report};
use crate::{Backoff, Store, StoreError, Write, Written, node};
use bans::Bans;
use emptiness::Emptiness;
use gone::Gone;
use lists::Lists;

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
        connected_at: Duration::ZERO,
        asked_at: Duration::ZERO,
        losses: 0,
        changed: HashSet::new(),
        doubted: HashSet::new(),
        gone: Gone::default(),
        sweep: VecDeque::new(),
        bans: Bans::default(),
        lists: Lists::default(),
        emptiness: Emptiness::default(),
        effects_at: Duration::ZERO,
        rehashes: VecDeque::new(),
        beginnings: Limiter::new(6),
        complaints: Limiter::new(6),
        flaws: Limiter::new(20),
        refusals: Limiter::new(6),
        names: Limiter::new(1),
        reported: node::Last::default(),
    };
    loop {
        match guarded(|| worker.turn()) {
            Some(true) => {}
            Some(false) => return,
            None => {
                worker.lose(&StoreError::Away("internal error".to_owned()));
                // What was taken and not applied is known to nobody, so all is read again.
                guarded(|| worker.begin_epoch(worker.losses));
                shared.queue.pause(HEARTBEAT);
            }
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    store: Option<Box<dyn Store>>,
    backoff: Backoff,
    retry_at: Duration,
    connected_at: Duration,
    asked_at: Duration,
    /// How often announcements had been lost before the epoch that counts.
    losses: u64,
    /// Keys that were named as changed.
    changed: HashSet<Key>,
    /// The same, named before the connection was lost: that they are missing now may have another reason.
    doubted: HashSet<Key>,
    gone: Gone,
    sweep: VecDeque<Arc<Slot>>,
    bans: Bans,
    lists: Lists,
    emptiness: Emptiness,
    /// When effects may be written.
    effects_at: Duration,
    /// Stored passwords to be replaced: key, old, new.
    rehashes: VecDeque<(Key, Box<str>, String)>,
    beginnings: Limiter,
    complaints: Limiter,
    flaws: Limiter,
    /// Of single writes.
    refusals: Limiter,
    /// Of another server with the same name.
    names: Limiter,
    reported: node::Last,
}

/// Somebody who waits for an account.
enum Waiter {
    Login(Hello, Reply<Verdict>),
    Prepare(Reply<Asked>),
}

impl Worker<'_> {
    /// Takes and does all that waits; returns whether to go on.
    fn turn(&mut self) -> bool {
        let waiting = self.shared.queue.take(self.patience(), self.gone.wants());
        if waiting.stopping {
            self.dismiss(waiting.jobs);
            return false;
        }
        if waiting.flushed {
            self.emptiness.doubt(self.now());
        }
        if let Some(losses) = waiting.everything {
            self.begin_epoch(losses);
        }
        self.take_changed(waiting.changed);
        self.connect();
        // Changes first: a login that comes after one must see it.
        self.confirm_gone(waiting.heard);
        self.read_changed();
        self.answer(waiting.jobs);
        self.read_bans();
        self.read_lists();
        self.sweep_some();
        self.end_emptiness();
        self.write_effects();
        self.report();
        self.heartbeat();
        true
    }

    fn now(&self) -> Now {
        self.shared.clock.now()
    }

    fn patience(&self) -> Duration {
        let now = self.now().monotonic;
        let work_left = !self.changed.is_empty() || !self.doubted.is_empty() || !self.sweep.is_empty() || !self.rehashes.is_empty();
        match (&self.store, work_left) {
            (Some(_), true) => Duration::ZERO,
            (Some(_), false) => {
                let due = self.bans.due().into_iter().chain(self.lists.due()).min();
                due.map_or(HEARTBEAT, |due| due.saturating_sub(now).min(HEARTBEAT))
            }
            (None, _) => self.retry_at.saturating_sub(now).min(HEARTBEAT),
        }
    }

    fn begin_epoch(&mut self, losses: u64) {
        // Nobody knows any longer why they are missing.
        self.gone.take_all();
        // Lost again meanwhile: there will be another beginning.
        if !self.shared.gate.directory().linked_since(losses) {
            return;
        }
        if self.losses != losses {
            // Who is followed now may be another server than the one that was asked so far.
            self.store = None;
            self.bans.begin_anew();
        }
        // What was listed in another epoch is no word about this one.
        self.lists.begin_anew();
        self.losses = losses;
        self.changed.clear();
        self.doubted.clear();
        self.sweep_all();
        self.bans.want();
        self.lists.want();
    }

    /// Has all live accounts read; those that an earlier sweep has not come to are first, so that each has its turn.
    fn sweep_all(&mut self) {
        let mut held: HashSet<*const Slot> = self.sweep.iter().map(Arc::as_ptr).collect();
        let live = self.shared.gate.directory().live();
        self.sweep.extend(live.into_iter().filter(|slot| held.insert(Arc::as_ptr(slot))));
    }

    fn take_changed(&mut self, keys: HashSet<Key>) {
        if keys.is_empty() {
            return;
        }
        self.emptiness.stir(self.now());
        let to = if self.store.is_some() { &mut self.changed } else { &mut self.doubted };
        to.extend(keys);
        if self.changed.len() + self.doubted.len() + self.gone.len() > MAX_CHANGED {
            self.begin_epoch(self.losses);
        }
    }

    fn connect(&mut self) {
        if self.store.is_some() || self.now().monotonic < self.retry_at || self.shared.queue.is_stopping() {
            return;
        }
        match self.shared.backend.connect() {
            Ok(store) => {
                self.store = Some(store);
                self.connected_at = self.now().monotonic;
                if self.ask(|store| store.ping()).is_some() && self.beginnings.pass(self.connected_at).is_some() {
                    log::info!("connected to the store");
                }
            }
            Err(error) => self.lose(&error),
        }
    }

    fn lose(&mut self, error: &StoreError) {
        let now = self.now().monotonic;
        self.store = None;
        self.retry_at = now + self.backoff.wait();
        self.doubted.extend(self.changed.drain());
        self.doubted.extend(self.gone.take_all());
        self.bans.begin_anew();
        self.lists.begin_anew();
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
        // A slow store shall not hold up the end by one question after the other.
        if self.shared.queue.is_stopping() {
            return None;
        }
        self.asked_at = self.now().monotonic;
        let store = self.store.as_mut()?;
        let start = Instant::now();
        match question(store.as_mut()) {
            Ok(answer) => {
                let took = start.elapsed();
                self.backoff.held(self.asked_at.saturating_sub(self.connected_at));
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
        let is_lost = |(key, entry): &&(Key, Entry)| *entry == Entry::Missing && directory.knows(key);
        let lost = self.lost_of(read.iter().filter(is_lost).map(|(key, _)| key));
        let taken: Vec<(Key, Entry)> = read.into_iter().filter(|(key, _)| !lost.contains(key)).collect();
        self.apply(&taken);
        lost
    }

    fn apply(&mut self, read: &[(Key, Entry)]) {
        let now = self.now();
        self.see_policy(read);
        self.bans.see(read, now);
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

    /// Reads the keys that were named as changed. One that is missing now was deleted, unless all was lost: see [`gone`].
    fn read_changed(&mut self) {
        let directory = self.shared.gate.directory();
        self.changed.retain(|key| directory.concerns(key));
        self.doubted.retain(|key| directory.concerns(key));
        let keys: Vec<Key> = self.changed.union(&self.doubted).take(BATCH).cloned().collect();
        if keys.is_empty() || self.store.is_none() {
            return;
        }
        let Some(read) = self.read(&keys) else { return };
        let read_at = Instant::now();
        let (named, doubted): (Vec<_>, Vec<_>) = read.into_iter().partition(|(key, _)| self.changed.contains(key));
        for key in &keys {
            self.changed.remove(key);
            self.doubted.remove(key);
        }
        let named = self.gone.set_aside(named, self.shared.gate.directory(), read_at);
        self.apply_named(named);
        self.settle(doubted);
        self.read_groups(keys.iter());
    }

    /// Applies what was read of keys that were named as changed.
    fn apply_named(&mut self, mut named: Vec<(Key, Entry)>) {
        // A group that a record names for the first time is applied with it, so that its members are never without it.
        let Some(beside) = self.read(&self.shared.gate.directory().wants_beside(&named)) else {
            return self.doubted.extend(named.into_iter().map(|(key, _)| key));
        };
        named.extend(beside);
        self.apply(&named);
    }

    /// Reads the groups that the users' records among `keys` name now.
    fn read_groups<'k>(&mut self, keys: impl Iterator<Item = &'k Key>) {
        let users = keys.filter_map(|key| match key {
            Key::User(name) => Some(self.shared.gate.directory().slots_of(name)),
            _ => None,
        });
        let slots: Vec<Arc<Slot>> = users.flatten().collect();
        let groups = self.wanted(slots.iter());
        if let Some(read) = self.read(&groups) {
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
                Job::Login { hello, reply } => match self.shared.gate.admit(hello.clone(), Asked::Memory, now) {
                    Admission::Load(slot) => {
                        let targets = self.shared.gate.shield().targets(hello.user.as_ref(), hello.address);
                        waiters.push((slot, targets, Waiter::Login(hello, reply)));
                    }
                    other => self.shared.go_on(other, hello, reply),
                },
                Job::Prepare { user, reply } => {
                    let slot = self.shared.gate.directory().slot(&Identity::user(&user), now);
                    let targets = self.shared.gate.shield().targets(Some(&user), None);
                    waiters.push((slot, targets, Waiter::Prepare(reply)));
                }
            }
        }
        if waiters.is_empty() {
            return;
        }
        // Whose name nobody has may count as nobody.
        let is_nameless = |waiter: &Waiter| matches!(waiter, Waiter::Login(hello, _) if hello.stranger == Stranger::Nameless);
        let nobody = waiters.iter().any(|(_, _, waiter)| is_nameless(waiter));
        let nobody = nobody.then(|| self.shared.gate.directory().slot(&Identity::ANONYMOUS, now));
        let lost = self.load(&waiters, nobody.as_ref());
        for (slot, _, waiter) in waiters {
            let is_lost = |lost: &HashSet<Key>| slot.identity().user.clone().is_some_and(|user| lost.contains(&Key::User(user)));
            let asked = if lost.as_ref().is_none_or(is_lost) { Asked::StoreAway } else { Asked::Store };
            match waiter {
                Waiter::Prepare(reply) => reply.send(asked),
                Waiter::Login(hello, reply) => {
                    let admission = self.shared.gate.admit(hello, asked, self.now());
                    self.shared.finish(admission, reply);
                }
            }
        }
    }

    /// Reads all accounts that are waited for, and that of `nobody`: users in one round trip, then the groups that came up new.
    fn load(&mut self, waiters: &[(Arc<Slot>, Vec<ShieldTarget>, Waiter)], nobody: Option<&Arc<Slot>>) -> Option<HashSet<Key>> {
        let slots = || waiters.iter().map(|(slot, _, _)| slot).chain(nobody);
        let mut keys = self.wanted(slots());
        let directory = self.shared.gate.directory();
        let of_client = |(_, _, waiter): &(_, _, Waiter)| match waiter {
            Waiter::Login(hello, _) => directory.wants_of_client(&hello.client),
            Waiter::Prepare(_) => None,
        };
        keys.extend(waiters.iter().filter_map(of_client).collect::<HashSet<Key>>());
        let targets: HashSet<&ShieldTarget> = waiters.iter().flat_map(|(_, targets, _)| targets).collect();
        keys.extend(targets.into_iter().cloned().map(Key::Shield));
        let read = self.read(&keys)?;
        let already: HashSet<Key> = keys.into_iter().collect();
        let mut lost = self.settle(read);
        let more: Vec<Key> = self.wanted(slots()).into_iter().filter(|key| !already.contains(key)).collect();
        let read = self.read(&more)?;
        lost.extend(self.settle(read));
        Some(lost)
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
            let Some(read) = self.read(&keys) else { return };
            self.settle(read);
            already.extend(keys);
        }
        self.sweep.drain(..slots.len());
    }

    /// Writes how this server is.
    fn report(&mut self) {
        let Some(report) = self.shared.report.get() else { return };
        let now = self.now();
        if self.store.is_none() || !self.reported.is_due(now.monotonic) {
            return;
        }
        if self.reported.written {
            let Some(found) = self.ask(|store| store.read(&[report.key()])) else { return };
            if found.first().is_some_and(|found| report.life.compare(found)) {
                self.complain_of_name(report);
            }
        }
        let mut facts = (report.collect)();
        facts.extend(self.facts());
        let mut fields = self.reported.fields(&facts, now.monotonic, now.unix);
        fields.push(report.life.field());
        let write = Write::Renew { key: report.key(), fields, ttl: node::LEASE };
        match self.ask(|store| store.write(&[write])).and_then(|mut written| written.pop()) {
            Some(Written::Failed(why)) => {
                self.complain_of_write(&report.key(), "this server's state can't be shown in the store", &why);
                self.reported.rest(now.monotonic);
            }
            Some(Written::Count(_)) => self.reported.written = true,
            None => {}
        }
    }

    fn complain_of_name(&mut self, report: &Report) {
        if let Some(held_back) = self.names.pass(self.now().monotonic) {
            log::error!(
                "another broker calls itself \"{}\" as well: give each its own name by the option node, or their state, presence and pushes are mixed up ({held_back} more of these not shown)",
                midge_core::name::Shown(report.node.as_str())
            );
        }
    }

    /// Returns what this thread knows of itself.
    fn facts(&self) -> [(&'static str, Fact); 6] {
        let health = self.shared.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let directory = self.shared.gate.directory();
        [
            ("store_round_trip_us", Fact::Gauge(u64::try_from(health.round_trip.as_micros()).unwrap_or(u64::MAX))),
            ("store_failures", Fact::Counter(health.failures)),
            ("store_emptied", Fact::Gauge(health.emptied.into())),
            ("following", Fact::Text(health.watch_mode.filter(|_| directory.is_linked()).unwrap_or("nothing").to_owned())),
            ("hashed", Fact::Counter(self.shared.hashed.load(Ordering::Relaxed))),
            ("busy", Fact::Counter(self.shared.busy.load(Ordering::Relaxed))),
        ]
    }

    fn heartbeat(&mut self) {
        if self.store.is_some() && self.now().monotonic.saturating_sub(self.asked_at) >= HEARTBEAT {
            self.ask(|store| store.ping());
        }
    }

    fn dismiss(&self, jobs: Vec<Job>) {
        for job in jobs {
            match job {
                Job::Login { reply, .. } => self.shared.refuse_busy(reply),
                Job::Prepare { reply, .. } => reply.send(Asked::StoreAway),
            }
        }
    }
}
