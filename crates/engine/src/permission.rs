//! What the engine asks before it publishes, subscribes or delivers.
//!
//! The caller answers from memory: these calls stand in the hottest path, and an answer can't be "later".

use std::time::Duration;

use midge_core::name::{GroupName, Username};
use midge_core::time::Now;
use midge_core::topic::TopicName;

use crate::message::Publication;
use crate::shard::{ConnectionId, SessionId};
use crate::tree::SubscriptionFilter;

/// Whom a question is about.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The session.
    pub session: SessionId,
    /// The session's connection; `None` while the client is away.
    pub connection: Option<ConnectionId>,
    /// The client identifier.
    pub client_id: &'a str,
    /// The username that the session was started with or last taken up with.
    pub username: Option<&'a str>,
}

/// Says what a client may do.
///
/// A client that is away is asked about too: when a message is queued for it, and when its will is published.
/// Who knows nothing about it while it is away may let a message be *queued*: before anything is sent to it, once it is back, the question is asked again.
pub trait Permissions {
    /// Returns whether the client may publish to `topic`.
    fn may_publish(&self, client: &Client<'_>, topic: TopicName<'_>) -> bool;

    /// Returns whether a message of `topic` may be delivered to the client, now or later.
    fn may_receive(&self, client: &Client<'_>, topic: TopicName<'_>) -> bool;

    /// Returns whether the client may hold a subscription to `filter`.
    fn may_subscribe(&self, client: &Client<'_>, filter: SubscriptionFilter<'_>) -> bool;

    /// Returns whether the client's user is a member of `group`.
    fn is_member(&self, client: &Client<'_>, group: &GroupName) -> bool {
        let _ = (client, group);
        false
    }

    /// Returns the sessions of this loop that may be of `user`, perhaps with others; `None` where only looking at all of them can tell.
    fn sessions_of(&self, user: &Username) -> Option<Vec<SessionId>> {
        let _ = user;
        None
    }

    /// Returns whether it is known whose the sessions of this loop are; pushes wait until then.
    fn knows_sessions(&self) -> bool {
        true
    }

    /// Takes notice of a message that a client published: its size in bytes and to how many sessions of this loop it went.
    fn published(&self, client: &Client<'_>, topic: TopicName<'_>, bytes: usize, deliveries: usize) {
        let _ = (client, topic, bytes, deliveries);
    }

    /// Takes notice of a message that was pushed to subscribers: the same.
    fn pushed(&self, topic: TopicName<'_>, bytes: usize, deliveries: usize) {
        let _ = (topic, bytes, deliveries);
    }

    /// Takes notice of to how many sessions of this loop a message went that another loop was told of first.
    fn delivered(&self, topic: TopicName<'_>, deliveries: usize) {
        let _ = (topic, deliveries);
    }

    /// Takes notice of a message that is kept for a client that is away.
    fn missed(&self, client: &Client<'_>, message: &Publication<'_>) {
        let _ = (client, message);
    }
}

/// What holds for one call: the time, and who answers questions.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// The time; monotonic time never goes back from one call to the next.
    pub now: Now,
    /// Who answers.
    pub permissions: &'a dyn Permissions,
}

impl Turn<'_> {
    #[inline]
    pub(crate) fn monotonic(&self) -> Duration {
        self.now.monotonic
    }
}

impl std::fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Lets everybody do everything: for tests and for a server without users.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Permissions for AllowAll {
    fn may_publish(&self, _: &Client<'_>, _: TopicName<'_>) -> bool {
        true
    }

    fn may_receive(&self, _: &Client<'_>, _: TopicName<'_>) -> bool {
        true
    }

    fn may_subscribe(&self, _: &Client<'_>, _: SubscriptionFilter<'_>) -> bool {
        true
    }
}
