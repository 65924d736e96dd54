//! The places of accounts, and who leaves when it's full.
//!
//! Accounts of live clients, and those that anybody holds, never go.
//! Names that the store doesn't know and accounts that it does have a bound each, so a flood of one never displaces the other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use arc_swap::{ArcSwap, Guard};

use super::DirectorySettings;
use super::account::{Account, Identity};
use crate::name::{GroupName, Username};

/// The place of one account; it stays while clients hold it, its content changes.
#[derive(Debug)]
pub struct Slot {
    identity: Identity,
    account: ArcSwap<Account>,
    live: AtomicU32,
    /// The number of the latest use, counted over all slots.
    used: AtomicU64,
    /// Whether a change of it waits to be taken.
    pub(super) announced: AtomicBool,
}

impl Slot {
    /// Returns whose it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the account as it is now.
    #[must_use]
    pub fn account(&self) -> Guard<Arc<Account>> {
        self.account.load()
    }

    /// Returns whether the rules of `group` apply to the slot's clients.
    #[must_use]
    pub fn is_member_of(&self, group: &GroupName) -> bool {
        self.account().is_in(&self.identity, group)
    }

    pub(super) fn account_full(&self) -> Arc<Account> {
        self.account.load_full()
    }

    /// Replaces the account.
    pub(super) fn put(&self, account: Account) {
        self.account.store(Arc::new(account));
        // Pairs with that of `Seat::take`: either the client sees this account, or the writer sees the client.
        fence(Ordering::SeqCst);
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire) > 0
    }

    /// Returns how much it counts against the bounds: 1, and one more for each 512 bytes of its name.
    fn weight(&self) -> usize {
        1 + self.identity.user.as_ref().map_or(0, |user| user.as_str().len()) / 512
    }

    fn is_stranger(&self) -> bool {
        self.account.load().record().is_none()
    }
}

/// A client's hold on a slot, which makes it live.
///
/// It is taken *before* the account is judged: a change that comes after the judgement is then announced.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Slot>);

impl Seat {
    pub(crate) fn take(slot: Arc<Slot>) -> Self {
        slot.live.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        Self(slot)
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The slots of one username: nearly always one.
#[derive(Debug)]
enum Same {
    One(Arc<Slot>),
    /// Several, or none for a moment. Behind a pointer, since every user pays for its size.
    #[expect(clippy::box_collection, reason = "a third of the size")]
    Many(Box<Vec<Arc<Slot>>>),
}

impl Same {
    fn all(&self) -> &[Arc<Slot>] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    fn push(&mut self, slot: Arc<Slot>) {
        match self {
            Self::One(first) => *self = Self::Many(Box::new(vec![first.clone(), slot])),
            Self::Many(slots) => slots.push(slot),
        }
    }

    /// Keeps those that `stays` says; returns whether any is left.
    fn retain(&mut self, stays: impl Fn(&Arc<Slot>) -> bool) -> bool {
        match self {
            Self::One(slot) => stays(slot),
            Self::Many(slots) => {
                slots.retain(stays);
                !slots.is_empty()
            }
        }
    }
}

/// All slots by username.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_user: HashMap<Option<Username>, Same>,
    uses: u64,
    /// The weight that came since the last pass, and the weight that stood after it.
    came: usize,
    stood: usize,
}

impl Slots {
    pub(super) fn find(&mut self, identity: &Identity) -> Option<Arc<Slot>> {
        let slot = self.by_user.get(&identity.user)?.all().iter().find(|slot| slot.identity == *identity)?;
        self.uses += 1;
        slot.used.store(self.uses, Ordering::Relaxed);
        Some(slot.clone())
    }

    pub(super) fn add(&mut self, identity: &Identity, account: Account, settings: &DirectorySettings) -> Arc<Slot> {
        self.uses += 1;
        let slot = Arc::new(Slot {
            identity: identity.clone(),
            account: ArcSwap::from_pointee(account),
            live: AtomicU32::new(0),
            used: AtomicU64::new(self.uses),
            announced: AtomicBool::new(false),
        });
        self.came += slot.weight();
        match self.by_user.entry(identity.user.clone()) {
            Entry::Vacant(place) => drop(place.insert(Same::One(slot.clone()))),
            Entry::Occupied(place) => place.into_mut().push(slot.clone()),
        }
        self.make_room(settings);
        slot
    }

    pub(super) fn of(&self, user: Option<&Username>) -> &[Arc<Slot>] {
        self.by_user.get(&user.cloned()).map_or(&[], Same::all)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.by_user.values().flat_map(Same::all)
    }

    /// Lets the longest unused go where a bound is passed.
    ///
    /// A pass over all is made once per eighth of them that came, so that it costs each newcomer a constant.
    fn make_room(&mut self, settings: &DirectorySettings) {
        if self.came <= (settings.unknown / 8).max(self.stood / 8) {
            return;
        }
        let mut strangers = Vec::new();
        let mut others = Vec::new();
        for slot in self.iter().filter(|slot| is_idle(slot)) {
            let list = if slot.is_stranger() { &mut strangers } else { &mut others };
            list.push((slot.used.load(Ordering::Relaxed), slot.weight()));
        }
        let strangers_until = last_to_go(&mut strangers, settings.unknown);
        let others_until = last_to_go(&mut others, settings.accounts);
        if strangers_until.is_some() || others_until.is_some() {
            self.by_user.retain(|_, same| {
                same.retain(|slot| {
                    let until = if slot.is_stranger() { strangers_until } else { others_until };
                    !(is_idle(slot) && until.is_some_and(|until| slot.used.load(Ordering::Relaxed) <= until))
                })
            });
        }
        self.came = 0;
        self.stood = self.iter().map(|slot| slot.weight()).sum();
    }
}

/// Holds under the lock of all slots only: nobody else hands out a slot that nobody holds.
fn is_idle(slot: &Arc<Slot>) -> bool {
    !slot.is_live() && Arc::strong_count(slot) == 1
}

/// Returns the latest use among those that have to go, so that seven eighths of `bound` are left; `None` within the bound.
fn last_to_go(uses: &mut [(u64, usize)], bound: usize) -> Option<u64> {
    let mut weight: usize = uses.iter().map(|(_, weight)| weight).sum();
    if weight <= bound {
        return None;
    }
    uses.sort_unstable();
    let mut last = None;
    for (used, of_it) in uses {
        if weight <= bound - bound / 8 {
            break;
        }
        weight -= *of_it;
        last = Some(*used);
    }
    last
}
