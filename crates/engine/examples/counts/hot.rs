//! What a publish adds to the hot topics.

use std::hint::black_box;
use std::sync::Arc;

use midge_core::hot::{Arrival, Capacity, Counter, Published, RollUp, Seed, Tally};
use midge_core::topic::TopicName;

use super::{OPERATIONS, Operation, Path, topics};

pub(super) const PATHS: &[Path] = &[
    ("count a publish, 1,000 topics", || publish(&[])),
    ("count a publish, 1,000 topics beside a pattern", || publish(&["v2/+/+/state"])),
    ("count one more delivery", delivery),
];

fn counter(seed: &Seed, patterns: &[&str]) -> Counter {
    let roll_up = Arc::new(RollUp::new(patterns).expect("a pattern"));
    Counter::new(seed.clone(), Tally::new(Capacity::TALLY, roll_up))
}

fn publish(patterns: &[&str]) -> Operation {
    let seed = Seed::new();
    let mut counter = counter(&seed, patterns);
    let publisher = Some(seed.publisher("phone-7f3a"));
    let published = Published { bytes: 64, deliveries: 1, publisher, arrival: Arrival::First };
    let topics: Vec<String> = (0..OPERATIONS).filter_map(|number| Some(topics::topic(u32::try_from(number).ok()?))).collect();
    Box::new(move |turn| {
        counter.published(TopicName::new(black_box(&topics[turn])).expect("a topic name"), black_box(&published));
    })
}

fn delivery() -> Operation {
    let seed = Seed::new();
    let mut counter = counter(&seed, &[]);
    let topic = TopicName::new("site/berlin/device/00001/telemetry").expect("a topic name");
    counter.published(topic, &Published { bytes: 64, deliveries: 1, publisher: None, arrival: Arrival::First });
    Box::new(move |_| counter.delivered(black_box(topic), 1))
}
