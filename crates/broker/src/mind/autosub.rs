//! Brings a session's subscriptions in line with its lists and rules.
//!
//! What a list made, a list takes away; what the client asked for itself is taken by a rule alone.
//! A client that asks for a filter that a list gave it makes it its own. One that gives such a filter up has it again with its
//! next connection.

use std::hash::Hash;
use std::sync::Arc;

use midge_core::autosub::{Qos, RetainHandling, Step, SubscribeOptions, Subscription, steps};
use midge_core::directory::Standing;
use midge_core::gate::ClientPolicy;
use midge_core::time::Now;
use midge_core::topic::TopicFilter;
use midge_engine::permission::Turn;
use midge_engine::shard::{SessionId, Shard};
use midge_engine::tree::SubscriptionOptions;

use super::login::LoopMind;

/// The subscriptions that a session has, in the order of the filters' bytes.
struct Held(Vec<(Box<str>, SubscriptionOptions)>);

impl Held {
    fn of(session: SessionId, shard: &Shard) -> Self {
        let mut held = Vec::new();
        shard.subscriptions(session, |filter, options| held.push((filter.into(), options)));
        held.sort_unstable_by(|one: &(Box<str>, _), other| one.0.cmp(&other.0));
        Self(held)
    }

    fn find(&self, filter: &str) -> Option<SubscriptionOptions> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(filter)).ok()?;
        self.0.get(at).map(|(_, options)| *options)
    }
}

impl<K: Copy + Eq + Hash + Send + 'static> LoopMind<K> {
    /// Brings the subscriptions of a session in line with what its lists and rules say now.
    pub(super) fn reconcile(&mut self, session: SessionId, shard: &mut Shard, now: Now) {
        let held = Held::of(session, shard);
        let Some(entry) = self.table.get(session) else { return };
        // What the client gave up itself is no longer there to be taken away.
        let before = entry.automatic().iter().filter(|known| held.find(&known.filter).is_some()).cloned();
        let before: Vec<Subscription> = before.collect();
        self.lead(session, &held, &before, shard, now);
    }

    /// Does the same for a session from before the start, of which nobody knows what lists had made.
    ///
    /// What lists would make now, just as it is, counts as made by them.
    pub(super) fn reconcile_restored(&mut self, session: SessionId, shard: &mut Shard, now: Now) {
        let held = Held::of(session, shard);
        let Some(entry) = self.table.get(session) else { return };
        let plan = entry.client.policy.subscriptions(&self.shared.gate, "", self.shared.max_automatic).into_subscriptions();
        let before = plan.into_iter().filter(|one| held.find(&one.filter).is_some_and(|held| is_same(one.options, held)));
        let before: Vec<Subscription> = before.collect();
        self.lead(session, &held, &before, shard, now);
    }

    /// Takes over what clients have made their own; before anything that looks at lists.
    pub(super) fn settle_claims(&mut self) {
        for (session, filter) in self.claims.take() {
            let Some(entry) = self.table.get_mut(session) else { continue };
            let rest: Vec<Subscription> = entry.automatic().iter().filter(|known| known.filter != filter).cloned().collect();
            entry.automatic = (!rest.is_empty()).then(|| rest.into());
        }
    }

    /// Leads from what lists have made `before` to what they say now.
    fn lead(&mut self, session: SessionId, held: &Held, before: &[Subscription], shard: &mut Shard, now: Now) {
        let Some(entry) = self.table.get(session) else { return };
        let policy = &entry.client.policy;
        let account = policy.account();
        // Who is disabled for a while finds its subscriptions again; nothing is delivered to them meanwhile.
        let is_over = shard.session(policy.client().as_str()) != Some(session);
        if is_over || account.standing() != Standing::Active || !account.is_decided() {
            return;
        }
        // Clients that no rule is for may do everything, as long as they may stay.
        if self.is_unruled(entry.client.guest, account.policy()) {
            return;
        }
        let made_by_list = |filter: &str| before.binary_search_by(|known| (*known.filter).cmp(filter)).is_ok();
        for (filter, _) in &held.0 {
            if !made_by_list(filter) && !may_hold(policy, filter) {
                shard.unsubscribe(session, filter);
            }
        }
        let plan = policy.subscriptions(&self.shared.gate, "", self.shared.max_automatic);
        let complete = plan.complete;
        let mut after = plan.into_subscriptions();
        after.retain(|one| made_by_list(&one.filter) || held.find(&one.filter).is_none());
        let turn = Turn { now, permissions: &*self };
        let (mut kept, mut failed) = (Vec::new(), Vec::new());
        for step in steps(before, &after) {
            match step {
                // A list that isn't known is no reason to take anything away.
                Step::Remove(one) if !complete && may_hold(policy, &one.filter) => kept.push(one.clone()),
                Step::Remove(one) => {
                    shard.unsubscribe(session, &one.filter);
                }
                Step::Make(one) | Step::Renew(one) => {
                    if shard.subscribe(session, &as_packet(one), &turn).is_failure() {
                        failed.push(one.filter.clone());
                    }
                }
            }
        }
        after.retain(|one| !failed.contains(&one.filter));
        after.append(&mut kept);
        after.sort_unstable_by(|one, other| one.filter.cmp(&other.filter));
        self.keep(session, after);
    }

    /// Remembers what lists have made, once for all clients that have the same.
    fn keep(&mut self, session: SessionId, automatic: Vec<Subscription>) {
        let shared = match &self.followed.latest {
            _ if automatic.is_empty() => None,
            Some(latest) if **latest == *automatic => Some(latest.clone()),
            _ => {
                let list: Arc<[Subscription]> = automatic.into();
                self.followed.latest = Some(list.clone());
                Some(list)
            }
        };
        if let Some(entry) = self.table.get_mut(session) {
            entry.automatic = shared;
        }
    }
}

fn may_hold(policy: &ClientPolicy, filter: &str) -> bool {
    TopicFilter::new(filter).is_ok_and(|filter| policy.may_subscribe(filter).allowed)
}

fn qos_of(qos: Qos) -> midge_mqtt::QoS {
    match qos {
        Qos::AtMostOnce => midge_mqtt::QoS::AtMostOnce,
        Qos::AtLeastOnce => midge_mqtt::QoS::AtLeastOnce,
        Qos::ExactlyOnce => midge_mqtt::QoS::ExactlyOnce,
    }
}

fn as_packet(subscription: &Subscription) -> midge_mqtt::Subscription<'_> {
    let SubscribeOptions { qos, no_local, retain_as_published, retain_handling } = subscription.options;
    let retain_handling = match retain_handling {
        RetainHandling::Always => midge_mqtt::RetainHandling::Send,
        RetainHandling::IfNew => midge_mqtt::RetainHandling::SendIfNew,
        RetainHandling::Never => midge_mqtt::RetainHandling::DontSend,
    };
    midge_mqtt::Subscription { filter: &subscription.filter, qos: qos_of(qos), no_local, retain_as_published, retain_handling }
}

/// Returns whether a subscription with the options `held` may be one that a list made with `wanted`.
fn is_same(wanted: SubscribeOptions, held: SubscriptionOptions) -> bool {
    // The engine grants no more than it offers.
    let qos = held.qos() <= qos_of(wanted.qos);
    let rest = held.no_local() == wanted.no_local && held.retain_as_published() == wanted.retain_as_published;
    qos && rest && held.identifier().is_none()
}
