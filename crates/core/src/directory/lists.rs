//! The automatic subscriptions of single client identifiers.
//!
//! Few identifiers have a list, and all that do are held, so that the many without one cost nothing at a login.
//! Until all of them have been read in an epoch, each login asks about its own.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::account::Part;
use crate::autosub::SubscriptionList;
use crate::name::ClientId;

/// What the reading of one list came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListChange {
    /// It says what it said before.
    Same,
    /// It says something else.
    Other,
    /// It can't be held.
    NoRoom,
}

/// The lists of client identifiers.
#[derive(Debug, Default)]
pub(super) struct ClientLists(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    held: HashMap<ClientId, Part<Arc<SubscriptionList>>>,
    /// The latest epoch in which all lists were read; 0 for none.
    complete_in: u64,
    /// Identifiers that were asked about in the epoch `without_in` and have none, until all lists are read.
    without: HashSet<ClientId>,
    without_in: u64,
}

impl State {
    fn lacks(&mut self, client: &ClientId, epoch: u64) {
        if self.complete_in == epoch {
            return;
        }
        if self.without_in != epoch || self.without.len() >= MAX_WITHOUT {
            self.without.clear();
        }
        self.without_in = epoch;
        self.without.insert(client.clone());
    }
}

/// How many identifiers are remembered to have no list while not all lists are read; beyond it all are forgotten.
const MAX_WITHOUT: usize = 100_000;

impl ClientLists {
    /// Takes over what was read of one list by `renew`, which says whether that is something new.
    pub(super) fn renew(
        &self,
        client: &ClientId,
        bound: usize,
        renew: impl FnOnce(&mut Part<Arc<SubscriptionList>>) -> bool,
    ) -> ListChange {
        let mut state = self.lock();
        let known = state.held.get(client).cloned();
        let before = known.as_ref().is_some_and(|part| !part.value.is_empty());
        let mut part = known.unwrap_or_default();
        let changed = renew(&mut part);
        if part.value.is_empty() {
            state.held.remove(client);
            state.lacks(client, part.stamp.epoch);
            return if before { ListChange::Other } else { ListChange::Same };
        }
        state.without.remove(client);
        if !state.held.contains_key(client) && state.held.len() >= bound {
            return ListChange::NoRoom;
        }
        state.held.insert(client.clone(), part);
        if changed { ListChange::Other } else { ListChange::Same }
    }

    /// Notes that all lists were read in `epoch`; returns those that are not among `found`, and are forgotten.
    pub(super) fn complete(&self, epoch: u64, found: &HashSet<ClientId>) -> Vec<ClientId> {
        let mut state = self.lock();
        state.complete_in = epoch;
        state.without = HashSet::new();
        state.held.extract_if(|client, _| !found.contains(client)).map(|(client, _)| client).collect()
    }

    /// Returns whether it is known, as of `epoch`, which list the identifier has; never outside of an epoch.
    pub(super) fn is_known(&self, client: &ClientId, epoch: Option<u64>) -> bool {
        let state = self.lock();
        let Some(epoch) = epoch else { return false };
        let has_none = || state.without_in == epoch && state.without.contains(client);
        state.complete_in == epoch || has_none() || state.held.get(client).is_some_and(|part| part.stamp.epoch == epoch)
    }

    /// Returns whether it was ever known which list the identifier has.
    pub(super) fn was_known(&self, client: &ClientId) -> bool {
        let state = self.lock();
        state.complete_in > 0 || state.held.contains_key(client) || state.without.contains(client)
    }

    /// Returns the identifier's list, where it has one.
    pub(super) fn of(&self, client: &ClientId) -> Option<Arc<SubscriptionList>> {
        self.lock().held.get(client).map(|part| part.value.clone())
    }

    /// Returns whether the identifier has a list.
    pub(super) fn holds(&self, client: &ClientId) -> bool {
        self.lock().held.contains_key(client)
    }

    /// Returns all identifiers that have a list.
    pub(super) fn all(&self) -> Vec<ClientId> {
        self.lock().held.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
