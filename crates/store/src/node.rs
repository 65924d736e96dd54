//! How a server is, for all to see in the store.
//!
//! Every few seconds a server renews the hash `node:{NAME}`, which ends soon after: one that isn't there any more is not running,
//! or can't reach the store. Besides what the body reports, each counter has its rate since the last time.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use midge_core::entry::{Entry, Fields};
use midge_core::key::Key;
use midge_core::name::NodeName;

/// How often the record is renewed.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// How long it lasts without.
pub const LEASE: Duration = Duration::from_secs(10);

/// How long none is tried after the store refused one: an operator has to act.
const REST: Duration = Duration::from_secs(300);

/// One thing that is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A text.
    Text(String),
    /// How many there are now.
    Gauge(u64),
    /// How often something has happened since the start.
    Counter(u64),
}

/// One run of a server, told from any other by a token in its record.
#[derive(Debug)]
pub struct Life {
    token: String,
    shares_its_name: AtomicBool,
}

impl Default for Life {
    /// Returns a new life, which no other has been like.
    fn default() -> Self {
        let random = || RandomState::new().hash_one(std::process::id());
        Self { token: format!("{:016x}{:016x}", random(), random()), shares_its_name: AtomicBool::new(false) }
    }
}

impl Life {
    /// Returns whether another server that runs now has the same name.
    #[must_use]
    pub fn shares_its_name(&self) -> bool {
        self.shares_its_name.load(Ordering::Acquire)
    }

    /// Looks at the record that stands in the store, after this server has written its own; returns whether it has just turned
    /// out that another one has the same name.
    ///
    /// What stood there at the start may be of a life that is over; what comes after our own is not.
    pub(crate) fn compare(&self, record: &Entry) -> bool {
        let Entry::Hash(fields) = record else { return false };
        let token = fields.iter().find(|(field, _)| field == LIFE).map(|(_, token)| token.as_slice());
        let other = token.is_some_and(|token| token != self.token.as_bytes());
        self.shares_its_name.swap(other, Ordering::AcqRel) != other && other
    }

    /// Returns the field that tells this life.
    pub(crate) fn field(&self) -> (Vec<u8>, Vec<u8>) {
        (LIFE.to_vec(), self.token.clone().into_bytes())
    }
}

/// The field with the token of a life.
const LIFE: &[u8] = b"life";

/// Returns what there is to report; called on threads of the store's.
pub type Collect = Arc<dyn Fn() -> Vec<(&'static str, Fact)> + Send + Sync>;

/// Who reports, and what.
pub struct Report {
    /// The server's name.
    pub node: NodeName,
    /// Its run.
    pub life: Arc<Life>,
    /// Returns what there is to report; called on the store's thread.
    pub collect: Collect,
}

impl Report {
    /// Returns the key of the server's record.
    pub(crate) fn key(&self) -> Key {
        Key::Node(self.node.clone())
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("node", &self.node).finish_non_exhaustive()
    }
}

/// What was reported last, for the rates.
#[derive(Debug, Default)]
pub(crate) struct Last {
    at: Option<Duration>,
    rests_until: Duration,
    /// Whether the record was written before, and has to be compared.
    pub(crate) written: bool,
    counters: Vec<(&'static str, u64)>,
}

impl Last {
    /// Returns whether it is time to report.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now >= self.rests_until && self.at.is_none_or(|at| now.saturating_sub(at) >= INTERVAL)
    }

    /// Leaves a store that takes no report alone for a while.
    pub(crate) fn rest(&mut self, now: Duration) {
        self.rests_until = now + REST;
    }

    /// Returns the fields to be written now: the facts, and for each counter `NAME_rate`, per second since the last time.
    pub(crate) fn fields(&mut self, facts: &[(&'static str, Fact)], now: Duration, unix: u64) -> Fields {
        let since = self.at.replace(now).map(|at| now.saturating_sub(at).as_secs_f64()).filter(|seconds| *seconds > 0.0);
        let before = std::mem::take(&mut self.counters);
        let mut fields: Fields = vec![(b"at".to_vec(), unix.to_string().into_bytes())];
        for (name, fact) in facts {
            let text = match fact {
                Fact::Text(text) => text.clone(),
                Fact::Gauge(number) | Fact::Counter(number) => number.to_string(),
            };
            fields.push((name.as_bytes().to_vec(), text.into_bytes()));
            if let Fact::Counter(number) = fact {
                let known = before.iter().find(|(known, _)| known == name).map(|(_, count)| *count);
                let rate = since.zip(known).map_or(0.0, |(seconds, known)| number.saturating_sub(known) as f64 / seconds);
                fields.push((format!("{name}_rate").into_bytes(), format!("{rate:.1}").into_bytes()));
                self.counters.push((name, *number));
            }
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_life_shows_that_the_name_is_shared() {
        let (one, two) = (Life::default(), Life::default());
        let record = |life: &Life| Entry::Hash(vec![(b"body".to_vec(), b"x".to_vec()), life.field()]);
        for (found, news, shared) in [
            (Entry::Missing, false, false),
            (record(&one), false, false),
            (record(&two), true, true),
            (record(&two), false, true),
            (record(&one), false, false),
            (Entry::Hash(vec![(b"body".to_vec(), b"x".to_vec())]), false, false),
        ] {
            assert_eq!((one.compare(&found), one.shares_its_name()), (news, shared), "{found:?}");
        }
    }

    #[test]
    fn counters_have_rates() {
        let mut last = Last::default();
        let facts = |count| vec![("body", Fact::Text("x".to_owned())), ("clients", Fact::Gauge(7)), ("sent", Fact::Counter(count))];
        let field = |fields: &Fields, name: &str| {
            let value = fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value.clone());
            value.map(|value| String::from_utf8(value).unwrap())
        };
        let second = Duration::from_secs;
        assert!(last.is_due(second(0)));
        for (at, count, rate) in [(0, 100, "0.0"), (2, 150, "25.0"), (4, 150, "0.0"), (8, 154, "1.0"), (10, 0, "0.0")] {
            let fields = last.fields(&facts(count), second(at), 1_000 + at);
            assert_eq!(field(&fields, "sent"), Some(count.to_string()));
            assert_eq!(field(&fields, "sent_rate").as_deref(), Some(rate), "{at}");
            assert_eq!(field(&fields, "clients_rate"), None);
            assert_eq!(field(&fields, "at"), Some((1_000 + at).to_string()));
            assert!(!last.is_due(second(at + 1)) && last.is_due(second(at + 2)));
        }
    }
}
