//! Why a client is not let in, or has to leave.

use std::time::Duration;

use crate::directory::Standing;
use crate::key::BanTarget;

/// Why a client is not let in, or has to leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The name or client identifier can't be one.
    #[error("{0}")]
    BadName(String),
    /// A ban holds.
    #[error("banned by {target}: {reason}")]
    Banned {
        /// What is banned.
        target: BanTarget,
        /// What the operator wrote.
        reason: String,
    },
    /// Clients without a username are not let in.
    #[error("no username, and anonymous clients are not allowed")]
    Anonymous,
    /// The store has no such user.
    #[error("no such user")]
    NoSuchUser,
    /// The user is disabled.
    #[error("the user is disabled")]
    Disabled,
    /// The store's key can't be read as a user.
    #[error("the user's key can't be read")]
    Unreadable,
    /// The user has no password that could be checked, or the client shows none.
    #[error("no password")]
    NoPassword,
    /// The password is wrong.
    #[error("wrong password")]
    BadPassword,
    /// The token doesn't hold.
    #[error("token: {0}")]
    Token(String),
    /// The token's time is over.
    #[error("the token has expired")]
    TokenExpired,
    /// The user may not have this client identifier.
    #[error("the client identifier is not the user's")]
    ClientId,
    /// Too many failed logins; it may be tried again after this time.
    #[error("too many failed logins: next attempt in {} s", .0.as_secs() + 1)]
    BackOff(Duration),
    /// Too many logins wait already.
    #[error("busy: too many logins are waiting")]
    Busy,
    /// The store can't be asked, and the account isn't known.
    #[error("the store can't be reached, and nothing is known of this user")]
    StoreAway,
    /// The store can't be asked, and what is known is too old.
    #[error("the store can't be reached, and what is known of this user is too old")]
    TooOld,
    /// Something went wrong in the server itself.
    #[error("internal error")]
    Internal,
}

impl Refusal {
    /// All kinds, in the order of [`Self::kind`].
    pub const KINDS: [&str; 16] = [
        "bad-name",
        "banned",
        "anonymous",
        "no-such-user",
        "disabled",
        "unreadable",
        "no-password",
        "bad-password",
        "token",
        "token-expired",
        "client-id",
        "back-off",
        "busy",
        "store-away",
        "too-old",
        "internal",
    ];

    /// Returns the number of the refusal's kind in [`Self::KINDS`].
    #[must_use]
    pub fn kind(&self) -> usize {
        match self {
            Self::BadName(_) => 0,
            Self::Banned { .. } => 1,
            Self::Anonymous => 2,
            Self::NoSuchUser => 3,
            Self::Disabled => 4,
            Self::Unreadable => 5,
            Self::NoPassword => 6,
            Self::BadPassword => 7,
            Self::Token(_) => 8,
            Self::TokenExpired => 9,
            Self::ClientId => 10,
            Self::BackOff(_) => 11,
            Self::Busy => 12,
            Self::StoreAway => 13,
            Self::TooOld => 14,
            Self::Internal => 15,
        }
    }

    /// Returns why an account of this standing lets nobody in; `None` where it lets somebody in.
    pub(super) fn of_standing(standing: Standing) -> Option<Self> {
        match standing {
            Standing::Active => None,
            Standing::Disabled => Some(Self::Disabled),
            Standing::Missing => Some(Self::NoSuchUser),
            Standing::Unreadable => Some(Self::Unreadable),
            Standing::Unknown => Some(Self::StoreAway),
        }
    }
}
