//! What the codec costs per packet on the broker's hot path.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use midge_mqtt::{
    Delivery, PacketId, Peer, Properties, Property, ProtocolVersion, Puback, Publish, PublishHeader, PublishLayout, Rules,
    SharedTail, SubscriptionId, decode, vectors,
};

const TOPIC: &str = "sensors/building-7/floor-3/temp";
const PAYLOAD: [u8; 64] = [0x5A; 64];

fn publish(delivery: Delivery, properties: Properties<'_>) -> Publish<'_> {
    Publish { dup: false, delivery, retain: false, topic: TOPIC, properties, payload: &PAYLOAD }
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    let mut bench = |name: &str, peer, bytes: Vec<u8>| {
        let rules = Rules::new(peer);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(decode(black_box(&rules), black_box(&bytes))).is_ok());
        });
    };
    let (v4, v5) = (ProtocolVersion::V311, ProtocolVersion::V5);
    let encoded = |version, publish: Publish<'_>| {
        let mut bytes = Vec::new();
        publish.encode(version, &mut bytes).expect("a short message");
        bytes
    };
    let qos0 = publish(Delivery::AtMostOnce, Properties::NONE);
    let qos1 = publish(Delivery::AtLeastOnce(PacketId::MIN), Properties::NONE);
    let list = [
        Property::MessageExpiryInterval(60),
        Property::ContentType("text/plain"),
        Property::UserProperty("trace", "0123456789abcdef"),
    ];
    let with_properties = publish(Delivery::AtMostOnce, Properties::new(&list));
    bench("PUBLISH QoS 0, 64 bytes, 3.1.1", Peer::Client(v4), encoded(v4, qos0));
    bench("PUBLISH QoS 0, 64 bytes, 5.0", Peer::Client(v5), encoded(v5, qos0));
    bench("PUBLISH QoS 1, 64 bytes, 3.1.1", Peer::Client(v4), encoded(v4, qos1));
    bench("PUBLISH QoS 0, 3 properties", Peer::Client(v5), encoded(v5, with_properties));
    let text = |text| vectors::bytes(text).expect("the notation of the table");
    let client_id = "'client-0123456789'";
    let connect = format!("10 {{ 'MQTT' 04 C2 003C {client_id} 'user' 'secret' }}");
    bench("CONNECT with user name, 3.1.1", Peer::NewClient, text(&connect));
    let connect = format!("10 {{ 'MQTT' 05 C2 003C {{ 11 0000003C 21 0014 }} {client_id} 'user' 'secret' }}");
    bench("CONNECT with user name, 5.0", Peer::NewClient, text(&connect));
    let subscribe = "82 { 0001 'sensors/+/floor-3/temp' 01 'sensors/building-7/#' 00 }";
    bench("SUBSCRIBE two topic filters, 3.1.1", Peer::Client(v4), text(subscribe));
    bench("PUBACK, 3.1.1", Peer::Client(v4), text("40 { 1234 }"));
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::with_capacity(4096);
    for (name, version) in [("3.1.1", ProtocolVersion::V311), ("5.0", ProtocolVersion::V5)] {
        let message = publish(Delivery::AtLeastOnce(PacketId::MIN), Properties::NONE);
        group.bench_function(format!("PUBLISH QoS 1, 64 bytes, {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(message).encode(version, &mut out).expect("a short message");
                black_box(&out);
            });
        });
    }
    let list = [Property::SubscriptionIdentifier(SubscriptionId::new(7).expect("in range"))];
    let header = PublishHeader {
        dup: false,
        delivery: Delivery::AtLeastOnce(PacketId::MIN),
        retain: false,
        topic: TOPIC,
        properties: Properties::new(&list),
    };
    let tail = SharedTail { properties_len: 20, payload_len: 64 };
    group.bench_function("header of a PUBLISH for one target, 5.0", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(header).encode(ProtocolVersion::V5, tail, &mut out).expect("short");
            black_box(&out);
        });
    });
    let mut frame = Vec::new();
    publish(Delivery::AtLeastOnce(PacketId::MIN), Properties::NONE)
        .encode(ProtocolVersion::V311, &mut frame)
        .expect("a short message");
    let layout = PublishLayout::of(ProtocolVersion::V311, &frame).expect("a PUBLISH");
    group.bench_function("copy of a frame with another packet identifier", |bencher| {
        bencher.iter(|| {
            out.clear();
            out.extend_from_slice(black_box(&frame));
            layout.set_packet_id(&mut out, black_box(PacketId::MIN));
            black_box(&out);
        });
    });
    group.bench_function("PUBACK", |bencher| {
        bencher.iter(|| {
            out.clear();
            let puback = Puback::success(black_box(PacketId::MIN));
            puback.encode(ProtocolVersion::V5, &mut out).expect("four bytes");
            black_box(&out);
        });
    });
    group.finish();
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
