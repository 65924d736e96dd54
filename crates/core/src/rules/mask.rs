//! Kinds of access, allowed and denied, as one byte.

use crate::access::{Access, Rights};

/// A set of what rules can say: three kinds of access, each allowed or denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mask(u8);

/// How many different things rules can say.
pub(crate) const THINGS: usize = 6;

/// How far the bits of denials are above those of allowances.
const DENY_SHIFT: u32 = 3;

impl Mask {
    pub(crate) const NONE: Self = Self(0);

    /// Returns what a rule with `rights` says.
    pub(crate) fn of(rights: Rights) -> Self {
        let bits =
            Access::ALL.into_iter().filter(|access| rights.access.contains(*access)).fold(0, |bits, access| bits | access as u8);
        Self(if rights.deny { bits << DENY_SHIFT } else { bits })
    }

    /// Returns that `access` is allowed.
    pub(crate) fn allow(access: Access) -> Self {
        Self(access as u8)
    }

    /// Returns that `access` is denied.
    pub(crate) fn deny(access: Access) -> Self {
        Self((access as u8) << DENY_SHIFT)
    }

    /// Returns all that can be said of `access`.
    pub(crate) fn about(access: Access) -> Self {
        Self::allow(access).or(Self::deny(access))
    }

    /// Returns what need not be looked for once this was found: where an access is denied, whether it is allowed as well.
    pub(crate) fn settled(self) -> Self {
        Self(self.0 | self.0 >> DENY_SHIFT)
    }

    /// Returns the numbers of the things said, each below [`THINGS`].
    pub(crate) fn things(self) -> impl Iterator<Item = usize> {
        let rest = |bits: &u8| Some(bits & bits.wrapping_sub(1));
        std::iter::successors(Some(self.0), rest).take_while(|bits| *bits != 0).map(|bits| bits.trailing_zeros() as usize)
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
