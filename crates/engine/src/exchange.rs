//! What the loops of a server tell each other.
//!
//! From one loop to another, everything arrives once and in the order of sending; between three loops no order is assumed.
//! A message crosses as one shared allocation, and only to loops whose [`crate::tree::Summary`] may match it; where it goes from there is that loop's business.
//! A shared subscription is kept by its [`crate::tree::home`], which picks the member and addresses the message to the member's loop.
//! A retained message goes to all loops, each of which keeps a reference to it under its topic: so a subscription finds it at once, and in order with what follows. Stamps make all loops keep the same one, whatever order theirs arrive in.
//! A push to those who are named goes to the loops that may have them, each of which finds its own; so does one to subscribers, behind the pushes before it.
//! Who must not be acknowledged before another loop has done its part asks for [`ToLoop::Done`].

use std::sync::Arc;

use midge_core::push::Audience;
use midge_core::topic::TopicName;
use midge_mqtt::QoS;

use crate::hash::HashKey;
use crate::message::Message;
use crate::tree::{Change, SubscriberId, SubscriptionOptions};

/// Which loop of how many a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the loop, from 0.
    pub event_loop: u8,
    /// How many there are, at least 1.
    pub loops: u8,
}

/// Returns the loop to which a client identifier belongs, of `loops`, at least one.
///
/// A connection is handed to that loop once its CONNECT was read: so taking over never crosses loops.
#[must_use]
pub fn home_of_client(key: &HashKey, client_id: &str, loops: u8) -> u8 {
    u8::try_from(key.text(client_id) % u64::from(loops.max(1))).unwrap_or(0)
}

/// Where an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The loop that waits.
    pub event_loop: u8,
    /// What it waits for.
    pub ticket: u64,
}

/// How many sessions a message reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Sessions whose clients are connected and got it, or will as soon as they can take it.
    pub delivered: usize,
    /// Sessions that it waits for until their clients are back.
    pub queued: usize,
}

impl Reach {
    pub(crate) fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.queued += other.queued;
    }
}

/// What one loop tells another.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ToLoop {
    /// A message was published: to whom it may concern.
    Publish {
        /// The message.
        message: Arc<Message>,
        /// Who waits until it is safe.
        reply: Option<ReplyTo>,
    },
    /// A message is for this member of a shared subscription.
    Deliver {
        /// The message.
        message: Arc<Message>,
        /// The member.
        subscriber: SubscriberId,
        /// The shared subscription, `$share/NAME/FILTER`.
        shared: Arc<str>,
        /// The member's options.
        options: SubscriptionOptions,
        /// How many members could not take it before.
        attempts: u8,
        /// Who waits until it is safe.
        reply: Option<ReplyTo>,
    },
    /// A message of a shared subscription needs another member: the one it was for is gone or may not have it.
    Redeliver {
        /// The message.
        message: Arc<Message>,
        /// The shared subscription, `$share/NAME/FILTER`.
        shared: Arc<str>,
        /// The QoS it was for, at most.
        qos: QoS,
        /// How many members could not take it before.
        attempts: u8,
        /// Who waits until it is safe.
        reply: Option<ReplyTo>,
    },
    /// A shared subscription of another loop's session changed.
    Group {
        /// The change.
        change: Change,
        /// Who waits until it is made.
        reply: Option<ReplyTo>,
    },
    /// A message is pushed to those of an audience who are here.
    Push {
        /// The message.
        message: Arc<Message>,
        /// Who is to get it.
        audience: Arc<Audience>,
        /// Who waits until it is safe.
        reply: ReplyTo,
    },
    /// What was waited for is done.
    Done {
        /// The ticket of the loop that waits.
        ticket: u64,
        /// How many sessions it reached.
        reach: Reach,
    },
}

/// A retained message as a loop keeps it, or the memory that it was cleared.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) stamp: u64,
    pub(crate) message: Option<Arc<Message>>,
}

/// Stamps that are unique and grow along everything a loop has seen: Lamport's clock.
#[derive(Debug)]
pub(crate) struct Stamps {
    last: u64,
    event_loop: u8,
}

impl Stamps {
    pub(crate) fn new(event_loop: u8) -> Self {
        Self { last: 0, event_loop }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.last = (((self.last >> 8) + 1) << 8) | u64::from(self.event_loop);
        self.last
    }

    pub(crate) fn saw(&mut self, stamp: u64) {
        self.last = self.last.max(stamp);
    }
}

/// Returns the bytes that a retained message counts for beside its topic name.
pub(crate) fn kept_bytes(message: &Message, topic: TopicName<'_>) -> usize {
    message.len() - topic.as_str().len()
}
