//! Remembers the latest decisions, which a fan-out asks for again.
//!
//! A message is asked about by whoever publishes it and by each who receives it; where their rules are the same, and their names
//! have no part in it, one search decides for all of them.
//! What is remembered is kept with the policy that it came from, and says nothing about any other.

use super::{Decision, Policy, Who};
use crate::access::Access;
use crate::topic::TopicName;

/// Longer topics are decided each time.
const MAX_TOPIC: usize = 512;

/// The latest decisions of one thread: about publishing to one topic, and about being delivered a message of it.
#[derive(Debug, Default)]
pub struct Latest {
    /// Where the policy lies that was asked last: a decision is worth keeping only where one is asked twice in a row.
    asked: usize,
    topic: Vec<u8>,
    made: Option<(Policy, [Decision; 2])>,
}

/// What is asked about one message.
const MESSAGE: [Access; 2] = [Access::Publish, Access::Receive];

impl Latest {
    /// Returns what `policy` decided about the topic, if that was among the latest decisions.
    #[inline]
    #[must_use]
    pub fn recall(&self, policy: &Policy, access: Access, topic: &[u8]) -> Option<Decision> {
        let (made_by, decisions) = self.made.as_ref()?;
        if !made_by.is(policy) || self.topic != topic {
            return None;
        }
        MESSAGE.iter().zip(decisions).find(|(about, _)| **about == access).map(|(_, decision)| *decision)
    }

    /// Decides as [`Policy::may_all`] does, and remembers it where names have no part in it.
    #[inline]
    pub fn decide(&mut self, policy: &Policy, access: Access, topic: TopicName<'_>, who: Option<&Who<'_>>) -> Decision {
        let before = std::mem::replace(&mut self.asked, policy.place());
        let (text, place) = (topic.as_str().as_bytes(), MESSAGE.iter().position(|about| *about == access));
        let Some(place) = place.filter(|_| before == policy.place() && text.len() <= MAX_TOPIC) else {
            let [decision] = policy.may_all([access], topic, who);
            return decision;
        };
        let decisions = policy.may_all(MESSAGE, topic, who);
        if !decisions[place].personal {
            self.topic.clear();
            self.topic.extend_from_slice(text);
            match &mut self.made {
                Some((made_by, made)) if made_by.is(policy) => *made = decisions,
                made => *made = Some((policy.clone(), decisions)),
            }
        }
        decisions[place]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::key::Key;
    use crate::policy::Who;
    use crate::rules::RuleSet;
    use crate::topic::TopicName;

    fn policy() -> Policy {
        let rules = [("a/#", "r"), ("a/%u/x", "!r"), ("b/#", "p")];
        let rules = RuleSet::parse(&rules.iter().map(|(filter, rights)| ((*filter).into(), (*rights).into())).collect()).0;
        Policy::new(false, [(Key::AllAcl, Arc::new(rules))])
    }

    const WHO: Who<'_> = Who { username: Some("zoë"), client_id: "c1" };

    fn decide(latest: &mut Latest, policy: &Policy, access: Access, topic: &str) -> Decision {
        let decision = latest.decide(policy, access, TopicName::new(topic).unwrap(), Some(&WHO));
        let alone = policy.may(access, TopicName::new(topic).unwrap(), &WHO);
        assert_eq!((decision.allowed, decision.reason), (alone.allowed, alone.reason));
        decision
    }

    #[test]
    fn only_the_same_question_to_the_same_policy_is_recalled() {
        let (one, other) = (policy(), policy());
        let mut latest = Latest::default();
        let decision = decide(&mut latest, &one, Access::Receive, "b/c");
        assert_eq!(latest.recall(&one, Access::Receive, b"b/c"), None, "the policy has not been asked before");
        assert_eq!(decide(&mut latest, &one, Access::Receive, "b/c"), decision);
        assert_eq!(latest.recall(&one, Access::Receive, b"b/c"), Some(decision));
        assert_eq!(latest.recall(&one.clone(), Access::Receive, b"b/c"), Some(decision));
        for (policy, access, topic) in [
            (&other, Access::Receive, "b/c"),
            (&one, Access::Subscribe, "b/c"),
            (&one, Access::Receive, "b/"),
            (&one, Access::Receive, "b/d"),
        ] {
            assert_eq!(latest.recall(policy, access, topic.as_bytes()), None, "{access} {topic}");
        }
        // Who publishes is decided with those who receive.
        let publish = latest.recall(&one, Access::Publish, b"b/c");
        assert!(publish.is_some_and(|publish| publish.allowed) && !decision.allowed);
        assert_eq!(publish, Some(decide(&mut latest, &one, Access::Publish, "b/c")));
        let _ = (decide(&mut latest, &other, Access::Publish, "b/c"), decide(&mut latest, &other, Access::Publish, "b/c"));
        assert_eq!(latest.recall(&one, Access::Publish, b"b/c"), None);
        assert_eq!(latest.recall(&other, Access::Publish, b"b/c"), publish);
    }

    #[test]
    fn what_depends_on_names_is_not_kept() {
        let policy = policy();
        for (topic, kept) in [("a/zo\u{eb}/x", false), ("a/you/x", false), ("a", true), ("b", true), ("c", true)] {
            let mut latest = Latest::default();
            for _ in 0..2 {
                let _ = decide(&mut latest, &policy, Access::Receive, topic);
            }
            assert_eq!(latest.recall(&policy, Access::Receive, topic.as_bytes()).is_some(), kept, "{topic}");
        }
    }

    #[test]
    fn a_subscription_is_not_kept() {
        let (policy, mut latest) = (policy(), Latest::default());
        for _ in 0..2 {
            let _ = decide(&mut latest, &policy, Access::Subscribe, "b/c");
        }
        assert_eq!(Access::ALL.map(|access| latest.recall(&policy, access, b"b/c")), [None; 3]);
    }

    #[test]
    fn topics_beyond_the_bound_are_not_kept() {
        let (policy, mut latest) = (policy(), Latest::default());
        for length in [MAX_TOPIC, MAX_TOPIC + 1] {
            let topic = "b".repeat(length);
            for _ in 0..2 {
                let _ = decide(&mut latest, &policy, Access::Receive, &topic);
            }
            assert_eq!(latest.recall(&policy, Access::Receive, topic.as_bytes()).is_some(), length == MAX_TOPIC);
        }
    }
}
