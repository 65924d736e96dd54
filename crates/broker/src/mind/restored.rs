//! Finds out whose the sessions of before the start are.
//!
//! Until then messages wait for them unasked, as they are asked for again before they are sent; afterwards they are followed
//! like all others. Accounts are asked for some at a time, so that clients that log in meanwhile have theirs.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use midge_core::gate::{Admission, Asked, ClientPolicy, Hello as Claim, Proof, Refusal, Stranger};
use midge_core::time::Now;
use midge_engine::record::State;
use midge_engine::shard::{SessionId, Shard};
use midge_store::service;

use super::Anonymity;
use super::inbox::Answer;
use super::login::LoopMind;
use super::table::{Client, Guest};

/// How many accounts are asked for at a time.
const AT_ONCE: usize = 256;
/// How long to wait while the store can't be asked.
const RETRY: Duration = Duration::from_secs(1);

/// A session whose client has not been back since the start.
#[derive(Debug)]
struct Absent {
    session: SessionId,
    client_id: Box<str>,
    username: Option<Arc<str>>,
}

/// The sessions whose accounts aren't known.
#[derive(Debug, Default)]
pub(super) struct Restored {
    waiting: VecDeque<Absent>,
    asked: HashMap<SessionId, Absent>,
    /// Sessions whose accounts nobody knows, by username.
    strangers: HashMap<Arc<str>, Vec<SessionId>>,
    not_before: Duration,
}

impl Restored {
    /// Returns when there is something to ask.
    pub(super) fn next(&self, now: Now) -> Option<Duration> {
        (!self.waiting.is_empty() && self.asked.len() < AT_ONCE).then(|| self.not_before.max(now.monotonic))
    }

    /// Returns whether all were asked about.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// Returns sessions of a username whose accounts nobody knows; some may be others' by now.
    pub(super) fn strangers(&self, user: &str) -> impl Iterator<Item = SessionId> {
        self.strangers.get(user).into_iter().flatten().copied()
    }

    /// Notes that nobody knows whose a session is.
    fn estrange(&mut self, absent: Absent) {
        if let Some(username) = absent.username {
            self.strangers.entry(username).or_default().push(absent.session);
        }
    }
}

impl<K: Copy + Eq + Hash + Send + 'static> LoopMind<K> {
    /// Learns of the sessions that a shard was restored with; once, at the start.
    pub fn restored(&mut self, state: &State, shard: &Shard) {
        for known in state.sessions.values().filter(|known| !known.ended) {
            if let Some(session) = shard.session(&known.client_id) {
                let (client_id, username) = (known.client_id.clone(), known.username.clone());
                self.restored.waiting.push_back(Absent { session, client_id, username });
            }
        }
    }

    /// Asks for the next accounts.
    pub(super) fn ask_for_restored(&mut self, shard: &mut Shard, now: Now) {
        if self.restored.waiting.is_empty() || now.monotonic < self.restored.not_before {
            return;
        }
        for _ in 0..AT_ONCE {
            if self.restored.asked.len() >= AT_ONCE {
                return;
            }
            let Some(absent) = self.restored.waiting.pop_front() else { return };
            if self.is_absent(&absent, shard) {
                self.ask_for(absent, shard, now);
            }
        }
    }

    /// Takes what was found out of a session.
    pub(super) fn known(&mut self, session: SessionId, verdict: service::Verdict, shard: &mut Shard, now: Now) {
        let Some(absent) = self.restored.asked.remove(&session) else { return };
        match verdict {
            Ok(policy) if self.is_absent(&absent, shard) => self.adopt(session, policy, shard, now),
            Err(Refusal::StoreAway | Refusal::TooOld | Refusal::Busy) => {
                self.restored.waiting.push_back(absent);
                self.restored.not_before = now.monotonic + RETRY;
            }
            // Who had a token may have no record; messages wait until it is back and shows another.
            _ => self.restored.estrange(absent),
        }
    }

    fn ask_for(&mut self, absent: Absent, shard: &mut Shard, now: Now) {
        let user = absent.username.as_deref().map(str::parse).transpose();
        let (Ok(user), Ok(client)) = (user, absent.client_id.parse()) else { return };
        let claim = Claim { user, client, address: None, proof: Proof::Verified, stranger: Stranger::Refused };
        let session = absent.session;
        match self.shared.gate.admit(claim.clone(), Asked::Memory, now) {
            Admission::Admitted(policy) => self.adopt(session, policy, shard, now),
            Admission::Refused(_) => self.restored.estrange(absent),
            later => {
                self.restored.asked.insert(session, absent);
                let done = self.inbox.reply(move |verdict| Answer::Known(session, verdict));
                self.shared.service.go_on(later, claim, done);
            }
        }
    }

    /// Returns whether the session is still there, and its client has not been back.
    fn is_absent(&self, absent: &Absent, shard: &Shard) -> bool {
        self.table.get(absent.session).is_none() && shard.session(&absent.client_id) == Some(absent.session)
    }

    fn adopt(&mut self, session: SessionId, policy: ClientPolicy, shard: &mut Shard, now: Now) {
        // Nobody knows by which door it came.
        let doors = self.shared.doors.load();
        let any = |anonymity| doors.iter().any(|door| door.anonymous == anonymity);
        let guest = match policy.user() {
            Some(_) => Guest::No,
            None if any(Anonymity::Allow) => Guest::No,
            None if any(Anonymity::Open) => Guest::Open,
            None => Guest::WhileNoUsers,
        };
        self.enter(session, Client { policy, guest, exchanged: false }, None);
        self.reconcile_restored(session, shard, now);
    }
}
