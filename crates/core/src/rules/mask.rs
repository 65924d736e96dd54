//! Kinds of access, allowed and denied, as one byte.

use crate::access::{Access, AccessSet, Rights};

/// A set of what rules can say: three kinds of access, each allowed or denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mask(u8);

/// How far the bits of denials are above those of allowances.
const DENY_SHIFT: u32 = 3;

impl Mask {
    pub(crate) const NONE: Self = Self(0);
    /// Every denial.
    pub(crate) const DENY: Self = Self(7 << DENY_SHIFT);

    /// Returns what a rule with `rights` says.
    pub(crate) fn of(rights: Rights) -> Self {
        let bits =
            Access::ALL.into_iter().filter(|access| rights.access.contains(*access)).fold(0, |bits, access| bits | access as u8);
        Self(if rights.deny { bits << DENY_SHIFT } else { bits })
    }

    /// Returns that `access` is allowed.
    pub(crate) fn allow(access: Access) -> Self {
        Self::of(Rights { access: AccessSet::NONE.with(access), deny: false })
    }

    /// Returns that `access` is denied.
    pub(crate) fn deny(access: Access) -> Self {
        Self::of(Rights { access: AccessSet::NONE.with(access), deny: true })
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}
