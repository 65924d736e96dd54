//! Tells a store that was emptied from users who were deleted.
//!
//! A part of the store that has not a single policy key, where keys of it are known, was restarted empty or flushed.
//! That is no word about anybody's account, so what is missing there counts as not asked, until the bounded age is over,
//! or until somebody has filled it again and is done with it.
//! The same holds where a flush was announced, or a server was found to have begun anew, and some keys are there again.
//! A key that is deleted by itself is announced by name, and counts at once. Where changes are found by reading everything
//! again, no key has a name: the very last policy key of a part that goes there looks like a part that was emptied.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use midge_core::entry::Entry;
use midge_core::gate::StoreDown;
use midge_core::key::Key;
use midge_core::time::Now;

use super::Worker;
use crate::{KeyKind, Part, Store, StoreError};

/// How long nothing may have changed before a store that is being filled again counts as filled.
const QUIET: Duration = Duration::from_secs(5);
/// When it counts as filled although something changes all the time.
const LONGEST: Duration = Duration::from_secs(60);
/// How often an emptied part is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What is known about parts of the store having been emptied.
#[derive(Debug, Default)]
pub(super) struct Emptiness {
    parts: HashMap<Part, State>,
    /// When the whole store, or some server of it, may have lost its keys without having none.
    doubted_at: Option<Duration>,
    stirred_at: Duration,
    /// How often servers had been found to have begun anew.
    beginnings: u64,
}

#[derive(Debug)]
enum State {
    Lost(Lost),
    /// That there is nothing has been taken for what the operator wants.
    Believed,
}

#[derive(Debug)]
struct Lost {
    since: Duration,
    /// Since when there has been policy again.
    refilled_at: Option<Duration>,
    look_at: Duration,
}

impl Emptiness {
    /// Notes that keys have just changed.
    pub(super) fn stir(&mut self, now: Now) {
        self.stirred_at = now.monotonic;
    }

    /// Notes that all keys may have been lost, and some have come back.
    pub(super) fn doubt(&mut self, now: Now) {
        self.doubted_at = Some(now.monotonic);
    }

    /// Returns when what began to be filled at `at` counts as filled.
    fn filled_at(&self, at: Duration) -> Duration {
        (at.max(self.stirred_at) + QUIET).min(at + LONGEST)
    }

    fn is_doubtful(&self, now: Now) -> bool {
        self.doubted_at.is_some_and(|at| now.monotonic < self.filled_at(at))
    }

    fn lost(&self) -> impl Iterator<Item = &Lost> {
        self.parts.values().filter_map(|state| match state {
            State::Lost(lost) => Some(lost),
            State::Believed => None,
        })
    }
}

fn is_policy(key: &Key) -> bool {
    matches!(key, Key::User(_) | Key::UserAcl(_) | Key::GroupAcl(_) | Key::AllAcl)
}

impl Worker<'_> {
    /// Notes that the store has what was read: the next time that all is gone is another one.
    pub(super) fn see_policy(&mut self, read: &[(Key, Entry)]) {
        let Some(store) = &self.store else { return };
        if self.emptiness.parts.values().any(|state| matches!(state, State::Believed)) {
            for (key, _) in read.iter().filter(|(key, entry)| is_policy(key) && *entry != Entry::Missing) {
                let part = store.part_of(key);
                if matches!(self.emptiness.parts.get(&part), Some(State::Believed)) {
                    self.emptiness.parts.remove(&part);
                }
            }
        }
    }

    /// Returns those of `missing`, known keys that the store doesn't have, that were lost with all else, rather than deleted.
    pub(super) fn lost_of<'k>(&mut self, missing: impl Iterator<Item = &'k Key>) -> HashSet<Key> {
        let mut parts: HashMap<Option<Part>, HashSet<Key>> = HashMap::new();
        for key in missing {
            let part = self.store.as_ref().map(|store| store.part_of(key));
            parts.entry(part).or_default().insert(key.clone());
        }
        // Nothing is believed of a store that can't be looked into.
        parts.retain(|part, _| part.as_ref().is_none_or(|part| !self.believes_loss(part)));
        parts.into_values().flatten().collect()
    }

    /// Returns whether known keys that are missing from `part` were deleted.
    fn believes_loss(&mut self, part: &Part) -> bool {
        let now = self.now();
        let beginnings = self.store.as_ref().map_or(self.emptiness.beginnings, |store| store.beginnings());
        if std::mem::replace(&mut self.emptiness.beginnings, beginnings) != beginnings {
            self.emptiness.doubt(now);
        }
        match self.emptiness.parts.get(part) {
            Some(State::Lost(_)) => return false,
            Some(State::Believed) => return true,
            None => {}
        }
        let mut lost = Lost { since: now.monotonic, refilled_at: None, look_at: now.monotonic + LOOK };
        match self.ask(|store| has_policy(store, part)) {
            Some(false) => {
                log::error!("{part} has lost all users and rules; what is known of them stays in force for the bounded age");
            }
            Some(true) if self.emptiness.is_doubtful(now) => {
                log::warn!("{part} has lost users or rules and is being filled again; what is missing counts once that is done");
                lost.refilled_at = Some(now.monotonic);
            }
            Some(true) => return true,
            None => return false,
        }
        self.emptiness.parts.insert(part.clone(), State::Lost(lost));
        self.note_emptiness();
        false
    }

    /// Ends the time in which what is missing doesn't count.
    pub(super) fn end_emptiness(&mut self) {
        let now = self.now().monotonic;
        let ages = |lost: &Lost| match self.shared.gate.store_down() {
            StoreDown::Deny => true,
            StoreDown::LastKnownGood(longest) => now.saturating_sub(lost.since) > longest,
        };
        let due = |lost: &Lost| self.store.is_some() && now >= lost.look_at;
        let (mut over, mut look_into) = (Vec::new(), Vec::new());
        for (part, state) in &self.emptiness.parts {
            match state {
                State::Lost(lost) if ages(lost) => over.push(part.clone()),
                State::Lost(lost) if due(lost) => look_into.push(part.clone()),
                _ => {}
            }
        }
        for part in over {
            log::error!("{part} still lacks users and rules: they no longer exist");
            self.emptiness.parts.insert(part, State::Believed);
            self.judge_again();
        }
        for part in look_into {
            self.look_into(&part);
        }
    }

    fn look_into(&mut self, part: &Part) {
        let (now, start) = (self.now().monotonic, Instant::now());
        let found = self.ask(|store| has_policy(store, part));
        // A look at a store full of other things takes its time, and shall take a small part of all.
        let look_at = now + LOOK.max(start.elapsed() * 20);
        let Some(State::Lost(lost)) = self.emptiness.parts.get_mut(part) else { return };
        lost.look_at = look_at;
        match found {
            Some(true) => {
                let refilled_at = *lost.refilled_at.get_or_insert(now);
                if now >= self.emptiness.filled_at(refilled_at) {
                    log::info!("{part} has users and rules again");
                    self.emptiness.parts.remove(part);
                    self.judge_again();
                }
            }
            Some(false) => lost.refilled_at = None,
            None => {}
        }
    }

    fn judge_again(&mut self) {
        self.note_emptiness();
        self.sweep_all();
        self.bans.want();
    }

    fn note_emptiness(&mut self) {
        let emptied = self.emptiness.lost().next().is_some();
        self.shared.note(|health| health.emptied = emptied);
    }
}

/// Returns whether `part` holds any user or rule; one that is no part any more has lost nothing.
fn has_policy(store: &mut dyn Store, part: &Part) -> Result<bool, StoreError> {
    let Some(first) = store.first_page(part) else { return Ok(true) };
    if store.part_of(&Key::AllAcl) == *part && store.read(&[Key::AllAcl])?.first().is_some_and(|entry| *entry != Entry::Missing) {
        return Ok(true);
    }
    for kind in [KeyKind::User, KeyKind::GroupAcl, KeyKind::UserAcl] {
        let mut next = Some(first.clone());
        while let Some(page) = next.take().filter(|page| page.node == first.node) {
            let (keys, more) = store.list_page(kind, &page)?;
            if !keys.is_empty() {
                return Ok(true);
            }
            next = more;
        }
    }
    Ok(false)
}
