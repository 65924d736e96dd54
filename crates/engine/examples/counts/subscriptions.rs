//! Look-ups among 100,000 subscriptions and as many retained messages.
//!
//! Half of the filters are exact, half have one `+`; the topics asked for are scattered over all.

use std::hint::black_box;
use std::time::Duration;

use midge_core::topic::{TopicFilter, TopicName};
use midge_engine::hash::{HashKey, HashedTopic};
use midge_engine::retained::{Bounds, Cursor, Message, Retained};
use midge_engine::tree::{Matches, SubscriberId, SubscriptionFilter, SubscriptionOptions, SubscriptionTree};
use midge_mqtt::QoS;

use super::{OPERATIONS, Operation, Path, topics};

pub(super) const PATHS: &[Path] = &[
    ("match a topic, 100,000 subscriptions", || matching("")),
    ("match a topic that nobody wants, 100,000 subscriptions", || matching("x")),
    ("find a retained message, 100,000 topics", find),
    ("first retained message below a level, 100,000 topics", query),
];

const MANY: u32 = 100_000;

/// Topics of every hundredth device.
fn wanted(ending: &str) -> Vec<String> {
    (0..MANY).step_by(MANY as usize / OPERATIONS).map(|number| topics::topic(number) + ending).collect()
}

fn matching(ending: &str) -> Operation {
    let key = HashKey::new([1, 2]);
    let mut tree = SubscriptionTree::new(key.clone());
    for number in 0..MANY {
        let filter = topics::filter(number);
        let filter = SubscriptionFilter::new(&filter).expect("a filter");
        tree.subscribe(filter, SubscriberId(number), SubscriptionOptions::new(QoS::AtLeastOnce));
    }
    let (topics, mut matches) = (wanted(ending), Matches::default());
    let expected = ending.is_empty();
    Box::new(move |turn| {
        let topic = HashedTopic::new(&key, TopicName::new(black_box(&topics[turn])).expect("a topic name"));
        matches.collect(&tree, &topic, None, |_| {});
        assert_eq!(matches.deliveries().next().is_some(), expected);
    })
}

fn retained() -> Retained<u64> {
    let mut retained = Retained::new(Bounds { messages: usize::MAX, bytes: usize::MAX });
    for number in 0..MANY {
        let topic = topics::topic(number);
        let message = Message { value: number.into(), bytes: 64, expires: None };
        let replaced = retained.set(TopicName::new(&topic).expect("a topic name"), message, Duration::ZERO);
        assert_eq!(replaced, Ok(None), "each topic is another");
    }
    retained
}

fn find() -> Operation {
    let (retained, topics) = (retained(), wanted(""));
    Box::new(move |turn| {
        let topic = TopicName::new(black_box(&topics[turn])).expect("a topic name");
        assert!(retained.find(topic, Duration::ZERO).is_some());
    })
}

fn query() -> Operation {
    let retained = retained();
    Box::new(move |_| {
        let mut found = None;
        let mut cursor = Cursor::new(TopicFilter::new(black_box("org-7/#")).expect("a filter"));
        cursor.next_batch(&retained, 1, Duration::ZERO, |_, message| found = Some(message.value));
        assert!(black_box(found).is_some());
    })
}
