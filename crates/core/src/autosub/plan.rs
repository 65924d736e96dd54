//! What one client is subscribed to by all its lists.
//!
//! The list nearest to the client decides the options of a filter that several name: identifier, user, groups in their order,
//! everyone. A filter counts as the client's names make it, so two entries that become the same are one.

use std::collections::HashSet;

use super::{SubscribeOptions, SubscriptionList};
use crate::rules::Who;
use crate::topic::TopicFilter;

/// A subscription as it is made for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The filter with the client's names in it, with `$share/NAME/` where that was written; always a valid one.
    pub filter: Box<str>,
    /// What it asks for.
    pub options: SubscribeOptions,
}

/// What is taken into account for one client.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The names that stand in for placeholders.
    pub who: Who<'a>,
    /// What the client's listener puts before each of its topics; empty for most.
    pub mount: &'a str,
    /// How many subscriptions it gets at most.
    pub most: usize,
}

/// What one client is to be subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    list: Vec<Subscription>,
    /// How many were left out since the client may not subscribe to them.
    pub denied: usize,
    /// How many were left out at the bound: the last, by the nearness of their lists, then by their filters' bytes.
    pub beyond: usize,
    /// Whether all lists are known. If not, what is missing here is no reason to take a subscription away.
    pub complete: bool,
}

/// One thing to do where a session has other subscriptions than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// To be taken away.
    Remove(&'a Subscription),
    /// To be made: it wasn't there.
    Make(&'a Subscription),
    /// To be made again, with other options than it has.
    Renew(&'a Subscription),
}

impl Plan {
    /// Returns the plan of no list at all.
    #[must_use]
    pub fn none() -> Self {
        Self { complete: true, ..Self::default() }
    }

    /// Merges `lists`, the nearest to the client first; `may` says whether the client may subscribe to a filter.
    ///
    /// The plan is complete; whoever lacks a list says otherwise.
    #[must_use]
    pub fn merge<'l>(
        lists: impl IntoIterator<Item = &'l SubscriptionList>,
        terms: &Terms<'_>,
        mut may: impl FnMut(TopicFilter<'_>) -> bool,
    ) -> Self {
        let mut plan = Self::none();
        let mut seen: HashSet<Box<str>> = HashSet::new();
        for entry in lists.into_iter().flat_map(SubscriptionList::iter) {
            let Some(filter) = entry.expand(&terms.who).map(|filter| mounted(&filter, terms.mount)) else { continue };
            if !seen.insert(filter.clone()) {
                continue;
            }
            match TopicFilter::new(&filter) {
                Ok(judged) if may(judged) => {}
                _ => {
                    plan.denied += 1;
                    continue;
                }
            }
            if plan.list.len() < terms.most {
                plan.list.push(Subscription { filter, options: entry.options });
            } else {
                plan.beyond += 1;
            }
        }
        plan.list.sort_unstable_by(|one, other| one.filter.cmp(&other.filter));
        plan
    }

    /// Returns the subscriptions, in the order of their filters' bytes, each filter once.
    #[must_use]
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.list
    }

    /// Returns the subscriptions, as [`Self::subscriptions`] does.
    #[must_use]
    pub fn into_subscriptions(self) -> Vec<Subscription> {
        self.list
    }
}

/// Returns what leads from the subscriptions `before` to those `after`; both in the order of their filters' bytes.
#[must_use]
pub fn steps<'a>(before: &'a [Subscription], after: &'a [Subscription]) -> Vec<Step<'a>> {
    let (mut removed, mut made) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(old), Some(new)) => old.filter.cmp(&new.filter),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => break,
        };
        match order {
            std::cmp::Ordering::Less => removed.extend(old.next().map(Step::Remove)),
            std::cmp::Ordering::Greater => made.extend(new.next().map(Step::Make)),
            std::cmp::Ordering::Equal => {
                if let (Some(old), Some(new)) = (old.next(), new.next())
                    && old.options != new.options
                {
                    made.push(Step::Renew(new));
                }
            }
        }
    }
    removed.append(&mut made);
    removed
}

/// Returns `filter` behind a listener's mount point, which is no part of a share's name.
fn mounted(filter: &str, mount: &str) -> Box<str> {
    if mount.is_empty() {
        return filter.into();
    }
    let share = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    match share {
        Some((name, filter)) => format!("$share/{name}/{mount}{filter}").into(),
        None => format!("{mount}{filter}").into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(pairs: &[(&str, &str)]) -> SubscriptionList {
        let (list, flaws) =
            SubscriptionList::parse(&pairs.iter().map(|(f, o)| (f.as_bytes().to_vec(), o.as_bytes().to_vec())).collect());
        assert!(flaws.is_empty(), "{flaws:?}");
        list
    }

    fn terms(most: usize) -> Terms<'static> {
        Terms { who: Who { username: Some("ann"), client_id: "c1" }, mount: "", most }
    }

    fn shown(subscriptions: &[Subscription]) -> Vec<String> {
        subscriptions.iter().map(|one| format!("{} {}", one.filter, one.options)).collect()
    }

    #[test]
    fn the_nearest_list_decides_the_options() {
        let lists = [list(&[("c/%c", "2")]), list(&[("c/c1", "0"), ("u/%u", "1,nl")]), list(&[("u/ann", "2"), ("all", "1")])];
        let plan = Plan::merge(&lists, &terms(10), |_| true);
        assert_eq!(shown(plan.subscriptions()), ["all 1", "c/c1 2", "u/ann 1,nl"]);
        assert_eq!((plan.denied, plan.beyond, plan.complete), (0, 0, true));
    }

    #[test]
    fn what_the_client_may_not_or_cannot_have_is_left_out() {
        let lists = [list(&[("ok/#", "1"), ("no/#", "1"), ("$share/g/ok/x", "0"), ("x/%u", "1")])];
        let plan = Plan::merge(&lists, &terms(10), |filter| filter.as_str().starts_with("ok/"));
        assert_eq!(shown(plan.subscriptions()), ["$share/g/ok/x 0", "ok/# 1"]);
        assert_eq!(plan.denied, 2);
        let nameless = Terms { who: Who { username: None, client_id: "a/b" }, ..terms(10) };
        let plan = Plan::merge(&[list(&[("x/%u", "1"), ("x/%c", "1"), ("y", "1")])], &nameless, |_| true);
        assert_eq!(shown(plan.subscriptions()), ["y 1"]);
        let long = "x/".repeat(32_766) + "x%u";
        let plan = Plan::merge(&[list(&[(&long, "1")])], &terms(10), |_| true);
        assert_eq!((plan.subscriptions().len(), plan.denied), (0, 1), "longer than a filter can be");
    }

    #[test]
    fn the_bound_keeps_the_nearest() {
        let lists = [list(&[("z", "1"), ("y", "1")]), list(&[("a", "1"), ("y", "0"), ("b", "1")])];
        let plan = Plan::merge(&lists, &terms(3), |_| true);
        assert_eq!(shown(plan.subscriptions()), ["a 1", "y 1", "z 1"]);
        assert_eq!(plan.beyond, 1);
        assert_eq!(Plan::merge(&lists, &terms(0), |_| true).beyond, 4);
    }

    #[test]
    fn a_mount_point_stands_before_the_topics_and_behind_a_share() {
        let terms = Terms { mount: "dev/", ..terms(10) };
        let mut asked = Vec::new();
        let plan = Plan::merge(&[list(&[("a/%u", "1"), ("$share/g/b", "1")])], &terms, |filter| {
            asked.push(filter.as_str().to_owned());
            true
        });
        assert_eq!(shown(plan.subscriptions()), ["$share/g/dev/b 1", "dev/a/ann 1"]);
        assert_eq!(asked, ["dev/b", "dev/a/ann"]);
    }

    fn subscriptions() -> impl Strategy<Value = Vec<Subscription>> {
        proptest::collection::btree_map("[a-d]{1,2}", "[012](,nl)?", 0..8).prop_map(|map| {
            let parse =
                |(filter, options): (String, String)| Subscription { filter: filter.into(), options: options.parse().unwrap() };
            map.into_iter().map(parse).collect()
        })
    }

    proptest! {
        #[test]
        fn steps_lead_from_one_to_the_other(before in subscriptions(), after in subscriptions()) {
            let mut have = before.clone();
            for step in steps(&before, &after) {
                match step {
                    Step::Remove(one) => {
                        prop_assert!(have.contains(one));
                        have.retain(|held| held != one);
                    }
                    Step::Make(one) => {
                        prop_assert!(!have.iter().any(|held| held.filter == one.filter));
                        have.push(one.clone());
                    }
                    Step::Renew(one) => {
                        let held = have.iter_mut().find(|held| held.filter == one.filter);
                        prop_assert!(held.as_ref().is_some_and(|held| held.options != one.options));
                        held.unwrap().options = one.options;
                    }
                }
            }
            have.sort_unstable_by(|one, other| one.filter.cmp(&other.filter));
            prop_assert_eq!(have, after);
        }
    }
}
