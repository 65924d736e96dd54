//! The three kinds of access and sets of them.

use std::fmt;

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Access {
    /// Send a message to a topic name: letter `p`.
    Publish = 1,
    /// Be delivered a message of a topic name: letter `r`.
    Receive = 2,
    /// Hold a subscription to a topic filter: letter `s`.
    Subscribe = 4,
}

impl Access {
    /// All kinds, in the order of their letters in listings.
    pub const ALL: [Self; 3] = [Self::Publish, Self::Receive, Self::Subscribe];

    /// Returns the letter that stands for this kind in rules.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Publish => 'p',
            Self::Receive => 'r',
            Self::Subscribe => 's',
        }
    }

    /// Returns the kind's name as users write it: `publish`, `receive`, `subscribe`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Receive => "receive",
            Self::Subscribe => "subscribe",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Access {
    type Err = RightsError;

    /// Parses a name or a letter.
    fn from_str(text: &str) -> Result<Self, RightsError> {
        Self::ALL
            .into_iter()
            .find(|access| text == access.name() || (text.len() == 1 && text.starts_with(access.letter())))
            .ok_or_else(|| RightsError(text.escape_debug().to_string()))
    }
}

/// A set of kinds of access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AccessSet(u8);

impl AccessSet {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// Publish, receive and subscribe.
    pub const ALL: Self = Self(7);

    /// Returns whether `access` is in the set.
    #[must_use]
    pub fn contains(self, access: Access) -> bool {
        self.0 & access as u8 != 0
    }

    /// Returns the set with `access` in it.
    #[must_use]
    pub fn with(self, access: Access) -> Self {
        Self(self.0 | access as u8)
    }

    /// Returns what is in either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether nothing is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for AccessSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Access::ALL.into_iter().filter(|access| self.contains(*access)).try_for_each(|access| write!(f, "{}", access.letter()))
    }
}

/// What a rule says: which kinds of access it allows, or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rights {
    /// The kinds that the rule speaks of; never empty.
    pub access: AccessSet,
    /// Whether they are denied (`!`) rather than allowed.
    pub deny: bool,
}

impl Rights {
    /// Publish, receive and subscribe are denied.
    pub const DENY_ALL: Self = Self { access: AccessSet::ALL, deny: true };
}

/// A text that names no access; it holds the text, escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no access: allowed are the letters p (publish), r (receive), s (subscribe), after an optional ! that denies")]
pub struct RightsError(String);

impl std::str::FromStr for Rights {
    type Err = RightsError;

    /// Parses `[!]` and at least one of the letters `p`, `r`, `s`, in any order.
    fn from_str(text: &str) -> Result<Self, RightsError> {
        let error = || RightsError(text.chars().take(40).collect::<String>().escape_debug().to_string());
        let (deny, letters) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let access = letters.chars().try_fold(AccessSet::NONE, |set, letter| {
            Access::ALL.into_iter().find(|access| access.letter() == letter).map(|access| set.with(access)).ok_or_else(error)
        })?;
        if access.is_empty() { Err(error()) } else { Ok(Self { access, deny }) }
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.deny {
            f.write_str("!")?;
        }
        self.access.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_and_written_alike() {
        for (text, shown) in [("p", "p"), ("srp", "prs"), ("!r", "!r"), ("!prs", "!prs"), ("pp", "p")] {
            assert_eq!(text.parse::<Rights>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "!", "x", "!!p", "p r", "P", "rw"] {
            assert!(text.parse::<Rights>().is_err(), "{text:?}");
        }
    }
}
