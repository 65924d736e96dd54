//! The answer to one check and where it comes from.

use std::fmt;

use crate::key::Key;
use crate::rules::{MAX_LEVELS, Rule};

/// The answer to one check: small, copied freely, explained by [`super::Policy::describe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// Whether the client may.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// Whether the client's names had a part in it. If not, the answer is the same for every client of the policy.
    pub personal: bool,
}

impl Decision {
    /// Returns that the client may.
    pub fn allowed(reason: Reason) -> Self {
        Self { allowed: true, reason, personal: false }
    }

    /// Returns that the client may not.
    pub fn denied(reason: Reason) -> Self {
        Self { allowed: false, reason, personal: false }
    }

    pub(super) fn personal(self, personal: bool) -> Self {
        Self { personal, ..self }
    }
}

/// Why a topic is allowed or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The user may do everything.
    Superuser,
    /// A rule says so; the numbers hold for the policy that decided only.
    Rule {
        /// Which of the policy's sets of rules.
        layer: u16,
        /// Which of the set's rules.
        rule: u32,
    },
    /// No rule allows it.
    NoRule,
    /// A set of rules can't be read, which denies everything.
    Closed {
        /// Which of the policy's sets of rules.
        layer: u16,
    },
    /// The topic has more than [`MAX_LEVELS`] levels.
    TooManyLevels,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superuser => f.write_str("superuser"),
            Self::Rule { .. } => f.write_str("by a rule"),
            Self::NoRule => f.write_str("no rule allows it"),
            Self::Closed { .. } => f.write_str("rules that can't be read"),
            Self::TooManyLevels => write!(f, "more than {MAX_LEVELS} levels"),
        }
    }
}

/// Where a decision comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation<'a> {
    /// The key that decided.
    pub key: &'a Key,
    /// The rule below it; `None` where the whole key can't be read.
    pub rule: Option<Rule<'a>>,
}
