//! The members of a shared subscription, and whose turn it is.
//!
//! Members who are online come before the others; joining, leaving and changing between the two cost the same in a group of any size.

use std::cell::Cell;
use std::sync::Arc;

use super::subscription::{SubscriberId, Subscription, SubscriptionOptions};
use crate::sorted::{Keyed, SortedList};

/// Members that are asked before a message is given up on.
const MAX_ASKED: usize = 64;

/// How a member of a group is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// One after the other; as every pick goes to the member that waited longest, also the least recently used.
    RoundRobin,
    /// The member that this number leads to: random for a random number, steady for the hash of a publisher or topic.
    Number(u32),
}

/// A group found for a message.
#[derive(Clone, Copy, Debug)]
pub struct GroupRef<'a>(pub(crate) &'a Group);

impl<'a> GroupRef<'a> {
    /// Returns the share name.
    #[must_use]
    pub fn share_name(self) -> &'a str {
        &self.0.name
    }

    /// Returns the whole shared subscription as SUBSCRIBE carries it: `$share/NAME/FILTER`.
    #[must_use]
    pub fn path(self) -> &'a Arc<str> {
        &self.0.path
    }

    /// Returns the members: first those who are online.
    #[must_use]
    pub fn members(self) -> &'a [Subscription] {
        &self.0.members
    }

    /// Returns how many of the first members are online.
    #[must_use]
    pub fn online(self) -> usize {
        self.0.online
    }

    /// Returns the first member in the order of `pick` that is `usable`, online ones first.
    ///
    /// Asks at most 64 members who are online and 64 who are not.
    #[must_use]
    pub fn pick(self, pick: Pick, mut usable: impl FnMut(Subscription) -> bool) -> Option<Subscription> {
        let (online, offline) = self.0.members.split_at(self.0.online);
        [online, offline].into_iter().find_map(|members| {
            let start = match pick {
                Pick::RoundRobin => self.0.next.get(),
                Pick::Number(number) => number as usize,
            };
            let asked = members.len().min(MAX_ASKED);
            let (step, member) = (0..asked)
                .map(|step| (step, members[start.wrapping_add(step) % members.len()]))
                .find(|&(_, member)| usable(member))?;
            if pick == Pick::RoundRobin {
                self.0.next.set(start.wrapping_add(step + 1) % members.len());
            }
            Some(member)
        })
    }
}

/// One shared subscription.
#[derive(Debug)]
pub(crate) struct Group {
    /// The filter that the group belongs to.
    pub(crate) filter: u32,
    pub(crate) name: Arc<str>,
    path: Arc<str>,
    /// Online members, then the others.
    members: Vec<Subscription>,
    online: usize,
    places: SortedList<Place>,
    next: Cell<usize>,
}

/// Where in `members` a subscriber is.
#[derive(Clone, Copy, Debug)]
struct Place {
    subscriber: u32,
    at: u32,
}

impl Keyed for Place {
    fn key(&self) -> u32 {
        self.subscriber
    }
}

impl Group {
    pub(crate) fn new(filter: u32, name: Arc<str>, text: &str) -> Self {
        let path = format!("$share/{name}/{text}").into();
        Self { filter, name, path, members: Vec::new(), online: 0, places: SortedList::default(), next: Cell::new(0) }
    }

    /// Adds a member or replaces the options of one, which are returned.
    pub(crate) fn insert(&mut self, member: Subscription, online: bool) -> Option<SubscriptionOptions> {
        if let Some(at) = self.place(member.subscriber) {
            return Some(std::mem::replace(&mut self.members[at].options, member.options));
        }
        self.members.push(member);
        self.note(self.members.len() - 1);
        self.set_online(member.subscriber, online);
        None
    }

    pub(crate) fn remove(&mut self, subscriber: SubscriberId) -> bool {
        self.set_online(subscriber, false);
        let Some(at) = self.place(subscriber) else { return false };
        self.swap(at, self.members.len() - 1);
        self.members.pop();
        self.places.remove(subscriber.0);
        if self.members.capacity() > 8 && self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to(self.members.len() * 2);
        }
        true
    }

    pub(crate) fn set_online(&mut self, subscriber: SubscriberId, online: bool) {
        let Some(at) = self.place(subscriber) else { return };
        match (at < self.online, online) {
            (false, true) => {
                self.swap(at, self.online);
                self.online += 1;
            }
            (true, false) => {
                self.online -= 1;
                self.swap(at, self.online);
            }
            _ => {}
        }
    }

    pub(crate) fn options(&self, subscriber: SubscriberId) -> Option<SubscriptionOptions> {
        self.place(subscriber).map(|at| self.members[at].options)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn place(&self, subscriber: SubscriberId) -> Option<usize> {
        self.places.find(subscriber.0).map(|place| place.at as usize)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.members.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn note(&mut self, at: usize) {
        let subscriber = self.members[at].subscriber.0;
        let at = u32::try_from(at).expect("a group has at most one member for each 32 bit id");
        self.places.insert(Place { subscriber, at });
    }
}

#[cfg(test)]
mod tests {
    use midge_mqtt::QoS;

    use super::*;

    fn group(online: u32, offline: u32) -> Group {
        let mut group = Group::new(0, "g".into(), "f");
        for id in 0..online + offline {
            let options = SubscriptionOptions::new(QoS::AtLeastOnce);
            group.insert(Subscription { subscriber: SubscriberId(id), options }, id < online);
        }
        group
    }

    fn picks(group: &Group, count: usize) -> Vec<u32> {
        let pick = || GroupRef(group).pick(Pick::RoundRobin, |_| true).unwrap().subscriber.0;
        std::iter::repeat_with(pick).take(count).collect()
    }

    #[test]
    fn members_take_turns_and_online_ones_go_first() {
        let mut group = group(3, 2);
        assert_eq!(picks(&group, 6), [0, 1, 2, 0, 1, 2]);
        group.set_online(SubscriberId(0), false);
        let mut turn = picks(&group, 2);
        turn.sort_unstable();
        assert_eq!(turn, [1, 2]);
        for id in [1, 2] {
            group.set_online(SubscriberId(id), false);
        }
        let mut turn = picks(&group, 5);
        turn.sort_unstable();
        assert_eq!(turn, [0, 1, 2, 3, 4]);
        group.set_online(SubscriberId(4), true);
        assert_eq!(picks(&group, 2), [4, 4]);
    }

    #[test]
    fn refusing_members_are_passed_over() {
        let group = group(3, 1);
        let pick = |pick, usable: &[u32]| {
            GroupRef(&group).pick(pick, |member| usable.contains(&member.subscriber.0)).map(|member| member.subscriber.0)
        };
        assert_eq!(pick(Pick::RoundRobin, &[2]), Some(2));
        assert_eq!(pick(Pick::Number(7), &[0, 1, 2]), Some(1));
        assert_eq!(pick(Pick::Number(7), &[3]), Some(3));
        assert_eq!(pick(Pick::RoundRobin, &[]), None);
    }

    #[test]
    fn members_leave() {
        let mut group = group(50, 50);
        for id in (0..100).step_by(3) {
            assert!(group.remove(SubscriberId(id)));
            assert!(!group.remove(SubscriberId(id)));
        }
        assert_eq!((GroupRef(&group).members().len(), GroupRef(&group).online()), (66, 33));
        for id in 0..100 {
            group.remove(SubscriberId(id));
        }
        assert!(group.is_empty());
    }
}
