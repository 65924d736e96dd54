//! All accounts that are known, and what changed about them.
//!
//! One writer, the store's worker, applies entries; any thread reads.
//! A client's policy is an immutable snapshot that a change replaces by one atomic swap: whoever checks never waits.
//! An account is *fresh* while the store's changes reach us without a gap since it was read;
//! each gap begins a new epoch, and what was read before it counts as last-known-good only.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::bans::{Ban, BanList};
use crate::entry::{Entry, Fields};
use crate::key::{BanTarget, Key};
use crate::name::{GroupName, Username};
use crate::policy::Policy;
use crate::record::UserRecord;
use crate::rules::RuleSet;
use crate::time::Now;

/// The group whose rules anonymous clients get, beside everyone's.
pub const ANONYMOUS_GROUP: &str = "anonymous";

/// How much the directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    /// Accounts kept in memory beyond those of live clients; at the bound, unknown names go first, then the longest unused.
    pub accounts: usize,
    /// How many of them may be names that the store doesn't know.
    pub unknown: usize,
}

impl Default for DirectorySettings {
    fn default() -> Self {
        Self { accounts: 200_000, unknown: 10_000 }
    }
}

/// Whose account it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The username; `None` is the anonymous client.
    pub user: Option<Username>,
    /// The groups that a token grants. With a token the store need not know the user.
    pub token: Option<Arc<[GroupName]>>,
}

impl Identity {
    /// The identity of clients without a username.
    pub const ANONYMOUS: Self = Self { user: None, token: None };

    /// Returns the identity of a user of the store.
    #[must_use]
    pub fn user(name: &Username) -> Self {
        Self { user: Some(name.clone()), token: None }
    }
}

/// Whether an account lets anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Active,
    /// The record says `enabled` 0, or holds something unreadable that might say so.
    Disabled,
    /// The store has no such user.
    Missing,
    /// The store's key can't be read as a user.
    Unreadable,
    /// The store has not been asked yet.
    Unknown,
}

#[derive(Clone, Debug)]
struct Part<T> {
    value: T,
    /// A keyed hash of the entry, so that reading the same again replaces nothing.
    print: u64,
    /// The epoch in which the store last said so; 0 is never.
    epoch: u64,
    at: Duration,
}

impl<T: Default> Default for Part<T> {
    fn default() -> Self {
        Self { value: T::default(), print: 0, epoch: 0, at: Duration::ZERO }
    }
}

#[derive(Clone, Debug, Default)]
enum RecordState {
    #[default]
    Unknown,
    Missing,
    Unreadable,
    Known(Arc<UserRecord>),
}

/// An account as it was at one moment.
#[derive(Debug)]
pub struct Account {
    record: Part<RecordState>,
    rules: Part<Arc<RuleSet>>,
    policy: Policy,
    standing: Standing,
    epoch: u64,
    at: Duration,
}

impl Account {
    /// Returns whether the account lets anybody in.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Returns whether the store has been asked about everything that decides, so that the policy is more than "nothing".
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.epoch > 0
    }

    /// Returns what the account's clients may do; nothing, unless it is active.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the user's record, where the store has one.
    #[must_use]
    pub fn record(&self) -> Option<&Arc<UserRecord>> {
        match &self.record.value {
            RecordState::Known(record) => Some(record),
            _ => None,
        }
    }
}

/// The place of one account; it stays while clients hold it, its content changes.
#[derive(Debug)]
pub struct Slot {
    identity: Identity,
    account: ArcSwap<Account>,
    live: AtomicU32,
    used: AtomicU64,
    announced: AtomicBool,
}

impl Slot {
    /// Returns whose it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the account as it is now.
    #[must_use]
    pub fn account(&self) -> arc_swap::Guard<Arc<Account>> {
        self.account.load()
    }

    pub(crate) fn enter(&self) {
        self.live.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn leave(&self) {
        self.live.fetch_sub(1, Ordering::AcqRel);
    }

    fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire) > 0
    }
}

/// What live clients have to be looked at again for.
#[derive(Clone, Debug)]
pub enum Change {
    /// The account of this slot's clients changed: its standing, its rules, or those of a group.
    Account(Arc<Slot>),
    /// A ban was added.
    Bans,
}

/// Rules that many accounts share.
#[derive(Clone, Debug, Default)]
struct Shared {
    groups: HashMap<GroupName, Part<Arc<RuleSet>>>,
    everyone: Part<Arc<RuleSet>>,
}

/// Something under a key that can't be read, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlawedKey {
    /// The key.
    pub key: Key,
    /// What is wrong, one sentence each; at most 20.
    pub flaws: Vec<String>,
}

#[derive(Debug, Default)]
struct Slots {
    by_user: HashMap<Option<Username>, Vec<Arc<Slot>>>,
    since_pass: usize,
}

/// All accounts that are known.
#[derive(Debug)]
pub struct Directory {
    settings: DirectorySettings,
    slots: Mutex<Slots>,
    shared: ArcSwap<Shared>,
    bans: ArcSwap<BanList>,
    changes: Mutex<Vec<Change>>,
    changed: AtomicBool,
    epoch: AtomicU64,
    /// When the store's changes stopped reaching us, in nanoseconds of the monotonic clock; `u64::MAX` while they do.
    lost_at: AtomicU64,
    hasher: RandomState,
}

const LINKED: u64 = u64::MAX;
const NEVER: u64 = u64::MAX;

impl Directory {
    /// Returns an empty directory whose store has not been reached yet.
    #[must_use]
    pub fn new(settings: DirectorySettings) -> Self {
        Self {
            settings,
            slots: Mutex::default(),
            shared: ArcSwap::default(),
            bans: ArcSwap::default(),
            changes: Mutex::default(),
            changed: AtomicBool::new(false),
            epoch: AtomicU64::new(1),
            lost_at: AtomicU64::new(0),
            hasher: RandomState::new(),
        }
    }

    /// Says that from now on every change in the store is announced, after a gap: all that is known has to be read again.
    pub fn linked(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.lost_at.store(LINKED, Ordering::Release);
    }

    /// Says that changes no longer reach us; what is known is last-known-good from here on.
    pub fn lost(&self, now: Now) {
        let at = u64::try_from(now.monotonic.as_nanos()).unwrap_or(LINKED - 1);
        let _ = self.lost_at.compare_exchange(LINKED, at, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Returns whether changes in the store reach us.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.lost_at.load(Ordering::Acquire) == LINKED
    }

    /// Returns whether nothing about `account` can have changed unnoticed.
    #[must_use]
    pub fn is_fresh(&self, account: &Account) -> bool {
        self.is_linked() && account.epoch == self.epoch.load(Ordering::Acquire)
    }

    /// Returns for how long nobody can have confirmed `account`; `None` where nobody ever did.
    #[must_use]
    pub fn age(&self, account: &Account, now: Now) -> Option<Duration> {
        if account.epoch == 0 {
            return None;
        }
        let lost = self.lost_at.load(Ordering::Acquire);
        let confirmed = match account.epoch == self.epoch.load(Ordering::Acquire) {
            true if lost == LINKED => now.monotonic,
            true => Duration::from_nanos(lost).max(account.at),
            false => account.at,
        };
        Some(now.monotonic.saturating_sub(confirmed))
    }

    /// Returns the slot of `identity`, making one that knows nothing where there is none.
    #[must_use]
    pub fn slot(&self, identity: &Identity, now: Now) -> Arc<Slot> {
        let mut slots = self.lock_slots();
        if let Some(slot) = slots.by_user.get(&identity.user).and_then(|same| same.iter().find(|slot| slot.identity == *identity)) {
            slot.used.store(now.monotonic.as_secs(), Ordering::Relaxed);
            return slot.clone();
        }
        self.make_room(&mut slots);
        let account = self.compose(identity, Part::default(), Part::default(), &self.shared.load());
        let slot = Arc::new(Slot {
            identity: identity.clone(),
            account: ArcSwap::from_pointee(account),
            live: AtomicU32::new(0),
            used: AtomicU64::new(now.monotonic.as_secs()),
            announced: AtomicBool::new(false),
        });
        slots.by_user.entry(identity.user.clone()).or_default().push(slot.clone());
        slot
    }

    /// Returns the keys that have to be read before `slot` is fresh; groups are known only after the user's record is.
    #[must_use]
    pub fn wants(&self, slot: &Slot) -> Vec<Key> {
        // Without announcements nothing that was read stays true, so all is read again.
        let epoch = if self.is_linked() { self.epoch.load(Ordering::Acquire) } else { NEVER };
        let account = slot.account.load();
        let shared = self.shared.load();
        let mut keys = Vec::new();
        if let Some(name) = &slot.identity.user {
            if account.record.epoch != epoch {
                keys.push(Key::User(name.clone()));
            }
            if account.rules.epoch != epoch {
                keys.push(Key::UserAcl(name.clone()));
            }
        }
        if shared.everyone.epoch != epoch {
            keys.push(Key::AllAcl);
        }
        let groups = groups_of(&slot.identity, &account.record.value);
        let unknown = |group: &&GroupName| shared.groups.get(*group).is_none_or(|part| part.epoch != epoch);
        keys.extend(groups.iter().filter(unknown).cloned().map(Key::GroupAcl));
        keys
    }

    /// Returns the slots of one username: one for the store's user, others for tokens.
    #[must_use]
    pub fn slots_of(&self, name: &Username) -> Vec<Arc<Slot>> {
        self.same_user(name)
    }

    /// Returns the slots of live clients: what a new epoch reads first.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<Slot>> {
        self.lock_slots().by_user.values().flatten().filter(|slot| slot.is_live()).cloned().collect()
    }

    /// Returns whether `key` is about something that is held here, so that a change of it has to be read.
    #[must_use]
    pub fn concerns(&self, key: &Key) -> bool {
        match key {
            Key::User(name) | Key::UserAcl(name) => self.lock_slots().by_user.contains_key(&Some(name.clone())),
            Key::GroupAcl(group) => self.shared.load().groups.contains_key(group),
            Key::AllAcl | Key::Ban(_) => true,
            _ => false,
        }
    }

    /// Returns whether anything is known that the store would have to hold.
    #[must_use]
    pub fn knows_any(&self) -> bool {
        let shared = self.shared.load();
        shared.everyone.print != self.print(&Entry::Missing) && shared.everyone.epoch != 0
            || shared.groups.values().any(|part| part.print != self.print(&Entry::Missing))
            || self.lock_slots().by_user.values().flatten().any(|slot| slot.account.load().record().is_some())
    }

    /// Returns whether something other than "missing" is known of `key`.
    #[must_use]
    pub fn knows(&self, key: &Key) -> bool {
        let missing = self.print(&Entry::Missing);
        match key {
            Key::User(name) | Key::UserAcl(name) => {
                let slots = self.lock_slots();
                slots.by_user.get(&Some(name.clone())).is_some_and(|same| {
                    same.iter().any(|slot| {
                        let account = slot.account.load();
                        let (epoch, print) = match key {
                            Key::User(_) => (account.record.epoch, account.record.print),
                            _ => (account.rules.epoch, account.rules.print),
                        };
                        epoch != 0 && print != missing
                    })
                })
            }
            Key::GroupAcl(group) => self.shared.load().groups.get(group).is_some_and(|part| part.print != missing),
            Key::AllAcl => {
                let shared = self.shared.load();
                shared.everyone.epoch != 0 && shared.everyone.print != missing
            }
            _ => false,
        }
    }

    /// Takes in what the store holds under each key now; returns what of it can't be read.
    ///
    /// Only the store's worker calls this, in the order in which it read.
    pub fn apply(&self, read: &[(Key, Entry)], now: Now) -> Vec<FlawedKey> {
        let mut flawed = self.apply_shared(read, now);
        for (key, entry) in read {
            let print = self.print(entry);
            let flaws = match key {
                Key::User(name) => self.apply_record(name, entry, print, now),
                Key::UserAcl(name) => self.apply_rules(name, entry, print, now),
                Key::Ban(target) => self.apply_ban(target, entry, now),
                _ => Vec::new(),
            };
            if !flaws.is_empty() {
                flawed.push(FlawedKey { key: key.clone(), flaws });
            }
        }
        flawed
    }

    /// Replaces the whole list of bans; returns how many had no room.
    pub fn replace_bans(&self, bans: impl IntoIterator<Item = (BanTarget, Ban)>) -> usize {
        let mut list = BanList::default();
        let refused = bans.into_iter().filter(|(target, ban)| !list.insert(target.clone(), ban.clone())).count();
        self.bans.store(Arc::new(list));
        self.announce(Change::Bans);
        refused
    }

    /// Returns the bans as they are now.
    #[must_use]
    pub fn bans(&self) -> arc_swap::Guard<Arc<BanList>> {
        self.bans.load()
    }

    /// Returns whether [`Self::take_changes`] has something to give; costs one load.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Returns what changed for live clients since the last call, in order, each slot once.
    #[must_use]
    pub fn take_changes(&self) -> Vec<Change> {
        self.changed.store(false, Ordering::Release);
        let changes = std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner));
        for change in &changes {
            if let Change::Account(slot) = change {
                slot.announced.store(false, Ordering::Release);
            }
        }
        changes
    }

    /// Returns how many accounts are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock_slots().by_user.values().map(Vec::len).sum()
    }

    /// Returns whether no account is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock_slots().by_user.is_empty()
    }

    fn lock_slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, entry: &Entry) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        match entry {
            Entry::Missing => hasher.write_u8(0),
            Entry::Hash(fields) => {
                // The order of a hash's fields means nothing, so the fields' own hashes are added up.
                let sum = fields.iter().fold(0_u64, |sum, field| sum.wrapping_add(self.hasher.hash_one(field)));
                hasher.write_u8(1);
                hasher.write_u64(sum);
            }
            Entry::Text { value, .. } => {
                hasher.write_u8(2);
                hasher.write(value);
            }
            Entry::Unreadable(_) => hasher.write_u8(3),
        }
        hasher.finish()
    }

    fn apply_record(&self, name: &Username, entry: &Entry, print: u64, now: Now) -> Vec<String> {
        let (value, flaws) = match entry {
            Entry::Missing => (RecordState::Missing, Vec::new()),
            Entry::Hash(fields) => {
                let (record, flaws) = UserRecord::parse(fields);
                (RecordState::Known(Arc::new(record)), flaws)
            }
            Entry::Text { .. } => (RecordState::Unreadable, vec!["is a string; a hash is expected".to_owned()]),
            Entry::Unreadable(reason) => (RecordState::Unreadable, vec![reason.clone()]),
        };
        for slot in self.same_user(name) {
            let account = slot.account.load_full();
            let same = account.record.epoch != 0 && account.record.print == print;
            let value = if same { account.record.value.clone() } else { value.clone() };
            let record = Part { value, print, epoch: self.epoch.load(Ordering::Acquire), at: now.monotonic };
            self.relink(&slot, record, account.rules.clone(), !same);
        }
        flaws
    }

    fn apply_rules(&self, name: &Username, entry: &Entry, print: u64, now: Now) -> Vec<String> {
        let mut flaws = Vec::new();
        let mut fresh: Option<Part<Arc<RuleSet>>> = None;
        for slot in self.same_user(name) {
            let account = slot.account.load_full();
            let mut rules = fresh.clone().unwrap_or_else(|| account.rules.clone());
            let changed = account.rules.print != print || account.rules.epoch == 0;
            self.refresh(&mut rules, entry, print, now, &mut flaws);
            fresh = Some(rules.clone());
            self.relink(&slot, account.record.clone(), rules, changed);
        }
        flaws
    }

    /// Brings `part` up to date; returns whether its rules changed.
    fn refresh(&self, part: &mut Part<Arc<RuleSet>>, entry: &Entry, print: u64, now: Now, flaws: &mut Vec<String>) -> bool {
        let changed = part.epoch == 0 || part.print != print;
        if changed {
            let (rules, found) = rules_of(entry);
            part.value = Arc::new(rules);
            flaws.extend(found);
        }
        (part.print, part.epoch, part.at) = (print, self.epoch.load(Ordering::Acquire), now.monotonic);
        changed
    }

    /// Takes in groups' and everyone's rules, and builds the policies that use them anew in one pass over all accounts.
    fn apply_shared(&self, read: &[(Key, Entry)], now: Now) -> Vec<FlawedKey> {
        let mut flawed = Vec::new();
        let mut shared: Option<Shared> = None;
        let mut everyone = None;
        let mut groups: HashMap<&GroupName, bool> = HashMap::new();
        for (key, entry) in read {
            let print = self.print(entry);
            let mut flaws = Vec::new();
            match key {
                Key::GroupAcl(group) => {
                    let shared = shared.get_or_insert_with(|| Shared::clone(&self.shared.load()));
                    let part = shared.groups.entry(group.clone()).or_default();
                    let changed = self.refresh(part, entry, print, now, &mut flaws);
                    groups.insert(group, changed);
                }
                Key::AllAcl => {
                    let shared = shared.get_or_insert_with(|| Shared::clone(&self.shared.load()));
                    everyone = Some(self.refresh(&mut shared.everyone, entry, print, now, &mut flaws));
                }
                _ => {}
            }
            if !flaws.is_empty() {
                flawed.push(FlawedKey { key: key.clone(), flaws });
            }
        }
        let Some(shared) = shared else { return flawed };
        self.shared.store(Arc::new(shared));
        let all: Vec<Arc<Slot>> = self.lock_slots().by_user.values().flatten().cloned().collect();
        for slot in all {
            let account = slot.account.load_full();
            let own_groups = groups_of(&slot.identity, &account.record.value);
            let mut changes = own_groups.iter().filter_map(|group| groups.get(group).copied()).chain(everyone).peekable();
            if changes.peek().is_some() {
                let changed = changes.any(|changed| changed);
                self.relink(&slot, account.record.clone(), account.rules.clone(), changed);
            }
        }
        flawed
    }

    fn apply_ban(&self, target: &BanTarget, entry: &Entry, now: Now) -> Vec<String> {
        let mut list = BanList::clone(&self.bans.load());
        let mut flaws = Vec::new();
        match entry {
            Entry::Missing => {
                list.remove(target);
            }
            _ => {
                if !list.insert(target.clone(), Ban::from_entry(entry, now)) {
                    flaws.push(format!("no room: at most {} bans are held", crate::bans::MAX_BANS));
                }
            }
        }
        self.bans.store(Arc::new(list));
        self.announce(Change::Bans);
        flaws
    }

    fn same_user(&self, name: &Username) -> Vec<Arc<Slot>> {
        self.lock_slots().by_user.get(&Some(name.clone())).cloned().unwrap_or_default()
    }

    fn relink(&self, slot: &Arc<Slot>, record: Part<RecordState>, rules: Part<Arc<RuleSet>>, changed: bool) {
        let account = self.compose(&slot.identity, record, rules, &self.shared.load());
        let changed = changed || slot.account.load().standing != account.standing;
        slot.account.store(Arc::new(account));
        if changed && slot.is_live() && !slot.announced.swap(true, Ordering::AcqRel) {
            self.announce(Change::Account(slot.clone()));
        }
    }

    fn announce(&self, change: Change) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let repeated = matches!(change, Change::Bans) && matches!(changes.last(), Some(Change::Bans));
        if !repeated {
            changes.push(change);
        }
        self.changed.store(true, Ordering::Release);
    }

    fn compose(&self, identity: &Identity, record: Part<RecordState>, rules: Part<Arc<RuleSet>>, shared: &Shared) -> Account {
        let standing = standing_of(identity, &record.value);
        let groups = groups_of(identity, &record.value);
        let mut epoch = shared.everyone.epoch;
        let mut at = shared.everyone.at;
        let mut confirm = |part_epoch: u64, part_at: Duration| {
            epoch = epoch.min(part_epoch);
            at = at.min(part_at);
        };
        let mut layers = Vec::with_capacity(groups.len() + 2);
        if let Some(name) = &identity.user {
            confirm(record.epoch, record.at);
            confirm(rules.epoch, rules.at);
            layers.push((Key::UserAcl(name.clone()), rules.value.clone()));
        }
        for group in groups {
            let part = shared.groups.get(&group);
            confirm(part.map_or(0, |part| part.epoch), part.map_or(Duration::ZERO, |part| part.at));
            layers.extend(part.map(|part| (Key::GroupAcl(group), part.value.clone())));
        }
        layers.push((Key::AllAcl, shared.everyone.value.clone()));
        let superuser = matches!(&record.value, RecordState::Known(record) if record.superuser);
        let policy = match standing {
            Standing::Active if epoch > 0 => Policy::new(superuser, layers),
            _ => Policy::default(),
        };
        Account { record, rules, policy, standing, epoch, at }
    }

    /// Lets accounts without clients go, only at the bound: names that the store doesn't know first, then the longest unused.
    ///
    /// A pass over all of them is made once per eighth of them that came, so that it costs each newcomer a constant.
    fn make_room(&self, slots: &mut Slots) {
        let len = slots.by_user.len();
        slots.since_pass += 1;
        if slots.since_pass < self.settings.unknown / 8 + 1 || slots.since_pass < len / 8 {
            return;
        }
        slots.since_pass = 0;
        let idle = |slot: &Arc<Slot>| !slot.is_live() && Arc::strong_count(slot) == 1;
        let unknown = |slot: &Slot| slot.account.load().record().is_none();
        let mut strangers: Vec<u64> = Vec::new();
        let mut others: Vec<u64> = Vec::new();
        for slot in slots.by_user.values().flatten().filter(|slot| idle(slot)) {
            let used = slot.used.load(Ordering::Relaxed);
            if unknown(slot) { strangers.push(used) } else { others.push(used) }
        }
        let strangers_until = oldest(&mut strangers, self.settings.unknown);
        let others_until = oldest(&mut others, self.settings.accounts);
        if strangers_until.is_none() && others_until.is_none() {
            return;
        }
        slots.by_user.retain(|_, same| {
            same.retain(|slot| {
                let until = if unknown(slot) { strangers_until } else { others_until };
                !(idle(slot) && until.is_some_and(|until| slot.used.load(Ordering::Relaxed) <= until))
            });
            !same.is_empty()
        });
    }
}

/// Returns up to which time of use entries have to go so that seven eighths of `bound` are left; `None` below the bound.
fn oldest(used: &mut [u64], bound: usize) -> Option<u64> {
    let surplus = (used.len() > bound).then(|| used.len() - bound * 7 / 8)?;
    Some(*used.select_nth_unstable(surplus - 1).1)
}

impl Ban {
    /// Returns the ban that a store's entry writes; whatever stands there, it is a ban.
    #[must_use]
    pub fn from_entry(entry: &Entry, now: Now) -> Self {
        match entry {
            Entry::Text { value, ttl } => Self {
                reason: String::from_utf8_lossy(value).chars().take(200).collect(),
                until_unix: ttl.map(|ttl| now.unix + ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)),
            },
            _ => Self { reason: String::new(), until_unix: None },
        }
    }
}

fn rules_of(entry: &Entry) -> (RuleSet, Vec<String>) {
    static NO_FIELDS: Fields = Fields::new();
    let fields = match entry {
        Entry::Missing => &NO_FIELDS,
        Entry::Hash(fields) => fields,
        Entry::Text { .. } => {
            return (RuleSet::closed(), vec!["is a string; a hash is expected, so everything is denied".to_owned()]);
        }
        Entry::Unreadable(reason) => return (RuleSet::closed(), vec![format!("{reason}, so everything is denied")]),
    };
    let (rules, flaws) = RuleSet::parse(fields);
    (rules, flaws.iter().map(ToString::to_string).collect())
}

fn standing_of(identity: &Identity, record: &RecordState) -> Standing {
    match (record, &identity.user, &identity.token) {
        (RecordState::Known(record), _, _) if record.enabled => Standing::Active,
        (RecordState::Known(_), _, _) => Standing::Disabled,
        (RecordState::Unreadable, _, _) => Standing::Unreadable,
        (_, None, _) => Standing::Active,
        (RecordState::Missing, _, Some(_)) => Standing::Active,
        (RecordState::Missing, _, None) => Standing::Missing,
        (RecordState::Unknown, _, _) => Standing::Unknown,
    }
}

fn groups_of(identity: &Identity, record: &RecordState) -> Vec<GroupName> {
    let mut groups = match record {
        RecordState::Known(record) => record.groups.clone(),
        _ => Vec::new(),
    };
    if identity.user.is_none() {
        groups.extend(ANONYMOUS_GROUP.parse::<GroupName>());
    }
    for group in identity.token.iter().flat_map(|groups| groups.iter()) {
        if !groups.contains(group) {
            groups.push(group.clone());
        }
    }
    groups
}
