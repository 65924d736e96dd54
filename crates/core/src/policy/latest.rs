//! Remembers the latest decision, which a fan-out asks for again.
//!
//! A message that goes to many clients of the same rules is decided once, unless their names have a part in it.
//! What is remembered is kept with the policy that it came from, and says nothing about any other.

use super::{Decision, Policy};
use crate::access::Access;

/// Longer topics are decided each time.
const MAX_TOPIC: usize = 512;

/// The latest decision of one thread.
#[derive(Debug, Default)]
pub struct Latest {
    /// Where the policy lies that was asked last: a decision is worth keeping only where one is asked twice in a row.
    asked: usize,
    topic: Vec<u8>,
    made: Option<(Policy, Access, Decision)>,
}

impl Latest {
    /// Returns what `policy` decided about the topic, if that was the latest decision.
    #[inline]
    #[must_use]
    pub fn recall(&self, policy: &Policy, access: Access, topic: &[u8]) -> Option<Decision> {
        let (made_by, made_for, decision) = self.made.as_ref()?;
        (made_by.is(policy) && *made_for == access && self.topic == topic).then_some(*decision)
    }

    /// Takes note of a decision of `policy`.
    pub fn note(&mut self, policy: &Policy, access: Access, topic: &[u8], decision: Decision) {
        if decision.personal || topic.len() > MAX_TOPIC {
            return;
        }
        if std::mem::replace(&mut self.asked, policy.place()) != policy.place() {
            return;
        }
        self.topic.clear();
        self.topic.extend_from_slice(topic);
        match &mut self.made {
            Some((made_by, made_for, made)) if made_by.is(policy) => (*made_for, *made) = (access, decision),
            made => *made = Some((policy.clone(), access, decision)),
        }
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

    fn decide(latest: &mut Latest, policy: &Policy, access: Access, topic: &str) -> Decision {
        let who = Who { username: Some("zoë"), client_id: "c1" };
        let decision = policy.may(access, TopicName::new(topic).unwrap(), &who);
        latest.note(policy, access, topic.as_bytes(), decision);
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
            (&one, Access::Publish, "b/c"),
            (&one, Access::Receive, "b/"),
            (&one, Access::Receive, "b/d"),
        ] {
            assert_eq!(latest.recall(policy, access, topic.as_bytes()), None, "{access} {topic}");
        }
        let allowed = decide(&mut latest, &one, Access::Publish, "b/c");
        assert!(allowed.allowed && !decision.allowed);
        assert_eq!(latest.recall(&one, Access::Publish, b"b/c"), Some(allowed));
        assert_eq!(latest.recall(&one, Access::Receive, b"b/c"), None);
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
