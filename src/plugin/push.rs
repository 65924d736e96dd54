//! Passes on what applications push.
//!
//! A push is published in the broker's tick, a bounded share of them in each, so that the broker's own clients don't wait.
//! To subscribers it is an ordinary message. To a user, a client, a group or all it goes client by client, subscribed or not,
//! and only to those who may receive its topic; a client that is away gets it when it is back, if its session lasts.
//!
//! **Results**: the broker doesn't say who got a message, but it asks for each whether they may. So where somebody waits for the
//! result, the permissions given for that topic and payload are counted until the message has been passed on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use midge_core::access::Access;
use midge_core::push::Audience;
use midge_core::topic::TopicName;
use midge_store::presence::Who;
use midge_store::push::{Delivery, Outcome, PushCounters, PushSettings, Pushes};
use midge_store::{StoreError, StoreUrl};

use super::Plugin;
use super::load::Load;
use super::presence::who;
use super::sessions::{Session, Sessions};
use super::waker::Waker;
use crate::abi;
use crate::border::Status;
use crate::events::AclCheck;
use crate::host::{BrokerCell, BrokerThread, Publication, begin_thread, host};
use crate::options::Settings;

/// How long one tick spends on pushes; it ends with the message that exceeds it.
const SHARE: Duration = Duration::from_millis(1);
/// How many pushes one tick takes at most.
const PER_TICK: usize = 256;
/// How many clients of one push are looked at between two looks at the clock.
const STEP: usize = 64;
/// How many results are counted at a time; further pushes wait for them.
const MAX_COUNTS: usize = 64;
/// In how many ticks a message has certainly been passed on: the broker does so between this one and the next.
const TICKS_TO_COUNT: u8 = 2;

/// What there is of pushes in one load.
#[derive(Default)]
pub(super) struct Pushing {
    reader: Option<Pushes>,
    /// Whether subscribers are this load's business: a message for them is for those of all listeners.
    first: bool,
    counting: AtomicBool,
    state: BrokerCell<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivery>,
    fans: VecDeque<Fan>,
    counts: Vec<Count>,
}

/// A push on its way to several clients.
struct Fan {
    delivery: Delivery,
    addresses: Vec<usize>,
    at: usize,
    delivered: u64,
    queued: u64,
}

/// A push whose result is counted.
struct Count {
    delivery: Delivery,
    delivered: u64,
    queued: u64,
    ticks_left: u8,
}

/// A client that a push is for.
struct Target {
    who: Who,
    connected: bool,
}

impl Pushing {
    /// Starts to read pushes; the store need not be reachable.
    pub(super) fn start(settings: &Settings, url: &StoreUrl, load: &Load, waker: Arc<Waker>) -> Result<Self, StoreError> {
        let backend = midge_store::open(url, &settings.store_settings())?;
        // Each load has its own clients, and so its own place in the stream.
        let of_node = PushSettings { node: load.name(&settings.node_name()), ..settings.push_settings.clone() };
        let reader = Pushes::start_in(backend, of_node, Box::new(move || waker.call()), begin_thread)
            .map_err(|error| StoreError::Away(format!("no thread: {error}")))?;
        Ok(Self { reader: Some(reader), first: load.is_first(), ..Self::default() })
    }

    /// Returns a function that returns what has happened to pushes.
    pub(super) fn counters(&self) -> Option<impl Fn() -> PushCounters + Send + Sync + use<>> {
        self.reader.as_ref().map(Pushes::counting)
    }

    /// Returns whether permissions to receive are being counted; costs one load.
    #[inline]
    pub(super) fn is_counting(&self) -> bool {
        self.counting.load(Ordering::Relaxed)
    }
}

impl Plugin {
    /// Passes on a tick's share of pushes; returns whether there is more to be done soon.
    pub(super) fn push_some(&self, thread: &BrokerThread) -> bool {
        let Some(reader) = &self.pushing.reader else { return false };
        let mut outcomes = Vec::new();
        // Taken out: nothing is borrowed while the broker is called.
        let Some(mut state) = self.pushing.state.with(thread, std::mem::take) else { return false };
        settle(&mut state.counts, &mut outcomes);
        if reader.has_work() && state.waiting.is_empty() {
            let mut batch = Vec::new();
            reader.take(PER_TICK, &mut batch);
            state.waiting.extend(batch);
        }
        let end = self.clock.monotonic() + SHARE;
        while self.clock.monotonic() < end && self.push_next(thread, &mut state, &mut outcomes) {}
        if !outcomes.is_empty() {
            reader.done(outcomes);
        }
        self.pushing.counting.store(!state.counts.is_empty(), Ordering::Relaxed);
        let more = reader.has_work() || !(state.waiting.is_empty() && state.fans.is_empty() && state.counts.is_empty());
        self.pushing.state.with(thread, |place| *place = state);
        more
    }

    /// Goes one step further; returns whether there is another.
    fn push_next(&self, thread: &BrokerThread, state: &mut State, outcomes: &mut Vec<Outcome>) -> bool {
        if let Some(fan) = state.fans.front_mut() {
            if self.fan_out(thread, fan) {
                outcomes.extend(state.fans.pop_front().map(|fan| fan.outcome()));
            }
            return true;
        }
        if state.counts.len() >= MAX_COUNTS {
            return false;
        }
        let Some(delivery) = state.waiting.pop_front() else { return false };
        match &delivery.push.audience {
            Audience::Subscribers if !self.pushing.first => outcomes.push(outcome(&delivery, 0, 0)),
            Audience::Subscribers => {
                let mut copies = 0;
                if publish(thread, &delivery, None) {
                    self.hot.pushed(thread, &delivery.push.topic, delivery.push.payload.len(), 0);
                    if delivery.push.retain {
                        // No event tells of what we publish.
                        let push = &delivery.push;
                        self.note_retained(thread, &push.topic, &push.payload, push.qos, self.clock.monotonic());
                    }
                    // Nor does one tell us to copy it.
                    copies = self.copy(thread, &delivery.push.topic, &delivery.push.payload, delivery.push.qos, None);
                }
                if delivery.push.wants_result {
                    state.counts.push(Count { delivery, delivered: copies, queued: 0, ticks_left: TICKS_TO_COUNT });
                } else {
                    outcomes.push(outcome(&delivery, copies, 0));
                }
            }
            _ => {
                let addresses = self.sessions.with(thread, |sessions| addresses(sessions, &delivery.push.audience));
                state.fans.push_back(Fan { delivery, addresses: addresses.unwrap_or_default(), at: 0, delivered: 0, queued: 0 });
            }
        }
        true
    }

    /// Sends a push to the next clients that it is for; returns whether these were the last.
    fn fan_out(&self, thread: &BrokerThread, fan: &mut Fan) -> bool {
        let step: Vec<usize> = fan.addresses.iter().skip(fan.at).take(STEP).copied().collect();
        let targets = self.sessions.with(thread, |sessions| {
            let session = |address: &usize| sessions.session_at(*address);
            step.iter().filter_map(session).filter_map(|session| target(session, &fan.delivery)).collect::<Vec<_>>()
        });
        for target in targets.unwrap_or_default() {
            if publish(thread, &fan.delivery, Some(target.who.client.as_str())) {
                *if target.connected { &mut fan.delivered } else { &mut fan.queued } += 1;
                // The broker doesn't ask whether a client may receive what is published to it by name.
                if !target.connected && self.presenting.wants_missed() {
                    let push = &fan.delivery.push;
                    self.presenting.put_aside(thread, target.who, &push.topic, &push.payload, push.qos);
                }
            }
        }
        fan.at += step.len();
        if fan.at < fan.addresses.len() {
            return false;
        }
        // A session from before the start is known to the broker alone, which asks whether it may when it is back.
        if let Audience::Client(id) = &fan.delivery.push.audience
            && fan.addresses.is_empty()
            && Load::is_only()
            && host().awaits(thread, id.as_str())
            && publish(thread, &fan.delivery, Some(id.as_str()))
        {
            fan.queued += 1;
        }
        if fan.delivered + fan.queued > 0 {
            self.hot.pushed(thread, &fan.delivery.push.topic, fan.delivery.push.payload.len(), fan.delivered);
        }
        true
    }

    /// Counts a permission to receive a push whose result somebody waits for.
    #[cold]
    pub(super) fn count_delivery(&self, thread: &BrokerThread, check: &AclCheck<'_>, status: Status) {
        if u32::try_from(check.access) != Ok(abi::MIDGE_ACL_READ) || status != Status::SUCCESS {
            return;
        }
        let address = check.client.handle();
        let connected = self.sessions.with(thread, |sessions| sessions.session_at(address).is_some_and(Session::is_connected));
        self.pushing.state.with(thread, |state| {
            let is_it = |count: &&mut Count| {
                count.delivery.push.topic.as_bytes() == check.topic && count.delivery.push.payload == check.payload
            };
            if let Some(count) = state.counts.iter_mut().find(is_it) {
                *if connected == Some(true) { &mut count.delivered } else { &mut count.queued } += 1;
            }
        });
    }
}

impl Fan {
    fn outcome(&self) -> Outcome {
        outcome(&self.delivery, self.delivered, self.queued)
    }
}

/// Ends the counts of messages that have been passed on by now.
fn settle(counts: &mut Vec<Count>, outcomes: &mut Vec<Outcome>) {
    counts.retain_mut(|count| {
        count.ticks_left = count.ticks_left.saturating_sub(1);
        if count.ticks_left == 0 {
            outcomes.push(outcome(&count.delivery, count.delivered, count.queued));
        }
        count.ticks_left > 0
    });
}

fn outcome(delivery: &Delivery, delivered: u64, queued: u64) -> Outcome {
    Outcome { entry: delivery.entry, wanted: delivery.push.wants_result, delivered, queued }
}

/// Returns where the clients of an audience are, and perhaps some others.
fn addresses(sessions: &mut Sessions, audience: &Audience) -> Vec<usize> {
    match audience {
        Audience::Subscribers => Vec::new(),
        Audience::User(name) => sessions.of_user(name.as_str()),
        Audience::Client(id) => sessions.of_client(id.as_str()).into_iter().collect(),
        Audience::Group(_) | Audience::All => sessions.all(),
    }
}

/// Returns the client of a session, if a push is for it and it may receive it.
fn target(session: &Session, delivery: &Delivery) -> Option<Target> {
    let (policy, push) = (session.policy(), &delivery.push);
    let meant = match &push.audience {
        Audience::Subscribers => false,
        Audience::User(name) => policy.user() == Some(name),
        Audience::Client(id) => policy.client() == id,
        Audience::Group(group) => policy.slot().is_member_of(group),
        Audience::All => true,
    };
    let connected = session.is_connected();
    // The broker keeps nothing of QoS 0 for who is away.
    let reachable = connected || (session.is_awaited() && push.qos > 0);
    let topic = TopicName::new(&push.topic).ok()?;
    (meant && reachable && policy.may(Access::Receive, topic).allowed).then(|| Target { who: who(policy), connected })
}

fn publish(thread: &BrokerThread, delivery: &Delivery, client: Option<&str>) -> bool {
    let push = &delivery.push;
    host().publish(
        thread,
        &Publication {
            client,
            topic: &push.topic,
            payload: &push.payload,
            qos: push.qos,
            retain: push.retain,
            expiry: delivery.expiry,
        },
    )
}
