//! Decoding allocates nothing, not even for an error.

// A test may stop at the first surprise, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use midge_mqtt::{Packet, decode, vectors};

/// Reads everything in a packet that is read only when it is asked for.
fn read_lists(packet: &Packet<'_>) -> usize {
    match packet {
        Packet::Connect(connect) => {
            connect.properties.iter().count() + connect.will.map_or(0, |will| will.properties.iter().count())
        }
        Packet::Connack(connack) => connack.properties.iter().count(),
        Packet::Publish(publish) => {
            publish.properties.user_properties().count() + publish.properties.subscription_identifiers().count()
        }
        Packet::Subscribe(subscribe) => subscribe.subscriptions.iter().count(),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.iter().count(),
        Packet::Suback(suback) => suback.reason_codes.iter().count(),
        Packet::Unsuback(unsuback) => unsuback.reason_codes.iter().count(),
        _ => 0,
    }
}

#[test]
fn decoding_allocates_nothing() {
    for vector in vectors::all() {
        let rules = vector.rules();
        let info = allocation_counter::measure(|| {
            let decoded = black_box(decode(&rules, black_box(&vector.bytes)));
            if let Ok(midge_mqtt::Decoded::Packet(packet, _)) = &decoded {
                black_box(read_lists(packet));
            }
        });
        assert_eq!(info.count_total, 0, "{} ({})", vector.origin, vector.note);
    }
}

#[test]
fn encoding_allocates_once() {
    for vector in vectors::all().iter().filter(|vector| vector.is_valid()) {
        let packet = midge_mqtt::decode_frame(&vector.rules(), &vector.bytes).unwrap();
        let info = allocation_counter::measure(|| {
            let mut out = Vec::new();
            packet.encode(vector.version, &mut out).unwrap();
            black_box(out);
        });
        assert_eq!(info.count_total, 1, "{} ({})", vector.origin, vector.note);
    }
}
