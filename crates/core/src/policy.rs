//! What one user may do, as an immutable snapshot.
//!
//! A policy is a list of rule sets that clients share: the user's, the groups', everyone's.
//! A denial in any of them beats every allowance, no rule means no, and a key that can't be read denies everything.
//! A check is a look-up in memory: it allocates nothing, takes no lock, and its work is bounded by the number of rules.

use std::sync::Arc;

use crate::access::Access;
use crate::key::Key;
use crate::rules::level::Levels;
use crate::rules::mask::Mask;
use crate::rules::{MAX_LEVELS, RuleSet};
use crate::topic::{TopicFilter, TopicName};

mod decision;
#[cfg(test)]
mod model;

pub use crate::rules::Who;
pub use decision::{Decision, Explanation, Reason};

/// What one user may do.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    superuser: bool,
    layers: Box<[Layer]>,
    /// The first layer that denies everything.
    closed: Option<u16>,
    /// The levels of the deepest rule.
    depth: usize,
}

#[derive(Clone, Debug)]
struct Layer {
    origin: Key,
    rules: Arc<RuleSet>,
    says: Mask,
}

/// Rules of fewer levels than this need little memory on the stack.
const SHALLOW: usize = 16;

/// Levels that are read at most: as many as rules may have, and whether there is one more.
const DEEP: usize = MAX_LEVELS + 1;

impl Policy {
    /// Returns the policy of a user from the rules that apply, each with the key that holds them.
    ///
    /// The order decides nothing but which rule an explanation names.
    #[must_use]
    pub fn new(superuser: bool, layers: impl IntoIterator<Item = (Key, Arc<RuleSet>)>) -> Self {
        let layers: Box<[Layer]> =
            layers.into_iter().map(|(origin, rules)| Layer { origin, says: rules.speaks(), rules }).collect();
        let closed = layers.iter().position(|layer| layer.rules.is_closed()).map(layer_number);
        let depth = layers.iter().map(|layer| layer.rules.depth()).max().unwrap_or(0);
        Self { superuser, layers, closed, depth }
    }

    /// Returns whether the user may do everything.
    #[must_use]
    pub fn is_superuser(&self) -> bool {
        self.superuser
    }

    /// Returns the keys that the policy was made from.
    pub fn origins(&self) -> impl Iterator<Item = &Key> {
        self.layers.iter().map(|layer| &layer.origin)
    }

    /// Decides whether the client may do `access` with `topic`. Allocates nothing.
    pub fn may(&self, access: Access, topic: TopicName<'_>, who: &Who<'_>) -> Decision {
        if let Some(decision) = self.without_rules(topic.as_str()) {
            return decision;
        }
        if self.depth < SHALLOW {
            self.search::<SHALLOW>(access, topic.as_str(), who)
        } else {
            self.search::<DEEP>(access, topic.as_str(), who)
        }
    }

    /// Decides whether the client may hold a subscription to `filter`. Allocates nothing.
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
        for (index, layer) in self.layers.iter().enumerate().filter(|(_, layer)| layer.says.meets(want)) {
            if let Some(rule) = layer.rules.overlap(&mut levels, who, want) {
                return Decision::denied(Reason::Rule { layer: layer_number(index), rule });
            }
        }
        let want = Mask::allow(Access::Subscribe);
        for (index, layer) in self.layers.iter().enumerate().filter(|(_, layer)| layer.says.meets(want)) {
            if let Some(rule) = layer.rules.search(&mut levels, who, want).allow {
                return Decision::allowed(Reason::Rule { layer: layer_number(index), rule });
            }
        }
        Decision::denied(Reason::NoRule)
    }

    /// Returns where a decision of this policy comes from; `None` where no key decided it.
    #[must_use]
    pub fn describe(&self, decision: Decision) -> Option<Explanation<'_>> {
        let (layer, number) = match decision.reason {
            Reason::Rule { layer, rule } => (layer, Some(rule)),
            Reason::Closed { layer } => (layer, None),
            Reason::Superuser | Reason::NoRule | Reason::TooManyLevels => return None,
        };
        let layer = self.layers.get(usize::from(layer))?;
        Some(Explanation { key: &layer.origin, rule: number.and_then(|number| layer.rules.rule(number)) })
    }

    fn without_rules(&self, topic: &str) -> Option<Decision> {
        if self.superuser {
            return Some(Decision::allowed(Reason::Superuser));
        }
        if let Some(layer) = self.closed {
            return Some(Decision::denied(Reason::Closed { layer }));
        }
        // Levels are at most one more than bytes, so almost no topic needs counting.
        let too_deep = topic.len() >= MAX_LEVELS && topic.bytes().filter(|byte| *byte == b'/').count() >= MAX_LEVELS;
        too_deep.then_some(Decision::denied(Reason::TooManyLevels))
    }

    fn search<const N: usize>(&self, access: Access, topic: &str, who: &Who<'_>) -> Decision {
        let mut levels = Levels::<N>::new(topic);
        let denials = Mask::deny(access);
        let mut want = denials.or(Mask::allow(access));
        let mut decision = Decision::denied(Reason::NoRule);
        for (index, layer) in self.layers.iter().enumerate() {
            if !layer.says.meets(want) {
                continue;
            }
            let found = layer.rules.search(&mut levels, who, want);
            if let Some(rule) = found.deny {
                return Decision::denied(Reason::Rule { layer: layer_number(index), rule });
            }
            if let Some(rule) = found.allow {
                decision = Decision::allowed(Reason::Rule { layer: layer_number(index), rule });
                // What one layer allows, a later one can only deny.
                want = denials;
            }
        }
        decision
    }
}

/// Returns the number that decisions name a layer by; nobody has so many groups that an explanation misses its layer.
fn layer_number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
