//! Writes to the store what decisions want written.
//!
//! Losing an effect loses no promise, so a store that takes no writes is left alone for a while and still answers logins.

use std::time::Duration;

use midge_core::gate::Effect;
use midge_core::key::Key;
use midge_core::name::Shown;

use super::Worker;
use crate::{Write, Written};

/// How long after a failed write none is tried.
const REST: Duration = Duration::from_secs(10);

impl Worker<'_> {
    pub(super) fn write_effects(&mut self) {
        if self.store.is_none() || self.now().monotonic < self.effects_at {
            return;
        }
        let effects = self.shared.gate.take_effects();
        if effects.is_empty() {
            return;
        }
        let window = self.shared.gate.shield().window();
        let mut writes = Vec::new();
        let mut rehashes = Vec::new();
        for effect in effects {
            match effect {
                Effect::Failed(targets) => {
                    writes.extend(targets.into_iter().map(|target| Write::Increment { key: Key::Shield(target), ttl: window }));
                }
                Effect::Forgiven(target) => writes.push(Write::Remove(Key::Shield(target))),
                Effect::Rehash { user, old, new } => rehashes.push((Key::User(user), old, new)),
            }
        }
        self.write_counts(&writes);
        for (key, old, new) in rehashes {
            // Nobody's newer password may be overwritten by the encoding of the old one.
            match self.ask(|store| store.replace_field(&key, b"password", old.as_bytes(), new.as_bytes())) {
                Some(Written::Failed(why)) => {
                    let key = self.shared.backend.key_space().render(&key);
                    self.complain(&format!("the password of {} can't be encoded anew in the store: {why}", Shown(&key)));
                }
                Some(Written::Count(_)) => {}
                None => break,
            }
        }
        if self.store.is_none() {
            self.effects_at = self.now().monotonic + REST;
        }
    }

    fn write_counts(&mut self, writes: &[Write]) {
        if writes.is_empty() {
            return;
        }
        let Some(written) = self.ask(|store| store.write(writes)) else { return };
        let now = self.now();
        let mut complaint = None;
        for (write, written) in writes.iter().zip(written) {
            match (write.key(), written) {
                (Key::Shield(target), Written::Count(count)) if matches!(write, Write::Increment { .. }) => {
                    self.shared.gate.shield().learn(target, u32::try_from(count).unwrap_or(u32::MAX), now);
                }
                (_, Written::Failed(why)) => complaint = Some(why),
                _ => {}
            }
        }
        if let Some(why) = complaint {
            self.complain(&format!("failed logins can't be counted in the store: {why}"));
        }
    }

    fn complain(&mut self, what: &str) {
        if let Some(held_back) = self.flaws.pass(self.now().monotonic) {
            log::warn!("{what} ({held_back} more not shown)");
        }
    }
}
