//! What decisions want written to the store.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::key::ShieldTarget;
use crate::name::Username;

/// How many effects wait for the store at most; further ones are dropped, which shares fewer counts between nodes.
pub const MAX_EFFECTS: usize = 4096;
/// How many bytes the names in them have together at most.
const MAX_BYTES: usize = 1 << 20;

/// What a decision wants written to the store; losing it loses no promise.
#[derive(Clone, PartialEq, Eq)]
pub enum Effect {
    /// A failed login, to be counted for all nodes.
    Failed(Vec<ShieldTarget>),
    /// A right password after failures: the user's count ends.
    Forgiven(ShieldTarget),
    /// A stored password to be replaced by a stronger encoding, unless it has changed meanwhile.
    Rehash {
        /// Whose it is.
        user: Username,
        /// What stood in the store.
        old: Box<str>,
        /// What shall stand there.
        new: String,
    },
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(targets) => f.debug_tuple("Failed").field(targets).finish(),
            Self::Forgiven(target) => f.debug_tuple("Forgiven").field(target).finish(),
            Self::Rehash { user, .. } => f.debug_struct("Rehash").field("user", user).finish_non_exhaustive(),
        }
    }
}

impl Effect {
    fn bytes(&self) -> usize {
        let of = |target: &ShieldTarget| match target {
            ShieldTarget::User(user) => user.as_str().len(),
            ShieldTarget::Address(_) => 0,
        };
        match self {
            Self::Failed(targets) => targets.iter().map(of).sum(),
            Self::Forgiven(target) => of(target),
            Self::Rehash { user, old, new } => user.as_str().len() + old.len() + new.len(),
        }
    }
}

/// The effects that wait, bounded in number and bytes.
#[derive(Debug, Default)]
pub(super) struct Effects(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    list: Vec<Effect>,
    bytes: usize,
}

impl Effects {
    pub(super) fn push(&self, effect: Effect) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = waiting.bytes + effect.bytes();
        if waiting.list.len() < MAX_EFFECTS && bytes <= MAX_BYTES {
            waiting.bytes = bytes;
            waiting.list.push(effect);
        }
    }

    pub(super) fn take(&self) -> Vec<Effect> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).list
    }
}
