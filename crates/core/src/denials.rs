//! Counts what was denied and keeps the latest of it.
//!
//! Counting never waits and allocates nothing. Writing down is limited to a number per second, and given up where somebody
//! else is writing or reading, so that a flood of denials costs a counter each. Text of clients is kept escaped and cut.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use serde::Serialize;

use crate::access::Access;
use crate::gate::{ClientPolicy, Refusal};
use crate::name::{ClientId, Username};
use crate::policy::Decision;
use crate::time::Now;

/// How many characters of a topic are kept.
const TOPIC_CHARACTERS: usize = 200;
/// How many characters of a name or a reason are kept.
const NAME_CHARACTERS: usize = 64;

/// How much is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenialSettings {
    /// How many of the latest denials are kept.
    pub kept: usize,
    /// How many are written down in one second at most; further ones are counted only.
    pub per_second: u32,
}

impl Default for DenialSettings {
    fn default() -> Self {
        Self { kept: 1_000, per_second: 100 }
    }
}

/// One denial that was written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// When, in seconds since 1970.
    pub unix: u64,
    /// What was asked for.
    pub access: DeniedAccess,
    /// The username, escaped and cut.
    pub user: Option<String>,
    /// The client identifier, escaped and cut.
    pub client: Option<String>,
    /// Where the client connects from.
    pub address: Option<IpAddr>,
    /// The topic name or filter, escaped and cut at 200 characters; none for a login.
    pub topic: Option<String>,
    /// Why: a kind of [`Refusal::KINDS`] for a login, a sentence for a topic.
    pub reason: String,
}

/// What was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeniedAccess {
    /// To log in.
    Login,
    /// To publish to a topic.
    Publish,
    /// To be delivered a message.
    Receive,
    /// To subscribe to a filter.
    Subscribe,
}

impl From<Access> for DeniedAccess {
    fn from(access: Access) -> Self {
        match access {
            Access::Publish => Self::Publish,
            Access::Receive => Self::Receive,
            Access::Subscribe => Self::Subscribe,
        }
    }
}

/// How often what was denied, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DenialCounts {
    /// Refused logins by kind of [`Refusal::KINDS`], all kinds in their order.
    pub logins: Vec<(&'static str, u64)>,
    /// Denied messages of clients.
    pub publish: u64,
    /// Denied deliveries.
    pub receive: u64,
    /// Denied subscriptions.
    pub subscribe: u64,
    /// Denials that were counted and not written down.
    pub unwritten: u64,
}

impl DenialCounts {
    /// Returns the number of refused logins of all kinds.
    #[must_use]
    pub fn all_logins(&self) -> u64 {
        self.logins.iter().map(|(_, count)| count).sum()
    }
}

#[derive(Debug, Default)]
struct Latest {
    kept: VecDeque<Denial>,
    /// How many were ever written down.
    written: u64,
}

/// What was denied.
#[derive(Debug)]
pub struct Denials {
    settings: DenialSettings,
    logins: [AtomicU64; Refusal::KINDS.len()],
    publish: AtomicU64,
    receive: AtomicU64,
    subscribe: AtomicU64,
    unwritten: AtomicU64,
    /// The current second in the upper half, and how many denials came in it in the lower.
    pace: AtomicU64,
    latest: Mutex<Latest>,
}

impl Denials {
    /// Returns an empty list.
    #[must_use]
    pub fn new(settings: DenialSettings) -> Self {
        Self {
            settings,
            logins: Default::default(),
            publish: AtomicU64::new(0),
            receive: AtomicU64::new(0),
            subscribe: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
            pace: AtomicU64::new(0),
            latest: Mutex::default(),
        }
    }

    /// Notes a refused login.
    pub fn login(&self, user: Option<&Username>, client: Option<&ClientId>, address: Option<IpAddr>, refusal: &Refusal, now: Now) {
        let kind = refusal.kind();
        if let Some(count) = self.logins.get(kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.write(now.monotonic, || Denial {
            unix: now.unix,
            access: DeniedAccess::Login,
            user: user.map(|user| shown(user.as_str(), NAME_CHARACTERS)),
            client: client.map(|client| shown(client.as_str(), NAME_CHARACTERS)),
            address,
            topic: None,
            reason: Refusal::KINDS.get(kind).copied().unwrap_or_default().to_owned(),
        });
    }

    /// Notes that `policy` has denied `access` to a topic name or filter; what was allowed is passed over.
    ///
    /// `monotonic` is the time as in [`Now`]; `unix` is asked for the other one only where the denial is written down.
    pub fn topic(
        &self,
        policy: &ClientPolicy,
        access: Access,
        topic: &str,
        decision: Decision,
        monotonic: Duration,
        unix: impl FnOnce() -> u64,
    ) {
        if decision.allowed {
            return;
        }
        let count = match access {
            Access::Publish => &self.publish,
            Access::Receive => &self.receive,
            Access::Subscribe => &self.subscribe,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.write(monotonic, || Denial {
            unix: unix(),
            access: access.into(),
            user: policy.user().map(|user| shown(user.as_str(), NAME_CHARACTERS)),
            client: Some(shown(policy.client().as_str(), NAME_CHARACTERS)),
            address: policy.address(),
            topic: Some(shown(topic, TOPIC_CHARACTERS)),
            reason: decision.reason.to_string(),
        });
    }

    /// Returns how often what was denied.
    #[must_use]
    pub fn counts(&self) -> DenialCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DenialCounts {
            logins: Refusal::KINDS.into_iter().zip(self.logins.iter().map(load)).collect(),
            publish: load(&self.publish),
            receive: load(&self.receive),
            subscribe: load(&self.subscribe),
            unwritten: load(&self.unwritten),
        }
    }

    /// Returns the latest denials that were written down, the newest first, at most `most` of them.
    #[must_use]
    pub fn latest(&self, most: usize) -> Vec<Denial> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.kept.iter().rev().take(most).cloned().collect()
    }

    /// Returns the denials that were written down after the first `before` of all, the oldest first, at most `most` of the
    /// latest of them, and how many there were up to now.
    #[must_use]
    pub fn after(&self, before: u64, most: usize) -> (Vec<Denial>, u64) {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let new = usize::try_from(latest.written.saturating_sub(before)).unwrap_or(usize::MAX);
        let skipped = latest.kept.len().saturating_sub(new.min(most));
        (latest.kept.iter().skip(skipped).cloned().collect(), latest.written)
    }

    fn write(&self, monotonic: Duration, denial: impl FnOnce() -> Denial) {
        if !self.has_time(monotonic) {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let denial = denial();
        let mut latest = match self.latest.try_lock() {
            Ok(latest) => latest,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.unwritten.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        latest.written += 1;
        if latest.kept.len() >= self.settings.kept {
            latest.kept.pop_front();
        }
        if self.settings.kept > 0 {
            latest.kept.push_back(denial);
        }
    }

    /// Returns whether one more may be written down in this second, and counts it.
    fn has_time(&self, monotonic: Duration) -> bool {
        let second = monotonic.as_secs() & u64::from(u32::MAX);
        let limit = u64::from(self.settings.per_second);
        let count = |pace: u64| {
            let came = if pace >> 32 == second { pace & u64::from(u32::MAX) } else { 0 };
            (came < limit).then_some(second << 32 | (came + 1))
        };
        self.pace.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
    }
}

/// Returns `text` without control characters, cut.
fn shown(text: &str, characters: usize) -> String {
    let mut shown = String::new();
    let mut rest = text.chars();
    for c in rest.by_ref().take(characters) {
        if c.is_control() {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}
