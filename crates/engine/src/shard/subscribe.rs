//! Subscriptions come and go.
//!
//! By the client's packets, or by the server on the client's behalf, with the same effects.

use midge_mqtt::{
    PacketId, Properties, ReasonCode, ReasonCodes, RetainHandling, Suback, Subscribe, Subscription, SubscriptionId, Unsuback,
    Unsubscribe,
};

use super::commit::{Awaiting, Then};
use super::{SessionId, Shard};
use crate::exchange::ToLoop;
use crate::memory::Share;
use crate::permission::Turn;
use crate::record::Record;
use crate::retained::{Cursor, Progress};
use crate::session::held::HeldPacket;
use crate::session::{Membership, Walk};
use crate::tree::{Change, SubscriptionFilter, SubscriptionOptions};

/// What a subscription takes beside its filter, in bytes.
pub(super) const SUBSCRIPTION: usize = 140;

/// What a subscription costs, as [`Shard::work`] counts it.
const WORK: u64 = 32;

impl Shard {
    /// Subscribes a session on the server's own account, asking no permission; shared filters included.
    ///
    /// Retained messages follow as retain handling says. The subscription counts against the bound.
    pub fn subscribe(&mut self, session: SessionId, subscription: &Subscription<'_>, turn: &Turn<'_>) -> ReasonCode {
        let mut awaiting = self.awaiting(false);
        self.subscribe_one(session.0, subscription, None, false, &mut awaiting, turn)
    }

    /// Withdraws a subscription of a session, by whomever it was made; returns whether there was one.
    pub fn unsubscribe(&mut self, session: SessionId, filter: &str) -> bool {
        let mut awaiting = self.awaiting(false);
        self.unsubscribe_one(session.0, filter, &mut awaiting)
    }

    /// Calls `found` with the filter, `$share/NAME/` included, and the options of each subscription of a session.
    pub fn subscriptions(&self, session: SessionId, mut found: impl FnMut(&str, SubscriptionOptions)) {
        let Some(known) = self.sessions.get(session.0) else { return };
        self.tree.subscriptions_of(self.subscriber(session.0), |share, filter, options| {
            if share.is_none() {
                found(filter, options);
            }
        });
        for (path, membership) in known.flow.iter().flat_map(|flow| &flow.shared) {
            found(path, membership.options);
        }
    }

    pub(super) fn incoming_subscribe(&mut self, slot: u32, packet: &Subscribe<'_>, turn: &Turn<'_>) -> Result<(), ReasonCode> {
        self.check_answer(slot, packet.subscriptions.iter().count())?;
        let session = self.session_of(slot);
        let before = self.emitter.emitted();
        let mut awaiting = self.awaiting(true);
        let identifier = packet.properties.subscription_identifiers().next();
        let reasons: Vec<ReasonCode> = packet
            .subscriptions
            .iter()
            .map(|subscription| self.subscribe_one(session, &subscription, identifier, true, &mut awaiting, turn))
            .collect();
        let id = packet.packet_id;
        self.answer(slot, before, awaiting, turn, |version, out| {
            // As many reason codes as filters, in their order [MQTT-3.8.4-5] [MQTT-3.8.4-6].
            let suback = Suback { packet_id: id, properties: Properties::NONE, reason_codes: ReasonCodes::new(&reasons) };
            suback.encode(version, out)
        });
        self.walk(session, turn);
        Ok(())
    }

    pub(super) fn incoming_unsubscribe(&mut self, slot: u32, packet: &Unsubscribe<'_>) -> Result<(), ReasonCode> {
        self.check_answer(slot, packet.filters.iter().count())?;
        let session = self.session_of(slot);
        let before = self.emitter.emitted();
        let mut awaiting = self.awaiting(false);
        let reasons: Vec<ReasonCode> = packet
            .filters
            .iter()
            .map(|filter| match self.unsubscribe_one(session, filter, &mut awaiting) {
                true => ReasonCode::Success,
                false => ReasonCode::NoSubscriptionExisted,
            })
            .collect();
        let packet_id: PacketId = packet.packet_id;
        let after = self.after(before);
        self.hold_encoded(slot, after, 0, |version, out| {
            // Even where nothing matched [MQTT-3.10.4-5].
            let unsuback = Unsuback { packet_id, properties: Properties::NONE, reason_codes: ReasonCodes::new(&reasons) };
            unsuback.encode(version, out)
        });
        Ok(())
    }

    /// Refuses what the client couldn't be told the result of: SUBACK and UNSUBACK grow with the packet they answer [MQTT-3.1.2-24].
    fn check_answer(&self, slot: u32, reasons: usize) -> Result<(), ReasonCode> {
        // Fixed header, packet identifier and property length.
        let size = reasons + if reasons < 125 { 5 } else { 8 };
        let fits = self.connections.get(slot).is_none_or(|known| size <= known.max_packet as usize);
        if fits { Ok(()) } else { Err(ReasonCode::PacketTooLarge) }
    }

    /// Answers once what was done since the record `before` is safe and other loops have done their part.
    fn answer(
        &mut self,
        slot: u32,
        before: u64,
        awaiting: Awaiting,
        turn: &Turn<'_>,
        encode: impl FnOnce(midge_mqtt::ProtocolVersion, &mut Vec<u8>) -> Result<(), midge_mqtt::EncodeError>,
    ) {
        let after = self.after(before);
        let ticket = self.settle(awaiting, after, Then::Session(self.session_of(slot)), turn);
        self.hold_encoded(slot, after, ticket, encode);
    }

    /// Returns the record to wait for, if any was emitted since `before`.
    pub(super) fn after(&self, before: u64) -> u64 {
        if self.emitter.emitted() > before { self.emitter.emitted() } else { 0 }
    }

    fn hold_encoded(
        &mut self,
        slot: u32,
        after: u64,
        ticket: u64,
        encode: impl FnOnce(midge_mqtt::ProtocolVersion, &mut Vec<u8>) -> Result<(), midge_mqtt::EncodeError>,
    ) {
        let Some(version) = self.connections.get(slot).map(|known| known.version) else { return };
        let mut bytes = Vec::new();
        let written = encode(version, &mut bytes);
        debug_assert!(written.is_ok(), "there are fewer reason codes than bytes in the packet answered");
        self.hold(slot, after, ticket, HeldPacket::Encoded(bytes.into_boxed_slice()));
    }

    fn subscribe_one(
        &mut self,
        session: u32,
        subscription: &Subscription<'_>,
        identifier: Option<SubscriptionId>,
        ask: bool,
        awaiting: &mut Awaiting,
        turn: &Turn<'_>,
    ) -> ReasonCode {
        let Ok(filter) = SubscriptionFilter::new(subscription.filter) else { return ReasonCode::TopicFilterInvalid };
        if let Err(reason) = self.check_subscription(session, filter, ask, turn) {
            return reason;
        }
        let qos = subscription.qos.min(self.settings.max_qos);
        let options = options(subscription, qos, identifier);
        self.memory.grow(subscription.filter.len() + SUBSCRIPTION);
        self.work += WORK;
        let old = match filter.share_name() {
            Some(_) => self.join_group(session, subscription.filter, filter, options, awaiting),
            None => self.tree.subscribe(filter, self.subscriber(session), options),
        };
        let short = !self.memory.has(Share::Begin);
        if old.is_none() && (short || self.count_subscriptions(session) > self.settings.max_subscriptions) {
            let mut unasked = self.awaiting(false);
            self.leave(session, subscription.filter, filter, &mut unasked);
            *(if short { &mut self.counters.refused_memory } else { &mut self.counters.refused_subscriptions }) += 1;
            return ReasonCode::QuotaExceeded;
        }
        let mut after = 0;
        if old != Some(options)
            && let Some(key) = self.sessions.get(session).and_then(|known| known.key)
        {
            after = self.emitter.emit(Record::Subscribed { session: key, filter: subscription.filter.into(), options });
        }
        let send_retained = match subscription.retain_handling {
            RetainHandling::Send => true,               // [MQTT-3.3.1-9]
            RetainHandling::SendIfNew => old.is_none(), // [MQTT-3.3.1-10]
            RetainHandling::DontSend => false,          // [MQTT-3.3.1-11]
        };
        if old.is_some() {
            // One that is still under way would find the same messages once more.
            self.end_walk(session, subscription.filter);
        }
        // Shared subscriptions get no retained messages, section 4.8.2.
        if send_retained && filter.share_name().is_none() && self.may_find(filter, turn) {
            self.begin_walk(session, filter, options, after);
        }
        ReasonCode::granted(qos)
    }

    fn check_subscription(
        &mut self,
        session: u32,
        filter: SubscriptionFilter<'_>,
        ask: bool,
        turn: &Turn<'_>,
    ) -> Result<(), ReasonCode> {
        if filter.filter().levels().count() > self.settings.max_topic_levels {
            self.counters.refused_levels += 1;
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if filter.share_name().is_some() && !self.settings.shared_subscriptions {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let Some(client) = self.client(session) else { return Err(ReasonCode::UnspecifiedError) };
        if ask && !turn.permissions.may_subscribe(&client, filter) {
            self.counters.denied_subscribe += 1;
            return Err(ReasonCode::NotAuthorized);
        }
        Ok(())
    }

    /// Returns whether a filter may match a retained message.
    ///
    /// Most match none, and to see that at once costs less than to remember to look.
    fn may_find(&self, filter: SubscriptionFilter<'_>, turn: &Turn<'_>) -> bool {
        /// Topics looked at: what a filter of literal levels with a `+` or two needs.
        const VISITED: usize = 8;
        let mut any = false;
        let progress = Cursor::new(filter.filter()).next_batch(&self.retained, VISITED, turn.monotonic(), |_, _| any = true);
        any || progress == Progress::More
    }

    fn end_walk(&mut self, session: u32, filter: &str) {
        if let Some(flow) = self.sessions.get_mut(session).and_then(|known| known.flow.as_mut()) {
            flow.walks.retain(|walk| *walk.filter != *filter);
        }
    }

    fn begin_walk(&mut self, session: u32, filter: SubscriptionFilter<'_>, options: SubscriptionOptions, after: u64) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        let slot = known.connection;
        let (text, cursor) = (filter.filter().as_str(), Cursor::new(filter.filter()));
        known.flow().walks.push_back(Walk { filter: text.into(), cursor, options, after });
        self.list_walk(slot);
    }

    /// Returns how many subscriptions a session has, those in groups of other loops included.
    fn count_subscriptions(&self, session: u32) -> usize {
        let flow = self.sessions.get(session).and_then(|known| known.flow.as_ref());
        self.tree.count_of(self.subscriber(session)) + flow.map_or(0, |flow| flow.shared_elsewhere)
    }

    /// Enters a session in a group, which another loop may keep; returns the options it had there.
    pub(super) fn join_group(
        &mut self,
        session: u32,
        path: &str,
        filter: SubscriptionFilter<'_>,
        options: SubscriptionOptions,
        awaiting: &mut Awaiting,
    ) -> Option<SubscriptionOptions> {
        let subscriber = self.subscriber(session);
        let home = self.home_of_group(path)?;
        let known = self.sessions.get_mut(session)?;
        let flow = known.flow.get_or_insert_default();
        let old = match flow.shared.get_mut(path) {
            Some(membership) => Some(std::mem::replace(&mut membership.options, options)),
            None => {
                flow.shared.insert(path.into(), Membership { options, home });
                flow.shared_elsewhere += usize::from(home != self.place.event_loop);
                None
            }
        };
        if home == self.place.event_loop {
            self.tree.subscribe(filter, subscriber, options);
        } else if old != Some(options) {
            let reply = awaiting.ask();
            let change = Change::Add { filter: path.into(), subscriber, options };
            self.outboxes[usize::from(home)].push(ToLoop::Group { change, reply });
        }
        old
    }

    fn unsubscribe_one(&mut self, session: u32, text: &str, awaiting: &mut Awaiting) -> bool {
        let Ok(filter) = SubscriptionFilter::new(text) else { return false };
        if !self.leave(session, text, filter, awaiting) {
            return false;
        }
        if let Some(key) = self.sessions.get(session).and_then(|known| known.key) {
            self.emitter.emit(Record::Unsubscribed { session: key, filter: text.into() });
        }
        true
    }

    fn leave(&mut self, session: u32, text: &str, filter: SubscriptionFilter<'_>, awaiting: &mut Awaiting) -> bool {
        let subscriber = self.subscriber(session);
        if filter.share_name().is_none() {
            // Nothing new is to come because of it [MQTT-3.10.4-2].
            self.end_walk(session, text);
            return self.tree.unsubscribe(filter, subscriber);
        }
        let flow = self.sessions.get_mut(session).and_then(|known| known.flow.as_mut());
        let Some(flow) = flow else { return false };
        let Some(Membership { home, .. }) = flow.shared.remove(text) else { return false };
        if home == self.place.event_loop {
            self.tree.unsubscribe(filter, subscriber);
        } else {
            flow.shared_elsewhere -= 1;
            let reply = awaiting.ask();
            let change = Change::Remove { filter: text.into(), subscriber };
            self.outboxes[usize::from(home)].push(ToLoop::Group { change, reply });
        }
        true
    }

    /// Tells the groups of a session whether its client is connected.
    pub(super) fn set_online(&mut self, session: u32, online: bool, turn: &Turn<'_>) {
        let subscriber = self.subscriber(session);
        self.tree.set_online(subscriber, online);
        let Some(flow) = self.sessions.get(session).and_then(|known| known.flow.as_ref()).filter(|flow| !flow.shared.is_empty())
        else {
            return;
        };
        for home in self.homes(flow) {
            self.tell(home, ToLoop::Group { change: Change::Online { subscriber, online }, reply: None }, turn);
        }
    }
}

fn options(subscription: &Subscription<'_>, qos: midge_mqtt::QoS, identifier: Option<SubscriptionId>) -> SubscriptionOptions {
    let mut options = SubscriptionOptions::new(qos);
    if subscription.no_local {
        options = options.with_no_local();
    }
    if subscription.retain_as_published {
        options = options.with_retain_as_published();
    }
    identifier.map_or(options, |identifier| options.with_identifier(identifier))
}
