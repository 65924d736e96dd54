//! Usernames, client identifiers and group names as checked types.
//!
//! A name that has a type here is not empty, holds no NUL and fits the length field of an MQTT string.
//! Whether it may stand in for a placeholder is a second question: [`Username::expandable`].

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest name in bytes: an MQTT string has a 16 bit length.
pub const MAX_NAME_BYTES: usize = 65_535;

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text has no character.
    #[error("the name is empty")]
    Empty,
    /// The text is longer than an MQTT string can be.
    #[error("the name has {0} bytes, at most {MAX_NAME_BYTES} are allowed")]
    TooLong(usize),
    /// The text holds U+0000.
    #[error("the name holds the character U+0000")]
    Nul,
    /// The bytes are not UTF-8.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// A group name holds the comma that separates groups.
    #[error("a group name holds a comma")]
    Comma,
}

fn check(text: &str) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty),
        1..=MAX_NAME_BYTES if text.contains('\0') => Err(NameError::Nul),
        1..=MAX_NAME_BYTES => Ok(()),
        long => Err(NameError::TooLong(long)),
    }
}

fn check_group(text: &str) -> Result<(), NameError> {
    check(text)?;
    if text.contains(',') { Err(NameError::Comma) } else { Ok(()) }
}

/// Returns whether `name` may stand in for a placeholder of a topic filter.
///
/// A name with `+`, `#` or `/` would change the filter's shape, and control characters hide what a filter says.
#[must_use]
pub fn expandable(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| matches!(c, '+' | '#' | '/') || c.is_control())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `bytes` as they came from a wire or a store.
            ///
            /// # Errors
            /// What of the rules of this module the bytes break.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
                std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?.parse()
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text).map(|()| Self(text.into()))
            }
        }
    };
}

name_type! {
    /// The name that a client logs in with.
    Username, check
}
name_type! {
    /// The client identifier of a CONNECT packet.
    ClientId, check
}
name_type! {
    /// The name of a group of users.
    GroupName, check_group
}
name_type! {
    /// The name of a server among several.
    NodeName, check
}

impl Username {
    /// Returns whether the name may stand in for `%u`.
    #[must_use]
    pub fn expandable(&self) -> bool {
        expandable(&self.0)
    }
}

impl ClientId {
    /// Returns whether the identifier may stand in for `%c`.
    #[must_use]
    pub fn expandable(&self) -> bool {
        expandable(&self.0)
    }
}

/// A name from outside as it may be shown in a log: escaped and cut at 64 characters.
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for c in characters.by_ref().take(64) {
            write!(f, "{}", c.escape_debug())?;
        }
        if characters.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for (bytes, expected) in [
            (&b""[..], Err(NameError::Empty)),
            (b"a\0b", Err(NameError::Nul)),
            (b"\xff", Err(NameError::NotUtf8)),
            (long.as_bytes(), Err(NameError::TooLong(MAX_NAME_BYTES + 1))),
            (&long.as_bytes()[1..], Ok(())),
            ("zoë".as_bytes(), Ok(())),
        ] {
            assert_eq!(Username::from_bytes(bytes).map(drop), expected);
            assert_eq!(ClientId::from_bytes(bytes).map(drop), expected);
        }
        assert_eq!("a,b".parse::<GroupName>(), Err(NameError::Comma));
    }

    #[test]
    fn only_names_that_keep_a_filters_shape_expand() {
        for (name, expected) in [
            ("alice", true),
            ("zoë", true),
            ("a b", true),
            ("a/b", false),
            ("+", false),
            ("x#", false),
            ("a\n", false),
            ("a\u{85}", false),
        ] {
            assert_eq!(name.parse::<Username>().unwrap().expandable(), expected, "{name:?}");
        }
    }
}
