//! A message comes in, from a client or the server.

use midge_core::topic::TopicName;
use midge_mqtt::{Delivery, Properties, PropertyId, Publish, QoS, ReasonCode};

use super::commit::Then;
use super::{Shard, deadline};
use crate::message::Publication;
use crate::permission::Turn;
use crate::record::Record;
use crate::session::held::HeldPacket;

/// What became of a message that the server published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Sessions of this loop whose clients are connected and got it, or will as soon as they can take it.
    pub delivered: usize,
    /// Sessions of this loop that it waits for.
    pub queued: usize,
    /// Other loops with subscriptions that may match.
    pub other_loops: usize,
    /// The record after which it is safe here; 0 where nothing has to be written.
    pub after: u64,
}

impl Shard {
    /// Publishes a message of the server's own, asking nobody; its stamp is not looked at.
    ///
    /// What it retains below `$SYS/` is not recorded: the server makes it anew.
    pub fn publish(&mut self, publication: Publication<'_>, turn: &Turn<'_>) -> Published {
        let routed = self.route(publication, None, false, Then::Session(super::NONE), turn);
        Published {
            delivered: routed.deliveries.saturating_sub(routed.queued),
            queued: routed.queued,
            other_loops: routed.other_loops,
            after: routed.after,
        }
    }

    pub(super) fn incoming_publish(&mut self, slot: u32, publish: &Publish<'_>, turn: &Turn<'_>) -> Result<(), ReasonCode> {
        self.counters.received += 1;
        self.counters.received_bytes += publish.payload.len() as u64;
        let qos = publish.delivery.qos();
        if qos > self.settings.max_qos {
            return Err(ReasonCode::QoSNotSupported); // [MQTT-3.2.2-11]
        }
        if publish.retain && !self.settings.retain {
            return Err(ReasonCode::RetainNotSupported); // [MQTT-3.2.2-14]
        }
        self.count_unacknowledged(slot, publish.delivery)?;
        let mut named = std::mem::take(&mut self.scratch.topic);
        let result = match self.resolve(slot, publish, &mut named) {
            Ok(topic) => self.take_message(slot, publish, topic, turn),
            Err(reason) => Err(reason),
        };
        self.scratch.topic = named;
        result
    }

    /// Counts a message against the receive maximum that clients of 5.0 were told [MQTT-3.3.4-7].
    ///
    /// A message of QoS 2 that comes again before it is released is the same one: both copies have one PUBCOMP.
    fn count_unacknowledged(&mut self, slot: u32, delivery: Delivery) -> Result<(), ReasonCode> {
        let maximum = self.settings.receive_maximum;
        let Some(connection) = self.connections.get_mut(slot).filter(|_| delivery != Delivery::AtMostOnce) else { return Ok(()) };
        let generation = connection.generation;
        if let Delivery::ExactlyOnce(id) = delivery
            && let Some(flow) = self.sessions.get_mut(connection.session).and_then(|known| known.flow.as_mut())
            && let Some(wait) = flow.received.get_mut(&id)
            && std::mem::replace(&mut wait.counted, generation) == generation
        {
            return Ok(());
        }
        connection.unacknowledged = connection.unacknowledged.saturating_add(1);
        let v5 = connection.version == midge_mqtt::ProtocolVersion::V5;
        if v5 && connection.unacknowledged > maximum { Err(ReasonCode::ReceiveMaximumExceeded) } else { Ok(()) }
    }

    /// Returns the topic name; where an alias stands for it, it is copied to `named`.
    fn resolve<'a>(&mut self, slot: u32, publish: &Publish<'a>, named: &'a mut String) -> Result<TopicName<'a>, ReasonCode> {
        let mut text = publish.topic;
        if let Some(alias) = publish.properties.topic_alias() {
            if alias.get() > self.settings.topic_alias_maximum {
                return Err(ReasonCode::TopicAliasInvalid); // [MQTT-3.3.2-9]
            }
            let Some(connection) = self.connections.get_mut(slot) else { return Err(ReasonCode::UnspecifiedError) };
            let aliases = connection.aliases.get_or_insert_default();
            if text.is_empty() {
                // An alias that was never set leaves the packet without a topic, section 3.3.2.3.4.
                named.clear();
                named.push_str(aliases.find(alias).ok_or(ReasonCode::ProtocolError)?);
                text = named;
            } else {
                aliases.set(alias, text);
            }
        }
        TopicName::new(text).map_err(|_| ReasonCode::TopicNameInvalid)
    }

    fn take_message(&mut self, slot: u32, publish: &Publish<'_>, topic: TopicName<'_>, turn: &Turn<'_>) -> Result<(), ReasonCode> {
        let session = self.session_of(slot);
        if let Delivery::ExactlyOnce(id) = publish.delivery
            && let Some(wait) = self.sessions.get(session).and_then(|known| known.flow.as_ref()?.received.get(&id).copied())
        {
            // It came before and was passed on: it is only answered again [MQTT-4.3.3-10].
            self.hold(slot, wait.after, wait.ticket, HeldPacket::Pubrec(id, ReasonCode::Success));
            return Ok(());
        }
        // Levels are at most one more than bytes, so almost no topic needs counting.
        let most = self.settings.max_topic_levels;
        if topic.as_str().len() >= most && topic.levels().count() > most {
            self.counters.refused_levels += 1;
            return self.refuse(slot, publish.delivery, ReasonCode::TopicNameInvalid);
        }
        let Some(client) = self.client(session) else { return Ok(()) };
        if !turn.permissions.may_publish(&client, topic) {
            self.counters.denied_publish += 1;
            return self.refuse(slot, publish.delivery, ReasonCode::NotAuthorized);
        }
        let mut scratch = std::mem::take(&mut self.scratch.properties);
        let properties = shared_properties(&publish.properties, &mut scratch)?;
        let expiry = publish.properties.message_expiry_interval();
        let publication = Publication {
            topic,
            properties,
            payload: publish.payload,
            qos: publish.delivery.qos(),
            retain: publish.retain,
            expires: expiry.map(|seconds| deadline(turn.monotonic(), seconds)),
            stamp: 0,
        };
        let wants_reply = publish.delivery != Delivery::AtMostOnce && self.emitter.is_on();
        let then = match publish.delivery {
            Delivery::ExactlyOnce(id) => Then::Received(session, id),
            Delivery::AtMostOnce | Delivery::AtLeastOnce(_) => Then::Session(session),
        };
        let routed = self.route(publication, Some(session), wants_reply, then, turn);
        self.scratch.properties = scratch;
        if let Some(client) = self.client(session) {
            turn.permissions.published(&client, topic, publish.payload.len(), routed.deliveries);
        }
        match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(id) => {
                let reason = if routed.matched { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers };
                self.hold(slot, routed.after, routed.ticket, HeldPacket::Puback(id, reason));
            }
            Delivery::ExactlyOnce(id) => {
                let mut after = routed.after;
                let counted = self.connections.get(slot).map_or(0, |connection| connection.generation);
                if let Some(known) = self.sessions.get_mut(session) {
                    if let Some(key) = known.key.filter(|_| routed.ticket == 0) {
                        after = self.emitter.emit(Record::Received { session: key, packet_id: id });
                    }
                    known.flow().received.insert(id, Wait { after, ticket: routed.ticket, counted });
                }
                // Without the reason for nobody, which it may give: there are clients that take all but 0 for an error
                // and never release the identifier, and a copy sent again couldn't be told.
                self.hold(slot, after, routed.ticket, HeldPacket::Pubrec(id, ReasonCode::Success));
            }
        }
        Ok(())
    }

    /// Answers a message that isn't taken: with the reason where the version can say it.
    ///
    /// Before 5.0 it is acknowledged, as the only other answer would be to end the connection [MQTT-3.3.5-2].
    fn refuse(&mut self, slot: u32, delivery: Delivery, reason: ReasonCode) -> Result<(), ReasonCode> {
        match delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(id) => self.hold(slot, 0, 0, HeldPacket::Puback(id, reason)),
            Delivery::ExactlyOnce(id) => self.hold(slot, 0, 0, HeldPacket::Pubrec(id, reason)),
        }
        Ok(())
    }
}

/// What the PUBREC of a message waits for, should it be asked for again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait {
    pub(crate) after: u64,
    pub(crate) ticket: u64,
    /// The generation of the connection whose receive maximum it counts against.
    pub(crate) counted: u32,
}

/// Returns the properties that are passed on unchanged and in their order [MQTT-3.3.2-18].
fn shared_properties<'a>(properties: &Properties<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], ReasonCode> {
    let own = [PropertyId::TopicAlias, PropertyId::MessageExpiryInterval, PropertyId::SubscriptionIdentifier];
    if let Some(bytes) = properties.as_bytes().filter(|_| !own.iter().any(|&id| properties.contains(id))) {
        return Ok(bytes);
    }
    scratch.clear();
    for property in properties.iter().filter(|property| !own.contains(&property.id())) {
        property.encode(scratch).map_err(|_| ReasonCode::MalformedPacket)?;
    }
    Ok(scratch)
}

/// Returns the QoS to deliver with: what was published, at most what was granted [MQTT-3.8.4-8].
pub(super) fn delivered_qos(published: QoS, granted: QoS) -> QoS {
    published.min(granted)
}
