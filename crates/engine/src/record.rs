//! What must survive a crash, as a stream of events.
//!
//! A loop numbers its records from 1 and emits them in the order in which things happened; a journal keeps them in this order and says from time to time up to which number all are on disk.
//! Every acknowledgement that promises something waits for that number, and so do the PUBLISH of QoS 2 and PUBREL, without which "exactly once" would end at a crash.
//! What one [`crate::shard::Shard::take_records`] returns is one batch: the journal keeps all of it or none, so that a message of QoS 2 is never passed on without the note that it came.
//! [`State`] says what a stream of records means: what is left after applying them in their order is what has to be restored.
//! What a member of a shared subscription holds whose session ends with its connection is lost in a crash, as that session is.
//! One more thing is not promised: a message of QoS 2 that goes to several loops may be passed on twice if the server crashes between their commits and the note that it came; it is never lost.
//! The streams of several loops may be applied one after the other, or mixed, as long as each is in its order.

mod state;

use std::sync::Arc;

use midge_mqtt::{PacketId, QoS, SubscriptionId};

use crate::message::Message;
use crate::tree::SubscriptionOptions;

pub use state::{QueuedState, RetainedState, SessionState, State, StoredMessage};

/// A session, in records: never used again, by any loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// A message, in records: never used again, by any loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey(pub u64);

/// A message for one session: counts up from 1 in each session.
pub type Order = u64;

/// A will as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillRecord {
    /// The message, without its expiry.
    pub message: Arc<Message>,
    /// The message expiry interval, in seconds from when it is published.
    pub expiry: Option<u32>,
    /// The will delay interval, in seconds.
    pub delay: u32,
}

/// One event. Intervals are in seconds, times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A session begins that outlives its connection.
    Started {
        /// Its key.
        session: SessionKey,
        /// Its client identifier.
        client_id: Box<str>,
    },
    /// A client took the session up.
    Online {
        /// Which session.
        session: SessionKey,
        /// The username of the connection.
        username: Option<Arc<str>>,
        /// The session expiry interval.
        expiry: u32,
    },
    /// The client left, and the session stays.
    Offline {
        /// Which session.
        session: SessionKey,
        /// The session expiry interval, which DISCONNECT may have changed.
        expiry: u32,
        /// Since when.
        since: u64,
    },
    /// The session has another will, or none any more.
    Will {
        /// Which session.
        session: SessionKey,
        /// The will.
        will: Option<Arc<WillRecord>>,
    },
    /// The session is over; what it held for a shared subscription goes to other members and is done one by one.
    Ended {
        /// Which session.
        session: SessionKey,
    },
    /// A subscription was made or replaced.
    Subscribed {
        /// Which session.
        session: SessionKey,
        /// The filter, `$share/NAME/` included.
        filter: Box<str>,
        /// The options.
        options: SubscriptionOptions,
    },
    /// A subscription was withdrawn.
    Unsubscribed {
        /// Which session.
        session: SessionKey,
        /// The filter, `$share/NAME/` included.
        filter: Box<str>,
    },
    /// A message that following records refer to.
    Message {
        /// Its key.
        key: MessageKey,
        /// The message; its own expiry means nothing after a restart.
        message: Arc<Message>,
        /// When it expires.
        expires: Option<u64>,
    },
    /// A message waits for a session.
    Queued {
        /// Which session.
        session: SessionKey,
        /// Its place.
        order: Order,
        /// The message.
        message: MessageKey,
        /// The QoS to deliver it with: 1 or 2.
        qos: QoS,
        /// The RETAIN flag to deliver it with.
        retain: bool,
        /// The subscription identifiers to deliver it with.
        identifiers: Box<[SubscriptionId]>,
        /// The shared subscription that it came by.
        shared: Option<Arc<str>>,
        /// The packet identifier, where it is sent at once.
        packet_id: Option<PacketId>,
    },
    /// A message is in flight.
    Sent {
        /// Which session.
        session: SessionKey,
        /// Which message.
        order: Order,
        /// Its packet identifier.
        packet_id: PacketId,
    },
    /// PUBREC came: from now on PUBREL is sent, never again the message.
    Released {
        /// Which session.
        session: SessionKey,
        /// Which message.
        order: Order,
        /// Its packet identifier.
        packet_id: PacketId,
    },
    /// The message is delivered, or dropped.
    Done {
        /// Which session.
        session: SessionKey,
        /// Which message.
        order: Order,
    },
    /// A message of QoS 2 came from the client and was passed on.
    Received {
        /// Which session.
        session: SessionKey,
        /// Its packet identifier.
        packet_id: PacketId,
    },
    /// PUBREL came: the packet identifier stands for another message from now on.
    Forgotten {
        /// Which session.
        session: SessionKey,
        /// The packet identifier.
        packet_id: PacketId,
    },
    /// The retained message of a topic changed; the greater stamp counts.
    Retained {
        /// The topic name.
        topic: Box<str>,
        /// Later changes have greater stamps.
        stamp: u64,
        /// The message, unless it was cleared.
        message: Option<Arc<Message>>,
        /// When it expires.
        expires: Option<u64>,
    },
}
