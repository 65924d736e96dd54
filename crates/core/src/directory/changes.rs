//! What live clients have to be looked at again for.
//!
//! Each slot waits at most once, so the list is no longer than there are live accounts and lists of clients.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
}

#[derive(Debug, Default)]
struct Waiting {
    list: Vec<Change>,
    bans: bool,
    clients: HashSet<ClientId>,
}

impl Changes {
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
            self.any.store(true, Ordering::Release);
        }
    }

    pub(super) fn client(&self, client: &ClientId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.clients.insert(client.clone()) {
            waiting.list.push(Change::Client(client.clone()));
        }
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn bans(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut waiting.bans, true) {
            waiting.list.push(Change::Bans);
        }
        self.any.store(true, Ordering::Release);
    }
}
