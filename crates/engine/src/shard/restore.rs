//! Begins where a crash or a stop ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use midge_mqtt::QoS;

use super::commit::Then;
use super::{NONE, Shard, deadline};
use crate::exchange::home_of_client;
use crate::message::Message;
use crate::permission::Turn;
use crate::record::{MessageKey, Order, QueuedState, SessionKey, SessionState, State, WillRecord};
use crate::session::{Flow, Identifiers, NEVER, Pending, Session};
use crate::tree::SubscriptionFilter;

/// A message of a session that ended, for another member of its group.
#[derive(Debug)]
pub(super) struct Leftover {
    session: SessionKey,
    order: Order,
    message: Arc<Message>,
    shared: Arc<str>,
    qos: QoS,
}

impl Shard {
    /// Takes over its part of what survived: the sessions that belong to this loop, and all retained messages.
    ///
    /// Every loop is given the whole state, before it has any connection. Then the loops exchange what they have to tell each other, and only then [`Shard::advance`] is called: it passes on what ended sessions left behind.
    /// The records of the state stay in force: nothing of it is emitted again.
    pub fn restore(&mut self, state: &State, turn: &Turn<'_>) {
        self.emitter.skip_keys(state.last_session.0.max(state.last_message.0));
        let mut messages = Messages { state, made: BTreeMap::new(), turn };
        let now = turn.monotonic();
        self.stamps.saw(state.last_stamp);
        for kept in state.retained.values() {
            let expires = messages.expires(kept.expires);
            if let Some(message) = &kept.message {
                let message = messages.adjust(message, expires);
                self.restore_retained(&message, kept.stamp, expires, now);
            }
        }
        for (&key, session) in &state.sessions {
            if session.ended {
                self.restore_leftovers(key, session, &mut messages);
            } else if home_of_client(&self.key, &session.client_id, self.place.loops) == self.place.event_loop {
                self.restore_session(key, session, &mut messages, turn);
            }
        }
    }

    fn restore_leftovers(&mut self, session: SessionKey, state: &SessionState, messages: &mut Messages<'_>) {
        for (&order, queued) in &state.queue {
            let Some(shared) = queued.shared.clone() else { continue };
            if self.home_of_group(&shared) != Some(self.place.event_loop) {
                continue;
            }
            let Some(message) = queued.message.and_then(|key| messages.find(key)) else { continue };
            self.leftovers.push(Leftover { session, order, message, shared, qos: queued.qos });
        }
    }

    fn restore_session(&mut self, key: SessionKey, state: &SessionState, messages: &mut Messages<'_>, turn: &Turn<'_>) {
        let generation = self.next_generation();
        let mut flow = Box::new(Flow { last_order: state.queue.keys().next_back().copied().unwrap_or(0), ..Flow::default() });
        for (&order, queued) in &state.queue {
            let pending = queued.message.and_then(|key| messages.find(key)).map(|message| pending(order, queued, message));
            pending.iter().for_each(|pending| pending.message.charge(&mut self.memory));
            match (queued.packet_id, pending) {
                (Some(id), pending) => flow.inflight.restore(id, order, pending),
                (None, Some(pending)) => flow.queue.restore(pending),
                (None, None) => {}
            }
        }
        flow.received.extend(state.received.iter().map(|&id| (id, super::Wait::default())));
        self.counters.queued_messages += flow.queue.len();
        self.counters.queued_bytes += flow.queue.bytes();
        let slot = self.sessions.insert(Session {
            client_id: state.client_id.clone(),
            username: state.username.clone(),
            key: Some(key),
            will: state.will.as_deref().cloned().map(|will: WillRecord| Box::new(will)),
            flow: Some(flow),
            connection: NONE,
            expiry: state.expiry,
            generation,
        });
        self.names.insert(self.key.text(&state.client_id), slot);
        let subscriber = self.subscriber(slot);
        let mut awaiting = self.awaiting(false);
        for (text, &options) in &state.subscriptions {
            let Ok(filter) = SubscriptionFilter::new(text) else { continue };
            if filter.share_name().is_some() {
                self.join_group(slot, text, filter, options, &mut awaiting);
            } else {
                self.tree.subscribe(filter, subscriber, options);
            }
        }
        self.set_online(slot, false, turn);
        if state.expiry == 0 {
            // It would have ended with its connection, which is gone.
            return self.end_session(slot, turn);
        }
        let since = state.offline_since.map_or(0, |since| turn.now.unix.saturating_sub(since));
        // What is left of the interval: a wheel knows no time before now.
        let left =
            if state.expiry == NEVER { NEVER } else { u32::try_from(u64::from(state.expiry).saturating_sub(since)).unwrap_or(0) };
        self.wait_for_client(slot, left, Duration::ZERO, turn);
    }

    /// Finds new members for what ended sessions left behind.
    pub(super) fn pass_on_leftovers(&mut self, turn: &Turn<'_>) {
        for leftover in std::mem::take(&mut self.leftovers) {
            let then = Then::Done(leftover.session, leftover.order);
            self.redeliver(leftover.message, &leftover.shared, leftover.qos, Some(then), turn);
        }
    }
}

fn pending(order: Order, queued: &QueuedState, message: Arc<Message>) -> Pending {
    Pending {
        order,
        message,
        qos: queued.qos,
        retain: queued.retain,
        identifiers: Identifiers::new(&queued.identifiers),
        shared: queued.shared.clone(),
    }
}

/// The messages of a state, each made once, with expiries on the clock of this run.
struct Messages<'a> {
    state: &'a State,
    made: BTreeMap<MessageKey, Arc<Message>>,
    turn: &'a Turn<'a>,
}

impl Messages<'_> {
    fn find(&mut self, key: MessageKey) -> Option<Arc<Message>> {
        if let Some(made) = self.made.get(&key) {
            return Some(Arc::clone(made));
        }
        let stored = self.state.messages.get(&key)?;
        let made = self.adjust(&stored.message, self.expires(stored.expires));
        self.made.insert(key, Arc::clone(&made));
        Some(made)
    }

    fn expires(&self, unix: Option<u64>) -> Option<Duration> {
        let left = unix?.saturating_sub(self.turn.now.unix);
        Some(deadline(self.turn.monotonic(), u32::try_from(left).unwrap_or(u32::MAX)))
    }

    fn adjust(&self, message: &Arc<Message>, expires: Option<Duration>) -> Arc<Message> {
        if message.expires() == expires {
            return Arc::clone(message);
        }
        let mut view = message.view();
        view.expires = expires;
        view.to_message()
    }
}
