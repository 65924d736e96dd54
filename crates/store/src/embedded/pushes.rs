//! The streams and tables of pushes in a directory.
//!
//! What [`PushWriter::add`] has answered is on disk, and so is how far the one server of the directory has come.
//! When that was said and what became of pushes is kept in memory: both end with the process.
//! At [`MOST`] entries no further one is taken: what was taken is not dropped for it.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::{Shared, away, now_ms, take_part, until};
use crate::StoreError;
use crate::push::{Entry, EntryId, NodeResult, PushLog, PushWriter, Reader};

/// The entries: names and values, each behind its length in 32 bits.
const ENTRIES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("pushes");
/// Entries that were no pushes, in the same form.
const DEAD: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("push_dead");
/// How far each node has come; under [`LAST`] the last entry there ever was.
const PLACES: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("push_places");
/// Identifiers: the entry that had it first, and when it ends, in milliseconds since 1970.
const IDENTIFIERS: TableDefinition<'_, &str, (u64, u64, u64)> = TableDefinition::new("push_identifiers");
/// The same by their ends.
const ENDS: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("push_identifier_ends");

/// No node has an empty name.
const LAST: &str = "";

/// How many entries may wait.
const MOST: u64 = 1_000_000;

/// What all connections have in common, in memory.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// An entry was added.
    added: Condvar,
}

#[derive(Default)]
struct State {
    /// How often an entry was added.
    additions: u64,
    /// When nodes said how far they are, in seconds since 1970.
    said: BTreeMap<String, u64>,
    results: BTreeMap<EntryId, (Instant, Vec<NodeResult>)>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the tables, so that all others find them.
pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::TableError> {
    transaction.open_table(ENTRIES)?;
    transaction.open_table(DEAD)?;
    transaction.open_table(PLACES)?;
    transaction.open_table(IDENTIFIERS)?;
    transaction.open_table(ENDS).map(drop)
}

/// A connection for pushes.
pub(super) struct Log {
    shared: Arc<Shared>,
}

impl Log {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.shared.database.begin_read().map_err(away)
    }

    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        self.shared.database.begin_write().map_err(away)
    }

    fn read_now(&self, after: EntryId, count: usize) -> Result<Vec<Entry>, StoreError> {
        let read = self.begin_read()?;
        let table = read.open_table(ENTRIES).map_err(away)?;
        let rows = table.range::<(u64, u64)>((Excluded(key(after)), Unbounded)).map_err(away)?.take(count);
        rows.map(|row| {
            let (id, bytes) = row.map_err(away)?;
            // One that is damaged has no fields, and is no push.
            Ok(Entry { id: entry_id(id.value()), fields: decode(bytes.value()).unwrap_or_default() })
        })
        .collect()
    }

    /// Returns whether there is anything to trim.
    fn is_trimmable(&self, keep_from: EntryId, most: u64) -> Result<bool, StoreError> {
        let read = self.begin_read()?;
        let entries = read.open_table(ENTRIES).map_err(away)?;
        let first = entries.first().map_err(away)?.map(|(id, _)| entry_id(id.value()));
        let ends = read.open_table(ENDS).map_err(away)?;
        let end = ends.first().map_err(away)?.map(|(end, _)| end.value().0);
        let full = entries.len().map_err(away)? > most;
        Ok(full || first.is_some_and(|first| first < keep_from) || end.is_some_and(|end| end <= now_ms()))
    }
}

fn key(id: EntryId) -> (u64, u64) {
    (id.milliseconds, id.sequence)
}

fn entry_id((milliseconds, sequence): (u64, u64)) -> EntryId {
    EntryId { milliseconds, sequence }
}

fn encode<'f>(fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in fields.into_iter().flat_map(|(name, value)| [name, value]) {
        out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(part);
    }
    out
}

fn decode(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (name, value);
        (name, bytes) = take_part(bytes)?;
        (value, bytes) = take_part(bytes)?;
        fields.push((name.to_vec(), value.to_vec()));
    }
    Some(fields)
}

impl PushWriter for Log {
    fn add(&mut self, fields: &[(&str, Vec<u8>)]) -> Result<EntryId, StoreError> {
        let write = self.begin_write()?;
        let id = {
            let mut entries = write.open_table(ENTRIES).map_err(away)?;
            if entries.len().map_err(away)? >= MOST {
                return Err(StoreError::Refused(format!("{MOST} pushes wait already, and nobody passes them on")));
            }
            let mut places = write.open_table(PLACES).map_err(away)?;
            let last = places.get(LAST).map_err(away)?.map(|last| entry_id(last.value())).unwrap_or_default();
            // A clock that was set back gives no id twice.
            let id = EntryId { milliseconds: now_ms(), sequence: 0 }.max(last.next());
            places.insert(LAST, key(id)).map_err(away)?;
            let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
            entries.insert(key(id), encode(fields).as_slice()).map_err(away)?;
            id
        };
        write.commit().map_err(away)?;
        self.shared.pushes.lock().additions += 1;
        self.shared.pushes.added.notify_all();
        Ok(id)
    }

    fn readers(&mut self) -> Result<Vec<Reader>, StoreError> {
        let read = self.begin_read()?;
        let places = read.open_table(PLACES).map_err(away)?;
        let state = self.shared.pushes.lock();
        let rows = places.range::<&str>((Excluded(LAST), Unbounded)).map_err(away)?;
        rows.map(|row| {
            let (node, place) = row.map_err(away)?;
            let unix = state.said.get(node.value()).copied().unwrap_or(0);
            Ok(Reader { node: node.value().to_owned(), position: entry_id(place.value()), unix })
        })
        .collect()
    }

    fn results(&mut self, entry: EntryId) -> Result<Vec<NodeResult>, StoreError> {
        let state = self.shared.pushes.lock();
        let found = state.results.get(&entry).filter(|(end, _)| *end > Instant::now());
        Ok(found.map(|(_, results)| results.clone()).unwrap_or_default())
    }
}

impl PushLog for Log {
    fn read(&mut self, after: EntryId, count: usize, wait: Duration) -> Result<Vec<Entry>, StoreError> {
        // Looked at before the entries, so that none that comes in between is waited for.
        let seen = self.shared.pushes.lock().additions;
        let now = self.read_now(after, count)?;
        if !now.is_empty() {
            return Ok(now);
        }
        let nothing_new = |state: &mut State| state.additions == seen;
        let waited = self.shared.pushes.added.wait_timeout_while(self.shared.pushes.lock(), wait, nothing_new);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.read_now(after, count)
    }

    /// Returns where the node of another name was, or the beginning: nobody else reads here.
    fn beginning(&mut self) -> Result<EntryId, StoreError> {
        Ok(self.readers()?.into_iter().map(|reader| reader.position).max().unwrap_or_default())
    }

    fn report(&mut self, reader: &Reader) -> Result<(), StoreError> {
        let is_known = {
            let read = self.begin_read()?;
            let places = read.open_table(PLACES).map_err(away)?;
            places.get(reader.node.as_str()).map_err(away)?.is_some_and(|place| entry_id(place.value()) == reader.position)
        };
        if !is_known {
            let write = self.begin_write()?;
            let mut places = write.open_table(PLACES).map_err(away)?;
            places.insert(reader.node.as_str(), key(reader.position)).map_err(away)?;
            drop(places);
            write.commit().map_err(away)?;
        }
        self.shared.pushes.lock().said.insert(reader.node.clone(), reader.unix);
        Ok(())
    }

    fn forget(&mut self, node: &str) -> Result<(), StoreError> {
        let write = self.begin_write()?;
        write.open_table(PLACES).map_err(away)?.remove(node).map_err(away)?;
        write.commit().map_err(away)?;
        self.shared.pushes.lock().said.remove(node);
        Ok(())
    }

    fn claim(&mut self, identifiers: &[(&str, EntryId)], for_how_long: Duration) -> Result<Vec<bool>, StoreError> {
        let (now, end) = (now_ms(), until(for_how_long));
        let write = self.begin_write()?;
        let mut first = Vec::with_capacity(identifiers.len());
        {
            let mut holders = write.open_table(IDENTIFIERS).map_err(away)?;
            let mut ends = write.open_table(ENDS).map_err(away)?;
            for (identifier, entry) in identifiers {
                let holder = holders.get(*identifier).map_err(away)?.map(|holder| holder.value());
                if let Some((milliseconds, sequence, _)) = holder.filter(|(.., end)| *end > now) {
                    first.push(entry_id((milliseconds, sequence)) == *entry);
                    continue;
                }
                if let Some((.., old)) = holder {
                    ends.remove((old, *identifier)).map_err(away)?;
                }
                let (milliseconds, sequence) = key(*entry);
                holders.insert(*identifier, (milliseconds, sequence, end)).map_err(away)?;
                ends.insert((end, *identifier), ()).map_err(away)?;
                first.push(true);
            }
        }
        write.commit().map_err(away)?;
        Ok(first)
    }

    fn bury(&mut self, entry: &Entry, reason: &str, keep: usize) -> Result<(), StoreError> {
        let write = self.begin_write()?;
        {
            let mut dead = write.open_table(DEAD).map_err(away)?;
            let fields = entry.fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
            let fields = encode(std::iter::once((&b"reason"[..], reason.as_bytes())).chain(fields));
            dead.insert(key(entry.id), fields.as_slice()).map_err(away)?;
            while dead.len().map_err(away)? > keep as u64 {
                dead.pop_first().map_err(away)?;
            }
            write.open_table(ENTRIES).map_err(away)?.remove(key(entry.id)).map_err(away)?;
        }
        write.commit().map_err(away)
    }

    fn trim(&mut self, keep_from: EntryId, most: usize) -> Result<u64, StoreError> {
        if !self.is_trimmable(keep_from, most as u64)? {
            return Ok(0);
        }
        let now = now_ms();
        let write = self.begin_write()?;
        let mut dropped = 0;
        {
            let mut entries = write.open_table(ENTRIES).map_err(away)?;
            entries.retain_in(..key(keep_from), |_, _| false).map_err(away)?;
            while entries.len().map_err(away)? > most as u64 {
                entries.pop_first().map_err(away)?;
                dropped += 1;
            }
            let mut ends = write.open_table(ENDS).map_err(away)?;
            let mut holders = write.open_table(IDENTIFIERS).map_err(away)?;
            for row in ends.range(..=(now, "")).map_err(away)? {
                let (end, _) = row.map_err(away)?;
                holders.remove(end.value().1).map_err(away)?;
            }
            ends.retain_in(..=(now, ""), |_, ()| false).map_err(away)?;
        }
        write.commit().map_err(away)?;
        Ok(dropped)
    }

    fn put_result(&mut self, entry: EntryId, result: &NodeResult, for_how_long: Duration) -> Result<(), StoreError> {
        let mut state = self.shared.pushes.lock();
        let now = Instant::now();
        while let Some(first) = state.results.first_entry().filter(|first| first.get().0 <= now) {
            first.remove();
        }
        let (end, results) = state.results.entry(entry).or_insert_with(|| (now, Vec::new()));
        *end = now + for_how_long;
        results.retain(|known| known.node != result.node);
        results.push(result.clone());
        Ok(())
    }
}
