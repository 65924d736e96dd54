//! Whose automatic subscriptions match a topic, before Mosquitto 2.1.
//!
//! A tree of levels, so that a message costs its depth and the owners it goes to, however many filters there are.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use crate::plugin::sessions::address::AddressHasher;

/// The most levels that a filter may have: as many as a rule, and few enough for the stack.
const MAX_LEVELS: usize = 128;

type Addresses = HashSet<usize, BuildHasherDefault<AddressHasher>>;

/// Those who share one filter.
pub(super) struct Owners {
    /// The filter as it is written, with `$share/NAME/`.
    filter: Box<str>,
    addresses: Addresses,
    /// How many messages a share has had, which says whose turn it is.
    turns: usize,
}

#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    plain: Option<Owners>,
    /// By their filters as they are written.
    shares: HashMap<Box<str>, Owners>,
}

/// All filters with their owners' addresses.
#[derive(Default)]
pub(super) struct Index {
    root: Node,
    owned: usize,
}

impl Owners {
    /// Returns the filter.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// Returns whether a message goes to one of the owners only.
    pub(super) fn is_share(&self) -> bool {
        self.filter.starts_with("$share/")
    }

    /// Returns the owners' addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = usize> {
        self.addresses.iter().copied()
    }

    /// Returns a number that is the next one each time.
    pub(super) fn turn(&mut self) -> usize {
        self.turns = self.turns.wrapping_add(1);
        self.turns
    }
}

impl Index {
    /// Returns whether nobody owns anything.
    pub(super) fn is_empty(&self) -> bool {
        self.owned == 0
    }

    /// Makes `address` an owner of `filter`; returns whether it is one now: not of a filter with more than [`MAX_LEVELS`] levels.
    pub(super) fn insert(&mut self, filter: &str, address: usize) -> bool {
        if inner(filter).split('/').count() > MAX_LEVELS {
            return false;
        }
        let mut node = &mut self.root;
        for level in inner(filter).split('/') {
            node = node.children.entry(level.into()).or_default();
        }
        let owners = || Owners { filter: filter.into(), addresses: Addresses::default(), turns: 0 };
        let place = match filter.starts_with("$share/") {
            false => node.plain.get_or_insert_with(owners),
            true => node.shares.entry(filter.into()).or_insert_with(owners),
        };
        self.owned += usize::from(place.addresses.insert(address));
        true
    }

    /// Takes `filter` from `address`.
    pub(super) fn remove(&mut self, filter: &str, address: usize) {
        let levels: Vec<&str> = inner(filter).split('/').collect();
        if self.root.remove(&levels, filter, address) {
            self.owned -= 1;
        }
    }

    /// Calls `visit` with the owners of each filter that matches `topic`.
    pub(super) fn visit(&mut self, topic: &str, visit: &mut dyn FnMut(&mut Owners)) {
        let levels: Vec<&str> = topic.split('/').collect();
        self.root.visit(&levels, !topic.starts_with('$'), visit);
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.plain.is_none() && self.shares.is_empty()
    }

    fn visit(&mut self, levels: &[&str], wild: bool, visit: &mut dyn FnMut(&mut Owners)) {
        if wild && let Some(all) = self.children.get_mut("#") {
            all.hand_over(visit);
        }
        let Some((level, rest)) = levels.split_first() else { return self.hand_over(visit) };
        if let Some(child) = self.children.get_mut(*level) {
            child.visit(rest, true, visit);
        }
        if wild && let Some(any) = self.children.get_mut("+") {
            any.visit(rest, true, visit);
        }
    }

    fn hand_over(&mut self, visit: &mut dyn FnMut(&mut Owners)) {
        self.plain.iter_mut().chain(self.shares.values_mut()).for_each(visit);
    }

    fn remove(&mut self, levels: &[&str], filter: &str, address: usize) -> bool {
        if let Some((level, rest)) = levels.split_first() {
            let Some(child) = self.children.get_mut(*level) else { return false };
            let removed = child.remove(rest, filter, address);
            if child.is_empty() {
                self.children.remove(*level);
            }
            return removed;
        }
        let removed = |owners: &mut Owners| *owners.filter == *filter && owners.addresses.remove(&address);
        let found = self.plain.iter_mut().chain(self.shares.values_mut()).any(removed);
        self.plain.take_if(|owners| owners.addresses.is_empty());
        self.shares.retain(|_, owners| !owners.addresses.is_empty());
        found
    }
}

/// Returns the filter inside of a share.
fn inner(filter: &str) -> &str {
    filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')).map_or(filter, |(_, inner)| inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use midge_core::topic::{TopicFilter, TopicName};
    use proptest::prelude::*;

    use super::*;

    fn found(index: &mut Index, topic: &str) -> BTreeSet<(String, usize)> {
        let mut all = BTreeSet::new();
        index.visit(topic, &mut |owners| all.extend(owners.addresses().map(|address| (owners.filter().to_owned(), address))));
        all
    }

    #[test]
    fn a_deep_filter_is_refused() {
        let mut index = Index::default();
        assert!(!index.insert(&"a/".repeat(200), 1) && index.is_empty());
        assert!(index.insert("$share/g/a", 1) && !index.is_empty());
        index.remove("a", 1);
        assert!(!index.is_empty());
        index.remove("$share/g/a", 1);
        assert!(index.is_empty());
    }

    proptest! {
        #[test]
        fn finds_what_a_list_of_all_finds(
            changes in proptest::collection::vec((any::<bool>(), r"(\$share/g/)?(a|b|\+|\$x)(/(a|b|\+|))?(/#)?", 0_usize..3), 0..30),
            topic in r"(a|b|\$x)(/(a|b|))?(/a)?",
        ) {
            let mut index = Index::default();
            let mut list = BTreeSet::new();
            for (insert, filter, address) in changes {
                if insert {
                    prop_assert!(index.insert(&filter, address));
                    list.insert((filter, address));
                } else {
                    index.remove(&filter, address);
                    list.remove(&(filter, address));
                }
                prop_assert_eq!(index.is_empty(), list.is_empty());
            }
            let name = TopicName::new(&topic).unwrap();
            list.retain(|(filter, _)| TopicFilter::new(filter).unwrap().matches(name));
            prop_assert_eq!(found(&mut index, &topic), list);
            prop_assert_eq!(index.is_empty(), index.root.is_empty());
        }
    }
}
