//! What matching, subscribing and leaving cost with a million subscriptions.
//!
//! Criterion's means come last; before them a table of percentiles, each operation timed alone (the clock's own 20 to 40 ns included).

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group};
use midge_core::topic::TopicName;
use midge_engine::hash::{HashKey, HashedTopic};
use midge_engine::tree::{Matches, SubscriberId, SubscriptionFilter, SubscriptionOptions, SubscriptionTree, Target};
use midge_mqtt::QoS;

#[path = "load/topics.rs"]
mod topics;

const MILLION: u32 = 1_000_000;

fn subscribe(tree: &mut SubscriptionTree, filter: &str, subscriber: u32) {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let filter = SubscriptionFilter::new(filter).expect("a filter");
    tree.subscribe(filter, SubscriberId(subscriber), options);
}

/// Counts the subscriptions that match, reading each.
fn count(tree: &SubscriptionTree, key: &HashKey, topic: &str) -> usize {
    let topic = HashedTopic::new(key, TopicName::new(topic).expect("a topic name"));
    let mut count = 0;
    tree.matches(&topic, &mut |target| {
        if let Target::Subscribers(list) = target {
            count += list.runs().flatten().filter(|found| black_box(found).subscriber.0 != u32::MAX).count();
        }
    });
    count
}

/// Times each call alone and prints percentiles in nanoseconds.
fn percentiles(name: &str, calls: impl Iterator<Item = impl FnOnce() -> usize>) {
    let mut found = 0;
    let mut times: Vec<u128> = calls
        .map(|call| {
            let start = Instant::now();
            found += black_box(call());
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000];
    println!("{name:<58} p50 {:>8} p99 {:>8} p99.9 {:>8} max {:>10} ns, {found} found", at(500), at(990), at(999), at(1000));
}

/// A number that jumps about, so that caches are cold.
fn scattered(number: u32) -> u32 {
    u32::try_from(u64::from(number) * 7_368_787 % u64::from(MILLION)).unwrap_or(0)
}

fn million(key: &HashKey, crowded: bool) -> SubscriptionTree {
    let mut tree = SubscriptionTree::new(key.clone());
    if crowded {
        // All shapes are taken: ordinary wildcard filters go to the burst trie.
        (0..32).for_each(|shape| subscribe(&mut tree, &vec!["+"; shape + 7].join("/"), 0));
    }
    let filters: Vec<String> = (0..MILLION).map(topics::filter).collect();
    let tree_cell = std::cell::RefCell::new(&mut tree);
    let calls = (0..MILLION).map(|number| {
        let (filters, tree) = (&filters, &tree_cell);
        move || {
            subscribe(&mut tree.borrow_mut(), &filters[number as usize], number);
            1
        }
    });
    percentiles(if crowded { "subscribe, all shapes taken" } else { "subscribe, up to a million" }, calls);
    tree
}

fn match_figures(name: &str, tree: &SubscriptionTree, key: &HashKey) {
    let names: Vec<String> = (0..200_000).map(|number| topics::topic(scattered(number))).collect();
    percentiles(&format!("match, {name}"), names.iter().map(|name| move || count(tree, key, name)));
    let misses: Vec<String> = names.iter().map(|name| format!("{name}x")).collect();
    percentiles(&format!("match nothing, {name}"), misses.iter().map(|name| move || count(tree, key, name)));
    let summary = tree.summary();
    let perhaps = |name: &str| {
        let topic = HashedTopic::new(key, TopicName::new(name).expect("a topic name"));
        usize::from(summary.may_match(&topic))
    };
    percentiles(&format!("summary of another loop: perhaps, {name}"), names.iter().map(|name| move || perhaps(name)));
    percentiles(&format!("summary of another loop: no, {name}"), misses.iter().map(|name| move || perhaps(name)));
}

fn unsubscribe_figures(mut tree: SubscriptionTree) {
    let filters: Vec<String> = (0..MILLION).map(|number| topics::filter(scattered(number))).collect();
    let tree = std::cell::RefCell::new(&mut tree);
    let calls = (0..MILLION).map(|number| {
        let (filters, tree) = (&filters, &tree);
        move || {
            let filter = SubscriptionFilter::new(&filters[number as usize]).expect("a filter");
            usize::from(tree.borrow_mut().unsubscribe(filter, SubscriberId(scattered(number))))
        }
    });
    percentiles("unsubscribe, a million to none", calls);
}

fn crowd_figures(key: &HashKey) {
    let mut tree = SubscriptionTree::new(key.clone());
    let filter = SubscriptionFilter::new("alarm/+/all").expect("a filter");
    let cell = std::cell::RefCell::new(&mut tree);
    let join = (0..100_000).map(|number| {
        let cell = &cell;
        move || {
            subscribe(&mut cell.borrow_mut(), "alarm/+/all", scattered(number));
            1
        }
    });
    percentiles("subscribe 100,000 to one filter", join);
    percentiles("match 100,000 subscribers of one filter", (0..200).map(|_| || count(&cell.borrow(), key, "alarm/x/all")));
    let mut matches = Matches::default();
    let matches = std::cell::RefCell::new(&mut matches);
    let merge = (0..200).map(|_| {
        || {
            let (tree, mut matches) = (cell.borrow(), matches.borrow_mut());
            let topic = HashedTopic::new(key, TopicName::new("alarm/x/all").expect("a topic name"));
            matches.collect(&tree, &topic, None, |_| {});
            matches.deliveries().filter(|found| black_box(found).qos() == QoS::AtLeastOnce).count()
        }
    });
    percentiles("the same, collected and merged", merge);
    let leave = (0..100_000).map(|number| {
        let cell = &cell;
        move || usize::from(cell.borrow_mut().unsubscribe(filter, SubscriberId(scattered(99_999 - number))))
    });
    percentiles("unsubscribe 100,000 from one filter", leave);

    let mut tree = SubscriptionTree::new(key.clone());
    let cell = std::cell::RefCell::new(&mut tree);
    let join = (0..100_000).map(|number| {
        let (cell, filter) = (&cell, topics::filter(scattered(number)));
        move || {
            subscribe(&mut cell.borrow_mut(), &filter, 7);
            1
        }
    });
    percentiles("subscribe one subscriber to 100,000 filters", join);
    percentiles("remove all of it, 100 at a time", (0..1001).map(|_| || cell.borrow_mut().remove_some(SubscriberId(7), 100)));
}

fn bomb_figures(key: &HashKey) {
    for levels in [6usize, 12, 16] {
        let mut tree = SubscriptionTree::new(key.clone());
        for number in 0..1u32 << levels {
            let filter: Vec<_> = (0..levels).map(|level| if number >> level & 1 == 0 { "+" } else { "a" }).collect();
            subscribe(&mut tree, &filter.join("/"), number % 100);
        }
        (0..128).for_each(|levels| subscribe(&mut tree, &(vec!["+"; levels].join("/") + "/#").replace("//", "/"), 7));
        let name = |level: &str| vec![level; levels].join("/");
        let all = name("a");
        percentiles(&format!("bomb of 2^{levels} filters: all match"), (0..50).map(|_| || count(&tree, key, &all)));
        let few = name("b");
        percentiles(&format!("bomb of 2^{levels} filters: + alone matches"), (0..10_000).map(|_| || count(&tree, key, &few)));
        let other = "org-1/site-7/device-1/temp";
        percentiles(&format!("bomb of 2^{levels} filters: an ordinary topic"), (0..10_000).map(|_| || count(&tree, key, other)));
    }
}

fn figures() {
    let key = HashKey::new([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344]);
    let tree = million(&key, false);
    match_figures("a million", &tree, &key);
    unsubscribe_figures(tree);
    let tree = million(&key, true);
    match_figures("a million, all shapes taken", &tree, &key);
    unsubscribe_figures(tree);
    crowd_figures(&key);
    bomb_figures(&key);
}

fn means(criterion: &mut Criterion) {
    let key = HashKey::new([1, 2]);
    let mut group = criterion.benchmark_group("match");
    for subscriptions in [100, MILLION] {
        let mut tree = SubscriptionTree::new(key.clone());
        (0..subscriptions).for_each(|number| subscribe(&mut tree, &topics::filter(number), number));
        let names: Vec<String> =
            (0..subscriptions.min(200_000)).map(|number| topics::topic(scattered(number) % subscriptions)).collect();
        let mut name = names.iter().cycle();
        group.bench_function(format!("{subscriptions} subscriptions"), |bencher| {
            bencher.iter(|| name.next().map(|name| count(&tree, &key, name)));
        });
    }
    let mut tree = SubscriptionTree::new(key.clone());
    (0..100).for_each(|number| subscribe(&mut tree, &topics::topic(number), number));
    let name = topics::topic(7);
    group.bench_function("100 subscriptions without wildcards", |bencher| bencher.iter(|| count(&tree, &key, &name)));
    let mut tree = SubscriptionTree::new(key.clone());
    (0..500).for_each(|number| subscribe(&mut tree, "fan/out", number));
    group.bench_function("500 subscribers of one filter", |bencher| bencher.iter(|| count(&tree, &key, "fan/out")));
    group.finish();
}

criterion_group!(benches, means);

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    figures();
    benches();
}
