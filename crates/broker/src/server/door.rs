//! What the loops ask about clients, and an open door.
//!
//! Each loop has a [`Mind`] of its own, so that no answer needs a lock.

use std::sync::Arc;
use std::time::Duration;

use midge_core::time::Now;
use midge_core::topic::TopicName;
use midge_engine::permission::{Client, Permissions, Turn};
use midge_engine::record::State;
use midge_engine::shard::{Connecting, ConnectionId, SessionId, Shard};
use midge_engine::tree::SubscriptionFilter;
use midge_mqtt::{Auth, Connect, Property, PropertyId, ReasonCode};

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
    /// That isn't known yet: [`Mind::next_answer`] will say.
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

/// Decides about the clients of one loop.
pub trait Mind: Send {
    /// Returns who answers the engine's questions.
    fn permissions(&self) -> &dyn Permissions;

    /// Decides whether a client is let in; it must not wait for anything.
    fn admit(&mut self, hello: &Hello<'_>, now: Now) -> Verdict;

    /// Decides after AUTH: of a client that was challenged, or of one that is connected, with its `session`, and proves itself anew.
    fn respond(&mut self, peer: PeerId, session: Option<SessionId>, auth: &Auth<'_>, now: Now) -> Verdict {
        let _ = (peer, session, auth, now);
        Verdict::Refused(ReasonCode::ProtocolError)
    }

    /// Has the engine begin the connection of a client that was admitted just now; subscriptions that the server makes follow here.
    ///
    /// # Errors
    /// The reason code for the CONNACK that refuses the client after all.
    fn let_in(&mut self, entering: &Entering<'_>, shard: &mut Shard, now: Now) -> Result<ConnectionId, ReasonCode> {
        entering.connect(shard, &Turn { now, permissions: self.permissions() })
    }

    /// Learns that a client which is connected was admitted just now, having proved itself anew.
    fn proved(&mut self, peer: PeerId, session: SessionId) {
        let _ = (peer, session);
    }

    /// Learns that a client is gone, whether it waited for something or not.
    fn gone(&mut self, peer: PeerId) {
        let _ = peer;
    }

    /// Learns that a session is over; its id will be used again.
    fn session_ended(&mut self, session: SessionId, client_id: &str, shard: &Shard) {
        let _ = (session, client_id, shard);
    }

    /// Learns of the sessions that the shard was restored with; once, at the start.
    fn restored(&mut self, state: &State, shard: &Shard) {
        let _ = (state, shard);
    }

    /// Does what waits; called in every turn, and soon after [`super::Handle::wake`].
    fn work(&mut self, shard: &mut Shard, now: Now) {
        let _ = (shard, now);
    }

    /// Returns the next answer to somebody who waited; asked after [`Self::work`] until there is none.
    fn next_answer(&mut self) -> Option<(PeerId, Verdict)> {
        None
    }

    /// Returns when [`Self::work`] is to be called at the latest, on the monotonic clock.
    fn next_deadline(&self, now: Now) -> Option<Duration> {
        let _ = now;
        None
    }
}

/// A client that is being let in.
#[derive(Clone, Copy, Debug)]
pub struct Entering<'a> {
    /// Which.
    pub peer: PeerId,
    /// Its CONNECT.
    pub connect: &'a Connect<'a>,
    /// Its client identifier, by which it was asked about.
    pub client_id: &'a str,
    /// What is known of it.
    pub admission: &'a Admission,
}

impl Entering<'_> {
    /// Has the engine begin the connection.
    ///
    /// # Errors
    /// The engine's reason code for the CONNACK that refuses the client.
    pub fn connect(&self, shard: &mut Shard, turn: &Turn<'_>) -> Result<ConnectionId, ReasonCode> {
        let properties = self.admission.authentication.as_ref().map(Authentication::properties).unwrap_or_default();
        let (connect, client_id, username) = (self.connect, self.client_id, self.admission.username.as_deref());
        shard.connect(&Connecting { connect, client_id, username, properties: &properties }, turn)
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
