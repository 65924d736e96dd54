//! Promise: subscriptions take a bounded number of bytes, and return them.
//!
//! Bytes are those asked of the allocator; what it adds to each block is not in them.

use std::time::Duration;

use allocation_counter::measure;
use midge_core::topic::TopicName;
use midge_engine::hash::{HashKey, HashedTopic};
use midge_engine::retained::{Bounds, Message, Retained};
use midge_engine::tree::{SubscriberId, SubscriptionFilter, SubscriptionOptions, SubscriptionTree};
use midge_mqtt::QoS;

#[path = "../benches/load/topics.rs"]
mod topics;

const MILLION: u32 = 1_000_000;

fn subscribe(tree: &mut SubscriptionTree, filter: &str, subscriber: u32) {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    tree.subscribe(SubscriptionFilter::new(filter).expect("a filter"), SubscriberId(subscriber), options);
}

fn unsubscribe(tree: &mut SubscriptionTree, filter: &str, subscriber: u32) {
    assert!(tree.unsubscribe(SubscriptionFilter::new(filter).expect("a filter"), SubscriberId(subscriber)));
}

/// Returns the bytes that `build` leaves allocated, and drops what it built.
fn held<T>(build: impl FnOnce() -> T) -> u64 {
    let mut built = None;
    let info = measure(|| built = Some(build()));
    drop(built);
    info.bytes_current.try_into().expect("more was allocated than freed")
}

#[test]
fn a_million_subscriptions_take_at_most_200_bytes_each() {
    for filters_each in [1, 10] {
        let bytes = held(|| {
            let mut tree = SubscriptionTree::new(HashKey::new([1, 2]));
            (0..MILLION).for_each(|number| subscribe(&mut tree, &topics::filter(number), number / filters_each));
            assert_eq!(tree.counters().filters, MILLION as usize);
            tree
        });
        println!("{} bytes for each of a million subscriptions, {filters_each} to a subscriber", bytes / u64::from(MILLION));
        assert!(bytes <= 200 * u64::from(MILLION), "{bytes}");
    }
}

#[test]
fn subscriptions_of_rare_shapes_take_at_most_220_bytes_each() {
    let bytes = held(|| {
        let mut tree = SubscriptionTree::new(HashKey::new([1, 2]));
        // These take all shapes, so that ordinary wildcard filters come to the burst trie.
        (0..32).for_each(|shape| subscribe(&mut tree, &vec!["+"; shape + 1].join("/"), 0));
        (0..MILLION).for_each(|number| subscribe(&mut tree, &topics::filter(number), number));
        assert_eq!(tree.counters().overflowed, MILLION as usize / 2);
        tree
    });
    println!("{} bytes for each of a million subscriptions, half in the burst trie", bytes / u64::from(MILLION));
    assert!(bytes <= 220 * u64::from(MILLION), "{bytes}");
}

#[test]
fn churn_leaves_no_bytes_behind() {
    let mut tree = SubscriptionTree::new(HashKey::new([1, 2]));
    let mut round = |start: u32| {
        measure(|| {
            for number in start..start + 20_000 {
                subscribe(&mut tree, &topics::filter(number), number % 500);
                subscribe(&mut tree, &format!("$share/g{}/{}", number % 7, topics::filter(number / 3)), number % 500);
                subscribe(
                    &mut tree,
                    &vec![["+", "a", "b"][number as usize % 3]; number as usize % 90 + 1].join("/"),
                    number + MILLION,
                );
                let bits = (0..14).map(|bit| if number >> bit & 1 == 0 { "+" } else { "x" });
                subscribe(&mut tree, &bits.collect::<Vec<_>>().join("/"), number + MILLION);
            }
            for number in start..start + 20_000 {
                unsubscribe(&mut tree, &topics::filter(number), number % 500);
                tree.remove_all(SubscriberId(number + MILLION));
            }
            (0..500).for_each(|subscriber| {
                tree.remove_all(SubscriberId(subscriber));
            });
            let counters = tree.counters();
            assert_eq!((counters.subscriptions, counters.filters, counters.groups, counters.subscribers), (0, 0, 0, 0));
            assert!(counters.nodes <= 1);
        })
        .bytes_current
    };
    // The first rounds differ in how many filters are the same.
    round(0);
    round(20_000);
    let later: i64 = (2..12).map(|number| round(number * 20_000)).sum();
    // Tables shrink by halves, so some slots more or less is chance.
    assert!(later.abs() < 64 * 1024, "{later} bytes more after ten rounds");
}

#[test]
fn a_bomb_takes_a_small_multiple_of_its_own_bytes() {
    let filters: Vec<String> = (0..10_000u32)
        .map(|number| {
            let tail: Vec<_> = (0..14).map(|bit| if number >> bit & 1 == 0 { "+" } else { "x" }).collect();
            // A long common way makes chains of nodes.
            format!("{}/{}", vec!["+"; 100].join("/"), tail.join("/"))
        })
        .collect();
    let own: usize = filters.iter().map(String::len).sum();
    let bytes = held(|| {
        let mut tree = SubscriptionTree::new(HashKey::new([1, 2]));
        filters.iter().for_each(|filter| subscribe(&mut tree, filter, 1));
        tree
    });
    println!("{bytes} bytes for a bomb of {own} bytes");
    assert!(bytes < 2 * own as u64 + 1_000_000, "{bytes} for {own}");
}

#[test]
fn matching_allocates_nothing() {
    let key = HashKey::new([1, 2]);
    let mut tree = SubscriptionTree::new(key.clone());
    (0..10_000).for_each(|number| subscribe(&mut tree, &topics::filter(number), number));
    let names: Vec<String> = (0..10_000).map(topics::topic).collect();
    let mut found = 0;
    let info = measure(|| {
        for name in &names {
            let topic = HashedTopic::new(&key, TopicName::new(name).expect("a topic name"));
            assert!(tree.summary().may_match(&topic));
            tree.matches(&topic, &mut |_| found += 1);
        }
    });
    assert_eq!((found, info.count_total), (10_000, 0));
}

#[test]
fn a_retained_message_takes_at_most_200_bytes_beside_its_content() {
    let bytes = held(|| {
        let mut retained = Retained::new(Bounds { messages: usize::MAX, bytes: usize::MAX });
        for number in 0..MILLION {
            let message = Message { value: [0u64; 2], bytes: 64, expires: None };
            retained.set(TopicName::new(&topics::topic(number)).expect("a topic name"), message, Duration::ZERO).unwrap();
        }
        retained
    });
    println!("{} bytes for each of a million retained messages", bytes / u64::from(MILLION));
    assert!(bytes <= 200 * u64::from(MILLION), "{bytes}");
}
