//! A shard with clients, and the turns of an event loop.
//!
//! Permissions are a call that says yes; nothing of it is random.

use std::io::IoSlice;
use std::time::Duration;

use midge_core::time::Now;
use midge_engine::exchange::Place;
use midge_engine::hash::HashKey;
use midge_engine::limits::Settings;
use midge_engine::permission::{AllowAll, Turn};
use midge_engine::shard::{Connecting, ConnectionId, Shard};
use midge_mqtt::{
    Connect, Decoded, Delivery, Packet, PacketId, Peer, Properties, ProtocolVersion, Puback, Publish, QoS, Rules, Subscribe,
    Subscription, Subscriptions, decode,
};

const NOW: Now = Now { monotonic: Duration::from_secs(1000), unix: 1_700_000_000 };
const TURN: Turn<'_> = Turn { now: NOW, permissions: &AllowAll };

/// A shard with clients, and the bytes that they send.
pub(crate) struct Rig {
    shard: Shard,
    version: ProtocolVersion,
    /// Which of the clients sends which bytes in a round.
    publishes: Vec<(ConnectionId, Vec<u8>)>,
    /// Which of them acknowledge a message in a round.
    receivers: Vec<ConnectionId>,
    acknowledge: bool,
    next_id: PacketId,
}

impl Rig {
    /// `publishers` times `subscribers` clients, all of a group on one topic: its own for each publisher, or one for all.
    pub(crate) fn new(version: ProtocolVersion, qos: QoS, pairs: usize, publishers: usize, subscribers: usize) -> Self {
        let mut shard = Shard::new(Place { event_loop: 0, loops: 1 }, Settings::default(), HashKey::new([1, 2]));
        shard.join(vec![shard.summary()]);
        let mut rig = Self {
            shard,
            version,
            publishes: Vec::new(),
            receivers: Vec::new(),
            acknowledge: qos > QoS::AtMostOnce,
            next_id: PacketId::MIN,
        };
        for pair in 0..pairs {
            let topic = format!("bench/pair-{pair:03}/device/temperature");
            for number in 0..subscribers {
                let receiver = rig.connect(&format!("s-{pair}-{number}"));
                let subscriptions = [Subscription::new(&topic, qos)];
                let subscriptions = Subscriptions::new(&subscriptions);
                rig.send(receiver, &Subscribe { packet_id: PacketId::MIN, properties: Properties::NONE, subscriptions }.into());
                rig.receivers.push(receiver);
            }
            for number in 0..publishers {
                let publisher = rig.connect(&format!("p-{pair}-{number}"));
                let delivery = if qos == QoS::AtMostOnce { Delivery::AtMostOnce } else { Delivery::AtLeastOnce(PacketId::MIN) };
                let properties = Properties::NONE;
                let publish = Publish { dup: false, delivery, retain: false, topic: &topic, properties, payload: &[b'x'; 64] };
                let mut bytes = Vec::new();
                publish.encode(version, &mut bytes).expect("a packet");
                rig.publishes.push((publisher, bytes));
            }
        }
        rig.write();
        rig
    }

    fn connect(&mut self, client_id: &str) -> ConnectionId {
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: true,
            keep_alive: 60,
            properties: Properties::NONE,
            client_id,
            will: None,
            username: None,
            password: None,
        };
        let connecting = Connecting { connect: &connect, client_id, username: None, properties: &[] };
        self.shard.connect(&connecting, &TURN).expect("everybody is let in")
    }

    fn send(&mut self, from: ConnectionId, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).expect("a packet");
        take(&mut self.shard, self.version, from, &bytes);
    }

    /// Has everybody publish, and everybody take it, once.
    pub(crate) fn round(&mut self, in_flight: usize) {
        for _ in 0..in_flight {
            for (publisher, bytes) in &self.publishes {
                take(&mut self.shard, self.version, *publisher, bytes);
            }
        }
        self.write();
        if !self.acknowledge {
            return;
        }
        let mut bytes = Vec::with_capacity(4);
        for _ in 0..in_flight {
            bytes.clear();
            Puback::success(self.next_id).encode(self.version, &mut bytes).expect("a packet");
            for receiver in &self.receivers {
                take(&mut self.shard, self.version, *receiver, &bytes);
            }
            self.next_id = self.next_id.next();
        }
        self.write();
    }

    fn write(&mut self) {
        self.shard.advance(&TURN);
        while let Some(connection) = self.shard.next_ready() {
            let mut slices = [IoSlice::new(&[]); 16];
            let used = self.shard.slices(connection, &mut slices);
            let bytes = slices[..used].iter().map(|slice| slice.len()).sum();
            self.shard.wrote(connection, bytes, &TURN);
        }
    }
}

fn take(shard: &mut Shard, version: ProtocolVersion, from: ConnectionId, bytes: &[u8]) {
    let rules = Rules::new(Peer::Client(version));
    let Ok(Decoded::Packet(packet, _)) = decode(&rules, bytes) else { panic!("not a packet") };
    if shard.wants_input(from) {
        shard.packet(from, &packet, &TURN);
    }
}
