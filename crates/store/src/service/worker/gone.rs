//! Keys that were named as changed and are missing.
//!
//! Such a key was deleted, or it was changed and everything was lost before it was read.
//! The announcement tells which: so what was read waits until all that had happened by then has been told of.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use midge_core::directory::Directory;
use midge_core::entry::Entry;
use midge_core::key::Key;
use midge_core::name::Username;

use super::Worker;

/// What was read and not applied yet.
#[derive(Debug, Default)]
pub(super) struct Gone {
    read: HashMap<Key, (Entry, Instant)>,
}

impl Gone {
    /// Returns how many keys wait.
    pub(super) fn len(&self) -> usize {
        self.read.len()
    }

    /// Returns of which moment's past has to be heard for the first of them.
    pub(super) fn wants(&self) -> Option<Instant> {
        self.read.values().map(|(_, read_at)| *read_at).min()
    }

    /// Keeps what has to wait of `named`, which was read until `read_at`, and returns the others.
    ///
    /// What was read of one user stays together, so that nobody meets a new record beside old rules.
    pub(super) fn set_aside(&mut self, named: Vec<(Key, Entry)>, known: &Directory, read_at: Instant) -> Vec<(Key, Entry)> {
        for (key, _) in &named {
            self.read.remove(key);
        }
        let is_gone = |(key, entry): &(Key, Entry)| *entry == Entry::Missing && (matches!(key, Key::Ban(_)) || known.knows(key));
        let users: HashSet<Username> =
            named.iter().filter(|read| is_gone(read)).filter_map(|(key, _)| user_of(key)).cloned().collect();
        let (wait, others): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|read| is_gone(read) || user_of(&read.0).is_some_and(|user| users.contains(user)));
        self.read.extend(wait.into_iter().map(|(key, entry)| (key, (entry, read_at))));
        others
    }

    /// Gives up all of them and returns their keys.
    pub(super) fn take_all(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.read).into_keys().collect()
    }

    fn take(&mut self, heard: Instant) -> Vec<(Key, Entry)> {
        self.read.extract_if(|_, (_, read_at)| *read_at <= heard).map(|(key, (entry, _))| (key, entry)).collect()
    }
}

fn user_of(key: &Key) -> Option<&Username> {
    match key {
        Key::User(name) | Key::UserAcl(name) => Some(name),
        _ => None,
    }
}

impl Worker<'_> {
    /// Applies what has waited, as far as all before `heard` has been told of and everything was not lost.
    pub(super) fn confirm_gone(&mut self, heard: Option<Instant>) {
        let Some(heard) = heard else { return };
        let named = self.gone.take(heard);
        if named.is_empty() {
            return;
        }
        let keys: Vec<Key> = named.iter().map(|(key, _)| key.clone()).collect();
        self.apply_named(named);
        self.read_groups(keys.iter());
    }
}
