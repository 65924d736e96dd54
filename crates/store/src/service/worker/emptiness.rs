//! Tells a store that was emptied from users who were deleted.
//!
//! A store that has not a single policy key, where accounts are known, was restarted empty or flushed.
//! That is no word about anybody's account, so what is missing counts as not asked, until the bounded age is over,
//! or until somebody has filled the store again and is done with it.
//! A key that is deleted by itself is announced by name, and counts at once. Where changes are found by reading everything
//! again, no key has a name: the very last policy key that goes there looks like a store that was emptied.

use std::time::{Duration, Instant};

use midge_core::entry::Entry;
use midge_core::gate::StoreDown;
use midge_core::key::Key;
use midge_core::time::Now;

use super::Worker;
use crate::{KeyKind, StoreError};

/// How long nothing may have changed before a store that is being filled again counts as filled.
const QUIET: Duration = Duration::from_secs(5);
/// How often an emptied store is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What is known about the store having been emptied.
#[derive(Debug, Default)]
pub(super) struct Emptiness {
    /// Since when the store has been without any policy.
    since: Option<Duration>,
    /// Whether an empty store has been taken for what the operator wants.
    believed: bool,
    /// Since when an emptied store has had policy again.
    refilled_at: Option<Duration>,
    look_at: Duration,
    stirred_at: Duration,
}

impl Emptiness {
    /// Notes that keys have just changed.
    pub(super) fn stir(&mut self, now: Now) {
        self.stirred_at = now.monotonic;
    }

    /// Notes that the store has what was read: the next time that all is gone is another one.
    pub(super) fn see(&mut self, read: &[(Key, Entry)]) {
        let is_policy = |key: &Key| matches!(key, Key::User(_) | Key::UserAcl(_) | Key::GroupAcl(_) | Key::AllAcl);
        if self.believed && read.iter().any(|(key, entry)| is_policy(key) && *entry != Entry::Missing) {
            self.believed = false;
        }
    }
}

impl Worker<'_> {
    /// Returns whether known keys that are missing were deleted, rather than lost with everything else.
    pub(super) fn believes_loss(&mut self) -> bool {
        if self.emptiness.since.is_some() {
            return false;
        }
        if self.emptiness.believed {
            return true;
        }
        match self.has_policy() {
            Some(false) => {
                let now = self.now().monotonic;
                self.emptiness = Emptiness { since: Some(now), look_at: now + LOOK, ..Emptiness::default() };
                self.shared.note(|health| health.emptied = true);
                log::error!("the store has lost all users and rules; what is known of them stays in force for the bounded age");
                false
            }
            Some(true) => true,
            // Nothing is believed that could not be looked into.
            None => false,
        }
    }

    /// Ends the time in which what is missing doesn't count.
    pub(super) fn end_emptiness(&mut self) {
        let Some(since) = self.emptiness.since else { return };
        let now = self.now().monotonic;
        let over = match self.shared.gate.store_down() {
            StoreDown::Deny => true,
            StoreDown::LastKnownGood(longest) => now.saturating_sub(since) > longest,
        };
        if over {
            log::error!("the store is still empty: its users no longer exist");
            return self.forget_emptiness(true);
        }
        if self.store.is_none() || now < self.emptiness.look_at {
            return;
        }
        let start = Instant::now();
        let found = self.has_policy();
        // A look at a store full of other things takes its time, and shall take a small part of all.
        self.emptiness.look_at = now + LOOK.max(start.elapsed() * 20);
        match found {
            Some(true) => {
                let refilled_at = *self.emptiness.refilled_at.get_or_insert(now);
                if now.saturating_sub(refilled_at.max(self.emptiness.stirred_at)) >= QUIET {
                    log::info!("the store has users and rules again");
                    self.forget_emptiness(false);
                }
            }
            Some(false) => self.emptiness.refilled_at = None,
            None => {}
        }
    }

    fn forget_emptiness(&mut self, believed: bool) {
        self.emptiness = Emptiness { believed, ..Emptiness::default() };
        self.shared.note(|health| health.emptied = false);
        self.sweep_all();
        self.bans.want();
    }

    /// Returns whether the store holds any user or rule; `None` where it doesn't say.
    fn has_policy(&mut self) -> Option<bool> {
        self.ask(|store| {
            if store.read(&[Key::AllAcl])?.first().is_some_and(|entry| *entry != Entry::Missing) {
                return Ok(true);
            }
            for kind in [KeyKind::User, KeyKind::GroupAcl, KeyKind::UserAcl] {
                let mut found = false;
                store.list(kind, &mut |_| {
                    found = true;
                    std::ops::ControlFlow::Break(())
                })?;
                if found {
                    return Ok(true);
                }
            }
            Ok::<_, StoreError>(false)
        })
    }
}
