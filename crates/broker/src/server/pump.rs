//! Carries pushes from the store to the engine.
//!
//! One loop does it for all. A push is told to be done only when what it caused is on disk, on all loops: killed before that,
//! the server finds it in the store once more. A turn spends a bounded time on it, and so many are under way at most.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use midge_core::topic::TopicName;
use midge_engine::exchange::Reach;
use midge_engine::message::Publication;
use midge_engine::permission::Turn;
use midge_engine::shard::Shard;
use midge_mqtt::QoS;
use midge_store::Backend;
use midge_store::push::{Delivery, Outcome, PushCounters, PushSettings, Pushes};
use midge_store::service::Clock;

use super::Handle;

/// How long one turn spends on pushes; it ends with the one that exceeds it.
const SHARE: Duration = Duration::from_millis(1);
/// How many pushes are under way at a time: what one commit is for.
const UNDER_WAY: usize = 1024;

/// Where pushes come from.
#[derive(Clone)]
pub struct PushSource {
    /// The store.
    pub backend: Arc<dyn Backend>,
    /// How they are read.
    pub settings: PushSettings,
}

impl std::fmt::Debug for PushSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushSource").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl PushSource {
    /// Starts to read; the first loop is woken when there is something.
    pub(super) fn open(&self, handle: &Handle) -> std::io::Result<Arc<Pushes>> {
        let handle = handle.clone();
        let wake = Box::new(move || handle.wake(0));
        Pushes::start_in(Box::new(Arc::clone(&self.backend)), self.settings.clone(), wake, || {}).map(Arc::new)
    }
}

/// What the loop has of it.
#[derive(Debug)]
pub(super) struct Pump {
    pushes: Arc<Pushes>,
    under_way: HashMap<u64, Outcome>,
    last_token: u64,
    batch: Vec<Delivery>,
    landed: Vec<Outcome>,
}

impl Pump {
    pub(super) fn new(pushes: Arc<Pushes>) -> Self {
        Self { pushes, under_way: HashMap::new(), last_token: 0, batch: Vec::new(), landed: Vec::new() }
    }

    /// Returns whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Returns whether there is something to take, and room for it.
    pub(super) fn is_due(&self) -> bool {
        self.under_way.len() < UNDER_WAY && self.pushes.has_work()
    }

    /// Passes on a turn's share of pushes.
    pub(super) fn pass_on(&mut self, shard: &mut Shard, clock: &Clock, turn: &Turn<'_>) {
        let end = clock.now().monotonic + SHARE;
        while self.is_due() && clock.now().monotonic < end {
            // Few at a time: what is taken is passed on in this turn.
            let room = UNDER_WAY - self.under_way.len();
            self.pushes.take(room.min(16), &mut self.batch);
            for delivery in std::mem::take(&mut self.batch) {
                self.pass_on_one(delivery, shard, turn);
            }
        }
    }

    /// Learns what became of a push.
    pub(super) fn landed(&mut self, token: u64, reach: Reach) {
        if let Some(outcome) = self.under_way.remove(&token) {
            self.landed.push(Outcome { delivered: reach.delivered as u64, queued: reach.queued as u64, ..outcome });
        }
    }

    /// Tells the store what became of pushes.
    pub(super) fn tell(&mut self) {
        if !self.landed.is_empty() {
            self.pushes.done(self.landed.drain(..));
        }
    }

    fn pass_on_one(&mut self, delivery: Delivery, shard: &mut Shard, turn: &Turn<'_>) {
        let Delivery { entry, push, expiry } = delivery;
        let outcome = Outcome { entry, wanted: push.wants_result, delivered: 0, queued: 0 };
        // A push has been checked; one that can't be said all the same must not hold up the others.
        let (Ok(topic), Some(qos)) = (TopicName::new(&push.topic), QoS::new(push.qos)) else { return self.landed.push(outcome) };
        self.last_token += 1;
        self.under_way.insert(self.last_token, outcome);
        let expires = expiry.map(|seconds| turn.now.monotonic + Duration::from_secs(seconds.into()));
        let (payload, retain) = (push.payload.as_slice(), push.retain);
        let publication = Publication { topic, properties: &[], payload, qos, retain, expires, stamp: 0 };
        shard.push(self.last_token, publication, push.audience, turn);
    }
}

impl super::Server {
    /// Returns a function that returns what has happened to pushes, where they are read.
    #[must_use]
    pub fn push_counting(&self) -> Option<impl Fn() -> PushCounters + Send + Sync + use<>> {
        self.pushes.as_ref().map(|pushes| pushes.counting())
    }
}
