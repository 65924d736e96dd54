//! Packets to bytes and back, as the broker meets them most.

use std::hint::black_box;

use midge_mqtt::{
    Delivery, PacketId, Peer, Properties, Property, ProtocolVersion, Puback, Publish, PublishHeader, PublishLayout, Rules,
    SharedTail, SubscriptionId, decode,
};

use super::{Operation, Path};

pub(super) const PATHS: &[Path] = &[
    ("decode PUBLISH, QoS 0, 3.1.1", || decoding(ProtocolVersion::V311, Delivery::AtMostOnce)),
    ("decode PUBLISH, QoS 0, 5.0", || decoding(ProtocolVersion::V5, Delivery::AtMostOnce)),
    ("decode PUBLISH, QoS 1, 3.1.1", || decoding(ProtocolVersion::V311, Delivery::AtLeastOnce(PacketId::MIN))),
    ("decode PUBLISH, QoS 1, 5.0", || decoding(ProtocolVersion::V5, Delivery::AtLeastOnce(PacketId::MIN))),
    ("encode the header of a PUBLISH for one target, 5.0", header),
    ("copy a frame with another packet identifier", copy),
    ("encode PUBACK, 5.0", puback),
];

const TOPIC: &str = "sensors/building-7/floor-3/temp";

fn publish(delivery: Delivery) -> Publish<'static> {
    Publish { dup: false, delivery, retain: false, topic: TOPIC, properties: Properties::NONE, payload: &[0x5A; 64] }
}

fn frame(version: ProtocolVersion, delivery: Delivery) -> Vec<u8> {
    let mut bytes = Vec::new();
    publish(delivery).encode(version, &mut bytes).expect("a short message");
    bytes
}

fn decoding(version: ProtocolVersion, delivery: Delivery) -> Operation {
    let (rules, bytes) = (Rules::new(Peer::Client(version)), frame(version, delivery));
    Box::new(move |_| assert!(black_box(decode(black_box(&rules), black_box(&bytes))).is_ok()))
}

fn header() -> Operation {
    let list = [Property::SubscriptionIdentifier(SubscriptionId::new(7).expect("in range"))];
    let tail = SharedTail { properties_len: 20, payload_len: 64 };
    let mut out = Vec::with_capacity(4096);
    Box::new(move |_| {
        let delivery = Delivery::AtLeastOnce(PacketId::MIN);
        let header = PublishHeader { dup: false, delivery, retain: false, topic: TOPIC, properties: Properties::new(&list) };
        out.clear();
        black_box(header).encode(ProtocolVersion::V5, black_box(tail), &mut out).expect("short");
        black_box(&out);
    })
}

fn copy() -> Operation {
    let frame = frame(ProtocolVersion::V311, Delivery::AtLeastOnce(PacketId::MIN));
    let layout = PublishLayout::of(ProtocolVersion::V311, &frame).expect("a PUBLISH");
    let mut out = Vec::with_capacity(4096);
    Box::new(move |_| {
        out.clear();
        out.extend_from_slice(black_box(&frame));
        layout.set_packet_id(&mut out, black_box(PacketId::MIN));
        black_box(&out);
    })
}

fn puback() -> Operation {
    let mut out = Vec::with_capacity(4096);
    Box::new(move |_| {
        out.clear();
        Puback::success(black_box(PacketId::MIN)).encode(ProtocolVersion::V5, &mut out).expect("four bytes");
        black_box(&out);
    })
}
