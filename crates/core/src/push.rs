//! Pushes as an application writes them, checked.
//!
//! An entry of the push stream is a list of fields; [`Push::parse`] makes a message of it, or says what is wrong with it.
//! A field that means nothing is wrong too: a misspelt `user` would push to everybody who listens.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::name::{ClientId, GroupName, NameError, Username};
use crate::topic::{TopicError, TopicName};

#[cfg(test)]
mod tests;

/// The longest identifier of a push, in bytes.
pub const MAX_ID_BYTES: usize = 256;
/// The largest payload, in bytes: with its topic it fits an MQTT packet of 268,435,455 bytes.
pub const MAX_PAYLOAD_BYTES: usize = 268_000_000;

/// The fields that a push may have.
const FIELDS: [&str; 11] = ["topic", "payload", "user", "client", "group", "all", "qos", "retain", "expiry", "id", "result"];

/// Who is to get a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Whoever is subscribed to its topic.
    Subscribers,
    /// All clients of a user, subscribed or not.
    User(Username),
    /// One client, subscribed or not.
    Client(ClientId),
    /// All clients of a group's users, subscribed or not.
    Group(GroupName),
    /// All clients, subscribed or not.
    All,
}

/// A message to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Who is to get it.
    pub audience: Audience,
    /// Its topic name, which is not reserved.
    pub topic: Box<str>,
    /// What it says.
    pub payload: Vec<u8>,
    /// The quality of service, 0 to 2; 1 where the entry says nothing.
    pub qos: u8,
    /// Whether the topic keeps it for later subscribers.
    pub retain: bool,
    /// How long it is good for, from when it was written; `None` is forever.
    pub expiry: Option<Duration>,
    /// What makes it the same push as another one, so that only the first is delivered.
    pub id: Option<Box<str>>,
    /// Whether somebody waits to hear what became of it.
    pub wants_result: bool,
}

/// Why an entry is no push.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// A field is missing.
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// A field stands there twice.
    #[error("the field {0} is given twice")]
    Twice(&'static str),
    /// A field means nothing.
    #[error("the field \"{0}\" is unknown: allowed are {list}", list = FIELDS.join(", "))]
    Unknown(String),
    /// A field's value is not what it may be.
    #[error("the field {field} is \"{value}\": allowed is {allowed}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it holds, shortened.
        value: String,
        /// What it may hold.
        allowed: &'static str,
    },
    /// The topic is no topic name.
    #[error("the field topic: {0}")]
    Topic(TopicError),
    /// The topic begins with `$`, which is the servers' own.
    #[error("the field topic begins with $, which is for servers alone")]
    Reserved,
    /// A name is no name.
    #[error("the field {0}: {1}")]
    Name(&'static str, NameError),
    /// More than one audience is named.
    #[error("only one of user, client, group and all can be given")]
    Audiences,
    /// A push to somebody by name can't be retained.
    #[error("retain is for pushes to the subscribers of a topic, without user, client, group and all")]
    RetainedForSome,
    /// The payload is larger than a packet can be.
    #[error("the payload has {0} bytes, at most {MAX_PAYLOAD_BYTES} are allowed")]
    TooLarge(usize),
}

impl Push {
    /// Returns the push that the fields of an entry describe.
    ///
    /// # Errors
    /// What is wrong with it; the first fault of several.
    pub fn parse<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Self, PushError> {
        let mut found: [Option<&[u8]>; FIELDS.len()] = [None; FIELDS.len()];
        for (name, value) in fields {
            let at = FIELDS.iter().position(|field| field.as_bytes() == name).ok_or_else(|| PushError::Unknown(shown(name)))?;
            if found[at].replace(value).is_some() {
                return Err(PushError::Twice(FIELDS[at]));
            }
        }
        let [topic, payload, user, client, group, all, qos, retain, expiry, id, result] = found;
        let topic = std::str::from_utf8(topic.ok_or(PushError::Missing("topic"))?);
        let topic = topic.map_err(|_| PushError::Topic(TopicError::NotUtf8))?;
        if TopicName::new(topic).map_err(PushError::Topic)?.is_reserved() {
            return Err(PushError::Reserved);
        }
        let payload = payload.unwrap_or_default();
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(PushError::TooLarge(payload.len()));
        }
        let audience = audience(user, client, group, all)?;
        let retain = switch("retain", retain)?;
        if retain && audience != Audience::Subscribers {
            return Err(PushError::RetainedForSome);
        }
        Ok(Self {
            audience,
            topic: topic.into(),
            payload: payload.to_vec(),
            qos: qos.map_or(Ok(1), |value| number("qos", value, 0..=2, "0, 1 or 2"))?,
            retain,
            expiry: expiry.map(seconds).transpose()?,
            id: id.map(identifier).transpose()?,
            wants_result: switch("result", result)?,
        })
    }

    /// Returns the fields of an entry that [`Self::parse`] reads back.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut fields = vec![("topic", self.topic.as_bytes().to_vec()), ("payload", self.payload.clone())];
        match &self.audience {
            Audience::Subscribers => {}
            Audience::User(name) => fields.push(("user", name.as_str().into())),
            Audience::Client(id) => fields.push(("client", id.as_str().into())),
            Audience::Group(name) => fields.push(("group", name.as_str().into())),
            Audience::All => fields.push(("all", b"1".to_vec())),
        }
        fields.push(("qos", self.qos.to_string().into_bytes()));
        if self.retain {
            fields.push(("retain", b"1".to_vec()));
        }
        if let Some(expiry) = self.expiry {
            fields.push(("expiry", expiry.as_secs().to_string().into_bytes()));
        }
        if let Some(id) = &self.id {
            fields.push(("id", id.as_bytes().to_vec()));
        }
        if self.wants_result {
            fields.push(("result", b"1".to_vec()));
        }
        fields
    }

    /// Returns whether it is good for nothing any more, `age` after it was written.
    #[must_use]
    pub fn has_expired(&self, age: Duration) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= age)
    }

    /// Returns the seconds that are left, `age` after it was written; a part of one counts whole. `None` where it has no end.
    #[must_use]
    pub fn seconds_left(&self, age: Duration) -> Option<u32> {
        let left = self.expiry?.saturating_sub(age);
        Some(u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscribers => f.write_str("subscribers"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Client(id) => write!(f, "client:{id}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::All => f.write_str("all"),
        }
    }
}

fn audience(user: Option<&[u8]>, client: Option<&[u8]>, group: Option<&[u8]>, all: Option<&[u8]>) -> Result<Audience, PushError> {
    let everybody = switch("all", all)?;
    let name = |field, error| PushError::Name(field, error);
    match (user, client, group, everybody) {
        (None, None, None, false) => Ok(Audience::Subscribers),
        (Some(user), None, None, false) => Username::from_bytes(user).map(Audience::User).map_err(|error| name("user", error)),
        (None, Some(id), None, false) => ClientId::from_bytes(id).map(Audience::Client).map_err(|error| name("client", error)),
        (None, None, Some(group), false) => GroupName::from_bytes(group).map(Audience::Group).map_err(|error| name("group", error)),
        (None, None, None, true) => Ok(Audience::All),
        _ => Err(PushError::Audiences),
    }
}

fn switch(field: &'static str, value: Option<&[u8]>) -> Result<bool, PushError> {
    match value {
        None | Some(b"0") => Ok(false),
        Some(b"1") => Ok(true),
        Some(other) => Err(wrong(field, other, "0 or 1")),
    }
}

fn number<T: FromStr + PartialOrd>(
    field: &'static str,
    value: &[u8],
    range: std::ops::RangeInclusive<T>,
    allowed: &'static str,
) -> Result<T, PushError> {
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.filter(|number| range.contains(number)).ok_or_else(|| wrong(field, value, allowed))
}

fn seconds(value: &[u8]) -> Result<Duration, PushError> {
    let allowed = "a number of seconds from 1 to 4294967295";
    number("expiry", value, 1..=u32::MAX, allowed).map(|seconds| Duration::from_secs(seconds.into()))
}

fn identifier(value: &[u8]) -> Result<Box<str>, PushError> {
    let text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty() && text.len() <= MAX_ID_BYTES);
    text.map(Into::into).ok_or_else(|| wrong("id", value, "a text of 1 to 256 bytes"))
}

fn wrong(field: &'static str, value: &[u8], allowed: &'static str) -> PushError {
    PushError::Value { field, value: shown(value), allowed }
}

/// Returns the beginning of `bytes` as a message can show it.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(40).flat_map(char::escape_debug).collect()
}
