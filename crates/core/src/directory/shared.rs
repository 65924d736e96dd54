//! Rules that many accounts share, and what is made of them.
//!
//! Users without rules of their own differ in their groups only: those of the same groups share one policy and one list of names.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::account::Part;
use crate::key::Key;
use crate::name::GroupName;
use crate::policy::Policy;
use crate::rules::RuleSet;

/// How many policies and lists are remembered for sharing; beyond it all are forgotten, and shared by who comes after.
const MAX_SHARED: usize = 4_096;

/// The rules of groups and of everyone.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) groups: HashMap<GroupName, Part<Arc<RuleSet>>>,
    pub(super) everyone: Part<Arc<RuleSet>>,
    policies: Mutex<HashMap<Box<[GroupName]>, Policy>>,
}

impl Clone for Shared {
    /// Copies the rules; policies have to be made anew of what they become.
    fn clone(&self) -> Self {
        Self { groups: self.groups.clone(), everyone: self.everyone.clone(), policies: Mutex::default() }
    }
}

impl Shared {
    /// Returns the policy of a user with these groups, and with the layer `own` before theirs.
    pub(super) fn policy(&self, superuser: bool, own: Option<(Key, Arc<RuleSet>)>, groups: &[GroupName]) -> Policy {
        if own.is_some() || superuser {
            return Policy::new(superuser, own.into_iter().chain(self.layers(groups)));
        }
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = policies.get(groups) {
            return policy.clone();
        }
        if policies.len() >= MAX_SHARED {
            policies.clear();
        }
        let policy = Policy::new(false, self.layers(groups));
        policies.insert(groups.into(), policy.clone());
        policy
    }

    fn layers(&self, groups: &[GroupName]) -> impl Iterator<Item = (Key, Arc<RuleSet>)> {
        let of_groups = groups.iter().filter_map(|group| self.groups.get_key_value(group));
        let of_groups = of_groups.map(|(name, part)| (Key::GroupAcl(name.clone()), part.value.clone()));
        // A set without rules decides nothing; kept, it would cost every account the room.
        of_groups.chain([(Key::AllAcl, self.everyone.value.clone())]).filter(|(_, rules)| rules.decides())
    }
}

/// Lists of groups as they stand in users' records.
#[derive(Debug, Default)]
pub(super) struct GroupLists(HashSet<Arc<[GroupName]>>);

impl GroupLists {
    /// Returns the list that all users of these groups share.
    pub(super) fn share(&mut self, list: Arc<[GroupName]>) -> Arc<[GroupName]> {
        if let Some(known) = self.0.get(&list) {
            return known.clone();
        }
        if self.0.len() >= MAX_SHARED {
            self.0.clear();
        }
        self.0.insert(list.clone());
        list
    }
}
