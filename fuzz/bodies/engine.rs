//! Bytes as conversations with a server of two loops.
//!
//! An input is a row of steps: an operation, and what it takes. Whatever clients send, no loop panics, all come to rest,
//! everything that is written to a client is a packet of its version, and what a crash leaves can be begun with.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use midge_core::time::Now;
use midge_engine::exchange::{Place, ToLoop, home_of_client};
use midge_engine::hash::HashKey;
use midge_engine::limits::Settings;
use midge_engine::permission::{AllowAll, Turn};
use midge_engine::record::State;
use midge_engine::retained::Bounds;
use midge_engine::shard::{Connecting, ConnectionId, Event, Shard};
use midge_mqtt::{Decoded, Packet, Peer, ProtocolVersion, Rules, decode};

const LOOPS: u8 = 2;
const CLIENTS: usize = 4;
/// How often loops may hand work to each other before they have to rest.
const ROUNDS: usize = 1000;

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let mut server = Server::new();
    let mut steps = Steps(input);
    while let Some(operation) = steps.byte() {
        let client = usize::from(operation & 3);
        match operation >> 2 & 7 {
            0..=3 => {
                let bytes = steps.chunk();
                server.feed(client, bytes);
            }
            4 => server.lose(client),
            5 => server.pass(steps.byte().unwrap_or(0)),
            6 => server.wires[client].room = steps.byte().map(usize::from),
            _ => server.crash(),
        }
        server.settle();
    }
}

/// What is left of an input.
struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Takes a packet by its own length where there is one, so that whole packets need no luck.
    fn chunk(&mut self) -> &'a [u8] {
        let wanted = match midge_mqtt::FrameHeader::peek(self.0) {
            Ok(Some(header)) => header.packet_len() as usize,
            _ => 2,
        };
        let (chunk, rest) = self.0.split_at(wanted.min(self.0.len()));
        self.0 = rest;
        chunk
    }
}

/// A client's side of a connection.
#[derive(Default)]
struct Wire {
    open: Option<(usize, ConnectionId, ProtocolVersion)>,
    /// What the client was sent and hasn't decoded.
    bytes: Vec<u8>,
    /// How much more it takes; `None` for all.
    room: Option<usize>,
}

struct Server {
    shards: Vec<Shard>,
    wires: Vec<Wire>,
    mail: Vec<VecDeque<ToLoop>>,
    state: State,
    now: Now,
    key: HashKey,
}

fn settings() -> Settings {
    Settings {
        persistence: true,
        receive_maximum: 4,
        max_inflight: 3,
        topic_alias_maximum: 4,
        max_outgoing_aliases: 2,
        max_subscriptions: 6,
        max_topic_levels: 8,
        max_queued_messages: 5,
        max_queued_bytes: 400,
        max_outgoing_bytes: 600,
        retained: Bounds { messages: 6, bytes: 600 },
        ..Settings::default()
    }
}

impl Server {
    fn new() -> Self {
        let now = Now { monotonic: Duration::from_secs(1000), unix: 1_700_000_000 };
        let wires = (0..CLIENTS).map(|_| Wire::default()).collect();
        let mut this =
            Self { shards: Vec::new(), wires, mail: Vec::new(), state: State::default(), now, key: HashKey::new([3, 4]) };
        this.start();
        this
    }

    fn start(&mut self) {
        self.shards =
            (0..LOOPS).map(|event_loop| Shard::new(Place { event_loop, loops: LOOPS }, settings(), self.key.clone())).collect();
        self.mail = self.shards.iter().map(|_| VecDeque::new()).collect();
        let summaries: Vec<_> = self.shards.iter().map(Shard::summary).collect();
        let turn = Turn { now: self.now, permissions: &AllowAll };
        for shard in &mut self.shards {
            shard.join(summaries.clone());
            shard.restore(&self.state, &turn);
        }
        self.settle();
    }

    fn feed(&mut self, client: usize, bytes: &[u8]) {
        let turn = Turn { now: self.now, permissions: &AllowAll };
        let Some((event_loop, id, version)) = self.wires[client].open else { return self.connect(client, bytes) };
        let shard = &mut self.shards[event_loop];
        // What it isn't to be heard with waits in the socket, here for ever.
        if !shard.wants_input(id) {
            return;
        }
        match decode(&Rules::new(Peer::Client(version)), bytes) {
            Ok(Decoded::Packet(Packet::Auth(_), _) | Decoded::Incomplete(_)) => {}
            Ok(Decoded::Packet(packet, _)) => shard.packet(id, &packet, &turn),
            Err(error) => shard.malformed(id, &error, &turn),
        }
    }

    fn connect(&mut self, client: usize, bytes: &[u8]) {
        let Ok(Decoded::Packet(Packet::Connect(connect), _)) = decode(&Rules::new(Peer::NewClient), bytes) else { return };
        let client_id = if connect.client_id.is_empty() { ["w", "x", "y", "z"][client] } else { connect.client_id };
        let event_loop = usize::from(home_of_client(&self.key, client_id, LOOPS));
        let connecting = Connecting { connect: &connect, client_id, username: connect.username, properties: &[] };
        let turn = Turn { now: self.now, permissions: &AllowAll };
        if let Ok(id) = self.shards[event_loop].connect(&connecting, &turn) {
            self.wires[client] = Wire { open: Some((event_loop, id, connect.version)), ..Wire::default() };
        }
    }

    fn lose(&mut self, client: usize) {
        let Some((event_loop, id, _)) = self.wires[client].open.take() else { return };
        self.shards[event_loop].closed(id, &Turn { now: self.now, permissions: &AllowAll });
    }

    fn pass(&mut self, time: u8) {
        // From milliseconds to weeks, as intervals are.
        self.now = self.now.plus(Duration::from_millis(1 << (time % 32)));
    }

    /// Loses all that is not in the journal, and begins again.
    fn crash(&mut self) {
        self.wires.iter_mut().for_each(|wire| *wire = Wire::default());
        self.state.forget_past(self.now.unix);
        self.start();
    }

    /// Has everything happen that can: mail, journals, writing, timers.
    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let mut busy = false;
            for event_loop in 0..self.shards.len() {
                let turn = Turn { now: self.now, permissions: &AllowAll };
                self.shards[event_loop].advance(&turn);
                let mut records = Vec::new();
                let last = self.shards[event_loop].take_records(&mut records);
                busy |= !records.is_empty();
                records.into_iter().for_each(|record| self.state.apply(record));
                self.shards[event_loop].committed(last, &turn);
                self.write(event_loop);
                busy |= self.shards[event_loop].next_deadline() == Some(Duration::ZERO);
                for other in 0..self.shards.len() {
                    let mut letters = Vec::new();
                    self.shards[event_loop].take_outbox(u8::try_from(other).expect("two loops"), &mut letters);
                    busy |= !letters.is_empty();
                    self.mail[other].extend(letters);
                }
            }
            for (shard, mail) in self.shards.iter_mut().zip(&mut self.mail) {
                let turn = Turn { now: self.now, permissions: &AllowAll };
                mail.drain(..).for_each(|letter| shard.receive(letter, &turn));
            }
            if !busy {
                return;
            }
        }
        panic!("the loops never come to rest");
    }

    fn write(&mut self, event_loop: usize) {
        while let Some(id) = self.shards[event_loop].next_ready() {
            self.write_one(event_loop, id);
        }
        while let Some(event) = self.shards[event_loop].next_event() {
            let Event::Close { connection, .. } = event else { continue };
            self.write_one(event_loop, connection);
            for wire in &mut self.wires {
                wire.open = wire.open.filter(|(place, id, _)| (*place, *id) != (event_loop, connection));
            }
            self.shards[event_loop].closed(connection, &Turn { now: self.now, permissions: &AllowAll });
        }
    }

    fn write_one(&mut self, event_loop: usize, id: ConnectionId) {
        let turn = Turn { now: self.now, permissions: &AllowAll };
        let shard = &mut self.shards[event_loop];
        let open = |wire: &&mut Wire| wire.open.is_some_and(|(place, its, _)| (place, its) == (event_loop, id));
        let Some(wire) = self.wires.iter_mut().find(open) else { return };
        loop {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = shard.slices(id, &mut slices);
            let mut bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            bytes.truncate(wire.room.unwrap_or(usize::MAX));
            if bytes.is_empty() {
                break;
            }
            wire.room = wire.room.map(|room| room - bytes.len());
            shard.wrote(id, bytes.len(), &turn);
            wire.bytes.extend(bytes);
        }
        wire.understand();
    }
}

impl Wire {
    /// Reads what came as the client would.
    fn understand(&mut self) {
        let Some((_, _, version)) = self.open else { return };
        let mut read = 0;
        while let Decoded::Packet(_, length) =
            decode(&Rules::new(Peer::Server(version)), &self.bytes[read..]).expect("a server sends packets")
        {
            read += length;
        }
        self.bytes.drain(..read);
    }
}
