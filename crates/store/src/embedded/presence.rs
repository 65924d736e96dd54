//! Who is online, which is kept in memory alone.
//!
//! Only the one process that has the store has clients in it, and all of them go with it. There are no streams here: who came, who
//! went and what was missed is told to nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use midge_core::entry::{Entry, Fields};
use midge_core::key::Key;
use midge_core::name::{ClientId, NodeName, Username};

use super::Shared;
use crate::StoreError;
use crate::presence::{Beat, Bounds, Change, Entries, Outcome, PresenceLog, Who};

/// Of how many users is kept when they were there last; of further ones it isn't.
const MAX_SEEN: usize = 100_000;

/// Who is there, and who was.
#[derive(Default)]
pub(super) struct Present(Mutex<State>);

#[derive(Default)]
struct State {
    /// The clients of each user, with since when they are there in milliseconds since 1970.
    online: BTreeMap<Option<Username>, BTreeMap<ClientId, u64>>,
    seen: BTreeMap<Username, (u64, ClientId)>,
    /// The process itself, once it has shown somebody.
    node: Option<NodeName>,
}

impl Present {
    /// Returns a user's clients, as [`Key::Online`] holds them.
    pub(super) fn online(&self, user: Option<&Username>) -> Entry {
        let state = self.lock();
        let (Some(clients), Some(node)) = (state.online.get(&user.cloned()), &state.node) else { return Entry::Missing };
        let field =
            |(client, since): (&ClientId, &u64)| (client.as_str().as_bytes().to_vec(), format!("{node} {since}").into_bytes());
        Entry::Hash(clients.iter().map(field).collect())
    }

    /// Returns when a user was there last, as [`Key::Seen`] holds it.
    pub(super) fn seen(&self, user: &Username) -> Entry {
        let state = self.lock();
        let (Some((at, client)), Some(node)) = (state.seen.get(user), &state.node) else { return Entry::Missing };
        let field = |name: &str, value: String| (name.as_bytes().to_vec(), value.into_bytes());
        let fields: Fields =
            vec![field("at", at.to_string()), field("client", client.to_string()), field("node", node.to_string())];
        Entry::Hash(fields)
    }

    /// Returns the keys of all users of whom anybody is there.
    pub(super) fn list(&self) -> Vec<Key> {
        self.lock().online.keys().cloned().map(Key::Online).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn change(&mut self, change: &Change) -> Outcome {
        let Who { user, client } = change.who();
        match change {
            Change::Online { since, .. } => {
                let before = self.online.entry(user.clone()).or_default().insert(client.clone(), *since);
                if before == Some(*since) { Outcome::Known } else { Outcome::New }
            }
            Change::Offline { since, until, .. } => {
                let Some(clients) = self.online.get_mut(user) else { return Outcome::Known };
                if clients.get(client) != Some(since) {
                    return Outcome::Known;
                }
                clients.remove(client);
                if clients.is_empty() {
                    self.online.remove(user);
                }
                if let Some(user) = user.clone().filter(|user| self.seen.len() < MAX_SEEN || self.seen.contains_key(user)) {
                    self.seen.insert(user, (*until, client.clone()));
                }
                Outcome::New
            }
        }
    }
}

/// A connection for presence.
pub(super) struct Log(pub(super) Arc<Shared>);

impl PresenceLog for Log {
    fn beat(&mut self, _: &NodeName, _: u64) -> Result<Beat, StoreError> {
        let entries = self.0.present.lock().online.values().map(BTreeMap::len).sum::<usize>() as u64;
        Ok(Beat { lapsed: false, entries })
    }

    fn write(&mut self, node: &NodeName, changes: &[Change], _: &Bounds) -> Result<Vec<Outcome>, StoreError> {
        let mut state = self.0.present.lock();
        if state.node.as_ref() != Some(node) {
            state.node = Some(node.clone());
        }
        Ok(changes.iter().map(|change| state.change(change)).collect())
    }

    fn tells(&self) -> bool {
        true
    }

    fn tell(&mut self, _: &[Fields], _: &Bounds) -> Result<(), StoreError> {
        Ok(())
    }

    fn tell_missed(&mut self, _: &[Fields], _: &Bounds) -> Result<(), StoreError> {
        Ok(())
    }

    fn dead(&mut self) -> Result<Vec<NodeName>, StoreError> {
        Ok(Vec::new())
    }

    fn entries(&mut self, _: &NodeName, _: u64) -> Result<Entries, StoreError> {
        Ok(Entries { alive: true, ..Entries::default() })
    }

    fn forget(&mut self, _: &NodeName) -> Result<(), StoreError> {
        Ok(())
    }
}
