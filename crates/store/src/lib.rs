//! Keeps policy where operators write it: Redis or disk.
//!
//! A [`Backend`] opens connections of two kinds: a [`Store`] answers questions in one round trip per batch,
//! a [`Watch`] tells which keys have changed. Both block, with deadlines; [`service`] has the threads that use them.
//! An answer that was not understood is never taken for one that says "nothing there".

mod backoff;
mod embedded;
mod guarded;
pub mod hot;
mod limiter;
pub mod metrics;
pub mod node;
pub mod presence;
pub mod push;
mod redis;
pub mod service;
mod url;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge_core::entry::{Entry, Fields};
use midge_core::key::{Key, KeySpace};

pub use backoff::Backoff;
pub use url::{StoreUrl, StoreUrlError};

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It can't be reached or isn't ready; trying again later may do.
    #[error("{0}")]
    Away(String),
    /// It refuses us, or is not what it should be; an operator has to act.
    #[error("{0}")]
    Refused(String),
}

impl StoreError {
    /// Returns whether trying again later may do.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

/// A change of one key; atomic by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets fields of a hash and leaves the others.
    SetFields(Key, Fields),
    /// Removes fields of a hash; the last one takes the key with it.
    RemoveFields(Key, Vec<Vec<u8>>),
    /// Removes the key.
    Remove(Key),
    /// Replaces a string.
    SetText {
        /// The key.
        key: Key,
        /// The string.
        value: Vec<u8>,
        /// How long it lives; `None` is forever.
        ttl: Option<Duration>,
    },
    /// Sets fields of a hash, which is forgotten `ttl` after it was last renewed.
    Renew {
        /// The key.
        key: Key,
        /// The fields.
        fields: Fields,
        /// How long the hash lives from now on.
        ttl: Duration,
    },
    /// Adds one to a counter, which is forgotten `ttl` after its last increment.
    Increment {
        /// The key.
        key: Key,
        /// How long it lives from now on.
        ttl: Duration,
    },
}

impl Write {
    /// Returns the key that is changed.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::SetFields(key, _) | Self::RemoveFields(key, _) | Self::Remove(key) => key,
            Self::SetText { key, .. } | Self::Renew { key, .. } | Self::Increment { key, .. } => key,
        }
    }
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// How many fields were added or removed, whether a key was removed or a field replaced (1 or 0), a counter's new value; 1 for a string.
    Count(u64),
    /// This one write was refused: the key holds another type, or may not be written.
    Failed(String),
}

/// The kinds of keys that can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Users' records.
    User,
    /// Users' rules.
    UserAcl,
    /// Users' automatic subscriptions.
    UserAutosub,
    /// Groups' rules.
    GroupAcl,
    /// Groups' automatic subscriptions.
    GroupAutosub,
    /// Clients' automatic subscriptions.
    ClientAutosub,
    /// Everyone's rules.
    AllAcl,
    /// Bans.
    Ban,
    /// Servers.
    Node,
    /// Connected clients, by user.
    Online,
}

impl KeyKind {
    /// Returns the kind of `key`; counters of failed logins have none.
    #[must_use]
    pub fn of(key: &Key) -> Option<Self> {
        match key {
            Key::User(_) => Some(Self::User),
            Key::UserAcl(_) => Some(Self::UserAcl),
            Key::UserAutosub(_) => Some(Self::UserAutosub),
            Key::GroupAcl(_) => Some(Self::GroupAcl),
            Key::GroupAutosub(_) => Some(Self::GroupAutosub),
            Key::ClientAutosub(_) => Some(Self::ClientAutosub),
            Key::AllAcl => Some(Self::AllAcl),
            Key::Ban(_) => Some(Self::Ban),
            Key::Node(_) => Some(Self::Node),
            Key::Online(_) => Some(Self::Online),
            _ => None,
        }
    }

    /// What the keys of this kind look like, as a pattern of `SCAN` behind the prefix.
    fn pattern(self) -> &'static str {
        match self {
            Self::User => "user:{*}",
            Self::UserAcl => "user:{*}:acl",
            Self::UserAutosub => "user:{*}:autosub",
            Self::GroupAcl => "group:{*}:acl",
            Self::GroupAutosub => "group:{*}:autosub",
            Self::ClientAutosub => "client:{*}:autosub",
            Self::AllAcl => "all:acl",
            Self::Ban => "ban:{*}",
            Self::Node => "node:{*}",
            Self::Online => "online:{*}",
        }
    }
}

/// What one server holds of a store: it is lost together, if it is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Part(Option<Arc<str>>);

impl Part {
    /// Returns the part that a server of a cluster has.
    fn of_server(name: &str) -> Self {
        Self(Some(name.into()))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "{name} of the store"),
            None => f.write_str("the store"),
        }
    }
}

/// Where a listing stands; the default is its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    node: usize,
    cursor: u64,
    after: Option<String>,
}

/// Answers questions. One connection; an error ends its use.
pub trait Store: Send {
    /// Returns what each key holds, in the order of `keys`; one round trip, in a cluster one per node concerned.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn read(&mut self, keys: &[Key]) -> Result<Vec<Entry>, StoreError>;

    /// Makes all changes, in order; one round trip, in a cluster one per node concerned.
    ///
    /// # Errors
    /// No answer, or not all of it: some of the changes may have been made.
    fn write(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError>;

    /// Returns some of the keys of a kind, and where to go on; `None` is the end. A key that changes meanwhile may come twice.
    ///
    /// The work of one call is bounded, so a page may be empty. Another connection may go on where this one ended.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn list_page(&mut self, kind: KeyKind, page: &Page) -> Result<(Vec<Key>, Option<Page>), StoreError>;

    /// Calls `visit` with each key of a kind, page by page, until it breaks off. A key that changes meanwhile may come twice.
    ///
    /// # Errors
    /// No answer, or not all of it.
    fn list(&mut self, kind: KeyKind, visit: &mut dyn FnMut(Key) -> ControlFlow<()>) -> Result<(), StoreError> {
        let mut next = Some(Page::default());
        while let Some(page) = next.take() {
            let (keys, more) = self.list_page(kind, &page)?;
            if keys.into_iter().any(|key| visit(key).is_break()) {
                break;
            }
            next = more;
        }
        Ok(())
    }

    /// Returns the part of the store that has `key`; the default is all of it.
    fn part_of(&self, key: &Key) -> Part {
        let _ = key;
        Part::default()
    }

    /// Returns where the listing of a part begins, which ends before a page of another node; `None` where it is no part any more.
    fn first_page(&self, part: &Part) -> Option<Page> {
        let _ = part;
        Some(Page::default())
    }

    /// Returns how often a server of the store was found to have begun anew, as far as that shows; it may have forgotten all.
    fn beginnings(&self) -> u64 {
        0
    }

    /// Replaces the value of a field, if it is still `old`; counts 1 where it did. Nobody else's change comes in between.
    ///
    /// # Errors
    /// No answer, or not all of it; the field may have been replaced.
    fn replace_field(&mut self, key: &Key, field: &[u8], old: &[u8], new: &[u8]) -> Result<Written, StoreError>;

    /// Asks whether the store is there.
    ///
    /// # Errors
    /// It isn't.
    fn ping(&mut self) -> Result<(), StoreError>;
}

/// Something that may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This key.
    Key(Key),
    /// Anything: there was a gap.
    Everything,
    /// Anything, and what is missing was lost with all else: the store was emptied.
    Flushed,
}

/// How changes are learnt of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// RESP3 client tracking in broadcast mode.
    Tracking,
    /// Keyspace notifications.
    Keyspace,
    /// Reading everything again and again.
    Polling,
    /// Within one process.
    Local,
}

impl WatchMode {
    /// Returns the mode's name as logs and listings show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tracking => "client tracking",
            Self::Keyspace => "keyspace notifications",
            Self::Polling => "polling",
            Self::Local => "the embedded store",
        }
    }
}

/// Tells what has changed since it was opened.
pub trait Watch: Send {
    /// Waits for changes, at most for `wait`, and returns all that came.
    ///
    /// # Errors
    /// Changes may have been missed; another watch has to be opened.
    fn next(&mut self, wait: Duration) -> Result<Vec<Change>, StoreError>;

    /// Returns a moment whose past has been told of: by name, or as [`Change::Flushed`] where all was lost.
    fn heard_until(&self) -> Instant;

    /// Returns how it learns of changes.
    fn mode(&self) -> WatchMode;
}

/// Opens connections to one store; threads may share it.
pub trait Backend: Send + Sync {
    /// Opens a connection for questions.
    ///
    /// # Errors
    /// The store can't be reached, or refuses us.
    fn connect(&self) -> Result<Box<dyn Store>, StoreError>;

    /// Opens a connection for announcements: from its return on, no change is missed.
    ///
    /// # Errors
    /// The store can't be reached, or refuses us.
    fn watch(&self) -> Result<Box<dyn Watch>, StoreError>;

    /// Opens a connection for pushes.
    ///
    /// # Errors
    /// The store can't be reached, refuses us, or has no streams.
    fn pushes(&self) -> Result<Box<dyn push::PushLog>, StoreError> {
        Err(StoreError::Refused("this store has no streams, which pushes need".to_owned()))
    }

    /// Opens a connection for who is online.
    ///
    /// # Errors
    /// The store can't be reached, refuses us, or has no streams.
    fn presence(&self) -> Result<Box<dyn presence::PresenceLog>, StoreError> {
        Err(StoreError::Refused("this store has no streams; presence needs Redis".to_owned()))
    }

    /// Opens a connection for counts of topics.
    ///
    /// # Errors
    /// The store can't be reached, refuses us, or has no sorted sets.
    fn hot(&self) -> Result<Box<dyn hot::HotLog>, StoreError> {
        Err(StoreError::Refused("this store has no sorted sets; hot topics need Redis".to_owned()))
    }

    /// Returns the keys that are ours in the store.
    fn key_space(&self) -> &KeySpace;
}

/// A backend that several parts of a process use.
impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn connect(&self) -> Result<Box<dyn Store>, StoreError> {
        (**self).connect()
    }

    fn watch(&self) -> Result<Box<dyn Watch>, StoreError> {
        (**self).watch()
    }

    fn pushes(&self) -> Result<Box<dyn push::PushLog>, StoreError> {
        (**self).pushes()
    }

    fn presence(&self) -> Result<Box<dyn presence::PresenceLog>, StoreError> {
        (**self).presence()
    }

    fn hot(&self) -> Result<Box<dyn hot::HotLog>, StoreError> {
        (**self).hot()
    }

    fn key_space(&self) -> &KeySpace {
        (**self).key_space()
    }
}

/// Which ways of learning of changes may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchPolicy {
    /// The first of the others that the store allows, in this order.
    #[default]
    Auto,
    /// Client tracking only.
    Tracking,
    /// Keyspace notifications only; the operator has switched them on.
    Keyspace,
    /// Polling only.
    Polling,
}

/// How a store is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The keys that are ours.
    pub keys: KeySpace,
    /// How long a connection may take, greeting included.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// How changes are learnt of.
    pub watch: WatchPolicy,
    /// How often everything is read again where that is the only way.
    pub poll_interval: Duration,
    /// How many fields of one hash are read; a hash with more is unreadable.
    pub max_fields: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            keys: KeySpace::default(),
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(5),
            watch: WatchPolicy::Auto,
            poll_interval: Duration::from_millis(500),
            max_fields: 200_000,
        }
    }
}

/// Returns the backend that `url` names. A Redis need not be reachable yet; an embedded store is opened.
///
/// # Errors
/// A file that the URL names can't be read, or the embedded store can't be opened.
pub fn open(url: &StoreUrl, settings: &StoreSettings) -> Result<Box<dyn Backend>, StoreError> {
    match url.directory() {
        Some(directory) => Ok(Box::new(embedded::Embedded::open(directory, settings)?)),
        None => Ok(Box::new(redis::Redis::new(url, settings)?)),
    }
}
