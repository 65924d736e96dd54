//! What is kept of a client between packets.
//!
//! An idle session is a compact record: what only some need (a will, messages under way, shared subscriptions) is behind a pointer that is empty until it is used.

pub(crate) mod alias;
pub(crate) mod connection;
pub(crate) mod held;
pub(crate) mod inflight;
pub(crate) mod outgoing;
pub(crate) mod queue;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use midge_mqtt::{PacketId, QoS, SubscriptionId};

use crate::message::Message;
use crate::record::{Order, SessionKey, WillRecord};
use crate::retained::Cursor;
use crate::shard::Wait;
use crate::tree::SubscriptionOptions;
use inflight::Inflight;
use queue::Queue;

/// No connection, or no session.
pub(crate) const NONE: u32 = u32::MAX;

/// A session expiry interval that never ends.
pub(crate) const NEVER: u32 = u32::MAX;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Box<str>,
    pub(crate) username: Option<Arc<str>>,
    /// Under which records name it; `None` where it ends with its connection.
    pub(crate) key: Option<SessionKey>,
    pub(crate) will: Option<Box<WillRecord>>,
    pub(crate) flow: Option<Box<Flow>>,
    /// The slot of its connection, or [`NONE`].
    pub(crate) connection: u32,
    /// Seconds after the connection's end, [`NEVER`] for no end.
    pub(crate) expiry: u32,
    /// Tells timers of this session from those of one before it in the slot, and of earlier times without a connection.
    pub(crate) generation: u32,
}

/// What is under way between a client and us.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) inflight: Inflight,
    pub(crate) queue: Queue,
    /// Packet identifiers of QoS 2 that the client has not released, and the ticket their PUBREC waits for.
    pub(crate) received: BTreeMap<PacketId, Wait>,
    /// Shared subscriptions, as `$share/NAME/FILTER`.
    pub(crate) shared: BTreeMap<Arc<str>, Membership>,
    /// How many of them other loops keep.
    pub(crate) shared_elsewhere: usize,
    /// Retained messages still to be sent for new subscriptions.
    pub(crate) walks: VecDeque<Walk>,
    pub(crate) last_order: Order,
}

/// A shared subscription of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    pub(crate) options: SubscriptionOptions,
    /// The loop whose tree holds it.
    pub(crate) home: u8,
}

/// Retained messages on their way to a new subscription.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) filter: Box<str>,
    pub(crate) cursor: Cursor,
    pub(crate) options: SubscriptionOptions,
    /// The record of the subscription: SUBACK waits for it, and goes first.
    pub(crate) after: u64,
}

/// A message for one session.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) order: Order,
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: Identifiers,
    /// The shared subscription that it came by.
    pub(crate) shared: Option<Arc<str>>,
}

/// The subscription identifiers of a message: mostly none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Identifiers {
    #[default]
    None,
    One(SubscriptionId),
    Many(Box<[SubscriptionId]>),
}

impl Identifiers {
    pub(crate) fn new(identifiers: &[SubscriptionId]) -> Self {
        match identifiers {
            [] => Self::None,
            [one] => Self::One(*one),
            many => Self::Many(many.into()),
        }
    }

    pub(crate) fn as_slice(&self) -> &[SubscriptionId] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Session {
    pub(crate) fn is_online(&self) -> bool {
        self.connection != NONE
    }

    /// Returns what is under way, beginning with nothing.
    pub(crate) fn flow(&mut self) -> &mut Flow {
        self.flow.get_or_insert_default()
    }
}

impl Flow {
    /// Returns whether nothing is lost by forgetting it; the order of a session with records goes on.
    pub(crate) fn is_idle(&self) -> bool {
        self.inflight.is_empty()
            && self.queue.is_empty()
            && self.received.is_empty()
            && self.shared.is_empty()
            && self.walks.is_empty()
    }

    pub(crate) fn next_order(&mut self) -> Order {
        self.last_order += 1;
        self.last_order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<Session>() <= 96, "{}", size_of::<Session>());
        assert!(size_of::<connection::Connection>() <= 104, "{}", size_of::<connection::Connection>());
    }
}
