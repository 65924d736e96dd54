//! What one connected client may do.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use arc_swap::Guard;

use super::{Gate, Refusal};
use crate::access::Access;
use crate::directory::{Account, Seat, Slot, Standing};
use crate::name::{ClientId, Username};
use crate::policy::{Decision, Who};
use crate::time::Now;
use crate::topic::{TopicFilter, TopicName};

/// What one connected client may do, always as the store says now.
#[derive(Debug)]
pub struct ClientPolicy {
    seat: Seat,
    client: ClientId,
    address: Option<IpAddr>,
    expires_unix: Option<NonZeroU64>,
}

impl ClientPolicy {
    pub(super) fn new(seat: Seat, expires_unix: Option<u64>, client: ClientId, address: Option<IpAddr>) -> Self {
        // 0 is as long past as 1, and leaves room for "never".
        let expires_unix = expires_unix.and_then(|end| NonZeroU64::new(end.max(1)));
        Self { seat, client, address, expires_unix }
    }

    /// Returns the username; `None` for an anonymous client.
    #[must_use]
    pub fn user(&self) -> Option<&Username> {
        self.slot().identity().user.as_ref()
    }

    /// Returns the client identifier.
    #[must_use]
    pub fn client(&self) -> &ClientId {
        &self.client
    }

    /// Returns where the client connects from.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns the place of the account, by which [`crate::directory::Change`] names it.
    #[must_use]
    pub fn slot(&self) -> &Arc<Slot> {
        self.seat.slot()
    }

    /// Returns when the client's token ends, in seconds since 1970.
    #[must_use]
    pub fn expires_unix(&self) -> Option<u64> {
        self.expires_unix.map(NonZeroU64::get)
    }

    /// Returns the account as it is now.
    #[must_use]
    pub fn account(&self) -> Guard<Arc<Account>> {
        self.slot().account()
    }

    /// Decides whether the client may publish to, or be delivered a message of, `topic`. Allocates nothing, waits for nobody.
    pub fn may(&self, access: Access, topic: TopicName<'_>) -> Decision {
        self.account().policy().may(access, topic, &self.who())
    }

    /// Decides whether the client may hold a subscription to `filter`.
    pub fn may_subscribe(&self, filter: TopicFilter<'_>) -> Decision {
        self.account().policy().may_subscribe(filter, &self.who())
    }

    /// Returns why the client has to leave, if it has to: the account ended, a ban came, the token is over.
    #[must_use]
    pub fn revoked(&self, gate: &Gate, now: Now) -> Option<Refusal> {
        if self.expires_unix.is_some_and(|end| now.unix >= end.get()) {
            return Some(Refusal::TokenExpired);
        }
        let account = self.account();
        let standing = Refusal::of_standing(account.standing()).filter(|_| account.standing() != Standing::Unknown);
        let pattern = account.record().and_then(|record| record.client_id.as_ref()).zip(self.user());
        let foreign = pattern.is_some_and(|(pattern, user)| !pattern.matches(user, &self.client));
        standing
            .or_else(|| foreign.then_some(Refusal::ClientId))
            .or_else(|| gate.banned(self.user(), &self.client, self.address, now))
    }

    /// Returns the names that stand in for placeholders.
    #[must_use]
    pub fn who(&self) -> Who<'_> {
        Who { username: self.user().map(Username::as_str), client_id: self.client.as_str() }
    }
}
