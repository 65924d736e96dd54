//! What reaches a loop's mind from other threads.
//!
//! Whoever leaves something there rings, and the loop comes for it in its next turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use midge_core::directory::Change;
use midge_core::gate::Asked;
use midge_engine::shard::SessionId;
use midge_store::service::Verdict;

/// Wakes one loop, and keeps the changes that it has not looked at.
pub(super) struct Bell {
    wake: Box<dyn Fn() + Send + Sync>,
    changes: Mutex<Vec<Change>>,
    any: AtomicBool,
}

impl Bell {
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { wake: Box::new(wake), changes: Mutex::default(), any: AtomicBool::new(false) }
    }

    pub(super) fn ring(&self) {
        (self.wake)();
    }

    /// Leaves changes for the loop, without a sound.
    pub(super) fn leave(&self, changes: &[Change]) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(changes);
        self.any.store(true, Ordering::Release);
    }

    /// Takes the changes; costs one load where there are none.
    pub(super) fn take(&self) -> Vec<Change> {
        if !self.any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a thread of the service has found out.
pub(super) enum Answer<K> {
    /// What a login came to.
    Login(K, Verdict),
    /// Whether the account that an exchange needs was read.
    Prepared(K, Asked),
    /// Whose session it is that was there before the start.
    Known(SessionId, Verdict),
}

/// The answers to one loop.
pub(super) struct Inbox<K> {
    bell: Arc<Bell>,
    sender: Sender<Answer<K>>,
    receiver: Receiver<Answer<K>>,
}

impl<K: Send + 'static> Inbox<K> {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        let (sender, receiver) = channel();
        Self { bell, sender, receiver }
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(super) fn next(&self) -> Option<Answer<K>> {
        self.receiver.try_recv().ok()
    }

    /// Returns what to call with the outcome of a question, on any thread.
    pub(super) fn reply<T>(&self, answer: impl FnOnce(T) -> Answer<K> + Send + 'static) -> Box<dyn FnOnce(T) + Send> {
        let (sender, bell) = (self.sender.clone(), self.bell.clone());
        Box::new(move |outcome| {
            if sender.send(answer(outcome)).is_ok() {
                bell.ring();
            }
        })
    }
}
