//! What a store holds under one key, uninterpreted.

use std::time::Duration;

/// The fields of a hash, as bytes; their order means nothing.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The content of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// There is no such key.
    Missing,
    /// A hash: never without fields.
    Hash(Fields),
    /// A string, with the time it has left where it has one.
    Text {
        /// The string's bytes.
        value: Vec<u8>,
        /// Time to live; `None` lives forever.
        ttl: Option<Duration>,
    },
    /// The key exists and can't be read as what it should be: the wrong type, or too large.
    Unreadable(String),
}
