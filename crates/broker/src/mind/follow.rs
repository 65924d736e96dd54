//! Has changes in the store act on sessions.
//!
//! What a client may do changes by itself, with the account that its policy points to. Here follows what that doesn't do:
//! who lost the account, or the time of whose token is over, is disconnected, and subscriptions are brought in line.
//! Each turn does a bounded share of it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use midge_core::autosub::Subscription;
use midge_core::directory::Change;
use midge_core::gate::Refusal;
use midge_core::name::Shown;
use midge_core::time::Now;
use midge_engine::permission::Turn;
use midge_engine::shard::{SessionId, Shard};

use super::Shared;
use super::inbox::{Answer, Bell};
use super::login::LoopMind;
use super::verdict::of_end;

/// How many sessions whose accounts changed are looked at in one turn.
const LOOKS: usize = 256;
/// How many sessions are held against the bans in one turn.
const HELD_AGAINST_BANS: usize = 4_096;

/// What is still to be looked at.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Sessions whose accounts or lists have changed, each once.
    listed: VecDeque<SessionId>,
    /// How many sessions are to be held against the bans, and which is next.
    unbanned: usize,
    next: usize,
    /// When tokens end, in seconds since 1970, and which session's.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    /// Whether there may be clients who need no username as long as there are no users.
    has_guests: bool,
    /// The latest list of automatic subscriptions: most clients have the same.
    pub(super) latest: Option<Arc<[Subscription]>>,
}

impl Followed {
    pub(super) fn expires(&mut self, unix: u64, session: SessionId) {
        self.ends.push(Reverse((unix, session.slot())));
    }

    pub(super) fn guest_came(&mut self) {
        self.has_guests = true;
    }
}

impl Shared {
    /// Gives each loop what has changed, and wakes the others. One thread at a time, so that all loops are told in one order.
    fn spread(&self, own: &Arc<Bell>) {
        if !self.gate.directory().has_changes() {
            return;
        }
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.gate.directory().take_changes();
        if changes.is_empty() {
            return;
        }
        for bell in bells.iter() {
            bell.leave(&changes);
            if !Arc::ptr_eq(bell, own) {
                bell.ring();
            }
        }
    }
}

impl<K: Copy + Eq + Hash + Send + 'static> LoopMind<K> {
    /// Does what waits: answers, changes in the store, ended tokens; to be called in each turn, and after the loop was woken.
    pub fn work(&mut self, shard: &mut Shard, now: Now) {
        self.settle_claims();
        self.count(shard, now);
        while let Some(answer) = self.inbox.next() {
            match answer {
                Answer::Login(key, verdict) => self.login_answered(key, verdict, now),
                Answer::Prepared(key, asked) => self.prepared(key, asked, now),
                Answer::Known(session, verdict) => self.known(session, verdict, shard, now),
            }
        }
        self.shared.spread(self.inbox.bell());
        for change in self.inbox.bell().take() {
            self.note(&change, shard);
        }
        if self.followed.has_guests && !self.shared.house.is_open() {
            self.followed.has_guests = false;
            self.hold_all_against_bans();
        }
        self.end_tokens(shard, now);
        for _ in 0..LOOKS {
            let Some(session) = self.followed.listed.pop_front() else { break };
            self.look_at(session, shard, now);
        }
        self.hold_against_bans(shard, now);
        self.ask_for_restored(shard, now);
    }

    /// Returns when [`Self::work`] is to be called at the latest, on the monotonic clock; `None` where only a ring can change anything.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> Option<Duration> {
        if !self.followed.listed.is_empty() || self.followed.unbanned > 0 || !self.ready.is_empty() {
            return Some(now.monotonic);
        }
        let ends = self.followed.ends.peek().map(|Reverse((unix, _))| {
            // The second may have begun long ago, so this is early by less than one.
            now.monotonic + Duration::from_secs(unix.saturating_sub(now.unix)).min(Duration::from_secs(1))
        });
        let counted = self.counting.as_ref().and_then(|counting| counting.next(now.monotonic));
        ends.into_iter().chain(self.restored.next(now)).chain(counted).min()
    }

    /// Lists the sessions that a change concerns.
    fn note(&mut self, change: &Change, shard: &Shard) {
        match change {
            Change::Account(account) => {
                let sessions: Vec<SessionId> = self.table.of(account).collect();
                sessions.into_iter().for_each(|session| self.list(session));
            }
            Change::Client(client) => {
                if let Some(session) = shard.session(client.as_str()) {
                    self.list(session);
                }
            }
            Change::Bans => self.hold_all_against_bans(),
        }
    }

    fn list(&mut self, session: SessionId) {
        if let Some(entry) = self.table.get_mut(session).filter(|entry| !entry.listed) {
            entry.listed = true;
            self.followed.listed.push_back(session);
        }
    }

    /// Looks at a session whose account has changed.
    fn look_at(&mut self, session: SessionId, shard: &mut Shard, now: Now) {
        let Some(entry) = self.table.get_mut(session) else { return };
        entry.listed = false;
        self.show_out(session, shard, now);
        self.reconcile(session, shard, now);
    }

    fn hold_all_against_bans(&mut self) {
        self.followed.unbanned = self.table.len();
    }

    fn hold_against_bans(&mut self, shard: &mut Shard, now: Now) {
        for _ in 0..HELD_AGAINST_BANS.min(self.followed.unbanned) {
            self.followed.unbanned -= 1;
            self.followed.next = (self.followed.next + 1) % self.table.len().max(1);
            if let Some(session) = self.table.at(self.followed.next).map(|entry| entry.session) {
                self.show_out(session, shard, now);
            }
        }
    }

    fn end_tokens(&mut self, shard: &mut Shard, now: Now) {
        while let Some(Reverse((unix, slot))) = self.followed.ends.peek().copied().filter(|Reverse((unix, _))| *unix <= now.unix) {
            self.followed.ends.pop();
            // It may be another's place by now, or the same client's with another token.
            let ended = self.table.at(slot).filter(|entry| entry.client.policy.expires_unix() == Some(unix));
            if let Some(session) = ended.map(|entry| entry.session) {
                self.show_out(session, shard, now);
            }
        }
    }

    /// Disconnects a client that has to leave; its session stays as long as it would without.
    fn show_out(&self, session: SessionId, shard: &mut Shard, now: Now) {
        let Some(entry) = self.table.get(session) else { return };
        let Some(refusal) = self.leaves(&entry.client.policy, entry.client.guest, now) else { return };
        let Some(connection) = shard.connection(session) else { return };
        self.log_end(entry.client.policy.client().as_str(), &refusal, now);
        shard.disconnect(connection, of_end(&refusal), &Turn { now, permissions: self });
    }

    fn log_end(&self, client: &str, refusal: &Refusal, now: Now) {
        if self.end_lines.may(now.monotonic) {
            log::info!("disconnected client \"{}\": {refusal}", Shown(client));
        }
    }
}
