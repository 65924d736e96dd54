//! What live clients have to be looked at again for.
//!
//! Each slot waits at most once, so the list is no longer than there are live accounts and lists of clients.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::slot::Slot;
use crate::name::ClientId;

/// What live clients have to be looked at again for.
#[derive(Clone, Debug)]
pub enum Change {
    /// The account of this slot's clients changed: its standing, its rules or automatic subscriptions, or those of a group.
    Account(Arc<Slot>),
    /// The automatic subscriptions of this client identifier changed; there may be no such client.
    Client(ClientId),
    /// A ban was added or changed.
    Bans,
}

/// The changes that wait to be taken.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: Mutex<Waiting>,
    any: AtomicBool,
    tell: OnceLock<Tell>,
}

/// Whom to tell that there is something to take.
struct Tell(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell(..)")
    }
}

#[derive(Debug, Default)]
struct Waiting {
    list: Vec<Change>,
    bans: bool,
    clients: HashSet<ClientId>,
}

impl Changes {
    /// Has `tell` called from now on; the first one stays.
    pub(super) fn on_any(&self, tell: Box<dyn Fn() + Send + Sync>) {
        let _ = self.tell.set(Tell(tell));
    }

    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Vec<Change> {
        self.any.store(false, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for change in &waiting.list {
            if let Change::Account(slot) = change {
                // A swap, so that whoever takes it sees the account of a writer that found it announced already.
                slot.announced.swap(false, Ordering::AcqRel);
            }
        }
        waiting.list
    }

    pub(super) fn account(&self, slot: &Arc<Slot>) {
        if !slot.announced.swap(true, Ordering::AcqRel) {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).list.push(Change::Account(slot.clone()));
            self.note();
        }
    }

    pub(super) fn client(&self, client: &ClientId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.clients.insert(client.clone()) {
            waiting.list.push(Change::Client(client.clone()));
        }
        drop(waiting);
        self.note();
    }

    pub(super) fn bans(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut waiting.bans, true) {
            waiting.list.push(Change::Bans);
        }
        drop(waiting);
        self.note();
    }

    /// Says that there is something to take: it is in the list by now, so whoever takes either finds it or is told.
    fn note(&self) {
        if !self.any.swap(true, Ordering::AcqRel)
            && let Some(Tell(tell)) = self.tell.get()
        {
            tell();
        }
    }
}
