//! The subscription tree beside a list that is scanned.
//!
//! Filters come from few names and many wildcard patterns, so that shapes overflow, nodes burst and lists share filters.

use std::collections::BTreeMap;

use midge_core::topic::TopicName;
use midge_engine::hash::{HashKey, HashedTopic};
use midge_engine::tree::{
    Change, Counters, Matches, Pick, SubscriberId, SubscriptionFilter, SubscriptionOptions, SubscriptionTree, Target, home,
};
use midge_mqtt::{QoS, SubscriptionId};
use proptest::prelude::*;

type Model = BTreeMap<(String, SubscriberId), SubscriptionOptions>;

#[derive(Clone, Debug)]
enum Step {
    Subscribe(String, u32, SubscriptionOptions),
    Unsubscribe(String, u32),
    RemoveAll(u32),
    Online(u32, bool),
    Publish(String),
}

fn filters() -> impl Strategy<Value = String> {
    let level = prop_oneof![5 => "[ab]?", 4 => Just("+".to_owned()), 1 => Just("$s".to_owned())];
    let levels = prop_oneof![9 => 1..8usize, 1 => 30..36usize, 1 => 126..131usize];
    let filter = levels.prop_flat_map(move |levels| prop::collection::vec(level.clone(), levels));
    (filter, prop::bool::weighted(0.2), prop::option::weighted(0.2, "[gh]")).prop_filter_map("empty", |(levels, open, share)| {
        let filter = levels.join("/") + if open { "/#" } else { "" };
        let text = share.map_or(filter.clone(), |share| format!("$share/{share}/{filter}"));
        (!filter.is_empty() && SubscriptionFilter::new(&text).is_ok()).then_some(text)
    })
}

fn topics() -> impl Strategy<Value = String> {
    let levels = prop_oneof![9 => 1..8usize, 1 => 30..36usize, 1 => 126..131usize];
    let topic = levels.prop_flat_map(|levels| prop::collection::vec(prop_oneof![9 => "[ab]?", 1 => Just("$s".to_owned())], levels));
    topic.prop_map(|levels| levels.join("/")).prop_filter("empty", |topic| !topic.is_empty())
}

fn options() -> impl Strategy<Value = SubscriptionOptions> {
    (0..3u8, any::<bool>(), any::<bool>(), prop::option::of(1..9u32)).prop_map(|(qos, no_local, retain, id)| {
        let mut options = SubscriptionOptions::new(QoS::new(qos).expect("0 to 2"));
        if no_local {
            options = options.with_no_local();
        }
        if retain {
            options = options.with_retain_as_published();
        }
        id.map_or(options, |id| options.with_identifier(SubscriptionId::new(id).expect("in range")))
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let subscriber = 0..12u32;
    prop::collection::vec(
        prop_oneof![
            12 => (filters(), subscriber.clone(), options()).prop_map(|(f, s, o)| Step::Subscribe(f, s, o)),
            4 => (filters(), subscriber.clone()).prop_map(|(f, s)| Step::Unsubscribe(f, s)),
            1 => subscriber.clone().prop_map(Step::RemoveAll),
            1 => (subscriber, any::<bool>()).prop_map(|(s, online)| Step::Online(s, online)),
            4 => topics().prop_map(Step::Publish),
        ],
        1..250,
    )
}

/// Everything that matches: share name, filter, subscriber and options, in order.
type Found = Vec<(Option<String>, SubscriberId, SubscriptionOptions)>;

fn scan(model: &Model, topic: TopicName<'_>) -> Found {
    let parsed = |text| SubscriptionFilter::new(text).expect("a filter");
    let matching = model.iter().filter(|((text, _), _)| parsed(text).filter().matches(topic));
    let mut found: Found =
        matching.map(|((text, who), &options)| (parsed(text).share_name().map(str::to_owned), *who, options)).collect();
    found.sort_by_key(|found| format!("{found:?}"));
    found
}

fn ask(tree: &SubscriptionTree, topic: &HashedTopic<'_>, online: impl Fn(SubscriberId) -> bool) -> Found {
    let mut found = Found::new();
    tree.matches(topic, &mut |target| match target {
        Target::Subscribers(list) => found.extend(list.iter().map(|found| (None, found.subscriber, found.options))),
        Target::Group(group) => {
            let name = group.share_name().to_owned();
            for (at, member) in group.members().iter().enumerate() {
                assert_eq!(at < group.online(), online(member.subscriber));
                found.push((Some(name.clone()), member.subscriber, member.options));
            }
            let picked = group.pick(Pick::RoundRobin, |_| true).expect("a group has members");
            assert!(online(picked.subscriber) || group.online() == 0);
        }
    });
    found.sort_by_key(|found| format!("{found:?}"));
    found
}

fn check_publish(tree: &SubscriptionTree, key: &HashKey, model: &Model, offline: &[SubscriberId], topic: &str) {
    let topic = HashedTopic::new(key, TopicName::new(topic).expect("a topic name"));
    let expected = scan(model, topic.name());
    assert_eq!(ask(tree, &topic, |who| !offline.contains(&who)), expected, "{}", topic.name());
    assert!(tree.summary().may_match(&topic) || expected.is_empty(), "{}", topic.name());
    let publisher = SubscriberId(3);
    let mut matches = Matches::default();
    matches.collect(tree, &topic, Some(publisher), |_| {});
    let mut merged = BTreeMap::<_, (QoS, Vec<u32>)>::new();
    for (_, who, options) in expected.iter().filter(|(share, ..)| share.is_none()) {
        if *who != publisher || !options.no_local() {
            let (qos, identifiers) = merged.entry(*who).or_default();
            *qos = options.qos().max(*qos);
            identifiers.extend(options.identifier().map(SubscriptionId::value));
            identifiers.sort_unstable();
        }
    }
    let sorted = |mut ids: Vec<u32>| {
        ids.sort_unstable();
        ids
    };
    let deliveries = matches.deliveries().map(|delivery| {
        let identifiers = sorted(delivery.identifiers().map(SubscriptionId::value).collect());
        (delivery.subscriber(), (delivery.qos(), identifiers))
    });
    assert!(deliveries.eq(merged), "{}", topic.name());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn the_tree_answers_like_a_scan(crowded in any::<bool>(), steps in steps(), last in prop::collection::vec(topics(), 5)) {
        let key = HashKey::new([1, 2]);
        let mut tree = SubscriptionTree::new(key.clone());
        let mut model = Model::new();
        let mut offline = Vec::new();
        // These take all shapes, so that all other wildcard filters go to the burst trie.
        for levels in (1..=32).filter(|_| crowded) {
            let (text, who, options) = (vec!["+"; levels].join("/"), SubscriberId(11), SubscriptionOptions::new(QoS::AtMostOnce));
            tree.subscribe(SubscriptionFilter::new(&text).expect("a filter"), who, options);
            model.insert((text, who), options);
        }
        for step in steps {
            match step {
                Step::Subscribe(text, who, options) => {
                    let who = SubscriberId(who);
                    let filter = SubscriptionFilter::new(&text).expect("a filter");
                    let old = tree.subscribe(filter, who, options);
                    prop_assert_eq!(old, model.insert((text, who), options));
                }
                Step::Unsubscribe(text, who) => {
                    let who = SubscriberId(who);
                    let removed = tree.unsubscribe(SubscriptionFilter::new(&text).expect("a filter"), who);
                    prop_assert_eq!(removed, model.remove(&(text, who)).is_some());
                }
                Step::RemoveAll(who) => {
                    let who = SubscriberId(who);
                    prop_assert_eq!(tree.remove_all(who), model.extract_if(.., |(_, other), _| *other == who).count());
                }
                Step::Online(who, online) => {
                    let who = SubscriberId(who);
                    tree.set_online(who, online);
                    offline.retain(|&other| other != who);
                    if !online {
                        offline.push(who);
                    }
                }
                Step::Publish(topic) => check_publish(&tree, &key, &model, &offline, &topic),
            }
            // A subscriber without subscriptions is forgotten, and so is that it was away.
            offline.retain(|&who| tree.count_of(who) > 0);
            prop_assert_eq!(tree.counters().subscriptions, model.len());
        }
        for topic in &last {
            check_publish(&tree, &key, &model, &offline, topic);
        }
        for who in (0..12).map(SubscriberId) {
            let mut own = BTreeMap::new();
            tree.subscriptions_of(who, |share, filter, options| {
                let text = share.map_or(filter.to_owned(), |share| format!("$share/{share}/{filter}"));
                own.insert((text, who), options);
            });
            prop_assert!(own.iter().eq(model.iter().filter(|((_, other), _)| *other == who)));
            while tree.remove_some(who, 3) == 3 {}
        }
        let mut left = tree.counters();
        prop_assert!(left.nodes <= 1, "the root may stay");
        left.nodes = 0;
        prop_assert_eq!(left, Counters::default());
        let topic = HashedTopic::new(&key, TopicName::new("a/b").expect("a topic name"));
        prop_assert!(!tree.summary().may_match(&topic));
    }
}

#[test]
fn changes_do_what_the_calls_do() {
    let key = HashKey::new([1, 2]);
    let filter = "$share/g/a/+";
    let (one, two) = (SubscriberId::new(0, 1).unwrap(), SubscriberId::new(5, 1).unwrap());
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let add = |subscriber| Change::Add { filter: filter.into(), subscriber, options };
    let mut tree = SubscriptionTree::new(key.clone());
    for change in [add(one), add(two), Change::Online { subscriber: one, online: false }] {
        tree.apply(&change).unwrap();
    }
    let topic = HashedTopic::new(&key, TopicName::new("a/b").expect("a topic name"));
    assert_eq!(ask(&tree, &topic, |who| who != one).len(), 2);
    tree.apply(&Change::Remove { filter: filter.into(), subscriber: one }).unwrap();
    tree.apply(&Change::RemoveAll { subscriber: two }).unwrap();
    assert_eq!(tree.counters(), Counters::default());
    assert!(tree.apply(&Change::Remove { filter: "$share/g".into(), subscriber: one }).is_err());
    let parsed = SubscriptionFilter::new(filter).expect("a filter");
    let first = home(&key, parsed, 4).unwrap();
    assert!(first < 4 && home(&key, parsed, 4) == Some(first));
    assert_eq!(home(&key, SubscriptionFilter::new("a/+").expect("a filter"), 4), None);
}

#[test]
fn loops_share_summaries_and_own_trees() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn owned<T: Send>(_: &T) {}
    let key = HashKey::new([1, 2]);
    let mut tree = SubscriptionTree::new(key.clone());
    owned(&tree);
    let summary = tree.summary();
    shared(&summary);
    let may_match = |topic| summary.may_match(&HashedTopic::new(&key, TopicName::new(topic).unwrap()));
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    for (filter, topic) in [("a/b", "a/b"), ("c/+", "c/x"), ("$share/g/d/#", "d/x/y"), ("e/f/+/g/#", "e/f/1/g/2")] {
        let parsed = SubscriptionFilter::new(filter).unwrap();
        assert!(!may_match(topic), "{filter}");
        tree.subscribe(parsed, SubscriberId(1), options);
        assert!(may_match(topic) && !may_match("somewhere/else"), "{filter}");
        tree.unsubscribe(parsed, SubscriberId(1));
        assert!(!may_match(topic), "{filter}");
    }
}
