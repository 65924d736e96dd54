//! Counts publishes, and publishes which topics are hot.
//!
//! The broker's thread counts into memory of its own, in tens of nanoseconds; adding up, writing and ranking are another thread's work.
//! From 2.0 on a publish of a client or a bridge counts when the broker passes it on; Mosquitto 1.x tells of permissions only, and
//! counts those. A push counts on each broker that passes it on.
//! Deliveries are permissions to receive of clients that are connected, so a message that waits for its client counts when it is back.
//!
//! A QoS 2 message that a client sends again when it resumes its session is known by its topic and payload: brokers don't tell.

mod repeats;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use midge_core::hot::{Arrival, Counter, Published, Ranking};
use midge_core::topic::TopicName;
use midge_store::hot::{HotSettings, HotTopics};
use midge_store::node::Fact;
use midge_store::{StoreError, StoreUrl};

use super::Plugin;
use super::load::Load;
use crate::abi;
use crate::border::Status;
use crate::events::{AclCheck, Message};
use crate::host::{BrokerCell, BrokerThread, Level, Publication, begin_thread, host};
use crate::options::Settings;
use repeats::Repeats;

/// How often what was counted is passed on.
const COLLECT: Duration = Duration::from_secs(1);
/// Below this topic, a list is published for each window.
const TOPIC: &str = "$SYS/midge/hot/";

/// What there is of counting in one load.
#[derive(Default)]
pub(super) struct Hot {
    topics: Option<HotTopics>,
    counting: BrokerCell<Option<Counting>>,
    /// Whether lists are this load's business.
    first: bool,
    by_permission: bool,
    /// Whether the broker ticks for this load: 2.0.11 doesn't where each listener has its own plugin.
    ticks: AtomicBool,
}

struct Counting {
    counter: Counter,
    collected: Duration,
    repeats: Repeats,
}

impl Hot {
    /// Starts to count, unless it is switched off; the store need not be reachable.
    pub(super) fn start(settings: &Settings, url: &StoreUrl, load: &Load, level: Level) -> Result<Self, StoreError> {
        if !settings.hot {
            return Ok(Self::default());
        }
        let by_permission = level == Level::Auth;
        let node = load.name(&settings.node_name());
        // Without a function to publish with, lists would be made for nobody.
        let list = if by_permission || !load.is_first() { 0 } else { settings.hot_settings.list };
        let of_node = HotSettings { node, list, ..settings.hot_settings.clone() };
        let backend = match url.is_directory() {
            true => None,
            false => Some(midge_store::open(url, &settings.store_settings())?),
        };
        let topics =
            HotTopics::start_in(backend, of_node, begin_thread).map_err(|error| StoreError::Away(format!("no thread: {error}")))?;
        let counting = Counting { counter: topics.counter(), collected: Duration::ZERO, repeats: Repeats::default() };
        Ok(Self {
            topics: Some(topics),
            counting: BrokerCell::new(Some(counting)),
            first: load.is_first(),
            by_permission,
            ticks: AtomicBool::new(false),
        })
    }

    /// Returns whether the broker has to tell of messages.
    pub(super) fn wants_messages(&self) -> bool {
        self.topics.is_some() && !self.by_permission
    }

    /// Returns a function that returns what there is to report.
    pub(super) fn facts(&self) -> impl Fn() -> Vec<(&'static str, Fact)> + Send + Sync + use<> {
        let facts = self.topics.as_ref().map(HotTopics::facts);
        move || facts.as_ref().map(|facts| facts().to_vec()).unwrap_or_default()
    }

    /// Notes that the broker ticks.
    pub(super) fn ticked(&self) {
        self.ticks.store(true, Ordering::Relaxed);
    }

    /// Passes on what was counted, where a second is over.
    fn collect(&self, thread: &BrokerThread, now: Duration) {
        let Some(topics) = &self.topics else { return };
        self.counting.with(thread, |counting| {
            if let Some(counting) = counting.as_mut().filter(|counting| now.saturating_sub(counting.collected) >= COLLECT) {
                counting.collected = now;
                topics.collect(&mut counting.counter);
            }
        });
    }

    /// Counts a message of the server itself, that is a push.
    pub(super) fn pushed(&self, thread: &BrokerThread, topic: &str, bytes: usize, deliveries: u64) {
        let Ok(topic) = TopicName::new(topic) else { return };
        let publish = Published { bytes: bytes as u64, deliveries, publisher: None, arrival: Arrival::First };
        self.counting.with(thread, |counting| {
            if let Some(counting) = counting {
                counting.counter.published(topic, &publish);
            }
        });
    }

    fn published(&self, thread: &BrokerThread, message: &Message<'_>, now: Duration) {
        let Some(topics) = &self.topics else { return };
        let topic = std::str::from_utf8(message.topic).ok().and_then(|topic| TopicName::new(topic).ok());
        let (Some(topic), id) = (topic, message.client.id().unwrap_or_default()) else { return };
        let publisher = std::str::from_utf8(id).ok().map(|id| topics.seed().publisher(id));
        self.counting.with(thread, |counting| {
            let Some(counting) = counting else { return };
            let arrival = match message.qos {
                2 => counting.repeats.see(id, message, now),
                _ => Arrival::First,
            };
            let publish = Published { bytes: message.payload.len() as u64, deliveries: 0, publisher, arrival };
            counting.counter.published(topic, &publish);
        });
    }

    /// Counts deliveries of a topic.
    pub(super) fn delivered(&self, thread: &BrokerThread, topic: &[u8], deliveries: u64) {
        self.counting.with(thread, |counting| {
            let Some(counting) = counting else { return };
            if !counting.counter.delivered_of_last(topic, deliveries)
                && let Some(topic) = std::str::from_utf8(topic).ok().and_then(|topic| TopicName::new(topic).ok())
            {
                counting.counter.delivered(topic, deliveries);
            }
        });
    }

    /// Notes that a client's connection has ended.
    pub(super) fn departed(&self, thread: &BrokerThread, id: &[u8], now: Duration) {
        self.counting.with(thread, |counting| {
            if let Some(counting) = counting {
                counting.repeats.departed(id, now);
            }
        });
    }

    /// Passes on the rest, before the end.
    pub(super) fn end(&self, thread: &BrokerThread) {
        self.collect(thread, Duration::MAX);
    }
}

impl Plugin {
    /// Counts a message that a client or a bridge has published, and that goes on to subscribers.
    #[inline]
    pub(super) fn count_message(&self, thread: &BrokerThread, message: &Message<'_>) {
        let ticks = self.hot.ticks.load(Ordering::Relaxed);
        // Where the tick passes on what was counted, only a message that may come again needs the time.
        let now = if ticks && message.qos < 2 { Duration::ZERO } else { self.clock.monotonic() };
        self.hot.published(thread, message, now);
        if !ticks {
            self.hot.collect(thread, now);
        }
    }

    /// Counts what is permitted: deliveries, and where nothing else tells of them, publishes.
    ///
    /// `here` says that the client is known to be there; otherwise that is looked up.
    #[inline]
    pub(super) fn count_permission(&self, thread: &BrokerThread, check: &AclCheck<'_>, status: Status, here: bool) {
        if self.hot.topics.is_none() || status != Status::SUCCESS {
            return;
        }
        match u32::try_from(check.access) {
            Ok(abi::MIDGE_ACL_READ) => {
                let handle = check.client.handle();
                // For who is away this asks whether to keep it; it is asked again when it is sent.
                if here || self.sessions.with(thread, |sessions| sessions.is_away(handle)) != Some(true) {
                    self.hot.delivered(thread, check.topic, 1);
                }
            }
            Ok(abi::MIDGE_ACL_WRITE) if self.hot.by_permission => {
                let AclCheck { client, topic, payload, .. } = *check;
                self.hot.published(thread, &Message { client, topic, payload, qos: 0, retain: false }, Duration::ZERO);
            }
            _ => {}
        }
    }

    /// Passes on what was counted, and publishes new lists.
    pub(super) fn show_hot(&self, thread: &BrokerThread) {
        let Some(topics) = &self.hot.topics else { return };
        self.hot.collect(thread, self.clock.monotonic());
        if !self.hot.first {
            return;
        }
        for list in topics.take_lists() {
            publish(thread, &list);
        }
    }
}

fn publish(thread: &BrokerThread, list: &Ranking) {
    let (topic, payload) = (format!("{TOPIC}{}", list.window), list.to_json());
    let publication = Publication { client: None, topic: &topic, payload: payload.as_bytes(), qos: 0, retain: true, expiry: None };
    host().publish(thread, &publication);
}
