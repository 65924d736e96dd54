//! Who gets a message: sessions, other loops, one of each group.

use std::sync::Arc;

use midge_core::push::Audience;
use midge_core::topic::TopicName;
use midge_mqtt::{QoS, SubscriptionId};

use super::commit::{Awaiting, Then};
use super::deliver::Addressed;
use super::publish::delivered_qos;
use super::{Shard, client};
use crate::exchange::{Reach, ReplyTo, ToLoop};
use crate::frame::Forms;
use crate::hash::HashedTopic;
use crate::message::{Message, Publication, Shared};
use crate::permission::Turn;
use crate::record::MessageKey;
use crate::tree::{GroupRef, Pick, SubscriberId, SubscriptionOptions};

/// Members of a shared subscription that may refuse a message before it is given up.
const MAX_ATTEMPTS: u8 = 8;

/// One message while it is handed round.
#[derive(Debug)]
pub(super) struct Routing<'a, 'm> {
    pub(super) message: &'m Shared<'a>,
    pub(super) topic_hash: u64,
    /// The message expiry interval to forward.
    pub(super) remaining: Option<u32>,
    /// Seconds since 1970, for records.
    pub(super) unix: u64,
    pub(super) forms: Box<Forms>,
    /// Under which records name the message, once one does.
    pub(super) key: Option<MessageKey>,
    /// The last record that was emitted for it.
    pub(super) after: u64,
    pub(super) awaiting: Awaiting,
    pub(super) deliveries: usize,
    pub(super) queued: usize,
    /// Deliveries that another loop makes, and counts as well.
    elsewhere: usize,
    /// Whether the publisher is a subscriber itself, without wanting its own messages.
    left_out: bool,
}

/// What is left of a routing at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handed {
    pub(super) after: u64,
    awaiting: Awaiting,
    deliveries: usize,
    queued: usize,
    left_out: bool,
    /// Whom it reached on this loop.
    pub(super) reach: Reach,
}

/// Where a message went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Routed {
    pub(super) deliveries: usize,
    pub(super) queued: usize,
    pub(super) other_loops: usize,
    /// Whether anybody may have a subscription to it, be it one that leaves this message out.
    pub(super) matched: bool,
    pub(super) after: u64,
    pub(super) ticket: u64,
}

impl Shard {
    /// Passes a message on to everybody who is to get it.
    ///
    /// `then` happens once all loops that got it have it safe, where `wants_reply`.
    pub(super) fn route(
        &mut self,
        mut publication: Publication<'_>,
        publisher: Option<u32>,
        wants_reply: bool,
        then: Then,
        turn: &Turn<'_>,
    ) -> Routed {
        publication.retain &= self.settings.retain;
        publication.stamp = if publication.retain { self.stamps.next() } else { 0 };
        let key = self.key.clone();
        // Only a retained message meets subscriptions of a time when nobody knows any more whose it was.
        let client = publisher.filter(|_| publication.retain).and_then(|session| self.sessions.get(session));
        let message = Shared::new(publication, client.map_or(0, |session| key.text(&session.client_id)));
        let topic = HashedTopic::new(&key, publication.topic);
        let mut routing = self.routing(&message, &topic, wants_reply, turn);
        if publication.retain {
            // What the server says of itself it says anew after a restart: each change on disk would only wear it.
            let lasts = publisher.is_some() || matches!(then, Then::Pushed(..)) || !is_of_server(publication.topic);
            routing.after = self.retain(&message, lasts, turn);
        }
        let mut other_loops = 0;
        for event_loop in 0..self.place.loops {
            let may_match = || self.summaries.get(usize::from(event_loop)).is_none_or(|summary| summary.may_match(&topic));
            let other = event_loop != self.place.event_loop;
            let may_match = other && may_match();
            if other && (publication.retain || may_match) {
                other_loops += usize::from(may_match);
                let reply = routing.awaiting.ask();
                let message = message.message();
                self.outboxes[usize::from(event_loop)].push(match reply {
                    // Behind the pushes that are still being handed round there.
                    Some(reply) if matches!(then, Then::Pushed(..)) => {
                        ToLoop::Push { message, audience: Arc::new(Audience::Subscribers), reply }
                    }
                    reply => ToLoop::Publish { message, reply },
                });
            }
        }
        self.route_here(&topic, publisher, &mut routing, turn);
        let Handed { after, awaiting, deliveries, queued, left_out, reach } = self.finish(routing);
        let then = if let Then::Pushed(token, _) = then { Then::Pushed(token, reach) } else { then };
        let ticket = self.settle(awaiting, after, then, turn);
        let matched = deliveries > 0 || other_loops > 0 || left_out;
        Routed { deliveries, queued, other_loops, matched, after, ticket }
    }

    /// Takes a message that another loop routed here.
    pub(super) fn route_from(&mut self, message: &Arc<Message>, reply: Option<ReplyTo>, turn: &Turn<'_>) {
        let message = Shared::of(message);
        self.stamps.saw(message.view().stamp);
        if message.view().retain {
            self.retain(&message, false, turn);
        }
        let key = self.key.clone();
        let topic = HashedTopic::new(&key, message.view().topic);
        let mut routing = self.routing(&message, &topic, reply.is_some(), turn);
        self.route_here(&topic, None, &mut routing, turn);
        let Handed { after, awaiting, deliveries, reach, .. } = self.finish(routing);
        if deliveries > 0 {
            turn.permissions.delivered(message.view().topic, deliveries);
        }
        if let Some(reply) = reply {
            self.settle(awaiting, after, Then::Reply(reply, reach), turn);
        }
    }

    pub(super) fn routing<'a, 'm>(
        &mut self,
        message: &'m Shared<'a>,
        topic: &HashedTopic<'_>,
        wants_reply: bool,
        turn: &Turn<'_>,
    ) -> Routing<'a, 'm> {
        let mut forms = self.scratch.forms.take().unwrap_or_default();
        forms.reset(true);
        Routing {
            message,
            topic_hash: topic.text(),
            remaining: message.view().remaining(turn.monotonic()),
            unix: turn.now.unix,
            forms,
            key: None,
            after: 0,
            awaiting: self.awaiting(wants_reply),
            deliveries: 0,
            queued: 0,
            elsewhere: 0,
            left_out: false,
        }
    }

    /// Gives the buffers of a routing back.
    pub(super) fn finish(&mut self, routing: Routing<'_, '_>) -> Handed {
        let Routing { message, forms, after, awaiting, deliveries, queued, elsewhere, left_out, .. } = routing;
        if let Some(message) = message.stored() {
            message.charge(&mut self.memory);
        }
        self.scratch.forms = Some(forms);
        let reach = Reach { delivered: deliveries.saturating_sub(queued + elsewhere), queued };
        Handed { after, awaiting, deliveries, queued, left_out, reach }
    }

    /// Delivers to the sessions of this loop, and to one member of each group that is at home here.
    fn route_here(&mut self, topic: &HashedTopic<'_>, publisher: Option<u32>, routing: &mut Routing<'_, '_>, turn: &Turn<'_>) {
        let published = routing.message.view().qos;
        let mut matches = std::mem::take(&mut self.scratch.matches);
        let mut picks = std::mem::take(&mut self.scratch.picks);
        let publisher = publisher.map(|session| self.subscriber(session));
        let mut unpicked = 0;
        matches.collect(&self.tree, topic, publisher, |group| match self.pick(group, published, routing, turn) {
            Some(member) => picks.push((member, Arc::clone(group.path()))),
            None => unpicked += 1,
        });
        self.counters.dropped_shared += unpicked;
        routing.left_out = matches.left_out();
        routing.forms.set_single(matches.len() + picks.len() == 1);
        // What is delivered is worth its cost; what only has to be brought together is not.
        let (before, matched) = (routing.deliveries, matches.len());
        let mut identifiers = std::mem::take(&mut self.scratch.identifiers);
        for delivery in matches.deliveries() {
            identifiers.clear();
            identifiers.extend(delivery.identifiers());
            let to = Addressed {
                session: delivery.subscriber().slot(),
                qos: delivered_qos(published, delivery.qos()),
                retain: routing.message.view().retain && delivery.retain_as_published(), // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
                identifiers: &identifiers,
                shared: None,
                patient: false,
            };
            self.deliver(&to, routing, turn);
        }
        let delivered = routing.deliveries - before;
        self.work += (matched.saturating_sub(delivered) + delivered / 4) as u64;
        self.scratch.identifiers = identifiers;
        self.scratch.matches = matches;
        for (member, path) in picks.drain(..) {
            self.deliver_to_member(member.subscriber, member.options, &path, 0, routing, turn);
        }
        self.scratch.picks = picks;
    }

    /// Picks the member of a group that gets a message: one that can take it now, if there is one.
    fn pick(
        &self,
        group: GroupRef<'_>,
        published: QoS,
        routing: &Routing<'_, '_>,
        turn: &Turn<'_>,
    ) -> Option<crate::tree::Subscription> {
        let topic = routing.message.view().topic;
        group.pick(Pick::RoundRobin, |member| {
            if member.subscriber.event_loop() != self.place.event_loop {
                return true;
            }
            let Some(client) = client(&self.sessions, &self.connections, member.subscriber.slot()) else { return false };
            let takes = delivered_qos(published, member.options.qos()) > QoS::AtMostOnce || client.connection.is_some();
            takes && turn.permissions.may_receive(&client, topic)
        })
    }

    /// Delivers to a member of a group, on whichever loop it is.
    fn deliver_to_member(
        &mut self,
        member: SubscriberId,
        options: SubscriptionOptions,
        path: &Arc<str>,
        attempts: u8,
        routing: &mut Routing<'_, '_>,
        turn: &Turn<'_>,
    ) {
        if member.event_loop() == self.place.event_loop {
            return self.deliver_to_own_member(member.slot(), options, path, routing, turn);
        }
        let reply = routing.awaiting.ask();
        let (message, shared) = (routing.message.message(), Arc::clone(path));
        routing.deliveries += 1;
        routing.elsewhere += 1;
        let told = ToLoop::Deliver { message, subscriber: member, shared, options, attempts, reply };
        self.tell(member.event_loop(), told, turn);
    }

    fn deliver_to_own_member(
        &mut self,
        session: u32,
        options: SubscriptionOptions,
        path: &Arc<str>,
        routing: &mut Routing<'_, '_>,
        turn: &Turn<'_>,
    ) {
        let identifiers: Option<SubscriptionId> = options.identifier();
        let view = routing.message.view();
        let to = Addressed {
            session,
            qos: delivered_qos(view.qos, options.qos()),
            retain: view.retain && options.retain_as_published(),
            identifiers: identifiers.as_slice(),
            shared: Some(path),
            patient: false,
        };
        self.deliver(&to, routing, turn);
    }

    /// Takes a message for a member here that the home of the group picked.
    pub(super) fn deliver_from(
        &mut self,
        message: &Arc<Message>,
        (subscriber, options): (SubscriberId, SubscriptionOptions),
        shared: &Arc<str>,
        attempts: u8,
        reply: Option<ReplyTo>,
        turn: &Turn<'_>,
    ) {
        let session = subscriber.slot();
        let topic = message.view().topic;
        // The session may have ended meanwhile, and another may have its slot.
        let member = self.sessions.get(session).and_then(|known| known.flow.as_ref());
        let is_member = member.is_some_and(|flow| flow.shared.contains_key(shared));
        let may = is_member && self.client(session).is_some_and(|client| turn.permissions.may_receive(&client, topic));
        if !may {
            let (message, shared, qos) = (Arc::clone(message), Arc::clone(shared), options.qos());
            if let Some(home) = self.home_of_group(&shared) {
                self.tell(home, ToLoop::Redeliver { message, shared, qos, attempts: attempts + 1, reply }, turn);
            }
            return;
        }
        let message = Shared::of(message);
        let key = self.key.clone();
        let mut routing = self.routing(&message, &HashedTopic::new(&key, topic), reply.is_some(), turn);
        self.deliver_to_own_member(session, options, shared, &mut routing, turn);
        let Handed { after, awaiting, reach, .. } = self.finish(routing);
        if let Some(reply) = reply {
            self.settle(awaiting, after, Then::Reply(reply, reach), turn);
        }
    }

    /// Finds another member of a group that is at home here.
    pub(super) fn redeliver_here(
        &mut self,
        message: &Arc<Message>,
        path: &Arc<str>,
        qos: QoS,
        attempts: u8,
        reply: Option<ReplyTo>,
        turn: &Turn<'_>,
    ) {
        let shared = Shared::of(message);
        let key = self.key.clone();
        let topic = HashedTopic::new(&key, shared.view().topic);
        let mut routing = self.routing(&shared, &topic, reply.is_some(), turn);
        let mut picked = None;
        if attempts < MAX_ATTEMPTS {
            self.tree.matches(&topic, &mut |target| {
                if let crate::tree::Target::Group(group) = target
                    && group.path() == path
                {
                    picked = self.pick(group, shared.view().qos.min(qos), &routing, turn);
                }
            });
        }
        match picked {
            Some(member) => self.deliver_to_member(member.subscriber, member.options, path, attempts, &mut routing, turn),
            None => self.counters.dropped_shared += 1,
        }
        let Handed { after, awaiting, reach, .. } = self.finish(routing);
        if let Some(reply) = reply {
            self.settle(awaiting, after, Then::Reply(reply, reach), turn);
        }
    }
}

/// Returns whether a topic is the server's own, as those that say how it is.
pub(super) fn is_of_server(topic: TopicName<'_>) -> bool {
    topic.as_str().starts_with("$SYS/")
}
