//! Promise: messages of QoS 0 to connected clients allocate nothing.
//!
//! In the steady state, when buffers have gone round once; a message too long to be copied to each client is stored once for all.

use std::io::IoSlice;
use std::num::NonZeroU16;
use std::time::Duration;

use allocation_counter::measure;
use midge_core::time::Now;
use midge_engine::exchange::Place;
use midge_engine::hash::HashKey;
use midge_engine::limits::Settings;
use midge_engine::permission::{AllowAll, Turn};
use midge_engine::shard::{Connecting, ConnectionId, Shard};
use midge_mqtt::{
    Connect, Decoded, Delivery, Packet, PacketId, Peer, Properties, Property, ProtocolVersion, Publish, QoS, Rules, Subscribe,
    Subscription, SubscriptionId, Subscriptions, decode,
};

const NOW: Now = Now { monotonic: Duration::from_secs(1000), unix: 1_700_000_000 };
const TURN: Turn<'_> = Turn { now: NOW, permissions: &AllowAll };

fn connect(shard: &mut Shard, client_id: &str, version: ProtocolVersion, aliases: u16) -> ConnectionId {
    let properties = [Property::TopicAliasMaximum(aliases)];
    let properties = Properties::new(if version == ProtocolVersion::V5 { &properties } else { &[] });
    let (will, username, password) = (None, None, None);
    let connect =
        Connect { version, bridge: false, clean_start: true, keep_alive: 60, properties, client_id, will, username, password };
    shard.connect(&Connecting { connect: &connect, client_id, username: None, properties: &[] }, &TURN).expect("let in")
}

fn send(shard: &mut Shard, from: ConnectionId, version: ProtocolVersion, bytes: &[u8]) {
    let Ok(Decoded::Packet(packet, _)) = decode(&Rules::new(Peer::Client(version)), bytes) else { panic!("not a packet") };
    shard.packet(from, &packet, &TURN);
}

fn encoded(version: ProtocolVersion, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("a packet of that version");
    bytes
}

/// Does what the end of a turn does; returns how many connections had something to say.
fn turn_ends(shard: &mut Shard) -> usize {
    shard.advance(&TURN);
    let mut written = 0;
    while let Some(connection) = shard.next_ready() {
        let mut slices = [IoSlice::new(&[]); 16];
        let used = shard.slices(connection, &mut slices);
        let bytes = slices[..used].iter().map(|slice| slice.len()).sum();
        assert_eq!(shard.wrote(connection, bytes, &TURN), 0);
        written += 1;
    }
    written
}

/// Subscribers of all kinds: both versions, with aliases and without, with wildcards, overlaps and identifiers.
fn crowd(shard: &mut Shard) -> usize {
    let mut count = 0;
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for (number, aliases) in [0, 0, 4, 0].into_iter().enumerate() {
            let id = connect(shard, &format!("{version:?}-{number}"), version, aliases);
            let identifier = [Property::SubscriptionIdentifier(SubscriptionId::new(7).expect("in range"))];
            let with_identifier = version == ProtocolVersion::V5 && number == 3;
            let list = [Subscription::new("a/b/c", QoS::AtMostOnce), Subscription::new("a/+/c", QoS::AtLeastOnce)];
            let subscribe = Subscribe {
                packet_id: PacketId::MIN,
                properties: Properties::new(if with_identifier { &identifier } else { &[] }),
                subscriptions: Subscriptions::new(if number == 0 { &list[..1] } else { &list }),
            };
            send(shard, id, version, &encoded(version, &subscribe.into()));
            count += 1;
        }
    }
    count
}

#[test]
fn qos_0_allocates_nothing() {
    let alias = [Property::TopicAlias(NonZeroU16::MIN), Property::UserProperty("k", "v")];
    let publish = |topic, payload, properties| -> Packet<'_> {
        Publish { dup: false, delivery: Delivery::AtMostOnce, retain: false, topic, properties, payload }.into()
    };
    let (short, long) = ([b'x'; 64], vec![b'x'; 20_000]);
    let (v4, v5) = (ProtocolVersion::V311, ProtocolVersion::V5);
    // Version of the publisher, what it sends, whether anybody hears it, and how often a message of it may allocate.
    let cases = [
        (v4, encoded(v4, &publish("a/b/c", &short, Properties::NONE)), true, 0),
        (v5, encoded(v5, &publish("a/b/c", &short, Properties::NONE)), true, 0),
        (v5, encoded(v5, &publish("", &short, Properties::new(&alias))), true, 0),
        (v4, encoded(v4, &publish("nobody/listens", &short, Properties::NONE)), false, 0),
        // Content and counter of the one stored copy.
        (v4, encoded(v4, &publish("a/b/c", &long, Properties::NONE)), true, 2),
    ];
    for (version, bytes, heard, each) in cases {
        let mut shard = Shard::new(Place { event_loop: 0, loops: 1 }, Settings::default(), HashKey::new([1, 2]));
        shard.join(vec![shard.summary()]);
        let receivers = crowd(&mut shard);
        let publisher = connect(&mut shard, "p", version, 0);
        if version == v5 {
            send(&mut shard, publisher, v5, &encoded(v5, &publish("a/b/c", &short, Properties::new(&alias))));
        }
        turn_ends(&mut shard);
        let mut round = |turns: usize| {
            for _ in 0..turns {
                (0..4).for_each(|_| send(&mut shard, publisher, version, &bytes));
                let written = turn_ends(&mut shard);
                assert_eq!(written, if heard { receivers } else { 0 });
            }
        };
        round(20);
        let info = measure(|| round(100));
        assert_eq!(info.count_total, 400 * each, "{bytes:?}");
        assert_eq!(info.bytes_current, 0);
    }
}
