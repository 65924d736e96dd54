//! Publishes to millions of random topics and shows the memory taken.
//!
//! `cargo run --release -p midge-core --example hot_flood [TOPICS]`: the last column has to stay what it is.

use std::sync::Arc;

use midge_core::hot::{Arrival, Capacity, Counter, Ledger, Published, RollUp, Seed, Tally};
use midge_core::topic::TopicName;

fn main() {
    let topics: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000_000);
    let (seed, roll_up) = (Seed::new(), Arc::new(RollUp::default()));
    let mut counter = Counter::new(seed.clone(), Tally::new(Capacity::TALLY, roll_up.clone()));
    let mut ledger = Ledger::new(seed.clone(), Capacity::BUCKET);
    let mut spare = Some(Tally::new(Capacity::TALLY, roll_up));
    let publish = Published { bytes: 64, deliveries: 1, publisher: Some(seed.publisher("flood")), arrival: Arrival::First };
    println!("{:>10}  {:>8}  {:>12}  {:>12}  {:>9}", "topics", "second", "counter", "ledger", "resident");
    for n in 0..topics {
        let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n >> 7).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let topic = format!("{random:016x}/{:x}", random.rotate_left(17));
        let Ok(topic) = TopicName::new(&topic) else { continue };
        counter.published(topic, &publish);
        if n % 10_000 == 9_999 {
            // A second of time for 10,000 publishes would take a week to come to the last bucket: an hour then.
            let unix = 1_795_449_600 + n / 10_000 * 3_600;
            spare = spare.take().map(|empty| ledger.absorb(counter.swap(empty), unix));
            let parts = ledger.take(unix);
            parts.into_iter().for_each(|part| ledger.give_back(part));
        }
        if n % (topics / 10).max(1) == 0 {
            println!("{n:>10}  {:>8}  {:>12}  {:>12}  {:>6} KB", n / 10_000, counter.bytes(), ledger.bytes(), resident_kb());
        }
    }
    println!("{topics:>10}  {:>8}  {:>12}  {:>12}  {:>6} KB", topics / 10_000, counter.bytes(), ledger.bytes(), resident_kb());
}

/// Returns what the system says this process has in memory; 0 where it doesn't say.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
