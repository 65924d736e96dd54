//! A store in a directory, for those who need no Redis.
//!
//! One process has it at a time; all connections in it share one database. What was answered is on disk,
//! but for what ends with the process in any case: the records of servers, and who is online.

mod leases;
mod presence;
mod pushes;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::Bound::{Excluded, Unbounded};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use midge_core::entry::{Entry, Fields};
use midge_core::key::{Key, KeySpace};
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition};

use leases::Leases;
use presence::Present;
use pushes::{Desk, Log};

use crate::presence::PresenceLog;
use crate::push::PushLog;
use crate::{Backend, Change, KeyKind, Page, Store, StoreError, StoreSettings, Watch, WatchMode, Write, Written};

/// A key of ours to its content, encoded by [`Content`].
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
type Entries<'t> = Table<'t, &'static str, &'static [u8]>;
const FILE: &str = "midge.redb";
/// How many keys one page of a listing holds.
const PAGE: usize = 1_000;
/// How many keys are looked at for each string with an end that is written, so that ended ones never pile up.
const PURGE: usize = 8;

/// An opened directory.
pub(crate) struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    leases: Leases,
    present: Present,
    pushes: Desk,
    settings: StoreSettings,
    watches: Mutex<Vec<Sender<Change>>>,
    /// Behind which key the search for ended strings goes on.
    purged_to: Mutex<String>,
}

impl Embedded {
    pub(crate) fn open(directory: &Path, settings: &StoreSettings) -> Result<Self, StoreError> {
        let refused = |text: String| StoreError::Refused(format!("{}: {text}", directory.display()));
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(refused("is not a directory".to_owned())),
            Err(error) => return Err(refused(format!("can't be made: {error}"))),
        }
        // Private from its first moment on, whatever the process's mask says.
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(directory.join(FILE));
        let file = file.map_err(|error| refused(format!("{FILE} can't be opened: {error}")))?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(|error| refused(error.to_string()))?;
        let database =
            FileBackend::new(file).and_then(|file| Database::builder().create_with_backend(file)).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => {
                    refused("is in use by another process: is a midge running on it? Talk to that one, or stop it first".to_owned())
                }
                other => refused(format!("{FILE} can't be opened: {other}")),
            })?;
        let start = database.begin_write().map_err(|error| refused(error.to_string()))?;
        start.open_table(ENTRIES).map(drop).map_err(|error| refused(error.to_string()))?;
        pushes::make_tables(&start).map_err(|error| refused(error.to_string()))?;
        start.commit().map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            shared: Arc::new(Shared {
                database,
                leases: Leases::default(),
                present: Present::default(),
                pushes: Desk::default(),
                settings: settings.clone(),
                watches: Mutex::default(),
                purged_to: Mutex::default(),
            }),
        })
    }
}

impl Backend for Embedded {
    fn connect(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(Handle { shared: self.shared.clone() }))
    }

    fn watch(&self) -> Result<Box<dyn Watch>, StoreError> {
        let (sender, changes) = channel();
        self.shared.watches.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(Box::new(LocalWatch { changes, heard_until: Instant::now() }))
    }

    fn pushes(&self) -> Result<Box<dyn PushLog>, StoreError> {
        Ok(Box::new(Log::new(self.shared.clone())))
    }

    fn presence(&self) -> Result<Box<dyn PresenceLog>, StoreError> {
        Ok(Box::new(presence::Log(self.shared.clone())))
    }

    fn key_space(&self) -> &KeySpace {
        &self.shared.settings.keys
    }
}

/// What a key holds: a hash or a string, either of which may end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Hash { fields: BTreeMap<Vec<u8>, Vec<u8>>, until_ms: Option<u64> },
    Text { value: Vec<u8>, until_ms: Option<u64> },
}

const HASH: u8 = 1;
const TEXT: u8 = 2;
const ENDING_HASH: u8 = 3;

impl Content {
    /// Returns a hash without fields and end.
    fn empty() -> Self {
        Self::Hash { fields: BTreeMap::new(), until_ms: None }
    }

    /// Writes one byte for the kind; for a string (0: none) and a hash that ends its 64 bit end; then the string's bytes,
    /// or the hash's fields and values with 32 bit lengths.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Hash { fields, until_ms } => {
                out.push(if until_ms.is_some() { ENDING_HASH } else { HASH });
                out.extend(until_ms.iter().flat_map(|until| until.to_le_bytes()));
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
            (&HASH, rest) => Some(Self::Hash { fields: take_fields(rest)?, until_ms: None }),
            (&ENDING_HASH, rest) => {
                let (until, rest) = rest.split_first_chunk::<8>()?;
                Some(Self::Hash { fields: take_fields(rest)?, until_ms: Some(u64::from_le_bytes(*until)) })
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
        let (Self::Hash { until_ms, .. } | Self::Text { until_ms, .. }) = self;
        until_ms.is_some_and(|until| until <= now_ms)
    }
}

/// Returns whether a record has ended, without decoding it.
fn has_ended(bytes: &[u8], now_ms: u64) -> bool {
    let until =
        bytes.split_first().filter(|(kind, _)| [TEXT, ENDING_HASH].contains(*kind)).and_then(|(_, rest)| rest.first_chunk::<8>());
    until.is_some_and(|until| (1..=now_ms).contains(&u64::from_le_bytes(*until)))
}

fn take_fields(mut bytes: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let (field, value);
        (field, bytes) = take_part(bytes)?;
        (value, bytes) = take_part(bytes)?;
        fields.insert(field.to_vec(), value.to_vec());
    }
    Some(fields)
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
            Some(Content::Hash { fields, .. }) if !text => match fields.len() {
                0 => Entry::Missing,
                many if many > self.shared.settings.max_fields => {
                    Entry::Unreadable(format!("has {many} fields, at most {} are read", self.shared.settings.max_fields))
                }
                _ => Entry::Hash(fields.into_iter().collect::<Fields>()),
            },
            Some(Content::Text { value, until_ms }) if text => {
                Entry::Text { value, ttl: until_ms.map(|until| Duration::from_millis(until.saturating_sub(now))) }
            }
            Some(Content::Hash { .. }) => Entry::Unreadable("holds another type; a string is expected".to_owned()),
            Some(Content::Text { .. }) => Entry::Unreadable("holds another type; a hash is expected".to_owned()),
        }
    }

    fn announce<'k>(&self, keys: impl Iterator<Item = &'k Key>) {
        // Nobody decides by a count of failures, so nobody is told of one: as in Redis.
        let changes: Vec<Change> = keys.filter(|key| !matches!(key, Key::Shield(_))).cloned().map(Change::Key).collect();
        let mut watches = self.shared.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| changes.iter().all(|change| watch.send(change.clone()).is_ok()));
    }
}

/// Makes one change of what a key held; returns what it holds then.
fn change(content: Option<Content>, write: &Write) -> (Option<Content>, Written) {
    let wrong_type = |content| (Some(content), Written::Failed("WRONGTYPE the key holds another type".to_owned()));
    match (write, content) {
        (Write::SetFields(_, fields) | Write::Renew { fields, .. }, content) if fields.is_empty() => {
            (content, Written::Failed("ERR no fields".to_owned()))
        }
        (Write::RemoveFields(_, fields), content) if fields.is_empty() => (content, Written::Failed("ERR no fields".to_owned())),
        (Write::SetFields(_, new) | Write::Renew { fields: new, .. }, content @ (None | Some(Content::Hash { .. }))) => {
            let (mut fields, mut until_ms) = match content {
                Some(Content::Hash { fields, until_ms }) => (fields, until_ms),
                _ => (BTreeMap::new(), None),
            };
            if let Write::Renew { ttl, .. } = write {
                until_ms = Some(until(*ttl));
            }
            let added = new.iter().filter(|(field, value)| fields.insert(field.clone(), value.clone()).is_none()).count();
            (Some(Content::Hash { fields, until_ms }), Written::Count(added as u64))
        }
        (Write::RemoveFields(..), None) => (None, Written::Count(0)),
        (Write::RemoveFields(_, gone), Some(Content::Hash { mut fields, until_ms })) => {
            let removed = gone.iter().filter(|field| fields.remove(*field).is_some()).count();
            let left = (!fields.is_empty()).then_some(Content::Hash { fields, until_ms });
            (left, Written::Count(removed as u64))
        }
        (Write::Remove(_), content) => (None, Written::Count(u64::from(content.is_some()))),
        (Write::SetText { value, ttl, .. }, _) => {
            (Some(Content::Text { value: value.clone(), until_ms: ttl.map(until) }), Written::Count(1))
        }
        (Write::Increment { ttl, .. }, content @ (None | Some(Content::Text { .. }))) => {
            let before = match &content {
                Some(Content::Text { value, .. }) => std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
                _ => Some(0),
            };
            match before.and_then(|before| before.checked_add(1)) {
                Some(count) => {
                    let value = count.to_string().into_bytes();
                    (Some(Content::Text { value, until_ms: Some(until(*ttl)) }), Written::Count(u64::try_from(count).unwrap_or(0)))
                }
                None => (content, Written::Failed("ERR the key holds no number that can be counted up".to_owned())),
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
                match key {
                    Key::Node(name) => return Ok(self.shared.leases.read(name)),
                    Key::Online(user) => return Ok(self.shared.present.online(user.as_ref())),
                    Key::Seen(user) => return Ok(self.shared.present.seen(user)),
                    _ => {}
                }
                let found = table.get(space.render(key).as_str()).map_err(away)?;
                Ok(found.map_or(Entry::Missing, |bytes| self.entry(key, bytes.value())))
            })
            .collect()
    }

    fn write(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        if writes.iter().all(|write| matches!(write.key(), Key::Node(_))) {
            return Ok(writes.iter().map(|write| self.shared.leases.write(write)).collect());
        }
        let transaction = self.shared.database.begin_write().map_err(away)?;
        let mut written = Vec::with_capacity(writes.len());
        {
            let mut table = transaction.open_table(ENTRIES).map_err(away)?;
            for write in writes {
                written.push(match write.key() {
                    Key::Node(_) => self.shared.leases.write(write),
                    _ => self.write_one(&mut table, write)?,
                });
            }
            let ends = |write: &&Write| {
                matches!(write, Write::SetText { ttl: Some(_), .. } | Write::Renew { .. } | Write::Increment { .. })
            };
            let ending = writes.iter().filter(ends);
            self.purge(&mut table, ending.count() * PURGE)?;
        }
        transaction.commit().map_err(away)?;
        self.announce(writes.iter().map(Write::key));
        Ok(written)
    }

    fn list_page(&mut self, kind: KeyKind, page: &Page) -> Result<(Vec<Key>, Option<Page>), StoreError> {
        match kind {
            KeyKind::Node => return Ok((self.shared.leases.list(), None)),
            KeyKind::Online => return Ok((self.shared.present.list(), None)),
            _ => {}
        }
        // A page at a time, so that no reader keeps old pages of the database alive for long.
        let rows = self.rows(page.after.as_deref())?;
        let more = rows.last().map(|(last, _)| Page { after: Some(last.clone()), ..Page::default() });
        let space = &self.shared.settings.keys;
        let keys = rows.iter().filter(|(_, ended)| !ended).filter_map(|(name, _)| space.parse(name.as_bytes()));
        Ok((keys.filter(|key| KeyKind::of(key) == Some(kind)).collect(), more))
    }

    fn replace_field(&mut self, key: &Key, field: &[u8], old: &[u8], new: &[u8]) -> Result<Written, StoreError> {
        let name = self.shared.settings.keys.render(key);
        let transaction = self.shared.database.begin_write().map_err(away)?;
        {
            let mut table = transaction.open_table(ENTRIES).map_err(away)?;
            let content = table.get(name.as_str()).map_err(away)?.and_then(|bytes| Content::decode(bytes.value()));
            let Some(Content::Hash { mut fields, until_ms }) = content else { return Ok(Written::Count(0)) };
            if fields.get(field).is_none_or(|value| value != old) {
                return Ok(Written::Count(0));
            }
            fields.insert(field.to_vec(), new.to_vec());
            table.insert(name.as_str(), Content::Hash { fields, until_ms }.encode().as_slice()).map_err(away)?;
        }
        transaction.commit().map_err(away)?;
        self.announce(std::iter::once(key));
        Ok(Written::Count(1))
    }

    fn ping(&mut self) -> Result<(), StoreError> {
        self.shared.database.begin_read().map(drop).map_err(away)
    }
}

impl Handle {
    /// Returns the next keys behind `after`, and whether each has ended.
    fn rows(&self, after: Option<&str>) -> Result<Vec<(String, bool)>, StoreError> {
        let read = self.shared.database.begin_read().map_err(away)?;
        let table = read.open_table(ENTRIES).map_err(away)?;
        let now = now_ms();
        let rows = table.range::<&str>((after.map_or(Unbounded, Excluded), Unbounded)).map_err(away)?.take(PAGE);
        rows.map(|row| {
            let (key, value) = row.map_err(away)?;
            Ok((key.value().to_owned(), has_ended(value.value(), now)))
        })
        .collect()
    }

    fn write_one(&self, table: &mut Entries<'_>, write: &Write) -> Result<Written, StoreError> {
        let key = self.shared.settings.keys.render(write.key());
        let now = now_ms();
        let before = match table.get(key.as_str()).map_err(away)? {
            Some(bytes) if !has_ended(bytes.value(), now) => match Content::decode(bytes.value()) {
                None if matches!(write, Write::SetText { .. } | Write::Remove(_)) => Some(Content::empty()),
                None => return Ok(Written::Failed("the record is damaged".to_owned())),
                content => content,
            },
            _ => None,
        };
        let (after, outcome) = change(before, write);
        match after {
            Some(_) if matches!(outcome, Written::Failed(_)) => {}
            Some(content) => drop(table.insert(key.as_str(), content.encode().as_slice()).map_err(away)?),
            None => drop(table.remove(key.as_str()).map_err(away)?),
        }
        Ok(outcome)
    }

    /// Looks at up to `most` keys of the kinds that end, from where the last call stopped, and removes those that have.
    fn purge(&self, table: &mut Entries<'_>, most: usize) -> Result<(), StoreError> {
        if most == 0 {
            return Ok(());
        }
        let mut purged_to = self.shared.purged_to.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = self.shared.settings.keys.prefix();
        let kinds = [format!("{prefix}ban:{{"), format!("{prefix}shield:{{")];
        let now = now_ms();
        let mut ended = Vec::new();
        let mut left = most;
        for kind in &kinds {
            if purged_to.as_str() >= kind.as_str() && !purged_to.starts_with(kind.as_str()) {
                continue;
            }
            let from = if purged_to.starts_with(kind.as_str()) { purged_to.clone() } else { kind.clone() };
            let mut last = None;
            for row in table.range::<&str>((Excluded(from.as_str()), Unbounded)).map_err(away)?.take(left) {
                let (key, value) = row.map_err(away)?;
                if !key.value().starts_with(kind.as_str()) {
                    break;
                }
                left -= 1;
                last = Some(key.value().to_owned());
                if has_ended(value.value(), now) {
                    ended.push(key.value().to_owned());
                }
            }
            if left == 0 {
                *purged_to = last.unwrap_or_default();
                break;
            }
        }
        if left > 0 {
            // All were looked at: the next call begins anew.
            purged_to.clear();
        }
        for key in ended {
            table.remove(key.as_str()).map_err(away)?;
        }
        Ok(())
    }
}

struct LocalWatch {
    changes: Receiver<Change>,
    heard_until: Instant,
}

impl Watch for LocalWatch {
    fn next(&mut self, wait: Duration) -> Result<Vec<Change>, StoreError> {
        self.heard_until = Instant::now();
        match self.changes.recv_timeout(wait) {
            Ok(change) => Ok(std::iter::once(change).chain(self.changes.try_iter()).collect()),
            Err(RecvTimeoutError::Timeout) => Ok(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => Err(StoreError::Away("the store was closed".to_owned())),
        }
    }

    fn heard_until(&self) -> Instant {
        self.heard_until
    }

    fn mode(&self) -> WatchMode {
        WatchMode::Local
    }
}
