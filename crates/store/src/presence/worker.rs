//! The one thread that writes who is online.
//!
//! In each turn it renews its node's lease when that is due, writes a batch of what has changed, events and messages, and goes one
//! page on with entering as gone the clients of nodes that have ended. While the store is away the differences wait in the table.
//!
//! **Emptied, or swept by others**: whenever a connection is new, a lease had ended, or the store has another number of entries
//! than it was told of, it is told of all clients again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use midge_core::denials::{Denial, DeniedAccess};
use midge_core::entry::Fields;
use midge_core::name::{NodeName, Shown};

use super::{Change, Missed, Outcome, PresenceLog, Shared, Who, unix_ms};
use crate::guarded::guarded;
use crate::limiter::Limiter;
use crate::node::{INTERVAL, LEASE};
use crate::{Backoff, StoreError};

/// How many changes one round trip carries at most.
const BATCH: usize = 128;
/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(20);
/// How long the thread sleeps at most.
const IDLE: Duration = Duration::from_millis(250);
/// How often is looked for nodes that have ended.
const LOOK: Duration = Duration::from_secs(3);
/// How often is looked for denials.
const DENIALS: Duration = Duration::from_millis(500);
/// How many denials one look takes.
const MAX_DENIALS: usize = 100;
/// How long to wait where keys are on their way between servers.
const MOVING: Duration = Duration::from_millis(200);
/// How many events may wait; beyond, the oldest are dropped.
const MAX_EVENTS: usize = 20_000;
/// How long after all was written the number of entries is believed when it differs.
const TRUST: Duration = Duration::from_secs(20);
/// How long all clients may take to be entered as gone at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long to wait where the store refuses us: an operator has to act.
const REFUSED: Duration = Duration::from_secs(30);
/// How often the same complaint is made.
const COMPLAIN: Duration = Duration::from_secs(3600);

/// The body of the thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut worker = Worker {
        shared,
        backoff: Backoff::default(),
        events: VecDeque::new(),
        denials_seen: 0,
        denials_at: None,
        begun_at: None,
        beat_at: None,
        told_all_at: None,
        looked_at: None,
        swept_itself: false,
        sweeps: VecDeque::new(),
        complaints: Limiter::new(6),
        complaint: None,
        flaws: Limiter::new(6),
        sweepings: Limiter::new(20),
    };
    while !shared.is_stopping() {
        let (problem, wait) = match guarded(|| worker.follow()) {
            Some(Ok(())) => return,
            Some(Err(error @ StoreError::Refused(_))) => (error.to_string(), REFUSED),
            Some(Err(error)) => (error.to_string(), worker.backoff.wait()),
            None => ("internal error".to_owned(), worker.backoff.wait()),
        };
        worker.complain(problem);
        shared.pause(wait);
    }
}

/// A node whose entries are removed, and the page that is next.
struct Sweep {
    node: NodeName,
    page: u64,
    removed: u64,
}

struct Worker<'a> {
    shared: &'a Shared,
    backoff: Backoff,
    /// Events that are still to be told.
    events: VecDeque<Fields>,
    denials_seen: u64,
    denials_at: Option<Instant>,
    /// When the store was reached for the first time.
    begun_at: Option<Instant>,
    beat_at: Option<Instant>,
    /// When it was last decided to tell of all clients.
    told_all_at: Option<Instant>,
    looked_at: Option<Instant>,
    /// Whether what an earlier life of this node has left was removed.
    swept_itself: bool,
    sweeps: VecDeque<Sweep>,
    complaints: Limiter,
    complaint: Option<(String, Instant)>,
    flaws: Limiter,
    sweepings: Limiter,
}

impl Worker<'_> {
    /// Returns at the end; an error says that the store can't be asked.
    fn follow(&mut self) -> Result<(), StoreError> {
        let mut log = self.shared.backend.presence()?;
        let since = Instant::now();
        // Somebody else may have the data now, or nobody.
        self.tell_all();
        self.beat_at = None;
        loop {
            self.beat(log.as_mut())?;
            if self.complaint.take().is_some() || self.begun_at.is_none() {
                log::info!("clients are shown as online in the store");
            }
            self.begun_at.get_or_insert_with(Instant::now);
            if self.shared.is_stopping() {
                return self.say_farewell(log.as_mut());
            }
            let pressed = self.write_some(log.as_mut())?;
            self.look_at_denials();
            self.tell_events(log.as_mut())?;
            self.tell_missed(log.as_mut())?;
            self.look_for_dead(log.as_mut())?;
            self.sweep_some(log.as_mut())?;
            self.backoff.held(since.elapsed());
            if !pressed && self.sweeps.is_empty() {
                self.rest();
            }
        }
    }

    /// Sleeps until there is something to do, and a little longer, so that more of it comes together.
    fn rest(&self) {
        let shared = self.shared;
        let idle = |state: &mut super::State| state.table.is_idle() && state.missed.is_empty() && !state.stopping;
        drop(shared.changed.wait_timeout_while(shared.lock(), IDLE, idle));
        shared.pause(GATHER);
    }

    /// Says what is wrong: what stays wrong, once an hour.
    fn complain(&mut self, problem: String) {
        let now = Instant::now();
        let known = self.complaint.as_ref().is_some_and(|(known, at)| *known == problem && now.duration_since(*at) < COMPLAIN);
        if !known && let Some(held_back) = self.complaints.pass(self.shared.start.elapsed()) {
            log::warn!(
                "who is online can't be written: {problem}; docs/PRESENCE.md lists the rights ({held_back} more of these not shown)"
            );
            self.complaint = Some((problem, now));
        }
    }

    fn tell_all(&mut self) {
        self.shared.lock().table.everything();
        self.told_all_at = Some(Instant::now());
    }

    /// Renews the lease, and finds out whether what was written is still there.
    fn beat(&mut self, log: &mut dyn PresenceLog) -> Result<(), StoreError> {
        if self.beat_at.is_some_and(|at| at.elapsed() < INTERVAL) {
            return Ok(());
        }
        let first = self.beat_at.is_none();
        self.beat_at = Some(Instant::now());
        let (stored, idle) = {
            let state = self.shared.lock();
            (state.table.stored() as u64, state.table.is_idle())
        };
        let beat = log.beat(&self.shared.node, stored)?;
        if first || self.shared.life.shares_its_name() {
            return Ok(());
        }
        let differs = beat.entries != stored && self.swept_itself && idle;
        let trusted = self.told_all_at.is_some_and(|at| at.elapsed() < TRUST);
        if beat.lapsed || (beat.entries == 0 && stored > 0) || (differs && !trusted) {
            log::info!("the store has {} of this node's {stored} clients online, and is told of all again", beat.entries);
            self.tell_all();
            self.swept_itself = false;
        }
        Ok(())
    }

    /// Writes a batch of changes; returns whether there are more.
    fn write_some(&mut self, log: &mut dyn PresenceLog) -> Result<bool, StoreError> {
        let changes = self.shared.lock().table.take(BATCH);
        if changes.is_empty() {
            return Ok(false);
        }
        let outcomes = match log.write(&self.shared.node, &changes, &self.shared.settings.bounds) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let mut state = self.shared.lock();
                changes.into_iter().for_each(|change| state.table.give_back(change));
                return Err(error);
            }
        };
        if outcomes.contains(&Outcome::Again) {
            self.shared.pause(MOVING);
        }
        let node = self.shared.node.clone();
        self.settle(log, &node, &changes, &outcomes);
        let mut state = self.shared.lock();
        for (change, _) in changes.into_iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Again) {
            state.table.give_back(change);
        }
        Ok(!state.table.is_idle())
    }

    /// Counts what became of changes, and queues the events that were not told with them.
    fn settle(&mut self, log: &dyn PresenceLog, node: &NodeName, changes: &[Change], outcomes: &[Outcome]) {
        for (change, outcome) in changes.iter().zip(outcomes) {
            match outcome {
                Outcome::New => {
                    self.shared.counts.written.fetch_add(1, Ordering::Relaxed);
                    if !log.tells() {
                        self.queue_event(change.event(node));
                    }
                }
                Outcome::Failed => {
                    self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
                    if let Some(held_back) = self.flaws.pass(self.shared.start.elapsed()) {
                        let user = change.who().user.as_ref().map_or("", |user| user.as_str());
                        log::warn!(
                            "whether clients of user \"{}\" are online can't be written: a key of theirs holds another type ({held_back} more of these not shown)",
                            Shown(user)
                        );
                    }
                }
                Outcome::Known | Outcome::Again => {}
            }
        }
    }

    fn queue_event(&mut self, event: Fields) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn look_at_denials(&mut self) {
        if self.denials_at.is_some_and(|at| at.elapsed() < DENIALS) {
            return;
        }
        self.denials_at = Some(Instant::now());
        let (denials, seen) = self.shared.gate.denials().after(self.denials_seen, MAX_DENIALS);
        self.denials_seen = seen;
        for denial in denials {
            self.queue_event(denied(&denial, &self.shared.node));
        }
    }

    fn tell_events(&mut self, log: &mut dyn PresenceLog) -> Result<(), StoreError> {
        while !self.events.is_empty() {
            let count = self.events.len().min(BATCH);
            log.tell(&self.events.make_contiguous()[..count], &self.shared.settings.bounds)?;
            self.events.drain(..count);
        }
        Ok(())
    }

    fn tell_missed(&mut self, log: &mut dyn PresenceLog) -> Result<(), StoreError> {
        let batch: Vec<Missed> = {
            let mut state = self.shared.lock();
            let count = state.missed.len().min(BATCH);
            let batch: Vec<Missed> = state.missed.drain(..count).collect();
            state.missed_bytes -= batch.iter().map(bytes_of).sum::<usize>();
            batch
        };
        if batch.is_empty() {
            return Ok(());
        }
        let messages: Vec<Fields> = batch.iter().map(|message| missed(message, &self.shared.node)).collect();
        if let Err(error) = log.tell_missed(&messages, &self.shared.settings.bounds) {
            let mut state = self.shared.lock();
            state.missed_bytes += batch.iter().map(bytes_of).sum::<usize>();
            batch.into_iter().rev().for_each(|message| state.missed.push_front(message));
            return Err(error);
        }
        self.shared.counts.missed.fetch_add(messages.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Finds nodes whose entries nobody keeps any more.
    fn look_for_dead(&mut self, log: &mut dyn PresenceLog) -> Result<(), StoreError> {
        if !self.sweeps.is_empty() || self.looked_at.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(());
        }
        self.looked_at = Some(Instant::now());
        // While an earlier life of this node may still be there, and so that clients can come back before they count as gone.
        let old = self.begun_at.is_some_and(|at| at.elapsed() >= LEASE);
        if !self.swept_itself && old && !self.shared.life.shares_its_name() {
            self.sweeps.push_back(Sweep { node: self.shared.node.clone(), page: 0, removed: 0 });
        }
        let dead = log.dead()?.into_iter().filter(|node| *node != self.shared.node);
        self.sweeps.extend(dead.map(|node| Sweep { node, page: 0, removed: 0 }));
        Ok(())
    }

    /// Enters a page of a dead node's clients as gone, or of those that an earlier life of this one has left.
    fn sweep_some(&mut self, log: &mut dyn PresenceLog) -> Result<(), StoreError> {
        let Some(mut sweep) = self.sweeps.pop_front() else { return Ok(()) };
        let own = sweep.node == self.shared.node;
        let page = match log.entries(&sweep.node, sweep.page) {
            Ok(page) => page,
            Err(error) => {
                self.sweeps.clear();
                return Err(error);
            }
        };
        // It is back, and keeps its entries itself.
        if page.alive && !own {
            return Ok(());
        }
        let changes = self.left_behind(page.entries, own);
        for batch in changes.chunks(BATCH) {
            let outcomes = log.write(&sweep.node, batch, &self.shared.settings.bounds)?;
            let new = outcomes.iter().filter(|outcome| **outcome == Outcome::New).count() as u64;
            self.shared.counts.swept.fetch_add(new, Ordering::Relaxed);
            sweep.removed += new;
            self.settle(log, &sweep.node, batch, &outcomes);
        }
        self.tell_events(log)?;
        match page.next {
            Some(next) => self.sweeps.push_front(Sweep { page: next, ..sweep }),
            None if own => self.swept(&sweep, true),
            None => {
                log.forget(&sweep.node)?;
                self.swept(&sweep, false);
            }
        }
        Ok(())
    }

    /// Returns how to enter those as gone who are, of a page of entries.
    fn left_behind(&self, entries: Vec<(Who, u64)>, own: bool) -> Vec<Change> {
        let until = unix_ms();
        let state = self.shared.lock();
        let gone = entries.into_iter().filter(|(who, _)| !(own && state.table.has(who)));
        gone.map(|(who, since)| Change::Offline { who, since, until, lost: true }).collect()
    }

    fn swept(&mut self, sweep: &Sweep, own: bool) {
        self.swept_itself |= own;
        if sweep.removed > 0
            && let Some(held_back) = self.sweepings.pass(self.shared.start.elapsed())
        {
            log::info!(
                "{} clients of the node \"{}\" were left as online, and are entered as gone ({held_back} more of these not shown)",
                sweep.removed,
                Shown(sweep.node.as_str())
            );
        }
    }

    /// Enters all clients as gone: the broker ends.
    fn say_farewell(&mut self, log: &mut dyn PresenceLog) -> Result<(), StoreError> {
        let end = Instant::now() + FAREWELL;
        self.shared.lock().table.all_gone(unix_ms());
        while self.write_some(log)? && Instant::now() < end {}
        self.tell_events(log)?;
        self.tell_missed(log)
    }
}

fn bytes_of(message: &Missed) -> usize {
    message.payload.as_ref().map_or(0, Vec::len)
}

fn field(name: &str, value: impl Into<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.into())
}

/// Returns the event that tells of a denial.
fn denied(denial: &Denial, node: &NodeName) -> Fields {
    let access = match denial.access {
        DeniedAccess::Login => "login",
        DeniedAccess::Publish => "publish",
        DeniedAccess::Receive => "receive",
        DeniedAccess::Subscribe => "subscribe",
    };
    let mut fields = vec![field("event", "denied"), field("access", access)];
    let optional = [
        ("user", denial.user.clone()),
        ("client", denial.client.clone()),
        ("address", denial.address.map(|address| address.to_string())),
        ("topic", denial.topic.clone()),
    ];
    fields.extend(optional.into_iter().filter_map(|(name, value)| Some(field(name, value?))));
    fields.push(field("reason", denial.reason.as_str()));
    fields.push(field("node", node.as_str()));
    fields
}

/// Returns the entry that tells of a message.
fn missed(message: &Missed, node: &NodeName) -> Fields {
    let mut fields: Fields = Vec::with_capacity(7);
    fields.extend(message.who.user.as_ref().map(|user| field("user", user.as_str())));
    fields.push(field("client", message.who.client.as_str()));
    fields.push(field("topic", message.topic.as_bytes()));
    fields.push(field("qos", message.qos.to_string()));
    fields.push(field("size", message.size.to_string()));
    fields.extend(message.payload.as_ref().map(|payload| field("payload", payload.as_slice())));
    fields.push(field("node", node.as_str()));
    fields
}
