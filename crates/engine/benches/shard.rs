//! What a delivery costs the engine, without system calls.
//!
//! A turn is what the event loop does with a shard: decode what was read, give it in, look at what is to be written, say that it was.
//! Payloads have 64 bytes, permissions are a call that says yes; figures are for each delivery.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use midge_mqtt::{ProtocolVersion, QoS};

use rig::Rig;

#[path = "load/rig.rs"]
mod rig;

fn deliveries(criterion: &mut Criterion) {
    let (v4, v5) = (ProtocolVersion::V311, ProtocolVersion::V5);
    let (zero, one) = (QoS::AtMostOnce, QoS::AtLeastOnce);
    // Name, version, QoS, pairs, publishers and subscribers of each, in flight.
    let scenarios = [
        ("fan-out 1 to 500, QoS 0, 1 in flight", v4, zero, (1, 1, 500), 1),
        ("fan-out 1 to 500, QoS 0, 20 in flight", v4, zero, (1, 1, 500), 20),
        ("fan-out 1 to 500, QoS 0, 20 in flight, 5.0", v5, zero, (1, 1, 500), 20),
        ("fan-out 1 to 10,000, QoS 0, 1 in flight", v4, zero, (1, 1, 10_000), 1),
        ("fan-out 1 to 500, QoS 1, 1 in flight", v4, one, (1, 1, 500), 1),
        ("fan-out 1 to 500, QoS 1, 20 in flight", v4, one, (1, 1, 500), 20),
        ("100 pairs, QoS 0, 10 in flight", v4, zero, (100, 1, 1), 10),
        ("100 pairs, QoS 0, 10 in flight, 5.0", v5, zero, (100, 1, 1), 10),
        ("100 pairs, QoS 1, 10 in flight", v4, one, (100, 1, 1), 10),
        ("fan-in 200 to 1, QoS 0, 4 in flight", v4, zero, (1, 200, 1), 4),
    ];
    let mut group = criterion.benchmark_group("per delivery");
    for (name, version, qos, (pairs, publishers, subscribers), in_flight) in scenarios {
        let mut rig = Rig::new(version, qos, pairs, publishers, subscribers);
        group.throughput(Throughput::Elements((pairs * publishers * subscribers * in_flight) as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| bencher.iter(|| rig.round(in_flight)));
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30)
}

criterion_group! { name = benches; config = quick(); targets = deliveries }
criterion_main!(benches);
