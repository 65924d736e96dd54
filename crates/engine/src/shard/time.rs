//! What happens because time passes.

use std::time::Duration;

use midge_mqtt::ReasonCode;

use super::Shard;
use super::subscribe::SUBSCRIPTION;
use crate::permission::Turn;
use crate::session::Pending;

/// Expired retained messages that are dropped in one call.
const EXPIRED_AT_ONCE: usize = 256;

/// Sessions that get their next retained messages in one call: about a millisecond, however many wait.
const WALKS_AT_ONCE: usize = 64;

/// What a session takes with its client identifier, in bytes.
pub(super) const SESSION: usize = 256;

/// What a connection takes with its socket, in bytes.
pub(super) const CONNECTION: usize = 384;

/// What a timer is for; generations tell what it was set for from what is there now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    KeepAlive { connection: u32, generation: u32 },
    Will { session: u32, generation: u32 },
    Expiry { session: u32, generation: u32 },
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Shard {
    /// Goes on with what takes time: deadlines, retained messages for new subscriptions, pushes to many, some at each call.
    ///
    /// To be called once in each turn of the loop. The first call after [`Shard::restore`] passes on what sessions left behind that had ended.
    pub fn advance(&mut self, turn: &Turn<'_>) {
        self.take_stock();
        self.end_subscriptions();
        if !self.leftovers.is_empty() {
            self.pass_on_leftovers(turn);
        }
        self.go_on_pushing(turn);
        let now = turn.monotonic();
        let mut fired = std::mem::take(&mut self.scratch.fired);
        self.timers.advance(now, &mut fired);
        for timer in fired.drain(..) {
            self.fire(timer, turn);
        }
        self.scratch.fired = fired;
        self.retained.expire(now, EXPIRED_AT_ONCE);
        for _ in 0..self.walking.len().min(WALKS_AT_ONCE) {
            let Some(slot) = self.walking.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(slot).filter(|connection| connection.walking) else { continue };
            connection.walking = false;
            let session = connection.session;
            self.walk(session, turn);
        }
    }

    /// Says what this loop holds of the memory of all, and looks what the others do.
    ///
    /// To be called at the beginning of a turn, as a loop that slept knows nothing of those that didn't; [`Self::advance`] does it too.
    pub fn take_stock(&mut self) {
        let held = self.held();
        self.memory.begin_turn(held);
    }

    /// Returns about how much memory there is in use beside messages and buffers, in bytes.
    fn held(&self) -> usize {
        /// A retained message beside its topic, for each loop.
        const RETAINED: usize = 144;
        let (tree, retained) = (self.tree.counters(), self.retained.counters());
        let sessions = self.sessions.len() * SESSION + self.counters.connections * CONNECTION;
        let queued = self.counters.queued_messages * size_of::<Pending>();
        let subscriptions = tree.subscriptions * SUBSCRIPTION + tree.filter_bytes;
        sessions + queued + subscriptions + retained.messages * RETAINED + retained.topic_bytes
    }

    /// Returns when [`Shard::advance`] is to be called at the latest, on the monotonic clock; `None` where only an input can change anything.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if !self.walking.is_empty() || !self.leftovers.is_empty() || !self.ending.is_empty() || self.pushing.is_due() {
            return Some(Duration::ZERO);
        }
        [self.timers.next(), self.retained.next_expiry()].into_iter().flatten().min()
    }

    fn fire(&mut self, timer: Timer, turn: &Turn<'_>) {
        match timer {
            Timer::KeepAlive { connection: slot, generation } => {
                let most = self.settings.receive_maximum;
                let known = self.connections.get_mut(slot).filter(|known| known.generation == generation);
                let known = known.map(|known| {
                    // Who isn't listened to, as its acknowledgements wait for the journal, can't be found silent.
                    if known.owed() >= most.into() {
                        known.heard = millis(turn.monotonic());
                    }
                    &*known
                });
                let Some(deadline) = known.and_then(super::Connection::deadline) else { return };
                if deadline > turn.monotonic() {
                    return self.timers.insert(deadline, turn.monotonic(), timer);
                }
                if self.session_of(slot) != super::NONE {
                    self.counters.keep_alive_timeouts += 1;
                    self.close(slot, Some(ReasonCode::KeepAliveTimeout), turn); // [MQTT-3.1.2-22]
                }
            }
            Timer::Will { session, generation } => {
                if self.sessions.get(session).is_some_and(|known| known.generation == generation && !known.is_online()) {
                    self.publish_will(session, turn);
                }
            }
            Timer::Expiry { session, generation } => {
                if self.sessions.get(session).is_some_and(|known| known.generation == generation && !known.is_online()) {
                    self.counters.expired_sessions += 1;
                    self.end_session(session, turn);
                }
            }
        }
    }
}
