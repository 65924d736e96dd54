//! May this client do that: answered from memory, for the engine.
//!
//! A check reads the account as it is now, and shares no lock with another loop.

use std::sync::Arc;
use std::time::Duration;

use midge_core::access::Access;
use midge_core::gate::ClientPolicy;
use midge_core::key::Key;
use midge_core::name::{GroupName, Shown, Username};
use midge_core::policy::{Decision, Policy};
use midge_core::rules::RuleSet;
use midge_core::topic::TopicName;
use midge_engine::message::Publication;
use midge_engine::permission::{Client, Permissions};
use midge_engine::shard::SessionId;
use midge_engine::tree::SubscriptionFilter;
use midge_store::presence::{Missed, Who};

use super::LoopMind;
use super::table::{self, Guest};

/// Returns what those may who need no username and have no rules: everything, but to speak as the server does.
pub(super) fn open_house() -> Policy {
    let rules = [("#", "prs"), ("$SYS/#", "rs")].map(|(filter, rights)| (filter.into(), rights.into()));
    let (rules, _) = RuleSet::parse(&rules.into());
    Policy::new(false, [(Key::AllAcl, Arc::new(rules))])
}

impl<K> Permissions for LoopMind<K> {
    fn may_publish(&self, client: &Client<'_>, topic: TopicName<'_>) -> bool {
        self.client_of(client).is_some_and(|known| self.decide(known, Access::Publish, topic))
    }

    fn may_receive(&self, client: &Client<'_>, topic: TopicName<'_>) -> bool {
        match self.client_of(client) {
            Some(known) => self.decide(known, Access::Receive, topic),
            // A session from before the start, whose account isn't known yet: it is asked again when its client is back.
            None => client.connection.is_none(),
        }
    }

    fn may_subscribe(&self, client: &Client<'_>, filter: SubscriptionFilter<'_>) -> bool {
        let Some(known) = self.client_of(client) else { return false };
        let decision = self.with_policy(known, |policy| policy.may_subscribe(filter.filter(), &known.policy.who()));
        if decision.allowed {
            self.claim(client, filter);
        } else {
            self.note_denial(&known.policy, Access::Subscribe, filter.filter().as_str(), decision);
        }
        decision.allowed
    }

    fn is_member(&self, client: &Client<'_>, group: &GroupName) -> bool {
        self.client_of(client).is_some_and(|known| known.policy.slot().is_member_of(group))
    }

    fn sessions_of(&self, user: &Username) -> Option<Vec<SessionId>> {
        let accounts = self.shared.gate.directory().slots_of(user);
        let known = accounts.iter().flat_map(|account| self.table.of(account));
        // Who had a token and isn't back has no account here.
        let strangers = self.restored.strangers(user.as_str()).filter(|session| self.table.get(*session).is_none());
        Some(known.chain(strangers).collect())
    }

    fn knows_sessions(&self) -> bool {
        self.restored.is_done()
    }

    fn published(&self, client: &Client<'_>, topic: TopicName<'_>, bytes: usize, deliveries: usize) {
        if let Some(counting) = &self.counting {
            counting.published(Some(client.client_id), topic, bytes, deliveries);
        }
    }

    fn pushed(&self, topic: TopicName<'_>, bytes: usize, deliveries: usize) {
        if let Some(counting) = &self.counting {
            counting.published(None, topic, bytes, deliveries);
        }
    }

    fn delivered(&self, topic: TopicName<'_>, deliveries: usize) {
        if let Some(counting) = &self.counting {
            counting.delivered(topic, deliveries);
        }
    }

    fn missed(&self, client: &Client<'_>, message: &Publication<'_>) {
        let Some(attendance) = self.shared.observers.attendance.as_ref().filter(|attendance| attendance.wants_missed()) else {
            return;
        };
        let Some(known) = self.client_of(client) else { return };
        let who = Who { user: known.policy.user().cloned(), client: known.policy.client().clone() };
        let told = message.payload.len() <= attendance.payload_bound();
        attendance.missed([Missed {
            who,
            topic: message.topic.as_str().into(),
            payload: told.then(|| message.payload.to_vec()),
            size: message.payload.len(),
            qos: message.qos as u8,
        }]);
    }
}

impl<K> LoopMind<K> {
    /// Returns whose rights count.
    ///
    /// While a client is being let in it has no session yet, or a connection that the session isn't known to have.
    #[inline]
    fn client_of(&self, client: &Client<'_>) -> Option<&table::Client> {
        let entry = self.table.get(client.session);
        if let Some(entry) = entry
            && (client.connection.is_none() || client.connection == entry.connection)
        {
            return Some(&entry.client);
        }
        self.arriving.as_ref().filter(|arriving| arriving.policy.client().as_str() == client.client_id)
    }

    #[inline]
    fn decide(&self, client: &table::Client, access: Access, topic: TopicName<'_>) -> bool {
        let text = topic.as_str();
        let decision = self.with_policy(client, |policy| {
            let mut latest = self.latest.borrow_mut();
            let known = latest.recall(policy, access, text.as_bytes());
            known.unwrap_or_else(|| latest.decide(policy, access, topic, Some(&client.policy.who())))
        });
        if !decision.allowed {
            self.note_denial(&client.policy, access, text, decision);
        }
        decision.allowed
    }

    /// Calls `decide` with what the client may do now.
    #[inline]
    fn with_policy(&self, client: &table::Client, decide: impl FnOnce(&Policy) -> Decision) -> Decision {
        let account = client.policy.account();
        let policy = account.policy();
        decide(if self.is_unruled(client.guest, policy) { &self.open_house } else { policy })
    }

    /// Returns whether all is allowed because nobody has said anything else.
    #[inline]
    pub(super) fn is_unruled(&self, guest: Guest, policy: &Policy) -> bool {
        guest != Guest::No && policy.origins().next().is_none() && self.shared.house.is_open()
    }

    /// Notes that the client itself has asked for a filter that a list has subscribed it to: from now on it is its own.
    fn claim(&self, client: &Client<'_>, filter: SubscriptionFilter<'_>) {
        let Some(entry) = self.table.get(client.session).filter(|entry| entry.automatic.is_some()) else { return };
        let text = filter.filter().as_str();
        let text = match filter.share_name() {
            Some(name) => format!("$share/{name}/{text}").into(),
            None => Box::from(text),
        };
        if entry.automatic().binary_search_by(|known| known.filter.cmp(&text)).is_ok() {
            self.claims.borrow_mut().push((client.session, text));
        }
    }

    /// Counts a denial, and logs some of them.
    #[cold]
    fn note_denial(&self, policy: &ClientPolicy, access: Access, topic: &str, decision: Decision) {
        let clock = self.shared.service.clock();
        let monotonic: Duration = clock.monotonic();
        self.shared.gate.denials().topic(policy, access, topic, decision, monotonic, || clock.now().unix);
        // A line about the log's own topic would make the next one.
        if !topic.starts_with("$SYS/") && self.denial_lines.may(monotonic) {
            let user = policy.user().map_or("-", Username::as_str);
            let client = policy.client().as_str();
            log::info!("denied user \"{}\" client \"{}\" to {access} \"{}\"", Shown(user), Shown(client), Shown(topic));
        }
    }
}
