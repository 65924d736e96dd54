//! What is said over the control socket.
//!
//! A message is its length in bytes, 32 bits with the most significant byte first, and as many bytes of JSON.
//! Keys are written without the prefix, which each question names; bytes are written in Base64 (RFC 4648, section 4).
//! [`VERSION`] changes with anything in here; a server answers its own version only, and says so to others.

use std::io::{self, Read, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use midge_core::entry::{Entry, Fields};
use midge_core::key::{Key, KeySpace};
use midge_store::{KeyKind, Written};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of everything in this file.
pub(super) const VERSION: u32 = 2;

/// The longest message, in bytes.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// How long the other side may stay silent in the middle of a conversation.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Which version a question is of, whatever else it says.
#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) version: u32,
}

/// What is asked for.
#[derive(Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) version: u32,
    /// What the asker's keys begin with.
    pub(super) prefix: String,
    pub(super) ask: Ask,
}

/// The operations of a store.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    Ping,
    Read(Vec<WireKey>),
    Write(Vec<WireWrite>),
    /// The keys of a kind; with `on`, those behind the last that this connection was given.
    List {
        kind: Kind,
        on: bool,
    },
    Replace {
        key: WireKey,
        field: Bytes,
        old: Bytes,
        new: Bytes,
    },
    /// Appends a push with these fields.
    Push(Vec<(String, Bytes)>),
    /// How far servers have read pushes.
    Readers,
    /// What became of a push.
    Results(String),
}

/// What is answered.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Done,
    Entries(Vec<WireEntry>),
    Written(Vec<WireWritten>),
    Keys {
        keys: Vec<WireKey>,
        more: bool,
    },
    /// The entry that a push has become.
    Pushed(String),
    Readers(Vec<WireReader>),
    Results(Vec<WireResult>),
    /// The answer doesn't fit into a message; less has to be asked for.
    TooLarge,
    Away(String),
    Refused(String),
}

/// How far a server has read, [`midge_store::push::Reader`].
#[derive(Serialize, Deserialize)]
pub(super) struct WireReader {
    pub(super) node: String,
    pub(super) position: String,
    pub(super) unix: u64,
}

/// What became of a push, [`midge_store::push::NodeResult`].
#[derive(Serialize, Deserialize)]
pub(super) struct WireResult {
    pub(super) node: String,
    pub(super) delivered: u64,
    pub(super) queued: u64,
}

/// Bytes, in Base64.
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        STANDARD.encode(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// A key without its prefix.
pub(super) struct WireKey(pub(super) Key);

impl Serialize for WireKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        KeySpace::new("").render(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WireKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        KeySpace::new("").parse(text.as_bytes()).map(Self).ok_or_else(|| D::Error::custom("no key"))
    }
}

/// The kinds of keys and their names.
const KINDS: [(&str, KeyKind); 10] = [
    ("user", KeyKind::User),
    ("user_acl", KeyKind::UserAcl),
    ("user_autosub", KeyKind::UserAutosub),
    ("group_acl", KeyKind::GroupAcl),
    ("group_autosub", KeyKind::GroupAutosub),
    ("client_autosub", KeyKind::ClientAutosub),
    ("all_acl", KeyKind::AllAcl),
    ("ban", KeyKind::Ban),
    ("node", KeyKind::Node),
    ("online", KeyKind::Online),
];

/// A kind of keys.
pub(super) struct Kind(pub(super) KeyKind);

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = KINDS.iter().find(|(_, kind)| *kind == self.0).map(|(name, _)| *name);
        name.ok_or_else(|| serde::ser::Error::custom("this kind of keys has no name here"))?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let kind = KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| Self(*kind));
        kind.ok_or_else(|| D::Error::custom("no kind of keys"))
    }
}

/// A change, [`midge_store::Write`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WireWrite {
    SetFields(WireKey, Vec<(Bytes, Bytes)>),
    RemoveFields(WireKey, Vec<Bytes>),
    Remove(WireKey),
    SetText { key: WireKey, value: Bytes, ttl_ms: Option<u64> },
    Renew { key: WireKey, fields: Vec<(Bytes, Bytes)>, ttl_ms: u64 },
    Increment { key: WireKey, ttl_ms: u64 },
}

/// What a change came to, [`Written`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WireWritten {
    Count(u64),
    Failed(String),
}

/// What a key holds, [`Entry`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WireEntry {
    Missing,
    Hash(Vec<(Bytes, Bytes)>),
    Text { value: Bytes, ttl_ms: Option<u64> },
    Unreadable(String),
}

fn to_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn to_pairs(fields: &Fields) -> Vec<(Bytes, Bytes)> {
    fields.iter().map(|(field, value)| (Bytes(field.clone()), Bytes(value.clone()))).collect()
}

fn from_pairs(pairs: Vec<(Bytes, Bytes)>) -> Fields {
    pairs.into_iter().map(|(field, value)| (field.0, value.0)).collect()
}

impl From<&midge_store::Write> for WireWrite {
    fn from(write: &midge_store::Write) -> Self {
        use midge_store::Write;
        let key = |key: &Key| WireKey(key.clone());
        match write {
            Write::SetFields(of, fields) => Self::SetFields(key(of), to_pairs(fields)),
            Write::RemoveFields(of, fields) => Self::RemoveFields(key(of), fields.iter().cloned().map(Bytes).collect()),
            Write::Remove(of) => Self::Remove(key(of)),
            Write::SetText { key: of, value, ttl } => {
                Self::SetText { key: key(of), value: Bytes(value.clone()), ttl_ms: ttl.map(to_ms) }
            }
            Write::Renew { key: of, fields, ttl } => Self::Renew { key: key(of), fields: to_pairs(fields), ttl_ms: to_ms(*ttl) },
            Write::Increment { key: of, ttl } => Self::Increment { key: key(of), ttl_ms: to_ms(*ttl) },
        }
    }
}

impl From<WireWrite> for midge_store::Write {
    fn from(write: WireWrite) -> Self {
        match write {
            WireWrite::SetFields(key, fields) => Self::SetFields(key.0, from_pairs(fields)),
            WireWrite::RemoveFields(key, fields) => Self::RemoveFields(key.0, fields.into_iter().map(|field| field.0).collect()),
            WireWrite::Remove(key) => Self::Remove(key.0),
            WireWrite::SetText { key, value, ttl_ms } => {
                Self::SetText { key: key.0, value: value.0, ttl: ttl_ms.map(Duration::from_millis) }
            }
            WireWrite::Renew { key, fields, ttl_ms } => {
                Self::Renew { key: key.0, fields: from_pairs(fields), ttl: Duration::from_millis(ttl_ms) }
            }
            WireWrite::Increment { key, ttl_ms } => Self::Increment { key: key.0, ttl: Duration::from_millis(ttl_ms) },
        }
    }
}

impl From<Written> for WireWritten {
    fn from(written: Written) -> Self {
        match written {
            Written::Count(count) => Self::Count(count),
            Written::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl From<WireWritten> for Written {
    fn from(written: WireWritten) -> Self {
        match written {
            WireWritten::Count(count) => Self::Count(count),
            WireWritten::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl From<Entry> for WireEntry {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Missing => Self::Missing,
            Entry::Hash(fields) => Self::Hash(to_pairs(&fields)),
            Entry::Text { value, ttl } => Self::Text { value: Bytes(value), ttl_ms: ttl.map(to_ms) },
            Entry::Unreadable(reason) => Self::Unreadable(reason),
        }
    }
}

impl From<WireEntry> for Entry {
    fn from(entry: WireEntry) -> Self {
        match entry {
            WireEntry::Missing => Self::Missing,
            WireEntry::Hash(fields) => Self::Hash(from_pairs(fields)),
            WireEntry::Text { value, ttl_ms } => Self::Text { value: value.0, ttl: ttl_ms.map(Duration::from_millis) },
            WireEntry::Unreadable(reason) => Self::Unreadable(reason),
        }
    }
}

/// Sends `message`; returns whether it was short enough to be sent.
pub(super) fn send(mut stream: impl Write, message: &impl Serialize) -> io::Result<bool> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > MAX_MESSAGE {
        return Ok(false);
    }
    let head = u32::try_from(length).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&head.to_be_bytes());
    stream.write_all(&bytes)?;
    Ok(true)
}

/// Receives the bytes of a message; `None` is an end between messages. Memory grows with what arrives, not with what is announced.
pub(super) fn receive(mut stream: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    if stream.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..])?;
    let length = u32::from_be_bytes(head);
    if usize::try_from(length).is_ok_and(|length| length > MAX_MESSAGE) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes, at most {MAX_MESSAGE} are taken"),
        ));
    }
    let mut bytes = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() < usize::try_from(length).unwrap_or(usize::MAX) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}

/// Parses a message.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
