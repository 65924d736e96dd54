//! One account as it was at one moment.
//!
//! An account is put together from parts that were read at different times, and is as old as its oldest part.
//! While any part has never been read, its policy allows nothing.

use std::sync::Arc;
use std::time::Duration;

use super::ANONYMOUS_GROUP;
use super::shared::Shared;
use crate::key::Key;
use crate::name::{GroupName, Username};
use crate::policy::Policy;
use crate::record::UserRecord;
use crate::rules::RuleSet;

/// Whose account it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The username; `None` is the anonymous client.
    pub user: Option<Username>,
    /// The groups that a token grants. With a token the store need not know the user.
    pub token: Option<Arc<[GroupName]>>,
}

impl Identity {
    /// The identity of clients without a username.
    pub const ANONYMOUS: Self = Self { user: None, token: None };

    /// Returns the identity of a user of the store.
    #[must_use]
    pub fn user(name: &Username) -> Self {
        Self { user: Some(name.clone()), token: None }
    }
}

/// Whether an account lets anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Active,
    /// The record says `enabled` 0, or holds something unreadable that might say so.
    Disabled,
    /// The store has no such user.
    Missing,
    /// The store's key can't be read as a user.
    Unreadable,
    /// The store has not been asked yet.
    Unknown,
}

/// When something was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamp {
    /// The epoch in which the store last said so; 0 is never.
    pub(super) epoch: u64,
    /// In nanoseconds of the monotonic clock.
    at: u64,
}

impl Stamp {
    pub(super) fn new(epoch: u64, at: Duration) -> Self {
        Self { epoch, at: u64::try_from(at.as_nanos()).unwrap_or(u64::MAX) }
    }

    pub(super) fn at(self) -> Duration {
        Duration::from_nanos(self.at)
    }

    /// Returns the stamp of something that is made of both.
    fn and(self, other: Self) -> Self {
        Self { epoch: self.epoch.min(other.epoch), at: self.at.min(other.at) }
    }
}

/// What one key says, and when it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Part<T> {
    pub(super) value: T,
    /// A keyed hash of the entry, so that reading the same again replaces nothing.
    pub(super) print: u64,
    pub(super) stamp: Stamp,
}

impl<T> Part<T> {
    pub(super) fn is_known(&self) -> bool {
        self.stamp.epoch != 0
    }
}

/// What a user's key says.
#[derive(Clone, Debug, Default)]
pub(super) enum RecordState {
    #[default]
    Unknown,
    Missing,
    Unreadable,
    Known(Arc<UserRecord>),
}

/// An account as it was at one moment.
#[derive(Debug)]
pub struct Account {
    pub(super) record: Part<RecordState>,
    pub(super) rules: Part<Arc<RuleSet>>,
    policy: Policy,
    standing: Standing,
    pub(super) stamp: Stamp,
}

impl Account {
    /// Returns whether the account lets anybody in.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Returns whether the store has been asked about everything that decides, so that the policy is more than "nothing".
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.stamp.epoch != 0
    }

    /// Returns what the account's clients may do; nothing, unless it is active and everything that decides has been read.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the user's record, where the store has one.
    #[must_use]
    pub fn record(&self) -> Option<&Arc<UserRecord>> {
        match &self.record.value {
            RecordState::Known(record) => Some(record),
            _ => None,
        }
    }

    /// Returns whether the rules of `group` apply to the account's clients, who are `identity`.
    pub(super) fn is_in(&self, identity: &Identity, group: &GroupName) -> bool {
        let of_record = self.record().is_some_and(|record| record.groups.contains(group));
        let of_token = || identity.token.iter().any(|groups| groups.contains(group));
        of_record || of_token() || (identity.user.is_none() && group.as_str() == ANONYMOUS_GROUP)
    }

    /// Returns the account that these parts make, with the rules that it shares with others.
    pub(super) fn compose(identity: &Identity, record: Part<RecordState>, rules: Part<Arc<RuleSet>>, shared: &Shared) -> Self {
        let standing = standing_of(identity, &record.value);
        let groups = groups_of(identity, &record.value);
        let mut stamp = shared.everyone.stamp;
        let mut own = None;
        if let Some(name) = &identity.user {
            stamp = stamp.and(record.stamp).and(rules.stamp);
            own = rules.value.decides().then(|| (Key::UserAcl(name.clone()), rules.value.clone()));
        }
        for group in &groups {
            stamp = stamp.and(shared.groups.get(group).map(|part| part.stamp).unwrap_or_default());
        }
        let superuser = matches!(&record.value, RecordState::Known(record) if record.superuser);
        let policy = match standing {
            Standing::Active if stamp.epoch != 0 => shared.policy(superuser, own, &groups),
            _ => Policy::default(),
        };
        Self { record, rules, policy, standing, stamp }
    }
}

fn standing_of(identity: &Identity, record: &RecordState) -> Standing {
    match (record, &identity.user, &identity.token) {
        (RecordState::Known(record), _, _) if record.enabled => Standing::Active,
        (RecordState::Known(_), _, _) => Standing::Disabled,
        (RecordState::Unreadable, _, _) => Standing::Unreadable,
        (_, None, _) | (RecordState::Missing, _, Some(_)) => Standing::Active,
        (RecordState::Missing, _, None) => Standing::Missing,
        (RecordState::Unknown, _, _) => Standing::Unknown,
    }
}

/// Returns the groups whose rules apply: the record's, the token's, and that of clients without a name.
pub(super) fn groups_of(identity: &Identity, record: &RecordState) -> Vec<GroupName> {
    let mut groups = match record {
        RecordState::Known(record) => record.groups.to_vec(),
        _ => Vec::new(),
    };
    if identity.user.is_none() {
        groups.extend(ANONYMOUS_GROUP.parse::<GroupName>());
    }
    for group in identity.token.iter().flat_map(|groups| groups.iter()) {
        if !groups.contains(group) {
            groups.push(group.clone());
        }
    }
    groups
}
