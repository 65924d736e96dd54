//! Copies messages to those whose automatic subscriptions the broker doesn't know.
//!
//! The broker sends a copy whether its client subscribes or not, and asks nobody whether it may: so that is asked here.
//! A client gets one copy of a message, however many of its lists' filters match, and none where a subscription of its own does.
//! Copies leave in the next pass of the broker's loop, in order. Without room for more in this pass they are dropped and counted.

use std::time::Duration;

use midge_core::access::Access;
use midge_core::autosub::{Step, Subscription};
use midge_core::name::ClientId;
use midge_core::topic::TopicName;

use super::index::Owners;
use super::{Copied, Planned, add};
use crate::events::Message;
use crate::host::{BrokerThread, Publication, host};
use crate::plugin::Plugin;
use crate::plugin::sessions::{Session, Sessions};

/// What a copy takes beside its topic and its payload.
const OVERHEAD: usize = 256;
/// After how long the copies of a broker that doesn't tick have certainly left.
const PASS: Duration = Duration::from_millis(500);

/// What is being copied.
struct Original<'a> {
    topic: TopicName<'a>,
    qos: u8,
    /// The address of its author.
    author: Option<usize>,
    now: Duration,
    absence: Duration,
}

impl Plugin {
    /// Notes a message that a client publishes: copies it, and keeps it if it is retained.
    pub(in crate::plugin) fn copy_message(&self, thread: &BrokerThread, message: &Message<'_>) {
        if let Ok(topic) = std::str::from_utf8(message.topic) {
            if message.retain {
                self.note_retained(thread, topic, message.payload, message.qos, self.clock.monotonic());
            }
            self.copy(thread, topic, message.payload, message.qos, Some(message.client.handle()));
        }
    }

    /// Copies a message to the owners of matching filters; returns how many copies there are.
    pub(in crate::plugin) fn copy(
        &self,
        thread: &BrokerThread,
        topic: &str,
        payload: &[u8],
        qos: u8,
        author: Option<usize>,
    ) -> u64 {
        if !self.autosub.copying.load(std::sync::atomic::Ordering::Relaxed) {
            return 0;
        }
        let Ok(name) = TopicName::new(topic) else { return 0 };
        let original = Original { topic: name, qos, author, now: self.clock.monotonic(), absence: self.autosub.settings.absence };
        let targets = self.targets(thread, &original);
        let each = payload.len() + topic.len() + OVERHEAD;
        let room = self
            .autosub
            .state
            .with(thread, |state| state.copied.take(targets.len(), each, self.autosub.settings.copy_bytes, original.now));
        let room = room.unwrap_or(0);
        add(&self.autosub.counters.copies, room);
        add(&self.autosub.counters.copies_dropped, targets.len() - room);
        self.hot.delivered(thread, topic.as_bytes(), room as u64);
        for (client, qos) in targets.iter().take(room) {
            let client = Some(client.as_str());
            host().publish(thread, &Publication { client, topic, payload, qos: *qos, retain: false, expiry: None });
        }
        room as u64
    }

    /// Returns who gets a copy, and with which quality of service.
    fn targets(&self, thread: &BrokerThread, original: &Original<'_>) -> Vec<(ClientId, u8)> {
        let found = self.autosub.state.with(thread, |state| {
            self.sessions.with(thread, |sessions| {
                let mut found: Vec<(usize, u8)> = Vec::new();
                state.index.visit(original.topic.as_str(), &mut |owners| original.find(owners, sessions, &mut found));
                // One copy each, with the highest of the qualities of service.
                found.sort_unstable_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
                found.dedup_by_key(|(address, _)| *address);
                let client = |(address, qos): (usize, u8)| Some((sessions.session_at(address)?.policy().client().clone(), qos));
                found.into_iter().filter_map(client).collect()
            })
        });
        found.flatten().unwrap_or_default()
    }

    /// Notes in the index what a session has from now on; returns it, and what of it is new.
    pub(super) fn enter_in_index(
        &self,
        thread: &BrokerThread,
        address: usize,
        planned: &Planned,
        steps: &[Step<'_>],
    ) -> Vec<(Subscription, bool)> {
        let is_new = |one: &Subscription| steps.iter().any(|step| matches!(step, Step::Make(made) if made.filter == one.filter));
        let made = self.autosub.state.with(thread, |state| {
            for step in steps {
                if let Step::Remove(one) = step {
                    state.index.remove(&one.filter, address);
                }
            }
            // All of them: a session that is resumed may have had another address.
            let (made, failed): (Vec<_>, Vec<_>) = planned.after.iter().partition(|one| state.index.insert(&one.filter, address));
            add(&self.autosub.counters.failed, failed.len());
            self.autosub.copying.store(!state.index.is_empty(), std::sync::atomic::Ordering::Relaxed);
            made
        });
        made.unwrap_or_default().into_iter().map(|one| (one.clone(), is_new(one))).collect()
    }
}

impl Original<'_> {
    /// Adds those of `owners` who get a copy.
    fn find(&self, owners: &mut Owners, sessions: &Sessions, found: &mut Vec<(usize, u8)>) {
        let filter = owners.filter();
        // An identifier that was taken over is at its new address only.
        let wanted = |address: usize| {
            let session = sessions.latest_at(address)?;
            Some((address, self.quality(address, session, filter)?))
        };
        if !owners.is_share() {
            return found.extend(owners.addresses().filter_map(wanted));
        }
        // One of a share gets it, in turn; somebody who is there rather than somebody who is away.
        let mut all: Vec<(usize, u8)> = owners.addresses().filter_map(wanted).collect();
        let there = |address: usize| sessions.session_at(address).is_some_and(Session::is_connected);
        if all.iter().any(|(address, _)| there(*address)) {
            all.retain(|(address, _)| there(*address));
        }
        all.sort_unstable();
        let turn = owners.turn() % all.len().max(1);
        found.extend(all.get(turn));
    }

    /// Returns with which quality of service the session gets a copy for `filter`; `None` where it gets none.
    fn quality(&self, address: usize, session: &Session, filter: &str) -> Option<u8> {
        let made = session.made_to(filter)?;
        let qos = self.qos.min(made.options.qos as u8);
        let reachable = match session.departed() {
            None => true,
            // The broker keeps nothing of QoS 0 for who is away.
            Some(since) => session.is_awaited() && qos > 0 && self.now.saturating_sub(since) <= self.absence,
        };
        let own = made.options.no_local && self.author == Some(address);
        let wanted = reachable && !own && !session.asks_itself_for(self.topic);
        (wanted && session.policy().may(Access::Receive, self.topic).allowed).then_some(qos)
    }
}

impl Copied {
    /// Takes room for copies of a size; returns for how many there is some.
    fn take(&mut self, copies: usize, each: usize, bound: usize, now: Duration) -> usize {
        if self.bytes == 0 || now.saturating_sub(self.since) > PASS {
            (self.bytes, self.since) = (0, now);
        }
        let room = copies.min(bound.saturating_sub(self.bytes) / each.max(1));
        self.bytes += room * each;
        room
    }
}
