//! The sessions and connections of one event loop.
//!
//! A pure state machine: packets, time and answers go in, bytes, records and messages to other loops come out.
//! Nothing is written, read or waited for here, and nothing happens but in a call.
//! What each call costs is bounded by what it was given and by [`Settings`]; what takes longer (retained messages for a wildcard, a push to many) goes on in [`Shard::advance`].

mod acknowledge;
mod commit;
mod connect;
mod deliver;
mod end;
mod exchange;
mod publish;
mod pump;
mod push;
mod restore;
mod retain;
mod route;
mod subscribe;
mod time;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use midge_mqtt::{DecodeError, EncodeError, Packet, ReasonCode, SubscriptionId};

use crate::exchange::{Kept, Place, Reach, Stamps, ToLoop};
use crate::frame::Forms;
use crate::hash::HashKey;
use crate::limits::{Counters, Settings};
use crate::memory::{Budget, Memory};
use crate::message::Message;
use crate::permission::{Client, Turn};
use crate::record::Record;
use crate::retained::Retained;
use crate::session::connection::Connection;
use crate::session::{NONE, Session};
use crate::slab::Slab;
use crate::table::IdTable;
use crate::timers::Wheel;
use crate::tree::{Matches, SubscriberId, Subscription, SubscriptionTree, Summary};
use commit::{Emitter, Tickets};
use time::Timer;
use write::{Spare, list};

pub use connect::Connecting;
pub use publish::Published;
pub(crate) use publish::Wait;

/// A connection of one loop; never the same twice until four billion later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    slot: u32,
    generation: u32,
}

impl ConnectionId {
    /// Returns a small number that no other connection of the loop has at the same time: to index a table by.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// A session of one loop, as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(u32);

impl SessionId {
    /// Returns a small number that no other session of the loop has at the same time: to index a table by.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.0 as usize
    }
}

/// What the caller has to know beside bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The connection is to be closed once its bytes are written; [`Shard::closed`] is to be called then.
    Close {
        /// Which connection.
        connection: ConnectionId,
        /// Why; `None` where the client said goodbye.
        reason: Option<ReasonCode>,
    },
    /// The session is over, and its id will be used again.
    SessionEnded {
        /// Which session.
        session: SessionId,
        /// Whose it was.
        client_id: Box<str>,
    },
    /// A push reached whom it could, and all it caused is committed.
    Pushed {
        /// What [`Shard::push`] was told to call it.
        token: u64,
        /// Whom it reached, on all loops.
        reach: Reach,
    },
}

/// One event loop's connections and sessions.
#[derive(Debug)]
pub struct Shard {
    place: Place,
    settings: Settings,
    key: HashKey,
    tree: SubscriptionTree,
    /// The summaries of all loops; its own is not asked.
    summaries: Vec<Arc<Summary>>,
    retained: Retained<Kept>,
    stamps: Stamps,
    sessions: Slab<Session>,
    names: IdTable,
    connections: Slab<Connection>,
    generation: u32,
    timers: Wheel<Timer>,
    emitter: Emitter,
    tickets: Tickets,
    outboxes: Vec<Vec<ToLoop>>,
    /// Connections that have something to be written.
    ready: VecDeque<u32>,
    /// Connections whose sessions get retained messages.
    walking: VecDeque<u32>,
    events: VecDeque<Event>,
    /// Sessions that are over, and have subscriptions left to be removed.
    ending: VecDeque<u32>,
    /// Pushes that are being handed round.
    pushing: push::Pushing,
    /// Messages of sessions that ended before a restart.
    leftovers: Vec<restore::Leftover>,
    counters: Counters,
    work: u64,
    memory: Memory,
    spare: Spare,
    scratch: Scratch,
}

/// Memory that one call uses and the next uses again.
#[derive(Debug, Default)]
struct Scratch {
    matches: Matches,
    picks: Vec<(Subscription, Arc<str>)>,
    forms: Option<Box<Forms>>,
    identifiers: Vec<SubscriptionId>,
    properties: Vec<u8>,
    topic: String,
    found: Vec<Arc<Message>>,
    fired: Vec<Timer>,
}

impl Shard {
    /// Returns an empty shard; all loops of a server share one `key` and the same settings.
    #[must_use]
    pub fn new(place: Place, settings: Settings, key: HashKey) -> Self {
        let tree = SubscriptionTree::new(key.clone());
        Self {
            summaries: Vec::new(),
            retained: Retained::new(settings.retained),
            stamps: Stamps::new(place.event_loop),
            sessions: Slab::default(),
            names: IdTable::default(),
            connections: Slab::default(),
            generation: 0,
            timers: Wheel::default(),
            emitter: Emitter::new(settings.persistence, place.event_loop),
            tickets: Tickets::default(),
            outboxes: (0..place.loops.max(1)).map(|_| Vec::new()).collect(),
            ready: VecDeque::new(),
            walking: VecDeque::new(),
            events: VecDeque::new(),
            ending: VecDeque::new(),
            pushing: push::Pushing::default(),
            leftovers: Vec::new(),
            counters: Counters::default(),
            work: 0,
            memory: Memory::new(Arc::new(Budget::new(settings.memory_max, place.loops)), place.event_loop),
            spare: Spare::default(),
            scratch: Scratch::default(),
            place,
            settings,
            key,
            tree,
        }
    }

    /// Returns what the other loops have to know of this one.
    #[must_use]
    pub fn summary(&self) -> Arc<Summary> {
        self.tree.summary()
    }

    /// Introduces all loops, in the order of their numbers, this one among them; once, before anything else.
    pub fn join(&mut self, summaries: Vec<Arc<Summary>>) {
        self.summaries = summaries;
    }

    /// Has all loops of a server share one budget of memory; once, before anything else.
    pub fn share_memory(&mut self, budget: Arc<Budget>) {
        self.memory = Memory::new(budget, self.place.event_loop);
    }

    /// Takes a packet from a connection; one that is closing is not listened to any more.
    pub fn packet(&mut self, connection: ConnectionId, packet: &Packet<'_>, turn: &Turn<'_>) {
        let Some(open) = self.open(connection) else { return };
        open.heard = time::millis(turn.monotonic());
        let slot = connection.slot;
        let result = match packet {
            Packet::Publish(publish) => self.incoming_publish(slot, publish, turn),
            Packet::Puback(puback) => self.incoming_puback(slot, puback, turn),
            Packet::Pubrec(pubrec) => self.incoming_pubrec(slot, pubrec, turn),
            Packet::Pubrel(pubrel) => self.incoming_pubrel(slot, pubrel),
            Packet::Pubcomp(pubcomp) => self.incoming_pubcomp(slot, pubcomp, turn),
            Packet::Subscribe(subscribe) => self.incoming_subscribe(slot, subscribe, turn),
            Packet::Unsubscribe(unsubscribe) => self.incoming_unsubscribe(slot, unsubscribe),
            Packet::Pingreq => {
                self.incoming_pingreq(slot);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.incoming_disconnect(slot, disconnect, turn),
            _ => Err(ReasonCode::ProtocolError),
        };
        if let Err(reason) = result {
            self.close(slot, Some(reason), turn);
        }
    }

    /// Closes a connection that sent what is no packet, saying why where the version can [MQTT-4.13.1-1].
    pub fn malformed(&mut self, connection: ConnectionId, error: &DecodeError, turn: &Turn<'_>) {
        self.disconnect(connection, error.reason_code(), turn);
    }

    /// Closes a connection for a reason of the server's own.
    pub fn disconnect(&mut self, connection: ConnectionId, reason: ReasonCode, turn: &Turn<'_>) {
        if self.open(connection).is_some() {
            self.close(connection.slot, Some(reason), turn);
        }
    }

    /// Ends a session, with its connection if it has one: the client is not to find anything when it comes back.
    pub fn end(&mut self, session: SessionId, reason: ReasonCode, turn: &Turn<'_>) {
        let Some(known) = self.sessions.get_mut(session.0) else { return };
        let connection = known.connection;
        known.expiry = 0;
        if connection == NONE {
            self.end_session(session.0, turn);
        } else {
            self.close(connection, Some(reason), turn);
        }
    }

    /// Learns that a connection is closed, whoever closed it; its id means nothing from now on.
    pub fn closed(&mut self, connection: ConnectionId, turn: &Turn<'_>) {
        let slot = connection.slot;
        let Some(known) = self.connections.get_mut(slot).filter(|known| known.generation == connection.generation) else { return };
        let session = std::mem::replace(&mut known.session, NONE);
        if let Some(closed) = self.connections.remove(slot) {
            closed.outgoing.into_iter().for_each(|outgoing| self.put_aside(outgoing));
        }
        if session != NONE {
            self.detach(session, false, turn);
        }
    }

    /// Sends a packet that the engine knows nothing of, such as AUTH.
    ///
    /// # Errors
    /// The version of the connection can't say it; nothing is sent.
    pub fn send(&mut self, connection: ConnectionId, packet: &Packet<'_>) -> Result<(), EncodeError> {
        let Some(version) = self.open(connection).map(|open| open.version) else { return Ok(()) };
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes)?;
        self.write_own(connection.slot, |_, out| out.extend_from_slice(&bytes));
        Ok(())
    }

    /// Returns what happened next.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Moves what is to be told to another loop to the end of `batch`.
    pub fn take_outbox(&mut self, event_loop: u8, batch: &mut Vec<ToLoop>) {
        if let Some(outbox) = self.outboxes.get_mut(usize::from(event_loop)) {
            batch.append(outbox);
        }
    }

    /// Moves the records since the last call to the end of `batch` and returns the number of the last one ever emitted.
    pub fn take_records(&mut self, batch: &mut Vec<Record>) -> u64 {
        self.emitter.take(batch)
    }

    /// Returns what there is now and what has happened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let (tree, retained) = (self.tree.counters(), self.retained.counters());
        Counters {
            sessions: self.sessions.len(),
            subscriptions: tree.subscriptions,
            shared_subscriptions: tree.groups,
            retained_messages: retained.messages,
            retained_bytes: retained.bytes,
            ..self.counters
        }
    }

    /// Returns how much work messages have made so far, about a unit for each 50 ns; differences count.
    ///
    /// What a packet costs depends on what others subscribe to: who has caused much of it lets others come first.
    #[inline]
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work + self.tree.work()
    }

    /// Returns the session of a client identifier, if there is one.
    #[must_use]
    pub fn session(&self, client_id: &str) -> Option<SessionId> {
        self.find_session(client_id).map(SessionId)
    }

    /// Returns the connection of a session, if its client is connected.
    #[must_use]
    pub fn connection(&self, session: SessionId) -> Option<ConnectionId> {
        let slot = self.sessions.get(session.0)?.connection;
        self.connections.get(slot).map(|connection| ConnectionId { slot, generation: connection.generation })
    }

    fn open(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot).filter(|known| known.generation == id.generation && known.session != NONE)
    }

    fn find_session(&self, client_id: &str) -> Option<u32> {
        self.names
            .find(self.key.text(client_id), |slot| self.sessions.get(slot).is_some_and(|known| *known.client_id == *client_id))
    }

    fn subscriber(&self, session: u32) -> SubscriberId {
        SubscriberId::new(self.place.event_loop, session).expect("no more sessions are let in than slots have numbers")
    }

    /// Returns the session of an open connection.
    fn session_of(&self, connection: u32) -> u32 {
        self.connections.get(connection).map_or(NONE, |known| known.session)
    }

    fn client(&self, session: u32) -> Option<Client<'_>> {
        client(&self.sessions, &self.connections, session)
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }
}

/// Returns whom to ask about.
fn client<'a>(sessions: &'a Slab<Session>, connections: &Slab<Connection>, slot: u32) -> Option<Client<'a>> {
    let session = sessions.get(slot)?;
    let connection = connections.get(session.connection);
    Some(Client {
        session: SessionId(slot),
        connection: connection.map(|known| ConnectionId { slot: session.connection, generation: known.generation }),
        client_id: &session.client_id,
        username: session.username.as_deref(),
    })
}

/// Returns the time as it is kept in connections.
fn deadline(at: Duration, seconds: u32) -> Duration {
    at + Duration::from_secs(u64::from(seconds))
}
