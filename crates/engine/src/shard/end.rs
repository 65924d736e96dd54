//! Connections and sessions end, and wills are published.

use std::sync::Arc;
use std::time::Duration;

use midge_mqtt::{Disconnect, ProtocolVersion, ReasonCode};

use super::commit::Then;
use super::time::Timer;
use super::{ConnectionId, Event, SessionId, Shard, deadline};
use crate::exchange::ToLoop;
use crate::permission::Turn;
use crate::record::{Record, SessionKey, WillRecord};
use crate::session::{Flow, NEVER, NONE, Pending};
use crate::tree::{Change, SubscriptionFilter, home};

impl Shard {
    /// The client says goodbye.
    pub(super) fn incoming_disconnect(&mut self, slot: u32, packet: &Disconnect<'_>, turn: &Turn<'_>) -> Result<(), ReasonCode> {
        let Some(session) = self.sessions.get_mut(self.session_of(slot)) else { return Ok(()) };
        if let Some(asked) = packet.properties.session_expiry_interval() {
            let expiry = asked.min(self.settings.max_session_expiry);
            if session.expiry == 0 && expiry > 0 {
                return Err(ReasonCode::ProtocolError); // 3.14.2.2.2
            }
            session.expiry = expiry;
        }
        // Only this reason takes the will with it [MQTT-3.14.4-3].
        let normal = packet.reason_code == ReasonCode::NORMAL_DISCONNECTION;
        self.shut(slot, None, normal, turn);
        Ok(())
    }

    /// Ends a connection from our side: says why, and has it closed behind the last byte.
    pub(super) fn close(&mut self, slot: u32, reason: Option<ReasonCode>, turn: &Turn<'_>) {
        self.shut(slot, reason, false, turn);
    }

    fn shut(&mut self, slot: u32, reason: Option<ReasonCode>, normal: bool, turn: &Turn<'_>) {
        let Some(connection) = self.connections.get_mut(slot).filter(|connection| !connection.closing) else { return };
        let (session, generation) = (std::mem::replace(&mut connection.session, NONE), connection.generation);
        connection.closing = true;
        connection.held = None;
        connection.aliases = None;
        if connection.corked > self.emitter.committed() {
            // What waits behind CONNACK was promised too early; nothing is said to this client any more.
            connection.corked = 0;
            connection.outgoing.iter_mut().for_each(|outgoing| outgoing.clear());
        } else if let Some(reason) = reason.filter(|_| connection.version == ProtocolVersion::V5) {
            self.write_own(slot, |version, out| {
                let written = Disconnect::new(reason).encode(version, out);
                debug_assert!(written.is_ok(), "a DISCONNECT without properties fits every packet");
            });
        }
        self.events.push_back(Event::Close { connection: ConnectionId { slot, generation }, reason });
        if session != NONE {
            self.detach(session, normal, turn);
        }
    }

    /// Takes the connection from a session: it waits for the client, or ends.
    pub(super) fn detach(&mut self, slot: u32, normal: bool, turn: &Turn<'_>) {
        let generation = self.next_generation();
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.connection = NONE;
        session.generation = generation;
        self.counters.connections -= 1;
        let expiry = session.expiry;
        // Before its will is published: members of its groups who are there come first.
        self.set_online(slot, false, turn);
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let no_will = if normal { session.will.take().is_some() } else { false };
        if no_will && let Some(key) = session.key {
            self.emitter.emit(Record::Will { session: key, will: None });
        }
        if expiry == 0 {
            return self.end_session(slot, turn);
        }
        if let Some(key) = session.key {
            self.emitter.emit(Record::Offline { session: key, expiry, since: turn.now.unix });
        }
        self.wait_for_client(slot, expiry, Duration::ZERO, turn);
    }

    /// Sets the timers of a session without a connection, which has been without for `since`.
    pub(super) fn wait_for_client(&mut self, slot: u32, expiry: u32, since: Duration, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get(slot) else { return };
        let (generation, now) = (session.generation, turn.monotonic());
        let at = |seconds| deadline(now, seconds).saturating_sub(since);
        if let Some(will) = &session.will {
            if will.delay == 0 {
                self.publish_will(slot, turn); // [MQTT-3.1.2-8]
            } else if will.delay < expiry {
                self.timers.insert(at(will.delay), now, Timer::Will { session: slot, generation });
            }
        }
        if expiry != NEVER {
            self.timers.insert(at(expiry), now, Timer::Expiry { session: slot, generation });
        }
    }

    /// Publishes the will of a session, once [MQTT-3.1.2-10].
    pub(super) fn publish_will(&mut self, slot: u32, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(will) = session.will.take() else { return };
        if let Some(key) = session.key {
            self.emitter.emit(Record::Will { session: key, will: None });
        }
        let WillRecord { message, expiry, .. } = *will;
        let mut view = message.view();
        view.expires = expiry.map(|seconds| deadline(turn.monotonic(), seconds));
        let Some(client) = self.client(slot) else { return };
        if !turn.permissions.may_publish(&client, view.topic) {
            self.counters.denied_publish += 1;
            return;
        }
        self.counters.wills += 1;
        self.route(view, Some(slot), false, Then::Session(slot), turn);
    }

    /// Ends a session: everything of it is gone, but what another member of a shared subscription can take.
    pub(super) fn end_session(&mut self, slot: u32, turn: &Turn<'_>) {
        self.publish_will(slot, turn);
        let subscriber = self.subscriber(slot);
        let Some(mut session) = self.sessions.take(slot) else { return };
        self.ending.push_back(slot);
        self.end_subscriptions();
        self.names.remove(self.key.text(&session.client_id), slot);
        if let Some(key) = session.key {
            self.emitter.emit(Record::Ended { session: key });
        }
        if let Some(mut flow) = session.flow.take() {
            for home in self.homes(&flow) {
                self.tell(home, ToLoop::Group { change: Change::RemoveAll { subscriber }, reply: None }, turn);
            }
            self.pass_on(&mut flow, session.key, turn);
        }
        self.events.push_back(Event::SessionEnded { session: SessionId(slot), client_id: session.client_id });
    }

    /// Removes subscriptions of sessions that are over, some at each call; only then their ids are given out again.
    pub(super) fn end_subscriptions(&mut self) {
        /// Less than a millisecond.
        const AT_ONCE: usize = 500;
        let mut left = AT_ONCE;
        while let Some(&slot) = self.ending.front() {
            let subscriber = self.subscriber(slot);
            left -= self.tree.remove_some(subscriber, left);
            if left == 0 {
                return;
            }
            self.ending.pop_front();
            self.sessions.release(slot);
        }
    }

    /// Returns the other loops that keep groups of a session.
    pub(super) fn homes(&self, flow: &Flow) -> Vec<u8> {
        let mut homes: Vec<u8> = flow.shared.values().map(|membership| membership.home).collect();
        homes.retain(|&home| home != self.place.event_loop);
        homes.sort_unstable();
        homes.dedup();
        homes
    }

    pub(super) fn home_of_group(&self, path: &str) -> Option<u8> {
        home(&self.key, SubscriptionFilter::new(path).ok()?, self.place.loops)
    }

    /// Gives what an ended session had of shared subscriptions to other members.
    ///
    /// What was not acknowledged with QoS 1 goes, what was not sent with QoS 2; what is in flight with QoS 2 must not [MQTT-4.8.2-5].
    fn pass_on(&mut self, flow: &mut Flow, key: Option<SessionKey>, turn: &Turn<'_>) {
        self.counters.queued_messages -= flow.queue.len();
        self.counters.queued_bytes -= flow.queue.bytes();
        let inflight = flow.inflight.drain().filter_map(|sending| sending.message);
        let inflight: Vec<Pending> = inflight.filter(|pending| pending.qos != midge_mqtt::QoS::ExactlyOnce).collect();
        let queued = std::iter::from_fn(|| flow.queue.pop());
        for pending in inflight.into_iter().chain(queued) {
            let Some(shared) = pending.shared else { continue };
            let then = key.map(|key| Then::Done(key, pending.order));
            self.redeliver(Arc::clone(&pending.message), &shared, pending.qos, then, turn);
        }
    }

    /// Sends a message to the home of its group for another member.
    pub(super) fn redeliver(
        &mut self,
        message: Arc<crate::message::Message>,
        shared: &Arc<str>,
        qos: midge_mqtt::QoS,
        then: Option<Then>,
        turn: &Turn<'_>,
    ) {
        let mut awaiting = self.awaiting(then.is_some());
        let reply = awaiting.ask();
        let Some(home) = self.home_of_group(shared) else { return };
        if let Some(then) = then {
            self.settle(awaiting, 0, then, turn);
        }
        self.tell(home, ToLoop::Redeliver { message, shared: Arc::clone(shared), qos, attempts: 0, reply }, turn);
    }
}
