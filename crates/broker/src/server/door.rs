//! What the loops ask about clients, and an open door.
//!
//! Each loop has a [`Mind`] of its own, so that no answer needs a lock.

use std::sync::Arc;

use midge_core::time::Now;
use midge_core::topic::TopicName;
use midge_engine::permission::{Client, Permissions};
use midge_engine::shard::{ConnectionId, SessionId};
use midge_engine::tree::SubscriptionFilter;
use midge_mqtt::{Auth, Connect, Property, PropertyId, QoS, ReasonCode, RetainHandling};

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
    /// It is.
    Admitted(Admission),
    /// It has to say more: it gets AUTH, and what it answers goes to [`Mind::respond`].
    Challenge(Authentication),
    /// It isn't.
    Refused(ReasonCode),
    /// That isn't known yet: [`Mind::next_order`] will say.
    Later,
}

/// What is known of a client that is let in.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// The username that it proved.
    pub username: Option<Arc<str>>,
    /// The last word of enhanced authentication, for CONNACK or AUTH.
    pub authentication: Option<Authentication>,
}

/// One step of enhanced authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// The method, the same in every step [MQTT-4.12.0-5].
    pub method: Box<str>,
    /// The data; `None` where there are none.
    pub data: Option<Box<[u8]>>,
}

impl Authentication {
    pub(super) fn properties(&self) -> Vec<Property<'_>> {
        let data = self.data.as_deref().map(Property::AuthenticationData);
        std::iter::once(Property::AuthenticationMethod(&self.method)).chain(data).collect()
    }
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
    /// The session is to be subscribed, on the server's own account.
    Subscribe {
        /// Which session.
        session: SessionId,
        /// The filter, `$share/NAME/` included.
        filter: Box<str>,
        /// The maximum QoS.
        qos: QoS,
        /// Whether the client's own messages are kept from it.
        no_local: bool,
        /// Whether the retain flag is passed on as it was published.
        retain_as_published: bool,
        /// Whether retained messages are sent.
        retain_handling: RetainHandling,
    },
    /// A subscription of the session is to be withdrawn, by whomever it was made.
    Unsubscribe {
        /// Which session.
        session: SessionId,
        /// The filter, `$share/NAME/` included.
        filter: Box<str>,
    },
}

/// Decides about the clients of one loop.
pub trait Mind: Send {
    /// Returns who answers the engine's questions.
    fn permissions(&self) -> &dyn Permissions;

    /// Decides whether a client is let in; it must not wait for anything.
    fn admit(&mut self, hello: &Hello<'_>, now: Now) -> Verdict;

    /// Decides after what a client said by AUTH: one that was challenged, or one that is connected and proves itself again.
    fn respond(&mut self, peer: PeerId, auth: &Auth<'_>, now: Now) -> Verdict {
        let _ = (peer, auth, now);
        Verdict::Refused(ReasonCode::ProtocolError)
    }

    /// Learns which session and connection a client got that was let in; what [`Mind::next_order`] says then is done directly behind CONNACK.
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
        Verdict::Admitted(Admission { username: hello.connect.username.map(Into::into), authentication: None })
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
