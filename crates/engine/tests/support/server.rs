//! A server in one thread: loops, journals and clients without sockets.
//!
//! Everything happens when a test says so, journals commit and crashes included.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::time::Duration;

use midge_core::name::GroupName;
use midge_core::time::Now;
use midge_core::topic::{TopicFilter, TopicName};
use midge_engine::exchange::{Place, Reach, ToLoop, home_of_client};
use midge_engine::hash::HashKey;
use midge_engine::limits::Settings;
use midge_engine::permission::{Client, Permissions, Turn};
use midge_engine::record::{Record, State};
use midge_engine::shard::{Connecting, ConnectionId, Event, Shard};
use midge_engine::tree::SubscriptionFilter;
use midge_mqtt::{Connect, Decoded, Packet, Peer, ProtocolVersion, ReasonCode, Rules, decode};

/// What clients may not do: `CLIENT LETTER FILTER`, with `*` for all clients; and who is in which group.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    denied: BTreeSet<(String, char, String)>,
    /// Clients and their groups.
    pub(crate) members: BTreeSet<(String, String)>,
    /// Whether it isn't known whose the sessions are.
    pub(crate) unknown: bool,
}

impl Denials {
    pub(crate) fn set(&mut self, client: &str, letter: char, filter: &str, denied: bool) {
        let key = (client.to_owned(), letter, filter.to_owned());
        if denied {
            self.denied.insert(key)
        } else {
            self.denied.remove(&key)
        };
    }

    pub(crate) fn denies(&self, client: &str, letter: char, topic: &str) -> bool {
        self.denied.iter().any(|(who, what, filter)| {
            let filter = TopicFilter::new(filter).expect("a filter");
            (who == client || who == "*")
                && *what == letter
                && TopicName::new(topic).map_or(filter.as_str() == topic, |topic| filter.matches(topic))
        })
    }
}

impl Permissions for Denials {
    fn may_publish(&self, client: &Client<'_>, topic: TopicName<'_>) -> bool {
        !self.denies(client.client_id, 'p', topic.as_str())
    }

    fn may_receive(&self, client: &Client<'_>, topic: TopicName<'_>) -> bool {
        !self.denies(client.client_id, 'r', topic.as_str())
    }

    fn may_subscribe(&self, client: &Client<'_>, filter: SubscriptionFilter<'_>) -> bool {
        !self.denies(client.client_id, 's', filter.filter().as_str())
    }

    fn is_member(&self, client: &Client<'_>, group: &GroupName) -> bool {
        self.members.contains(&(client.client_id.to_owned(), group.as_str().to_owned()))
    }

    fn knows_sessions(&self) -> bool {
        !self.unknown
    }
}

/// A journal that has taken batches, and has some of them on disk.
#[derive(Debug, Default)]
struct Journal {
    committed: u64,
    batches: VecDeque<(u64, Vec<Record>)>,
}

/// One side of a connection without a socket.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) event_loop: usize,
    pub(crate) id: ConnectionId,
    pub(crate) version: ProtocolVersion,
    /// Bytes that the client has not decoded.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes the client still takes; `None` for all.
    pub(crate) room: Option<usize>,
    pub(crate) closed: bool,
}

pub(crate) struct Server {
    pub(crate) shards: Vec<Shard>,
    pub(crate) denials: Denials,
    pub(crate) now: Now,
    /// Whether journals commit at once.
    pub(crate) auto: bool,
    /// Whether nothing happens by itself, mail and writing included.
    pub(crate) manual: bool,
    pub(crate) wires: BTreeMap<String, Wire>,
    /// What became of pushes.
    pub(crate) pushed: BTreeMap<u64, Reach>,
    settings: Settings,
    key: HashKey,
    journals: Vec<Journal>,
    state: State,
    mail: BTreeMap<(usize, usize), VecDeque<ToLoop>>,
}

impl Server {
    pub(crate) fn new(loops: u8, settings: Settings) -> Self {
        let (key, now) = (HashKey::new([3, 4]), Now { monotonic: Duration::from_secs(1000), unix: 1_700_000_000 });
        let mut this = Self {
            shards: Vec::new(),
            denials: Denials::default(),
            now,
            auto: true,
            manual: false,
            wires: BTreeMap::new(),
            pushed: BTreeMap::new(),
            settings,
            key,
            journals: Vec::new(),
            state: State::default(),
            mail: BTreeMap::new(),
        };
        this.start(loops);
        this
    }

    fn start(&mut self, loops: u8) {
        let shard = |event_loop| Shard::new(Place { event_loop, loops }, self.settings.clone(), self.key.clone());
        self.shards = (0..loops).map(shard).collect();
        self.journals = (0..loops).map(|_| Journal::default()).collect();
        let summaries: Vec<_> = self.shards.iter().map(Shard::summary).collect();
        let turn = Turn { now: self.now, permissions: &self.denials };
        for shard in &mut self.shards {
            shard.join(summaries.clone());
            shard.restore(&self.state, &turn);
        }
        let pairs = || (0..usize::from(loops)).flat_map(move |from| (0..usize::from(loops)).map(move |to| (from, to)));
        while pairs().fold(false, |any, (from, to)| self.post(from, to, usize::MAX) || any) {}
        self.settle();
    }

    /// Loses all that is not on disk, and begins again with perhaps another number of loops.
    pub(crate) fn crash(&mut self, loops: u8) {
        self.wires.values_mut().for_each(|wire| wire.closed = true);
        self.mail.clear();
        // A journal that is written anew holds no more than it has to.
        self.state.forget_past(self.now.unix);
        let mut compact = State::default();
        self.state.records().for_each(|record| compact.apply(record));
        let plain = |state: &State| (state.sessions.clone(), state.messages.clone(), state.retained.clone());
        assert_eq!(plain(&compact), plain(&self.state));
        self.start(loops);
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Does something with the loop of a client.
    pub(crate) fn with(&mut self, event_loop: usize, act: impl FnOnce(&mut Shard, &Turn<'_>)) {
        let turn = Turn { now: self.now, permissions: &self.denials };
        act(&mut self.shards[event_loop], &turn);
    }

    pub(crate) fn home(&self, client_id: &str) -> usize {
        home_of_client(&self.key, client_id, u8::try_from(self.shards.len()).expect("few loops")).into()
    }

    pub(crate) fn connect(&mut self, name: &str, connect: &Connect<'_>) -> Result<(), ReasonCode> {
        let client_id = if connect.client_id.is_empty() { "assigned" } else { connect.client_id };
        let event_loop = self.home(client_id);
        let connecting = Connecting { connect, client_id, username: connect.username, properties: &[] };
        let turn = Turn { now: self.now, permissions: &self.denials };
        let id = self.shards[event_loop].connect(&connecting, &turn)?;
        let wire = Wire { event_loop, id, version: connect.version, bytes: Vec::new(), room: None, closed: false };
        self.wires.insert(name.to_owned(), wire);
        self.settle();
        Ok(())
    }

    /// Sends a packet as bytes, so that the shard sees what it would see.
    pub(crate) fn send(&mut self, name: &str, packet: &Packet<'_>) {
        let Some(version) = self.wires.get(name).map(|wire| wire.version) else { return };
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes).expect("a packet of that version");
        self.send_bytes(name, &bytes);
    }

    /// Sends what may be a packet or not.
    pub(crate) fn send_bytes(&mut self, name: &str, bytes: &[u8]) {
        let Some(wire) = self.wires.get(name).filter(|wire| !wire.closed) else { return };
        let (event_loop, id, version) = (wire.event_loop, wire.id, wire.version);
        self.with(event_loop, |shard, turn| match decode(&Rules::new(Peer::Client(version)), bytes) {
            Ok(Decoded::Packet(packet, _)) => shard.packet(id, &packet, turn),
            Ok(Decoded::Incomplete(_)) => unreachable!("the packet is whole"),
            Err(error) => shard.malformed(id, &error, turn),
        });
        self.settle();
    }

    /// The network connection breaks.
    pub(crate) fn lose(&mut self, name: &str) {
        let Some(wire) = self.wires.remove(name).filter(|wire| !wire.closed) else { return };
        self.with(wire.event_loop, |shard, turn| shard.closed(wire.id, turn));
        self.settle();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.settle();
    }

    /// Returns the next packet that a client gets, as `show` makes it.
    pub(crate) fn next_packet<T>(&mut self, name: &str, show: impl FnOnce(&Packet<'_>) -> T) -> Option<T> {
        let wire = self.wires.get_mut(name)?;
        let rules = Rules::new(Peer::Server(wire.version));
        match decode(&rules, &wire.bytes).expect("the server sends packets") {
            Decoded::Packet(packet, length) => {
                let shown = show(&packet);
                wire.bytes.drain(..length);
                Some(shown)
            }
            Decoded::Incomplete(_) => None,
        }
    }

    /// Has everything happen that can: mail, journals, writing, timers.
    pub(crate) fn settle(&mut self) {
        if self.manual {
            return;
        }
        for _ in 0..1000 {
            let mut busy = false;
            for event_loop in 0..self.shards.len() {
                self.with(event_loop, Shard::advance);
                if self.auto {
                    busy |= self.commit(event_loop);
                }
                self.write(event_loop);
                busy |= self.shards[event_loop].next_deadline() == Some(Duration::ZERO);
            }
            let pairs = (0..self.shards.len()).flat_map(|from| (0..self.shards.len()).map(move |to| (from, to)));
            for (from, to) in pairs.collect::<Vec<_>>() {
                busy |= self.post(from, to, usize::MAX);
            }
            if !busy {
                return;
            }
        }
        panic!("the loops never come to rest");
    }

    /// Takes at most `limit` letters from one loop to another; returns whether there were some.
    pub(crate) fn post(&mut self, from: usize, to: usize, limit: usize) -> bool {
        let mut batch = Vec::new();
        self.shards[from].take_outbox(u8::try_from(to).expect("few loops"), &mut batch);
        let mail = self.mail.entry((from, to)).or_default();
        mail.extend(batch);
        let letters: Vec<ToLoop> = mail.drain(..limit.min(mail.len())).collect();
        let any = !letters.is_empty();
        for letter in letters {
            self.with(to, |shard, turn| shard.receive(letter, turn));
        }
        any
    }

    /// Writes what a loop has recorded to disk and says so; returns whether there was something.
    pub(crate) fn commit(&mut self, event_loop: usize) -> bool {
        self.collect(event_loop);
        let journal = &mut self.journals[event_loop];
        let any = !journal.batches.is_empty();
        for (last, batch) in journal.batches.drain(..) {
            batch.into_iter().for_each(|record| self.state.apply(record));
            journal.committed = last;
        }
        let committed = journal.committed;
        self.with(event_loop, |shard, turn| shard.committed(committed, turn));
        any
    }

    /// Has a journal take what a loop has recorded, as one batch.
    pub(crate) fn collect(&mut self, event_loop: usize) {
        let mut batch = Vec::new();
        let last = self.shards[event_loop].take_records(&mut batch);
        if !batch.is_empty() {
            self.journals[event_loop].batches.push_back((last, batch));
        }
    }

    /// Writes the first batch to disk without saying so yet, as a crash may find it.
    pub(crate) fn write_ahead(&mut self, event_loop: usize) {
        self.collect(event_loop);
        let journal = &mut self.journals[event_loop];
        if let Some((last, batch)) = journal.batches.pop_front() {
            batch.into_iter().for_each(|record| self.state.apply(record));
            journal.committed = last;
        }
    }

    /// Writes what connections take, and closes those that are to be closed.
    pub(crate) fn write(&mut self, event_loop: usize) {
        while let Some(id) = self.shards[event_loop].next_ready() {
            self.write_one(event_loop, id);
        }
        while let Some(event) = self.shards[event_loop].next_event() {
            if let Event::Pushed { token, reach } = event {
                assert_eq!(self.pushed.insert(token, reach), None, "a push ends once");
            }
            let Event::Close { connection, .. } = event else { continue };
            self.write_one(event_loop, connection);
            for wire in self.wires.values_mut().filter(|wire| wire.event_loop == event_loop && wire.id == connection) {
                wire.closed = true;
            }
            self.with(event_loop, |shard, turn| shard.closed(connection, turn));
        }
    }

    /// Lets a client read so many bytes more, or all from now on.
    pub(crate) fn read(&mut self, name: &str, room: Option<usize>) {
        let Some(wire) = self.wires.get_mut(name) else { return };
        wire.room = room;
        let (event_loop, id, closed) = (wire.event_loop, wire.id, wire.closed);
        if !closed {
            self.write_one(event_loop, id);
        }
    }

    fn write_one(&mut self, event_loop: usize, id: ConnectionId) {
        let turn = Turn { now: self.now, permissions: &self.denials };
        let shard = &mut self.shards[event_loop];
        let Some(wire) = self.wires.values_mut().find(|wire| wire.event_loop == event_loop && wire.id == id && !wire.closed) else {
            return;
        };
        loop {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = shard.slices(id, &mut slices);
            let mut bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            bytes.truncate(wire.room.unwrap_or(usize::MAX));
            if bytes.is_empty() {
                return;
            }
            wire.room = wire.room.map(|room| room - bytes.len());
            wire.bytes.extend_from_slice(&bytes);
            shard.wrote(id, bytes.len(), &turn);
        }
    }
}
