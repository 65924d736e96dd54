//! What one user may do, as an immutable snapshot.
//!
//! A policy is a list of rule sets that clients share: the user's, the groups', everyone's.
//! A denial in any of them beats every allowance, no rule means no, and a key that can't be read denies everything.
//! A check is a look-up in memory: it allocates nothing, takes no lock, and its work is bounded by the number of rules.

use std::sync::{Arc, LazyLock};

use crate::access::Access;
use crate::key::Key;
use crate::rules::level::Levels;
use crate::rules::mask::Mask;
use crate::rules::{MAX_LEVELS, RuleSet};
use crate::topic::{TopicFilter, TopicName};

mod decision;
mod latest;
#[cfg(test)]
mod model;

pub use crate::rules::Who;
pub use decision::{Decision, Explanation, Reason};
pub use latest::Latest;

/// What one user may do; users with the same rules can share one.
#[derive(Clone, Debug)]
pub struct Policy(Arc<Layers>);

#[derive(Debug, Default)]
struct Layers {
    superuser: bool,
    list: Box<[Layer]>,
    /// The first layer that denies everything.
    closed: Option<u16>,
    /// Whether some rule has more levels than a shallow search reads.
    deep: bool,
}

#[derive(Clone, Debug)]
struct Layer {
    origin: Key,
    rules: Arc<RuleSet>,
    says: Mask,
}

/// Rules of fewer levels than this need little memory on the stack.
const SHALLOW: usize = 8;

/// Levels that are read at most: as many as rules may have, and whether there is one more.
const DEEP: usize = MAX_LEVELS + 1;

impl Default for Policy {
    /// Returns the policy that allows nothing.
    fn default() -> Self {
        static NOTHING: LazyLock<Policy> = LazyLock::new(|| Policy(Arc::default()));
        NOTHING.clone()
    }
}

impl Policy {
    /// Returns the policy of a user from the rules that apply, each with the key that holds them.
    ///
    /// The order decides nothing but which rule an explanation names.
    #[must_use]
    pub fn new(superuser: bool, layers: impl IntoIterator<Item = (Key, Arc<RuleSet>)>) -> Self {
        let list: Box<[Layer]> = layers.into_iter().map(|(origin, rules)| Layer { origin, says: rules.speaks(), rules }).collect();
        let closed = list.iter().position(|layer| layer.rules.is_closed()).map(layer_number);
        let deep = list.iter().any(|layer| layer.rules.depth() >= SHALLOW);
        Self(Arc::new(Layers { superuser, list, closed, deep }))
    }

    /// Returns whether both are one in memory; if so, they decide the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns where the policy lies, as long as it lives.
    fn place(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// Returns whether the user may do everything.
    #[must_use]
    pub fn is_superuser(&self) -> bool {
        self.0.superuser
    }

    /// Returns the keys that the policy was made from.
    pub fn origins(&self) -> impl Iterator<Item = &Key> {
        self.0.list.iter().map(|layer| &layer.origin)
    }

    /// Decides whether the client may do `access` with `topic`. Allocates nothing.
    pub fn may(&self, access: Access, topic: TopicName<'_>, who: &Who<'_>) -> Decision {
        let [decision] = self.may_all([access], topic, Some(who));
        decision
    }

    /// Decides about several kinds of access in one search, which costs little more than one; where a client's names have a part
    /// in one of them, that is said of all.
    ///
    /// Without `who`, a decision in which names have no part holds for whoever asks, and any other says nothing.
    #[inline]
    pub fn may_all<const A: usize>(&self, accesses: [Access; A], topic: TopicName<'_>, who: Option<&Who<'_>>) -> [Decision; A] {
        let topic = topic.as_str();
        if let Some(decision) = self.without_rules(topic) {
            return [decision; A];
        }
        if self.0.deep { self.search_deep(accesses, topic, who) } else { self.search::<SHALLOW, A>(accesses, topic, who) }
    }

    /// Decides whether the client may hold a subscription to `filter`. Allocates nothing;
    /// that the client's names had a part in it is taken for granted.
    ///
    /// It may where a rule that allows to subscribe covers all of `filter`, and no rule that denies it shares a topic with
    /// `filter`: a subscription to `#` opens nothing that a denial closes.
    /// To let a client subscribe broadly and keep some of the messages from it, deny to receive them, not to subscribe.
    pub fn may_subscribe(&self, filter: TopicFilter<'_>, who: &Who<'_>) -> Decision {
        if let Some(decision) = self.without_rules(filter.as_str()) {
            return decision;
        }
        let want = Mask::deny(Access::Subscribe);
        let mut levels = Levels::<DEEP>::new(filter.as_str());
        for (index, layer) in self.0.list.iter().enumerate().filter(|(_, layer)| layer.says.meets(want)) {
            if let Some(rule) = layer.rules.overlapping(&mut levels, who, want) {
                return Decision::denied(Reason::Rule { layer: layer_number(index), rule }).personal(true);
            }
        }
        let want = Mask::allow(Access::Subscribe);
        for (index, layer) in self.0.list.iter().enumerate().filter(|(_, layer)| layer.says.meets(want)) {
            if let Some(rule) = layer.rules.covering(&mut levels, who, want).rule(want) {
                return Decision::allowed(Reason::Rule { layer: layer_number(index), rule }).personal(true);
            }
        }
        Decision::denied(Reason::NoRule).personal(true)
    }

    /// Returns where a decision of this policy comes from; `None` where no key decided it.
    #[must_use]
    pub fn describe(&self, decision: Decision) -> Option<Explanation<'_>> {
        let (layer, number) = match decision.reason {
            Reason::Rule { layer, rule } => (layer, Some(rule)),
            Reason::Closed { layer } => (layer, None),
            Reason::Superuser | Reason::NoRule | Reason::TooManyLevels => return None,
        };
        let layer = self.0.list.get(usize::from(layer))?;
        Some(Explanation { key: &layer.origin, rule: number.and_then(|number| layer.rules.rule(number)) })
    }

    fn without_rules(&self, topic: &str) -> Option<Decision> {
        if self.0.superuser {
            return Some(Decision::allowed(Reason::Superuser));
        }
        if let Some(layer) = self.0.closed {
            return Some(Decision::denied(Reason::Closed { layer }));
        }
        // Levels are at most one more than bytes, so almost no topic needs counting.
        let too_deep = topic.len() >= MAX_LEVELS && topic.bytes().filter(|byte| *byte == b'/').count() >= MAX_LEVELS;
        too_deep.then_some(Decision::denied(Reason::TooManyLevels))
    }

    #[inline(never)]
    fn search_deep<const A: usize>(&self, accesses: [Access; A], topic: &str, who: Option<&Who<'_>>) -> [Decision; A] {
        self.search::<DEEP, A>(accesses, topic, who)
    }

    #[inline]
    fn search<const N: usize, const A: usize>(&self, accesses: [Access; A], topic: &str, who: Option<&Who<'_>>) -> [Decision; A] {
        let mut levels = Levels::<N>::new(topic);
        let mut want = accesses.iter().fold(Mask::NONE, |want, access| want.or(Mask::about(*access)));
        let mut decisions = [Decision::denied(Reason::NoRule); A];
        let mut personal = false;
        for (index, layer) in self.0.list.iter().enumerate() {
            if !layer.says.meets(want) {
                continue;
            }
            let found = layer.rules.matching(&mut levels, who, want);
            personal |= found.personal;
            if found.personal && who.is_none() {
                break;
            }
            for (decision, access) in decisions.iter_mut().zip(accesses) {
                let by = |rule| Reason::Rule { layer: layer_number(index), rule };
                if let Some(rule) = found.rule(Mask::deny(access)) {
                    *decision = Decision::denied(by(rule));
                    want = want.without(Mask::about(access));
                } else if let Some(rule) = found.rule(Mask::allow(access)) {
                    *decision = Decision::allowed(by(rule));
                    // What one layer allows, a later one can only deny.
                    want = want.without(Mask::allow(access));
                }
            }
        }
        decisions.map(|decision| decision.personal(personal))
    }
}

/// Returns the number that decisions name a layer by; nobody has so many groups that an explanation misses its layer.
fn layer_number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Who<'_> = Who { username: Some("zoë"), client_id: "c1" };

    fn layer(rules: &[(&str, &str)]) -> Arc<RuleSet> {
        Arc::new(RuleSet::parse(&rules.iter().map(|(filter, rights)| ((*filter).into(), (*rights).into())).collect()).0)
    }

    fn policy(user: &[(&str, &str)], everyone: &[(&str, &str)]) -> Policy {
        Policy::new(false, [(Key::UserAcl("zoë".parse().unwrap()), layer(user)), (Key::AllAcl, layer(everyone))])
    }

    fn topic(text: &str) -> TopicName<'_> {
        TopicName::new(text).unwrap()
    }

    /// Returns the decision as `+` or `-` and the rule that made it.
    fn explained(policy: &Policy, decision: Decision) -> String {
        let by = policy.describe(decision).and_then(|explanation| explanation.rule);
        let by = by.map_or(decision.reason.to_string(), |rule| format!("{} {}", rule.filter, rule.rights));
        format!("{}{by}", if decision.allowed { "+" } else { "-" })
    }

    #[test]
    fn topics_are_decided() {
        let policy = policy(
            &[("a/#", "p"), ("$share/g/a/b", "r"), ("a/b", "p"), ("bad", "?"), ("own/%u/%c", "p"), ("%u/#", "p")],
            &[("a/secret/+", "!pr"), ("#", "r"), ("bad", "pr"), ("$SYS/uptime", "r"), ("0123456789-middle-0123456789", "p")],
        );
        for (access, name, expected) in [
            (Access::Publish, "a", "+a/# p"),
            (Access::Publish, "a/x/y", "+a/# p"),
            (Access::Publish, "a/secret/x", "-a/secret/+ !pr"),
            (Access::Receive, "a/secret/x", "-a/secret/+ !pr"),
            (Access::Receive, "a/b", "+$share/g/a/b r"),
            (Access::Receive, "a/secret", "+# r"),
            (Access::Receive, "bad", "-bad !prs"),
            (Access::Receive, "$SYS/uptime", "+$SYS/uptime r"),
            (Access::Receive, "$SYS/load", "-no rule allows it"),
            (Access::Publish, "own/zoë/c1", "+own/%u/%c p"),
            (Access::Publish, "own/zoë/c2", "-no rule allows it"),
            (Access::Publish, "zoë", "+%u/# p"),
            (Access::Publish, "0123456789-middle-0123456789", "+0123456789-middle-0123456789 p"),
            (Access::Publish, "0123456789-muddle-0123456789", "-no rule allows it"),
            (Access::Subscribe, "a", "-no rule allows it"),
        ] {
            assert_eq!(explained(&policy, policy.may(access, topic(name), &WHO)), expected, "{access} {name}");
        }
    }

    #[test]
    fn anybody_is_decided_where_names_have_no_part() {
        let policy = policy(&[("a/#", "p"), ("own/%u/#", "p"), ("b/+", "p")], &[("b/%c", "!p"), ("c", "!p")]);
        for (name, expected) in [
            ("a/x", Some("+a/# p")),
            ("c", Some("-c !p")),
            ("d", Some("-no rule allows it")),
            // What some names would match, whoever asks.
            ("own/zoë/x", None),
            ("own/other/x", None),
            ("b/x", None),
        ] {
            let [decision] = policy.may_all([Access::Publish], topic(name), None);
            assert_eq!((!decision.personal).then(|| explained(&policy, decision)).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn subscriptions_are_decided() {
        let policy =
            policy(&[("a/+", "s"), ("b/#", "s"), ("%u/#", "s")], &[("b/secret/#", "!s"), ("b/quiet/#", "!r"), ("+/x/%c", "!s")]);
        for (filter, expected) in [
            ("a/+", "+a/+ s"),
            ("a/b", "+a/+ s"),
            ("$share/g/a/b", "+a/+ s"),
            ("a/#", "-+/x/%c !s"),
            ("b/#", "-b/secret/# !s"),
            ("b/+", "-b/secret/# !s"),
            ("b/quiet/#", "+b/# s"),
            ("b/x/c2", "+b/# s"),
            ("b/x/c1", "-+/x/%c !s"),
            ("zoë/+/y", "+%u/# s"),
            ("#", "-+/x/%c !s"),
            ("$SYS/#", "-no rule allows it"),
            ("c", "-no rule allows it"),
        ] {
            let decision = policy.may_subscribe(TopicFilter::new(filter).unwrap(), &WHO);
            assert_eq!(explained(&policy, decision), expected, "{filter}");
        }
    }

    #[test]
    fn some_policies_need_no_rule() {
        let closed = || (Key::AllAcl, Arc::new(RuleSet::closed()));
        let user = || (Key::UserAcl("zoë".parse().unwrap()), layer(&[("#", "prs"), ("$SYS/#", "prs")]));
        for (policy, name, expected) in [
            (Policy::default(), "a", "-no rule allows it"),
            (Policy::new(true, []), "$SYS/a", "+superuser"),
            (Policy::new(true, [closed()]), "a", "+superuser"),
            (Policy::new(false, [user()]), "a", "+# prs"),
            (Policy::new(false, [user(), closed()]), "a", "-rules that can't be read"),
        ] {
            assert_eq!(explained(&policy, policy.may(Access::Publish, topic(name), &WHO)), expected);
            assert_eq!(explained(&policy, policy.may_subscribe(TopicFilter::new(name).unwrap(), &WHO)), expected);
        }
        let policy = Policy::new(false, [user(), closed()]);
        let explanation = policy.describe(policy.may(Access::Publish, topic("a"), &WHO)).unwrap();
        assert_eq!((explanation.key, explanation.rule), (&Key::AllAcl, None));
    }

    #[test]
    fn topics_beyond_the_bound_are_denied() {
        let policy = policy(&[("#", "prs")], &[("x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/#", "!p")]);
        for (levels, expected) in [
            (20, "+# prs"),
            (21, "-x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/# !p"),
            (256, "-x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/+/x/# !p"),
            (257, "-more than 256 levels"),
            (30_000, "-more than 256 levels"),
        ] {
            let name = vec!["x"; levels].join("/");
            assert_eq!(explained(&policy, policy.may(Access::Publish, topic(&name), &WHO)), expected, "{levels} levels");
        }
    }

    #[test]
    fn checks_allocate_nothing() {
        let deep = vec!["x"; 256].join("/");
        let policy = policy(
            &[("a/#", "ps"), ("own/%u/${clientid}-%u", "p"), (&deep, "p"), ("a-level-longer-than-sixteen/+", "p")],
            &[("+/%c/+/#", "!p"), ("a/secret/#", "!s")],
        );
        let long = vec!["x"; 1000].join("/");
        for name in ["a", "a/c1/x", "own/zoë/c1-zoë", "a-level-longer-than-sixteen/b", "$SYS/x", &deep, &long] {
            let (topic, filter) = (topic(name), TopicFilter::new(name).unwrap());
            let count = allocation_counter::measure(|| {
                for access in Access::ALL {
                    let decision = std::hint::black_box(&policy).may(access, topic, &WHO);
                    std::hint::black_box(policy.describe(decision));
                }
                let _ = std::hint::black_box(policy.may_subscribe(filter, &WHO));
            });
            assert_eq!(count.count_total, 0, "{name:.40}");
        }
        for filter in ["#", "a/+/+", "+/+/+/#", "own/+/+"] {
            let filter = TopicFilter::new(filter).unwrap();
            let count = allocation_counter::measure(|| {
                let _ = std::hint::black_box(policy.may_subscribe(filter, &WHO));
            });
            assert_eq!(count.count_total, 0, "{filter}");
        }
    }
}
