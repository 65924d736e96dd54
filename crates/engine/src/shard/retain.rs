//! Retained messages: kept by every loop, delivered to new subscriptions.

use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::deliver::Addressed;
use super::publish::delivered_qos;
use super::route::is_of_server;
use crate::exchange::{Kept, kept_bytes};
use crate::hash::HashedTopic;
use crate::memory::Share;
use crate::message::{Message, Shared};
use crate::permission::Turn;
use crate::record::Record;
use crate::retained;
use crate::tree::SubscriptionOptions;

impl Shard {
    /// Keeps a message as the retained one of its topic, or clears that by an empty payload [MQTT-3.3.1-5] [MQTT-3.3.1-6].
    ///
    /// One that is older than what is there changes nothing. Returns the record to wait for; only the loop that the message came to emits one, where it `lasts` beyond a restart.
    pub(super) fn retain(&mut self, message: &Shared<'_>, lasts: bool, turn: &Turn<'_>) -> u64 {
        let view = message.view();
        let now = turn.monotonic();
        let old = self.retained.find(view.topic, now);
        if old.is_some_and(|kept| kept.value.stamp >= view.stamp) {
            return 0;
        }
        let old_bytes = old.map(|kept| kept.bytes);
        let clears = view.payload.is_empty();
        let (stamp, mut content) = (view.stamp, (!clears).then(|| message.message()));
        if clears && self.place.loops == 1 {
            self.retained.clear(view.topic, now);
        } else {
            let bytes = content.as_ref().map_or(0, |content| kept_bytes(content, view.topic));
            // That a topic was cleared is remembered until no older message can come from another loop.
            let expires = if clears { Some(now + self.settings.tombstone) } else { view.expires };
            let kept = retained::Message { value: Kept { stamp, message: content.clone() }, bytes, expires };
            // What the server says of itself is little, and worth most where something is short.
            let grows = !clears && old_bytes.is_none_or(|old| bytes > old) && !is_of_server(view.topic);
            let short = grows && !self.memory.has(Share::Keep);
            self.counters.dropped_memory += u64::from(short && lasts);
            if short || self.retained.set(view.topic, kept, now).is_err() {
                // What there is no room for still replaces what was there: nothing is better than what is no longer true.
                let replaced = self.retained.clear(view.topic, now).is_some();
                content = None;
                if !replaced && !clears {
                    return 0;
                }
            }
        }
        if !lasts {
            return 0;
        }
        let seconds = view.remaining(now).map(u64::from);
        let expires = seconds.map(|seconds| turn.now.unix.saturating_add(seconds));
        let topic = view.topic.as_str().into();
        self.emitter.emit(Record::Retained { topic, stamp, message: content, expires })
    }

    /// Keeps a retained message from before a restart.
    pub(super) fn restore_retained(&mut self, message: &Arc<Message>, stamp: u64, expires: Option<Duration>, now: Duration) {
        self.stamps.saw(stamp);
        message.charge(&mut self.memory);
        let topic = message.view().topic;
        let kept = Kept { stamp, message: Some(Arc::clone(message)) };
        let kept = retained::Message { value: kept, bytes: kept_bytes(message, topic), expires };
        // At a bound that was lowered meanwhile, what comes last is left out, and counted by the store.
        let _ = self.retained.set(topic, kept, now);
    }

    /// Delivers a retained message because of a new subscription, with RETAIN set (section 3.3.1.3; 3.1.1 [MQTT-3.3.1-8]).
    pub(super) fn deliver_retained(&mut self, session: u32, options: SubscriptionOptions, message: &Arc<Message>, turn: &Turn<'_>) {
        let own = || self.sessions.get(session).is_some_and(|known| self.key.text(&known.client_id) == message.publisher());
        if options.no_local() && own() {
            return; // [MQTT-3.8.3-3]
        }
        let message = Shared::of(message);
        let key = self.key.clone();
        let topic = HashedTopic::new(&key, message.view().topic);
        let mut routing = self.routing(&message, &topic, false, turn);
        let identifier = options.identifier();
        let to = Addressed {
            session,
            qos: delivered_qos(message.view().qos, options.qos()),
            retain: true,
            identifiers: identifier.as_slice(),
            shared: None,
            patient: true,
        };
        self.deliver(&to, &mut routing, turn);
        self.finish(routing);
    }
}
