//! One client: what it may do, what it asked for.

use std::time::Duration;

use midge_core::autosub::Subscription;
use midge_core::gate::ClientPolicy;
use midge_core::topic::{TopicFilter, TopicName};

/// How many granted filters of one session are remembered; a session with more is disconnected when its rules change.
const MAX_FILTERS: usize = 1_000;

/// What a client has asked for.
#[derive(Clone, Default)]
pub(super) struct Filters {
    /// Those that were granted, as the client wrote them.
    pub(super) granted: Vec<Box<str>>,
    /// More were granted than are remembered.
    pub(super) overflow: bool,
    /// Granted ones that were withdrawn, and that the broker can't take from the client.
    pub(super) withheld: Vec<Box<str>>,
}

/// One client of the broker.
pub(in crate::plugin) struct Session {
    pub(super) policy: ClientPolicy,
    /// `None` for a client that only publishes, as most devices do.
    pub(super) filters: Option<Box<Filters>>,
    /// The automatic subscriptions that it has, in the order of their filters' bytes; `None` for none.
    #[expect(clippy::box_collection, reason = "most have none, and all pay for the size")]
    pub(super) made: Option<Box<Vec<Subscription>>>,
    /// When it went.
    pub(super) departed: Option<Duration>,
    /// Whether it can't come back.
    pub(super) transient: bool,
    /// When its connection began, in milliseconds since 1970.
    pub(super) since: u64,
}

impl Session {
    pub(super) fn new(policy: ClientPolicy, filters: Option<Box<Filters>>, since: u64) -> Box<Self> {
        Box::new(Self { policy, filters, made: None, departed: None, transient: false, since })
    }

    pub(super) fn is(&self, id: &[u8], user: Option<&[u8]>) -> bool {
        self.policy.client().as_str().as_bytes() == id && self.policy.user().map(|user| user.as_str().as_bytes()) == user
    }

    pub(in crate::plugin) fn policy(&self) -> &ClientPolicy {
        &self.policy
    }

    pub(in crate::plugin) fn is_connected(&self) -> bool {
        self.departed.is_none()
    }

    /// Returns whether the client is away, and what comes meanwhile is kept for it.
    pub(in crate::plugin) fn is_awaited(&self) -> bool {
        self.departed.is_some() && !self.transient
    }

    /// Returns whether the client is there, and what it may receive is all that counts.
    pub(super) fn is_plain(&self) -> bool {
        self.is_connected() && self.filters.as_ref().is_none_or(|filters| filters.withheld.is_empty())
    }

    /// Returns whether a delivery that the rules allow is one that nobody asks for any more.
    pub(in crate::plugin) fn withholds(&self, topic: TopicName<'_>) -> bool {
        let any =
            |filters: &[Box<str>]| filters.iter().any(|filter| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic)));
        let by_list = || self.made().iter().any(|made| TopicFilter::new(&made.filter).is_ok_and(|filter| filter.matches(topic)));
        self.filters.as_ref().is_some_and(|filters| any(&filters.withheld) && !any(&filters.granted)) && !by_list()
    }

    /// Returns the automatic subscriptions that the session has, in the order of their filters' bytes.
    pub(in crate::plugin) fn made(&self) -> &[Subscription] {
        self.made.as_ref().map_or(&[], |made| made)
    }

    pub(in crate::plugin) fn set_made(&mut self, made: Vec<Subscription>) {
        self.made = (!made.is_empty()).then(|| Box::new(made));
    }

    /// Returns the automatic subscription to `filter`, if the session has it.
    pub(in crate::plugin) fn made_to(&self, filter: &str) -> Option<&Subscription> {
        let made = self.made();
        made.binary_search_by(|one| (*one.filter).cmp(filter)).ok().and_then(|at| made.get(at))
    }

    /// Returns whether the client has subscribed to `filter` by itself.
    pub(in crate::plugin) fn holds_itself(&self, filter: &str) -> bool {
        self.filters.as_ref().is_some_and(|filters| filters.granted.iter().any(|known| **known == *filter))
    }

    /// Returns whether the client has subscribed by itself to a filter that matches `topic`.
    pub(in crate::plugin) fn asks_itself_for(&self, topic: TopicName<'_>) -> bool {
        let matches = |filter: &str| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic));
        self.filters.as_ref().is_some_and(|filters| filters.granted.iter().any(|filter| matches(filter)))
    }

    /// Forgets all subscriptions: the broker has none of them.
    pub(in crate::plugin) fn forget_subscriptions(&mut self) {
        self.filters = None;
        self.made = None;
    }

    /// Returns since when the client is away.
    pub(in crate::plugin) fn departed(&self) -> Option<Duration> {
        self.departed
    }

    /// Remembers a filter that was granted.
    pub(in crate::plugin) fn granted(&mut self, filter: &str) {
        // From now on it is the client's own, with the options that it asks for.
        if let Some(made) = &mut self.made {
            made.retain(|one| *one.filter != *filter);
        }
        let filters = self.filters.get_or_insert_default();
        filters.withheld.retain(|known| **known != *filter);
        if filters.granted.iter().any(|known| **known == *filter) {
            return;
        }
        if filters.granted.len() >= MAX_FILTERS {
            filters.overflow = true;
        } else {
            filters.granted.push(filter.into());
        }
    }

    /// Forgets a filter that the client has given up.
    pub(in crate::plugin) fn given_up(&mut self, filter: &str) {
        let Some(filters) = &mut self.filters else { return };
        filters.granted.retain(|known| **known != *filter);
        filters.withheld.retain(|known| **known != *filter);
    }

    /// Takes the filters that are no longer allowed; `None` where too many were granted to tell.
    pub(in crate::plugin) fn take_withdrawn(&mut self) -> Option<Vec<Box<str>>> {
        let Some(filters) = &mut self.filters else { return Some(Vec::new()) };
        if filters.overflow {
            return None;
        }
        let policy = &self.policy;
        let (kept, withdrawn) = std::mem::take(&mut filters.granted)
            .into_iter()
            .partition(|filter| TopicFilter::new(filter).is_ok_and(|filter| policy.may_subscribe(filter).allowed));
        filters.granted = kept;
        Some(withdrawn)
    }

    /// Delivers no more what these filters ask for and none of the remaining, since the broker still holds them.
    pub(in crate::plugin) fn withhold(&mut self, withdrawn: Vec<Box<str>>) {
        self.filters.get_or_insert_default().withheld.extend(withdrawn);
    }
}
