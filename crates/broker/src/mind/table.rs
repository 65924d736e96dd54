//! The sessions of one loop and whose they are.
//!
//! A session is found by its number, and those of one account by the account, so that a change costs what it concerns.

use std::collections::HashMap;
use std::sync::Arc;

use midge_core::autosub::Subscription;
use midge_core::directory::Slot;
use midge_core::gate::ClientPolicy;
use midge_engine::shard::{ConnectionId, SessionId};

/// No session.
const NONE: u32 = u32::MAX;

/// What a client may that has no username, beyond its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// Nothing; neither may one with a username.
    No,
    /// Everything, as long as there are no users; then it has to leave.
    WhileNoUsers,
    /// Everything, as long as there are no users; then it has its rules.
    Open,
}

/// A client and what it may do.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) policy: ClientPolicy,
    pub(super) guest: Guest,
    /// Whether it proved itself by an exchange, and may do so again.
    pub(super) exchanged: bool,
}

/// A session, with a connection or without.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) session: SessionId,
    pub(super) client: Client,
    /// The latest connection, which may have ended.
    pub(super) connection: Option<ConnectionId>,
    /// What lists subscribed it to, in the order of the filters' bytes; `None` is nothing.
    pub(super) automatic: Option<Arc<[Subscription]>>,
    /// Whether it waits to be looked at.
    pub(super) listed: bool,
    /// Its neighbours among the sessions of the same account.
    previous: u32,
    next: u32,
}

impl Entry {
    pub(super) fn new(session: SessionId, client: Client, connection: Option<ConnectionId>) -> Self {
        Self { session, client, connection, automatic: None, listed: false, previous: NONE, next: NONE }
    }

    pub(super) fn automatic(&self) -> &[Subscription] {
        self.automatic.as_deref().unwrap_or_default()
    }
}

/// All sessions of a loop.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Vec<Option<Box<Entry>>>,
    /// The first session of each account, by where the account is.
    first: HashMap<usize, u32>,
}

impl Table {
    #[inline]
    pub(super) fn get(&self, session: SessionId) -> Option<&Entry> {
        self.at(session.slot())
    }

    pub(super) fn get_mut(&mut self, session: SessionId) -> Option<&mut Entry> {
        self.places.get_mut(session.slot())?.as_deref_mut()
    }

    /// Returns the session of a number.
    #[inline]
    pub(super) fn at(&self, slot: usize) -> Option<&Entry> {
        self.places.get(slot)?.as_deref()
    }

    /// Returns how many numbers there are, with or without a session.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Enters a session, and returns the one that had its number before.
    pub(super) fn enter(&mut self, entry: Entry) -> Option<Box<Entry>> {
        let session = entry.session;
        let before = self.remove(session);
        let slot = session.slot();
        if self.places.len() <= slot {
            self.places.resize_with(slot + 1, || None);
        }
        let (account, number) = (account_of(&entry), number(slot));
        let next = self.first.insert(account, number).unwrap_or(NONE);
        self.link(next, |entry| entry.previous = number);
        self.places[slot] = Some(Box::new(Entry { previous: NONE, next, ..entry }));
        before
    }

    /// Removes a session.
    pub(super) fn remove(&mut self, session: SessionId) -> Option<Box<Entry>> {
        let entry = self.places.get_mut(session.slot())?.take()?;
        let (previous, next) = (entry.previous, entry.next);
        self.link(next, |entry| entry.previous = previous);
        if previous != NONE {
            self.link(previous, |entry| entry.next = next);
        } else if next == NONE {
            self.first.remove(&account_of(&entry));
        } else {
            self.first.insert(account_of(&entry), next);
        }
        Some(entry)
    }

    /// Returns the sessions of an account.
    pub(super) fn of(&self, account: &Arc<Slot>) -> impl Iterator<Item = SessionId> {
        let first = self.first.get(&(Arc::as_ptr(account) as usize)).copied().unwrap_or(NONE);
        let entry = |number: u32| self.at(number as usize);
        std::iter::successors(entry(first), move |known| entry(known.next)).map(|known| known.session)
    }

    fn link(&mut self, number: u32, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.places.get_mut(number as usize).and_then(Option::as_deref_mut) {
            change(entry);
        }
    }
}

/// Returns where the account of a session is; it stays there as long as the session holds it.
fn account_of(entry: &Entry) -> usize {
    Arc::as_ptr(entry.client.policy.slot()) as usize
}

fn number(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(NONE)
}
