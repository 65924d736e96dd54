//! What retained messages cost, a million of them.
//!
//! Each operation and each step of a query is timed alone; the table gives percentiles.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group};
use midge_core::topic::{TopicFilter, TopicName};
use midge_engine::retained::{Bounds, Cursor, Message, Progress, Retained};

#[path = "load/topics.rs"]
#[expect(dead_code, reason = "filters are for the subscription tree")]
mod topics;

const MILLION: u32 = 1_000_000;

fn scattered(number: u32) -> u32 {
    u32::try_from(u64::from(number) * 7_368_787 % u64::from(MILLION)).unwrap_or(0)
}

fn report(name: &str, mut times: Vec<Duration>, found: usize) {
    let total: Duration = times.iter().sum();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000].as_nanos();
    let (p50, p99, max) = (at(500), at(990), at(1000));
    println!("{name:<46} {:>8} times p50 {p50:>8} p99 {p99:>8} max {max:>9} ns, {found} found in {total:?}", times.len());
}

fn time(call: impl FnOnce()) -> Duration {
    let start = Instant::now();
    call();
    start.elapsed()
}

fn filled() -> Retained<u64> {
    let mut retained = Retained::new(Bounds { messages: usize::MAX, bytes: usize::MAX });
    let names: Vec<String> = (0..MILLION).map(|number| topics::topic(scattered(number))).collect();
    let set = |name: &String| {
        let name = TopicName::new(name).expect("a topic name");
        time(|| drop(retained.set(name, Message { value: 1, bytes: 64, expires: None }, Duration::ZERO)))
    };
    report("set, up to a million", names.iter().map(set).collect(), 0);
    retained
}

fn figures() {
    let mut retained = filled();
    let names: Vec<String> = (0..200_000).map(|number| topics::topic(scattered(number * 3))).collect();
    let find = |name: &String| {
        let name = TopicName::new(name).expect("a topic name");
        time(|| {
            black_box(retained.find(name, Duration::ZERO));
        })
    };
    report("find", names.iter().map(find).collect(), 0);
    for filter in [
        "#",
        "org-7/#",
        "org-7/+/device-0000107/+",
        "+/+/device-0500010/+",
        "+/site-9/+/temp",
        "v1/+/+/floor-3/+/alarm",
        "+/+/+/+/+/nothing",
    ] {
        query(&retained, filter);
    }
    let clear = |name: &String| {
        let name = TopicName::new(name).expect("a topic name");
        time(|| {
            black_box(retained.clear(name, Duration::ZERO));
        })
    };
    report("clear", names.iter().map(clear).collect(), 0);
}

fn query(retained: &Retained<u64>, filter: &str) {
    let mut found = 0;
    let mut first = None;
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut cursor = Cursor::new(TopicFilter::new(filter).expect("a filter"));
    loop {
        let mut progress = Progress::Done;
        times.push(time(|| {
            progress = cursor.next_batch(retained, 1000, Duration::ZERO, |_, message| {
                first.get_or_insert_with(|| begin.elapsed());
                found += usize::from(message.value > 0);
            });
        }));
        if progress == Progress::Done {
            break;
        }
    }
    println!("{filter}: first message after {first:?}");
    report("  steps of 1,000 topics", times, found);
}

fn means(criterion: &mut Criterion) {
    let retained = filled();
    criterion.bench_function("first 100 of #", |bencher| {
        let filter = TopicFilter::new("#").expect("a filter");
        bencher.iter(|| {
            Cursor::new(filter).next_batch(&retained, 100, Duration::ZERO, |_, message| {
                black_box(message);
            })
        });
    });
}

criterion_group!(benches, means);

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    figures();
    benches();
}
