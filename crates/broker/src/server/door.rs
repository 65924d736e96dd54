//! What the loops ask about clients, and an open door.
//!
//! Each loop has a [`Mind`] of its own, so that no answer needs a lock.

use std::sync::Arc;

use midge_core::time::Now;
use midge_core::topic::TopicName;
use midge_engine::permission::{Client, Permissions};
use midge_engine::shard::{ConnectionId, SessionId};
use midge_engine::tree::SubscriptionFilter;
use midge_mqtt::{Connect, PropertyId, ReasonCode};

use super::peer::{Origin, PeerId};

/// A client that wants to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    /// To be named with an answer that comes later.
    pub peer: PeerId,
    /// Its CONNECT.
    pub connect: &'a Connect<'a>,
    /// Its client identifier: its own, or the one that it will be given.
    pub client_id: &'a str,
    /// Where it comes from.
    pub origin: &'a Origin,
}

/// Whether a client is let in.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is, under the username that it proved.
    Admitted {
        /// The username.
        username: Option<Arc<str>>,
    },
    /// It isn't.
    Refused(ReasonCode),
    /// That isn't known yet: [`Mind::next_order`] will say.
    Later,
}

/// What is to be done with a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Order {
    /// A client that waited has its answer.
    Decided(PeerId, Verdict),
    /// The connection is to be closed.
    Disconnect(ConnectionId, ReasonCode),
    /// The session is to be ended.
    End(SessionId, ReasonCode),
}

/// Decides about the clients of one loop.
pub trait Mind: Send {
    /// Returns who answers the engine's questions.
    fn permissions(&self) -> &dyn Permissions;

    /// Decides whether a client is let in; it must not wait for anything.
    fn admit(&mut self, hello: &Hello<'_>, now: Now) -> Verdict;

    /// Learns which session and connection a client got that was let in.
    fn connected(&mut self, peer: PeerId, session: SessionId, connection: ConnectionId) {
        let _ = (peer, session, connection);
    }

    /// Learns that a client waits no more for an answer.
    fn gone(&mut self, peer: PeerId) {
        let _ = peer;
    }

    /// Learns that a connection is closed.
    fn closed(&mut self, connection: ConnectionId) {
        let _ = connection;
    }

    /// Learns that a session is over; its id will be used again.
    fn session_ended(&mut self, session: SessionId) {
        let _ = session;
    }

    /// Returns what is to be done next; called in every turn, after [`super::Handle::wake`] soon.
    fn next_order(&mut self, now: Now) -> Option<Order> {
        let _ = now;
        None
    }
}

/// Lets everybody in; only what the server says about itself can't be said by clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenDoor;

impl Mind for OpenDoor {
    fn permissions(&self) -> &dyn Permissions {
        self
    }

    fn admit(&mut self, hello: &Hello<'_>, _: Now) -> Verdict {
        if hello.connect.properties.contains(PropertyId::AuthenticationMethod) {
            return Verdict::Refused(ReasonCode::BadAuthenticationMethod); // [MQTT-4.12.0-1]
        }
        Verdict::Admitted { username: hello.connect.username.map(Into::into) }
    }
}

impl Permissions for OpenDoor {
    fn may_publish(&self, _: &Client<'_>, topic: TopicName<'_>) -> bool {
        let text = topic.as_str();
        !(text == "$SYS" || text.starts_with("$SYS/"))
    }

    fn may_receive(&self, _: &Client<'_>, _: TopicName<'_>) -> bool {
        true
    }

    fn may_subscribe(&self, _: &Client<'_>, _: SubscriptionFilter<'_>) -> bool {
        true
    }
}
