//! Subscribes clients to what their lists say.
//!
//! What a client gets is decided in `midge-core` ([`midge_core::autosub`]): one plan of four lists, with nothing in it that its own
//! SUBSCRIBE would not get. Here a session is brought from what it has to what its plan says: when it connects, and from the tick
//! when a list or a rule has changed, whether the client is connected or only its session is kept.
//! What a client has subscribed to by itself is its own: it is neither made again nor taken away. What was made for it stays until
//! a list says otherwise: its UNSUBSCRIBE is refused, and where it gives up a subscription of its own the list's takes its place.
//!
//! **2.1**: real subscriptions, made in CONNECT, which comes behind CONNACK and before anything else is read. Retained messages
//! come from a [`mirror`], through [`retained`]. Where the identifier's former session has just ended, the broker may take the
//! subscription for one that the former has still, and make none: until it has forgotten that, the client gets copies ([`shadow`]).
//! **2.0**: has no such function. Each message that a client publishes is copied to the owners of matching filters ([`copies`]),
//! found by an [`index`], unless they have a subscription of their own for it.
//! **1.x**: nothing; said once at the start.
//!
//! Bounds, each an option with a counter in the node's report: `autosub_per_client` (what is beyond isn't made), `autosub_client_lists`,
//! `autosub_per_tick` (the rest waits for the next tick), `autosub_retained` and `autosub_retained_bytes` (a message without room isn't
//! kept, and not sent later), `autosub_copy_bytes` (copies without room are dropped), `autosub_absence`.
//! A broker that goes on without its store keeps what was made.
//!
//! Shown by `tests/autosub.rs`: `who_never_subscribes_gets_the_first_message_after_connack`, `a_thousand_clients_have_one_topic_each_and_one_together`,
//! `sessions_outlive_connections_at_each_quality_of_service`, `a_session_comes_back_after_its_list_has_changed`,
//! `a_change_acts_within_a_second`, `retained_messages_come_with_their_flag`, `who_subscribes_by_itself_gets_nothing_twice`,
//! `a_list_beyond_the_bound_is_cut_and_counted`, `a_store_that_is_away_takes_nothing`, `only_what_the_client_may_subscribe_to_is_made`,
//! `wills_reach_who_never_subscribed`, `mount_points_stand_before_the_filters`, `the_reader_brings_what_was_retained_before`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use midge_core::autosub::{Plan, RetainHandling, Step, Subscription, steps};
use midge_core::name::Shown;
use midge_store::node::Fact;

use super::Plugin;
use super::waker::Waker;
use crate::border::{Hooks, Status};
use crate::events::AclCheck;
use crate::host::{BrokerCell, BrokerThread, Client, Level, Subscribed, host};
use crate::options::{AutosubSettings, Mount};

mod copies;
mod index;
mod mirror;
mod reader;
mod retained;
mod shadow;

use index::Index;
use mirror::Mirror;
use reader::Reader;
use retained::{Job, Marks};
use shadow::Shadowed;

/// How many wills wait for the tick at most; further ones are not copied.
const MAX_WILLS: usize = 1_000;

/// What there is of automatic subscriptions in one load.
pub(super) struct Autosub {
    settings: AutosubSettings,
    /// Whether this broker can do anything of it, and shall.
    wanted: bool,
    /// Whether the broker makes subscriptions, rather than we copies.
    real: bool,
    reader: Option<Reader>,
    hooks: BrokerCell<Option<Hooks>>,
    state: BrokerCell<State>,
    /// Whether anybody gets copies; read for each message.
    copying: AtomicBool,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct State {
    /// Addresses of sessions to be looked at again, each once.
    due: VecDeque<usize>,
    waiting: HashSet<usize>,
    index: Index,
    mirror: Mirror,
    jobs: VecDeque<Job>,
    marks: Marks,
    wills: Vec<LastWords>,
    shadowed: Vec<Shadowed>,
    copied: Copied,
}

/// What the copies since the last pass of the broker's loop take.
#[derive(Default)]
struct Copied {
    bytes: usize,
    since: Duration,
}

/// A will that the broker is about to publish, which it tells nobody.
struct LastWords {
    topic: Box<str>,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    /// When the broker asked about it.
    at: Duration,
}

/// What has happened since the start.
#[derive(Default)]
pub(super) struct Counters {
    made: AtomicU64,
    removed: AtomicU64,
    failed: AtomicU64,
    beyond: AtomicU64,
    denied: AtomicU64,
    copies: AtomicU64,
    copies_dropped: AtomicU64,
    retained_sent: AtomicU64,
    retained_refused: AtomicU64,
    retained_held: AtomicU64,
    waiting: AtomicU64,
}

/// Why a session is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Its client has just been let in.
    Connect,
    /// A list or a rule has changed, or a subscription of its own was given up.
    Change,
}

/// A session, and what it shall have.
struct Planned {
    id: Box<str>,
    connected: bool,
    before: Vec<Subscription>,
    after: Vec<Subscription>,
    plan: Plan,
}

impl Autosub {
    /// Starts with the settings; says in the log what this broker can't do.
    pub(super) fn start(settings: AutosubSettings, level: Level, first: bool, waker: &Arc<Waker>) -> Result<Self, String> {
        if settings.enabled && level == Level::Auth {
            log::warn!(
                "this broker can't subscribe clients by itself: lists of automatic subscriptions do nothing before Mosquitto 2.0"
            );
        }
        let wanted = settings.enabled && level > Level::Auth;
        let real = level == Level::Delayed;
        if wanted && !real && matches!(settings.mount, Mount::ByPort(_)) {
            log::warn!(
                "this broker doesn't tell which port a client came through: autosub_mount_point with ports means nothing here"
            );
        }
        let reader = match (&settings.reader, wanted && first && settings.retained > 0) {
            (Some(address), true) => {
                Some(Reader::start(address.clone(), &settings, waker.clone()).map_err(|error| format!("no reader: {error}"))?)
            }
            _ => None,
        };
        let state = State { mirror: Mirror::new(settings.retained, settings.retained_bytes), ..State::default() };
        Ok(Self {
            wanted,
            real,
            reader,
            hooks: BrokerCell::default(),
            state: BrokerCell::new(state),
            copying: AtomicBool::new(false),
            counters: Arc::default(),
            settings,
        })
    }

    /// Returns whether the broker has to tell of each message.
    pub(super) fn wants_messages(&self) -> bool {
        self.wanted
    }

    /// Returns whether sessions that end leave something behind here.
    pub(super) fn has_index(&self) -> bool {
        self.wanted
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Has the sessions at these addresses looked at in the next ticks.
    pub(super) fn want(&self, thread: &BrokerThread, addresses: impl IntoIterator<Item = usize>) {
        if !self.wanted {
            return;
        }
        self.state.with(thread, |state| {
            for address in addresses {
                if state.waiting.insert(address) {
                    state.due.push_back(address);
                }
            }
        });
    }

    /// Returns what stands before the topics of the client of this identifier.
    fn mount(&self, thread: &BrokerThread, id: &str) -> String {
        match &self.settings.mount {
            Mount::None => String::new(),
            Mount::All(prefix) => prefix.clone(),
            Mount::ByPort(ports) => {
                let port = host().port_of(thread, id);
                ports.iter().find(|(of, _)| Some(*of) == port).map(|(_, prefix)| prefix.clone()).unwrap_or_default()
            }
        }
    }
}

impl Counters {
    /// Returns what there is to report.
    pub(super) fn facts(&self) -> [(&'static str, Fact); 11] {
        let count = |counter: &AtomicU64| Fact::Counter(counter.load(Ordering::Relaxed));
        let gauge = |counter: &AtomicU64| Fact::Gauge(counter.load(Ordering::Relaxed));
        [
            ("autosub_made", count(&self.made)),
            ("autosub_removed", count(&self.removed)),
            ("autosub_failed", count(&self.failed)),
            ("autosub_beyond", count(&self.beyond)),
            ("autosub_denied", count(&self.denied)),
            ("autosub_waiting", gauge(&self.waiting)),
            ("autosub_copies", count(&self.copies)),
            ("autosub_copies_dropped", count(&self.copies_dropped)),
            ("autosub_retained_held", gauge(&self.retained_held)),
            ("autosub_retained_sent", count(&self.retained_sent)),
            ("autosub_retained_refused", count(&self.retained_refused)),
        ]
    }
}

fn add(counter: &AtomicU64, more: usize) {
    // There is one writer.
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more as u64), Ordering::Relaxed);
}

impl Plugin {
    /// Takes over how calls are started and ended.
    pub(crate) fn attach(&self, thread: &BrokerThread, hooks: Hooks) {
        self.autosub.hooks.with(thread, |place| *place = Some(hooks));
    }

    /// Ends the calls that were started meanwhile.
    pub(crate) fn detach(&self, thread: &BrokerThread) {
        self.leave_deliveries(thread);
    }

    /// Makes the subscriptions of a client that has just been let in; to be called once the broker has it under its identifier.
    pub(super) fn subscribe_newcomer(&self, thread: &BrokerThread, client: Client<'_>) {
        if !self.autosub.wanted {
            return;
        }
        // The session that we remember may have ended unsaid.
        if self.autosub.real && client.has_no_subscription() {
            self.sessions.with(thread, |sessions| {
                if let Some(session) = sessions.session_at_mut(client.handle()) {
                    session.forget_subscriptions();
                }
            });
        }
        self.subscribe(thread, client.handle(), Occasion::Connect);
    }

    /// Does a tick's share of what waits; returns whether there is more.
    pub(super) fn subscribe_some(&self, thread: &BrokerThread) -> bool {
        if !self.autosub.wanted {
            return false;
        }
        self.forget_left(thread);
        self.leave_shadow(thread);
        let mut share = self.autosub.settings.per_tick;
        while share > 0 {
            let next = self.autosub.state.with(thread, |state| {
                let address = state.due.pop_front()?;
                state.waiting.remove(&address);
                Some(address)
            });
            let Some(Some(address)) = next else { break };
            share = share.saturating_sub(1 + self.subscribe(thread, address, Occasion::Change));
        }
        self.copy_wills(thread);
        let retained_wait = self.send_retained(thread);
        let waiting = self.autosub.state.with(thread, |state| {
            state.copied.bytes = 0;
            state.due.len()
        });
        self.autosub.counters.waiting.store(waiting.unwrap_or(0) as u64, Ordering::Relaxed);
        retained_wait || waiting != Some(0)
    }

    /// Brings the session at `address` to what its lists say; returns how many steps that took.
    fn subscribe(&self, thread: &BrokerThread, address: usize, occasion: Occasion) -> usize {
        let Some(planned) = self.plan(thread, address) else { return 0 };
        self.note_plan(&planned);
        if planned.before.is_empty() && planned.after.is_empty() {
            return 0;
        }
        let steps = steps(&planned.before, &planned.after);
        let made = match self.autosub.real {
            true => self.subscribe_really(thread, address, &planned, &steps, occasion),
            false => self.enter_in_index(thread, address, &planned, &steps),
        };
        log::debug!(
            "client \"{}\" has {} automatic subscriptions of {}, {} before ({occasion:?})",
            Shown(&planned.id),
            made.len(),
            planned.after.len(),
            planned.before.len()
        );
        let count = |wanted: fn(&Step<'_>) -> bool| steps.iter().filter(|step| wanted(step)).count();
        add(&self.autosub.counters.made, count(|step| matches!(step, Step::Make(_))));
        add(&self.autosub.counters.removed, count(|step| matches!(step, Step::Remove(_))));
        self.want_retained(thread, address, &planned, &made, occasion);
        let taken = if occasion == Occasion::Connect { planned.after.len() } else { steps.len() };
        self.sessions.with(thread, |sessions| {
            if let Some(session) = sessions.session_at_mut(address) {
                session.set_made(made.into_iter().map(|(one, _)| one).collect());
            }
        });
        taken
    }

    /// Returns what the session at `address` has and shall have; `None` where nobody will ever ask for it.
    fn plan(&self, thread: &BrokerThread, address: usize) -> Option<Planned> {
        let id: Box<str> = self.sessions.with(thread, |sessions| {
            let session = sessions.session_at(address)?;
            (session.is_connected() || session.is_awaited()).then(|| session.policy().client().as_str().into())
        })??;
        let mount = self.autosub.mount(thread, &id);
        self.sessions.with(thread, |sessions| {
            let session = sessions.session_at(address)?;
            let plan = session.policy().subscriptions(&self.gate, &mount, self.autosub.settings.per_client);
            let before = session.made().to_vec();
            let mut after: Vec<Subscription> =
                plan.subscriptions().iter().filter(|one| !session.holds_itself(&one.filter)).cloned().collect();
            if !plan.complete {
                // What some list may well say stays.
                let kept = before.iter().filter(|one| after.binary_search_by(|new| new.filter.cmp(&one.filter)).is_err());
                after = kept.cloned().chain(after.iter().cloned()).collect();
                after.sort_unstable_by(|one, other| one.filter.cmp(&other.filter));
            }
            Some(Planned { id, connected: session.is_connected(), before, after, plan })
        })?
    }

    fn note_plan(&self, planned: &Planned) {
        add(&self.autosub.counters.denied, planned.plan.denied);
        if planned.plan.beyond > 0 {
            add(&self.autosub.counters.beyond, planned.plan.beyond);
            if self.patience.may_log(self.clock.monotonic()) {
                log::warn!(
                    "client \"{}\" has {} automatic subscriptions more than autosub_per_client, which are not made",
                    Shown(&planned.id),
                    planned.plan.beyond
                );
            }
        }
    }

    /// Has the broker make and take subscriptions; returns those that the session has then, and which of them are new.
    fn subscribe_really(
        &self,
        thread: &BrokerThread,
        address: usize,
        planned: &Planned,
        steps: &[Step<'_>],
        occasion: Occasion,
    ) -> Vec<(Subscription, bool)> {
        if occasion == Occasion::Connect {
            self.forget_shadow(thread, address);
        }
        let mut held = host().subscriptions_of(thread, &planned.id);
        // Only where a session begins can the former one of its identifier be in the way.
        let begins = held == Some(0);
        let mut shadowed = Vec::new();
        for step in steps {
            if let Step::Remove(one) = step {
                host().unsubscribe(thread, &planned.id, &one.filter);
            }
        }
        let mut made = Vec::with_capacity(planned.after.len());
        for one in &planned.after {
            let known =
                planned.before.binary_search_by(|old| old.filter.cmp(&one.filter)).ok().and_then(|at| planned.before.get(at));
            // A client that connects may have lost what it had, with a session that ended unsaid.
            if known == Some(one) && occasion == Occasion::Change {
                made.push((one.clone(), false));
                continue;
            }
            let result = host().subscribe(thread, &planned.id, &one.filter, options_of(one));
            if begins && result != Subscribed::Failed {
                let now = host().subscriptions_of(thread, &planned.id);
                if std::mem::replace(&mut held, now) == now {
                    shadowed.push(one.filter.clone());
                }
            }
            match result {
                Subscribed::Existed if begins => made.push((one.clone(), known.is_none())),
                Subscribed::Made => made.push((one.clone(), known.is_none())),
                Subscribed::Existed => made.push((one.clone(), false)),
                Subscribed::Failed => add(&self.autosub.counters.failed, 1),
            }
        }
        if !shadowed.is_empty() {
            self.enter_shadow(thread, Shadowed::new(address, &planned.id, shadowed));
        }
        made
    }

    /// Notes what a client is no longer held in the index for.
    fn forget_left(&self, thread: &BrokerThread) {
        let left = self.sessions.with(thread, |sessions| {
            let mut left = sessions.take_left();
            // The next session at the same address may have the same.
            for (address, made) in &mut left {
                made.retain(|one| sessions.session_at(*address).is_none_or(|session| session.made_to(&one.filter).is_none()));
            }
            left
        });
        let left = left.unwrap_or_default();
        if left.is_empty() {
            return;
        }
        let empty = self.autosub.state.with(thread, |state| {
            for (address, made) in &left {
                made.iter().for_each(|one| state.index.remove(&one.filter, *address));
            }
            state.index.is_empty()
        });
        self.autosub.copying.store(empty == Some(false), Ordering::Relaxed);
    }

    /// Keeps a will, which no event tells, for the tick: this is an access check.
    #[cold]
    pub(super) fn note_will(&self, thread: &BrokerThread, check: &AclCheck<'_>) {
        if !self.autosub.wanted || (self.autosub.real && !check.retain) {
            return;
        }
        let Ok(topic) = std::str::from_utf8(check.topic) else { return };
        let words = LastWords {
            topic: topic.into(),
            payload: check.payload.to_vec(),
            qos: check.qos,
            retain: check.retain,
            at: self.clock.monotonic(),
        };
        self.autosub.state.with(thread, |state| {
            if state.wills.len() < MAX_WILLS {
                state.wills.push(words);
            } else {
                add(&self.autosub.counters.copies_dropped, 1);
            }
        });
    }

    fn copy_wills(&self, thread: &BrokerThread) {
        let wills = self.autosub.state.with(thread, |state| std::mem::take(&mut state.wills)).unwrap_or_default();
        for will in wills {
            if will.retain {
                self.note_retained(thread, &will.topic, &will.payload, will.qos, will.at);
            }
            self.copy(thread, &will.topic, &will.payload, will.qos, None);
        }
    }

    /// Lets the reader of retained messages in; `None` for anybody else.
    pub(super) fn admit_reader(&self, thread: &BrokerThread, client: Client<'_>, password: Option<&[u8]>) -> Option<Status> {
        let reader = self.autosub.reader.as_ref()?;
        let admitted = reader.is_it(client.id()?, password?);
        if admitted {
            self.greet(thread, client);
            reader.enter(client.handle());
        }
        admitted.then_some(Status::SUCCESS)
    }

    /// Returns whether the client is the reader of retained messages.
    pub(super) fn is_reader(&self, client: Client<'_>) -> bool {
        self.autosub.reader.as_ref().is_some_and(|reader| client.id().is_some_and(|id| reader.is_at(client.handle(), id)))
    }

    /// Notes that whoever was at this address has gone.
    pub(super) fn forget_reader(&self, address: usize) {
        if let Some(reader) = &self.autosub.reader {
            reader.leave(address);
        }
    }
}

/// Returns the options as the broker takes them: MQTT 5.0 section 3.8.3.1, without retain handling, which is ours.
fn options_of(one: &Subscription) -> u8 {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    one.options.qos as u8 | bit(one.options.no_local, 0x04) | bit(one.options.retain_as_published, 0x08)
}

/// Returns whether retained messages are to be sent for a subscription that a session has now.
fn wants_retained(one: &Subscription, is_new: bool, connected: bool, occasion: Occasion) -> bool {
    // A shared subscription gets none (MQTT 5.0 section 4.8.2).
    !one.filter.starts_with("$share/")
        && match one.options.retain_handling {
            RetainHandling::Never => false,
            RetainHandling::IfNew => is_new,
            // Who is away gets them when it is back.
            RetainHandling::Always => connected && (is_new || occasion == Occasion::Connect),
        }
}
