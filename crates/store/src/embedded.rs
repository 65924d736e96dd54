//! A store in a directory, for those who need no Redis.
//!
//! One process has it at a time; all connections in it share one database. What was answered is on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use midge_core::entry::{Entry, Fields};
use midge_core::key::{Key, KeySpace};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{Backend, Change, KeyKind, Store, StoreError, StoreSettings, Watch, WatchMode, Write, Written};

/// A key of ours to its content, encoded by [`Content`].
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
const FILE: &str = "midge.redb";
/// How many keys one page of a listing holds.
const PAGE: usize = 1_000;

/// An opened directory.
pub(crate) struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    settings: StoreSettings,
    watches: Mutex<Vec<Sender<Change>>>,
}

impl Embedded {
    pub(crate) fn open(directory: &Path, settings: &StoreSettings) -> Result<Self, StoreError> {
        let refused = |text: String| StoreError::Refused(format!("{}: {text}", directory.display()));
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(refused("is not a directory".to_owned())),
            Err(error) => return Err(refused(format!("can't be made: {error}"))),
        }
        let file = directory.join(FILE);
        let database = Database::create(&file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                refused("is in use by another process: is a midge running on it? Talk to that one, or stop it first".to_owned())
            }
            other => refused(format!("{FILE} can't be opened: {other}")),
        })?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(|error| refused(error.to_string()))?;
        let start = database.begin_write().map_err(|error| refused(error.to_string()))?;
        start.open_table(ENTRIES).map(drop).map_err(|error| refused(error.to_string()))?;
        start.commit().map_err(|error| refused(error.to_string()))?;
        Ok(Self { shared: Arc::new(Shared { database, settings: settings.clone(), watches: Mutex::default() }) })
    }
}

impl Backend for Embedded {
    fn connect(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(Handle { shared: self.shared.clone() }))
    }

    fn watch(&self) -> Result<Box<dyn Watch>, StoreError> {
        let (sender, changes) = channel();
        self.shared.watches.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(Box::new(LocalWatch { changes }))
    }

    fn key_space(&self) -> &KeySpace {
        &self.shared.settings.keys
    }
}

/// What a key holds: a hash, or a string that may end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Text { value: Vec<u8>, until_ms: Option<u64> },
}

const HASH: u8 = 1;
const TEXT: u8 = 2;

impl Content {
    /// Writes one byte for the kind; a hash as fields and values with 32 bit lengths, a string behind its 64 bit end (0: none).
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Hash(fields) => {
                out.push(HASH);
                for part in fields.iter().flat_map(|(field, value)| [field, value]) {
                    out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
                    out.extend(part);
                }
            }
            Self::Text { value, until_ms } => {
                out.push(TEXT);
                out.extend(until_ms.unwrap_or(0).to_le_bytes());
                out.extend(value);
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&HASH, mut rest) => {
                let mut fields = BTreeMap::new();
                while !rest.is_empty() {
                    let (field, value);
                    (field, rest) = take_part(rest)?;
                    (value, rest) = take_part(rest)?;
                    fields.insert(field.to_vec(), value.to_vec());
                }
                Some(Self::Hash(fields))
            }
            (&TEXT, rest) => {
                let (until, value) = rest.split_first_chunk::<8>()?;
                let until_ms = Some(u64::from_le_bytes(*until)).filter(|until| *until != 0);
                Some(Self::Text { value: value.to_vec(), until_ms })
            }
            _ => None,
        }
    }

    fn has_ended(&self, now_ms: u64) -> bool {
        matches!(self, Self::Text { until_ms: Some(until), .. } if *until <= now_ms)
    }
}

fn take_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn until(ttl: Duration) -> u64 {
    now_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}

struct Handle {
    shared: Arc<Shared>,
}

fn away(error: impl std::fmt::Display) -> StoreError {
    StoreError::Away(error.to_string())
}

impl Handle {
    fn entry(&self, key: &Key, bytes: &[u8]) -> Entry {
        let text = matches!(key, Key::Ban(_) | Key::Shield(_));
        let now = now_ms();
        match Content::decode(bytes) {
            None => Entry::Unreadable("the record is damaged".to_owned()),
            Some(content) if content.has_ended(now) => Entry::Missing,
            Some(Content::Hash(fields)) if !text => match fields.len() {
                0 => Entry::Missing,
                many if many > self.shared.settings.max_fields => {
                    Entry::Unreadable(format!("has {many} fields, at most {} are read", self.shared.settings.max_fields))
                }
                _ => Entry::Hash(fields.into_iter().collect::<Fields>()),
            },
            Some(Content::Text { value, until_ms }) if text => {
                Entry::Text { value, ttl: until_ms.map(|until| Duration::from_millis(until.saturating_sub(now))) }
            }
            Some(Content::Hash(_)) => Entry::Unreadable("holds another type; a string is expected".to_owned()),
            Some(Content::Text { .. }) => Entry::Unreadable("holds another type; a hash is expected".to_owned()),
        }
    }

    fn announce(&self, changes: &[Change]) {
        let mut watches = self.shared.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| changes.iter().all(|change| watch.send(change.clone()).is_ok()));
    }
}

/// Makes one change of what a key held; returns what it holds then.
fn change(content: Option<Content>, write: &Write) -> (Option<Content>, Written) {
    let wrong_type = |content| (Some(content), Written::Failed("WRONGTYPE the key holds another type".to_owned()));
    match (write, content) {
        (Write::SetFields(_, fields), content @ (None | Some(Content::Hash(_)))) => {
            let mut hash = match content {
                Some(Content::Hash(hash)) => hash,
                _ => BTreeMap::new(),
            };
            let added = fields.iter().filter(|(field, value)| hash.insert(field.clone(), value.clone()).is_none()).count();
            (Some(Content::Hash(hash)), Written::Count(added as u64))
        }
        (Write::RemoveFields(..), None) => (None, Written::Count(0)),
        (Write::RemoveFields(_, fields), Some(Content::Hash(mut hash))) => {
            let removed = fields.iter().filter(|field| hash.remove(*field).is_some()).count();
            (Some(Content::Hash(hash)).filter(|content| *content != Content::Hash(BTreeMap::new())), Written::Count(removed as u64))
        }
        (Write::Remove(_), content) => (None, Written::Count(u64::from(content.is_some()))),
        (Write::SetText { value, ttl, .. }, _) => {
            (Some(Content::Text { value: value.clone(), until_ms: ttl.map(until) }), Written::Count(1))
        }
        (Write::Increment { ttl, .. }, content @ (None | Some(Content::Text { .. }))) => {
            let before = match &content {
                Some(Content::Text { value, .. }) => std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok()),
                _ => Some(0),
            };
            match before {
                Some(before) => {
                    let value = (before + 1).to_string().into_bytes();
                    (Some(Content::Text { value, until_ms: Some(until(*ttl)) }), Written::Count(before + 1))
                }
                None => (content, Written::Failed("ERR the key holds no number".to_owned())),
            }
        }
        (_, Some(content)) => wrong_type(content),
    }
}

impl Store for Handle {
    fn read(&mut self, keys: &[Key]) -> Result<Vec<Entry>, StoreError> {
        let read = self.shared.database.begin_read().map_err(away)?;
        let table = read.open_table(ENTRIES).map_err(away)?;
        let space = &self.shared.settings.keys;
        keys.iter()
            .map(|key| {
                let found = table.get(space.render(key).as_str()).map_err(away)?;
                Ok(found.map_or(Entry::Missing, |bytes| self.entry(key, bytes.value())))
            })
            .collect()
    }

    fn write(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        let space = &self.shared.settings.keys;
        let transaction = self.shared.database.begin_write().map_err(away)?;
        let mut written = Vec::with_capacity(writes.len());
        {
            let mut table = transaction.open_table(ENTRIES).map_err(away)?;
            for write in writes {
                let key = space.render(write.key());
                let before = table.get(key.as_str()).map_err(away)?.and_then(|bytes| Content::decode(bytes.value()));
                let (after, outcome) = change(before.filter(|content| !content.has_ended(now_ms())), write);
                match after {
                    Some(content) => drop(table.insert(key.as_str(), content.encode().as_slice()).map_err(away)?),
                    None => drop(table.remove(key.as_str()).map_err(away)?),
                }
                written.push(outcome);
            }
        }
        transaction.commit().map_err(away)?;
        let changes: Vec<Change> = writes.iter().map(|write| Change::Key(write.key().clone())).collect();
        self.announce(&changes);
        Ok(written)
    }

    fn list(&mut self, kind: KeyKind, visit: &mut dyn FnMut(Key) -> ControlFlow<()>) -> Result<(), StoreError> {
        let space = self.shared.settings.keys.clone();
        let mut after: Option<String> = None;
        loop {
            // A page at a time, so that no reader keeps old pages of the database alive for long.
            let page = self.page(after.as_deref())?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let keys = page.iter().filter(|(_, ended)| !ended).filter_map(|(name, _)| space.parse(name.as_bytes()));
            for key in keys.filter(|key| KeyKind::of(key) == Some(kind)) {
                if visit(key).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn ping(&mut self) -> Result<(), StoreError> {
        self.shared.database.begin_read().map(drop).map_err(away)
    }
}

impl Handle {
    /// Returns the next keys behind `after`, and whether each has ended.
    fn page(&self, after: Option<&str>) -> Result<Vec<(String, bool)>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let read = self.shared.database.begin_read().map_err(away)?;
        let table = read.open_table(ENTRIES).map_err(away)?;
        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        let now = now_ms();
        table
            .range::<&str>(range)
            .map_err(away)?
            .take(PAGE)
            .map(|row| {
                let (key, value) = row.map_err(away)?;
                Ok((key.value().to_owned(), Content::decode(value.value()).is_some_and(|content| content.has_ended(now))))
            })
            .collect()
    }
}

struct LocalWatch {
    changes: Receiver<Change>,
}

impl Watch for LocalWatch {
    fn next(&mut self, wait: Duration) -> Result<Vec<Change>, StoreError> {
        match self.changes.recv_timeout(wait) {
            Ok(change) => Ok(std::iter::once(change).chain(self.changes.try_iter()).collect()),
            Err(RecvTimeoutError::Timeout) => Ok(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => Err(StoreError::Away("the store was closed".to_owned())),
        }
    }

    fn mode(&self) -> WatchMode {
        WatchMode::Local
    }
}
