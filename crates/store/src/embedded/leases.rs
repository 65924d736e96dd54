//! Records of servers, which are kept in memory alone.
//!
//! Only the one process that has the store can be in it, and renews its record every few seconds: no disk has to keep up with that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use midge_core::entry::{Entry, Fields};
use midge_core::key::Key;
use midge_core::name::NodeName;

use crate::{Write, Written};

/// The records that have not ended.
#[derive(Default)]
pub(super) struct Leases(Mutex<BTreeMap<NodeName, Lease>>);

struct Lease {
    fields: BTreeMap<Vec<u8>, Vec<u8>>,
    until: Option<Instant>,
}

impl Lease {
    fn lasts(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Leases {
    /// Returns what a server's record holds.
    pub(super) fn read(&self, name: &NodeName) -> Entry {
        match self.lock().get(name) {
            Some(lease) => Entry::Hash(lease.fields.clone().into_iter().collect::<Fields>()),
            None => Entry::Missing,
        }
    }

    /// Makes a change of a server's record.
    pub(super) fn write(&self, write: &Write) -> Written {
        let Key::Node(name) = write.key() else { return Written::Failed("ERR no server's record".to_owned()) };
        let mut leases = self.lock();
        let (new, until) = match write {
            Write::SetFields(_, fields) => (fields, None),
            Write::Renew { fields, ttl, .. } => (fields, Some(Instant::now() + *ttl)),
            Write::Remove(_) => return Written::Count(u64::from(leases.remove(name).is_some())),
            _ => return Written::Failed("WRONGTYPE the key holds another type".to_owned()),
        };
        if new.is_empty() {
            return Written::Failed("ERR no fields".to_owned());
        }
        let lease = leases.entry(name.clone()).or_insert_with(|| Lease { fields: BTreeMap::new(), until: None });
        lease.until = until.or(lease.until);
        let added = new.iter().filter(|(field, value)| lease.fields.insert(field.clone(), value.clone()).is_none()).count();
        Written::Count(added as u64)
    }

    /// Returns the keys of all records.
    pub(super) fn list(&self) -> Vec<Key> {
        self.lock().keys().cloned().map(Key::Node).collect()
    }

    /// Returns the records, without those that have ended.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, Lease>> {
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|_, lease| lease.lasts());
        leases
    }
}
