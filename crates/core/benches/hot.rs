//! What counting a publish costs, and its second of work.
//!
//! Topics are drawn from lists that don't fit the processor's first cache, as they would come from a socket.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where its input is wrong")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use midge_core::hot::{Arrival, Capacity, Counter, Ledger, Published, RollUp, Seed, Tally};
use midge_core::topic::TopicName;

const NOW: u64 = 1_795_449_605;

/// Returns topics in an order without a pattern that a processor could learn.
fn topics(count: usize) -> Vec<String> {
    (0..65_536_usize).map(|n| format!("site/berlin/device/{:05}/telemetry", n.wrapping_mul(40_503) % 65_536 % count)).collect()
}

fn counter(seed: &Seed, patterns: &[&str]) -> Counter {
    let roll_up = Arc::new(RollUp::new(patterns).unwrap());
    Counter::new(seed.clone(), Tally::new(Capacity::TALLY, roll_up))
}

fn publish(bencher: &mut Criterion) {
    let seed = Seed::new();
    let publisher = Some(seed.publisher("phone-7f3a"));
    let publish = Published { bytes: 64, deliveries: 1, publisher, arrival: Arrival::First };
    let several: Vec<String> = (0..16).map(|n| format!("site/+/kind-{n}/+/telemetry")).collect();
    let several: Vec<&str> = several.iter().map(String::as_str).collect();
    for (name, count, patterns) in [
        ("1 topic", 1, [].as_slice()),
        ("1,000 topics", 1_000, &[]),
        ("4,000 topics", 4_000, &[]),
        ("65,536 topics, most of them lost again", 65_536, &[]),
        ("1,000 topics, 16 patterns that don't match", 1_000, &several),
        ("1,000 topics under one pattern", 1_000, &["site/+/device/+/telemetry"]),
    ] {
        let topics = topics(count);
        let mut counter = counter(&seed, patterns);
        let mut at = 0;
        bencher.bench_function(&format!("publish/{name}"), |b| {
            b.iter(|| {
                at = (at + 1) % topics.len();
                counter.published(black_box(TopicName::new(&topics[at]).unwrap()), &publish);
            });
        });
    }
    let mut counter = counter(&seed, &[]);
    let topic = TopicName::new("site/berlin/device/00001/telemetry").unwrap();
    counter.published(topic, &publish);
    bencher.bench_function("one more delivery", |b| b.iter(|| counter.delivered(black_box(topic), 1)));
    bencher.bench_function("a publisher's mark", |b| b.iter(|| seed.publisher(black_box("phone-7f3a"))));
}

fn worker(bencher: &mut Criterion) {
    let seed = Seed::new();
    let publish = Published { bytes: 64, deliveries: 1, publisher: None, arrival: Arrival::First };
    let names = topics(4_000);
    let mut ledger = Ledger::new(seed.clone(), Capacity::BUCKET);
    bencher.bench_function("absorb a tally of 4,000 topics", |b| {
        b.iter_custom(|times| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..times {
                let mut counter = counter(&seed, &[]);
                names.iter().for_each(|name| counter.published(TopicName::new(name).unwrap(), &publish));
                let tally = counter.swap(Tally::new(Capacity::TALLY, Arc::default()));
                let start = Instant::now();
                black_box(ledger.absorb(tally, NOW));
                spent += start.elapsed();
            }
            spent
        });
    });
}

criterion_group!(benches, publish, worker);
criterion_main!(benches);
