//! All accounts that are known, and what changed about them.
//!
//! One writer, the store's worker, applies entries; any thread reads.
//! A client's policy is an immutable snapshot that a change replaces by one atomic swap: whoever checks never waits.
//! An account is *fresh* while the store's changes reach us without a gap since it was read;
//! each gap begins a new epoch, and what was read before it counts as last-known-good only.

use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use crate::bans::BanList;
use crate::entry::Entry;
use crate::key::Key;
use crate::name::{GroupName, Username};
use crate::time::Now;

mod account;
mod apply;
mod changes;
mod link;
mod shared;
mod slot;

pub use account::{Account, Identity, Standing};
pub use apply::FlawedKey;
pub use changes::Change;
pub(crate) use slot::Seat;
pub use slot::Slot;

use account::{Part, groups_of};
use changes::Changes;
use link::Link;
use shared::{GroupLists, Shared};
use slot::Slots;

/// The group whose rules anonymous clients get, beside everyone's.
pub const ANONYMOUS_GROUP: &str = "anonymous";

/// How much the directory holds; a name of more than 512 bytes counts as several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    /// Accounts of the store's users kept in memory beyond those of live clients; at the bound, the longest unused go.
    pub accounts: usize,
    /// Names kept that the store doesn't know; these have no part in the bound of accounts.
    pub unknown: usize,
}

impl Default for DirectorySettings {
    fn default() -> Self {
        Self { accounts: 200_000, unknown: 10_000 }
    }
}

/// All accounts that are known.
#[derive(Debug)]
pub struct Directory {
    settings: DirectorySettings,
    /// Held by whoever changes what is known; never taken while `slots` is held.
    writer: Mutex<GroupLists>,
    /// How often the account of a live client was put.
    generation: AtomicU64,
    slots: Mutex<Slots>,
    shared: ArcSwap<Shared>,
    bans: ArcSwap<BanList>,
    changes: Changes,
    link: Link,
    hasher: RandomState,
}

impl Directory {
    /// Returns an empty directory whose store has not been reached yet.
    #[must_use]
    pub fn new(settings: DirectorySettings) -> Self {
        Self {
            settings,
            writer: Mutex::default(),
            generation: AtomicU64::new(0),
            slots: Mutex::default(),
            shared: ArcSwap::default(),
            bans: ArcSwap::default(),
            changes: Changes::default(),
            link: Link::default(),
            hasher: RandomState::new(),
        }
    }

    /// Says that from now on every change in the store is announced, after a gap: all that is known has to be read again.
    pub fn linked(&self) {
        self.link.begin();
    }

    /// Says the same as [`Self::linked`], unless announcements were lost again since [`Self::losses`] was `losses`.
    ///
    /// For a caller that learns from another thread that announcements have begun: by now they may have ended.
    /// Returns whether it was taken in.
    pub fn linked_since(&self, losses: u64) -> bool {
        self.link.begin_unless_lost(losses)
    }

    /// Says that changes no longer reach us; what is known is last-known-good from here on.
    pub fn lost(&self, now: Now) {
        self.link.lose(now);
    }

    /// Returns how often [`Self::lost`] was called.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.link.losses()
    }

    /// Returns whether changes in the store reach us.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.link.is_up()
    }

    /// Returns whether nothing about `account` can have changed unnoticed.
    #[must_use]
    pub fn is_fresh(&self, account: &Account) -> bool {
        self.link.vouches_for(account.stamp)
    }

    /// Returns for how long nobody can have confirmed `account`; `None` where nobody ever did.
    #[must_use]
    pub fn age(&self, account: &Account, now: Now) -> Option<Duration> {
        let age = |until| now.monotonic.saturating_sub(until);
        account.is_decided().then(|| self.link.vouched_until(account.stamp).map_or(Duration::ZERO, age))
    }

    /// Returns a number that is another one after the account of any live client has changed.
    ///
    /// What a live client's account was read to say after the number was read holds as long as the number stays the same.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns the slot of `identity`, making one that knows nothing where there is none.
    #[must_use]
    pub fn slot(&self, identity: &Identity, now: Now) -> Arc<Slot> {
        self.link.see(now);
        let mut slots = self.lock_slots();
        slots.find(identity).unwrap_or_else(|| {
            // Under the lock, so that a writer either finds the slot, or has shown the slot its shared rules.
            let account = Account::compose(identity, Part::default(), Part::default(), &self.shared.load());
            slots.add(identity, account, &self.settings)
        })
    }

    /// Returns the keys that have to be read before `slot` is fresh; groups are known only after the user's record is.
    #[must_use]
    pub fn wants(&self, slot: &Slot) -> Vec<Key> {
        // Without announcements nothing that was read stays true, so all is read again.
        let epoch = self.is_linked().then(|| self.link.epoch());
        let stale = |read_in: u64| epoch != Some(read_in);
        let account = slot.account();
        let shared = self.shared.load();
        let mut keys = Vec::new();
        if let Some(name) = &slot.identity().user {
            if stale(account.record.stamp.epoch) {
                keys.push(Key::User(name.clone()));
            }
            if stale(account.rules.stamp.epoch) {
                keys.push(Key::UserAcl(name.clone()));
            }
        }
        if stale(shared.everyone.stamp.epoch) {
            keys.push(Key::AllAcl);
        }
        let groups = groups_of(slot.identity(), &account.record.value);
        let unknown = |group: &&GroupName| shared.groups.get(*group).is_none_or(|part| stale(part.stamp.epoch));
        keys.extend(groups.iter().filter(unknown).cloned().map(Key::GroupAcl));
        keys
    }

    /// Returns the slots of one username: one for the store's user, others for tokens.
    #[must_use]
    pub fn slots_of(&self, name: &Username) -> Vec<Arc<Slot>> {
        self.lock_slots().of(Some(name)).to_vec()
    }

    /// Returns the slots of live clients: what a new epoch reads first.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<Slot>> {
        self.lock_slots().iter().filter(|slot| slot.is_live()).cloned().collect()
    }

    /// Returns whether `key` is about something that is held here, so that a change of it has to be read.
    #[must_use]
    pub fn concerns(&self, key: &Key) -> bool {
        match key {
            Key::User(name) | Key::UserAcl(name) => !self.lock_slots().of(Some(name)).is_empty(),
            Key::GroupAcl(group) => self.shared.load().groups.contains_key(group),
            Key::AllAcl | Key::Ban(_) => true,
            _ => false,
        }
    }

    /// Returns whether anything is known that the store would have to hold.
    #[must_use]
    pub fn knows_any(&self) -> bool {
        let shared = self.shared.load();
        self.knows(&Key::AllAcl)
            || shared.groups.keys().any(|group| self.knows(&Key::GroupAcl(group.clone())))
            || self.lock_slots().iter().any(|slot| slot.account().record().is_some())
    }

    /// Returns whether something other than "missing" is known of `key`.
    #[must_use]
    pub fn knows(&self, key: &Key) -> bool {
        let missing = self.print(&Entry::Missing);
        fn says<T>(part: &Part<T>, missing: u64) -> bool {
            part.is_known() && part.print != missing
        }
        match key {
            Key::User(name) => self.slots_of(name).iter().any(|slot| says(&slot.account().record, missing)),
            Key::UserAcl(name) => self.slots_of(name).iter().any(|slot| says(&slot.account().rules, missing)),
            Key::GroupAcl(group) => self.shared.load().groups.get(group).is_some_and(|part| says(part, missing)),
            Key::AllAcl => says(&self.shared.load().everyone, missing),
            _ => false,
        }
    }

    /// Returns the bans as they are now.
    #[must_use]
    pub fn bans(&self) -> Guard<Arc<BanList>> {
        self.bans.load()
    }

    /// Returns whether [`Self::take_changes`] has something to give; costs one load.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes.any()
    }

    /// Returns what changed for live clients since the last call, in order, each slot once.
    ///
    /// A client that was admitted before, and is entered among the body's clients after, has to be asked
    /// [`crate::gate::ClientPolicy::revoked`] there: its change may be among those that were taken meanwhile.
    #[must_use]
    pub fn take_changes(&self) -> Vec<Change> {
        self.changes.take()
    }

    /// Returns how many accounts are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock_slots().iter().count()
    }

    /// Returns whether no account is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock_slots().iter().next().is_none()
    }

    fn lock_slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
