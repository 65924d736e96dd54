//! Writes to the store what decisions want written.
//!
//! Losing an effect loses no promise, so a store that takes no writes is left alone for a while and still answers logins.

use std::time::Duration;

use midge_core::gate::Effect;
use midge_core::key::Key;

use super::Worker;
use crate::{Write, Written};

/// How long after a failed write none is tried.
const REST: Duration = Duration::from_secs(10);
/// How many stored passwords are replaced between two looks at what waits; each takes two round trips.
const REHASHES: usize = 16;

impl Worker<'_> {
    pub(super) fn write_effects(&mut self) {
        if self.store.is_none() || self.now().monotonic < self.effects_at {
            return;
        }
        // Further ones stay where they are bounded.
        if self.rehashes.is_empty() {
            self.take_effects();
        }
        self.rehash_some();
        if self.store.is_none() {
            self.rehashes.clear();
            self.effects_at = self.now().monotonic + REST;
        }
    }

    fn take_effects(&mut self) {
        let window = self.shared.gate.shield().window();
        let mut writes = Vec::new();
        for effect in self.shared.gate.take_effects() {
            match effect {
                Effect::Failed(targets) => {
                    writes.extend(targets.into_iter().map(|target| Write::Increment { key: Key::Shield(target), ttl: window }));
                }
                Effect::Forgiven(target) => writes.push(Write::Remove(Key::Shield(target))),
                Effect::Rehash { user, old, new } => self.rehashes.push_back((Key::User(user), old, new)),
            }
        }
        self.write_counts(&writes);
    }

    fn rehash_some(&mut self) {
        for _ in 0..REHASHES {
            let Some((key, old, new)) = self.rehashes.pop_front() else { return };
            // Nobody's newer password may be overwritten by the encoding of the old one.
            let replaced = self.ask(|store| store.replace_field(&key, b"password", old.as_bytes(), new.as_bytes()));
            match replaced {
                Some(Written::Failed(why)) => self.complain_of_write(&key, "the password stays in its weaker encoding", &why),
                Some(Written::Count(_)) => {}
                None => return,
            }
        }
    }

    fn write_counts(&mut self, writes: &[Write]) {
        if writes.is_empty() {
            return;
        }
        let Some(written) = self.ask(|store| store.write(writes)) else { return };
        let now = self.now();
        for (write, written) in writes.iter().zip(written) {
            match (write.key(), written) {
                (Key::Shield(target), Written::Count(count)) if matches!(write, Write::Increment { .. }) => {
                    self.shared.gate.shield().learn(target, u32::try_from(count).unwrap_or(u32::MAX), now);
                }
                (key, Written::Failed(why)) => self.complain_of_write(key, "failed logins can't be counted in the store", &why),
                _ => {}
            }
        }
    }

    pub(super) fn complain_of_write(&mut self, key: &Key, effect: &str, why: &str) {
        if let Some(held_back) = self.refusals.pass(self.now().monotonic) {
            let key = self.shared.backend.key_space().render(key);
            let key = midge_core::name::Shown(&key).to_string();
            log::warn!("{key}: {effect}: {why}; docs/REDIS.md lists the rights ({held_back} more of these not shown)");
        }
    }
}
