//! Finds the subscriptions that match a topic name.
//!
//! # How
//! * All filters lie in one hash table: exact ones under the hash of their text, wildcard ones under the hash of their literal levels and their shape (`tree::shape`). A topic name costs one look-up for itself and one for each shape that fits its number of levels, at most 32; none depends on another, so the processor overlaps them.
//! * Filters of further shapes, a subscription bomb for instance, go to a burst trie (`tree::burst`) that follows a wildcard only where one exists.
//! * The subscribers of a filter lie side by side, eight bytes each, sorted; a session knows its filters the same way. All cost is logarithmic in the size of the one list concerned.
//! * Nothing is ever rebuilt as a whole: tables split piecewise, slabs grow by pages. Emptied pages and the summary's layers are kept for reuse.
//! * Hashes are keyed. Every hit is confirmed by comparing text.
//!
//! # Memory
//! Measured at a million subscriptions, one to a subscriber and each with its own filter of 40 bytes: 178 bytes each, the summary's 17 included; 141 with ten to a subscriber.
//! The text of a filter is a small allocation of its own. An allocator that puts off joining small blocks (glibc with its fast bins) can stall for tens of milliseconds after a mass unsubscription: the process chooses one that doesn't, or turns them off.
//!
//! # Several loops
//! A server runs one loop for each core, and each loop owns its clients. Three ways were weighed, for n subscriptions of about 160 bytes, L loops and a match of m, 0.9 microseconds at a million:
//! * A full replica for each loop: n·L·160 bytes, 2.6 GB for two million subscriptions on 8 loops, and each SUBSCRIBE is work for all loops: a storm of a million takes L times its CPU. A publish costs m.
//! * One shared tree: n·160 bytes and m, but a reader must take a lock or chase pointers that a writer on another core just dirtied.
//! * **Each loop its own tree, and a [`Summary`] that all read**: n·160 bytes. A SUBSCRIBE stays on its loop, and the summary is changed before SUBACK. A publish costs m on the loops that have a match and a check of the summary, 0.15 to 0.25 m, for each other loop; matching happens where the sessions are, so no list of targets crosses cores, only the message, once for each loop.
//!
//! The third was taken. The exception are shared subscriptions: a group lives on one loop, its [`home`], whose tree holds members of any loop and learns of them by [`Change`]s.

mod burst;
mod change;
mod filter;
mod group;
mod matches;
mod shape;
mod subscribers;
mod subscription;
mod summary;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use change::{Change, home};
pub use filter::SubscriptionFilter;
pub use group::{GroupRef, Pick};
pub use matches::{Delivery, Matches};
pub use subscription::{SubscriberId, Subscription, SubscriptionOptions};
pub use summary::Summary;

use self::burst::BurstTrie;
use self::group::Group;
use self::shape::{FilterKey, Shape, Shapes};
use self::subscribers::{Reference, Subscribers};
use self::summary::{MAX_PREFIX, SummaryWriter};
use crate::hash::{HashKey, HashedTopic};
use crate::slab::Slab;
use crate::sorted::SortedList;
use crate::table::IdTable;

/// What a topic name matched.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The subscribers of one topic filter.
    Subscribers(SubscriberList<'a>),
    /// A shared subscription, of which one member gets the message.
    Group(GroupRef<'a>),
}

/// The subscribers of one topic filter, in ascending order.
#[derive(Clone, Copy, Debug)]
pub struct SubscriberList<'a>(&'a SortedList<Subscription>);

impl<'a> SubscriberList<'a> {
    /// Returns the subscribers in runs that lie side by side.
    pub fn runs(self) -> impl Iterator<Item = &'a [Subscription]> {
        self.0.runs()
    }

    /// Returns the subscribers one by one.
    pub fn iter(self) -> impl Iterator<Item = Subscription> {
        self.0.iter()
    }
}

/// What is in a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Subscriptions, those in groups included.
    pub subscriptions: usize,
    /// Subscribers with at least one subscription.
    pub subscribers: usize,
    /// Distinct topic filters.
    pub filters: usize,
    /// Shared subscriptions.
    pub groups: usize,
    /// Shapes of wildcard filters that are looked up directly, at most 32.
    pub shapes: usize,
    /// Topic filters beyond these shapes.
    pub overflowed: usize,
    /// Nodes that these take.
    pub nodes: usize,
    /// Bytes of the distinct topic filters.
    pub filter_bytes: usize,
}

/// The subscriptions of one loop's sessions, and the groups at home there.
#[derive(Debug)]
pub struct SubscriptionTree {
    key: HashKey,
    filters: Slab<Filter>,
    table: IdTable,
    shapes: Shapes,
    rest: BurstTrie,
    overflowed: usize,
    filter_bytes: usize,
    groups: Slab<Group>,
    subscribers: Subscribers,
    subscriptions: usize,
    summary: SummaryWriter,
}

#[derive(Debug)]
struct Filter {
    text: Box<str>,
    subscribers: SortedList<Subscription>,
    /// The groups of this filter by share name.
    #[expect(clippy::box_collection, reason = "few of a million filters are shared, and the box is 16 bytes less")]
    groups: Option<Box<BTreeMap<Arc<str>, u32>>>,
    index: Index,
    /// Where the summary keeps it.
    layer: u8,
}

/// How a topic name gets to the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Index {
    Text,
    /// By the shape in this slot.
    Shape(u8),
    Rest,
}

impl SubscriptionTree {
    /// Returns an empty tree; all loops of a server share one `key`.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self {
            key,
            filters: Slab::default(),
            table: IdTable::default(),
            shapes: Shapes::default(),
            rest: BurstTrie::default(),
            overflowed: 0,
            filter_bytes: 0,
            groups: Slab::default(),
            subscribers: Subscribers::default(),
            subscriptions: 0,
            summary: SummaryWriter::default(),
        }
    }

    /// Returns the summary that tells other loops what this tree can match; it follows all changes.
    #[must_use]
    pub fn summary(&self) -> Arc<Summary> {
        self.summary.shared()
    }

    /// Adds a subscription, or replaces the one of this subscriber to this filter and returns its options.
    pub fn subscribe(
        &mut self,
        filter: SubscriptionFilter<'_>,
        subscriber: SubscriberId,
        options: SubscriptionOptions,
    ) -> Option<SubscriptionOptions> {
        let text = filter.filter().as_str();
        let key = FilterKey::new(&self.key, text);
        let id = self.find(key, text).unwrap_or_else(|| self.add_filter(key, text));
        let subscription = Subscription { subscriber, options };
        let (reference, old) = match filter.share_name() {
            None => (Reference::Filter(id), self.filter_mut(id).subscribers.insert(subscription).map(|old| old.options)),
            Some(name) => {
                let group = self.find_group(id, name).unwrap_or_else(|| self.add_group(id, name));
                let online = self.subscribers.is_online(subscriber);
                (Reference::Group(group), self.group_mut(group).insert(subscription, online))
            }
        };
        if old.is_none() {
            self.subscribers.add(subscriber, reference);
            self.subscriptions += 1;
        }
        old
    }

    /// Removes a subscription; returns whether there was one.
    pub fn unsubscribe(&mut self, filter: SubscriptionFilter<'_>, subscriber: SubscriberId) -> bool {
        let text = filter.filter().as_str();
        let Some(id) = self.find(FilterKey::new(&self.key, text), text) else { return false };
        let reference = match filter.share_name() {
            None => Reference::Filter(id),
            Some(name) => match self.find_group(id, name) {
                Some(group) => Reference::Group(group),
                None => return false,
            },
        };
        self.leave(subscriber, reference)
    }

    /// Removes all subscriptions of a subscriber and returns their number.
    pub fn remove_all(&mut self, subscriber: SubscriberId) -> usize {
        self.remove_some(subscriber, usize::MAX)
    }

    /// Removes at most `limit` subscriptions of a subscriber and returns their number: fewer means all.
    ///
    /// A session with a hundred thousand of them is removed in pieces, so that its loop does not stall.
    pub fn remove_some(&mut self, subscriber: SubscriberId, limit: usize) -> usize {
        let references: Vec<_> = self.subscribers.references(subscriber).take(limit).collect();
        references.into_iter().filter(|&reference| self.leave(subscriber, reference)).count()
    }

    /// Notes whether a subscriber is connected: its groups prefer members who are.
    ///
    /// A subscriber is taken to be connected until this says otherwise, and again once it has no subscription left.
    pub fn set_online(&mut self, subscriber: SubscriberId, online: bool) {
        if self.subscribers.is_online(subscriber) == online {
            return;
        }
        self.subscribers.set_online(subscriber, online);
        let groups: Vec<u32> = self.subscribers.groups(subscriber).collect();
        for group in groups {
            self.group_mut(group).set_online(subscriber, online);
        }
    }

    /// Calls `found` with the subscribers of each filter that matches and with each group.
    ///
    /// A subscriber comes once for each of its filters that match; [`Matches`] brings these together.
    pub fn matches<'t>(&'t self, topic: &HashedTopic<'_>, found: &mut impl FnMut(Target<'t>)) {
        let name = topic.name().as_str();
        if let Some(id) = self.table.find(topic.text(), |id| *self.filter(id).text == *name) {
            self.report(self.filter(id), found);
        }
        if self.shapes.len() > 0 {
            let levels = topic.levels();
            for (slot, shape) in self.shapes.fitting(levels.count()) {
                let equal = |id| {
                    let filter = self.filter(id);
                    filter.index == Index::Shape(slot) && filter::matches(&filter.text, name)
                };
                if let Some(id) = self.table.find(shape.hash_topic(levels), equal) {
                    self.report(self.filter(id), found);
                }
            }
        }
        if self.overflowed > 0 {
            self.rest.candidates(topic.levels(), topic.name().is_reserved(), &mut |id| {
                let filter = self.filter(id);
                if filter::matches(&filter.text, name) {
                    self.report(filter, found);
                }
            });
        }
    }

    /// Calls `found` with the share name, topic filter and options of each subscription of a subscriber.
    pub fn subscriptions_of(&self, subscriber: SubscriberId, mut found: impl FnMut(Option<&str>, &str, SubscriptionOptions)) {
        for reference in self.subscribers.references(subscriber) {
            match reference {
                Reference::Filter(id) => {
                    let filter = self.filter(id);
                    if let Some(subscription) = filter.subscribers.find(subscriber.0) {
                        found(None, &filter.text, subscription.options);
                    }
                }
                Reference::Group(id) => {
                    let group = self.group(id);
                    if let Some(options) = group.options(subscriber) {
                        found(Some(&group.name), &self.filter(group.filter).text, options);
                    }
                }
            }
        }
    }

    /// Returns how many subscriptions a subscriber has.
    #[must_use]
    pub fn count_of(&self, subscriber: SubscriberId) -> usize {
        self.subscribers.count(subscriber)
    }

    /// Returns how much was looked at for topics whose cost isn't the same for all, ever; differences count.
    #[must_use]
    pub(crate) fn work(&self) -> u64 {
        self.rest.visited()
    }

    /// Returns what is in the tree.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            subscriptions: self.subscriptions,
            subscribers: self.subscribers.len(),
            filters: self.filters.len(),
            groups: self.groups.len(),
            shapes: self.shapes.len(),
            overflowed: self.overflowed,
            nodes: self.rest.len(),
            filter_bytes: self.filter_bytes,
        }
    }

    fn report<'t>(&'t self, filter: &'t Filter, found: &mut impl FnMut(Target<'t>)) {
        if !filter.subscribers.is_empty() {
            found(Target::Subscribers(SubscriberList(&filter.subscribers)));
        }
        for &group in filter.groups.iter().flat_map(|groups| groups.values()) {
            found(Target::Group(GroupRef(self.group(group))));
        }
    }

    fn leave(&mut self, subscriber: SubscriberId, reference: Reference) -> bool {
        let (id, left) = match reference {
            Reference::Filter(id) => (id, self.filter_mut(id).subscribers.remove(subscriber.0).is_some()),
            Reference::Group(group) => (self.group(group).filter, self.group_mut(group).remove(subscriber)),
        };
        if !left {
            return false;
        }
        self.subscribers.remove(subscriber, reference);
        self.subscriptions -= 1;
        if let Reference::Group(group) = reference
            && self.group(group).is_empty()
        {
            self.remove_group(group);
        }
        let filter = self.filter(id);
        if filter.subscribers.is_empty() && filter.groups.is_none() {
            self.remove_filter(id);
        }
        true
    }

    fn find(&self, key: FilterKey, text: &str) -> Option<u32> {
        self.table.find(key.hash(), |id| *self.filter(id).text == *text)
    }

    fn add_filter(&mut self, key: FilterKey, text: &str) -> u32 {
        let index = match key {
            FilterKey::Exact(_) => Index::Text,
            FilterKey::Shaped(_, shape) => self.shapes.add(shape).map_or(Index::Rest, Index::Shape),
            FilterKey::Deep(_) => Index::Rest,
        };
        let filter = Filter { text: text.into(), subscribers: SortedList::Empty, groups: None, index, layer: 0 };
        let id = self.filters.insert(filter);
        self.filter_bytes += text.len();
        self.table.insert(key.hash(), id);
        let layer = match (index, key) {
            (Index::Rest, _) => {
                self.overflowed += 1;
                let path_of =
                    |other| BurstTrie::path(&self.key, &self.filters.get(other).expect("filters outlive their nodes").text);
                self.rest.insert(id, &BurstTrie::path(&self.key, text), path_of);
                let (levels, hash) = self.prefix(text);
                let layer = self.summary.add(hash);
                self.summary.add_prefix(levels);
                layer
            }
            (Index::Shape(slot), FilterKey::Shaped(hash, shape)) => {
                let layer = self.summary.add(hash);
                self.summary.set_shape(slot, Some(shape));
                layer
            }
            _ => self.summary.add(key.hash()),
        };
        self.filter_mut(id).layer = layer;
        id
    }

    fn remove_filter(&mut self, id: u32) {
        let filter = self.filters.remove(id).expect("the caller found it");
        self.filter_bytes -= filter.text.len();
        let key = FilterKey::new(&self.key, &filter.text);
        self.table.remove(key.hash(), id);
        match filter.index {
            Index::Rest => {
                self.overflowed -= 1;
                self.rest.remove(id, &BurstTrie::path(&self.key, &filter.text));
                let (levels, hash) = self.prefix(&filter.text);
                self.summary.remove_prefix(levels);
                self.summary.remove(hash, filter.layer);
            }
            Index::Shape(slot) => {
                if self.shapes.remove(slot) {
                    self.summary.set_shape(slot, None);
                }
                self.summary.remove(key.hash(), filter.layer);
            }
            Index::Text => self.summary.remove(key.hash(), filter.layer),
        }
    }

    /// Returns what stands for a filter of a rare shape in the summary: its first literal levels.
    fn prefix(&self, text: &str) -> (u8, u64) {
        let literal = text.split('/').take_while(|&level| level != "+" && level != "#").take(MAX_PREFIX);
        let (levels, sum) = literal.fold((0u8, 0u64), |(position, sum), level| {
            (position + 1, sum.wrapping_add(self.key.level(usize::from(position), level)))
        });
        (levels, Shape::prefix(levels).hash_sum(sum))
    }

    fn find_group(&self, filter: u32, name: &str) -> Option<u32> {
        self.filter(filter).groups.as_ref()?.get(name).copied()
    }

    fn add_group(&mut self, filter: u32, name: &str) -> u32 {
        let name: Arc<str> = name.into();
        let group = Group::new(filter, Arc::clone(&name), &self.filter(filter).text);
        let id = self.groups.insert(group);
        self.filter_mut(filter).groups.get_or_insert_default().insert(name, id);
        id
    }

    fn remove_group(&mut self, id: u32) {
        let group = self.groups.remove(id).expect("the caller found it");
        let filter = self.filter_mut(group.filter);
        if let Some(groups) = &mut filter.groups {
            groups.remove(&group.name);
            if groups.is_empty() {
                filter.groups = None;
            }
        }
    }

    #[inline]
    fn filter(&self, id: u32) -> &Filter {
        self.filters.get(id).expect("a filter leaves the table and its subscribers before the slab")
    }

    fn filter_mut(&mut self, id: u32) -> &mut Filter {
        self.filters.get_mut(id).expect("a filter leaves the table and its subscribers before the slab")
    }

    fn group(&self, id: u32) -> &Group {
        self.groups.get(id).expect("a group leaves its filter and its members before the slab")
    }

    fn group_mut(&mut self, id: u32) -> &mut Group {
        self.groups.get_mut(id).expect("a group leaves its filter and its members before the slab")
    }
}
