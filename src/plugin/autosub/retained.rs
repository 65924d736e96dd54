//! Sends retained messages for automatic subscriptions.
//!
//! From the tick, so that what is sent is what is retained at that moment: the broker passes it on before it reads anything else.
//! Sent by a plugin, a message loses its retain flag. 2.1 asks about each message that it sends while any of ours is on its way,
//! and there the flag is set again; one that waits in a queue for longer than a minute goes without.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use midge_core::access::Access;
use midge_core::autosub::{Qos, Subscription};
use midge_core::name::Shown;
use midge_core::topic::{TopicFilter, TopicName};

use super::mirror::{Found, Kept};
use super::{Occasion, Planned, add, wants_retained};
use crate::border::Status;
use crate::events::MessageOut;
use crate::host::{BrokerThread, Publication, host};
use crate::plugin::Plugin;

/// How many subscriptions wait for their retained messages at most; further ones get none.
const MAX_JOBS: usize = 100_000;
/// How many messages of the mirror are looked at between two looks at what is left of a tick's share.
const STEP: usize = 256;
/// How many messages of the mirror are looked at for each that a tick may send.
const LOOKS_PER_MESSAGE: usize = 16;
/// How many messages on their way are remembered at most; further ones go without the flag.
const MAX_MARKS: usize = 100_000;
/// How long a message may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

/// A subscription whose retained messages are to be sent.
pub(super) struct Job {
    address: usize,
    id: Box<str>,
    filter: Box<str>,
    qos: Qos,
    /// When it was made: what was retained later came to it as it was published.
    made: Duration,
    /// The last topic that was looked at.
    after: Option<Box<str>>,
}

/// A message on its way.
struct Mark {
    topic: Box<str>,
    payload: Arc<[u8]>,
    until: Duration,
}

/// Messages on their way, by the identifiers of their clients.
#[derive(Default)]
pub(super) struct Marks {
    by_client: HashMap<Box<str>, VecDeque<Mark>>,
    count: usize,
    /// Whether the broker calls us for each message that it sends.
    heard: bool,
    looked_at: Duration,
}

impl Plugin {
    /// Notes what a topic retains from `now` on.
    pub(in crate::plugin) fn note_retained(&self, thread: &BrokerThread, topic: &str, payload: &[u8], qos: u8, now: Duration) {
        if !self.autosub.wanted || self.autosub.settings.retained == 0 {
            return;
        }
        let noted = self.autosub.state.with(thread, |state| (state.mirror.note(topic, payload, qos, now), state.mirror.len()));
        if let Some((room, held)) = noted {
            self.note_mirror(held, usize::from(!room));
        }
    }

    fn note_mirror(&self, held: usize, refused: usize) {
        self.autosub.counters.retained_held.store(held as u64, std::sync::atomic::Ordering::Relaxed);
        add(&self.autosub.counters.retained_refused, refused);
        if refused > 0 && self.patience.may_log(self.clock.monotonic()) {
            log::warn!("{refused} retained messages have no room in the mirror, see autosub_retained and autosub_retained_bytes");
        }
    }

    /// Has retained messages sent for what a session has now.
    pub(super) fn want_retained(
        &self,
        thread: &BrokerThread,
        address: usize,
        planned: &Planned,
        made: &[(Subscription, bool)],
        occasion: Occasion,
    ) {
        if self.autosub.settings.retained == 0 {
            return;
        }
        let now = self.clock.monotonic();
        let wanted = made.iter().filter(|(one, is_new)| wants_retained(one, *is_new, planned.connected, occasion));
        let jobs = wanted.map(|(one, _)| Job {
            address,
            id: planned.id.clone(),
            filter: one.filter.clone(),
            qos: one.options.qos,
            made: now,
            after: None,
        });
        self.autosub.state.with(thread, |state| {
            let room = MAX_JOBS.saturating_sub(state.jobs.len());
            state.jobs.extend(jobs.take(room));
        });
    }

    /// Sends a tick's share of retained messages; returns whether there is more.
    pub(super) fn send_retained(&self, thread: &BrokerThread) -> bool {
        self.learn(thread);
        self.forget_marks(thread);
        let most = self.autosub.settings.per_tick;
        let (mut to_send, mut to_see) = (most, most.saturating_mul(LOOKS_PER_MESSAGE));
        while to_send > 0 && to_see > 0 {
            let next = self.autosub.state.with(thread, |state| {
                let job = state.jobs.pop_front()?;
                let found = match TopicFilter::new(&job.filter) {
                    Ok(filter) => state.mirror.find(filter, job.after.as_deref(), STEP.min(to_see).min(to_send)),
                    Err(_) => return None,
                };
                Some((job, found))
            });
            let Some(Some((mut job, found))) = next else { return false };
            let Found { messages, after, seen } = found;
            to_see = to_see.saturating_sub(seen.max(1));
            to_send = to_send.saturating_sub(self.send_some(thread, &job, messages));
            if after.is_some() {
                job.after = after;
                self.autosub.state.with(thread, |state| state.jobs.push_front(job));
            }
        }
        self.autosub.state.with(thread, |state| !state.jobs.is_empty()).unwrap_or(false)
    }

    /// Sends what the client may receive; returns how many that were.
    fn send_some(&self, thread: &BrokerThread, job: &Job, messages: Vec<(Box<str>, Kept)>) -> usize {
        let allowed = self.sessions.with(thread, |sessions| {
            let session = sessions.session_at(job.address).filter(|session| session.policy().client().as_str() == &*job.id)?;
            let reachable = |qos: u8| session.is_connected() || (session.is_awaited() && qos > 0);
            let may = |topic: &str| TopicName::new(topic).is_ok_and(|topic| session.policy().may(Access::Receive, topic).allowed);
            let qos = |kept: &Kept| kept.qos.min(job.qos as u8);
            // Its list may say otherwise by now.
            session.made_to(&job.filter)?;
            Some(
                messages
                    .into_iter()
                    .filter(|(topic, kept)| kept.noted < job.made && reachable(qos(kept)) && may(topic))
                    .collect::<Vec<_>>(),
            )
        });
        let Some(Some(allowed)) = allowed else { return 0 };
        let until = self.clock.monotonic() + ON_ITS_WAY;
        for (topic, kept) in &allowed {
            if self.autosub.real {
                self.mark(thread, &job.id, Mark { topic: topic.clone(), payload: kept.payload.clone(), until });
            }
            let client = Some(&*job.id);
            let qos = kept.qos.min(job.qos as u8);
            host().publish(thread, &Publication { client, topic, payload: &kept.payload, qos, retain: false, expiry: None });
        }
        add(&self.autosub.counters.retained_sent, allowed.len());
        allowed.len()
    }

    /// Takes over what the reader has brought.
    fn learn(&self, thread: &BrokerThread) {
        let Some(found) = self.autosub.reader.as_ref().and_then(super::Reader::take) else { return };
        let count = found.len();
        let learnt = self.autosub.state.with(thread, |state| (state.mirror.learn(found), state.mirror.len()));
        if let Some((refused, held)) = learnt {
            self.note_mirror(held, refused);
            log::info!("read {count} retained messages of the broker, and holds {held}");
        }
    }

    fn mark(&self, thread: &BrokerThread, id: &str, mark: Mark) {
        let begin = self.autosub.state.with(thread, |state| {
            let marks = &mut state.marks;
            if marks.count >= MAX_MARKS {
                return false;
            }
            marks.count += 1;
            marks.by_client.entry(id.into()).or_default().push_back(mark);
            !std::mem::replace(&mut marks.heard, true)
        });
        if begin == Some(true) {
            let heard =
                self.autosub.hooks.with(thread, |hooks| *hooks).flatten().is_some_and(|hooks| hooks.hear_deliveries(thread));
            if !heard {
                log::debug!("retained messages go without their flag to client \"{}\"", Shown(id));
                self.autosub.state.with(thread, |state| state.marks.heard = false);
            }
        }
    }

    /// Gives a message of ours the flag that it was retained with.
    pub(crate) fn message_out(&self, thread: &BrokerThread, out: &mut MessageOut<'_>) -> Status {
        let message = out.message();
        let Some(Ok(id)) = message.client.id().map(std::str::from_utf8) else { return Status::SUCCESS };
        let ours = self.autosub.state.with(thread, |state| state.marks.take(id, message.topic, message.payload));
        if ours == Some(true) {
            out.send_as_retained();
        }
        Status::SUCCESS
    }

    fn forget_marks(&self, thread: &BrokerThread) {
        let now = self.clock.monotonic();
        let end = self.autosub.state.with(thread, |state| state.marks.forget_old(now));
        if end == Some(true) {
            self.leave_deliveries(thread);
        }
    }

    /// Has the broker no longer call us for each message that it sends.
    pub(super) fn leave_deliveries(&self, thread: &BrokerThread) {
        let heard = self.autosub.state.with(thread, |state| std::mem::replace(&mut state.marks.heard, false));
        let hooks = self.autosub.hooks.with(thread, |hooks| *hooks).flatten();
        if let (Some(true), Some(hooks)) = (heard, hooks) {
            hooks.leave_deliveries(thread);
        }
    }
}

impl Marks {
    /// Returns whether this message is on its way, and forgets it.
    fn take(&mut self, id: &str, topic: &[u8], payload: &[u8]) -> bool {
        let Some(marks) = self.by_client.get_mut(id) else { return false };
        let Some(at) = marks.iter().position(|mark| mark.topic.as_bytes() == topic && *mark.payload == *payload) else {
            return false;
        };
        marks.remove(at);
        self.count -= 1;
        if marks.is_empty() {
            self.by_client.remove(id);
        }
        true
    }

    /// Forgets what has been on its way for too long; returns whether nothing is left to be heard of.
    fn forget_old(&mut self, now: Duration) -> bool {
        if !self.heard || now.saturating_sub(self.looked_at) < Duration::from_secs(1) {
            return false;
        }
        self.looked_at = now;
        self.by_client.retain(|_, marks| {
            marks.retain(|mark| mark.until > now);
            !marks.is_empty()
        });
        self.count = self.by_client.values().map(VecDeque::len).sum();
        self.count == 0
    }
}
