//! A client comes: a new session, or the one it left.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use midge_core::topic::TopicName;
use midge_mqtt::{Connack, Connect, Properties, Property, PropertyId, ProtocolVersion, QoS, ReasonCode, Will};

use super::time::{CONNECTION, SESSION, Timer, millis};
use super::{Client, ConnectionId, SessionId, Shard};
use crate::memory::Share;
use crate::message::Publication;
use crate::permission::Turn;
use crate::record::{Record, WillRecord};
use crate::session::connection::Connection;
use crate::session::{NEVER, NONE, Session};

/// A CONNECT whose sender was let in.
#[derive(Clone, Copy, Debug)]
pub struct Connecting<'a> {
    /// The packet.
    pub connect: &'a Connect<'a>,
    /// The client identifier: the one assigned where the packet has none. It must belong to this loop, by [`crate::exchange::home_of_client`].
    pub client_id: &'a str,
    /// The username that was proved.
    pub username: Option<&'a str>,
    /// Properties for CONNACK that the engine knows nothing of, such as authentication data.
    pub properties: &'a [Property<'a>],
}

impl Shard {
    /// Begins a connection: takes up or starts the session, takes it over from an older connection, and answers with CONNACK.
    ///
    /// Subscriptions that the server makes by itself are best made directly after: CONNACK goes out first, and nothing is missed.
    ///
    /// # Errors
    /// The reason code for the CONNACK with which the caller refuses the client; nothing was changed.
    pub fn connect(&mut self, connecting: &Connecting<'_>, turn: &Turn<'_>) -> Result<ConnectionId, ReasonCode> {
        let connect = connecting.connect;
        let existing = self.find_session(connecting.client_id);
        let before = self.emitter.emitted();
        if existing.is_none() && self.sessions.len() >= self.settings.max_sessions.min(1 << 24) {
            self.counters.refused_sessions += 1;
            return Err(ReasonCode::QuotaExceeded);
        }
        self.memory.grow(if existing.is_none() { SESSION + CONNECTION } else { 0 });
        if existing.is_none() && !self.memory.has(Share::Begin) {
            self.counters.refused_memory += 1;
            return Err(ReasonCode::ServerBusy);
        }
        let most = connect.properties.maximum_packet_size().map_or(u32::MAX, NonZeroU32::get);
        if most < u32::MAX && self.connack(connecting, false).len() > most as usize {
            return Err(ReasonCode::PacketTooLarge); // [MQTT-3.1.2-24]
        }
        let will = connect.will.as_ref().map(|will| self.accept_will(connecting, will, turn)).transpose()?;
        let existing = existing.and_then(|session| self.take_over(session, connect.clean_start, turn));
        let present = existing.is_some();
        let session = existing.unwrap_or_else(|| self.start_session(connecting.client_id));
        let expiry = self.session_expiry(connect);
        let generation = self.next_generation();
        let slot = self.connections.insert(self.make_connection(connect, session, generation, turn));
        if let Some(known) = self.sessions.get_mut(session) {
            known.connection = slot;
            known.expiry = expiry;
            known.username = connecting.username.map(Into::into);
            // Timers of the time without a connection mean nothing any more [MQTT-3.1.3-9].
            known.generation = generation;
        }
        let after = self.record_connected(session, present, expiry, will, before);
        self.counters.connections += 1;
        self.set_online(session, true, turn);
        let id = ConnectionId { slot, generation };
        let deadline = self.connections.get(slot).and_then(Connection::deadline);
        if let Some(deadline) = deadline {
            self.timers.insert(deadline, turn.monotonic(), Timer::KeepAlive { connection: slot, generation });
        }
        self.cork(slot, after);
        let connack = self.connack(connecting, present); // [MQTT-3.2.2-2] [MQTT-3.2.2-3]
        self.write_own(slot, |_, out| out.extend_from_slice(&connack));
        if let Some(flow) = self.sessions.get_mut(session).and_then(|known| known.flow.as_mut()) {
            flow.inflight.rewind();
        }
        self.pump(session, turn);
        Ok(id)
    }

    /// Checks a will as a PUBLISH of the client would be, and stores it [MQTT-3.1.2-7].
    fn accept_will(&mut self, connecting: &Connecting<'_>, will: &Will<'_>, turn: &Turn<'_>) -> Result<WillRecord, ReasonCode> {
        let topic = TopicName::new(will.topic).map_err(|_| ReasonCode::TopicNameInvalid)?;
        if will.qos > self.settings.max_qos {
            return Err(ReasonCode::QoSNotSupported); // [MQTT-3.2.2-12]
        }
        if will.retain && !self.settings.retain {
            return Err(ReasonCode::RetainNotSupported); // [MQTT-3.2.2-13]
        }
        if topic.levels().count() > self.settings.max_topic_levels {
            self.counters.refused_levels += 1;
            return Err(ReasonCode::TopicNameInvalid);
        }
        let client =
            Client { session: SessionId(NONE), connection: None, client_id: connecting.client_id, username: connecting.username };
        if !turn.permissions.may_publish(&client, topic) {
            self.counters.denied_publish += 1;
            return Err(ReasonCode::NotAuthorized);
        }
        let mut properties = Vec::new();
        for property in will.properties.iter() {
            if !matches!(property.id(), PropertyId::WillDelayInterval | PropertyId::MessageExpiryInterval) {
                property.encode(&mut properties).map_err(|_| ReasonCode::MalformedPacket)?;
            }
        }
        let (payload, qos, retain) = (will.payload, will.qos, will.retain);
        let message = Publication { topic, properties: &properties, payload, qos, retain, expires: None, stamp: 0 }.to_message();
        message.charge(&mut self.memory);
        let delay = will.properties.will_delay_interval().unwrap_or(0);
        Ok(WillRecord { message, expiry: will.properties.message_expiry_interval(), delay })
    }

    /// Ends the connection that the session has, and the session where the client wants a new one; returns what is left of it.
    fn take_over(&mut self, session: u32, clean_start: bool, turn: &Turn<'_>) -> Option<u32> {
        let known = self.sessions.get_mut(session)?;
        if known.is_online() {
            let connection = known.connection;
            if clean_start {
                // The session ends with its connection, and its will is published at that [MQTT-3.1.2-4].
                known.expiry = 0;
            }
            self.counters.takeovers += 1;
            self.close(connection, Some(ReasonCode::SessionTakenOver), turn); // [MQTT-3.1.4-3]
            // It may have ended with its connection; nobody can have begun another meanwhile.
            return self.sessions.get(session).map(|_| session);
        }
        if clean_start {
            // The session ends, but the client is back before the will delay is over: no will [MQTT-3.1.2-8].
            known.will = None;
            self.end_session(session, turn);
            return None;
        }
        Some(session)
    }

    fn start_session(&mut self, client_id: &str) -> u32 {
        let slot = self.sessions.insert(Session {
            client_id: client_id.into(),
            username: None,
            key: None,
            will: None,
            flow: None,
            connection: NONE,
            expiry: 0,
            generation: 0,
        });
        self.names.insert(self.key.text(client_id), slot);
        slot
    }

    /// Returns how long the session outlives the connection, in seconds.
    fn session_expiry(&self, connect: &Connect<'_>) -> u32 {
        let asked = match connect.version {
            ProtocolVersion::V5 => connect.properties.session_expiry_interval().unwrap_or(0),
            ProtocolVersion::V31 | ProtocolVersion::V311 if connect.clean_start => 0,
            ProtocolVersion::V31 | ProtocolVersion::V311 => NEVER,
        };
        asked.min(self.settings.max_session_expiry)
    }

    /// Returns the keep alive that holds, in seconds; before 5.0 a client can't be told of another than its own [MQTT-3.2.2-22].
    fn keep_alive(&self, connect: &Connect<'_>) -> u16 {
        match (connect.keep_alive, self.settings.max_keep_alive) {
            (asked, most) if most == 0 || connect.version != ProtocolVersion::V5 => asked,
            (0, most) => most,
            (asked, most) => asked.min(most),
        }
    }

    fn make_connection(&self, connect: &Connect<'_>, session: u32, generation: u32, turn: &Turn<'_>) -> Connection {
        let (properties, settings) = (&connect.properties, &self.settings);
        let window = properties.receive_maximum().map_or(u16::MAX, NonZeroU16::get).min(settings.max_inflight).max(1);
        Connection {
            session,
            generation,
            heard: millis(turn.monotonic()),
            outgoing: None,
            aliases: None,
            held: None,
            corked: 0,
            max_packet: properties.maximum_packet_size().map_or(u32::MAX, NonZeroU32::get),
            quota: window,
            window,
            unacknowledged: 0,
            alias_maximum: properties.topic_alias_maximum().unwrap_or(0).min(settings.max_outgoing_aliases),
            keep_alive: self.keep_alive(connect),
            version: connect.version,
            listed: false,
            walking: false,
            closing: false,
        }
    }

    /// Emits what a restart has to know of the connection; returns the record that CONNACK waits for.
    fn record_connected(&mut self, session: u32, present: bool, expiry: u32, will: Option<WillRecord>, before: u64) -> u64 {
        let had_will = self.sessions.get(session).is_some_and(|known| known.will.is_some());
        let Some(known) = self.sessions.get_mut(session) else { return 0 };
        known.will = will.map(Box::new);
        if !self.emitter.is_on() {
            return 0;
        }
        if expiry > 0 {
            let key = *known.key.get_or_insert_with(|| self.emitter.session_key());
            if !present {
                self.emitter.emit(Record::Started { session: key, client_id: known.client_id.clone() });
            }
            self.emitter.emit(Record::Online { session: key, username: known.username.clone(), expiry });
            if had_will || known.will.is_some() {
                let will = known.will.as_deref().cloned().map(Arc::new);
                self.emitter.emit(Record::Will { session: key, will });
            }
        } else if let Some(key) = known.key {
            // From now on it ends with its connection, and so would it in a crash; until then it is worth having.
            self.emitter.emit(Record::Online { session: key, username: known.username.clone(), expiry });
        }
        // A session that was cleaned must not come back once the client was told.
        self.after(before)
    }

    /// Returns CONNACK; only what differs from what the standard takes for granted is said.
    fn connack(&self, connecting: &Connecting<'_>, session_present: bool) -> Vec<u8> {
        let (connect, settings) = (connecting.connect, &self.settings);
        let mut properties = Vec::new();
        if connect.version == ProtocolVersion::V5 {
            let (expiry, keep_alive) = (self.session_expiry(connect), self.keep_alive(connect));
            let asked = connect.properties.session_expiry_interval().unwrap_or(0);
            properties.extend((asked != expiry).then_some(Property::SessionExpiryInterval(expiry)));
            let window = NonZeroU16::new(settings.receive_maximum).filter(|window| *window < NonZeroU16::MAX);
            properties.extend(window.map(Property::ReceiveMaximum));
            properties.extend((settings.max_qos < QoS::ExactlyOnce).then_some(Property::MaximumQoS(settings.max_qos)));
            properties.extend((!settings.retain).then_some(Property::RetainAvailable(false)));
            let limit = NonZeroU32::new(settings.max_packet_size).filter(|limit| limit.get() < midge_mqtt::MAX_PACKET_SIZE);
            properties.extend(limit.map(Property::MaximumPacketSize));
            // [MQTT-3.1.3-7]
            properties.extend(connect.client_id.is_empty().then_some(Property::AssignedClientIdentifier(connecting.client_id)));
            let aliases = settings.topic_alias_maximum;
            properties.extend((aliases > 0).then_some(Property::TopicAliasMaximum(aliases)));
            properties.extend((!settings.shared_subscriptions).then_some(Property::SharedSubscriptionAvailable(false)));
            properties.extend((keep_alive != connect.keep_alive).then_some(Property::ServerKeepAlive(keep_alive)));
            properties.extend_from_slice(connecting.properties);
        }
        let connack = Connack { session_present, reason_code: ReasonCode::Success, properties: Properties::new(&properties) };
        let mut bytes = Vec::new();
        if connack.encode(connect.version, &mut bytes).is_err() {
            // Only the caller's properties can be too long: without them the client can at least begin.
            let connack = Connack { session_present, reason_code: ReasonCode::Success, properties: Properties::NONE };
            let written = connack.encode(connect.version, &mut bytes);
            debug_assert!(written.is_ok(), "a CONNACK without properties fits every packet");
        }
        bytes
    }
}
